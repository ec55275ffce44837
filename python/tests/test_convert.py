"""Any readable file to the present format: nothing is lost on the way, and nothing half done is left."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import ALL, LARGE, entries, flip, random_tensor, run_python

import ztensor
from ztensor import CancelledError, ChecksumError, Reader, UnknownTypeError, Writer, ZTensorError, _dtypes, convert
from ztensor._metadata import Description

LEGACY = Path(__file__).parents[2] / "tests" / "data" / "legacy"
#: Every file that a wheel wrote, and those made by hand; shards come with the file that they belong to.
CORPUS = sorted(
    str(path.relative_to(LEGACY).with_suffix(""))
    for path in LEGACY.glob("*/*.zt")
    if path.with_suffix(".expected.json").exists()
)
#: Those of the wheels' files that hold what the present format has not: what the error says.
REFUSED = {
    "0.1.4/long_name": "name is empty",
    "1.0.1/long_name": "name is empty",
    "1.1.1/long_name": "name is empty",
    "1.2.3/custom_format": "the layout ",
    "1.2.3/logical_fp8": "the element type 'x_custom'",
    "1.2.3/quantized_group": "the layout 'quantized_group'",
    "2.1.2/custom_layout": "the layout ",
    "2.1.2/logical_types": "the element type 'f4_e2m1'",
    "2.1.2/mx": "the layout 'zt.mx/1'",
    "2.1.2/quant_group": "the layout 'zt.quant_group/1'",
}
#: Names of types in the corpus, where they are not the letter and the bits of ours.
TYPES = {"bf16": "bfloat16", "bool": "bool", "f8_e8m0": "float8_e8m0fnu", "f4_e2m1": "float4_e2m1fn_x2"}


def our_type(name: str) -> str:
    """Our name of a type of the corpus."""
    if name in TYPES:
        return TYPES[name]
    if name.startswith("f8_"):
        return "float8_" + name[3:]
    kinds = {"f": "float", "i": "int", "u": "uint"}
    return name if name.startswith("complex") else kinds[name[0]] + name[1:]


def components(reader: Reader) -> dict[str, list[tuple[str, bytes]]]:
    """Element type and decoded bytes of every component, by the tensor's name."""
    handle = reader._handle()
    found = {}
    for number, name in enumerate(reader.tensor_names):
        batch = reader._load(handle, [Description(handle, number)], None)
        parts = zip(batch.described.component_dtypes, batch.memories, batch.starts, batch.sizes)
        found[name] = [
            (_dtypes.BY_CODE[dtype].name, bytes(batch.buffers[memory][start : start + size] if size else b""))
            for dtype, memory, start, size in parts
        ]
    return found


def assert_same_file(converted: Any, source: Any) -> None:
    """Two files hold the same, and the first is of the present format."""
    with Reader(converted) as new, Reader(source) as old:
        assert new.format == "zt/1"
        assert new.tensor_names == old.tensor_names
        assert new.file_metadata == old.file_metadata
        for one, other in zip(new, old):
            said = (one.shape, one.dtype_str, one.layout, one.nbytes, one.attributes)
            assert said == (other.shape, other.dtype_str, other.layout, other.nbytes, other.attributes), one.name
        assert components(new) == components(old)
        new.verify()


def listed(tensor: dict[str, Any]) -> list[tuple[str, str]]:
    """Element type and bytes of every component that the corpus lists for a tensor, in the order of ours."""
    roles = ("data", "values", "indices", "coords", "indptr")
    if "components" in tensor:
        parts = [tensor["components"][role] for role in roles if role in tensor["components"]]
        return [(our_type(part.get("logical", part["dtype"])), part["hex"]) for part in parts]
    first = tensor.get("logical", tensor["dtype"])
    types = [first, first, *[tensor.get("index_dtype", "u64")] * 3]
    return [(our_type(kind), tensor[f"{role}_hex"]) for role, kind in zip(roles, types) if f"{role}_hex" in tensor]


def assert_as_expected(converted: Path, expected: dict[str, Any]) -> None:
    """A file holds what the corpus says."""
    tensors = {tensor["name"]: tensor for tensor in reversed(expected["tensors"])}
    with Reader(converted) as reader:
        assert reader.file_metadata == expected.get("attributes", {})
        found = components(reader)
        assert set(found) == set(tensors)
        for name, tensor in tensors.items():
            said = reader.metadata(name)
            assert said.attributes == tensor.get("attributes", {})
            # A file of four-bit floats counts elements, ours bytes.
            if said.dtype_str != "float4_e2m1fn_x2":
                assert list(said.shape) == tensor["shape"]
            if "data_sha256" in tensor:
                assert hashlib.sha256(found[name][0][1]).hexdigest() == tensor["data_sha256"]
            else:
                assert [(dtype, data.hex()) for dtype, data in found[name]] == listed(tensor)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("name", [name for name in CORPUS if "handmade" not in name])
def test_files_of_every_wheel_convert(name: str, compress: bool, tmp_path: Path, mode: str) -> None:
    source, new = LEGACY / f"{name}.zt", tmp_path / "new.zt"
    if name in REFUSED:
        kind = ztensor.ArgumentError if name.endswith("long_name") else UnknownTypeError
        with pytest.raises(kind, match=f"tensor ['\"].*{REFUSED[name]}"):
            convert(source, new, compress, mode=mode)
        assert entries(tmp_path) == []
        return
    convert(source, new, compress, mode=mode)
    assert_same_file(new, source)
    assert_as_expected(new, json.loads((LEGACY / f"{name}.expected.json").read_text()))


@pytest.mark.parametrize("name", [name for name in CORPUS if "handmade" in name])
def test_files_made_by_hand_convert_if_they_can_be_read(name: str, tmp_path: Path) -> None:
    source, new = LEGACY / f"{name}.zt", tmp_path / "new.zt"
    try:
        with Reader(source, verify=True) as reader:
            reader.read_tensors(reader.tensor_names)
    except ZTensorError as err:
        with pytest.raises(type(err)):
            convert(source, new)
        assert entries(tmp_path) == []
    else:
        convert(source, new)
        assert_same_file(new, source)


def test_the_shards_of_a_file_are_gathered(tmp_path: Path) -> None:
    convert(LEGACY / "2.x-handmade" / "sharded.zt", tmp_path / "new.zt", compress=True)
    with Reader(tmp_path / "new.zt") as reader:
        assert reader["far"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        assert reader["near"].tolist() == [1, 2, 3, 4]
    assert entries(tmp_path) == ["new.zt"]


def test_a_sharded_file_that_is_replaced_needs_its_shards_no_more(tmp_path: Path) -> None:
    for name in ("sharded.zt", "sharded-00001.zt"):
        shutil.copy(LEGACY / "2.x-handmade" / name, tmp_path)
    convert(tmp_path / "sharded.zt", tmp_path / "sharded.zt")
    assert entries(tmp_path) == ["sharded-00001.zt", "sharded.zt"]
    (tmp_path / "sharded-00001.zt").unlink()
    assert_same_file(tmp_path / "sharded.zt", LEGACY / "2.x-handmade" / "sharded.zt")


@pytest.mark.parametrize("compress", [False, True, 19])
def test_a_file_takes_the_place_of_its_source(compress: bool | int, tmp_path: Path, mode: str) -> None:
    path, before = tmp_path / "model.zt", LEGACY / "1.1.1" / "dtypes_all.zt"
    shutil.copy(before, path)
    os.symlink("model.zt", tmp_path / "link.zt")
    with Reader(path) as held:
        convert(tmp_path / "link.zt", path, compress, mode=mode)
        assert_same_file(path, before)
        # Whoever has the old file open reads on.
        assert components(held)
    assert entries(tmp_path) == ["link.zt", "model.zt"]


def test_a_file_in_memory_converts(path: Path) -> None:
    source = LEGACY / "1.2.3" / "csr_zstd_sha256.zt"
    convert(source.read_bytes(), path)
    assert_same_file(path, source)


def test_every_type_and_layout_of_the_present_format(path: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.random(60, 40, 0.2, format="csr", random_state=rng)
    with Writer(path, metadata={"nested": {"a": [1, None, b"\0\xff", float("-inf")]}, "text": "\0é"}) as writer:
        for name in ALL:
            attributes = {"of": name, "small": 5e-324} if len(name) % 2 else None
            writer.add_tensor(name, random_tensor(name, (3, 5), rng), attributes=attributes)
        for format in ("csr", "csc", "coo"):
            writer.add_tensor(format, matrix.asformat(format), attributes={"format": format})
        writer.add_tensor("bsr", matrix.tobsr((3, 2)), compress=True)
        writer.add_tensor("bsr with attributes", matrix.tobsr((3, 2)), attributes={"scale": 0.1, "of": {"blocksize": 3}})
        writer.add_tensor("bsc", torch.from_numpy(matrix.toarray()).to_sparse_bsc((2, 4)))
        writer.add_tensor("scalar", np.float64(2.5))
        writer.add_tensor("empty", np.zeros((3, 0, 2)))
    for compress in (False, True):
        convert(path, tmp_path / "new.zt", compress)
        assert_same_file(tmp_path / "new.zt", path)
        with Reader(tmp_path / "new.zt") as reader:
            assert (reader["bsr with attributes"] != matrix).nnz == 0


def test_metadata_that_python_cannot_spell_is_passed_on(path: Path, tmp_path: Path) -> None:
    # An extension type, which another program may have stored.
    with Writer(path, metadata=ztensor._call.Json(b'{"when": {"$ext": [5, "00ff"]}}')) as writer:  # type: ignore[arg-type]
        writer.add_tensor("a", np.zeros(3))
    convert(path, tmp_path / "new.zt")
    with Reader(tmp_path / "new.zt") as reader:
        assert reader.file_metadata == {"when": {"$ext": [5, "00ff"]}}


def stored(path: Path) -> dict[str, tuple[int, int]]:
    with Reader(path) as reader:
        return {tensor.name: (tensor.offset, tensor.size) for tensor in reader}


@pytest.mark.parametrize("compress", [False, True])
def test_tied_tensors_stay_tied(compress: bool, path: Path, tmp_path: Path) -> None:
    # Far enough from each other that they are not read at once.
    tied, other = np.arange(LARGE), np.zeros(20 * 1024 * 1024, np.uint8)
    with Writer(path) as writer:
        writer.add_tensors({"first": tied, "alone": tied.copy(), "between": other, "second": tied}, compress=1)
    convert(path, tmp_path / "new.zt", compress)
    assert_same_file(tmp_path / "new.zt", path)
    places = stored(tmp_path / "new.zt")
    assert places["first"] == places["second"] != places["alone"]
    convert(LEGACY / "2.1.2" / "tied.zt", path)
    assert len(set(stored(path).values())) < len(stored(path))


def test_equal_places_in_several_shards_are_not_tied(path: Path) -> None:
    """Blobs of one offset and length in several files are not the same blob."""
    convert(LEGACY / "2.x-handmade" / "sharded.zt", path)
    assert len(set(stored(path).values())) == len(stored(path)) == 2


def test_progress_tells_each_tensor_and_the_bytes_done(path: Path, tmp_path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("a", np.zeros(8), attributes={"of": "a"})
        writer.add_tensor("b", np.zeros(LARGE), compress=True)
        writer.add_tensor("c", np.zeros(0))
        writer.add_tensor("d", np.zeros(3 * 1024 * 1024))
    seen: list[tuple[str, int, int]] = []
    threads: set[int] = set()

    def progress(name: str, done: int, total: int) -> None:
        threads.add(threading.get_ident())
        seen.append((name, done, total))
        assert not (tmp_path / "new.zt").exists()

    convert(path, tmp_path / "new.zt", progress=progress)
    sizes = [64, 8 * LARGE, 0, 24 * 1024 * 1024]
    ends = [sum(sizes[: at + 1]) for at in range(4)]
    assert seen == [(name, done, ends[-1]) for name, done in zip("abcd", ends)]
    assert threads == {threading.get_ident()}


class Stop(Exception):
    """What a callback raises."""


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, None])
def test_a_callback_that_stops_the_work_leaves_everything(error: Any, in_place: bool, path: Path, tmp_path: Path) -> None:
    shutil.copy(LEGACY / "1.1.1" / "many_tensors.zt", path)
    target = path if in_place else tmp_path / "target.zt"
    if not in_place:
        target.write_bytes(b"what stood there")
    before = {name: (tmp_path / name).read_bytes() for name in entries(tmp_path)}
    calls = []

    def progress(name: str, done: int, total: int) -> bool:
        calls.append(name)
        if len(calls) == 3 and error is not None:
            raise error
        return len(calls) < 3

    with pytest.raises(error or CancelledError):
        convert(path, target, progress=progress)
    assert len(calls) == 3
    assert {name: (tmp_path / name).read_bytes() for name in entries(tmp_path)} == before


def test_damage_is_not_written_on(path: Path, tmp_path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("good", np.zeros(100))
        writer.add_tensor("bad", np.ones(LARGE))
    with Reader(path) as reader:
        flip(path, reader.metadata("bad").offset + 5)
    with pytest.raises(ChecksumError, match="'?\"?bad"):
        convert(path, tmp_path / "new.zt")
    assert entries(tmp_path) == ["model.zt"]
    convert(path, tmp_path / "new.zt", verify=False)
    with Reader(tmp_path / "new.zt") as reader:
        reader.verify()


def test_wrong_arguments_change_nothing(path: Path, tmp_path: Path) -> None:
    source = LEGACY / "1.1.1" / "single_f32.zt"
    with pytest.raises(ztensor.ArgumentError):
        convert(source, path, compress=23)
    with pytest.raises(ztensor.ArgumentError):
        convert(source, path, mode="map")
    with pytest.raises(ztensor.ArgumentError):
        convert(source, 3)  # type: ignore[arg-type]
    with pytest.raises(ztensor.MissingFileError):
        convert(tmp_path / "missing.zt", path)
    with pytest.raises(ztensor.MissingFileError):
        convert(source, tmp_path / "missing" / "model.zt")
    assert entries(tmp_path) == []


def test_memory_follows_the_largest_tensor_and_raw_data_takes_none(tmp_path: Path) -> None:
    mib = 1024 * 1024
    with Writer(tmp_path / "many.zt") as writer:
        for at in range(24):
            writer.add_tensor(str(at), np.full(8 * mib, at, np.uint8), compress=True)
    with Writer(tmp_path / "raw.zt") as writer:
        writer.add_tensor("raw", np.zeros(192 * mib, np.uint8))
    # Bytes of which none go away, neither on the disk nor in memory.
    noise = np.random.default_rng(1).integers(0, 200, 8 * mib, np.uint8)
    with Writer(tmp_path / "noise.zt") as writer:
        for at in range(24):
            writer.add_tensor(str(at), np.roll(noise, at), compress=at % 2)
    # Of the compressed file the peak is asked from the system. Pages of a mapped file can be taken back at any time:
    # of the raw one, those that cannot are looked at again and again.
    code = """
import sys, threading
import numpy as np
from ztensor import convert

def status(field):
    for line in open("/proc/self/status"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024

source, target, field, mode, compress = sys.argv[1:]
peak, done = 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, status(field))

before = status("VmRSS" if field == "VmHWM" else field)
watcher = threading.Thread(target=watch)
watcher.start()
convert(source, target, int(compress), mode=mode)
done.set()
watcher.join()
print((max(peak, status(field)) - before) // 2**20)
"""

    def rise(name: str, field: str, mode: str, compress: int) -> int:
        return int(run_python(code, tmp_path / name, tmp_path / "new.zt", field, mode, compress))

    # 192 MiB go through in tensors of 8 MiB, two of which are read at a time.
    assert rise("many.zt", "VmHWM", "mmap", 0) < 96
    assert rise("raw.zt", "RssAnon", "mmap", 0) < 64
    for compress in (0, 1):
        assert rise("noise.zt", "VmHWM", "read", compress) < 96
        assert rise("noise.zt", "RssAnon", "mmap", compress) < 96
