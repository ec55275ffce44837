//! Private mappings of a file: one that is made at once, in parts that are unmapped one by one.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use memmap2::MmapOptions;
use nix::sys::mman::{MmapAdvise, madvise, munmap};
use nix::unistd::{SysconfVar, sysconf};

use super::Memory;

/// The parts of mappings that one process may hold through this library: half of the 65,530 mappings of any kind that Linux
/// allows a process by default.
const MAX_PARTS: usize = 32_768;

/// The parts of mappings that this process holds.
static PARTS: AtomicUsize = AtomicUsize::new(0);

/// Returns how many more parts of mappings this process should hold. More work until the system refuses them.
pub(crate) fn parts_left() -> usize {
    MAX_PARTS.saturating_sub(PARTS.load(Ordering::Relaxed))
}

/// The size of a page, or a multiple of it.
fn page_size() -> usize {
    /// No system has larger ones.
    const LARGEST: usize = 64 * 1024;
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| usize::try_from(size).ok());
    size.unwrap_or(LARGEST)
}

/// Pages that nothing else unmaps.
struct Pages {
    start: NonNull<c_void>,
    len: usize,
}

// SAFETY: pages belong to the process, and a value of this kind does nothing with them but unmap them once.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        // SAFETY: these pages were mapped for this value, which is used no more.
        let unmapped = unsafe { munmap(self.start, self.len) };
        if unmapped.is_err() {
            // To unmap the middle of a mapping makes one mapping more, which may be too many. The memory can be returned all
            // the same.
            // SAFETY: as above.
            let _ = unsafe { madvise(self.start, self.len, MmapAdvise::MADV_DONTNEED) };
        }
    }
}

/// A part of a mapping. Its first and its last page may belong to its neighbours as well.
pub(super) struct FileMapping {
    /// The first page, and the bytes up to the end of the last one.
    first: NonNull<u8>,
    len: usize,
    _pages: Pages,
    _edges: [Option<Arc<Pages>>; 2],
}

impl FileMapping {
    fn new(first: NonNull<u8>, len: usize, pages: Pages, edges: [Option<Arc<Pages>>; 2]) -> Self {
        PARTS.fetch_add(1, Ordering::Relaxed);
        Self { first, len, _pages: pages, _edges: edges }
    }

    /// Populates the page tables, one piece after the other for as long as `keep_going` returns true.
    #[cfg(target_os = "linux")]
    pub(super) fn populate(&self, keep_going: impl Fn() -> bool) {
        /// With a page that is asked for, the system maps those around it, as many as this. To ask for more at once
        /// takes longer, and other threads wait for new memory meanwhile.
        const AROUND: usize = 64 * 1024;
        for at in (0..self.len).step_by(AROUND).take_while(|_| keep_going()) {
            // SAFETY: `at` is inside the mapping.
            let page = unsafe { self.first.add(at) };
            // SAFETY: the page belongs to this value, and the advice does not change it.
            if unsafe { madvise(page.cast(), 1, MmapAdvise::MADV_POPULATE_READ) }.is_err() {
                return;
            }
        }
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        PARTS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Maps ranges of a file privately, copy on write: writing to one changes nothing but itself. They ascend, are not empty, and do
/// not overlap.
///
/// The file is mapped once, from the first range to the last, but the memory of each range is unmapped by itself. Only pages
/// that are written to take memory. The system is asked not to reserve memory for all others too, which it would refuse for
/// more than it has.
pub(super) fn map_ranges(file: &File, ranges: &[Range<u64>]) -> io::Result<Vec<Memory>> {
    let page = page_size();
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Ok(Vec::new()) };
    let origin = first.start - first.start % page as u64;
    let len = (last.end - origin) as usize;
    // SAFETY: a mapping is undefined when the file is cut or changed under it; readers document it, offer
    // a mode without mappings, and no code here relies on mapped bytes staying the same.
    let mut map = unsafe { MmapOptions::new().offset(origin).len(len).no_reserve_swap().map_copy(file) }?;
    let base = NonNull::new(map.as_mut_ptr()).ok_or(io::ErrorKind::InvalidInput)?;
    // From here on its parts are unmapped.
    std::mem::forget(map);
    let pages = |from: usize, to: usize| {
        let to = to.min(len);
        // SAFETY: `from` is inside the mapping.
        Pages { start: unsafe { base.add(from) }.cast(), len: to.saturating_sub(from) }
    };
    let mut parts = Vec::with_capacity(ranges.len());
    // Where the pages begin that no part has yet, and the page before them, if another part has it.
    let (mut free, mut edge) = (0, None::<Arc<Pages>>);
    for (at, range) in ranges.iter().enumerate() {
        let (start, end) = ((range.start - origin) as usize, (range.end - origin) as usize);
        let (from, to) = (start - start % page, end.next_multiple_of(page));
        if from > free {
            drop(pages(free, from));
            free = from;
        }
        let before = edge.take().filter(|_| from < free);
        let is_shared = ranges.get(at + 1).is_some_and(|next| ((next.start - origin) as usize) < to);
        let own_to = if is_shared { to - page } else { to };
        let own = pages(free, own_to.max(free));
        let after = is_shared.then(|| match &before {
            Some(before) if own_to < free => before.clone(),
            _ => Arc::new(pages(own_to, to)),
        });
        edge.clone_from(&after);
        free = free.max(to);
        // SAFETY: `from` and `start` are inside the mapping.
        let (first, start) = unsafe { (base.add(from), base.add(start)) };
        let mapping = FileMapping::new(first, to.min(len) - from, own, [before, after]);
        parts.push(Memory::from_mapping(start, (range.end - range.start) as usize, mapping));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of private mappings of the file.
    fn mapped(path: &std::path::Path) -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let of_file = maps.lines().filter(|line| line.ends_with(path.to_str().unwrap()));
        let len = |line: &str| {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            usize::from_str_radix(end, 16).unwrap() - usize::from_str_radix(start, 16).unwrap()
        };
        of_file.map(len).sum()
    }

    #[test]
    fn parts_hold_their_bytes_and_are_unmapped_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parts");
        let content: Vec<u8> = (0..1_500_000u32).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = File::open(&path).unwrap();
        for cuts in [
            &[0, 1_500_000][..],
            &[0, 10, 20, 30],
            &[100, 65_536, 65_537, 131_072, 131_080, 131_090, 200_000],
            &[70_000, 70_001, 700_000, 700_001, 1_400_000],
            &[65_536, 131_072, 196_608, 1_499_999],
        ] {
            // Neighbours that touch, and the same with every other one left out.
            let all: Vec<Range<u64>> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
            for ranges in [all.clone(), all.into_iter().step_by(2).collect()] {
                for keep in 0..ranges.len() {
                    let mut parts = map_ranges(&file, &ranges).unwrap();
                    for (part, range) in parts.iter_mut().zip(&ranges) {
                        assert_eq!(part.as_slice(), &content[range.start as usize..range.end as usize]);
                        part.as_mut_slice().fill(255);
                    }
                    let kept = parts.swap_remove(keep);
                    drop(parts);
                    assert!(kept.as_slice().iter().all(|&byte| byte == 255));
                    if cfg!(target_os = "linux") {
                        assert!(mapped(&path) <= kept.len() + 2 * page_size(), "{ranges:?} {keep}");
                    }
                    drop(kept);
                    assert_eq!(mapped(&path), 0, "{ranges:?} {keep}");
                }
            }
        }
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
}
