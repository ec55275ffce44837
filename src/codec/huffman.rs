//! Huffman coding of bytes as blocks of a zstd frame without matches (RFC 8878, sections 3.1.1.3.1 and 4.2).
//!
//! Each block has a code of its own, since weights differ from row to row. Symbols are counted, and looked up, in pairs. The code is
//! the best of those whose lengths zstd takes.

use multiversion::multiversion;

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

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Added,
    /// Coded it would be no shorter.
    NotShorter,
    /// It has symbols that cannot be described here, or just one.
    Refused,
}

/// The code of one symbol, or of two: the bits, and how many.
#[derive(Debug, Clone, Copy, Default)]
struct Code {
    bits: u32,
    len: u32,
}

impl Code {
    /// Puts this code after another that is written first: streams are read from their end, so that is the later symbol's.
    #[inline(always)]
    fn after(self, first: Self) -> Self {
        Self { bits: self.bits << first.len | first.bits, len: self.len + first.len }
    }

    /// The length in the highest byte, the bits in the others.
    fn packed(self) -> u32 {
        self.len << 24 | self.bits
    }

    #[inline(always)]
    fn unpacked(packed: u32) -> Self {
        Self { bits: packed & 0xff_ffff, len: packed >> 24 }
    }
}

/// A coder and its tables.
pub(super) struct Huffman {
    /// For two bytes, the later one higher: first how often they occur, then the code of both, with its length in the
    /// highest byte.
    pairs: Box<[u32; 1 << 16]>,
    /// Room for a block, and for what the writing of its last bits may touch behind it.
    block: Vec<u8>,
    /// Room for a stream that is written beside another.
    beside: Vec<u8>,
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
        let room = |len: usize| vec![0; len * MAX_BITS as usize / 8 + 256];
        Self { pairs, block: room(MAX_BLOCK), beside: room(MAX_BLOCK / 4) }
    }

    /// How many bytes [`Huffman::encode`] makes of these, give or take a few; `None` if it refuses them.
    pub(super) fn encoded_len(&mut self, bytes: &[u8]) -> Option<usize> {
        let counts = self.count(bytes)?;
        Some(Table::new(&counts)?.encoded_len(&counts, bytes.len()))
    }

    /// Adds a block to a frame, coded, if that makes it shorter.
    pub(super) fn encode(&mut self, block: &[u8], builder: &mut Builder<'_>) -> Outcome {
        if block.len() < MIN_BLOCK {
            return Outcome::NotShorter;
        }
        let Some(counts) = self.count(block) else { return Outcome::Refused };
        let Some(table) = Table::new(&counts) else { return Outcome::Refused };
        if table.encoded_len(&counts, block.len()) >= block.len() {
            return Outcome::NotShorter;
        }
        match self.write(block, &table) {
            Some(len) => {
                builder.compressed(&self.block[..len]);
                Outcome::Added
            }
            None => Outcome::NotShorter,
        }
    }

    /// Counts symbols; `None` if there is one beyond those that can be described.
    fn count(&mut self, bytes: &[u8]) -> Option<[u32; 256]> {
        // To go through the table of pairs takes longer than to go through so few bytes.
        const FEW: usize = 32 * 1024;
        let last = usize::from(bytes.iter().fold(0, |last, &byte| byte.max(last)));
        if last >= MAX_SYMBOLS {
            return None;
        }
        let mut counts = [0; 256];
        let (words, mut rest) = bytes.as_chunks::<8>();
        if bytes.len() < FEW {
            rest = bytes;
        } else {
            let pairs = &mut self.pairs[..(last + 1) << 8];
            pairs.fill(0);
            for word in words {
                let word = u64::from_le_bytes(*word);
                for at in 0..4 {
                    pairs[usize::from((word >> (16 * at)) as u16)] += 1;
                }
            }
            for (high, row) in pairs.as_chunks::<256>().0.iter().enumerate() {
                counts[high] += row.iter().sum::<u32>();
                counts.iter_mut().zip(row).for_each(|(count, pairs)| *count += pairs);
            }
        }
        rest.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
        Some(counts)
    }

    /// Fills the table of pairs.
    fn fill(&mut self, codes: &[Code; 256]) {
        for (high, second) in codes.iter().enumerate().filter(|(_, code)| code.len > 0) {
            for (low, first) in codes.iter().enumerate().filter(|(_, code)| code.len > 0) {
                self.pairs[high << 8 | low] = first.after(*second).packed();
            }
        }
    }

    /// Makes a block's body and gives its length; `None` if it is no shorter than the block.
    fn write(&mut self, block: &[u8], table: &Table) -> Option<usize> {
        // With more symbols, the pairs take longer to fill in than they save, and too much of the cache.
        const MAX_PAIRED: usize = 48;
        const COMPRESSED: u64 = 2;
        const FOUR_STREAMS: u64 = 3;
        let (tree, codes) = (table.describe(), table.codes());
        let is_paired = codes.iter().filter(|code| code.len > 0).count() <= MAX_PAIRED;
        if is_paired {
            self.fill(&codes);
        }
        let Self { pairs, block: out, beside } = self;
        let singles = codes.map(Code::packed);
        let start = LITERALS_HEADER + tree.len();
        out[LITERALS_HEADER..start].copy_from_slice(&tree);
        let mut at = start + JUMP_TABLE;
        let mut lens = [0; 4];
        // Two at a time, since neither waits for the other's bits.
        let part = block.len().div_ceil(4);
        for (number, two) in block.chunks(2 * part).enumerate() {
            let (first, second) = two.split_at(part);
            let (symbols, places) = ([first, second], [&mut out[at..], &mut beside[..]]);
            let [len, len_beside] = match is_paired {
                true => write_paired(pairs, symbols, places),
                false => write_single(&singles, symbols, places),
            };
            out[at + len..][..len_beside].copy_from_slice(&beside[..len_beside]);
            at += len + len_beside;
            (lens[2 * number], lens[2 * number + 1]) = (len, len_beside);
        }
        for (place, len) in out[start..].chunks_mut(2).zip(&lens[..3]) {
            place.copy_from_slice(&u16::try_from(*len).ok()?.to_le_bytes());
        }
        let size = (at - LITERALS_HEADER) as u64;
        let header = COMPRESSED | FOUR_STREAMS << 2 | (block.len() as u64) << 4 | size << 22;
        out[..LITERALS_HEADER].copy_from_slice(&header.to_le_bytes()[..LITERALS_HEADER]);
        // No sequences.
        out[at] = 0;
        (at + 1 < block.len()).then_some(at + 1)
    }
}

/// A stream of bits in the making.
struct Stream<'o> {
    out: &'o mut [u8],
    word: u64,
    /// Bits of the word that are in use.
    filled: u32,
    at: usize,
}

impl<'o> Stream<'o> {
    fn new(out: &'o mut [u8]) -> Self {
        Self { out, word: 0, filled: 0, at: 0 }
    }

    /// Adds up to 56 bits.
    #[inline(always)]
    fn put(&mut self, bits: u64, len: u32) {
        self.word |= bits << self.filled;
        self.filled += len;
        self.out[self.at..self.at + 8].copy_from_slice(&self.word.to_le_bytes());
        self.at += (self.filled / 8) as usize;
        self.word >>= self.filled & !7;
        self.filled &= 7;
    }

    /// Adds eight symbols, the last one first.
    #[inline(always)]
    fn put_eight(&mut self, codes: &impl Codes, &[a, b, c, d, e, f, g, h]: &[u8; 8]) {
        let (later, later_len) = four(codes, [e, f, g, h]);
        let (earlier, earlier_len) = four(codes, [a, b, c, d]);
        if later_len + earlier_len <= 56 {
            self.put(later | earlier << later_len, later_len + earlier_len);
        } else {
            self.put(later, later_len);
            self.put(earlier, earlier_len);
        }
    }

    /// Adds one symbol.
    #[inline(always)]
    fn put_one(&mut self, codes: &impl Codes, symbol: u8) {
        // The code of twice a symbol has that of one in its lower half.
        let Code { bits, len } = codes.two(symbol, symbol);
        self.put(u64::from(bits) & ((1 << (len / 2)) - 1), len / 2);
    }

    /// Ends the stream and gives its length.
    #[inline(always)]
    fn end(mut self) -> usize {
        // The highest bit that is set marks the end.
        self.put(1, 1);
        self.at + usize::from(self.filled > 0)
    }
}

/// Where the code of two symbols is looked up. No closure, since those are not compiled for the vectors of a function that is.
trait Codes {
    fn two(&self, first: u8, second: u8) -> Code;
}

impl Codes for [u32; 1 << 16] {
    #[inline(always)]
    fn two(&self, first: u8, second: u8) -> Code {
        Code::unpacked(self[usize::from(u16::from_le_bytes([first, second]))])
    }
}

impl Codes for [u32; 256] {
    #[inline(always)]
    fn two(&self, first: u8, second: u8) -> Code {
        Code::unpacked(self[usize::from(first)]).after(Code::unpacked(self[usize::from(second)]))
    }
}

/// The code of four symbols, up to 44 bits, and its length.
#[inline(always)]
fn four(codes: &impl Codes, [first, second, third, fourth]: [u8; 4]) -> (u64, u32) {
    let (high, low) = (codes.two(first, second), codes.two(third, fourth));
    (u64::from(low.bits) | u64::from(high.bits) << low.len, low.len + high.len)
}

#[multiversion(targets("x86_64+avx2+bmi2"))]
fn write_paired(pairs: &[u32; 1 << 16], symbols: [&[u8]; 2], out: [&mut [u8]; 2]) -> [usize; 2] {
    write_streams(pairs, symbols, out)
}

#[multiversion(targets("x86_64+avx2+bmi2"))]
fn write_single(singles: &[u32; 256], symbols: [&[u8]; 2], out: [&mut [u8]; 2]) -> [usize; 2] {
    write_streams(singles, symbols, out)
}

/// Writes two streams, each from its last symbol on, and gives their lengths. The first has at least as many symbols.
#[inline(always)]
fn write_streams(codes: &impl Codes, symbols: [&[u8]; 2], out: [&mut [u8]; 2]) -> [usize; 2] {
    let [out, out_beside] = out;
    let (mut one, mut other) = (Stream::new(out), Stream::new(out_beside));
    let (eights, rest) = symbols[0].as_chunks::<8>();
    let (other_eights, other_rest) = symbols[1].as_chunks::<8>();
    for &symbol in rest.iter().rev() {
        one.put_one(codes, symbol);
    }
    for &symbol in other_rest.iter().rev() {
        other.put_one(codes, symbol);
    }
    let (early, eights) = eights.split_at(eights.len() - other_eights.len());
    for (eight, other_eight) in eights.iter().zip(other_eights).rev() {
        one.put_eight(codes, eight);
        other.put_eight(codes, other_eight);
    }
    for eight in early.iter().rev() {
        one.put_eight(codes, eight);
    }
    [one.end(), other.end()]
}

impl Table {
    /// The code for symbols that occur so often, none beyond those that can be described; `None` if fewer than two do.
    fn new(counts: &[u32; 256]) -> Option<Self> {
        let last = counts.iter().rposition(|&count| count > 0)?;
        let mut symbols: Vec<(u32, usize)> = counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(symbol, &count)| (count, symbol))
            .collect();
        if symbols.len() < 2 {
            return None;
        }
        symbols.sort_unstable();
        let weights: Vec<u32> = symbols.iter().map(|&(count, _)| count).collect();
        let mut table = Self { lens: [0; 256], last };
        symbols.iter().zip(code_lens(&weights)).for_each(|(&(_, symbol), len)| table.lens[symbol] = len);
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

/// The lengths of the best code for weights that ascend, two or more and at most `2^MAX_BITS`, of which none is longer than
/// `MAX_BITS`.
///
/// This is the package-merge algorithm (Larmore and Hirschberg, A fast algorithm for optimal length-limited Huffman codes,
/// 1990). From the longest length down, the coins of one length are its leaves, one for each weight, and packages of two
/// coins each of the length before; the cheapest coins of the shortest length are taken, and with a package what is in it. A
/// weight's code is as long as the number of lengths of which its leaf is taken.
fn code_lens(weights: &[u32]) -> Vec<u32> {
    const LEVELS: usize = MAX_BITS as usize;
    let mut is_leaf: [Vec<bool>; LEVELS] = Default::default();
    let mut coins: Vec<u64> = Vec::new();
    for level in &mut is_leaf {
        let packages: Vec<u64> = coins.as_chunks::<2>().0.iter().map(|pair| pair[0] + pair[1]).collect();
        let (mut leaves, mut packages) = (weights.iter().peekable(), packages.into_iter().peekable());
        coins.clear();
        loop {
            let takes_leaf = match (leaves.peek(), packages.peek()) {
                (Some(&&leaf), Some(&package)) => u64::from(leaf) <= package,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            let leaf = if takes_leaf { leaves.next().map(|&leaf| u64::from(leaf)) } else { None };
            coins.extend(leaf.or_else(|| packages.next()));
            level.push(takes_leaf);
        }
    }
    let mut lens = vec![0; weights.len()];
    let mut taken = 2 * weights.len() - 2;
    for level in is_leaf.iter().rev() {
        let leaves = level[..taken].iter().filter(|is_leaf| **is_leaf).count();
        lens[..leaves].iter_mut().for_each(|len| *len += 1);
        taken = 2 * (taken - leaves);
    }
    lens
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        let mut builder = Builder::new(&mut frame, bytes.len() as u32);
        let mut huffman = Huffman::new();
        let mut is_coded = false;
        for block in bytes.chunks(MAX_BLOCK) {
            let outcome = huffman.encode(block, &mut builder);
            is_coded |= outcome == Outcome::Added;
            if outcome != Outcome::Added {
                builder.store(block);
            }
        }
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
    fn lengths_are_the_best_within_the_limit() {
        assert_eq!(code_lens(&[1, 1]), [1, 1]);
        assert_eq!(code_lens(&[1, 1, 2, 4, 8]), [4, 4, 3, 2, 1]);
        assert_eq!(code_lens(&[3, 3, 3, 3]), [2, 2, 2, 2]);
        assert_eq!(code_lens(&[0, 0, 1]), [2, 2, 1]);
        // Without a limit they would be 1 to 19 bits long.
        let lens = code_lens(&(0..20).map(|at| 1 << at).collect::<Vec<_>>());
        assert_eq!(lens.iter().max(), Some(&MAX_BITS));
        assert!(lens.is_sorted_by(|before, after| before >= after) && lens[19] == 1 && lens[18] == 2);
        for weights in [vec![1; 129], (1..100).collect(), (0..11).map(|at| 3u32.pow(at)).collect()] {
            let lens = code_lens(&weights);
            let used: u32 = lens.iter().map(|&len| 1 << (MAX_BITS - len)).sum();
            assert_eq!(used, 1 << MAX_BITS, "{lens:?}");
        }
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
