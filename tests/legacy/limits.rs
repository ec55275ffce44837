//! Numbers in a file that ask for memory, and forms that no wheel writes but the formats allow.

use std::io::Write;

use ztensor::{DType, ErrorKind, Known, Layout, Mode, ReadOptions, Reader};

use super::build::{Cbor, gen01, gen1, gen2, index2, map, part};
use super::{from_bytes, open, read_all};

/// A raw component of no bytes.
fn empty() -> Cbor {
    map([("dtype", "u8".into()), ("offset", 64.into()), ("length", 0.into())])
}

/// An index of generation 1.1 with one dense tensor, `w`.
fn index1(shape: &[u64], data: Cbor) -> Cbor {
    let shape = Cbor::Array(shape.iter().map(|dim| (*dim).into()).collect());
    let tensor = map([("shape", shape), ("format", "dense".into()), ("components", map([("data", data)]))]);
    map([("version", "1.1.0".into()), ("objects", map([("w", tensor)]))])
}

fn zstd_part(dtype: &str, len: usize) -> Cbor {
    map([
        ("dtype", dtype.into()),
        ("offset", 64.into()),
        ("length", (len as u64).into()),
        ("encoding", "zstd".into()),
    ])
}

fn stream(content: &[u8], level: i32) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), level).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_short_stream_does_not_ask_for_memory() {
    let blob = stream(&[0; 1000], 3);
    for count in [1 << 30, 1 << 45, (i64::MAX as u64) / 8] {
        let file = gen1(&[&blob], &index1(&[count], zstd_part("u8", blob.len())).bytes());
        let reader = from_bytes(&file).unwrap();
        assert_eq!(reader.read(0, 0, None).unwrap_err().kind(), ErrorKind::Frame);
        assert_eq!(reader.verify(|_, _| true).unwrap_err().kind(), ErrorKind::Frame);
    }
}

#[test]
fn a_stream_of_any_level_is_read_whole_and_in_part() {
    let content: Vec<u8> = (0..3_000_000u32).map(|at| (at.wrapping_mul(at) >> 11) as u8 & 0x1f).collect();
    let dir = tempfile::tempdir().unwrap();
    for level in [1, 3, 19, 22] {
        let blob = stream(&content, level);
        let path = dir.path().join("stream.zt");
        let index = index1(&[content.len() as u64 / 4], zstd_part("f32", blob.len()));
        std::fs::write(&path, gen1(&[&blob], &index.bytes())).unwrap();
        for mode in [Mode::Mmap, Mode::Read] {
            let reader = open(&path, mode, false).unwrap();
            assert!(reader.read(0, 0, None).unwrap().as_slice() == content, "level {level}");
            for (first, count) in [(0, 1), (400_000, 1000), (749_999, 1), (750_000, 0)] {
                let range = reader.read_range(0, 0, first, count, None).unwrap();
                assert!(range.as_slice() == &content[first as usize * 4..][..count as usize * 4]);
            }
            reader.verify(|_, _| true).unwrap();
        }
    }
}

#[test]
fn a_stream_whose_length_nobody_states_is_listed() {
    let blob = stream(&[7; 12], 3);
    let index = index1(&[3], zstd_part("i32", blob.len())).set(&["objects", "w", "format"], "vendor");
    let reader = from_bytes(gen1(&[&blob], &index.bytes())).unwrap();
    assert_eq!(reader.read(0, 0, None).unwrap_err().kind(), ErrorKind::UnknownEncoding);
    assert_eq!(reader.read_stored(0, 0, None).unwrap().as_slice(), blob);
    let stated = index.set(&["objects", "w", "components", "data", "uncompressed_length"], 12);
    let reader = from_bytes(gen1(&[&blob], &stated.bytes())).unwrap();
    assert_eq!(reader.read(0, 0, None).unwrap().as_slice(), [7; 12]);
}

#[test]
fn attributes_keep_to_a_limit() {
    let many = Cbor::Raw([&b"\x9a\x00\x40\x00\x00"[..], &vec![0; 1 << 22]].concat());
    let err = from_bytes(gen1(&[], &index1(&[0], empty()).set(&["attributes", "a"], many).bytes()));
    assert_eq!(err.unwrap_err().kind(), ErrorKind::Limit);
    for deep in [vec![0x81; 5000], vec![0x9f; 5000], [[0xa1, 0x61, b'a']; 5000].concat()] {
        for key in ["attributes", "other"] {
            let index = index1(&[0], empty()).set(&[key], map([("a", Cbor::Raw(deep.clone()))]));
            assert_eq!(from_bytes(gen1(&[], &index.bytes())).unwrap_err().kind(), ErrorKind::Index);
        }
    }
}

#[test]
fn a_count_that_the_file_does_not_hold_is_refused() {
    let counts =
        [b"\x9b\x00\xff\xff\xff\xff\xff\xff\xff".as_slice(), b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff"];
    for count in counts {
        assert_eq!(from_bytes(gen01(&[], count)).unwrap_err().kind(), ErrorKind::Index);
        assert_eq!(from_bytes(gen1(&[], count)).unwrap_err().kind(), ErrorKind::Index);
        assert_eq!(from_bytes(gen2(&[], count)).unwrap_err().kind(), ErrorKind::Index);
    }
    let text = b"\xa1\x7b\x00\x00\x00\xff\xff\xff\xff\xff";
    assert_eq!(from_bytes(gen1(&[], text)).unwrap_err().kind(), ErrorKind::Index);
}

#[test]
fn interleaved_coordinates_are_taken_apart() {
    for (order, big) in [("little", false), ("big", true)] {
        let entries = [([0u64, 2], 1.5f32), ([1, 0], -2.0), ([1, 1], 8.0)];
        let mut blob = Vec::new();
        for (coordinates, value) in entries {
            for word in coordinates {
                blob.extend(if big { word.to_be_bytes() } else { word.to_le_bytes() });
            }
            blob.extend(if big { value.to_be_bytes() } else { value.to_le_bytes() });
        }
        let entry = map([
            ("name", "w".into()),
            ("offset", 64.into()),
            ("size", (blob.len() as u64).into()),
            ("dtype", "float32".into()),
            ("layout", "sparsecoo".into()),
            ("shape", [2, 3].into()),
            ("encoding", "raw".into()),
            ("data_endianness", order.into()),
        ]);
        let reader = from_bytes(gen01(&[&blob], &Cbor::Array(vec![entry]).bytes())).unwrap();
        assert_eq!(reader.tensor(0).unwrap().layout(), Known::Known(Layout::SparseCoo));
        let batch = reader.read_many(&[0], Some(true)).unwrap();
        let values = [1.5f32, -2.0, 8.0].map(f32::to_le_bytes).concat();
        let indices = [0u64, 1, 1, 2, 0, 1].map(u64::to_le_bytes).concat();
        assert_eq!(batch.buffer(0).unwrap().as_slice(), values);
        assert_eq!(batch.buffer(1).unwrap().as_slice(), indices);
        assert_eq!(reader.read_range(0, 1, 2, 3, None).unwrap().as_slice(), &indices[16..40]);
        read_all(&reader, true).unwrap();
    }
}

#[test]
fn half_bytes_are_counted_in_pairs_where_the_shape_lets_them() {
    let data = part("u8", 4096, 6).set(&["type"], "f4_e2m1");
    let file = gen2(&[&[0x21; 6]], &index2("dense", &[3, 4], map([("data", data)])).bytes());
    let reader = from_bytes(&file).unwrap();
    let info = reader.tensor(0).unwrap();
    assert_eq!((info.dtype(), info.shape()), (Known::Known(DType::Float4E2M1FnX2), &[3, 2][..]));
    assert_eq!(reader.read_many(&[0], None).unwrap().buffer(0).unwrap().as_slice(), [0x21; 6]);
    // Three rows of three: five bytes, of which one holds the end of a row and the begin of the next.
    let data = part("u8", 4096, 5).set(&["type"], "f4_e2m1");
    let file = gen2(&[&[0x01; 5]], &index2("dense", &[3, 3], map([("data", data)])).bytes());
    let reader = from_bytes(&file).unwrap();
    assert_eq!(reader.read_many(&[0], None).unwrap_err().kind(), ErrorKind::UnknownDtype);
}

#[test]
fn overlapping_blobs_of_1_x_are_not_mixed_up() {
    // A raw component and a compressed one at the same place, of the same decoded length and type.
    let content = [5; 24];
    let blob = stream(&content, 3);
    let raw = map([("dtype", "u8".into()), ("offset", 64.into()), ("length", 24.into())]);
    let tensor = |data: Cbor| {
        map([("shape", [24].into()), ("format", "dense".into()), ("components", map([("data", data)]))])
    };
    let objects = map([("a", tensor(raw)), ("b", tensor(zstd_part("u8", blob.len())))]);
    let index = map([("version", "1.2.0".into()), ("objects", objects)]);
    let padded = [&blob[..], &[0; 24]].concat();
    let reader = from_bytes(gen1(&[&padded], &index.bytes())).unwrap();
    let batch = reader.read_many(&[0, 1], None).unwrap();
    assert_eq!(batch.buffer(0).unwrap().as_slice(), &padded[..24]);
    assert_eq!(batch.buffer(1).unwrap().as_slice(), content);
}

#[test]
fn padding_between_small_tensors_takes_no_memory() {
    let blobs: Vec<[u8; 16]> = (0..300u16).map(|at| [at as u8; 16]).collect();
    let tensors: Vec<u8> = blobs
        .iter()
        .enumerate()
        .flat_map(|(at, _)| {
            let data = map([("data", part("u8", 4096 * (at as u64 + 1), 16))]);
            let tensor = map([("layout", "dense".into()), ("shape", [16].into()), ("parts", data)]);
            [Cbor::from(&*format!("{at:03}")).bytes(), tensor.bytes()].concat()
        })
        .collect();
    let parts: Vec<&[u8]> = blobs.iter().map(|blob| &blob[..]).collect();
    let file = gen2(&parts, &map([("objects", counted(5, 300, &tensors))]).bytes());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small.zt");
    std::fs::write(&path, file).unwrap();
    for mode in [Mode::Mmap, Mode::Read] {
        let reader = open(&path, mode, true).unwrap();
        let batch = reader.read_many(&(0..300).collect::<Vec<_>>(), None).unwrap();
        let taken: usize = (0..batch.memory_count()).map(|at| batch.memory(at).unwrap().len()).sum();
        assert!(taken <= 300 * 64, "{taken} bytes for 300 tensors of 16");
        for (at, blob) in blobs.iter().enumerate() {
            assert_eq!(batch.buffer(at).unwrap().as_slice(), blob);
        }
    }
}

/// `count` times the bytes that `item` makes of a number.
fn many(count: u32, item: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..count).flat_map(item).collect()
}

/// A map or array of `count` items, given its first byte without the length.
fn counted(major: u8, count: u32, items: &[u8]) -> Cbor {
    // Spelled as shortly as can be.
    let head = match count {
        0x100..0x1_0000 => [&[major << 5 | 25][..], &(count as u16).to_be_bytes()].concat(),
        _ => [&[major << 5 | 26][..], &count.to_be_bytes()].concat(),
    };
    Cbor::Raw([&head, items].concat())
}

/// What an index can hold that takes the most memory for its bytes, one file for each.
fn greedy() -> Vec<(&'static str, Vec<u8>)> {
    // Just more than arrays hold that have grown to twice their size so far.
    const COUNT: u32 = (1 << 18) + 100;
    const CROWDS: u32 = COUNT.div_ceil(255);
    let text = |text: &str| Cbor::from(text).bytes();
    let name = |at: u32| text(&format!("{at:x}"));
    let empty = map([("shape", Cbor::Array(vec![])), ("format", "x".into()), ("components", map([]))]);
    let root = |tensors: Cbor| map([("version", "1.2.0".into()), ("objects", tensors)]);
    let checked = map([
        ("dtype", "".into()),
        ("offset", 64.into()),
        ("length", 0.into()),
        ("digest", "sha256:".into()),
    ]);
    // As many components as a tensor may have, each with a checksum.
    let parts = counted(5, 255, &many(255, |at| [name(at), checked.bytes()].concat()));
    let crowded = map([("shape", Cbor::Array(vec![])), ("format", "x".into()), ("components", parts)]);
    let entry = map([
        ("name", "".into()),
        ("dtype", "uint16".into()),
        ("shape", [0].into()),
        ("encoding", "raw".into()),
        ("offset", 64.into()),
        ("size", 0.into()),
        ("data_endianness", "big".into()),
        ("checksum", "sha256:".into()),
    ]);
    let seekable = part("u8", 4096, 0)
        .set(&["encoding"], "zt.zstd-seekable/1")
        .set(&["decoded_length"], 0)
        .set(&["digest"], "xxh3:0000000000000000");
    let tensor =
        map([("layout", "dense".into()), ("shape", [0].into()), ("parts", map([("data", seekable)]))]);
    // Sorted as the deterministic form asks for, since all names are of one length.
    let sorted = many(COUNT, |at| [text(&format!("{at:06}")), tensor.bytes()].concat());
    let attributes = counted(5, COUNT, &many(COUNT, |at| [name(at), vec![0x80]].concat()));
    let tiny = |tensors: &[u8], count| root(counted(5, count, tensors)).bytes();
    vec![
        (
            "tensors of no parts",
            gen1(&[], &tiny(&many(COUNT, |at| [name(at), empty.bytes()].concat()), COUNT)),
        ),
        (
            "tensors of one name",
            gen1(&[], &tiny(&many(COUNT, |_| [text(""), empty.bytes()].concat()), COUNT)),
        ),
        ("components", gen1(&[], &tiny(&many(CROWDS, |at| [name(at), crowded.bytes()].concat()), CROWDS))),
        ("oldest entries", gen01(&[], &counted(4, COUNT, &many(COUNT, |_| entry.bytes())).bytes())),
        ("seekable", gen2(&[], &map([("objects", counted(5, COUNT, &sorted))]).bytes())),
        ("attributes", gen1(&[], &root(map([])).set(&["attributes"], attributes).bytes())),
    ]
}

/// The most memory that this process had at once, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "the peak is asked from /proc")]
fn opening_takes_memory_in_proportion_to_the_file() {
    const FILE: &str = "ZTENSOR_TEST_FILE";
    if let Some(path) = std::env::var_os(FILE) {
        // In a process of its own, whose peak nothing else raises.
        let mode = if std::env::var_os("ZTENSOR_TEST_READ").is_some() { Mode::Read } else { Mode::Mmap };
        let before = peak();
        let opened = Reader::open(path, ReadOptions { mode, threads: 1, verify: false });
        print!("<{}>", peak() - before);
        drop(opened);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (what, file) in greedy() {
        let path = dir.path().join("greedy.zt");
        std::fs::write(&path, &file).unwrap();
        for mode in [Mode::Mmap, Mode::Read] {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "limits::opening_takes_memory_in_proportion_to_the_file", "--nocapture"]);
            child.env(FILE, &path);
            if mode == Mode::Read {
                child.env("ZTENSOR_TEST_READ", "1");
            }
            let said = String::from_utf8(child.output().unwrap().stdout).unwrap();
            let peak = said.split(['<', '>']).nth(1).unwrap().parse::<usize>().unwrap();
            let limit = (16 << 20) + 4 * file.len();
            assert!(peak <= limit, "{what}, {mode:?}: {peak} bytes for a file of {}", file.len());
        }
    }
}
