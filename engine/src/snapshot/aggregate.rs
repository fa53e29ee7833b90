//! Rows summed up by series and step of time.
//!
//! ```text
//!  series a  ├────── block, whole in a step ──────┤├── block ──┼── goes on in the next step ──┤
//!                      zone map                       rows                 rows
//! ```
//! A block whose zone map says enough is not read (`scan/whole.rs` says when); nor are the rows of a bucket of a rollup, where
//! a segment has one. Everything that a scan respects (overwrites, deletes, the snapshot's position) is respected.
//!
//! An answer is *partial*: a series and step may have several aggregates, one after another in time, to be combined by whoever
//! asked. In particular, when extremes are asked for, a NaN or a -0.0 that was read is an aggregate of one row. Where such a
//! value stands among others depends on who compares: whoever asked decides, and sees them in the order of the rows.
use std::sync::Arc;

use super::Snapshot;
use crate::error::{Error, Result};
use crate::rollup::Sketch;
use crate::scan::{self, Step};
use crate::types::{SeriesId, TimeRange};
use crate::version::Version;

/// What to sum up, and by what.
#[derive(Clone, Copy, Debug)]
pub struct Aggregate<'a> {
    /// Whose rows: sorted, unique.
    pub series: &'a [SeriesId],
    /// Of each series a group. Rows of neighbouring series of one group may be added up as rows of the first of them, which
    /// lets zone maps of several series answer. Empty: rows of different series are never added up.
    pub groups: &'a [u32],
    /// Which rows.
    pub range: TimeRange,
    /// Length of a step, ns, counted from the epoch; all of time is one step without.
    pub step_ns: Option<i64>,
    /// What to compute besides the number of rows.
    pub statistics: Statistics,
}

/// What to compute of rows besides their number. What is not asked for may spare reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Smallest and largest value.
    pub extremes: bool,
    /// Sum of values. Rows are not added one by one: equal up to rounding.
    pub sum: bool,
    /// Time of the first and of the last row.
    pub times: bool,
    /// Value of the first and of the last row.
    pub ends: bool,
    /// A sketch of the values, for quantiles. Zone maps have none: without rollups every row is read for it.
    pub sketch: bool,
}

impl Statistics {
    /// Whether values are needed.
    pub(crate) fn of_values(self) -> bool {
        self.extremes || self.sum || self.ends || self.sketch
    }
}

/// Aggregates, by series and in the order of time; columns that were not asked for are empty.
/// `runs[k] = (i, n)`: the next `n` aggregates are of the `i`-th requested series.
#[derive(Clone, Debug, Default)]
pub struct AggregateBatch {
    /// (index into the requested ids, aggregates).
    pub runs: Vec<(u32, u32)>,
    /// First instant of the step, ns; the smallest there is without steps, or if the step began before it.
    pub starts: Vec<i64>,
    /// Rows, at least 1; NaN and stale markers count.
    pub rows: Vec<i64>,
    /// Smallest value.
    pub min: Vec<f64>,
    /// Largest value.
    pub max: Vec<f64>,
    /// Sum of values.
    pub sum: Vec<f64>,
    /// Time of the first row, ns.
    pub first_ts: Vec<i64>,
    /// Value of the first row, exact bits.
    pub first: Vec<f64>,
    /// Time of the last row, ns.
    pub last_ts: Vec<i64>,
    /// Value of the last row, exact bits.
    pub last: Vec<f64>,
    /// Sketch of the values that are not NaN. It depends on the values alone, not on how they were added up.
    pub sketches: Vec<Sketch>,
}

impl AggregateBatch {
    pub(crate) fn clear(&mut self) {
        let Self { runs, starts, rows, min, max, sum, first_ts, first, last_ts, last, sketches } = self;
        runs.clear();
        sketches.clear();
        for column in [starts, rows, first_ts, last_ts] {
            column.clear();
        }
        for column in [min, max, sum, first, last] {
            column.clear();
        }
    }
}

/// A running aggregation. Blocks on page faults only; call it off the async threads.
pub struct Aggregation {
    aggregation: scan::Aggregation,
    /// What it reads must stay.
    _version: Arc<Version>,
}

impl Aggregation {
    /// Replaces `batch` with the next aggregates: about as many as were asked for, or fewer, even none, when much had to be
    /// read for them. `false` when there are no more.
    ///
    /// # Errors
    /// `Corruption` with path and offset when a block's checksum fails: never a partial answer without an error.
    pub fn next_batch(&mut self, batch: &mut AggregateBatch) -> Result<bool> {
        self.aggregation.next_batch(batch)
    }

    /// Memory it holds now, about, without what it shares with the store.
    pub fn bytes(&self) -> usize {
        self.aggregation.bytes()
    }

    /// Rows so far that were not read, because the zone map of their block or the bucket of a rollup said enough.
    pub fn rows_unread(&self) -> u64 {
        self.aggregation.rows_unread()
    }

    /// Those of them that buckets of rollups answered for.
    pub fn rows_rolled_up(&self) -> u64 {
        self.aggregation.rows_rolled_up()
    }
}

impl Snapshot {
    /// Sums rows up, in batches of about `batch_rows` aggregates.
    ///
    /// # Errors
    /// `Io` or `Corruption`; `Invalid` when the ids are not sorted or not unique, when there are groups but not as many as
    /// series, or the step is not positive.
    pub fn aggregate(&self, aggregate: &Aggregate<'_>, batch_rows: usize) -> Result<Aggregation> {
        let &Aggregate { series, groups, range, step_ns, statistics } = aggregate;
        if !series.is_sorted_by(|a, b| a < b) {
            return Err(Error::Invalid("series of an aggregation must be sorted and unique".into()));
        }
        if !groups.is_empty() && groups.len() != series.len() {
            return Err(Error::Invalid("each series of an aggregation has a group, or none has".into()));
        }
        if step_ns.is_some_and(|step| step <= 0) {
            return Err(Error::Invalid("the step of an aggregation must be positive".into()));
        }
        let wanted = (series.to_vec(), groups.to_vec());
        let step = Step::new(step_ns);
        let aggregation = scan::Aggregation::new(self.sources(range), wanted, range, step, statistics, batch_rows)?;
        Ok(Aggregation { aggregation, _version: Arc::clone(&self.0.version) })
    }
}
