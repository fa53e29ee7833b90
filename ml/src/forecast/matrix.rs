//! The series as a matrix with one row a season, aligned to its end.
//!
//! Each cell is predicted by ridge regression from the cells above it, from the means of the rows above and from how
//! far the last value is off what was usual there, all measured from the level of the row before. One set of weights
//! serves the whole matrix, so that a season is predicted at once and errors do not feed themselves step by step.
//! A second, longer season adds the row that stood at the same place of it.
use super::backtest::Span;
use super::ridge::{Sums, dot};
use super::seasons::Seasons;

/// Newest values that are learnt from, and rows that count for most.
const VALUES_MAX: usize = 4_000;
const ROWS: f64 = 10.0;
/// Rows of the matrix whose mean is the usual value of a place in the season.
const USUAL_MAX: usize = 4;
/// How fast the surprise of the last value is forgotten, a step.
const FORGETTING: [f64; 2] = [0.8, 0.97];

/// `None` without a season or with too few of them.
pub(super) fn shaped(values: &[f64], seasons: &Seasons, spans: &[Span]) -> Option<Vec<Vec<f64>>> {
    let shape = Shape::new(seasons, spans.first()?.origin)?;
    spans.iter().map(|span| shape.predict(&values[..span.origin], span.steps)).collect()
}

/// What one cell of the matrix is predicted from.
struct Shape {
    period: usize,
    /// Rows in a longer season, if that is a whole number of them.
    long: Option<usize>,
    /// What is left of a surprise at each place.
    left: [Vec<f64>; 2],
}

impl Shape {
    fn new(seasons: &Seasons, n: usize) -> Option<Self> {
        let periods = seasons.within(n);
        let &period = periods.first().filter(|&&period| period >= 2)?;
        let long = periods[1..].iter().find(|&&p| p % period == 0).map(|&p| p / period);
        let left = FORGETTING.map(|kept| (1..=period as i32).map(|place| kept.powi(place)).collect());
        Some(Self { period, long: long.filter(|&rows| rows >= 2), left })
    }

    /// Rows that must stand above.
    fn above(&self) -> usize {
        self.long.map_or(2, |rows| rows + 1).max(2)
    }

    fn columns(&self) -> usize {
        5 + FORGETTING.len() + if self.long.is_some() { 3 } else { 0 }
    }

    /// Calls `cell` with the place, the level that all is measured from and the features of each place of the row
    /// after `past`, whose length is at least `above` rows.
    fn row(&self, past: &[f64], mut cell: impl FnMut(usize, f64, &[f64])) {
        let (p, n) = (self.period, past.len());
        let level = |back: usize| past[n - back * p..][..p].iter().sum::<f64>() / p as f64;
        let rows = (n / p).min(USUAL_MAX);
        let (base, before) = (level(1), level(2));
        let long = self.long.map(|long| (long, level(long), level(long + 1)));
        let usual = |place: usize| (1..=rows).map(|back| past[n - back * p + place]).sum::<f64>() / rows as f64;
        let surprise = past[n - 1] - usual(p - 1);
        let mut features = Vec::with_capacity(self.columns());
        for place in 0..p {
            let at = |back: usize| past[n - back * p + place] - base;
            features.clear();
            features.extend([1.0, at(1), at(2), usual(place) - base, before - base]);
            features.extend(self.left.iter().map(|left| surprise * left[place]));
            if let Some((long, there, before)) = long {
                // the same place of the longer season, and what its row was above the row before it
                features.extend([at(long), there - base, before - base]);
            }
            cell(place, base, &features);
        }
    }

    fn predict(&self, past: &[f64], steps: usize) -> Option<Vec<f64>> {
        let recent = &past[past.len().saturating_sub(VALUES_MAX)..];
        let (p, n) = (self.period, recent.len());
        // rows are counted back from the end, so the next value is the first of a row
        let rows = n / p;
        let mut sums = Sums::new(self.columns(), ROWS * p as f64);
        for back in (1..=rows.checked_sub(self.above())?).rev() {
            let (above, row) = recent.split_at(n - back * p);
            self.row(above, |place, base, features| sums.add(features, row[place] - base));
        }
        let weights = sums.weights()?;
        let mut known = recent.to_vec();
        let mut next = vec![0.0; p];
        while known.len() < n + steps {
            self.row(&known, |place, base, features| next[place] = base + dot(features, &weights));
            known.extend_from_slice(&next);
        }
        known.truncate(n + steps);
        Some(known.split_off(n))
    }
}
