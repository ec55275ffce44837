"""From C's statuses to exceptions, and text in both directions."""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Mapping
from typing import Any, Literal, Union

import numpy as np

from ztensor import _progress
from ztensor._ffi import ffi, lib
from ztensor.errors import BY_STATUS, ArgumentError, DefectError, FileError, FormatError, ZTensorError, file_error

#: What a tensor is returned as, how a file is read, and when one that was written is flushed to the disk.
To = Literal["numpy", "torch"]
Mode = Literal["mmap", "read"]
Fsync = Union[Literal["auto"], bool]


def check(status: int, filename: str | None = None) -> None:
    """Raise the exception that stands for a status, unless it is success; `filename` as for `error`."""
    if status:
        raise error(status, filename)


def error(status: int, filename: str | None = None) -> BaseException:
    """The exception that stands for a status, with the library's own message; what a callback raised comes before it.

    `filename` is the path that the call was about, where the library knows it by bytes that are not UTF-8 alone.
    """
    raised = _progress.take_raised(status)
    if raised is not None:
        return raised
    message = ffi.string(lib.zt_last_error_message()).decode("utf-8", "replace")
    name = lib.zt_status_name(status)
    kind = BY_STATUS.get(ffi.string(name).decode(), ZTensorError) if name else DefectError
    number = lib.zt_last_error_errno()
    if issubclass(kind, FileError) and number:
        known = ffi.string(lib.zt_last_error_file()).decode("utf-8", "replace") or None
        is_lossy = known is not None and "\ufffd" in known
        found: ZTensorError = file_error(message, number, filename if filename is not None and is_lossy else known)
    else:
        found = kind(message)
    found.status = status
    return found


def refusal(status: int, filename: str | None = None) -> BaseException:
    """The exception for a tensor that was not added: what breaks a rule of the format is a wrong argument here."""
    found = error(status, filename)
    if not isinstance(found, FormatError):
        return found
    wrong = ArgumentError(str(found))
    wrong.status = status
    return wrong


def text(pointer: Any) -> str:
    """The text that a NUL-terminated string of C holds."""
    found: bytes = ffi.string(pointer)
    return found.decode("utf-8")


def encode_name(name: Any) -> bytes:
    """A tensor's name as C takes it."""
    if not isinstance(name, str):
        raise ArgumentError(f"a tensor's name is a str, not {type(name).__name__}: {name!r}")
    try:
        return name.encode("utf-8")
    except UnicodeEncodeError as err:
        raise ArgumentError(f"the name {name!r} cannot be written as UTF-8: {err}") from None


def encode_path(path: str | os.PathLike[str]) -> bytes:
    """A path as C takes it."""
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"path is a str or os.PathLike, not {type(path).__name__}")
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as err:
        raise ArgumentError(f"the path {path!r} cannot be written in the encoding of file names: {err}") from None
    if not encoded:
        raise ArgumentError("the path is empty")
    if b"\0" in encoded:
        raise ArgumentError(f"the path {path!r} holds a NUL")
    return encoded


def integer(value: Any, what: str) -> int:
    """An integer; `what` it is, for messages."""
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentError(f"{what} is {value!r}, not an integer") from None


def thread_count(threads: int | None) -> int:
    """The number of threads as C takes it: 0 for as many as the machine has."""
    if threads is None:
        return 0
    found = integer(threads, "threads")
    if found < 1:
        raise ArgumentError(f"threads is {found}; it is 1 or more, or None for as many as the machine has")
    # There are never as many.
    return min(found, 1 << 31)


def buffer_view(pointer: Any, size: int) -> Any:
    """The bytes of a ``ZtBuffer *`` as a writable buffer object that frees the handle when the last view of it is
    gone: whatever is made from the buffer object keeps it, and it keeps the handle.
    """
    owner = ffi.gc(pointer, lib.zt_buffer_free, size)
    return ffi.buffer(keeping(lib.zt_buffer_data(pointer), owner), size)


def keeping(pointer: Any, owner: Any) -> Any:
    """A pointer that keeps `owner` for as long as it lives.

    What is called when it goes runs no Python code: that would run the handlers of signals, and a KeyboardInterrupt that is
    raised there is lost.
    """
    return ffi.gc(pointer, functools.partial(operator.is_, owner))


class Json(bytes):
    """Key-values as the JSON text that C gives and takes."""


def take_text(pointer: Any) -> Json:
    """The JSON in a ``ZtBuffer *``, which is freed."""
    try:
        return Json(ffi.unpack(ffi.cast("char *", lib.zt_buffer_data(pointer)), lib.zt_buffer_len(pointer)))
    finally:
        lib.zt_buffer_free(pointer)


def take_json(pointer: Any) -> dict[str, Any]:
    """The key-values in a ``ZtBuffer *`` of JSON, which is freed."""
    import json

    found: dict[str, Any] = json.loads(take_text(pointer))
    return {key: _untagged(value) for key, value in found.items()}


def to_json(metadata: Mapping[str, Any] | Json | None, what: str) -> bytes:
    """Key-values as the JSON text that C takes.

    Values are None, bool, int of 64 bits, float, str, bytes, and lists, tuples and mappings of these. NumPy's scalars, and
    arrays of no dimension, are the Python values that they equal.
    """
    if metadata is None:
        return b""
    if isinstance(metadata, Json):
        return metadata
    import json  # few files have key-values

    if not isinstance(metadata, Mapping):
        raise ArgumentError(f"{what} is a mapping from str to values, not {type(metadata).__name__}")
    try:
        tagged = {key: _tagged(value, f"{what}[{key!r}]", _MAX_DEPTH) for key, value in _with_str_keys(metadata, what).items()}
        return json.dumps(tagged, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except RecursionError:
        raise ArgumentError(f"{what}: lists and mappings stand too deep in each other: at most {_MAX_DEPTH} deep") from None
    except UnicodeEncodeError as err:
        raise ArgumentError(f"{what}: text that cannot be written as UTF-8: {err}") from None


def _with_str_keys(mapping: Mapping[Any, Any], what: str) -> Mapping[str, Any]:
    for key in mapping:
        if not isinstance(key, str):
            raise ArgumentError(f"{what}: the key {key!r} is not a str")
    return mapping


#: How deep lists and mappings may stand in each other, as the library has it.
_MAX_DEPTH = 63


def _tagged(value: Any, what: str, depth: int) -> Any:
    """Replace what JSON cannot spell by the library's objects of one key. Lists and mappings may stand `depth` deep."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if type(value) is np.ndarray and not value.ndim:
        # What is in it may be text, None, or a list.
        return _tagged(value[()], what, depth)
    # Types that Python has not, such as extended floats, stay what they are.
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise ArgumentError(f"{what}: the integer {value} does not fit 64 bits")
        return int(value)
    if isinstance(value, float):
        if value != value:
            return {"$float": "nan"}
        if value in (float("inf"), float("-inf")):
            return {"$float": "inf" if value > 0 else "-inf"}
        return float(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": bytes(value).hex()}
    if isinstance(value, (list, tuple, Mapping)) and not depth:
        raise RecursionError
    if isinstance(value, (list, tuple)):
        return [_tagged(item, what, depth - 1) for item in value]
    if isinstance(value, Mapping):
        entries = _with_str_keys(value, what)
        if len(entries) == 1 and next(iter(entries)).startswith("$"):
            raise ArgumentError(f"{what}: a mapping of the one key {next(iter(entries))!r} is reserved, for its $")
        return {key: _tagged(item, f"{what}[{key!r}]", depth - 1) for key, item in entries.items()}
    raise ArgumentError(
        f"{what}: a {type(value).__name__} cannot be stored; values are None, bool, int, float, str, bytes, scalars of NumPy, "
        "and lists and mappings of these" + ("; pass x.tolist()" if isinstance(value, np.ndarray) else "")
    )


def _untagged(value: Any) -> Any:
    """Undo `_tagged`."""
    if isinstance(value, list):
        return [_untagged(item) for item in value]
    if not isinstance(value, dict):
        return value
    try:
        if len(value) == 1 and "$bytes" in value:
            return bytes.fromhex(value["$bytes"])
        if len(value) == 1 and "$float" in value:
            return float(value["$float"])
    except (TypeError, ValueError):
        # Another program stored a map of this key, with something else in it.
        pass
    return {key: _untagged(item) for key, item in value.items()}
