//! Speed and ratio of the codec on files of raw elements: `cargo bench --bench codec -- dtype file ...`.
//!
//! Each file is compressed and decompressed in memory on one thread and on all; zstd's level 3 on the whole buffer
//! stands beside it. Speeds are the best of `RUNS`, 5 by default; `LEVELS` names other levels than 3 and 10, `THREADS` other
//! numbers than 1 and 0, and `ONLY` (save, load or zstd) leaves the rest out, for a profile.

use std::time::Instant;

use ztensor::{Component, DType, Layout, Metadata, ReadOptions, Reader, Tensor, WriteOptions, Writer};

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

fn best(what: &str, mut run: impl FnMut()) -> f64 {
    if !variable("ONLY", what).contains(what) {
        return f64::INFINITY;
    }
    (0..variable("RUNS", "5").parse().expect("a number of runs"))
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

fn write(bytes: &[u8], dtype: DType, level: i32, threads: usize) -> Vec<u8> {
    let mut writer = Writer::memory(WriteOptions { threads, ..WriteOptions::default() }).expect("a writer");
    let is_index = std::env::var_os("SPARSE").is_some();
    let count = (bytes.len() / dtype.size()) as u64;
    let empty = vec![0u8; bytes.len() / dtype.size()];
    let (layout, shape) =
        if is_index { (Layout::SparseCoo, vec![1 << 40]) } else { (Layout::Dense, vec![count]) };
    let part = |dtype, bytes| Component { dtype, bytes, share: 0 };
    let components = if is_index {
        vec![part(DType::UInt8, &empty[..]), part(dtype, bytes)]
    } else {
        vec![part(dtype, bytes)]
    };
    let tensor = Tensor {
        name: "t",
        dtype: components[0].dtype,
        shape: &shape,
        layout,
        blocksize: None,
        components: &components,
        level,
        attributes: Metadata::new(),
    };
    writer.add(&[tensor]).expect("the tensor fits");
    writer.finish().expect("memory").expect("bytes").as_slice().to_vec()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    for pair in arguments.chunks_exact(2) {
        let dtype = DType::from_name(&pair[0]).expect("the name of an element type");
        let bytes = std::fs::read(&pair[1]).expect("a file");
        let gigabytes = bytes.len() as f64 / 1e9;
        for level in variable("LEVELS", "3 10").split_whitespace() {
            let level = level.parse().expect("a level");
            for threads in variable("THREADS", "1 0").split_whitespace() {
                let threads = threads.parse().expect("a number of threads");
                let file = write(&bytes, dtype, level, threads);
                let save = best("save", || drop(write(&bytes, dtype, level, threads)));
                let ratio = bytes.len() as f64 / file.len() as f64;
                let options = ReadOptions { threads, ..ReadOptions::default() };
                let reader = Reader::from_bytes(file, options).expect("the file opens");
                let load = best("load", || drop(reader.read_many(&[0], None).expect("the tensor reads")));
                println!(
                    "{:9} level {level:2}, {threads} threads: ratio {ratio:.3}, save {:.2} GB/s, load {:.2} GB/s",
                    pair[0],
                    gigabytes / save,
                    gigabytes / load
                );
            }
        }
        let mut packed = Vec::new();
        let save = best("zstd", || packed = zstd::bulk::compress(&bytes, 3).expect("zstd"));
        let load = best("zstd", || drop(zstd::bulk::decompress(&packed, bytes.len()).expect("zstd")));
        println!(
            "{:9} zstd 3, one thread: ratio {:.3}, save {:.2} GB/s, load {:.2} GB/s\n",
            pair[0],
            bytes.len() as f64 / packed.len() as f64,
            gigabytes / save,
            gigabytes / load
        );
    }
}
