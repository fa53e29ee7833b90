//! The engine: open, write, flush, compact, feed, close. Cheap to clone.
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::config::EngineConfig;
use crate::error::Result;
use crate::snapshot::Snapshot;
use crate::types::{LabelSet, Lsn, SeriesId};
use crate::write_batch::WriteBatch;

/// An open store.
#[derive(Clone)]
pub struct Engine {}

/// Resolves when a batch is durable and visible. Either await it or [`CommitHandle::wait`].
#[must_use = "a batch is not acknowledged until its handle resolves"]
pub struct CommitHandle {}

impl CommitHandle {
    /// Blocks until the batch is durable and visible.
    ///
    /// # Errors
    /// `Io` or `Unavailable` when it is not; the caller must keep its data and may retry.
    pub fn wait(self) -> Result<Lsn> {
        todo!()
    }
}

impl Future for CommitHandle {
    type Output = Result<Lsn>;
    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        todo!()
    }
}

/// One committed batch as the feed delivers it.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Position.
    pub lsn: Lsn,
    /// What was committed.
    pub batch: Arc<WriteBatch>,
}

/// What a compaction did.
#[derive(Clone, Debug, Default)]
pub struct CompactionSummary {
    /// Segments read and replaced.
    pub segments_in: usize,
    /// Segments written.
    pub segments_out: usize,
    /// Rows written.
    pub rows: u64,
}

/// Counters and gauges for `/metrics` and `sys.*`; all monotonic unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct EngineStats {
    /// Newest durable and visible commit.
    pub lsn: Lsn,
    /// Samples committed since open.
    pub samples_written: u64,
    /// Batches committed since open.
    pub batches_written: u64,
    /// `fdatasync` calls of the WAL since open.
    pub wal_syncs: u64,
    /// Bytes appended to the WAL since open.
    pub wal_bytes_written: u64,
    /// Bytes of WAL files now on disk (gauge).
    pub wal_bytes: u64,
    /// Active series in memory (gauge).
    pub active_series: u64,
    /// Series ever known (gauge).
    pub series: u64,
    /// Bytes in memtables (gauge).
    pub memtable_bytes: u64,
    /// Live segments (gauge).
    pub segments: u64,
    /// Bytes of live segments (gauge).
    pub segment_bytes: u64,
    /// Rows in live segments (gauge).
    pub segment_rows: u64,
    /// Flushes since open.
    pub flushes: u64,
    /// Compactions since open.
    pub compactions: u64,
    /// Whether a failed fsync or other final fault refuses writes.
    pub poisoned: bool,
}

impl Engine {
    /// Opens or creates the store in `config.data_dir`, replaying the WAL.
    ///
    /// # Errors
    /// `Corruption` names file and offset; `Unavailable` when another process holds the directory.
    pub fn open(_config: EngineConfig) -> Result<Self> {
        todo!()
    }

    /// Looks up many series at once by the caller's 128-bit key (a seeded hash of whatever bytes named the series on the
    /// wire). `ids[i]` is set for known keys; returns the indexes of the unknown ones, to be passed to
    /// [`Engine::resolve_keyed`]. Takes each shard lock once a batch.
    pub fn lookup(&self, _keys: &[u128], _ids: &mut Vec<SeriesId>) -> Vec<usize> {
        todo!()
    }

    /// The id of `labels`, created if new, and remembered under `key`.
    ///
    /// # Errors
    /// `Limit` when a new series would exceed `active_series_max`.
    pub fn resolve_keyed(&self, _key: u128, _labels: &LabelSet) -> Result<SeriesId> {
        todo!()
    }

    /// The id of `labels`, created if new.
    ///
    /// # Errors
    /// As [`Engine::resolve_keyed`].
    pub fn resolve(&self, _labels: &LabelSet) -> Result<SeriesId> {
        todo!()
    }

    /// Queues a batch for group commit.
    ///
    /// # Durability
    /// The handle resolves after the WAL record and every series definition it needs are on stable storage.
    ///
    /// # Errors
    /// `Unavailable` when memtables are full or the engine is stopping or poisoned; `Invalid` when columns differ in length.
    pub fn write(&self, _batch: WriteBatch) -> Result<CommitHandle> {
        todo!()
    }

    /// A consistent, pinned view of all commits up to [`Snapshot::lsn`].
    pub fn snapshot(&self) -> Snapshot {
        todo!()
    }

    /// Watches the newest durable and visible position.
    pub fn commits(&self) -> tokio::sync::watch::Receiver<Lsn> {
        todo!()
    }

    /// Commits in `(after, through]` in order, stopping early once `rows_max` rows are gathered (at least one commit is
    /// returned if there is one). Reads memory when recent, WAL files otherwise.
    ///
    /// # Errors
    /// `Limit` when the WAL before `after` is already gone: the consumer must start over from a snapshot.
    pub fn read_commits(&self, _after: Lsn, _through: Lsn, _rows_max: usize) -> Result<Vec<Commit>> {
        todo!()
    }

    /// Keeps the WAL after `position` for a consumer (`None` forgets the consumer). Consumers re-register after open,
    /// before the first flush can truncate; their positions are theirs to store (in [`WriteBatch::state`]).
    pub fn retain_wal(&self, _consumer: &str, _position: Option<Lsn>) {
        todo!()
    }

    /// Flushes memtables to segments and truncates the WAL.
    ///
    /// # Errors
    /// `Io` with the path.
    pub fn flush(&self) -> Result<()> {
        todo!()
    }

    /// Runs compaction until the plan is empty.
    ///
    /// # Errors
    /// `Io` or `Corruption` with the path.
    pub fn compact(&self) -> Result<CompactionSummary> {
        todo!()
    }

    /// Counters now.
    pub fn stats(&self) -> EngineStats {
        todo!()
    }

    /// Refuses new writes, flushes, stops background work. Idempotent.
    ///
    /// # Errors
    /// `Io` with the path; the WAL still holds everything acknowledged.
    pub fn close(&self) -> Result<()> {
        todo!()
    }
}
