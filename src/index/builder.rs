//! Tensors of files in other formats than our own: what their parsers push, and what their components may
//! have that ours do not.

use std::collections::HashSet;
use std::sync::OnceLock;

use super::{Check, ComponentInfo, ComponentRecord, EncodingRecord, Frames, Index, Known, RAW, Symbol, Zstd};
use crate::codec::{Arrangement, Filter, SeekTable};
use crate::digest::Digest;
use crate::dtype::DType;
use crate::error::{ErrorKind, Result, ensure};
use crate::layout::{Layout, Role};
use crate::metadata::Metadata;

/// How a foreign component is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NewEncoding<'a> {
    Raw,
    Arranged(Arrangement),
    /// One zstd stream.
    Stream {
        raw_size: u64,
    },
    /// zstd frames, whose table stands in the blob.
    Seekable {
        raw_size: u64,
    },
    Unknown(&'a str),
}

/// A checksum and the bytes that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DigestRecord {
    pub(crate) digest: Digest,
    /// Whether it is of the decoded bytes. If not, of the stored ones.
    pub(crate) decoded: bool,
    /// The stored bytes: where they begin, and how many they are.
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// A component as a parser found it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewPart<'a> {
    pub(crate) role: Known<'a, Role>,
    pub(crate) dtype: Known<'a, DType>,
    /// 0, or from 1 on a shard.
    pub(crate) file: u16,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) encoding: NewEncoding<'a>,
    pub(crate) digest: Option<DigestRecord>,
}

/// A tensor as a parser found it, its components in the order of its layout.
#[derive(Debug)]
pub(crate) struct NewTensor<'a> {
    pub(crate) name: &'a str,
    pub(crate) dtype: Known<'a, DType>,
    pub(crate) shape: &'a [u64],
    pub(crate) layout: Known<'a, Layout>,
    pub(crate) parts: &'a [NewPart<'a>],
    pub(crate) attributes: Metadata,
}

/// Which of the tensors of one name stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DuplicatePolicy {
    First,
    Last,
}

impl Index {
    fn symbol<T>(&mut self, known: Known<'_, T>, code: impl Fn(T) -> Symbol) -> Result<Symbol> {
        match known {
            Known::Known(value) => Ok(code(value)),
            Known::Unknown(text) => self.symbols.intern(text),
        }
    }

    /// Adds a tensor. Only what our arrays cannot hold is refused here.
    pub(crate) fn push_foreign(&mut self, tensor: NewTensor<'_>) -> Result<()> {
        ensure!(!tensor.name.contains('\0'), Name, "the name {:?} holds a NUL", tensor.name);
        let mark = self.mark();
        self.reserve_record(tensor.name, tensor.shape)?;
        self.components.try_reserve(tensor.parts.len())?;
        self.encodings.try_reserve(tensor.parts.len())?;
        self.digests.try_reserve(tensor.parts.len())?;
        self.seek_tables.try_reserve(tensor.parts.len())?;
        self.dims.extend_from_slice(tensor.shape);
        for part in tensor.parts {
            let encoding = match part.encoding {
                NewEncoding::Raw => None,
                NewEncoding::Arranged(arrangement) => Some(EncodingRecord::Arranged(arrangement)),
                NewEncoding::Stream { raw_size } => Some(EncodingRecord::Stream { raw_size }),
                NewEncoding::Seekable { raw_size } => {
                    self.seek_tables.push(OnceLock::new());
                    Some(EncodingRecord::Seekable { raw_size, table: self.seek_tables.len() as u32 - 1 })
                }
                NewEncoding::Unknown(name) => Some(EncodingRecord::Unknown(self.symbols.intern(name)?)),
            };
            let record = ComponentRecord {
                offset: part.offset,
                size: part.size,
                crc32: self.digests.len() as u32,
                check: if part.digest.is_some() { Check::Digest } else { Check::Nothing },
                encoding: encoding.map_or(RAW, |record| self.push_encoding(record)),
                role: self.symbol(part.role, |role| role as Symbol)?,
                dtype: self.symbol(part.dtype, |dtype| dtype as Symbol)?,
                file: part.file,
            };
            self.digests.extend(part.digest);
            self.components.push(record);
        }
        let dtype = self.symbol(tensor.dtype, |dtype| dtype as Symbol)?;
        let layout = self.symbol(tensor.layout, |layout| layout as Symbol)?;
        let at = self.close_tensor(mark, tensor.name, dtype, layout)?;
        if !tensor.attributes.is_empty() {
            self.attributes.insert(at, tensor.attributes.into());
        }
        Ok(())
    }

    /// Leaves of several tensors of one name only one.
    pub(crate) fn drop_duplicates(&mut self, keep: DuplicatePolicy) -> Result<()> {
        let entered = self.enter_names();
        self.by_name.clear();
        match entered {
            Err(err) if err.kind() == ErrorKind::Duplicate => {}
            other => return other,
        }
        let mut seen = HashSet::new();
        let count = self.len() as u32;
        let order: Box<dyn Iterator<Item = u32>> =
            if keep == DuplicatePolicy::First { Box::new(0..count) } else { Box::new((0..count).rev()) };
        let mut kept: Vec<u32> = order.filter(|&at| seen.insert(self.name_of(at))).collect();
        kept.sort_unstable();
        // Names and components of all tensors stand in the order of the tensors, without gaps.
        let (mut names, mut tensors, mut components) = (String::new(), Vec::new(), Vec::new());
        let mut attributes = std::mem::take(&mut self.attributes);
        for at in kept {
            let mut record = self.tensors[at as usize];
            let parts = &self.components[record.components_start as usize..][..record.component_count.into()];
            (record.name_start, record.components_start) = (names.len() as u32, components.len() as u32);
            names.push_str(self.name_of(at));
            names.push('\0');
            components.extend_from_slice(parts);
            if let Some(values) = attributes.remove(&at) {
                self.attributes.insert(tensors.len() as u32, values);
            }
            tensors.push(record);
        }
        (self.names, self.tensors, self.components) = (names, tensors, components);
        Ok(())
    }
}

impl<'a> ComponentInfo<'a> {
    /// Where the items of a raw component stand, if not one behind the other.
    pub(crate) fn arrangement(&self) -> Option<Arrangement> {
        match self.index.encodings.get(self.record.encoding as usize)? {
            EncodingRecord::Arranged(arrangement) => Some(*arrangement),
            _ => None,
        }
    }

    /// A checksum other than the CRC-32 of our own files.
    pub(crate) fn digest(&self) -> Option<DigestRecord> {
        (self.record.check == Check::Digest).then(|| self.index.digests[self.record.crc32 as usize])
    }

    /// The place for the table of frames, where that stands in the blob, and the decoded bytes.
    pub(crate) fn seek_table(&self) -> Option<(&'a OnceLock<SeekTable>, u64)> {
        match self.index.encodings.get(self.record.encoding as usize)? {
            EncodingRecord::Seekable { raw_size, table } => {
                Some((&self.index.seek_tables[*table as usize], *raw_size))
            }
            _ => None,
        }
    }

    /// What a foreign zstd encoding looks like; `table` is empty until the blob's table was read.
    pub(super) fn foreign_zstd(&self, raw_size: u64, table: Option<u32>) -> Zstd<'a> {
        let read = table.and_then(|table| self.index.seek_tables[table as usize].get());
        Zstd {
            filter: Filter::None,
            raw_size,
            chunk_size: read.map_or(0, |table| table.frame_size),
            stored: read.map_or(&[], |table| &table.stored),
            frames: match table {
                Some(_) => Frames::Seekable,
                None => Frames::Stream { stored_len: self.record.size },
            },
        }
    }
}
