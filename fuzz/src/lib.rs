//! The bodies of the fuzz targets. Each takes any bytes, and panics only where the library breaks a promise.
//!
//! They use nothing but the library's public interface. The fuzz targets call them, and so does a test of the
//! library that replays the corpus.

#![allow(clippy::unwrap_used, reason = "a promise that is broken panics")]

mod abi;
mod codec;
mod container;
mod file;
mod index;

pub use abi::abi;
pub use codec::codec;
pub use file::{file, legacy};
pub use index::index;
