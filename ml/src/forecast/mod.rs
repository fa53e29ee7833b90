//! Forecasts with back-tested choice of models and conformal intervals.
//!
//! ```text
//! rows -> regular grid (median step, gaps interpolated) -> seasons -> values or logarithms
//!      -> rolling-origin back-test of every model, with and without regressors -> mean, weighted by back-test
//!      -> forecast, clamped to an envelope of the past -> interval from the back-test's own errors
//! ```
//!
//! | method | what it is |
//! |---|---|
//! | `auto`, `combination` | the mean of others, weighted by how well they did on the series' own past |
//! | `naive` | the last value |
//! | `seasonal_naive` | the value one season ago |
//! | `drift` | the last value plus the mean step |
//! | `theta` | exponential smoothing with half of the trend, seasons taken out by MSTL |
//! | `ets` | exponential smoothing of the level and of each season; without a season chosen by AICc |
//! | `mstl` | exponential smoothing chosen by AICc, seasons taken out by MSTL |
//! | `regression` | least squares on a line and harmonics of the seasons |
//! | `ridge` | ridge regression on the series as a matrix with one row a season |
//! | `autoregression` | ridge regression on the last steps and those of one to three seasons ago |
//! | `log_autoregression` | the same on logarithms of positive values |
//! | `analogues` | what followed the days most like the last |
//!
//! `auto` combines `autoregression`, `ets`, `ridge` and `analogues`; the simple ones (`naive`, `seasonal_naive`, `drift`
//! and, without a season, `theta`) join when fewer than two of those can be had or when they do better than all of them.
//! It does so on logarithms when all values are positive, unless the autoregression did much worse on them.
//!
//! Never panics and never diverges: a model that fails or leaves the range of its past by far at any origin is dropped,
//! and when none is left `seasonal_naive` and `naive` stand in.
mod analogues;
mod autoregression;
mod backtest;
mod exhaustion;
mod interval;
mod matrix;
mod models;
mod regressors;
mod ridge;
mod scale;
pub(crate) mod seasons;
mod smoothing;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::grid::Grid;
use backtest::{Combination, Span, Trial, candidates, combine, spans};
pub use exhaustion::{Exhaustion, time_to_exhaustion};
use models::{Model, bounds};
use regressors::Regressors;
use scale::Scale;
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
/// Names of the choice by back-test.
const AUTOMATIC: [&str; 2] = ["auto", "combination"];
/// Logarithms are taken unless they are this many times as wrong: what people and machines do grows by shares.
const LOGS_PREFERRED: f64 = 1.1;
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
    forecast_with(ts, values, &[], horizon, options)
}

/// [`forecast`] with regressors: columns of the same rows that are known beyond the last value (rows whose value is NaN
/// tell the future), such as 1 on holidays and 0 otherwise. They are used when they helped in the series' own past.
///
/// # Errors
/// As [`forecast`]; `Invalid` for more than 16 regressors, one that is not as long as `ts`, one that is not known at
/// each step of the horizon, and one that is not known in the past at all.
pub fn forecast_with(
    ts: &[i64],
    values: &[f64],
    regressors: &[Vec<f64>],
    horizon: Horizon,
    options: &ForecastOptions,
) -> Result<Option<Vec<ForecastPoint>>> {
    let plan = Plan::new(horizon, options)?;
    if regressors.len() > regressors::COLUMNS_MAX {
        let (given, most) = (regressors.len(), regressors::COLUMNS_MAX);
        return Err(Error::Invalid(format!("{given} regressors are too many, at most {most} are possible")));
    }
    if let Some(short) = regressors.iter().find(|column| column.len() != ts.len()) {
        let (given, rows) = (short.len(), ts.len());
        return Err(Error::Invalid(format!("a regressor has {given} values for {rows} rows, give one a row")));
    }
    let (all, columns) = (ts, regressors);
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
    let regressors = Regressors::on(&grid, steps, all, columns)?;
    let next = plan.run(&grid.values, &regressors, season, grid.step, steps);
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
            Some(name) if AUTOMATIC.iter().any(|auto| auto.eq_ignore_ascii_case(name)) => None,
            Some(name) => {
                let known = Model::ALL.into_iter().find(|model| model.name().eq_ignore_ascii_case(name));
                Some(known.ok_or_else(|| {
                    let names = AUTOMATIC.into_iter().chain(Model::ALL.map(Model::name));
                    Error::unknown_method("forecast", name, "", names)
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
    fn run(
        &self,
        values: &[f64],
        regressors: &Regressors,
        season: Option<usize>,
        step_ns: i64,
        steps: usize,
    ) -> Vec<[f64; 3]> {
        let (low, high) = bounds(values);
        let last = values[values.len() - 1];
        if low == high {
            return vec![[last; 3]; steps];
        }
        let unit = low.abs().max(high.abs());
        let scaled: Vec<f64> = values.iter().map(|v| v / unit).collect();
        let seasons = Seasons::find(&scaled, season, step_ns).with_week(values.len(), step_ns);
        let spans = spans(values.len(), seasons.longest_in(values.len()), steps.min(BACKTEST_STEPS_MAX), steps);
        let (scale, combination) = self.combination(&scaled, regressors, &seasons, &spans);
        let envelope = Envelope::new(&scaled, steps);
        let widths = interval::half_widths(&combination.errors, self.level, steps);
        let finite = |v: f64| (v * unit).clamp(-f64::MAX, f64::MAX);
        (0..steps)
            .map(|i| {
                let value = envelope.clamp(scale.back(combination.next[i]));
                let centre = scale.to(value);
                let end = |width: f64| finite(scale.back(centre + width));
                let value = finite(value);
                [value, end(-widths[i]).min(value), end(widths[i]).max(value)]
            })
            .collect()
    }

    /// The scale and what the models on it say together, with regressors if that was no worse.
    fn combination(
        &self,
        values: &[f64],
        regressors: &Regressors,
        seasons: &Seasons,
        spans: &[Span],
    ) -> (Scale, Combination) {
        let (scale, models) = match self.model {
            Some(Model::LogAutoregression) => (Scale::logs_of(values), vec![Model::LogAutoregression]),
            Some(model) => (Some(Scale::Plain), vec![model]),
            None => (Some(scale_of(values, regressors, seasons, spans)), pool(seasons.longest_in(values.len()) > 1)),
        };
        let answer = scale.and_then(|scale| {
            let values = &scale.all_to(values);
            let combined =
                |effects: &[Vec<f64>]| combine(&candidates(&models, &Trial { values, seasons, spans, effects }));
            let without = combined(&[])?;
            let better = (!regressors.is_empty())
                .then(|| combined(&regressors.effects(values, seasons, spans)))
                .flatten()
                .filter(|with| with.loss() <= without.loss());
            Some((scale, better.unwrap_or(without)))
        });
        // the method asked for cannot: the fallbacks always can
        answer.unwrap_or_else(|| {
            let trial = Trial { values, seasons, spans, effects: &[] };
            let last = values[values.len() - 1];
            let nothing = || Combination { next: vec![last; spans[spans.len() - 1].steps], errors: Vec::new() };
            (Scale::Plain, combine(&candidates(&[Model::SeasonalNaive, Model::Naive], &trial)).unwrap_or_else(nothing))
        })
    }
}

/// What `auto` tries.
fn pool(seasonal: bool) -> Vec<Model> {
    let simple = if seasonal { Model::SeasonalNaive } else { Model::Theta };
    let strong = [Model::Ets, Model::Ridge, Model::Autoregression, Model::Analogues];
    [Model::Naive, Model::Drift, simple].into_iter().chain(strong).collect()
}

/// The scale on which the autoregression was less wrong.
fn scale_of(values: &[f64], regressors: &Regressors, seasons: &Seasons, spans: &[Span]) -> Scale {
    let loss = |scale: Scale| {
        let values = &scale.all_to(values);
        let effects = &regressors.effects(values, seasons, spans);
        let found = candidates(&[Model::Autoregression], &Trial { values, seasons, spans, effects });
        Some(found.first()?.loss_as(values, spans, |v| scale.back(v)))
    };
    let logs = Scale::logs_of(values).and_then(|logs| Some((logs, loss(logs)?)));
    match (logs, loss(Scale::Plain)) {
        (Some((_, loss)), Some(plain)) if loss > LOGS_PREFERRED * plain => Scale::Plain,
        (Some((logs, _)), _) => logs,
        (None, _) => Scale::Plain,
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
