//! A log line or a span as the bytes of OTLP.
//!
//! ```text
//! LogRecord  1: time  2: severity number  3: severity text  5: body  6: attributes*  9: trace id  10: span id  11: observed
//! Span       1: trace id  2: span id  4: parent  5: name  6: kind  7: start  8: end  9: attributes*  11: events*  13: links*
//!            15: status (2: message  3: code)
//! Event      1: time  2: name  3: attributes*
//! Link       1: trace id  2: span id  3: state  4: attributes*
//! KeyValue   1: key  2: AnyValue
//! AnyValue   1: text  2: bool  3: int  4: double  5: list (1: AnyValue*)  6: map (1: KeyValue*)
//! ```
use foretell_query::event::{Signal, log};
use serde_json::Value;

use super::cell::Cell;
use super::parts::{Pairs, Parts};
use super::time::Times;
use crate::sender::encode::{put_bytes, put_varint};

/// Wire types.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;

/// Attribute of a source that says which service it is.
const SERVICE_NAME: &str = "service.name";
const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
const STATUSES: [&str; 3] = ["unset", "ok", "error"];

/// The source of a line or span: a `Resource`.
pub(super) fn resource(parts: &Parts<'_>, out: &mut Vec<u8>) {
    let service = parts.get("service");
    if !service.is_null() && !parts.resource.iter().any(|(key, _)| key == SERVICE_NAME) {
        put_pair(out, 1, SERVICE_NAME, service);
    }
    put_pairs(out, 1, &parts.resource);
}

/// A `LogRecord` or a `Span`.
///
/// # Errors
/// What is missing, or cannot be carried.
pub(super) fn event(signal: Signal, parts: &Parts<'_>, times: &Times, out: &mut Vec<u8>) -> Result<(), String> {
    match signal {
        Signal::Logs => line(parts, times, out),
        Signal::Spans => span(parts, times, out),
    }
}

fn line(parts: &Parts<'_>, times: &Times, out: &mut Vec<u8>) -> Result<(), String> {
    let ts = times.instant(parts.get("ts"))?.ok_or("there is no ts")?;
    if ts == 0 {
        return Err("time 1970-01-01T00:00:00Z of a log line means \"unknown\" to OTLP".to_owned());
    }
    put_time(out, 1, ts)?;
    if let Some(observed) = times.instant(parts.get("observed_ts"))? {
        put_time(out, 11, observed)?;
    }
    let severity = parts.get("severity").shown();
    let number = match parts.get("severity_number") {
        Cell::Null => severity.as_deref().and_then(log::severity_number),
        cell => Some(small(cell, 24).ok_or("severity_number is not from 0 to 24")? as i32),
    };
    if let Some(number) = number {
        put_number(out, 2, number as u64);
    }
    if let Some(severity) = severity {
        put_bytes(out, tag(3, BYTES), severity.as_bytes());
    }
    let body = parts.get("body");
    if !body.is_null() {
        put_value(out, 5, body);
    }
    put_pairs(out, 6, &parts.attributes);
    for (field, number, digits) in [("trace_id", 9, 32), ("span_id", 10, 16)] {
        if let Some(id) = id(field, parts.get(field), digits)? {
            put_bytes(out, tag(number, BYTES), &id);
        }
    }
    Ok(())
}

fn span(parts: &Parts<'_>, times: &Times, out: &mut Vec<u8>) -> Result<(), String> {
    for (field, number, digits) in [("trace_id", 1, 32), ("span_id", 2, 16), ("parent_span_id", 4, 16)] {
        match id(field, parts.get(field), digits)? {
            Some(id) => put_bytes(out, tag(number, BYTES), &id),
            None if field == "parent_span_id" => {}
            None => return Err(format!("there is no {field}")),
        }
    }
    let start = times.instant(parts.get("ts"))?.ok_or("there is no ts")?;
    let end = match times.duration(parts.get("duration"))? {
        Some(duration) => start.checked_add(duration).ok_or("the end is after the year 2262")?,
        None => times.instant(parts.get("end"))?.ok_or("there is neither duration nor end")?,
    };
    if end < start {
        return Err("the end is before the start".to_owned());
    }
    put_time(out, 7, start)?;
    put_time(out, 8, end)?;
    if let Some(name) = parts.get("name").shown() {
        put_bytes(out, tag(5, BYTES), name.as_bytes());
    }
    if let Some(kind) = one_of("kind", parts.get("kind"), &KINDS, "SPAN_KIND_")? {
        put_number(out, 6, kind);
    }
    put_pairs(out, 9, &parts.attributes);
    for event in list("events", parts.get("events"))? {
        let mut message = Vec::new();
        let ts = Cell::of_json(event.get("ts").cloned().unwrap_or_default());
        put_time(&mut message, 1, Times::default().instant(&ts)?.ok_or("an event has no ts")?)?;
        put_text(&mut message, 2, &event, "name");
        put_object(&mut message, 3, &event)?;
        put_bytes(out, tag(11, BYTES), &message);
    }
    for link in list("links", parts.get("links"))? {
        let mut message = Vec::new();
        for (field, number, digits) in [("trace_id", 1, 32), ("span_id", 2, 16)] {
            let cell = Cell::of_json(link.get(field).cloned().unwrap_or_default());
            let id = id(field, &cell, digits)?.ok_or_else(|| format!("a link has no {field}"))?;
            put_bytes(&mut message, tag(number, BYTES), &id);
        }
        put_text(&mut message, 3, &link, "trace_state");
        put_object(&mut message, 4, &link)?;
        put_bytes(out, tag(13, BYTES), &message);
    }
    let mut status = Vec::new();
    if let Some(text) = parts.get("status_message").shown() {
        put_bytes(&mut status, tag(2, BYTES), text.as_bytes());
    }
    if let Some(code) = one_of("status", parts.get("status"), &STATUSES, "STATUS_CODE_")? {
        put_number(&mut status, 3, code);
    }
    if !status.is_empty() {
        put_bytes(out, tag(15, BYTES), &status);
    }
    Ok(())
}

/// Tag of a field below 16: one byte.
const fn tag(number: u8, wire_type: u8) -> u8 {
    number << 3 | wire_type
}

fn put_number(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(tag(number, VARINT));
    put_varint(out, value);
}

fn put_time(out: &mut Vec<u8>, number: u8, ns: i64) -> Result<(), String> {
    let ns = u64::try_from(ns)
        .map_err(|_| format!("time {} is before 1970, which OTLP cannot carry", crate::timestamp::rfc3339(ns)))?;
    out.push(tag(number, FIXED64));
    out.extend_from_slice(&ns.to_le_bytes());
    Ok(())
}

fn put_pairs(out: &mut Vec<u8>, number: u8, pairs: &Pairs<'_>) {
    pairs.iter().for_each(|(key, cell)| put_pair(out, number, key, cell));
}

/// A `KeyValue`.
fn put_pair(out: &mut Vec<u8>, number: u8, key: &str, cell: &Cell<'_>) {
    let mut message = Vec::with_capacity(key.len() + 32);
    put_bytes(&mut message, tag(1, BYTES), key.as_bytes());
    put_value(&mut message, 2, cell);
    put_bytes(out, tag(number, BYTES), &message);
}

/// An `AnyValue`.
fn put_value(out: &mut Vec<u8>, number: u8, cell: &Cell<'_>) {
    let mut message = Vec::new();
    match cell {
        Cell::Null => {}
        Cell::Boolean(bit) => put_number(&mut message, 2, u64::from(*bit)),
        Cell::Integer(integer) => put_number(&mut message, 3, *integer as u64),
        Cell::Double(double) => {
            message.push(tag(4, FIXED64));
            message.extend_from_slice(&double.to_le_bytes());
        }
        Cell::Text(text) => put_bytes(&mut message, tag(1, BYTES), text.as_bytes()),
        Cell::Time(ns) => put_bytes(&mut message, tag(1, BYTES), crate::timestamp::rfc3339(*ns).as_bytes()),
        Cell::Json(value) => put_json(&mut message, value),
    }
    put_bytes(out, tag(number, BYTES), &message);
}

/// The alternative of an `AnyValue` that an array or object is. JSON was read with a limit of nesting.
fn put_json(out: &mut Vec<u8>, value: &Value) {
    let mut message = Vec::new();
    match value {
        Value::Array(items) => {
            items.iter().for_each(|item| put_value(&mut message, 1, &Cell::of_json(item.clone())));
            put_bytes(out, tag(5, BYTES), &message);
        }
        Value::Object(object) => {
            object.iter().for_each(|(key, item)| put_pair(&mut message, 1, key, &Cell::of_json(item.clone())));
            put_bytes(out, tag(6, BYTES), &message);
        }
        _ => {}
    }
}

fn put_text(out: &mut Vec<u8>, number: u8, object: &Value, key: &str) {
    if let Some(text) = object.get(key).and_then(Value::as_str) {
        put_bytes(out, tag(number, BYTES), text.as_bytes());
    }
}

/// The `attributes` of an event or a link.
fn put_object(out: &mut Vec<u8>, number: u8, of: &Value) -> Result<(), String> {
    match of.get("attributes") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(object)) => {
            object.iter().for_each(|(key, item)| put_pair(out, number, key, &Cell::of_json(item.clone())));
            Ok(())
        }
        Some(other) => Err(format!("attributes {other} are no object")),
    }
}

fn list(field: &str, cell: &Cell<'_>) -> Result<Vec<Value>, String> {
    if cell.is_null() {
        return Ok(Vec::new());
    }
    match cell.json() {
        Some(Value::Array(items)) if items.iter().all(Value::is_object) => Ok(items),
        _ => Err(format!("{field} {:?} is not a list of objects", cell.shown().unwrap_or_default())),
    }
}

/// An id of at most `digits` hexadecimal digits, with zeros before it.
fn id(field: &str, cell: &Cell<'_>, digits: usize) -> Result<Option<Vec<u8>>, String> {
    let Some(text) = cell.shown().filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = || format!("{field} {text:?} is not an id of 1 to {digits} hexadecimal digits");
    if text.len() > digits || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let padded = format!("{text:0>digits$}");
    let byte = |at: usize| u8::from_str_radix(&padded[at..at + 2], 16).map_err(|_| wrong());
    (0..digits).step_by(2).map(byte).collect::<Result<_, _>>().map(Some)
}

/// A number from 0 to `max`.
fn small(cell: &Cell<'_>, max: u64) -> Option<u64> {
    let number = match cell {
        Cell::Integer(number) => u64::try_from(*number).ok(),
        Cell::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| *number <= max)
}

/// The number of one of `names`, given as name, as the protocol's own name, or as number.
fn one_of(field: &str, cell: &Cell<'_>, names: &[&str], prefix: &str) -> Result<Option<u64>, String> {
    let Some(text) = cell.shown() else { return Ok(None) };
    let bare = match text.get(..prefix.len()) {
        Some(start) if start.eq_ignore_ascii_case(prefix) => &text[prefix.len()..],
        _ => &*text,
    };
    let named = names.iter().position(|name| name.eq_ignore_ascii_case(bare)).map(|at| at as u64);
    let number = named.or_else(|| small(cell, names.len() as u64 - 1));
    number.map(Some).ok_or_else(|| format!("{field} {text:?} is none of {}", names.join(", ")))
}

#[cfg(test)]
mod tests;
