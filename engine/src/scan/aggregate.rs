//! The rows of a scan, summed up by series and step of time; blocks that need not be read are not.
use crate::error::Result;
use crate::segment::BlockDecoder;
use crate::snapshot::{AggregateBatch, Statistics};
use crate::types::{SeriesId, TimeRange};

use super::Visible;
use super::cursor::Want;
use super::cursors::Cursors;
use super::fold::{Fold, Step};
use super::merge::{Lowest, lowest, rows_before};
use super::whole::Answers;

/// Rows of a slice that are added at a time.
const ROWS_AT_ONCE: usize = 8 << 10;
/// Rows that are read for one batch at most, so that a caller who was told to stop can.
const ROWS_READ_MAX: usize = 1 << 20;

/// A running aggregation.
pub(crate) struct Aggregation {
    cursors: Cursors,
    fold: Fold,
    rows_target: usize,
    rows_unread: u64,
    rows_rolled_up: u64,
}

impl Aggregation {
    /// Aggregates the rows of `ids` (increasing) in `range` from `sources` (oldest first). `groups` says of each id which
    /// rows may be added up though they are of several series; empty: none.
    ///
    /// # Errors
    /// `Io` or `Corruption` of the first blocks.
    pub(crate) fn new(
        sources: impl IntoIterator<Item = impl Into<Visible>>,
        (ids, groups): (Vec<SeriesId>, Vec<u32>),
        range: TimeRange,
        step: Step,
        statistics: Statistics,
        rows_target: usize,
    ) -> Result<Self> {
        debug_assert!(groups.is_empty() || groups.len() == ids.len());
        let answers = Some(Answers { step, statistics, groups });
        let want = Want { ids, range, values: statistics.of_values(), answers };
        let cursors = Cursors::open(sources, want, BlockDecoder::sharing())?;
        let (fold, rows_target) = (Fold::new(step, statistics), rows_target.max(1));
        Ok(Self { cursors, fold, rows_target, rows_unread: 0, rows_rolled_up: 0 })
    }

    /// Rows so far that were not read, because the zone map of their block or the bucket of a rollup said enough.
    pub(crate) fn rows_unread(&self) -> u64 {
        self.rows_unread
    }

    /// Those of them that buckets of rollups answered for.
    pub(crate) fn rows_rolled_up(&self) -> u64 {
        self.rows_rolled_up
    }

    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        self.cursors.bytes()
    }

    /// Replaces `batch` with the next aggregates, perhaps none; `false` when there are no more. After an error it is over.
    ///
    /// # Errors
    /// `Corruption` with path and offset: never a partial answer without an error.
    pub(crate) fn next_batch(&mut self, batch: &mut AggregateBatch) -> Result<bool> {
        batch.clear();
        let filled = self.fill(batch);
        if filled.is_err() {
            self.cursors.end();
            self.fold.finish(batch);
            batch.clear();
        }
        filled?;
        Ok(!batch.starts.is_empty() || !self.cursors.list().is_empty() || self.fold.is_open())
    }

    fn fill(&mut self, batch: &mut AggregateBatch) -> Result<()> {
        let mut read = 0;
        while batch.starts.len() < self.rows_target && read < ROWS_READ_MAX {
            if self.cursors.list().is_empty() {
                self.fold.finish(batch);
                return Ok(());
            }
            read += self.step(batch)?;
        }
        Ok(())
    }

    /// Adds a block, a bucket or a slice; answers what that cost, in rows.
    fn step(&mut self, batch: &mut AggregateBatch) -> Result<usize> {
        let Lowest { cursor: at, head: (index, ts), bound } = lowest(self.cursors.list());
        let list = self.cursors.list();
        if let Some(whole) = list[at].whole() {
            let rows = whole.rows;
            let mut others = list.iter().enumerate().filter(|(other, _)| *other != at);
            if others.any(|(_, other)| other.interferes(whole)) {
                self.cursors.open_whole(at)?;
                return Ok(rows.min(ROWS_READ_MAX as u64) as usize);
            }
            self.fold.whole(whole, list[at].sketch(), batch);
            self.rows_unread += rows;
            self.rows_rolled_up += if whole.rolled { rows } else { 0 };
            self.cursors.pass_whole(at)?;
            return Ok(1);
        }
        let slice = &list[at];
        let rows = match bound {
            Some(bound) if bound == ts => {
                // An older block with this row is to be read, so that the row can be passed there.
                if let Some(older) = list.iter().position(|c| c.whole().is_some() && c.head() == (index, ts)) {
                    self.cursors.open_whole(older)?;
                    return Ok(1);
                }
                1
            }
            Some(bound) => rows_before(slice.ts(), bound).min(ROWS_AT_ONCE),
            None => slice.ts().len().min(ROWS_AT_ONCE),
        };
        let values = if self.cursors.want().values { &slice.values()[..rows] } else { &[] };
        self.fold.rows(index, &slice.ts()[..rows], values, batch);
        if bound == Some(ts) {
            self.cursors.supersede(at)?;
        } else {
            self.cursors.consume(at, rows)?;
        }
        Ok(rows)
    }
}
