//! MessagePack, read without a copy and without recursion, and written in its shortest form.
//!
//! An index is millions of small values in fixed places, and opening or finishing a file of small tensors is little else
//! than reading or writing them; so its records are treated here, directly. What may be anything, key-values, is left to
//! rmp-serde.

use crate::error::{Error, ErrorKind, Result, fail};
use crate::metadata::{MAX_DEPTH, Value};

/// How deep values may stand in each other, the index's own records included.
const MAX_NESTING: usize = MAX_DEPTH + 8;

/// Memory of a value, and of an entry of a map with what it takes to look for keys that stand twice.
const VALUE_LEN: usize = size_of::<Value>();
const ENTRY_LEN: usize = size_of::<(String, Value)>() + size_of::<&str>();
/// Memory that a byte of a key may take that is no text, until it is text.
const SPELLED_LEN: usize = 24;

/// A value as it stands in the bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<'a> {
    pub(super) bytes: &'a [u8],
    /// How deep values may stand in it.
    pub(super) depth: usize,
    /// Bytes of memory that it takes as a value of [`crate::metadata`].
    pub(super) memory: usize,
}

/// A place in the bytes.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// Arrays and maps around this place.
    depth: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, depth: 0 }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else { return Err(ended()) };
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn marker(&mut self) -> Result<u8> {
        let Some((&marker, rest)) = self.rest.split_first() else { return Err(ended()) };
        self.rest = rest;
        Ok(marker)
    }

    /// A big-endian number of `len` bytes, 8 at most.
    #[inline]
    fn number(&mut self, len: usize) -> Result<u64> {
        Ok(self.take(len)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Steps over nil if it is next.
    pub(super) fn nil(&mut self) -> bool {
        let is_nil = self.rest.first() == Some(&0xc0);
        if is_nil {
            self.rest = &self.rest[1..];
        }
        is_nil
    }

    /// Enters an array and gives the number of its elements; `what` says what was expected. Every array that is
    /// entered is to be left.
    #[inline]
    pub(super) fn array(&mut self, what: &str) -> Result<usize> {
        self.depth += 1;
        match self.marker()? {
            marker @ 0x90..=0x9f => Ok(usize::from(marker & 15)),
            0xdc => Ok(self.number(2)? as usize),
            0xdd => Ok(self.number(4)? as usize),
            marker => Err(unexpected(marker, what)),
        }
    }

    /// Enters a map and gives the number of its entries.
    pub(super) fn map(&mut self, what: &str) -> Result<usize> {
        self.depth += 1;
        match self.marker()? {
            marker @ 0x80..=0x8f => Ok(usize::from(marker & 15)),
            0xde => Ok(self.number(2)? as usize),
            0xdf => Ok(self.number(4)? as usize),
            marker => Err(unexpected(marker, what)),
        }
    }

    /// Leaves an array or map, passing over `left` values of it that a later version may have added.
    #[inline]
    pub(super) fn leave(&mut self, left: usize) -> Result<()> {
        for _ in 0..left {
            self.skip()?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Text in UTF-8; binary is no text.
    #[inline]
    pub(super) fn text(&mut self, what: &str) -> Result<&'a str> {
        utf8(self.raw_text(what)?, what)
    }

    /// The bytes of a text, which [`utf8`] judges.
    #[inline]
    pub(super) fn raw_text(&mut self, what: &str) -> Result<&'a [u8]> {
        let len = match self.marker()? {
            marker @ 0xa0..=0xbf => usize::from(marker & 31),
            0xd9 => self.number(1)? as usize,
            0xda => self.number(2)? as usize,
            0xdb => self.number(4)? as usize,
            marker => return Err(unexpected(marker, what)),
        };
        self.take(len)
    }

    /// An integer that is not negative, however it is spelled.
    #[inline]
    pub(super) fn uint(&mut self, what: &str) -> Result<u64> {
        let (value, sign) = match self.marker()? {
            marker @ 0..=0x7f => (u64::from(marker), 0),
            0xcc => (self.number(1)?, 0),
            0xcd => (self.number(2)?, 0),
            0xce => (self.number(4)?, 0),
            0xcf => (self.number(8)?, 0),
            0xd0 => (self.number(1)?, 1 << 7),
            0xd1 => (self.number(2)?, 1 << 15),
            0xd2 => (self.number(4)?, 1 << 31),
            0xd3 => (self.number(8)?, 1 << 63),
            marker => return Err(unexpected(marker, what)),
        };
        if value & sign != 0 {
            fail!(Index, "{what} is negative");
        }
        Ok(value)
    }

    /// An integer of 32 bits that is not negative.
    #[inline]
    pub(super) fn uint32(&mut self, what: &str) -> Result<u32> {
        let value = self.uint(what)?;
        u32::try_from(value)
            .map_err(|_| Error::new(ErrorKind::Index, format!("{what} is {value}, over 2^32 - 1")))
    }

    /// The next value, whatever it is.
    pub(super) fn value(&mut self) -> Result<Packed<'a>> {
        let start = self.rest;
        let memory = self.skip()?;
        let bytes = &start[..start.len() - self.rest.len()];
        Ok(Packed { bytes, depth: MAX_NESTING - self.depth, memory })
    }

    /// Passes over a value, and tells how much memory it takes as one of [`crate::metadata`].
    fn skip(&mut self) -> Result<usize> {
        // Of each array and map around this place, how many values are still to come, and whether it is a map.
        let mut open = [(0u64, false); MAX_NESTING];
        let mut depth = self.depth;
        let mut memory = VALUE_LEN;
        loop {
            let (marker, before) = (self.rest.first().copied(), self.rest.len());
            let inside = match self.marker()? {
                0..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => 0,
                marker @ 0x80..=0x8f => 2 * u64::from(marker & 15),
                marker @ 0x90..=0x9f => u64::from(marker & 15),
                marker @ 0xa0..=0xbf => self.pass(u64::from(marker & 31))?,
                0xc1 => fail!(Index, "byte c1 is no MessagePack"),
                0xc4 | 0xd9 => self.pass_counted(1, 0)?,
                0xc5 | 0xda => self.pass_counted(2, 0)?,
                0xc6 | 0xdb => self.pass_counted(4, 0)?,
                // Extensions have a byte for their type.
                0xc7 => self.pass_counted(1, 1)?,
                0xc8 => self.pass_counted(2, 1)?,
                0xc9 => self.pass_counted(4, 1)?,
                0xcc | 0xd0 => self.pass(1)?,
                0xcd | 0xd1 | 0xd4 => self.pass(2)?,
                0xd5 => self.pass(3)?,
                0xca | 0xce | 0xd2 => self.pass(4)?,
                0xd6 => self.pass(5)?,
                0xcb | 0xcf | 0xd3 => self.pass(8)?,
                0xd7 => self.pass(9)?,
                0xd8 => self.pass(17)?,
                0xdc => self.number(2)?,
                0xdd => self.number(4)?,
                0xde => 2 * self.number(2)?,
                0xdf => 2 * self.number(4)?,
            };
            if inside > 0 {
                if depth >= MAX_NESTING {
                    fail!(Index, "arrays and maps stand more than {MAX_NESTING} deep in each other");
                }
                let is_map = matches!(marker, Some(0x80..=0x8f | 0xde | 0xdf));
                memory += if is_map { inside as usize / 2 * ENTRY_LEN } else { inside as usize * VALUE_LEN };
                open[depth] = (inside, is_map);
                depth += 1;
                continue;
            }
            let is_key = depth > self.depth && open[depth - 1].1 && open[depth - 1].0.is_multiple_of(2);
            let is_text = matches!(marker, Some(0xa0..=0xbf | 0xd9..=0xdb));
            // What is no text is spelled as JSON if it is a key.
            memory += (before - self.rest.len()) * if is_key && !is_text { SPELLED_LEN } else { 1 };
            // The value has ended, and with it all around it of which it was the last.
            while depth > self.depth {
                open[depth - 1].0 -= 1;
                if open[depth - 1].0 > 0 {
                    break;
                }
                depth -= 1;
            }
            if depth == self.depth {
                return Ok(memory);
            }
        }
    }

    fn pass(&mut self, len: u64) -> Result<u64> {
        self.take(len as usize).map(|_| 0)
    }

    /// Passes over what a length of `len` bytes announces, and `more` bytes.
    fn pass_counted(&mut self, len: usize, more: u64) -> Result<u64> {
        let counted = self.number(len)?;
        self.pass(counted + more)
    }
}

/// Values that follow each other, each in the shortest form that it has.
#[derive(Debug, Default)]
pub(super) struct Packer {
    bytes: Vec<u8>,
}

impl Packer {
    /// Makes room for so many bytes more.
    pub(super) fn room(&mut self, len: usize) -> Result<()> {
        Ok(self.bytes.try_reserve(len)?)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A marker and the lowest `len` bytes of a number.
    #[inline]
    fn put(&mut self, marker: u8, number: u64, len: usize) {
        self.bytes.push(marker);
        self.bytes.extend_from_slice(&number.to_be_bytes()[8 - len..]);
    }

    pub(super) fn nil(&mut self) {
        self.bytes.push(0xc0);
    }

    /// Begins an array of so many elements.
    pub(super) fn array(&mut self, count: usize) {
        match count {
            0..=15 => self.bytes.push(0x90 | count as u8),
            16..=0xffff => self.put(0xdc, count as u64, 2),
            _ => self.put(0xdd, count as u64, 4),
        }
    }

    /// Begins a map of up to 15 entries.
    pub(super) fn small_map(&mut self, count: u8) {
        self.bytes.push(0x80 | count & 15);
    }

    pub(super) fn text(&mut self, text: &str) {
        let len = text.len();
        match len {
            0..=31 => self.bytes.push(0xa0 | len as u8),
            32..=0xff => self.put(0xd9, len as u64, 1),
            0x100..=0xffff => self.put(0xda, len as u64, 2),
            _ => self.put(0xdb, len as u64, 4),
        }
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(super) fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.bytes.push(value as u8),
            0x80..=0xff => self.put(0xcc, value, 1),
            0x100..=0xffff => self.put(0xcd, value, 2),
            0x1_0000..=0xffff_ffff => self.put(0xce, value, 4),
            _ => self.put(0xcf, value, 8),
        }
    }

    /// Any value, by rmp-serde.
    pub(super) fn value(&mut self, value: &impl serde::Serialize) -> Result<()> {
        rmp_serde::encode::write(&mut self.bytes, value).map_err(|err| {
            Error::new(ErrorKind::Limit, format!("the index cannot be written as MessagePack: {err}"))
        })
    }
}

/// Text from the bytes of one.
#[inline]
pub(super) fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str> {
    match str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(err) => fail!(Index, "{what} is not UTF-8: {err}"),
    }
}

#[cold]
fn ended() -> Error {
    Error::new(ErrorKind::Index, "its bytes end within a value")
}

#[cold]
fn unexpected(marker: u8, what: &str) -> Error {
    let found = match marker {
        0..=0x7f | 0xcc..=0xcf => "an integer",
        0xd0..=0xd3 | 0xe0..=0xff => "a signed integer",
        0x80..=0x8f | 0xde | 0xdf => "a map",
        0x90..=0x9f | 0xdc | 0xdd => "an array",
        0xa0..=0xbf | 0xd9..=0xdb => "text",
        0xc0 => "nil",
        0xc1 => "a byte that is no MessagePack",
        0xc2 | 0xc3 => "a bool",
        0xc4..=0xc6 => "binary",
        0xc7..=0xc9 | 0xd4..=0xd8 => "an extension",
        0xca | 0xcb => "a float",
    };
    Error::new(ErrorKind::Index, format!("{found} stands where {what} is expected"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
        result.unwrap_err().kind()
    }

    proptest! {
        /// rmp-serde reads the same values, and where it fails so does this.
        #[test]
        fn values_end_where_they_end(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut cursor = Cursor::new(&bytes);
            let value = cursor.value();
            let mut reader = &bytes[..];
            let mut deserializer = rmp_serde::Deserializer::new(&mut reader);
            let theirs = <serde::de::IgnoredAny as serde::Deserialize>::deserialize(&mut deserializer);
            // It looks at neither UTF-8 nor at depth here; both are as short as the bytes.
            prop_assert_eq!(value.is_ok(), theirs.is_ok());
            if let Ok(value) = value {
                prop_assert_eq!(value.bytes.len(), bytes.len() - reader.len());
            }
        }

        /// rmp-serde writes the same bytes.
        #[test]
        fn values_are_written_in_their_shortest_form(
            value in any::<u64>(), shift in 0u32..64, text in ".{0,40}", times in 0usize..4, count in 0usize..70_000,
        ) {
            let (value, text) = (value >> shift, text.repeat(10usize.pow(times as u32)));
            let mut packer = Packer::default();
            packer.uint(value);
            packer.text(&text);
            packer.nil();
            packer.array(count);
            let mut theirs = rmp_serde::to_vec(&value).unwrap();
            theirs.extend(rmp_serde::to_vec(&text).unwrap());
            theirs.extend(rmp_serde::to_vec(&()).unwrap());
            let array = rmp_serde::to_vec(&vec![(); count]).unwrap();
            theirs.extend(&array[..array.len() - count]);
            prop_assert_eq!(packer.into_bytes(), theirs);
        }

        #[test]
        fn integers_are_read_in_every_spelling(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            for bytes in [
                rmp_serde::to_vec(&value).unwrap(),
                [&[0xcf][..], &value.to_be_bytes()].concat(),
            ] {
                let mut cursor = Cursor::new(&bytes);
                prop_assert_eq!(cursor.uint("it").unwrap(), value);
                prop_assert!(cursor.is_at_end());
            }
        }
    }

    #[test]
    fn what_is_not_expected_is_named() {
        assert_eq!(
            Cursor::new(&[0xa1, b'x']).uint("the offset").unwrap_err().to_string(),
            "text stands where the offset is expected"
        );
        assert_eq!(kind(Cursor::new(&[0xff]).uint("it")), ErrorKind::Index);
        assert_eq!(kind(Cursor::new(&[0xd0, 0x80]).uint("it")), ErrorKind::Index);
        assert_eq!(Cursor::new(&[0xd0, 0x7f]).uint("it").unwrap(), 127);
        assert_eq!(kind(Cursor::new(&[0xcf, 0, 0, 0, 1, 0, 0, 0, 0]).uint32("it")), ErrorKind::Index);
        assert_eq!(kind(Cursor::new(&[0xa2, 0xff, 0xff]).text("it")), ErrorKind::Index);
        assert_eq!(kind(Cursor::new(&[0xc4, 1, b'x']).text("it")), ErrorKind::Index);
        assert_eq!(kind(Cursor::new(&[0xdb, 0xff, 0xff, 0xff, 0xff]).text("it")), ErrorKind::Index);
    }

    #[test]
    fn depth_has_a_limit() {
        let nested = |depth| [vec![0x91; depth], vec![0xc0]].concat();
        assert!(Cursor::new(&nested(MAX_NESTING)).value().is_ok());
        assert_eq!(kind(Cursor::new(&nested(MAX_NESTING + 1)).value()), ErrorKind::Index);
        let inner = nested(MAX_NESTING);
        let mut cursor = Cursor::new(&inner);
        cursor.array("it").unwrap();
        assert_eq!(cursor.value().unwrap().depth, MAX_NESTING - 1);
    }
}
