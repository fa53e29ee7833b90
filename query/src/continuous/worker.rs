//! One query at work: loads what is stored, works through existing data once, then follows the feed tick by tick.
//!
//! A tick takes a snapshot, reads the feed from the stored position exactly up to it, and commits rows, state and the new
//! position in one record. Storage and feed therefore agree whenever something is computed again from the snapshot.
use std::sync::Arc;

use foretell_engine::{Commit, Engine, ErrorKind as EngineErrorKind, Lsn, Snapshot};

use super::aggregate::Aggregation;
use super::arrival::{Arrival, Arrivals};
use super::buckets::Buckets;
use super::definition::{Definition, Progress, detectors_prefix, progress_key, windows_prefix};
use super::emit::Emitter;
use super::operator::{Chunk, Operator, Work, engine_fault, plan_select};
use super::output::{DerivedTable, TargetSeries};
use super::plan::{Kind, Select};
use super::scores::Scores;
use super::scoring::Scoring;
use super::source::{Rows, Source};
use super::windows::Windows;
use super::{ContinuousLimits, Sessions};
use crate::error::{Error, Result};
use crate::event::Signal;
use crate::limits::QueryLimits;

use datafusion::execution::session_state::SessionState;

/// What every worker is made with.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) sessions: Sessions,
    pub(super) query_limits: QueryLimits,
    pub(super) limits: ContinuousLimits,
    pub(super) runtime: tokio::runtime::Handle,
}

/// A compiled SELECT.
enum Compiled {
    Buckets(Box<Aggregation>, super::grid::Grid),
    Scores(Box<Scoring>),
}

fn compile(
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
            let (scoring, table) = Scoring::compile(select, owner, state)?;
            (Compiled::Scores(Box::new(scoring)), table)
        }
    })
}

/// Checks a definition as far as that goes without reading data; answers the metric it reads and the table it fills.
///
/// # Errors
/// `Invalid` or `NotFound`, saying what to change.
pub(super) fn check(shared: &Shared, definition: &Definition, snapshot: &Snapshot) -> Result<(String, DerivedTable)> {
    let (state, select) =
        plan_select(&shared.sessions, &shared.query_limits, &shared.runtime, &definition.sql, snapshot)?;
    let (_, table) = compile(&select, &definition.name, &state, shared.runtime.clone())?;
    Ok((select.metric, table))
}

/// One query at work.
pub(super) struct Worker {
    work: Work,
    operator: Box<dyn Operator>,
    arrivals: Arrivals,
    /// Read up to here; at or after `work.progress.position`, which is stored.
    read_to: Lsn,
    /// Whether the last step read buckets of events from storage.
    reread: bool,
}

impl Worker {
    /// Loads a query from what is stored.
    ///
    /// # Errors
    /// As planning, or `Internal` for damaged state.
    pub(super) fn load(shared: &Shared, definition: &Definition) -> Result<Self> {
        let snapshot = shared.engine.snapshot();
        let stored = snapshot.state(&progress_key(&definition.name));
        let progress = stored.map_or_else(|| Ok(Progress::start(snapshot.lsn())), |bytes| Progress::decode(&bytes))?;
        shared.engine.retain_wal(&consumer(&definition.name), Some(progress.position));
        let (state, select) =
            plan_select(&shared.sessions, &shared.query_limits, &shared.runtime, &definition.sql, &snapshot)?;
        let (compiled, table) = compile(&select, &definition.name, &state, shared.runtime.clone())?;
        let (columns, operator): (_, Box<dyn Operator>) = match compiled {
            Compiled::Buckets(aggregation, grid) => {
                let mut windows = Windows::new(&definition.name, aggregation.states(), aggregation.group_columns())?;
                if !progress.backfilling {
                    windows.load(&snapshot)?;
                }
                (Arc::clone(&aggregation.source), Box::new(Buckets::new(*aggregation, grid, windows)))
            }
            Compiled::Scores(scoring) => (Arc::clone(&scoring.source), Box::new(Scores::new(*scoring))),
        };
        let work = Work {
            engine: shared.engine.clone(),
            sessions: Arc::clone(&shared.sessions),
            query_limits: shared.query_limits.clone(),
            limits: shared.limits.clone(),
            runtime: shared.runtime.clone(),
            definition: definition.clone(),
            source: Source::new(&snapshot, &select.metric, select.signal, columns)?,
            target: TargetSeries::new(definition.target.clone(), table),
            progress,
        };
        let arrivals = Arrivals::new(progress.series_known);
        Ok(Self { operator, arrivals, read_to: progress.position, reread: false, work })
    }

    pub(super) fn progress(&self) -> Progress {
        self.work.progress
    }
    /// Every commit up to here is in the rows written.
    pub(super) fn read_to(&self) -> Lsn {
        self.read_to
    }

    /// Whether the last step read buckets of events from storage, so that the next one had better wait for more rows.
    pub(super) fn has_reread(&self) -> bool {
        self.reread
    }

    /// One step: the backfill if it is due, else one tick. Does nothing when there is nothing new.
    ///
    /// # Errors
    /// Any; the worker must then be thrown away and loaded again.
    pub(super) fn step(&mut self) -> Result<()> {
        let snapshot = self.work.engine.snapshot();
        self.reread = false;
        if self.work.progress.backfilling {
            return self.backfill(&snapshot);
        }
        match self.tick(&snapshot) {
            Err(Step::LogGone) => {
                tracing::warn!(query = %self.work.definition.name, "the log after its position is gone: computing everything again");
                self.work.progress.backfilling = true;
                self.backfill(&snapshot)
            }
            Err(Step::Failed(error)) => Err(error),
            Ok(()) => Ok(()),
        }
    }

    /// Stores the position if commits without rows for this query have moved it, so that the log can be dropped.
    ///
    /// # Errors
    /// As [`Engine::write`].
    pub(super) fn store_position(&mut self) -> Result<()> {
        if self.read_to > self.work.progress.position && !self.work.progress.backfilling {
            self.commit(self.read_to, Emitter::new(self.work.engine.clone()))?;
        }
        Ok(())
    }

    fn backfill(&mut self, snapshot: &Snapshot) -> Result<()> {
        let work = &mut self.work;
        work.engine.retain_wal(&consumer(&work.definition.name), Some(snapshot.lsn()));
        let mut emitter = Emitter::new(work.engine.clone());
        let name = work.definition.name.clone();
        for prefix in [windows_prefix(&name), detectors_prefix(&name)] {
            for (key, _) in snapshot.state_prefix(&prefix) {
                emitter.state(key, None);
            }
        }
        work.progress =
            Progress { backfilling: true, position: snapshot.lsn(), closed_through: i64::MIN, ..work.progress };
        emitter.state(progress_key(&name), Some(work.progress.encode()));
        emitter.commit()?;
        let (metric, signal) = (work.source.metric(), work.source.signal());
        work.source = Source::new(snapshot, metric, signal, Arc::clone(work.source.schema()))?;
        self.operator.backfill(work, snapshot, &mut emitter)?;
        self.arrivals = Arrivals::new(work.source.series_end());
        work.progress.backfilling = false;
        self.commit(snapshot.lsn(), emitter)
    }

    fn tick(&mut self, snapshot: &Snapshot) -> Result<(), Step> {
        let through = snapshot.lsn();
        let mut emitter = Emitter::new(self.work.engine.clone());
        let mut rows_in = 0;
        let ordinal = self.work.source.ordinal();
        let mut at = self.read_to;
        while at < through {
            let commits = self.work.engine.read_commits(at, through, self.work.limits.feed_rows_max).map_err(
                |error| match error.kind() {
                    EngineErrorKind::Limit => Step::LogGone,
                    _ => Step::Failed(engine_fault(error)),
                },
            )?;
            let Some(last) = commits.last() else { break };
            at = last.lsn;
            if let Some(signal) = self.work.source.signal() {
                rows_in += self.touch(signal, &commits)?;
                continue;
            }
            let mut rows = Rows::default();
            for commit in &commits {
                let batch = &commit.batch;
                for (row, &id) in batch.series.iter().enumerate() {
                    if id.metric() == ordinal {
                        rows.push(id, batch.ts[row], batch.values[row]);
                    }
                }
            }
            self.work.source.keep_stored(snapshot, &mut rows)?;
            if rows.is_empty() {
                continue;
            }
            rows_in += rows.len() as u64;
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
        if rows_in == 0 {
            // Storing every position would answer each commit of this query with another one.
            let unstored = through.0.saturating_sub(self.work.progress.position.0);
            return if unstored >= self.work.limits.position_lag_max { Ok(self.store_position()?) } else { Ok(()) };
        }
        self.operator.finish(&mut self.work, snapshot, &mut emitter)?;
        self.arrivals.settle(ordinal, snapshot)?;
        self.work.progress.rows_in += rows_in;
        self.commit(through, emitter)?;
        if self.operator.keys() > self.work.limits.series_held_max {
            self.operator.forget();
            self.arrivals = Arrivals::new(self.work.progress.series_known);
        }
        Ok(())
    }

    /// Tells the operator at which instants `commits` have rows of events; answers how many rows.
    fn touch(&mut self, signal: Signal, commits: &[Commit]) -> Result<u64> {
        let mut ts = Vec::new();
        for records in commits.iter().flat_map(|commit| &commit.batch.records) {
            if **records.table.name() == *signal.table_name() {
                ts.extend_from_slice(&records.ts);
            }
        }
        if !ts.is_empty() {
            self.operator.touch(&ts)?;
            self.reread = true;
        }
        Ok(ts.len() as u64)
    }

    fn commit(&mut self, position: Lsn, mut emitter: Emitter) -> Result<()> {
        let progress = &mut self.work.progress;
        progress.position = position;
        progress.rows_out += emitter.rows();
        progress.series_known = self.arrivals.series_known();
        emitter.state(progress_key(&self.work.definition.name), Some(progress.encode()));
        emitter.commit()?;
        self.read_to = self.read_to.max(position);
        self.work.engine.retain_wal(&consumer(&self.work.definition.name), Some(position));
        Ok(())
    }
}

/// Why a tick did not end.
enum Step {
    LogGone,
    Failed(Error),
}

impl From<Error> for Step {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The name under which a query holds back the log.
pub(super) fn consumer(name: &str) -> String {
    format!("continuous query {name}")
}
