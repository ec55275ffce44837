"""Any readable file to the format that is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Callable, Union

from ztensor import _structs
from ztensor._call import Fsync, Json, Mode, check, encode_name, take_text
from ztensor._ffi import ffi, lib
from ztensor._metadata import Description
from ztensor._parts import Specs
from ztensor._progress import cancelled, stops
from ztensor._reader import PathOrBytes, Reader
from ztensor._writer import Writer, compression_level
from ztensor.errors import ArgumentError, UnknownTypeError

__all__ = ["convert"]

#: Decoded bytes, and tensors, that are read and written at a time; a larger tensor is alone.
_MAX_BATCH = 16 * 1024 * 1024
_MAX_COUNT = 65536


def convert(
    src: PathOrBytes,
    dst: Union[str, "os.PathLike[str]"],
    compress: bool | int = False,
    *,
    progress: Callable[[str, int, int], object] | None = None,
    verify: bool = True,
    mode: Mode = "mmap",
    threads: int | None = None,
    fsync: Fsync = "auto",
    atomic: bool = True,
) -> None:
    """Write the tensors of any readable file to a new file of the present format.

    Files of every generation are read, shards included. Tensors keep their order, names, shapes, element types, layouts
    and attributes, and the file its metadata, bit for bit; what was stored once is stored once again. No array package
    takes part, so element types that NumPy lacks are converted too.

    The new file takes its name when it is whole; until then, and if anything fails, whatever stood there stays. `dst` may
    be `src`: the file is replaced by its own conversion. Shards beside `src` are then no longer needed, but they are left
    where they are.

    Tensors are read and written one after the other, small ones some 16 MiB at a time. So memory follows the largest tensor
    that is compressed in `src`, never the file; raw data of a mapped file is passed on from the mapping. With
    ``mode='read'`` it follows the largest tensor of all. Pages of a mapped file count as resident too, but are the system's
    to take back; where a limit on resident memory does not know that, ``mode='read'`` keeps below it.

    Parameters
    ----------
    src : str, os.PathLike or bytes-like
        The path of a file, or the bytes of one.
    dst : str or os.PathLike
        The path of the new file.
    compress : bool or int
        False or 0 stores all data as it is, also what is compressed in `src`; True compresses at level 3; 1 to 22 are
        levels of zstd.
    progress : callable, optional
        Called on this thread for each tensor, in order, once it is written, with its name, the bytes done and the bytes to
        do: decoded bytes of all tensors, tied ones counted each. If it returns False the conversion stops; an exception in it stops it too and is raised.
    verify : bool, default True
        Check raw data of `src` against its checksums, so that no damage is written on under a new checksum. Compressed
        data is always checked.
    mode : {'mmap', 'read'}
        How `src` is read, as for :class:`Reader`.
    threads : int, optional
        Threads that read, decode, checksum and compress; by default as many as the machine has.
    fsync : {'auto', True, False}
        When the new file is flushed to the disk, as for :class:`Writer`.
    atomic : bool, default True
        False writes `dst` in place, as for :class:`Writer`. Then `dst` must not be `src`.

    Raises
    ------
    MissingFileError, FileError, FormatError
        If `src` cannot be opened, or `dst` not be written.
    ChecksumError, FormatError
        If the data is damaged.
    UnknownTypeError
        If a tensor has an element type, a layout or an encoding that this version lists but does not know, as quantised
        layouts of older generations have. The message names the tensor; nothing was written.
    ArgumentError
        If a tensor breaks a rule that its generation did not have: a name that is empty or longer than 4096 bytes.
    CancelledError
        If `progress` returned False.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "model.zt")
    >>> with Writer(path) as writer:
    ...     writer.add_tensor("w", np.zeros((512, 512), np.float32))
    >>> convert(path, path, compress=True)
    >>> with Reader(path) as reader:
    ...     reader.metadata("w").encoding
    'zstd'
    """
    level = compression_level(compress)
    if not atomic and _is_same_file(src, dst):
        raise ArgumentError(f"{os.fsdecode(dst)}: a file cannot be converted in place to itself; leave atomic=False out")
    with Reader(src, mode=mode, verify=verify, threads=threads) as reader:
        source = _Source(reader)
        source.check_known()
        with Writer(dst, metadata=source.metadata(), threads=threads, fsync=fsync, atomic=atomic) as writer:
            # Numbers of blobs that several components share, as the writer takes them.
            numbers: dict[Any, tuple[int, Any]] = {}
            done = 0
            for first, stop in source.batches():
                # Only the generator holds the memory of what it read, so that it goes before more is read.
                for first, specs, attributes in source.specs(first, stop, numbers):
                    writer._add(specs, level, attributes)
                    for number in range(first, first + len(specs.names)):
                        done += source.lens[number]
                        if progress is not None and stops(progress(source.names[number], done, source.total)):
                            raise cancelled()


def _is_same_file(src: Any, dst: Any) -> bool:
    """Whether the file that is read is the one that is written."""
    if not isinstance(src, (str, os.PathLike)):
        return False
    try:
        return os.path.samefile(src, dst)
    except OSError:
        return False


class _Source:
    """The tensors of an open file, as a writer takes them."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._handle = reader._handle()
        _, table, components = reader._tables()
        self.names = reader.tensor_names
        self.lens: list[int] = table["len"].tolist()
        self.total = sum(self.lens)
        self._has_attributes: list[int] = table["has_attributes"].tolist()
        self._counts: list[int] = table["component_count"].tolist()
        self._shares = reader._shares()
        self._known: list[bool] = ((table["layout"] != 0) & (table["dtype"] != 0)).tolist()
        self._known_parts: list[bool] = ((components["dtype"] != 0) & (components["encoding"] != 0)).tolist()

    def check_known(self) -> None:
        """Refuse a file with a tensor that can only be read raw."""
        part = 0
        for number, count in enumerate(self._counts):
            if not (self._known[number] and all(self._known_parts[part : part + count])):
                found = Description(self._handle, number)
                raise UnknownTypeError(
                    f"{self._reader._label}: tensor {found.name!r} cannot be converted: {found.unknown()} is not known to "
                    "this version of ztensor; nothing was written"
                )
            part += count

    def metadata(self) -> Any:
        """The file's own key-values."""
        out = ffi.new("ZtBuffer **")
        check(lib.zt_reader_metadata(self._handle, out))
        return take_text(out[0])

    def _attributes(self, number: int, is_blocked: bool) -> Any:
        """A tensor's own key-values, or None. The size of blocks travels by itself."""
        if not self._has_attributes[number]:
            return None
        out = ffi.new("ZtBuffer **")
        check(lib.zt_reader_attributes(self._handle, number, out))
        text = take_text(out[0])
        if not is_blocked:
            return text
        import json

        found = json.loads(text)
        del found["blocksize"]
        return Json(json.dumps(found, ensure_ascii=False).encode("utf-8")) if found else None

    def batches(self) -> Iterator[tuple[int, int]]:
        """The file from front to back: the first tensor of those that are read together, and the one after them."""
        first, size = 0, 0
        for number, nbytes in enumerate(self.lens):
            if number > first and (size + nbytes > _MAX_BATCH or number - first >= _MAX_COUNT):
                yield first, number
                first, size = number, 0
            size += nbytes
        if self.lens:
            yield first, len(self.lens)

    def specs(self, first: int, stop: int, numbers: dict[Any, tuple[int, Any]]) -> Iterator[tuple[int, Specs, Any]]:
        """Read tensors, and give what the writer is to add in one call each: the number of the first tensor, the tensors,
        and the attributes of one that has them, which is alone.
        """
        found = [Description(self._handle, number) for number in range(first, stop)]
        batch = self._reader._load(self._handle, found, None)
        described = batch.described
        addresses = [_structs.address(ffi.from_buffer(memory)) if len(memory) else 0 for memory in batch.buffers]
        # The first component of the batch, among those of the file.
        before = sum(self._counts[:first])
        specs, begin, part = Specs(numbers), first, 0
        for at, count in enumerate(described.counts):
            number, blocksize = first + at, described.blocksizes.get(at)
            attributes = self._attributes(number, blocksize is not None)
            if attributes is not None and specs.names:
                yield begin, specs, None
                specs, begin = Specs(numbers), number
            specs.names.append(encode_name(described.names[at]))
            if blocksize is not None:
                specs.blocksizes[len(specs.layouts)] = blocksize
            for one in range(part, part + count):
                address = addresses[batch.memories[one]] + batch.starts[one]
                share = self._shares[before + one] or None
                specs.add_component(address, batch.sizes[one], described.component_dtypes[one], share)
            part += count
            specs.end_tensor(described.layouts[at], described.dtypes[at], described.shapes[at], count)
            if attributes is not None:
                yield begin, specs, attributes
                specs, begin = Specs(numbers), number + 1
        if specs.names:
            yield begin, specs, None
