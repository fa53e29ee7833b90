//! All sources of a scan, each at its place.
use std::sync::Arc;

use crate::error::Result;
use crate::memtable::SortedRun;
use crate::segment::BlockDecoder;
use crate::types::{SeriesId, TimeRange};

use super::cursor::{Cursor, Want};
use super::{Source, Visible, tail};

/// Cursors that have rows left, oldest source first, and what they need to go on.
pub(super) struct Cursors {
    want: Want,
    list: Vec<Cursor>,
    decoder: BlockDecoder,
    hidden_rows: u64,
}

impl Cursors {
    /// Opens `sources` (oldest first), to be read with `decoder`.
    ///
    /// # Errors
    /// `Io` or `Corruption` of the first blocks.
    pub(super) fn open(
        sources: impl IntoIterator<Item = impl Into<Visible>>,
        want: Want,
        decoder: BlockDecoder,
    ) -> Result<Self> {
        debug_assert!(want.ids.is_sorted_by(|a, b| a < b));
        let mut this = Self { want, list: Vec::new(), decoder, hidden_rows: 0 };
        for visible in sources {
            let Visible { source, hidden } = visible.into();
            let mut cursor = match source {
                Source::Segment(segment) if segment.meta().may_hold(&this.want.ids, this.want.range) => {
                    Cursor::segment(segment)
                }
                Source::Segment(_) => continue,
                Source::Run(run) => this.run(run),
                Source::Tail(batches) => this.run(Arc::new(tail::sort(&batches, &this.want))),
            };
            cursor.hide(hidden);
            this.list.push(cursor);
            this.advance(this.list.len() - 1)?;
        }
        Ok(this)
    }

    /// The extent of a run is looked for only if it can spare reading blocks of several series.
    fn run(&self, run: Arc<SortedRun>) -> Cursor {
        let grouped = self.want.answers.as_ref().is_some_and(|answers| answers.grouped());
        let bounds = |run: &SortedRun| Some(TimeRange { start: *run.ts.iter().min()?, end: *run.ts.iter().max()? });
        let extent = if grouped { bounds(&run) } else { None };
        Cursor::run(run, extent.unwrap_or(TimeRange::ALL))
    }

    /// What is wanted of them.
    pub(super) fn want(&self) -> &Want {
        &self.want
    }

    /// They themselves.
    pub(super) fn list(&self) -> &[Cursor] {
        &self.list
    }

    /// Memory they hold, about.
    pub(super) fn bytes(&self) -> usize {
        let groups = self.want.answers.as_ref().map_or(0, |answers| answers.groups.len() * size_of::<u32>());
        let wanted = self.want.ids.len() * size_of::<SeriesId>() + groups;
        self.decoder.bytes() + wanted + self.list.iter().map(Cursor::bytes).sum::<usize>()
    }

    /// Rows that were passed because they are hidden, of sources that have ended.
    pub(super) fn hidden_rows(&self) -> u64 {
        self.hidden_rows
    }

    /// There is nothing more to read.
    pub(super) fn end(&mut self) {
        self.list.clear();
    }

    /// Consumes `rows` rows of cursor `at`.
    pub(super) fn consume(&mut self, at: usize, rows: usize) -> Result<()> {
        self.list[at].consume(rows);
        if self.list[at].ts().is_empty() { self.advance(at) } else { Ok(()) }
    }

    /// Consumes the row that cursor `newest` stands on, and the same (series, ts) of every older source.
    pub(super) fn supersede(&mut self, newest: usize) -> Result<()> {
        let head = self.list[newest].head();
        // From the newest down, because a cursor that ends is removed.
        for at in (0..=newest).rev() {
            if self.list[at].head() == head {
                self.consume(at, 1)?;
            }
        }
        Ok(())
    }

    /// Passes the block or bucket that cursor `at` stands on.
    pub(super) fn pass_whole(&mut self, at: usize) -> Result<()> {
        self.list[at].pass_whole();
        self.advance(at)
    }

    /// Opens the block or bucket that cursor `at` stands on.
    pub(super) fn open_whole(&mut self, at: usize) -> Result<()> {
        self.list[at].open_whole(&mut self.decoder)?;
        self.advance(at)
    }

    fn advance(&mut self, at: usize) -> Result<()> {
        if !self.list[at].advance(&self.want, &mut self.decoder)? {
            self.hidden_rows += self.list.remove(at).hidden_rows();
        }
        Ok(())
    }
}
