//! Components cut into chunks, what becomes of each chunk, and how it gets into the file.
//!
//! The caller's bytes may change while they are written, though they should not. A compressed chunk is encoded from a copy, so
//! it is whole whatever happens. Raw bytes are read once for the checksum and once to be written: if they changed between the
//! two, verifying the file tells.

use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher;

use crate::codec::{self, CHUNK_LEN, EncodeParams, Encoder};
use crate::container::{ALIGNMENT, align_up, blob_alignment};
use crate::digest::crc32;
use crate::dtype::DType;
use crate::error::Result;
use crate::index::{Check, ComponentRecord, Index, RAW};
use crate::layout::Role;
use crate::progress::{Checkpoint, Progress};
use crate::room;
use crate::sink::VectoredWriter;

/// Writes the blob of a component.
pub(super) struct BlobWriter<'a> {
    pub(super) tensor: &'a str,
    pub(super) role: Role,
    pub(super) dtype: DType,
    pub(super) bytes: &'a [u8],
    /// How it is compressed, if it is.
    pub(super) params: Option<EncodeParams>,
    pub(super) share: u64,
    /// Where the blob begins in the file.
    start: u64,
    /// Bytes at the front that wait to be written: compression made none of their chunks smaller, and if that
    /// goes on, the component is stored raw.
    waiting: usize,
    /// Stored sizes of the chunks that were written.
    stored: Vec<u32>,
    /// Of the waiting bytes, or of what was written.
    hasher: Option<Hasher>,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    Waiting,
    /// The component of this number in the same call is the same bytes.
    SameAs(usize),
    Stored(ComponentRecord),
}

/// A run of bytes of one component that is treated at once.
pub(super) struct Chunk<'a> {
    /// Place in the list of this call's components.
    pub(super) component: usize,
    bytes: &'a [u8],
    /// The chunk before it of the component, if there is one.
    previous: &'a [u8],
    params: Option<EncodeParams>,
    is_first: bool,
    is_last: bool,
}

/// What the helpers make of a chunk.
pub(super) struct EncodedChunk {
    payload: Payload,
    /// Of the bytes to be stored.
    hasher: Hasher,
}

/// How a chunk is stored.
enum Payload {
    /// As it is, since that was asked for or compression makes it no smaller.
    Raw,
    /// As a frame.
    Frame(Vec<u8>),
    /// Not at all: it repeats the previous chunk, of a component that is compressed.
    Repeat,
}

/// The encoder of a thread, which a change of level replaces.
pub(super) type CachedEncoder = Option<(i32, Encoder)>;

/// Memory of frames that were written, for those to come.
#[derive(Debug, Default)]
pub(super) struct BufferPool(Mutex<Vec<Vec<u8>>>);

impl BufferPool {
    fn acquire(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn release(&self, frame: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
    }
}

impl EncodedChunk {
    /// A chunk that is stored as it is, whose checksum comes later: [`BlobWriter::add_checksum`].
    pub(super) fn without_checksum() -> Self {
        Self { payload: Payload::Raw, hasher: Hasher::new() }
    }
}

impl Chunk<'_> {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The checksum of its bytes as they are.
    pub(super) fn checksum(&self) -> Hasher {
        crc32(self.bytes)
    }

    pub(super) fn encode(
        &self,
        cached: &mut CachedEncoder,
        pool: &BufferPool,
        checkpoint: Checkpoint<'_>,
    ) -> Result<EncodedChunk> {
        let Some(params) = self.params else {
            return Ok(EncodedChunk { hasher: self.checksum(), payload: Payload::Raw });
        };
        if self.bytes == self.previous {
            return Ok(EncodedChunk { hasher: Hasher::new(), payload: Payload::Repeat });
        }
        let (_, encoder) = match cached {
            Some(encoder) if encoder.0 == params.level => encoder,
            other => other.insert((params.level, Encoder::new(params.level)?)),
        };
        let mut frame = pool.acquire();
        if encoder.encode(params, self.bytes, &mut frame, checkpoint)? {
            return Ok(EncodedChunk { hasher: crc32(&frame), payload: Payload::Frame(frame) });
        }
        pool.release(frame);
        Ok(EncodedChunk { hasher: self.checksum(), payload: Payload::Raw })
    }
}

/// Splits components into chunks.
pub(super) fn split_chunks<'a>(blobs: &[BlobWriter<'a>]) -> Result<Vec<Chunk<'a>>> {
    let mut chunks = room::list(blobs.len())?;
    for (component, blob) in blobs.iter().enumerate() {
        if !matches!(blob.outcome, Outcome::Waiting) {
            continue;
        }
        let len = blob.params.map_or(CHUNK_LEN, |params| params.chunk_len);
        let count = blob.bytes.len().div_ceil(len).max(1);
        let mut parts = blob.bytes.chunks(len);
        let mut last: &[u8] = &[];
        let all = (0..count).map(|at| {
            let bytes = parts.next().unwrap_or_default();
            let previous = std::mem::replace(&mut last, bytes);
            let (is_first, is_last) = (at == 0, at + 1 == count);
            Chunk { component, bytes, previous, params: blob.params, is_first, is_last }
        });
        room::extend(&mut chunks, all)?;
    }
    Ok(chunks)
}

/// Puts neighbours into batches of at most a chunk's bytes, so that small chunks do not cost a hand-over each.
pub(super) fn batch_chunks<'c, 'a>(mut chunks: &'c [Chunk<'a>]) -> Result<Vec<&'c [Chunk<'a>]>> {
    let mut batches = Vec::new();
    while !chunks.is_empty() {
        let mut len = 0;
        let fit = chunks.iter().take_while(|chunk| {
            // An empty chunk costs something too.
            len += chunk.bytes.len().max(64);
            len <= CHUNK_LEN
        });
        let (batch, rest) = chunks.split_at(fit.count().max(1));
        room::push(&mut batches, batch)?;
        chunks = rest;
    }
    Ok(batches)
}

/// What [`BlobWriter::write_chunk`] writes to.
pub(super) struct Output<'s, 'p, 'c, 'a> {
    pub(super) sink: VectoredWriter<'s, 'a>,
    pub(super) index: &'s mut Index,
    pub(super) pool: &'p BufferPool,
    pub(super) progress: &'p Progress<'c>,
}

impl<'a> BlobWriter<'a> {
    pub(super) fn new(
        (tensor, role, dtype): (&'a str, Role, DType),
        (bytes, share): (&'a [u8], u64),
        params: Option<EncodeParams>,
        outcome: Outcome,
    ) -> Self {
        Self {
            tensor,
            role,
            dtype,
            bytes,
            params,
            share,
            start: 0,
            waiting: 0,
            stored: Vec::new(),
            hasher: None,
            outcome,
        }
    }

    /// Writes a chunk, and with the last one of a component makes its record.
    pub(super) fn write_chunk(
        &mut self,
        chunk: &Chunk<'a>,
        encoded: EncodedChunk,
        out: &mut Output<'_, '_, '_, 'a>,
    ) -> Result<()> {
        match self.params {
            Some(params) => self.write_encoded(params, chunk, encoded, out)?,
            None => {
                if chunk.is_first {
                    self.begin(&mut out.sink, blob_alignment(self.bytes.len() as u64))?;
                }
                combine(&mut self.hasher, encoded.hasher);
                out.sink.write_borrowed(chunk.bytes)?;
            }
        }
        out.progress.tally().add(chunk.bytes.len() as u64);
        if chunk.is_last { self.finish(out) } else { Ok(()) }
    }

    fn write_encoded(
        &mut self,
        params: EncodeParams,
        chunk: &Chunk<'a>,
        encoded: EncodedChunk,
        out: &mut Output<'_, '_, '_, 'a>,
    ) -> Result<()> {
        if self.stored.is_empty() {
            if matches!(encoded.payload, Payload::Raw) {
                self.waiting += chunk.bytes.len();
                combine(&mut self.hasher, encoded.hasher);
                return Ok(());
            }
            // Nobody maps it, so it needs no page of its own.
            self.begin(&mut out.sink, ALIGNMENT)?;
            self.hasher = None;
            for waiting in self.bytes[..self.waiting].chunks(params.chunk_len) {
                self.write_frame(&mut out.sink, &stored_frame(params, waiting))?;
                out.progress.tick()?;
            }
        }
        match encoded.payload {
            Payload::Raw => self.write_frame(&mut out.sink, &stored_frame(params, chunk.bytes))?,
            Payload::Frame(frame) => {
                let frame = (frame, encoded.hasher);
                self.write_frame(&mut out.sink, &frame)?;
                out.pool.release(frame.0);
            }
            Payload::Repeat => self.stored.push(0),
        }
        Ok(())
    }

    /// Makes the record of a component whose chunks are all there.
    fn finish(&mut self, out: &mut Output<'_, '_, '_, 'a>) -> Result<()> {
        let len = self.bytes.len() as u64;
        let stored: u64 = self.stored.iter().map(|&stored| u64::from(stored)).sum();
        let params = self.params.filter(|_| stored > 0 && stored < len);
        if self.params.is_some() && params.is_none() {
            // Compression made it no smaller: raw, and if some of it was written, back to where the blob began.
            if stored > 0 {
                out.sink.rewind(self.start)?;
                self.hasher = None;
            }
            self.begin(&mut out.sink, blob_alignment(len))?;
            for part in self.bytes.chunks(CHUNK_LEN) {
                if stored > 0 {
                    combine(&mut self.hasher, crc32(part));
                }
                out.sink.write_borrowed(part)?;
                out.progress.tick()?;
            }
        }
        let encoding = match params {
            Some(params) => out.index.push_zstd(params.filter, len, params.chunk_len as u32, &self.stored)?,
            None => RAW,
        };
        self.outcome = Outcome::Stored(ComponentRecord {
            offset: self.start,
            size: if params.is_some() { stored } else { len },
            crc32: self.hasher.take().map_or(0, Hasher::finalize),
            check: Check::Crc32,
            file: 0,
            encoding,
            role: self.role as u16,
            dtype: self.dtype as u16,
        });
        Ok(())
    }

    /// Adds the checksum of the next chunk of a component that is written already.
    pub(super) fn add_checksum(&mut self, next: Hasher) {
        combine(&mut self.hasher, next);
        if let (Outcome::Stored(record), Some(hasher)) = (&mut self.outcome, &self.hasher) {
            record.crc32 = hasher.clone().finalize();
        }
    }

    /// Pads up to where the blob begins: at a multiple of `alignment`.
    fn begin(&mut self, sink: &mut VectoredWriter<'_, '_>, alignment: u64) -> Result<()> {
        if self.bytes.is_empty() {
            // It has no byte to align, only an offset to state.
            self.start = align_up(sink.position(), ALIGNMENT);
            return Ok(());
        }
        self.start = align_up(sink.position(), alignment);
        sink.pad_to(self.start)
    }

    fn write_frame(
        &mut self,
        sink: &mut VectoredWriter<'_, '_>,
        (frame, hasher): &(Vec<u8>, Hasher),
    ) -> Result<()> {
        combine(&mut self.hasher, hasher.clone());
        self.stored.push(frame.len() as u32);
        sink.write(frame)
    }
}

/// A frame of a chunk that compression makes no smaller, and its checksum.
fn stored_frame(params: EncodeParams, chunk: &[u8]) -> (Vec<u8>, Hasher) {
    let frame = codec::store(params.filter, params.width, chunk);
    let hasher = crc32(&frame);
    (frame, hasher)
}

/// Adds a checksum of what follows.
fn combine(so_far: &mut Option<Hasher>, next: Hasher) {
    match so_far {
        Some(hasher) => hasher.combine(&next),
        None => *so_far = Some(next),
    }
}

/// The record of a component that was stored, or of the one that it is the same as.
pub(super) fn component_record(blobs: &[BlobWriter<'_>], at: usize) -> Option<ComponentRecord> {
    match &blobs[at].outcome {
        Outcome::Stored(record) => Some(*record),
        Outcome::SameAs(first) => component_record(blobs, *first)
            .map(|record| ComponentRecord { role: blobs[at].role as u16, ..record }),
        Outcome::Waiting => None,
    }
}
