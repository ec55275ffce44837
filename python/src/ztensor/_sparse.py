"""SciPy sparse matrices to components and back."""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from ztensor._arrays import add_component, as_array, copy_of, to_numpy
from ztensor._call import Json
from ztensor._dtypes import BY_CODE
from ztensor._ffi import lib
from ztensor._parts import Loaded, Specs
from ztensor.errors import ArgumentError, MissingDependencyError, UnsupportedTensorError

_BY_FORMAT = {
    "csr": lib.ZT_SPARSE_CSR,
    "csc": lib.ZT_SPARSE_CSC,
    "bsr": lib.ZT_SPARSE_BSR,
}


#: The attribute of a sparse tensor that says which arithmetic it has: that of an array, element by element, or that of a
#: matrix. One without it is a matrix.
CLASS_KEY = "sparse_class"
_ARRAY = Json(b'{"sparse_class":"array"}')


def is_scipy_sparse(value: Any) -> bool:
    """Whether `value` is a SciPy sparse matrix or array. SciPy is not imported for that."""
    module = sys.modules.get("scipy.sparse")
    return module is not None and bool(module.issparse(value))


def add_sparse(
    specs: Specs, layout: int, components: tuple[Any, ...], shape: Any, name: str, *, lasting: tuple[Any, ...] = ()
) -> None:
    """Add a sparse tensor from arrays: values, indices and, but for COO, indptr.

    Indices keep their integer type. Components that are among `lasting` are the caller's own.
    """
    arrays = [_component(component, name, f", component {at}") for at, component in enumerate(components)]
    try:
        dims = tuple(operator.index(dim) for dim in shape)
    except TypeError:
        raise ArgumentError(f"tensor {name!r}: the shape is {shape!r}, not a sequence of integers") from None
    if any(not 0 <= dim < 1 << 64 for dim in dims):
        raise ArgumentError(f"tensor {name!r}: the shape {dims} has a dimension that is negative or over 64 bits")
    blocksize = (0, 0)
    if layout in (lib.ZT_SPARSE_BSR, lib.ZT_SPARSE_BSC):
        if arrays[0].ndim != 3:
            raise ArgumentError(f"tensor {name!r}: values of blocks have shape (blocks, rows, columns), not {arrays[0].shape}")
        blocksize = (int(arrays[0].shape[1]), int(arrays[0].shape[2]))
    expected = (3 if blocksize != (0, 0) else 1, 2 if layout == lib.ZT_SPARSE_COO else 1, 1)
    for array, role, ndim in zip(arrays, ("values", "indices", "indptr"), expected):
        if array.ndim != ndim:
            raise ArgumentError(f"tensor {name!r}: {role} of shape {array.shape} should have {ndim} dimension{'s' * (ndim > 1)}")
    if layout == lib.ZT_SPARSE_COO and arrays[1].shape != (len(dims), arrays[0].shape[0]):
        raise ArgumentError(
            f"tensor {name!r}: indices of shape {arrays[1].shape} should have shape (ndim, nnz) = {(len(dims), arrays[0].shape[0])}"
        )
    lasts = [any(array is own for own in lasting) for array in arrays]
    specs.keep(arrays, sum(array.nbytes for array, own in zip(arrays, lasts) if not own))
    if blocksize != (0, 0):
        specs.blocksizes[len(specs.layouts)] = blocksize
    codes = [add_component(specs, array, name, lasts=own) for array, own in zip(arrays, lasts)]
    specs.end_tensor(layout, codes[0], dims, len(codes))


def _component(value: Any, name: str, role: str) -> Any:
    """An array of a component, which stays as it is while others are asked for theirs."""
    array = as_array(value, name, role)
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    if array is value or (tensor is not None and isinstance(value, tensor)):
        return array
    # Whoever made it may use the same memory for the next one.
    return copy_of(array, name)


def _is_array(value: Any) -> bool:
    """Whether SciPy's `value` is a sparse array, whose ``*`` works element by element, and not a sparse matrix."""
    kind = getattr(sys.modules["scipy.sparse"], "sparray", None)
    # Before SciPy 1.11 the arrays have no class in common, but an attribute.
    return bool(getattr(value, "_is_array", False)) if kind is None else isinstance(value, kind)


def add_scipy(specs: Specs, matrix: Any, name: str) -> None:
    """Add a SciPy sparse matrix or array, and the attribute that tells an array.

    CSR, CSC, COO and BSR are stored as they are; formats for building (DIA, DOK, LIL) as CSR. The order of entries,
    duplicates and explicit zeros stay; memory beyond the last entry, room to spare, is left out.
    """
    given = matrix
    own: tuple[Any, ...] = ()
    specs.sparse_class = "array" if _is_array(matrix) else "matrix"
    if specs.sparse_class == "array":
        specs.attributes[len(specs.layouts)] = _ARRAY
    if matrix.format not in ("coo", *_BY_FORMAT):
        matrix = matrix.tocsr()
    if len(matrix.shape) != 2 and matrix.format != "coo":
        # SciPy has vectors in CSR too; a .zt file has them as coordinates.
        if max(len(matrix.indices), len(matrix.data)) > matrix.nnz:
            matrix = matrix.copy()
            matrix.prune()
        matrix = matrix.tocoo()
    if matrix.format == "coo":
        coords = matrix.coords if hasattr(matrix, "coords") else (matrix.row, matrix.col)
        if matrix is given:
            own = (matrix.data,)
        return add_sparse(specs, lib.ZT_SPARSE_COO, (matrix.data, _coordinates(coords, name)), matrix.shape, name, lasting=own)
    parts = (*_entries(matrix), matrix.indptr)
    if matrix is given:
        own = parts
    return add_sparse(specs, _BY_FORMAT[matrix.format], parts, matrix.shape, name, lasting=own)


def _coordinates(coords: tuple[Any, ...], name: str) -> Any:
    """The coordinates of entries as one array. Integers stay integers."""
    if np.result_type(*coords).kind == "f" and all(one.dtype.kind in "iu" for one in coords):
        # NumPy has no integer type for both of 64 bits, with a sign and without.
        if any(one.size and one.dtype.kind == "u" and one.max() > np.iinfo(np.int64).max for one in coords):
            kinds = ", ".join(str(one.dtype) for one in coords)
            raise ArgumentError(f"tensor {name!r}: coordinates of several types ({kinds}), some of which do not fit int64")
        coords = tuple(one.astype(np.int64) for one in coords)
    return np.stack(coords)


def _entries(matrix: Any) -> tuple[Any, Any]:
    """Values and indices of the entries that a compressed matrix has, as its ``prune`` leaves them."""
    data, indices, indptr = matrix.data, matrix.indices, matrix.indptr
    count = int(indptr[-1]) if len(indptr) else 0
    if count >= 0 and len(data) > count:
        data = data[:count]
    if count >= 0 and len(indices) > count:
        indices = indices[:count]
    return data, indices


def with_class(attributes: Mapping[str, Any], actual: str, name: str) -> Mapping[str, Any]:
    """The attributes that a caller gives for an object of SciPy, together with its class.

    Raises
    ------
    ArgumentError
        If they state another class.
    """
    stated = attributes.get(CLASS_KEY, actual)
    if stated != actual:
        raise ArgumentError(
            f"tensor {name!r} is a sparse {actual}, and attributes[{CLASS_KEY!r}], which is reserved for that, is {stated!r}"
        )
    return {**attributes, CLASS_KEY: actual} if actual == "array" else attributes


def states_array(text: bytes) -> bool:
    """Whether the attributes of a sparse tensor, as JSON, say that it is an array."""
    if text == _ARRAY or not text:
        return bool(text)
    import json

    return bool(json.loads(text).get(CLASS_KEY) == "array")


def to_scipy(loaded: Loaded, is_array: bool = False) -> Any:
    """A sparse tensor as SciPy has it: a ``csr_array``, ``csc_array``, ``coo_array`` or ``bsr_array`` if `is_array`, or else a
    ``csr_matrix``, ``csc_matrix``, ``coo_matrix`` or ``bsr_matrix``.

    What has not two dimensions becomes a ``coo_array``; SciPy has no BSC, which becomes BSR.

    Raises
    ------
    MissingDependencyError
        If SciPy is not installed, or ml_dtypes where the element type takes it.
    UnsupportedTensorError
        If SciPy has no matrices of this element type or shape.
    """
    try:
        from scipy import sparse  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise MissingDependencyError(
            f"tensor {loaded.name!r} is sparse, which needs SciPy: pip install 'ztensor[scipy]' (or read it with "
            "to='torch')"
        ) from None
    parts = [to_numpy(raw, shape) for raw, shape in zip(loaded.raws, component_shapes(loaded))]
    try:
        return _to_scipy(sparse, loaded, parts, "array" if is_array else "matrix")
    except (TypeError, ValueError, NotImplementedError) as err:
        raise UnsupportedTensorError(
            f"tensor {loaded.name!r}: SciPy cannot hold {loaded.shape} of {BY_CODE[loaded.dtype].name}: {err}"
        ) from err


def component_shapes(loaded: Loaded) -> list[tuple[int, ...]]:
    """The shapes of a sparse tensor's components."""
    block = loaded.blocksize
    stored = loaded.raws[0].nbytes // (BY_CODE[loaded.dtype].itemsize * (block[0] * block[1] if block else 1))
    values = (stored, *block) if block else (stored,)
    if loaded.layout == lib.ZT_SPARSE_COO:
        return [values, (len(loaded.shape), stored)]
    indptr = loaded.raws[2]
    return [values, (stored,), (indptr.nbytes // BY_CODE[indptr.dtype].itemsize,)]


def _to_scipy(sparse: Any, loaded: Loaded, parts: list[Any], kind: str) -> Any:
    shape, layout = loaded.shape, loaded.layout
    if layout == lib.ZT_SPARSE_COO:
        coords = tuple(_index(row) for row in parts[1])
        make = getattr(sparse, f"coo_{kind}" if len(shape) == 2 else "coo_array")
        return make((parts[0], coords), shape=shape)
    values, indices, indptr = parts[0], _index(parts[1]), _index(parts[2])
    if layout == lib.ZT_SPARSE_CSR:
        return getattr(sparse, f"csr_{kind}")((values, indices, indptr), shape=shape)
    if layout == lib.ZT_SPARSE_CSC:
        return getattr(sparse, f"csc_{kind}")((values, indices, indptr), shape=shape)
    block = getattr(sparse, f"bsr_{kind}")
    if layout == lib.ZT_SPARSE_BSR:
        return block((values, indices, indptr), shape=shape)
    # Block columns are the block rows of the transposed matrix, whose blocks are transposed.
    return block((values.transpose(0, 2, 1), indices, indptr), shape=shape[::-1]).transpose()


def _index(array: Any) -> Any:
    """An index array in a type that SciPy's constructors keep: signed integers of 32 and 64 bits.

    The values were checked to lie inside the shape, so what is unsigned fits the signed type of 64 bits.
    """
    return array if array.dtype in (np.int32, np.int64) else array.astype(np.int64)
