//! Reading tensors from C.

use std::ffi::c_void;

use super::{ZtReader, give_read, reading, tensor_numbers, with};
use crate::error::{Result, fail};
use crate::ffi::ZtStatus;
use crate::ffi::buffer::{ZtBatch, ZtBuffer};
use crate::ffi::pointer::{array, array_mut};
use crate::ffi::progress::{Watch, ZtProgress};
use crate::reader::{ReadCall, Reader};
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

pub(super) fn verify_option(verify: i32) -> Result<Option<bool>> {
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
/// ZT_ERR_UNKNOWN_DTYPE for compressed data of an unknown type; ZT_ERR_CANCELLED; ZT_ERR_MEMORY, ZT_ERR_IO, ZT_ERR_TRUNCATED. On
/// error `*out_buffer` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_read(
    reader: *const ZtReader,
    tensor: usize,
    component: usize,
    verify: i32,
    out_buffer: *mut *mut ZtBuffer,
) -> ZtStatus {
    let read =
        |reader: &Reader, call: ReadCall<'_>| reader.read(tensor, component, call).map(ZtBuffer::handle);
    // SAFETY: passed on.
    unsafe { give_read(reader, out_buffer, "out_buffer", verify, read) }
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
    let read = |reader: &Reader, call: ReadCall<'_>| {
        reader.read_range(tensor, component, first, count, call).map(ZtBuffer::handle)
    };
    // SAFETY: passed on.
    unsafe { give_read(reader, out_buffer, "out_buffer", verify, read) }
}

/// Reads the bytes of a component as they are stored, whatever their encoding: the way to data of a type, layout or
/// encoding that this library does not know.
///
/// Ownership: the caller frees `*out_buffer` with zt_buffer_free(), before or after the reader.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE, ZT_ERR_CHECKSUM, ZT_ERR_CANCELLED, ZT_ERR_MEMORY, ZT_ERR_IO,
/// ZT_ERR_TRUNCATED. On error `*out_buffer` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_read_stored(
    reader: *const ZtReader,
    tensor: usize,
    component: usize,
    verify: i32,
    out_buffer: *mut *mut ZtBuffer,
) -> ZtStatus {
    let read = |reader: &Reader, call: ReadCall<'_>| {
        reader.read_stored(tensor, component, call).map(ZtBuffer::handle)
    };
    // SAFETY: passed on.
    unsafe { give_read(reader, out_buffer, "out_buffer", verify, read) }
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
    let read = |reader: &Reader, call: ReadCall<'_>| {
        // SAFETY: the caller lends the array.
        let tensors = unsafe { tensor_numbers(reader, tensors, count) }?;
        reader.read_many(&tensors, call).map(ZtBatch::handle)
    };
    // SAFETY: passed on.
    unsafe { give_read(reader, out_batch, "out_batch", verify, read) }
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
        reading(&reader.reader, verify, |reader, call| reader.read_into(lent, call))
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
        reading(&reader.reader, verify, |reader, call| {
            reader.read_range_into(tensor, component, first, count, out, call)
        })
    };
    // SAFETY: passed on.
    unsafe { with(reader, body) }
}

/// Checks every blob of the file against its checksum, on several threads.
///
/// `progress` may be NULL: then the callback of zt_set_progress() is called, if there is one. It is called on this
/// thread every 50 ms, and at the end of a file that is found good with two equal numbers; it may stop the work by
/// answering anything but 0. `user` is passed on to it. The bytes to do are those that are stored.
///
/// A checksum that does not match means that the file was damaged, or that its bytes changed while they were saved: in the file,
/// or in the memory that zt_writer_add() read them from.
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
        let watch = if progress.is_some() { Watch::new(progress, user) } else { Watch::current() };
        reader.reader.verify(|done, total| watch.report(done, total))
    };
    // SAFETY: passed on.
    unsafe { with(reader, body) }
}
