//! Lagged correlation of two equally sampled series.

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

/// Correlates `a[i]` with `b[i + lag]` for |lag| <= `max_lag`, rows with a NaN on either side left out.
/// `None` with fewer than 3 common rows or zero spread.
pub fn correlate(_a: &[f64], _b: &[f64], _max_lag: usize) -> Option<Correlation> {
    todo!()
}
