//! Every rule of FORMAT.md is kept: a file that breaks it ends in the right error, in the right place.
//!
//! The files and what is wrong with each are `scripts/gen_reject.py`'s, which shares no code with the library.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use ztensor::container::{FOOTER_LEN, Footer, HEADER_LEN, SIGNATURE};
use ztensor::{Error, ErrorKind, Mode, ReadOptions, Reader, Result};

/// The system's allocator, which also counts what each thread holds: the tests run at once, and a reader of one
/// thread allocates on the thread that calls it.
struct Counting;

thread_local! {
    /// Bytes held now, and the most that were held.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(change: isize) {
    let (held, peak) = HELD.get();
    HELD.set((held + change, peak.max(held + change)));
}

// SAFETY: every call is passed on as it is; the counter neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While the bytes move, both blocks are there.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most heap that `work` held beyond what there was before.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, isize) {
    let (before, _) = HELD.get();
    HELD.set((before, before));
    let result = work();
    (result, HELD.get().1 - before)
}

/// A line of list.txt.
struct Case {
    path: PathBuf,
    /// None for a file that breaks no rule.
    kind: Option<ErrorKind>,
    /// Whether the error is about the tensor "bad".
    in_tensor: bool,
    what: String,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reject")
}

fn cases() -> Vec<Case> {
    let list = fs::read_to_string(directory().join("list.txt")).unwrap();
    list.lines()
        .map(|line| {
            let [file, kind, what] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let found = ErrorKind::ALL.iter().copied().find(|known| format!("{known:?}") == kind);
            assert!(found.is_some() || kind == "Ok", "{line}");
            Case {
                path: directory().join(file),
                kind: found,
                in_tensor: what.starts_with(r#"tensor "bad": "#),
                what: format!("{file} ({what})"),
            }
        })
        .collect()
}

/// A way to open a file.
#[derive(Debug, Clone, Copy)]
enum Way {
    Path(Mode),
    Bytes,
}

impl Way {
    /// Every way, with checksums of raw data checked at each reading and without.
    fn all() -> impl Iterator<Item = (Way, bool)> {
        [Way::Path(Mode::Mmap), Way::Path(Mode::Read), Way::Bytes]
            .into_iter()
            .flat_map(|way| [false, true].map(|verify| (way, verify)))
    }

    fn open(self, path: &Path, verify: bool) -> Result<Reader> {
        let options = ReadOptions { verify, threads: 1, ..ReadOptions::default() };
        match self {
            Way::Path(mode) => Reader::open(path, ReadOptions { mode, ..options }),
            Way::Bytes => Reader::from_bytes(fs::read(path).unwrap(), options),
        }
    }

    fn label(self, path: &Path) -> &str {
        match self {
            Way::Path(_) => path.to_str().unwrap(),
            Way::Bytes => "<memory>",
        }
    }
}

/// The number of each component of each tensor.
fn components(reader: &Reader) -> Vec<(usize, usize)> {
    let parts =
        |number| (0..reader.tensor(number).unwrap().components().len()).map(move |part| (number, part));
    (0..reader.index().len()).flat_map(parts).collect()
}

/// Reads every tensor, alone and together, and verifies; gives the first error.
fn read_all(reader: &Reader) -> Result<()> {
    let all: Vec<usize> = (0..reader.index().len()).collect();
    // No component may make the library panic, whatever is wrong with its tensor.
    for (number, part) in components(reader) {
        let _ = reader.read(number, part, None);
        let _ = reader.read_range(number, part, 0, 1, None);
        let _ = reader.read_stored(number, part, None);
    }
    for &number in &all {
        reader.read_many(&[number], None)?;
    }
    reader.read_many(&all, None)?;
    reader.verify(|_, _| true)
}

/// Checks kind and place of an error; gives what is wrong with it.
fn judge(case: &Case, way: Way, err: &Error) -> Option<String> {
    let (place, text) = (err.place(), err.to_string());
    let label = way.label(&case.path);
    let tensor = place.tensor.as_deref();
    let names_tensor = match case.kind {
        // Of a name that breaks the rules, any spelling will do.
        Some(ErrorKind::Name) => tensor.is_some(),
        _ => tensor == case.in_tensor.then_some("bad"),
    };
    if Some(err.kind()) != case.kind {
        Some(format!("gave {:?} ({text}), not {:?}", err.kind(), case.kind))
    } else if place.file.as_deref() != Some(label) || !text.starts_with(label) {
        Some(format!("does not name the file: {text}"))
    } else if !names_tensor {
        Some(format!("names tensor {tensor:?}: {text}"))
    } else {
        None
    }
}

/// Fails with everything that is wrong, not with the first of it.
fn assert_none(problems: Vec<String>) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Looks at every case in every way; `look` gives what is wrong.
fn for_every_case(look: impl Fn(&Case, Way, bool) -> Option<String>) {
    let mut problems = Vec::new();
    for case in cases() {
        // One report for each file is enough.
        problems.extend(Way::all().find_map(|(way, verify)| {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| look(&case, way, verify)));
            let problem = outcome.unwrap_or_else(|_| Some("panicked".to_owned()))?;
            Some(format!("{}, {way:?}, verify {verify}: {problem}", case.what))
        }));
    }
    assert_none(problems);
}

#[test]
fn each_file_ends_in_its_error() {
    for_every_case(|case, way, verify| {
        match (way.open(&case.path, verify).and_then(|reader| read_all(&reader)), case.kind) {
            (Ok(()), None) => None,
            (Ok(()), Some(kind)) => Some(format!("was accepted, not refused as {kind:?}")),
            (Err(err), None) => Some(format!("was refused: {err}")),
            (Err(err), Some(_)) => judge(case, way, &err),
        }
    });
}

/// What is not known is listed, verified and read raw.
#[test]
fn unknown_things_are_no_damage() {
    let is_unknown = |case: &Case| case.kind.is_some_and(|kind| format!("{kind:?}").starts_with("Unknown"));
    let mut count = 0;
    for case in cases().iter().filter(|case| is_unknown(case)) {
        for (way, verify) in Way::all() {
            let reader = way.open(&case.path, verify).unwrap();
            assert_eq!(reader.find("bad").unwrap(), 0, "{}", case.what);
            reader.verify(|_, _| true).unwrap();
            let bytes = fs::read(&case.path).unwrap();
            for (number, part) in components(&reader) {
                let info = reader.tensor(number).unwrap().component(part).unwrap();
                let stored = &bytes[info.offset() as usize..][..info.stored_len() as usize];
                assert_eq!(
                    reader.read_stored(number, part, None).unwrap().as_slice(),
                    stored,
                    "{}",
                    case.what
                );
            }
            count += 1;
        }
    }
    assert!(count > 0);
}

/// The filters are those of FORMAT.md, not only each other's inverses.
#[test]
fn filtered_elements_equal_the_raw_ones_before_them() {
    let mut count = 0;
    for case in cases().iter().filter(|case| case.what.starts_with("ok-filter-")) {
        let reader = Way::Bytes.open(&case.path, true).unwrap();
        let bytes = |number| reader.read(number, 0, None).unwrap();
        for raw in (0..reader.index().len()).step_by(2) {
            let name = reader.tensor(raw + 1).unwrap().name();
            assert_eq!(bytes(raw).as_slice(), bytes(raw + 1).as_slice(), "{} {name}", case.what);
            count += 1;
        }
    }
    assert_eq!(count, 6 + 6 + 5 + 6);
}

/// Memory follows what is there, not what a number claims.
///
/// Counted is the heap. Pages from the operating system, which hold what is read from 1 MiB on, are taken after
/// the headers of all frames were checked.
#[test]
fn little_memory_is_taken() {
    for_every_case(|case, way, verify| {
        let limit = (16 << 20) + 4 * fs::metadata(&case.path).unwrap().len() as isize;
        let ((), peak) = peak_of(|| {
            let _ = way.open(&case.path, verify).and_then(|reader| read_all(&reader));
        });
        (peak >= limit).then(|| format!("took {peak} bytes of heap, the limit is {limit}"))
    });
}

/// The same for all memory, mappings and pages of the operating system among it: a process that may not have more comes to
/// the same errors.
#[test]
fn little_address_space_is_taken() {
    // The limit is that of a process, so the test runs itself as one of its own.
    const CHILD: &str = "ZTENSOR_TEST_IN_CHILD";
    if env::var_os(CHILD).is_none() {
        let status = Command::new(env::current_exe().unwrap())
            .args(["--exact", "little_address_space_is_taken", "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .status();
        return assert!(status.unwrap().success());
    }
    let limit_to = |bytes| setrlimit(Resource::RLIMIT_AS, bytes, RLIM_INFINITY).unwrap();
    for_every_case(|case, way, verify| {
        let len = fs::metadata(&case.path).unwrap().len();
        let pages = fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        limit_to(pages * 4096 + (16 << 20) + 4 * len);
        let outcome = way.open(&case.path, verify).and_then(|reader| read_all(&reader));
        limit_to(RLIM_INFINITY);
        let kind = outcome.err().map(|err| err.kind());
        (kind != case.kind).then(|| format!("gave {kind:?}, not {:?}", case.kind))
    });
}

/// An index that says the same over and over.
struct Repetition {
    what: &'static str,
    /// Its beginning, up to where the number of entries of an array or a map stands in four bytes.
    head: &'static [u8],
    /// An entry.
    part: Box<dyn Fn(u32) -> Vec<u8>>,
    /// What follows the last one.
    tail: &'static [u8],
}

impl Repetition {
    fn all() -> Vec<Self> {
        const METADATA: &[u8] = b"\x82\xa7tensors\x90\xa8metadata\x81\xa1k\xdd";
        const TENSORS: &[u8] = b"\x81\xa7tensors\xdd";
        const PART: &[u8] = b"\x95\xa1r\xa1d\x40\0\0";
        let text = |at: u32| [&[0xa7][..], format!("{at:07x}").as_bytes()].concat();
        let number = |at: u32| [&[0xce][..], &at.to_be_bytes()].concat();
        let tensor = move |at: u32, layout: &[u8], rest: &[u8]| {
            [b"\x96", &text(at)[..], b"\xa1d\x90", layout, b"\x90", rest].concat()
        };
        let mut all = Vec::new();
        let mut add = |what, head, tail, part: Box<dyn Fn(u32) -> Vec<u8>>| {
            all.push(Self { what, head, part, tail });
        };
        for (what, value) in [
            ("nil", &b"\xc0"[..]),
            ("empty maps", b"\x80"),
            ("small maps", b"\x81\xa1k\xc0"),
            ("maps of two", b"\x82\xa1k\xc0\xa1l\xc0"),
            ("arrays of one", b"\x91\xc0"),
            ("text", b"\xa1t"),
            ("binary", b"\xc4\x01b"),
            ("extensions", b"\xd4\x01e"),
        ] {
            add(what, METADATA, b"", Box::new(move |_| value.to_vec()));
        }
        let keys = b"\x82\xa7tensors\x90\xa8metadata\xdf";
        add("keys of metadata", keys, b"", Box::new(move |at| [text(at), vec![0xc0]].concat()));
        let keys = b"\x82\xa7tensors\x90\xa8metadata\x81\xa1k\xdf";
        add("keys inside", keys, b"", Box::new(move |at| [text(at), vec![0xc0]].concat()));
        add("numbers as keys", keys, b"", Box::new(move |at| [number(at), vec![0xc0]].concat()));
        let binary = move |at: u32| [b"\xc4\x04", &at.to_be_bytes()[..], b"\xc0"].concat();
        add("binary as keys", keys, b"", Box::new(binary));
        let head = b"\x81\xa7tensors\x91\x95\xa1a\xa5uint8\xdd";
        add("dimensions", head, b"\xa5dense\x90", Box::new(|_| vec![1]));
        let head = b"\x81\xa7tensors\x91\x95\xa1a\xa5uint8\x90\xa5later\xdd";
        add("components", head, b"", Box::new(|_| PART.to_vec()));
        let head = b"\x81\xa7tensors\x91\x95\xa1a\xa5uint8\x91\x01\xa5dense\
            \x91\x96\xa4data\xa5uint8\x40\0\0\x95\xa4zstd\xa4none\0\0\xdd";
        add("stored sizes", head, b"", Box::new(|_| vec![1]));
        let parts =
            move |at: u32| [b"\x95", &text(at)[..], b"\xa1d\x90\xa1l\xdc\0\xff", &PART.repeat(255)].concat();
        add("components of tensors", TENSORS, b"", Box::new(parts));
        add("tensors", TENSORS, b"", Box::new(move |at| tensor(at, b"\xa1l", b"\xc0")));
        let values = b"\x81\xa1k\xc0";
        add("attributes", TENSORS, b"", Box::new(move |at| tensor(at, b"\xa1l", values)));
        let blocked = b"\xaasparse_bsr";
        add("attributes of blocks", TENSORS, b"", Box::new(move |at| tensor(at, blocked, values)));
        let unknown = move |at: u32| [b"\x95", &text(at)[..], b"\xa1d\x90", &text(at)[..], b"\x90"].concat();
        add("unknown names", TENSORS, b"", Box::new(unknown));
        all
    }

    /// A file of an index of at least `len` bytes.
    fn file(&self, len: usize) -> Vec<u8> {
        let mut index = [self.head, &[0; 4]].concat();
        let mut count = 0u32;
        while index.len() < len {
            index.extend((self.part)(count));
            count += 1;
        }
        index[self.head.len()..][..4].copy_from_slice(&count.to_be_bytes());
        index.extend(self.tail);
        let index_size = index.len() as u64;
        let footer = Footer {
            index_offset: HEADER_LEN,
            index_size,
            file_size: HEADER_LEN + index_size + FOOTER_LEN,
            index_crc32: crc32fast::hash(&index),
        };
        let head = [&SIGNATURE[..], &[0; HEADER_LEN as usize - 8]].concat();
        [head, index, footer.to_bytes().to_vec()].concat()
    }
}

/// What is short on disk may be long in memory. However much of it there is, memory stays in its bounds, and a small index
/// is never refused for what it takes.
#[test]
fn memory_follows_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("long.zt");
    let mut problems = Vec::new();
    for repetition in Repetition::all() {
        for len in [64 << 10, 512 << 10, 2 << 20, 12 << 20] {
            let file = repetition.file(len);
            fs::write(&path, &file).unwrap();
            for mode in [Mode::Mmap, Mode::Read] {
                let (opened, peak) = peak_of(|| Way::Path(mode).open(&path, true));
                let limit = (16 << 20) + 4 * file.len() as isize;
                let kind = opened.err().map(|err| err.kind());
                let about = format!("{len} bytes of {}, {mode:?}: {kind:?}", repetition.what);
                if peak >= limit {
                    problems.push(format!("{about}, took {peak} bytes of heap, the limit is {limit}"));
                }
                // Of components there is a limit of another kind.
                if len == 64 << 10 && kind == Some(ErrorKind::Limit) && repetition.what != "components" {
                    problems.push(about);
                }
            }
        }
    }
    assert_none(problems);
}

/// A limit that no small file reaches: an index of 4 GiB, of which the file holds a hole.
#[test]
fn an_index_of_4_gib_passes_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.zt");
    let index_size = 1 << 32;
    let file_size = HEADER_LEN + index_size + FOOTER_LEN;
    let footer = Footer { index_offset: HEADER_LEN, index_size, file_size, index_crc32: 0 };
    let file = fs::File::create(&path).unwrap();
    file.set_len(file_size).unwrap();
    file.write_all_at(&SIGNATURE, 0).unwrap();
    file.write_all_at(&footer.to_bytes(), HEADER_LEN + index_size).unwrap();
    for mode in [Mode::Mmap, Mode::Read] {
        let (opened, peak) = peak_of(|| Way::Path(mode).open(&path, true));
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::Limit);
        assert!(peak < 1 << 20, "took {peak} bytes of heap");
    }
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap())).collect()
}

#[test]
fn the_generator_makes_the_committed_files() {
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gen_reject.py");
    let status = Command::new("python3")
        .args([script.as_os_str(), "--out".as_ref(), dir.path().as_ref()])
        .status()
        .unwrap_or_else(|err| {
            panic!("python3, which makes the files of tests/data/reject, cannot be run: {err}")
        });
    assert!(status.success(), "{} failed: {status}", script.display());
    let (made, committed) = (contents(dir.path()), contents(&directory()));
    let names = made.keys().chain(committed.keys());
    assert_none(
        names
            .filter(|name| made.get(*name) != committed.get(*name))
            .map(|name| format!("{name} is not what {} makes", script.display()))
            .collect(),
    );
}
