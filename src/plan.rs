//! Where the bytes of several components go when they are read together.

mod wanted;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::container::{ALIGNMENT, LARGE_BLOB, align_up};
use crate::error::{Result, ensure};
use crate::parallel;
use crate::room;
use crate::source::{Buffer, Memory, Source};

pub(crate) use wanted::Wanted;

/// Where the bytes of a component lie: part of one of a batch's blocks of memory. C is shown the same fields in the same
/// places.
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
    const NOWHERE: Self = Self { memory: usize::MAX, start: 0, len: 0 };
}

/// Components that were read together.
#[derive(Debug)]
pub struct Batch {
    memories: Vec<Arc<Memory>>,
    spans: Vec<Span>,
    threads: usize,
}

impl Batch {
    /// Does something with the batch that takes a while. Meanwhile another thread brings in the pages of what is mapped, if
    /// there is so much of it, or there are so many components, that it is worth one.
    pub(crate) fn use_all<T>(&self, work: impl FnOnce() -> T) -> T {
        let mapped = || self.memories.iter().filter(|memory| memory.is_mapping());
        let len: usize = mapped().map(|memory| memory.len()).sum();
        if self.threads < 2 || len == 0 || (len < MUCH && self.spans.len() < MANY) {
            return work();
        }
        parallel::beside(|goes_on| mapped().for_each(|memory| memory.bring_in(goes_on)), work)
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
            crate::error::fail!(
                Range,
                "no block of memory number {number}, the batch has {}",
                self.memories.len()
            );
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
            crate::error::fail!(Range, "no component number {component}, the batch has {}", self.spans.len());
        };
        Ok(Buffer::part(self.memories[span.memory].clone(), span.start, span.len))
    }
}

/// A stretch of memory and what it is to be filled with.
pub(crate) struct Fill<'a, 'm> {
    /// The component, or the first of several raw ones that are read at once.
    pub(crate) wanted: Wanted<'a>,
    /// Where raw bytes stand in the file.
    pub(crate) at: u64,
    pub(crate) out: &'m mut [u8],
}

impl<'a, 'm> Fill<'a, 'm> {
    pub(crate) fn new(wanted: Wanted<'a>, out: &'m mut [u8]) -> Self {
        Self { wanted, at: wanted.at(), out }
    }
}

/// What is done with so many components takes longer than to start a thread.
const MANY: usize = 1000;
/// To bring in the pages of so many bytes takes far longer than to start a thread.
const MUCH: usize = 64 * 1024 * 1024;
/// A block of memory that several small components share is at most this long.
const SLAB_LEN: usize = 1024 * 1024;
/// Raw blobs that stand at most this far apart are read at once, with what lies between.
const MAX_GAP: u64 = 4096;
/// What lies between may be longer than the blob after it only up to this: memory is taken for it too.
const SMALL_GAP: u64 = 256;
/// More large tensors than this are mapped with one mapping, not with one each: a process may have some
/// 65,000 mappings.
const MAX_MAPPINGS: usize = 1000;

/// A block of memory that is still to be made.
struct Block {
    len: usize,
    /// What fills it, in ascending order: number of the component, start, length.
    fills: Vec<(usize, usize, usize)>,
}

/// What is to be mapped of a file.
#[derive(Default)]
struct Mapped {
    /// Where the first component begins and the last one ends.
    start: u64,
    end: u64,
    /// Bytes of all of them.
    total: u64,
    count: usize,
    large: usize,
    /// The block that maps them all, if one does.
    block: Option<usize>,
}

impl Mapped {
    fn add(&mut self, start: u64, len: usize) {
        let end = start + len as u64;
        self.start = if self.count == 0 { start } else { self.start.min(start) };
        self.end = self.end.max(end);
        self.total += len as u64;
        self.count += 1;
        self.large += usize::from(len as u64 >= LARGE_BLOB);
    }

    /// Whether one mapping for all is better than one for each of the large ones: where they make up much of the stretch that
    /// they stand in.
    fn is_one(&self) -> bool {
        let is_dense = self.total >= LARGE_BLOB && self.total >= (self.end - self.start) / 2;
        self.large > MAX_MAPPINGS || (is_dense && self.count > 1)
    }
}

/// How components are laid out in memory.
pub(crate) struct Plan {
    /// The blocks of private mappings first, then those that are filled.
    memories: Vec<Memory>,
    mapped: usize,
    blocks: Vec<Block>,
    spans: Vec<Span>,
}

impl Plan {
    /// Decides where each component goes, and takes the memory. `source_of` knows the file of each.
    pub(crate) fn new<'s>(all: &[Wanted<'_>], source_of: impl Fn(&Wanted<'_>) -> &'s Source) -> Result<Self> {
        let mut memories = Vec::new();
        let mut spans = Vec::new();
        room::resize(&mut spans, all.len(), Span::NOWHERE)?;
        map(all, source_of, &mut memories, &mut spans)?;
        let mapped = memories.len();
        let blocks = lay_out(all, mapped, &mut spans)?;
        for block in &blocks {
            room::push(&mut memories, Memory::zeroed(block.len)?)?;
        }
        Ok(Self { memories, mapped, blocks, spans })
    }

    /// What the memory is to be filled with.
    pub(crate) fn fills<'a, 'm>(&'m mut self, wanted: &[Wanted<'a>]) -> Result<Vec<Fill<'a, 'm>>> {
        let mut fills = Vec::new();
        for (memory, block) in self.memories[self.mapped..].iter_mut().zip(&self.blocks) {
            let (mut rest, mut position) = (memory.as_mut_slice(), 0);
            for &(number, start, len) in &block.fills {
                let (_, after) = rest.split_at_mut(start - position);
                let (out, after) = after.split_at_mut(len);
                (rest, position) = (after, start + len);
                room::push(&mut fills, Fill::new(wanted[number], out))?;
            }
        }
        Ok(fills)
    }

    /// The bytes of a component.
    pub(crate) fn bytes(&self, number: usize) -> &[u8] {
        let span = self.spans[number];
        &self.memories[span.memory].as_slice()[span.start..span.start + span.len]
    }

    /// The batch, whose users may have so many threads.
    pub(crate) fn finish(self, threads: usize) -> Result<Batch> {
        let memories = room::collect(self.memories.into_iter().map(Arc::new))?;
        Ok(Batch { memories, spans: self.spans, threads })
    }
}

/// Maps the raw components of each mapped file privately: all of them with one mapping, or only the large ones, with one each.
fn map<'s>(
    all: &[Wanted<'_>],
    source_of: impl Fn(&Wanted<'_>) -> &'s Source,
    memories: &mut Vec<Memory>,
    spans: &mut [Span],
) -> Result<()> {
    let place = |wanted: &Wanted<'_>| {
        let is_mapped = wanted.part.is_plain() && wanted.len > 0 && source_of(wanted).is_mapped();
        is_mapped.then(|| (wanted.part.file(), wanted.at()))
    };
    let mut files = BTreeMap::<u16, Mapped>::new();
    for wanted in all {
        if let Some((file, start)) = place(wanted) {
            files.entry(file).or_default().add(start, wanted.len);
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    let mut add = |wanted: &Wanted<'_>, start: u64, len: u64| -> Result<usize> {
        // A part of a mapped file that is not empty: there is a mapping, or an error.
        memories.extend(source_of(wanted).map_private(start, len as usize)?);
        Ok(memories.len() - 1)
    };
    let mut known = HashMap::new();
    for (span, wanted) in spans.iter_mut().zip(all) {
        let Some((number, start)) = place(wanted) else { continue };
        let Some(file) = files.get_mut(&number) else { continue };
        let len = wanted.len;
        if file.is_one() {
            let memory = match file.block {
                Some(block) => block,
                None => *file.block.insert(add(wanted, file.start, file.end - file.start)?),
            };
            *span = Span { memory, start: (start - file.start) as usize, len };
        } else if len as u64 >= LARGE_BLOB {
            let memory = match known.entry((number, start, len)) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(place) => *place.insert(add(wanted, start, len as u64)?),
            };
            *span = Span { memory, start: 0, len };
        }
    }
    Ok(())
}

/// Gives every component that has no place yet one in a block of memory: a large one a block of its own, small
/// ones shared blocks, in which neighbours in the file stay neighbours and are read at once.
fn lay_out(wanted: &[Wanted<'_>], first_memory: usize, spans: &mut [Span]) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    // Where each blob comes after the one before, as nearly always, none comes twice.
    let places =
        wanted.iter().filter(|wanted| wanted.len > 0).map(|wanted| (wanted.part.file(), wanted.at()));
    let may_repeat = !places.is_sorted_by(|before, after| before < after);
    let mut known = HashMap::new();
    known.try_reserve(if may_repeat { wanted.len() } else { 0 })?;
    // The shared block that small components go to, and file and end of the last raw blob in it.
    let mut slab: Option<(usize, Option<(u16, u64)>)> = None;
    for (number, wanted) in wanted.iter().enumerate() {
        if spans[number] != Span::NOWHERE {
            continue;
        }
        let (part, is_raw) = (wanted.part, wanted.part.is_plain());
        let key =
            (may_repeat && wanted.len > 0).then(|| (part.blob(), wanted.start, wanted.len, part.dtype()));
        if let Some(&span) = key.and_then(|key| known.get(&key)) {
            spans[number] = span;
            continue;
        }
        let is_small = (wanted.len as u64) < LARGE_BLOB;
        let at = wanted.at();
        let mut place = None;
        if let (true, Some((block, raw_end))) = (is_small, slab) {
            let len = blocks[block].len;
            let gap = raw_end
                .filter(|(file, _)| is_raw && *file == part.file())
                .and_then(|(_, end)| at.checked_sub(end))
                .filter(|gap| *gap <= MAX_GAP.min((wanted.len as u64).max(SMALL_GAP)));
            // A neighbour keeps its distance, so that both are read at once; others are aligned.
            let start = match gap {
                Some(gap) => len as u64 + gap,
                None => align_up(len as u64, ALIGNMENT),
            } as usize;
            if start + wanted.len <= SLAB_LEN {
                let joins = gap.is_some();
                match blocks[block].fills.last_mut().filter(|_| joins) {
                    Some((_, first, len)) => *len = start + wanted.len - *first,
                    None => room::push(&mut blocks[block].fills, (number, start, wanted.len))?,
                }
                blocks[block].len = start + wanted.len;
                place = Some((block, start));
            }
        }
        let (block, start) = match place {
            Some(place) => place,
            None => {
                let fills = vec![(number, 0, wanted.len)];
                room::push(&mut blocks, Block { len: wanted.len, fills })?;
                (blocks.len() - 1, 0)
            }
        };
        if is_small {
            slab = Some((block, is_raw.then_some((part.file(), at + wanted.len as u64))));
        }
        let span = Span { memory: first_memory + block, start, len: wanted.len };
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
