"""Dictionaries and models of PyTorch, to files and back: the functions of ``safetensors.torch``.

Tensors that are the same memory, such as tied weights, are stored once and come back as one storage. Loaded tensors are
writable and private: writing to them changes neither the file nor other loads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Union

from ztensor import _dtypes
from ztensor._ffi import lib
from ztensor._call import Fsync, Mode
from ztensor._reader import Reader
from ztensor._torch import torch
from ztensor._writer import save_to_bytes, save_to_file
from ztensor.errors import ArgumentError, UnsupportedTensorError

__all__ = ["save_file", "load_file", "save", "load", "save_model", "load_model"]

Device = Union[str, int, torch.device]


def save_file(
    tensors: Mapping[str, torch.Tensor],
    filename: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
    *,
    compress: bool | int = False,
    threads: int | None = None,
    fsync: Fsync = "auto",
) -> None:
    """Save a dictionary of tensors to a file.

    An existing file is replaced only once the new one is whole.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        Dense or sparse, on any device, in any memory layout. It is not changed.
    filename : str or os.PathLike
    metadata : mapping, optional
        The file's own key-values; ``ztensor.Reader(filename).file_metadata`` gives them back.
    compress : bool or int
        False stores the data as it is; True compresses at level 3; 1 to 22 are levels of zstd.
    threads : int, optional
        Threads that compress and checksum; by default as many as the machine has.
    fsync : {'auto', True, False}
        When the file is flushed to the disk; see :class:`ztensor.Writer`.

    Raises
    ------
    UnsupportedTensorError
        If a tensor cannot be stored; the message names it.
    FileError
        If the file cannot be written; what stood under its name stays.
    """
    save_to_file(tensors, filename, metadata, compress, threads, fsync)


def load_file(
    filename: str | os.PathLike[str],
    device: Device = "cpu",
    *,
    mode: Mode = "mmap",
    verify: bool = False,
    threads: int | None = None,
) -> dict[str, torch.Tensor]:
    """Load all tensors of a file, in the order written.

    Each tensor has a storage of its own, of exactly its size; those that were stored once share one.

    Parameters
    ----------
    filename : str or os.PathLike
    device : str, int or torch.device
        Where the tensors go; an int is a CUDA device. For ``"meta"`` no data is read.
    mode, verify, threads
        Those of :class:`ztensor.Reader`, and so are the exceptions.
    """
    with Reader(filename, mode=mode, verify=verify, threads=threads) as reader:
        return _load(reader, device)


def save(
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, Any] | None = None,
    *,
    compress: bool | int = False,
    threads: int | None = None,
) -> bytes:
    """Save a dictionary of tensors to bytes: those of the file that :func:`save_file` writes."""
    return save_to_bytes(tensors, metadata, compress, threads)


def load(
    data: bytes | bytearray | memoryview,
    device: Device = "cpu",
    *,
    verify: bool = False,
    threads: int | None = None,
) -> dict[str, torch.Tensor]:
    """Load all tensors from the bytes of a file. The bytes are not needed afterwards."""
    with Reader(data, verify=verify, threads=threads) as reader:
        return _load(reader, device)


def save_model(
    model: torch.nn.Module,
    filename: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
    force_contiguous: bool = True,
    *,
    compress: bool | int = False,
    threads: int | None = None,
    fsync: Fsync = "auto",
) -> None:
    """Save a model's ``state_dict()``. Every name is kept; tensors that the model ties are stored once.

    Parameters
    ----------
    model : torch.nn.Module
        It is not changed.
    filename, metadata, compress, threads, fsync
        As of :func:`save_file`.
    force_contiguous : bool, default True
        Pack tensors that are not contiguous; if False, they are refused.

    Raises
    ------
    UnsupportedTensorError
        If the state holds something that is no tensor, such as a module's extra state.
    ArgumentError
        If `force_contiguous` is False and a tensor is not contiguous.
    """
    state = model.state_dict()
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            raise UnsupportedTensorError(f"the state {name!r} is a {type(tensor).__name__}, not a tensor")
        if not force_contiguous and tensor.layout == torch.strided and not tensor.is_contiguous():
            raise ArgumentError(f"tensor {name!r} is not contiguous, and force_contiguous is False")
    save_file(state, filename, metadata, compress=compress, threads=threads, fsync=fsync)


def load_model(
    model: torch.nn.Module,
    filename: str | os.PathLike[str],
    strict: bool = True,
    device: Device = "cpu",
    *,
    mode: Mode = "mmap",
    verify: bool = False,
    threads: int | None = None,
) -> tuple[list[str], list[str]]:
    """Load a file into a model, as ``model.load_state_dict`` does.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters and buffers get the file's values.
    filename : str or os.PathLike
    strict : bool, default True
        Raise a RuntimeError unless the file's names are exactly the model's. Of names that the model ties, one is enough.
    device : str, int or torch.device
        Where the file is loaded to before it is copied into the model.
    mode, verify, threads
        Those of :class:`ztensor.Reader`, and so are the exceptions.

    Returns
    -------
    missing, unexpected : list of str
        Names that the file lacks, and names that the model lacks.
    """
    tensors = load_file(filename, device, mode=mode, verify=verify, threads=threads)
    tied: dict[Any, str] = {}
    state = model.state_dict()
    for name, tensor in state.items():
        if name in tensors and (key := _memory_of(tensor)):
            tied.setdefault(key, name)
    for name, tensor in state.items():
        if name not in tensors and (same := tied.get(_memory_of(tensor))):
            tensors[name] = tensors[same]
    missing, unexpected = model.load_state_dict(tensors, strict=strict)
    return missing, unexpected


def _memory_of(tensor: Any) -> Any:
    """What is the same for tensors that are the same view of the same memory; None for one without memory."""
    if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or not tensor.data_ptr():
        return None
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _load(reader: Reader, device: Device) -> dict[str, torch.Tensor]:
    target = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if target.type == "meta":
        return _load_meta(reader)
    tensors: dict[str, torch.Tensor] = reader._load_all("torch")
    if target.type == "cpu":
        return tensors
    # What is tied on the CPU is moved once, so that it is tied there too.
    moved: dict[tuple[int, torch.dtype, int], torch.Tensor] = {}
    found = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or not tensor.numel():
            found[name] = tensor.to(target)
            continue
        key = (tensor.data_ptr(), tensor.dtype, tensor.numel())
        if key not in moved:
            moved[key] = tensor.to(target)
        found[name] = moved[key].view(tensor.shape)
    return found


def _load_meta(reader: Reader) -> dict[str, torch.Tensor]:
    """Tensors of the right shape and type, without data. Those that were stored once share a storage."""
    found = {}
    described = reader._describe_all()
    shared: dict[tuple[int, int], torch.Tensor] = {}
    # Of the sparse ones, which have more components than one, the first is the end.
    for name, layout, dtype, shape, share in zip(
        described.names, described.layouts, described.dtypes, described.shapes, reader._shares()
    ):
        if not dtype:
            raise UnsupportedTensorError(f"tensor {name!r} has an element type that is not known")
        if layout != lib.ZT_DENSE:
            raise UnsupportedTensorError(f"tensor {name!r} is sparse, and sparse tensors cannot be on the meta device")
        made = torch.empty(shape, dtype=_dtypes.torch_dtype(dtype), device="meta")
        found[name] = shared.setdefault((share, dtype), made).view(shape) if share else made
    return found
