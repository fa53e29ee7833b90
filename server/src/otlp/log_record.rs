//! A log record to a row of `logs`.
//!
//! ```text
//!  1 time  2 severity number  3 severity text  5 body  6 KeyValue*  7 dropped attributes
//!  9 trace id  10 span id  11 observed time  12 event name
//! ```
use std::borrow::Cow;

use foretell_query::event::{Log, LogBuilder, Value, log};

use super::any::{Held, attribute, held, utf8};
use super::events::{Row, Scratch, id};
use super::fault::{Budget, Stop};
use super::wire::fields;

/// Adds the record of `row` to `lines`.
///
/// # Errors
/// What is wrong with it; nothing is added then.
pub(super) fn add<'a>(
    row: &Row<'_, 'a>,
    scratch: &mut Scratch<'a>,
    budget: &mut Budget,
    lines: &mut LogBuilder,
) -> Result<(), Stop> {
    let Scratch { attributes, arena } = scratch;
    attributes.clear();
    arena.clear();
    let (mut time, mut observed, mut severity_number, mut dropped) = (0, 0, 0, 0);
    let (mut severity, mut event_name, mut body) = ("", "", Held::Nothing);
    let (mut trace_id, mut span_id) = (None, None);
    fields(row.message, |number, field| {
        match number {
            1 => time = field.fixed64()?,
            2 => severity_number = field.varint()?,
            3 => severity = utf8(field.bytes()?, "the text of a severity")?,
            5 => body = held(field.bytes()?, arena)?,
            6 => attribute(field, attributes, arena, budget)?,
            7 => dropped = field.varint()?,
            9 => trace_id = id(field.bytes()?),
            10 => span_id = id(field.bytes()?),
            11 => observed = field.fixed64()?,
            12 => event_name = utf8(field.bytes()?, "the name of an event")?,
            _ => {}
        }
        Ok::<_, Stop>(())
    })?;
    budget.text(body.text_bytes() + severity.len() + event_name.len())?;
    let ts = match (time, observed) {
        (0, 0) => row.times.now,
        (0, observed) => row.times.check(observed)?,
        (time, _) => row.times.check(time)?,
    };
    let arena: &str = arena;
    let body = match &body {
        Held::Nothing => None,
        Held::Text(text) => Some(Cow::Borrowed(*text)),
        other => {
            let mut text = String::new();
            other.value(arena).put(&mut text);
            Some(Cow::Owned(text))
        }
    };
    let line = Log {
        observed_ts: if observed > 0 { Some(row.times.instant(observed)?) } else { None },
        severity: Some(severity).filter(|severity| !severity.is_empty()),
        severity_number: match i32::try_from(severity_number) {
            Ok(number @ 1..=24) => Some(number),
            _ => log::severity_number(severity),
        },
        body: body.as_deref(),
        trace_id,
        span_id,
        scope: row.scope.name,
    };
    let own = attributes.iter().map(|(key, value)| (*key, value.value(arena)));
    let more = [
        (!event_name.is_empty()).then_some(("otel.event.name", Value::Text(event_name))),
        // A `uint32`: of more bits on the wire the low ones are it.
        (dropped as u32 > 0).then_some(("otel.dropped_attributes_count", Value::Integer(i64::from(dropped as u32)))),
    ];
    lines.push(row.stream, ts, &line, own.chain(row.scope.values()).chain(more.into_iter().flatten()));
    Ok(())
}
