"""What a strict type checker is to make of code that uses the package. It is checked, not run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

import ztensor
import ztensor.numpy
import ztensor.torch
from ztensor import Reader, TensorMetadata, Writer, ZTensorError


def write(path: Path, array: npt.NDArray[np.float32], tensor: torch.Tensor) -> None:
    with Writer(path, metadata={"epoch": 3, "tags": ["a", b"b", None]}, threads=4, fsync="auto") as writer:
        writer.add_tensor("array", array)
        writer.add_tensor("packed", array, compress=True)
        writer.add_tensor("tensor", tensor, compress=19, attributes={"scale": 0.5})
        writer.add_tensors({"a": array, "b": tensor}, compress=1)
        writer.add_sparse_csr("csr", array, array, array, (3, 4), compress=3)
        writer.add_sparse_coo("coo", array, array, [3, 4])
    ztensor.convert(path, str(path), 3, progress=lambda name, done, total: done < total, verify=False, threads=2)
    other: Writer = Writer(str(path), fsync=False)
    other.finalize()
    other.close()
    other.abandon()
    flush: Literal["auto"] | bool = True
    Writer(path, metadata={"loss": np.float32(0.5), "done": np.True_}, fsync=flush).close()


def read(path: Path) -> list[str]:
    with Reader(path, mode="read", verify=True, threads=None) as reader:
        array: npt.NDArray[np.float32] = reader["array"]
        tensor: torch.Tensor = reader.read_tensor("tensor", to="torch", verify=False)
        several: list[Any] = reader.read_tensors(["a", "b"])
        rows: npt.NDArray[np.float32] = reader.read_rows("array", 0, 2)
        first: TensorMetadata = reader[0]
        last: list[TensorMetadata] = reader[-2:] + [reader[np.int64(1)]]
        names: list[str] = reader.tensor_names + reader.keys() + reader._ipython_key_completions_()
        metadata: dict[str, Any] = reader.file_metadata
        reader.verify(lambda done, total: done < total)
        reader.verify(progress=print)
        count: int = len(reader) + array.size + tensor.numel() + len(several) + rows.ndim + len(metadata)
        for meta in reader:
            names.append(f"{meta.name} {meta.shape[0]} {meta.dtype} {meta.offset + meta.size + count}")
        for name, value in reader.items():
            names.append(name + str(value))
        encoding: str | None = first.encoding
        return names if "array" in reader and encoding is None and last else []


def dictionaries(path: Path, arrays: dict[str, npt.NDArray[np.float64]], model: torch.nn.Module) -> bytes:
    ztensor.numpy.save_file(arrays, path, {"k": 1}, compress=True)
    loaded: dict[str, Any] = ztensor.numpy.load_file(path, mode="mmap")
    tensors: dict[str, torch.Tensor] = ztensor.torch.load_file(path, device=0)
    tensors = ztensor.torch.load_file(str(path), torch.device("cpu"), verify=True)
    tensors = ztensor.torch.load(ztensor.torch.save(tensors, compress=3), "cpu")
    ztensor.torch.save_file(tensors, path, metadata=None)
    ztensor.torch.save_model(model, path, force_contiguous=False)
    missing, unexpected = ztensor.torch.load_model(model, path, strict=False, device="cpu")
    names: list[str] = missing + unexpected + list(loaded)
    return ztensor.numpy.save(arrays) if names else memoryview(b"").tobytes()


def errors(path: Path) -> int | None:
    try:
        Reader(path)
    except ztensor.MissingFileError as err:
        return err.errno
    except ztensor.FileError as err:
        strerror: str | None = err.strerror
        return err.errno if strerror else err.status
    except ZTensorError as err:
        return err.status
    return None


# What is wrong is told: strict checking complains where an "ignore" is not needed.
def mistakes(path: Path, reader: Reader) -> None:
    Writer(5)  # type: ignore[arg-type]
    Reader(path, "mmap")  # type: ignore[call-arg, misc, unused-ignore]
    Reader(path, verify=None)  # type: ignore[arg-type]
    reader[1.5]  # type: ignore[call-overload]
    reader.read_tensor(3)  # type: ignore[arg-type]
    reader.read_tensor("a", to="jax")  # type: ignore[arg-type]
    reader.read_tensors(["a"], "numpi")  # type: ignore[arg-type]
    reader.read_rows("a", 0, 1, to="Torch")  # type: ignore[arg-type]
    Reader(path, mode="mapped")  # type: ignore[arg-type]
    Writer(path, fsync="always")  # type: ignore[arg-type]
    ztensor.convert(path, path, mode="rb", fsync="never")  # type: ignore[arg-type]
    ztensor.numpy.load_file(path, mode="r")  # type: ignore[arg-type]
    ztensor.torch.save_file({}, path, fsync="never")  # type: ignore[arg-type]
    ztensor.torch.load_file(path, device=1.5)  # type: ignore[arg-type]
    ztensor.numpy.save([1])  # type: ignore[arg-type]
