"""Damage is found: in compressed data always, in raw data on request, in a whole file with verify()."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import LARGE, assert_same, flip

import ztensor
import ztensor.numpy as ztn
from ztensor import Reader, Writer

Open = Callable[..., Reader]

ARRAYS = {
    "first": np.arange(1000),
    "raw": np.arange(LARGE, dtype=np.int32),
    "zstd": np.arange(LARGE, dtype=np.int64),
    "last": np.arange(50, dtype=np.uint8),
}


@pytest.fixture
def file(path: Path) -> Path:
    with Writer(path) as writer:
        for name, array in ARRAYS.items():
            writer.add_tensor(name, array, compress=name == "zstd")
    return path


def damage(path: Path, name: str, place: float) -> None:
    """Flip a bit in a tensor's stored bytes: at 0 the first byte, at 1 the last."""
    meta = Reader(path).metadata(name)
    flip(path, meta.offset + int(place * (meta.size - 1)))


PLACES = [0.0, 0.31, 0.77, 1.0]


def test_a_whole_file_is_verified(file: Path, opened: Open) -> None:
    with opened(file) as reader:
        assert reader.verify() is None
        reader.verify(None)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ARRAYS)
def test_verify_names_the_damaged_tensor(name: str, place: float, file: Path, opened: Open) -> None:
    damage(file, name, place)
    with opened(file) as reader:
        for progress in (None, lambda done, total: None):
            with pytest.raises(ztensor.ChecksumError, match=f'tensor "{name}", component "data": '):
                reader.verify(progress)


@pytest.mark.parametrize("place", PLACES)
def test_damaged_compressed_data_is_never_given_out(place: float, file: Path, opened: Open) -> None:
    damage(file, "zstd", place)
    for verify in (False, True):
        with opened(file, verify=verify) as reader:
            for read in (
                lambda: reader["zstd"],
                lambda: reader.read_tensor("zstd", verify=False),
                lambda: reader.read_tensors(["first", "zstd"]),
                lambda: reader._load_all("numpy"),
            ):
                with pytest.raises(ztensor.ChecksumError, match='tensor "zstd"'):
                    read()
            assert_same(reader["raw"], ARRAYS["raw"])


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["raw", "last"])
def test_damaged_raw_data_is_found_on_request(name: str, place: float, file: Path, opened: Open) -> None:
    damage(file, name, place)
    with opened(file) as reader:
        assert (reader[name] != ARRAYS[name]).sum() == 1
        for read in (
            lambda: reader.read_tensor(name, verify=True),
            lambda: reader.read_tensors(["first", name], verify=True),
            lambda: reader.read_rows(name, 0, 1, verify=True),
            lambda: reader._load_all("numpy", verify=True),
        ):
            with pytest.raises(ztensor.ChecksumError, match=f'tensor "{name}"'):
                read()
    with opened(file, verify=True) as reader:
        with pytest.raises(ztensor.ChecksumError, match=f'tensor "{name}"'):
            reader[name]
        assert (reader.read_tensor(name, verify=False) != ARRAYS[name]).sum() == 1
        assert_same(reader["first"], ARRAYS["first"])


def test_loading_verifies_on_request(file: Path) -> None:
    damage(file, "raw", 0.5)
    assert set(ztn.load_file(file)) == set(ztn.load(file.read_bytes())) == set(ARRAYS)
    with pytest.raises(ztensor.ChecksumError, match='"raw"'):
        ztn.load_file(file, verify=True)
    with pytest.raises(ztensor.ChecksumError, match='"raw"'):
        ztn.load(file.read_bytes(), verify=True)
    pytest.importorskip("torch")
    import ztensor.torch as ztt

    assert set(ztt.load_file(file)) == set(ARRAYS)
    for load in (lambda: ztt.load_file(file, verify=True), lambda: ztt.load(file.read_bytes(), verify=True)):
        with pytest.raises(ztensor.ChecksumError, match='"raw"'):
            load()


def test_every_part_of_a_sparse_tensor_is_verified(path: Path) -> None:
    count = 1000
    with Writer(path) as writer:
        writer.add_sparse_csr("s", np.ones(count), np.arange(count), np.arange(count + 1), (count, count))
    start = Reader(path)[0].offset
    for role, offset in (("values", 3), ("indices", count * 8 + 200), ("indptr", count * 16 + 400)):
        flip(path, start + offset)
        with Reader(path, verify=True) as reader:
            for read in (reader.verify, lambda: reader["s"]):
                with pytest.raises(ztensor.ChecksumError, match=f'tensor "s", component "{role}"'):
                    read()
        flip(path, start + offset)
    Reader(path).verify()


def test_indices_that_damage_drove_outside_are_refused_even_unverified(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_sparse_csr("s", np.ones(4), np.arange(4), np.arange(5), (4, 4))
    flip(path, Reader(path)[0].offset + 64)
    with Reader(path) as reader, pytest.raises(ztensor.FormatError, match='tensor "s", component "indices"'):
        reader["s"]


def test_rows_touch_only_the_chunks_that_hold_them(path: Path, opened: Open) -> None:
    # Sixteen chunks of a MiB, one of them damaged: that is no business of the rows in the others.
    expected = np.random.default_rng(0).integers(0, 1000, (4096, 1024), np.int32)
    ztn.save_file({"x": expected}, path, compress=True)
    with Reader(path) as reader:
        meta = reader[0]
    sizes = expected.nbytes // 2**20
    assert sizes == 16
    flip(path, meta.offset + int(meta.size * 10.5 / sizes))
    with opened(path) as reader:
        good = [at for at in range(sizes) if rows_are(reader, at, expected)]
    assert good == [at for at in range(sizes) if at != 10]


def rows_are(reader: Reader, chunk: int, expected: Any) -> bool:
    """Whether the rows of a chunk can be read; what is read is right."""
    start, stop = chunk * 256, (chunk + 1) * 256
    try:
        found = reader.read_rows("x", start, stop)
    except ztensor.ChecksumError:
        return False
    assert_same(found, expected[start:stop])
    return True


def test_rows_of_raw_data_touch_only_their_bytes(path: Path, mode: str) -> None:
    ztn.save_file({"x": np.arange(100_000)}, path)
    with Reader(path) as reader:
        offset = reader[0].offset
    flip(path, offset + 8 * 60_000)
    with Reader(path, mode=mode) as reader:
        assert_same(reader.read_rows("x", 0, 60_000), np.arange(60_000))
        assert_same(reader.read_rows("x", 60_001, 100_000), np.arange(60_001, 100_000))
        with pytest.raises(ztensor.ChecksumError):
            # With verification, all of it is read.
            reader.read_rows("x", 0, 10, verify=True)


# Progress.


def test_progress_grows_to_the_whole(file: Path, opened: Open) -> None:
    seen: list[tuple[int, int]] = []
    threads = set()

    def progress(done: int, total: int) -> None:
        assert type(done) is int and type(total) is int
        seen.append((done, total))
        threads.add(threading.current_thread())

    with opened(file) as reader:
        reader.verify(progress)
        stored = sum(meta.size for meta in reader)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {stored}
    assert seen[-1] == (stored, stored)
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("answer", [None, True, 0, 1, "", "stop"], ids=repr)
def test_only_false_stops(answer: object, file: Path) -> None:
    Reader(file).verify(lambda done, total: answer)


def test_false_stops(file: Path, opened: Open) -> None:
    with opened(file) as reader:
        with pytest.raises(ztensor.CancelledError):
            reader.verify(lambda done, total: False)
        reader.verify()


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt, SystemExit, StopIteration])
def test_an_exception_in_the_callback_goes_through(
    kind: type[BaseException], file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raised = kind("from the callback")

    def progress(done: int, total: int) -> None:
        raise raised

    with Reader(file) as reader:
        with pytest.raises(kind) as caught:
            reader.verify(progress)
        assert caught.value is raised
        reader.verify()
    assert capfd.readouterr() == ("", "")


def test_the_callback_may_use_the_reader(file: Path, opened: Open) -> None:
    with opened(file) as reader:
        found = []
        reader.verify(lambda done, total: found.append(reader["first"]))
    for array in found:
        assert_same(array, ARRAYS["first"])


def test_a_callback_that_cannot_be_called_is_told(file: Path) -> None:
    with pytest.raises(TypeError):
        Reader(file).verify(5)
    with pytest.raises(TypeError):
        Reader(file).verify(lambda: None)


def test_every_thread_count_verifies(file: Path) -> None:
    damage(file, "zstd", 0.5)
    for threads in (1, 2, 9):
        with pytest.raises(ztensor.ChecksumError, match='"zstd"'):
            Reader(file, threads=threads).verify()
