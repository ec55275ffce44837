//! The rules of FORMAT.md that an index must keep, all checked when a file is opened.

use super::{ComponentInfo, Encoding, Index, Known, TensorInfo, Zstd};
use crate::codec::{Filter, MAX_CHUNK_LEN, MIN_CHUNK_LEN};
use crate::container::{ALIGNMENT, HEADER_LEN};
use crate::error::{Error, Result, ensure, fail};
use crate::layout::{Part, element_count};

/// The part of the file that may hold blobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Where the index begins: no blob reaches into it.
    pub(crate) end: u64,
    /// Bytes of the whole file.
    pub(crate) file_size: u64,
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
    pub(crate) fn check(&mut self, bounds: Bounds) -> Result<()> {
        let hasher = &self.hasher;
        let (names, tensors) = (&self.names, &self.tensors);
        self.by_name.reserve(tensors.len(), |&at| {
            use std::hash::BuildHasher;
            let record = &tensors[at as usize];
            hasher.hash_one(&names[record.name_start as usize..][..usize::from(record.name_len)])
        });
        for at in 0..self.tensors.len() {
            if !self.enter_name(at as u32) {
                let name = self.name_of(at as u32);
                return Err(
                    Error::new(crate::ErrorKind::Duplicate, "two tensors have this name").in_tensor(name)
                );
            }
        }
        for info in self.iter() {
            info.check(bounds).map_err(|err| err.in_tensor(info.name()))?;
        }
        self.check_overlaps()
    }

    /// Checks that blobs lie apart, or are the same.
    fn check_overlaps(&self) -> Result<()> {
        let mut end = 0;
        let in_order = self.components.iter().filter(|record| record.size > 0).all(|record| {
            let apart = record.offset >= end;
            end = record.offset + record.size;
            apart
        });
        if in_order {
            return Ok(());
        }
        let part = |at: u32| ComponentInfo { index: self, record: &self.components[at as usize] };
        let mut order: Vec<u32> =
            (0..self.components.len() as u32).filter(|&at| part(at).stored_len() > 0).collect();
        order.sort_unstable_by_key(|&at| (part(at).offset(), at));
        let mut previous: Option<ComponentInfo<'_>> = None;
        for at in order {
            let current = part(at);
            if let Some(before) =
                previous.filter(|before| before.offset() + before.stored_len() > current.offset())
                && !before.is_same_blob(&current)
            {
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
    fn check(&self, bounds: Bounds) -> Result<()> {
        ensure!(
            element_count(self.shape()).is_some(),
            Shape,
            "shape {:?} has more than 2^63 - 1 elements",
            self.shape()
        );
        for part in self.components() {
            part.check(bounds).map_err(|err| err.in_component(part.role_name()))?;
        }
        let Known::Known(layout) = self.layout() else { return Ok(()) };
        let roles = layout.roles();
        let found: Vec<&str> = self.components().map(|part| part.role_name()).collect();
        ensure!(
            found.iter().copied().eq(roles.iter().map(|role| role.name())),
            Layout,
            "a {} tensor has the components {:?}, this one has {found:?}",
            layout.name(),
            roles.iter().map(|role| role.name()).collect::<Vec<_>>()
        );
        let Some(frame) = self.frame() else { return Ok(()) };
        frame.check_shape()?;
        let parts: Option<Vec<Part>> = self
            .components()
            .map(|part| Some(Part { dtype: part.dtype().known()?, len: part.len_bytes()? }))
            .collect();
        // A component of an unknown type or encoding has no size that could be judged; it cannot be read either.
        parts.map_or(Ok(()), |parts| frame.check_parts(&parts))
    }
}

impl ComponentInfo<'_> {
    fn check(&self, bounds: Bounds) -> Result<()> {
        let (offset, size) = (self.offset(), self.stored_len());
        ensure!(offset % ALIGNMENT == 0, Offset, "the blob at {offset} is not aligned to {ALIGNMENT} bytes");
        if size == 0 {
            ensure!(
                offset <= bounds.file_size,
                Offset,
                "the empty blob at {offset} lies outside the file of {} bytes",
                bounds.file_size
            );
        } else {
            ensure!(
                offset >= HEADER_LEN && offset.checked_add(size).is_some_and(|end| end <= bounds.end),
                Offset,
                "the blob of {size} bytes at {offset} lies outside the part for blobs, {HEADER_LEN} to {}",
                bounds.end
            );
        }
        match self.encoding() {
            Encoding::Zstd(zstd) => zstd.check(size, self.dtype().known().map(|dtype| dtype.filter_width())),
            Encoding::Raw | Encoding::Unknown(_) => Ok(()),
        }
    }
}

impl Zstd<'_> {
    /// Checks a chunk table against the component's stored size and the width of its elements.
    fn check(&self, size: u64, width: Option<usize>) -> Result<()> {
        let chunk_size = u64::from(self.chunk_size);
        ensure!(
            self.chunk_size.is_power_of_two()
                && (MIN_CHUNK_LEN..=MAX_CHUNK_LEN).contains(&(self.chunk_size as usize)),
            Encoding,
            "chunks of {chunk_size} bytes; the size is a power of two from {MIN_CHUNK_LEN} to {MAX_CHUNK_LEN}"
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
