"""torch tensors to memory and back. Imports torch, so it is imported only when torch is asked for."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ztensor import _dtypes, _sparse
from ztensor._ffi import lib
from ztensor._parts import Batch, Loaded, Specs
from ztensor.errors import MissingDependencyError, UnsupportedTensorError, ZTensorError

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
#: Entries whose order is looked at in one go.
_ENTRIES = 1 << 20
_INDEX_DTYPES = (torch.int32, torch.int64)
#: Types of one byte that are floats with a sign; a torch may lack some.
_SIGNED_BYTES = {
    getattr(torch, name, None) for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
}

#: Devices whose pointers are addresses: the same one is the same memory. For others ``data_ptr()`` may be 0, or a handle.
_WITH_ADDRESSES = ("cpu", "cuda", "xpu")
#: A tensor over the same storage, without a gradient, as one call that no transformation or mode takes part in.
_alias = torch.Tensor.data.__get__  # type: ignore[attr-defined]
_no_dispatch = torch.Tensor.__torch_dispatch__


@contextlib.contextmanager
def _as_plain() -> Iterator[None]:
    """Calls do what they do for plain tensors: no subclass's ``__torch_function__``, no torch.func transformation and no
    FakeTensorMode takes part.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch._C.DisableTorchFunctionSubclass())
        outside_transforms = getattr(torch._C, "_DisableFuncTorch", None)
        if outside_transforms is not None:
            stack.enter_context(outside_transforms())
        if fake_mode() is not None:
            from torch._subclasses.fake_tensor import unset_fake_temporarily

            stack.enter_context(unset_fake_temporarily())
        yield


def fake_mode() -> Any:
    """The FakeTensorMode that is active; None if there is none."""
    module = sys.modules.get("torch._subclasses.fake_tensor")
    if module is None or not torch._C._len_torch_dispatch_stack():
        return None
    from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

    return next((mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, module.FakeTensorMode)), None)


def is_uninitialized(tensor: torch.Tensor) -> bool:
    """Whether it is a parameter or buffer of a lazy module that has no shape so far."""
    return bool(torch.nn.parameter.is_lazy(tensor))


def add_torch(specs: Specs, tensor: torch.Tensor, name: str) -> None:
    """Add a torch tensor.

    A dense one that is contiguous and on the CPU is not copied. Others are packed; what is on another device comes to
    the CPU, a conjugate or negative bit is resolved. All that is read later is held: it stays as it is now, even if
    `tensor` gets other data meanwhile.

    Raises
    ------
    UnsupportedTensorError
        If it cannot be stored, or torch does not give its data.
    """
    if is_uninitialized(tensor):
        raise UnsupportedTensorError(
            f"tensor {name!r} is an {type(tensor).__name__}, which has neither a shape nor data; run a batch through its "
            "module first, or materialize(...) it"
        )
    with _as_plain(), _naming(tensor, name):
        _add(specs, tensor, name)


def on_cpu(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """A plain tensor on the CPU that has the values of a dense one."""
    with _as_plain(), _naming(tensor, name):
        alias: torch.Tensor = _alias(tensor)
        if alias.layout is not torch.strided:
            raise UnsupportedTensorError(f"tensor {name!r} has a component of the layout {alias.layout}; pass a dense tensor")
        if not alias.is_cpu or _has_bits(alias):
            return _pack(tensor, alias, name)
        _locate(tensor, alias, name)
        return alias


def view_of(tensor: torch.Tensor) -> Any:
    """What is the same for two tensors only if they are certainly the same view of the same memory; None for one without
    memory of which that could be said. It is right for as long as the tensors live.
    """
    with contextlib.suppress(Exception), _as_plain():
        if is_uninitialized(tensor) or tensor.layout is not torch.strided:
            return None
        if not tensor.numel() or not _is_certain(tensor):
            return None
        return _view_key(tensor, _locate(tensor, tensor, ""))
    return None


def _view_key(tensor: torch.Tensor, address: int) -> Any:
    """What two views of the same memory have in common only if they see it in the same way."""
    bits = (tensor.is_conj(), tensor.is_neg())
    return (str(tensor.device), address, tensor.dtype, tensor.shape, tensor.stride(), *bits)


def _is_certain(tensor: torch.Tensor) -> bool:
    """Whether a tensor's values are its memory's, at its address."""
    return not _has_dispatch(tensor) and tensor.device.type in _WITH_ADDRESSES


def _is_wrapper(tensor: torch.Tensor) -> bool:
    """Whether a tensor may stand for another one: by its class, or within a transformation of torch.func."""
    return _has_dispatch(tensor) or _is_in_transform(tensor)


def _has_dispatch(tensor: torch.Tensor) -> bool:
    """Whether a tensor's class says itself what its values are."""
    return bool(type(tensor).__torch_dispatch__ != _no_dispatch)


def _is_in_transform(tensor: torch.Tensor) -> bool:
    """Whether a tensor belongs to a transformation of torch.func."""
    functorch = getattr(torch._C, "_functorch", None)
    return bool(torch._is_functional_tensor(tensor) or (functorch and functorch.is_functorch_wrapped_tensor(tensor)))


def is_in_order(tensor: torch.Tensor) -> bool:
    """Whether a plain tensor's elements lie in C order in memory of this process that its storage has."""
    if not tensor.is_cpu or not tensor.is_contiguous() or _has_bits(tensor):
        return False
    with contextlib.suppress(UnsupportedTensorError), _as_plain():
        return not tensor.numel() or bool(_locate(tensor, tensor, ""))
    return False


@contextlib.contextmanager
def _naming(tensor: torch.Tensor, name: str) -> Iterator[None]:
    """Make an error that names the tensor of whatever torch, or a tensor's own class, raises."""
    try:
        yield
    except (ZTensorError, MemoryError):
        raise
    except Exception as err:
        raise UnsupportedTensorError(f"{_without_memory(tensor, name)} ({type(err).__name__}: {err})") from err


def _without_memory(tensor: torch.Tensor, name: str) -> UnsupportedTensorError:
    """The error for a tensor that has no memory of its own, with a way out."""
    kind = type(tensor)
    if hasattr(kind, "full_tensor"):
        way_out = "pass its full_tensor(), or the to_local() of each process"
    elif kind.dequantize is not torch.Tensor.dequantize or "quant" in kind.__name__.lower():
        way_out = "pass its dequantize(), or the tensors that it consists of"
    elif kind.__name__ == "FakeTensor":
        way_out = "it has a shape but no data to store"
    elif kind.__name__ == "MaskedTensor":
        way_out = "pass its get_data() and its get_mask(), or to_tensor(value)"
    elif _is_in_transform(tensor):
        way_out = "it belongs to a transformation of torch.func: save it outside of the transformed function"
    else:
        way_out = (
            "pass a plain tensor of its values, or the tensors that it wraps: dequantize() gives one for a quantized "
            "tensor, full_tensor() for a distributed one"
        )
    return UnsupportedTensorError(f"tensor {name!r} is a {kind.__name__} without memory of its own; {way_out}")


def _has_bits(tensor: torch.Tensor) -> bool:
    """Whether the values are the conjugates, or the negatives, of what is in memory."""
    return tensor.is_conj() or tensor.is_neg()


def _locate(tensor: torch.Tensor, alias: torch.Tensor, name: str) -> int:
    """The address of the first element of `alias`, all of whose elements lie inside its storage; 0 if it is empty.

    Raises
    ------
    UnsupportedTensorError
        If some lie elsewhere, or there is no storage, or it is empty but stands for a tensor that may not be. It tells of
        `tensor`, which `alias` was made of.
    """
    try:
        if not alias.numel():
            if _is_wrapper(tensor) or _is_wrapper(alias):
                raise _without_memory(tensor, name)
            return 0
        storage = alias.untyped_storage()
        base, size, address = storage.data_ptr(), storage.nbytes(), alias.data_ptr()
    except ZTensorError:
        raise
    except Exception as err:
        raise _without_memory(tensor, name) from err
    steps = sum((dim - 1) * stride for dim, stride in zip(alias.shape, alias.stride()))
    offset = alias.element_size() * alias.storage_offset()
    end = offset + alias.element_size() * (steps + 1)
    if end > size:
        raise UnsupportedTensorError(
            f"tensor {name!r} is a {type(tensor).__name__} that takes {end} bytes of a storage that has {size}: the storage "
            "was freed or shortened under it; save it before, or a clone() of it"
        )
    if not base or address != base + offset:
        raise _without_memory(tensor, name)
    return address


def _negative(tensor: torch.Tensor, name: str) -> torch.Tensor:
    """A tensor of elements of one byte with a negative bit, without that bit."""
    if tensor.dtype in (torch.int8, torch.uint8):
        return tensor.resolve_neg()
    if tensor.dtype not in _SIGNED_BYTES:
        raise UnsupportedTensorError(
            f"tensor {name!r} is the negative view of {tensor.dtype}, which has no negatives; pass the tensor that it views"
        )
    # torch negates none of these, but float32 has all of their values.
    return torch._neg_view(tensor).to(torch.float32).neg().to(tensor.dtype)


def _pack(tensor: torch.Tensor, alias: torch.Tensor, name: str) -> torch.Tensor:
    """A contiguous copy on the CPU. Elements of one byte become uint8, since torch cannot copy every type of them."""
    source = alias
    if alias.element_size() == 1:
        source = (_negative(alias, name) if alias.is_neg() else alias).view(torch.uint8)
    packed = source.to("cpu").resolve_conj().resolve_neg().contiguous()
    if (packed.device.type, packed.layout, packed.dtype, packed.shape) != ("cpu", torch.strided, source.dtype, alias.shape):
        raise _without_memory(tensor, name)
    if not packed.is_contiguous() or _has_bits(packed):
        raise _without_memory(tensor, name)
    _locate(tensor, packed, name)
    return packed


def _add(specs: Specs, tensor: torch.Tensor, name: str) -> None:
    if tensor.is_nested:
        raise UnsupportedTensorError(f"tensor {name!r} is a nested tensor; store its parts, or to_padded_tensor(...) of it")
    if tensor.layout is torch.strided:
        code, shape = _add_component(specs, tensor, name)
        return specs.end_tensor(lib.ZT_DENSE, code, shape)
    if tensor.layout is not torch.sparse_coo and tensor.layout not in _LAYOUTS:
        raise UnsupportedTensorError(
            f"tensor {name!r} has the layout {tensor.layout}, which a .zt file cannot hold; pass its to_dense()"
        )
    whole = _alias(tensor)
    if _is_wrapper(tensor) and (whole.layout, whole.shape, whole.dtype) != (tensor.layout, tensor.shape, tensor.dtype):
        # Its class gave a part of it.
        raise _without_memory(tensor, name)
    if whole.layout is torch.sparse_coo:
        if whole.dense_dim():
            raise UnsupportedTensorError(f"tensor {name!r} is a hybrid sparse tensor, with dense dimensions; store it dense")
        # Not coalesced, so that entries stay as they are.
        parts: tuple[torch.Tensor, ...] = (whole._values(), whole._indices())
        layout = lib.ZT_SPARSE_COO
    else:
        if whole.ndim != 2 or whole.values().ndim not in (1, 3):
            raise UnsupportedTensorError(
                f"tensor {name!r} has batch or dense dimensions, of shape {tuple(whole.shape)}; store each matrix"
            )
        layout = _LAYOUTS[whole.layout]
        if layout in _BY_COLUMN:
            parts = (whole.values(), whole.row_indices(), whole.ccol_indices())
        else:
            parts = (whole.values(), whole.col_indices(), whole.crow_indices())
    if parts[0].ndim == 3:
        specs.blocksizes[len(specs.layouts)] = (int(parts[0].shape[1]), int(parts[0].shape[2]))
    codes = [_add_component(specs, part, name)[0] for part in parts]
    return specs.end_tensor(layout, codes[0], whole.shape, len(codes))


def _add_component(specs: Specs, tensor: torch.Tensor, name: str) -> tuple[int, torch.Size]:
    """Add the memory of a dense tensor. Returns the code of its element type, and its shape.

    Only what is certainly the same bytes gets the same key: the same place of real memory, which is held, seen in the same
    way, of no class that says itself what its values are.
    """
    # Another thread may give `tensor` other data; the alias keeps what is there now.
    alias = _alias(tensor)
    code = _dtypes.code_of_torch(alias.dtype)
    if code is None:
        way_out = "; pass its dequantize(), or its int_repr() and scales" if alias.is_quantized else ""
        raise UnsupportedTensorError(
            f"tensor {name!r} has elements of {alias.dtype}, which a .zt file cannot hold{way_out}"
        )
    if alias.device.type == "meta":
        raise UnsupportedTensorError(f"tensor {name!r} is on the meta device: it has a shape but no data to store")
    nbytes, shape = alias.nbytes, alias.shape
    if _has_dispatch(tensor) and (shape, alias.dtype) != (tensor.shape, tensor.dtype):
        # Its class gave a part of it.
        raise _without_memory(tensor, name)
    is_certain = _is_certain(tensor) and _is_certain(alias)
    address = _locate(tensor, alias, name) if alias.is_cpu or is_certain else 0
    if alias.is_cpu and alias.is_contiguous() and not _has_bits(alias):
        specs.add_component(address, nbytes, code, (address, nbytes) if is_certain else None, alias)
        return code, shape
    packed = _pack(tensor, alias, name)
    specs.keep(packed, nbytes)
    key = _view_key(alias, address) if is_certain else None
    specs.add_component(packed.data_ptr(), nbytes, code, key, alias)
    return code, shape


def to_torch(batch: Batch, made: Sequence[Any] | None = None) -> list[torch.Tensor]:
    """Tensors over memory that was read.

    Each dense tensor has a storage of its own, of exactly its size; those that are the same memory share one. Those that
    `made` holds were made already, the first of each memory among them. Under FakeTensorMode they become fake tensors.
    """
    mode = fake_mode()
    if mode is None:
        return _to_torch(batch, made)
    with _as_plain():
        return [mode.from_tensor(tensor, static_shapes=True) for tensor in _to_torch(batch, made)]


def _to_torch(batch: Batch, made: Sequence[Any] | None) -> list[torch.Tensor]:
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
        indices = _index(parts[1], torch.int64)
        return torch.sparse_coo_tensor(
            indices, parts[0], loaded.shape, device="cpu", check_invariants=False, is_coalesced=_ascends(indices)
        )
    values, indices, indptr = parts
    # torch wants both index arrays in one type, of 32 or 64 bits.
    dtype = indices.dtype if indices.dtype == indptr.dtype and indices.dtype in _INDEX_DTYPES else torch.int64
    make = _CONSTRUCTORS[loaded.layout]
    return make(
        _index(indptr, dtype), _index(indices, dtype), values, loaded.shape, device="cpu", check_invariants=False
    )


def _ascends(indices: torch.Tensor) -> bool:
    """Whether coordinates of shape (ndim, nnz) are sorted and none is there twice, as in a coalesced tensor."""
    for start in range(0, indices.shape[1] - 1, _ENTRIES):
        part = indices[:, start : start + _ENTRIES + 1]
        is_greater = torch.zeros(part.shape[1] - 1, dtype=torch.bool, device="cpu")
        is_equal = ~is_greater
        for row in part:
            is_greater |= is_equal & (row[1:] > row[:-1])
            is_equal &= row[1:] == row[:-1]
        if not is_greater.all():
            return False
    return True
