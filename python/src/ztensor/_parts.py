"""What stands between arrays and the C ABI: tensors as components of plain memory."""

from __future__ import annotations

from typing import Any, NamedTuple

#: A row of memory that a component is made of, as numbers: address, bytes, code of the element type, and the key by
#: which the same memory is known again, or None.
Component = tuple[int, int, int, Any]


class Parts(NamedTuple):
    """A tensor that is about to be written."""

    layout: int
    dtype: int
    shape: tuple[int, ...]
    components: tuple[Component, ...]
    #: What must live until the tensor is written.
    owner: Any
    #: Bytes of memory that were made for this, such as a packed copy.
    made: int = 0
    blocksize: tuple[int, int] = (0, 0)


class Raw(NamedTuple):
    """A component that was read: a buffer object, where the component begins in it, and its bytes."""

    buffer: Any
    start: int
    nbytes: int
    dtype: int


class Loaded(NamedTuple):
    """A tensor that was read."""

    name: str
    layout: int
    dtype: int
    shape: tuple[int, ...]
    #: Rows and columns of a block, for the blocked layouts.
    blocksize: tuple[int, int] | None
    raws: list[Raw]
