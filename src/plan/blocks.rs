//! Blocks of memory for components that are read or decoded into it.

use std::collections::HashMap;

use super::batch::Span;
use super::wanted::Wanted;
use crate::container::{ALIGNMENT, LARGE_BLOB, align_up};
use crate::error::{Result, ensure};
use crate::room;

/// A block of memory that several small components share is at most this long.
const SLAB_LEN: usize = 1024 * 1024;
/// Raw blobs that are at most this far apart are read at once, with what lies between.
const MAX_GAP: u64 = 4096;
/// What lies between may be longer than the blob after it only up to this: memory is taken for it too.
const SMALL_GAP: u64 = 256;

/// A part of a block that one component fills, or several raw ones that are read at once.
pub(super) struct Fill {
    /// The number of the first component.
    pub(super) number: usize,
    pub(super) start: usize,
    pub(super) len: usize,
}

/// A block of memory that is still to be allocated.
pub(super) struct Block {
    pub(super) len: usize,
    /// In ascending order.
    pub(super) fills: Vec<Fill>,
}

/// The shared block that small components go to.
#[derive(Clone, Copy)]
struct Slab {
    block: usize,
    /// File and end of the last blob in it, if it is raw.
    raw_end: Option<(u16, u64)>,
}

/// Gives every component that has no place yet one in a block of memory: a large one a block of its own, small
/// ones shared blocks, in which neighbours in the file stay neighbours and are read at once.
pub(super) fn place_in_blocks(
    requests: &[Wanted<'_>],
    first_memory: usize,
    spans: &mut [Span],
) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    // Where each blob comes after the one before, as nearly always, none comes twice.
    let places =
        requests.iter().filter(|request| request.len > 0).map(|request| (request.part.file(), request.at()));
    let may_repeat = !places.is_sorted_by(|before, after| before < after);
    let mut known = HashMap::new();
    known.try_reserve(if may_repeat { requests.len() } else { 0 })?;
    let mut slab = None;
    for (number, request) in requests.iter().enumerate() {
        if spans[number] != Span::NOWHERE {
            continue;
        }
        let part = request.part;
        let key =
            (may_repeat && request.len > 0).then(|| (part.blob(), request.start, request.len, part.dtype()));
        if let Some(&span) = key.and_then(|key| known.get(&key)) {
            spans[number] = span;
            continue;
        }
        let (block, start) = place(number, request, &mut blocks, &mut slab)?;
        let span = Span { memory: first_memory + block, start, len: request.len };
        if let Some(key) = key {
            known.insert(key, span);
        }
        spans[number] = span;
    }
    for block in &blocks {
        ensure!(block.len <= isize::MAX as usize, Memory, "{} bytes do not fit in memory", block.len);
    }
    Ok(blocks)
}

/// Finds the place of a component: its block, and where it begins in it.
fn place(
    number: usize,
    request: &Wanted<'_>,
    blocks: &mut Vec<Block>,
    slab: &mut Option<Slab>,
) -> Result<(usize, usize)> {
    let (len, is_small) = (request.len, (request.len as u64) < LARGE_BLOB);
    let raw_end = request.part.is_plain().then(|| (request.part.file(), request.at() + request.len as u64));
    if let (true, Some(shared)) = (is_small, slab.as_mut()) {
        let block = &mut blocks[shared.block];
        let gap = gap_after(shared, request);
        // A neighbour keeps its distance, so that both are read at once; others are aligned.
        let start = match gap {
            Some(gap) => block.len as u64 + gap,
            None => align_up(block.len as u64, ALIGNMENT),
        } as usize;
        if start + len <= SLAB_LEN {
            match block.fills.last_mut().filter(|_| gap.is_some()) {
                Some(fill) => fill.len = start + len - fill.start,
                None => room::push(&mut block.fills, Fill { number, start, len })?,
            }
            block.len = start + len;
            shared.raw_end = raw_end;
            return Ok((shared.block, start));
        }
    }
    room::push(blocks, Block { len, fills: vec![Fill { number, start: 0, len }] })?;
    let block = blocks.len() - 1;
    if is_small {
        *slab = Some(Slab { block, raw_end });
    }
    Ok((block, 0))
}

/// How far a raw component begins after the last one of a block, if it is near enough to be read with it.
fn gap_after(slab: &Slab, request: &Wanted<'_>) -> Option<u64> {
    let (_, end) =
        slab.raw_end.filter(|(file, _)| request.part.is_plain() && *file == request.part.file())?;
    let gap = request.at().checked_sub(end)?;
    (gap <= MAX_GAP.min((request.len as u64).max(SMALL_GAP))).then_some(gap)
}
