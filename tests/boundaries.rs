//! Which module may use which. The table is the one in `docs/DESIGN.md`: data flows one way, only the reader opens formats, and
//! only memory, mappings and the C ABI contain `unsafe`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module of the crate, and the modules that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("hex", &[]),
    ("room", &["error"]),
    ("progress", &["error"]),
    ("parallel", &["error", "progress", "room"]),
    ("digest", &["hex"]),
    ("metadata", &["error", "hex", "room"]),
    ("dtype", &["error"]),
    ("layout", &["dtype", "error", "progress"]),
    ("codec", &["dtype", "error", "parallel", "progress", "room"]),
    ("index", &["codec", "digest", "dtype", "error", "layout", "metadata", "room"]),
    ("source", &["error", "parallel", "progress", "room"]),
    ("sink", &["error", "room", "source"]),
    (
        "formats",
        &["codec", "digest", "dtype", "error", "hex", "index", "layout", "metadata", "room", "source"],
    ),
    ("plan", &["codec", "container", "error", "index", "layout", "parallel", "progress", "room", "source"]),
    (
        "reader",
        &[
            "codec",
            "container",
            "digest",
            "dtype",
            "error",
            "formats",
            "index",
            "layout",
            "parallel",
            "plan",
            "progress",
            "room",
            "source",
        ],
    ),
    (
        "writer",
        &[
            "codec",
            "container",
            "digest",
            "dtype",
            "error",
            "index",
            "layout",
            "metadata",
            "parallel",
            "progress",
            "room",
            "sink",
            "source",
        ],
    ),
    (
        "ffi",
        &[
            "codec", "dtype", "error", "index", "layout", "metadata", "parallel", "plan", "progress",
            "reader", "room", "sink", "source", "writer",
        ],
    ),
];

/// Files and folders that may contain `unsafe`.
const UNSAFE: &[&str] = &["ffi", "source"];

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The source files of the crate, each with its top-level module and its text up to the tests.
fn modules() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let module_of = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
        first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
    };
    rust_files(&root)
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            // Words of comments name modules freely.
            let code = code.lines().map(|line| line.split("//").next().unwrap_or_default());
            let (module, code) = (module_of(&path), code.collect::<Vec<_>>().join("\n"));
            (path, module, code)
        })
        .filter(|(_, module, _)| module != "lib")
        .collect()
}

/// The top-level modules that a text names after `crate::`.
fn used(code: &str) -> BTreeSet<&str> {
    let first_word =
        |text: &'_ str| text.find(|c: char| !(c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit()));
    code.split("crate::")
        .skip(1)
        .filter_map(|rest| rest.get(..first_word(rest).unwrap_or(rest.len())))
        .filter(|word| !word.is_empty())
        .collect()
}

#[test]
fn modules_use_only_what_is_below_them() {
    let known: BTreeSet<&str> = ALLOWED.iter().map(|(module, _)| *module).collect();
    for (path, module, code) in modules() {
        let allowed = ALLOWED.iter().find(|(name, _)| *name == module);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("the module {module} is not in the table"));
        for other in used(&code)
            .into_iter()
            .filter(|other| *other != module && (known.contains(other) || *other == "container"))
        {
            assert!(allowed.contains(&other), "{} uses {other}, which {module} must not", path.display());
        }
    }
}

#[test]
fn formats_are_named_only_in_their_folder() {
    for (path, module, code) in modules() {
        let names =
            ["zt1", "legacy", "safetensors", "npz", "gguf"].into_iter().find(|name| code.contains(name));
        assert!(module == "formats" || names.is_none(), "{} names the format {names:?}", path.display());
    }
}

#[test]
fn unsafe_code_is_in_two_folders() {
    for (path, module, code) in modules() {
        let has_unsafe =
            code.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe");
        assert!(UNSAFE.contains(&module.as_str()) || !has_unsafe, "{} contains unsafe code", path.display());
    }
}

#[test]
fn array_libraries_are_imported_only_by_their_front_end() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/src/ztensor");
    let allowed = [
        ("import torch", &["_dtypes.py", "_torch.py"][..]),
        ("import scipy", &["_sparse.py"][..]),
        ("import ml_dtypes", &["_dtypes.py"][..]),
    ];
    for entry in fs::read_dir(package).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "py") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for (import, files) in allowed {
            let imports = text.lines().any(|line| line.trim_start().starts_with(import));
            assert!(!imports || files.contains(&name), "{name} has the line {import:?}");
        }
    }
}
