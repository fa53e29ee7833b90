//! What is stored against what a writer relies on.
use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::lane::{Key, Lane};

/// Examples that are shown of what is wrong.
const EXAMPLES_MAX: usize = 5;

/// A value as it came back: SQL text tells NaN from numbers but not one NaN from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Bits(u64),
    AnyNan,
}

impl Stored {
    fn is(self, bits: u64) -> bool {
        match self {
            Self::Bits(stored) => stored == bits,
            Self::AnyNan => f64::from_bits(bits).is_nan(),
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// Rows compared.
    pub(super) rows: u64,
    /// Acknowledged and absent.
    pub(super) lost: u64,
    /// Answered more than once.
    pub(super) duplicated: u64,
    /// Other bits than any that may stand there, half of a request, or never acknowledged.
    pub(super) wrong: u64,
    /// Whether the request nobody had answered is there.
    pub(super) unsure_is_there: Option<bool>,
    examples: Vec<String>,
}

impl Verdict {
    fn example(&mut self, what: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(what);
        }
    }

    /// # Errors
    /// When anything is not as it must be.
    pub(super) fn demand_clean(&self) -> Result<()> {
        if self.lost + self.duplicated + self.wrong > 0 {
            let (lost, duplicated, wrong) = (self.lost, self.duplicated, self.wrong);
            bail!("{lost} lost, {duplicated} duplicated, {wrong} wrong:\n  {}", self.examples.join("\n  "));
        }
        Ok(())
    }
}

/// Which rows an answer is about.
pub(super) type Answer = Vec<(Key, Stored)>;

/// Compares an answer with what `lane` relies on: of the series it has touched, or of all.
pub(super) fn judge(lane: &Lane, stored: &[(Key, Stored)], everything: bool) -> Verdict {
    let mut verdict = Verdict::default();
    let mut found: BTreeMap<Key, Stored> = BTreeMap::new();
    for &(key, value) in stored {
        if let Some(other) = found.insert(key, value) {
            verdict.duplicated += 1;
            verdict.example(format!("series {} at {}: answered twice, {other:?} and {value:?}", key.0, key.1));
        }
    }
    verdict.rows = found.len() as u64;
    let unsure = lane.unsure.as_ref().map(|request| &request.rows);
    judge_unsure(lane, &found, &mut verdict);
    let there = verdict.unsure_is_there == Some(true);
    let newer = |key: &Key| unsure.filter(|_| there).and_then(|rows| rows.get(key)).copied();
    let asked = |series: u32| everything || lane.touched.contains(&series);
    for (key, &acknowledged) in lane.rows.iter().filter(|(key, _)| asked(key.0)) {
        let expected = newer(key).unwrap_or(acknowledged);
        match found.remove(key) {
            None => {
                verdict.lost += 1;
                verdict.example(format!("series {} at {}: {expected:016x} is lost", key.0, key.1));
            }
            Some(value) if value.is(expected) => {}
            Some(value) => {
                verdict.wrong += 1;
                verdict.example(format!("series {} at {}: {value:?} instead of {expected:016x}", key.0, key.1));
            }
        }
    }
    for (key, value) in found {
        if !newer(&key).is_some_and(|expected| value.is(expected)) {
            verdict.wrong += 1;
            verdict.example(format!("series {} at {}: {value:?}, which nobody was told of", key.0, key.1));
        }
    }
    verdict
}

/// The unanswered request is there wholly or not at all. Rows that it would not change say nothing.
fn judge_unsure(lane: &Lane, found: &BTreeMap<Key, Stored>, verdict: &mut Verdict) {
    let Some(request) = &lane.unsure else { return };
    let (mut there, mut absent) = (0, 0);
    for (key, &bits) in &request.rows {
        let (old, now) = (lane.rows.get(key).copied(), found.get(key));
        let is_new = now.is_some_and(|now| now.is(bits));
        let is_old = match (old, now) {
            (Some(old), Some(now)) => now.is(old),
            (None, None) => true,
            _ => false,
        };
        match (is_new, is_old) {
            (true, false) => there += 1,
            (false, true) => absent += 1,
            // the same either way, or neither: the comparison of rows tells
            _ => {}
        }
    }
    if there > 0 && absent > 0 {
        verdict.wrong += 1;
        verdict.example(format!("half a request: {there} rows of it are there, {absent} are not"));
    }
    verdict.unsure_is_there = Some(there > 0);
}
