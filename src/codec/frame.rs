//! Zstandard frames as bytes (RFC 8878, section 3.1.1): reading headers, and building one frame out of blocks
//! that were compressed apart.
//!
//! A chunk's planes differ so much that each deserves its own treatment, yet the format asks for one
//! standard frame. So blocks are taken out of frames that zstd made of each plane, and set behind each other
//! under a header of our own. That is sound as long as no block leans on what an earlier part left behind:
//! Huffman and FSE tables cannot, since the first block of a frame never repeats a table; the three recent
//! offsets could, so only one part of a frame may hold sequences (see [`has_sequences`]).

use xxhash_rust::xxh64::xxh64;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
pub(super) const MAX_BLOCK: usize = 128 * 1024;
pub(super) const RAW: u32 = 0;
/// Bytes before a block's body.
pub(super) const BLOCK_HEADER: usize = 3;
pub(super) const RLE: u32 = 1;
pub(super) const COMPRESSED: u32 = 2;

/// What a frame's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) content_size: Option<u64>,
    pub(crate) window_size: u64,
    pub(crate) has_checksum: bool,
    /// Bytes of the header, magic number included.
    pub(crate) len: usize,
}

impl Header {
    /// Reads the header at the start of `frame`; `None` if there is none, or it uses a dictionary or a
    /// reserved bit.
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        let (magic, rest) = frame.split_first_chunk::<4>()?;
        let (&descriptor, mut rest) = rest.split_first()?;
        if *magic != MAGIC || descriptor & 0b1011 != 0 {
            return None;
        }
        let single_segment = descriptor & 0x20 != 0;
        let mut window_size = None;
        if !single_segment {
            let (&window, after) = rest.split_first()?;
            let base = 1u64 << (10 + (window >> 3));
            window_size = Some(base + base / 8 * u64::from(window & 7));
            rest = after;
        }
        let content_len = match descriptor >> 6 {
            0 => usize::from(single_segment),
            flag => 1 << flag,
        };
        let mut bytes = [0; 8];
        bytes[..content_len].copy_from_slice(rest.get(..content_len)?);
        let offset = if content_len == 2 { 256 } else { 0 };
        let content_size = (content_len > 0).then(|| u64::from_le_bytes(bytes).saturating_add(offset));
        Some(Self {
            content_size,
            window_size: window_size.or(content_size)?,
            has_checksum: descriptor & 4 != 0,
            len: 4 + 1 + usize::from(!single_segment) + content_len,
        })
    }
}

/// A block inside a frame.
pub(super) struct Block<'a> {
    pub(super) kind: u32,
    pub(super) is_last: bool,
    pub(super) body: &'a [u8],
    /// How often the byte of a block of one byte stands.
    pub(super) repeats: usize,
    /// Bytes of header and body.
    pub(super) len: usize,
}

/// The block that begins here; `None` if the bytes end within it.
pub(super) fn block(bytes: &[u8]) -> Option<Block<'_>> {
    let header = bytes.first_chunk::<BLOCK_HEADER>()?;
    let word = u32::from_le_bytes([header[0], header[1], header[2], 0]);
    let (kind, size) = ((word >> 1) & 3, (word >> 3) as usize);
    let len = BLOCK_HEADER + if kind == RLE { 1 } else { size };
    Some(Block { kind, is_last: word & 1 == 1, body: bytes.get(BLOCK_HEADER..len)?, repeats: size, len })
}

/// The blocks of a frame that zstd made without a checksum, each with all its bytes.
fn blocks(frame: &[u8]) -> impl Iterator<Item = (Block<'_>, &[u8])> {
    let start = Header::parse(frame).map_or(frame.len(), |header| header.len);
    let mut rest = &frame[start..];
    std::iter::from_fn(move || {
        let block = block(rest)?;
        let (whole, after) = rest.split_at(block.len);
        rest = after;
        Some((block, whole))
    })
}

/// Puts the blocks that begin here, up to `len` bytes of content, into a frame of their own without a checksum. They are
/// blocks of literals.
pub(super) fn wrap(bytes: &[u8], len: usize, out: &mut Vec<u8>) {
    out.clear();
    let mut builder = Builder::headed(out, len as u32, false);
    let (mut at, mut done) = (0, 0);
    while let Some(block) = block(&bytes[at..]).filter(|_| done < len) {
        builder.whole(&bytes[at..at + block.len]);
        at += block.len;
        done += literals(block.body).map_or(0, |literals| literals.len);
    }
    builder.end();
}

/// Whether any block of a frame holds sequences, that is, matches.
pub(crate) fn has_sequences(frame: &[u8]) -> bool {
    blocks(frame).any(|(block, _)| block.kind == COMPRESSED && literals(block.body).is_none())
}

/// What a compressed block without sequences, that is, matches, holds.
pub(super) struct Literals {
    /// Bytes that it decodes to.
    pub(super) len: usize,
    /// Whether it uses the code of the block before.
    pub(super) is_treeless: bool,
}

/// Reads the header of a compressed block's literals; `None` if sequences follow them.
pub(super) fn literals(body: &[u8]) -> Option<Literals> {
    const TREELESS: u64 = 3;
    let mut bytes = [0; 8];
    let taken = body.len().min(5);
    bytes[..taken].copy_from_slice(&body[..taken]);
    let word = u64::from_le_bytes(bytes);
    let (kind, format) = (word & 3, (word >> 2) & 3);
    let (header, len, stored) = if kind < 2 {
        // Raw or RLE literals: the size of the literals, in 5, 12 or 20 bits.
        let (header, len) = match format {
            0 | 2 => (1, (word >> 3) & 0x1f),
            1 => (2, (word >> 4) & 0xfff),
            _ => (3, (word >> 4) & 0xf_ffff),
        };
        (header, len, if kind == 1 { 1 } else { len })
    } else {
        // Huffman-coded literals: regenerated size, then compressed size, in 10, 14 or 18 bits each.
        let (header, bits) = match format {
            0 | 1 => (3, 10),
            2 => (4, 14),
            _ => (5, 18),
        };
        let mask = (1 << bits) - 1;
        (header, (word >> 4) & mask, (word >> (4 + bits)) & mask)
    };
    // The first byte of what follows counts the sequences.
    let is_end = body.get(header + stored as usize) == Some(&0);
    is_end.then_some(Literals { len: len as usize, is_treeless: kind == TREELESS })
}

/// A frame in the making.
pub(crate) struct Builder<'a> {
    out: &'a mut Vec<u8>,
    /// Where the header of the last block stands.
    last: Option<usize>,
}

impl<'a> Builder<'a> {
    /// Begins a frame of one segment, with a checksum, whose content has `content_size` bytes.
    pub(crate) fn new(out: &'a mut Vec<u8>, content_size: u32) -> Self {
        Self::headed(out, content_size, true)
    }

    fn headed(out: &'a mut Vec<u8>, content_size: u32, has_checksum: bool) -> Self {
        const SINGLE_SEGMENT: u8 = 0x20;
        const CHECKSUM: u8 = 0x04;
        let flags = SINGLE_SEGMENT | if has_checksum { CHECKSUM } else { 0 };
        out.extend_from_slice(&MAGIC);
        match content_size {
            0..256 => out.extend_from_slice(&[flags, content_size as u8]),
            256..65792 => {
                out.push(1 << 6 | flags);
                out.extend_from_slice(&((content_size - 256) as u16).to_le_bytes());
            }
            _ => {
                out.push(2 << 6 | flags);
                out.extend_from_slice(&content_size.to_le_bytes());
            }
        }
        Self { out, last: None }
    }

    fn header(&mut self, kind: u32, size: usize) {
        self.last = Some(self.out.len());
        let word = kind << 1 | (size as u32) << 3;
        self.out.extend_from_slice(&word.to_le_bytes()[..3]);
    }

    /// Adds bytes as they are.
    pub(crate) fn store(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(MAX_BLOCK) {
            self.header(RAW, part.len());
            self.out.extend_from_slice(part);
        }
    }

    /// Adds one byte `len` times.
    pub(crate) fn repeat(&mut self, byte: u8, mut len: usize) {
        while len > 0 {
            let part = len.min(MAX_BLOCK);
            self.header(RLE, part);
            self.out.push(byte);
            len -= part;
        }
    }

    /// Adds `len` bytes, each the same as the one `distance` bytes before: blocks of one match each, without literals.
    /// `bytes` begins with what they are.
    pub(crate) fn copy(&mut self, distance: usize, len: usize, bytes: &[u8]) {
        /// No literals; one sequence; of each of its three numbers only one symbol.
        const HEADER: [u8; 3] = [0, 1, 0b01_01_01_00];
        /// From this length on, a match's symbol and extra bits follow its binary logarithm.
        const MIN_MATCH: usize = 131;
        if len < MIN_MATCH {
            return self.store(&bytes[..len]);
        }
        // All about as long, so that none is too short.
        let count = len.div_ceil(MAX_BLOCK);
        for at in 0..count {
            let len = (at + 1) * len / count - at * len / count;
            let (length, offset) = (len as u64 - 3, distance as u64 + 3);
            let (length_bits, offset_bits) = (length.ilog2(), offset.ilog2());
            // Read from its end: a one, what the offset exceeds its power of two by, what the length does.
            let bits = 1 << (length_bits + offset_bits)
                | (offset - (1 << offset_bits)) << length_bits
                | (length - (1 << length_bits));
            let bits_len = (length_bits + offset_bits) as usize / 8 + 1;
            self.header(COMPRESSED, HEADER.len() + 3 + bits_len);
            self.out.extend_from_slice(&HEADER);
            // The symbols: no literals, the logarithm of the offset, and that of the length.
            self.out.extend_from_slice(&[0, offset_bits as u8, length_bits as u8 + 36]);
            self.out.extend_from_slice(&bits.to_le_bytes()[..bits_len]);
        }
    }

    /// Adds the blocks of a frame that zstd made without a checksum.
    pub(crate) fn splice(&mut self, frame: &[u8]) {
        for (_, whole) in blocks(frame) {
            self.whole(whole);
        }
    }

    /// Adds a block, header and all.
    fn whole(&mut self, block: &[u8]) {
        let at = self.out.len();
        self.out.extend_from_slice(block);
        self.out[at] &= !1;
        self.last = Some(at);
    }

    /// Adds a compressed block that refers to nothing before it in the frame.
    pub(crate) fn compressed(&mut self, body: &[u8]) {
        self.header(COMPRESSED, body.len());
        self.out.extend_from_slice(body);
    }

    /// Ends the frame with its checksum; `content` is what it decodes to.
    pub(crate) fn finish(self, content: &[u8]) {
        self.finish_with(xxh64(content, 0));
    }

    /// Ends the frame with its checksum, given the XXH64 of what it decodes to.
    pub(crate) fn finish_with(mut self, hash: u64) {
        self.end();
        self.out.extend_from_slice(&(hash as u32).to_le_bytes());
    }

    /// Marks the last block.
    fn end(&mut self) {
        if self.last.is_none() {
            self.header(RAW, 0);
        }
        if let Some(at) = self.last {
            self.out[at] |= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(frame: &[u8], len: usize) -> Vec<u8> {
        zstd::bulk::decompress(frame, len).unwrap()
    }

    fn compressed(level: i32, bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, level).unwrap()
    }

    fn text(len: usize) -> Vec<u8> {
        b"the quick brown fox jumps over the lazy dog; ".iter().copied().cycle().take(len).collect()
    }

    #[test]
    fn headers_are_read_as_zstd_writes_them() {
        for len in [0usize, 1, 255, 256, 300, 65791, 65792, 1 << 20, 3 << 20] {
            let frame = compressed(3, &text(len));
            let header = Header::parse(&frame).unwrap();
            assert_eq!(header.content_size, Some(len as u64), "{len}");
            assert!(header.window_size >= len.min(1024) as u64);
        }
        assert_eq!(Header::parse(b"\x28\xb5\x2f\xfd"), None);
        assert_eq!(Header::parse(b"no frame at all"), None);
    }

    #[test]
    fn a_frame_of_parts_decodes_to_their_concatenation() {
        for len in [1usize, 100, 255, 256, 5000, 65_791, 65_792, 300_000] {
            let part = text(len);
            let noise: Vec<u8> = (0..len).map(|at| ((at * at) >> 7) as u8 ^ (at * 31) as u8).collect();
            let content = [&noise[..], &part, &vec![7; len], &noise].concat();
            let mut frame = Vec::new();
            let mut builder = Builder::new(&mut frame, content.len() as u32);
            builder.store(&noise);
            builder.splice(&compressed(19, &part));
            builder.repeat(7, len);
            builder.store(&noise);
            builder.finish(&content);
            assert_eq!(decode(&frame, content.len()), content, "{len}");
            let header = Header::parse(&frame).unwrap();
            assert_eq!((header.content_size, header.has_checksum), (Some(content.len() as u64), true));
            assert_eq!(header.window_size, content.len() as u64);
        }
    }

    #[test]
    fn what_stood_before_is_copied_from_any_distance() {
        for distance in [1usize, 2, 7, 64, 4000, 131_072, 1_000_000] {
            for len in [1usize, 130, 131, 258, 65_538, 131_071, 131_072, 131_073, 262_144 + 5, 3_000_000] {
                let head: Vec<u8> =
                    (0..distance).map(|at| ((at * at) >> 7) as u8 ^ (at * 31) as u8).collect();
                let content: Vec<u8> = head.iter().copied().cycle().take(distance + len).collect();
                let mut frame = Vec::new();
                let mut builder = Builder::new(&mut frame, content.len() as u32);
                builder.store(&head);
                builder.copy(distance, content.len() - distance, &content[distance..]);
                builder.finish(&content);
                assert!(decode(&frame, content.len()) == content, "{distance} {len}");
                assert!(frame.len() < distance + distance / 10_000 + 170 + len / 8000);
                assert_eq!(has_sequences(&frame[..]), len > 130);
            }
        }
    }

    #[test]
    fn a_damaged_frame_does_not_decode() {
        let content = text(5000);
        let mut frame = Vec::new();
        let mut builder = Builder::new(&mut frame, 5000);
        builder.store(&content);
        builder.finish(&content);
        for at in 0..frame.len() {
            let mut damaged = frame.clone();
            damaged[at] ^= 0x10;
            let result = zstd::bulk::decompress(&damaged, 5000);
            assert!(result.is_err() || result.unwrap() == content, "byte {at}");
        }
    }

    #[test]
    fn matches_are_seen() {
        assert!(has_sequences(&compressed(3, &text(100_000))));
        assert!(!has_sequences(&compressed(3, &(0..=255).collect::<Vec<u8>>())));
    }
}
