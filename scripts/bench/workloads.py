"""The data that every subject of a case gets: the same bytes, from fixed seeds.

Arrays are made in memory. Each array of a dictionary has memory of its own.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

MIB = 1024 * 1024


@dataclass(frozen=True)
class Work:
    """Where a workload's files are, and how large it is."""

    folder: Path
    quick: bool

    def size(self, count: int) -> int:
        """A count of the full workload, or a twentieth of it for a quick run."""
        return count // 20 if self.quick else count

    def file(self, name: str, make: Callable[[Path], object]) -> Path:
        """A file of the workload, made once: the warm-up makes what the measured runs read."""
        path = self.folder / name
        if not path.exists():
            partial = self.folder / f"{name}.partial"
            make(partial)
            partial.rename(path)
        return path

    def bytes(self, name: str, make: Callable[[], Any]) -> bytes:
        """The bytes of such a file."""
        return self.file(name, lambda path: path.write_bytes(make())).read_bytes()


# Tensors that are saved and loaded.


def block(work: Work) -> Any:
    """64 MiB of bfloat16 weights, normally distributed, as bytes."""
    import numpy as np

    def make() -> Any:
        found = np.random.default_rng(1).standard_normal(32 * MIB, np.float32)
        return (found * np.float32(0.02)).view(np.uint16)[1::2].copy()  # the upper halves: bfloat16, rounded to zero

    return np.frombuffer(work.bytes("block", make), np.uint8)


def fill(source: Any, start: int, shape: tuple[int, ...], dtype: str) -> Any:
    """A new array with the bytes of `source` from `start` on, again and again."""
    import numpy as np

    found = np.empty(shape, dtype)
    data = found.reshape(-1).view(np.uint8)
    at, start = 0, start % len(source)
    while at < len(data):
        count = min(len(data) - at, len(source) - start)
        data[at : at + count] = source[start : start + count]
        at, start = at + count, 0
    return found


def model_shapes(work: Work) -> dict[str, tuple[int, ...]]:
    """290 tensors of a transformer with 24 layers: 642 million elements, 1.28 GB at 16 bits."""
    width, words = (320, 4096) if work.quick else (1408, 50304)
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (words, width)}
    parts = {
        "norm1": (width,),
        "attention.qkv": (3 * width, width),
        "attention.out": (width, width),
        "norm2": (width,),
        "mlp.up": (4 * width, width),
        "mlp.down": (width, 4 * width),
    }
    for layer in range(24):
        for part, shape in parts.items():
            shapes[f"layers.{layer:02}.{part}.weight"] = shape
            shapes[f"layers.{layer:02}.{part}.bias"] = shape[:1]
    shapes["norm.weight"] = (width,)
    return shapes


def model(work: Work) -> dict[str, Any]:
    """**model**: bfloat16 weights, as the uint16 that NumPy can hold."""
    source = block(work)
    return {
        name: fill(source, at * 1234568, shape, "uint16") for at, (name, shape) in enumerate(model_shapes(work).items())
    }


def small(work: Work) -> dict[str, Any]:
    """**small**: 20,000 tensors of 10 KiB, float32."""
    source = block(work)
    return {f"tensor.{at:06}": fill(source, at * 10240, (40, 64), "float32") for at in range(work.size(20_000))}


def tiny(work: Work) -> dict[str, Any]:
    """**tiny**: 100,000 tensors of 16 bytes, float32."""
    return many(work.size(100_000))


def many(count: int) -> dict[str, Any]:
    """`count` tensors of 16 bytes, float32."""
    import numpy as np

    return {f"tensor.{at:07}": np.full(4, at, np.float32) for at in range(count)}


def write_safetensors(path: Path, tensors: dict[str, Any]) -> None:
    """A safetensors file of many small float32 arrays; its own writer takes quadratic time for them."""
    header, at = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.write(b"".join(array.tobytes() for array in tensors.values()))


def as_torch(tensors: dict[str, Any]) -> dict[str, Any]:
    """The same memory as torch tensors, each with a storage of its own; uint16 becomes bfloat16."""
    import numpy as np
    import torch

    return {
        name: torch.from_numpy(array).view(torch.bfloat16) if array.dtype == np.uint16 else torch.from_numpy(array)
        for name, array in tensors.items()
    }


# Data that is compressed.


def weights(work: Work, dtype: str) -> dict[str, Any]:
    """**weights**: the floating-point tensors of a real model, rounded to `dtype`."""
    import numpy as np

    with open(work.folder / "model.safetensors", "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        if entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            found[name] = np.frombuffer(data[begin:end], np.float32).reshape(entry["shape"]).astype(_dtype(dtype))
    if work.quick:
        names = [name for name in found if ".layer.0." in name]
        return {name: found[name] for name in names}
    return found


def _dtype(name: str) -> Any:
    import numpy as np

    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def graph(work: Work, dtype: str) -> tuple[Any, Any, tuple[int, int]]:
    """**graph**: column indices, row starts and shape of a CSR matrix: 4,000 rows, 500 nonzeros of 50,000 columns each."""
    import numpy as np

    rng = np.random.default_rng(2)
    rows, columns = work.size(4000), 50_000
    indices = [np.sort(rng.choice(columns, 500, replace=False, shuffle=False)) for _ in range(rows)]
    starts = np.arange(0, 500 * rows + 1, 500)
    return np.concatenate(indices).astype(dtype), starts.astype(dtype), (rows, columns)


BAG_SIZE = 32 * MIB


def _zeros(size: int, rng: Any) -> Any:
    import numpy as np

    return np.zeros(size, np.uint8)


def _text(size: int, rng: Any) -> Any:
    """Words of a made-up language with the word frequencies of English (Zipf's law), in sentences."""
    import numpy as np

    syllables = [a + b for a in "b c d f g h l m n p r s t v w th st ch".split() for b in "a e i o u ea ou".split()]
    lengths = rng.choice([1, 2, 3, 4], 20_000, p=[0.2, 0.45, 0.25, 0.1])
    words = ["".join(rng.choice(syllables, length)) for length in lengths]
    frequency = 1 / np.arange(1, len(words) + 1)
    picked = rng.choice(len(words), size // 4, p=frequency / frequency.sum())
    ends = rng.choice([" ", " ", " ", " ", " ", " ", " ", ", ", ". ", ".\n"], len(picked))
    text = "".join([words[word] + end for word, end in zip(picked.tolist(), ends.tolist())]).encode()
    return np.frombuffer(text, np.uint8)[:size]


def _random(size: int, rng: Any) -> Any:
    import numpy as np

    return np.frombuffer(rng.bytes(size), np.uint8)


def _integers(size: int, rng: Any) -> Any:
    return rng.integers(0, 100, size // 8)


def _repeated(period: int) -> Callable[[int, Any], Any]:
    def make(size: int, rng: Any) -> Any:
        import numpy as np

        return np.resize(rng.standard_normal(period, np.float32), size // 4)

    return make


def _masks(size: int, rng: Any) -> Any:
    """Half padding masks of 512 tokens, half dropout masks with one in ten dropped."""
    import numpy as np

    rows = size // 1024
    padding = np.arange(512) < rng.integers(1, 513, (rows, 1))
    return np.concatenate([padding, rng.random((rows, 512), np.float32) < 0.9])


def _images(size: int, rng: Any) -> Any:
    """Images of 256 by 256 pixels in RGB: a gradient of any direction and colour, with noise of a deviation of 4."""
    import numpy as np

    y, x = np.mgrid[0:1:256j, 0:1:256j].astype(np.float32)
    found = []
    for _ in range(-(-size // (256 * 256 * 3))):
        low, across, down = rng.uniform(-100, 200, (3, 3)).astype(np.float32)
        image = low + x[..., None] * across + y[..., None] * down
        image += rng.standard_normal(image.shape, np.float32) * 4
        found.append(np.clip(image, 0, 255).astype(np.uint8))
    return np.stack(found)


BAG: dict[str, Callable[[int, Any], Any]] = {
    "zeros": _zeros,
    "text": _text,
    "random": _random,
    "small integers": _integers,
    "floats repeating every 1000": _repeated(1000),
    "floats repeating every 100000": _repeated(100_000),
    "bool masks": _masks,
    "images": _images,
}


def bag(work: Work, name: str) -> Any:
    """**mixed bag**: one of its inputs, 32 MiB."""
    import numpy as np

    def make(path: Path) -> None:
        with open(path, "wb") as file:
            np.save(file, BAG[name](work.size(BAG_SIZE), np.random.default_rng(3)))

    return np.load(work.file(f"{name}.npy", make))


def free_bytes(folder: str | os.PathLike[str]) -> int:
    """The bytes that are free on the filesystem of a folder."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
