//! Errors of a query, in kinds that protocols map to status codes once.

/// Result of query calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Stable class of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Bad SQL, unknown name, forbidden statement, text too long or too deep: HTTP 400, errorType `bad_data`.
    Invalid,
    /// No such object: 404, `not_found`.
    NotFound,
    /// Valid but cannot be executed (memory pool, row limit, type error at run time): 422, `execution`.
    Execution,
    /// Deadline passed: 503, `timeout`.
    Timeout,
    /// Cancelled by somebody: 503, `canceled`.
    Cancelled,
    /// Too many queries at once: 503 with Retry-After, `unavailable`.
    Unavailable,
    /// Ours: 500, `internal`.
    Internal,
}

/// A query error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Class.
    pub kind: ErrorKind,
    /// Lower case, no full stop, says what to do next.
    pub message: String,
}
