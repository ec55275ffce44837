"""Dictionaries and models of PyTorch, to files and back: the functions of ``safetensors.torch``.

Tensors that are the same memory, such as tied weights, are stored once and come back as one storage. Loaded tensors are
writable and private: writing to them changes neither the file nor other loads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Union

from ztensor import _dtypes, _lazy, _progress
from ztensor._ffi import lib
from ztensor._call import Fsync, Mode
from ztensor._progress import ProgressLike
from ztensor._reader import Reader
from ztensor._torch import fake_mode, is_uninitialized, torch, view_of
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
    atomic: bool = True,
    progress: ProgressLike = None,
) -> None:
    """Save a dictionary of tensors to a file.

    An existing file is replaced only once the new one is whole, unless `atomic` is False.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor
        Dense or sparse, on any device, in any memory layout. It is not changed. Tensors that are certainly the same bytes are
        stored once. Their values must not change before the call returns; a tensor may be given other data (``tensor.data``).
    filename : str or os.PathLike
    metadata : mapping, optional
        The file's own key-values; ``ztensor.Reader(filename).file_metadata`` gives them back.
    compress : bool or int
        False stores the data as it is; True compresses at level 3; 1 to 22 are levels of zstd.
    threads : int, optional
        Threads that compress and checksum; by default as many as the machine has.
    fsync : {'auto', True, False}
        When the file is flushed to the disk; see :class:`ztensor.Writer`.
    atomic : bool, default True
        False writes the file in place, without protection against failures; see :class:`ztensor.Writer`.
    progress : callable or bool, optional
        Called with the bytes done and the bytes to do, on this thread: every 50 ms or so, and at the end. If it returns False
        the work stops with a CancelledError; an exception in it stops the work too and is raised. True shows a bar, which
        needs tqdm.

    Notes
    -----
    No tensor may change while it is saved; see :class:`ztensor.Writer`. Ctrl-C stops the call within 0.2 s. If `atomic`, the
    file that is there stays then, and nothing is left behind.

    Raises
    ------
    UnsupportedTensorError
        If a tensor cannot be stored; the message names it. That is so for tensors without memory of their own, such as
        distributed, quantized, masked and fake ones, and for views of a storage that was freed or shortened.
    FileError
        If the file cannot be written. If `atomic`, the file that is there stays.
    """
    save_to_file(tensors, filename, metadata, compress, threads, fsync, atomic, progress)


def load_file(
    filename: str | os.PathLike[str],
    device: Device = "cpu",
    *,
    mode: Mode = "mmap",
    verify: bool = False,
    threads: int | None = None,
    progress: ProgressLike = None,
) -> dict[str, torch.Tensor]:
    """Load all tensors of a file, in the order written.

    Each tensor has a storage of its own, of exactly its size; those that were stored once share one. The storages cannot be
    resized; a ``clone()`` can. Under FakeTensorMode the tensors are fake, and only sparse ones are read.

    Parameters
    ----------
    filename : str or os.PathLike
    device : str, int or torch.device
        Where the tensors go; an int is a CUDA device. For ``"meta"`` no data is read.
    mode, verify, threads
        Those of :class:`ztensor.Reader`, and so are the exceptions.
    progress : callable or bool, optional
        As of :meth:`ztensor.Reader.read_tensor`. Ctrl-C stops the call within 0.2 s.
    """
    with Reader(filename, mode=mode, verify=verify, threads=threads) as reader:
        return _load(reader, device, progress)


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
    atomic: bool = True,
    progress: ProgressLike = None,
) -> None:
    """Save a model's ``state_dict()``. Every name is kept; tensors that the model ties are stored once.

    Parameters
    ----------
    model : torch.nn.Module
        It is not changed.
    filename, metadata, compress, threads, fsync, atomic, progress
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
        if force_contiguous or is_uninitialized(tensor) or tensor.layout != torch.strided:
            continue
        if not tensor.is_contiguous():
            raise ArgumentError(f"tensor {name!r} is not contiguous, and force_contiguous is False")
    save_file(state, filename, metadata, compress=compress, threads=threads, fsync=fsync, atomic=atomic, progress=progress)


def load_model(
    model: torch.nn.Module,
    filename: str | os.PathLike[str],
    strict: bool = True,
    device: Device = "cpu",
    *,
    assign: bool = False,
    mode: Mode = "mmap",
    verify: bool = False,
    threads: int | None = None,
    progress: ProgressLike = None,
) -> tuple[list[str], list[str]]:
    """Load a file into a model, as ``model.load_state_dict`` does.

    Values are read straight into the model's parameters and buffers, or 16 MiB at a time where those are on another device,
    of another type or not contiguous: there is no second copy of the model.

    Parameters
    ----------
    model : torch.nn.Module
        Its parameters and buffers get the file's values. Lazy ones get their shapes from the file.
    filename : str or os.PathLike
    strict : bool, default True
        Raise a RuntimeError unless the file's names are exactly the model's. Of names that the model ties, one is enough.
    device : str, int or torch.device
        Where the file's tensors are, for hooks that look at them, and for `assign`.
    assign : bool, default False
        Make the loaded tensors the model's parameters and buffers, instead of copying into those that it has. A model on the
        meta device needs it, since it has no memory to copy to.
    mode, verify, threads
        Those of :class:`ztensor.Reader`, and so are the exceptions.
    progress : callable or bool, optional
        As of :func:`load_file`.

    Returns
    -------
    missing, unexpected : list of str
        Names that the file lacks, and names that the model lacks.

    Raises
    ------
    ArgumentError
        If a parameter or buffer of the file's is on the meta device, and `assign` is False.
    RuntimeError
        If names or shapes do not fit. What does is loaded then, as by ``load_state_dict``.
    ZTensorError
        If the file cannot be read. Some of the model may have been loaded by then.
    """
    target = _device(device)
    with Reader(filename, mode=mode, verify=verify, threads=threads) as reader:
        state = model.state_dict(keep_vars=True)
        if not assign:
            for name, tensor in state.items():
                if name in reader and isinstance(tensor, torch.Tensor) and tensor.is_meta and fake_mode() is None:
                    raise ArgumentError(
                        f"the model's {name!r} is on the meta device, which has no memory to copy values to: pass assign=True, or "
                        "give the model memory first, by model.to_empty(device=...)"
                    )
        source = None
        if assign or target.type == "meta" or fake_mode() is not None or not _lazy.is_loaded_by_torch(model):
            tensors = _load(reader, device, progress)
            watch = _progress.watch(None)
        else:
            # torch says what is the matter with a device that is not there.
            torch.empty(0, device=target)
            watch = _progress.watch(progress)
            source = _lazy.Source(reader, target, watch)
            tensors = {}
        with contextlib.closing(watch), watch:
            if source is not None:
                tensors = source.tensors()
            _add_tied_names(state, tensors)
            try:
                missing, unexpected = model.load_state_dict(tensors, strict=strict, assign=assign)
            except RuntimeError as err:
                if source is not None and source.error is not None:
                    raise source.error from err
                raise
            if source is not None and source.error is not None:
                raise source.error
            watch.finish()
    return missing, unexpected


def _add_tied_names(state: Mapping[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Give a model's names that the file lacks the file's tensor of another name, if the model ties the two."""
    tied: dict[Any, str] = {}
    for name, tensor in state.items():
        if name in tensors:
            for key in _keys_of(tensor):
                tied.setdefault(key, name)
    for name, tensor in state.items():
        if name not in tensors:
            same = next((tied[key] for key in _keys_of(tensor) if key in tied), None)
            if same is not None:
                tensors[name] = tensors[same]


def _keys_of(tensor: Any) -> list[Any]:
    """What two tensors have in common only if they are one, or certainly the same view of the same memory."""
    if not isinstance(tensor, torch.Tensor):
        return []
    view = view_of(tensor)
    return [id(tensor)] if view is None else [id(tensor), view]


def _device(device: Device) -> torch.device:
    return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)


def _load(reader: Reader, device: Device, progress: ProgressLike = None) -> dict[str, torch.Tensor]:
    target = _device(device)
    if target.type == "meta" or fake_mode() is not None:
        return _load_without_data(reader, target)
    tensors: dict[str, torch.Tensor] = reader._load_all("torch", progress=progress)
    if target.type == "cpu":
        return tensors
    # What is tied on the CPU is moved once, so that it is tied there too.
    moved: dict[tuple[int, torch.dtype, int], torch.Tensor] = {}
    found = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or not tensor.numel():
            found[name] = tensor.to(target)
            continue
        # All of them are plain, in memory of this process, and held.
        key = (tensor.data_ptr(), tensor.dtype, tensor.numel())
        if key not in moved:
            moved[key] = tensor.to(target)
        found[name] = moved[key].view(tensor.shape)
    return found


def _load_without_data(reader: Reader, device: torch.device) -> dict[str, torch.Tensor]:
    """Tensors of the right shape and type, on the meta device or under FakeTensorMode. Those that were stored once share a
    storage. Of sparse ones, which are fake only, the components are read.
    """
    found = {}
    described = reader._describe_all()
    aliases = reader._shares()
    made_once: dict[tuple[int, int], torch.Tensor] = {}
    part = 0
    for name, layout, dtype, shape, count in zip(
        described.names, described.layouts, described.dtypes, described.shapes, described.counts
    ):
        alias = aliases[part] if count else 0
        part += count
        if not dtype:
            raise UnsupportedTensorError(f"tensor {name!r} has an element type that is not known")
        if layout != lib.ZT_DENSE:
            if fake_mode() is None or device.type == "meta":
                raise UnsupportedTensorError(f"tensor {name!r} is sparse, and sparse tensors cannot be on the meta device")
            found[name] = reader.read_tensor(name, to="torch").to(device)
            continue
        made = torch.empty(shape, dtype=_dtypes.torch_dtype(dtype), device=device)
        found[name] = made_once.setdefault((alias, dtype), made).view(shape) if alias else made
    return found
