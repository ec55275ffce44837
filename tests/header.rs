//! `ztensor.h` is what cbindgen makes of `src/ffi`, put into the groups in which a newcomer needs it. `make header`
//! writes it; without that, a difference fails.

use std::env;
use std::fs;
use std::path::Path;

/// The introduction, for a C programmer.
const INTRODUCTION: &str = include_str!("header_introduction.h");

/// A chapter of the header: its name for doxygen, its title, what it says first, and the names that belong to it, in
/// the order of the chapter. Names in one text keep the order of the sources; one that ends in `*` stands for all that
/// begin so.
struct Group(&'static str, &'static str, &'static str, &'static [&'static str]);

/// In the order of the header. A type stands before what uses it.
const GROUPS: &[Group] = &[
    Group(
        "handles",
        "Handles",
        "What programs hold pointers to. Each has functions that make it and one that frees it.",
        &["ZtReader", "ZtBuffer", "ZtBatch", "ZtWriter"],
    ),
    Group(
        "status",
        "Success and failure",
        "What calls answer, and how to learn more.",
        &["ZtStatus", "ZT_OK", "ZT_ERR_*", "zt_last_error_*", "zt_status_name"],
    ),
    Group(
        "progress",
        "Long calls",
        "How far a call is, and how to stop it.",
        &["ZtProgress", "zt_set_progress"],
    ),
    Group(
        "codes",
        "Codes",
        "Numbers for what files spell as names: element types, layouts, roles, encodings, filters.",
        &[
            "ZtDtype",
            "ZT_FLOAT* ZT_BFLOAT16 ZT_INT* ZT_UINT* ZT_BOOL ZT_COMPLEX*",
            "zt_dtype_*",
            "ZtLayout",
            "ZT_DENSE ZT_SPARSE_*",
            "zt_layout_name",
            "ZtRole",
            "ZT_DATA ZT_VALUES ZT_INDICES ZT_INDPTR",
            "zt_role_name",
            "ZtEncoding",
            "ZT_RAW ZT_ZSTD",
            "zt_encoding_name",
            "ZtFilter",
            "ZT_FILTER_*",
            "zt_filter_name",
        ],
    ),
    Group(
        "opening",
        "Opening a file",
        "A reader is the way to everything in a file.",
        &["ZT_READ_*", "zt_reader_open*", "zt_reader_free", "zt_reader_count", "zt_reader_format"],
    ),
    Group(
        "describing",
        "What a file holds",
        "Names, shapes, types and key-values. None of it touches the data of a tensor.",
        &[
            "ZtComponent",
            "ZtTensor",
            "zt_reader_find",
            "zt_reader_describe",
            "zt_reader_tensors",
            "zt_reader_shares",
            "zt_reader_names",
            "zt_reader_metadata",
            "zt_reader_attributes",
            "zt_reader_checksum",
        ],
    ),
    Group(
        "reading",
        "Reading tensors",
        "One component, a part of one, or many tensors at once; into memory of the library's or of the caller's.",
        &["ZT_VERIFY_*", "ZtTarget", "zt_reader_read*", "zt_reader_verify"],
    ),
    Group(
        "bytes",
        "The bytes that were read",
        "Buffers and batches hold shares of memory and live as long as the program likes.",
        &["ZtSpan", "zt_buffer_*", "zt_batch_*"],
    ),
    Group(
        "writing",
        "Writing a file",
        "Create, add, finish, free.",
        &["ZT_FSYNC_*", "ZT_WRITE_*", "ZtComponentSpec", "ZtTensorSpec", "zt_writer_*"],
    ),
    Group(
        "dlpack",
        "Tensors of other libraries",
        "Many tensors of a library that speaks DLPack's C exchange, such as PyTorch, to specs and from batches: without a \
         call and a Python object for each.",
        &["ZtDlpackView", "ZtDlpackWrap", "zt_dlpack_*"],
    ),
    Group(
        "version",
        "Versions",
        "The ABI has a number of its own, apart from the release's.",
        &["ZT_ABI_VERSION", "zt_abi_version", "zt_version"],
    ),
];

/// The name that a block of the header declares, by its last line: `#define NAME 1`, `} NAME;`,
/// `typedef A NAME;`, `typedef A (*NAME)(...);`, `A *NAME(...);`.
fn declared(block: &str) -> &str {
    let declaration = block.rsplit("*/\n").next().unwrap_or_default();
    // Of a struct, what stands after its last field.
    let declaration = declaration.find("\n}").map_or(declaration, |at| &declaration[at + 1..]);
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let words: Vec<&str> =
        declaration.split(|letter| !is_word(letter)).filter(|word| !word.is_empty()).collect();
    let before_bracket = || {
        let head = declaration.split('(').find(|head| head.contains("zt_"));
        head.and_then(|head| head.rsplit(|letter| !is_word(letter)).next())
    };
    let found = match words.first() {
        Some(&"define") => words.get(1).copied(),
        _ if declaration.contains("(*") => {
            declaration.split("(*").nth(1).and_then(|rest| rest.split(')').next())
        }
        Some(&"typedef") => words.last().copied(),
        _ if declaration.starts_with('}') => words.last().copied(),
        _ => before_bracket(),
    };
    found.unwrap_or_else(|| panic!("no name in {block:?}"))
}

/// The chapter of a name, and its place there.
fn place(name: &str) -> (usize, usize) {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    let places: Vec<(usize, usize)> = (0..GROUPS.len())
        .flat_map(|group| (0..GROUPS[group].3.len()).map(move |at| (group, at)))
        .filter(|&(group, at)| GROUPS[group].3[at].split(' ').any(fits))
        .collect();
    assert_eq!(places.len(), 1, "{name} belongs to {} chapters of tests/header.rs, not one", places.len());
    places[0]
}

/// The declarations as cbindgen makes them: each with the comment before it.
fn blocks(declarations: &str) -> Vec<&str> {
    let starts: Vec<usize> = declarations.match_indices("/**\n").map(|(at, _)| at).collect();
    // Comments of a struct's fields are indented and start no block.
    let starts: Vec<usize> =
        starts.into_iter().filter(|&at| at == 0 || declarations[..at].ends_with('\n')).collect();
    let ends = starts.iter().skip(1).copied().chain([declarations.len()]);
    starts.iter().zip(ends).map(|(&start, end)| declarations[start..end].trim_end()).collect()
}

/// What cbindgen makes of the sources.
fn declarations(root: &Path) -> String {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let mut declarations = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_crate(root)
        .generate()
        .expect("cbindgen understands src/ffi")
        .write(&mut declarations);
    String::from_utf8(declarations).expect("the header is UTF-8")
}

fn generate(root: &Path) -> String {
    let declarations = declarations(root);
    let mut blocks: Vec<_> =
        blocks(&declarations).into_iter().map(|block| (place(declared(block)), block)).collect();
    blocks.sort_by_key(|&(place, _)| place);
    let mut chapters = String::new();
    for (at, Group(id, title, summary, _)) in GROUPS.iter().enumerate() {
        chapters += &format!("\n/**\n * @defgroup {id} {title}\n *\n * {summary}\n * @{{\n */\n");
        for (_, block) in blocks.iter().filter(|((group, _), _)| *group == at) {
            chapters += &format!("\n{block}\n");
        }
        chapters += "\n/** @} */\n";
    }
    format!(
        "{}\n\n#ifndef ZTENSOR_H\n#define ZTENSOR_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n{chapters}\n\
         #ifdef __cplusplus\n}}  // extern \"C\"\n#endif\n\n#endif  /* ZTENSOR_H */\n",
        INTRODUCTION.trim_end()
    )
}

#[test]
fn header_is_in_sync() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("ztensor.h");
    let generated = generate(root);
    if env::var_os("ZTENSOR_WRITE_HEADER").is_some() {
        fs::write(&path, &generated).expect("ztensor.h can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "ztensor.h is not what src/ffi says: run `make header` and commit it");
}

/// A C programmer finds the same things said of each function, in the same order.
#[test]
fn every_function_says_who_owns_which_threads_what_fails_and_since_when() {
    let declarations = declarations(Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut functions = 0;
    for block in blocks(&declarations).into_iter().filter(|block| declared(block).starts_with("zt_")) {
        let name = declared(block);
        let declaration = block.rsplit("*/\n").next().unwrap_or_default();
        let gives_pointer = declaration.contains("**out_")
            || declaration.split("zt_").next().is_some_and(|result| result.contains('*'));
        let asked = [
            ("Ownership", gives_pointer),
            ("Threads", true),
            ("Errors", declaration.starts_with("ZtStatus ")),
            ("Since", true),
        ];
        let mut last = 0;
        for (label, is_asked) in asked {
            match block.find(&format!("\n * {label}: ")) {
                Some(at) => {
                    assert!(at > last, "{name}: {label} stands in another order than elsewhere");
                    last = at;
                }
                None => assert!(!is_asked, "{name} does not say {label}"),
            }
        }
        functions += 1;
    }
    assert!(functions > 35, "{functions} functions were looked at");
}
