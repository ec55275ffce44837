//! Bytes that a reader or a writer hands out.

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr;

use super::ZtStatus;
use super::guard::{guard, guard_value};
use super::pointer::{Out, array_mut, borrow, free, handle, into_handle};
use crate::error::ensure;
use crate::plan::{Batch, Span};
use crate::source::Buffer;

/// Bytes in memory: a tensor's, or a text's. Opaque.
///
/// The bytes belong to whoever holds the buffer: they may be written to, which changes neither the file nor
/// what is read later. They stay valid until the buffer is freed, however long its reader lives. Buffers of one
/// batch that refer to one block of memory see each other's writes.
/// Threads: a buffer may be handed to another thread; its bytes are plain memory.
pub struct ZtBuffer {
    buffer: Buffer,
}
handle!(ZtBuffer, b"ztbuffer", "ZtBuffer");

impl ZtBuffer {
    pub(super) fn handle(buffer: Buffer) -> *mut Self {
        into_handle(Self { buffer })
    }
}

/// Where a component's bytes lie in a batch.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ZtSpan {
    /// The number of the block of memory.
    pub memory: usize,
    /// Where the component begins in the block, in bytes.
    pub start: usize,
    /// Bytes of the component.
    pub len: usize,
}

// A batch's own spans are given out as they are.
const _: () = assert!(
    size_of::<ZtSpan>() == size_of::<Span>()
        && align_of::<ZtSpan>() == align_of::<Span>()
        && offset_of!(ZtSpan, memory) == offset_of!(Span, memory)
        && offset_of!(ZtSpan, start) == offset_of!(Span, start)
        && offset_of!(ZtSpan, len) == offset_of!(Span, len)
);

/// Components that were read together. Opaque.
///
/// It holds a share of the memory, as every buffer that is taken from it does; they may be freed in any order.
/// Threads: may be used by several threads at once.
pub struct ZtBatch {
    batch: Batch,
}
handle!(ZtBatch, b"zt_batch", "ZtBatch");

impl ZtBatch {
    pub(super) fn handle(batch: Batch) -> *mut Self {
        into_handle(Self { batch })
    }

    pub(super) fn batch(&self) -> &Batch {
        &self.batch
    }
}

/// Gives the first of a buffer's bytes; NULL if `buffer` is NULL.
///
/// Whole components, decoded, begin at a multiple of 64 bytes. That of an empty buffer is not NULL, and points to nothing
/// that may be read.
///
/// Ownership: valid until the buffer is freed.
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_buffer_data(buffer: *const ZtBuffer) -> *mut c_void {
    let data = |buffer: &ZtBuffer| buffer.buffer.as_ptr().cast();
    // SAFETY: the caller lends a handle.
    guard_value(ptr::null_mut(), || unsafe { borrow(buffer) }.map_or(ptr::null_mut(), data))
}

/// Gives the number of a buffer's bytes; 0 if `buffer` is NULL.
///
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_buffer_len(buffer: *const ZtBuffer) -> usize {
    // SAFETY: the caller lends a handle.
    guard_value(0, || unsafe { borrow(buffer) }.map_or(0, |it| it.buffer.len()))
}

/// Copies all of a buffer's bytes to memory of the caller, on up to `threads` threads, 0 for as many as the machine has.
///
/// Where that memory is large and has not been touched yet, the system is asked for huge pages.
///
/// Ownership: `len` bytes at `out` stay the caller's.
/// Threads: any; nobody else uses the bytes at `out` meanwhile.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT (also if `out` is part of the buffer), ZT_ERR_SIZE (`len` is not what
/// zt_buffer_len() gives). On error nothing is written.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_buffer_copy(
    buffer: *const ZtBuffer,
    out: *mut c_void,
    len: usize,
    threads: usize,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let buffer = unsafe { borrow(buffer) }?;
        // SAFETY: the caller lends the bytes, which nobody else uses.
        let out = unsafe { array_mut(out.cast::<u8>(), len, "out") }?;
        let (from, to) = (buffer.buffer.as_slice().as_ptr_range(), out.as_ptr_range());
        ensure!(from.end <= to.start || to.end <= from.start, Argument, "out is part of the buffer");
        buffer.buffer.copy_to(out, threads)
    })
}

/// Frees a buffer. NULL is fine.
///
/// Its memory goes when no other buffer or batch shares it.
/// Threads: any, once.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_buffer_free(buffer: *mut ZtBuffer) {
    // SAFETY: the caller gives the handle back.
    guard_value((), || unsafe { free(buffer) });
}

/// Gives where each component of a batch lies, in the order asked for: all components of the first tensor, then
/// all of the second, and so on. Components that are the same blob have the same span.
///
/// zt_batch_memory() gives the block of memory of a span's number; the component's bytes begin `start` bytes after that
/// block's zt_buffer_data().
///
/// Ownership: the array belongs to the batch and lives as long.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT. On error nothing is written.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_batch_spans(
    batch: *const ZtBatch,
    out_spans: *mut *const ZtSpan,
    out_count: *mut usize,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let batch = unsafe { borrow(batch) }?;
        // SAFETY: the caller lends the places for the results.
        let (out_spans, out_count) =
            unsafe { (Out::new(out_spans, "out_spans")?, Out::new(out_count, "out_count")?) };
        let spans = batch.batch.spans();
        out_spans.set(spans.as_ptr().cast());
        out_count.set(spans.len());
        Ok(())
    })
}

/// Gives the number of blocks of memory that a batch's components lie in; 0 if `batch` is NULL.
///
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_batch_memory_count(batch: *const ZtBatch) -> usize {
    // SAFETY: the caller lends a handle.
    guard_value(0, || unsafe { borrow(batch) }.map_or(0, |it| it.batch.memory_count()))
}

/// Gives a share of one of a batch's blocks of memory, as a buffer of all its bytes.
///
/// Ownership: the caller frees `*out_buffer` with zt_buffer_free(), before or after the batch.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE. On error `*out_buffer` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_batch_memory(
    batch: *const ZtBatch,
    number: usize,
    out_buffer: *mut *mut ZtBuffer,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let batch = unsafe { borrow(batch) }?;
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_buffer, "out_buffer") }?;
        out.set(ZtBuffer::handle(batch.batch.memory(number)?));
        Ok(())
    })
}

/// Frees a batch. NULL is fine. Buffers that were taken from it stay valid.
///
/// Threads: any, once.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_batch_free(batch: *mut ZtBatch) {
    // SAFETY: the caller gives the handle back.
    guard_value((), || unsafe { free(batch) });
}
