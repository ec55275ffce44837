//! The generations of the public `ztensor` package: 0.1, 1.0, 1.1, 1.2 and 2. They are read, never written.
//!
//! Each is parsed into the one [`Index`] that our own files have, so that nothing else in this library knows of
//! generations. Everything here is pure functions on bytes: [`Signature::of`] the first ones, then
//! [`Envelope::find`] with the last ones, then [`Envelope::parse`] with the index itself.

mod cbor;
mod gen01;
mod gen1;
mod gen2;
mod part;

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::digest::Digest;
use crate::error::{Result, ensure, fail};
use crate::index::{Extent, Index, Overlap, Rules};

use cbor::Cbor;
pub(crate) use gen2::check_shard;
pub(crate) use part::ODD_F4;

/// Bytes at the end of a file that tell where its index stands: the longest footer of any generation.
pub(crate) const FOOTER_LEN: usize = 40;

/// The longest index that is read: that of generations 1.1 to 2, and of the latest reader of 0.1.
const MAX_INDEX_LEN: u64 = 1 << 30;

/// Memory that attributes and shapes may take, beside twice the bytes of the file.
const MEMORY_BUDGET: u64 = 8 << 20;

const ZTEN0001: [u8; 8] = *b"ZTEN0001";
const ZTEN1000: [u8; 8] = *b"ZTEN1000";
const ZT2: [u8; 8] = [0x89, b'Z', b'T', b'2', 0x0d, 0x0a, 0x1a, 0x0a];

/// What the first eight bytes of a file tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signature {
    Zten0001,
    Zten1000,
    Zt2,
}

impl Signature {
    /// The signature in the first bytes of a file, if it is one of an older generation.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        match *head.first_chunk::<8>()? {
            ZTEN0001 => Some(Self::Zten0001),
            ZTEN1000 => Some(Self::Zten1000),
            ZT2 => Some(Self::Zt2),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Generation {
    Gen01,
    Gen10,
    /// 1.1 or 1.2: the index says which.
    Gen11,
    Gen2,
}

/// Where a file's index stands, and what it is.
#[derive(Debug)]
pub(crate) struct Envelope {
    generation: Generation,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    file_size: u64,
    /// Of generation 2, what the bytes of the index hash to.
    hash: Option<u64>,
}

/// A file beside the one that is opened, which holds some of its blobs.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) digest: Option<Digest>,
}

/// What the index of a file says.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) format: &'static CStr,
    pub(crate) index: Index,
    pub(crate) shards: Vec<Shard>,
    /// What still has to be checked.
    pub(crate) rules: Rules,
}

fn u64_at_end(tail: &[u8], before: usize) -> Option<u64> {
    tail.len().checked_sub(before + 8).and_then(|at| tail[at..].first_chunk()).map(|b| u64::from_le_bytes(*b))
}

impl Envelope {
    /// Finds the index of a file of `file_size` bytes, of which `tail` is the last [`FOOTER_LEN`], or all.
    pub(crate) fn find(signature: Signature, tail: &[u8], file_size: u64) -> Result<Self> {
        let (generation, footer_len) = match signature {
            Signature::Zt2 => return gen2::find(tail, file_size),
            Signature::Zten0001 => (Generation::Gen01, 8),
            Signature::Zten1000 if tail.ends_with(&ZTEN1000) => (Generation::Gen11, 16),
            Signature::Zten1000 => (Generation::Gen10, 8),
        };
        let Some(len) = u64_at_end(tail, footer_len as usize - 8).filter(|_| file_size > 8 + footer_len)
        else {
            fail!(Truncated, "the file of {file_size} bytes ends before its index");
        };
        // Before 1.1 nothing but this number marks the end of a file, so a wrong one means a file cut short.
        let end = file_size - footer_len;
        if generation != Generation::Gen11 {
            ensure!(
                len <= end - 8,
                Truncated,
                "the file of {file_size} bytes does not end in the length of its index: it was truncated, or its \
                 writer did not finish"
            );
        }
        check_index_len(len)?;
        ensure!(
            len <= end - 8,
            Footer,
            "the footer states an index of {len} bytes, the file has {file_size}"
        );
        Ok(Self { generation, offset: end - len, len, file_size, hash: None })
    }

    /// Reads the index from its bytes. Its rules are still to be checked.
    pub(crate) fn parse(&self, bytes: &[u8]) -> Result<Parsed> {
        if let Some(expected) = self.hash {
            let found = xxh3_64(bytes);
            ensure!(
                found == expected,
                IndexChecksum,
                "the index is damaged: the footer says xxh3:{expected:016x}, its bytes give xxh3:{found:016x}"
            );
        }
        let budget = MEMORY_BUDGET.saturating_add(self.file_size.saturating_mul(2));
        let cbor = Cbor::new(bytes, budget as usize);
        match self.generation {
            Generation::Gen01 => gen01::parse(cbor, self.offset).map(|index| self.parsed(c"zten/0.1", index)),
            Generation::Gen10 => gen1::parse_1_0(cbor).map(|index| self.parsed(c"zten/1.0", index)),
            Generation::Gen11 => gen1::parse(cbor).map(|(format, index)| self.parsed(format, index)),
            Generation::Gen2 => gen2::parse(bytes, cbor, self),
        }
    }

    /// The rules of the generations before 2: 64 bytes before the first blob and between two.
    fn parsed(&self, format: &'static CStr, index: Index) -> Parsed {
        let rules = Rules {
            files: vec![Extent { end: self.offset, file_size: self.file_size }],
            first: 64,
            alignment: 64,
            overlap: Overlap::Allowed,
            index: None,
        };
        Parsed { format, index, shards: Vec::new(), rules }
    }
}

fn check_index_len(len: u64) -> Result<()> {
    ensure!(len <= MAX_INDEX_LEN, Limit, "the index has {len} bytes, the limit is {MAX_INDEX_LEN}");
    Ok(())
}

/// Where the shard of this name stands: beside the file at `path`, `stem-name.zt` for a `stem.zt`.
///
/// The name was checked when the index was read, so it cannot lead out of the directory.
pub(crate) fn shard_path(path: &Path, name: &str) -> PathBuf {
    let mut file = path.file_stem().unwrap_or_default().to_owned();
    file.push("-");
    file.push(name);
    file.push(".zt");
    path.with_file_name(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn signatures_lead_to_generations() {
        let find = |head: &[u8; 8], tail: &[u8], size| {
            let signature = Signature::of(head).unwrap();
            Envelope::find(signature, tail, size)
                .map(|envelope| (envelope.generation, envelope.offset, envelope.len))
                .map_err(|err| err.kind())
        };
        let length = |len: u64| len.to_le_bytes();
        assert_eq!(find(&ZTEN0001, &length(98), 194), Ok((Generation::Gen01, 0x58, 98)));
        assert_eq!(find(&ZTEN1000, &length(139), 235), Ok((Generation::Gen10, 0x58, 139)));
        let tail = [length(95), ZTEN1000].concat();
        assert_eq!(find(&ZTEN1000, &tail, 199), Ok((Generation::Gen11, 0x58, 95)));
        assert_eq!(find(&ZTEN0001, &length(1000), 194), Err(ErrorKind::Truncated));
        assert_eq!(find(&ZTEN1000, &[length(1000), ZTEN1000].concat(), 199), Err(ErrorKind::Footer));
        assert_eq!(find(&ZTEN1000, &[length(1 << 31), ZTEN1000].concat(), 199), Err(ErrorKind::Limit));
        assert_eq!(find(&ZTEN1000, &ZTEN1000, 8), Err(ErrorKind::Truncated));
        assert_eq!(find(&ZT2, &ZT2, 8), Err(ErrorKind::Truncated));
        assert_eq!(Signature::of(b"ZTEN0002"), None);
        assert_eq!(Signature::of(b"ZTEN"), None);
    }

    #[test]
    fn shards_stand_beside_their_file() {
        assert_eq!(shard_path(Path::new("/models/m.v1.zt"), "00001"), Path::new("/models/m.v1-00001.zt"));
        assert_eq!(shard_path(Path::new("m.zt"), "a"), Path::new("m-a.zt"));
    }
}
