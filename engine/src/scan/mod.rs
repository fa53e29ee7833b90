//! Reads the rows of some series from segments and memtables as one sorted, deduplicated stream.
//!
//! ```text
//!  segment ──> cursor ─┐
//!  segment ──> cursor ─┤   slices of one series,    one source: copied whole        ScanBatch
//!  run     ──> cursor ─┼── lowest series first ───> several: copied up to where ──> runs, ts, values
//!  tail    ──> cursor ─┘                            the next source begins
//! ```
//! | module | owns |
//! |---|---|
//! | [`cursor`] | the slices of one source, segments pruned by zone map and decoded block by block |
//! | [`cursors`] | all sources of a scan: opened, consumed, dropped when they end |
//! | [`merge`] | choosing among slices of the same series |
//! | [`tail`] | sorting recent batches |
//! | [`aggregate`] | the same rows, summed up by series and step of time |
//! | [`whole`] | which blocks and buckets an aggregation need not read, because what is known of them says enough |
//! | [`rolled`] | going over the buckets of a series instead of its rows |
//! | [`fold`] | adding rows and zone maps up |
//!
//! Sources are given oldest first; of rows with equal (series, ts) the one of the newest source wins. A block is decoded
//! once in a scan, and its values only if one of its rows is wanted.
use std::sync::Arc;

use crate::error::Result;
use crate::memtable::SortedRun;
use crate::segment::{BlockDecoder, Segment};
use crate::snapshot::{ScanBatch, ScanSlice};
use crate::tombstone::Hidden;
use crate::types::{SeriesId, TimeRange};
use crate::write_batch::WriteBatch;

mod aggregate;
mod cursor;
mod cursors;
mod fold;
mod merge;
mod rolled;
mod tail;
#[cfg(test)]
mod tests;
mod whole;

pub(crate) use aggregate::Aggregation;
use cursor::Want;
use cursors::Cursors;
pub(crate) use fold::Step;
use merge::Choice;

/// A place that rows come from.
pub(crate) enum Source {
    /// A file.
    Segment(Arc<Segment>),
    /// A sorted part of a memtable.
    Run(Arc<SortedRun>),
    /// Recent batches as they were committed, oldest first.
    Tail(Vec<Arc<WriteBatch>>),
}

/// A source, and which of its rows were deleted since.
pub(crate) struct Visible {
    pub(crate) source: Source,
    pub(crate) hidden: Hidden,
}

impl From<Source> for Visible {
    fn from(source: Source) -> Self {
        Self { source, hidden: Hidden::default() }
    }
}

/// A running scan.
pub(crate) struct Scan {
    rows_target: usize,
    cursors: Cursors,
    /// What was handed out last; it is passed when more is asked for.
    taken: Option<Choice>,
}

impl Scan {
    /// Scans `sources` (oldest first) for `ids` (increasing) in `range`. Values are decoded only if `want_values`; batches
    /// then hold about `rows_target` rows.
    ///
    /// # Errors
    /// `Io` or `Corruption` of the first blocks.
    pub(crate) fn new(
        sources: impl IntoIterator<Item = impl Into<Visible>>,
        ids: Vec<SeriesId>,
        range: TimeRange,
        want_values: bool,
        rows_target: usize,
    ) -> Result<Self> {
        let want = Want { ids, range, values: want_values, answers: None };
        let cursors = Cursors::open(sources, want, BlockDecoder::sharing())?;
        Ok(Self { rows_target: rows_target.max(1), cursors, taken: None })
    }

    /// As [`Scan::new`], over all rows of `ids` in files that are read for the last time: nothing of them is kept for others.
    ///
    /// # Errors
    /// As [`Scan::new`].
    pub(crate) fn last(
        sources: impl IntoIterator<Item = impl Into<Visible>>,
        ids: Vec<SeriesId>,
        rows_target: usize,
    ) -> Result<Self> {
        let want = Want { ids, range: TimeRange::ALL, values: true, answers: None };
        let cursors = Cursors::open(sources, want, BlockDecoder::alone())?;
        Ok(Self { rows_target: rows_target.max(1), cursors, taken: None })
    }

    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        self.cursors.bytes()
    }

    /// After the last batch: how many rows were passed because they are deleted.
    pub(crate) fn hidden_rows(&self) -> u64 {
        self.cursors.hidden_rows()
    }

    /// Replaces `batch` with the next rows, at most `rows_target` of them; `false` when there are no more. After an error
    /// the scan is over.
    ///
    /// # Errors
    /// `Corruption` with path and offset: never a partial answer without an error.
    pub(crate) fn next_batch(&mut self, batch: &mut ScanBatch) -> Result<bool> {
        batch.runs.clear();
        batch.ts.clear();
        batch.values.clear();
        let filled = self.fill(batch);
        if filled.is_err() {
            batch.runs.clear();
            batch.ts.clear();
            batch.values.clear();
        }
        filled?;
        Ok(!batch.ts.is_empty())
    }

    fn fill(&mut self, batch: &mut ScanBatch) -> Result<()> {
        while batch.ts.len() < self.rows_target {
            let rows_max = self.rows_target - batch.ts.len();
            let Some(slice) = self.slice(rows_max)? else { break };
            batch.ts.extend_from_slice(slice.ts);
            batch.values.extend_from_slice(slice.values);
            match batch.runs.last_mut() {
                Some((last, rows)) if *last == slice.index => *rows += slice.ts.len() as u32,
                _ => batch.runs.push((slice.index, slice.ts.len() as u32)),
            }
        }
        Ok(())
    }

    /// The next rows, of one series and at most `rows_target`, where they lie; `None` when there are no more. After an error the
    /// scan is over.
    ///
    /// # Errors
    /// As [`Scan::next_batch`].
    pub(crate) fn next_slice(&mut self) -> Result<Option<ScanSlice<'_>>> {
        self.slice(self.rows_target)
    }

    fn slice(&mut self, rows_max: usize) -> Result<Option<ScanSlice<'_>>> {
        if let Some(Choice { cursor, rows, superseded }) = self.taken.take() {
            let passed = if superseded { self.cursors.supersede(cursor) } else { self.cursors.consume(cursor, rows) };
            if let Err(error) = passed {
                self.cursors.end();
                return Err(error);
            }
        }
        if self.cursors.list().is_empty() {
            return Ok(None);
        }
        let choice = merge::choose(self.cursors.list(), rows_max);
        let rows = choice.rows;
        let chosen = &self.cursors.list()[choice.cursor];
        self.taken = Some(choice);
        let values = if self.cursors.want().values { &chosen.values()[..rows] } else { &[] };
        Ok(Some(ScanSlice { index: chosen.index(), ts: &chosen.ts()[..rows], values }))
    }
}
