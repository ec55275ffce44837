"""Tensor files that load without a copy, compress losslessly and detect damage.

``Writer`` and ``Reader`` work with NumPy arrays, SciPy sparse matrices and torch tensors; ``ztensor.numpy`` and
``ztensor.torch`` save and load whole dictionaries; ``convert`` brings files of older generations to the present format.
torch, SciPy and ml_dtypes are imported only when they are asked for.
"""

from ztensor._convert import convert
from ztensor._metadata import TensorMetadata
from ztensor._paths import get_include, get_library
from ztensor._reader import Reader
from ztensor._writer import Writer
from ztensor.errors import (
    ArgumentError,
    CancelledError,
    ChecksumError,
    DefectError,
    FileError,
    FormatError,
    MissingDependencyError,
    MissingFileError,
    OutOfMemoryError,
    StateError,
    TensorIndexError,
    TensorNotFoundError,
    UnknownTypeError,
    UnsupportedTensorError,
    ZTensorError,
)
from ztensor._call import text as _text
from ztensor._ffi import lib as _lib

__version__: str = _text(_lib.zt_version())

__all__ = [
    "Reader",
    "Writer",
    "TensorMetadata",
    "convert",
    "get_include",
    "get_library",
    "ZTensorError",
    "ArgumentError",
    "CancelledError",
    "ChecksumError",
    "DefectError",
    "FileError",
    "FormatError",
    "MissingDependencyError",
    "MissingFileError",
    "OutOfMemoryError",
    "StateError",
    "TensorIndexError",
    "TensorNotFoundError",
    "UnknownTypeError",
    "UnsupportedTensorError",
    "__version__",
]
