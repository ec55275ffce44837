//! Components cut into pieces, what becomes of each piece, and how it gets into the file.

use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher;

use crate::codec::{self, CHUNK_LEN, Coding, Encoder};
use crate::container::{ALIGNMENT, align_up, blob_alignment};
use crate::digest::crc32;
use crate::dtype::DType;
use crate::error::Result;
use crate::index::{Check, ComponentRecord, Index, RAW};
use crate::layout::Role;
use crate::room;
use crate::sink::VectoredWriter;

/// A component on its way into the file.
pub(super) struct Pending<'a> {
    pub(super) tensor: &'a str,
    pub(super) role: Role,
    pub(super) dtype: DType,
    pub(super) bytes: &'a [u8],
    pub(super) coding: Option<Coding>,
    pub(super) share: u64,
    /// Where the blob begins in the file.
    pub(super) start: u64,
    /// Bytes at the front that wait to be written: compression made none of their chunks smaller, and if that
    /// goes on, the component is stored raw.
    pub(super) waiting: usize,
    /// Stored sizes of the chunks that were written.
    pub(super) stored: Vec<u32>,
    /// Of the waiting bytes, or of what was written.
    pub(super) hasher: Option<Hasher>,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    Waiting,
    /// The component of this number in the same call is the same bytes.
    SameAs(usize),
    Stored(ComponentRecord),
}

/// A run of bytes of one component that is treated at once.
pub(super) struct Piece<'a> {
    /// Place in the list of this call's components.
    pub(super) component: usize,
    bytes: &'a [u8],
    /// The piece before it of the component, if there is one.
    before: &'a [u8],
    coding: Option<Coding>,
    is_first: bool,
    is_last: bool,
}

/// What the helpers make of a piece.
pub(super) struct Made {
    form: Form,
    /// Of the bytes to be stored.
    hasher: Hasher,
}

/// How a piece is stored.
enum Form {
    /// As it is, since that was asked for or compression makes it no smaller.
    Plain,
    /// As a frame.
    Frame(Vec<u8>),
    /// Not at all: it is the same as the piece before, of a component that is compressed.
    Again,
}

/// The encoder of a thread, which a change of level replaces.
pub(super) type Encoders = Option<(i32, Encoder)>;

/// Memory of frames that were written, for those to come.
#[derive(Debug, Default)]
pub(super) struct Spares(Mutex<Vec<Vec<u8>>>);

impl Spares {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, frame: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
    }
}

impl Made {
    /// A piece that is stored as it is, whose checksum comes later: [`Pending::add_checksum`].
    pub(super) fn unsummed() -> Self {
        Self { form: Form::Plain, hasher: Hasher::new() }
    }
}

impl Piece<'_> {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The checksum of its bytes as they are.
    pub(super) fn checksum(&self) -> Hasher {
        crc32(self.bytes)
    }

    pub(super) fn make(&self, encoders: &mut Encoders, spares: &Spares) -> Result<Made> {
        let Some(coding) = self.coding else {
            return Ok(Made { hasher: self.checksum(), form: Form::Plain });
        };
        if self.bytes == self.before {
            return Ok(Made { hasher: Hasher::new(), form: Form::Again });
        }
        let (_, encoder) = match encoders {
            Some(encoder) if encoder.0 == coding.level => encoder,
            other => other.insert((coding.level, Encoder::new(coding.level)?)),
        };
        let mut frame = spares.take();
        if encoder.encode(coding, self.bytes, &mut frame)? {
            return Ok(Made { hasher: crc32(&frame), form: Form::Frame(frame) });
        }
        spares.give_back(frame);
        Ok(Made { hasher: self.checksum(), form: Form::Plain })
    }
}

/// Cuts components into pieces.
pub(super) fn cut<'a>(pending: &[Pending<'a>]) -> Result<Vec<Piece<'a>>> {
    let mut pieces = room::list(pending.len())?;
    for (component, part) in pending.iter().enumerate() {
        if !matches!(part.outcome, Outcome::Waiting) {
            continue;
        }
        let len = part.coding.map_or(CHUNK_LEN, |coding| coding.chunk_len);
        let count = part.bytes.len().div_ceil(len).max(1);
        let mut chunks = part.bytes.chunks(len);
        let mut last: &[u8] = &[];
        let all = (0..count).map(|at| {
            let bytes = chunks.next().unwrap_or_default();
            let before = std::mem::replace(&mut last, bytes);
            let (is_first, is_last) = (at == 0, at + 1 == count);
            Piece { component, bytes, before, coding: part.coding, is_first, is_last }
        });
        room::extend(&mut pieces, all)?;
    }
    Ok(pieces)
}

/// Puts neighbours into groups of at most a chunk's bytes, so that small pieces do not cost a hand-over each.
pub(super) fn group<'p, 'a>(mut pieces: &'p [Piece<'a>]) -> Result<Vec<&'p [Piece<'a>]>> {
    let mut groups = Vec::new();
    while !pieces.is_empty() {
        let mut len = 0;
        let fit = pieces.iter().take_while(|piece| {
            // An empty piece costs something too.
            len += piece.bytes.len().max(64);
            len <= CHUNK_LEN
        });
        let (group, rest) = pieces.split_at(fit.count().max(1));
        room::push(&mut groups, group)?;
        pieces = rest;
    }
    Ok(groups)
}

impl<'a> Pending<'a> {
    /// Writes a piece, and with the last one of a component makes its record.
    pub(super) fn put(
        &mut self,
        piece: &Piece<'a>,
        made: Made,
        sink: &mut VectoredWriter<'_, 'a>,
        index: &mut Index,
        spares: &Spares,
    ) -> Result<()> {
        let len = self.bytes.len() as u64;
        match (self.coding, made.form) {
            (Some(_), Form::Plain) if self.stored.is_empty() => {
                self.waiting += piece.bytes.len();
                combine(&mut self.hasher, made.hasher);
            }
            (Some(coding), form) => {
                if self.stored.is_empty() {
                    // Nobody maps it, so it needs no page of its own.
                    self.start = begin_blob(sink, len, ALIGNMENT)?;
                    self.hasher = None;
                    for chunk in self.bytes[..self.waiting].chunks(coding.chunk_len) {
                        self.put_frame(sink, &stored_frame(coding, chunk))?;
                    }
                }
                match form {
                    Form::Plain => self.put_frame(sink, &stored_frame(coding, piece.bytes))?,
                    Form::Frame(frame) => {
                        let made = (frame, made.hasher);
                        self.put_frame(sink, &made)?;
                        spares.give_back(made.0);
                    }
                    Form::Again => self.stored.push(0),
                }
            }
            (None, _) => {
                if piece.is_first {
                    self.start = begin_blob(sink, len, blob_alignment(len))?;
                }
                combine(&mut self.hasher, made.hasher);
                sink.write_borrowed(piece.bytes)?;
            }
        }
        if !piece.is_last {
            return Ok(());
        }
        let stored: u64 = self.stored.iter().map(|&stored| u64::from(stored)).sum();
        let is_compressed = self.coding.is_some() && stored > 0 && stored < len;
        if self.coding.is_some() && !is_compressed {
            // Compression made it no smaller: raw, and if some of it was written, back to where the blob began.
            if stored > 0 {
                sink.rewind(self.start)?;
                self.hasher = Some(crc32(self.bytes));
            }
            self.start = begin_blob(sink, len, blob_alignment(len))?;
            sink.write_borrowed(self.bytes)?;
        }
        let encoding = match self.coding {
            Some(coding) if is_compressed => {
                index.push_zstd(coding.filter, len, coding.chunk_len as u32, &self.stored)?
            }
            _ => RAW,
        };
        self.outcome = Outcome::Stored(ComponentRecord {
            offset: self.start,
            size: if is_compressed { stored } else { len },
            crc32: self.hasher.take().map_or(0, Hasher::finalize),
            check: Check::Crc32,
            file: 0,
            encoding,
            role: self.role as u16,
            dtype: self.dtype as u16,
        });
        Ok(())
    }

    /// Adds the checksum of the next piece of a component that is written already.
    pub(super) fn add_checksum(&mut self, next: Hasher) {
        combine(&mut self.hasher, next);
        if let (Outcome::Stored(record), Some(hasher)) = (&mut self.outcome, &self.hasher) {
            record.crc32 = hasher.clone().finalize();
        }
    }

    fn put_frame(
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
fn stored_frame(coding: Coding, chunk: &[u8]) -> (Vec<u8>, Hasher) {
    let frame = codec::store(coding.filter, coding.width, chunk);
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

/// Pads up to where a blob of `len` bytes begins: at a multiple of `alignment`.
fn begin_blob(sink: &mut VectoredWriter<'_, '_>, len: u64, alignment: u64) -> Result<u64> {
    if len == 0 {
        // It has no byte to align, only an offset to state.
        return Ok(align_up(sink.position(), ALIGNMENT));
    }
    let start = align_up(sink.position(), alignment);
    sink.pad_to(start)?;
    Ok(start)
}

/// The record of a component that was stored, or of the one that it is the same as.
pub(super) fn record_of(pending: &[Pending<'_>], at: usize) -> Option<ComponentRecord> {
    match &pending[at].outcome {
        Outcome::Stored(record) => Some(*record),
        Outcome::SameAs(first) => record_of(pending, *first)
            .map(|record| ComponentRecord { role: pending[at].role as u16, ..record }),
        Outcome::Waiting => None,
    }
}
