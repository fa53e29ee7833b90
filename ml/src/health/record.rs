//! What a version said of many rows.
use statrs::distribution::{Binomial, DiscreteCDF};

use super::drift::Residuals;
use crate::Result;
use crate::detect::Verdict;
use crate::state::{Put, Reader, malformed};

/// Share of rows beyond the boundary of a detector that is right, see [`crate::detect`].
const NOMINAL: f64 = 1e-4;
/// An alarm within so many rows of the last one of its series belongs to it.
const EPISODE_ROWS: u32 = 32;
/// A Laplace distribution has the share [`NOMINAL`] beyond so many of its scales.
const SCALES: f64 = 9.210_340_371_976_184;
/// Deviations count at most so many times the distance to the boundary, so that an incident does not decide a comparison.
const DEVIATION_MAX: f64 = 4.0;
/// First byte of a saved record.
const VERSION: u8 = 1;

/// Counts of one version over the rows of all its series.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Health {
    scored: u64,
    alarms: u64,
    episodes: u64,
    loss: f64,
    loss_rows: u64,
    pub(super) residuals: Residuals,
}

/// What [`Health::observe`] remembers of one series.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Trace {
    /// Rows since the last alarm, once there was one.
    since_alarm: Option<u32>,
    pub(super) block: super::drift::Block,
}

/// Minus the logarithm of how likely the verdict held `value` (nats, of a Laplace distribution about the centre with one
/// row in 10,000 beyond the edges), clipped. `None` without a centre or without spread. A proper score: who widens the
/// edges to have no alarms loses (Gneiting and Raftery 2007).
pub fn log_loss(value: f64, verdict: &Verdict) -> Option<f64> {
    let (centre, lo, hi) = (verdict.expected?, verdict.lo?, verdict.hi?);
    let half = (hi - lo) / 2.0;
    if !(half > 0.0 && half.is_finite() && value.is_finite()) {
        return None;
    }
    let scale = half / SCALES;
    Some((2.0 * scale).ln() + ((value - centre).abs() / half).min(DEVIATION_MAX) * SCALES)
}

impl Health {
    /// Adds what was said of `value`; `trace` is of its series.
    pub fn observe(&mut self, trace: &mut Trace, value: f64, verdict: &Verdict) {
        let Some(score) = verdict.score else { return };
        self.scored += 1;
        let quiet = trace.since_alarm.map(|rows| rows.saturating_add(1));
        trace.since_alarm = quiet;
        if score > 1.0 {
            self.alarms += 1;
            self.episodes += u64::from(quiet.is_none_or(|rows| rows > EPISODE_ROWS));
            trace.since_alarm = Some(0);
        }
        if let Some(loss) = log_loss(value, verdict) {
            self.loss += loss;
            self.loss_rows += 1;
        }
        if let (Some(centre), Some(lo), Some(hi)) = (verdict.expected, verdict.lo, verdict.hi) {
            self.residuals.observe(&mut trace.block, value - centre, (hi - lo) / 2.0);
        }
    }

    /// Rows with a score.
    pub fn scored(&self) -> u64 {
        self.scored
    }

    /// Rows with a score above 1.
    pub fn alarms(&self) -> u64 {
        self.alarms
    }

    /// Alarms a row; `None` without rows.
    pub fn alarm_rate(&self) -> Option<f64> {
        (self.scored > 0).then(|| self.alarms as f64 / self.scored as f64)
    }

    /// Alarms that did not follow another of the same series within 32 rows.
    pub fn episodes(&self) -> u64 {
        self.episodes
    }

    /// Mean [`log_loss`], nats; `None` without rows that have one. Of the same rows the smaller is the better.
    pub fn loss(&self) -> Option<f64> {
        (self.loss_rows > 0).then(|| self.loss / self.loss_rows as f64)
    }

    /// How likely as many episodes of alarms, or more, were if they came as often as in training, or as often as the
    /// boundary promises if that is more (a comparison of two Poisson rates given their sum, Przyborowski and Wilenski
    /// 1940). `None` without rows.
    pub fn calibration(&self, training: &Self) -> Option<f64> {
        if self.scored == 0 || training.scored == 0 {
            return None;
        }
        if self.episodes == 0 {
            return Some(1.0);
        }
        let expected = (NOMINAL * training.scored as f64).ceil() as u64;
        let before = training.episodes.max(expected);
        let share = self.scored as f64 / (self.scored as f64 + training.scored as f64);
        let both = Binomial::new(share, before.saturating_add(self.episodes)).ok()?;
        Some(both.sf(self.episodes - 1).clamp(0.0, 1.0))
    }

    /// Appends everything.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        for count in [self.scored, self.alarms, self.episodes, self.loss_rows] {
            out.put_u64(count);
        }
        out.put_f64(self.loss);
        self.residuals.save(out);
    }

    /// Takes back what [`Health::save`] wrote.
    ///
    /// # Errors
    /// `Invalid` when the bytes are malformed or of an unknown version.
    pub fn load(bytes: &[u8]) -> Result<Self> {
        let mut from = Reader::new(bytes);
        if from.u8()? != VERSION {
            return Err(malformed("its version is unknown"));
        }
        let (scored, alarms, episodes, loss_rows) = (from.u64()?, from.u64()?, from.u64()?, from.u64()?);
        let loss = from.finite()?;
        let residuals = Residuals::load(&mut from)?;
        from.end()?;
        Ok(Self { scored, alarms, episodes, loss, loss_rows, residuals })
    }
}
