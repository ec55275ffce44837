//! Shards of generation 2: files beside the one that is opened.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use ztensor::{ErrorKind, Mode};

use super::build::{ZT2, footer, gen2, map, part, with_blobs};
use super::{file, open};

/// A copy of the sharded file of the corpus.
fn copy() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    for name in ["sharded.zt", "sharded-00001.zt"] {
        fs::copy(file(&format!("2.x-handmade/{name}")), dir.path().join(name)).unwrap();
    }
    let path = dir.path().join("sharded.zt");
    (dir, path)
}

#[test]
fn an_error_names_the_shard() {
    for mode in [Mode::Mmap, Mode::Read] {
        let (dir, path) = copy();
        let shard = dir.path().join("sharded-00001.zt");
        let bytes = fs::read(&shard).unwrap();
        let kind = |expected: ErrorKind| {
            let err = open(&path, mode, false).unwrap_err();
            assert_eq!(err.kind(), expected, "{err}");
            assert!(err.to_string().contains("sharded-00001.zt"), "{err}");
        };
        fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
        kind(ErrorKind::Truncated);
        fs::write(&shard, [&[0], &bytes[1..]].concat()).unwrap();
        kind(ErrorKind::Signature);
        fs::write(&shard, [&bytes[..bytes.len() - 1], &[0]].concat()).unwrap();
        kind(ErrorKind::Truncated);
        fs::remove_file(&shard).unwrap();
        kind(ErrorKind::FileNotFound);
    }
}

#[test]
fn damage_in_a_shard_names_shard_and_tensor() {
    let (dir, path) = copy();
    let shard = dir.path().join("sharded-00001.zt");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[4096] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let reader = open(&path, Mode::Mmap, false).unwrap();
    let far = reader.find("far").unwrap();
    reader.read_many(&[far], Some(false)).unwrap();
    let err = reader.read_many(&[far], Some(true)).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Checksum);
    let text = err.to_string();
    assert!(text.contains("sharded-00001.zt") && text.contains("\"far\""), "{text}");
    assert_eq!(reader.verify(|_, _| true).unwrap_err().kind(), ErrorKind::Checksum);
}

#[test]
fn blobs_of_several_files_are_told_apart() {
    // The same offset in three files, large enough to be mapped, and small enough to be read at once.
    for len in [24usize, 300_000] {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", "b"];
        let mut index = map([]);
        for (number, name) in names.iter().enumerate() {
            let mut shard = with_blobs(&ZT2, 4096, &[&vec![1 + number as u8; len]]);
            shard.extend(footer(0, 0, 0));
            fs::write(dir.path().join(format!("m-{name}.zt")), &shard).unwrap();
            index = index.set(&["shards", name, "size"], shard.len() as u64);
        }
        for (name, shard) in [("x", None), ("y", Some("a")), ("z", Some("b"))] {
            let mut data = part("u8", 4096, len as u64);
            if let Some(shard) = shard {
                data = data.set(&["shard"], shard);
            }
            let tensor = map([
                ("layout", "dense".into()),
                ("shape", [len as u64].into()),
                ("parts", map([("data", data)])),
            ]);
            index = index.set(&["objects", name], tensor);
        }
        let path = dir.path().join("m.zt");
        fs::write(&path, gen2(&[&vec![9; len]], &index.bytes())).unwrap();
        for mode in [Mode::Mmap, Mode::Read] {
            let reader = open(&path, mode, true).unwrap();
            let batch = reader.read_many(&[0, 1, 2], None).unwrap();
            for (at, byte) in [9, 1, 2].into_iter().enumerate() {
                assert_eq!(batch.buffer(at).unwrap().as_slice(), vec![byte; len], "{mode:?}");
                assert_eq!(reader.tensor(at).unwrap().component(0).unwrap().file(), at as u16);
            }
            reader.verify(|_, _| true).unwrap();
        }
    }
}
