//! The timelines of a segment being written: finds the timestamps of a series among those of the series before it.
//!
//! All series of a scrape have the same timestamps, but stand far apart in a segment, which is sorted by metric. Each
//! distinct sequence is therefore written once, into a page, and blocks refer to it. Whole sequences are found by a
//! fingerprint. A series that began later, ended sooner or missed some scrapes has slices of the sequences of its
//! target: they are found by *anchors*, the timestamps whose hash has some zero bits, and grown to both sides. Whatever is
//! found is compared in full.
use std::ops::Range;

use hashbrown::HashMap;

use crate::codec::{Packer, ROWS_MAX, Span, TimelinesEncoder};

/// Memory of timelines that are kept to be found again, when nothing else is said.
pub(super) const BYTES_MAX: usize = RESIDENT_ROWS_MAX * ROW_BYTES;
const RESIDENT_ROWS_MAX: usize = 8 << 20;
/// Memory of a timestamp that is kept: itself, its part of an anchor, and of what a timeline costs.
const ROW_BYTES: usize = 20;
/// A timeline costs as much as so many timestamps.
const TIMELINE_ROWS: usize = 8;
/// Shorter slices are not worth a span of their own.
const SPAN_ROWS_MIN: usize = 16;
/// Top bits that are zero in the hash of an anchor: one timestamp in 8 is one.
const ANCHOR_BITS: u32 = 3;

/// A full page, encoded.
pub(super) struct SealedPage {
    pub(super) bytes: Vec<u8>,
    pub(super) timelines: u32,
}

/// See the module.
#[derive(Default)]
pub(super) struct TimelineTable {
    /// Timelines so far, of the whole segment.
    count: u32,
    /// The timeline before which all others have been forgotten.
    base: u32,
    /// Timeline `base + k` is `ts[starts[k]..starts[k + 1]]`, if `k + 1` is there.
    starts: Vec<usize>,
    ts: Vec<i64>,
    whole: HashMap<u64, u32>,
    /// Timeline and row of an anchor.
    anchors: HashMap<i64, (u32, u32)>,
    /// Rows that may be kept.
    rows_max: usize,
    /// Rows that were found since `base`.
    found: usize,
    /// The timeline used last.
    last: u32,
    page: TimelinesEncoder,
    sealed: Vec<SealedPage>,
}

impl TimelineTable {
    /// One that keeps timelines in about `bytes_max` of memory.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { rows_max: bytes_max / ROW_BYTES, ..Self::default() }
    }

    /// Replaces `spans` with those that give `own`, which is not empty and at most [`ROWS_MAX`] long. What is new becomes
    /// a timeline.
    pub(super) fn find(&mut self, packer: &mut Packer, own: &[i64], spans: &mut Vec<Span>) {
        spans.clear();
        if self.push_whole(own, spans) {
            return;
        }
        let mut done = 0;
        while let Some((rows, timeline, from)) = self.next_slice(own, done) {
            if done < rows.start {
                self.push_new(packer, &own[done..rows.start], spans);
            }
            spans.push(Span { timeline, from, rows: rows.len() as u32 });
            self.found += rows.len();
            self.last = timeline;
            done = rows.end;
        }
        if done < own.len() {
            self.push_new(packer, &own[done..], spans);
        }
    }

    /// Takes the pages that are full.
    pub(super) fn take_sealed(&mut self) -> Vec<SealedPage> {
        std::mem::take(&mut self.sealed)
    }

    /// Ends the page that is being filled, if it holds anything.
    pub(super) fn seal(&mut self, packer: &mut Packer) {
        if self.page.len() > 0 {
            let timelines = self.page.len() as u32;
            let mut bytes = Vec::new();
            self.page.finish(packer, &mut bytes);
            self.sealed.push(SealedPage { bytes, timelines });
        }
    }

    /// Timestamps of a timeline that is still in memory.
    fn get(&self, timeline: u32) -> Option<&[i64]> {
        let k = timeline.checked_sub(self.base)? as usize;
        Some(&self.ts[*self.starts.get(k)?..*self.starts.get(k + 1)?])
    }

    /// Adds a span if a timeline is exactly `own`.
    fn push_whole(&mut self, own: &[i64], spans: &mut Vec<Span>) -> bool {
        let is = |timeline: u32| self.get(timeline).is_some_and(|ts| ts == own);
        // The same target again, as with the cores of a machine, or the target after it.
        let near = [self.last, self.last.wrapping_add(1)].into_iter().find(|&timeline| is(timeline));
        let found = near.or_else(|| self.whole.get(&fingerprint(own)).copied().filter(|&timeline| is(timeline)));
        if let Some(timeline) = found {
            spans.push(Span { timeline, from: 0, rows: own.len() as u32 });
            self.found += own.len();
            self.last = timeline;
        }
        found.is_some()
    }

    fn push_new(&mut self, packer: &mut Packer, own: &[i64], spans: &mut Vec<Span>) {
        if !self.push_whole(own, spans) {
            self.last = self.add(packer, own);
            spans.push(Span { timeline: self.last, from: 0, rows: own.len() as u32 });
        }
    }

    /// The first rows of `own`, from `done` on, that a timeline has too: which rows, the timeline and its row.
    fn next_slice(&self, own: &[i64], done: usize) -> Option<(Range<usize>, u32, u32)> {
        let anchors = (done..own.len()).filter(|&row| is_anchor(own[row]));
        anchors.filter_map(|row| Some((row, *self.anchors.get(&own[row])?))).find_map(|(row, (timeline, from))| {
            let (ts, from) = (self.get(timeline)?, from as usize);
            let same = |(a, b): &(&i64, &i64)| a == b;
            let after = own[row..].iter().zip(&ts[from..]).take_while(same).count();
            let before = own[done..row].iter().rev().zip(ts[..from].iter().rev()).take_while(same).count();
            (after + before >= SPAN_ROWS_MIN).then_some((row - before..row + after, timeline, (from - before) as u32))
        })
    }

    /// A new timeline, also to be found again if there is room.
    fn add(&mut self, packer: &mut Packer, own: &[i64]) -> u32 {
        if self.page.rows() + own.len() > ROWS_MAX {
            self.seal(packer);
        }
        self.page.push(own);
        let timeline = self.count;
        self.count += 1;
        if !self.has_room(own.len()) && self.found < self.ts.len() {
            // What is here was of little use: other series may do better.
            self.forget(timeline);
        }
        // Only a row of timelines without a gap can be found by number.
        let follows = timeline - self.base == self.starts.len().saturating_sub(1) as u32;
        if follows && self.has_room(own.len()) {
            self.keep(timeline, own);
        }
        timeline
    }

    fn has_room(&self, rows: usize) -> bool {
        self.ts.len() + rows <= self.rows_max && self.starts.len() <= self.rows_max / TIMELINE_ROWS
    }

    fn forget(&mut self, base: u32) {
        self.base = base;
        self.found = 0;
        self.starts.clear();
        self.ts.clear();
        self.whole.clear();
        self.anchors.clear();
    }

    fn keep(&mut self, timeline: u32, own: &[i64]) {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.ts.extend_from_slice(own);
        self.starts.push(self.ts.len());
        self.whole.insert(fingerprint(own), timeline);
        if own.len() < SPAN_ROWS_MIN {
            return;
        }
        for (row, &ts) in own.iter().enumerate().filter(|(_, ts)| is_anchor(**ts)) {
            let longer = |&(other, _): &(u32, u32)| self.get(other).is_some_and(|ts| ts.len() >= own.len());
            if !self.anchors.get(&ts).is_some_and(longer) {
                self.anchors.insert(ts, (timeline, row as u32));
            }
        }
    }
}

/// An odd number that spreads bits: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

fn is_anchor(ts: i64) -> bool {
    (ts as u64).wrapping_mul(SPREAD) >> (64 - ANCHOR_BITS) == 0
}

/// Tells sequences apart, nearly always.
fn fingerprint(ts: &[i64]) -> u64 {
    let sum = (1u64..).zip(ts).fold(0u64, |sum, (k, &t)| sum.wrapping_add((t as u64 ^ SPREAD).wrapping_mul(2 * k + 1)));
    (sum ^ (sum >> 32)).wrapping_mul(SPREAD) ^ ts.len() as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::codec::Effort;

    /// A table and every timeline it has made, in order.
    struct Trial {
        table: TimelineTable,
        packer: Packer,
        made: Vec<Vec<i64>>,
    }

    impl Trial {
        fn new() -> Self {
            Self { table: TimelineTable::new(BYTES_MAX), packer: Packer::new(Effort::Quick).unwrap(), made: Vec::new() }
        }

        /// The spans of `own`, which must give it back.
        fn find(&mut self, own: &[i64]) -> Vec<Span> {
            let mut spans = Vec::new();
            self.table.find(&mut self.packer, own, &mut spans);
            let mut row = 0;
            for span in &spans {
                let rows = &own[row..row + span.rows as usize];
                match self.made.get(span.timeline as usize) {
                    Some(ts) => assert_eq!(&ts[span.from as usize..(span.from + span.rows) as usize], rows),
                    None => {
                        assert_eq!((span.timeline as usize, span.from), (self.made.len(), 0));
                        self.made.push(rows.to_vec());
                    }
                }
                row += span.rows as usize;
            }
            assert_eq!(row, own.len());
            assert_eq!(self.table.count as usize, self.made.len());
            spans
        }
    }

    fn scrapes(n: usize, seed: u64) -> Vec<i64> {
        let mut random = SmallRng::seed_from_u64(seed);
        let start = 1_700_000_000_000 + random.random_range(0..15_000);
        (0..n as i64).map(|i| (start + i * 15_000 + random.random_range(0..5)) * 1_000_000).collect()
    }

    #[test]
    fn the_series_of_a_scrape_share_one_timeline_wherever_they_stand() {
        let mut trial = Trial::new();
        let targets: Vec<Vec<i64>> = (0..50).map(|seed| scrapes(240, seed)).collect();
        for _ in 0..10 {
            for (k, ts) in (0u32..).zip(&targets) {
                assert_eq!(trial.find(ts), [Span { timeline: k, from: 0, rows: 240 }]);
            }
        }
        assert_eq!(trial.made.len(), 50);
    }

    #[test]
    fn a_series_that_begins_later_or_misses_scrapes_has_slices() {
        let mut trial = Trial::new();
        let ts = scrapes(400, 1);
        trial.find(&ts);
        assert_eq!(trial.find(&ts[100..300]), [Span { timeline: 0, from: 100, rows: 200 }]);
        let gap = [&ts[..150], &ts[151..]].concat();
        let spans = [Span { timeline: 0, from: 0, rows: 150 }, Span { timeline: 0, from: 151, rows: 249 }];
        assert_eq!(trial.find(&gap), spans);
        // A row too many is a timeline of its own, and the next series with it finds all three.
        let mut more = ts.clone();
        more.insert(200, ts[200] - 1);
        let spans = [(0, 0, 200), (1, 0, 1), (0, 200, 200)];
        let spans = spans.map(|(timeline, from, rows)| Span { timeline, from, rows });
        assert_eq!(trial.find(&more), spans);
        assert_eq!(trial.find(&more), spans);
        assert_eq!(trial.made.len(), 2);
    }

    #[test]
    fn pieces_of_a_long_series_are_found_across_timelines() {
        let mut trial = Trial::new();
        let ts = scrapes(9000, 3);
        trial.find(&ts[..8192]);
        trial.find(&ts[8192..]);
        assert_eq!(trial.find(&ts[..7384]), [Span { timeline: 0, from: 0, rows: 7384 }]);
        let spans = [Span { timeline: 0, from: 7384, rows: 808 }, Span { timeline: 1, from: 0, rows: 808 }];
        assert_eq!(trial.find(&ts[7384..]), spans);
    }

    #[test]
    fn any_rows_are_given_back() {
        let mut random = SmallRng::seed_from_u64(11);
        let mut trial = Trial::new();
        let targets: Vec<Vec<i64>> = (0..8).map(|seed| scrapes(300, seed)).collect();
        for _ in 0..3000 {
            let mut own = targets[random.random_range(0..8)].clone();
            let from = random.random_range(0..own.len());
            own.drain(..from);
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..own.len());
                match random.random_range(0..3) {
                    0 if own.len() > 1 => drop(own.remove(at)),
                    1 => own.insert(at, own[at] - 7),
                    _ => own[at] += 1,
                }
            }
            trial.find(&own);
        }
    }

    #[test]
    fn timelines_that_were_of_no_use_make_room_and_useful_ones_stay() {
        let mut trial = Trial::new();
        let ts = scrapes(8000, 5);
        let n = RESIDENT_ROWS_MAX / 8000;
        let shifted = |k: usize| ts.iter().map(|t| t + (k as i64) * 7_000_000_003).collect::<Vec<i64>>();
        for k in 0..n + 1 {
            trial.table.find(&mut trial.packer, &shifted(k), &mut Vec::new());
            trial.table.take_sealed();
        }
        assert_eq!((trial.table.base as usize, trial.table.starts.len()), (n, 2), "the first ones are forgotten");
        let mut spans = Vec::new();
        for k in n..2 * n + 5 {
            for _ in 0..2 {
                trial.table.find(&mut trial.packer, &shifted(k), &mut spans);
                trial.table.take_sealed();
            }
        }
        assert!(trial.table.ts.len() <= RESIDENT_ROWS_MAX && trial.table.base as usize == n);
        trial.table.find(&mut trial.packer, &shifted(n + 3), &mut spans);
        assert_eq!(spans, [Span { timeline: n as u32 + 3, from: 0, rows: 8000 }]);
    }
}
