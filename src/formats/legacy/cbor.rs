//! CBOR as the legacy formats write it: a thin layer over minicbor's tokens that limits depth and memory, and the check of
//! the deterministic form that version 2 requires.
//!
//! Nothing here takes memory that a number in the file asks for: arrays and maps are walked item by item, and
//! text is borrowed.

use std::borrow::Cow;
use std::cmp::Ordering;

use half::f16;
use minicbor::Decoder;
use minicbor::data::{Token, Type};

use crate::error::{Error, ErrorKind, Result, ensure, fail};
use crate::layout::MAX_NDIM;
use crate::metadata::{MAX_DEPTH, Metadata, Value};

/// How deep version 2 lets arrays and maps nest.
const MAX_DETERMINISTIC_DEPTH: usize = 32;

/// What a value of an attribute is counted with, beside the bytes of its text: two enums of 32 bytes, since
/// a growing vector may hold twice what it needs.
const VALUE_COST: usize = 64;

/// What a map of attributes is counted with: one node of a B-tree, however few entries it has.
const MAP_COST: usize = 11 * (size_of::<String>() + size_of::<Value>());

/// Reads CBOR from front to back.
pub(super) struct Cbor<'b> {
    decoder: Decoder<'b>,
    /// Bytes of memory that attributes and shapes may still take.
    budget: usize,
}

fn broken(err: &minicbor::decode::Error, at: usize) -> Error {
    Error::new(
        ErrorKind::Index,
        format!("the index is not the CBOR that the format asks for: {err} (byte {at})"),
    )
}

impl<'b> Cbor<'b> {
    /// A reader of `bytes`, whose attributes and shapes may take `budget` bytes of memory.
    pub(super) fn new(bytes: &'b [u8], budget: usize) -> Self {
        Self { decoder: Decoder::new(bytes), budget }
    }

    /// Calls a function of minicbor and says where it failed.
    fn call<T>(
        &mut self,
        read: impl FnOnce(&mut Decoder<'b>) -> Result<T, minicbor::decode::Error>,
    ) -> Result<T> {
        let at = self.decoder.position();
        read(&mut self.decoder).map_err(|err| broken(&err, at))
    }

    fn peek(&mut self) -> Result<Type> {
        self.call(|decoder| decoder.datatype())
    }

    fn token(&mut self) -> Result<Token<'b>> {
        self.call(|decoder| decoder.tokens().token())
    }

    /// Whether the items of an array or map go on: `left` counts a definite one down.
    fn goes_on(&mut self, left: &mut Option<u64>) -> Result<bool> {
        match left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None if self.peek()? == Type::Break => {
                self.token()?;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// Reads a map whose keys are text. `entry` must read the value.
    pub(super) fn map(&mut self, mut entry: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        let mut left = self.call(|decoder| decoder.map())?;
        while self.goes_on(&mut left)? {
            let key = self.text()?;
            entry(self, &key)?;
        }
        Ok(())
    }

    /// Reads an array. `item` must read each item.
    pub(super) fn array(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        let mut left = self.call(|decoder| decoder.array())?;
        while self.goes_on(&mut left)? {
            item(self)?;
        }
        Ok(())
    }

    pub(super) fn text(&mut self) -> Result<Cow<'b, str>> {
        if self.peek()? != Type::StringIndef {
            return self.call(|decoder| decoder.str()).map(Cow::Borrowed);
        }
        self.call(|decoder| decoder.str_iter()?.collect::<Result<String, _>>()).map(Cow::Owned)
    }

    /// Passes over a null; false, and nothing is read, if something else stands there.
    fn null(&mut self) -> Result<bool> {
        let is_null = self.peek()? == Type::Null;
        if is_null {
            self.token()?;
        }
        Ok(is_null)
    }

    /// Reads text, or null as none.
    pub(super) fn optional_text(&mut self) -> Result<Option<Cow<'b, str>>> {
        if self.null()? { Ok(None) } else { self.text().map(Some) }
    }

    /// Reads an unsigned integer, or null as none.
    pub(super) fn optional_uint(&mut self) -> Result<Option<u64>> {
        if self.null()? { Ok(None) } else { self.uint().map(Some) }
    }

    pub(super) fn uint(&mut self) -> Result<u64> {
        self.call(|decoder| decoder.u64())
    }

    /// Reads a shape.
    pub(super) fn shape(&mut self) -> Result<Vec<u64>> {
        let mut shape = Vec::new();
        self.array(|cbor| {
            ensure!(shape.len() < MAX_NDIM, Shape, "more than {MAX_NDIM} dimensions");
            // One byte of the file may become eight.
            cbor.spend(size_of::<u64>())?;
            shape.push(cbor.uint()?);
            Ok(())
        })?;
        Ok(shape)
    }

    /// Passes over one item, whatever it is.
    pub(super) fn skip(&mut self) -> Result<()> {
        // What is left in each open array or map; an indefinite one has no number.
        let mut open: Vec<Option<u64>> = vec![Some(1)];
        while let Some(left) = open.last_mut() {
            if !self.goes_on(left)? {
                open.pop();
                continue;
            }
            match self.token()? {
                Token::Array(len) => open.push(Some(len)),
                // More pairs than 2^63 do not fit in a file: the count that is kept ends too early or never.
                Token::Map(len) => open.push(Some(len.saturating_mul(2))),
                Token::BeginArray | Token::BeginMap | Token::BeginBytes | Token::BeginString => {
                    open.push(None)
                }
                Token::Tag(_) => open.push(Some(1)),
                Token::Break => fail!(Index, "the index ends an array or map that did not begin"),
                _ => {}
            }
            ensure!(open.len() <= MAX_DEPTH, Index, "the index stands more than {MAX_DEPTH} levels deep");
        }
        Ok(())
    }

    /// Passes over one item and gives the place where it stands, for [`Cbor::go_to`].
    pub(super) fn mark_and_skip(&mut self) -> Result<usize> {
        let place = self.decoder.position();
        self.skip()?;
        Ok(place)
    }

    pub(super) fn go_to(&mut self, place: usize) {
        self.decoder.set_position(place);
    }

    /// Reads the attributes of a file or a tensor; null is none.
    pub(super) fn attributes(&mut self) -> Result<Metadata> {
        if self.null()? { Ok(Metadata::new()) } else { self.attributes_map() }
    }

    /// Reads the attributes of a file or a tensor.
    pub(super) fn attributes_map(&mut self) -> Result<Metadata> {
        let mut attributes = Metadata::new();
        self.spend(MAP_COST)?;
        self.map(|cbor, key| {
            cbor.spend(VALUE_COST + key.len())?;
            let value = cbor.value(1)?;
            attributes.insert(key.to_owned(), value);
            Ok(())
        })?;
        Ok(attributes)
    }

    fn spend(&mut self, bytes: usize) -> Result<()> {
        match self.budget.checked_sub(bytes) {
            Some(left) => self.budget = left,
            None => fail!(
                Limit,
                "the index holds more attributes or dimensions than this library keeps in memory"
            ),
        }
        Ok(())
    }

    /// Reads any value. Of a tagged one the tag is dropped; what our metadata cannot spell comes near it.
    fn value(&mut self, depth: usize) -> Result<Value> {
        ensure!(depth < MAX_DEPTH, Index, "attributes stand more than {MAX_DEPTH} levels deep");
        self.spend(VALUE_COST)?;
        Ok(match self.peek()? {
            Type::Array | Type::ArrayIndef => {
                let mut items = Vec::new();
                self.array(|cbor| {
                    items.push(cbor.value(depth + 1)?);
                    Ok(())
                })?;
                Value::Array(items)
            }
            Type::Map | Type::MapIndef => {
                let mut entries = Vec::new();
                let mut left = self.call(|decoder| decoder.map())?;
                while self.goes_on(&mut left)? {
                    let key = self.value(depth + 1)?.into_key()?;
                    entries.push((key, self.value(depth + 1)?));
                }
                Value::Map(entries)
            }
            Type::String | Type::StringIndef => {
                let text = self.text()?;
                self.spend(text.len())?;
                Value::Str(text.into_owned())
            }
            Type::Bytes | Type::BytesIndef => {
                let mut bytes = Vec::new();
                let before = self.decoder.position();
                let mut scan = Decoder::new(self.decoder.input());
                scan.set_position(before);
                for part in scan.bytes_iter().map_err(|err| broken(&err, before))? {
                    let part = part.map_err(|err| broken(&err, before))?;
                    self.spend(part.len())?;
                    bytes.extend_from_slice(part);
                }
                self.decoder.set_position(scan.position());
                Value::Bytes(bytes)
            }
            Type::Tag => {
                self.token()?;
                self.value(depth + 1)?
            }
            _ => self.scalar()?,
        })
    }

    fn scalar(&mut self) -> Result<Value> {
        Ok(match self.token()? {
            Token::Bool(value) => Value::Bool(value),
            Token::Null | Token::Undefined | Token::Simple(_) => Value::Nil,
            Token::F16(value) | Token::F32(value) => Value::Float(value.into()),
            Token::F64(value) => Value::Float(value),
            token => match integer(&token) {
                Some(value) => i64::try_from(value).map(Value::Int).unwrap_or_else(|_| {
                    // Below -2^63 a float comes nearest.
                    u64::try_from(value).map_or(Value::Float(value as f64), Value::UInt)
                }),
                None => fail!(Index, "an attribute is no value: {token}"),
            },
        })
    }
}

fn integer(token: &Token<'_>) -> Option<i128> {
    Some(match *token {
        Token::U8(value) => value.into(),
        Token::U16(value) => value.into(),
        Token::U32(value) => value.into(),
        Token::U64(value) => value.into(),
        Token::I8(value) => value.into(),
        Token::I16(value) => value.into(),
        Token::I32(value) => value.into(),
        Token::I64(value) => value.into(),
        Token::Int(value) => value.into(),
        _ => return None,
    })
}

/// An array or map that the check of the deterministic form is inside of.
struct Level {
    left: u64,
    is_map: bool,
    /// Where the item that is being read begins.
    start: usize,
    /// Where the key before stands.
    key: Option<(usize, usize)>,
}

/// Checks that `bytes` are one item in the deterministic form: definite lengths, shortest heads and floats,
/// sorted keys of which none stands twice, no tags, nothing after it, at most 32 levels.
pub(super) fn check_deterministic(bytes: &[u8]) -> Result<()> {
    let mut cbor = Cbor::new(bytes, 0);
    let mut levels: Vec<Level> = Vec::new();
    loop {
        let start = cbor.decoder.position();
        let token = cbor.token()?;
        let end = cbor.decoder.position();
        if let Some(why) = what_is_not_deterministic(&token, end - start) {
            fail!(Index, "the index is not in CBOR's deterministic form: {why} at byte {start}");
        }
        let (left, is_map) = match token {
            Token::Array(len) => (Some(len), false),
            Token::Map(len) => (len.checked_mul(2), true),
            _ => (Some(0), false),
        };
        if left != Some(0) {
            let left = left.unwrap_or(u64::MAX);
            levels.push(Level { left, is_map, start: end, key: None });
            ensure!(
                levels.len() <= MAX_DETERMINISTIC_DEPTH,
                Index,
                "the index stands more than {MAX_DETERMINISTIC_DEPTH} levels deep"
            );
            continue;
        }
        // An item ends here, and perhaps those around it.
        loop {
            let Some(level) = levels.last_mut() else {
                ensure!(end == bytes.len(), Index, "{} bytes follow the index's map", bytes.len() - end);
                return Ok(());
            };
            if level.is_map && level.left % 2 == 0 {
                if let Some((from, to)) = level.key {
                    match bytes[from..to].cmp(&bytes[level.start..end]) {
                        Ordering::Less => {}
                        Ordering::Equal => {
                            fail!(Index, "the key at byte {} stands twice in its map", level.start)
                        }
                        Ordering::Greater => fail!(Index, "the key at byte {} is not in order", level.start),
                    }
                }
                level.key = Some((level.start, end));
            }
            level.left -= 1;
            level.start = end;
            if level.left > 0 {
                break;
            }
            levels.pop();
        }
    }
}

/// Why a token of `len` bytes is not one that the deterministic form has, if it is not.
fn what_is_not_deterministic(token: &Token<'_>, len: usize) -> Option<&'static str> {
    match token {
        Token::BeginArray | Token::BeginMap | Token::BeginBytes | Token::BeginString => {
            Some("something of indefinite length begins")
        }
        Token::Break => Some("a break stands"),
        Token::Tag(_) => Some("a tag stands"),
        Token::Simple(_) => Some("a simple value without a meaning stands"),
        token if is_shortest(token, len) => None,
        _ => Some("a value that could be spelled in fewer bytes stands"),
    }
}

/// Whether a token of `len` bytes is spelled in the one way that the deterministic form allows.
fn is_shortest(token: &Token<'_>, len: usize) -> bool {
    let head = |argument: u64| match argument {
        0..24 => 1,
        24..0x100 => 2,
        0x100..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    };
    match *token {
        Token::Array(argument) | Token::Map(argument) => len == head(argument),
        Token::String(text) => len == head(text.len() as u64) + text.len(),
        Token::Bytes(bytes) => len == head(bytes.len() as u64) + bytes.len(),
        Token::Bool(_) | Token::Null | Token::Undefined => len == 1,
        Token::F16(value) => !value.is_nan() || len == 3,
        Token::F32(value) => !value.is_nan() && f16::from_f32(value).to_f32() != value,
        Token::F64(value) => !value.is_nan() && f64::from(value as f32) != value,
        _ => integer(token).is_some_and(|value| {
            let argument = if value < 0 { -1 - value } else { value };
            len == head(argument as u64)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8]) -> bool {
        check_deterministic(bytes).is_ok()
    }

    #[test]
    fn the_deterministic_form() {
        for good in [
            &b"\xa0"[..],
            b"\xa2\x61a\x01\x62aa\x02",
            b"\xa1\x61a\x83\x18\x18\x39\x01\x00\xf9\x3d\x00",
            b"\x82\x80\xa0",
            b"\xfb\x3f\xd5\x55\x55\x55\x55\x55\x55",
        ] {
            assert!(check(good), "{good:02x?}");
        }
        for bad in [
            &b""[..],
            b"\xa0\x00",
            b"\xbf\xff",
            b"\x9f\xff",
            b"\x18\x05",
            b"\x38\x05",
            b"\x78\x01a",
            b"\xc0\x61a",
            b"\xa2\x62aa\x02\x61a\x01",
            b"\xa2\x61a\x02\x61a\x01",
            b"\xa1\x61a",
            b"\xfa\x3f\xa0\x00\x00",
            b"\xfb\x3f\xf4\x00\x00\x00\x00\x00\x00",
            b"\xff",
            b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00",
            b"\x61\xff",
        ] {
            assert!(!check(bad), "{bad:02x?}");
        }
        assert!(check(&[[0x81; 32].as_slice(), &[0x80]].concat()));
        assert!(!check(&[[0x81; 33].as_slice(), &[0x80]].concat()));
    }

    #[test]
    fn any_item_is_passed_over() {
        let item = b"\x9f\xbf\x61a\x5f\x41b\xff\xff\xc1\x82\x01\xf5\xff";
        let bytes = [item.as_slice(), b"\x07"].concat();
        let mut cbor = Cbor::new(&bytes, 0);
        cbor.skip().unwrap();
        assert_eq!(cbor.uint().unwrap(), 7);
        assert!(Cbor::new(&[0x9f; 1000], 0).skip().is_err());
        assert!(Cbor::new(b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff", 0).skip().is_err());
    }

    #[test]
    fn attributes_keep_to_their_budget() {
        let bytes = b"\xa3\x61a\xf9\x3d\x00\x61b\x3b\xff\xff\xff\xff\xff\xff\xff\xff\x61c\xa1\x01\xc1\x42xy";
        let attributes = Cbor::new(bytes, 4096).attributes().unwrap();
        assert_eq!(attributes["a"], Value::Float(1.25));
        assert_eq!(attributes["b"], Value::Float(-18_446_744_073_709_551_616.0));
        assert_eq!(attributes["c"], Value::Map(vec![("1".to_owned(), Value::Bytes(b"xy".to_vec()))]));
        assert_eq!(Cbor::new(bytes, 800).attributes().unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn a_key_that_is_a_map_is_refused() {
        // Spelled as text inside each other, each level's quotation marks would double those of the one before.
        let bytes = [&b"\xa1\x61a"[..], &[0xa1; 40], b"\x61k", &[1; 40]].concat();
        assert_eq!(Cbor::new(&bytes, 1 << 20).attributes().unwrap_err().kind(), ErrorKind::Index);
    }
}
