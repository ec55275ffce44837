//! A file in memory.

use crate::error::Result;
use crate::source::{Buffer, Memory};

/// A file in memory, which grows as it is written. Its memory is allocated ahead of the bytes; pages that are never written
/// cost nothing.
#[derive(Debug)]
pub(super) struct MemorySink {
    memory: Memory,
    len: usize,
    /// Whether the memory belongs to the caller, to be used for as long as the file fits there.
    is_lent: bool,
}

impl MemorySink {
    /// Creates an empty file.
    pub(super) fn new() -> Self {
        Self { memory: Memory::empty(), len: 0, is_lent: false }
    }

    /// Makes room for more bytes.
    pub(super) fn reserve(&mut self, more: usize) -> Result<()> {
        let needed = self.len.saturating_add(more);
        if needed <= self.memory.len() {
            return Ok(());
        }
        self.move_to(Memory::zeroed(needed.max(2 * self.memory.len()))?, false);
        Ok(())
    }

    /// Makes room for bytes that are expected, unless the memory is the caller's.
    pub(super) fn expect(&mut self, more: usize) {
        if !self.is_lent {
            // If there is not enough memory for all of it, the file grows as it is written.
            let _ = self.reserve(more);
        }
    }

    /// Continues in memory of the caller, if the bytes written so far fit there.
    pub(super) fn lend(&mut self, memory: Memory) {
        self.move_to(memory, true);
    }

    fn move_to(&mut self, mut memory: Memory, is_lent: bool) {
        if let Some(room) = memory.as_mut_slice().get_mut(..self.len) {
            room.copy_from_slice(&self.memory.as_slice()[..self.len]);
            (self.memory, self.is_lent) = (memory, is_lent);
        }
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.reserve(bytes.len())?;
        self.memory.as_mut_slice()[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// Drops the bytes after a position.
    pub(super) fn truncate(&mut self, len: usize) {
        self.len = len;
    }

    /// Returns the bytes.
    pub(super) fn into_buffer(self) -> Buffer {
        Buffer::from(self.memory).first(self.len)
    }
}
