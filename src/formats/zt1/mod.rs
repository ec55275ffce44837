//! This library's own format, `zt/1`, as `docs/FORMAT.md` describes it: read by [`Zt1`], written by the writer.

pub mod container;
mod msgpack;
mod parse;
mod serialize;

use std::ffi::CStr;

use super::{Format, Parsed};
use crate::error::{Result, ensure, fail};
use crate::index::{BlobRegion, FormatRules, Index, OverlapPolicy};
use crate::source::Source;

use container::{ALIGNMENT, FOOTER_LEN, Footer, HEADER_LEN, SIGNATURE};

/// The name of the format.
const NAME: &CStr = c"zt/1";

/// The format `zt/1`. Its index is at the end of the file, in front of a footer that says where.
#[derive(Debug)]
pub(crate) struct Zt1;

impl Format for Zt1 {
    fn detect(&self, head: &[u8]) -> bool {
        head.starts_with(&SIGNATURE)
    }

    fn open(&self, source: &Source) -> Result<Parsed> {
        let file_size = source.len();
        ensure!(
            file_size >= HEADER_LEN + FOOTER_LEN,
            Truncated,
            "the file has {file_size} bytes, the smallest has {}",
            HEADER_LEN + FOOTER_LEN
        );
        let mut tail = [0; FOOTER_LEN as usize];
        source.read(file_size - FOOTER_LEN, &mut tail)?;
        let footer = Footer::parse(&tail, file_size)?;
        let Ok(index_len) = u32::try_from(footer.index_size) else {
            fail!(Limit, "the index has {} bytes, this library reads up to 4 GiB", footer.index_size);
        };
        let mut scratch = Vec::new();
        let bytes = source.fetch(footer.index_offset, index_len as usize, &mut scratch)?;
        let found = crc32fast::hash(bytes);
        ensure!(
            found == footer.index_crc32,
            IndexChecksum,
            "the index is damaged: the footer says crc32:{:08x}, its bytes give crc32:{found:08x}",
            footer.index_crc32
        );
        let index = Index::parse(bytes, file_size)?;
        let rules = rules(footer.index_offset, file_size);
        Ok(Parsed { name: NAME, index, shards: Vec::new(), rules })
    }
}

/// Returns the rules that blobs keep in a file of `file_size` bytes whose index begins at `index_offset`.
pub(crate) fn rules(index_offset: u64, file_size: u64) -> FormatRules {
    FormatRules {
        files: vec![BlobRegion { end: index_offset, file_size }],
        first: HEADER_LEN,
        alignment: ALIGNMENT,
        overlap: OverlapPolicy::SameBlob,
        index: None,
    }
}
