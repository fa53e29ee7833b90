//! `seasonal`: distance from the usual value at this time of the season.
//!
//! The season is cut into at most 288 buckets of at least one step. A bucket keeps a clipped running mean and spread
//! (the robust update of [`super::ewma`]), a slow drift follows the level of the whole series, and the spread of a
//! bucket is shrunk towards that of the series. Works on any timestamps: the bucket is a function of time, not of the
//! row number. Scores start in the third season.
use super::ewma::{ALARM_CLIP, opening};
use super::outlook::Outlook;
use super::state::{Put, Reader, malformed};
use super::tail::Tail;
use crate::Result;

const BUCKETS_MAX: i64 = 288;
/// Visits to a bucket before it scores.
const VISITS_MIN: u32 = 2;
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
    visits: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seasonal {
    season: i64,
    origin: i64,
    drift: f64,
    variance: f64,
    count: u32,
    tail: Tail,
    buckets: Vec<Bucket>,
}

impl Seasonal {
    /// Buckets of at least `step` ns over a season of `season` ns, both >= 1; `origin` is the time of some row.
    pub(super) fn new(season: i64, step: i64, origin: i64) -> Self {
        let buckets = (season as f64 / step.max(1) as f64).round().clamp(1.0, BUCKETS_MAX as f64) as usize;
        Self {
            season: season.max(1),
            origin,
            drift: 0.0,
            variance: 0.0,
            count: 0,
            tail: Tail::default(),
            buckets: vec![Bucket::default(); buckets],
        }
    }

    /// The bucket of `ts`. Rows at the origin plus whole steps fall in the middle of theirs, so jitter does not move
    /// them.
    pub(super) fn bucket(&self, ts: i64) -> usize {
        let n = self.buckets.len();
        let bucket = match (ts.checked_sub(self.origin), self.season.checked_mul(n as i64 + 1)) {
            (Some(since), Some(_)) => {
                let phase = since.rem_euclid(self.season) as u64;
                ((phase * n as u64 + self.season as u64 / 2) / self.season as u64) as usize
            }
            // beyond what 64 bits hold
            _ => {
                let season = i128::from(self.season);
                let phase = (i128::from(ts) - i128::from(self.origin)).rem_euclid(season);
                ((phase * n as i128 + season / 2) / season) as usize
            }
        };
        if bucket == n { 0 } else { bucket }
    }

    /// What is expected in a bucket.
    pub(super) fn outlook(&self, bucket: usize) -> Option<Outlook> {
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

    /// Learns a value that fell into the bucket `index`, `z` spreads off its outlook.
    pub(super) fn learn(&mut self, index: usize, value: f64, z: Option<f64>) {
        let mut deviation = value - self.drift - self.buckets[index].mean;
        let visits = self.buckets[index].visits.saturating_add(1);
        self.buckets[index].visits = visits;
        if visits == 1 {
            self.buckets[index].mean = value - self.drift;
            return;
        }
        if let Some(z) = z {
            self.tail.learn(z);
            if z == f64::INFINITY {
                self.variance = self.variance.max((FIRST_DEVIATION * deviation * deviation).min(f64::MAX));
                return;
            }
            let alarm = self.tail.run() > 0;
            let opened = opening(self.tail.run());
            let spread = self.variance.max(f64::from(self.buckets[index].variance)).sqrt();
            let clip = self.tail.limit() * spread * opened * if alarm { ALARM_CLIP } else { 1.0 };
            deviation = deviation.clamp(-clip, clip);
        }
        self.count = self.count.saturating_add(1);
        let fresh = 1.0 / f64::from(self.count);
        let drift = self.drift + DRIFT_WEIGHT * deviation;
        let square = deviation * deviation;
        let variance = self.variance + SPREAD_WEIGHT.max(fresh) * (square - self.variance);
        let bucket = &mut self.buckets[index];
        let gain = BUCKET_WEIGHT.max(1.0 / f64::from(visits));
        // what the drift has taken up the bucket must not take again
        let mean = bucket.mean + gain * deviation * (1.0 - DRIFT_WEIGHT);
        let spread = f64::from(bucket.variance)
            + BUCKET_WEIGHT.max(1.0 / f64::from(visits - 1)) * (square - f64::from(bucket.variance));
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

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_i64(self.season);
        out.put_i64(self.origin);
        out.put_f64(self.drift);
        out.put_f64(self.variance);
        out.put_u32(self.count);
        self.tail.save(out);
        out.put_u32(self.buckets.len() as u32);
        for bucket in &self.buckets {
            out.put_f64(bucket.mean);
            out.put_f32(bucket.variance);
            out.put_u32(bucket.visits);
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        let (season, origin, drift, variance, count) =
            (from.i64()?, from.i64()?, from.finite()?, from.positive()?, from.u32()?);
        let tail = Tail::load(from)?;
        let n = from.u32()?;
        if season < 1 || n < 1 || i64::from(n) > BUCKETS_MAX {
            return Err(malformed("the season has no length or too many buckets"));
        }
        let mut buckets = Vec::with_capacity(n as usize);
        for _ in 0..n {
            buckets.push(Bucket { mean: from.finite()?, variance: from.positive_f32()?, visits: from.u32()? });
        }
        Ok(Self { season, origin, drift, variance, count, tail, buckets })
    }
}
