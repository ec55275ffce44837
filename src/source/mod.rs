//! Where a file's bytes come from: a mapping, positioned reads, or memory.

mod buffer;
mod mapping;
mod memory;

use std::fs::{self, File, Metadata};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::{fmt, io};

use memmap2::{Mmap, MmapOptions};

use crate::error::{Error, ErrorKind, Result, fail, uninterrupted};
use crate::room;

pub use buffer::Buffer;
pub(crate) use mapping::parts_left;
pub use memory::Memory;

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Map the file. Pages are loaded on first access. If another process truncates the file meanwhile, touching a missing
    /// page ends the process (SIGBUS). A file that the system refuses to map is read as with [`Mode::Read`].
    #[default]
    Mmap,
    /// Read into memory of our own. For network filesystems, and for files that somebody may truncate: that
    /// gives an error.
    Read,
}

enum Origin {
    Mapped(File, Mmap),
    Positioned(File),
    Memory(Box<dyn AsRef<[u8]> + Send + Sync>),
}

/// Why a pipe, a device or a directory is neither opened nor replaced.
pub(crate) fn not_regular(metadata: &Metadata) -> io::Error {
    let kind = if metadata.is_dir() { io::ErrorKind::IsADirectory } else { io::ErrorKind::InvalidInput };
    io::Error::new(kind, "it is not a regular file")
}

/// A file's bytes. Reading is free of locks and of a shared position.
pub(crate) struct Source {
    origin: Origin,
    len: u64,
}

impl Source {
    /// Opens a local file.
    pub(crate) fn open(path: &Path, mode: Mode) -> Result<Self> {
        let is_file = |metadata: &Metadata| match metadata.is_file() {
            true => Ok(()),
            false => Err(not_regular(metadata)),
        };
        // Looked at before it is opened, since opening a pipe waits for its other end.
        let look = |metadata: io::Result<Metadata>| metadata.and_then(|it| is_file(&it).map(|()| it.len()));
        look(uninterrupted(|| fs::metadata(path))).map_err(|err| Error::io("open the file", err))?;
        let file = File::open(path).map_err(|err| Error::io("open the file", err))?;
        let len = look(uninterrupted(|| file.metadata())).map_err(|err| Error::io("open the file", err))?;
        let map = match mode {
            // An empty file cannot be mapped; it is not a .zt file either way.
            Mode::Mmap if len > 0 => Self::map(&file, len),
            _ => None,
        };
        let origin = match map {
            Some(map) => Origin::Mapped(file, map),
            None => Origin::Positioned(file),
        };
        Ok(Self { origin, len })
    }

    /// Maps a file, unless the system refuses.
    ///
    /// Some filesystems refuse shared mappings (direct I/O over FUSE), so this one is private, which makes no difference to a
    /// mapping that is only read. Others have none at all, and address space or the number of mappings may be limited: positioned
    /// reads do without.
    fn map(file: &File, len: u64) -> Option<Mmap> {
        let len = usize::try_from(len).ok()?;
        // SAFETY: a mapping is undefined when the file is cut or changed under it. `Mode` says so to
        // users; no code here relies on mapped bytes staying the same.
        unsafe { MmapOptions::new().len(len).map_copy_read_only(file) }.ok()
    }

    /// Takes bytes in memory.
    pub(crate) fn from_bytes(bytes: Box<dyn AsRef<[u8]> + Send + Sync>) -> Self {
        let len = (*bytes).as_ref().len() as u64;
        Self { origin: Origin::Memory(bytes), len }
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether bytes are read from the file each time that they are asked for.
    pub(crate) fn is_positioned(&self) -> bool {
        matches!(self.origin, Origin::Positioned(_))
    }

    /// The error, or where it tells of damage and the file is shorter by now than it was, an error that says so: what is cut off
    /// while it is read may come as zeros.
    pub(crate) fn explain(&self, err: Error) -> Error {
        let (Origin::Mapped(file, _) | Origin::Positioned(file)) = &self.origin else { return err };
        if !matches!(err.kind(), ErrorKind::Checksum | ErrorKind::Frame | ErrorKind::Sparse) {
            return err;
        }
        match uninterrupted(|| file.metadata()) {
            Ok(now) if now.len() < self.len => {
                truncated(&format!("the file has {} bytes of {}", now.len(), self.len))
            }
            _ => err,
        }
    }

    fn check_range(&self, offset: u64, len: usize) -> Result<usize> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(offset as usize),
            _ => fail!(Truncated, "{len} bytes at {offset} lie outside the file of {} bytes", self.len),
        }
    }

    /// The bytes themselves, where they can be had without reading.
    pub(crate) fn borrow(&self, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        let start = self.check_range(offset, len)?;
        Ok(match &self.origin {
            Origin::Mapped(_, map) => Some(&map[start..start + len]),
            Origin::Memory(bytes) => Some(&(**bytes).as_ref()[start..start + len]),
            Origin::Positioned(_) => None,
        })
    }

    /// The bytes themselves where they can be had without reading, or else read into `scratch`.
    pub(crate) fn fetch<'a>(&'a self, offset: u64, len: usize, scratch: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        if let Some(bytes) = self.borrow(offset, len)? {
            return Ok(bytes);
        }
        room::resize(scratch, len, 0)?;
        self.read(offset, scratch)?;
        Ok(scratch)
    }

    /// Reads or copies bytes into `out`.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let start = self.check_range(offset, out.len())?;
        match &self.origin {
            Origin::Mapped(_, map) => out.copy_from_slice(&map[start..start + out.len()]),
            Origin::Memory(bytes) => out.copy_from_slice(&(**bytes).as_ref()[start..start + out.len()]),
            Origin::Positioned(file) => file.read_exact_at(out, offset).map_err(|err| match err.kind() {
                io::ErrorKind::UnexpectedEof => {
                    truncated(&format!("the file ended within {} bytes at {offset}", out.len()))
                }
                _ => Error::io("read the file", err),
            })?,
        }
        Ok(())
    }

    /// Whether the file is mapped.
    pub(crate) fn is_mapped(&self) -> bool {
        matches!(self.origin, Origin::Mapped(..))
    }

    /// Maps ranges of the file privately, copy on write, as one mapping whose parts are unmapped one by one. They ascend, are not
    /// empty, and do not overlap. `None` where that is not possible: the file is not mapped, the system refuses, or the process
    /// holds too many mappings. The bytes can be read into memory then.
    pub(crate) fn map_private(&self, ranges: &[Range<u64>]) -> Result<Option<Vec<Memory>>> {
        for range in ranges {
            self.check_range(range.start, (range.end - range.start) as usize)?;
        }
        Ok(match &self.origin {
            Origin::Mapped(file, _) if parts_left() > 0 => mapping::map_ranges(file, ranges).ok(),
            _ => None,
        })
    }
}

/// The error of a file that ends earlier than it did when it was opened.
fn truncated(found: &str) -> Error {
    Error::new(ErrorKind::Truncated, format!("{found}: it was truncated while it was open"))
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.origin {
            Origin::Mapped(..) => "mapped",
            Origin::Positioned(_) => "positioned",
            Origin::Memory(_) => "memory",
        };
        write!(f, "Source({kind}, {} bytes)", self.len)
    }
}
