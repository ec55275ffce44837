//! Where a writer's bytes go: a file that appears under its name only when it is whole, or memory.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;

use crate::error::{Error, Result, fail, uninterrupted};

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
/// A slice of this length or more goes to the kernel from where it is.
const DIRECT_LEN: usize = 64 * 1024;
/// Writers of one name that may be at work at once, each with a temporary file of its own.
const SLOTS: usize = 64;
/// Slots that are looked at for the wrecks of dead writers.
const CLEANED_SLOTS: usize = 8;

enum Target {
    File(TempFile),
    Memory(Vec<u8>),
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
        Self { target: Target::Memory(Vec::new()), buffer: Vec::new(), position: 0 }
    }

    /// Bytes written so far.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Appends bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.target {
            Target::Memory(memory) => {
                if memory.try_reserve(bytes.len()).is_err() {
                    fail!(Memory, "{} more bytes of memory cannot be had", bytes.len());
                }
                memory.extend_from_slice(bytes);
            }
            Target::File(temp)
                if bytes.len() >= DIRECT_LEN || self.buffer.len() + bytes.len() > BUFFER_LEN =>
            {
                write_both(&mut temp.file, &self.buffer, bytes)
                    .map_err(|err| Error::io("write the file", err))?;
                self.buffer.clear();
            }
            Target::File(_) => self.buffer.extend_from_slice(bytes),
        }
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Appends zeros up to a position.
    pub(crate) fn pad_to(&mut self, position: u64) -> Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.position < position {
            let len = (position - self.position).min(ZEROS.len() as u64);
            self.write(&ZEROS[..len as usize])?;
        }
        Ok(())
    }

    /// Goes back to an earlier position and forgets what was written since.
    pub(crate) fn rewind(&mut self, position: u64) -> Result<()> {
        self.flush()?;
        match &mut self.target {
            Target::Memory(memory) => memory.truncate(position as usize),
            Target::File(temp) => temp
                .file
                .set_len(position)
                .and_then(|()| temp.file.seek(SeekFrom::Start(position)))
                .map(drop)
                .map_err(|err| Error::io("cut the file", err))?,
        }
        self.position = position;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if let Target::File(temp) = &mut self.target {
            temp.file.write_all(&self.buffer).map_err(|err| Error::io("write the file", err))?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Gives the file its name, or the bytes to the caller if they went to memory.
    pub(crate) fn finish(mut self) -> Result<Option<Vec<u8>>> {
        self.flush()?;
        match self.target {
            Target::File(temp) => temp.finish().map(|()| None),
            Target::Memory(memory) => Ok(Some(memory)),
        }
    }
}

/// Writes two slices, in one call of the system where it takes them whole.
fn write_both(file: &mut File, first: &[u8], second: &[u8]) -> io::Result<()> {
    if first.is_empty() {
        return file.write_all(second);
    }
    let written = loop {
        match file.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    match written.checked_sub(first.len()) {
        Some(of_second) => file.write_all(&second[of_second..]),
        None => file.write_all(&first[written..]).and_then(|()| file.write_all(second)),
    }
}

/// A file beside its destination, which it replaces when it is finished and which it leaves alone otherwise.
///
/// It is called `.NAME.N.zt-tmp`, N from 0, and its writer holds a lock on it: one that nobody locks is the
/// wreck of a dead writer, and the next writer of the same name removes it.
struct TempFile {
    file: File,
    path: PathBuf,
    destination: PathBuf,
    fsync: Fsync,
    finished: bool,
    /// The process that made it. A copy that a fork left in another one is not that one's to remove.
    process: u32,
}

impl TempFile {
    fn create(path: &Path, fsync: Fsync) -> Result<Self> {
        let destination = resolve(path).map_err(|err| Error::io("look up the destination", err))?;
        let existing = existing(&destination).map_err(|err| Error::io("look up the destination", err))?;
        if existing.is_some_and(|metadata| metadata.is_dir()) {
            return Err(Error::io("create the file", io::ErrorKind::IsADirectory.into()));
        }
        let Some(name) = destination.file_name() else {
            return Err(Error::io("create the file", io::ErrorKind::InvalidInput.into()));
        };
        let slot_path = |slot| destination.with_file_name(temp_name(name, slot));
        for slot in 0..CLEANED_SLOTS {
            remove_wreck(&slot_path(slot));
        }
        for slot in 0..SLOTS {
            let path = slot_path(slot);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    let destination = destination.clone();
                    let process = process::id();
                    let mut temp = Self { file, path, destination, fsync, finished: false, process };
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

    fn finish(mut self) -> Result<()> {
        let replaced =
            existing(&self.destination).map_err(|err| Error::io("look up the destination", err))?;
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
        uninterrupted(|| fs::rename(&self.path, &self.destination))
            .map_err(|err| Error::io("rename the temporary file to the destination", err))?;
        self.finished = true;
        if flush {
            let parent = self.destination.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or(Path::new(".")))
                .and_then(|directory| directory.sync_all())
                .map_err(|err| Error::io("flush the directory to the disk (the file is in place)", err))?;
        }
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.finished && self.process == process::id() {
            // Nobody is there to be told; the next writer of this name removes what stays.
            let _ = uninterrupted(|| fs::remove_file(&self.path));
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
    if !uninterrupted(|| fs::symlink_metadata(path)).is_ok_and(|metadata| metadata.is_file()) {
        return;
    }
    let Ok(file) = OpenOptions::new().write(true).open(path) else { return };
    let lock = || {
        file.try_lock().map_err(|err| match err {
            TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
            TryLockError::Error(err) => err,
        })
    };
    if uninterrupted(lock).is_ok() {
        let _ = uninterrupted(|| fs::remove_file(path));
    }
}

/// What stands at a path, links followed.
fn existing(path: &Path) -> io::Result<Option<Metadata>> {
    match uninterrupted(|| fs::metadata(path)) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
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
    Err(io::Error::other("too many levels of symbolic links"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn save(path: &Path, bytes: &[u8]) {
        let mut sink = Sink::create(path, Fsync::Auto).unwrap();
        sink.write(bytes).unwrap();
        assert_eq!(sink.finish().unwrap(), None);
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
        let mut expected = Vec::new();
        for (at, len) in [3, DIRECT_LEN, 1, BUFFER_LEN - 1, 2, BUFFER_LEN + 5, 0, 100].into_iter().enumerate()
        {
            let part = vec![at as u8; len];
            sink.write(&part).unwrap();
            memory.write(&part).unwrap();
            expected.extend(part);
        }
        for sink in [&mut sink, &mut memory] {
            sink.pad_to(expected.len() as u64 + 9000).unwrap();
            sink.rewind(expected.len() as u64).unwrap();
            sink.write(b"end").unwrap();
        }
        expected.extend(b"end");
        sink.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), expected);
        assert_eq!(memory.finish().unwrap(), Some(expected));
    }

    #[test]
    fn an_unfinished_file_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        save(&path, b"old");
        let mut sink = Sink::create(&path, Fsync::Auto).unwrap();
        sink.write(b"new").unwrap();
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
        assert!(entries(dir.path()).is_empty());
    }
}
