//! A longer past than the candidates of `auto` remember: where the values of a series lie, and by how much they are
//! missed.
//!
//! The candidates forget within tens of values, so that a lull narrows them until the next ordinary value is an alarm.
//! The misses of the last 1,024 values and their tail put a floor under their reach. The mean and the spread of the last
//! 4,096 values say whether a series is where it usually is.
use super::gain::gain;
use super::tail::Tail;
use crate::Result;
use crate::state::{Put, Reader};

/// Values before it has an opinion.
const WARM_UP: u16 = 50;
/// Least weight of one value in the mean and the spread, and of one miss.
const WEIGHT: f64 = 1.0 / 4096.0;
const MISS_WEIGHT: f64 = 1.0 / 1024.0;
/// A value teaches as much as one at this many spreads.
const CLIP: f64 = 6.0;
/// The floor, as a share of where the boundary would lie if the misses alone decided.
const FLOOR: f64 = 0.7;
/// A miss beyond the boundary of the misses counts as one at this many times as far, and as no more usual misses than
/// this: ordinary peaks are learnt soon even where one value in a hundred is a peak.
const REACH: f64 = 2.0;
const MISS_CLIP: f64 = 12.0;
/// Spreads below this share of the magnitude are rounding, not information.
const ROUNDING: f64 = 4.0 * f64::EPSILON;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Past {
    mean: f64,
    variance: f64,
    count: u16,
    /// Mean square of the distances from the centres that were expected.
    miss: f64,
    misses: u16,
    tail: Tail,
}

impl Default for Past {
    fn default() -> Self {
        Self { mean: 0.0, variance: 0.0, count: 0, miss: 0.0, misses: 0, tail: Tail::of_clusters() }
    }
}

impl Past {
    /// Standard deviation, 0 while the past is short or constant.
    fn spread(&self) -> f64 {
        let spread = self.variance.sqrt();
        if self.count >= WARM_UP && spread > ROUNDING * self.mean.abs() { spread } else { 0.0 }
    }

    /// Distance of `value` from the mean in spreads; 0 while there is no spread.
    pub(super) fn z(&self, value: f64) -> f64 {
        let spread = self.spread();
        if spread > 0.0 { (value - self.mean).abs() / spread } else { 0.0 }
    }

    /// Root mean square of the misses, 0 while they are few.
    fn usual_miss(&self) -> f64 {
        if self.misses >= WARM_UP { self.miss.sqrt() } else { 0.0 }
    }

    /// The least distance from any centre that may be an alarm, as (spreads, spread).
    pub(super) fn floor(&self) -> (f64, f64) {
        (FLOOR * self.tail.limit(), self.usual_miss())
    }

    /// Learns `value`, that lay `miss` away from the centre that was expected, if any was.
    pub(super) fn learn(&mut self, value: f64, miss: Option<f64>) {
        if let Some(mut miss) = miss {
            let usual = self.usual_miss();
            if usual > 0.0 {
                self.tail.learn_up_to(miss / usual, REACH);
                miss = miss.min(MISS_CLIP * usual);
            }
            self.misses = self.misses.saturating_add(1);
            let square = self.miss + gain(self.misses, MISS_WEIGHT) * (miss * miss - self.miss);
            self.miss = if square.is_finite() { square } else { self.miss };
        }
        let (spread, mut off) = (self.spread(), value - self.mean);
        if spread > 0.0 {
            off = off.clamp(-CLIP * spread, CLIP * spread);
        }
        self.count = self.count.saturating_add(1);
        let step = gain(self.count, WEIGHT);
        let mean = self.mean + step * off;
        let variance = self.variance + step * ((1.0 - step) * off * off - self.variance);
        if mean.is_finite() && variance.is_finite() {
            (self.mean, self.variance) = (mean, variance);
        }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_f64(self.mean);
        out.put_f64(self.variance);
        out.put_u16(self.count);
        out.put_f64(self.miss);
        out.put_u16(self.misses);
        self.tail.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            mean: from.finite()?,
            variance: from.positive()?,
            count: from.u16()?,
            miss: from.positive()?,
            misses: from.u16()?,
            tail: Tail::load(from)?,
        })
    }
}
