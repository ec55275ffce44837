//! From an [`Index`] to MessagePack.

use super::msgpack::Packer;
use crate::error::Result;
use crate::index::{ComponentInfo, Encoding, Index, TensorInfo};

/// An index of fewer bytes takes no more memory than a reader gives to any file, whatever stands in it.
const SURELY_TAKEN: usize = 64 * 1024;

/// What a record of names that this library knows takes at most, beside a tensor's name and what there may be any number of.
const MOST: usize = 128;

impl Index {
    /// The index in MessagePack, as FORMAT.md section 2 asks. The bytes depend on nothing but what the index says.
    ///
    /// # Errors
    ///
    /// `Limit` if a key-value has no form in MessagePack, or if there are so many of them, or of dimensions, that no reader
    /// takes the file; `Memory`.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        // What a dense tensor takes beside its name, or nearly, and what the last one asks for.
        const RECORD_LEN: usize = 64;
        const SPARE_LEN: usize = 4096;
        let mut packer = Packer::default();
        packer
            .room(self.names.len() + self.tensors.len() * RECORD_LEN + self.chunks.len() * 5 + SPARE_LEN)?;
        packer.small_map(1 + u8::from(!self.metadata.is_empty()));
        packer.text("tensors");
        packer.array(self.len());
        self.iter().try_for_each(|info| info.pack(&mut packer))?;
        if !self.metadata.is_empty() {
            packer.text("metadata");
            packer.value(&self.metadata)?;
        }
        let bytes = packer.into_bytes();
        // Nothing but key-values and many dimensions takes more memory than a reader gives to it.
        let is_plain = self.metadata.is_empty() && self.attributes.is_empty();
        let is_flat = self.dims.len() * size_of::<u64>() <= bytes.len() / 2;
        if !(is_plain && is_flat) && bytes.len() >= SURELY_TAKEN {
            let blobs = self.components.iter().map(|record| record.offset.saturating_add(record.size)).max();
            Self::parse(&bytes, blobs.unwrap_or(0).saturating_add(bytes.len() as u64))?;
        }
        Ok(bytes)
    }
}

impl TensorInfo<'_> {
    fn pack(&self, packer: &mut Packer) -> Result<()> {
        let attributes = self.attributes();
        packer.room(self.name().len() + 9 * self.shape().len() + MOST * (1 + self.components().len()))?;
        packer.array(5 + usize::from(attributes.is_some()));
        packer.text(self.name());
        packer.text(self.dtype().name());
        packer.array(self.shape().len());
        self.shape().iter().for_each(|&dim| packer.uint(dim));
        packer.text(self.layout().name());
        let mut parts = self.components();
        packer.array(parts.len());
        parts.try_for_each(|part| part.pack(packer))?;
        attributes.map_or(Ok(()), |attributes| packer.value(attributes))
    }
}

impl ComponentInfo<'_> {
    fn pack(&self, packer: &mut Packer) -> Result<()> {
        let encoding = self.encoding();
        packer.array(5 + usize::from(encoding != Encoding::Raw));
        packer.text(self.role_name());
        packer.text(self.dtype().name());
        packer.uint(self.offset());
        packer.uint(self.stored_len());
        match self.crc32() {
            Some(crc32) => packer.uint(crc32.into()),
            None => packer.nil(),
        }
        match encoding {
            Encoding::Raw => {}
            Encoding::Zstd(zstd) => {
                packer.array(5);
                packer.text("zstd");
                packer.text(zstd.filter.name());
                packer.uint(zstd.raw_size);
                packer.uint(zstd.chunk_size.into());
                packer.array(zstd.stored.len());
                packer.room(5 * zstd.stored.len())?;
                zstd.stored.iter().for_each(|&len| packer.uint(len.into()));
            }
            Encoding::Unknown(name) => {
                packer.array(1);
                packer.text(name);
            }
        }
        Ok(())
    }
}
