"""torch tensors by the thousand, through the C functions that torch offers for DLPack.

One call of the library takes or makes all of them, where Python would spend microseconds on each. What that call does not
take (another device, other strides, sparse tensors, an older torch) goes the way of :mod:`ztensor._torch`.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ztensor import _structs
from ztensor._ffi import ffi, lib
from ztensor._paths import get_library
from ztensor._torch import torch

if TYPE_CHECKING:
    import numpy.typing as npt

#: The major version of DLPack whose structures the library knows.
_MAJOR = 1


class _Exchange(NamedTuple):
    """Addresses of torch's functions, and the library's, called with the interpreter's lock held."""

    view: int
    wrap: int
    specs: Any
    tensors: Any


def _find() -> _Exchange | None:
    """torch's table of functions for DLPack, which releases from 2.10 on have."""
    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if capsule is None:
        return None
    pointer_of = ctypes.PyDLL(None).PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    try:
        table = pointer_of(capsule, b"dlpack_exchange_api")
    except ValueError:
        return None
    # Two halves of a version, an older table, then five functions, of which these are the third and the fourth.
    while table:
        words = (ctypes.c_uint64 * 7).from_address(table)
        if words[0] & 0xFFFFFFFF == _MAJOR:
            library = ctypes.PyDLL(get_library())
            specs, tensors = library.zt_dlpack_specs, library.zt_dlpack_tensors
            specs.restype = tensors.restype = ctypes.c_int32
            size, pointer = ctypes.c_size_t, ctypes.c_void_p
            specs.argtypes = [pointer, pointer, size, ctypes.c_uint64, pointer, pointer, pointer]
            tensors.argtypes = [pointer, pointer, size, pointer, pointer, pointer]
            return _Exchange(view=words[5], wrap=words[4], specs=specs, tensors=tensors) if words[4] and words[5] else None
        table = words[1]
    return None


_exchange = _find()
_PLAIN = {torch.Tensor, torch.nn.Parameter}
#: From so many tensors on, making objects of their storages is worth more care.
_MANY = 1000
_COMPLEX = [lib.ZT_COMPLEX64, lib.ZT_COMPLEX128]


def specs_of(tensors: Sequence[Any], share_base: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[Any]] | None:
    """Structs of tensors and of their components, the names left out, and what keeps alive all that they point to; None if
    any of them is no plain tensor, or does not lie inside its storage.

    They point to the tensors' own memory. Tensors that are the same memory carry the same number over `share_base`.
    """
    if _exchange is None or not set(map(type, tensors)) <= _PLAIN:
        return None
    # The C functions tell neither of this bit nor of that for conjugates, which only complex tensors have.
    if any(map(torch.Tensor.is_neg, tensors)):
        return None
    count = len(tensors)
    objects = np.fromiter(tensors, object, count)
    specs = np.zeros(count, _structs.TENSOR_SPEC)
    components = np.zeros(count, _structs.COMPONENT_SPEC)
    shapes = ffi.new("ZtBuffer **")
    try:
        status = _exchange.specs(
            _exchange.view,
            _address(objects),
            count,
            share_base,
            _address(specs),
            _address(components),
            _structs.address(shapes),
        )
        if status:
            return None
        owners: list[Any] = [ffi.gc(shapes[0], lib.zt_buffer_free), tensors]
        storages = _storages_of(tensors)
    except Exception:
        # torch raised it for a tensor that it cannot show. The way for any tensor says what is the matter.
        return None
    if np.isin(components["dtype"], _COMPLEX).any() and any(map(torch.Tensor.is_conj, tensors)):
        return None
    # A storage may have been freed or shortened under a tensor, or be another one by now, where another thread gave a tensor
    # other data. The storages are held, so what lies inside them may be read.
    sizes = components["len"]
    begins = np.fromiter(map(torch.UntypedStorage.data_ptr, storages), np.uint64, count)
    rooms = np.fromiter(map(len, storages), np.uint64, count)
    offsets = components["data"] - begins
    is_inside = (begins != 0) & (components["data"] >= begins) & (offsets <= rooms) & (sizes <= rooms - offsets)
    if not (is_inside | (sizes == 0)).all():
        return None
    owners.append(storages)
    return specs, components, owners


def _storages_of(tensors: Sequence[Any]) -> list[Any]:
    """The storages of tensors, as objects that keep them alive."""
    if len(tensors) < _MANY:
        return list(map(torch.Tensor.untyped_storage, tensors))
    # torch keeps these objects with the storages, so that they are made once. Looking through all others for cycles again
    # and again meanwhile, which have none, takes ten times as long as making them.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return list(map(torch.Tensor.untyped_storage, tensors))
    finally:
        if was_enabled:
            gc.enable()


def tensors_of(reader: Any, batch: Any, count: int) -> tuple[list[Any], bool]:
    """Dense tensors over a ``ZtBatch *`` of all `count` tensors of a ``ZtReader *``, each with a storage of its own, and
    whether these are all.

    None stands in the place of a sparse one, and of one that shares its memory with an earlier one; in all places if torch
    does not make them.
    """
    if _exchange is None:
        return [None] * count, False
    # NumPy fills it with None. These references are overwritten by those that torch gives, not given back: of None, there
    # are enough.
    objects = np.empty(count, object)
    try:
        status = _exchange.tensors(
            _structs.address(reader), None, 0, _structs.address(batch), _exchange.wrap, _address(objects)
        )
    except Exception:
        status = lib.ZT_ERR_ARGUMENT
    # NumPy spells NULL as None.
    places = _structs.view(ffi.cast("uint64_t *", _address(objects)), count, np.dtype(np.uint64))
    return objects.tolist(), not status and bool(places.all())


def _address(array: npt.NDArray[Any]) -> int:
    found: int = array.__array_interface__["data"][0]
    return found
