//! From an [`Index`] to MessagePack.

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, SerializeTuple, Serializer};

use super::{ComponentInfo, Encoding, Index, Known, TensorInfo};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::Layout;

impl Index {
    /// The index's bytes. They depend on nothing but what the index says.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        rmp_serde::to_vec(self).map_err(|err| {
            Error::new(ErrorKind::Limit, format!("the index cannot be written as MessagePack: {err}"))
        })
    }
}

impl Serialize for Index {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + usize::from(!self.metadata.is_empty())))?;
        map.serialize_entry("tensors", &Tensors(self))?;
        if !self.metadata.is_empty() {
            map.serialize_entry("metadata", &self.metadata)?;
        }
        map.end()
    }
}

struct Tensors<'a>(&'a Index);

impl Serialize for Tensors<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

fn dtype_name(dtype: Known<'_, DType>) -> &str {
    match dtype {
        Known::Known(dtype) => dtype.name(),
        Known::Unknown(name) => name,
    }
}

impl Serialize for TensorInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Components<'a>(TensorInfo<'a>);
        impl Serialize for Components<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.components())
            }
        }
        let attributes = self.attributes();
        let mut record = serializer.serialize_tuple(5 + usize::from(attributes.is_some()))?;
        record.serialize_element(self.name())?;
        record.serialize_element(dtype_name(self.dtype()))?;
        record.serialize_element(self.shape())?;
        record.serialize_element(match self.layout() {
            Known::Known(layout) => Layout::name(layout),
            Known::Unknown(name) => name,
        })?;
        record.serialize_element(&Components(*self))?;
        if let Some(attributes) = attributes {
            record.serialize_element(attributes)?;
        }
        record.end()
    }
}

impl Serialize for ComponentInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let encoding = self.encoding();
        let mut record = serializer.serialize_tuple(5 + usize::from(encoding != Encoding::Raw))?;
        record.serialize_element(self.role_name())?;
        record.serialize_element(dtype_name(self.dtype()))?;
        record.serialize_element(&self.offset())?;
        record.serialize_element(&self.stored_len())?;
        record.serialize_element(&self.crc32())?;
        if encoding != Encoding::Raw {
            record.serialize_element(&encoding)?;
        }
        record.end()
    }
}

impl Serialize for Encoding<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Raw => serializer.serialize_unit(),
            Self::Zstd(zstd) => {
                let record = ("zstd", zstd.filter.name(), zstd.raw_size, zstd.chunk_size, zstd.stored);
                record.serialize(serializer)
            }
            Self::Unknown(name) => {
                let mut record = serializer.serialize_seq(Some(1))?;
                record.serialize_element(name)?;
                record.end()
            }
        }
    }
}
