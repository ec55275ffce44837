"""load_model: what load_state_dict does, without a second copy of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import assert_same_tensor, flip, has_lazy_tensors, run_python

import ztensor

torch = pytest.importorskip("torch")

import ztensor.torch as ztt  # noqa: E402

MIB = 1024 * 1024


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
def test_a_lazy_module_gets_its_shapes_from_the_file(compress: bool, path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    lazy = torch.nn.Sequential(torch.nn.LazyLinear(4), torch.nn.LazyBatchNorm1d())
    ztt.save_model(model, path, compress=compress)
    assert ztt.load_model(lazy, path) == ([], [])
    for name, tensor in model.state_dict().items():
        assert_same_tensor(lazy.state_dict()[name], tensor)
    with pytest.raises(ztensor.UnsupportedTensorError, match="'weight' is an UninitializedParameter"):
        ztt.save_model(torch.nn.LazyLinear(4), path, force_contiguous=False)


def test_a_model_on_meta_takes_assign_and_is_refused_without(path: Path) -> None:
    model = torch.nn.Linear(3, 4)
    ztt.save_model(model, path, compress=True)
    with torch.device("meta"):
        empty = torch.nn.Linear(3, 4)
    with pytest.raises(ztensor.ArgumentError, match="'weight' is on the meta device.*assign=True.*to_empty"):
        ztt.load_model(empty, path)
    assert ztt.load_model(empty, path, assign=True) == ([], [])
    assert type(empty.weight) is torch.nn.Parameter and empty.weight.requires_grad
    assert type(empty.weight.data) is torch.Tensor and torch.equal(empty.weight, model.weight)
    with torch.device("meta"):
        empty = torch.nn.Linear(3, 4)
    assert ztt.load_model(empty.to_empty(device="cpu"), path) == ([], [])
    assert torch.equal(empty.weight, model.weight)


@pytest.mark.parametrize("mode", ["mmap", "read"])
@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_values_of_any_size_type_and_strides_arrive(stored: Any, compress: bool, mode: str, path: Path) -> None:
    torch.manual_seed(5)
    shapes = [(), (0, 3), (7,), (5, 700, 300), (3, 2, 40, 50)]
    given = {f"{at}": torch.randn(shape).to(stored) for at, shape in enumerate(shapes)}
    given["large"] = torch.arange(9 * MIB, dtype=torch.float32).view(3, -1).to(stored)
    ztt.save_file(given, path, compress=compress)
    model = torch.nn.Module()
    for name, tensor in given.items():
        model.register_buffer(name, torch.zeros(tensor.shape))
    model.register_buffer("large", torch.zeros(given["large"].shape[::-1]).t())
    assert not model.large.is_contiguous()
    places = {name: buffer.data_ptr() for name, buffer in model.named_buffers()}
    assert ztt.load_model(model, path, mode=mode, verify=True) == ([], [])
    for name, buffer in model.named_buffers():
        assert buffer.data_ptr() == places[name]
        assert torch.equal(buffer, given[name].to(torch.float32)), name


class Curious(torch.nn.Linear):
    """Looks at what it is given, in ways that need the values, and keeps some of it."""

    def _load_from_state_dict(self, state: Any, prefix: str, *rest: Any) -> None:
        weight = state[prefix + "weight"]
        assert weight.shape == (4, 3) and weight.dtype is torch.float32 and weight.device.type == "cpu"
        self.mean, self.array, self.place = weight.mean(), weight.numpy().copy(), weight.data_ptr()
        self.sliced, self.both = weight[1:], torch.cat([weight, weight])
        state[prefix + "bias"] = state[prefix + "bias"] * 2
        super()._load_from_state_dict(state, prefix, *rest)


def test_hooks_and_overrides_see_tensors_like_any_others(path: Path) -> None:
    saved = torch.nn.Linear(3, 4)
    ztt.save_model(saved, path, compress=True)
    model = Curious(3, 4)
    seen = []
    model.register_load_state_dict_pre_hook(lambda module, state, *rest: seen.append(state["weight"].sum()))
    assert ztt.load_model(model, path) == ([], [])
    assert torch.equal(model.weight, saved.weight) and torch.equal(model.bias, saved.bias * 2)
    assert model.mean == saved.weight.mean() and (model.array == saved.weight.detach().numpy()).all() and model.place
    for tensor in (model.sliced, model.both, model.mean, seen[0]):
        assert type(tensor) is torch.Tensor
    assert torch.equal(model.sliced, saved.weight[1:])


class TakesData(torch.nn.Linear):
    """A layer whose parameters take the memory of what is loaded."""

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        self.weight.data = state[prefix + "weight"]
        self.bias = torch.nn.Parameter(state.pop(prefix + "bias"))
        self.taken = True


def test_code_of_a_model_may_keep_what_is_loaded(path: Path) -> None:
    saved = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 3))
    for compress in (False, True):
        ztt.save_model(saved, path, compress=compress)
        model = torch.nn.Sequential(TakesData(3, 4), torch.nn.Linear(4, 3))
        assert ztt.load_model(model, path) == ([], [])
        for name, value in saved.state_dict().items():
            found = model.state_dict()[name]
            assert type(found) is torch.Tensor and found.data_ptr() and torch.equal(found, value)


def test_hooks_may_change_shapes_in_place(path: Path) -> None:
    ztt.save_file({"weight": torch.arange(12.0).reshape(3, 4), "bias": torch.ones(4)}, path)
    model = torch.nn.Linear(3, 4)
    model.register_load_state_dict_pre_hook(lambda module, state, *rest: state["weight"].t_())
    assert ztt.load_model(model, path) == ([], [])
    assert torch.equal(model.weight, torch.arange(12.0).reshape(3, 4).t())


def test_a_parameter_that_cannot_be_written_to_is_named(path: Path) -> None:
    model = torch.nn.Module()
    model.a = torch.nn.Parameter(torch.zeros(1, 3).expand(2, 3))
    ztt.save_file({"a": torch.ones(2, 3)}, path)
    with pytest.raises(RuntimeError, match='parameter named "a"'):
        ztt.load_model(model, path)


def test_a_parameter_that_was_used_is_known_to_have_changed(path: Path) -> None:
    model = torch.nn.Linear(3, 4)
    ztt.save_model(model, path)
    out = (model(torch.ones(2, 3)) ** 2).sum()
    version = model.weight._version
    ztt.load_model(model, path)
    assert model.weight._version > version
    del out


def test_sparse_buffers_are_loaded_too(path: Path) -> None:
    saved = torch.nn.Module()
    saved.register_buffer("s", torch.eye(3).to_sparse())
    saved.register_buffer("d", torch.ones(2))
    ztt.save_model(saved, path)
    model = torch.nn.Module()
    model.register_buffer("s", torch.zeros(3, 3).to_sparse())
    model.register_buffer("d", torch.zeros(2))
    assert ztt.load_model(model, path) == ([], [])
    assert torch.equal(model.s.to_dense(), torch.eye(3)) and torch.equal(model.d, torch.ones(2))


@pytest.mark.parametrize("large", [False, True])
def test_damage_is_its_own_error(large: bool, path: Path) -> None:
    model = torch.nn.Linear(1024 if large else 16, 1024, bias=False)
    ztt.save_model(model, path, compress=True)
    meta = ztensor.Reader(path)[0]
    flip(path, meta.offset + meta.size // 2)
    for target in (model, torch.nn.Linear(*model.weight.shape[::-1], bias=False, dtype=torch.float64)):
        with pytest.raises(ztensor.ChecksumError, match="'weight'|\"weight\""):
            ztt.load_model(target, path)


def test_what_does_not_fit_leaves_what_load_state_dict_leaves(path: Path) -> None:
    ztt.save_file({"a": torch.ones(3), "b": torch.ones(4), "c": torch.ones(2)}, path, compress=True)
    model = torch.nn.Module()
    for name, size in (("a", 3), ("b", 5), ("c", 2)):
        model.register_buffer(name, torch.zeros(size))
    with pytest.raises(RuntimeError, match="size mismatch for b"):
        ztt.load_model(model, path)
    assert model.a.sum() == 3 and model.b.sum() == 0 and model.c.sum() == 2


def test_models_are_tied_only_where_they_certainly_are(path: Path) -> None:
    ztt.save_file({"a": torch.ones(3)}, path)
    if not has_lazy_tensors():
        pytest.skip("this torch has no lazy tensors")
    model = torch.nn.Module()
    model.register_buffer("a", torch.zeros(3).to("lazy"))
    model.register_buffer("b", torch.zeros(3).to("lazy"))
    assert ztt.load_model(model, path, strict=False) == (["b"], [])
    assert model.a.cpu().sum() == 3 and model.b.cpu().sum() == 0


MEMORY = """
import gc, sys, threading, time, torch, ztensor.torch
torch.set_num_threads(1)
path, compress, mode, stored, kept, device = sys.argv[1:]
compress, stored, kept = int(compress), getattr(torch, stored), getattr(torch, kept)

def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon")) / 1024

def model(dtype, device="cpu"):
    parts = [torch.nn.Linear(1024, 4096, bias=False, dtype=dtype, device=device) for _ in range(12)]
    parts += [torch.nn.Linear(4096, 8192, bias=False, dtype=dtype, device=device)]
    parts += [torch.nn.Linear(64, 64, dtype=dtype, device=device) for _ in range(200)]
    return torch.nn.Sequential(*parts)

saved = model(stored)
with torch.no_grad():
    torch.manual_seed(1)
    for value in saved.parameters():
        value.copy_(torch.randn(value.shape) / 50)
ztensor.torch.save_model(saved, path, compress=compress)
expected = [value.detach().to(kept).double().sum() for value in saved.parameters()]
del saved
loaded = model(kept, device)
small = path + ".small"
ztensor.torch.save_file({"a": torch.ones(2)}, small)
ztensor.torch.load_model(torch.nn.Linear(1, 1, bias=False), small, strict=False)
gc.collect()
if device != "cpu":
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
before, peak, running = anonymous(), 0, True
def watch():
    global peak
    while running:
        peak = max(peak, anonymous())
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
assert ztensor.torch.load_model(loaded, path, mode=mode, device=device) == ([], [])
running = False
thread.join()
for value, wanted in zip(loaded.parameters(), expected):
    assert value.detach().cpu().double().sum() == wanted
print(max(0, peak - before), (torch.cuda.max_memory_allocated() - held) / 2**20 if device != "cpu" else 0)
"""


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("compress", "mode", "stored", "kept"),
    [
        (1, "mmap", "float32", "float32"),
        (1, "read", "float32", "float32"),
        (0, "read", "float32", "float32"),
        (0, "mmap", "bfloat16", "float32"),
        (1, "mmap", "bfloat16", "float32"),
        (1, "mmap", "float32", "bfloat16"),
    ],
)
def test_there_is_no_second_copy(compress: int, mode: str, stored: str, kept: str, device: str, path: Path) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    out = run_python(MEMORY, path, compress, mode, stored, kept, device)
    host, beside = map(float, out.split())
    assert host < 64 and beside < 64, f"{host:.0f} MiB of memory and {beside:.0f} MiB of the GPU's beside the model"


# Under FakeTensorMode.


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
def test_under_a_fake_mode_tensors_are_fake(compress: bool, path: Path) -> None:
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    dense = torch.eye(4)
    tied = torch.arange(6.0)
    given = {"a": torch.ones(3), "tied": tied, "again": tied.view(2, 3), "half": torch.ones(2, 2).half(), "coo": dense.to_sparse()}
    given |= {"csr": dense.to_sparse_csr(), "csc": dense.to_sparse_csc(), "bsr": dense.to_sparse_bsr((2, 2)), "scalar": torch.tensor(1)}
    ztt.save_file(given, path, compress=compress)
    with FakeTensorMode():
        loads = [ztt.load_file(path), ztt.load(path.read_bytes())]
        with ztensor.Reader(path) as reader:
            loads.append({name: reader.read_tensor(name, to="torch") for name in reader.keys()})
    for found in loads:
        assert list(found) == list(given)
        for name, tensor in given.items():
            assert isinstance(found[name], FakeTensor)
            assert (found[name].shape, found[name].dtype, found[name].layout) == (tensor.shape, tensor.dtype, tensor.layout)
            assert found[name].device.type == "cpu"
        assert found["coo"].is_coalesced()
    assert loads[0]["tied"].untyped_storage()._cdata == loads[0]["again"].untyped_storage()._cdata


def test_fake_tensors_may_be_on_a_device_that_is_not_there(path: Path) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    ztt.save_file({"a": torch.ones(3)}, path)
    with FakeTensorMode():
        assert ztt.load_file(path, device="cuda")["a"].device.type == "cuda"


def test_under_a_fake_mode_dense_data_is_not_read(path: Path) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    ztt.save_file({"x": torch.zeros(1000)}, path, compress=True)
    meta = ztensor.Reader(path)[0]
    with open(path, "r+b") as file:
        file.seek(meta.offset)
        file.write(b"\xff" * meta.size)
    with FakeTensorMode():
        assert ztt.load_file(path)["x"].shape == (1000,)
        model = torch.nn.Module()
        model.register_buffer("x", torch.zeros(1000))
        assert ztt.load_model(model, path) == ([], [])


# Coordinates.


@pytest.mark.parametrize(
    ("indices", "is_sorted"),
    [
        ([[0, 0, 1, 2], [0, 2, 1, 0]], True),
        ([[0, 0, 1, 2], [2, 0, 1, 0]], False),
        ([[0, 0, 1, 1], [0, 2, 1, 1]], False),
        ([[2], [1]], True),
        ([[], []], True),
    ],
)
def test_sorted_unique_coordinates_come_back_coalesced(indices: Any, is_sorted: bool, path: Path) -> None:
    at = torch.tensor(indices, dtype=torch.int64).view(2, -1)
    coo = torch.sparse_coo_tensor(at, torch.arange(1.0, at.shape[1] + 1), (3, 3))
    ztt.save_file({"coo": coo}, path)
    found = ztt.load_file(path)["coo"]
    assert found.is_coalesced() == is_sorted
    assert torch.equal(found._indices(), at)
    if is_sorted:
        assert torch.equal(found.indices(), at)


def test_the_order_of_many_coordinates_is_looked_at_across_slices(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ztensor import _torch

    monkeypatch.setattr(_torch, "_ENTRIES", 4)
    for count in (3, 4, 5, 8, 9):
        at = torch.arange(count)[None]
        assert _torch._ascends(at)
        for place in range(count - 1):
            changed = at.clone()
            changed[0, place + 1] = changed[0, place]
            assert not _torch._ascends(changed)
