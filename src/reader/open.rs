//! Opening: telling the formats apart, and reading the index.

use std::ffi::CStr;
use std::path::Path;

use super::foreign::open_shards;
use super::{ReadOptions, Reader};
use crate::container::{self, FOOTER_LEN, Footer, HEADER_LEN};
use crate::error::{Result, ensure, fail};
use crate::index::{Index, Rules};
use crate::legacy;
use crate::parallel;
use crate::source::Source;
use crate::unrecognized;

/// The name of this library's own format.
const FORMAT: &CStr = c"zt/1";

impl Reader {
    pub(super) fn new(
        source: Source,
        path: Option<&Path>,
        label: String,
        options: ReadOptions,
    ) -> Result<Self> {
        let mut head = [0; unrecognized::HEAD_LEN];
        let head = &mut head[..source.len().min(unrecognized::HEAD_LEN as u64) as usize];
        source.read(0, head)?;
        let (format, index, shards) = match legacy::Signature::of(head) {
            Some(signature) => Self::open_legacy(&source, signature)?,
            None => {
                container::check_signature(head)?;
                (FORMAT, Self::open_native(&source)?, Vec::new())
            }
        };
        Ok(Self {
            label,
            format,
            shards: open_shards(shards, path, options.mode)?,
            source,
            index,
            verify: options.verify,
            threads: parallel::thread_count(options.threads),
        })
    }

    fn open_native(source: &Source) -> Result<Index> {
        let file_size = source.len();
        let mut scratch = Vec::new();
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
        let bytes = source.fetch(footer.index_offset, index_len as usize, &mut scratch)?;
        let found = crc32fast::hash(bytes);
        ensure!(
            found == footer.index_crc32,
            IndexChecksum,
            "the index is damaged: the footer says crc32:{:08x}, its bytes give crc32:{found:08x}",
            footer.index_crc32
        );
        let mut index = Index::parse(bytes, file_size)?;
        drop(scratch);
        index.check(&Rules::new(footer.index_offset, file_size))?;
        Ok(index)
    }

    fn open_legacy(
        source: &Source,
        signature: legacy::Signature,
    ) -> Result<(&'static CStr, Index, Vec<legacy::Shard>)> {
        let mut tail = [0; legacy::FOOTER_LEN];
        let tail = &mut tail[..source.len().min(legacy::FOOTER_LEN as u64) as usize];
        source.read(source.len() - tail.len() as u64, tail)?;
        let envelope = legacy::Envelope::find(signature, tail, source.len())?;
        let mut scratch = Vec::new();
        let bytes = source.fetch(envelope.offset, envelope.len as usize, &mut scratch)?;
        let legacy::Parsed { format, mut index, shards, rules } = envelope.parse(bytes)?;
        drop(scratch);
        index.check(&rules)?;
        Ok((format, index, shards))
    }

    /// The format of the file: `zt/1` for this library's own, `zten/0.1`, `zten/1.0`, `zten/1.1`, `zten/1.2` or
    /// `zt/2` for the generations of the public package.
    pub fn format(&self) -> &'static str {
        self.format.to_str().unwrap_or_default()
    }

    /// [`Reader::format`] for C.
    pub(crate) fn format_c_name(&self) -> &'static CStr {
        self.format
    }
}
