"""Tensors of an open file that are read when a model takes their values, straight into its parameters."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ztensor import _dtypes
from ztensor._call import check
from ztensor._ffi import ffi, lib
from ztensor._metadata import Description
from ztensor._progress import Progress, let_signals_in
from ztensor._reader import Reader, converter
from ztensor._torch import is_in_order, torch
from ztensor.errors import CancelledError

#: Bytes that are decoded at a time where they cannot be decoded in place.
_SLICE = 16 * 1024 * 1024
#: Tensors of less than this are read together with those that follow them in the file, up to so many bytes in all.
_SMALL = 2 * 1024 * 1024
_GROUP = 16 * 1024 * 1024

_COPY = torch.Tensor.copy_
#: What can be said of a tensor without its values.
_ATTRIBUTES = [
    *("shape", "dtype", "device", "layout", "ndim", "itemsize", "nbytes", "requires_grad", "is_leaf", "grad_fn"),
    *("is_meta", "is_cpu", "is_cuda", "is_sparse", "is_nested", "is_quantized"),
]
_METHODS = ["size", "dim", "numel", "stride", "is_floating_point", "is_complex", "is_contiguous", "element_size", "__len__"]
_WITHOUT_VALUES = {getattr(torch.Tensor, name).__get__ for name in _ATTRIBUTES} | {getattr(torch.Tensor, name) for name in _METHODS}


class Source:
    """An open file whose dense tensors a model takes one after the other."""

    def __init__(self, reader: Reader, device: torch.device, watch: Progress) -> None:
        let_signals_in()
        self.reader = reader
        self._watch = watch
        self.handle = reader._handle()
        self.device = device
        #: The first error of reading. A model's own code may turn it into another one, or keep it for itself.
        self.error: Exception | None = None
        #: Small tensors: the group of each, by its number, and the group that was read last.
        self._groups: dict[int, list[Description]] = {}
        self._group: list[Description] = []
        self._read: dict[int, torch.Tensor] = {}

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors of the file, those that are not dense read already."""
        found: dict[str, Any] = {}
        others = []
        group: list[Description] = []
        size = 0
        for number in range(len(self.reader)):
            one = Description(self.handle, number)
            if one.layout != lib.ZT_DENSE or not one.dtype:
                others.append(one)
                found[one.name] = None
                continue
            found[one.name] = FileTensor(self, one)
            nbytes = one.tensor.len
            if nbytes < _SMALL:
                if size + nbytes > _GROUP:
                    group, size = [], 0
                group.append(one)
                size += nbytes
                self._groups[number] = group
        if others:
            for one, tensor in zip(others, self._load(others)):
                found[one.name] = tensor.to(self.device)
        # Of all tensors, with those that have been read.
        self._watch.expect(sum(tensor.nbytes for tensor in found.values() if isinstance(tensor, FileTensor)) + self._watch.done)
        return found

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Remember an error of reading. One of torch's own, when it copies, is left to torch, which names the parameter."""
        if isinstance(self.error, CancelledError):
            # A model goes on with its other tensors, none of which is read.
            raise self.error
        try:
            yield
        except Exception as err:
            if self.error is None:
                self.error = err
            raise

    def _load(self, described: list[Description]) -> list[torch.Tensor]:
        found: list[torch.Tensor] = converter("torch")(self.reader._load(self.handle, described, None, self._watch))
        return found

    def read(self, described: Description) -> torch.Tensor:
        """A tensor of its own, where the file is to be loaded to."""
        with self._noting():
            return self._load([described])[0].to(self.device)

    def copy(self, described: Description, target: torch.Tensor) -> None:
        """Set the values of a plain tensor of the same shape, on any device, of any type and strides."""
        with torch.no_grad():
            group = self._groups.get(described.number)
            if group is not None:
                _COPY(target, self._of_group(group, described))
            elif is_in_order(target) and target.dtype == _dtypes.torch_dtype(described.dtype):
                # Nothing is copied, but torch counts it as written to, and refuses it as ever.
                _COPY(target[:0], target[:0])
                targets = ffi.new("ZtTarget *", (described.number, 0, ffi.cast("void *", target.data_ptr()), target.nbytes))
                with self._noting():
                    check(lib.zt_reader_read_into(self.handle, targets, 1, lib.ZT_VERIFY_AS_OPENED))
                    self._watch.advance(target.nbytes)
            else:
                self._copy_slices(described, target.view(-1) if target.is_contiguous() else target)

    def _of_group(self, group: list[Description], described: Description) -> torch.Tensor:
        """A small tensor, which is read with its group. A model mostly takes tensors in the order of the file."""
        with self._noting():
            if group is not self._group:
                self._read.clear()
                read = self._load(group)
                self._group, self._read = group, {one.number: tensor for one, tensor in zip(group, read)}
            return self._read[described.number]

    def _copy_slices(self, described: Description, target: torch.Tensor) -> None:
        itemsize = _dtypes.BY_CODE[described.dtype].itemsize
        staging = np.empty(min(_SLICE, itemsize * target.numel()), np.uint8)
        values = torch.from_numpy(staging).view(_dtypes.torch_dtype(described.dtype))
        self._copy_rows(described, target, 0, ffi.from_buffer(staging), values)

    def _copy_rows(self, described: Description, target: torch.Tensor, first: int, memory: Any, values: torch.Tensor) -> None:
        """Set part of a tensor's values, from element `first` on: as many rows at a time as `memory` has room for, or else
        each row in parts. `values` is that memory as a tensor.
        """
        count = target.numel()
        if not count:
            return
        row = count // target.shape[0] if target.ndim else 1
        rows = len(values) // row
        if target.ndim and target.shape[0] > rows:
            for start in range(0, target.shape[0], rows or 1):
                part = target[start : start + rows] if rows else target[start]
                self._copy_rows(described, part, first + start * row, memory, values)
            return
        size = count * _dtypes.BY_CODE[described.dtype].itemsize
        with self._noting():
            check(
                lib.zt_reader_read_range_into(
                    self.handle, described.number, 0, first, count, lib.ZT_VERIFY_AS_OPENED, memory, size
                )
            )
            self._watch.advance(size)
        _COPY(target, values[:count].view(target.shape))


def is_loaded_by_torch(model: torch.nn.Module) -> bool:
    """Whether no code but that of ``torch.nn`` sees the tensors that a model loads. Other code may do anything with them:
    make parameters of them, keep them, or change their shape in place.
    """

    def is_of_torch(function: Any) -> bool:
        return str(getattr(function, "__module__", "")).startswith("torch.nn.")

    return is_of_torch(model.load_state_dict) and all(
        is_of_torch(module._load_from_state_dict)
        and is_of_torch(module.set_extra_state)
        and all(map(is_of_torch, module._load_state_dict_pre_hooks.values()))
        for module in model.modules()
    )


class FileTensor(torch.Tensor):
    """A dense tensor of an open file. ``copy_`` from it reads the file into the target; for anything else that asks for its
    values it becomes a tensor of its own.
    """

    _source: Source
    _described: Description
    _made: torch.Tensor | None

    @staticmethod
    def __new__(cls, source: Source, described: Description) -> FileTensor:
        dtype = _dtypes.torch_dtype(described.dtype)
        made: FileTensor = torch.Tensor._make_wrapper_subclass(cls, described.shape, dtype=dtype, device=source.device)
        made._source, made._described, made._made = source, described, None
        return made

    def values_of_file(self) -> torch.Tensor:
        """The tensor that this one stands for."""
        if self._made is None:
            self._made = self._source.read(self._described)
        return self._made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _WITHOUT_VALUES:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        if func is _COPY and not kwargs and len(args) == 2 and _takes_values(*args):
            target, source = args
            source._source.copy(source._described, target)
            return target
        return func(*_with_values(args), **_with_values(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return func(*_with_values(args), **_with_values(kwargs or {}))


def _with_values(found: Any) -> Any:
    """Arguments with the tensors that those of a file stand for."""
    if isinstance(found, FileTensor):
        return found.values_of_file()
    if type(found) in (list, tuple):
        return type(found)(map(_with_values, found))
    if type(found) is dict:
        return {key: _with_values(value) for key, value in found.items()}
    return found


def _takes_values(target: Any, source: Any) -> bool:
    """Whether the values of a file's tensor may be read into `target` part by part, to the same end as copied from a whole."""
    return (
        type(target) in (torch.Tensor, torch.nn.Parameter)
        and isinstance(source, FileTensor)
        and source._made is None
        and target.layout is torch.strided
        and target.shape == source.shape
        and not target.is_meta
        and not target.is_conj()
        and not target.is_neg()
        and not target.is_inference()
        and not (torch.is_grad_enabled() and target.requires_grad)
        and not torch._C._len_torch_dispatch_stack()
    )
