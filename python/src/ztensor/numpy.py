"""Dictionaries of NumPy arrays and SciPy sparse matrices, to files and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ztensor._call import Fsync, Mode
from ztensor._progress import ProgressLike
from ztensor._reader import Reader
from ztensor._writer import save_to_bytes, save_to_file

__all__ = ["save_file", "load_file", "save", "load"]


def save_file(
    tensors: Mapping[str, Any],
    filename: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
    *,
    compress: bool | int = False,
    threads: int | None = None,
    fsync: Fsync = "auto",
    atomic: bool = True,
    progress: ProgressLike = None,
) -> None:
    """Save a dictionary of arrays to a file.

    Arrays that are the same memory are stored once. An existing file is replaced only once the new one is whole, unless `atomic` is False.

    Parameters
    ----------
    tensors : mapping of str to array
        NumPy arrays, SciPy sparse matrices, or anything with ``__array__`` or ``__dlpack__``. It is not changed.
    filename : str or os.PathLike
    metadata : mapping, optional
        The file's own key-values; ``Reader(filename).file_metadata`` gives them back.
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
    No array may change while it is saved; see :class:`ztensor.Writer`. Ctrl-C stops the call within 0.2 s. If `atomic`, the
    file that is there stays then, and nothing is left behind.

    Raises
    ------
    UnsupportedTensorError
        If an array cannot be stored; the message names it.
    FileError
        If the file cannot be written. If `atomic`, the file that is there stays.
    """
    save_to_file(tensors, filename, metadata, compress, threads, fsync, atomic, progress)


def load_file(
    filename: str | os.PathLike[str],
    *,
    mode: Mode = "mmap",
    verify: bool = False,
    threads: int | None = None,
    progress: ProgressLike = None,
) -> dict[str, Any]:
    """Load all tensors of a file, as NumPy arrays and SciPy sparse matrices, in the order written.

    The arrays are the caller's own: they can be written to, and the file can be replaced or removed. `mode`, `verify` and
    `threads` are those of :class:`ztensor.Reader`, and so are the exceptions. `progress` is that of
    :meth:`ztensor.Reader.read_tensor`. Ctrl-C stops the call within 0.2 s.
    """
    with Reader(filename, mode=mode, verify=verify, threads=threads) as reader:
        return reader._load_all("numpy", progress=progress)


def save(
    tensors: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    compress: bool | int = False,
    threads: int | None = None,
) -> bytes:
    """Save a dictionary of arrays to bytes: those of the file that :func:`save_file` writes."""
    return save_to_bytes(tensors, metadata, compress, threads)


def load(data: bytes | bytearray | memoryview, *, verify: bool = False, threads: int | None = None) -> dict[str, Any]:
    """Load all tensors from the bytes of a file. The bytes are not needed afterwards."""
    with Reader(data, verify=verify, threads=threads) as reader:
        return reader._load_all("numpy")
