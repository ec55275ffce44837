"""ztensor.h through cffi: no array package is needed, and every function of the header is there.

    python c_abi_cffi.py write FILE    python c_abi_cffi.py check FILE

The file has a dense, a compressed and a sparse tensor. `check` compares one that another language wrote.
"""

import os
import re
import sys

import cffi
import ztensor

ffi = cffi.FFI()
with open(os.path.join(ztensor.get_include(), "ztensor.h"), encoding="utf-8") as header:
    # cffi knows declarations and constants, but no preprocessor: every other line that begins with # goes, and the two
    # that say extern "C".
    ffi.cdef(re.sub(r'(?m)^(#(?!define ZT_).*|.*extern "C".*)$', "", header.read()))
lib = ffi.dlopen(ztensor.get_library())

if lib.zt_abi_version() != lib.ZT_ABI_VERSION:
    sys.exit("the header and the library do not belong together")


def check(status):
    if status:
        sys.exit(ffi.string(lib.zt_last_error_message()).decode())


def bfloat16(count):
    """1, 1.0078125, ..., 1.9921875 and again, as bits."""
    return ffi.new("uint16_t[]", [0x3F80 + i % 128 for i in range(count)])


BFLOAT16, FLOAT32, INT32, INT64 = lib.ZT_BFLOAT16, lib.ZT_FLOAT32, lib.ZT_INT32, lib.ZT_INT64
# Name, layout, shape, level, components.
TENSORS = [
    ("dense", lib.ZT_DENSE, [2, 4], 0, [(bfloat16(8), BFLOAT16)]),
    ("compressed", lib.ZT_DENSE, [256, 256], 3, [(bfloat16(65536), BFLOAT16)]),
    # 1 0 2
    # 0 3 0
    (
        "csr",
        lib.ZT_SPARSE_CSR,
        [2, 3],
        0,
        [
            (ffi.new("float[]", [1, 2, 3]), FLOAT32),
            (ffi.new("int32_t[]", [0, 2, 1]), INT32),
            (ffi.new("int64_t[]", [0, 2, 3]), INT64),
        ],
    ),
]


def write(path):
    out = ffi.new("ZtWriter **")
    check(lib.zt_writer_create(os.fsencode(path), lib.ZT_FSYNC_AUTO, 0, b'{"language": "Python"}', out))
    writer = ffi.gc(out[0], lib.zt_writer_free)
    for name, layout, shape, level, components in TENSORS:
        # What a struct points to has to be kept until the call, by a name of its own.
        text, dimensions = ffi.from_buffer(name.encode()), ffi.new("uint64_t[]", shape)
        parts = ffi.new("ZtComponentSpec[]", len(components))
        for part, (data, dtype) in zip(parts, components):
            part.data, part.len, part.dtype = data, ffi.sizeof(data), dtype
        tensor = ffi.new("ZtTensorSpec *")
        tensor.name, tensor.name_len = text, len(text)
        tensor.shape, tensor.ndim = dimensions, len(shape)
        tensor.components, tensor.component_count = parts, len(parts)
        tensor.dtype, tensor.layout, tensor.level = parts[0].dtype, layout, level
        check(lib.zt_writer_add(writer, tensor, 1))
    check(lib.zt_writer_finish(writer))


def compare(path):
    out = ffi.new("ZtReader **")
    check(lib.zt_reader_open(os.fsencode(path), lib.ZT_READ_MMAP, 0, out))
    reader = ffi.gc(out[0], lib.zt_reader_free)
    number, buffer = ffi.new("size_t *"), ffi.new("ZtBuffer **")
    for name, layout, shape, _, components in TENSORS:
        check(lib.zt_reader_find(reader, name.encode(), number))
        tensor, parts = ffi.new("ZtTensor *"), ffi.new("ZtComponent[3]")
        check(lib.zt_reader_describe(reader, number[0], tensor, parts, 3))
        assert tensor.layout == layout and ffi.unpack(tensor.shape, tensor.ndim) == shape, name
        for at, (data, dtype) in enumerate(components):
            check(lib.zt_reader_read(reader, number[0], at, lib.ZT_VERIFY_ON, buffer))
            read = ffi.gc(buffer[0], lib.zt_buffer_free)
            found = ffi.buffer(lib.zt_buffer_data(read), lib.zt_buffer_len(read))
            assert parts[at].dtype == dtype and bytes(found) == bytes(ffi.buffer(data)), (name, at)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "check"):
        sys.exit(__doc__)
    {"write": write, "check": compare}[sys.argv[1]](sys.argv[2])
