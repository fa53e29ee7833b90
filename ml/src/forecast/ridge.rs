//! Ridge regression: the solver, and the three forecasters that use it.
//!
//! - [`shaped`]: the series as a matrix with one row a season, aligned to its end. Each cell is predicted from the
//!   cells above it, from the means of the rows above and from how far the last value is off what was usual there,
//!   all measured from the level of the row before. One set of weights serves the whole matrix, so that a season is
//!   predicted at once and errors do not feed themselves step by step.
//! - [`lagged`]: the next step from the steps before it and from those around one season ago, all measured from the
//!   last value; step after step.
//! - [`lagged_log`]: the same on logarithms, from more lags: what grows or swings by a share of its level.
//!
//! The penalty is chosen by generalised cross-validation (Golub, Heath and Wahba 1979). All is done on sums of
//! products, so the cost is rows times columns squared, and the memory columns squared.
use super::models::bounds;
use super::seasons::Seasons;

/// Newest values that are learnt from.
const VALUES_MAX: usize = 4_000;
/// Penalties tried, as shares of the mean sum of squares of a column.
const PENALTIES: [f64; 7] = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// Rows that are needed for each column.
const ROWS_PER_COLUMN_MIN: usize = 3;
/// Rows of the matrix whose mean is the usual value of a place in the season.
const USUAL_MAX: usize = 4;
/// How fast the surprise of the last value is forgotten, a step.
const FORGETTING: [f64; 2] = [0.8, 0.97];
/// Lags that are always looked at, and by [`lagged_log`].
const LAGS: usize = 6;
const LAGS_MORE: usize = 24;
/// How far [`lagged_log`] may leave the range of the past, as a share of it: errors of a logarithm explode.
const ROOM: f64 = 0.5;

/// Sums of products of columns and of the value that they explain.
struct Sums {
    columns: usize,
    /// `xx[i * columns + j]`
    xx: Vec<f64>,
    xy: Vec<f64>,
    yy: f64,
    rows: usize,
}

impl Sums {
    fn new(columns: usize) -> Self {
        Self { columns, xx: vec![0.0; columns * columns], xy: vec![0.0; columns], yy: 0.0, rows: 0 }
    }

    fn add(&mut self, features: &[f64], value: f64) {
        for (i, a) in features.iter().enumerate() {
            let row = &mut self.xx[i * self.columns..][..=i];
            row.iter_mut().zip(features).for_each(|(sum, b)| *sum += a * b);
            self.xy[i] += a * value;
        }
        self.yy += value * value;
        self.rows += 1;
    }

    /// The weights; `None` with too few rows, without spread, or when nothing can be solved.
    fn weights(mut self) -> Option<Vec<f64>> {
        let d = self.columns;
        if d == 0 || self.rows < ROWS_PER_COLUMN_MIN * d {
            return None;
        }
        // columns in units of their own size, so that one penalty fits all; a column of zeros stays out
        let scale: Vec<f64> = (0..d)
            .map(|i| self.xx[i * d + i])
            .map(|sum| if sum > 1e-18 * self.rows as f64 { 1.0 / sum.sqrt() } else { 0.0 })
            .collect();
        for i in 0..d {
            for j in 0..=i {
                let scaled = self.xx[i * d + j] * scale[i] * scale[j];
                self.xx[i * d + j] = scaled;
                self.xx[j * d + i] = scaled;
            }
            self.xy[i] *= scale[i];
        }
        let mut best: Option<(f64, Vec<f64>)> = None;
        for penalty in PENALTIES {
            let Some((score, weights)) = self.solve(penalty) else { continue };
            if best.as_ref().is_none_or(|b| score < b.0) {
                best = Some((score, weights));
            }
        }
        let (_, weights) = best?;
        Some(weights.iter().zip(&scale).map(|(w, s)| w * s).collect())
    }

    /// Cross-validation score and weights for one penalty.
    fn solve(&self, penalty: f64) -> Option<(f64, Vec<f64>)> {
        let d = self.columns;
        let mut matrix = self.xx.clone();
        (0..d).for_each(|i| matrix[i * d + i] += penalty);
        let factor = cholesky(matrix, d)?;
        let weights = substitute(&factor, d, self.xy.clone());
        // degrees of freedom: d less the penalty times the trace of the inverse
        let inverse: f64 = (0..d)
            .map(|i| {
                let mut unit = vec![0.0; d];
                unit[i] = 1.0;
                substitute(&factor, d, unit)[i]
            })
            .sum();
        let freedom = d as f64 - penalty * inverse;
        let explained: f64 = weights.iter().zip(&self.xy).map(|(w, xy)| w * xy).sum();
        let squares: f64 = weights.iter().map(|w| w * w).sum();
        // (X'X + pI) w = X'y, hence w'X'Xw = w'X'y - p w'w
        let rest = (self.yy - explained - penalty * squares).max(0.0);
        let free = 1.0 - freedom / self.rows as f64;
        (free > 0.0 && rest.is_finite()).then(|| (rest / (free * free), weights))
    }
}

/// The lower triangle whose square is the matrix; `None` when it has none.
fn cholesky(mut matrix: Vec<f64>, d: usize) -> Option<Vec<f64>> {
    for i in 0..d {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| matrix[i * d + k] * matrix[j * d + k]).sum();
            let rest = matrix[i * d + j] - sum;
            matrix[i * d + j] = if i > j {
                rest / matrix[j * d + j]
            } else if rest > 0.0 {
                rest.sqrt()
            } else {
                return None;
            };
        }
    }
    Some(matrix)
}

/// Solves `L L' x = y`.
fn substitute(factor: &[f64], d: usize, mut y: Vec<f64>) -> Vec<f64> {
    for i in 0..d {
        let sum: f64 = (0..i).map(|k| factor[i * d + k] * y[k]).sum();
        y[i] = (y[i] - sum) / factor[i * d + i];
    }
    for i in (0..d).rev() {
        let sum: f64 = (i + 1..d).map(|k| factor[k * d + i] * y[k]).sum();
        y[i] = (y[i] - sum) / factor[i * d + i];
    }
    y
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// What one cell of the matrix is predicted from.
struct Shape {
    period: usize,
    /// Rows in a longer season, if that is a whole number of them.
    long: Option<usize>,
}

impl Shape {
    fn new(seasons: &Seasons, n: usize) -> Option<Self> {
        let periods = seasons.within(n);
        let &period = periods.first().filter(|&&period| period >= 2)?;
        let long = periods[1..].iter().find(|&&p| p % period == 0).map(|&p| p / period);
        Some(Self { period, long: long.filter(|&rows| rows >= 2) })
    }

    /// Rows that must stand above.
    fn above(&self) -> usize {
        self.long.map_or(2, |rows| rows + 1).max(2)
    }

    /// The level that all is measured from, and the features of each place of the row after `past`, whose length is
    /// at least `above` rows.
    fn features(&self, past: &[f64]) -> (f64, Vec<Vec<f64>>) {
        let (p, n) = (self.period, past.len());
        let level = |back: usize| mean(&past[n - back * p..][..p]);
        let rows = (n / p).min(USUAL_MAX);
        let base = level(1);
        let usual = |place: usize| (1..=rows).map(|back| past[n - back * p + place]).sum::<f64>() / rows as f64;
        let surprise = past[n - 1] - usual(p - 1);
        let features = (0..p)
            .map(|place| {
                let at = |back: usize| past[n - back * p + place] - base;
                let mut row = vec![1.0, at(1), at(2), usual(place) - base, level(2) - base];
                row.extend(FORGETTING.iter().map(|kept| surprise * kept.powi(place as i32 + 1)));
                if let Some(long) = self.long {
                    // the same place of the longer season, and what its row was above the row before it
                    row.extend([at(long), level(long) - base, level(long + 1) - base]);
                }
                row
            })
            .collect();
        (base, features)
    }
}

/// The series as a matrix of seasons; `None` without a season or with too few of them.
pub(super) fn shaped(values: &[f64], seasons: &Seasons, horizon: usize) -> Option<Vec<f64>> {
    let recent = &values[values.len().saturating_sub(VALUES_MAX)..];
    let n = recent.len();
    let shape = Shape::new(seasons, n)?;
    let (p, above) = (shape.period, shape.above());
    // rows are counted back from the end, so the next value is the first of a row
    let rows = n / p;
    let mut sums: Option<Sums> = None;
    for back in (1..=rows.checked_sub(above)?).rev() {
        let origin = n - back * p;
        let (base, features) = shape.features(&recent[..origin]);
        for (row, value) in features.iter().zip(&recent[origin..]) {
            sums.get_or_insert_with(|| Sums::new(row.len())).add(row, value - base);
        }
    }
    let weights = sums?.weights()?;
    let mut known = recent.to_vec();
    while known.len() < n + horizon {
        let (base, features) = shape.features(&known);
        known.extend(features.iter().map(|row| base + dot(row, &weights)));
    }
    known.truncate(n + horizon);
    Some(known.split_off(n))
}

/// Lags that explain the next step, ascending; the first is 1.
fn lags(seasons: &Seasons, n: usize, more: bool) -> Vec<usize> {
    let mut lags: Vec<usize> = (1..=if more { LAGS_MORE } else { LAGS }).collect();
    for &period in seasons.within(n) {
        lags.extend([period - 1, period, period + 1, 2 * period]);
        if more {
            lags.extend([period - 2, period + 2, 2 * period - 1, 2 * period + 1, 3 * period]);
        }
    }
    lags.retain(|&lag| lag >= 1 && 2 * lag <= n);
    lags.sort_unstable();
    lags.dedup();
    lags
}

/// The next step from those before it; `None` with too few values.
pub(super) fn lagged(values: &[f64], seasons: &Seasons, horizon: usize) -> Option<Vec<f64>> {
    let recent = &values[values.len().saturating_sub(VALUES_MAX)..];
    continued(recent, &lags(seasons, recent.len(), false), horizon)
}

/// The same on logarithms; `None` unless all values are positive.
pub(super) fn lagged_log(values: &[f64], seasons: &Seasons, horizon: usize) -> Option<Vec<f64>> {
    let (low, high) = bounds(values);
    if low <= 0.0 {
        return None;
    }
    let recent = &values[values.len().saturating_sub(VALUES_MAX)..];
    let logs: Vec<f64> = recent.iter().map(|v| v.ln()).collect();
    let next = continued(&logs, &lags(seasons, logs.len(), true), horizon)?;
    let room = ROOM * (high - low);
    Some(next.into_iter().map(|v| v.exp().clamp(low - room, high + room)).collect())
}

/// Values carried on step by step from the given lags.
fn continued(recent: &[f64], lags: &[usize], horizon: usize) -> Option<Vec<f64>> {
    let n = recent.len();
    let longest = *lags.last()?;
    let features = |past: &[f64], row: &mut Vec<f64>| -> f64 {
        let base = past[past.len() - 1];
        row.clear();
        row.push(1.0);
        row.extend(lags[1..].iter().map(|lag| past[past.len() - lag] - base));
        base
    };
    let mut row = Vec::with_capacity(lags.len());
    let mut sums = Sums::new(lags.len());
    for origin in longest..n {
        let base = features(&recent[..origin], &mut row);
        sums.add(&row, recent[origin] - base);
    }
    let weights = sums.weights()?;
    let mut known = recent.to_vec();
    for _ in 0..horizon {
        let base = features(&known, &mut row);
        known.push(base + dot(&row, &weights));
    }
    Some(known.split_off(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_found_again() {
        let mut sums = Sums::new(3);
        for i in 0..200 {
            let row = [1.0, f64::from(i * 7 % 13), f64::from(i * i % 17)];
            sums.add(&row, 2.0 + 3.0 * row[1] - 0.5 * row[2]);
        }
        let weights = sums.weights().unwrap();
        for (got, truth) in weights.iter().zip([2.0, 3.0, -0.5]) {
            assert!((got - truth).abs() < 0.01, "{weights:?}");
        }
    }

    #[test]
    fn too_few_rows_and_columns_of_zeros_are_survived() {
        let mut few = Sums::new(2);
        few.add(&[1.0, 2.0], 3.0);
        assert_eq!(few.weights(), None);
        let mut zeros = Sums::new(2);
        (0..20).for_each(|i| zeros.add(&[f64::from(i), 0.0], 2.0 * f64::from(i)));
        let weights = zeros.weights().unwrap();
        assert!((weights[0] - 2.0).abs() < 0.01 && weights[1] == 0.0, "{weights:?}");
    }

    #[test]
    fn a_season_without_noise_is_continued_by_all() {
        let truth = |i: usize| [3.0, 1.0, 4.0, 1.5, 9.0, 2.0, 6.0][i % 7];
        let values: Vec<f64> = (0..140).map(truth).collect();
        let seasons = Seasons::find(&values, Some(7), 1);
        for next in [shaped, lagged, lagged_log].map(|model| model(&values, &seasons, 20).unwrap()) {
            for (i, v) in next.iter().enumerate() {
                assert!((v - truth(140 + i)).abs() < 0.1, "{i}: {v} {}", truth(140 + i));
            }
        }
    }

    #[test]
    fn growth_by_a_share_is_continued_on_logarithms_of_positive_values() {
        let values: Vec<f64> = (0..120).map(|i| 1.02f64.powi(i)).collect();
        let next = lagged_log(&values, &Seasons::default(), 5).unwrap();
        for (i, v) in next.iter().enumerate() {
            let truth = 1.02f64.powi(120 + i as i32);
            assert!((v / truth - 1.0).abs() < 0.01, "{i}: {v} {truth}");
        }
        let mut with_zero = values;
        with_zero[60] = 0.0;
        assert_eq!(lagged_log(&with_zero, &Seasons::default(), 5), None);
    }

    #[test]
    fn without_a_season_there_is_no_matrix() {
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        assert_eq!(shaped(&values, &Seasons::default(), 5), None);
        assert_eq!(lagged(&values[..8], &Seasons::default(), 5), None);
    }
}
