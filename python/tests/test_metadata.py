"""What a file says: of its tensors, and in its own key-values."""

from __future__ import annotations

import copy
import math
import pickle
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ztensor
import ztensor.numpy
from ztensor import Reader, TensorMetadata, Writer

Open = Callable[..., Reader]


def stored(path: Path, meta: TensorMetadata) -> bytes:
    """The stored bytes of a dense tensor, straight from the file."""
    return path.read_bytes()[meta.offset : meta.offset + meta.size]


# Of a tensor.


def test_a_raw_tensor_is_described(path: Path, opened: Open) -> None:
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    with Writer(path) as writer:
        writer.add_tensor("layer.x", array)
    with opened(path) as reader:
        meta = reader.metadata("layer.x")
    assert (meta.name, meta.shape, meta.ndim) == ("layer.x", (2, 3, 4), 3)
    assert (meta.dtype_str, meta.dtype) == ("int16", np.dtype(np.int16))
    assert (meta.layout, meta.encoding, meta.filter) == ("dense", "raw", None)
    assert (meta.size, meta.nbytes, meta.endianness) == (48, 48, "little")
    assert meta.offset % 64 == 0
    assert stored(path, meta) == array.tobytes()
    assert meta.checksum == f"crc32:{zlib.crc32(array.tobytes()):08x}"
    assert meta.attributes == {}


def test_a_compressed_tensor_is_described(path: Path, opened: Open) -> None:
    array = np.zeros((1000, 30), np.float32)
    with Writer(path) as writer:
        writer.add_tensor("x", array, compress=True)
    with opened(path) as reader:
        meta = reader.metadata("x")
    assert (meta.encoding, meta.nbytes) == ("zstd", array.nbytes)
    assert meta.size < meta.nbytes / 100
    assert meta.checksum == f"crc32:{zlib.crc32(stored(path, meta)):08x}"


@pytest.mark.parametrize(
    "name, expected",
    [
        ("float64", "float"),
        ("float32", "float"),
        ("float16", "float"),
        ("int32", "shuffle"),
        ("uint8", "none"),
        ("bool", "none"),
    ],
)
def test_the_filter_is_named(name: str, expected: str, path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", np.zeros(1000, name), compress=True)
    with Reader(path) as reader:
        assert reader[0].filter == expected


def test_a_sparse_tensor_is_described_by_its_values(path: Path, opened: Open) -> None:
    values = np.arange(1, 4, dtype=np.float64)
    indices, indptr = np.array([0, 2, 1], np.int32), np.array([0, 2, 3], np.int32)
    with Writer(path) as writer:
        writer.add_sparse_csr("s", values, indices, indptr, (2, 3))
    with opened(path) as reader:
        meta = reader[0]
    assert (meta.layout, meta.shape, meta.dtype_str, meta.encoding) == ("sparse_csr", (2, 3), "float64", "raw")
    assert meta.size == meta.nbytes == values.nbytes + indices.nbytes + indptr.nbytes
    assert path.read_bytes()[meta.offset :][: values.nbytes] == values.tobytes()
    assert meta.checksum == f"crc32:{zlib.crc32(values.tobytes()):08x}"


def test_the_shape_is_a_tuple_of_int(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", np.zeros((3, 0, 2)))
        writer.add_tensor("scalar", np.float32(1))
    with Reader(path) as reader:
        assert reader[0].shape == (3, 0, 2)
        assert all(type(dim) is int for dim in reader[0].shape)
        assert (reader[1].shape, reader[1].ndim, reader[1].size) == ((), 0, 4)


def test_large_raw_tensors_stand_at_pages(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("small", np.zeros(3))
        writer.add_tensor("large", np.zeros(100_000))
    with Reader(path) as reader:
        assert reader[1].offset % 4096 == 0


def test_descriptions_are_values(path: Path, tmp_path: Path) -> None:
    for name, step in (("a.zt", 1), ("b.zt", 1), ("c.zt", 2)):
        with Writer(tmp_path / name) as writer:
            writer.add_tensor("x", np.arange(0, 10, step), attributes={"k": [1]})
            writer.add_tensor("y", np.arange(0, 10, step))
    one, same, other = (Reader(tmp_path / name) for name in ("a.zt", "b.zt", "c.zt"))
    assert one[0] == same[0] and hash(one[0]) == hash(same[0])
    assert one[0] != one[1] and one[0] != other[0] and one[0] != "x"
    assert one[0] in one.tensors
    assert len({one[0], same[0], one[1]}) == 2
    assert copy.deepcopy(one[0]) == pickle.loads(pickle.dumps(one[0])) == one[0]


def test_descriptions_do_not_change(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", np.zeros(3))
    with Reader(path) as reader, pytest.raises(AttributeError, match="cannot be changed: name"):
        reader[0].name = "y"
    with Reader(path) as reader, pytest.raises(AttributeError, match="cannot be changed: shape"):
        del reader[0].shape


def test_descriptions_outlive_their_reader(path: Path, opened: Open) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", np.zeros(3), attributes={"k": "v"})
    with opened(path) as reader:
        found = reader.tensors
    del reader
    assert (found[0].name, found[0].shape, found[0].attributes) == ("x", (3,), {"k": "v"})


def test_repr_is_the_documented_one(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("weights", np.zeros((512, 768), np.float32))
    with Reader(path) as reader:
        assert repr(reader[0]) == str(reader[0]) == "<TensorMetadata name='weights' shape=(512, 768) dtype='float32'>"


# Key-values.

VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "least": -(2**63),
    "most": 2**64 - 1,
    "float": 0.1,
    "negative zero": -0.0,
    "smallest": 5e-324,
    "largest": 1.7976931348623157e308,
    "whole float": 3.0,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "text": "Größe ✓ \U0001f9e0",
    "nul": "a\0b",
    "empty text": "",
    "bytes": b"\x00\xff",
    "empty bytes": b"",
    "list": [1, "two", [3.0, None], {}],
    "mapping": {"format": "pt", "": {"b": 1, "a": 2}, "$1": 1, "$2": 2},
    "key with $": {"a": 1, "$bytes": "00"},
    "": "the empty key",
    "$bytes": "00",
}


def strict(value: Any) -> Any:
    """Something that is equal only if types and signs of zeros are too."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    return type(value).__name__, repr(value)


@pytest.mark.parametrize("compress", [False, True])
def test_every_kind_of_value_survives(compress: bool, path: Path, opened: Open) -> None:
    with Writer(path, metadata=VALUES) as writer:
        writer.add_tensor("x", np.zeros(3), compress, attributes=VALUES)
    with opened(path) as reader:
        assert strict(reader.file_metadata) == strict(dict(sorted(VALUES.items())))
        assert strict(reader[0].attributes) == strict(dict(sorted(VALUES.items())))


@pytest.mark.parametrize("key", list(VALUES))
def test_every_kind_of_value_survives_alone(key: str) -> None:
    data = ztensor.numpy.save({}, {key: VALUES[key]})
    assert strict(Reader(data).file_metadata) == strict({key: VALUES[key]})


def test_not_a_number_survives() -> None:
    found = Reader(ztensor.numpy.save({}, {"x": math.nan})).file_metadata["x"]
    assert type(found) is float and math.isnan(found)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=8)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT, inner, max_size=4).filter(
            lambda found: len(found) != 1 or not next(iter(found)).startswith("$")
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, TREES, max_size=4))
def test_any_metadata_survives(metadata: dict[str, Any]) -> None:
    assert strict(Reader(ztensor.numpy.save({}, metadata)).file_metadata) == strict(metadata)


def test_mappings_and_sequences_of_other_types_become_dicts_and_lists() -> None:
    given_in = {"a": (1, 2), "b": OrderedDict(x=1), "c": MappingProxyType({"y": bytearray(b"z")})}
    for metadata in (given_in, MappingProxyType(given_in)):
        found = Reader(ztensor.numpy.save({}, metadata)).file_metadata
        assert strict(found) == strict({"a": [1, 2], "b": {"x": 1}, "c": {"y": b"z"}})


NUMPY: dict[str, tuple[Any, Any]] = {
    "bool": (np.True_, True),
    "comparison": (np.ones(2)[0] > 0, True),
    "int64": (np.int64(-(2**63)), -(2**63)),
    "uint64": (np.uint64(2**64 - 1), 2**64 - 1),
    "int8": (np.int8(-3), -3),
    "float16": (np.float16(0.1), float(np.float16(0.1))),
    "float32": (np.float32(0.1), float(np.float32(0.1))),
    "float64": (np.float64(0.1), 0.1),
    "infinity": (np.float32("-inf"), -math.inf),
    "text": (np.str_("a"), "a"),
    "bytes": (np.bytes_(b"a"), b"a"),
    "mean": (np.arange(4).mean(), 1.5),
    "no dimension": (np.array(7, np.uint8), 7),
    "text of no dimension": (np.array("x"), "x"),
    "bytes of no dimension": (np.array(b"x"), b"x"),
    "None of no dimension": (np.array(None, object), None),
    "no dimension, twice": ([np.array(np.array(True), object)], [True]),
    "big-endian, no dimension": (np.array(258, ">u2"), 258),
    "inside": ({"a": [np.float32(1.5), (np.int16(2),)], np.str_("b"): np.False_}, {"a": [1.5, [2]], "b": False}),
}


@pytest.mark.parametrize("case", NUMPY)
def test_scalars_of_numpy_are_what_they_equal(case: str, path: Path) -> None:
    value, expected = NUMPY[case]
    with Writer(path, metadata={"x": value}) as writer:
        writer.add_tensor("t", np.zeros(1), attributes={"x": value})
    with Reader(path) as reader:
        assert strict(reader.file_metadata) == strict(reader[0].attributes) == strict({"x": expected})


def test_not_a_number_of_numpy_survives() -> None:
    found = Reader(ztensor.numpy.save({}, {"x": np.float32("nan")})).file_metadata["x"]
    assert type(found) is float and math.isnan(found)


def test_the_callers_metadata_is_not_changed(path: Path) -> None:
    metadata = {"b": [1, {"x": (2,)}], "a": math.nan}
    with Writer(path, metadata=metadata) as writer:
        writer.add_tensor("x", np.zeros(1), attributes=metadata)
    assert list(metadata) == ["b", "a"]
    assert metadata["b"] == [1, {"x": (2,)}]


def test_keys_are_sorted_so_that_the_same_metadata_is_the_same_bytes() -> None:
    assert ztensor.numpy.save({}, {"a": 1, "b": 2}) == ztensor.numpy.save({}, {"b": 2, "a": 1})


def nested(depth: int) -> Any:
    found: Any = 0
    for _ in range(depth):
        found = [found]
    return found


def cyclic() -> Any:
    found: dict[str, Any] = {}
    found["again"] = found
    return found


REFUSED: dict[str, tuple[Any, str]] = {
    "no mapping": ([("a", 1)], "metadata is a mapping"),
    "text": ("format", "metadata is a mapping"),
    "key of another type": ({1: "x"}, "the key 1 is not a str"),
    "inner key of another type": ({"a": {None: "x"}}, r"\['a'\].*the key None is not a str"),
    "object": ({"a": object()}, r"\['a'\].*object cannot be stored"),
    "array": ({"a": np.zeros(2)}, r"\['a'\].*ndarray cannot be stored.*tolist"),
    "array of one": ({"a": np.zeros(1)}, r"\['a'\].*ndarray cannot be stored.*tolist"),
    "extended float": ({"a": np.longdouble("0.1")}, r"\['a'\].*longdouble cannot be stored"),
    "complex of numpy": ({"a": np.complex64(1j)}, r"\['a'\].*complex64 cannot be stored"),
    "date": ({"a": np.datetime64("2024-02-29", "ns")}, r"\['a'\].*datetime64 cannot be stored"),
    "record": ({"a": np.zeros(1, "i4,f8")[0]}, r"\['a'\].*void cannot be stored"),
    "masked": ({"a": np.ma.masked}, r"\['a'\].*cannot be stored"),
    "set": ({"a": {1, 2}}, r"\['a'\].*set cannot be stored"),
    "complex": ({"a": 1j}, r"\['a'\].*complex cannot be stored"),
    "over 64 bits": ({"a": [2**64]}, r"\['a'\].*does not fit 64 bits"),
    "under 64 bits": ({"a": -(2**63) - 1}, r"\['a'\].*does not fit 64 bits"),
    "surrogate": ({"a": "\ud800"}, "UTF-8"),
    "surrogate key": ({"\ud800": 1}, "UTF-8"),
    "reserved mapping": ({"a": {"$bytes": "00"}}, r"\['a'\].*reserved"),
    "reserved mapping inside": ({"a": [{"$any": 1}]}, r"\['a'\].*reserved"),
    "too deep": ({"a": nested(64)}, "at most 63 deep"),
    "much too deep": ({"a": nested(200)}, "at most 63 deep"),
    "far too deep": ({"a": nested(100_000)}, "at most 63 deep"),
    "cyclic": (cyclic(), "too deep"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_stored_is_refused(case: str, path: Path) -> None:
    value, says = REFUSED[case]
    with pytest.raises(ztensor.ArgumentError, match=says):
        Writer(path, metadata=value)
    with pytest.raises(ztensor.ArgumentError, match=says):
        ztensor.numpy.save({}, value)
    assert not list(path.parent.iterdir())
    with Writer(path) as writer:
        with pytest.raises(
            ztensor.ArgumentError, match=says.replace("metadata is", "attributes of tensor 'odd one' is")
        ) as caught:
            writer.add_tensor("odd one", np.zeros(3), attributes=value)
        assert "odd one" in str(caught.value)


def test_sixty_three_levels_are_the_most() -> None:
    deep = {"a": nested(63)}
    assert Reader(ztensor.numpy.save({}, deep)).file_metadata == deep


def test_no_metadata_is_an_empty_dict(path: Path, opened: Open) -> None:
    for metadata in (None, {}):
        with Writer(path, metadata=metadata) as writer:
            writer.add_tensor("x", np.zeros(1), attributes=metadata)
        with opened(path) as reader:
            assert reader.file_metadata == reader[0].attributes == {}


def test_the_size_of_blocks_is_an_attribute(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_sparse_bsr("s", np.ones((2, 3, 2)), np.array([1, 0]), np.array([0, 1, 2]), (6, 4))
    with Reader(path) as reader:
        assert reader[0].attributes == {"blocksize": [3, 2]}
