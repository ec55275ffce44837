//! The public package's generations: the corpus value by value, files made by hand, damage, and one file for each
//! rule of generation 2.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod build;
mod corpus;
mod damage;
mod handmade;
mod limits;
mod reject;
mod shards;

use std::path::{Path, PathBuf};

use ztensor::{Mode, ReadOptions, Reader, Result};

/// A file of the corpus, such as `1.1.1/csr.zt`.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/legacy").join(name)
}

fn open(path: &Path, mode: Mode, verify: bool) -> Result<Reader> {
    Reader::open(path, ReadOptions { mode, verify, threads: 2 })
}

fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Reader> {
    Reader::from_bytes(bytes.as_ref().to_vec(), ReadOptions::default())
}

/// Reads all that a file holds: every tensor together and every component alone.
fn read_all(reader: &Reader, verify: bool) -> Result<()> {
    let all: Vec<usize> = (0..reader.index().len()).collect();
    for (at, info) in reader.index().iter().enumerate() {
        for component in 0..info.components().len() {
            reader.read_stored(at, component, Some(verify))?;
            reader.read(at, component, Some(verify))?;
        }
    }
    reader.read_many(&all, Some(verify)).map(|_| ())
}
