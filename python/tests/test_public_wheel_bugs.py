"""What the public ztensor 1.1.1 gets wrong, each case once."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import LARGE, assert_same

import ztensor
from ztensor import Reader, Writer


@pytest.mark.parametrize("count", [10, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
def test_an_array_is_not_freed_with_its_reader(count: int, compress: bool, path: Path, mode: str) -> None:
    expected = np.arange(count, dtype=np.float32)
    with Writer(path) as writer:
        writer.add_tensor("x", expected, compress)

    def read() -> Any:
        with Reader(path, mode=mode) as reader:
            # Neither the array nor what NumPy makes of it holds on to a Python object that could be lost.
            return np.asarray(reader["x"])[: count - 1]

    arrays = [read() for _ in range(20)]
    gc.collect()
    junk = [np.full(count * 4, 0xEE, np.uint8) for _ in range(40)]
    for array in arrays:
        assert_same(array, expected[:-1])
    del junk


def test_a_second_tensor_of_a_name_is_refused_not_put_in_its_place(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", np.zeros(3))
        with pytest.raises(ztensor.ArgumentError, match='"x".*added before'):
            writer.add_tensor("x", np.ones(3))
    with Reader(path) as reader:
        assert len(reader) == 1
        assert_same(reader["x"], np.zeros(3))


def test_metadata_is_kept(path: Path) -> None:
    import ztensor.numpy

    ztensor.numpy.save_file({"x": np.zeros(3)}, path, metadata={"format": "np", "epoch": 7})
    assert Reader(path).file_metadata == {"format": "np", "epoch": 7}
    torch = pytest.importorskip("torch")
    import ztensor.torch

    ztensor.torch.save_file({"x": torch.zeros(3)}, path, metadata={"format": "pt"})
    assert Reader(path).file_metadata == {"format": "pt"}
    assert Reader(ztensor.torch.save({"x": torch.zeros(3)}, metadata={"format": "pt"})).file_metadata == {
        "format": "pt"
    }


def test_a_name_is_not_cut_at_a_nul(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("layer", np.zeros(3))
        with pytest.raises(ztensor.ArgumentError, match="NUL"):
            writer.add_tensor("layer\0bias", np.ones(3))
    with Reader(path) as reader:
        assert reader.tensor_names == ["layer"]
        assert "layer\0bias" not in reader
        with pytest.raises(KeyError):
            reader["layer\0bias"]
        with pytest.raises(KeyError):
            reader.metadata("layer\0bias")


@pytest.mark.parametrize("columns", [[0, 3], [0, -1], [2**31, 0], [0, 2**62]], ids=str)
def test_csr_columns_outside_the_shape_are_refused(columns: list[int], path: Path) -> None:
    values, indptr = np.array([1.0, 2.0]), np.array([0, 1, 2])
    with Writer(path) as writer, pytest.raises(ztensor.ArgumentError, match='"s", component "indices"'):
        writer.add_sparse_csr("s", values, np.array(columns), indptr, (2, 3))


def test_csr_columns_that_a_file_puts_outside_the_shape_are_refused(path: Path, mode: str) -> None:
    values, indices, indptr = np.array([1.0, 2.0]), np.array([0, 1]), np.array([0, 1, 2])
    with Writer(path) as writer:
        writer.add_sparse_csr("s", values, indices, indptr, (2, 3))
    data = bytearray(path.read_bytes())
    at = data.index(indices.tobytes())
    data[at : at + 16] = np.array([0, 1000]).tobytes()
    path.write_bytes(data)
    with Reader(path, mode=mode) as reader:
        for to in ("numpy", "torch"):
            if to == "torch":
                pytest.importorskip("torch")
            with pytest.raises(ztensor.FormatError, match='tensor "s", component "indices"'):
                reader.read_tensor("s", to=to)


def test_int32_indices_of_torch_are_read_as_32_bits(path: Path) -> None:
    torch = pytest.importorskip("torch")
    import ztensor.torch

    dense = torch.zeros(5, 7)
    dense[0, 6], dense[2, 1], dense[4, 3] = 1, 2, 3
    csr = dense.to_sparse_csr()
    narrow = torch.sparse_csr_tensor(csr.crow_indices().int(), csr.col_indices().int(), csr.values(), csr.shape)
    assert narrow.col_indices().dtype is torch.int32
    ztensor.torch.save_file({"narrow": narrow, "wide": csr}, path)
    found = ztensor.torch.load_file(path)
    assert found["narrow"].col_indices().dtype is found["narrow"].crow_indices().dtype is torch.int32
    assert found["wide"].col_indices().dtype is torch.int64
    for tensor in found.values():
        assert torch.equal(tensor.to_dense(), dense)
    pytest.importorskip("scipy")
    assert_same(Reader(path)["narrow"].toarray(), dense.numpy())
