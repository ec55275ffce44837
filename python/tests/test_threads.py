"""One reader serves many threads, and no call that does real work holds the interpreter up."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import LARGE, assert_same, run_python

import ztensor
import ztensor.numpy as ztn
from ztensor import Reader, Writer

Open = Callable[..., Reader]

THREADS = 8


def run_together(work: Callable[[int], object], count: int = THREADS) -> None:
    """Run `work` on several threads that begin at one moment, and raise what any of them raises."""
    barrier = threading.Barrier(count)
    raised: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait()
            work(number)
        except BaseException as err:
            raised.append(err)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def turns() -> Iterator[int]:
    """Six turns, or as many as ZTENSOR_SOAK_SECONDS have room for."""
    end = time.monotonic() + float(os.environ.get("ZTENSOR_SOAK_SECONDS", "0"))
    turn = 0
    while turn < 6 or time.monotonic() < end:
        yield turn
        turn += 1


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(8)
    found: dict[str, Any] = {f"small{at}": rng.integers(0, 9, at + 1) for at in range(40)}
    found["large"] = rng.normal(size=LARGE)
    found["zstd"] = rng.integers(0, 9, LARGE * 4, dtype=np.int16)
    return found


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_eight_threads_read_one_reader(threads: int | None, path: Path, opened: Open) -> None:
    expected = arrays()
    with Writer(path) as writer:
        for name, array in expected.items():
            writer.add_tensor(name, array, compress=name == "zstd", attributes={"name": name})
    names = list(expected)

    with opened(path, verify=True, threads=threads) as reader:

        def work(number: int) -> None:
            rng = np.random.default_rng(number)
            for turn in turns():
                for at in rng.permutation(len(names)):
                    name = names[at]
                    array = reader[name]
                    assert_same(array, expected[name])
                    array[:] = number
                    meta = reader[int(at)]
                    assert meta == reader.metadata(name) and meta.attributes == {"name": name}
                    assert name in reader and f"{name}?" not in reader
                assert_same(reader.read_rows("zstd", 1000, 90_000), expected["zstd"][1000:90_000])
                for name, array in zip(names, reader.read_tensors(names)):
                    assert_same(array, expected[name])
                with pytest.raises(ztensor.TensorNotFoundError, match=f"missing {number} {turn}"):
                    # Messages belong to the thread that failed.
                    reader[f"missing {number} {turn}"]
                if turn == 0:
                    reader.verify()

        run_together(work)


def test_threads_may_close_a_reader_that_others_use(path: Path, mode: str) -> None:
    expected = np.arange(LARGE)
    ztn.save_file({"x": expected}, path)
    for _ in range(10):
        reader = Reader(path, mode=mode)

        def work(number: int) -> None:
            if number == 0:
                reader.close()
                return
            for _ in range(20):
                try:
                    found = reader["x"]
                except ztensor.StateError:
                    return
                assert_same(found, expected)

        run_together(work)


@pytest.mark.parametrize("end", ["finalize", "abandon"])
def test_a_writer_is_ended_only_after_what_another_thread_adds(end: str, tmp_path: Path) -> None:
    large = np.arange(4 << 20)
    for turn in turns():
        path, victim = tmp_path / f"{turn}.zt", tmp_path / f"{turn}.other"
        writer = Writer(path)
        started = threading.Event()

        def add(writer: Writer = writer, started: threading.Event = started) -> None:
            started.set()
            try:
                writer.add_tensor("x", large)
            except ztensor.StateError:
                pass

        thread = threading.Thread(target=add)
        thread.start()
        started.wait()
        getattr(writer, end)()
        # It gets the number of the file that was closed, should somebody write to that still.
        with open(victim, "wb"):
            thread.join()
        assert victim.stat().st_size == 0
        if end == "finalize":
            found = ztn.load_file(path, verify=True)
            if found:
                assert_same(found["x"], large)
        assert path.exists() == (end == "finalize")
        for left in tmp_path.iterdir():
            left.unlink()


def test_threads_that_use_one_writer_wait_for_each_other(path: Path) -> None:
    rng = np.random.default_rng(3)
    shared = rng.normal(size=1000)
    given = {f"{number}-{at}": rng.normal(size=3000) for number in range(THREADS) for at in range(20)}
    with Writer(path) as writer:

        def work(number: int) -> None:
            for at in range(10):
                writer.add_tensor(f"{number}-{at}", given[f"{number}-{at}"])
            # Many at once, two of them the same memory.
            rest = {f"{number}-{at}": given[f"{number}-{at}"] for at in range(10, 20)}
            writer.add_tensors({**rest, f"{number}-tied": shared, f"{number}-too": shared})

        run_together(work)
    found = ztn.load_file(path, verify=True)
    assert len(found) == len(given) + 2 * THREADS
    for name, array in found.items():
        assert_same(array, given.get(name, shared))


def test_threads_write_files_of_their_own(tmp_path: Path) -> None:
    expected = arrays()
    whole = ztn.save(expected, compress=True)

    def work(number: int) -> None:
        path = tmp_path / f"{number}.zt"
        ztn.save_file(expected, path, compress=True)
        assert path.read_bytes() == whole
        assert ztn.save(expected, compress=True) == whole

    run_together(work)


def test_writers_of_one_name_do_not_mix(path: Path) -> None:
    # The last to finish wins, whole.
    def work(number: int) -> None:
        for _ in range(5):
            ztn.save_file({f"t{at}": np.full(5000, number) for at in range(10)}, path, fsync=False)

    run_together(work)
    found = ztn.load_file(path, verify=True)
    assert len(found) == 10
    assert len({int(value) for array in found.values() for value in np.unique(array)}) == 1
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_readers_see_whole_files_while_one_is_replaced(path: Path, mode: str) -> None:
    ztn.save_file({"a": np.zeros(LARGE), "b": np.zeros(LARGE)}, path)
    done = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            for at in range(1, 15):
                ztn.save_file({"a": np.full(LARGE, at), "b": np.full(LARGE, at)}, path, fsync=False)
            done.set()
        while not done.is_set():
            with Reader(path, mode=mode, verify=True) as reader:
                a, b = reader["a"], reader["b"]
            assert a[0] == b[0] and (a == a[0]).all() and (b == b[0]).all()

    try:
        run_together(work, 3)
    finally:
        done.set()


FORK = """
import os, signal, sys
import numpy as np, ztensor, ztensor.numpy as ztn

readers = [ztensor.Reader(sys.argv[1], mode=mode, threads=4) for mode in ("mmap", "read")]
loaded = [reader["x"] for reader in readers]
for reader in readers:
    reader.verify()
child = os.fork()
if child == 0:
    # A deadlock ends here.
    signal.alarm(60)
    expected = np.arange(2_000_000)
    for reader, array in zip(readers, loaded):
        assert (array == expected).all() and (reader["x"] == expected).all() and (reader["z"] == expected).all()
        array[:] = 0
        reader.verify()
    ztn.save_file({"x": expected}, sys.argv[1] + ".child", compress=True, threads=4)
    assert (ztn.load_file(sys.argv[1] + ".child")["x"] == expected).all()
    os._exit(0)
print(os.waitpid(child, 0)[1], [int(array[-1]) for array in loaded], [int(reader["z"][-1]) for reader in readers])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_reads_and_writes_with_what_its_parent_opened(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", np.arange(2_000_000))
        writer.add_tensor("z", np.arange(2_000_000), compress=True)
    assert run_python(FORK, path) == "0 [1999999, 1999999] [1999999, 1999999]\n"
    assert_same(ztn.load_file(f"{path}.child")["x"], np.arange(2_000_000))


# The interpreter.


@pytest.fixture
def no_switching() -> Iterator[None]:
    """The interpreter is left only by those who let go of it."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def work_of(kind: str, path: Path) -> Callable[[], object]:
    """A call that has real work to do."""
    array = np.random.default_rng(0).normal(size=3_000_000).astype(np.float32)
    if kind == "add":

        def add() -> None:
            writer = Writer(path)
            writer.add_tensor("x", array, compress=9)
            writer.abandon()

        return add
    if kind == "save":
        return lambda: ztn.save({"x": array}, compress=9)
    ztn.save_file({"x": array, "y": array[:1000]}, path, compress=True)
    reader = Reader(path, verify=True)
    if kind == "read_tensor":
        return lambda: reader["x"]
    if kind == "read_rows":
        return lambda: reader.read_rows("x", 0, 2_500_000)
    if kind == "verify":
        return reader.verify
    return lambda: ztn.load_file(path)


@pytest.mark.usefixtures("no_switching")
@pytest.mark.parametrize("kind", ["add", "save", "read_tensor", "read_rows", "verify", "load_file"])
def test_other_threads_run_during_a_call(kind: str, path: Path) -> None:
    call = work_of(kind, path)
    steps = 0
    during: list[int] = []

    def run() -> None:
        before = steps
        call()
        during.append(steps - before)

    for _ in range(20):
        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive():
            # Only here does this thread let the other one in.
            time.sleep(0)
            steps += 1
        if during[-1] > 0:
            break
    # A call that holds the interpreter shows no step at all, however often it is tried.
    assert during[-1] > 0
