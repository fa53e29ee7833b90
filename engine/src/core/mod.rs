//! The inside of an open store: what all threads share, and the operations on it.
//!
//! ```text
//!  writers --> CommitQueue --> commit thread --> Live { memtables, state, feed, version, position }
//!                                                 ^ snapshot copies it      ^ flush, compaction replace parts
//! ```
//! Lock order, outermost first: `compacting`, `flushing`, `creating`, `manifest`, then `head`, `live`, `declared`, `claims`,
//! `numbers`, `pending`, `unplaced`, which but for `head` are held alone and never during I/O (under `live` a change is
//! noted); a batch of records is queued under `declared`. `creating` is held while RocksDB is asked for a series, `manifest` while its edit is synced.
mod compact;
mod delete;
mod disk;
mod drop;
mod flush;
mod records;
mod recovery;
mod retain;
mod rollup;
mod series;
mod threads;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::catalog::{Catalogue, Head, KeyCache};
use crate::changes::Changes;
use crate::clock::Clock;
use crate::config::EngineConfig;
use crate::error::{Error, Result};
use crate::feed::{Commit, Ring};
use crate::fs::Fs;
use crate::layout::Layout;
use crate::manifest::{Change, Manifest, Stored};
use crate::memtable::{CommittedBatch, Memtable, Tidy};
use crate::partition::Partitioning;
use crate::records::Tables;
use crate::rollup::Rules;
use crate::state::StateMap;
use crate::tombstone::Tombstones;
use crate::types::{LabelSet, Lsn, SeriesId};
use crate::version::Version;
use crate::wal::{CommitQueue, WalFiles, encode_batch};
use crate::write_batch::WriteBatch;

use self::rollup::PutOff;

pub use crate::wal::CommitHandle;
pub use recovery::ReplayProgress;
pub(crate) use recovery::{open, open_catalogue};
pub(crate) use threads::{Threads, Wakeup};

/// A memtable that takes no more commits, with the keyed state after its last one.
#[derive(Clone)]
pub(crate) struct Sealed {
    pub(crate) memtable: Memtable,
    state: StateMap,
}

/// What a snapshot sees.
pub(crate) struct Live {
    /// Newest visible commit.
    pub(crate) lsn: Lsn,
    pub(crate) active: Memtable,
    /// Oldest first; flushed together.
    pub(crate) sealed: Vec<Arc<Sealed>>,
    pub(crate) state: StateMap,
    /// Tables and columns of the records committed so far.
    pub(crate) tables: Tables,
    pub(crate) version: Arc<Version>,
    /// Newest commit in segments.
    pub(crate) flushed: Lsn,
    /// Those up to `flushed` are in the manifest and concern segments, later ones are in the log and concern memtables too.
    pub(crate) tombstones: Tombstones,
    pub(crate) changes: Changes,
    ring: Ring,
}

impl Live {
    /// Memory of the feed.
    pub(crate) fn feed_bytes(&self) -> usize {
        self.ring.bytes()
    }
}

/// Numbers of files being written, so that an interrupted write can be told from a finished one.
#[derive(Debug, Default)]
struct FileNumbers {
    next: u64,
    unfinished: BTreeSet<u64>,
}

/// Counters since open.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) samples: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) merge_bytes_read: AtomicU64,
    pub(crate) merge_bytes_written: AtomicU64,
    pub(crate) merge_ns: AtomicU64,
    pub(crate) rollups: AtomicU64,
    pub(crate) rollup_bytes_written: AtomicU64,
    pub(crate) deletes: AtomicU64,
    pub(crate) rows_deleted: AtomicU64,
    pub(crate) partitions_dropped: AtomicU64,
}

/// See the module.
pub(crate) struct Core {
    pub(crate) config: EngineConfig,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) layout: Layout,
    pub(crate) partitioning: Partitioning,
    pub(crate) live: Mutex<Live>,
    pub(crate) head: Arc<RwLock<Head>>,
    pub(crate) keys: KeyCache,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) queue: Arc<CommitQueue>,
    pub(crate) wal_files: WalFiles,
    pub(crate) newest: watch::Sender<Lsn>,
    pub(crate) counters: Counters,
    /// What has rollups, if anything has.
    rollups: Option<Rules>,
    /// By the paths of their segments.
    rollups_put_off: Mutex<HashMap<PathBuf, PutOff>>,
    /// Wakes the thread that sorts, the one that flushes, the one that compacts.
    pub(crate) tidier: Wakeup,
    pub(crate) flusher: Wakeup,
    pub(crate) compactor: Wakeup,
    manifest: Mutex<Manifest>,
    numbers: Mutex<FileNumbers>,
    /// Bytes in memtables that are not flushed.
    memtable_bytes: AtomicUsize,
    /// Bytes in all memtables that somebody still holds.
    memtable_held: Arc<AtomicUsize>,
    /// Series not yet in the log.
    pending: Mutex<Vec<(SeriesId, LabelSet)>>,
    /// Series not yet in a series file.
    unplaced: Mutex<Vec<(SeriesId, LabelSet)>>,
    /// Held while a series is created.
    creating: Mutex<()>,
    flushing: Mutex<flush::Members>,
    compacting: Mutex<()>,
    /// Tables and columns of the records that were queued, committed or not.
    declared: Mutex<Tables>,
    claims: Mutex<BTreeMap<String, Lsn>>,
    /// Partitions that end before it were dropped since the open.
    retained_from_ns: AtomicI64,
    /// Rows of metrics with a retention of their own that lie before these instants were deleted since the open.
    deleted_before_ns: Mutex<BTreeMap<String, i64>>,
    /// When idle series were last looked for.
    evicted_ns: AtomicI64,
}

impl Core {
    /// See [`crate::Engine::write`].
    pub(crate) fn write(&self, mut batch: WriteBatch) -> Result<CommitHandle> {
        if batch.ts.len() != batch.series.len() || batch.values.len() != batch.series.len() {
            return Err(Error::Invalid(format!(
                "columns of a batch must have equal length, not {} series, {} timestamps, {} values",
                batch.series.len(),
                batch.ts.len(),
                batch.values.len()
            )));
        }
        self.ensure_room()?;
        batch.trim();
        self.check_records(&batch)?;
        self.touch_all(&batch)?;
        let payload = encode_batch(&batch)?;
        self.refuse_if_disk_is_full(payload.len())?;
        let batch = Arc::new(batch);
        self.declare(&batch, || self.queue.push(Arc::clone(&batch), payload))
    }

    /// See [`crate::Engine::ensure_room`].
    pub(crate) fn ensure_room(&self) -> Result<()> {
        let bytes_max = self.config.memtable_total_bytes_max;
        if self.memtable_bytes() >= bytes_max {
            self.flusher.wake();
            return Err(Error::Unavailable("memtables are full until a flush ends; retry after a moment".into()));
        }
        // Half as much again for what is flushed already: long queries must not hold up writers at once.
        if self.memtable_bytes_held() >= bytes_max / 2 * 3 {
            return Err(Error::Unavailable(
                "queries still read memtables that have been flushed, as many as there may be; retry after a moment"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Makes durable commits visible, in order.
    pub(crate) fn publish(&self, commits: Vec<CommittedBatch>) {
        let (batches, mut samples, mut records) = (commits.len() as u64, 0, 0);
        let now_ns = self.clock.now_ns();
        let since_ns = commits.iter().filter_map(|commit| commit.batch.earliest_ns()).min();
        let (lsn, crowded) = {
            let mut live = self.live.lock();
            for commit in commits {
                samples += commit.batch.len() as u64;
                records += (commit.batch.rows() - commit.batch.len()) as u64;
                self.add(&mut live, commit, now_ns);
            }
            if let Some(since_ns) = since_ns {
                live.changes.add(since_ns);
            }
            (live.lsn, live.active.is_crowded(self.config.memtable_run_rows))
        };
        self.counters.samples.fetch_add(samples, Ordering::Relaxed);
        self.counters.records.fetch_add(records, Ordering::Relaxed);
        self.counters.batches.fetch_add(batches, Ordering::Relaxed);
        self.newest.send_replace(lsn);
        if crowded && self.config.background {
            self.tidier.wake();
        } else if crowded {
            self.tidy();
        }
        if self.memtable_bytes() >= self.config.memtable_bytes_max {
            self.flusher.wake();
        }
    }

    fn add(&self, live: &mut Live, commit: CommittedBatch, now_ns: i64) {
        let commit = Arc::new(commit);
        if !commit.batch.deletes.is_empty() {
            live.bury(&commit, now_ns);
            self.counters.deletes.fetch_add(1, Ordering::Relaxed);
        }
        live.state.apply(&commit.batch.state);
        for records in &commit.batch.records {
            // The columns were declared before the batch was queued or replayed: they fit.
            if let Err(error) = live.tables.admit(&records.table, records.columns.schema_ref()) {
                tracing::error!(%error, "columns of a committed batch do not fit their table");
            }
        }
        live.lsn = commit.lsn;
        live.ring.push(Arc::clone(&commit));
        let bytes = live.active.push(commit, now_ns);
        self.memtable_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Sorts what has piled up in the active memtable, without holding up commits.
    pub(crate) fn tidy(&self) {
        loop {
            let work = {
                let live = self.live.lock();
                live.active.tidy(self.config.memtable_run_rows).map(|tidy| (live.active.number, tidy))
            };
            let Some((number, tidy)) = work else { return };
            let run = Tidy::execute(&tidy);
            let mut live = self.live.lock();
            // Only this function changes the old part of the active memtable; but a flush may have sealed it meanwhile.
            if live.active.number == number {
                live.active.apply(&tidy, run);
            }
        }
    }

    /// Bytes in memtables.
    pub(crate) fn memtable_bytes(&self) -> usize {
        self.memtable_bytes.load(Ordering::Relaxed)
    }

    /// Bytes in memtables and in those that are flushed and that a snapshot still reads.
    pub(crate) fn memtable_bytes_held(&self) -> usize {
        self.memtable_held.load(Ordering::Relaxed)
    }

    /// See [`crate::Engine::read_commits`].
    pub(crate) fn read_commits(&self, after: Lsn, through: Lsn, rows_max: usize) -> Result<Vec<Commit>> {
        let through = {
            let live = self.live.lock();
            let through = through.min(live.lsn);
            if after >= through {
                return Ok(Vec::new());
            }
            if let Some(commits) = live.ring.read(after, through, rows_max) {
                return Ok(commits);
            }
            through
        };
        let commits = self.wal_files.read(&*self.fs, after.0, through.0, rows_max)?;
        Ok(commits.into_iter().map(|commit| Commit { lsn: commit.lsn, batch: commit.batch }).collect())
    }

    /// See [`crate::Engine::retain_wal`].
    pub(crate) fn retain_wal(&self, consumer: &str, position: Option<Lsn>) {
        let before = match position {
            Some(position) => self.claims.lock().insert(consumer.to_owned(), position),
            None => self.claims.lock().remove(consumer),
        };
        if before.is_some() == position.is_some() {
            return;
        }
        // A new claim must hold over a crash before its owner can ask again; moves are stored by the next flush, and
        // until then the older position only keeps more.
        if let Err(error) = self.edit(|_| vec![Change::Claims(self.claims.lock().clone())]) {
            tracing::error!(%error, consumer, "cannot store a claim on the log");
        }
    }

    /// Calls `listed` while every file that the manifest lists is there, then `logged` while no log file goes.
    pub(crate) fn with_files<T>(
        &self,
        listed: impl FnOnce(&Stored) -> Result<T>,
        logged: impl FnOnce(T, &Stored) -> Result<T>,
    ) -> Result<T> {
        let _no_flush = self.flushing.lock();
        let (stored, taken) = {
            // Files are removed only after the edit that takes them off the list.
            let manifest = self.manifest.lock();
            self.refuse_if_poisoned()?;
            let stored = manifest.stored();
            let taken = listed(&stored)?;
            (stored, taken)
        };
        logged(taken, &stored)
    }

    /// Commits one manifest edit; a failure other than `DiskFull` is final.
    fn edit(&self, changes: impl FnOnce(&Manifest) -> Vec<Change>) -> Result<u64> {
        let mut manifest = self.manifest.lock();
        self.refuse_if_poisoned()?;
        let changes = changes(&manifest);
        manifest.commit(&changes).inspect_err(|error| {
            if !matches!(error, Error::DiskFull { .. }) {
                self.queue.set_poison(error);
            }
        })
    }

    fn refuse_if_poisoned(&self) -> Result<()> {
        match self.queue.poison() {
            Some(cause) => {
                Err(Error::Unavailable(format!("refused after a final fault ({cause}); open the store again")))
            }
            None => Ok(()),
        }
    }

    fn new_file_number(&self) -> u64 {
        let mut numbers = self.numbers.lock();
        let number = numbers.next;
        numbers.next += 1;
        numbers.unfinished.insert(number);
        number
    }

    /// Marks files as part of the store or given up; returns the number from which on unreferenced files are left-overs.
    fn finish_files(&self, finished: &[u64]) -> u64 {
        let mut numbers = self.numbers.lock();
        for number in finished {
            numbers.unfinished.remove(number);
        }
        numbers.unfinished.first().copied().unwrap_or(numbers.next)
    }

    /// Series ever created, active series.
    pub(crate) fn series_counts(&self) -> (u64, u64) {
        let head = self.head.read();
        (head.series_count(), head.active() as u64)
    }
}
