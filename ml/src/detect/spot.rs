//! `spot`: peaks over a threshold, above and below apart: series that scatter differently on their two sides.
//!
//! Siffer, Fouque, Termier and Largouet, "Anomaly detection in streams with extreme value theory" (KDD 2017), in the
//! variant with drift (DSPOT) on both sides: deviations from a running mean, for each side a generalised Pareto tail
//! with its own rate ([`Tail`], which estimates by moments). The paper takes the threshold of peaks from the first
//! 1,000 values; here it is two running spreads of the side, so scores start with the eleventh value. As there, what
//! is beyond the boundary does not teach the mean; when values stay beyond it the clip opens as in [`super::ewma`].
//!
//! Each side learns from its own values only, so all in all one value in 10,000 lies beyond one boundary or the other.
use super::Verdict;
use super::ewma::clip;
use super::gain::gain;
use super::outlook::Outlook;
use super::reference::Reference;
use super::tail::Tail;
use crate::Result;
use crate::state::{Put, Reader};

/// Values before the first score.
const WARM_UP: u16 = 10;
/// Least weight of a value in the centre and in the spread of its side.
const WEIGHT: f64 = 1.0 / 64.0;
/// Values of a side from which its spread is its own; before, it is that of both.
const OWN_SPREAD: u16 = 16;
/// The boundary stands further out by this over the square of the number of values.
const FEW: f64 = 30.0;
/// The mean distance of one half of a Gaussian in standard deviations, inverted.
const SIGMA_PER_MEAN: f64 = 1.2533;

/// What lies on one side of the centre.
#[derive(Clone, Debug, Default, PartialEq)]
struct Side {
    /// Mean distance from the centre.
    scatter: f64,
    count: u16,
    tail: Tail,
}

impl Side {
    fn learn(&mut self, z: f64, distance: f64) {
        self.tail.learn(z);
        self.count = self.count.saturating_add(1);
        let scatter = self.scatter + gain(self.count, WEIGHT) * (distance - self.scatter);
        self.scatter = if scatter.is_finite() { scatter } else { self.scatter };
    }

    fn save(&self, out: &mut Vec<u8>) {
        out.put_f64(self.scatter);
        out.put_u16(self.count);
        self.tail.save(out);
    }

    fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { scatter: from.positive()?, count: from.u16()?, tail: Tail::load(from)? })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spot {
    /// Of both sides.
    reference: Reference,
    upper: Side,
    lower: Side,
}

impl Spot {
    pub(super) fn new() -> Self {
        Self { reference: Reference::new(), upper: Side::default(), lower: Side::default() }
    }

    /// Judges `value`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, value: f64) -> Verdict {
        if self.reference.seen() < WARM_UP {
            self.reference.learn(value, f64::INFINITY, WEIGHT);
            return Verdict::NONE;
        }
        let (upper, lower) = (self.outlook(&self.upper), self.outlook(&self.lower));
        let centre = upper.centre;
        let (outlook, side) = if value < centre { (lower, &mut self.lower) } else { (upper, &mut self.upper) };
        let z = outlook.judge(value).z;
        let mut reach = f64::INFINITY;
        if z.is_finite() {
            let furthest = outlook.limit * outlook.spread;
            side.learn(z, (value - centre).abs().min(furthest));
            if side.tail.run() > 0 {
                // the reference counts in spreads of both sides
                reach = clip(side.tail.run()) * furthest / self.reference.spread();
            }
        }
        self.reference.learn(value, reach, WEIGHT);
        Verdict {
            score: Some(z / outlook.limit),
            expected: Some(centre),
            lo: Some(centre - lower.limit * lower.spread),
            hi: Some(centre + upper.limit * upper.spread),
            tier: 0,
        }
    }

    fn outlook(&self, side: &Side) -> Outlook {
        let count = f64::from(self.reference.seen());
        let both = self.reference.spread();
        // a side without values of its own, or with none but the centre, is as wide as the other
        let own = SIGMA_PER_MEAN * side.scatter;
        let spread = if side.count < OWN_SPREAD || own == 0.0 { both } else { own };
        Outlook { centre: self.reference.centre(), spread, limit: side.tail.limit() * (1.0 + FEW / (count * count)) }
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.reference.save(out);
        self.upper.save(out);
        self.lower.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { reference: Reference::load(from)?, upper: Side::load(from)?, lower: Side::load(from)? })
    }
}
