//! What a candidate expects of the next value, and how a value is judged by it.
use super::Verdict;

/// Deviations and spreads below this share of the magnitude are rounding, not information.
const ROUNDING: f64 = 4.0 * f64::EPSILON;

/// Expectation for one point, made before the point is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outlook {
    /// Centre, in the unit of the values.
    pub(super) centre: f64,
    /// One standard deviation's worth, in the unit of the values; 0 when the past has no spread.
    pub(super) spread: f64,
    /// How many spreads from the centre the boundary lies.
    pub(super) limit: f64,
}

impl Outlook {
    /// Distance from the centre in spreads: 0 on the centre, infinite off a centre without spread. Never NaN.
    pub(super) fn z(&self, value: f64) -> f64 {
        let deviation = (value - self.centre).abs();
        let magnitude = self.centre.abs();
        if deviation <= ROUNDING * magnitude.max(value.abs()) {
            return 0.0;
        }
        if self.spread <= ROUNDING * magnitude {
            return f64::INFINITY;
        }
        let z = deviation / self.spread;
        if z.is_nan() { f64::INFINITY } else { z }
    }

    /// The verdict over `value`, whose [`Outlook::z`] is `z`.
    pub(super) fn verdict(&self, z: f64) -> Verdict {
        let reach = self.limit * self.spread;
        Verdict {
            score: Some(z / self.limit),
            expected: Some(self.centre),
            lo: Some(self.centre - reach),
            hi: Some(self.centre + reach),
            tier: 0,
        }
    }
}
