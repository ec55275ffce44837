//! From MessagePack to an [`Index`]: structure alone. The rules of the format are `check`'s.
//!
//! Every record is pushed straight into the index's arrays, so that memory follows the bytes that were really
//! there, never a count that they claim.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::msgpack::{Cursor, Packed, utf8};
use crate::codec::Filter;
use crate::error::{Error, ErrorKind, Result, ensure};
use crate::index::{Attributes, Check, ComponentRecord, EncodingRecord, Index, RAW, Symbol, check_name};
use crate::layout::Layout;
use crate::metadata::{MAX_DEPTH, Metadata, Value, ValueSeed};
use crate::room;

impl Index {
    /// Reads an index from its bytes, the index of a file of `file_size` bytes. Nothing but its structure is checked.
    ///
    /// # Errors
    ///
    /// `Index`, `Name`, `Shape`; `Limit` if it takes more memory than [`MEMORY`] and three times the file, or passes one
    /// of the other limits of this library.
    pub(crate) fn parse(bytes: &[u8], file_size: u64) -> Result<Self> {
        let memory =
            MEMORY.saturating_add(usize::try_from(file_size).unwrap_or(usize::MAX).saturating_mul(3));
        let mut parser = Parser { memory: Memory { left: memory }, ..Parser::default() };
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

/// What any index may take of memory, however small the file.
const MEMORY: usize = 15 << 20;
/// An entry of the table of names.
const NAME_LEN: usize = 12;
/// A name that is not known, beside its text, which is kept twice.
const SYMBOL_LEN: usize = 160;
/// A map from text to values: by itself, and for each entry beside the value.
const MAP_LEN: usize = 640;
const MAP_ENTRY_LEN: usize = 160;
/// The attributes of a tensor, beside their bytes.
const ATTRIBUTES_LEN: usize = 128;

/// Memory that may still be taken. An index of a byte here and there says much: what is short on disk can be long in
/// memory, and nobody is to be surprised by it.
#[derive(Debug, Default)]
struct Memory {
    left: usize,
}

impl Memory {
    fn take(&mut self, len: usize) -> Result<()> {
        let Some(left) = self.left.checked_sub(len) else { return Err(too_much()) };
        self.left = left;
        Ok(())
    }

    /// Makes sure that a list has room for one more.
    #[inline]
    fn room<T>(&mut self, list: &mut Vec<T>) -> Result<()> {
        if list.len() < list.capacity() { Ok(()) } else { self.grow(list) }
    }

    #[cold]
    fn grow<T>(&mut self, list: &mut Vec<T>) -> Result<()> {
        let more = self.growth(list.capacity(), 1, size_of::<T>())?;
        list.try_reserve_exact(more)?;
        self.take(more * size_of::<T>())
    }

    /// Makes sure that a text has room for so many bytes more.
    #[inline]
    fn room_for_text(&mut self, text: &mut String, len: usize) -> Result<()> {
        if text.capacity() - text.len() >= len {
            return Ok(());
        }
        let more = self.growth(text.capacity(), len, 1)?;
        text.try_reserve_exact(text.capacity() - text.len() + more)?;
        self.take(more)
    }

    /// By how many entries to grow. While they move, the old place and the new one are there.
    fn growth(&self, capacity: usize, needed: usize, size: usize) -> Result<usize> {
        [capacity / 2, capacity / 8]
            .into_iter()
            .map(|more| more.max(needed).max(16))
            .find(|more| (capacity + more).checked_mul(size).is_some_and(|len| len <= self.left))
            .ok_or_else(too_much)
    }
}

#[cold]
fn too_much() -> Error {
    Error::new(
        ErrorKind::Limit,
        "what the index says takes more memory than this library gives to a file of its size",
    )
}

/// The symbol of a name, remembered for the next record, which mostly has the same.
#[derive(Debug, Default)]
struct Last<'a> {
    name: Option<&'a [u8]>,
    symbol: Symbol,
}

impl<'a> Last<'a> {
    #[inline]
    fn symbol(
        &mut self,
        name: &'a [u8],
        what: &str,
        find: impl FnOnce(&str) -> Result<Symbol>,
    ) -> Result<Symbol> {
        if self.name != Some(name) {
            *self = Self { symbol: find(utf8(name, what)?)?, name: Some(name) };
        }
        Ok(self.symbol)
    }
}

#[derive(Default)]
struct Parser<'a> {
    index: Index,
    memory: Memory,
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
                        let packed = self.key_values(cursor)?;
                        self.memory.take(packed.memory)?;
                        self.index.metadata = unpack(packed)?;
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
        let dtype = cursor.raw_text("a tensor's dtype")?;
        for _ in 0..cursor.array("a tensor's shape")? {
            self.memory.room(&mut self.index.dims)?;
            self.index.dims.push(cursor.uint("a dimension")?);
        }
        cursor.leave(0)?;
        let layout = cursor.raw_text("a tensor's layout")?;
        for _ in 0..cursor.array("an array of component records")? {
            self.component(cursor)?;
        }
        cursor.leave(0)?;
        let attributes = if count > 5 { Some(self.key_values(cursor)?) } else { None };
        cursor.leave(count.saturating_sub(6))?;
        let (index, memory) = (&mut self.index, &mut self.memory);
        let dtype = self
            .dtype
            .symbol(dtype, "a tensor's dtype", |name| find((index, memory), name, Index::dtype_symbol))?;
        let layout = self
            .layout
            .symbol(layout, "a tensor's layout", |name| find((index, memory), name, Index::layout_symbol))?;
        check_name(name)?;
        memory.take(NAME_LEN)?;
        memory.room(&mut index.tensors)?;
        memory.room_for_text(&mut index.names, name.len() + 1)?;
        let at = index.close_tensor(mark, name, dtype, layout)?;
        if let Some(packed) = attributes {
            // They are looked through now, and spelled out again when somebody asks: for many tensors that is never, and
            // spelled out they are many times as long. Of blocked layouts the size of blocks is asked for at once.
            let is_blocked = Layout::from_code(layout.into()).is_some_and(Layout::is_blocked);
            if !unpack(packed)?.is_empty() {
                memory
                    .take(ATTRIBUTES_LEN + packed.bytes.len() + if is_blocked { packed.memory } else { 0 })?;
                index.attributes.insert(at, Attributes::packed(packed.bytes, unpack_again));
            }
        }
        self.name = None;
        Ok(())
    }

    fn component(&mut self, cursor: &mut Cursor<'a>) -> Result<()> {
        let count = cursor.array("a component record: [role, dtype, offset, size, crc32, encoding]")?;
        ensure!(count >= 5, Index, "a component record has {count} fields, it has five at least");
        let role = cursor.raw_text("a component's role")?;
        let dtype = cursor.raw_text("a component's dtype")?;
        let offset = cursor.uint("a component's offset")?;
        let size = cursor.uint("a component's size")?;
        let crc32 = match cursor.nil() {
            true => None,
            false => Some(cursor.uint32("a component's crc32")?),
        };
        let encoding = if count > 5 && !cursor.nil() { self.encoding(cursor)? } else { RAW };
        cursor.leave(count.saturating_sub(6))?;
        let (index, memory) = (&mut self.index, &mut self.memory);
        let role = self
            .role
            .symbol(role, "a component's role", |name| find((index, memory), name, Index::role_symbol))?;
        let dtype = self
            .part_dtype
            .symbol(dtype, "a component's dtype", |name| find((index, memory), name, Index::dtype_symbol))?;
        memory.room(&mut index.components)?;
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
            self.memory.room(&mut self.index.chunks)?;
            self.index.chunks.push(cursor.uint32("a stored size")?);
        }
        cursor.leave(0)?;
        cursor.leave(count - 5)?;
        self.memory.room(&mut self.index.encodings)?;
        Ok(self.index.push_encoding(EncodingRecord::Zstd {
            filter,
            raw_size,
            chunk_size,
            chunks_start: start as u32,
            chunk_count: (self.index.chunks.len() - start) as u32,
        }))
    }

    /// The key-values of the file or a tensor, and the memory that they take. There is as much left.
    fn key_values(&self, cursor: &mut Cursor<'a>) -> Result<Packed<'a>> {
        let mut packed = cursor.value()?;
        let entries = Cursor::new(packed.bytes).map("").unwrap_or(0);
        packed.memory += MAP_LEN + MAP_ENTRY_LEN * entries;
        if packed.memory > self.memory.left {
            return Err(too_much());
        }
        room::ask_for(packed.memory)?;
        Ok(packed)
    }

    fn unknown_encoding(&mut self, name: &str) -> Result<u32> {
        let symbol =
            find((&mut self.index, &mut self.memory), name, |index, name| index.symbols.intern(name))?;
        self.memory.room(&mut self.index.encodings)?;
        Ok(self.index.push_encoding(EncodingRecord::Unknown(symbol)))
    }
}

/// The symbol of a name. It may be a new one, which takes memory.
fn find(
    (index, memory): (&mut Index, &mut Memory),
    name: &str,
    symbol: impl FnOnce(&mut Index, &str) -> Result<Symbol>,
) -> Result<Symbol> {
    let before = index.symbols.len();
    let symbol = symbol(index, name)?;
    if index.symbols.len() > before {
        memory.take(SYMBOL_LEN + 2 * name.len())?;
    }
    Ok(symbol)
}

/// Reads key-values that were looked at before, and are what they should be.
fn unpack_again(bytes: &[u8]) -> Metadata {
    Cursor::new(bytes).value().and_then(unpack).unwrap_or_default()
}

fn unpack(packed: Packed<'_>) -> Result<Metadata> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(packed.bytes);
    deserializer.set_max_depth(packed.depth);
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
        let seed = ValueSeed { counts_are_true: true };
        while let Some(key) = map.next_key_seed(seed)? {
            let Value::Str(key) = key else {
                return Err(de::Error::custom("a key is not text in UTF-8"));
            };
            let value = map.next_value_seed(seed)?;
            if value.depth() >= MAX_DEPTH {
                return Err(de::Error::custom(format_args!(
                    "arrays and maps stand {} deep under the key {key:?}, the limit is {}",
                    value.depth(),
                    MAX_DEPTH - 1
                )));
            }
            if let Some((key, _)) = metadata.get_key_value(&key) {
                return Err(de::Error::custom(format_args!("the key {key:?} stands twice in one map")));
            }
            metadata.insert(key, value);
        }
        Ok(metadata)
    }
}
