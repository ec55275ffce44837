//! The filters: rearrangements of a chunk that bring together the bytes that compress.
//!
//! Byte shuffling is that of HDF5 and Blosc. Rotating the sign below the mantissa, so that an exponent fills
//! the top byte of a bfloat16 and stands apart in the wider floats, is what makes an order-0 entropy coder
//! enough for weights. `delta` is zigzag-coded differencing as in Protocol Buffers' `sint`, then shuffled.
//!
//! All work runs block by block through a small buffer of whole elements: each pass is a plain loop over
//! slices of equal length, which the compiler turns into vector code, and the block stays in the first cache.

use std::ffi::CStr;

use multiversion::multiversion;

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
        apply(self, width, raw, out);
    }

    /// Undoes [`Filter::apply`].
    pub fn undo(self, width: usize, filtered: &[u8], out: &mut [u8]) {
        let width = self.planes(width);
        let (planes, tail) = filtered.split_at(out.len() / width * width);
        let end = planes.len();
        if end > 0 {
            let planes: Vec<&[u8]> = planes.chunks(end / width).collect();
            self.join(width, &planes, &mut out[..end]);
        }
        out[end..].copy_from_slice(tail);
        self.finish(width, out);
    }

    /// How many planes it makes of elements of `width` bytes.
    pub(super) fn planes(self, width: usize) -> usize {
        if self == Self::None { 1 } else { width }
    }

    /// Puts elements together whose bytes stand in planes of one length, one for each byte. After the last of them
    /// comes [`Filter::finish`].
    pub(super) fn join(self, width: usize, planes: &[&[u8]], out: &mut [u8]) {
        join(self, width, planes, out);
    }

    /// Does what needs all elements of a chunk, in order.
    pub(super) fn finish(self, width: usize, out: &mut [u8]) {
        match (self, width) {
            (Self::Delta, 1) => sum::<u8, 1>(out),
            (Self::Delta, 2) => sum::<u16, 2>(out),
            (Self::Delta, 4) => sum::<u32, 4>(out),
            (Self::Delta, _) => sum::<u64, 8>(out),
            _ => {}
        }
    }
}

// Made for several generations of processors; the one at hand is asked when the program runs.
#[multiversion(targets("x86_64+avx2+bmi2"))]
fn apply(filter: Filter, width: usize, raw: &[u8], out: &mut [u8]) {
    match (filter, width) {
        (Filter::None, _) | (Filter::Shuffle, 1) => out.copy_from_slice(raw),
        (Filter::Shuffle, 2) => split::<u16, 2>(raw, out, |_| {}),
        (Filter::Shuffle, 4) => split::<u32, 4>(raw, out, |_| {}),
        (Filter::Shuffle, 8) => split::<u64, 8>(raw, out, |_| {}),
        (Filter::Shuffle, _) => split_any(width, raw, out),
        (Filter::Float, 2) => {
            split::<u16, 2>(raw, out, |block| block.iter_mut().for_each(|w| *w = w.rotate_left(1)))
        }
        (Filter::Float, 4) => {
            split::<u32, 4>(raw, out, |block| block.iter_mut().for_each(|w| *w = w.rotate_left(1)))
        }
        (Filter::Float, _) => {
            split::<u64, 8>(raw, out, |block| block.iter_mut().for_each(|w| *w = w.rotate_left(1)))
        }
        (Filter::Delta, 1) => split::<u8, 1>(raw, out, difference::<u8>(0)),
        (Filter::Delta, 2) => split::<u16, 2>(raw, out, difference::<u16>(0)),
        (Filter::Delta, 4) => split::<u32, 4>(raw, out, difference::<u32>(0)),
        (Filter::Delta, _) => split::<u64, 8>(raw, out, difference::<u64>(0)),
    }
}

#[multiversion(targets("x86_64+avx2+bmi2"))]
fn join(filter: Filter, width: usize, planes: &[&[u8]], out: &mut [u8]) {
    match (filter, width) {
        (Filter::Float, 2) => join_2(planes, out, |word| word.rotate_right(1)),
        (Filter::Float, 4) => join_4(planes, out, |word| word.rotate_right(1)),
        (Filter::Float, _) => join_8(planes, out, |word| word.rotate_right(1)),
        (_, 1) => out.copy_from_slice(planes[0]),
        (_, 2) => join_2(planes, out, |word| word),
        (_, 4) => join_4(planes, out, |word| word),
        (_, 8) => join_8(planes, out, |word| word),
        _ => join_any(planes, out),
    }
}

/// An unsigned integer of `WIDTH` bytes.
trait Word<const WIDTH: usize>: Copy + Default {
    fn from_le(bytes: [u8; WIDTH]) -> Self;
    fn to_le(self) -> [u8; WIDTH];
    /// The byte that stands `at` bytes above the lowest.
    fn byte(self, at: usize) -> u8;
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

#[inline(always)]
fn difference<W: Zigzag>(mut previous: W) -> impl FnMut(&mut [W]) {
    move |block| {
        for word in block {
            let value = *word;
            *word = value.encode(previous);
            previous = value;
        }
    }
}

/// Reads whole elements, changes each block of them, and writes their bytes to `WIDTH` planes.
#[inline(always)]
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

/// Makes a function that reads the planes of a type of word, changes each word, and writes whole elements. Each plane has
/// a name of its own, without which the loop does not run on vectors.
macro_rules! join {
    ($join:ident, $word:ty, $($plane:ident $number:literal)+) => {
        #[inline(always)]
        fn $join(planes: &[&[u8]], out: &mut [u8], change: impl Fn($word) -> $word) {
            let elements = out.as_chunks_mut().0;
            $( let $plane = &planes[$number][..elements.len()]; )+
            for (at, element) in elements.iter_mut().enumerate() {
                *element = change(<$word>::from_le_bytes([$( $plane[at] ),+])).to_le_bytes();
            }
        }
    };
}

join!(join_2, u16, a 0 b 1);
join!(join_4, u32, a 0 b 1 c 2 d 3);
join!(join_8, u64, a 0 b 1 c 2 d 3 e 4 f 5 g 6 h 7);

/// Replaces zigzag-coded differences by the elements.
#[inline(always)]
fn sum<W: Word<WIDTH> + Zigzag, const WIDTH: usize>(out: &mut [u8]) {
    let mut previous = W::default();
    for element in out.as_chunks_mut::<WIDTH>().0 {
        previous = W::from_le(*element).decode(previous);
        *element = previous.to_le();
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

fn join_any(planes: &[&[u8]], out: &mut [u8]) {
    for (number, element) in out.chunks_exact_mut(planes.len()).enumerate() {
        for (byte, plane) in element.iter_mut().zip(planes) {
            *byte = plane[number];
        }
    }
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
