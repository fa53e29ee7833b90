//! Errors of the ml crate.

/// Result of ml calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller asked for that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Unknown method, bad option or malformed state; the message lists what is known.
    #[error("{0}")]
    Invalid(String),
}
