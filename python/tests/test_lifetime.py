"""What was read is the caller's own: it outlives reader and file, is private, and goes when it is let go."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import LARGE, assert_same, assert_same_tensor, mapped, pages

import ztensor
import ztensor.numpy as ztn
from ztensor import Reader, Writer

Open = Callable[..., Reader]

#: Small ones share memory, large raw ones are mapped, compressed ones are decoded.
ARRAYS = {
    "small": np.arange(100, dtype=np.int32),
    "other": np.arange(100, 200, dtype=np.int32),
    "large": np.arange(LARGE, dtype=np.float64),
    "zstd": np.arange(LARGE, dtype=np.int64),
}


@pytest.fixture
def file(path: Path) -> Path:
    with Writer(path) as writer:
        for name, array in ARRAYS.items():
            writer.add_tensor(name, array, compress=name == "zstd")
    return path


def churn() -> None:
    """Give freed memory a chance to be used again."""
    gc.collect()
    junk = [np.full(size, 0xAB, np.uint8) for size in (64, 400, 4096, 2**16, 2**20, LARGE * 8) for _ in range(8)]
    del junk


# Outliving.


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_outlives_its_reader(name: str, file: Path, opened: Open) -> None:
    reader = opened(file)
    array = reader[name]
    reader.close()
    del reader
    churn()
    assert_same(array, ARRAYS[name])


@pytest.mark.parametrize("name", ARRAYS)
def test_a_view_outlives_its_array(name: str, file: Path, opened: Open) -> None:
    with opened(file) as reader:
        array = reader[name]
    view = array[10:90:2].reshape(4, 10).T
    other = memoryview(array)[5:6]
    again = np.asarray(view.view(np.ndarray))
    del reader, array, view
    churn()
    assert_same(again, ARRAYS[name][10:90:2].reshape(4, 10).T)
    assert other[0] == ARRAYS[name][5]


@pytest.mark.parametrize("name", ARRAYS)
def test_a_tensor_outlives_its_reader(name: str, file: Path, opened: Open) -> None:
    torch = pytest.importorskip("torch")
    with opened(file) as reader:
        tensor = reader.read_tensor(name, to="torch")
    view = tensor[10:90:2].reshape(4, 10).t()
    shared = tensor.numpy()[:7]
    storage = tensor.untyped_storage()
    del reader, tensor
    churn()
    assert torch.equal(view, torch.from_numpy(ARRAYS[name])[10:90:2].reshape(4, 10).t())
    assert_same(shared, ARRAYS[name][:7])
    assert bytes(storage[:8]) == ARRAYS[name].tobytes()[:8]


def test_one_of_many_arrays_outlives_the_others(file: Path, mode: str) -> None:
    found = ztn.load_file(file, mode=mode)
    for name in ARRAYS:
        kept = ztn.load_file(file, mode=mode)[name]
        churn()
        assert_same(kept, ARRAYS[name])
    del found


def test_rows_outlive_their_reader(file: Path, opened: Open) -> None:
    for name, array in ARRAYS.items():
        with opened(file) as reader:
            rows = reader.read_rows(name, 3, 50)
        del reader
        churn()
        assert_same(rows, array[3:50])


def test_parts_of_a_sparse_matrix_outlive_it(path: Path, opened: Open) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    given = sparse.random(2000, 1000, 0.1, format="csr", random_state=2)
    with Writer(path) as writer:
        writer.add_tensor("s", given)
    with opened(path) as reader:
        data, indices = reader["s"].data, reader["s"].indices
    del reader
    churn()
    assert_same(data, given.data)
    assert_same(indices, given.indices)


# Privacy.


@pytest.mark.parametrize("name", ARRAYS)
def test_writing_changes_neither_file_nor_later_reads(name: str, file: Path, opened: Open) -> None:
    before = file.read_bytes()
    with opened(file) as reader:
        first, second = reader[name], reader[name]
        first[:] = -1
        assert (first == -1).all()
        assert_same(second, ARRAYS[name])
        assert_same(reader[name], ARRAYS[name])
        assert_same(reader.read_rows(name, 0, 100), ARRAYS[name][:100])
        reader.verify()
    assert file.read_bytes() == before
    with opened(file) as reader:
        assert_same(reader[name], ARRAYS[name])


def test_writing_to_one_array_changes_no_other(file: Path, mode: str) -> None:
    for read in (
        lambda: ztn.load_file(file, mode=mode),
        lambda: dict(zip(ARRAYS, Reader(file, mode=mode).read_tensors(list(ARRAYS)))),
    ):
        for name in ARRAYS:
            found = read()
            found[name][:] = 0
            for other in set(ARRAYS) - {name}:
                assert_same(found[other], ARRAYS[other])


def test_writing_never_reaches_bytes_that_were_given(file: Path) -> None:
    data = file.read_bytes()
    before = bytearray(data)
    for array in ztn.load(data).values():
        array[:] = 0
    assert data == before


@pytest.mark.parametrize("name", ARRAYS)
def test_writing_to_a_tensor_changes_neither_file_nor_later_reads(name: str, file: Path, opened: Open) -> None:
    torch = pytest.importorskip("torch")
    before = file.read_bytes()
    with opened(file) as reader:
        reader.read_tensor(name, to="torch").zero_()
        assert torch.equal(reader.read_tensor(name, to="torch"), torch.from_numpy(ARRAYS[name]))
    assert file.read_bytes() == before


# Replaced and removed files.


def replace(file: Path) -> None:
    with Writer(file) as writer:
        for name, array in ARRAYS.items():
            writer.add_tensor(name, np.zeros_like(array))


@pytest.mark.parametrize(
    "change", [replace, os.remove, lambda file: os.rename(file, f"{file}.old")], ids=["replaced", "removed", "renamed"]
)
def test_what_was_loaded_stays_whatever_happens_to_the_name(change: Any, file: Path, mode: str) -> None:
    reader = Reader(file, mode=mode)
    early = reader.read_tensors(list(ARRAYS))
    loaded = ztn.load_file(file, mode=mode)
    change(file)
    for name, array in zip(ARRAYS, early):
        assert_same(array, ARRAYS[name])
        assert_same(loaded[name], ARRAYS[name])
        # The reader has the file open, whatever its name is now.
        assert_same(reader[name], ARRAYS[name])


def test_a_file_that_is_cut_while_it_is_open_for_reading_is_an_error(file: Path) -> None:
    with Reader(file, mode="read") as reader:
        kept = reader["large"]
        os.truncate(file, 4096)
        with pytest.raises(ztensor.FormatError, match="truncated while it was open"):
            reader["large"]
        assert_same(kept, ARRAYS["large"])


@pytest.mark.parametrize("mode", ["read", "mmap"])
def test_damage_in_a_file_that_was_cut_is_told_as_that(mode: str, file: Path) -> None:
    # A read that goes on while the file is cut may get zeros for what is gone.
    with Reader(file, mode=mode) as reader:
        offset, size = reader.metadata("large").offset, file.stat().st_size
        with file.open("r+b") as stream:
            stream.seek(offset)
            stream.write(bytes(100))
        with pytest.raises(ztensor.ChecksumError):
            reader.read_tensor("large", verify=True)
        os.truncate(file, size - 1)
        with pytest.raises(ztensor.FormatError, match=f"has {size - 1} bytes of {size}: it was truncated while it was open"):
            reader.read_tensor("large", verify=True)


CUT = """
import os, sys, ztensor

with ztensor.Reader(sys.argv[1], mode=sys.argv[2]) as reader:
    array = reader["large"]
os.truncate(sys.argv[1], 4096)
print(array[-1])
"""


def test_a_file_that_is_cut_ends_the_process_that_has_it_mapped(file: Path) -> None:
    # As SECURITY.md says: it is what the way out, mode="read", is for.
    source = str(Path(ztensor.__file__).parents[1])
    search = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    whole = file.read_bytes()
    for mode, status in (("mmap", -signal.SIGBUS), ("read", 0)):
        file.write_bytes(whole)
        done = subprocess.run(
            [sys.executable, "-c", CUT, str(file), mode],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": search},
        )
        assert done.returncode == status, done.stderr
        assert done.stdout == ("" if status else f"{ARRAYS['large'][-1]}\n")


def test_what_was_read_into_memory_does_not_see_the_file_change(file: Path) -> None:
    array = Reader(file, mode="read")["large"]
    with open(file, "r+b") as raw:
        raw.write(bytes(file.stat().st_size))
    assert_same(array, ARRAYS["large"])


# Memory goes when it is let go.

needs_maps = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="no /proc here")


@needs_maps
def test_a_mapping_goes_with_its_last_view(file: Path) -> None:
    assert mapped(file) == 0
    whole, large = pages(file.stat().st_size), pages(ARRAYS["large"].nbytes)
    with Reader(file) as reader:
        assert mapped(file) == whole
        array = reader["large"]
        assert mapped(file) == whole + large
    assert mapped(file) == large
    view = array[:10]
    del array
    gc.collect()
    assert mapped(file) == large
    del view
    gc.collect()
    assert mapped(file) == 0


@needs_maps
@pytest.mark.parametrize("name", ["small", "zstd"])
def test_an_array_that_was_copied_or_decoded_holds_no_mapping(name: str, file: Path) -> None:
    with Reader(file) as reader:
        array = reader[name]
    assert mapped(file) == 0
    assert_same(array, ARRAYS[name])


@needs_maps
def test_nothing_is_mapped_in_read_mode(file: Path) -> None:
    with Reader(file, mode="read") as reader:
        array = reader["large"]
        assert mapped(file) == 0
    assert_same(array, ARRAYS["large"])


@needs_maps
def test_every_large_array_has_a_mapping_of_its_own(path: Path) -> None:
    with Writer(path) as writer:
        for at in range(4):
            writer.add_tensor(f"t{at}", np.full(LARGE, at, np.uint8))
    with Reader(path) as reader:
        arrays = [reader[f"t{at}"] for at in range(4)]
    for left in (4, 3, 2, 1):
        assert mapped(path) == left * pages(LARGE)
        arrays.pop()
        gc.collect()
    assert mapped(path) == 0


@needs_maps
def test_one_mapping_serves_a_whole_file_and_goes_part_by_part(path: Path) -> None:
    with Writer(path) as writer:
        for at in range(50):
            writer.add_tensor(f"t{at}", np.full(LARGE, at, np.uint8))
    found = ztn.load_file(path)
    whole = mapped(path)
    assert 50 * LARGE <= whole <= pages(path.stat().st_size)
    kept = found["t7"][:3]
    del found
    gc.collect()
    # Its neighbours stay with it, up to a few MiB.
    assert LARGE <= mapped(path) <= 4 * 1024 * 1024
    assert_same(kept, np.full(3, 7, np.uint8))
    del kept
    gc.collect()
    assert mapped(path) == 0


@needs_maps
def test_a_tensors_mapping_goes_with_its_storage(path: Path) -> None:
    pytest.importorskip("torch")
    import ztensor.torch as ztt

    ztn.save_file({"a": np.ones(LARGE), "b": np.ones(LARGE)}, path)
    found = ztt.load_file(path)
    view = found["a"][3:5]
    del found
    gc.collect()
    assert mapped(path) > 0
    del view
    gc.collect()
    assert mapped(path) == 0


@needs_maps
def test_a_reader_that_fails_to_open_holds_nothing(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-30] ^= 1
    file.write_bytes(data)
    for _ in range(3):
        with pytest.raises(ztensor.FormatError):
            Reader(file)
    gc.collect()
    assert mapped(file) == 0


def resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@needs_maps
@pytest.mark.parametrize("kind", ["mmap", "read", "zstd"])
def test_memory_goes_with_the_arrays(kind: str, path: Path) -> None:
    size = 64 * 2**20
    ztn.save_file({"x": np.ones(size // 8), "y": np.zeros(10)}, path, compress=kind == "zstd")
    gc.collect()
    before = resident()
    for _ in range(3):
        found = ztn.load_file(path, mode="read" if kind == "read" else "mmap")
        found["x"] += 1
        held = resident() - before
        del found
        gc.collect()
    assert held > size * 0.9
    assert resident() - before < size * 0.3


def test_readers_and_arrays_are_no_cycles(file: Path) -> None:
    # Reference counts alone free them: nobody wants to wait for the garbage collector with gigabytes.
    gc.disable()
    try:
        reader = Reader(file)
        array = reader["large"]
        gone = [weakref.ref(reader), weakref.ref(array)]
        del reader, array
        assert [ref() for ref in gone] == [None, None]
        assert not os.path.exists("/proc/self/maps") or mapped(file) == 0
    finally:
        gc.enable()


def test_no_file_stays_open(file: Path) -> None:
    def files() -> int:
        return len(os.listdir("/proc/self/fd"))

    if not os.path.exists("/proc/self/fd"):
        pytest.skip("no /proc here")
    before = files()
    kept = []
    for mode in ("mmap", "read"):
        for _ in range(20):
            with Reader(file, mode=mode) as reader:
                kept.append(reader["large"])
            with pytest.raises(ztensor.ZTensorError):
                Reader(file.parent, mode=mode)
    assert files() == before


# Storages.


def test_a_storage_is_exactly_as_large_as_its_tensor(file: Path, mode: str) -> None:
    pytest.importorskip("torch")
    import ztensor.torch as ztt

    for source in (ztt.load_file(file, mode=mode), ztt.load(file.read_bytes())):
        for name, tensor in source.items():
            assert tensor.storage_offset() == 0
            assert tensor.untyped_storage().nbytes() == ARRAYS[name].nbytes


@pytest.mark.parametrize("name", ARRAYS)
def test_torch_save_of_one_tensor_moves_that_tensor(name: str, file: Path, mode: str) -> None:
    torch = pytest.importorskip("torch")
    import ztensor.torch as ztt

    tensor = ztt.load_file(file, mode=mode)[name]
    out = io.BytesIO()
    torch.save(tensor, out)
    assert len(out.getvalue()) < ARRAYS[name].nbytes + 4096
    out.seek(0)
    assert_same_tensor(torch.load(out, weights_only=True), tensor)
    assert len(pickle.dumps(tensor)) < ARRAYS[name].nbytes + 4096


@pytest.mark.parametrize("name", ARRAYS)
def test_a_deep_copy_of_one_tensor_copies_that_tensor(name: str, file: Path, mode: str) -> None:
    torch = pytest.importorskip("torch")
    import ztensor.torch as ztt

    found = ztt.load_file(file, mode=mode)
    copied = copy.deepcopy(found[name])
    assert copied.untyped_storage().nbytes() == ARRAYS[name].nbytes
    found[name].zero_()
    assert torch.equal(copied, torch.from_numpy(ARRAYS[name]))


@pytest.mark.parametrize("name", ARRAYS)
def test_a_tensor_shared_between_processes_is_shared_alone(name: str, file: Path, mode: str) -> None:
    torch = pytest.importorskip("torch")
    import ztensor.torch as ztt

    found = ztt.load_file(file, mode=mode)
    found[name].share_memory_()
    assert found[name].is_shared()
    assert found[name].untyped_storage().nbytes() == ARRAYS[name].nbytes
    for other, tensor in found.items():
        assert other == name or not tensor.is_shared()
        assert torch.equal(tensor, torch.from_numpy(ARRAYS[other]))


def test_a_pickled_array_is_that_array(file: Path, mode: str) -> None:
    for name, array in ztn.load_file(file, mode=mode).items():
        assert len(pickle.dumps(array)) < ARRAYS[name].nbytes + 4096
        assert_same(pickle.loads(pickle.dumps(array)), ARRAYS[name])
