//! Memory that a tensor's bytes live in: from the heap, anonymous pages, or a private mapping of the file.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::{fmt, slice};

use memmap2::MmapMut;

use super::mapping::FileMapping;
use crate::error::{Error, ErrorKind, Result};

/// Every block of memory begins at a multiple of this, but for a private mapping, which keeps the file's
/// alignment.
pub(crate) const ALIGNMENT: usize = 64;

/// From this size on, memory comes from the operating system as pages of its own.
const PAGES_FROM: usize = 256 * 1024;

/// From this size on, memory of somebody else's is worth huge pages.
#[cfg(target_os = "linux")]
const HUGE_FROM: usize = 4 * 1024 * 1024;

/// What keeps bytes: nothing, where there are none or somebody else keeps them.
enum Owner {
    Nothing,
    Heap(Layout),
    Vec { _bytes: Vec<u8> },
    Pages { _map: MmapMut },
    Mapping(FileMapping),
}

/// Writable bytes that nothing else refers to. Zero at first, unless they map a file or are lent.
pub struct Memory {
    start: NonNull<u8>,
    len: usize,
    owner: Owner,
}

// SAFETY: the bytes belong to this value alone; shared references only read them.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// No bytes.
    pub(crate) fn empty() -> Self {
        Self { start: NonNull::<Aligned>::dangling().cast(), len: 0, owner: Owner::Nothing }
    }

    /// Bytes that somebody else keeps. Of large memory that has not been touched yet, huge pages are asked for.
    ///
    /// # Safety
    ///
    /// The bytes stay where they are, and nobody else uses them, for as long as this value lives.
    pub(crate) unsafe fn lent(bytes: &mut [u8]) -> Self {
        advise_huge_pages(bytes);
        let start = NonNull::from(&mut *bytes).cast();
        Self { start, len: bytes.len(), owner: Owner::Nothing }
    }

    /// `len` zero bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Memory`] if they cannot be had.
    pub(crate) fn zeroed(len: usize) -> Result<Self> {
        let failed =
            || Error::new(ErrorKind::Memory, format!("out of memory: could not allocate {len} bytes"));
        if len == 0 {
            return Ok(Self::empty());
        }
        // A process may have some 65,000 mappings: where that is the limit, the heap may still have the bytes.
        if len >= PAGES_FROM
            && let Ok(map) = MmapMut::map_anon(len)
        {
            // Only advice: without huge pages everything works, slower. For shorter blocks too, since the system joins
            // mappings that stand side by side.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Ok(Self::from_map(map, |map| Owner::Pages { _map: map }));
        }
        let layout = Layout::from_size_align(len, ALIGNMENT).map_err(|_| failed())?;
        // SAFETY: the layout has a size, since `len` is not 0.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).ok_or_else(failed)?;
        Ok(Self { start, len, owner: Owner::Heap(layout) })
    }

    /// Bytes of a file that are mapped, at `start`.
    pub(super) fn from_mapping(start: NonNull<u8>, len: usize, mapping: FileMapping) -> Self {
        Self { start, len, owner: Owner::Mapping(mapping) }
    }

    fn from_map(mut map: MmapMut, owner: impl FnOnce(MmapMut) -> Owner) -> Self {
        let start = NonNull::new(map.as_mut_ptr()).unwrap_or_else(|| NonNull::<Aligned>::dangling().cast());
        Self { start, len: map.len(), owner: owner(map) }
    }

    /// Whether it maps a file, whose pages come in when they are touched.
    pub(crate) fn is_mapping(&self) -> bool {
        matches!(self.owner, Owner::Mapping(_))
    }

    /// Populates the page tables of a mapping before its pages are touched, one piece after the other for as long as
    /// `keep_going` returns true. Nothing else changes; a page that cannot be read now is read, or fails, on first access.
    pub(crate) fn populate(&self, keep_going: impl Fn() -> bool) {
        #[cfg(target_os = "linux")]
        if let Owner::Mapping(mapping) = &self.owner {
            mapping.populate(keep_going);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = keep_going;
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the bytes begin. They stay there for as long as this value lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `start` and `len` describe initialised memory that `owner` keeps; `&self` excludes writers.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The bytes, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`; `&mut self` excludes everyone else.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl From<Vec<u8>> for Memory {
    fn from(mut bytes: Vec<u8>) -> Self {
        let start = NonNull::new(bytes.as_mut_ptr()).unwrap_or_else(|| NonNull::<Aligned>::dangling().cast());
        Self { start, len: bytes.len(), owner: Owner::Vec { _bytes: bytes } }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Owner::Heap(layout) = self.owner {
            // SAFETY: allocated in `zeroed` with this layout, and freed only here.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes)", self.len)
    }
}

/// Advises the system to use huge pages for bytes of somebody else's that have not been touched yet.
pub(super) fn advise_huge_pages(bytes: &mut [u8]) {
    #[cfg(target_os = "linux")]
    if bytes.len() >= HUGE_FROM {
        use nix::sys::mman::{MmapAdvise, madvise};

        /// Every page that the system may have is a multiple or a part of it.
        const PAGE: usize = 64 * 1024;
        let skipped = bytes.as_ptr().align_offset(PAGE);
        let Some(pages) = bytes.get_mut(skipped..) else { return };
        let len = pages.len() / PAGE * PAGE;
        let Some(start) = NonNull::new(pages.as_mut_ptr().cast()).filter(|_| len > 0) else { return };
        // SAFETY: whole pages within the slice, whose content the advice does not change.
        let _ = unsafe { madvise(start, len, MmapAdvise::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

#[repr(align(64))]
struct Aligned;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_aligned_and_writable() {
        for len in [0, 1, 64, 1000, PAGES_FROM - 1, PAGES_FROM, 3 * 1024 * 1024 + 1] {
            let mut memory = Memory::zeroed(len).unwrap();
            assert_eq!(memory.len(), len);
            assert_eq!(memory.as_ptr() as usize % ALIGNMENT, 0);
            assert!(memory.as_slice().iter().all(|&byte| byte == 0));
            memory.as_mut_slice().fill(7);
            assert!(memory.as_slice().iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        let err = Memory::zeroed(usize::MAX / 2).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Memory);
        assert!(err.to_string().starts_with("out of memory: "), "{err}");
    }
}
