//! The list of tensors of a file: what the index says, held in few large arrays.
//!
//! One description serves reader, writer, C and Python. A million tensors are five growing arrays and a
//! hash table, not a million objects: a dense tensor takes some 90 bytes beside its name.

mod blob;
mod builder;
mod names;
mod symbol;
mod validate;

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::hash::RandomState;
use std::sync::OnceLock;

use hashbrown::HashTable;

use crate::codec::{Arrangement, Filter, SeekTable};
use crate::dtype::{DType, Named};
use crate::error::{Result, ensure};
use crate::layout::{Geometry, Layout, MAX_NDIM, Role};
use crate::metadata::Metadata;
use crate::room;

pub use crate::codec::{Frames, Zstd};
pub(crate) use builder::{DigestRecord, DuplicatePolicy, NewEncoding, NewPart, NewTensor};
pub(crate) use symbol::Symbol;
pub(crate) use validate::{BlobRegion, FormatRules, OverlapPolicy, check_name};

use symbol::Symbols;

/// A name that this library knows, or the text of one that it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Known<'a, T> {
    /// A known one.
    Known(T),
    /// Text that is listed and passed on, but not understood.
    Unknown(&'a str),
}

impl<'a, T: Copy> Known<'a, T> {
    /// The known one, if it is.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// The name in the index.
    pub(crate) fn name(self) -> &'a str
    where
        T: Named,
    {
        match self {
            Self::Known(value) => value.name(),
            Self::Unknown(name) => name,
        }
    }
}

/// How a component's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding<'a> {
    /// As they are.
    Raw,
    /// In zstd frames.
    Zstd(Zstd<'a>),
    /// In a way that this library does not know.
    Unknown(&'a str),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TensorRecord {
    name_start: u32,
    dims_start: u32,
    components_start: u32,
    name_len: u32,
    dtype: Symbol,
    layout: Symbol,
    ndim: u8,
    component_count: u8,
}

impl TensorRecord {
    /// The tensor's name, among all names.
    fn name_in<'n>(&self, names: &'n str) -> &'n str {
        &names[self.name_start as usize..][..self.name_len as usize]
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ComponentRecord {
    pub(crate) offset: u64,
    pub(crate) size: u64,
    /// CRC-32 of the stored bytes, or the place in `Index::digests`.
    pub(crate) crc32: u32,
    /// Place in `Index::encodings`, or [`RAW`].
    pub(crate) encoding: u32,
    pub(crate) role: Symbol,
    pub(crate) dtype: Symbol,
    /// The number of the file that holds the blob: 0 but for shards.
    pub(crate) file: u16,
    pub(crate) check: Check,
}

/// What a component's bytes can be checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Nothing,
    Crc32,
    Digest,
}

/// The encoding of a raw component.
pub(crate) const RAW: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
pub(crate) enum EncodingRecord {
    Zstd { filter: Filter, raw_size: u64, chunk_size: u32, chunks_start: u32, chunk_count: u32 },
    Unknown(Symbol),
    Stream { raw_size: u64 },
    Seekable { raw_size: u64, table: u32 },
    Arranged(Arrangement),
}

/// The key-values of a tensor.
#[derive(Debug)]
pub(crate) struct Attributes {
    /// The bytes in the index that are not parsed yet, if they were read from one.
    packed: Box<[u8]>,
    /// Parses `packed`, which was checked when the file was opened.
    unpack: fn(&[u8]) -> Metadata,
    values: OnceLock<Metadata>,
}

impl Attributes {
    /// Key-value pairs that keep every rule, which `unpack` parses when they are asked for.
    pub(crate) fn packed(bytes: &[u8], unpack: fn(&[u8]) -> Metadata) -> Self {
        Self { packed: bytes.into(), unpack, values: OnceLock::new() }
    }

    fn values(&self) -> &Metadata {
        self.values.get_or_init(|| (self.unpack)(&self.packed))
    }
}

impl From<Metadata> for Attributes {
    fn from(values: Metadata) -> Self {
        Self { packed: Box::default(), unpack: |_| Metadata::new(), values: values.into() }
    }
}

/// All that a file's index says.
#[derive(Debug, Default)]
pub struct Index {
    /// Names, each followed by a NUL.
    pub(crate) names: String,
    pub(crate) dims: Vec<u64>,
    pub(crate) tensors: Vec<TensorRecord>,
    pub(crate) components: Vec<ComponentRecord>,
    pub(crate) encodings: Vec<EncodingRecord>,
    pub(crate) chunks: Vec<u32>,
    pub(crate) symbols: Symbols,
    by_name: HashTable<u32>,
    hasher: RandomState,
    pub(crate) attributes: BTreeMap<u32, Attributes>,
    /// Checksums of other kinds than our own, and tables of frames that stand in their blobs: of foreign files.
    digests: Vec<DigestRecord>,
    seek_tables: Vec<OnceLock<SeekTable>>,
    /// The file's own key-values.
    pub metadata: Metadata,
}

impl Index {
    /// An index of no tensors.
    pub(crate) fn with_metadata(metadata: Metadata) -> Self {
        Self { metadata, ..Self::default() }
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// All names in the order of the tensors, each followed by a NUL.
    pub fn names(&self) -> &str {
        &self.names
    }

    /// The tensor of this number, in the order written.
    pub fn get(&self, at: usize) -> Option<TensorInfo<'_>> {
        self.tensors.get(at).map(|record| TensorInfo { index: self, record, at })
    }

    /// The tensors in the order written.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = TensorInfo<'_>> {
        self.tensors.iter().enumerate().map(|(at, record)| TensorInfo { index: self, record, at })
    }

    pub(crate) fn dtype_symbol(&mut self, name: &str) -> Result<Symbol> {
        DType::from_name(name).map_or_else(|| self.symbols.intern(name), |dtype| Ok(dtype as Symbol))
    }

    pub(crate) fn layout_symbol(&mut self, name: &str) -> Result<Symbol> {
        Layout::from_name(name).map_or_else(|| self.symbols.intern(name), |layout| Ok(layout as Symbol))
    }

    pub(crate) fn role_symbol(&mut self, name: &str) -> Result<Symbol> {
        Role::from_name(name).map_or_else(|| self.symbols.intern(name), |role| Ok(role as Symbol))
    }

    /// Begins a tensor: remembers where its dimensions and components will start.
    pub(crate) fn mark(&self) -> Mark {
        Mark { dims: self.dims.len(), components: self.components.len() }
    }

    /// Ends a tensor whose dimensions and components were pushed since `mark`. The caller has made room for the rest.
    ///
    /// # Errors
    ///
    /// `Limit` where a count passes what the records hold; `Shape` for more than [`MAX_NDIM`] dimensions.
    pub(crate) fn close_tensor(
        &mut self,
        mark: Mark,
        name: &str,
        dtype: Symbol,
        layout: Symbol,
    ) -> Result<u32> {
        let ndim = self.dims.len() - mark.dims;
        ensure!(ndim <= MAX_NDIM, Shape, "{ndim} dimensions, the limit is {MAX_NDIM}");
        let count = self.components.len() - mark.components;
        ensure!(count <= 255, Limit, "{count} components, the limit is 255");
        let start = u32::try_from(self.names.len());
        let at = u32::try_from(self.tensors.len());
        let (Ok(name_start), Ok(name_len), Ok(at), Ok(dims_start), Ok(components_start)) =
            (start, u32::try_from(name.len()), at, u32::try_from(mark.dims), u32::try_from(mark.components))
        else {
            crate::error::fail!(
                Limit,
                "the index holds more than 2^32 names' bytes, dimensions or components"
            );
        };
        self.names.push_str(name);
        self.names.push('\0');
        self.tensors.push(TensorRecord {
            name_start,
            dims_start,
            components_start,
            name_len,
            dtype,
            layout,
            ndim: ndim as u8,
            component_count: count as u8,
        });
        Ok(at)
    }

    pub(crate) fn push_encoding(&mut self, record: EncodingRecord) -> u32 {
        self.encodings.push(record);
        (self.encodings.len() - 1) as u32
    }

    /// Adds a chunk table; `stored` are the chunks' stored sizes.
    pub(crate) fn push_zstd(
        &mut self,
        filter: Filter,
        raw_size: u64,
        chunk_size: u32,
        stored: &[u32],
    ) -> Result<u32> {
        ensure!(
            self.chunks.len() + stored.len() < RAW as usize,
            Limit,
            "the file holds more than 2^32 chunks"
        );
        let record = EncodingRecord::Zstd {
            filter,
            raw_size,
            chunk_size,
            chunks_start: self.chunks.len() as u32,
            chunk_count: stored.len() as u32,
        };
        self.chunks.try_reserve(stored.len())?;
        self.encodings.try_reserve(1)?;
        self.chunks.extend_from_slice(stored);
        Ok(self.push_encoding(record))
    }

    /// Makes room for more tensors.
    pub(crate) fn reserve(&mut self, count: usize) -> Result<()> {
        self.tensors.try_reserve(count)?;
        self.components.try_reserve(count)?;
        self.dims.try_reserve(2 * count)?;
        self.reserve_names(count)
    }

    /// Makes room for a tensor's record, its name and its dimensions.
    fn reserve_record(&mut self, name: &str, shape: &[u64]) -> Result<()> {
        self.names.try_reserve(name.len() + 1)?;
        self.dims.try_reserve(shape.len())?;
        self.tensors.try_reserve(1)?;
        Ok(())
    }

    /// Adds a tensor that a writer has stored. Its name keeps the rules and is a new one, of this hash; the components
    /// fit the layout.
    pub(crate) fn push(
        &mut self,
        (name, hash): (&str, u64),
        dtype: DType,
        shape: &[u64],
        layout: Layout,
        components: impl Iterator<Item = ComponentRecord>,
        attributes: Metadata,
    ) -> Result<()> {
        let mark = self.mark();
        self.reserve_record(name, shape)?;
        self.dims.extend_from_slice(shape);
        room::extend(&mut self.components, components)?;
        let at = self.close_tensor(mark, name, dtype as Symbol, layout as Symbol)?;
        if !attributes.is_empty() {
            self.attributes.insert(at, attributes.into());
        }
        self.insert_name(at, hash);
        Ok(())
    }
}

/// Where a tensor's dimensions and components start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    dims: usize,
    components: usize,
}

/// What the index says of one tensor.
#[derive(Debug, Clone, Copy)]
pub struct TensorInfo<'a> {
    index: &'a Index,
    record: &'a TensorRecord,
    at: usize,
}

impl<'a> TensorInfo<'a> {
    /// Its number, in the order written.
    pub fn number(&self) -> usize {
        self.at
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.index.name_of(self.at as u32)
    }

    /// Where the name begins in [`Index::names`].
    pub fn name_start(&self) -> usize {
        self.record.name_start as usize
    }

    /// Its element type.
    pub fn dtype(&self) -> Known<'a, DType> {
        self.index.symbols.resolve(self.record.dtype, DType::from_code)
    }

    /// Its layout.
    pub fn layout(&self) -> Known<'a, Layout> {
        self.index.symbols.resolve(self.record.layout, Layout::from_code)
    }

    /// The name of its element type, for C.
    pub(crate) fn dtype_c_name(&self) -> &'a CStr {
        let unknown = self.index.symbols.c_text(self.record.dtype);
        self.dtype().known().map_or(unknown, |dtype| dtype.c_name())
    }

    /// The name of its layout, for C.
    pub(crate) fn layout_c_name(&self) -> &'a CStr {
        let unknown = self.index.symbols.c_text(self.record.layout);
        self.layout().known().map_or(unknown, |layout| layout.c_name())
    }

    /// Its dimensions; none for a scalar.
    pub fn shape(&self) -> &'a [u64] {
        &self.index.dims[self.record.dims_start as usize..][..usize::from(self.record.ndim)]
    }

    /// The number of its first component among the components of all tensors, in order.
    pub fn first_component(&self) -> usize {
        self.record.components_start as usize
    }

    /// Its components, in the order of the layout.
    pub fn components(&self) -> impl ExactSizeIterator<Item = ComponentInfo<'a>> + use<'a> {
        let index = self.index;
        let records = &index.components[self.record.components_start as usize..]
            [..usize::from(self.record.component_count)];
        records.iter().map(move |record| ComponentInfo { index, record })
    }

    /// The component of this number.
    pub fn component(&self, at: usize) -> Option<ComponentInfo<'a>> {
        self.components().nth(at)
    }

    /// Its own key-values.
    pub fn attributes(&self) -> Option<&'a Metadata> {
        self.index.attributes.get(&(self.at as u32)).map(Attributes::values)
    }

    /// Whether it has key-values of its own. This is told without a look at them.
    pub fn has_attributes(&self) -> bool {
        self.index.attributes.contains_key(&(self.at as u32))
    }

    /// Bytes of all its components, decoded; of one in an unknown encoding, as stored.
    pub fn len_bytes(&self) -> u64 {
        let lens = self.components().map(|part| part.len_bytes().unwrap_or(part.stored_len()));
        // What an index states of a stream is checked only when that is read.
        lens.fold(0, u64::saturating_add)
    }

    /// Rows and columns of a block: the attribute `blocksize`, where it is two integers.
    pub fn blocksize(&self) -> Option<[u64; 2]> {
        match self.attributes()?.get("blocksize")? {
            crate::metadata::Value::Array(items) => match items.as_slice() {
                [rows, columns] => Some([rows.as_u64()?, columns.as_u64()?]),
                _ => None,
            },
            _ => None,
        }
    }

    /// What the rules of layouts need to know, if element type and layout are known.
    pub(crate) fn geometry(&self) -> Option<Geometry<'a>> {
        let (layout, dtype) = (self.layout().known()?, self.dtype().known()?);
        let blocksize = if layout.is_blocked() { self.blocksize() } else { None };
        Some(Geometry { layout, dtype, shape: self.shape(), blocksize })
    }
}

/// What the index says of one component.
#[derive(Debug, Clone, Copy)]
pub struct ComponentInfo<'a> {
    index: &'a Index,
    record: &'a ComponentRecord,
}

impl<'a> ComponentInfo<'a> {
    /// What it is to its layout.
    pub fn role(&self) -> Known<'a, Role> {
        self.index.symbols.resolve(self.record.role, Role::from_code)
    }

    /// The name of its role.
    pub fn role_name(&self) -> &'a str {
        self.role().name()
    }

    /// Its element type.
    pub fn dtype(&self) -> Known<'a, DType> {
        self.index.symbols.resolve(self.record.dtype, DType::from_code)
    }

    /// The name of its role, for C.
    pub(crate) fn role_c_name(&self) -> &'a CStr {
        let unknown = self.index.symbols.c_text(self.record.role);
        self.role().known().map_or(unknown, |role| role.c_name())
    }

    /// The name of its element type, for C.
    pub(crate) fn dtype_c_name(&self) -> &'a CStr {
        let unknown = self.index.symbols.c_text(self.record.dtype);
        self.dtype().known().map_or(unknown, |dtype| dtype.c_name())
    }

    /// The name of its encoding, for C.
    pub(crate) fn encoding_c_name(&self) -> &'a CStr {
        match self.index.encodings.get(self.record.encoding as usize) {
            None | Some(EncodingRecord::Arranged(_)) => c"raw",
            Some(
                EncodingRecord::Zstd { .. } | EncodingRecord::Stream { .. } | EncodingRecord::Seekable { .. },
            ) => c"zstd",
            Some(EncodingRecord::Unknown(symbol)) => self.index.symbols.c_text(*symbol),
        }
    }

    /// Where its blob begins in the file.
    pub fn offset(&self) -> u64 {
        self.record.offset
    }

    /// Bytes of its blob, as stored.
    pub fn stored_len(&self) -> u64 {
        self.record.size
    }

    /// CRC-32 of the stored bytes.
    pub fn crc32(&self) -> Option<u32> {
        (self.record.check == Check::Crc32).then_some(self.record.crc32)
    }

    /// The checksum that the file states, as `algorithm:value` in hexadecimal: `crc32` of the stored bytes in our own files;
    /// in those of older generations also `crc32c`, `sha256` and `xxh3`, in generation 2 of the decoded bytes.
    pub fn checksum(&self) -> Option<String> {
        let crc32 = self.crc32().map(|value| format!("crc32:{value:08x}"));
        crc32.or_else(|| self.digest().map(|record| record.digest.to_string()))
    }

    /// How the bytes are stored.
    pub fn encoding(&self) -> Encoding<'a> {
        if self.record.encoding == RAW {
            return Encoding::Raw;
        }
        match self.index.encodings[self.record.encoding as usize] {
            EncodingRecord::Zstd { filter, raw_size, chunk_size, chunks_start, chunk_count } => {
                let stored = &self.index.chunks[chunks_start as usize..][..chunk_count as usize];
                Encoding::Zstd(Zstd { filter, raw_size, chunk_size, stored, frames: Frames::Chunks })
            }
            EncodingRecord::Stream { raw_size } => Encoding::Zstd(self.foreign_zstd(raw_size, None)),
            EncodingRecord::Seekable { raw_size, table } => {
                Encoding::Zstd(self.foreign_zstd(raw_size, Some(table)))
            }
            EncodingRecord::Arranged(_) => Encoding::Raw,
            EncodingRecord::Unknown(symbol) => Encoding::Unknown(self.index.symbols.text(symbol)),
        }
    }

    /// Bytes, decoded; `None` in an unknown encoding.
    pub fn len_bytes(&self) -> Option<u64> {
        match self.encoding() {
            Encoding::Raw => Some(self.arrangement().map_or(self.record.size, |arrangement| arrangement.len)),
            Encoding::Zstd(zstd) => Some(zstd.raw_size),
            Encoding::Unknown(_) => None,
        }
    }
}
