"""Arrays of C structs as NumPy sees them: whole columns at once, instead of a field at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ztensor._ffi import ffi

if TYPE_CHECKING:
    import numpy.typing as npt


def _format(field: Any) -> Any:
    kind = field.type.kind
    if kind == "array":
        return (_format_of(field.type.item), (field.type.length,))
    return _format_of(field.type)


def _format_of(kind: Any) -> str:
    signed = kind.kind == "primitive" and not kind.cname.startswith(("uint", "size_t"))
    return f"{'i' if signed else 'u'}{ffi.sizeof(kind)}"


def struct_dtype(name: str) -> np.dtype[Any]:
    """The NumPy type of a struct of ``ztensor.h``. Pointers are unsigned integers."""
    struct = ffi.typeof(name)
    fields = struct.fields
    return np.dtype(
        {
            "names": [field for field, _ in fields],
            "formats": [_format(field) for _, field in fields],
            "offsets": [field.offset for _, field in fields],
            "itemsize": ffi.sizeof(struct),
        }
    )


TENSOR = struct_dtype("ZtTensor")
COMPONENT = struct_dtype("ZtComponent")
SPAN = struct_dtype("ZtSpan")
TENSOR_SPEC = struct_dtype("ZtTensorSpec")
COMPONENT_SPEC = struct_dtype("ZtComponentSpec")


def address(pointer: Any) -> int:
    """A pointer as structs hold it."""
    return int(ffi.cast("uintptr_t", pointer))


def view(pointer: Any, count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An array over `count` structs that somebody else keeps alive."""
    if not count:
        return np.empty(0, dtype)
    return np.frombuffer(ffi.buffer(pointer, count * dtype.itemsize), dtype)
