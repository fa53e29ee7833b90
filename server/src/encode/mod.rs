//! Results as bytes: what `POST /api/v1/sql` answers and what `foretell export` writes.
//!
//! ```text
//!  head | batch | batch | … | tail        or, on its way:  … | failed
//! ```
//! | module | owns |
//! |---|---|
//! | `text` | JSON, CSV, NDJSON |
//! | `cell` | one cell as text |
//! | `columnar` | Arrow IPC stream, Parquet |
//!
//! Invariant: what an encoder holds back is bounded (Parquet: one row group); bytes leave it in the order of the file.
mod cell;
mod columnar;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::columnar::Columnar;
use self::text::Text;

/// Shape of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One object with columns, rows and stats.
    Json,
    /// Header line, then rows.
    Csv,
    /// One object a row.
    Ndjson,
    /// Arrow IPC stream.
    Arrow,
    /// Parquet file.
    Parquet,
}

impl Format {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Json, Self::Csv, Self::Ndjson, Self::Arrow, Self::Parquet];

    /// As clients write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    /// Media type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// What a format cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be written as {format}: {reason}; cast the column, or ask for another format")]
pub(crate) struct Unencodable {
    format: &'static str,
    reason: String,
}

impl Unencodable {
    fn new(format: &'static str, reason: &dyn std::error::Error) -> Self {
        Self { format, reason: reason.to_string() }
    }
}

/// What is said of a complete answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stats {
    pub(crate) query_id: u64,
    pub(crate) rows: u64,
    pub(crate) elapsed: Duration,
}

/// Writes a result piece by piece.
pub(crate) struct Encoder(Kind);

enum Kind {
    Text(Text),
    Columnar(Columnar),
}

impl Encoder {
    /// # Errors
    /// When the format has no place for a column of `schema`.
    pub(crate) fn new(format: Format, schema: &SchemaRef) -> Result<Self, Unencodable> {
        Ok(Self(match format {
            Format::Json => Kind::Text(Text::new(text::Format::Json, schema)),
            Format::Csv => Kind::Text(Text::new(text::Format::Csv, schema)),
            Format::Ndjson => Kind::Text(Text::new(text::Format::Ndjson, schema)),
            Format::Arrow => Kind::Columnar(Columnar::arrow(schema)?),
            Format::Parquet => Kind::Columnar(Columnar::parquet(schema)?),
        }))
    }

    /// Appends what stands before the rows.
    pub(crate) fn head(&mut self, out: &mut Vec<u8>) {
        match &mut self.0 {
            Kind::Text(text) => text.head(out),
            Kind::Columnar(columnar) => columnar.drain(out),
        }
    }

    /// Takes the rows of `batch`, appending to `out` what can go.
    ///
    /// # Errors
    /// When a value cannot be written; the result is then incomplete.
    pub(crate) fn batch(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        match &mut self.0 {
            Kind::Text(text) => text.batch(batch, out),
            Kind::Columnar(columnar) => columnar.batch(batch, out),
        }
    }

    /// Appends what is left of a complete result.
    ///
    /// # Errors
    /// As [`Encoder::batch`].
    pub(crate) fn tail(&mut self, stats: &Stats, out: &mut Vec<u8>) -> Result<(), Unencodable> {
        match &mut self.0 {
            Kind::Text(text) => {
                text.tail(stats, out);
                Ok(())
            }
            Kind::Columnar(columnar) => columnar.finish(out),
        }
    }

    /// Appends what stands at the end of a result that fails on its way; the connection must be broken after it. `body` is
    /// the error object. Arrow and Parquet have no place for it: they lack their end then.
    pub(crate) fn failed(&self, body: &str, out: &mut Vec<u8>) {
        if let Kind::Text(text) = &self.0 {
            text.failed(body, out);
        }
    }
}
