"""Whatever is written is read back bit for bit: every type, layout, encoding, way to write and way to read.

Hypothesis looks for counterexamples; ``ZTENSOR_EXAMPLES`` sets how many it tries.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, note
from hypothesis import strategies as st
from support import ALL, IN_NUMPY, PLAIN, assert_same, assert_same_tensor, bits, components, random_array, random_tensor

import ztensor
import ztensor.numpy as ztn
from ztensor import Reader, Writer, _dtypes

pytest.importorskip("ml_dtypes")
torch = pytest.importorskip("torch")

import ztensor.torch as ztt  # noqa: E402

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
LEVELS = st.sampled_from([False, True, 1, 2, 6])
WAYS = st.sampled_from(["mmap", "read", "bytes"])
THREADS = st.sampled_from([None, 1, 3])
IN_TORCH = [name for name in ALL if hasattr(torch, name)]
INDICES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
#: Sizes around those at which something changes: 64 bytes, mappings, chunks.
COUNTS = st.one_of(
    *[st.integers(0, 70)] * 3, *[st.integers(0, 5000)] * 3, st.sampled_from([2**15, 2**16, 2**17 - 1, 2**17, 2**18 + 3])
)


class Options(NamedTuple):
    """How a file is written and read."""

    level: bool | int
    way: str
    threads: int | None
    verify: bool


OPTIONS = st.builds(Options, LEVELS, WAYS, THREADS, st.booleans())


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    count = draw(COUNTS)
    if count > 5000:
        return draw(st.sampled_from([(count,), (1, count), (count, 1)]))
    dims = draw(st.lists(st.integers(0, 6), max_size=4))
    return tuple(dims) if draw(st.booleans()) else (*dims[:1], count)


@st.composite
def arrays(draw: st.DrawFn, names: list[str] = IN_NUMPY) -> Any:
    """An array of any type and shape, of noise or of something to compress, in any order in memory."""
    name, shape = draw(st.sampled_from(names)), draw(shapes())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        array = random_array(name, shape, rng)
    else:
        array = np.resize(random_array(name, (draw(st.integers(1, 9)),), rng), shape)
    order = draw(st.sampled_from(["c", "fortran", "reversed", "swapped", "strided"]))
    if order == "fortran":
        array = np.asfortranarray(array)
    elif order == "reversed" and array.ndim:
        array = array[::-1]
    elif order == "swapped" and array.dtype.kind in "iufc":
        array = array.astype(array.dtype.newbyteorder(">"))
    elif order == "strided" and array.ndim:
        array = array[..., ::2]
    return array


def write(path: Path, tensors: dict[str, Any], options: Options, one_by_one: bool) -> None:
    if one_by_one:
        with Writer(path, threads=options.threads) as writer:
            for name, tensor in tensors.items():
                writer.add_tensor(name, tensor, options.level)
    else:
        ztn.save_file(tensors, path, compress=options.level, threads=options.threads)
        assert path.read_bytes() == ztn.save(tensors, compress=options.level, threads=options.threads)


def reader_of(path: Path, options: Options) -> Reader:
    if options.way == "bytes":
        return Reader(path.read_bytes(), verify=options.verify, threads=options.threads)
    return Reader(path, mode=options.way, verify=options.verify, threads=options.threads)


@given(st.dictionaries(NAMES, arrays(), max_size=5), OPTIONS, st.booleans())
def test_arrays(tensors: dict[str, Any], options: Options, one_by_one: bool) -> None:
    note(f"{[(array.dtype, array.shape, array.strides) for array in tensors.values()]}")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.zt"
        write(path, tensors, options, one_by_one)
        with reader_of(path, options) as reader:
            assert reader.tensor_names == list(tensors)
            reader.verify()
            for name, found in zip(tensors, reader.read_tensors(list(tensors))):
                assert_same(found, tensors[name])
                assert_same(reader[name], tensors[name])
            whole = reader._load_all("numpy")
        for name, array in tensors.items():
            assert_same(whole[name], array)


@given(arrays(), OPTIONS, st.data())
def test_rows(array: Any, options: Options, data: st.DataObject) -> None:
    if not array.ndim:
        return
    start = data.draw(st.integers(0, array.shape[0]))
    stop = data.draw(st.integers(start, array.shape[0]))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.zt"
        write(path, {"before": np.ones(3), "x": array}, options, True)
        with reader_of(path, options) as reader:
            assert_same(reader.read_rows("x", start, stop), array[start:stop])


@given(
    st.dictionaries(
        NAMES, st.tuples(st.sampled_from(IN_TORCH), shapes(), st.integers(0, 2**32), st.booleans()), max_size=5
    ),
    OPTIONS,
)
def test_tensors(drawn: dict[str, Any], options: Options) -> None:
    tensors = {}
    for name, (dtype, shape, seed, transpose) in drawn.items():
        tensor = random_tensor(dtype, shape, np.random.default_rng(seed))
        tensors[name] = tensor.t() if transpose and tensor.ndim == 2 else tensor
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.zt"
        ztt.save_file(tensors, path, compress=options.level, threads=options.threads)
        if options.way == "bytes":
            found = ztt.load(path.read_bytes(), verify=options.verify)
        else:
            found = ztt.load_file(path, mode=options.way, verify=options.verify)
        assert list(found) == list(tensors)
        for name, tensor in tensors.items():
            assert_same_tensor(found[name], tensor)
        with reader_of(path, options) as reader:
            for name, tensor in tensors.items():
                assert_same_tensor(reader.read_tensor(name, to="torch"), tensor)


class Sparse(NamedTuple):
    """A sparse tensor by its parts, as the writer takes them."""

    layout: str
    parts: tuple[Any, ...]
    shape: tuple[int, ...]


@st.composite
def sparse_tensors(draw: st.DrawFn, names: list[str] = IN_NUMPY) -> Sparse:
    """Any sparse tensor that keeps to the rules: unsorted, with duplicates, without entries, of no size."""
    layout = draw(st.sampled_from(["csr", "csc", "coo", "bsr", "bsc"]))
    name, index = draw(st.sampled_from(names)), draw(st.sampled_from(INDICES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.one_of(st.integers(0, 20), st.sampled_from([100, 5000])))
    most = np.iinfo(index).max
    if layout == "coo":
        shape = tuple(draw(st.lists(st.integers(0, 100), min_size=1, max_size=4)))
        count = count if all(shape) else 0
        indices = np.stack([rng.integers(0, max(dim, 1), count) for dim in shape]).astype(index)
        return Sparse(layout, (random_array(name, (count,), rng), indices), shape)
    block = (draw(st.integers(1, 3)), draw(st.integers(1, 3))) if layout in ("bsr", "bsc") else (1, 1)
    compressed, other = draw(st.integers(0, 12)), draw(st.integers(0, 100))
    count = min(count, most) if compressed and other else 0
    bounds = np.sort(rng.integers(0, count + 1, max(compressed - 1, 0)))
    indptr = np.concatenate([[0], bounds, [count]] if compressed else [[0]]).astype(index)
    indices = rng.integers(0, max(other, 1), count).astype(index)
    by_row = layout in ("csr", "bsr")
    rows, columns = (compressed, other) if by_row else (other, compressed)
    values = random_array(name, (count, *block) if layout in ("bsr", "bsc") else (count,), rng)
    return Sparse(layout, (values, indices, indptr), (rows * block[0], columns * block[1]))


def write_sparse(path: Path, tensor: Sparse, options: Options) -> None:
    with Writer(path, threads=options.threads) as writer:
        writer.add_tensor("before", np.arange(5))
        getattr(writer, f"add_sparse_{tensor.layout}")("s", *tensor.parts, tensor.shape, compress=options.level)
        writer.add_tensor("after", np.arange(5))


@given(sparse_tensors(), OPTIONS)
def test_sparse_tensors_as_torchs(tensor: Sparse, options: Options) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.zt"
        write_sparse(path, tensor, options)
        with reader_of(path, options) as reader:
            reader.verify()
            found = reader.read_tensor("s", to="torch")
            assert_same(reader["after"], np.arange(5))
        assert tuple(found.shape) == tensor.shape
        for part, expected in zip(components(found), tensor.parts):
            assert tuple(part.shape) == expected.shape
        assert bits(components(found)[0]) == tensor.parts[0].tobytes()
        for part, expected in zip(components(found)[1:], tensor.parts[1:]):
            assert (part.numpy() == expected.astype(np.int64)).all()
        # And what torch saves of it is the same again, but for the type of indices, which torch has chosen.
        again = ztt.load(ztt.save({"s": found}, compress=options.level))["s"]
        assert_same_tensor(again, found)


#: Types that SciPy computes with.
IN_SCIPY = [name for name in PLAIN if name != "float16"]


@given(sparse_tensors(IN_SCIPY), OPTIONS)
def test_sparse_tensors_as_scipys(tensor: Sparse, options: Options) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    if tensor.layout == "coo" and len(tensor.shape) != 2:
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.zt"
        write_sparse(path, tensor, options)
        with reader_of(path, options) as reader:
            found = reader["s"]
            assert reader.metadata("s").layout == f"sparse_{tensor.layout}"
        assert (found.shape, found.dtype) == (tensor.shape, tensor.parts[0].dtype)
        if tensor.layout == "bsc":
            assert type(found) is sparse.bsr_matrix
            return
        assert type(found) is getattr(sparse, f"{tensor.layout}_matrix")
        assert_same(found.data, tensor.parts[0])
        if tensor.layout == "coo":
            assert (np.stack([found.row, found.col]) == tensor.parts[1]).all()
        else:
            assert (found.indices == tensor.parts[1]).all() and (found.indptr == tensor.parts[2]).all()
        written = found.data.tobytes()
        again = ztn.load(ztn.save({"s": found}, compress=options.level))["s"]
        assert again.format == found.format and again.data.tobytes() == written


@given(st.binary(max_size=300))
def test_bytes_that_are_no_file_are_refused(data: bytes) -> None:
    for source in (data, b"\x89ZTM\r\n\x1a\n" + data):
        with pytest.raises(ztensor.FormatError):
            Reader(source)


def test_every_type_was_in_the_running() -> None:
    assert set(IN_NUMPY) | {"float4_e2m1fn_x2"} == set(ALL) == {row.name for row in _dtypes.TABLE}
