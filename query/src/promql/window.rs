//! The samples of a series within the range before each step.
use std::sync::Arc;

use super::grid::Ends;
use super::histogram::Histogram;
use super::source::SeriesSamples;
use super::value::{ABSENT, Column, Sample};

/// Floats of `(end_ms - range_ms, end_ms]`; never empty, but for a window inside of a [`Mixed`] one.
pub(crate) struct Window<'a> {
    pub(crate) ts_ms: &'a [i64],
    pub(crate) values: &'a [f64],
    pub(crate) end_ms: i64,
    pub(crate) range_ms: i64,
    /// The step's own instant, which offsets and `@` do not move.
    pub(crate) now_ms: i64,
    /// Number of the step.
    pub(crate) step: usize,
}

impl Window<'_> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn first(&self) -> f64 {
        self.values[0]
    }

    pub(crate) fn last(&self) -> f64 {
        self.values[self.values.len() - 1]
    }
}

/// Asks `answer` about the window of each step that has a sample; the other steps have no value. `ts_ms` is increasing.
pub(crate) fn slide(
    (ts_ms, values): (&[i64], &[f64]),
    ends: Ends,
    range_ms: i64,
    now_ms: impl Fn(usize) -> i64,
    mut answer: impl FnMut(&Window<'_>) -> Option<f64>,
) -> Vec<f64> {
    let (mut low, mut high) = (Front::default(), Front::default());
    let step = |step: usize| {
        let end_ms = ends.at(step);
        let high = high.advance(ts_ms, end_ms);
        // Damage may have left times that do not increase.
        let low = low.advance(ts_ms, end_ms.saturating_sub(range_ms)).min(high);
        if low == high {
            return ABSENT;
        }
        let (ts_ms, values) = (&ts_ms[low..high], &values[low..high]);
        answer(&Window { ts_ms, values, end_ms, range_ms, now_ms: now_ms(step), step }).unwrap_or(ABSENT)
    };
    (0..ends.steps).map(step).collect()
}

/// What `answer` makes of the newest sample of `(end - lookback_ms, end]` (milliseconds, value) at each step; steps without one
/// have no value. `ts_ms` is increasing.
pub(crate) fn newest(
    (ts_ms, values): (&[i64], &[f64]),
    ends: Ends,
    lookback_ms: i64,
    answer: impl Fn(i64, f64) -> f64,
) -> Vec<f64> {
    let mut front = Front::default();
    let step = |step: usize| {
        let end_ms = ends.at(step);
        match front.advance(ts_ms, end_ms).checked_sub(1) {
            Some(last) if ts_ms[last] > end_ms.saturating_sub(lookback_ms) => answer(ts_ms[last], values[last]),
            _ => ABSENT,
        }
    };
    (0..ends.steps).map(step).collect()
}

/// The number of samples up to an instant that moves on.
#[derive(Default)]
struct Front {
    passed: usize,
    /// How many it passed the last time: scrapes and steps are regular, so most often it is as many again.
    stride: usize,
}

impl Front {
    /// Moves on to `until_ms`, which is not before that of the last time; at most as many samples are looked at twice.
    fn advance(&mut self, ts_ms: &[i64], until_ms: i64) -> usize {
        let mut at = ts_ms.len().min(self.passed + self.stride);
        while at > self.passed && ts_ms[at - 1] > until_ms {
            at -= 1;
        }
        while at < ts_ms.len() && ts_ms[at] <= until_ms {
            at += 1;
        }
        self.stride = at - self.passed;
        self.passed = at;
        at
    }
}

/// A window of a series that has native histograms.
pub(crate) struct Mixed<'a> {
    /// Its floats; there may be none.
    pub(crate) floats: Window<'a>,
    /// Its histograms; there may be none.
    pub(crate) histograms: &'a [(i64, Arc<Histogram>)],
}

/// What a function makes of a window.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    Value(f64),
    Histogram(Arc<Histogram>),
}

impl<'a> Mixed<'a> {
    /// Floats and histograms, oldest first; of one instant the float first.
    pub(crate) fn in_order(&self) -> Vec<(i64, Sample<'a>)> {
        let floats = self.floats.ts_ms.iter().zip(self.floats.values).map(|(&ts, &value)| (ts, Sample::Value(value)));
        let histograms = self.histograms.iter().map(|(ts, histogram)| (*ts, Sample::Histogram(histogram)));
        let mut all: Vec<(i64, Sample<'a>)> = floats.chain(histograms).collect();
        all.sort_by_key(|&(ts, _)| ts);
        all
    }

    /// The newest sample.
    pub(crate) fn newest(&self) -> Option<(i64, Sample<'a>)> {
        let float = self.floats.ts_ms.last().zip(self.floats.values.last());
        match (float, self.histograms.last()) {
            (Some((&ts, &value)), Some((other, _))) if ts > *other => Some((ts, Sample::Value(value))),
            (_, Some((ts, histogram))) => Some((*ts, Sample::Histogram(histogram))),
            (float, None) => float.map(|(&ts, &value)| (ts, Sample::Value(value))),
        }
    }
}

/// As [`slide`], for a series that has histograms; the labels are the series's.
pub(crate) fn slide_mixed(
    series: &SeriesSamples,
    ends: Ends,
    range_ms: i64,
    now_ms: impl Fn(usize) -> i64,
    mut answer: impl FnMut(&Mixed<'_>) -> Option<Found>,
) -> Column {
    let mut column = Column::blank(series.labels.clone(), ends.steps);
    for step in 0..ends.steps {
        let end_ms = ends.at(step);
        let start_ms = end_ms.saturating_sub(range_ms);
        let floats = within(&series.ts_ms, start_ms, end_ms, |&ts| ts);
        let histograms = within(&series.histograms, start_ms, end_ms, |sample| sample.0);
        if floats.is_empty() && histograms.is_empty() {
            continue;
        }
        let (ts_ms, values) = (&series.ts_ms[floats.clone()], &series.values[floats]);
        let floats = Window { ts_ms, values, end_ms, range_ms, now_ms: now_ms(step), step };
        match answer(&Mixed { floats, histograms: &series.histograms[histograms] }) {
            None => {}
            Some(Found::Value(value)) => column.values[step] = value,
            Some(Found::Histogram(histogram)) => column.put(step, histogram),
        }
    }
    column
}

/// Where the samples of `(start_ms, end_ms]` are.
fn within<T>(samples: &[T], start_ms: i64, end_ms: i64, ts: impl Fn(&T) -> i64) -> std::ops::Range<usize> {
    let start = samples.partition_point(|sample| ts(sample) <= start_ms);
    let end = samples.partition_point(|sample| ts(sample) <= end_ms);
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::super::grid::Grid;
    use super::super::value::is_absent;
    use super::*;

    #[test]
    fn a_window_is_open_at_its_start_and_closed_at_its_end() {
        let (ts, values) = ([0, 10, 20, 30], [1.0, 2.0, 3.0, 4.0]);
        let ends = Grid::range(10, 60, 10).ends(Default::default(), (10, 60));
        let counts = slide((&ts, &values), ends, 20, |_| 0, |window| Some(window.len() as f64));
        assert_eq!(counts[..4], [2.0, 2.0, 2.0, 1.0]);
        assert!(counts[4..].iter().all(|&value| is_absent(value)));
    }

    /// Samples with gaps and bursts, and steps that are longer or shorter than those, before and behind them.
    #[test]
    fn windows_and_newest_samples_are_those_that_a_search_finds() {
        let mut random = 3u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((random >> 33) % below) as i64
        };
        for _ in 0..500 {
            let burst = next(40) as u64 + 1;
            let mut ts: Vec<i64> = (0..next(60))
                .scan(0, |at, _| {
                    *at += 1 + next(burst) * next(3);
                    Some(*at)
                })
                .collect();
            ts.dedup();
            let values: Vec<f64> = ts.iter().map(|&ts| ts as f64).collect();
            let (start, step, range) = (next(100) - 50, next(30) + 1, next(100) + 1);
            let ends = Grid::range(start, start + next(500), step).ends(Default::default(), (0, 0));
            let count = slide((&ts, &values), ends, range, |_| 0, |window| Some(window.len() as f64));
            let newest = newest((&ts, &values), ends, range, |ts, value| ts as f64 + value);
            for step in 0..ends.steps {
                let inside = within(&ts, ends.at(step) - range, ends.at(step), |&ts| ts);
                let expect = if inside.is_empty() {
                    (ABSENT, ABSENT)
                } else {
                    (inside.len() as f64, 2.0 * values[inside.end - 1])
                };
                assert_eq!((count[step].to_bits(), newest[step].to_bits()), (expect.0.to_bits(), expect.1.to_bits()));
            }
        }
    }
}
