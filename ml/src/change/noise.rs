//! How much a series moves when nothing changes.
//!
//! The first-order autocorrelation is taken from medians of differences over one and two rows, which level shifts
//! hardly disturb: for an AR(1) process the ratio of their squares is 1 + phi (Chakar, Lebarbier, Lévy-Leduc and
//! Robin 2017, "A robust approach for estimating change-points in the mean of an AR(1) process").

/// Strongest autocorrelation believed.
const PHI_MAX: f64 = 0.99;
/// ... and for the scatter at one place, where part of what looks like autocorrelation may be the change itself.
const PHI_LOCAL_MAX: f64 = 0.6;
/// Values further than this many spreads from the median of five are clipped.
const CLIP: f64 = 5.0;
const SIGMA_PER_MAD: f64 = 1.4826;
const SIGMA_PER_Q90: f64 = 1.0 / 1.6449;

/// Noise of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    /// Variance of a mean of many rows, times their number; never more than the variance about one straight line.
    pub(super) long_run: f64,
    /// By how much autocorrelation multiplies the variance at one place.
    pub(super) inflation: f64,
}

impl Noise {
    pub(super) fn of(values: &[f64]) -> Self {
        let apart =
            |rows: usize| -> Vec<f64> { values.iter().zip(&values[rows..]).map(|(a, b)| (b - a).abs()).collect() };
        let (one, two) = (apart(1), apart(2));
        let middle = median(one.clone());
        let (sigma, phi) = if middle > 0.0 {
            let ratio = median(two) / middle;
            (SIGMA_PER_MAD * middle, (ratio * ratio - 1.0).clamp(0.0, PHI_MAX))
        } else {
            // most rows repeat the one before
            let high = quantile(one.clone(), 0.9);
            let sigma = if high > 0.0 {
                SIGMA_PER_Q90 * high
            } else {
                (one.iter().map(|d| d * d).sum::<f64>() / one.len() as f64).sqrt()
            };
            (sigma, 0.0)
        };
        let innovation = sigma * sigma * (1.0 + phi) / 2.0;
        let n = values.len() as f64;
        let (mean, slope) = (super::segment::mean(values), super::segment::slope(values));
        let centre = (n - 1.0) / 2.0;
        let about_line =
            values.iter().enumerate().map(|(i, v)| (v - mean - slope * (i as f64 - centre)).powi(2)).sum::<f64>() / n;
        let local = phi.min(PHI_LOCAL_MAX);
        Self { long_run: (innovation / (1.0 - phi).powi(2)).min(about_line), inflation: (1.0 + local) / (1.0 - local) }
    }
}

/// Values held to five spreads about the running median of five.
pub(super) fn clip(values: &[f64]) -> Vec<f64> {
    let n = values.len();
    let medians: Vec<f64> = (0..n)
        .map(|i| {
            let from = i.saturating_sub(2).min(n - 5);
            let mut five = [values[from], values[from + 1], values[from + 2], values[from + 3], values[from + 4]];
            five.sort_by(f64::total_cmp);
            five[2]
        })
        .collect();
    let off: Vec<f64> = values.iter().zip(&medians).map(|(v, m)| (v - m).abs()).collect();
    let mut reach = CLIP * SIGMA_PER_MAD * median(off.clone());
    if reach == 0.0 {
        reach = CLIP * SIGMA_PER_Q90 * quantile(off, 0.9);
    }
    if reach == 0.0 {
        return values.to_vec();
    }
    values.iter().zip(&medians).map(|(v, m)| v.clamp(m - reach, m + reach)).collect()
}

/// The upper median.
pub(super) fn median(values: Vec<f64>) -> f64 {
    quantile(values, 0.5)
}

fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let rank = ((values.len() as f64 * share) as usize).min(values.len() - 1);
    *values.select_nth_unstable_by(rank, f64::total_cmp).1
}
