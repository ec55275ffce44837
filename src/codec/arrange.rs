//! Raw elements that do not stand in the file as they stand in memory: big-endian ones, and those of the
//! oldest sparse layouts, which interleave values and coordinates.

use crate::error::Result;

/// Where the items of a component stand in the file, counted from its offset.
///
/// Item `at` of block `block` stands at `block * step + at * stride`. In memory the blocks follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrangement {
    /// Bytes of an item.
    pub(crate) width: u8,
    /// Whether each item's bytes stand in reverse.
    pub(crate) swapped: bool,
    /// From one item of a block to the next, in bytes.
    pub(crate) stride: u64,
    /// Items of a block.
    pub(crate) count: u64,
    /// From one block's first item to the next block's, in bytes.
    pub(crate) step: u64,
    /// Bytes of all items.
    pub(crate) len: u64,
}

/// Bytes that are fetched at once.
const PIECE_LEN: u64 = 256 * 1024;

impl Arrangement {
    /// Fills `out` with the component's bytes from `start` on, which is the first byte of an item. `read` fills
    /// its buffer with the file's bytes from a place after the component's offset on.
    pub(crate) fn gather(
        &self,
        start: u64,
        mut out: &mut [u8],
        mut read: impl FnMut(u64, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let width = usize::from(self.width);
        let mut item = start / u64::from(self.width);
        let mut scratch = Vec::new();
        while !out.is_empty() {
            let (block, at) = (item / self.count, item % self.count);
            let items =
                (self.count - at).min((out.len() / width) as u64).min((PIECE_LEN / self.stride).max(1));
            let (now, after) = out.split_at_mut(items as usize * width);
            scratch.resize(((items - 1) * self.stride) as usize + width, 0);
            read(block * self.step + at * self.stride, &mut scratch)?;
            for (to, from) in now.chunks_exact_mut(width).zip(scratch.chunks(self.stride as usize)) {
                to.copy_from_slice(&from[..width]);
                if self.swapped {
                    to.reverse();
                }
            }
            item += items;
            out = after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_and_values_are_taken_apart() {
        // Three records of two coordinates and a value, each of two bytes, the high one first.
        let file: Vec<u8> = (0..9).flat_map(|word: u8| [word, 100 + word]).collect();
        let gather = |arrangement: Arrangement, offset: usize, start, len: usize| {
            let mut out = vec![0; len];
            arrangement
                .gather(start, &mut out, |at, out| {
                    out.copy_from_slice(&file[offset + at as usize..][..out.len()]);
                    Ok(())
                })
                .unwrap();
            out
        };
        let values = Arrangement { width: 2, swapped: false, stride: 6, count: 3, step: 0, len: 6 };
        assert_eq!(gather(values, 4, 0, 6), [2, 102, 5, 105, 8, 108]);
        let coordinates = Arrangement { step: 2, len: 12, swapped: true, ..values };
        assert_eq!(gather(coordinates, 0, 0, 12), [100, 0, 103, 3, 106, 6, 101, 1, 104, 4, 107, 7]);
        assert_eq!(gather(coordinates, 0, 4, 4), [106, 6, 101, 1]);
    }
}
