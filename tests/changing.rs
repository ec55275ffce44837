//! Memory that changes while it is saved: never a panic, always a readable file.
//!
//! A private mapping of a file shows what is written to the file until it is written to itself. So what another thread writes
//! to the file changes bytes that safe code believes to be at rest, as arrays of other languages do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ztensor::{
    Buffer, Component, DType, ErrorKind, Layout, Metadata, ReadOptions, Reader, Tensor, WriteOptions, Writer,
};

include!("noise/mod.rs");

const LEN: usize = 2 * 1024 * 1024;

/// Bytes that follow what is written to the file, and where they stand in it.
fn mapped(path: &Path) -> (Buffer, u64) {
    let mut writer = Writer::create(path, WriteOptions::default()).unwrap();
    writer.add_dense("bytes", &[LEN as u64], &vec![0u8; LEN]).unwrap();
    writer.finish().unwrap();
    let reader = Reader::open(path, ReadOptions::default()).unwrap();
    let offset = reader.tensor(0).unwrap().component(0).unwrap().offset();
    (reader.read(0, 0, None).unwrap(), offset)
}

/// Contents that encoders treat in different ways: noise, few symbols, one symbol, periods, runs, small integers.
fn contents() -> Vec<Vec<u8>> {
    let noise = noise(LEN);
    vec![
        noise.clone(),
        noise.iter().map(|byte| byte & 7).collect(),
        noise.iter().map(|byte| if byte & 63 == 0 { 200 } else { 1 }).collect(),
        vec![7; LEN],
        vec![0; LEN],
        noise[..1000].iter().copied().cycle().take(LEN).collect(),
        noise[..300_000].iter().copied().cycle().take(LEN).collect(),
        noise.iter().enumerate().map(|(at, byte)| if at % 4 == 0 { byte & 31 } else { 0 }).collect(),
        b"over and over again; ".iter().copied().cycle().take(LEN).collect(),
    ]
}

fn save(bytes: &[u8], dtype: DType, level: i32, threads: usize) -> Result<Buffer, ztensor::Error> {
    let mut writer = Writer::memory(WriteOptions { threads, ..Default::default() })?;
    writer.add(&[Tensor {
        name: "changing",
        dtype,
        shape: &[(LEN / dtype.size()) as u64],
        layout: Layout::Dense,
        blocksize: None,
        components: &[Component { dtype, bytes, share: 0 }],
        level,
        attributes: Metadata::new(),
    }])?;
    Ok(writer.finish()?.unwrap())
}

#[test]
fn what_changes_while_it_is_saved_makes_a_readable_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("changing.zt");
    let (bytes, offset) = mapped(&path);
    let file = File::options().write(true).open(&path).unwrap();
    let contents = contents();
    let (bytes, contents, stop) = (bytes.as_slice(), &contents, AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            for content in contents.iter().cycle() {
                // Piece by piece, so that a save sees some of each.
                for (at, piece) in content.chunks(64 * 1024).enumerate() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    file.write_all_at(piece, offset + (at * 64 * 1024) as u64).unwrap();
                }
            }
        });
        let end = Instant::now() + Duration::from_secs(3);
        let dtypes = [DType::BFloat16, DType::Float32, DType::UInt8, DType::Int32, DType::Float64];
        for round in 0.. {
            // The calls are made in any case, and more of them where the machine is fast.
            if round >= 20 && Instant::now() > end {
                break;
            }
            let dtype = dtypes[round % dtypes.len()];
            let (level, threads) = ([1, 3, 0, 9, 12][round / 5 % 5], 1 + round % 2);
            let saved = save(bytes, dtype, level, threads).unwrap();
            let reader = Reader::from_bytes(saved, ReadOptions::default()).unwrap();
            // It decodes to something; only what is raw may be other than its checksum says.
            assert_eq!(reader.read(0, 0, Some(false)).unwrap().len(), LEN);
            if let Err(err) = reader.verify(|_, _| true) {
                assert_eq!(err.kind(), ErrorKind::Checksum, "{err}");
                assert!(err.to_string().contains("changed while it was saved"), "{err}");
                assert!(matches!(
                    reader.tensor(0).unwrap().component(0).unwrap().encoding(),
                    ztensor::Encoding::Raw
                ));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}
