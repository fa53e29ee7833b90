//! What can go wrong, in kinds that protocols map to status codes once.
use std::path::PathBuf;

/// Result of engine calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Stable class of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller's input is wrong (HTTP 400).
    Invalid,
    /// A configured limit is reached (HTTP 429 or 422).
    Limit,
    /// Stored bytes are damaged (HTTP 500).
    Corruption,
    /// Try again later (HTTP 503).
    Unavailable,
    /// The operating system refused (HTTP 503 for writes: the sender must keep its data).
    Io,
}

/// An engine error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bad input.
    #[error("{0}")]
    Invalid(String),
    /// A limit is reached.
    #[error("{0}")]
    Limit(String),
    /// Damaged bytes, with where and what.
    #[error("{}: offset {offset}: expected {expected}, got {got}", path.display())]
    Corruption {
        /// File.
        path: PathBuf,
        /// Byte offset in the file.
        offset: u64,
        /// What should stand there.
        expected: String,
        /// What does.
        got: String,
    },
    /// Busy, stopping or poisoned.
    #[error("{0}")]
    Unavailable(String),
    /// Operating system.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The disk is full, or nearly: nothing was done, and the same may succeed once there is room.
    #[error(
        "{}: the disk is full: {needed_bytes} bytes must be free and {free_bytes} are; make room, and writes go on by themselves",
        path.display()
    )]
    DiskFull {
        /// File or directory.
        path: PathBuf,
        /// Bytes that must be free, the reserve for flushes included.
        needed_bytes: u64,
        /// Bytes that are.
        free_bytes: u64,
    },
    /// The catalogue's own store failed.
    #[error("catalogue: {0}")]
    Catalogue(String),
}

impl Error {
    /// The stable class.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Limit(_) => ErrorKind::Limit,
            Self::Corruption { .. } => ErrorKind::Corruption,
            Self::Unavailable(_) | Self::DiskFull { .. } => ErrorKind::Unavailable,
            Self::Io { .. } | Self::Catalogue(_) => ErrorKind::Io,
        }
    }

    /// Whether it says that the file system, or a quota on it, has no room.
    pub fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match self {
            Self::DiskFull { .. } => true,
            Self::Io { source, .. } => matches!(source.kind(), StorageFull | QuotaExceeded),
            _ => false,
        }
    }
}
