"""Memory that several tensors share is stored once and comes back shared; the same calls write the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import LARGE, assert_same, run_python

import ztensor
import ztensor.numpy as ztn
from ztensor import Reader, Writer


def blobs(source: Any) -> dict[str, int]:
    """Where the data of every tensor of a file stands."""
    with Reader(source) as reader:
        return {meta.name: meta.offset for meta in reader}


def groups(source: Any) -> list[set[str]]:
    """Names that are stored as one blob."""
    found: dict[int, set[str]] = {}
    for name, offset in blobs(source).items():
        found.setdefault(offset, set()).add(name)
    return list(found.values())


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
@pytest.mark.parametrize("count", [100, LARGE])
def test_tied_arrays_are_stored_once_and_come_back_tied(count: int, compress: bool, path: Path, mode: str) -> None:
    tied, alone = np.arange(count), np.arange(count)
    ztn.save_file({"a": tied, "alone": alone, "b": tied, "c": tied.reshape(2, -1)}, path, compress=compress)
    assert groups(path) == [{"a", "b", "c"}, {"alone"}]
    for found in (
        ztn.load_file(path, mode=mode),
        dict(zip("abc", Reader(path, mode=mode).read_tensors(["a", "b", "c"]))),
        ztn.load(path.read_bytes()),
    ):
        assert np.shares_memory(found["a"], found["b"])
        found["a"][3] = -1
        assert found["b"][3] == found["c"].reshape(-1)[3] == -1
        assert found["c"].shape == (2, count // 2)
    assert_same(ztn.load_file(path)["alone"], alone)


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
@pytest.mark.parametrize("count", [100, LARGE])
def test_tied_tensors_are_stored_once_and_come_back_tied(count: int, compress: bool, path: Path, mode: str) -> None:
    torch = pytest.importorskip("torch")
    import ztensor.torch as ztt

    tied, alone = torch.arange(count), torch.arange(count)
    given = {
        "a": tied,
        "alone": alone,
        "b": tied,
        "c": tied.view(2, -1),
        "d": torch.nn.Parameter(tied, requires_grad=False),
    }
    ztt.save_file(given, path, compress=compress)
    assert groups(path) == [{"a", "b", "c", "d"}, {"alone"}]
    for found in (
        ztt.load_file(path, mode=mode),
        dict(zip("abcd", Reader(path, mode=mode).read_tensors(list("abcd"), to="torch"))),
        ztt.load(path.read_bytes()),
    ):
        storages = {found[name].untyped_storage().data_ptr() for name in "abcd"}
        assert len(storages) == 1
        assert found["a"].untyped_storage().nbytes() == tied.nbytes
        found["a"][3] = -1
        assert all(found[name].reshape(-1)[3] == -1 for name in "bcd")
    assert torch.equal(ztt.load_file(path)["alone"], alone)


def test_what_was_read_apart_is_not_tied(path: Path) -> None:
    tied = np.arange(LARGE)
    ztn.save_file({"a": tied, "b": tied}, path)
    with Reader(path) as reader:
        a, b = reader["a"], reader["b"]
        a[:] = 0
        assert_same(b, tied)


def test_equal_arrays_of_different_memory_stay_apart(path: Path, mode: str) -> None:
    ztn.save_file({"a": np.zeros(LARGE), "b": np.zeros(LARGE)}, path)
    assert groups(path) == [{"a"}, {"b"}]
    found = ztn.load_file(path, mode=mode)
    found["a"][:] = 1
    assert (found["b"] == 0).all()


def test_a_transposed_tie_is_stored_right(path: Path, mode: str) -> None:
    weight = np.arange(600.0).reshape(20, 30)
    given = {"w": weight, "t": weight.T, "again": weight.T, "w2": weight, "back": weight.T.T, "rows": weight[5:]}
    ztn.save_file(given, path)
    assert groups(path) == [{"w", "w2", "back"}, {"t", "again"}, {"rows"}]
    found = ztn.load_file(path, mode=mode)
    for name, array in given.items():
        assert_same(found[name], array)
    assert np.shares_memory(found["t"], found["again"])


def test_a_transposed_tie_of_tensors_is_stored_right(path: Path, mode: str) -> None:
    torch = pytest.importorskip("torch")
    import ztensor.torch as ztt

    weight = torch.arange(600.0).reshape(20, 30)
    given = {
        "w": weight,
        "t": weight.t(),
        "again": weight.t(),
        "w2": weight,
        "back": weight.t().t(),
        "rows": weight[5:],
    }
    ztt.save_file(given, path)
    assert groups(path) == [{"w", "w2", "back"}, {"t", "again"}, {"rows"}]
    found = ztt.load_file(path, mode=mode)
    for name, tensor in given.items():
        assert torch.equal(found[name], tensor)
    assert found["t"].data_ptr() == found["again"].data_ptr()


def test_views_that_only_look_alike_stay_apart(path: Path) -> None:
    base = np.arange(24, dtype=np.int32)
    given = {
        "i4": base,
        "f4": base.view(np.float32),
        "i8": base.view(np.int64),
        "big": base.view(">i4"),
        "part": base[:12],
        "step": base[::2],
        "back": base[::-1],
        "row": base.reshape(4, 6)[:, :3],
        "column": base.reshape(4, 6).T[:3],
        "wide": np.broadcast_to(base[0], (24,)),
    }
    ztn.save_file(given, path)
    found = ztn.load_file(path)
    for name, array in given.items():
        assert_same(found[name], array)


def test_conjugate_and_plain_views_stay_apart(path: Path) -> None:
    torch = pytest.importorskip("torch")
    import ztensor.torch as ztt

    base = torch.randn(5, 4, dtype=torch.complex64)
    given = {
        "z": base,
        "conj": base.conj(),
        "imag": base.conj().imag,
        "real": base.real,
        "imag2": base.imag,
        "again": base.conj(),
    }
    ztt.save_file(given, path)
    found = ztt.load_file(path)
    for name, tensor in given.items():
        assert torch.equal(found[name], tensor)
    assert {"conj", "again"} in groups(path)


def test_empty_tensors_are_not_taken_for_each_other(path: Path, mode: str) -> None:
    base = np.arange(10)
    given = {"a": base[:0], "b": base[:0].reshape(0, 3), "c": base, "d": base[10:], "e": np.empty((2, 0), np.float32)}
    ztn.save_file(given, path)
    found = ztn.load_file(path, mode=mode)
    for name, array in given.items():
        assert_same(found[name], array)


def test_parts_of_sparse_matrices_are_shared_too(path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    one = sparse.random(300, 300, 0.5, format="csr", random_state=1)
    other = sparse.csr_matrix((one.data * 2, one.indices, one.indptr), shape=one.shape)
    assert other.indices is one.indices or np.shares_memory(other.indices, one.indices)
    alone = len(ztn.save({"one": one}))
    assert len(ztn.save({"one": one, "same": one})) < alone + 1000
    assert len(ztn.save({"one": one, "other": other})) < alone + one.data.nbytes + 5000
    found = ztn.load(ztn.save({"one": one, "other": other, "same": one}))
    assert (found["one"] != one).nnz == (found["other"] != other).nnz == (found["same"] != one).nnz == 0


def test_sharing_reaches_over_many_calls_of_the_library(path: Path) -> None:
    # Arrays that must be packed make the writer hand over what it has, again and again.
    tied, strided = np.arange(LARGE), np.ones((2100, 2100)).T
    given: dict[str, Any] = {}
    for at in range(3):
        given[f"tied{at}"] = tied
        given[f"strided{at}"] = strided
        given[f"alone{at}"] = np.full(LARGE, at)
    ztn.save_file(given, path)
    assert sorted(map(len, groups(path))) == [1, 1, 1, 3, 3]
    found = ztn.load_file(path)
    for name, array in given.items():
        assert_same(found[name], array)


def test_two_dictionaries_in_one_file_are_not_taken_for_each_other(path: Path) -> None:
    with Writer(path) as writer:
        for at in range(5):
            # Their memory may well be that of the dictionary before.
            writer.add_tensors({f"a{at}": np.full(LARGE, at), f"b{at}": np.full(LARGE, -at)})
    with Reader(path) as reader:
        for at in range(5):
            assert np.unique(reader[f"a{at}"]) == [at]
            assert np.unique(reader[f"b{at}"]) == [-at]


def test_a_refused_dictionary_does_not_disturb_the_next(path: Path) -> None:
    tied = np.arange(1000)
    with Writer(path) as writer:
        with pytest.raises(ztensor.UnsupportedTensorError):
            writer.add_tensors({"a": tied, "b": tied, "odd one": None})
        writer.add_tensors({"x": tied + 1, "y": tied + 2})
    found = dict(Reader(path))
    assert list(found) == ["x", "y"]
    assert_same(found["x"], tied + 1)
    assert_same(found["y"], tied + 2)


def test_tied_tensors_stay_tied_on_another_device(path: Path) -> None:
    torch = pytest.importorskip("torch")
    import ztensor.torch as ztt

    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    tied = torch.arange(1000)
    ztt.save_file({"a": tied, "b": tied.view(10, 100)}, path)
    found = ztt.load_file(path, device="cuda")
    assert found["a"].data_ptr() == found["b"].data_ptr()


# The same bytes.


def given_tensors() -> dict[str, Any]:
    rng = np.random.default_rng(5)
    tied = rng.normal(size=(500, 700)).astype(np.float32)
    found: dict[str, Any] = {"tied": tied, "tied2": tied, "t": tied.T, "t2": tied.T, "zeros": np.zeros(10)}
    for at in range(60):
        found[f"layer.{at}"] = rng.normal(size=(at * 37 % 301, 41)).astype(np.float32)
    found["big"] = rng.integers(0, 9, 3_000_000, dtype=np.int32)
    return found


@pytest.mark.parametrize("compress", [False, 1, 3], ids=repr)
def test_any_number_of_threads_writes_the_same_bytes(compress: bool | int, tmp_path: Path) -> None:
    tensors = given_tensors()
    expected = ztn.save(tensors, {"b": 1, "a": 2}, compress=compress, threads=1)
    for threads in (1, 2, 5, 16, None):
        assert ztn.save(tensors, {"b": 1, "a": 2}, compress=compress, threads=threads) == expected
        ztn.save_file(tensors, tmp_path / "x.zt", {"a": 2, "b": 1}, compress=compress, threads=threads)
        assert (tmp_path / "x.zt").read_bytes() == expected


TIED_TO_BYTES = """
import resource, sys
import numpy as np, ztensor.numpy as ztn
ztn.load(ztn.save({"a": np.ones(3)}))
tied = np.arange(1 << 21)
tensors = {f"t{at}": tied for at in range(20_000)}
if sys.argv[1] == "torch":
    import torch, ztensor.torch as ztn
    tensors = {name: torch.from_numpy(tied) for name in tensors}
    ztn.save({"a": torch.ones(3)})
elif sys.argv[1] == "views":
    tensors = {name: tied.reshape(2, -1)[at % 2] for at, name in enumerate(tensors)}
# 2 GiB beyond what it has: each array alone fits, all of them apart would take 300.
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (2 << 30), held + (2 << 30)))
data = ztn.save(tensors, compress=sys.argv[2] == "compress")
print(len(data) < 24 << 20, len(ztn.load(data)))
"""


@pytest.mark.parametrize("compress", ["compress", "raw"])
@pytest.mark.parametrize("kind", ["numpy", "views", "torch"])
def test_tied_tensors_take_the_memory_of_one_when_they_are_saved_to_bytes(kind: str, compress: str) -> None:
    if kind == "torch":
        pytest.importorskip("torch")
    assert run_python(TIED_TO_BYTES, kind, compress).split() == ["True", "20000"]


NO_MEMORY = """
import resource, sys
import numpy as np, ztensor, ztensor.numpy as ztn
given = np.zeros(1 << 27, np.uint8) + np.uint8(1)
ztn.load(ztn.save({"a": np.ones(3)}, compress=1))
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + (64 << 20), held + (64 << 20)))
class Made:
    def __array__(self, dtype=None, copy=None): return np.ones(1 << 27, np.uint8)
for value in (given, given.reshape(2, -1).T, Made()):
    try: ztn.save({"a": value})
    except ztensor.OutOfMemoryError as err: print(str(err).startswith("<memory>: "))
# What compression makes of it fits.
print(len(ztn.save({"a": given}, compress=1, threads=1)) < 1 << 20)
"""


def test_memory_that_ends_while_saving_to_bytes_is_an_error_of_the_package() -> None:
    assert run_python(NO_MEMORY).split() == ["True"] * 4


def test_the_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np, ztensor.numpy
tied = np.arange(1000.0)
tensors = {f"t{at}": np.full(at, at) for at in range(50)}
ztensor.numpy.save_file({**tensors, "a": tied, "b": tied}, sys.argv[1], {"x": 1, "y": {"z": 2}}, compress=True)
"""
    for at in range(2):
        run_python(code, tmp_path / f"{at}.zt", PYTHONHASHSEED=str(at + 1))
    assert (tmp_path / "0.zt").read_bytes() == (tmp_path / "1.zt").read_bytes()


def test_padding_is_zeros_whatever_memory_held(path: Path) -> None:
    for _ in range(3):
        ztn.save_file({"a": np.full(3, 255, np.uint8), "b": np.full(LARGE, 255, np.uint8)}, path)
        with Reader(path) as reader:
            a, b = reader
        data = path.read_bytes()
        assert not any(data[8:64]) and not any(data[a.offset + 3 : b.offset])
