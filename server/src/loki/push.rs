//! A push request as it was decoded.
use std::borrow::Cow;

/// A stream and its new lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream<'a> {
    /// What it comes from.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Its lines.
    pub entries: Vec<Entry<'a>>,
}

/// A line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry<'a> {
    /// ns UTC; `None` when nanoseconds in an `i64` cannot express it.
    pub ts: Option<i64>,
    /// The line.
    pub line: Cow<'a, str>,
    /// Structured metadata.
    pub metadata: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// Why a request as a whole is refused; nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// Above a cap: HTTP 413.
    #[error("{0}")]
    TooLarge(String),
    /// Not what the content type says: HTTP 400.
    #[error("{0}")]
    Malformed(String),
}

impl PushError {
    /// Stable label for metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "too_large",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// How many streams, labels, lines and pairs of metadata a request may still have together: each may be two bytes long and
/// takes much more memory than that.
#[derive(Debug)]
pub struct Budget {
    left: usize,
    max: usize,
}

impl Budget {
    /// `max` in all.
    pub fn new(max: usize) -> Self {
        Self { left: max, max }
    }

    /// Takes one.
    ///
    /// # Errors
    /// `TooLarge` when none is left.
    pub fn take(&mut self) -> Result<(), PushError> {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(PushError::TooLarge(format!(
                "the request has more than {} streams, labels, lines and pairs of metadata; send smaller requests",
                self.max
            ))),
        }
    }
}
