//! Writing: tensors in, blobs out, the index last.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crc32fast::Hasher;

use crate::codec::{self, CHUNK_LEN, Coding, Encoder, Filter, MIN_COMPRESSED_LEN};
use crate::container::{self, ALIGNMENT, Footer, HEADER_LEN, SIGNATURE, align_up, blob_alignment};
use crate::dtype::{DType, Element};
use crate::error::{Result, ensure, fail};
use crate::index::{Check, ComponentRecord, Index, RAW, check_name};
use crate::layout::{Frame, Layout, Part, Role};
use crate::metadata::{self, Metadata, Value};
use crate::parallel;
use crate::sink::{Fsync, Sink};

/// The highest level of compression.
pub const MAX_LEVEL: i32 = 22;

/// How a file is written.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Threads that compress and checksum; 0 for as many as the machine has. The file is the same for any
    /// number.
    pub threads: usize,
    /// When the file is flushed to the disk.
    pub fsync: Fsync,
    /// The file's own key-values.
    pub metadata: Metadata,
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
#[derive(Debug)]
pub struct Writer {
    sink: Option<Sink>,
    label: String,
    threads: usize,
    index: Index,
    shared: HashMap<(u64, DType), (usize, ComponentRecord)>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Finished,
    Failed,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sink(at {})", self.position())
    }
}

/// A component on its way into the file.
struct Pending<'a> {
    tensor: &'a str,
    role: Role,
    dtype: DType,
    bytes: &'a [u8],
    coding: Option<Coding>,
    share: u64,
    /// Where the blob begins in the file.
    start: u64,
    /// Bytes at the front that wait to be written: compression made none of their chunks smaller, and if that
    /// goes on, the component is stored raw.
    waiting: usize,
    /// Stored sizes of the chunks that were written.
    stored: Vec<u32>,
    /// Of the waiting bytes, or of what was written.
    hasher: Option<Hasher>,
    outcome: Outcome,
}

enum Outcome {
    Waiting,
    /// The component of this number in the same call is the same bytes.
    SameAs(usize),
    Stored(ComponentRecord),
}

/// A run of bytes of one component that is treated at once.
struct Piece<'a> {
    /// Place in the list of this call's components.
    component: usize,
    bytes: &'a [u8],
    coding: Option<Coding>,
    is_first: bool,
    is_last: bool,
}

/// What the helpers make of a piece.
struct Made {
    /// Of the frame, or of the bytes as they are.
    hasher: Hasher,
    /// Set if compression made the piece smaller.
    frame: Option<Vec<u8>>,
}

/// The encoder of a thread, which a change of level replaces.
type Encoders = Option<(i32, Encoder)>;

/// Memory of frames that were written, for those to come.
#[derive(Debug, Default)]
struct Spares(Mutex<Vec<Vec<u8>>>);

impl Spares {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, frame: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
    }
}

impl Piece<'_> {
    fn make(&self, encoders: &mut Encoders, spares: &Spares) -> Result<Made> {
        let mut hasher = Hasher::new();
        let Some(coding) = self.coding else {
            hasher.update(self.bytes);
            return Ok(Made { hasher, frame: None });
        };
        let (_, encoder) = match encoders {
            Some(encoder) if encoder.0 == coding.level => encoder,
            other => other.insert((coding.level, Encoder::new(coding.level)?)),
        };
        let mut frame = spares.take();
        if encoder.encode(coding, self.bytes, &mut frame)? {
            hasher.update(&frame);
            return Ok(Made { hasher, frame: Some(frame) });
        }
        spares.give_back(frame);
        hasher.update(self.bytes);
        Ok(Made { hasher, frame: None })
    }
}

/// Cuts components into pieces.
fn cut<'a>(pending: &[Pending<'a>]) -> Vec<Piece<'a>> {
    let mut pieces = Vec::with_capacity(pending.len());
    for (component, part) in pending.iter().enumerate() {
        if !matches!(part.outcome, Outcome::Waiting) {
            continue;
        }
        let len = part.coding.map_or(CHUNK_LEN, |coding| coding.chunk_len);
        let count = part.bytes.len().div_ceil(len).max(1);
        let mut chunks = part.bytes.chunks(len);
        pieces.extend((0..count).map(|at| Piece {
            component,
            bytes: chunks.next().unwrap_or_default(),
            coding: part.coding,
            is_first: at == 0,
            is_last: at + 1 == count,
        }));
    }
    pieces
}

/// Puts neighbours into groups of at most a chunk's bytes, so that small pieces do not cost a hand-over each.
fn group<'p, 'a>(mut pieces: &'p [Piece<'a>]) -> Vec<&'p [Piece<'a>]> {
    let mut groups = Vec::new();
    while !pieces.is_empty() {
        let mut len = 0;
        let fit = pieces.iter().take_while(|piece| {
            // An empty piece costs something too.
            len += piece.bytes.len().max(64);
            len <= CHUNK_LEN
        });
        let (group, rest) = pieces.split_at(fit.count().max(1));
        groups.push(group);
        pieces = rest;
    }
    groups
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
        metadata::check(&options.metadata)
            .and_then(|()| Sink::create(path, options.fsync))
            .and_then(|sink| Self::new(sink, label.clone(), options))
            .map_err(|err| err.in_file(&label))
    }

    /// Begins a file in memory; [`Writer::finish`] gives its bytes.
    ///
    /// # Errors
    ///
    /// `Argument` if the metadata is nested too deep.
    pub fn memory(options: WriteOptions) -> Result<Self> {
        metadata::check(&options.metadata)?;
        Self::new(Sink::memory(), "<memory>".to_owned(), options)
    }

    fn new(mut sink: Sink, label: String, options: WriteOptions) -> Result<Self> {
        sink.write(&SIGNATURE)?;
        sink.pad_to(HEADER_LEN)?;
        Ok(Self {
            sink: Some(sink),
            label,
            threads: parallel::thread_count(options.threads),
            index: Index::with_metadata(options.metadata),
            shared: HashMap::new(),
            state: State::Open,
        })
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
    /// writer goes on as if the call had not been made. `Io`: writing failed; the writer only accepts to be
    /// dropped, and what stood under the file's name stays. `State`: finished or failed before.
    pub fn add(&mut self, tensors: &[Tensor<'_>]) -> Result<()> {
        self.check_open().and_then(|()| self.check(tensors)).map_err(|err| err.in_file(&self.label))?;
        self.state = State::Failed;
        self.store(tensors).map_err(|err| err.in_file(&self.label))?;
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

    fn check(&self, tensors: &[Tensor<'_>]) -> Result<()> {
        let mut names = HashSet::with_capacity(tensors.len());
        let mut lens = HashMap::new();
        for tensor in tensors {
            tensor
                .check()
                .and_then(|()| {
                    ensure!(
                        names.insert(tensor.name) && self.index.find(tensor.name).is_none(),
                        Duplicate,
                        "a tensor of this name was added before"
                    );
                    check_shared(&self.shared, &mut lens, tensor.components.iter())
                })
                .map_err(|err| err.in_tensor(tensor.name))?;
        }
        Ok(())
    }

    /// Writes the blobs of tensors that were checked, and enters them into the index.
    fn store(&mut self, tensors: &[Tensor<'_>]) -> Result<()> {
        let mut pending = self.pending(tensors)?;
        let pieces = cut(&pending);
        let spares = Spares::default();
        parallel::in_order(
            self.threads,
            &group(&pieces),
            || Ok(Encoders::None),
            |encoders, group| {
                group.iter().map(|piece| piece.make(encoders, &spares)).collect::<Result<Vec<Made>>>()
            },
            |group, made| {
                group.iter().zip(made).try_for_each(|(piece, made)| {
                    let part = &mut pending[piece.component];
                    self.put(part, piece, made, &spares)
                        .map_err(|err| err.in_component(part.role.name()).in_tensor(part.tensor))
                })
            },
        )?;
        let mut parts = 0..pending.len();
        for tensor in tensors {
            let records: Vec<ComponentRecord> = parts
                .by_ref()
                .take(tensor.components.len())
                .filter_map(|at| record_of(&pending, at))
                .collect();
            self.index
                .push(
                    tensor.name,
                    tensor.dtype,
                    tensor.shape,
                    tensor.layout,
                    &records,
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
    fn pending<'a>(&self, tensors: &[Tensor<'a>]) -> Result<Vec<Pending<'a>>> {
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
                let width = dtype.filter_width();
                let coding = match compress && matches!(outcome, Outcome::Waiting) {
                    true => {
                        Some(Coding::choose(tensor.level, Filter::choose(dtype, is_index), width, bytes)?)
                    }
                    false => None,
                };
                pending.push(Pending {
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
                });
            }
        }
        Ok(pending)
    }

    /// Writes a piece, and with the last one of a component makes its record.
    fn put(&mut self, part: &mut Pending<'_>, piece: &Piece<'_>, made: Made, spares: &Spares) -> Result<()> {
        let Some(sink) = &mut self.sink else { fail!(State, "the writer was finished already") };
        let len = part.bytes.len() as u64;
        match (part.coding, made.frame) {
            (Some(_), None) if part.stored.is_empty() => {
                part.waiting += piece.bytes.len();
                combine(&mut part.hasher, made.hasher);
            }
            (Some(coding), frame) => {
                let made = match frame {
                    Some(frame) => (frame, made.hasher),
                    None => stored_frame(coding, piece.bytes),
                };
                if part.stored.is_empty() {
                    // The blob's length is not known yet; this chunk gives a guess.
                    let guess = made.0.len() as u64 * len.div_ceil(coding.chunk_len as u64);
                    part.start = begin_blob(sink, guess)?;
                    part.hasher = None;
                    for chunk in part.bytes[..part.waiting].chunks(coding.chunk_len) {
                        part.put_frame(sink, &stored_frame(coding, chunk))?;
                    }
                }
                part.put_frame(sink, &made)?;
                spares.give_back(made.0);
            }
            (None, _) => {
                if piece.is_first {
                    part.start = begin_blob(sink, len)?;
                }
                combine(&mut part.hasher, made.hasher);
                sink.write(piece.bytes)?;
            }
        }
        if !piece.is_last {
            return Ok(());
        }
        let stored: u64 = part.stored.iter().map(|&stored| u64::from(stored)).sum();
        let is_compressed = part.coding.is_some() && stored > 0 && stored < len;
        if part.coding.is_some() && !is_compressed {
            // Compression made it no smaller: raw, and if some of it was written, back to where the blob began.
            if stored > 0 {
                sink.rewind(part.start)?;
                let mut hasher = Hasher::new();
                hasher.update(part.bytes);
                part.hasher = Some(hasher);
            }
            part.start = begin_blob(sink, len)?;
            sink.write(part.bytes)?;
        }
        let encoding = match part.coding {
            Some(coding) if is_compressed => {
                self.index.push_zstd(coding.filter, len, coding.chunk_len as u32, &part.stored)?
            }
            _ => RAW,
        };
        part.outcome = Outcome::Stored(ComponentRecord {
            offset: part.start,
            size: if is_compressed { stored } else { len },
            crc32: part.hasher.take().map_or(0, Hasher::finalize),
            check: Check::Crc32,
            file: 0,
            encoding,
            role: part.role as u16,
            dtype: part.dtype as u16,
        });
        Ok(())
    }

    /// Writes index and footer and gives the file its name. A file in memory gives its bytes.
    ///
    /// # Errors
    ///
    /// `State` if the writer was finished or failed before; `Io` and its like if writing, flushing or renaming
    /// failed, in which case what stood under the file's name stays.
    pub fn finish(&mut self) -> Result<Option<Vec<u8>>> {
        self.check_open().and_then(|()| self.close()).map_err(|err| err.in_file(&self.label))
    }

    fn close(&mut self) -> Result<Option<Vec<u8>>> {
        self.state = State::Failed;
        let Some(mut sink) = self.sink.take() else { fail!(State, "the writer was finished already") };
        let index_offset = align_up(sink.position(), ALIGNMENT);
        let index = self.index.to_bytes()?;
        sink.pad_to(index_offset)?;
        sink.write(&index)?;
        let footer = Footer {
            index_offset,
            index_size: index.len() as u64,
            file_size: index_offset + index.len() as u64 + container::FOOTER_LEN,
            index_crc32: crc32fast::hash(&index),
        };
        sink.write(&footer.to_bytes())?;
        let bytes = sink.finish()?;
        self.state = State::Finished;
        Ok(bytes)
    }
}

impl Pending<'_> {
    fn put_frame(&mut self, sink: &mut Sink, (frame, hasher): &(Vec<u8>, Hasher)) -> Result<()> {
        combine(&mut self.hasher, hasher.clone());
        self.stored.push(frame.len() as u32);
        sink.write(frame)
    }
}

/// A frame of a chunk that compression makes no smaller, and its checksum.
fn stored_frame(coding: Coding, chunk: &[u8]) -> (Vec<u8>, Hasher) {
    let frame = codec::store(coding.filter, coding.width, chunk);
    let mut hasher = Hasher::new();
    hasher.update(&frame);
    (frame, hasher)
}

/// Adds a checksum of what follows.
fn combine(so_far: &mut Option<Hasher>, next: Hasher) {
    match so_far {
        Some(hasher) => hasher.combine(&next),
        None => *so_far = Some(next),
    }
}

/// Pads up to where a blob of `len` bytes begins.
fn begin_blob(sink: &mut Sink, len: u64) -> Result<u64> {
    if len == 0 {
        // It has no byte to align, only an offset to state.
        return Ok(align_up(sink.position(), ALIGNMENT));
    }
    let start = align_up(sink.position(), blob_alignment(len));
    sink.pad_to(start)?;
    Ok(start)
}

/// The record of a component that was stored, or of the one that it is the same as.
fn record_of(pending: &[Pending<'_>], at: usize) -> Option<ComponentRecord> {
    match &pending[at].outcome {
        Outcome::Stored(record) => Some(*record),
        Outcome::SameAs(first) => record_of(pending, *first)
            .map(|record| ComponentRecord { role: pending[at].role as u16, ..record }),
        Outcome::Waiting => None,
    }
}

impl Tensor<'_> {
    fn check(&self) -> Result<()> {
        check_name(self.name)?;
        ensure!(self.shape.len() <= 64, Shape, "{} dimensions, the limit is 64", self.shape.len());
        ensure!(
            (0..=MAX_LEVEL).contains(&self.level),
            Argument,
            "compression level {}, levels are 1 to {MAX_LEVEL}, or 0 for none",
            self.level
        );
        metadata::check(&self.attributes)?;
        let roles = self.layout.roles();
        ensure!(
            self.components.len() == roles.len(),
            Layout,
            "{} components, a {} tensor has {}",
            self.components.len(),
            self.layout.name(),
            roles.len()
        );
        ensure!(
            !self.layout.is_blocked() || !self.attributes.contains_key("blocksize"),
            Argument,
            "the attribute \"blocksize\" is set by the size of blocks itself"
        );
        let frame = Frame {
            layout: self.layout,
            dtype: self.dtype,
            shape: self.shape,
            blocksize: self.effective_blocksize(),
        };
        frame.check_shape()?;
        let parts: Vec<Part> = self
            .components
            .iter()
            .map(|component| Part { dtype: component.dtype, len: component.bytes.len() as u64 })
            .collect();
        frame.check_parts(&parts)?;
        if self.dtype == DType::Bool {
            check_bools(self.components[0].bytes)?;
        }
        if self.layout == Layout::Dense {
            return Ok(());
        }
        let stored = frame.stored_count(parts[0])?;
        self.components.iter().zip(roles).try_for_each(|(component, role)| {
            frame
                .check_values(*role, component.dtype, component.bytes, 0, stored)
                .map_err(|err| err.in_component(role.name()))
        })
    }

    fn effective_blocksize(&self) -> Option<[u64; 2]> {
        self.blocksize.filter(|_| self.layout.is_blocked())
    }

    /// The attributes as they are stored: the size of blocks is one of them.
    fn all_attributes(&self) -> Metadata {
        let mut attributes = self.attributes.clone();
        if let Some(blocksize) = self.effective_blocksize() {
            let sizes = blocksize.into_iter().map(Value::from).collect();
            attributes.insert("blocksize".to_owned(), Value::Array(sizes));
        }
        attributes
    }
}

/// Checks that every byte is 0 or 1.
fn check_bools(bytes: &[u8]) -> Result<()> {
    // Block by block, so that the search runs on vectors.
    let Some(block) = bytes.chunks(4096).position(|block| block.iter().fold(0, |all, byte| all | byte) > 1)
    else {
        return Ok(());
    };
    let at = bytes[block * 4096..].iter().position(|&byte| byte > 1).map_or(0, |at| block * 4096 + at);
    fail!(Argument, "byte {at} of the bools is {}; a bool is 0 or 1", bytes[at])
}

/// Checks that components that are said to be the same bytes have the same length.
fn check_shared<'a>(
    known: &HashMap<(u64, DType), (usize, ComponentRecord)>,
    lens: &mut HashMap<(u64, DType), usize>,
    components: impl Iterator<Item = &'a Component<'a>>,
) -> Result<()> {
    for component in components.filter(|component| component.share != 0) {
        let key = (component.share, component.dtype);
        let len = component.bytes.len();
        let first = known.get(&key).map(|(len, _)| *len).unwrap_or_else(|| *lens.entry(key).or_insert(len));
        ensure!(
            first == len,
            Argument,
            "a component of {len} bytes is said to be the same as one of {first} bytes (share number {})",
            component.share
        );
    }
    Ok(())
}
