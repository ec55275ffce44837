"""Arrays that another thread writes to while they are saved: a mistake of the caller, which never crashes anything."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ztensor
import ztensor.numpy as zn

SIZE = 2**21
SAVES = 100


@contextmanager
def writing(write: Callable[[int], None]) -> Iterator[None]:
    """Call `write` with 0, 1, 2 and so on in another thread, for as long as the block runs."""
    stop = threading.Event()

    def run() -> None:
        for at in itertools.count():
            if stop.is_set():
                return
            write(at)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def check_saves(save: Callable[[int, int], None], path: Path) -> None:
    """Save again and again, and check what came of it: all of it can be read, and `verify` may find a checksum."""
    for number in range(SAVES):
        level, threads = (0, 1, 3, 5, 11)[number % 5], 1 + number // 5 % 2
        save(level, threads)
        if number % 10 < 5:
            with ztensor.Reader(path) as reader:
                assert reader.read_tensor("a").nbytes == SIZE
                is_raw = reader.metadata("a").encoding == "raw"
                try:
                    reader.verify()
                except ztensor.ChecksumError as err:
                    assert is_raw and "changed while it was saved" in str(err)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "int32", "float32", "float64", "complex64"])
def test_numpy_arrays_may_change(dtype: str, tmp_path: Path) -> None:
    array = np.zeros(SIZE, np.uint8).view(dtype)
    data = array.view(np.uint8)
    rng = np.random.default_rng(5)
    contents: list[Any] = [
        rng.integers(0, 256, SIZE, np.uint8),
        rng.integers(0, 5, SIZE, np.uint8),
        np.tile(rng.integers(0, 256, 1024, np.uint8), SIZE // 1024),
        7,
        0,
    ]

    def write(at: int) -> None:
        start = at % 7 * SIZE // 7
        content = contents[at % len(contents)]
        data[start:] = content if isinstance(content, int) else content[start:]

    path = tmp_path / "changing.zt"
    with writing(write):
        check_saves(lambda level, threads: zn.save_file({"a": array}, path, compress=level, threads=threads), path)


def test_bools_may_change(tmp_path: Path) -> None:
    array = np.zeros(SIZE, np.bool_)
    path = tmp_path / "changing.zt"
    with writing(lambda at: array.__setitem__(slice(at % SIZE, None), at % 3 == 0)):
        check_saves(lambda level, threads: zn.save_file({"a": array}, path, compress=level, threads=threads), path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "int64"])
def test_torch_tensors_may_change(dtype: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    zt = pytest.importorskip("ztensor.torch")
    data = torch.zeros(SIZE, dtype=torch.uint8)
    tensor = data.view(getattr(torch, dtype))
    noise = torch.randint(0, 256, (SIZE,), dtype=torch.uint8)

    def write(at: int) -> None:
        start = at % 7 * SIZE // 7
        data[start:] = noise[start:] if at % 3 else at % 256

    path = tmp_path / "changing.zt"
    with writing(write):
        for number in range(SAVES // 2):
            zt.save_file({"a": tensor}, path, compress=(0, 1, 3, 11)[number % 4], threads=1 + number % 2)
            assert zt.load_file(path)["a"].shape == tensor.shape


def test_a_sparse_matrix_may_change(tmp_path: Path) -> None:
    sp = pytest.importorskip("scipy.sparse")
    count = 200_000
    matrix = sp.csr_matrix((np.ones(count), np.zeros(count, np.int32), np.array([0, count], np.int32)), shape=(1, 50))
    path = tmp_path / "changing.zt"

    def write(at: int) -> None:
        matrix.indices[at % count :] = at % 50
        matrix.data[:] = at

    with writing(write):
        for number in range(SAVES // 2):
            zn.save_file({"a": matrix}, path, compress=(0, 1, 3)[number % 3], threads=1 + number % 2)
            assert zn.load_file(path)["a"].shape == matrix.shape
