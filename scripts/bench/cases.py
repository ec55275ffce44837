"""The measurements: `python cases.py CASE SUBJECT FOLDER` makes one, in this process, and prints a line of JSON.

    seconds          of the operation alone; what it needs is made before
    bytes            of the tensors that it moves
    stored           bytes of the file or the compressed data, or null
    peak_rss_delta   bytes that resident memory rose above what it was just before the operation
    rss_delta        bytes that it is higher after the operation, while the result is alive
    check            a sum over the data touched: the same for all subjects of a case, or null

Operations that load are timed with the data touched. A first operation on a few bytes, which imports and sets up what is
made on demand, is not timed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import mmap
import operator
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import abi
import subjects
import workloads
from subjects import PEER_1, PEER_2, PEER_12, Codec, Files
from workloads import Work

PAGE = 4096


@dataclass
class Operation:
    """What is measured, with all that it needs made already."""

    run: Callable[[], Any]
    #: The bytes of the tensors, the bytes stored, and the sum over the data, found from the result afterwards.
    bytes: Callable[[Any], int]
    stored: Callable[[Any], int] | None = None
    check: Callable[[Any], int | None] | None = None


@dataclass(frozen=True)
class Case:
    """One question to several subjects. `factor` multiplies the runs, for what differs much from run to run; `once` is
    for what is the same every time.

    With `anew`, the file is made again right before each run, with no other beside it: files that are made one after the
    other lie in different memory, in pages that are more or less scattered, and one may be read a fifth slower than another
    whoever reads it. So all come to lie in the same memory, the one that the last file left. `at_hand` says how many bytes
    of memory the machine is to have at hand for an operation that takes memory of its own.
    """

    workload: str
    subjects: dict[str, Callable[[Work], Operation]]
    factor: int = 1
    once: bool = False
    anew: bool = False
    at_hand: int = 0


# Touching.


def memory(address: int, size: int, dtype: str = "u1") -> Any:
    """An array over memory that somebody else keeps alive."""
    import numpy as np

    return np.frombuffer((ctypes.c_ubyte * size).from_address(address), dtype)


def places(tensors: dict[str, Any]) -> tuple[Any, Any]:
    """Addresses and sizes of the tensors, torch or NumPy, as two arrays: an object of Python for each would be as much work as
    to load a small tensor.
    """
    import numpy as np

    values = list(tensors.values())
    if values and hasattr(values[0], "data_ptr"):
        starts = map(operator.methodcaller("data_ptr"), values)
    else:
        starts = (value.__array_interface__["data"][0] for value in values)
    sizes = map(operator.attrgetter("nbytes"), values)
    return np.fromiter(starts, np.int64, len(values)), np.fromiter(sizes, np.int64, len(values))


def whole(tensors: dict[str, Any], dtype: str = "u1") -> Iterator[Any]:
    """An array over all bytes of each tensor, but for those at the end that fill no element."""
    import numpy as np

    width = np.dtype(dtype).itemsize
    for start, size in zip(*(array.tolist() for array in places(tensors))):
        yield memory(start, size // width * width, dtype)


def touch(tensors: dict[str, Any]) -> int:
    """Read one byte of every 4096 of each tensor, and its last. Done for all tensors at once, so that the time is the
    loader's and the page faults', not that of a call per tensor.
    """
    import numpy as np

    starts, sizes = places(tensors)
    pages = (sizes + PAGE - 1) // PAGE
    first = np.repeat(np.cumsum(pages) - pages, pages)
    addresses = np.repeat(starts, pages) + (np.arange(len(first)) - first) * PAGE
    lasts = starts + sizes - 1
    everything = memory(PAGE, (1 << 47) - PAGE)  # all that a process can address, as one array
    return int(sum(everything[at - PAGE].sum(dtype=np.int64) for at in (addresses, lasts)))


def sum_all(tensors: dict[str, Any]) -> int:
    """Sum every byte of each tensor, as 64-bit numbers."""
    return sum(int(array.sum()) for array in whole(tensors, "u8")) % (1 << 64)


def leave(tensors: dict[str, Any]) -> int:
    """Touch nothing: for what is owned memory already, where the peak of memory counts."""
    return 0


def check_storages(tensors: dict[str, Any]) -> None:
    """Every torch tensor has a storage of its own, of its size."""
    for name, tensor in tensors.items():
        if tensor.untyped_storage().nbytes() != tensor.nbytes:
            raise AssertionError(f"{name} has {tensor.nbytes} bytes in a storage of {tensor.untyped_storage().nbytes()}")


def total(tensors: dict[str, Any]) -> int:
    """The bytes of a dictionary of tensors."""
    return sum(tensor.nbytes for tensor in tensors.values())


# Saving and loading files.

Make = Callable[[Work], dict[str, Any]]


def prepare(work: Work, make: Make, files: Files) -> dict[str, Any]:
    """The workload's tensors as a format takes them."""
    tensors = make(work)
    return workloads.as_torch(tensors) if files.torch else tensors


def rehearse(work: Work, files: Files, save: Any, load: Any = None) -> None:
    """Save, and load, a few bytes."""
    tensors = prepare(work, lambda _: workloads.many(4), files)
    path = work.folder / "rehearsal"
    save(tensors, path)
    if load:
        touch(load(path))
    path.unlink()


def saving(make: Make, files: Files, existing: bool = False) -> Callable[[Work], Operation]:
    """Save a dictionary to a fresh name, or over a file of that size."""

    def setup(work: Work) -> Operation:
        tensors = prepare(work, make, files)
        save = files.save()
        rehearse(work, files, save)
        path = work.folder / "destination"
        path.unlink(missing_ok=True)
        if existing:
            with open(path, "wb") as file:
                left = total(tensors)
                while left:
                    left -= file.write(bytes(min(left, workloads.MIB)))

        def stored(_: Any) -> int:
            size = path.stat().st_size
            path.unlink()
            return size

        return Operation(lambda: save(tensors, path), lambda _: total(tensors), stored)

    return setup


def loading(
    make: Make, files: Files, name: str, use: Callable[[Any], int] = touch, own: bool = False, sums: bool = True
) -> Callable[[Work], Operation]:
    """Load a file of that name into a dictionary and touch it. With `own`, each tensor has to have its own storage."""

    def setup(work: Work) -> Operation:
        save, load = files.save(), files.load()
        path = work.file(name, lambda path: save(prepare(work, make, files), path))
        rehearse(work, files, save, load)

        def run() -> tuple[dict[str, Any], int]:
            tensors = load(path)
            return tensors, use(tensors)

        def check(result: tuple[dict[str, Any], int]) -> int | None:
            if own:
                check_storages(result[0])
            return result[1] if sums else None

        return Operation(run, lambda result: total(result[0]), lambda _: path.stat().st_size, check)

    return setup


# Opening.


def tiny_file(work: Work, suffix: str) -> Path:
    """The tiny workload as ztensor and safetensors files."""
    return many_file(work, work.size(100_000), suffix)


def many_file(work: Work, count: int, suffix: str) -> Path:
    """`count` tensors of 16 bytes as a ztensor or safetensors file."""

    def make(path: Path) -> None:
        if suffix == "safetensors":
            workloads.write_safetensors(path, workloads.many(count))
        else:
            from ztensor.numpy import save_file

            save_file(workloads.many(count), path, fsync=False)

    return work.file(f"{count}.{suffix}", make)


def open_ztensor(path: Path) -> Any:
    from ztensor import Reader

    return Reader(path)


def open_safetensors(path: Path) -> Any:
    from safetensors import safe_open

    return safe_open(path, framework="np")


def open_core(path: Path) -> Any:
    """The C function alone."""
    from ztensor._ffi import ffi, lib

    out = ffi.new("ZtReader **")
    name = os.fsencode(path)
    if lib.zt_reader_open(name, lib.ZT_READ_MMAP, 0, out):
        raise OSError(ffi.string(lib.zt_last_error_message()).decode())
    return out


def opening(opener: Callable[[Path], Any], suffix: str, count: int) -> Callable[[Work], Operation]:
    """Open a file of so many tensors."""

    def setup(work: Work) -> Operation:
        path = many_file(work, work.size(count), suffix)
        first = opener(many_file(work, 4, suffix))
        del first
        return Operation(lambda: opener(path), lambda _: work.size(count) * 16, lambda _: path.stat().st_size)

    return setup


def opening_one(opener: Callable[[Path], Any], read: str, suffix: str) -> Callable[[Work], Operation]:
    """Open the tiny file and read one tensor from its middle."""

    def setup(work: Work) -> Operation:
        path = tiny_file(work, suffix)
        middle = f"tensor.{work.size(100_000) // 2:07}"

        def run(path: Path = path, name: str = middle) -> Any:
            return {name: getattr(opener(path), read)(name)}

        run(many_file(work, 4, suffix), "tensor.0000002")
        return Operation(run, total, lambda _: path.stat().st_size, sum_all)

    return setup


def open_peer(path: Path) -> Any:
    import ztensor

    return ztensor.open(str(path))


def opening_older(
    write: Callable[[Path, dict[str, Any]], None], opener: Callable[[Path], Any], name: str, read: bool
) -> Callable[[Work], Operation]:
    """Open a file of an older generation, and with `read` list its tensors and read one from its middle. Only the peer can
    write it: it is the first subject, whose warm-up does.
    """

    def setup(work: Work) -> Operation:
        import numpy as np

        is_ours = opener is open_ztensor
        files = []
        for count in (4, work.size(100_000)):
            if is_ours and not (work.folder / f"{name}.{count}.zt").exists():
                raise RuntimeError("the peer that writes the file failed")
            files.append(work.file(f"{name}.{count}.zt", lambda path, count=count: write(path, workloads.many(count))))
        few, path = files
        middle = f"tensor.{work.size(100_000) // 2:07}"

        def run(path: Path = path, name: str = middle) -> Any:
            reader = opener(path)
            names = list(reader.keys())
            assert name in names
            tensor = reader[name]
            # That of release 2 speaks DLPack alone.
            return {name: tensor if isinstance(tensor, np.ndarray) else np.from_dlpack(tensor)}

        run(few, "tensor.0000002")
        if not read:
            return Operation(lambda: opener(path), lambda _: 0, lambda _: path.stat().st_size)
        return Operation(run, total, lambda _: path.stat().st_size, sum_all)

    return setup


def importing(module: str) -> Callable[[Work], Operation]:
    """Import a module in a fresh interpreter; the time is that of the import, as the interpreter itself finds it."""

    def setup(work: Work) -> Operation:
        code = f"import time; start = time.perf_counter(); import {module}; print(time.perf_counter() - start)"

        def run() -> float:
            return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout)

        return Operation(run, lambda _: 0)

    return setup


# Compression.


def rehearsal(codec: Codec) -> Any:
    """A few bytes to compress, so that what is set up on demand is; of bfloat16 too where arrays of it are made, since that is
    in a module of its own.
    """
    import ml_dtypes
    import numpy as np

    few = np.sin(np.arange(2048, dtype=np.float32))
    return given(codec, {"few": few} if codec.whole else {"few": few, "half": few.astype(ml_dtypes.bfloat16)})


def given(codec: Codec, arrays: dict[str, Any]) -> Any:
    """Arrays as a codec takes them: as they are, or all as one."""
    import numpy as np

    if not codec.whole:
        return arrays
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    return np.concatenate([array.reshape(-1) for array in arrays.values()])


def compressing(make: Make, codec: Codec, threads: int) -> Callable[[Work], Operation]:
    """Compress arrays to bytes, in memory."""

    def setup(work: Work) -> Operation:
        arrays = make(work)
        size = total(arrays)
        data = given(codec, arrays)
        compress = codec.compress(threads)
        compress(rehearsal(codec))
        return Operation(lambda: compress(data), lambda _: size, len)

    return setup


def decompressing(make: Make, codec: Codec, name: str, threads: int) -> Callable[[Work], Operation]:
    """Decompress such bytes to memory, and touch it."""

    def setup(work: Work) -> Operation:
        def packed() -> bytes:
            return codec.compress(threads)(given(codec, make(work)))

        data = work.bytes(name, packed)
        decompress = codec.decompress(threads)
        decompress(codec.compress(threads)(rehearsal(codec)))

        def run() -> dict[str, Any]:
            found = decompress(data)
            if codec.whole:
                import numpy as np

                found = {"": np.frombuffer(found, np.uint8)}
            touch(found)
            return found

        return Operation(run, total, lambda _: len(data), byte_sum)

    return setup


def byte_sum(arrays: dict[str, Any]) -> int:
    """The sum of all bytes."""
    import numpy as np

    return sum(int(array.sum(dtype=np.int64)) for array in whole(arrays))


def graph_ztensor(dtype: str) -> Callable[[Work], Operation]:
    """Save a CSR matrix of ones, compressed. Counted as data are the column indices alone, as stored all components."""

    def setup(work: Work) -> Operation:
        import numpy as np
        from ztensor import Reader, Writer

        indices, starts, shape = workloads.graph(work, dtype)
        values = np.ones(len(indices), np.uint8)
        path = work.folder / "destination"

        def run() -> None:
            with Writer(path, fsync=False) as writer:
                writer.add_sparse_csr("graph", values, indices, starts, shape, compress=True)

        def stored(_: Any) -> int:
            with Reader(path) as reader:
                return reader.metadata("graph").size

        run()
        path.unlink()
        return Operation(run, lambda _: indices.nbytes, stored)

    return setup


def graph_indices(dtype: str) -> Make:
    """The column indices as a plain array, for those that have no sparse matrices."""
    return lambda work: {"indices": workloads.graph(work, dtype)[0]}


# Memory.


def status(name: str) -> int:
    """A field of /proc/self/status that counts memory, in bytes."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    raise KeyError(name)


# The table.


def saves(make: Make, existing: bool, **files: Files) -> dict[str, Callable[[Work], Operation]]:
    """The same save for several formats."""
    return {NAMES[name]: saving(make, one, existing) for name, one in files.items()}


NAMES = {
    "ztensor": "ztensor",
    "safetensors": "safetensors",
    "torch": "torch.save",
    "savez": "np.savez",
    "peer_1": PEER_1,
    "peer_2": PEER_2,
    "pwrite": "bare pwrite",
    "pwrite_in_place": "bare pwrite in place",
}
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
#: More memory than compression and decompression in memory take.
AT_HAND = 512 * workloads.MIB
#: More memory than a model takes, in memory of its own or as a file on tmpfs.
AT_HAND_FILE = 3072 * workloads.MIB
COUNTS = (1_000, 10_000, 100_000, 1_000_000)
CODECS = {
    "ztensor": subjects.ZTENSOR_CODEC,
    "zipnn": subjects.ZIPNN,
    "zstd-3": subjects.ZSTD,
    "blosc2": subjects.BLOSC2,
}


def levels(workload: str, make: Make) -> Case:
    """Levels 19 and 3 on the first 8 MiB: level 19 takes a second for each, and chunks do not know of each other."""

    def part(work: Work) -> dict[str, Any]:
        found, left = {}, 8 * workloads.MIB
        for name, array in make(work).items():
            found[name] = array.reshape(-1)[: left // array.itemsize].copy()
            left -= found[name].nbytes
            if left < array.itemsize:
                break
        return found

    both = {"ztensor": subjects.ZTENSOR_19, "ztensor level 3": subjects.ZTENSOR_CODEC}
    threads = os.cpu_count() or 1
    return Case(
        workload,
        {name: compressing(part, codec, threads) for name, codec in both.items()},
        once=True,
        at_hand=AT_HAND,
    )


def weight_cases() -> dict[str, Case]:
    """Compression of real weights, at one and two threads, and at level 19."""
    found = {}
    for short, dtype in DTYPES.items():
        make = lambda work, dtype=dtype: workloads.weights(work, dtype)
        for threads in (1, 2):
            found[f"weights {short} compress, threads {threads}"] = Case(
                "weights",
                {name: compressing(make, codec, threads) for name, codec in CODECS.items()},
                factor=2,
                at_hand=AT_HAND,
            )
            found[f"weights {short} decompress, threads {threads}"] = Case(
                "weights",
                {name: decompressing(make, codec, f"{short}.{name}", threads) for name, codec in CODECS.items()},
                factor=2,
                at_hand=AT_HAND,
            )
        found[f"weights {short} level 19"] = levels("weights", make)
    return found


def graph_cases() -> dict[str, Case]:
    """Compression of a sparse matrix' indices."""
    return {
        f"graph {dtype} compress": Case(
            "graph",
            {
                "ztensor": graph_ztensor(dtype),
                "zstd-3": compressing(graph_indices(dtype), subjects.ZSTD, 1),
                "blosc2": compressing(graph_indices(dtype), subjects.BLOSC2, os.cpu_count() or 1),
            },
            at_hand=AT_HAND,
        )
        for dtype in ("int64", "int32")
    }


def bag_cases() -> dict[str, Case]:
    """Compression of the mixed bag on one thread, and at level 19 on all."""
    found = {}
    for name in workloads.BAG:
        make = lambda work, name=name: {"data": workloads.bag(work, name)}
        both = {"ztensor": subjects.ZTENSOR_CODEC, "zstd-3": subjects.ZSTD}
        found[f"bag {name} compress"] = Case(
            "bag",
            {subject: compressing(make, codec, 1) for subject, codec in both.items()},
            factor=2,
            at_hand=AT_HAND,
        )
        found[f"bag {name} decompress"] = Case(
            "bag",
            {subject: decompressing(make, codec, f"{name}.{subject}", 1) for subject, codec in both.items()},
            factor=2,
            at_hand=AT_HAND,
        )
        found[f"bag {name} level 19"] = levels("bag", make)
    return found


def index_cases() -> dict[str, Case]:
    """The time to open files of more and more tensors."""
    return {
        f"open {count} tensors": Case(
            "index",
            {
                "ztensor core": opening(open_core, "zt", count),
                "ztensor": opening(open_ztensor, "zt", count),
                "safetensors": opening(open_safetensors, "safetensors", count),
            },
            at_hand=AT_HAND,
        )
        for count in COUNTS
    }


def older_cases() -> dict[str, Case]:
    """Files of the public package's generations, by its newest release of each."""
    peers = {"1.2": (PEER_12, subjects.write_peer_12), "2": (PEER_2, subjects.write_peer_2)}
    return {
        f"open generation {name}{' and read one' if read else ''}": Case(
            "older",
            {
                peer: opening_older(write, open_peer, name, read),
                "ztensor": opening_older(write, open_ztensor, name, read),
            },
        )
        for name, (peer, write) in peers.items()
        for read in (False, True)
    }


def abi_call(function: str, language: str) -> Callable[[Work], Operation]:
    """A single call of the C ABI, many times over; the time is that of one."""

    def setup(work: Work) -> Operation:
        path = work.file("small.zt", abi.small_file)
        if language == "C":
            program = abi.c_program(work.folder)
            return Operation(lambda: abi.seconds(program, "call", function, path), lambda _: 0)
        call = abi.cffi_calls(path)[function]
        return Operation(lambda: abi.cffi_seconds(call), lambda _: 0)

    return setup


def abi_tiny(action: str, language: str) -> Callable[[Work], Operation]:
    """The tiny workload in bulk, from C or from Rust, in a process that says what it took."""

    def setup(work: Work) -> Operation:
        count = work.size(100_000)
        program = abi.c_program(work.folder) if language == "C" else abi.rust_program()
        path = work.folder / f"{language}.zt"
        if action == "read":
            abi.seconds(program, "write", path, str(count))
        return Operation(lambda: abi.seconds(program, action, path, str(count)), lambda _: count * 16)

    return setup


def abi_cases() -> dict[str, Case]:
    """What the C ABI costs."""
    # Two programs that do nearly the same within a twentieth of a second: few runs would tell of the machine's other work.
    found = {
        f"C ABI, {action} tiny": Case("abi", {name: abi_tiny(action, name) for name in ("C", "Rust")}, factor=5)
        for action in ("write", "read")
    }
    for function in abi.CALLS:
        found[f"C ABI, {function}"] = Case("abi", {name: abi_call(function, name) for name in ("C", "cffi")})
    return found


MODEL = workloads.model
CASES: dict[str, Case] = {
    "save model, new name": Case(
        "model",
        saves(
            MODEL,
            False,
            ztensor=subjects.ZTENSOR,
            pwrite=subjects.PWRITE,
            safetensors=subjects.SAFETENSORS,
            torch=subjects.TORCH,
            savez=subjects.SAVEZ,
            peer_1=subjects.PEER_1_FILES,
            peer_2=subjects.PEER_2_FILES,
        ),
        factor=2,
        at_hand=AT_HAND_FILE,
    ),
    "save model, existing name": Case(
        "model",
        saves(
            MODEL,
            True,
            ztensor=subjects.ZTENSOR,
            pwrite=subjects.PWRITE,
            pwrite_in_place=subjects.PWRITE_IN_PLACE,
            safetensors=subjects.SAFETENSORS,
        ),
        factor=3,
        at_hand=AT_HAND_FILE,
    ),
    "load model, all touched": Case(
        "model",
        {
            "ztensor": loading(MODEL, subjects.ZTENSOR, "model.zt", sum_all),
            "safetensors": loading(MODEL, subjects.SAFETENSORS, "model.safetensors", sum_all),
            "torch.load": loading(MODEL, subjects.TORCH, "model.pt", sum_all),
            "np.load": loading(MODEL, subjects.SAVEZ, "model.npz", sum_all),
            PEER_1: loading(MODEL, subjects.PEER_1_FILES, "model.1.zt", sum_all),
            PEER_2: loading(MODEL, subjects.PEER_2_FILES, "model.2.zt", sum_all),
        },
        factor=2,
        anew=True,
    ),
    "read model into owned memory": Case(
        "model",
        {
            "ztensor": loading(MODEL, subjects.ZTENSOR_READ, "model.zt"),
            "safetensors pread": loading(MODEL, subjects.SAFETENSORS_PREAD, "model.safetensors"),
            "bare read": loading(MODEL, subjects.BARE_READ, "model.raw", sums=False),
        },
        at_hand=AT_HAND_FILE,
    ),
    "peak memory, save raw": Case("model", {"ztensor": saving(MODEL, subjects.ZTENSOR)}),
    "peak memory, save compressed": Case("model", {"ztensor": saving(MODEL, subjects.ZTENSOR_COMPRESSED)}),
    "peak memory, load compressed": Case(
        "model", {"ztensor": loading(MODEL, subjects.ZTENSOR_COMPRESSED, "model.z.zt", leave, sums=False)}
    ),
    "save small": Case(
        "small",
        saves(
            workloads.small,
            False,
            ztensor=subjects.ZTENSOR,
            safetensors=subjects.SAFETENSORS,
            torch=subjects.TORCH,
            peer_1=subjects.PEER_1_FILES,
            peer_2=subjects.PEER_2_FILES,
        ),
        factor=2,
    ),
    "load small": Case(
        "small",
        {
            "ztensor": loading(workloads.small, subjects.ZTENSOR, "small.zt", own=True),
            "safetensors": loading(workloads.small, subjects.SAFETENSORS, "small.safetensors", own=True),
            "torch.load": loading(workloads.small, subjects.TORCH, "small.pt", own=True),
            PEER_1: loading(workloads.small, subjects.PEER_1_FILES, "small.1.zt"),
            PEER_2: loading(workloads.small, subjects.PEER_2_FILES, "small.2.zt", own=True),
        },
        factor=2,
        anew=True,
    ),
    "save tiny": Case(
        "tiny",
        saves(
            workloads.tiny,
            False,
            ztensor=subjects.ZTENSOR,
            safetensors=subjects.SAFETENSORS,
            torch=subjects.TORCH,
            peer_1=subjects.PEER_1_FILES,
        ),
    ),
    "open tiny and read one": Case(
        "index",
        {
            "ztensor": opening_one(open_ztensor, "read_tensor", "zt"),
            "safetensors": opening_one(open_safetensors, "get_tensor", "safetensors"),
        },
    ),
    **older_cases(),
    **index_cases(),
    "import": Case("import", {name: importing(name) for name in ("ztensor", "numpy")}, factor=12),
    **weight_cases(),
    **graph_cases(),
    **bag_cases(),
    **abi_cases(),
}


def have_at_hand(size: int) -> None:
    """Use so much memory and give it back to the system, as a program does that ran before.

    A virtual machine may give memory that nobody uses back to its host; a page that comes from there takes up to thirty
    times as long as one that was in use a moment ago, whoever takes it.
    """
    if not size:
        return
    huge = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    huge.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, size, PAGE):
        huge[at] = 1
    huge.close()


def measure(operation: Operation, at_hand: int) -> dict[str, Any]:
    """Time an operation, and find how far memory rises."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the preparation freed is not there to be used again
    have_at_hand(at_hand)
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is resident now
    before = status("VmRSS")
    start = time.perf_counter()
    result = operation.run()
    seconds = time.perf_counter() - start
    peak, after = status("VmHWM"), status("VmRSS")
    if isinstance(result, float):
        seconds = result
    return {
        "seconds": seconds,
        "bytes": operation.bytes(result),
        "stored": operation.stored(result) if operation.stored else None,
        "peak_rss_delta": peak - before,
        "rss_delta": after - before,
        "check": operation.check(result) if operation.check else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES, metavar="CASE")
    parser.add_argument("subject", metavar="SUBJECT")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the data")
    options = parser.parse_args()
    # A peer's environment has its own ztensor alone; torch and the rest come from the main one, after its own.
    sys.path += [path for path in os.environ.get("BENCH_PACKAGES", "").split(os.pathsep) if path]
    case = CASES[options.case]
    folder = options.folder / case.workload
    folder.mkdir(parents=True, exist_ok=True)
    operation = case.subjects[options.subject](Work(folder, options.quick))
    print(json.dumps(measure(operation, case.at_hand)), flush=True)
    os._exit(0)  # freeing a gigabyte takes time that nobody measures


if __name__ == "__main__":
    main()
