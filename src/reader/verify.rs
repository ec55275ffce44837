//! Checking: what can be judged before memory is taken, what is judged when it is there, and whole files.

use crc32fast::Hasher;

use super::{PIECE_LEN, Reader};
use crate::codec::{self, CHUNK_LEN, Chunk, Decoder};
use crate::digest::crc32;
use crate::error::{Cause, Error, ErrorKind, Result};
use crate::index::{Encoding, Frames, Known};
use crate::layout::Layout;
use crate::parallel;
use crate::plan::Wanted;
use crate::progress::{Checkpoint, Progress};
use crate::room;

/// Stored bytes of a component that are checked at once.
struct Piece<'a> {
    wanted: Wanted<'a>,
    at: u64,
    len: usize,
    /// A chunk to be decoded, where the blob has no checksum.
    chunk: Option<Chunk>,
    /// Whether the component is checked in one go, which some foreign ones have to be.
    is_whole: bool,
}

/// What a thread needs to check pieces.
struct PieceChecker {
    decoder: Decoder,
    scratch: Vec<u8>,
    decoded: Vec<u8>,
}

impl PieceChecker {
    fn new() -> Result<Self> {
        Ok(Self { decoder: Decoder::new()?, scratch: Vec::new(), decoded: Vec::new() })
    }
}

impl Reader {
    /// Checks every blob of the file, each once, against its checksum, or where it has none by decoding it.
    ///
    /// `progress` receives the bytes done and the bytes to do, on the calling thread: every 50 ms, and at the end of a file
    /// that is found good with two equal numbers. If it returns false, the work stops.
    ///
    /// # Errors
    ///
    /// `Checksum` or `Frame` for the first damaged blob; `Layout` in a `zt/2` file for a bool that is neither 0 nor 1;
    /// `Cancelled`; `Memory`, `Io`, `Truncated`.
    pub fn verify(&self, mut progress: impl FnMut(u64, u64) -> bool) -> Result<()> {
        let progress = Progress::to_the_end(&mut progress);
        self.verify_all(&progress).map_err(|err| err.in_file(&self.label))
    }

    /// As [`Reader::verify`], with the progress of the call.
    pub(crate) fn verify_all(&self, progress: &Progress<'_>) -> Result<()> {
        let parts = self
            .index
            .iter()
            .flat_map(|tensor| tensor.components().map(move |part| Wanted::stored(tensor, part)))
            .filter(|wanted| wanted.part.stored_len() > 0 || wanted.part.len_bytes() > Some(0));
        let mut wanted = room::collect(parts)?;
        // Sorting takes as much again, and gives no error.
        room::ask_for(size_of_val(&*wanted))?;
        wanted.sort_by_key(|wanted| (wanted.part.file(), wanted.part.offset(), wanted.tensor.number()));
        wanted.dedup_by(|later, first| later.part.is_same_blob(&first.part));
        self.check_shards(progress)?;
        let pieces = self.pieces(&wanted)?;
        progress.expect(pieces.iter().map(|piece| piece.len as u64).sum());
        self.check_pieces(&pieces, progress, true)?;
        progress.finish()
    }

    /// Checks the stored bytes of components. If `counts`, they count as progress.
    pub(super) fn check_blobs(
        &self,
        wanted: &[Wanted<'_>],
        progress: &Progress<'_>,
        counts: bool,
    ) -> Result<()> {
        self.check_pieces(&self.pieces(wanted)?, progress, counts)
    }

    /// The stored bytes of components in the pieces that are checked at once.
    fn pieces<'w>(&self, wanted: &[Wanted<'w>]) -> Result<Vec<Piece<'w>>> {
        let mut pieces = Vec::new();
        for &wanted in wanted {
            let size = wanted.part.stored_len();
            if self.requires_full_scan(&wanted) {
                let piece = Piece { wanted, at: 0, len: size as usize, chunk: None, is_whole: true };
                room::push(&mut pieces, piece)?;
                continue;
            }
            match wanted.part.encoding() {
                Encoding::Zstd(zstd) if wanted.part.crc32().is_none() || size == 0 => {
                    let chunks = codec::chunks(&zstd).filter(|chunk| !chunk.is_again).map(|chunk| Piece {
                        wanted,
                        at: chunk.at,
                        len: chunk.stored_len,
                        chunk: Some(chunk),
                        is_whole: false,
                    });
                    room::extend(&mut pieces, chunks)?;
                }
                _ => {
                    let parts = (0..size.div_ceil(PIECE_LEN as u64)).map(|number| {
                        let at = number * PIECE_LEN as u64;
                        let len = (size - at).min(PIECE_LEN as u64) as usize;
                        Piece { wanted, at, len, chunk: None, is_whole: false }
                    });
                    room::extend(&mut pieces, parts)?;
                }
            }
        }
        Ok(pieces)
    }

    fn check_pieces(&self, pieces: &[Piece<'_>], progress: &Progress<'_>, counts: bool) -> Result<()> {
        let mut so_far = Hasher::new();
        parallel::map_ordered(
            parallel::helper_count(self.threads),
            pieces,
            progress,
            PieceChecker::new,
            |checker, piece, checkpoint| {
                self.check_piece(checker, piece, checkpoint).map_err(|err| self.locate(&piece.wanted, err))
            },
            |piece, hasher| {
                if piece.at == 0 {
                    so_far = hasher;
                } else {
                    so_far.combine(&hasher);
                }
                let part = piece.wanted.part;
                if piece.at + piece.len as u64 == part.stored_len() {
                    self.expect_crc32(&piece.wanted, so_far.clone())?;
                }
                if counts {
                    progress.tally().add(piece.len as u64);
                }
                Ok(())
            },
        )
    }

    /// Checks one piece, and returns the checksum of its bytes where the component has one.
    fn check_piece(
        &self,
        checker: &mut PieceChecker,
        piece: &Piece<'_>,
        checkpoint: Checkpoint<'_>,
    ) -> Result<Hasher> {
        let PieceChecker { decoder, scratch, decoded } = checker;
        let part = piece.wanted.part;
        if piece.is_whole {
            self.check_whole(&piece.wanted, decoder, scratch, checkpoint)?;
            return Ok(Hasher::new());
        }
        let bytes = self.fetch(&piece.wanted, part.offset() + piece.at, piece.len, scratch)?;
        match (piece.chunk, part.encoding(), part.dtype().known()) {
            (Some(chunk), Encoding::Zstd(zstd), Some(dtype)) => {
                codec::check_header(zstd.frames, bytes, &chunk)?;
                room::resize(decoded, chunk.len, 0)?;
                decoder.decode(&zstd, dtype.filter_width(), bytes, &chunk, decoded, checkpoint)?;
                Ok(Hasher::new())
            }
            _ => Ok(crc32(bytes)),
        }
    }

    /// Checks all that can be checked before memory is taken.
    pub(super) fn check_before(
        &self,
        wanted: &[Wanted<'_>],
        verify: bool,
        progress: &Progress<'_>,
    ) -> Result<()> {
        let mut head = Vec::new();
        let checkpoint = || progress.tick();
        for wanted in wanted {
            if wanted.part.is_plain() {
                continue;
            }
            self.prepare(wanted)?;
            let Encoding::Zstd(zstd) = wanted.part.encoding() else { continue };
            if matches!(zstd.frames, Frames::Stream { .. }) {
                self.check_stream(wanted, zstd.raw_size, &checkpoint)
                    .map_err(|err| self.explain(wanted, err, &checkpoint))?;
                continue;
            }
            for (number, (chunk, ..)) in wanted.chunks(&zstd).enumerate() {
                if chunk.is_again && number > 0 {
                    continue;
                }
                checkpoint()?;
                let len = chunk.stored_len.min(codec::MAX_HEADER_LEN);
                self.fetch(wanted, wanted.part.offset() + chunk.at, len, &mut head)
                    .and_then(|head| codec::check_header(zstd.frames, head, &chunk))
                    .map_err(|err| self.explain(wanted, err, &checkpoint))?;
            }
        }
        if verify {
            let raw = wanted
                .iter()
                .copied()
                .filter(|wanted| wanted.part.encoding() == Encoding::Raw && !self.is_judged_after(wanted));
            self.check_blobs(&room::collect(raw)?, progress, true)?;
        }
        Ok(())
    }

    /// Whether raw data is read first and checked then: what is read from a file a second time may be something
    /// else. What lies in a mapping or in memory is there before.
    pub(super) fn is_judged_after(&self, wanted: &Wanted<'_>) -> bool {
        wanted.part.is_plain() && self.source_of(wanted).is_positioned()
    }

    /// Checks raw data that was read against its checksum.
    fn check_after(&self, parts: &[(&Wanted<'_>, &[u8])], progress: &Progress<'_>) -> Result<()> {
        let held = parts
            .iter()
            .filter(|(wanted, _)| self.is_judged_after(wanted))
            .map(|&(wanted, bytes)| Wanted { held: Some(bytes), ..*wanted });
        self.check_blobs(&room::collect(held)?, progress, false)
    }

    /// Replaces the error of a damaged chunk by that of the blob's checksum, which says it more exactly.
    pub(super) fn explain(&self, wanted: &Wanted<'_>, err: Error, checkpoint: Checkpoint<'_>) -> Error {
        let mut goes_on = |_, _| checkpoint().is_ok();
        let blob = if err.kind() == ErrorKind::Frame {
            self.check_blobs(&[*wanted], &Progress::new(Some(&mut goes_on)), false).err()
        } else {
            None
        };
        self.locate(wanted, blob.filter(|blob| blob.kind() == ErrorKind::Checksum).unwrap_or(err))
    }

    /// Compares the checksum of a component's stored bytes with the one in the index, if there is one.
    pub(super) fn expect_crc32(&self, wanted: &Wanted<'_>, hasher: Hasher) -> Result<()> {
        let Some(expected) = wanted.part.crc32() else { return Ok(()) };
        let found = hasher.finalize();
        if found == expected {
            return Ok(());
        }
        Err(self.locate(wanted, Cause::Checksum { expected, found }.into()))
    }

    /// Checks what can be judged only when it is there: checksums of what was read and of decoded bytes, and the
    /// index values of sparse tensors.
    pub(super) fn check_values<'w, 'a: 'w>(
        &self,
        parts: impl Iterator<Item = (&'w Wanted<'a>, &'w [u8])> + Clone,
        verify: bool,
        progress: &Progress<'_>,
    ) -> Result<()> {
        if verify {
            self.check_after(&room::collect(parts.clone())?, progress)?;
        }
        let judged = room::collect(parts.filter(|(wanted, _)| {
            wanted.tensor.layout() != Known::Known(Layout::Dense) || wanted.decoded_digest().is_some()
        }))?;
        let threads = if judged.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < CHUNK_LEN {
            1
        } else {
            self.threads
        };
        parallel::for_each(
            threads,
            room::collect(judged.iter().copied())?,
            progress,
            || Ok(()),
            |(), (wanted, bytes), checkpoint| {
                Self::check_decoded(wanted, bytes, checkpoint)
                    .and_then(|()| wanted.check_values(bytes, checkpoint))
                    .map_err(|err| self.locate(wanted, err))
            },
        )?;
        self.check_order(&judged)
    }
}
