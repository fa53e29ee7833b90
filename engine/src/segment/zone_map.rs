//! What is known of a block without reading it.
use crate::codec::ROWS_MAX;
use crate::error::Result;
use crate::format::{Reader, put_varint, put_zigzag};
use crate::types::{SeriesId, TimeRange};

/// Where a block is, how to check it, and the bounds of what it holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ZoneMap {
    /// Offset in the file.
    pub(crate) offset: u64,
    /// Length in bytes.
    pub(crate) len: u32,
    /// CRC32C of those bytes.
    pub(crate) crc: u32,
    /// Rows.
    pub(crate) rows: u32,
    /// Series that have rows here.
    pub(crate) series: u32,
    /// Smallest of them.
    pub(crate) first: SeriesId,
    /// Largest of them.
    pub(crate) last: SeriesId,
    /// First sample, ns.
    pub(crate) min_ts: i64,
    /// Last sample, ns.
    pub(crate) max_ts: i64,
    /// Values that are not NaN; the next three leave every NaN out. An aggregate for which a NaN counts can be answered
    /// from here only if there is none: `count == rows`, or `count + stale == rows` where stale markers are no samples.
    pub(crate) count: u32,
    /// Stale markers, the NaN by which Prometheus says that a series has ended.
    pub(crate) stale: u32,
    /// Smallest value in IEEE 754's total order, where -0.0 is below 0.0; +infinity if `count` is 0.
    pub(crate) min: f64,
    /// Largest value likewise; -infinity if `count` is 0.
    pub(crate) max: f64,
    /// Sum of values, added to 0.0 in row order; NaN where infinities of both signs meet.
    pub(crate) sum: f64,
    /// Exact bits of the values of the first and of the last row, if there is one series.
    pub(crate) ends: Option<(f64, f64)>,
}

/// Bytes of the shortest encoded zone map.
pub(super) const ENCODED_BYTES_MIN: usize = 1 + 4 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 24;

/// Prometheus's stale marker.
const STALE: u64 = 0x7ff0_0000_0000_0002;

impl ZoneMap {
    /// Describes rows in block order; where they are stored is filled in later.
    pub(super) fn of(series: &[SeriesId], ts: &[i64], values: &[f64]) -> Self {
        let (mut min_ts, mut max_ts) = (i64::MAX, i64::MIN);
        for &t in ts {
            min_ts = min_ts.min(t);
            max_ts = max_ts.max(t);
        }
        let (mut count, mut stale, mut min, mut max, mut sum) = (0, 0, f64::INFINITY, f64::NEG_INFINITY, 0.0);
        for &value in values {
            if value.is_nan() {
                stale += u32::from(value.to_bits() == STALE);
                continue;
            }
            count += 1;
            min = if value.total_cmp(&min).is_lt() { value } else { min };
            max = if value.total_cmp(&max).is_gt() { value } else { max };
            sum += value;
        }
        Self {
            offset: 0,
            len: 0,
            crc: 0,
            rows: ts.len() as u32,
            series: series.len() as u32,
            first: series[0],
            last: series[series.len() - 1],
            min_ts,
            max_ts,
            count,
            stale,
            min,
            max,
            sum,
            ends: (series.len() == 1).then(|| (values[0], values[values.len() - 1])),
        }
    }

    /// Whether every row is inside `range`.
    pub(crate) fn inside(&self, range: TimeRange) -> bool {
        self.min_ts >= range.start && self.max_ts <= range.end
    }

    /// Whether no row is inside `range`.
    pub(crate) fn outside(&self, range: TimeRange) -> bool {
        self.max_ts < range.start || self.min_ts > range.end
    }

    /// Appends the entry that follows `before`'s.
    pub(super) fn encode(&self, before: Option<&Self>, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.len));
        out.extend_from_slice(&self.crc.to_le_bytes());
        put_varint(out, u64::from(self.rows));
        put_varint(out, u64::from(self.series));
        put_varint(out, self.first.0 - before.map_or(0, |b| b.last.0));
        put_varint(out, self.last.0 - self.first.0);
        put_zigzag(out, self.min_ts.wrapping_sub(before.map_or(0, |b| b.min_ts)));
        put_varint(out, self.max_ts.wrapping_sub(self.min_ts) as u64);
        put_varint(out, u64::from(self.count));
        put_varint(out, u64::from(self.stale));
        let ends = self.ends.map(|(first, last)| [first, last]);
        for value in [self.min, self.max, self.sum].into_iter().chain(ends.into_iter().flatten()) {
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }

    /// Reads the entry that follows `before`'s, of a block at `offset`.
    pub(super) fn decode(input: &mut Reader<'_>, before: Option<&Self>, offset: u64) -> Result<Self> {
        let start = input.clone();
        let len = input.varint()?;
        let crc = input.u32()?;
        let rows = input.varint()?;
        let series = input.varint()?;
        let first = before.map_or(0, |b| b.last.0).checked_add(input.varint()?);
        let last = first.zip(Some(input.varint()?)).and_then(|(first, span)| first.checked_add(span));
        let min_ts = before.map_or(0, |b| b.min_ts).wrapping_add(input.zigzag()?);
        let max_ts = min_ts.wrapping_add(input.varint()? as i64);
        let (count, stale) = (input.varint()?, input.varint()?);
        let (Ok(len), Some(first), Some(last)) = (u32::try_from(len), first, last) else {
            return Err(start.corrupt("a zone map", "numbers out of bounds"));
        };
        if rows == 0
            || rows > ROWS_MAX as u64
            || series == 0
            || series > rows
            || max_ts < min_ts
            || count.saturating_add(stale) > rows
        {
            return Err(start.corrupt(
                format!("a zone map of 1 to {ROWS_MAX} rows"),
                format!("{rows} rows, {series} series, {count} values, {stale} stale, from {min_ts} to {max_ts}"),
            ));
        }
        let value = |input: &mut Reader<'_>| input.u64().map(f64::from_bits);
        Ok(Self {
            offset,
            len,
            crc,
            rows: rows as u32,
            series: series as u32,
            first: SeriesId(first),
            last: SeriesId(last),
            min_ts,
            max_ts,
            count: count as u32,
            stale: stale as u32,
            min: value(input)?,
            max: value(input)?,
            sum: value(input)?,
            ends: if series == 1 { Some((value(input)?, value(input)?)) } else { None },
        })
    }
}
