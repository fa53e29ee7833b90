//! One query at work: loads what is stored, works through existing data once, then follows the feed tick by tick.
//!
//! A tick takes a snapshot, reads the feed from the stored position exactly up to it, and commits rows, state and the new
//! position in one record. Storage and feed therefore agree whenever something is computed again from the snapshot.
use std::sync::Arc;
use std::time::Duration;

use foretell_engine::{Engine, Lsn, Snapshot, WriteBatch};

use super::aggregate::Aggregation;
use super::arrival::{Arrival, Arrivals};
use super::buckets::Buckets;
use super::definition::{Definition, Emit, Late, Progress, detectors_prefix, progress_key, windows_prefix};
use super::emit::Emitter;
use super::feed::{Feed, Look, Unread};
use super::held::{HeldBudget, Holding};
use super::operator::{Chunk, Operator, Work, engine_fault, plan_select};
use super::output::{DerivedTable, TargetSeries};
use super::plan::{Kind, OriginKind, Select};
use super::scores::Scores;
use super::scoring::Scoring;
use super::source::Source;
use super::windows::Windows;
use super::{ContinuousLimits, Sessions};
use crate::error::{Error, Result};
use crate::limits::QueryLimits;

use datafusion::execution::session_state::SessionState;
use hashbrown::HashMap;

/// What every worker is made with.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) feed: Arc<Feed>,
    pub(super) sessions: Sessions,
    pub(super) query_limits: QueryLimits,
    pub(super) limits: ContinuousLimits,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) held: Arc<HeldBudget>,
}

impl Shared {
    fn plan(&self, definition: &Definition, snapshot: &Snapshot) -> Result<(SessionState, Select)> {
        plan_select(&self.sessions, &self.query_limits, &self.runtime, definition, snapshot)
    }
}

/// A compiled SELECT.
enum Compiled {
    Buckets(Box<Aggregation>, super::grid::Grid),
    Scores(Box<Scoring>),
}

fn compile(
    snapshot: &Snapshot,
    select: &Select,
    owner: &str,
    state: &SessionState,
    runtime: tokio::runtime::Handle,
) -> Result<(Compiled, DerivedTable)> {
    Ok(match select.kind {
        Kind::Buckets { .. } => {
            let (aggregation, table, grid) = Aggregation::compile(select, owner, state, runtime)?;
            (Compiled::Buckets(Box::new(aggregation), grid), table)
        }
        Kind::Scores { .. } => {
            let (scoring, table) = Scoring::compile(snapshot, select, owner, state)?;
            (Compiled::Scores(Box::new(scoring)), table)
        }
    })
}

impl Compiled {
    /// The models that it asks.
    fn models(&self) -> Vec<String> {
        match self {
            Self::Buckets(..) => Vec::new(),
            Self::Scores(scoring) => scoring.models(),
        }
    }
}

/// What a definition reads and fills.
pub(super) struct Checked {
    pub(super) source: String,
    pub(super) models: Vec<String>,
    pub(super) table: DerivedTable,
}

/// Checks a definition as far as that goes without reading data.
///
/// # Errors
/// `Invalid` or `NotFound`, saying what to change.
pub(super) fn check(shared: &Shared, definition: &Definition, snapshot: &Snapshot) -> Result<Checked> {
    let (state, select) = shared.plan(definition, snapshot)?;
    if let (Late::Into(_), Some(signal)) = (&definition.late, select.origin.signal()) {
        return Err(Error::invalid(format!(
            "late rows of {} cannot be put into a table of their own: write LATE DROP, which counts them",
            signal.table_name()
        )));
    }
    let (compiled, table) = compile(snapshot, &select, &definition.name, &state, shared.runtime.clone())?;
    Ok(Checked { source: select.origin.table, models: compiled.models(), table })
}

/// How a query works, in words: what EXPLAIN shows.
///
/// # Errors
/// As [`check`].
pub(super) fn explain(
    shared: &Shared,
    definition: &Definition,
    snapshot: &Snapshot,
) -> Result<Vec<(&'static str, String)>> {
    let (state, select) = shared.plan(definition, snapshot)?;
    let (compiled, table) = compile(snapshot, &select, &definition.name, &state, shared.runtime.clone())?;
    let on_close = definition.emit == Emit::Close;
    let reads = match select.origin.kind {
        OriginKind::Metric => "metric",
        OriginKind::Derived => "rows of a continuous query",
        OriginKind::Events(_) => "events",
    };
    let (shape, rows, late) = match (&compiled, select.origin.kind) {
        (Compiled::Buckets(..), _) if on_close => (
            "aggregates over buckets of time",
            "each bucket is read from storage once, when it is complete",
            "their keys in their buckets are read from storage again",
        ),
        (Compiled::Buckets(..), OriginKind::Metric) => (
            "aggregates over buckets of time",
            "added to the partial aggregates of open buckets",
            "their keys in their buckets are read from storage again",
        ),
        (Compiled::Buckets(..), OriginKind::Derived) => {
            ("aggregates over buckets of time", "their keys in their buckets are read from storage", "as others")
        }
        (Compiled::Buckets(..), OriginKind::Events(_)) => {
            ("aggregates over buckets of time", "their buckets are read from storage", "as others")
        }
        (Compiled::Scores(scoring), _) if scoring.is_stateless() => {
            ("rows as they are", "computed as they come", "computed again")
        }
        (Compiled::Scores(_), kind) => (
            "detectors over each series",
            if on_close || kind == OriginKind::Derived {
                "read from storage in the order of time, one detector a series goes on with them"
            } else {
                "one detector a series goes on with them"
            },
            "their series are read from storage again from the last checkpoint before them",
        ),
    };
    let models = compiled.models();
    let columns: Vec<&str> = table.labels.iter().map(String::as_str).collect();
    let values: Vec<&str> = table.fields.iter().map(|(name, _)| name.as_str()).collect();
    let mut explained = vec![
        ("kind", shape.to_owned()),
        ("reads", format!("{} ({reads})", select.origin.table)),
        ("filter", select.filter.map_or_else(|| "none".to_owned(), |filter| filter.to_string())),
        ("key", if columns.is_empty() { "none: one row a time".to_owned() } else { columns.join(", ") }),
        ("values", values.join(", ")),
        ("writes", definition.target.clone()),
        ("rows in order", rows.to_owned()),
        ("late rows", late.to_owned()),
    ];
    if !models.is_empty() {
        explained.push(("models", models.join(", ")));
    }
    Ok(explained)
}

/// One query at work.
pub(super) struct Worker {
    work: Work,
    operator: Box<dyn Operator>,
    arrivals: Arrivals,
    /// Read up to here; at or after `work.progress.position`, which is stored.
    read_to: Lsn,
    /// The newest commit when it was loaded, or the last one of its own: looks from before show other state than it has.
    loaded_at: Lsn,
    /// Whether the last step read buckets of events from storage.
    reread: bool,
    holding: Holding,
}

impl Worker {
    /// Loads a query from what is stored.
    ///
    /// # Errors
    /// As planning, or `Internal` for damaged state.
    pub(super) fn load(shared: &Shared, definition: &Definition) -> Result<Self> {
        let snapshot = shared.engine.snapshot();
        let stored = snapshot.state(&progress_key(&definition.name))?;
        let progress = stored.map_or_else(|| Ok(Progress::start(snapshot.lsn())), |bytes| Progress::decode(&bytes))?;
        shared.engine.retain_wal(&consumer(&definition.name), Some(progress.position));
        let (state, select) = shared.plan(definition, &snapshot)?;
        let (compiled, table) = compile(&snapshot, &select, &definition.name, &state, shared.runtime.clone())?;
        let (columns, label_filter, mut operator): (_, _, Box<dyn Operator>) = match compiled {
            Compiled::Buckets(aggregation, grid) => {
                let mut windows = Windows::new(&definition.name, aggregation.states(), aggregation.group_columns())?;
                if !progress.backfilling {
                    windows.load(&snapshot)?;
                }
                let label_filter = aggregation.label_filter.clone();
                (Arc::clone(&aggregation.source), label_filter, Box::new(Buckets::new(*aggregation, grid, windows)))
            }
            Compiled::Scores(scoring) => {
                (Arc::clone(&scoring.source), scoring.label_filter.clone(), Box::new(Scores::new(*scoring)))
            }
        };
        let mut work = Work {
            engine: shared.engine.clone(),
            sessions: Arc::clone(&shared.sessions),
            query_limits: shared.query_limits.clone(),
            limits: shared.limits.clone(),
            runtime: shared.runtime.clone(),
            definition: definition.clone(),
            source: Source::new(&snapshot, &select.origin, columns, label_filter)?,
            target: TargetSeries::new(definition.target.clone(), table),
            progress,
            final_before: i64::MIN,
            late_series: HashMap::new(),
        };
        if !progress.backfilling {
            operator.resume(&mut work, &snapshot)?;
        }
        let arrivals = Arrivals::new(progress.series_known);
        let (read_to, loaded_at, holding) = (progress.position, snapshot.lsn(), Holding::new(&shared.held));
        Ok(Self { operator, arrivals, read_to, loaded_at, reread: false, work, holding })
    }

    pub(super) fn progress(&self) -> Progress {
        self.work.progress
    }
    /// Series or groups whose state is in memory.
    pub(super) fn keys(&self) -> usize {
        self.operator.keys()
    }
    /// Every commit up to here is in the rows written.
    pub(super) fn read_to(&self) -> Lsn {
        self.read_to
    }

    /// How long the next step waits at least, because the last one read from storage and had better find more rows when it does
    /// so again.
    pub(super) fn rest(&self) -> Option<Duration> {
        let events = self.work.source.origin().signal().is_some();
        self.reread.then_some(if events { self.work.limits.reread_pause } else { Duration::ZERO })
    }

    /// One step: the backfill if it is due, else one tick over what `look` sees; the record that ends it, if anything is new. The record
    /// has to be written, and then [`Worker::committed`] to be called.
    ///
    /// # Errors
    /// Any; the worker must then be thrown away and loaded again.
    pub(super) fn step(&mut self, look: &Look) -> Result<Option<WriteBatch>> {
        self.reread = false;
        // Somebody looked after `look` was taken: what was written then is not in it.
        if self.loaded_at > look.through() || self.read_to > look.through() {
            return Ok(None);
        }
        if self.work.progress.backfilling {
            return self.backfill(look.snapshot()).map(Some);
        }
        match self.tick(look) {
            Err(Unread::LogGone) => {
                tracing::warn!(query = %self.work.definition.name, "the log after its position is gone: computing everything again");
                self.work.progress.backfilling = true;
                self.backfill(look.snapshot()).map(Some)
            }
            Err(Unread::Failed(error)) => Err(error),
            Ok(record) => Ok(record),
        }
    }

    /// The record of the last step is on stable storage, as commit `record`: whoever looked before does not see it.
    pub(super) fn committed(&mut self, record: Lsn) {
        self.loaded_at = self.loaded_at.max(record);
        let position = self.work.progress.position;
        self.read_to = self.read_to.max(position);
        self.work.engine.retain_wal(&consumer(&self.work.definition.name), Some(position));
    }

    /// Moves on over commits without rows of the source; `false` when a step is due.
    pub(super) fn pass_over(&mut self, look: &Look) -> bool {
        let (through, position, origin) = (look.through(), self.work.progress.position, self.work.source.origin());
        let appeared = || self.work.source.ordinal().is_none() && look.snapshot().metric(&origin.table).is_some();
        let due = self.work.progress.backfilling
            || self.loaded_at > through
            || through.0.saturating_sub(position.0) >= self.work.limits.position_lag_max
            || (origin.signal().is_none() && appeared())
            // What cannot be read is an error of the step.
            || !self.operator.follows(look.snapshot()).unwrap_or(false);
        if due {
            return false;
        }
        let mut at = self.read_to;
        while at < through {
            match look.after(at) {
                Ok(Some(part)) if part.rows(origin.kind, self.work.source.ordinal()).is_none() => {
                    at = part.through;
                }
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => return false,
            }
        }
        self.read_to = self.read_to.max(through);
        // Others may need the memory.
        self.let_go();
        true
    }

    /// Stores the position if commits without rows for this query have moved it, so that the log can be dropped.
    ///
    /// # Errors
    /// As [`Engine::write`].
    pub(super) fn store_position(&mut self) -> Result<()> {
        if self.read_to > self.work.progress.position && !self.work.progress.backfilling {
            let record = self.record(self.read_to, Emitter::new(self.work.engine.clone()));
            let written = self.work.engine.write(record).and_then(|handle| handle.wait());
            self.committed(written.map_err(engine_fault)?);
        }
        Ok(())
    }

    fn backfill(&mut self, snapshot: &Snapshot) -> Result<WriteBatch> {
        let work = &mut self.work;
        work.engine.retain_wal(&consumer(&work.definition.name), Some(snapshot.lsn()));
        let mut emitter = Emitter::new(work.engine.clone());
        let name = work.definition.name.clone();
        for prefix in [windows_prefix(&name), detectors_prefix(&name)] {
            for key in snapshot.state_keys(&prefix) {
                emitter.state(key, None);
            }
        }
        work.progress =
            Progress { backfilling: true, position: snapshot.lsn(), closed_through: i64::MIN, ..work.progress };
        emitter.state(progress_key(&name), Some(work.progress.encode()));
        emitter.commit()?;
        work.source = work.source.anew(snapshot)?;
        self.operator.backfill(work, snapshot, &mut emitter)?;
        self.arrivals = Arrivals::new(work.source.series_end());
        work.progress.backfilling = false;
        Ok(self.record(snapshot.lsn(), emitter))
    }

    fn tick(&mut self, look: &Look) -> Result<Option<WriteBatch>, Unread> {
        let (snapshot, through) = (look.snapshot(), look.through());
        let mut emitter = Emitter::new(self.work.engine.clone());
        let mut rows_in = 0;
        self.work.source.look(snapshot)?;
        let (ordinal, kind) = (self.work.source.ordinal(), self.work.source.origin().kind);
        let incremental = kind == OriginKind::Metric && !self.work.on_close();
        let within = self.work.definition.late.within();
        self.work.final_before = within.map_or(i64::MIN, |within| self.work.complete_before().saturating_sub(within));
        let follows = self.operator.follows(snapshot)?;
        self.operator.begin(&mut self.work, snapshot)?;
        let mut newest_ts = self.work.progress.newest_ts;
        let mut at = self.read_to;
        while at < through {
            let Some(part) = look.after(at)? else { break };
            at = part.through;
            let Some(rows) = part.rows(kind, ordinal) else { continue };
            newest_ts = rows.ts.iter().copied().fold(newest_ts, i64::max);
            let rows = self.work.source.relevant_rows(snapshot, rows)?;
            if rows.is_empty() {
                continue;
            }
            rows_in += rows.len() as u64;
            if !incremental {
                self.operator.touch(&mut self.work, &rows, &mut emitter)?;
                self.reread = true;
                continue;
            }
            let in_order = rows
                .ids
                .iter()
                .zip(&rows.ts)
                .map(|(id, &ts)| {
                    let arrival = self.arrivals.see(id.number(), ts);
                    self.work.progress.late += u64::from(arrival == Arrival::Late);
                    arrival == Arrival::InOrder
                })
                .collect();
            self.operator.absorb(&mut self.work, snapshot, Chunk { rows, in_order }, &mut emitter)?;
        }
        self.read_to = through;
        let time_went_on = newest_ts > self.work.progress.newest_ts;
        self.work.progress.newest_ts = newest_ts;
        if rows_in > 0 || !follows || (time_went_on && self.work.on_close()) {
            self.operator.finish(&mut self.work, snapshot, &mut emitter)?;
        }
        if rows_in == 0 && emitter.is_empty() {
            // Storing every position would answer each commit of this query with another one.
            let unstored = through.0.saturating_sub(self.work.progress.position.0);
            return Ok((unstored >= self.work.limits.position_lag_max).then(|| self.record(through, emitter)));
        }
        if let Some(ordinal) = ordinal {
            self.arrivals.settle(ordinal, snapshot)?;
        }
        self.work.progress.rows_in += rows_in;
        let record = self.record(through, emitter);
        self.holding.set(self.operator.held_bytes());
        self.let_go();
        Ok(Some(record))
    }

    /// Lets go of what it holds in memory if that is too much.
    fn let_go(&mut self) {
        if self.holding.is_too_much() {
            self.operator.forget();
            self.holding.set(0);
            self.arrivals = Arrivals::new(self.work.progress.series_known);
        }
    }

    /// The record that ends a step: rows, state, and how far it has come.
    fn record(&mut self, position: Lsn, mut emitter: Emitter) -> WriteBatch {
        let progress = &mut self.work.progress;
        progress.position = position;
        progress.rows_out += emitter.rows();
        progress.series_known = self.arrivals.series_known();
        emitter.state(progress_key(&self.work.definition.name), Some(progress.encode()));
        emitter.record()
    }
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The name under which a query holds back the log.
pub(super) fn consumer(name: &str) -> String {
    format!("continuous query {name}")
}
