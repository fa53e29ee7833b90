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
    fn z(&self, value: f64) -> f64 {
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

    /// Judges the value that came.
    pub(super) fn judge(self, value: f64) -> Judgement {
        Judgement { z: self.z(value), outlook: self }
    }
}

/// A value in the light of what was expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judgement {
    pub(super) outlook: Outlook,
    /// [`Outlook::z`] of the value.
    pub(super) z: f64,
}

impl Judgement {
    pub(super) fn verdict(self) -> Verdict {
        let Outlook { centre, spread, limit } = self.outlook;
        let reach = limit * spread;
        Verdict {
            score: Some(self.z / limit),
            expected: Some(centre),
            lo: Some(centre - reach),
            hi: Some(centre + reach),
            tier: 0,
        }
    }
}
