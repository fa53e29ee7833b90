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
//! | [`statement`] | CREATE, ALTER, SHOW, DESCRIBE, EXPLAIN, DROP |
//! | [`detector`] | CREATE DETECTOR: a query over `anomaly(…)` |
//! | [`plan`] | the two shapes of SELECT and what is refused |
//! | [`constant_join`] | joins with constant rows as functions of labels |
//! | [`definition`] | what is stored, and under which keys |
//! | [`worker`] | load, backfill, tick, commit of one query |
//! | [`arrival`] | in order or late |
//! | [`buckets`], [`aggregate`], [`windows`], [`grid`] | aggregates over buckets of time |
//! | [`dirty`], [`ranges`] | which keys of which buckets a tick computes again |
//! | [`scores`], [`scoring`], [`checkpoint`] | detectors over series |
//! | [`held`] | the budget of their memory |
//! | [`source`] | rows of the metric it reads |
//! | [`emit`], [`output`] | rows of the table it writes |
//! | [`status`] | how queries look from outside |
//!
//! Invariants: a row is added to running state at most once; state and position are stored in the record of the rows they
//! speak of; a query's table has no other writer, but for the rows of other detectors.
mod aggregate;
mod arrival;
mod buckets;
mod checkpoint;
mod constant_join;
mod definition;
mod detector;
mod dirty;
mod emit;
mod feed;
mod grid;
mod held;
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
use crate::statement::{Existing, preview};
use crate::table::sys::Listed;
use definition::{
    DEFINITIONS, Definition, Late, Progress, definition_key, detectors_prefix, progress_key, windows_prefix,
};
use feed::Feed;
use held::HeldBudget;
use output::DerivedTable;
use query::Query;
use statement::{Noun, ObjectStatement};
use status::ContinuousStats;
use worker::{Checked, Shared, consumer};

pub(crate) use detector::DETECTOR as DETECTOR_LABEL;
pub(crate) use grid::timestamps;
pub(crate) use plan::physical;

/// Makes a session over a snapshot.
pub(crate) type Sessions = Arc<dyn Fn(&Snapshot) -> SessionState + Send + Sync>;

/// Limits of continuous queries.
#[derive(Clone, Debug)]
pub(crate) struct ContinuousLimits {
    /// Queries there may be.
    pub(crate) queries_max: usize,
    /// Queries whose steps take long and that are at work at the same time.
    pub(crate) steps_at_once: usize,
    /// Queries whose steps are short and that are stepped together.
    pub(crate) steps_together: usize,
    /// Rows read from the feed at once.
    pub(crate) feed_rows_max: usize,
    /// Groups of all open windows of a query; the oldest windows lose their state beyond it.
    pub(crate) open_groups_max: usize,
    /// Commits without rows for a query after which its position is stored all the same.
    pub(crate) position_lag_max: u64,
    /// Pause between ticks, and its longest: commits of this time are worked on together. It is twice what the last tick took.
    pub(crate) pause: Duration,
    pub(crate) pause_max: Duration,
    /// Pause of a query after it read events from storage again, or ten times what that took if this is longer.
    pub(crate) reread_pause: Duration,
    /// Pause after a failure, doubled each time up to 64 times this.
    pub(crate) retry: Duration,
}

impl Default for ContinuousLimits {
    fn default() -> Self {
        Self {
            queries_max: 4_096,
            steps_at_once: 8,
            steps_together: 64,
            feed_rows_max: 64 << 10,
            open_groups_max: 200_000,
            position_lag_max: 4_096,
            pause: Duration::from_millis(50),
            pause_max: Duration::from_millis(300),
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
        let feed = Feed::new(engine.clone(), limits.feed_rows_max);
        let held = Arc::new(HeldBudget::new(query_limits.continuous_bytes_max));
        let shared = Shared { engine, feed, sessions, query_limits, limits, runtime, held };
        let snapshot = shared.engine.snapshot();
        let mut queries = BTreeMap::new();
        for (_, bytes) in snapshot.state_prefix(DEFINITIONS)? {
            let definition = Definition::decode(&bytes)?;
            let stored = snapshot.state(&progress_key(&definition.name))?;
            let progress =
                stored.map_or_else(|| Ok(Progress::start(snapshot.lsn())), |bytes| Progress::decode(&bytes))?;
            // Before the first flush can drop the log.
            shared.engine.retain_wal(&consumer(&definition.name), Some(progress.position));
            queries.insert(definition.name.clone(), Arc::new(Query::new(definition, progress)));
        }
        shared.feed.want(queries.values().map(|query| query.definition().source.clone()).collect());
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
            ObjectStatement::Create { definition, existing } => self.create(definition, existing).await,
            ObjectStatement::Preview(definition) => self.preview(&definition),
            ObjectStatement::Show(noun) => self.rows(noun),
            ObjectStatement::Describe(noun, name) => {
                status::description(&self.find(noun, &name)?.status(&self.shared.engine.snapshot()))
            }
            ObjectStatement::Explain(noun, name) => self.explain(noun, &name).await,
            ObjectStatement::Pause { noun, name, paused } => self.pause(noun, &name, paused).await,
            ObjectStatement::Drop { noun, name, if_exists } => self.drop_query(noun, &name, if_exists).await,
        }
    }

    /// `sys.continuous_queries` or `sys.detectors`.
    ///
    /// # Errors
    /// `Internal`.
    fn rows(&self, noun: Noun) -> Result<RecordBatch> {
        let snapshot = self.shared.engine.snapshot();
        let all = self.all().into_iter().filter(|query| query.definition().noun() == noun);
        let all: Vec<status::Status> = all.map(|query| query.status(&snapshot)).collect();
        status::table(&all)
    }

    /// Everything in numbers.
    pub(crate) fn stats(&self) -> Vec<ContinuousStats> {
        let snapshot = self.shared.engine.snapshot();
        self.all().iter().map(|query| query.status(&snapshot).stats()).collect()
    }

    /// Bytes of detectors in memory, and their limit.
    pub(crate) fn held_bytes(&self) -> (usize, usize) {
        (self.shared.held.used(), self.shared.held.max())
    }

    /// A session over a snapshot.
    pub(crate) fn session(&self, snapshot: &Snapshot) -> SessionState {
        (self.shared.sessions)(snapshot)
    }

    /// The table that an object writes.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn target(&self, noun: Noun, name: &str) -> Result<String> {
        Ok(self.find(noun, name)?.definition().target.clone())
    }

    /// Refuses to let go of a model that one of them asks. While the guard is held none is created.
    ///
    /// # Errors
    /// `Invalid`, with the name.
    pub(crate) async fn unasked(&self, model: &str) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        let guard = self.changing.lock().await;
        let asks = |query: &Arc<Query>| query.definition().models.iter().any(|asked| asked == model);
        match self.all().iter().find(|query| asks(query)).map(|query| query.definition()) {
            None => Ok(guard),
            Some(definition) => Err(Error::invalid(format!(
                "{} {} uses model {model}: drop it first",
                definition.noun().name(),
                definition.name
            ))),
        }
    }

    /// Waits until every query has worked through all commits up to now, and those that read what others write through what came
    /// of that.
    ///
    /// # Errors
    /// The first query's that fails.
    pub(crate) async fn drain(&self) -> Result<()> {
        // Each round brings rows one query further.
        for _ in 0..=self.all().len() {
            let through = self.shared.engine.snapshot().lsn();
            for query in self.all() {
                query.catch_up(&self.shared, through).await?;
            }
            if self.shared.engine.snapshot().lsn() == through {
                break;
            }
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

    fn find(&self, noun: Noun, name: &str) -> Result<Arc<Query>> {
        let found = self.queries.read().get(name).cloned();
        found.filter(|query| query.definition().noun() == noun).ok_or_else(|| missing(noun, name))
    }

    async fn create(&self, definition: Definition, existing: Existing) -> Result<RecordBatch> {
        let _one = self.changing.lock().await;
        let (name, noun) = (definition.name.clone(), definition.noun());
        let old = self.queries.read().get(&name).cloned();
        if let Some(old) = old.as_ref().map(|old| old.definition()) {
            if old.noun() != noun {
                let kind = old.noun().name();
                return Err(Error::invalid(format!("{kind} {name} exists: drop it first or choose another name")));
            }
            let same = old.properties() == definition.properties();
            if let Some(said) = existing.settled(noun.name(), &name, same)? {
                return status::answer(said);
            }
        } else if self.queries.read().len() >= self.shared.limits.queries_max {
            let most = self.shared.limits.queries_max;
            let what = format!("there are {most} continuous queries and detectors already: drop one first");
            return Err(Error::new(ErrorKind::Execution, what));
        }
        if let Some(old) = &old {
            old.retire().await;
        }
        let others = self.all().into_iter().filter(|other| other.definition().name != name).collect::<Vec<_>>();
        let (shared, replaces) = (self.shared.clone(), old.is_some());
        let created = planner::on_large_stack(move || create(&shared, definition, replaces, &others)).await;
        match created {
            Ok(query) => {
                let mut queries = self.queries.write();
                let source = query.definition().source.clone();
                let sources = queries.values().map(|query| query.definition().source.clone());
                // Nobody reads the feed for it before it is among them.
                self.shared.feed.want(sources.chain([source]).collect());
                queries.insert(name.clone(), Arc::new(query));
                drop(queries);
                self.changed.notify_one();
                let done = if replaces { "replaced" } else { "created" };
                status::answer(format!("{} {name} {done}", noun.name()))
            }
            Err(error) => {
                if let Some(old) = old {
                    old.revive();
                }
                Err(error)
            }
        }
    }

    fn preview(&self, definition: &Definition) -> Result<RecordBatch> {
        let old = self.queries.read().get(&definition.name).cloned();
        let is = old.map(|old| old.definition().properties());
        preview(definition.noun().name(), &definition.name, is.as_ref(), &definition.properties())
    }

    async fn explain(&self, noun: Noun, name: &str) -> Result<RecordBatch> {
        let query = self.find(noun, name)?;
        let (shared, engine) = (self.shared.clone(), self.shared.engine.clone());
        planner::on_large_stack(move || {
            let snapshot = engine.snapshot();
            let explained = worker::explain(&shared, query.definition(), &snapshot)?;
            status::explanation(&query.status(&snapshot), &explained)
        })
        .await
    }

    async fn pause(&self, noun: Noun, name: &str, paused: bool) -> Result<RecordBatch> {
        let _one = self.changing.lock().await;
        let query = self.find(noun, name)?;
        query.pause(paused).await;
        let definition = Definition { paused, ..query.definition().clone() };
        let state = vec![(definition_key(name), Some(definition.encode()))];
        let engine = self.shared.engine.clone();
        let written = planner::on_large_stack(move || write(&engine, state)).await;
        if let Err(error) = written {
            query.pause(!paused).await;
            return Err(error);
        }
        self.changed.notify_one();
        let done = if paused { "rests; what comes meanwhile is worked on when it is resumed" } else { "goes on" };
        status::answer(format!("{} {name} {done}", noun.name()))
    }

    async fn drop_query(&self, noun: Noun, name: &str, if_exists: bool) -> Result<RecordBatch> {
        let _one = self.changing.lock().await;
        let query = match self.find(noun, name) {
            Ok(query) => query,
            Err(_) if if_exists => return status::answer(format!("there is no {} {name}", noun.name())),
            Err(error) => return Err(error),
        };
        query.retire().await;
        let (engine, owned) = (self.shared.engine.clone(), name.to_owned());
        let deleted = planner::on_large_stack(move || {
            let mut state = vec![(definition_key(&owned), None), (progress_key(&owned), None)];
            state.extend(forgotten(&engine.snapshot(), &owned));
            write(&engine, state)
        })
        .await;
        if let Err(error) = deleted {
            query.revive();
            return Err(error);
        }
        self.shared.engine.retain_wal(&consumer(name), None);
        self.queries.write().remove(name);
        status::answer(format!("{} {name} dropped, its rows stay in {}", noun.name(), query.definition().target))
    }
}

/// Tables about queries and detectors, by name.
pub(crate) fn tables(all: &Arc<ContinuousQueries>) -> [(&'static str, Listed<ContinuousQueries>); 2] {
    [
        (Noun::Query.table(), Listed::new(all, |all, _| all.rows(Noun::Query))),
        (Noun::Detector.table(), Listed::new(all, |all, _| all.rows(Noun::Detector))),
    ]
}

/// Checks and stores a definition.
fn create(shared: &Shared, definition: Definition, replaces: bool, others: &[Arc<Query>]) -> Result<Query> {
    let snapshot = shared.engine.snapshot();
    let Checked { source, models, table } = worker::check(shared, &definition, &snapshot)?;
    let definition = Definition { source, models, ..definition };
    let table = check_target(&definition, table, replaces, others, &snapshot)?;
    shared.engine.retain_wal(&consumer(&definition.name), Some(snapshot.lsn()));
    let progress = Progress::start(snapshot.lsn());
    let mut state = vec![
        (definition_key(&definition.name), Some(definition.encode())),
        (progress_key(&definition.name), Some(progress.encode())),
        (DerivedTable::key(&definition.target), Some(table.encode())),
    ];
    state.extend(forgotten(&snapshot, &definition.name));
    if let Err(error) = write(&shared.engine, state) {
        if !replaces {
            shared.engine.retain_wal(&consumer(&definition.name), None);
        }
        return Err(error);
    }
    Ok(Query::new(definition, progress))
}

type State = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Under which keys the windows and detectors of a query are stored.
fn state_prefixes(name: &str) -> [Vec<u8>; 2] {
    [windows_prefix(name), detectors_prefix(name)]
}

/// Deletes what is stored there.
fn forgotten(snapshot: &Snapshot, name: &str) -> State {
    state_prefixes(name).iter().flat_map(|prefix| snapshot.state_keys(prefix)).map(|key| (key, None)).collect()
}

fn write(engine: &Engine, state: State) -> Result<()> {
    let written = engine.write(WriteBatch { state, ..WriteBatch::default() }).and_then(|handle| handle.wait());
    written.map(drop).map_err(|e| Error::from_engine(&e))
}

/// Refuses tables that hold something else, have another writer or would feed themselves; answers the columns of the table.
fn check_target(
    definition: &Definition,
    table: DerivedTable,
    replaces: bool,
    others: &[Arc<Query>],
    snapshot: &Snapshot,
) -> Result<DerivedTable> {
    let (target, noun) = (&definition.target, definition.noun());
    if let Late::Into(late) = &definition.late
        && (late == target
            || *late == definition.source
            || others.iter().any(|other| other.definition().target == *late))
    {
        return Err(Error::invalid(format!("late rows cannot go to {late}, which has a writer: choose another table")));
    }
    if let Some(path) = cycle(definition, others) {
        return Err(Error::invalid(format!(
            "{} {} would feed itself ({path}): choose another table to write to",
            noun.name(),
            definition.name
        )));
    }
    // Several detectors may share a table.
    let shares = |other: &&Arc<Query>| other.definition().target == *target;
    if let Some(other) = others.iter().find(shares).map(|other| other.definition())
        && (other.noun(), noun) != (Noun::Detector, Noun::Detector)
    {
        return Err(Error::invalid(format!(
            "{} {} writes to {target}: choose another table",
            other.noun().name(),
            other.name
        )));
    }
    match DerivedTable::stored(snapshot, target)? {
        Some(stored) if stored.same_columns(&table) => Ok(table),
        Some(stored) if noun == Noun::Detector && stored.fields == table.fields => Ok(stored.with_labels_of(&table)),
        Some(stored) if replaces && stored.owner == definition.name => Ok(table),
        Some(stored) if snapshot.metric(target).is_some() => Err(Error::invalid(format!(
            "table {target}, which {} filled, has other columns: choose another table",
            stored.owner
        ))),
        Some(_) => Ok(table),
        None if snapshot.metric(target).is_some() => {
            Err(Error::invalid(format!("{target} is a metric: choose another table")))
        }
        None => Ok(table),
    }
}

/// How a query would read what comes of its own rows, if it would.
fn cycle(definition: &Definition, others: &[Arc<Query>]) -> Option<String> {
    let mut reached = vec![(definition.source.clone(), definition.source.clone())];
    let mut next = 0;
    while let Some((table, path)) = reached.get(next).cloned() {
        if table == definition.target {
            return Some(format!("{path} → {}", definition.name));
        }
        let writers = others.iter().map(|other| other.definition()).filter(|other| other.target == table);
        for writer in writers {
            if !reached.iter().any(|(known, _)| *known == writer.source) {
                reached.push((writer.source.clone(), format!("{} → {} → {path}", writer.source, writer.name)));
            }
        }
        next += 1;
    }
    None
}

fn missing(noun: Noun, name: &str) -> Error {
    let (what, listed_by) = (noun.name(), noun.listed_by());
    Error::new(ErrorKind::NotFound, format!("there is no {what} {name}: {listed_by} lists all"))
}
