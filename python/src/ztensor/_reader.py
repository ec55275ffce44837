"""Reading files."""

from __future__ import annotations

import contextlib
import itertools
import operator
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Callable, SupportsIndex, Union, overload

import numpy as np

from ztensor import _arrays, _progress, _structs
from ztensor._call import Mode, To, buffer_view, check, encode_path, integer, keeping, take_json, take_text, thread_count
from ztensor._ffi import ffi, lib
from ztensor._metadata import Description, TensorMetadata
from ztensor._parts import Batch, Described, Raw
from ztensor._progress import Progress, ProgressLike
from ztensor.errors import ArgumentError, StateError, TensorIndexError, TensorNotFoundError, UnsupportedTensorError, ZTensorError

__all__ = ["Reader"]

_MODES = {"mmap": lib.ZT_READ_MMAP, "read": lib.ZT_READ_OWNED}

if TYPE_CHECKING:
    from typing_extensions import Buffer

    PathOrBytes = Union[str, os.PathLike[str], Buffer]
else:
    # Python has a type for it from 3.12 on.
    PathOrBytes = Any


def _verify(verify: bool | None) -> int:
    """Whether a call checks raw data, as C takes it."""
    found: int = lib.ZT_VERIFY_AS_OPENED if verify is None else lib.ZT_VERIFY_ON if verify else lib.ZT_VERIFY_OFF
    return found


class Reader:
    """An open ``.zt`` file.

    Opening reads the index alone. A tensor that is read is the caller's own: it can be written to, which changes
    neither the file nor what is read later, and it stays valid after the reader is closed. Many threads may read from
    one reader at once.

    A reader of a path can be pickled: where it is unpickled, it opens the same file again, and a file that has another
    index by then is a StateError. A copy shares the open file, and is closed by itself.

    Parameters
    ----------
    file_path : str, os.PathLike or bytes-like
        The path of a local file, or the bytes of one. Bytes must not change while the reader is open.
    mode : {'mmap', 'read'}
        ``'mmap'`` maps the file: data is loaded on first access, large raw tensors cost no copy, and the file may be larger
        than memory. If the system refuses to map the file, it is read. ``'read'``
        reads it into memory: for network filesystems, and for files that somebody may truncate meanwhile, which ends
        a process that has them mapped (SIGBUS), and here is an error.
    verify : bool, default False
        Check the checksum of raw data each time that it is read. Compressed data is always checked.
    threads : int, optional
        Threads that read, decode and checksum; by default as many as the machine has.

    Raises
    ------
    MissingFileError, FileError
        If the file cannot be opened.
    FormatError
        If it is no ``.zt`` file, or damaged; the message says what is wrong.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> path = os.path.join(tempfile.mkdtemp(), "model.zt")
    >>> with Writer(path) as writer:
    ...     writer.add_tensor("w", np.arange(6, dtype=np.float32).reshape(2, 3))
    >>> with Reader(path) as reader:
    ...     w = reader["w"]
    >>> w.shape
    (2, 3)
    """

    def __init__(
        self,
        file_path: PathOrBytes,
        *,
        mode: Mode = "mmap",
        verify: bool = False,
        threads: int | None = None,
    ) -> None:
        self._reader: Any = None
        #: How the file was opened: its absolute path if there is one, or None for one in memory, and the options.
        self._origin: tuple[bytes | None, Mode, bool, int | None] = (None, mode, bool(verify), threads)
        if not isinstance(mode, str) or mode not in _MODES:
            raise ArgumentError(f"mode is {mode!r}; it is 'mmap' or 'read'")
        flags = _MODES[mode] | (lib.ZT_READ_VERIFY if verify else 0)
        out = ffi.new("ZtReader **")
        #: What messages call the file.
        self._label = "<memory>"
        if isinstance(file_path, (str, os.PathLike)):
            path = encode_path(file_path)
            self._label = os.fsdecode(path)
            self._origin = (_absolute(path), *self._origin[1:])
            check(lib.zt_reader_open(path, flags, thread_count(threads), out), self._label)
            self._reader = ffi.gc(out[0], lib.zt_reader_free)
        else:
            try:
                data = ffi.from_buffer(file_path)
            except (TypeError, ValueError, BufferError) as err:
                raise ArgumentError(f"a file is a path or bytes, not {type(file_path).__name__}: {err}") from None
            check(lib.zt_reader_open_memory(data, len(data), flags, thread_count(threads), out))
            # The bytes live as long as whatever holds the handle.
            self._reader = keeping(ffi.gc(out[0], lib.zt_reader_free), data)
        self._count: int = lib.zt_reader_count(self._reader)
        self._names: list[str] | None = None

    # A call keeps the handle that it got from here, so that closing while another thread reads is harmless.
    def _handle(self) -> Any:
        if self._reader is None:
            raise StateError("the reader is closed")
        return self._reader

    def close(self) -> None:
        """Close the file. Tensors that were read stay valid. Closing twice is fine."""
        self._reader = None

    def __enter__(self) -> Reader:
        self._handle()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        try:
            _, table, _ = self._tables()
            return f"<Reader of {self._label!r}: {self.format}, {self._count} tensors, {int(table['len'].sum())} bytes>"
        except ZTensorError:
            # Closed, or without the memory for a list of the tensors.
            return f"<Reader of {self._label!r}{': closed' if self._reader is None else ''}>"

    # Copies and other processes.

    def __copy__(self) -> Reader:
        found = self.__class__.__new__(self.__class__)
        found.__dict__.update(self.__dict__)
        return found

    def __deepcopy__(self, _memo: Any) -> Reader:
        # Nothing in it ever changes but whether it is closed.
        return self.__copy__()

    def __reduce__(self) -> Any:
        self._handle()
        if self._origin[0] is None:
            raise TypeError(
                "a Reader of a file in memory cannot be pickled: its bytes belong to this process. Pickle the bytes and open "
                "them there, or write them to a file and open that by its path"
            )
        if not os.path.isabs(self._origin[0]):
            raise TypeError(
                f"a Reader of {self._label!r} cannot be pickled: the current directory, which the path was relative to, had no "
                "path itself when the file was opened. Open the file by its absolute path"
            )
        return _reopen, (self.__class__, *self._origin, self._fingerprint())

    def _fingerprint(self) -> int:
        """A checksum of what the index says: the same for files that hold the same."""
        tensors, table, components = self._tables()
        total = int(table["ndim"].sum())
        found = zlib.crc32("\0".join(self._all_names()).encode("utf-8"))
        found = zlib.crc32(ffi.buffer(tensors[0].shape, total * 8) if total else b"", found)
        for array, fields in (
            (table, ("dtype", "layout", "ndim", "len", "blocksize", "has_attributes", "component_count")),
            (components, ("offset", "stored_len", "dtype", "encoding", "filter", "has_crc32", "crc32")),
        ):
            for field in fields:
                found = zlib.crc32(array[field].tobytes(), found)
        out = ffi.new("ZtBuffer **")
        check(lib.zt_reader_metadata(self._handle(), out))
        found = zlib.crc32(take_text(out[0]), found)
        attributes = self._attributes_by_place(range(self._count), table["has_attributes"])
        for at in np.flatnonzero(table["has_attributes"]).tolist():
            # A NUL separates the attributes of two tensors.
            found = zlib.crc32(b"\0" + attributes(at), found)
        return found

    # What the file holds.

    def __len__(self) -> int:
        self._handle()
        return self._count

    @property
    def format(self) -> str:
        """The format of the file.

        ``'zt/1'`` for the one that is written, ``'zten/0.1'``, ``'zten/1.0'``, ``'zten/1.1'``, ``'zten/1.2'`` or
        ``'zt/2'`` for the older generations that are read.
        """
        name: str = ffi.string(lib.zt_reader_format(self._handle())).decode("ascii")
        return name

    @property
    def tensor_names(self) -> list[str]:
        """The names of all tensors, in the order written."""
        return list(self._all_names())

    def _all_names(self) -> list[str]:
        if self._names is None:
            pointer, size = ffi.new("const char **"), ffi.new("size_t *")
            handle = self._handle()
            check(lib.zt_reader_names(handle, pointer, size))
            text: str = ffi.unpack(pointer[0], size[0]).decode("utf-8") if size[0] else ""
            self._names = text.split("\0")[:-1]
        self._handle()
        return self._names

    @property
    def tensors(self) -> list[TensorMetadata]:
        """What the file says of all tensors, in the order written."""
        return list(self)

    @property
    def file_metadata(self) -> dict[str, Any]:
        """The file's own key-values, as they were given to the writer; mappings come back sorted by their keys.

        Each time, this is a new dictionary. A change to it changes neither the file nor what is returned next: to change the
        metadata of a file, write the file again with ``metadata=``.
        """
        out = ffi.new("ZtBuffer **")
        check(lib.zt_reader_metadata(self._handle(), out))
        return take_json(out[0])

    def __iter__(self) -> Iterator[TensorMetadata]:
        handle = self._handle()
        for number in range(self._count):
            yield Description(handle, number).metadata(handle)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def _find(self, name: str) -> int | None:
        """The number of a tensor, or None if there is none of this name."""
        try:
            return self._number(name)
        except TensorNotFoundError:
            return None

    def _number(self, name: str) -> int:
        handle = self._handle()
        if not isinstance(name, str):
            raise ArgumentError(f"a tensor's name is a str, not {type(name).__name__}: {name!r}")
        # Of a name with a NUL C would see the beginning alone, and what is no UTF-8 is no name.
        encoded = name.encode("utf-8", "replace")
        if "\0" in name or encoded.decode() != name:
            raise TensorNotFoundError(f"{self._label}: no tensor named {name!r}")
        out = ffi.new("size_t *")
        check(lib.zt_reader_find(handle, encoded, out))
        number: int = out[0]
        return number

    def metadata(self, name: str) -> TensorMetadata:
        """What the file says of a tensor.

        Raises
        ------
        TensorNotFoundError
            If there is none of this name; it is a KeyError.
        """
        handle = self._handle()
        return Description(handle, self._number(name)).metadata(handle)

    def keys(self) -> list[str]:
        """The names of all tensors."""
        return self.tensor_names

    def _ipython_key_completions_(self) -> list[str]:
        """What IPython offers after ``reader["``."""
        return self.tensor_names

    def values(self) -> Iterator[Any]:
        """All tensors as `reader[name]` gives them, each read when it is asked for."""
        return (self.read_tensor(name) for name in self._all_names())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and tensors, each tensor read when it is asked for."""
        return ((name, self.read_tensor(name)) for name in self._all_names())

    def get(self, name: str, default: Any = None) -> Any:
        """The tensor of this name, or `default` if there is none."""
        return self.read_tensor(name) if name in self else default

    @overload
    def __getitem__(self, key: str) -> Any: ...

    @overload
    def __getitem__(self, key: SupportsIndex) -> TensorMetadata: ...

    @overload
    def __getitem__(self, key: slice) -> list[TensorMetadata]: ...

    def __getitem__(self, key: str | SupportsIndex | slice) -> Any:
        """A tensor by its name, or what the file says of a tensor by its number; -1 is the last."""
        if isinstance(key, str):
            return self.read_tensor(key)
        handle = self._handle()
        if isinstance(key, slice):
            return [Description(handle, at).metadata(handle) for at in range(*key.indices(self._count))]
        number = operator.index(key)
        if not -self._count <= number < self._count:
            raise TensorIndexError(f"{self._label}: no tensor number {number}: the file has {self._count}")
        return Description(handle, number % self._count).metadata(handle)

    # Reading.

    def read_tensor(
        self, name: str, to: To = "numpy", *, verify: bool | None = None, progress: ProgressLike = None
    ) -> Any:
        """Read a tensor.

        Parameters
        ----------
        name : str
        to : {'numpy', 'torch'}
            What to make of it.
        verify : bool, optional
            Check the checksum of raw data; by default, as the reader was opened.
        progress : callable or bool, optional
            Called with the bytes done and the bytes to do, on this thread: every 50 ms or so, and at the end. If it returns
            False the work stops; an exception in it stops the work too and is raised. True shows a bar, which needs tqdm.

        Returns
        -------
        numpy.ndarray, SciPy sparse matrix or torch.Tensor
            Sparse tensors become ``csr_matrix``, ``csc_matrix``, ``coo_matrix``, ``bsr_matrix``, or torch sparse tensors. Those
            that were sparse arrays of SciPy become ``csr_array``, ``csc_array``, ``coo_array``, ``bsr_array``. The memory is
            the caller's own.

        Raises
        ------
        TensorNotFoundError
            If there is none of this name; it is a KeyError.
        ChecksumError, FormatError
            If the data is damaged.
        CancelledError
            If `progress` returned False.
        MissingDependencyError
            If a package is missing that the form asked for needs.
        UnknownTypeError
            If this version does not know the element type, layout or encoding.
        UnsupportedTensorError
            If the form asked for has no such tensors: NumPy has no type of two four-bit floats, SciPy not every type and
            shape.
        """
        return self.read_tensors([name], to, verify=verify, progress=progress)[0]

    def read_tensors(
        self, names: Sequence[str], to: To = "numpy", *, verify: bool | None = None, progress: ProgressLike = None
    ) -> list[Any]:
        """Read several tensors at once, on several threads.

        Parameters and exceptions are those of :meth:`read_tensor`.

        Returns
        -------
        list of numpy.ndarray, SciPy sparse matrix or torch.Tensor
            One for each name, in the order of `names`; a name may occur more than once. Tensors that were stored as one
            blob, as tied weights are, share their memory. Without names it is empty.
        """
        convert = converter(to)
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise ArgumentError(f"names is a sequence of str, not {names!r}; read_tensor reads one")
        handle = self._handle()
        found = [Description(handle, self._number(name)) for name in names]
        return convert(self._load(handle, found, verify, progress))

    def read_rows(
        self,
        name: str,
        start: int,
        stop: int,
        to: To = "numpy",
        *,
        verify: bool | None = None,
        progress: ProgressLike = None,
    ) -> Any:
        """Read rows `start` to `stop` (not included) of a dense tensor: ``read_tensor(name)[start:stop]``, touching only
        the bytes or chunks that hold them. With `verify`, all of a raw tensor is checked. `progress` is that of :meth:`read_tensor`.

        Raises
        ------
        TensorIndexError
            If the tensor has fewer rows, or `stop` is before `start`.
        ArgumentError
            If the tensor is sparse or a scalar.
        """
        convert = converter(to)
        handle = self._handle()
        found = Description(handle, self._number(name))
        if found.layout != lib.ZT_DENSE or not found.shape:
            raise ArgumentError(
                f"{self._label}: tensor {name!r}: only dense tensors of one dimension or more have rows to read"
            )
        start, stop = integer(start, "start"), integer(stop, "stop")
        if not 0 <= start <= stop <= found.shape[0]:
            raise TensorIndexError(f"{self._label}: tensor {name!r}: rows {start} to {stop} lie outside its {found.shape[0]}")
        row = 1
        for dim in found.shape[1:]:
            row *= dim
        out = ffi.new("ZtBuffer **")
        _progress.let_signals_in()
        with contextlib.closing(_progress.watch(progress)) as watch, watch:
            try:
                check(lib.zt_reader_read_range(handle, found.number, 0, start * row, (stop - start) * row, _verify(verify), out))
                size = lib.zt_buffer_len(out[0])
                watch.advance(size)
                watch.finish()
            except BaseException:
                # Unless it failed, it was interrupted when it was done.
                lib.zt_buffer_free(out[0])
                raise
        shape = (stop - start, *found.shape[1:])
        described = Described([name], [found.layout], [found.dtype], [shape], [1], [found.dtype], {})
        return convert(Batch(described, [buffer_view(out[0], size)], [0], [0], [size]))[0]

    def verify(self, progress: ProgressLike = None) -> None:
        """Check every byte of every tensor against the checksums, on several threads.

        Ctrl-C stops it within 0.2 s.

        Parameters
        ----------
        progress : callable or bool, optional
            Called with the bytes done and the bytes to do, on this thread: every 50 ms or so, and at the end. If it returns
            False the work stops; an exception in it stops the work too and is raised. True shows a bar, which needs tqdm.

        Raises
        ------
        ChecksumError
            For the first tensor whose bytes are not those of its checksum; the message names it. Either the file is damaged, or
            the array changed while it was saved.
        CancelledError
            If `progress` returned False.
        """
        _progress.let_signals_in()
        with contextlib.closing(_progress.watch(progress)) as watch, watch:
            check(lib.zt_reader_verify(self._handle(), ffi.NULL, ffi.NULL))

    def _load_all(
        self, to: To, *, verify: bool | None = None, progress: ProgressLike = None
    ) -> dict[str, Any]:
        """Read the whole file with one call: names and tensors, in the order written.

        Raw data of a mapped file comes as private mappings, which small tensors share.
        """
        convert = converter(to)
        names = self._all_names()
        if to != "torch" or not names:
            return dict(zip(names, convert(self._load(self._handle(), None, verify, progress))))
        from ztensor import _dlpack, _torch

        handle = self._handle()
        batch = self._read(handle, None, verify, progress)
        made, is_all = _dlpack.tensors_of(handle, batch, self._count)
        if not is_all:
            # What is left is sparse, or shares its memory with what was made.
            made = _torch.to_torch(described_batch(self._describe_all(), batch), made)
        return dict(zip(names, made))

    def _tables(self) -> tuple[Any, Any, Any]:
        """The descriptions of all tensors: as C has them, as an array, and an array of those of all components, which stand
        behind each other. They belong to the reader and live as long.
        """
        out_tensors, out_count = ffi.new("const ZtTensor **"), ffi.new("size_t *")
        check(lib.zt_reader_tensors(self._handle(), out_tensors, out_count))
        tensors = out_tensors[0]
        table = _structs.view(tensors, out_count[0], _structs.TENSOR)
        parts = int(table["component_count"].sum())
        components = _structs.view(tensors[0].components if parts else ffi.NULL, parts, _structs.COMPONENT)
        return tensors, table, components

    def _shares(self) -> list[int]:
        """A number for each component of all tensors, the same for those that are one blob; 0 for one that is alone."""
        out, count = ffi.new("const uint64_t **"), ffi.new("size_t *")
        check(lib.zt_reader_shares(self._handle(), out, count))
        return ffi.unpack(out[0], count[0]) if count[0] else []

    def _describe_all(self) -> Described:
        """What reading needs to know of every tensor, in the order written."""
        tensors, table, components = self._tables()
        ndims, counts = table["ndim"].tolist(), table["component_count"].tolist()
        # The shapes of all tensors stand behind each other.
        total = sum(ndims)
        dims = ffi.unpack(tensors[0].shape, total) if total else []
        ends = itertools.accumulate(ndims)
        return Described(
            names=self._all_names(),
            layouts=table["layout"].tolist(),
            dtypes=table["dtype"].tolist(),
            shapes=[tuple(dims[end - ndim : end]) for end, ndim in zip(ends, ndims)],
            counts=counts,
            component_dtypes=components["dtype"].tolist(),
            blocksizes={at: tuple(table["blocksize"][at].tolist()) for at in np.flatnonzero(table["blocksize"][:, 0]).tolist()},
            attributes=self._attributes_by_place(range(self._count), table["has_attributes"].tolist()),
        )

    def _attributes_by_place(self, numbers: Sequence[int], has_attributes: Sequence[int]) -> Callable[[int], bytes]:
        """What returns the attributes of one of several tensors as JSON, empty if it has none, by its place among them."""
        handle = self._handle()

        def attributes(at: int) -> bytes:
            if not has_attributes[at]:
                return b""
            out = ffi.new("ZtBuffer **")
            check(lib.zt_reader_attributes(handle, numbers[at], out))
            return take_text(out[0])

        return attributes

    def _load(
        self,
        handle: Any,
        found: list[Description] | None,
        verify: bool | None,
        progress: ProgressLike | Progress = None,
    ) -> Batch:
        """Read tensors, or all of them where `found` is None, into memory."""
        numbers: Sequence[int] = range(self._count) if found is None else [one.number for one in found]
        if found is None:
            described = self._describe_all()
        else:
            described = Described(
                names=[one.name for one in found],
                layouts=[one.layout for one in found],
                dtypes=[one.dtype for one in found],
                shapes=[one.shape for one in found],
                counts=[one.tensor.component_count for one in found],
                component_dtypes=[dtype for one in found for dtype in one.component_dtypes()],
                blocksizes={at: tuple(one.tensor.blocksize) for at, one in enumerate(found) if one.tensor.blocksize[0]},
                attributes=self._attributes_by_place(numbers, [one.tensor.has_attributes for one in found]),
            )
        if not numbers:
            return Batch(described, [], [], [], [])
        return described_batch(described, self._read(handle, None if found is None else numbers, verify, progress))

    def _read(
        self,
        handle: Any,
        numbers: Sequence[int] | None,
        verify: bool | None,
        progress: ProgressLike | Progress = None,
    ) -> Any:
        """Read tensors, or all of them, and give the ``ZtBatch *`` that holds them.

        A `progress` that is a :class:`Progress` reports this call as one of many; any other is told the end.
        """
        out = ffi.new("ZtBatch **")
        _progress.let_signals_in()
        wanted, count = (ffi.NULL, 0) if numbers is None else (numbers, len(numbers))
        is_one_of_many = isinstance(progress, Progress)
        watch = progress if isinstance(progress, Progress) else _progress.watch(progress)
        try:
            with watch:
                check(lib.zt_reader_read_many(handle, wanted, count, _verify(verify), out))
                if watch:
                    watch.advance(_batch_size(out[0]))
                    if not is_one_of_many:
                        watch.finish()
        except BaseException:
            # Unless it failed, it was interrupted when it was done.
            lib.zt_batch_free(out[0])
            raise
        finally:
            if not is_one_of_many:
                watch.close()
        return ffi.gc(out[0], lib.zt_batch_free)


def _absolute(path: bytes) -> bytes:
    """A path for other processes, which may have another current directory. As it was given, if this one has no path."""
    try:
        # Not normalized: the directory before a `..` may be a symbolic link.
        return path if os.path.isabs(path) else os.path.join(os.getcwdb(), path)
    except OSError:
        # It was removed, or may not be seen.
        return path


def _reopen(
    kind: type[Reader], path: bytes, mode: Mode, verify: bool, threads: int | None, fingerprint: int
) -> Reader:
    """A reader that was pickled."""
    found = kind(os.fsdecode(path), mode=mode, verify=verify, threads=threads)
    if found._fingerprint() != fingerprint:
        raise StateError(f"{found._label}: the file was replaced since the reader of it was pickled: its index is another one")
    return found


def _batch_size(batch: Any) -> int:
    """Bytes of all components of a ``ZtBatch *``."""
    pointer, count = ffi.new("const ZtSpan **"), ffi.new("size_t *")
    check(lib.zt_batch_spans(batch, pointer, count))
    return int(_structs.view(pointer[0], count[0], _structs.SPAN)["len"].sum())


def described_batch(described: Described, batch: Any) -> Batch:
    """What a ``ZtBatch *`` holds, with what the file says of it."""
    buffers = []
    for at in range(lib.zt_batch_memory_count(batch)):
        memory = ffi.new("ZtBuffer **")
        check(lib.zt_batch_memory(batch, at, memory))
        buffers.append(buffer_view(memory[0], lib.zt_buffer_len(memory[0])))
    pointer, spans_count = ffi.new("const ZtSpan **"), ffi.new("size_t *")
    check(lib.zt_batch_spans(batch, pointer, spans_count))
    spans = _structs.view(pointer[0], spans_count[0], _structs.SPAN)
    memories, starts, sizes = spans["memory"].tolist(), spans["start"].tolist(), spans["len"].tolist()
    return Batch(described, buffers, memories, starts, sizes)


def converter(to: To) -> Callable[[Batch], list[Any]]:
    """What makes arrays or tensors of memory."""
    if to == "numpy":
        return _to_numpy
    if to == "torch":
        from ztensor import _torch

        return _torch.to_torch
    raise ArgumentError(f"to is {to!r}; it is 'numpy' or 'torch'")


def _to_numpy(batch: Batch) -> list[Any]:
    described = batch.described
    found: list[Any] = []
    part = 0
    for at, (layout, dtype, shape, count) in enumerate(
        zip(described.layouts, described.dtypes, described.shapes, described.counts)
    ):
        if layout == lib.ZT_DENSE:
            raw = Raw(batch.buffers[batch.memories[part]], batch.starts[part], batch.sizes[part], dtype)
            try:
                found.append(_arrays.to_numpy(raw, shape))
            except ValueError as err:
                # An empty tensor may have dimensions, or so many of them, that NumPy has not.
                raise UnsupportedTensorError(f"tensor {described.names[at]!r}: NumPy cannot hold {shape}: {err}") from err
        else:
            from ztensor import _sparse

            text = described.attributes(at) if described.attributes else b""
            found.append(_sparse.to_scipy(batch.sparse(at, part), _sparse.states_array(text)))
        part += count
    return found
