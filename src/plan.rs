//! Where the bytes of several components go when they are read together.

mod batch;
mod blocks;
mod mapping;
mod wanted;

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::room;
use crate::source::{Memory, Source};

pub use batch::{Batch, Span};
use blocks::{Block, place_in_blocks};
use mapping::map_components;
pub(crate) use wanted::Wanted;

/// Memory, and what it is to be filled with.
pub(crate) struct ReadOp<'a, 'm> {
    /// The component, or the first of several raw ones that are read at once.
    pub(crate) wanted: Wanted<'a>,
    /// Where raw bytes begin in the file.
    pub(crate) at: u64,
    pub(crate) out: &'m mut [u8],
}

impl<'a, 'm> ReadOp<'a, 'm> {
    pub(crate) fn new(wanted: Wanted<'a>, out: &'m mut [u8]) -> Self {
        Self { wanted, at: wanted.at(), out }
    }
}

/// How components are laid out in memory.
pub(crate) struct Plan {
    /// Private mappings first, then the blocks that are filled.
    memories: Vec<Memory>,
    mapped: usize,
    blocks: Vec<Block>,
    spans: Vec<Span>,
}

impl Plan {
    /// Decides where each component goes, and allocates the memory. `source_of` returns the file of each.
    pub(crate) fn new<'s>(
        requests: &[Wanted<'_>],
        source_of: impl Fn(&Wanted<'_>) -> &'s Source,
    ) -> Result<Self> {
        let mut memories = Vec::new();
        let mut spans = Vec::new();
        room::resize(&mut spans, requests.len(), Span::NOWHERE)?;
        map_components(requests, source_of, &mut memories, &mut spans)?;
        let mapped = memories.len();
        let blocks = place_in_blocks(requests, mapped, &mut spans)?;
        for block in &blocks {
            let memory = Memory::zeroed(block.len).map_err(|err| out_of_memory(&err, requests, block))?;
            room::push(&mut memories, memory)?;
        }
        Ok(Self { memories, mapped, blocks, spans })
    }

    /// What the memory is to be filled with.
    pub(crate) fn read_ops<'a, 'm>(&'m mut self, requests: &[Wanted<'a>]) -> Result<Vec<ReadOp<'a, 'm>>> {
        let mut ops = Vec::new();
        for (memory, block) in self.memories[self.mapped..].iter_mut().zip(&self.blocks) {
            let (mut rest, mut position) = (memory.as_mut_slice(), 0);
            for fill in &block.fills {
                let (_, after) = rest.split_at_mut(fill.start - position);
                let (out, after) = after.split_at_mut(fill.len);
                (rest, position) = (after, fill.start + fill.len);
                room::push(&mut ops, ReadOp::new(requests[fill.number], out))?;
            }
        }
        Ok(ops)
    }

    /// The bytes of a component.
    pub(crate) fn bytes(&self, number: usize) -> &[u8] {
        let span = self.spans[number];
        &self.memories[span.memory].as_slice()[span.start..span.start + span.len]
    }

    /// The batch, whose users may have so many threads.
    pub(crate) fn finish(self, threads: usize) -> Result<Batch> {
        let memories = room::collect(self.memories.into_iter().map(Arc::new))?;
        Ok(Batch::new(memories, self.spans, threads))
    }
}

/// The error of a block that cannot be allocated, with what to do about it.
fn out_of_memory(err: &Error, requests: &[Wanted<'_>], block: &Block) -> Error {
    let advice = match requests {
        [_] => "reading a range of the tensor takes less".to_owned(),
        _ => {
            let total: u128 = requests.iter().map(|request| request.len as u128).sum();
            format!("{} components of {total} bytes were asked for; read fewer at once", requests.len())
        }
    };
    let err = Error::new(ErrorKind::Memory, format!("{err}; {advice}"));
    match block.fills.first() {
        Some(fill) => requests[fill.number].locate(err),
        None => err,
    }
}
