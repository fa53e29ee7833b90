//! Requests with logs or spans to one batch of rows.
//!
//! ```text
//!  1 ResourceLogs | ResourceSpans { 1 Resource { 1 KeyValue* }
//!                                   2 ScopeLogs | ScopeSpans { 1 Scope { 1 name  2 version  3 KeyValue* }
//!                                                              2 LogRecord | Span* }* }*
//! ```
//! A resource is a stream: its attributes are the labels. What a scope says becomes attributes of its rows. Both are read
//! before the rows, wherever they stand.
use std::sync::Arc;

use arrow::datatypes::Schema;
use foretell_engine::{Engine, Error as EngineError, Records, SeriesId, WriteBatch};
use foretell_query::event::{LogBuilder, Signal, SpanBuilder, Value, known_with};

use super::any::{Attributes, Held, attribute, held, utf8};
use super::fault::{Budget, Fault, Report, Stop};
use super::wire::{fields, key_value, refusal};
use super::{log_record, span};
use crate::remote_write::DecodeError;
use crate::remote_write::ingest::IngestError;
use crate::remote_write::labels::LabelLimits;

/// Rows and, about, bytes of one batch of records: what keeps the columns of rare attributes small.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES: usize = 16 << 20;
/// Attributes of a scope are charged to each row; this bounds the reading of one scope.
const SCOPE_ITEMS_MAX: usize = 4096;
/// The attribute of a resource that the column `service` shows.
const SERVICE_NAME: &str = "service.name";

/// What requests may have.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Attributes of a resource.
    pub(super) labels: LabelLimits,
    /// The time of this request, ns UTC.
    pub(super) now: i64,
    /// The latest instant that is accepted, ns UTC.
    pub(super) ts_max: i64,
    /// Rows, attributes, events and links of a request together.
    pub(super) items_max: usize,
}

/// Which instants are accepted, ns UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) now: i64,
    min: i64,
    max: i64,
}

impl Times {
    /// The instant of a row.
    pub(super) fn check(&self, time: u64) -> Result<i64, Stop> {
        let ts = self.instant(time)?;
        if ts > self.max {
            return Err(Stop::Row(Fault::TimestampInFuture(ts)));
        }
        if ts < self.min {
            return Err(Stop::Row(Fault::TimestampPastRetention(ts)));
        }
        Ok(ts)
    }

    /// Any other instant.
    pub(super) fn instant(&self, time: u64) -> Result<i64, Stop> {
        i64::try_from(time).map_err(|_| Stop::row("a time beyond the year 2262"))
    }
}

/// What is kept from row to row for its memory.
#[derive(Default)]
pub(super) struct Scratch<'a> {
    pub(super) attributes: Attributes<'a>,
    /// JSON of these and of what else the row has.
    pub(super) arena: String,
}

/// A row to be added, and what concerns it.
pub(super) struct Row<'r, 'a> {
    pub(super) message: &'a [u8],
    pub(super) stream: SeriesId,
    pub(super) scope: &'r Scope<'a>,
    pub(super) times: &'r Times,
}

/// An id; `None` when it is none, or all zeros, which the protocol calls invalid.
pub(super) fn id<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    <[u8; N]>::try_from(bytes).ok().filter(|id| *id != [0; N])
}

/// What a scope says of its rows.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    /// Of logs; for spans it is among the attributes.
    pub(super) name: Option<&'a str>,
    attributes: Vec<(String, Held<'a>)>,
    arena: String,
    /// What it takes in each row.
    bytes: usize,
}

impl<'a> Scope<'a> {
    /// Of the `ScopeLogs` or `ScopeSpans` `message`.
    fn read(message: &'a [u8], signal: Signal) -> Result<Self, Stop> {
        let (mut name, mut version, mut attributes, mut arena) = ("", "", Vec::new(), String::new());
        let mut budget = Budget::new(message.len(), SCOPE_ITEMS_MAX);
        fields(message, |number, field| {
            if number == 1 {
                fields(field.bytes()?, |number, field| {
                    match number {
                        1 => name = utf8(field.bytes()?, "the name of a scope")?,
                        2 => version = utf8(field.bytes()?, "the version of a scope")?,
                        3 => attribute(field, &mut attributes, &mut arena, &mut budget)?,
                        _ => {}
                    }
                    Ok::<_, Stop>(())
                })?;
            }
            Ok::<_, Stop>(())
        })?;
        budget.text(name.len() + version.len())?;
        let mut scope = Scope { name: None, attributes: Vec::new(), arena, bytes: budget.taken() };
        if !name.is_empty() {
            match signal {
                Signal::Logs => scope.name = Some(name),
                Signal::Spans => scope.attributes.push(("otel.scope.name".to_owned(), Held::Text(name))),
            }
        }
        if !version.is_empty() {
            scope.attributes.push(("otel.scope.version".to_owned(), Held::Text(version)));
        }
        let named = attributes.into_iter().map(|(key, value)| (format!("otel.scope.{key}"), value));
        scope.attributes.extend(named);
        Ok(scope)
    }

    /// Its attributes in each row.
    pub(super) fn values(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        self.attributes.iter().map(|(key, value)| (key.as_str(), value.value(&self.arena)))
    }
}

/// A resource, and its stream as soon as a row needs it.
struct Resource<'a> {
    labels: Result<Vec<(&'a str, String)>, Fault>,
    stream: Option<Result<SeriesId, Fault>>,
}

enum Builder {
    Logs(Box<LogBuilder>),
    Spans(Box<SpanBuilder>),
}

impl Builder {
    fn new(signal: Signal, known: Option<Arc<Schema>>) -> Self {
        match signal {
            Signal::Logs => Self::Logs(Box::new(LogBuilder::new(known))),
            Signal::Spans => Self::Spans(Box::new(SpanBuilder::new(known))),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Logs(lines) => lines.len(),
            Self::Spans(spans) => spans.len(),
        }
    }

    fn finish(self) -> Result<Records, Stop> {
        let finished = match self {
            Self::Logs(lines) => lines.finish(),
            Self::Spans(spans) => spans.finish(),
        };
        finished.map_err(|error| Stop::Engine(EngineError::Invalid(error.to_string())))
    }
}

/// The valid rows of an encoded `ExportLogsServiceRequest` or `ExportTraceServiceRequest` as a batch to commit, and what had
/// to be left out.
///
/// # Errors
/// When it is no such message or too large, or the engine cannot resolve streams now: nothing may be acknowledged.
pub(super) fn batch(
    engine: &Engine,
    signal: Signal,
    body: &[u8],
    limits: &Limits,
) -> Result<(WriteBatch, Report), IngestError> {
    let known = signal.known_columns(engine);
    let min = engine.oldest_accepted_of_ns(signal.stream_name());
    let row = match signal {
        Signal::Logs => "log record",
        Signal::Spans => "span",
    };
    let mut walk = Walk {
        engine,
        signal,
        limits,
        times: Times { now: limits.now, min, max: limits.ts_max },
        budget: Budget::new(body.len(), limits.items_max),
        scratch: Scratch::default(),
        builder: Builder::new(signal, known.clone()),
        known,
        number: 0,
        flushed: 0,
        batch: WriteBatch::default(),
        report: Report { row, ..Report::default() },
    };
    let walked = fields(body, |number, field| match number {
        1 => walk.resource(field.bytes()?),
        _ => Ok(()),
    });
    walked.and_then(|()| walk.flush()).map_err(refused)?;
    Ok((walk.batch, walk.report))
}

fn refused(stop: Stop) -> IngestError {
    match stop {
        Stop::Malformed(malformed) => IngestError::Decode(refusal(malformed)),
        Stop::Refused(error) => IngestError::Decode(error),
        Stop::Engine(error) => IngestError::Engine(error),
        // Those are counted where they are found.
        Stop::Row(fault) => IngestError::Decode(DecodeError::Body(fault.to_string())),
    }
}

struct Walk<'r, 'a> {
    engine: &'r Engine,
    signal: Signal,
    limits: &'r Limits,
    times: Times,
    budget: Budget,
    scratch: Scratch<'a>,
    /// Columns of the table, and of the batches that are finished.
    known: Option<Arc<Schema>>,
    builder: Builder,
    /// Of the last row.
    number: u64,
    /// What the budget had given when rows were flushed last.
    flushed: usize,
    batch: WriteBatch,
    report: Report,
}

impl<'a> Walk<'_, 'a> {
    fn resource(&mut self, message: &'a [u8]) -> Result<(), Stop> {
        let labels = match self.labels(message) {
            Ok(labels) => Ok(labels),
            Err(Stop::Row(fault)) => Err(Fault::Resource(fault.to_string())),
            Err(stop) => return Err(stop),
        };
        let mut resource = Resource { labels, stream: None };
        fields(message, |number, field| match number {
            2 => self.scope(field.bytes()?, &mut resource),
            _ => Ok(()),
        })
    }

    /// The attributes of the resource of `message`, as texts, each key once.
    fn labels(&self, message: &'a [u8]) -> Result<Vec<(&'a str, String)>, Stop> {
        let LabelLimits { labels_max, name_bytes_max, value_bytes_max, .. } = self.limits.labels;
        let (mut labels, mut arena): (Vec<(&str, String)>, String) = Default::default();
        fields(message, |number, field| {
            if number != 1 {
                return Ok(());
            }
            fields(field.bytes()?, |number, field| {
                if number != 1 {
                    return Ok(());
                }
                let (key, value) = key_value(field.bytes()?)?;
                if labels.len() >= labels_max {
                    let why = format!("a resource of more than {labels_max} attributes (limits.labels_max)");
                    return Err(Stop::row(why));
                }
                let key = utf8(key, "the key of an attribute of a resource")?;
                if key.is_empty() || key.len() > name_bytes_max {
                    let len = key.len();
                    let why = format!(
                        "a key of an attribute of a resource has {len} bytes; it may have 1 to {name_bytes_max} \
                         (limits.label_name_bytes_max)"
                    );
                    return Err(Stop::row(why));
                }
                arena.clear();
                let (value, mut text) = (held(value, &mut arena)?, String::new());
                if value != Held::Nothing {
                    value.value(&arena).put(&mut text);
                }
                if text.len() > value_bytes_max {
                    let len = text.len();
                    let why = format!(
                        "the attribute {key:?} of a resource has {len} bytes; it may have {value_bytes_max} \
                         (limits.label_value_bytes_max)"
                    );
                    return Err(Stop::row(why));
                }
                // The first value counts, as for other attributes.
                if !labels.iter().any(|label| label.0 == key) {
                    labels.push((key, text));
                }
                Ok::<_, Stop>(())
            })
        })?;
        Ok(labels)
    }

    fn scope(&mut self, message: &'a [u8], resource: &mut Resource<'a>) -> Result<(), Stop> {
        let scope = match Scope::read(message, self.signal) {
            Ok(scope) => Ok(scope),
            Err(Stop::Row(fault)) => Err(fault),
            Err(stop) => return Err(stop),
        };
        fields(message, |number, field| match number {
            2 => self.row(field.bytes()?, resource, &scope),
            _ => Ok(()),
        })
    }

    fn row(
        &mut self,
        message: &'a [u8],
        resource: &mut Resource<'a>,
        scope: &Result<Scope<'a>, Fault>,
    ) -> Result<(), Stop> {
        self.number += 1;
        match self.add(message, resource, scope) {
            Ok(()) => self.report.stored += 1,
            Err(Stop::Row(fault)) => self.report.refuse(fault, self.number),
            Err(stop) => return Err(stop),
        }
        if self.builder.len() >= BATCH_ROWS || self.budget.taken() - self.flushed >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        message: &'a [u8],
        resource: &mut Resource<'a>,
        scope: &Result<Scope<'a>, Fault>,
    ) -> Result<(), Stop> {
        self.budget.begin_row()?;
        let scope = scope.as_ref().map_err(|fault| Stop::Row(fault.clone()))?;
        let stream = self.stream(resource)?;
        self.budget.text(scope.bytes)?;
        let row = Row { message, stream, scope, times: &self.times };
        match &mut self.builder {
            Builder::Logs(lines) => log_record::add(&row, &mut self.scratch, &mut self.budget, lines),
            Builder::Spans(spans) => span::add(&row, &mut self.scratch, &mut self.budget, spans),
        }
    }

    /// The id of the stream of `resource`.
    fn stream(&self, resource: &mut Resource<'a>) -> Result<SeriesId, Stop> {
        if let Some(known) = &resource.stream {
            return known.clone().map_err(Stop::Row);
        }
        let stream = match &resource.labels {
            Ok(labels) => self.resolve(labels)?,
            Err(fault) => Err(fault.clone()),
        };
        resource.stream = Some(stream.clone());
        stream.map_err(Stop::Row)
    }

    fn resolve(&self, labels: &[(&str, String)]) -> Result<Result<SeriesId, Fault>, EngineError> {
        let service = labels.iter().find(|label| label.0 == SERVICE_NAME).map_or("", |label| label.1.as_str());
        let pairs = labels.iter().map(|(name, value)| (*name, value.as_str()));
        let labels = match self.signal.stream(service, pairs) {
            Ok(labels) => labels,
            Err(error) => return Ok(Err(Fault::Resource(error.to_string()))),
        };
        match self.engine.resolve(&labels) {
            Ok(id) => Ok(Ok(id)),
            Err(EngineError::Invalid(why)) => Ok(Err(Fault::Resource(why))),
            Err(EngineError::Limit(why)) => Ok(Err(Fault::StreamLimit(why))),
            Err(error) => Err(error),
        }
    }

    /// Moves the rows of the builder to the batch.
    fn flush(&mut self) -> Result<(), Stop> {
        self.flushed = self.budget.taken();
        if self.builder.len() > 0 {
            let full = std::mem::replace(&mut self.builder, Builder::new(self.signal, None)).finish()?;
            let known = known_with(self.known.take(), &full);
            self.builder = Builder::new(self.signal, Some(Arc::clone(&known)));
            self.known = Some(known);
            self.batch.records.push(Arc::new(full));
        }
        Ok(())
    }
}
