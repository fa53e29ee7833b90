//! Log lines to a batch of records.
use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, StringBuilder, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Schema};
use foretell_engine::{Records, SeriesId};

use super::attributes::{AttributesBuilder, Value, batch};
use super::{SPAN_ID_BYTES, Signal, TRACE_ID_BYTES, id_type, ids};
use crate::error::Result;
use crate::table::timestamp_type;

/// What a log line has besides its stream, its time and its attributes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Log<'a> {
    /// When it was seen by who collected it, ns UTC.
    pub observed_ts: Option<i64>,
    /// As the source names it.
    pub severity: Option<&'a str>,
    /// 1 to 24, as OpenTelemetry counts.
    pub severity_number: Option<i32>,
    /// The line; JSON when it is not a text.
    pub body: Option<&'a str>,
    /// The trace it belongs to.
    pub trace_id: Option<[u8; TRACE_ID_BYTES]>,
    /// The span it belongs to.
    pub span_id: Option<[u8; SPAN_ID_BYTES]>,
    /// Name of the instrumentation scope.
    pub scope: Option<&'a str>,
}

/// The columns of the engine's table that are not attributes.
pub(crate) fn stored() -> Vec<(&'static str, DataType)> {
    vec![
        ("body", DataType::Utf8),
        ("observed_ts", timestamp_type()),
        ("scope", DataType::Utf8),
        ("severity", DataType::Utf8),
        ("severity_number", DataType::Int32),
        ("span_id", id_type(SPAN_ID_BYTES)),
        ("trace_id", id_type(TRACE_ID_BYTES)),
    ]
}

/// Collects log lines for one commit.
pub struct LogBuilder {
    series: Vec<SeriesId>,
    ts: Vec<i64>,
    observed_ts: Vec<Option<i64>>,
    severity: StringBuilder,
    severity_number: Vec<Option<i32>>,
    body: StringBuilder,
    trace_id: Vec<Option<[u8; TRACE_ID_BYTES]>>,
    span_id: Vec<Option<[u8; SPAN_ID_BYTES]>>,
    scope: StringBuilder,
    attributes: AttributesBuilder,
}

impl LogBuilder {
    /// For a table that has the columns `known`, see [`Signal::known_columns`].
    pub fn new(known: Option<Arc<Schema>>) -> Self {
        Self {
            series: Vec::new(),
            ts: Vec::new(),
            observed_ts: Vec::new(),
            severity: StringBuilder::new(),
            severity_number: Vec::new(),
            body: StringBuilder::new(),
            trace_id: Vec::new(),
            span_id: Vec::new(),
            scope: StringBuilder::new(),
            attributes: AttributesBuilder::new(known),
        }
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// Adds a line of `stream` (of [`Signal::stream`], resolved) at `ts`, ns UTC. Of a key that occurs twice among the
    /// attributes the first value counts.
    pub fn push<'a>(
        &mut self,
        stream: SeriesId,
        ts: i64,
        log: &Log<'_>,
        attributes: impl IntoIterator<Item = (&'a str, Value<'a>)>,
    ) {
        self.attributes.push(attributes);
        self.series.push(stream);
        self.ts.push(ts);
        self.observed_ts.push(log.observed_ts);
        self.severity.append_option(log.severity);
        self.severity_number.push(log.severity_number);
        self.body.append_option(log.body);
        self.trace_id.push(log.trace_id);
        self.span_id.push(log.span_id);
        self.scope.append_option(log.scope);
    }

    /// What was collected, for [`foretell_engine::WriteBatch::records`].
    ///
    /// # Errors
    /// None in fact.
    pub fn finish(mut self) -> Result<Records> {
        let observed = TimestampNanosecondArray::from(self.observed_ts).with_timezone("UTC");
        let mut columns = self.attributes.finish()?;
        columns.extend([
            ("observed_ts".to_owned(), Arc::new(observed) as ArrayRef),
            ("severity".to_owned(), Arc::new(self.severity.finish()) as ArrayRef),
            ("severity_number".to_owned(), Arc::new(Int32Array::from(self.severity_number)) as ArrayRef),
            ("body".to_owned(), Arc::new(self.body.finish()) as ArrayRef),
            ("trace_id".to_owned(), ids(&self.trace_id)?),
            ("span_id".to_owned(), ids(&self.span_id)?),
            ("scope".to_owned(), Arc::new(self.scope.finish()) as ArrayRef),
        ]);
        Ok(Records { table: Signal::Logs.table()?, series: self.series, ts: self.ts, columns: batch(columns)? })
    }
}

/// The number that OpenTelemetry gives to a severity by one of its usual names, in any case.
pub fn severity_number(name: &str) -> Option<i32> {
    const NAMES: [(&str, i32); 14] = [
        ("trace", 1),
        ("debug", 5),
        ("info", 9),
        ("information", 9),
        ("notice", 10),
        ("warn", 13),
        ("warning", 13),
        ("error", 17),
        ("err", 17),
        ("critical", 21),
        ("crit", 21),
        ("alert", 21),
        ("fatal", 21),
        ("panic", 24),
    ];
    NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|known| known.1)
}
