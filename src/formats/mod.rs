//! File formats. A format turns the bytes of a file into the one internal description, an [`Index`], and says which rules the
//! file and its data keep. Nothing outside this folder knows a format by name.
//!
//! To add a format, write one module with an implementation of [`Format`], and add one row to [`FORMATS`].

pub(crate) mod legacy;
pub(crate) mod unrecognized;
pub(crate) mod zt1;

use std::ffi::CStr;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::{Result, ensure, fail};
use crate::index::{ComponentInfo, FormatRules, Index, TensorInfo};
use crate::source::Source;

/// A file format that is read.
pub(crate) trait Format: fmt::Debug + Sync {
    /// Returns whether these first bytes of a file, [`unrecognized::HEAD_LEN`] or all that it has, are this format's.
    fn detect(&self, head: &[u8]) -> bool;

    /// Reads the index of a file that [`Format::detect`] took, wherever the format keeps it. The rules of the format that
    /// need no blob are part of the result; [`open`] checks them.
    fn open(&self, source: &Source) -> Result<Parsed>;

    /// Returns the path of a shard of this name, given the path of the file that is opened.
    fn shard_path(&self, path: &Path, name: &str) -> PathBuf {
        path.with_file_name(name)
    }

    /// Checks that a file is a shard of this format.
    fn check_shard(&self, _source: &Source) -> Result<()> {
        Ok(())
    }

    /// Returns the rule that each element of a component keeps, beyond what its layout asks. Verifying checks it.
    fn element_rule(&self, _tensor: TensorInfo<'_>, _component: ComponentInfo<'_>) -> Option<ElementRule> {
        None
    }

    /// Returns whether the columns of each CSR row ascend and COO coordinates are unique. Reading a whole tensor checks it.
    fn has_ordered_indices(&self) -> bool {
        false
    }
}

/// Every format that is read, in the order in which they are tried.
const FORMATS: &[&dyn Format] = &[&zt1::Zt1, &legacy::V0_1, &legacy::V1, &legacy::V2];

/// What the index of a file says.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// The name of the format, such as `zt/1`.
    pub(crate) name: &'static CStr,
    pub(crate) index: Index,
    /// Files beside this one that hold some of its blobs.
    pub(crate) shards: Vec<Shard>,
    /// The rules for the places of blobs.
    pub(crate) rules: FormatRules,
}

/// A file beside the one that is opened, which holds some of its blobs.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) digest: Option<Digest>,
}

/// A rule for elements that are smaller than the bits that hold them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ElementRule {
    /// Each byte is 0 or 1.
    Bool,
    /// The high half of the last byte is zero.
    SpareNibble,
}

impl ElementRule {
    /// Checks bytes that end at `end` in a component of `len` bytes.
    pub(crate) fn check(self, bytes: &[u8], end: u64, len: Option<u64>) -> Result<()> {
        match self {
            Self::Bool => match bytes.iter().find(|&&byte| byte > 1) {
                Some(byte) => fail!(Layout, "a bool is the byte {byte:#04x}, expected 0 or 1"),
                None => Ok(()),
            },
            Self::SpareNibble => {
                let spare = bytes.last().filter(|_| len == Some(end)).map_or(0, |byte| byte >> 4);
                ensure!(spare == 0, Layout, "the half byte after the last element is {spare:#x}, expected 0");
                Ok(())
            }
        }
    }
}

/// Reads the index of a file in any of the formats, and checks every rule that needs no blob.
///
/// # Errors
///
/// `Signature` for a file in none of the formats; those of the format.
pub(crate) fn open(source: &Source) -> Result<(&'static dyn Format, Parsed)> {
    let mut head = [0; unrecognized::HEAD_LEN];
    let head = &mut head[..source.len().min(unrecognized::HEAD_LEN as u64) as usize];
    source.read(0, head)?;
    let Some(&format) = FORMATS.iter().find(|format| format.detect(head)) else {
        return Err(unrecognized::error(head));
    };
    let mut parsed = format.open(source)?;
    parsed.index.check(&parsed.rules)?;
    Ok((format, parsed))
}
