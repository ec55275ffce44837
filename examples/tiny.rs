//! Writes or reads a file of many tensors of 16 bytes, and prints the seconds that it took: what the benchmark holds against
//! the same work through the C ABI.
//!
//!     cargo run --release --example tiny -- write|read FILE COUNT

use std::error::Error;
use std::time::Instant;

use ztensor::{Component, DType, Fsync, Layout, Metadata, ReadOptions, Reader, Tensor, WriteOptions, Writer};

fn write(path: &str, count: usize) -> Result<f64, Box<dyn Error>> {
    let bytes: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let components = [Component { dtype: DType::Float32, bytes: &bytes, share: 0 }];
    let names: Vec<String> = (0..count).map(|at| format!("tensor.{at:07}")).collect();
    let tensors: Vec<Tensor<'_>> = names
        .iter()
        .map(|name| Tensor {
            name,
            dtype: DType::Float32,
            shape: &[4],
            layout: Layout::Dense,
            blocksize: None,
            components: &components,
            level: 0,
            attributes: Metadata::new(),
        })
        .collect();
    let start = Instant::now();
    let mut writer = Writer::create(path, WriteOptions { fsync: Fsync::Never, ..WriteOptions::default() })?;
    writer.add(&tensors)?;
    writer.finish()?;
    drop(writer);
    Ok(start.elapsed().as_secs_f64())
}

fn read(path: &str, count: usize) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    let reader = Reader::open(path, ReadOptions::default())?;
    // C gets the descriptions of all tensors.
    let elements: u64 = reader.index().iter().map(|info| info.shape().iter().product::<u64>()).sum();
    let numbers: Vec<usize> = (0..reader.index().len()).collect();
    let batch = reader.read_many(&numbers, None)?;
    let seconds = start.elapsed().as_secs_f64();
    if batch.spans().len() != count || elements != 4 * count as u64 {
        return Err(
            format!("{} tensors of {elements} elements instead of {count}", batch.spans().len()).into()
        );
    }
    Ok(seconds)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [action, path, count] = &arguments[..] else {
        return Err("usage: tiny write|read FILE COUNT".into());
    };
    let count = count.parse()?;
    let seconds = if action == "write" { write(path, count)? } else { read(path, count)? };
    println!("{seconds:.9}");
    Ok(())
}
