//! The rules of FORMAT.md that an index must keep, all checked when a file is opened.

use super::{ComponentInfo, Encoding, Frames, Index, Known, TensorInfo, Zstd};
use crate::codec::{Filter, LONG_CHUNK_LEN, MAX_CHUNK_LEN, MIN_CHUNK_LEN};
use crate::error::{Error, Result, ensure, fail};
use crate::layout::{MAX_ROLES, Part, element_count};
use crate::room;

/// The part of a file that may hold blobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlobRegion {
    /// No blob reaches beyond this.
    pub(crate) end: u64,
    /// Bytes of the whole file.
    pub(crate) file_size: u64,
}

/// How blobs may overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OverlapPolicy {
    /// Not, unless they are the same blob, stored in the same way.
    SameBlob,
    /// Not, unless they are the same bytes.
    SameRange,
    /// In any way.
    Allowed,
}

/// What the format of a file asks of its blobs.
#[derive(Debug)]
pub(crate) struct FormatRules {
    /// Of the file itself, then of its shards.
    pub(crate) files: Vec<BlobRegion>,
    /// Where the first blob may begin.
    pub(crate) first: u64,
    pub(crate) alignment: u64,
    pub(crate) overlap: OverlapPolicy,
    /// Where the index stands, if that is not behind all blobs.
    pub(crate) index: Option<(u64, u64)>,
}

/// Checks a tensor's name.
pub(crate) fn check_name(name: &str) -> Result<()> {
    ensure!(!name.is_empty(), Name, "a tensor's name is empty");
    ensure!(name.len() <= 4096, Name, "a tensor's name has {} bytes, the limit is 4096", name.len());
    ensure!(!name.contains('\0'), Name, "the name {name:?} holds a NUL");
    Ok(())
}

impl Index {
    /// Checks every rule that needs no blob, and enters the names into the table.
    pub(crate) fn check(&mut self, rules: &FormatRules) -> Result<()> {
        self.enter_names()?;
        for info in self.iter() {
            info.check(rules).map_err(|err| err.in_tensor(info.name()))?;
        }
        if rules.overlap == OverlapPolicy::Allowed { Ok(()) } else { self.check_overlaps(rules.overlap) }
    }

    /// Checks that blobs lie apart, or are the same.
    fn check_overlaps(&self, overlap: OverlapPolicy) -> Result<()> {
        let mut end = (0, 0);
        let in_order = self.components.iter().filter(|record| record.size > 0).all(|record| {
            let apart = (record.file, record.offset) >= end;
            end = (record.file, record.offset + record.size);
            apart
        });
        if in_order {
            return Ok(());
        }
        let part = |at: u32| ComponentInfo { index: self, record: &self.components[at as usize] };
        let mut order = room::list(self.components.len())?;
        order.extend((0..self.components.len() as u32).filter(|&at| part(at).stored_len() > 0));
        order.sort_unstable_by_key(|&at| (part(at).file(), part(at).offset(), at));
        let mut previous: Option<ComponentInfo<'_>> = None;
        for at in order {
            let current = part(at);
            if let Some(before) = previous.filter(|before| {
                before.file() == current.file() && before.offset() + before.stored_len() > current.offset()
            }) && !match overlap {
                OverlapPolicy::SameRange => before.is_same_range(&current),
                _ => before.is_same_blob(&current),
            } {
                let message = format!(
                    "the blob of {} bytes at {} and that of {} bytes at {} overlap without being the same",
                    before.stored_len(),
                    before.offset(),
                    current.stored_len(),
                    current.offset()
                );
                let owner = self.tensors.partition_point(|tensor| tensor.components_start <= at) - 1;
                return Err(Error::new(crate::ErrorKind::Overlap, message)
                    .in_component(current.role_name())
                    .in_tensor(self.name_of(owner as u32)));
            }
            previous = Some(current);
        }
        Ok(())
    }
}

impl TensorInfo<'_> {
    fn check(&self, rules: &FormatRules) -> Result<()> {
        ensure!(
            element_count(self.shape()).is_some(),
            Shape,
            "shape {:?} has more than 2^63 - 1 elements",
            self.shape()
        );
        for part in self.components() {
            part.check(rules).map_err(|err| err.in_component(part.role_name()))?;
        }
        let Known::Known(layout) = self.layout() else { return Ok(()) };
        let roles = layout.roles();
        let fits = self.components().len() == roles.len()
            && self.components().zip(roles).all(|(part, role)| part.role() == Known::Known(*role));
        ensure!(
            fits,
            Layout,
            "a {} tensor has the components {:?}, this one has {:?}",
            layout.name(),
            roles.iter().map(|role| role.name()).collect::<Vec<_>>(),
            self.components().map(|part| part.role_name()).collect::<Vec<_>>()
        );
        let Some(geometry) = self.geometry() else { return Ok(()) };
        // Whoever reads one component relies on it, even where another cannot be judged.
        geometry.check_shape()?;
        let mut parts = [Part::NOTHING; MAX_ROLES];
        for (place, part) in parts.iter_mut().zip(self.components()) {
            let (Some(dtype), Some(len)) = (part.dtype().known(), part.len_bytes()) else {
                // A component of an unknown type or encoding has no size that could be judged; it cannot be read
                // either.
                return Ok(());
            };
            *place = Part { dtype, len };
        }
        geometry.check_parts(&parts[..roles.len()])
    }
}

impl ComponentInfo<'_> {
    fn check(&self, rules: &FormatRules) -> Result<()> {
        let (offset, size) = (self.offset(), self.stored_len());
        let FormatRules { first, alignment, .. } = *rules;
        let Some(BlobRegion { end, file_size }) = rules.files.get(usize::from(self.file())).copied() else {
            fail!(Offset, "the blob lies in file number {}, there is none", self.file());
        };
        // Parts of a blob that are told apart by an arrangement stand where they stand.
        ensure!(
            offset.is_multiple_of(alignment) || self.arrangement().is_some(),
            Offset,
            "the blob at {offset} is not aligned to {alignment} bytes"
        );
        if size == 0 {
            ensure!(
                offset <= file_size,
                Offset,
                "the empty blob at {offset} lies outside the file of {file_size} bytes"
            );
        } else {
            ensure!(
                offset >= first && offset.checked_add(size).is_some_and(|blob_end| blob_end <= end),
                Offset,
                "the blob of {size} bytes at {offset} lies outside the part for blobs, {first} to {end}"
            );
        }
        if let Some((start, len)) = rules.index.filter(|_| self.file() == 0 && size > 0) {
            ensure!(
                offset >= start + len || offset + size <= start || (offset, size) == (start, len),
                Overlap,
                "the blob of {size} bytes at {offset} overlaps the index of {len} bytes at {start}"
            );
        }
        match self.encoding() {
            Encoding::Zstd(zstd) if zstd.frames == Frames::Chunks => {
                zstd.check(size, self.dtype().known().map(|dtype| dtype.filter_width()))
            }
            // What the blobs themselves say is checked when they are read.
            Encoding::Zstd(_) | Encoding::Raw | Encoding::Unknown(_) => Ok(()),
        }
    }
}

impl Zstd<'_> {
    /// Checks a chunk table against the component's stored size and the width of its elements.
    fn check(&self, size: u64, width: Option<usize>) -> Result<()> {
        let chunk_size = u64::from(self.chunk_size);
        // A filter is undone from memory of a chunk's size, which each thread has.
        let most = if self.filter == Filter::None { MAX_CHUNK_LEN } else { LONG_CHUNK_LEN };
        ensure!(
            self.chunk_size.is_power_of_two() && (MIN_CHUNK_LEN..=most).contains(&(self.chunk_size as usize)),
            Encoding,
            "chunks of {chunk_size} bytes; with the filter {:?}, the size is a power of two from {MIN_CHUNK_LEN} to {most}",
            self.filter.name()
        );
        ensure!(
            self.raw_size.div_ceil(chunk_size) == self.stored.len() as u64,
            Encoding,
            "{} chunks, {} bytes in chunks of {chunk_size} are {}",
            self.stored.len(),
            self.raw_size,
            self.raw_size.div_ceil(chunk_size)
        );
        let sum: u64 = self.stored.iter().map(|&stored| u64::from(stored)).sum();
        ensure!(
            sum == size,
            Encoding,
            "the chunks' stored sizes add up to {sum}, the component has {size} bytes"
        );
        // The last chunk may be a shorter one than the chunk before.
        let is_whole = self.raw_size.is_multiple_of(chunk_size);
        ensure!(
            self.stored.first() != Some(&0) && (is_whole || self.stored.last() != Some(&0)),
            Encoding,
            "a chunk of no stored bytes is the same as the one before, but there is none of its length"
        );
        if let Some(width) = width {
            check_filter(self.filter, width)?;
        }
        Ok(())
    }
}

fn check_filter(filter: Filter, width: usize) -> Result<()> {
    if !filter.takes(width) {
        fail!(Encoding, "filter {:?} does not take elements of {width} bytes", filter.name());
    }
    Ok(())
}
