//! Reading from C: opening files.

pub mod describe;
pub mod read;

use std::borrow::Cow;
use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::OnceLock;

use super::ZtStatus;
use super::guard::{guard, guard_value};
use super::pointer::{Out, array, borrow, free, handle, into_handle, path};
use super::progress::Watch;
use crate::error::{Place, Result, ensure};
use crate::reader::{ReadCall, ReadOptions, Reader};
use crate::room;
use crate::source::Mode;

use describe::Descriptions;

/// Map the file: bytes come in when they are touched. This is the default. If somebody truncates the file
/// meanwhile, touching what was cut off ends the process with SIGBUS. A file that the system refuses to map is read as with
/// ZT_READ_OWNED.
pub const ZT_READ_MMAP: u32 = 0;
/// Do not map the file: what is asked for is read into memory of the library's own, when it is asked for. For network
/// filesystems, and for files that somebody may truncate, which then is an error.
pub const ZT_READ_OWNED: u32 = 1;
/// Check the checksum of raw data too, each time that it is read. Compressed data is always checked.
pub const ZT_READ_VERIFY: u32 = 2;

/// An open file. Opaque.
///
/// Made by zt_reader_open() or zt_reader_open_memory(), freed once with zt_reader_free().
/// Threads: any number of threads may use one reader at once, without locks. Freeing it while another thread is
/// inside a call with it is undefined.
pub struct ZtReader {
    reader: Reader,
    descriptions: OnceLock<Descriptions>,
    shares: OnceLock<Vec<u64>>,
}
handle!(ZtReader, b"ztreader", "ZtReader");

impl ZtReader {
    fn handle(reader: Reader) -> *mut Self {
        into_handle(Self { reader, descriptions: OnceLock::new(), shares: OnceLock::new() })
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }
}

/// Whether what a caller asks for is all tensors of the file: NULL and none stand for that.
pub(super) fn is_all(tensors: *const usize, count: usize) -> bool {
    tensors.is_null() && count == 0
}

/// The numbers of tensors that a caller asks for.
///
/// # Safety
///
/// `tensors` holds `count` numbers, which stay as they are for as long as `'a`.
pub(super) unsafe fn tensor_numbers<'a>(
    reader: &Reader,
    tensors: *const usize,
    count: usize,
) -> Result<Cow<'a, [usize]>> {
    if is_all(tensors, count) {
        return room::collect(0..reader.index().len()).map(Cow::Owned);
    }
    // SAFETY: passed on.
    unsafe { array(tensors, count, "tensors") }.map(Cow::Borrowed)
}

fn read_options(flags: u32, threads: usize) -> Result<ReadOptions> {
    ensure!(
        flags & !(ZT_READ_OWNED | ZT_READ_VERIFY) == 0,
        Argument,
        "flags {flags:#x} are none that a reader has"
    );
    Ok(ReadOptions {
        mode: if flags & ZT_READ_OWNED != 0 { Mode::Read } else { Mode::Mmap },
        verify: flags & ZT_READ_VERIFY != 0,
        threads,
    })
}

/// Runs the body of a function that borrows a reader. Its errors name the file.
///
/// # Safety
///
/// `reader` is what the C caller passed under the function's contract.
pub(super) unsafe fn with(reader: *const ZtReader, body: impl FnOnce(&ZtReader) -> Result<()>) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let reader = unsafe { borrow(reader) }?;
        body(reader).map_err(|err| err.in_file(reader.reader.label()))
    })
}

/// Runs the body of a function that borrows a reader and gives one handle.
///
/// # Safety
///
/// `reader` and `out` are what the C caller passed under the function's contract.
unsafe fn give<T>(
    reader: *const ZtReader,
    out: *mut *mut T,
    name: &str,
    body: impl FnOnce(&Reader) -> Result<*mut T>,
) -> ZtStatus {
    let give = |reader: &ZtReader| {
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out, name) }?;
        out.set(body(&reader.reader)?);
        Ok(())
    };
    // SAFETY: passed on.
    unsafe { with(reader, give) }
}

/// Runs the body of a function that reads and gives one handle.
///
/// # Safety
///
/// As for [`give`].
unsafe fn give_read<T>(
    reader: *const ZtReader,
    out: *mut *mut T,
    name: &str,
    verify: i32,
    body: impl FnOnce(&Reader, ReadCall<'_>) -> Result<*mut T>,
) -> ZtStatus {
    // SAFETY: passed on.
    unsafe { give(reader, out, name, |reader| reading(reader, verify, body)) }
}

/// Runs a call that reads, with the progress of this thread.
fn reading<T>(
    reader: &Reader,
    verify: i32,
    body: impl FnOnce(&Reader, ReadCall<'_>) -> Result<T>,
) -> Result<T> {
    let watch = Watch::current();
    let mut report = |done, total| watch.report(done, total);
    let mut call = ReadCall::from(read::verify_option(verify)?);
    if watch.is_set() {
        call = call.progress(&mut report);
    }
    body(reader, call)
}

/// Opens a local file and reads its index. No tensor is read yet.
///
/// `path` is NUL-terminated, in the bytes of the filesystem. `flags` is ZT_READ_MMAP, or ZT_READ_OWNED, either
/// with ZT_READ_VERIFY or'ed to it. `threads` is how many threads a call may use; 0 for as many as the machine has.
/// A file from a stranger is safe to open: all that its index says is checked first, and memory follows the
/// size of the index, never a number found in it.
///
/// The file may be of any format that zt_reader_format() names. One of "zt/2" may keep tensors in shards, which are files
/// beside it: these are opened too, and one that is missing or of another size is an error whose message names it.
///
/// The reader holds the file open until it is freed, shards too. Whoever replaces the file meanwhile by renaming another
/// one over it, as zt_writer_finish() does, does not disturb the reader.
///
/// Ownership: the caller frees `*out_reader` with zt_reader_free().
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_FILE_NOT_FOUND, ZT_ERR_IO (also for what is no regular file, such as a
/// directory or a pipe), ZT_ERR_MEMORY, and ZT_ERR_SIGNATURE to ZT_ERR_LIMIT or ZT_ERR_DUPLICATE for a file that breaks a
/// rule of the format. On error `*out_reader` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_open(
    path: *const c_char,
    flags: u32,
    threads: usize,
    out_reader: *mut *mut ZtReader,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a C string.
        let path = unsafe { self::path(path) }?;
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_reader, "out_reader") }?;
        let options = read_options(flags, threads).map_err(|err| err.in_path(path))?;
        out.set(ZtReader::handle(Reader::open(path, options)?));
        Ok(())
    })
}

/// Opens a file that is in memory, without copying it. Its tensors are copied when they are read.
///
/// `flags` and `threads` as of zt_reader_open(); ZT_READ_OWNED has no meaning here. `data` may stand anywhere: nothing
/// is asked of its alignment.
///
/// Ownership: the `len` bytes at `data` stay the caller's; they must stay valid and unchanged until the reader is
/// freed. Buffers that were read may outlive them. The caller frees `*out_reader` with zt_reader_free().
/// Threads: any.
/// Errors: as zt_reader_open(); ZT_ERR_FILE_NOT_FOUND for a file that has shards, since there is nothing beside it. On
/// error `*out_reader` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_open_memory(
    data: *const c_void,
    len: usize,
    flags: u32,
    threads: usize,
    out_reader: *mut *mut ZtReader,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends the bytes until the reader is freed.
        let bytes: &'static [u8] = unsafe { array(data.cast(), len, "data") }?;
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_reader, "out_reader") }?;
        let options = read_options(flags, threads).map_err(|err| err.in_file(Place::MEMORY))?;
        out.set(ZtReader::handle(Reader::from_bytes(bytes, options)?));
        Ok(())
    })
}

/// Closes a file. NULL is fine. Buffers and batches that were read stay valid; descriptions and names do not.
///
/// Threads: any, once, when no other call uses the reader.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_free(reader: *mut ZtReader) {
    // SAFETY: the caller gives the handle back.
    guard_value((), || unsafe { free(reader) });
}

/// Gives the number of tensors; 0 if `reader` is NULL.
///
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_count(reader: *const ZtReader) -> usize {
    // SAFETY: the caller lends a handle.
    guard_value(0, || unsafe { borrow(reader) }.map_or(0, |it| it.reader.index().len()))
}

/// Names the format of the file: "zt/1" for the one that this library writes, "zten/0.1", "zten/1.0", "zten/1.1",
/// "zten/1.2" or "zt/2" for the older generations that it reads. NULL if `reader` is NULL.
///
/// Ownership: the text lives as long as the library is loaded.
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_format(reader: *const ZtReader) -> *const c_char {
    guard_value(ptr::null(), || {
        // SAFETY: the caller lends a handle.
        unsafe { borrow(reader) }.map_or(ptr::null(), |it| it.reader.format_c_name().as_ptr())
    })
}
