//! Files that a released version of the format wrote are read for ever: the golden files never change.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use ztensor::{
    Class, Component, DType, Encoding, Filter, Fsync, Known, Layout, Metadata, Mode, ReadOptions, Reader,
    Tensor, Value, WriteOptions, Writer,
};

/// A tensor, as it was written and as it must be read.
struct Golden {
    name: String,
    dtype: DType,
    shape: Vec<u64>,
    layout: Layout,
    blocksize: Option<[u64; 2]>,
    parts: Vec<(DType, Vec<u8>)>,
    level: i32,
    attributes: Metadata,
    /// Other than 0: tensors of the same number are tied.
    share: u64,
}

/// A file: its name, the CRC-32 of its bytes, its metadata and tensors.
struct GoldenFile {
    name: &'static str,
    /// Tells that somebody wrote the file anew.
    crc32: u32,
    metadata: Metadata,
    tensors: Vec<Golden>,
}

fn files() -> Vec<GoldenFile> {
    let file = |name, crc32, tensors| GoldenFile { name, crc32, metadata: Metadata::new(), tensors };
    vec![
        file("v1-dense.zt", 0x320a_0b5b, dense(6, 0)),
        file("v1-compressed.zt", 0x2170_1d12, dense(100, 3)),
        file("v1-chunks.zt", 0x2f20_cc86, vec![chunks()]),
        file("v1-periods.zt", 0x9929_b9ff, vec![periods()]),
        file("v1-again.zt", 0x1907_1594, vec![again()]),
        file("v1-sparse.zt", 0x918d_af58, sparse(0)),
        file("v1-sparse-compressed.zt", 0x17d5_fcdc, sparse(3)),
        GoldenFile { metadata: metadata(), ..file("v1-metadata.zt", 0x24cf_03a3, with_attributes()) },
    ]
}

/// Elements as weights have them: a top byte that compresses, noise below. Of a bool, 0 and 1.
fn elements(dtype: DType, len: usize) -> Vec<u8> {
    let width = dtype.filter_width();
    let byte = |at: usize| {
        let noise = (at as u32).wrapping_mul(2_654_435_761);
        match dtype.class() {
            Class::Bool => u8::from(at.is_multiple_of(3)),
            _ if at % width + 1 == width => 60 + (at / width % 4) as u8,
            _ => (noise >> 24) as u8 ^ (noise >> 11) as u8,
        }
    };
    (0..len * dtype.size()).map(byte).collect()
}

fn integers(dtype: DType, values: impl IntoIterator<Item = u64>) -> (DType, Vec<u8>) {
    (dtype, values.into_iter().flat_map(|value| value.to_le_bytes().into_iter().take(dtype.size())).collect())
}

fn tensor(name: impl Into<String>, dtype: DType, shape: &[u64], level: i32) -> Golden {
    let len = shape.iter().product::<u64>() as usize;
    Golden {
        name: name.into(),
        dtype,
        shape: shape.to_vec(),
        layout: Layout::Dense,
        blocksize: None,
        parts: vec![(dtype, elements(dtype, len))],
        level,
        attributes: Metadata::new(),
        share: 0,
    }
}

/// Every element type.
fn dense(len: u64, level: i32) -> Vec<Golden> {
    DType::all().map(|dtype| tensor(dtype.name(), dtype, &[len / 2, 2], level)).collect()
}

/// More than two of the chunks that the writer makes.
fn chunks() -> Golden {
    let len = 1_100_000;
    let part = integers(DType::UInt16, (0..len).map(|at| at / 1000));
    Golden { parts: vec![part], ..tensor("chunks", DType::UInt16, &[len], 3) }
}

/// The same again and again, over more than 16 MiB.
fn periods() -> Golden {
    let (period, count) = (500, 9000);
    let part = (DType::Float32, elements(DType::Float32, period).repeat(count));
    Golden { parts: vec![part], ..tensor("periods", DType::Float32, &[count as u64, period as u64], 3) }
}

/// Four chunks, of which two are the same as the one before.
fn again() -> Golden {
    let len = 3 * (1 << 19) + 9;
    let part = integers(DType::Int16, std::iter::repeat_n(7, len));
    Golden { parts: vec![part], ..tensor("again", DType::Int16, &[len as u64], 3) }
}

const STORED: u64 = 100;

/// A matrix of 100 stored entries, one in each row and column, in blocks where the layout asks for it.
fn matrix(layout: Layout, dtype: DType, level: i32) -> Golden {
    let blocksize = layout.is_blocked().then_some([2, 3]);
    let [rows, columns] = blocksize.unwrap_or([1, 1]);
    let crossing = || (0..STORED).map(|at| at * 7 % STORED);
    let values = (DType::Float32, elements(DType::Float32, (STORED * rows * columns) as usize));
    let parts = match layout {
        Layout::SparseCoo => vec![values, integers(dtype, (0..STORED).chain(crossing()))],
        _ => vec![values, integers(dtype, crossing()), integers(dtype, 0..=STORED)],
    };
    Golden {
        layout,
        blocksize,
        shape: vec![STORED * rows, STORED * columns],
        parts,
        ..tensor(format!("{} {}", layout.name(), dtype.name()), DType::Float32, &[], level)
    }
}

/// Every layout, and every type of index.
fn sparse(level: i32) -> Vec<Golden> {
    let layouts = Layout::all().filter(|layout| *layout != Layout::Dense && *layout != Layout::SparseCsr);
    let dtypes = DType::all().filter(|dtype| dtype.is_integer());
    layouts
        .map(|layout| matrix(layout, DType::Int64, level))
        .chain(dtypes.map(|dtype| matrix(Layout::SparseCsr, dtype, level)))
        .collect()
}

fn metadata() -> Metadata {
    let text = |text: &str| text.to_owned();
    Metadata::from([
        (text("nil"), Value::Nil),
        (text("bool"), Value::Bool(true)),
        (text("int"), Value::Int(-1)),
        (text("uint"), Value::UInt(u64::MAX)),
        (text("float"), Value::Float(0.1)),
        (text("text"), Value::from("Größe \u{1f9ca}")),
        (text("bytes"), Value::Bytes(vec![0, 255])),
        (text("array"), Value::Array(vec![Value::Int(1), Value::Array(vec![])])),
        (text("map"), Value::Map(vec![(text("b"), Value::Int(2)), (text("a"), Value::Nil)])),
        (text("ext"), Value::Ext(-7, vec![1, 2, 3])),
    ])
}

/// Attributes, tied tensors, shapes and names at the edge of what is allowed.
fn with_attributes() -> Vec<Golden> {
    let blocks = matrix(Layout::SparseBsr, DType::Int8, 0);
    vec![
        Golden { attributes: metadata(), ..tensor("attributes", DType::UInt8, &[3], 0) },
        Golden { attributes: metadata(), name: "attributes and blocksize".to_owned(), ..blocks },
        Golden { share: 1, ..tensor("tied", DType::UInt8, &[24], 0) },
        Golden { share: 1, ..tensor("tied, reshaped", DType::UInt8, &[2, 3, 4], 0) },
        tensor("scalar", DType::Float64, &[], 0),
        tensor("empty", DType::Float32, &[3, 0, 5], 3),
        tensor("rank 64", DType::Int16, &[1; 64], 0),
        tensor("Name \u{1f9ca}/with.dots and\nnewlines", DType::Bool, &[5], 0),
        tensor("x".repeat(4096), DType::Float16, &[1], 0),
    ]
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden")
}

fn check(reader: &Reader, file: &GoldenFile) {
    assert_eq!(reader.index().metadata, file.metadata, "{}", file.name);
    assert_eq!(reader.index().len(), file.tensors.len(), "{}", file.name);
    for (number, golden) in file.tensors.iter().enumerate() {
        let info = reader.tensor(number).unwrap();
        let place = format!("{}, {}", file.name, golden.name);
        let mut attributes = golden.attributes.clone();
        if let Some(blocksize) = golden.blocksize {
            let blocksize = Value::Array(blocksize.map(Value::from).to_vec());
            attributes.insert("blocksize".to_owned(), blocksize);
        }
        assert_eq!(info.name(), golden.name, "{place}");
        assert_eq!(info.dtype(), Known::Known(golden.dtype), "{place}");
        assert_eq!(info.shape(), golden.shape, "{place}");
        assert_eq!(info.layout(), Known::Known(golden.layout), "{place}");
        assert_eq!(info.attributes().cloned().unwrap_or_default(), attributes, "{place}");
        assert_eq!(info.components().len(), golden.parts.len(), "{place}");
        let batch = reader.read_many(&[number], None).unwrap();
        for (at, ((dtype, bytes), part)) in golden.parts.iter().zip(info.components()).enumerate() {
            assert_eq!(part.dtype(), Known::Known(*dtype), "{place}");
            assert_eq!(Known::Known(golden.layout.roles()[at]), part.role(), "{place}");
            assert!(batch.buffer(at).unwrap().as_slice() == bytes, "{place}: other {}", part.role_name());
        }
    }
    reader.verify(|_, _| true).unwrap();
}

#[test]
fn golden_files_are_read_for_ever() {
    for file in files() {
        let path = directory().join(file.name);
        let found = crc32fast::hash(&fs::read(&path).unwrap());
        assert_eq!(found, file.crc32, "{} was changed; its CRC-32 is {found:#010x}", file.name);
        for mode in [Mode::Mmap, Mode::Read] {
            check(&Reader::open(&path, ReadOptions { mode, verify: true, threads: 1 }).unwrap(), &file);
        }
    }
}

/// What the files are there for is in them.
#[test]
fn golden_files_hold_every_encoding() {
    let mut filters = BTreeSet::new();
    let mut names = BTreeSet::new();
    for file in files() {
        names.insert(file.name.to_owned());
        let reader = Reader::open(directory().join(file.name), ReadOptions::default()).unwrap();
        for part in reader.index().iter().flat_map(|info| info.components()) {
            if let Encoding::Zstd(zstd) = part.encoding() {
                filters.insert(zstd.filter.name());
            }
            assert!(file.name != "v1-compressed.zt" || part.encoding() != Encoding::Raw);
            assert!(file.name != "v1-periods.zt" || part.stored_len() < part.len_bytes().unwrap() / 3000);
            assert!(
                file.name != "v1-again.zt"
                    || matches!(part.encoding(), Encoding::Zstd(zstd) if zstd.stored[1..3] == [0, 0])
            );
            assert!(file.name != "v1-chunks.zt" || part.stored_len() < part.len_bytes().unwrap() / 10);
        }
    }
    assert_eq!(filters, Filter::all().map(Filter::name).collect());
    let entries = fs::read_dir(directory()).unwrap();
    let found: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, names, "every golden file is tested");
}

/// Writes the golden files that are not there yet. Those that are there stay: what they are for is to be old.
#[test]
#[ignore = "run it once for each new golden file"]
fn write_new_golden_files() {
    fs::create_dir_all(directory()).unwrap();
    let mut written = Vec::new();
    for file in files() {
        let options = WriteOptions { threads: 1, fsync: Fsync::Never, atomic: true, metadata: file.metadata };
        let mut writer = Writer::memory(options).unwrap();
        for golden in &file.tensors {
            let components: Vec<_> = golden
                .parts
                .iter()
                .map(|(dtype, bytes)| Component { dtype: *dtype, bytes, share: golden.share })
                .collect();
            let tensor = Tensor {
                name: &golden.name,
                dtype: golden.dtype,
                shape: &golden.shape,
                layout: golden.layout,
                blocksize: golden.blocksize,
                components: &components,
                level: golden.level,
                attributes: golden.attributes.clone(),
            };
            writer.add(&[tensor]).unwrap();
        }
        let bytes = writer.finish().unwrap().unwrap().as_slice().to_vec();
        match File::create_new(directory().join(file.name)) {
            Err(err) if err.kind() == ErrorKind::AlreadyExists => continue,
            out => out.unwrap().write_all(&bytes).unwrap(),
        }
        written.push(format!("{}: CRC-32 {:#010x}", file.name, crc32fast::hash(&bytes)));
    }
    assert!(!written.is_empty(), "every golden file is there; none is written again");
    println!("{}", written.join("\n"));
}
