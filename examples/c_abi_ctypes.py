"""A few functions of ztensor.h through ctypes, which comes with Python: lists a file and sums a float32 tensor.

    python c_abi_ctypes.py FILE [TENSOR]
"""

import ctypes
import os
import sys

import ztensor

lib = ctypes.CDLL(ztensor.get_library())

# ctypes reads no header: what is used is declared here, as ztensor.h has it.
lib.zt_last_error_message.restype = ctypes.c_char_p
lib.zt_abi_version.restype = ctypes.c_uint32
lib.zt_reader_open.argtypes = (ctypes.c_char_p, ctypes.c_uint32, ctypes.c_size_t, ctypes.POINTER(ctypes.c_void_p))
lib.zt_reader_names.argtypes = (ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t))
lib.zt_reader_find.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_size_t))
lib.zt_reader_read.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_size_t,
    ctypes.c_int32,
    ctypes.POINTER(ctypes.c_void_p),
)
lib.zt_reader_free.argtypes = lib.zt_buffer_free.argtypes = (ctypes.c_void_p,)
lib.zt_reader_free.restype = lib.zt_buffer_free.restype = None
lib.zt_buffer_data.argtypes = lib.zt_buffer_len.argtypes = (ctypes.c_void_p,)
lib.zt_buffer_data.restype = ctypes.c_void_p
lib.zt_buffer_len.restype = ctypes.c_size_t

ZT_ABI_VERSION = 1
ZT_READ_MMAP = 0
ZT_VERIFY_ON = 1


def check(status):
    if status:
        sys.exit(lib.zt_last_error_message().decode())


def main(path, name=None):
    if lib.zt_abi_version() != ZT_ABI_VERSION:
        sys.exit("this script was written for another library")
    reader, buffer = ctypes.c_void_p(), ctypes.c_void_p()
    check(lib.zt_reader_open(os.fsencode(path), ZT_READ_MMAP, 0, reader))
    try:
        names, size = ctypes.c_void_p(), ctypes.c_size_t()
        check(lib.zt_reader_names(reader, names, size))
        # Each name is followed by a NUL.
        for found in ctypes.string_at(names, size.value).decode().split("\0")[:-1]:
            print(found)
        if name is None:
            return
        number = ctypes.c_size_t()
        check(lib.zt_reader_find(reader, name.encode(), number))
        check(lib.zt_reader_read(reader, number, 0, ZT_VERIFY_ON, buffer))
    finally:
        lib.zt_reader_free(reader)
    # The buffer outlives its reader.
    count = lib.zt_buffer_len(buffer) // 4
    print("sum", sum((ctypes.c_float * count).from_address(lib.zt_buffer_data(buffer))))
    lib.zt_buffer_free(buffer)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
