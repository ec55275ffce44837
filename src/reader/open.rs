//! Opening a file: the index is read, whatever the format.

use std::ffi::CStr;
use std::path::Path;

use super::foreign::open_shards;
use super::{ReadOptions, Reader};
use crate::error::Result;
use crate::formats;
use crate::parallel;
use crate::source::Source;

impl Reader {
    pub(super) fn new(
        source: Source,
        path: Option<&Path>,
        label: String,
        options: ReadOptions,
    ) -> Result<Self> {
        let (format, parsed) = formats::open(&source)?;
        Ok(Self {
            label,
            format,
            format_name: parsed.name,
            shards: open_shards(format, parsed.shards, path, options.mode)?,
            source,
            index: parsed.index,
            verify: options.verify,
            threads: parallel::thread_count(options.threads),
        })
    }

    /// The format of the file: `zt/1` for this library's own, `zten/0.1`, `zten/1.0`, `zten/1.1`, `zten/1.2` or
    /// `zt/2` for the legacy formats of the public package.
    pub fn format(&self) -> &'static str {
        self.format_name.to_str().unwrap_or_default()
    }

    /// [`Reader::format`] for C.
    pub(crate) fn format_c_name(&self) -> &'static CStr {
        self.format_name
    }
}
