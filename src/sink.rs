//! Where a writer's bytes go: a file that appears under its name only when it is whole, or memory.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use nix::errno::Errno;

use crate::error::{Error, Result, fail, uninterrupted};
use crate::source::{self, Buffer, Memory};

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
/// Writers of one name that may be at work at once, each with a temporary file of its own.
const SLOTS: usize = 64;
/// Slots that are looked at for the wrecks of dead writers.
const CLEANED_SLOTS: usize = 8;

enum Target {
    File(TempFile),
    Memory(Growing),
}

/// A file in memory. The memory is taken ahead of what is written: it costs nothing before it is.
#[derive(Debug)]
struct Growing {
    memory: Memory,
    len: usize,
    /// Whether the memory is somebody else's, to be used for as long as it is enough.
    is_lent: bool,
}

impl Growing {
    /// Makes room for more bytes.
    fn reserve(&mut self, more: usize) -> Result<()> {
        let needed = self.len.saturating_add(more);
        if needed <= self.memory.len() {
            return Ok(());
        }
        self.move_to(Memory::zeroed(needed.max(2 * self.memory.len()))?, false);
        Ok(())
    }

    /// Goes on in other memory, if that has room for what was written.
    fn move_to(&mut self, mut memory: Memory, is_lent: bool) {
        if let Some(room) = memory.as_mut_slice().get_mut(..self.len) {
            room.copy_from_slice(&self.memory.as_slice()[..self.len]);
            (self.memory, self.is_lent) = (memory, is_lent);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.reserve(bytes.len())?;
        self.memory.as_mut_slice()[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }
}

/// A place to write to, front to back.
pub(crate) struct Sink {
    target: Target,
    buffer: Vec<u8>,
    position: u64,
}

impl Sink {
    /// Begins a file that will take the name `path` when it is finished.
    pub(crate) fn create(path: &Path, fsync: Fsync) -> Result<Self> {
        let file = TempFile::create(path, fsync)?;
        Ok(Self { target: Target::File(file), buffer: Vec::with_capacity(BUFFER_LEN), position: 0 })
    }

    /// Begins a file in memory.
    pub(crate) fn memory() -> Self {
        let memory = Growing { memory: Memory::empty(), len: 0, is_lent: false };
        Self { target: Target::Memory(memory), buffer: Vec::new(), position: 0 }
    }

    /// Bytes written so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Begins a row of writes. The sink is in order again when [`Gather::finish`] succeeded.
    pub(crate) fn gather<'a>(&mut self) -> Gather<'_, 'a> {
        Gather { sink: self, slices: Vec::new(), len: 0 }
    }

    /// Writes a file in memory to this memory from here on, what was written so far included, if it has room for that.
    ///
    /// # Errors
    ///
    /// `Argument` if the file is not in memory.
    pub(crate) fn lend(&mut self, memory: Memory) -> Result<()> {
        let Target::Memory(growing) = &mut self.target else { fail!(Argument, "the file is on disk") };
        growing.move_to(memory, true);
        Ok(())
    }

    /// Makes ready for so many bytes more.
    pub(crate) fn expect(&mut self, more: usize) {
        if let Target::Memory(memory) = &mut self.target
            && !memory.is_lent
        {
            // Where there are not so many at once, it grows as it is written.
            let _ = memory.reserve(more);
        }
    }

    /// Gives the file its name, or the bytes to the caller if they went to memory.
    pub(crate) fn finish(mut self) -> Result<Option<Buffer>> {
        self.gather().finish()?;
        match self.target {
            Target::File(temp) => temp.finish().map(|()| None),
            Target::Memory(memory) => Ok(Some(Buffer::from(memory.memory).first(memory.len))),
        }
    }
}

/// Writes to a sink. What is small is gathered in the sink's buffer; what is larger and outlives the row of writes goes to
/// the kernel from where it is, with all that waits before and after it in one call of the system.
pub(crate) struct Gather<'s, 'a> {
    sink: &'s mut Sink,
    /// Slices that wait, each with the length that the buffer had before it.
    slices: Vec<(usize, &'a [u8])>,
    /// Bytes of these slices.
    len: usize,
}

impl<'a> Gather<'_, 'a> {
    /// Bytes written so far.
    pub(crate) fn position(&self) -> u64 {
        self.sink.position
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.sink.target {
            Target::Memory(memory) => memory.write(bytes)?,
            Target::File(_) if bytes.len() >= DIRECT_LEN => self.flush(bytes)?,
            Target::File(_) => {
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
    pub(crate) fn write_lasting(&mut self, bytes: &'a [u8]) -> Result<()> {
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
        match &mut self.sink.target {
            Target::Memory(memory) => memory.len = position as usize,
            Target::File(temp) => uninterrupted(|| temp.file.set_len(position))
                .and_then(|()| uninterrupted(|| temp.file.seek(SeekFrom::Start(position))))
                .map(drop)
                .map_err(|err| Error::io("cut the file", err))?,
        }
        self.sink.position = position;
        Ok(())
    }

    /// Writes all that waits.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush(&[])
    }

    /// Writes all that waits, and `last` after it.
    fn flush(&mut self, last: &[u8]) -> Result<()> {
        let Target::File(temp) = &mut self.sink.target else { return Ok(()) };
        let mut waiting = Vec::with_capacity(2 * self.slices.len() + 2);
        let mut at = 0;
        for &(before, slice) in &self.slices {
            waiting.extend([IoSlice::new(&self.sink.buffer[at..before]), IoSlice::new(slice)]);
            at = before;
        }
        waiting.extend([IoSlice::new(&self.sink.buffer[at..]), IoSlice::new(last)]);
        write_all(&mut temp.file, &mut waiting).map_err(|err| Error::io("write the file", err))?;
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

/// A file beside its destination, which it replaces when it is finished and which it leaves alone otherwise.
///
/// It is called `.NAME.N.zt-tmp`, N from 0, and its writer holds a lock on it: one that nobody locks is the
/// wreck of a dead writer, and the next writer of the same name removes it.
struct TempFile {
    file: File,
    path: PathBuf,
    destination: PathBuf,
    /// What relative paths are relative to. They are used as they are for as long as the process stays there: it need not be
    /// allowed to come there from the root.
    directory: Option<PathBuf>,
    fsync: Fsync,
    finished: bool,
    /// The process that made it. A copy that a fork left in another one is not that one's to remove.
    process: u32,
}

impl TempFile {
    fn create(path: &Path, fsync: Fsync) -> Result<Self> {
        let destination = resolve(path).map_err(|err| Error::io("look up the destination", err))?;
        // What replaces a file is nobody else's to read until it has the mode of that file.
        let mode = if existing(&destination)?.is_some() { 0o600 } else { 0o666 };
        if destination.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Error::io("create the file", io::ErrorKind::IsADirectory.into()));
        }
        let Some(name) = destination.file_name() else {
            return Err(Error::io("create the file", io::ErrorKind::InvalidInput.into()));
        };
        let directory = if destination.is_relative() { env::current_dir().ok() } else { None };
        let slot_path = |slot| destination.with_file_name(temp_name(name, slot));
        for slot in 0..CLEANED_SLOTS {
            remove_wreck(&slot_path(slot));
        }
        for slot in 0..SLOTS {
            let path = slot_path(slot);
            match OpenOptions::new().write(true).create_new(true).mode(mode).open(&path) {
                Ok(file) => {
                    let process = process::id();
                    let (destination, directory) = (destination.clone(), directory.clone());
                    let mut temp =
                        Self { file, path, destination, directory, fsync, finished: false, process };
                    // A filesystem without locks gives no wrecks a name, nothing worse.
                    let _ = uninterrupted(|| temp.file.lock());
                    let metadata = uninterrupted(|| temp.file.metadata())
                        .map_err(|err| Error::io("look up the temporary file", err))?;
                    if metadata.nlink() > 0 {
                        return Ok(temp);
                    }
                    // Between its creation and the lock, another writer took it for a wreck; the name may be that
                    // of somebody else's file by now.
                    temp.finished = true;
                }
                Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
                Err(err) => return Err(Error::io("create a temporary file beside the destination", err)),
            }
        }
        fail!(
            Io,
            "cannot create the file: {SLOTS} temporary files of its name are there, in use or not removable"
        )
    }

    /// Where a path leads that was looked up when the file was created.
    fn rooted(&self, path: &Path) -> PathBuf {
        match &self.directory {
            Some(directory) if env::current_dir().ok().as_ref() != Some(directory) => directory.join(path),
            _ => path.to_owned(),
        }
    }

    fn finish(mut self) -> Result<()> {
        let destination = self.rooted(&self.destination);
        let replaced = existing(&destination)?;
        if let Some(metadata) = &replaced {
            let set = self.file.set_permissions(metadata.permissions());
            set.map_err(|err| Error::io("give the file the mode of the one it replaces", err))?;
        }
        let flush = match self.fsync {
            Fsync::Auto => replaced.is_some(),
            Fsync::Always => true,
            Fsync::Never => false,
        };
        if flush {
            self.file.sync_all().map_err(|err| Error::io("flush the file to the disk", err))?;
        }
        close_copy(&self.file).map_err(|err| Error::io("write the file", err))?;
        let path = self.rooted(&self.path);
        uninterrupted(|| fs::rename(&path, &destination))
            .map_err(|err| Error::io("rename the temporary file to the destination", err))?;
        self.finished = true;
        if flush {
            let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
            match File::open(parent.unwrap_or(Path::new("."))) {
                // A directory may be one to write to and not to read. The file's own flush takes its new name along where
                // names are journaled.
                Err(err) if err.kind() == io::ErrorKind::PermissionDenied => self.file.sync_all(),
                directory => directory.and_then(|directory| directory.sync_all()),
            }
            .map_err(|err| Error::io("flush the directory to the disk (the file is in place)", err))?;
        }
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.finished && self.process == process::id() {
            // Nobody is there to be told; the next writer of this name removes what stays.
            let path = self.rooted(&self.path);
            let _ = uninterrupted(|| fs::remove_file(&path));
        }
    }
}

/// The name of a temporary file. File names end at 255 bytes, so a long one is cut.
fn temp_name(name: &OsStr, slot: usize) -> OsString {
    let suffix = format!(".{slot}.zt-tmp");
    let kept = name.len().min(255 - 1 - suffix.len());
    let mut temp = OsString::from(".");
    temp.push(OsStr::from_bytes(&name.as_bytes()[..kept]));
    temp.push(suffix);
    temp
}

/// Removes a temporary file that nobody holds a lock on.
fn remove_wreck(path: &Path) {
    if regular_file(path).is_none() {
        return;
    }
    // Locks over NFS ask for a file that is open for writing, which one with the mode of a read-only file cannot be.
    let open = || OpenOptions::new().write(true).open(path).or_else(|_| File::open(path));
    let Ok(file) = open() else { return };
    remove_unlocked(path, &file);
}

/// The file that stands at a path itself, if it is a regular one.
fn regular_file(path: &Path) -> Option<Metadata> {
    uninterrupted(|| fs::symlink_metadata(path)).ok().filter(Metadata::is_file)
}

/// Removes the file that was opened at a path if nobody holds a lock on it and it stands there still: by now its writer may
/// have given it its name, and the next one may be at work under this one.
fn remove_unlocked(path: &Path, file: &File) {
    let lock = || {
        file.try_lock().map_err(|err| match err {
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
            TryLockError::Error(err) => err,
        })
    };
    let is_same = || {
        let (ours, now) = (uninterrupted(|| file.metadata()).ok()?, regular_file(path)?);
        Some((ours.dev(), ours.ino()) == (now.dev(), now.ino()))
    };
    // Nobody but its dead writer would take a file away that is locked here.
    if uninterrupted(lock).is_ok() && is_same() == Some(true) {
        let _ = uninterrupted(|| fs::remove_file(path));
    }
}

/// The file that stands at a path, links followed. What is no regular file is refused: a device or a pipe would be gone
/// once a file took its name.
fn existing(path: &Path) -> Result<Option<Metadata>> {
    match uninterrupted(|| fs::metadata(path)) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(metadata) if metadata.is_dir() => {
            Err(Error::io("create the file", io::ErrorKind::IsADirectory.into()))
        }
        Ok(metadata) => Err(Error::io("replace what is there", source::not_regular(&metadata))),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(Error::io("look up the destination", err)),
    }
}

/// Closes a second handle to the file. On NFS and the like only that tells of writes that failed; the lock stays, since
/// it goes with the last handle.
fn close_copy(file: &File) -> io::Result<()> {
    match nix::unistd::close(file.try_clone()?) {
        // It is closed all the same, and closing the last handle flushes again.
        Ok(()) | Err(nix::Error::EINTR) => Ok(()),
        Err(err) => Err(err.into()),
    }
}

/// Follows symbolic links, so that a link's target is replaced and not the link. The last target need not
/// exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..40 {
        match uninterrupted(|| fs::read_link(&path)) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(err) if matches!(err.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(err) => return Err(err),
        }
    }
    Err(Errno::ELOOP.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn save(path: &Path, bytes: &[u8]) {
        let mut sink = Sink::create(path, Fsync::Auto).unwrap();
        write(&mut sink, bytes);
        assert!(sink.finish().unwrap().is_none());
    }

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
        let mut sink = Sink::create(&dir.path().join("file"), Fsync::Auto).unwrap();
        assert_eq!(sink.lend(Memory::empty()).unwrap_err().kind(), ErrorKind::Argument);
    }

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn bytes_arrive_in_order_whatever_their_sizes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut sink = Sink::create(&path, Fsync::Never).unwrap();
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
                if at % 2 == 0 { out.write(part).unwrap() } else { out.write_lasting(part).unwrap() }
            }
            many.iter().for_each(|part| out.write_lasting(part).unwrap());
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
    fn an_unfinished_file_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        save(&path, b"old");
        let mut sink = Sink::create(&path, Fsync::Auto).unwrap();
        write(&mut sink, b"new");
        assert_eq!(entries(dir.path()), [".f.0.zt-tmp", "f"]);
        drop(sink);
        assert_eq!(entries(dir.path()), ["f"]);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn the_mode_of_the_replaced_file_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        save(&path, b"old");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
        save(&path, b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o440);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_links_target_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        let link = dir.path().join("link");
        symlink("sub/target", &link).unwrap();
        save(&link, b"through a dangling link");
        save(&link, b"again");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(dir.path().join("sub/target")).unwrap(), b"again");
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(Sink::create(&dir.path().join("loop"), Fsync::Auto).is_err());
    }

    #[test]
    fn wrecks_are_removed_and_the_living_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(dir.path().join(".f.0.zt-tmp"), b"wreck").unwrap();
        fs::write(dir.path().join(".f.5.zt-tmp"), b"wreck").unwrap();
        let first = Sink::create(&path, Fsync::Auto).unwrap();
        let second = Sink::create(&path, Fsync::Auto).unwrap();
        assert_eq!(entries(dir.path()), [".f.0.zt-tmp", ".f.1.zt-tmp"]);
        second.finish().unwrap();
        first.finish().unwrap();
        assert_eq!(entries(dir.path()), ["f"]);
    }

    #[test]
    fn a_wreck_is_removed_only_if_it_stands_there_still() {
        let dir = tempfile::tempdir().unwrap();
        let (path, temp) = (dir.path().join("f"), dir.path().join(".f.0.zt-tmp"));
        let first = Sink::create(&path, Fsync::Never).unwrap();
        // Opened as a wreck might be, and then overtaken: the first writer finishes, and another takes its place.
        let opened = File::open(&temp).unwrap();
        first.finish().unwrap();
        let mut second = Sink::create(&path, Fsync::Never).unwrap();
        write(&mut second, b"second");
        remove_unlocked(&temp, &opened);
        assert_eq!(entries(dir.path()), [".f.0.zt-tmp", "f"]);
        second.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        // One that nobody can write to is a wreck as any other.
        fs::write(&temp, b"wreck").unwrap();
        fs::set_permissions(&temp, fs::Permissions::from_mode(0o444)).unwrap();
        drop(Sink::create(&path, Fsync::Never).unwrap());
        assert_eq!(entries(dir.path()), ["f"]);
    }

    #[test]
    fn what_replaces_a_private_file_is_private_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o777;
        save(&path, b"old");
        for before in [0o600, 0o644, 0o440] {
            fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
            let sink = Sink::create(&path, Fsync::Never).unwrap();
            assert_eq!(mode(".f.0.zt-tmp"), 0o600);
            sink.finish().unwrap();
            assert_eq!(mode("f"), before);
        }
    }

    #[test]
    fn a_long_name_is_cut_for_the_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n".repeat(255));
        save(&path, b"long");
        assert_eq!(fs::read(&path).unwrap(), b"long");
    }

    #[test]
    fn a_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Sink::create(dir.path(), Fsync::Auto).is_err());
        assert!(Sink::create(&dir.path().join("missing/f"), Fsync::Auto).is_err());
        assert!(Sink::create(&dir.path().join("f/"), Fsync::Auto).is_err());
        assert!(Sink::create(Path::new(""), Fsync::Auto).is_err());
        assert!(entries(dir.path()).is_empty());
    }

    #[test]
    fn what_is_no_regular_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let early = Sink::create(&path, Fsync::Never).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for result in [early.finish().map(drop), Sink::create(&path, Fsync::Never).map(drop)] {
            let message = result.unwrap_err().to_string();
            assert!(message.contains("not a regular file"), "{message}");
        }
        assert!(!fs::metadata(&path).unwrap().is_file());
        assert_eq!(entries(dir.path()), ["pipe"]);
    }
}
