"""Tables, columns and masked data of other libraries are stored value for value, or refused with what to pass instead.

Nothing else may happen: what NumPy makes of them by itself rounds integers, and turns what is missing into numbers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import assert_same, entries, run_python

import ztensor
import ztensor.numpy as ztn
from ztensor import Writer

BIG = 2**53 + 1


def stored(value: Any) -> Any:
    """What comes back of a value that was saved; None if it was refused."""
    try:
        data = ztn.save({"odd one": value})
    except ztensor.UnsupportedTensorError as err:
        assert str(err).startswith("<memory>: tensor 'odd one' ")
        return None
    return ztn.load(data)["odd one"]


def add_tensor(value: Any, path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("odd one", value)


def add_tensors(value: Any, path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensors({"good": np.ones(2), "odd one": value}, compress=1)


def add_sparse(value: Any, path: Path) -> None:
    with Writer(path) as writer:
        writer.add_sparse_csr("odd one", value, np.zeros(1, int), np.array([0, 1]), (1, 1))


def refusal(value: Any, path: Path) -> str:
    """How a value is refused, by each way to save it."""
    said = ""
    for add in (add_tensor, add_tensors, add_sparse):
        # Values of two dimensions are a wrong argument for a sparse tensor anyway.
        kinds = (ztensor.UnsupportedTensorError, ztensor.ArgumentError) if add is add_sparse else ztensor.UnsupportedTensorError
        with pytest.raises(kinds, match="tensor 'odd one'") as caught:
            add(value, path)
        said = said or str(caught.value)
    assert entries(path.parent) == []
    return said


# Masks.


class Base:
    """What has an array, and a mask in one place or another."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([1.0, 2.0])


class WithProperty(Base):
    @property
    def mask(self) -> Any:
        return np.array([True, False])


class WithAttribute(Base):
    def __init__(self, mask: Any) -> None:
        self.mask = mask


class WithMethod(Base):
    def mask(self, condition: Any) -> Any:
        return self


class WithColumn(Base):
    """What has a column or a coordinate of the name, as frames and datasets may."""

    def __getattr__(self, name: str) -> Any:
        if name != "mask":
            raise AttributeError(name)
        return np.array([True, False])


class GivesMasked:
    """What is not masked itself, but whose array is."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.ma.masked_array([1.0, 2.0], [True, False])


class MaskedSubclass(np.ndarray[Any, Any]):
    """A subclass of arrays with a mask of its own, as that of astropy."""

    mask = np.array([True, False])


@pytest.mark.parametrize(
    "value",
    [
        WithProperty(),
        WithAttribute(np.array([True, False])),
        GivesMasked(),
        np.ones(2).view(MaskedSubclass),
        np.ma.masked_array([1.0, 2.0], [True, False]),
        np.ma.masked_array([1.0, 2.0]),
        np.ma.masked_array([[1, 2], [3, 4]], [[True, False], [False, False]])[1],
        np.ma.masked_array([BIG, 0.5], [False, True]),
        np.ma.masked,
        np.ma.masked_array([1, 2]).view(np.ma.core.MaskedArray),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_a_mask_is_refused(value: Any, path: Path) -> None:
    assert "mask" in refusal(value, path)


@pytest.mark.parametrize("value", [WithAttribute(None), WithMethod(), WithColumn()], ids=lambda value: type(value).__name__)
def test_what_has_no_mask_is_stored(value: Any) -> None:
    assert_same(stored(value), [1.0, 2.0])


# Declared types.


class Declaring:
    """What says which type its elements have."""

    def __init__(self, array: Any, dtype: Any) -> None:
        self.array, self.dtype = np.asarray(array), dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array


class Table:
    """What has columns, which become one array of a type for all."""

    def __init__(self, *columns: Any) -> None:
        self.columns = [np.asarray(one) for one in columns]

    @property
    def dtypes(self) -> Any:
        return [one.dtype for one in self.columns]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.stack(self.columns, 1)


def test_an_array_of_another_type_than_declared_is_refused(path: Path) -> None:
    assert "int64, which NumPy gives as float64: pass" in refusal(Declaring([1.0], np.dtype(np.int64)), path)
    for dtype in (np.dtype(np.float64), np.dtype(">f8"), "float64", "<f8", np.float64, float, None):
        assert_same(stored(Declaring([1.0, 2.0], dtype)), [1.0, 2.0])


class Int64:
    """A type as other libraries have them, that is told by its name alone."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


@pytest.mark.parametrize("dtype", ["int64", ">i8", "Int64", np.int64, int, Int64("other.int64"), Int64("bfloat16"), Int64, "torch"])
def test_a_type_is_understood_however_it_is_declared(dtype: Any, path: Path) -> None:
    dtype = library("torch").int64 if dtype == "torch" else dtype
    assert "which NumPy gives as float64: pass" in refusal(Declaring([float(BIG)], dtype), path)
    if "bfloat16" not in str(dtype):
        assert_same(stored(Declaring([BIG], dtype)), [BIG])


@pytest.mark.parametrize("dtype", [object(), "no type", Int64("other.int128"), Base, 7], ids=str)
def test_a_type_that_is_not_known_is_refused(dtype: Any, path: Path) -> None:
    said = refusal(Declaring([1.0], dtype), path)
    assert repr(dtype) in said and "not known" in said and "pass a NumPy array" in said


def test_an_array_by_dlpack_has_the_type_stated_there() -> None:
    class Exporter:
        dtype = object()

        def __dlpack__(self, **options: Any) -> Any:
            return np.array([1.0, 2.0]).__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return np.array([1.0, 2.0]).__dlpack_device__()

    assert_same(stored(Exporter()), [1.0, 2.0])


def test_a_table_of_several_types_is_refused(path: Path) -> None:
    said = refusal(Table([BIG], [0.5]), path)
    assert "int64" in said and "float64" in said and "to_numpy(dtype=...)" in said and "column" in said
    assert_same(stored(Table([BIG, 1], [2, 3])), [[BIG, 2], [1, 3]])


# The libraries themselves.


def library(name: str) -> Any:
    return pytest.importorskip(name)


def pandas() -> Any:
    return library("pandas")


def polars() -> Any:
    return library("polars")


def arrow() -> Any:
    return library("pyarrow")


def xarray() -> Any:
    library("pandas")
    return library("xarray")


def refused_frames() -> dict[str, Callable[[], Any]]:
    return {
        "pandas, integers and floats": lambda: pandas().DataFrame({"id": [BIG], "x": [0.5]}),
        "pandas, of unsigned and signed": lambda: pandas().DataFrame({"u": np.array([2**64 - 1], np.uint64), "i": [-1]}),
        "pandas, of narrow types": lambda: pandas().DataFrame({"a": np.array([1], np.int8), "b": np.array([1], np.int16)}),
        "pandas, bool and integers": lambda: pandas().DataFrame({"a": [True], "b": [1]}),
        "pandas, text": lambda: pandas().DataFrame({"a": ["x"]}),
        "pandas, numbers and text": lambda: pandas().DataFrame({"a": ["x"], "b": [1]}),
        "pandas, objects": lambda: pandas().DataFrame({"a": [1, None]}, dtype=object),
        "pandas, times": lambda: pandas().DataFrame({"a": pandas().to_datetime(["2024-02-29"])}),
        "pandas, times with a zone": lambda: pandas().Series(pandas().to_datetime(["2024-02-29"], utc=True)),
        "pandas, categories": lambda: pandas().Series([1, 2, 1], dtype="category"),
        "pandas, categories of text": lambda: pandas().Series(["a", "b"], dtype="category"),
        "pandas, missing integers": lambda: pandas().Series([BIG, None], dtype="Int64"),
        "pandas, missing floats": lambda: pandas().Series([0.5, None], dtype="Float64"),
        "pandas, missing bools": lambda: pandas().Series([True, None], dtype="boolean"),
        "pandas, array of missing integers": lambda: pandas().array([BIG, None], dtype="Int64"),
        "pandas, index of missing integers": lambda: pandas().Index([BIG, None], dtype="Int64"),
        "pandas, frame of missing integers": lambda: pandas().DataFrame({"a": [BIG, None]}, dtype="Int64"),
        "pandas, sparse": lambda: pandas().Series(pandas().arrays.SparseArray([0, 1])),
        "pandas, intervals": lambda: pandas().Series(pandas().interval_range(0, 2)),
        "pandas, periods": lambda: pandas().Series(pandas().period_range("2024", periods=2, freq="D")),
        "pandas, object series": lambda: pandas().Series([1, None], dtype=object),
        "pandas, several levels": lambda: pandas().MultiIndex.from_tuples([(1, 2.5)]),
        "pandas, of Arrow, missing": lambda: pandas().Series([BIG, None], dtype=pandas().ArrowDtype(arrow().int64())),
        "pandas, of Arrow, text": lambda: pandas().Series(["a"], dtype=pandas().ArrowDtype(arrow().string())),
        "polars, integers and floats": lambda: polars().DataFrame({"id": [BIG], "x": [0.5]}),
        "polars, missing integers": lambda: polars().Series([BIG, None]),
        "polars, missing floats": lambda: polars().Series([0.5, None]),
        "polars, missing bools": lambda: polars().Series([True, None]),
        "polars, frame with missing": lambda: polars().DataFrame({"a": [BIG, None], "b": [1, 2]}),
        "polars, text": lambda: polars().Series(["a"]),
        "polars, categories": lambda: polars().Series(["a"], dtype=polars().Categorical),
        "polars, times": lambda: polars().DataFrame({"a": [1]}).cast(polars().Datetime),
        "polars, decimals": lambda: polars().Series(["1.5"]).cast(polars().Decimal(10, 2)),
        "arrow, integers and floats": lambda: arrow().table({"id": [BIG], "x": [0.5]}),
        "arrow, batch of integers and floats": lambda: arrow().record_batch({"id": [BIG], "x": [0.5]}),
        "arrow, table with missing": lambda: arrow().table({"a": [BIG, None], "b": [1, 2]}),
        "arrow, missing integers": lambda: arrow().array([BIG, None]),
        "arrow, missing floats": lambda: arrow().array([0.5, None]),
        "arrow, chunks with missing": lambda: arrow().chunked_array([[BIG], [None]]),
        "arrow, dictionary": lambda: arrow().array(["a", "b"]).dictionary_encode(),
        "arrow, lists": lambda: arrow().array([[1], [2, 3]]),
        "xarray, objects": lambda: xarray().DataArray(np.array([1, None], object)),
        "xarray, dataset": lambda: xarray().Dataset({"a": ("x", [BIG]), "b": ("x", [0.5])}),
    }


@pytest.mark.parametrize("case", refused_frames())
def test_frames_that_would_lose_something_are_refused(case: str, path: Path) -> None:
    value = refused_frames()[case]()
    assert "tensor 'odd one'" in refusal(value, path)


def test_a_refused_frame_says_what_to_pass(path: Path) -> None:
    pandas = library("pandas")
    said = refusal(pandas.DataFrame({"id": [BIG], "x": [0.5]}), path)
    assert "DataFrame" in said and "int64" in said and "to_numpy(dtype=...)" in said and "column" in said
    assert "missing" in refusal(pandas.Series([1, None], dtype="Int64"), path)


def kept_frames() -> dict[str, Callable[[], tuple[Any, Any]]]:
    """Values that an array holds as they are, and that array."""
    numbers = np.array([[BIG, 2], [3, -4]])
    return {
        "pandas, integers": lambda: (pandas().DataFrame(numbers), numbers),
        "pandas, floats with NaN": lambda: (pandas().DataFrame({"a": [0.5, np.nan]}), [[0.5], [np.nan]]),
        "pandas, made of columns": lambda: (pandas().DataFrame({"a": numbers[:, 0], "b": numbers[:, 1]}), numbers),
        "pandas, columns of odd names": lambda: (pandas().DataFrame(numbers, columns=["mask", "dtype"]), numbers),
        "pandas, float32": lambda: (pandas().DataFrame(np.ones((2, 3), np.float32)), np.ones((2, 3), np.float32)),
        "pandas, bool": lambda: (pandas().DataFrame({"a": [True], "b": [False]}), [[True, False]]),
        "pandas, series": lambda: (pandas().Series(numbers[0]), numbers[0]),
        "pandas, series of float16": lambda: (pandas().Series(np.ones(2, np.float16)), np.ones(2, np.float16)),
        "pandas, series with NaN": lambda: (pandas().Series([0.5, np.nan]), [0.5, np.nan]),
        "pandas, index": lambda: (pandas().RangeIndex(3), np.arange(3)),
        "polars, integers": lambda: (polars().DataFrame(numbers), numbers),
        "polars, series": lambda: (polars().Series(numbers[0]), numbers[0]),
        "polars, bool": lambda: (polars().Series([True, False]), [True, False]),
        "polars, floats with NaN": lambda: (polars().Series([0.5, np.nan], dtype=polars().Float32), np.array([0.5, np.nan], np.float32)),
        "arrow, integers": lambda: (arrow().array([BIG, 2]), [BIG, 2]),
        "arrow, floats": lambda: (arrow().array([0.5], arrow().float32()), np.array([0.5], np.float32)),
        "arrow, bool": lambda: (arrow().array([True, False]), [True, False]),
        "arrow, chunks": lambda: (arrow().chunked_array([[BIG], [2]]), [BIG, 2]),
        "arrow, table": lambda: (arrow().table({"a": [BIG, 3], "b": [2, -4]}), numbers),
        "xarray": lambda: (xarray().DataArray(numbers, dims=("x", "mask"), coords={"mask": [1, 2]}), numbers),
    }


@pytest.mark.parametrize("case", kept_frames())
def test_frames_that_are_one_array_are_stored_right(case: str, path: Path) -> None:
    value, expected = kept_frames()[case]()
    ztn.save_file({"x": value}, path)
    assert_same(ztn.load_file(path)["x"], expected)


DTYPES = ["int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "float32", "float64", "bool"]
NULLABLE = ["Int8", "Int64", "UInt64", "Float32", "Float64", "boolean"]


@st.composite
def columns(draw: Any) -> list[tuple[str, list[Any]]]:
    """Columns of one length: the name of the type, and the values."""
    rows = draw(st.integers(0, 4))
    names = draw(st.one_of(st.lists(st.sampled_from(DTYPES + NULLABLE), min_size=1, max_size=3), st.sampled_from(DTYPES).map(lambda one: [one] * 2)))
    found = []
    for name in names:
        if "bool" in name:
            values = st.booleans()
        elif "loat" in name:
            values = st.floats(width=32)
        else:
            about = np.iinfo(name.lower())
            values = st.integers(int(about.min), int(about.max))
        if name in NULLABLE:
            values = st.none() | values
        found.append((name, draw(st.lists(values, min_size=rows, max_size=rows))))
    return found


def numpy_name(name: str) -> str:
    return name.lower().replace("boolean", "bool")


@given(columns())
def test_a_frame_is_refused_or_each_column_comes_back(made: list[tuple[str, list[Any]]]) -> None:
    pandas = library("pandas")
    series = [pandas.Series(values, dtype=name) for name, values in made]
    found = stored(pandas.concat(series, axis=1) if len(series) > 1 else series[0].to_frame())
    alike = len({name for name, _ in made}) == 1
    if found is None:
        assert not alike or made[0][0] in NULLABLE
    else:
        assert alike and not any(None in values for _, values in made)
        assert_same(found, np.stack([np.array(values, numpy_name(name)) for name, values in made], 1))
    for (name, values), one in zip(made, series):
        found = stored(one)
        if found is None:
            assert name in NULLABLE
        else:
            assert None not in values
            assert_same(found, np.array(values, numpy_name(name)))


@given(columns())
def test_a_frame_of_polars_is_refused_or_each_column_comes_back(made: list[tuple[str, list[Any]]]) -> None:
    polars = library("polars")

    def kind(name: str) -> Any:
        return getattr(polars, {"bool": "Boolean", "boolean": "Boolean"}.get(name, name.replace("int", "Int").replace("uI", "UI").replace("float", "Float")))

    frame = polars.DataFrame([polars.Series(str(at), values, dtype=kind(name)) for at, (name, values) in enumerate(made)])
    found = stored(frame)
    if found is not None:
        assert len(set(frame.dtypes)) == 1 and not any(None in values for _, values in made)
        assert_same(found, np.stack([np.array(values, numpy_name(name)) for name, values in made], 1))


def test_no_library_is_imported_to_save() -> None:
    known = [name for name in ("pandas", "polars", "pyarrow", "xarray") if importlib.util.find_spec(name)]
    code = """
import sys, numpy as np, ztensor.numpy as ztn
class One:
    def __array__(self, dtype=None, copy=None): return np.ones(3)
ztn.save({"a": np.ones(3), "b": One()})
print(sorted(set(sys.modules) & set(sys.argv[1:])))
"""
    assert run_python(code, *known).strip() == "[]"
