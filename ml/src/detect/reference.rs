//! Running centre and spread that single values cannot move far.
//!
//! Mean and mean distance with exponentially falling weights; a value teaches no more than one at a given distance
//! (Huber 1964, "Robust estimation of a location parameter"). 32 bytes.
use super::gain::gain;
use crate::Result;
use crate::state::{Put, Reader};

/// The mean distance of a Gaussian in standard deviations, inverted.
const SIGMA_PER_MEAN: f64 = 1.2533;
/// Share of the first distance off a constant past that is believed to be spread.
const FIRST_DISTANCE: f64 = 1.0 / 16.0;
/// Values whose distances are all believed: no spread is known to judge them by.
const UNCLIPPED: u16 = 8;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reference {
    centre: f64,
    /// Mean distance from the centre.
    scatter: f64,
    /// Values that the centre, and that the scatter was learnt from.
    count: u16,
    distances: u16,
}

impl Reference {
    pub(super) fn new() -> Self {
        Self { centre: 0.0, scatter: 0.0, count: 0, distances: 0 }
    }

    pub(super) fn centre(&self) -> f64 {
        self.centre
    }

    /// One standard deviation's worth, 0 when all values so far were equal.
    pub(super) fn spread(&self) -> f64 {
        SIGMA_PER_MEAN * self.scatter
    }

    /// Values seen, at most 65,535.
    pub(super) fn seen(&self) -> u16 {
        self.distances
    }

    /// Learns a finite value as if it lay no further away than `reach` spreads (> 0); `weight` is the least weight of
    /// a value. Starts again from the value when sums leave the range of numbers.
    pub(super) fn learn(&mut self, value: f64, reach: f64, weight: f64) {
        self.count = self.count.saturating_add(1);
        self.distances = self.distances.saturating_add(1);
        let mut deviation = value - self.centre;
        if self.distances > UNCLIPPED {
            if self.scatter == 0.0 && deviation != 0.0 {
                // off a constant: leave the centre, believe a little in spread
                self.scatter = FIRST_DISTANCE * deviation.abs().min(f64::MAX);
                return;
            }
            let furthest = reach * self.spread();
            if deviation.abs() > furthest {
                deviation = furthest.copysign(deviation);
            }
        }
        let step = gain(self.count, weight);
        // seen from the new centre, which the value itself has moved
        let distance = (1.0 - step) * deviation.abs();
        self.centre += step * deviation;
        if self.distances > 1 {
            self.scatter += gain(self.distances - 1, weight) * (distance - self.scatter);
        }
        if !self.centre.is_finite() || !self.scatter.is_finite() {
            *self = Self { centre: value, scatter: 0.0, count: 1, distances: 1 };
        }
    }

    /// Moves the centre to a finite `centre` that was learnt from `count` values; the spread stays.
    pub(super) fn move_to(&mut self, centre: f64, count: u16) {
        (self.centre, self.count) = (centre, count);
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_f64(self.centre);
        out.put_f64(self.scatter);
        out.put_u16(self.count);
        out.put_u16(self.distances);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { centre: from.finite()?, scatter: from.positive()?, count: from.u16()?, distances: from.u16()? })
    }
}
