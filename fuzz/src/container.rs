//! What the targets have in common: files around bytes, and how they are opened.

use std::cell::RefCell;

use xxhash_rust::xxh64::xxh64;
use zstd::zstd_safe::{DCtx, DParameter};
use ztensor::container::{ALIGNMENT, FOOTER_LEN, Footer, HEADER_LEN, SIGNATURE, align_up};
use ztensor::{Error, ErrorKind, ReadOptions, Reader, Result};

/// No threads: a run must depend on its bytes alone, and be quick.
pub const OPTIONS: ReadOptions = ReadOptions { mode: ztensor::Mode::Read, verify: false, threads: 1 };

/// A file whose header, footer and checksums are right. The blobs begin at byte 64.
pub fn wrap(blobs: &[u8], index: &[u8]) -> Vec<u8> {
    let index_offset = align_up(HEADER_LEN + blobs.len() as u64, ALIGNMENT);
    let footer = Footer {
        index_offset,
        index_size: index.len() as u64,
        file_size: index_offset + index.len() as u64 + FOOTER_LEN,
        index_crc32: crc32fast::hash(index),
    };
    let mut file = Vec::with_capacity(footer.file_size as usize);
    file.extend_from_slice(&SIGNATURE);
    file.resize(HEADER_LEN as usize, 0);
    file.extend_from_slice(blobs);
    file.resize(index_offset as usize, 0);
    file.extend_from_slice(index);
    file.extend_from_slice(&footer.to_bytes());
    file
}

/// Opens bytes in memory. An error must be one of a file, and must have words.
pub fn open(file: Vec<u8>) -> Result<Reader> {
    Reader::from_bytes(file, OPTIONS).inspect_err(check_error)
}

/// Checks that an error is one that bytes in memory can cause, and that it can be spelled.
pub fn check_error(err: &Error) {
    assert!(!matches!(err.kind(), ErrorKind::Panic | ErrorKind::State | ErrorKind::Io), "{err}");
    assert!(!err.to_string().is_empty());
}

thread_local! {
    /// Kept from run to run: to set one up costs more than most runs.
    static LENIENT: RefCell<DCtx<'static>> = RefCell::new({
        let mut context = DCtx::create();
        context.set_parameter(DParameter::ForceIgnoreChecksum(true)).unwrap();
        context
    });
}

/// Mends the checksum at the end of a frame that decodes to `len` bytes, so that a change of its content is no longer
/// noticed by that alone.
pub fn mend_frame(frame: &mut [u8], len: usize) {
    let mut content = vec![0; len.min(MAX_MENDED)];
    let decoded = LENIENT.with_borrow_mut(|context| context.decompress(&mut content[..], frame));
    if let (Ok(decoded), Some(checksum)) = (decoded, frame.last_chunk_mut::<4>()) {
        *checksum = (xxh64(&content[..decoded], 0) as u32).to_le_bytes();
    }
}

/// Frames of more content are left as they are.
const MAX_MENDED: usize = 1 << 20;
