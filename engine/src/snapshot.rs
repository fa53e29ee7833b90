//! A pinned view of the store and the scans over it.
use std::sync::Arc;

use crate::error::Result;
use crate::types::{LabelSet, Lsn, Matcher, SeriesId, TimeRange};

/// A consistent view: sees every commit up to [`Snapshot::lsn`] and none after; nothing it reads is deleted under it.
#[derive(Clone)]
pub struct Snapshot {}

/// A metric that has ever had a series.
#[derive(Clone, Debug)]
pub struct MetricInfo {
    /// Name ("" for series without `__name__`).
    pub name: Arc<str>,
    /// Number of series ever seen.
    pub series: u64,
    /// Every label name its series carry, sorted, without `__name__`.
    pub label_names: Vec<Arc<str>>,
}

/// A series and its labels.
#[derive(Clone, Debug)]
pub struct Series {
    /// Id.
    pub id: SeriesId,
    /// Labels, `__name__` included.
    pub labels: LabelSet,
}

/// Which series a query wants.
#[derive(Clone, Debug)]
pub struct Selector {
    /// Exact metric name, if the query names one.
    pub metric: Option<String>,
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// Only series that may have samples here (a superset is allowed).
    pub range: TimeRange,
}

/// A live segment.
#[derive(Clone, Debug)]
pub struct SegmentInfo {
    /// File name inside the store.
    pub file: String,
    /// Start of the time partition, ns.
    pub partition_start: i64,
    /// Compaction level.
    pub level: u8,
    /// Rows.
    pub rows: u64,
    /// Series.
    pub series: u64,
    /// Blocks.
    pub blocks: u64,
    /// File size.
    pub bytes: u64,
    /// First sample, ns.
    pub min_ts: i64,
    /// Last sample, ns.
    pub max_ts: i64,
    /// Newest commit whose rows it holds.
    pub max_lsn: Lsn,
}

/// Columns of a scan, sorted by (series, ts), one row per (series, ts): of equal timestamps the newest commit wins.
/// `runs[k] = (i, n)`: the next `n` rows belong to the `i`-th requested series. A series may continue in the next batch.
#[derive(Clone, Debug, Default)]
pub struct ScanBatch {
    /// (index into the requested ids, rows).
    pub runs: Vec<(u32, u32)>,
    /// Nanoseconds UTC.
    pub ts: Vec<i64>,
    /// Values, exact bits.
    pub values: Vec<f64>,
}

/// A running scan. Blocks on page faults only; call it off the async threads.
pub struct Scan {}

impl Scan {
    /// Replaces `batch` with the next rows (about `rows_target` of them); `false` when there are no more.
    ///
    /// # Errors
    /// `Corruption` with path and offset when a block's checksum fails: never a partial answer without an error.
    pub fn next_batch(&mut self, _batch: &mut ScanBatch) -> Result<bool> {
        todo!()
    }
}

impl Snapshot {
    /// Newest commit it sees.
    pub fn lsn(&self) -> Lsn {
        todo!()
    }
    /// Every metric, by name.
    pub fn metrics(&self) -> Vec<MetricInfo> {
        todo!()
    }
    /// One metric.
    pub fn metric(&self, _name: &str) -> Option<MetricInfo> {
        todo!()
    }
    /// Matching series, sorted by id.
    ///
    /// # Errors
    /// `Invalid` for a bad regular expression.
    pub fn select(&self, _selector: &Selector) -> Result<Vec<Series>> {
        todo!()
    }
    /// Scans `series` (sorted ids) over `range`, decoding values only if `want_values`.
    ///
    /// # Errors
    /// `Io` or `Corruption`.
    pub fn scan(&self, _series: &[SeriesId], _range: TimeRange, _want_values: bool, _rows_target: usize) -> Result<Scan> {
        todo!()
    }
    /// Live segments.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        todo!()
    }
    /// Keyed state as of this snapshot.
    pub fn state(&self, _key: &[u8]) -> Option<Arc<[u8]>> {
        todo!()
    }
    /// Keyed state whose key starts with `prefix`, in key order.
    pub fn state_prefix(&self, _prefix: &[u8]) -> Vec<(Vec<u8>, Arc<[u8]>)> {
        todo!()
    }
}
