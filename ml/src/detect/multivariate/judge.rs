//! How unusual a distance is for the distances of its own past, on the scale of all detectors.
use super::super::gain::gain;
use super::super::tail::Tail;
use crate::Result;
use crate::state::{Put, Reader};

/// Least weight of one distance in the running mean and spread.
const WEIGHT: f64 = 1.0 / 4096.0;
/// A distance teaches as much as one at this many spreads, once there are a few.
const CLIP: f64 = 12.0;
const FEW: u16 = 30;
/// Distances below this are rounding: spreads are of order one.
const ROUNDING: f64 = 1e-9;

/// Running mean and spread of the distances, and the tail beyond them. A cluster of peaks counts as one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judge {
    mean: f64,
    variance: f64,
    count: u16,
    tail: Tail,
}

impl Default for Judge {
    fn default() -> Self {
        Self { mean: 0.0, variance: 0.0, count: 0, tail: Tail::of_clusters() }
    }
}

impl Judge {
    /// `distance` as a share of the distance that one in 10,000 lies beyond; then learns it.
    pub(super) fn score(&mut self, distance: f64) -> f64 {
        let z = self.z(distance);
        let score = z / self.tail.limit();
        self.tail.learn(z);
        self.learn(distance);
        score
    }

    /// Spreads beyond the mean: 0 within it, infinite off a mean without spread.
    fn z(&self, distance: f64) -> f64 {
        let (off, spread) = (distance - self.mean, self.variance.sqrt());
        if off <= ROUNDING {
            0.0
        } else if spread <= ROUNDING {
            f64::INFINITY
        } else {
            off / spread
        }
    }

    /// Learns a distance; on its own while scores are not told yet.
    pub(super) fn learn(&mut self, distance: f64) {
        let spread = self.variance.sqrt();
        let most = if self.count >= FEW && spread > ROUNDING { self.mean + CLIP * spread } else { f64::INFINITY };
        self.count = self.count.saturating_add(1);
        let (step, off) = (gain(self.count, WEIGHT), distance.min(most) - self.mean);
        self.mean += step * off;
        self.variance += step * ((1.0 - step) * off * off - self.variance);
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_f64(self.mean);
        out.put_f64(self.variance);
        out.put_u16(self.count);
        self.tail.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { mean: from.positive()?, variance: from.positive()?, count: from.u16()?, tail: Tail::load(from)? })
    }
}
