//! Damage is noticed: a file with any one bit flipped, or cut anywhere, never gives other data than was written.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ztensor::container::{FOOTER_LEN, Footer};
use ztensor::{
    Component, DType, Encoding, Fsync, Layout, Metadata, Mode, ReadOptions, Reader, Result, Tensor, Value,
    WriteOptions, Writer,
};

include!("noise/mod.rs");

/// Floats as weights have them: exponents that an entropy coder shortens, mantissas that nothing does.
fn weights(len: usize) -> Vec<u8> {
    let sum = |bytes: &[u8; 8]| bytes.iter().map(|&byte| f32::from(byte) - 127.5).sum::<f32>();
    noise(8 * len).as_chunks().0.iter().flat_map(|bytes| (sum(bytes) * 1.1e-4).to_le_bytes()).collect()
}

/// Text whose repetitions are worth a search for matches, and whose letters are worth a Huffman table.
fn text(len: usize) -> Vec<u8> {
    let words = ["tensor", "a", "model", "weights", "of the", "layer", "norm", "bias", "quick", "jumps over"];
    noise(len)
        .iter()
        .flat_map(|byte| format!("{} ", words[usize::from(byte % 10)]).into_bytes())
        .take(len)
        .collect()
}

fn int32(values: impl IntoIterator<Item = i32>) -> Vec<u8> {
    values.into_iter().flat_map(i32::to_le_bytes).collect()
}

/// Name, type, shape, layout, size of blocks, components and level of a tensor.
type Spec = (&'static str, DType, Vec<u64>, Layout, Option<[u64; 2]>, Vec<(DType, Vec<u8>)>, i32);

/// Small tensors of every kind: raw, compressed in every way, and sparse.
fn specs() -> Vec<Spec> {
    use DType::{Complex64, Float32, Int32, UInt8};
    use Layout::{Dense, SparseBsr, SparseCoo, SparseCsr};
    let dense = |name, dtype: DType, bytes: Vec<u8>, level| {
        let shape = vec![(bytes.len() / dtype.size()) as u64];
        (name, dtype, shape, Dense, None, vec![(dtype, bytes)], level)
    };
    let indices = || (Int32, int32((0..60).map(|at| at * 7 % 50)));
    let indptr = || (Int32, int32((0..=20).map(|row| row * 3)));
    vec![
        dense("raw", Float32, weights(5), 0),
        dense("weights", Float32, weights(170), 3),
        dense("text", UInt8, text(700), 19),
        dense("counts", Int32, int32((0..100).map(|at| at * at)), 12),
        dense("constant", Complex64, vec![0; 800], 3),
        ("csr", Float32, vec![20, 50], SparseCsr, None, vec![(Float32, weights(60)), indices(), indptr()], 3),
        (
            "coo",
            UInt8,
            vec![9, 9],
            SparseCoo,
            None,
            vec![(UInt8, noise(3)), (Int32, int32([0, 4, 8, 8, 0, 3]))],
            0,
        ),
        (
            "bsr",
            UInt8,
            vec![40, 100],
            SparseBsr,
            Some([2, 2]),
            vec![(UInt8, noise(240)), indices(), indptr()],
            3,
        ),
    ]
}

/// A file of the tensors, and of one more that is tied to the second.
fn file() -> Vec<u8> {
    let specs = specs();
    let mut writer = Writer::memory(WriteOptions {
        threads: 1,
        fsync: Fsync::Never,
        metadata: Metadata::from([("answer".to_owned(), Value::Int(42))]),
        ..WriteOptions::default()
    })
    .unwrap();
    let tied = (&specs[1], "tied");
    for ((_, dtype, shape, layout, blocksize, parts, level), name) in
        specs.iter().map(|spec| (spec, spec.0)).chain([tied])
    {
        let share = u64::from(parts == &specs[1].5);
        let components: Vec<_> =
            parts.iter().map(|(dtype, bytes)| Component { dtype: *dtype, bytes, share }).collect();
        let tensor = Tensor {
            name,
            dtype: *dtype,
            shape,
            layout: *layout,
            blocksize: *blocksize,
            components: &components,
            level: *level,
            attributes: Metadata::from([("note".to_owned(), Value::from("kept"))]),
        };
        writer.add(&[tensor]).unwrap();
    }
    writer.finish().unwrap().unwrap().as_slice().to_vec()
}

/// What a file says and holds.
struct Contents {
    /// All that the index says about data; where blobs stand does not matter.
    index: String,
    /// Tensor, component and decoded bytes.
    parts: Vec<(usize, usize, Vec<u8>)>,
}

fn describe(reader: &Reader) -> String {
    let index = reader.index();
    let tensors: Vec<_> = index
        .iter()
        .map(|info| {
            let parts: Vec<_> = info.components().map(|part| (part.role(), part.dtype())).collect();
            (info.name(), info.dtype(), info.shape(), info.layout(), info.attributes(), parts)
        })
        .collect();
    format!("{:?} {tensors:?}", index.metadata)
}

fn from_bytes(bytes: Vec<u8>) -> Result<Reader> {
    Reader::from_bytes(bytes, ReadOptions { threads: 1, ..ReadOptions::default() })
}

impl Contents {
    fn of(bytes: &[u8]) -> Self {
        let reader = from_bytes(bytes.to_vec()).unwrap();
        let parts = reader
            .index()
            .iter()
            .flat_map(|info| (0..info.components().len()).map(move |component| (info.number(), component)));
        let read = |(tensor, component)| {
            (tensor, component, reader.read(tensor, component, Some(true)).unwrap().as_slice().to_vec())
        };
        Self { index: describe(&reader), parts: parts.map(read).collect() }
    }

    /// Reads a damaged file in every way, and says which way gave other data than these.
    fn differ(&self, reader: &Reader) -> Option<String> {
        if describe(reader) != self.index {
            return Some("another index".to_owned());
        }
        let intact = reader.verify(|_, _| true).is_ok();
        for (tensor, component, bytes) in &self.parts {
            let info = reader.tensor(*tensor).unwrap();
            let part = info.component(*component).unwrap();
            // A frame carries its own checksum: what was compressed needs no verification.
            let is_checked = intact || matches!(part.encoding(), Encoding::Zstd(_));
            let read = reader.read(*tensor, *component, Some(false));
            if is_checked && read.is_ok_and(|found| found.as_slice() != bytes) {
                return Some(format!("other {} of {:?}, unnoticed", part.role_name(), info.name()));
            }
        }
        let all: Vec<usize> = (0..reader.index().len()).collect();
        let batch = reader.read_many(&all, Some(true)).ok()?;
        let equal = |(at, (.., bytes)): (usize, &(usize, usize, Vec<u8>))| {
            batch.buffer(at).unwrap().as_slice() == bytes
        };
        (!self.parts.iter().enumerate().all(equal)).then(|| "other data, verified".to_owned())
    }

    /// Fails if a damaged file makes the library panic, or gives other data than these.
    fn check(&self, what: impl std::fmt::Display, open: impl FnOnce() -> Result<Reader>) {
        let outcome = catch_unwind(AssertUnwindSafe(|| open().ok().and_then(|reader| self.differ(&reader))));
        match outcome {
            Ok(difference) => assert_eq!(difference, None, "{what}"),
            Err(_) => panic!("{what}: the library panicked"),
        }
    }
}

/// Opens every damaged file in each way: mapped, read, and in memory.
fn check_all(damaged: impl Iterator<Item = (String, Vec<u8>)>) {
    let original = Contents::of(&file());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.zt");
    // Written in place: to truncate a file first makes some filesystems flush it.
    let on_disk = fs::File::create(&path).unwrap();
    let mut count = 0;
    for (what, bytes) in damaged {
        on_disk.write_all_at(&bytes, 0).unwrap();
        on_disk.set_len(bytes.len() as u64).unwrap();
        for mode in [Mode::Mmap, Mode::Read] {
            let options = ReadOptions { mode, threads: 1, ..ReadOptions::default() };
            original.check(format_args!("{what}, {mode:?}"), || Reader::open(&path, options));
        }
        original.check(what, || from_bytes(bytes));
        count += 1;
    }
    println!("{count} damaged files");
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

#[test]
fn the_file_holds_every_kind_of_blob() {
    let bytes = file();
    let reader = from_bytes(bytes.clone()).unwrap();
    let parts: Vec<_> = reader.index().iter().flat_map(|info| info.components()).collect();
    let filters: std::collections::BTreeSet<_> = parts
        .iter()
        .filter_map(|part| match part.encoding() {
            Encoding::Zstd(zstd) => Some(zstd.filter.name()),
            _ => None,
        })
        .collect();
    assert_eq!(filters.into_iter().collect::<Vec<_>>(), ["delta", "float", "none", "shuffle"]);
    assert!(parts.iter().any(|part| part.encoding() == Encoding::Raw));
    // The test takes time in proportion to the square of the file's size.
    assert!(bytes.len() < 6000, "{} bytes", bytes.len());
    Contents::of(&bytes).check("the file as it is", || Ok(reader));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = file();
    check_all((0..8 * bytes.len()).map(|bit| (format!("bit {bit} flipped"), flip(&bytes, bit))));
}

#[test]
fn every_cut_is_noticed() {
    let bytes = file();
    for len in 0..bytes.len() {
        assert!(from_bytes(bytes[..len].to_vec()).is_err(), "{len} bytes were opened");
    }
    check_all((0..bytes.len()).map(|len| (format!("cut to {len} bytes"), bytes[..len].to_vec())));
}

/// Flips bits of the index and makes the checksums right again, so that every check behind them is reached. What
/// such a file says may differ, but reading it must not panic.
#[test]
fn a_forged_index_does_no_harm() {
    let bytes = file();
    let tail = bytes.len() - FOOTER_LEN as usize;
    let footer = Footer::parse(bytes[tail..].try_into().unwrap(), bytes.len() as u64).unwrap();
    let start = footer.index_offset as usize;
    for bit in 8 * start..8 * tail {
        let mut forged = flip(&bytes, bit);
        let index_crc32 = crc32fast::hash(&forged[start..tail]);
        forged[tail..].copy_from_slice(&Footer { index_crc32, ..footer }.to_bytes());
        let outcome = catch_unwind(|| {
            let Ok(reader) = from_bytes(forged) else { return };
            let _ = reader.verify(|_, _| true);
            for info in reader.index().iter() {
                let _ = reader.read_many(&[info.number()], Some(true));
                for (component, part) in info.components().enumerate() {
                    let _ = reader.read(info.number(), component, None);
                    let _ = reader.read_range(info.number(), component, 1, part.stored_len() / 2, None);
                }
            }
        });
        assert!(outcome.is_ok(), "bit {bit} of the index flipped: the library panicked");
    }
}
