//! Names of temporary files, which say who writes them, and the removal of those whose writers are dead.
//!
//! A directory may be shared by processes, containers and hosts, and locks may be local to a host or missing. So a name carries
//! its writer: host, boot, namespaces, process and the time when that started. A file is removed only if its writer is certainly
//! dead by that:
//!
//! - in the same boot and the same namespaces, if there is no process of this number, or it started at another time;
//! - after a reboot of the same host, if the file was not written to since and can be locked.
//!
//! Everything else stays: files of other hosts, of other containers, and of processes about which nothing is known.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, geteuid, test_kill_process};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::uninterrupted;

/// The end of a temporary file's name.
pub(super) const TEMP_SUFFIX: &str = ".zt-tmp";
/// The end of the name of a whole file that could not be renamed to its destination. It is never removed.
pub(super) const KEPT_SUFFIX: &str = ".zt-kept";
/// The longest name of most filesystems, in bytes.
const MAX_NAME_LEN: usize = 255;

/// How long one search of a directory may take. What was not reached by then stays.
const MAX_SCAN: Duration = Duration::from_millis(100);
/// Entries between two looks at the clock.
const SCAN_STEP: usize = 256;
/// A directory of at most so many entries is searched at each save.
const SMALL_DIRECTORY: usize = 64;
/// A larger one is searched again after this time for each of its entries, and one that could not be searched to its end after
/// `LONG_PAUSE`, so that many saves spend a small part of their time on it.
const PAUSE_PER_ENTRY: Duration = Duration::from_micros(50);
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// Directories whose last search is remembered.
const MAX_SCANS: usize = 64;

/// Who writes a temporary file. Numbers that are not known are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WriterId {
    /// A hash of machine ID and host name.
    host: u64,
    /// A hash of the boot ID.
    boot: u64,
    /// A hash of the namespaces that process numbers and start times belong to.
    namespaces: u64,
    process: u32,
    /// When the process started, in clock ticks since the boot.
    start: u64,
}

/// What is known of the writer of a temporary file.
#[derive(Debug, PartialEq, Eq)]
enum State {
    MayBeAlive,
    /// Dead if nobody holds a lock on the file, and it was not written to since the boot.
    DeadIfUnlocked,
    Dead,
}

impl WriterId {
    /// Returns this process.
    fn current() -> Self {
        // A thread that waits here while another one forks would wait forever in the child.
        static CURRENT: Mutex<Option<WriterId>> = Mutex::new(None);

        let namespaces = hash_of_namespaces();
        let is_current = |known: &Self| (known.process, known.namespaces) == (process::id(), namespaces);
        let mut cache = CURRENT.try_lock().ok();
        if let Some(known) = cache.as_deref().copied().flatten().filter(is_current) {
            return known;
        }
        let current = Self::read(namespaces);
        if let Some(cache) = cache.as_deref_mut() {
            *cache = Some(current);
        }
        current
    }

    fn read(namespaces: u64) -> Self {
        let machine = [text_of("/etc/machine-id"), text_of("/var/lib/dbus/machine-id")];
        let machine = machine.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
        let host = text_of("/proc/sys/kernel/hostname");
        let is_known = !machine.is_empty() && !host.is_empty();
        Self {
            host: if is_known { hash(&[machine, b"\n".to_vec(), host].concat()) } else { 0 },
            boot: hash(&text_of("/proc/sys/kernel/random/boot_id")),
            namespaces,
            process: process::id(),
            start: start_of("/proc/self/stat").unwrap_or(0),
        }
    }

    /// Returns the part of a name that says who the writer is.
    fn to_name(self, number: u64) -> String {
        let Self { host, boot, namespaces, process, start } = self;
        format!("{host:016x}-{boot:016x}-{namespaces:016x}-{process:x}-{start:x}-{number:x}")
    }

    /// Returns the writer of a temporary file of this name.
    fn from_name(name: &[u8]) -> Option<Self> {
        let rest = name.strip_prefix(b".")?.strip_suffix(TEMP_SUFFIX.as_bytes())?;
        let text = std::str::from_utf8(rest.rsplit(|&byte| byte == b'.').next()?).ok()?;
        let mut fields = text.split('-').map(|field| u64::from_str_radix(field, 16));
        let mut next = || fields.next()?.ok();
        let (host, boot, namespaces) = (next()?, next()?, next()?);
        let (process, start, _number) = (u32::try_from(next()?).ok()?, next()?, next()?);
        next().is_none().then_some(Self { host, boot, namespaces, process, start })
    }

    /// Returns what this process knows of another writer.
    fn state_of(&self, other: &Self) -> State {
        let is_same = |ours: u64, theirs: u64| ours != 0 && ours == theirs;
        if is_same(self.boot, other.boot) {
            let is_dead = is_same(self.namespaces, other.namespaces) && other.start != 0 && is_dead(other);
            if is_dead { State::Dead } else { State::MayBeAlive }
        } else if self.boot != 0 && other.boot != 0 && is_same(self.host, other.host) {
            State::DeadIfUnlocked
        } else {
            State::MayBeAlive
        }
    }
}

/// Returns whether a process of these namespaces is gone for certain.
fn is_dead(writer: &WriterId) -> bool {
    let Some(pid) = i32::try_from(writer.process).ok().and_then(Pid::from_raw) else { return false };
    if test_kill_process(pid) == Err(Errno::SRCH) {
        return true;
    }
    // Another process may have the number by now. `/proc` can tell if it is that of these namespaces.
    let is_our_proc =
        fs::read_link("/proc/self").is_ok_and(|own| own.as_os_str() == process::id().to_string().as_str());
    let start = start_of(&format!("/proc/{}/stat", writer.process));
    is_our_proc && start.is_some_and(|start| start != writer.start)
}

/// Returns when a process started, from its `stat` file.
fn start_of(path: &str) -> Option<u64> {
    let text = fs::read(path).ok()?;
    // The name of the program comes second, in parentheses, and may hold anything.
    let end = text.iter().rposition(|&byte| byte == b')')?;
    std::str::from_utf8(&text[end + 1..]).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Returns the seconds since 1970 at which the system booted.
fn boot_time() -> Option<i64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

fn hash_of_namespaces() -> u64 {
    let link = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).ok();
    let Some(processes) = link("pid") else { return 0 };
    // Linux before 5.6 has no namespaces of time.
    let times = link("time").unwrap_or_default();
    hash(&[processes.as_os_str().as_bytes(), b"\n", times.as_os_str().as_bytes()].concat())
}

fn text_of(path: &str) -> Vec<u8> {
    fs::read(path).unwrap_or_default().trim_ascii().to_vec()
}

/// Returns the hash of a text, 0 if it is empty.
fn hash(text: &[u8]) -> u64 {
    if text.is_empty() { 0 } else { xxh3_64(text) }
}

/// Returns a name that no other writer uses, made of the destination's. If `is_short`, of nothing of it.
pub(super) fn temp_name(name: &OsStr, is_short: bool) -> OsString {
    unique_name(".", name, is_short, TEMP_SUFFIX)
}

/// Returns a name for a whole file that could not be renamed to its destination.
pub(super) fn kept_name(name: &OsStr) -> OsString {
    unique_name("", name, false, KEPT_SUFFIX)
}

fn unique_name(prefix: &str, name: &OsStr, is_short: bool, suffix: &str) -> OsString {
    static NUMBER: AtomicU64 = AtomicU64::new(0);

    let writer = WriterId::current().to_name(NUMBER.fetch_add(1, Ordering::Relaxed));
    let room = MAX_NAME_LEN - prefix.len() - 1 - writer.len() - suffix.len();
    let name = if is_short { &[] } else { cut(name.as_bytes(), room) };
    let mut unique = OsString::from(prefix);
    unique.push(OsStr::from_bytes(name));
    unique.push(".");
    unique.push(writer);
    unique.push(suffix);
    unique
}

/// Returns the beginning of a name. Some filesystems refuse a name that is not UTF-8, so no character is cut in two.
fn cut(name: &[u8], len: usize) -> &[u8] {
    if name.len() <= len {
        return name;
    }
    let mut end = len;
    while end > 0 && len - end < 4 && name[end] & 0b1100_0000 == 0b1000_0000 {
        end -= 1;
    }
    &name[..end]
}

/// Removes the temporary files of a directory whose writers are certainly dead.
pub(super) fn remove_stale_temps(directory: &Path) {
    let Ok(metadata) = uninterrupted(|| fs::metadata(directory)) else { return };
    let key = (metadata.dev(), metadata.ino());
    if !is_due(key) {
        return;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(directory) = rustix::fs::open(directory, flags, Mode::empty()) else { return };
    let pause = scan(&File::from(directory));
    if pause > Duration::ZERO {
        remember(key, pause);
    }
}

/// When each large directory may be searched again, the last one searched at the end.
static SCANS: Mutex<Vec<((u64, u64), Instant)>> = Mutex::new(Vec::new());

fn is_due(key: (u64, u64)) -> bool {
    // Another thread that holds the lock is at work on it, or was when this process was forked.
    let Ok(scans) = SCANS.try_lock() else { return false };
    let last = scans.iter().find(|(directory, _)| *directory == key);
    last.is_none_or(|(_, next)| Instant::now() >= *next)
}

fn remember(key: (u64, u64), pause: Duration) {
    if let Ok(mut scans) = SCANS.try_lock() {
        scans.retain(|(directory, _)| *directory != key);
        if scans.len() >= MAX_SCANS {
            scans.remove(0);
        }
        scans.push((key, Instant::now() + pause));
    }
}

/// Searches a directory. Returns how long to leave it alone.
fn scan(directory: &File) -> Duration {
    let deadline = Instant::now() + MAX_SCAN;
    let Ok(entries) = Dir::read_from(directory) else { return LONG_PAUSE };
    let mut count = 0;
    for entry in entries {
        let Ok(entry) = entry else { return LONG_PAUSE };
        count += 1;
        if count % SCAN_STEP == 0 && Instant::now() > deadline {
            return LONG_PAUSE;
        }
        let name = entry.file_name();
        if name.to_bytes().ends_with(TEMP_SUFFIX.as_bytes()) {
            remove_stale_temp(directory, name);
        }
    }
    let large = count.saturating_sub(SMALL_DIRECTORY);
    PAUSE_PER_ENTRY * u32::try_from(large).unwrap_or(u32::MAX)
}

/// Removes a temporary file if its writer is certainly dead. Anyone may have put anything into the directory under such a name:
/// only a regular file of this user with no other name is touched, and symbolic links are not followed.
fn remove_stale_temp(directory: &File, name: &CStr) {
    let Some(writer) = WriterId::from_name(name.to_bytes()) else { return };
    let state = WriterId::current().state_of(&writer);
    if state == State::MayBeAlive {
        return;
    }
    let Ok(found) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { return };
    let user = geteuid();
    let is_ours = user.is_root() || found.st_uid == user.as_raw();
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || found.st_nlink != 1 || !is_ours {
        return;
    }
    if state == State::DeadIfUnlocked && !is_abandoned(directory, name) {
        return;
    }
    let _ = unlinkat(directory, name, AtFlags::empty());
}

/// Returns whether a file was not written to since the boot, and nobody holds a lock on it.
fn is_abandoned(directory: &File, name: &CStr) -> bool {
    // Locks over NFS need a file that is open for writing, which one with the mode of a read-only file cannot be.
    let open = |access| {
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(directory, name, flags, Mode::empty())
    };
    let Ok(file) = open(OFlags::WRONLY).or_else(|_| open(OFlags::RDONLY)).map(File::from) else {
        return false;
    };
    let Ok(metadata) = uninterrupted(|| file.metadata()) else { return false };
    metadata.is_file() && boot_time().is_some_and(|boot| metadata.mtime() < boot) && file.try_lock().is_ok()
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    fn temp_of(writer: WriterId) -> String {
        format!(".f.{}{TEMP_SUFFIX}", writer.to_name(0))
    }

    /// A writer that is certainly dead.
    fn dead() -> WriterId {
        let mut child = Command::new("true").spawn().unwrap();
        let process = child.id();
        child.wait().unwrap();
        WriterId { process, start: 1, ..WriterId::current() }
    }

    fn is_removed(name: &str, create: impl FnOnce(&Path)) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        create(&path);
        scan(&File::open(dir.path()).unwrap());
        fs::symlink_metadata(&path).is_err()
    }

    fn is_removed_file(writer: WriterId) -> bool {
        is_removed(&temp_of(writer), |path| fs::write(path, b"left").unwrap())
    }

    #[test]
    fn a_name_says_who_writes() {
        let current = WriterId::current();
        assert!(current.boot != 0 && current.namespaces != 0 && current.start != 0, "{current:?}");
        for name in ["model.zt", "", "a.b-c.zt-tmp", "\u{20ac}"] {
            for is_short in [false, true] {
                let name = temp_name(OsStr::new(name), is_short);
                assert_eq!(WriterId::from_name(name.as_bytes()), Some(current), "{name:?}");
            }
        }
        let odd = temp_name(OsStr::from_bytes(b"\xff\xfe"), false);
        assert_eq!(WriterId::from_name(odd.as_bytes()), Some(current));
        let unknown = WriterId { host: 0, boot: 0, namespaces: 0, process: u32::MAX, start: u64::MAX };
        assert_eq!(WriterId::from_name(temp_of(unknown).as_bytes()), Some(unknown));
        for name in [".f.zt-tmp", ".f.0.zt-tmp", ".f.1-2-3-4-5.zt-tmp", ".f.1-2-3-4-5-6-7.zt-tmp", "zt-tmp"] {
            assert_eq!(WriterId::from_name(name.as_bytes()), None, "{name}");
        }
        assert_ne!(temp_name(OsStr::new("f"), false), temp_name(OsStr::new("f"), false));
    }

    #[test]
    fn files_of_the_certainly_dead_are_removed() {
        let current = WriterId::current();
        assert!(is_removed_file(dead()));
        // The number belongs to another process by now.
        assert!(is_removed_file(WriterId { start: current.start + 1, ..current }));
    }

    #[test]
    fn files_of_writers_that_may_live_stay() {
        let current = WriterId::current();
        assert!(!is_removed_file(current));
        for other in [
            WriterId { namespaces: current.namespaces ^ 1, ..dead() },
            WriterId { boot: current.boot ^ 1, ..dead() },
            WriterId { boot: 0, ..dead() },
            WriterId { namespaces: 0, ..dead() },
            WriterId { host: current.host ^ 1, boot: current.boot ^ 1, ..dead() },
            WriterId { start: 0, ..dead() },
        ] {
            assert!(!is_removed_file(other), "{other:?}");
        }
    }

    #[test]
    fn after_a_reboot_a_file_goes_that_nobody_wrote_to_and_nobody_locked() {
        let current = WriterId::current();
        if current.host == 0 {
            return;
        }
        let before = WriterId { boot: current.boot ^ 1, ..current };
        let create = |path: &Path| {
            let file = File::create(path).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1000)).unwrap();
            file
        };
        assert!(is_removed(&temp_of(before), |path| drop(create(path))));
        let mut locked = None;
        assert!(!is_removed(&temp_of(before), |path| {
            let file = create(path);
            file.lock().unwrap();
            locked = Some(file);
        }));
        let elsewhere = WriterId { host: current.host ^ 1, ..before };
        assert!(!is_removed(&temp_of(elsewhere), |path| drop(create(path))));
    }

    #[test]
    fn what_anyone_may_have_put_there_is_not_touched() {
        let name = temp_of(dead());
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("target");
        fs::write(&target, b"precious").unwrap();
        assert!(!is_removed(&name, |path| symlink(&target, path).unwrap()));
        assert!(!is_removed(&name, |path| fs::hard_link(&target, path).unwrap()));
        assert!(!is_removed(&name, |path| fs::create_dir(path).unwrap()));
        let pipe = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(!is_removed(&name, pipe));
        assert_eq!(fs::read(&target).unwrap(), b"precious");
        let kept = kept_name(OsStr::new("f"));
        assert!(!is_removed(kept.to_str().unwrap(), |path| fs::write(path, b"whole").unwrap()));
    }

    #[test]
    fn many_saves_into_a_large_directory_search_it_seldom() {
        let dir = tempfile::tempdir().unwrap();
        let key = |dir: &Path| fs::metadata(dir).map(|found| (found.dev(), found.ino())).unwrap();
        let pause = || scan(&File::open(dir.path()).unwrap());
        (0..60).for_each(|at| fs::write(dir.path().join(at.to_string()), b"").unwrap());
        assert_eq!(pause(), Duration::ZERO);
        (60..2000).for_each(|at| fs::write(dir.path().join(at.to_string()), b"").unwrap());
        assert!(pause() >= PAUSE_PER_ENTRY * 1900);
        remember(key(dir.path()), Duration::from_secs(100));
        assert!(!is_due(key(dir.path())));
        (0..2 * MAX_SCANS as u64).for_each(|number| remember((0, number), Duration::from_secs(100)));
        assert!(SCANS.lock().unwrap().len() <= MAX_SCANS);
    }
}
