//! The façade: one `Database` over one engine.
//!
//! ```text
//!  query:  admit -> gate (places, queue) -> plan on a large stack over one snapshot -> execute there (few rows) or on the queries' threads
//!  PromQL: gate -> known (`promql::result_cache`) or small (`promql::small`): on the thread that asks; others: on a large stack
//!  delete: admit -> gate                 -> plan                                     -> the engine commits it
//! ```
mod alerts;
mod memory;
mod prometheus;
mod promql_query;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use foretell_engine::{Cardinality, DeleteSummary, Engine, ErrorKind as EngineErrorKind, Selector, Snapshot};
use futures::{FutureExt, stream};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::admit::{Admitted, admit};
use crate::alert::{self, Alerts};
use crate::continuous::statement::{Noun, ObjectStatement};
use crate::continuous::status::ContinuousStats;
use crate::continuous::{self, ContinuousLimits, ContinuousQueries};
use crate::default_detector::{self, DefaultDetector, DefaultDetectorStats};
use crate::delete;
use crate::error::{Error, ErrorKind, Result};
use crate::execute::{self, Held, QueryRuntime};
use crate::limits::QueryLimits;
use crate::model::statement::ModelStatement;
use crate::model::{self, ModelStats, Models};
use crate::planner;
use crate::promql;
use crate::promql::result_cache::ResultCache;
use crate::running::{Gate, Listed, QueryList, Running};
use crate::session::Sessions;
use crate::table::correlate::{CORRELATE, CorrelateFunction};
use crate::table::promql::{PROMQL, PromqlFunction};
use crate::table::trace::{TraceFunction, View};
use crate::table::{METRICS, PUBLIC, SAMPLES, SYS, qualified};
use crate::udf::log_template::{STORE_EVERY, TemplateStats};

pub use memory::Memory;
pub use promql_query::PromAnswer;

/// Models are shown new rows this often.
const MODELS_EVERY: Duration = Duration::from_secs(1);

/// How long [`Database::close`] waits for cancelled queries to end.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// SQL over one engine. Shared by all protocols.
pub struct Database {
    engine: Engine,
    limits: QueryLimits,
    sessions: Arc<Sessions>,
    gate: Gate,
    running: Arc<Running>,
    continuous: Arc<ContinuousQueries>,
    models: Arc<Models>,
    alerts: Arc<Alerts>,
    default_detector: Arc<DefaultDetector>,
    results: ResultCache,
    runtime: QueryRuntime,
}

/// One statement to run.
#[derive(Clone, Debug, Default)]
pub struct QueryRequest {
    /// SQL text: one statement.
    pub sql: String,
    /// Values of `$1`, `$2`, … as JSON-like scalars already turned into SQL literals' values.
    pub params: Vec<ScalarValue>,
    /// Deadline; the configured one when `None`, never more than it.
    pub timeout: Option<Duration>,
}

/// A running answer. Dropping it cancels the query.
pub struct QueryResponse {
    /// Id in `sys.queries`.
    pub id: u64,
    /// Columns.
    pub schema: SchemaRef,
    /// Rows; errors are [`crate::Error`] wrapped as `DataFusionError::External` where the kind matters
    /// (use [`crate::Error::from_datafusion`]).
    pub stream: SendableRecordBatchStream,
}

/// A row of `sys.queries`.
#[derive(Clone, Debug)]
pub struct QueryInfo {
    /// Id.
    pub id: u64,
    /// Text.
    pub sql: String,
    /// Start.
    pub started: SystemTime,
    /// Rows delivered so far.
    pub rows: u64,
}

impl Database {
    /// Over `engine`; restores continuous queries and starts their runner on the current tokio runtime.
    ///
    /// # Errors
    /// When stored definitions cannot be read.
    pub fn open(engine: Engine, limits: QueryLimits) -> Result<Arc<Self>> {
        let models = Arc::new(Models::open(engine.clone())?);
        let sessions = Arc::new(Sessions::new(&limits, &models)?);
        let running = Arc::new(Running::default());
        sessions.sys().register("queries", Arc::new(QueryList(Arc::clone(&running))));
        let make: continuous::Sessions = {
            let sessions = Arc::clone(&sessions);
            Arc::new(move |snapshot| sessions.state(snapshot, &sessions.memory()))
        };
        let continuous = ContinuousQueries::open(engine.clone(), make, limits.clone(), ContinuousLimits::default())?;
        for (name, table) in continuous::tables(&continuous) {
            sessions.sys().register(name, Arc::new(table));
        }
        let alerts = Arc::new(Alerts::open(engine.clone())?);
        for (name, table) in alert::list::tables(&alerts) {
            sessions.sys().register(name, Arc::new(table));
        }
        let default_detector = Arc::new(DefaultDetector::open(engine.clone(), limits.promql())?);
        let (name, table) = default_detector::table(&default_detector);
        sessions.sys().register(name, Arc::new(table));
        let gate = Gate::new(&limits);
        sessions.templates().restore(&engine.snapshot());
        let runtime = QueryRuntime::start()?;
        promql::start_threads();
        let results = ResultCache::new(limits.result_cache_bytes_max);
        let database = Arc::new(Self {
            engine,
            limits,
            sessions,
            gate,
            running,
            continuous,
            models,
            alerts,
            default_detector,
            results,
            runtime,
        });
        // Weak: a database that is dropped lets go of its engine.
        let weak = Arc::downgrade(&database);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(STORE_EVERY).await;
                let Some(database) = weak.upgrade() else { return };
                database.store_templates().await;
            }
        });
        let weak = Arc::downgrade(&database);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(MODELS_EVERY).await;
                let Some(database) = weak.upgrade() else { return };
                if database.running.is_closed() {
                    return;
                }
                database.models.step_all(&database).await;
            }
        });
        tokio::spawn(Alerts::run(Arc::downgrade(&database), database.engine.commits()));
        tokio::spawn(DefaultDetector::run(Arc::downgrade(&database), database.engine.commits()));
        Ok(database)
    }

    /// Stores what `log_template` has learnt. That it could not be stored is in the log: it can be learnt again.
    async fn store_templates(&self) {
        let (engine, sessions) = (self.engine.clone(), Arc::clone(&self.sessions));
        let stored = tokio::task::spawn_blocking(move || sessions.templates().store(&engine)).await;
        let why = match stored {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(error = why, "log templates are not stored");
    }

    /// Bytes that running queries have reserved of [`QueryLimits::memory_bytes_max`].
    pub fn memory_used_bytes(&self) -> usize {
        self.sessions.memory_used_bytes()
    }

    /// Bytes of detectors that continuous queries hold in memory, and [`QueryLimits::continuous_bytes_max`].
    pub fn continuous_memory_bytes(&self) -> (usize, usize) {
        self.continuous.held_bytes()
    }

    /// What `log_template` knows, as of now.
    pub fn log_templates(&self) -> TemplateStats {
        self.sessions.templates().stats()
    }

    /// Admits, plans and starts one statement. Objects (`CREATE CONTINUOUS QUERY`, `SHOW`, `DROP`) answer with a small table,
    /// and so does `DELETE`.
    ///
    /// # Durability
    /// A delete is on stable storage when its answer is there.
    ///
    /// # Errors
    /// See [`crate::ErrorKind`].
    pub async fn query(self: &Arc<Self>, request: QueryRequest) -> Result<QueryResponse> {
        let deadline = self.deadline(request.timeout);
        let admitted = self.admitted(&request)?;
        if let Some(statement) = continuous::statement::parse(&request.sql) {
            let listed = self.running.begin(&request.sql)?;
            let statement = statement?;
            if let ObjectStatement::Drop { noun: Noun::Detector, name, .. } = &statement {
                self.alerts.unwatched(name)?;
            }
            let rows = self.continuous.execute(statement).await?;
            return Ok(small(listed.query.id, rows));
        }
        if let Some(statement) = model::statement::parse(&request.sql) {
            let listed = self.running.begin(&request.sql)?;
            let statement = statement?;
            let _unasked = match &statement {
                ModelStatement::Drop { name, .. } => Some(self.continuous.unasked(name).await?),
                _ => None,
            };
            let rows = self.models.execute(self, statement, request.timeout).await?;
            return Ok(small(listed.query.id, rows));
        }
        if let Some(statement) = alert::statement::parse(&request.sql) {
            let listed = self.running.begin(&request.sql)?;
            let rows = self.alerts.execute(self, statement?).await?;
            return Ok(small(listed.query.id, rows));
        }
        if let Some(statement) = default_detector::statement::parse(&request.sql) {
            let listed = self.running.begin(&request.sql)?;
            let rows = self.default_detector.execute(statement?).await?;
            return Ok(small(listed.query.id, rows));
        }
        if delete::is_delete(&admitted) {
            return self.delete(&request.sql, admitted, request.params, deadline).await;
        }
        self.select(request, admitted, deadline, None).await
    }

    /// As [`Database::query`] for a statement that reads, over `snapshot` and not over everything acknowledged so far.
    ///
    /// # Errors
    /// See [`crate::ErrorKind`]; `Invalid` for a statement that does anything else.
    pub async fn query_over(&self, request: QueryRequest, snapshot: Snapshot) -> Result<QueryResponse> {
        let deadline = self.deadline(request.timeout);
        let admitted = self.admitted(&request)?;
        if delete::is_delete(&admitted) {
            return Err(Error::invalid("a delete is of everything, not of a snapshot: send it as a query"));
        }
        self.select(request, admitted, deadline, Some(snapshot)).await
    }

    /// The analysed logical plan of a statement that reads, over `snapshot`.
    ///
    /// # Errors
    /// As [`Database::query`].
    pub(crate) async fn plan_over(&self, sql: String, snapshot: Snapshot) -> Result<LogicalPlan> {
        let limits = self.limits.clone();
        let admitted = admit(&sql, &limits)?;
        let planned = self.planned(&sql, self.deadline(None), Some(snapshot), move |state, runtime, _held| {
            runtime.block_on(planner::plan_admitted(state, admitted, Vec::new(), &limits))
        });
        planned.await
    }

    fn admitted(&self, request: &QueryRequest) -> Result<Admitted> {
        let admitted = admit(&request.sql, &self.limits)?;
        if request.params.len() > self.limits.terms_max {
            return Err(Error::invalid(format!(
                "{} parameters, the limit is {}: send fewer",
                request.params.len(),
                self.limits.terms_max
            )));
        }
        Ok(admitted)
    }

    /// Plans and starts a statement that reads, over `snapshot` or one of now.
    async fn select(
        &self,
        request: QueryRequest,
        admitted: Admitted,
        deadline: Instant,
        snapshot: Option<Snapshot>,
    ) -> Result<QueryResponse> {
        let (limits, params) = (self.limits.clone(), request.params);
        let started = self.planned(&request.sql, deadline, snapshot, move |state, runtime, held| {
            let plan = runtime.block_on(async {
                let logical = planner::plan_admitted(state, admitted, params, &limits).await?;
                let plan = state.create_physical_plan(&logical).await;
                plan.map_err(|error| execute::failed(error, &held.listed.running))
            })?;
            let (id, schema) = (held.listed.query.id, plan.schema());
            let answer = execute::start(runtime, plan, state.task_ctx(), held, deadline, limits.rows_max);
            Ok(QueryResponse { id, schema, stream: Box::pin(answer) })
        });
        started.await
    }

    /// Deletes. Its answer is one row: the series that matched, and the commit.
    async fn delete(
        &self,
        sql: &str,
        admitted: Admitted,
        params: Vec<ScalarValue>,
        deadline: Instant,
    ) -> Result<QueryResponse> {
        let limits = self.limits.clone();
        let planned = self.planned(sql, deadline, None, move |state, runtime, held| {
            let selector = runtime.block_on(delete::selector(state, admitted, params, &limits))?;
            Ok((selector, held))
        });
        let (selector, held) = planned.await?;
        let id = held.listed.query.id;
        let Some(selector) = selector else { return Ok(small(id, delete::answer(&DeleteSummary::default())?)) };
        let done = self.carry_out(vec![selector], held).await?;
        Ok(small(id, delete::answer(&done)?))
    }

    /// Carries out deletes, one after the other, whoever waits: neither deadline nor cancellation leave one half done.
    /// `held` is dropped when they are done.
    async fn carry_out(&self, selectors: Vec<Selector>, held: impl Send + 'static) -> Result<DeleteSummary> {
        let engine = self.engine.clone();
        let deleting = self.runtime.handle()?.spawn_blocking(move || {
            let _held = held;
            selectors.iter().try_fold(DeleteSummary::default(), |so_far, selector| {
                let done = engine.delete(selector)?;
                let series = so_far.series + done.series;
                Ok::<_, foretell_engine::Error>(DeleteSummary { lsn: done.lsn.or(so_far.lsn), series })
            })
        });
        let done = deleting.await.map_err(|error| Error::internal(format!("the delete ended early: {error}")))?;
        done.map_err(|error| match error.kind() {
            // Too many deletes wait to be carried out: they will be.
            EngineErrorKind::Limit => Error::new(ErrorKind::Unavailable, error.to_string()),
            _ => Error::from_engine(&error),
        })
    }

    /// When a query that begins now must be done: after `timeout` or the configured time, whichever is shorter.
    fn deadline(&self, timeout: Option<Duration>) -> Instant {
        Instant::now() + timeout.unwrap_or(self.limits.timeout).min(self.limits.timeout)
    }

    /// Does `work`, which plans, over `snapshot` or one of now; see [`Database::placed`].
    async fn planned<T, F>(&self, sql: &str, deadline: Instant, snapshot: Option<Snapshot>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&SessionState, &Handle, Held) -> Result<T> + Send + 'static,
    {
        let (engine, sessions) = (self.engine.clone(), Arc::clone(&self.sessions));
        let runtime = self.runtime.handle()?.clone();
        let promql = self.limits.promql();
        let work = move |held: Held| {
            let snapshot = snapshot.unwrap_or_else(|| engine.snapshot());
            let mut state = sessions.state_for(&held.listed.query.sql, &snapshot, &held.memory);
            let Listed { running, query } = &held.listed;
            for view in View::ALL {
                let function = TraceFunction::new(view, snapshot.clone(), Arc::clone(query));
                state.register_udtf(view.name(), Arc::new(function));
            }
            let function = CorrelateFunction::new(snapshot.clone(), promql.clone(), Arc::clone(query));
            state.register_udtf(CORRELATE, Arc::new(function));
            let function = PromqlFunction::new(snapshot, promql, Arc::clone(query), Arc::clone(running));
            state.register_udtf(PROMQL, Arc::new(function));
            work(&state, &runtime, held)
        };
        self.placed(sql, deadline, work).await
    }

    /// Does `work` once there is a place for a query: on a large stack, listed under `text`. It keeps its place until it really
    /// ends, even when nobody waits for it any more; until then dropping the future cancels it.
    async fn placed<T, F>(&self, text: &str, deadline: Instant, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Held) -> Result<T> + Send + 'static,
    {
        let held = self.enter(text, deadline).await?;
        Self::aside(held, deadline, work).await
    }

    /// Waits for a place and lists the query.
    async fn enter(&self, text: &str, deadline: Instant) -> Result<Held> {
        let place = self.gate.enter(deadline).await?;
        Ok(Held { listed: self.running.begin(text)?, memory: self.sessions.memory(), _place: place })
    }

    /// Does the `work` of a query that has a place, see [`Database::placed`].
    async fn aside<T, F>(held: Held, deadline: Instant, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Held) -> Result<T> + Send + 'static,
    {
        let cancel = held.listed.query.cancel.clone();
        let cancel_on_drop = cancel.clone().drop_guard();
        let done = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(execute::cancelled()),
            () = tokio::time::sleep_until(deadline) => return Err(execute::timed_out()),
            done = planner::on_large_stack(move || work(held)) => done?,
        };
        // What was planned goes on under the same token.
        cancel_on_drop.disarm();
        Ok(done)
    }

    /// Asks the index about series, as [`promql::Lookup`] says. Dropping the future cancels it.
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub async fn lookup(&self, lookup: promql::Lookup, timeout: Option<Duration>) -> Result<promql::Found> {
        let limits = self.limits.promql();
        self.on_snapshot(&lookup.to_string(), timeout, move |snapshot, _| lookup.ask(snapshot, &limits)).await
    }

    /// What makes the index big.
    ///
    /// # Errors
    /// As [`Database::promql`].
    pub async fn cardinality(&self, timeout: Option<Duration>) -> Result<Cardinality> {
        self.on_snapshot("cardinality", timeout, |snapshot, _| {
            snapshot.cardinality().map_err(|error| Error::from_engine(&error))
        })
        .await
    }

    /// The PromQL expression `text` in the usual layout: spaces, line breaks, indentation.
    ///
    /// # Errors
    /// `Invalid` for a bad expression; as [`Database::promql`].
    pub async fn format_promql(&self, text: &str) -> Result<String> {
        let (limits, expr) = (self.limits.promql(), text.to_owned());
        self.placed(text, self.deadline(None), move |_held| promql::format(&expr, &limits)).await
    }

    /// Runs `work` over a snapshot of now; see [`Database::placed`].
    async fn on_snapshot<T: Send + 'static>(
        &self,
        text: &str,
        timeout: Option<Duration>,
        work: impl FnOnce(&Snapshot, &promql::Cancelled<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let engine = self.engine.clone();
        let work = move |held: Held| work(&engine.snapshot(), &|| held.listed.query.cancel.is_cancelled());
        self.placed(text, self.deadline(timeout), work).await
    }

    /// Running queries.
    pub fn queries(&self) -> Vec<QueryInfo> {
        self.running.list()
    }

    /// Cancels a query; `false` when there is none.
    pub fn cancel(&self, id: u64) -> bool {
        self.running.cancel(id)
    }

    /// Names for completion: tables and functions.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.engine.snapshot().metrics().iter().map(|m| qualified(METRICS, &m.name)).collect();
        names.push(qualified(PUBLIC, SAMPLES));
        names.extend(self.sessions.sys().names().iter().map(|name| qualified(SYS, name)));
        names.extend(self.sessions.function_names());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Continuous queries and detectors in numbers.
    pub fn continuous_stats(&self) -> Vec<ContinuousStats> {
        self.continuous.stats()
    }

    /// Waits until every continuous query has processed all commits up to now (used by tests and shutdown).
    ///
    /// # Errors
    /// The first continuous query's that fails.
    pub async fn drain_continuous(&self) -> Result<()> {
        self.continuous.drain().await
    }

    /// Waits until every model has been shown all rows up to now (used by tests).
    ///
    /// # Errors
    /// The first model's that fails.
    pub async fn drain_models(self: &Arc<Self>) -> Result<()> {
        self.models.catch_up(self).await
    }

    pub(crate) fn continuous(&self) -> &ContinuousQueries {
        &self.continuous
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.running.is_closed()
    }

    pub(crate) fn alerts(&self) -> &Arc<Alerts> {
        &self.alerts
    }

    pub(crate) fn default_detector(&self) -> &Arc<DefaultDetector> {
        &self.default_detector
    }

    /// Numbers about the default detector.
    pub fn default_detector_stats(&self) -> DefaultDetectorStats {
        self.default_detector.stats()
    }

    /// Waits until the default detector has looked at all commits up to now.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn drain_default_detector(&self) -> Result<()> {
        self.default_detector.drain().await
    }

    /// Numbers about models.
    pub fn models(&self) -> ModelStats {
        self.models.stats()
    }

    /// Refuses new queries, cancels running ones, stops continuous queries at a clean position, stores log templates.
    ///
    /// # Errors
    /// None today.
    pub async fn close(&self) -> Result<()> {
        self.running.close();
        self.continuous.close().await;
        self.default_detector.close().await;
        let give_up = Instant::now() + CLOSE_WAIT;
        while !self.running.is_empty() && Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.store_templates().await;
        Ok(())
    }
}

/// An answer that is there already.
fn small(id: u64, rows: RecordBatch) -> QueryResponse {
    let schema = rows.schema();
    let stream = stream::once(async move { Ok(rows) }.boxed());
    QueryResponse { id, schema: Arc::clone(&schema), stream: Box::pin(RecordBatchStreamAdapter::new(schema, stream)) }
}
