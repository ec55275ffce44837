"""What stands between arrays and the C ABI: tensors as memory, many of them in few lists.

A list for each column, rather than an object for each tensor, is what lets a hundred thousand tensors pass in a fraction of
a second, and it is the form in which arrays of C structs are filled and read.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Specs:
    """Tensors that are about to be written.

    Attributes
    ----------
    names, dtypes, layouts, ndims, counts : list
        One entry a tensor: the name in UTF-8, codes of element type and layout, the numbers of dimensions and of
        components.
    dims : list of int
        The dimensions of all tensors, behind each other.
    addresses, sizes, component_dtypes, shares : list of int
        One entry a component, behind each other.
    blocksizes : dict
        Rows and columns of a block, by the number of the tensor.
    owners : list
        What must live until the tensors are written, beside the caller's own objects.
    made : int
        Bytes that `owners` take.
    """

    def __init__(self, numbers: dict[Any, int] | None = None, taken: int = 0) -> None:
        #: Numbers of memory that is stored once, by its key; None where nothing is shared.
        self.numbers = numbers
        #: Numbers that stand for other memory already.
        self.taken = taken
        self.names: list[bytes] = []
        self.dtypes: list[int] = []
        self.layouts: list[int] = []
        self.ndims: list[int] = []
        self.counts: list[int] = []
        self.dims: list[int] = []
        self.addresses: list[int] = []
        self.sizes: list[int] = []
        self.component_dtypes: list[int] = []
        self.shares: list[int] = []
        self.blocksizes: dict[int, tuple[int, int]] = {}
        self.owners: list[Any] = []
        self.made = 0

    def add_component(self, address: int, nbytes: int, dtype: int, key: Any) -> None:
        """Add the memory of a component. The same `key` stands for the same bytes, None for bytes of their own."""
        self.addresses.append(address)
        self.sizes.append(nbytes)
        self.component_dtypes.append(dtype)
        numbers = self.numbers
        if numbers is None or key is None or not nbytes:
            self.shares.append(0)
        else:
            # Numbered in the order in which they come up, so that the same calls write the same bytes.
            self.shares.append(numbers.setdefault((key, dtype), self.taken + len(numbers) + 1))

    def keep(self, owner: Any, nbytes: int) -> None:
        """Keep a packed copy until it is written."""
        self.owners.append(owner)
        self.made += nbytes

    def end_tensor(self, layout: int, dtype: int, shape: Any, components: int = 1) -> None:
        """End a tensor whose components were added."""
        self.layouts.append(layout)
        self.dtypes.append(dtype)
        self.dims.extend(shape)
        self.ndims.append(len(shape))
        self.counts.append(components)


class Raw(NamedTuple):
    """A component that was read: a buffer object, where the component begins in it, and its bytes."""

    buffer: Any
    start: int
    nbytes: int
    dtype: int


class Loaded(NamedTuple):
    """A sparse tensor that was read."""

    name: str
    layout: int
    dtype: int
    shape: tuple[int, ...]
    #: Rows and columns of a block, for the blocked layouts.
    blocksize: tuple[int, int] | None
    raws: list[Raw]


class Described(NamedTuple):
    """Tensors as the file describes them: a list for each column."""

    names: list[str]
    layouts: list[int]
    dtypes: list[int]
    shapes: list[tuple[int, ...]]
    counts: list[int]
    #: Of all components, behind each other.
    component_dtypes: list[int]
    #: Rows and columns of a block, by the place of the tensor, for the blocked layouts.
    blocksizes: dict[int, tuple[int, int]]


class Batch(NamedTuple):
    """Tensors that were read: what the file says of them, and where their components lie."""

    described: Described
    buffers: list[Any]
    #: Of all components, behind each other: the number of the buffer, where the component begins in it, its bytes.
    memories: list[int]
    starts: list[int]
    sizes: list[int]

    def sparse(self, at: int, first: int) -> Loaded:
        """The tensor at a place, whose first component has the number `first`."""
        described = self.described
        raws = [
            Raw(self.buffers[self.memories[part]], self.starts[part], self.sizes[part], described.component_dtypes[part])
            for part in range(first, first + described.counts[at])
        ]
        return Loaded(
            described.names[at],
            described.layouts[at],
            described.dtypes[at],
            described.shapes[at],
            described.blocksizes.get(at),
            raws,
        )
