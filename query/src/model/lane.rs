//! One series under the eyes of up to three versions.
//!
//! ```text
//!  phase:      1 ─────────┐ 2 ────────────────┐ 3 (rolled back)
//!  champion    v1 ────────│ v2 ───────────────│ v1 ─ ─ goes on from its state as fallback
//!  fallback               │ v1 as trained ────┘
//!  challenger  v2 ────────┘
//! ```
//! A version that changes its role keeps what it has seen since; only a champion that becomes the fallback goes back to what
//! it was when trained, for what it saw since may be what was wrong. What a lane says depends on the stored rows, the
//! versions and the journal alone: so a score is the same whenever it is asked for, and is given exactly once.
use foretell_ml::detect::{Detector, Verdict};
use foretell_ml::health::Trace;

use super::definition::{FORGOTTEN, Journal, Phase, damaged, small};
use crate::codec::{Decoder, Encoder};
use crate::error::Result;

/// Gives the detector of a version as it was trained.
pub(super) type Trained<'a> = &'a dyn Fn(u32) -> Result<Detector>;

/// The versions that score a series now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    /// Number of the phase of the last row.
    phase: Option<u64>,
    lanes: Vec<Lane>,
}

/// One version on one series.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) version: u32,
    detector: Detector,
    pub(super) trace: Trace,
}

/// What a role is, in the order of [`Phase::roles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Champion,
    Fallback,
    Challenger,
}

impl Role {
    pub(super) const ALL: [Self; 3] = [Self::Champion, Self::Fallback, Self::Challenger];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Champion => "champion",
            Self::Fallback => "fallback",
            Self::Challenger => "challenger",
        }
    }
}

impl Phase {
    /// The version of each role; `None` also for one that is forgotten.
    pub(super) fn roles(&self) -> [Option<u32>; 3] {
        [Some(self.champion), self.fallback, self.challenger].map(|role| role.filter(|version| *version != FORGOTTEN))
    }

    /// Whether `version` goes on in `next` with what it has seen.
    pub(super) fn hands_on(&self, next: &Self, version: u32) -> bool {
        let demoted = self.champion == version && next.fallback == Some(version);
        self.roles().contains(&Some(version)) && !demoted
    }
}

impl Journal {
    /// The number of the phase in this place.
    fn number(&self, place: usize) -> u64 {
        self.forgotten + place as u64
    }

    /// The place of a phase that is not forgotten.
    fn place(&self, number: u64) -> Option<usize> {
        number.checked_sub(self.forgotten).and_then(|place| usize::try_from(place).ok())
    }

    /// The first of the phases whose rows the versions of phase `place` have seen.
    pub(super) fn origin(&self, place: usize) -> usize {
        let since = |version: u32| {
            let mut first = place;
            while first > 0 && self.phases[first - 1].hands_on(&self.phases[first], version) {
                first -= 1;
            }
            first
        };
        self.phases[place].roles().into_iter().flatten().map(since).min().unwrap_or(place)
    }
}

/// What the versions say of one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// Place of the phase in the journal.
    pub(super) phase: usize,
    /// By role.
    pub(super) verdicts: [Option<Verdict>; 3],
}

impl Lanes {
    const VERSION: u8 = 1;

    /// Scores the next row of the series, which is not NaN; `None` before the first phase.
    ///
    /// # Errors
    /// As `trained`.
    pub(super) fn step(
        &mut self,
        journal: &Journal,
        trained: Trained<'_>,
        ts: i64,
        value: f64,
    ) -> Result<Option<Said>> {
        let Some((phase, _)) = journal.at(ts) else { return Ok(None) };
        self.enter(journal, phase, trained)?;
        let roles = journal.phases[phase].roles();
        let mut verdicts = [None; 3];
        for lane in &mut self.lanes {
            let verdict = lane.detector.update(ts, value);
            for (said, role) in verdicts.iter_mut().zip(roles) {
                if role == Some(lane.version) {
                    *said = Some(verdict);
                }
            }
        }
        Ok(Some(Said { phase, verdicts }))
    }

    /// The lane of a version.
    pub(super) fn of(&mut self, version: u32) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.version == version)
    }

    /// Goes through the phases up to `phase`.
    fn enter(&mut self, journal: &Journal, phase: usize, trained: Trained<'_>) -> Result<()> {
        let at = self.phase.and_then(|number| journal.place(number));
        let first = match at {
            // a row of an earlier phase after one of a later: it cannot be in the order of time
            Some(at) if at >= phase => return Ok(()),
            Some(at) => at + 1,
            None => journal.origin(phase),
        };
        let mut known = at.is_some();
        for place in first..=phase {
            let next = &journal.phases[place];
            let before = place.checked_sub(1).filter(|_| known).map(|before| &journal.phases[before]);
            self.lanes.retain(|lane| {
                next.roles().contains(&Some(lane.version)) && before.is_some_and(|b| b.hands_on(next, lane.version))
            });
            for version in next.roles().into_iter().flatten() {
                if self.of(version).is_none() {
                    self.lanes.push(Lane { version, detector: trained(version)?, trace: Trace::default() });
                }
            }
            self.phase = Some(journal.number(place));
            known = true;
        }
        Ok(())
    }

    /// All that the next row depends on; traces are not.
    pub(crate) fn save(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.option(self.phase, |out, number| {
            out.unsigned(number);
        });
        let mut state = Vec::new();
        for lane in &self.lanes {
            state.clear();
            lane.detector.save(&mut state);
            out.unsigned(lane.version.into()).bytes(&state);
        }
        out.finish()
    }

    /// # Errors
    /// `Internal` when the bytes are damaged.
    pub(crate) fn load(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new("versions of a model on a series", bytes, Self::VERSION)?;
        let (phase, mut lanes) = (from.option(Decoder::unsigned)?, Vec::new());
        while !from.is_empty() {
            let version = small(from.unsigned()?)?;
            let detector = Detector::load(from.bytes()?).map_err(|error| damaged(&error.to_string()))?;
            lanes.push(Lane { version, detector, trace: Trace::default() });
        }
        Ok(Self { phase, lanes })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foretell_ml::detect::{DetectorOptions, Method};

    use super::super::definition::Reason;
    use super::*;

    fn phase(from: i64, champion: u32, fallback: u32, challenger: u32) -> Phase {
        let version = |number: u32| (number > 0).then_some(number);
        let reason = Reason::Created;
        Phase {
            from,
            champion,
            fallback: version(fallback),
            challenger: version(challenger),
            boundary: 1.0,
            reason,
            at: 0,
        }
    }

    /// A version `v` has seen 40 rows about `100 v`.
    fn trained(version: u32) -> Result<Detector> {
        let mut detector = Detector::new(Method::Mad, DetectorOptions::default()).unwrap();
        for i in 0..40 {
            detector.update(i - 40, f64::from(version) * 100.0 + (i % 5) as f64);
        }
        Ok(detector)
    }

    fn centres(journal: &Journal, rows: &[(i64, f64)]) -> Vec<[Option<f64>; 3]> {
        let mut lanes = Lanes::default();
        rows.iter()
            .map(|&(ts, value)| {
                let said = lanes.step(journal, &trained, ts, value).unwrap().unwrap();
                said.verdicts.map(|verdict| verdict.and_then(|v| v.expected))
            })
            .collect()
    }

    #[test]
    fn a_promoted_version_keeps_what_it_has_seen_and_the_demoted_one_forgets() {
        let journal = Journal {
            phases: vec![phase(0, 1, 0, 2), phase(50, 2, 1, 0), phase(60, 1, 0, 0)],
            forgotten: 0,
            watched_to: 0,
        };
        let rows: Vec<(i64, f64)> = (0..70).map(|ts| (ts, 300.0 + (ts % 5) as f64)).collect();
        let said = centres(&journal, &rows);
        // both have learnt the level of the rows within the first 50
        assert!(said[49][0].unwrap() > 290.0 && said[49][2].unwrap() > 290.0);
        assert!(said[50][0].unwrap() > 290.0, "the challenger goes on as champion");
        assert!(said[50][1].unwrap() < 110.0, "the champion before is as it was trained");
        assert_eq!(said[50][2], None);
        // and what the fallback saw since is what the rolled back version goes on from
        assert_eq!(said[60][1], None);
        let mut fallback = trained(1).unwrap();
        for &(ts, value) in &rows[50..60] {
            fallback.update(ts, value);
        }
        assert_eq!(said[60][0], fallback.update(60, rows[60].1).expected);
    }

    #[test]
    fn a_series_that_begins_late_is_scored_as_if_it_had_been_there() {
        let journal = Journal { phases: vec![phase(0, 1, 0, 2), phase(50, 2, 1, 0)], forgotten: 0, watched_to: 0 };
        let said = centres(&journal, &[(70, 200.0)]);
        assert_eq!(said[0][0], trained(2).unwrap().update(70, 200.0).expected);
        let mut lanes = Lanes::default();
        assert!(lanes.step(&journal, &trained, -1, 0.0).unwrap().is_none());
    }

    #[test]
    fn the_origin_of_a_phase_is_where_its_oldest_lane_began() {
        let journal = Journal {
            phases: vec![
                phase(0, 1, 0, 0),
                phase(10, 1, 0, 2),
                phase(20, 2, 1, 0),
                phase(30, 2, 0, 0),
                phase(40, 2, 0, 3),
            ],
            forgotten: 0,
            watched_to: 0,
        };
        assert_eq!((0..5).map(|place| journal.origin(place)).collect::<Vec<_>>(), [0, 0, 1, 1, 1]);
    }
}
