"""What several tests need: comparisons by bits, random tensors, damage, and processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import ztensor
from ztensor import _dtypes

#: From this size on, in bytes, a raw tensor of a mapped file has a mapping of its own.
LARGE = 256 * 1024

#: Names of the element types that NumPy has itself.
PLAIN = [row.name for row in _dtypes.TABLE if not row.needs_ml_dtypes]
#: Names of those that NumPy has with ml_dtypes.
IN_NUMPY = [row.name for row in _dtypes.TABLE if row.numpy is not None]
ALL = [row.name for row in _dtypes.TABLE]


def assert_same(found: Any, expected: Any) -> None:
    """Two NumPy arrays are of one type and shape, and equal bit for bit."""
    assert isinstance(found, np.ndarray)
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype.newbyteorder("=")
    assert found.shape == expected.shape
    native = expected.astype(expected.dtype.newbyteorder("="))
    assert np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(native).tobytes()


def bits(tensor: Any) -> bytes:
    """The bytes of a dense torch tensor in C order."""
    import torch

    source = tensor.detach()
    if source.element_size() == 1:
        # torch cannot copy every type of a byte, but bytes it can.
        source = source.view(torch.uint8)
    packed = source.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return bytes(packed.view(torch.uint8).numpy().tobytes())


def assert_same_tensor(found: Any, expected: Any) -> None:
    """Two torch tensors are of one type, layout and shape, and equal bit for bit, entry for entry."""
    import torch

    assert isinstance(found, torch.Tensor)
    assert (found.dtype, found.layout, found.shape) == (expected.dtype, expected.layout, expected.shape)
    for one, other in zip(components(found), components(expected)):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert bits(one) == bits(other)


def components(tensor: Any) -> list[Any]:
    """The dense tensors that a torch tensor is made of."""
    import torch

    if tensor.layout == torch.strided:
        return [tensor]
    if tensor.layout == torch.sparse_coo:
        return [tensor._values(), tensor._indices()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.values(), tensor.row_indices(), tensor.ccol_indices()]
    return [tensor.values(), tensor.col_indices(), tensor.crow_indices()]


def random_array(name: str, shape: Any, rng: np.random.Generator) -> Any:
    """An array of an element type by its name, of random bits (NaNs of every kind included)."""
    row = _dtypes.BY_NAME[name]
    count = int(np.prod(shape, dtype=np.int64))
    raw = rng.integers(0, 256, count * row.itemsize, dtype=np.uint8)
    if name == "bool":
        raw &= 1
    return raw.view(_dtypes.numpy_dtype(row.code)).reshape(shape)


def random_tensor(name: str, shape: Any, rng: np.random.Generator) -> Any:
    """A torch tensor of an element type by its name, of random bits."""
    import torch

    row = _dtypes.BY_NAME[name]
    dtype = _dtypes.torch_dtype(row.code)
    count = int(np.prod(shape, dtype=np.int64))
    if not count:
        return torch.empty(tuple(shape), dtype=dtype)
    raw = rng.integers(0, 256, count * row.itemsize, dtype=np.uint8)
    if name == "bool":
        raw &= 1
    return torch.from_numpy(raw).view(dtype).reshape(tuple(shape))


def has_lazy_tensors() -> bool:
    """Whether torch has a device whose tensors have no addresses; it is set up once a process."""
    global _has_lazy_tensors
    if _has_lazy_tensors is None:
        try:
            import torch._lazy
            import torch._lazy.ts_backend

            torch._lazy.ts_backend.init()
            _has_lazy_tensors = True
        except (ImportError, RuntimeError, AttributeError):
            _has_lazy_tensors = False
    return _has_lazy_tensors


_has_lazy_tensors: bool | None = None


def flip(path: Any, offset: int) -> None:
    """Turn over one bit of the byte at an offset."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def mapped(path: Any) -> int:
    """How many bytes of a file this process has mapped. Bytes that are mapped twice count twice."""
    real = os.path.realpath(path)
    total = 0
    with open("/proc/self/maps") as maps:
        for line in maps:
            # A file that was removed or replaced meanwhile is marked so.
            if line.rstrip("\n").removesuffix(" (deleted)").endswith(real):
                start, end = line.split()[0].split("-")
                total += int(end, 16) - int(start, 16)
    return total


def pages(size: int) -> int:
    """The bytes that a mapping of so many bytes has, of whole pages."""
    return size + -size % os.sysconf("SC_PAGESIZE")


def entries(directory: Any) -> list[str]:
    """The names in a directory, hidden ones too."""
    return sorted(os.listdir(directory))


def run_python(code: str, *arguments: Any, **environment: str) -> str:
    """Run a program in a process of its own, with this very package, and give what it prints."""
    source = str(Path(ztensor.__file__).parents[1])
    search = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search, **environment},
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
