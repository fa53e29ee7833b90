//! What a reader wants rows for, as far as it lets whole groups of a file be passed over, and what rows must have.
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::DataType;

use crate::error::{Error, Result};
use crate::text::Words;

/// A condition that a scan applies exactly. NULL satisfies none.
#[derive(Clone, Debug)]
pub enum RowFilter {
    /// A text has all of some words.
    Words {
        /// Name of the column, which holds texts.
        column: String,
        /// The words.
        words: Arc<Words>,
    },
    /// A text or a fixed binary has exactly these bytes.
    Value {
        /// Name of the column.
        column: String,
        /// All of it.
        value: Vec<u8>,
    },
}

impl RowFilter {
    /// Name of its column.
    pub(crate) fn column(&self) -> &str {
        match self {
            Self::Words { column, .. } | Self::Value { column, .. } => column,
        }
    }

    /// The rows of its column that satisfy it.
    ///
    /// # Errors
    /// `Invalid` for a column of another type.
    pub(crate) fn rows(&self, column: &ArrayRef) -> Result<BooleanBuffer> {
        let (has, nulls) = match (self, column.data_type()) {
            (Self::Words { words, .. }, DataType::Utf8) => words.rows(column.as_string()).into_parts(),
            (Self::Value { value, .. }, DataType::FixedSizeBinary(_)) => {
                let ids = column.as_fixed_size_binary();
                let has = BooleanBuffer::collect_bool(ids.len(), |row| ids.value(row) == value.as_slice());
                (has, ids.nulls().cloned())
            }
            (Self::Value { value, .. }, DataType::Utf8) => {
                let texts = column.as_string::<i32>();
                let has =
                    BooleanBuffer::collect_bool(texts.len(), |row| texts.value(row).as_bytes() == value.as_slice());
                (has, texts.nulls().cloned())
            }
            (_, other) => {
                let name = self.column();
                return Err(Error::Invalid(format!("column {name} is {other}: it has no such values to look for")));
            }
        };
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
