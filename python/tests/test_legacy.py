"""Files of the public package's generations as NumPy, SciPy and torch give them, against what their writers were given."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ztensor
import ztensor.numpy
from ztensor import Reader, UnknownTypeError, UnsupportedTensorError

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")
pytest.importorskip("ml_dtypes")
import ztensor.torch  # noqa: E402

LEGACY = Path(__file__).parents[2] / "tests" / "data" / "legacy"
#: Every file that a wheel wrote.
CORPUS = sorted(
    str(path.relative_to(LEGACY).with_suffix(""))
    for path in LEGACY.glob("[0-9].[0-9].[0-9]/*.zt")
    if path.with_suffix(".expected.json").exists()
)
#: Those with a tensor that is only listed.
LISTED = {
    "1.2.3/custom_format",
    "1.2.3/logical_fp8",
    "1.2.3/quantized_group",
    "2.1.2/custom_layout",
    "2.1.2/logical_types",
    "2.1.2/mx",
    "2.1.2/quant_group",
}
INDEX_TYPES = {"i32": np.int32, "i64": np.int64, "u32": np.uint32, "u64": np.uint64}


def expected(name: str) -> dict[str, dict[str, Any]]:
    """What the corpus says of each tensor. Of several of one name, the first."""
    found = json.loads((LEGACY / f"{name}.expected.json").read_text(encoding="utf-8"))
    return {tensor["name"]: tensor for tensor in reversed(found["tensors"])}


def raw_bytes(tensor: Any) -> bytes:
    """The elements of a dense tensor, or of the values of a sparse one."""
    if isinstance(tensor, torch.Tensor):
        return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return np.ascontiguousarray(tensor).tobytes()


def parts(said: dict[str, Any]) -> dict[str, tuple[str, bytes]]:
    """Element type and bytes of each component that the corpus lists, by its role."""
    if "components" in said:
        return {role: (part["dtype"], bytes.fromhex(part["hex"])) for role, part in said["components"].items()}
    index = said.get("index_dtype", "u64")
    types = {"data": said["dtype"], "values": said["dtype"], "indices": index, "indptr": index, "coords": index}
    return {role: (types[role], bytes.fromhex(said[f"{role}_hex"])) for role in types if f"{role}_hex" in said}


def assert_is(tensor: Any, said: dict[str, Any]) -> None:
    """A tensor is what the corpus says."""
    listed = parts(said)
    is_torch = isinstance(tensor, torch.Tensor)
    found, values = {}, tensor
    if "indptr" in listed:
        values = tensor.values() if is_torch else tensor.data
        found["indices"] = tensor.col_indices() if is_torch else tensor.indices
        found["indptr"] = tensor.crow_indices() if is_torch else tensor.indptr
    elif "coords" in listed:
        values = tensor._values() if is_torch else tensor.data
        found["coords"] = tensor._indices().reshape(-1) if is_torch else np.concatenate(tensor.coords)
    for role, numbers in found.items():
        dtype, data = listed[role]
        assert numbers.tolist() == np.frombuffer(data, INDEX_TYPES[dtype]).tolist(), role
    if "data_sha256" in said:
        assert hashlib.sha256(raw_bytes(values)).hexdigest() == said["data_sha256"]
    else:
        assert raw_bytes(values) == listed["values" if found else "data"][1]
    # A file of four-bit floats counts elements, ours bytes.
    if said.get("logical") != "f4_e2m1":
        assert list(tensor.shape) == said["shape"]


def may_be_refused(said: dict[str, Any]) -> bool:
    """Whether NumPy or SciPy may lack a tensor's type: four-bit floats, and sparse ones of 16 bits."""
    listed = parts(said)
    return said.get("logical") == "f4_e2m1" or ("values" in listed and listed["values"][0] in ("f16", "bf16"))


def is_readable(reader: Reader, name: str) -> bool:
    """Whether a tensor is of a type and layout that have a form here."""
    try:
        reader.read_tensors([name], to="torch")
    except UnknownTypeError:
        return False
    return True


@pytest.mark.parametrize("to", ["numpy", "torch"])
@pytest.mark.parametrize("name", CORPUS)
def test_each_tensor_is_what_was_written(name: str, to: str, mode: str) -> None:
    said = expected(name)
    with Reader(LEGACY / f"{name}.zt", mode=mode, verify=True) as reader:
        assert set(reader.tensor_names) == set(said)
        unread = {tensor for tensor in said if not is_readable(reader, tensor)}
        assert bool(unread) == (name in LISTED)
        for tensor in set(said) - unread:
            try:
                found = reader.read_tensor(tensor, to=to)
            except UnsupportedTensorError:
                assert to == "numpy" and may_be_refused(said[tensor])
            else:
                assert_is(found, said[tensor])
        reader.verify()


@pytest.mark.parametrize("name", CORPUS)
def test_load_file_loads_them_all(name: str, mode: str) -> None:
    said = expected(name)
    path = LEGACY / f"{name}.zt"
    for load in (ztensor.torch.load_file, ztensor.numpy.load_file):
        if name in LISTED:
            with pytest.raises(UnknownTypeError):
                load(path, mode=mode)
            continue
        try:
            loaded = load(path, mode=mode)
        except UnsupportedTensorError:
            assert load is ztensor.numpy.load_file and any(map(may_be_refused, said.values()))
            continue
        assert set(loaded) == set(said)
        for tensor in loaded:
            assert_is(loaded[tensor], said[tensor])
    if name not in LISTED:
        from_bytes = ztensor.torch.load(path.read_bytes())
        assert set(from_bytes) == set(said)


@pytest.mark.parametrize(
    ("file", "algorithm", "digits"),
    [
        ("0.1-handmade/v0_crc", "crc32c", 8),
        ("0.1-handmade/v0_sha", "sha256", 64),
        ("1.2.3/csr_zstd_sha256", "sha256", 64),
        ("1.x-handmade/sha_upper", "sha256", 64),
        ("2.1.2/tied", "xxh3", 16),
    ],
)
def test_checksums_are_shown_as_the_file_states_them(file: str, algorithm: str, digits: int) -> None:
    with Reader(LEGACY / f"{file}.zt") as reader:
        for meta in reader:
            assert meta.checksum is not None
            name, value = meta.checksum.split(":")
            assert (name, len(value)) == (algorithm, digits)
            int(value, 16)


def test_a_checksum_of_raw_data_is_that_of_its_bytes() -> None:
    path = LEGACY / "1.x-handmade" / "sha_ok.zt"
    with Reader(path) as reader:
        meta = reader[0]
    stored = path.read_bytes()[meta.offset : meta.offset + meta.size]
    assert meta.checksum == f"sha256:{hashlib.sha256(stored).hexdigest()}"
