//! Components that were read together, and where their bytes are.

use std::sync::Arc;

use crate::error::{Result, fail};
use crate::parallel;
use crate::source::{Buffer, Memory};

/// Batches of this many components take longer to use than a thread takes to start.
const PREFETCH_MIN_COMPONENTS: usize = 1000;
/// Page tables for this many bytes take far longer to populate than a thread takes to start.
const PREFETCH_MIN_BYTES: usize = 64 * 1024 * 1024;

/// Where the bytes of a component are: part of one of a batch's blocks of memory. C sees the same fields in the same places.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The number of the block.
    pub memory: usize,
    /// Where the component begins in it.
    pub start: usize,
    /// Bytes of the component.
    pub len: usize,
}

impl Span {
    /// Of a component that has no place yet.
    pub(super) const NOWHERE: Self = Self { memory: usize::MAX, start: 0, len: 0 };
}

/// Components that were read together.
#[derive(Debug)]
pub struct Batch {
    memories: Vec<Arc<Memory>>,
    spans: Vec<Span>,
    threads: usize,
}

impl Batch {
    /// A batch whose users may have so many threads.
    pub(super) fn new(memories: Vec<Arc<Memory>>, spans: Vec<Span>, threads: usize) -> Self {
        Self { memories, spans, threads }
    }

    /// Does `work`, which uses the batch. Meanwhile another thread populates the page tables of its mappings, if there is
    /// enough of them to be worth a thread.
    pub(crate) fn with_prefetch<T>(&self, work: impl FnOnce() -> T) -> T {
        let mapped = || self.memories.iter().filter(|memory| memory.is_mapping());
        let len: usize = mapped().map(|memory| memory.len()).sum();
        let is_worthwhile = len >= PREFETCH_MIN_BYTES || self.spans.len() >= PREFETCH_MIN_COMPONENTS;
        if self.threads < 2 || len == 0 || !is_worthwhile {
            return work();
        }
        parallel::with_background(|keep_going| mapped().for_each(|memory| memory.populate(keep_going)), work)
    }

    /// One span for each component, in the order asked for. Components that are the same blob have equal spans.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The number of blocks of memory that the spans lie in.
    pub fn memory_count(&self) -> usize {
        self.memories.len()
    }

    /// A whole block of memory.
    ///
    /// # Errors
    ///
    /// `Range` if there are fewer.
    pub fn memory(&self, number: usize) -> Result<Buffer> {
        let Some(memory) = self.memories.get(number) else {
            fail!(Range, "no block of memory number {number}, the batch has {}", self.memories.len());
        };
        Ok(Buffer::part(memory.clone(), 0, memory.len()))
    }

    /// The bytes of a component.
    ///
    /// # Errors
    ///
    /// `Range` if there are fewer.
    pub fn buffer(&self, component: usize) -> Result<Buffer> {
        let Some(span) = self.spans.get(component) else {
            fail!(Range, "no component number {component}, the batch has {}", self.spans.len());
        };
        Ok(Buffer::part(self.memories[span.memory].clone(), span.start, span.len))
    }
}
