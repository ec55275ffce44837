//! Shards of generation 2: files beside the one that is opened.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use ztensor::{ErrorKind, Mode};

use super::build::{Cbor, ZT2, footer, gen2, map, part, with_blobs};
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

#[test]
fn a_file_laid_over_another_takes_parts_from_both() {
    // The base is a file of its own. Over it lies one that keeps a tensor of the base, has another one in its place, and a
    // matrix whose values are its own and whose index components are the base's.
    let dir = tempfile::tempdir().unwrap();
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let dense = |part: Cbor, len: u64| {
        map([("layout", "dense".into()), ("shape", [len].into()), ("parts", map([("data", part)]))])
    };
    let far = |part: Cbor| part.set(&["shard"], "base");
    let csr = |values: Cbor, indices: Cbor, indptr: Cbor| {
        map([
            ("layout", "zt.sparse_csr/1".into()),
            ("shape", [2, 3].into()),
            ("parts", map([("values", values), ("indices", indices), ("indptr", indptr)])),
        ])
    };
    let (indices, indptr) = (part("u64", 12288, 24), part("u64", 16384, 24));
    let base = map([(
        "objects",
        map([
            ("kept", dense(part("u8", 4096, 4), 4)),
            ("replaced", dense(part("u8", 8192, 4), 4)),
            ("m", csr(part("u8", 20480, 3), indices.clone(), indptr.clone())),
        ]),
    )]);
    let blobs: [&[u8]; 5] = [&[1; 4], &[2; 4], &words(&[0, 2, 1]), &words(&[0, 2, 3]), &[7, 8, 9]];
    let file = gen2(&blobs, &base.bytes());
    fs::write(dir.path().join("m-base.zt"), &file).unwrap();
    let over = map([
        (
            "objects",
            map([
                ("kept", dense(far(part("u8", 4096, 4)), 4)),
                ("replaced", dense(part("u8", 4096, 4), 4)),
                ("m", csr(part("u8", 8192, 3), far(indices), far(indptr))),
            ]),
        ),
        ("shards", map([("base", map([("size", (file.len() as u64).into())]))])),
    ]);
    let path = dir.path().join("m.zt");
    fs::write(&path, gen2(&[&[5; 4], &[4, 5, 6]], &over.bytes())).unwrap();
    for mode in [Mode::Mmap, Mode::Read] {
        let reader = open(&path, mode, true).unwrap();
        let dense = |name| reader.read_dense::<u8>(name).unwrap();
        assert_eq!((dense("kept"), dense("replaced")), (vec![1; 4], vec![5; 4]));
        let batch = reader.read_many(&[reader.find("m").unwrap()], None).unwrap();
        assert_eq!(batch.buffer(0).unwrap().as_slice(), [4, 5, 6]);
        assert_eq!(batch.buffer(1).unwrap().as_slice(), words(&[0, 2, 1]));
        assert_eq!(batch.buffer(2).unwrap().as_slice(), words(&[0, 2, 3]));
        reader.verify(|_, _| true).unwrap();
        // The base can be opened by itself.
        let base = open(&dir.path().join("m-base.zt"), mode, true).unwrap();
        assert_eq!(base.read_dense::<u8>("replaced").unwrap(), [2; 4]);
    }
}
