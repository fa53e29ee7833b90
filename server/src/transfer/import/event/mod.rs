//! Rows of files as log lines and spans, sent as OTLP over HTTP: the wire that keeps the types of attributes.
//!
//! ```text
//!  NDJSON | CSV | Parquet ─► row: names and cells ─► mapping ─► parts of a line or span ─► OTLP, in batches ─► server
//! ```
//! | module | owns |
//! |---|---|
//! | `cell`, `row` | a value of a row, and the row |
//! | `columns` | cells of a Parquet file |
//! | `rule`, `mapping` | which column is what, as the user says it |
//! | `time` | times as files write them |
//! | `parts`, `encode` | a log line or a span, and its bytes |
//! | `batch` | requests of bounded size, each acknowledged before the next |
//! | `read` | files, row by row |
//!
//! Invariants: a row is sent whole or not at all; what cannot be carried exactly is an error, never rounded; nothing here
//! holds more than one request and one row (Parquet: one batch of rows).
mod batch;
mod cell;
mod columns;
mod encode;
mod mapping;
mod parts;
mod read;
mod row;
mod rule;
mod time;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use foretell_query::event::Signal;

use super::super::time_text::Epoch;

pub(super) use batch::{Batcher, wire};
pub(super) use mapping::Mapping;
pub(super) use read::{Import, read_csv, read_json, read_parquet};

/// Where rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Destination {
    /// Values of metrics
    Samples,
    /// Log lines
    Logs,
    /// Spans of traces
    Spans,
}

impl Destination {
    /// The signal, unless it is samples.
    pub(super) fn signal(self) -> Option<Signal> {
        match self {
            Self::Samples => None,
            Self::Logs => Some(Signal::Logs),
            Self::Spans => Some(Signal::Spans),
        }
    }
}

/// How columns become fields of log lines and spans.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Logs and spans")]
pub(super) struct EventArgs {
    /// FIELD of the table, attributes.KEY or resource.KEY is COLUMN, COLUMN.KEY of JSON in it, or text with {COLUMN} in it
    #[arg(long, value_name = "FIELD=COLUMN")]
    map: Vec<String>,
    /// FIELD is this text in all rows
    #[arg(long, value_name = "FIELD=TEXT")]
    set: Vec<String>,
    /// FIELD is what the first group of REGEX matches in COLUMN
    #[arg(long, value_name = "FIELD=COLUMN~REGEX")]
    extract: Vec<String>,
    /// Attribute KEY is an int, double, bool or json, although the file has text
    #[arg(long = "type", value_name = "KEY=TYPE")]
    types: Vec<String>,
    /// A column that is left out; other columns without a rule are attributes
    #[arg(long, value_name = "COLUMN")]
    drop: Vec<String>,
    /// A text that means that there is no value
    #[arg(long, value_name = "TEXT")]
    null: Vec<String>,
    /// How times are written, for example '%Y-%m-%d %H:%M:%S%.f'; UTC unless it has %z
    #[arg(long, value_name = "FORMAT", conflicts_with = "epoch")]
    time_format: Option<String>,
    /// What durations count
    #[arg(long, value_enum, value_name = "UNIT")]
    duration_unit: Option<Epoch>,
    /// Rows with faults that may be left out of a file
    #[arg(long, value_name = "ROWS", default_value_t = 0)]
    skip: u64,
}

impl EventArgs {
    /// Whether one of them was given.
    pub(super) fn any(&self) -> bool {
        let lists = [&self.map, &self.set, &self.extract, &self.types, &self.drop, &self.null];
        let one = self.time_format.is_some() || self.duration_unit.is_some() || self.skip > 0;
        one || lists.iter().any(|list| !list.is_empty())
    }

    /// Rows that may be left out.
    pub(super) fn skip(&self) -> u64 {
        self.skip
    }

    /// What they say, for rows of `signal`.
    ///
    /// # Errors
    /// Which one is wrong.
    pub(super) fn mapping(&self, signal: Signal, epoch: Option<Epoch>) -> anyhow::Result<Mapping> {
        let times = time::Times::new(epoch, self.time_format.clone(), self.duration_unit);
        let mut mapping = Mapping::new(signal, times, self.drop.clone(), self.null.clone());
        let of = |flag: &str, text: &str, error: String| anyhow!("{flag} {text}: {error}");
        for text in &self.map {
            rule::mapped(signal, text).and_then(|rule| mapping.add(rule)).map_err(|error| of("--map", text, error))?;
        }
        for text in &self.set {
            rule::constant(signal, text)
                .and_then(|rule| mapping.add(rule))
                .map_err(|error| of("--set", text, error))?;
        }
        for text in &self.extract {
            let added = rule::extracted(signal, text).and_then(|rule| mapping.add(rule));
            added.map_err(|error| of("--extract", text, error))?;
        }
        for text in &self.types {
            mapping.add_type(text).map_err(|error| of("--type", text, error))?;
        }
        Ok(mapping)
    }
}
