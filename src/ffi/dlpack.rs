//! Tensors of other libraries, many at a time, through the functions of DLPack's C exchange.
//!
//! Structures and codes are those of DLPack 1 (<https://dmlc.github.io/dlpack/latest/c_api.html>). Whatever language the
//! other library's objects belong to, here they are pointers that are passed on to functions of that library.

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::ZtStatus;
use super::buffer::{ZtBatch, ZtBuffer};
use super::guard::{guard, guard_value};
use super::name::ZT_DENSE;
use super::pointer::{Out, array, array_mut, borrow};
use super::reader::{ZtReader, is_all, tensor_numbers};
use super::writer::{ZtComponentSpec, ZtTensorSpec};
use crate::dtype::{Class, DType};
use crate::error::{Error, ErrorKind, Result, ensure, fail};
use crate::index::{Known, TensorInfo};
use crate::layout::{Layout, MAX_NDIM, element_count};
use crate::plan::Span;
use crate::room;
use crate::source::{Buffer, Memory};

/// Shows a tensor of another library: fills a DLTensor and answers 0, or anything else if it cannot. It is
/// `dltensor_from_py_object_no_sync` of that library's DLPackExchangeAPI.
pub type ZtDlpackView = Option<unsafe extern "C" fn(object: *mut c_void, out_dltensor: *mut c_void) -> i32>;

/// Makes a tensor of another library over a DLManagedTensorVersioned, which it takes over, and answers 0, or anything else
/// if it cannot. It is `managed_tensor_to_py_object_no_sync` of that library's DLPackExchangeAPI.
pub type ZtDlpackWrap =
    Option<unsafe extern "C" fn(managed: *mut c_void, out_object: *mut *mut c_void) -> i32>;

const CPU: i32 = 1;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Device {
    kind: i32,
    id: i32,
}

#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

/// DLTensor.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct View {
    data: *mut c_void,
    device: Device,
    ndim: i32,
    dtype: DataType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct Version {
    major: u32,
    minor: u32,
}

/// DLManagedTensorVersioned, and behind it what it refers to. The context is its share of the [`Block`] that it stands in.
#[repr(C)]
struct Managed {
    version: Version,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
    flags: u64,
    view: View,
    /// Nothing once it is deleted.
    memory: Option<Buffer>,
}

/// Some tensors that were handed out, which live in one piece of memory until the last of them is deleted.
struct Block {
    managed: Box<[UnsafeCell<Managed>]>,
    /// Of each tensor its dimensions, then its strides in elements.
    _dims: Vec<i64>,
}

impl From<DType> for DataType {
    fn from(dtype: DType) -> Self {
        let bits = (8 * dtype.size()) as u8;
        let (code, bits, lanes) = match dtype {
            DType::BFloat16 => (4, bits, 1),
            DType::Float8E4M3Fn => (10, bits, 1),
            DType::Float8E4M3FnUz => (11, bits, 1),
            DType::Float8E5M2 => (12, bits, 1),
            DType::Float8E5M2FnUz => (13, bits, 1),
            DType::Float8E8M0Fnu => (14, bits, 1),
            DType::Float4E2M1FnX2 => (17, 4, 2),
            _ => match dtype.class() {
                Class::Signed => (0, bits, 1),
                Class::Unsigned => (1, bits, 1),
                Class::Float => (2, bits, 1),
                Class::Complex => (5, bits, 1),
                Class::Bool => (6, bits, 1),
            },
        };
        Self { code, bits, lanes }
    }
}

impl DataType {
    fn dtype(self) -> Option<DType> {
        DType::all().find(|&dtype| Self::from(dtype) == self)
    }
}

/// Dense data in C order in this process's memory, as a DLTensor describes it.
struct Dense<'a> {
    dtype: DType,
    len: usize,
    data: *const c_void,
    shape: &'a [i64],
}

impl View {
    const NOTHING: Self = Self {
        data: ptr::null_mut(),
        device: Device { kind: 0, id: 0 },
        ndim: 0,
        dtype: DataType { code: 0, bits: 0, lanes: 0 },
        shape: ptr::null_mut(),
        strides: ptr::null_mut(),
        byte_offset: 0,
    };

    /// What it is, given the element type of the tensor before, which mostly has the same.
    ///
    /// # Safety
    ///
    /// `shape` and `strides` hold `ndim` numbers, or are NULL where DLPack allows it, for as long as the result lives.
    unsafe fn dense<'a>(&self, last: &mut Option<(DataType, DType)>) -> Result<Dense<'a>> {
        ensure!(self.device.kind == CPU, Argument, "the tensor is on a device of kind {}", self.device.kind);
        let known = last.filter(|(spelled, _)| *spelled == self.dtype).map(|(_, dtype)| dtype);
        let Some(dtype) = known.or_else(|| self.dtype.dtype()) else {
            fail!(UnknownDtype, "the tensor has elements of {:?}, which a .zt file cannot hold", self.dtype);
        };
        *last = Some((self.dtype, dtype));
        // A wild number of dimensions would have as many read.
        let Some(ndim) = usize::try_from(self.ndim).ok().filter(|&ndim| ndim <= MAX_NDIM) else {
            fail!(Argument, "the tensor has {} dimensions; a .zt file holds up to {MAX_NDIM}", self.ndim);
        };
        // SAFETY: passed on.
        let shape = unsafe { array(self.shape.cast_const(), ndim, "a DLTensor's shape") }?;
        let strides = match self.strides.is_null() {
            true => None,
            // SAFETY: passed on.
            false => Some(unsafe { array(self.strides.cast_const(), ndim, "a DLTensor's strides") }?),
        };
        let mut count = 1u64;
        let mut in_order = true;
        for at in (0..ndim).rev() {
            // Along a dimension of one element nobody ever steps.
            in_order &=
                shape[at] == 1 || strides.is_none_or(|strides| u64::try_from(strides[at]) == Ok(count));
            let next = u64::try_from(shape[at]).ok().and_then(|dim| count.checked_mul(dim));
            let Some(next) = next else { fail!(Shape, "the tensor has the shape {shape:?}") };
            count = next;
        }
        ensure!(in_order || count == 0, Argument, "the tensor's elements do not lie in C order");
        let len = count.checked_mul(dtype.size() as u64).and_then(|len| usize::try_from(len).ok());
        let Some(len) = len else { fail!(Shape, "the tensor has the shape {shape:?}") };
        ensure!(len == 0 || !self.data.is_null(), Argument, "the tensor has no memory of its own");
        let offset = usize::try_from(self.byte_offset).ok();
        let begin = offset.and_then(|offset| self.data.addr().checked_add(offset));
        let fits = begin.is_some_and(|begin| begin.checked_add(len).is_some());
        ensure!(
            len <= isize::MAX as usize && fits,
            Argument,
            "the tensor's {len} bytes from offset {} on reach beyond all memory",
            self.byte_offset
        );
        let data = self.data.cast::<u8>().wrapping_add(offset.unwrap_or(0)).cast_const().cast();
        Ok(Dense { dtype, len, data, shape })
    }
}

/// Fills specs with what another library's tensors are: dense ones, in C order, in this process's memory.
///
/// `objects` holds `count` tensors of the library that `view` belongs to. Of each spec shape, component, element type
/// and layout are set, of each component all; everything else is left as it is, so that name and level can stand there
/// already. Tensors with the same bytes at the same address get the same `share`, a number over `share_base` and up to
/// `share_base` + `count`; others, and empty ones, get 0.
///
/// A DLTensor does not say how long the memory is that it points into. The caller checks that, or trusts the other library.
///
/// Ownership: specs point to the tensors' own data, which belongs to the other library, and to shapes in `*out_shapes`,
/// which the caller frees with zt_buffer_free() once the specs are no longer used. On an error `*out_shapes` is
/// unchanged; specs and components may have been written to.
/// Threads: those on which `view` may be called; it is called on this one. The functions of a Python library want the
/// interpreter's lock to be held.
/// Errors: ZT_ERR_NULL; ZT_ERR_ARGUMENT, ZT_ERR_SHAPE or ZT_ERR_UNKNOWN_DTYPE for the first tensor that is something else,
/// or that `view` cannot show, in which case the other library says why; ZT_ERR_MEMORY.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_dlpack_specs(
    view: ZtDlpackView,
    objects: *const *mut c_void,
    count: usize,
    share_base: u64,
    specs: *mut ZtTensorSpec,
    components: *mut ZtComponentSpec,
    out_shapes: *mut *mut ZtBuffer,
) -> ZtStatus {
    guard(|| {
        let Some(view) = view else { fail!(Null, "view is NULL") };
        // SAFETY: the caller lends the array.
        let objects = unsafe { array(objects, count, "objects") }?;
        // SAFETY: the caller lends the array.
        let specs = unsafe { array_mut(specs, count, "specs") }?;
        // SAFETY: the caller lends the array.
        let components = unsafe { array_mut(components, count, "components") }?;
        // SAFETY: the caller lends the place for the result.
        let out = unsafe { Out::new(out_shapes, "out_shapes") }?;
        // Of all tensors: the tensor itself, and its shape in memory, may be changed as soon as this call returns.
        let mut dims = room::list::<u64>(count)?;
        // The numbers of those that are the first over their memory.
        let mut firsts = HashTable::<usize>::new();
        firsts.try_reserve(count, |&first| hash_address(components[first].data))?;
        let mut last = None;
        for (at, &object) in objects.iter().enumerate() {
            let mut shown = View::NOTHING;
            // SAFETY: the function and its object belong together, and there is room for a DLTensor.
            let answer = unsafe { view(object, ptr::from_mut(&mut shown).cast()) };
            ensure!(answer == 0, Argument, "tensor number {at} cannot be shown as DLPack");
            // SAFETY: the other library filled it.
            let dense = unsafe { shown.dense(&mut last) }.map_err(|err| numbered(at, &err))?;
            let Dense { dtype, len, data, shape } = dense;
            components[at] = ZtComponentSpec { data, len, share: 0, dtype: dtype.code(), reserved: 0 };
            if len > 0 {
                let same = |&first: &usize| {
                    let first = &components[first];
                    (first.data, first.len, first.dtype) == (data, len, dtype.code())
                };
                match firsts.entry(hash_address(data), same, |&first| hash_address(components[first].data)) {
                    Entry::Vacant(entry) => drop(entry.insert(at)),
                    Entry::Occupied(first) => {
                        let first = *first.get();
                        let Some(share) = share_base.checked_add(first as u64 + 1) else {
                            fail!(Argument, "share_base is {share_base}, with no numbers above it");
                        };
                        (components[first].share, components[at].share) = (share, share);
                    }
                }
            }
            // No dimension is negative.
            room::extend(&mut dims, shape.iter().map(|&dim| dim as u64))?;
            let spec = &mut specs[at];
            spec.ndim = shape.len();
            (spec.components, spec.component_count) = (ptr::from_ref(&components[at]), 1);
            (spec.dtype, spec.layout) = (dtype.code(), ZT_DENSE);
        }
        let mut shapes = Memory::zeroed(size_of_val(&*dims))?;
        for (bytes, dim) in shapes.as_mut_slice().chunks_exact_mut(size_of::<u64>()).zip(&dims) {
            bytes.copy_from_slice(&dim.to_ne_bytes());
        }
        let mut next = shapes.as_ptr().cast::<u64>().cast_const();
        for spec in specs {
            spec.shape = if spec.ndim == 0 { ptr::null() } else { next };
            next = next.wrapping_add(spec.ndim);
        }
        out.set(ZtBuffer::handle(shapes.into()));
        Ok(())
    })
}

/// A hash of where something lies.
fn hash_address(address: *const c_void) -> u64 {
    // The middle of the product depends on all bits of the address, and its top bits are those that a table looks at first.
    (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_right(32)
}

fn numbered(at: usize, err: &Error) -> Error {
    Error::new(err.kind(), format!("tensor number {at}: {err}"))
}

/// Makes tensors of another library over what was read, without a copy.
///
/// `reader`, `tensors` and `count` are those that the batch was read with by zt_reader_read_many(). `out_objects` gets as many
/// tensors that `wrap` made, zt_reader_count() of them where `tensors` is NULL: each dense one has all its own bytes and no
/// more, may be written to, and keeps the batch's memory for as long as it lives. NULL stands where no tensor was made: for a
/// sparse one, for one of a type that is not known, and for one whose blob an earlier tensor of the batch has too.
///
/// Ownership: what `wrap` made is the caller's, however the call ends; on an error NULL stands in all other places, unless it
/// is `out_objects` that is refused, or how many it has cannot be told: for a `count` that no array has, or where `tensors` is
/// NULL, a wrong reader. Reader and batch may be freed before the tensors.
/// Threads: those on which `wrap` may be called; it is called on this one. The functions of a Python library want the
/// interpreter's lock to be held. The tensors may be given up on any thread.
/// Errors: ZT_ERR_NULL, ZT_ERR_RANGE, ZT_ERR_ARGUMENT (the batch was read otherwise, or `wrap` cannot make a tensor, in which
/// case the other library says why), ZT_ERR_MEMORY.
/// Since: ABI 1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zt_dlpack_tensors(
    reader: *const ZtReader,
    tensors: *const usize,
    count: usize,
    batch: *const ZtBatch,
    wrap: ZtDlpackWrap,
    out_objects: *mut *mut c_void,
) -> ZtStatus {
    guard(|| {
        // SAFETY: the caller lends a handle.
        let lent = unsafe { borrow(reader) };
        let len = match &lent {
            Ok(lent) if is_all(tensors, count) => lent.reader().index().len(),
            _ => count,
        };
        // SAFETY: the caller lends the array.
        let objects = unsafe { array_mut(out_objects, len, "out_objects") }?;
        // Before anything else can fail, so that callers can always tell what was made.
        objects.fill(ptr::null_mut());
        let reader = lent?.reader();
        let mut make = || {
            // SAFETY: the caller lends the array.
            let tensors = unsafe { tensor_numbers(reader, tensors, count) }?;
            // SAFETY: the caller lends a handle.
            let batch = unsafe { borrow(batch) }?.batch();
            let Some(wrap) = wrap else { fail!(Null, "wrap is NULL") };
            let mut parts = 0usize;
            for &number in &*tensors {
                parts += reader.tensor(number)?.components().len();
            }
            ensure!(
                parts == batch.spans().len(),
                Argument,
                "the tensors have {parts} components, the batch {}",
                batch.spans().len()
            );
            batch.with_prefetch(|| {
                let is_once = repeated(batch.spans())?;
                let mut part = 0;
                for (tensors, objects) in tensors.chunks(Block::LEN).zip(objects.chunks_mut(Block::LEN)) {
                    let mut dense = Vec::with_capacity(tensors.len());
                    for (&number, object) in tensors.iter().zip(objects) {
                        let info = reader.tensor(number)?;
                        let at = part;
                        part += info.components().len();
                        let is_dense = info.layout() == Known::Known(Layout::Dense);
                        if let Some(dtype) = info.dtype().known().filter(|_| is_dense && is_once(at)) {
                            dense.push((info, dtype, batch.buffer(at)?, object));
                        }
                    }
                    Block::hand_out(dense, wrap)?;
                }
                Ok(())
            })
        };
        make().map_err(|err: Error| err.in_file(reader.label()))
    })
}

/// Whether a component is the first that has its span. Where each begins after the one before, as nearly always, none comes
/// twice.
fn repeated(spans: &[Span]) -> Result<impl Fn(usize) -> bool> {
    let place = |span: &Span| (span.memory, span.start, span.len);
    let may_repeat = !spans.is_sorted_by(|before, after| place(before) < place(after));
    let mut firsts = Vec::new();
    if may_repeat {
        room::resize(&mut firsts, spans.len(), true)?;
        let mut seen = HashMap::new();
        seen.try_reserve(spans.len())?;
        for (at, span) in spans.iter().enumerate().filter(|(_, span)| span.len > 0) {
            firsts[at] = *seen.entry(place(span)).or_insert(at) == at;
        }
    }
    Ok(move |at| firsts.get(at).copied().unwrap_or(true))
}

// SAFETY: nobody writes to a place after it was handed out but who deletes it, once; dimensions are only read.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Block {
    /// As many tensors at most stand in one block: what is deleted takes up memory until its whole block is.
    const LEN: usize = 256;

    /// Has tensors made, each over a shape, an element type and memory that has so many bytes, and puts them in the places given.
    fn hand_out(
        dense: Vec<(TensorInfo<'_>, DType, Buffer, &mut *mut c_void)>,
        wrap: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> i32,
    ) -> Result<()> {
        let refused = |info: &TensorInfo<'_>, message| {
            Err(Error::new(ErrorKind::Argument, message).in_tensor(info.name()))
        };
        let mut dims = Vec::with_capacity(dense.iter().map(|(info, ..)| 2 * info.shape().len()).sum());
        for (info, dtype, memory, _) in &dense {
            let shape = info.shape();
            let bytes = element_count(shape).and_then(|count| count.checked_mul(dtype.size() as u64));
            if bytes != Some(memory.len() as u64) {
                let (dtype, len) = (dtype.name(), memory.len());
                let message = format!(
                    "the shape {shape:?} of {dtype} asks for other than the {len} bytes of the batch"
                );
                return refused(info, message);
            }
            dims.extend(shape.iter().map(|&dim| dim as i64));
            let strides = dims.len();
            dims.resize(strides + shape.len(), 0);
            let mut stride = 1i64;
            for (at, &dim) in shape.iter().enumerate().rev() {
                dims[strides + at] = stride;
                stride = stride.saturating_mul((dim as i64).max(1));
            }
        }
        let mut next_dims = dims.as_mut_ptr();
        let mut managed = Vec::with_capacity(dense.len());
        let mut objects = Vec::with_capacity(dense.len());
        for (info, dtype, memory, object) in dense {
            let ndim = info.shape().len();
            let (shape, strides) = (next_dims, next_dims.wrapping_add(ndim));
            next_dims = strides.wrapping_add(ndim);
            managed.push(UnsafeCell::new(Managed {
                version: Version { major: 1, minor: 1 },
                context: ptr::null_mut(),
                deleter: Some(delete),
                flags: 0,
                view: View {
                    data: memory.as_ptr().cast(),
                    device: Device { kind: CPU, id: 0 },
                    ndim: ndim as i32,
                    dtype: dtype.into(),
                    shape,
                    strides,
                    byte_offset: 0,
                },
                memory: Some(memory),
            }));
            objects.push((object, info, dtype));
        }
        let block = Arc::new(Self { managed: managed.into(), _dims: dims });
        for (managed, (object, info, dtype)) in block.managed.iter().zip(objects) {
            let managed = managed.get();
            // SAFETY: nobody else knows of this place yet.
            unsafe { (*managed).context = Arc::into_raw(block.clone()).cast_mut().cast() };
            // SAFETY: a DLManagedTensorVersioned, and room for a pointer.
            let answer = unsafe { wrap(managed.cast(), object) };
            if answer != 0 {
                *object = ptr::null_mut();
                // SAFETY: `block` keeps the place, and who was asked to make a tensor has deleted it by now, or never will.
                if unsafe { (*managed).memory.is_some() } {
                    // SAFETY: it was handed out above, and nobody deleted it.
                    unsafe { delete(managed) };
                }
                return refused(&info, format!("a tensor of {} cannot be made over DLPack", dtype.name()));
            }
        }
        Ok(())
    }
}

/// What the other library calls when it gives a tensor up, on whatever thread.
unsafe extern "C" fn delete(managed: *mut Managed) {
    guard_value((), || {
        if managed.is_null() {
            return;
        }
        // SAFETY: it was handed out with a share of its block, and DLPack deletes once.
        unsafe {
            let block = Arc::from_raw((*managed).context.cast_const().cast::<Block>());
            drop((*managed).memory.take());
            drop(block);
        }
    });
}
