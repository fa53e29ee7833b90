//! The forecasters: each takes regular values and gives the next ones at every origin, or nothing when it cannot.
//!
//! Values are finite and scaled by the caller. No model is trusted: the caller checks what comes out.
use super::backtest::Span;
use super::seasons::{Adjusted, Seasons};
use super::{analogues, autoregression, matrix, smoothing};
use linfa::Dataset;
use linfa::traits::Fit as _;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2};
use std::f64::consts::TAU;

/// Known methods, in the order in which ties are broken: simple ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// The last value.
    Naive,
    /// The value one season ago.
    SeasonalNaive,
    /// The last value plus the mean step.
    Drift,
    /// Theta: exponential smoothing with half of the trend (Assimakopoulos and Nikolopoulos 2000, as Hyndman and
    /// Billah 2003), seasons taken out by MSTL.
    Theta,
    /// Exponential smoothing of the level and of each season.
    Ets,
    /// Exponential smoothing without seasons, which are taken out by MSTL.
    Mstl,
    /// Least squares on a line and harmonics of the seasons, errors of the first order carried on.
    Regression,
    /// Ridge regression on the series as a matrix with one row a season.
    Ridge,
    /// Ridge regression on the last steps and those of seasons ago.
    Autoregression,
    /// The same on logarithms of positive values.
    LogAutoregression,
    /// What followed the days most like the last.
    Analogues,
}

impl Model {
    pub(super) const ALL: [Self; 11] = [
        Self::Naive,
        Self::SeasonalNaive,
        Self::Drift,
        Self::Theta,
        Self::Ets,
        Self::Mstl,
        Self::Regression,
        Self::Ridge,
        Self::Autoregression,
        Self::LogAutoregression,
        Self::Analogues,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Naive => "naive",
            Self::SeasonalNaive => "seasonal_naive",
            Self::Drift => "drift",
            Self::Theta => "theta",
            Self::Ets => "ets",
            Self::Mstl => "mstl",
            Self::Regression => "regression",
            Self::Ridge => "ridge",
            Self::Autoregression => "autoregression",
            Self::LogAutoregression => "log_autoregression",
            Self::Analogues => "analogues",
        }
    }

    /// Whether it is a benchmark, which others must not fall behind.
    pub(super) fn is_simple(self) -> bool {
        matches!(self, Self::Naive | Self::SeasonalNaive | Self::Drift | Self::Theta)
    }

    /// The next values at each of `spans`, whose origins ascend; `None` when there is too little to go by at one of
    /// them or what comes out is not finite.
    pub(super) fn predict(self, values: &[f64], seasons: &Seasons, spans: &[Span]) -> Option<Vec<Vec<f64>>> {
        let each = |one: fn(&[f64], &Seasons, usize) -> Option<Vec<f64>>| {
            spans.iter().map(|span| one(&values[..span.origin], seasons, span.steps)).collect::<Option<Vec<_>>>()
        };
        let answers = match self {
            Self::Naive => each(|past, _, steps| Some(vec![*past.last()?; steps])),
            Self::SeasonalNaive => each(seasonal_naive),
            Self::Drift => each(|past, _, steps| drift(past, steps)),
            Self::Theta => each(|past, seasons, steps| adjusted(past, seasons, steps, theta)),
            Self::Mstl => each(|past, seasons, steps| adjusted(past, seasons, steps, smoothing::unseasonal)),
            Self::Regression => each(regression),
            Self::Ets => smoothing::smoothed(values, seasons, spans),
            Self::Ridge => matrix::shaped(values, seasons, spans),
            Self::Autoregression | Self::LogAutoregression => autoregression::continued(values, seasons, spans),
            Self::Analogues => analogues::followed(values, seasons, spans),
        }?;
        answers.iter().flatten().all(|v| v.is_finite()).then_some(answers)
    }
}

/// A model of the series without its seasons, which are put back.
fn adjusted(
    past: &[f64],
    seasons: &Seasons,
    steps: usize,
    model: fn(&[f64], usize) -> Option<Vec<f64>>,
) -> Option<Vec<f64>> {
    let adjusted = Adjusted::new(past, seasons);
    Some(adjusted.reseason(model(&adjusted.values, steps)?))
}

fn seasonal_naive(values: &[f64], seasons: &Seasons, horizon: usize) -> Option<Vec<f64>> {
    let period = seasons.longest_in(values.len());
    let last = values.get(values.len().checked_sub(period)?..)?;
    Some(last.iter().copied().cycle().take(horizon).collect())
}

fn drift(values: &[f64], horizon: usize) -> Option<Vec<f64>> {
    let n = values.len();
    let (first, last) = (values.first()?, values.last()?);
    let slope = (last - first) / (n.checked_sub(1).filter(|&steps| steps > 0)?) as f64;
    Some((1..=horizon).map(|h| last + slope * h as f64).collect())
}

fn theta(values: &[f64], horizon: usize) -> Option<Vec<f64>> {
    let n = values.len();
    if n < 3 {
        return None;
    }
    let slope = slope(values);
    let (alpha, level) = smooth(values);
    // the drift is half of the trend and starts from where the smoothing stands
    let lag = (1.0 - (1.0 - alpha).powi(n.min(10_000) as i32)) / alpha;
    Some((0..horizon).map(|h| level + 0.5 * slope * (h as f64 + lag)).collect())
}

fn slope(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let centre = (n - 1.0) / 2.0;
    let (mut xy, mut xx) = (0.0, 0.0);
    for (i, v) in values.iter().enumerate() {
        let x = i as f64 - centre;
        xy += x * v;
        xx += x * x;
    }
    if xx > 0.0 { xy / xx } else { 0.0 }
}

/// Simple exponential smoothing: the weight with the least squared one-step error (golden section) and the last
/// level.
fn smooth(values: &[f64]) -> (f64, f64) {
    let run = |alpha: f64| {
        let mut level = values[0];
        let mut loss = 0.0;
        for v in &values[1..] {
            let error = v - level;
            loss += error * error;
            level += alpha * error;
        }
        (loss, level)
    };
    let ratio = 0.618_033_988_749_895;
    let (mut lo, mut hi) = (0.01, 0.999);
    let (mut a, mut b) = (hi - ratio * (hi - lo), lo + ratio * (hi - lo));
    let (mut loss_a, mut loss_b) = (run(a).0, run(b).0);
    for _ in 0..16 {
        if loss_a <= loss_b {
            (hi, b, loss_b) = (b, a, loss_a);
            a = hi - ratio * (hi - lo);
            loss_a = run(a).0;
        } else {
            (lo, a, loss_a) = (a, b, loss_b);
            b = lo + ratio * (hi - lo);
            loss_b = run(b).0;
        }
    }
    let alpha = 0.5 * (lo + hi);
    (alpha, run(alpha).1)
}

pub(super) fn bounds(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}

const REGRESSION_VALUES_MAX: usize = 4_000;
const HARMONICS_MAX: usize = 10;

fn regression(values: &[f64], seasons: &Seasons, horizon: usize) -> Option<Vec<f64>> {
    let recent = &values[values.len().saturating_sub(REGRESSION_VALUES_MAX)..];
    let n = recent.len();
    let mut frequencies: Vec<f64> = Vec::new();
    for &period in seasons.within(n) {
        for k in 1..=HARMONICS_MAX.min((period - 1) / 2) {
            let frequency = k as f64 / period as f64;
            if frequencies.iter().all(|f| (f - frequency).abs() > 1e-9) {
                frequencies.push(frequency);
            }
        }
    }
    let columns = 1 + 2 * frequencies.len();
    if n < 2 * columns + 4 {
        return None;
    }
    let feature = |row: usize, column: usize| match column {
        0 => row as f64 / n as f64,
        c if c % 2 == 1 => (TAU * frequencies[(c - 1) / 2] * row as f64).sin(),
        c => (TAU * frequencies[(c - 1) / 2] * row as f64).cos(),
    };
    let table = Array2::from_shape_fn((n, columns), |(row, column)| feature(row, column));
    let data = Dataset::new(table, Array1::from(recent.to_vec()));
    let fitted = std::panic::catch_unwind(|| LinearRegression::new().fit(&data).ok()).ok().flatten()?;
    let line = |row: usize| {
        let weighted: f64 = fitted.params().iter().enumerate().map(|(c, w)| w * feature(row, c)).sum();
        fitted.intercept() + weighted
    };
    let errors: Vec<f64> = recent.iter().enumerate().map(|(row, v)| v - line(row)).collect();
    let (mut lagged, mut power) = (0.0, 0.0);
    for w in errors.windows(2) {
        lagged += w[0] * w[1];
        power += w[0] * w[0];
    }
    let persistence = if power > 0.0 { (lagged / power).clamp(0.0, 0.99) } else { 0.0 };
    let mut carried = *errors.last()?;
    Some(
        (n..n + horizon)
            .map(|row| {
                carried *= persistence;
                line(row) + carried
            })
            .collect(),
    )
}
