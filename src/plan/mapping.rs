//! Which raw components of mapped files are mapped, and which of them with one mapping.
//!
//! The memory of a mapping is only returned when nothing in it is used any more. So a large component has a mapping of its own,
//! and small neighbours share one that is short. A process may have only so many mappings: the more components there are, the
//! more of them share one.

use super::batch::Span;
use super::wanted::Wanted;
use crate::container::LARGE_BLOB;
use crate::error::Result;
use crate::room;
use crate::source::{Memory, Source, mappings_left};

/// Mappings that one batch makes at the most.
const MAX_MAPPINGS: usize = 4096;
/// Groups are at most this long as long as a batch gets by with [`MAX_MAPPINGS`].
const GROUP_LEN: u64 = 4 * 1024 * 1024;
/// Blobs that are stored one after the other have at most this much padding between them.
const MAX_PADDING: u64 = 4096;

/// How components are grouped.
#[derive(Clone, Copy)]
struct Grouping {
    /// A component of this size is mapped by itself.
    single_from: u64,
    /// The length of a group, at the most.
    max_len: u64,
    /// Bytes between two components of a group, at the most.
    max_gap: u64,
}

impl Grouping {
    /// The first grouping gives every large component a mapping of its own, the last one maps each file with few.
    const LEVELS: u32 = 44;

    fn of_level(level: u32) -> Self {
        let single_from = LARGE_BLOB << level;
        let max_gap = if level == 0 { MAX_PADDING } else { single_from / 4 };
        Self { single_from, max_len: GROUP_LEN.max(single_from * 4), max_gap }
    }
}

/// A raw component of a mapped file: its file, and where it begins and ends in it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Extent {
    file: u16,
    start: u64,
    end: u64,
}

/// Neighbours that are mapped together.
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
        let (total, is_single) = (end - start, end - start >= grouping.single_from);
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

    /// Whether it is long enough to be mapped: reading a few bytes costs less than a mapping of them.
    fn is_worthwhile(&self) -> bool {
        self.total >= LARGE_BLOB
    }
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

    /// The groups that are worth a mapping; `None` if there are more than `limit`.
    fn groups(&self, grouping: Grouping, limit: usize) -> Result<Option<Vec<Group>>> {
        let mut groups = Vec::new();
        let mut open: Option<Group> = None;
        for position in 0..self.requests.len() {
            let Some(extent) = self.extent(position) else { continue };
            if open.as_mut().is_some_and(|group| group.add(position, extent, grouping)) {
                continue;
            }
            let done = open.replace(Group::new(position, extent, grouping));
            room::extend(&mut groups, done.filter(Group::is_worthwhile))?;
            if groups.len() > limit {
                return Ok(None);
            }
        }
        room::extend(&mut groups, open.filter(Group::is_worthwhile))?;
        Ok((groups.len() <= limit).then_some(groups))
    }

    /// The groups of the finest grouping that takes no more mappings than the process can spare.
    fn spare_groups(&self) -> Result<Vec<Group>> {
        let one_at_least = usize::from(self.requests.len() > 1);
        let limit = (mappings_left() / 4).min(MAX_MAPPINGS).max(one_at_least);
        for level in 0..Grouping::LEVELS {
            if let Some(groups) = self.groups(Grouping::of_level(level), limit)? {
                return Ok(groups);
            }
        }
        // What overlaps, or is in many files, cannot share a mapping. The rest is read.
        let mut groups = self.groups(Grouping::of_level(Grouping::LEVELS), usize::MAX)?.unwrap_or_default();
        groups.truncate(limit);
        Ok(groups)
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
    for group in candidates.spare_groups()? {
        let (first, last) = group.positions;
        let source = source_of(&requests[candidates.number(first)]);
        let Some(mapping) = source.map_private(group.start, (group.end - group.start) as usize)? else {
            continue;
        };
        let memory = memories.len();
        room::push(memories, mapping)?;
        for position in first..=last {
            if let Some(Extent { start, end, .. }) = candidates.extent(position) {
                let (start, len) = ((start - group.start) as usize, (end - start) as usize);
                spans[candidates.number(position)] = Span { memory, start, len };
            }
        }
    }
    Ok(())
}
