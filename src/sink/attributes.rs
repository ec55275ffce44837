//! What a file keeps when its contents are replaced: owner, group, mode and extended attributes.

use std::ffi::CString;
use std::fs::{File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{XattrFlags, fremovexattr, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

use super::destination::is_unsupported;
use crate::error::{Error, Result, uninterrupted};

/// Attributes that belong to the contents: rights of a program, and signatures over the bytes.
const OF_CONTENTS: [&[u8]; 3] = [b"security.capability", b"security.ima", b"security.evm"];
/// The access control list. A new file may inherit one from its directory.
const ACL: &str = "system.posix_acl_access";
/// The bits that run a program as its owner and as its group.
const SET_ID: u32 = 0o6000;
const SET_GID: u32 = 0o2000;
/// Sizes of the buffer that lists and values are read into. Linux has neither longer than 64 KiB.
const BUFFER_LENS: [usize; 2] = [1024, 64 * 1024];

/// Owner, group, mode and extended attributes of a file.
#[derive(Debug)]
pub(super) struct Attributes {
    uid: u32,
    gid: u32,
    mode: u32,
    extended: Vec<(CString, Vec<u8>)>,
}

impl Attributes {
    /// Reads the attributes of a file that was looked up.
    pub(super) fn read(path: &Path, metadata: &Metadata) -> Self {
        let mode = metadata.mode() & 0o7777;
        Self { uid: metadata.uid(), gid: metadata.gid(), mode, extended: read_extended(path) }
    }

    /// Gives another file these attributes, as far as the process may. The bits that run a program as its owner or group go
    /// where that is another one, and rights of the group where the group is.
    pub(super) fn apply(&self, file: &File) -> Result<()> {
        self.apply_owner(file)
            .map_err(|err| Error::io("give the file the owner of the one it replaces", err))?;
        self.apply_extended(file)
            .map_err(|err| Error::io("give the file the extended attributes of the one it replaces", err))?;
        // Last, since a change of the owner clears bits of the mode.
        self.apply_mode(file).map_err(|err| Error::io("give the file the mode of the one it replaces", err))
    }

    /// Returns the rights that a file with these attributes has to be created with, because its mode cannot be set later. None
    /// if it can. `file` is a file of the same directory.
    pub(super) fn mode_to_create(&self, file: &File) -> io::Result<Option<u32>> {
        let now = uninterrupted(|| file.metadata())?;
        let rights = Permissions::from_mode(now.mode() & 0o777);
        if may_fail(uninterrupted(|| file.set_permissions(rights.clone())))? {
            return Ok(None);
        }
        self.apply_owner(file)?;
        let now = uninterrupted(|| file.metadata())?;
        Ok(Some(self.mode_for(&now) & 0o777))
    }

    fn apply_owner(&self, file: &File) -> io::Result<()> {
        let now = uninterrupted(|| file.metadata())?;
        if (now.uid(), now.gid()) == (self.uid, self.gid) {
            return Ok(());
        }
        let set = |uid| may_fail(uninterrupted(|| fchown(file, uid, Some(self.gid))));
        // The group alone needs no privilege if the process is in it.
        if !set(Some(self.uid))? && now.gid() != self.gid {
            set(None)?;
        }
        Ok(())
    }

    fn apply_extended(&self, file: &File) -> io::Result<()> {
        for (name, value) in &self.extended {
            let set = || Ok(fsetxattr(file, name.as_c_str(), value, XattrFlags::empty())?);
            match uninterrupted(set) {
                Err(err) if is_fault(&err) => return Err(err),
                _ => {}
            }
        }
        if !self.extended.iter().any(|(name, _)| name.as_bytes() == ACL.as_bytes()) {
            let _ = fremovexattr(file, ACL);
        }
        Ok(())
    }

    /// Returns the mode for a file that may be of another owner or group. Another group gets no right that all others do
    /// not have.
    fn mode_for(&self, now: &Metadata) -> u32 {
        let mode = match (now.uid() == self.uid, now.gid() == self.gid) {
            (true, true) => self.mode,
            (true, false) => self.mode & !SET_GID,
            (false, _) => self.mode & !SET_ID,
        };
        let others = (mode & 0o007) << 3;
        if now.gid() == self.gid { mode } else { mode & (!0o070 | others) }
    }

    fn apply_mode(&self, file: &File) -> io::Result<()> {
        let now = uninterrupted(|| file.metadata())?;
        let mode = self.mode_for(&now);
        if now.mode() & 0o7777 != mode {
            may_fail(uninterrupted(|| file.set_permissions(Permissions::from_mode(mode))))?;
        }
        Ok(())
    }
}

/// Returns whether a change was made: false if the process may not make it or the filesystem has no such thing.
fn may_fail(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied || is_unsupported(&err) => Ok(false),
        Err(err) => Err(err),
    }
}

/// Returns whether an error is a fault of the disk, and not the filesystem's way to refuse an attribute: for those there are
/// many.
fn is_fault(err: &io::Error) -> bool {
    let errno = Errno::from_io_error(err);
    [Errno::IO, Errno::NOSPC, Errno::DQUOT].into_iter().any(|one| errno == Some(one))
}

/// Reads the extended attributes of a file. Those that cannot be read are left out.
fn read_extended(path: &Path) -> Vec<(CString, Vec<u8>)> {
    let Some(names) = read_list(|buffer| listxattr(path, buffer)) else { return Vec::new() };
    let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty() && !OF_CONTENTS.contains(name));
    names
        .filter_map(|name| {
            let name = CString::new(name).ok()?;
            let value = read_list(|buffer| getxattr(path, name.as_c_str(), buffer))?;
            Some((name, value))
        })
        .collect()
}

/// Reads a list or a value of unknown length.
fn read_list(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Option<Vec<u8>> {
    BUFFER_LENS.into_iter().find_map(|len| {
        let mut buffer = vec![0; len];
        let len = read(&mut buffer).ok()?;
        buffer.truncate(len);
        Some(buffer)
    })
}
