//! The way of a cursor over the buckets of a series, in the place of its rows.
//!
//! ```text
//!  rows of the series in the segment   |··|·····|·····|····|·····|··|
//!  buckets                             |  |     |  x  |  x |     |  |      x: cut by the wanted range or a step,
//!  the cursor stands on                [b][ b  ][ rows    ][ b  ][b ]         deleted in part, or of doubtful values
//! ```
//! Every row of a series is in exactly one of its buckets, so that buckets that answer and the rows of those that do not are
//! together all rows, each once. A chunk that is damaged makes the rest of the series rows.
use crate::error::Result;
use crate::format::Reader;
use crate::rollup::{Bucket, Chunk, Rollup, Sketch};
use crate::segment::{Block, BlockDecoder, Segment};
use crate::types::{SeriesId, TimeRange};

use super::cursor::clip;

/// See the module.
#[derive(Default)]
pub(super) struct Rolled {
    chunk: Chunk,
    /// What of the rollup `chunk` is: width and index.
    loaded: Option<(usize, usize)>,
    /// Whose buckets the cursor goes over, if it does.
    series: Option<SeriesId>,
    /// The bucket to look at next, and where those of the series end in the chunk.
    next: usize,
    end: usize,
    /// No row before this instant is still to come.
    from: i64,
    /// After this there is nothing.
    over: bool,
    /// Rows to be read before the next bucket.
    window: Option<TimeRange>,
}

/// Where the way leads.
pub(super) enum Next {
    /// To a bucket that answers.
    Bucket,
    /// To rows, between these instants.
    Rows(TimeRange),
    /// Out of the series.
    End,
}

impl Rolled {
    /// Memory it holds.
    pub(super) fn bytes(&self) -> usize {
        self.chunk.bytes()
    }

    /// The series it goes over.
    pub(super) fn series(&self) -> Option<SeriesId> {
        self.series
    }

    /// Begins with the rows of `series` from the instant `from` on; whether `rollup` has buckets of this width of it.
    pub(super) fn enter(
        &mut self,
        rollup: &Rollup,
        decoder: &mut BlockDecoder,
        width: usize,
        sketches: bool,
        (series, from): (SeriesId, i64),
    ) -> bool {
        let index = rollup.chunk_of(width, series);
        if !rollup.may_hold(width, index, series) || !self.load(rollup, decoder, (width, index), sketches) {
            return false;
        }
        let Some((next, end)) = self.place_of(series) else { return false };
        (self.next, self.end, self.from, self.over, self.window) = (next, end, from, false, None);
        self.series = Some(series);
        true
    }

    /// Leaves the series.
    pub(super) fn leave(&mut self) {
        self.series = None;
    }

    /// Goes on to the next bucket that `answers`, or to rows in `range`.
    pub(super) fn next(
        &mut self,
        rollup: &Rollup,
        decoder: &mut BlockDecoder,
        range: TimeRange,
        sketches: bool,
        answers: impl Fn(&Bucket) -> bool,
    ) -> Next {
        let mut rows: Option<TimeRange> = None;
        while !self.over {
            let begin = self.from.max(range.start);
            if self.next == self.end && !self.next_chunk(rollup, decoder, sketches) {
                let ended = std::mem::replace(&mut self.over, true);
                // Damaged: all that may follow is to be read.
                if !ended && begin <= range.end {
                    rows = Some(TimeRange { start: rows.map_or(begin, |rows| rows.start), end: range.end });
                }
                break;
            }
            let bucket = &self.chunk.buckets[self.next];
            let extent = bucket.extent;
            if extent.start > range.end {
                self.over = true;
            } else if extent.end < begin {
                self.next += 1;
            } else if extent.start >= self.from && answers(bucket) {
                if rows.is_none() {
                    return Next::Bucket;
                }
                break;
            } else {
                let start = rows.map_or(extent.start.max(begin), |rows| rows.start);
                rows = Some(TimeRange { start, end: extent.end.min(range.end) });
                self.pass();
            }
        }
        rows.map_or(Next::End, Next::Rows)
    }

    /// The bucket it stands on, and its sketch if sketches are wanted.
    pub(super) fn bucket(&self) -> (&Bucket, Option<&Sketch>) {
        (&self.chunk.buckets[self.next], self.chunk.sketches.get(self.next))
    }

    /// Passes the bucket it stands on.
    pub(super) fn pass(&mut self) {
        match self.chunk.buckets[self.next].extent.end.checked_add(1) {
            Some(from) => self.from = from,
            None => self.over = true,
        }
        self.next += 1;
    }

    /// Has the rows of the bucket it stands on read.
    pub(super) fn open(&mut self) {
        self.window = Some(self.chunk.buckets[self.next].extent);
        self.pass();
    }

    /// Rows between these instants are to be read.
    pub(super) fn read(&mut self, window: TimeRange) {
        self.window = Some(window);
    }

    /// Loads and selects in `block` the next rows that are to be read, of `segment` from block `at` on, and answers where
    /// among those of the series they are; `None` when there are none, or no more.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(super) fn rows(
        &mut self,
        segment: &Segment,
        decoder: &mut BlockDecoder,
        block: &mut Block,
        (at, loaded, next): (&mut usize, &mut bool, &mut usize),
    ) -> Result<Option<std::ops::Range<usize>>> {
        let (Some(series), Some(window)) = (self.series, self.window.take()) else { return Ok(None) };
        loop {
            let Some(zone) = segment.blocks().get(*at).filter(|zone| zone.first <= series) else { return Ok(None) };
            let goes_on = zone.last <= series;
            if goes_on && (zone.last < series || zone.max_ts < window.start) {
                (*at, *loaded) = (*at + 1, false);
                continue;
            }
            if zone.outside(window) {
                return Ok(None);
            }
            if !*loaded {
                block.load(decoder, segment, *at)?;
                *loaded = true;
            }
            let Ok(k) = block.series().binary_search(&series) else {
                let at = Reader::new(&[], segment.path(), zone.offset);
                return Err(at.corrupt(format!("rows of series {}", series.0), "none"));
            };
            block.select(decoder, segment, k)?;
            *next = k + 1;
            let ts = block.ts();
            let inside = clip(ts, window);
            if let Some(&last) = ts[inside.clone()].last() {
                let start = last.checked_add(1).filter(|&start| start <= window.end);
                self.window = start.map(|start| TimeRange { start, end: window.end });
                return Ok(Some(inside));
            }
            let before = ts.last().is_some_and(|&last| last < window.start);
            if !goes_on || !before {
                return Ok(None);
            }
            (*at, *loaded) = (*at + 1, false);
        }
    }

    /// Goes to the next chunk, if it goes on with the series; otherwise it is over, or the chunk cannot be read.
    fn next_chunk(&mut self, rollup: &Rollup, decoder: &mut BlockDecoder, sketches: bool) -> bool {
        let (Some(series), Some((width, index))) = (self.series, self.loaded) else {
            self.over = true;
            return false;
        };
        let index = index + 1;
        if !rollup.may_hold(width, index, series) {
            self.over = true;
            return false;
        }
        if !self.load(rollup, decoder, (width, index), sketches) {
            return false;
        }
        match self.place_of(series) {
            Some((next, end)) => (self.next, self.end) = (next, end),
            None => self.over = true,
        }
        !self.over
    }

    fn place_of(&self, series: SeriesId) -> Option<(usize, usize)> {
        let k = self.chunk.series.binary_search(&series).ok()?;
        Some((self.chunk.offsets[k] as usize, self.chunk.offsets[k + 1] as usize))
    }

    fn load(&mut self, rollup: &Rollup, decoder: &mut BlockDecoder, place: (usize, usize), sketches: bool) -> bool {
        if self.loaded == Some(place) {
            return true;
        }
        self.loaded = None;
        match rollup.load(decoder.columns(), place, sketches, &mut self.chunk) {
            Ok(()) => self.loaded = Some(place),
            Err(error) => rollup.warn(&error),
        }
        self.loaded.is_some()
    }
}
