//! A file that replaces its destination once it is whole.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf, absolute};
use std::process;
use std::sync::Mutex;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use super::Fsync;
use super::attributes::Attributes;
use super::destination::{
    Destination, close_copy, flush_directory, flush_file, is_mount_point, is_same_file, stat_destination,
};
use super::stale::{kept_name, remove_stale_temps, temp_name};
use crate::error::{Error, Result, fail, uninterrupted};

/// What an error says if only writing in place is left.
const IN_PLACE_HINT: &str = "write it in place instead: atomic=False";
/// The mode of a file that replaces another one, until it has that one's.
const PRIVATE: u32 = 0o600;
/// The mode of a new file, before the umask.
const PUBLIC: u32 = 0o666;
/// The bit of a directory's mode by which only its owner and that of a file remove the file.
const STICKY: u32 = 0o1000;

/// A file that is renamed to its destination when it is finished, and goes when it is dropped before.
///
/// Where the filesystem can, it has no name until then, so that a process that is killed leaves nothing: it gets a temporary
/// name right before it is renamed. Elsewhere it has a temporary name beside the destination from the start.
#[derive(Debug)]
pub(super) struct AtomicFile {
    file: File,
    /// The temporary name, if it has one.
    temp: Option<OsString>,
    destination: Destination,
    /// The attributes of the file at the destination when this one was created.
    replaced: Option<Attributes>,
    /// The mode that a file which replaces another one is created with.
    private: u32,
    fsync: Fsync,
    /// The process that created it. The copy that a fork leaves in a child is not the child's to remove.
    process: u32,
}

impl AtomicFile {
    /// Creates a file for a destination.
    pub(super) fn create(path: &Path, fsync: Fsync) -> Result<Self> {
        Self::create_by(path, fsync, create_unnamed)
    }

    /// Creates a file, without a name if `unnamed` makes one.
    fn create_by(path: &Path, fsync: Fsync, unnamed: fn(&Path, u32) -> Option<File>) -> Result<Self> {
        let (destination, found) = Destination::resolve(path)?;
        let path = destination.path();
        if found.is_some() && is_mount_point(&path) {
            let action = format!("replace the file, which is a mount point ({IN_PLACE_HINT})");
            return Err(Error::io(action, Errno::BUSY.into()));
        }
        let replaced = found.as_ref().map(|metadata| Attributes::read(&path, metadata));
        check_allowed(&destination, found.as_ref())?;
        // What replaces a file is private until it has the mode of that file.
        let private = PRIVATE;
        let mode = if replaced.is_some() { private } else { PUBLIC };
        let directory = destination.parent();
        let (file, temp) = create_temp(&destination, mode, unnamed)?;
        let mut file = Self { file, temp, destination, replaced, private, fsync, process: process::id() };
        file.give_rights(unnamed)?;
        remove_stale_temps(&directory);
        Ok(file)
    }

    /// Creates the temporary file again with the rights of the file that it replaces, if the filesystem gives a file none later.
    fn give_rights(&mut self, unnamed: fn(&Path, u32) -> Option<File>) -> Result<()> {
        let Some(replaced) = &self.replaced else { return Ok(()) };
        let mode = replaced.mode_to_create(&self.file).map_err(|err| Error::io("create the file", err))?;
        let Some(mode) = mode else { return Ok(()) };
        let (file, temp) = create_temp(&self.destination, mode, unnamed)?;
        self.private = mode;
        self.file = file;
        if let Some(last) = std::mem::replace(&mut self.temp, temp) {
            let _ = uninterrupted(|| fs::remove_file(self.destination.sibling(&last)));
        }
        Ok(())
    }

    /// Returns the file to write to.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Renames the file to its destination.
    pub(super) fn finish(mut self) -> Result<()> {
        let destination = self.destination.path();
        let found = stat_destination(&destination)?;
        let flush = self.fsync.applies(found.is_some());
        let attributes = match found {
            Some(metadata) => Some(Attributes::read(&destination, &metadata)),
            // The file was removed meanwhile. This one is no less private than it.
            None => self.replaced.take(),
        };
        self.settle(attributes.as_ref(), flush)?;
        if self.temp.is_none() && self.link().is_err() {
            // A name can be refused to a file that has none, by rules of the system's security.
            let mode = if attributes.is_some() { self.private } else { PUBLIC };
            self.copy(mode)?;
            self.settle(attributes.as_ref(), flush)?;
        }
        self.rename(&destination)?;
        if flush {
            flush_directory(&self.destination.parent(), &self.file)?;
        }
        Ok(())
    }

    /// Completes the file but for its name.
    fn settle(&self, attributes: Option<&Attributes>, flush: bool) -> Result<()> {
        if let Some(attributes) = attributes {
            attributes.apply(&self.file)?;
        }
        if flush {
            flush_file(&self.file, self.fsync)?;
        }
        close_copy(&self.file)
    }

    /// Gives a file without a name a temporary one.
    fn link(&mut self) -> io::Result<()> {
        let file = &self.file;
        self.temp = Some(with_temp_name(&self.destination, |path| link_unnamed(file, path))?.1);
        Ok(())
    }

    /// Continues with a copy that has a temporary name.
    fn copy(&mut self, mode: u32) -> Result<()> {
        let (mut copy, temp) = create_named(&self.destination, mode)?;
        self.temp = Some(temp);
        let copied = uninterrupted(|| self.file.seek(SeekFrom::Start(0)))
            .and_then(|_| io::copy(&mut self.file, &mut copy));
        self.file = copy;
        copied.map(drop).map_err(|err| Error::io("copy the file to one with a name", err))
    }

    /// Renames the temporary file. If that fails, the file is kept.
    fn rename(&mut self, destination: &Path) -> Result<()> {
        let Some(temp) = self.temp_path() else { fail!(Io, "the temporary file has no name") };
        let lost = match is_same_file(&self.file, &temp) {
            Ok(true) => None,
            Ok(false) => Some(("replaced", Errno::STALE.into())),
            Err(err) => Some(("removed", err)),
        };
        if let Some((happened, err)) = lost {
            let temp = temp.display();
            return Err(Error::io(
                format!("rename the temporary file {temp}, which another process {happened}"),
                err,
            ));
        }
        match uninterrupted(|| fs::rename(&temp, destination)) {
            Ok(()) => {
                self.temp = None;
                Ok(())
            }
            Err(err) => Err(self.keep(temp, err)),
        }
    }

    /// Keeps the whole file, which could not be renamed, under a name that no later save removes.
    fn keep(&mut self, temp: PathBuf, err: io::Error) -> Error {
        let kept = self.destination.sibling(&kept_name(self.destination.name()));
        let linked = fs::hard_link(&temp, &kept).and_then(|()| fs::remove_file(&temp));
        let is_moved = linked.is_ok() || fs::rename(&temp, &kept).is_ok();
        self.temp = None;
        let place = if is_moved { kept } else { temp };
        let place = absolute(&place).unwrap_or(place);
        let action = format!(
            "rename the temporary file to the destination (the whole file is kept as {}; {IN_PLACE_HINT})",
            place.display()
        );
        Error::io(action, err)
    }

    /// Returns the path of the temporary name.
    fn temp_path(&self) -> Option<PathBuf> {
        self.temp.as_ref().map(|name| self.destination.sibling(name))
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        let Some(temp) = self.temp_path() else { return };
        if self.process == process::id() && is_same_file(&self.file, &temp).is_ok_and(|is_same| is_same) {
            // Nobody can be told of an error; a later save removes what stays.
            let _ = uninterrupted(|| fs::remove_file(&temp));
        }
    }
}

/// Creates a file, without a name if `unnamed` makes one. Returns it with its temporary name.
fn create_temp(
    destination: &Destination,
    mode: u32,
    unnamed: fn(&Path, u32) -> Option<File>,
) -> Result<(File, Option<OsString>)> {
    if let Some(file) = unnamed(&destination.parent(), mode) {
        return Ok((file, None));
    }
    check_rename(destination)?;
    let (file, temp) = create_named(destination, mode)?;
    Ok((file, Some(temp)))
}

/// Creates a file without a name, if the filesystem has such files and they can be named later.
fn create_unnamed(directory: &Path, mode: u32) -> Option<File> {
    #[cfg(target_os = "linux")]
    {
        let flags = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).ok()?;
        // Reading is for the copy that is made if it cannot be named after all.
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(mode).custom_flags(flags);
        let file = options.open(directory).ok()?;
        let (open, named) = (file.metadata().ok()?, fs::metadata(path_of(&file)).ok()?);
        ((open.dev(), open.ino()) == (named.dev(), named.ino())).then_some(file)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (directory, mode);
        None
    }
}

/// Returns the path by which an open file can be linked.
fn path_of(file: &File) -> String {
    use std::os::fd::AsRawFd;

    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn link_unnamed(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::linkat;

    Ok(linkat(CWD, path_of(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Creates a file with a temporary name.
fn create_named(destination: &Destination, mode: u32) -> Result<(File, OsString)> {
    let create = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let (file, temp) = with_temp_name(destination, create).map_err(|err| {
        let is_refused =
            matches!(err.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
        // In a directory that may not be written to, only a file that is there can be written in place.
        let can_write = || accessat(CWD, destination.path(), Access::WRITE_OK, AtFlags::EACCESS).is_ok();
        let hint = if is_refused && can_write() { format!(" ({IN_PLACE_HINT})") } else { String::new() };
        Error::io(format!("create a temporary file beside the destination{hint}"), err)
    })?;
    // Tells a host that was booted again that the writer lives. A filesystem without locks does without.
    let _ = file.try_lock();
    Ok((file, temp))
}

/// Calls the system with temporary names until one is free. Returns it with the result.
fn with_temp_name<T>(
    destination: &Destination,
    mut call: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<(T, OsString)> {
    let mut is_short = false;
    loop {
        let name = temp_name(destination.name(), is_short);
        let path = destination.sibling(&name);
        match uninterrupted(|| call(&path)) {
            Ok(made) => return Ok((made, name)),
            // Left by this process before it became another program.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            // Some filesystems have shorter names.
            Err(err) if err.kind() == io::ErrorKind::InvalidFilename && !is_short => is_short = true,
            Err(err) => return Err(err),
        }
    }
}

/// Refuses what the system lets nobody, or not this process, rename to the destination, before anything is written.
fn check_allowed(destination: &Destination, found: Option<&Metadata>) -> Result<()> {
    let directory = destination.parent();
    let refuse = |what: &str| Err(Error::io(format!("replace the file: {what}"), Errno::PERM.into()));
    if found.is_some() && is_protected(&destination.path()) {
        return refuse("it is marked as immutable or append-only");
    }
    if is_protected(&directory) {
        let hint = if found.is_some() { format!(" ({IN_PLACE_HINT})") } else { String::new() };
        let action = format!("create the file: its directory is marked as immutable or append-only{hint}");
        return Err(Error::io(action, Errno::PERM.into()));
    }
    let Some(found) = found else { return Ok(()) };
    let Ok(parent) = uninterrupted(|| fs::metadata(&directory)) else { return Ok(()) };
    let user = rustix::process::geteuid().as_raw();
    if parent.mode() & STICKY != 0 && ![found.uid(), parent.uid()].contains(&user) && !may_act_as_owner() {
        return refuse(&format!(
            "it is another user's, in a directory with the sticky bit ({IN_PLACE_HINT})"
        ));
    }
    Ok(())
}

/// Returns whether a file or directory has an attribute by which files are neither replaced nor removed.
fn is_protected(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{StatxAttributes, StatxFlags, statx};

        let protected = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
        statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
            .is_ok_and(|found| (found.stx_attributes & found.stx_attributes_mask).intersects(protected))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}

/// Returns whether the process may do to every file what its owner may. True if that is not known.
fn may_act_as_owner() -> bool {
    const CAP_FOWNER: u64 = 1 << 3;

    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    capabilities.is_none_or(|bits| bits & CAP_FOWNER != 0)
}

/// Checks that files of a directory can be renamed, before anything is written: some network and FUSE filesystems cannot.
/// A filesystem is asked once.
fn check_rename(destination: &Destination) -> Result<()> {
    static CHECKED: Mutex<Vec<u64>> = Mutex::new(Vec::new());

    let device = fs::metadata(destination.parent()).ok().map(|metadata| metadata.dev());
    let is_checked = |checked: &Vec<u64>| device.is_some_and(|device| checked.contains(&device));
    if CHECKED.try_lock().is_ok_and(|checked| is_checked(&checked)) {
        return Ok(());
    }
    let (file, temp) = create_named(destination, PRIVATE)?;
    drop(file);
    let from = destination.sibling(&temp);
    let renamed = with_temp_name(destination, |to| fs::rename(&from, to));
    let left = renamed.as_ref().map_or(&temp, |(_, name)| name);
    let _ = uninterrupted(|| fs::remove_file(destination.sibling(left)));
    renamed.map_err(|err| Error::io(format!("rename files in this directory ({IN_PLACE_HINT})"), err))?;
    if let (Some(device), Ok(mut checked)) = (device, CHECKED.try_lock())
        && !checked.contains(&device)
    {
        checked.push(device);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Both kinds of temporary file.
    const KINDS: [fn(&Path, u32) -> Option<File>; 2] = [create_unnamed, |_, _| None];

    fn begin(path: &Path, kind: usize, bytes: &[u8]) -> AtomicFile {
        let mut file = AtomicFile::create_by(path, Fsync::Auto, KINDS[kind]).unwrap();
        file.file().write_all(bytes).unwrap();
        file
    }

    fn save(path: &Path, kind: usize, bytes: &[u8]) {
        begin(path, kind, bytes).finish().unwrap();
    }

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn an_unfinished_file_leaves_no_trace() {
        for kind in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            save(&path, kind, b"old");
            let file = begin(&path, kind, b"new");
            assert_eq!(entries(dir.path()).len(), if file.temp.is_some() { 2 } else { 1 });
            drop(file);
            assert_eq!(entries(dir.path()), ["f"]);
            assert_eq!(fs::read(&path).unwrap(), b"old");
        }
    }

    #[test]
    fn the_mode_of_the_replaced_file_is_kept() {
        for kind in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            save(&path, kind, b"old");
            for before in [0o600, 0o644, 0o440, 0o755] {
                set_mode(&path, before);
                let file = begin(&path, kind, b"new");
                assert_eq!(file.file.metadata().unwrap().mode() & 0o777, 0o600);
                file.finish().unwrap();
                assert_eq!(mode(&path), before);
                assert_eq!(fs::read(&path).unwrap(), b"new");
            }
        }
    }

    #[test]
    fn a_destination_that_disappears_gives_its_mode_all_the_same() {
        for kind in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            for before in [0o640, 0o644] {
                save(&path, kind, b"old");
                set_mode(&path, before);
                let file = begin(&path, kind, b"new");
                fs::remove_file(&path).unwrap();
                file.finish().unwrap();
                assert_eq!(mode(&path), before);
            }
        }
    }

    #[test]
    fn a_links_target_is_replaced() {
        for kind in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("sub")).unwrap();
            let link = dir.path().join("link");
            symlink("sub/target", &link).unwrap();
            save(&link, kind, b"through a dangling link");
            save(&link, kind, b"again");
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read(dir.path().join("sub/target")).unwrap(), b"again");
            symlink("loop", dir.path().join("loop")).unwrap();
            assert!(AtomicFile::create(&dir.path().join("loop"), Fsync::Auto).is_err());
        }
    }

    #[test]
    fn two_writers_of_one_name_do_not_meet() {
        for kind in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            let (first, second) = (begin(&path, kind, b"first"), begin(&path, kind, b"second"));
            second.finish().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"second");
            first.finish().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"first");
            assert_eq!(entries(dir.path()), ["f"]);
        }
    }

    /// Another host may take the file for one of a dead writer, and create its own under the same name.
    #[test]
    fn a_file_that_another_writer_put_in_its_place_is_neither_renamed_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        save(&path, 0, b"old");
        for finishes in [true, false] {
            for replaces in [true, false] {
                let file = begin(&path, 1, b"new");
                let temp = file.temp_path().unwrap();
                fs::remove_file(&temp).unwrap();
                if replaces {
                    fs::write(&temp, b"half written").unwrap();
                }
                if finishes {
                    let message = file.finish().unwrap_err().to_string();
                    assert!(message.contains(&format!("{}", temp.display())), "{message}");
                    assert!(message.contains(if replaces { "replaced" } else { "removed" }), "{message}");
                } else {
                    drop(file);
                }
                assert_eq!(fs::read(&path).unwrap(), b"old");
                assert_eq!(temp.exists(), replaces);
                let _ = fs::remove_file(&temp);
            }
        }
    }

    #[test]
    fn a_whole_file_that_cannot_be_renamed_is_kept() {
        for kind in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            let mut file = begin(&path, kind, b"whole");
            file.settle(None, false).unwrap();
            if file.temp.is_none() {
                file.link().unwrap();
            }
            // A directory is in the way.
            fs::create_dir(&path).unwrap();
            let message = file.rename(&path).unwrap_err().to_string();
            drop(file);
            let names = entries(dir.path());
            let [kept] = names.iter().filter(|name| *name != "f").collect::<Vec<_>>()[..] else {
                panic!("{names:?}")
            };
            assert!(kept.starts_with("f.") && kept.ends_with(".zt-kept"), "{kept}");
            assert!(message.contains(&format!("{}", dir.path().join(kept).display())), "{message}");
            assert!(message.contains("atomic=False"), "{message}");
            assert_eq!(fs::read(dir.path().join(kept)).unwrap(), b"whole");
        }
    }

    #[test]
    fn a_file_that_cannot_get_a_name_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        save(&path, 0, b"old");
        let mut file = begin(&path, 0, b"new");
        let was_unnamed = file.temp.is_none();
        if was_unnamed {
            file.copy(PRIVATE).unwrap();
            assert_eq!(entries(dir.path()).len(), 2);
        }
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(entries(dir.path()), ["f"]);
    }

    #[test]
    fn a_long_name_is_cut_for_the_temporary_file() {
        for kind in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            for name in ["n".repeat(255), "\u{20ac}".repeat(85)] {
                let path = dir.path().join(name);
                save(&path, kind, b"long");
                let file = begin(&path, 1, b"more");
                assert!(entries(dir.path()).len() == 2 && file.temp.as_ref().unwrap().to_str().is_some());
                file.finish().unwrap();
                assert_eq!(fs::read(&path).unwrap(), b"more");
                fs::remove_file(&path).unwrap();
            }
        }
    }

    #[test]
    fn a_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path| AtomicFile::create(path, Fsync::Auto).is_err();
        assert!(refused(dir.path()) && refused(&dir.path().join("missing/f")));
        assert!(
            ["f/", "f/.", "f/./."].iter().all(|name| refused(&dir.path().join(name)))
                && refused(Path::new(""))
        );
        assert!(entries(dir.path()).is_empty());
    }

    #[test]
    fn what_is_no_regular_file_stays() {
        for kind in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("pipe");
            let early = begin(&path, kind, b"");
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            for result in [early.finish(), AtomicFile::create(&path, Fsync::Never).map(drop)] {
                let message = result.unwrap_err().to_string();
                assert!(message.contains("not a regular file"), "{message}");
            }
            assert!(!fs::metadata(&path).unwrap().is_file());
            assert_eq!(entries(dir.path()), ["pipe"]);
        }
    }

    #[test]
    fn owner_and_group_are_kept_or_the_bits_that_depend_on_them_go() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for kind in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("f");
            save(&path, kind, b"old");
            std::os::unix::fs::chown(&path, Some(1234), Some(2345)).unwrap();
            set_mode(&path, 0o6755);
            save(&path, kind, b"new");
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (1234, 2345, 0o6755));
        }
    }
}
