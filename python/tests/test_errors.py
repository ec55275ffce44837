"""Every failure is one class of exception, also the builtin one that users expect, and says where it happened."""

from __future__ import annotations

import builtins
import copy
import errno
import inspect
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import flip, run_python

import ztensor
from ztensor import Reader, Writer, errors
from ztensor._call import text
from ztensor._ffi import ffi, lib

CLASSES = [found for _, found in inspect.getmembers(errors, inspect.isclass)]


def statuses() -> dict[str, int]:
    """Every status of the library, by name."""
    found = {}
    for status in range(1, 1000):
        name = lib.zt_status_name(status)
        if name != ffi.NULL:
            found[text(name)] = status
    return found


# Classes.


def test_every_status_stands_for_one_class() -> None:
    assert set(errors.BY_STATUS) == set(statuses())


def test_the_statuses_are_the_headers() -> None:
    constants = {name[len("ZT_ERR_") :]: getattr(lib, name) for name in dir(lib) if name.startswith("ZT_ERR_")}
    assert statuses() == constants


def test_every_class_is_a_ztensor_error_and_exported() -> None:
    for found in CLASSES:
        assert issubclass(found, ztensor.ZTensorError)
        assert getattr(ztensor, found.__name__) is found
        assert found.__name__ in errors.__all__ and found.__name__ in ztensor.__all__


@pytest.mark.parametrize(
    "found, builtin",
    [
        (ztensor.ArgumentError, ValueError),
        (ztensor.UnsupportedTensorError, TypeError),
        (ztensor.MissingDependencyError, ImportError),
        (ztensor.TensorNotFoundError, KeyError),
        (ztensor.TensorIndexError, IndexError),
        (ztensor.StateError, ValueError),
        (ztensor.FileError, OSError),
        (ztensor.MissingFileError, FileNotFoundError),
        (ztensor.FormatError, ValueError),
        (ztensor.ChecksumError, ztensor.FormatError),
        (ztensor.UnknownTypeError, TypeError),
        (ztensor.DefectError, RuntimeError),
        (ztensor.OutOfMemoryError, MemoryError),
    ],
)
def test_every_class_is_the_builtin_that_users_expect(found: type[Exception], builtin: type[Exception]) -> None:
    assert issubclass(found, builtin)


@pytest.mark.parametrize("found", CLASSES)
def test_messages_read_as_sentences(found: type[Exception]) -> None:
    # KeyError alone would show the quotes of a repr.
    assert str(found('model.zt: no tensor named "w"')) == 'model.zt: no tensor named "w"'
    assert str(found()) == ""


@pytest.mark.parametrize("found", CLASSES)
def test_exceptions_travel_between_processes(found: Any) -> None:
    given = found("what happened")
    given.status = 41
    for back in (pickle.loads(pickle.dumps(given)), copy.copy(given)):
        assert type(back) is found
        assert (str(back), back.status) == ("what happened", 41)


# Of files.


def model(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("first", np.arange(100))
        writer.add_tensor("layer.w", np.zeros(5000, np.float32), compress=True)
        writer.add_tensor("layer.b", np.arange(1000, dtype=np.int16))


def rewrite_footer(path: Path, at: int, form: str, value: int) -> None:
    """Change a field of the footer, so that the footer's own checksum holds."""
    data = bytearray(path.read_bytes())
    footer = data[-64:]
    struct.pack_into(form, footer, at, value)
    struct.pack_into("<I", footer, 52, zlib.crc32(footer[:52]))
    path.write_bytes(bytes(data[:-64]) + bytes(footer))


def damage_index(path: Path) -> None:
    offset = struct.unpack_from("<Q", path.read_bytes()[-64:])[0]
    flip(path, offset + 3)


#: What is done to a file, the class of error, the name of the status.
DAMAGE: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "empty": (lambda path: path.write_bytes(b""), ztensor.FormatError, "SIGNATURE|TRUNCATED"),
    "another format": (lambda path: path.write_bytes(b"PK\3\4" + bytes(500)), ztensor.FormatError, "SIGNATURE"),
    "text": (lambda path: path.write_text("hello"), ztensor.FormatError, "SIGNATURE|TRUNCATED"),
    "signature": (lambda path: flip(path, 0), ztensor.FormatError, "SIGNATURE"),
    "cut by a byte": (lambda path: path.write_bytes(path.read_bytes()[:-1]), ztensor.FormatError, "TRUNCATED"),
    "cut by half": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        ztensor.FormatError,
        "TRUNCATED",
    ),
    "longer by a byte": (lambda path: path.write_bytes(path.read_bytes() + b"\0"), ztensor.FormatError, "TRUNCATED"),
    "footer": (lambda path: flip(path, path.stat().st_size - 60), ztensor.FormatError, "FOOTER"),
    "version": (lambda path: rewrite_footer(path, 28, "<I", 2), ztensor.FormatError, "VERSION"),
    "size": (lambda path: rewrite_footer(path, 16, "<Q", 10**6), ztensor.FormatError, "TRUNCATED|FOOTER"),
    "index elsewhere": (lambda path: rewrite_footer(path, 0, "<Q", 2**60), ztensor.FormatError, "FOOTER"),
    "index": (damage_index, ztensor.ChecksumError, "INDEX_CHECKSUM"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_not_opened(case: str, path: Path, mode: str) -> None:
    damage, expected, status = DAMAGE[case]
    model(path)
    damage(path)
    with pytest.raises(expected) as caught:
        Reader(path, mode=mode)
    assert str(caught.value).startswith(f"{path}: ")
    assert type(caught.value) is expected
    assert text(lib.zt_status_name(caught.value.status)) in status.split("|")
    with pytest.raises(expected, match="<memory>: "):
        Reader(path.read_bytes())


@pytest.mark.parametrize("name, verify", [("layer.w", None), ("layer.b", True)], ids=["zstd", "raw"])
def test_damaged_data_names_file_tensor_and_component(name: str, verify: bool | None, path: Path, mode: str) -> None:
    model(path)
    with Reader(path) as reader:
        flip(path, reader.metadata(name).offset + 10)
    with Reader(path, mode=mode) as reader:
        for read in (
            lambda: reader.read_tensor(name, verify=verify),
            lambda: reader.read_tensors(["first", name], verify=verify),
            lambda: reader.read_rows(name, 0, 10, verify=verify),
        ):
            with pytest.raises(ztensor.ChecksumError) as caught:
                read()
            assert str(caught.value).startswith(f'{path}: tensor "{name}", component "data": ')


def test_both_checksums_are_told(path: Path) -> None:
    model(path)
    with Reader(path) as reader:
        meta = reader.metadata("layer.b")
    flip(path, meta.offset)
    found = zlib.crc32(path.read_bytes()[meta.offset :][: meta.size])
    with pytest.raises(ztensor.ChecksumError, match=f"{meta.checksum}.*crc32:{found:08x}"):
        Reader(path, verify=True)["layer.b"]


def test_a_file_that_cannot_be_opened_is_an_os_error(tmp_path: Path, mode: str) -> None:
    for missing in (tmp_path / "missing.zt", tmp_path / "missing" / "model.zt"):
        with pytest.raises(FileNotFoundError, match=f"^{missing}: .*No such file") as caught:
            Reader(missing, mode=mode)
        assert type(caught.value) is ztensor.MissingFileError
        assert caught.value.errno == errno.ENOENT
    with pytest.raises(IsADirectoryError, match=f"^{tmp_path}: .*not a regular file"):
        Reader(tmp_path, mode=mode)
    with pytest.raises(ztensor.FileError, match="/dev/null") as other:
        Reader("/dev/null", mode=mode)
    assert other.value.errno == errno.EINVAL


# Of the operating system.

SYSTEM = {
    "PermissionError": [errno.EACCES, errno.EPERM],
    "FileExistsError": [errno.EEXIST],
    "FileNotFoundError": [errno.ENOENT],
    "IsADirectoryError": [errno.EISDIR],
    "NotADirectoryError": [errno.ENOTDIR],
    "InterruptedError": [errno.EINTR],
    "BlockingIOError": [errno.EAGAIN, errno.EINPROGRESS],
    "TimeoutError": [errno.ETIMEDOUT],
    "BrokenPipeError": [errno.EPIPE, errno.ESHUTDOWN],
    "ConnectionResetError": [errno.ECONNRESET],
    "ConnectionRefusedError": [errno.ECONNREFUSED],
    "ConnectionAbortedError": [errno.ECONNABORTED],
    "ChildProcessError": [errno.ECHILD],
    "ProcessLookupError": [errno.ESRCH],
    "OSError": [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE, errno.EXDEV],
}


@pytest.mark.parametrize("name, number", [(name, number) for name, numbers in SYSTEM.items() for number in numbers])
def test_an_error_of_the_system_is_the_builtin_one_of_its_number(name: str, number: int) -> None:
    given = errors.file_error("a.zt: cannot read the file: oh", number, "a.zt")
    given.status = 20
    builtin = getattr(builtins, name)
    assert type(OSError(number, "")) is builtin, "Python itself says so"
    for found in (given, pickle.loads(pickle.dumps(given)), copy.copy(given), copy.deepcopy(given)):
        assert isinstance(found, builtin) and isinstance(found, ztensor.FileError)
        assert isinstance(found, ztensor.MissingFileError) == (number == errno.ENOENT)
        assert type(found) is type(given) and type(found).__name__ in (name, "FileError", "MissingFileError")
        assert (found.errno, found.strerror, found.filename) == (number, os.strerror(number), "a.zt")
        assert (str(found), found.status) == ("a.zt: cannot read the file: oh", 20)


def test_every_builtin_exception_of_the_system_has_its_class() -> None:
    numbers = {type(OSError(number, "")) for number in errno.errorcode}
    assert numbers <= {OSError, *errors._FILE_ERRORS}


def fails(call: Callable[[], object]) -> ztensor.FileError:
    with pytest.raises(ztensor.FileError) as caught:
        call()
    found = caught.value
    assert str(found).startswith(f"{found.filename}: cannot ") and found.status is not None
    assert isinstance(found, type(OSError(found.errno, ""))) and found.strerror == os.strerror(found.errno or 0)
    return found


def test_errors_of_the_system_have_number_and_file(tmp_path: Path, mode: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    os.symlink("loop", tmp_path / "loop")
    long = tmp_path / ("x" * 300)
    for path, number in (
        (tmp_path / "file" / "model.zt", errno.ENOTDIR),
        (tmp_path, errno.EISDIR),
        (tmp_path / "nowhere" / "model.zt", errno.ENOENT),
        (tmp_path / "loop", errno.ELOOP),
        (long, errno.ENAMETOOLONG),
    ):
        for call in (lambda: Reader(path, mode=mode), lambda: Writer(path)):
            found = fails(call)
            assert (found.errno, found.filename) == (number, str(path))


def test_a_file_name_that_is_not_text_is_in_the_error(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.zt")
    for call in (lambda: Reader(path), lambda: Writer(path + "/model.zt")):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.filename in (path, path + "/model.zt")


def test_errors_of_other_kinds_have_no_number(path: Path) -> None:
    with pytest.raises(ztensor.MissingFileError):
        Reader(path)
    with pytest.raises(ztensor.FormatError) as caught:
        Reader(b"no file")
    assert lib.zt_last_error_errno() == 0 and not hasattr(caught.value, "errno")


REFUSED_BY_THE_SYSTEM = """
import errno, os, sys
import numpy as np, ztensor.numpy as ztn
from ztensor import Reader, Writer

ztn.load(ztn.save({"x": np.arange(3)}))
os.chdir(sys.argv[1])
if os.getuid() == 0:
    # Root may do everything; another user may not.
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for call in (
    lambda: Reader("secret.zt"),
    lambda: Reader("locked/model.zt"),
    lambda: ztn.load_file("secret.zt", mode="read"),
    lambda: ztn.save_file({"x": np.arange(3)}, "locked/new.zt"),
    lambda: Writer("new.zt"),
):
    try:
        call()
    except PermissionError as err:
        print(err.errno == errno.EACCES, err.strerror, str(err).startswith(f"{err.filename}: cannot "))
"""


def test_what_may_not_be_done_is_a_permission_error(tmp_path: Path) -> None:
    model(tmp_path / "secret.zt")
    (tmp_path / "secret.zt").chmod(0)
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0)
    tmp_path.chmod(0o555)
    try:
        assert run_python(REFUSED_BY_THE_SYSTEM, tmp_path) == "True Permission denied True\n" * 5
    finally:
        tmp_path.chmod(0o755)


def test_a_full_disk_has_its_number(path: Path) -> None:
    code = """
import resource, signal, sys
import numpy as np, ztensor.numpy as ztn
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ztn.save({"x": np.ones(3)})
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    ztn.save_file({"x": np.ones(1 << 20)}, sys.argv[1])
except OSError as err:
    print(err.errno, err.filename)
"""
    assert run_python(code, path).split() == [str(errno.EFBIG), str(path)]


def test_a_status_is_remembered(path: Path) -> None:
    with pytest.raises(ztensor.ZTensorError) as caught:
        Reader(path)
    assert caught.value.status == lib.ZT_ERR_FILE_NOT_FOUND
    with pytest.raises(ztensor.ZTensorError) as caught:
        Reader(path, mode="copy")
    assert caught.value.status is None


def test_every_error_while_writing_names_file_and_tensor(path: Path) -> None:
    with Writer(path) as writer:
        writer.add_tensor("x", np.zeros(3))
        with pytest.raises(ztensor.ArgumentError) as caught:
            writer.add_tensor("x", np.zeros(3))
        assert str(caught.value).startswith(f'{path}: tensor "x": ')
        with pytest.raises(ztensor.ArgumentError) as caught:
            writer.add_sparse_csr("s", np.ones(1), np.array([9]), np.array([0, 1]), (1, 3))
        assert str(caught.value).startswith(f'{path}: tensor "s", component "indices": ')
        assert caught.value.status == lib.ZT_ERR_SPARSE


def test_no_error_leaves_an_exception_of_c_behind(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(50):
        with pytest.raises(ztensor.MissingFileError):
            Reader(path)
    assert capfd.readouterr() == ("", "")


# Types that this version does not know. Such files are made here by another program: this test.


def pack(value: Any) -> bytes:
    """MessagePack of what an index holds."""
    if value is None:
        return b"\xc0"
    if isinstance(value, int):
        return b"\xcf" + struct.pack(">Q", value)
    if isinstance(value, str):
        data = value.encode()
        return b"\xdb" + struct.pack(">I", len(data)) + data
    if isinstance(value, list):
        return b"\xdd" + struct.pack(">I", len(value)) + b"".join(map(pack, value))
    return b"\xdf" + struct.pack(">I", len(value)) + b"".join(pack(key) + pack(item) for key, item in value.items())


def foreign(path: Path, record: list[Any], blob: bytes = bytes(128), metadata: dict[str, Any] | None = None) -> None:
    """A file of one tensor with whatever in its record."""
    signature = b"\x89ZTM\r\n\x1a\n"
    index = pack({"tensors": [record], "metadata": metadata or {}})
    head = signature + bytes(56) + blob + bytes(-len(blob) % 64)
    footer = struct.pack("<QQQII20x", len(head), len(index), len(head) + len(index) + 64, zlib.crc32(index), 1)
    path.write_bytes(head + index + footer + struct.pack("<I", zlib.crc32(footer)) + signature)


def component(dtype: str = "uint8", size: int = 8, encoding: Any = None) -> list[Any]:
    return ["data", dtype, 64, size, zlib.crc32(bytes(size)), encoding]


def test_the_files_of_this_test_are_valid(path: Path, mode: str) -> None:
    foreign(path, ["x", "uint8", [8], "dense", [component()], None])
    with Reader(path, mode=mode, verify=True) as reader:
        assert (reader["x"] == np.zeros(8, np.uint8)).all()
        reader.verify()


UNKNOWN = {
    "element type": (["odd one", "posit16", [4], "dense", [component("posit16")]], "posit16"),
    "layout": (["odd one", "uint8", [8], "ragged", [component(), ["splits", "int64", 128, 8, None]]], "ragged"),
    "encoding": (["odd one", "uint8", [8], "dense", [component(encoding=["lz9", 1])]], "lz9|encoding"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_not_known_is_listed_and_not_read(case: str, path: Path, mode: str) -> None:
    record, says = UNKNOWN[case]
    foreign(path, record)
    with Reader(path, mode=mode) as reader:
        assert reader.tensor_names == ["odd one"]
        meta = reader[0]
        assert (meta.name, meta.dtype_str, meta.layout) == ("odd one", record[1], record[3])
        assert meta.encoding == (None if case == "encoding" else "raw")
        for read in (
            lambda: reader["odd one"],
            lambda: reader.read_tensors(["odd one"]),
            lambda: reader._load_all("numpy"),
        ):
            with pytest.raises(ztensor.UnknownTypeError, match=f'tensor "odd one".*({says})'):
                read()
        if case == "element type":
            with pytest.raises(ztensor.UnknownTypeError, match="'odd one'.*posit16"):
                meta.dtype
        reader.verify()


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_not_known_is_not_loaded_to_the_meta_device(case: str, path: Path) -> None:
    torch = pytest.importorskip("torch")
    import ztensor.torch

    foreign(path, UNKNOWN[case][0])
    if case == "encoding":
        # Shape and type are known, and no data is read.
        assert ztensor.torch.load_file(path, device="meta")["odd one"].dtype is torch.uint8
    else:
        with pytest.raises(ztensor.ZTensorError, match="'odd one'"):
            ztensor.torch.load_file(path, device="meta")


def test_key_values_of_other_programs_do_no_harm(path: Path) -> None:
    metadata = {"a": {"$bytes": "no hex"}, "b": {"$float": "x"}, "c": {"$bytes": 3}, "d": {"$other": None}}
    foreign(path, ["x", "uint8", [8], "dense", [component()], metadata], metadata=metadata)
    with Reader(path) as reader:
        assert reader.file_metadata == metadata
        assert reader[0].attributes == metadata
