//! Spans to a batch of records.
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, MapArray, StringBuilder, StructArray, TimestampNanosecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use foretell_engine::{Records, SeriesId};

use super::attributes::{AttributesBuilder, Value, batch, map_builder, put_map};
use super::{SPAN_ID_BYTES, Signal, TRACE_ID_BYTES, hex, id_type, ids};
use crate::error::{Error, Result};
use crate::native::list_type;
use crate::table::columns::map_type;
use crate::table::timestamp_type;

/// Something that happened in a span.
#[derive(Clone, Debug, Default)]
pub struct SpanEvent<'a> {
    /// When, ns UTC.
    pub ts: i64,
    /// What.
    pub name: &'a str,
    /// More about it.
    pub attributes: Vec<(&'a str, Value<'a>)>,
}

/// Another span that has to do with a span.
#[derive(Clone, Debug, Default)]
pub struct SpanLink<'a> {
    /// Its trace.
    pub trace_id: [u8; TRACE_ID_BYTES],
    /// Itself.
    pub span_id: [u8; SPAN_ID_BYTES],
    /// W3C `tracestate`.
    pub trace_state: &'a str,
    /// More about it.
    pub attributes: Vec<(&'a str, Value<'a>)>,
}

/// What a span has besides its stream, its start and its attributes.
#[derive(Clone, Debug, Default)]
pub struct Span<'a> {
    /// Nanoseconds from start to end.
    pub duration: i64,
    /// Its trace.
    pub trace_id: [u8; TRACE_ID_BYTES],
    /// Itself.
    pub span_id: [u8; SPAN_ID_BYTES],
    /// The span that caused it; `None` of a root.
    pub parent_span_id: Option<[u8; SPAN_ID_BYTES]>,
    /// The operation.
    pub name: &'a str,
    /// `internal`, `server`, `client`, `producer`, `consumer`; `None` when unspecified.
    pub kind: Option<&'a str>,
    /// `ok` or `error`; `None` when unset.
    pub status: Option<&'a str>,
    /// What the status says.
    pub status_message: Option<&'a str>,
    /// What happened in it.
    pub events: &'a [SpanEvent<'a>],
    /// Spans it has to do with.
    pub links: &'a [SpanLink<'a>],
}

fn event_fields() -> Fields {
    vec![
        Field::new("ts", timestamp_type(), true),
        Field::new("name", DataType::Utf8, true),
        Field::new("attributes", map_type(), true),
    ]
    .into()
}

fn link_fields() -> Fields {
    vec![
        Field::new("trace_id", DataType::Utf8, true),
        Field::new("span_id", DataType::Utf8, true),
        Field::new("trace_state", DataType::Utf8, true),
        Field::new("attributes", map_type(), true),
    ]
    .into()
}

/// The columns of the engine's table that are not attributes.
pub(crate) fn stored() -> Vec<(&'static str, DataType)> {
    vec![
        ("duration", DataType::Int64),
        ("events", list_type(DataType::Struct(event_fields()))),
        ("kind", DataType::Utf8),
        ("links", list_type(DataType::Struct(link_fields()))),
        ("name", DataType::Utf8),
        ("parent_span_id", id_type(SPAN_ID_BYTES)),
        ("span_id", id_type(SPAN_ID_BYTES)),
        ("status", DataType::Utf8),
        ("status_message", DataType::Utf8),
        ("trace_id", id_type(TRACE_ID_BYTES)),
    ]
}

/// Collects spans for one commit.
pub struct SpanBuilder {
    series: Vec<SeriesId>,
    ts: Vec<i64>,
    duration: Vec<i64>,
    trace_id: Vec<Option<[u8; TRACE_ID_BYTES]>>,
    span_id: Vec<Option<[u8; SPAN_ID_BYTES]>>,
    parent_span_id: Vec<Option<[u8; SPAN_ID_BYTES]>>,
    /// Name, kind, status, status message.
    texts: [StringBuilder; 4],
    event_counts: Vec<usize>,
    event_ts: Vec<i64>,
    event_names: StringBuilder,
    event_attributes: arrow::array::MapBuilder<StringBuilder, StringBuilder>,
    link_counts: Vec<usize>,
    /// Trace, span, state.
    link_texts: [StringBuilder; 3],
    link_attributes: arrow::array::MapBuilder<StringBuilder, StringBuilder>,
    attributes: AttributesBuilder,
}

impl SpanBuilder {
    /// For a table that has the columns `known`, see [`Signal::known_columns`].
    pub fn new(known: Option<Arc<Schema>>) -> Self {
        Self {
            series: Vec::new(),
            ts: Vec::new(),
            duration: Vec::new(),
            trace_id: Vec::new(),
            span_id: Vec::new(),
            parent_span_id: Vec::new(),
            texts: Default::default(),
            event_counts: Vec::new(),
            event_ts: Vec::new(),
            event_names: StringBuilder::new(),
            event_attributes: map_builder(),
            link_counts: Vec::new(),
            link_texts: Default::default(),
            link_attributes: map_builder(),
            attributes: AttributesBuilder::new(known),
        }
    }

    /// Number of spans.
    pub fn len(&self) -> usize {
        self.ts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }

    /// Adds a span of `stream` (of [`Signal::stream`], resolved) that starts at `ts`, ns UTC. Of a key that occurs twice
    /// among attributes the first value counts.
    ///
    /// # Errors
    /// None in fact.
    pub fn push<'a>(
        &mut self,
        stream: SeriesId,
        ts: i64,
        span: &Span<'_>,
        attributes: impl IntoIterator<Item = (&'a str, Value<'a>)>,
    ) -> Result<()> {
        self.attributes.push(attributes);
        self.series.push(stream);
        self.ts.push(ts);
        self.duration.push(span.duration);
        self.trace_id.push(Some(span.trace_id));
        self.span_id.push(Some(span.span_id));
        self.parent_span_id.push(span.parent_span_id);
        let texts = [Some(span.name), span.kind, span.status, span.status_message];
        self.texts.iter_mut().zip(texts).for_each(|(builder, text)| builder.append_option(text));
        self.event_counts.push(span.events.len());
        for event in span.events {
            self.event_ts.push(event.ts);
            self.event_names.append_value(event.name);
            put_map(&mut self.event_attributes, &event.attributes)?;
        }
        self.link_counts.push(span.links.len());
        for link in span.links {
            let [trace, of, state] = &mut self.link_texts;
            trace.append_value(hex(&link.trace_id));
            of.append_value(hex(&link.span_id));
            state.append_value(link.trace_state);
            put_map(&mut self.link_attributes, &link.attributes)?;
        }
        Ok(())
    }

    /// What was collected, for [`foretell_engine::WriteBatch::records`].
    ///
    /// # Errors
    /// None in fact.
    pub fn finish(mut self) -> Result<Records> {
        let events: Vec<ArrayRef> = vec![
            Arc::new(TimestampNanosecondArray::from(self.event_ts).with_timezone("UTC")),
            Arc::new(self.event_names.finish()),
            shown(self.event_attributes.finish()),
        ];
        let [trace, span, state] = &mut self.link_texts;
        let links: Vec<ArrayRef> = vec![
            Arc::new(trace.finish()),
            Arc::new(span.finish()),
            Arc::new(state.finish()),
            shown(self.link_attributes.finish()),
        ];
        let [name, kind, status, message] = &mut self.texts;
        let mut columns = self.attributes.finish()?;
        columns.extend([
            ("duration".to_owned(), Arc::new(Int64Array::from(self.duration)) as ArrayRef),
            ("trace_id".to_owned(), ids(&self.trace_id)?),
            ("span_id".to_owned(), ids(&self.span_id)?),
            ("parent_span_id".to_owned(), ids(&self.parent_span_id)?),
            ("name".to_owned(), Arc::new(name.finish()) as ArrayRef),
            ("kind".to_owned(), Arc::new(kind.finish()) as ArrayRef),
            ("status".to_owned(), Arc::new(status.finish()) as ArrayRef),
            ("status_message".to_owned(), Arc::new(message.finish()) as ArrayRef),
            ("events".to_owned(), lists(event_fields(), events, &self.event_counts)?),
            ("links".to_owned(), lists(link_fields(), links, &self.link_counts)?),
        ]);
        Ok(Records { table: Signal::Spans.table()?, series: self.series, ts: self.ts, columns: batch(columns)? })
    }
}

fn shown(maps: MapArray) -> ArrayRef {
    Arc::new(maps)
}

/// Items as lists of `counts` each, NULL for none.
fn lists(fields: Fields, items: Vec<ArrayRef>, counts: &[usize]) -> Result<ArrayRef> {
    let wrong = |error: arrow::error::ArrowError| Error::internal(error.to_string());
    let items = StructArray::try_new(fields.clone(), items, None).map_err(wrong)?;
    let field = Arc::new(Field::new_list_field(DataType::Struct(fields), true));
    let offsets = OffsetBuffer::from_lengths(counts.iter().copied());
    let nulls: NullBuffer = counts.iter().map(|&count| count > 0).collect();
    Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(items), Some(nulls)).map_err(wrong)?))
}
