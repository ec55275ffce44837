//! Version 2: a footer with the index's hash, and an index of deterministic CBOR whose every rule is checked
//! when a file is opened.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::cbor::{Cbor, check_deterministic};
use super::component::{
    self, F4, RawPart, RawTensor, dense_len, logical_dtype, parse_digest, required, role_of, short_dtype,
};
use super::{Format, IndexRegion, Parsed, Shard, check_index_len, read_tail, u64_at_end};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result, ensure, fail};
use crate::formats::ElementRule;
use crate::index::{
    BlobRegion, ComponentInfo, DigestRecord, FormatRules, Index, Known, NewEncoding, NewPart, OverlapPolicy,
    TensorInfo,
};
use crate::layout::{Layout, element_count};
use crate::metadata::Metadata;
use crate::source::Source;

/// The first and the last eight bytes of a file.
const SIGNATURE: [u8; 8] = [0x89, b'Z', b'T', b'2', 0x0d, 0x0a, 0x1a, 0x0a];

/// Bytes of the footer.
const FOOTER_LEN: usize = 40;

/// Every blob begins at a multiple of this, the first one too.
const ALIGNMENT: u64 = 4096;

/// The only version of this container.
const VERSION: u32 = 2;

/// The one encoding of this version.
const SEEKABLE: &str = "zt.zstd-seekable/1";

/// The format of version 2. Its footer says where the index is, and states a checksum of it.
#[derive(Debug)]
pub(crate) struct V2;

impl Format for V2 {
    fn detect(&self, head: &[u8]) -> bool {
        head.starts_with(&SIGNATURE)
    }

    fn open(&self, source: &Source) -> Result<Parsed> {
        let mut tail = [0; FOOTER_LEN];
        let (region, expected) = find(read_tail(source, &mut tail)?, source.len())?;
        region.read(source, |bytes, cbor| {
            let found = xxh3_64(bytes);
            ensure!(
                found == expected,
                IndexChecksum,
                "the index is damaged: the footer says xxh3:{expected:016x}, its bytes give xxh3:{found:016x}"
            );
            parse(bytes, cbor, region)
        })
    }

    /// A shard of `stem.zt` is `stem-name.zt`. The name was checked when the index was read, so it cannot lead out of the
    /// directory.
    fn shard_path(&self, path: &Path, name: &str) -> PathBuf {
        let mut file = path.file_stem().unwrap_or_default().to_owned();
        file.push("-");
        file.push(name);
        file.push(".zt");
        path.with_file_name(file)
    }

    fn check_shard(&self, source: &Source) -> Result<()> {
        let (mut head, mut tail) = ([0; 8], [0; FOOTER_LEN]);
        source.read(0, &mut head)?;
        ensure!(self.detect(&head), Signature, "the shard does not begin with the signature of generation 2");
        check_end(read_tail(source, &mut tail)?)
    }

    /// Bools are 0 or 1, and the spare half of the last byte of an odd number of four-bit elements is zero.
    fn element_rule(&self, tensor: TensorInfo<'_>, component: ComponentInfo<'_>) -> Option<ElementRule> {
        match component.dtype() {
            Known::Known(DType::Bool) => Some(ElementRule::Bool),
            Known::Unknown(F4) => {
                let is_odd = element_count(tensor.shape()).is_some_and(|count| count % 2 == 1);
                is_odd.then_some(ElementRule::SpareNibble)
            }
            _ => None,
        }
    }

    fn has_ordered_indices(&self) -> bool {
        true
    }
}

/// Finds the index by the footer, `tail`, and returns the checksum that it states.
fn find(tail: &[u8], file_size: u64) -> Result<(IndexRegion, u64)> {
    let least = 8 + FOOTER_LEN as u64;
    ensure!(file_size >= least, Truncated, "the file has {file_size} bytes, the smallest has {least}");
    let word = |before| u64_at_end(tail, before).unwrap_or_default();
    check_end(tail)?;
    let (offset, len, hash) = (word(32), word(24), word(16));
    if (offset, len, hash) == (0, 0, 0) {
        fail!(Index, "the file is a shard: it holds blobs for another file and has no index of its own");
    }
    check_index_len(len)?;
    ensure!(len > 0, Footer, "the footer states an index of no bytes, but a place or a checksum for it");
    ensure!(
        offset.is_multiple_of(ALIGNMENT),
        Footer,
        "the footer places the index at {offset}, which is not aligned to {ALIGNMENT} bytes"
    );
    ensure!(
        offset >= ALIGNMENT
            && offset.checked_add(len).is_some_and(|end| end <= file_size - FOOTER_LEN as u64),
        Footer,
        "the footer places the index of {len} bytes at {offset}, outside the part for blobs of a file of {file_size} bytes"
    );
    Ok((IndexRegion { offset, len, file_size }, hash))
}

/// Checks signature and version at the end of a file.
fn check_end(tail: &[u8]) -> Result<()> {
    ensure!(
        tail.ends_with(&SIGNATURE),
        Truncated,
        "the file does not end in a footer: it was truncated, or its writer did not finish"
    );
    let version = u64_at_end(tail, 8).unwrap_or_default() as u32;
    ensure!(version == VERSION, Version, "the footer says version {version}, expected {VERSION}");
    Ok(())
}

/// Checks the name of a tensor, a component or an attribute.
fn check_name(name: &str) -> Result<()> {
    ensure!(!name.is_empty(), Name, "a name is empty");
    ensure!(name.len() <= 1024, Name, "a name has {} bytes, the limit is 1024", name.len());
    ensure!(!name.contains('\0'), Name, "the name {name:?} holds a NUL");
    Ok(())
}

/// Checks the name of a shard, which becomes part of a file's name.
fn check_shard_name(name: &str) -> Result<()> {
    ensure!(
        (1..=64).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)),
        Name,
        "the shard's name {name:?} is not 1 to 64 of A-Z a-z 0-9 . _ - without a dot in front"
    );
    Ok(())
}

/// Reads a checksum, whose text form is strict here. One of an algorithm that is not known is none.
fn digest(text: &str) -> Result<Option<crate::digest::Digest>> {
    let lower_hex = |value: &str| {
        !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let Some((algorithm, _)) =
        text.split_once(':').filter(|(name, value)| !name.is_empty() && lower_hex(value))
    else {
        fail!(Index, "{text:?} is no checksum: an algorithm, a colon, lower-case hexadecimal digits");
    };
    let digest = parse_digest(text);
    ensure!(
        digest.is_some() || !matches!(algorithm, "xxh3" | "sha256"),
        Index,
        "the checksum {text:?} has not the length of its algorithm's"
    );
    Ok(digest)
}

/// Reads attributes and checks their names.
fn attributes(cbor: &mut Cbor<'_>) -> Result<Metadata> {
    let attributes = cbor.attributes_map()?;
    attributes.keys().try_for_each(|key| check_name(key))?;
    Ok(attributes)
}

/// Reads an index from its bytes.
fn parse(bytes: &[u8], mut cbor: Cbor<'_>, region: IndexRegion) -> Result<Parsed> {
    check_deterministic(bytes)?;
    let mut index = Index::default();
    let mut shards: Vec<Shard> = Vec::new();
    let mut objects = None;
    cbor.map(|cbor, key| {
        match key {
            // The shards, which the objects name, come first in the keys' order. Yet nothing rests on it.
            "objects" => objects = Some(cbor.mark_and_skip()?),
            "shards" => cbor.map(|cbor, name| {
                ensure!(shards.len() + 1 < usize::from(u16::MAX), Limit, "more than 65534 shards");
                shards.push(shard(cbor, name)?);
                Ok(())
            })?,
            "attributes" => index.metadata = attributes(cbor)?,
            _ => cbor.skip()?,
        }
        Ok(())
    })?;
    let numbers: HashMap<&str, u16> =
        shards.iter().zip(1..).map(|(shard, number)| (shard.name.as_str(), number)).collect();
    cbor.go_to(required(objects, "the map of objects")?);
    cbor.map(|cbor, name| {
        check_name(name)
            .and_then(|()| push(&mut index, name, tensor(cbor)?, &numbers))
            .map_err(|err| err.in_tensor(name))
    })?;
    let footer = FOOTER_LEN as u64;
    let extent = |size: u64| BlobRegion { end: size.saturating_sub(footer), file_size: size };
    let sizes = std::iter::once(region.file_size).chain(shards.iter().map(|shard| shard.size));
    let rules = FormatRules {
        files: sizes.map(extent).collect(),
        first: ALIGNMENT,
        alignment: ALIGNMENT,
        overlap: OverlapPolicy::SameRange,
        index: Some((region.offset, region.len)),
    };
    Ok(Parsed { name: c"zt/2", index, shards, rules })
}

fn shard(cbor: &mut Cbor<'_>, name: &str) -> Result<Shard> {
    check_shard_name(name)?;
    let (mut size, mut text) = (None, None);
    cbor.map(|cbor, key| {
        match key {
            "size" => size = Some(cbor.uint()?),
            "digest" => text = Some(cbor.text()?),
            _ => cbor.skip()?,
        }
        Ok(())
    })?;
    let size = required(size, "the size of a shard")?;
    ensure!(
        size >= 8 + FOOTER_LEN as u64,
        Size,
        "the shard {name:?} of {size} bytes is smaller than a footer"
    );
    let digest = text.as_deref().map(digest).transpose()?.flatten();
    Ok(Shard { name: name.to_owned(), size, digest })
}

fn tensor<'b>(cbor: &mut Cbor<'b>) -> Result<RawTensor<'b>> {
    let mut tensor = RawTensor::default();
    cbor.map(|cbor, key| {
        match key {
            "shape" => tensor.shape = Some(cbor.shape()?),
            "layout" => tensor.layout = Some(cbor.text()?),
            "parts" => tensor.parts = Some(component::parts(cbor, component)?),
            "attributes" => tensor.attributes = attributes(cbor)?,
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
            "type" => part.logical = Some(cbor.text()?),
            "blob" => {
                let mut place = Vec::new();
                cbor.array(|cbor| {
                    ensure!(
                        place.len() < 2,
                        Index,
                        "a blob is an offset and a length, here is a third number"
                    );
                    place.push(cbor.uint()?);
                    Ok(())
                })?;
                ensure!(
                    place.len() == 2,
                    Index,
                    "a blob is an offset and a length, here are {}",
                    place.len()
                );
                (part.offset, part.size) = (Some(place[0]), Some(place[1]));
            }
            "shard" => part.shard = Some(cbor.text()?),
            "encoding" => part.encoding = Some(cbor.text()?),
            "decoded_length" => part.decoded_len = Some(cbor.uint()?),
            "digest" => part.digest = Some(cbor.text()?),
            _ => cbor.skip()?,
        }
        Ok(())
    })
}

fn push(index: &mut Index, name: &str, tensor: RawTensor<'_>, shards: &HashMap<&str, u16>) -> Result<()> {
    let mut shape = required(tensor.shape, "the shape")?;
    ensure!(element_count(&shape).is_some(), Shape, "shape {shape:?} has more than 2^63 - 1 elements");
    let layout = match required(tensor.layout.as_deref(), "the layout")? {
        "dense" => Known::Known(Layout::Dense),
        "zt.sparse_csr/1" => Known::Known(Layout::SparseCsr),
        "zt.sparse_coo/1" => Known::Known(Layout::SparseCoo),
        other => Known::Unknown(other),
    };
    let raw_parts = required(tensor.parts, "the map of parts")?;
    ensure!(!raw_parts.is_empty(), Index, "the map of parts is empty");
    let mut parts = Vec::with_capacity(raw_parts.len());
    for raw in &raw_parts {
        let part = convert(raw, &shape, layout, shards);
        parts.push(part.map_err(|err| err.in_component(&raw.role))?);
    }
    if layout == Known::Known(Layout::Dense)
        && let [NewPart { dtype: Known::Known(DType::Float4E2M1FnX2), .. }] = parts[..]
        && let Some(last) = shape.last_mut()
    {
        // Our type of two elements in a byte counts bytes.
        *last /= 2;
    }
    if layout.known().is_some_and(|layout| layout != Layout::Dense) {
        check_index_types(&parts)?;
    }
    component::push(index, name, &shape, layout, &mut parts, tensor.attributes)
}

/// Checks that the index components of a sparse tensor are all of one unsigned type.
fn check_index_types(parts: &[NewPart<'_>]) -> Result<()> {
    let mut types = parts
        .iter()
        .filter(|part| part.role != Known::Known(crate::layout::Role::Values))
        .map(|part| part.dtype);
    let first = types.next();
    ensure!(
        matches!(first, None | Some(Known::Known(DType::UInt32 | DType::UInt64)))
            && types.all(|dtype| Some(dtype) == first),
        Layout,
        "the index components are not all of one type, u32 or u64"
    );
    Ok(())
}

fn convert<'a>(
    raw: &'a RawPart<'_>,
    shape: &[u64],
    layout: Known<'_, Layout>,
    shards: &HashMap<&str, u16>,
) -> Result<NewPart<'a>> {
    check_name(&raw.role)?;
    let storage_name = required(raw.dtype.as_deref(), "the dtype")?;
    let storage = short_dtype(storage_name).filter(|dtype| *dtype != DType::Bool).ok_or_else(|| {
        Error::new(ErrorKind::UnknownDtype, format!("the dtype {storage_name:?} is no storage type"))
    })?;
    let (offset, size) = (required(raw.offset, "the blob")?, required(raw.size, "the blob")?);
    // That of a blob of no bytes is looked at nowhere else.
    ensure!(offset >= ALIGNMENT, Offset, "the blob at {offset} begins before {ALIGNMENT}");
    let dense = layout == Known::Known(Layout::Dense);
    let file = match raw.shard.as_deref() {
        None => 0,
        Some(name) => *shards.get(name).ok_or_else(|| {
            Error::new(ErrorKind::Index, format!("the shard {name:?} is not in the table of shards"))
        })?,
    };
    let encoding = match (raw.encoding.as_deref(), raw.decoded_len) {
        (None, None) => NewEncoding::Raw,
        (Some(SEEKABLE), Some(raw_size)) => NewEncoding::Seekable { raw_size },
        (Some(other), Some(_)) => NewEncoding::Unknown(other),
        (Some(name), None) => fail!(Encoding, "the encoding {name:?} has no decoded length beside it"),
        (None, Some(len)) => fail!(Encoding, "the decoded length {len} has no encoding beside it"),
    };
    let len = raw.decoded_len.unwrap_or(size);
    let dtype = match raw.logical.as_deref() {
        None => Known::Known(storage),
        Some(logical) => match logical_dtype(logical) {
            None => Known::Unknown(logical),
            Some((over, dtype)) => {
                ensure!(
                    over == storage,
                    Layout,
                    "the type {logical:?} lies in {}, here it is {}",
                    over.name(),
                    storage.name()
                );
                // Half bytes have a type of ours only where two and two of them fill the last dimension; in a
                // layout that we do not know, the component is whole bytes whatever they mean.
                let is_even = shape.last().is_some_and(|last| last % 2 == 0);
                if logical != F4 || (dense && is_even) || layout.known().is_none() {
                    Known::Known(dtype)
                } else {
                    if dense && dense_len(shape, 1).map(|count| count.div_ceil(2)) != Some(len) {
                        fail!(
                            Size,
                            "{len} bytes, the shape asks for half as many as its elements, rounded up"
                        );
                    }
                    Known::Unknown(logical)
                }
            }
        },
    };
    let digest = raw.digest.as_deref().map(digest).transpose()?.flatten();
    let digest = digest.map(|digest| DigestRecord { digest, decoded: true, offset, len: size });
    Ok(NewPart { role: role_of(&raw.role, layout), dtype, file, offset, size, encoding, digest })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_file_without_a_footer_is_truncated() {
        assert_eq!(find(&SIGNATURE, 8).unwrap_err().kind(), ErrorKind::Truncated);
    }

    #[test]
    fn shards_are_beside_their_file() {
        assert_eq!(V2.shard_path(Path::new("/models/m.v1.zt"), "00001"), Path::new("/models/m.v1-00001.zt"));
        assert_eq!(V2.shard_path(Path::new("m.zt"), "a"), Path::new("m-a.zt"));
    }
}
