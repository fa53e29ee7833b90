//! How much there is to read, before anything is read.
use super::{Series, Snapshot};
use crate::segment::SegmentMeta;
use crate::types::{SeriesId, TimeRange};

impl Snapshot {
    /// About how many rows `series` (sorted by id) have in `range`, overwritten and deleted ones included: every source is taken
    /// to hold as much of each of its series, and at any time, and a write that is not sorted yet no more than one of each.
    /// Nothing is read; it takes as long as there are sources.
    pub fn rows_estimate(&self, series: &[Series], range: TimeRange) -> u64 {
        let (Some(first), Some(last)) = (series.first(), series.last()) else { return 0 };
        if range.is_empty() {
            return 0;
        }
        let between = |low: SeriesId, high: SeriesId| {
            let from = series.partition_point(|one| one.id < low);
            series[from..].partition_point(|one| one.id <= high)
        };
        let pinned = &*self.0;
        let segments = pinned.partitions(range).flat_map(|partition| &partition.segments).map(|live| &live.meta);
        let flushed = segments.filter(|meta| meta.may_hold(&[first.id, last.id], range)).map(|meta| {
            let rows = part(meta.rows, between(meta.min_series, meta.max_series), meta.series);
            (rows as f64 * covered(meta, range)).ceil() as u64
        });
        let sorted = pinned.memtables().flat_map(|memtable| &memtable.runs).map(|run| {
            match (run.series.first(), run.series.last()) {
                (Some(&low), Some(&high)) => part(run.ts.len() as u64, between(low, high), run.series.len() as u64),
                _ => 0,
            }
        });
        // A request seldom brings two samples of a series.
        let tail = pinned.memtables().flat_map(|memtable| &memtable.tail);
        let arrived = tail.map(|commit| commit.batch.len().min(series.len()) as u64);
        flushed.chain(sorted).chain(arrived).fold(0, u64::saturating_add)
    }
}

/// Of `rows` rows of `series` series, those of `wanted`.
fn part(rows: u64, wanted: usize, series: u64) -> u64 {
    let wanted = (wanted as u64).min(series);
    (u128::from(rows) * u128::from(wanted)).div_ceil(u128::from(series.max(1))) as u64
}

/// Which part of the time of a segment `range` covers; they overlap.
fn covered(meta: &SegmentMeta, range: TimeRange) -> f64 {
    let length = |from: i64, to: i64| to.abs_diff(from) as f64 + 1.0;
    let (from, to) = (range.start.max(meta.min_ts), range.end.min(meta.max_ts));
    (length(from, to) / length(meta.min_ts, meta.max_ts)).min(1.0)
}
