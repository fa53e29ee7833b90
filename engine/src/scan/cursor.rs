//! The slices of one source: rows of one wanted series in the wanted time range, in (series, ts) order.
//!
//! An aggregation also lets it stand on something whole that nobody has read, a block or a bucket of a rollup: its caller
//! takes what is known of it, or has it opened and gets the slices. Blocks are tried first, as they hold more rows.
use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::memtable::SortedRun;
use crate::pool::Lent;
use crate::rollup::{Bucket, Sketch};
use crate::segment::{Block, BlockDecoder, Segment};
use crate::tombstone::{Hidden, next_visible};
use crate::types::{SeriesId, TimeRange};

use super::rolled::{Next, Rolled};
use super::whole::{Answers, Whole};

/// What a scan wants.
pub(super) struct Want {
    /// Increasing.
    pub(super) ids: Vec<SeriesId>,
    pub(super) range: TimeRange,
    pub(super) values: bool,
    /// Which blocks and buckets need not be read, if some need not.
    pub(super) answers: Option<Answers>,
}

/// Walks over one source. Between calls it stands on a slice, which callers consume from its front, or on something
/// whole.
pub(super) struct Cursor {
    source: Place,
    /// All its rows are inside.
    extent: TimeRange,
    /// The block or bucket it stands on, if it is not read.
    whole: Option<Whole>,
    /// First wanted id that may still come.
    wanted: usize,
    /// The rest of the current slice, rows inside its series.
    rows: Range<usize>,
    /// Rows of the same series that follow, some of which may be hidden.
    ahead: Range<usize>,
    hidden: Hidden,
    /// Where rows of the current series are hidden, and how many of these stretches are passed.
    holes: Vec<TimeRange>,
    hole: usize,
    hidden_rows: u64,
}

enum Place {
    Segment {
        segment: Arc<Segment>,
        /// Index of the current block, or the next when none is loaded.
        at: usize,
        loaded: bool,
        block: Lent<Block>,
        /// The current slice is of series `next - 1` of the block.
        next: usize,
        /// Where it is among buckets, if it ever was.
        rolled: Option<Box<Rolled>>,
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
        let extent = TimeRange { start: segment.meta().min_ts, end: segment.meta().max_ts };
        let place = Place::Segment { segment, at: 0, loaded: false, block: Block::lend(), next: 0, rolled: None };
        Self::at(place, extent)
    }

    /// Before the first slice of `run`, all of whose rows are in `extent`.
    pub(super) fn run(run: Arc<SortedRun>, extent: TimeRange) -> Self {
        Self::at(Place::Run { run, next: 0 }, extent)
    }

    fn at(source: Place, extent: TimeRange) -> Self {
        let (rows, ahead, hidden, holes) = (0..0, 0..0, Hidden::default(), Vec::new());
        Self { source, extent, whole: None, wanted: 0, rows, ahead, hidden, holes, hole: 0, hidden_rows: 0 }
    }

    /// Leaves out what is `hidden`.
    pub(super) fn hide(&mut self, hidden: Hidden) {
        self.hidden = hidden;
    }

    /// Rows that were passed because they are hidden.
    pub(super) fn hidden_rows(&self) -> u64 {
        self.hidden_rows
    }

    /// Memory that only this cursor holds.
    pub(super) fn bytes(&self) -> usize {
        match &self.source {
            Place::Segment { block, rolled, .. } => block.bytes() + rolled.as_ref().map_or(0, |rolled| rolled.bytes()),
            // A run of a memtable is shared with it; a sorted tail is ours.
            Place::Run { run, .. } if Arc::strong_count(run) == 1 => run.bytes(),
            Place::Run { .. } => 0,
        }
    }

    /// Which wanted series the slice is of.
    pub(super) fn index(&self) -> u32 {
        self.wanted as u32
    }

    /// Series and time of the row it stands on; of something whole the first of either.
    pub(super) fn head(&self) -> (u32, i64) {
        (self.index(), self.whole.as_ref().map_or_else(|| self.ts()[0], |whole| whole.extent.start))
    }

    /// The block or bucket it stands on, if it is not read.
    pub(super) fn whole(&self) -> Option<&Whole> {
        self.whole.as_ref()
    }

    /// The sketch of that bucket, if sketches are wanted.
    pub(super) fn sketch(&self) -> Option<&Sketch> {
        match (&self.source, &self.whole) {
            (Place::Segment { rolled: Some(rolled), .. }, Some(whole)) if whole.rolled => rolled.bucket().1,
            _ => None,
        }
    }

    /// Whether rows that it has not passed may be of the series of `whole`, which begins no later than it stands, and
    /// between its first and its last.
    pub(super) fn interferes(&self, whole: &Whole) -> bool {
        let (index, ts) = self.head();
        let beyond = index > whole.last || whole.first == whole.last && ts > whole.extent.end;
        !beyond && self.extent.overlaps(whole.extent)
    }

    /// Passes the block or bucket that it stands on: it was answered.
    pub(super) fn pass_whole(&mut self) {
        let (Place::Segment { at, rolled, .. }, Some(whole)) = (&mut self.source, self.whole.take()) else { return };
        match rolled {
            Some(rolled) if whole.rolled => rolled.pass(),
            _ => *at += 1,
        }
    }

    /// Opens the block or bucket that it stands on. [`Cursor::advance`] then goes to its first slice, or to the first bucket
    /// of the block.
    pub(super) fn open_whole(&mut self, decoder: &mut BlockDecoder) -> Result<()> {
        let (Place::Segment { segment, at, loaded, block, next, rolled }, Some(whole)) =
            (&mut self.source, self.whole.take())
        else {
            return Ok(());
        };
        match rolled {
            Some(rolled) if whole.rolled => rolled.open(),
            _ => {
                block.load(decoder, segment, *at)?;
                (*loaded, *next) = (true, 0);
            }
        }
        Ok(())
    }

    /// Timestamps of the slice.
    pub(super) fn ts(&self) -> &[i64] {
        if self.rows.is_empty() { &[] } else { self.source.ts(&self.rows) }
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

    /// Goes to the next slice that shows, or to something whole; `false` when there is neither.
    pub(super) fn advance(&mut self, want: &Want, decoder: &mut BlockDecoder) -> Result<bool> {
        loop {
            if self.ahead.is_empty() && !self.next_series(want, decoder)? {
                return Ok(false);
            }
            if self.whole.is_some() {
                return Ok(true);
            }
            let (from, rows) = (self.ahead.start, self.ahead.len());
            let visible = next_visible(self.source.ts(&self.ahead), 0, &self.holes, &mut self.hole);
            let piece = visible.unwrap_or(rows..rows);
            self.hidden_rows += piece.start as u64;
            self.rows = from + piece.start..from + piece.end;
            self.ahead.start = self.rows.end;
            if !self.rows.is_empty() {
                if want.values {
                    self.source.load_values(decoder, want, self.wanted)?;
                }
                return Ok(true);
            }
        }
    }

    /// Goes to the next wanted series with rows in the wanted range, or to what need not be read; `false` when there is
    /// neither.
    fn next_series(&mut self, want: &Want, decoder: &mut BlockDecoder) -> Result<bool> {
        self.ahead = match &mut self.source {
            Place::Run { run, next } => loop {
                let Some(k) = next_common(&run.series, *next, want, &mut self.wanted) else { return Ok(false) };
                *next = k + 1;
                let own = run.offsets[k] as usize..run.offsets[k + 1] as usize;
                let inside = clip(&run.ts[own.clone()], want.range);
                if !inside.is_empty() {
                    break own.start + inside.start..own.start + inside.end;
                }
            },
            Place::Segment { segment, at, loaded, block, next, rolled } => loop {
                if let (Some(rolled), Some(answers)) = (rolled.as_deref_mut(), want.answers.as_ref())
                    && let (Some(series), Some(rollup)) = (rolled.series(), segment.rollup())
                {
                    if let Some(rows) = rolled.rows(segment, decoder, block, (&mut *at, &mut *loaded, &mut *next))? {
                        break rows;
                    }
                    let says = |bucket: &Bucket| answers.bucket(bucket, series, want.range, &self.hidden);
                    match rolled.next(rollup, decoder, want.range, answers.statistics.sketch, says) {
                        Next::Bucket => {
                            self.whole = Some(Whole::of_bucket(rolled.bucket().0, self.wanted));
                            return Ok(true);
                        }
                        Next::Rows(window) => rolled.read(window),
                        Next::End => {
                            rolled.leave();
                            self.wanted += 1;
                        }
                    }
                    continue;
                }
                if !*loaded {
                    let Some(index) = next_block(segment, *at, want, &mut self.wanted) else { return Ok(false) };
                    *at = index;
                    let answers = want.answers.as_ref();
                    self.whole =
                        answers.and_then(|answers| answers.whole(segment, index, want, self.wanted, &self.hidden));
                    if self.whole.is_some() {
                        return Ok(true);
                    }
                    if enter(rolled, segment, index, want, self.wanted, decoder) {
                        continue;
                    }
                    block.load(decoder, segment, index)?;
                    (*loaded, *next) = (true, 0);
                }
                let Some(k) = next_common(block.series(), *next, want, &mut self.wanted) else {
                    *loaded = false;
                    *at += 1;
                    continue;
                };
                *next = k + 1;
                if enter(rolled, segment, *at, want, self.wanted, decoder) {
                    continue;
                }
                block.select(decoder, segment, k)?;
                let ts = block.ts();
                let inside = if segment.blocks()[*at].inside(want.range) { 0..ts.len() } else { clip(ts, want.range) };
                if !inside.is_empty() {
                    break inside;
                }
            },
        };
        self.hole = 0;
        if !self.hidden.is_empty() {
            self.hidden.holes(want.ids[self.wanted], &mut self.holes);
        }
        Ok(true)
    }
}

impl Place {
    /// Timestamps of some rows of the current series.
    fn ts(&self, rows: &Range<usize>) -> &[i64] {
        match self {
            Self::Segment { block, .. } => &block.ts()[rows.clone()],
            Self::Run { run, .. } => &run.ts[rows.clone()],
        }
    }

    /// Makes the values of the series from number `wanted` on, as far as they are in the current block, readable.
    fn load_values(&mut self, decoder: &mut BlockDecoder, want: &Want, wanted: usize) -> Result<()> {
        match self {
            Self::Segment { segment, block, .. } => {
                // Buckets of a rollup that are opened may begin and end anywhere.
                let range = if want.answers.is_some() { TimeRange::ALL } else { want.range };
                block.load_values_of(decoder, segment, &want.ids[wanted..], range)
            }
            Self::Run { .. } => Ok(()),
        }
    }
}

/// Whether the cursor, which has come to the first row in block `at` of wanted series number `wanted`, goes over the buckets
/// of that series from there on.
fn enter(
    rolled: &mut Option<Box<Rolled>>,
    segment: &Segment,
    at: usize,
    want: &Want,
    wanted: usize,
    decoder: &mut BlockDecoder,
) -> bool {
    let (Some(answers), Some(rollup)) = (&want.answers, segment.rollup()) else { return false };
    let Some(width) = rollup.width_for(answers.step.width_ns()) else { return false };
    let (series, zone) = (want.ids[wanted], &segment.blocks()[at]);
    let goes_on = at > 0 && segment.blocks()[at - 1].last == series;
    let from = match zone.series {
        _ if !goes_on => i64::MIN,
        1 => zone.min_ts,
        // Where its rows begin in this block is not known.
        _ => return false,
    };
    let rolled = rolled.get_or_insert_default();
    rolled.enter(rollup, decoder, width, answers.statistics.sketch, (series, from))
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
pub(super) fn clip(ts: &[i64], range: TimeRange) -> Range<usize> {
    let start = ts.partition_point(|&t| t < range.start);
    start..start + ts[start..].partition_point(|&t| t <= range.end)
}
