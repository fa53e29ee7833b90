//! Cheap first: methods of higher tiers judge only the rows that the tier below doubts.
//!
//! A higher method sees nothing of a series until a row scores above its threshold; then it catches up on the last rows, of which
//! some hundred are kept, and judges this one. Its score and tier stand in the answer; edges and expectation are those of the tier
//! below, where it has none of its own. How much it may do is bounded: each row brings a share of a row for the methods above, and
//! who has not saved enough is judged by the tier below alone. So the answer is a function of the rows, as for every method.
use std::collections::VecDeque;

use super::model::Model;
use super::{Method, Verdict};
use crate::Result;
use crate::error::Error;
use crate::state::{Put, Reader, malformed};

/// Higher methods of a detector.
const STEPS_MAX: usize = 2;
/// Rows that a method catches up on: what windows and forests remember.
const KEPT: usize = 768;
/// Rows of the methods above that a row brings, and how many can be saved.
const SHARE: f64 = 0.125;
const SAVED_MAX: f64 = 2.0 * KEPT as f64;

/// A higher method, and the score of the tier below above which it is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The method.
    pub method: Method,
    /// >= 0.
    pub above: f64,
}

/// Which methods are asked in turn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Escalation([Option<Step>; STEPS_MAX]);

impl Escalation {
    /// These, the first of them after the detector's own.
    ///
    /// # Errors
    /// `Invalid` for too many, or a threshold that is no score.
    pub fn new(steps: &[Step]) -> Result<Self> {
        if steps.len() > STEPS_MAX {
            return Err(Error::Invalid(format!(
                "{} methods above the first are too many, at most {STEPS_MAX} are asked",
                steps.len()
            )));
        }
        if let Some(step) = steps.iter().find(|step| !step.above.is_finite() || step.above < 0.0) {
            return Err(Error::Invalid(format!(
                "{} above {}: a score is 0 or more, and 1 is the boundary",
                step.method, step.above
            )));
        }
        let mut escalation = Self::default();
        for (place, &step) in escalation.0.iter_mut().zip(steps) {
            *place = Some(step);
        }
        Ok(escalation)
    }

    fn steps(&self) -> impl Iterator<Item = Step> {
        self.0.into_iter().flatten()
    }
}

/// A method that is asked now and then.
#[derive(Clone, Debug, PartialEq)]
struct Level {
    step: Step,
    model: Model,
    /// Rows that it has not seen, at most [`KEPT`] + 1: then it begins anew.
    behind: u16,
}

/// The methods above the first, and what they have not seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Levels {
    levels: Vec<Level>,
    recent: VecDeque<(i64, f64)>,
    saved: f64,
}

impl Levels {
    /// `None` when there are none.
    pub(super) fn new(escalation: Escalation) -> Option<Box<Self>> {
        let level = |step: Step| Level { step, model: Model::new(step.method), behind: 0 };
        let levels: Vec<Level> = escalation.steps().map(level).collect();
        (!levels.is_empty()).then(|| Box::new(Self { levels, recent: VecDeque::new(), saved: SAVED_MAX }))
    }

    pub(super) fn escalation(&self) -> Escalation {
        let mut escalation = Escalation::default();
        for (place, level) in escalation.0.iter_mut().zip(&self.levels) {
            *place = Some(level.step);
        }
        escalation
    }

    /// Asks the methods above about a finite row on which the first has said `verdict`, then keeps it.
    pub(super) fn judge(&mut self, season_ns: Option<i64>, ts: i64, value: f64, verdict: Verdict) -> Verdict {
        self.saved = (self.saved + SHARE).min(SAVED_MAX);
        let mut said = verdict;
        let mut asked = 0;
        for level in &mut self.levels {
            if said.score.is_none_or(|score| score <= level.step.above) {
                break;
            }
            let anew = usize::from(level.behind) > self.recent.len();
            let missed = usize::from(level.behind).min(self.recent.len());
            let cost = missed as f64 + 1.0;
            if cost > self.saved {
                break;
            }
            self.saved -= cost;
            if anew {
                level.model = Model::new(level.step.method);
            }
            for &(ts, value) in self.recent.range(self.recent.len() - missed..) {
                level.model.observe(season_ns, ts, value);
            }
            let own = level.model.observe(season_ns, ts, value);
            level.behind = 0;
            asked += 1;
            if own.score.is_some() {
                said = Verdict {
                    expected: own.expected.or(said.expected),
                    lo: own.lo.or(said.lo),
                    hi: own.hi.or(said.hi),
                    ..own
                };
            }
        }
        for level in &mut self.levels[asked..] {
            level.behind = (level.behind + 1).min(KEPT as u16 + 1);
        }
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((ts, value));
        said
    }

    pub(super) fn save(&self, out: &mut Vec<u8>) {
        out.put_u8(self.levels.len() as u8);
        for level in &self.levels {
            out.put_u8(level.step.method as u8);
            out.put_f64(level.step.above);
            out.put_u16(level.behind);
            level.model.save(out);
        }
        out.put_f64(self.saved);
        out.put_u16(self.recent.len() as u16);
        for &(ts, value) in &self.recent {
            out.put_i64(ts);
            out.put_f64(value);
        }
    }

    pub(super) fn load(from: &mut Reader<'_>) -> Result<Box<Self>> {
        let count = usize::from(from.u8()?);
        if count == 0 || count > STEPS_MAX {
            return Err(malformed("as many higher methods as there cannot be"));
        }
        let mut levels = Vec::with_capacity(count);
        for _ in 0..count {
            let method = Method::ALL.get(usize::from(from.u8()?)).ok_or_else(|| malformed("its method is unknown"))?;
            let step = Step { method: *method, above: from.positive()? };
            let behind = from.u16()?.min(KEPT as u16 + 1);
            levels.push(Level { step, behind, model: Model::load(*method, from)? });
        }
        let saved = from.positive()?.min(SAVED_MAX);
        let rows = usize::from(from.u16()?);
        if rows > KEPT {
            return Err(malformed("more rows than are ever kept"));
        }
        let recent = (0..rows).map(|_| Ok((from.i64()?, from.finite()?))).collect::<Result<_>>()?;
        Ok(Box::new(Self { levels, recent, saved }))
    }
}
