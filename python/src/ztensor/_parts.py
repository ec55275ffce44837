"""What stands between arrays and the C ABI: tensors as memory, many of them in few lists.

A list for each column, rather than an object for each tensor, is what lets a hundred thousand tensors pass in a fraction of
a second, and it is the form in which arrays of C structs are filled and read.
"""

from __future__ import annotations

from typing import Any, Callable

#: Copies that are held at a time when many tensors are added, in bytes: what is due is written then.
MAX_MADE = 16 * 1024 * 1024


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
    attributes : dict
        Key-values that a tensor has by its class, as JSON, by the number of the tensor.
    sparse_class : str or None
        Of the last tensor: ``"array"`` or ``"matrix"`` if it is one of SciPy.
    owners : list
        What must live until the tensors are written, beside the caller's own objects.
    made : int
        Bytes that `owners` take.
    """

    def __init__(self, numbers: dict[Any, tuple[int, Any]] | None = None, taken: int = 0) -> None:
        #: Numbers of memory that is stored once, by its key, each with an object that keeps that memory alive; None
        #: where nothing is stored once.
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
        self.attributes: dict[int, bytes] = {}
        self.sparse_class: str | None = None
        self.owners: list[Any] = []
        self.made = 0

    def add_component(self, address: int, nbytes: int, dtype: int, key: Any, owner: Any = None) -> None:
        """Add the memory of a component. The same `key` stands for the same bytes, None for bytes of their own.

        A key that is made of an address is only right while the memory lives. So `owner`, which keeps the memory alive,
        is held as long as the keys are, and at least until the component is written.
        """
        self.addresses.append(address)
        self.sizes.append(nbytes)
        self.component_dtypes.append(dtype)
        if owner is not None:
            self.owners.append(owner)
        numbers = self.numbers
        if numbers is None or key is None or not nbytes:
            self.shares.append(0)
        else:
            # Numbered in the order in which they come up, so that the same calls write the same bytes.
            number, _ = numbers.setdefault((key, dtype), (self.taken + len(numbers) + 1, owner))
            self.shares.append(number)

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


# Spelled out: named tuples take a millisecond more of the import of ztensor.


class Raw:
    """A component that was read: a buffer object, where the component begins in it, and its bytes."""

    __slots__ = ("buffer", "start", "nbytes", "dtype")

    def __init__(self, buffer: Any, start: int, nbytes: int, dtype: int) -> None:
        self.buffer = buffer
        self.start = start
        self.nbytes = nbytes
        self.dtype = dtype


class Loaded:
    """A sparse tensor that was read.

    `blocksize` is rows and columns of a block, for the blocked layouts.
    """

    __slots__ = ("name", "layout", "dtype", "shape", "blocksize", "raws")

    def __init__(
        self,
        name: str,
        layout: int,
        dtype: int,
        shape: tuple[int, ...],
        blocksize: tuple[int, int] | None,
        raws: list[Raw],
    ) -> None:
        self.name = name
        self.layout = layout
        self.dtype = dtype
        self.shape = shape
        self.blocksize = blocksize
        self.raws = raws


class Described:
    """Tensors as the file describes them: a list for each column.

    `component_dtypes` has those of all components, behind each other, and `blocksizes` rows and columns of a block, by the
    place of the tensor, for the blocked layouts. `attributes` returns the key-values of a sparse tensor as JSON, by its
    place.
    """

    __slots__ = ("names", "layouts", "dtypes", "shapes", "counts", "component_dtypes", "blocksizes", "attributes")

    def __init__(
        self,
        names: list[str],
        layouts: list[int],
        dtypes: list[int],
        shapes: list[tuple[int, ...]],
        counts: list[int],
        component_dtypes: list[int],
        blocksizes: dict[int, tuple[int, int]],
        attributes: Callable[[int], bytes] | None = None,
    ) -> None:
        self.names = names
        self.layouts = layouts
        self.dtypes = dtypes
        self.shapes = shapes
        self.counts = counts
        self.component_dtypes = component_dtypes
        self.blocksizes = blocksizes
        self.attributes = attributes


class Batch:
    """Tensors that were read: what the file says of them, and where their components lie.

    Of all components, behind each other: `memories` has the number of the buffer, `starts` where the component begins in
    it, `sizes` its bytes.
    """

    __slots__ = ("described", "buffers", "memories", "starts", "sizes")

    def __init__(
        self, described: Described, buffers: list[Any], memories: list[int], starts: list[int], sizes: list[int]
    ) -> None:
        self.described = described
        self.buffers = buffers
        self.memories = memories
        self.starts = starts
        self.sizes = sizes

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
