//! The feed, read once for all queries that look at it together, its rows sorted by the table they are of.
//!
//! ```text
//!  commits ──read once──► part: rows by metric, instants of events by table ──► each query: those of its source
//! ```
//! A thousand queries over as many metrics read each sample once, not a thousand times.
use std::collections::BTreeMap;
use std::sync::Arc;

use foretell_engine::{Commit, Engine, ErrorKind as EngineErrorKind, Lsn, Snapshot};
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::operator::engine_fault;
use super::plan::OriginKind;
use super::source::Rows;
use crate::error::Error;
use crate::event::Signal;

/// Parts that a look keeps for whoever comes to them later; beyond that they are read again.
const PARTS_MAX: usize = 8;

/// One look at the store: a snapshot, and the commits up to it.
pub(super) struct Look {
    engine: Engine,
    snapshot: Snapshot,
    rows_max: usize,
    parts: Mutex<BTreeMap<Lsn, Arc<Part>>>,
}

/// Why a part cannot be had.
pub(super) enum Unread {
    /// The log no longer has it.
    LogGone,
    Failed(Error),
}

impl Look {
    /// A look at the store as it is now; its parts have about `rows_max` rows.
    pub(super) fn new(engine: &Engine, rows_max: usize) -> Self {
        Self { snapshot: engine.snapshot(), engine: engine.clone(), rows_max, parts: Mutex::default() }
    }
    /// The store.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
    /// The newest commit.
    pub(super) fn through(&self) -> Lsn {
        self.snapshot.lsn()
    }

    /// The commits after `position`, or the first of them; `None` when there are none. Who is at the same position has the same.
    ///
    /// # Errors
    /// As [`Engine::read_commits`].
    pub(super) fn after(&self, position: Lsn) -> Result<Option<Arc<Part>>, Unread> {
        let mut parts = self.parts.lock();
        if let Some(part) = parts.get(&position) {
            return Ok(Some(Arc::clone(part)));
        }
        let commits =
            self.engine.read_commits(position, self.through(), self.rows_max).map_err(|error| match error.kind() {
                EngineErrorKind::Limit => Unread::LogGone,
                _ => Unread::Failed(engine_fault(error)),
            })?;
        let Some(last) = commits.last() else { return Ok(None) };
        let part = Arc::new(Part::new(&commits, last.lsn));
        if parts.len() >= PARTS_MAX {
            parts.pop_first();
        }
        parts.insert(position, Arc::clone(&part));
        Ok(Some(part))
    }
}

/// Rows of some commits, by what they are of.
pub(super) struct Part {
    /// The last of the commits.
    pub(super) through: Lsn,
    samples: HashMap<u32, Rows>,
    events: HashMap<Signal, Rows>,
}

impl Part {
    fn new(commits: &[Commit], through: Lsn) -> Self {
        let mut samples: HashMap<u32, Rows> = HashMap::new();
        let mut events: HashMap<Signal, Rows> = HashMap::new();
        for Commit { batch, .. } in commits {
            let mut row = 0;
            while let Some(id) = batch.series.get(row) {
                // Samples of a metric come together more often than not.
                let run = batch.series[row..].iter().take_while(|next| next.metric() == id.metric()).count();
                let rows = samples.entry(id.metric()).or_default();
                let run = row..row + run;
                row = run.end;
                rows.ids.extend_from_slice(&batch.series[run.clone()]);
                rows.ts.extend_from_slice(&batch.ts[run.clone()]);
                rows.values.extend_from_slice(&batch.values[run]);
            }
            for records in &batch.records {
                let signal = Signal::ALL.into_iter().find(|signal| *signal.table_name() == **records.table.name());
                if let Some(signal) = signal {
                    events.entry(signal).or_default().ts.extend_from_slice(&records.ts);
                }
            }
        }
        Self { through, samples, events }
    }

    /// The rows of a source; of events only when they were.
    pub(super) fn rows(&self, kind: OriginKind, ordinal: Option<u32>) -> Option<&Rows> {
        match kind {
            OriginKind::Events(signal) => self.events.get(&signal),
            OriginKind::Metric | OriginKind::Derived => self.samples.get(&ordinal?),
        }
        .filter(|rows| !rows.is_empty())
    }
}
