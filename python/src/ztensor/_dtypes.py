"""The one Python table of element types: name in the file, name in NumPy, name in torch.

The truth is the table in the Rust library; a test holds the two together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ztensor.errors import MissingDependencyError, UnsupportedTensorError

if TYPE_CHECKING:
    import torch


class Row:
    """One element type. No named tuple: to make the class of one takes as long as all else here."""

    __slots__ = ("code", "name", "itemsize", "numpy", "torch", "needs_ml_dtypes")

    def __init__(self, code: int, name: str, itemsize: int, needs_ml_dtypes: bool = False, *, numpy: str | None = "") -> None:
        self.code = code
        self.name = name
        self.itemsize = itemsize
        #: Attribute of numpy, or of ml_dtypes where `needs_ml_dtypes`; None where NumPy has no such type.
        self.numpy = name if numpy == "" else numpy
        #: Attribute of torch.
        self.torch = name
        self.needs_ml_dtypes = needs_ml_dtypes


TABLE = (
    Row(1, "float64", 8),
    Row(2, "float32", 4),
    Row(3, "float16", 2),
    Row(4, "bfloat16", 2, True),
    Row(5, "int64", 8),
    Row(6, "int32", 4),
    Row(7, "int16", 2),
    Row(8, "int8", 1),
    Row(9, "uint64", 8),
    Row(10, "uint32", 4),
    Row(11, "uint16", 2),
    Row(12, "uint8", 1),
    Row(13, "bool", 1),
    Row(14, "complex64", 8),
    Row(15, "complex128", 16),
    Row(16, "float8_e4m3fn", 1, True),
    Row(17, "float8_e5m2", 1, True),
    Row(18, "float8_e4m3fnuz", 1, True),
    Row(19, "float8_e5m2fnuz", 1, True),
    Row(20, "float8_e8m0fnu", 1, True),
    # ml_dtypes has a type of one element in a byte; two in a byte is torch's alone.
    Row(21, "float4_e2m1fn_x2", 1, True, numpy=None),
)

BY_CODE = {row.code: row for row in TABLE}
BY_NAME = {row.name: row for row in TABLE}
_BY_NUMPY = {row.numpy: row for row in TABLE if row.numpy}

_numpy_dtypes: dict[int, np.dtype[Any]] = {}
_torch_dtypes: dict[int, torch.dtype] = {}
_torch_codes: dict[torch.dtype, int] = {}


def numpy_dtype(code: int) -> np.dtype[Any]:
    """The NumPy type of a code.

    Raises
    ------
    MissingDependencyError
        If it takes ml_dtypes, which is not installed.
    UnsupportedTensorError
        If NumPy has no such type.
    """
    found = _numpy_dtypes.get(code)
    if found is None:
        found = _numpy_dtypes[code] = _find_numpy_dtype(BY_CODE[code])
    return found


def _find_numpy_dtype(row: Row) -> np.dtype[Any]:
    if row.numpy is None:
        raise UnsupportedTensorError(f"NumPy has no type for {row.name}; read it with to='torch'")
    if not row.needs_ml_dtypes:
        return np.dtype(row.numpy)
    try:
        import ml_dtypes
    except ImportError:
        raise MissingDependencyError(
            f"{row.name} as a NumPy array needs ml_dtypes: pip install 'ztensor[ml_dtypes]' (or read it with to='torch')"
        ) from None
    found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, row.numpy))
    return found


def code_of_numpy(dtype: np.dtype[Any]) -> int | None:
    """The code of a NumPy type, of either byte order; None if there is none."""
    row = _BY_NUMPY.get(dtype.name) if dtype.kind in "biufcV" else None
    return row.code if row is not None and row.itemsize == dtype.itemsize else None


def torch_dtype(code: int) -> torch.dtype:
    """The torch type of a code.

    Raises
    ------
    UnsupportedTensorError
        If the installed torch has no such type.
    """
    found = _torch_dtypes.get(code)
    if found is None:
        _fill_torch()
        found = _torch_dtypes.get(code)
    if found is None:
        raise UnsupportedTensorError(f"the installed torch has no type {BY_CODE[code].torch}; a newer one has")
    return found


def code_of_torch(dtype: torch.dtype) -> int | None:
    """The code of a torch type; None if there is none."""
    found = _torch_codes.get(dtype)
    if found is None:
        _fill_torch()
        found = _torch_codes.get(dtype)
    return found


def _fill_torch() -> None:
    import torch

    for row in TABLE:
        dtype = getattr(torch, row.torch, None)
        if dtype is not None:
            _torch_dtypes[row.code] = dtype
            _torch_codes[dtype] = row.code
