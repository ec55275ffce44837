//! Reading: the index when a file is opened, tensors when they are asked for.

mod foreign;
mod open;

use std::ffi::CStr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crc32fast::Hasher;

use crate::codec::{self, CHUNK_LEN, Chunk, Decoder, Filter};
use crate::dtype::{DType, Element};
use crate::error::{Cause, Error, ErrorKind, Result, ensure, fail};
use crate::index::{ComponentInfo, Encoding, Frames, Index, Known, TensorInfo, Zstd};
use crate::layout::{Layout, Part};
use crate::parallel;
use crate::plan::{Batch, Buffer, Fill, Plan};
use crate::source::{Memory, Mode, Source};

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

/// An open `.zt` file.
///
/// Opening reads the index alone. Many threads may read from one reader at once; there is no lock in the way.
/// What is read is the caller's own: it can be written to, and it outlives the reader.
#[derive(Debug)]
pub struct Reader {
    label: String,
    format: &'static CStr,
    source: Source,
    /// Files beside this one that hold some of its blobs.
    shards: Vec<OpenShard>,
    index: Index,
    verify: bool,
    threads: usize,
}

/// Bytes that are treated at once when raw data is read or checksummed.
const PIECE_LEN: usize = 1024 * 1024;

/// A component of the file that was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) tensor: TensorInfo<'a>,
    pub(crate) part: ComponentInfo<'a>,
    /// The part of its decoded bytes that is wanted.
    pub(crate) start: u64,
    pub(crate) len: usize,
    /// Stored bytes that were read already, and where they stand in the file: checks judge these, not the file,
    /// which may have been rewritten meanwhile.
    held: Option<(u64, &'a [u8])>,
}

impl<'a> Wanted<'a> {
    /// The component as it is stored.
    fn stored(tensor: TensorInfo<'a>, part: ComponentInfo<'a>) -> Self {
        Self { tensor, part, start: 0, len: 0, held: None }
    }

    fn whole(tensor: TensorInfo<'a>, part: ComponentInfo<'a>) -> Result<Self> {
        let wanted = Self::stored(tensor, part);
        match part.encoding() {
            Encoding::Unknown(name) => Err(wanted.locate(Error::new(
                ErrorKind::UnknownEncoding,
                format!(
                    "the encoding {name:?} is not known to this library; only the stored bytes can be read"
                ),
            ))),
            Encoding::Raw | Encoding::Zstd(_) => {
                let len = part.len_bytes().and_then(|len| usize::try_from(len).ok());
                let Some(len) = len else {
                    return Err(
                        wanted.locate(Error::new(ErrorKind::Memory, "the component does not fit in memory"))
                    );
                };
                Ok(Self { len, ..wanted })
            }
        }
    }

    /// Adds tensor and component to an error.
    pub(crate) fn locate(&self, err: Error) -> Error {
        err.in_component(self.part.role_name()).in_tensor(self.tensor.name())
    }

    /// The chunks that hold the wanted part, each with the range of it that is wanted.
    fn chunks(&self, zstd: &Zstd<'a>) -> impl Iterator<Item = (Chunk, usize, usize)> + use<'a> {
        let (start, end) = (self.start, self.start + self.len as u64);
        let chunk_size = u64::from(zstd.chunk_size);
        codec::chunks(zstd).filter_map(move |chunk| {
            let first = chunk.number as u64 * chunk_size;
            let from = start.clamp(first, first + chunk.len as u64) - first;
            let to = end.clamp(first, first + chunk.len as u64) - first;
            (from < to).then_some((chunk, from as usize, to as usize))
        })
    }

    /// Checks the index values of a sparse layout, given the wanted bytes.
    fn check_values(&self, bytes: &[u8]) -> Result<()> {
        let (Some(frame), Known::Known(role), Some(dtype)) =
            (self.tensor.frame(), self.part.role(), self.part.dtype().known())
        else {
            return Ok(());
        };
        // Without the sizes of all components, none was checked when the file was opened.
        let is_known = |part: ComponentInfo<'_>| part.dtype().known().is_some() && part.len_bytes().is_some();
        if frame.layout == Layout::Dense || !self.tensor.components().all(is_known) {
            return Ok(());
        }
        let values = self.tensor.component(0);
        let Some(len) = values.and_then(|values| values.len_bytes()) else { return Ok(()) };
        let stored = frame.stored_count(Part { dtype: frame.dtype, len })?;
        frame.check_values(role, dtype, bytes, self.start / dtype.size() as u64, stored)
    }
}

impl Reader {
    /// Opens a local file and reads its index.
    ///
    /// # Errors
    ///
    /// `FileNotFound`, `Io`: the operating system refuses. `Signature` to `Limit`: the file is no `.zt` file,
    /// or damaged, or breaks a rule of the format; the message says which.
    pub fn open(path: impl AsRef<Path>, options: ReadOptions) -> Result<Self> {
        let path = path.as_ref();
        let label = path.display().to_string();
        Source::open(path, options.mode)
            .and_then(|source| Self::new(source, Some(path), label.clone(), options))
            .map_err(|err| err.in_file(&label))
    }

    /// Opens a file that is in memory. `options.mode` has no meaning then.
    ///
    /// # Errors
    ///
    /// As [`Reader::open`].
    pub fn from_bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static, options: ReadOptions) -> Result<Self> {
        let label = "<memory>".to_owned();
        Self::new(Source::from_bytes(Box::new(bytes)), None, label.clone(), options)
            .map_err(|err| err.in_file(&label))
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

    fn component(&self, tensor: usize, component: usize) -> Result<(TensorInfo<'_>, ComponentInfo<'_>)> {
        let info = self.tensor(tensor)?;
        let part = info.component(component).ok_or_else(|| {
            let message =
                format!("no component number {component}, the tensor has {}", info.components().len());
            Error::new(ErrorKind::Range, message).in_tensor(info.name()).in_file(&self.label)
        })?;
        Ok((info, part))
    }

    /// Every component of the tensors, after a check that each can be read as a tensor.
    fn wanted(&self, tensors: &[usize]) -> Result<Vec<Wanted<'_>>> {
        let mut wanted = Vec::with_capacity(tensors.len());
        for &number in tensors {
            let info = self.tensor(number)?;
            readable(&info).map_err(|err| err.in_tensor(info.name()))?;
            for part in info.components() {
                wanted.push(Wanted::whole(info, part)?);
            }
        }
        Ok(wanted)
    }

    /// Reads tensors: all components of each, in order. `verify` overrides what the reader was opened with.
    ///
    /// Components that are the same blob share their memory. Raw data of a mapped file is not copied but
    /// mapped privately; what is small may share its memory with what stands beside it in the file.
    ///
    /// # Errors
    ///
    /// `Range`: no such tensor. `UnknownDtype`, `UnknownLayout`, `UnknownEncoding`: it can only be read raw.
    /// `Checksum`, `Frame`, `Sparse`: it is damaged. `Memory`, `Io`, `Truncated`.
    pub fn read_many(&self, tensors: &[usize], verify: Option<bool>) -> Result<Batch> {
        self.wanted(tensors)
            .and_then(|wanted| self.load(&wanted, verify.unwrap_or(self.verify)))
            .map_err(|err| err.in_file(&self.label))
    }

    /// Reads one component of a tensor.
    ///
    /// # Errors
    ///
    /// As [`Reader::read_many`]; a component of an unknown layout or type can be read.
    pub fn read(&self, tensor: usize, component: usize, verify: Option<bool>) -> Result<Buffer> {
        let (info, part) = self.component(tensor, component)?;
        Wanted::whole(info, part)
            .and_then(|wanted| self.load(&[wanted], verify.unwrap_or(self.verify)))
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
    pub fn read_range(
        &self,
        tensor: usize,
        component: usize,
        first: u64,
        count: u64,
        verify: Option<bool>,
    ) -> Result<Buffer> {
        self.part(tensor, component, first, count)
            .and_then(|wanted| self.load(&[wanted], verify.unwrap_or(self.verify)))
            .and_then(|batch| batch.buffer(0))
            .map_err(|err| err.in_file(&self.label))
    }

    /// Reads as [`Reader::read_range`] does, into memory of the caller.
    ///
    /// # Errors
    ///
    /// As [`Reader::read_range`]; `Size` if `out` has not the bytes that the elements take. On an error `out`
    /// may have been written to.
    pub fn read_range_into(
        &self,
        tensor: usize,
        component: usize,
        first: u64,
        count: u64,
        out: &mut [u8],
        verify: Option<bool>,
    ) -> Result<()> {
        self.part(tensor, component, first, count)
            .and_then(|wanted| self.load_into(vec![(wanted, out)], verify.unwrap_or(self.verify)))
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
    pub fn read_into(&self, targets: Vec<(usize, usize, &mut [u8])>, verify: Option<bool>) -> Result<()> {
        targets
            .into_iter()
            .map(|(tensor, component, out)| {
                let (info, part) = self.component(tensor, component)?;
                Ok((Wanted::whole(info, part)?, out))
            })
            .collect::<Result<Vec<_>>>()
            .and_then(|targets| self.load_into(targets, verify.unwrap_or(self.verify)))
            .map_err(|err| err.in_file(&self.label))
    }

    /// Reads the stored bytes of a component as they are in the file, whatever their encoding.
    ///
    /// # Errors
    ///
    /// `Range`, `Checksum`, `Memory`, `Io`, `Truncated`.
    pub fn read_stored(&self, tensor: usize, component: usize, verify: Option<bool>) -> Result<Buffer> {
        let (info, part) = self.component(tensor, component)?;
        let wanted = Wanted::stored(info, part);
        let verify = verify.unwrap_or(self.verify);
        let read = || {
            let source = self.source_of(&wanted);
            if verify && !source.is_positioned() {
                self.check_blobs(&[wanted], |_, _| true)?;
            }
            let Ok(len) = usize::try_from(part.stored_len()) else {
                fail!(Memory, "the blob does not fit in memory")
            };
            if let Some(memory) = source.map_private(part.offset(), len)? {
                return Ok(memory);
            }
            let mut memory = Memory::zeroed(len)?;
            source.read(part.offset(), memory.as_mut_slice())?;
            if verify && source.is_positioned() {
                let held = Some((part.offset(), memory.as_slice()));
                self.check_blobs(&[Wanted { held, ..wanted }], |_, _| true)?;
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
            let message =
                format!("it is {:?} of {:?}, not dense of {}", info.layout(), info.dtype(), T::DTYPE.name());
            return Err(Error::new(ErrorKind::Argument, message).in_tensor(name).in_file(&self.label));
        }
        let batch = self.read_many(&[number], None)?;
        Ok(T::from_le_bytes(batch.buffer(0)?.as_slice()))
    }

    /// Checks every blob of the file, each once, against its checksum, or where it has none by decoding it.
    ///
    /// `progress` is called on the calling thread every megabyte with the bytes done and the bytes to do, and at
    /// the end of a file that is found good with two equal numbers; when it answers false, the work stops.
    ///
    /// # Errors
    ///
    /// `Checksum` or `Frame` for the first damaged blob; `Cancelled`; `Io`, `Truncated`.
    pub fn verify(&self, progress: impl FnMut(u64, u64) -> bool) -> Result<()> {
        let mut wanted: Vec<Wanted<'_>> = self
            .index
            .iter()
            .flat_map(|tensor| tensor.components().map(move |part| Wanted::stored(tensor, part)))
            .filter(|wanted| wanted.part.stored_len() > 0 || wanted.part.len_bytes() > Some(0))
            .collect();
        wanted.sort_by_key(|wanted| (wanted.part.file(), wanted.part.offset(), wanted.tensor.number()));
        wanted.dedup_by(|later, first| later.part.is_same_blob(&first.part));
        self.check_shards()
            .and_then(|()| self.check_blobs(&wanted, progress))
            .map_err(|err| err.in_file(&self.label))
    }

    /// Checks the stored bytes of components.
    fn check_blobs(&self, wanted: &[Wanted<'_>], mut progress: impl FnMut(u64, u64) -> bool) -> Result<()> {
        struct Piece<'a> {
            wanted: Wanted<'a>,
            at: u64,
            len: usize,
            /// A chunk to be decoded, where the blob has no checksum.
            chunk: Option<Chunk>,
            /// Whether the component is checked in one go, which some foreign ones have to be.
            is_whole: bool,
        }
        let mut pieces = Vec::new();
        for &wanted in wanted {
            let size = wanted.part.stored_len();
            if wanted.needs_whole_check(self.index.is_strict) {
                pieces.push(Piece { wanted, at: 0, len: size as usize, chunk: None, is_whole: true });
                continue;
            }
            match wanted.part.encoding() {
                Encoding::Zstd(zstd) if wanted.part.crc32().is_none() || size == 0 => {
                    pieces.extend(codec::chunks(&zstd).map(|chunk| Piece {
                        wanted,
                        at: chunk.at,
                        len: chunk.stored_len,
                        chunk: Some(chunk),
                        is_whole: false,
                    }));
                }
                _ => pieces.extend((0..size.div_ceil(PIECE_LEN as u64)).map(|number| {
                    let at = number * PIECE_LEN as u64;
                    let len = (size - at).min(PIECE_LEN as u64) as usize;
                    Piece { wanted, at, len, chunk: None, is_whole: false }
                })),
            }
        }
        let total: u64 = pieces.iter().map(|piece| piece.len as u64).sum();
        let (mut done, mut reported) = (0, 0);
        let mut so_far = Hasher::new();
        parallel::in_order(
            self.threads,
            &pieces,
            || Ok((Decoder::new()?, Vec::new(), Vec::new())),
            |(decoder, scratch, decoded), piece| {
                let part = piece.wanted.part;
                let mut check = || {
                    if piece.is_whole {
                        self.check_whole(&piece.wanted, decoder, scratch)?;
                        return Ok(Hasher::new());
                    }
                    let bytes = self.fetch(&piece.wanted, part.offset() + piece.at, piece.len, scratch)?;
                    match (piece.chunk, part.encoding(), part.dtype().known()) {
                        (Some(chunk), Encoding::Zstd(zstd), Some(dtype)) => {
                            codec::check_header(zstd.frames, bytes, &chunk)?;
                            decoded.resize(chunk.len, 0);
                            decoder.decode(&zstd, dtype.filter_width(), bytes, &chunk, decoded)?;
                            Ok(Hasher::new())
                        }
                        _ => Ok(hash(bytes)),
                    }
                };
                check().map_err(|err| self.locate(&piece.wanted, err))
            },
            |piece, hasher| {
                if piece.at == 0 {
                    so_far = hasher;
                } else {
                    so_far.combine(&hasher);
                }
                let part = piece.wanted.part;
                if piece.at + piece.len as u64 == part.stored_len() {
                    self.expect_crc32(&piece.wanted, so_far.clone())?;
                }
                done += piece.len as u64;
                if done - reported >= PIECE_LEN as u64 || done == total {
                    reported = done;
                    ensure!(progress(done, total), Cancelled, "the progress callback asked to stop");
                }
                Ok(())
            },
        )?;
        if pieces.is_empty() {
            ensure!(progress(0, 0), Cancelled, "the progress callback asked to stop");
        }
        Ok(())
    }

    /// Checks all that can be checked before memory is taken.
    fn check_before(&self, wanted: &[Wanted<'_>], verify: bool) -> Result<()> {
        let mut head = Vec::new();
        for wanted in wanted {
            if wanted.part.is_plain() {
                continue;
            }
            self.prepare(wanted)?;
            let Encoding::Zstd(zstd) = wanted.part.encoding() else { continue };
            if matches!(zstd.frames, Frames::Stream { .. }) {
                self.check_stream(wanted, zstd.raw_size).map_err(|err| self.explain(wanted, err))?;
                continue;
            }
            for (chunk, ..) in wanted.chunks(&zstd) {
                let len = chunk.stored_len.min(codec::MAX_HEADER_LEN);
                self.fetch(wanted, wanted.part.offset() + chunk.at, len, &mut head)
                    .and_then(|head| codec::check_header(zstd.frames, head, &chunk))
                    .map_err(|err| self.explain(wanted, err))?;
            }
        }
        if verify {
            let raw: Vec<_> = wanted
                .iter()
                .copied()
                .filter(|wanted| wanted.part.encoding() == Encoding::Raw && !self.is_judged_after(wanted))
                .collect();
            self.check_blobs(&raw, |_, _| true)?;
        }
        Ok(())
    }

    /// Whether raw data is read first and checked then: what is read from a file a second time may be something
    /// else. What lies in a mapping or in memory is there before.
    fn is_judged_after(&self, wanted: &Wanted<'_>) -> bool {
        wanted.part.is_plain() && self.source_of(wanted).is_positioned()
    }

    /// Checks raw data that was read against its checksum.
    fn check_after(&self, parts: &[(&Wanted<'_>, &[u8])]) -> Result<()> {
        let held: Vec<_> = parts
            .iter()
            .filter(|(wanted, _)| self.is_judged_after(wanted))
            .map(|&(wanted, bytes)| {
                let held = Some((wanted.part.offset() + wanted.start, bytes));
                Wanted { held, ..*wanted }
            })
            .collect();
        self.check_blobs(&held, |_, _| true)
    }

    /// Replaces the error of a damaged chunk by that of the blob's checksum, which says it more exactly.
    fn explain(&self, wanted: &Wanted<'_>, err: Error) -> Error {
        let blob = if err.kind() == ErrorKind::Frame {
            self.check_blobs(&[*wanted], |_, _| true).err()
        } else {
            None
        };
        self.locate(wanted, blob.filter(|blob| blob.kind() == ErrorKind::Checksum).unwrap_or(err))
    }

    /// Reads components into memory of their own.
    fn load(&self, wanted: &[Wanted<'_>], verify: bool) -> Result<Batch> {
        self.check_before(wanted, verify)?;
        let mut plan = Plan::new(wanted, |wanted| self.source_of(wanted))?;
        self.fill(plan.fills(wanted), verify)?;
        self.check_values(wanted.iter().enumerate().map(|(at, wanted)| (wanted, plan.bytes(at))), verify)?;
        Ok(plan.finish())
    }

    /// Reads components into memory of the caller.
    fn load_into(&self, targets: Vec<(Wanted<'_>, &mut [u8])>, verify: bool) -> Result<()> {
        let (wanted, mut slices): (Vec<_>, Vec<_>) = targets.into_iter().unzip();
        for (wanted, out) in wanted.iter().zip(&slices) {
            if out.len() != wanted.len {
                let message = format!("the target has {} bytes, {} are to be read", out.len(), wanted.len);
                return Err(wanted.locate(Error::new(ErrorKind::Size, message)));
            }
        }
        self.check_before(&wanted, verify)?;
        let fills = wanted.iter().zip(&mut slices).map(|(wanted, out)| Fill::new(*wanted, out)).collect();
        self.fill(fills, verify)?;
        self.check_values(wanted.iter().zip(slices.iter().map(|out| &**out)), verify)
    }

    /// Reads and decodes, on several threads. If `verify`, the checksum of compressed components that are read whole
    /// is checked too: that of a frame alone says that it is undamaged, not that it is the one that was written.
    fn fill(&self, fills: Vec<Fill<'_, '_>>, verify: bool) -> Result<()> {
        struct Job<'a, 'm> {
            wanted: Wanted<'a>,
            /// Where raw bytes stand in the file.
            at: u64,
            /// The chunk to decode, and how many bytes of it to pass over.
            chunk: Option<(Chunk, usize)>,
            out: &'m mut [u8],
            /// Where the checksum of the chunk's frame goes, if it is asked for.
            sum: Option<Arc<OnceLock<Hasher>>>,
        }
        let mut jobs = Vec::new();
        let mut summed = Vec::new();
        for Fill { wanted, at, out } in fills {
            match wanted.part.encoding() {
                Encoding::Zstd(zstd) => {
                    let is_summed = verify && wanted.is_whole() && wanted.part.crc32().is_some();
                    let mut sums = Vec::new();
                    let mut rest = out;
                    for (chunk, from, to) in wanted.chunks(&zstd) {
                        let (out, after) = rest.split_at_mut(to - from);
                        rest = after;
                        let sum = is_summed.then(Arc::default);
                        sums.extend(sum.clone());
                        jobs.push(Job { wanted, at: 0, chunk: Some((chunk, from)), out, sum });
                    }
                    summed.push((wanted, sums));
                }
                _ => jobs.extend(out.chunks_mut(PIECE_LEN).enumerate().map(|(number, out)| Job {
                    wanted,
                    at: at + (number * PIECE_LEN) as u64,
                    chunk: None,
                    out,
                    sum: None,
                })),
            }
        }
        // A thread costs more than what a few small tensors take.
        let threads =
            if jobs.iter().map(|job| job.out.len()).sum::<usize>() < CHUNK_LEN { 1 } else { self.threads };
        parallel::for_each(
            threads,
            jobs,
            || Ok((None, Vec::new())),
            |(decoder, scratch), job| {
                let part = job.wanted.part;
                let (Some((chunk, skip)), Encoding::Zstd(zstd)) = (job.chunk, part.encoding()) else {
                    let read = self.read_raw(&job.wanted, job.at, job.out);
                    return read.map_err(|err| self.locate(&job.wanted, err));
                };
                let decode = || {
                    let width = match part.dtype() {
                        Known::Known(dtype) => dtype.filter_width(),
                        // Without a filter there is no element to know.
                        Known::Unknown(_) if zstd.filter == Filter::None => 1,
                        unknown => return Err(unknown_dtype(unknown)),
                    };
                    let decoder = match decoder {
                        Some(decoder) => decoder,
                        none => none.insert(Decoder::new()?),
                    };
                    let frame =
                        self.fetch(&job.wanted, part.offset() + chunk.at, chunk.stored_len, scratch)?;
                    if let Some(sum) = &job.sum {
                        sum.get_or_init(|| hash(frame));
                    }
                    if matches!(zstd.frames, Frames::Stream { .. }) {
                        Self::check_stored(&job.wanted, frame)?;
                    }
                    decoder.decode_part(&zstd, width, frame, &chunk, skip, job.out)
                };
                decode().map_err(|err| self.explain(&job.wanted, err))
            },
        )?;
        summed.iter().try_for_each(|(wanted, sums)| {
            let sum = sums.iter().filter_map(|sum| sum.get()).cloned().reduce(|mut all, next| {
                all.combine(&next);
                all
            });
            sum.map_or(Ok(()), |sum| self.expect_crc32(wanted, sum))
        })
    }

    /// Compares the checksum of a component's stored bytes with the one in the index, if there is one.
    fn expect_crc32(&self, wanted: &Wanted<'_>, hasher: Hasher) -> Result<()> {
        let Some(expected) = wanted.part.crc32() else { return Ok(()) };
        let found = hasher.finalize();
        if found == expected {
            return Ok(());
        }
        Err(self.locate(wanted, Cause::Checksum { expected, found }.into()))
    }

    /// Checks what can be judged only when it is there: checksums of what was read and of decoded bytes, and the
    /// index values of sparse tensors.
    fn check_values<'w, 'a: 'w>(
        &self,
        parts: impl Iterator<Item = (&'w Wanted<'a>, &'w [u8])> + Clone,
        verify: bool,
    ) -> Result<()> {
        if verify {
            self.check_after(&parts.clone().collect::<Vec<_>>())?;
        }
        let judged: Vec<_> = parts
            .filter(|(wanted, _)| {
                wanted.tensor.layout() != Known::Known(Layout::Dense) || wanted.decoded_digest().is_some()
            })
            .collect();
        let threads = if judged.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < CHUNK_LEN {
            1
        } else {
            self.threads
        };
        parallel::for_each(
            threads,
            judged.clone(),
            || Ok(()),
            |(), (wanted, bytes)| {
                Self::check_decoded(wanted, bytes)
                    .and_then(|()| wanted.check_values(bytes))
                    .map_err(|err| self.locate(wanted, err))
            },
        )?;
        self.check_order(&judged)
    }
}

fn hash(bytes: &[u8]) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher
}

fn unknown_dtype(dtype: Known<'_, DType>) -> Error {
    let name = match dtype {
        Known::Known(dtype) => dtype.name(),
        Known::Unknown(name) => name,
    };
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
