//! What can go wrong, where it went wrong, and the number by which C and Python know it.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;

use nix::errno::Errno;

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`]. Its number is the status that the C functions return.
///
/// Numbers come in blocks (argument 1-19, input and output 20-39, format 40-79, internal 90-99) and are
/// never given a second meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A pointer that must not be NULL is NULL. Only the C functions report it.
    Null = 1,
    /// An argument is not what the call takes.
    Argument = 2,
    /// Text from the caller is not UTF-8.
    Utf8 = 3,
    /// The file holds no tensor of this name.
    NotFound = 4,
    /// A tensor of this name was added before, or two tensors of a file have one name.
    Duplicate = 5,
    /// An index, or a range of elements, lies outside what there is.
    Range = 6,
    /// The writer was finished, or an earlier write failed, or it belongs to the process that this one was forked from.
    State = 7,
    /// The progress callback asked to stop.
    Cancelled = 8,
    /// The operating system refused to read, write, map or rename.
    Io = 20,
    /// The file does not exist.
    FileNotFound = 21,
    /// The bytes do not begin with a signature of this format.
    Signature = 40,
    /// The file is of a version that this library does not read.
    Version = 41,
    /// The file does not end where its footer says, or has no footer: truncated, appended to, or unfinished.
    Truncated = 42,
    /// The footer is damaged or contradicts itself.
    Footer = 43,
    /// The index's checksum does not match.
    IndexChecksum = 44,
    /// The index is not the MessagePack structure that the format asks for.
    Index = 45,
    /// A tensor's name breaks the rules of names.
    Name = 46,
    /// A tensor's shape breaks the rules of shapes.
    Shape = 47,
    /// A tensor's components do not fit its layout.
    Layout = 48,
    /// A blob is misaligned or reaches outside the part of the file that holds blobs.
    Offset = 49,
    /// Two blobs overlap without being the same blob.
    Overlap = 50,
    /// A byte count is not what shape and element type ask for, or memory of the caller has another length than what is to
    /// be read.
    Size = 51,
    /// An encoding record contradicts itself or the component.
    Encoding = 52,
    /// A compressed chunk is damaged or not what its place asks for.
    Frame = 53,
    /// A blob's checksum does not match.
    Checksum = 54,
    /// Index values of a sparse tensor break the rules of its layout.
    Sparse = 55,
    /// The element type is not known to this library.
    UnknownDtype = 56,
    /// The layout is not known to this library.
    UnknownLayout = 57,
    /// The encoding is not known to this library.
    UnknownEncoding = 58,
    /// The file passes a limit of this library that the format itself does not set.
    Limit = 59,
    /// A defect of this library: a panic was caught at the C border.
    Panic = 90,
    /// Memory could not be had.
    Memory = 91,
}

impl ErrorKind {
    /// Every kind, in the order of the numbers.
    pub const ALL: &[ErrorKind] = &[
        Self::Null,
        Self::Argument,
        Self::Utf8,
        Self::NotFound,
        Self::Duplicate,
        Self::Range,
        Self::State,
        Self::Cancelled,
        Self::Io,
        Self::FileNotFound,
        Self::Signature,
        Self::Version,
        Self::Truncated,
        Self::Footer,
        Self::IndexChecksum,
        Self::Index,
        Self::Name,
        Self::Shape,
        Self::Layout,
        Self::Offset,
        Self::Overlap,
        Self::Size,
        Self::Encoding,
        Self::Frame,
        Self::Checksum,
        Self::Sparse,
        Self::UnknownDtype,
        Self::UnknownLayout,
        Self::UnknownEncoding,
        Self::Limit,
        Self::Panic,
        Self::Memory,
    ];

    /// The number that C knows this kind by.
    pub fn code(self) -> i32 {
        self as i32
    }
}

/// What went wrong, with what was found and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The operating system refused. `action` completes "cannot ...".
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: Cow<'static, str>,
        /// What the operating system answered.
        source: io::Error,
    },
    /// A blob's checksum does not match its bytes.
    #[error(
        "checksum mismatch: the index says crc32:{expected:08x}, the stored bytes give crc32:{found:08x}; either they are \
         damaged, or the array changed while it was saved"
    )]
    Checksum {
        /// The checksum in the index.
        expected: u32,
        /// The checksum of the bytes as they are.
        found: u32,
    },
    /// A checksum of a file of an older generation does not match its bytes.
    #[error("checksum mismatch: the file says {expected}, its bytes give {found}")]
    Digest {
        /// The checksum in the file, its algorithm before a colon.
        expected: String,
        /// The checksum of the bytes as they are.
        found: String,
    },
    /// No tensor has this name.
    #[error("no tensor named {name:?}")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// Anything else, told by kind and message.
    #[error("{message}")]
    Rule {
        /// The kind of rule that was broken.
        kind: ErrorKind,
        /// What was found and what was expected.
        message: String,
    },
}

/// Where it went wrong; whatever is unknown is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file's path, or `<memory>`.
    pub file: Option<String>,
    /// The tensor's name.
    pub tensor: Option<String>,
    /// The component's role, such as `data` or `indptr`.
    pub component: Option<String>,
}

impl Place {
    /// What stands for the path of a file in memory.
    pub(crate) const MEMORY: &str = "<memory>";
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}: ")?;
        }
        match (&self.tensor, &self.component) {
            (Some(tensor), Some(component)) => write!(f, "tensor {tensor:?}, component {component:?}: "),
            (Some(tensor), None) => write!(f, "tensor {tensor:?}: "),
            (None, Some(component)) => write!(f, "component {component:?}: "),
            (None, None) => Ok(()),
        }
    }
}

/// An error: its cause and its place.
#[derive(Debug, thiserror::Error)]
#[error("{place}{cause}")]
pub struct Error {
    place: Box<Place>,
    #[source]
    cause: Box<Cause>,
}

impl Error {
    /// An error of `kind` whose message says what was found and what was expected.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Cause::Rule { kind, message: message.into() }.into()
    }

    /// An error of the operating system; `action` completes "cannot ...".
    pub(crate) fn io(action: impl Into<Cow<'static, str>>, source: io::Error) -> Self {
        Cause::Io { action: action.into(), source }.into()
    }

    /// Names the file, unless a more exact place was named before.
    pub(crate) fn in_file(mut self, file: &str) -> Self {
        self.place.file.get_or_insert_with(|| file.to_owned());
        self
    }

    /// Names the file by its path, unless a more exact place was named before.
    pub(crate) fn in_path(self, path: &Path) -> Self {
        self.in_file(&path.display().to_string())
    }

    /// Names the tensor, unless a more exact place was named before.
    pub(crate) fn in_tensor(mut self, name: &str) -> Self {
        self.place.tensor.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Names the component, unless a more exact place was named before.
    pub(crate) fn in_component(mut self, role: &str) -> Self {
        self.place.component.get_or_insert_with(|| role.to_owned());
        self
    }

    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match &*self.cause {
            Cause::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::FileNotFound,
            Cause::Io { source, .. } if source.kind() == io::ErrorKind::OutOfMemory => ErrorKind::Memory,
            Cause::Io { .. } => ErrorKind::Io,
            Cause::Checksum { .. } | Cause::Digest { .. } => ErrorKind::Checksum,
            Cause::NotFound { .. } => ErrorKind::NotFound,
            Cause::Rule { kind, .. } => *kind,
        }
    }

    /// The number of the error that the operating system reported (`errno`); None for errors of another origin.
    pub fn errno(&self) -> Option<i32> {
        match &*self.cause {
            Cause::Io { source, .. } => {
                Some(source.raw_os_error().unwrap_or_else(|| errno_of(source.kind()) as i32))
            }
            Cause::Rule { kind: ErrorKind::FileNotFound, .. } => Some(Errno::ENOENT as i32),
            _ => None,
        }
    }

    /// What went wrong.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Where it went wrong.
    pub fn place(&self) -> &Place {
        &self.place
    }
}

/// The number that stands for an error that this library found itself, before the operating system could.
fn errno_of(kind: io::ErrorKind) -> Errno {
    match kind {
        io::ErrorKind::NotFound => Errno::ENOENT,
        io::ErrorKind::PermissionDenied => Errno::EACCES,
        io::ErrorKind::AlreadyExists => Errno::EEXIST,
        io::ErrorKind::IsADirectory => Errno::EISDIR,
        io::ErrorKind::NotADirectory => Errno::ENOTDIR,
        io::ErrorKind::InvalidInput => Errno::EINVAL,
        io::ErrorKind::OutOfMemory => Errno::ENOMEM,
        io::ErrorKind::Unsupported => Errno::ENOTSUP,
        io::ErrorKind::WriteZero | io::ErrorKind::StorageFull => Errno::ENOSPC,
        _ => Errno::EIO,
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self { place: Box::default(), cause: Box::new(cause) }
    }
}

/// Calls the system again where a signal interrupts it, which the standard library does for some calls alone.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Fails with an error of the given kind and a formatted message.
macro_rules! fail {
    ($kind:ident, $($message:tt)+) => {
        return Err($crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($message)+)))
    };
}

/// Fails with an error of the given kind and a formatted message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $kind:ident, $($message:tt)+) => {
        if !$condition {
            $crate::error::fail!($kind, $($message)+);
        }
    };
}

pub(crate) use {ensure, fail};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_ascend() {
        let codes: Vec<i32> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
        assert!(codes.windows(2).all(|pair| pair[0] < pair[1]), "{codes:?}");
    }

    #[test]
    fn errors_of_the_system_have_its_number_and_no_others_have_one() {
        for errno in [Errno::EACCES, Errno::ENOSPC, Errno::ESTALE, Errno::EDQUOT] {
            let err = Error::io("open the file", io::Error::from_raw_os_error(errno as i32));
            assert_eq!(err.errno(), Some(errno as i32));
        }
        assert_eq!(
            Error::io("open the file", io::ErrorKind::IsADirectory.into()).errno(),
            Some(Errno::EISDIR as i32)
        );
        assert_eq!(Error::io("open the file", io::Error::other("odd")).errno(), Some(Errno::EIO as i32));
        assert_eq!(Error::new(ErrorKind::Size, "3 bytes, expected 4").errno(), None);
    }

    #[test]
    fn the_first_place_named_is_kept() {
        let err = Error::new(ErrorKind::Size, "3 bytes, expected 4")
            .in_component("data")
            .in_tensor("w")
            .in_tensor("outer")
            .in_file("a.zt");
        assert_eq!(err.to_string(), r#"a.zt: tensor "w", component "data": 3 bytes, expected 4"#);
    }
}
