"""A save is all or nothing: what stood under the name stays until the new file is whole."""

from __future__ import annotations

import gc
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import LARGE, assert_same, entries, run_python

import ztensor
import ztensor.numpy as ztn
from ztensor import Reader, Writer

OLD, NEW = np.arange(1000), np.arange(LARGE)


class Stop(Exception):
    """What goes wrong in a with-block."""


def fail_in_block(path: Path, error: type[BaseException] = Stop) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", NEW)
        raise error


def fail_in_dictionary(path: Path) -> None:
    ztn.save_file({"x": NEW, "odd one": np.array([None])}, path)


def abandon(path: Path) -> None:
    writer = Writer(path)
    writer.add_tensor("x", NEW)
    writer.abandon()


def forget(path: Path) -> None:
    writer = Writer(path)
    writer.add_tensor("x", NEW)
    with pytest.warns(ResourceWarning, match="was not finished"):
        del writer
        gc.collect()


FAILURES: dict[str, tuple[Callable[[Path], object], Any]] = {
    "exception": (fail_in_block, Stop),
    "interrupt": (lambda path: fail_in_block(path, KeyboardInterrupt), KeyboardInterrupt),
    "exit": (lambda path: fail_in_block(path, SystemExit), SystemExit),
    "refused tensor": (fail_in_dictionary, ztensor.UnsupportedTensorError),
    "abandoned": (abandon, None),
    "forgotten": (forget, None),
}


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
@pytest.mark.parametrize("case", FAILURES)
def test_a_save_that_fails_leaves_what_was_there(case: str, existing: bool, path: Path) -> None:
    fail, expected = FAILURES[case]
    if existing:
        ztn.save_file({"old": OLD}, path)
        before = path.read_bytes(), path.stat().st_ino
    if expected is None:
        fail(path)
    else:
        with pytest.raises(expected):
            fail(path)
    assert entries(path.parent) == ([path.name] if existing else [])
    if existing:
        assert (path.read_bytes(), path.stat().st_ino) == before


def test_nothing_appears_under_the_name_before_the_end(path: Path) -> None:
    ztn.save_file({"old": OLD}, path)
    with Writer(path) as writer:
        writer.add_tensor("x", NEW)
        assert list(ztn.load_file(path)) == ["old"]
    assert list(ztn.load_file(path)) == ["x"]
    assert entries(path.parent) == [path.name]


KILLED = """
import os, sys
import numpy as np, ztensor
writer = ztensor.Writer(sys.argv[1])
writer.add_tensor("x", np.arange(300_000))
print("written", flush=True)
sys.stdin.read()
"""


#: Filesystems that lack a call, as network and FUSE filesystems do: SHIM names what fails. "unnamed" is O_TMPFILE.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
static int lacks(const char *call) {
    const char *shim = getenv("SHIM");
    return shim != NULL && strstr(shim, call) != NULL;
}
static int fail(int number) { errno = number; return -1; }
int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if ((flags & __O_TMPFILE) && lacks("unnamed")) return fail(EOPNOTSUPP);
    return REAL(open64)(path, flags, mode);
}
int rename(const char *a, const char *b) { return lacks("rename") ? fail(ENOSYS) : REAL(rename)(a, b); }
int fchmod(int fd, mode_t mode) { return lacks("fchmod") ? fail(EPERM) : REAL(fchmod)(fd, mode); }
int flock(int fd, int what) { return lacks("flock") ? fail(ENOSYS) : REAL(flock)(fd, what); }
int ftruncate64(int fd, off64_t len) { return lacks("ftruncate") ? fail(ENOSYS) : REAL(ftruncate64)(fd, len); }
int fsync(int fd) {
    struct stat found;
    int is_directory = fstat(fd, &found) == 0 && S_ISDIR(found.st_mode);
    if (is_directory ? lacks("dirsync") : lacks("filesync")) return fail(EINVAL);
    return REAL(fsync)(fd);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library to be loaded before all others."""
    directory = tmp_path_factory.mktemp("shim")
    source, library = directory / "shim.c", directory / "shim.so"
    source.write_text(SHIM)
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def child_environment(shim: Path | None = None, lacking: str = "") -> dict[str, str]:
    source = str(Path(ztensor.__file__).parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    preload = {"LD_PRELOAD": str(shim), "SHIM": lacking} if shim and lacking else {}
    return {**os.environ, "PYTHONPATH": path, **preload}


def run_child(code: str, *arguments: object, shim: Path | None = None, lacking: str = "") -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(shim, lacking))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("lacking", ["", "unnamed", "unnamed flock"])
def test_a_writer_that_is_killed_leaves_the_old_file_and_the_next_save_cleans_up(
    lacking: str, path: Path, shim: Path
) -> None:
    ztn.save_file({"old": OLD}, path)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(shim, lacking),
    )
    with process:
        assert process.stdout is not None and process.stdout.readline() == b"written\n"
        # While it lives, its file is left alone.
        other = path.with_name("other.zt")
        during = set(entries(path.parent))
        ztn.save_file({"x": NEW}, other)
        assert set(entries(path.parent)) == during | {other.name}
        process.kill()
    assert_same(ztn.load_file(path, verify=True)["old"], OLD)
    left = [name for name in entries(path.parent) if name.startswith(".")]
    assert len(left) == (1 if lacking else 0)
    assert all(name.startswith(f".{path.name}.") and name.endswith(".zt-tmp") for name in left)
    # Under any name: checkpoints are numbered.
    ztn.save_file({"x": NEW}, other)
    assert entries(path.parent) == sorted([path.name, other.name])


SAVES = """
import sys
import numpy as np, ztensor.numpy as ztn

for count in (3, 4):
    ztn.save_file({"x": np.arange(count)}, sys.argv[1])
    assert len(ztn.load_file(sys.argv[1])["x"]) == count
noise = np.random.default_rng(0).standard_normal(300_000)
ztn.save_file({"x": noise, "y": noise}, sys.argv[1], compress=True)
ztn.save_file({"x": noise, "y": noise}, sys.argv[1], compress=True, atomic=False)
assert (ztn.load_file(sys.argv[1], verify=True)["y"] == noise).all()
"""


@pytest.mark.parametrize("named", ["", "unnamed"])
@pytest.mark.parametrize("lacking", ["fchmod", "flock", "ftruncate", "dirsync", "filesync"])
def test_a_filesystem_that_lacks_a_call_is_saved_to(lacking: str, named: str, path: Path, shim: Path) -> None:
    run_child(SAVES, path, shim=shim, lacking=f"{lacking} {named}")
    assert entries(path.parent) == [path.name]


RIGHTS = """
import os, sys
import numpy as np, ztensor.numpy as ztn

os.umask(0o022)
ztn.save_file({"x": np.arange(3)}, sys.argv[1])
"""


@pytest.mark.parametrize("named", ["", "unnamed"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755], ids=oct)
def test_a_filesystem_without_modes_to_set_leaves_a_replaced_file_its_rights(
    mode: int, named: str, path: Path, shim: Path
) -> None:
    ztn.save_file({"old": OLD}, path)
    if os.getuid() == 0:
        os.chown(path, 1234, 2345)
    path.chmod(mode)
    before = path.stat()
    run_child(RIGHTS, path, shim=shim, lacking=f"fchmod {named}")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (before.st_uid, before.st_gid, mode)
    assert list(ztn.load_file(path)) == ["x"]
    assert entries(path.parent) == [path.name]


REFUSED = """
import sys
import numpy as np, ztensor.numpy as ztn

try:
    ztn.save_file({"x": np.arange(3)}, sys.argv[1])
except OSError as err:
    print(err)
"""


def test_where_files_cannot_be_renamed_the_whole_file_is_kept_and_named(path: Path, shim: Path) -> None:
    ztn.save_file({"old": OLD}, path)
    message = run_child(REFUSED, path, shim=shim, lacking="rename")
    assert message.startswith(f"{path}: ") and "atomic=False" in message
    (kept,) = (path.parent / name for name in entries(path.parent) if name != path.name)
    assert str(kept) in message and not kept.name.startswith(".")
    assert list(ztn.load_file(path)) == ["old"]
    ztn.save_file({"x": NEW}, path)
    assert_same(ztn.load_file(kept, verify=True)["x"], np.arange(3))


def test_where_files_cannot_be_renamed_nothing_is_written_if_that_is_known(path: Path, shim: Path) -> None:
    ztn.save_file({"old": OLD}, path)
    message = run_child(REFUSED, path, shim=shim, lacking="unnamed rename")
    assert message.startswith(f"{path}: ") and "atomic=False" in message
    assert entries(path.parent) == [path.name]
    assert list(ztn.load_file(path)) == ["old"]


MOUNTED = """
import ctypes, errno, os, sys
import numpy as np, ztensor, ztensor.numpy as ztn

libc = ctypes.CDLL(None, use_errno=True)
host, path = sys.argv[1:]
ztn.save_file({"old": np.arange(3)}, host)
open(path, "w").close()
MS_BIND, MS_PRIVATE = 4096, 0x44000
if (
    libc.unshare(0x20000)
    or libc.mount(None, b"/", None, MS_PRIVATE, None)
    or libc.mount(host.encode(), path.encode(), None, MS_BIND, None)
):
    print("skip")
    sys.exit()
try:
    ztensor.Writer(path)
except OSError as err:
    print(err.errno == errno.EBUSY, "mount point" in str(err), "atomic=False" in str(err))
print(len(os.listdir(os.path.dirname(path))), list(ztn.load_file(path)))
ztn.save_file({"x": np.arange(5)}, path, atomic=False)
print(list(ztn.load_file(path, verify=True)), list(ztn.load_file(host)))
"""


def test_a_mount_point_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("mounting needs root")
    out = run_child(MOUNTED, tmp_path / "host.zt", tmp_path / "inside.zt")
    if out == "skip\n":
        pytest.skip("mounting is not allowed here")
    assert out == "True True True\n2 ['old']\n['x'] ['x']\n"


# In place.


def test_in_place_the_file_itself_is_written(path: Path) -> None:
    for compress, count in ((False, LARGE), (True, LARGE // 2), (3, 10)):
        ztn.save_file({"x": np.arange(count)}, path, compress=compress, atomic=False)
        path.chmod(0o640)
        number = path.stat().st_ino
        assert_same(ztn.load_file(path, mode="read", verify=True)["x"], np.arange(count))
        ztn.save_file({"x": OLD}, path, atomic=False)
        assert (path.stat().st_ino, stat.S_IMODE(path.stat().st_mode)) == (number, 0o640)
        assert path.read_bytes() == ztn.save({"x": OLD})
    assert entries(path.parent) == [path.name]


def test_in_place_a_new_file_that_is_abandoned_goes(path: Path) -> None:
    writer = Writer(path, atomic=False)
    writer.add_tensor("x", NEW)
    writer.abandon()
    assert entries(path.parent) == []


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("existing", [False, True])
def test_in_place_a_file_that_goes_away_is_an_error(existing: bool, replaced: bool, path: Path) -> None:
    if existing:
        ztn.save_file({"old": OLD}, path)
    writer = Writer(path, atomic=False)
    writer.add_tensor("x", NEW)
    path.unlink()
    if replaced:
        ztn.save_file({"other": OLD}, path)
    with pytest.raises(ztensor.FileError, match="replaced it" if replaced else "removed"):
        writer.finalize()
    assert entries(path.parent) == ([path.name] if replaced else [])
    assert not replaced or list(ztn.load_file(path)) == ["other"]


def test_in_place_a_second_writer_is_refused(path: Path) -> None:
    for expected in (NEW, NEW + 1):
        first = Writer(path, atomic=False)
        first.add_tensor("x", expected)
        with pytest.raises(ztensor.FileError, match="another writer"):
            ztn.save_file({"x": OLD}, path, atomic=False)
        first.finalize()
        assert_same(ztn.load_file(path, mode="read", verify=True)["x"], expected)


def test_in_place_a_refused_tensor_costs_nothing(path: Path) -> None:
    ztn.save_file({"old": OLD}, path)
    with pytest.raises(ztensor.UnsupportedTensorError):
        ztn.save_file({"x": OLD, "odd one": np.array([None])}, path, atomic=False)
    assert list(ztn.load_file(path, verify=True)) == ["old"]


def test_in_place_a_file_that_is_loaded_by_mapping_is_refused(path: Path) -> None:
    ztn.save_file({"x": NEW}, path)
    loaded = ztn.load_file(path, mode="mmap")
    with pytest.raises(OSError, match=f"^{path}: .*mapped.*mode='read'"):
        ztn.save_file(loaded, path, atomic=False)
    assert_same(loaded["x"], NEW)
    del loaded
    copied = ztn.load_file(path, mode="read")
    ztn.save_file({**copied, "more": OLD}, path, atomic=False)
    assert_same(ztn.load_file(path, verify=True)["x"], NEW)


def test_in_place_what_cannot_be_written_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    for name in ("pipe", "/dev/null", "missing/f.zt", "new.zt/", str(tmp_path)):
        with pytest.raises(OSError):
            Writer(name, atomic=False)
    with pytest.raises(ztensor.ArgumentError, match="atomic"):
        Writer("f.zt", atomic="no")  # type: ignore[arg-type]
    assert entries(tmp_path) == ["pipe"]


def test_convert_in_place_takes_another_file(path: Path) -> None:
    ztn.save_file({"x": NEW}, path)
    other = path.with_name("other.zt")
    ztn.save_file({"old": OLD}, other)
    ztensor.convert(path, other, True, atomic=False)
    assert_same(ztn.load_file(other, verify=True)["x"], NEW)
    for mode in ("mmap", "read"):
        with pytest.raises(ztensor.ArgumentError, match="in place"):
            ztensor.convert(path, path, mode=mode, atomic=False)
    assert_same(ztn.load_file(path, verify=True)["x"], NEW)


# What a file keeps.


@pytest.mark.skipif(os.getuid() != 0, reason="giving files away needs root")
@pytest.mark.parametrize("disappears", [False, True])
def test_a_replaced_file_keeps_its_owner_and_group(disappears: bool, path: Path) -> None:
    ztn.save_file({"old": OLD}, path)
    os.chown(path, 1234, 2345)
    path.chmod(0o660)
    with Writer(path) as writer:
        writer.add_tensor("x", NEW)
        if disappears:
            path.unlink()
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, 0o660)


GIVEN = """
import os, sys
import numpy as np, ztensor.numpy as ztn

ztn.save({"x": np.arange(3)})
os.chdir(sys.argv[1])
os.setgroups([2345])
os.setgid(1002)
os.setuid(1002)
ztn.save_file({"x": np.arange(3)}, "model.zt")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="giving files away needs root")
def test_another_owner_does_not_get_the_bits_that_depend_on_the_owner(tmp_path: Path) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o777)
    path = directory / "model.zt"
    ztn.save_file({"old": OLD}, path)
    for group, expected in ((2345, 2345), (3456, 1002)):
        os.chown(path, 0, group)
        path.chmod(0o6755)
        run_child(GIVEN, directory)
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1002, expected, 0o755)


@pytest.mark.skipif(os.getuid() != 0, reason="giving files away needs root")
@pytest.mark.parametrize(("mode", "expected"), [(0o660, 0o600), (0o664, 0o644), (0o640, 0o600), (0o2775, 0o755)])
def test_another_group_gets_no_rights_that_others_do_not_have(mode: int, expected: int, tmp_path: Path) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o777)
    path = directory / "model.zt"
    for group, kept in ((3456, expected), (2345, mode)):
        ztn.save_file({"old": OLD}, path)
        os.chown(path, 1002, group)
        path.chmod(mode)
        run_child(GIVEN, directory)
        found = path.stat()
        assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (2345 if kept == mode else 1002, kept)


def test_a_replaced_file_keeps_its_extended_attributes(path: Path) -> None:
    ztn.save_file({"old": OLD}, path)
    try:
        os.setxattr(path, "user.origin", b"run 7")
    except OSError as err:
        pytest.skip(f"no extended attributes here: {err}")
    os.setxattr(path, "user.large", bytes(3000))
    ztn.save_file({"x": NEW}, path)
    assert os.getxattr(path, "user.origin") == b"run 7"
    assert os.getxattr(path, "user.large") == bytes(3000)
    assert set(os.listxattr(path)) >= {"user.origin", "user.large"}


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644], ids=oct)
def test_a_file_whose_destination_disappears_has_its_mode(mode: int, path: Path) -> None:
    ztn.save_file({"old": OLD}, path)
    path.chmod(mode)
    with Writer(path) as writer:
        writer.add_tensor("x", NEW)
        path.unlink()
    assert stat.S_IMODE(path.stat().st_mode) == mode


# Full disks.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real filesystem of eight MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m", "ztensor-test", str(directory)], capture_output=True, text=True
        )
    except OSError as err:
        pytest.skip(f"mounting a tmpfs of 8 MiB is not possible here: {err}")
    if done.returncode:
        pytest.skip(f"mounting a tmpfs of 8 MiB is not allowed here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@pytest.mark.parametrize("compress", [False, 1], ids=["raw", "zstd"])
def test_a_full_disk_leaves_the_old_file(compress: bool | int, small_disk: Path) -> None:
    path = small_disk / "model.zt"
    ztn.save_file({"old": OLD}, path)
    before = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 2**62, 5 * LARGE)
    with pytest.raises(OSError, match=f"^{path}: .*No space left on device") as caught:
        ztn.save_file({"x": noise}, path, compress=compress)
    assert type(caught.value) is ztensor.FileError
    assert entries(small_disk) == [path.name]
    assert path.read_bytes() == before
    # And there is room again.
    ztn.save_file({"x": np.arange(50_000)}, path)
    assert_same(ztn.load_file(path)["x"], np.arange(50_000))


def test_a_writer_that_failed_says_so_and_can_only_be_abandoned(small_disk: Path) -> None:
    path = small_disk / "model.zt"
    writer = Writer(path)
    with pytest.raises(ztensor.FileError, match="No space left"):
        writer.add_tensor("x", np.zeros(5 * LARGE))
    with pytest.raises(ztensor.StateError, match="an earlier write failed"):
        writer.add_tensor("y", np.zeros(3))
    with pytest.raises(ztensor.StateError, match="an earlier write failed"):
        writer.finalize()
    assert entries(small_disk) == []


@pytest.mark.parametrize("fsync", ["auto", True, False], ids=repr)
def test_a_file_that_may_not_grow_leaves_the_old_file(fsync: Any, path: Path) -> None:
    # A limit on the size of files fails writes too, and needs no rights.
    ztn.save_file({"old": OLD}, path)
    out = run_python(
        """
import resource, signal, sys
import numpy as np, ztensor, ztensor.numpy
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
fsync = {"auto": "auto", "True": True, "False": False}[sys.argv[2]]
try:
    ztensor.numpy.save_file({"x": np.arange(300_000)}, sys.argv[1], fsync=fsync)
except OSError as err:
    print(type(err).__name__, str(err).startswith(sys.argv[1]), "File too large" in str(err))
""",
        path,
        fsync,
    )
    assert out == "FileError True True\n"
    assert entries(path.parent) == [path.name]
    assert_same(ztn.load_file(path, verify=True)["old"], OLD)


# Places.


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    target, link = tmp_path / "sub" / "target.zt", tmp_path / "link.zt"
    ztn.save_file({"old": OLD}, target)
    link.symlink_to(Path("sub") / "target.zt")
    ztn.save_file({"x": NEW}, link)
    assert link.is_symlink() and os.readlink(link) == "sub/target.zt"
    assert not target.is_symlink()
    assert_same(ztn.load_file(target)["x"], NEW)
    assert entries(tmp_path) == ["link.zt", "sub"] and entries(tmp_path / "sub") == ["target.zt"]


def test_a_dangling_link_gets_its_target(tmp_path: Path) -> None:
    link = tmp_path / "link.zt"
    link.symlink_to("target.zt")
    ztn.save_file({"x": NEW}, link)
    assert link.is_symlink()
    assert_same(ztn.load_file(tmp_path / "target.zt")["x"], NEW)


def test_a_link_to_itself_is_an_error(tmp_path: Path) -> None:
    link = tmp_path / "link.zt"
    link.symlink_to("link.zt")
    with pytest.raises(ztensor.FileError, match=str(link)):
        ztn.save_file({"x": NEW}, link)
    assert entries(tmp_path) == ["link.zt"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000, 0o027], ids=oct)
def test_a_new_file_has_the_mode_that_the_umask_asks_for(umask: int, path: Path) -> None:
    before = os.umask(umask)
    try:
        ztn.save_file({"x": OLD}, path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o444, 0o755], ids=oct)
def test_a_replaced_file_keeps_its_mode(mode: int, path: Path) -> None:
    ztn.save_file({"old": OLD}, path)
    path.chmod(mode)
    ztn.save_file({"x": NEW}, path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert_same(ztn.load_file(path)["x"], NEW)


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model.zt").mkdir()
    with pytest.raises(ztensor.FileError, match="directory"):
        ztn.save_file({"x": NEW}, tmp_path / "model.zt")
    assert entries(tmp_path) == ["model.zt"] and entries(tmp_path / "model.zt") == []


def test_a_missing_directory_is_a_file_not_found_error(tmp_path: Path) -> None:
    where = tmp_path / "missing" / "model.zt"
    with pytest.raises(FileNotFoundError, match=f"^{where}: "):
        Writer(where)
    with pytest.raises(FileNotFoundError, match=f"^{where}: "):
        ztn.save_file({"x": NEW}, where)
    assert entries(tmp_path) == []


def test_a_file_in_place_of_a_directory_is_an_os_error(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(OSError, match="Not a directory"):
        Writer(path / "model.zt")


CLOSED = """
import os, sys
import numpy as np, ztensor, ztensor.numpy as ztn

ztn.save({"x": np.arange(3)})
os.chdir(sys.argv[1])
if os.getuid() == 0:
    # Root may write everywhere; somebody else may not.
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for name in ("model.zt", "new.zt"):
    try:
        ztn.save_file({"x": np.arange(3)}, name)
    except OSError as err:
        print(isinstance(err, ztensor.FileError) and isinstance(err, PermissionError), str(err).startswith(name + ": "), "Permission denied" in str(err), "atomic=False" in str(err))
"""


def test_a_directory_that_may_not_be_written_is_an_os_error(tmp_path: Path) -> None:
    directory = tmp_path / "closed"
    directory.mkdir()
    ztn.save_file({"old": OLD}, directory / "model.zt")
    # Only a file that may be written can be written in place.
    (directory / "model.zt").chmod(0o666)
    directory.chmod(0o555)
    try:
        assert run_python(CLOSED, directory) == "True True True True\nTrue True True False\n"
    finally:
        directory.chmod(0o755)
    assert entries(directory) == ["model.zt"]
    assert_same(ztn.load_file(directory / "model.zt", verify=True)["old"], OLD)


def test_a_filesystem_that_is_mounted_read_only_is_an_os_error(tmp_path: Path) -> None:
    directory = tmp_path / "mounted"
    directory.mkdir()
    path = directory / "model.zt"
    ztn.save_file({"old": OLD}, path)
    try:
        for options in ("bind", "remount,bind,ro"):
            done = subprocess.run(["mount", "-o", options, str(directory), str(directory)], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
        with pytest.raises(ztensor.FileError, match=f"^{path}: .*Read-only file system"):
            ztn.save_file({"x": NEW}, path)
    finally:
        subprocess.run(["umount", str(directory)], capture_output=True)
    assert entries(directory) == [path.name]
    assert_same(ztn.load_file(path, verify=True)["old"], OLD)


def test_the_longest_file_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 252 + ".zt")
    ztn.save_file({"x": OLD}, path)
    ztn.save_file({"x": NEW}, path)
    assert entries(tmp_path) == [path.name]
    assert_same(ztn.load_file(path)["x"], NEW)


def test_a_name_without_a_directory_is_in_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for fsync in ("auto", True, False):
        ztn.save_file({"x": NEW}, "model.zt", fsync=fsync)
    assert entries(tmp_path) == ["model.zt"]


def test_a_relative_path_stays_that_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    ztn.save_file({"x": OLD}, there / "model.zt")
    monkeypatch.chdir(here)
    finished, given_up = Writer("model.zt"), Writer("other.zt")
    finished.add_tensor("x", NEW)
    monkeypatch.chdir(there)
    # Of the same names, and half written: nobody else may touch them.
    others = Writer("model.zt"), Writer("other.zt")
    finished.finalize()
    given_up.abandon()
    assert entries(here) == ["model.zt"]
    assert_same(ztn.load_file(here / "model.zt", verify=True)["x"], NEW)
    assert_same(ztn.load_file("model.zt", verify=True)["x"], OLD)
    for other in others:
        other.add_tensor("x", NEW)
        other.finalize()
    assert entries(there) == ["model.zt", "other.zt"]


@pytest.mark.skipif(os.getuid() != 0, reason="giving files away needs root")
def test_a_file_of_another_user_in_a_sticky_directory_is_refused_at_once(tmp_path: Path) -> None:
    directory = tmp_path / "sticky"
    directory.mkdir()
    path = directory / "model.zt"
    ztn.save_file({"old": OLD}, path)
    path.chmod(0o666)
    directory.chmod(0o1777)
    os.chown(path, 1234, 1234)
    code = GIVEN.replace("ztn.save_file", "try: ztn.save_file") + "except OSError as err: print(err)\n"
    message = run_child(code, directory)
    assert "sticky" in message and "atomic=False" in message
    assert entries(directory) == [path.name]
    assert list(ztn.load_file(path)) == ["old"]
    for owner in (path, directory):
        os.chown(owner, 1002, 1002)
        run_child(GIVEN, directory)
        assert list(ztn.load_file(path)) == ["x"]
        os.chown(path, 1234, 1234)


@pytest.mark.parametrize("of", ["file", "directory"])
@pytest.mark.parametrize("attribute", ["a", "i"])
def test_what_is_marked_as_immutable_is_refused_at_once(attribute: str, of: str, tmp_path: Path) -> None:
    path = tmp_path / "marked" / "model.zt"
    path.parent.mkdir()
    ztn.save_file({"old": OLD}, path)
    marked = path if of == "file" else path.parent
    try:
        done = subprocess.run(["chattr", f"+{attribute}", marked], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no chattr here")
    if done.returncode:
        pytest.skip(f"no such attributes here: {done.stderr.strip()}")
    try:
        with pytest.raises(ztensor.FileError, match="immutable or append-only"):
            Writer(path)
    finally:
        subprocess.run(["chattr", f"-{attribute}", marked], check=True)
    assert entries(path.parent) == [path.name]


@pytest.mark.parametrize("name", ["new.zt/", "new.zt/.", "pipe", "/dev/null"])
def test_what_no_file_can_replace_is_refused_at_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(ztensor.FileError, match=f"^{name}: .*(not a regular file|[Ii]s a directory)"):
        Writer(name)
    assert entries(tmp_path) == ["pipe"]
    assert not Path("pipe").is_file()
    assert not Path("/dev/null").is_file()


UNREAD = """
import os, sys
import numpy as np, ztensor.numpy as ztn

ztn.save({"x": np.arange(3)})
os.chdir(sys.argv[1])
if os.getuid() == 0:
    # Root may read everywhere; somebody else may not.
    os.chown(".", 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for fsync in ("auto", True, False):
    for number in range(2):
        ztn.save_file({"x": np.arange(number)}, "model.zt", fsync=fsync)
        print(len(ztn.load_file("model.zt")["x"]))
"""


def test_a_directory_that_may_be_written_and_not_read_is_enough(tmp_path: Path) -> None:
    directory = tmp_path / "unread"
    directory.mkdir()
    directory.chmod(0o300)
    try:
        assert run_python(UNREAD, directory) == "0\n1\n" * 3
    finally:
        directory.chmod(0o755)
    assert entries(directory) == ["model.zt"]


@pytest.mark.parametrize("compress", [False, True], ids=["raw", "zstd"])
def test_a_file_can_be_saved_over_while_it_is_loaded(compress: bool, path: Path, mode: str) -> None:
    ztn.save_file({"a": NEW, "b": OLD}, path)
    with Reader(path, mode=mode) as reader:
        loaded = ztn.load_file(path, mode=mode)
        # Onto itself: the data comes from the very file that is replaced.
        ztn.save_file({"a": loaded["a"], "c": reader["b"]}, path, compress=compress)
        assert_same(loaded["a"], NEW)
        assert_same(reader["a"], NEW)
    found = ztn.load_file(path, verify=True)
    assert list(found) == ["a", "c"]
    assert_same(found["a"], NEW)
    assert_same(found["c"], OLD)


def test_two_writers_of_one_name_do_not_meet(path: Path) -> None:
    with Writer(path) as one, Writer(path) as other:
        one.add_tensor("one", OLD)
        other.add_tensor("other", NEW)
        other.finalize()
        assert list(ztn.load_file(path)) == ["other"]
    # The last to finalize wins, whole.
    assert list(ztn.load_file(path, verify=True)) == ["one"]
    assert entries(path.parent) == [path.name]


def test_finalizing_twice_says_so(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", OLD)
        writer.finalize()
        with pytest.raises(ztensor.StateError, match="the writer was finalized already"):
            writer.finalize()
    assert_same(ztn.load_file(path)["x"], OLD)


def test_a_directory_that_goes_away_is_an_error_at_the_end(tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    writer = Writer(directory / "model.zt")
    writer.add_tensor("x", OLD)
    for name in entries(directory):
        (directory / name).unlink()
    directory.rmdir()
    with pytest.raises(ztensor.FileError, match="model.zt: "):
        writer.finalize()
    with pytest.raises(ztensor.StateError, match="abandoned"):
        writer.finalize()
