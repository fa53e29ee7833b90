//! Ridge regression on sums of products: the cost is rows times columns squared, the memory columns squared.
//!
//! The penalty is chosen by generalised cross-validation (Golub, Heath and Wahba 1979).

/// Penalties tried, as shares of the sum of squares of a column.
const PENALTIES: [f64; 7] = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// Rows that are needed for each column.
pub(super) const ROWS_PER_COLUMN_MIN: usize = 3;

/// Sums of products of columns and of the value that they explain.
pub(super) struct Sums {
    columns: usize,
    /// `xx[i * columns + j]`
    xx: Vec<f64>,
    xy: Vec<f64>,
    yy: f64,
    rows: usize,
    /// What a row counts for one row later.
    keep: f64,
}

impl Sums {
    /// Rows are forgotten so that the last `memory` of them count for most.
    pub(super) fn new(columns: usize, memory: f64) -> Self {
        let keep = 1.0 - 1.0 / memory.max(1.0);
        Self { columns, xx: vec![0.0; columns * columns], xy: vec![0.0; columns], yy: 0.0, rows: 0, keep }
    }

    pub(super) fn add(&mut self, features: &[f64], value: f64) {
        let keep = self.keep;
        for (i, a) in features.iter().enumerate() {
            let row = &mut self.xx[i * self.columns..][..=i];
            row.iter_mut().zip(features).for_each(|(sum, b)| *sum = keep * *sum + a * b);
            self.xy[i] = keep * self.xy[i] + a * value;
        }
        self.yy = keep * self.yy + value * value;
        self.rows += 1;
    }

    /// The weights; `None` with too few rows, without spread, or when nothing can be solved.
    pub(super) fn weights(&self) -> Option<Vec<f64>> {
        let d = self.columns;
        if d == 0 || self.rows < ROWS_PER_COLUMN_MIN * d {
            return None;
        }
        // columns in units of their own size, so that one penalty fits all; a column of zeros stays out
        let scale: Vec<f64> = (0..d)
            .map(|i| self.xx[i * d + i])
            .map(|sum| if sum > 1e-18 * self.rows as f64 { 1.0 / sum.sqrt() } else { 0.0 })
            .collect();
        let mut xx = vec![0.0; d * d];
        for i in 0..d {
            for j in 0..=i {
                xx[i * d + j] = self.xx[i * d + j] * scale[i] * scale[j];
            }
        }
        let xy: Vec<f64> = self.xy.iter().zip(&scale).map(|(v, s)| v * s).collect();
        let mut best: Option<(f64, Vec<f64>)> = None;
        for penalty in PENALTIES {
            let Some((score, weights)) = self.solve(&xx, &xy, penalty) else { continue };
            if best.as_ref().is_none_or(|b| score < b.0) {
                best = Some((score, weights));
            }
        }
        let (_, weights) = best?;
        Some(weights.iter().zip(&scale).map(|(w, s)| w * s).collect())
    }

    /// Cross-validation score and weights for one penalty.
    fn solve(&self, xx: &[f64], xy: &[f64], penalty: f64) -> Option<(f64, Vec<f64>)> {
        let d = self.columns;
        let mut matrix = xx.to_vec();
        (0..d).for_each(|i| matrix[i * d + i] += penalty);
        let factor = cholesky(matrix, d)?;
        let weights = substitute(&factor, d, xy.to_vec());
        // degrees of freedom: d less the penalty times the trace of the inverse
        let freedom = d as f64 - penalty * inverse_trace(&factor, d);
        let explained = dot(&weights, xy);
        let squares = dot(&weights, &weights);
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
            let sum = dot(&matrix[i * d..][..j], &matrix[j * d..][..j]);
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

/// Trace of the inverse of `L L'`: the sum of squares of the inverse of `L`.
fn inverse_trace(factor: &[f64], d: usize) -> f64 {
    // row j holds column j of the inverse of L
    let mut inverse = vec![0.0; d * d];
    let mut trace = 0.0;
    for j in 0..d {
        let column = &mut inverse[j * d..][..d];
        for i in j..d {
            let known = dot(&factor[i * d + j..][..i - j], &column[j..i]);
            column[i] = (if i == j { 1.0 } else { 0.0 } - known) / factor[i * d + i];
        }
        trace += dot(column, column);
    }
    trace
}

/// Four sums in turns: one would wait for itself.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a4, b4) = (a.chunks_exact(4), b[..a.len()].chunks_exact(4));
    let rest: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a4.zip(b4) {
        for i in 0..4 {
            sums[i] += a[i] * b[i];
        }
    }
    sums[0] + sums[1] + (sums[2] + sums[3]) + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So long that nothing is forgotten.
    const ALL: f64 = f64::INFINITY;

    #[test]
    fn weights_are_found_again() {
        let mut sums = Sums::new(3, ALL);
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
    fn old_rows_are_forgotten() {
        let weight = |memory: f64| {
            let mut sums = Sums::new(1, memory);
            (0..400).for_each(|i| {
                sums.add(&[1.0 + f64::from(i % 5)], f64::from(if i < 300 { 1 } else { 3 }) * f64::from(1 + i % 5))
            });
            sums.weights().unwrap()[0]
        };
        assert!((weight(ALL) - 1.5).abs() < 0.05, "{}", weight(ALL));
        assert!((weight(20.0) - 3.0).abs() < 0.05, "{}", weight(20.0));
    }

    #[test]
    fn too_few_rows_and_columns_of_zeros_are_survived() {
        let mut few = Sums::new(2, ALL);
        few.add(&[1.0, 2.0], 3.0);
        assert_eq!(few.weights(), None);
        let mut zeros = Sums::new(2, ALL);
        (0..20).for_each(|i| zeros.add(&[f64::from(i), 0.0], 2.0 * f64::from(i)));
        let weights = zeros.weights().unwrap();
        assert!((weights[0] - 2.0).abs() < 0.01 && weights[1] == 0.0, "{weights:?}");
    }

    #[test]
    fn the_trace_of_an_inverse_is_that_of_the_inverse() {
        // [[4, 2], [2, 3]] has the inverse [[3, -2], [-2, 4]] / 8
        let factor = cholesky(vec![4.0, 0.0, 2.0, 3.0], 2).unwrap();
        assert!((inverse_trace(&factor, 2) - 7.0 / 8.0).abs() < 1e-12);
    }
}
