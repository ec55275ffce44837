//! Bringing components into memory, on several threads.

use std::sync::{Arc, OnceLock};

use crc32fast::Hasher;

use super::{PIECE_LEN, Reader, unknown_dtype};
use crate::codec::{CHUNK_LEN, Chunk, Decoder, Filter};
use crate::digest::crc32;
use crate::error::{Error, ErrorKind, Result};
use crate::index::{Encoding, Frames, Known};
use crate::parallel;
use crate::plan::{Batch, Fill, Plan, Wanted};
use crate::room;

impl Reader {
    /// Reads components into memory of their own.
    pub(super) fn load(&self, wanted: &[Wanted<'_>], verify: bool) -> Result<Batch> {
        self.check_before(wanted, verify)?;
        let mut plan = Plan::new(wanted, |wanted| self.source_of(wanted))?;
        self.fill(plan.fills(wanted)?, verify)?;
        self.check_values(wanted.iter().enumerate().map(|(at, wanted)| (wanted, plan.bytes(at))), verify)?;
        plan.finish(self.threads)
    }

    /// Reads components into memory of the caller.
    pub(super) fn load_into(&self, targets: Vec<(Wanted<'_>, &mut [u8])>, verify: bool) -> Result<()> {
        let (mut wanted, mut slices) = (room::list(targets.len())?, room::list(targets.len())?);
        for (part, out) in targets {
            wanted.push(part);
            slices.push(out);
        }
        for (wanted, out) in wanted.iter().zip(&slices) {
            if out.len() != wanted.len {
                let message = format!("the target has {} bytes, {} are to be read", out.len(), wanted.len);
                return Err(wanted.locate(Error::new(ErrorKind::Size, message)));
            }
        }
        self.check_before(&wanted, verify)?;
        let fills = wanted.iter().zip(&mut slices).map(|(wanted, out)| Fill::new(*wanted, out));
        self.fill(room::collect(fills)?, verify)?;
        self.check_values(wanted.iter().zip(slices.iter().map(|out| &**out)), verify)
    }

    /// Reads and decodes, on several threads. If `verify`, the checksum of compressed components that are read whole
    /// is checked too: that of a frame alone says that it is undamaged, not that it is the one that was written.
    fn fill(&self, fills: Vec<Fill<'_, '_>>, verify: bool) -> Result<()> {
        struct Job<'a, 'm> {
            wanted: Wanted<'a>,
            /// Where raw bytes stand in the file.
            at: u64,
            /// The chunk to decode, and how many bytes of it to pass over.
            chunk: Option<(Chunk, usize)>,
            out: &'m mut [u8],
            /// Where the checksum of the chunk's frame goes, if it is asked for.
            sum: Option<Arc<OnceLock<Hasher>>>,
        }
        let mut jobs = Vec::new();
        let mut summed = Vec::new();
        for Fill { wanted, at, out } in fills {
            match wanted.part.encoding() {
                Encoding::Zstd(zstd) => {
                    let is_summed = verify && wanted.is_whole() && wanted.part.crc32().is_some();
                    let mut sums = Vec::new();
                    let mut rest = out;
                    for (chunk, from, to) in wanted.chunks(&zstd) {
                        let (out, after) = rest.split_at_mut(to - from);
                        rest = after;
                        let sum: Option<Arc<OnceLock<Hasher>>> = is_summed.then(Arc::default);
                        room::extend(&mut sums, sum.clone().map(|sum| (chunk.is_again, sum)))?;
                        room::push(&mut jobs, Job { wanted, at: 0, chunk: Some((chunk, from)), out, sum })?;
                    }
                    room::push(&mut summed, (wanted, sums))?;
                }
                _ => {
                    let pieces = out.chunks_mut(PIECE_LEN).enumerate().map(|(number, out)| Job {
                        wanted,
                        at: at + (number * PIECE_LEN) as u64,
                        chunk: None,
                        out,
                        sum: None,
                    });
                    room::extend(&mut jobs, pieces)?;
                }
            }
        }
        // A thread costs more than what a few small tensors take.
        let threads =
            if jobs.iter().map(|job| job.out.len()).sum::<usize>() < CHUNK_LEN { 1 } else { self.threads };
        parallel::for_each(
            threads,
            jobs,
            || Ok((None, Vec::new())),
            |(decoder, scratch), job| {
                let part = job.wanted.part;
                let (Some((chunk, skip)), Encoding::Zstd(zstd)) = (job.chunk, part.encoding()) else {
                    let read = self.read_raw(&job.wanted, job.at, job.out);
                    return read.map_err(|err| self.locate(&job.wanted, err));
                };
                let decode = || {
                    let width = match part.dtype() {
                        Known::Known(dtype) => dtype.filter_width(),
                        // Without a filter there is no element to know.
                        Known::Unknown(_) if zstd.filter == Filter::None => 1,
                        unknown => return Err(unknown_dtype(unknown)),
                    };
                    let decoder = match decoder {
                        Some(decoder) => decoder,
                        none => none.insert(Decoder::new()?),
                    };
                    let frame =
                        self.fetch(&job.wanted, part.offset() + chunk.at, chunk.stored_len, scratch)?;
                    if let Some(sum) = &job.sum {
                        sum.get_or_init(|| crc32(frame));
                    }
                    if matches!(zstd.frames, Frames::Stream { .. }) {
                        Self::check_stored(&job.wanted, frame)?;
                    }
                    decoder.decode_part(&zstd, width, frame, &chunk, skip, job.out)
                };
                decode().map_err(|err| self.explain(&job.wanted, err))
            },
        )?;
        summed.iter().try_for_each(|(wanted, sums)| {
            let (mut all, mut frame) = (Hasher::new(), 0);
            for (is_again, sum) in sums {
                let Some(sum) = sum.get() else { continue };
                let found = sum.clone().finalize();
                if !is_again {
                    all.combine(sum);
                    frame = found;
                } else if found != frame {
                    let message = format!(
                        "a frame gave crc32:{frame:08x} when it was read for one chunk and crc32:{found:08x} when it was \
                         read for the next: the file was changed between the two"
                    );
                    return Err(self.locate(wanted, Error::new(ErrorKind::Checksum, message)));
                }
            }
            if sums.is_empty() { Ok(()) } else { self.expect_crc32(wanted, all) }
        })
    }
}
