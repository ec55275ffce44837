//! Writing: tensors in, blobs out, the index last.

mod check;
mod piece;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use hashbrown::HashTable;

use crate::codec::{Chooser, Filter, MIN_COMPRESSED_LEN};
use crate::container::{self, ALIGNMENT, Footer, HEADER_LEN, SIGNATURE, align_up};
use crate::dtype::{DType, Element};
use crate::error::{Place, Result, ensure, fail};
use crate::index::{ComponentRecord, Index};
use crate::layout::{Layout, Role};
use crate::metadata::{self, Metadata};
use crate::parallel;
use crate::room;
use crate::sink::{Fsync, Sink};
use crate::source::{Buffer, Memory};

use check::check_shared;
use piece::{Encoders, Made, Outcome, Pending, Piece, Spares, cut, group, record_of};

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
    /// Its elements, little-endian, in C order.
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
/// Nothing appears under the file's name before [`Writer::finish`]; dropping the writer abandons the file.
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
    chooser: Option<Chooser>,
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
    /// Begins a file that will take the name `path` when it is finished.
    ///
    /// # Errors
    ///
    /// `Io` and its like if no file can be created beside the destination; `Argument` if the metadata is
    /// nested too deep.
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
            chooser: None,
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
    /// # Errors
    ///
    /// `Name`, `Duplicate`, `Shape`, `Layout`, `Size`, `Sparse`, `Argument`: the tensor breaks a rule; the
    /// writer goes on as if the call had not been made. `Io`, `Memory`: writing failed, `Limit`: the file would hold
    /// more than an index can list; the writer only accepts to be dropped, and what stood under the file's name stays.
    /// `State`: finished or failed before.
    pub fn add(&mut self, tensors: &[Tensor<'_>]) -> Result<()> {
        let checked = self.check_open().and_then(|()| self.check(tensors));
        let hashes = checked.map_err(|err| err.in_file(&self.label))?;
        self.state = State::Failed;
        self.index.reserve(tensors.len()).map_err(|err| err.in_file(&self.label))?;
        if let Some(sink) = &mut self.sink {
            let lens = tensors.iter().flat_map(|tensor| tensor.components).map(|part| part.bytes.len());
            sink.expect(lens.fold(0, |sum, len| sum.saturating_add(len.saturating_add(ALIGNMENT as usize))));
        }
        for (tensors, hashes) in tensors.chunks(RUN_LEN).zip(hashes.chunks(RUN_LEN)) {
            self.store(tensors, hashes).map_err(|err| err.in_file(&self.label))?;
        }
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
    fn check(&self, tensors: &[Tensor<'_>]) -> Result<Vec<u64>> {
        let mut hashes: Vec<u64> = room::list(tensors.len())?;
        let mut names = HashTable::<usize>::new();
        names.try_reserve(tensors.len(), |&other| hashes[other])?;
        let mut lens = HashMap::new();
        for (at, tensor) in tensors.iter().enumerate() {
            let hash = self.index.hash(tensor.name);
            tensor
                .check()
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
    fn store<'a>(&mut self, tensors: &[Tensor<'a>], hashes: &[u64]) -> Result<()> {
        let mut pending = self.pending(tensors)?;
        let Some(sink) = &mut self.sink else { fail!(State, "the writer was finished already") };
        let (mut sink, index) = (sink.gather(), &mut self.index);
        let pieces = cut(&pending)?;
        let groups = group(&pieces)?;
        let spares = Spares::default();
        let is_coded = pending.iter().any(|part| part.coding.is_some());
        let is_beside = !is_coded && self.threads > 1 && groups.len() > 1;
        let mut put = |piece: &Piece<'a>, made| {
            let part = &mut pending[piece.component];
            part.put(piece, made, &mut sink, index, &spares)
                .map_err(|err| err.in_component(part.role.name()).in_tensor(part.tensor))
        };
        if is_beside {
            // A checksum takes a fraction of the time of a write.
            let write = |piece: &Piece<'a>| put(piece, Made::unsummed());
            let sums = parallel::ahead(&pieces, CHECKED_AHEAD, Piece::len, Piece::checksum, write)?;
            for (piece, sum) in pieces.iter().zip(sums) {
                pending[piece.component].add_checksum(sum);
            }
        } else {
            let helpers = if is_coded { parallel::helper_count(self.threads) } else { 0 };
            parallel::in_order(
                helpers,
                &groups,
                || Ok(Encoders::None),
                |encoders, group| {
                    group.iter().map(|piece| piece.make(encoders, &spares)).collect::<Result<Vec<Made>>>()
                },
                |group, made| group.iter().zip(made).try_for_each(|(piece, made)| put(piece, made)),
            )?;
        }
        sink.finish()?;
        let mut parts = 0..pending.len();
        for (tensor, &hash) in tensors.iter().zip(hashes) {
            let records = parts.by_ref().take(tensor.components.len());
            let records = records.filter_map(|at| record_of(&pending, at));
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
        for part in &pending {
            if let (Outcome::Stored(record), true) = (&part.outcome, part.share != 0) {
                self.shared.insert((part.share, part.dtype), (part.bytes.len(), *record));
            }
        }
        Ok(())
    }

    /// The components of a call, each known to be stored already or waiting.
    fn pending<'a>(&mut self, tensors: &[Tensor<'a>]) -> Result<Vec<Pending<'a>>> {
        let mut pending: Vec<Pending<'a>> = Vec::new();
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
                            entry.insert(pending.len());
                            Outcome::Waiting
                        }
                    }
                };
                let compress = tensor.level > 0 && bytes.len() >= MIN_COMPRESSED_LEN;
                let is_index = matches!(role, Role::Indices | Role::Indptr);
                let coding = match compress && matches!(outcome, Outcome::Waiting) {
                    true => {
                        let chooser = match &mut self.chooser {
                            Some(chooser) => chooser,
                            none => none.insert(Chooser::new()?),
                        };
                        let suited = Filter::choose(dtype, is_index);
                        Some(chooser.choose(tensor.level, suited, dtype.filter_width(), bytes)?)
                    }
                    false => None,
                };
                let part = Pending {
                    tensor: tensor.name,
                    role: *role,
                    dtype,
                    bytes,
                    coding,
                    share,
                    start: 0,
                    waiting: 0,
                    stored: Vec::new(),
                    hasher: None,
                    outcome,
                };
                room::push(&mut pending, part)?;
            }
        }
        Ok(pending)
    }

    /// Writes index and footer and gives the file its name. A file in memory gives its bytes.
    ///
    /// # Errors
    ///
    /// `State` if the writer was finished or failed before. `Io`, `FileNotFound`, `Memory` if writing, flushing or renaming
    /// failed, `Limit` for so many key-values that no reader takes the file: what stood under the file's name stays. One
    /// failure comes after the file took its name: that the directory cannot be flushed, which the message says.
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
