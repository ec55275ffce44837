//! Compressing a chunk: each plane of the filtered bytes in the way that suits it.
//!
//! The noisy planes of weights' mantissas are stored; the exponents' plane is Huffman-coded without a search
//! for matches, since the matches found there are accidents that cost more than the literals they replace;
//! whatever has real repetitions is left to zstd at the level that the caller chose. A sample tells which.

use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, ParamSwitch, compress_bound};

use super::{CHUNK_LEN, Filter, frame};
use crate::error::{Error, ErrorKind, Result};

/// The lowest level of zstd: literals only, but for the odd match.
const LITERALS_LEVEL: i32 = -131_072;
/// From this level on, what to do with a plane is tried out rather than sampled.
const EXHAUSTIVE_LEVEL: i32 = 10;
/// A plane of fewer bytes is tried out rather than sampled.
const MIN_SAMPLED: usize = 32 * 1024;

/// What is done to a plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// One byte throughout.
    Repeat,
    /// Stored as it is.
    Store,
    /// Huffman-coded literals.
    Literals,
    /// A search for matches, then entropy coding.
    Match,
}

/// Encodes chunks. One for each thread.
pub(crate) struct Encoder {
    level: i32,
    search: Compressor<'static>,
    probe: Compressor<'static>,
    literals: Compressor<'static>,
    filtered: Vec<u8>,
    parts: [Vec<u8>; 2],
}

fn compressor(level: i32) -> Result<Compressor<'static>> {
    let set_up = |err| Error::io("set up the encoder", err);
    let mut compressor = Compressor::new(level).map_err(set_up)?;
    compressor.include_checksum(false).map_err(set_up)?;
    if level == LITERALS_LEVEL {
        compressor.set_parameter(CParameter::LiteralCompressionMode(ParamSwitch::Enable)).map_err(set_up)?;
    }
    Ok(compressor)
}

fn compress(compressor: &mut Compressor<'static>, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize> {
    out.clear();
    out.reserve(compress_bound(bytes.len()));
    compressor
        .compress_to_buffer(bytes, out)
        .map_err(|err| Error::new(ErrorKind::Memory, format!("zstd could not compress: {err}")))
}

impl Encoder {
    /// An encoder of level 1 to 22.
    pub(crate) fn new(level: i32) -> Result<Self> {
        Ok(Self {
            level,
            search: compressor(level)?,
            probe: compressor(1)?,
            literals: compressor(LITERALS_LEVEL)?,
            filtered: Vec::with_capacity(CHUNK_LEN),
            parts: Default::default(),
        })
    }

    /// Filters and compresses a chunk, of at most 16 MiB, and appends the frame to `out`.
    pub(crate) fn encode(
        &mut self,
        filter: Filter,
        width: usize,
        raw: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if filter == Filter::None {
            return self.build(&[(0, raw.len())], raw, out);
        }
        let mut filtered = std::mem::take(&mut self.filtered);
        filtered.resize(raw.len(), 0);
        filter.apply(width, raw, &mut filtered);
        let plane = raw.len() / width;
        let mut planes: Vec<(usize, usize)> = (0..width).map(|at| (at * plane, (at + 1) * plane)).collect();
        // The bytes that fill no element belong to the last plane.
        if let Some(last) = planes.last_mut() {
            last.1 = raw.len();
        }
        let result = self.build(&planes, &filtered, out);
        self.filtered = filtered;
        result
    }

    fn build(&mut self, planes: &[(usize, usize)], content: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let mut modes = Vec::with_capacity(planes.len());
        for &(start, end) in planes {
            modes.push(self.choose(&content[start..end])?);
        }
        // Only one part may hold matches: it spans from the first plane that wants them to the last.
        let first = modes.iter().position(|mode| *mode == Mode::Match);
        let last = modes.iter().rposition(|mode| *mode == Mode::Match);
        let mut builder = frame::Builder::new(out, content.len() as u32);
        let mut at = 0;
        while at < planes.len() {
            let (start, mut end) = planes[at];
            match modes[at] {
                Mode::Repeat
                    if first.is_none_or(|first| at < first) || last.is_some_and(|last| at > last) =>
                {
                    builder.repeat(content[start], end - start);
                }
                Mode::Store if first.is_none_or(|first| at < first) || last.is_some_and(|last| at > last) => {
                    builder.store(&content[start..end]);
                }
                Mode::Literals
                    if first.is_none_or(|first| at < first) || last.is_some_and(|last| at > last) =>
                {
                    let plane = &content[start..end];
                    compress(&mut self.literals, plane, &mut self.parts[0])?;
                    if frame::has_sequences(&self.parts[0]) {
                        builder.store(plane);
                    } else {
                        builder.splice(&self.parts[0]);
                    }
                }
                _ => {
                    at = last.unwrap_or(at);
                    end = planes[at].1;
                    compress(&mut self.search, &content[start..end], &mut self.parts[0])?;
                    builder.splice(&self.parts[0]);
                }
            }
            at += 1;
        }
        builder.finish(content);
        Ok(())
    }

    /// What to do with a plane.
    fn choose(&mut self, plane: &[u8]) -> Result<Mode> {
        if plane.len() < 2 {
            return Ok(Mode::Store);
        }
        if plane[1..] == plane[..plane.len() - 1] {
            return Ok(Mode::Repeat);
        }
        let [with_literals, with_matches] = &mut self.parts;
        let (len, literals, matches) = if self.level >= EXHAUSTIVE_LEVEL || plane.len() < MIN_SAMPLED {
            let literals = compress(&mut self.literals, plane, with_literals)?;
            let matches = compress(&mut self.search, plane, with_matches)?;
            (plane.len(), literals, matches)
        } else {
            let sample = &plane[plane.len() / 2..][..MIN_SAMPLED / 4];
            let literals = compress(&mut self.literals, sample, with_literals)?;
            let matches = compress(&mut self.probe, sample, with_matches)?;
            (sample.len(), literals, matches)
        };
        let literals = if frame::has_sequences(with_literals) { usize::MAX } else { literals };
        let margin = len - len / 100;
        Ok(if literals.min(matches) >= margin {
            Mode::Store
        } else if matches < literals {
            Mode::Match
        } else {
            Mode::Literals
        })
    }
}
