//! Continuous queries: SELECTs whose answer is kept up to date in a table while data comes in.
//!
//! ```text
//!  commits ──> runner ──> worker of each query
//!                          │ tick: snapshot S; feed (position, S]
//!                          │   in-order rows ──> operator: windows' partial aggregates, series' detectors
//!                          │   late rows ──────> what they touch is computed again from S
//!                          └ one WriteBatch = one WAL record: rows + state + position
//! ```
//! **Contract**: the rows a query wrote equal the same SELECT run afterwards over the stored data, whatever the order of
//! arrival, with repeated and overwriting rows, under kill -9 anywhere.
//!
//! | module | owns |
//! |---|---|
//! | [`statement`] | CREATE, SHOW, DESCRIBE, DROP |
//! | [`plan`] | the two shapes of SELECT and what is refused |
//! | [`definition`] | what is stored, and under which keys |
//! | [`worker`] | load, backfill, tick, commit of one query |
//! | [`arrival`] | in order or late |
//! | [`buckets`], [`aggregate`], [`windows`], [`grid`], [`ranges`] | aggregates over buckets of time |
//! | [`scores`], [`scoring`], [`checkpoint`] | detectors over series |
//! | [`source`] | rows of the metric it reads |
//! | [`emit`], [`output`] | rows of the table it writes |
//! | [`status`] | how queries look from outside |
//!
//! Invariants: a row is added to running state at most once; state and position are stored in the record of the rows they
//! speak of; a query's table has no other writer.
mod aggregate;
mod arrival;
mod buckets;
mod checkpoint;
mod definition;
mod emit;
mod grid;
mod operator;
pub(crate) mod output;
mod plan;
mod query;
mod ranges;
mod runner;
mod scores;
mod scoring;
mod source;
pub(crate) mod statement;
pub(crate) mod status;
mod windows;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use datafusion::execution::session_state::SessionState;
use foretell_engine::{Engine, Snapshot, WriteBatch};
use parking_lot::RwLock;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::QueryLimits;
use crate::planner;
use definition::{DEFINITIONS, Definition, Progress, definition_key, detectors_prefix, progress_key, windows_prefix};
use output::DerivedTable;
use query::Query;
use statement::ObjectStatement;
use worker::{Shared, consumer};

/// Makes a session over a snapshot.
pub(crate) type Sessions = Arc<dyn Fn(&Snapshot) -> SessionState + Send + Sync>;

/// Limits of continuous queries.
#[derive(Clone, Debug)]
pub(crate) struct ContinuousLimits {
    /// Queries there may be.
    pub(crate) queries_max: usize,
    /// Rows read from the feed at once.
    pub(crate) feed_rows_max: usize,
    /// Groups of all open windows of a query; the oldest windows lose their state beyond it.
    pub(crate) open_groups_max: usize,
    /// Series whose detectors a query holds in memory.
    pub(crate) series_held_max: usize,
    /// Commits without rows for a query after which its position is stored all the same.
    pub(crate) position_lag_max: u64,
    /// Pause between ticks: commits of this time are worked on together.
    pub(crate) pause: Duration,
    /// Pause of a query after it read buckets of events from storage again, or ten times what that took if this is longer.
    pub(crate) reread_pause: Duration,
    /// Pause after a failure, doubled each time up to 64 times this.
    pub(crate) retry: Duration,
}

impl Default for ContinuousLimits {
    fn default() -> Self {
        Self {
            queries_max: 256,
            feed_rows_max: 64 << 10,
            open_groups_max: 200_000,
            series_held_max: 100_000,
            position_lag_max: 4_096,
            pause: Duration::from_millis(50),
            reread_pause: Duration::from_secs(1),
            retry: Duration::from_secs(1),
        }
    }
}

/// Every continuous query of a store.
pub(crate) struct ContinuousQueries {
    shared: Shared,
    queries: RwLock<BTreeMap<String, Arc<Query>>>,
    /// One CREATE or DROP at a time.
    changing: tokio::sync::Mutex<()>,
    /// Tells the runner of new queries.
    changed: Arc<tokio::sync::Notify>,
    stop: tokio::sync::watch::Sender<bool>,
    runner: tokio::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl ContinuousQueries {
    /// Restores the stored queries and starts their runner on the current runtime.
    ///
    /// # Errors
    /// `Internal` when stored definitions are damaged.
    pub(crate) fn open(
        engine: Engine,
        sessions: Sessions,
        query_limits: QueryLimits,
        limits: ContinuousLimits,
    ) -> Result<Arc<Self>> {
        let runtime = tokio::runtime::Handle::current();
        let shared = Shared { engine, sessions, query_limits, limits, runtime };
        let snapshot = shared.engine.snapshot();
        let mut queries = BTreeMap::new();
        for (_, bytes) in snapshot.state_prefix(DEFINITIONS) {
            let definition = Definition::decode(&bytes)?;
            let stored = snapshot.state(&progress_key(&definition.name));
            let progress =
                stored.map_or_else(|| Ok(Progress::start(snapshot.lsn())), |bytes| Progress::decode(&bytes))?;
            // Before the first flush can drop the log.
            shared.engine.retain_wal(&consumer(&definition.name), Some(progress.position));
            queries.insert(definition.name.clone(), Arc::new(Query::new(definition, progress)));
        }
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let all = Arc::new(Self {
            shared,
            queries: RwLock::new(queries),
            changing: tokio::sync::Mutex::new(()),
            changed: Arc::new(tokio::sync::Notify::new()),
            stop,
            runner: tokio::sync::Mutex::new(None),
        });
        let runner = tokio::spawn(runner::run(Arc::downgrade(&all), stopped));
        if let Ok(mut slot) = all.runner.try_lock() {
            *slot = Some(runner);
        }
        Ok(all)
    }

    /// Runs one statement; the answer is a small table.
    ///
    /// # Errors
    /// `Invalid`, `NotFound`, or as the engine.
    pub(crate) async fn execute(&self, statement: ObjectStatement) -> Result<RecordBatch> {
        match statement {
            ObjectStatement::Create { definition, if_not_exists } => self.create(definition, if_not_exists).await,
            ObjectStatement::Show => self.rows(),
            ObjectStatement::Describe { name } => status::description(&self.find(&name)?.status(&self.shared.engine)),
            ObjectStatement::Drop { name, if_exists } => self.drop_query(&name, if_exists).await,
        }
    }

    /// `sys.continuous_queries`.
    ///
    /// # Errors
    /// `Internal`.
    pub(crate) fn rows(&self) -> Result<RecordBatch> {
        let all: Vec<status::Status> = self.all().iter().map(|query| query.status(&self.shared.engine)).collect();
        status::table(&all)
    }

    /// Waits until every query has worked through all commits up to now.
    ///
    /// # Errors
    /// The first query's that fails.
    pub(crate) async fn drain(&self) -> Result<()> {
        let through = self.shared.engine.snapshot().lsn();
        for query in self.all() {
            query.catch_up(&self.shared, through).await?;
        }
        Ok(())
    }

    /// Stops the runner after its current tick and stores positions.
    pub(crate) async fn close(&self) {
        let _ = self.stop.send(true);
        if let Some(runner) = self.runner.lock().await.take() {
            let _ = runner.await;
        }
        for query in self.all() {
            query.stop().await;
        }
    }

    fn changed(&self) -> Arc<tokio::sync::Notify> {
        Arc::clone(&self.changed)
    }

    fn all(&self) -> Vec<Arc<Query>> {
        self.queries.read().values().cloned().collect()
    }

    fn find(&self, name: &str) -> Result<Arc<Query>> {
        self.queries.read().get(name).cloned().ok_or_else(|| missing(name))
    }

    async fn create(&self, definition: Definition, if_not_exists: bool) -> Result<RecordBatch> {
        let _one = self.changing.lock().await;
        let name = definition.name.clone();
        if self.queries.read().contains_key(&name) {
            if if_not_exists {
                return status::answer(format!("continuous query {name} exists"));
            }
            return Err(Error::invalid(format!(
                "continuous query {name} exists: drop it first or choose another name"
            )));
        }
        if self.queries.read().len() >= self.shared.limits.queries_max {
            return Err(Error::new(
                ErrorKind::Execution,
                format!("there are {} continuous queries already: drop one first", self.shared.limits.queries_max),
            ));
        }
        let (shared, others) = (self.shared.clone(), self.all());
        let query = planner::on_large_stack(move || {
            let snapshot = shared.engine.snapshot();
            let (metric, table) = worker::check(&shared, &definition, &snapshot)?;
            check_target(&definition, &metric, &table, &others, &snapshot)?;
            shared.engine.retain_wal(&consumer(&definition.name), Some(snapshot.lsn()));
            let progress = Progress::start(snapshot.lsn());
            let state = vec![
                (definition_key(&definition.name), Some(definition.encode())),
                (progress_key(&definition.name), Some(progress.encode())),
                (DerivedTable::key(&definition.target), Some(table.encode())),
            ];
            let written =
                shared.engine.write(WriteBatch { state, ..WriteBatch::default() }).and_then(|handle| handle.wait());
            if let Err(error) = written {
                shared.engine.retain_wal(&consumer(&definition.name), None);
                return Err(Error::from_engine(&error));
            }
            Ok(Query::new(definition, progress))
        })
        .await?;
        self.queries.write().insert(name.clone(), Arc::new(query));
        self.changed.notify_one();
        status::answer(format!("continuous query {name} created"))
    }

    async fn drop_query(&self, name: &str, if_exists: bool) -> Result<RecordBatch> {
        let _one = self.changing.lock().await;
        let query = match self.find(name) {
            Ok(query) => query,
            Err(_) if if_exists => return status::answer(format!("there is no continuous query {name}")),
            Err(error) => return Err(error),
        };
        query.retire().await;
        let (engine, owned) = (self.shared.engine.clone(), name.to_owned());
        let deleted = planner::on_large_stack(move || {
            let snapshot = engine.snapshot();
            let mut state = vec![(definition_key(&owned), None), (progress_key(&owned), None)];
            for prefix in [windows_prefix(&owned), detectors_prefix(&owned)] {
                state.extend(snapshot.state_prefix(&prefix).into_iter().map(|(key, _)| (key, None)));
            }
            let written = engine.write(WriteBatch { state, ..WriteBatch::default() }).and_then(|handle| handle.wait());
            written.map_err(|e| Error::from_engine(&e))
        })
        .await;
        if let Err(error) = deleted {
            query.revive();
            return Err(error);
        }
        self.shared.engine.retain_wal(&consumer(name), None);
        self.queries.write().remove(name);
        status::answer(format!("continuous query {name} dropped, its rows stay in {}", query.definition().target))
    }
}

/// Refuses tables that hold something else, have another writer or would feed themselves.
fn check_target(
    definition: &Definition,
    metric: &str,
    table: &DerivedTable,
    others: &[Arc<Query>],
    snapshot: &Snapshot,
) -> Result<()> {
    let target = &definition.target;
    if metric == target {
        return Err(Error::invalid(format!(
            "a continuous query cannot write to {target}, which it reads: choose another table"
        )));
    }
    if let Some(other) = others.iter().find(|other| other.definition().target == *target) {
        return Err(Error::invalid(format!(
            "continuous query {} writes to {target}: choose another table",
            other.definition().name
        )));
    }
    match DerivedTable::stored(snapshot, target)? {
        Some(stored) if stored.same_columns(table) => Ok(()),
        Some(stored) if snapshot.metric(target).is_some() => Err(Error::invalid(format!(
            "table {target}, which continuous query {} filled, has other columns: choose another table",
            stored.owner
        ))),
        Some(_) => Ok(()),
        None if snapshot.metric(target).is_some() => {
            Err(Error::invalid(format!("{target} is a metric: choose another table")))
        }
        None => Ok(()),
    }
}

fn missing(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no continuous query {name}: SHOW CONTINUOUS QUERIES lists all"))
}
