//! Checksums: the CRC-32 of our own files, and those that the public package's generations use.

use std::fmt;

use sha2::Digest as _;
use xxhash_rust::xxh3::Xxh3Default;

use crate::hex::Hex;

/// The CRC-32 of bytes, to which that of others may be joined.
pub(crate) fn crc32(bytes: &[u8]) -> crc32fast::Hasher {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes);
    hasher
}

/// A checksum and the algorithm that it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digest {
    Crc32c(u32),
    Sha256([u8; 32]),
    /// XXH3 of 64 bits, seed 0.
    Xxh3(u64),
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crc32c(value) => write!(f, "crc32c:{value:08x}"),
            Self::Xxh3(value) => write!(f, "xxh3:{value:016x}"),
            Self::Sha256(bytes) => write!(f, "sha256:{}", Hex(bytes)),
        }
    }
}

/// Makes a checksum of bytes that come piece by piece.
pub(crate) enum Hasher {
    Crc32c(u32),
    Sha256(Box<sha2::Sha256>),
    Xxh3(Box<Xxh3Default>),
}

impl Hasher {
    /// A hasher of the same algorithm as `digest`.
    pub(crate) fn like(digest: Digest) -> Self {
        match digest {
            Digest::Crc32c(_) => Self::Crc32c(0),
            Digest::Sha256(_) => Self::Sha256(Box::default()),
            Digest::Xxh3(_) => Self::Xxh3(Box::default()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32c(value) => *value = crc32c::crc32c_append(*value, bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Xxh3(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Self::Crc32c(value) => Digest::Crc32c(value),
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Self::Xxh3(hasher) => Digest::Xxh3(hasher.digest()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let spelled = |digest, bytes: &[u8]| {
            let mut hasher = Hasher::like(digest);
            bytes.iter().for_each(|byte| hasher.update(&[*byte]));
            hasher.finish().to_string()
        };
        assert_eq!(spelled(Digest::Crc32c(0), b"123456789"), "crc32c:e3069283");
        assert_eq!(spelled(Digest::Xxh3(0), b""), "xxh3:2d06800538d394c2");
        assert_eq!(
            spelled(Digest::Sha256([0; 32]), b"abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
