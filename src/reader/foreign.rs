//! What reading files of other formats takes beside reading our own: shards, checksums of whole components,
//! tables of frames that stand in blobs, stricter rules of elements.

use std::path::Path;

use super::{PIECE_LEN, Reader};
use crate::codec::{self, Decoder, Head};
use crate::digest::{Digest, Hasher};
use crate::error::{Cause, Result, ensure, fail};
use crate::formats::{self, ElementRule, Format, Shard};
use crate::index::{DigestRecord, Encoding, Frames, Known};
use crate::layout::{Layout, Role, check_coordinates_differ, check_rows_ascend};
use crate::plan::Wanted;
use crate::progress::{Checkpoint, Progress};
use crate::room;
use crate::source::{Mode, Source};

/// A file beside the one that was opened, which holds some of its blobs.
#[derive(Debug)]
pub(super) struct OpenShard {
    pub(super) source: Source,
    pub(super) label: String,
    digest: Option<Digest>,
}

/// Opens the shards of the file at `path`; one in memory has none beside it.
pub(super) fn open_shards(
    format: &dyn Format,
    shards: Vec<Shard>,
    path: Option<&Path>,
    mode: Mode,
) -> Result<Vec<OpenShard>> {
    let open = |shard: Shard| {
        let Some(path) = path.map(|path| format.shard_path(path, &shard.name)) else {
            fail!(
                FileNotFound,
                "the shard {:?} stands beside its file, and a file in memory has no place",
                shard.name
            );
        };
        let label = path.display().to_string();
        let source = Source::open(&path, mode).and_then(|source| {
            formats::unrecognized::check(&source)?;
            let len = source.len();
            ensure!(
                len == shard.size,
                Truncated,
                "the shard {:?} has {len} bytes, expected {}",
                shard.name,
                shard.size
            );
            format.check_shard(&source)?;
            Ok(source)
        });
        let source = source.map_err(|err| err.in_file(&label))?;
        Ok(OpenShard { source, label, digest: shard.digest })
    };
    shards.into_iter().map(open).collect()
}

fn expect(expected: Digest, hasher: Hasher) -> Result<()> {
    let found = hasher.finish();
    if found == expected {
        return Ok(());
    }
    Err(Cause::Digest { expected: expected.to_string(), found: found.to_string() }.into())
}

fn check_digest(expected: Digest, bytes: &[u8], checkpoint: Checkpoint<'_>) -> Result<()> {
    let mut hasher = Hasher::like(expected);
    for piece in bytes.chunks(PIECE_LEN) {
        checkpoint()?;
        hasher.update(piece);
    }
    expect(expected, hasher)
}

impl Reader {
    /// Reads the component's table of frames, if it has one that is still to be read.
    pub(super) fn prepare(&self, wanted: &Wanted<'_>) -> Result<()> {
        let Some((place, raw_size)) = wanted.part.seek_table() else { return Ok(()) };
        if place.get().is_none() {
            let source = self.source_of(wanted);
            let table = codec::SeekTable::read(wanted.part.stored_len(), raw_size, |at, out| {
                source.read(wanted.part.offset() + at, out)
            });
            // Another thread may have been faster; it has read the same.
            let _ = place.set(table.map_err(|err| self.locate(wanted, err))?);
        }
        Ok(())
    }

    /// Checks what a stream's headers say, before memory is taken.
    pub(super) fn check_stream(
        &self,
        wanted: &Wanted<'_>,
        raw_size: u64,
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        let (start, stored_len) = (wanted.part.offset(), wanted.part.stored_len());
        codec::check_stream(stored_len, raw_size, |at| -> Result<Head> {
            checkpoint()?;
            let mut head = [0; codec::MAX_HEADER_LEN];
            let len = stored_len.saturating_sub(at).min(head.len() as u64) as usize;
            self.source_of(wanted).read(start + at.min(stored_len), &mut head[..len])?;
            Ok((head, len))
        })
    }

    /// Checks a component from its first byte to its last: its checksum, that it decodes, and where the file is
    /// strict, what its elements may be.
    pub(super) fn check_whole(
        &self,
        wanted: &Wanted<'_>,
        decoder: &mut Decoder,
        scratch: &mut Vec<u8>,
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        self.prepare(wanted)?;
        let part = wanted.part;
        let digest = part.digest();
        if let Some(DigestRecord { digest, decoded: false, offset, len }) = digest {
            let mut hasher = Hasher::like(digest);
            self.each_piece(wanted, (offset, len), scratch, checkpoint, |bytes| {
                hasher.update(bytes);
                Ok(())
            })?;
            expect(digest, hasher)?;
        }
        let of_decoded = digest.filter(|record| record.decoded);
        let mut hasher = of_decoded.map(|record| Hasher::like(record.digest));
        let rule = self.element_rule(wanted);
        let mut at = 0;
        let mut see = |bytes: &[u8]| {
            if let Some(hasher) = &mut hasher {
                hasher.update(bytes);
            }
            at += bytes.len() as u64;
            rule.map_or(Ok(()), |rule| rule.check(bytes, at, part.len_bytes()))
        };
        match part.encoding() {
            Encoding::Zstd(zstd) if matches!(zstd.frames, Frames::Stream { .. }) => {
                self.check_stream(wanted, zstd.raw_size, checkpoint)?;
                for chunk in codec::chunks(&zstd) {
                    let stored = self.fetch(wanted, part.offset(), chunk.stored_len, scratch)?;
                    decoder.decode_part(&zstd, 1, stored, &chunk, (chunk.len, &mut []), checkpoint)?;
                }
            }
            Encoding::Zstd(zstd) => {
                let mut decoded = Vec::new();
                for chunk in codec::chunks(&zstd) {
                    let stored = self.fetch(wanted, part.offset() + chunk.at, chunk.stored_len, scratch)?;
                    codec::check_header(zstd.frames, stored, &chunk)?;
                    room::resize(&mut decoded, chunk.len, 0)?;
                    decoder.decode(&zstd, 1, stored, &chunk, &mut decoded, checkpoint)?;
                    see(&decoded)?;
                }
            }
            Encoding::Raw if of_decoded.is_some() || rule.is_some() => {
                self.each_piece(wanted, (part.offset(), part.stored_len()), scratch, checkpoint, see)?;
            }
            Encoding::Raw | Encoding::Unknown(_) => {}
        }
        match (of_decoded, hasher) {
            // The decoded bytes of an encoding that is not known cannot be had.
            (Some(record), Some(hasher)) if !matches!(part.encoding(), Encoding::Unknown(_)) => {
                expect(record.digest, hasher)
            }
            _ => Ok(()),
        }
    }

    /// The rule of the file's format for the elements of a component.
    fn element_rule(&self, wanted: &Wanted<'_>) -> Option<ElementRule> {
        self.format.element_rule(wanted.tensor, wanted.part)
    }

    /// Whether verifying has to go through a component from its first byte to its last.
    pub(super) fn requires_full_scan(&self, wanted: &Wanted<'_>) -> bool {
        let is_foreign =
            matches!(wanted.part.encoding(), Encoding::Zstd(zstd) if zstd.frames != Frames::Chunks);
        is_foreign || wanted.part.digest().is_some() || self.element_rule(wanted).is_some()
    }

    fn each_piece(
        &self,
        wanted: &Wanted<'_>,
        (offset, len): (u64, u64),
        scratch: &mut Vec<u8>,
        checkpoint: Checkpoint<'_>,
        mut see: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        (0..len).step_by(PIECE_LEN).try_for_each(|at| {
            checkpoint()?;
            see(self.fetch(wanted, offset + at, (len - at).min(PIECE_LEN as u64) as usize, scratch)?)
        })
    }

    /// Checks the bytes of a stream against a checksum of the stored bytes.
    pub(super) fn check_stored(wanted: &Wanted<'_>, stored: &[u8], checkpoint: Checkpoint<'_>) -> Result<()> {
        match wanted.part.digest() {
            Some(DigestRecord { digest, decoded: false, .. }) => check_digest(digest, stored, checkpoint),
            _ => Ok(()),
        }
    }

    /// Checks decoded bytes against a checksum of the decoded bytes, if they are all there.
    pub(super) fn check_decoded(wanted: &Wanted<'_>, bytes: &[u8], checkpoint: Checkpoint<'_>) -> Result<()> {
        match wanted.decoded_digest() {
            Some(digest) => check_digest(digest, bytes, checkpoint),
            None => Ok(()),
        }
    }

    /// Checks whole files beside the one that was opened.
    pub(super) fn check_shards(&self, progress: &Progress<'_>) -> Result<()> {
        let mut scratch = Vec::new();
        for shard in &self.shards {
            let Some(digest) = shard.digest else { continue };
            let mut hasher = Hasher::like(digest);
            let len = shard.source.len();
            for at in (0..len).step_by(PIECE_LEN) {
                progress.tick()?;
                hasher.update(shard.source.fetch(
                    at,
                    (len - at).min(PIECE_LEN as u64) as usize,
                    &mut scratch,
                )?);
            }
            expect(digest, hasher).map_err(|err| err.in_file(&shard.label))?;
        }
        Ok(())
    }

    /// Checks, where the file is strict, the order of entries: that the columns of each row ascend, which only who reads
    /// both index components of a tensor at once can be told, and that no coordinates stand twice.
    pub(super) fn check_order(&self, parts: &[(&Wanted<'_>, &[u8])]) -> Result<()> {
        if !self.format.has_ordered_indices() {
            return Ok(());
        }
        let is_indices_of = |wanted: &Wanted<'_>, layout| {
            wanted.tensor.layout() == Known::Known(layout)
                && wanted.part.role() == Known::Known(Role::Indices)
                && wanted.is_whole()
        };
        for (at, (indices, bytes)) in parts.iter().enumerate() {
            let Some(dtype) = indices.part.dtype().known() else { continue };
            let checked = if is_indices_of(indices, Layout::SparseCoo) {
                check_coordinates_differ(dtype, bytes, indices.tensor.shape())
            } else if is_indices_of(indices, Layout::SparseCsr)
                && let Some((indptr, rows)) = parts.get(at + 1)
                && indptr.tensor.number() == indices.tensor.number()
                && indptr.part.role() == Known::Known(Role::Indptr)
                && indptr.is_whole()
            {
                check_rows_ascend(dtype, bytes, rows)
            } else {
                Ok(())
            };
            checked.map_err(|err| self.locate(indices, err))?;
        }
        Ok(())
    }
}

impl Wanted<'_> {
    /// The checksum that decoded bytes are always checked against: of compressed data, read as a whole.
    pub(super) fn decoded_digest(&self) -> Option<Digest> {
        if self.part.is_plain() {
            return None;
        }
        let record = self.part.digest().filter(|record| record.decoded)?;
        (self.is_whole() && matches!(self.part.encoding(), Encoding::Zstd(_))).then_some(record.digest)
    }
}
