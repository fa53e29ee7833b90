//! `anchored` and `smoothed` selectors: what a range has at its borders, where no sample need be.
//!
//! ```text
//!            before          inside                after
//!  exact               |     x     x      x    |
//!  anchored    x       |     x     x      x    |            from the sample before to the last one inside
//!  smoothed    x-------*-----x-----x------x----*------x     from the line's value at one border to that at the other
//! ```
//! A sample before or after counts within the look-back; stale markers are ignored. Nothing is extrapolated: a smoothed range
//! with nothing but samples after it does not change.
use super::eval::Evaluator;
use super::expr::{Edges, Expr, Selector};
use super::grid::Grid;
use super::labels::without_name;
use super::source::SeriesSamples;
use super::value::{ABSENT, Column, refuse_same_labels};
use crate::error::Result;

/// What a function asks of a range with its borders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Changes,
    Delta,
    Increase,
    Rate,
    Resets,
}

const QUESTIONS: [(&str, Question); 5] = [
    ("changes", Question::Changes),
    ("delta", Question::Delta),
    ("increase", Question::Increase),
    ("rate", Question::Rate),
    ("resets", Question::Resets),
];

/// The functions that take ranges with `edges`.
pub(crate) fn functions(edges: Edges) -> impl Iterator<Item = &'static str> {
    let takes = move |question| edges == Edges::Anchored || !matches!(question, Question::Changes | Question::Resets);
    QUESTIONS.into_iter().filter(move |(_, question)| takes(*question)).map(|(name, _)| name)
}

/// Selector and range of a call of one of them with an extended range.
pub(crate) fn range<'a>(function: &str, args: &'a [Expr]) -> Option<(&'a Selector, i64)> {
    match args {
        [Expr::Range(selector, range_ms)] if selector.when.edges != Edges::Exact => {
            functions(selector.when.edges).any(|name| name == function).then_some((selector, *range_ms))
        }
        _ => None,
    }
}

/// The function's value at each step.
///
/// # Errors
/// As the evaluation of any range function.
pub(crate) fn evaluate(
    ev: &Evaluator<'_>,
    function: &str,
    (selector, range_ms): (&Selector, i64),
    grid: Grid,
) -> Result<Vec<Column>> {
    let Some((_, question)) = QUESTIONS.into_iter().find(|(name, _)| *name == function) else { return Ok(Vec::new()) };
    let series = ev.load_extended(selector, range_ms, grid)?;
    let values = series.len().saturating_mul(grid.steps);
    ev.count(values)?;
    let ends = ev.ends(selector, grid);
    let column = |series: &SeriesSamples| {
        let samples = Samples::of(series, ev.lookback_ms());
        let at = |step: usize| {
            let end_ms = ends.at(step);
            let frame = samples.frame(selector.when.edges, end_ms.saturating_sub(range_ms), end_ms, question)?;
            Some(frame.answer(question, range_ms))
        };
        let values: Vec<f64> = (0..grid.steps).map(|step| at(step).unwrap_or(ABSENT)).collect();
        Ok(Column::floats(without_name(&series.labels), values))
    };
    // What a step takes is most of all the samples of its range.
    let visits = series.iter().map(|series| series.values.len()).sum::<usize>().saturating_mul(ends.visits(range_ms));
    let columns = ev.columns(&series, values.saturating_add(visits), column)?;
    refuse_same_labels(&columns)?;
    Ok(columns)
}

/// An instant selector: the newest sample, whatever stale markers say, or the value on the line between the samples before and
/// after. Answers time and value.
pub(crate) fn instant(edges: Edges, series: &SeriesSamples, at_ms: i64, lookback_ms: i64) -> Option<(i64, f64)> {
    let samples = Samples::of(series, lookback_ms);
    let after = samples.ts_ms.partition_point(|&ts| ts <= at_ms);
    let before = samples.before(after, at_ms)?;
    let (ts_ms, value) = (samples.ts_ms[before], samples.values[before]);
    if edges == Edges::Anchored || ts_ms == at_ms {
        return Some((ts_ms, value));
    }
    match samples.after(after, at_ms) {
        Some(after) => Some((at_ms, samples.line(before, after, at_ms, Reset::Ignored))),
        None => Some((ts_ms, value)),
    }
}

/// What a falling value means to a line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reset {
    /// A gauge falls.
    Ignored,
    /// A counter began again at zero with the earlier sample: for the line into a range.
    FromZero,
    /// What it has counted since comes on top of the earlier sample: for the line out of a range.
    OnTop,
}

struct Samples<'a> {
    ts_ms: &'a [i64],
    values: &'a [f64],
    lookback_ms: i64,
}

/// A range with its borders.
#[derive(Debug)]
struct Frame<'a> {
    left: f64,
    inside: &'a [f64],
    right: f64,
}

impl<'a> Samples<'a> {
    fn of(series: &'a SeriesSamples, lookback_ms: i64) -> Self {
        Self { ts_ms: &series.ts_ms, values: &series.values, lookback_ms }
    }

    /// The sample before index `from`, if it counts at `at_ms`.
    fn before(&self, from: usize, at_ms: i64) -> Option<usize> {
        from.checked_sub(1).filter(|&index| self.ts_ms[index] > at_ms.saturating_sub(self.lookback_ms))
    }

    /// The sample at index `from`, if it counts at `at_ms`.
    fn after(&self, from: usize, at_ms: i64) -> Option<usize> {
        self.ts_ms.get(from).is_some_and(|&ts| ts <= at_ms.saturating_add(self.lookback_ms)).then_some(from)
    }

    /// The value at `at_ms` on the line between two samples.
    fn line(&self, from: usize, to: usize, at_ms: i64, reset: Reset) -> f64 {
        let (mut low, mut high) = (self.values[from], self.values[to]);
        if high < low {
            match reset {
                Reset::Ignored => {}
                Reset::FromZero => low = 0.0,
                Reset::OnTop => high += low,
            }
        }
        let share = (at_ms - self.ts_ms[from]) as f64 / (self.ts_ms[to] - self.ts_ms[from]) as f64;
        low + (high - low) * share
    }

    /// What `(start_ms, end_ms]` and its borders hold.
    fn frame(&self, edges: Edges, start_ms: i64, end_ms: i64, question: Question) -> Option<Frame<'a>> {
        let from = self.ts_ms.partition_point(|&ts| ts <= start_ms);
        let to = self.ts_ms.partition_point(|&ts| ts <= end_ms);
        let inside = &self.values[from..to];
        let before = self.before(from, start_ms);
        if edges == Edges::Anchored {
            let (first, last) = (inside.first()?, inside.last()?);
            return Some(Frame { left: before.map_or(*first, |index| self.values[index]), inside, right: *last });
        }
        let after = self.after(to, end_ms);
        let (into, out) = match question {
            Question::Delta | Question::Changes | Question::Resets => (Reset::Ignored, Reset::Ignored),
            // A gap across the whole range: both borders lie on one line.
            _ if inside.is_empty() => (Reset::FromZero, Reset::FromZero),
            _ => (Reset::FromZero, Reset::OnTop),
        };
        if inside.is_empty()
            && before.is_none()
            && let Some(index) = after
        {
            // Before its first sample a series has that one's value all the time.
            let value = self.values[index];
            return Some(Frame { left: value, inside, right: value });
        }
        let left = match before {
            Some(index) if self.ts_ms[index] == start_ms => self.values[index],
            Some(index) if !inside.is_empty() => self.line(index, from, start_ms, into),
            Some(index) => self.line(index, after?, start_ms, into),
            None => *inside.first()?,
        };
        let right = match after {
            _ if to > from && self.ts_ms[to - 1] == end_ms => self.values[to - 1],
            Some(index) if !inside.is_empty() => self.line(to - 1, index, end_ms, out),
            Some(index) => self.line(before?, index, end_ms, out),
            None => *inside.last()?,
        };
        Some(Frame { left, inside, right })
    }
}

impl Frame<'_> {
    fn answer(&self, question: Question, range_ms: i64) -> f64 {
        match question {
            Question::Changes => self.pairs(|old, new| new != old && !(new.is_nan() && old.is_nan())).count() as f64,
            Question::Resets => self.pairs(|old, new| new < old).count() as f64,
            Question::Delta => self.right - self.left,
            Question::Increase => self.increase(),
            Question::Rate => self.increase() / (range_ms as f64 / 1000.0),
        }
    }

    /// What a counter counted: what it had before each reset comes on top.
    fn increase(&self) -> f64 {
        let lost: f64 = self.pairs(|old, new| new < old).sum();
        self.right - self.left + lost
    }

    /// The older values of neighbours that `which` accepts.
    fn pairs(&self, which: impl Fn(f64, f64) -> bool) -> impl Iterator<Item = f64> {
        let old = std::iter::once(self.left).chain(self.inside.iter().copied());
        let new = self.inside.iter().copied().chain(std::iter::once(self.right));
        old.zip(new).filter(move |(old, new)| which(*old, *new)).map(|(old, _)| old)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use foretell_engine::LabelSet;

    use super::*;

    /// The complete data set of the proposal for these modifiers: 1 to 5 every 15 s from 10 s, then 9 to 13.
    fn samples() -> SeriesSamples {
        let values = vec![1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 10.0, 11.0, 12.0, 13.0];
        SeriesSamples {
            labels: LabelSet::default(),
            ts_ms: (0..10).map(|i| 10_000 + i * 15_000).collect(),
            values,
            ..SeriesSamples::default()
        }
    }

    fn increase(edges: Edges, series: &SeriesSamples, start_s: i64, end_s: i64) -> Option<f64> {
        let samples = Samples::of(series, 300_000);
        let frame = samples.frame(edges, start_s * 1000, end_s * 1000, Question::Increase)?;
        Some(frame.answer(Question::Increase, (end_s - start_s) * 1000))
    }

    #[test]
    fn an_anchored_increase_is_the_difference_of_samples() {
        let series = samples();
        assert_eq!(increase(Edges::Anchored, &series, 15, 75), Some(4.0));
        assert_eq!(increase(Edges::Anchored, &series, 75, 135), Some(7.0));
        assert_eq!(increase(Edges::Anchored, &series, -60, 0), None);
        assert_eq!(increase(Edges::Anchored, &series, 0, 10), Some(0.0));
    }

    #[test]
    fn a_smoothed_increase_lies_on_the_lines_between_samples() {
        let series = samples();
        let total =
            increase(Edges::Smoothed, &series, 15, 75).unwrap() + increase(Edges::Smoothed, &series, 75, 135).unwrap();
        assert!((total - 11.0).abs() < 1e-12, "{total}");
        assert!((increase(Edges::Smoothed, &series, 0, 15).unwrap() - 1.0 / 3.0).abs() < 1e-12);
        // Between two samples, without one inside.
        assert!((increase(Edges::Smoothed, &series, 71, 74).unwrap() - 4.0 * 3.0 / 15.0).abs() < 1e-12);
        assert_eq!(increase(Edges::Smoothed, &series, 145, 205), None);
        // Only samples after it, as far as the look-back.
        assert_eq!(increase(Edges::Smoothed, &series, -60, 0), Some(0.0));
        assert_eq!(increase(Edges::Smoothed, &series, -360, -300), None);
    }

    #[test]
    fn a_reset_on_a_border_counts_from_zero() {
        let series = SeriesSamples {
            labels: LabelSet::default(),
            ts_ms: vec![0, 10_000, 20_000],
            values: vec![100.0, 10.0, 20.0],
            ..SeriesSamples::default()
        };
        assert_eq!(increase(Edges::Smoothed, &series, 5, 20), Some(15.0));
        assert_eq!(increase(Edges::Smoothed, &series, -5, 5), Some(5.0));
        assert_eq!(increase(Edges::Anchored, &series, 0, 20), Some(20.0));
    }
}
