//! Spans to Jaeger's JSON.
use std::collections::BTreeMap;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimestampNanosecondType};
use serde_json::{Value, json};

use crate::error::ApiError;

/// Columns of `spans` that [`Traces::take`] reads, in this order.
pub(super) const COLUMNS: &str = "trace_id, span_id, parent_span_id, ts, duration, service, name, kind, status, \
     status_message, attributes, resource, events, links";
/// Spans of an answer.
pub(super) const SPANS_MAX: usize = 100_000;
/// Bytes of an answer, about.
const BYTES_MAX: usize = 64 << 20;

/// Spans by trace.
#[derive(Default)]
pub(super) struct Traces {
    traces: BTreeMap<String, Trace>,
    spans: usize,
    bytes: usize,
}

#[derive(Default)]
struct Trace {
    spans: Vec<Value>,
    /// Name of a process by service and resource.
    processes: BTreeMap<(String, Vec<(String, String)>), String>,
}

impl Traces {
    /// Adds the spans of `batch`.
    pub(super) fn take(&mut self, batch: &RecordBatch) -> Result<(), ApiError> {
        let internal =
            |error: arrow::error::ArrowError| ApiError::unavailable(format!("spans cannot be shown: {error}"));
        let service = cast(batch.column(5), &DataType::Utf8).map_err(internal)?;
        let text = |column: usize| batch.column(column).as_string::<i32>();
        let (ts, duration) =
            (batch.column(3).as_primitive::<TimestampNanosecondType>(), batch.column(4).as_primitive::<Int64Type>());
        for row in 0..batch.num_rows() {
            let (Some(trace_id), Some(span_id)) = (given(text(0), row), given(text(1), row)) else { continue };
            let mut tags = pairs(batch.column(10), row);
            let statuses = [("span.kind", given(text(7), row)), ("otel.status_code", given(text(8), row))];
            for (key, value) in statuses.into_iter().chain([("otel.status_description", given(text(9), row))]) {
                tags.extend(value.map(|value| (key.to_owned(), value.to_owned())));
            }
            let resource = pairs(batch.column(11), row);
            self.bytes += tags.iter().chain(&resource).map(|(key, value)| key.len() + value.len() + 50).sum::<usize>();
            self.bytes += 500;
            self.spans += 1;
            let mut tags: Vec<Value> = tags.iter().map(|(key, value)| tag(key, value)).collect();
            if given(text(8), row) == Some("error") {
                tags.push(json!({ "key": "error", "type": "bool", "value": true }));
            }
            let mut references = Vec::new();
            if let Some(parent) = given(text(2), row) {
                references.push(json!({ "refType": "CHILD_OF", "traceID": trace_id, "spanID": parent }));
            }
            if let Some(link) = items(batch.column(13), row) {
                let (of, span) = (link.column(0).as_string::<i32>(), link.column(1).as_string::<i32>());
                references.extend(
                    (0..link.len()).map(
                        |at| json!({ "refType": "FOLLOWS_FROM", "traceID": of.value(at), "spanID": span.value(at) }),
                    ),
                );
            }
            let logs: Vec<Value> = items(batch.column(12), row).iter().flat_map(logs).collect();
            self.bytes += logs.len() * 300;
            if self.spans > SPANS_MAX || self.bytes > BYTES_MAX {
                let why = format!("the traces have more than {SPANS_MAX} spans or {BYTES_MAX} bytes: ask for fewer");
                return Err(ApiError::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, "execution", why));
            }
            let trace = self.traces.entry(trace_id.to_owned()).or_default();
            let service = given(service.as_string::<i32>(), row).unwrap_or_default().to_owned();
            let next = format!("p{}", trace.processes.len() + 1);
            let process = trace.processes.entry((service, resource)).or_insert(next).clone();
            trace.spans.push(json!({
                "traceID": trace_id,
                "spanID": span_id,
                "operationName": given(text(6), row).unwrap_or_default(),
                "references": references,
                "startTime": ts.value(row).div_euclid(1_000),
                "duration": duration.value(row).max(0) / 1_000,
                "tags": tags,
                "logs": logs,
                "processID": process,
                "warnings": null,
            }));
        }
        Ok(())
    }

    /// The traces in the order of `ids`, or by id; those that have no span are left out.
    pub(super) fn answer(mut self, ids: &[String]) -> Vec<Value> {
        let mut found: Vec<(String, Trace)> = ids.iter().filter_map(|id| self.traces.remove_entry(id)).collect();
        found.extend(self.traces);
        let shown = found.into_iter().map(|(id, trace)| {
            let processes: serde_json::Map<String, Value> = trace
                .processes
                .into_iter()
                .map(|((service, resource), name)| {
                    let tags: Vec<Value> = resource.iter().map(|(key, value)| tag(key, value)).collect();
                    (name, json!({ "serviceName": service, "tags": tags }))
                })
                .collect();
            json!({ "traceID": id, "spans": trace.spans, "processes": processes, "warnings": null })
        });
        shown.collect()
    }
}

fn tag(key: &str, value: &str) -> Value {
    json!({ "key": key, "type": "string", "value": value })
}

fn given(texts: &StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
}

/// The pairs of a map of texts.
fn pairs(maps: &ArrayRef, row: usize) -> Vec<(String, String)> {
    let maps = maps.as_map();
    if maps.is_null(row) { Vec::new() } else { of_entries(&maps.value(row)) }
}

fn of_entries(entries: &StructArray) -> Vec<(String, String)> {
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    let valid = (0..entries.len()).filter(|&at| values.is_valid(at));
    valid.map(|at| (keys.value(at).to_owned(), values.value(at).to_owned())).collect()
}

/// The structs of a list, if it has any.
fn items(lists: &ArrayRef, row: usize) -> Option<StructArray> {
    let lists = lists.as_list::<i32>();
    lists.is_valid(row).then(|| lists.value(row).as_struct().clone())
}

/// Events of a span.
fn logs(events: &StructArray) -> Vec<Value> {
    let ts = events.column(0).as_primitive::<TimestampNanosecondType>();
    let names = events.column(1).as_string::<i32>();
    let one = |at: usize| {
        let mut fields = vec![tag("event", given(names, at).unwrap_or_default())];
        fields.extend(pairs(events.column(2), at).iter().map(|(key, value)| tag(key, value)));
        json!({ "timestamp": ts.value(at).div_euclid(1_000), "fields": fields })
    };
    (0..events.len()).map(one).collect()
}
