//! The instants that an expression is evaluated at.
use super::expr::{At, When};

/// `steps` instants, `step_ms` apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    pub(crate) start_ms: i64,
    pub(crate) step_ms: i64,
    pub(crate) steps: usize,
}

/// The instants at which selectors look, one for each step of a grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    first_ms: i64,
    step_ms: i64,
    pub(crate) steps: usize,
}

impl Grid {
    /// A single instant.
    pub(crate) fn instant(at_ms: i64) -> Self {
        Self { start_ms: at_ms, step_ms: 1, steps: 1 }
    }

    /// From `start_ms` up to and including `end_ms`.
    pub(crate) fn range(start_ms: i64, end_ms: i64, step_ms: i64) -> Self {
        let length = end_ms.saturating_sub(start_ms);
        let steps = if length < 0 { 0 } else { usize::try_from(length / step_ms).unwrap_or(usize::MAX - 1) + 1 };
        Self { start_ms, step_ms, steps }
    }

    /// The instant of step `i`.
    pub(crate) fn at(self, i: usize) -> i64 {
        self.start_ms.saturating_add(self.step_ms.saturating_mul(i as i64))
    }

    /// Where a selector with `when` looks at each step of a query over `query` (start, end).
    pub(crate) fn ends(self, when: When, query: (i64, i64)) -> Ends {
        let fixed = when.at.map(|at| match at {
            At::Start => query.0,
            At::End => query.1,
            At::Ms(ms) => ms,
        });
        let (first, step_ms) = fixed.map_or((self.start_ms, self.step_ms), |ms| (ms, 0));
        Ends { first_ms: first.saturating_sub(when.offset_ms), step_ms, steps: self.steps }
    }
}

impl Ends {
    /// Where to look at step `i`.
    pub(crate) fn at(self, i: usize) -> i64 {
        self.first_ms.saturating_add(self.step_ms.saturating_mul(i as i64))
    }

    /// In how many windows of `range_ms` a sample is, about: at least 1.
    pub(crate) fn visits(self, range_ms: i64) -> usize {
        let windows = range_ms.checked_div(self.step_ms).map_or(self.steps, |n| usize::try_from(n).unwrap_or(0));
        windows.min(self.steps).max(1)
    }

    /// The first and the last of them.
    pub(crate) fn bounds(self) -> (i64, i64) {
        (self.first_ms, self.at(self.steps.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_in_as_many_windows_as_steps_fit_into_the_range() {
        let visits = |grid: Grid, range_ms| grid.ends(When::default(), (0, 0)).visits(range_ms);
        assert_eq!(visits(Grid::range(0, 600_000, 60_000), 300_000), 5);
        assert_eq!(visits(Grid::range(0, 600_000, 60_000), 10), 1);
        assert_eq!(visits(Grid::range(0, 120_000, 60_000), 3_600_000), 3);
        assert_eq!(visits(Grid::instant(0), 3_600_000), 1);
    }
}
