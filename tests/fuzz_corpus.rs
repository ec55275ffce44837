//! The fuzz targets' corpus, file by file, through the bodies of the targets: without a fuzzer, on any toolchain.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a crate of its own")]
mod bodies;

use std::fs;
use std::path::Path;

/// Passes every file of a target's corpus to its body.
fn replay(target: &str, body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        // What fails is named by the panic's output, which the test harness shows.
        println!("{}", path.display());
        body(&fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn index() {
    replay("index", bodies::index);
}

#[test]
fn codec() {
    replay("codec", bodies::codec);
}

#[test]
fn file() {
    replay("file", bodies::file);
}

#[test]
fn legacy() {
    replay("legacy", bodies::legacy);
}

#[test]
fn abi() {
    replay("abi", bodies::abi);
}
