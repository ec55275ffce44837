"""torch tensors to memory and back. Imports torch, so it is imported only when torch is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ztensor import _dtypes, _sparse
from ztensor._ffi import lib
from ztensor._parts import Batch, Loaded, Specs
from ztensor.errors import MissingDependencyError, UnsupportedTensorError

try:
    # Spelled twice, it is there for others to import with this module's message.
    import torch as torch
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


def add_torch(specs: Specs, tensor: torch.Tensor, name: str) -> None:
    """Add a torch tensor.

    A dense one that is contiguous and on the CPU is not copied. Others are packed; what is on another device comes to
    the CPU, a conjugate or negative bit is resolved.
    """
    if tensor.is_nested:
        raise UnsupportedTensorError(f"tensor {name!r} is a nested tensor; store its parts, or to_padded_tensor(...) of it")
    if tensor.layout is torch.strided:
        return specs.end_tensor(lib.ZT_DENSE, _add_component(specs, tensor, name), tensor.shape)
    if tensor.layout is torch.sparse_coo:
        if tensor.dense_dim():
            raise UnsupportedTensorError(f"tensor {name!r} is a hybrid sparse tensor, with dense dimensions; store it dense")
        # Not coalesced, so that entries stay as they are.
        parts: tuple[torch.Tensor, ...] = (tensor._values(), tensor._indices())
        layout = lib.ZT_SPARSE_COO
    else:
        found = _LAYOUTS.get(tensor.layout)
        if found is None:
            raise UnsupportedTensorError(f"tensor {name!r} has the layout {tensor.layout}, which a .zt file cannot hold")
        if tensor.ndim != 2 or tensor.values().ndim not in (1, 3):
            raise UnsupportedTensorError(
                f"tensor {name!r} has batch or dense dimensions, of shape {tuple(tensor.shape)}; store each matrix"
            )
        layout = found
        if layout in _BY_COLUMN:
            parts = (tensor.values(), tensor.row_indices(), tensor.ccol_indices())
        else:
            parts = (tensor.values(), tensor.col_indices(), tensor.crow_indices())
    if parts[0].ndim == 3:
        specs.blocksizes[len(specs.layouts)] = (int(parts[0].shape[1]), int(parts[0].shape[2]))
    # The accessors make new tensors over the same memory.
    specs.keep(parts, 0)
    codes = [_add_component(specs, part, name) for part in parts]
    return specs.end_tensor(layout, codes[0], tensor.shape, len(codes))


def _add_component(specs: Specs, tensor: torch.Tensor, name: str) -> int:
    """Add the memory of a dense tensor, and give the code of its element type."""
    code = _dtypes.code_of_torch(tensor.dtype)
    if code is None:
        raise UnsupportedTensorError(f"tensor {name!r} has elements of {tensor.dtype}, which a .zt file cannot hold")
    nbytes = tensor.nbytes
    if tensor.is_cpu and tensor.is_contiguous() and not tensor.is_neg() and not tensor.is_conj():
        address = tensor.data_ptr()
        if nbytes and not address:
            raise UnsupportedTensorError(f"tensor {name!r} is a {type(tensor).__name__} without memory of its own")
        specs.add_component(address, nbytes, code, (address, nbytes))
        return code
    if tensor.device.type == "meta":
        raise UnsupportedTensorError(f"tensor {name!r} is on the meta device: it has a shape but no data to store")
    source = tensor.detach()
    if source.element_size() == 1:
        # torch cannot copy every type of a byte, but bytes it can.
        source = source.view(torch.uint8)
    packed = source.to("cpu").resolve_conj().resolve_neg().contiguous()
    specs.keep(packed, nbytes)
    # The same view of the same memory packs to the same bytes.
    view = (tuple(tensor.shape), tensor.stride(), tensor.is_conj(), tensor.is_neg())
    specs.add_component(packed.data_ptr(), nbytes, code, (str(tensor.device), tensor.data_ptr(), view))
    return code


def to_torch(batch: Batch, made: Sequence[Any] | None = None) -> list[torch.Tensor]:
    """Tensors over memory that was read.

    Each dense tensor has a storage of its own, of exactly its size; those that are the same memory share one. Those that
    `made` holds were made already, the first of each memory among them.
    """
    described = batch.described
    buffers, memories, starts, sizes = batch.buffers, batch.memories, batch.starts, batch.sizes
    dense: dict[tuple[int, int, int, int], torch.Tensor] = {}
    found = []
    part = 0
    for at, (layout, dtype, shape, count) in enumerate(
        zip(described.layouts, described.dtypes, described.shapes, described.counts)
    ):
        if layout != lib.ZT_DENSE:
            found.append(_to_sparse(batch.sparse(at, part)))
        else:
            key = (memories[part], starts[part], sizes[part], dtype)
            ready = made[at] if made else None
            tensor = dense.get(key) if ready is None else ready
            if tensor is None:
                tensor = _flat(buffers[key[0]], key[1], key[2], dtype)
            if key[2]:
                dense.setdefault(key, tensor)
            found.append(tensor.view(shape) if ready is None else ready)
        part += count
    return found


def _flat(buffer: Any, start: int, nbytes: int, code: int) -> torch.Tensor:
    dtype = _dtypes.torch_dtype(code)
    if not nbytes:
        return torch.empty(0, dtype=dtype, device="cpu")
    return torch.frombuffer(buffer, dtype=dtype, count=nbytes // _dtypes.BY_CODE[code].itemsize, offset=start)


def _index(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Index values in a type that torch takes; they were checked to lie inside the shape, so they fit."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def _to_sparse(loaded: Loaded) -> torch.Tensor:
    shapes = _sparse.component_shapes(loaded)
    parts = [_flat(raw.buffer, raw.start, raw.nbytes, raw.dtype).view(shape) for raw, shape in zip(loaded.raws, shapes)]
    if loaded.layout == lib.ZT_SPARSE_COO:
        return torch.sparse_coo_tensor(
            _index(parts[1], torch.int64), parts[0], loaded.shape, device="cpu", check_invariants=False
        )
    values, indices, indptr = parts
    # torch wants both index arrays in one type, of 32 or 64 bits.
    dtype = indices.dtype if indices.dtype == indptr.dtype and indices.dtype in _INDEX_DTYPES else torch.int64
    make = _CONSTRUCTORS[loaded.layout]
    return make(
        _index(indptr, dtype), _index(indices, dtype), values, loaded.shape, device="cpu", check_invariants=False
    )


