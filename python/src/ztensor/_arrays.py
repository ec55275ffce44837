"""NumPy arrays to memory and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ztensor import _dtypes
from ztensor._ffi import lib
from ztensor._parts import Raw, Specs
from ztensor.errors import UnsupportedTensorError

if TYPE_CHECKING:
    import numpy.typing as npt


def as_array(value: Any, name: str, role: str = "") -> npt.NDArray[Any]:
    """An array of `value`, which is an array, or has ``__array__``, or speaks DLPack; `name` and `role` are for messages.

    Raises
    ------
    UnsupportedTensorError
        If it is none of these, or a masked array, whose mask would be lost.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise UnsupportedTensorError(f"tensor {name!r}{role} is a masked array, whose mask would be lost; fill it first: x.filled(...)")
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        try:
            found: npt.NDArray[Any] = np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)
        except Exception as err:
            raise UnsupportedTensorError(f"tensor {name!r}{role} is a {type(value).__name__} that NumPy cannot take: {err}") from err
        return found
    raise UnsupportedTensorError(
        f"tensor {name!r}{role} is a {type(value).__name__}, not an array: pass a NumPy array, a torch tensor, a SciPy sparse matrix, or "
        "anything with __array__ or __dlpack__"
    )


def add_component(specs: Specs, array: npt.NDArray[Any], name: str, *, lasts: bool = True) -> int:
    """Add the memory of an array, and give the code of its element type.

    An array that is contiguous, in C order and little-endian is not copied. `lasts` says whether it is the caller's: what
    was made for this call is not known again by its address, which will be somebody else's.
    """
    code = _dtypes.code_of_numpy(array.dtype)
    if code is None:
        raise UnsupportedTensorError(f"tensor {name!r} has elements of {array.dtype}, which a .zt file cannot hold")
    address: int = array.__array_interface__["data"][0]
    nbytes: int = array.nbytes
    if array.flags.c_contiguous and array.dtype.byteorder != ">":
        specs.add_component(address, nbytes, code, (address, nbytes) if lasts else None)
        return code
    packed = array.astype(array.dtype.newbyteorder("<"), order="C")
    specs.keep(packed, nbytes)
    # The same view of the same memory packs to the same bytes.
    key = (address, array.shape, array.strides, array.dtype.str)
    specs.add_component(packed.__array_interface__["data"][0], nbytes, code, key if lasts else None)
    return code


def add_dense(specs: Specs, value: Any, name: str) -> None:
    """Add a dense tensor from anything that can become an array."""
    array = as_array(value, name)
    if array is not value:
        specs.keep(array, array.nbytes)
    specs.end_tensor(lib.ZT_DENSE, add_component(specs, array, name, lasts=array is value), array.shape)


def to_numpy(raw: Raw, shape: Sequence[int]) -> npt.NDArray[Any]:
    """An array over memory that was read. It can be written to, and keeps the memory for as long as it, or any view
    of it, lives.
    """
    dtype = _dtypes.numpy_dtype(raw.dtype)
    if not raw.nbytes:
        return np.empty(shape, dtype)
    count = math.prod(shape)
    return np.frombuffer(raw.buffer, dtype, count, raw.start).reshape(shape)
