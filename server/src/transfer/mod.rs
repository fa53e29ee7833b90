//! `foretell export` and `foretell import`: samples, log lines and spans as files, over the protocols that everybody speaks
//! with a server.
//!
//! ```text
//!  server ──SQL, Arrow stream, one slice of time after another──► export ─► Parquet | CSV | NDJSON | OpenMetrics
//!  Parquet | CSV | promtool's dump ─► import ──remote write, in batches──► server
//!  Parquet | CSV | NDJSON of log lines or spans ─► import ──OTLP/HTTP, in batches──► server
//! ```
//! | module | owns |
//! |---|---|
//! | [`export`] | the command, and what it asks for |
//! | `matchers` | `{__name__="up", job=~"a.*"}` as a condition in SQL |
//! | `slices` | cutting time so that each answer is of bounded size |
//! | `sink` | rows to bytes |
//! | `openmetrics` | the text that promtool reads |
//! | `output` | the file: there when it is complete, or not |
//! | [`import`] | the command |
//! | `layout`, `columns` | which column is what |
//! | `label_text` | label sets as Prometheus writes them |
//! | `time_text` | times and values as text |
//!
//! Invariants: an export that breaks off leaves no file; an import that breaks off can be run again, since equal rows
//! overwrite equal rows; nothing here holds more than one batch of rows.
mod columns;
pub mod export;
pub mod import;
mod label_text;
mod layout;
mod matchers;
mod openmetrics;
mod output;
mod sink;
mod slices;
mod time_text;

use clap::ValueEnum;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// Columns, compressed; keeps every bit
    Parquet,
    /// Comma-separated, with a header; knows one NaN only
    Csv,
    /// Text that Prometheus's promtool writes and reads
    Promtool,
    /// A JSON object in each line
    Ndjson,
}
