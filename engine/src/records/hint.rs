//! What a reader wants rows for, as far as it lets whole groups of a file be passed over.

/// A condition on a column that each wanted row satisfies. A scan leaves out groups of which the file says that no row does;
/// it still gives other rows, so whoever gives a hint filters what comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The column is not NULL.
    Present {
        /// Its name.
        column: String,
    },
    /// An integer or time from `low` to `high`, both inside.
    Within {
        /// Name of the column.
        column: String,
        /// The smallest that is wanted.
        low: i64,
        /// The largest that is wanted.
        high: i64,
    },
    /// A text with all these words, compared without case (see [`crate::text`]).
    Words {
        /// Name of the column.
        column: String,
        /// In any form.
        words: Vec<String>,
    },
    /// A fixed binary of exactly these bytes, or a map that has this text as a key.
    Value {
        /// Name of the column.
        column: String,
        /// All of it.
        value: Vec<u8>,
    },
    /// At least one of these.
    Any(Vec<Hint>),
}
