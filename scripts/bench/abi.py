"""What the C ABI costs: time of single calls from C and from cffi, and *tiny* in bulk from C against the Rust API.

`python abi.py` prints the table of calls a second. The C program is compiled against the header and the library of the
installed package, the Rust one with the same profile.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CALLS = (
    "zt_reader_open",
    "zt_reader_find",
    "zt_reader_describe",
    "zt_reader_tensors",
    "zt_reader_read",
    "zt_reader_read_into",
    "zt_reader_read_range_into",
    "zt_buffer_data",
    "zt_buffer_len",
    "zt_writer_add",
)


def c_program(folder: Path) -> Path:
    """The C program, compiled once for each folder of files."""
    import ztensor

    program, library = folder / "abi", Path(ztensor.get_library())
    if not program.exists():
        command = [os.environ.get("CC", "cc"), "-std=c99", "-O2", f"-I{ztensor.get_include()}", HERE / "abi.c", library]
        subprocess.run([*command, f"-Wl,-rpath,{library.parent}", "-o", program], check=True)
    return program


def rust_program() -> Path:
    """The Rust program. Cargo builds it when something changed."""
    command = [os.environ.get("CARGO", "cargo"), "build", "--quiet", "--release", "--example", "tiny"]
    subprocess.run(command, cwd=ROOT, check=True)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release/examples/tiny"


def seconds(*command: Any) -> float:
    """What a program says that it took."""
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def small_file(path: Path) -> None:
    """The file that single calls work on."""
    import numpy as np
    from ztensor import Writer

    with Writer(path, fsync=False) as writer:
        writer.add_tensor("weights", np.arange(64, dtype=np.float32))


def cffi_calls(path: Path) -> dict[str, Callable[[], Any]]:
    """Each of the calls, as cffi makes it."""
    from ztensor._ffi import ffi, lib

    def check(status: int) -> None:
        if status:
            raise OSError(ffi.string(lib.zt_last_error_message()).decode())

    name, out, number, count = os.fsencode(path), ffi.new("ZtReader **"), ffi.new("size_t *"), ffi.new("size_t *")
    check(lib.zt_reader_open(name, lib.ZT_READ_MMAP, 1, out))
    reader, opened = out[0], ffi.new("ZtReader **")
    tensor, component, tensors = ffi.new("ZtTensor *"), ffi.new("ZtComponent *"), ffi.new("ZtTensor **")
    check(lib.zt_reader_describe(reader, 0, tensor, component, 1))
    memory, buffer, found = ffi.new("char[]", tensor.len), ffi.new("ZtBuffer **"), ffi.new("ZtBuffer **")
    check(lib.zt_reader_read(reader, 0, 0, lib.ZT_VERIFY_OFF, buffer))
    kept, target = buffer[0], ffi.new("ZtTarget *", {"data": memory, "len": tensor.len})
    writers = ffi.new("ZtWriter **")
    check(lib.zt_writer_create_memory(0, 1, ffi.NULL, writers))
    writer, shape = writers[0], ffi.new("uint64_t[]", [4])
    part = ffi.new("ZtComponentSpec *", {"data": memory, "len": 16, "dtype": lib.ZT_FLOAT32})
    spec = ffi.new("ZtTensorSpec *", {"shape": shape, "ndim": 1, "components": part, "component_count": 1})
    spec.dtype, spec.layout = lib.ZT_FLOAT32, lib.ZT_DENSE
    added = iter(range(10**9))

    def open_and_free() -> None:
        check(lib.zt_reader_open(name, lib.ZT_READ_MMAP, 1, opened))
        lib.zt_reader_free(opened[0])

    def read_and_free() -> None:
        check(lib.zt_reader_read(reader, 0, 0, lib.ZT_VERIFY_OFF, found))
        lib.zt_buffer_free(found[0])

    # cffi frees what nobody names any more, though a struct points to it.
    def add(kept: Any = (shape, part)) -> None:
        text = ffi.from_buffer(b"tensor.%07d" % next(added))
        spec.name, spec.name_len = text, len(text)
        check(lib.zt_writer_add(writer, spec, 1))

    return {
        "zt_reader_open": open_and_free,
        "zt_reader_find": lambda: check(lib.zt_reader_find(reader, b"weights", number)),
        "zt_reader_describe": lambda: check(lib.zt_reader_describe(reader, 0, tensor, component, 1)),
        "zt_reader_tensors": lambda: check(lib.zt_reader_tensors(reader, ffi.cast("ZtTensor const **", tensors), count)),
        "zt_reader_read": read_and_free,
        "zt_reader_read_into": lambda: check(lib.zt_reader_read_into(reader, target, 1, lib.ZT_VERIFY_OFF)),
        "zt_reader_read_range_into": lambda: check(
            lib.zt_reader_read_range_into(reader, 0, 0, 0, 4, lib.ZT_VERIFY_OFF, memory, 16)
        ),
        "zt_buffer_data": lambda: lib.zt_buffer_data(kept),
        "zt_buffer_len": lambda: lib.zt_buffer_len(kept),
        "zt_writer_add": add,
    }


def cffi_seconds(call: Callable[[], Any]) -> float:
    """The time of one call, over as many as fill half a second."""
    call()
    count, step, passed = 0, 1, 0.0
    start = time.perf_counter()
    while passed < 0.5:
        for _ in range(step):
            call()
        count += step
        step = count
        passed = time.perf_counter() - start
    return passed / count


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "small.zt"
        small_file(path)
        program, calls = c_program(folder), cffi_calls(path)
        print("| calls a second | C | cffi |\n| --- | --- | --- |")
        for call in CALLS:
            found = seconds(program, "call", call, path), cffi_seconds(calls[call])
            print(f"| `{call}` | {1 / found[0]:,.0f} | {1 / found[1]:,.0f} |")


if __name__ == "__main__":
    main()
