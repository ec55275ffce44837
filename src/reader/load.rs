//! Bringing components into memory, on several threads.

use std::sync::{Arc, OnceLock};

use crc32fast::Hasher;

use super::{PIECE_LEN, Reader, unknown_dtype};
use crate::codec::{self, CHUNK_LEN, Chunk, Decoder, Filter};
use crate::digest::crc32;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::index::{Encoding, Frames, Known, Zstd};
use crate::parallel;
use crate::plan::{Batch, Plan, ReadOp, Wanted};
use crate::progress::{Checkpoint, Progress};
use crate::room;

/// Scratch memory that all threads of a call allocate together, about, unless one thread alone needs more.
const MAX_SCRATCH: usize = 40 * 1024 * 1024;
/// Tasks that need more are done after the others, on as many threads as [`MAX_SCRATCH`] has room for.
const SMALL_SCRATCH: usize = 4 * CHUNK_LEN;

/// A piece of raw data to read, or a chunk to decode.
struct DecodeTask<'a, 'm> {
    wanted: Wanted<'a>,
    /// Where raw bytes begin in the file.
    at: u64,
    /// The chunk to decode, and how many bytes of it to skip.
    chunk: Option<(Chunk, usize)>,
    out: &'m mut [u8],
    /// Where the checksum of the chunk's frame goes, if it is asked for.
    sum: Option<Arc<OnceLock<Hasher>>>,
    /// Scratch memory that it needs, at the most.
    scratch_len: usize,
}

/// The checksums of the frames of a component, each with whether it is the frame of the chunk before.
struct FrameSums<'a> {
    wanted: Wanted<'a>,
    sums: Vec<(bool, Arc<OnceLock<Hasher>>)>,
}

#[derive(Default)]
struct Tasks<'a, 'm> {
    small: Vec<DecodeTask<'a, 'm>>,
    large: Vec<DecodeTask<'a, 'm>>,
    sums: Vec<FrameSums<'a>>,
}

/// What a thread needs to read and decode.
#[derive(Default)]
struct TaskState {
    decoder: Option<Decoder>,
    scratch: Vec<u8>,
}

impl Reader {
    /// Reads components into memory of their own.
    pub(super) fn load(&self, wanted: &[Wanted<'_>], verify: bool, progress: &Progress<'_>) -> Result<Batch> {
        let total: u64 = wanted.iter().map(|wanted| wanted.len as u64).sum();
        progress.expect(total);
        self.check_before(wanted, verify, progress)?;
        let mut plan = Plan::new(wanted, |wanted| self.source_of(wanted))?;
        let ops = plan.read_ops(wanted)?;
        // What is mapped is there at once; what was verified has been counted.
        let filled: u64 = ops.iter().map(|op| op.out.len() as u64).sum();
        if !verify {
            progress.tally().add(total.saturating_sub(filled));
        }
        self.fill(ops, verify, progress)?;
        let loaded = wanted.iter().enumerate().map(|(at, wanted)| (wanted, plan.bytes(at)));
        self.check_values(loaded, verify, progress)?;
        progress.finish()?;
        plan.finish(self.threads)
    }

    /// Reads components into memory of the caller.
    pub(super) fn load_into(
        &self,
        targets: Vec<(Wanted<'_>, &mut [u8])>,
        verify: bool,
        progress: &Progress<'_>,
    ) -> Result<()> {
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
        progress.expect(wanted.iter().map(|wanted| wanted.len as u64).sum());
        self.check_before(&wanted, verify, progress)?;
        let ops = wanted.iter().zip(&mut slices).map(|(wanted, out)| ReadOp::new(*wanted, out));
        self.fill(room::collect(ops)?, verify, progress)?;
        self.check_values(wanted.iter().zip(slices.iter().map(|out| &**out)), verify, progress)?;
        progress.finish()
    }

    /// Reads and decodes, on several threads. If `verify`, the checksum of compressed components that are read whole
    /// is checked too: the checksum of a frame alone says that it is intact, not that it is the one that was written.
    fn fill(&self, ops: Vec<ReadOp<'_, '_>>, verify: bool, progress: &Progress<'_>) -> Result<()> {
        let mut tasks = Tasks::default();
        for op in ops {
            self.add_tasks(op, verify, &mut tasks)?;
        }
        self.run(tasks.small, verify, progress)?;
        // Their scratch memory is allocated once that of the others is free.
        self.run(tasks.large, verify, progress)?;
        tasks.sums.iter().try_for_each(|sums| self.check_frames(sums))
    }

    /// Cuts what is to be read into tasks.
    fn add_tasks<'a, 'm>(&self, op: ReadOp<'a, 'm>, verify: bool, tasks: &mut Tasks<'a, 'm>) -> Result<()> {
        let ReadOp { wanted, at, out } = op;
        let Encoding::Zstd(zstd) = wanted.part.encoding() else {
            let pieces = out.chunks_mut(PIECE_LEN).enumerate().map(|(number, out)| DecodeTask {
                wanted,
                at: at + (number * PIECE_LEN) as u64,
                chunk: None,
                out,
                sum: None,
                scratch_len: 0,
            });
            return room::extend(&mut tasks.small, pieces);
        };
        let is_summed = verify && wanted.is_whole() && wanted.part.crc32().is_some();
        let is_read = self.source_of(&wanted).is_positioned();
        let width = wanted.part.dtype().known().map_or(1, DType::filter_width);
        let mut sums = Vec::new();
        let mut rest = out;
        for (chunk, from, to) in wanted.chunks(&zstd) {
            let (out, after) = rest.split_at_mut(to - from);
            rest = after;
            let sum: Option<Arc<OnceLock<Hasher>>> = is_summed.then(Arc::default);
            room::extend(&mut sums, sum.clone().map(|sum| (chunk.is_again, sum)))?;
            let scratch_len = codec::scratch_len(&zstd, width, &chunk, out.len())
                + if is_read { chunk.stored_len } else { 0 };
            let kind = if scratch_len > SMALL_SCRATCH { &mut tasks.large } else { &mut tasks.small };
            let chunk = Some((chunk, from));
            room::push(kind, DecodeTask { wanted, at: 0, chunk, out, sum, scratch_len })?;
        }
        if is_summed {
            room::push(&mut tasks.sums, FrameSums { wanted, sums })?;
        }
        Ok(())
    }

    fn run(&self, tasks: Vec<DecodeTask<'_, '_>>, verify: bool, progress: &Progress<'_>) -> Result<()> {
        // A thread costs more than what a few small tensors take.
        let is_little = tasks.iter().map(|task| task.out.len()).sum::<usize>() < CHUNK_LEN;
        let scratch_len = tasks.iter().map(|task| task.scratch_len).max().unwrap_or(0);
        let threads = self.threads.min(MAX_SCRATCH.checked_div(scratch_len).unwrap_or(usize::MAX)).max(1);
        let tally = progress.tally();
        parallel::for_each(
            if is_little { 1 } else { threads },
            tasks,
            progress,
            || Ok(TaskState::default()),
            |state, task, checkpoint| {
                // Raw data that was verified before has been counted.
                let counts = task.chunk.is_some() || !verify || self.is_judged_after(&task.wanted);
                let len = if counts { task.out.len() as u64 } else { 0 };
                let wanted = task.wanted;
                match (task.chunk, wanted.part.encoding()) {
                    (Some((chunk, skip)), Encoding::Zstd(zstd)) => self
                        .decode(task, &zstd, (chunk, skip), state, checkpoint)
                        .map_err(|err| self.explain(&wanted, err, checkpoint))?,
                    _ => {
                        self.read_raw(&wanted, task.at, task.out).map_err(|err| self.locate(&wanted, err))?
                    }
                }
                tally.add(len);
                Ok(())
            },
        )
    }

    fn decode(
        &self,
        task: DecodeTask<'_, '_>,
        zstd: &Zstd<'_>,
        (chunk, skip): (Chunk, usize),
        state: &mut TaskState,
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        let TaskState { decoder, scratch } = state;
        let part = task.wanted.part;
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
        let frame = self.fetch(&task.wanted, part.offset() + chunk.at, chunk.stored_len, scratch)?;
        if let Some(sum) = &task.sum {
            sum.get_or_init(|| crc32(frame));
        }
        if matches!(zstd.frames, Frames::Stream { .. }) {
            Self::check_stored(&task.wanted, frame, checkpoint)?;
        }
        decoder.decode_part(zstd, width, frame, &chunk, (skip, task.out), checkpoint)
    }

    /// Compares the frames of a component with its checksum.
    fn check_frames(&self, FrameSums { wanted, sums }: &FrameSums<'_>) -> Result<()> {
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
    }
}
