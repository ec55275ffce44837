#!/usr/bin/env python3
"""Writes tests/data/reject: files that each break one rule of docs/FORMAT.md, and list.txt, which says how.

A line of list.txt is: file, TAB, the ErrorKind that opening, reading and verifying must end in, TAB, what is
wrong. Files named ok-* break no rule; their kind is "Ok". The third field begins with `tensor "bad": ` where the
error must name the tensor.

Only FORMAT.md was followed here, and nothing of the library is used: the two must agree with the format, not
with each other.
"""

import argparse
import struct
import zlib
from pathlib import Path

SIGNATURE = b"\x89ZTM\r\n\x1a\n"
CHUNK = 64 * 1024
MASK = 2**64 - 1


# --- MessagePack -----------------------------------------------------------------------------------------------


class Raw(bytes):
    """Bytes that stand in the MessagePack as they are."""


class Pairs(list):
    """A map, as pairs, so that a key can stand twice."""


def pack(value):
    if isinstance(value, Raw):
        return bytes(value)
    if value is None or isinstance(value, bool):
        return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
    if isinstance(value, int):
        if 0 <= value < 128:
            return bytes([value])
        return struct.pack(">Bq", 0xD3, value) if value < 0 else struct.pack(">BQ", 0xCF, value)
    if isinstance(value, float):
        return struct.pack(">Bd", 0xCB, value)
    if isinstance(value, bytes):
        return struct.pack(">BI", 0xC6, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return head(0xA0, 32, 0xDB, len(text)) + text
    if isinstance(value, dict):
        value = Pairs(value.items())
    if isinstance(value, Pairs):
        return head(0x80, 16, 0xDF, len(value)) + b"".join(pack(key) + pack(item) for key, item in value)
    return head(0x90, 16, 0xDD, len(value)) + b"".join(map(pack, value))


def head(short, limit, long, count):
    return bytes([short | count]) if count < limit else struct.pack(">BI", long, count)


# --- zstd frames (RFC 8878) ------------------------------------------------------------------------------------


def xxh64(data):
    p1, p2, p3 = 11400714785074694791, 14029467366897019727, 1609587929392839161
    p4, p5 = 9650029242287828579, 2870177450012600261
    rotl = lambda x, r: (x << r | x >> (64 - r)) & MASK
    step = lambda acc, lane: rotl((acc + lane * p2) & MASK, 31) * p1 & MASK
    stripes = len(data) // 32 * 32
    if stripes:
        accs = [(p1 + p2) & MASK, p2, 0, -p1 & MASK]
        for lanes in struct.iter_unpack("<4Q", data[:stripes]):
            accs = list(map(step, accs, lanes))
        h = sum(map(rotl, accs, (1, 7, 12, 18))) & MASK
        for acc in accs:
            h = ((h ^ step(0, acc)) * p1 + p4) & MASK
    else:
        h = p5
    h = (h + len(data)) & MASK
    at = stripes
    while at + 8 <= len(data):
        h = (rotl(h ^ step(0, struct.unpack_from("<Q", data, at)[0]), 27) * p1 + p4) & MASK
        at += 8
    if at + 4 <= len(data):
        h = (rotl(h ^ struct.unpack_from("<I", data, at)[0] * p1 & MASK, 23) * p2 + p3) & MASK
        at += 4
    for byte in data[at:]:
        h = rotl(h ^ byte * p5 & MASK, 11) * p1 & MASK
    h = (h ^ h >> 33) * p2 & MASK
    h = (h ^ h >> 29) * p3 & MASK
    return h ^ h >> 32


def block(content, kind=None):
    """The one and last block of a frame: raw, or where all bytes are equal the byte and a count."""
    if kind is None:
        kind = 1 if len(content) > 1 and len(set(content)) == 1 else 0
    body = content[:1] if kind == 1 else content
    return struct.pack("<I", 1 | kind << 1 | len(content) << 3)[:3] + body


def frame(
    content, *, magic=0xFD2FB528, bits=0, window=None, dictionary=b"", states=..., field=4, body=None, checksum=...
):
    """A frame of one block.

    `window`: the descriptor's byte; without it the content is one segment. `states`: the content size in the
    header, None for none, in `field` bytes. `checksum`: None for none.
    """
    states = len(content) if states is ... else states
    checksum = xxh64(content) & 0xFFFFFFFF if checksum is ... else checksum
    descriptor = bits | (checksum is not None) << 2 | (window is None) << 5
    size = b""
    if states is not None:
        descriptor |= {1: 0, 2: 1, 4: 2, 8: 3}[field] << 6
        size = (states - 256 * (field == 2)).to_bytes(field, "little")
    out = struct.pack("<IB", magic, descriptor)
    out += b"" if window is None else bytes([window])
    out += dictionary + size
    out += block(content) if body is None else body
    return out + (b"" if checksum is None else struct.pack("<I", checksum))


# --- files -----------------------------------------------------------------------------------------------------


class File:
    """A file in the making. What is not said otherwise is right."""

    def __init__(self):
        self.body = bytearray(SIGNATURE.ljust(64, b"\0"))
        self.tensors = []

    def blob(self, data):
        """Stores a blob and gives its place."""
        self.body += bytes(-len(self.body) % 64)
        self.body += data
        return len(self.body) - len(data)

    def component(self, role, dtype, data, encoding=None):
        return [role, dtype, self.blob(data), len(data), zlib.crc32(data), encoding]

    def finish(self, index=..., gap=0, reserved=b"", **footer):
        """The file's bytes. `index` replaces the index, by bytes or by a value; `gap` bytes go before it."""
        index = {"tensors": self.tensors} if index is ... else index
        index = index if isinstance(index, bytes) else pack(index)
        body = bytes(self.body) + bytes(-len(self.body) % 64 + gap)
        fields = {
            "index_offset": len(body),
            "index_size": len(index),
            "file_size": len(body) + len(index) + 64,
            "index_crc32": zlib.crc32(index),
            "version": 1,
        }
        fields.update(footer)
        packed = struct.pack("<QQQII20s", *fields.values(), reserved)
        return body + index + packed + struct.pack("<I", zlib.crc32(packed)) + SIGNATURE


def patched(record, changes):
    """The record with some positions replaced; one past the end is added."""
    record = list(record)
    for at, value in changes.items():
        record[at : at + 1] = [value]
    return record


def single(layout, dtype, shape, parts, attributes=None, record={}, changes={}):
    """A file of the one tensor "bad".

    `parts`: role, type, data and encoding of each component. `record` replaces positions of the tensor record,
    `changes` those of the component record of each number.
    """
    file = File()
    components = [patched(file.component(*part), changes.get(at, {})) for at, part in enumerate(parts)]
    file.tensors.append(patched(["bad", dtype, shape, layout, components, attributes], record))
    return file.finish()


DATA = bytes(range(1, 9))


def dense(record={}, part={}, dtype="uint8", shape=[8]):
    return single("dense", dtype, shape, [("data", dtype, DATA)], record=record, changes={0: part})


CONTENT = bytes(range(100, 200))


def compressed(frames=None, content=CONTENT, dtype="uint8", width=1, record={}, part={}, encoding={}):
    frames = [frame(content)] if frames is None else frames
    record_of_encoding = patched(["zstd", "none", len(content), CHUNK, [len(f) for f in frames]], encoding)
    parts = [("data", dtype, b"".join(frames), record_of_encoding)]
    return single("dense", dtype, [len(content) // width], parts, record=record, changes={0: part})


FORMATS = {"float32": "f", "int64": "q", "int32": "i", "int8": "b", "uint64": "Q", "uint16": "H", "uint8": "B"}


def numbers(dtype, values):
    return struct.pack(f"<{len(values)}{FORMATS[dtype]}", *values)


COMPRESSED_AXES = {"values": [1, 2, 3], "indices": [0, 2, 1], "indptr": [0, 2, 3]}
BLOCKS = {"values": list(range(12)), "indices": [0, 2, 1], "indptr": [0, 2, 3]}
# Shape, blocksize and components of a small matrix of three stored entries.
SPARSE = {
    "csr": ([2, 3], None, COMPRESSED_AXES),
    "csc": ([3, 2], None, COMPRESSED_AXES),
    "coo": ([2, 3], None, {"values": [1, 2, 3], "indices": [0, 0, 1, 0, 2, 1]}),
    "bsr": ([4, 6], [2, 2], BLOCKS),
    "bsc": ([6, 4], [2, 2], BLOCKS),
}
SPARSE_DTYPES = {"values": "float32", "indices": "int32", "indptr": "int64"}


def sparse(layout, shape=None, attributes=..., dtypes={}, record={}, changes={}, order=None, **values):
    """A sparse tensor; `values` replaces those of a role, `dtypes` its type, `order` which roles are there."""
    default_shape, blocksize, parts = SPARSE[layout]
    if attributes is ...:
        attributes = blocksize and {"blocksize": blocksize}
    dtypes = {**SPARSE_DTYPES, **dtypes}
    parts = {**parts, **values}
    components = [(role, dtypes[role], numbers(dtypes[role], parts[role])) for role in order or parts]
    shape = default_shape if shape is None else shape
    return single(f"sparse_{layout}", "float32", shape, components, attributes, record, changes)


def two(part, size, dtype="uint8"):
    """Tensors "good", the first 128 of 192 zeros, and "bad", `size` zeros from there on or where `part` says."""
    file = File()
    at = file.blob(bytes(192))
    zeros = lambda dtype, size: ["data", dtype, at, size, zlib.crc32(bytes(size)), None]
    file.tensors.append(["good", "uint8", [128], "dense", [zeros("uint8", 128)]])
    file.tensors.append(["bad", dtype, [size], "dense", [patched(zeros(dtype, size), part)]])
    return file.finish()


# --- files that are right --------------------------------------------------------------------------------------


def controls():
    yield "dense", "one dense tensor", dense()
    yield "scalar", "no dimensions", dense(record={2: []}, dtype="int64")
    yield "rank-64", "64 dimensions", dense(shape=[8] + [1] * 63)
    yield "name-4096", "a name of 4096 bytes", dense({0: "x" * 4096})
    yield "no-tensors", "zero tensors", File().finish()
    yield "unknown-key", "a key that no reader knows", File().finish({"later": [{"a": 1}], "tensors": []})
    yield "unknown-tensor-position", "a position after attributes", dense({6: {"later": [1, 2]}})
    yield "unknown-component-position", "a position after encoding", dense(part={6: "later"})
    yield "unknown-encoding-position", "a position after the stored sizes", compressed(encoding={5: [None]})
    yield "short-records", "positions that may be left out", short_records()
    yield "crc-nil", "no checksum", dense(part={4: None})
    yield "crc-nil-compressed", "no checksum of a compressed blob", compressed(part={4: None})
    yield "empty-blob", "an empty blob at offset 0", dense({2: [3, 0]}, {2: 0, 3: 0, 4: 0})
    yield "empty-blob-compressed", "a chunk table of no chunks", compressed([], b"")
    yield "tied", "two tensors of one blob", two({}, 128)
    yield "tied-dtypes", "one blob as two element types", two({}, 128, "int8")
    yield "unsorted-blobs", "blobs in another order than the tensors", unsorted_blobs()
    yield "reserved", "reserved bytes of the footer that are not zero", File().finish(reserved=b"\xff" * 20)
    yield "appended", "an old index and an old footer before the last ones", appended()
    yield "metadata", "every type of value", File().finish(
        {"tensors": [], "metadata": {"a": [None, True, -1, 2**64 - 1, 1.5, "t", b"b", {"k": []}, Raw(b"\xd4\x05x")]}}
    )
    yield "metadata-63", "arrays inside the metadata stand 63 deep", File().finish(
        {"tensors": [], "metadata": {"k": deep(63)}}
    )
    yield "attributes-63", "maps inside the attributes stand 63 deep", dense({5: {"k": Raw(b"\x81\x01" * 62 + b"\x80")}})
    yield "shape-max", "dimensions of 2^63 - 1 and 0", dense({2: [2**63 - 1, 0]}, {3: 0, 4: 0})
    yield "empty-blob-inside", "an empty blob within another one", two({2: 128}, 0)
    for name, dtypes in FILTERS.items():
        yield f"filter-{name}", "pairs of the same elements, raw and filtered", filter_pairs(name, dtypes)
    yield "chunks", "three chunks, content sizes in 2, 8 and 1 bytes", compressed(
        [frame(b"\7" * CHUNK, field=2), frame(b"\7" * CHUNK, field=8), frame(CONTENT, field=1)],
        b"\7" * 2 * CHUNK + CONTENT,
    )
    yield "chunks-again", "six chunks, of which two are the same as those before", compressed(
        [frame(b"\7" * CHUNK), b"", frame(b"\1" * CHUNK), b"", b"", frame(CONTENT)],
        b"\7" * 2 * CHUNK + b"\1" * 3 * CHUNK + CONTENT,
    )
    yield "chunk-16-mib", "the largest size of chunks", compressed(encoding={3: 2**24})
    yield "window", "a frame of several segments, with the smallest window", compressed([frame(CONTENT, window=0)])
    for layout in SPARSE:
        yield f"sparse-{layout}", f"a sparse_{layout} tensor", sparse(layout)
    yield "sparse-empty", "no stored entries", sparse("csr", values=[], indices=[], indptr=[0, 0, 0])
    yield "sparse-no-rows", "no rows", sparse("csr", [0, 3], values=[], indices=[], indptr=[0])
    yield "sparse-coo-1d", "coordinates of one dimension", sparse("coo", [3], indices=[2, 0, 1])
    for dtype in ("uint8", "int8", "uint16", "uint64"):
        yield f"sparse-{dtype}", f"indices of {dtype}", sparse("csr", dtypes={"indices": dtype, "indptr": dtype})


# The element types that each filter is tried on, and the width that the filter sees.
WIDTHS = {"uint8": 1, "bfloat16": 2, "float32": 4, "int64": 8, "complex64": 4, "complex128": 8}
FILTERS = {
    "none": WIDTHS,
    "shuffle": WIDTHS,
    "float": [dtype for dtype, width in WIDTHS.items() if width > 1],
    "delta": WIDTHS,
}


def filtered(name, width, data):
    """FORMAT.md section 5.1, word by word."""
    if name == "none":
        return data
    bits = 8 * width
    mask = (1 << bits) - 1
    words = [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width)]
    if name == "float":
        words = [(word << 1 | word >> (bits - 1)) & mask for word in words]
    elif name == "delta":
        differences = [(word - before) & mask for word, before in zip(words, [0] + words)]
        signed = [d - (d >> (bits - 1) << bits) for d in differences]
        words = [((d << 1) ^ (d >> (bits - 1))) & mask for d in signed]
    return b"".join(bytes(word >> 8 * byte & 0xFF for word in words) for byte in range(width))


def filter_pairs(name, dtypes):
    file = File()
    data = bytes(at * at * 7 >> 3 & 0xFF for at in range(320))
    for dtype in dtypes:
        stored = frame(filtered(name, WIDTHS[dtype], data))
        encoding = ["zstd", name, len(data), CHUNK, [len(stored)]]
        size = WIDTHS[dtype] * (2 if dtype.startswith("complex") else 1)
        for label, component in (
            ("raw", file.component("data", dtype, data)),
            ("filtered", file.component("data", dtype, stored, encoding)),
        ):
            file.tensors.append([f"{label} {dtype}", dtype, [len(data) // size], "dense", [component]])
    return file.finish()


def short_records():
    file = File()
    file.tensors.append(["bad", "uint8", [8], "dense", [file.component("data", "uint8", DATA)[:5]]])
    return file.finish()


def unsorted_blobs():
    file = File()
    components = [file.component("data", "uint8", DATA) for _ in range(3)]
    file.tensors = [[f"t{at}", "uint8", [8], "dense", [components[at]]] for at in (2, 0, 1)]
    return file.finish()


def appended():
    file = File()
    file.tensors.append(["old", "uint8", [8], "dense", [file.component("data", "uint8", DATA)]])
    file.body[:] = file.finish()
    file.tensors.append(["new", "uint8", [8], "dense", [file.component("data", "uint8", DATA)]])
    return file.finish()


# --- what the file as a whole gets wrong -----------------------------------------------------------------------


def container():
    good = dense()
    body = len(File().body)
    yield "empty", "Signature", "the file is empty", b""
    yield "head-short", "Signature", "the file ends within the first signature", SIGNATURE[:5]
    yield "head-signature", "Signature", "the first signature is another one", b"\x88" + good[1:]
    for newline, name in (b"\n", "lf"), (b"\r", "cr"):
        yield f"head-newlines-{name}", "Signature", f"all newlines became {name.upper()}", good.replace(b"\r\n", newline)
    yield "head-newlines-crlf", "Signature", "all newlines became CR LF", good.replace(b"\n", b"\r\n")
    yield "head-7-bits", "Signature", "the high bits were stripped", bytes(byte & 127 for byte in good)
    yield "head-utf8", "Signature", "Latin-1 was converted to UTF-8", good.decode("latin-1").encode()
    yield "git-lfs", "Signature", "a Git LFS pointer", (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    )
    yield "html", "Signature", "an HTML page", b"\xef\xbb\xbf\r\n<!doctype HTML>\n<title>404</title>"
    yield "xml", "Signature", "an error message in XML", b'<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code></Error>'
    yield "json", "Signature", "an error message in JSON", b'{"error": "not found"}'
    yield "text", "Signature", "text", b"Entry not found"
    yield "gzip", "Signature", "compressed with gzip", b"\x1f\x8b\x08" + bytes(61)
    yield "zeros", "Signature", "zeros alone", bytes(4096)
    yield "short-signature", "Truncated", "the file is a signature alone", SIGNATURE
    yield "short", "Truncated", "127 bytes, less than head and footer", good[:63] + good[-64:]
    yield "tail-signature", "Truncated", "the last signature is another one", good[:-1] + b"\x0b"
    yield "cut-byte", "Truncated", "the last byte is missing", good[:-1]
    yield "cut-footer", "Truncated", "the footer is missing", good[:-64]
    yield "cut-middle", "Truncated", "bytes are missing before the footer", good[:64] + good[128:]
    yield "longer-byte", "Truncated", "a byte follows the footer", good + b"\0"
    yield "longer-file", "Truncated", "a second file follows the footer", good + good
    yield "longer-front", "Truncated", "64 bytes stand before the file", good[:64] + good
    size = len(File().finish())
    yield "file-size", "Truncated", "file_size is one too small", File().finish(file_size=size - 1)
    yield "file-size-large", "Truncated", "file_size is one too large", File().finish(file_size=size + 1)
    damaged = bytearray(good)
    damaged[-20] ^= 1
    yield "footer-crc", "Footer", "footer_crc32 does not match", bytes(damaged)
    yield "version-2", "Version", "version 2", File().finish(version=2)
    yield "version-0", "Version", "version 0", File().finish(version=0)
    yield "index-misaligned", "Footer", "index_offset is no multiple of 64", File().finish(gap=8)
    yield "index-in-head", "Footer", "index_offset lies before 64", File().finish(index_offset=0)
    yield "index-beyond", "Footer", "index_offset lies beyond the end", File().finish(index_offset=4096)
    yield "index-in-footer", "Footer", "the index reaches into the footer", File().finish(index_size=body)
    yield "index-overflow", "Footer", "index_offset + index_size passes 2^64", File().finish(
        index_offset=2**64 - 64, index_size=128
    )
    yield "index-crc", "IndexChecksum", "index_crc32 does not match", File().finish(index_crc32=1)


DEPTH = 100_000


def deep(levels):
    """Arrays inside each other."""
    return Raw(b"\x91" * (levels - 1) + b"\x90")


def index():
    """What is wrong with the index before any tensor has a name."""

    def of(what, value):
        return "Index", what, File().finish(value)

    yield "index-empty", *of("the index has no bytes", b"")
    yield "index-json", *of("the index is JSON", b'{"tensors": []}')
    yield "index-reserved", *of("the index is MessagePack's one reserved byte", b"\xc1")
    yield "index-cut", *of("the index ends within its map", pack({"tensors": []})[:-1])
    for name in MAP:
        yield f"index-{name}", *of(f"the index is of type {name}", pack(WRONG[name]))
    yield "index-key", *of("a key of the index is no text", Pairs([(7, []), ("tensors", [])]))
    yield "index-nested", *of(f"the index is an array {DEPTH} deep", b"\x91" * DEPTH + b"\x90")
    nested = deep(DEPTH + 1)
    yield "index-nested-unknown", *of(f"an unknown key's value is {DEPTH} deep", {"tensors": [], "later": nested})
    yield "index-nested-metadata", *of(f"metadata is {DEPTH} deep", {"tensors": [], "metadata": {"k": nested}})
    yield "index-trailing", *of("a nil follows the map", pack({"tensors": []}) + b"\xc0")
    yield "index-trailing-cut", *of("an array that is cut short follows the map", pack({"tensors": []}) + b"\x91")
    yield "index-no-tensors", *of('the key "tensors" is missing', {"metadata": {}})
    yield "index-tensors-twice", *of('the key "tensors" stands twice', Pairs([("tensors", [])] * 2))
    twice = Pairs([("tensors", []), ("metadata", {}), ("metadata", {})])
    yield "index-metadata-twice", *of('the key "metadata" stands twice', twice)
    for name in ARRAY:
        yield f"tensors-{name}", *of(f'"tensors" is of type {name}', {"tensors": WRONG[name]})
        yield f"tensor-{name}", *of(f"a tensor record is of type {name}", {"tensors": [WRONG[name]]})
    yield "tensor-empty", *of("a tensor record ends before its name", {"tensors": [[]]})
    for name in all_but("nil", "map"):
        yield f"metadata-{name}", *of(f'"metadata" is of type {name}', {"tensors": [], "metadata": WRONG[name]})
    yield "metadata-key", *of("a key of the metadata is no text", {"tensors": [], "metadata": {1: 2}})
    key_twice = Pairs([("k", 1), ("k", 2)])
    key = "a"
    for _ in range(40):
        key = Pairs([(key, 1)])
    yield "metadata-key-map", *of("keys inside the metadata are maps, 40 deep", {"tensors": [], "metadata": {"k": key}})
    yield "metadata-key-twice", *of("a key of the metadata stands twice", {"tensors": [], "metadata": key_twice})
    inside = {"tensors": [], "metadata": {"k": [key_twice]}}
    yield "metadata-inner-key-twice", *of("a key of a map inside the metadata stands twice", inside)
    spelled = {"tensors": [], "metadata": {"k": Pairs([(1, 2), ("1", 3)])}}
    yield "metadata-inner-key-spelled", *of("the keys 1 and \"1\" of a map inside the metadata", spelled)
    yield "metadata-64", *of("arrays inside the metadata stand 64 deep", {"tensors": [], "metadata": {"k": deep(64)}})
    for name, claim in {"array": "dd", "map": "df", "text": "db", "binary": "c6", "extension": "c9"}.items():
        huge = Raw(bytes.fromhex(claim) + b"\xff" * 4)
        what = f"a value of type {name} claims 2^32 - 1 entries that are not there"
        yield f"claim-{name}", *of(what, {"tensors": [], "metadata": {"k": huge}})
    yield "claim-tensors", *of("2^32 - 1 tensors that are not there", {"tensors": Raw(b"\xdd" + b"\xff" * 4)})
    yield from wrong_types("tensor", TENSOR[:1], lambda changes: dense(changes))


# --- what a tensor gets wrong ----------------------------------------------------------------------------------

WRONG = {
    "nil": None,
    "true": True,
    "int": 7,
    "negative": -7,
    "float": 1.5,
    "text": "x",
    "binary": b"x",
    "array": [],
    "map": {},
    "extension": Raw(b"\xd4\x05x"),
    "not-utf8": Raw(b"\xa2\xff\xfe"),
    "over-32-bits": 2**32,
}


def all_but(*right):
    """Every type of MessagePack but these."""
    return tuple(name for name in WRONG if name not in (*right, "not-utf8", "over-32-bits"))


TEXT = (*all_but("text"), "not-utf8")
UINT = all_but("int")
UINT_32 = (*UINT, "over-32-bits")
ARRAY = all_but("array")
MAP = all_but("map")
# The fields of each record, and of which types they must not be.
TENSOR = [
    ("name", TEXT),
    ("dtype", TEXT),
    ("shape", ARRAY),
    ("layout", TEXT),
    ("components", ARRAY),
    ("attributes", all_but("nil", "map")),
]
COMPONENT = [
    ("role", TEXT),
    ("dtype", TEXT),
    ("offset", UINT),
    ("size", UINT),
    ("crc32", (*all_but("nil", "int"), "over-32-bits")),
    ("encoding", all_but("nil", "array")),
]
ENCODING = [
    ("name", TEXT),
    ("filter", TEXT),
    ("raw-size", UINT),
    ("chunk-size", UINT_32),
    ("stored-sizes", ARRAY),
]


def wrong_types(record, fields, build, first=0):
    """A file for each type that a field of a record must not have; `build` makes it from a change of positions."""
    for at, (field, wrong) in enumerate(fields, first):
        for name in wrong:
            what = f"{field} of a {record} record is of type {name}"
            yield f"{record}-{field}-{name}", "Index", what, build({at: WRONG[name]})


def structure():
    def of(what, data):
        return "Index", what, data

    component = ["data", "uint8", 64, 8, None]
    coding = ["zstd", "none", 100, CHUNK, [100]]
    yield from wrong_types("tensor", TENSOR[1:], lambda changes: dense(changes), 1)
    yield from wrong_types("component", COMPONENT, lambda changes: dense(part=changes))
    yield from wrong_types("encoding", ENCODING, lambda changes: compressed(encoding=changes))
    for name in UINT:
        yield f"dimension-{name}", *of(f"a dimension is of type {name}", dense({2: [8, WRONG[name]]}))
    for name in UINT_32:
        changes = {4: [WRONG[name]]}
        yield f"stored-size-{name}", *of(f"a stored size is of type {name}", compressed(encoding=changes))
    for name in ARRAY:
        yield f"component-{name}", *of(f"a component record is of type {name}", dense({4: [WRONG[name]]}))
    yield "attributes-key", *of("a key of the attributes is no text", dense({5: {1: 2}}))
    yield "attributes-key-twice", *of(
        "a key of the attributes stands twice", dense({5: Pairs([("k", 1), ("k", 2)])})
    )
    yield "attributes-nested", *of(
        f"an attribute is {DEPTH} deep", dense({5: {"k": deep(DEPTH + 1)}})
    )
    yield "attributes-inner-key-twice", *of(
        "a key of a map inside the attributes stands twice", dense({5: {"k": Pairs([("k", 1), ("k", 2)])}})
    )
    yield "attributes-64", *of(
        "maps inside the attributes stand 64 deep", dense({5: {"k": Raw(b"\x81\x01" * 63 + b"\x80")}})
    )
    yield "unknown-dtype-nul", *of("the name of the element type holds a NUL", dense({1: "l\0ter"}))
    for count in range(1, 5):
        short = File().finish({"tensors": [["bad", "uint8", [8], "dense"][:count]]})
        yield f"tensor-short-{count}", *of(f"the tensor record ends after {count} positions", short)
    for count in range(5):
        what = f"the component record ends after {count} positions"
        yield f"component-short-{count}", *of(what, dense({4: [component[:count]]}))
        what = f"the encoding record ends after {count} positions"
        yield f"encoding-short-{count}", *of(what, compressed(part={5: coding[:count]}))
    claim = Raw(b"\xdd" + b"\xff" * 4)
    # Each is the last in its record and the file's one tensor, so that the index ends behind the claim.
    for name, tensor in {
        "shape": ["bad", "uint8", claim],
        "components": ["bad", "uint8", [8], "dense", claim],
        "stored-sizes": ["bad", "uint8", [100], "dense", [component + [coding[:4] + [claim]]]],
    }.items():
        what = f"{name} claims 2^32 - 1 entries that are not there"
        yield f"claim-{name}", *of(what, File().finish({"tensors": [tensor]}))


def names_and_shapes():
    yield "name-empty", "Name", "the name is empty", dense({0: ""})
    yield "name-4097", "Name", "the name has 4097 bytes", dense({0: "x" * 4097})
    yield "name-nul", "Name", "the name holds a NUL", dense({0: "b\0d"})
    record = ["bad", "uint8", [0], "dense", [["data", "uint8", 64, 0, 0]]]
    yield "name-twice", "Duplicate", "two tensors have this name", File().finish({"tensors": [record, record]})
    yield "rank-65", "Shape", "65 dimensions", dense({2: [8] + [1] * 64})
    yield "shape-2-63", "Shape", "2^63 elements", dense({2: [2**63]})
    yield "shape-product", "Shape", "a product of 2^63", dense({2: [2**62, 2]})
    yield "shape-zero", "Shape", "a product of 2^64 beside a dimension of 0", dense({2: [0, 2**62, 4]}, {3: 0, 4: 0})
    yield "shape-overflow", "Shape", "a product that wraps to 8 in 64 bits", dense({2: [8, 3, pow(3, -1, 2**61)]})


def places():
    def misplaced(what, offset, size=8, **more):
        return "Offset", what, dense({2: [size]}, {2: offset, 3: size, 4: None}, **more)

    end = len(misplaced("", 2**16, 2**16)[2])
    yield "offset-misaligned", *misplaced("a blob at no multiple of 64", 72)
    yield "offset-head", *misplaced("a blob before offset 64", 0)
    yield "offset-beyond", *misplaced("a blob beyond the end of the file", 2**20)
    yield "offset-crosses-end", *misplaced("a blob that reaches beyond the end of the file", 64, end)
    yield "offset-in-index", *misplaced("a blob that begins with the index", 128)
    yield "offset-into-index", *misplaced("a blob that reaches into the index", 64, 65)
    yield "offset-into-footer", *misplaced("a blob that reaches into the footer", 64, end - 64)
    yield "offset-overflow", *misplaced("offset + size is 2^64", 2**64 - 64, 64)
    yield "offset-overflow-more", *misplaced("offset + size wraps into the file", 2**64 - 64, 136)
    yield "offset-empty", *misplaced("an empty blob beyond the end of the file", 2**20, 0)
    yield "offset-empty-misaligned", *misplaced("an empty blob at no multiple of 64", 65, 0)
    yield "overlap-end", "Overlap", "a blob begins within another", two({2: 128}, 64)
    yield "overlap-inside", "Overlap", "a blob lies within another", two({2: 128}, 16)
    yield "overlap-across", "Overlap", "a blob begins within another and ends after it", two({2: 128}, 128)
    yield "overlap-start", "Overlap", "two blobs begin together and end apart", two({}, 64)
    yield "overlap-crc", "Overlap", "the same blob with another checksum", two({4: 1}, 128)
    yield "overlap-crc-nil", "Overlap", "the same blob with and without a checksum", two({4: None}, 128)
    encoding = ["zstd", "none", 128, CHUNK, [128]]
    yield "overlap-encoding", "Overlap", "the same blob in two encodings", two({5: encoding}, 128)
    overlapping = sparse("csr", changes={2: {2: 128}})
    yield "overlap-components", "Overlap", "two components of a tensor overlap", overlapping


def layouts():
    data = ["data", "uint8", 64, 8, None]
    all_roles = ["values", "indices", "indptr"]
    yield "layout-no-component", "Layout", "a dense tensor of no component", dense({4: []})
    yield "layout-second-component", "Layout", "a dense tensor of two components", dense({4: [data, data]})
    yield "layout-role", "Layout", "a dense tensor's component is called values", dense(part={0: "values"})
    yield "layout-role-unknown", "Layout", "a dense tensor's component is called later", dense(part={0: "later"})
    yield "layout-dtype", "Layout", "tensor and component are of different types", dense({1: "int8"})
    for layout in ("csr", "csc", "bsr", "bsc"):
        cut, swapped = all_roles[:2], all_roles[::2] + all_roles[1:2]
        yield f"layout-{layout}-cut", "Layout", "indptr is missing", sparse(layout, order=cut)
        yield f"layout-{layout}-swapped", "Layout", "indptr stands before indices", sparse(layout, order=swapped)
        yield f"layout-{layout}-1d", "Layout", "one dimension", sparse(layout, [4])
        yield f"layout-{layout}-3d", "Layout", "three dimensions", sparse(layout, SPARSE[layout][0] + [1])
        yield f"size-{layout}-indices", "Size", "an index is missing", sparse(layout, indices=[0, 2])
        yield f"size-{layout}-indptr", "Size", "indptr has a value too many", sparse(layout, indptr=[0, 2, 3, 3])
    yield "layout-coo-cut", "Layout", "indices are missing", sparse("coo", order=["values"])
    yield "layout-coo-indptr", "Layout", "coordinates with an indptr", sparse("coo", indptr=[0])
    yield "layout-coo-scalar", "Layout", "coordinates of no dimensions", sparse("coo", [], indices=[])
    for role in ("indices", "indptr"):
        floats = sparse("csr", dtypes={role: "float32"})
        yield f"layout-{role}-float", "Layout", f"{role} are floating-point", floats
    narrow = {"dtypes": {"indices": "int8"}}
    yield "layout-indices-bool", "Layout", "indices are bools", sparse("csr", changes={1: {1: "bool"}}, **narrow)
    other = sparse("csr", record={1: "int32"})
    yield "layout-values-dtype", "Layout", "tensor and values are of different types", other
    for layout in ("bsr", "bsc"):
        for name, attributes in {
            "missing": None,
            "zero": {"blocksize": [0, 2]},
            "not-dividing": {"blocksize": [2, 4]},
            "longer": {"blocksize": [2, 2, 1]},
            "negative": {"blocksize": [-2, 2]},
            "text": {"blocksize": "2x2"},
        }.items():
            what = f"the attribute blocksize is {name}"
            if layout == "bsr" or name in ("missing", "zero"):
                yield f"blocksize-{layout}-{name}", "Layout", what, sparse(layout, [4, 6], attributes)
        yield f"size-{layout}-values", "Size", "values are no whole blocks", sparse(layout, values=[0.0] * 11)
    # A dimension of 0 keeps the number of elements within bounds, but not the product of a block's sides.
    huge = {"blocksize": [2**62, 4]}
    yield "blocksize-overflow", "Layout", "a block of 2^64 elements", sparse("bsr", [0, 4], huge, indptr=[0])
    yield "size-short", "Size", "a byte less than the shape asks for", dense({2: [9]})
    yield "size-long", "Size", "a byte more than the shape asks for", dense({2: [7]})
    yield "size-scalar", "Size", "8 bytes for a scalar of one", dense({2: []})
    yield "size-empty", "Size", "8 bytes for no elements", dense({2: [8, 0]})
    yield "size-overflow", "Size", "2^64 bytes of elements", dense({2: [2**61]}, dtype="int64")
    cut = sparse("csr", changes={0: {3: 11, 4: None}})
    yield "size-values", "Size", "values end within an element", cut
    most = sparse("csr", [2**63 - 1, 0], values=[], indices=[])
    yield "size-rows-max", "Size", "2^63 - 1 rows, of which indptr has two", most
    yield "size-coo", "Size", "coordinates of one dimension are missing", sparse("coo", indices=[0, 0, 1])
    transposed = SPARSE["csr"][0]
    yield "size-csc-rows", "Size", "indptr runs over rows, not columns", sparse("csc", transposed)
    # The rule on dimensions needs no component's type, so an unknown one does not excuse breaking it.
    yield "layout-csr-scalar", "Layout", "no dimensions, and values of an unknown type", sparse(
        "csr", [], changes={0: {1: "later"}}
    )


def encodings():
    def of(what, encoding, **more):
        return "Encoding", what, compressed(encoding=encoding, **more)

    size = len(frame(CONTENT))
    yield "chunk-size-power", *of("the size of chunks is no power of two", {3: 3 * CHUNK})
    yield "chunk-size-zero", *of("chunks of 0 bytes", {3: 0})
    yield "chunk-size-small", *of("chunks of 32 KiB", {3: CHUNK // 2})
    yield "chunk-size-large", *of("chunks of 128 MiB", {3: 2**27})
    yield "chunk-size-filtered", *of("chunks of 32 MiB with a filter", {1: "shuffle", 3: 2**25})
    yield "ok-chunk-size-max", "Ok", "chunks of 64 MiB", compressed(encoding={3: 2**26})
    yield "ok-chunk-size-filtered", "Ok", "chunks of 16 MiB with a filter", compressed(encoding={1: "shuffle", 3: 2**24})
    yield "chunks-none", *of("no chunk for 100 bytes", {4: []})
    yield "chunks-more", *of("a chunk more than the bytes need", {4: [size, 0]})
    yield "chunks-of-nothing", *of("a chunk for no bytes", {2: 0}, record={2: [0]})
    yield "chunks-raw-size", *of("one chunk for 2^62 bytes", {2: 2**62}, record={2: [2**62]})
    yield "chunks-raw-size-max", *of("one chunk for 2^64 - 1 bytes", {2: 2**64 - 1})
    yield "chunks-sum-small", *of("the stored sizes add up to a byte less", {4: [size - 1]})
    yield "chunks-sum-large", *of("the stored sizes add up to a byte more", {4: [size + 1]})
    yield "chunks-again-first", *of("the first chunk is to be the same as one before", {4: [0]}, part={3: 0, 4: 0})
    pages = {2: CHUNK + 100, 4: [size, 0]}
    yield "chunks-again-short", *of("100 bytes are to be the same as 64 KiB", pages, record={2: [CHUNK + 100]})
    for dtype in ("uint8", "bool", "float8_e5m2"):
        yield f"filter-float-{dtype}", *of(f"filter float on {dtype}", {1: "float"}, dtype=dtype)
    yield "raw-size-small", "Size", "raw_size is less than the shape asks for", compressed(encoding={2: 99})
    yield "raw-size-large", "Size", "raw_size is more than the shape asks for", compressed(encoding={2: 101})


def frames():
    """What only reading finds. The blobs' checksums are right, so that the frames must be looked at."""

    def of(what, *frames, content=CONTENT, **more):
        return "Frame", what, compressed(list(frames), content, **more)

    good = frame(CONTENT)
    zeros = bytes(CHUNK)
    fine, rest = frame(zeros), bytes(9)
    yield "frame-no-size", *of("no content size", frame(CONTENT, window=0, states=None))
    yield "frame-size-small", *of("a content size of 99", frame(CONTENT, states=99))
    yield "frame-size-large", *of("a content size of 2^32 - 1", frame(CONTENT, states=2**32 - 1))
    yield "frame-size-huge", *of("a content size of 2^64 - 1", frame(CONTENT, states=2**64 - 1, field=8))
    yield "frame-window", *of("a window of 128 MiB", frame(CONTENT, window=17 << 3))
    yield "frame-window-chunk", *of("a window of 1152 bytes for 100", frame(CONTENT, window=1))
    yield "frame-window-max", *of("the largest window", frame(CONTENT, window=0xFF))
    yield "frame-no-checksum", *of("no content checksum", frame(CONTENT, checksum=None))
    yield "frame-checksum", *of("another content checksum", frame(CONTENT, checksum=1))
    yield "frame-checksum-crc-nil", *of(
        "another content checksum, in a blob without one", frame(CONTENT, checksum=1), part={4: None}
    )
    yield "frame-magic", *of("another magic number", frame(CONTENT, magic=0xFD2FB527))
    yield "frame-dictionary", *of("a dictionary", frame(CONTENT, bits=1, dictionary=b"\7"))
    yield "frame-reserved-bit", *of("a reserved bit in the header", frame(CONTENT, bits=8))
    yield "frame-reserved-block", *of("a block of the reserved type", frame(CONTENT, body=block(CONTENT, 3)))
    yield "frame-content-small", *of("a byte less than the header says", frame(CONTENT, body=block(CONTENT[1:])))
    longer = frame(CONTENT, body=block(CONTENT + b"x"))
    yield "frame-content-large", *of("a byte more than the header says", longer)
    yield "frame-cut", *of("the frame lacks its last byte", good[:-1])
    yield "frame-cut-header", *of("the frame ends within its header", good[:6])
    yield "frame-longer", *of("a byte follows the frame", good + b"\0")
    yield "frame-second", *of("an empty second frame follows the first", good + frame(b""))
    yield "frame-skippable", *of("a skippable frame follows the first", good + struct.pack("<II", 0x184D2A50, 0))
    damaged = [fine, fine[:-1], frame(rest)]
    yield "frame-second-chunk", *of("the second of three is damaged", *damaged, content=zeros * 2 + rest)
    yield "frame-order", *of("the last chunk stands first", frame(rest), fine, content=zeros + rest)
    # A chunk's length is scratch memory that any reader may take, so it stays well below the test's limit.
    many, large, claim = 1000, 2**22, frame(CONTENT, states=2**22)
    yield "frame-many", *of(
        "1000 chunks of 4 MiB, of which a header alone is there",
        claim,
        *[b"x"] * (many - 1),
        encoding={2: many * large, 3: large},
        record={2: [many * large]},
    )
    yield "frame-claim", *of(
        "4 MiB of content, of which 100 bytes are there", claim, encoding={2: large, 3: large}, record={2: [large]}
    )
    crc = {4: 1}
    yield "checksum-raw", "Checksum", "a raw blob's checksum does not match", dense(part=crc)
    yield "checksum-compressed", "Checksum", "a compressed blob's checksum does not match", compressed(part=crc)
    yield "checksum-frame", "Checksum", "neither the blob's nor the frame's checksum matches", compressed(
        [frame(CONTENT, checksum=1)], part=crc
    )


def index_values():
    def of(what, layout, **more):
        return "Sparse", what, sparse(layout, **more)

    for layout in ("csr", "csc", "bsr", "bsc"):
        yield f"indptr-{layout}-start", *of("indptr starts at 1", layout, indptr=[1, 2, 3])
        # It starts and ends as it must, over a third row.
        longer = {"shape": [6, 6] if layout in ("bsr", "bsc") else [3, 3], "indptr": [0, 2, 1, 3]}
        yield f"indptr-{layout}-decreasing", *of("indptr decreases", layout, **longer)
        yield f"indptr-{layout}-short", *of("indptr ends before the last entry", layout, indptr=[0, 1, 2])
        yield f"indptr-{layout}-long", *of("indptr ends after the last entry", layout, indptr=[0, 2, 4])
        yield f"indices-{layout}-bound", *of("an index is the length of its dimension", layout, indices=[0, 2, 3])
        yield f"indices-{layout}-negative", *of("an index is negative", layout, indices=[0, -1, 1])
    yield "indptr-peak", *of("indptr rises over the last entry and falls back", "csr", indptr=[0, 4, 3])
    yield "indptr-negative", *of("indptr is negative", "csr", indptr=[0, -1, 3])
    huge = 2**64 - 1
    unsigned = {"dtypes": {"indices": "uint64", "indptr": "uint64"}}
    yield "indptr-huge", *of("indptr is 2^64 - 1", "csr", indptr=[0, huge, 3], **unsigned)
    yield "indices-huge", *of("an index is 2^64 - 1", "csr", indices=[0, huge, 1], **unsigned)
    yield "indices-empty-dimension", *of("an index into a dimension of 0", "csr", shape=[2, 0])
    yield "indices-coo-row", *of("a row outside the shape", "coo", indices=[0, 0, 2, 0, 2, 1])
    yield "indices-coo-column", *of("a column outside the shape", "coo", indices=[0, 0, 1, 0, 3, 1])
    yield "indices-coo-negative", *of("a negative coordinate", "coo", indices=[0, 0, 1, 0, -1, 1])


def unknown():
    """What is listed and can be read raw, but not as a tensor."""
    later = "later"
    yield "unknown-dtype", "UnknownDtype", "an unknown element type", dense(dtype=later)
    yield "unknown-dtype-sparse", "UnknownDtype", "values of an unknown type", sparse(
        "coo", record={1: later}, changes={0: {1: later}}
    )
    # No stored entries, but indices: what takes the number of entries from the values must not divide by it.
    yield "unknown-dtype-values", "UnknownDtype", "values alone are of an unknown type", sparse(
        "coo", values=[], changes={0: {1: later}}
    )
    yield "unknown-dtype-indices", "UnknownDtype", "indices of an unknown type", sparse(
        "csr", changes={1: {1: later}}
    )
    yield "unknown-layout", "UnknownLayout", "an unknown layout", dense({3: later}, {0: "parts"})
    yield "unknown-layout-empty", "UnknownLayout", "an unknown layout of no components", dense({3: later, 4: []})
    yield "unknown-encoding", "UnknownEncoding", "an unknown encoding", dense(part={5: [later, 1, {"a": 2}]})
    yield "unknown-encoding-values", "UnknownEncoding", "values in an unknown encoding", sparse(
        "coo", changes={0: {5: [later]}}
    )
    yield "unknown-filter", "UnknownEncoding", "an unknown filter", compressed(encoding={1: later})


def limits():
    """Section 6: what the format allows and this library does not take."""
    component = ["part", "uint8", 64, 0, 0]
    parts = {3: "later", 4: [component] * 255}
    yield "components-255", "UnknownLayout", "255 components of an unknown layout", dense(parts)
    parts = {3: "later", 4: [component] * 256}
    yield "components-256", "Limit", "256 components of an unknown layout", dense(parts)
    for field, at, kind in (("dtype", 1, "UnknownDtype"), ("layout", 3, "UnknownLayout")):
        yield f"unknown-{field}-256", kind, f"an unknown {field} whose name has 256 bytes", dense({at: "x" * 256})
        yield f"unknown-{field}-257", "Limit", f"an unknown {field} whose name has 257 bytes", dense({at: "x" * 257})
    part = {5: ["x" * 257]}
    yield "unknown-encoding-257", "Limit", "an unknown encoding whose name has 257 bytes", dense(part=part)
    yield "unknown-role-257", "Limit", "an unknown role whose name has 257 bytes", dense(part={0: "x" * 257})


TENSOR_SECTIONS = (
    structure,
    names_and_shapes,
    places,
    layouts,
    encodings,
    frames,
    index_values,
    unknown,
    limits,
)


def cases():
    for name, what, data in controls():
        yield f"ok-{name}", "Ok", what, data
    for section in (container, index):
        yield from section()
    for section in TENSOR_SECTIONS:
        for name, kind, what, data in section():
            yield name, kind, f'tensor "bad": {what}', data


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parent.parent / "tests/data/reject"
    parser.add_argument("--out", type=Path, default=default, help="the directory to write to")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.zt"):
        old.unlink()
    lines = []
    for name, kind, what, data in cases():
        path = out / f"{name}.zt"
        assert not path.exists(), f"two cases are called {name}"
        path.write_bytes(data)
        lines.append(f"{path.name}\t{kind}\t{what}\n")
    (out / "list.txt").write_bytes("".join(lines).encode())


if __name__ == "__main__":
    main()
