//! Progress of long calls, for C.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;

use super::guard::guard_value;

/// Reports the progress of a call: bytes done and bytes to do. Anything but 0 asks the call to stop, which then fails with
/// ZT_ERR_CANCELLED. `user` is what the callback was set with.
///
/// It is called on the thread that made the call, never on another one: first when the call has taken 50 ms, then about as
/// often, and at the end. A shorter call does not call it, except zt_reader_verify(). Between two reports lies the work at hand:
/// about a mebibyte of data, at the highest levels of compression up to 0.2 s. It must not unwind or jump out, nor use the
/// writer or change the memory that the call uses.
pub type ZtProgress = Option<unsafe extern "C" fn(done: u64, total: u64, user: *mut c_void) -> i32>;

/// A callback, and what it is called with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    progress: ZtProgress,
    user: *mut c_void,
}

thread_local! {
    static WATCH: Cell<Watch> = const { Cell::new(Watch { progress: None, user: ptr::null_mut() }) };
}

impl Watch {
    pub(super) fn new(progress: ZtProgress, user: *mut c_void) -> Self {
        Self { progress, user }
    }

    /// The callback of this thread.
    pub(super) fn current() -> Self {
        // During the thread's end there is none.
        WATCH.try_with(Cell::get).unwrap_or(Self::new(None, ptr::null_mut()))
    }

    /// Whether there is a callback.
    pub(super) fn is_set(&self) -> bool {
        self.progress.is_some()
    }

    /// Calls the callback, and returns whether the work goes on.
    pub(super) fn report(&self, done: u64, total: u64) -> bool {
        // SAFETY: the caller vouches for the callback and for `user`.
        self.progress.is_none_or(|progress| unsafe { progress(done, total, self.user) } == 0)
    }
}

/// Sets what long calls of this thread report to, until it is set anew; NULL for nothing, as at first.
///
/// These are zt_writer_add(), zt_reader_verify() without a callback of its own, and all functions that read tensors. The bytes
/// to do are those of all components that the call was given or asked for; of zt_reader_verify() those that are stored. Set it
/// before a call and to NULL after it: it holds for whatever else the thread does with this library.
///
/// A zt_writer_add() that was stopped leaves a writer that can only be freed, and nothing of its file unless that is
/// written in place. Other calls that were
/// stopped had no effect. zt_writer_finish() cannot be stopped.
///
/// Ownership: `user` stays the caller's, and valid for as long as it is set.
/// Threads: any; each has a callback of its own.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_set_progress(progress: ZtProgress, user: *mut c_void) {
    guard_value((), || {
        let _ = WATCH.try_with(|watch| watch.set(Watch::new(progress, user)));
    });
}
