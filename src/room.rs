//! Lists as long as a file has tensors, or as a caller asks for: memory for them that cannot be had is an error, where the
//! standard library's would end the process.

use std::collections::TryReserveError;

use crate::error::{Error, ErrorKind, Result};

impl From<TryReserveError> for Error {
    fn from(_: TryReserveError) -> Self {
        Self::new(ErrorKind::Memory, "memory for a list cannot be had")
    }
}

impl From<hashbrown::TryReserveError> for Error {
    fn from(_: hashbrown::TryReserveError) -> Self {
        Self::new(ErrorKind::Memory, "memory for a table cannot be had")
    }
}

/// A list with room for `len` items.
pub(crate) fn list<T>(len: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    list.try_reserve_exact(len)?;
    Ok(list)
}

/// Makes a list as long as `len`, with `item` where there was none.
pub(crate) fn resize<T: Clone>(list: &mut Vec<T>, len: usize, item: T) -> Result<()> {
    list.try_reserve_exact(len.saturating_sub(list.len()))?;
    list.resize(len, item);
    Ok(())
}

/// Adds an item to a list, which grows as for [`Vec::push`].
#[inline]
pub(crate) fn push<T>(list: &mut Vec<T>, item: T) -> Result<()> {
    list.try_reserve(1)?;
    list.push(item);
    Ok(())
}

/// Adds items to a list.
pub(crate) fn extend<T>(list: &mut Vec<T>, items: impl IntoIterator<Item = T>) -> Result<()> {
    let items = items.into_iter();
    list.try_reserve(items.size_hint().0)?;
    for item in items {
        push(list, item)?;
    }
    Ok(())
}

/// A list of items.
pub(crate) fn collect<T>(items: impl IntoIterator<Item = T>) -> Result<Vec<T>> {
    let mut list = Vec::new();
    extend(&mut list, items)?;
    Ok(list)
}

/// Makes sure that `len` bytes can be had, for what will be made of many small pieces: these give no error of their own.
pub(crate) fn ask_for(len: usize) -> Result<()> {
    list::<u8>(len).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        let kind = |err: Error| err.kind();
        assert_eq!(list::<u64>(usize::MAX / 8).map_err(kind), Err(ErrorKind::Memory));
        let mut zeros = vec![7];
        assert_eq!(resize(&mut zeros, usize::MAX / 16, 0u64).map_err(kind), Err(ErrorKind::Memory));
        assert_eq!(resize(&mut zeros, 2, 0).map_err(kind), Ok(()));
        assert_eq!(zeros, [7, 0]);
        assert_eq!(collect((0..usize::MAX).map(|at| at as u64)).map_err(kind), Err(ErrorKind::Memory));
        assert_eq!(ask_for(usize::MAX / 2).map_err(kind), Err(ErrorKind::Memory));
        assert_eq!(collect(0..5).map_err(kind), Ok(vec![0, 1, 2, 3, 4]));
    }
}
