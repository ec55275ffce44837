//! Damage: whatever bit of a file is flipped, and wherever it is cut, the answer is data or an error, never a panic.

use std::fs;

use ztensor::{ErrorKind, ReadOptions, Reader};

use super::build::{gen01, gen2, index2, map, part};
use super::{file, from_bytes, read_all};

/// Does all that can be done with a file; its outcome does not matter.
fn try_everything(bytes: &[u8]) {
    // On one thread: starting others would take longer than the work.
    let options = ReadOptions { threads: 1, ..ReadOptions::default() };
    if let Ok(reader) = Reader::from_bytes(bytes.to_vec(), options) {
        let _ = read_all(&reader, true);
        let _ = reader.verify(|_, _| true);
        for (at, info) in reader.index().iter().enumerate() {
            let _ = (info.len_bytes(), reader.read_many(&[at], None));
            for component in 0..info.components().len() {
                let _ = reader.read_range(at, component, 1, 2, None);
            }
        }
    }
}

#[test]
fn no_flipped_bit_panics() {
    let small = [
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
    for name in small {
        let bytes = fs::read(file(&format!("{name}.zt"))).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            try_everything(&damaged);
        }
    }
}

#[test]
fn no_flipped_bit_of_generation_2_panics() {
    for name in ["zstd_seekable", "csr", "mx", "logical_types"] {
        let bytes = fs::read(file(&format!("2.1.2/{name}.zt"))).unwrap();
        let len = bytes.len();
        let word = |before: usize| u64::from_le_bytes(*bytes[len - before..].first_chunk().unwrap()) as usize;
        let (index, index_len) = (word(40), word(32));
        // Zeros between blobs are left out.
        for bit in (0..len * 8).filter(|bit| bytes[bit / 8] != 0 || bit / 8 >= index) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // An index that is damaged and hashed again gets past the hash.
            let hash = xxhash_rust::xxh3::xxh3_64(&damaged[index..index + index_len]);
            damaged[len - 24..len - 16].copy_from_slice(&hash.to_le_bytes());
            try_everything(&damaged);
        }
    }
}

#[test]
fn no_cut_panics() {
    for name in ["0.1.4/single_f32", "1.0.1/coo", "1.2.3/csr_zstd_sha256", "2.1.2/single_f32"] {
        let bytes = fs::read(file(&format!("{name}.zt"))).unwrap();
        let step = if name.starts_with('2') { 61 } else { 1 };
        for len in (0..bytes.len()).step_by(step) {
            assert!(from_bytes(&bytes[..len]).is_err(), "{name} cut to {len}");
        }
    }
}

#[test]
fn numbers_of_the_oldest_sparse_layouts_do_not_overflow() {
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
                try_everything(&gen01(&[&[1; 16]], &super::build::Cbor::Array(vec![entry]).bytes()));
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
    try_everything(&gen2(&[&[0; 24], &[0; 24]], &index2("vendor", &[1], parts).bytes()));
    // One component cannot be judged, the others are read by themselves, and the shape has one dimension only.
    let hidden = part("u64", 12288, 24).set(&["encoding"], "other").set(&["decoded_length"], 24);
    let parts =
        map([("values", part("u8", 4096, 3)), ("indices", part("u64", 8192, 24)), ("indptr", hidden)]);
    let file = gen2(&[&[0; 3], &[0; 24], &[0; 24]], &index2("zt.sparse_csr/1", &[2], parts).bytes());
    assert_eq!(from_bytes(&file).unwrap_err().kind(), ErrorKind::Layout);
}
