"""Writer: what it takes, what it refuses, and that a refusal does no harm."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import assert_same, entries

import ztensor
import ztensor.numpy as ztn
from ztensor import Reader, Writer

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def read(path: Path) -> dict[str, Any]:
    with Reader(path) as reader:
        return dict(reader)


# Names.


@pytest.mark.parametrize(
    "name", ["x", "a.b/c", "größe", "重み", "\U0001f9e0", " ", "\n", "'\"\\", "x" * 4096, "é" * 2048]
)
def test_any_text_is_a_name(name: str, path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor(name, X)
    with Reader(path) as reader:
        assert reader.tensor_names == [name]
        assert name in reader
        assert_same(reader[name], X)


@pytest.mark.parametrize(
    "name, says",
    [("", "empty"), ("a\0b", "NUL"), ("\0", "NUL"), ("x" * 4097, "4097"), ("é" * 2049, "4098"), ("\udc80", "UTF-8")],
    ids=["empty", "nul inside", "nul", "long", "long in bytes", "surrogate"],
)
def test_a_name_that_breaks_the_rules_is_refused(name: str, says: str, path: Path) -> None:
    with Writer(path) as writer:
        for add in (
            lambda: writer.add_tensor(name, X),
            lambda: writer.add_tensors({"fine": X, name: X}),
            lambda: writer.add_sparse_coo(name, np.ones(1), np.zeros((1, 1), np.int64), (3,)),
        ):
            with pytest.raises(ztensor.ArgumentError, match=says):
                add()
        writer.add_tensor("y", X)
    assert list(read(path)) == ["y"]


@pytest.mark.parametrize("name", [5, None, b"x"])
def test_a_name_that_is_no_str_is_refused(name: Any, path: Path) -> None:
    with Writer(path) as writer, pytest.raises(ztensor.ArgumentError, match="name is a str"):
        writer.add_tensor(name, X)


def test_a_name_is_taken_once(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", X)
        for add in (
            lambda: writer.add_tensor("x", X + 1),
            lambda: writer.add_tensors({"y": X, "x": X + 1}),
            lambda: writer.add_sparse_coo("x", np.ones(1), np.zeros((1, 1), np.int64), (3,)),
        ):
            with pytest.raises(ztensor.ArgumentError, match='tensor "x": a tensor of this name was added before'):
                add()
    found = read(path)
    assert list(found) == ["x"]
    assert_same(found["x"], X)


# Compression.


@pytest.mark.parametrize("compress", [False, 0, True, *range(1, 23), np.True_, np.False_, np.int8(5)], ids=repr)
def test_every_level_gives_the_same_tensor(compress: Any, path: Path) -> None:
    array = np.repeat(np.arange(50, dtype=np.int32), 40)
    with Writer(path) as writer:
        writer.add_tensor("x", array, compress=compress)
    with Reader(path) as reader:
        assert reader[0].encoding == ("zstd" if compress else "raw")
        assert (reader[0].size < array.nbytes) == bool(compress)
        assert_same(reader["x"], array)


def test_true_is_level_three(path: Path, tmp_path: Path) -> None:
    array = np.arange(5000)
    for name, level in (("true.zt", True), ("three.zt", 3)):
        with Writer(tmp_path / name) as writer:
            writer.add_tensor("x", array, compress=level)
    assert (tmp_path / "true.zt").read_bytes() == (tmp_path / "three.zt").read_bytes()


@pytest.mark.parametrize("compress", [23, -1, 100, 2.5, 3.0, "zstd", "3", None, [3]], ids=repr)
def test_no_other_level_is_taken(compress: Any, path: Path) -> None:
    index = np.zeros((1, 1), np.int64)
    with Writer(path) as writer:
        for add in (
            lambda: writer.add_tensor("x", X, compress=compress),
            lambda: writer.add_tensors({"x": X}, compress=compress),
            lambda: writer.add_sparse_coo("x", np.ones(1), index, (3,), compress=compress),
        ):
            with pytest.raises(ztensor.ArgumentError, match="compress is"):
                add()
        writer.add_tensor("x", X)
    assert list(read(path)) == ["x"]


def test_what_compression_makes_no_smaller_is_stored_raw(path: Path, rng: np.random.Generator) -> None:
    noise = rng.integers(0, 256, 10000, dtype=np.uint8)
    with Writer(path) as writer:
        writer.add_tensor("noise", noise, compress=22)
        writer.add_tensor("tiny", np.zeros(63, np.uint8), compress=22)
    with Reader(path) as reader:
        assert [meta.encoding for meta in reader] == ["raw", "raw"]
        assert_same(reader["noise"], noise)


# Tensors of many kinds.


class WithArray:
    """Something with an array in it, such as many libraries have."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return X


class WithDlpack:
    """Something that speaks DLPack alone."""

    def __dlpack__(self, **options: Any) -> Any:
        return X.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return X.__dlpack_device__()


class Subclass(np.ndarray[Any, Any]):
    """An array of a library's own."""


def kind(value: Any) -> str:
    return type(value).__name__


@pytest.mark.parametrize("value", [X, WithArray(), WithDlpack(), X.view(Subclass)], ids=kind)
def test_whatever_is_an_array_is_taken(value: Any, path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", value)
        writer.add_tensors({"y": value})
    for array in read(path).values():
        assert_same(array, X)


@pytest.mark.parametrize("value", [[1, 2], 3.0, 3, "text", b"bytes", None, {"x": X}, object()], ids=kind)
def test_what_is_no_array_is_refused_by_name(value: Any, path: Path) -> None:
    with Writer(path) as writer:
        with pytest.raises(
            ztensor.UnsupportedTensorError, match=f"'odd one' is a {type(value).__name__}, not an array"
        ):
            writer.add_tensor("odd one", value)
        with pytest.raises(ztensor.UnsupportedTensorError, match="'odd one'"):
            writer.add_tensors({"fine": X, "odd one": value})


def test_what_fails_to_become_an_array_is_refused_by_name(path: Path) -> None:
    class Broken:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise RuntimeError("it is on a device")

    with Writer(path) as writer, pytest.raises(ztensor.UnsupportedTensorError, match="'odd one'.*it is on a device"):
        writer.add_tensor("odd one", Broken())


def test_sixty_four_dimensions_are_the_most(path: Path) -> None:
    torch = pytest.importorskip("torch")
    with Writer(path) as writer:
        writer.add_tensor("x", torch.ones((1,) * 64))
        with pytest.raises(ztensor.ArgumentError, match='tensor "y": 65 dimensions'):
            writer.add_tensor("y", torch.ones((1,) * 65))
    with Reader(path) as reader:
        assert reader.read_tensor("x", to="torch").shape == (1,) * 64


# Many at once.


def test_many_at_once_are_the_same_as_one_by_one(tmp_path: Path) -> None:
    tensors = {f"t{at}": np.full((at % 4, 3), at, np.int16) for at in range(100)}
    with Writer(tmp_path / "a.zt") as writer:
        writer.add_tensors(tensors, compress=True)
    with Writer(tmp_path / "b.zt") as writer:
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor, compress=True)
    assert (tmp_path / "a.zt").read_bytes() == (tmp_path / "b.zt").read_bytes()


def test_calls_add_up(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensors({"a": X, "b": X})
        writer.add_tensors({})
        writer.add_tensors({"c": X + 1, "d": X + 2})
        writer.add_tensor("e", X + 3)
        writer.add_tensors({"f": X + 4})
    found = read(path)
    assert list(found) == list("abcdef")
    for name, expected in zip("abcdef", (X, X, X + 1, X + 2, X + 3, X + 4)):
        assert_same(found[name], expected)


class Lazy(Mapping[str, Any]):
    """A mapping that makes its tensors when they are asked for, and keeps none."""

    def __init__(self, make: Callable[[int], Any], count: int) -> None:
        self.make, self.count = make, count

    def __getitem__(self, name: str) -> Any:
        return self.make(int(name))

    def __iter__(self) -> Iterator[str]:
        return map(str, range(self.count))

    def __len__(self) -> int:
        return self.count


class Made:
    """An array that is made when it is asked for."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.full(200_000, self.value, np.float32)


@pytest.mark.parametrize("kind", ["array", "packed", "__array__", "sparse"])
def test_tensors_made_on_the_fly_are_not_taken_for_each_other(kind: str, path: Path) -> None:
    # Between them stand arrays that must be packed, so that the writer hands over what it has and lets go of it.
    strided = np.ones((2100, 2100), np.float32).T

    def make(at: int) -> Any:
        if at % 2:
            return strided
        if kind == "sparse":
            sparse = pytest.importorskip("scipy.sparse")
            rows = np.arange(at, at + 100_000, dtype=np.int32)
            return sparse.coo_matrix((np.full(100_000, at), (rows, rows)), shape=(200_000, 200_000))
        if kind == "__array__":
            return Made(at)
        array = np.full((400, 500), at, np.float32)
        return array.T if kind == "packed" else array

    for given in (Lazy(make, 8), {str(at): make(at) for at in range(8)}):
        with Writer(path) as writer:
            writer.add_tensors(given)
        with Reader(path) as reader:
            for at in range(0, 8, 2):
                found = reader[str(at)]
                if kind == "sparse":
                    assert found.row[0] == at and set(found.data) == {at}
                else:
                    assert np.unique(found) == [at]


# Sparse tensors from their parts.

VALUES = np.array([1, 2, 3], np.float32)
PARTS = {
    "csr": (VALUES, np.array([0, 2, 1]), np.array([0, 2, 3]), (2, 3)),
    "csc": (VALUES, np.array([0, 1, 0]), np.array([0, 2, 2, 3]), (2, 3)),
    "coo": (VALUES, np.array([[0, 0, 1], [0, 2, 1]]), (2, 3)),
    "bsr": (np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.array([1, 0]), np.array([0, 1, 2]), (4, 4)),
    "bsc": (np.arange(8, dtype=np.float32).reshape(2, 2, 2), np.array([1, 0]), np.array([0, 1, 2]), (4, 4)),
}


@pytest.mark.parametrize("compress", [False, True, 7], ids=repr)
@pytest.mark.parametrize("layout", PARTS)
def test_every_sparse_layout_is_written(layout: str, compress: bool | int, path: Path) -> None:
    pytest.importorskip("scipy")
    with Writer(path) as writer:
        getattr(writer, f"add_sparse_{layout}")("s", *PARTS[layout], compress=compress)
    with Reader(path) as reader:
        assert (reader[0].layout, reader[0].shape) == (f"sparse_{layout}", PARTS[layout][-1])
        assert reader["s"].data.sum() == PARTS[layout][0].sum()


def test_compression_reaches_every_component(path: Path) -> None:
    count = 5000
    with Writer(path) as writer:
        for level in (0, 3):
            writer.add_sparse_csr(
                f"s{level}", np.ones(count), np.arange(count), np.arange(count + 1), (count, count), compress=level
            )
    with Reader(path) as reader:
        raw, packed = reader
        assert (raw.encoding, packed.encoding) == ("raw", "zstd")
        assert raw.nbytes == packed.nbytes == raw.size == count * 16 + (count + 1) * 8
        assert packed.size < raw.size / 20


BROKEN: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "column outside": ("csr", (VALUES, np.array([0, 3, 1]), np.array([0, 2, 3]), (2, 3)), "indices"),
    "negative column": ("csr", (VALUES, np.array([0, -1, 1]), np.array([0, 2, 3]), (2, 3)), "indices"),
    "indptr from 1": ("csr", (VALUES, np.array([0, 2, 1]), np.array([1, 2, 3]), (2, 3)), "indptr"),
    "indptr decreases": ("csr", (VALUES, np.array([0, 2, 1]), np.array([0, 4, 3]), (2, 3)), "indptr"),
    "indptr ends early": ("csr", (VALUES, np.array([0, 2, 1]), np.array([0, 1, 2]), (2, 3)), "indptr"),
    "indptr too short": ("csr", (VALUES, np.array([0, 2, 1]), np.array([0, 3]), (2, 3)), "indptr"),
    "too few indices": ("csr", (VALUES, np.array([0, 2]), np.array([0, 2, 3]), (2, 3)), "indices"),
    "float indices": ("csr", (VALUES, np.array([0.0, 2, 1]), np.array([0, 2, 3]), (2, 3)), "indices"),
    "three dimensions": (
        "csr",
        (VALUES, np.array([0, 2, 1]), np.array([0, 2, 3]), (2, 3, 1)),
        "2 dimensions|two dimensions",
    ),
    "values of rank 2": ("csr", (VALUES[None], np.array([0, 2, 1]), np.array([0, 2, 3]), (2, 3)), "values"),
    "row outside": ("csc", (VALUES, np.array([0, 2, 0]), np.array([0, 2, 2, 3]), (2, 3)), "indices"),
    "coordinate outside": ("coo", (VALUES, np.array([[0, 0, 2], [0, 2, 1]]), (2, 3)), "indices"),
    "coordinates transposed": ("coo", (VALUES, np.array([[0, 0], [0, 2], [1, 1]]), (2, 3)), "indices"),
    "coordinates of rank 1": ("coo", (VALUES, np.array([0, 1, 2]), (3,)), "indices"),
    "no dimension": ("coo", (VALUES, np.empty((0, 3), np.int64), ()), "dimension"),
    "blocks that do not fit": ("bsr", (np.ones((2, 2, 2)), np.array([1, 0]), np.array([0, 1, 2]), (4, 5)), "block"),
    "blocks of rank 2": ("bsr", (np.ones((2, 4)), np.array([1, 0]), np.array([0, 1, 2]), (4, 4)), "blocks"),
    "block column outside": ("bsr", (np.ones((2, 2, 2)), np.array([2, 0]), np.array([0, 1, 2]), (4, 4)), "indices"),
    "block row outside": ("bsc", (np.ones((2, 2, 2)), np.array([2, 0]), np.array([0, 1, 2]), (4, 4)), "indices"),
    "negative shape": ("coo", (VALUES, np.array([[0, 0, 1], [0, 2, 1]]), (2, -3)), "negative"),
    "shape that is a number": ("coo", (VALUES, np.array([[0, 0, 1], [0, 2, 1]]), 3), "shape"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_parts_that_do_not_fit_are_refused(case: str, path: Path) -> None:
    layout, parts, says = BROKEN[case]
    with Writer(path) as writer:
        with pytest.raises(ztensor.ZTensorError, match=f"""tensor ["']odd one["'].*({says})""") as caught:
            getattr(writer, f"add_sparse_{layout}")("odd one", *parts)
        assert isinstance(caught.value, (ztensor.ArgumentError, ztensor.UnsupportedTensorError))
        writer.add_tensor("fine", X)
    assert list(read(path)) == ["fine"]


# Going on, and ending.


def test_a_refused_tensor_leaves_no_trace_in_the_file(tmp_path: Path) -> None:
    for name, refused in (("a.zt", True), ("b.zt", False)):
        with Writer(tmp_path / name) as writer:
            writer.add_tensor("x", X)
            if refused:
                with pytest.raises(ztensor.ArgumentError):
                    writer.add_tensors({"y": X, "": X})
                with pytest.raises(ztensor.UnsupportedTensorError):
                    writer.add_tensor("y", [1])
            writer.add_tensor("z", X)
    assert (tmp_path / "a.zt").read_bytes() == (tmp_path / "b.zt").read_bytes()


def test_finalize_ends_the_file(path: Path) -> None:
    writer = Writer(path)
    writer.add_tensor("x", X)
    assert not path.exists()
    writer.finalize()
    assert_same(read(path)["x"], X)
    assert repr(writer) == f"<Writer of {str(path)!r}: finalized, 1 tensors, {X.nbytes} bytes>"


def test_finalize_in_the_with_block_is_fine(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", X)
        writer.finalize()
    assert list(read(path)) == ["x"]


def test_a_finalized_writer_says_so(path: Path) -> None:
    writer = Writer(path)
    writer.finalize()
    for call in (
        writer.finalize,
        lambda: writer.add_tensor("x", X),
        lambda: writer.add_tensors({"x": X}),
        lambda: writer.add_sparse_coo("x", VALUES, np.zeros((1, 3), np.int64), (3,)),
        writer.__enter__,
    ):
        with pytest.raises(ztensor.StateError, match="the writer was finalized already"):
            call()
    writer.abandon()
    assert path.exists()


def test_an_abandoned_writer_says_so(path: Path) -> None:
    writer = Writer(path)
    writer.add_tensor("x", X)
    writer.abandon()
    writer.abandon()
    assert entries(path.parent) == []
    with pytest.raises(ztensor.StateError, match="the writer was abandoned already"):
        writer.finalize()


def test_a_writer_shows_file_state_tensors_and_bytes(path: Path) -> None:
    torch = pytest.importorskip("torch")
    writer = Writer(path)
    assert repr(writer) == f"<Writer of {str(path)!r}: open, 0 tensors, 0 bytes>"
    writer.add_tensors({"a": torch.ones(3), "b": torch.ones(2)})
    writer.add_tensor("c", np.ones(10, np.int8), compress=True)
    writer.add_sparse_coo("d", np.ones(1), np.zeros((2, 1), int), (1, 1))
    with pytest.raises(ztensor.ArgumentError):
        writer.add_tensor("a", np.ones(1))
    assert repr(writer) == f"<Writer of {str(path)!r}: open, 4 tensors, {20 + 10 + 8 + 16} bytes>"
    writer.abandon()
    assert "abandoned" in repr(writer)


def test_close_ends_the_file_once(path: Path) -> None:
    writer = Writer(path)
    writer.add_tensor("x", X)
    writer.close()
    assert list(read(path)) == ["x"]
    path.unlink()
    writer.close()
    assert entries(path.parent) == []
    with pytest.raises(ztensor.StateError, match="finalized already"):
        writer.add_tensor("y", X)


def test_close_leaves_an_abandoned_file_abandoned(path: Path) -> None:
    writer = Writer(path)
    writer.abandon()
    writer.close()
    with pytest.raises(ztensor.StateError, match="abandoned already"):
        writer.finalize()
    with Writer(path) as writer:
        writer.close()
    assert path.exists()


def test_a_close_that_fails_says_so_once(tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    writer = Writer(directory / "model.zt")
    for name in entries(directory):
        (directory / name).unlink()
    directory.rmdir()
    with pytest.raises(ztensor.FileError):
        writer.close()
    writer.close()


def test_a_writer_is_neither_copied_nor_pickled(path: Path) -> None:
    writer = Writer(path)
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="a Writer cannot be copied or pickled"):
            way(writer)
    writer.abandon()


# Writers that are forgotten.


def warnings_of(code: str, *arguments: Any, status: int = 0) -> str:
    """What a program of its own says, with all warnings on."""
    head = "import os, sys, gc\nimport numpy as np, ztensor\nfrom ztensor import Writer\n"
    search = os.pathsep.join(filter(None, [str(Path(ztensor.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", head + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert done.returncode == status, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "end",
    [
        "del writer",
        "pass",
        "writer = None; gc.collect()",
        "writer.me = writer; del writer; gc.collect()",
        "import builtins; builtins.writer = writer",
        "sys.modules['numpy'].writer = writer",
        "raise SystemExit",
    ],
)
def test_a_writer_that_is_forgotten_warns_and_leaves_nothing(end: str, path: Path) -> None:
    said = warnings_of(f"writer = Writer(sys.argv[1])\nwriter.add_tensor('a', np.ones(3))\n{end}", path)
    assert said.count("a Writer of") == 1 and "ResourceWarning" in said and repr(str(path)) in said and "close()" in said
    assert "Traceback" not in said and "ignored" not in said
    assert entries(path.parent) == []


@pytest.mark.parametrize(
    "code",
    [
        "writer = Writer(sys.argv[1]); writer.finalize()",
        "writer = Writer(sys.argv[1]); writer.close(); writer.close()",
        "writer = Writer(sys.argv[1]); writer.abandon()",
        "with Writer(sys.argv[1]) as writer: pass",
        "try:\n with Writer(sys.argv[1]) as writer: 1 / 0\nexcept ZeroDivisionError: pass",
        "try: Writer(sys.argv[1] + '/nowhere/x.zt')\nexcept OSError: pass",
        "try: Writer(5)\nexcept ValueError: pass",
        "try: Writer(sys.argv[1], fsync='x')\nexcept ValueError: pass",
        "try: Writer()\nexcept TypeError: pass",
        "Writer.__new__(Writer)",
        "import ztensor.numpy\ntry: ztensor.numpy.save({'a': 3})\nexcept TypeError: pass",
        "import ztensor.numpy\ntry: ztensor.numpy.save_file({'a': 3}, sys.argv[1])\nexcept TypeError: pass",
    ],
)
def test_a_writer_that_came_to_an_end_does_not_warn(code: str, path: Path) -> None:
    assert warnings_of(code + "\nwriter = None; gc.collect()", path) == ""


def test_a_forked_child_does_not_warn_of_its_parents_writer(path: Path) -> None:
    code = """
writer = Writer(sys.argv[1])
writer.add_tensor("a", np.ones(3))
child = os.fork()
if not child:
    del writer
    gc.collect()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
writer.finalize()
"""
    assert warnings_of(code, path) == ""
    assert list(read(path)) == ["a"]


@pytest.mark.parametrize("shape", [(3.9, 2.2), "34", ("a", "b"), (float("nan"), 3), (2**64, 3), (-1, 3), 5], ids=repr)
def test_a_sparse_shape_is_of_integers(shape: Any, path: Path) -> None:
    with Writer(path) as writer:
        with pytest.raises(ztensor.ArgumentError, match=f"^{path}: tensor 'odd one': the shape"):
            writer.add_sparse_coo("odd one", np.ones(1), np.zeros((2, 1), int), shape)
        writer.add_sparse_coo("s", np.ones(1), np.zeros((2, 1), int), (np.int32(3), 2))
    assert entries(path.parent) == [path.name]
    with Reader(path) as reader:
        assert [meta.shape for meta in reader] == [(3, 2)]


def test_what_a_reader_would_refuse_is_not_written(path: Path) -> None:
    ztn.save_file({"old": X}, path)
    # A byte in the file for each of 64 dimensions, eight in memory.
    high = np.zeros((0,) + (1,) * 63, np.uint8)
    with pytest.raises(ztensor.ZTensorError, match="takes more memory"):
        ztn.save_file({str(number): high for number in range(20_000)}, path)
    assert list(ztn.load_file(path)) == ["old"]
    ztn.save_file({str(number): high for number in range(2_000)}, path)
    assert len(ztn.load_file(path)) == 2_000


def test_copies_that_are_made_are_written_before_there_are_many(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = pytest.importorskip("scipy.sparse")

    class Made:
        """An array that is made when it is asked for."""

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.ones(1 << 19)

    held: list[int] = []
    add = Writer._add

    def counted(writer: Writer, specs: Any, *rest: Any) -> None:
        held.append(sum(specs.sizes))
        add(writer, specs, *rest)

    monkeypatch.setattr(Writer, "_add", counted)
    matrix = sparse.coo_matrix(np.ones((512, 256)))
    lists = sparse.lil_matrix(np.ones((512, 256)))
    for value in (Made(), matrix, lists, np.ones((1 << 20, 2))[:, 0]):
        held.clear()
        ztn.save_file({str(number): value for number in range(40)}, path)
        assert len(held) > 1 and max(held) <= 32 << 20, type(value)


# Options.


def test_the_path_goes_by_its_documented_name(path: Path) -> None:
    with Writer(file_path=str(path)) as writer:
        writer.add_tensor("x", X)
    with Reader(file_path=str(path)) as reader:
        assert_same(reader["x"], X)


@pytest.mark.parametrize("fsync", ["auto", True, False], ids=repr)
def test_every_fsync_writes_the_same(fsync: Any, path: Path) -> None:
    for _ in range(2):
        with Writer(path, fsync=fsync) as writer:
            writer.add_tensor("x", X)
        assert_same(read(path)["x"], X)


@pytest.mark.parametrize(
    "options", [{"fsync": "never"}, {"fsync": 1}, {"fsync": None}, {"threads": 0}, {"threads": -3}, {"threads": "x"}, {"fsync": np.ones(2)}], ids=repr
)
def test_unknown_options_are_refused(options: dict[str, Any], path: Path) -> None:
    with pytest.raises(ztensor.ArgumentError):
        Writer(path, **options)
    assert entries(path.parent) == []


def test_options_are_named(path: Path) -> None:
    with pytest.raises(TypeError):
        Writer(path, {})


@pytest.mark.parametrize("where", [5, None, b"model.zt", ["model.zt"]], ids=repr)
def test_a_path_is_a_str_or_path_like(where: Any) -> None:
    with pytest.raises(ztensor.ArgumentError, match="path is a str or os.PathLike"):
        Writer(where)


def test_a_path_with_a_nul_is_refused(path: Path) -> None:
    with pytest.raises(ztensor.ArgumentError, match="NUL"):
        Writer(f"{path}\0.zt")
    assert entries(path.parent) == []


def test_a_writer_takes_path_like_objects(tmp_path: Path) -> None:
    class FsPath:
        def __fspath__(self) -> str:
            return str(tmp_path / "model.zt")

    for where in (tmp_path / "a.zt", str(tmp_path / "b.zt"), FsPath()):
        with Writer(where) as writer:
            writer.add_tensor("x", X)
        assert_same(read(Path(os.fspath(where)))["x"], X)
