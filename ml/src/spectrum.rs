//! Correlation sums through the fast Fourier transform.
use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

/// Transforms of zero-padded real series of one length.
pub(crate) struct Spectrum {
    planner: RealFftPlanner<f64>,
    len: usize,
}

impl Spectrum {
    /// For sums over `rows` rows at lags up to `lag_max` either way, without wrap-around.
    pub(crate) fn new(rows: usize, lag_max: usize) -> Self {
        Self { planner: RealFftPlanner::new(), len: (rows + lag_max + 1).next_power_of_two().max(2) }
    }

    /// The transform of `values` padded with zeros.
    pub(crate) fn forward(&mut self, values: impl Iterator<Item = f64>) -> Vec<Complex<f64>> {
        let plan = self.planner.plan_fft_forward(self.len);
        let mut input = plan.make_input_vec();
        for (cell, value) in input.iter_mut().zip(values) {
            *cell = value;
        }
        let mut output = plan.make_output_vec();
        // lengths come from the plan itself, so there is no error to meet
        let done = plan.process(&mut input, &mut output);
        debug_assert!(done.is_ok());
        output
    }

    /// `sums[lag]` = sum of `a[i] * b[i + lag]`; negative lags stand at the end, `sums[len - |lag|]`.
    pub(crate) fn cross(&mut self, a: &[Complex<f64>], b: &[Complex<f64>]) -> Vec<f64> {
        let plan = self.planner.plan_fft_inverse(self.len);
        let mut product: Vec<Complex<f64>> = a.iter().zip(b).map(|(a, b)| a.conj() * b).collect();
        // real by symmetry, but for rounding
        product[0].im = 0.0;
        if let Some(last) = product.last_mut() {
            last.im = 0.0;
        }
        let mut output = plan.make_output_vec();
        let done = plan.process(&mut product, &mut output);
        debug_assert!(done.is_ok());
        let scale = 1.0 / self.len as f64;
        output.iter_mut().for_each(|v| *v *= scale);
        output
    }

    /// Where a lag stands in the answer of [`Spectrum::cross`].
    pub(crate) fn index(&self, lag: i64) -> usize {
        if lag >= 0 { lag as usize } else { self.len - lag.unsigned_abs() as usize }
    }
}

/// Products up to which sums are faster than the planning of a transform.
const DIRECT_MAX: usize = 1 << 17;

/// `sums[lag]` = sum of `values[i] * values[i + lag]`, without a transform.
fn direct(values: &[f64], lag_max: usize) -> Vec<f64> {
    let mut sums = vec![0.0; lag_max + 1];
    for (i, a) in values.iter().enumerate() {
        for (sum, b) in sums.iter_mut().zip(&values[i..]) {
            *sum += a * b;
        }
    }
    sums
}

/// Autocorrelations of `values` about their mean at lags 0 to `lag_max`; empty without spread.
pub(crate) fn autocorrelation(values: &[f64], lag_max: usize) -> Vec<f64> {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n.max(1) as f64;
    let lag_max = lag_max.min(n.saturating_sub(1));
    let centred: Vec<f64> = values.iter().map(|v| v - mean).collect();
    let mut sums = if n * (lag_max + 1) <= DIRECT_MAX {
        direct(&centred, lag_max)
    } else {
        let mut spectrum = Spectrum::new(n, lag_max);
        let transform = spectrum.forward(centred.into_iter());
        spectrum.cross(&transform, &transform)
    };
    let power = sums[0];
    if !(power.is_finite() && power > 0.0) {
        return Vec::new();
    }
    sums.truncate(lag_max + 1);
    sums.iter_mut().for_each(|v| *v /= power);
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_same_with_and_without_a_transform() {
        let values: Vec<f64> = (0..95).map(|i| f64::from(i * i % 17) - 8.0).collect();
        let mut spectrum = Spectrum::new(values.len(), 47);
        let transform = spectrum.forward(values.iter().copied());
        let transformed = spectrum.cross(&transform, &transform);
        for (lag, (a, b)) in direct(&values, 47).into_iter().zip(transformed).enumerate() {
            assert!((a - b).abs() < 1e-9, "lag {lag}: {a} {b}");
        }
    }
}
