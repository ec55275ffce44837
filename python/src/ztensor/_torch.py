"""torch tensors to memory and back. Imports torch, so it is imported only when torch is asked for."""

from __future__ import annotations

from typing import Any

from ztensor import _dtypes, _sparse
from ztensor._ffi import lib
from ztensor._parts import Component, Loaded, Parts, Raw
from ztensor.errors import MissingDependencyError, UnsupportedTensorError

try:
    import torch
except ImportError:
    raise MissingDependencyError("this needs PyTorch: pip install 'ztensor[torch]'") from None

_LAYOUTS = {
    torch.sparse_csr: lib.ZT_SPARSE_CSR,
    torch.sparse_csc: lib.ZT_SPARSE_CSC,
    torch.sparse_bsr: lib.ZT_SPARSE_BSR,
    torch.sparse_bsc: lib.ZT_SPARSE_BSC,
}
_BY_COLUMN = (lib.ZT_SPARSE_CSC, lib.ZT_SPARSE_BSC)
_CONSTRUCTORS = {
    lib.ZT_SPARSE_CSR: torch.sparse_csr_tensor,
    lib.ZT_SPARSE_CSC: torch.sparse_csc_tensor,
    lib.ZT_SPARSE_BSR: torch.sparse_bsr_tensor,
    lib.ZT_SPARSE_BSC: torch.sparse_bsc_tensor,
}
_INDEX_DTYPES = (torch.int32, torch.int64)


def from_torch(tensor: torch.Tensor, what: str) -> Parts:
    """A torch tensor as components.

    A dense one that is contiguous and on the CPU is not copied. Others are packed; what is on another device comes to
    the CPU, a conjugate or negative bit is resolved.
    """
    if tensor.layout == torch.strided:
        component, owner, made = _component(tensor, what)
        return Parts(lib.ZT_DENSE, component[2], tuple(tensor.shape), (component,), owner, made)
    if tensor.layout == torch.sparse_coo:
        if tensor.dense_dim():
            raise UnsupportedTensorError(f"{what} is a hybrid sparse tensor, with dense dimensions; store it dense")
        # Not coalesced, so that entries stay as they are.
        parts: tuple[torch.Tensor, ...] = (tensor._values(), tensor._indices())
        layout = lib.ZT_SPARSE_COO
    else:
        found = _LAYOUTS.get(tensor.layout)
        if found is None:
            raise UnsupportedTensorError(f"{what} has the layout {tensor.layout}, which a .zt file cannot hold")
        if tensor.ndim != 2:
            raise UnsupportedTensorError(f"{what} is a batch of sparse matrices, of shape {tuple(tensor.shape)}; store each")
        layout = found
        if layout in _BY_COLUMN:
            parts = (tensor.values(), tensor.row_indices(), tensor.ccol_indices())
        else:
            parts = (tensor.values(), tensor.col_indices(), tensor.crow_indices())
    packed = [_component(part, what) for part in parts]
    blocked = layout in (lib.ZT_SPARSE_BSR, lib.ZT_SPARSE_BSC)
    return Parts(
        layout,
        packed[0][0][2],
        tuple(tensor.shape),
        tuple(component for component, _, _ in packed),
        [owner for _, owner, _ in packed],
        sum(made for _, _, made in packed),
        (int(parts[0].shape[1]), int(parts[0].shape[2])) if blocked else (0, 0),
    )


def _component(tensor: torch.Tensor, what: str) -> tuple[Component, torch.Tensor, int]:
    """The memory of a dense tensor: the component, the tensor that owns it, and the bytes that were made for it."""
    code = _dtypes.code_of_torch(tensor.dtype)
    if code is None:
        raise UnsupportedTensorError(f"{what} has elements of {tensor.dtype}, which a .zt file cannot hold")
    device = tensor.device.type
    nbytes = tensor.numel() * tensor.element_size()
    if device == "cpu" and tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg():
        address = tensor.data_ptr()
        if nbytes and not address:
            raise UnsupportedTensorError(f"{what} is a {type(tensor).__name__} without memory of its own")
        return (address, nbytes, code, (address, nbytes) if nbytes else None), tensor, 0
    if device == "meta":
        raise UnsupportedTensorError(f"{what} is on the meta device: it has a shape but no data to store")
    key = None
    if nbytes:
        # The same view of the same memory packs to the same bytes.
        key = (
            str(tensor.device),
            tensor.data_ptr(),
            tuple(tensor.shape),
            tensor.stride(),
            tensor.is_conj(),
            tensor.is_neg(),
        )
    packed = tensor.detach().to("cpu").resolve_conj().resolve_neg().contiguous()
    return (packed.data_ptr(), nbytes, code, key), packed, nbytes


def to_torch(loaded: list[Loaded]) -> list[torch.Tensor]:
    """Tensors over memory that was read.

    Each dense tensor has a storage of its own, of exactly its size; those that are the same memory share one.
    """
    dense: dict[tuple[Any, ...], torch.Tensor] = {}
    found = []
    for one in loaded:
        if one.layout != lib.ZT_DENSE:
            found.append(_to_sparse(one))
            continue
        raw = one.raws[0]
        key = (id(raw.buffer), raw.start, raw.nbytes, raw.dtype)
        tensor = dense.get(key)
        if tensor is None:
            tensor = _flat(raw)
            if raw.nbytes:
                dense[key] = tensor
        found.append(tensor.view(one.shape))
    return found


def _flat(raw: Raw) -> torch.Tensor:
    dtype = _dtypes.torch_dtype(raw.dtype)
    if not raw.nbytes:
        return torch.empty(0, dtype=dtype)
    count = raw.nbytes // _dtypes.BY_CODE[raw.dtype].itemsize
    return torch.frombuffer(raw.buffer, dtype=dtype, count=count, offset=raw.start)


def _index(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Index values in a type that torch takes; they were checked to lie inside the shape, so they fit."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _to_sparse(loaded: Loaded) -> torch.Tensor:
    shapes = _sparse.component_shapes(loaded)
    parts = [_flat(raw).view(shape) for raw, shape in zip(loaded.raws, shapes)]
    if loaded.layout == lib.ZT_SPARSE_COO:
        return torch.sparse_coo_tensor(_index(parts[1], torch.int64), parts[0], loaded.shape, check_invariants=False)
    values, indices, indptr = parts
    # torch wants both index arrays in one type, of 32 or 64 bits.
    dtype = indices.dtype if indices.dtype == indptr.dtype and indices.dtype in _INDEX_DTYPES else torch.int64
    make = _CONSTRUCTORS[loaded.layout]
    return make(_index(indptr, dtype), _index(indices, dtype), values, loaded.shape, check_invariants=False)


