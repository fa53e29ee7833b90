//! Adding rows, zone maps and buckets of rollups up, series by series and step by step.
//!
//! Sums and extremes are kept for eight rows at a time, so that they do not wait for each other; a sum therefore adds in
//! another order than row by row.
use crate::rollup::Sketch;
use crate::snapshot::{AggregateBatch, Statistics};

use super::merge::rows_before;
use super::whole::Whole;

/// How time is cut: into steps of this many nanoseconds, counted from the epoch, or not at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step(Option<i64>);

impl Step {
    /// Steps of `width_ns`, which is positive.
    pub(crate) fn new(width_ns: Option<i64>) -> Self {
        debug_assert!(width_ns.is_none_or(|width| width > 0));
        Self(width_ns)
    }

    /// Length of a step, ns, if there are steps.
    pub(super) fn width_ns(self) -> Option<i64> {
        self.0
    }

    /// First instant of the step around `ts`, or of all time.
    fn start(self, ts: i64) -> i64 {
        self.0.and_then(|width| ts.div_euclid(width).checked_mul(width)).unwrap_or(i64::MIN)
    }

    /// Last instant of the step around `ts`.
    pub(super) fn end(self, ts: i64) -> i64 {
        self.0.map_or(i64::MAX, |width| ts.saturating_add(width - 1 - ts.rem_euclid(width)))
    }
}

/// The aggregate that rows are being added to.
pub(super) struct Fold {
    step: Step,
    statistics: Statistics,
    open: Option<Part>,
}

/// Rows of one series and step.
struct Part {
    series: u32,
    /// First and last instant of the step.
    start: i64,
    end: i64,
    rows: i64,
    first: (i64, f64),
    last: (i64, f64),
    values: Values,
    /// Of the values, if it is asked for.
    sketch: Sketch,
}

impl Fold {
    pub(super) fn new(step: Step, statistics: Statistics) -> Self {
        Self { step, statistics, open: None }
    }

    /// Adds rows of `series`, which follow what was added before; `values` is empty if no statistic needs them.
    pub(super) fn rows(&mut self, series: u32, mut ts: &[i64], mut values: &[f64], out: &mut AggregateBatch) {
        while let Some(&first) = ts.first() {
            let end = match &self.open {
                Some(part) if part.series == series && (part.start..=part.end).contains(&first) => part.end,
                _ => self.step.end(first),
            };
            let n = if end == i64::MAX { ts.len() } else { rows_before(ts, end + 1) };
            let here = values.split_at(n.min(values.len()));
            self.one_step(series, end, &ts[..n], here.0, out);
            (ts, values) = (&ts[n..], here.1);
        }
    }

    /// Adds rows of one step. An odd value that would be compared stays a row of its own, between those before and after.
    fn one_step(&mut self, series: u32, end: i64, ts: &[i64], values: &[f64], out: &mut AggregateBatch) {
        if !self.statistics.extremes || !values.iter().fold(false, |odd, &value| odd | is_odd(value)) {
            self.even(series, end, ts, values, out);
            return;
        }
        let mut from = 0;
        for (at, &value) in values.iter().enumerate() {
            if is_odd(value) {
                self.even(series, end, &ts[from..at], &values[from..at], out);
                self.finish(out);
                self.even(series, end, &ts[at..=at], &values[at..=at], out);
                self.finish(out);
                from = at + 1;
            }
        }
        self.even(series, end, &ts[from..], &values[from..], out);
    }

    fn even(&mut self, series: u32, end: i64, ts: &[i64], values: &[f64], out: &mut AggregateBatch) {
        let (Some(&first), Some(&last)) = (ts.first(), ts.last()) else { return };
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let ends = ((first, at(0)), (last, at(ts.len() - 1)));
        self.add(series, end, ts.len() as i64, ends, &Values::of(values), out);
        if self.statistics.sketch
            && let Some(part) = &mut self.open
        {
            values.iter().for_each(|&value| part.sketch.add(value));
        }
    }

    /// Adds the rows of a block or bucket of a series, or of a block of that and others which belong together.
    pub(super) fn whole(&mut self, whole: &Whole, sketch: Option<&Sketch>, out: &mut AggregateBatch) {
        let &Whole { first: series, extent, rows, min, max, sum, ends, .. } = whole;
        let ends = ((extent.start, ends.0), (extent.end, ends.1));
        self.add(series, self.step.end(extent.start), rows as i64, ends, &Values { min, max, sum }, out);
        if let (Some(part), Some(sketch)) = (&mut self.open, sketch) {
            part.sketch.merge(sketch);
        }
    }

    fn add(
        &mut self,
        series: u32,
        end: i64,
        rows: i64,
        (first, last): ((i64, f64), (i64, f64)),
        values: &Values,
        out: &mut AggregateBatch,
    ) {
        if let Some(part) = self.open.as_mut().filter(|part| (part.series, part.end) == (series, end)) {
            part.rows += rows;
            // Blocks of several series need not follow each other in time.
            part.first = if first.0 < part.first.0 { first } else { part.first };
            part.last = if last.0 > part.last.0 { last } else { part.last };
            part.values.join(values);
            return;
        }
        self.finish(out);
        let start = self.step.start(first.0);
        let (values, sketch) = (values.clone(), Sketch::default());
        self.open = Some(Part { series, start, end, rows, first, last, values, sketch });
    }

    /// Whether something is being added to.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Appends what is being added to.
    pub(super) fn finish(&mut self, out: &mut AggregateBatch) {
        let Some(part) = self.open.take() else { return };
        let Statistics { extremes, sum, times, ends, sketch } = self.statistics;
        match out.runs.last_mut() {
            Some((series, rows)) if *series == part.series => *rows += 1,
            _ => out.runs.push((part.series, 1)),
        }
        out.starts.push(part.start);
        out.rows.push(part.rows);
        if extremes {
            out.min.push(part.values.min);
            out.max.push(part.values.max);
        }
        if sum {
            out.sum.push(part.values.sum);
        }
        if times {
            out.first_ts.push(part.first.0);
            out.last_ts.push(part.last.0);
        }
        if ends {
            out.first.push(part.first.1);
            out.last.push(part.last.1);
        }
        if sketch {
            out.sketches.push(part.sketch);
        }
    }
}

/// A value whose place among others depends on who compares: NaN, and the zero that is equal to another one.
fn is_odd(value: f64) -> bool {
    value.is_nan() | (value.to_bits() == (-0.0f64).to_bits())
}

const LANES: usize = 8;

#[derive(Clone)]
struct Values {
    min: f64,
    max: f64,
    sum: f64,
}

impl Values {
    fn of(values: &[f64]) -> Self {
        // A single odd value is its own minimum and maximum.
        if let [value] = *values {
            return Self { min: value, max: value, sum: 0.0 + value };
        }
        let (chunks, rest) = values.as_chunks::<LANES>();
        let (mut min, mut max, mut sum) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES], [0.0; LANES]);
        for chunk in chunks {
            for (lane, &value) in chunk.iter().enumerate() {
                min[lane] = if value < min[lane] { value } else { min[lane] };
                max[lane] = if value > max[lane] { value } else { max[lane] };
                sum[lane] += value;
            }
        }
        let mut all = Self { min: f64::INFINITY, max: f64::NEG_INFINITY, sum: 0.0 };
        for ((min, max), sum) in min.into_iter().zip(max).zip(sum) {
            all.join(&Self { min, max, sum });
        }
        for &value in rest {
            all.join(&Self { min: value, max: value, sum: value });
        }
        all
    }

    fn join(&mut self, other: &Self) {
        self.min = if other.min < self.min { other.min } else { self.min };
        self.max = if other.max > self.max { other.max } else { self.max };
        self.sum += other.sum;
    }
}
