//! A file that is written where it is.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process;

use rustix::fs::{Access, AtFlags, CWD, OFlags, accessat};
use rustix::io::Errno;

use super::Fsync;
use super::destination::{
    Destination, close_copy, flush_directory, flush_file, is_same_file, is_unsupported, stat_destination,
};
use crate::error::{Error, Result, fail, uninterrupted};
use crate::source;

/// A file that is written at its destination. What was there is lost from the first write on.
#[derive(Debug)]
pub(super) struct InPlaceFile {
    destination: Destination,
    fsync: Fsync,
    /// The file, once something was written.
    file: Option<File>,
    /// Whether there was a file at the destination when this one was opened.
    replaces: bool,
    is_finished: bool,
    /// The process that created it.
    process: u32,
}

impl InPlaceFile {
    /// Prepares to write to a destination. It is opened and emptied at the first write, so that what is refused before that
    /// costs nothing.
    pub(super) fn create(path: &Path, fsync: Fsync) -> Result<Self> {
        let (destination, found) = Destination::resolve(path)?;
        check_not_mapped(&destination.path(), found.as_ref())?;
        let (place, access) = match &found {
            Some(_) => (destination.path(), Access::WRITE_OK),
            None => (destination.parent(), Access::WRITE_OK | Access::EXEC_OK),
        };
        match accessat(CWD, &place, access, AtFlags::EACCESS).map_err(io::Error::from) {
            Err(err) if !is_unsupported(&err) => return Err(Error::io("write the file in place", err)),
            _ => {}
        }
        let (replaces, process) = (found.is_some(), process::id());
        Ok(Self { destination, fsync, file: None, replaces, is_finished: false, process })
    }

    /// Returns the file to write to.
    pub(super) fn file(&mut self) -> Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        Ok(self.file.insert(file))
    }

    fn open(&mut self) -> Result<File> {
        let path = self.destination.path();
        let found = stat_destination(&path)?;
        check_not_mapped(&path, found.as_ref())?;
        self.replaces = found.is_some();
        // Where it can be, the file is emptied only once it is this writer's alone. Filesystems of objects take a file to be
        // written only if it is emptied as it is opened.
        if self.replaces
            && let Ok(file) = open_file(OpenOptions::new().write(true), &path)
        {
            lock(&file)?;
            if uninterrupted(|| file.set_len(0)).is_ok() {
                return Ok(file);
            }
        }
        let mut options = OpenOptions::new();
        options.write(true);
        if self.replaces {
            options.truncate(true)
        } else {
            options.create_new(true)
        };
        let file = open_file(&mut options, &path).map_err(|err| Error::io("write the file in place", err))?;
        lock(&file)?;
        Ok(file)
    }

    /// Completes the file.
    pub(super) fn finish(mut self) -> Result<()> {
        let flush = self.fsync.applies(self.replaces);
        let fsync = self.fsync;
        let file = self.file()?;
        if flush {
            flush_file(file, fsync)?;
        }
        close_copy(file)?;
        self.check_in_place()?;
        self.is_finished = true;
        if flush
            && !self.replaces
            && let Some(file) = &self.file
        {
            flush_directory(&self.destination.parent(), file)?;
        }
        Ok(())
    }

    /// Checks that what was written is still the file at the destination.
    fn check_in_place(&self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        match is_same_file(file, &self.destination.path()) {
            Ok(true) => Ok(()),
            Ok(false) => {
                fail!(
                    Io,
                    "cannot write the file in place: another process replaced it with a file of its own"
                )
            }
            Err(err) => Err(Error::io("write the file in place, which another process removed", err)),
        }
    }
}

impl Drop for InPlaceFile {
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        if self.process != process::id() {
            return;
        }
        let path = self.destination.path();
        let is_to_go = !self.is_finished && !self.replaces;
        if is_to_go && is_same_file(file, &path).is_ok_and(|is_same| is_same) {
            let _ = uninterrupted(|| fs::remove_file(&path));
        }
        // The copy of a child that was forked meanwhile would hold the lock.
        let _ = file.unlock();
    }
}

/// Opens a regular file.
fn open_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // A pipe that took the file's place must not block.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    options.custom_flags(i32::try_from(flags).unwrap_or(0));
    let file = uninterrupted(|| options.open(path))?;
    let metadata = uninterrupted(|| file.metadata())?;
    if metadata.is_file() { Ok(file) } else { Err(source::not_regular(&metadata)) }
}

/// Keeps other writers away from a file for as long as it is open. A filesystem without locks does without.
fn lock(file: &File) -> Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let action = "write the file in place: another writer has it locked and is writing it in place";
            Err(Error::io(action, Errno::BUSY.into()))
        }
        _ => Ok(()),
    }
}

/// Refuses a file that this process has mapped: once the file is emptied, tensors that were loaded from it are gone, and the
/// process that touches them ends.
fn check_not_mapped(path: &Path, found: Option<&Metadata>) -> Result<()> {
    let Some(metadata) = found else { return Ok(()) };
    let maps = fs::read("/proc/self/maps").unwrap_or_default();
    if !is_in_maps(path, metadata, &maps) {
        return Ok(());
    }
    let action = "write the file in place: this process has it mapped, as an open reader or a loaded tensor (load it with \
                  mode='read', or save without atomic=False)";
    Err(Error::io(action, Errno::TXTBSY.into()))
}

/// Returns whether a table in the form of `/proc/self/maps` lists a file, by its number or by its path: some filesystems give
/// numbers of other devices there.
fn is_in_maps(path: &Path, metadata: &Metadata, maps: &[u8]) -> bool {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    let device = metadata.dev();
    let device = format!("{:02x}:{:02x}", rustix::fs::major(device), rustix::fs::minor(device)).into_bytes();
    let inode = metadata.ino().to_string().into_bytes();
    let path = fs::canonicalize(path).unwrap_or_default().into_os_string();
    maps.split(|&byte| byte == b'\n').any(|line| {
        let mut fields = line.splitn(6, |&byte| byte == b' ').skip(3);
        let (Some(on), Some(number), Some(rest)) = (fields.next(), fields.next(), fields.next()) else {
            return false;
        };
        let is_path = !path.is_empty() && rest.trim_ascii_start() == path.as_bytes();
        is_path || (on == device && number == inode)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn begin(path: &Path, bytes: &[u8]) -> InPlaceFile {
        let mut file = InPlaceFile::create(path, Fsync::Auto).unwrap();
        file.file().unwrap().write_all(bytes).unwrap();
        file
    }

    #[test]
    fn the_file_itself_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("f"), dir.path().join("link"));
        symlink("f", &link).unwrap();
        begin(&link, b"a long file").finish().unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(&path).unwrap();
        begin(&link, b"short").finish().unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_abandoned_file_goes_if_it_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        drop(begin(&path, b"new"));
        assert!(!path.exists());
        // By now it is somebody else's.
        let file = begin(&path, b"new");
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"another").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"another");
        // Nothing was written: nothing is lost.
        drop(InPlaceFile::create(&path, Fsync::Auto).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"another");
        drop(begin(&path, b"half"));
        assert_eq!(fs::read(&path).unwrap(), b"half");
    }

    #[test]
    fn what_cannot_be_written_in_place_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&pipe, dir.path(), &dir.path().join("missing/f"), &dir.path().join("f/")] {
            assert!(InPlaceFile::create(path, Fsync::Auto).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn a_file_that_is_no_longer_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for is_new in [true, false] {
            for replaces in [true, false] {
                let _ = fs::remove_file(&path);
                if !is_new {
                    fs::write(&path, b"old").unwrap();
                }
                let file = begin(&path, b"new");
                fs::remove_file(&path).unwrap();
                if replaces {
                    fs::write(&path, b"another").unwrap();
                }
                let message = file.finish().unwrap_err().to_string();
                assert!(message.contains(if replaces { "replaced" } else { "removed" }), "{message}");
                assert_eq!(fs::read(&path).ok().as_deref(), replaces.then_some(&b"another"[..]));
            }
        }
    }

    #[test]
    fn two_writers_of_one_file_are_one_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for _ in 0..2 {
            let first = begin(&path, b"first");
            let mut second = InPlaceFile::create(&path, Fsync::Auto).unwrap();
            let message = second.file().unwrap_err().to_string();
            assert!(message.contains("another writer"), "{message}");
            drop(second);
            // As the copy of a child that was forked meanwhile.
            let copy = first.file.as_ref().unwrap().try_clone().unwrap();
            first.finish().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"first");
            begin(&path, b"third").finish().unwrap();
            drop(copy);
            assert_eq!(fs::read(&path).unwrap(), b"third");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_mapped_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a file");
        fs::write(&path, [7; 5000]).unwrap();
        let early = InPlaceFile::create(&path, Fsync::Auto).unwrap();
        let mapped = Source::open(&path, crate::source::Mode::Mmap).unwrap();
        let refused = InPlaceFile::create(&path, Fsync::Auto).unwrap_err().to_string();
        assert!(refused.contains("mapped") && refused.contains("mode='read'"), "{refused}");
        let mut early = early;
        assert!(early.file().is_err());
        assert_eq!(fs::metadata(&path).unwrap().len(), 5000);
        drop(mapped);
        assert!(early.file().is_ok());
    }
}
