//! The only casts between C's pointers and Rust's references.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::slice;

use crate::error::{Result, ensure, fail};

/// The tag of a handle that was freed.
const FREED: u64 = 0xdead_dead_dead_dead;

/// A type of handle: what C holds an opaque pointer to.
pub(super) trait Handle {
    /// Tells this type of handle from others.
    const TAG: u64;
    /// What messages call it.
    const NAME: &'static str;
}

macro_rules! handle {
    ($type:ty, $tag:literal, $name:literal) => {
        impl $crate::ffi::pointer::Handle for $type {
            const TAG: u64 = u64::from_le_bytes(*$tag);
            const NAME: &'static str = $name;
        }
    };
}
pub(super) use handle;

/// What a handle really points to. The tag comes first in memory, so that it can be looked at whatever follows.
#[repr(C)]
struct Tagged<T> {
    tag: u64,
    handle: T,
}

/// Gives a handle to C.
pub(super) fn into_handle<T: Handle>(handle: T) -> *mut T {
    Box::into_raw(Box::new(Tagged { tag: T::TAG, handle })).cast()
}

/// Where a handle's tag stands, after a look at it.
///
/// # Safety
///
/// `handle` is NULL, or came from `into_handle`, for this or another type, and was not freed.
unsafe fn tagged<T: Handle>(handle: *mut T) -> Result<*mut Tagged<T>> {
    ensure!(!handle.is_null(), Null, "the {} is NULL", T::NAME);
    let tagged = handle.cast::<Tagged<T>>();
    ensure!(tagged.is_aligned(), Argument, "the pointer is no {}", T::NAME);
    // SAFETY: not NULL, aligned, and by contract a living handle, which begins with a tag.
    let tag = unsafe { handle.cast::<u64>().read() };
    ensure!(tag == T::TAG, Argument, "the pointer is no {}, or it was freed", T::NAME);
    Ok(tagged)
}

/// A handle that C lends.
///
/// # Safety
///
/// As [`tagged`]; a wrong or freed one is refused where its tag shows it.
pub(super) unsafe fn borrow<'a, T: Handle>(handle: *const T) -> Result<&'a T> {
    // SAFETY: passed on; the tag says that a `Tagged<T>` is there.
    unsafe { tagged(handle.cast_mut()).map(|tagged| &(*tagged).handle) }
}

/// Takes a handle back from C and drops it. NULL, and what is visibly no such handle, is left alone.
///
/// # Safety
///
/// As [`borrow`]; the handle is not used again.
pub(super) unsafe fn free<T: Handle>(handle: *mut T) {
    // SAFETY: passed on.
    if let Ok(tagged) = unsafe { tagged(handle) } {
        // SAFETY: it came from `Box::into_raw`, and its tag says that it was not freed before. A plain write to memory that is
        // given back is one that the compiler may leave out.
        unsafe {
            (&raw mut (*tagged).tag).write_volatile(FREED);
            drop(Box::from_raw(tagged));
        }
    }
}

/// An array that C lends: NULL only with a length of 0.
///
/// # Safety
///
/// `data` is NULL or points to `len` values that stay as they are for as long as the slice lives.
pub(super) unsafe fn array<'a, T>(data: *const T, len: usize, name: &str) -> Result<&'a [T]> {
    if len == 0 {
        return Ok(&[]);
    }
    check_array(data, len, name)?;
    // SAFETY: not NULL, aligned, of a size that exists; the rest is the contract.
    Ok(unsafe { slice::from_raw_parts(data, len) })
}

/// An array that C lends to be written: NULL only with a length of 0.
///
/// # Safety
///
/// `data` is NULL or points to `len` values that nobody else uses for as long as the slice lives.
pub(super) unsafe fn array_mut<'a, T>(data: *mut T, len: usize, name: &str) -> Result<&'a mut [T]> {
    if len == 0 {
        return Ok(&mut []);
    }
    check_array(data, len, name)?;
    // SAFETY: not NULL, aligned, of a size that exists; the rest is the contract.
    Ok(unsafe { slice::from_raw_parts_mut(data, len) })
}

/// Checks all that can be told of an array that is not empty.
fn check_array<T>(data: *const T, len: usize, name: &str) -> Result<()> {
    ensure!(!data.is_null(), Null, "{name} is NULL, with a length of {len}");
    ensure!(data.is_aligned(), Argument, "{name} is not aligned");
    ensure!(
        len.checked_mul(size_of::<T>()).is_some_and(|bytes| bytes <= isize::MAX as usize),
        Argument,
        "{name} has a length of {len}, more than memory holds"
    );
    Ok(())
}

fn utf8<'a>(bytes: &'a [u8], name: &str) -> Result<&'a str> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(err) => fail!(Utf8, "{name} is not UTF-8: {err}"),
    }
}

/// Text of a stated length that C lends.
///
/// # Safety
///
/// As [`array`].
pub(super) unsafe fn text<'a>(data: *const c_char, len: usize, name: &str) -> Result<&'a str> {
    // SAFETY: passed on.
    utf8(unsafe { array(data.cast::<u8>(), len, name) }?, name)
}

/// Text up to a NUL that C lends.
///
/// # Safety
///
/// `text` is NULL or points to a NUL-terminated string that stays as it is for as long as the reference lives.
pub(super) unsafe fn c_text<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: passed on.
    utf8(unsafe { c_bytes(text, name) }?, name)
}

/// # Safety
///
/// As [`c_text`].
unsafe fn c_bytes<'a>(text: *const c_char, name: &str) -> Result<&'a [u8]> {
    ensure!(!text.is_null(), Null, "{name} is NULL");
    // SAFETY: not NULL; the rest is the contract.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// A path that C lends: bytes as the system has them, up to a NUL.
///
/// # Safety
///
/// As [`c_text`].
pub(super) unsafe fn path<'a>(path: *const c_char) -> Result<&'a Path> {
    // SAFETY: passed on.
    Ok(Path::new(OsStr::from_bytes(unsafe { c_bytes(path, "path") }?)))
}

/// A place where C wants a result.
pub(super) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    ///
    /// `out` is NULL or points to memory for a `T` that may be written until the call returns.
    pub(super) unsafe fn new(out: *mut T, name: &str) -> Result<Self> {
        ensure!(!out.is_null(), Null, "{name} is NULL");
        ensure!(out.is_aligned(), Argument, "{name} is not aligned");
        Ok(Self(out))
    }

    /// Writes the result. Calls do so last, when nothing can fail any more.
    pub(super) fn set(self, value: T) {
        // SAFETY: checked and promised in `new`.
        unsafe { self.0.write(value) }
    }
}
