//! The walk over an `io.prometheus.write.v2.Request`, remote write 2.0.
//!
//! ```text
//!  4 symbol*          the first is ""
//!  5 timeseries { 1 label references: (name, value)*, packed  2 sample { 1 double value, 2 int64 ms, 3 int64 start }*
//!                 3 histogram*  4 exemplar*  5 metadata { 1 type, 3 help reference, 4 unit reference }  6 int64 created }*
//! ```
//! The body is walked twice: symbols may stand after the series that refer to them, and stepping over a series costs a length.
use foretell_engine::types::METRIC_NAME;

use super::super::labels::{WireLabels, render};
use super::super::metadata::Text;
use super::super::symbols::{BEYOND, SERIES_DOMAIN};
use super::{Cursor, FIXED64, LENGTH_DELIMITED, LabelSection, Malformed, Protocol, Stop, VARINT, Walk, sample};

pub(super) fn walk(walk: &mut Walk<'_>) -> Result<(), Stop> {
    symbols(walk)?;
    let mut cursor = Cursor::new(walk.body);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            (5, LENGTH_DELIMITED) => {
                let message = cursor.delimited()?;
                series(walk, message, cursor.position() - message.len())?;
            }
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok(())
}

/// Reads the symbol table and checks the shape of the rest.
fn symbols(walk: &mut Walk<'_>) -> Result<(), Stop> {
    let mut cursor = Cursor::new(walk.body);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            (4, LENGTH_DELIMITED) => {
                let symbol = cursor.delimited()?;
                if walk.request.symbols.len() >= walk.limits.symbols_max {
                    return Err(Stop::TooLarge(format!(
                        "request of more than {} symbols; send smaller requests",
                        walk.limits.symbols_max
                    )));
                }
                if walk.request.symbols.len() == 0 && !symbol.is_empty() {
                    return Err(cursor.malformed("the first symbol is not the empty string").into());
                }
                let end = cursor.position();
                walk.request.symbols.push(walk.body, end - symbol.len(), end, walk.seed);
            }
            (5, LENGTH_DELIMITED) => cursor.skip(LENGTH_DELIMITED)?,
            // 1 and 3 are the fields of a 1.0 request: to step over them would be to lose it with a 204.
            (1..=3, _) => return Err(cursor.malformed("a field of prometheus.WriteRequest, remote write 1.0").into()),
            (4 | 5, _) => return Err(cursor.malformed("wrong wire type of a Request field").into()),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok(())
}

/// One series; `base` is its offset in the body.
fn series(walk: &mut Walk<'_>, series: &[u8], base: usize) -> Result<(), Stop> {
    let at_offset = |malformed: Malformed| malformed.inside(base);
    let mark = walk.mark();
    let mut labels: Option<(usize, usize)> = None;
    let mut scattered = false;
    let mut description = None;
    let mut cursor = Cursor::new(series);
    while let Some(tag) = cursor.peek() {
        match tag {
            0x0a => {
                cursor.advance_one();
                let refs = cursor.delimited().map_err(at_offset)?;
                if refs.last().is_some_and(|byte| byte & 0x80 != 0) {
                    return Err(at_offset(cursor.malformed("truncated label reference")).into());
                }
                scattered |= labels.is_some();
                labels = labels.or(Some((cursor.position() - refs.len(), cursor.position())));
            }
            0x12 => {
                cursor.advance_one();
                let message = cursor.delimited().map_err(at_offset)?;
                let (ts_ms, value) = sample(message, Protocol::V2).map_err(at_offset)?;
                walk.sample(ts_ms, value, |walk| rendered(walk, series))?;
            }
            0x1a => {
                cursor.advance_one();
                let message = cursor.delimited().map_err(at_offset)?;
                walk.histogram(message, base + cursor.position() - message.len(), |walk| rendered(walk, series))?;
            }
            0x22 => {
                cursor.advance_one();
                let message = cursor.delimited().map_err(at_offset)?;
                let (ts_ms, value) = exemplar(message).map_err(at_offset)?;
                let refs = label_refs(message);
                // As with a series: what refers to nothing makes the whole table doubtful.
                walk.request.symbols.key(&refs, walk.seed).map_err(at_offset)?;
                walk.exemplar(ts_ms, value, &refs, |walk| rendered(walk, series))?;
            }
            0x2a => {
                cursor.advance_one();
                description = Some(metadata(walk, cursor.delimited().map_err(at_offset)?).map_err(at_offset)?);
            }
            _ => match cursor.tag().map_err(at_offset)? {
                // One reference, not packed: legal, and nobody does it.
                (1, VARINT) => {
                    cursor.varint().map_err(at_offset)?;
                    scattered = true;
                    labels = labels.or(Some((0, 0)));
                }
                (6, VARINT) => drop(cursor.varint().map_err(at_offset)?),
                (1..=6, _) => {
                    return Err(at_offset(cursor.malformed("wrong wire type of a TimeSeries field")).into());
                }
                (_, wire_type) => cursor.skip(wire_type).map_err(at_offset)?,
            },
        }
    }
    let gathered = if scattered { label_refs(series) } else { Vec::new() };
    let (start, end) = labels.unwrap_or_default();
    let refs = if scattered { gathered.as_slice() } else { &series[start..end] };
    // Also of a series without samples: a request that refers to what is not there is broken as a whole.
    let key = walk
        .request
        .symbols
        .key(refs, walk.seed ^ SERIES_DOMAIN)
        .map_err(|malformed| malformed.inside(base + start))?;
    if let Some((kind, help, unit)) = description
        && (kind != 0 || help.span.0 < help.span.1 || unit.span.0 < unit.span.1)
    {
        describe(walk, refs, kind, help, unit);
    }
    if walk.is_empty_since(mark) {
        return Ok(());
    }
    if refs.is_empty() {
        walk.drop_unlabelled(mark);
        return Ok(());
    }
    let section = if scattered {
        walk.gather(refs)
    } else {
        LabelSection::Body { start: (base + start) as u32, end: (base + end) as u32 }
    };
    walk.end_series(key, section, mark);
    Ok(())
}

/// (type, help, unit) of an encoded `Metadata`.
fn metadata(walk: &Walk<'_>, message: &[u8]) -> Result<(u64, Text, Text), Malformed> {
    let (mut kind, mut help, mut unit) = (0, 0, 0);
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            (1, VARINT) => kind = cursor.varint()?,
            (3, VARINT) => help = cursor.varint()?,
            (4, VARINT) => unit = cursor.varint()?,
            (1 | 3 | 4, _) => return Err(cursor.malformed("wrong wire type of a Metadata field")),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    let text = |reference: u64| match walk.request.symbols.text(reference) {
        // Absent, and the table may be empty.
        None if reference == 0 => Ok(Text::default()),
        text => text.ok_or_else(|| cursor.malformed(BEYOND)),
    };
    Ok((kind, text(help)?, text(unit)?))
}

/// Keeps what a series says about its metric, if it has a name.
fn describe(walk: &mut Walk<'_>, refs: &[u8], kind: u64, help: Text, unit: Text) {
    let mut cursor = Cursor::new(refs);
    let symbols = &walk.request.symbols;
    while !cursor.is_at_end() {
        let (Ok(label), Ok(value)) = (cursor.varint(), cursor.varint()) else { return };
        let (Some(label), Some(value)) = (symbols.text(label), symbols.text(value)) else { return };
        if &walk.body[label.span.0 as usize..label.span.1 as usize] == METRIC_NAME.as_bytes() {
            walk.request.descriptions.push(value, kind, help, unit, walk.seed);
            return;
        }
    }
}

/// (timestamp in ms, value) of an encoded `Exemplar`; its labels are references like those of a series.
fn exemplar(message: &[u8]) -> Result<(i64, f64), Malformed> {
    let (mut ts_ms, mut value) = (0i64, 0f64);
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            (1, LENGTH_DELIMITED) => {
                if cursor.delimited()?.last().is_some_and(|byte| byte & 0x80 != 0) {
                    return Err(cursor.malformed("truncated label reference"));
                }
            }
            (1, VARINT) => drop(cursor.varint()?),
            (2, FIXED64) => value = f64::from_bits(cursor.fixed64()?),
            (3, VARINT) => ts_ms = cursor.varint()? as i64,
            (1..=3, _) => return Err(cursor.malformed("wrong wire type of an Exemplar field")),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok((ts_ms, value))
}

fn rendered(walk: &Walk<'_>, series: &[u8]) -> String {
    render(WireLabels::refs(&label_refs(series), &walk.request.symbols, walk.body))
}

/// Copies the label references of a series together, packed. For scattered ones and for messages about faults; broken input
/// ends it early.
fn label_refs(series: &[u8]) -> Vec<u8> {
    let mut refs = Vec::new();
    let mut cursor = Cursor::new(series);
    while !cursor.is_at_end() {
        let Ok((number, wire_type)) = cursor.tag() else { break };
        let start = cursor.position();
        match (number, wire_type) {
            (1, LENGTH_DELIMITED) => match cursor.delimited() {
                Ok(packed) => refs.extend_from_slice(packed),
                Err(_) => break,
            },
            _ if cursor.skip(wire_type).is_err() => break,
            (1, VARINT) => refs.extend_from_slice(&series[start..cursor.position()]),
            _ => {}
        }
    }
    refs
}
