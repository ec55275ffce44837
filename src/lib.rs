//! Tensor files that load without a copy, compress losslessly and detect damage.
//!
//! The bytes on disk are described in `docs/FORMAT.md`, the house in `docs/DESIGN.md`. Other languages come
//! by the C functions of `ztensor.h`, which the [`ffi`] module implements.
//!
//! [`Writer`] puts tensors into a file, [`Reader`] takes them out.

#[cfg(target_endian = "big")]
compile_error!(
    "tensor data is little-endian on disk and handed out without a copy: big-endian hosts are not supported"
);
#[cfg(not(all(unix, target_pointer_width = "64")))]
compile_error!("only 64-bit Unix systems are supported so far");

mod codec;
mod digest;
mod dtype;
mod error;
pub mod ffi;
mod formats;
mod hex;
mod index;
mod layout;
pub mod metadata;
mod parallel;
mod plan;
mod progress;
mod reader;
mod room;
mod sink;
mod source;
mod writer;

pub use codec::{CHUNK_LEN, Filter, MAX_CHUNK_LEN, MIN_CHUNK_LEN, MIN_COMPRESSED_LEN};
pub use dtype::{Class, DType, Element};
pub use error::{Cause, Error, ErrorKind, Place, Result};
pub use formats::zt1::container;
pub use index::{ComponentInfo, Encoding, Frames, Index, Known, TensorInfo, Zstd};
pub use layout::{Layout, Role};
pub use metadata::{Metadata, Value};
pub use plan::{Batch, Span};
pub use progress::ProgressFn;
pub use reader::{ReadCall, ReadOptions, Reader};
pub use sink::Fsync;
pub use source::{Buffer, Memory, Mode};
pub use writer::{Component, MAX_LEVEL, Tensor, WriteOptions, Writer};
