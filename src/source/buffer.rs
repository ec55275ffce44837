//! Handles to bytes that share their memory.

use std::sync::Arc;

use super::Memory;
use super::memory::advise_huge_pages;
use crate::error::{Result, ensure};
use crate::parallel;
use crate::progress::{Checkpoint, Progress};

/// Bytes that a thread copies at a time.
const COPIED_LEN: usize = 4 * 1024 * 1024;

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

    /// Copies the bytes on up to `threads` threads, 0 for as many as the machine has.
    ///
    /// Of large memory that has not been touched yet, huge pages are asked for.
    ///
    /// # Errors
    ///
    /// `Size` if `out` has another length.
    pub fn copy_to(&self, out: &mut [u8], threads: usize) -> Result<()> {
        ensure!(out.len() == self.len, Size, "the target has {} bytes, the buffer {}", out.len(), self.len);
        advise_huge_pages(out);
        let pieces = self.as_slice().chunks(COPIED_LEN).zip(out.chunks_mut(COPIED_LEN)).collect();
        let copy = |_: &mut (), (from, to): (&[u8], &mut [u8]), _: Checkpoint<'_>| {
            to.copy_from_slice(from);
            Ok(())
        };
        parallel::for_each(parallel::thread_count(threads), pieces, &Progress::none(), || Ok(()), copy)
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
