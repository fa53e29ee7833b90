//! Regressors: columns known in the past and in the future, such as holidays, launches and maintenance.
//!
//! What each adds to the series is learnt by ridge regression of what a value is above the values at its place in the
//! seasons before, on what the regressors are above theirs: seasons and a level that wanders fall out of both. That
//! effect is taken out of the past before any model sees it and put on what the model says. The back-test learns it
//! anew at each origin, and decides whether it is believed.
use super::backtest::Span;
use super::ridge::{Sums, dot};
use super::seasons::Seasons;
use crate::error::{Error, Result};
use crate::grid::{Grid, interpolate};

/// Most columns.
pub(super) const COLUMNS_MAX: usize = 16;
/// Seasons before that a value is measured from.
const SEASONS_BEFORE: usize = 4;

/// Regressors on the grid of a series, and on beyond its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Regressors {
    /// `[column][cell]`, scaled into [-1, 1].
    columns: Vec<Vec<f64>>,
}

impl Regressors {
    /// Cell means of `columns`, which have a value at each of `ts` or NaN where it is not known; gaps in the past are
    /// filled as those of the values are.
    ///
    /// # Errors
    /// `Invalid` when a column is not known at one of the `steps` after the grid, or nowhere on the grid.
    pub(super) fn on(grid: &Grid, steps: usize, ts: &[i64], columns: &[Vec<f64>]) -> Result<Self> {
        let past = grid.values.len();
        let mut found = Vec::with_capacity(columns.len());
        for (number, column) in columns.iter().enumerate() {
            let mut sums = vec![(0.0, 0u32); past + steps];
            for (&t, &value) in ts.iter().zip(column).filter(|row| row.1.is_finite()) {
                let after = i128::from(t) - i128::from(grid.start) + i128::from(grid.step / 2);
                let cell = usize::try_from(after.div_euclid(i128::from(grid.step))).ok();
                if let Some(cell) = cell.and_then(|cell| sums.get_mut(cell)) {
                    cell.1 += 1;
                    cell.0 += (value - cell.0) / f64::from(cell.1);
                }
            }
            let mut cells: Vec<f64> = sums.iter().map(|cell| if cell.1 > 0 { cell.0 } else { f64::NAN }).collect();
            let known = cells[past..].iter().filter(|v| v.is_finite()).count();
            let column = format!("regressor {} of {}", number + 1, columns.len());
            if known < steps {
                return Err(Error::Invalid(format!(
                    "{column} is known at {known} of the {steps} steps of {} ns after the last value: add rows that have \
                     its values and none of the series, or shorten the horizon",
                    grid.step
                )));
            }
            if !cells[..past].iter().any(|v| v.is_finite()) {
                return Err(Error::Invalid(format!(
                    "{column} is not known at any row of the past: nothing can be learnt"
                )));
            }
            interpolate(&mut cells[..past]);
            let largest = cells.iter().fold(0.0f64, |a, v| a.max(v.abs()));
            if largest > 0.0 {
                cells.iter_mut().for_each(|v| *v /= largest);
            }
            found.push(cells);
        }
        Ok(Self { columns: found })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The [`effect`](Self::effect) at each span; none without regressors.
    pub(super) fn effects(&self, values: &[f64], seasons: &Seasons, spans: &[Span]) -> Vec<Vec<f64>> {
        if self.is_empty() {
            return Vec::new();
        }
        let period = spans.first().map_or(1, |span| seasons.longest_in(span.origin));
        spans.iter().map(|&span| self.effect(values, period, span)).collect()
    }

    /// What they add to each cell up to the end of `span`, as learnt from the values before its origin; `period` is
    /// the longest season, 1 without one.
    fn effect(&self, values: &[f64], period: usize, span: Span) -> Vec<f64> {
        let above = |column: &[f64], cell: usize| {
            let seasons = (cell / period).min(SEASONS_BEFORE);
            let before: f64 = (1..=seasons).map(|back| column[cell - back * period]).sum();
            column[cell] - before / seasons as f64
        };
        let mut sums = Sums::new(self.columns.len(), f64::INFINITY);
        let mut row = Vec::with_capacity(self.columns.len());
        for cell in period..span.origin {
            row.clear();
            row.extend(self.columns.iter().map(|column| above(column, cell)));
            sums.add(&row, above(values, cell));
        }
        let Some(weights) = sums.weights() else { return vec![0.0; span.origin + span.steps] };
        (0..span.origin + span.steps)
            .map(|cell| {
                row.clear();
                row.extend(self.columns.iter().map(|column| column[cell]));
                dot(&row, &weights)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: i64 = 1_000;

    fn grid(values: Vec<f64>) -> Grid {
        Grid { start: 0, step: STEP, values }
    }

    #[test]
    fn the_effect_of_each_is_found_beside_a_season_and_a_trend() {
        let on = |i: usize, every: usize| f64::from(u8::from(i % every == every - 1));
        let columns: Vec<Vec<f64>> = [31, 47].map(|every| (0..310).map(|i| on(i, every)).collect()).to_vec();
        let season = |i: usize| [1.0, 4.0, 2.0, 8.0, 5.0][i % 5] + 0.01 * i as f64;
        let values: Vec<f64> = (0..300).map(|i| season(i) - 3.0 * columns[0][i] + 2.0 * columns[1][i]).collect();
        let ts: Vec<i64> = (0..310).map(|i| i * STEP).collect();
        let known = Regressors::on(&grid(values.clone()), 10, &ts, &columns).unwrap();
        let effect = known.effect(&values, 5, Span { origin: 300, steps: 10 });
        for (i, v) in effect.iter().enumerate() {
            let truth = -3.0 * columns[0][i] + 2.0 * columns[1][i];
            assert!((v - truth).abs() < 0.1, "{i}: {v} {truth}");
        }
    }

    #[test]
    fn a_future_that_is_not_known_and_a_past_without_values_are_told() {
        let ts: Vec<i64> = (0..24).map(|i| i * STEP).collect();
        let grid = grid(vec![1.0; 20]);
        let on = |column: Vec<f64>, steps: usize| {
            Regressors::on(&grid, steps, &ts, &[column]).map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(on(vec![1.0; 24], 4), Ok(()));
        assert!(on(vec![1.0; 24], 5).unwrap_err().contains("regressor 1 of 1 is known at 4 of the 5 steps"));
        let future = (0..24).map(|i| if i < 20 { f64::NAN } else { 1.0 }).collect();
        assert!(on(future, 4).unwrap_err().contains("not known at any row of the past"));
    }

    #[test]
    fn columns_that_never_change_have_no_effect() {
        let values: Vec<f64> = (0..60).map(|i| f64::from(i % 7)).collect();
        let ts: Vec<i64> = (0..65).map(|i| i * STEP).collect();
        let columns = [vec![0.0; 65], vec![3.0; 65]];
        let known = Regressors::on(&grid(values.clone()), 5, &ts, &columns).unwrap();
        assert_eq!(known.effect(&values, 7, Span { origin: 60, steps: 5 }), vec![0.0; 65]);
    }
}
