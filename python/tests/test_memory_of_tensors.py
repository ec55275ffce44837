"""A tensor is stored from its own memory, wherever that is, or refused by name; and once only if the bytes are the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import assert_same, assert_same_tensor, has_lazy_tensors, run_python

import ztensor
import ztensor.numpy
from ztensor import UnsupportedTensorError, Writer

torch = pytest.importorskip("torch")

import ztensor.torch as ztt  # noqa: E402


class Plain(torch.Tensor):
    """A subclass over memory of its own."""


class Logged(torch.Tensor):
    """A subclass over memory of its own that sees all operations."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C._DisableTorchDispatch():
            found = func(*args, **(kwargs or {}))
            return torch.Tensor._make_subclass(cls, found) if isinstance(found, torch.Tensor) else found


class Part(torch.Tensor):
    """A wrapper that gives a plain tensor, which is only a part of it, where others wrap again."""

    @staticmethod
    def __new__(cls, values: Any) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=torch.float32)

    def __init__(self, values: Any) -> None:
        self.values_ = values

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(args[0].values_, *args[1:], **(kwargs or {}))


class Wrapped(torch.Tensor):
    """A quantized tensor in the manner of torchao: it wraps another one and has no memory."""

    @staticmethod
    def __new__(cls, values: Any, scale: float) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, strides=values.stride(), dtype=torch.float32)

    def __init__(self, values: Any, scale: float) -> None:
        self.values_, self.scale = values, scale

    def dequantize(self) -> Any:
        return self.values_ * self.scale

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.detach.default, torch.ops.aten.t.default):
            return cls(func(args[0].values_), args[0].scale)
        raise AttributeError(f"{func} is not for {cls.__name__}")


def values(tensor: Any) -> Any:
    """A plain tensor on the CPU of a tensor's values."""
    found = tensor.detach().cpu().resolve_conj().resolve_neg()
    return found.as_subclass(torch.Tensor).clone() if found.layout is torch.strided else found


#: Ways to look at a flat tensor of 24 elements.
VIEWS: list[Callable[[Any], Any]] = [
    lambda t: t,
    lambda t: t.view(4, 6),
    lambda t: t.view(4, 6).t(),
    lambda t: t[3:15],
    lambda t: t[::5],
    lambda t: t[:1].expand(7),
    lambda t: t.view(2, 3, 4)[:, 1:, ::2],
    lambda t: t[:0],
    lambda t: t[5],
    lambda t: t.view(4, 6)[1],
    lambda t: torch._neg_view(t),
    lambda t: t.as_strided((3, 3), (1, 1)),
    lambda t: torch.nn.Parameter(t),
    lambda t: t.detach().as_subclass(Plain),
    lambda t: t.detach().view(4, 6).t().as_subclass(Plain),
    lambda t: t.clone(),
    lambda t: t.view(torch.int32).clone().view(torch.float32),
    lambda t: t.view(torch.int32),
    lambda t: t.view(4, 6).to_sparse(),
    lambda t: t.view(4, 6).to_sparse_csr(),
    lambda t: torch.complex(t, t).conj(),
    lambda t: torch.complex(t, t).conj().imag,
]
if has_lazy_tensors():
    VIEWS += [lambda t: t.clone().to("lazy"), lambda t: t.view(4, 6).clone().to("lazy").t()]


def through_every_door(tensors: dict[str, Any], tmp: Path) -> list[dict[str, Any]]:
    """What comes back by each way to save."""
    doors = [ztt.load(ztt.save(tensors)), ztt.load(ztt.save(tensors, compress=True))]
    for save in (ztt.save_file, ztensor.numpy.save_file):
        save(tensors, tmp / "f.zt")
        doors.append(ztt.load_file(tmp / "f.zt"))
    with Writer(tmp / "f.zt") as writer:
        writer.add_tensors(tensors)
    doors.append(ztt.load_file(tmp / "f.zt"))
    with Writer(tmp / "f.zt") as writer:
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor)
    doors.append(ztt.load_file(tmp / "f.zt"))
    model = torch.nn.Module()
    for name, tensor in tensors.items():
        model.register_buffer(name, tensor)
    ztt.save_model(model, tmp / "f.zt")
    doors.append(ztt.load_file(tmp / "f.zt"))
    return doors


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, len(VIEWS) - 1)), min_size=1, max_size=8))
def test_every_tensor_comes_back_equal_whatever_it_shares(tmp_path_factory: Any, picks: list[tuple[int, int]]) -> None:
    bases = [torch.arange(24.0), torch.arange(24.0) + 100, torch.zeros(24)]
    tensors = {f"t{at}": VIEWS[view](bases[base]) for at, (base, view) in enumerate(picks)}
    expected = {name: values(tensor) for name, tensor in tensors.items()}
    for found in through_every_door(tensors, tmp_path_factory.mktemp("doors")):
        assert list(found) == list(tensors)
        for name, tensor in expected.items():
            assert_same_tensor(found[name], tensor)


def as_array(array: Any) -> Any:
    class Odd(np.ndarray):
        """Says of itself what is not so."""

        @property
        def __array_interface__(self) -> Any:  # type: ignore[override]
            return {"data": (64, False), "shape": (1,), "typestr": "<f8", "version": 3}

        @property
        def nbytes(self) -> int:  # type: ignore[override]
            return 1 << 40

    return array.view(Odd)


class Temporary:
    """Makes another array each time that it is asked for one."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.array.copy()


class Producer:
    """Speaks DLPack, over a new array each time."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.copy().__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


ARRAYS: list[Callable[[Any], Any]] = [
    lambda a: a,
    lambda a: a.reshape(4, 6),
    lambda a: a.reshape(4, 6).T,
    lambda a: a[::-2],
    lambda a: a[3:15],
    lambda a: a[:0],
    lambda a: a[5:6].reshape(()),
    lambda a: np.broadcast_to(a[2:3], (5, 2)),
    lambda a: np.lib.stride_tricks.as_strided(a, (3, 3), (8, 8)),
    lambda a: a.astype(">f8"),
    lambda a: a.view(np.int64),
    lambda a: a.copy(),
    as_array,
    lambda a: as_array(a.reshape(4, 6)).T,
    lambda a: a.reshape(4, 6).view(np.matrix),
    Temporary,
    Producer,
]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, len(ARRAYS) - 1)), min_size=1, max_size=8))
def test_every_array_comes_back_equal_whatever_it_shares(tmp_path_factory: Any, picks: list[tuple[int, int]]) -> None:
    path = tmp_path_factory.mktemp("arrays") / "f.zt"
    bases = [np.arange(24.0), np.arange(24.0) + 100]
    arrays = {f"a{at}": ARRAYS[view](bases[base]) for at, (base, view) in enumerate(picks)}

    def plain(array: Any) -> Any:
        return np.ndarray.view(array, np.ndarray) if isinstance(array, np.ndarray) else array.array

    ztensor.numpy.save_file(arrays, path)
    with Writer(path.with_suffix(".two")) as writer:
        writer.add_tensors(arrays)
    for found in (
        ztensor.numpy.load_file(path),
        ztensor.numpy.load(ztensor.numpy.save(arrays)),
        ztensor.numpy.load_file(path.with_suffix(".two")),
    ):
        for name, array in arrays.items():
            assert_same(found[name], plain(array))


def test_packed_copies_and_temporaries_are_never_taken_for_each_other(path: Path) -> None:
    # More than is held at a time, so that memory of the first is given back and comes up again.
    count, side = 60, 512
    bases = [np.full((side, side), float(at)) for at in range(count)]
    ztensor.numpy.save_file({f"{at}": Temporary(base.T) for at, base in enumerate(bases)}, path)
    found = ztensor.numpy.load_file(path)
    assert all((found[f"{at}"] == at).all() for at in range(count))
    ztt.save_file({f"{at}": torch.from_numpy(base).t() for at, base in enumerate(bases)}, path)
    found = ztt.load_file(path)
    assert all((found[f"{at}"] == at).all() for at in range(count))


class Reused:
    """Fills the same memory with its value each time that it is asked for an array."""

    def __init__(self, memory: Any, value: float) -> None:
        self.memory, self.value = memory, value

    def __array__(self, *_: Any, **__: Any) -> Any:
        self.memory.fill(self.value)
        return self.memory


class ReusedProducer:
    """As `Reused`, by DLPack."""

    def __init__(self, memory: Any, value: float) -> None:
        self.memory, self.value = memory, value

    def __dlpack__(self, **options: Any) -> Any:
        self.memory.fill(self.value)
        return self.memory.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self.memory.__dlpack_device__()


# The last is larger than what is copied.
@pytest.mark.parametrize("shape", [(), (1000,), (2100, 1000)])
@pytest.mark.parametrize("kind", [Reused, ReusedProducer])
def test_arrays_in_memory_that_is_used_again_are_stored_as_each_was(kind: Any, shape: tuple[int, ...], path: Path) -> None:
    memory = np.zeros(shape)
    given_ = {f"f{at}": kind(memory, float(at)) for at in range(3)} | {"plain": np.ones(2)}
    ztensor.numpy.save_file(given_, path)
    for found in (ztensor.numpy.load_file(path), ztensor.numpy.load(ztensor.numpy.save(given_, compress=True))):
        for at in range(3):
            assert_same(found[f"f{at}"], np.full(shape, float(at)))
    with Writer(path) as writer:
        for name, array in given_.items():
            writer.add_tensor(name, array)
    assert (ztensor.numpy.load_file(path)["f0"] == 0).all()


def test_components_in_memory_that_is_used_again_are_stored_as_each_was(path: Path) -> None:
    memory = np.zeros(3, np.int64)
    with Writer(path) as writer:
        writer.add_sparse_csr("s", Reused(memory, 7), Reused(memory, 1), np.array([0, 1, 2, 3]), (3, 3))
    found = ztensor.numpy.load_file(path)["s"]
    assert found.data.tolist() == [7, 7, 7] and found.indices.tolist() == [1, 1, 1]


def test_what_is_tied_is_stored_once_all_the_same(path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    coo = base.to_sparse()
    given_ = {"a": base, "b": base.view(12), "t": base.t(), "u": base.t(), "c": coo, "d": coo, "p": torch.nn.Parameter(base)}
    ztt.save_file(given_, path)
    with ztensor.Reader(path) as reader:
        at = {name: reader.metadata(name).offset for name in given_}
    assert at["a"] == at["b"] == at["p"] != at["t"] == at["u"] and at["c"] == at["d"]


NEGATIVE = ["int8", "uint8", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "int32", "bfloat16"]


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("name", [name for name in NEGATIVE if hasattr(torch, name)])
def test_a_negative_bit_is_resolved_in_every_type(name: str, across: bool, path: Path) -> None:
    dtype = getattr(torch, name)
    plain = torch.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 8.0]])
    tensor = torch._neg_view(plain.to(dtype).t() if across else plain.to(dtype))
    expected = -(plain.t() if across else plain)
    if dtype is torch.uint8:
        expected %= 256
    for given_ in ({"n": tensor}, {"n": tensor, "sparse": torch.eye(2).to_sparse()}):
        ztt.save_file(given_, path)
        found = ztt.load_file(path)["n"]
        assert found.dtype == dtype and torch.equal(found.to(torch.float32), expected)


@pytest.mark.parametrize("name", [name for name in ("bool", "float8_e8m0fnu") if hasattr(torch, name)])
def test_a_negative_bit_is_refused_where_there_are_no_negatives(name: str, path: Path) -> None:
    tensor = torch._neg_view(torch.ones(3).to(getattr(torch, name)))
    with pytest.raises(UnsupportedTensorError, match=f"tensor 'n' .*{name}, which has no negatives"):
        ztt.save_file({"n": tensor}, path)


def wrappers() -> dict[str, tuple[Any, str]]:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.testing._internal.two_tensor import TwoTensor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        masked = torch.masked.masked_tensor(torch.ones(3, 4), torch.ones(3, 4, dtype=torch.bool))
        masked_across = masked.t()
        quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
        jagged = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    with FakeTensorMode():
        fake, across = torch.ones(3, 4), torch.ones(3, 4).t()
        fake_empty = torch.ones(3, 0)
    # torch gives them no entries.
    fake_coo = FakeTensorMode().from_tensor(torch.ones(3, 4).to_sparse())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fake_csr = FakeTensorMode().from_tensor(torch.ones(3, 4).to_sparse_csr())
    two = TwoTensor(torch.ones(3, 4), torch.ones(3, 4))
    wrapped = Wrapped(torch.ones(3, 4), 2.0)
    found = {
        "two": (two, "TwoTensor"),
        "two across": (two.t(), "TwoTensor"),
        "quantized": (wrapped, r"Wrapped.*dequantize\(\)"),
        "quantized across": (wrapped.t(), r"Wrapped.*dequantize\(\)"),
        "part": (Part(torch.ones(3, 4, dtype=torch.int8)), "Part"),
        "masked": (masked, r"MaskedTensor.*to_tensor"),
        "masked across": (masked_across, r"MaskedTensor.*to_tensor"),
        "fake": (fake, "FakeTensor.*no data"),
        "fake across": (across, "FakeTensor.*no data"),
        "fake empty": (fake_empty, "FakeTensor.*no data"),
        "fake coo": (fake_coo, "FakeTensor.*no data"),
        "fake csr": (fake_csr, "FakeTensor.*no data"),
        "qint8": (quantized, r"dequantize\(\)"),
        "nested": (nested, "to_padded_tensor"),
        "jagged": (jagged, "to_padded_tensor"),
        "uninitialized": (torch.nn.parameter.UninitializedParameter(), "UninitializedParameter.*materialize"),
        "uninitialized buffer": (torch.nn.parameter.UninitializedBuffer(), "UninitializedBuffer.*materialize"),
        "meta": (torch.empty(3, device="meta"), "meta device"),
    }
    if torch.backends.mkldnn.is_available():
        found["mkldnn"] = (torch.ones(3, 4).to_mkldnn(), r"to_dense\(\)")
    return found


WRAPPERS = wrappers()


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors:UserWarning")
@pytest.mark.parametrize("kind", list(WRAPPERS))
def test_what_has_no_memory_is_refused_with_a_way_out(kind: str, path: Path) -> None:
    tensor, message = WRAPPERS[kind]
    for given_ in ({"odd": tensor}, {"plain": torch.ones(3), "odd": tensor, "array": np.ones(2)}):
        with pytest.raises(UnsupportedTensorError, match=f"tensor 'odd' .*{message}"):
            ztt.save_file(given_, path)
        with pytest.raises(UnsupportedTensorError, match=f"tensor 'odd' .*{message}"):
            ztt.save(given_, compress=True)
    with Writer(path) as writer:
        with pytest.raises(UnsupportedTensorError, match=f"tensor 'odd' .*{message}"):
            writer.add_tensor("odd", tensor)


@pytest.mark.parametrize("make", [lambda t: t.as_subclass(Plain), lambda t: torch.Tensor._make_subclass(Logged, t)])
def test_subclasses_with_memory_are_stored(make: Any, path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    given_ = {"one": make(base), "other": make(torch.zeros(3, 4)), "across": make(base.t()), "again": make(base)}
    ztt.save_file(given_, path)
    found = ztt.load_file(path)
    assert torch.equal(found["one"], base) and torch.equal(found["again"], base) and torch.equal(found["across"], base.t())
    assert torch.equal(found["other"], torch.zeros(3, 4))


def test_a_distributed_tensor_is_refused_with_a_way_out(path: Path) -> None:
    if not torch.distributed.is_available():
        pytest.skip("this torch is built without torch.distributed")
    run_python(
        """
import sys, tempfile, torch, torch.distributed as dist, ztensor, ztensor.torch
dist.init_process_group("gloo", init_method="file://" + tempfile.mktemp(), rank=0, world_size=1)
from torch.distributed.tensor import distribute_tensor, Shard, init_device_mesh
made = distribute_tensor(torch.arange(12.).reshape(3, 4), init_device_mesh("cpu", (1,)), [Shard(0)])
for tensor in (made, made.t(), torch.nn.Parameter(made)):
    try:
        ztensor.torch.save_file({"odd": tensor}, sys.argv[1])
    except ztensor.UnsupportedTensorError as err:
        assert "'odd'" in str(err) and "full_tensor()" in str(err) and "to_local()" in str(err), err
    else:
        raise SystemExit("stored")
    ztensor.torch.save_file({"odd": tensor.full_tensor()}, sys.argv[1])
dist.destroy_process_group()
""",
        path,
    )


TRANSFORMS: dict[str, Callable[[Any], Any]] = {
    "grad": torch.func.grad,
    "vmap": torch.vmap,
    "functionalize": torch.func.functionalize,
    "jvp": lambda f: lambda x: torch.func.jvp(f, (x,), (x,)),
    "hessian": torch.func.hessian,
    "vmap of grad": lambda f: torch.vmap(torch.func.grad(f)),
}


# torch itself warns when it prepares forward differentiation.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("transform", list(TRANSFORMS))
def test_inside_a_transformation_its_own_tensors_are_refused_and_others_stored(transform: str, path: Path) -> None:
    outside = torch.arange(6.0).view(2, 3)
    across = outside.t()

    def inner(x: Any) -> Any:
        for tensor in (x, x.t(), x * 2):
            with pytest.raises(UnsupportedTensorError, match=r"tensor 'odd' .*outside of the transformed function"):
                ztt.save_file({"odd": tensor}, path)
        ztt.save_file({"across": across, "outside": outside}, path)
        return x.sum()

    TRANSFORMS[transform](inner)(torch.ones((4, 2, 3) if "vmap" in transform else (2, 3)))
    assert_same_tensor(ztt.load_file(path)["across"], outside.t())
    assert_same_tensor(ztt.load_file(path)["outside"], outside)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, lambda: torch.device("meta")])
def test_modes_make_no_difference(mode: Any, path: Path) -> None:
    outside = torch.arange(6.0).view(2, 3)
    with mode():
        ztt.save_file({"a": outside, "b": outside.t(), "c": outside.to_sparse()}, path)
    assert_same_tensor(ztt.load_file(path)["b"], outside.t())


def test_real_tensors_are_stored_under_a_fake_mode(path: Path) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    outside = torch.arange(6.0).view(2, 3)
    across = outside.t()
    with FakeTensorMode():
        ztt.save_file({"a": outside, "b": across}, path)
    assert_same_tensor(ztt.load_file(path)["a"], outside)
    assert_same_tensor(ztt.load_file(path)["b"], across)


# Storages that are too short.


@pytest.mark.parametrize("nbytes", [0, 600])
@pytest.mark.parametrize(
    "view",
    [lambda t: t[100:200], lambda t: t[::3], lambda t: t.view(10, 100).t(), lambda t: t, lambda t: torch.nn.Parameter(t[150:151])],
)
def test_a_view_of_a_freed_or_shortened_storage_is_refused(view: Any, nbytes: int, path: Path) -> None:
    flat = torch.randn(1000)
    tensor = view(flat)
    flat.untyped_storage().resize_(nbytes)
    for given_ in ({"gone": tensor}, {"a": torch.ones(2), "gone": tensor, "s": torch.eye(2).to_sparse()}):
        with pytest.raises(UnsupportedTensorError, match=f"'gone' .* a storage that has {nbytes}"):
            ztt.save_file(given_, path)
    with Writer(path) as writer:
        with pytest.raises(UnsupportedTensorError, match=f"a storage that has {nbytes}"):
            writer.add_sparse_coo("gone", tensor, torch.arange(tensor.numel())[None], (1000,))


def test_a_sparse_tensor_of_a_freed_storage_is_refused(path: Path) -> None:
    coo = torch.eye(100).to_sparse()
    coo._values().untyped_storage().resize_(0)
    with pytest.raises(UnsupportedTensorError, match="'gone'"):
        ztt.save_file({"gone": coo}, path)


def test_what_still_lies_inside_a_shortened_storage_is_stored(path: Path) -> None:
    flat = torch.arange(1000.0)
    first = flat[:100]
    flat.untyped_storage().resize_(400)
    ztt.save_file({"first": first}, path)
    assert torch.equal(ztt.load_file(path)["first"], torch.arange(100.0))


class Named(np.ndarray):
    """A subclass, whose views NumPy bases on each other."""


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[100:200],
        lambda a: a[::-3],
        lambda a: a.reshape(10, 100).T[5:],
        lambda a: a.view(Named)[10:],
        lambda a: a.view(Named)[10:].view(np.matrix).T,
        lambda a: np.asarray(a.view(Named)[10:]),
        lambda a: np.asarray(memoryview(a))[10:],
        lambda a: np.lib.stride_tricks.sliding_window_view(a, 3),
    ],
)
def test_a_view_of_an_array_that_was_resized_is_refused(view: Any, path: Path) -> None:
    base = np.arange(1000.0)
    array = view(base)
    base.resize(10, refcheck=False)
    with pytest.raises(UnsupportedTensorError, match="'gone' .*resized"):
        ztensor.numpy.save_file({"gone": array}, path)


# Threads that change tensors meanwhile.


@pytest.mark.parametrize("kind", ["plain", "any"])
def test_data_that_is_replaced_meanwhile_is_never_read_after_it_is_freed(kind: str, path: Path) -> None:
    run_python(
        """
import sys, threading, torch, ztensor, ztensor.torch
torch.set_num_threads(1)
tensors = {f"t{at}": torch.full((300, 300), float(at)) for at in range(40)}
tensors |= {f"deep{at}": torch.ones(1, 2, 3, 1, 2, 1, 5) for at in range(20)}
if sys.argv[2] == "any":
    tensors["sparse"] = torch.eye(3).to_sparse()
    tensors["across"] = torch.arange(10000.).view(100, 100).t()
running = True
def replace():
    turn = 0
    while running:
        for name, tensor in tensors.items():
            if name != "sparse":
                turn += 1
                tensor.data = torch.full((turn % 50 + 1,) * (1 + turn % 2), float(turn))
thread = threading.Thread(target=replace)
thread.start()
try:
    for turn in range(40):
        ztensor.torch.save_file(tensors, sys.argv[1], fsync=False, compress=turn % 4 == 3)
        for name, tensor in ztensor.torch.load_file(sys.argv[1], verify=True).items():
            if name not in ("sparse", "across"):
                assert (tensor == tensor.flatten()[0]).all(), name
finally:
    running = False
    thread.join()
""",
        path,
        kind,
    )
