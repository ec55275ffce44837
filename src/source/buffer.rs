//! Handles to bytes that share their memory.

use std::sync::Arc;

use super::Memory;

/// Bytes of a tensor. Copies of this handle refer to the same bytes.
#[derive(Debug, Clone)]
pub struct Buffer {
    memory: Arc<Memory>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// A handle to `len` bytes of a block of memory, which has them.
    pub(crate) fn part(memory: Arc<Memory>, start: usize, len: usize) -> Self {
        Self { memory, start, len }
    }

    /// The bytes: little-endian elements in C order.
    pub fn as_slice(&self) -> &[u8] {
        &self.memory.as_slice()[self.start..self.start + self.len]
    }

    /// Where the bytes begin: they may be written to, and stay there for as long as any handle lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.memory.as_ptr().wrapping_add(self.start)
    }

    /// A handle to the first `len` bytes.
    pub(crate) fn first(self, len: usize) -> Self {
        Self { len: len.min(self.len), ..self }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl From<Memory> for Buffer {
    fn from(memory: Memory) -> Self {
        Self { start: 0, len: memory.len(), memory: Arc::new(memory) }
    }
}
