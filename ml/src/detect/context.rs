//! What the last values of a series add to the judgement of one: `auto` answers with both.
//!
//! - **Habituation.** Who was told does not want to be told again: after a value near or beyond its boundary those that
//!   are not twice as bad score less, for some tens of values. The first value of an incident stands out, and what is
//!   much worse.
//! - **Records.** Where worse has happened within some hundred values, scores are divided by the root of how bad it was.
//! - **Bursts.** More unusual values than usual are an alarm although no single one is (see `burst.rs`).
//! - **Suspicion.** Running means over 200 values of the scores and of the distance from the long past in spreads. The
//!   larger of them (in spreads) is what a value well within its boundary scores by, so that the rows of an incident rank
//!   above those of calm times although each of them could be chance. Suspicion alone is never an alarm.
//! - **Pace.** A boundary that one value in 10,000 lies beyond is one alarm in a month for rows of five minutes and one in
//!   two days for rows of fifteen seconds. What people bear is alarms in a day.
use super::Verdict;
use super::burst::Burst;
use super::outlook::{Judgement, Outlook};
use super::past::Past;
use crate::Result;
use crate::state::{Put, Reader};

/// Distances are first told as shares of this share of the distance that one value in 10,000 lies beyond: from 1 on they
/// are notable. What is this many times as far is an alarm (`bench detect` counts the false ones).
const NOTABLE: f64 = 0.8;
const ALARM: f64 = 1.3;
/// A score that is not above this is replaced by suspicion.
const POINT_MIN: f64 = 0.75;
/// A value beyond this habituates.
const HABITUATING: f64 = 0.875;
/// One such value divides the next scores by one more than this, and this share of it is left after one value.
const HABITUATION: f64 = 4.0;
const HABITUATION_KEPT: f32 = 0.96;
/// What is left of the worst score told after one value, and the most that is remembered. What is this many times as bad
/// is told in full.
const TOLD_KEPT: f32 = 0.96;
const TOLD_MAX: f64 = 100.0;
const WORSE: f64 = 2.0;
/// What is left of the record after one value: a third after 300.
const RECORD_KEPT: f32 = 1.0 - 1.0 / 300.0;
/// From this on a score tells something, and a burst is news when nothing was told in this many values.
const TELLING: f64 = 0.9;
const QUIET: u16 = 100;
/// Weight of one value in suspicion.
const WEIGHT: f32 = 1.0 / 200.0;
/// One value counts for at most this score, and this many spreads.
const SCORE_CLIP: f64 = 1.5;
const SPREADS_CLIP: f64 = 4.0;
/// Scores as spreads: those of noise have a mean of about 0.1 and 0.8.
const SPREADS_PER_SCORE: f32 = 8.0;
/// Suspicion of this many spreads comes to 0.63 of [`POINT_MIN`].
const SPREADS_USUAL: f64 = 2.0;
/// Share of the boundary that suspicion of one spread comes to before habituation, and the most it comes to.
const PRESSURE: f64 = 0.375;
const PRESSURE_MAX: f64 = 0.95;
/// Rows of five minutes and slower are judged by the value alone. Each factor e of more rows in a day moves the boundary
/// out by this.
const PACE: f64 = 0.15;
const USUAL_STEP_NS: f64 = 300e9;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Context {
    /// Factor of the boundary for the pace of the series.
    pace: f64,
    habituation: f32,
    told: f32,
    record: f32,
    quiet: u16,
    burst: Burst,
    /// Running means of scores and of spreads from the long past.
    scores: f32,
    spreads: f32,
}

impl Context {
    /// For a series with a row each `step` ns.
    pub(super) fn new(step: i64) -> Self {
        let pace = 1.0 + PACE * (USUAL_STEP_NS / step.max(1) as f64).max(1.0).ln();
        Self {
            pace,
            habituation: 0.0,
            told: 0.0,
            record: 0.0,
            quiet: u16::MAX,
            burst: Burst::default(),
            scores: 0.0,
            spreads: 0.0,
        }
    }

    /// The answer for `value`, of which the chosen candidate says `judgement`, before the past learns it.
    pub(super) fn judge(&mut self, judgement: Judgement, past: &Past, value: f64) -> Verdict {
        let suspicion = self.suspect(judgement, past, value);
        let Judgement { mut outlook, z } = floored(judgement, past, value);
        outlook.limit *= NOTABLE * self.pace;
        let worth = z / outlook.limit;

        let fame = f64::from(self.record.max(1.0)).sqrt();
        let fresh = worth / fame;
        let tired = 1.0 + HABITUATION * f64::from(self.habituation);
        let worse = WORSE * f64::from(self.told);
        let point = if worth > worse { fresh } else { fresh / tired };
        let pressure = (PRESSURE * suspicion).min(PRESSURE_MAX);
        let score = point.max(pressure / tired);
        let calm = -POINT_MIN * (-suspicion / SPREADS_USUAL).exp_m1();
        let mut score = if score > POINT_MIN { score } else { calm };

        let heard = worth.min(TOLD_MAX) as f32;
        self.record = (RECORD_KEPT * self.record).max(heard);
        self.told = (TOLD_KEPT * self.told).max(heard);
        let habituates = fresh.max(pressure) > HABITUATING;
        self.habituation = HABITUATION_KEPT * self.habituation + f32::from(u8::from(habituates));

        let burst = self.burst.judge(z) / self.pace;
        let was_quiet = self.quiet >= QUIET;
        self.quiet = if score > TELLING { 0 } else { self.quiet.saturating_add(1) };
        if was_quiet && burst > TELLING {
            score = score.max(burst);
        }

        // beyond the edges is what scores above 1: worse than what was told, or bad enough in spite of habituation
        outlook.limit *= ALARM * fame * tired.min((worse / ALARM).max(1.0));
        Verdict { score: Some(score / ALARM), ..Judgement { outlook, z }.verdict() }
    }

    /// Takes the value into the running means and says how many spreads they come to.
    fn suspect(&mut self, judgement: Judgement, past: &Past, value: f64) -> f64 {
        let score = (judgement.z / judgement.outlook.limit).min(SCORE_CLIP) as f32;
        let spreads = past.z(value).min(SPREADS_CLIP) as f32;
        self.scores += WEIGHT * (score - self.scores);
        self.spreads += WEIGHT * (spreads - self.spreads);
        f64::from(self.spreads.max(SPREADS_PER_SCORE * self.scores))
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_f64(self.pace);
        for v in [self.habituation, self.told, self.record, self.scores, self.spreads] {
            out.put_f32(v);
        }
        out.put_u16(self.quiet);
        self.burst.save(out);
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            pace: from.positive()?.clamp(1.0, 10.0),
            habituation: from.positive_f32()?,
            told: from.positive_f32()?,
            record: from.positive_f32()?,
            scores: from.positive_f32()?,
            spreads: from.positive_f32()?,
            quiet: from.u16()?,
            burst: Burst::load(from)?,
        })
    }
}

/// The judgement with the spread of the past where its own reaches less far.
fn floored(judgement: Judgement, past: &Past, value: f64) -> Judgement {
    let Outlook { centre, spread, limit } = judgement.outlook;
    let (floor, miss) = past.floor();
    if floor * miss <= limit * spread {
        return judgement;
    }
    Outlook { centre, spread: miss, limit: floor }.judge(value)
}
