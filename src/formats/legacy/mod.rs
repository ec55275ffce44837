//! The formats of the public `ztensor` package: versions 0.1, 1.0, 1.1, 1.2 and 2, as `docs/LEGACY.md` describes them. They
//! are read, never written.

mod cbor;
mod component;
mod v0_1;
mod v1;
mod v2;

use std::ffi::CStr;

use super::{Format, Parsed, Shard};
use crate::error::{Result, ensure, fail};
use crate::index::{BlobRegion, FormatRules, Index, OverlapPolicy};
use crate::source::Source;

use cbor::Cbor;
pub(crate) use v0_1::V0_1;
pub(crate) use v1::V1;
pub(crate) use v2::V2;

/// The longest index that is read: the limit of versions 1.1 to 2, and of the latest public reader of version 0.1.
const MAX_INDEX_LEN: u64 = 1 << 30;

/// Memory that attributes and shapes may take, beside twice the bytes of the file.
const MEMORY_BUDGET: u64 = 8 << 20;

/// Where the index of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IndexRegion {
    offset: u64,
    len: u64,
    file_size: u64,
}

fn u64_at_end(tail: &[u8], before: usize) -> Option<u64> {
    tail.len().checked_sub(before + 8).and_then(|at| tail[at..].first_chunk()).map(|b| u64::from_le_bytes(*b))
}

/// Returns the last `LEN` bytes of a file, or all of a shorter one.
fn read_tail<'t, const LEN: usize>(source: &Source, tail: &'t mut [u8; LEN]) -> Result<&'t [u8]> {
    let tail = &mut tail[..source.len().min(LEN as u64) as usize];
    source.read(source.len() - tail.len() as u64, tail)?;
    Ok(tail)
}

/// Finds the index of a version before 2, which a length of eight bytes follows, then `mark`.
fn find_index(tail: &[u8], file_size: u64, mark: &[u8]) -> Result<IndexRegion> {
    let footer_len = 8 + mark.len() as u64;
    let Some(len) = u64_at_end(tail, mark.len()).filter(|_| file_size > 8 + footer_len) else {
        fail!(Truncated, "the file of {file_size} bytes ends before its index");
    };
    let end = file_size - footer_len;
    // Where no mark follows, nothing but this number shows the end of a file, so a wrong one means a file cut short.
    if mark.is_empty() {
        ensure!(
            len <= end - 8,
            Truncated,
            "the file of {file_size} bytes does not end in the length of its index: it was truncated, or its writer \
             did not finish"
        );
    }
    check_index_len(len)?;
    ensure!(len <= end - 8, Footer, "the footer states an index of {len} bytes, the file has {file_size}");
    Ok(IndexRegion { offset: end - len, len, file_size })
}

impl IndexRegion {
    /// Reads the bytes of the index and parses them with `parse`, in bounded memory.
    fn read<T>(&self, source: &Source, parse: impl FnOnce(&[u8], Cbor<'_>) -> Result<T>) -> Result<T> {
        let mut scratch = Vec::new();
        let bytes = source.fetch(self.offset, self.len as usize, &mut scratch)?;
        let budget = MEMORY_BUDGET.saturating_add(self.file_size.saturating_mul(2));
        parse(bytes, Cbor::new(bytes, budget as usize))
    }

    /// Returns what a file of a version before 2 says, with the rules of those versions: 64 bytes before the first blob,
    /// and an alignment of as many.
    fn parsed(&self, name: &'static CStr, index: Index) -> Parsed {
        let rules = FormatRules {
            files: vec![BlobRegion { end: self.offset, file_size: self.file_size }],
            first: 64,
            alignment: 64,
            overlap: OverlapPolicy::Allowed,
            index: None,
        };
        Parsed { name, index, shards: Vec::new(), rules }
    }
}

fn check_index_len(len: u64) -> Result<()> {
    ensure!(len <= MAX_INDEX_LEN, Limit, "the index has {len} bytes, the limit is {MAX_INDEX_LEN}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_index_is_found_from_the_end() {
        let find = |tail: &[u8], size, mark: &[u8]| {
            find_index(tail, size, mark).map(|region| (region.offset, region.len)).map_err(|err| err.kind())
        };
        let length = |len: u64| len.to_le_bytes();
        let mark = *b"ZTEN1000";
        assert_eq!(find(&length(98), 194, b""), Ok((0x58, 98)));
        assert_eq!(find(&[length(95), mark].concat(), 199, &mark), Ok((0x58, 95)));
        assert_eq!(find(&length(1000), 194, b""), Err(ErrorKind::Truncated));
        assert_eq!(find(&[length(1000), mark].concat(), 199, &mark), Err(ErrorKind::Footer));
        assert_eq!(find(&[length(1 << 31), mark].concat(), 199, &mark), Err(ErrorKind::Limit));
        assert_eq!(find(&mark, 8, &mark), Err(ErrorKind::Truncated));
    }
}
