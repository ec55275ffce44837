//! Stored bytes of components: which file holds them, and how they are had from it.

use super::Reader;
use crate::error::{Error, Result};
use crate::plan::Wanted;
use crate::room;
use crate::source::Source;

impl Reader {
    /// The file that holds a component's blob.
    pub(super) fn source_of(&self, wanted: &Wanted<'_>) -> &Source {
        match usize::from(wanted.part.file()) {
            0 => &self.source,
            number => &self.shards[number - 1].source,
        }
    }

    /// Stored bytes of a component that stand at `offset` of its file: those that are held, or else the file's, read
    /// into `scratch` where they cannot be had without reading.
    pub(super) fn fetch<'s>(
        &'s self,
        wanted: &Wanted<'s>,
        offset: u64,
        len: usize,
        scratch: &'s mut Vec<u8>,
    ) -> Result<&'s [u8]> {
        let source = self.source_of(wanted);
        let Some(bytes) = wanted.held else { return source.fetch(offset, len, scratch) };
        let start = wanted.at();
        let (end, held_end) = (offset + len as u64, start + bytes.len() as u64);
        if offset >= start && end <= held_end {
            return Ok(&bytes[(offset - start) as usize..][..len]);
        }
        room::resize(scratch, len, 0)?;
        source.read(offset, scratch)?;
        let (from, to) = (offset.max(start), end.min(held_end));
        if from < to {
            scratch[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        }
        Ok(scratch)
    }

    /// Adds the file, if it is a shard, to tensor and component of an error. Damage may be due to a file that was cut.
    pub(super) fn locate(&self, wanted: &Wanted<'_>, err: Error) -> Error {
        let err = self.source_of(wanted).explain(err);
        let shard = usize::from(wanted.part.file()).checked_sub(1).and_then(|at| self.shards.get(at));
        match shard {
            Some(shard) => wanted.locate(err).in_file(&shard.label),
            None => wanted.locate(err),
        }
    }

    /// Reads raw bytes into `out`; `at` is where they stand in the file, or would stand if nothing had to be put
    /// in order.
    pub(super) fn read_raw(&self, wanted: &Wanted<'_>, at: u64, out: &mut [u8]) -> Result<()> {
        let (source, offset) = (self.source_of(wanted), wanted.part.offset());
        match wanted.part.arrangement() {
            None => source.read(at, out),
            Some(arrangement) => {
                arrangement.gather(at - offset, out, |at, out| source.read(offset + at, out))
            }
        }
    }
}
