//! Files made by hand, most of which no wheel can write, and what becomes of them here. The wheels disagree about
//! many; the table says what a reader that neither loses data nor makes it up should do, and why.

use ztensor::{ErrorKind, Mode};

use super::corpus::{check_everywhere, expected, files, name_of};
use super::{open, read_all};

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// It is read, and holds what the corpus says.
    Reads,
    /// It is refused when it is opened.
    Refused(ErrorKind),
    /// It opens, and reading its tensors fails.
    Fails(ErrorKind),
    /// It opens and its tensors are read; verifying fails.
    FailsVerify(ErrorKind),
    /// It opens and all is read as it should, though the corpus lists nothing.
    Opens,
}

use Fate::{Fails, FailsVerify, Opens, Reads, Refused};

const TABLE: &[(&str, Fate, &str)] = &[
    ("0.1-handmade/v0_big", Reads, "big-endian data is swapped"),
    ("0.1-handmade/v0_crc", Reads, ""),
    (
        "0.1-handmade/v0_crc_bad",
        FailsVerify(ErrorKind::Checksum),
        "raw data is checked on request, as our own is",
    ),
    ("0.1-handmade/v0_crc_zstd", Reads, ""),
    (
        "0.1-handmade/v0_crc_zstd_over_decoded",
        Fails(ErrorKind::Checksum),
        "the checksum is of the stored bytes, and compressed data is always checked",
    ),
    ("0.1-handmade/v0_custom", Reads, "unknown keys are passed over"),
    ("0.1-handmade/v0_nolayout", Reads, "absence means dense, as for the later readers"),
    ("0.1-handmade/v0_sha", Reads, "it is checked too"),
    ("0.1-handmade/v0_sparsecsr", Reads, "the one blob is read in three parts"),
    ("0.1-handmade/v0_zstd", Reads, ""),
    ("1.x-handmade/array_structs", Refused(ErrorKind::Index), "no writer makes arrays of maps"),
    ("1.x-handmade/attrs_int", Reads, "1.2 allows any attribute"),
    ("1.x-handmade/attrs_str", Reads, ""),
    ("1.x-handmade/crc_bad", FailsVerify(ErrorKind::Checksum), ""),
    ("1.x-handmade/crc_lower", Reads, ""),
    ("1.x-handmade/crc_ok", Reads, ""),
    ("1.x-handmade/csr_i32", Reads, "the component's type counts"),
    ("1.x-handmade/csr_i64", Reads, ""),
    ("1.x-handmade/csr_u32", Reads, ""),
    ("1.x-handmade/csr_u64", Reads, ""),
    ("1.x-handmade/digest_null", Reads, ""),
    (
        "1.x-handmade/dtype_complex64",
        Fails(ErrorKind::UnknownDtype),
        "no program writes this name: listed, read raw",
    ),
    ("1.x-handmade/dtype_f8_e4m3", Fails(ErrorKind::UnknownDtype), "as before"),
    ("1.x-handmade/dtype_float32", Fails(ErrorKind::UnknownDtype), "a name of 0.1 and 1.0 only"),
    ("1.x-handmade/dup_keys", Opens, "the last one counts"),
    ("1.x-handmade/enc_lz4", Fails(ErrorKind::UnknownEncoding), "listed, its stored bytes can be read"),
    ("1.x-handmade/enc_raw_explicit", Reads, ""),
    ("1.x-handmade/format_unknown", Fails(ErrorKind::UnknownLayout), "listed, its components can be read"),
    ("1.x-handmade/gap_before_manifest", Reads, ""),
    ("1.x-handmade/huge_shape", Refused(ErrorKind::Shape), "2^80 elements are in no file"),
    ("1.x-handmade/indefinite", Reads, ""),
    ("1.x-handmade/len_long", Refused(ErrorKind::Size), "28 bytes where the shape asks for 24"),
    ("1.x-handmade/len_short", Refused(ErrorKind::Size), "20 bytes where the shape asks for 24"),
    ("1.x-handmade/md5_unknown", Reads, "a checksum that nobody knows checks nothing"),
    ("1.x-handmade/misaligned", Refused(ErrorKind::Offset), "blobs stand at multiples of 64"),
    ("1.x-handmade/neg_shape", Refused(ErrorKind::Index), ""),
    (
        "1.x-handmade/no_tail_magic",
        Refused(ErrorKind::Index),
        "it looks like 1.0, whose index has other keys",
    ),
    ("1.x-handmade/no_version", Refused(ErrorKind::Index), ""),
    ("1.x-handmade/obj_attrs", Reads, ""),
    ("1.x-handmade/offset0", Refused(ErrorKind::Offset), "the signature is no data"),
    ("1.x-handmade/oob", Refused(ErrorKind::Offset), ""),
    ("1.x-handmade/overflow_off", Refused(ErrorKind::Offset), ""),
    ("1.x-handmade/overlap", Reads, ""),
    ("1.x-handmade/plain", Reads, ""),
    ("1.x-handmade/sha_bad", FailsVerify(ErrorKind::Checksum), ""),
    ("1.x-handmade/sha_ok", Reads, ""),
    ("1.x-handmade/sha_upper", Reads, ""),
    ("1.x-handmade/shape_mismatch", Refused(ErrorKind::Size), "7 elements in 6 elements' bytes"),
    ("1.x-handmade/trailing_cbor", Reads, "harmless, and 1.2 reads it"),
    ("1.x-handmade/uncompressed_length", Reads, ""),
    ("1.x-handmade/uncompressed_length_wrong", Refused(ErrorKind::Size), "it contradicts the shape"),
    ("1.x-handmade/unknown_key", Reads, ""),
    ("1.x-handmade/version_2", Reads, "the version is not looked at"),
    ("1.x-handmade/zstd_crc_decoded", Fails(ErrorKind::Checksum), "the checksum is of the stored bytes"),
    ("1.x-handmade/zstd_crc_stored", Reads, ""),
    ("1.x-handmade/zstd_garbage", Fails(ErrorKind::Frame), ""),
    ("1.x-handmade/zstd_long", Fails(ErrorKind::Frame), "48 bytes where 24 are asked for"),
    ("1.x-handmade/zstd_short", Fails(ErrorKind::Frame), "12 bytes; the rest is not made up"),
    ("1.x-handmade/zstd_two_frames", Reads, ""),
    (
        "2.x-handmade/baddig",
        FailsVerify(ErrorKind::Checksum),
        "whole shards are hashed when the file is verified",
    ),
    ("2.x-handmade/badsize", Refused(ErrorKind::Truncated), "the shard is not the one that was meant"),
    ("2.x-handmade/bool_dtype", Refused(ErrorKind::UnknownDtype), "bool is a logical type"),
    ("2.x-handmade/coo_dup", Fails(ErrorKind::Sparse), "of generation 2 an entry stands once"),
    ("2.x-handmade/coo_range", Fails(ErrorKind::Sparse), ""),
    ("2.x-handmade/dig_md5", Reads, "a checksum that nobody knows checks nothing"),
    ("2.x-handmade/empty_parts", Refused(ErrorKind::Index), ""),
    ("2.x-handmade/pad_nonzero", Reads, ""),
    ("2.x-handmade/sharded", Reads, ""),
    ("2.x-handmade/unknownkey", Reads, ""),
];

#[test]
fn each_file_made_by_hand_meets_its_fate() {
    let paths = files(true);
    let names: Vec<String> = paths.iter().map(|path| name_of(path)).collect();
    assert_eq!(
        names,
        TABLE.iter().map(|row| row.0).collect::<Vec<_>>(),
        "the table lists every file, sorted"
    );
    for (path, (name, fate, why)) in paths.iter().zip(TABLE) {
        for mode in [Mode::Mmap, Mode::Read] {
            let found = match open(path, mode, false) {
                Err(err) => Refused(err.kind()),
                Ok(reader) => match (read_all(&reader, false), reader.verify(|_, _| true)) {
                    (Err(err), _) => Fails(err.kind()),
                    (Ok(()), Err(err)) => FailsVerify(err.kind()),
                    (Ok(()), Ok(())) if *fate == Reads => Reads,
                    (Ok(()), Ok(())) => Opens,
                },
            };
            assert_eq!(found, *fate, "{name}: {why}");
        }
        if *fate == Reads {
            check_everywhere(path, &expected(path));
        }
    }
}
