"""Writing files."""

from __future__ import annotations

import contextlib
import operator
import os
import sys
import warnings
from _thread import RLock  # `threading` adds 2 ms to the import of ztensor
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, Callable, Union

import numpy as np

from ztensor import _arrays, _progress, _structs
from ztensor._call import Fsync, check, encode_name, encode_path, error, refusal, thread_count, to_json
from ztensor._ffi import ffi, lib
from ztensor._parts import MAX_MADE, Specs
from ztensor._progress import Progress, ProgressLike
from ztensor.errors import ArgumentError, OutOfMemoryError, StateError, UnsupportedTensorError, ZTensorError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Writer"]

_FSYNC = {"auto": lib.ZT_FSYNC_AUTO, True: lib.ZT_FSYNC_ALWAYS, False: lib.ZT_FSYNC_NEVER}
_DEFAULT_LEVEL = 3
_MAX_LEVEL = 22
#: Tensors that one call adds.
_MAX_CALL = 65536
#: What a component takes in the index is hardly ever more, in bytes, its name and the space before its data included.
_MAX_RECORD = 1024


def compression_level(compress: Any) -> int:
    """The level that `compress` stands for: False or 0 for none, True for 3, or 1 to 22."""
    if isinstance(compress, (bool, np.bool_)):
        return _DEFAULT_LEVEL if compress else 0
    try:
        level = operator.index(compress)
    except TypeError:
        raise ArgumentError(f"compress is {compress!r}; it is a bool or a level from 1 to {_MAX_LEVEL}") from None
    if not 0 <= level <= _MAX_LEVEL:
        raise ArgumentError(f"compress is {level}; levels are 1 to {_MAX_LEVEL}, or 0 for none")
    return level


def adder() -> Callable[[Specs, Any, str], None]:
    """What adds any tensor to specs. torch and SciPy are not imported for that: what is theirs can only be there if they
    are.
    """
    # The class is missing while torch is still being imported.
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    if tensor is not None:
        from ztensor._torch import add_torch
    if "scipy.sparse" in sys.modules:
        from ztensor._sparse import add_scipy, is_scipy_sparse
    else:
        is_scipy_sparse = None  # type: ignore[assignment]

    def add(specs: Specs, value: Any, name: str) -> None:
        if tensor is not None and isinstance(value, tensor):
            add_torch(specs, value, name)
        elif is_scipy_sparse is not None and is_scipy_sparse(value):
            add_scipy(specs, value, name)
        else:
            _arrays.add_dense(specs, value, name)

    return add


class Writer:
    """Writes a ``.zt`` file.

    The file is written beside its destination and renamed when it is finalized; until then, the file that is there stays. It
    keeps that one's mode, and its owner, group and extended attributes where the process may set them. If the finished file
    cannot be renamed, it is kept, and the error names it. Leaving the ``with`` block by an exception abandons the file. A
    writer that is garbage-collected before it was finalized, closed or abandoned leaves no file, and a ResourceWarning says
    so. Threads that use one writer wait for each other. A writer cannot be copied or pickled.

    Parameters
    ----------
    file_path : str or os.PathLike
        What is there is replaced if it is a regular file. A relative path is looked up now, not when the file is finished.
    metadata : mapping, optional
        The file's own key-values: str to None, bool, int, float, str, bytes, and lists and mappings of these. NumPy's scalars
        are stored as the Python values that they equal.
    threads : int, optional
        Threads that compress and checksum; by default as many as the machine has. The file is the same for any number.
    fsync : {'auto', True, False}
        When the file is flushed to the disk before it takes its name: ``'auto'`` if it replaces an existing file, so
        that not even a power cut can cost what was there.
    atomic : bool, default True
        False writes the destination itself. Use it where a file cannot be replaced by a rename: for a mount point, such as a
        file that was mounted into a container by itself, and on filesystems that cannot rename. All protection is lost: a
        save that fails, a process that is killed, or a power cut leaves an incomplete file, and the old one is gone;
        processes that read or map the old file see it change, and one that touches a page that is gone ends by SIGBUS. A
        file that this process has mapped is refused, so tensors that were loaded with ``mode='mmap'`` cannot be saved over
        their own file. The file is emptied at the first write, which may come as late as :meth:`finalize`. From then on
        it is locked where the filesystem has locks: a second writer that writes it in place is refused. A file that is
        removed or replaced meanwhile is an error. A file that is abandoned is removed only if this writer created it.
    progress : callable or bool, optional
        Called with the bytes done and the bytes to do, on the thread that adds tensors: every 50 ms or so, and when the file
        is finalized. Bytes to do are those of the tensors that were added and are being added. If it returns False the work
        stops with a CancelledError and the file is abandoned; an exception in it stops the work too and is raised. True
        shows a bar, which needs tqdm.

    Notes
    -----
    An array must not change while it is added: another thread must not train the model meanwhile. Its bytes are read more than
    once. If they change, the file is still readable, but holds any mixture of the values before and after, and
    :meth:`Reader.verify` may find that a checksum does not match.

    Ctrl-C stops a call that adds tensors within 0.2 s, and leaves nothing behind. Only flushing the file to the disk cannot be
    stopped.

    Raises
    ------
    MissingFileError, FileError
        If no file can be created beside the destination.
    """

    def __init__(
        self,
        file_path: str | os.PathLike[str],
        *,
        metadata: Mapping[str, Any] | None = None,
        threads: int | None = None,
        fsync: Fsync = "auto",
        atomic: bool = True,
        progress: ProgressLike = None,
    ) -> None:
        self._writer: Any = None
        self._end = "closed"
        encoded = encode_path(file_path)
        if not (isinstance(fsync, bool) or (isinstance(fsync, str) and fsync == "auto")):
            raise ArgumentError(f"fsync is {fsync!r}; it is 'auto', True or False")
        if not isinstance(atomic, (bool, np.bool_)):
            raise ArgumentError(f"atomic is {atomic!r}; it is True or False")
        flags = _FSYNC[fsync] | (0 if atomic else lib.ZT_WRITE_IN_PLACE)
        text = to_json(metadata, "metadata")
        out = ffi.new("ZtWriter **")
        label = os.fsdecode(encoded)
        watch = _progress.watch(progress)
        try:
            check(lib.zt_writer_create(encoded, flags, thread_count(threads), text or ffi.NULL, out), label)
        except BaseException:
            # Unless it failed, it was interrupted after it had begun the file.
            lib.zt_writer_free(out[0])
            raise
        self._open(ffi.gc(out[0], lib.zt_writer_free), label, watch)

    def _open(self, writer: Any, label: str, progress: Progress) -> None:
        self._writer = writer
        self._progress = progress
        self._end = "open"
        #: What messages call the file.
        self._label = label
        # The library lets one thread at a time in, and frees a writer though another thread is inside.
        self._lock = RLock()
        #: How many numbers stand for memory that is stored once.
        self._numbers = 0
        #: Tensors that were added, and their bytes.
        self._count = 0
        self._nbytes = 0
        #: After a fork, the child's copy is not the writer.
        self._process = os.getpid()

    def _handle(self) -> Any:
        if self._writer is None:
            raise StateError(f"the writer was {self._end} already")
        return self._writer

    def __enter__(self) -> Writer:
        self._handle()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._abandon_surely()
        elif self._writer is not None:
            self.finalize()

    def _abandon_surely(self) -> None:
        """Abandon the file even if Ctrl-C comes meanwhile, once more or for the first time."""
        interrupt: BaseException | None = None
        while True:
            try:
                self.abandon()
                break
            except KeyboardInterrupt as err:
                interrupt = err
        if interrupt is not None:
            raise interrupt

    def __repr__(self) -> str:
        if self._end == "closed":
            return "<Writer closed>"
        return f"<Writer of {self._label!r}: {self._end}, {self._count} tensors, {self._nbytes} bytes>"

    def __reduce__(self) -> Any:
        raise TypeError("a Writer cannot be copied or pickled: open one where the file is written, and send the tensors there")

    #: Whether a writer that is given up unfinished is worth a warning.
    _warns = True

    # Where modules are taken apart at the end of the interpreter, defaults are what is still there.
    def __del__(self, _warn: Any = warnings.warn, _process: Any = os.getpid) -> None:
        # None of this is there if the constructor failed.
        if getattr(self, "_writer", None) is None or self._process != _process():
            return
        # Its handle goes with it, and the temporary file with that.
        self._writer, self._end = None, "abandoned"
        if self._warns:
            _warn(
                f"a Writer of {self._label!r} was not finished, so no file was written: use it in a with block, or call "
                "close(), or abandon() if that was meant",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    @contextlib.contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Put the file's name before what is said of a tensor, as the library itself does."""
        try:
            yield
        except ZTensorError as err:
            if err.status is None:
                err.args = (f"{self._label}: {err}",)
            raise

    def add_tensor(
        self,
        name: str,
        tensor: Any,
        compress: bool | int = False,
        *,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a tensor.

        Parameters
        ----------
        name : str
            1 to 4096 bytes of UTF-8 without NUL, unique in the file.
        tensor : numpy.ndarray, torch.Tensor, SciPy or torch sparse tensor, or anything with __array__ or __dlpack__
            Contiguous data is not copied. Whatever lies otherwise in memory is packed in C order; big-endian data is
            swapped; torch tensors come from any device. Sparse arrays of SciPy come back as arrays, sparse matrices as
            matrices.
        compress : bool or int
            False or 0 stores the data as it is; True compresses at level 3; 1 to 22 are levels of zstd.
        attributes : mapping, optional
            The tensor's own key-values, as the file's `metadata`. ``sparse_class`` is reserved for sparse tensors:
            ``'array'`` or ``'matrix'``, which for an object of SciPy has to be what it is.

        Raises
        ------
        UnsupportedTensorError
            If it cannot be stored: objects, strings, tensors without data; and what NumPy's array of it would lose, such as a
            mask, missing values, or the types of a table's columns. The message says what to pass instead.
        ArgumentError
            If the name is taken or breaks the rules. The writer goes on after either.
        """
        specs = Specs()
        with self._naming_the_file():
            specs.names.append(encode_name(name))
            adder()(specs, tensor, name)
        self._add(specs, compression_level(compress), attributes)

    def add_tensors(self, tensors: Mapping[str, Any], compress: bool | int = False) -> None:
        """Add many tensors at once: the fast way. Tensors that are the same memory are stored once.

        What an object makes of itself by ``__array__`` or ``__dlpack__`` is copied if it is small, since the object may use
        the same memory for the next one.

        Parameters
        ----------
        tensors : mapping of str to tensors
            As :meth:`add_tensor` takes them. It is not changed.
        compress : bool or int
            As of :meth:`add_tensor`.
        """
        level = compression_level(compress)
        self._handle()
        # An address stands for the same bytes for as long as the object lives, and a mapping may make its values when they
        # are asked for: all of them are held until the end.
        names, values = list(tensors.keys()), list(tensors.values())
        # Until the end, since the numbers that stand for shared memory are taken by then.
        with self._lock:
            if self._progress:
                self._progress.expect(self._progress.done + sum(map(_size, values)))
            if not self._add_plain(names, values, level):
                self._add_any(names, values, level)

    def _add_any(self, names: list[Any], values: list[Any], level: int) -> None:
        """Add tensors of any kinds."""
        add = adder()
        numbers: dict[Any, tuple[int, Any]] = {}
        taken = self._numbers
        specs = Specs(numbers, taken)
        try:
            with self._naming_the_file():
                for name, tensor in zip(names, values):
                    specs.names.append(encode_name(name))
                    add(specs, tensor, name)
                    if specs.made >= MAX_MADE or len(specs.names) >= _MAX_CALL:
                        self._add(specs, level)
                        specs = Specs(numbers, taken)
                self._add(specs, level)
        finally:
            self._numbers += len(numbers)

    def _add_plain(self, names: list[Any], values: list[Any], level: int) -> bool:
        """Add tensors that are all plain ones of torch. If they are not, or a name is none, nothing is added."""
        if not values or getattr(sys.modules.get("torch"), "Tensor", None) is None:
            return False
        from ztensor import _dlpack

        found = _dlpack.specs_of(values, self._numbers)
        if found is None:
            return False
        try:
            text = "\0".join(names).encode("utf-8")
        except (TypeError, UnicodeEncodeError):
            return False
        tensors, components, owners = found
        text += b"\0"
        ends = np.flatnonzero(np.frombuffer(text, np.uint8) == 0)
        if len(ends) != len(values):
            return False
        begins = np.concatenate([[0], ends[:-1] + 1])
        texts = ffi.from_buffer(text)
        tensors["name"] = _structs.address(texts) + begins
        tensors["name_len"] = ends - begins
        tensors["level"] = level
        self._numbers += len(values)
        for start in range(0, len(values), _MAX_CALL):
            self._add_structs(tensors[start : start + _MAX_CALL], components[start:])
        self._count += len(values)
        self._nbytes += int(components["len"].sum())
        del texts, components, owners
        return True

    def add_sparse_csr(
        self, name: str, values: Any, indices: Any, indptr: Any, shape: Iterable[int], *, compress: bool | int = False
    ) -> None:
        """Add a matrix in compressed sparse rows: values (nnz,), column indices (nnz,), indptr (rows + 1,)."""
        self._add_sparse(lib.ZT_SPARSE_CSR, name, (values, indices, indptr), shape, compress)

    def add_sparse_csc(
        self, name: str, values: Any, indices: Any, indptr: Any, shape: Iterable[int], *, compress: bool | int = False
    ) -> None:
        """Add a matrix in compressed sparse columns: values (nnz,), row indices (nnz,), indptr (columns + 1,)."""
        self._add_sparse(lib.ZT_SPARSE_CSC, name, (values, indices, indptr), shape, compress)

    def add_sparse_coo(
        self, name: str, values: Any, indices: Any, shape: Iterable[int], *, compress: bool | int = False
    ) -> None:
        """Add a tensor in coordinates: values (nnz,), indices (ndim, nnz)."""
        self._add_sparse(lib.ZT_SPARSE_COO, name, (values, indices), shape, compress)

    def add_sparse_bsr(
        self, name: str, values: Any, indices: Any, indptr: Any, shape: Iterable[int], *, compress: bool | int = False
    ) -> None:
        """Add a matrix in block compressed sparse rows: values (blocks, r, c), block columns (blocks,), indptr
        (rows / r + 1,).
        """
        self._add_sparse(lib.ZT_SPARSE_BSR, name, (values, indices, indptr), shape, compress)

    def add_sparse_bsc(
        self, name: str, values: Any, indices: Any, indptr: Any, shape: Iterable[int], *, compress: bool | int = False
    ) -> None:
        """Add a matrix in block compressed sparse columns: values (blocks, r, c), block rows (blocks,), indptr
        (columns / c + 1,).
        """
        self._add_sparse(lib.ZT_SPARSE_BSC, name, (values, indices, indptr), shape, compress)

    def _add_sparse(self, layout: int, name: str, components: tuple[Any, ...], shape: Any, compress: Any) -> None:
        from ztensor import _sparse

        specs = Specs()
        with self._naming_the_file():
            specs.names.append(encode_name(name))
            tensor = getattr(sys.modules.get("torch"), "Tensor", None)
            if tensor is not None:
                from ztensor._torch import on_cpu

                components = tuple(on_cpu(part, name) if isinstance(part, tensor) else part for part in components)
            _sparse.add_sparse(specs, layout, components, shape, name)
        self._add(specs, compression_level(compress))

    def _add(self, specs: Specs, level: int, attributes: Mapping[str, Any] | None = None) -> None:
        """Hand tensors to the library in one call. All that the structs point to lives until it returns."""
        self._handle()
        count = len(specs.names)
        if not count:
            return
        names = ffi.from_buffer(b"".join(specs.names) or b"\0")
        lens = [len(name) for name in specs.names]
        dims = np.array(specs.dims, np.uint64)

        components = np.zeros(len(specs.addresses), _structs.COMPONENT_SPEC)
        components["data"] = specs.addresses
        components["len"] = specs.sizes
        components["share"] = specs.shares
        components["dtype"] = specs.component_dtypes

        tensors = np.zeros(count, _structs.TENSOR_SPEC)
        tensors["name"] = _addresses(_structs.address(names), lens, 1)
        tensors["name_len"] = lens
        tensors["shape"] = _addresses(dims.__array_interface__["data"][0], specs.ndims, dims.itemsize)
        tensors["ndim"] = specs.ndims
        tensors["components"] = _addresses(components.__array_interface__["data"][0], specs.counts, components.itemsize)
        tensors["component_count"] = specs.counts
        tensors["dtype"] = specs.dtypes
        tensors["layout"] = specs.layouts
        tensors["level"] = level
        for at, blocksize in specs.blocksizes.items():
            tensors["blocksize"][at] = blocksize
        with self._naming_the_file():
            texts = _attributes_of(specs, attributes)
        for at, text in texts.items():
            tensors["attributes"][at], tensors["attributes_len"][at] = _structs.address(text), len(text)
        self._add_structs(tensors, components)
        self._count += count
        self._nbytes += sum(specs.sizes)
        del names, texts, dims, components

    def _add_structs(self, tensors: npt.NDArray[Any], components: npt.NDArray[Any]) -> None:
        """Hand tensors to the library. What the structs point to has to live until this returns. `components` are those of
        the tensors, and maybe some that follow.
        """
        _progress.let_signals_in()
        with self._lock, self._progress:
            status = lib.zt_writer_add(self._handle(), ffi.cast("ZtTensorSpec *", ffi.from_buffer(tensors)), len(tensors))
            if status:
                raise refusal(status, self._label)
            if self._progress:
                try:
                    self._progress.advance(int(components["len"][: int(tensors["component_count"].sum())].sum()))
                except BaseException:
                    self.abandon()
                    raise

    def finalize(self) -> None:
        """Write the index and give the file its name. Leaving the ``with`` block does it too.

        Raises
        ------
        StateError
            If it was done before.
        FileError
            If the file cannot be written, flushed or renamed. The file that is there stays, unless it is written in place.
        """
        with self._lock:
            writer = self._handle()
            try:
                self._progress.finish()
            except BaseException:
                self.abandon()
                raise
            self._progress.close()
            self._writer = None
            self._end = "finalized"
            status = lib.zt_writer_finish(writer)
            failure = error(status, self._label) if status else None
            if failure is not None:
                self._end = "abandoned"
            ffi.release(writer)
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Finish the file if it was neither finished nor abandoned: :meth:`finalize`, which may be done twice.

        ``with contextlib.closing(writer)`` calls it after an exception too, and so gives the name to a file of the
        tensors that were added until then. Use ``with writer``, which abandons the file.
        """
        with self._lock:
            if self._writer is not None:
                self.finalize()

    def abandon(self) -> None:
        """Abandon the file: the one that is there stays, and nothing is left behind, unless an existing file is written in
        place. Doing it twice is fine.
        """
        with self._lock:
            if self._writer is not None:
                # In this order, so that a Ctrl-C in between leaves nothing undone that a second call does not do.
                ffi.release(self._writer)
                self._end = "abandoned"
                self._writer = None
            self._progress.close()


def _attributes_of(specs: Specs, given: Mapping[str, Any] | None) -> dict[int, Any]:
    """Attributes of tensors as JSON in memory, by number: those that tensors have by their class, and those that were given
    for the only one.
    """
    if given:
        name = specs.names[0].decode()
        if specs.sparse_class and isinstance(given, Mapping):
            from ztensor._sparse import with_class

            given = with_class(given, specs.sparse_class, name)
        return {0: ffi.from_buffer(to_json(given, f"attributes of tensor {name!r}"))}
    made: dict[bytes, Any] = {}
    return {at: made.setdefault(text, ffi.from_buffer(text)) for at, text in specs.attributes.items()}


def _addresses(start: int, counts: list[int], itemsize: int) -> Any:
    """Where each of several runs begins that stand behind each other."""
    ends = np.cumsum(np.array(counts, np.uint64)) * np.uint64(itemsize)
    begins = np.concatenate([np.zeros(1, np.uint64), ends[:-1]])
    return begins + np.uint64(start)


def _size(value: Any) -> int:
    """About how many bytes a tensor takes; 0 if it does not say."""
    try:
        return int(value.nbytes)
    except Exception:
        # Sparse ones have none, and others may say whatever they like: an estimate is all that is asked for.
        return 0


class _MemoryWriter(Writer):
    """Writes a file into memory."""

    _warns = False

    def __init__(self, metadata: Mapping[str, Any] | None, threads: int | None) -> None:
        self._writer = None
        self._threads = thread_count(threads)
        text = to_json(metadata, "metadata")
        out = ffi.new("ZtWriter **")
        check(lib.zt_writer_create_memory(lib.ZT_FSYNC_NEVER, self._threads, text or ffi.NULL, out))
        self._open(ffi.gc(out[0], lib.zt_writer_free), "<memory>", _progress.watch(None))
        #: The bytes that will be given out, and the same as memory that is lent to the library.
        self._stream = BytesIO()
        self._memory: Any = None
        self._is_begun = False

    def _take_memory(self, size: int) -> Any:
        """Memory for so many of the bytes that will be given out."""
        try:
            self._stream = BytesIO(bytes(size))
        except (MemoryError, OverflowError) as err:
            raise OutOfMemoryError(f"{self._label}: out of memory: could not allocate {size} bytes") from err
        self._memory = ffi.from_buffer(self._stream.getbuffer(), require_writable=True)
        return self._memory

    def _add_structs(self, tensors: npt.NDArray[Any], components: npt.NDArray[Any]) -> None:
        if not self._is_begun:
            self._is_begun = True
            size = _stored_once(components)
            # What the file does not use of it costs nothing. If there is less, the library takes memory as it needs it:
            # compressed tensors, and those that are the same memory over several calls, may do with it.
            with contextlib.suppress(OutOfMemoryError):
                memory = self._take_memory(size + size // 16 + _MAX_RECORD * (len(tensors) + len(components) + 1))
                check(lib.zt_writer_lend(self._handle(), memory, len(memory)))
        super()._add_structs(tensors, components)

    def take(self) -> bytes:
        """Finish the file and give its bytes."""
        out = ffi.new("ZtBuffer **")
        check(lib.zt_writer_finish_memory(self._handle(), out))
        self.abandon()
        size = lib.zt_buffer_len(out[0])
        try:
            if self._memory is None or lib.zt_buffer_data(out[0]) != self._memory:
                check(lib.zt_buffer_copy(out[0], self._take_memory(size), size, self._threads))
        finally:
            lib.zt_buffer_free(out[0])
        ffi.release(self._memory)
        # Nobody else has the stream's bytes: they are cut and given out without a copy.
        self._stream.truncate(size)
        return self._stream.getvalue()


def _stored_once(components: npt.NDArray[Any]) -> int:
    """Bytes of components, those that are stored once counted once."""
    sizes, shares = components["len"], components["share"]
    numbered = shares != 0
    if not numbered.any():
        return int(sizes.sum())
    shares, shared_sizes = shares[numbered], sizes[numbered]
    # Numbers of one call lie close together.
    once = np.zeros(int(shares.max() - shares.min()) + 1, np.uint64)
    once[shares - shares.min()] = shared_sizes
    return int(once.sum()) + int(sizes[~numbered].sum())


def check_tensors(tensors: Any) -> None:
    """Refuse what is no dictionary of tensors."""
    if not isinstance(tensors, Mapping):
        raise ArgumentError(f"tensors is a mapping of names to tensors, not {type(tensors).__name__}")


def save_to_file(
    tensors: Mapping[str, Any],
    filename: Union[str, "os.PathLike[str]"],
    metadata: Mapping[str, Any] | None,
    compress: bool | int,
    threads: int | None,
    fsync: Fsync,
    atomic: bool,
    progress: ProgressLike = None,
) -> None:
    """Save a dictionary of tensors to a file."""
    check_tensors(tensors)
    with Writer(filename, metadata=metadata, threads=threads, fsync=fsync, atomic=atomic, progress=progress) as writer:
        writer.add_tensors(tensors, compress)


def save_to_bytes(
    tensors: Mapping[str, Any], metadata: Mapping[str, Any] | None, compress: bool | int, threads: int | None
) -> bytes:
    """Save a dictionary of tensors to bytes."""
    check_tensors(tensors)
    writer = _MemoryWriter(metadata, threads)
    writer.add_tensors(tensors, compress)
    return writer.take()
