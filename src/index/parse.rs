//! From MessagePack to an [`Index`]: structure alone. The rules of the format are `check`'s.
//!
//! Every record is pushed straight into the index's arrays, so that memory follows the bytes that were really
//! there, never a count that they claim.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::msgpack::Cursor;
use super::symbol::Symbol;
use super::{Check, ComponentRecord, EncodingRecord, Index, RAW, check_name};
use crate::codec::Filter;
use crate::error::{Error, ErrorKind, Result, ensure};
use crate::metadata::{Metadata, Value};

impl Index {
    /// Reads an index from its bytes. Nothing but its structure is checked.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut parser = Parser::default();
        let mut cursor = Cursor::new(bytes);
        let parsed = parser.root(&mut cursor).and_then(|()| {
            ensure!(cursor.is_at_end(), Index, "bytes follow the index's map");
            Ok(())
        });
        match parsed {
            Ok(()) => Ok(parser.index),
            Err(err) if err.kind() == ErrorKind::Index => {
                let place = match parser.in_tensors {
                    true => format!(" in tensor {}", parser.index.len()),
                    false => String::new(),
                };
                let err = Error::new(
                    ErrorKind::Index,
                    format!("the index is not as the format asks{place}: {err}"),
                );
                Err(parser.located(err))
            }
            Err(err) => Err(parser.located(err)),
        }
    }
}

/// The symbol of a name, remembered for the next record, which mostly has the same.
#[derive(Debug, Default)]
struct Last<'a> {
    name: &'a str,
    symbol: Symbol,
}

impl<'a> Last<'a> {
    #[inline]
    fn symbol(&mut self, name: &'a str, find: impl FnOnce(&str) -> Result<Symbol>) -> Result<Symbol> {
        // No name is empty at first, but for one that is not known either.
        if name.is_empty() || self.name != name {
            *self = Self { name, symbol: find(name)? };
        }
        Ok(self.symbol)
    }
}

#[derive(Default)]
struct Parser<'a> {
    index: Index,
    in_tensors: bool,
    /// The tensor that is being read.
    name: Option<&'a str>,
    dtype: Last<'a>,
    layout: Last<'a>,
    role: Last<'a>,
    part_dtype: Last<'a>,
}

impl<'a> Parser<'a> {
    fn located(&self, err: Error) -> Error {
        match self.name {
            Some(name) => err.in_tensor(name),
            None => err,
        }
    }

    fn root(&mut self, cursor: &mut Cursor<'a>) -> Result<()> {
        let (mut has_tensors, mut has_metadata) = (false, false);
        let entries = cursor.map("a map with the key \"tensors\"")?;
        for _ in 0..entries {
            match cursor.text("a key")? {
                key @ ("tensors" | "metadata") => {
                    let seen = if key == "tensors" { &mut has_tensors } else { &mut has_metadata };
                    ensure!(!*seen, Index, "the key {key:?} stands twice");
                    *seen = true;
                    if key == "tensors" {
                        self.tensors(cursor)?;
                    } else {
                        self.index.metadata = key_values(cursor)?;
                    }
                }
                _ => drop(cursor.value()?),
            }
        }
        ensure!(has_tensors, Index, "the key \"tensors\" is missing");
        cursor.leave(0)
    }

    fn tensors(&mut self, cursor: &mut Cursor<'a>) -> Result<()> {
        self.in_tensors = true;
        for _ in 0..cursor.array("an array of tensor records")? {
            self.tensor(cursor)?;
        }
        self.in_tensors = false;
        cursor.leave(0)
    }

    fn tensor(&mut self, cursor: &mut Cursor<'a>) -> Result<()> {
        let mark = self.index.mark();
        let count = cursor.array("a tensor record: [name, dtype, shape, layout, components, attributes]")?;
        ensure!(count >= 1, Index, "a tensor record is empty");
        let name = cursor.text("a tensor's name")?;
        self.name = Some(name);
        ensure!(count >= 5, Index, "a tensor record has {count} fields, it has five at least");
        let dtype = cursor.text("a tensor's dtype")?;
        for _ in 0..cursor.array("a tensor's shape")? {
            self.index.dims.push(cursor.uint("a dimension")?);
        }
        cursor.leave(0)?;
        let layout = cursor.text("a tensor's layout")?;
        for _ in 0..cursor.array("an array of component records")? {
            self.component(cursor)?;
        }
        cursor.leave(0)?;
        let attributes = if count > 5 { key_values(cursor)? } else { Metadata::new() };
        cursor.leave(count.saturating_sub(6))?;
        let index = &mut self.index;
        let dtype = self.dtype.symbol(dtype, |name| index.dtype_symbol(name))?;
        let layout = self.layout.symbol(layout, |name| index.layout_symbol(name))?;
        check_name(name)?;
        let at = index.close_tensor(mark, name, dtype, layout)?;
        if !attributes.is_empty() {
            index.attributes.insert(at, attributes);
        }
        self.name = None;
        Ok(())
    }

    fn component(&mut self, cursor: &mut Cursor<'a>) -> Result<()> {
        let count = cursor.array("a component record: [role, dtype, offset, size, crc32, encoding]")?;
        ensure!(count >= 5, Index, "a component record has {count} fields, it has five at least");
        let role = cursor.text("a component's role")?;
        let dtype = cursor.text("a component's dtype")?;
        let offset = cursor.uint("a component's offset")?;
        let size = cursor.uint("a component's size")?;
        let crc32 = match cursor.nil() {
            true => None,
            false => Some(cursor.uint32("a component's crc32")?),
        };
        let encoding = if count > 5 && !cursor.nil() { self.encoding(cursor)? } else { RAW };
        cursor.leave(count.saturating_sub(6))?;
        let index = &mut self.index;
        let role = self.role.symbol(role, |name| index.role_symbol(name))?;
        let dtype = self.part_dtype.symbol(dtype, |name| index.dtype_symbol(name))?;
        index.components.push(ComponentRecord {
            offset,
            size,
            crc32: crc32.unwrap_or(0),
            check: if crc32.is_some() { Check::Crc32 } else { Check::Nothing },
            file: 0,
            encoding,
            role,
            dtype,
        });
        Ok(())
    }

    fn encoding(&mut self, cursor: &mut Cursor<'a>) -> Result<u32> {
        let count = cursor.array("nil or an encoding record")?;
        ensure!(count >= 1, Index, "an encoding record is empty");
        let name = cursor.text("an encoding's name")?;
        if name != "zstd" {
            cursor.leave(count - 1)?;
            return self.unknown_encoding(name);
        }
        ensure!(count >= 2, Index, "an encoding record ends before its filter");
        let filter = cursor.text("a filter")?;
        let Some(filter) = Filter::from_name(filter) else {
            cursor.leave(count - 2)?;
            return self.unknown_encoding(&format!("zstd with filter {filter}"));
        };
        ensure!(count >= 5, Index, "a zstd encoding record has {count} fields, it has five at least");
        let raw_size = cursor.uint("an encoding's raw size")?;
        let chunk_size = cursor.uint32("a chunk size")?;
        let start = self.index.chunks.len();
        for _ in 0..cursor.array("an array of stored sizes")? {
            self.index.chunks.push(cursor.uint32("a stored size")?);
        }
        cursor.leave(0)?;
        cursor.leave(count - 5)?;
        Ok(self.index.push_encoding(EncodingRecord::Zstd {
            filter,
            raw_size,
            chunk_size,
            chunks_start: start as u32,
            chunk_count: (self.index.chunks.len() - start) as u32,
        }))
    }

    fn unknown_encoding(&mut self, name: &str) -> Result<u32> {
        let symbol = self.index.symbols.intern(name)?;
        Ok(self.index.push_encoding(EncodingRecord::Unknown(symbol)))
    }
}

/// Reads the key-values of the file or a tensor.
fn key_values(cursor: &mut Cursor<'_>) -> Result<Metadata> {
    let (bytes, depth) = cursor.value()?;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(depth);
    KeyValues
        .deserialize(&mut deserializer)
        .map_err(|err| Error::new(ErrorKind::Index, format!("key-values: {err}")))
}

struct KeyValues;

impl<'de> DeserializeSeed<'de> for KeyValues {
    type Value = Metadata;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Metadata, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeyValues {
    type Value = Metadata;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nil or a map from text to values")
    }

    fn visit_unit<E>(self) -> Result<Metadata, E> {
        Ok(Metadata::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
        let mut metadata = Metadata::new();
        while let Some(key) = map.next_key::<Value>()? {
            let Value::Str(key) = key else {
                return Err(de::Error::custom("a key is not text in UTF-8"));
            };
            let value: Value = map.next_value()?;
            if let Some((key, _)) = metadata.get_key_value(&key) {
                return Err(de::Error::custom(format_args!("the key {key:?} stands twice in one map")));
            }
            metadata.insert(key, value);
        }
        Ok(metadata)
    }
}
