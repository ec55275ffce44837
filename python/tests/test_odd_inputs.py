"""Whatever odd thing NumPy and torch can hold is stored right, or refused with an error that names the tensor.

Every way to save is tried with each.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import assert_same, assert_same_tensor, entries, random_tensor

import ztensor
import ztensor.numpy as ztn
from ztensor import Reader, Writer

Save = Callable[[str, Any, Path], None]


def with_add_tensor(name: str, value: Any, path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor(name, value)


def with_add_tensor_compressed(name: str, value: Any, path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor(name, value, compress=True)


def with_add_tensors(name: str, value: Any, path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensors({name: value})


def with_save_file(name: str, value: Any, path: Path) -> None:
    ztn.save_file({name: value}, path)


def with_save(name: str, value: Any, path: Path) -> None:
    path.write_bytes(ztn.save({name: value}, compress=1))


def with_torch_save_file(name: str, value: Any, path: Path) -> None:
    pytest.importorskip("torch")
    import ztensor.torch

    ztensor.torch.save_file({name: value}, path)


def with_torch_save(name: str, value: Any, path: Path) -> None:
    pytest.importorskip("torch")
    import ztensor.torch

    path.write_bytes(ztensor.torch.save({name: value}, compress=1))


@pytest.fixture(
    params=[
        with_add_tensor,
        with_add_tensor_compressed,
        with_add_tensors,
        with_save_file,
        with_save,
        with_torch_save_file,
        with_torch_save,
    ],
    ids=lambda save: save.__name__,
)
def save(request: pytest.FixtureRequest) -> Save:
    """Each of the ways to save a tensor."""
    return request.param


# NumPy: what is stored.

BASE = np.arange(120, dtype=np.float32).reshape(4, 5, 6)


class Subclass(np.ndarray[Any, Any]):
    """An array with something on top."""


class Hostile(np.ndarray[Any, Any]):
    """A subclass that answers oddly when it is copied or looked into."""

    def __array_finalize__(self, obj: Any) -> None:
        self.note = getattr(obj, "note", "none")

    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError("not to be looked into")

    def __eq__(self, other: object) -> Any:
        raise RuntimeError("not to be compared")

    __hash__ = None


def unaligned() -> Any:
    buffer = np.zeros(8 * 10 + 1, np.uint8)
    found = buffer[1:].view(np.float64)
    found[:] = np.arange(10)
    assert not found.flags.aligned
    return found


def read_only() -> Any:
    found = BASE.copy()
    found.flags.writeable = False
    return found


def record_column() -> Any:
    return np.array([(1, 2.5), (3, 4.5)], [("a", "i4"), ("b", "f8")])["b"]


def overlapping() -> Any:
    return np.lib.stride_tricks.sliding_window_view(np.arange(20), 5)


def of_a_buffer() -> Any:
    return np.frombuffer(b"some bytes that cannot be written", np.uint8)


STORED: dict[str, Callable[[], Any]] = {
    "strided": lambda: BASE[::2, 1:, ::3],
    "negative strides": lambda: BASE[::-1, :, ::-2],
    "transposed": lambda: BASE.T,
    "axes moved": lambda: np.moveaxis(BASE, 0, 1),
    "fortran": lambda: np.asfortranarray(BASE),
    "fortran strided": lambda: np.asfortranarray(BASE)[1:, ::2],
    "broadcast": lambda: np.broadcast_to(BASE[0, 0], (7, 6)),
    "broadcast scalar": lambda: np.broadcast_to(np.int16(3), (3, 4)),
    "overlapping windows": overlapping,
    "big-endian": lambda: BASE.astype(">f4"),
    "big-endian strided": lambda: BASE.astype(">f4")[::-1, ::2],
    "big-endian fortran": lambda: np.asfortranarray(BASE.astype(">f8")),
    "big-endian integers": lambda: np.array([-1, 2, 2**40], ">i8"),
    "big-endian complex": lambda: np.array([1 + 2j, 3 - 4j], ">c16"),
    "big-endian scalar": lambda: np.array(258, ">u2"),
    "little-endian": lambda: BASE.astype("<f4"),
    "unaligned": unaligned,
    "unaligned strided": lambda: unaligned()[::3],
    "of rank zero": lambda: np.array(3.5),
    "of rank zero, a view": lambda: BASE[1, 2, 3, ...],
    "numpy scalar": lambda: np.float16(1.5),
    "numpy bool": lambda: np.bool_(True),
    "empty": lambda: np.empty(0, np.int8),
    "empty of rank three": lambda: np.empty((2, 0, 3)),
    "empty strided": lambda: BASE[:0, ::2],
    "empty big-endian": lambda: np.empty((0, 2), ">i4"),
    "subclass": lambda: BASE.view(Subclass),
    "subclass strided": lambda: BASE[::2].view(Subclass),
    "hostile subclass": lambda: BASE.view(Hostile),
    "hostile subclass transposed": lambda: BASE.T.view(Hostile),
    "record array's column": record_column,
    "real part of complex": lambda: (BASE + 1j).real,
    "imaginary part of complex": lambda: np.array([1 + 2j, 3 + 4j]).imag,
    "read-only": read_only,
    "of bytes": of_a_buffer,
    "bool strided": lambda: (BASE > 50)[:, ::2],
    "nan payloads": lambda: np.array([0x7FC00001, 0xFF800001, 0x7F800000], np.uint32).view(np.float32),
    "new axes": lambda: BASE[None, :, None, ::2, :, None],
    "long integers": lambda: np.array([1, 2], np.longlong),
    "of one element, odd strides": lambda: BASE[1:2, 3:4, ::6],
}


@pytest.mark.parametrize("case", STORED)
def test_odd_arrays_are_stored_right(case: str, save: Save, path: Path) -> None:
    value = STORED[case]()
    expected = np.array(np.asarray(value).view(np.ndarray) if isinstance(value, np.ndarray) else value, order="C")
    save("odd one", value, path)
    with Reader(path, verify=True) as reader:
        assert_same(reader["odd one"], expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_odd_arrays_of_ml_dtypes_are_stored_right(dtype: str, save: Save, path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    value = np.arange(24).reshape(4, 6).astype(getattr(ml_dtypes, dtype))
    for odd in (value.T, value[::-1, ::2], np.broadcast_to(value[0], (3, 6))):
        save("odd one", odd, path)
        assert_same(Reader(path)["odd one"], np.ascontiguousarray(odd))


# NumPy: what is refused.


class Failing:
    """Something whose data is elsewhere."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise TypeError("implicit conversion is not allowed")


class Objects:
    """Something that becomes an array of objects."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([{}, None])


class NoArray:
    """Something whose __array__ gives something else."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return [1, 2]


REFUSED: dict[str, Callable[[], Any]] = {
    "masked": lambda: np.ma.masked_array([1.0, 2.0], [True, False]),
    "masked without a mask": lambda: np.ma.masked_array([1.0, 2.0]),
    "masked constant": lambda: np.ma.masked,
    "objects": lambda: np.array([1, None, "x"], object),
    "object scalar": lambda: np.array(None),
    "empty of objects": lambda: np.empty(0, object),
    "text": lambda: np.array(["a", "bc"]),
    "bytes": lambda: np.array([b"a", b"bc"]),
    "structured": lambda: np.zeros(3, [("a", "i4"), ("b", "f8")]),
    "record array": lambda: np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    "void": lambda: np.zeros(3, "V4"),
    "void of two bytes": lambda: np.zeros(3, "V2"),
    "dates": lambda: np.array(["2024-02-29"], "M8[D]"),
    "time spans": lambda: np.array([5], "m8[s]"),
    "extended floats": lambda: np.zeros(3, np.longdouble),
    "extended complex": lambda: np.zeros(3, np.clongdouble),
    "__array__ that fails": Failing,
    "__array__ of objects": Objects,
    "__array__ of something else": NoArray,
    "list": lambda: [1.0, 2.0],
    "nested list": lambda: [[1], [2, 3]],
    "number": lambda: 3.0,
    "text value": lambda: "abc",
    "bytes value": lambda: b"abc",
    "none": lambda: None,
    "type": lambda: np.ndarray,
    "dictionary": lambda: {"x": BASE},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_stored_is_refused_by_name(case: str, save: Save, path: Path) -> None:
    if np.dtype(np.longdouble) == np.float64 and case.startswith("extended"):
        pytest.skip("no extended floats here")
    with pytest.raises(ztensor.UnsupportedTensorError, match="tensor 'odd one'"):
        save("odd one", REFUSED[case](), path)
    assert entries(path.parent) == []


@pytest.mark.parametrize(
    "dtype", ["int4", "uint4", "float8_e3m4", "float8_e4m3b11fnuz", "float4_e2m1fn", "float6_e2m3fn"]
)
def test_other_types_of_ml_dtypes_are_refused_by_name(dtype: str, save: Save, path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    if not hasattr(ml_dtypes, dtype):
        pytest.skip(f"this ml_dtypes has no {dtype}")
    with pytest.raises(ztensor.UnsupportedTensorError, match=f"tensor 'odd one' has elements of {dtype}"):
        save("odd one", np.zeros(3, getattr(ml_dtypes, dtype)), path)


# torch.


def torch_stored() -> dict[str, Callable[[Any], Any]]:
    """Tensors that are to be stored, made by what they are given: torch."""
    return {
        "strided": lambda t: t.arange(120.0).view(4, 5, 6)[::2, 1:, ::3],
        "transposed": lambda t: t.arange(12).view(3, 4).t(),
        "expanded": lambda t: t.arange(4).expand(3, 4),
        "expanded scalar": lambda t: t.tensor(2.5).expand(5, 2),
        "flipped": lambda t: t.arange(6).flip(0),
        "windows": lambda t: t.arange(20).unfold(0, 5, 1),
        "channels last": lambda t: t.randn(2, 3, 4, 5).to(memory_format=t.channels_last),
        "channels last 3d": lambda t: t.randn(2, 3, 2, 4, 5).to(memory_format=t.channels_last_3d),
        "of rank zero": lambda t: t.tensor(3),
        "empty": lambda t: t.empty(0),
        "empty strided": lambda t: t.empty(4, 6)[:0, ::2],
        "requires grad": lambda t: t.randn(3, 4, requires_grad=True),
        "not a leaf": lambda t: t.randn(3, 4, requires_grad=True) * 2,
        "not a leaf, transposed": lambda t: (t.randn(3, 4, requires_grad=True) * 2).t(),
        "parameter": lambda t: t.nn.Parameter(t.randn(3, 4)),
        "parameter, transposed": lambda t: t.nn.Parameter(t.randn(3, 4).t()),
        "buffer of a module": lambda t: t.nn.BatchNorm1d(3).running_var,
        "conjugate": lambda t: t.randn(3, 4, dtype=t.complex64).conj(),
        "conjugate, transposed": lambda t: t.randn(3, 4, dtype=t.complex128).conj().t(),
        "adjoint": lambda t: t.randn(3, 4, dtype=t.complex64).adjoint(),
        "negative": lambda t: t.randn(3, 4, dtype=t.complex64).conj().imag,
        "real part": lambda t: t.randn(3, 4, dtype=t.complex64).real,
        "tail of a storage": lambda t: t.arange(10)[7:],
        "of numpy memory": lambda t: t.from_numpy(np.arange(6)),
        "of numpy memory, not aligned": lambda t: t.frombuffer(bytearray(25), dtype=t.float64, offset=1, count=3),
        "bool": lambda t: t.tensor([[True, False], [False, True]]).t(),
        "bfloat16, strided": lambda t: t.arange(10).to(t.bfloat16)[::3],
        "unsigned, strided": lambda t: t.arange(12, dtype=t.int32).to(t.uint16)[::2],
        "inference": lambda t: inference(t),
        "subclass": lambda t: t.randn(3, 4).as_subclass(subclass(t)),
        "diagonal": lambda t: t.randn(5, 5).diagonal(),
        "names kept off": lambda t: t.randn(1, 1, 1).squeeze(),
        "pinned or plain": lambda t: t.ones(5),
    }


def inference(torch: Any) -> Any:
    with torch.inference_mode():
        return torch.randn(3, 4)


def subclass(torch: Any) -> Any:
    class Named(torch.Tensor):
        """A tensor with something on top."""

    return Named


@pytest.mark.parametrize("name", ["float4_e2m1fn_x2", "float8_e8m0fnu", "float8_e4m3fn", "bool"])
def test_odd_tensors_of_a_byte_are_stored_right(name: str, save: Save, path: Path, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    if not hasattr(torch, name):
        pytest.skip(f"this torch has no {name}")
    value = random_tensor(name, (20, 30), rng)
    for odd in (value.t(), value[::2, 3:], value[0].expand(4, 30)):
        save("odd one", odd, path)
        assert_same_tensor(Reader(path).read_tensor("odd one", to="torch"), odd)


@pytest.mark.parametrize("case", torch_stored())
def test_odd_tensors_are_stored_right(case: str, save: Save, path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    value = torch_stored()[case](torch)
    kept = (
        value.requires_grad,
        value.stride(),
        value.is_conj(),
        value.is_neg(),
        value._version if case != "inference" else 0,
    )
    expected = value.detach().clone(memory_format=torch.contiguous_format).resolve_conj().resolve_neg()
    save("odd one", value, path)
    with Reader(path, verify=True) as reader:
        found = reader.read_tensor("odd one", to="torch")
    assert type(found) is torch.Tensor
    assert_same_tensor(found, expected.as_subclass(torch.Tensor))
    # And nothing happened to it.
    assert kept == (
        value.requires_grad,
        value.stride(),
        value.is_conj(),
        value.is_neg(),
        value._version if case != "inference" else 0,
    )


def torch_refused() -> dict[str, Callable[[Any], Any]]:
    return {
        "meta": lambda t: t.empty(3, device="meta"),
        "meta, empty": lambda t: t.empty(0, device="meta"),
        "quantized": lambda t: t.quantize_per_tensor(t.ones(3), 0.1, 0, t.quint8),
        "half complex": lambda t: t.zeros(3, dtype=t.complex32),
        "mkldnn": lambda t: t.ones(3, 4).to_mkldnn(),
        "nested": lambda t: t.nested.nested_tensor([t.ones(2), t.ones(3)]),
        "nested, jagged": lambda t: t.nested.nested_tensor([t.ones(2), t.ones(3)], layout=t.jagged),
        "fake": fake,
        "zero": lambda t: t._efficientzerotensor(3),
        "uninitialised": lambda t: t.nn.parameter.UninitializedParameter(),
        "uninitialised buffer": lambda t: t.nn.parameter.UninitializedBuffer(),
        "masked": lambda t: t.masked.masked_tensor(t.ones(3), t.tensor([True, False, True])),
        "hybrid sparse": lambda t: t.sparse_coo_tensor(t.tensor([[0, 2]]), t.ones(2, 3), (4, 3)),
        "batch of sparse": lambda t: t.ones(2, 3, 4).to_sparse_csr(),
        "hybrid compressed": lambda t: t.ones(3, 4, 2).to_sparse_csr(dense_dim=1),
        "sparse of no dimension": lambda t: t.sparse_coo_tensor(t.empty(0, 1, dtype=t.int64), t.ones(1), ()),
        "sparse on meta": lambda t: t.empty(3, 4, layout=t.sparse_coo, device="meta"),
        "storage": lambda t: t.ones(3).untyped_storage(),
        "device": lambda t: t.device("cpu"),
        "dtype": lambda t: t.float32,
        "module": lambda t: t.nn.Linear(2, 2),
        "tuple of tensors": lambda t: (t.ones(2),),
    }


def fake(torch: Any) -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.ones(3)


# torch says of several of these that they are new or going away.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", torch_refused())
def test_tensors_that_cannot_be_stored_are_refused_by_name(case: str, save: Save, path: Path) -> None:
    torch = pytest.importorskip("torch")
    value = torch_refused()[case](torch)
    with pytest.raises(ztensor.ZTensorError, match="""tensor ['"]odd one['"]""") as caught:
        save("odd one", value, path)
    assert isinstance(caught.value, (ztensor.UnsupportedTensorError, ztensor.ArgumentError))
    assert entries(path.parent) == []


def test_a_tensor_inside_a_transformation_is_refused_by_name(save: Save, path: Path) -> None:
    torch = pytest.importorskip("torch")

    def keep(value: Any) -> Any:
        save("odd one", value, path)
        return value

    with pytest.raises(ztensor.UnsupportedTensorError, match="tensor 'odd one'"):
        torch.vmap(keep)(torch.ones(2, 3))
    assert entries(path.parent) == []


# Sparse tensors.


def torch_sparse() -> dict[str, Callable[[Any], Any]]:
    def coo(t: Any, indices: Any, **options: Any) -> Any:
        return t.sparse_coo_tensor(t.tensor(indices), t.tensor([1.0, 2.0, 3.0]), (4, 5), **options)

    return {
        "coo unsorted": lambda t: coo(t, [[3, 0, 1], [0, 4, 2]]),
        "coo with duplicates": lambda t: coo(t, [[3, 3, 1], [0, 0, 2]]),
        "coo coalesced": lambda t: coo(t, [[3, 3, 1], [0, 0, 2]]).coalesce(),
        "coo transposed": lambda t: coo(t, [[3, 0, 1], [0, 4, 2]]).t(),
        "coo that requires grad": lambda t: coo(t, [[3, 0, 1], [0, 4, 2]], requires_grad=True),
        "coo of one dimension": lambda t: t.sparse_coo_tensor(t.tensor([[3, 1]]), t.tensor([1, 2]), (4,)),
        "coo of three dimensions": lambda t: t.ones(2, 3, 4).tril().to_sparse(),
        "coo without entries": lambda t: t.zeros(3, 4).to_sparse(),
        "coo of no size": lambda t: t.zeros(0, 4).to_sparse(),
        "coo of bool": lambda t: t.tensor([[True, False], [False, True]]).to_sparse(),
        "coo conjugate": lambda t: t.tensor([1 + 2j, 0, 3 - 1j]).to_sparse().conj(),
        "csr": lambda t: t.eye(4).to_sparse_csr(),
        "csr of int32": lambda t: narrow(t, t.eye(4).to_sparse_csr()),
        "csr unsorted": lambda t: t.sparse_csr_tensor(
            t.tensor([0, 2, 3]), t.tensor([2, 0, 1]), t.tensor([1.0, 2, 3]), (2, 3), check_invariants=False
        ),
        "csr with duplicates": lambda t: t.sparse_csr_tensor(
            t.tensor([0, 2, 3]), t.tensor([1, 1, 1]), t.tensor([1.0, 2, 3]), (2, 3), check_invariants=False
        ),
        "csr without entries": lambda t: t.zeros(3, 4).to_sparse_csr(),
        "csr of no size": lambda t: t.zeros(0, 4).to_sparse_csr(),
        "csr of bfloat16": lambda t: t.eye(4, dtype=t.bfloat16).to_sparse_csr(),
        "csr that requires grad": lambda t: t.eye(4).to_sparse_csr().requires_grad_(),
        "csc": lambda t: t.eye(4)[:, :3].to_sparse_csc(),
        "csc unsorted, of int32": lambda t: t.sparse_csc_tensor(
            t.tensor([0, 2, 3]).int(),
            t.tensor([2, 0, 1]).int(),
            t.tensor([1.0, 2, 3]),
            (3, 2),
            check_invariants=False,
        ),
        "bsr of int32, with duplicates": lambda t: t.sparse_bsr_tensor(
            t.tensor([0, 2]).int(), t.tensor([1, 1]).int(), t.ones(2, 2, 3), (2, 6), check_invariants=False
        ),
        "bsr": lambda t: t.eye(6).to_sparse_bsr((2, 3)),
        "bsr without blocks": lambda t: t.zeros(6, 4).to_sparse_bsr((3, 2)),
        "bsc": lambda t: t.eye(6).to_sparse_bsc((3, 2)),
    }


def narrow(torch: Any, csr: Any) -> Any:
    return torch.sparse_csr_tensor(csr.crow_indices().int(), csr.col_indices().int(), csr.values(), csr.shape)


@pytest.mark.parametrize("case", torch_sparse())
def test_odd_sparse_tensors_are_stored_entry_for_entry(case: str, save: Save, path: Path) -> None:
    torch = pytest.importorskip("torch")
    value = torch_sparse()[case](torch)
    save("odd one", value, path)
    with Reader(path, verify=True) as reader:
        found = reader.read_tensor("odd one", to="torch")
        assert_same_tensor(found, value.detach())
        assert torch.equal(found.to_dense(), value.detach().to_dense())


def test_scipy_matrices_of_any_index_type_are_stored(save: Save, path: Path) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    for index in (np.int32, np.int64):
        value = sparse.csr_matrix(
            ([1.0, 2.0, 3.0], np.array([3, 0, 0], index), np.array([0, 1, 3], index)), shape=(2, 4)
        )
        for form in ("csr", "csc", "coo", "bsr", "lil", "dok", "dia"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", sparse.SparseEfficiencyWarning)
                odd = value.asformat(form)
            save("odd one", odd, path)
            assert_same(Reader(path)["odd one"].toarray(), value.toarray())


def test_a_broken_sparse_tensor_is_refused_by_name(save: Save, path: Path) -> None:
    torch = pytest.importorskip("torch")
    for value in (
        torch.sparse_csr_tensor(
            torch.tensor([0, 2, 3]), torch.tensor([0, 9, 1]), torch.ones(3), (2, 3), check_invariants=False
        ),
        torch.sparse_csr_tensor(
            torch.tensor([0, 4, 3]), torch.tensor([0, 2, 1]), torch.ones(3), (2, 3), check_invariants=False
        ),
        torch.sparse_coo_tensor(torch.tensor([[0, 7]]), torch.ones(2), (3,), check_invariants=False),
    ):
        with pytest.raises(ztensor.ArgumentError, match='tensor "odd one"'):
            save("odd one", value, path)
    assert entries(path.parent) == []
