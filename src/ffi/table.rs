//! Arrays of one entry for each tensor or component, which are made once and then stay where they are.

use std::marker::PhantomData;
use std::{ptr, slice};

use crate::error::{Error, ErrorKind, Result};
use crate::source::Memory;

/// Bytes of a huge page, where they are not larger still.
const HUGE_PAGE: usize = 2 << 20;

/// An array in memory for which huge pages are asked: what is made for 100,000 tensors takes some 20 MB, and the faults
/// of so many small pages would take longer than it takes to fill them.
pub(super) struct Table<T> {
    memory: Memory,
    len: usize,
    _items: PhantomData<T>,
}

impl<T> Table<T> {
    /// Takes `len` items from an iterator that has as many; those that it lacks are left out.
    pub(super) fn new(len: usize, items: impl Iterator<Item = T>) -> Result<Self> {
        Self::try_new(len, items.map(Ok))
    }

    /// As [`Table::new`], of items of which the first may fail.
    pub(super) fn try_new(len: usize, items: impl Iterator<Item = Result<T>>) -> Result<Self> {
        // Blocks of memory begin at a multiple of 64.
        const { assert!(align_of::<T>() <= 64) }
        let size = len.checked_mul(size_of::<T>()).and_then(|size| match size {
            // Systems place a mapping where huge pages fit into it only if it is as long as some of them.
            HUGE_PAGE.. => size.checked_next_multiple_of(HUGE_PAGE),
            _ => Some(size),
        });
        let Some(size) = size else {
            return Err(Error::new(ErrorKind::Memory, format!("memory for {len} entries cannot be had")));
        };
        let mut table = Self { memory: Memory::zeroed(size)?, len: 0, _items: PhantomData };
        let first = table.memory.as_ptr().cast::<T>();
        for item in items.take(len) {
            // SAFETY: `table.len` is below `len`, for which there is memory, aligned to more than an item asks for.
            unsafe { first.add(table.len).write(item?) };
            table.len += 1;
        }
        Ok(table)
    }

    /// The number of items.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where the first item stands, for as long as this value lives.
    pub(super) fn as_ptr(&self) -> *const T {
        self.memory.as_ptr().cast()
    }

    /// The items.
    pub(super) fn as_slice(&self) -> &[T] {
        // SAFETY: `len` items were written, and nothing changes them.
        unsafe { slice::from_raw_parts(self.as_ptr(), self.len) }
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        let items = ptr::slice_from_raw_parts_mut(self.memory.as_ptr().cast::<T>(), self.len);
        // SAFETY: `len` items were written, and are dropped here alone.
        unsafe { ptr::drop_in_place(items) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn items_stand_in_order() {
        for len in [0, 1, 1000, 1_000_000] {
            let table = Table::new(len, (0..len as u32).map(|at| at * 3)).unwrap();
            assert_eq!((table.len(), table.as_ptr() as usize % 64), (len, 0));
            assert!(table.as_slice().iter().enumerate().all(|(at, &item)| item == at as u32 * 3));
        }
        assert_eq!(Table::new(3, [7, 8].into_iter()).unwrap().as_slice(), [7, 8]);
        assert_eq!(Table::new(2, [7, 8, 9].into_iter()).unwrap().as_slice(), [7, 8]);
        let huge = Table::<u64>::new(usize::MAX / 2, std::iter::empty());
        assert_eq!(huge.err().map(|err| err.kind()), Some(ErrorKind::Memory));
    }

    #[test]
    fn items_are_dropped_once_also_after_a_failure() {
        let item = Rc::new(());
        let table = Table::new(3, (0..3).map(|_| item.clone())).unwrap();
        assert_eq!(Rc::strong_count(&item), 4);
        drop(table);
        assert_eq!(Rc::strong_count(&item), 1);
        let failing = (0..3).map(|at| match at {
            2 => Err(Error::new(ErrorKind::Argument, "the third")),
            _ => Ok(item.clone()),
        });
        assert_eq!(Table::try_new(3, failing).err().map(|err| err.kind()), Some(ErrorKind::Argument));
        assert_eq!(Rc::strong_count(&item), 1);
    }
}
