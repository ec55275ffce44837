//! A filtered chunk in pieces: stored blocks are used where they stand in the frame, only the others are decoded.
//!
//! Two thirds and more of compressed weights are planes of mantissas, which no coding makes smaller. To copy them out of
//! the frame first, as decoding the whole of it does, takes as long as to put the elements together.

use xxhash_rust::xxh64::Xxh64;
use zstd::bulk::Decompressor;

use super::filter::Filter;
use super::frame::{self, COMPRESSED, Header, MAX_BLOCK, RAW, RLE};

/// Runs of a frame's content, in order.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    runs: Vec<Run>,
    /// What was decoded.
    scratch: Vec<u8>,
    /// Blocks under a header of their own, to be decoded.
    part: Vec<u8>,
}

/// A run: where it begins in the content and how long it is, and where its bytes are: in the frame, or once they are decoded
/// in the scratch memory.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: usize,
    len: usize,
    is_stored: bool,
    at: usize,
}

/// Why a frame was not taken to pieces.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It has to be decoded as a whole, or it is as quick to do so.
    Whole,
    /// It is damaged.
    Damaged(&'static str),
}

impl Pieces {
    /// Takes a frame to pieces whose content has `len` bytes, and checks its checksum.
    ///
    /// That can be done if no block refers to what other runs hold: if there are no matches, and each run of coded blocks
    /// begins with a code of its own.
    pub(super) fn take(
        &mut self,
        zstd: &mut Decompressor<'static>,
        frame: &[u8],
        len: usize,
    ) -> Result<(), Refusal> {
        let Some(header) = Header::parse(frame) else { return Err(Refusal::Whole) };
        self.runs.clear();
        // Where the run of coded blocks begins that is being read.
        let mut coded: Option<Run> = None;
        let (mut at, mut done, mut stored) = (header.len, 0, 0);
        let mut decoded = 0;
        loop {
            let Some(block) = frame::block(&frame[at..]) else { return Err(Refusal::Whole) };
            let size = match block.kind {
                RAW => block.body.len(),
                RLE => block.repeats,
                COMPRESSED => match frame::literals(block.body) {
                    // Treeless literals are coded as those of the block before.
                    Some(literals) if coded.is_some() || !literals.is_treeless => literals.len,
                    _ => return Err(Refusal::Whole),
                },
                _ => return Err(Refusal::Whole),
            };
            if size > MAX_BLOCK || done + size > len {
                return Err(Refusal::Whole);
            }
            if matches!(block.kind, RAW | RLE) {
                self.runs.extend(coded.take());
                let is_stored = block.kind == RAW;
                let place = if is_stored { at + frame::BLOCK_HEADER } else { at };
                self.runs.push(Run { start: done, len: size, is_stored, at: place });
                stored += if is_stored { size } else { 0 };
            } else {
                let run = coded.get_or_insert(Run { start: done, len: 0, is_stored: false, at });
                run.len += size;
            }
            decoded += if block.kind == RAW { 0 } else { size };
            done += size;
            at += block.len;
            if block.is_last {
                break;
            }
        }
        self.runs.extend(coded);
        if done != len || frame.len() != at + 4 || stored < len / 8 {
            return Err(Refusal::Whole);
        }
        self.decode(zstd, frame, decoded)?;
        let mut hasher = Xxh64::new(0);
        self.runs.iter().for_each(|run| hasher.update(self.bytes(frame, run)));
        if frame[at..] != (hasher.digest() as u32).to_le_bytes() {
            return Err(Refusal::Damaged("its checksum does not match"));
        }
        Ok(())
    }

    /// Brings what is not stored into the scratch memory.
    fn decode(&mut self, zstd: &mut Decompressor<'static>, frame: &[u8], len: usize) -> Result<(), Refusal> {
        self.scratch.resize(len, 0);
        let mut filled = 0;
        for run in self.runs.iter_mut().filter(|run| !run.is_stored) {
            let out = &mut self.scratch[filled..][..run.len];
            let Some(first) = frame::block(&frame[run.at..]) else { return Err(Refusal::Whole) };
            if first.kind == RLE {
                out.fill(first.body[0]);
            } else {
                frame::wrap(&frame[run.at..], run.len, &mut self.part);
                if zstd.decompress_to_buffer(&self.part, out).ok() != Some(run.len) {
                    return Err(Refusal::Whole);
                }
            }
            run.at = filled;
            filled += run.len;
        }
        Ok(())
    }

    fn bytes<'a>(&'a self, frame: &'a [u8], run: &Run) -> &'a [u8] {
        let memory = if run.is_stored { frame } else { &self.scratch };
        &memory[run.at..][..run.len]
    }

    /// Undoes the filter of elements of `width` bytes.
    pub(super) fn undo(&self, filter: Filter, width: usize, frame: &[u8], out: &mut [u8]) {
        let count = out.len() / width;
        let mut planes: Vec<&[u8]> = Vec::with_capacity(width);
        let mut at = 0;
        while at < count {
            // As far as no plane goes from one run to the next.
            planes.clear();
            planes.extend((0..width).map(|plane| self.from(frame, plane * count + at)));
            let len = planes.iter().map(|plane| plane.len()).fold(count - at, usize::min);
            planes.iter_mut().for_each(|plane| *plane = &plane[..len]);
            filter.join(width, &planes, &mut out[at * width..(at + len) * width]);
            at += len;
        }
        let mut at = count * width;
        while at < out.len() {
            let rest = self.from(frame, at);
            out[at..][..rest.len()].copy_from_slice(rest);
            at += rest.len();
        }
        filter.finish(width, out);
    }

    /// The content from a place on, up to the end of its run.
    fn from<'a>(&'a self, frame: &'a [u8], at: usize) -> &'a [u8] {
        let run = &self.runs[self.runs.partition_point(|run| run.start + run.len <= at)];
        &self.bytes(frame, run)[at - run.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::frame::Builder;

    /// Stored, coded and repeated blocks of the sizes given, and what they decode to.
    fn frame_of(parts: &[(u8, usize)]) -> (Vec<u8>, Vec<u8>) {
        let mut content = Vec::new();
        let mut state = 1u32;
        for &(kind, len) in parts {
            content.extend((0..len).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match kind {
                    b's' => (state >> 24) as u8,
                    b'c' => (state >> 24).trailing_zeros() as u8,
                    _ => 7,
                }
            }));
        }
        let mut frame = Vec::new();
        let mut builder = Builder::new(&mut frame, content.len() as u32);
        let mut huffman = crate::codec::huffman::Huffman::new();
        let mut at = 0;
        for &(kind, len) in parts {
            let part = &content[at..at + len];
            match kind {
                b'c' => part.chunks(frame::MAX_BLOCK).for_each(|block| {
                    assert_eq!(huffman.encode(block, &mut builder), crate::codec::huffman::Outcome::Added);
                }),
                b's' => builder.store(part),
                _ => builder.repeat(7, len),
            }
            at += len;
        }
        builder.finish(&content);
        (frame, content)
    }

    #[test]
    fn pieces_are_what_the_whole_decodes_to() {
        let mut zstd = Decompressor::new().unwrap();
        let mut pieces = Pieces::default();
        for parts in [
            &[(b's', 4000)][..],
            &[(b's', 300_000), (b'c', 300_000)],
            &[(b'c', 150_001), (b's', 150_002), (b'r', 3)],
            &[
                (b'r', 200_000),
                (b's', 100_000),
                (b'c', 2000),
                (b's', 5),
                (b'c', 140_000),
                (b'c', 9000),
                (b's', 77_777),
            ],
        ] {
            let (frame, content) = frame_of(parts);
            pieces.take(&mut zstd, &frame, content.len()).unwrap();
            for (filter, width) in [
                (Filter::Float, 2),
                (Filter::Float, 4),
                (Filter::Shuffle, 8),
                (Filter::Shuffle, 3),
                (Filter::Delta, 4),
            ] {
                let (mut whole, mut out) = (vec![0; content.len()], vec![0; content.len()]);
                filter.undo(width, &content, &mut whole);
                pieces.undo(filter, width, &frame, &mut out);
                assert!(out == whole, "{parts:?} {filter:?} {width}");
            }
        }
    }

    #[test]
    fn damage_is_seen_wherever_it_is() {
        let mut zstd = Decompressor::new().unwrap();
        let mut pieces = Pieces::default();
        let (frame, content) = frame_of(&[(b's', 3000), (b'c', 3000), (b'r', 200)]);
        for at in 0..frame.len() {
            let mut damaged = frame.clone();
            damaged[at] ^= 0x20;
            let taken = pieces.take(&mut zstd, &damaged, content.len());
            if taken.is_ok() {
                let found: Vec<u8> =
                    pieces.runs.iter().flat_map(|run| pieces.bytes(&damaged, run)).copied().collect();
                assert_eq!(found, content, "byte {at}");
            }
        }
        for len in 0..frame.len() {
            assert!(pieces.take(&mut zstd, &frame[..len], content.len()).is_err());
        }
        assert_eq!(pieces.take(&mut zstd, &frame, content.len() - 1), Err(Refusal::Whole));
        assert_eq!(pieces.take(&mut zstd, &frame, content.len() + 1), Err(Refusal::Whole));
    }

    #[test]
    fn matches_ask_for_the_whole() {
        let text = b"the quick brown fox jumps over the lazy dog; ".repeat(100);
        let mut frame = Vec::new();
        let mut builder = Builder::new(&mut frame, 2 * text.len() as u32);
        builder.store(&text);
        builder.splice(&zstd::bulk::compress(&text, 3).unwrap());
        builder.finish(&[&text[..], &text].concat());
        let taken = Pieces::default().take(&mut Decompressor::new().unwrap(), &frame, 2 * text.len());
        assert_eq!(taken, Err(Refusal::Whole));
    }
}
