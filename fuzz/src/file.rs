//! Bytes as a whole file, of this format or of an older generation.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;
use ztensor::container::{FOOTER_LEN, Footer, SIGNATURE};
use ztensor::{
    Component, DType, Encoding, ErrorKind, Frames, Fsync, Index, Metadata, Mode, ReadOptions, Reader, Result,
    Tensor, TensorInfo, WriteOptions, Writer,
};

use super::container::{OPTIONS, check_error, mend_frame, open};

/// Components of more decoded bytes are not read: what a few bytes ask for may take long to make.
const MAX_LEN: u64 = 1 << 20;

/// What the first byte of the input says.
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    /// Mend what only guards against damage, so that the rest is reached.
    fn mend(self) -> bool {
        self.0 & 1 != 0
    }

    /// Also open it on disk, mapped and read.
    fn disk(self) -> bool {
        self.0 & 2 != 0
    }

    /// Compress what is written again.
    fn level(self) -> i32 {
        i32::from(self.0 & 4 != 0)
    }

    fn verify(self) -> bool {
        self.0 & 8 != 0
    }

    /// Make the checksums inside an index of an older generation ones that nobody knows.
    fn disarm(self) -> bool {
        self.0 & 16 != 0
    }
}

/// Reads a file of this format: the first byte says how, see `Flags`.
pub fn file(data: &[u8]) {
    let Some((&flags, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if Flags(flags).mend() {
        mend(&mut bytes);
    }
    read(Flags(flags), bytes);
}

/// Reads a file of an older generation, in the same way.
pub fn legacy(data: &[u8]) {
    let Some((&flags, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if Flags(flags).disarm() {
        replace(&mut bytes, b"xxh3:", b"xxh4:");
        replace(&mut bytes, b"sha256:", b"sha257:");
        replace(&mut bytes, b"crc32c:", b"crc32d:");
    }
    if Flags(flags).mend() {
        mend_legacy(&mut bytes);
    }
    read(Flags(flags), bytes);
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    for at in 0..bytes.len().saturating_sub(from.len()) {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
}

/// The index's place, as the footer states it.
fn index_range(bytes: &[u8]) -> Option<std::ops::Range<usize>> {
    let footer = bytes.len().checked_sub(FOOTER_LEN as usize)?;
    let word = |at: usize| u64::from_le_bytes(*bytes[footer + at..].first_chunk().unwrap());
    let start = usize::try_from(word(0)).ok()?;
    let end = start.checked_add(usize::try_from(word(8)).ok()?)?;
    (end <= footer).then_some(start..end)
}

/// Makes signature, footer and index checksum right.
fn mend_container(bytes: &mut [u8]) {
    let Some(range) = index_range(bytes) else { return };
    let footer = Footer {
        index_offset: range.start as u64,
        index_size: range.len() as u64,
        file_size: bytes.len() as u64,
        index_crc32: crc32fast::hash(&bytes[range]),
    };
    let at = bytes.len() - FOOTER_LEN as usize;
    bytes[at..].copy_from_slice(&footer.to_bytes());
    bytes[..8].copy_from_slice(&SIGNATURE);
}

/// Makes every checksum right: of container, frames and blobs.
pub(super) fn mend(bytes: &mut [u8]) {
    mend_container(bytes);
    let (Some(range), Ok(reader)) = (index_range(bytes), Reader::from_bytes(bytes.to_vec(), OPTIONS)) else {
        return;
    };
    for part in reader.index().iter().flat_map(|info| info.components()) {
        let blob = &mut bytes[part.offset() as usize..][..part.stored_len() as usize];
        if let Encoding::Zstd(zstd) = part.encoding() {
            let (mut rest, mut left) = (&mut *blob, zstd.raw_size);
            for &stored in zstd.stored {
                let len = left.min(zstd.chunk_size.into());
                let (frame, after) = rest.split_at_mut(stored as usize);
                mend_frame(frame, len as usize);
                (rest, left) = (after, left - len);
            }
        }
        let found = crc32fast::hash(blob).to_be_bytes();
        let Some(stated) = part.crc32().filter(|stated| stated.to_be_bytes() != found) else { continue };
        // MessagePack spells nearly every checksum in five bytes; the others stay wrong.
        let spelled = [&[0xce], &stated.to_be_bytes()[..]].concat();
        replace(&mut bytes[range.clone()], &spelled, &[&[0xce], &found[..]].concat());
    }
    mend_container(bytes);
}

/// Makes the end of a file of an older generation fit its beginning.
pub(super) fn mend_legacy(bytes: &mut [u8]) {
    let len = bytes.len();
    let Some(head) = bytes.first_chunk::<8>().copied().filter(|_| len >= 48) else { return };
    match &head {
        b"\x89ZT2\r\n\x1a\n" => {
            let word = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
            let (start, size) = (word(len - 40), word(len - 32));
            let Some(end) = start.checked_add(size).filter(|&end| end <= len as u64 - 40) else { return };
            let hash = xxh3_64(&bytes[start as usize..end as usize]);
            bytes[len - 24..len - 16].copy_from_slice(&hash.to_le_bytes());
            bytes[len - 16..len - 8].copy_from_slice(&2u64.to_le_bytes());
            bytes[len - 8..].copy_from_slice(&head);
        }
        b"ZTEN1000" | b"ZTEN0001" => {
            let footer = if bytes.ends_with(b"ZTEN1000") { 16 } else { 8 };
            let at = len - footer;
            let stated = u64::from_le_bytes(*bytes[at..].first_chunk().unwrap());
            let mended = stated % (at as u64 - 8 + 1);
            bytes[at..at + 8].copy_from_slice(&mended.to_le_bytes());
        }
        _ => {}
    }
}

/// What came of reading a whole file: the bytes of each component, or the kind of its error.
type Outcome = Vec<std::result::Result<Vec<u8>, ErrorKind>>;

fn kind<T>(result: Result<T>) -> std::result::Result<T, ErrorKind> {
    result.map_err(|err| {
        check_error(&err);
        err.kind()
    })
}

fn small(info: &TensorInfo<'_>) -> bool {
    info.len_bytes() <= MAX_LEN
}

/// Reads everything in every way.
fn read_all(reader: &Reader, flags: Flags) -> Outcome {
    let verify = Some(flags.verify());
    let mut outcome = Vec::new();
    let index = reader.index();
    for info in index.iter() {
        for (at, part) in info.components().enumerate() {
            outcome.push(
                kind(reader.read_stored(info.number(), at, verify)).map(|bytes| bytes.as_slice().to_vec()),
            );
            if !small(&info) {
                continue;
            }
            let whole = kind(reader.read(info.number(), at, verify)).map(|bytes| bytes.as_slice().to_vec());
            check_into(reader, info.number(), at, &whole);
            if let (Ok(whole), Some(dtype)) = (&whole, part.dtype().known()) {
                check_ranges(reader, info.number(), at, dtype.size(), whole);
            }
            outcome.push(whole);
        }
    }
    if index.iter().map(|info| info.len_bytes()).fold(0, u64::saturating_add) <= MAX_LEN {
        let all: Vec<usize> = (0..index.len()).collect();
        let batch = kind(reader.read_many(&all, verify));
        if let Ok(batch) = &batch {
            check_batch(reader, batch);
        }
        outcome.push(batch.map(|_| Vec::new()));
        outcome.push(kind(reader.verify(|_, _| true)).map(|()| Vec::new()));
    }
    outcome
}

/// Reading into memory of our own gives the same and touches nothing beside.
fn check_into(reader: &Reader, tensor: usize, at: usize, whole: &std::result::Result<Vec<u8>, ErrorKind>) {
    let Ok(expected) = whole else { return };
    let mut memory = vec![0xaa; expected.len() + 2];
    let out = &mut memory[1..=expected.len()];
    reader.read_into(vec![(tensor, at, out)], Some(false)).unwrap();
    assert_eq!(&memory[1..=expected.len()], expected);
    assert_eq!((memory[0], memory[expected.len() + 1]), (0xaa, 0xaa));
    let mut short = vec![0; expected.len() + 1];
    let err = reader.read_into(vec![(tensor, at, &mut short)], None).unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Size);
}

/// A part of a component is that part of the whole.
fn check_ranges(reader: &Reader, tensor: usize, at: usize, width: usize, whole: &[u8]) {
    let count = whole.len() / width;
    for (first, len) in
        [(0, count), (count / 3, count / 2), (count, 0), (count.saturating_sub(1), 1.min(count))]
    {
        let part = reader.read_range(tensor, at, first as u64, len as u64, None).unwrap();
        assert_eq!(part.as_slice(), &whole[first * width..][..len * width]);
    }
    let count = count as u64;
    for (first, len) in [(0, count + 1), (count, 1), (u64::MAX, 1), (1, u64::MAX), (u64::MAX, u64::MAX)] {
        let err = reader.read_range(tensor, at, first, len, None).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Range);
    }
}

/// A batch holds what single reads give.
fn check_batch(reader: &Reader, batch: &ztensor::Batch) {
    let parts = reader.index().iter().flat_map(|info| (0..info.components().len()).map(move |at| (info, at)));
    let mut count = 0;
    for (number, (info, at)) in parts.enumerate() {
        let single = reader.read(info.number(), at, Some(false)).unwrap();
        assert_eq!(batch.buffer(number).unwrap().as_slice(), single.as_slice());
        count += 1;
    }
    assert_eq!(batch.spans().len(), count);
    assert!(batch.buffer(count).is_err());
    assert!(batch.memory(batch.memory_count()).is_err());
}

/// A file of our own in memory or on disk, written over by each run.
struct Scratch {
    path: PathBuf,
    file: File,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new({
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = dir.join(format!("ztensor-fuzz-{}-{:?}.zt", std::process::id(), std::thread::current().id()));
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
        Scratch { path, file }
    });
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn read(flags: Flags, bytes: Vec<u8>) {
    let reader = open(bytes.clone());
    if flags.disk() {
        let (memory, label) = match &reader {
            Ok(reader) => (Ok(read_all(reader, flags)), reader.format()),
            Err(err) => (Err(err.kind()), ""),
        };
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.file.set_len(0).unwrap();
            scratch.file.write_all_at(&bytes, 0).unwrap();
            for mode in [Mode::Mmap, Mode::Read] {
                let opened = Reader::open(&scratch.path, ReadOptions { mode, ..OPTIONS });
                let read = opened.map(|reader| (read_all(&reader, flags), reader.format()));
                match read {
                    Ok((read, format)) => assert_eq!((&Ok(read), format), (&memory, label)),
                    Err(err) => assert_eq!(Some(err.kind()), memory.as_ref().err().copied(), "{err}"),
                }
            }
        });
    } else if let Ok(reader) = &reader {
        read_all(reader, flags);
    }
    if let Ok(reader) = reader {
        write_again(&reader, flags);
    }
}

/// What was read in full is written, and read back.
fn write_again(reader: &Reader, flags: Flags) {
    let index = reader.index();
    let options =
        WriteOptions { threads: 1, fsync: Fsync::Never, atomic: true, metadata: index.metadata.clone() };
    let mut writer = match Writer::memory(options) {
        Ok(writer) => writer,
        // Of older generations a reader takes metadata that no writer does.
        Err(err) => return assert!(err.kind() == ErrorKind::Argument && reader.format() != "zt/1", "{err}"),
    };
    let mut written = Vec::new();
    for info in index.iter().filter(small) {
        let (Some(dtype), Some(layout)) = (info.dtype().known(), info.layout().known()) else { continue };
        let Ok(batch) = reader.read_many(&[info.number()], None) else { continue };
        let bytes: Vec<Vec<u8>> =
            (0..batch.spans().len()).map(|at| batch.buffer(at).unwrap().as_slice().to_vec()).collect();
        let dtypes = info.components().map(|part| part.dtype().known().unwrap());
        let components: Vec<Component<'_>> =
            dtypes.zip(&bytes).map(|(dtype, bytes)| Component { dtype, bytes, share: 0 }).collect();
        let mut attributes = info.attributes().cloned().unwrap_or_default();
        let blocksize = if layout.is_blocked() { info.blocksize() } else { None };
        if layout.is_blocked() {
            attributes.remove("blocksize");
        }
        let tensor = Tensor {
            name: info.name(),
            dtype,
            shape: info.shape(),
            layout,
            blocksize,
            components: &components,
            level: flags.level(),
            attributes: attributes.clone(),
        };
        match writer.add(&[tensor]) {
            Ok(()) => written.push((info, bytes, attributes)),
            Err(err) => check_refusal(reader, &info, &bytes, &err),
        }
    }
    let again = open(writer.finish().unwrap().unwrap().as_slice().to_vec()).unwrap();
    assert_eq!(again.index().len(), written.len());
    compare(again.index(), &again, &written);
    again.verify(|_, _| true).unwrap();
}

/// A writer refuses little that a reader takes.
fn check_refusal(reader: &Reader, info: &TensorInfo<'_>, bytes: &[Vec<u8>], err: &ztensor::Error) {
    let is_known = match err.kind() {
        // Bools that are neither 0 nor 1, and attributes that stand deeper or hold a key twice.
        ErrorKind::Argument => {
            (info.attributes().is_some() && reader.format() != "zt/1")
                || (info.dtype().known() == Some(DType::Bool) && bytes[0].iter().any(|&byte| byte > 1))
        }
        // Other rules of names.
        ErrorKind::Name => reader.format() != "zt/1",
        _ => false,
    };
    assert!(is_known, "{err}");
}

fn compare(index: &Index, again: &Reader, written: &[(TensorInfo<'_>, Vec<Vec<u8>>, Metadata)]) {
    for (new, (old, bytes, attributes)) in index.iter().zip(written) {
        assert_eq!((new.name(), new.dtype(), new.shape()), (old.name(), old.dtype(), old.shape()));
        assert_eq!((new.layout(), new.components().len()), (old.layout(), bytes.len()));
        let mut found = new.attributes().cloned().unwrap_or_default();
        if new.layout().known().is_some_and(|layout| layout.is_blocked()) {
            assert_eq!(new.blocksize(), old.blocksize());
            found.remove("blocksize");
        }
        assert_eq!(ztensor::metadata::to_json(&found), ztensor::metadata::to_json(attributes));
        for (at, expected) in bytes.iter().enumerate() {
            assert_eq!(again.read(new.number(), at, Some(true)).unwrap().as_slice(), expected);
            let part = new.component(at).unwrap();
            assert!(!matches!(part.encoding(), Encoding::Zstd(zstd) if zstd.frames != Frames::Chunks));
        }
    }
}
