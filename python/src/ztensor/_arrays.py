"""NumPy arrays to memory and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ztensor import _dtypes
from ztensor._ffi import lib
from ztensor._parts import MAX_MADE, Raw, Specs
from ztensor.errors import OutOfMemoryError, UnsupportedTensorError

if TYPE_CHECKING:
    import numpy.typing as npt


def as_array(value: Any, name: str, role: str = "") -> npt.NDArray[Any]:
    """An array of `value`, which is an array, or has ``__array__``, or speaks DLPack; `name` and `role` are for messages.

    The array has the values of `value`, neither more nor less. Where the conversion would drop or change some, or may
    do so, it is refused.

    Raises
    ------
    UnsupportedTensorError
        If it is none of these, or NumPy would lose a mask, missing values, or the types of columns.
    """
    if type(value) is np.ndarray:
        return value
    what = f"tensor {name!r}{role} is a {type(value).__name__}"
    if isinstance(value, np.generic):
        return np.asarray(value)
    from ztensor import _foreign  # few files have arrays of other classes

    if isinstance(value, np.ndarray):
        found: npt.NDArray[Any] = value
    elif hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        try:
            loss = _foreign.loss_before(value)
            if loss is None:
                # Subclasses pass, since one may have a mask.
                found = np.asanyarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)
                loss = _foreign.loss_after(value, found)
        except MemoryError as err:
            raise OutOfMemoryError(f"{what} for whose array there is no memory: {err}") from err
        except Exception as err:
            raise UnsupportedTensorError(f"{what} that NumPy cannot take: {err}") from err
        if loss is not None:
            raise UnsupportedTensorError(f"{what} {loss}")
    else:
        raise UnsupportedTensorError(
            f"{what}, not an array: pass a NumPy array, a torch tensor, a SciPy sparse matrix, or anything with __array__ or __dlpack__"
        )
    if isinstance(found, np.ma.MaskedArray) or _foreign.has_mask(found):
        raise UnsupportedTensorError(f"{what} with a mask, which would be lost: pass x.filled(...), and the mask as a tensor of its own")
    return found


def add_component(specs: Specs, array: npt.NDArray[Any], name: str, *, lasts: bool = True) -> int:
    """Add the memory of an array, and give the code of its element type.

    An array that is contiguous, in C order and little-endian is not copied. `lasts` says whether it is the caller's: what
    was made for this call is not known again by its address, which will be somebody else's.
    """
    array, address = _plain(array, name)
    code = _dtypes.code_of_numpy(array.dtype)
    if code is None:
        raise UnsupportedTensorError(f"tensor {name!r} has elements of {array.dtype}, which a .zt file cannot hold")
    nbytes: int = array.nbytes
    if array.flags.c_contiguous and array.dtype.byteorder != ">":
        specs.add_component(address, nbytes, code, (address, nbytes) if lasts else None, array)
        return code
    try:
        packed = array.astype(array.dtype.newbyteorder("<"), order="C")
    except MemoryError as err:
        raise OutOfMemoryError(f"tensor {name!r} is not contiguous and cannot be packed: {err}") from err
    specs.keep(packed, nbytes)
    # The same view of the same memory packs to the same bytes.
    key = (address, array.shape, array.strides, array.dtype.str)
    specs.add_component(packed.__array_interface__["data"][0], nbytes, code, key if lasts else None, array)
    return code


def _plain(array: npt.NDArray[Any], name: str) -> tuple[npt.NDArray[Any], int]:
    """A view of an array, as its base class has it, and its address. All of its memory is there."""
    base = array.base if type(array) is np.ndarray else array
    # What another thread sets of the array is not seen in a view, nor what a subclass says of its memory and shape.
    plain = array.view() if type(array) is np.ndarray else np.ndarray.view(array, np.ndarray)
    address: int = plain.__array_interface__["data"][0]
    if base is not None and plain.nbytes:
        _check_extent(plain, address, base, name)
    return plain, address


def copy_of(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """A contiguous copy of an array, in memory of its own."""
    plain, _ = _plain(array, name)
    try:
        return plain.copy()
    except MemoryError as err:
        raise OutOfMemoryError(f"tensor {name!r} is made when it is asked for and cannot be copied: {err}") from err


def _owner(base: Any) -> Any:
    """The array that owns the memory of a view, by the bases that lead to it; None if it is none of NumPy."""
    while True:
        if isinstance(base, np.ndarray):
            # As NumPy has it, whatever a subclass says.
            if np.ndarray.flags.__get__(base).owndata:
                return base
            base = np.ndarray.base.__get__(base)
        elif isinstance(base, memoryview):
            base = base.obj
        elif type(base).__name__ == "DummyArray":
            # What as_strided puts between.
            base = base.base
        else:
            return None


def _check_extent(array: npt.NDArray[Any], address: int, base: Any, name: str) -> None:
    """Refuse a view of an array whose memory was made shorter under it, by resize(refcheck=False)."""
    # Of other owners, and of memory that an array was only told of, it is not known how long they are.
    owner = _owner(base)
    if owner is None:
        return
    first, stop = address, address + array.nbytes
    if not array.flags.c_contiguous:
        steps = [(dim - 1) * stride for dim, stride in zip(array.shape, array.strides)]
        first = address + sum(step for step in steps if step < 0)
        stop = address + array.itemsize + sum(step for step in steps if step > 0)
    own = owner if type(owner) is np.ndarray else np.ndarray.view(owner, np.ndarray)
    start = own.__array_interface__["data"][0]
    if not start <= first <= stop <= start + own.nbytes:
        raise UnsupportedTensorError(
            f"tensor {name!r} is a view of an array that was resized under it and has {own.nbytes} bytes now; save it before, "
            "or a copy() of it"
        )


def add_dense(specs: Specs, value: Any, name: str) -> None:
    """Add a dense tensor from anything that can become an array."""
    array = as_array(value, name)
    if array is not value:
        # Whoever made it may use the same memory for the next one. A large one is written before that is asked for.
        if specs.numbers is not None and array.nbytes < MAX_MADE:
            array = copy_of(array, name)
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
