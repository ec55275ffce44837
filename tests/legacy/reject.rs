//! One file for each rule of generation 2, made here, and the kind of error that names the rule.

use ztensor::ErrorKind::{self, *};
use ztensor::{Known, Mode};

use super::build::{Cbor, PART, ZT2, footer, gen2, index2, map, part, plain2};
use super::{from_bytes, open, read_all};

/// A good file's blob.
const BLOB: [u8; 24] = [0; 24];

/// A file with this index.
fn with(index: Cbor) -> Vec<u8> {
    gen2(&[&BLOB], &index.bytes())
}

/// A file with these bytes as the index.
fn spelled(index: &[u8]) -> Vec<u8> {
    gen2(&[&BLOB], index)
}

/// The good file with its footer replaced.
fn with_footer(footer: Vec<u8>) -> Vec<u8> {
    let mut file = with(plain2());
    let start = file.len() - 40;
    file[start..].copy_from_slice(&footer);
    file
}

fn flipped(at_end: usize) -> Vec<u8> {
    let mut file = with(plain2());
    let at = file.len() - at_end;
    file[at] ^= 1;
    file
}

/// The path to a key of the one part.
fn at(key: &str) -> [&str; 5] {
    let [objects, name, parts, data] = PART;
    [objects, name, parts, data, key]
}

fn objects(name: &str) -> Cbor {
    let Cbor::Map(root) = plain2() else { unreachable!() };
    let Cbor::Map(tensors) = &root[0].1 else { unreachable!() };
    map([("objects", map([(name, tensors[0].1.clone())]))])
}

fn sharded(name: Cbor) -> Cbor {
    let table = Cbor::Map(vec![(name, map([("size", 8192.into())]))]);
    plain2().set(&["shards"], table)
}

fn csr(parts: [(&str, Cbor); 3]) -> Cbor {
    index2("zt.sparse_csr/1", &[2, 3], map(parts))
}

/// A CSR matrix of two rows and three entries: two blobs of 24 bytes would do, each part has its own.
fn csr_file(indices: [u64; 3], indptr: [u64; 3]) -> Vec<u8> {
    let words = |words: [u64; 3]| words.map(u64::to_le_bytes).concat();
    let parts = [
        ("values", part("f32", 4096, 12)),
        ("indices", part("u64", 8192, 24)),
        ("indptr", part("u64", 12288, 24)),
    ];
    gen2(&[&[0; 12], &words(indices), &words(indptr)], &csr(parts).bytes())
}

fn csr_sizes(values: u64, indices: &str, indptr: u64) -> Vec<u8> {
    let parts = [
        ("values", part("f32", 4096, values)),
        ("indices", part(indices, 8192, 24)),
        ("indptr", part("u64", 12288, indptr)),
    ];
    gen2(&[&[0; 12], &[0; 24], &[0; 24]], &csr(parts).bytes())
}

/// Three entries of a 2 by 3 matrix in coordinates: rows, then columns.
fn coo_file(rows: [u32; 3], columns: [u32; 3]) -> Vec<u8> {
    let words = [rows, columns].concat().into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>();
    let parts = [("values", part("f32", 4096, 12)), ("coords", part("u32", 8192, 24))];
    gen2(&[&[0; 12], &words], &index2("zt.sparse_coo/1", &[2, 3], map(parts)).bytes())
}

fn coo_types(values: u64, coords: &str) -> Vec<u8> {
    let parts = [("values", part("f32", 4096, values)), ("coords", part(coords, 8192, 24))];
    gen2(&[&[0; 12], &[0; 24]], &index2("zt.sparse_coo/1", &[2, 3], map(parts)).bytes())
}

fn f4(len: u64, blob: &[u8]) -> Vec<u8> {
    let data = part("u8", 4096, len).set(&["type"], "f4_e2m1");
    gen2(&[blob], &index2("dense", &[5], map([("data", data)])).bytes())
}

fn typed(dtype: &str, logical: &str, shape: &[u64]) -> Cbor {
    index2("dense", shape, map([("data", part(dtype, 4096, 24).set(&["type"], logical))]))
}

#[test]
fn a_good_file_is_read() {
    for file in [
        with(plain2()),
        csr_file([0, 2, 1], [0, 2, 3]),
        coo_file([1, 0, 1], [0, 2, 2]),
        // A reserved field of the footer that is not 0.
        flipped(12),
        with(sharded("ignored".into()).without(&["shards"])),
    ] {
        let reader = from_bytes(&file).unwrap();
        read_all(&reader, true).unwrap();
        reader.verify(|_, _| true).unwrap();
    }
}

#[test]
fn an_odd_number_of_half_bytes_is_listed_and_read_raw() {
    let reader = from_bytes(f4(3, &[0x21, 0x43, 0x05])).unwrap();
    assert_eq!(reader.tensor(0).unwrap().dtype(), Known::Unknown("f4_e2m1"));
    assert_eq!(reader.tensor(0).unwrap().shape(), [5]);
    assert_eq!(reader.read(0, 0, None).unwrap().as_slice(), [0x21, 0x43, 0x05]);
    reader.verify(|_, _| true).unwrap();
}

#[test]
fn what_must_be_refused_when_it_is_opened_is() {
    let nested = [&b"\xa2\x67objects\xa0\x69something"[..], &[0x81; 40], &[0x80]].concat();
    let attribute = |key: Cbor| plain2().set(&["attributes"], Cbor::Map(vec![(key, 1.into())]));
    let long = "n".repeat(1025);
    let cases: Vec<(&str, Vec<u8>, ErrorKind, &str)> = vec![
        ("file-too-small", [&ZT2[..], &footer(0, 0, 1)[1..]].concat(), Truncated, "the smallest has 48"),
        ("header-magic", [&[0x88], &with(plain2())[1..]].concat(), Signature, "signature"),
        ("footer-magic", flipped(1), Truncated, "does not end in a footer"),
        ("version-unsupported", flipped(16), Version, "version 3"),
        ("manifest-hash-mismatch", flipped(24), IndexChecksum, "the index is damaged"),
        ("manifest-misaligned", with_footer(footer(8196, 10, 0)), Footer, "at 8196, which is not aligned"),
        ("manifest-out-of-bounds", with_footer(footer(1 << 40, 10, 0)), Footer, "at 1099511627776, outside"),
        ("manifest-before-blobs", with_footer(footer(0, 10, 0)), Footer, "at 0, outside"),
        (
            "manifest-too-large",
            with_footer(footer(8192, 1 << 31, 0)),
            Limit,
            "the index has 2147483648 bytes",
        ),
        ("data-shard-nonzero-offset", with_footer(footer(8192, 0, 0)), Footer, "an index of no bytes"),
        ("data-shard", with_footer(footer(0, 0, 0)), Index, "the file is a shard"),
        ("cbor-depth", spelled(&nested), Index, "more than 32 levels"),
        ("cbor-duplicate-key", spelled(b"\xa2\x67objects\xa0\x67objects\xa0"), Index, "stands twice"),
        ("cbor-indefinite", spelled(b"\xbf\x67objects\xa0\xff"), Index, "indefinite length"),
        ("cbor-non-shortest", with(plain2().set(&["five"], Cbor::Raw(vec![0x18, 5]))), Index, "fewer bytes"),
        ("cbor-tag", with(plain2().set(&["tag"], Cbor::Raw(vec![0xc1, 5]))), Index, "a tag"),
        ("cbor-trailing-bytes", spelled(b"\xa1\x67objects\xa0\x00"), Index, "1 bytes follow"),
        ("cbor-unsorted-keys", spelled(b"\xa2\x67objects\xa0\x61a\x00"), Index, "not in order"),
        ("cbor-not-utf8", spelled(b"\xa2\x61\xff\x00\x67objects\xa0"), Index, "utf-8"),
        ("schema-missing-objects", with(map([])), Index, "the map of objects is missing"),
        ("schema-blob-arity", with(plain2().set(&at("blob"), [4096])), Index, "here are 1"),
        (
            "blob-array-with-three-elements",
            with(plain2().set(&at("blob"), [0, 4096, 24])),
            Index,
            "a third number",
        ),
        (
            "schema-unknown-dtype",
            with(plain2().set(&at("dtype"), "f4")),
            UnknownDtype,
            "\"f4\" is no storage type",
        ),
        (
            "schema-bool-dtype",
            with(plain2().set(&at("dtype"), "bool")),
            UnknownDtype,
            "\"bool\" is no storage type",
        ),
        (
            "schema-ltype-dtype-mismatch",
            with(typed("f32", "bool", &[2, 3])),
            Layout,
            "\"bool\" lies in uint8",
        ),
        (
            "schema-digest-uppercase-hex",
            with(plain2().set(&at("digest"), "xxh3:00000000000000AB")),
            Index,
            "lower-case",
        ),
        (
            "schema-digest-length",
            with(plain2().set(&at("digest"), "xxh3:00")),
            Index,
            "the length of its algorithm",
        ),
        (
            "schema-encoding-without-decoded-length",
            with(plain2().set(&at("encoding"), "a")),
            Encoding,
            "no decoded length",
        ),
        (
            "schema-decoded-length-without-encoding",
            with(plain2().set(&at("decoded_length"), 24)),
            Encoding,
            "no encoding",
        ),
        ("schema-missing-dtype", with(plain2().without(&at("dtype"))), Index, "the dtype is missing"),
        (
            "schema-missing-layout",
            with(plain2().without(&["objects", "w", "layout"])),
            Index,
            "the layout is missing",
        ),
        ("schema-empty-parts", with(plain2().set(&PART[..3], map([]))), Index, "the map of parts is empty"),
        ("attributes-not-a-map", with(plain2().set(&["attributes"], 1)), Index, "expected map"),
        (
            "object-attributes-not-a-map",
            with(plain2().set(&["objects", "w", "attributes"], 1)),
            Index,
            "tensor \"w\": the index is not the CBOR",
        ),
        ("attribute-key-not-text", with(attribute(1.into())), Index, "expected text"),
        ("attribute-key-empty", with(attribute("".into())), Name, "is empty"),
        ("attribute-key-nul", with(attribute("a\0".into())), Name, "holds a NUL"),
        ("name-empty", with(objects("")), Name, "is empty"),
        ("name-nul", with(objects("a\0b")), Name, "holds a NUL"),
        ("name-too-long", with(objects(&long)), Name, "1025 bytes"),
        (
            "shape-rank-65",
            with(index2("dense", &[1; 65], map([("data", part("f32", 4096, 4))]))),
            Shape,
            "more than 64 dimensions",
        ),
        (
            "shape-product-overflow",
            with(plain2().set(&["objects", "w", "shape"], [u64::MAX, 2])),
            Shape,
            "2^63 - 1 elements",
        ),
        ("blob-misaligned", with(plain2().set(&at("blob"), [4100, 24])), Offset, "at 4100 is not aligned"),
        ("blob-offset-zero", with(plain2().set(&at("blob"), [0, 24])), Offset, "at 0 begins before 4096"),
        ("empty-blob-offset-zero", with(empty_at(0)), Offset, "at 0 begins before 4096"),
        ("empty-blob-misaligned", with(empty_at(4100)), Offset, "at 4100 is not aligned"),
        ("empty-blob-out-of-bounds", with(empty_at(1 << 40)), Offset, "empty blob at 1099511627776"),
        (
            "blob-out-of-bounds",
            with(plain2().set(&at("blob"), [1 << 40, 24])),
            Offset,
            "24 bytes at 1099511627776 lies outside",
        ),
        (
            "blob-past-u64",
            with(plain2().set(&at("blob"), [u64::MAX - 4095, u64::MAX])),
            Offset,
            "18446744073709551615 bytes",
        ),
        (
            "blob-partial-overlap",
            gen2(&[&BLOB, &BLOB], &overlapping(None)),
            Overlap,
            "overlap without being the same",
        ),
        (
            "blob-overlaps-manifest",
            with(plain2().set(&at("blob"), [8192, 24])),
            Overlap,
            "overlaps the index",
        ),
        (
            "shard-blob-partial-overlap",
            gen2(&[&BLOB, &BLOB], &overlapping(Some("s"))),
            Overlap,
            "overlap without being the same",
        ),
        ("shard-name-empty", with(sharded("".into())), Name, "the shard's name \"\""),
        ("shard-name-leading-dot", with(sharded(".a".into())), Name, "the shard's name \".a\""),
        ("shard-name-separator", with(sharded("a/b".into())), Name, "the shard's name \"a/b\""),
        ("shard-name-traversal", with(sharded("../a".into())), Name, "the shard's name \"../a\""),
        (
            "shard-name-too-long",
            with(sharded("s".repeat(65).as_str().into())),
            Name,
            "the shard's name \"sss",
        ),
        ("shard-table-key-not-text", with(sharded(1.into())), Index, "expected text"),
        (
            "shard-ref-not-in-table",
            with(plain2().set(&at("shard"), "s")),
            Index,
            "not in the table of shards",
        ),
        ("shard-missing", with(sharded("s".into())), FileNotFound, "the shard \"s\""),
        (
            "dense-extra-part",
            with(plain2().set(&["objects", "w", "parts", "more"], part("f32", 4096, 24))),
            Layout,
            "[\"data\", \"more\"]",
        ),
        (
            "dense-size-mismatch",
            with(plain2().set(&["objects", "w", "shape"], [7])),
            Size,
            "float32 ask for 28",
        ),
        ("dense-f4-size-mismatch", f4(4, &[0; 4]), Size, "rounded up"),
        (
            "csr-missing-part",
            with(index2("zt.sparse_csr/1", &[2, 3], map([("values", part("f32", 4096, 24))]))),
            Layout,
            "[\"values\"]",
        ),
        ("csr-signed-indices", csr_sizes(12, "i64", 24), Layout, "one type, u32 or u64"),
        ("csr-mixed-indices", csr_sizes(12, "u32", 24), Layout, "one type, u32 or u64"),
        ("csr-indptr-count", csr_sizes(12, "u64", 16), Size, "\"indptr\" has 16 bytes"),
        ("csr-values-size", csr_sizes(11, "u64", 24), Size, "\"values\" has 11 bytes"),
        ("csr-rank", with_rank("zt.sparse_csr/1", &[6]), Layout, "two dimensions"),
        ("coo-rank", with_rank("zt.sparse_coo/1", &[]), Layout, "at least one dimension"),
        ("coo-signed-coords", coo_types(12, "i32"), Layout, "one type, u32 or u64"),
        ("coo-narrow-coords", coo_types(12, "u16"), Layout, "one type, u32 or u64"),
        ("coo-coords-size", coo_types(8, "u32"), Size, "\"indices\" has 24 bytes"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.zt");
    for (rule, file, kind, words) in cases {
        std::fs::write(&path, &file).unwrap();
        // A rule that is broken is the reason, and not another one that happens to have the same kind.
        let opened = [from_bytes(&file), open(&path, Mode::Mmap, false), open(&path, Mode::Read, false)];
        for opened in opened {
            match opened {
                Ok(_) => panic!("{rule}: it opens"),
                Err(err) => {
                    assert_eq!(err.kind(), kind, "{rule}: {err}");
                    let is_named = err.to_string().contains(words) || kind == FileNotFound;
                    assert!(is_named, "{rule}: {err}, which does not say {words:?}");
                }
            }
        }
    }
}

/// An index of an empty tensor whose blob stands here.
fn empty_at(offset: u64) -> Cbor {
    index2("dense", &[0, 3], map([("data", part("f32", offset, 0))]))
}

/// A sparse tensor of this shape, whose parts are all there.
fn with_rank(layout: &str, shape: &[u64]) -> Vec<u8> {
    let parts = [
        ("values", part("f32", 4096, 12)),
        if layout.contains("csr") {
            ("indices", part("u32", 8192, 12))
        } else {
            ("coords", part("u32", 8192, 12))
        },
    ];
    let index = index2(layout, shape, map(parts));
    let index = if layout.contains("csr") {
        index.set(&["objects", "w", "parts", "indptr"], part("u32", 12288, 28))
    } else {
        index
    };
    gen2(&[&[0; 12], &[0; 12], &[0; 28]], &index.bytes())
}

/// Two tensors, of which the second begins inside the first, in this file or in a shard that is not there.
fn overlapping(shard: Option<&str>) -> Vec<u8> {
    let tensor = |offset: u64, len: u64| {
        let mut data = part("u8", offset, len);
        if let Some(shard) = shard {
            data = data.set(&["shard"], shard);
        }
        map([("layout", "dense".into()), ("shape", [len].into()), ("parts", map([("data", data)]))])
    };
    let index = map([("objects", map([("a", tensor(4096, 4097)), ("b", tensor(8192, 24))]))]);
    let index = match shard {
        Some(name) => index.set(&["shards", name, "size"], 65536),
        None => index,
    };
    index.bytes()
}

#[test]
fn what_must_fail_when_it_is_used_does() {
    let digest = |text: &str| with(plain2().set(&at("digest"), text));
    let bools = gen2(&[&[2; 24]], &typed("u8", "bool", &[24]).bytes());
    // Rule, file, the kind that reading gives, the kind that verifying gives.
    let cases = [
        ("verify-digest-mismatch", digest("xxh3:0000000000000000"), None, Some(Checksum)),
        ("bool-invalid-byte", bools, None, Some(Layout)),
        ("f4-nonzero-odd-nibble", f4(3, &[0x21, 0x43, 0x65]), Some(UnknownDtype), Some(Layout)),
        ("csr-indptr-not-zero-based", csr_file([0, 1, 2], [1, 2, 3]), Some(Sparse), None),
        ("csr-index-out-of-cols", csr_file([0, 3, 1], [0, 2, 3]), Some(Sparse), None),
        ("csr-row-not-increasing", csr_file([2, 0, 1], [0, 2, 3]), Some(Sparse), None),
        ("csr-column-twice", csr_file([2, 2, 1], [0, 2, 3]), Some(Sparse), None),
        ("coo-coordinates-twice", coo_file([1, 0, 1], [2, 2, 2]), Some(Sparse), None),
        ("coo-coordinate-out-of-shape", coo_file([1, 0, 2], [0, 2, 2]), Some(Sparse), None),
        ("unknown-encoding", unknown_encoding(), Some(UnknownEncoding), None),
        ("unknown-ltype", with(typed("u8", "x", &[24])), Some(UnknownDtype), None),
        (
            "unknown-layout",
            with(plain2().set(&["objects", "w", "layout"], "x.y/1")),
            Some(UnknownLayout),
            None,
        ),
    ];
    for (rule, file, reads, verifies) in cases {
        let reader = from_bytes(&file).unwrap_or_else(|err| panic!("{rule}: {err}"));
        assert_eq!(reader.read_many(&[0], Some(false)).err().map(|err| err.kind()), reads, "{rule}");
        assert_eq!(reader.verify(|_, _| true).err().map(|err| err.kind()), verifies, "{rule}");
        // Whatever becomes of the tensor, its stored bytes can be had.
        reader.read_stored(0, 0, Some(false)).unwrap_or_else(|err| panic!("{rule}: {err}"));
    }
}

fn unknown_encoding() -> Vec<u8> {
    with(plain2().set(&at("encoding"), "brotli").set(&at("decoded_length"), 24))
}
