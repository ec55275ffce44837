//! Components that were asked for.

use crate::codec::{self, Chunk};
use crate::error::{Error, ErrorKind, Result};
use crate::index::{ComponentInfo, Encoding, Known, TensorInfo, Zstd};
use crate::layout::{Layout, Part};
use crate::progress::Checkpoint;

/// A component of the file that was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) tensor: TensorInfo<'a>,
    pub(crate) part: ComponentInfo<'a>,
    /// The part of its decoded bytes that is wanted.
    pub(crate) start: u64,
    pub(crate) len: usize,
    /// Stored bytes that were read already, from `start` of its blob on: checks judge these, not the file, which may have been
    /// rewritten meanwhile.
    pub(crate) held: Option<&'a [u8]>,
}

impl<'a> Wanted<'a> {
    /// The component as it is stored.
    pub(crate) fn stored(tensor: TensorInfo<'a>, part: ComponentInfo<'a>) -> Self {
        Self { tensor, part, start: 0, len: 0, held: None }
    }

    pub(crate) fn whole(tensor: TensorInfo<'a>, part: ComponentInfo<'a>) -> Result<Self> {
        let wanted = Self::stored(tensor, part);
        match part.encoding() {
            Encoding::Unknown(name) => Err(wanted.locate(Error::new(
                ErrorKind::UnknownEncoding,
                format!(
                    "the encoding {name:?} is not known to this library; only the stored bytes can be read"
                ),
            ))),
            Encoding::Raw | Encoding::Zstd(_) => {
                let len = part.len_bytes().and_then(|len| usize::try_from(len).ok());
                let Some(len) = len else {
                    return Err(
                        wanted.locate(Error::new(ErrorKind::Memory, "the component does not fit in memory"))
                    );
                };
                Ok(Self { len, ..wanted })
            }
        }
    }

    /// Whether all of its decoded bytes are wanted.
    pub(crate) fn is_whole(&self) -> bool {
        self.start == 0 && self.part.len_bytes() == Some(self.len as u64)
    }

    /// Where its bytes begin in the file, if they stand there as they are.
    pub(crate) fn at(&self) -> u64 {
        self.part.offset() + self.start
    }

    /// Adds tensor and component to an error.
    pub(crate) fn locate(&self, err: Error) -> Error {
        err.in_component(self.part.role_name()).in_tensor(self.tensor.name())
    }

    /// The chunks that hold the wanted part, each with the range of it that is wanted.
    pub(crate) fn chunks(&self, zstd: &Zstd<'a>) -> impl Iterator<Item = (Chunk, usize, usize)> + use<'a> {
        let (start, end) = (self.start, self.start + self.len as u64);
        let chunk_size = u64::from(zstd.chunk_size);
        codec::chunks(zstd).filter_map(move |chunk| {
            let first = chunk.number as u64 * chunk_size;
            let from = start.clamp(first, first + chunk.len as u64) - first;
            let to = end.clamp(first, first + chunk.len as u64) - first;
            (from < to).then_some((chunk, from as usize, to as usize))
        })
    }

    /// Checks the index values of a sparse layout, given the wanted bytes.
    pub(crate) fn check_values(&self, bytes: &[u8], checkpoint: Checkpoint<'_>) -> Result<()> {
        let (Some(geometry), Known::Known(role), Some(dtype)) =
            (self.tensor.geometry(), self.part.role(), self.part.dtype().known())
        else {
            return Ok(());
        };
        // Without the sizes of all components, none was checked when the file was opened.
        let is_known = |part: ComponentInfo<'_>| part.dtype().known().is_some() && part.len_bytes().is_some();
        if geometry.layout == Layout::Dense || !self.tensor.components().all(is_known) {
            return Ok(());
        }
        let values = self.tensor.component(0);
        let Some(len) = values.and_then(|values| values.len_bytes()) else { return Ok(()) };
        let stored = geometry.stored_count(Part { dtype: geometry.dtype, len })?;
        geometry.check_values((role, dtype), (bytes, self.start / dtype.size() as u64), stored, checkpoint)
    }
}
