//! The walk over a `prometheus.WriteRequest`, remote write 1.0.
//!
//! ```text
//!  1 timeseries { 1 label { 1 name, 2 value }*  2 sample { 1 double value, 2 int64 ms }*  3 exemplar*  4 histogram* }*
//!  3 metadata { 1 type, 2 family name, 4 help, 5 unit }*
//! ```
use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::super::labels::{WireLabels, render};
use super::super::metadata::Text;
use super::{Cursor, FIXED64, LENGTH_DELIMITED, LabelSection, Malformed, Protocol, Stop, VARINT, Walk, sample};

const V2_FIELD: &str = "a field of io.prometheus.write.v2.Request, whose Content-Type must say so;";

pub(super) fn walk(walk: &mut Walk<'_>) -> Result<(), Stop> {
    let mut cursor = Cursor::new(walk.body);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            (1, LENGTH_DELIMITED) => {
                let message = cursor.delimited()?;
                series(walk, message, cursor.position() - message.len())?;
            }
            (3, LENGTH_DELIMITED) => {
                let message = cursor.delimited()?;
                metadata(walk, message, cursor.position() - message.len())?;
            }
            // Those of a 2.0 request: to step over them would be to lose it with a 204.
            (4 | 5, LENGTH_DELIMITED) => return Err(cursor.malformed(V2_FIELD).into()),
            (1 | 3, _) => return Err(cursor.malformed("wrong wire type of a WriteRequest field").into()),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok(())
}

/// What a family means: `1 type, 2 family name, 4 help, 5 unit`.
fn metadata(walk: &mut Walk<'_>, message: &[u8], base: usize) -> Result<(), Stop> {
    let at_offset = |malformed: Malformed| malformed.inside(base);
    // As the empty symbol of 2.0, so that the same description is the same in both.
    let empty = Text { span: (0, 0), hash: xxh3_128_with_seed(&[], walk.seed) };
    let (mut kind, mut name, mut help, mut unit) = (0, empty, empty, empty);
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        match cursor.tag().map_err(at_offset)? {
            (1, VARINT) => kind = cursor.varint().map_err(at_offset)?,
            (number @ (2 | 4 | 5), LENGTH_DELIMITED) => {
                let bytes = cursor.delimited().map_err(at_offset)?;
                let end = base + cursor.position();
                let span = ((end - bytes.len()) as u32, end as u32);
                let text = Text { span, hash: xxh3_128_with_seed(bytes, walk.seed) };
                match number {
                    2 => name = text,
                    4 => help = text,
                    _ => unit = text,
                }
            }
            (1 | 2 | 4 | 5, _) => {
                return Err(at_offset(cursor.malformed("wrong wire type of a MetricMetadata field")).into());
            }
            (_, wire_type) => cursor.skip(wire_type).map_err(at_offset)?,
        }
    }
    walk.request.descriptions.push(name, kind, help, unit, walk.seed);
    Ok(())
}

/// One series; `base` is its offset in the body.
fn series(walk: &mut Walk<'_>, series: &[u8], base: usize) -> Result<(), Stop> {
    let at_offset = |malformed: Malformed| malformed.inside(base);
    let mark = walk.mark();
    let mut labels: Option<(usize, usize)> = None;
    let mut scattered = false;
    let mut cursor = Cursor::new(series);
    while let Some(tag) = cursor.peek() {
        let field_start = cursor.position();
        match tag {
            0x0a => {
                cursor.advance_one();
                cursor.delimited().map_err(at_offset)?;
                labels = match labels {
                    None => Some((field_start, cursor.position())),
                    Some((start, end)) if end == field_start => Some((start, cursor.position())),
                    Some(other) => {
                        scattered = true;
                        Some(other)
                    }
                };
            }
            0x12 => {
                cursor.advance_one();
                let message = cursor.delimited().map_err(at_offset)?;
                let (ts_ms, value) = sample(message, Protocol::V1).map_err(at_offset)?;
                walk.sample(ts_ms, value, |_| rendered(series))?;
            }
            0x1a => {
                cursor.advance_one();
                let message = cursor.delimited().map_err(at_offset)?;
                let (ts_ms, value) = exemplar(message).map_err(at_offset)?;
                walk.exemplar(ts_ms, value, &label_fields(message), |_| rendered(series))?;
            }
            0x22 => {
                cursor.advance_one();
                let message = cursor.delimited().map_err(at_offset)?;
                walk.histogram(message, base + cursor.position() - message.len(), |_| rendered(series))?;
            }
            _ => {
                let (number, wire_type) = cursor.tag().map_err(at_offset)?;
                if (1..=4).contains(&number) {
                    return Err(at_offset(cursor.malformed("wrong wire type of a TimeSeries field")).into());
                }
                cursor.skip(wire_type).map_err(at_offset)?;
            }
        }
    }
    if walk.is_empty_since(mark) {
        return Ok(());
    }
    let Some((start, end)) = labels else {
        walk.drop_unlabelled(mark);
        return Ok(());
    };
    let (key, section) = if scattered {
        let fields = label_fields(series);
        (xxh3_128_with_seed(&fields, walk.seed), walk.gather(&fields))
    } else {
        let section = LabelSection::Body { start: (base + start) as u32, end: (base + end) as u32 };
        (xxh3_128_with_seed(&series[start..end], walk.seed), section)
    };
    walk.end_series(key, section, mark);
    Ok(())
}

/// (timestamp in ms, value) of an encoded `Exemplar`; its labels are fields like those of a series.
fn exemplar(message: &[u8]) -> Result<(i64, f64), Malformed> {
    let (mut ts_ms, mut value) = (0i64, 0f64);
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            (1, LENGTH_DELIMITED) => cursor.skip(LENGTH_DELIMITED)?,
            (2, FIXED64) => value = f64::from_bits(cursor.fixed64()?),
            (3, VARINT) => ts_ms = cursor.varint()? as i64,
            (1..=3, _) => return Err(cursor.malformed("wrong wire type of an Exemplar field")),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok((ts_ms, value))
}

fn rendered(series: &[u8]) -> String {
    render(WireLabels::fields(&label_fields(series)))
}

/// Copies the label fields of a series together. For scattered labels and for messages about faults; broken input ends it early.
fn label_fields(series: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    let mut cursor = Cursor::new(series);
    while !cursor.is_at_end() {
        let start = cursor.position();
        let Ok((number, wire_type)) = cursor.tag() else { break };
        if cursor.skip(wire_type).is_err() {
            break;
        }
        if number == 1 {
            fields.extend_from_slice(&series[start..cursor.position()]);
        }
    }
    fields
}
