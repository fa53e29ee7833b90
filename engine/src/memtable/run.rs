//! The two forms a memtable keeps rows in: batches as they came, and sorted runs of many batches.
use std::sync::Arc;

use crate::pool::Pool;
use crate::tombstone::{Hidden, next_visible};
use crate::types::{Lsn, SeriesId};
use crate::write_batch::WriteBatch;

use super::merge::{is_in_order, merge_rows, settle};
use super::order::{Order, Room};

/// Of the thread that sorts, and of a flush that sorts the rest.
static ROOM: Pool<Box<Room>> = Pool::new(1);

/// A batch with its place in history. Immutable; shared by the memtable, the feed and snapshots.
#[derive(Clone, Debug)]
pub(crate) struct CommittedBatch {
    /// Position.
    pub(crate) lsn: Lsn,
    /// Rows as they came: any order, duplicates possible (a later row wins over an earlier one).
    pub(crate) batch: Arc<WriteBatch>,
}

impl CommittedBatch {
    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        self.batch.bytes()
    }
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

impl SortedRun {
    fn with_capacity(rows: usize) -> Self {
        let (ts, values) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        Self { series: Vec::new(), offsets: vec![0], ts, values }
    }

    /// Sorts the rows of `batches` (oldest first).
    pub(crate) fn from_batches(batches: &[Arc<CommittedBatch>]) -> Self {
        let mut room = ROOM.lend();
        let parts: Vec<&[SeriesId]> = batches.iter().map(|commit| &*commit.batch.series).collect();
        let Order { series, offsets, rows } = Order::of(&parts, &mut room);
        // Each column in a loop of its own: the places are far apart, and the core then waits for many at once.
        let came = &mut room.column;
        came.clear();
        came.reserve_exact(rows.len());
        batches.iter().for_each(|commit| came.extend(commit.batch.ts.iter().map(|&ts| ts as u64)));
        let ts: Vec<i64> = rows.iter().map(|&row| came[row as usize] as i64).collect();
        came.clear();
        batches.iter().for_each(|commit| came.extend(commit.batch.values.iter().map(|value| value.to_bits())));
        let values: Vec<f64> = rows.iter().map(|&row| f64::from_bits(came[row as usize])).collect();
        room.rows = rows;
        room.shrink();
        drop(room);
        let run = Self { series, offsets, ts, values };
        if (0..run.series.len()).all(|index| is_in_order(run.rows(index).0)) { run } else { run.settled() }
    }

    /// With the rows of each series, which stand as they came, in order.
    fn settled(&self) -> Self {
        let mut settled = Self::with_capacity(self.ts.len());
        for (index, &series) in self.series.iter().enumerate() {
            let (from, (ts, values)) = (settled.ts.len(), self.rows(index));
            settled.push(series, ts, values);
            settle(&mut settled.ts, &mut settled.values, from);
        }
        settled.finish()
    }

    /// Merges `runs` (oldest first) into one.
    pub(crate) fn from_runs(runs: &[Arc<Self>]) -> Self {
        let mut merged = Self::with_capacity(runs.iter().map(|run| run.ts.len()).sum());
        let Ok(()) = merge_rows::<_, std::convert::Infallible>(runs, |rows| {
            merged.push(rows.series, rows.ts, rows.values);
            Ok(())
        });
        merged.finish()
    }

    /// Without the rows that are `hidden`, and how many those are.
    pub(crate) fn visible(self: &Arc<Self>, hidden: &Hidden) -> (Arc<Self>, u64) {
        if hidden.is_empty() {
            return (Arc::clone(self), 0);
        }
        let (mut run, mut holes) = (Self::with_capacity(self.ts.len()), Vec::new());
        for (index, &series) in self.series.iter().enumerate() {
            hidden.holes(series, &mut holes);
            let ((ts, values), mut hole, mut at) = (self.rows(index), 0, 0);
            while let Some(piece) = next_visible(ts, at, &holes, &mut hole) {
                at = piece.end;
                run.push(series, &ts[piece.clone()], &values[piece]);
            }
        }
        let run = run.finish();
        let gone = (self.ts.len() - run.ts.len()) as u64;
        (Arc::new(run), gone)
    }

    /// Adds rows after all others.
    fn push(&mut self, series: SeriesId, ts: &[i64], values: &[f64]) {
        if self.series.last() != Some(&series) {
            self.begin(series);
        }
        self.ts.extend_from_slice(ts);
        self.values.extend_from_slice(values);
    }

    /// Starts a series after all others.
    fn begin(&mut self, series: SeriesId) {
        if !self.series.is_empty() {
            self.offsets.push(self.ts.len() as u32);
        }
        self.series.push(series);
    }

    fn finish(mut self) -> Self {
        if !self.series.is_empty() {
            self.offsets.push(self.ts.len() as u32);
        }
        // It lives until the flush: no slack.
        self.series.shrink_to_fit();
        self.offsets.shrink_to_fit();
        self.ts.shrink_to_fit();
        self.values.shrink_to_fit();
        self
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        (self.series.capacity() + self.ts.capacity() + self.values.capacity()) * 8 + self.offsets.capacity() * 4
    }

    /// The rows of the series at `index`.
    pub(crate) fn rows(&self, index: usize) -> (&[i64], &[f64]) {
        let rows = self.offsets[index] as usize..self.offsets[index + 1] as usize;
        (&self.ts[rows.clone()], &self.values[rows])
    }
}
