//! Versions 1.0, 1.1 and 1.2: a CBOR map with a map of tensors inside.

use std::borrow::Cow;
use std::ffi::CStr;

use super::cbor::Cbor;
use super::component::{
    self, RawPart, RawTensor, logical_dtype, long_dtype, required, role_of, short_dtype, stored_digest,
    stream,
};
use super::{Format, Parsed, find_index, read_tail};
use crate::dtype::DType;
use crate::error::{Result, ensure};
use crate::index::{DuplicatePolicy, Index, Known, NewEncoding, NewPart};
use crate::layout::{Layout, element_count};
use crate::source::Source;

/// What every file begins with, and one of version 1.1 or 1.2 ends with.
const SIGNATURE: [u8; 8] = *b"ZTEN1000";

/// The format of versions 1.0, 1.1 and 1.2. Its index is at the end, followed by its length, and from 1.1 on by the
/// signature.
#[derive(Debug)]
pub(crate) struct V1;

impl Format for V1 {
    fn detect(&self, head: &[u8]) -> bool {
        head.starts_with(&SIGNATURE)
    }

    fn open(&self, source: &Source) -> Result<Parsed> {
        let mut tail = [0; 16];
        let tail = read_tail(source, &mut tail)?;
        let is_1_0 = !tail.ends_with(&SIGNATURE);
        let region = find_index(tail, source.len(), if is_1_0 { b"" } else { &SIGNATURE })?;
        let (name, index) = region.read(source, |_, cbor| match is_1_0 {
            true => parse_1_0(cbor).map(|index| (c"zten/1.0", index)),
            false => parse(cbor),
        })?;
        Ok(region.parsed(name, index))
    }
}

/// Reads an index of version 1.0.
fn parse_1_0(cbor: Cbor<'_>) -> Result<Index> {
    let (version, index) = read(cbor, "tensors")?;
    ensure!(
        version.split('.').next() == Some("1"),
        Version,
        "the index is of version {version:?}, this library reads 1.x of this container"
    );
    Ok(index)
}

/// Reads an index of version 1.1 or 1.2, and returns which one it is. The version is not checked otherwise, as in the
/// public readers.
fn parse(cbor: Cbor<'_>) -> Result<(&'static CStr, Index)> {
    let (version, index) = read(cbor, "objects")?;
    let is_1_1 = version == "1.1" || version.starts_with("1.1.");
    Ok((if is_1_1 { c"zten/1.1" } else { c"zten/1.2" }, index))
}

/// Reads the root; `tensors` is the key of the tensors. Of several tensors of one name the last counts.
fn read<'b>(mut cbor: Cbor<'b>, tensors: &str) -> Result<(Cow<'b, str>, Index)> {
    let mut index = Index::default();
    let (mut version, mut has_tensors) = (None, false);
    cbor.map(|cbor, key| {
        match key {
            "version" => version = Some(cbor.text()?),
            "attributes" => index.metadata = cbor.attributes()?,
            key if key == tensors => {
                has_tensors = true;
                cbor.map(|cbor, name| {
                    tensor(cbor)
                        .and_then(|tensor| push(&mut index, name, tensor))
                        .map_err(|err| err.in_tensor(name))
                })?;
            }
            _ => cbor.skip()?,
        }
        Ok(())
    })?;
    ensure!(has_tensors, Index, "the index has no {tensors:?}");
    index.drop_duplicates(DuplicatePolicy::Last)?;
    Ok((required(version, "the version")?, index))
}

fn tensor<'b>(cbor: &mut Cbor<'b>) -> Result<RawTensor<'b>> {
    let mut tensor = RawTensor::default();
    cbor.map(|cbor, key| {
        match key {
            "dtype" => tensor.dtype = cbor.optional_text()?,
            "shape" => tensor.shape = Some(cbor.shape()?),
            "format" => tensor.layout = Some(cbor.text()?),
            "attributes" => tensor.attributes = cbor.attributes()?,
            "components" => tensor.parts = Some(component::parts(cbor, component)?),
            _ => cbor.skip()?,
        }
        Ok(())
    })?;
    Ok(tensor)
}

fn component<'b>(cbor: &mut Cbor<'b>, part: &mut RawPart<'b>) -> Result<()> {
    cbor.map(|cbor, key| {
        match key {
            "dtype" => part.dtype = Some(cbor.text()?),
            "type" => part.logical = cbor.optional_text()?,
            "offset" => part.offset = Some(cbor.uint()?),
            "length" => part.size = Some(cbor.uint()?),
            "uncompressed_length" => part.decoded_len = cbor.optional_uint()?,
            "encoding" => part.encoding = cbor.optional_text()?,
            "digest" => part.digest = cbor.optional_text()?,
            _ => cbor.skip()?,
        }
        Ok(())
    })
}

fn push(index: &mut Index, name: &str, tensor: RawTensor<'_>) -> Result<()> {
    let shape = required(tensor.shape, "the shape")?;
    let layout = match required(tensor.layout.as_deref(), "the format")? {
        "dense" => Known::Known(Layout::Dense),
        "sparse_csr" => Known::Known(Layout::SparseCsr),
        "sparse_coo" => Known::Known(Layout::SparseCoo),
        other => Known::Unknown(other),
    };
    let raw_parts = required(tensor.parts, "the map of components")?;
    let mut parts = Vec::with_capacity(raw_parts.len());
    for raw in &raw_parts {
        let part = convert(raw, tensor.dtype.as_deref(), &shape, layout);
        parts.push(part.map_err(|err| err.in_component(&raw.role))?);
    }
    component::push(index, name, &shape, layout, &mut parts, tensor.attributes)
}

/// Converts a component. `whole` is the element type in version 1.0, which belongs to the tensor.
fn convert<'a>(
    raw: &'a RawPart<'_>,
    whole: Option<&'a str>,
    shape: &[u64],
    layout: Known<'_, Layout>,
) -> Result<NewPart<'a>> {
    let offset = required(raw.offset, "the offset")?;
    let size = required(raw.size, "the length")?;
    let is_index = matches!(&*raw.role, "indices" | "indptr" | "coords") && layout.known().is_some();
    let dtype = match (raw.dtype.as_deref(), raw.logical.as_deref()) {
        (None, _) if is_index => Known::Known(DType::UInt64),
        (None, _) => long_dtype(required(whole, "the dtype")?),
        (Some(name), None) => short_dtype(name).map_or(Known::Unknown(name), Known::Known),
        // A logical type over another storage type than its own is as unknown as one that we do not know. That of
        // half bytes came with version 2.
        (Some(name), Some(logical)) => logical_dtype(logical)
            .filter(|row| Some(row.0) == short_dtype(name) && logical != component::F4)
            .map_or(Known::Unknown(logical), |row| Known::Known(row.1)),
    };
    let count = match (layout, &*raw.role) {
        (Known::Known(Layout::Dense), "data") => element_count(shape),
        (Known::Known(Layout::SparseCsr), "indptr") => shape.first().and_then(|rows| rows.checked_add(1)),
        _ => None,
    };
    let width = dtype.known().map(|dtype| dtype.size() as u64);
    let asked = count.zip(width).and_then(|(count, width)| count.checked_mul(width));
    let encoding = match raw.encoding.as_deref() {
        None | Some("raw") => NewEncoding::Raw,
        Some("zstd") => stream(raw.decoded_len.or(asked)),
        Some(other) => NewEncoding::Unknown(other),
    };
    Ok(NewPart {
        role: role_of(&raw.role, layout),
        dtype,
        file: 0,
        offset,
        size,
        encoding,
        digest: stored_digest(raw.digest.as_deref(), offset, size),
    })
}
