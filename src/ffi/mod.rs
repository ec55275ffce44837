//! The C ABI. `ztensor.h` is generated from this module, whose comments are written for C programmers.
//!
//! The rules: every fallible function returns a [`ZtStatus`] and runs inside `guard`, so that no panic crosses
//! the border; arguments stand in the order receiver, inputs, outputs; a `const` receiver is not changed;
//! results leave through `out_` pointers, which are written last and only on success. Casts of pointers live
//! in `pointer` alone.
#![allow(clippy::missing_safety_doc, reason = "the Ownership and Threads lines are the contract")]

pub mod buffer;
pub mod dlpack;
pub mod guard;
pub mod name;
mod pointer;
pub mod progress;
pub mod reader;
mod table;
pub mod writer;

use std::ffi::c_char;

/// The outcome of a call: ZT_OK, or one of the ZT_ERR_ numbers. Numbers are never given a second meaning.
pub type ZtStatus = i32;

/// The version of this header's functions and structs. Compare it with zt_abi_version() when the library is
/// loaded at run time.
pub const ZT_ABI_VERSION: u32 = 1;

/// Success.
pub const ZT_OK: ZtStatus = 0;
/// A pointer that must not be NULL is NULL.
pub const ZT_ERR_NULL: ZtStatus = 1;
/// An argument is not what the call takes.
pub const ZT_ERR_ARGUMENT: ZtStatus = 2;
/// Text is not UTF-8.
pub const ZT_ERR_UTF8: ZtStatus = 3;
/// The file holds no tensor of this name.
pub const ZT_ERR_NOT_FOUND: ZtStatus = 4;
/// A tensor of this name was added before, or two tensors of a file have one name.
pub const ZT_ERR_DUPLICATE: ZtStatus = 5;
/// A number, or a range of elements, lies outside what there is.
pub const ZT_ERR_RANGE: ZtStatus = 6;
/// The writer was finished, or an earlier write failed, or it belongs to the process that this one was forked from.
pub const ZT_ERR_STATE: ZtStatus = 7;
/// The progress callback asked to stop.
pub const ZT_ERR_CANCELLED: ZtStatus = 8;
/// The operating system refused to read, write, map or rename.
pub const ZT_ERR_IO: ZtStatus = 20;
/// The file does not exist.
pub const ZT_ERR_FILE_NOT_FOUND: ZtStatus = 21;
/// The file does not begin with the signature of a .zt file.
pub const ZT_ERR_SIGNATURE: ZtStatus = 40;
/// The file is of a version that this library does not read.
pub const ZT_ERR_VERSION: ZtStatus = 41;
/// The file was truncated, appended to, or its writer did not finish.
pub const ZT_ERR_TRUNCATED: ZtStatus = 42;
/// The footer is damaged.
pub const ZT_ERR_FOOTER: ZtStatus = 43;
/// The index's checksum does not match.
pub const ZT_ERR_INDEX_CHECKSUM: ZtStatus = 44;
/// The index is not the structure that the format asks for.
pub const ZT_ERR_INDEX: ZtStatus = 45;
/// A tensor's name breaks the rules of names.
pub const ZT_ERR_NAME: ZtStatus = 46;
/// A tensor's shape breaks the rules of shapes.
pub const ZT_ERR_SHAPE: ZtStatus = 47;
/// A tensor's components do not fit its layout.
pub const ZT_ERR_LAYOUT: ZtStatus = 48;
/// A blob is misaligned or lies outside the part of the file that holds blobs.
pub const ZT_ERR_OFFSET: ZtStatus = 49;
/// Two blobs overlap without being the same.
pub const ZT_ERR_OVERLAP: ZtStatus = 50;
/// A byte count is not what shape and element type ask for, or memory of the caller has another length than what is
/// to be read.
pub const ZT_ERR_SIZE: ZtStatus = 51;
/// An encoding record contradicts itself or the component.
pub const ZT_ERR_ENCODING: ZtStatus = 52;
/// A compressed chunk is damaged.
pub const ZT_ERR_FRAME: ZtStatus = 53;
/// A blob's checksum does not match.
pub const ZT_ERR_CHECKSUM: ZtStatus = 54;
/// Index values of a sparse tensor break the rules of its layout.
pub const ZT_ERR_SPARSE: ZtStatus = 55;
/// The element type is not known to this library.
pub const ZT_ERR_UNKNOWN_DTYPE: ZtStatus = 56;
/// The layout is not known to this library.
pub const ZT_ERR_UNKNOWN_LAYOUT: ZtStatus = 57;
/// The encoding is not known to this library.
pub const ZT_ERR_UNKNOWN_ENCODING: ZtStatus = 58;
/// The file passes a limit of this library that the format does not set.
pub const ZT_ERR_LIMIT: ZtStatus = 59;
/// A defect of this library, caught at the border. Of the handle that was in use, only _free may be called.
pub const ZT_ERR_PANIC: ZtStatus = 90;
/// Memory could not be had, for a tensor's bytes, for an index, or for a list as long as the file has tensors. Small pieces are
/// taken for granted: where key-values, compression or the start of a thread find none, the process ends.
pub const ZT_ERR_MEMORY: ZtStatus = 91;

/// Gives the ABI version of the library that is loaded.
///
/// It equals ZT_ABI_VERSION of the header that the library was built with.
///
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_abi_version() -> u32 {
    ZT_ABI_VERSION
}

/// Gives the release of the library that is loaded, such as "1.2.3".
///
/// Ownership: the text lives as long as the library is loaded.
/// Threads: any.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn every_kind_of_error_has_its_constant_and_every_constant_its_kind() {
        let source = include_str!("mod.rs");
        let constants: Vec<(String, i32)> = source
            .lines()
            .filter_map(|line| {
                let (name, value) = line.strip_prefix("pub const ZT_ERR_")?.split_once(": ZtStatus = ")?;
                Some((name.to_owned(), value.trim_end_matches(';').parse().ok()?))
            })
            .collect();
        let kinds: Vec<(String, i32)> = ErrorKind::ALL
            .iter()
            .map(|kind| (name::upper_snake_case(&format!("{kind:?}")), kind.code()))
            .collect();
        assert_eq!(constants, kinds);
        assert_eq!(ZT_ERR_PANIC, ErrorKind::Panic.code());
    }
}
