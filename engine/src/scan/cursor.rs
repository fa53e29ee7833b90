//! The slices of one source: rows of one wanted series in the wanted time range, in (series, ts) order.
use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::memtable::SortedRun;
use crate::segment::{Block, BlockDecoder, Segment};
use crate::types::{SeriesId, TimeRange};

/// What a scan wants.
pub(super) struct Want {
    /// Increasing.
    pub(super) ids: Vec<SeriesId>,
    pub(super) range: TimeRange,
    pub(super) values: bool,
}

/// Walks over one source. Between calls it stands on a slice, which callers consume from its front.
pub(super) struct Cursor {
    source: Place,
    /// First wanted id that may still come.
    wanted: usize,
    /// The rest of the current slice, rows inside its series.
    rows: Range<usize>,
}

enum Place {
    Segment {
        segment: Arc<Segment>,
        /// Index of the current block, or the next when none is loaded.
        at: usize,
        loaded: bool,
        block: Box<Block>,
        /// The current slice is of series `next - 1` of the block.
        next: usize,
    },
    Run {
        run: Arc<SortedRun>,
        /// The current slice is of series `next - 1` of the run.
        next: usize,
    },
}

impl Cursor {
    /// Before the first slice of `segment`.
    pub(super) fn segment(segment: Arc<Segment>) -> Self {
        let source = Place::Segment { segment, at: 0, loaded: false, block: Box::default(), next: 0 };
        Self { source, wanted: 0, rows: 0..0 }
    }

    /// Before the first slice of `run`.
    pub(super) fn run(run: Arc<SortedRun>) -> Self {
        Self { source: Place::Run { run, next: 0 }, wanted: 0, rows: 0..0 }
    }

    /// Which wanted series the slice is of.
    pub(super) fn index(&self) -> u32 {
        self.wanted as u32
    }

    /// Timestamps of the slice.
    pub(super) fn ts(&self) -> &[i64] {
        match &self.source {
            _ if self.rows.is_empty() => &[],
            Place::Segment { block, .. } => &block.ts()[self.rows.clone()],
            Place::Run { run, .. } => &run.ts[self.rows.clone()],
        }
    }

    /// Values of the slice; empty when values are not wanted.
    pub(super) fn values(&self) -> &[f64] {
        match &self.source {
            Place::Segment { block, next, .. } => block.values(next - 1).get(self.rows.clone()).unwrap_or(&[]),
            Place::Run { run, .. } => &run.values[self.rows.clone()],
        }
    }

    /// Drops the first `n` rows of the slice.
    pub(super) fn consume(&mut self, n: usize) {
        self.rows.start += n;
    }

    /// Goes to the next slice; `false` when there is none.
    pub(super) fn advance(&mut self, want: &Want, decoder: &mut BlockDecoder) -> Result<bool> {
        match &mut self.source {
            Place::Run { run, next } => {
                while let Some(k) = next_common(&run.series, *next, want, &mut self.wanted) {
                    *next = k + 1;
                    let own = run.offsets[k] as usize..run.offsets[k + 1] as usize;
                    let inside = clip(&run.ts[own.clone()], want.range);
                    self.rows = own.start + inside.start..own.start + inside.end;
                    if !self.rows.is_empty() {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Place::Segment { segment, at, loaded, block, next } => loop {
                if !*loaded {
                    let Some(index) = next_block(segment, *at, want, &mut self.wanted) else { return Ok(false) };
                    block.load(decoder, segment, index)?;
                    (*at, *loaded, *next) = (index, true, 0);
                }
                let inside = segment.blocks()[*at].inside(want.range);
                while let Some(k) = next_common(block.series(), *next, want, &mut self.wanted) {
                    *next = k + 1;
                    block.select(decoder, segment, k)?;
                    let ts = block.ts();
                    self.rows = if inside { 0..ts.len() } else { clip(ts, want.range) };
                    if !self.rows.is_empty() {
                        if want.values {
                            block.load_values(decoder, segment)?;
                        }
                        return Ok(true);
                    }
                }
                *loaded = false;
                *at += 1;
            },
        }
    }
}

/// Index, from `from` on, of the first block that may hold wanted rows; moves `wanted` up to the first id it may hold.
fn next_block(segment: &Segment, from: usize, want: &Want, wanted: &mut usize) -> Option<usize> {
    let mut at = from;
    loop {
        let &id = want.ids.get(*wanted)?;
        at += lower_bound(&segment.blocks()[at..], |zone| zone.last < id);
        let zone = segment.blocks().get(at)?;
        if zone.outside(want.range) {
            at += 1;
            continue;
        }
        if id < zone.first {
            *wanted += lower_bound(&want.ids[*wanted..], |&id| id < zone.first);
        }
        // An id that lies between the block's series but is not among them is not worth decoding for.
        *wanted += segment.series().first_contained(&want.ids[*wanted..]);
        if *want.ids.get(*wanted)? <= zone.last {
            return Some(at);
        }
    }
}

/// Index, from `from` on, of the first series that is wanted; moves `wanted` to it, or up to the first id beyond.
fn next_common(series: &[SeriesId], from: usize, want: &Want, wanted: &mut usize) -> Option<usize> {
    let mut k = from;
    loop {
        let &have = series.get(k)?;
        let &id = want.ids.get(*wanted)?;
        match have.cmp(&id) {
            std::cmp::Ordering::Equal => return Some(k),
            std::cmp::Ordering::Less => k += lower_bound(&series[k..], |&s| s < id),
            std::cmp::Ordering::Greater => *wanted += lower_bound(&want.ids[*wanted..], |&id| id < have),
        }
    }
}

/// Number of leading items that are `below`, found in steps that double because the answer is mostly near.
fn lower_bound<T>(items: &[T], below: impl Fn(&T) -> bool) -> usize {
    let mut step = 1;
    while step <= items.len() && below(&items[step - 1]) {
        step *= 2;
    }
    let from = step / 2;
    from + items[from..items.len().min(step)].partition_point(below)
}

/// The rows of `ts` inside `range`.
fn clip(ts: &[i64], range: TimeRange) -> Range<usize> {
    let start = ts.partition_point(|&t| t < range.start);
    start..start + ts[start..].partition_point(|&t| t <= range.end)
}
