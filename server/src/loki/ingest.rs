//! Streams of a push request to one batch.
use std::borrow::Cow;
use std::sync::Arc;

use foretell_engine::{Engine, Error as EngineError, SeriesId, WriteBatch};
use foretell_query::event::{Log, LogBuilder, Signal, Value, from_hex, log};

use super::push::{Entry, Stream};
use crate::remote_write::labels::LabelLimits;

/// Bytes of a line.
pub const LINE_BYTES_MAX: usize = 256 << 10;
/// Rows and, about, bytes of one batch of records: what keeps the columns of rare metadata small.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 16 << 20;

/// Labels that say which service a stream is of, the first that is there.
const SERVICE_LABELS: [&str; 12] = [
    "service_name",
    "service",
    "app",
    "application",
    "app_name",
    "name",
    "app_kubernetes_io_name",
    "container",
    "container_name",
    "component",
    "workload",
    "job",
];
/// Labels and metadata that say how severe a line is.
const SEVERITY_NAMES: [&str; 3] = ["level", "severity", "detected_level"];

/// Why a line was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nanoseconds in an `i64` cannot express it.
    #[error("a timestamp is outside the years 1677 to 2262")]
    TimestampOutOfRange,
    /// Too far ahead of the clock.
    #[error("timestamp {0} ns is too far ahead of this server's clock (limits.future_max); check the sender's clock")]
    TimestampInFuture(i64),
    /// Older than what is kept.
    #[error("timestamp {0} ns is past the retention of this server ([retention]), so it would not be kept")]
    TimestampPastRetention(i64),
    /// A longer line than is kept.
    #[error("a line of {0} bytes exceeds the limit of {max}; split or shorten it", max = LINE_BYTES_MAX)]
    LineTooLong(usize),
    /// Bad metadata.
    #[error("{0}")]
    Metadata(String),
    /// Bad labels: none of the stream's lines is stored.
    #[error("{0}")]
    Labels(String),
    /// The engine takes no more new streams.
    #[error("{0}")]
    StreamLimit(String),
}

impl Fault {
    /// Stable label for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TimestampOutOfRange => "timestamp_out_of_range",
            Self::TimestampInFuture(_) => "timestamp_in_future",
            Self::TimestampPastRetention(_) => "timestamp_past_retention",
            Self::LineTooLong(_) => "line_too_long",
            Self::Metadata(_) => "bad_metadata",
            Self::Labels(_) => "bad_labels",
            Self::StreamLimit(_) => "stream_limit",
        }
    }
}

/// What became of a well-formed request.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Lines in the batch.
    pub stored: u64,
    /// The rest.
    pub dropped: u64,
    /// The first fault.
    pub fault: Option<Fault>,
    /// Whether a limit (rather than the sender) is the cause of a drop, so that trying again later can help.
    pub limited: bool,
}

impl Report {
    fn drop_lines(&mut self, lines: usize, fault: Fault) {
        self.limited |= matches!(fault, Fault::StreamLimit(_));
        self.dropped += lines as u64;
        self.fault.get_or_insert(fault);
    }

    /// The first fault, and the counts.
    pub fn message(&self) -> String {
        let fault = self.fault.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{fault}; {} lines dropped, {} lines stored", self.dropped, self.stored)
    }
}

/// What lines and streams may be.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Labels of a stream, and pairs of metadata of a line.
    pub labels: LabelLimits,
    /// The latest instant that is accepted, ns UTC.
    pub ts_max: i64,
}

/// The valid lines of `streams` as a batch to commit, and what had to be left out.
///
/// # Errors
/// When the engine cannot resolve streams now: nothing may be acknowledged.
pub fn batch(engine: &Engine, streams: &[Stream<'_>], limits: &Limits) -> Result<(WriteBatch, Report), EngineError> {
    let (mut batch, mut report) = (WriteBatch::default(), Report::default());
    let known = Signal::Logs.known_columns(engine);
    let mut lines = LogBuilder::new(known.clone());
    let mut bytes = 0;
    let ts_min = engine.oldest_accepted_of_ns(Signal::Logs.stream_name());
    for stream in streams.iter().filter(|stream| !stream.entries.is_empty()) {
        let id = match resolve(engine, stream, &limits.labels)? {
            Ok(id) => id,
            Err(fault) => {
                report.drop_lines(stream.entries.len(), fault);
                continue;
            }
        };
        let severity = severity(&stream.labels);
        for entry in &stream.entries {
            let ts = match check(entry, ts_min, limits) {
                Ok(ts) => ts,
                Err(fault) => {
                    report.drop_lines(1, fault);
                    continue;
                }
            };
            push(&mut lines, id, ts, entry, severity);
            bytes +=
                entry.line.len() + entry.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            report.stored += 1;
            if lines.len() == BATCH_ROWS || bytes >= BATCH_BYTES {
                let full = std::mem::replace(&mut lines, LogBuilder::new(known.clone()));
                batch.records.push(Arc::new(full.finish().map_err(unexpected)?));
                bytes = 0;
            }
        }
    }
    if !lines.is_empty() {
        batch.records.push(Arc::new(lines.finish().map_err(unexpected)?));
    }
    Ok((batch, report))
}

/// What making columns refuses although every value was checked.
fn unexpected(error: foretell_query::Error) -> EngineError {
    EngineError::Invalid(error.to_string())
}

/// The id of `stream`.
fn resolve(engine: &Engine, stream: &Stream<'_>, limits: &LabelLimits) -> Result<Result<SeriesId, Fault>, EngineError> {
    let labels = &stream.labels;
    if labels.is_empty() {
        return Ok(Err(Fault::Labels("a stream has no labels; give it at least one".into())));
    }
    if let Some(why) = wrong_pairs(labels, limits, "label") {
        return Ok(Err(Fault::Labels(why)));
    }
    let service = SERVICE_LABELS.iter().find_map(|name| get(labels, name)).unwrap_or("");
    let pairs = labels.iter().map(|(name, value)| (&**name, &**value));
    let labels = match Signal::Logs.stream(service, pairs) {
        Ok(labels) => labels,
        Err(error) => return Ok(Err(Fault::Labels(error.to_string()))),
    };
    match engine.resolve(&labels) {
        Ok(id) => Ok(Ok(id)),
        Err(EngineError::Invalid(why)) => Ok(Err(Fault::Labels(why))),
        Err(EngineError::Limit(why)) => Ok(Err(Fault::StreamLimit(why))),
        Err(error) => Err(error),
    }
}

type Pairs<'a> = [(Cow<'a, str>, Cow<'a, str>)];

fn get<'a>(pairs: &'a Pairs<'_>, name: &str) -> Option<&'a str> {
    pairs.iter().find(|pair| pair.0 == name).map(|pair| &*pair.1).filter(|value| !value.is_empty())
}

fn severity<'a>(pairs: &'a Pairs<'_>) -> Option<&'a str> {
    SEVERITY_NAMES.iter().find_map(|name| get(pairs, name))
}

fn wrong_pairs(pairs: &Pairs<'_>, limits: &LabelLimits, what: &str) -> Option<String> {
    if pairs.len() > limits.labels_max {
        return Some(format!("{} {what}s exceed the limit of {}", pairs.len(), limits.labels_max));
    }
    pairs.iter().find_map(|(name, value)| {
        if name.is_empty() || name.len() > limits.name_bytes_max {
            Some(format!("a {what} name of {} bytes is not from 1 to {} long", name.len(), limits.name_bytes_max))
        } else if value.len() > limits.value_bytes_max {
            let (len, max) = (value.len(), limits.value_bytes_max);
            Some(format!("the value of {what} {name:?} has {len} bytes, the limit is {max}"))
        } else {
            None
        }
    })
}

/// The time of `entry`, if it can be stored.
fn check(entry: &Entry<'_>, ts_min: i64, limits: &Limits) -> Result<i64, Fault> {
    let ts = entry.ts.ok_or(Fault::TimestampOutOfRange)?;
    if ts > limits.ts_max {
        return Err(Fault::TimestampInFuture(ts));
    }
    if ts < ts_min {
        return Err(Fault::TimestampPastRetention(ts));
    }
    if entry.line.len() > LINE_BYTES_MAX {
        return Err(Fault::LineTooLong(entry.line.len()));
    }
    match wrong_pairs(&entry.metadata, &limits.labels, "metadata") {
        Some(why) => Err(Fault::Metadata(why)),
        None => Ok(ts),
    }
}

fn push(lines: &mut LogBuilder, stream: SeriesId, ts: i64, entry: &Entry<'_>, of_stream: Option<&str>) {
    // Ids move to their columns when they have the form that these show; all else stays as it came.
    let trace_id = get(&entry.metadata, "trace_id").and_then(from_hex);
    let span_id = get(&entry.metadata, "span_id").and_then(from_hex);
    let severity = severity(&entry.metadata).or(of_stream);
    let line = Log {
        severity,
        severity_number: severity.and_then(log::severity_number),
        body: Some(&entry.line),
        trace_id,
        span_id,
        ..Log::default()
    };
    let moved = |name: &str| (name == "trace_id" && trace_id.is_some()) || (name == "span_id" && span_id.is_some());
    let attributes = entry.metadata.iter().filter(|(name, _)| !moved(name.as_ref()));
    lines.push(stream, ts, &line, attributes.map(|(name, value)| (&**name, Value::Text(value))));
}
