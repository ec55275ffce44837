"""Where the C library's files are."""

import ctypes
import re
from pathlib import Path

import cffi
import ztensor


def test_header_and_library_belong_together():
    header = Path(ztensor.get_include(), "ztensor.h").read_text("utf-8")
    ffi = cffi.FFI()
    ffi.cdef(re.sub(r'(?m)^(#(?!define ZT_).*|.*extern "C".*)$', "", header))
    lib = ffi.dlopen(ztensor.get_library())
    assert lib.zt_abi_version() == lib.ZT_ABI_VERSION
    assert ffi.string(lib.zt_version()).decode() == ztensor.__version__
    assert ffi.sizeof("ZtTensor") == 104
    # Every function that the header declares is there.
    functions = re.findall(r"^[A-Za-z].*\b(zt_\w+)\(", header, re.M)
    assert len(functions) > 30
    for function in functions:
        assert getattr(lib, function)


def test_library_is_the_one_that_is_in_use():
    found = ctypes.CDLL(ztensor.get_library())
    found.zt_last_error_message.restype = ctypes.c_char_p
    try:
        ztensor.Reader("/nothing/here.zt")
    except ztensor.MissingFileError:
        pass
    # The message of the last failure on this thread is one and the same.
    assert b"/nothing/here.zt" in found.zt_last_error_message()


def test_cpp_header_is_beside_it():
    assert "namespace ztensor" in Path(ztensor.get_include(), "ztensor.hpp").read_text("utf-8")
