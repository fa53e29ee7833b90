//! A model at work: every row of its query that is older than the watermark is shown once to the versions that have a role,
//! in the order of time; the champion's anomalies are stored, and what the rule says of the versions is carried out.
//!
//! Nothing of this is stored but the journal and the anomalies: after a restart the rows since the oldest lane began are shown
//! again, and only those that had not been watched can be stored as anomalies.
use std::time::{Duration, Instant};

use foretell_engine::Snapshot;
use foretell_ml::detect::Detector;
use foretell_ml::health::{self, Advice, Duel, Health, Side, log_loss};
use hashbrown::HashMap;

use super::definition::{Anomaly, Definition, Journal, Phase, Reason, Version, damaged, detectors_of, encode_key};
use super::lane::{Lanes, Role};
use super::rows::Row;
use super::training::fresh;
use crate::error::Result;

/// How one role has done since it is that role.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) since: Health,
    /// The champion on the same rows is first.
    pub(super) duel: Duel,
}

/// The records of a model, as others see them.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// Version and record by role.
    pub(super) roles: [Option<(u32, Record)>; 3],
    pub(super) rows: u64,
    /// Time that scoring them took, all versions together.
    pub(super) took: Duration,
}

/// The lanes of every series, and what is known of the roles.
pub(super) struct Watch {
    lanes: HashMap<Vec<u8>, Lanes>,
    phase: Option<usize>,
    pub(super) records: Records,
    /// Rows up to here were shown, ns.
    shown_to: i64,
}

impl Watch {
    /// One that has to be shown all rows from [`Watch::begins`] on.
    pub(super) fn new(journal: &Journal) -> Self {
        let place = journal.at(journal.watched_to.saturating_add(1)).map_or(0, |(place, _)| place);
        let begins = journal.phases.get(journal.origin_or_first(place)).map_or(i64::MAX, |phase| phase.from);
        Self { lanes: HashMap::new(), phase: None, records: Records::default(), shown_to: begins.saturating_sub(1) }
    }

    /// Rows after this time have not been shown, ns.
    pub(super) fn shown_to(&self) -> i64 {
        self.shown_to
    }

    /// Shows rows, which come in the order of time. Answers those that the champion finds anomalous and that were not watched
    /// before.
    ///
    /// # Errors
    /// `Internal` when a stored detector is damaged.
    pub(super) fn show(
        &mut self,
        definition: &Definition,
        journal: &Journal,
        snapshot: &Snapshot,
        rows: Vec<Row>,
    ) -> Result<Vec<Anomaly>> {
        let began = Instant::now();
        let mut anomalies = Vec::new();
        for row in rows {
            let key = encode_key(&row.key);
            let lanes = self.lanes.entry_ref(key.as_slice()).or_default();
            let trained = |version: u32| stored(definition, snapshot, version, &key);
            let Some(said) = lanes.step(journal, &trained, row.ts, row.value)? else { continue };
            let phase = &journal.phases[said.phase];
            if self.phase.is_none_or(|at| at < said.phase) {
                self.records.enter(phase);
                self.phase = Some(said.phase);
            }
            self.records.rows += 1;
            let champion = said.verdicts[0];
            let first = champion.and_then(|verdict| log_loss(row.value, &verdict));
            for (role, record) in Role::ALL.into_iter().zip(&mut self.records.roles) {
                let (Some((version, record)), Some(verdict)) = (record, said.verdicts[role as usize]) else { continue };
                // a row of an earlier phase
                let Some(lane) = lanes.of(*version) else { continue };
                record.since.observe(&mut lane.trace, row.value, &verdict);
                if let (Some(first), Some(other)) = (first, log_loss(row.value, &verdict)) {
                    record.duel.observe(first, other);
                }
            }
            if let Some(verdict) = champion
                && let Some(score) = verdict.score.filter(|&score| score > phase.boundary)
                && row.ts > journal.watched_to
            {
                anomalies.push(Anomaly {
                    id: 0,
                    model: definition.name.clone(),
                    version: phase.champion,
                    key: row.key,
                    ts: row.ts,
                    value: row.value,
                    score,
                    expected: verdict.expected,
                    lo: verdict.lo,
                    hi: verdict.hi,
                    label: None,
                });
            }
        }
        self.records.took += began.elapsed();
        Ok(anomalies)
    }

    /// All rows up to `ts` have been shown.
    pub(super) fn advance(&mut self, ts: i64) {
        self.shown_to = self.shown_to.max(ts);
    }

    /// The phase that the rule wants to begin now.
    pub(super) fn advice(
        &self,
        definition: &Definition,
        journal: &Journal,
        version: impl Fn(u32) -> Option<Version>,
    ) -> Option<Phase> {
        let phase = journal.phases.last()?;
        // rows are shown again, or what was decided last has not come to pass yet
        if self.shown_to < journal.watched_to
            || phase.from > self.shown_to
            || self.phase != Some(journal.phases.len() - 1)
        {
            return None;
        }
        let side = |role: Role| {
            let (number, record) = self.records.roles[role as usize].as_ref()?;
            Some((version(*number)?, record))
        };
        let begins = |champion, fallback, challenger, reason| Phase {
            from: self.shown_to.saturating_add(1),
            champion,
            fallback,
            challenger,
            reason,
            boundary: phase.boundary,
            at: 0,
        };
        if let (true, Some((champion, record)), Some((fallback, other))) =
            (definition.rolls_back, side(Role::Champion), side(Role::Fallback))
        {
            let champion = Side { since: &record.since, training: &champion.training };
            if health::champion(champion, &other.duel) == Advice::RollBack {
                return Some(begins(fallback.number, None, phase.challenger, Reason::RolledBackByRule));
            }
        }
        let (challenger, record) = side(Role::Challenger)?;
        let side = Side { since: &record.since, training: &challenger.training };
        match health::challenger(side, &record.duel) {
            Advice::Promote if definition.promotes => {
                Some(begins(challenger.number, Some(phase.champion), None, Reason::PromotedByRule))
            }
            Advice::Reject => Some(begins(phase.champion, phase.fallback, None, Reason::RejectedByRule)),
            _ => None,
        }
    }
}

impl Journal {
    fn origin_or_first(&self, place: usize) -> usize {
        if self.phases.is_empty() { 0 } else { self.origin(place) }
    }
}

impl Records {
    /// Begins anew for what has changed its role: a comparison is of the same two versions throughout.
    fn enter(&mut self, phase: &Phase) {
        let versions = phase.roles();
        let champion_changed = self.roles[0].as_ref().map(|(version, _)| *version) != versions[0];
        for (role, version) in self.roles.iter_mut().zip(versions) {
            let same = role.as_ref().map(|(version, _)| *version) == version;
            if !same || champion_changed {
                *role = version.map(|version| (version, Record::default()));
            }
        }
    }
}

/// The detector of a version for a series as it was trained; a fresh one for a series that it does not know.
///
/// # Errors
/// `Internal` when its bytes are damaged.
pub(super) fn stored(definition: &Definition, snapshot: &Snapshot, version: u32, key: &[u8]) -> Result<Detector> {
    let place = [&detectors_of(&definition.name, version)[..], key].concat();
    match snapshot.state(&place)? {
        Some(bytes) => Detector::load(&bytes).map_err(|error| damaged(&error.to_string())),
        None => fresh(definition),
    }
}
