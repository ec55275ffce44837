"""What is compared: how each library saves, loads, opens, compresses and decompresses.

Every function here imports what it needs and returns the function that is timed, so that no import is.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

PEER_1 = "ztensor 1.1.1"
PEER_12 = "ztensor 1.2.3"
PEER_2 = "ztensor 2.1.2"
#: Each has an environment of its own.
PEERS = (PEER_1, PEER_12, PEER_2)

Save = Callable[[dict[str, Any], Path], object]
Load = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Files:
    """A file format. `torch` tells whether its dictionaries are of torch tensors; else of NumPy arrays."""

    save: Callable[[], Save]
    load: Callable[[], Load] | None
    torch: bool = True


def _ztensor_save() -> Save:
    from ztensor.torch import save_file

    return lambda tensors, path: save_file(tensors, path, fsync=False)


def _ztensor_save_compressed() -> Save:
    from ztensor.torch import save_file

    return lambda tensors, path: save_file(tensors, path, fsync=False, compress=True)


def _ztensor_load() -> Load:
    from ztensor.torch import load_file

    return load_file


def _ztensor_read() -> Load:
    from ztensor.torch import load_file

    return lambda path: load_file(path, mode="read")


def _safetensors_save() -> Save:
    from safetensors.torch import save_file

    return save_file


def _safetensors_load() -> Load:
    from safetensors.torch import load_file

    return load_file


def _safetensors_read() -> Load:
    from safetensors.torch import load_file

    return lambda path: load_file(path, backend="pread")


def _torch_save() -> Save:
    import torch

    return torch.save


def _torch_load() -> Load:
    import torch

    return lambda path: torch.load(path, mmap=True, weights_only=True)


def _savez_save() -> Save:
    import numpy as np

    def save(tensors: dict[str, Any], path: Path) -> None:
        with open(path, "wb") as file:
            np.savez(file, **tensors)

    return save


def _savez_load() -> Load:
    import numpy as np

    def load(path: Path) -> dict[str, Any]:
        with np.load(path) as file:
            return dict(file)

    return load


def _peer_1_save() -> Save:
    from ztensor.torch import save_file

    return save_file


def _peer_1_load() -> Load:
    from ztensor.torch import load_file

    return load_file


def _peer_2_save() -> Save:
    import torch
    import ztensor

    names = {torch.float32: "f32", torch.bfloat16: "bf16"}

    def save(tensors: dict[str, Any], path: Path) -> None:
        with ztensor.Writer(str(path)) as writer:
            for name in sorted(tensors):
                tensor = tensors[name]
                data = tensor.reshape(-1).view(torch.uint8).numpy()
                writer.add(name, data, shape=list(tensor.shape), dtype=names[tensor.dtype])
            writer.finish()

    return save


def _peer_2_load() -> Load:
    import torch
    import ztensor

    def load(path: Path) -> dict[str, Any]:
        return {name: torch.from_dlpack(tensor) for name, tensor in ztensor.open(str(path)).items()}

    return load


def write_peer_12(path: Path, tensors: dict[str, Any]) -> None:
    """A file of generation 1.2, of small arrays, by its own writer."""
    import ztensor

    with ztensor.Writer(str(path)) as writer:
        for name, array in tensors.items():
            writer.add(name, array)
        writer.finish()


def write_peer_2(path: Path, tensors: dict[str, Any]) -> None:
    """A file of generation 2, of small float32 arrays, by its own writer, as densely as it can."""
    import ztensor

    with ztensor.Writer(str(path), canonical=False, align=4096) as writer:
        for name, array in tensors.items():
            writer.add(name, array.view("uint8"), shape=list(array.shape), dtype="f32")
        writer.finish()


def _pwrite(path: Path, tensors: dict[str, Any]) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    at = 0
    for array in tensors.values():
        data = memoryview(array.reshape(-1)).cast("B")
        while len(data):
            written = os.pwrite(file, data, at)
            at, data = at + written, data[written:]
    os.close(file)


def _pwrite_save() -> Save:
    """Bare writes on one thread, to a new file that then takes the name: what a save that keeps the old file has to do."""

    def save(tensors: dict[str, Any], path: Path) -> None:
        beside = path.with_suffix(".beside")
        _pwrite(beside, tensors)
        os.replace(beside, path)

    return save


def _pwrite_in_place() -> Save:
    """Bare writes on one thread, into the emptied file itself."""
    return lambda tensors, path: _pwrite(path, tensors)


def _bare_read() -> Load:
    """Bare reads on one thread, of the whole file into one piece of fresh memory."""
    import numpy as np

    def load(path: Path) -> dict[str, Any]:
        file = os.open(path, os.O_RDONLY)
        found = np.empty(os.fstat(file).st_size, np.uint8)
        view, at = memoryview(found), 0
        while at < len(view):
            at += os.preadv(file, [view[at:]], at)
        os.close(file)
        return {"": found}

    return load


ZTENSOR = Files(_ztensor_save, _ztensor_load)
ZTENSOR_READ = Files(_ztensor_save, _ztensor_read)
ZTENSOR_COMPRESSED = Files(_ztensor_save_compressed, _ztensor_read)
SAFETENSORS = Files(_safetensors_save, _safetensors_load)
SAFETENSORS_PREAD = Files(_safetensors_save, _safetensors_read)
TORCH = Files(_torch_save, _torch_load)
SAVEZ = Files(_savez_save, _savez_load, torch=False)
PEER_1_FILES = Files(_peer_1_save, _peer_1_load)
PEER_2_FILES = Files(_peer_2_save, _peer_2_load)
PWRITE = Files(_pwrite_save, None, torch=False)
PWRITE_IN_PLACE = Files(_pwrite_in_place, None, torch=False)
BARE_READ = Files(_pwrite_save, _bare_read, torch=False)


# Compression in memory. What goes in is a dictionary of arrays; what comes out is bytes.

Compress = Callable[[dict[str, Any]], bytes]
Decompress = Callable[[bytes], Any]


@dataclass(frozen=True)
class Codec:
    """Makes the functions that compress and decompress, for a number of threads."""

    compress: Callable[[int], Compress]
    decompress: Callable[[int], Decompress]
    #: True if it takes one array instead of a dictionary: all the data in one buffer.
    whole: bool = True


def _ztensor_compress(level: int | bool = True) -> Callable[[int], Compress]:
    def make(threads: int) -> Compress:
        from ztensor.numpy import save

        return lambda tensors: save(tensors, compress=level, threads=threads)

    return make


def _ztensor_decompress(threads: int) -> Decompress:
    from ztensor.numpy import load

    return lambda data: load(data, threads=threads)


def _zstd_compress(threads: int) -> Compress:
    import zstandard

    # 0 compresses on the calling thread; a number starts as many others.
    coder = zstandard.ZstdCompressor(level=3, threads=threads if threads > 1 else 0)
    return lambda array: coder.compress(array.reshape(-1).view("uint8"))


def _zstd_decompress(threads: int) -> Decompress:
    import zstandard

    return zstandard.ZstdDecompressor().decompress


def _blosc2_compress(threads: int) -> Compress:
    import blosc2

    def compress(array: Any) -> bytes:
        settings = blosc2.CParams(
            codec=blosc2.Codec.ZSTD, clevel=5, filters=[blosc2.Filter.SHUFFLE], typesize=array.itemsize, nthreads=threads
        )
        return blosc2.compress2(array, cparams=settings)

    return compress


def _blosc2_decompress(threads: int) -> Decompress:
    import blosc2

    settings = blosc2.DParams(nthreads=threads)
    return lambda data: blosc2.decompress2(data, dparams=settings)


def _zipnn_compress(threads: int) -> Compress:
    """It takes bytes, and rearranges them in place: what was given is not the same afterwards."""
    from zipnn import ZipNN

    def compress(array: Any) -> bytes:
        coder = ZipNN(input_format="byte", bytearray_dtype=str(array.dtype), threads=threads)
        return coder.compress(memoryview(array.reshape(-1).view("uint8")))

    return compress


def _zipnn_decompress(threads: int) -> Decompress:
    from zipnn import ZipNN

    return lambda data: ZipNN(input_format="byte", threads=threads).decompress(data)


ZTENSOR_CODEC = Codec(_ztensor_compress(), _ztensor_decompress, whole=False)
ZTENSOR_19 = Codec(_ztensor_compress(19), _ztensor_decompress, whole=False)
ZSTD = Codec(_zstd_compress, _zstd_decompress)
BLOSC2 = Codec(_blosc2_compress, _blosc2_decompress)
ZIPNN = Codec(_zipnn_compress, _zipnn_decompress)
