//! Where a writer's bytes go: a file that replaces its destination once it is whole, a file that is written in place, or memory.

mod atomic_file;
mod attributes;
mod destination;
mod in_place;
mod memory;
mod stale;

use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::{Error, Result, fail, uninterrupted};
use crate::source::{Buffer, Memory};

use atomic_file::AtomicFile;
use in_place::InPlaceFile;
use memory::MemorySink;

/// When a file is flushed to the disk before it takes its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fsync {
    /// When it is about to replace an existing file, so that not even a power cut can cost what was there.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never: after a power cut the name may hold an incomplete file.
    Never,
}

/// Bytes that are gathered before they go to the kernel.
const BUFFER_LEN: usize = 1024 * 1024;
/// A slice of this length or more goes to the kernel from where it is, at once.
const DIRECT_LEN: usize = 64 * 1024;
/// A slice that lasts is copied if it is shorter than this: one of its own in a call of the system costs more.
const GATHERED_LEN: usize = 2048;
/// Slices that wait for one call of the system, which takes 1024 with those of the buffer between them.
const MAX_SLICES: usize = 500;
/// A place to write to, front to back.
pub(crate) struct Sink {
    target: Target,
    buffer: Vec<u8>,
    position: u64,
    /// The end of what was written to the file, before it went back to an earlier position.
    end: u64,
}

impl Sink {
    /// Creates a file that is renamed to `path` when it is finished, or if it is not `atomic`, one that is written there.
    pub(crate) fn create(path: &Path, fsync: Fsync, atomic: bool) -> Result<Self> {
        let target = match atomic {
            true => Target::Atomic(AtomicFile::create(path, fsync)?),
            false => Target::InPlace(InPlaceFile::create(path, fsync)?),
        };
        Ok(Self { target, buffer: Vec::with_capacity(BUFFER_LEN), position: 0, end: 0 })
    }

    /// Creates a file in memory.
    pub(crate) fn memory() -> Self {
        Self { target: Target::Memory(MemorySink::new()), buffer: Vec::new(), position: 0, end: 0 }
    }

    /// Bytes written so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Begins a row of writes. The sink is in order again when [`VectoredWriter::finish`] succeeded.
    pub(crate) fn gather<'a>(&mut self) -> VectoredWriter<'_, 'a> {
        VectoredWriter { sink: self, slices: Vec::new(), len: 0 }
    }

    /// Writes a file in memory to this memory from here on, what was written so far included, if it has room for that.
    ///
    /// # Errors
    ///
    /// `Argument` if the file is not in memory.
    pub(crate) fn lend(&mut self, memory: Memory) -> Result<()> {
        let Target::Memory(file) = &mut self.target else { fail!(Argument, "the file is on disk") };
        file.lend(memory);
        Ok(())
    }

    /// Prepares for so many bytes more.
    pub(crate) fn expect(&mut self, more: usize) {
        if let Target::Memory(memory) = &mut self.target {
            memory.expect(more);
        }
    }

    /// Completes the file. Returns its bytes if it is in memory.
    pub(crate) fn finish(mut self) -> Result<Option<Buffer>> {
        let mut writer = self.gather();
        writer.flush(&[])?;
        writer.cut()?;
        match self.target {
            Target::Memory(memory) => Ok(Some(memory.into_buffer())),
            Target::Atomic(file) => file.finish().map(|()| None),
            Target::InPlace(file) => file.finish().map(|()| None),
        }
    }
}

enum Target {
    Memory(MemorySink),
    Atomic(AtomicFile),
    InPlace(InPlaceFile),
}

impl Target {
    /// Returns the file on disk, or None for one in memory.
    fn file(&mut self) -> Result<Option<&mut File>> {
        match self {
            Self::Memory(_) => Ok(None),
            Self::Atomic(file) => Ok(Some(file.file())),
            Self::InPlace(file) => file.file().map(Some),
        }
    }
}

/// Writes to a sink. What is small is gathered in the sink's buffer; what is larger and outlives the row of writes goes to
/// the kernel from where it is, with all that waits before and after it in one call of the system.
pub(crate) struct VectoredWriter<'s, 'a> {
    sink: &'s mut Sink,
    /// Slices that wait, each with the length that the buffer had before it.
    slices: Vec<(usize, &'a [u8])>,
    /// Bytes of these slices.
    len: usize,
}

impl<'a> VectoredWriter<'_, 'a> {
    /// Bytes written so far.
    pub(crate) fn position(&self) -> u64 {
        self.sink.position
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.sink.target {
            Target::Memory(memory) => memory.write(bytes)?,
            _ if bytes.len() >= DIRECT_LEN => self.flush(bytes)?,
            _ => {
                if self.sink.buffer.len() + bytes.len() > BUFFER_LEN {
                    self.flush(&[])?;
                }
                self.sink.buffer.extend_from_slice(bytes);
            }
        }
        self.sink.position += bytes.len() as u64;
        Ok(())
    }

    /// Appends bytes that stay where they are until the row of writes has ended.
    pub(crate) fn write_borrowed(&mut self, bytes: &'a [u8]) -> Result<()> {
        if bytes.len() < GATHERED_LEN || matches!(self.sink.target, Target::Memory(_)) {
            return self.write(bytes);
        }
        self.slices.push((self.sink.buffer.len(), bytes));
        self.len += bytes.len();
        self.sink.position += bytes.len() as u64;
        if self.len + self.sink.buffer.len() >= BUFFER_LEN || self.slices.len() >= MAX_SLICES {
            self.flush(&[])?;
        }
        Ok(())
    }

    /// Appends zeros up to a position.
    pub(crate) fn pad_to(&mut self, position: u64) -> Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.sink.position < position {
            let len = (position - self.sink.position).min(ZEROS.len() as u64);
            self.write(&ZEROS[..len as usize])?;
        }
        Ok(())
    }

    /// Goes back to an earlier position and forgets what was written since.
    pub(crate) fn rewind(&mut self, position: u64) -> Result<()> {
        self.flush(&[])?;
        if let Target::Memory(memory) = &mut self.sink.target {
            memory.truncate(position as usize);
        } else if let Some(file) = self.sink.target.file()? {
            // What follows nearly always covers what was forgotten, and some filesystems cannot cut a file.
            uninterrupted(|| file.seek(SeekFrom::Start(position)))
                .map_err(|err| Error::io("write the file", err))?;
            self.sink.end = self.sink.end.max(self.sink.position);
        }
        self.sink.position = position;
        Ok(())
    }

    /// Cuts off what was forgotten and not written over since.
    fn cut(&mut self) -> Result<()> {
        let position = self.sink.position;
        if self.sink.end <= position {
            return Ok(());
        }
        let Some(file) = self.sink.target.file()? else { return Ok(()) };
        uninterrupted(|| file.set_len(position)).map_err(|err| Error::io("cut the file", err))
    }

    /// Writes all that is borrowed. The rest may stay in the sink's buffer.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.slices.is_empty() { Ok(()) } else { self.flush(&[]) }
    }

    /// Writes all that waits, and `last` after it.
    fn flush(&mut self, last: &[u8]) -> Result<()> {
        let Some(file) = self.sink.target.file()? else { return Ok(()) };
        let mut waiting = Vec::with_capacity(2 * self.slices.len() + 2);
        let mut at = 0;
        for &(before, slice) in &self.slices {
            waiting.extend([IoSlice::new(&self.sink.buffer[at..before]), IoSlice::new(slice)]);
            at = before;
        }
        waiting.extend([IoSlice::new(&self.sink.buffer[at..]), IoSlice::new(last)]);
        write_all(file, &mut waiting).map_err(|err| Error::io("write the file", err))?;
        self.sink.buffer.clear();
        self.slices.clear();
        self.len = 0;
        Ok(())
    }
}

/// Writes slices one after the other.
fn write_all(file: &mut File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    // Drops those that are empty.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => IoSlice::advance_slices(&mut slices, len),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::fs;

    fn write(sink: &mut Sink, bytes: &[u8]) {
        let mut out = sink.gather();
        out.write(bytes).unwrap();
        out.finish().unwrap();
    }

    #[test]
    fn lent_memory_is_used_for_as_long_as_it_is_enough() {
        for (room, takes) in [(0, false), (2, false), (3, false), (7, false), (8, true), (9, true)] {
            let mut lent = vec![9; room];
            let start = lent.as_mut_ptr();
            let mut sink = Sink::memory();
            write(&mut sink, b"abc");
            sink.lend(Memory::from(lent)).unwrap();
            sink.expect(1000);
            write(&mut sink, b"defgh");
            let bytes = sink.finish().unwrap().unwrap();
            assert_eq!(bytes.as_slice(), b"abcdefgh");
            assert_eq!(bytes.as_ptr() == start, takes, "{room}");
        }
        let dir = tempfile::tempdir().unwrap();
        let mut sink = Sink::create(&dir.path().join("file"), Fsync::Auto, true).unwrap();
        assert_eq!(sink.lend(Memory::empty()).unwrap_err().kind(), ErrorKind::Argument);
    }

    #[test]
    fn bytes_arrive_in_order_whatever_their_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut sink = Sink::create(&path, Fsync::Never, true).unwrap();
        let mut memory = Sink::memory();
        let lens =
            [3, DIRECT_LEN, 1, BUFFER_LEN - 1, 2, BUFFER_LEN + 5, 0, 100, GATHERED_LEN, 5, 3 * GATHERED_LEN];
        let parts: Vec<Vec<u8>> = lens
            .iter()
            .cycle()
            .take(3 * lens.len())
            .enumerate()
            .map(|(at, &len)| vec![at as u8; len])
            .collect();
        let mut expected = parts.concat();
        let many: Vec<Vec<u8>> =
            (0..2 * MAX_SLICES).map(|at| vec![at as u8; GATHERED_LEN + at % 7]).collect();
        expected.extend(many.concat());
        for sink in [&mut sink, &mut memory] {
            let mut out = sink.gather();
            for (at, part) in parts.iter().enumerate() {
                if at % 2 == 0 { out.write(part).unwrap() } else { out.write_borrowed(part).unwrap() }
            }
            many.iter().for_each(|part| out.write_borrowed(part).unwrap());
            out.pad_to(expected.len() as u64 + 9000).unwrap();
            out.rewind(expected.len() as u64).unwrap();
            out.write(b"end").unwrap();
            out.finish().unwrap();
        }
        expected.extend(b"end");
        sink.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), expected);
        assert_eq!(memory.finish().unwrap().unwrap().as_slice(), expected);
    }

    #[test]
    fn what_is_forgotten_is_cut_off_where_nothing_covers_it() {
        for atomic in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            let mut sink = Sink::create(&path, Fsync::Never, atomic).unwrap();
            let mut out = sink.gather();
            out.write(&[1; 100]).unwrap();
            out.rewind(10).unwrap();
            out.write(&[2; 20]).unwrap();
            out.finish().unwrap();
            sink.finish().unwrap();
            assert_eq!(fs::read(&path).unwrap(), [[1; 10], [2; 10], [2; 10]].concat());
        }
    }
}
