"""Where the C library's files are, for programs in other languages and for cffi and ctypes scripts."""

from __future__ import annotations

import os

_PACKAGE = os.path.dirname(os.path.abspath(__file__))


def get_include() -> str:
    """The directory of ``ztensor.h`` and ``ztensor.hpp``, as a compiler takes it after ``-I``."""
    return os.path.join(_PACKAGE, "include")


def get_library() -> str:
    """The path of the shared library that this package uses itself.

    ``ctypes.CDLL`` and cffi's ``dlopen`` take it. A program that was linked with a library that ``make install`` put
    somewhere looks for that one's name instead.
    """
    return os.path.join(_PACKAGE, "_native", "lib_native.so")
