//! How unlike its past the last piece of a series is, as a score.
//!
//! Some methods look at several values together and measure how unlike the past they are: by rarity, by displacement, by
//! distance. Here values become free of their unit before, and such a measure becomes a score after: its running centre
//! and spread say what is usual, and [`Tail`] where by the series' own past one measure in 10,000 lies beyond. A measure
//! has no edges in the unit of the values, so `expected`, `lo` and `hi` are never given.
use super::Verdict;
use super::ewma::clip;
use super::outlook::Outlook;
use super::reference::Reference;
use super::tail::Tail;
use crate::Result;
use crate::state::Reader;

/// Values that say what is usual before one is standardised.
const WARM_UP: u16 = 16;
/// Measures of which the spread is learnt before one is judged.
const MEASURES_MIN: u16 = 10;
/// Least weight of a value, and of a measure, in what is usual.
const VALUE_WEIGHT: f64 = 1.0 / 256.0;
const MEASURE_WEIGHT: f64 = 1.0 / 128.0;
/// How far away a value or a measure counts, in spreads.
const REACH: f64 = 3.0;
/// The boundary stands further out by this over the number of measures, while what is usual is uncertain.
const FEW: f64 = 4.0;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Novelty {
    values: Reference,
    measures: Reference,
    tail: Tail,
}

impl Novelty {
    pub(super) fn new() -> Self {
        Self { values: Reference::new(), measures: Reference::new(), tail: Tail::default() }
    }

    /// A value in spreads from the centre of those before it, infinite off a constant; nothing while they are few.
    /// Learns the value.
    pub(super) fn standardise(&mut self, value: f64) -> Option<f64> {
        let outlook = Outlook { centre: self.values.centre(), spread: self.values.spread(), limit: 1.0 };
        let z = outlook.judge(value).z.copysign(value - outlook.centre);
        let is_known = self.values.seen() >= WARM_UP;
        self.values.learn(value, REACH, VALUE_WEIGHT);
        is_known.then_some(z)
    }

    /// The answer for a value off a constant past.
    pub(super) fn off_a_constant(&self) -> Verdict {
        Verdict { score: self.is_warm().then_some(f64::INFINITY), tier: u8::from(self.is_warm()), ..Verdict::NONE }
    }

    /// The answer for a finite measure of the last `window` values that scatters by no less than `spread_min` (> 0). The
    /// measure is learnt then, but not what one value does to it while it is in the window.
    pub(super) fn judge(&mut self, measure: f64, spread_min: f64, window: usize) -> Verdict {
        let mut verdict = Verdict::NONE;
        if self.is_warm() {
            let spread = self.measures.spread().max(spread_min);
            let z = ((measure - self.measures.centre()) / spread).max(0.0);
            let few = 1.0 + FEW / f64::from(self.measures.seen());
            verdict = Verdict { score: Some(z / (few * self.tail.limit())), tier: 1, ..verdict };
            self.tail.learn(z);
        }
        let run = usize::from(self.tail.run());
        if run == 0 {
            self.measures.learn(measure, REACH, MEASURE_WEIGHT);
        } else if run > window {
            self.measures.learn(measure, clip((run - window) as u16) * self.tail.limit(), MEASURE_WEIGHT);
        }
        verdict
    }

    fn is_warm(&self) -> bool {
        self.measures.seen() >= MEASURES_MIN
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.values.save(out);
        self.measures.save(out);
        self.tail.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { values: Reference::load(from)?, measures: Reference::load(from)?, tail: Tail::load(from)? })
    }
}
