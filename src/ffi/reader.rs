//! Reading from C.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::OnceLock;

use super::ZtStatus;
use super::buffer::{ZtBatch, ZtBuffer};
use super::guard::{guard, guard_value};
use super::name::{ZT_RAW, ZT_ZSTD, ZtDtype, ZtEncoding, ZtFilter, ZtLayout, ZtRole};
use super::pointer::{Out, array, borrow, bytes_mut, c_text, free, handle, into_handle, path};
use crate::dtype::DType;
use crate::error::{Result, ensure, fail};
use crate::index::{ComponentInfo, Encoding, Frames, TensorInfo};
use crate::metadata::{self, Metadata};
use crate::plan::Buffer;
use crate::reader::{ReadOptions, Reader};
use crate::source::{Memory, Mode};

/// Map the file: bytes come in when they are touched. This is the default. If somebody truncates the file
/// meanwhile, touching what was cut off ends the process with SIGBUS.
pub const ZT_READ_MMAP: u32 = 0;
/// Read the file into memory of the library's own instead. For network filesystems, and for files that somebody
/// may truncate, which then is an error.
pub const ZT_READ_OWNED: u32 = 1;
/// Check the checksum of raw data too, each time that it is read. Compressed data is always checked.
pub const ZT_READ_VERIFY: u32 = 2;

/// Check raw data as the reader was opened.
pub const ZT_VERIFY_AS_OPENED: i32 = 0;
/// Check raw data in this call.
pub const ZT_VERIFY_ON: i32 = 1;
/// Do not check raw data in this call.
pub const ZT_VERIFY_OFF: i32 = 2;

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

/// What the file says of one component. All pointers belong to the reader.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ZtComponent {
    /// Name of its role, NUL-terminated.
    pub role_name: *const c_char,
    /// Name of its element type, NUL-terminated.
    pub dtype_name: *const c_char,
    /// "raw", "zstd", or a name that this library does not know; NUL-terminated.
    pub encoding_name: *const c_char,
    /// Where its blob begins in the file; of generation 2, in the shard that holds it.
    pub offset: u64,
    /// Bytes of its blob, as stored.
    pub stored_len: u64,
    /// Bytes, decoded; as stored where the encoding is not known.
    pub len: u64,
    /// Decoded bytes of a chunk; 0 where nothing is compressed, and in files of older generations.
    pub chunk_len: u64,
    /// CRC-32 of the stored bytes, if `has_crc32` is not 0. Checksums of older generations do not show here.
    pub crc32: u32,
    /// Whether `crc32` means something: 0 or 1.
    pub has_crc32: i32,
    /// Its role.
    pub role: ZtRole,
    /// Its element type.
    pub dtype: ZtDtype,
    /// How it is stored.
    pub encoding: ZtEncoding,
    /// What was done to each chunk before it was compressed.
    pub filter: ZtFilter,
}

/// What the file says of one tensor. All pointers belong to the reader.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ZtTensor {
    /// Name in UTF-8, NUL-terminated.
    pub name: *const c_char,
    /// Bytes of the name, without the NUL.
    pub name_len: usize,
    /// Dimensions; of a scalar there are none.
    pub shape: *const u64,
    /// The number of dimensions.
    pub ndim: usize,
    /// Components, in the order of the layout.
    pub components: *const ZtComponent,
    /// The number of components.
    pub component_count: usize,
    /// Bytes of all components, decoded.
    pub len: u64,
    /// Rows and columns of a block, of ZT_SPARSE_BSR and ZT_SPARSE_BSC; 0 of other layouts.
    pub blocksize: [u64; 2],
    /// Name of the element type, NUL-terminated.
    pub dtype_name: *const c_char,
    /// Name of the layout, NUL-terminated.
    pub layout_name: *const c_char,
    /// Element type.
    pub dtype: ZtDtype,
    /// Layout.
    pub layout: ZtLayout,
    /// Whether zt_reader_attributes() has something to give: 0 or 1.
    pub has_attributes: i32,
    /// 0.
    pub reserved: i32,
}

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

/// All descriptions of a file. The arrays never change, so pointers into them stay valid.
struct Descriptions {
    tensors: Vec<ZtTensor>,
    _components: Vec<ZtComponent>,
}

// SAFETY: the pointers refer to the reader's own index, to this value's own array, and to names that live
// forever; none is written through.
unsafe impl Send for Descriptions {}
// SAFETY: as above.
unsafe impl Sync for Descriptions {}

fn describe_component(part: &ComponentInfo<'_>) -> ZtComponent {
    let (encoding, filter, chunk_len) = match part.encoding() {
        Encoding::Raw => (ZT_RAW, 0, 0),
        Encoding::Zstd(zstd) => {
            // A table that stands in the blob may not have been read yet; a description does not depend on that.
            let chunk_size = if zstd.frames == Frames::Chunks { zstd.chunk_size } else { 0 };
            (ZT_ZSTD, zstd.filter as ZtFilter, u64::from(chunk_size))
        }
        Encoding::Unknown(_) => (0, 0, 0),
    };
    ZtComponent {
        role_name: part.role_c_name().as_ptr(),
        dtype_name: part.dtype_c_name().as_ptr(),
        encoding_name: part.encoding_c_name().as_ptr(),
        offset: part.offset(),
        stored_len: part.stored_len(),
        len: part.len_bytes().unwrap_or(part.stored_len()),
        chunk_len,
        crc32: part.crc32().unwrap_or(0),
        has_crc32: part.crc32().is_some().into(),
        role: part.role().known().map_or(0, |role| role as ZtRole),
        dtype: part.dtype().known().map_or(0, DType::code),
        encoding,
        filter,
    }
}

/// `names` is the index's arena of names, in which each is followed by a NUL.
fn describe_tensor(info: &TensorInfo<'_>, names: &str, components: *const ZtComponent) -> ZtTensor {
    ZtTensor {
        name: names[info.name_start()..].as_ptr().cast(),
        name_len: info.name().len(),
        shape: info.shape().as_ptr(),
        ndim: info.shape().len(),
        components,
        component_count: info.components().len(),
        len: info.len_bytes(),
        blocksize: info.frame().and_then(|frame| frame.blocksize).unwrap_or_default(),
        dtype_name: info.dtype_c_name().as_ptr(),
        layout_name: info.layout_c_name().as_ptr(),
        dtype: info.dtype().known().map_or(0, DType::code),
        layout: info.layout().known().map_or(0, |layout| layout as ZtLayout),
        has_attributes: info.attributes().is_some().into(),
        reserved: 0,
    }
}

impl ZtReader {
    fn handle(reader: Reader) -> *mut Self {
        into_handle(Self { reader, descriptions: OnceLock::new(), shares: OnceLock::new() })
    }

    fn descriptions(&self) -> &Descriptions {
        self.descriptions.get_or_init(|| {
            let index = self.reader.index();
            let components: Vec<ZtComponent> = index
                .iter()
                .flat_map(|info| info.components())
                .map(|part| describe_component(&part))
                .collect();
            let tensors = index
                .iter()
                .map(|info| {
                    describe_tensor(&info, index.names(), components[info.first_component()..].as_ptr())
                })
                .collect();
            Descriptions { tensors, _components: components }
        })
    }
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

fn verify_option(verify: i32) -> Result<Option<bool>> {
    Ok(match verify {
        ZT_VERIFY_AS_OPENED => None,
        ZT_VERIFY_ON => Some(true),
        ZT_VERIFY_OFF => Some(false),
        other => fail!(Argument, "verify is {other}, not one of the three ZT_VERIFY_ numbers"),
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
    guard(|| {
        // SAFETY: the caller lends a handle.
        let reader = unsafe { borrow(reader) }?;
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out, name) }?;
        out.set(body(&reader.reader)?);
        Ok(())
    })
}

/// Opens a local file and reads its index. No tensor is read yet.
///
/// `path` is NUL-terminated, in the bytes of the filesystem. `flags` is ZT_READ_MMAP, or ZT_READ_OWNED, either
/// with ZT_READ_VERIFY or'ed to it. `threads` is how many threads a call may use; 0 for as many as the machine has.
/// A file from a stranger is safe to open: all that its index says is checked first, and memory follows the
/// size of the index, never a number found in it.
///
/// Ownership: the caller frees `*out_reader` with zt_reader_free().
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_FILE_NOT_FOUND, ZT_ERR_IO, ZT_ERR_MEMORY, and ZT_ERR_SIGNATURE to
/// ZT_ERR_LIMIT or ZT_ERR_DUPLICATE for a file that breaks a rule of the format. On error `*out_reader` is unchanged.
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
        out.set(ZtReader::handle(Reader::open(path, read_options(flags, threads)?)?));
        Ok(())
    })
}

/// Opens a file that is in memory, without copying it. Its tensors are copied when they are read.
///
/// `flags` and `threads` as of zt_reader_open(); ZT_READ_OWNED has no meaning here.
///
/// Ownership: the `len` bytes at `data` stay the caller's; they must stay valid and unchanged until the reader is
/// freed. Buffers that were read may outlive them. The caller frees `*out_reader` with zt_reader_free().
/// Threads: any.
/// Errors: as zt_reader_open(). On error `*out_reader` is unchanged.
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
        out.set(ZtReader::handle(Reader::from_bytes(bytes, read_options(flags, threads)?)?));
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

/// Describes all tensors in one call, in the order written. Tensor number i is element i of the array.
///
/// The array is made by the first call and costs some 200 bytes a tensor; a program that looks at few tensors of
/// many uses zt_reader_describe().
/// The shapes of all tensors stand behind each other, from the first one's `shape` on, and so do their components.
///
/// Ownership: the array and all that it points to belong to the reader and live as long.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT. On error nothing is written.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_tensors(
    reader: *const ZtReader,
    out_tensors: *mut *const ZtTensor,
    out_count: *mut usize,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let reader = unsafe { borrow(reader) }?;
        // SAFETY: the caller lends the places for the results.
        let (tensors, count) =
            unsafe { (Out::new(out_tensors, "out_tensors")?, Out::new(out_count, "out_count")?) };
        let descriptions = &reader.descriptions().tensors;
        tensors.set(descriptions.as_ptr());
        count.set(descriptions.len());
        Ok(())
    })
}

/// Describes one tensor.
///
/// `capacity` components fit at `out_components`; 3 are enough for every layout that this library knows. The
/// description's `components` is `out_components`.
///
/// Ownership: the structs are the caller's; what they point to besides belongs to the reader and lives as long.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE if there is no tensor of this number, ZT_ERR_SIZE if
/// `capacity` is too small. On error nothing is written.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_describe(
    reader: *const ZtReader,
    tensor: usize,
    out_tensor: *mut ZtTensor,
    out_components: *mut ZtComponent,
    capacity: usize,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let reader = unsafe { borrow(reader) }?;
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_tensor, "out_tensor") }?;
        let info = reader.reader.tensor(tensor)?;
        let count = info.components().len();
        ensure!(count <= capacity, Size, "the tensor has {count} components, there is room for {capacity}");
        for (at, part) in info.components().enumerate() {
            // SAFETY: the caller lends an array of `capacity` structs, and `at` is below it.
            let place = unsafe { Out::new(out_components.wrapping_add(at), "out_components") }?;
            place.set(describe_component(&part));
        }
        out.set(describe_tensor(&info, reader.reader.index().names(), out_components));
        Ok(())
    })
}

/// Tells which components are the same blob, as those of tied weights are: a number for each component of all tensors, in
/// order. Components of the same number, other than 0, and the same element type are the same bytes; 0 stands for a
/// component that is alone. They are what ZtComponentSpec::share takes.
///
/// Ownership: the array belongs to the reader and lives as long.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT. On error nothing is written.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_shares(
    reader: *const ZtReader,
    out_shares: *mut *const u64,
    out_count: *mut usize,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let reader = unsafe { borrow(reader) }?;
        // SAFETY: the caller lends the places for the results.
        let (shares, count) =
            unsafe { (Out::new(out_shares, "out_shares")?, Out::new(out_count, "out_count")?) };
        let found = reader.shares.get_or_init(|| reader.reader.index().shares());
        shares.set(found.as_ptr());
        count.set(found.len());
        Ok(())
    })
}

/// Gives the names of all tensors in one piece of text, in the order written, each followed by a NUL.
///
/// Ownership: the text belongs to the reader and lives as long. `*out_len` counts the NULs too.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT. On error nothing is written.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_names(
    reader: *const ZtReader,
    out_names: *mut *const c_char,
    out_len: *mut usize,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let reader = unsafe { borrow(reader) }?;
        // SAFETY: the caller lends the places for the results.
        let (names, len) = unsafe { (Out::new(out_names, "out_names")?, Out::new(out_len, "out_len")?) };
        let text = reader.reader.index().names();
        names.set(text.as_ptr().cast());
        len.set(text.len());
        Ok(())
    })
}

/// Finds the number of the tensor of a name. It takes the same time however many there are.
///
/// `name` is UTF-8 and NUL-terminated.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_UTF8, ZT_ERR_NOT_FOUND. On error `*out_tensor` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_find(
    reader: *const ZtReader,
    name: *const c_char,
    out_tensor: *mut usize,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let reader = unsafe { borrow(reader) }?;
        // SAFETY: the caller lends a C string.
        let name = unsafe { c_text(name, "name") }?;
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_tensor, "out_tensor") }?;
        out.set(reader.reader.find(name)?);
        Ok(())
    })
}

fn json(metadata: Option<&Metadata>) -> Result<*mut ZtBuffer> {
    let text = metadata.map_or_else(|| "{}".to_owned(), metadata::to_json);
    let mut memory = Memory::zeroed(text.len() + 1)?;
    memory.as_mut_slice()[..text.len()].copy_from_slice(text.as_bytes());
    Ok(ZtBuffer::handle(Buffer::from(memory).first(text.len())))
}

/// Gives the file's own key-values as the text of a JSON object; "{}" if there are none.
///
/// Three kinds of MessagePack values that JSON cannot spell stand as objects of one key: {"$bytes": "00ff"} in
/// hexadecimal, {"$float": "nan"} (or "inf", "-inf"), {"$ext": [type, "00ff"]}.
///
/// Ownership: the caller frees `*out_json` with zt_buffer_free(). A NUL follows its bytes.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_MEMORY. On error `*out_json` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_metadata(
    reader: *const ZtReader,
    out_json: *mut *mut ZtBuffer,
) -> ZtStatus {
    // SAFETY: passed on.
    unsafe { give(reader, out_json, "out_json", |reader| json(Some(&reader.index().metadata))) }
}

/// Gives a tensor's own key-values as the text of a JSON object, as zt_reader_metadata() does for the file.
///
/// Ownership: the caller frees `*out_json` with zt_buffer_free(). A NUL follows its bytes.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE, ZT_ERR_MEMORY. On error `*out_json` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_attributes(
    reader: *const ZtReader,
    tensor: usize,
    out_json: *mut *mut ZtBuffer,
) -> ZtStatus {
    // SAFETY: passed on.
    unsafe { give(reader, out_json, "out_json", |reader| json(reader.tensor(tensor)?.attributes())) }
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
/// ZT_ERR_SPARSE for damage; ZT_ERR_UNKNOWN_DTYPE for compressed data of an unknown type; ZT_ERR_MEMORY, ZT_ERR_IO,
/// ZT_ERR_TRUNCATED. On error `*out_buffer` is unchanged.
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
/// that are the same blob, as tied weights are, share their memory; raw data of a mapped file is not copied.
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
        let all: Vec<usize>;
        let tensors = if tensors.is_null() && count == 0 {
            all = (0..reader.index().len()).collect();
            &all[..]
        } else {
            // SAFETY: the caller lends the array.
            unsafe { array(tensors, count, "tensors") }?
        };
        reader.read_many(tensors, verify_option(verify)?).map(ZtBatch::handle)
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
    guard(|| {
        // SAFETY: the caller lends a handle.
        let reader = unsafe { borrow(reader) }?;
        // SAFETY: the caller lends the array.
        let targets = unsafe { array(targets, count, "targets") }?;
        let targets = targets
            .iter()
            .map(|target| {
                // SAFETY: the caller lends the memory, and targets do not overlap.
                let out = unsafe { bytes_mut(target.data.cast(), target.len, "a target's data") }?;
                Ok((target.tensor, target.component, out))
            })
            .collect::<Result<Vec<_>>>()?;
        reader.reader.read_into(targets, verify_option(verify)?)
    })
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
    guard(|| {
        // SAFETY: the caller lends a handle.
        let reader = unsafe { borrow(reader) }?;
        // SAFETY: the caller lends the memory.
        let out = unsafe { bytes_mut(data.cast(), len, "data") }?;
        reader.reader.read_range_into(tensor, component, first, count, out, verify_option(verify)?)
    })
}

/// Checks every blob of the file against its checksum, on several threads.
///
/// `progress` may be NULL. It is called on this thread every megabyte, and at the end of a file that is found good
/// with two equal numbers; it may stop the work by answering anything but 0. `user` is passed on to it.
///
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT; ZT_ERR_CHECKSUM or ZT_ERR_FRAME for the first damaged blob;
/// ZT_ERR_CANCELLED; ZT_ERR_IO, ZT_ERR_TRUNCATED.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_verify(
    reader: *const ZtReader,
    progress: ZtProgress,
    user: *mut c_void,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let reader = unsafe { borrow(reader) }?;
        reader.reader.verify(|done, total| match progress {
            // SAFETY: the caller vouches for the callback and for `user`.
            Some(progress) => unsafe { progress(done, total, user) == 0 },
            None => true,
        })
    })
}
