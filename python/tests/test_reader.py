"""Reader: a mapping of names to tensors, a sequence of descriptions, from a path or from bytes."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import LARGE, assert_same, run_python

import ztensor
from ztensor import Reader, Writer, ZTensorError
from ztensor.numpy import load_file, save_file

Open = Callable[..., Reader]

TENSORS = {
    "w": np.arange(12, dtype=np.float32).reshape(3, 4),
    "z/first": np.array(7, np.int16),
    "empty": np.empty((0, 5), np.uint8),
    "größe": np.array([True, False]),
    "large": np.arange(LARGE, dtype=np.int64),
}


@pytest.fixture
def file(path: Path) -> Path:
    """A file of a few tensors, raw and compressed."""
    with Writer(path, metadata={"made": "here"}) as writer:
        for at, (name, array) in enumerate(TENSORS.items()):
            writer.add_tensor(name, array, compress=at % 2 == 0)
    return path


# As a mapping.


def test_every_tensor_comes_back(file: Path, opened: Open) -> None:
    with opened(file) as reader:
        for name, array in TENSORS.items():
            assert_same(reader[name], array)
            assert_same(reader.read_tensor(name), array)


def test_dict_of_a_reader_is_a_dict_of_arrays(file: Path, opened: Open) -> None:
    with opened(file) as reader:
        found = dict(reader)
    assert list(found) == list(TENSORS)
    for name, array in TENSORS.items():
        assert_same(found[name], array)


def test_keys_values_and_items_are_in_the_order_written(file: Path, opened: Open) -> None:
    with opened(file) as reader:
        assert list(reader.keys()) == reader.tensor_names == list(TENSORS)
        for array, expected in zip(reader.values(), TENSORS.values()):
            assert_same(array, expected)
        assert [name for name, _ in reader.items()] == list(TENSORS)
        for name, array in reader.items():
            assert_same(array, TENSORS[name])


def test_get_gives_a_default_for_what_is_not_there(file: Path) -> None:
    with Reader(file) as reader:
        assert_same(reader.get("w"), TENSORS["w"])
        assert reader.get("missing") is None
        assert reader.get("missing", 3) == 3


def test_membership_is_of_names(file: Path) -> None:
    with Reader(file) as reader:
        assert "w" in reader
        assert "größe" in reader
        for other in ("W", "", "w\0", "w\0x", "\ud800", 0, None, b"w", ("w",)):
            assert other not in reader


def test_a_missing_name_is_a_readable_key_error(file: Path) -> None:
    with Reader(file) as reader:
        for read in (reader.read_tensor, reader.metadata, reader.__getitem__, lambda name: reader.read_tensors([name])):
            with pytest.raises(KeyError) as caught:
                read("missing")
            assert isinstance(caught.value, ztensor.ZTensorError)
            assert str(caught.value) == f'{file}: no tensor named "missing"'


@pytest.mark.parametrize("name", ["", "w\0", "w\0x", "\ud800", "x" * 10000])
def test_a_name_that_no_tensor_can_have_is_a_key_error(name: str, file: Path) -> None:
    with Reader(file) as reader:
        for read in (reader.read_tensor, reader.metadata, reader.__getitem__):
            with pytest.raises(ztensor.TensorNotFoundError, match="no tensor named"):
                read(name)
        assert reader.get(name, "default") == "default"


@pytest.mark.parametrize("name", [5, None, b"w", ["w"]])
def test_a_name_that_is_no_str_is_refused(name: Any, file: Path) -> None:
    with Reader(file) as reader:
        with pytest.raises(ztensor.ArgumentError, match="name is a str"):
            reader.read_tensor(name)
        with pytest.raises(ztensor.ArgumentError, match="name is a str"):
            reader.metadata(name)


# As a sequence.


def test_length_and_iteration_are_those_of_descriptions(file: Path, opened: Open) -> None:
    with opened(file) as reader:
        assert len(reader) == len(TENSORS)
        assert [meta.name for meta in reader] == list(TENSORS)
        assert list(reader) == reader.tensors == [reader.metadata(name) for name in TENSORS]


def test_numbers_count_from_both_ends(file: Path) -> None:
    names = list(TENSORS)
    with Reader(file) as reader:
        for at in range(-len(names), len(names)):
            assert reader[at].name == names[at]
            assert reader[np.int64(at)].name == names[at]


def test_slices_are_those_of_a_list(file: Path) -> None:
    names = list(TENSORS)
    with Reader(file) as reader:
        for cut in (slice(None), slice(1, 3), slice(-2, None), slice(None, None, -1), slice(3, 1), slice(0, 99, 2)):
            assert [meta.name for meta in reader[cut]] == names[cut]
        with pytest.raises(ValueError, match="slice step cannot be zero"):
            reader[::0]


@pytest.mark.parametrize("number", [5, -6, 2**70, -(2**70)])
def test_a_number_out_of_range_is_an_index_error(number: int, file: Path) -> None:
    with (
        Reader(file) as reader,
        pytest.raises(IndexError, match=f"no tensor number {number}: the file has 5") as caught,
    ):
        reader[number]
    assert isinstance(caught.value, ztensor.ZTensorError)


@pytest.mark.parametrize("key", [1.5, None, b"w", ("w",), ["w"]])
def test_any_other_key_is_a_type_error(key: Any, file: Path) -> None:
    with Reader(file) as reader, pytest.raises(TypeError):
        reader[key]


def test_iterating_twice_at_once_is_fine(file: Path) -> None:
    with Reader(file) as reader:
        assert [(one.name, other.name) for one in reader for other in reader] == [
            (one, other) for one in TENSORS for other in TENSORS
        ]


def test_a_list_that_was_given_out_is_the_callers(file: Path) -> None:
    with Reader(file) as reader:
        reader.tensor_names.clear()
        reader.tensors.clear()
        reader.keys().clear()
        reader.file_metadata.clear()
        assert reader.tensor_names == list(TENSORS)
        assert reader.file_metadata == {"made": "here"}


# Several tensors, and parts of one.


def test_several_tensors_come_in_the_order_asked_for(file: Path, opened: Open) -> None:
    names = ["large", "w", "empty", "w", "z/first"]
    with opened(file) as reader:
        found = reader.read_tensors(names)
        assert len(found) == len(names)
        for name, array in zip(names, found):
            assert_same(array, TENSORS[name])
        assert reader.read_tensors([]) == []
        assert len(reader.read_tensors(tuple(names))) == len(names)


def test_one_missing_name_of_several_is_a_key_error(file: Path) -> None:
    with Reader(file) as reader, pytest.raises(KeyError, match="missing"):
        reader.read_tensors(["w", "missing"])


def test_a_str_is_not_taken_for_several_names(file: Path) -> None:
    with Reader(file) as reader, pytest.raises(ztensor.ArgumentError, match="read_tensor reads one"):
        reader.read_tensors("w")


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
@pytest.mark.parametrize("shape", [(1000,), (700, 3, 5), (70000, 8), (4, 0, 3), (0, 3)], ids=str)
def test_rows_are_those_of_the_whole(
    shape: tuple[int, ...], compress: bool, path: Path, opened: Open, rng: np.random.Generator
) -> None:
    array = rng.integers(0, 100, shape).astype(np.int32)
    with Writer(path) as writer:
        writer.add_tensor("x", array, compress)
    rows = shape[0]
    with opened(path) as reader:
        for start, stop in [(0, rows), (0, 0), (rows, rows), (rows // 3, rows // 2), (rows - 1, rows), (0, 1)]:
            if 0 <= start <= stop <= rows:
                assert_same(reader.read_rows("x", start, stop), array[start:stop])


def test_rows_outside_are_an_index_error(file: Path) -> None:
    with Reader(file) as reader:
        for start, stop in [(-1, 2), (0, 4), (2, 1), (4, 4), (0, 2**65)]:
            with pytest.raises(IndexError, match="'w'.*lie outside"):
                reader.read_rows("w", start, stop)
        with pytest.raises(ztensor.ArgumentError, match="'z/first'"):
            reader.read_rows("z/first", 0, 1)
        with pytest.raises(KeyError):
            reader.read_rows("missing", 0, 1)


def test_rows_are_the_callers_own(file: Path, opened: Open) -> None:
    with opened(file) as reader:
        rows = reader.read_rows("large", 10, LARGE - 10)
        rows[:] = -1
        assert_same(reader.read_rows("large", 10, LARGE - 10), TENSORS["large"][10:-10])


@pytest.mark.parametrize("to", ["jax", "", None, "NumPy"])
def test_an_unknown_form_is_refused(to: Any, file: Path) -> None:
    with Reader(file) as reader:
        for read in (
            lambda: reader.read_tensor("w", to=to),
            lambda: reader.read_tensors(["w"], to=to),
            lambda: reader.read_rows("w", 0, 1, to=to),
        ):
            with pytest.raises(ztensor.ArgumentError, match="'numpy' or 'torch'"):
                read()


# Shapes.


@pytest.mark.parametrize("shape", [(), (0,), (1,), (0, 0, 3), (3, 0), (1,) * 32, (2, 3, 5, 7)], ids=str)
def test_every_shape_comes_back(shape: tuple[int, ...], path: Path, opened: Open) -> None:
    array = np.full(shape, 3, np.uint16)
    with Writer(path) as writer:
        writer.add_tensor("x", array)
        writer.add_tensor("y", array, compress=True)
    with opened(path) as reader:
        assert_same(reader["x"], array)
        assert_same(reader["y"], array)
        assert reader[0].shape == shape


def test_an_empty_tensor_that_numpy_cannot_hold_is_refused_by_name(path: Path) -> None:
    torch = pytest.importorskip("torch")
    with Writer(path) as writer:
        writer.add_tensor("odd one", torch.empty(2**62, 0))
    with Reader(path) as reader:
        assert reader[0].shape == (2**62, 0)
        with pytest.raises(ztensor.UnsupportedTensorError, match="'odd one'"):
            reader["odd one"]
        assert reader.read_tensor("odd one", to="torch").shape == (2**62, 0)


def test_a_file_without_tensors_is_empty(path: Path, opened: Open) -> None:
    with Writer(path):
        pass
    with opened(path) as reader:
        assert len(reader) == 0
        assert dict(reader) == {}
        assert reader.tensors == reader.tensor_names == list(reader) == reader[:] == []
        assert reader.file_metadata == {}
        reader.verify()
        with pytest.raises(IndexError):
            reader[0]


def test_a_reader_of_no_tensors_is_still_something(path: Path) -> None:
    with Writer(path):
        pass
    # As an empty list is: `if reader:` asks whether there is anything in it.
    with Reader(path) as reader:
        assert not reader


def test_many_tensors_keep_order_and_content(path: Path, opened: Open) -> None:
    tensors = {f"layer.{at}.weight": np.full(at % 7, at, np.int32) for at in range(20000)}
    with Writer(path) as writer:
        writer.add_tensors(tensors)
    with opened(path) as reader:
        assert reader.tensor_names == list(tensors)
        for name in ("layer.0.weight", "layer.6.weight", "layer.19999.weight"):
            assert_same(reader[name], tensors[name])
        assert_same(np.concatenate(reader.read_tensors(reader.keys())), np.concatenate(list(tensors.values())))


# Where a file comes from.


class FsPath:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.mark.parametrize("form", [str, Path, FsPath])
def test_a_path_is_a_str_or_path_like(form: Any, file: Path, mode: str) -> None:
    with Reader(form(file), mode=mode) as reader:
        assert_same(reader["w"], TENSORS["w"])


def test_a_path_may_be_relative_and_of_any_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("modèle ✓.zt", "new\nline.zt", os.fsdecode(b"\xff\xfe.zt")):
        with Writer(name) as writer:
            writer.add_tensor("x", np.arange(3))
        assert name in os.listdir()
        with Reader(name, mode=mode) as reader:
            assert_same(reader["x"], np.arange(3))


@pytest.mark.parametrize(
    "form",
    [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)],
    ids=["bytes", "bytearray", "memoryview", "ndarray"],
)
def test_bytes_may_come_in_any_form(form: Any, file: Path) -> None:
    with Reader(form(file.read_bytes())) as reader:
        assert reader.tensor_names == list(TENSORS)
        for name, array in TENSORS.items():
            assert_same(reader[name], array)


def test_bytes_at_any_address_do(file: Path) -> None:
    data = file.read_bytes()
    for shift in (1, 3, 8):
        with Reader(memoryview(bytes(shift) + data)[shift:]) as reader:
            assert_same(reader["w"], TENSORS["w"])
            assert_same(reader["large"], TENSORS["large"])


def test_bytes_are_let_go_when_the_reader_is_closed(file: Path) -> None:
    data = bytearray(file.read_bytes())
    reader = Reader(data)
    kept = reader["large"]
    with pytest.raises(BufferError):
        data.append(0)
    reader.close()
    data[:] = bytes(len(data))
    data.clear()
    assert_same(kept, TENSORS["large"])


@pytest.mark.parametrize(
    "file_like",
    [5, None, ["model.zt"], memoryview(bytes(100))[::2], np.zeros(100, np.uint8)[::2], open],
    ids=["number", "none", "list", "strided memoryview", "strided array", "function"],
)
def test_what_is_neither_path_nor_bytes_is_refused(file_like: Any) -> None:
    with pytest.raises(ztensor.ArgumentError, match="a file is a path or bytes"):
        Reader(file_like)


def test_a_path_with_a_nul_is_refused(file: Path) -> None:
    with pytest.raises(ztensor.ArgumentError, match="NUL"):
        Reader(f"{file}\0.zt")


# Options.


def test_unknown_options_are_refused(file: Path) -> None:
    with pytest.raises(ztensor.ArgumentError, match="'mmap' or 'read'"):
        Reader(file, mode="copy")
    with pytest.raises(TypeError):
        Reader(file, "mmap")
    for threads in (0, -1):
        with pytest.raises(ztensor.ArgumentError, match="threads"):
            Reader(file, threads=threads)
    with pytest.raises(ztensor.ArgumentError, match="threads"):
        Reader(file, threads=1.5)


@pytest.mark.parametrize("threads", [1, 2, 7, None])
def test_any_number_of_threads_reads_the_same(threads: int | None, file: Path, opened: Open) -> None:
    with opened(file, threads=threads) as reader:
        for name, array in zip(TENSORS, reader.read_tensors(list(TENSORS))):
            assert_same(array, TENSORS[name])


# Closing.


def calls(reader: Reader) -> Iterator[Callable[[], object]]:
    """Everything that an open reader can be asked."""
    yield lambda: len(reader)
    yield lambda: reader.tensor_names
    yield lambda: reader.tensors
    yield lambda: reader.file_metadata
    yield lambda: list(reader)
    yield lambda: "w" in reader
    yield lambda: reader["w"]
    yield lambda: reader[0]
    yield lambda: reader[:]
    yield lambda: reader.keys()
    yield lambda: list(reader.values())
    yield lambda: list(reader.items())
    yield lambda: reader.get("w")
    yield lambda: reader.metadata("w")
    yield lambda: reader.read_tensor("w")
    yield lambda: reader.read_tensors(["w"])
    yield lambda: reader.read_rows("w", 0, 1)
    yield lambda: reader.verify()
    yield lambda: reader.__enter__()


def test_a_closed_reader_says_so(file: Path, opened: Open) -> None:
    reader = opened(file)
    for call in calls(reader):
        call()
    reader.close()
    reader.close()
    for call in calls(reader):
        with pytest.raises(ztensor.StateError, match="the reader is closed"):
            call()
    assert repr(reader).startswith("<Reader of ") and repr(reader).endswith(": closed>")


def test_the_with_block_closes(file: Path, opened: Open) -> None:
    with opened(file) as reader:
        assert len(reader) == 5
        array = reader["w"]
    with pytest.raises(ztensor.StateError):
        reader["w"]
    assert_same(array, TENSORS["w"])


def test_an_exception_in_the_with_block_goes_through(file: Path) -> None:
    with pytest.raises(ZeroDivisionError), Reader(file) as reader:
        1 / 0
    with pytest.raises(ztensor.StateError):
        len(reader)


# What a reader says of itself.


def test_a_reader_shows_file_format_tensors_and_bytes(path: Path, mode: str) -> None:
    with Writer(path) as writer:
        writer.add_tensors({"a": np.zeros((2, 3)), "b": np.ones(5, np.int8)}, compress=True)
    with Reader(path, mode=mode) as reader:
        assert repr(reader) == str(reader) == f"<Reader of {str(path)!r}: zt/1, 2 tensors, 53 bytes>"
    with Reader(path.read_bytes()) as reader:
        assert repr(reader) == "<Reader of '<memory>': zt/1, 2 tensors, 53 bytes>"


def test_keys_can_be_completed(file: Path, opened: Open) -> None:
    with opened(file) as reader:
        assert reader._ipython_key_completions_() == reader.tensor_names


def test_a_change_to_file_metadata_changes_nothing(path: Path) -> None:
    with Writer(path, metadata={"a": [1]}) as writer:
        writer.add_tensor("x", np.ones(1))
    with Reader(path) as reader:
        reader.file_metadata["b"] = 2
        reader.file_metadata["a"].append(3)
        assert reader.file_metadata == {"a": [1]} and type(reader.file_metadata) is dict
        with pytest.raises(AttributeError):
            reader.file_metadata = {}  # type: ignore[misc]


def test_no_names_are_no_tensors(file: Path, opened: Open) -> None:
    with opened(file) as reader:
        for names in ([], (), iter(())):
            assert reader.read_tensors(names) == [] == reader.read_tensors(names, to="torch")
        assert reader[0:0] == [] and len(reader.read_rows("w", 1, 1)) == 0


# Other processes, and copies.


def in_another_process(reader: Reader) -> tuple[Any, ...]:
    options = reader._origin[1:]
    return os.getpid(), reader["w"], options, reader.file_metadata


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_reader_goes_to_another_process(method: str, file: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # By a relative path, which the other process could not follow from where it is.
    monkeypatch.chdir(file.parent)
    reader = Reader(file.name, mode=mode, verify=True, threads=2)
    monkeypatch.chdir("/")
    with multiprocessing.get_context(method).Pool(1) as pool:
        process, array, options, metadata = pool.apply(in_another_process, (reader,))
    assert process != os.getpid() and options == (mode, True, 2) and metadata == reader.file_metadata
    assert_same(array, TENSORS["w"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_reader_is_pickled_by_its_path(protocol: int, file: Path) -> None:
    given = pickle.dumps(Reader(file), protocol)
    assert len(given) < 1000
    with pickle.loads(given) as found:
        assert type(found) is Reader and found.tensor_names == list(TENSORS)
        assert pickle.loads(pickle.dumps(found, protocol)).tensor_names == list(TENSORS)


def test_a_file_of_any_generation_is_pickled_by_its_path() -> None:
    for name in ("0.1.4/single_f32.zt", "1.2.3/single_f32.zt", "2.1.2/single_f32.zt"):
        with Reader(LEGACY / name) as reader:
            found = pickle.loads(pickle.dumps(reader))
            assert found.format == reader.format and found[0] == reader[0]


def test_a_file_that_was_replaced_is_not_taken_for_the_one_that_was_pickled(path: Path) -> None:
    def write(**tensors: Any) -> None:
        with Writer(path) as writer:
            writer.add_tensors(tensors)

    write(a=np.zeros(3))
    reader = Reader(path)
    given = pickle.dumps(reader)
    write(a=np.zeros(3))
    assert pickle.loads(given)["a"].shape == (3,)
    for other in ({"b": np.zeros(3)}, {"a": np.ones(3)}, {"a": np.zeros((3, 1))}, {"a": np.zeros(3, np.int64)}, {}):
        write(**other)
        with pytest.raises(ztensor.StateError, match=f"^{path}: the file was replaced"):
            pickle.loads(given)
        # Also where it was replaced before.
        with pytest.raises(ztensor.StateError, match="replaced"):
            pickle.loads(pickle.dumps(reader))
    path.unlink()
    with pytest.raises(ztensor.MissingFileError):
        pickle.loads(given)


def test_a_reader_by_a_symbolic_link_is_pickled_for_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep", target_is_directory=True)
    save_file({"a": np.ones(2)}, tmp_path / "far" / "x.zt")
    save_file({"a": np.zeros(2)}, tmp_path / "x.zt")
    monkeypatch.chdir(tmp_path)
    given = pickle.dumps(Reader("link/../x.zt"))
    monkeypatch.chdir("/")
    assert_same(pickle.loads(given)["a"], np.ones(2))


def test_a_directory_that_was_removed_has_no_path_for_a_pickle(tmp_path: Path) -> None:
    save_file({"a": np.ones(2)}, tmp_path / "x.zt")
    code = """
import os, pickle, sys
import ztensor
os.mkdir("gone"), os.chdir("gone"), os.rmdir("../gone")
try:
    ztensor.Reader("x.zt")
except ztensor.MissingFileError as err:
    print(err.filename)
try:
    reader = ztensor.Reader("../x.zt")
except ztensor.MissingFileError:
    # Not every system finds the parent of such a directory.
    print("TypeError")
else:
    reader["a"]
    try:
        pickle.dumps(reader)
    except TypeError as err:
        assert "../x.zt" in str(err) and "current directory" in str(err) and "absolute path" in str(err)
        print("TypeError")
"""
    assert run_python(f"import os; os.chdir({str(tmp_path)!r})" + code).split() == ["x.zt", "TypeError"]


@pytest.mark.parametrize("what", [Reader, Writer, load_file, lambda path: save_file({}, path)])
def test_a_path_that_is_none_is_a_wrong_argument(what: Callable[[str], Any]) -> None:
    for path, said in (("", "the path is empty"), ("a\ud800", r"the path 'a\\ud800' cannot be written.*encod")):
        with pytest.raises(ztensor.ArgumentError, match=said):
            what(path)


def test_other_metadata_attributes_and_blocks_are_another_index(path: Path) -> None:
    def write(metadata: dict[str, Any], a: dict[str, Any], b: dict[str, Any], columns: int = 2) -> None:
        with Writer(path, metadata=metadata) as writer:
            writer.add_tensor("a", np.zeros(3), attributes=a)
            writer.add_tensor("b", np.zeros(3), attributes=b)
            # Without blocks, their size is in the index alone.
            writer.add_sparse_bsr("c", np.ones((0, 1, columns)), np.zeros(0, np.int64), np.zeros(5, np.int64), (4, 4))

    first: Any = ({"k": 1}, {"x": 1}, {})
    write(*first)
    given = pickle.dumps(Reader(path))
    write(*first)
    pickle.loads(given).close()
    for other in (({"k": 2}, {"x": 1}, {}), ({}, {"x": 1}, {}), ({"k": 1}, {"x": 2}, {}), ({"k": 1}, {}, {"x": 1}), (*first, 4)):
        write(*other)
        with pytest.raises(ztensor.StateError, match="replaced"):
            pickle.loads(given)


def test_an_array_of_scipy_and_a_matrix_are_another_index(path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    kinds = [kind(np.eye(2)) for kind in (sparse.csr_array, sparse.csr_matrix)]
    for one, other in (kinds, kinds[::-1]):
        save_file({"s": one}, path)
        given = pickle.dumps(Reader(path))
        save_file({"s": other}, path)
        with pytest.raises(ztensor.StateError, match="replaced"):
            pickle.loads(given)


def test_a_reader_of_bytes_is_not_pickled(file: Path) -> None:
    with pytest.raises(TypeError, match="Reader of a file in memory.*path"):
        pickle.dumps(Reader(file.read_bytes()))


def test_a_closed_reader_is_not_pickled(file: Path, opened: Open) -> None:
    reader = opened(file)
    reader.close()
    with pytest.raises(ztensor.StateError, match="closed"):
        pickle.dumps(reader)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_reader_is_closed_by_itself(way: Callable[[Reader], Reader], file: Path, opened: Open) -> None:
    reader = opened(file)
    found = way(reader)
    assert type(found) is Reader and found is not reader
    reader.close()
    assert_same(found["w"], TENSORS["w"])
    again = way(found)
    found.close()
    assert_same(again["w"], TENSORS["w"])
    # Of a closed one too.
    with pytest.raises(ztensor.StateError):
        way(found)["w"]


LEGACY = Path(__file__).parents[2] / "tests" / "data" / "legacy"


@pytest.mark.parametrize(
    ("file", "generation"),
    [
        ("0.1.4/single_f32.zt", "zten/0.1"),
        ("1.0.1/single_f32.zt", "zten/1.0"),
        ("1.1.1/single_f32.zt", "zten/1.1"),
        ("1.2.3/single_f32.zt", "zten/1.2"),
        ("2.1.2/single_f32.zt", "zt/2"),
    ],
)
def test_files_of_the_public_package_open(file: str, generation: str, mode: str) -> None:
    with Reader(LEGACY / file, mode=mode) as reader:
        assert reader.format == generation
        assert reader["w"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        reader.verify()
        assert reader.metadata("w").dtype_str == "float32"
    loaded = load_file(LEGACY / file, mode=mode)
    assert loaded["w"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_a_native_file_names_its_format(tmp_path: Path) -> None:
    with Writer(tmp_path / "a.zt") as writer:
        writer.add_tensor("a", np.zeros(3))
    with Reader(tmp_path / "a.zt") as reader:
        assert reader.format == "zt/1"
    with pytest.raises(ZTensorError):
        _ = reader.format
