//! The filters: rearrangements of a chunk that bring together the bytes that compress.
//!
//! Byte shuffling is that of HDF5 and Blosc. Rotating the sign below the mantissa, so that an exponent fills
//! the top byte of a bfloat16 and stands apart in the wider floats, is what makes an order-0 entropy coder
//! enough for weights. `delta` is zigzag-coded differencing as in Protocol Buffers' `sint`, then shuffled.
//!
//! All work runs block by block through a small buffer of whole elements: each pass is a plain loop over
//! slices of equal length, which the compiler turns into vector code, and the block stays in the first cache.

use std::ffi::CStr;

use crate::dtype::{Class, DType, Name};

/// What the writer does to a chunk before compressing it. Its number is the code that C knows it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Filter {
    /// Nothing.
    None = 1,
    /// All first bytes of the elements, then all second bytes, and so on.
    Shuffle,
    /// Each element rotated left by one bit, then shuffled.
    Float,
    /// Each element replaced by its zigzag-coded difference from the one before, then shuffled.
    Delta,
}

/// Elements in one block.
const BLOCK: usize = 1024;

impl Filter {
    const ALL: [Filter; 4] = [Filter::None, Filter::Shuffle, Filter::Float, Filter::Delta];
    const NAMES: [Name; 4] =
        [Name::new(c"none"), Name::new(c"shuffle"), Name::new(c"float"), Name::new(c"delta")];

    /// Every filter, in the order of the codes.
    pub fn all() -> impl ExactSizeIterator<Item = Filter> {
        Self::ALL.into_iter()
    }

    /// The filter's name in the index.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize - 1].text
    }

    /// The filter's name in the index, for C.
    pub(crate) fn c_name(self) -> &'static CStr {
        Self::NAMES[self as usize - 1].c
    }

    /// The filter of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|filter| filter.name() == name)
    }

    /// Whether the filter is defined for elements of `width` bytes.
    pub fn takes(self, width: usize) -> bool {
        match self {
            Self::None | Self::Shuffle => true,
            Self::Float => matches!(width, 2 | 4 | 8),
            Self::Delta => matches!(width, 1 | 2 | 4 | 8),
        }
    }

    /// The filter that the writer chooses for a component.
    pub fn choose(dtype: DType, is_sparse_index: bool) -> Self {
        match (dtype.class(), dtype.filter_width()) {
            _ if is_sparse_index => Self::Delta,
            (_, 1) => Self::None,
            (Class::Float | Class::Complex, _) => Self::Float,
            _ => Self::Shuffle,
        }
    }

    /// Filters `raw`, whose elements have `width` bytes, into `out` of the same length.
    pub fn apply(self, width: usize, raw: &[u8], out: &mut [u8]) {
        match (self, width) {
            (Self::None, _) | (Self::Shuffle, 1) => out.copy_from_slice(raw),
            (Self::Shuffle, 2) => split::<u16, 2>(raw, out, |_| {}),
            (Self::Shuffle, 4) => split::<u32, 4>(raw, out, |_| {}),
            (Self::Shuffle, 8) => split::<u64, 8>(raw, out, |_| {}),
            (Self::Shuffle, _) => split_any(width, raw, out),
            (Self::Float, 2) => {
                split::<u16, 2>(raw, out, |block| block.iter_mut().for_each(|w| *w = w.rotate_left(1)))
            }
            (Self::Float, 4) => {
                split::<u32, 4>(raw, out, |block| block.iter_mut().for_each(|w| *w = w.rotate_left(1)))
            }
            (Self::Float, _) => {
                split::<u64, 8>(raw, out, |block| block.iter_mut().for_each(|w| *w = w.rotate_left(1)))
            }
            (Self::Delta, 1) => split::<u8, 1>(raw, out, difference::<u8>(0)),
            (Self::Delta, 2) => split::<u16, 2>(raw, out, difference::<u16>(0)),
            (Self::Delta, 4) => split::<u32, 4>(raw, out, difference::<u32>(0)),
            (Self::Delta, _) => split::<u64, 8>(raw, out, difference::<u64>(0)),
        }
    }

    /// Undoes [`Filter::apply`].
    pub fn undo(self, width: usize, filtered: &[u8], out: &mut [u8]) {
        match (self, width) {
            (Self::None, _) | (Self::Shuffle, 1) => out.copy_from_slice(filtered),
            (Self::Shuffle, 2) => join::<u16, 2>(filtered, out, |_| {}),
            (Self::Shuffle, 4) => join::<u32, 4>(filtered, out, |_| {}),
            (Self::Shuffle, 8) => join::<u64, 8>(filtered, out, |_| {}),
            (Self::Shuffle, _) => join_any(width, filtered, out),
            (Self::Float, 2) => {
                join::<u16, 2>(filtered, out, |block| block.iter_mut().for_each(|w| *w = w.rotate_right(1)))
            }
            (Self::Float, 4) => {
                join::<u32, 4>(filtered, out, |block| block.iter_mut().for_each(|w| *w = w.rotate_right(1)))
            }
            (Self::Float, _) => {
                join::<u64, 8>(filtered, out, |block| block.iter_mut().for_each(|w| *w = w.rotate_right(1)))
            }
            (Self::Delta, 1) => join::<u8, 1>(filtered, out, sum::<u8>(0)),
            (Self::Delta, 2) => join::<u16, 2>(filtered, out, sum::<u16>(0)),
            (Self::Delta, 4) => join::<u32, 4>(filtered, out, sum::<u32>(0)),
            (Self::Delta, _) => join::<u64, 8>(filtered, out, sum::<u64>(0)),
        }
    }
}

/// An unsigned integer of `WIDTH` bytes.
trait Word<const WIDTH: usize>: Copy + Default {
    fn from_le(bytes: [u8; WIDTH]) -> Self;
    fn to_le(self) -> [u8; WIDTH];
    /// The byte that stands `at` bytes above the lowest.
    fn byte(self, at: usize) -> u8;
    /// This word with `byte` put where a zero byte stood.
    fn with(self, byte: u8, at: usize) -> Self;
}

/// Wrapping differences and their zigzag code.
trait Zigzag: Copy {
    fn encode(self, previous: Self) -> Self;
    fn decode(self, previous: Self) -> Self;
}

macro_rules! word {
    ($($type:ty),+) => { $(
        impl Word<{ size_of::<$type>() }> for $type {
            #[inline(always)]
            fn from_le(bytes: [u8; size_of::<$type>()]) -> Self {
                <$type>::from_le_bytes(bytes)
            }

            #[inline(always)]
            fn to_le(self) -> [u8; size_of::<$type>()] {
                self.to_le_bytes()
            }

            #[inline(always)]
            fn byte(self, at: usize) -> u8 {
                (self >> (8 * at)) as u8
            }

            #[inline(always)]
            fn with(self, byte: u8, at: usize) -> Self {
                self | (<$type>::from(byte) << (8 * at))
            }
        }

        impl Zigzag for $type {
            #[inline(always)]
            fn encode(self, previous: Self) -> Self {
                let difference = self.wrapping_sub(previous);
                (difference << 1) ^ (0 as $type).wrapping_sub(difference >> (<$type>::BITS - 1))
            }

            #[inline(always)]
            fn decode(self, previous: Self) -> Self {
                previous.wrapping_add((self >> 1) ^ (0 as $type).wrapping_sub(self & 1))
            }
        }
    )+ };
}

word!(u8, u16, u32, u64);

fn difference<W: Zigzag>(mut previous: W) -> impl FnMut(&mut [W]) {
    move |block| {
        for word in block {
            let value = *word;
            *word = value.encode(previous);
            previous = value;
        }
    }
}

fn sum<W: Zigzag>(mut previous: W) -> impl FnMut(&mut [W]) {
    move |block| {
        for word in block {
            *word = word.decode(previous);
            previous = *word;
        }
    }
}

/// Reads whole elements, changes each block of them, and writes their bytes to `WIDTH` planes.
fn split<W: Word<WIDTH>, const WIDTH: usize>(raw: &[u8], out: &mut [u8], mut change: impl FnMut(&mut [W])) {
    let (elements, tail) = raw.as_chunks::<WIDTH>();
    let (planes, rest) = out.split_at_mut(elements.len() * WIDTH);
    rest.copy_from_slice(tail);
    let mut buffer = [W::default(); BLOCK];
    for (number, chunk) in elements.chunks(BLOCK).enumerate() {
        let block = &mut buffer[..chunk.len()];
        for (word, bytes) in block.iter_mut().zip(chunk) {
            *word = W::from_le(*bytes);
        }
        change(block);
        for at in 0..WIDTH {
            let plane = &mut planes[at * elements.len() + number * BLOCK..][..chunk.len()];
            for (byte, word) in plane.iter_mut().zip(block.iter()) {
                *byte = word.byte(at);
            }
        }
    }
}

/// Reads `WIDTH` planes, changes each block of elements, and writes whole elements.
fn join<W: Word<WIDTH>, const WIDTH: usize>(
    filtered: &[u8],
    out: &mut [u8],
    mut change: impl FnMut(&mut [W]),
) {
    let (elements, rest) = out.as_chunks_mut::<WIDTH>();
    let count = elements.len();
    let (planes, tail) = filtered.split_at(count * WIDTH);
    rest.copy_from_slice(tail);
    let mut buffer = [W::default(); BLOCK];
    for (number, chunk) in elements.chunks_mut(BLOCK).enumerate() {
        let block = &mut buffer[..chunk.len()];
        block.fill(W::default());
        for at in 0..WIDTH {
            let plane = &planes[at * count + number * BLOCK..][..chunk.len()];
            for (word, byte) in block.iter_mut().zip(plane) {
                *word = word.with(*byte, at);
            }
        }
        change(block);
        for (bytes, word) in chunk.iter_mut().zip(block.iter()) {
            *bytes = word.to_le();
        }
    }
}

/// Shuffles elements of a width that no integer has.
fn split_any(width: usize, raw: &[u8], out: &mut [u8]) {
    let count = raw.len() / width;
    let (elements, tail) = raw.split_at(count * width);
    for (number, element) in elements.chunks_exact(width).enumerate() {
        for (at, byte) in element.iter().enumerate() {
            out[at * count + number] = *byte;
        }
    }
    out[count * width..].copy_from_slice(tail);
}

fn join_any(width: usize, filtered: &[u8], out: &mut [u8]) {
    let count = out.len() / width;
    let (elements, rest) = out.split_at_mut(count * width);
    for (number, element) in elements.chunks_exact_mut(width).enumerate() {
        for (at, byte) in element.iter_mut().enumerate() {
            *byte = filtered[at * count + number];
        }
    }
    rest.copy_from_slice(&filtered[count * width..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn undo_gives_back_the_chunk(
            raw in prop::collection::vec(any::<u8>(), 0..9000),
            width in prop::sample::select(vec![1usize, 2, 3, 4, 8, 16]),
        ) {
            for filter in Filter::all().filter(|filter| filter.takes(width)) {
                let mut filtered = vec![0; raw.len()];
                filter.apply(width, &raw, &mut filtered);
                let mut back = vec![0; raw.len()];
                filter.undo(width, &filtered, &mut back);
                prop_assert_eq!(&back, &raw, "{} of {}", filter.name(), width);
            }
        }
    }

    #[test]
    fn bytes_lie_as_the_format_says() {
        let apply = |filter: Filter, width, raw: &[u8]| {
            let mut out = vec![0; raw.len()];
            filter.apply(width, raw, &mut out);
            out
        };
        assert_eq!(apply(Filter::Shuffle, 2, &[1, 2, 3, 4, 9]), [1, 3, 2, 4, 9]);
        assert_eq!(apply(Filter::Shuffle, 3, &[1, 2, 3, 4, 5, 6, 9]), [1, 4, 2, 5, 3, 6, 9]);
        // 0x8001 rotates to 0x0003; the sign ends up lowest.
        assert_eq!(apply(Filter::Float, 2, &[0x01, 0x80]), [0x03, 0x00]);
        // 5, 3, 3 as differences 5, -2, 0 and zigzag-coded 10, 3, 0.
        assert_eq!(apply(Filter::Delta, 2, &[5, 0, 3, 0, 3, 0]), [10, 3, 0, 0, 0, 0]);
        // i16::MIN after i16::MAX wraps: the difference is 1.
        assert_eq!(apply(Filter::Delta, 2, &[0xff, 0x7f, 0x00, 0x80])[1], 2);
    }

    #[test]
    fn the_writers_choice() {
        assert_eq!(Filter::choose(DType::BFloat16, false), Filter::Float);
        assert_eq!(Filter::choose(DType::Complex64, false), Filter::Float);
        assert_eq!(Filter::choose(DType::Int32, false), Filter::Shuffle);
        assert_eq!(Filter::choose(DType::Int32, true), Filter::Delta);
        assert_eq!(Filter::choose(DType::UInt8, false), Filter::None);
        assert_eq!(Filter::choose(DType::Float8E5M2, false), Filter::None);
        for dtype in DType::all() {
            assert!(Filter::choose(dtype, false).takes(dtype.filter_width()), "{}", dtype.name());
        }
    }
}
