"""Memory: files larger than it, what stays when tensors go, and systems that refuse to map."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import ztensor
import ztensor.numpy as ztn
from support import run_python
from ztensor import Reader

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc, and at what Linux does")

MIB = 1024 * 1024

MEMORY = """
import gc, os, re, resource, sys
import numpy as np
import ztensor, ztensor.numpy as ztn
path, *arguments = sys.argv[1:]

def anon():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

def limit_address_space(more):
    size = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (size + more, size + more))
"""


def write_holes(path: Path, tensors: dict[str, int]) -> None:
    """Write a file of uint8 tensors that are holes, so that it takes no room on the disk."""

    def text(value: str) -> bytes:
        return bytes([0xD9, len(value)]) + value.encode()

    def number(value: int) -> bytes:
        # In the shortest form.
        for limit, code, kind in ((2**7, "", "B"), (2**8, "\xcc", "B"), (2**16, "\xcd", "H"), (2**32, "\xce", "I")):
            if value < limit:
                return code.encode("latin-1") + struct.pack(">" + kind, value)
        return b"\xcf" + struct.pack(">Q", value)

    def array(*items: bytes) -> bytes:
        return bytes([0x90 | len(items)]) + b"".join(items)

    def name(value: str) -> bytes:
        return bytes([0xA0 | len(value)]) + value.encode() if len(value) < 32 else text(value)

    at, records = 4096, []
    for key, size in tensors.items():
        component = array(name("data"), name("uint8"), number(at), number(size), b"\xc0")
        records.append(array(name(key), name("uint8"), array(number(size)), name("dense"), array(component)))
        at += size + -size % 4096
    assert len(records) < 16
    index = b"\x81" + name("tensors") + array(*records)
    end = at + len(index) + -len(index) % 64
    footer = struct.pack("<QQQII20x", at, len(index), end + 64, zlib.crc32(index), 1)
    signature = b"\x89ZTM\r\n\x1a\n"
    with open(path, "wb") as file:
        file.write(signature)
        file.seek(at)
        file.write(index)
        file.seek(end)
        file.write(footer + struct.pack("<I", zlib.crc32(footer)) + signature)


# Files larger than memory.


@pytest.fixture
def huge(path: Path) -> Path:
    """A file that is twice as large as memory, of tensors of which each fits, and one of which none does."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        write_holes(path, {**{f"a{at}": memory // 8 for at in range(4)}, "small": 3, "whole": 3 * memory // 2})
    except OSError as err:
        pytest.skip(f"the filesystem has no files of that size: {err}")
    return path


def test_a_file_larger_than_memory_is_loaded(huge: Path) -> None:
    code = """
found = ztn.load_file(path)
assert found["small"].tolist() == [0, 0, 0] and found["whole"][-1] == 0
found["whole"][::2**30] = 1
assert found["whole"][2**30] == 1
names = list(found)
del found
with ztensor.Reader(path) as reader:
    found = reader.read_tensors(names)
    assert found[-1].size > found[0].size
    del found
    assert reader["whole"][-1] == 0 and reader["small"].tolist() == [0, 0, 0]
assert anon() < 2**30
"""
    run_python(MEMORY + code, huge)


def test_torch_loads_a_file_larger_than_memory(huge: Path) -> None:
    pytest.importorskip("torch")
    run_python(MEMORY + "import ztensor.torch\nassert ztensor.torch.load_file(path)['whole'][-1] == 0", huge)


def test_one_tensor_is_read_whatever_the_size_of_its_file(huge: Path, mode: str) -> None:
    code = """
before = anon()
with ztensor.Reader(path, mode=arguments[0]) as reader:
    assert reader["small"].tolist() == [0, 0, 0] and not reader.read_rows("whole", 2**31, 2**31 + 9).any()
assert anon() - before < 16 * 2**20
"""
    run_python(MEMORY + code, huge, mode)


def test_convert_takes_a_tensor_larger_than_memory(path: Path) -> None:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    write_holes(path, {"whole": 2 * memory})
    # The disk would be full before it is through, so files may only have so many bytes.
    code = """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**24, 2**24))
try:
    ztensor.convert(path, path + ".new", verify=False)
except ztensor.FileError as err:
    assert "large" in str(err), err
else:
    raise SystemExit("it was written")
"""
    run_python(MEMORY + code, path)


def test_more_than_memory_is_an_error_that_says_what_to_do(huge: Path) -> None:
    code = """
limit_address_space(2**30)
with ztensor.Reader(path) as reader:
    # Without the address space to map the file, it is read.
    assert reader["small"].tolist() == [0, 0, 0]
    for read, advice in (
        (lambda: reader.read_tensors(["a0", "a1"]), "read fewer at once"),
        (lambda: reader["whole"], "reading a range of the tensor takes less"),
    ):
        try:
            read()
        except MemoryError as err:
            assert isinstance(err, ztensor.ZTensorError)
            assert "out of memory" in str(err) and advice in str(err) and "tensor" in str(err), err
        else:
            raise SystemExit("no MemoryError")
"""
    run_python(MEMORY + code, huge)


# What stays when tensors go.

SURVIVORS = """
before = anon()
kind, mode, kept = arguments
if kind == "torch":
    import torch, ztensor.torch as ztt
    torch.ones(3) + 1
    before = anon()
    found = ztt.load_file(path, mode=mode)
elif kind == "numpy":
    found = ztn.load_file(path, mode=mode)
else:
    with ztensor.Reader(path, mode=mode) as reader:
        names = reader.tensor_names
        found = dict(zip(names, reader.read_tensors(names, to="numpy")))
def values(tensor):
    if hasattr(tensor, "indptr"):
        return tensor.data
    return tensor.values() if kind == "torch" and tensor.layout is not torch.strided else tensor

for tensor in found.values():
    part = values(tensor)
    part += 1
del tensor, part
dirty = anon() - before
assert dirty > 100 * 2**20, dirty
found = {name: tensor for name, tensor in found.items() if name.startswith(kept)}
assert found
gc.collect()
print(anon() - before)
"""


def files() -> dict[str, dict[str, object]]:
    """Files of more than 100 MiB, in which the tensors to be kept are small and called norm."""
    norm = np.ones(16, np.float32)
    layers = {}
    for at in range(60):
        layers[f"w{at}"] = np.zeros(MIB // 2, np.float32)
        layers[f"norm{at}"] = norm + at
    many = {f"{'norm' if at == 4000 else 'w'}{at}": np.zeros(4000, np.float32) for at in range(8000)}
    return {
        "large": {**{f"w{at}": np.zeros(4 * MIB, np.float32) for at in range(8)}, "norm": norm},
        "layers": layers,
        "tied": {**layers, "tied": layers["w7"], "norm60": layers["norm3"]},
        "medium": {**{f"w{at}": np.zeros(MIB // 8, np.float32) for at in range(300)}, "norm": norm},
        "many": many,
    }


@pytest.mark.parametrize("kind", ["numpy", "torch", "read_tensors"])
@pytest.mark.parametrize("name", files())
def test_a_tensor_that_stays_keeps_little(path: Path, name: str, kind: str, mode: str) -> None:
    if kind == "torch":
        pytest.importorskip("torch")
    ztn.save_file(files()[name], path)
    assert int(run_python(MEMORY + SURVIVORS, path, kind, mode, "norm")) < 32 * MIB


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("compress", [0, 1])
def test_a_tensor_that_stays_keeps_little_beside_sparse_ones(path: Path, kind: str, compress: int, mode: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    if kind == "torch":
        pytest.importorskip("torch")
    large = sparse.csr_matrix(np.ones((2000, 4000), np.float32))
    tensors = {"norm": np.ones(16, np.float32), **{f"s{at}": large * at for at in range(4)}}
    ztn.save_file(tensors, path, compress=compress)
    assert int(run_python(MEMORY + SURVIVORS, path, kind, mode, "norm")) < 32 * MIB


def test_a_process_runs_out_of_mappings_and_goes_on(path: Path) -> None:
    size = 256 * 1024
    write_holes(path, {"a": size})
    # More than the 65,530 mappings of a process; those beyond a limit are copied.
    code = f"""
count = 33_000
with ztensor.Reader(path) as reader:
    kept = [reader["a"] for _ in range(count)]
assert kept[-1][-1] == 0 and len(open("/proc/self/maps").readlines()) < 40_000
again = ztn.load_file(path)["a"]
again[0] = 1
assert kept[0][0] == kept[-1][0] == 0
"""
    run_python(MEMORY + code, path)


# Systems that refuse to map.

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
static int refused(int prot, int flags, int fd) {
    char link[64], path[4096];
    const char *what = getenv("REFUSE"), *number = getenv("REFUSE_ERRNO");
    ssize_t len;
    if (fd < 0 || !what || !number) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    len = readlink(link, path, sizeof path - 1);
    if (len <= 3 || memcmp(path + len - 3, ".zt", 3) != 0) return 0;
    if (strcmp(what, "shared") == 0 && (flags & MAP_TYPE) != MAP_SHARED) return 0;
    if (strcmp(what, "writable") == 0 && !(prot & PROT_WRITE)) return 0;
    errno = atoi(number);
    return 1;
}
void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset) {
    void *(*next)(void *, size_t, int, int, int, off_t) = dlsym(RTLD_NEXT, "mmap");
    return refused(prot, flags, fd) ? MAP_FAILED : next(at, len, prot, flags, fd, offset);
}
void *mmap64(void *at, size_t len, int prot, int flags, int fd, off_t offset) {
    return mmap(at, len, prot, flags, fd, offset);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that refuses mappings of .zt files, to be preloaded."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    built = str(folder / "shim.so")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, str(folder / "shim.c"), "-ldl"], check=True)
    return built


@pytest.mark.parametrize("what", ["shared", "writable", "all"])
@pytest.mark.parametrize("code", [errno.ENODEV, errno.EINVAL, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EAGAIN])
def test_a_file_that_cannot_be_mapped_is_read(path: Path, shim: str, what: str, code: int) -> None:
    tensors = {"large": np.arange(10**6), "small": np.arange(3.0), "tied": np.arange(10**6)}
    tensors["tied"] = tensors["large"]
    ztn.save_file(tensors, path)
    ztn.save_file({"zstd": np.arange(10**6)}, path.with_name("zstd.zt"), compress=True)
    run_python(
        """
import sys
import numpy as np
import ztensor, ztensor.numpy as ztn
from pathlib import Path
path = Path(sys.argv[1])
for verify in (False, True):
    found = ztn.load_file(path, verify=verify)
    assert (found["large"] == np.arange(10**6)).all() and found["small"].tolist() == [0, 1, 2]
    found["large"][0] = 7
    assert found["tied"][0] == 7
    assert ztn.load_file(path)["large"][0] == 0
    assert (ztn.load_file(path.with_name("zstd.zt"), verify=verify)["zstd"] == np.arange(10**6)).all()
with ztensor.Reader(path) as reader:
    reader.verify()
    assert reader.read_rows("large", 500_000, 500_002).tolist() == [500_000, 500_001]
ztensor.convert(path, path.with_name("new.zt"), compress=True)
""",
        path,
        LD_PRELOAD=shim,
        REFUSE=what,
        REFUSE_ERRNO=str(code),
    )


# What is not a file of tensors.


def test_special_files_are_refused_and_never_wait(tmp_path: Path, mode: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/null"), Path("/dev/zero")):
        with pytest.raises(ztensor.FileError, match=r"regular file|directory"):
            Reader(path, mode=mode)  # type: ignore[arg-type]
    # Files of these filesystems have a size that is not that of their content.
    for path in (tmp_path / "empty", Path("/proc/self/status"), Path("/sys/kernel/mm/transparent_hugepage/enabled")):
        if path.exists():
            with pytest.raises((ztensor.FormatError, ztensor.FileError)) as caught:
                Reader(path, mode=mode)
            assert str(path) in str(caught.value)


def test_a_file_of_holes_is_refused(path: Path, mode: str) -> None:
    with open(path, "wb") as file:
        file.truncate(10**9)
    with pytest.raises(ztensor.FormatError, match="zeros"):
        Reader(path, mode=mode)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "HTML"),
        (b"\xef\xbb\xbf\n <HTML>\n", "HTML"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "AccessDenied"),
        (b'{"error": "Repository not found"}', "Repository not found"),
        (b"Entry not found", "Entry not found"),
        (b"\x1f\x8b\x08\x00" + bytes(60), "gunzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(60), "zstd -d"),
        (b"\xfd7zXZ\x00" + bytes(60), "unxz"),
    ],
)
def test_files_of_another_kind_are_named(path: Path, content: bytes, words: str, mode: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ztensor.FormatError, match="not a .zt file: ") as caught:
        Reader(path, mode=mode)
    assert words in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"), [(b"\r\n", b"\n"), (b"\n", b"\r\n"), (b"\r", b"\n"), (b"\n", b"\r"), (b"\r\n", b"\r")]
)
def test_line_ends_that_were_converted_are_noticed(path: Path, old: bytes, new: bytes) -> None:
    path.write_bytes(ztn.save({"a": np.arange(10_000, dtype=np.int16)}).replace(old, new))
    with pytest.raises(ztensor.FormatError, match="binary mode"):
        Reader(path)
    path.write_bytes(bytes(byte & 0x7F for byte in ztn.save({"a": np.arange(3)})))
    with pytest.raises(ztensor.FormatError, match="binary mode"):
        Reader(path)
