//! `mad`: distance from the median of the last values, in median absolute deviations.
//!
//! Exact sliding median and MAD over the last 48 values (Hampel 1974; Iglewicz and Hoaglin 1993), boundary from
//! [`Tail`]. A spike does not move it; a lasting new level is learnt once it fills half the window, that is after 24
//! values. When more than half of the window is one value the MAD is 0 and the 90 % quantile of the distances takes
//! its place, then their mean; only a wholly constant window has no spread.
use super::gain::gain;
use super::outlook::{Judgement, Outlook};
use super::tail::Tail;
use super::window::Window;
use crate::Result;
use crate::state::{Put, Reader};

/// Values before the first score.
const WARM_UP: usize = 10;
/// The MAD of a Gaussian in standard deviations, inverted.
const SIGMA_PER_MAD: f64 = 1.4826;
const SIGMA_PER_Q90: f64 = 1.0 / 1.6449;
const SIGMA_PER_MEAN: f64 = 1.2533;
/// The boundary stands further out by this over the square of the number of values while the window fills: a spread
/// estimated from few values is often too small (Monte Carlo over Gaussian and t3 noise, see the tests). In a lull
/// the spread does not fall below this share of what is usual for the series, over a memory of 1024 values.
const LULL_MIN: f64 = 0.1;
const SCATTER_WEIGHT: f64 = 1.0 / 1024.0;
const FEW: f64 = 100.0;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mad {
    window: Window,
    /// Running mean distance from the median, over a longer past than the window.
    scatter: f64,
    count: u16,
    tail: Tail,
}

impl Mad {
    /// One for which a cluster of peaks counts as one.
    pub(super) fn of_clusters() -> Self {
        Self { tail: Tail::of_clusters(), ..Self::default() }
    }

    /// Judges `value`, then learns it; no opinion while warming up.
    pub(super) fn observe(&mut self, value: f64) -> Option<Judgement> {
        let judgement = self.outlook().map(|outlook| outlook.judge(value));
        self.learn(value, judgement);
        judgement
    }

    /// Whether it has an opinion of the next value.
    pub(super) fn is_warm(&self) -> bool {
        self.window.len() >= WARM_UP
    }

    fn outlook(&self) -> Option<Outlook> {
        if !self.is_warm() {
            return None;
        }
        let n = self.window.len();
        let centre = self.window.median();
        let mut spread = SIGMA_PER_MAD * self.window.distance(centre, n / 2);
        if spread == 0.0 {
            spread = SIGMA_PER_Q90 * self.window.distance(centre, n * 9 / 10);
        }
        if spread == 0.0 {
            spread = SIGMA_PER_MEAN * self.window.mean_distance(centre);
        }
        spread = spread.max(SIGMA_PER_MEAN * LULL_MIN * self.scatter);
        Some(Outlook { centre, spread, limit: self.tail.limit() * (1.0 + FEW / (n * n) as f64) })
    }

    fn learn(&mut self, value: f64, judgement: Option<Judgement>) {
        if let Some(judgement) = judgement {
            self.tail.learn(judgement.z);
        }
        if self.window.len() > 0 {
            self.count = self.count.saturating_add(1);
            let distance = (value - self.window.median()).abs();
            let scatter = self.scatter + (distance - self.scatter) * gain(self.count, SCATTER_WEIGHT);
            self.scatter = if scatter.is_finite() { scatter } else { self.scatter };
        }
        self.window.push(value);
    }

    /// All values so far in their order, while the window is not full.
    pub(super) fn values(&self) -> Option<Vec<f64>> {
        self.window.values()
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.window.save(out);
        out.put_f64(self.scatter);
        out.put_u16(self.count);
        self.tail.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { window: Window::load(from)?, scatter: from.positive()?, count: from.u16()?, tail: Tail::load(from)? })
    }
}
