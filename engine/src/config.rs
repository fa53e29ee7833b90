//! Every size and limit of the engine.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Result;
use crate::rollup::Rules;

/// Configuration of an [`crate::Engine`].
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Directory of the store; created if absent.
    pub data_dir: PathBuf,
    /// Width of a time partition.
    pub partition_width: Duration,
    /// A memtable is sealed at this many bytes.
    pub memtable_bytes_max: usize,
    /// Writers are refused (`Unavailable`) when sealed and active memtables together reach this, or half as much again with
    /// those that are flushed and that snapshots still read.
    pub memtable_total_bytes_max: usize,
    /// ... or at this age.
    pub memtable_age_max: Duration,
    /// A WAL segment is closed at this size.
    pub wal_segment_bytes: u64,
    /// How long a group commit may wait for company when writers are queued behind it.
    pub group_commit_window: Duration,
    /// `false` acknowledges before `fdatasync` and syncs at intervals instead: an explicit choice to lose the tail.
    pub sync_every_commit: bool,
    /// New series beyond this number of active ones are refused.
    pub active_series_max: usize,
    /// Memory of the index of active series; new series are refused when nine tenths are used, returning ones at all of it.
    pub index_bytes_max: usize,
    /// Memory of the cache of callers' series keys.
    pub key_cache_bytes_max: usize,
    /// Memory of the catalogue's store: a quarter for cached blocks, a quarter for label sets that queries asked for, half
    /// for what it has not written yet.
    pub catalogue_bytes_max: usize,
    /// Memory in which a flush, and a merge, look for timestamps that series share.
    pub timeline_bytes_max: usize,
    /// Bytes of WAL that slow consumers may hold back.
    pub wal_retained_bytes_max: u64,
    /// Bytes of recent commits kept in memory for the feed.
    pub feed_bytes_max: usize,
    /// Writes are refused when less than this is free on the disk, so that flushes and merges, which make room, have some.
    /// `None`: 1 %, at least 64 MiB, but at most an eighth of the disk.
    pub disk_reserve_bytes: Option<u64>,
    /// Recent rows of a memtable are sorted once there are so many.
    pub memtable_run_rows: usize,
    /// Memory of batches that wait for the commit thread; writers beyond are refused (`Unavailable`).
    pub commit_queue_bytes_max: usize,
    /// Data older than this is no longer accepted, and dropped with its partition; `None` keeps it for ever.
    pub retention_age: Option<Duration>,
    /// When the segments of all partitions exceed this, the oldest partitions are dropped; `None` keeps them all.
    pub retention_bytes: Option<u64>,
    /// Rows of the series of these metrics that are older than this are no longer accepted, and deleted when all of their
    /// partition is: for what is kept for less time than the rest.
    pub retention_of: BTreeMap<String, Duration>,
    /// Widths of the buckets in which merges sum rows up beside a segment, for queries of long ranges; none by default.
    pub rollup_widths: Vec<Duration>,
    /// The metrics that this is done for: a regular expression, anchored at both ends.
    pub rollup_metrics: String,
    /// Whether background flush and compaction threads run (tests switch them off to step by hand).
    pub background: bool,
}

impl EngineConfig {
    /// Defaults for a store in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            partition_width: Duration::from_secs(24 * 3600),
            memtable_bytes_max: 128 << 20,
            memtable_total_bytes_max: 1 << 30,
            memtable_age_max: Duration::from_secs(30 * 60),
            wal_segment_bytes: 64 << 20,
            group_commit_window: Duration::from_millis(2),
            sync_every_commit: true,
            active_series_max: 2_000_000,
            index_bytes_max: 4 << 30,
            key_cache_bytes_max: 256 << 20,
            catalogue_bytes_max: 128 << 20,
            timeline_bytes_max: 128 << 20,
            wal_retained_bytes_max: 4 << 30,
            feed_bytes_max: 64 << 20,
            disk_reserve_bytes: None,
            memtable_run_rows: 256 << 10,
            commit_queue_bytes_max: 128 << 20,
            retention_age: None,
            retention_bytes: None,
            retention_of: BTreeMap::new(),
            rollup_widths: Vec::new(),
            rollup_metrics: ".*".into(),
            background: true,
        }
    }

    /// Whether the rollups that it asks for are possible, which opening a store finds out, too.
    ///
    /// # Errors
    /// `Invalid` for too many widths, one that is too narrow or wider than a partition, or a bad expression.
    pub fn check_rollups(&self) -> Result<()> {
        Rules::of(self).map(drop)
    }
}
