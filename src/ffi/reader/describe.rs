//! What a file says of its tensors, for C.

use std::ffi::c_char;
use std::sync::OnceLock;

use super::{ZtReader, give, with};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::ffi::ZtStatus;
use crate::ffi::buffer::ZtBuffer;
use crate::ffi::name::{ZT_RAW, ZT_ZSTD, ZtDtype, ZtEncoding, ZtFilter, ZtLayout, ZtRole};
use crate::ffi::pointer::{Out, c_text};
use crate::ffi::table::Table;
use crate::index::{ComponentInfo, Encoding, Frames, Index, TensorInfo};
use crate::metadata::{self, Metadata};
use crate::reader::Reader;
use crate::source::{Buffer, Memory};

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
    /// CRC-32 of the stored bytes, if `has_crc32` is not 0. Checksums of another kind are given by zt_reader_checksum().
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

/// All descriptions of a file. The arrays never change, so pointers into them stay valid.
pub(super) struct Descriptions {
    tensors: Table<ZtTensor>,
    _components: Table<ZtComponent>,
}

impl Descriptions {
    fn of(index: &Index) -> Result<Self> {
        let end = |info: TensorInfo<'_>| info.first_component() + info.components().len();
        let count = index.len().checked_sub(1).and_then(|last| index.get(last)).map_or(0, end);
        let parts = index.iter().flat_map(|info| info.components());
        let components = Table::new(count, parts.map(|part| describe_component(&part)))?;
        let tensors = index.iter().map(|info| {
            describe_tensor(&info, index.names(), components.as_ptr().wrapping_add(info.first_component()))
        });
        Ok(Self { tensors: Table::new(index.len(), tensors)?, _components: components })
    }
}

/// What the first call makes, for all that follow.
fn get_or_make<T>(place: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(found) = place.get() {
        return Ok(found);
    }
    // Another thread may be faster; both make the same.
    let made = make()?;
    Ok(place.get_or_init(|| made))
}

impl ZtReader {
    /// The descriptions of all tensors, which the first call makes.
    fn descriptions(&self) -> Result<&Table<ZtTensor>> {
        get_or_make(&self.descriptions, || Descriptions::of(self.reader.index())).map(|found| &found.tensors)
    }
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
    let layout = info.layout().known();
    ZtTensor {
        name: names[info.name_start()..].as_ptr().cast(),
        name_len: info.name().len(),
        shape: info.shape().as_ptr(),
        ndim: info.shape().len(),
        components,
        component_count: info.components().len(),
        len: info.len_bytes(),
        blocksize: layout
            .filter(|layout| layout.is_blocked())
            .and_then(|_| info.blocksize())
            .unwrap_or_default(),
        dtype_name: info.dtype_c_name().as_ptr(),
        layout_name: info.layout_c_name().as_ptr(),
        dtype: info.dtype().known().map_or(0, DType::code),
        layout: layout.map_or(0, |layout| layout as ZtLayout),
        has_attributes: info.has_attributes().into(),
        reserved: 0,
    }
}

/// Describes all tensors in one call, in the order written. Tensor number i is element i of the array.
///
/// The array is made by the first call and costs some 200 bytes a tensor; a program that looks at few tensors of
/// many uses zt_reader_describe().
/// The shapes of all tensors stand behind each other, from the first one's `shape` on, and so do their components.
///
/// Ownership: the array and all that it points to belong to the reader and live as long.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_MEMORY. On error nothing is written.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_tensors(
    reader: *const ZtReader,
    out_tensors: *mut *const ZtTensor,
    out_count: *mut usize,
) -> ZtStatus {
    let body = |reader: &ZtReader| {
        // SAFETY: the caller lends the places for the results.
        let (tensors, count) =
            unsafe { (Out::new(out_tensors, "out_tensors")?, Out::new(out_count, "out_count")?) };
        let descriptions = reader.descriptions()?;
        tensors.set(descriptions.as_ptr());
        count.set(descriptions.len());
        Ok(())
    };
    // SAFETY: passed on.
    unsafe { with(reader, body) }
}

/// Describes one tensor.
///
/// `capacity` components fit at `out_components`; 3 are enough for every layout that this library knows, 255 for any
/// tensor. The description's `components` is `out_components`.
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
    let body = |reader: &ZtReader| {
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_tensor, "out_tensor") }?;
        let info = reader.reader.tensor(tensor)?;
        let count = info.components().len();
        if count > capacity {
            let message = format!("the tensor has {count} components, there is room for {capacity}");
            return Err(Error::new(ErrorKind::Size, message).in_tensor(info.name()));
        }
        for (at, part) in info.components().enumerate() {
            // SAFETY: the caller lends an array of `capacity` structs, and `at` is below it.
            let place = unsafe { Out::new(out_components.wrapping_add(at), "out_components") }?;
            place.set(describe_component(&part));
        }
        out.set(describe_tensor(&info, reader.reader.index().names(), out_components));
        Ok(())
    };
    // SAFETY: passed on.
    unsafe { with(reader, body) }
}

/// Tells which components are the same blob, as those of tied weights are: a number for each component of all tensors, in
/// order. Components of the same number, other than 0, and the same element type are the same bytes; 0 stands for a
/// component that is alone. They are what ZtComponentSpec::share takes.
///
/// Ownership: the array belongs to the reader and lives as long.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_MEMORY. On error nothing is written.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_shares(
    reader: *const ZtReader,
    out_shares: *mut *const u64,
    out_count: *mut usize,
) -> ZtStatus {
    let body = |reader: &ZtReader| {
        // SAFETY: the caller lends the places for the results.
        let (shares, count) =
            unsafe { (Out::new(out_shares, "out_shares")?, Out::new(out_count, "out_count")?) };
        let found = get_or_make(&reader.shares, || reader.reader.index().shares())?;
        shares.set(found.as_ptr());
        count.set(found.len());
        Ok(())
    };
    // SAFETY: passed on.
    unsafe { with(reader, body) }
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
    let body = |reader: &ZtReader| {
        // SAFETY: the caller lends the places for the results.
        let (names, len) = unsafe { (Out::new(out_names, "out_names")?, Out::new(out_len, "out_len")?) };
        let text = reader.reader.index().names();
        names.set(text.as_ptr().cast());
        len.set(text.len());
        Ok(())
    };
    // SAFETY: passed on.
    unsafe { with(reader, body) }
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
    let body = |reader: &ZtReader| {
        // SAFETY: the caller lends a C string.
        let name = unsafe { c_text(name, "name") }?;
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_tensor, "out_tensor") }?;
        out.set(reader.reader.find(name)?);
        Ok(())
    };
    // SAFETY: passed on.
    unsafe { with(reader, body) }
}

/// Gives the checksum that the file states of a component, as text: the algorithm, a colon, and the value in hexadecimal, such
/// as "crc32:1a2b3c4d"; "" if it states none.
///
/// Our own files have the crc32 of the stored bytes, as in ZtComponent. Files of older generations also have crc32c, sha256
/// and xxh3 (of 64 bits), of the stored bytes, in generation 2 of the decoded ones.
///
/// Ownership: the caller frees `*out_text` with zt_buffer_free(). A NUL follows its bytes.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_RANGE, ZT_ERR_MEMORY. On error `*out_text` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_reader_checksum(
    reader: *const ZtReader,
    tensor: usize,
    component: usize,
    out_text: *mut *mut ZtBuffer,
) -> ZtStatus {
    let find = |reader: &Reader| {
        let mut text = reader.component(tensor, component)?.1.checksum().unwrap_or_default();
        text.push('\0');
        Ok(text_buffer(text.into_bytes()))
    };
    // SAFETY: passed on.
    unsafe { give(reader, out_text, "out_text", find) }
}

fn json(metadata: Option<&Metadata>) -> Result<*mut ZtBuffer> {
    Ok(text_buffer(metadata::to_c_json(metadata.unwrap_or(&Metadata::new()))?))
}

/// A buffer of a text whose last byte is a NUL, which it does not count.
fn text_buffer(text: Vec<u8>) -> *mut ZtBuffer {
    let len = text.len() - 1;
    ZtBuffer::handle(Buffer::from(Memory::from(text)).first(len))
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
