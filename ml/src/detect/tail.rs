//! Where the boundary lies: the tail of a series' own standardised deviations.
//!
//! Peaks over a fixed threshold are modelled by a generalised Pareto distribution whose parameters come from running
//! moments, so the boundary is the deviation that is exceeded with probability [`P_BOUNDARY`] whatever the
//! distribution of the noise. After Siffer et al., "Anomaly detection in streams with extreme value theory" (KDD
//! 2017), with moments (Hosking and Wallis 1987) in place of likelihood search: O(1) time and 40 bytes. A value
//! beyond the boundary teaches no more than a value a little beyond it, and a run of them teaches seldom: an incident
//! does not move the boundary out of its own way, a fat-tailed series moves it within some tens of points.
use super::gain::gain;
use super::state::{Put, Reader};
use crate::Result;

/// Chance of a false alarm per point that the boundary stands for.
pub(super) const P_BOUNDARY: f64 = 1e-4;
/// Peaks are deviations beyond this many spreads.
const PEAK: f64 = 2.0;
/// What is believed of the tail before any peak: near a Gaussian seen through an estimated spread.
const PRIOR_RATE: f64 = 0.06;
const PRIOR_EXCESS: f64 = 0.5;
/// Weight of the belief, in points for the rate and in peaks for the excess.
const PRIOR_POINTS: u32 = 200;
const PRIOR_PEAKS: u32 = 8;
/// Least weight of a point and of a peak in the running moments.
const POINT_WEIGHT: f64 = 1.0 / 4096.0;
const PEAK_WEIGHT: f64 = 1.0 / 256.0;
/// No boundary is nearer than this many spreads.
const LIMIT_MIN: f64 = 3.5;
const LIMIT_MAX: f64 = 1e6;
/// A deviation beyond the boundary counts as one on it, and for this share of a usual one.
const ALARM_WEIGHT: f64 = 0.5;
/// Shapes beyond this have no variance and no estimate by moments.
const SHAPE_MAX: f64 = 0.4;
/// In a run of values beyond the boundary one in this many teaches.
const RUN_STRIDE: u32 = 16;

/// Running tail of |z|.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tail {
    rate: f64,
    excess: f64,
    excess_square: f64,
    limit: f64,
    points: u32,
    peaks: u32,
    run: u32,
}

impl Default for Tail {
    fn default() -> Self {
        let mut tail = Self {
            rate: PRIOR_RATE,
            excess: PRIOR_EXCESS,
            excess_square: 2.0 * PRIOR_EXCESS * PRIOR_EXCESS,
            limit: LIMIT_MIN,
            points: 0,
            peaks: 0,
            run: 0,
        };
        tail.limit = tail.boundary();
        tail
    }
}

impl Tail {
    /// The boundary, in spreads.
    pub(super) fn limit(&self) -> f64 {
        self.limit
    }

    /// How many values in a row lay beyond the boundary.
    pub(super) fn run(&self) -> u32 {
        self.run
    }

    /// Learns one deviation in spreads (infinite: counts for the run only).
    pub(super) fn learn(&mut self, z: f64) {
        if z > self.limit {
            let nth = self.run;
            self.run = self.run.saturating_add(1);
            if !z.is_finite() || !nth.is_multiple_of(RUN_STRIDE) {
                return;
            }
        } else {
            self.run = 0;
        }
        let peak = z > PEAK;
        self.points = self.points.saturating_add(1);
        self.rate +=
            gain(self.points.saturating_add(PRIOR_POINTS), POINT_WEIGHT) * (f64::from(u8::from(peak)) - self.rate);
        if peak {
            self.peaks = self.peaks.saturating_add(1);
            let weight = if z > self.limit { ALARM_WEIGHT } else { 1.0 };
            let gain = weight * gain(self.peaks.saturating_add(PRIOR_PEAKS), PEAK_WEIGHT);
            let excess = z.min(self.limit) - PEAK;
            self.excess += gain * (excess - self.excess);
            self.excess_square += gain * (excess * excess - self.excess_square);
        }
        if peak || self.points.is_multiple_of(64) {
            self.limit = self.boundary();
        }
    }

    fn boundary(&self) -> f64 {
        let mean = self.excess;
        let variance = (self.excess_square - mean * mean).max(1e-12);
        let ratio = mean * mean / variance;
        let shape = (0.5 * (1.0 - ratio)).clamp(0.0, SHAPE_MAX);
        let scale = mean * (1.0 - shape);
        let odds = (self.rate / P_BOUNDARY).max(1.0).ln();
        let reach = if shape < 1e-3 { odds } else { (shape * odds).exp_m1() / shape };
        (PEAK + scale * reach).clamp(LIMIT_MIN, LIMIT_MAX)
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        for v in [self.rate, self.excess, self.excess_square, self.limit] {
            out.put_f64(v);
        }
        for v in [self.points, self.peaks, self.run] {
            out.put_u32(v);
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            rate: from.positive()?.min(1.0),
            excess: from.positive()?.min(LIMIT_MAX),
            excess_square: from.positive()?,
            limit: from.positive()?.clamp(LIMIT_MIN, LIMIT_MAX),
            points: from.u32()?,
            peaks: from.u32()?,
            run: from.u32()?,
        })
    }
}
