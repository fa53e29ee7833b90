//! `ewma`: distance from an exponentially weighted mean, in exponentially weighted standard deviations.
//!
//! A value beyond the boundary teaches no more than one half of the way to it (Gelper, Fried
//! and Croux 2010, "Robust forecasting with exponential and Holt-Winters smoothing"). When the values stay beyond the
//! boundary the clip opens by doubling: a new level is learnt within some twenty values. Boundary from [`Tail`].
use super::gain::gain;
use super::outlook::{Judgement, Outlook};
use super::tail::Tail;
use crate::Result;
use crate::state::{Put, Reader};

/// Values before the first score.
const WARM_UP: u16 = 10;
/// Weight of a value in the default, slow detector: a memory of about 64 values.
pub(super) const SLOW: f64 = 1.0 / 32.0;
/// Weight of a value in the fast one: a memory of about 4 values.
pub(super) const FAST: f64 = 0.4;
/// The spread remembers longer than the mean when the mean is fast.
const SPREAD_WEIGHT_MAX: f64 = 1.0 / 32.0;
/// Share of the squared deviation that the first value off a constant past leaves in the variance.
const FIRST_DEVIATION: f64 = 1.0 / 256.0;
/// A value beyond the boundary teaches as much as one at this share of the way to it.
const ALARM_CLIP: f64 = 0.5;
/// The boundary stands further out by this over the square of the number of values, while that is worth a division.
const FEW: f64 = 12.0;
const FEW_MAX: u16 = 1024;
/// Values in a row beyond the boundary after which the clip opens.
const RUN_PATIENCE: u16 = 8;

/// The furthest way to learn from the last of `run` values in a row beyond the boundary, as a share of the way there.
pub(super) fn clip(run: u16) -> f64 {
    // a power of two up to 2^60: exact
    ALARM_CLIP * (1u64 << run.saturating_sub(RUN_PATIENCE).min(60)) as f64
}

/// Exponentially weighted mean and variance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) variance: f64,
}

impl Moments {
    /// Learns the `count`-th value, which lies `deviation` from the mean.
    fn learn(&mut self, count: u16, weight: f64, deviation: f64) {
        let step = gain(count, weight);
        self.mean += step * deviation;
        // West (1979) for the mean's own step while the past is short
        let square = if count as f64 * SPREAD_WEIGHT_MAX < 1.0 {
            (1.0 - step) * deviation * deviation
        } else {
            deviation * deviation
        };
        self.variance += gain(count, weight.min(SPREAD_WEIGHT_MAX)) * (square - self.variance);
    }

    /// What is expected of the next value after `count` others; no opinion while warming up.
    pub(super) fn outlook(&self, count: u16, tail: &Tail) -> Option<Outlook> {
        if count < WARM_UP {
            return None;
        }
        let count = f64::from(count);
        let few = if count < f64::from(FEW_MAX) { 1.0 + FEW / (count * count) } else { 1.0 };
        Some(Outlook { centre: self.mean, spread: self.variance.sqrt(), limit: tail.limit() * few })
    }
}

/// Learns `value`, which was judged by the outlook on it. `count` and `tail` go with `moments`.
pub(super) fn learn(
    (moments, count, tail): (&mut Moments, &mut u16, &mut Tail),
    weight: f64,
    value: f64,
    judgement: Option<Judgement>,
) {
    *count = count.saturating_add(1);
    let mut deviation = value - moments.mean;
    if let Some(Judgement { outlook, z }) = judgement {
        tail.learn(z);
        if z == f64::INFINITY {
            // off a constant: leave the centre, believe a little in spread
            moments.variance = moments.variance.max((FIRST_DEVIATION * deviation * deviation).min(f64::MAX));
            return;
        }
        if tail.run() > 0 {
            let clip = tail.limit() * outlook.spread * clip(tail.run());
            deviation = deviation.clamp(-clip, clip);
        }
    }
    moments.learn(*count, weight, deviation);
    if !moments.mean.is_finite() || !moments.variance.is_finite() {
        // squares of values near the end of the number line: start again from this one
        (*moments, *count, *tail) = (Moments { mean: value, variance: 0.0 }, 0, tail.fresh());
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ewma {
    weight: f64,
    moments: Moments,
    count: u16,
    tail: Tail,
}

impl Ewma {
    pub(super) fn new(weight: f64) -> Self {
        Self { weight, moments: Moments::default(), count: 0, tail: Tail::default() }
    }

    /// One for which a cluster of peaks counts as one.
    pub(super) fn of_clusters(weight: f64) -> Self {
        Self { tail: Tail::of_clusters(), ..Self::new(weight) }
    }

    /// Judges `value`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, value: f64) -> Option<Judgement> {
        let judgement = self.moments.outlook(self.count, &self.tail).map(|outlook| outlook.judge(value));
        learn((&mut self.moments, &mut self.count, &mut self.tail), self.weight, value, judgement);
        judgement
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_f64(self.weight);
        out.put_f64(self.moments.mean);
        out.put_f64(self.moments.variance);
        out.put_u16(self.count);
        self.tail.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            weight: from.positive()?.clamp(1e-6, 1.0),
            moments: Moments { mean: from.finite()?, variance: from.positive()? },
            count: from.u16()?,
            tail: Tail::load(from)?,
        })
    }
}
