//! Bytes as a sequence of calls of the C functions.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;

use arbitrary::{Result, Unstructured};
use ztensor::ffi::buffer::*;
use ztensor::ffi::guard::zt_last_error_message;
use ztensor::ffi::name::*;
use ztensor::ffi::progress::*;
use ztensor::ffi::reader::describe::*;
use ztensor::ffi::reader::read::*;
use ztensor::ffi::reader::*;
use ztensor::ffi::writer::*;
use ztensor::ffi::{
    ZT_ABI_VERSION, ZT_ERR_IO, ZT_ERR_NULL, ZT_ERR_PANIC, ZT_OK, ZtStatus, zt_abi_version, zt_version,
};

use super::container::wrap;
use super::file::{mend, mend_legacy};

/// Handles of each kind that may live at once.
const SLOTS: usize = 3;
/// The most calls of a run.
const MAX_CALLS: usize = 48;
/// Components of more bytes are not read.
const MAX_LEN: u64 = 1 << 18;

/// What a C program would hold.
#[derive(Default)]
struct Program {
    readers: [Slot<ZtReader>; SLOTS],
    writers: [Slot<ZtWriter>; SLOTS],
    buffers: [Slot<ZtBuffer>; SLOTS],
    batches: [Slot<ZtBatch>; SLOTS],
    /// Bytes that readers were opened on; they live as long as the program.
    files: Vec<Box<[u8]>>,
    /// Memory that was lent to writers; it lives as long too.
    lent: Vec<Vec<u8>>,
}

/// A place for a handle; NULL if there is none.
struct Slot<T>(*mut T);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(ptr::null_mut())
    }
}

/// Calls what `data` says, in that order; NULL, wrong handles, wrong numbers and huge sizes among the arguments.
pub fn abi(data: &[u8]) {
    let mut program = Program::default();
    let mut u = Unstructured::new(data);
    for _ in 0..MAX_CALLS {
        // An error says that the bytes were used up.
        if u.is_empty() || program.call(&mut u).is_err() {
            break;
        }
    }
    program.end(data.first().is_some_and(|first| first & 0x80 != 0));
}

/// Checks what holds for every status.
fn check(status: ZtStatus) -> bool {
    assert!(status != ZT_ERR_PANIC && status != ZT_ERR_IO, "{}", last_error());
    // SAFETY: names live for ever.
    let name = unsafe { CStr::from_ptr(zt_status_name(status)) };
    assert!(!name.is_empty());
    assert!(status == ZT_OK || !last_error().is_empty());
    status == ZT_OK
}

fn last_error() -> String {
    // SAFETY: never NULL, and valid until the next call that fails.
    unsafe { CStr::from_ptr(zt_last_error_message()) }.to_str().unwrap().to_owned()
}

/// A number near what is asked for, or far from it.
fn number(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(match u.arbitrary::<u8>()? {
        small @ 0..=239 => u64::from(small % 8),
        240..=247 => u.arbitrary::<u32>()?.into(),
        248..=250 => u64::MAX,
        251..=253 => 1 << 63,
        _ => u.arbitrary()?,
    })
}

fn verify(u: &mut Unstructured<'_>) -> Result<i32> {
    Ok(i32::from(u.arbitrary::<u8>()? % 5) - 1)
}

fn flags(u: &mut Unstructured<'_>) -> Result<u32> {
    Ok(u32::from(u.arbitrary::<u8>()? % 5))
}

/// Text with a NUL behind it, or NULL.
fn text(u: &mut Unstructured<'_>) -> Result<Option<CString>> {
    const KNOWN: [&CStr; 10] = [
        c"t",
        c"a",
        c"{}",
        c"{\"a\":1}",
        c"{\"a\":{\"$bytes\":\"00ff\"}}",
        c"{\"blocksize\":[2,2]}",
        c"[",
        c"\xff",
        c"float32",
        c"",
    ];
    Ok(match u.arbitrary::<u8>()? % 16 {
        0 => None,
        at @ 1..=10 => Some(KNOWN[usize::from(at) - 1].to_owned()),
        _ => {
            let len = u.int_in_range(0..=40)?;
            let bytes: Vec<u8> = u.bytes(len)?.iter().copied().filter(|&byte| byte != 0).collect();
            Some(CString::new(bytes).unwrap())
        }
    })
}

fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}

/// A handle out of the table, NULL where there is none, or one of another kind, which has to be refused.
fn pick<T, O>(
    u: &mut Unstructured<'_>,
    slots: &[Slot<T>; SLOTS],
    others: &[Slot<O>; SLOTS],
) -> Result<*mut T> {
    let at = usize::from(u.arbitrary::<u8>()?);
    Ok(match at % 16 {
        0 => others[at / 16 % SLOTS].0.cast(),
        1 => ptr::null_mut(),
        // Nearly always the first one, so that calls meet.
        2..=10 => slots[0].0,
        at => slots[at % SLOTS].0,
    })
}

/// Where a result goes, and now and then nowhere.
fn place<T>(u: &mut Unstructured<'_>, out: &mut T) -> Result<*mut T> {
    Ok(if u.ratio(1, 32)? { ptr::null_mut() } else { out })
}

/// Keeps a handle that a call gave, in place of the one that was there.
fn keep<T>(
    slots: &mut [Slot<T>; SLOTS],
    handle: *mut T,
    status: ZtStatus,
    free: unsafe extern "C" fn(*mut T),
) {
    if !check(status) {
        assert!(handle.is_null(), "a call that failed wrote a result");
        return;
    }
    if !handle.is_null() {
        slots.rotate_right(1);
        // SAFETY: the table owns its handles, and forgets this one.
        unsafe { free(std::mem::replace(&mut slots[0], Slot(handle)).0) };
    }
}

/// Looks at every byte of a buffer and writes it back, as its owner may.
fn touch(buffer: *const ZtBuffer) -> usize {
    // SAFETY: a handle of the table; its bytes are its owner's.
    unsafe {
        let (data, len) = (zt_buffer_data(buffer).cast::<u8>(), zt_buffer_len(buffer));
        if !data.is_null() {
            let bytes = std::slice::from_raw_parts_mut(data, len);
            bytes.iter_mut().for_each(|byte| *byte = std::hint::black_box(*byte));
            let mut copy = vec![0u8; len];
            assert_eq!(zt_buffer_copy(buffer, copy.as_mut_ptr().cast(), len, 1), ZT_OK);
            assert_eq!(copy, bytes);
        }
        len
    }
}

impl Program {
    fn call(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.arbitrary::<u8>()? % 27 {
            0 => self.open(u),
            1 => self.open_result(),
            2 => self.describe(u),
            3 => self.describe_one(u),
            4 => self.find(u),
            5 => self.json(u),
            6..=8 => self.read(u),
            9 => self.read_many(u),
            10 => self.read_into(u),
            11 => self.read_range_into(u),
            12 => self.verify(u),
            13 => self.batch(u),
            14 => self.free(u),
            15 | 16 => self.create(u),
            17..=20 => self.add(u),
            21 | 22 => self.finish(u),
            23 => self.buffer(u),
            24 => names(u),
            25 => self.open_path(u),
            _ => self.lend(u),
        }
    }

    fn open_bytes(&mut self, bytes: Vec<u8>, flags: u32, out: *mut *mut ZtReader) -> ZtStatus {
        self.files.push(bytes.into());
        let bytes = self.files.last().map_or(&[][..], |file| file);
        // SAFETY: the bytes live as long as the program.
        unsafe { zt_reader_open_memory(bytes.as_ptr().cast(), bytes.len(), flags, 1, out) }
    }

    fn open(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (flags, kind) = (flags(u)?, u.arbitrary::<u8>()?);
        let len = u.int_in_range(0..=2048)?;
        let mut bytes = u.bytes(len.min(u.len()))?.to_vec();
        match kind % 4 {
            0 => mend(&mut bytes),
            1 => mend_legacy(&mut bytes),
            2 => bytes = wrap(&[0; 256], &bytes),
            _ => {}
        }
        let mut reader = ptr::null_mut();
        let out = place(u, &mut reader)?;
        let status = match kind {
            // SAFETY: NULL is refused.
            250..=252 => unsafe { zt_reader_open_memory(ptr::null(), bytes.len(), flags, 1, out) },
            // SAFETY: a length that no memory has is refused.
            253..=255 => unsafe {
                zt_reader_open_memory(bytes.as_ptr().cast(), usize::MAX - usize::from(kind), flags, 1, out)
            },
            _ => self.open_bytes(bytes, flags, out),
        };
        keep(&mut self.readers, reader, status, zt_reader_free);
        Ok(())
    }

    /// Opens the file that a writer made.
    fn open_result(&mut self) -> Result<()> {
        let buffer = self.buffers[0].0;
        // SAFETY: a handle of the table, or NULL.
        let (data, len) = unsafe { (zt_buffer_data(buffer).cast::<u8>(), zt_buffer_len(buffer)) };
        let bytes = if data.is_null() {
            Vec::new()
        } else {
            // SAFETY: the buffer's own bytes.
            unsafe { std::slice::from_raw_parts(data, len) }.to_vec()
        };
        let mut reader = ptr::null_mut();
        let status = self.open_bytes(bytes, 0, &mut reader);
        keep(&mut self.readers, reader, status, zt_reader_free);
        Ok(())
    }

    /// A path that leads nowhere.
    fn open_path(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let missing = u.ratio(1, 8)?;
        let path = if missing { ptr::null() } else { c"/dev/null/no.zt".as_ptr() };
        let (mut reader, mut writer) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: C strings, places for the results.
        unsafe {
            let status = zt_reader_open(path, flags(u)?, 1, &mut reader);
            assert!(status != ZT_OK && status != ZT_ERR_PANIC && reader.is_null());
            let status = zt_writer_create(path, flags(u)?, 1, ptr::null(), &mut writer);
            assert!(status != ZT_OK && status != ZT_ERR_PANIC && writer.is_null());
        }
        Ok(())
    }

    fn reader(&self, u: &mut Unstructured<'_>) -> Result<*mut ZtReader> {
        pick(u, &self.readers, &self.buffers)
    }

    fn describe(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let reader = self.reader(u)?;
        let (mut tensors, mut count) = (ptr::null(), 0);
        // SAFETY: a handle or what is refused; what is described belongs to the reader, which lives on.
        unsafe {
            if check(zt_reader_tensors(reader, place(u, &mut tensors)?, &mut count)) {
                assert_eq!(count, zt_reader_count(reader));
                for at in 0..count {
                    let tensor = &*tensors.add(at);
                    let name = CStr::from_ptr(tensor.name);
                    assert_eq!(name.to_bytes().len(), tensor.name_len);
                    let mut number = usize::MAX;
                    assert!(check(zt_reader_find(reader, tensor.name, &mut number)));
                    assert_eq!(number, at);
                    std::hint::black_box(CStr::from_ptr(tensor.dtype_name).to_bytes().len());
                    std::hint::black_box(CStr::from_ptr(tensor.layout_name).to_bytes().len());
                    if tensor.ndim > 0 {
                        std::hint::black_box(std::slice::from_raw_parts(tensor.shape, tensor.ndim).to_vec());
                    }
                    for part in 0..tensor.component_count {
                        let part = &*tensor.components.add(part);
                        std::hint::black_box(CStr::from_ptr(part.role_name).to_bytes().len());
                        std::hint::black_box(CStr::from_ptr(part.dtype_name).to_bytes().len());
                        std::hint::black_box(CStr::from_ptr(part.encoding_name).to_bytes().len());
                    }
                }
            }
            let (mut names, mut len) = (ptr::null(), 0);
            if check(zt_reader_names(reader, &mut names, place(u, &mut len)?)) && len > 0 {
                assert_eq!(*names.add(len - 1), 0);
            }
            assert_eq!(zt_reader_format(reader).is_null(), !check_quiet(reader));
        }
        Ok(())
    }

    fn describe_one(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let (reader, tensor) = (self.reader(u)?, number(u)? as usize);
        let mut parts = Vec::with_capacity(3);
        let capacity = usize::from(u.arbitrary::<u8>()? % 4);
        let mut out = std::mem::MaybeUninit::<ZtTensor>::uninit();
        // SAFETY: a handle or what is refused; there is room for `capacity` components.
        let status = unsafe {
            let out = if u.ratio(1, 32)? { ptr::null_mut() } else { out.as_mut_ptr() };
            zt_reader_describe(reader, tensor, out, parts.as_mut_ptr(), capacity)
        };
        if check(status) {
            // SAFETY: written on success.
            assert!(unsafe { out.assume_init() }.component_count <= capacity);
        }
        Ok(())
    }

    fn find(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let (reader, name) = (self.reader(u)?, text(u)?);
        let mut found = usize::MAX;
        // SAFETY: a handle or what is refused, a C string or NULL.
        if !check(unsafe { zt_reader_find(reader, pointer(&name), place(u, &mut found)?) }) {
            assert_eq!(found, usize::MAX);
        }
        Ok(())
    }

    fn json(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let reader = self.reader(u)?;
        let mut buffer = ptr::null_mut();
        let out = place(u, &mut buffer)?;
        // SAFETY: a handle or what is refused.
        let status = unsafe {
            match u.arbitrary::<u8>()? % 4 {
                0 => zt_reader_attributes(reader, number(u)? as usize, out),
                2 => zt_reader_checksum(reader, number(u)? as usize, number(u)? as usize, out),
                _ => zt_reader_metadata(reader, out),
            }
        };
        if !buffer.is_null() {
            // SAFETY: a NUL follows the bytes of this text.
            unsafe {
                let end = zt_buffer_data(buffer).cast::<u8>().add(zt_buffer_len(buffer));
                assert_eq!(*end, 0);
            }
        }
        keep(&mut self.buffers, buffer, status, zt_buffer_free);
        Ok(())
    }

    /// Whether a reader's tensors are short enough to be read.
    fn is_small(&self, reader: *mut ZtReader) -> bool {
        let (mut tensors, mut count) = (ptr::null(), 0);
        // SAFETY: a handle or what is refused; the array has `count` structs.
        unsafe {
            zt_reader_tensors(reader, &mut tensors, &mut count) != ZT_OK
                || (0..count).map(|at| (*tensors.add(at)).len).fold(0, u64::saturating_add) <= MAX_LEN
        }
    }

    fn read(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let reader = self.reader(u)?;
        let (tensor, part, verify) = (number(u)? as usize, number(u)? as usize, verify(u)?);
        if !self.is_small(reader) {
            return Ok(());
        }
        let mut buffer = ptr::null_mut();
        let out = place(u, &mut buffer)?;
        // SAFETY: a handle or what is refused.
        let status = unsafe {
            match u.arbitrary::<u8>()? % 3 {
                0 => zt_reader_read(reader, tensor, part, verify, out),
                1 => zt_reader_read_range(reader, tensor, part, number(u)?, number(u)?, verify, out),
                _ => zt_reader_read_stored(reader, tensor, part, verify, out),
            }
        };
        touch(buffer);
        keep(&mut self.buffers, buffer, status, zt_buffer_free);
        Ok(())
    }

    fn read_many(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let reader = self.reader(u)?;
        if !self.is_small(reader) {
            return Ok(());
        }
        let numbers: Vec<usize> =
            (0..u.int_in_range(0..=4)?).map(|_| number(u).map(|it| it as usize)).collect::<Result<_>>()?;
        let (tensors, count) = match u.arbitrary::<u8>()? % 8 {
            0 => (ptr::null(), 3),
            1 => (numbers.as_ptr(), usize::MAX),
            2..=4 => (ptr::null(), 0),
            _ => (numbers.as_ptr(), numbers.len()),
        };
        let mut batch = ptr::null_mut();
        let out = place(u, &mut batch)?;
        // SAFETY: a handle or what is refused; an array of `count` numbers, or one that no memory holds.
        let status = unsafe { zt_reader_read_many(reader, tensors, count, verify(u)?, out) };
        keep(&mut self.batches, batch, status, zt_batch_free);
        Ok(())
    }

    fn read_into(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let reader = self.reader(u)?;
        if !self.is_small(reader) {
            return Ok(());
        }
        let mut memory = [[0u8; 64]; 3];
        let mut targets = Vec::new();
        for memory in &mut memory {
            let len = number(u)? as usize;
            // A length is the memory's, or one that no memory has.
            let len = if len > 64 { usize::MAX - len % 8 } else { len };
            let data = if u.ratio(1, 32)? { ptr::null_mut() } else { memory.as_mut_ptr().cast::<c_void>() };
            targets.push(ZtTarget { tensor: number(u)? as usize, component: number(u)? as usize, data, len });
        }
        let count = u.int_in_range(0..=3)?;
        // SAFETY: a handle or what is refused; targets of memory that is there and does not overlap.
        check(unsafe { zt_reader_read_into(reader, targets.as_ptr(), count, verify(u)?) });
        Ok(())
    }

    fn read_range_into(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let reader = self.reader(u)?;
        if !self.is_small(reader) {
            return Ok(());
        }
        let mut memory = [0u8; 64];
        let len = u.int_in_range(0..=64)?;
        let (tensor, part) = (number(u)? as usize, number(u)? as usize);
        let (first, count, verify) = (number(u)?, number(u)?, verify(u)?);
        let data = memory.as_mut_ptr().cast();
        // SAFETY: a handle or what is refused, memory that is there.
        check(unsafe { zt_reader_read_range_into(reader, tensor, part, first, count, verify, data, len) });
        Ok(())
    }

    fn verify(&self, u: &mut Unstructured<'_>) -> Result<()> {
        unsafe extern "C" fn progress(done: u64, total: u64, user: *mut c_void) -> i32 {
            assert!(done <= total);
            // SAFETY: what `verify` passed.
            unsafe { *user.cast::<i32>() }
        }
        let reader = self.reader(u)?;
        if !self.is_small(reader) {
            return Ok(());
        }
        let mut answer = i32::from(u.ratio(1, 8)?);
        let progress: ZtProgress = if u.arbitrary()? { Some(progress) } else { None };
        let (own, user): (bool, *mut c_void) = (u.arbitrary()?, ptr::from_mut(&mut answer).cast());
        if !own {
            zt_set_progress(progress, user);
        }
        // SAFETY: a handle or what is refused; the callback gets what it expects.
        check(unsafe { zt_reader_verify(reader, if own { progress } else { None }, user) });
        zt_set_progress(None, ptr::null_mut());
        Ok(())
    }

    fn batch(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let batch = pick(u, &self.batches, &self.readers)?;
        let (mut spans, mut count, mut buffer) = (ptr::null(), 0, ptr::null_mut());
        // SAFETY: a handle or what is refused; the spans belong to the batch.
        unsafe {
            let blocks = zt_batch_memory_count(batch);
            if check(zt_batch_spans(batch, &mut spans, place(u, &mut count)?)) {
                for span in (0..count).map(|at| *spans.add(at)) {
                    let mut block = ptr::null_mut();
                    assert!(check(zt_batch_memory(batch, span.memory, &mut block)));
                    assert!(span.start + span.len <= touch(block));
                    zt_buffer_free(block);
                }
            }
            let number = number(u)? as usize;
            let status = zt_batch_memory(batch, number, place(u, &mut buffer)?);
            assert!(status != ZT_OK || number < blocks);
            keep(&mut self.buffers, buffer, status, zt_buffer_free);
        }
        Ok(())
    }

    fn buffer(&self, u: &mut Unstructured<'_>) -> Result<()> {
        let buffer = pick(u, &self.buffers, &self.batches)?;
        touch(buffer);
        Ok(())
    }

    /// Frees a handle, and what is no such handle, which is left alone.
    fn free(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let at = usize::from(u.arbitrary::<u8>()?) % SLOTS;
        // SAFETY: each handle leaves the table as it is freed; those of other kinds are refused.
        unsafe {
            match u.arbitrary::<u8>()? % 8 {
                0 => zt_reader_free(std::mem::take(&mut self.readers[at]).0),
                1 => zt_writer_free(std::mem::take(&mut self.writers[at]).0),
                2 | 3 => zt_buffer_free(std::mem::take(&mut self.buffers[at]).0),
                4 | 5 => zt_batch_free(std::mem::take(&mut self.batches[at]).0),
                6 => zt_reader_free(self.writers[at].0.cast()),
                _ => zt_buffer_free(self.batches[at].0.cast()),
            }
        }
        Ok(())
    }

    fn create(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let mut writer = ptr::null_mut();
        let (flags, metadata) = (flags(u)?, text(u)?);
        // SAFETY: a C string or NULL.
        let status = unsafe { zt_writer_create_memory(flags, 1, pointer(&metadata), place(u, &mut writer)?) };
        keep(&mut self.writers, writer, status, zt_writer_free);
        Ok(())
    }

    fn add(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let writer = pick(u, &self.writers, &self.readers)?;
        let (name, attributes) = (text(u)?.unwrap_or_default(), text(u)?);
        let dtype = i32::from(u.arbitrary::<u8>()? % 24) - 1;
        let layout = i32::from(u.arbitrary::<u8>()? % 8);
        let shape: Vec<u64> = (0..u.int_in_range(0..=3)?).map(|_| number(u)).collect::<Result<_>>()?;
        let len = usize::from(u.arbitrary::<u8>()?);
        let data: Vec<u8> = u.bytes(len.min(u.len()))?.to_vec();
        let mut parts = Vec::new();
        for at in 0..u.int_in_range(0..=3)? {
            // Often exactly what a small dense tensor takes.
            let size = zt_dtype_size(dtype) as u64;
            let exact = shape.iter().try_fold(size, |len, &dim| len.checked_mul(dim)).unwrap_or(u64::MAX);
            let len = if u.ratio(3, 4)? { exact } else { number(u)? };
            let len = if len > data.len() as u64 { data.len() } else { len as usize };
            let (data, len) = match u.arbitrary::<u8>()? {
                0 => (ptr::null(), len),
                1 => (data.as_ptr(), usize::MAX - len),
                _ => (data.as_ptr(), len),
            };
            let share = if u.ratio(1, 4)? { 1 } else { 0 };
            let dtype = if at == 0 { dtype } else { i32::from(u.arbitrary::<u8>()? % 16) };
            let reserved = i32::from(u.ratio(1, 64)?);
            parts.push(ZtComponentSpec { data: data.cast(), len, share, dtype, reserved });
        }
        let spec = ZtTensorSpec {
            name: name.as_ptr(),
            name_len: if u.ratio(1, 32)? { usize::MAX } else { name.as_bytes().len() },
            shape: shape.as_ptr(),
            ndim: shape.len(),
            components: if u.ratio(1, 32)? { ptr::null() } else { parts.as_ptr() },
            component_count: parts.len(),
            attributes: pointer(&attributes),
            attributes_len: attributes.as_ref().map_or(0, |text| text.as_bytes().len()),
            blocksize: if u.ratio(1, 4)? { [number(u)?, number(u)?] } else { [0, 0] },
            dtype,
            layout,
            level: i32::from(u.arbitrary::<u8>()? % 5) - 1,
            reserved: i32::from(u.ratio(1, 64)?),
        };
        let specs = [spec, spec];
        let (tensors, count) = match u.arbitrary::<u8>()? % 16 {
            0 => (ptr::null(), 1),
            1 => (specs.as_ptr(), usize::MAX / 2),
            2 => (specs.as_ptr(), 2),
            3 => (ptr::null(), 0),
            _ => (specs.as_ptr(), 1),
        };
        // SAFETY: a handle or what is refused; specs whose memory is there, or is refused.
        check(unsafe { zt_writer_add(writer, tensors, count) });
        Ok(())
    }

    fn lend(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let writer = pick(u, &self.writers, &self.readers)?;
        let mut memory = vec![0xa5; usize::from(u.arbitrary::<u16>()? % 1024)];
        // SAFETY: a handle or what is refused; the memory is kept until all handles are freed.
        check(unsafe { zt_writer_lend(writer, memory.as_mut_ptr().cast(), memory.len()) });
        self.lent.push(memory);
        Ok(())
    }

    fn finish(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let writer = pick(u, &self.writers, &self.buffers)?;
        let mut buffer = ptr::null_mut();
        // SAFETY: a handle or what is refused.
        unsafe {
            if u.ratio(1, 16)? {
                assert!(!check(zt_writer_finish(writer)));
            }
            let out = place(u, &mut buffer)?;
            let status = zt_writer_finish_memory(writer, out);
            if status == ZT_OK {
                // What was written opens, and is found good.
                let mut reader = ptr::null_mut();
                let (data, len) = (zt_buffer_data(buffer), zt_buffer_len(buffer));
                assert!(check(zt_reader_open_memory(data, len, 0, 1, &mut reader)));
                assert!(check(zt_reader_verify(reader, None, ptr::null_mut())));
                let mut batch = ptr::null_mut();
                assert!(check(zt_reader_read_many(reader, ptr::null(), 0, ZT_VERIFY_ON, &mut batch)));
                zt_reader_free(reader);
                zt_batch_free(batch);
            }
            keep(&mut self.buffers, buffer, status, zt_buffer_free);
        }
        Ok(())
    }

    /// Frees everything, readers first or last.
    fn end(mut self, readers_first: bool) {
        let free_readers = |readers: &mut [Slot<ZtReader>]| {
            // SAFETY: each handle leaves the table as it is freed.
            readers.iter_mut().for_each(|slot| unsafe { zt_reader_free(std::mem::take(slot).0) });
        };
        if readers_first {
            free_readers(&mut self.readers);
        }
        for at in 0..SLOTS {
            touch(self.buffers[at].0);
            // SAFETY: as above.
            unsafe {
                zt_writer_free(self.writers[at].0);
                zt_buffer_free(self.buffers[at].0);
                zt_batch_free(self.batches[at].0);
            }
        }
        free_readers(&mut self.readers);
    }
}

/// Whether a handle is a reader.
fn check_quiet(reader: *mut ZtReader) -> bool {
    let (mut names, mut len) = (ptr::null(), 0);
    // SAFETY: a handle or what is refused.
    unsafe { zt_reader_names(reader, &mut names, &mut len) == ZT_OK }
}

/// Codes and the names that stand for them.
fn names(u: &mut Unstructured<'_>) -> Result<()> {
    let code: i32 = if u.arbitrary()? { i32::from(u.arbitrary::<i8>()?) } else { u.arbitrary()? };
    let all = [zt_dtype_name(code), zt_layout_name(code), zt_role_name(code), zt_encoding_name(code)];
    for name in all.into_iter().chain([zt_filter_name(code), zt_status_name(code), zt_version()]) {
        if !name.is_null() {
            // SAFETY: names live for ever.
            std::hint::black_box(unsafe { CStr::from_ptr(name) }.to_bytes().len());
        }
    }
    let text = text(u)?;
    let mut dtype = -7;
    // SAFETY: a C string or NULL.
    let status = unsafe { zt_dtype_from_name(pointer(&text), &mut dtype) };
    assert_eq!(status == ZT_ERR_NULL, text.is_none());
    if check(status) {
        assert!(zt_dtype_size(dtype) > 0);
    } else {
        assert_eq!(dtype, -7);
    }
    assert_eq!(zt_abi_version(), ZT_ABI_VERSION);
    Ok(())
}
