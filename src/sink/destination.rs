//! The path that a file is saved to: links, the current directory, mount points, and the calls of the system that both ways of
//! writing share.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Fsync;
use crate::error::{Error, Result, uninterrupted};
use crate::source;

/// How deep symbolic links may lead, as in Linux.
const MAX_LINKS: usize = 40;

/// Where a file is saved to, symbolic links followed.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    path: PathBuf,
    /// The directory that a relative path started from. Relative paths are used as they are while this is the current
    /// directory: the process need not have the right to reach it from the root.
    directory: Option<PathBuf>,
}

impl Destination {
    /// Looks up a path. Returns it with the metadata of the file that is there, if there is one.
    pub(super) fn resolve(path: &Path) -> Result<(Self, Option<Metadata>)> {
        let path = follow_links(path).map_err(|err| Error::io("look up the destination", err))?;
        let found = stat_destination(&path)?;
        let bytes = path.as_os_str().as_bytes();
        if bytes.ends_with(b"/") || bytes.ends_with(b"/.") {
            return Err(Error::io("create the file", io::ErrorKind::IsADirectory.into()));
        }
        if path.file_name().is_none() {
            return Err(Error::io("create the file", io::ErrorKind::InvalidInput.into()));
        }
        let directory = if path.is_relative() { env::current_dir().ok() } else { None };
        Ok((Self { path, directory }, found))
    }

    /// Returns the path, valid in the current directory of this moment.
    pub(super) fn path(&self) -> PathBuf {
        self.rooted(&self.path)
    }

    /// Returns the path of another file in the same directory.
    pub(super) fn sibling(&self, name: &OsStr) -> PathBuf {
        self.rooted(&self.path.with_file_name(name))
    }

    /// Returns the path of the directory.
    pub(super) fn parent(&self) -> PathBuf {
        let path = self.path();
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.unwrap_or(Path::new(".")).to_owned()
    }

    /// Returns the file's name.
    pub(super) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    fn rooted(&self, path: &Path) -> PathBuf {
        match &self.directory {
            Some(directory) if env::current_dir().ok().as_ref() != Some(directory) => directory.join(path),
            _ => path.to_owned(),
        }
    }
}

/// Follows symbolic links, so that a link's target is replaced and not the link. The last target need not exist.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match uninterrupted(|| fs::read_link(&path)) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(err) if matches!(err.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(err) => return Err(err),
        }
    }
    Err(Errno::LOOP.into())
}

/// Returns the metadata of the file at a path, links followed. Refuses anything but a regular file: renaming a file to the
/// path of a device or a pipe would remove it.
pub(super) fn stat_destination(path: &Path) -> Result<Option<Metadata>> {
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

/// Returns whether an open file is the one at a path. Symbolic links are not followed.
pub(super) fn is_same_file(file: &File, path: &Path) -> io::Result<bool> {
    let open = uninterrupted(|| file.metadata())?;
    let there = uninterrupted(|| fs::symlink_metadata(path))?;
    Ok((open.dev(), open.ino()) == (there.dev(), there.ino()))
}

/// Returns whether a file is the root of a mount, as a file is that was mounted into a container by itself. No file can be
/// renamed to such a path.
pub(super) fn is_mount_point(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

        match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty()) {
            Ok(found) if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
                found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
            }
            // Linux before 5.8.
            _ => is_in_mount_table(path, &fs::read("/proc/self/mountinfo").unwrap_or_default()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}

/// Returns whether a table in the form of `/proc/self/mountinfo` lists a path.
#[cfg(target_os = "linux")]
fn is_in_mount_table(path: &Path, table: &[u8]) -> bool {
    let Ok(path) = fs::canonicalize(path) else { return false };
    // Space, tab, line feed and backslash are written as a backslash and three octal digits.
    let mut escaped = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").bytes()),
            _ => escaped.push(byte),
        }
    }
    let mount_point = |line: &[u8]| line.split(|&byte| byte == b' ').nth(4).map(<[u8]>::to_vec);
    table.split(|&byte| byte == b'\n').any(|line| mount_point(line).as_ref() == Some(&escaped))
}

impl Fsync {
    /// Returns whether a file is flushed.
    pub(super) fn applies(self, replaces: bool) -> bool {
        match self {
            Self::Auto => replaces,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Returns whether a filesystem answered that it does not have an operation.
pub(super) fn is_unsupported(err: &io::Error) -> bool {
    let errno = Errno::from_io_error(err);
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::NOTSUP].into_iter().any(|one| errno == Some(one))
}

/// Flushes a file to the disk. If the caller did not ask for a flush by name, a filesystem that has none is accepted.
pub(super) fn flush_file(file: &File, fsync: Fsync) -> Result<()> {
    match file.sync_all() {
        Err(err) if fsync == Fsync::Auto && is_unsupported(&err) => Ok(()),
        flushed => flushed.map_err(|err| Error::io("flush the file to the disk", err)),
    }
}

/// Flushes a directory to the disk, so that a power cut does not undo a rename. `file` is the file that was renamed.
pub(super) fn flush_directory(directory: &Path, file: &File) -> Result<()> {
    let flushed = match File::open(directory) {
        // If the directory may be written to and not read, the file's own flush takes its new name along where names are
        // journaled.
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => file.sync_all(),
        directory => directory.and_then(|directory| directory.sync_all()),
    };
    match flushed {
        // Network and FUSE filesystems that cannot flush a directory.
        Err(err) if is_unsupported(&err) => Ok(()),
        flushed => {
            flushed.map_err(|err| Error::io("flush the directory to the disk (the file is in place)", err))
        }
    }
}

/// Closes a second handle to the file. NFS and FUSE filesystems report failed writes only then; the lock stays, since the last
/// handle releases it.
pub(super) fn close_copy(file: &File) -> Result<()> {
    let closed = file.try_clone().and_then(|copy| match nix::unistd::close(copy) {
        // The handle is closed all the same, and closing the last one flushes again.
        Ok(()) | Err(nix::Error::EINTR) => Ok(()),
        Err(err) => Err(err.into()),
    });
    closed.map_err(|err| Error::io("write the file", err))
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_found_in_the_mount_table() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b\\c");
        fs::write(&path, b"").unwrap();
        let written = fs::canonicalize(dir.path()).unwrap().join("a\\040b\\134c");
        let line = |path: &Path| format!("30 1 8:1 /host.zt {} rw - ext4 /dev/sda rw\n", path.display());
        let table = format!("{}{}", line(Path::new("/proc")), line(&written));
        assert!(is_in_mount_table(&path, table.as_bytes()));
        assert!(!is_in_mount_table(&path, line(dir.path()).as_bytes()));
        assert!(!is_in_mount_table(&dir.path().join("missing"), table.as_bytes()));
        assert!(!is_mount_point(&path) && is_mount_point(Path::new("/proc")));
    }
}
