"""ztensor.torch: the functions of safetensors.torch, and what torch users expect besides."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import LARGE, assert_same_tensor, entries, run_python

import ztensor

torch = pytest.importorskip("torch")

import ztensor.torch as ztt  # noqa: E402


def tensors() -> dict[str, Any]:
    torch.manual_seed(3)
    return {
        "w": torch.randn(30, 20),
        "half": torch.randn(7, 3).to(torch.bfloat16),
        "scalar": torch.tensor(3, dtype=torch.int8),
        "empty": torch.empty(0, 4, dtype=torch.complex64),
        "flags": torch.tensor([True, False, True]),
        "large": torch.arange(LARGE, dtype=torch.int32),
    }


def sparse_tensors() -> dict[str, Any]:
    dense = torch.zeros(6, 8)
    dense[0, 1], dense[3, 7], dense[5, 0] = 1, 2, 3
    return {
        "coo": dense.to_sparse_coo(),
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "bsr": dense.to_sparse_bsr((3, 2)),
        "bsc": dense.to_sparse_bsc((3, 2)),
    }


def assert_all_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert type(found) is dict
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert_same_tensor(found[name], tensor)


# Dictionaries.


@pytest.mark.parametrize("compress", [False, True, 1, 19], ids=repr)
def test_a_file_gives_back_what_was_saved(compress: bool | int, path: Path, mode: str) -> None:
    given = tensors()
    assert ztt.save_file(given, path, compress=compress) is None
    assert_all_same(ztt.load_file(path, mode=mode), given)
    assert_all_same(ztt.load_file(str(path), "cpu", mode=mode, verify=True, threads=1), given)


@pytest.mark.parametrize("compress", [False, True, 1, 19], ids=repr)
def test_bytes_give_back_what_was_saved(compress: bool | int) -> None:
    given = tensors()
    data = ztt.save(given, compress=compress)
    assert type(data) is bytes
    for source in (data, bytearray(data), memoryview(data)):
        assert_all_same(ztt.load(source), given)


def test_the_bytes_are_the_files(path: Path) -> None:
    ztt.save_file(tensors(), path, {"k": "v"}, compress=True)
    assert path.read_bytes() == ztt.save(tensors(), {"k": "v"}, compress=True)


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
@pytest.mark.parametrize("name", list(sparse_tensors()) if hasattr(torch, "sparse_bsc") else ["coo", "csr"])
def test_sparse_tensors_go_through(name: str, compress: bool, path: Path, mode: str) -> None:
    given = {"before": torch.arange(3), name: sparse_tensors()[name], "after": torch.ones(2)}
    ztt.save_file(given, path, compress=compress)
    assert ztensor.Reader(path)[1].layout == f"sparse_{name}"
    assert_all_same(ztt.load_file(path, mode=mode), given)
    assert_all_same(ztt.load(ztt.save(given)), given)


def test_metadata_can_be_read_back(path: Path) -> None:
    ztt.save_file(tensors(), path, {"format": "pt", "epoch": 3})
    assert ztensor.Reader(path).file_metadata == {"format": "pt", "epoch": 3}
    assert ztensor.Reader(ztt.save(tensors(), {"epoch": 4})).file_metadata == {"epoch": 4}
    ztt.save_model(torch.nn.Linear(2, 3), path, {"epoch": 5})
    assert ztensor.Reader(path).file_metadata == {"epoch": 5}


def test_numpy_reads_what_torch_wrote(path: Path) -> None:
    ztt.save_file({"x": torch.arange(6).reshape(2, 3)}, path)
    assert (ztensor.Reader(path)["x"] == np.arange(6).reshape(2, 3)).all()


def test_any_mapping_is_taken_and_not_changed(path: Path) -> None:
    given = OrderedDict(b=torch.arange(6).reshape(2, 3).t(), a=torch.ones(3, requires_grad=True))
    strides = given["b"].stride()
    ztt.save_file(given, path, compress=True)
    ztt.save(given)
    assert list(given) == ["b", "a"]
    assert given["b"].stride() == strides and not given["b"].is_contiguous()
    assert given["a"].requires_grad


@pytest.mark.parametrize("given", [[torch.ones(3)], torch.ones(3), None, "w"], ids=repr)
def test_what_is_no_mapping_is_refused(given: Any, path: Path) -> None:
    with pytest.raises(ztensor.ArgumentError, match="mapping of names to tensors"):
        ztt.save_file(given, path)
    with pytest.raises(ztensor.ArgumentError, match="mapping of names to tensors"):
        ztt.save(given)
    assert entries(path.parent) == []


def test_loaded_tensors_are_plain_writable_and_contiguous(path: Path, mode: str) -> None:
    ztt.save_file({"p": torch.nn.Parameter(torch.randn(3, 4)), "t": torch.randn(3, 4).t()}, path)
    for tensor in ztt.load_file(path, mode=mode).values():
        assert type(tensor) is torch.Tensor
        assert tensor.is_contiguous() and not tensor.requires_grad and tensor.is_leaf
        tensor.requires_grad_().sum().backward()
        with torch.no_grad():
            tensor.add_(1)


def test_options_after_the_documented_ones_are_named(path: Path) -> None:
    with pytest.raises(TypeError):
        ztt.save_file({}, path, None, True)
    with pytest.raises(TypeError):
        ztt.load_file(path, "cpu", "mmap")


def test_a_missing_file_is_a_file_not_found_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(path)):
        ztt.load_file(path)
    with pytest.raises(FileNotFoundError, match=str(path)):
        ztt.load_model(torch.nn.Linear(2, 3), path)


# Devices.


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cpu:0"], ids=repr)
def test_the_cpu_may_be_named_in_every_way(device: Any, path: Path) -> None:
    given = tensors()
    ztt.save_file(given, path)
    assert_all_same(ztt.load_file(path, device), given)
    assert_all_same(ztt.load_file(path, device=device), given)
    assert_all_same(ztt.load(ztt.save(given), device), given)


@pytest.mark.parametrize("device", ["meta", torch.device("meta")], ids=repr)
def test_meta_tensors_have_shape_and_type_and_no_data(device: Any, path: Path) -> None:
    given = tensors()
    ztt.save_file(given, path, compress=True)
    for found in (ztt.load_file(path, device=device), ztt.load(path.read_bytes(), device=device)):
        assert list(found) == list(given)
        for name, tensor in found.items():
            assert tensor.is_meta
            assert (tensor.shape, tensor.dtype) == (given[name].shape, given[name].dtype)


def test_what_is_tied_is_tied_on_the_meta_device_too(path: Path) -> None:
    data = torch.arange(12.0)
    ztt.save_file({"one": data, "other": torch.ones(12), "again": data, "reshaped": data.view(3, 4)}, path)
    found = ztt.load_file(path, device="meta")
    storages = {name: tensor.untyped_storage()._cdata for name, tensor in found.items()}
    assert storages["one"] == storages["again"] == storages["reshaped"] != storages["other"]
    assert found["reshaped"].shape == (3, 4)


@pytest.mark.parametrize("name", ["dense", "empty", *sparse_tensors()])
def test_a_default_device_is_not_where_tensors_go(name: str, path: Path) -> None:
    given = {**sparse_tensors(), "dense": torch.ones(5), "empty": torch.ones(0, 3)}
    ztt.save_file(given, path)
    with torch.device("meta"):
        loaded = ztt.load_file(path)[name]
        with ztensor.Reader(path) as reader:
            read = reader.read_tensor(name, to="torch")
    for tensor in (loaded, read):
        assert tensor.device.type == "cpu"
        assert_same_tensor(tensor, given[name])


def test_for_meta_tensors_no_data_is_read(path: Path) -> None:
    ztt.save_file({"x": torch.zeros(1000)}, path, compress=True)
    meta = ztensor.Reader(path)[0]
    with open(path, "r+b") as file:
        file.seek(meta.offset)
        file.write(b"\xff" * meta.size)
    assert ztt.load_file(path, device="meta")["x"].shape == (1000,)
    with pytest.raises(ztensor.ChecksumError):
        ztt.load_file(path)


def test_a_sparse_tensor_on_the_meta_device_is_refused_by_name(path: Path) -> None:
    ztt.save_file({"odd one": sparse_tensors()["csr"]}, path)
    with pytest.raises(ztensor.UnsupportedTensorError, match="'odd one'"):
        ztt.load_file(path, device="meta")


def test_a_device_that_is_not_known_is_torchs_own_error(path: Path) -> None:
    ztt.save_file({"x": torch.ones(3)}, path)
    with pytest.raises(RuntimeError, match="nonsense"):
        ztt.load_file(path, device="nonsense")


@pytest.mark.parametrize("device", [0, "cuda", "cuda:0", torch.device("cuda", 0)], ids=repr)
def test_a_gpu_may_be_named_in_every_way(device: Any, path: Path) -> None:
    given = tensors()
    ztt.save_file(given, path)
    if not torch.cuda.is_available():
        # What torch says of a GPU that is not there, and nothing else.
        with pytest.raises((RuntimeError, AssertionError), match="(?i)cuda|nvidia"):
            ztt.load_file(path, device=device)
        pytest.skip("no GPU here: torch's own error was checked instead")
    found = ztt.load_file(path, device=device)
    for tensor in found.values():
        assert tensor.device == torch.device("cuda", 0)
    assert_all_same({name: tensor.cpu() for name, tensor in found.items()}, given)


# Models.


class Tied(torch.nn.Module):
    """A model whose output layer is its embedding, as language models have it."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(50, 16)
        self.norm = torch.nn.BatchNorm1d(16)
        self.head = torch.nn.Linear(16, 50, bias=bias)
        self.head.weight = self.embed.weight
        self.register_buffer("steps", torch.arange(4))
        self.register_buffer("scratch", torch.ones(3), persistent=False)


def assert_models_equal(one: Any, other: Any) -> None:
    assert_all_same(dict(one.state_dict()), dict(other.state_dict()))


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
def test_a_model_comes_back(compress: bool, path: Path, mode: str) -> None:
    torch.manual_seed(1)
    model, other = Tied(), Tied()
    ztt.save_model(model, path, compress=compress)
    assert ztt.load_model(other, path, mode=mode) == ([], [])
    assert_models_equal(model, other)


def test_every_name_of_a_tied_weight_is_kept_and_its_data_stored_once(path: Path) -> None:
    ztt.save_model(Tied(), path)
    with ztensor.Reader(path) as reader:
        one, other = reader.metadata("embed.weight"), reader.metadata("head.weight")
        assert one.offset == other.offset
        assert "scratch" not in reader


def test_a_tied_model_stays_tied_and_its_parameters_stay_the_same_objects(path: Path) -> None:
    model, other = Tied(), Tied()
    ztt.save_model(model, path)
    kept = other.embed.weight
    ztt.load_model(other, path)
    assert other.embed.weight is other.head.weight is kept
    assert kept.requires_grad


@pytest.mark.parametrize("kept", ["embed.weight", "head.weight"])
def test_one_name_of_a_tied_weight_is_enough(kept: str, path: Path) -> None:
    model, other = Tied(), Tied()
    state = model.state_dict()
    del state[{"embed.weight": "head.weight", "head.weight": "embed.weight"}[kept]]
    ztt.save_file(state, path)
    assert ztt.load_model(other, path) == ([], [])
    assert_models_equal(model, other)
    assert other.embed.weight is other.head.weight
    # Of a weight that is not tied, it is not.
    other.head.weight = torch.nn.Parameter(torch.zeros(50, 16))
    with pytest.raises(RuntimeError, match="Missing key"):
        ztt.load_model(other, path)


def test_saving_a_model_does_not_change_it(path: Path) -> None:
    model = torch.nn.Linear(3, 4)
    model.weight.data = torch.randn(3, 4).t()
    kept = model.weight, model.weight.data_ptr(), model.weight.stride(), copy.deepcopy(model)
    ztt.save_model(model, path)
    assert (model.weight, model.weight.data_ptr(), model.weight.stride()) == kept[:3]
    assert_models_equal(model, kept[3])


def test_what_is_not_contiguous_is_packed_unless_that_is_forbidden(path: Path) -> None:
    model = torch.nn.Linear(3, 4)
    model.weight.data = torch.randn(3, 4).t()
    with pytest.raises(ztensor.ArgumentError, match="'weight' is not contiguous"):
        ztt.save_model(model, path, force_contiguous=False)
    assert entries(path.parent) == []
    ztt.save_model(model, path, None, True)
    assert_same_tensor(ztt.load_file(path)["weight"], model.weight)
    ztt.save_model(torch.nn.Linear(3, 4), path, force_contiguous=False)


class WithExtraState(torch.nn.Linear):
    """A module that keeps more than tensors."""

    def get_extra_state(self) -> Any:
        return {"calls": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def test_extra_state_that_is_no_tensor_is_refused_by_name(path: Path) -> None:
    with pytest.raises(ztensor.UnsupportedTensorError, match="'0._extra_state' is a dict"):
        ztt.save_model(torch.nn.Sequential(WithExtraState(2, 3)), path)
    assert entries(path.parent) == []


def change(case: str) -> Any:
    """A model that a file of ``Tied()`` does not fit, in one way or several."""
    model = Tied(bias="missing bias" not in case)
    if "more" in case:
        model.extra = torch.nn.Linear(2, 2)
    if "shape" in case:
        model.register_buffer("steps", torch.arange(5))
    return model


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("case", ["same", "missing bias", "more", "missing bias, more", "shape", "shape, more"])
def test_strict_means_what_load_state_dict_means(case: str, strict: bool, path: Path) -> None:
    saved = Tied()
    ztt.save_model(saved, path)
    state = {name: tensor.clone() for name, tensor in saved.state_dict().items()}
    one, other = change(case), change(case)

    def outcome(load: Any) -> Any:
        try:
            missing, unexpected = load()
        except RuntimeError as err:
            assert type(err) is RuntimeError
            return str(err)
        return missing, unexpected

    expected = outcome(lambda: one.load_state_dict(state, strict=strict))
    assert outcome(lambda: ztt.load_model(other, path, strict)) == expected
    assert outcome(lambda: ztt.load_model(other, path, strict=strict)) == expected
    if isinstance(expected, tuple):
        assert all(
            torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items() if name in state
        )


def test_missing_and_unexpected_are_lists_of_names(path: Path) -> None:
    ztt.save_file({"weight": torch.ones(2, 3), "other": torch.ones(1)}, path)
    found = ztt.load_model(torch.nn.Linear(3, 2), path, strict=False)
    assert found == (["bias"], ["other"])
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "bias"'):
        ztt.load_model(torch.nn.Linear(3, 2), path)


def test_values_are_converted_to_the_models_type(path: Path) -> None:
    ztt.save_file({"weight": torch.full((2, 3), 1.5, dtype=torch.bfloat16)}, path)
    model = torch.nn.Linear(3, 2, bias=False)
    ztt.load_model(model, path)
    assert model.weight.dtype is torch.float32 and (model.weight == 1.5).all()


def test_a_loaded_model_does_not_need_the_file(path: Path, mode: str) -> None:
    model, other = torch.nn.Linear(600, 500), torch.nn.Linear(600, 500)
    ztt.save_model(model, path)
    ztt.load_model(other, path, mode=mode)
    path.unlink()
    assert_models_equal(model, other)


def test_optimizer_like_tensors_that_are_views_of_one_buffer_stay_apart(path: Path) -> None:
    flat = torch.arange(100.0)
    views = {"a": flat[:40], "b": flat[40:], "all": flat, "again": flat[:40]}
    ztt.save_file(views, path)
    found = ztt.load_file(path)
    assert_all_same(found, views)
    found["a"].zero_()
    assert found["all"][0] == 0.0 and found["all"][1] == 1.0
    assert found["again"].sum() == 0


def test_safetensors_and_this_give_the_same(path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    given = {name: tensor for name, tensor in tensors().items() if tensor.dtype is not torch.complex64}
    ours = ztt.load(ztt.save(given))
    theirs = safetensors.load(safetensors.save(given))
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert_same_tensor(ours[name], tensor)


# Reader and Writer.


def test_a_reader_gives_tensors_when_asked(path: Path, mode: str) -> None:
    given = {**tensors(), **sparse_tensors()}
    with ztensor.Writer(path) as writer:
        for name, tensor in given.items():
            writer.add_tensor(name, tensor)
    with ztensor.Reader(path, mode=mode) as reader:
        for name, tensor in given.items():
            assert_same_tensor(reader.read_tensor(name, to="torch"), tensor)
        for found, tensor in zip(reader.read_tensors(list(given), to="torch"), given.values()):
            assert_same_tensor(found, tensor)
        assert_same_tensor(reader.read_rows("w", 3, 9, to="torch"), given["w"][3:9])
        assert_same_tensor(reader.read_rows("large", 5, LARGE - 5, to="torch"), given["large"][5:-5])


def test_sparse_tensors_of_numpy_parts_are_torchs_too(path: Path) -> None:
    with ztensor.Writer(path) as writer:
        for dtype in ("int32", "int64", "uint8", "uint64"):
            writer.add_sparse_csr(
                dtype, np.array([1.0, 2, 3]), np.array([0, 2, 1], dtype), np.array([0, 2, 3], dtype), (2, 3)
            )
        writer.add_sparse_csr(
            "mixed", np.array([1.0, 2, 3]), np.array([0, 2, 1], "int32"), np.array([0, 2, 3], "int64"), (2, 3)
        )
    expected = torch.tensor([[1.0, 0, 2], [0, 3, 0]], dtype=torch.float64)
    with ztensor.Reader(path) as reader:
        for name in reader.keys():
            found = reader.read_tensor(name, to="torch")
            assert found.col_indices().dtype is (torch.int32 if name == "int32" else torch.int64)
            assert torch.equal(found.to_dense(), expected)


def test_loading_sparse_tensors_gives_no_warning_but_that_of_torchs_beta(path: Path) -> None:
    ztt.save_file(sparse_tensors(), path)
    out = run_python(
        """
import sys, warnings
import ztensor.torch
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    ztensor.torch.load_file(sys.argv[1])
print([str(one.message)[:6] for one in seen if "is in beta state" not in str(one.message)])
""",
        path,
    )
    assert out == "[]\n"


def test_sparse_tensors_keep_to_torchs_rules(path: Path) -> None:
    ztt.save_file(sparse_tensors(), path)
    for name, tensor in ztt.load_file(path).items():
        if name == "coo":
            torch.sparse_coo_tensor(tensor._indices(), tensor._values(), tensor.shape, check_invariants=True)
        assert torch.equal(tensor.to_dense(), sparse_tensors()[name].to_dense())
