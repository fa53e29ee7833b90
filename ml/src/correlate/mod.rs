//! Lagged correlation of two equally sampled series.
//!
//! Pearson's r at every lag comes from six FFT cross-correlations (sums of values, squares, products and of the rows
//! present), so rows that are missing on either side cost nothing; the few best lags are then computed again,
//! exactly. O(n log n).
use crate::spectrum::{Spectrum, autocorrelation};
use statrs::distribution::{ContinuousCDF, StudentsT};

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
    if n < ROWS_MIN {
        return None;
    }
    let (a, b) = (Centred::new(&a[..n])?, Centred::new(&b[..n])?);
    let max_lag = max_lag.min(n - 1) as i64;
    let mut screened = screen(&a, &b, max_lag);
    let lags_tried = screened.len();
    screened.sort_by(|x, y| y.1.abs().total_cmp(&x.1.abs()).then(x.0.abs().cmp(&y.0.abs())).then(x.0.cmp(&y.0)));
    screened.truncate(FINALISTS);
    let (lag, r, rows) = screened
        .into_iter()
        .filter_map(|(lag, _)| exact(&a.values, &b.values, lag).map(|(r, rows)| (lag, r, rows)))
        .reduce(|best, next| if next.1.abs() > best.1.abs() + 1e-12 { next } else { best })?;
    let rows_effective = rows as f64 / inflation(&a, &b, rows);
    Some(Correlation { lag, r, p_value: p_value(r, rows_effective, lags_tried) })
}

/// A series about its mean in units of its largest deviation, absent rows NaN.
struct Centred {
    values: Vec<f64>,
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
        Some(Self { values: values.iter().map(|&v| scale(v)).collect() })
    }

    fn present(&self) -> impl Iterator<Item = f64> + '_ {
        self.values.iter().map(|v| f64::from(u8::from(!v.is_nan())))
    }

    fn filled(&self) -> impl Iterator<Item = f64> + '_ {
        self.values.iter().map(|v| if v.is_nan() { 0.0 } else { *v })
    }
}

/// r at every lag with enough rows and spread, good to about 1e-9.
fn screen(a: &Centred, b: &Centred, max_lag: i64) -> Vec<(i64, f64)> {
    let mut spectrum = Spectrum::new(a.values.len(), max_lag as usize);
    let transforms = |spectrum: &mut Spectrum, x: &Centred| {
        [spectrum.forward(x.present()), spectrum.forward(x.filled()), spectrum.forward(x.filled().map(|v| v * v))]
    };
    let [a0, a1, a2] = transforms(&mut spectrum, a);
    let [b0, b1, b2] = transforms(&mut spectrum, b);
    let rows = spectrum.cross(&a0, &b0);
    let (sum_a, sum_b) = (spectrum.cross(&a1, &b0), spectrum.cross(&a0, &b1));
    let (square_a, square_b) = (spectrum.cross(&a2, &b0), spectrum.cross(&a0, &b2));
    let product = spectrum.cross(&a1, &b1);
    let lags = || (-max_lag..=max_lag).map(|lag| (lag, spectrum.index(lag)));
    let most = lags().map(|(_, i)| rows[i].round()).fold(0.0, f64::max);
    let enough = (ROWS_MIN as f64).max((most / 2.0).ceil());
    lags()
        .filter(|&(_, i)| rows[i].round() >= enough)
        .map(|(lag, i)| {
            let n = rows[i].round();
            let variance = |square: f64, sum: f64| (square - sum * sum / n).max(0.0);
            let spread = (variance(square_a[i], sum_a[i]) * variance(square_b[i], sum_b[i])).sqrt();
            let r = (product[i] - sum_a[i] * sum_b[i] / n) / spread.max(1e-12);
            (lag, r.clamp(-1.0, 1.0))
        })
        .collect()
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

/// How many rows stand for one independent row, >= 1.
fn inflation(a: &Centred, b: &Centred, rows: usize) -> f64 {
    let lag_max = rows / 4;
    let filled = |x: &Centred| autocorrelation(&x.filled().collect::<Vec<_>>(), lag_max);
    let (a, b) = (filled(a), filled(b));
    let noise = 1.96 / (rows as f64).sqrt();
    let mut sum = 1.0;
    for (k, (x, y)) in a.iter().zip(&b).enumerate().skip(1) {
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
