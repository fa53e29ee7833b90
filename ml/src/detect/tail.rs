//! Where the boundary lies: the tail of a series' own standardised deviations.
//!
//! Peaks over a fixed threshold are modelled by a generalised Pareto distribution whose parameters come from running
//! moments, so the boundary is the deviation that is exceeded with probability [`P_BOUNDARY`] whatever the
//! distribution of the noise. After Siffer et al., "Anomaly detection in streams with extreme value theory" (KDD
//! 2017), with moments (Hosking and Wallis 1987) in place of likelihood search: O(1) time and 24 bytes. A value
//! beyond the boundary teaches no more than a value a little beyond it, and a run of them teaches seldom: an incident
//! does not move the boundary out of its own way, a fat-tailed series moves it within some tens of points.
//!
//! Peaks over a threshold are independent only when a cluster of them counts as one (Leadbetter 1991, "On a basis for
//! peaks over threshold modelling"). With [`Tail::of_clusters`] the n-th peak of a cluster weighs one n-th: an incident of
//! hundreds of peaks within the boundary does not hide the next one.
use super::gain::gain;
use crate::Result;
use crate::state::{Put, Reader};

/// Chance of a false alarm per point that the boundary stands for.
pub(super) const P_BOUNDARY: f64 = 1e-4;
/// Peaks are deviations beyond this many spreads.
const PEAK: f64 = 2.0;
/// What is believed of the tail before any peak: near a Gaussian seen through an estimated spread.
const PRIOR_RATE: f64 = 0.06;
const PRIOR_EXCESS: f64 = 0.5;
/// Weight of the belief, in points for the rate and in peaks for the excess.
const PRIOR_POINTS: u16 = 200;
const PRIOR_PEAKS: u16 = 8;
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
const RUN_STRIDE: u16 = 16;
/// Peaks before, less the points without one since, that count.
const CLUSTER_MAX: u8 = 250;
/// Without a peak the boundary moves once in so many points.
const POINTS_STRIDE: u16 = 64;

/// Running tail of |z|, in single precision: it is estimated from some hundred peaks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tail {
    rate: f32,
    excess: f32,
    excess_square: f32,
    limit: f32,
    points: u16,
    peaks: u16,
    run: u16,
    /// How much longer than its end the present cluster of peaks has been, in points.
    cluster: u8,
    /// Whether a cluster of peaks counts as one.
    declusters: bool,
}

/// Adds one to a count of which, once it is large, only the remainder by `stride` matters.
fn count(n: u16, stride: u16) -> u16 {
    n.checked_add(1).unwrap_or(u16::MAX - (stride - 1))
}

impl Default for Tail {
    fn default() -> Self {
        let mut tail = Self {
            rate: PRIOR_RATE as f32,
            excess: PRIOR_EXCESS as f32,
            excess_square: (2.0 * PRIOR_EXCESS * PRIOR_EXCESS) as f32,
            limit: LIMIT_MIN as f32,
            points: 0,
            peaks: 0,
            run: 0,
            cluster: 0,
            declusters: false,
        };
        tail.limit = tail.boundary();
        tail
    }
}

impl Tail {
    /// A tail for which a cluster of peaks counts as one.
    pub(super) fn of_clusters() -> Self {
        Self { declusters: true, ..Self::default() }
    }

    /// One of the same kind that has seen nothing.
    pub(super) fn fresh(&self) -> Self {
        Self { declusters: self.declusters, ..Self::default() }
    }

    /// The boundary, in spreads.
    pub(super) fn limit(&self) -> f64 {
        f64::from(self.limit)
    }

    /// How many values in a row lay beyond the boundary.
    pub(super) fn run(&self) -> u16 {
        self.run
    }

    /// Learns one deviation in spreads (infinite: counts for the run only).
    pub(super) fn learn(&mut self, z: f64) {
        self.learn_up_to(z, 1.0);
    }

    /// As [`Tail::learn`], but a value beyond the boundary counts as one this many times as far.
    pub(super) fn learn_up_to(&mut self, z: f64, reach: f64) {
        let limit = self.limit();
        if z > limit {
            let nth = self.run;
            self.run = count(self.run, RUN_STRIDE);
            if !z.is_finite() || !nth.is_multiple_of(RUN_STRIDE) {
                return;
            }
        } else {
            self.run = 0;
        }
        let peak = z > PEAK;
        self.points = count(self.points, POINTS_STRIDE);
        let share = if self.declusters { 1.0 / (1.0 + f32::from(self.cluster)) } else { 1.0 };
        self.cluster = if peak { (self.cluster + 1).min(CLUSTER_MAX) } else { self.cluster.saturating_sub(1) };
        let gain_of_point = gain(self.points.saturating_add(PRIOR_POINTS), POINT_WEIGHT) as f32;
        self.rate += if peak { share } else { 1.0 } * gain_of_point * (f32::from(u8::from(peak)) - self.rate);
        if peak {
            self.peaks = self.peaks.saturating_add(1);
            let weight = f64::from(share) * if z > limit { ALARM_WEIGHT } else { 1.0 };
            let gain = (weight * gain(self.peaks.saturating_add(PRIOR_PEAKS), PEAK_WEIGHT)) as f32;
            let excess = (z.min(reach * limit) - PEAK) as f32;
            self.excess += gain * (excess - self.excess);
            self.excess_square += gain * (excess * excess - self.excess_square);
        }
        if peak || self.points.is_multiple_of(POINTS_STRIDE) {
            self.limit = self.boundary();
        }
    }

    fn boundary(&self) -> f32 {
        let mean = f64::from(self.excess);
        let variance = (f64::from(self.excess_square) - mean * mean).max(1e-12);
        let ratio = mean * mean / variance;
        let shape = (0.5 * (1.0 - ratio)).clamp(0.0, SHAPE_MAX);
        let scale = mean * (1.0 - shape);
        let odds = (f64::from(self.rate) / P_BOUNDARY).max(1.0).ln();
        let reach = if shape < 1e-3 { odds } else { (shape * odds).exp_m1() / shape };
        (PEAK + scale * reach).clamp(LIMIT_MIN, LIMIT_MAX) as f32
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        for v in [self.rate, self.excess, self.excess_square, self.limit] {
            out.put_f32(v);
        }
        for v in [self.points, self.peaks, self.run] {
            out.put_u16(v);
        }
        out.put_u8(self.cluster);
        out.put_u8(u8::from(self.declusters));
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            rate: from.positive_f32()?.min(1.0),
            excess: from.positive_f32()?.min(LIMIT_MAX as f32),
            excess_square: from.positive_f32()?,
            limit: from.positive_f32()?.clamp(LIMIT_MIN as f32, LIMIT_MAX as f32),
            points: from.u16()?,
            peaks: from.u16()?,
            run: from.u16()?,
            cluster: from.u8()?.min(CLUSTER_MAX),
            declusters: from.bool()?,
        })
    }
}
