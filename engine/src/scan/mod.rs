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
//! | [`merge`] | choosing among slices of the same series |
//! | [`tail`] | sorting recent batches |
//!
//! Sources are given oldest first; of rows with equal (series, ts) the one of the newest source wins. A block is decoded
//! once in a scan, and its values only if one of its rows is wanted.
use std::sync::Arc;

use crate::error::Result;
use crate::memtable::SortedRun;
use crate::segment::{BlockDecoder, Segment};
use crate::snapshot::ScanBatch;
use crate::tombstone::Hidden;
use crate::types::{SeriesId, TimeRange};
use crate::write_batch::WriteBatch;

mod cursor;
mod merge;
mod tail;
#[cfg(test)]
mod tests;

use cursor::{Cursor, Want};

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
    want: Want,
    rows_target: usize,
    /// Sources that have a slice left, oldest first.
    cursors: Vec<Cursor>,
    decoder: BlockDecoder,
    hidden_rows: u64,
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
        debug_assert!(ids.is_sorted_by(|a, b| a < b));
        let want = Want { ids, range, values: want_values };
        let mut decoder = BlockDecoder::new()?;
        let (mut cursors, mut hidden_rows) = (Vec::new(), 0);
        for visible in sources {
            let Visible { source, hidden } = visible.into();
            let mut cursor = match source {
                Source::Segment(segment) if segment.meta().may_hold(&want.ids, range) => Cursor::segment(segment),
                Source::Segment(_) => continue,
                Source::Run(run) => Cursor::run(run),
                Source::Tail(batches) => Cursor::run(Arc::new(tail::sort(&batches, &want))),
            };
            cursor.hide(hidden);
            if cursor.advance(&want, &mut decoder)? {
                cursors.push(cursor);
            } else {
                hidden_rows += cursor.hidden_rows();
            }
        }
        Ok(Self { want, rows_target: rows_target.max(1), cursors, decoder, hidden_rows })
    }

    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        let ids = self.want.ids.len() * size_of::<SeriesId>();
        self.decoder.bytes() + ids + self.cursors.iter().map(Cursor::bytes).sum::<usize>()
    }

    /// After the last batch: how many rows were passed because they are deleted.
    pub(crate) fn hidden_rows(&self) -> u64 {
        self.hidden_rows
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
            self.cursors.clear();
            batch.runs.clear();
            batch.ts.clear();
            batch.values.clear();
        }
        filled?;
        Ok(!batch.ts.is_empty())
    }

    fn fill(&mut self, batch: &mut ScanBatch) -> Result<()> {
        while batch.ts.len() < self.rows_target && !self.cursors.is_empty() {
            let choice = merge::choose(&self.cursors, self.rows_target - batch.ts.len());
            let chosen = &mut self.cursors[choice.cursor];
            let (index, ts, values) = (chosen.index(), &chosen.ts()[..choice.rows], chosen.values());
            batch.ts.extend_from_slice(ts);
            if self.want.values {
                batch.values.extend_from_slice(&values[..choice.rows]);
            }
            match batch.runs.last_mut() {
                Some((last, rows)) if *last == index => *rows += choice.rows as u32,
                _ => batch.runs.push((index, choice.rows as u32)),
            }
            if choice.superseded {
                // The row just copied wins over the same (series, ts) of every older source.
                let t = ts[0];
                let older = |cursor: &Cursor| cursor.index() == index && cursor.ts()[0] == t;
                self.consume_where(choice.cursor, older)?;
            } else {
                self.consume(choice.cursor, choice.rows)?;
            }
        }
        Ok(())
    }

    fn consume(&mut self, at: usize, rows: usize) -> Result<()> {
        self.cursors[at].consume(rows);
        if self.cursors[at].ts().is_empty() && !self.cursors[at].advance(&self.want, &mut self.decoder)? {
            self.hidden_rows += self.cursors.remove(at).hidden_rows();
        }
        Ok(())
    }

    /// Consumes one row of each cursor up to `newest` for which `which` holds.
    fn consume_where(&mut self, newest: usize, which: impl Fn(&Cursor) -> bool) -> Result<()> {
        // From the newest down, because a cursor that ends is removed.
        for at in (0..=newest).rev() {
            if which(&self.cursors[at]) {
                self.consume(at, 1)?;
            }
        }
        Ok(())
    }
}
