"""Progress of long calls, and their end by Ctrl-C.

The library calls back on the thread of the call, some twenty times a second once a call has taken 50 ms. Python handles
signals that have arrived when it is called on its main thread: a KeyboardInterrupt is raised there and stops the call. So the
main thread has the callback always, other threads only where a caller watches: a daemon thread that Python called while the
interpreter ends would take the process down.
"""

from __future__ import annotations

import atexit
import sys
import time
from _thread import _local, allocate_lock
from typing import TYPE_CHECKING, Any, Callable, Union

import numpy as np

from ztensor._ffi import ffi, lib
from ztensor.errors import CancelledError, MissingDependencyError

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

#: What `progress=` takes.
ProgressLike = Union[Callable[[int, int], object], bool, None]

#: Seconds between two reports that are made here, as the library has it.
_INTERVAL = 0.05


class _State(_local):
    """What the callback needs to know on each thread."""

    #: What the call in progress reports to.
    watcher: Progress | None = None
    #: What a callback raised and the call that it stopped is still to raise.
    raised: BaseException | None = None
    #: Whether the watcher asked to stop.
    stopped: bool = False
    #: Whether it was looked whether this is the main thread, and whether it is.
    is_ready: bool = False
    is_main: bool = False


_state = _State()
_callback: Any = None
#: Whether the interpreter ends, and how many calls have the callback on other threads than the main one.
_is_ending = False
_watched_calls = 0
_count_lock = allocate_lock()
_stop_all_is_registered = False


def _stop_all() -> None:
    """Stop the calls of daemon threads: none may be called back once the interpreter has gone."""
    global _is_ending
    _is_ending = True
    end = time.monotonic() + 2
    while _watched_calls and time.monotonic() < end:
        time.sleep(0.005)


def _report(done: int, total: int, _user: Any) -> int:
    if _is_ending and not _state.is_main:
        _state.raised = SystemExit()
        return 1
    watcher = _state.watcher
    if watcher is None or watcher.report(done, total):
        return 0
    _state.stopped = True
    return 1


def _record(_kind: Any, err: BaseException, _trace: Any) -> None:
    _state.raised = err


def _set(is_on: bool) -> None:
    """Set the library's callback on this thread, or set it to NULL."""
    global _callback
    if _callback is None:
        try:
            # Whatever is raised, before the first line of the function too, stops the call.
            _callback = ffi.callback("int32_t(uint64_t, uint64_t, void *)", _report, error=1, onerror=_record)
        except (MemoryError, SystemError):
            # Hardened systems have no memory that can be written and run. Ctrl-C waits for the end of a call there.
            _callback = ffi.NULL
    lib.zt_set_progress(_callback if is_on else ffi.NULL, ffi.NULL)


def _count_calls(change: int) -> None:
    """Count the calls that are watched on other threads than the main one."""
    global _watched_calls, _stop_all_is_registered
    with _count_lock:
        if not _stop_all_is_registered:
            _stop_all_is_registered = True
            atexit.register(_stop_all)
        _watched_calls += change


def let_signals_in() -> None:
    """Make long calls of the main thread end by Ctrl-C. To be called before the first one of a thread."""
    if not _state.is_ready:
        _state.is_ready = True
        # If the module is not imported, Python has started no other thread.
        threading = sys.modules.get("threading")
        if threading is None or threading.main_thread() is threading.current_thread():
            _state.is_main = True
            _set(True)


def take_raised(status: int) -> BaseException | None:
    """What a call is to raise that failed with this status, if that is not for the library to say."""
    raised, stopped = _state.raised, _state.stopped
    _state.raised, _state.stopped = None, False
    if raised is None and status == lib.ZT_ERR_CANCELLED and not stopped:
        # An interrupt that came while another one was recorded.
        return KeyboardInterrupt()
    return raised


def stops(answer: object) -> bool:
    """Whether what a `progress` callable returned asks to stop."""
    return isinstance(answer, (bool, np.bool_)) and not answer


class Progress:
    """Reports calls of the library, made within its ``with`` block on this thread, to a `progress` argument.

    Parameters
    ----------
    progress : callable, bool or None
        What the caller passed: a callable, True for a bar, False or None for nothing.
    total : int
        Bytes that all calls together have to do, as far as that is known.
    """

    def __init__(self, progress: ProgressLike, total: int = 0) -> None:
        self._send: Callable[[int, int], object] | None = None
        self._bar: Any = None
        if isinstance(progress, (bool, np.bool_)):
            if progress:
                self._bar = _bar()
                self._send = self._update
        elif callable(progress):
            self._send = progress
        elif progress is not None:
            raise TypeError(f"progress must be a callable, True, False or None, not {progress!r}")
        self._total = total
        #: Bytes of the calls that have ended.
        self._done = 0
        #: What the call in progress said last that it has to do.
        self._call_total = 0
        self._last = time.monotonic() if self._send is not None else 0.0
        self._outer: Progress | None = None

    def __bool__(self) -> bool:
        """Whether somebody watches."""
        return self._send is not None

    def __enter__(self) -> Self:
        if self._send is not None:
            # A callable may use the library itself.
            self._outer, _state.watcher = _state.watcher, self
            let_signals_in()
            if not _state.is_main:
                _count_calls(1)
                _set(True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._send is not None:
            _state.watcher, self._outer = self._outer, None
            if not _state.is_main:
                _count_calls(-1)
                _set(_state.watcher is not None)

    def close(self) -> None:
        """Close the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()

    def _update(self, done: int, total: int) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def expect(self, total: int) -> None:
        """Say how many bytes all calls have to do, with those that have ended."""
        self._total = max(total, self._done)

    @property
    def done(self) -> int:
        """Bytes of the calls that have ended."""
        return self._done

    def report(self, done: int, total: int) -> bool:
        """Report a call in progress. False if it is to stop."""
        self._call_total = total
        return self._report(self._done + done, max(self._total, self._done + total))

    def _report(self, done: int, total: int) -> bool:
        if self._send is None:
            return True
        # Calls of the library that the callable makes are not reported to it.
        outer, _state.watcher = _state.watcher, None
        try:
            return not stops(self._send(done, total))
        finally:
            _state.watcher = outer
            self._last = time.monotonic()

    def advance(self, size: int | None = None) -> None:
        """Count a call as ended, of so many bytes, or as many as it reported.

        Raises
        ------
        CancelledError
            If the work is to stop.
        """
        if self._send is None:
            return
        self._done += self._call_total if size is None else size
        self._call_total = 0
        if time.monotonic() - self._last >= _INTERVAL and not self._report(self._done, max(self._total, self._done)):
            raise cancelled()

    def finish(self) -> None:
        """Report that all is done.

        Raises
        ------
        CancelledError
            If the work is to stop all the same.
        """
        if not self._report(self._done, self._done):
            raise cancelled()


#: Reports nothing.
_NOTHING = Progress(None)


def watch(progress: ProgressLike) -> Progress:
    """What reports the calls of one function that takes `progress`."""
    return _NOTHING if progress is None else Progress(progress)


def cancelled() -> CancelledError:
    """The exception of a call that the watcher stopped."""
    err = CancelledError("the progress callback asked to stop")
    err.status = lib.ZT_ERR_CANCELLED
    return err


def _bar() -> Any:
    try:
        from tqdm.auto import tqdm  # type: ignore[import-untyped, unused-ignore]
    except ImportError as err:
        raise MissingDependencyError(
            f"progress=True needs the package tqdm: pip install 'ztensor[progress]', or pass a callable ({err})"
        ) from err
    return tqdm(unit="B", unit_scale=True, unit_divisor=1024)
