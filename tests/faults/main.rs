//! Saving and reading while the system fails: every call fails once in every way, and writers are killed. What stands
//! under a file's name is a whole file all the while, and what is read is right or an error.
//!
//! This program runs itself as the process that is to fail, under `inject.c`. Runs of kills: `ZTENSOR_KILLS`, or 100.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use ztensor::{
    Buffer, Component, DType, Error, Fsync, Layout, Metadata, Mode, ReadOptions, Reader, Tensor,
    WriteOptions, Writer,
};

const MIB: usize = 1 << 20;
/// What a child says by its exit status.
const REFUSED: i32 = 3;
const WRONG: i32 = 4;
/// The seed of the file that another one is overwritten with.
const OTHER: u8 = 2;

// ---------------------------------------------------------------- what is saved

struct Owned {
    name: String,
    dtype: DType,
    layout: Layout,
    shape: Vec<u64>,
    components: Vec<(DType, Vec<u8>)>,
    level: i32,
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = Random(88172645463325252 ^ seed);
    (0..len).map(|_| state.next() as u8).collect()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 24
    }
}

fn dense(name: impl Into<String>, dtype: DType, bytes: Vec<u8>, level: i32) -> Owned {
    let name = name.into();
    let shape = vec![(bytes.len() / dtype.size()) as u64];
    Owned { name, dtype, layout: Layout::Dense, shape, components: vec![(dtype, bytes)], level }
}

/// Tensors of every kind, in several writes each. Files of different seeds have everything in the same places.
fn tensors(seed: u8) -> Vec<Owned> {
    let weights: Vec<u8> =
        noise(700_000, seed.into()).into_iter().flat_map(|low| [low, 60 + low % 4]).collect();
    let entries = 20_000u32;
    let integers = |values: &mut dyn Iterator<Item = u32>| values.flat_map(u32::to_le_bytes).collect();
    let sparse = vec![
        (DType::Float32, noise(entries as usize * 4, 7 + u64::from(seed))),
        (DType::UInt32, integers(&mut (0..entries).map(|at| at % 1000))),
        (DType::UInt32, integers(&mut (0..=20).map(|row| row * 1000))),
    ];
    let csr = |name: &str, level| Owned {
        name: name.to_owned(),
        dtype: DType::Float32,
        layout: Layout::SparseCsr,
        shape: vec![20, 1000],
        components: sparse.clone(),
        level,
    };
    // Only the last chunk gets shorter, by less than what the frame of the first one takes beside its content. That shows
    // when both are written, and so the file is cut back.
    let late: Vec<u8> = noise(MIB, 11 + u64::from(seed)).into_iter().chain([seed; 40]).collect();
    vec![
        dense("small", DType::UInt8, vec![seed; 100], 0),
        dense("raw", DType::UInt8, noise(MIB + 5, seed.into()), 0),
        dense("packed", DType::BFloat16, weights, 3),
        dense("even", DType::UInt8, vec![seed; 2 * MIB + 7], 3),
        // The frame of one chunk is that of the next, so it is read twice.
        dense("again", DType::UInt8, vec![seed; 2 * MIB], 3),
        dense("late", DType::UInt8, late, 3),
        csr("sparse", 0),
        csr("sparse and packed", 3),
    ]
}

/// What is saved: tensors of every kind one by one, or many small ones at once.
const SAVES: [&str; 2] = ["save", "save many"];

/// Saves that state when the file is flushed.
const FLUSHES: [(&str, Fsync); 3] =
    [("flush maybe", Fsync::Auto), ("flush", Fsync::Always), ("do not flush", Fsync::Never)];

/// A save that writes the file where it is.
const IN_PLACE: &str = "in place";

/// Many small tensors.
fn many(seed: u8) -> Vec<Owned> {
    let bytes = noise(1500 * 4500, seed.into());
    let small = |(at, bytes): (usize, &[u8])| {
        dense(format!("tensor {at}"), DType::UInt8, bytes[at % 4000..].to_vec(), 0)
    };
    bytes.chunks(4500).enumerate().map(small).collect()
}

/// Adds what is to be saved and finishes.
fn write(mut writer: Writer, what: &str, seed: u8) -> Result<Option<Buffer>, Error> {
    let (tensors, at_once) = if what == SAVES[1] { (many(seed), usize::MAX) } else { (tensors(seed), 1) };
    let components: Vec<Vec<Component<'_>>> = tensors
        .iter()
        .map(|tensor| {
            let parts = tensor.components.iter();
            parts.map(|(dtype, bytes)| Component { dtype: *dtype, bytes, share: 0 }).collect()
        })
        .collect();
    let tensors: Vec<Tensor<'_>> = tensors
        .iter()
        .zip(&components)
        .map(|(tensor, components)| Tensor {
            name: &tensor.name,
            dtype: tensor.dtype,
            shape: &tensor.shape,
            layout: tensor.layout,
            blocksize: None,
            components,
            level: tensor.level,
            attributes: Metadata::new(),
        })
        .collect();
    tensors.chunks(at_once).try_for_each(|tensors| writer.add(tensors))?;
    writer.finish()
}

fn save(path: &Path, threads: usize, what: &str, seed: u8) -> Result<(), Error> {
    let fsync = FLUSHES.iter().find(|(name, _)| *name == what).map_or(Fsync::default(), |(_, fsync)| *fsync);
    let options = WriteOptions { threads, fsync, atomic: what != IN_PLACE, ..WriteOptions::default() };
    write(Writer::create(path, options)?, what, seed).map(drop)
}

fn file_of(what: &str, seed: u8) -> Vec<u8> {
    let writer = Writer::memory(WriteOptions::default()).unwrap();
    write(writer, what, seed).unwrap().unwrap().as_slice().to_vec()
}

/// Reads everything in every way with verification, and tells whether it is all of one file. An error comes with the
/// tensor that was asked for.
fn read(path: &Path, mode: Mode, threads: usize) -> Result<bool, (String, Error)> {
    let reader = Reader::open(path, ReadOptions { mode, verify: true, threads })
        .map_err(|err| (String::new(), err))?;
    let mut found = Vec::new();
    for tensor in tensors(0) {
        let at = |err| (tensor.name.clone(), err);
        let number = reader.find(&tensor.name).map_err(at)?;
        let batch = reader.read_many(&[number], None).map_err(at)?;
        for (component, (dtype, expected)) in tensor.components.iter().enumerate() {
            let whole = batch.buffer(component).unwrap();
            if tensor.level == 0 {
                let (size, count) = (dtype.size(), expected.len() / dtype.size());
                let (first, some) = (count / 3, count / 2);
                let range =
                    reader.read_range(number, component, first as u64, some as u64, None).map_err(at)?;
                assert!(range.as_slice() == &whole.as_slice()[first * size..][..some * size]);
                let stored = reader.read_stored(number, component, None).map_err(at)?;
                assert!(stored.as_slice() == whole.as_slice());
            }
            let mut copy = vec![0xaa; expected.len()];
            reader.read_into(vec![(number, component, &mut copy)], None).map_err(at)?;
            assert!(copy == whole.as_slice());
            found.push(whole);
        }
    }
    reader.verify(|_, _| true).map_err(|err| ("verify".to_owned(), err))?;
    Ok([0, OTHER].into_iter().any(|seed| {
        let expected = tensors(seed);
        let expected = expected.iter().flat_map(|tensor| &tensor.components).map(|(_, bytes)| &bytes[..]);
        expected.eq(found.iter().map(|whole| whole.as_slice()))
    }))
}

// ---------------------------------------------------------------- processes that fail

/// What this program does when it runs itself: its exit status and standard error tell how it went.
fn child(arguments: &[String]) -> i32 {
    let (path, threads) = (Path::new(&arguments[1]), arguments[2].parse().unwrap());
    match arguments[0].as_str() {
        what if SAVES.contains(&what)
            || what == IN_PLACE
            || FLUSHES.iter().any(|(name, _)| *name == what) =>
        {
            match save(path, threads, what, 1) {
                Ok(()) => 0,
                Err(err) => {
                    eprintln!("{err}");
                    REFUSED
                }
            }
        }
        mode => match read(path, if mode == "mmap" { Mode::Mmap } else { Mode::Read }, threads) {
            Ok(true) => 0,
            Ok(false) => WRONG,
            Err((tensor, err)) => {
                eprintln!("{tensor}\n{err}");
                REFUSED
            }
        },
    }
}

/// A directory with the file that is saved over or read, and beside it what the injection needs.
struct Place {
    dir: tempfile::TempDir,
    inject: PathBuf,
    /// Whether temporary files have a name from the start.
    is_named: bool,
}

impl Place {
    fn new(is_named: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("files")).unwrap();
        let inject = dir.path().join("inject.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/inject.c");
        let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let options = ["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o"];
        let status = Command::new(compiler).args(options).arg(&inject).args([source, "-ldl"]).status();
        assert!(status.unwrap().success(), "inject.c does not compile");
        Self { dir, inject, is_named }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("files/model.zt")
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Names in the directory other than the file's own.
    fn wrecks(&self) -> Vec<String> {
        fs::read_dir(self.dir.path().join("files"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "model.zt")
            .collect()
    }

    fn command(&self, what: &str, threads: usize) -> Command {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg("child").arg(what).arg(self.file()).arg(threads.to_string());
        command.env("LD_PRELOAD", &self.inject).env("ZT_FAULT_NAMED", if self.is_named { "1" } else { "" });
        command
    }

    /// Runs a child whose `at`-th call fails. Gives its output and the names of the calls that failed.
    fn run(&self, what: &str, threads: usize, kind: &str, at: usize) -> (Output, Vec<String>) {
        let log = self.beside("log");
        let _ = fs::remove_file(&log);
        let output = self
            .command(what, threads)
            .env("ZT_FAULT_DIRECTORY", self.dir.path().join("files"))
            .env("ZT_FAULT_KIND", kind)
            .env("ZT_FAULT_AT", at.to_string())
            .env("ZT_FAULT_LOG", &log)
            .env("ZT_FAULT_VICTIM", self.file())
            .env("ZT_FAULT_OTHER", self.beside("other"))
            .output()
            .unwrap();
        let calls = fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect();
        (output, calls)
    }

    /// Checks that what a dead or failed writer left is recognisable, and that a later save takes it away.
    fn check_cleaned(&self, about: &str) {
        for name in self.wrecks() {
            // A file that cannot be renamed and is whole is kept.
            if name.starts_with("model.zt.") && name.ends_with(".zt-kept") && about.contains(&name) {
                fs::remove_file(self.dir.path().join("files").join(name)).unwrap();
                continue;
            }
            assert!(name.starts_with(".model.zt.") && name.ends_with(".zt-tmp"), "{about}: left {name}");
        }
        let mut writer = Writer::create(self.file(), WriteOptions::default()).unwrap();
        writer.add_dense("later", &[3], &[1u8, 2, 3]).unwrap();
        writer.finish().unwrap();
        assert_eq!(self.wrecks(), [""; 0], "{about}: after a later save");
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the system says of an error.
fn words_of(kind: &str) -> &'static str {
    match kind {
        "EIO" => "Input/output error (os error 5)",
        _ => "No space left on device (os error 28)",
    }
}

// ---------------------------------------------------------------- the tests

/// Every call of a save fails once in every way.
fn saving_survives_every_fault() {
    for is_named in [false, true] {
        every_fault_of_saving(&Place::new(is_named));
    }
}

/// Calls that are needed to save a file, with and without a name from the start.
const NEEDED: [&str; 6] = ["writev", "lseek64", "fsync", "fchmod", "rename", "close"];

fn every_fault_of_saving(place: &Place) {
    let old = file_of("save", 0);
    let mut total = 0;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (what, threads) in [("save", 1), ("save", 2), ("save many", 2)] {
        let new = file_of(what, 1);
        let mut counts = Vec::new();
        for kind in ["ENOSPC", "EIO", "EINTR", "short", "full"] {
            let mut refused: BTreeMap<String, usize> = BTreeMap::new();
            for at in 1.. {
                fs::write(place.file(), &old).unwrap();
                let (output, calls) = place.run(what, threads, kind, at);
                let about = format!("{kind} at call {at} ({calls:?}), {threads} threads: {}", text(&output));
                let found = fs::read(place.file()).unwrap();
                let Some(call) = calls.first() else {
                    // No such call: the save went through, and there is nothing more to fail.
                    assert!(output.status.success() && found == new, "{about}");
                    assert_eq!(place.wrecks(), [""; 0], "{about}");
                    counts.push(at - 1);
                    break;
                };
                total += calls.len();
                *seen.entry(call.clone()).or_default() += 1;
                match output.status.code() {
                    Some(0) => assert!(found == new, "{about}"),
                    Some(REFUSED) => {
                        let message = text(&output);
                        assert!(message.starts_with(&format!("{}: ", place.file().display())), "{about}");
                        assert!(message.contains(words_of(kind)), "{about}");
                        let is_there = message.contains("(the file is in place)");
                        assert!(found == if is_there { &new[..] } else { &old[..] }, "{about}");
                        *refused.entry(call.clone()).or_default() += 1;
                    }
                    _ => panic!("{about}"),
                }
                if matches!(kind, "EINTR" | "short") {
                    assert!(output.status.success() && place.wrecks().is_empty(), "{about}");
                } else if kind == "full" || NEEDED[..5].contains(&&**call) {
                    assert_eq!(output.status.code(), Some(REFUSED), "{about}");
                }
                place.check_cleaned(&about);
            }
            // Some calls may fail without harm, but of the calls of each of these names some count.
            if matches!(kind, "ENOSPC" | "EIO") {
                for call in ["open64", "close", "statx", "readlink"] {
                    assert!(
                        refused.contains_key(call),
                        "{kind}: no {call} that fails is an error: {refused:?}"
                    );
                }
            }
        }
        let [enospc, eio, eintr, short, full] = counts[..] else { panic!("five kinds") };
        assert!(
            enospc == eio && eio == eintr && short == full && short >= 5 && eio > short + 20,
            "{counts:?}"
        );
        // And all at once: every other call is interrupted, every other transfer is short.
        for kind in ["EINTR", "short"] {
            fs::write(place.file(), &old).unwrap();
            let (output, calls) = place.run(what, threads, kind, 0);
            let about = format!("every other call {kind}, {threads} threads: {}", text(&output));
            assert!(output.status.success() && calls.len() >= 5, "{about}");
            assert!(fs::read(place.file()).unwrap() == new, "{about}");
            total += calls.len();
        }
    }
    // All bytes go by writev; no write and no pwrite is there to fail.
    let others =
        if place.is_named { ["open64", "flock", "unlink"] } else { ["open64", "linkat", "readlink"] };
    for call in NEEDED.into_iter().chain(others) {
        assert!(seen.contains_key(call), "{call} never failed: {seen:?}");
    }
    println!("    {total} faults in saving: {seen:?}");
}

/// A file is flushed before it takes its name, and the directory after, when the options say so.
fn saving_flushes_as_it_was_told() {
    let place = Place::new(false);
    let old = file_of("save", 0);
    for ((what, _), expected) in FLUSHES.into_iter().zip([[0, 2], [2, 2], [0, 0]]) {
        for (replaces, expected) in [false, true].into_iter().zip(expected) {
            let _ = fs::remove_file(place.file());
            if replaces {
                fs::write(place.file(), &old).unwrap();
            }
            let (output, calls) = place.run(what, 1, "none", 0);
            assert!(output.status.success(), "{what}: {}", text(&output));
            let at_rename = calls.iter().position(|call| call == "rename").unwrap();
            let flushes = |calls: &[String]| calls.iter().filter(|call| *call == "fsync").count();
            let (before, after) = calls.split_at(at_rename);
            assert_eq!(
                [flushes(before), flushes(after)],
                [expected / 2; 2],
                "{what}, a file is replaced: {replaces}"
            );
        }
    }
}

/// Every call of reading fails once in every way.
fn reading_survives_every_fault() {
    let place = Place::new(false);
    let old = file_of("save", 0);
    fs::write(place.file(), &old).unwrap();
    let mut total = 0;
    for (mode, threads) in [("read", 2), ("mmap", 1)] {
        for kind in ["EIO", "EINTR", "short"] {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for at in 1.. {
                let (output, calls) = place.run(mode, threads, kind, at);
                let about =
                    format!("{kind} at call {at} ({calls:?}), {mode}, {threads} threads: {}", text(&output));
                let Some(call) = calls.first() else {
                    assert!(output.status.success(), "{about}");
                    break;
                };
                total += calls.len();
                *seen.entry(call.clone()).or_default() += 1;
                if kind != "EIO" || call == "close" {
                    assert!(output.status.success(), "{about}");
                    continue;
                }
                assert_eq!(output.status.code(), Some(REFUSED), "{about}");
                let message = text(&output);
                let (tensor, message) = message.split_once('\n').unwrap();
                assert!(message.starts_with(&format!("{}: ", place.file().display())), "{about}");
                assert!(message.contains(words_of(kind)), "{about}");
                // Whatever fails after opening is of a tensor.
                let is_named = match tensor {
                    "" => true,
                    "verify" => message.contains(": tensor \""),
                    _ => message.contains(&format!(": tensor {tensor:?}, component ")),
                };
                assert!(is_named, "{about}");
            }
            if mode == "read" {
                assert!(seen["pread64"] > 20, "{seen:?}");
                let (output, calls) = place.run(mode, threads, kind, 0);
                assert_eq!(
                    output.status.success(),
                    kind != "EIO",
                    "every other call {kind}: {}",
                    text(&output)
                );
                total += calls.len();
            }
        }
    }
    println!("    {total} faults in reading");
}

/// Before every call that reads, somebody rewrites the file in place or cuts it. What passes verification is right.
fn a_file_that_changes_while_it_is_read_is_an_error() {
    let place = Place::new(false);
    let (old, other) = (file_of("save", 0), file_of("save", OTHER));
    assert_eq!(old.len(), other.len());
    fs::write(place.beside("other"), &other).unwrap();
    let (mut total, mut refused, mut reread) = (0, 0, 0);
    for (kind, threads) in [("rewrite", 1), ("rewrite", 2), ("truncate", 1), ("truncate", 2)] {
        for at in 1.. {
            fs::write(place.file(), &old).unwrap();
            let (output, calls) = place.run("read", threads, kind, at);
            let about = format!("{kind} at call {at}, {threads} threads: {}", text(&output));
            if calls.is_empty() {
                assert!(output.status.success(), "{about}");
                break;
            }
            total += 1;
            match output.status.code() {
                // All of it was rewritten before the index was read, or nothing of what was changed was read after.
                Some(0) => {}
                Some(REFUSED) => {
                    refused += 1;
                    let message = text(&output);
                    let (_, message) = message.split_once('\n').unwrap();
                    assert!(message.starts_with(&format!("{}: ", place.file().display())), "{about}");
                    reread += usize::from(message.contains("the file was changed between the two"));
                    if kind == "truncate" {
                        assert!(message.contains("truncated"), "{about}");
                    }
                }
                _ => panic!("{about}"),
            }
        }
    }
    assert!(refused * 10 > total * 9, "{refused} of {total}");
    assert!(reread > 0, "no frame that is read twice was noticed");
    println!("    {total} changes of an open file, {refused} noticed");
}

/// A writer is killed at a random moment.
fn a_killed_writer_leaves_a_whole_file() {
    for is_named in [false, true] {
        kill_writers(&Place::new(is_named));
    }
}

fn kill_writers(place: &Place) {
    let (old, new) = (file_of("save", 0), file_of("save", 1));
    let kills: usize = env::var("ZTENSOR_KILLS").map_or(100, |kills| kills.parse().unwrap());
    fs::write(place.file(), &old).unwrap();
    // How long a save takes changes with whatever else the machine does, so the moments follow it: the longest wait shrinks
    // when a writer was done before its kill, and grows when it was not.
    let start = Instant::now();
    assert!(place.command("save", 2).status().unwrap().success());
    let mut longest = start.elapsed().as_micros() as u64;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut runs, mut killed, mut left, mut replaced) = (0, 0, 0, 0);
    while killed < kills {
        assert!(runs < 20 * kills + 100, "{killed} killed in {runs} runs, {left} left a temporary file");
        let run = runs;
        runs += 1;
        fs::write(place.file(), &old).unwrap();
        let mut child = place.command("save", 1 + run % 2).stderr(Stdio::inherit()).spawn().unwrap();
        thread::sleep(Duration::from_micros(random.next() % longest));
        let _ = child.kill();
        let status = child.wait().unwrap();
        let found = fs::read(place.file()).unwrap();
        let about = format!("run {run}, {status}");
        assert!(status.success() || status.signal() == Some(9), "{about}");
        assert!(
            found == new || (found == old && !status.success()),
            "{about}: the file is neither old nor new"
        );
        longest = if status.success() { longest - longest / 16 } else { longest + longest / 32 }.max(100);
        killed += usize::from(!status.success());
        replaced += usize::from(!status.success() && found == new);
        if !place.wrecks().is_empty() {
            left += 1;
            place.check_cleaned(&about);
        }
    }
    if place.is_named {
        assert!(left > 0, "of {killed} that were killed none left a temporary file");
    } else {
        // Only one that is killed between the link and the rename leaves one.
        assert!(left * 10 <= killed, "{left} of {killed} that were killed left a temporary file");
    }
    println!(
        "    {runs} runs, {killed} killed, {left} left a temporary file, {replaced} after the new file was in place"
    );
}

/// Filesystems that lack a call.
fn saving_does_without_calls_that_filesystems_lack() {
    for is_named in [false, true] {
        let place = Place::new(is_named);
        let (old, new) = (file_of("save", 0), file_of("save", 1));
        for lacking in ["fchmod", "flock", "fsync", "ftruncate", "linkat"] {
            for replaces in [false, true] {
                let _ = fs::remove_file(place.file());
                if replaces {
                    fs::write(place.file(), &old).unwrap();
                }
                let output = place.command("save", 2).env("ZT_FAULT_REFUSE", lacking).output().unwrap();
                assert!(output.status.success(), "{lacking}, named: {is_named}: {}", text(&output));
                assert!(fs::read(place.file()).unwrap() == new, "{lacking}");
                assert_eq!(place.wrecks(), [""; 0], "{lacking}");
            }
        }
    }
}

/// A file that cannot be renamed is refused before it is written, or kept.
fn a_filesystem_without_rename_costs_no_file() {
    for is_named in [false, true] {
        let place = Place::new(is_named);
        let (old, new) = (file_of("save", 0), file_of("save", 1));
        fs::write(place.file(), &old).unwrap();
        let output = place.command("save", 2).env("ZT_FAULT_REFUSE", "rename").output().unwrap();
        let message = text(&output);
        assert_eq!(output.status.code(), Some(REFUSED), "{message}");
        assert!(message.contains("atomic=False") && message.contains("(os error 38)"), "{message}");
        assert!(fs::read(place.file()).unwrap() == old);
        let left = place.wrecks();
        if is_named && left.is_empty() {
            continue;
        }
        let [kept] = &left[..] else { panic!("{left:?}: {message}") };
        let kept = place.dir.path().join("files").join(kept);
        assert!(message.contains(&format!("{}", kept.display())), "{message}");
        assert!(fs::read(&kept).unwrap() == new);
        // A later save leaves it alone.
        assert!(place.command("save", 2).status().unwrap().success());
        assert!(fs::read(&kept).unwrap() == new);
        let output = place.command("in place", 2).env("ZT_FAULT_REFUSE", "rename").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert!(fs::read(place.file()).unwrap() == new);
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "child") {
        return ExitCode::from(child(&arguments[1..]) as u8);
    }
    let tests: [(&str, fn()); 7] = [
        ("saving_survives_every_fault", saving_survives_every_fault),
        ("saving_flushes_as_it_was_told", saving_flushes_as_it_was_told),
        ("reading_survives_every_fault", reading_survives_every_fault),
        (
            "a_file_that_changes_while_it_is_read_is_an_error",
            a_file_that_changes_while_it_is_read_is_an_error,
        ),
        ("a_killed_writer_leaves_a_whole_file", a_killed_writer_leaves_a_whole_file),
        ("saving_does_without_calls_that_filesystems_lack", saving_does_without_calls_that_filesystems_lack),
        ("a_filesystem_without_rename_costs_no_file", a_filesystem_without_rename_costs_no_file),
    ];
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    for (name, test) in
        tests.iter().filter(|(name, _)| filter.is_none_or(|part| name.contains(part.as_str())))
    {
        println!("test {name}");
        test();
    }
    ExitCode::SUCCESS
}
