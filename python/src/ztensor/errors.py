"""What ztensor raises.

Every exception is a :class:`ZTensorError` and also the builtin exception that users of files, dictionaries and
lists expect, so that ``except KeyError`` and ``except ZTensorError`` both work. What the operating system refuses is a
:class:`FileError` and also the builtin exception of its ``errno``: ``except PermissionError`` works.
"""

from __future__ import annotations

import os

__all__ = [
    "ZTensorError",
    "ArgumentError",
    "UnsupportedTensorError",
    "MissingDependencyError",
    "TensorNotFoundError",
    "TensorIndexError",
    "StateError",
    "CancelledError",
    "FileError",
    "MissingFileError",
    "FormatError",
    "ChecksumError",
    "UnknownTypeError",
    "DefectError",
    "OutOfMemoryError",
]


class ZTensorError(Exception):
    """Anything that goes wrong in ztensor.

    Attributes
    ----------
    status : int or None
        The number that the C function returned (``ZT_ERR_...`` in ``ztensor.h``), or None if the error was
        found before one was called.
    """

    status: int | None = None

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which is unreadable for a sentence.
        return str(self.args[0]) if self.args else ""


class ArgumentError(ZTensorError, ValueError):
    """An argument is not what the call takes, or a tensor breaks a rule of the format."""


class UnsupportedTensorError(ZTensorError, TypeError):
    """An object cannot be stored, or not be given in the form asked for."""


class MissingDependencyError(ZTensorError, ImportError):
    """An optional package is needed; the message says what to install."""


class TensorNotFoundError(ZTensorError, KeyError):
    """The file holds no tensor of this name."""


class TensorIndexError(ZTensorError, IndexError):
    """A number, or a range of rows, lies outside what there is."""


class StateError(ZTensorError, ValueError):
    """The reader is closed, or the writer was finished, abandoned, or failed before."""


class CancelledError(ZTensorError):
    """The progress callback asked to stop."""


class FileError(ZTensorError, OSError):
    """The operating system refused to open, read, map, write or rename.

    If Python has a builtin exception for the error number, the exception is one of that class too: a
    ``PermissionError``, ``IsADirectoryError``, ``NotADirectoryError``, ``TimeoutError`` and so on.

    Attributes
    ----------
    errno : int or None
        The error number of the operating system, such as ``errno.ENOSPC``.
    strerror : str or None
        The operating system's message for it. ``str()`` also says what was attempted.
    filename : str or None
        The path of the file.
    """

    def __reduce__(self) -> tuple[object, ...]:
        # The three are no entries of `__dict__`, and the class may be one that no module names.
        state = {**self.__dict__, "errno": self.errno, "strerror": self.strerror, "filename": self.filename}
        return _rebuild, (_BUILTIN.get(type(self), type(self)), self.args), state


class MissingFileError(FileError, FileNotFoundError):
    """The file, or the directory it is to be written to, does not exist."""


def _file_error(builtin: type[OSError]) -> type[FileError]:
    """The class of a builtin exception that is a FileError too."""
    found: type[FileError] = type(
        builtin.__name__, (FileError, builtin), {"__module__": __name__, "__doc__": f"A FileError that is a builtin {builtin.__name__}."}
    )
    return found


#: FileError and a builtin exception in one, by the builtin one.
_FILE_ERRORS: dict[type[OSError], type[FileError]] = {
    FileNotFoundError: MissingFileError,
    **{
        builtin: _file_error(builtin)
        for builtin in (
            BlockingIOError,
            BrokenPipeError,
            ChildProcessError,
            ConnectionAbortedError,
            ConnectionRefusedError,
            ConnectionResetError,
            FileExistsError,
            InterruptedError,
            IsADirectoryError,
            NotADirectoryError,
            PermissionError,
            ProcessLookupError,
            TimeoutError,
        )
    },
}
_BUILTIN = {found: builtin for builtin, found in _FILE_ERRORS.items() if found is not MissingFileError}


def _rebuild(kind: type[OSError], args: tuple[object, ...]) -> OSError:
    """An exception that was pickled."""
    return _FILE_ERRORS.get(kind, kind)(*args)


def file_error(message: str, number: int, filename: str | None) -> FileError:
    """The exception for an error of the operating system."""
    # Python itself knows which builtin exception stands for the number.
    builtin = type(OSError(number, ""))
    found = _FILE_ERRORS.get(builtin, FileError)(message)
    found.errno, found.strerror, found.filename = number, os.strerror(number), filename
    return found


class FormatError(ZTensorError, ValueError):
    """The file is no ``.zt`` file, or it breaks a rule of the format: it is damaged or was not finished."""


class ChecksumError(FormatError):
    """Bytes do not match their checksum: the file is damaged."""


class UnknownTypeError(ZTensorError, TypeError):
    """An element type, a layout or an encoding is not known to this version of ztensor."""


class DefectError(ZTensorError, RuntimeError):
    """A defect of ztensor itself. Please report it."""


class OutOfMemoryError(ZTensorError, MemoryError):
    """Memory could not be had."""


#: The class of each status, by the name that ``zt_status_name`` gives.
BY_STATUS: dict[str, type[ZTensorError]] = {
    "NULL": DefectError,
    "ARGUMENT": ArgumentError,
    "UTF8": ArgumentError,
    "NOT_FOUND": TensorNotFoundError,
    "DUPLICATE": ArgumentError,
    "RANGE": TensorIndexError,
    "STATE": StateError,
    "CANCELLED": CancelledError,
    "IO": FileError,
    "FILE_NOT_FOUND": MissingFileError,
    "SIGNATURE": FormatError,
    "VERSION": FormatError,
    "TRUNCATED": FormatError,
    "FOOTER": FormatError,
    "INDEX_CHECKSUM": ChecksumError,
    "INDEX": FormatError,
    "NAME": FormatError,
    "SHAPE": FormatError,
    "LAYOUT": FormatError,
    "OFFSET": FormatError,
    "OVERLAP": FormatError,
    "SIZE": FormatError,
    "ENCODING": FormatError,
    "FRAME": ChecksumError,
    "CHECKSUM": ChecksumError,
    "SPARSE": FormatError,
    "UNKNOWN_DTYPE": UnknownTypeError,
    "UNKNOWN_LAYOUT": UnknownTypeError,
    "UNKNOWN_ENCODING": UnknownTypeError,
    "LIMIT": FormatError,
    "PANIC": DefectError,
    "MEMORY": OutOfMemoryError,
}
