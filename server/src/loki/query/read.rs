//! Rows of `logs` as lines with labels, a batch at a time, away from the threads that serve requests.
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, MapArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampNanosecondType};
use axum::http::StatusCode;
use foretell_engine::Snapshot;
use foretell_query::{Error as QueryError, ErrorKind as QueryErrorKind, QueryRequest};
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::super::logql::{Entry, LogQuery, Origin, SERVICE_NAME, WITHIN, time};
use crate::app::App;
use crate::error::ApiError;

const COLUMNS: &str = "ts, body, resource, attributes, trace_id, span_id, severity, service";
/// Loki gives every line this label; here a line has a severity.
const DETECTED_LEVEL: &str = "detected_level";

/// What is read.
pub(super) struct Select<'q> {
    pub(super) query: &'q LogQuery,
    /// Text of the request, in which the labels are looked for that only Loki has.
    pub(super) text: &'q str,
    /// ns, the end not included.
    pub(super) range: (i64, i64),
    /// `ORDER BY …`, `LIMIT …`.
    pub(super) order: String,
    pub(super) until: Deadline,
}

/// When all reads of a request must have ended.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn of(app: &App) -> Self {
        Self(Instant::now() + app.config.query.timeout.0)
    }

    /// # Errors
    /// When it has passed.
    pub(super) fn check(self) -> Result<(), QueryError> {
        if self.left().is_zero() {
            let why =
                "the query took longer than its deadline: read less time or fewer series, or ask with a longer step";
            return Err(QueryError::new(QueryErrorKind::Timeout, why));
        }
        Ok(())
    }

    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// What takes lines.
pub(super) trait Sink: Send + 'static {
    /// # Errors
    /// What ends the request.
    fn take(&mut self, rows: &Rows<'_>) -> Result<(), ApiError>;
}

/// How much was read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

impl Stats {
    pub(super) fn add(&mut self, rows: &Rows<'_>) {
        self.lines += rows.len() as u64;
        self.bytes += (0..rows.len()).map(|row| rows.line(row).len() as u64).sum::<u64>();
    }

    /// As Loki shows them.
    pub(super) fn json(self, started: Instant, returned: usize) -> Value {
        let seconds = started.elapsed().as_secs_f64().max(1e-9);
        json!({
            "summary": {
                "bytesProcessedPerSecond": (self.bytes as f64 / seconds) as u64,
                "linesProcessedPerSecond": (self.lines as f64 / seconds) as u64,
                "totalBytesProcessed": self.bytes,
                "totalLinesProcessed": self.lines,
                "execTime": seconds,
                "queueTime": 0,
                "subqueries": 0,
                "totalEntriesReturned": returned,
                "splits": 0,
                "shards": 0,
                "totalPostFilterLines": self.lines,
                "totalStructuredMetadataBytesProcessed": 0,
            },
            "querier": {},
            "ingester": {},
        })
    }
}

/// Gives the rows to `sink`, which comes back.
pub(super) async fn scan<S: Sink>(app: &Arc<App>, select: Select<'_>, sink: S) -> Result<S, ApiError> {
    scan_over(app, select, None, sink).await
}

/// The same for the rows that `snapshot` sees, or one of now.
pub(super) async fn scan_over<S: Sink>(
    app: &Arc<App>,
    select: Select<'_>,
    snapshot: Option<Snapshot>,
    mut sink: S,
) -> Result<S, ApiError> {
    let mut params = vec![time(select.range.0), time(select.range.1)];
    let conditions = select.query.conditions(&mut params);
    let sql = format!("SELECT {COLUMNS} FROM logs WHERE {WITHIN} AND {conditions} {}", select.order);
    let wants = (select.text.contains(DETECTED_LEVEL), select.text.contains(SERVICE_NAME));
    let request = QueryRequest { sql, params, timeout: Some(select.until.left()) };
    let database = app.store()?.database;
    let mut response = match snapshot {
        Some(snapshot) => database.query_over(request, snapshot).await?,
        None => database.query(request).await?,
    };
    while let Some(batch) = response.stream.next().await {
        let batch = batch.map_err(|error| ApiError::from(QueryError::from_datafusion(error)))?;
        let work = move || {
            sink.take(&Rows::of(&batch, wants)?)?;
            Ok::<S, ApiError>(sink)
        };
        sink = blocking(work).await?;
    }
    Ok(sink)
}

/// Does `work` on a thread that may take its time.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("the work ended early: {error}"))
    })?
}

/// Rows of a batch.
pub(super) struct Rows<'b> {
    batch: &'b RecordBatch,
    bodies: &'b StringArray,
    level: bool,
    services: Option<ArrayRef>,
}

impl<'b> Rows<'b> {
    fn of(batch: &'b RecordBatch, (level, service): (bool, bool)) -> Result<Self, ApiError> {
        let services = service.then(|| cast(batch.column(7), &DataType::Utf8)).transpose();
        let services = services.map_err(|error| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("services cannot be shown: {error}"))
        })?;
        Ok(Self { batch, bodies: batch.column(1).as_string::<i32>(), level, services })
    }

    pub(super) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    pub(super) fn ts(&self, row: usize) -> i64 {
        self.batch.column(0).as_primitive::<TimestampNanosecondType>().value(row)
    }

    pub(super) fn line(&self, row: usize) -> &str {
        if self.bodies.is_valid(row) { self.bodies.value(row) } else { "" }
    }

    fn text(&self, column: usize, row: usize) -> Option<&str> {
        let texts = self.batch.column(column).as_string::<i32>();
        texts.is_valid(row).then(|| texts.value(row))
    }

    /// A line with its labels. What it says of itself goes before what its stream says.
    pub(super) fn entry(&self, row: usize) -> Entry<'_> {
        let mut entry = Entry::new(self.ts(row), self.line(row));
        for (column, origin) in [(2, Origin::Stream), (3, Origin::Metadata)] {
            for (name, value) in pairs(self.batch.column(column).as_map(), row) {
                entry.set(Cow::Borrowed(name), Cow::Borrowed(value), origin);
            }
        }
        for (column, name) in [(4, "trace_id"), (5, "span_id")] {
            if let Some(id) = self.text(column, row) {
                entry.set(Cow::Borrowed(name), Cow::Borrowed(id), Origin::Metadata);
            }
        }
        if self.level && !entry.has(DETECTED_LEVEL) {
            let level = level(self.text(6, row).unwrap_or_default());
            entry.set(Cow::Borrowed(DETECTED_LEVEL), level, Origin::Metadata);
        }
        if let Some(services) = self.services.as_ref().filter(|_| !entry.has(SERVICE_NAME)) {
            let services = services.as_string::<i32>();
            if services.is_valid(row) {
                entry.set(Cow::Borrowed(SERVICE_NAME), Cow::Borrowed(services.value(row)), Origin::Stream);
            }
        }
        entry
    }
}

/// A severity, as Loki calls it.
fn level(severity: &str) -> Cow<'_, str> {
    Cow::Borrowed(match severity.to_ascii_lowercase().as_str() {
        "" => "unknown",
        "warning" | "warn" => "warn",
        "err" | "error" => "error",
        "information" | "informational" | "info" => "info",
        "dbg" | "debug" => "debug",
        "trc" | "trace" => "trace",
        "crit" | "critical" => "critical",
        "fatal" => "fatal",
        other => return Cow::Owned(other.to_owned()),
    })
}

/// The pairs of a map of texts.
fn pairs(maps: &MapArray, row: usize) -> impl Iterator<Item = (&str, &str)> {
    let offsets = maps.value_offsets();
    let within = if maps.is_null(row) { 0..0 } else { offsets[row] as usize..offsets[row + 1] as usize };
    let (keys, values) = (maps.keys().as_string::<i32>(), maps.values().as_string::<i32>());
    within.filter(move |at| values.is_valid(*at)).map(move |at| (keys.value(at), values.value(at)))
}
