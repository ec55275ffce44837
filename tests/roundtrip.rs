//! What goes in comes out: every element type, layout, encoding, source and sink.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;

use proptest::prelude::*;
use ztensor::{
    Component, DType, Encoding, ErrorKind, Fsync, Known, Layout, Metadata, Mode, ReadOptions, Reader, Tensor,
    Value, WriteOptions, Writer,
};

/// A tensor that owns its bytes.
#[derive(Debug, Clone)]
struct Owned {
    dtype: DType,
    layout: Layout,
    shape: Vec<u64>,
    blocksize: Option<[u64; 2]>,
    components: Vec<(DType, Vec<u8>)>,
    level: i32,
    attributes: Metadata,
}

/// Writes tensors named t0, t1, ... to a file, or to memory where there is no path; gives the file's bytes.
fn write(tensors: &[Owned], path: Option<&Path>, threads: usize) -> Vec<u8> {
    let options = WriteOptions {
        threads,
        fsync: Fsync::Never,
        metadata: Metadata::from([("answer".to_owned(), Value::Int(42))]),
        ..WriteOptions::default()
    };
    let mut writer = match path {
        Some(path) => Writer::create(path, options).unwrap(),
        None => Writer::memory(options).unwrap(),
    };
    let names: Vec<String> = (0..tensors.len()).map(|at| format!("t{at}")).collect();
    let components: Vec<Vec<Component<'_>>> = tensors
        .iter()
        .map(|tensor| {
            tensor
                .components
                .iter()
                .map(|(dtype, bytes)| Component { dtype: *dtype, bytes, share: 0 })
                .collect()
        })
        .collect();
    let specs: Vec<Tensor<'_>> = tensors
        .iter()
        .enumerate()
        .map(|(at, tensor)| Tensor {
            name: &names[at],
            dtype: tensor.dtype,
            shape: &tensor.shape,
            layout: tensor.layout,
            blocksize: tensor.blocksize,
            components: &components[at],
            level: tensor.level,
            attributes: tensor.attributes.clone(),
        })
        .collect();
    writer.add(&specs).unwrap();
    match (writer.finish().unwrap(), path) {
        (Some(bytes), None) => bytes.as_slice().to_vec(),
        (None, Some(path)) => std::fs::read(path).unwrap(),
        _ => panic!("a file in memory gives its bytes, one on disk does not"),
    }
}

fn open(path: &Path, mode: Mode, verify: bool, threads: usize) -> Reader {
    Reader::open(path, ReadOptions { mode, verify, threads }).unwrap()
}

/// The attributes as the file holds them: the size of blocks is one.
fn stored_attributes(tensor: &Owned) -> Metadata {
    let blocksize = tensor.blocksize.map(|sizes| Value::Array(sizes.into_iter().map(Value::from).collect()));
    let blocksize = blocksize.map(|sizes| ("blocksize".to_owned(), sizes));
    tensor.attributes.clone().into_iter().chain(blocksize).collect()
}

/// Checks that a reader gives back the tensors, by every way of reading.
fn check(reader: &Reader, tensors: &[Owned]) {
    assert_eq!(reader.index().len(), tensors.len());
    assert_eq!(reader.index().metadata["answer"], Value::Int(42));
    let all: Vec<usize> = (0..tensors.len()).collect();
    let batch = reader.read_many(&all, None).unwrap();
    let mut number = 0;
    for (at, tensor) in tensors.iter().enumerate() {
        let info = reader.tensor(at).unwrap();
        assert_eq!(reader.find(&format!("t{at}")).unwrap(), at);
        assert_eq!(info.dtype(), Known::Known(tensor.dtype));
        assert_eq!(info.layout(), Known::Known(tensor.layout));
        assert_eq!(info.shape(), tensor.shape);
        assert_eq!(info.blocksize(), tensor.blocksize);
        assert_eq!(info.attributes().cloned().unwrap_or_default(), stored_attributes(tensor));
        for (role, (dtype, bytes)) in tensor.components.iter().enumerate() {
            assert_eq!(info.component(role).unwrap().dtype(), Known::Known(*dtype));
            assert_eq!(batch.buffer(number).unwrap().as_slice(), bytes, "t{at} component {role} of a batch");
            assert_eq!(reader.read(at, role, None).unwrap().as_slice(), bytes, "t{at} component {role}");
            let mut copy = vec![0xaa; bytes.len()];
            reader.read_into(vec![(at, role, &mut copy)], None).unwrap();
            assert_eq!(&copy, bytes);
            let size = dtype.size();
            let count = (bytes.len() / size) as u64;
            for (first, part) in [(0, count), (count / 3, count / 2), (count, 0)] {
                let range = reader.read_range(at, role, first, part, None).unwrap();
                let expected = &bytes[first as usize * size..(first + part) as usize * size];
                assert_eq!(range.as_slice(), expected, "t{at} component {role} from {first}");
            }
            number += 1;
        }
    }
    reader.verify(|_, _| true).unwrap();
}

/// Bytes with some structure, so that compression has something to do; of bools, each 0 or 1.
fn bytes(dtype: DType, len: usize) -> impl Strategy<Value = Vec<u8>> {
    (any::<u64>(), 0u32..4).prop_map(move |(seed, kind)| {
        let mut state = seed | 1;
        (0..len)
            .map(|at| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let noise = (state >> 56) as u8;
                let byte = match kind {
                    0 => noise,
                    1 => 0,
                    2 => (at / 7) as u8,
                    _ => noise & 3,
                };
                if dtype == DType::Bool { byte & 1 } else { byte }
            })
            .collect()
    })
}

fn dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(DType::all().collect::<Vec<_>>())
}

fn index_dtype() -> impl Strategy<Value = DType> {
    prop::sample::select(
        DType::all().filter(|dtype| dtype.is_integer() && dtype.size() > 1).collect::<Vec<_>>(),
    )
}

/// Integers as little-endian elements of a type.
fn integers(dtype: DType, values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()[..dtype.size()].to_vec()).collect()
}

/// A dense tensor of one dimension.
fn flat(dtype: DType, bytes: Vec<u8>, level: i32) -> Owned {
    Owned {
        dtype,
        layout: Layout::Dense,
        shape: vec![(bytes.len() / dtype.size()) as u64],
        blocksize: None,
        components: vec![(dtype, bytes)],
        level,
        attributes: Metadata::new(),
    }
}

fn note() -> Metadata {
    Metadata::from([("note".to_owned(), Value::from("kept"))])
}

fn dense() -> impl Strategy<Value = Owned> {
    (dtype(), prop::collection::vec(0u64..12, 0..4), 0i32..4).prop_flat_map(|(dtype, shape, level)| {
        let len = shape.iter().product::<u64>() as usize * dtype.size();
        bytes(dtype, len).prop_map(move |bytes| {
            let tensor = flat(dtype, bytes, level);
            Owned { shape: shape.clone(), attributes: note(), ..tensor }
        })
    })
}

/// A sparse tensor in any layout, from the coordinates of its stored entries.
fn sparse() -> impl Strategy<Value = Owned> {
    let layouts =
        [Layout::SparseCsr, Layout::SparseCsc, Layout::SparseCoo, Layout::SparseBsr, Layout::SparseBsc];
    let entries = prop::collection::vec((0u64..9, 0u64..7), 0..40);
    (dtype(), index_dtype(), index_dtype(), prop::sample::select(layouts.to_vec()), entries, 0i32..4)
        .prop_flat_map(|(dtype, indices, indptr, layout, mut entries, level)| {
            let by_column = matches!(layout, Layout::SparseCsc | Layout::SparseBsc);
            entries.sort_by_key(|&(row, column)| if by_column { (column, row) } else { (row, column) });
            let blocksize = layout.is_blocked().then_some([2u64, 3u64]);
            let [rows, columns] = blocksize.unwrap_or([1, 1]);
            let values = entries.len() * (rows * columns) as usize * dtype.size();
            bytes(dtype, values).prop_map(move |values| {
                let mut components = vec![(dtype, values)];
                if layout == Layout::SparseCoo {
                    let (rows, columns): (Vec<u64>, Vec<u64>) = entries.iter().copied().unzip();
                    components.push((indices, integers(indices, &[rows, columns].concat())));
                } else {
                    let pick =
                        |entry: &(u64, u64), major: bool| if major == by_column { entry.1 } else { entry.0 };
                    let minor: Vec<u64> = entries.iter().map(|entry| pick(entry, false)).collect();
                    let count = if by_column { 7 } else { 9 };
                    let starts: Vec<u64> = (0..=count)
                        .map(|major| entries.iter().filter(|entry| pick(entry, true) < major).count() as u64)
                        .collect();
                    components.push((indices, integers(indices, &minor)));
                    components.push((indptr, integers(indptr, &starts)));
                }
                Owned {
                    dtype,
                    layout,
                    shape: vec![9 * rows, 7 * columns],
                    blocksize,
                    components,
                    level,
                    attributes: note(),
                }
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_goes_in_comes_out(tensors in prop::collection::vec(prop_oneof![dense(), sparse()], 0..6)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.zt");
        let on_disk = write(&tensors, Some(&path), 1);
        let in_memory = write(&tensors, None, 3);
        prop_assert_eq!(&on_disk, &in_memory, "the same calls write the same bytes");
        for verify in [false, true] {
            check(&open(&path, Mode::Mmap, verify, 2), &tensors);
            check(&open(&path, Mode::Read, verify, 1), &tensors);
        }
        let reader = Reader::from_bytes(in_memory, ReadOptions::default()).unwrap();
        check(&reader, &tensors);
    }
}

include!("noise/mod.rs");

/// Tensors over several chunks, in all modes and with any number of threads.
#[test]
fn large_tensors_round_trip() {
    const MIB: usize = 1 << 20;
    let half_noise: Vec<u8> = noise(5 * MIB).into_iter().flat_map(|byte| [byte, byte & 3]).collect();
    let nibbles = noise(2 * MIB).into_iter().map(|byte| byte & 0x0f).collect();
    let tensors = [
        flat(DType::UInt8, noise(3 * MIB + 17), 0),
        flat(DType::UInt8, noise(3 * MIB + 17), 3),
        flat(DType::BFloat16, half_noise.clone(), 3),
        flat(DType::BFloat16, half_noise, 12),
        flat(DType::Float32, vec![0; 9 * MIB], 3),
        flat(DType::Complex128, nibbles, 3),
        flat(DType::UInt8, b"abcdefgh".repeat(MIB / 2), 1),
        flat(DType::Int64, integers(DType::Int64, &(0..400_000).collect::<Vec<_>>()), 3),
        flat(DType::UInt8, noise(300_000), 0),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.zt");
    let bytes = write(&tensors, Some(&path), 1);
    for threads in [2, 7] {
        assert!(bytes == write(&tensors, None, threads), "{threads} threads write other bytes");
    }
    for mode in [Mode::Mmap, Mode::Read] {
        for threads in [1, 3] {
            check(&open(&path, mode, true, threads), &tensors);
        }
    }
    let reader = open(&path, Mode::Mmap, false, 0);
    let encoding = |at: usize| reader.tensor(at).unwrap().component(0).unwrap().encoding();
    assert_eq!(encoding(1), Encoding::Raw, "what compression makes no smaller is stored raw");
    for compressed in 2..8 {
        assert!(matches!(encoding(compressed), Encoding::Zstd(_)), "t{compressed}");
    }
    for at in [0, 1, 8] {
        assert_eq!(
            reader.tensor(at).unwrap().component(0).unwrap().offset() % 4096,
            0,
            "large blobs are page-aligned"
        );
    }
}

#[test]
fn chunks_that_compress_and_chunks_that_do_not_share_a_component() {
    const MIB: usize = 1 << 20;
    let again = noise(MIB);
    // What a sample of the first chunk promises is less than what storing the others costs.
    let mut hardly = noise(9 * MIB);
    hardly[MIB / 2..][..1200].iter_mut().step_by(8).for_each(|byte| *byte = 0);
    let tensors = [
        flat(DType::UInt8, [noise(3 * MIB), vec![0; MIB], noise(MIB + 5)].concat(), 3),
        flat(DType::Float32, [vec![0; MIB], noise(2 * MIB)].concat(), 3),
        flat(DType::Float64, hardly, 3),
        flat(DType::UInt8, noise(300_000), 3),
        // A chunk that is the same as the one before is not stored, whatever compression makes of it.
        flat(DType::UInt8, again.repeat(5), 3),
        flat(DType::UInt8, [noise(2 * MIB), vec![0; 2 * MIB], again.repeat(4), vec![7; MIB + 5]].concat(), 3),
        flat(DType::Int32, vec![1; 7 * MIB], 3),
    ];
    let bytes = write(&tensors, None, 1);
    assert!(bytes == write(&tensors, None, 3), "the same bytes for any number of threads");
    let reader = Reader::from_bytes(bytes.clone(), ReadOptions::default()).unwrap();
    let is_raw: Vec<bool> =
        reader.index().iter().map(|info| info.component(0).unwrap().encoding() == Encoding::Raw).collect();
    assert_eq!(is_raw, [false, false, true, true, false, false, false]);
    let stored = |at: usize| reader.tensor(at).unwrap().component(0).unwrap().stored_len() as usize;
    assert!(stored(4) < MIB + 100 && stored(5) < 3 * MIB + 500 && stored(6) < 100);
    for threads in [1, 3] {
        let options = ReadOptions { threads, verify: true, ..ReadOptions::default() };
        let reader = Reader::from_bytes(bytes.clone(), options).unwrap();
        check(&reader, &tensors);
    }
}

#[test]
fn shared_components_are_stored_once() {
    let bytes = vec![5u8; 1000];
    let part = Component { dtype: DType::UInt8, bytes: &bytes, share: 9 };
    let tensor = |name, shape| Tensor {
        name,
        dtype: DType::UInt8,
        shape,
        layout: Layout::Dense,
        blocksize: None,
        components: std::slice::from_ref(&part),
        level: 3,
        attributes: Metadata::new(),
    };
    let mut writer = Writer::memory(WriteOptions::default()).unwrap();
    writer.add(&[tensor("a", &[1000]), tensor("b", &[10, 100])]).unwrap();
    writer.add(&[tensor("c", &[1000])]).unwrap();
    let short = Component { bytes: &bytes[..10], ..part };
    let wrong = Tensor { components: &[short], ..tensor("d", &[10]) };
    assert_eq!(writer.add(&[wrong]).unwrap_err().kind(), ErrorKind::Argument);
    let reader = Reader::from_bytes(writer.finish().unwrap().unwrap(), ReadOptions::default()).unwrap();
    let offsets: Vec<u64> = reader.index().iter().map(|info| info.component(0).unwrap().offset()).collect();
    assert_eq!(offsets, [64, 64, 64]);
    let batch = reader.read_many(&[0, 1, 2], None).unwrap();
    assert_eq!(batch.spans()[0], batch.spans()[1]);
    assert_eq!(batch.buffer(2).unwrap().as_slice(), bytes);
}

#[test]
fn a_tensor_that_is_no_such_values_says_what_it_is() {
    let empty = |dtype| Component { dtype, bytes: &[], share: 0 };
    let zero = Component { bytes: &[0; 4], ..empty(DType::Int32) };
    let csr = Tensor {
        name: "csr",
        dtype: DType::Float32,
        shape: &[0, 3],
        layout: Layout::SparseCsr,
        blocksize: None,
        components: &[empty(DType::Float32), empty(DType::Int32), zero],
        level: 0,
        attributes: Metadata::new(),
    };
    let mut writer = Writer::memory(WriteOptions::default()).unwrap();
    writer.add_dense("bytes", &[1], &[1u8]).unwrap();
    writer.add(&[csr]).unwrap();
    let reader = Reader::from_bytes(writer.finish().unwrap().unwrap(), ReadOptions::default()).unwrap();
    for (name, is) in [("bytes", "dense of uint8"), ("csr", "sparse_csr of float32")] {
        let err = reader.read_dense::<f32>(name).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Argument);
        assert_eq!(err.to_string(), format!("<memory>: tensor {name:?}: it is {is}, not dense of float32"));
    }
}

#[test]
fn a_refused_tensor_changes_nothing() {
    let mut writer = Writer::memory(WriteOptions::default()).unwrap();
    writer.add_dense("a", &[2], &[1.0f32, 2.0]).unwrap();
    let refused =
        |writer: &mut Writer, name: &str, shape: &[u64]| writer.add_dense(name, shape, &[1u8]).unwrap_err();
    let err = refused(&mut writer, "a", &[1]);
    assert_eq!(
        (err.kind(), err.to_string().as_str()),
        (ErrorKind::Duplicate, r#"<memory>: tensor "a": a tensor of this name was added before"#)
    );
    assert_eq!(refused(&mut writer, "b", &[2]).kind(), ErrorKind::Size);
    assert_eq!(refused(&mut writer, "", &[1]).kind(), ErrorKind::Name);
    assert_eq!(refused(&mut writer, "b", &[u64::MAX, 2]).kind(), ErrorKind::Shape);
    assert_eq!(refused(&mut writer, "b", &[1; 65]).kind(), ErrorKind::Shape);
    let bools = Component { dtype: DType::Bool, bytes: &[0, 1, 2], share: 0 };
    let tensor = Tensor {
        name: "bools",
        dtype: DType::Bool,
        shape: &[3],
        layout: Layout::Dense,
        blocksize: None,
        components: &[bools],
        level: 0,
        attributes: Metadata::new(),
    };
    assert_eq!(writer.add(&[tensor]).unwrap_err().kind(), ErrorKind::Argument);
    writer.add_dense("b", &[1], &[1u8]).unwrap();
    let bytes = writer.finish().unwrap().unwrap();
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::State);
    assert_eq!(Reader::from_bytes(bytes, ReadOptions::default()).unwrap().index().len(), 2);
}

#[test]
fn many_small_tensors_keep_their_attributes() {
    const COUNT: usize = 100_000;
    let words = (0..COUNT).map(|at| (format!("word {at}"), Value::Int(at as i64))).collect();
    let metadata = Metadata::from([("words".to_owned(), Value::Map(words))]);
    let attributes = |at| Metadata::from([("number".to_owned(), Value::Int(at as i64))]);
    let names: Vec<String> = (0..COUNT).map(|at| at.to_string()).collect();
    let part = [Component { dtype: DType::UInt8, bytes: &[7], share: 0 }];
    let tensors: Vec<Tensor<'_>> = (0..COUNT)
        .map(|at| Tensor {
            name: &names[at],
            dtype: DType::UInt8,
            shape: &[],
            layout: Layout::Dense,
            blocksize: None,
            components: &part,
            level: 0,
            attributes: attributes(at),
        })
        .collect();
    let options = WriteOptions { metadata: metadata.clone(), ..WriteOptions::default() };
    let mut writer = Writer::memory(options).unwrap();
    writer.add(&tensors).unwrap();
    let reader = Reader::from_bytes(writer.finish().unwrap().unwrap(), ReadOptions::default()).unwrap();
    assert_eq!(reader.index().metadata, metadata);
    for info in reader.index().iter() {
        assert!(info.has_attributes());
        assert_eq!(info.attributes(), Some(&attributes(info.number())));
    }
}

/// What takes more memory than a reader gives to a file is not written in the first place.
#[test]
fn key_values_that_no_reader_takes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.zt");
    let write = |count, bytes: &[u8]| {
        let metadata = Metadata::from([("k".to_owned(), Value::Array(vec![Value::Nil; count]))]);
        let mut writer = Writer::create(&path, WriteOptions { metadata, ..WriteOptions::default() })?;
        writer.add_dense("t", &[bytes.len() as u64], bytes)?;
        writer.finish()
    };
    write(400_000, &[1]).unwrap();
    let before = std::fs::read(&path).unwrap();
    let err = write(1_000_000, &[1]).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Limit, "{err}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // Beside more data they are nothing much.
    write(1_000_000, &vec![1; 8 << 20]).unwrap();
    let reader = open(&path, Mode::Mmap, true, 1);
    assert_eq!(reader.index().metadata["k"], Value::Array(vec![Value::Nil; 1_000_000]));
}

#[test]
fn damage_is_found_where_it_is() {
    let values: Vec<f32> = (0..400_000).map(|at| at as f32).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.zt");
    let mut writer = Writer::create(&path, WriteOptions::default()).unwrap();
    writer.add_dense("good", &[400_000], &values).unwrap();
    writer.add_dense("bad", &[400_000], &values).unwrap();
    writer.finish().unwrap();
    let at = {
        let reader = open(&path, Mode::Mmap, false, 0);
        // The end is reported of the shortest call too.
        assert_eq!(reader.verify(|_, _| false).unwrap_err().kind(), ErrorKind::Cancelled);
        reader.tensor(1).unwrap().component(0).unwrap().offset() as usize
    };
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at + 99] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    for mode in [Mode::Mmap, Mode::Read] {
        let reader = open(&path, mode, true, 0);
        assert_eq!(reader.read_dense::<f32>("good").unwrap(), values);
        let err = reader.read_dense::<f32>("bad").unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Checksum);
        assert_eq!(err.place().tensor.as_deref(), Some("bad"));
        assert_eq!(err.place().component.as_deref(), Some("data"));
        assert_eq!(err.place().file.as_deref(), path.to_str());
        assert_eq!(reader.verify(|_, _| true).unwrap_err().kind(), ErrorKind::Checksum);
        assert!(reader.read(1, 0, Some(false)).is_ok());
    }
}

#[test]
fn a_read_tensor_is_the_callers_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.zt");
    let mut writer = Writer::create(&path, WriteOptions::default()).unwrap();
    writer.add_dense("big", &[1 << 20], &vec![1u8; 1 << 20]).unwrap();
    writer.add_dense("small", &[10], &[1u8; 10]).unwrap();
    writer.finish().unwrap();
    let before = std::fs::read(&path).unwrap();
    for mode in [Mode::Mmap, Mode::Read] {
        let reader = open(&path, mode, false, 0);
        for number in 0..2 {
            let first = reader.read(number, 0, None).unwrap();
            // SAFETY: the bytes are the caller's, and nobody else looks at them here.
            unsafe { first.as_ptr().write_bytes(7, first.len()) };
            let second = reader.read(number, 0, None).unwrap();
            assert!(second.as_slice().iter().all(|&byte| byte == 1));
            assert!(first.as_slice().iter().all(|&byte| byte == 7));
        }
        let kept = reader.read(0, 0, None).unwrap();
        drop(reader);
        assert!(kept.as_slice().iter().all(|&byte| byte == 1));
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
