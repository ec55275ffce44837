"""The Python table of element types says what the library says, and every type round trips."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support import ALL, IN_NUMPY, assert_same, assert_same_tensor, random_array, random_tensor

import ztensor
from ztensor import _dtypes
from ztensor._call import text
from ztensor._ffi import ffi, lib

Open = Callable[..., ztensor.Reader]


def library_table() -> list[tuple[int, str, int]]:
    """Code, name and size of every element type, as the library tells them."""
    rows = []
    code = 1
    while lib.zt_dtype_name(code) != ffi.NULL:
        rows.append((code, text(lib.zt_dtype_name(code)), lib.zt_dtype_size(code)))
        code += 1
    return rows


def test_the_table_is_the_librarys() -> None:
    assert [(row.code, row.name, row.itemsize) for row in _dtypes.TABLE] == library_table()


def test_the_codes_are_the_headers() -> None:
    for row in _dtypes.TABLE:
        assert getattr(lib, "ZT_" + row.name.upper()) == row.code


def test_codes_and_names_are_unique() -> None:
    assert len(_dtypes.BY_CODE) == len(_dtypes.BY_NAME) == len(_dtypes.TABLE)


@pytest.mark.parametrize("name", IN_NUMPY)
def test_numpy_type_has_the_name_and_size(name: str) -> None:
    row = _dtypes.BY_NAME[name]
    if row.needs_ml_dtypes:
        pytest.importorskip("ml_dtypes")
    dtype = _dtypes.numpy_dtype(row.code)
    assert (dtype.name, dtype.itemsize) == (name, row.itemsize)
    assert _dtypes.code_of_numpy(dtype) == row.code
    assert _dtypes.code_of_numpy(dtype.newbyteorder(">")) == row.code


@pytest.mark.parametrize("name", ALL)
def test_torch_type_has_the_name_and_size(name: str) -> None:
    torch = pytest.importorskip("torch")
    if not hasattr(torch, name):
        pytest.skip(f"this torch has no {name}")
    row = _dtypes.BY_NAME[name]
    dtype = _dtypes.torch_dtype(row.code)
    assert dtype is getattr(torch, name)
    assert dtype.itemsize == row.itemsize
    assert _dtypes.code_of_torch(dtype) == row.code


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
@pytest.mark.parametrize("name", IN_NUMPY)
def test_numpy_round_trip(name: str, compress: bool, path: Path, opened: Open, rng: np.random.Generator) -> None:
    if _dtypes.BY_NAME[name].needs_ml_dtypes:
        pytest.importorskip("ml_dtypes")
    array = random_array(name, (5, 300), rng)
    # Something to compress, or the writer stores it raw.
    array[1:] = array[0]
    with ztensor.Writer(path) as writer:
        writer.add_tensor("x", array, compress)
    with opened(path) as reader:
        meta = reader[0]
        assert (meta.dtype_str, meta.dtype) == (name, array.dtype)
        assert meta.encoding == ("zstd" if compress else "raw")
        assert_same(reader["x"], array)


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
@pytest.mark.parametrize("name", ALL)
def test_torch_round_trip(name: str, compress: bool, path: Path, opened: Open, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    if not hasattr(torch, name):
        pytest.skip(f"this torch has no {name}")
    tensor = (
        random_tensor(name, (300,), rng).repeat(5, 1)
        if name != "float4_e2m1fn_x2"
        else random_tensor(name, (300,), rng)
    )
    with ztensor.Writer(path) as writer:
        writer.add_tensor("x", tensor, compress)
    with opened(path) as reader:
        assert reader[0].dtype_str == name
        assert_same_tensor(reader.read_tensor("x", to="torch"), tensor)


@pytest.mark.parametrize("name", IN_NUMPY)
def test_numpy_and_torch_read_the_same_bytes(name: str, path: Path, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    with ztensor.Writer(path) as writer:
        writer.add_tensor("x", random_array(name, (7, 3), rng))
    with ztensor.Reader(path) as reader:
        seen = reader.read_tensor("x", to="torch").view(torch.uint8).numpy()
        assert seen.tobytes() == reader["x"].tobytes()


def test_two_elements_in_a_byte_are_torchs_alone(path: Path) -> None:
    torch = pytest.importorskip("torch")
    if not hasattr(torch, "float4_e2m1fn_x2"):
        pytest.skip("this torch has no float4_e2m1fn_x2")
    with ztensor.Writer(path) as writer:
        writer.add_tensor("x", torch.arange(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2))
    with ztensor.Reader(path) as reader:
        assert (reader[0].shape, reader[0].nbytes) == ((4,), 4)
        with pytest.raises(ztensor.UnsupportedTensorError, match="float4_e2m1fn_x2.*to='torch'"):
            reader["x"]
        with pytest.raises(ztensor.UnsupportedTensorError, match="float4_e2m1fn_x2"):
            reader[0].dtype
