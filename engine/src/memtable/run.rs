//! The two forms a memtable keeps rows in: batches as they came, and sorted runs of many batches.
use std::sync::Arc;

use crate::types::{Lsn, SeriesId};
use crate::write_batch::WriteBatch;

/// A batch with its place in history. Immutable; shared by the memtable, the feed and snapshots.
#[derive(Clone, Debug)]
pub(crate) struct CommittedBatch {
    /// Position.
    pub(crate) lsn: Lsn,
    /// Rows as they came: any order, duplicates possible (a later row wins over an earlier one).
    pub(crate) batch: Arc<WriteBatch>,
}

/// Many batches sorted by (series, ts), one row for each (series, ts): the newest. Rows of `series[k]` are
/// `offsets[k]..offsets[k + 1]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct SortedRun {
    /// Strictly increasing.
    pub(crate) series: Vec<SeriesId>,
    /// `series.len() + 1` row numbers, the first 0, the last the number of rows.
    pub(crate) offsets: Vec<u32>,
    /// Strictly increasing inside a series.
    pub(crate) ts: Vec<i64>,
    /// Parallel to `ts`.
    pub(crate) values: Vec<f64>,
}
