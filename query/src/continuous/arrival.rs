//! Which rows of the feed are new and in order, and which may change what was computed already.
//!
//! A row is *in order* when its time is after every earlier row of its series: no stored row can be equal to it, so adding
//! it to running state is exact. Anything else (late, repeated, overwriting) is *late*: what it touches has to be computed
//! again from storage, which has applied it already.
use foretell_engine::{SeriesId, Snapshot, TimeRange};
use hashbrown::HashMap;

use crate::error::{Error, Result};

/// How a row of the feed relates to the earlier rows of its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// After all of them.
    InOrder,
    /// Not after all of them.
    Late,
    /// Nobody remembers: treated as late, not counted as such.
    Cold,
}

/// Newest time seen of each series of one metric.
///
/// After a restart this is empty; series numbers tell old series from new ones, because the engine counts them up in the
/// order they appear. The first rows of an old series count as late, then its newest time is known again from storage.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    newest: HashMap<u32, i64>,
    /// Series with this number or a higher one had no row before this tick began or have one in `newest`.
    known: u64,
    /// One past the highest number in `newest`.
    end: u64,
    /// Old series met in this tick whose newest time is not known, with the earliest time seen in it.
    cold: HashMap<u32, i64>,
}

impl Arrivals {
    pub(super) fn new(series_known: u64) -> Self {
        Self { known: series_known, ..Self::default() }
    }

    /// Sorts a row in and remembers it.
    pub(super) fn see(&mut self, series_number: u32, ts: i64) -> Arrival {
        if let Some(newest) = self.newest.get_mut(&series_number) {
            let in_order = ts > *newest;
            *newest = ts.max(*newest);
            return if in_order { Arrival::InOrder } else { Arrival::Late };
        }
        if u64::from(series_number) >= self.known {
            self.newest.insert(series_number, ts);
            self.end = self.end.max(u64::from(series_number) + 1);
            return Arrival::InOrder;
        }
        let earliest = self.cold.entry(series_number).or_insert(ts);
        *earliest = ts.min(*earliest);
        Arrival::Cold
    }

    /// One past the highest series number that has a row.
    pub(super) fn series_known(&self) -> u64 {
        self.end.max(self.known)
    }

    /// Learns the newest times of the series met cold; `snapshot` is what the tick read up to.
    ///
    /// # Errors
    /// As a scan.
    pub(super) fn settle(&mut self, metric_ordinal: u32, snapshot: &Snapshot) -> Result<()> {
        if !self.cold.is_empty() {
            let mut numbers: Vec<u32> = self.cold.keys().copied().collect();
            numbers.sort_unstable();
            let ids: Vec<SeriesId> = numbers.iter().map(|&n| SeriesId::new(metric_ordinal, n)).collect();
            let start = self.cold.values().copied().min().unwrap_or(i64::MIN);
            let range = TimeRange { start, end: i64::MAX };
            let mut scan = snapshot.scan(&ids, range, false, 65_536).map_err(|e| Error::from_engine(&e))?;
            let mut batch = Default::default();
            while scan.next_batch(&mut batch).map_err(|e| Error::from_engine(&e))? {
                let mut row = 0;
                for &(series, rows) in &batch.runs {
                    row += rows as usize;
                    self.newest.insert(numbers[series as usize], batch.ts[row - 1]);
                }
            }
            self.cold.clear();
        }
        self.known = self.series_known();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_after_everything_seen_are_in_order() {
        let mut arrivals = Arrivals::new(2);
        let steps = [
            (5, 10, Arrival::InOrder),
            (5, 11, Arrival::InOrder),
            (5, 11, Arrival::Late),
            (5, 3, Arrival::Late),
            (5, 12, Arrival::InOrder),
            (2, i64::MIN, Arrival::InOrder),
            (1, 99, Arrival::Cold),
            (1, 100, Arrival::Cold),
        ];
        for (series, ts, expected) in steps {
            assert_eq!(arrivals.see(series, ts), expected, "series {series} at {ts}");
        }
        assert_eq!(arrivals.series_known(), 6);
    }
}
