//! The newest sample of each series.
//!
//! ```text
//!  older                                          newest row │
//!  ├───────────── 80 m ─────────────┼── 40 m ──┼─ 20 m ─┼10m┤   each window only for the series not found yet
//! ```
//! Windows are scanned from the newest row backwards, each twice as long as the one before. Series that are still written
//! are found in the first window, whose rows are in memtables or the newest segments; older blocks are pruned by their zone
//! maps, so the answer does not depend on how much history there is. Everything that a scan respects (overwrites,
//! deletes, the snapshot's position) is respected, because it is a scan.
use super::Snapshot;
use crate::error::Result;
use crate::types::{SeriesId, TimeRange};

/// Length of the first window: two samples of nearly every scrape interval.
const FIRST_WINDOW_NS: i64 = 600_000_000_000;
/// Rows in memory at a time.
const ROWS_AT_ONCE: usize = 64 << 10;

impl Snapshot {
    /// Time and value of the newest sample in `range` of each of `series` (sorted ids), `None` without one. A stale marker
    /// is a sample.
    ///
    /// # Errors
    /// As [`Snapshot::scan`].
    pub fn last_values(&self, series: &[SeriesId], range: TimeRange) -> Result<Vec<Option<(i64, f64)>>> {
        let mut found: Vec<Option<(i64, f64)>> = vec![None; series.len()];
        let mut missing: Vec<usize> = (0..series.len()).collect();
        let Some(mut end) = self.newest_ts().map(|newest| newest.min(range.end)) else { return Ok(found) };
        let mut length = FIRST_WINDOW_NS;
        while end >= range.start && !missing.is_empty() {
            let start = end.saturating_sub(length).max(range.start);
            let ids: Vec<SeriesId> = missing.iter().map(|&at| series[at]).collect();
            let mut scan = self.scan(&ids, TimeRange { start, end }, true, ROWS_AT_ONCE)?;
            while let Some(slice) = scan.next_slice()? {
                found[missing[slice.index as usize]] = slice.ts.last().copied().zip(slice.values.last().copied());
            }
            missing.retain(|&at| found[at].is_none());
            let Some(before) = start.checked_sub(1) else { break };
            end = before;
            length = length.saturating_mul(2);
        }
        Ok(found)
    }

    /// Time of the newest row.
    fn newest_ts(&self) -> Option<i64> {
        let pinned = &*self.0;
        let segments = pinned.version.segments().map(|live| live.meta.max_ts).max();
        let recent = pinned.memtables().flat_map(|memtable| {
            let runs = memtable.runs.iter().flat_map(|run| &run.ts);
            runs.chain(memtable.tail.iter().flat_map(|commit| &commit.batch.ts))
        });
        segments.max(recent.copied().max())
    }
}
