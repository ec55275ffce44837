//! What stands around every C function: errors become statuses, panics too, and the details wait for whoever
//! asks on the same thread.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{ZT_ERR_PANIC, ZT_OK, ZtStatus};
use crate::error::{Error, Result};

/// What a thread can ask about its last call that failed.
#[derive(Default)]
struct LastError {
    message: CString,
    file: CString,
    errno: i32,
}

thread_local! {
    static LAST_ERROR: RefCell<LastError> = RefCell::default();
}

/// Text for C. A NUL would end it early, so it is escaped.
fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\\0")).unwrap_or_default()
}

/// Keeps the details of an error for the `zt_last_error_` functions.
fn remember(message: &str, file: &str, errno: i32) {
    let details = LastError { message: c_text(message), file: c_text(file), errno };
    // While the thread ends, nothing is left that could ask.
    let _ = LAST_ERROR.try_with(|last| last.replace(details));
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
            remember(&format!("a defect of this library: {}", panic_message(&*payload)), "", 0);
            ZT_ERR_PANIC
        }
    }
}

fn fail(err: &Error) -> ZtStatus {
    let file = err.place().file.as_deref().unwrap_or_default();
    remember(&err.to_string(), file, err.errno().unwrap_or(0));
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
    LAST_ERROR.try_with(|last| last.borrow().message.as_ptr()).unwrap_or(CStr::as_ptr(c""))
}

/// Returns the `errno` of the last call on this thread that failed, such as EACCES or ENOSPC.
///
/// It is the number with which the operating system refused, or the one that fits if the library found the obstacle
/// itself: EISDIR for a directory in the place of a file. It is 0 if the last failure had another cause, such as a
/// damaged file, and if nothing failed yet. The variable `errno` of the C library is neither read nor set.
///
/// Threads: every thread has a number of its own, which stays as it is until the next call on it that fails.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_last_error_errno() -> i32 {
    LAST_ERROR.try_with(|last| last.borrow().errno).unwrap_or(0)
}

/// Returns the path of the file that the last call on this thread that failed was about.
///
/// It is the path as zt_last_error_message() contains it: in UTF-8, with U+FFFD in the place of bytes that are not, and
/// "<memory>" for a file in memory. For a shard it is the path of the shard.
///
/// Ownership: as of zt_last_error_message(). It is never NULL, and empty if no file is known or nothing failed yet.
/// Threads: every thread has a text of its own.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub extern "C" fn zt_last_error_file() -> *const c_char {
    LAST_ERROR.try_with(|last| last.borrow().file.as_ptr()).unwrap_or(CStr::as_ptr(c""))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::{ZT_ERR_IO, ZT_ERR_SIZE};
    use super::*;
    use crate::error::ErrorKind;

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
    fn number_and_file_are_those_of_the_last_failure() {
        // SAFETY: as in `last_error`.
        let file = || unsafe { CStr::from_ptr(zt_last_error_file()) }.to_str().unwrap().to_owned();
        assert_eq!((zt_last_error_errno(), file()), (0, String::new()));
        let full = || Error::io("write the file", io::Error::from_raw_os_error(28)).in_file("a\0.zt");
        assert_eq!(guard(|| Err(full())), ZT_ERR_IO);
        assert_eq!((zt_last_error_errno(), file()), (28, "a\\0.zt".to_owned()));
        assert_eq!(guard(|| Ok(())), ZT_OK);
        assert_eq!(zt_last_error_errno(), 28, "a success leaves it alone");
        assert_eq!(guard(|| Err(Error::new(ErrorKind::Size, "3 bytes"))), ZT_ERR_SIZE);
        assert_eq!((zt_last_error_errno(), file()), (0, String::new()));
    }

    #[test]
    fn a_panic_where_there_is_no_status_gives_the_other_value() {
        assert_eq!(guard_value(7, || panic!("boom")), 7);
        assert_eq!(guard_value(7, || 8), 8);
    }
}
