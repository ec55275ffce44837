//! Writing: tensors in, blobs out, the index last.

mod blob;
mod check;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use hashbrown::HashTable;

use crate::codec::{EncodeParams, Filter, MIN_COMPRESSED_LEN, ParamSelector};
use crate::container::{self, ALIGNMENT, Footer, HEADER_LEN, SIGNATURE, align_up};
use crate::dtype::{DType, Element};
use crate::error::{ErrorKind, Place, Result, ensure, fail};
use crate::index::{ComponentRecord, Index};
use crate::layout::{Layout, Role};
use crate::metadata::{self, Metadata};
use crate::parallel;
use crate::progress::{Progress, ProgressFn};
use crate::room;
use crate::sink::{Fsync, Sink};
use crate::source::{Buffer, Memory};

use blob::{
    BlobWriter, BufferPool, CachedEncoder, Chunk, EncodedChunk, Outcome, Output, batch_chunks,
    component_record, split_chunks,
};
use check::check_shared;

/// Tensors that are treated at a time, so that what is noted of each stays in the processor's cache.
const RUN_LEN: usize = 4096;

/// Bytes that checksums may be ahead of the writes: what a processor's last cache holds with ease.
const CHECKED_AHEAD: usize = 4 * 1024 * 1024;

/// The highest level of compression.
pub const MAX_LEVEL: i32 = 22;

/// How a file is written.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Threads that compress and checksum; 0 for as many as the machine has. The file is the same for any
    /// number.
    pub threads: usize,
    /// When the file is flushed to the disk.
    pub fsync: Fsync,
    /// Whether the file is written beside its destination and renamed when it is whole, which is the default.
    ///
    /// If false, the destination itself is written. That is for files that cannot be replaced by a rename: mount points,
    /// and filesystems that cannot rename. It costs all protection:
    ///
    /// - A save that fails, a process that is killed, or a power cut leaves an incomplete file, and the old one is lost.
    /// - Processes that read or map the old file see it change, and one that touches a page that is gone ends by SIGBUS.
    ///   A file that this process has mapped is refused.
    ///
    /// The destination is emptied at the first write, which may come as late as [`Writer::finish`]. Dropping an unfinished
    /// writer removes the file only if this writer created it.
    pub atomic: bool,
    /// The file's own key-values.
    pub metadata: Metadata,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { threads: 0, fsync: Fsync::default(), atomic: true, metadata: Metadata::new() }
    }
}

/// A component to be written.
#[derive(Debug, Clone, Copy)]
pub struct Component<'a> {
    /// Its element type.
    pub dtype: DType,
    /// Its elements, little-endian, in C order. They must not change before [`Writer::add`] returns.
    pub bytes: &'a [u8],
    /// Components of one file that carry the same number, other than 0, and the same element type are the same
    /// bytes and are stored once, at the level of the first. The caller vouches for it.
    pub share: u64,
}

/// A tensor to be written.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    /// 1 to 4096 bytes of text without NUL, unique in the file.
    pub name: &'a str,
    /// The element type.
    pub dtype: DType,
    /// The dimensions.
    pub shape: &'a [u64],
    /// The layout.
    pub layout: Layout,
    /// Rows and columns of a block, for the blocked layouts.
    pub blocksize: Option<[u64; 2]>,
    /// The components, in the order of the layout.
    pub components: &'a [Component<'a>],
    /// 0 stores the bytes as they are; 1 to 22 compresses, at the level of zstd.
    pub level: i32,
    /// The tensor's own key-values.
    pub attributes: Metadata,
}

/// Writes a `.zt` file. It is used by one thread at a time; the work inside is spread over several.
///
/// Nothing appears under the file's name before [`Writer::finish`]; dropping the writer abandons the file. Files that are not
/// [`atomic`](WriteOptions::atomic) are different.
///
/// # Examples
///
/// ```
/// use ztensor::{Reader, ReadOptions, Writer, WriteOptions};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("model.zt");
/// let mut writer = Writer::create(&path, WriteOptions::default())?;
/// writer.add_dense("weights", &[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// writer.finish()?;
///
/// let reader = Reader::open(&path, ReadOptions::default())?;
/// assert_eq!(reader.read_dense::<f32>("weights")?, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Writer {
    sink: Option<Sink>,
    label: String,
    threads: usize,
    index: Index,
    shared: HashMap<(u64, DType), (usize, ComponentRecord)>,
    selector: Option<ParamSelector>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Finished,
    Failed,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = self.sink.as_ref().map(Sink::position);
        write!(f, "Writer({}, {:?}, {} tensors, at {at:?})", self.label, self.state, self.index.len())
    }
}

impl Writer {
    /// Begins a file that is renamed to `path` when it is finished.
    ///
    /// A symbolic link is followed. A file at `path` is replaced, and its mode is kept, and so are its owner, group and extended
    /// attributes where the process may set them.
    ///
    /// # Errors
    ///
    /// `Io` and its like if no file can be created beside the destination, or none can be renamed to it, as to a mount point;
    /// `Argument` if the metadata is nested too deep.
    pub fn create(path: impl AsRef<Path>, options: WriteOptions) -> Result<Self> {
        let path = path.as_ref();
        let label = path.display().to_string();
        metadata::check(&options.metadata, "metadata")
            .and_then(|()| Sink::create(path, options.fsync, options.atomic))
            .and_then(|sink| Self::new(sink, label, options))
            .map_err(|err| err.in_path(path))
    }

    /// Begins a file in memory; [`Writer::finish`] gives its bytes.
    ///
    /// # Errors
    ///
    /// `Argument` if the metadata is nested too deep; `Memory`.
    pub fn memory(options: WriteOptions) -> Result<Self> {
        metadata::check(&options.metadata, "metadata")
            .and_then(|()| Self::new(Sink::memory(), Place::MEMORY.to_owned(), options))
            .map_err(|err| err.in_file(Place::MEMORY))
    }

    fn new(mut sink: Sink, label: String, options: WriteOptions) -> Result<Self> {
        let mut out = sink.gather();
        out.write(&SIGNATURE)?;
        out.pad_to(HEADER_LEN)?;
        out.finish()?;
        Ok(Self {
            sink: Some(sink),
            label,
            threads: parallel::thread_count(options.threads),
            index: Index::with_metadata(options.metadata),
            shared: HashMap::new(),
            selector: None,
            state: State::Open,
        })
    }

    /// The path of the file, or `<memory>`.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Writes a file in memory to memory that somebody lends, for as long as it fits there.
    pub(crate) fn lend(&mut self, memory: Memory) -> Result<()> {
        let lend = |sink: &mut Sink| sink.lend(memory);
        self.check_open()
            .and_then(|()| self.sink.as_mut().map_or(Ok(()), lend))
            .map_err(|err| err.in_file(&self.label))
    }

    /// Adds a dense tensor of Rust values, uncompressed.
    ///
    /// # Errors
    ///
    /// As [`Writer::add`].
    pub fn add_dense<T: Element>(&mut self, name: &str, shape: &[u64], values: &[T]) -> Result<()> {
        let mut bytes = Vec::new();
        T::to_le_bytes(values, &mut bytes);
        self.add(&[Tensor {
            name,
            dtype: T::DTYPE,
            shape,
            layout: Layout::Dense,
            blocksize: None,
            components: &[Component { dtype: T::DTYPE, bytes: &bytes, share: 0 }],
            level: 0,
            attributes: Metadata::new(),
        }])
    }

    /// Adds tensors, all of them or, if one is refused, none.
    ///
    /// Their bytes must not change meanwhile. If they do, the file is still readable, but holds any mixture of the bytes before
    /// and after, and the checksum of an uncompressed tensor may not match.
    ///
    /// # Errors
    ///
    /// `Name`, `Duplicate`, `Shape`, `Layout`, `Size`, `Sparse`, `Argument`: the tensor breaks a rule; the
    /// writer goes on as if the call had not been made. `Io`, `Memory`: writing failed, `Limit`: the file would hold
    /// more than an index can list; the writer only accepts to be dropped, and what stood under the file's name stays.
    /// `State`: finished or failed before.
    pub fn add(&mut self, tensors: &[Tensor<'_>]) -> Result<()> {
        self.add_watched(tensors, &Progress::none())
    }

    /// Adds tensors as [`Writer::add`] does, and reports bytes done and bytes to do, on the calling thread: first after 50 ms,
    /// then as often, and at the end.
    ///
    /// # Errors
    ///
    /// As [`Writer::add`]. `Cancelled`: `progress` returned false; the writer only accepts to be dropped, and what stood under
    /// the file's name stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use ztensor::{Component, DType, Layout, Metadata, Tensor, WriteOptions, Writer};
    ///
    /// let tensor = Tensor {
    ///     name: "mask",
    ///     dtype: DType::UInt8,
    ///     shape: &[3],
    ///     layout: Layout::Dense,
    ///     blocksize: None,
    ///     components: &[Component { dtype: DType::UInt8, bytes: &[1, 2, 3], share: 0 }],
    ///     level: 3,
    ///     attributes: Metadata::new(),
    /// };
    /// let mut writer = Writer::memory(WriteOptions::default())?;
    /// writer.add_with_progress(&[tensor], &mut |done, total| {
    ///     eprintln!("{done} of {total} bytes");
    ///     true
    /// })?;
    /// # Ok::<(), ztensor::Error>(())
    /// ```
    pub fn add_with_progress<'p>(
        &mut self,
        tensors: &[Tensor<'_>],
        progress: &'p mut ProgressFn<'p>,
    ) -> Result<()> {
        self.add_watched(tensors, &Progress::new(Some(progress)))
    }

    fn add_watched(&mut self, tensors: &[Tensor<'_>], progress: &Progress<'_>) -> Result<()> {
        let result = self.check_open().and_then(|()| self.add_all(tensors, progress));
        if result.is_err() && self.state == State::Failed {
            // The temporary file is removed now, whatever becomes of the writer.
            self.sink = None;
        }
        result.map_err(|err| err.in_file(&self.label))
    }

    fn add_all(&mut self, tensors: &[Tensor<'_>], progress: &Progress<'_>) -> Result<()> {
        let lens = || tensors.iter().flat_map(|tensor| tensor.components).map(|part| part.bytes.len());
        progress.expect(lens().map(|len| len as u64).sum());
        let hashes = match self.check(tensors, progress) {
            Err(err) if err.kind() == ErrorKind::Cancelled => {
                self.state = State::Failed;
                return Err(err);
            }
            checked => checked?,
        };
        self.state = State::Failed;
        self.index.reserve(tensors.len())?;
        if let Some(sink) = &mut self.sink {
            sink.expect(
                lens().fold(0, |sum, len| sum.saturating_add(len.saturating_add(ALIGNMENT as usize))),
            );
        }
        for (tensors, hashes) in tensors.chunks(RUN_LEN).zip(hashes.chunks(RUN_LEN)) {
            self.store(tensors, hashes, progress)?;
        }
        progress.finish()?;
        self.state = State::Open;
        Ok(())
    }

    fn check_open(&self) -> Result<()> {
        match self.state {
            State::Open => Ok(()),
            State::Finished => fail!(State, "the writer was finished already"),
            State::Failed => fail!(State, "an earlier write failed; the file can only be abandoned"),
        }
    }

    /// Checks tensors, and gives the hashes of their names.
    fn check(&self, tensors: &[Tensor<'_>], progress: &Progress<'_>) -> Result<Vec<u64>> {
        let mut hashes: Vec<u64> = room::list(tensors.len())?;
        let mut names = HashTable::<usize>::new();
        names.try_reserve(tensors.len(), |&other| hashes[other])?;
        let mut lens = HashMap::new();
        for (at, tensor) in tensors.iter().enumerate() {
            let hash = self.index.hash(tensor.name);
            tensor
                .check(&|| progress.tick())
                .and_then(|()| {
                    ensure!(
                        names.find(hash, |&other| tensors[other].name == tensor.name).is_none()
                            && self.index.find_hashed(tensor.name, hash).is_none(),
                        Duplicate,
                        "a tensor of this name was added before"
                    );
                    check_shared(&self.shared, &mut lens, tensor.components.iter())
                })
                .map_err(|err| err.in_tensor(tensor.name))?;
            names.insert_unique(hash, at, |&other| hashes[other]);
            hashes.push(hash);
        }
        Ok(hashes)
    }

    /// Writes the blobs of tensors that were checked, and enters them into the index.
    fn store(&mut self, tensors: &[Tensor<'_>], hashes: &[u64], progress: &Progress<'_>) -> Result<()> {
        let mut blobs = self.blobs(tensors, progress)?;
        self.write(&mut blobs, progress)?;
        let mut parts = 0..blobs.len();
        for (tensor, &hash) in tensors.iter().zip(hashes) {
            let records = parts.by_ref().take(tensor.components.len());
            let records = records.filter_map(|at| component_record(&blobs, at));
            self.index
                .push(
                    (tensor.name, hash),
                    tensor.dtype,
                    tensor.shape,
                    tensor.layout,
                    records,
                    tensor.all_attributes(),
                )
                .map_err(|err| err.in_tensor(tensor.name))?;
        }
        for blob in &blobs {
            if let (Outcome::Stored(record), true) = (&blob.outcome, blob.share != 0) {
                self.shared.insert((blob.share, blob.dtype), (blob.bytes.len(), *record));
            }
        }
        Ok(())
    }

    /// Writes all that waits.
    fn write<'a>(&mut self, blobs: &mut [BlobWriter<'a>], progress: &Progress<'_>) -> Result<()> {
        let Some(sink) = &mut self.sink else { fail!(State, "the writer was finished already") };
        let chunks = split_chunks(blobs)?;
        let batches = batch_chunks(&chunks)?;
        let pool = BufferPool::default();
        let mut out = Output { sink: sink.gather(), index: &mut self.index, pool: &pool, progress };
        let compresses = blobs.iter().any(|blob| blob.params.is_some());
        let mut write = |chunk: &Chunk<'a>, encoded| {
            let blob = &mut blobs[chunk.component];
            blob.write_chunk(chunk, encoded, &mut out)
                .map_err(|err| err.in_component(blob.role.name()).in_tensor(blob.tensor))
        };
        if !compresses && self.threads > 1 && batches.len() > 1 {
            // A checksum takes a fraction of the time of a write.
            let write = |chunk: &Chunk<'a>| write(chunk, EncodedChunk::without_checksum());
            let checksums = parallel::map_with_lookahead(
                &chunks,
                CHECKED_AHEAD,
                progress,
                Chunk::len,
                Chunk::checksum,
                write,
            )?;
            for (chunk, checksum) in chunks.iter().zip(checksums) {
                blobs[chunk.component].add_checksum(checksum);
            }
        } else {
            let helpers = if compresses { parallel::helper_count(self.threads) } else { 0 };
            let encode = |cached: &mut CachedEncoder,
                          batch: &&[Chunk<'_>],
                          checkpoint: &dyn Fn() -> Result<()>| {
                batch.iter().map(|chunk| chunk.encode(cached, &pool, checkpoint)).collect::<Result<Vec<_>>>()
            };
            parallel::map_ordered(
                helpers,
                &batches,
                progress,
                || Ok(CachedEncoder::None),
                encode,
                |batch, encoded| {
                    batch.iter().zip(encoded).try_for_each(|(chunk, encoded)| write(chunk, encoded))
                },
            )?;
        }
        out.sink.finish()
    }

    /// What writes the components of a call, each known to be stored already or waiting.
    fn blobs<'a>(&mut self, tensors: &[Tensor<'a>], progress: &Progress<'_>) -> Result<Vec<BlobWriter<'a>>> {
        let mut blobs: Vec<BlobWriter<'a>> = Vec::new();
        let mut first_of = HashMap::new();
        for tensor in tensors {
            for (component, role) in tensor.components.iter().zip(tensor.layout.roles()) {
                let Component { dtype, bytes, share } = *component;
                let outcome = if share == 0 || bytes.is_empty() {
                    Outcome::Waiting
                } else if let Some((_, record)) = self.shared.get(&(share, dtype)) {
                    // The role is the component's own; the blob is shared.
                    Outcome::Stored(ComponentRecord { role: *role as u16, ..*record })
                } else {
                    match first_of.entry((share, dtype)) {
                        Entry::Occupied(first) => Outcome::SameAs(*first.get()),
                        Entry::Vacant(entry) => {
                            entry.insert(blobs.len());
                            Outcome::Waiting
                        }
                    }
                };
                let params = if matches!(outcome, Outcome::Waiting) {
                    self.encode_params(tensor.level, *role, component, progress)?
                } else {
                    progress.tally().add(bytes.len() as u64);
                    None
                };
                let blob = BlobWriter::new((tensor.name, *role, dtype), (bytes, share), params, outcome);
                room::push(&mut blobs, blob)?;
            }
        }
        Ok(blobs)
    }

    /// How a component is compressed, if it is.
    fn encode_params(
        &mut self,
        level: i32,
        role: Role,
        component: &Component<'_>,
        progress: &Progress<'_>,
    ) -> Result<Option<EncodeParams>> {
        let Component { dtype, bytes, .. } = *component;
        if level == 0 || bytes.len() < MIN_COMPRESSED_LEN {
            return Ok(None);
        }
        progress.tick()?;
        let selector = match &mut self.selector {
            Some(selector) => selector,
            none => none.insert(ParamSelector::new()?),
        };
        let preferred = Filter::choose(dtype, matches!(role, Role::Indices | Role::Indptr));
        selector.choose(level, preferred, dtype.filter_width(), bytes, &|| progress.tick()).map(Some)
    }

    /// Writes index and footer and gives the file its name. A file in memory gives its bytes.
    ///
    /// # Errors
    ///
    /// `State` if the writer was finished or failed before. `Io`, `FileNotFound`, `Memory` if writing, flushing or renaming
    /// failed, `Limit` for so many key-values that no reader takes the file: what stood under the file's name stays. A
    /// whole file that cannot be renamed is kept, and the message names it. One failure comes after the file took its name: that the
    /// directory cannot be flushed, which the message says.
    pub fn finish(&mut self) -> Result<Option<Buffer>> {
        self.check_open().and_then(|()| self.close()).map_err(|err| err.in_file(&self.label))
    }

    fn close(&mut self) -> Result<Option<Buffer>> {
        self.state = State::Failed;
        let Some(mut sink) = self.sink.take() else { fail!(State, "the writer was finished already") };
        let index_offset = align_up(sink.position(), ALIGNMENT);
        let index = self.index.to_bytes()?;
        let mut out = sink.gather();
        out.pad_to(index_offset)?;
        out.write(&index)?;
        let footer = Footer {
            index_offset,
            index_size: index.len() as u64,
            file_size: index_offset + index.len() as u64 + container::FOOTER_LEN,
            index_crc32: crc32fast::hash(&index),
        };
        out.write(&footer.to_bytes())?;
        out.finish()?;
        let bytes = sink.finish()?;
        self.state = State::Finished;
        Ok(bytes)
    }
}
