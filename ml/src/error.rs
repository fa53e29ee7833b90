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

impl Error {
    /// No method is called `name`. `kind` says of what: "anomaly", and `use_of` for what, where that decides.
    pub(crate) fn unknown_method(
        kind: &str,
        name: &str,
        use_of: &str,
        known: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let name = name.escape_default();
        Self::Invalid(format!("unknown {kind} method '{name}'{use_of}, known methods are: {}", known.join(", ")))
    }
}
