//! Every file that a published wheel wrote, against the values that were written.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use ztensor::{ErrorKind, Known, Layout, Mode, Reader, metadata};

use super::{file, from_bytes, open};

/// The names that the corpus uses, and ours.
const DTYPES: &[(&str, &str)] = &[
    ("f64", "float64"),
    ("f32", "float32"),
    ("f16", "float16"),
    ("bf16", "bfloat16"),
    ("i64", "int64"),
    ("i32", "int32"),
    ("i16", "int16"),
    ("i8", "int8"),
    ("u64", "uint64"),
    ("u32", "uint32"),
    ("u16", "uint16"),
    ("u8", "uint8"),
    ("bool", "bool"),
    ("f8_e4m3fn", "float8_e4m3fn"),
    ("f8_e5m2", "float8_e5m2"),
    ("f8_e4m3fnuz", "float8_e4m3fnuz"),
    ("f8_e5m2fnuz", "float8_e5m2fnuz"),
    ("f8_e8m0", "float8_e8m0fnu"),
    ("f4_e2m1", "float4_e2m1fn_x2"),
    ("complex64", "complex64"),
    ("complex128", "complex128"),
];

/// Files whose tensors the reader gives in another number than the corpus lists: of two entries of one name in
/// generation 0.1 the first counts, as for the public readers' look-up by name.
const FIRST_COUNTS: &str = "0.1.4/duplicate_name";

pub(super) fn expected(path: &Path) -> Json {
    let text = fs::read_to_string(path.with_extension("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The corpus's files in the directories whose names end so, shards left out.
pub(super) fn files(is_handmade: bool) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(file(""))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|dir| dir.to_string_lossy().ends_with("handmade") == is_handmade)
        .flat_map(|dir| fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.with_extension("expected.json").exists() && path.extension().unwrap() == "zt")
        .collect();
    files.sort();
    files
}

pub(super) fn name_of(path: &Path) -> String {
    path.strip_prefix(file("")).unwrap().with_extension("").to_string_lossy().into_owned()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn known_text<T>(known: Known<'_, T>, name: impl Fn(T) -> &'static str) -> String {
    match known {
        Known::Known(value) => name(value).to_owned(),
        Known::Unknown(text) => text.to_owned(),
    }
}

/// The role and the bytes of each component that the corpus lists for a tensor.
fn components(tensor: &Json) -> Vec<(String, Option<String>, Vec<u8>)> {
    let part = |role: &str, dtype: Option<&str>, hex: &Json| {
        (role.to_owned(), dtype.map(str::to_owned), unhex(hex.as_str().unwrap()))
    };
    if let Some(listed) = tensor.get("components") {
        let listed = listed.as_object().unwrap();
        return listed
            .iter()
            .map(|(role, value)| {
                let dtype = value.get("logical").or(value.get("dtype")).and_then(Json::as_str);
                part(role, dtype, &value["hex"])
            })
            .collect();
    }
    let dtype = tensor.get("logical").or(tensor.get("dtype")).and_then(Json::as_str);
    let index = tensor.get("index_dtype").and_then(Json::as_str);
    [("data", dtype), ("values", dtype), ("indices", index), ("indptr", index), ("coords", index)]
        .into_iter()
        .filter_map(|(role, dtype)| tensor.get(format!("{role}_hex")).map(|hex| part(role, dtype, hex)))
        .collect()
}

/// Checks all that the corpus says of a file; gives the number of tensors.
pub(super) fn check(reader: &Reader, expected: &Json, name: &str) -> usize {
    let generation = expected["generation"].as_str().unwrap();
    let format = if generation == "2" { "zt/2".to_owned() } else { format!("zten/{generation}") };
    // Version "2.0.0" in the index is of no generation that there is.
    assert_eq!(reader.format(), if name.ends_with("version_2") { "zten/1.2" } else { &format }, "{name}");
    if let Some(attributes) = expected.get("attributes") {
        let found: Json = serde_json::from_str(&metadata::to_json(&reader.index().metadata)).unwrap();
        assert_eq!(&found, attributes, "{name}");
    }
    let mut tensors: Vec<&Json> = expected["tensors"].as_array().unwrap().iter().collect();
    if name == FIRST_COUNTS {
        tensors.truncate(1);
    }
    assert_eq!(reader.index().len(), tensors.len(), "{name}");
    for tensor in &tensors {
        check_tensor(reader, tensor, name);
    }
    reader.verify(|_, _| true).unwrap();
    tensors.len()
}

fn check_tensor(reader: &Reader, tensor: &Json, file: &str) {
    let name = tensor["name"].as_str().unwrap();
    let place = format!("{file}: {name:?}");
    let at = reader.find(name).unwrap();
    let info = reader.tensor(at).unwrap();
    let mut shape: Vec<u64> =
        tensor["shape"].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap()).collect();
    let is_dense = info.layout() == Known::Known(Layout::Dense);
    if is_dense && known_text(info.dtype(), |dtype| dtype.name()) == "float4_e2m1fn_x2" {
        *shape.last_mut().unwrap() /= 2;
    }
    assert_eq!(info.shape(), shape, "{place}");
    if let Some(attributes) = tensor.get("attributes") {
        let found: Json = serde_json::from_str(&metadata::to_json(info.attributes().unwrap())).unwrap();
        assert_eq!(&found, attributes, "{place}");
    }
    let readable = info.layout().known().is_some() && info.dtype().known().is_some();
    let together = reader.read_many(&[at], Some(true));
    if readable {
        together.as_ref().unwrap();
    } else {
        let kind =
            if info.layout().known().is_some() { ErrorKind::UnknownDtype } else { ErrorKind::UnknownLayout };
        assert_eq!(together.as_ref().unwrap_err().kind(), kind, "{place}");
    }
    if let Some(hash) = tensor.get("data_sha256") {
        let found = Sha256::digest(reader.read(at, 0, None).unwrap().as_slice());
        let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, hash.as_str().unwrap(), "{place}");
        return;
    }
    let listed = components(tensor);
    assert_eq!(listed.len(), info.components().len(), "{place}");
    for (role, dtype, bytes) in listed {
        let is_coo = info.layout() == Known::Known(Layout::SparseCoo);
        let role = if is_coo && role == "coords" { "indices" } else { &role };
        let component = info.components().position(|part| part.role_name() == role).unwrap();
        let part = info.component(component).unwrap();
        if let Some(dtype) = dtype {
            let ours = DTYPES.iter().find(|row| row.0 == dtype).map_or(&*dtype, |row| row.1);
            let found = known_text(part.dtype(), |dtype| dtype.name());
            let is_odd = found == "f4_e2m1" && ours == "float4_e2m1fn_x2";
            assert!(found == ours || is_odd, "{place}: {role} is {found}, expected {ours}");
        }
        assert_eq!(reader.read(at, component, Some(true)).unwrap().as_slice(), bytes, "{place}: {role}");
        if readable {
            assert_eq!(
                together.as_ref().unwrap().buffer(component).unwrap().as_slice(),
                bytes,
                "{place}: {role}"
            );
        }
        let mut copy = vec![0xaa; bytes.len()];
        reader.read_into(vec![(at, component, &mut copy)], None).unwrap();
        assert_eq!(copy, bytes, "{place}: {role}");
        let Some(dtype) = part.dtype().known() else { continue };
        let (size, count) = (dtype.size(), bytes.len() / dtype.size());
        for (first, len) in [(0, count), (count / 3, count / 2), (count, 0), (0, count.min(1))] {
            let range = reader.read_range(at, component, first as u64, len as u64, None);
            assert_eq!(
                range.unwrap().as_slice(),
                &bytes[first * size..(first + len) * size],
                "{place}: {role}"
            );
        }
    }
}

/// Checks a file in both modes and, where it has no shards, from bytes.
pub(super) fn check_everywhere(path: &Path, expected: &Json) -> usize {
    let name = name_of(path);
    let is_sharded =
        expected["tensors"].as_array().unwrap().iter().any(|tensor| tensor.get("shard").is_some());
    for mode in [Mode::Mmap, Mode::Read] {
        for verify in [false, true] {
            let reader = open(path, mode, verify).unwrap_or_else(|err| panic!("{name}: {err}"));
            check(&reader, expected, &name);
        }
    }
    let bytes = fs::read(path).unwrap();
    match from_bytes(&bytes) {
        Ok(reader) if !is_sharded => check(&reader, expected, &name),
        Ok(_) => panic!("{name} was read without its shards"),
        Err(err) => {
            assert!(is_sharded, "{name}: {err}");
            assert_eq!(err.kind(), ErrorKind::FileNotFound, "{name}: {err}");
            0
        }
    }
}

#[test]
fn files_of_every_wheel_hold_what_was_written() {
    let files = files(false);
    assert!(files.len() >= 90, "{} files", files.len());
    for path in files {
        check_everywhere(&path, &expected(&path));
    }
}

#[test]
fn of_two_tensors_of_one_name_one_stays() {
    for (name, first) in [("0.1.4", "010203"), ("1.0.1", "0000104100000041"), ("1.1.1", "0000104100000041")] {
        let reader = open(&file(&format!("{name}/duplicate_name.zt")), Mode::Mmap, false).unwrap();
        assert_eq!(reader.index().names(), "a\0");
        assert_eq!(reader.read(0, 0, None).unwrap().as_slice(), unhex(first), "{name}");
    }
}

#[test]
fn tied_tensors_share_their_memory() {
    let reader = open(&file("2.1.2/tied.zt"), Mode::Mmap, false).unwrap();
    let batch = reader.read_many(&[0, 1], None).unwrap();
    assert_eq!(batch.spans()[0], batch.spans()[1]);
}

#[test]
fn a_range_of_many_frames_is_read_by_frame() {
    let reader = open(&file("2.1.2/zstd_seekable_frames.zt"), Mode::Read, false).unwrap();
    for (first, count) in [(0u64, 10usize), (1 << 20, 1 << 20), ((1 << 20) - 5, 4096), (41_943_039, 1)] {
        let range = reader.read_range(0, 0, first, count as u64, None).unwrap();
        let expected: Vec<u8> = (first..).take(count).map(|at| if at % 4096 == 0 { 7 } else { 0 }).collect();
        assert!(range.as_slice() == expected, "from {first}");
    }
}
