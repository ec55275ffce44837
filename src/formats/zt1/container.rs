//! The frame around the blobs: signature, footer, alignment. Pure functions on bytes.

use crate::error::{Result, ensure};

/// The first and the last eight bytes of a file.
pub const SIGNATURE: [u8; 8] = [0x89, b'Z', b'T', b'M', 0x0d, 0x0a, 0x1a, 0x0a];

/// The version that this library writes, and the only one of this container that it reads.
pub const VERSION: u32 = 1;

/// Where the first blob may begin: signature and zeros come before it.
pub const HEADER_LEN: u64 = 64;

/// Bytes of the footer.
pub const FOOTER_LEN: u64 = 64;

/// Every blob and the index begin at a multiple of this.
pub const ALIGNMENT: u64 = 64;

/// A large blob begins at a multiple of this, so that it can be mapped on its own.
pub const PAGE_ALIGNMENT: u64 = 4096;

/// Bytes from which a blob is large.
pub const LARGE_BLOB: u64 = 256 * 1024;

/// The alignment that the writer gives to a raw blob of `len` bytes, so that a large one can be mapped by itself.
pub fn blob_alignment(len: u64) -> u64 {
    if len >= LARGE_BLOB { PAGE_ALIGNMENT } else { ALIGNMENT }
}

/// The smallest multiple of `alignment`, a power of two, that is not below `position`.
pub fn align_up(position: u64, alignment: u64) -> u64 {
    position.next_multiple_of(alignment)
}

/// What a footer states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Where the index begins.
    pub index_offset: u64,
    /// Bytes of the index.
    pub index_size: u64,
    /// Bytes of the whole file, footer included.
    pub file_size: u64,
    /// CRC-32 of the index.
    pub index_crc32: u32,
}

impl Footer {
    /// The footer's bytes.
    pub fn to_bytes(self) -> [u8; FOOTER_LEN as usize] {
        let mut bytes = [0; FOOTER_LEN as usize];
        bytes[0..8].copy_from_slice(&self.index_offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.index_size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.file_size.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.index_crc32.to_le_bytes());
        bytes[28..32].copy_from_slice(&VERSION.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..52]);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
        bytes[56..].copy_from_slice(&SIGNATURE);
        bytes
    }

    /// Reads the footer of a file of `file_size` bytes, of which `tail` is the last 64, and checks all that
    /// it says about the file.
    ///
    /// # Errors
    ///
    /// `Truncated` if the file does not end in a footer or not where the footer says, `Footer` if the footer
    /// is damaged or contradicts itself, `Version` if it is of another version.
    pub fn parse(tail: &[u8; FOOTER_LEN as usize], file_size: u64) -> Result<Self> {
        let (words, _) = tail.as_chunks::<8>();
        let u64_at = |at: usize| u64::from_le_bytes(words[at / 8]);
        let half = |at: usize| tail[at..at + 4].try_into().map(u32::from_le_bytes).unwrap_or_default();
        ensure!(
            tail[56..] == SIGNATURE,
            Truncated,
            "the file of {file_size} bytes does not end in a footer: it was truncated, or its writer did not finish"
        );
        let (stated, found) = (half(52), crc32fast::hash(&tail[..52]));
        ensure!(
            stated == found,
            Footer,
            "the footer's checksum does not match: it says crc32:{stated:08x}, its bytes give crc32:{found:08x}"
        );
        let version = half(28);
        ensure!(
            version == VERSION,
            Version,
            "the file is of version {version}, this library reads version {VERSION}"
        );
        let footer = Self {
            index_offset: u64_at(0),
            index_size: u64_at(8),
            file_size: u64_at(16),
            index_crc32: half(24),
        };
        ensure!(
            footer.file_size == file_size,
            Truncated,
            "the footer says that the file has {} bytes, it has {file_size}: it was truncated, or something was put \
             before or after it",
            footer.file_size
        );
        let end = footer.index_offset.checked_add(footer.index_size);
        ensure!(
            footer.index_offset >= HEADER_LEN
                && footer.index_offset.is_multiple_of(ALIGNMENT)
                && end.is_some_and(|end| end <= file_size - FOOTER_LEN),
            Footer,
            "the footer places the index at {} with {} bytes, which is not inside the file of {file_size} bytes or not \
             aligned to {ALIGNMENT}",
            footer.index_offset,
            footer.index_size
        );
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const FOOTER: Footer = Footer { index_offset: 128, index_size: 10, file_size: 256, index_crc32: 7 };

    #[test]
    fn a_footer_survives_its_bytes() {
        assert_eq!(Footer::parse(&FOOTER.to_bytes(), 256).unwrap(), FOOTER);
    }

    #[test]
    fn every_flipped_bit_of_a_footer_is_noticed() {
        for bit in 0..512 {
            let mut bytes = FOOTER.to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let err = Footer::parse(&bytes, 256).unwrap_err();
            let expected = if bit >= 56 * 8 { ErrorKind::Truncated } else { ErrorKind::Footer };
            assert_eq!(err.kind(), expected, "bit {bit}: {err}");
        }
    }

    #[test]
    fn an_index_outside_the_file_is_refused() {
        for (index_offset, index_size) in [(0, 10), (65, 10), (128, 65), (u64::MAX - 63, 64), (192, 1)] {
            let bytes = Footer { index_offset, index_size, ..FOOTER }.to_bytes();
            assert_eq!(Footer::parse(&bytes, 256).unwrap_err().kind(), ErrorKind::Footer);
        }
        assert_eq!(Footer::parse(&FOOTER.to_bytes(), 300).unwrap_err().kind(), ErrorKind::Truncated);
    }
}
