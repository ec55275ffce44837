//! Reading: the index when a file is opened, tensors when they are asked for.

mod fetch;
mod foreign;
mod load;
mod open;
mod verify;

use std::ffi::CStr;
use std::fmt;
use std::path::Path;
use std::slice;

use crate::container::LARGE_BLOB;
use crate::dtype::{DType, Element};
use crate::error::{Cause, Error, ErrorKind, Place, Result, fail};
use crate::formats::Format;
use crate::index::{ComponentInfo, Index, Known, TensorInfo};
use crate::layout::Layout;
use crate::plan::{Batch, Wanted};
use crate::progress::{Progress, ProgressFn};
use crate::room;
use crate::source::{Buffer, Memory, Mode, Source};

use foreign::OpenShard;

/// How a file is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadOptions {
    /// By mapping or by reading.
    pub mode: Mode,
    /// Check the checksum of raw data too, each time that it is read.
    pub verify: bool,
    /// Threads that decode, read and checksum; 0 for as many as the machine has.
    pub threads: usize,
}

/// How one call reads. By default, raw data is checked as the reader was opened, and nothing is reported.
///
/// # Examples
///
/// ```
/// use ztensor::{ReadCall, ReadOptions, Reader, WriteOptions, Writer};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("model.zt");
/// # let mut writer = Writer::create(&path, WriteOptions::default())?;
/// # writer.add_dense("weights", &[3], &[1.0f32, 2.0, 3.0])?;
/// # writer.finish()?;
/// let reader = Reader::open(&path, ReadOptions::default())?;
/// let mut progress = |done, total| {
///     eprintln!("{done} of {total} bytes");
///     true
/// };
/// let batch = reader.read_many(&[0], ReadCall::new().verify(true).progress(&mut progress))?;
/// assert_eq!(batch.buffer(0)?.len(), 12);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct ReadCall<'a> {
    verify: Option<bool>,
    progress: Option<&'a mut ProgressFn<'a>>,
}

impl<'a> ReadCall<'a> {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether the checksum of raw data is checked too.
    pub fn verify(mut self, verify: bool) -> Self {
        self.verify = Some(verify);
        self
    }

    /// Reports bytes done and bytes to do, on the calling thread: first after 50 ms, then as often, and at the end. If
    /// `progress` returns false, the call fails with `Cancelled`.
    pub fn progress(mut self, progress: &'a mut ProgressFn<'a>) -> Self {
        self.progress = Some(progress);
        self
    }
}

impl From<Option<bool>> for ReadCall<'_> {
    /// A call that checks raw data or does not, or does as the reader was opened.
    fn from(verify: Option<bool>) -> Self {
        Self { verify, progress: None }
    }
}

impl fmt::Debug for ReadCall<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReadCall(verify: {:?}, reports: {})", self.verify, self.progress.is_some())
    }
}

/// An open `.zt` file.
///
/// Opening reads the index alone. Many threads may read from one reader at once; there is no lock in the way.
/// What is read is the caller's own: it can be written to, and it outlives the reader.
#[derive(Debug)]
pub struct Reader {
    label: String,
    format: &'static dyn Format,
    format_name: &'static CStr,
    source: Source,
    /// Files beside this one that hold some of its blobs.
    shards: Vec<OpenShard>,
    index: Index,
    verify: bool,
    threads: usize,
}

/// Bytes that are treated at once when raw data is read or checksummed.
const PIECE_LEN: usize = 1024 * 1024;

impl Reader {
    /// Opens a local file and reads its index.
    ///
    /// # Errors
    ///
    /// `FileNotFound`, `Io`, `Memory`: the operating system refuses. `Signature` to `Limit`, or `Duplicate`: the file
    /// is no `.zt` file, or damaged, or breaks a rule of the format; the message says which.
    pub fn open(path: impl AsRef<Path>, options: ReadOptions) -> Result<Self> {
        let path = path.as_ref();
        let label = path.display().to_string();
        Source::open(path, options.mode)
            .and_then(|source| Self::new(source, Some(path), label, options))
            .map_err(|err| err.in_path(path))
    }

    /// Opens a file that is in memory. `options.mode` has no meaning then.
    ///
    /// # Errors
    ///
    /// As [`Reader::open`]; `FileNotFound` for a file that has shards, since nothing stands beside it.
    pub fn from_bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static, options: ReadOptions) -> Result<Self> {
        Self::new(Source::from_bytes(Box::new(bytes)), None, Place::MEMORY.to_owned(), options)
            .map_err(|err| err.in_file(Place::MEMORY))
    }

    /// The path that was opened, or `<memory>`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What the file holds.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The tensor of this number.
    ///
    /// # Errors
    ///
    /// `Range` if there are fewer.
    pub fn tensor(&self, number: usize) -> Result<TensorInfo<'_>> {
        self.index.get(number).ok_or_else(|| {
            let message = format!("no tensor number {number}, the file has {}", self.index.len());
            Error::new(ErrorKind::Range, message).in_file(&self.label)
        })
    }

    /// The number of the tensor of this name.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none.
    pub fn find(&self, name: &str) -> Result<usize> {
        self.index
            .find(name)
            .ok_or_else(|| Error::from(Cause::NotFound { name: name.to_owned() }).in_file(&self.label))
    }

    pub(crate) fn component(
        &self,
        tensor: usize,
        component: usize,
    ) -> Result<(TensorInfo<'_>, ComponentInfo<'_>)> {
        let info = self.tensor(tensor)?;
        let part = info.component(component).ok_or_else(|| {
            let message =
                format!("no component number {component}, the tensor has {}", info.components().len());
            Error::new(ErrorKind::Range, message).in_tensor(info.name()).in_file(&self.label)
        })?;
        Ok((info, part))
    }

    /// Whether a call checks raw data, and what it reports to.
    fn begin<'c>(&self, call: ReadCall<'c>) -> (bool, Progress<'c>) {
        (call.verify.unwrap_or(self.verify), Progress::new(call.progress))
    }

    /// Every component of the tensors, after a check that each can be read as a tensor.
    fn wanted(&self, tensors: &[usize]) -> Result<Vec<Wanted<'_>>> {
        let mut wanted = room::list(tensors.len())?;
        for &number in tensors {
            let info = self.tensor(number)?;
            readable(&info).map_err(|err| err.in_tensor(info.name()))?;
            for part in info.components() {
                room::push(&mut wanted, Wanted::whole(info, part)?)?;
            }
        }
        Ok(wanted)
    }

    /// Reads tensors: all components of each, in order.
    ///
    /// Components that are the same blob share their memory. Raw data of a mapped file is not copied but
    /// mapped privately; what is small may share its memory with what stands beside it in the file.
    ///
    /// # Errors
    ///
    /// `Range`: no such tensor. `UnknownDtype`, `UnknownLayout`, `UnknownEncoding`: it can only be read raw.
    /// `Checksum`, `Frame`, `Sparse`: it is damaged. `Layout`: verified data of a `zt/2` file holds a bool that is neither
    /// 0 nor 1. `Memory`, `Io`, `Truncated`. `Cancelled`: the callback asked to stop.
    pub fn read_many<'c>(&self, tensors: &[usize], call: impl Into<ReadCall<'c>>) -> Result<Batch> {
        let (verify, progress) = self.begin(call.into());
        self.wanted(tensors)
            .and_then(|wanted| self.load(&wanted, verify, &progress))
            .map_err(|err| err.in_file(&self.label))
    }

    /// Reads one component of a tensor.
    ///
    /// # Errors
    ///
    /// As [`Reader::read_many`]; a component of an unknown layout or type can be read.
    pub fn read<'c>(&self, tensor: usize, component: usize, call: impl Into<ReadCall<'c>>) -> Result<Buffer> {
        let (info, part) = self.component(tensor, component)?;
        let (verify, progress) = self.begin(call.into());
        Wanted::whole(info, part)
            .and_then(|wanted| self.load(&[wanted], verify, &progress))
            .and_then(|batch| batch.buffer(0))
            .map_err(|err| err.in_file(&self.label))
    }

    /// Reads `count` elements of a component, from element `first` on, touching only the bytes or chunks that
    /// hold them. If the data is raw and verified, the whole component is checked first.
    ///
    /// # Errors
    ///
    /// As [`Reader::read`]; `Range` if the component has fewer elements; `UnknownDtype` if the size of its
    /// elements is not known.
    pub fn read_range<'c>(
        &self,
        tensor: usize,
        component: usize,
        first: u64,
        count: u64,
        call: impl Into<ReadCall<'c>>,
    ) -> Result<Buffer> {
        let (verify, progress) = self.begin(call.into());
        self.part(tensor, component, first, count)
            .and_then(|wanted| self.load(&[wanted], verify, &progress))
            .and_then(|batch| batch.buffer(0))
            .map_err(|err| err.in_file(&self.label))
    }

    /// Reads as [`Reader::read_range`] does, into memory of the caller.
    ///
    /// # Errors
    ///
    /// As [`Reader::read_range`]; `Size` if `out` has not the bytes that the elements take. On an error `out`
    /// may have been written to.
    pub fn read_range_into<'c>(
        &self,
        tensor: usize,
        component: usize,
        first: u64,
        count: u64,
        out: &mut [u8],
        call: impl Into<ReadCall<'c>>,
    ) -> Result<()> {
        let (verify, progress) = self.begin(call.into());
        self.part(tensor, component, first, count)
            .and_then(|wanted| self.load_into(vec![(wanted, out)], verify, &progress))
            .map_err(|err| err.in_file(&self.label))
    }

    fn part(&self, tensor: usize, component: usize, first: u64, count: u64) -> Result<Wanted<'_>> {
        let (info, part) = self.component(tensor, component)?;
        let whole = Wanted::whole(info, part)?;
        let Some(dtype) = part.dtype().known() else { return Err(whole.locate(unknown_dtype(part.dtype()))) };
        let size = dtype.size() as u64;
        let total = whole.len as u64 / size;
        if first.checked_add(count).is_none_or(|end| end > total) {
            let message =
                format!("elements {first} to {first} + {count} lie outside the {total} of the component");
            return Err(whole.locate(Error::new(ErrorKind::Range, message)));
        }
        Ok(Wanted { start: first * size, len: (count * size) as usize, ..whole })
    }

    /// Reads components into memory of the caller, each of exactly the component's decoded length.
    ///
    /// # Errors
    ///
    /// As [`Reader::read`]; `Size` if a slice has another length. On an error the slices may have been written to.
    pub fn read_into<'c>(
        &self,
        targets: Vec<(usize, usize, &mut [u8])>,
        call: impl Into<ReadCall<'c>>,
    ) -> Result<()> {
        let wanted = || {
            let mut wanted = room::list(targets.len())?;
            for (tensor, component, out) in targets {
                let (info, part) = self.component(tensor, component)?;
                wanted.push((Wanted::whole(info, part)?, out));
            }
            Ok(wanted)
        };
        let (verify, progress) = self.begin(call.into());
        wanted()
            .and_then(|targets| self.load_into(targets, verify, &progress))
            .map_err(|err| err.in_file(&self.label))
    }

    /// Reads the stored bytes of a component as they are in the file, whatever their encoding.
    ///
    /// # Errors
    ///
    /// `Range`, `Checksum`, `Memory`, `Io`, `Truncated`.
    pub fn read_stored<'c>(
        &self,
        tensor: usize,
        component: usize,
        call: impl Into<ReadCall<'c>>,
    ) -> Result<Buffer> {
        let (info, part) = self.component(tensor, component)?;
        let wanted = Wanted::stored(info, part);
        let (verify, progress) = self.begin(call.into());
        progress.expect(part.stored_len());
        let read = || {
            let source = self.source_of(&wanted);
            if verify && !source.is_positioned() {
                self.check_blobs(&[wanted], &progress, true)?;
            }
            let Ok(len) = usize::try_from(part.stored_len()) else {
                fail!(Memory, "the blob does not fit in memory")
            };
            let range = part.offset()..part.offset() + part.stored_len();
            if part.stored_len() >= LARGE_BLOB
                && let Some(parts) = source.map_private(slice::from_ref(&range))?
                && let Some(memory) = parts.into_iter().next()
            {
                return Ok(memory);
            }
            let mut memory = Memory::zeroed(len)?;
            let offsets = (part.offset()..).step_by(PIECE_LEN);
            for (offset, piece) in offsets.zip(memory.as_mut_slice().chunks_mut(PIECE_LEN)) {
                source.read(offset, piece)?;
                progress.tally().add(piece.len() as u64);
                progress.tick()?;
            }
            if verify && source.is_positioned() {
                let held = Wanted { held: Some(memory.as_slice()), ..wanted };
                self.check_blobs(&[held], &progress, false)?;
            }
            Ok(memory)
        };
        read().map(Buffer::from).map_err(|err| self.locate(&wanted, err).in_file(&self.label))
    }

    /// Reads a dense tensor as Rust values.
    ///
    /// # Errors
    ///
    /// As [`Reader::read_many`]; `NotFound`: no tensor of this name; `Argument`: it is of another type or not
    /// dense.
    pub fn read_dense<T: Element>(&self, name: &str) -> Result<Vec<T>> {
        let number = self.find(name)?;
        let info = self.tensor(number)?;
        if info.dtype() != Known::Known(T::DTYPE) || info.layout() != Known::Known(Layout::Dense) {
            let (layout, dtype) = (info.layout().name(), info.dtype().name());
            let message = format!("it is {layout} of {dtype}, not dense of {}", T::DTYPE.name());
            return Err(Error::new(ErrorKind::Argument, message).in_tensor(name).in_file(&self.label));
        }
        let batch = self.read_many(&[number], None)?;
        Ok(T::from_le_bytes(batch.buffer(0)?.as_slice()))
    }
}

fn unknown_dtype(dtype: Known<'_, DType>) -> Error {
    let name = dtype.name();
    let message =
        format!("the element type {name:?} is not known to this library; only the stored bytes can be read");
    Error::new(ErrorKind::UnknownDtype, message)
}

/// Checks that a tensor is of a known type and layout.
fn readable(info: &TensorInfo<'_>) -> Result<()> {
    if let Known::Unknown(name) = info.layout() {
        fail!(
            UnknownLayout,
            "the layout {name:?} is not known to this library; its components can be read one by one"
        );
    }
    let dtypes = std::iter::once(info.dtype()).chain(info.components().map(|part| part.dtype()));
    for dtype in dtypes {
        if matches!(dtype, Known::Unknown(_)) {
            return Err(unknown_dtype(dtype));
        }
    }
    Ok(())
}
