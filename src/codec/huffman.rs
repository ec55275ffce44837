//! Huffman coding of bytes as blocks of a zstd frame without matches (RFC 8878, sections 3.1.1.3.1 and 4.2).
//!
//! One code serves all blocks of a plane: the first block describes it, the others refer to it. Symbols are counted, and
//! looked up, in pairs. The lengths of the code are Huffman's, by the two queues of van Leeuwen's algorithm; where a code
//! would get too long, the counts are flattened and it is made again.

use super::frame::{Builder, MAX_BLOCK};

/// The longest code that zstd takes for literals, in bits.
const MAX_BITS: u32 = 11;
/// Plainly stated weights are those of the symbols below this; the weight of the last symbol follows from them.
const MAX_SYMBOLS: usize = 129;
/// What stands before the streams of a block's literals: their two sizes.
const LITERALS_HEADER: usize = 5;
/// Sizes of the first three of four streams.
const JUMP_TABLE: usize = 6;
/// A shorter block is stored.
const MIN_BLOCK: usize = 1024;

/// The code of one symbol, or of two: the bits, and how many.
#[derive(Debug, Clone, Copy, Default)]
struct Code {
    bits: u32,
    len: u32,
}

impl Code {
    /// Puts this code after another that is read first.
    fn after(self, first: Self) -> Self {
        Self { bits: self.bits << first.len | first.bits, len: self.len + first.len }
    }
}

/// A coder and its tables.
pub(super) struct Huffman {
    /// For two bytes, the later one higher: first how often they occur, then the code of both, with its length in the
    /// highest byte.
    pairs: Box<[u32; 1 << 16]>,
    /// Room for a block, and for what the writing of its last bits may touch behind it.
    block: Vec<u8>,
}

/// The code of a plane.
struct Table {
    /// How many bits of code each symbol takes; none if it does not occur.
    lens: [u32; 256],
    /// The highest symbol that occurs.
    last: usize,
}

impl Huffman {
    pub(super) fn new() -> Self {
        let pairs: Box<[u32]> = vec![0; 1 << 16].into();
        // The length is that of the array.
        let pairs = pairs.try_into().unwrap_or_else(|_| Box::new([0; 1 << 16]));
        Self { pairs, block: vec![0; MAX_BLOCK * MAX_BITS as usize / 8 + 256] }
    }

    /// How many bytes [`Huffman::encode`] makes of these, give or take a few; `None` if it does not take them.
    pub(super) fn encoded_len(&mut self, bytes: &[u8]) -> Option<usize> {
        let counts = self.count(bytes);
        Some(Table::new(&counts)?.encoded_len(&counts, bytes.len()))
    }

    /// Adds the bytes to a frame, coded. Adds nothing, and says so with `false`, if there are too many symbols, or just
    /// one, or if it would not make the bytes shorter.
    pub(super) fn encode(&mut self, bytes: &[u8], builder: &mut Builder<'_>) -> bool {
        let counts = self.count(bytes);
        let Some(table) = Table::new(&counts) else { return false };
        if table.encoded_len(&counts, bytes.len()) >= bytes.len() {
            return false;
        }
        self.fill(&table.codes());
        let mut tree = Some(table.describe());
        for block in bytes.chunks(MAX_BLOCK) {
            if block.len() < MIN_BLOCK {
                builder.store(block);
                continue;
            }
            let described = tree.as_deref().unwrap_or_default();
            match self.write(block, described) {
                Some(len) => {
                    builder.compressed(&self.block[..len]);
                    tree = None;
                }
                None => builder.store(block),
            }
        }
        true
    }

    /// Counts symbols.
    fn count(&mut self, bytes: &[u8]) -> [u32; 256] {
        // To go through the table of pairs takes longer than to go through so few bytes.
        const FEW: usize = 64 * 1024;
        if bytes.len() < FEW {
            let mut counts = [0; 256];
            bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
            return counts;
        }
        self.pairs.fill(0);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            let word = u64::from_le_bytes(*word);
            for at in 0..4 {
                self.pairs[usize::from((word >> (16 * at)) as u16)] += 1;
            }
        }
        let mut counts = [0; 256];
        for (high, row) in self.pairs.as_chunks::<256>().0.iter().enumerate() {
            counts[high] += row.iter().sum::<u32>();
            counts.iter_mut().zip(row).for_each(|(count, pairs)| *count += pairs);
        }
        rest.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        counts
    }

    /// Fills the table of pairs.
    fn fill(&mut self, codes: &[Code; 256]) {
        for (high, second) in codes.iter().enumerate().filter(|(_, code)| code.len > 0) {
            for (low, first) in codes.iter().enumerate().filter(|(_, code)| code.len > 0) {
                // Streams are read from their end, so the later symbol is written first.
                let both = first.after(*second);
                self.pairs[high << 8 | low] = both.len << 24 | both.bits;
            }
        }
    }

    /// Makes a block's body and gives its length; `None` if it is no shorter than the block.
    fn write(&mut self, block: &[u8], tree: &[u8]) -> Option<usize> {
        const COMPRESSED: u64 = 2;
        const TREELESS: u64 = 3;
        const FOUR_STREAMS: u64 = 3;
        let Self { pairs, block: out } = self;
        let start = LITERALS_HEADER + tree.len();
        out[LITERALS_HEADER..start].copy_from_slice(tree);
        let mut at = start + JUMP_TABLE;
        for (number, part) in block.chunks(block.len().div_ceil(4)).enumerate() {
            let len = write_stream(pairs, part, &mut out[at..]);
            if number < 3 {
                out[start + 2 * number..][..2].copy_from_slice(&u16::try_from(len).ok()?.to_le_bytes());
            }
            at += len;
        }
        let kind = if tree.is_empty() { TREELESS } else { COMPRESSED };
        let size = (at - LITERALS_HEADER) as u64;
        let header = kind | FOUR_STREAMS << 2 | (block.len() as u64) << 4 | size << 22;
        out[..LITERALS_HEADER].copy_from_slice(&header.to_le_bytes()[..LITERALS_HEADER]);
        // No sequences.
        out[at] = 0;
        (at + 1 < block.len()).then_some(at + 1)
    }
}

/// Writes one stream, the last symbol first, and gives its length.
fn write_stream(pairs: &[u32; 1 << 16], symbols: &[u8], out: &mut [u8]) -> usize {
    let code = |first, second| {
        let both = pairs[usize::from(u16::from_le_bytes([first, second]))];
        (u64::from(both & 0xff_ffff), both >> 24)
    };
    let (mut word, mut filled, mut at) = (0u64, 0u32, 0usize);
    let mut put = |bits: u64, len: u32| {
        word |= bits << filled;
        filled += len;
        out[at..at + 8].copy_from_slice(&word.to_le_bytes());
        at += (filled / 8) as usize;
        word >>= filled & !7;
        filled &= 7;
    };
    let (quads, rest) = symbols.as_chunks::<4>();
    for &symbol in rest.iter().rev() {
        // A pair of twice the symbol has its code in the lower half.
        let (bits, len) = code(symbol, symbol);
        put(bits & ((1 << (len / 2)) - 1), len / 2);
    }
    for &[first, second, third, fourth] in quads.iter().rev() {
        let ((low, low_len), (high, high_len)) = (code(third, fourth), code(first, second));
        put(low | high << low_len, low_len + high_len);
    }
    // The highest bit that is set marks the end.
    put(1, 1);
    at + usize::from(filled > 0)
}

impl Table {
    /// The code for symbols that occur so often; `None` if fewer than two do, or one beyond those that can be described.
    fn new(counts: &[u32; 256]) -> Option<Self> {
        let last = counts.iter().rposition(|&count| count > 0)?;
        let mut symbols: Vec<(u32, usize)> = counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(symbol, &count)| (count, symbol))
            .collect();
        if symbols.len() < 2 || last >= MAX_SYMBOLS {
            return None;
        }
        symbols.sort_unstable();
        let mut weights: Vec<u32> = symbols.iter().map(|&(count, _)| count).collect();
        let mut lens = code_lens(&weights);
        while lens.iter().any(|&len| len > MAX_BITS) {
            weights.iter_mut().for_each(|weight| *weight = *weight / 2 + 1);
            lens = code_lens(&weights);
        }
        let mut table = Self { lens: [0; 256], last };
        symbols.iter().zip(lens).for_each(|(&(_, symbol), len)| table.lens[symbol] = len);
        Some(table)
    }

    /// Bytes that the blocks of `len` symbols take, which occur so often each.
    fn encoded_len(&self, counts: &[u32; 256], len: usize) -> usize {
        const AROUND: usize = 3 + LITERALS_HEADER + JUMP_TABLE + 4 + 1;
        let bits: u64 =
            self.lens.iter().zip(counts).map(|(&len, &count)| u64::from(len) * u64::from(count)).sum();
        (bits / 8) as usize + 1 + self.last.div_ceil(2) + len.div_ceil(MAX_BLOCK) * AROUND
    }

    /// Bits of the longest code.
    fn longest(&self) -> u32 {
        self.lens.iter().copied().max().unwrap_or(0)
    }

    /// The codes: of those of one length ascending by symbol, the longest ones lowest.
    fn codes(&self) -> [Code; 256] {
        let mut codes = [Code::default(); 256];
        let mut next = 0;
        for len in (1..=self.longest()).rev() {
            for (symbol, _) in self.lens.iter().enumerate().filter(|(_, its)| **its == len) {
                codes[symbol] = Code { bits: next, len };
                next += 1;
            }
            next >>= 1;
        }
        codes
    }

    /// The weights of all symbols below the last one, four bits each, behind their number.
    fn describe(&self) -> Vec<u8> {
        let longest = self.longest();
        let weight = |symbol: usize| match self.lens[symbol] {
            _ if symbol >= self.last => 0,
            0 => 0,
            len => (longest + 1 - len) as u8,
        };
        let mut described = vec![127 + self.last as u8];
        described.extend((0..self.last).step_by(2).map(|symbol| weight(symbol) << 4 | weight(symbol + 1)));
        described
    }
}

/// The lengths of a Huffman code for two or more weights that ascend.
fn code_lens(weights: &[u32]) -> Vec<u32> {
    let count = weights.len();
    // Leaves first, then the nodes above them, in the order in which they are made, which is that of their weights.
    let mut nodes: Vec<u64> = weights.iter().map(|&weight| weight.into()).collect();
    let mut parents = vec![0; 2 * count - 1];
    let (mut leaf, mut inner) = (0, count);
    for made in count..2 * count - 1 {
        let mut sum = 0;
        for _ in 0..2 {
            let is_leaf = leaf < count && (inner >= made || nodes[leaf] <= nodes[inner]);
            let next = if is_leaf { &mut leaf } else { &mut inner };
            sum += nodes[*next];
            parents[*next] = made;
            *next += 1;
        }
        nodes.push(sum);
    }
    let mut depths = vec![0; 2 * count - 1];
    for node in (0..2 * count - 2).rev() {
        depths[node] = depths[parents[node]] + 1;
    }
    depths.truncate(count);
    depths
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        let mut builder = Builder::new(&mut frame, bytes.len() as u32);
        let is_coded = Huffman::new().encode(bytes, &mut builder);
        builder.finish(bytes);
        is_coded.then_some(frame)
    }

    fn decoded(frame: &[u8], len: usize) -> Vec<u8> {
        zstd::bulk::decompress(frame, len).unwrap()
    }

    proptest! {
        #[test]
        fn zstd_decodes_what_is_coded(
            shape in prop::collection::vec(0u32..2000, 2..129),
            len in 0usize..300_000,
            mut state in 1u64..,
        ) {
            let total: u32 = shape.iter().sum::<u32>().max(1);
            let mut symbol = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let mut left = (state >> 33) as u32 % total;
                shape.iter().position(|&count| {
                    let is_here = left < count;
                    left = left.saturating_sub(count);
                    is_here
                }).unwrap_or(0) as u8
            };
            let bytes: Vec<u8> = (0..len).map(|_| symbol()).collect();
            if let Some(frame) = encoded(&bytes) {
                prop_assert!(frame.len() < bytes.len() + 20);
                prop_assert_eq!(decoded(&frame, len), bytes);
            }
        }
    }

    #[test]
    fn codes_are_no_longer_than_zstd_allows() {
        // Fibonacci's numbers make the longest codes.
        let (mut one, mut other) = (1, 1);
        let mut bytes = Vec::new();
        for symbol in 0..24 {
            bytes.extend(vec![symbol; one]);
            (one, other) = (other, one + other);
        }
        let frame = encoded(&bytes).unwrap();
        assert_eq!(decoded(&frame, bytes.len()), bytes);
        assert!(frame.len() < bytes.len() / 2);
    }

    #[test]
    fn lengths_are_those_of_huffman() {
        assert_eq!(code_lens(&[1, 1]), [1, 1]);
        assert_eq!(code_lens(&[1, 1, 2, 4, 8]), [4, 4, 3, 2, 1]);
        assert_eq!(code_lens(&[3, 3, 3, 3]), [2, 2, 2, 2]);
    }

    #[test]
    fn what_cannot_be_coded_is_refused() {
        assert!(encoded(&[]).is_none());
        assert!(encoded(&[5; 10_000]).is_none());
        assert!(encoded(&(0..=255).cycle().take(10_000).collect::<Vec<u8>>()).is_none());
        let beyond: Vec<u8> = (0..10_000).map(|at| if at % 50 == 0 { 129 } else { 7 }).collect();
        assert!(encoded(&beyond).is_none());
        assert!(encoded(&beyond.iter().map(|byte| byte - 1).collect::<Vec<u8>>()).is_some());
    }
}
