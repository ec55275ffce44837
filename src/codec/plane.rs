//! Compressing a chunk: each plane of the filtered bytes in the way that suits it.
//!
//! The noisy planes of weights' mantissas are stored; the exponents' plane is Huffman-coded without a search
//! for matches, since the matches found there are accidents that cost more than the literals they replace;
//! whatever has real repetitions is left to zstd at the level that the caller chose. A sample tells which.

use std::fmt::Display;

use xxhash_rust::xxh64::Xxh64;
use zstd::bulk::Compressor;
use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd::zstd_safe::{
    CParameter, InBuffer, OutBuffer, ParamSwitch, ResetDirective, compress_bound, get_error_name,
};

use super::frame::MAX_BLOCK;
use super::huffman::{Huffman, Outcome};
use super::{CHUNK_LEN, Filter, LONG_CHUNK_LEN, MAX_CHUNK_LEN, frame};
use crate::error::{Error, ErrorKind, Result, ensure};
use crate::progress::Checkpoint;

/// The lowest level of zstd: literals only, but for the odd match.
const LITERALS_LEVEL: i32 = -131_072;
/// From this level on, what to do with a plane is measured on all of it rather than on a sample.
const EXHAUSTIVE_LEVEL: i32 = 10;
/// A plane of fewer bytes is measured rather than sampled.
const MIN_SAMPLED: usize = 32 * 1024;

/// How a component is compressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodeParams {
    pub(crate) level: i32,
    pub(crate) filter: Filter,
    /// Bytes of an element, as filters see it.
    pub(crate) width: usize,
    /// Bytes of a chunk.
    pub(crate) chunk_len: usize,
    /// Whether the data repeats itself at distances that a sample of a plane does not show.
    repeats: bool,
    /// After how many bytes all of the data is the same again, or 0.
    period: usize,
}

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

/// A plane, and what is done to it.
struct Plane {
    start: usize,
    end: usize,
    mode: Mode,
    /// The frame that zstd made of it, if the choice took one.
    frame: Option<Vec<u8>>,
}

/// Encodes chunks. One for each thread.
pub(crate) struct Encoder {
    level: i32,
    search: Compressor<'static>,
    probe: Compressor<'static>,
    /// For literals of more symbols than [`Huffman`] takes.
    literals: Compressor<'static>,
    huffman: Huffman,
    /// Words of a sample, by a hash.
    seen: Box<[u64; 4096]>,
    /// The chunk after the filter, or as it is: all that is decided and encoded is read from this copy, since the caller's
    /// bytes may change meanwhile.
    filtered: Vec<u8>,
    with_matches: Vec<u8>,
    with_literals: Vec<u8>,
}

fn compressor(level: i32) -> Result<Compressor<'static>> {
    let mut compressor = Compressor::new(level).map_err(setting_up)?;
    checksum(&mut compressor, false)?;
    if level == LITERALS_LEVEL {
        let enable = CParameter::LiteralCompressionMode(ParamSwitch::Enable);
        compressor.set_parameter(enable).map_err(setting_up)?;
    }
    Ok(compressor)
}

fn setting_up(err: std::io::Error) -> Error {
    Error::io("set up the encoder", err)
}

/// Sets whether frames get a checksum.
fn checksum(compressor: &mut Compressor<'static>, is_wanted: bool) -> Result<()> {
    compressor.include_checksum(is_wanted).map_err(setting_up)
}

fn failed(why: impl Display) -> Error {
    Error::new(ErrorKind::Memory, format!("zstd could not compress: {why}"))
}

fn compress(compressor: &mut Compressor<'static>, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize> {
    out.clear();
    out.reserve(compress_bound(bytes.len()));
    compressor.compress_to_buffer(bytes, out).map_err(failed)
}

/// Compresses as [`compress`] does, `slice_len` bytes at a time with a checkpoint before each.
fn compress_in_slices(
    compressor: &mut Compressor<'static>,
    slice_len: usize,
    bytes: &[u8],
    out: &mut Vec<u8>,
    checkpoint: Checkpoint<'_>,
) -> Result<usize> {
    let context = compressor.context_mut();
    let mut run = || {
        out.clear();
        out.reserve(compress_bound(bytes.len()));
        context
            .set_pledged_src_size(Some(bytes.len() as u64))
            .map_err(|code| failed(get_error_name(code)))?;
        let mut out = OutBuffer::around(out);
        let slices = bytes.chunks(slice_len).map(|slice| (slice, ZSTD_EndDirective::ZSTD_e_continue));
        for (slice, directive) in slices.chain([(&[][..], ZSTD_EndDirective::ZSTD_e_end)]) {
            checkpoint()?;
            let mut slice_in = InBuffer::around(slice);
            loop {
                let before = (slice_in.pos(), out.pos());
                let left = context
                    .compress_stream2(&mut out, &mut slice_in, directive)
                    .map_err(|code| failed(get_error_name(code)))?;
                let is_end = directive == ZSTD_EndDirective::ZSTD_e_end;
                if slice_in.pos() == slice.len() && (left == 0 || !is_end) {
                    break;
                }
                ensure!(
                    before != (slice_in.pos(), out.pos()),
                    Memory,
                    "zstd could not compress: no room is left"
                );
            }
        }
        Ok(out.pos())
    };
    let result = run();
    if result.is_err() {
        // The next frame begins anew.
        context.reset(ResetDirective::SessionOnly).map_err(|code| failed(get_error_name(code)))?;
    }
    result
}

impl Encoder {
    /// An encoder of level 1 to 22.
    pub(crate) fn new(level: i32) -> Result<Self> {
        Ok(Self {
            level,
            search: compressor(level)?,
            probe: compressor(1)?,
            literals: compressor(LITERALS_LEVEL)?,
            huffman: Huffman::new(),
            seen: Box::new([0; 4096]),
            filtered: Vec::with_capacity(CHUNK_LEN),
            with_matches: Vec::new(),
            with_literals: Vec::new(),
        })
    }

    /// Filters and compresses a chunk, of at most 64 MiB, into `frame`. False if that makes it no smaller.
    ///
    /// `params` has the level of this encoder. Each byte of `raw` is read once: where it changes meanwhile, the frame is still
    /// whole, and decodes to what was read.
    pub(crate) fn encode(
        &mut self,
        params: EncodeParams,
        raw: &[u8],
        frame: &mut Vec<u8>,
        checkpoint: Checkpoint<'_>,
    ) -> Result<bool> {
        checkpoint()?;
        frame.clear();
        if (1..raw.len()).contains(&params.period) {
            return self.build_periodic(&raw[..params.period], raw.len(), frame, checkpoint);
        }
        let mut filtered = std::mem::take(&mut self.filtered);
        filtered.resize(raw.len(), 0);
        params.filter.apply(params.width, raw, &mut filtered);
        let width = params.filter.planes(params.width);
        let result = self.build(params, &planes(width, raw.len()), &filtered, frame, checkpoint);
        self.filtered = filtered;
        result
    }

    fn build(
        &mut self,
        params: EncodeParams,
        ranges: &[(usize, usize)],
        content: &[u8],
        frame: &mut Vec<u8>,
        checkpoint: Checkpoint<'_>,
    ) -> Result<bool> {
        let is_plain = ranges.len() == 1;
        let mut planes = Vec::with_capacity(ranges.len());
        for &(start, end) in ranges {
            let (mode, frame) = self.choose(&content[start..end], is_plain, params.repeats, checkpoint)?;
            planes.push(Plane { start, end, mode, frame });
        }
        if planes.iter().all(|plane| plane.mode == Mode::Store) {
            return Ok(false);
        }
        if let [Plane { mode: Mode::Match, frame: None, .. }] = &planes[..] {
            // All of it is zstd's: its frame is the one that is asked for, once it has a checksum.
            checksum(&mut self.search, true)?;
            let result = self.search(content, frame, checkpoint);
            checksum(&mut self.search, false)?;
            return Ok(result? < content.len());
        }
        let is_match = |plane: &Plane| plane.mode == Mode::Match;
        let mut builder = frame::Builder::new(frame, content.len() as u32);
        // Only one part may hold matches: it spans from the first plane that wants them to the last.
        let first = planes.iter().position(is_match).unwrap_or(planes.len());
        let last = planes.iter().rposition(is_match).map_or(planes.len(), |last| last + 1);
        for plane in &planes[..first] {
            self.add(&mut builder, plane, content, checkpoint)?;
        }
        match &planes[first..last] {
            [one, .., other] => {
                self.add_matched(&mut builder, &content[one.start..other.end], checkpoint)?;
            }
            [one] => self.add(&mut builder, one, content, checkpoint)?,
            [] => {}
        }
        for plane in &planes[last..] {
            self.add(&mut builder, plane, content, checkpoint)?;
        }
        builder.finish(content);
        Ok(frame.len() < content.len())
    }

    /// Builds the frame of content of `len` bytes that is the same again after every `period`: those bytes, and that they are
    /// repeated. `len` is more than a period.
    fn build_periodic(
        &mut self,
        period: &[u8],
        len: usize,
        frame: &mut Vec<u8>,
        checkpoint: Checkpoint<'_>,
    ) -> Result<bool> {
        /// Bytes that are hashed at once.
        const HASHED: usize = 64 * 1024;
        let mut content = std::mem::take(&mut self.filtered);
        content.clear();
        content.extend_from_slice(period);
        let (mode, matches) = self.choose(&content, true, false, checkpoint)?;
        let mut builder = frame::Builder::new(frame, len as u32);
        let plane = Plane { start: 0, end: content.len(), mode, frame: matches };
        if mode == Mode::Repeat {
            builder.repeat(content[0], len);
        } else {
            self.add(&mut builder, &plane, &content, checkpoint)?;
        }
        while content.len() < HASHED.min(len) {
            content.extend_from_within(..period.len());
        }
        if mode != Mode::Repeat {
            builder.copy(period.len(), len - period.len(), &content);
        }
        let mut hasher = Xxh64::new(0);
        let mut left = len;
        while left > 0 {
            let part = &content[..left.min(content.len())];
            hasher.update(part);
            left -= part.len();
        }
        builder.finish_with(hasher.digest());
        self.filtered = content;
        Ok(frame.len() < len)
    }

    /// Compresses with a search for matches.
    fn search(&mut self, bytes: &[u8], out: &mut Vec<u8>, checkpoint: Checkpoint<'_>) -> Result<usize> {
        // A block takes a tenth of a second at the highest level, and a mebibyte as long at the lower ones at most.
        let slice_len = if self.level >= EXHAUSTIVE_LEVEL { MAX_BLOCK } else { CHUNK_LEN };
        if bytes.len() <= slice_len {
            return compress(&mut self.search, bytes, out);
        }
        compress_in_slices(&mut self.search, slice_len, bytes, out, checkpoint)
    }

    fn add_matched(
        &mut self,
        builder: &mut frame::Builder<'_>,
        content: &[u8],
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        let mut with_matches = std::mem::take(&mut self.with_matches);
        self.search(content, &mut with_matches, checkpoint)?;
        builder.splice(&with_matches);
        self.with_matches = with_matches;
        Ok(())
    }

    /// Adds a plane.
    fn add(
        &mut self,
        builder: &mut frame::Builder<'_>,
        plane: &Plane,
        content: &[u8],
        checkpoint: Checkpoint<'_>,
    ) -> Result<()> {
        let bytes = &content[plane.start..plane.end];
        match (plane.mode, &plane.frame) {
            (Mode::Repeat, _) => builder.repeat(bytes[0], bytes.len()),
            (Mode::Literals, _) => {
                bytes.chunks(MAX_BLOCK).try_for_each(|block| self.add_literals(builder, block))?;
            }
            (Mode::Store, _) => builder.store(bytes),
            (Mode::Match, Some(frame)) => builder.splice(frame),
            (Mode::Match, None) => self.add_matched(builder, bytes, checkpoint)?,
        }
        Ok(())
    }

    /// Adds a block as literals, or stores it.
    fn add_literals(&mut self, builder: &mut frame::Builder<'_>, block: &[u8]) -> Result<()> {
        match self.huffman.encode(block, builder) {
            Outcome::Added => {}
            Outcome::NotShorter => builder.store(block),
            Outcome::Refused => {
                compress(&mut self.literals, block, &mut self.with_literals)?;
                if frame::has_sequences(&self.with_literals) {
                    builder.store(block);
                } else {
                    builder.splice(&self.with_literals);
                }
            }
        }
        Ok(())
    }

    /// What to do with a plane; with the frame of its matches where that was made.
    ///
    /// `is_plain` says that the data was not filtered: bytes that are text, pictures or masks, whose repetitions
    /// a sample sees but in part.
    fn choose(
        &mut self,
        plane: &[u8],
        is_plain: bool,
        repeats: bool,
        checkpoint: Checkpoint<'_>,
    ) -> Result<(Mode, Option<Vec<u8>>)> {
        checkpoint()?;
        if plane.len() < 2 {
            return Ok((Mode::Store, None));
        }
        if is_same_after(1, plane) {
            return Ok((Mode::Repeat, None));
        }
        let is_measured = self.level >= EXHAUSTIVE_LEVEL || plane.len() < MIN_SAMPLED;
        if repeats && !is_measured {
            return Ok((Mode::Match, None));
        }
        let sample_len = if is_plain { MIN_SAMPLED } else { MIN_SAMPLED / 4 };
        let sample = if is_measured { plane } else { &plane[(plane.len() - sample_len) / 2..][..sample_len] };
        if !is_plain && !is_measured && !self.has_matches(sample) {
            let is_noise = entropy_len(sample) >= sample.len() - sample.len() / 100;
            return Ok((if is_noise { Mode::Store } else { Mode::Literals }, None));
        }
        let mut with_matches = std::mem::take(&mut self.with_matches);
        let matches = if is_measured {
            self.search(sample, &mut with_matches, checkpoint)?
        } else {
            compress(&mut self.probe, sample, &mut with_matches)?
        };
        self.with_matches = with_matches;
        let literals = self.literals_len(sample)?;
        let favour = if is_plain && !is_measured { matches / 8 } else { 0 };
        // What little a sample of a plane shows is mostly accident, and to search costs more time than it gains room.
        let margin = if is_plain || is_measured { 0 } else { matches / 64 };
        Ok(if literals.min(matches) >= sample.len() - sample.len() / 100 {
            (Mode::Store, None)
        } else if matches - favour + margin < literals {
            (Mode::Match, is_measured.then(|| std::mem::take(&mut self.with_matches)))
        } else {
            (Mode::Literals, None)
        })
    }

    /// Whether eight bytes in a row come again more often than by accident.
    fn has_matches(&mut self, sample: &[u8]) -> bool {
        self.seen.fill(0);
        let mut again = 0;
        for at in 0..sample.len().saturating_sub(7) {
            let Some(bytes) = sample[at..].first_chunk() else { break };
            let word = u64::from_le_bytes(*bytes);
            let slot = &mut self.seen[(word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize];
            again += usize::from(*slot == word);
            *slot = word;
        }
        again > sample.len() / 64
    }

    /// How many bytes a plane takes as literals.
    fn literals_len(&mut self, plane: &[u8]) -> Result<usize> {
        // Each block has a code of its own.
        let lens = plane.chunks(MAX_BLOCK).map(|block| self.huffman.encoded_len(block));
        if let Some(len) = lens.sum::<Option<usize>>() {
            return Ok(len);
        }
        let len = compress(&mut self.literals, plane, &mut self.with_literals)?;
        Ok(if frame::has_sequences(&self.with_literals) { usize::MAX } else { len })
    }
}

/// Chooses how components are compressed.
pub(crate) struct ParamSelector {
    probe: Compressor<'static>,
    out: Vec<u8>,
}

impl ParamSelector {
    /// For one writer, since what it needs takes longer to make than a look at a sample.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { probe: compressor(1)?, out: Vec::new() })
    }

    /// How to compress a component of which `preferred` is the filter that suits its element type of `width` bytes.
    ///
    /// Where the elements themselves repeat, as in tiled or constant data, matches of whole elements are shorter and
    /// quicker than matches in each plane, and the longer a chunk the fewer are the times that what is repeated has to be
    /// stored. Samples tell. They are only advice: any parameters make whole frames of any bytes.
    pub(crate) fn choose(
        &mut self,
        level: i32,
        preferred: Filter,
        width: usize,
        bytes: &[u8],
        checkpoint: Checkpoint<'_>,
    ) -> Result<EncodeParams> {
        const SAMPLE: usize = 16 * 1024;
        let usual =
            EncodeParams { level, filter: preferred, width, chunk_len: CHUNK_LEN, repeats: false, period: 0 };
        if bytes.len() < 4 * SAMPLE {
            return Ok(usual);
        }
        let share = repetition(middle(bytes, CHUNK_LEN));
        let params = EncodeParams {
            repeats: share >= 0.25,
            chunk_len: if share >= 0.5 { LONG_CHUNK_LEN } else { CHUNK_LEN },
            ..usual
        };
        if share >= 0.5
            && let Some(period) = period(bytes, checkpoint)?
        {
            // Chunks that begin alike are all the same, and the first of them is all that is stored.
            let chunk_len = if CHUNK_LEN.is_multiple_of(period) { CHUNK_LEN } else { MAX_CHUNK_LEN };
            return Ok(EncodeParams { filter: Filter::None, chunk_len, period, ..params });
        }
        if preferred == Filter::None {
            return Ok(params);
        }
        // zstd needs bytes that stay as they are.
        let sample = &middle(bytes, SAMPLE).to_vec()[..];
        let plain = compress(&mut self.probe, sample, &mut self.out)?;
        // Of noise no filter makes repetitions, and trying costs time.
        if plain > SAMPLE / 2 {
            let filter = if params.repeats { Filter::None } else { preferred };
            return Ok(EncodeParams { filter, ..params });
        }
        let mut filtered = vec![0; SAMPLE];
        preferred.apply(width, sample, &mut filtered);
        let shuffled = compress(&mut self.probe, &filtered, &mut self.out)?;
        Ok(EncodeParams { filter: if plain < shuffled { Filter::None } else { preferred }, ..params })
    }
}

/// How many bytes are enough for these, if nothing but how often each occurs is made use of (Shannon's entropy).
fn entropy_len(bytes: &[u8]) -> usize {
    let mut counts = [0u32; 256];
    bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let len = bytes.len() as f64;
    let bits = counts.iter().filter(|&&count| count > 0).map(|&count| {
        let count = f64::from(count);
        count * (len / count).log2()
    });
    (bits.sum::<f64>() / 8.0) as usize
}

/// `len` bytes from the middle, beginning with a whole element, or all if there are fewer.
fn middle(bytes: &[u8], len: usize) -> &[u8] {
    let start = bytes.len().saturating_sub(len) / 2;
    &bytes[start - start % 16..][..len.min(bytes.len())]
}

/// A chunk as a frame that stores it: for one that compression makes no smaller, among others of its component
/// that it does.
pub(crate) fn store(filter: Filter, width: usize, raw: &[u8]) -> Vec<u8> {
    let mut filtered = vec![0; raw.len()];
    filter.apply(width, raw, &mut filtered);
    let mut frame = Vec::with_capacity(raw.len() + 64);
    let mut builder = frame::Builder::new(&mut frame, raw.len() as u32);
    builder.store(&filtered);
    builder.finish(&filtered);
    frame
}

/// The planes of a filtered chunk. The bytes that fill no element belong to the last one.
fn planes(width: usize, len: usize) -> Vec<(usize, usize)> {
    let plane = len / width;
    (0..width).map(|at| (at * plane, if at + 1 == width { len } else { (at + 1) * plane })).collect()
}

/// What share of the bytes has stood before, at whatever distance: 0 to 1, as far as some places show.
///
/// It looks at the places of one byte value, the rarest of a sample so that they are few, and counts how often
/// the 32 bytes from there on stood at an earlier one.
fn repetition(bytes: &[u8]) -> f64 {
    const SLOTS: usize = 16 * 1024;
    const ENOUGH: usize = 16;
    let mut counts = [0u32; 256];
    middle(bytes, 8192).iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let rarest =
        (0..256).filter(|&byte| counts[byte] > 0).min_by_key(|&byte| counts[byte]).unwrap_or(0) as u8;
    let mut seen = vec![0u64; SLOTS];
    let (mut places, mut again) = (0usize, 0usize);
    for (number, block) in bytes.chunks(64).enumerate() {
        // A whole block at a time, so that the search runs on vectors.
        if !block.iter().fold(false, |found, &byte| found | (byte == rarest)) {
            continue;
        }
        for at in (0..block.len()).filter(|&at| block[at] == rarest).map(|at| number * 64 + at) {
            let Some(context) = bytes[at..].first_chunk::<32>() else { continue };
            let hash = context.as_chunks::<8>().0.iter().fold(0u64, |hash, word| {
                (hash.rotate_left(29) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            });
            let slot = &mut seen[(hash >> 50) as usize];
            again += usize::from(*slot == hash);
            *slot = hash;
            places += 1;
        }
        if places >= SLOTS {
            break;
        }
    }
    if again < ENOUGH { 0.0 } else { again as f64 / places as f64 }
}

/// After how many bytes all of the data is the same again; `None` if it is not.
fn period(bytes: &[u8], checkpoint: Checkpoint<'_>) -> Result<Option<usize>> {
    /// The longest that is looked for.
    const MAX: usize = 1024 * 1024;
    /// Copies over a shorter distance are slower, and a multiple of a period is one too.
    const MIN: usize = 64;
    let Some(first) = bytes.first_chunk::<8>() else { return Ok(None) };
    let Some(found) = bytes[1..].windows(8).take(MAX).position(|window| window == first) else {
        return Ok(None);
    };
    let period = (found + 1) * MIN.div_ceil(found + 1);
    if period > bytes.len() {
        return Ok(None);
    }
    let later = bytes[period..].chunks(LONG_CHUNK_LEN);
    for (later, earlier) in later.zip(bytes.chunks(LONG_CHUNK_LEN)) {
        checkpoint()?;
        if later != &earlier[..later.len()] {
            return Ok(None);
        }
    }
    Ok(Some(period))
}

/// Whether each byte is the one that stands `distance` before it. There are at least as many.
fn is_same_after(distance: usize, bytes: &[u8]) -> bool {
    bytes[distance..] == bytes[..bytes.len() - distance]
}

#[cfg(test)]
mod tests {
    use super::*;

    include!("../../tests/noise/mod.rs");

    const GO_ON: fn() -> Result<()> = || Ok(());

    fn encoded(level: i32, filter: Filter, width: usize, raw: &[u8]) -> Option<usize> {
        let EncodeParams { repeats, .. } =
            ParamSelector::new().unwrap().choose(level, filter, width, raw, &GO_ON).unwrap();
        let params = EncodeParams { level, filter, width, chunk_len: CHUNK_LEN, repeats, period: 0 };
        let mut frame = Vec::new();
        if !Encoder::new(level).unwrap().encode(params, raw, &mut frame, &GO_ON).unwrap() {
            return None;
        }
        let mut filtered = vec![0; raw.len()];
        filter.apply(width, raw, &mut filtered);
        assert_eq!(zstd::bulk::decompress(&frame, raw.len()).unwrap(), filtered, "any zstd decodes a chunk");
        Some(frame.len())
    }

    #[test]
    fn noise_is_not_encoded() {
        for level in [1, 3, 19] {
            assert_eq!(encoded(level, Filter::None, 1, &noise(CHUNK_LEN)), None);
            assert_eq!(encoded(level, Filter::Float, 4, &noise(CHUNK_LEN)), None);
        }
        let stored = store(Filter::Float, 2, &noise(1001));
        assert_eq!(zstd::bulk::decompress(&stored, 1001).unwrap().len(), 1001);
    }

    #[test]
    fn repetitions_at_any_distance_are_found() {
        for period in [1000, 10_000, 100_000, 400_000] {
            let raw: Vec<u8> = noise(period).into_iter().cycle().take(CHUNK_LEN).collect();
            let len = encoded(3, Filter::None, 1, &raw).unwrap();
            assert!(len < period + period / 8 + 5000, "a period of {period} bytes takes {len}");
        }
        let elements: Vec<u8> = noise(200_000).into_iter().cycle().take(CHUNK_LEN).collect();
        let len = encoded(3, Filter::Float, 4, &elements).unwrap();
        assert!(len < 230_000, "200,000 bytes of floats repeated take {len}");
    }

    #[test]
    fn every_mix_of_planes_makes_a_frame() {
        let text: Vec<u8> = b"over and over again; ".iter().copied().cycle().take(80_000).collect();
        let flat = vec![9u8; 80_000];
        let skewed: Vec<u8> = noise(80_000).into_iter().map(|byte| (byte & byte >> 3 & 15) + 100).collect();
        let kinds = [noise(80_000), text, flat, skewed];
        for mix in 0..256usize {
            let planes: Vec<&Vec<u8>> = (0..4).map(|at| &kinds[mix >> (2 * at) & 3]).collect();
            let raw: Vec<u8> = (0..80_000).flat_map(|at| planes.iter().map(move |plane| plane[at])).collect();
            let len = encoded(3, Filter::Shuffle, 4, &raw);
            assert_eq!(len.is_none(), mix == 0, "mix {mix}");
        }
    }

    #[test]
    fn what_repeats_throughout_gets_long_chunks() {
        let choose = |bytes: &[u8]| {
            ParamSelector::new().unwrap().choose(3, Filter::Float, 4, bytes, &GO_ON).unwrap().chunk_len
        };
        assert_eq!(choose(&[0; 1 << 20]), CHUNK_LEN, "chunks that are the same are stored once");
        assert_eq!(choose(&noise(4096).repeat(400)), CHUNK_LEN);
        assert_eq!(choose(&[vec![0; 1 << 20], vec![1]].concat()), LONG_CHUNK_LEN);
        assert_eq!(choose(&noise(400_000).repeat(4)), MAX_CHUNK_LEN);
        assert_eq!(choose(&[noise(400_000).repeat(4), vec![0]].concat()), LONG_CHUNK_LEN);
        assert_eq!(choose(&noise(1 << 20)), CHUNK_LEN);
        let small: Vec<u8> = noise(1 << 18).into_iter().flat_map(|byte| [byte % 100, 0, 0, 0]).collect();
        assert_eq!(choose(&small), CHUNK_LEN);
    }

    #[test]
    fn periods_are_those_of_all_of_the_data() {
        for len in [2usize, 3, 4, 63, 64, 65, 4000, 400_001, 1024 * 1024] {
            let data = noise(len).repeat(1 + (1 << 21) / len);
            let found = period(&data, &GO_ON).unwrap().unwrap();
            assert!(found.is_multiple_of(len) && (64..64 + len.max(2)).contains(&found), "{len}: {found}");
            let mut other = data.clone();
            *other.last_mut().unwrap() ^= 1;
            assert_eq!(period(&other, &GO_ON).unwrap(), None);
            assert_eq!(period(&data[..len], &GO_ON).unwrap(), None);
        }
        assert_eq!(period(&[7; 100_000], &GO_ON).unwrap(), Some(64));
        assert_eq!(period(&noise(100_000), &GO_ON).unwrap(), None);
        assert_eq!(period(&[], &GO_ON).unwrap(), None);
    }

    #[test]
    fn what_has_a_period_is_stored_once_in_a_chunk() {
        for (len, level) in [(2usize, 3), (12, 1), (4000, 3), (100_000, 3), (100_000, 19), (400_000, 22)] {
            let raw: Vec<u8> = noise(len).into_iter().cycle().take((5 << 20) + 17).collect();
            let params = ParamSelector::new().unwrap().choose(level, Filter::Float, 4, &raw, &GO_ON).unwrap();
            assert!(params.period > 0 && params.filter == Filter::None, "{len}");
            let mut encoder = Encoder::new(level).unwrap();
            // The last chunk may be shorter than the period.
            for chunk in [&raw[..], &raw[..3 << 20], &raw[..params.period + 1], &raw[..params.period / 2]] {
                let mut frame = Vec::new();
                if encoder.encode(params, chunk, &mut frame, &GO_ON).unwrap() {
                    assert!(zstd::bulk::decompress(&frame, chunk.len()).unwrap() == chunk, "{len}");
                    assert!(frame.len() < params.period + params.period / 1000 + 2000, "{len}");
                } else {
                    assert!(chunk.len() <= params.period + 1, "{len}");
                }
            }
        }
    }

    #[test]
    fn data_that_repeats_is_not_filtered() {
        let choose = |bytes: &[u8]| {
            ParamSelector::new().unwrap().choose(3, Filter::Float, 4, bytes, &GO_ON).unwrap().filter
        };
        assert_eq!(choose(&noise(1 << 17)), Filter::Float);
        assert_eq!(choose(&noise(400).repeat(1000)), Filter::None);
        let weights: Vec<u8> =
            noise(1 << 17).chunks(4).flat_map(|w| [w[0], w[1], w[2] & 0x80, 0x3f - w[3] % 3]).collect();
        assert_eq!(choose(&weights), Filter::Float);
        assert_eq!(choose(&[]), Filter::Float);
    }

    #[test]
    fn higher_levels_are_not_larger() {
        let text: Vec<u8> =
            (0..300_000u64).flat_map(|at| format!("{} ", at * at % 9973).into_bytes()).collect();
        let text = &text[..CHUNK_LEN];
        let at_level = |level| encoded(level, Filter::None, 1, text).unwrap();
        assert!(at_level(19) <= at_level(3));
    }

    #[test]
    fn slices_make_a_frame_as_good_as_one_piece() {
        let text: Vec<u8> =
            (0..300_000u64).flat_map(|at| format!("{} ", at * at % 9973).into_bytes()).collect();
        for (level, len) in [(19, 300_000), (10, MAX_BLOCK), (10, MAX_BLOCK + 1), (3, CHUNK_LEN + 7), (1, 0)]
        {
            let raw = &text[..len];
            let (mut whole, mut sliced) = (Vec::new(), Vec::new());
            let mut encoder = compressor(level).unwrap();
            let one = compress(&mut encoder, raw, &mut whole).unwrap();
            for slice_len in [MAX_BLOCK, 1000 + len] {
                let many = compress_in_slices(&mut encoder, slice_len, raw, &mut sliced, &GO_ON).unwrap();
                assert_eq!(zstd::bulk::decompress(&sliced, len).unwrap(), raw);
                assert!(many <= one + one / 50 + 20, "level {level}, {len} bytes: {many} after {one}");
                let header = frame::Header::parse(&sliced).unwrap();
                assert_eq!(header.content_size, Some(len as u64));
                assert!(header.window_size <= len.max(1024) as u64);
            }
        }
    }

    #[test]
    fn an_encoder_that_was_cancelled_works_as_before() {
        use std::cell::Cell;

        let text: Vec<u8> =
            (0..300_000u64).flat_map(|at| format!("{} ", at * at % 9973).into_bytes()).collect();
        let raw = &text[..CHUNK_LEN];
        for level in [3, 12] {
            let params = EncodeParams {
                level,
                filter: Filter::None,
                width: 1,
                chunk_len: CHUNK_LEN,
                repeats: true,
                period: 0,
            };
            let (mut expected, mut frame) = (Vec::new(), Vec::new());
            let mut encoder = Encoder::new(level).unwrap();
            let calls = Cell::new(0);
            let count = || {
                calls.set(calls.get() + 1);
                Ok(())
            };
            encoder.encode(params, raw, &mut expected, &count).unwrap();
            assert!(calls.get() >= if level >= EXHAUSTIVE_LEVEL { CHUNK_LEN / MAX_BLOCK } else { 2 });
            for stop_at in 0..calls.get() {
                let left = Cell::new(stop_at);
                let stop = || {
                    ensure!(left.get() > 0, Cancelled, "stop");
                    left.set(left.get() - 1);
                    Ok(())
                };
                let err = encoder.encode(params, raw, &mut frame, &stop).unwrap_err();
                assert_eq!(err.kind(), ErrorKind::Cancelled);
                encoder.encode(params, raw, &mut frame, &GO_ON).unwrap();
                assert!(frame == expected, "stopped at checkpoint {stop_at}");
            }
        }
    }
}
