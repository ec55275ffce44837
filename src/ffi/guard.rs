//! What stands around every C function: errors become statuses, panics too, and the details wait for whoever
//! asks on the same thread.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{ZT_ERR_PANIC, ZT_OK, ZtStatus};
use crate::error::{Error, Result};

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Keeps a message for `zt_last_error_message`. A NUL would end it early, so it is spelled out.
fn remember(message: &str) {
    let message = CString::new(message.replace('\0', "\\0")).unwrap_or_default();
    // During the thread's end there is nobody left who could ask.
    let _ = LAST_ERROR.try_with(|last| last.replace(message));
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Runs the body of a C function and gives its status.
pub(super) fn guard(body: impl FnOnce() -> Result<()>) -> ZtStatus {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => ZT_OK,
        Ok(Err(err)) => fail(&err),
        Err(payload) => {
            remember(&format!("a defect of this library: {}", panic_message(&*payload)));
            ZT_ERR_PANIC
        }
    }
}

fn fail(err: &Error) -> ZtStatus {
    remember(&err.to_string());
    err.kind().code()
}

/// Runs the body of a C function that cannot fail; after a panic it gives `otherwise`.
pub(super) fn guard_value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// Tells what went wrong in the last call on this thread that failed.
///
/// The text is in English and UTF-8, names the file, the tensor and the component where they are known, and
/// says what was found and what was expected. It is for people; programs look at the status.
///
/// Ownership: the text belongs to the calling thread and stays valid until the next call on this thread that
/// fails. Calls that succeed, getters and the `_free` functions leave it alone. It is never NULL, and empty
/// if nothing failed yet.
/// Threads: every thread has a text of its own.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_last_error_message() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(CStr::as_ptr(c""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_error() -> String {
        // SAFETY: the text stays valid until the next call that fails, and it is copied at once.
        unsafe { CStr::from_ptr(zt_last_error_message()) }.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_becomes_a_status_with_its_message() {
        assert_eq!(guard(|| panic!("boom")), ZT_ERR_PANIC);
        assert_eq!(last_error(), "a defect of this library: boom");
        assert_eq!(guard(|| panic!("boom {}", 2)), ZT_ERR_PANIC);
        assert_eq!(last_error(), "a defect of this library: boom 2");
        assert_eq!(guard(|| Ok(())), ZT_OK);
        assert_eq!(last_error(), "a defect of this library: boom 2", "a success leaves the text alone");
    }

    #[test]
    fn a_panic_where_there_is_no_status_gives_the_other_value() {
        assert_eq!(guard_value(7, || panic!("boom")), 7);
        assert_eq!(guard_value(7, || 8), 8);
    }
}
