//! `seasonal`: distance from the usual value at this time of the season.
//!
//! The season is cut into at most 336 buckets (half hours of a week) of at least one step. A bucket keeps a clipped
//! running mean and spread (the robust update of [`super::ewma`]), a slow drift follows the level of the whole series, and
//! the spread of a bucket is shrunk towards that of the series. Works on any timestamps: the bucket is a function of time, not of the
//! row number. Scores start in the third season.
use super::ewma::clip;
use super::gain::gain;
use super::outlook::{Judgement, Outlook};
use super::tail::Tail;
use crate::Result;
use crate::state::{Put, Reader, malformed};

const BUCKETS_MAX: i64 = 336;
/// Visits to a bucket before it scores.
const VISITS_MIN: u16 = 2;
/// Weight of one season in a bucket.
const BUCKET_WEIGHT: f64 = 0.15;
/// Weight of one value in the drift and in the spread of the series.
const DRIFT_WEIGHT: f64 = 1.0 / 64.0;
const SPREAD_WEIGHT: f64 = 1.0 / 256.0;
/// The series' spread weighs as much as this many visits to a bucket.
const SHRINKAGE: f64 = 4.0;
const FIRST_DEVIATION: f64 = 1.0 / 256.0;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bucket {
    mean: f64,
    variance: f32,
    visits: u16,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seasonal {
    season: i64,
    /// 1 / `season`: a row costs no division of whole numbers.
    inverse: f64,
    /// How far into a season counted from time 0 some row lies, below `season`.
    origin: i64,
    drift: f64,
    variance: f64,
    count: u16,
    tail: Tail,
    buckets: Vec<Bucket>,
}

impl Seasonal {
    /// Buckets of at least `step` ns over a season of `season` ns, both >= 1; `origin` is the time of some row.
    pub(super) fn new(season: i64, step: i64, origin: i64) -> Self {
        let season = season.max(1);
        let buckets = (season as f64 / step.max(1) as f64).round().clamp(1.0, BUCKETS_MAX as f64) as usize;
        Self {
            season,
            inverse: 1.0 / season as f64,
            origin: origin.rem_euclid(season),
            drift: 0.0,
            variance: 0.0,
            count: 0,
            tail: Tail::of_clusters(),
            buckets: vec![Bucket::default(); buckets],
        }
    }

    /// Judges `value` at `ts`, then learns it; no opinion before its bucket has been visited twice.
    pub(super) fn observe(&mut self, ts: i64, value: f64) -> Option<Judgement> {
        let bucket = self.bucket(ts);
        let judgement = self.outlook(bucket).map(|outlook| outlook.judge(value));
        self.learn(bucket, value, judgement);
        judgement
    }

    /// The bucket of `ts`. Rows at the origin plus whole steps fall in the middle of theirs, so jitter does not move
    /// them.
    fn bucket(&self, ts: i64) -> usize {
        let n = self.buckets.len();
        let phase = remainder(ts, self.season, self.inverse) - self.origin;
        let phase = if phase < 0 { phase + self.season } else { phase };
        // in whole numbers: rows often lie on the very border of two buckets
        let (phase, season, parts) = (phase as u64, self.season as u64, n as u64);
        let bucket = match season.checked_mul(parts + 2) {
            Some(_) => quotient(phase * parts + season / 2, season, self.inverse) as usize,
            None => ((u128::from(phase) * u128::from(parts) + u128::from(season / 2)) / u128::from(season)) as usize,
        };
        if bucket < n { bucket } else { 0 }
    }

    /// What is expected in a bucket.
    fn outlook(&self, bucket: usize) -> Option<Outlook> {
        let bucket = &self.buckets[bucket];
        if bucket.visits < VISITS_MIN {
            return None;
        }
        let visits = f64::from(bucket.visits.min(16)) - 1.0;
        let variance = (SHRINKAGE * self.variance + visits * f64::from(bucket.variance)) / (SHRINKAGE + visits);
        // the centre of a bucket is itself uncertain while it has few visits
        let few = 1.0 + 1.0 / f64::from(bucket.visits.min(64));
        Some(Outlook { centre: bucket.mean + self.drift, spread: (variance * few).sqrt(), limit: self.tail.limit() })
    }

    fn learn(&mut self, index: usize, value: f64, judgement: Option<Judgement>) {
        let mut deviation = value - self.drift - self.buckets[index].mean;
        let visits = self.buckets[index].visits.saturating_add(1);
        self.buckets[index].visits = visits;
        if visits == 1 {
            self.buckets[index].mean = value - self.drift;
            return;
        }
        if let Some(Judgement { z, .. }) = judgement {
            self.tail.learn(z);
            if z == f64::INFINITY {
                self.variance = self.variance.max((FIRST_DEVIATION * deviation * deviation).min(f64::MAX));
                return;
            }
            // also without an alarm: a bucket that scatters more than the series learns slowly
            let reach = self.tail.limit() * if self.tail.run() > 0 { clip(self.tail.run()) } else { 1.0 };
            let variance = self.variance.max(f64::from(self.buckets[index].variance));
            if deviation * deviation > reach * reach * variance {
                deviation = (reach * variance.sqrt()).copysign(deviation);
            }
        }
        self.count = self.count.saturating_add(1);
        let drift = self.drift + DRIFT_WEIGHT * deviation;
        let square = deviation * deviation;
        let variance = self.variance + gain(self.count, SPREAD_WEIGHT) * (square - self.variance);
        let bucket = &mut self.buckets[index];
        // what the drift has taken up the bucket must not take again
        let mean = bucket.mean + gain(visits, BUCKET_WEIGHT) * deviation * (1.0 - DRIFT_WEIGHT);
        let spread =
            f64::from(bucket.variance) + gain(visits - 1, BUCKET_WEIGHT) * (square - f64::from(bucket.variance));
        if drift.is_finite() && variance.is_finite() && mean.is_finite() {
            (self.drift, self.variance, bucket.mean) = (drift, variance, mean);
            bucket.variance = (spread as f32).clamp(0.0, f32::MAX);
        }
    }

    /// Each visit so far stood for `values` averaged values: single ones scatter more.
    pub(super) fn widen(&mut self, values: f64) {
        let wider = self.variance * values;
        self.variance = if wider.is_finite() { wider } else { self.variance };
        for bucket in &mut self.buckets {
            bucket.variance = (bucket.variance * values as f32).clamp(0.0, f32::MAX);
        }
    }

    /// How long the season is, ns.
    pub(super) fn length(&self) -> i64 {
        self.season
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_i64(self.season);
        out.put_i64(self.origin);
        out.put_f64(self.drift);
        out.put_f64(self.variance);
        out.put_u16(self.count);
        self.tail.save(out);
        out.put_u32(self.buckets.len() as u32);
        for bucket in &self.buckets {
            out.put_f64(bucket.mean);
            out.put_f32(bucket.variance);
            out.put_u16(bucket.visits);
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let (season, origin, drift, variance, count) =
            (from.i64()?, from.i64()?, from.finite()?, from.positive()?, from.u16()?);
        let tail = Tail::load(from)?;
        let n = from.u32()?;
        if season < 1 || !(0..season).contains(&origin) || n < 1 || i64::from(n) > BUCKETS_MAX {
            return Err(malformed("the season has no length, an origin outside or too many buckets"));
        }
        let mut buckets = Vec::with_capacity(n as usize);
        for _ in 0..n {
            buckets.push(Bucket { mean: from.finite()?, variance: from.positive_f32()?, visits: from.u16()? });
        }
        let inverse = 1.0 / season as f64;
        Ok(Self { season, inverse, origin, drift, variance, count, tail, buckets })
    }
}

/// `ts.rem_euclid(season)`, exactly. The product with the inverse is out by one season at most unless seasons are
/// shorter than any that is ever found, and a product takes a tenth of the time of a division.
fn remainder(ts: i64, season: i64, inverse: f64) -> i64 {
    let seasons = (ts as f64 * inverse).floor() as i64;
    let rest = ts.wrapping_sub(seasons.wrapping_mul(season));
    if (0..season).contains(&rest) { rest } else { ts.rem_euclid(season) }
}

/// `n / season`, exactly, for quotients of a few hundred: the product with the inverse is out by one at most.
fn quotient(n: u64, season: u64, inverse: f64) -> u64 {
    let near = (n as f64 * inverse) as u64;
    match n.checked_sub(near * season) {
        None => near - 1,
        Some(rest) => near + u64::from(rest >= season),
    }
}

#[cfg(test)]
mod tests {
    use super::{quotient, remainder};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_with_the_inverse_give_what_divisions_give(
            ts in prop_oneof![any::<i64>(), -1_000_000i64..1_000_000, (0i64..1 << 40).prop_map(|s| s * 1_000_000)],
            season in prop_oneof![1i64..1000, 1i64..i64::MAX, Just(86_400_000_000_000), Just(3_600_000_000_000)],
            part in 0u64..290,
            off in -1i64..=1,
        ) {
            let inverse = 1.0 / season as f64;
            prop_assert_eq!(remainder(ts, season, inverse), ts.rem_euclid(season));
            let season = season as u64;
            if let Some(border) = season.checked_mul(part + 2).map(|_| (season * part).saturating_add_signed(off)) {
                prop_assert_eq!(quotient(border, season, inverse), border / season);
            }
        }
    }
}
