//! One series against many.
use realfft::num_complex::Complex;

use super::{Centred, Correlation, FINALISTS, ROWS_MIN, exact, inflation, p_value};
use crate::spectrum::Spectrum;

/// A series that others are correlated with. Its transforms are made once; a candidate without gaps costs three more.
pub struct Target {
    centred: Centred,
    max_lag: i64,
    spectrum: Spectrum,
    transforms: Transforms,
    prefixes: Prefixes,
    autocorrelation: Vec<f64>,
}

/// Of the rows present, the values and their squares, absent rows 0.
struct Transforms {
    present: Vec<Complex<f64>>,
    values: Vec<Complex<f64>>,
    squares: Vec<Complex<f64>>,
}

/// Sums of the values, and of their squares, before each row.
struct Prefixes {
    values: Vec<f64>,
    squares: Vec<f64>,
}

impl Prefixes {
    fn new(values: &[f64]) -> Self {
        let sums = |f: fn(f64) -> f64| {
            let mut sum = 0.0;
            let after = values.iter().map(|&v| {
                sum += f(v);
                sum
            });
            std::iter::once(0.0).chain(after).collect()
        };
        Self { values: sums(|v| v), squares: sums(|v| v * v) }
    }

    /// Sum and sum of squares of some rows.
    fn of(&self, rows: std::ops::Range<usize>) -> (f64, f64) {
        let between = |sums: &[f64]| sums[rows.end] - sums[rows.start];
        (between(&self.values), between(&self.squares))
    }
}

/// Sums over the common rows at one lag.
struct Sums {
    rows: f64,
    /// Values and squares of the target, then of the candidate.
    target: (f64, f64),
    candidate: (f64, f64),
    product: f64,
}

impl Sums {
    fn r(&self) -> f64 {
        let variance = |(sum, square): (f64, f64)| (square - sum * sum / self.rows).max(0.0);
        let spread = (variance(self.target) * variance(self.candidate)).sqrt();
        ((self.product - self.target.0 * self.candidate.0 / self.rows) / spread.max(1e-12)).clamp(-1.0, 1.0)
    }
}

impl Target {
    /// For lags up to `max_lag` either way. `None` with fewer than 3 finite rows or zero spread.
    pub fn new(values: &[f64], max_lag: usize) -> Option<Self> {
        let centred = Centred::new(values)?;
        let n = values.len();
        let max_lag = max_lag.min(n - 1);
        let mut spectrum = Spectrum::new(n, max_lag.max(n / 4));
        let transforms = Transforms {
            present: spectrum.forward(centred.present()),
            values: spectrum.forward(centred.filled()),
            squares: spectrum.forward(centred.filled().map(|v| v * v)),
        };
        let autocorrelation = autocorrelation(&mut spectrum, &transforms.values, n / 4);
        let prefixes = Prefixes::new(&centred.filled().collect::<Vec<_>>());
        Some(Self { centred, max_lag: max_lag as i64, spectrum, transforms, prefixes, autocorrelation })
    }

    /// The strongest correlation with a candidate, row for row; as [`super::correlate`], where the target is `a`. Rows that
    /// it lacks at the end are absent, rows beyond the target's are left out.
    pub fn correlate(&mut self, candidate: &[f64]) -> Option<Correlation> {
        let n = self.centred.values.len();
        let mut rows = candidate[..candidate.len().min(n)].to_vec();
        rows.resize(n, f64::NAN);
        let candidate = Centred::new(&rows)?;
        let values = self.spectrum.forward(candidate.filled());
        let autocorrelation = autocorrelation(&mut self.spectrum, &values, n / 4);
        let mut screened = self.screen(&candidate, values);
        let lags_tried = screened.len();
        screened.sort_by(|x, y| y.1.abs().total_cmp(&x.1.abs()).then(x.0.abs().cmp(&y.0.abs())).then(x.0.cmp(&y.0)));
        screened.truncate(FINALISTS);
        // those that differ by rounding only are tried from lag 0 outwards
        screened.sort_by_key(|&(lag, _)| (lag.abs(), lag));
        let (lag, r, rows) = screened
            .into_iter()
            .filter_map(|(lag, _)| exact(&self.centred.values, &candidate.values, lag).map(|(r, rows)| (lag, r, rows)))
            .reduce(|best, next| if next.1.abs() > best.1.abs() + 1e-12 { next } else { best })?;
        let rows_effective = rows as f64 / inflation(&self.autocorrelation, &autocorrelation, rows);
        Some(Correlation { lag, r, p_value: p_value(r, rows_effective, lags_tried) })
    }

    /// r at every lag with enough rows, good to about 1e-9.
    fn screen(&mut self, candidate: &Centred, values: Vec<Complex<f64>>) -> Vec<(i64, f64)> {
        let product = self.spectrum.cross(&self.transforms.values, &values);
        if self.centred.complete && candidate.complete {
            self.screen_complete(candidate, &product)
        } else {
            self.screen_with_gaps(candidate, values, &product)
        }
    }

    /// Without gaps the common rows at a lag are a stretch of either side.
    fn screen_complete(&self, candidate: &Centred, product: &[f64]) -> Vec<(i64, f64)> {
        let n = self.centred.values.len();
        let prefixes = Prefixes::new(&candidate.values);
        let enough = ROWS_MIN.max(n.div_ceil(2));
        let sums = |lag: i64| {
            let shift = lag.unsigned_abs() as usize;
            let (early, late) = (0..n - shift, shift..n);
            let (of_target, of_candidate) = if lag >= 0 { (early, late) } else { (late, early) };
            let sums = Sums {
                rows: (n - shift) as f64,
                target: self.prefixes.of(of_target),
                candidate: prefixes.of(of_candidate),
                product: product[self.spectrum.index(lag)],
            };
            (n - shift >= enough).then(|| (lag, sums.r()))
        };
        (-self.max_lag..=self.max_lag).filter_map(sums).collect()
    }

    fn screen_with_gaps(&mut self, candidate: &Centred, values: Vec<Complex<f64>>, product: &[f64]) -> Vec<(i64, f64)> {
        let present = self.spectrum.forward(candidate.present());
        let squares = self.spectrum.forward(candidate.filled().map(|v| v * v));
        let (of, spectrum) = (&self.transforms, &mut self.spectrum);
        let rows = spectrum.cross(&of.present, &present);
        let target = (spectrum.cross(&of.values, &present), spectrum.cross(&of.squares, &present));
        let candidate = (spectrum.cross(&of.present, &values), spectrum.cross(&of.present, &squares));
        let spectrum = &self.spectrum;
        let lags = || (-self.max_lag..=self.max_lag).map(|lag| (lag, spectrum.index(lag)));
        let most = lags().map(|(_, i)| rows[i].round()).fold(0.0, f64::max);
        let enough = (ROWS_MIN as f64).max((most / 2.0).ceil());
        let sums = |i: usize| Sums {
            rows: rows[i].round(),
            target: (target.0[i], target.1[i]),
            candidate: (candidate.0[i], candidate.1[i]),
            product: product[i],
        };
        lags().filter(|&(_, i)| rows[i].round() >= enough).map(|(lag, i)| (lag, sums(i).r())).collect()
    }
}

/// Autocorrelations at lags 0 to `lag_max`, by the transform of a series about its mean.
fn autocorrelation(spectrum: &mut Spectrum, values: &[Complex<f64>], lag_max: usize) -> Vec<f64> {
    let mut sums = spectrum.cross(values, values);
    sums.truncate(lag_max + 1);
    let power = sums[0];
    sums.iter_mut().for_each(|v| *v /= power);
    sums
}
