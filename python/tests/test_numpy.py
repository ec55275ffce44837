"""ztensor.numpy: dictionaries of arrays to files and bytes, and back."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from support import LARGE, assert_same, entries, run_python

import ztensor
import ztensor.numpy as ztn

ARRAYS = {
    "w": np.arange(12, dtype=np.float32).reshape(3, 4),
    "scalar": np.array(3, np.int8),
    "empty": np.empty((0, 2), np.complex64),
    "large": np.arange(LARGE, dtype=np.uint16),
    "flags": np.array([True, False, True]),
}


def assert_all_same(found: dict[str, Any], expected: dict[str, Any] = ARRAYS) -> None:
    assert type(found) is dict
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert_same(found[name], array)


@pytest.mark.parametrize("compress", [False, True, 1, 19], ids=repr)
def test_a_file_gives_back_what_was_saved(compress: bool | int, path: Path, mode: str) -> None:
    assert ztn.save_file(ARRAYS, path, compress=compress) is None
    assert_all_same(ztn.load_file(path, mode=mode))
    assert_all_same(ztn.load_file(str(path), mode=mode, verify=True, threads=1))


@pytest.mark.parametrize("compress", [False, True, 1, 19], ids=repr)
def test_bytes_give_back_what_was_saved(compress: bool | int) -> None:
    data = ztn.save(ARRAYS, compress=compress)
    assert type(data) is bytes
    for source in (data, bytearray(data), memoryview(data)):
        assert_all_same(ztn.load(source))
        assert_all_same(ztn.load(source, verify=True, threads=1))


@pytest.mark.parametrize("compress", [False, 5])
def test_the_bytes_are_the_files(compress: bool | int, path: Path) -> None:
    metadata = {"k": "v"}
    ztn.save_file(ARRAYS, path, metadata, compress=compress)
    assert path.read_bytes() == ztn.save(ARRAYS, metadata, compress=compress)


def test_large_bytes_are_the_files_for_any_number_of_threads(path: Path) -> None:
    arrays = {"large": np.arange(3_000_000, dtype=np.float32), "small": np.arange(3)}
    ztn.save_file(arrays, path)
    for threads in (None, 1, 2, 3):
        data = ztn.save(arrays, threads=threads)
        assert type(data) is bytes and data == path.read_bytes() and hash(data) == hash(path.read_bytes())
        assert data is not ztn.save(arrays, threads=threads)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"few": np.arange(3)},
        {f"{at:04}" + "n" * 4000: np.array(at) for at in range(300)},
        {f"t{at}": np.arange(700_000, dtype=np.float32)[::-1] for at in range(12)},
        {f"t{at}": np.array(at, np.int32) for at in range(70_000)},
        {f"t{at}": np.full(70_000, at, np.uint8) for at in range(30)},
    ],
    ids=["none", "one", "long names", "several calls of packed copies", "several calls of many", "page by page"],
)
@pytest.mark.parametrize("compress", [False, True])
def test_bytes_that_take_more_or_less_than_thought_are_the_files(arrays: dict[str, Any], compress: bool, path: Path) -> None:
    ztn.save_file(arrays, path, compress=compress)
    assert ztn.save(arrays, compress=compress) == path.read_bytes()


def test_compression_reaches_every_array(path: Path) -> None:
    ztn.save_file({"a": np.zeros(10_000), "b": np.ones(10_000, np.int32)}, path, compress=True)
    with ztensor.Reader(path) as reader:
        assert [meta.encoding for meta in reader] == ["zstd", "zstd"]


def test_metadata_can_be_read_back(path: Path) -> None:
    ztn.save_file(ARRAYS, path, {"format": "np", "epoch": 3})
    assert ztensor.Reader(path).file_metadata == {"format": "np", "epoch": 3}
    ztn.save_file(ARRAYS, path, metadata={"epoch": 4})
    assert ztensor.Reader(path).file_metadata == {"epoch": 4}
    assert ztensor.Reader(ztn.save(ARRAYS, {"epoch": 5})).file_metadata == {"epoch": 5}


def test_the_loaded_arrays_are_the_callers_own(path: Path, mode: str) -> None:
    ztn.save_file(ARRAYS, path)
    before = path.read_bytes()
    found = ztn.load_file(path, mode=mode)
    for array in found.values():
        assert array.flags.writeable and array.flags.c_contiguous and array.flags.aligned
        array[...] = 0
    assert path.read_bytes() == before
    assert_all_same(ztn.load_file(path, mode=mode))


def test_the_bytes_are_not_needed_afterwards_and_not_changed() -> None:
    data = bytearray(ztn.save(ARRAYS))
    before = bytes(data)
    found = ztn.load(data)
    data.extend(b"free to grow")
    data[:] = bytes(len(data))
    assert_all_same(found)
    found = ztn.load(before)
    found["large"][:] = 0
    assert_all_same(ztn.load(before))


def test_an_empty_dictionary_is_an_empty_file(path: Path, mode: str) -> None:
    ztn.save_file({}, path)
    assert ztn.load_file(path, mode=mode) == ztn.load(ztn.save({})) == {}


@pytest.mark.parametrize("kind", [OrderedDict, MappingProxyType])
def test_any_mapping_is_taken(kind: Any, path: Path) -> None:
    ztn.save_file(kind(ARRAYS), path)
    assert_all_same(ztn.load_file(path))


@pytest.mark.parametrize("tensors", [[np.zeros(3)], np.zeros(3), None, "w", {"w"}], ids=repr)
def test_what_is_no_mapping_is_refused(tensors: Any, path: Path) -> None:
    with pytest.raises(ztensor.ArgumentError, match="mapping of names to tensors"):
        ztn.save_file(tensors, path)
    with pytest.raises(ztensor.ArgumentError, match="mapping of names to tensors"):
        ztn.save(tensors)
    assert entries(path.parent) == []


def test_the_callers_dictionary_is_not_changed(path: Path) -> None:
    arrays = {"b": np.arange(6).reshape(2, 3).T, "a": np.arange(3, dtype=">i4")}
    kept = {name: (array, array.copy(), array.strides) for name, array in arrays.items()}
    ztn.save_file(arrays, path, compress=True)
    ztn.save(arrays)
    assert list(arrays) == ["b", "a"]
    for name, (array, content, strides) in kept.items():
        assert arrays[name] is array and array.strides == strides
        assert array.dtype == content.dtype and (array == content).all()


def test_torch_tensors_are_taken_too(path: Path) -> None:
    torch = pytest.importorskip("torch")
    ztn.save_file({"x": torch.arange(6).reshape(2, 3).t(), "y": np.ones(2)}, path)
    assert_all_same(ztn.load_file(path), {"x": np.arange(6).reshape(2, 3).T, "y": np.ones(2)})


def test_sparse_matrices_in_the_dictionary_go_through(path: Path, mode: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.random(50, 40, 0.2, format="csr", random_state=1)
    tensors = {"dense": np.arange(3), "csr": matrix, "coo": matrix.tocoo(), "after": np.ones(2)}
    ztn.save_file(tensors, path, compress=True)
    for found in (ztn.load_file(path, mode=mode), ztn.load(ztn.save(tensors))):
        assert list(found) == list(tensors)
        assert (found["csr"] != matrix).nnz == 0
        assert (found["coo"] != matrix).nnz == 0
        assert_same(found["after"], np.ones(2))


@pytest.mark.parametrize("compress", [0, 1], ids=["raw", "zstd"])
def test_saving_takes_memory_for_a_few_chunks_however_large_the_array(compress: int, path: Path) -> None:
    out = run_python(
        """
import resource, sys
import numpy as np, ztensor.numpy
array = np.random.default_rng(0).integers(0, 99, 24 * 2**20)
ztensor.numpy.save_file({"warm": array[:2**20]}, sys.argv[1], compress=int(sys.argv[2]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ztensor.numpy.save_file({"x": array, "y": array.reshape(2, -1)}, sys.argv[1], compress=int(sys.argv[2]), threads=2)
print(array.nbytes // 1024, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
""",
        path,
        compress,
    )
    size, grown = map(int, out.split())
    assert grown < size / 4


def test_a_missing_file_is_a_file_not_found_error(path: Path, mode: str) -> None:
    with pytest.raises(FileNotFoundError, match=str(path)):
        ztn.load_file(path, mode=mode)


def test_options_after_the_metadata_are_named(path: Path) -> None:
    with pytest.raises(TypeError):
        ztn.save_file({}, path, None, True)
    with pytest.raises(TypeError):
        ztn.save({}, None, True)
