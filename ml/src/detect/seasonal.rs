//! `seasonal`: distance from the usual value at this time of the season.
//!
//! The season is cut into at most 336 buckets (half hours of a week) of at least one step. A bucket keeps a clipped
//! running mean and spread (the robust update of [`super::ewma`]), a slow drift follows the level of the whole series, and
//! the spread of a bucket is shrunk towards that of the series. Works on any timestamps: the bucket is a function of time, not of the
//! row number. Scores start in the third season.
use super::ewma::clip;
use super::gain::gain;
use super::outlook::{Judgement, Outlook};
use super::phase::Phase;
use super::tail::Tail;
use crate::Result;
use crate::state::{Put, Reader};

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
    phase: Phase,
    drift: f64,
    variance: f64,
    count: u16,
    tail: Tail,
    buckets: Vec<Bucket>,
}

impl Seasonal {
    /// Buckets of at least `step` ns over a season of `season` ns, both >= 1; `origin` is the time of some row.
    pub(super) fn new(season: i64, step: i64, origin: i64) -> Self {
        let phase = Phase::new(season, step, origin);
        Self {
            drift: 0.0,
            variance: 0.0,
            count: 0,
            tail: Tail::of_clusters(),
            buckets: vec![Bucket::default(); phase.parts()],
            phase,
        }
    }

    /// Judges `value` at `ts`, then learns it; no opinion before its bucket has been visited twice.
    pub(super) fn observe(&mut self, ts: i64, value: f64) -> Option<Judgement> {
        let bucket = self.phase.part(ts);
        let judgement = self.outlook(bucket).map(|outlook| outlook.judge(value));
        self.learn(bucket, value, judgement);
        judgement
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
        self.phase.length()
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.phase.save(out);
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
        let phase = Phase::load(from)?;
        let (drift, variance, count) = (from.finite()?, from.positive()?, from.u16()?);
        let tail = Tail::load(from)?;
        let n = from.u32()?;
        let phase = phase.of_parts(n)?;
        let mut buckets = Vec::with_capacity(n as usize);
        for _ in 0..n {
            buckets.push(Bucket { mean: from.finite()?, variance: from.positive_f32()?, visits: from.u16()? });
        }
        Ok(Self { phase, drift, variance, count, tail, buckets })
    }
}
