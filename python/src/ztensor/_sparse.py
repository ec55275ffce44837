"""SciPy sparse matrices to components and back."""

from __future__ import annotations

import operator
import sys
from typing import Any

import numpy as np

from ztensor._arrays import add_component, as_array, to_numpy
from ztensor._dtypes import BY_CODE
from ztensor._ffi import lib
from ztensor._parts import Loaded, Specs
from ztensor.errors import ArgumentError, MissingDependencyError, UnsupportedTensorError

_BY_FORMAT = {
    "csr": lib.ZT_SPARSE_CSR,
    "csc": lib.ZT_SPARSE_CSC,
    "bsr": lib.ZT_SPARSE_BSR,
}


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
    arrays = [as_array(component, name, f", component {at}") for at, component in enumerate(components)]
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


def add_scipy(specs: Specs, matrix: Any, name: str) -> None:
    """Add a SciPy sparse matrix or array.

    CSR, CSC, COO and BSR are stored as they are; formats for building (DIA, DOK, LIL) as CSR. The order of entries,
    duplicates and explicit zeros stay.
    """
    given = matrix
    own: tuple[Any, ...] = ()
    if matrix.format not in ("coo", *_BY_FORMAT):
        matrix = matrix.tocsr()
    if len(matrix.shape) != 2 and matrix.format != "coo":
        # SciPy has vectors in CSR too; a .zt file has them as coordinates.
        matrix = matrix.tocoo()
    if matrix.format == "coo":
        coords = matrix.coords if hasattr(matrix, "coords") else (matrix.row, matrix.col)
        if matrix is given:
            own = (matrix.data,)
        return add_sparse(specs, lib.ZT_SPARSE_COO, (matrix.data, np.stack(coords)), matrix.shape, name, lasting=own)
    parts = (matrix.data, matrix.indices, matrix.indptr)
    if matrix is given:
        own = parts
    return add_sparse(specs, _BY_FORMAT[matrix.format], parts, matrix.shape, name, lasting=own)


def to_scipy(loaded: Loaded) -> Any:
    """A sparse tensor as a SciPy matrix: ``csr_matrix``, ``csc_matrix``, ``coo_matrix`` or ``bsr_matrix``.

    What has not two dimensions becomes a ``coo_array``; SciPy has no BSC, which becomes a ``bsr_matrix``.

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
        return _to_scipy(sparse, loaded, parts)
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


def _to_scipy(sparse: Any, loaded: Loaded, parts: list[Any]) -> Any:
    shape, layout = loaded.shape, loaded.layout
    if layout == lib.ZT_SPARSE_COO:
        coords = tuple(_index(row) for row in parts[1])
        make = sparse.coo_matrix if len(shape) == 2 else sparse.coo_array
        return make((parts[0], coords), shape=shape)
    values, indices, indptr = parts[0], _index(parts[1]), _index(parts[2])
    if layout == lib.ZT_SPARSE_CSR:
        return sparse.csr_matrix((values, indices, indptr), shape=shape)
    if layout == lib.ZT_SPARSE_CSC:
        return sparse.csc_matrix((values, indices, indptr), shape=shape)
    if layout == lib.ZT_SPARSE_BSR:
        return sparse.bsr_matrix((values, indices, indptr), shape=shape)
    # Block columns are the block rows of the transposed matrix, whose blocks are transposed.
    transposed = sparse.bsr_matrix((values.transpose(0, 2, 1), indices, indptr), shape=shape[::-1])
    return transposed.transpose()


def _index(array: Any) -> Any:
    """An index array in a type that SciPy's constructors keep: signed integers of 32 and 64 bits.

    The values were checked to lie inside the shape, so what is unsigned fits the signed type of 64 bits.
    """
    return array if array.dtype in (np.int32, np.int64) else array.astype(np.int64)
