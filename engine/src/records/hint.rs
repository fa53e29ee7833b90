//! What a reader wants rows for, as far as it lets whole groups of a file be passed over, and which words rows must have.
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::text::Words;

/// A condition that a scan applies exactly: that the text in a column has all of some words. A NULL has none.
#[derive(Clone, Debug)]
pub struct WordFilter {
    /// Name of the column, which holds texts.
    pub column: String,
    /// The words.
    pub words: Arc<Words>,
}

impl WordFilter {
    /// The rows of its column that satisfy it.
    ///
    /// # Errors
    /// `Invalid` when these are no texts.
    pub(crate) fn rows(&self, column: &ArrayRef) -> Result<BooleanBuffer> {
        if *column.data_type() != DataType::Utf8 {
            let (name, other) = (&self.column, column.data_type());
            return Err(Error::Invalid(format!("column {name} is {other}: words can be looked for in texts only")));
        }
        let (has, nulls) = self.words.rows(column.as_string()).into_parts();
        Ok(match nulls {
            Some(nulls) => &has & nulls.inner(),
            None => has,
        })
    }
}

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
