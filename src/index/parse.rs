//! From MessagePack to an [`Index`]: structure alone. The rules of the format are `check`'s.
//!
//! Every seed pushes straight into the index's arrays, so that memory follows the bytes that were really
//! there, never a count that they claim.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::{Check, ComponentRecord, EncodingRecord, Index, RAW, check_name};
use crate::codec::Filter;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{MAX_DEPTH, Metadata, Value};

impl Index {
    /// Reads an index from its bytes. Nothing but its structure is checked.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let mut builder = Builder::default();
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
        deserializer.set_max_depth(MAX_DEPTH + 8);
        if let Err(err) = Root(&mut builder).deserialize(&mut deserializer) {
            let err = builder.failure.take().unwrap_or_else(|| {
                let place = if builder.in_tensors {
                    format!(" in tensor {}", builder.index.len())
                } else {
                    String::new()
                };
                Error::new(ErrorKind::Index, format!("the index is not as the format asks{place}: {err}"))
            });
            return Err(match builder.name {
                Some(name) => err.in_tensor(name),
                None => err,
            });
        }
        match <()>::deserialize(&mut deserializer) {
            Err(rmp_serde::decode::Error::InvalidMarkerRead(_)) => Ok(builder.index),
            _ => Err(Error::new(ErrorKind::Index, "bytes follow the index's map")),
        }
    }
}

#[derive(Default)]
struct Builder<'de> {
    index: Index,
    in_tensors: bool,
    /// The tensor that is being read.
    name: Option<&'de str>,
    /// An error that is more exact than what the deserializer will make of it.
    failure: Option<Error>,
}

impl Builder<'_> {
    /// Keeps an exact error aside and gives the deserializer one of its own.
    fn keep<T, E: de::Error>(&mut self, result: Result<T>) -> Result<T, E> {
        result.map_err(|err| {
            let text = E::custom(&err);
            self.failure = Some(err);
            text
        })
    }
}

/// Text borrowed from the input; binary is no text.
struct Text<'de>(&'de str);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<'de>(PhantomData<&'de ()>);
        impl<'de> Visitor<'de> for TextVisitor<'de> {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text in UTF-8")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(text))
            }
        }
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

/// Makes a seed of a struct around `&mut Builder`, given what it expects and its visitor's methods.
macro_rules! seed {
    ($name:ident -> $value:ty, $expecting:literal, { $($visit:item)+ }) => {
        struct $name<'b, 'de>(&'b mut Builder<'de>);

        impl<'de> DeserializeSeed<'de> for $name<'_, 'de> {
            type Value = $value;

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.deserialize_any(self)
            }
        }

        impl<'de> Visitor<'de> for $name<'_, 'de> {
            type Value = $value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expecting)
            }

            $($visit)+
        }
    };
}

/// The next element of an array, which must be there.
fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(seq: &mut A, what: &str) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| missing(what))
}

fn next_seed<'de, A: SeqAccess<'de>, S: DeserializeSeed<'de>>(
    seq: &mut A,
    seed: S,
    what: &str,
) -> Result<S::Value, A::Error> {
    seq.next_element_seed(seed)?.ok_or_else(|| missing(what))
}

fn missing<E: de::Error>(what: &str) -> E {
    E::custom(format_args!("an array ends before its {what}"))
}

/// Passes over the elements that a later version may have added.
fn skip_rest<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<(), A::Error> {
    while seq.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

seed!(Root -> (), "a map with the key \"tensors\"", {
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut has_tensors, mut has_metadata) = (false, false);
        while let Some(Text(key)) = map.next_key()? {
            match key {
                "tensors" if !has_tensors => {
                    has_tensors = true;
                    self.0.in_tensors = true;
                    map.next_value_seed(Tensors(self.0))?;
                    self.0.in_tensors = false;
                }
                "metadata" if !has_metadata => {
                    has_metadata = true;
                    self.0.index.metadata = map.next_value_seed(KeyValues)?;
                }
                "tensors" | "metadata" => return Err(de::Error::duplicate_field("tensors or metadata")),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if has_tensors { Ok(()) } else { Err(de::Error::missing_field("tensors")) }
    }
});

seed!(Tensors -> (), "an array of tensor records", {
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Tensor(self.0))?.is_some() {}
        Ok(())
    }
});

seed!(Tensor -> (), "a tensor record: [name, dtype, shape, layout, components, attributes]", {
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let builder = self.0;
        let mark = builder.index.mark();
        let Text(name) = next(&mut seq, "name")?;
        builder.name = Some(name);
        let Text(dtype) = next(&mut seq, "dtype")?;
        next_seed(&mut seq, Shape(builder), "shape")?;
        let Text(layout) = next(&mut seq, "layout")?;
        next_seed(&mut seq, Components(builder), "components")?;
        let attributes = seq.next_element_seed(KeyValues)?.unwrap_or_default();
        skip_rest(&mut seq)?;
        let dtype = builder.index.dtype_symbol(dtype);
        let dtype = builder.keep(dtype)?;
        let layout = builder.index.layout_symbol(layout);
        let layout = builder.keep(layout)?;
        let at = check_name(name).and_then(|()| builder.index.close_tensor(mark, name, dtype, layout));
        let at = builder.keep(at)?;
        if !attributes.is_empty() {
            builder.index.attributes.insert(at, attributes);
        }
        builder.name = None;
        Ok(())
    }
});

seed!(Shape -> (), "an array of unsigned integers", {
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(dim) = seq.next_element()? {
            self.0.index.dims.push(dim);
        }
        Ok(())
    }
});

seed!(Components -> (), "an array of component records", {
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Component(self.0))?.is_some() {}
        Ok(())
    }
});

seed!(Component -> (), "a component record: [role, dtype, offset, size, crc32, encoding]", {
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let builder = self.0;
        let Text(role) = next(&mut seq, "role")?;
        let Text(dtype) = next(&mut seq, "dtype")?;
        let offset = next(&mut seq, "offset")?;
        let size = next(&mut seq, "size")?;
        let crc32: Option<u32> = next(&mut seq, "crc32")?;
        let encoding = seq.next_element_seed(EncodingSeed(builder))?.unwrap_or(RAW);
        skip_rest(&mut seq)?;
        let role = builder.index.role_symbol(role);
        let role = builder.keep(role)?;
        let dtype = builder.index.dtype_symbol(dtype);
        let dtype = builder.keep(dtype)?;
        builder.index.components.push(ComponentRecord {
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
});

seed!(EncodingSeed -> u32, "nil or an encoding record", {
    fn visit_unit<E>(self) -> Result<u32, E> {
        Ok(RAW)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<u32, A::Error> {
        let builder = self.0;
        let Text(name) = next(&mut seq, "encoding's name")?;
        let unknown = if name == "zstd" {
            let Text(filter) = next(&mut seq, "filter")?;
            match Filter::from_name(filter) {
                Some(filter) => {
                    let raw_size: u64 = next(&mut seq, "raw size")?;
                    let chunk_size: u32 = next(&mut seq, "chunk size")?;
                    let start = builder.index.chunks.len();
                    next_seed(&mut seq, ChunkSizes(builder), "stored sizes")?;
                    skip_rest(&mut seq)?;
                    let record = EncodingRecord::Zstd {
                        filter,
                        raw_size,
                        chunk_size,
                        chunks_start: start as u32,
                        chunk_count: (builder.index.chunks.len() - start) as u32,
                    };
                    return Ok(builder.index.push_encoding(record));
                }
                None => format!("zstd with filter {filter}"),
            }
        } else {
            name.to_owned()
        };
        skip_rest(&mut seq)?;
        let symbol = builder.index.symbols.intern(&unknown);
        let symbol = builder.keep(symbol)?;
        Ok(builder.index.push_encoding(EncodingRecord::Unknown(symbol)))
    }
});

seed!(ChunkSizes -> (), "an array of stored sizes", {
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(size) = seq.next_element()? {
            self.0.index.chunks.push(size);
        }
        Ok(())
    }
});

/// The key-values of a file or a tensor.
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
        while let Some(Text(key)) = map.next_key()? {
            let value: Value = map.next_value()?;
            if value.depth() >= MAX_DEPTH {
                return Err(de::Error::custom(format_args!(
                    "arrays and maps stand {} deep under the key {key:?}, the limit is {}",
                    value.depth(),
                    MAX_DEPTH - 1
                )));
            }
            if metadata.insert(key.to_owned(), value).is_some() {
                return Err(de::Error::custom(format_args!("the key {key:?} stands twice in one map")));
            }
        }
        Ok(metadata)
    }
}
