//! Straight lines and smoothing.
use super::super::number::regression;
use super::super::window::Window;
use crate::error::{Error, ErrorKind, Result};

/// Slope a second.
pub(super) fn deriv(window: &Window<'_>) -> Option<f64> {
    (window.len() > 1).then(|| regression(window.ts_ms, window.values, window.ts_ms[0]).0)
}

/// The line's value `ahead` seconds after the step.
pub(super) fn predict(window: &Window<'_>, ahead: f64) -> Option<f64> {
    (window.len() > 1).then(|| {
        let (slope, intercept) = regression(window.ts_ms, window.values, window.now_ms);
        slope * ahead + intercept
    })
}

/// # Errors
/// `Execution` for a factor outside of (0, 1).
pub(super) fn check_factors(smoothing: f64, trend: f64) -> Result<()> {
    for (what, sign, factor) in [("smoothing", "sf", smoothing), ("trend", "tf", trend)] {
        if factor <= 0.0 || factor >= 1.0 {
            return Err(Error::new(
                ErrorKind::Execution,
                format!("invalid {what} factor. Expected: 0 < {sign} < 1, got: {factor:.6}"),
            ));
        }
    }
    Ok(())
}

/// Holt's linear method (C. C. Holt, 1957): the level after the last sample.
pub(super) fn smooth(window: &Window<'_>, smoothing: f64, trend: f64) -> Option<f64> {
    let [first, second, ..] = window.values else { return None };
    let (mut before, mut level, mut slope) = (0.0, *first, second - first);
    for (i, &value) in window.values.iter().enumerate().skip(1) {
        if i > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        (before, level) = (level, smoothing * value + (1.0 - smoothing) * (level + slope));
    }
    Some(level)
}
