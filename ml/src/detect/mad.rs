//! `mad`: distance from the median of the last values, in median absolute deviations.
//!
//! Exact sliding median and MAD over the last 48 values (Hampel 1974; Iglewicz and Hoaglin 1993), boundary from [`Tail`].
//! A spike does not move it; a lasting new level is learnt once it fills half the window, that is after 24 values.
//! When more than half of the window is one value the MAD is 0 and the 90 % quantile of the distances takes its
//! place, then their mean; only a wholly constant window has no spread.
use super::outlook::Outlook;
use super::state::Reader;
use super::tail::Tail;
use super::window::Window;
use crate::Result;

/// Values before the first score.
pub(super) const WARM_UP: usize = 10;
/// The MAD of a Gaussian in standard deviations, inverted.
const SIGMA_PER_MAD: f64 = 1.4826;
const SIGMA_PER_Q90: f64 = 1.0 / 1.6449;
const SIGMA_PER_MEAN: f64 = 1.2533;
/// The boundary stands further out by this over the square of the number of values while the window fills: a spread estimated from few
/// values is often too small (Monte Carlo over Gaussian and t3 noise, see the tests).
const FEW: f64 = 100.0;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mad {
    window: Window,
    tail: Tail,
}

impl Mad {
    pub(super) fn outlook(&self) -> Option<Outlook> {
        let n = self.window.len();
        if n < WARM_UP {
            return None;
        }
        let centre = self.window.median();
        let mut spread = SIGMA_PER_MAD * self.window.distance(centre, n / 2);
        if spread == 0.0 {
            spread = SIGMA_PER_Q90 * self.window.distance(centre, n * 9 / 10);
        }
        if spread == 0.0 {
            spread = SIGMA_PER_MEAN * self.window.mean_distance(centre);
        }
        Some(Outlook { centre, spread, limit: self.tail.limit() * (1.0 + FEW / (n * n) as f64) })
    }

    /// Learns `value`, `z` spreads off the last outlook.
    pub(super) fn learn(&mut self, value: f64, z: Option<f64>) {
        if let Some(z) = z {
            self.tail.learn(z);
        }
        self.window.push(value);
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.window.save(out);
        self.tail.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { window: Window::load(from)?, tail: Tail::load(from)? })
    }
}
