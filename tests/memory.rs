//! Memory that decoding takes beside the memory that it decodes into, and what a batch's tensors share.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use ztensor::{
    Component, DType, Encoding, Fsync, Layout, Metadata, Mode, ReadOptions, Reader, Tensor, WriteOptions,
    Writer,
};

const MIB: usize = 1 << 20;

fn write(path: &Path, tensors: &[(String, Vec<u8>)], level: i32) {
    let options = WriteOptions { fsync: Fsync::Never, ..WriteOptions::default() };
    let mut writer = Writer::create(path, options).unwrap();
    for (name, bytes) in tensors {
        let shape = [bytes.len() as u64 / 4];
        let data = [Component { dtype: DType::Float32, bytes, share: 0 }];
        let tensor = Tensor {
            name,
            dtype: DType::Float32,
            layout: Layout::Dense,
            shape: &shape,
            blocksize: None,
            components: &data,
            level,
            attributes: Metadata::new(),
        };
        writer.add(&[tensor]).unwrap();
    }
    writer.finish().unwrap();
}

fn random(len: usize) -> Vec<u8> {
    let mut state = 88172645463325252u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Exponents that repeat and mantissas that do not, as weights have them.
        (0x3c00_0000 | (state >> 32) as u32 & 0x03ff_ffff).to_le_bytes()
    };
    (0..len / 4).flat_map(|_| word()).collect()
}

/// A field of /proc/self/status, in bytes.
fn status(field: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<usize>().unwrap() * 1024
}

/// How far the peak of resident memory rises above what is resident before.
fn rise(work: impl FnOnce()) -> usize {
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS");
    work();
    status("VmHWM").saturating_sub(before)
}

const LEN: usize = 256 * MIB;
const RANGE: usize = 32 * MIB;

/// What a child measures: of the whole tensor at once, then in ranges.
fn measure(path: &str, mode: Mode, threads: usize) {
    let reader = Reader::open(path, ReadOptions { mode, threads, verify: false }).unwrap();
    let mut out = vec![1; LEN];
    let whole = rise(|| reader.read_into(vec![(0, 0, &mut out)], None).unwrap());
    let ranges = rise(|| {
        for (at, out) in out.chunks_mut(RANGE).enumerate() {
            let first = (at * RANGE / 4) as u64;
            reader.read_range_into(0, 0, first, (out.len() / 4) as u64, out, Some(true)).unwrap();
        }
    });
    print!("<{whole} {ranges}>");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "the peak is asked from /proc")]
fn decoding_takes_little_beside_its_target() {
    const TASK: &str = "ZTENSOR_TEST_TASK";
    if let Ok(task) = std::env::var(TASK) {
        // In a process of its own, whose peak nothing else raises.
        let [path, mode, threads] = task.split('|').collect::<Vec<_>>()[..] else { panic!("{task}") };
        let mode = if mode == "read" { Mode::Read } else { Mode::Mmap };
        return measure(path, mode, threads.parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let periods: Vec<u8> = random(400_000).iter().copied().cycle().take(LEN).collect();
    let mut repeats = periods.clone();
    repeats[LEN - 4..].fill(7);
    // Weights, data in the longest chunks, in long ones, and zeros.
    let contents =
        [("weights", random(LEN)), ("periods", periods), ("repeats", repeats), ("zeros", vec![0; LEN])];
    for (name, content) in contents {
        let path = dir.path().join(name);
        write(&path, &[("w".to_owned(), content)], 1);
        let stored = fs::metadata(&path).unwrap().len() as usize;
        let opened = Reader::open(&path, ReadOptions::default()).unwrap();
        let encoding = opened.tensor(0).unwrap().component(0).unwrap().encoding();
        let Encoding::Zstd(zstd) = encoding else { panic!("{name}: {encoding:?}") };
        let chunk_mib = zstd.chunk_size as usize / MIB;
        assert_eq!(
            chunk_mib,
            [("periods", 64), ("repeats", 16)].iter().find(|row| row.0 == name).map_or(1, |row| row.1)
        );
        assert!(stored < LEN - LEN / 8, "{name}: stored in {stored} bytes");
        for (mode, threads) in [("read", 2), ("read", 64), ("mmap", 2), ("mmap", 64)] {
            // The pages of a mapped file are resident too.
            if mode == "mmap" && stored > 8 * MIB {
                continue;
            }
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "decoding_takes_little_beside_its_target", "--nocapture"]);
            child.env(TASK, format!("{}|{mode}|{threads}", path.display()));
            let said = String::from_utf8(child.output().unwrap().stdout).unwrap();
            let peaks = said.split(['<', '>']).nth(1).unwrap();
            let (whole, ranges) = peaks.split_once(' ').unwrap();
            let (whole, ranges) = (whole.parse::<usize>().unwrap(), ranges.parse::<usize>().unwrap());
            println!("{name}, {mode}, {threads} threads: {} KiB, {} KiB", whole >> 10, ranges >> 10);
            assert!(whole < 64 * MIB, "{name}, {mode}, {threads} threads: {whole} bytes");
            // A range may begin and end within chunks, which may have 64 MiB each.
            assert!(ranges < 72 * MIB, "{name}, {mode}, {threads} threads: {ranges} bytes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is read together, in whatever order and however often: the bytes are right, a blob that comes twice comes as
    /// one, and large components do not keep others.
    #[test]
    fn components_are_mapped_in_short_parts(
        sizes in prop::collection::vec(prop_oneof![1usize..300, 1000usize..200_000, 200_000usize..700_000], 1..40),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        in_order in any::<bool>(),
        mode in prop::sample::select(vec![Mode::Mmap, Mode::Read]),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parts.zt");
        let tensors: Vec<(String, Vec<u8>)> = sizes
            .iter()
            .enumerate()
            .map(|(at, &size)| (format!("t{at}"), (0..size * 4).map(|byte| (byte * 7 + at) as u8).collect()))
            .collect();
        write(&path, &tensors, 0);
        let reader = Reader::open(&path, ReadOptions { mode, ..ReadOptions::default() }).unwrap();
        prop_assert!(reader.index().iter().all(|tensor| tensor.component(0).unwrap().encoding() == Encoding::Raw));
        let mut wanted: Vec<usize> = picks.iter().map(|pick| pick.index(tensors.len())).collect();
        if in_order {
            wanted = (0..tensors.len()).collect();
        }
        let batch = reader.read_many(&wanted, None).unwrap();
        let mut users = vec![Vec::new(); batch.memory_count()];
        for (at, &tensor) in wanted.iter().enumerate() {
            let buffer = batch.buffer(at).unwrap();
            prop_assert!(buffer.as_slice() == tensors[tensor].1);
            let first = wanted.iter().position(|other| *other == tensor).unwrap();
            prop_assert_eq!(batch.spans()[at], batch.spans()[first]);
            users[batch.spans()[at].memory].push(tensor);
        }
        for (number, mut users) in users.into_iter().enumerate() {
            users.sort_unstable();
            users.dedup();
            let len = batch.memory(number).unwrap().len();
            prop_assert!(users.len() == 1 || len <= 4 * MIB, "{} share {len} bytes", users.len());
            let is_shared_by_large = users.len() > 1 && users.iter().any(|&user| tensors[user].1.len() >= MIB);
            prop_assert!(!is_shared_by_large);
        }
    }
}
