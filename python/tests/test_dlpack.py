"""Plain torch tensors pass in one call each way; whatever is not plain goes another way, to the same result."""

from __future__ import annotations

import copy
import gc
import io
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import ztensor.torch
from ztensor import ArgumentError, UnsupportedTensorError, Writer, ZTensorError, _dlpack, _dtypes

needs_exchange = pytest.mark.skipif(_dlpack._exchange is None, reason="this torch has no C functions for DLPack")
DTYPES = [row.torch for row in _dtypes.TABLE if hasattr(torch, row.torch)]


def every_dtype() -> dict[str, torch.Tensor]:
    """Two rows of 32 bytes, seen as each type."""
    data = torch.arange(64, dtype=torch.uint8)
    return {name: (data % 2 if name == "bool" else data.clone()).view(getattr(torch, name)).reshape(2, -1) for name in DTYPES}


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist())


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a function as with a torch that has no such functions."""

    def run(function: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(_dlpack, "_exchange", None)
            return function()

    return run


@needs_exchange
def test_both_ways_are_the_same_to_the_bit(tmp_path: Any, slow: Any) -> None:
    tensors = every_dtype() | {
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "one": torch.ones(1, 1, 1).transpose(0, 2),
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "wants grad": torch.ones(2, requires_grad=True),
    }
    tensors["tied"] = tensors["float32"]
    assert _dlpack.specs_of(list(tensors.values()), 0) is not None
    ztensor.torch.save_file(tensors, tmp_path / "fast.zt")
    slow(lambda: ztensor.torch.save_file(tensors, tmp_path / "slow.zt"))
    assert (tmp_path / "fast.zt").read_bytes() == (tmp_path / "slow.zt").read_bytes()
    for mode in ("mmap", "read"):
        fast = ztensor.torch.load_file(tmp_path / "fast.zt", mode=mode)
        other = slow(lambda: ztensor.torch.load_file(tmp_path / "fast.zt", mode=mode))
        assert list(fast) == list(other) == list(tensors)
        for name, tensor in fast.items():
            assert (tensor.dtype, tensor.shape, tensor.stride()) == (other[name].dtype, other[name].shape, other[name].stride())
            assert bits(tensor) == bits(other[name]) == bits(tensors[name]), name
            assert tensor.untyped_storage().nbytes() == tensor.nbytes
            assert not tensor.requires_grad and tensor.is_leaf
        assert fast["tied"].data_ptr() == fast["float32"].data_ptr()


@needs_exchange
@pytest.mark.parametrize(
    "odd",
    [
        lambda: torch.ones(3, 4).T,
        lambda: torch.ones(4, 4)[:, ::2],
        lambda: torch.ones(1).expand(5),
        lambda: torch.tensor([1 + 2j]).conj(),
        lambda: torch._neg_view(torch.ones(3)),
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.eye(3).to_sparse_csr(),
        lambda: torch.ones(2).numpy(),
        lambda: torch.nn.Buffer(torch.ones(2)),
    ],
)
def test_what_is_not_plain_goes_the_other_way(tmp_path: Any, odd: Any) -> None:
    tensor = odd()
    assert _dlpack.specs_of([torch.ones(2), tensor, torch.ones(3)], 0) is None or type(tensor) is torch.Tensor
    ztensor.torch.save_file({"plain": torch.ones(2), "odd": tensor, "after": torch.zeros(3)}, tmp_path / "f.zt")
    found = ztensor.torch.load_file(tmp_path / "f.zt")
    expected = torch.from_numpy(tensor) if not isinstance(tensor, torch.Tensor) else tensor.detach()
    assert torch.equal(found["odd"].to_dense(), expected.resolve_conj().resolve_neg().to_dense())
    assert torch.equal(found["plain"], torch.ones(2)) and torch.equal(found["after"], torch.zeros(3))


@pytest.mark.parametrize(
    "refused",
    [
        torch.empty(3, device="meta"),
        torch.nn.parameter.UninitializedParameter(),
        torch.empty(3, dtype=torch.bits8),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path: Any, refused: torch.Tensor) -> None:
    with pytest.raises(UnsupportedTensorError, match="'the odd one'"):
        ztensor.torch.save_file({"plain": torch.ones(2), "the odd one": refused}, tmp_path / "f.zt")
    assert not list(tmp_path.iterdir())


def test_a_storage_that_was_given_up_is_refused(tmp_path: Any) -> None:
    tensor = torch.ones(3)
    tensor.untyped_storage().resize_(0)
    with pytest.raises(UnsupportedTensorError, match="'gone'"):
        ztensor.torch.save_file({"gone": tensor}, tmp_path / "f.zt")


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", 7, None, "n" * 5000])
def test_names_are_refused_as_ever(tmp_path: Any, slow: Any, name: Any) -> None:
    def save() -> ZTensorError:
        with pytest.raises(ArgumentError) as caught:
            ztensor.torch.save_file({"good": torch.ones(2), name: torch.ones(2)}, tmp_path / "f.zt")
        return caught.value

    assert str(save()) == str(slow(save))


def test_a_name_that_is_there_already_is_refused(tmp_path: Any) -> None:
    with Writer(tmp_path / "f.zt") as writer:
        writer.add_tensors({"a": torch.ones(2)})
        with pytest.raises(ArgumentError, match="'a'|\"a\""):
            writer.add_tensors({"b": torch.ones(2), "a": torch.zeros(2)})
        writer.add_tensors({"b": torch.zeros(3)})
    assert sorted(ztensor.torch.load_file(tmp_path / "f.zt")) == ["a", "b"]


def test_sharing_is_told_within_a_call_only(tmp_path: Any) -> None:
    base = torch.arange(6.0)
    with Writer(tmp_path / "f.zt") as writer:
        writer.add_tensors({"a": base, "b": base, "half": base[:3], "rows": base.view(2, 3)})
        writer.add_tensors({"later": torch.arange(6.0), "again": base, "too": base})
    found = ztensor.torch.load_file(tmp_path / "f.zt")
    pointers = {name: tensor.data_ptr() for name, tensor in found.items()}
    assert pointers["a"] == pointers["b"] == pointers["rows"]
    assert pointers["again"] == pointers["too"]
    assert len({pointers[name] for name in ("a", "half", "later", "again")}) == 4
    assert torch.equal(found["rows"], base.view(2, 3)) and torch.equal(found["too"], base)


@pytest.mark.parametrize("mode", ["mmap", "read"])
def test_tensors_outlive_everything_and_are_the_callers(tmp_path: Any, mode: str) -> None:
    path = tmp_path / "f.zt"
    tensors = {f"t{at}": torch.full((at + 1, 7), float(at)) for at in range(50)}
    ztensor.torch.save_file(tensors, path)
    before = path.read_bytes()
    found = ztensor.torch.load_file(path, mode=mode)
    kept = found["t20"][3:5]
    found["t3"].fill_(9)
    assert torch.equal(found["t2"], tensors["t2"]) and torch.equal(found["t4"], tensors["t4"])
    buffer = io.BytesIO()
    torch.save(found["t49"], buffer)
    assert len(buffer.getvalue()) < 10_000
    twin = copy.deepcopy(found["t5"])
    del found
    gc.collect()
    path.unlink()
    assert torch.equal(kept, torch.full((2, 7), 20.0)) and torch.equal(twin, tensors["t5"])
    assert ztensor.torch.load(before)["t3"][0, 0] == 3


def test_many_calls_leave_nothing_behind(tmp_path: Any) -> None:
    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    path = tmp_path / "f.zt"
    tensors = {f"t{at}": torch.ones(4) for at in range(20_000)}
    for turn in range(12):
        ztensor.torch.save_file(tensors, path, fsync=False)
        found = ztensor.torch.load_file(path)
        del found
        if turn == 3:
            before = resident()
    assert resident() - before < 16 * 1024 * 1024
