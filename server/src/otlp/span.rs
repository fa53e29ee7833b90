//! A span to a row of `spans`.
//!
//! ```text
//!  1 trace id  2 span id  3 trace state  4 parent's id  5 name  6 kind  7 start  8 end  9 KeyValue*  10 dropped
//!  11 Event { 1 time  2 name  3 KeyValue* }*  12 dropped  13 Link { 1 trace id  2 span id  3 trace state  4 KeyValue* }*
//!  14 dropped  15 Status { 2 message  3 code }
//! ```
use foretell_engine::Error as EngineError;
use foretell_query::event::{SPAN_ID_BYTES, Span, SpanBuilder, SpanEvent, SpanLink, TRACE_ID_BYTES, Value};

use super::any::{Attributes, attribute, utf8};
use super::events::{Row, Scratch, id};
use super::fault::{Budget, Stop};
use super::wire::fields;

/// Events of a span, and links.
const PARTS_MAX: usize = 1024;
/// By their numbers.
const KINDS: [Option<&str>; 6] =
    [None, Some("internal"), Some("server"), Some("client"), Some("producer"), Some("consumer")];
/// By their numbers.
const STATUSES: [Option<&str>; 3] = [None, Some("ok"), Some("error")];

/// An event that is read.
struct HeldEvent<'a> {
    time: u64,
    name: &'a str,
    attributes: Attributes<'a>,
}

/// A link that is read.
struct HeldLink<'a> {
    trace_id: [u8; TRACE_ID_BYTES],
    span_id: [u8; SPAN_ID_BYTES],
    trace_state: &'a str,
    attributes: Attributes<'a>,
}

/// Adds the span of `row` to `spans`.
///
/// # Errors
/// What is wrong with it; nothing is added then.
pub(super) fn add<'a>(
    row: &Row<'_, 'a>,
    scratch: &mut Scratch<'a>,
    budget: &mut Budget,
    spans: &mut SpanBuilder,
) -> Result<(), Stop> {
    let Scratch { attributes, arena } = scratch;
    attributes.clear();
    arena.clear();
    let (mut trace_id, mut span_id, mut parent): (&[u8], &[u8], &[u8]) = (b"", b"", b"");
    let (mut trace_state, mut name, mut message) = ("", "", "");
    let (mut kind, mut code, mut start, mut end, mut dropped) = (0, 0, 0, 0, [0; 3]);
    let (mut events, mut links): (Vec<HeldEvent<'a>>, Vec<HeldLink<'a>>) = Default::default();
    fields(row.message, |number, field| {
        match number {
            1 => trace_id = field.bytes()?,
            2 => span_id = field.bytes()?,
            3 => trace_state = utf8(field.bytes()?, "a trace state")?,
            4 => parent = field.bytes()?,
            5 => name = utf8(field.bytes()?, "the name of a span")?,
            6 => kind = field.varint()?,
            7 => start = field.fixed64()?,
            8 => end = field.fixed64()?,
            9 => attribute(field, attributes, arena, budget)?,
            10 => dropped[0] = field.varint()?,
            11 if events.len() >= PARTS_MAX => return Err(Stop::row(format!("more than {PARTS_MAX} events"))),
            11 => events.push(event(field.bytes()?, arena, budget)?),
            12 => dropped[1] = field.varint()?,
            13 if links.len() >= PARTS_MAX => return Err(Stop::row(format!("more than {PARTS_MAX} links"))),
            13 => links.push(link(field.bytes()?, arena, budget)?),
            14 => dropped[2] = field.varint()?,
            15 => fields(field.bytes()?, |number, field| {
                match number {
                    2 => message = utf8(field.bytes()?, "the message of a status")?,
                    3 => code = field.varint()?,
                    _ => {}
                }
                Ok::<_, Stop>(())
            })?,
            _ => {}
        }
        Ok::<_, Stop>(())
    })?;
    budget.text(name.len() + message.len() + trace_state.len())?;
    if start == 0 {
        return Err(Stop::row("a span without a start"));
    }
    if end < start {
        return Err(Stop::row("a span that ends before it starts; check the sender's clock"));
    }
    let ts = row.times.check(start)?;
    let duration = row.times.instant(end)? - ts;
    let arena: &str = arena;
    let shown = events.iter().map(|event| {
        let attributes = values(&event.attributes, arena);
        Ok::<_, Stop>(SpanEvent { ts: row.times.instant(event.time)?, name: event.name, attributes })
    });
    let shown_events = shown.collect::<Result<Vec<SpanEvent<'_>>, Stop>>()?;
    let shown = links.iter().map(|link| SpanLink {
        trace_id: link.trace_id,
        span_id: link.span_id,
        trace_state: link.trace_state,
        attributes: values(&link.attributes, arena),
    });
    let shown_links: Vec<SpanLink<'_>> = shown.collect();
    let span = Span {
        duration,
        trace_id: id(trace_id).ok_or_else(|| wrong_id("trace_id", trace_id.len(), TRACE_ID_BYTES))?,
        span_id: id(span_id).ok_or_else(|| wrong_id("span_id", span_id.len(), SPAN_ID_BYTES))?,
        // A root has none, or zeros.
        parent_span_id: match parent.len() {
            0 | SPAN_ID_BYTES => id(parent),
            len => return Err(wrong_id("parent_span_id", len, SPAN_ID_BYTES)),
        },
        name,
        kind: numbered(&KINDS, kind),
        status: numbered(&STATUSES, code),
        status_message: Some(message).filter(|message| !message.is_empty()),
        events: &shown_events,
        links: &shown_links,
    };
    let own = attributes.iter().map(|(key, value)| (*key, value.value(arena)));
    // They are `uint32`: of more bits on the wire the low ones are it.
    let counted = |key, count: u64| (count as u32 > 0).then_some((key, Value::Integer(i64::from(count as u32))));
    let more = [
        (!trace_state.is_empty()).then_some(("w3c.tracestate", Value::Text(trace_state))),
        counted("otel.dropped_attributes_count", dropped[0]),
        counted("otel.dropped_events_count", dropped[1]),
        counted("otel.dropped_links_count", dropped[2]),
    ];
    let all = own.chain(row.scope.values()).chain(more.into_iter().flatten());
    spans.push(row.stream, ts, &span, all).map_err(|error| Stop::Engine(EngineError::Invalid(error.to_string())))
}

fn event<'a>(message: &'a [u8], arena: &mut String, budget: &mut Budget) -> Result<HeldEvent<'a>, Stop> {
    let mut event = HeldEvent { time: 0, name: "", attributes: Vec::new() };
    fields(message, |number, field| {
        match number {
            1 => event.time = field.fixed64()?,
            2 => event.name = utf8(field.bytes()?, "the name of an event")?,
            3 => attribute(field, &mut event.attributes, arena, budget)?,
            _ => {}
        }
        Ok::<_, Stop>(())
    })?;
    budget.item(event.name.len())?;
    Ok(event)
}

fn link<'a>(message: &'a [u8], arena: &mut String, budget: &mut Budget) -> Result<HeldLink<'a>, Stop> {
    let (mut trace_id, mut span_id): (&[u8], &[u8]) = (b"", b"");
    let mut link = HeldLink {
        trace_id: [0; TRACE_ID_BYTES],
        span_id: [0; SPAN_ID_BYTES],
        trace_state: "",
        attributes: Vec::new(),
    };
    fields(message, |number, field| {
        match number {
            1 => trace_id = field.bytes()?,
            2 => span_id = field.bytes()?,
            3 => link.trace_state = utf8(field.bytes()?, "the trace state of a link")?,
            4 => attribute(field, &mut link.attributes, arena, budget)?,
            _ => {}
        }
        Ok::<_, Stop>(())
    })?;
    // Links to nothing that have attributes are allowed: their ids are zeros.
    if !trace_id.is_empty() {
        link.trace_id = <[u8; TRACE_ID_BYTES]>::try_from(trace_id)
            .map_err(|_| wrong_id("trace_id of a link", trace_id.len(), TRACE_ID_BYTES))?;
    }
    if !span_id.is_empty() {
        link.span_id = <[u8; SPAN_ID_BYTES]>::try_from(span_id)
            .map_err(|_| wrong_id("span_id of a link", span_id.len(), SPAN_ID_BYTES))?;
    }
    budget.item(2 * (TRACE_ID_BYTES + SPAN_ID_BYTES) + link.trace_state.len())?;
    Ok(link)
}

fn values<'s>(attributes: &'s Attributes<'_>, arena: &'s str) -> Vec<(&'s str, Value<'s>)> {
    attributes.iter().map(|(key, value)| (*key, value.value(arena))).collect()
}

/// What `number` stands for; what it means in a later version of the protocol is not known.
fn numbered(names: &[Option<&'static str>], number: u64) -> Option<&'static str> {
    names.get(usize::try_from(number).ok()?).copied().flatten()
}

fn wrong_id(what: &str, len: usize, expected: usize) -> Stop {
    Stop::row(format!("the {what} has {len} bytes; it must have {expected}, and not all of them zero"))
}
