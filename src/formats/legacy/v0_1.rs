//! Version 0.1: a CBOR array with one map per tensor.

use std::borrow::Cow;

use super::cbor::Cbor;
use super::component::{self, long_dtype, required, stored_digest, stream};
use super::{Format, Parsed, find_index, read_tail};
use crate::codec::Arrangement;
use crate::dtype::DType;
use crate::error::{Result, ensure, fail};
use crate::index::{DuplicatePolicy, Index, Known, NewEncoding, NewPart};
use crate::layout::{Layout, Role};
use crate::metadata::Metadata;
use crate::source::Source;

/// The format of version 0.1. Its index is at the end, followed by its length.
#[derive(Debug)]
pub(crate) struct V0_1;

impl Format for V0_1 {
    fn detect(&self, head: &[u8]) -> bool {
        head.starts_with(b"ZTEN0001")
    }

    fn open(&self, source: &Source) -> Result<Parsed> {
        let mut tail = [0; 8];
        let region = find_index(read_tail(source, &mut tail)?, source.len(), b"")?;
        let index = region.read(source, |_, cbor| parse(cbor, region.offset))?;
        Ok(region.parsed(c"zten/0.1", index))
    }
}

/// One entry of the array.
#[derive(Default)]
struct Entry<'b> {
    name: Option<Cow<'b, str>>,
    offset: Option<u64>,
    size: Option<u64>,
    dtype: Option<Cow<'b, str>>,
    layout: Option<Cow<'b, str>>,
    shape: Option<Vec<u64>>,
    encoding: Option<Cow<'b, str>>,
    endianness: Option<Cow<'b, str>>,
    checksum: Option<Cow<'b, str>>,
}

/// Reads an index, which begins at `end`. Of several tensors of one name the first counts.
fn parse(mut cbor: Cbor<'_>, end: u64) -> Result<Index> {
    let mut index = Index::default();
    cbor.array(|cbor| {
        let mut entry = Entry::default();
        cbor.map(|cbor, key| {
            match key {
                "name" => entry.name = Some(cbor.text()?),
                "offset" => entry.offset = Some(cbor.uint()?),
                "size" => entry.size = Some(cbor.uint()?),
                "dtype" => entry.dtype = Some(cbor.text()?),
                "layout" => entry.layout = Some(cbor.text()?),
                "shape" => entry.shape = Some(cbor.shape()?),
                "encoding" => entry.encoding = Some(cbor.text()?),
                "data_endianness" => entry.endianness = cbor.optional_text()?,
                "checksum" => entry.checksum = cbor.optional_text()?,
                _ => cbor.skip()?,
            }
            Ok(())
        })?;
        let name = required(entry.name.take(), "a tensor's name")?;
        push(&mut index, &name, &entry, end).map_err(|err| err.in_tensor(&name))
    })?;
    index.drop_duplicates(DuplicatePolicy::First)?;
    Ok(index)
}

fn push(index: &mut Index, name: &str, entry: &Entry<'_>, end: u64) -> Result<()> {
    let dtype = long_dtype(required(entry.dtype.as_deref(), "the dtype")?);
    let shape = required(entry.shape.as_deref(), "the shape")?;
    let encoding = required(entry.encoding.as_deref(), "the encoding")?;
    let offset = required(entry.offset, "the offset")?;
    let size = required(entry.size, "the size")?;
    let swapped = match entry.endianness.as_deref() {
        None | Some("little") => false,
        Some("big") => true,
        Some(other) => fail!(Index, "the data_endianness is {other:?}, neither little nor big"),
    };
    let digest = stored_digest(entry.checksum.as_deref(), offset, size);
    let blob = Blob { shape, offset, size, swapped };
    let layout_name = entry.layout.as_deref().unwrap_or("dense");
    let part = NewPart {
        role: Known::Known(Role::Data),
        dtype,
        file: 0,
        offset,
        size,
        encoding: NewEncoding::Raw,
        digest,
    };
    let (layout, mut parts) = match (layout_name, encoding, dtype) {
        ("dense", "raw", Known::Known(dtype)) if swapped && dtype.size() > 1 => {
            let width = dtype.size() as u64;
            let encoding =
                NewEncoding::Arranged(arrangement(&blob, width, width, size / width, size / width));
            blob.check(end)?;
            // An odd byte would be lost in the arrangement.
            ensure!(size.is_multiple_of(width), Size, "{size} bytes are no whole number of elements");
            (Known::Known(Layout::Dense), vec![NewPart { encoding, ..part }])
        }
        ("sparsecsr" | "sparsecoo", "raw", Known::Known(dtype)) => {
            blob.check(end)?;
            let is_csr = layout_name == "sparsecsr";
            let fields = if is_csr { blob.csr(dtype)? } else { blob.coo(dtype)? };
            let parts = fields.into_iter().map(|(role, dtype, offset, size, arrangement)| NewPart {
                role: Known::Known(role),
                dtype: Known::Known(dtype),
                offset,
                size,
                encoding: NewEncoding::Arranged(arrangement),
                ..part
            });
            (Known::Known(if is_csr { Layout::SparseCsr } else { Layout::SparseCoo }), parts.collect())
        }
        _ => {
            let is_dense = layout_name == "dense";
            let raw_size = dtype.known().filter(|_| is_dense);
            let encoding = match encoding {
                "raw" => NewEncoding::Raw,
                "zstd" => stream(raw_size.and_then(|dtype| component::dense_len(shape, dtype.size()))),
                other => NewEncoding::Unknown(other),
            };
            let layout = if is_dense { Known::Known(Layout::Dense) } else { Known::Unknown(layout_name) };
            (layout, vec![NewPart { encoding, ..part }])
        }
    };
    component::push(index, name, shape, layout, &mut parts, Metadata::new())
}

/// Role, element type, offset, stored size and arrangement of a component that is part of a blob.
type Field = (Role, DType, u64, u64, Arrangement);

/// The one blob of a sparse or a big-endian tensor, which is read in parts or element by element.
struct Blob<'a> {
    shape: &'a [u64],
    offset: u64,
    size: u64,
    swapped: bool,
}

/// The arrangement of `count` items in blocks of `block`.
fn arrangement(blob: &Blob<'_>, width: u64, stride: u64, block: u64, count: u64) -> Arrangement {
    Arrangement {
        width: width as u8,
        swapped: blob.swapped,
        stride,
        count: block,
        step: 8,
        len: count * width,
    }
}

impl Blob<'_> {
    /// Checks where the blob stands, before places inside it are computed.
    fn check(&self, end: u64) -> Result<()> {
        let (offset, size) = (self.offset, self.size);
        ensure!(
            offset.is_multiple_of(64)
                && offset >= 64
                // An empty blob stands where the next one would begin.
                && offset <= end + 64
                && offset.checked_add(size).is_some_and(|blob_end| blob_end <= end || size == 0),
            Offset,
            "the blob of {size} bytes at {offset} is not aligned to 64, or lies outside the part for blobs"
        );
        Ok(())
    }

    /// The number of stored entries: what is left after `before` bytes, in entries of `each`.
    fn entries(&self, before: Option<u64>, each: u64) -> Result<u64> {
        match before.and_then(|before| self.size.checked_sub(before)) {
            Some(left) if left.is_multiple_of(each) => Ok(left / each),
            _ => {
                fail!(Size, "the sparse blob of {} bytes does not fit the shape {:?}", self.size, self.shape)
            }
        }
    }

    /// Row starts, columns, values: one behind the other.
    fn csr(&self, dtype: DType) -> Result<Vec<Field>> {
        let &[rows, _] = self.shape else {
            fail!(Layout, "a sparsecsr tensor has two dimensions, this one has shape {:?}", self.shape);
        };
        let width = dtype.size() as u64;
        let starts = rows.checked_add(1).and_then(|count| count.checked_mul(8));
        let nnz = self.entries(starts, 8 + width)?;
        let starts = starts.unwrap_or_default();
        let field = |role, dtype: DType, at, count| {
            let width = dtype.size() as u64;
            (role, dtype, self.offset + at, count * width, arrangement(self, width, width, count, count))
        };
        Ok(vec![
            field(Role::Indptr, DType::UInt64, 0, starts / 8),
            field(Role::Indices, DType::UInt64, starts, nnz),
            field(Role::Values, dtype, starts + 8 * nnz, nnz),
        ])
    }

    /// Records of the coordinates and the value of one entry each.
    fn coo(&self, dtype: DType) -> Result<Vec<Field>> {
        let ndim = self.shape.len() as u64;
        let (width, stride) = (dtype.size() as u64, 8 * ndim + dtype.size() as u64);
        let nnz = self.entries(Some(0), stride)?;
        // Each field reaches from its first item to its last.
        let reach = |len: u64| if nnz == 0 { 0 } else { (nnz - 1) * stride + len };
        let values = arrangement(self, width, stride, nnz, nnz);
        let indices = arrangement(self, 8, stride, nnz, nnz * ndim);
        Ok(vec![
            (Role::Values, dtype, self.offset + 8 * ndim, reach(width), values),
            (Role::Indices, DType::UInt64, self.offset, reach(8 * ndim), indices),
        ])
    }
}
