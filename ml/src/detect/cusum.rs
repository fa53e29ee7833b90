//! `cusum`: sums of what exceeds half a spread, above and below the centre: small shifts that last.
//!
//! Page 1954, "Continuous inspection schemes", two-sided, with allowance 1/2 (tuned to shifts of one spread), on
//! values standardised by a robust centre and spread ([`Reference`], memory of 512 values). The highest sums of
//! excursions from 0 fall by e per spread when the values are independent; [`Tail`] learns how they fall in this
//! series, so one excursion in 10,000 rows goes beyond the boundary. A shift does not move the boundary while it is
//! added up: an excursion teaches once, when it is over. After an alarm the sums start again from 0. When the excursion has
//! lasted some rows the centre moves to its mean (Montgomery, "Introduction to statistical quality control", 9.1.1),
//! so a shift is told once and then learnt. A series whose level never rests, a random walk or a trend, is told of
//! until the boundary has learnt it.
use super::Verdict;
use super::outlook::Outlook;
use super::reference::Reference;
use super::tail::Tail;
use crate::Result;
use crate::state::{Put, Reader};

/// Values before the first score: sums add up what the centre is wrong by.
const WARM_UP: u16 = 32;
/// Deviations below this many spreads are not added up.
const ALLOWANCE: f64 = 0.5;
/// Least weight of a value in the reference, and how far away one counts, in spreads.
const WEIGHT: f64 = 1.0 / 256.0;
const REACH: f64 = 3.0;
/// Half the sum has the tail that [`Tail`] believes in before it has seen any: it falls by e per half.
const SUM_PER_Z: f64 = 2.0;
/// The boundary stands further out by this over the number of values, while the centre is uncertain.
const FEW: f64 = 8.0;
/// Rows after which an excursion is a new level, not a spike.
const ROWS_OF_A_LEVEL: u16 = 8;
/// A new level teaches the tail as so many excursions up to the boundary: a series whose level changes again and again
/// is soon told of rarely.
const TEACHING: u16 = 8;
/// A row adds at most this many spreads to the mean of an excursion: keeps sums finite.
const DEVIATION_MAX: f64 = 1e9;

/// The sum of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    /// In spreads, from 0.
    sum: f64,
    /// Its highest since it last was 0.
    peak: f64,
    /// Rows and summed deviations since the sum last was 0 without an alarm.
    rows: u16,
    total: f64,
}

impl Sum {
    /// Adds a deviation (positive: to this side), in spreads. Returns the peak of an excursion that is over, else 0.
    fn add(&mut self, deviation: f64) -> f64 {
        let sum = self.sum + deviation - ALLOWANCE;
        if sum <= 0.0 {
            return std::mem::take(self).peak;
        }
        self.sum = sum;
        self.peak = self.peak.max(sum);
        self.rows = self.rows.saturating_add(1);
        self.total += deviation.clamp(-DEVIATION_MAX, DEVIATION_MAX);
        0.0
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.put_f64(self.sum);
        out.put_f64(self.peak);
        out.put_u16(self.rows);
        out.put_f64(self.total);
    }

    fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { sum: from.positive()?, peak: from.positive()?, rows: from.u16()?, total: from.finite()? })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cusum {
    reference: Reference,
    high: Sum,
    low: Sum,
    tail: Tail,
}

impl Cusum {
    pub(super) fn new() -> Self {
        Self { reference: Reference::new(), high: Sum::default(), low: Sum::default(), tail: Tail::default() }
    }

    /// Judges `value`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, value: f64) -> Verdict {
        if self.reference.seen() < WARM_UP {
            self.reference.learn(value, REACH, WEIGHT);
            return Verdict::NONE;
        }
        let (centre, spread) = (self.reference.centre(), self.reference.spread());
        let few = 1.0 + FEW / f64::from(self.reference.seen());
        let limit = SUM_PER_Z * self.tail.limit() * few;
        let mut verdict = Verdict {
            score: Some(f64::INFINITY),
            expected: Some(centre),
            lo: Some(centre - spread * (limit + ALLOWANCE - self.low.sum)),
            hi: Some(centre + spread * (limit + ALLOWANCE - self.high.sum)),
            tier: 0,
        };
        let z = Outlook { centre, spread, limit }.judge(value).z;
        if z.is_finite() {
            let deviation = z.copysign(value - centre);
            let over = self.high.add(deviation).max(self.low.add(-deviation));
            let sum = self.high.sum.max(self.low.sum);
            verdict.score = Some(sum / limit);
            if sum > limit {
                self.tail.learn(sum / SUM_PER_Z);
                self.restart();
            } else {
                self.tail.learn(over / SUM_PER_Z);
            }
        }
        self.reference.learn(value, REACH, WEIGHT);
        verdict
    }

    /// After an alarm: a spike is left behind, a level is learnt.
    fn restart(&mut self) {
        let (side, sign) = if self.high.sum > self.low.sum { (&self.high, 1.0) } else { (&self.low, -1.0) };
        if side.rows < ROWS_OF_A_LEVEL {
            for side in [&mut self.high, &mut self.low] {
                (side.sum, side.peak) = (0.0, 0.0);
            }
            return;
        }
        let mean = sign * side.total / f64::from(side.rows);
        let level = self.reference.centre() + self.reference.spread() * mean;
        if level.is_finite() {
            self.reference.move_to(level, side.rows);
        }
        for _ in 0..TEACHING {
            self.tail.learn(self.tail.limit());
        }
        (self.high, self.low) = (Sum::default(), Sum::default());
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.reference.save(out);
        self.high.save(out);
        self.low.save(out);
        self.tail.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            reference: Reference::load(from)?,
            high: Sum::load(from)?,
            low: Sum::load(from)?,
            tail: Tail::load(from)?,
        })
    }
}
