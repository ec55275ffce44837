"""What NumPy would lose of objects of other libraries.

``__array__`` gives *an* array, not always one of the same values: pandas converts columns of several types to one, so that
integers above 2**53 beside floats are rounded; masks and missing values become numbers. An object is stored only if what
it declares of itself shows that nothing is lost. No library is imported for that: its objects can only exist if it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

import numpy as np

from ztensor._dtypes import BY_NAME

if TYPE_CHECKING:
    import numpy.typing as npt

_COLUMNS = "pass frame.to_numpy(dtype=...) of a type that holds all values, or each column as a tensor of its own"
_MISSING = "with missing values, which would be lost: fill them first, and pass where they were as a tensor of its own"
_UNCLEAR = "pass a NumPy array of the values to store, such as x.to_numpy(dtype=...)"


def has_mask(value: Any) -> bool:
    """Whether an object has a mask of its elements, as an attribute and not as a method."""
    # Looked up without `__getattr__`, by which frames and datasets give columns and coordinates of any name.
    if getattr_static(value, "mask", None) is None:
        return False
    mask = getattr(value, "mask", None)
    return mask is not None and not callable(mask)


def loss_before(value: Any) -> str | None:
    """What an array of `value` would lose, as it can be told without making one; None if nothing."""
    if has_mask(value):
        return "with a mask, which would be lost: pass the values filled, and the mask as a tensor of its own"
    columns = _column_types(value)
    if columns is not None and len({str(one) for one in columns}) > 1:
        kinds = ", ".join(sorted({str(one) for one in columns}))
        return f"whose columns have several types ({kinds}), which NumPy would convert to one: {_COLUMNS}"
    types = columns[:1] if columns is not None else [_element_type(value)]
    # NumPy's own types have missing values only as NaN, which an array keeps.
    if not any(isinstance(one, np.dtype) for one in types) and _has_missing(value):
        return _MISSING
    return None


def loss_after(value: Any, array: npt.NDArray[Any]) -> str | None:
    """What the array that was made of `value` has lost; None if nothing."""
    columns = _column_types(value)
    if columns is not None and not columns:
        return None
    declared = columns[0] if columns is not None else _element_type(value)
    if declared is None:
        return None
    advice = _COLUMNS if columns is not None else _UNCLEAR
    is_same = _is_same_type(declared, array.dtype)
    # What comes by DLPack has the type that the exporter states there.
    if is_same is None and hasattr(value, "__array__"):
        return f"of the type {declared!r}, which is not known, so that NumPy's {array.dtype} may be another one: {advice}"
    if is_same is not False and array.dtype != object:
        return None
    return f"of {declared}, which NumPy gives as {array.dtype}: {advice}"


def _column_types(value: Any) -> list[Any] | None:
    """The types of a table's columns; None if it is no table."""
    types: Any = getattr(value, "dtypes", None)
    if types is None:
        # Tables of Arrow.
        types = getattr(getattr(value, "schema", None), "types", None)
    if isinstance(types, (np.dtype, str)) or callable(types) or not hasattr(types, "__iter__"):
        return None
    return list(types.values()) if isinstance(types, Mapping) else list(types)


def _element_type(value: Any) -> Any:
    """The type of an object's elements, as it declares it."""
    found = getattr(value, "dtype", None)
    # Arrays of Arrow have a `type`.
    return getattr(value, "type", None) if found is None and hasattr(value, "null_count") else found


def _has_missing(value: Any) -> bool:
    """Whether an object, or a column of it, counts missing values of its own."""
    if hasattr(value, "schema") and any(_has_missing(column) for column in value.columns):
        return True
    for name in ("null_count", "isna"):
        found = getattr(value, name, None)
        if callable(found):
            found = found()
        if found is None or isinstance(found, str):
            continue
        if hasattr(found, "to_numpy"):
            found = found.to_numpy()
        if np.any(np.asarray(found)):
            return True
    return False


def _is_same_type(declared: Any, dtype: np.dtype[Any]) -> bool | None:
    """Whether a declared type of elements is that of an array; None if nothing is known of the declared one."""
    for name in ("numpy_dtype", "as_numpy_dtype"):
        found = getattr(declared, name, None)
        if found is not None:
            declared = np.dtype(found)
            break
    kind = declared if isinstance(declared, type) else type(declared)
    library = kind.__module__.partition(".")[0]
    name = _NAMES.get(str(declared).lower(), str(declared).lower())
    if library in ("polars", "pyarrow"):
        return name == dtype.name
    if library == "pandas":
        # Its other types: categories, times with a zone, sparse data.
        return False
    known = _numpy_type(declared)
    if known is not None:
        return known.newbyteorder("=") == dtype.newbyteorder("=")
    # Such as torch.int64, DType.INT64 of an enumeration, and classes of such a name.
    for given in (str(declared), getattr(declared, "name", None), getattr(declared, "__name__", None)):
        name = given.rpartition(".")[2].lower() if isinstance(given, str) else ""
        if name in BY_NAME:
            return name == dtype.name
    return None


def _numpy_type(declared: Any) -> np.dtype[Any] | None:
    """NumPy's type of one of its own, of a name or of a class of scalars; None if it has none."""
    if isinstance(declared, np.dtype):
        return declared
    # What else NumPy takes for a type, such as a list of fields, is not what elements have that are numbers.
    if not isinstance(declared, (str, type)):
        return None
    try:
        found = np.dtype(declared)
    except Exception:
        return None
    # It takes any class for one of objects.
    return None if found == object and declared not in (object, np.object_) and isinstance(declared, type) else found


#: Other names of types that NumPy has.
_NAMES = {"boolean": "bool", "double": "float64", "float": "float32", "halffloat": "float16"}
