//! Reading tensors from C.

use std::ffi::c_void;

use super::{ZtReader, give, tensor_numbers, with};
use crate::error::{Result, fail};
use crate::ffi::ZtStatus;
use crate::ffi::buffer::{ZtBatch, ZtBuffer};
use crate::ffi::pointer::{array, array_mut};
use crate::reader::Reader;
use crate::room;

/// Check raw data as the reader was opened.
pub const ZT_VERIFY_AS_OPENED: i32 = 0;
/// Check raw data in this call.
pub const ZT_VERIFY_ON: i32 = 1;
/// Do not check raw data in this call.
pub const ZT_VERIFY_OFF: i32 = 2;

/// A component, and memory of the caller that it is to be read into.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ZtTarget {
    /// The number of the tensor.
    pub tensor: usize,
    /// The number of the component.
    pub component: usize,
    /// Where the decoded bytes go.
    pub data: *mut c_void,
    /// Bytes at `data`: exactly the component's decoded length.
    pub len: usize,
}

/// Reports progress: bytes done and bytes to do. Anything but 0 asks the call to stop. It is called on the thread
/// that made the call; it must not unwind or jump out.
pub type ZtProgress = Option<unsafe extern "C" fn(done: u64, total: u64, user: *mut c_void) -> i32>;

fn verify_option(verify: i32) -> Result<Option<bool>> {
    Ok(match verify {
        ZT_VERIFY_AS_OPENED => None,
        ZT_VERIFY_ON => Some(true),
        ZT_VERIFY_OFF => Some(false),
        other => fail!(Argument, "verify is {other}, not one of the three ZT_VERIFY_ numbers"),
    })
}

/// Reads one component of a tensor, decoded.
///
/// Raw data of a mapped file is not copied when it is large: the buffer is a private mapping, whose pages come in when
/// they are touched. Index components of sparse tensors are checked against the shape. `verify` is one of the three
/// ZT_VERIFY_ numbers.
///
/// Ownership: the caller frees `*out_buffer` with zt_buffer_free(), before or after the reader. Its bytes may be
/// written to.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE, ZT_ERR_UNKNOWN_ENCODING; ZT_ERR_CHECKSUM, ZT_ERR_FRAME or
/// ZT_ERR_SPARSE for damage; with verification ZT_ERR_LAYOUT in a file of "zt/2" for a bool that is neither 0 nor 1;
/// ZT_ERR_UNKNOWN_DTYPE for compressed data of an unknown type; ZT_ERR_MEMORY, ZT_ERR_IO, ZT_ERR_TRUNCATED. On error
/// `*out_buffer` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_read(
    reader: *const ZtReader,
    tensor: usize,
    component: usize,
    verify: i32,
    out_buffer: *mut *mut ZtBuffer,
) -> ZtStatus {
    let read = |reader: &Reader| reader.read(tensor, component, verify_option(verify)?).map(ZtBuffer::handle);
    // SAFETY: passed on.
    unsafe { give(reader, out_buffer, "out_buffer", read) }
}

/// Reads `count` elements of a component, decoded, from element `first` on. Only the bytes or chunks that hold them
/// are touched; but with verification, all of a raw component is.
///
/// For rows of a matrix in C order, `first` is the first row times the columns, `count` the rows times the columns.
///
/// Ownership: the caller frees `*out_buffer` with zt_buffer_free(), before or after the reader.
/// Threads: any.
/// Errors: as zt_reader_read(), and ZT_ERR_RANGE if the component has fewer elements, ZT_ERR_UNKNOWN_DTYPE if their
/// size is not known. On error `*out_buffer` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_read_range(
    reader: *const ZtReader,
    tensor: usize,
    component: usize,
    first: u64,
    count: u64,
    verify: i32,
    out_buffer: *mut *mut ZtBuffer,
) -> ZtStatus {
    let read = |reader: &Reader| {
        reader.read_range(tensor, component, first, count, verify_option(verify)?).map(ZtBuffer::handle)
    };
    // SAFETY: passed on.
    unsafe { give(reader, out_buffer, "out_buffer", read) }
}

/// Reads the bytes of a component as they are stored, whatever their encoding: the way to data of a type, layout or
/// encoding that this library does not know.
///
/// Ownership: the caller frees `*out_buffer` with zt_buffer_free(), before or after the reader.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE, ZT_ERR_CHECKSUM, ZT_ERR_MEMORY, ZT_ERR_IO, ZT_ERR_TRUNCATED. On
/// error `*out_buffer` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_read_stored(
    reader: *const ZtReader,
    tensor: usize,
    component: usize,
    verify: i32,
    out_buffer: *mut *mut ZtBuffer,
) -> ZtStatus {
    let read =
        |reader: &Reader| reader.read_stored(tensor, component, verify_option(verify)?).map(ZtBuffer::handle);
    // SAFETY: passed on.
    unsafe { give(reader, out_buffer, "out_buffer", read) }
}

/// Reads tensors, all components of each, in one call and on several threads.
///
/// `tensors` holds `count` numbers of tensors; NULL with a `count` of 0 stands for all tensors of the file. Components
/// that are the same blob, as tied weights are, share their memory; raw data of a mapped file is not copied. Every block of memory
/// is returned to the system when nothing refers to it any more, so components of 1 MiB or more have a block each, unless there
/// are thousands of them, and smaller ones share blocks of up to 4 MiB.
///
/// Mapped data takes memory only for pages that are written to. What cannot be allocated is ZT_ERR_MEMORY: read fewer tensors in
/// one call.
///
/// Ownership: the caller frees `*out_batch` with zt_batch_free(), before or after the reader.
/// Threads: any.
/// Errors: as zt_reader_read(), and ZT_ERR_UNKNOWN_DTYPE, ZT_ERR_UNKNOWN_LAYOUT for what can only be read component by
/// component. On error `*out_batch` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_read_many(
    reader: *const ZtReader,
    tensors: *const usize,
    count: usize,
    verify: i32,
    out_batch: *mut *mut ZtBatch,
) -> ZtStatus {
    let read = |reader: &Reader| {
        // SAFETY: the caller lends the array.
        let tensors = unsafe { tensor_numbers(reader, tensors, count) }?;
        reader.read_many(&tensors, verify_option(verify)?).map(ZtBatch::handle)
    };
    // SAFETY: passed on.
    unsafe { give(reader, out_batch, "out_batch", read) }
}

/// Reads components into memory of the caller, decoding straight into it, in one call and on several threads.
///
/// Ownership: the memory stays the caller's. The targets must not overlap. On an error it may have been written to.
/// Threads: any.
/// Errors: as zt_reader_read(), and ZT_ERR_SIZE for a target of another length.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_read_into(
    reader: *const ZtReader,
    targets: *const ZtTarget,
    count: usize,
    verify: i32,
) -> ZtStatus {
    let body = |reader: &ZtReader| {
        // SAFETY: the caller lends the array.
        let targets = unsafe { array(targets, count, "targets") }?;
        let mut lent = room::list(targets.len())?;
        for target in targets {
            // SAFETY: the caller lends the memory, and targets do not overlap.
            let out = unsafe { array_mut(target.data.cast::<u8>(), target.len, "a target's data") }?;
            lent.push((target.tensor, target.component, out));
        }
        reader.reader.read_into(lent, verify_option(verify)?)
    };
    // SAFETY: passed on.
    unsafe { with(reader, body) }
}

/// Reads elements of a component, as zt_reader_read_range() does, into memory of the caller.
///
/// `len` is exactly the bytes that `count` elements take.
///
/// Ownership: the memory stays the caller's. On an error it may have been written to.
/// Threads: any.
/// Errors: as zt_reader_read_range(), and ZT_ERR_SIZE for another `len`.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_read_range_into(
    reader: *const ZtReader,
    tensor: usize,
    component: usize,
    first: u64,
    count: u64,
    verify: i32,
    data: *mut c_void,
    len: usize,
) -> ZtStatus {
    let body = |reader: &ZtReader| {
        // SAFETY: the caller lends the memory.
        let out = unsafe { array_mut(data.cast::<u8>(), len, "data") }?;
        reader.reader.read_range_into(tensor, component, first, count, out, verify_option(verify)?)
    };
    // SAFETY: passed on.
    unsafe { with(reader, body) }
}

/// Checks every blob of the file against its checksum, on several threads.
///
/// `progress` may be NULL. It is called on this thread every megabyte, and at the end of a file that is found good
/// with two equal numbers; it may stop the work by answering anything but 0. `user` is passed on to it.
///
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT; ZT_ERR_CHECKSUM or ZT_ERR_FRAME for the first damaged blob; ZT_ERR_LAYOUT in a
/// file of "zt/2" for a bool that is neither 0 nor 1; ZT_ERR_CANCELLED; ZT_ERR_MEMORY, ZT_ERR_IO, ZT_ERR_TRUNCATED.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_verify(
    reader: *const ZtReader,
    progress: ZtProgress,
    user: *mut c_void,
) -> ZtStatus {
    let body = |reader: &ZtReader| {
        reader.reader.verify(|done, total| match progress {
            // SAFETY: the caller vouches for the callback and for `user`.
            Some(progress) => unsafe { progress(done, total, user) == 0 },
            None => true,
        })
    };
    // SAFETY: passed on.
    unsafe { with(reader, body) }
}
