//! Lagged correlation of two equally sampled series.
//!
//! Pearson's r at every lag comes from FFT cross-correlations (sums of values, squares, products and of the rows
//! present), so rows that are missing on either side cost nothing; the few best lags are then computed again,
//! exactly. O(n log n). [`Target`] transforms one side once for many candidates, [`Ranking`] orders their correlations,
//! [`Cells`] puts rows on the grid that all share.
use statrs::distribution::{ContinuousCDF, StudentsT};

mod cells;
mod ranking;
mod target;
pub use cells::Cells;
pub use ranking::Ranking;
pub use target::Target;

#[cfg(test)]
mod tests;

/// The strongest lagged correlation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correlation {
    /// Rows by which `b` follows `a` (negative: `b` leads).
    pub lag: i64,
    /// Pearson's r at that lag.
    pub r: f64,
    /// Two-sided p-value, corrected for autocorrelation and for the number of lags tried.
    pub p_value: f64,
}

/// Lags computed again after the transform.
const FINALISTS: usize = 8;
/// Rows any correlation needs.
const ROWS_MIN: usize = 3;

/// Correlates `a[i]` with `b[i + lag]` for |lag| <= `max_lag`, rows with a NaN on either side left out.
/// `None` with fewer than 3 common rows or zero spread.
///
/// The lag is the one with the largest |r| among those that have at least half as many common rows as the best filled
/// one: with three rows any r is large. Of equal ones the nearest to 0 wins. The p-value is Student's, with
/// Bartlett's (1946) effective number of rows, `n / sum of acf_a(k) acf_b(k)`, and Šidák's correction for the lags
/// tried.
pub fn correlate(a: &[f64], b: &[f64], max_lag: usize) -> Option<Correlation> {
    let n = a.len().min(b.len());
    Target::new(&a[..n], max_lag)?.correlate(&b[..n])
}

/// A series about its mean in units of its largest deviation, absent rows NaN.
struct Centred {
    values: Vec<f64>,
    /// Whether no row is absent.
    complete: bool,
}

impl Centred {
    fn new(values: &[f64]) -> Option<Self> {
        let present: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        if present.len() < ROWS_MIN {
            return None;
        }
        let n = present.len() as f64;
        let mean = present.iter().map(|v| v / n).sum::<f64>();
        let largest = present.iter().fold(0.0f64, |m, v| m.max((v / 2.0 - mean / 2.0).abs()));
        if largest.is_nan() || largest <= 4.0 * f64::EPSILON * mean.abs() {
            return None;
        }
        let scale = |v: f64| if v.is_finite() { (v / 2.0 - mean / 2.0) / largest } else { f64::NAN };
        let complete = present.len() == values.len();
        Some(Self { values: values.iter().map(|&v| scale(v)).collect(), complete })
    }

    fn present(&self) -> impl Iterator<Item = f64> + '_ {
        self.values.iter().map(|v| f64::from(u8::from(!v.is_nan())))
    }

    fn filled(&self) -> impl Iterator<Item = f64> + '_ {
        self.values.iter().map(|v| if v.is_nan() { 0.0 } else { *v })
    }
}

/// r and the number of common rows at one lag, in two passes.
fn exact(a: &[f64], b: &[f64], lag: i64) -> Option<(f64, usize)> {
    let shift = lag.unsigned_abs() as usize;
    let (a, b) = if lag >= 0 { (&a[..a.len() - shift], &b[shift..]) } else { (&a[shift..], &b[..b.len() - shift]) };
    let common = || a.iter().zip(b).filter(|(x, y)| !x.is_nan() && !y.is_nan());
    let rows = common().count();
    if rows < ROWS_MIN {
        return None;
    }
    let (mut mean_a, mut mean_b) = (0.0, 0.0);
    for (x, y) in common() {
        mean_a += x / rows as f64;
        mean_b += y / rows as f64;
    }
    let (mut aa, mut bb, mut ab) = (0.0, 0.0, 0.0);
    for (x, y) in common() {
        let (x, y) = (x - mean_a, y - mean_b);
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    let floor = 1e-24 * rows as f64;
    (aa > floor && bb > floor).then(|| ((ab / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0), rows))
}

/// How many rows stand for one independent row, >= 1, by the autocorrelations of both sides.
fn inflation(a: &[f64], b: &[f64], rows: usize) -> f64 {
    let noise = 1.96 / (rows as f64).sqrt();
    let mut sum = 1.0;
    for (k, (x, y)) in a.iter().zip(b).enumerate().take(rows / 4 + 1).skip(1) {
        if x.abs() < noise && y.abs() < noise {
            // from here on the estimates are noise
            break;
        }
        sum += 2.0 * (1.0 - k as f64 / rows as f64) * x * y;
    }
    sum.max(1.0)
}

fn p_value(r: f64, rows: f64, lags: usize) -> f64 {
    let freedom = rows - 2.0;
    if freedom <= 0.0 {
        return 1.0;
    }
    if r.abs() >= 1.0 {
        return 0.0;
    }
    let t = r.abs() * (freedom / (1.0 - r * r)).sqrt();
    let single = StudentsT::new(0.0, 1.0, freedom).map_or(1.0, |d| (2.0 * d.sf(t)).clamp(0.0, 1.0));
    if single >= 1.0 { 1.0 } else { (-(lags.max(1) as f64 * (-single).ln_1p()).exp_m1()).clamp(0.0, 1.0) }
}
