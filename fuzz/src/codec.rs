//! Chunk tables, filters, widths and frames.

use std::cell::RefCell;
use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use ztensor::{
    Component, DType, Filter, Fsync, Layout, MIN_CHUNK_LEN, Metadata, Reader, Tensor, WriteOptions, Writer,
};

use super::container::{OPTIONS, check_error, mend_frame, open, wrap};

/// The most bytes of a component; most are far shorter.
const MAX_LEN: usize = 160 * 1024;

thread_local! {
    /// Kept from run to run: to set one up costs more than most runs.
    static COMPRESSOR: RefCell<zstd::bulk::Compressor<'static>> = RefCell::new({
        let mut compressor = zstd::bulk::Compressor::new(1).unwrap();
        compressor.include_checksum(true).unwrap();
        compressor
    });
}

/// Takes `data` as choices: what is written comes back, and frames that come from anywhere decode to what is asked
/// for, or not at all.
pub fn codec(data: &[u8]) {
    // An error says that the bytes were used up.
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    match u.arbitrary::<u8>()? % 4 {
        0 => written(u),
        1 => tabled(u),
        2 => any_frame(u),
        _ => built_frame(u),
    }
}

fn dtype(u: &mut Unstructured<'_>) -> Result<DType> {
    let all: Vec<DType> = DType::all().collect();
    Ok(*u.choose(&all)?)
}

/// A filter that takes elements of the type.
fn filter(u: &mut Unstructured<'_>, dtype: DType) -> Result<Filter> {
    let all: Vec<Filter> = Filter::all().filter(|filter| filter.takes(dtype.filter_width())).collect();
    Ok(*u.choose(&all)?)
}

/// Bytes made of runs, ramps, repetitions and noise, up to `max`.
fn content(u: &mut Unstructured<'_>, max: usize) -> Result<Vec<u8>> {
    // Long ones are rare: they are slow.
    let max = if u.ratio(1, 128)? { max } else { max.min(1024) };
    let len = u.int_in_range(0..=max)?;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len && !u.is_empty() {
        let count = usize::from(u.arbitrary::<u16>()?) % (len - bytes.len()) + 1;
        let seed: u8 = u.arbitrary()?;
        match u.arbitrary::<u8>()? % 4 {
            0 => bytes.resize(bytes.len() + count, seed),
            1 => bytes.extend((0..count).map(|at| seed.wrapping_add(at as u8))),
            2 => {
                let distance = (usize::from(seed) + 1).min(bytes.len());
                for _ in 0..if distance == 0 { 0 } else { count } {
                    bytes.push(bytes[bytes.len() - distance]);
                }
            }
            _ => {
                let mut state = u32::from(seed) << 8 | 1;
                bytes.extend((0..count).map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                }));
            }
        }
    }
    Ok(bytes)
}

/// Reads the only component of a file, whole and in part, and compares with what it must be.
fn compare(u: &mut Unstructured<'_>, reader: &Reader, width: usize, expected: &[u8]) -> Result<()> {
    assert_eq!(reader.read(0, 0, Some(true)).unwrap().as_slice(), expected);
    reader.verify(|_, _| true).unwrap();
    let count = expected.len() / width;
    let first = u.int_in_range(0..=count)?;
    let len = u.int_in_range(0..=count - first)?;
    let part = reader.read_range(0, 0, first as u64, len as u64, None).unwrap();
    assert_eq!(part.as_slice(), &expected[first * width..][..len * width]);
    Ok(())
}

/// What the writer writes comes back.
fn written(u: &mut Unstructured<'_>) -> Result<()> {
    let dtype = dtype(u)?;
    // The highest levels do no more than these, for longer.
    let level = *u.choose(&[1, 2, 3, 3, 9, 10, 19])?;
    let mut bytes = content(u, MAX_LEN)?;
    bytes.truncate(bytes.len() - bytes.len() % dtype.size());
    if dtype == DType::Bool {
        bytes.iter_mut().for_each(|byte| *byte &= 1);
    }
    let options = WriteOptions { threads: 1, fsync: Fsync::Never, atomic: true, metadata: Metadata::new() };
    let mut writer = Writer::memory(options).unwrap();
    let tensor = Tensor {
        name: "t",
        dtype,
        shape: &[(bytes.len() / dtype.size()) as u64],
        layout: Layout::Dense,
        blocksize: None,
        components: &[Component { dtype, bytes: &bytes, share: 0 }],
        level,
        attributes: Metadata::new(),
    };
    writer.add(&[tensor]).unwrap();
    let file = writer.finish().unwrap().unwrap();
    compare(u, &Reader::from_bytes(file, OPTIONS).unwrap(), dtype.size(), &bytes)
}

/// A file of one compressed tensor.
fn with_table(
    dtype: DType,
    filter: Filter,
    raw_size: usize,
    chunk_size: usize,
    sizes: &[usize],
    blob: &[u8],
) -> Vec<u8> {
    let count = raw_size / dtype.size();
    let encoding = ("zstd", filter.name(), raw_size, chunk_size, sizes);
    let component = ("data", dtype.name(), 64, blob.len(), crc32fast::hash(blob), encoding);
    let tensor = ("t", dtype.name(), [count], "dense", [component]);
    wrap(blob, &rmp_serde::to_vec(&BTreeMap::from([("tensors", [tensor])])).unwrap())
}

/// Chunks of any filter that this target makes itself come back.
fn tabled(u: &mut Unstructured<'_>) -> Result<()> {
    let dtype = dtype(u)?;
    let filter = filter(u, dtype)?;
    let mut bytes = content(u, MAX_LEN)?;
    bytes.truncate(bytes.len() - bytes.len() % dtype.size());
    let chunk_size = MIN_CHUNK_LEN << u.int_in_range(0..=2)?;
    let (mut blob, mut sizes) = (Vec::new(), Vec::new());
    for chunk in bytes.chunks(chunk_size) {
        let mut filtered = vec![0; chunk.len()];
        filter.apply(dtype.filter_width(), chunk, &mut filtered);
        let mut back = vec![0; chunk.len()];
        filter.undo(dtype.filter_width(), &filtered, &mut back);
        assert_eq!(back, chunk);
        let frame = COMPRESSOR.with_borrow_mut(|compressor| compressor.compress(&filtered)).unwrap();
        sizes.push(frame.len());
        blob.extend(frame);
    }
    let file = with_table(dtype, filter, bytes.len(), chunk_size, &sizes, &blob);
    compare(u, &open(file).unwrap(), dtype.size(), &bytes)
}

/// Reads a file whose frames may be anything: each way to read says the same, and so does zstd.
fn judge(file: Vec<u8>, width: usize, filter: Filter, raw_size: usize, frames: &[&[u8]]) {
    let Ok(reader) = open(file) else { return };
    let whole = reader.read(0, 0, None);
    let mut into = vec![0xaa; raw_size + 2];
    let second = reader.read_into(vec![(0, 0, &mut into[1..=raw_size])], Some(true));
    assert_eq!(second.is_ok(), whole.is_ok());
    assert_eq!((into[0], into[raw_size + 1]), (0xaa, 0xaa));
    let bytes = match whole {
        Ok(bytes) => bytes,
        Err(err) => return check_error(&err),
    };
    assert_eq!(bytes.as_slice(), &into[1..=raw_size]);
    reader.verify(|_, _| true).unwrap();
    let mut expected = bytes.as_slice();
    for frame in frames {
        let filtered = zstd::bulk::decompress(frame, expected.len().min(MIN_CHUNK_LEN)).unwrap();
        let (now, after) = expected.split_at(filtered.len());
        let mut raw = vec![0; filtered.len()];
        filter.undo(width, &filtered, &mut raw);
        assert_eq!(raw, now);
        expected = after;
    }
    assert!(expected.is_empty());
}

/// Any bytes as frames, cut anywhere.
fn any_frame(u: &mut Unstructured<'_>) -> Result<()> {
    let dtype = dtype(u)?;
    let filter = filter(u, dtype)?;
    let max = if u.ratio(1, 16)? { 2 * MIN_CHUNK_LEN } else { 1024 };
    let raw_size = u.int_in_range(0..=max)? / dtype.size() * dtype.size();
    let first = u.arbitrary::<u16>()?;
    let mend: bool = u.arbitrary()?;
    let mut blob = u.bytes(u.len())?.to_vec();
    let cut = if raw_size > MIN_CHUNK_LEN { usize::from(first).min(blob.len()) } else { blob.len() };
    let (one, two) = blob.split_at_mut(cut);
    if mend {
        mend_frame(one, raw_size.min(MIN_CHUNK_LEN));
        mend_frame(two, raw_size.saturating_sub(MIN_CHUNK_LEN));
    }
    let all = [one.len(), two.len()];
    let count = raw_size.div_ceil(MIN_CHUNK_LEN);
    let file = with_table(dtype, filter, raw_size, MIN_CHUNK_LEN, &all[..count], &blob);
    let (one, two) = blob.split_at(cut);
    judge(file, dtype.filter_width(), filter, raw_size, &[one, two][..count]);
    Ok(())
}

/// A frame whose header is right, of blocks that need not be.
fn built_frame(u: &mut Unstructured<'_>) -> Result<()> {
    let dtype = dtype(u)?;
    let filter = filter(u, dtype)?;
    let mut body = Vec::new();
    let mut len = 0usize;
    for number in 0..=u.int_in_range(0..=4)? {
        let kind = u.int_in_range(0..=2u32)?;
        let size = usize::from(u.arbitrary::<u16>()?) % (MIN_CHUNK_LEN / 4);
        let bytes = if kind == 1 { u.bytes(1)? } else { u.bytes(size.min(u.len()))? };
        let stated = if kind == 1 { size } else { bytes.len() };
        // Of a compressed block only its literals tell how much it gives; that is left to chance.
        len += if kind == 2 { usize::from(u.arbitrary::<u8>()?) } else { stated };
        let is_last = u32::from(number == 4 || u.is_empty() || u.ratio(1, 4)?);
        body.extend_from_slice(&(is_last | kind << 1 | (stated as u32) << 3).to_le_bytes()[..3]);
        body.extend_from_slice(bytes);
        if is_last == 1 {
            break;
        }
    }
    let raw_size = len.min(MIN_CHUNK_LEN) / dtype.size() * dtype.size();
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa4];
    frame.extend_from_slice(&(raw_size as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    frame.extend_from_slice(&[0; 4]);
    mend_frame(&mut frame, raw_size);
    let count = raw_size.div_ceil(MIN_CHUNK_LEN);
    let file = with_table(dtype, filter, raw_size, MIN_CHUNK_LEN, &[frame.len()][..count], &frame);
    judge(file, dtype.filter_width(), filter, raw_size, &[&frame[..]][..count]);
    Ok(())
}
