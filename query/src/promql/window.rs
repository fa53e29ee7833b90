//! The samples of a series within the range before each step.
use super::grid::Ends;
use super::value::ABSENT;

/// Samples of `(end_ms - range_ms, end_ms]`; never empty.
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
    let (mut low, mut high) = (0, 0);
    let step = |step: usize| {
        let end_ms = ends.at(step);
        let start_ms = end_ms.saturating_sub(range_ms);
        while high < ts_ms.len() && ts_ms[high] <= end_ms {
            high += 1;
        }
        while low < high && ts_ms[low] <= start_ms {
            low += 1;
        }
        if low == high {
            return ABSENT;
        }
        let (ts_ms, values) = (&ts_ms[low..high], &values[low..high]);
        answer(&Window { ts_ms, values, end_ms, range_ms, now_ms: now_ms(step), step }).unwrap_or(ABSENT)
    };
    (0..ends.steps).map(step).collect()
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
}
