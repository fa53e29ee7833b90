//! How continuous queries look from outside: `sys.continuous_queries` and the answers of SHOW and DESCRIBE.
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;

use super::definition::{Definition, Emit, Late, Progress};
use crate::duration;
use crate::error::{Error, Result};

/// What a query is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Works through the data that was there before it.
    Backfilling,
    /// Follows the feed.
    Running,
    /// Failed; tried again after a pause.
    Failed,
    /// Rests until it is resumed.
    Paused,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Backfilling => "backfilling",
            Self::Running => "running",
            Self::Failed => "failed",
            Self::Paused => "paused",
        }
    }
}

/// A query as seen from outside.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) definition: Definition,
    pub(super) state: State,
    pub(super) progress: Progress,
    /// Commits that are not in its rows yet.
    pub(super) lag: u64,
    pub(super) last_error: Option<String>,
    pub(super) cost: Cost,
}

/// What a query holds, and what it has cost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    /// Series or groups whose state is in memory.
    pub(super) keys: u64,
    /// Stored state.
    pub(super) state_bytes: u64,
    /// Time that its steps took.
    pub(super) busy_seconds: f64,
}

/// A continuous query or a detector in numbers, for operators.
#[derive(Clone, Debug, PartialEq)]
pub struct ContinuousStats {
    /// Its name.
    pub name: String,
    /// `continuous query` or `detector`.
    pub kind: &'static str,
    /// Commits that are not in its rows yet.
    pub lag: u64,
    /// Rows read from the feed.
    pub rows_in: u64,
    /// Rows written.
    pub rows_out: u64,
    /// Rows out of order.
    pub late: u64,
    /// What was computed from storage for them.
    pub recomputed: u64,
    /// Rows too late to count.
    pub dropped: u64,
    /// Series or groups whose state is in memory.
    pub keys: u64,
    /// Stored state.
    pub state_bytes: u64,
    /// Time that its steps took since the start.
    pub busy_seconds: f64,
}

impl Status {
    /// In numbers.
    pub(super) fn stats(&self) -> ContinuousStats {
        let Progress { rows_in, rows_out, late, recomputed, dropped, .. } = self.progress;
        let Cost { keys, state_bytes, busy_seconds } = self.cost;
        let (name, kind) = (self.definition.name.clone(), self.definition.noun().name());
        let lag = self.lag;
        ContinuousStats {
            name,
            kind,
            lag,
            rows_in,
            rows_out,
            late,
            recomputed,
            dropped,
            keys,
            state_bytes,
            busy_seconds,
        }
    }

    fn cells(&self) -> [Cell; 19] {
        let count = |n: u64| Cell::Count(i64::try_from(n).unwrap_or(i64::MAX));
        [
            Cell::Text(Some(self.definition.name.clone())),
            Cell::Text(Some(self.definition.target.clone())),
            Cell::Text(Some(self.state.as_str().to_owned())),
            count(self.progress.position.0),
            count(self.lag),
            count(self.progress.rows_in),
            count(self.progress.rows_out),
            count(self.progress.late),
            count(self.progress.recomputed),
            count(self.progress.dropped),
            count(self.cost.keys),
            count(self.cost.state_bytes),
            Cell::Number(self.cost.busy_seconds),
            Cell::Text(Some(duration::format(self.definition.watermark_ns))),
            Cell::Text(Some(self.emit().to_owned())),
            Cell::Text(Some(self.late())),
            Cell::Text(self.last_error.clone()),
            Cell::Text(Some(self.definition.source.clone()).filter(|source| !source.is_empty())),
            Cell::Text(Some(self.definition.detector.as_ref().unwrap_or(&self.definition.sql).clone())),
        ]
    }
}

impl Status {
    fn emit(&self) -> &'static str {
        match self.definition.emit {
            Emit::Update => "update",
            Emit::Close => "window close",
        }
    }
    fn late(&self) -> String {
        match &self.definition.late {
            Late::Revise => "revise".to_owned(),
            Late::Within(0) => "drop".to_owned(),
            Late::Within(within) => format!("revise within {}", duration::format(*within)),
            Late::Into(table) => format!("into {table}"),
        }
    }
}

enum Cell {
    Text(Option<String>),
    Count(i64),
    Number(f64),
}

/// Columns of `sys.continuous_queries`.
const COLUMNS: [(&str, DataType); 19] = [
    ("name", DataType::Utf8),
    ("target", DataType::Utf8),
    ("state", DataType::Utf8),
    ("position", DataType::Int64),
    ("lag", DataType::Int64),
    ("rows_in", DataType::Int64),
    ("rows_out", DataType::Int64),
    ("late", DataType::Int64),
    ("recomputed", DataType::Int64),
    ("dropped", DataType::Int64),
    ("keys", DataType::Int64),
    ("state_bytes", DataType::Int64),
    ("busy_seconds", DataType::Float64),
    ("watermark", DataType::Utf8),
    ("emit", DataType::Utf8),
    ("late_rows", DataType::Utf8),
    ("last_error", DataType::Utf8),
    ("source", DataType::Utf8),
    ("sql", DataType::Utf8),
];

/// Columns of `sys.continuous_queries`, `sys.detectors`, `SHOW CONTINUOUS QUERIES` and `SHOW DETECTORS`.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(COLUMNS.map(|(name, data_type)| Field::new(name, data_type, true)).to_vec()))
}

/// One row per query.
///
/// # Errors
/// `Internal`.
pub(super) fn table(queries: &[Status]) -> Result<RecordBatch> {
    let rows: Vec<[Cell; 19]> = queries.iter().map(Status::cells).collect();
    let columns = (0..COLUMNS.len())
        .map(|column| -> ArrayRef {
            match COLUMNS[column].1 {
                DataType::Int64 => Arc::new(Int64Array::from_iter(rows.iter().map(|row| match row[column] {
                    Cell::Count(n) => Some(n),
                    _ => None,
                }))),
                DataType::Float64 => Arc::new(Float64Array::from_iter(rows.iter().map(|row| match row[column] {
                    Cell::Number(n) => Some(n),
                    _ => None,
                }))),
                _ => Arc::new(StringArray::from_iter(rows.iter().map(|row| match &row[column] {
                    Cell::Text(text) => text.clone(),
                    _ => None,
                }))),
            }
        })
        .collect();
    RecordBatch::try_new(schema(), columns).map_err(|e| Error::internal(e.to_string()))
}

/// One query as properties and values.
///
/// # Errors
/// `Internal`.
pub(super) fn description(query: &Status) -> Result<RecordBatch> {
    properties(&table(std::slice::from_ref(query))?)
}

/// How a query works, and what it has cost, as properties and values.
///
/// # Errors
/// `Internal`.
pub(super) fn explanation(query: &Status, explained: &[(&'static str, String)]) -> Result<RecordBatch> {
    let Progress { rows_in, rows_out, late, recomputed, dropped, .. } = query.progress;
    let (mut names, mut values): (Vec<&str>, Vec<String>) = explained.iter().cloned().unzip();
    let more = [
        ("watermark", duration::format(query.definition.watermark_ns)),
        ("emit", query.emit().to_owned()),
        ("late policy", query.late()),
        (
            "rows so far",
            format!("{rows_in} in, {rows_out} out, {late} late, {recomputed} computed again, {dropped} dropped"),
        ),
    ];
    for (name, value) in more {
        names.push(name);
        values.push(value);
    }
    named(names.into_iter(), values.into_iter().map(Some))
}

/// A table of properties and values.
fn named<N: AsRef<str>>(
    names: impl Iterator<Item = N>,
    values: impl Iterator<Item = Option<String>>,
) -> Result<RecordBatch> {
    let schema =
        Schema::new(vec![Field::new("property", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from_iter_values(names)), Arc::new(StringArray::from_iter(values))];
    RecordBatch::try_new(Arc::new(schema), columns).map_err(|e| Error::internal(e.to_string()))
}

/// The first row of a table as properties and values.
///
/// # Errors
/// `Internal`.
pub(crate) fn properties(table: &RecordBatch) -> Result<RecordBatch> {
    let internal = |error: arrow::error::ArrowError| Error::internal(error.to_string());
    let value = |column: &ArrayRef| match column.is_valid(0) {
        true => array_value_to_string(column, 0).map(Some).map_err(internal),
        false => Ok(None),
    };
    let values = table.columns().iter().map(value).collect::<Result<Vec<_>>>()?;
    named(table.schema().fields().iter().map(|field| field.name()), values.into_iter())
}

/// The answer of a statement that changes something.
///
/// # Errors
/// `Internal`.
pub(crate) fn answer(text: String) -> Result<RecordBatch> {
    let schema = Schema::new(vec![Field::new("result", DataType::Utf8, false)]);
    let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
    RecordBatch::try_new(Arc::new(schema), vec![column]).map_err(|e| Error::internal(e.to_string()))
}
