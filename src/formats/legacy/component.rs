//! Components of the legacy formats: names of types, text forms of checksums, and the conversion from a
//! component as written to one of our own.

use std::borrow::Cow;

use super::cbor::Cbor;
use crate::digest::Digest;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::hex::unhex;
use crate::index::{DigestRecord, Index, Known, NewEncoding, NewPart, NewTensor};
use crate::layout::{Layout, Role, element_count};
use crate::metadata::Metadata;

/// The element types of versions 0.1 and 1.0, whose long names are those of `zt/1`.
const LONG: [DType; 13] = [
    DType::Float64,
    DType::Float32,
    DType::Float16,
    DType::BFloat16,
    DType::Int64,
    DType::Int32,
    DType::Int16,
    DType::Int8,
    DType::UInt64,
    DType::UInt32,
    DType::UInt16,
    DType::UInt8,
    DType::Bool,
];

/// The short names of later versions, in the same order.
const SHORT: [&str; 13] =
    ["f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8", "bool"];

/// Logical types: name, the storage type that they lie in, our type.
const LOGICAL: [(&str, DType, DType); 9] = [
    ("bool", DType::UInt8, DType::Bool),
    ("f8_e4m3fn", DType::UInt8, DType::Float8E4M3Fn),
    ("f8_e5m2", DType::UInt8, DType::Float8E5M2),
    ("f8_e4m3fnuz", DType::UInt8, DType::Float8E4M3FnUz),
    ("f8_e5m2fnuz", DType::UInt8, DType::Float8E5M2FnUz),
    ("f8_e8m0", DType::UInt8, DType::Float8E8M0Fnu),
    (F4, DType::UInt8, DType::Float4E2M1FnX2),
    ("complex64", DType::Float32, DType::Complex64),
    ("complex128", DType::Float64, DType::Complex128),
];

/// The logical type of two elements in a byte. It is an unknown one of ours where the shape does not count whole bytes.
pub(super) const F4: &str = "f4_e2m1";

/// The element type of a long name.
pub(super) fn long_dtype(name: &str) -> Known<'_, DType> {
    DType::from_name(name).filter(|dtype| LONG.contains(dtype)).map_or(Known::Unknown(name), Known::Known)
}

/// The element type of a short name.
pub(super) fn short_dtype(name: &str) -> Option<DType> {
    SHORT.iter().position(|short| *short == name).map(|at| LONG[at])
}

/// The storage type and the element type of a logical type.
pub(super) fn logical_dtype(name: &str) -> Option<(DType, DType)> {
    LOGICAL.iter().find(|row| row.0 == name).map(|row| (row.1, row.2))
}

fn from_hex<const LEN: usize>(text: &str) -> Option<[u8; LEN]> {
    // Text of another length, however long, takes no memory.
    let text = Some(text).filter(|text| text.len() == 2 * LEN)?;
    unhex(text)?.try_into().ok()
}

/// Reads the text form of a checksum, hexadecimal in either case. An algorithm or a form that is not known is
/// none, as the public readers have it.
pub(super) fn parse_digest(text: &str) -> Option<Digest> {
    let (algorithm, value) = text.split_once(':')?;
    match algorithm {
        "crc32c" => Some(Digest::Crc32c(u32::from_be_bytes(from_hex(value.strip_prefix("0x")?)?))),
        "sha256" => from_hex(value).map(Digest::Sha256),
        "xxh3" => Some(Digest::Xxh3(u64::from_be_bytes(from_hex(value)?))),
        _ => None,
    }
}

/// A component as an index of version 1 or 2 describes it.
#[derive(Debug, Default)]
pub(super) struct RawPart<'b> {
    pub(super) role: Cow<'b, str>,
    pub(super) dtype: Option<Cow<'b, str>>,
    /// The logical type.
    pub(super) logical: Option<Cow<'b, str>>,
    pub(super) offset: Option<u64>,
    pub(super) size: Option<u64>,
    pub(super) decoded_len: Option<u64>,
    pub(super) encoding: Option<Cow<'b, str>>,
    pub(super) digest: Option<Cow<'b, str>>,
    pub(super) shard: Option<Cow<'b, str>>,
}

/// An object as an index of version 1 or 2 describes it.
#[derive(Debug, Default)]
pub(super) struct RawTensor<'b> {
    /// The element type in version 1.0, where all components of a tensor have the same one.
    pub(super) dtype: Option<Cow<'b, str>>,
    pub(super) shape: Option<Vec<u64>>,
    pub(super) layout: Option<Cow<'b, str>>,
    pub(super) parts: Option<Vec<RawPart<'b>>>,
    pub(super) attributes: Metadata,
}

/// More components than this do not fit in our index; a limit here keeps memory bounded while they are parsed.
const MAX_PARTS: usize = 255;

/// Reads a map of components.
pub(super) fn parts<'b>(
    cbor: &mut Cbor<'b>,
    mut read: impl FnMut(&mut Cbor<'b>, &mut RawPart<'b>) -> Result<()>,
) -> Result<Vec<RawPart<'b>>> {
    let mut parts: Vec<RawPart<'b>> = Vec::new();
    cbor.map(|cbor, role| {
        let mut part = RawPart { role: Cow::Owned(role.to_owned()), ..RawPart::default() };
        read(cbor, &mut part)?;
        match parts.iter_mut().find(|before| before.role == part.role) {
            // Where a key may stand twice at all, the last one counts.
            Some(before) => *before = part,
            None => parts.push(part),
        }
        crate::error::ensure!(parts.len() <= MAX_PARTS, Limit, "more than {MAX_PARTS} components");
        Ok(())
    })?;
    Ok(parts)
}

/// What must be there.
pub(super) fn required<T>(value: Option<T>, what: &str) -> Result<T> {
    value.ok_or_else(|| Error::new(ErrorKind::Index, format!("{what} is missing")))
}

/// Puts components in the order of their layout, and adds the tensor to the index.
pub(super) fn push(
    index: &mut Index,
    name: &str,
    shape: &[u64],
    layout: Known<'_, Layout>,
    parts: &mut [NewPart<'_>],
    attributes: Metadata,
) -> Result<()> {
    if let Known::Known(layout) = layout {
        let place = |part: &NewPart<'_>| {
            layout.roles().iter().position(|role| part.role == Known::Known(*role)).unwrap_or(usize::MAX)
        };
        parts.sort_by_key(place);
    }
    // Of an unknown layout, the tensor's own type is that of whatever comes first.
    let dtype = parts.first().map_or(Known::Unknown("none"), |part| part.dtype);
    index.push_foreign(NewTensor { name, dtype, shape, layout, parts, attributes })
}

/// The role of this name; the name `coords` is another one for the indices of a COO tensor.
pub(super) fn role_of<'a>(name: &'a str, layout: Known<'_, Layout>) -> Known<'a, Role> {
    match (name, layout) {
        ("coords", Known::Known(Layout::SparseCoo)) => Known::Known(Role::Indices),
        ("indices", Known::Known(Layout::SparseCoo)) => Known::Unknown(name),
        _ => Role::from_name(name).map_or(Known::Unknown(name), Known::Known),
    }
}

/// How a component of one zstd stream is stored. The stream need not say what it decodes to: what the index says
/// counts, or what shape and type ask for. If neither is known, it cannot be decoded.
pub(super) fn stream(raw_size: Option<u64>) -> NewEncoding<'static> {
    raw_size.map_or(NewEncoding::Unknown("zstd"), |raw_size| NewEncoding::Stream { raw_size })
}

/// The bytes that a dense tensor takes.
pub(super) fn dense_len(shape: &[u64], width: usize) -> Option<u64> {
    element_count(shape)?.checked_mul(width as u64)
}

/// Returns the record of a checksum of the stored bytes, as versions before 2 have it.
pub(super) fn stored_digest(text: Option<&str>, offset: u64, len: u64) -> Option<DigestRecord> {
    // A SHA-256 that is cut short is still one that does not match; zeros stand for it.
    let cut_short = || text?.starts_with("sha256:").then_some(Digest::Sha256([0; 32]));
    let digest = parse_digest(text?).or_else(cut_short)?;
    Some(DigestRecord { digest, decoded: false, offset, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_read_as_the_public_readers_do() {
        assert_eq!(parse_digest("crc32c:0xE3069283"), Some(Digest::Crc32c(0xe306_9283)));
        assert_eq!(parse_digest("crc32c:0xe3069283"), Some(Digest::Crc32c(0xe306_9283)));
        assert_eq!(parse_digest("xxh3:2d06800538d394c2"), Some(Digest::Xxh3(0x2d06_8005_38d3_94c2)));
        for ignored in
            ["crc32c:E3069283", "crc32c:0xE306928", "md5:00", "crc32c", "sha256:00", "crc32c:0x+3069283"]
        {
            assert_eq!(parse_digest(ignored), None, "{ignored}");
        }
    }

    #[test]
    fn names_of_types() {
        assert_eq!(long_dtype("bfloat16"), Known::Known(DType::BFloat16));
        assert_eq!(long_dtype("complex64"), Known::Unknown("complex64"));
        for (short, dtype) in SHORT.iter().zip(LONG) {
            assert_eq!(short_dtype(short), Some(dtype));
        }
        for (name, storage, dtype) in LOGICAL {
            assert_eq!(dtype.size() % storage.size(), 0, "{name}");
        }
    }
}
