//! Blobs: where they lie, and which components are the same one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{ComponentInfo, Encoding, EncodingRecord, Frames, Index, RAW};
use crate::error::Result;
use crate::room;

impl Index {
    /// A number for each component, in order: the same one, other than 0, for components that are the same blob
    /// stored in the same way; 0 for a component that is alone, or has no bytes.
    ///
    /// # Errors
    ///
    /// `Memory`.
    pub(crate) fn shares(&self) -> Result<Vec<u64>> {
        let mut shares = Vec::new();
        room::resize(&mut shares, self.components.len(), 0)?;
        let mut first_of = HashMap::new();
        first_of.try_reserve(self.components.len())?;
        for (at, record) in self.components.iter().enumerate().filter(|(_, record)| record.size > 0) {
            let part = ComponentInfo { index: self, record };
            match first_of.entry(part.blob()) {
                Entry::Vacant(place) => {
                    place.insert((at, part.len_bytes()));
                }
                Entry::Occupied(first) => {
                    let (first, len) = *first.get();
                    if len == part.len_bytes() {
                        shares[first] = first as u64 + 1;
                        shares[at] = first as u64 + 1;
                    }
                }
            }
        }
        Ok(shares)
    }
}

impl ComponentInfo<'_> {
    /// The file that holds its blob: 0 for the one that was opened, from 1 on the shards beside it.
    pub fn file(&self) -> u16 {
        self.record.file
    }

    /// Whether the bytes in memory are those in the file.
    pub(crate) fn is_plain(&self) -> bool {
        self.record.encoding == RAW
    }

    /// What tells its blob from others: file, offset, stored bytes, and a number that two components of one place
    /// share only when they decode alike.
    pub(crate) fn blob(&self) -> (u16, u64, u64, u8) {
        (self.record.file, self.record.offset, self.record.size, self.coding_kind())
    }

    fn coding_kind(&self) -> u8 {
        let record = self.index.encodings.get(self.record.encoding as usize);
        record.map_or(0, |record| match record {
            EncodingRecord::Zstd { .. } => 1,
            EncodingRecord::Stream { .. } => 2,
            EncodingRecord::Seekable { .. } => 3,
            EncodingRecord::Arranged(arrangement) => 4 + u8::from(arrangement.swapped),
            EncodingRecord::Unknown(_) => 6,
        })
    }

    /// Whether this and `other` name the same blob, stored in the same way.
    pub(crate) fn is_same_blob(&self, other: &ComponentInfo<'_>) -> bool {
        let is_alike = match (self.encoding(), other.encoding()) {
            // The table of one may have been read before that of the other.
            (Encoding::Zstd(a), Encoding::Zstd(b)) if a.frames == Frames::Seekable => {
                b.frames == Frames::Seekable && a.raw_size == b.raw_size
            }
            (a, b) => a == b && self.arrangement() == other.arrangement(),
        };
        self.is_same_range(other)
            && self.crc32() == other.crc32()
            && self.digest() == other.digest()
            && is_alike
    }

    /// Whether this and `other` name the same bytes of the same file.
    pub(crate) fn is_same_range(&self, other: &ComponentInfo<'_>) -> bool {
        self.record.offset == other.record.offset
            && self.record.size == other.record.size
            && self.record.file == other.record.file
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Known, NewEncoding, NewPart, NewTensor};
    use super::*;
    use crate::dtype::DType;
    use crate::layout::{Layout, Role};
    use crate::metadata::Metadata;

    #[test]
    fn blobs_are_the_same_only_in_one_file_and_stored_alike() {
        let mut index = Index::default();
        let raw = NewPart {
            role: Known::Known(Role::Data),
            dtype: Known::Known(DType::UInt8),
            file: 0,
            offset: 4096,
            size: 24,
            encoding: NewEncoding::Raw,
            digest: None,
        };
        let parts = [
            raw,
            NewPart { file: 1, ..raw },
            NewPart { encoding: NewEncoding::Seekable { raw_size: 24 }, ..raw },
            NewPart { file: 1, ..raw },
            NewPart { size: 0, ..raw },
            NewPart { size: 0, ..raw },
            NewPart { dtype: Known::Known(DType::Int8), ..raw },
            NewPart { encoding: NewEncoding::Seekable { raw_size: 25 }, ..raw },
        ];
        for (name, part) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().zip(&parts) {
            let tensor = NewTensor {
                name,
                dtype: part.dtype,
                shape: &[24],
                layout: Known::Known(Layout::Dense),
                parts: std::slice::from_ref(part),
                attributes: Metadata::new(),
            };
            index.push_foreign(tensor).unwrap();
        }
        assert_eq!(index.shares().unwrap(), [1, 2, 0, 2, 0, 0, 1, 0]);
    }
}
