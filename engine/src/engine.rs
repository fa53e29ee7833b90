//! The engine: open, write, flush, compact, feed, close. Cheap to clone.
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::backup;
use crate::clock::{Clock, SystemClock};
use crate::config::EngineConfig;
use crate::core::{self, Core, Threads};
use crate::error::Result;
use crate::fs::{Fs, LockGuard, OsFs};
use crate::snapshot::{Selector, Snapshot};
use crate::types::{LabelSet, Lsn, SeriesId};
use crate::verify::Progress;
use crate::write_batch::WriteBatch;

pub use crate::core::{CommitHandle, ReplayProgress};
pub use crate::feed::Commit;

/// An open store. Dropping the last clone without [`Engine::close`] commits what is queued, stops the threads and leaves
/// the rest to the log: the next open replays it.
#[derive(Clone)]
pub struct Engine(Arc<Open>);

struct Open {
    core: Arc<Core>,
    threads: Threads,
    /// `None` once closed.
    lock: Mutex<Option<LockGuard>>,
}

impl Open {
    /// Ends everything; with `flush`, after writing memtables to segments.
    fn stop(&self, flush: bool) -> Result<()> {
        let mut lock = self.lock.lock();
        if lock.is_none() {
            return Ok(());
        }
        self.threads.stop_commits(&self.core);
        let flushed = if flush { self.core.flush().and_then(|()| self.core.empty_wal()) } else { Ok(()) };
        self.threads.stop_background(&self.core);
        self.core.catalogue.close(flush);
        *lock = None;
        flushed
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Err(error) = self.stop(false) {
            tracing::warn!(%error, "closing the store");
        }
    }
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
    /// Rows dropped because they were deleted.
    pub rows_deleted: u64,
    /// Partitions dropped by the retention before.
    pub partitions_dropped: usize,
}

/// What a delete did.
#[derive(Clone, Debug, Default)]
pub struct DeleteSummary {
    /// Its commit; `None` when no series matched and there was nothing to commit.
    pub lsn: Option<Lsn>,
    /// Series that matched, whether or not they have rows in the range.
    pub series: u64,
}

/// Counters and gauges for `/metrics` and `sys.*`; all monotonic unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct EngineStats {
    /// Newest durable and visible commit.
    pub lsn: Lsn,
    /// Samples committed since open.
    pub samples_written: u64,
    /// Records committed since open.
    pub records_written: u64,
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
    /// Memory of the index of active series, about (gauge).
    pub index_bytes: u64,
    /// Bytes in memtables (gauge).
    pub memtable_bytes: u64,
    /// Live segments (gauge).
    pub segments: u64,
    /// Bytes of live segments (gauge).
    pub segment_bytes: u64,
    /// Rows in live segments (gauge).
    pub segment_rows: u64,
    /// Live segments of records (gauge).
    pub record_segments: u64,
    /// Bytes of live segments of records (gauge).
    pub record_segment_bytes: u64,
    /// Rows in live segments of records (gauge).
    pub record_segment_rows: u64,
    /// Flushes since open.
    pub flushes: u64,
    /// Compactions since open.
    pub compactions: u64,
    /// Bytes that can still be written to the disk (gauge).
    pub disk_free_bytes: u64,
    /// Writes are refused when fewer are free (gauge).
    pub disk_reserve_bytes: u64,
    /// Bytes of the segments that compactions read since open.
    pub compaction_bytes_read: u64,
    /// Bytes of the segments they wrote.
    pub compaction_bytes_written: u64,
    /// Time they took, pauses included.
    pub compaction_ns: u64,
    /// Rollups made since open.
    pub rollups: u64,
    /// Bytes written for them.
    pub rollup_bytes_written: u64,
    /// Deletes committed since open.
    pub deletes: u64,
    /// Deletes that hide rows still on disk or in memory, coalesced (gauge).
    pub tombstones: u64,
    /// Deleted rows left out by flushes and merges since open.
    pub rows_deleted: u64,
    /// Partitions dropped by the retention since open.
    pub partitions_dropped: u64,
    /// Partitions with segments or series (gauge).
    pub partitions: u64,
    /// Whether a failed fsync or other final fault refuses writes.
    pub poisoned: bool,
}

/// A bounded use of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShare {
    /// Name: a word with underscores.
    pub name: &'static str,
    /// Bytes in use now, about.
    pub used_bytes: u64,
    /// Bytes it may use.
    pub max_bytes: u64,
}

impl Engine {
    /// Opens or creates the store in `config.data_dir`, replaying the WAL.
    ///
    /// # Errors
    /// `Corruption` names file and offset; `Unavailable` when another process holds the directory.
    pub fn open(config: EngineConfig) -> Result<Self> {
        Self::open_with(config, Arc::new(OsFs), Arc::new(SystemClock))
    }

    /// Opens a store on other files and another clock than the machine's.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_with(config: EngineConfig, fs: Arc<dyn Fs>, clock: Arc<dyn Clock>) -> Result<Self> {
        Self::open_watched(config, fs, clock, &ReplayProgress::default())
    }

    /// As [`Engine::open_with`], telling another thread through `progress` how far the replay has come.
    ///
    /// # Errors
    /// As [`Engine::open`].
    pub fn open_watched(
        config: EngineConfig,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        progress: &ReplayProgress,
    ) -> Result<Self> {
        let (core, threads, lock) = core::open(config, fs, clock, progress)?;
        Ok(Self(Arc::new(Open { core, threads, lock: Mutex::new(Some(lock)) })))
    }

    /// Looks up many series at once by the caller's 128-bit key (a seeded hash of whatever bytes named the series on the
    /// wire). `ids[i]` is set for known keys; returns the indexes of the unknown ones, to be passed to
    /// [`Engine::resolve_keyed`]. Takes each shard lock once a batch.
    pub fn lookup(&self, keys: &[u128], ids: &mut Vec<SeriesId>) -> Vec<usize> {
        self.0.core.keys.lookup(keys, ids)
    }

    /// The ids of many series by their labels, each created if new and remembered under its key; in order. Those that are new are
    /// created some hundreds under one lock.
    ///
    /// # Errors
    /// Of each series `Limit` when it would exceed `active_series_max` or the memory of the index.
    pub fn resolve_keyed(&self, series: &[(u128, LabelSet)]) -> Vec<Result<SeriesId>> {
        self.0.core.resolve_keyed(series)
    }

    /// The id of `labels`, created if new.
    ///
    /// # Errors
    /// As those of [`Engine::resolve_keyed`].
    pub fn resolve(&self, labels: &LabelSet) -> Result<SeriesId> {
        self.0.core.resolve(labels)
    }

    /// Whether memory has room for another batch: [`Engine::write`] asks, too, but whoever has to decode a batch first asks
    /// before that. Work on what is refused would be taken from the flush that makes room.
    ///
    /// # Errors
    /// `Unavailable` when memtables are full.
    pub fn ensure_room(&self) -> Result<()> {
        self.0.core.ensure_room()
    }

    /// Queues a batch for group commit.
    ///
    /// # Durability
    /// The handle resolves after the WAL record and every series definition it needs are on stable storage.
    ///
    /// # Errors
    /// `Unavailable` when memtables are full or the engine is stopping or poisoned; `Invalid` when columns differ in length.
    pub fn write(&self, batch: WriteBatch) -> Result<CommitHandle> {
        self.0.core.write(batch)
    }

    /// Deletes the rows of every series that `selector` matches, inactive ones included, in its range. Readers no longer see
    /// them from the commit on; flushes and merges drop them from disk. Rows committed later stay, of these series too, and
    /// series created later are not concerned. Blocks until the delete is durable: call it off the async threads.
    ///
    /// # Durability
    /// On stable storage when this returns, as a batch is.
    ///
    /// # Errors
    /// `Invalid` for a bad regular expression, an empty range, or a selector that names neither metric nor label; `Limit`
    /// when too many deletes are not carried out yet; else as [`Engine::write`].
    pub fn delete(&self, selector: &Selector) -> Result<DeleteSummary> {
        self.0.core.delete(selector)
    }

    /// A consistent, pinned view of all commits up to [`Snapshot::lsn`].
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.0.core)
    }

    /// Watches the newest durable and visible position.
    pub fn commits(&self) -> tokio::sync::watch::Receiver<Lsn> {
        self.0.core.newest.subscribe()
    }

    /// Commits in `(after, through]` in order, stopping early once `rows_max` rows are gathered (at least one commit is
    /// returned if there is one). Reads memory when recent, WAL files otherwise.
    ///
    /// # Errors
    /// `Limit` when the WAL before `after` is already gone: the consumer must start over from a snapshot.
    pub fn read_commits(&self, after: Lsn, through: Lsn, rows_max: usize) -> Result<Vec<Commit>> {
        self.0.core.read_commits(after, through, rows_max)
    }

    /// Keeps the WAL after `position` for a consumer (`None` forgets the consumer). Consumers re-register after open,
    /// before the first flush can truncate; their positions are theirs to store (in [`WriteBatch::state`]). Claims are kept
    /// in the manifest (a new or forgotten one at once, a moved one by the next flush), so that no flush between a crash and
    /// the consumer's return deletes what it needs. A log beyond `wal_retained_bytes_max` is truncated in spite of claims.
    pub fn retain_wal(&self, consumer: &str, position: Option<Lsn>) {
        self.0.core.retain_wal(consumer, position);
    }

    /// Flushes memtables to segments and truncates the WAL.
    ///
    /// # Errors
    /// `Io` with the path.
    pub fn flush(&self) -> Result<()> {
        self.0.core.flush()
    }

    /// Drops what the retention no longer keeps, then runs compaction until the plan is empty.
    ///
    /// # Errors
    /// `Io` or `Corruption` with the path.
    pub fn compact(&self) -> Result<CompactionSummary> {
        self.0.core.compact()
    }

    /// Adds a backup of everything acknowledged so far to `dest`, which is created if absent. Writes go on meanwhile. Of
    /// the store itself a backup blocks only flushes, for as long as it takes to map its files.
    ///
    /// # Durability
    /// When this returns, the backup is on stable storage.
    ///
    /// # Errors
    /// `Unavailable` when another backup is being added to `dest` or the engine is poisoned, `Invalid` when `dest` lies
    /// inside the store, `Io`.
    pub fn backup(&self, dest: &Path, begun: &backup::Begun<'_>, progress: &Progress) -> Result<backup::Made> {
        let core = &self.0.core;
        backup::refuse_inside(&core.layout.root, dest)?;
        backup::add(&*core.fs, dest, core.checkpoint()?, begun, progress)
    }

    /// Drops every partition that ends before `before_ns`: its rows, and the series that are nowhere else. Returns how
    /// many partitions went. Rows that are still in memory stay, and so do the series that are active. Snapshots taken
    /// before see what they saw.
    ///
    /// # Durability
    /// Dropped for good when this returns.
    ///
    /// # Errors
    /// `Io` with the path; `Catalogue` when the index cannot be read.
    pub fn drop_before(&self, before_ns: i64) -> Result<usize> {
        self.0.core.drop_before(before_ns)
    }

    /// Rows before this instant are past the retention: protocols refuse them, so that nothing is acknowledged that is not
    /// kept. `i64::MIN` without a retention. Of rows committed all the same, none is lost before their partition goes.
    pub fn oldest_accepted_ns(&self) -> i64 {
        self.0.core.oldest_accepted_ns()
    }

    /// As [`Engine::oldest_accepted_ns`] for rows of the series of `metric`, which may have a retention of its own.
    pub fn oldest_accepted_of_ns(&self, metric: &str) -> i64 {
        self.0.core.oldest_accepted_of_ns(metric)
    }

    /// Counters now.
    pub fn stats(&self) -> EngineStats {
        let core = &self.0.core;
        let (lsn, version, tombstones) = {
            let live = core.live.lock();
            (live.lsn, Arc::clone(&live.version), live.tombstones.len() as u64)
        };
        let (series, active_series) = core.series_counts();
        let (disk_free_bytes, disk_reserve_bytes) = core.disk_room();
        let mut stats = EngineStats {
            lsn,
            samples_written: core.counters.samples.load(Ordering::Relaxed),
            records_written: core.counters.records.load(Ordering::Relaxed),
            batches_written: core.counters.batches.load(Ordering::Relaxed),
            wal_syncs: core.queue.syncs.load(Ordering::Relaxed),
            wal_bytes_written: core.queue.bytes_written.load(Ordering::Relaxed),
            wal_bytes: core.wal_files.bytes(),
            active_series,
            series,
            index_bytes: core.head.read().bytes() as u64,
            memtable_bytes: core.memtable_bytes() as u64,
            flushes: core.counters.flushes.load(Ordering::Relaxed),
            compactions: core.counters.compactions.load(Ordering::Relaxed),
            disk_free_bytes,
            disk_reserve_bytes,
            compaction_bytes_read: core.counters.merge_bytes_read.load(Ordering::Relaxed),
            compaction_bytes_written: core.counters.merge_bytes_written.load(Ordering::Relaxed),
            compaction_ns: core.counters.merge_ns.load(Ordering::Relaxed),
            rollups: core.counters.rollups.load(Ordering::Relaxed),
            rollup_bytes_written: core.counters.rollup_bytes_written.load(Ordering::Relaxed),
            deletes: core.counters.deletes.load(Ordering::Relaxed),
            tombstones,
            rows_deleted: core.counters.rows_deleted.load(Ordering::Relaxed),
            partitions_dropped: core.counters.partitions_dropped.load(Ordering::Relaxed),
            partitions: version.partitions.len() as u64,
            poisoned: core.queue.poison().is_some(),
            ..EngineStats::default()
        };
        for live in version.segments() {
            stats.segments += 1;
            stats.segment_bytes += live.meta.bytes;
            stats.segment_rows += live.meta.rows;
        }
        for live in version.record_segments() {
            stats.record_segments += 1;
            stats.record_segment_bytes += live.meta().segment.bytes;
            stats.record_segment_rows += live.meta().segment.rows;
        }
        stats
    }

    /// What the memory is used for. [`crate::config`] sets the bounds.
    pub fn memory(&self) -> [MemoryShare; 6] {
        let core = &*self.0.core;
        let share =
            |name, used: usize, max: usize| MemoryShare { name, used_bytes: used as u64, max_bytes: max as u64 };
        let feed = core.live.lock().feed_bytes();
        let index = core.head.read().bytes();
        let config = &core.config;
        [
            share("memtables", core.memtable_bytes_held(), config.memtable_total_bytes_max),
            share("index", index, config.index_bytes_max),
            share("key_cache", core.keys.bytes(), config.key_cache_bytes_max),
            share("feed", feed, config.feed_bytes_max),
            share("commit_queue", core.queue.bytes(), config.commit_queue_bytes_max),
            share("catalogue", core.catalogue.bytes(), config.catalogue_bytes_max),
        ]
    }

    /// Refuses new writes, flushes, stops background work. Idempotent.
    ///
    /// # Errors
    /// `Io` with the path; the WAL still holds everything acknowledged.
    pub fn close(&self) -> Result<()> {
        self.0.stop(true)
    }
}
