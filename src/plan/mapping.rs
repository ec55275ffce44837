//! Which raw components of mapped files are mapped, and which of them share memory.
//!
//! What is mapped is only unmapped when nothing in it is used any more. So a large component is unmapped by itself, and small
//! neighbours share a part of the mapping that is short. A process may have only so many mappings: the more components there
//! are, the more of them share one.

use std::ops::Range;

use super::batch::Span;
use super::wanted::Wanted;
use crate::container::LARGE_BLOB;
use crate::error::Result;
use crate::room;
use crate::source::{Memory, Source, parts_left};

/// Parts of mappings that one batch makes at the most.
const MAX_PARTS: usize = 4096;
/// Components of this size have a part of their own as long as a batch gets by with [`MAX_PARTS`].
const SINGLE_FROM: u64 = 1024 * 1024;
/// Bytes between neighbours, at the most: the longest padding.
const MAX_GAP: u64 = 4096;

/// How components are grouped.
#[derive(Clone, Copy)]
struct Grouping {
    /// A component of this size is a group by itself.
    single_from: u64,
    /// The length of a group of more, at the most.
    max_len: u64,
    /// Bytes between two components of a group, at the most.
    max_gap: u64,
}

impl Grouping {
    /// The first grouping has many short groups, the last one has few for each file.
    const LEVELS: u32 = 40;

    fn of_level(level: u32) -> Self {
        let single_from = SINGLE_FROM << level;
        let max_gap = if level == 0 { MAX_GAP } else { single_from / 4 };
        Self { single_from, max_len: 4 * single_from, max_gap }
    }
}

/// A raw component of a mapped file: its file, and where it begins and ends in it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Extent {
    file: u16,
    start: u64,
    end: u64,
}

/// Neighbours that share a part of a mapping.
struct Group {
    file: u16,
    start: u64,
    end: u64,
    /// Bytes of its components.
    total: u64,
    is_single: bool,
    last: Extent,
    /// The first and the last of its components, in file order.
    positions: (usize, usize),
}

impl Group {
    fn new(position: usize, extent: Extent, grouping: Grouping) -> Self {
        let Extent { file, start, end } = extent;
        let total = end - start;
        let is_single = total >= grouping.single_from;
        Self { file, start, end, total, is_single, last: extent, positions: (position, position) }
    }

    /// Adds a component that begins at or after the last one, unless it belongs elsewhere. Components that overlap in part are
    /// kept apart, so that none sees what is written to another.
    fn add(&mut self, position: usize, extent: Extent, grouping: Grouping) -> bool {
        let Extent { file, start, end } = extent;
        let len = end - start;
        if extent != self.last {
            let fits = file == self.file
                && !self.is_single
                && len < grouping.single_from
                && start >= self.end
                && start - self.end <= grouping.max_gap
                && end - self.start <= grouping.max_len;
            if !fits {
                return false;
            }
            self.end = end;
            self.total += len;
            self.last = extent;
        }
        self.positions.1 = position;
        true
    }

    /// Whether another group follows so closely that one mapping holds both.
    fn is_before(&self, next: &Self, grouping: Grouping) -> bool {
        self.file == next.file && next.start.checked_sub(self.end).is_some_and(|gap| gap <= grouping.max_gap)
    }
}

/// Whether neighbouring groups are worth a mapping: reading costs less if there is little of them, or much padding between.
fn is_worthwhile(groups: &[Group]) -> bool {
    let (Some(first), Some(last)) = (groups.first(), groups.last()) else { return false };
    let total: u64 = groups.iter().map(|group| group.total).sum();
    total >= LARGE_BLOB && total >= (last.end - first.start) / 2
}

/// Groups, and which of them one mapping holds.
struct Groups {
    groups: Vec<Group>,
    mappings: Vec<Range<usize>>,
}

/// The components that are to be mapped, in file order.
struct Candidates<'p, 'a, F> {
    requests: &'p [Wanted<'a>],
    /// Their order in the file, where they were asked for in another.
    order: Option<Vec<usize>>,
    source_of: F,
}

impl<'p, 'a, 's, F: Fn(&Wanted<'_>) -> &'s Source> Candidates<'p, 'a, F> {
    fn new(requests: &'p [Wanted<'a>], source_of: F) -> Result<Self> {
        let key = |request: &Wanted<'_>| (request.part.file(), request.at(), request.len);
        let mut order = None;
        if !requests.is_sorted_by_key(key) {
            let mut numbers = room::collect(0..requests.len())?;
            // Sorting takes as much again, and gives no error.
            room::ask_for(size_of_val(&*numbers))?;
            numbers.sort_by_key(|&number| key(&requests[number]));
            order = Some(numbers);
        }
        Ok(Self { requests, order, source_of })
    }

    /// The number of the request at a position in file order.
    fn number(&self, position: usize) -> usize {
        self.order.as_ref().map_or(position, |order| order[position])
    }

    /// The extent of the component at a position, if it is raw data of a mapped file.
    fn extent(&self, position: usize) -> Option<Extent> {
        let request = &self.requests[self.number(position)];
        let is_mapped = request.part.is_plain() && request.len > 0 && (self.source_of)(request).is_mapped();
        let start = request.at();
        is_mapped.then(|| Extent { file: request.part.file(), start, end: start + request.len as u64 })
    }

    /// Groups neighbours; `None` if there are more groups than `limit`.
    fn group(&self, grouping: Grouping, limit: usize) -> Result<Option<Vec<Group>>> {
        let mut groups: Vec<Group> = Vec::new();
        for position in 0..self.requests.len() {
            let Some(extent) = self.extent(position) else { continue };
            if groups.last_mut().is_some_and(|group| group.add(position, extent, grouping)) {
                continue;
            }
            if groups.len() == limit {
                return Ok(None);
            }
            room::push(&mut groups, Group::new(position, extent, grouping))?;
        }
        Ok(Some(groups))
    }

    /// The finest groups of which there are no more than the process can spare mappings for.
    fn groups(&self) -> Result<Groups> {
        let one_at_least = usize::from(self.requests.len() > 1);
        let limit = (parts_left() / 4).min(MAX_PARTS).max(one_at_least);
        let mut found = None;
        for level in 0..Grouping::LEVELS {
            let grouping = Grouping::of_level(level);
            if let Some(groups) = self.group(grouping, limit)? {
                found = Some((groups, grouping));
                break;
            }
        }
        let Some((groups, grouping)) = found else {
            // Components that overlap, or that are in thousands of files, cannot share so few mappings: they are read.
            return Ok(Groups { groups: Vec::new(), mappings: Vec::new() });
        };
        let mut mappings = Vec::new();
        let mut first = 0;
        for at in 1..=groups.len() {
            let goes_on = groups.get(at).is_some_and(|next| groups[at - 1].is_before(next, grouping));
            if goes_on {
                continue;
            }
            if is_worthwhile(&groups[first..at]) {
                room::push(&mut mappings, first..at)?;
            } else {
                let alone = (first..at).map(|one| one..one + 1);
                room::extend(&mut mappings, alone.filter(|one| is_worthwhile(&groups[one.clone()])))?;
            }
            first = at;
        }
        Ok(Groups { groups, mappings })
    }
}

/// Maps raw components of mapped files privately. Those that are not worth a mapping, or that the system refuses to map, get no
/// place.
pub(super) fn map_components<'s>(
    requests: &[Wanted<'_>],
    source_of: impl Fn(&Wanted<'_>) -> &'s Source,
    memories: &mut Vec<Memory>,
    spans: &mut [Span],
) -> Result<()> {
    let candidates = Candidates::new(requests, &source_of)?;
    let Groups { groups, mappings } = candidates.groups()?;
    for mapping in mappings {
        let groups = &groups[mapping];
        let source = source_of(&requests[candidates.number(groups[0].positions.0)]);
        let ranges = room::collect(groups.iter().map(|group| group.start..group.end))?;
        let Some(parts) = source.map_private(&ranges)? else { continue };
        for (group, part) in groups.iter().zip(parts) {
            let memory = memories.len();
            room::push(memories, part)?;
            for position in group.positions.0..=group.positions.1 {
                if let Some(Extent { start, end, .. }) = candidates.extent(position) {
                    let (start, len) = ((start - group.start) as usize, (end - start) as usize);
                    spans[candidates.number(position)] = Span { memory, start, len };
                }
            }
        }
    }
    Ok(())
}
