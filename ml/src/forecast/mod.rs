//! Forecasts with back-tested choice of model and conformal intervals.
//!
//! ```text
//! rows -> regular grid (median step, gaps interpolated) -> seasons
//!      -> rolling-origin back-test of every model -> mean of all, weighted by back-test
//!      -> forecast, clamped to an envelope of the past -> interval from the back-test's own errors
//! ```
//!
//! | method | what it is |
//! |---|---|
//! | `auto` | the mean of the others, weighted by how well they did on the series' own past |
//! | `naive` | the last value |
//! | `seasonal_naive` | the value one season ago |
//! | `drift` | the last value plus the mean step |
//! | `theta` | exponential smoothing with half of the trend, seasons taken out by MSTL |
//! | `ets` | exponential smoothing chosen by AICc, seasons taken out by MSTL |
//! | `regression` | least squares on a line and harmonics of the seasons |
//! | `ridge` | ridge regression on the series as a matrix with one row a season |
//! | `autoregression` | ridge regression on the last steps and those of one season ago |
//! | `log_autoregression` | the same on logarithms of positive values, with more lags |
//!
//! Never panics and never diverges: a model that fails is replaced by `seasonal_naive`, then `naive`.
mod backtest;
mod exhaustion;
mod interval;
mod models;
mod ridge;
pub(crate) mod seasons;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::grid::Grid;
use backtest::Backtest;
pub use exhaustion::{Exhaustion, time_to_exhaustion};
use models::{Model, Past, bounds};
use seasons::Seasons;

/// One forecast point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForecastPoint {
    /// ns UTC
    pub ts: i64,
    /// Centre.
    pub value: f64,
    /// Lower end of the interval.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
}

/// How far to forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Horizon {
    /// This many steps.
    Steps(usize),
    /// This many nanoseconds.
    Nanos(i64),
}

/// Options of a forecast.
#[derive(Clone, Debug, Default)]
pub struct ForecastOptions {
    /// `auto` (default), or a known method's name.
    pub method: Option<String>,
    /// Interval level in (0, 1); 0.95 when `None`.
    pub level: Option<f64>,
    /// Season length in nanoseconds; found from the data when `None`.
    pub season_ns: Option<i64>,
}

/// Rows looked at, the newest.
const ROWS_MAX: usize = 20_000;
/// Rows any method needs.
const ROWS_MIN: usize = 3;
/// Longest forecast.
pub const STEPS_MAX: usize = 11_000;
/// Steps that are back-tested; errors grow by a rule beyond.
const BACKTEST_STEPS_MAX: usize = 512;

/// Forecasts a series (rows sorted by time; irregular steps are resampled to the median step).
/// `Ok(None)`: fewer points than any method needs.
///
/// Rows that are not finite are skipped, only the newest 20,000 are looked at, and the first point stands one step
/// after the last row. A horizon in nanoseconds is rounded down to whole steps, but not below one.
///
/// # Errors
/// `Invalid` for an unknown method (listing the known ones), a level outside (0, 1), a season <= 0, a horizon of 0 or
/// beyond 11,000 steps.
pub fn forecast(
    ts: &[i64],
    values: &[f64],
    horizon: Horizon,
    options: &ForecastOptions,
) -> Result<Option<Vec<ForecastPoint>>> {
    let plan = Plan::new(horizon, options)?;
    let (ts, values) = newest(ts, values);
    if values.len() < ROWS_MIN {
        return Ok(None);
    }
    let Some(grid) = Grid::new(&ts, &values, ROWS_MAX) else { return Ok(None) };
    if grid.values.len() < ROWS_MIN {
        return Ok(None);
    }
    let steps = plan.steps(grid.step)?;
    let season = options.season_ns.map(|ns| (ns as f64 / grid.step as f64).round() as usize);
    let last = grid.start.saturating_add(grid.step.saturating_mul(grid.values.len() as i64 - 1));
    let next = plan.run(&grid.values, season, grid.step, steps);
    let point = |(i, [value, lo, hi]): (usize, [f64; 3])| ForecastPoint {
        ts: last.saturating_add(grid.step.saturating_mul(i as i64 + 1)),
        value,
        lo,
        hi,
    };
    Ok(Some(next.into_iter().enumerate().map(point).collect()))
}

/// The newest finite rows.
fn newest(ts: &[i64], values: &[f64]) -> (Vec<i64>, Vec<f64>) {
    let mut rows: Vec<(i64, f64)> =
        ts.iter().copied().zip(values.iter().copied()).rev().filter(|row| row.1.is_finite()).take(ROWS_MAX).collect();
    rows.reverse();
    rows.into_iter().unzip()
}

/// Checked options.
struct Plan {
    horizon: Horizon,
    /// `None`: choose.
    model: Option<Model>,
    level: f64,
}

impl Plan {
    fn new(horizon: Horizon, options: &ForecastOptions) -> Result<Self> {
        let model = match options.method.as_deref() {
            None => None,
            Some(name) if name.eq_ignore_ascii_case("auto") => None,
            Some(name) => {
                let known = Model::ALL.into_iter().find(|model| model.name().eq_ignore_ascii_case(name));
                Some(known.ok_or_else(|| {
                    let names: Vec<&str> = std::iter::once("auto").chain(Model::ALL.iter().map(|m| m.name())).collect();
                    Error::Invalid(format!(
                        "unknown forecast method '{}', known methods are: {}",
                        name.escape_default(),
                        names.join(", ")
                    ))
                })?)
            }
        };
        let level = options.level.unwrap_or(0.95);
        if !(level > 0.0 && level < 1.0) {
            return Err(Error::Invalid(format!("the level {level} is not between 0 and 1, 0.95 is usual")));
        }
        if let Some(season) = options.season_ns.filter(|&season| season <= 0) {
            return Err(Error::Invalid(format!(
                "a season of {season} ns is not possible, give one above 0 or none to have it found"
            )));
        }
        let bad = match horizon {
            Horizon::Steps(steps) => steps == 0 || steps > STEPS_MAX,
            Horizon::Nanos(ns) => ns <= 0,
        };
        if bad {
            return Err(Error::Invalid(format!("the horizon must be above 0 and at most {STEPS_MAX} steps")));
        }
        Ok(Self { horizon, model, level })
    }

    fn steps(&self, step_ns: i64) -> Result<usize> {
        let steps = match self.horizon {
            Horizon::Steps(steps) => steps as i64,
            Horizon::Nanos(ns) => (ns / step_ns.max(1)).max(1),
        };
        usize::try_from(steps).ok().filter(|&steps| steps <= STEPS_MAX).ok_or_else(|| {
            Error::Invalid(format!(
                "the horizon is {steps} steps of the series, at most {STEPS_MAX} are possible: shorten it or thin out the rows"
            ))
        })
    }

    /// `[value, lo, hi]` at each step after the last of `values`.
    fn run(&self, values: &[f64], season: Option<usize>, step_ns: i64, steps: usize) -> Vec<[f64; 3]> {
        let (low, high) = bounds(values);
        let last = values[values.len() - 1];
        if low == high {
            return vec![[last; 3]; steps];
        }
        let unit = low.abs().max(high.abs());
        let scaled: Vec<f64> = values.iter().map(|v| v / unit).collect();
        let seasons = Seasons::find(&scaled, season, step_ns);
        let candidates: Vec<Model> = match self.model {
            Some(model) => vec![model],
            None => Model::ALL
                .into_iter()
                .filter(|&m| m != Model::SeasonalNaive || seasons.longest_in(values.len()) > 1)
                .collect(),
        };
        let tried = steps.min(BACKTEST_STEPS_MAX);
        let mut test = Backtest::run(&scaled, &seasons, &candidates, tried);
        if test.combine().is_none() {
            // the method asked for cannot: the fallbacks always can
            test = Backtest::run(&scaled, &seasons, &[Model::SeasonalNaive, Model::Naive], tried);
        }
        let (models, errors) = test.combine().unwrap_or_else(|| (vec![(Model::Naive, 1.0)], Vec::new()));
        let past = Past::new(&scaled, &seasons);
        let mut predictions: Vec<(Vec<f64>, f64)> =
            models.iter().filter_map(|&(model, weight)| Some((model.predict(&past, steps)?, weight))).collect();
        if predictions.is_empty() {
            predictions.push((vec![scaled[scaled.len() - 1]; steps], 1.0));
        }
        let weights: f64 = predictions.iter().map(|p| p.1).sum();
        let envelope = Envelope::new(&scaled, steps);
        let widths = interval::half_widths(&errors, self.level, steps);
        (0..steps)
            .map(|i| {
                let mean = predictions.iter().map(|p| envelope.clamp(p.0[i]) * p.1).sum::<f64>() / weights;
                let value = envelope.clamp(mean);
                let finite = |v: f64| (v * unit).clamp(-f64::MAX, f64::MAX);
                [finite(value), finite(value - widths[i]), finite(value + widths[i])]
            })
            .collect()
    }
}

/// The guard rail: nothing leaves the range of the past by more than that range, or its share of the horizon if that
/// is longer.
struct Envelope {
    low: f64,
    high: f64,
}

impl Envelope {
    fn new(values: &[f64], steps: usize) -> Self {
        let (low, high) = bounds(values);
        let room = (high - low) * (steps as f64 / values.len() as f64).max(0.5);
        Self { low: low - room, high: high + room }
    }

    fn clamp(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }
}
