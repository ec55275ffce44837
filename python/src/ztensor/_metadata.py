"""What a file says of a tensor."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from ztensor import _dtypes
from ztensor._call import check, take_json, take_text, text
from ztensor._ffi import ffi, lib
from ztensor.errors import UnknownTypeError

_ENCODINGS = {lib.ZT_RAW: "raw", lib.ZT_ZSTD: "zstd"}


class TensorMetadata:
    """What a file says of a tensor.

    It cannot be changed. Two are equal if all that they say is equal.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype_str : str
        Element type as the file spells it, such as ``'float32'`` or ``'bfloat16'``.
    layout : str
        ``'dense'``, ``'sparse_csr'``, ``'sparse_csc'``, ``'sparse_coo'``, ``'sparse_bsr'``, ``'sparse_bsc'``, or a name
        that this version does not know.
    encoding : str or None
        ``'raw'``, ``'zstd'``, or None if this version does not know it. Of a sparse tensor: that of its values.
    offset : int
        Where the data begins in the file, in bytes. Of a sparse tensor: its values.
    size : int
        Stored bytes, of all components together.
    nbytes : int
        Bytes once decoded, of all components together.
    endianness : str or None
        ``'little'``: that of the data as it is given, also where an older generation stores it big-endian.
    checksum : str or None
        Of the stored data, such as ``'crc32:1a2b3c4d'``. Of a sparse tensor: that of its values. Files of older generations
        also have ``'crc32c:...'``, ``'sha256:...'`` and ``'xxh3:...'``, in generation 2 of the decoded data.
    filter : str or None
        What was done to the data before it was compressed: ``'none'``, ``'shuffle'``, ``'float'``, ``'delta'``; None
        if it is not compressed.
    attributes : dict
        The tensor's own key-values.
    """

    name: str
    shape: tuple[int, ...]
    dtype_str: str
    layout: str
    encoding: str | None
    offset: int
    size: int
    nbytes: int
    endianness: str | None
    checksum: str | None
    filter: str | None
    attributes: dict[str, Any]

    # Spelled out: with dataclasses, the import of ztensor takes 3 ms more.
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"what a file says cannot be changed: {name}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"what a file says cannot be changed: {name}")

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if isinstance(other, TensorMetadata) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.name, self.shape, self.dtype_str, self.layout, self.offset, self.size, self.checksum))

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type of the elements.

        Raises
        ------
        MissingDependencyError
            If it takes ml_dtypes, which is not installed.
        UnknownTypeError
            If this version does not know the element type.
        UnsupportedTensorError
            If NumPy has none such: two four-bit floats in a byte.
        """
        row = _dtypes.BY_NAME.get(self.dtype_str)
        if row is None:
            raise UnknownTypeError(f"tensor {self.name!r}: the element type {self.dtype_str!r} is not known")
        return _dtypes.numpy_dtype(row.code)

    def __repr__(self) -> str:
        return f"<TensorMetadata name={self.name!r} shape={self.shape} dtype={self.dtype_str!r}>"


class Description:
    """A tensor as C describes it: what reading needs, cheaply."""

    __slots__ = ("number", "tensor", "_components", "shape", "dtype", "layout")

    def __init__(self, reader: Any, number: int) -> None:
        self.number = number
        self.tensor = ffi.new("ZtTensor *")
        self._components = ffi.new("ZtComponent[3]")
        status = lib.zt_reader_describe(reader, number, self.tensor, self._components, 3)
        if status == lib.ZT_ERR_SIZE:
            # An unknown layout may have more components than any known one; 255 is the most.
            self._components = ffi.new("ZtComponent[255]")
            status = lib.zt_reader_describe(reader, number, self.tensor, self._components, 255)
        check(status)
        self.shape: tuple[int, ...] = tuple(ffi.unpack(self.tensor.shape, self.tensor.ndim)) if self.tensor.ndim else ()
        self.dtype: int = self.tensor.dtype
        self.layout: int = self.tensor.layout

    @property
    def name(self) -> str:
        """The tensor's name."""
        return text(self.tensor.name)

    def component_dtypes(self) -> list[int]:
        """The element types of the components."""
        return [self._components[at].dtype for at in range(self.tensor.component_count)]

    def unknown(self) -> str:
        """The layout, element type or encoding that is not known, in words; empty if all are."""
        kinds = [("layout", self.layout, self.tensor.layout_name), ("element type", self.dtype, self.tensor.dtype_name)]
        for at in range(self.tensor.component_count):
            component = self._components[at]
            kinds.append(("element type", component.dtype, component.dtype_name))
            kinds.append(("encoding", component.encoding, component.encoding_name))
        return next((f"the {kind} {text(name)!r}" for kind, code, name in kinds if not code), "")

    def _checksum(self, reader: Any, first: Any) -> str | None:
        """The checksum of the first component."""
        if first.has_crc32:
            return f"crc32:{first.crc32:08x}"
        out = ffi.new("ZtBuffer **")
        check(lib.zt_reader_checksum(reader, self.number, 0, out))
        return take_text(out[0]).decode("ascii") or None

    def metadata(self, reader: Any) -> TensorMetadata:
        """All that the file says of the tensor."""
        tensor = self.tensor
        first = self._components[0] if tensor.component_count else None
        attributes: dict[str, Any] = {}
        if tensor.has_attributes:
            out = ffi.new("ZtBuffer **")
            check(lib.zt_reader_attributes(reader, self.number, out))
            attributes = take_json(out[0])
        return TensorMetadata(
            name=self.name,
            shape=self.shape,
            dtype_str=text(tensor.dtype_name),
            layout=text(tensor.layout_name),
            encoding=_ENCODINGS.get(first.encoding) if first else None,
            offset=first.offset if first else 0,
            size=sum(self._components[at].stored_len for at in range(tensor.component_count)),
            nbytes=tensor.len,
            endianness="little",
            checksum=self._checksum(reader, first) if first else None,
            filter=text(lib.zt_filter_name(first.filter)) if first and first.filter else None,
            attributes=attributes,
        )
