//! Forecasts with back-tested choice of model and conformal intervals.
use crate::error::Result;

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

/// Forecasts a series (rows sorted by time; irregular steps are resampled to the median step).
/// `Ok(None)`: fewer points than any method needs.
///
/// # Errors
/// `Invalid` for an unknown method (listing the known ones), a level outside (0, 1), a horizon of 0 or beyond 11,000 steps.
pub fn forecast(_ts: &[i64], _values: &[f64], _horizon: Horizon, _options: &ForecastOptions) -> Result<Option<Vec<ForecastPoint>>> {
    todo!()
}
