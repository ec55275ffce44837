//! Key-values of a file or a tensor: MessagePack in the file, JSON text across the C ABI.
//!
//! MessagePack holds three things that JSON cannot spell. They travel as objects of one key: binary as
//! `{"$bytes": "00ff"}` (hexadecimal), a float that is not finite as `{"$float": "nan"}`, `"inf"` or
//! `"-inf"`, an extension as `{"$ext": [type, "00ff"]}`. So every metadata survives the way through JSON.

use std::collections::BTreeMap;
use std::{fmt, io};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};

use crate::error::{Error, ErrorKind, Result, ensure, fail};
use crate::hex::{Hex, unhex};
use crate::room;

/// How deep arrays and maps may stand in each other.
pub(crate) const MAX_DEPTH: usize = 64;

/// Key-values, sorted by key.
pub type Metadata = BTreeMap<String, Value>;

/// Any MessagePack value.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names are those of MessagePack's types")]
pub enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    /// An integer over `i64::MAX`.
    UInt(u64),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    Array(Vec<Value>),
    /// Keys in the order of the file; those that are no text are spelled as JSON.
    Map(Vec<(String, Value)>),
    Ext(i8, Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::UInt(value), Self::Int)
    }
}

impl Value {
    /// This value as an unsigned integer, if it is one.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Int(value) => u64::try_from(value).ok(),
            Self::UInt(value) => Some(value),
            _ => None,
        }
    }

    /// This value as the key of a map: text as it is, anything else that is one value spelled as JSON.
    ///
    /// # Errors
    ///
    /// `Index` for an array or a map: spelled inside each other, every level would double the one before.
    pub(crate) fn into_key(self) -> Result<String> {
        match self {
            Self::Str(text) => Ok(text),
            Self::Array(_) | Self::Map(_) => fail!(Index, "the key of a map is an array or a map"),
            other => Ok(spell(&Spelled(&other))),
        }
    }

    /// How deep arrays and maps stand in each other.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Map(entries) => 1 + entries.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// A key that stands twice in one map, here or further inside.
    fn repeated_key(&self) -> Option<&str> {
        match self {
            Self::Array(items) => items.iter().find_map(Self::repeated_key),
            Self::Map(entries) => {
                repeated(entries).or_else(|| entries.iter().find_map(|(_, value)| value.repeated_key()))
            }
            _ => None,
        }
    }

    /// What this value, as it was read from JSON, stands for: keys are put in order, and objects of one key that begins with $
    /// become what they spell. `what` holds the value.
    fn untagged(self, what: &str) -> Result<Self> {
        Ok(match self {
            Self::Array(items) => {
                Self::Array(items.into_iter().map(|item| item.untagged(what)).collect::<Result<_>>()?)
            }
            Self::Map(mut entries) => match entries.as_slice() {
                [(key, value)] if key.starts_with('$') => from_tagged(key, value, what)?,
                _ => {
                    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
                    let untagged = |(key, value): (_, Self)| Ok((key, value.untagged(what)?));
                    Self::Map(entries.into_iter().map(untagged).collect::<Result<_>>()?)
                }
            },
            other => other,
        })
    }
}

/// A key that stands twice: of its two values JSON would lose one.
fn repeated(entries: &[(String, Value)]) -> Option<&str> {
    let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// Reads the one-key objects that stand for what JSON cannot spell.
fn from_tagged(key: &str, value: &Value, what: &str) -> Result<Value> {
    let parsed = match (key, value) {
        ("$bytes", Value::Str(text)) => unhex(text).map(Value::Bytes),
        ("$float", Value::Str(text)) => match text.as_str() {
            "nan" => Some(Value::Float(f64::NAN)),
            "inf" => Some(Value::Float(f64::INFINITY)),
            "-inf" => Some(Value::Float(f64::NEG_INFINITY)),
            _ => None,
        },
        ("$ext", Value::Array(pair)) => match pair.as_slice() {
            [Value::Int(tag), Value::Str(text)] => {
                i8::try_from(*tag).ok().and_then(|tag| Some(Value::Ext(tag, unhex(text)?)))
            }
            _ => None,
        },
        _ => None,
    };
    let Some(parsed) = parsed else {
        fail!(
            Argument,
            "{what}: an object of the one key {key:?}, which is reserved, has the value {}",
            spell(&Spelled(value))
        )
    };
    Ok(parsed)
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A value as JSON has it, keys of maps in order.
struct Spelled<'a>(&'a Value);

impl Serialize for Spelled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Float(value) if value.is_nan() => serializer.collect_map([("$float", "nan")]),
            Value::Float(value) if value.is_infinite() => {
                serializer.collect_map([("$float", if *value > 0.0 { "inf" } else { "-inf" })])
            }
            Value::Bytes(bytes) => serializer.collect_map([("$bytes", Hex(bytes))]),
            Value::Ext(tag, bytes) => serializer.collect_map([("$ext", (tag, Hex(bytes)))]),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Spelled)),
            Value::Map(entries) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| key);
                serializer.collect_map(entries.into_iter().map(|(key, value)| (key, Spelled(value))))
            }
            plain => plain.serialize(serializer),
        }
    }
}

/// Key-values as JSON has them.
struct SpelledObject<'a>(&'a Metadata);

impl Serialize for SpelledObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, Spelled(value))))
    }
}

fn spell(spelled: &impl Serialize) -> String {
    // Text in memory takes whatever is written to it.
    serde_json::to_string(spelled).unwrap_or_default()
}

/// Spells metadata as the text of a JSON object.
pub fn to_json(metadata: &Metadata) -> String {
    spell(&SpelledObject(metadata))
}

/// As [`to_json`], with a NUL behind it.
///
/// # Errors
///
/// `Memory`.
pub(crate) fn to_c_json(metadata: &Metadata) -> Result<Vec<u8>> {
    /// Text that grows for as long as there is memory.
    struct Text(Vec<u8>);
    impl io::Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.try_reserve(bytes.len())?;
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut text = Text(Vec::new());
    serde_json::to_writer(&mut text, &SpelledObject(metadata))
        .map_err(io::Error::from)
        .and_then(|()| io::Write::write_all(&mut text, b"\0"))
        .map_err(|err| Error::io("spell the key-values", err))?;
    Ok(text.0)
}

/// Reads metadata from the text of a JSON object. Its integers beyond 64 bits become floats, as JSON has one type of number.
///
/// # Errors
///
/// [`ErrorKind::Argument`] if the text is not a JSON object, holds one in which a key stands twice or a reserved key has
/// a value of no meaning, or is nested deeper than can be read.
pub fn from_json(text: &str) -> Result<Metadata> {
    read_json(text, "metadata")
}

/// As [`from_json`], of key-values that messages call `what`.
pub(crate) fn read_json(text: &str, what: &str) -> Result<Metadata> {
    room::ask_for(text.len())?;
    // Read as a map of this crate's, which keeps both values of a key: serde_json's keeps the last.
    let value: Value = serde_json::from_str(text).map_err(|err| {
        Error::new(ErrorKind::Argument, format!("{what}: not the text of a JSON object: {err}"))
    })?;
    let Value::Map(entries) = value else { fail!(Argument, "{what}: not the text of a JSON object") };
    entries.into_iter().map(|(key, value)| Ok((key, value.untagged(what)?))).collect()
}

/// Checks what a writer is about to store; `what` are the key-values.
pub(crate) fn check(metadata: &Metadata, what: &str) -> Result<()> {
    for (key, value) in metadata {
        ensure!(
            value.depth() < MAX_DEPTH,
            Argument,
            "{what}: the key {key:?} holds {} levels of arrays and maps, the limit is {}",
            value.depth(),
            MAX_DEPTH - 1
        );
        if let Some(twice) = value.repeated_key() {
            fail!(Argument, "{what}: the key {key:?} holds a map in which the key {twice:?} stands twice");
        }
    }
    Ok(())
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i64(*value),
            Self::UInt(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Str(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::Array(items) => items.serialize(serializer),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
            Self::Ext(tag, bytes) => {
                if bytes.len() > u32::MAX as usize {
                    return Err(S::Error::custom("an extension of 4 GiB or more"));
                }
                let ext = (*tag, serde_bytes_view(bytes));
                serializer.serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &ext)
            }
        }
    }
}

/// Bytes that serde is to write as MessagePack's binary, not as an array of numbers.
fn serde_bytes_view(bytes: &[u8]) -> impl Serialize + '_ {
    struct Bytes<'a>(&'a [u8]);
    impl Serialize for Bytes<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
    Bytes(bytes)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueSeed { counts_are_true: false })
    }
}

/// Reads any value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ValueSeed {
    /// Whether as many entries are there as arrays and maps state. Then they get the memory that they need at once, and no
    /// more than that.
    pub(crate) counts_are_true: bool,
}

impl ValueSeed {
    fn room<T>(self, stated: Option<usize>) -> Vec<T> {
        Vec::with_capacity(if self.counts_are_true { stated.unwrap_or(0) } else { 0 })
    }
}

impl<'de> de::DeserializeSeed<'de> for ValueSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any MessagePack value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = self.room(seq.size_hint());
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = self.room(map.size_hint());
        while let Some(key) = map.next_key_seed(self)? {
            entries.push((key.into_key().map_err(de::Error::custom)?, map.next_value_seed(self)?));
        }
        match repeated(&entries) {
            Some(key) => Err(de::Error::custom(format_args!("the key {key:?} stands twice in one map"))),
            None => Ok(Value::Map(entries)),
        }
    }

    /// An extension: the deserializer hands over a sequence of the type and the bytes.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        struct Ext;
        impl<'de> Visitor<'de> for Ext {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a MessagePack extension")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let missing = || de::Error::custom("an extension without type or data");
                let tag = seq.next_element::<i8>()?.ok_or_else(missing)?;
                match seq.next_element::<Value>()?.ok_or_else(missing)? {
                    Value::Bytes(bytes) => Ok(Value::Ext(tag, bytes)),
                    _ => Err(de::Error::custom("an extension whose data is no binary")),
                }
            }
        }
        deserializer.deserialize_any(Ext)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (i64::MAX as u64 + 1..).prop_map(Value::UInt),
            any::<f64>().prop_filter("NaN is not equal to itself", |v| !v.is_nan()).prop_map(Value::Float),
            ".*".prop_map(Value::Str),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Bytes),
            (any::<i8>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(tag, b)| Value::Ext(tag, b)),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::btree_map("[a-z]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Map(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn messagepack_and_json_give_back_what_they_were_given(value in value()) {
            let packed = rmp_serde::to_vec(&value).unwrap();
            prop_assert_eq!(&rmp_serde::from_slice::<Value>(&packed).unwrap(), &value);
            let metadata = Metadata::from([("key".to_owned(), value)]);
            prop_assert_eq!(from_json(&to_json(&metadata)).unwrap(), metadata);
        }
    }

    #[test]
    fn a_reserved_key_with_another_value_is_refused() {
        for text in
            [r#"{"a":{"$bytes":"0"}}"#, r#"{"a":{"$bytes":"zz"}}"#, r#"{"a":{"$other":1}}"#, "[1]", "{"]
        {
            assert_eq!(from_json(text).unwrap_err().kind(), ErrorKind::Argument, "{text}");
        }
    }

    #[test]
    fn depth_is_limited() {
        let deep = |levels| (0..levels).fold(Value::Nil, |inner, _| Value::Array(vec![inner]));
        let checked = |levels| check(&Metadata::from([("k".to_owned(), deep(levels))]), "metadata");
        assert!(checked(MAX_DEPTH - 1).is_ok());
        assert!(checked(MAX_DEPTH).is_err());
    }

    #[test]
    fn a_key_stands_once_in_a_map() {
        let entry = |key: &str| (key.to_owned(), Value::Nil);
        let inside = |map| Metadata::from([("k".to_owned(), Value::Array(vec![Value::Map(map)]))]);
        assert!(check(&inside(vec![entry("a"), entry("b")]), "metadata").is_ok());
        let err = check(&inside(vec![entry("a"), entry("b"), entry("a")]), "metadata").unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Argument);
        for text in [
            r#"{"a":1,"b":2,"a":1}"#,
            r#"{"o":[{"a":1,"\u0061":2}]}"#,
            r#"{"o":{"p":{"a":{},"b":0,"a":null}}}"#,
            r#"{"o":{"$bytes":"00","$bytes":"00"}}"#,
        ] {
            let err = read_json(text, "attributes").unwrap_err();
            assert_eq!(err.kind(), ErrorKind::Argument, "{text}");
            let key = if text.contains('$') { "$bytes" } else { "a" };
            let told = format!("the key {key:?} stands twice");
            assert!(err.to_string().starts_with("attributes: ") && err.to_string().contains(&told), "{err}");
        }
        let once = from_json(r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#).unwrap();
        assert_eq!(to_json(&once), r#"{"a":{"a":1},"b":[{"a":1},{"a":2}]}"#);
    }

    #[test]
    fn json_is_stored_in_the_order_of_its_keys() {
        let nested = |keys: [&str; 3]| {
            let entries = keys.map(|key| (key.to_owned(), Value::Int(key.len() as i64)));
            Metadata::from([("o".to_owned(), Value::Array(vec![Value::Map(entries.into())]))])
        };
        let found = from_json(r#"{"o":[{"b":1,"é":2,"$a":2}]}"#).unwrap();
        assert_eq!(found, nested(["$a", "b", "é"]));
    }

    #[test]
    fn numbers_of_json_are_integers_where_they_fit() {
        for (text, value) in [
            ("-9223372036854775808", Value::Int(i64::MIN)),
            ("18446744073709551615", Value::UInt(u64::MAX)),
            ("18446744073709551616", Value::Float(18_446_744_073_709_551_616.0)),
            ("1.0", Value::Float(1.0)),
            ("-0", Value::Float(-0.0)),
        ] {
            let found = from_json(&format!(r#"{{"n":{text}}}"#)).unwrap();
            assert_eq!(found, Metadata::from([("n".to_owned(), value)]), "{text}");
        }
        assert_eq!(from_json(r#"{"n":1e400}"#).unwrap_err().kind(), ErrorKind::Argument);
    }
}
