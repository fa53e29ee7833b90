//! Native histograms of a request as columns, exactly as they were sent.
//!
//! ```text
//!  1 count, 2 float count  3 sum  4 schema  5 zero threshold  6 zero count, 7 float zero count
//!  8 spans, 9 deltas, 10 float counts of negative buckets      11, 12, 13 of positive ones
//!  14 reset hint  15 ms  16 custom values  17 start, ms (2.0)
//! ```
//! The message is the same in 1.0 and 2.0 but for its last field. A span is `1 offset, 2 length`: so many adjacent buckets after
//! a gap. Only what would make a histogram unreadable is refused; whether its counts agree with each other is its sender's affair.
use foretell_query::native::CUSTOM_SCHEMA;

use super::lists::Lists;
use super::wire::{Cursor, FIXED64, LENGTH_DELIMITED, Malformed, VARINT};

/// Resolutions of exponential buckets that the format knows or reserves.
const SCHEMAS: std::ops::RangeInclusive<i32> = -9..=52;
/// Buckets, spans or borders of one histogram.
const LIST_MAX: usize = 16 << 10;

/// Sign of a histogram's buckets, as an index.
const NEGATIVE: usize = 0;
const POSITIVE: usize = 1;

/// The histograms of one request, column by column.
#[derive(Debug, Default)]
pub(crate) struct Histograms {
    /// Index of each one's series among those of the request.
    pub(crate) series: Vec<u32>,
    /// Nanoseconds UTC.
    pub(crate) ts: Vec<i64>,
    pub(crate) schema: Vec<i32>,
    pub(crate) reset_hint: Vec<i32>,
    /// Whether counts are floats.
    pub(crate) float: Vec<bool>,
    /// Count, or the bits of a float count.
    pub(crate) count: Vec<u64>,
    pub(crate) zero_count: Vec<u64>,
    pub(crate) zero_threshold: Vec<f64>,
    pub(crate) sum: Vec<f64>,
    /// (offset, length), of negative and of positive buckets.
    pub(crate) spans: [Lists<(i32, u32)>; 2],
    pub(crate) deltas: [Lists<i64>; 2],
    pub(crate) counts: [Lists<f64>; 2],
    pub(crate) custom_values: Lists<f64>,
    /// Milliseconds, 0 when not known.
    pub(crate) start_ms: Vec<i64>,
}

/// The parts of one histogram that are not lists.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    count: Option<(bool, u64)>,
    zero_count: Option<(bool, u64)>,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    reset_hint: i32,
    pub(crate) ts_ms: i64,
    start_ms: i64,
}

impl Histograms {
    /// Number of histograms.
    pub(crate) fn len(&self) -> usize {
        self.ts.len()
    }

    /// Numbers that it holds, about: what a request of tiny messages may blow up to.
    pub(crate) fn weight(&self) -> usize {
        self.values() + 16 * self.len()
    }

    /// Values in all lists.
    fn values(&self) -> usize {
        let sides = [NEGATIVE, POSITIVE];
        let of = |side: usize| self.spans[side].values() + self.deltas[side].values() + self.counts[side].values();
        sides.into_iter().map(of).sum::<usize>() + self.custom_values.values()
    }

    /// Reads a message; [`Histograms::keep`] or [`Histograms::discard`] must follow.
    ///
    /// # Errors
    /// When it is not protobuf, or a list is longer than any real one.
    pub(crate) fn read(&mut self, message: &[u8]) -> Result<Head, Malformed> {
        let mut head = Head::default();
        let mut cursor = Cursor::new(message);
        while !cursor.is_at_end() {
            let (number, wire_type) = cursor.tag()?;
            match (number, wire_type) {
                (1, VARINT) => head.count = Some((false, cursor.varint()?)),
                (2, FIXED64) => head.count = Some((true, cursor.fixed64()?)),
                (3, FIXED64) => head.sum = f64::from_bits(cursor.fixed64()?),
                (4, VARINT) => head.schema = zigzag(cursor.varint()?) as i32,
                (5, FIXED64) => head.zero_threshold = f64::from_bits(cursor.fixed64()?),
                (6, VARINT) => head.zero_count = Some((false, cursor.varint()?)),
                (7, FIXED64) => head.zero_count = Some((true, cursor.fixed64()?)),
                (8, LENGTH_DELIMITED) => self.spans[NEGATIVE].push(span(cursor.delimited()?)?),
                (11, LENGTH_DELIMITED) => self.spans[POSITIVE].push(span(cursor.delimited()?)?),
                (9, _) => varints(&mut cursor, wire_type, |raw| self.deltas[NEGATIVE].push(zigzag(raw)))?,
                (12, _) => varints(&mut cursor, wire_type, |raw| self.deltas[POSITIVE].push(zigzag(raw)))?,
                (10, _) => doubles(&mut cursor, wire_type, &mut self.counts[NEGATIVE])?,
                (13, _) => doubles(&mut cursor, wire_type, &mut self.counts[POSITIVE])?,
                (14, VARINT) => head.reset_hint = cursor.varint()? as i32,
                (15, VARINT) => head.ts_ms = cursor.varint()? as i64,
                (16, _) => doubles(&mut cursor, wire_type, &mut self.custom_values)?,
                (17, VARINT) => head.start_ms = cursor.varint()? as i64,
                (1..=17, _) => return Err(cursor.malformed("wrong wire type of a Histogram field")),
                _ => cursor.skip(wire_type)?,
            }
        }
        Ok(head)
    }

    /// What makes the histogram that was read last unreadable.
    pub(crate) fn check(&self, head: &Head) -> Result<(), &'static str> {
        let float = head.count.is_some_and(|count| count.0);
        if head.zero_count.is_some_and(|zero| zero.0 != float && zero.1 != 0) {
            return Err("its count and its zero count are not of one kind");
        }
        if head.schema != CUSTOM_SCHEMA && !SCHEMAS.contains(&head.schema) {
            return Err("unknown schema");
        }
        let borders = self.custom_values.open();
        if borders.len() > LIST_MAX {
            return Err("too many custom values");
        }
        for side in [NEGATIVE, POSITIVE] {
            let (used, unused) = (self.deltas[side].open().len(), self.counts[side].open().len());
            let (used, unused) = if float { (unused, used) } else { (used, unused) };
            if unused > 0 {
                return Err("it has integer deltas and float counts");
            }
            if used > LIST_MAX || self.spans[side].open().len() > LIST_MAX {
                return Err("too many buckets");
            }
            let end = check_spans(self.spans[side].open(), used)?;
            // Prometheus sends them in 1.0 without their borders: then count and sum are still good.
            let beyond = !borders.is_empty() && end > borders.len() as i64 + 1;
            if head.schema == CUSTOM_SCHEMA && (side == NEGATIVE && used > 0 || beyond) {
                return Err("a bucket beyond the custom values");
            }
            if running_counts(self.deltas[side].open()).any(|count| count.is_none_or(|count| count < 0)) {
                return Err("a bucket with a negative count");
            }
        }
        if head.schema == CUSTOM_SCHEMA && !borders.is_sorted_by(|a, b| a < b) {
            return Err("custom values that do not grow");
        }
        if head.schema != CUSTOM_SCHEMA && !borders.is_empty() {
            return Err("custom values in a schema that has none");
        }
        Ok(())
    }

    /// Keeps the histogram that was read last.
    pub(crate) fn keep(&mut self, head: &Head, series: u32, ts: i64) {
        self.series.push(series);
        self.ts.push(ts);
        self.schema.push(head.schema);
        self.reset_hint.push(head.reset_hint);
        self.float.push(head.count.is_some_and(|count| count.0));
        self.count.push(head.count.unwrap_or_default().1);
        self.zero_count.push(head.zero_count.unwrap_or_default().1);
        self.zero_threshold.push(head.zero_threshold);
        self.sum.push(head.sum);
        self.start_ms.push(head.start_ms);
        for side in [NEGATIVE, POSITIVE] {
            self.spans[side].end_row();
            self.deltas[side].end_row();
            self.counts[side].end_row();
        }
        self.custom_values.end_row();
    }

    /// Forgets the histogram that was read last.
    pub(crate) fn discard(&mut self) {
        self.truncate(self.len());
    }

    /// Drops every histogram from `rows` on.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.series.truncate(rows);
        self.ts.truncate(rows);
        self.schema.truncate(rows);
        self.reset_hint.truncate(rows);
        self.float.truncate(rows);
        self.count.truncate(rows);
        self.zero_count.truncate(rows);
        self.zero_threshold.truncate(rows);
        self.sum.truncate(rows);
        self.start_ms.truncate(rows);
        for side in [NEGATIVE, POSITIVE] {
            self.spans[side].truncate(rows);
            self.deltas[side].truncate(rows);
            self.counts[side].truncate(rows);
        }
        self.custom_values.truncate(rows);
    }
}

/// Checks that spans describe `buckets` buckets; the index after the last of them.
fn check_spans(spans: &[(i32, u32)], buckets: usize) -> Result<i64, &'static str> {
    let (mut index, mut described) = (0i64, 0u64);
    for (i, &(offset, length)) in spans.iter().enumerate() {
        if i > 0 && offset < 0 {
            return Err("spans that overlap");
        }
        index += i64::from(offset) + i64::from(length);
        described += u64::from(length);
    }
    if described != buckets as u64 {
        return Err("its spans and its buckets differ in number");
    }
    if i32::try_from(index).is_err() {
        return Err("a bucket beyond any float");
    }
    Ok(index)
}

/// Counts of buckets from the differences between them; `None` once they leave 64 bits.
fn running_counts(deltas: &[i64]) -> impl Iterator<Item = Option<i64>> {
    deltas.iter().scan(Some(0i64), |count, &delta| {
        *count = count.and_then(|count| count.checked_add(delta));
        Some(*count)
    })
}

fn zigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

fn span(message: &[u8]) -> Result<(i32, u32), Malformed> {
    let (mut offset, mut length) = (0, 0);
    let mut cursor = Cursor::new(message);
    while !cursor.is_at_end() {
        match cursor.tag()? {
            (1, VARINT) => offset = zigzag(cursor.varint()?) as i32,
            (2, VARINT) => length = cursor.varint()? as u32,
            (1 | 2, _) => return Err(cursor.malformed("wrong wire type of a BucketSpan field")),
            (_, wire_type) => cursor.skip(wire_type)?,
        }
    }
    Ok((offset, length))
}

/// A repeated varint, packed or one of several.
fn varints(cursor: &mut Cursor<'_>, wire_type: u32, mut take: impl FnMut(u64)) -> Result<(), Malformed> {
    match wire_type {
        VARINT => take(cursor.varint()?),
        LENGTH_DELIMITED => {
            let mut packed = Cursor::new(cursor.delimited()?);
            while !packed.is_at_end() {
                take(packed.varint()?);
            }
        }
        _ => return Err(cursor.malformed("wrong wire type of a Histogram field")),
    }
    Ok(())
}

/// A repeated double, packed or one of several.
fn doubles(cursor: &mut Cursor<'_>, wire_type: u32, into: &mut Lists<f64>) -> Result<(), Malformed> {
    match wire_type {
        FIXED64 => into.push(f64::from_bits(cursor.fixed64()?)),
        LENGTH_DELIMITED => {
            let mut packed = Cursor::new(cursor.delimited()?);
            while !packed.is_at_end() {
                into.push(f64::from_bits(packed.fixed64()?));
            }
        }
        _ => return Err(cursor.malformed("wrong wire type of a Histogram field")),
    }
    Ok(())
}

#[cfg(test)]
#[path = "histogram/tests.rs"]
mod tests;
