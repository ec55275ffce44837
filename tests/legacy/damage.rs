//! Damage: whatever bit of a file is flipped, and wherever it is cut, the answer is data or an error, never a panic.

use std::fs;
use std::path::Path;

use ztensor::{ErrorKind, Mode, ReadOptions, Reader, Result};

use super::build::{gen01, gen2, index2, map, part};
use super::{file, from_bytes, read_all};

/// Small files of every generation before 2, with all that their indexes can say.
const SMALL: [&str; 12] = [
    "0.1.4/single_f32",
    "0.1-handmade/v0_sparsecsr",
    "0.1-handmade/v0_big",
    "0.1-handmade/v0_crc_zstd",
    "1.0.1/csr",
    "1.0.1/zstd_small",
    "1.1.1/coo",
    "1.1.1/scalar_torch",
    "1.2.3/csr_zstd_sha256",
    "1.2.3/attributes",
    "1.2.3/logical_complex",
    "1.x-handmade/zstd_two_frames",
];

/// Files of generation 2.
const SMALL_2: [&str; 5] = ["single_f32", "zstd_seekable", "csr", "mx", "logical_types"];

/// Opens a file in both modes. On one thread: starting others would take longer than the work.
fn each_way(bytes: &[u8], path: &Path, mut see: impl FnMut(Result<Reader>)) {
    fs::write(path, bytes).unwrap();
    for mode in [Mode::Mmap, Mode::Read] {
        see(Reader::open(path, ReadOptions { mode, threads: 1, verify: false }));
    }
}

/// Does all that can be done with a file; its outcome does not matter.
fn try_everything(bytes: &[u8], path: &Path) {
    each_way(bytes, path, |opened| {
        let Ok(reader) = opened else { return };
        let _ = read_all(&reader, true);
        let _ = reader.verify(|_, _| true);
        for (at, info) in reader.index().iter().enumerate() {
            let _ = (info.len_bytes(), reader.read_many(&[at], None));
            for component in 0..info.components().len() {
                let _ = reader.read_range(at, component, 1, 2, None);
            }
        }
    });
}

/// A file of generation 2, and where its index stands.
fn of_generation_2(name: &str) -> (Vec<u8>, usize, usize) {
    let bytes = fs::read(file(&format!("2.1.2/{name}.zt"))).unwrap();
    let word = |before: usize| u64::from_le_bytes(*bytes[bytes.len() - before..].first_chunk().unwrap());
    let (index, len) = (word(40) as usize, word(32) as usize);
    (bytes, index, len)
}

#[test]
fn no_flipped_bit_panics() {
    let dir = tempfile::tempdir().unwrap();
    for name in SMALL {
        let bytes = fs::read(file(&format!("{name}.zt"))).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            try_everything(&damaged, &dir.path().join("damaged.zt"));
        }
    }
}

#[test]
fn no_flipped_bit_of_generation_2_panics() {
    let dir = tempfile::tempdir().unwrap();
    for name in SMALL_2 {
        let (bytes, index, index_len) = of_generation_2(name);
        let len = bytes.len();
        // Zeros between blobs are left out.
        for bit in (0..len * 8).filter(|bit| bytes[bit / 8] != 0 || bit / 8 >= index) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // An index that is damaged and hashed again gets past the hash.
            let hash = xxhash_rust::xxh3::xxh3_64(&damaged[index..index + index_len]);
            damaged[len - 24..len - 16].copy_from_slice(&hash.to_le_bytes());
            try_everything(&damaged, &dir.path().join("damaged.zt"));
        }
    }
}

#[test]
fn no_file_that_was_cut_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let cut = |bytes: &[u8], len: usize, name: &str| {
        assert!(from_bytes(&bytes[..len]).is_err(), "{name} cut to {len}");
        each_way(&bytes[..len], &dir.path().join("cut.zt"), |opened| {
            assert!(opened.is_err(), "{name} cut to {len}");
        });
    };
    for name in SMALL {
        let bytes = fs::read(file(&format!("{name}.zt"))).unwrap();
        (0..bytes.len()).for_each(|len| cut(&bytes, len, name));
    }
    for name in SMALL_2 {
        let (bytes, index, _) = of_generation_2(name);
        // Of the zeros between blobs, a few.
        let lens = (0..bytes.len()).filter(|&len| bytes[len] != 0 || len >= index || len % 509 == 0);
        lens.for_each(|len| cut(&bytes, len, name));
    }
}

#[test]
fn numbers_of_the_oldest_sparse_layouts_do_not_overflow() {
    let dir = tempfile::tempdir().unwrap();
    for layout in ["sparsecsr", "sparsecoo"] {
        for shape in [[u64::MAX, 1], [u64::MAX - 1, u64::MAX], [1 << 61, 0], [0, 0]] {
            for (offset, size) in [(64, 0), (64, 1), (64, 16), (64, u64::MAX), (u64::MAX - 63, 0)] {
                let entry = map([
                    ("name", "w".into()),
                    ("offset", offset.into()),
                    ("size", size.into()),
                    ("dtype", "float64".into()),
                    ("layout", layout.into()),
                    ("shape", shape.into()),
                    ("encoding", "raw".into()),
                    ("data_endianness", "big".into()),
                ]);
                let file = gen01(&[&[1; 16]], &super::build::Cbor::Array(vec![entry]).bytes());
                try_everything(&file, &dir.path().join("claims.zt"));
            }
        }
    }
}

#[test]
fn lengths_that_an_index_only_claims_do_not_overflow() {
    let claim = |offset: u64| {
        part("u8", offset, 24).set(&["encoding"], "zt.zstd-seekable/1").set(&["decoded_length"], u64::MAX)
    };
    let parts = map([("a", claim(4096)), ("b", claim(8192))]);
    let dir = tempfile::tempdir().unwrap();
    let file = gen2(&[&[0; 24], &[0; 24]], &index2("vendor", &[1], parts).bytes());
    try_everything(&file, &dir.path().join("claims.zt"));
    // One component cannot be judged, the others are read by themselves, and the shape has one dimension only.
    let hidden = part("u64", 12288, 24).set(&["encoding"], "other").set(&["decoded_length"], 24);
    let parts =
        map([("values", part("u8", 4096, 3)), ("indices", part("u64", 8192, 24)), ("indptr", hidden)]);
    let file = gen2(&[&[0; 3], &[0; 24], &[0; 24]], &index2("zt.sparse_csr/1", &[2], parts).bytes());
    assert_eq!(from_bytes(&file).unwrap_err().kind(), ErrorKind::Layout);
}
