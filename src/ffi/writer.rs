//! Writing from C.

use std::ffi::{c_char, c_void};
use std::process;
use std::sync::Mutex;

use super::ZtStatus;
use super::buffer::ZtBuffer;
use super::guard::{guard, guard_value};
use super::name::{ZtDtype, ZtLayout};
use super::pointer::{Out, array, array_mut, borrow, c_text, free, handle, into_handle, path, text};
use super::progress::Watch;
use super::table::Table;
use crate::dtype::DType;
use crate::error::{Error, Place, Result, ensure, fail};
use crate::layout::Layout;
use crate::metadata::{self, Metadata};
use crate::sink::Fsync;
use crate::source::Memory;
use crate::writer::{Component, Tensor, WriteOptions, Writer};

/// Flush the file to the disk when it is about to replace an existing one. This is the default.
pub const ZT_FSYNC_AUTO: u32 = 0;
/// Always flush the file to the disk before it takes its name.
pub const ZT_FSYNC_ALWAYS: u32 = 1;
/// Never flush: after a power cut the name may hold an incomplete file.
pub const ZT_FSYNC_NEVER: u32 = 2;
/// Write the destination itself, instead of a file beside it that replaces it once it is whole: added to one of the ZT_FSYNC_
/// numbers. For destinations that cannot be replaced by a rename: mount points, and filesystems that cannot rename. A save that
/// fails, a process that is killed, or a power cut leaves an incomplete file, and the old one is lost; processes that read or map
/// the old file see it change, and one that touches a page that is gone ends by SIGBUS. A file that this process has mapped is
/// refused.
pub const ZT_WRITE_IN_PLACE: u32 = 16;

/// A file that is being written. Opaque.
///
/// Made by zt_writer_create() or zt_writer_create_memory(), freed once with zt_writer_free(). Nothing appears under the
/// file's name before zt_writer_finish(), unless it is written in place.
/// Threads: any number may use one writer; their calls wait for each other, and the work inside is spread over several. After
/// fork() it stays the parent's: the child's copy is refused with ZT_ERR_STATE, and freeing that leaves the parent's file alone.
/// A file in memory is in both, unless another thread was in a call on it at that moment: then the child cannot use its copy.
pub struct ZtWriter {
    /// Poisoned by a panic.
    writer: Mutex<Writer>,
    label: String,
    in_memory: bool,
    /// The process that began the file.
    process: u32,
}
handle!(ZtWriter, b"ztwriter", "ZtWriter");

/// A component to be written. Set what you do not use to 0.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ZtComponentSpec {
    /// The elements, little-endian, in C order, at any alignment. Read during the call, not kept. No thread may write to
    /// them meanwhile.
    pub data: *const c_void,
    /// Bytes at `data`.
    pub len: usize,
    /// Components of one file that carry the same number, other than 0, and the same element type are the same bytes and
    /// are stored once, as tied weights are, at the level of the first. The caller vouches for it; another length is
    /// refused with ZT_ERR_ARGUMENT.
    pub share: u64,
    /// The element type.
    pub dtype: ZtDtype,
    /// 0.
    pub reserved: i32,
}

/// A tensor to be written. Set what you do not use to 0.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ZtTensorSpec {
    /// The name: 1 to 4096 bytes of UTF-8 without NUL, unique in the file.
    pub name: *const c_char,
    /// Bytes of the name; nothing needs to follow them.
    pub name_len: usize,
    /// Dimensions; NULL for a scalar.
    pub shape: *const u64,
    /// The number of dimensions, at most 64.
    pub ndim: usize,
    /// The components, in the order in which the layout's constant names them.
    pub components: *const ZtComponentSpec,
    /// The number of components.
    pub component_count: usize,
    /// The tensor's own key-values as the text of a JSON object, or NULL; as the file's in zt_writer_create(). The key
    /// "blocksize" is not to be among them where `blocksize` is set.
    pub attributes: *const c_char,
    /// Bytes of `attributes`.
    pub attributes_len: usize,
    /// Rows and columns of a block, for ZT_SPARSE_BSR and ZT_SPARSE_BSC, whose values have the shape
    /// [blocks, rows, columns].
    pub blocksize: [u64; 2],
    /// The element type, which is that of the first component too.
    pub dtype: ZtDtype,
    /// The layout.
    pub layout: ZtLayout,
    /// 0 stores the bytes as they are, 1 to 22 compresses them; 3 is a good choice.
    pub level: i32,
    /// 0.
    pub reserved: i32,
}

/// # Safety
///
/// `metadata_json` is NULL or a C string that the caller lends.
unsafe fn write_options(flags: u32, threads: usize, metadata_json: *const c_char) -> Result<WriteOptions> {
    let atomic = flags & ZT_WRITE_IN_PLACE == 0;
    let fsync = match flags & !ZT_WRITE_IN_PLACE {
        ZT_FSYNC_AUTO => Fsync::Auto,
        ZT_FSYNC_ALWAYS => Fsync::Always,
        ZT_FSYNC_NEVER => Fsync::Never,
        _ => fail!(Argument, "unknown writer flags {flags:#x}"),
    };
    let metadata = match metadata_json.is_null() {
        true => Metadata::new(),
        // SAFETY: passed on.
        false => metadata::from_json(unsafe { c_text(metadata_json, "metadata_json") }?)?,
    };
    Ok(WriteOptions { threads, fsync, atomic, metadata })
}

impl ZtWriter {
    fn new(writer: Writer, in_memory: bool) -> Self {
        let label = writer.label().to_owned();
        Self { writer: Mutex::new(writer), label, in_memory, process: process::id() }
    }

    /// Whether this is the copy of a writer that a fork left in the child. Were it to write, that would go into the file
    /// that the parent is still writing.
    fn is_copy(&self) -> bool {
        !self.in_memory && self.process != process::id()
    }

    /// Runs a call, once those of other threads are through. If it panics, the writer is poisoned and accepts no further one.
    fn call<T>(&self, body: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
        ensure!(!self.is_copy(), State, "the writer belongs to the process that this one was forked from");
        let Ok(mut writer) = self.writer.lock() else {
            fail!(State, "an earlier call met a defect; the writer can only be freed")
        };
        body(&mut writer)
    }
}

/// Runs the body of a function that uses a writer. Its errors name the file.
///
/// # Safety
///
/// `writer` is what the C caller passed under the function's contract.
unsafe fn with(writer: *const ZtWriter, body: impl FnOnce(&ZtWriter) -> Result<()>) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let writer = unsafe { borrow(writer) }?;
        body(writer).map_err(|err| err.in_file(&writer.label))
    })
}

/// Begins a file.
///
/// It is written beside `path` and renamed to it when it is finished; until then, the file that is there stays. If the process
/// dies before, nothing is left where the filesystem has files without a name (ext4, XFS, Btrfs, tmpfs); elsewhere a temporary file
/// named `.NAME.ID.zt-tmp` is, which the next save into the directory removes once its writer is certainly dead. If the finished
/// file cannot be renamed, it is kept, and the error names it. `path` is NUL-terminated, in the bytes of the filesystem; a symbolic
/// link is followed. A relative one is looked up now: the file comes there, whatever the current directory is by then. What is there
/// must be a regular file that is not a mount point. It is replaced, and its mode is kept, and so are owner, group and extended
/// attributes where the process may set them. `flags` is one of the ZT_FSYNC_ numbers, to which ZT_WRITE_IN_PLACE may be added;
/// messages call that atomic=False. `threads` is how many threads compress and checksum, 0 for as many as
/// the machine has; the file's bytes are the same for any number. `metadata_json` is NULL or the text of a JSON object, in UTF-8
/// and NUL-terminated: the file's own key-values. They come back sorted by key. A key stands once in an object. Objects of one
/// key that begins with $ are what zt_reader_metadata() says of them, or refused; arrays and objects stand at most 63 deep.
/// JSON has one type of number: what is written as an integer is stored as one if 64 bits hold it, with or without a sign, and
/// else as the nearest double.
///
/// Ownership: the caller frees `*out_writer` with zt_writer_free().
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_UTF8, ZT_ERR_FILE_NOT_FOUND if the directory is not there, ZT_ERR_IO,
/// ZT_ERR_MEMORY. On error `*out_writer` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_writer_create(
    path: *const c_char,
    flags: u32,
    threads: usize,
    metadata_json: *const c_char,
    out_writer: *mut *mut ZtWriter,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a C string.
        let path = unsafe { self::path(path) }?;
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_writer, "out_writer") }?;
        // SAFETY: the caller lends a C string.
        let options = unsafe { write_options(flags, threads, metadata_json) };
        let writer = Writer::create(path, options.map_err(|err| err.in_path(path))?)?;
        out.set(into_handle(ZtWriter::new(writer, false)));
        Ok(())
    })
}

/// Begins a file in memory; zt_writer_finish_memory() gives its bytes.
///
/// The arguments are those of zt_writer_create(), without a path; there is nothing to flush or rename, so the flags make no
/// difference.
///
/// Ownership: the caller frees `*out_writer` with zt_writer_free().
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_UTF8, ZT_ERR_MEMORY. On error `*out_writer` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_writer_create_memory(
    flags: u32,
    threads: usize,
    metadata_json: *const c_char,
    out_writer: *mut *mut ZtWriter,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_writer, "out_writer") }?;
        // SAFETY: the caller lends a C string.
        let options = unsafe { write_options(flags, threads, metadata_json) };
        let writer = Writer::memory(options.map_err(|err| err.in_file(Place::MEMORY))?)?;
        out.set(into_handle(ZtWriter::new(writer, true)));
        Ok(())
    })
}

impl ZtComponentSpec {
    /// # Safety
    ///
    /// What the spec points to is lent by the caller.
    unsafe fn component<'a>(&self) -> Result<Component<'a>> {
        ensure!(self.reserved == 0, Argument, "a component's reserved field is {}, not 0", self.reserved);
        // SAFETY: passed on.
        let bytes = unsafe { array(self.data.cast::<u8>(), self.len, "a component's data") }?;
        Ok(Component { dtype: dtype(self.dtype)?, bytes, share: self.share })
    }
}

impl ZtTensorSpec {
    /// # Safety
    ///
    /// What the spec points to is lent by the caller.
    unsafe fn name<'a>(&self) -> Result<&'a str> {
        // SAFETY: passed on.
        unsafe { text(self.name, self.name_len, "a tensor's name") }
    }

    /// # Safety
    ///
    /// As for `name`.
    unsafe fn components<'a>(&self) -> Result<&'a [ZtComponentSpec]> {
        // SAFETY: passed on.
        unsafe { array(self.components, self.component_count, "components") }
    }

    /// # Safety
    ///
    /// As for `name`.
    unsafe fn attributes(&self) -> Result<Metadata> {
        if self.attributes.is_null() && self.attributes_len == 0 {
            return Ok(Metadata::new());
        }
        // SAFETY: passed on.
        let text = unsafe { text(self.attributes, self.attributes_len, "attributes") }?;
        metadata::read_json(text, "attributes")
    }

    /// Adds the tensor's name to an error.
    ///
    /// # Safety
    ///
    /// As for `name`.
    unsafe fn locate(&self, err: Error) -> Error {
        // SAFETY: passed on.
        match unsafe { self.name() } {
            Ok(name) => err.in_tensor(name),
            Err(_) => err,
        }
    }

    /// Adds to an error the role of the component of this number, which the layout knows.
    fn in_component(&self, err: Error, at: usize) -> Error {
        match Layout::from_code(self.layout).and_then(|layout| layout.roles().get(at)) {
            Some(role) => err.in_component(role.name()),
            None => err,
        }
    }

    /// # Safety
    ///
    /// As for `name`.
    unsafe fn tensor<'a>(&self, components: &'a [Component<'a>]) -> Result<Tensor<'a>> {
        ensure!(self.reserved == 0, Argument, "a tensor's reserved field is {}, not 0", self.reserved);
        let Some(layout) = Layout::from_code(self.layout) else {
            fail!(UnknownLayout, "no layout has the code {}", self.layout)
        };
        ensure!(
            layout.is_blocked() || self.blocksize == [0, 0],
            Argument,
            "blocks of {:?} are set for a {} tensor, which has none",
            self.blocksize,
            layout.name()
        );
        // SAFETY: passed on.
        let (name, shape) = unsafe { (self.name()?, array(self.shape, self.ndim, "shape")?) };
        Ok(Tensor {
            name,
            dtype: dtype(self.dtype)?,
            shape,
            layout,
            blocksize: layout.is_blocked().then_some(self.blocksize),
            components,
            level: self.level,
            // SAFETY: passed on.
            attributes: unsafe { self.attributes() }?,
        })
    }
}

/// The components of all tensors, in one list: memory for each apart is what takes the time where tensors are small.
///
/// # Safety
///
/// What the specs point to is lent by the caller.
unsafe fn components<'a>(specs: &[ZtTensorSpec]) -> Result<Table<Component<'a>>> {
    let mut count = 0usize;
    for spec in specs {
        // SAFETY: passed on.
        let parts = unsafe { spec.components() };
        // SAFETY: as above.
        let parts = parts.map_err(|err| unsafe { spec.locate(err) })?;
        // More than memory holds is refused when memory is asked for.
        count = count.saturating_add(parts.len());
    }
    let parts = specs.iter().flat_map(|spec| {
        // SAFETY: as above; what failed would have done so before.
        let parts = unsafe { spec.components() }.unwrap_or_default();
        parts.iter().enumerate().map(move |(at, part)| {
            // SAFETY: as above.
            unsafe { part.component().map_err(|err| spec.locate(spec.in_component(err, at))) }
        })
    });
    Table::try_new(count, parts)
}

fn dtype(code: ZtDtype) -> Result<DType> {
    let Some(dtype) = DType::from_code(code) else {
        fail!(UnknownDtype, "no element type has the code {code}")
    };
    Ok(dtype)
}

/// Adds tensors, in this order: all of them, or if one is refused, none.
///
/// The data is read during the call and not kept; it is neither copied nor converted. It is read more than once, so it must
/// not change during the call. If it does, the file is still readable, but holds any mixture of the bytes before and after, and
/// the checksum of an uncompressed tensor may not match.
///
/// Ownership: `count` specs at `tensors`, and all that they point to, stay the caller's.
/// Threads: any; no thread writes to the data meanwhile.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT, ZT_ERR_UTF8, ZT_ERR_NAME, ZT_ERR_DUPLICATE, ZT_ERR_SHAPE, ZT_ERR_LAYOUT,
/// ZT_ERR_SIZE, ZT_ERR_SPARSE, ZT_ERR_UNKNOWN_DTYPE, ZT_ERR_UNKNOWN_LAYOUT: the call had no effect. ZT_ERR_IO,
/// ZT_ERR_MEMORY, ZT_ERR_LIMIT, ZT_ERR_CANCELLED: nothing is left of the file, and the writer can only be freed. ZT_ERR_STATE:
/// it was finished or failed before, or is another process's.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_writer_add(
    writer: *mut ZtWriter,
    tensors: *const ZtTensorSpec,
    count: usize,
) -> ZtStatus {
    let body = |writer: &ZtWriter| {
        // SAFETY: the caller lends the array and what it points to.
        let specs = unsafe { array(tensors, count, "tensors") }?;
        // SAFETY: as above.
        let components = unsafe { components(specs) }?;
        let mut rest = components.as_slice();
        let tensors = specs.iter().map(|spec| {
            let parts;
            (parts, rest) = rest.split_at(spec.component_count);
            // SAFETY: as above.
            unsafe { spec.tensor(parts).map_err(|err| spec.locate(err)) }
        });
        let tensors = Table::try_new(specs.len(), tensors)?;
        let watch = Watch::current();
        writer.call(|writer| match watch.is_set() {
            true => {
                writer.add_with_progress(tensors.as_slice(), &mut |done, total| watch.report(done, total))
            }
            false => writer.add(tensors.as_slice()),
        })
    };
    // SAFETY: passed on.
    unsafe { with(writer, body) }
}

/// Lends memory to a writer: the file in memory is written there, from its first byte on, for as long as it fits. Then, as where
/// none is lent, the library takes memory of its own.
///
/// So a file that fits needs no copy: once zt_writer_finish_memory() has given a buffer whose zt_buffer_data() is `memory`, it is
/// there, zt_buffer_len() bytes long. A file takes the bytes of its tensors, up to 63 more for each component, or 4095 for an
/// uncompressed one of 256 KiB or more, and its index. What was written before is moved; memory that is too small for it is not used.
/// Where `memory` is large and has not been touched yet, huge pages are asked for.
///
/// Ownership: `memory` stays the caller's. Nobody else uses it until the writer, and the buffer that it gave, are freed, or other
/// memory is in use.
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT (a file on disk), ZT_ERR_STATE (finished already, or failed before).
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_writer_lend(writer: *mut ZtWriter, memory: *mut c_void, len: usize) -> ZtStatus {
    let body = |writer: &ZtWriter| {
        // SAFETY: the caller lends the bytes, which nobody else uses.
        let bytes = unsafe { array_mut(memory.cast::<u8>(), len, "memory") }?;
        // SAFETY: the caller keeps them until the writer and its buffer are freed.
        let memory = unsafe { Memory::lent(bytes) };
        writer.call(|writer| writer.lend(memory))
    };
    // SAFETY: passed on.
    unsafe { with(writer, body) }
}

/// Writes the index and gives the file its name. The writer accepts no further call but zt_writer_free().
///
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT (a file in memory), ZT_ERR_STATE (finished already, or failed before),
/// ZT_ERR_IO, ZT_ERR_FILE_NOT_FOUND, ZT_ERR_MEMORY, ZT_ERR_LIMIT: the file at the path stays, unless it is written in
/// place. A whole file that cannot be renamed is kept, and the message names it. One failure comes after the file took its name: that
/// the directory cannot be flushed, which the message says.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_writer_finish(writer: *mut ZtWriter) -> ZtStatus {
    let body = |writer: &ZtWriter| {
        ensure!(
            !writer.in_memory,
            Argument,
            "the file is in memory: zt_writer_finish_memory() gives its bytes"
        );
        writer.call(|writer| writer.finish().map(drop))
    };
    // SAFETY: passed on.
    unsafe { with(writer, body) }
}

/// Writes the index of a file in memory and gives the file's bytes.
///
/// Ownership: the caller frees `*out_buffer` with zt_buffer_free(), before or after the writer. Its bytes may be in the memory of
/// zt_writer_lend().
/// Threads: any.
/// Errors: ZT_ERR_NULL, ZT_ERR_ARGUMENT (a file on disk), ZT_ERR_STATE (finished already, or failed before),
/// ZT_ERR_MEMORY, ZT_ERR_LIMIT. On error `*out_buffer` is unchanged.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_writer_finish_memory(
    writer: *mut ZtWriter,
    out_buffer: *mut *mut ZtBuffer,
) -> ZtStatus {
    let body = |writer: &ZtWriter| {
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_buffer, "out_buffer") }?;
        ensure!(writer.in_memory, Argument, "the file is on disk: zt_writer_finish() finishes it");
        let Some(bytes) = writer.call(|writer| writer.finish())? else { fail!(State, "there is no file") };
        out.set(ZtBuffer::handle(bytes));
        Ok(())
    };
    // SAFETY: passed on.
    unsafe { with(writer, body) }
}

/// Frees a writer. NULL is fine. A file that was not finished is abandoned: the file at its path stays. One that is written in
/// place is removed if this writer created it, and else left incomplete.
///
/// Threads: once, when no other call uses the writer.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_writer_free(writer: *mut ZtWriter) {
    // SAFETY: the caller gives the handle back.
    guard_value((), || unsafe { free(writer) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_writer_that_met_a_defect_accepts_no_further_call() {
        let writer = Writer::memory(WriteOptions::default()).unwrap();
        let writer = ZtWriter::new(writer, true);
        writer.call(|writer| writer.add_dense("before", &[1], &[1u8])).unwrap();
        let refused = writer.call(|writer| writer.add_dense("before", &[1], &[1u8])).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Duplicate);
        writer.call(|writer| writer.add_dense("after an error", &[1], &[1u8])).unwrap();
        let defect: fn(&mut Writer) -> Result<()> = |_| panic!("boom");
        assert!(catch_unwind(AssertUnwindSafe(|| writer.call(defect))).is_err());
        let err = writer.call(|writer| writer.add_dense("later", &[1], &[1u8])).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::State, "{err}");
    }
}
