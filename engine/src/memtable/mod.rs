//! Samples and records that are durable in the WAL but not yet in a segment.
//!
//! ```text
//!  commit --> tail: batches as they came --(256k rows, or read often)--> sorted run --(8 of a size; large ones when read often)--> larger run
//! ```
//! A memtable is log-structured and columnar: publishing a commit pushes one `Arc`, whatever its size. Everything in it
//! is immutable and shared, so a snapshot is a copy of pointers. Order is age: runs (oldest first), then the tail; of
//! equal (series, ts) the later wins. Records are kept as they came: whoever reads them sorts them. It knows nothing of
//! labels, files or partitions.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::types::{Lsn, SeriesSet};

mod merge;
mod order;
mod record_lane;
mod run;

#[cfg(test)]
mod tests;

pub(crate) use merge::{SeriesRows, merge_rows};
pub(crate) use record_lane::RecordLane;
pub(crate) use run::{CommittedBatch, SortedRun};

/// A tail of this many batches is sorted even if they are small.
const TAIL_BATCHES_MAX: usize = 1024;
/// A tail that so many scans have gone through is sorted even if it is short: sorting takes about as long as they did.
const TAIL_SCANS_MAX: usize = 16;
/// A tail of fewer rows is not worth a run of its own, however often it is read.
const TAIL_ROWS_MIN: usize = 4096;
/// So many runs of about the same size become one.
const RUNS_OF_A_SIZE_MAX: usize = 8;
/// Large ones only after so many scans: a merge reads and writes all their rows, and the flush merges them anyway.
const RUNS_SCANS_MIN: usize = 16;
/// A run with more rows than this is not merged again before the flush: a merge holds its rows twice.
const RUN_ROWS_MAX: usize = 1 << 20;

/// Rows and keyed state that are not yet flushed. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Memtable {
    /// Tells one memtable from the next.
    pub(crate) number: u64,
    /// Newest last. The first `k` of them may be swapped for a run.
    pub(crate) tail: Vec<Arc<CommittedBatch>>,
    /// Oldest first, all older than the tail.
    pub(crate) runs: Vec<Arc<SortedRun>>,
    pub(crate) tail_rows: usize,
    /// Rows of the tail that scans have gone through since it was sorted last.
    tail_scanned: Arc<AtomicUsize>,
    /// Scans since runs were merged.
    scans: Arc<AtomicUsize>,
    /// As they came, oldest first.
    pub(crate) records: RecordLane,
    /// Memory it holds, about.
    pub(crate) bytes: usize,
    /// Whether a batch changed keyed state.
    pub(crate) state_changed: bool,
    /// Its newest commit.
    pub(crate) lsn: Lsn,
    /// When its first commit came.
    pub(crate) since_ns: i64,
    /// Its part of the memory of all memtables, until the last clone is gone.
    pub(crate) held: Arc<Held>,
}

/// The memory of one memtable as part of a total: a snapshot keeps a memtable that is long flushed.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: AtomicUsize,
    total: Arc<AtomicUsize>,
}

impl Held {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }
    /// The memory of all memtables.
    pub(crate) fn total(&self) -> &Arc<AtomicUsize> {
        &self.total
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// Work to make a memtable faster to read: which part to replace, and the run that replaces it.
pub(crate) enum Tidy {
    /// The oldest batches of the tail.
    Tail(Vec<Arc<CommittedBatch>>),
    /// Neighbouring runs, from this index.
    Runs(usize, Vec<Arc<SortedRun>>),
}

impl Tidy {
    /// Sorts. Long: call it without locks.
    pub(crate) fn execute(&self) -> SortedRun {
        match self {
            Self::Tail(batches) => SortedRun::from_batches(batches),
            Self::Runs(_, runs) => SortedRun::from_runs(runs),
        }
    }
}

impl Memtable {
    /// `total` counts the memory of all memtables.
    pub(crate) fn new(number: u64, lsn: Lsn, now_ns: i64, total: &Arc<AtomicUsize>) -> Self {
        let (tail, runs, records) = (Vec::new(), Vec::new(), RecordLane::default());
        let held = Arc::new(Held { bytes: AtomicUsize::new(0), total: Arc::clone(total) });
        Self {
            number,
            tail,
            runs,
            tail_rows: 0,
            tail_scanned: Arc::default(),
            scans: Arc::default(),
            records,
            bytes: 0,
            state_changed: false,
            lsn,
            since_ns: now_ns,
            held,
        }
    }

    /// Whether no commit came.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether a commit had samples or records.
    pub(crate) fn has_rows(&self) -> bool {
        self.tail_rows > 0 || !self.runs.is_empty() || !self.records.is_empty()
    }

    /// Adds a commit and returns the bytes it holds.
    pub(crate) fn push(&mut self, commit: Arc<CommittedBatch>, now_ns: i64) -> usize {
        if self.is_empty() {
            self.since_ns = now_ns;
        }
        let bytes = commit.bytes();
        self.bytes += bytes;
        self.held.add(bytes);
        self.tail_rows += commit.batch.len();
        self.state_changed |= !commit.batch.state.is_empty();
        self.lsn = commit.lsn;
        for records in commit.batch.records.iter().filter(|records| !records.is_empty()) {
            self.records.push(Arc::clone(records));
        }
        self.tail.push(commit);
        bytes
    }

    /// The series of its rows.
    pub(crate) fn series(&self) -> SeriesSet {
        let runs = self.runs.iter().flat_map(|run| &run.series);
        let tail = self.tail.iter().flat_map(|commit| &commit.batch.series);
        let records = self.records.iter().flat_map(|records| &records.series);
        runs.chain(tail).chain(records).copied().collect()
    }

    /// A scan goes through it.
    pub(crate) fn count_scan(&self) {
        self.scans.fetch_add(1, Ordering::Relaxed);
        self.tail_scanned.fetch_add(self.tail_rows, Ordering::Relaxed);
    }

    /// Whether the tail should be sorted: it has `run_rows`, or very many batches, or is read again and again.
    pub(crate) fn is_crowded(&self, run_rows: usize) -> bool {
        let scans = || self.tail_scanned.load(Ordering::Relaxed) / self.tail_rows;
        self.tail_rows >= run_rows
            || self.tail.len() >= TAIL_BATCHES_MAX
            || self.tail_rows >= TAIL_ROWS_MIN && scans() >= TAIL_SCANS_MAX
    }

    /// What should be sorted now, if anything: a crowded tail, or many runs of about the same size.
    pub(crate) fn tidy(&self, run_rows: usize) -> Option<Tidy> {
        if self.is_crowded(run_rows) {
            return Some(Tidy::Tail(self.tail.clone()));
        }
        let class = |run: &SortedRun| run.ts.len().max(1).ilog2() / 3;
        let are_read = self.scans.load(Ordering::Relaxed) >= RUNS_SCANS_MIN;
        // Runs up to `end`, of which the newest says the size.
        let of_a_size = |end: usize| {
            let newest = &self.runs[end - 1];
            let is_same = |run: &&Arc<SortedRun>| class(run) <= class(newest) && run.ts.len() < RUN_ROWS_MAX;
            let at = end - self.runs[..end].iter().rev().take_while(is_same).count();
            let same = self.runs[..end].get(at..at + RUNS_OF_A_SIZE_MAX)?;
            (are_read || newest.ts.len() < run_rows).then(|| Tidy::Runs(at, same.to_vec()))
        };
        (1..=self.runs.len()).rev().find_map(of_a_size)
    }

    /// Puts `run` in the place of what it was made from.
    pub(crate) fn apply(&mut self, tidy: &Tidy, run: SortedRun) {
        match tidy {
            Tidy::Tail(batches) => {
                let rest = self.tail.split_off(batches.len());
                self.tail = rest;
                self.tail_rows = self.tail.iter().map(|commit| commit.batch.len()).sum();
                self.tail_scanned.store(0, Ordering::Relaxed);
                if !run.ts.is_empty() {
                    self.runs.push(Arc::new(run));
                }
            }
            Tidy::Runs(at, runs) => {
                self.runs.splice(*at..at + runs.len(), [Arc::new(run)]);
                self.scans.store(0, Ordering::Relaxed);
            }
        }
    }
}
