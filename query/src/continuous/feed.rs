//! The feed, read once for all queries that look at it together, its rows sorted by the table they are of.
//!
//! Parts lie one after the other: one that was read for a query is there for the others, however far they have come.
//! ```text
//!  commits ──read once──► part: rows by metric, instants of events by table ──► each query: those of its source
//! ```
//! A thousand queries over as many metrics read each sample once, not a thousand times.
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use foretell_engine::{Commit, Engine, ErrorKind as EngineErrorKind, Lsn, Snapshot};
use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};

use super::operator::engine_fault;
use super::plan::OriginKind;
use super::source::Rows;
use crate::error::Error;
use crate::event::Signal;

/// Rows that are kept sorted for whoever comes to them later; beyond that they are read again.
const ROWS_HELD_MAX: usize = 2 << 20;

/// What is kept of the feed.
pub(super) struct Feed {
    engine: Engine,
    /// About the rows of a part.
    rows_max: usize,
    /// Tables that somebody reads: parts have the rows of no others. All of them when it is not known.
    wanted: RwLock<Option<HashSet<String>>>,
    parts: Mutex<Parts>,
}

/// Parts by the position that they begin after.
#[derive(Default)]
struct Parts {
    by_start: BTreeMap<Lsn, Arc<Part>>,
    rows: usize,
}

/// The store at one moment, and the feed up to it.
pub(super) struct Look {
    feed: Arc<Feed>,
    snapshot: Snapshot,
    /// The metrics among the tables that are read.
    ordinals: OnceLock<Option<HashSet<u32>>>,
}

/// Why a part cannot be had.
pub(super) enum Unread {
    /// The log no longer has it.
    LogGone,
    Failed(Error),
}

impl Feed {
    pub(super) fn new(engine: Engine, rows_max: usize) -> Arc<Self> {
        Arc::new(Self { engine, rows_max, wanted: RwLock::default(), parts: Mutex::default() })
    }

    /// A look at the store as it is now.
    pub(super) fn look(self: &Arc<Self>) -> Look {
        Look { feed: Arc::clone(self), snapshot: self.engine.snapshot(), ordinals: OnceLock::new() }
    }

    /// Says which tables are read from now on. Call it before whoever reads them takes a look: what was read before lacks their rows.
    /// One without a name is not known.
    pub(super) fn want(&self, tables: HashSet<String>) {
        *self.wanted.write() = (!tables.contains("")).then_some(tables);
    }

    /// Lets go of what everybody has seen who is at or after `position`.
    pub(super) fn forget_before(&self, position: Lsn) {
        let mut parts = self.parts.lock();
        while parts.by_start.first_key_value().is_some_and(|(_, part)| part.through <= position) {
            parts.pop_first();
        }
    }
}

impl Parts {
    fn pop_first(&mut self) {
        if let Some((_, part)) = self.by_start.pop_first() {
            self.rows -= part.len;
        }
    }
}

impl Look {
    /// The store.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
    /// The newest commit.
    pub(super) fn through(&self) -> Lsn {
        self.snapshot.lsn()
    }

    fn ordinals(&self) -> Option<&HashSet<u32>> {
        let ordinal = |name: &String| Some(self.snapshot.metric(name)?.ordinal);
        let of = |wanted: &HashSet<String>| wanted.iter().filter_map(ordinal).collect();
        self.ordinals.get_or_init(|| self.feed.wanted.read().as_ref().map(of)).as_ref()
    }

    /// The commits after `position`, or the first of them; `None` when there are none. Who is at the same position has the same.
    ///
    /// # Errors
    /// As [`Engine::read_commits`].
    pub(super) fn after(&self, position: Lsn) -> Result<Option<Arc<Part>>, Unread> {
        let mut parts = self.feed.parts.lock();
        // One that reaches further was made by a newer look.
        if let Some(part) = parts.by_start.get(&position).filter(|part| part.through <= self.through()) {
            return Ok(Some(Arc::clone(part)));
        }
        let read = self.feed.engine.read_commits(position, self.through(), self.feed.rows_max);
        let commits = read.map_err(|error| match error.kind() {
            EngineErrorKind::Limit => Unread::LogGone,
            _ => Unread::Failed(engine_fault(error)),
        })?;
        let Some(last) = commits.last() else { return Ok(None) };
        let part = Arc::new(Part::new(&commits, last.lsn, self.ordinals()));
        if !parts.by_start.contains_key(&position) {
            parts.rows += part.len;
            parts.by_start.insert(position, Arc::clone(&part));
            while parts.rows > ROWS_HELD_MAX {
                parts.pop_first();
            }
        }
        Ok(Some(part))
    }
}

/// Rows of some commits, by what they are of.
pub(super) struct Part {
    /// The last of the commits.
    pub(super) through: Lsn,
    len: usize,
    samples: HashMap<u32, Rows>,
    events: HashMap<Signal, Rows>,
}

impl Part {
    fn new(commits: &[Commit], through: Lsn, wanted: Option<&HashSet<u32>>) -> Self {
        let mut samples: HashMap<u32, Rows> = HashMap::new();
        let mut events: HashMap<Signal, Rows> = HashMap::new();
        for Commit { batch, .. } in commits {
            let mut row = 0;
            while let Some(id) = batch.series.get(row) {
                // Samples of a metric come together more often than not.
                let run = batch.series[row..].iter().take_while(|next| next.metric() == id.metric()).count();
                let run = row..row + run;
                row = run.end;
                if wanted.is_some_and(|wanted| !wanted.contains(&id.metric())) {
                    continue;
                }
                let rows = samples.entry(id.metric()).or_default();
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
        let len = samples.values().chain(events.values()).map(Rows::len).sum();
        Self { through, len, samples, events }
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
