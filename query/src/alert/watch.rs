//! Looking at what an alert watches, and what comes of it.
//!
//! A detector's alert reads the commits with rows of its table, and nothing else: each row once, in the order of time. Others are asked
//! at multiples of their interval. What a look changes is written as one record, before anybody sees it.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimestampNanosecondType};
use foretell_engine::clock::{Clock, SystemClock};
use foretell_engine::{Commit, ErrorKind as EngineErrorKind, LabelSet, Lsn, METRIC_NAME, Snapshot, WriteBatch};
use futures::StreamExt;

use super::definition::{Definition, NEXT, Notice, OUTBOX, On, Watched, notice_key, state_key};
use super::machine::{Active, Change, step};
use super::{Alert, Alerts};
use crate::continuous::output::DerivedTable;
use crate::continuous::statement::Noun;
use crate::database::{Database, QueryRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::planner;
use crate::promql::{Answer, PromQuery, Row};
use crate::table::quoted;

/// Rows of the feed that one look reads.
const FEED_ROWS: usize = 64 << 10;
/// Commits without rows for an alert after which its position is stored all the same.
const POSITION_LAG_MAX: u64 = 4_096;
/// Rows of one answer that may be alerts.
const ROWS_MAX: usize = 10_000;
/// An alert of a detector whose series has had no row for so long, by the newest row of the others, ns: it has ended. No older row
/// begins one.
const SILENCE_NS: i64 = 600_000_000_000;
/// After an outage longer than two intervals and this, time without a look does not count for FOR, ns.
const OUTAGE_NS: i64 = 1_000_000_000;
/// How far back PromQL looks, ms.
const LOOKBACK_MS: i64 = 300_000;
/// Ends a series, as Prometheus writes it.
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
const NS_PER_MS: i64 = 1_000_000;

/// What one look changes.
pub(super) struct Outcome {
    pub(super) watched: Watched,
    before: BTreeMap<LabelSet, Active>,
    changes: Vec<(LabelSet, Change, i64)>,
}

impl Outcome {
    pub(super) fn new(watched: &Watched) -> Self {
        Self { watched: watched.clone(), before: watched.alerts.clone(), changes: Vec::new() }
    }

    /// Moves one alert on.
    fn step(&mut self, definition: &Definition, labels: &LabelSet, at: i64, holds: bool, value: f64) {
        if let Some(change) = step(&mut self.watched.alerts, labels, at, holds, value, definition.policy()) {
            self.changes.push((labels.clone(), change, at));
        }
    }

    /// Ends everything.
    pub(super) fn end(&mut self, at: i64) {
        for (labels, alert) in std::mem::take(&mut self.watched.alerts) {
            if alert.fired_at.is_some() {
                self.changes.push((labels, Change::Resolved(alert), at.max(alert.last_at)));
            }
        }
    }

    fn is_unchanged(&self) -> bool {
        self.before == self.watched.alerts && self.changes.is_empty()
    }

    /// What is written: state, notices, and samples of `ALERTS`.
    pub(super) fn record(&self, alerts: &Alerts, alert: &Alert) -> Result<(WriteBatch, Vec<Notice>)> {
        let definition = &alert.definition;
        let mut batch = WriteBatch::default();
        batch.state.push((state_key(&definition.name), Some(self.watched.encode())));
        let mut notices = Vec::new();
        for (of, change, at) in &self.changes {
            let (active, firing) = match change {
                Change::Fired(active) => (active, true),
                Change::Resolved(active) => (active, false),
            };
            for target in &definition.notify {
                notices.push(Notice {
                    seq: alerts.number(),
                    alert: definition.name.clone(),
                    target: target.clone(),
                    labels: alert.labels(of),
                    annotations: definition.annotations.clone(),
                    of: of.clone(),
                    firing,
                    value: active.value,
                    starts_at: active.fired_at.unwrap_or(*at),
                    ends_at: (!firing).then_some(*at),
                    made_at: SystemClock.now_ns(),
                    error: None,
                });
            }
        }
        batch.state.extend(notices.iter().map(|notice| (notice_key(OUTBOX, notice.seq), Some(notice.encode()))));
        if let Some(last) = notices.last() {
            batch.state.push((NEXT.to_vec(), Some((last.seq + 1).to_be_bytes().to_vec())));
        }
        self.samples(alerts, alert, &mut batch)?;
        Ok((batch, notices))
    }

    /// `ALERTS` and `ALERTS_FOR_STATE`, with an end for each series that goes.
    fn samples(&self, alerts: &Alerts, alert: &Alert, batch: &mut WriteBatch) -> Result<()> {
        let mut write = |metric: &str, state: Option<&str>, of: &LabelSet, at: i64, value: f64| -> Result<()> {
            let labels = alert.labels(of);
            let pairs = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let own = [(METRIC_NAME, metric)].into_iter().chain(state.map(|state| ("alertstate", state)));
            // Templates are expanded by who tells people.
            let plain = pairs.filter(|(name, value)| *name != "alertstate" && !value.contains("{{"));
            let set = LabelSet::from_pairs(own.chain(plain));
            let series = set.and_then(|set| alerts.engine.resolve(&set)).map_err(|e| Error::from_engine(&e))?;
            // Prometheus's samples have milliseconds.
            batch.push(series, at.div_euclid(NS_PER_MS) * NS_PER_MS, value);
            Ok(())
        };
        for (of, active) in &self.watched.alerts {
            let before = self.before.get(of);
            if before == Some(active) {
                continue;
            }
            if let Some(before) = before.filter(|before| before.state() != active.state()) {
                write("ALERTS", Some(before.state()), of, active.last_at, STALE)?;
            }
            write("ALERTS", Some(active.state()), of, active.last_at, 1.0)?;
            let since = (active.active_at / 1_000_000_000) as f64;
            write("ALERTS_FOR_STATE", None, of, active.last_at, since)?;
        }
        for (of, gone) in self.before.iter().filter(|(of, _)| !self.watched.alerts.contains_key(*of)) {
            let at = gone.last_at.max(self.watched.newest_at).saturating_add(NS_PER_MS);
            write("ALERTS", Some(gone.state()), of, at, STALE)?;
            write("ALERTS_FOR_STATE", None, of, at, STALE)?;
        }
        Ok(())
    }
}

/// A row that an alert looks at.
struct Judged {
    labels: LabelSet,
    at: i64,
    holds: bool,
    value: f64,
}

/// Checks what can be checked without looking.
///
/// # Errors
/// `Invalid` or `NotFound`, saying what to change.
pub(super) async fn check(database: &Arc<Database>, definition: &Definition, snapshot: &Snapshot) -> Result<()> {
    match &definition.on {
        On::Detector { name, .. } => {
            let table = database.detector_table(name)?;
            let sql = detector_rows(definition, &table, snapshot)?;
            ask(database, sql, snapshot.only(&[])).await.map(drop)
        }
        On::Select(sql) => {
            let plan = database.plan_over(sql.clone(), snapshot.clone()).await?;
            if plan.schema().fields().is_empty() {
                return Err(Error::invalid("the SELECT of an alert has no column"));
            }
            Ok(())
        }
        On::Promql(expr) => database.format_promql(expr).await.map(drop),
    }
}

impl Alerts {
    /// Looks at everything that is due. What fails is in `sys.alerts` and tried again.
    pub(crate) async fn step_all(self: &Arc<Self>, database: &Arc<Database>) {
        let mut read = Read::default();
        for alert in self.all() {
            let outcome = self.look(database, &alert, &mut read).await;
            let failed = outcome.err();
            if let Some(error) = &failed {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(alert = alert.definition.name, %error, "an alert could not be looked at");
            }
            alert.known.write().error = failed.map(|error| error.message);
        }
        for seq in self.surplus() {
            if let Err(error) = self.give_up(seq, "too many notices wait to be taken").await {
                tracing::warn!(%error, "a notice could not be given up");
            }
        }
    }

    /// Looks until every alert of a detector has seen all commits up to now.
    ///
    /// # Errors
    /// The first that fails.
    pub(crate) async fn drain(self: &Arc<Self>, database: &Arc<Database>) -> Result<()> {
        let through = self.engine.snapshot().lsn();
        for alert in self.all() {
            while matches!(alert.definition.on, On::Detector { .. }) && alert.known.read().read_to < through {
                self.look(database, &alert, &mut Read::default()).await?;
            }
        }
        Ok(())
    }

    async fn look(self: &Arc<Self>, database: &Arc<Database>, alert: &Arc<Alert>, read: &mut Read) -> Result<()> {
        let _looking = alert.looking.lock().await;
        if alert.known.read().dropped {
            return Ok(());
        }
        match &alert.definition.on {
            On::Detector { name, .. } => self.follow(database, alert, name, read).await,
            On::Select(sql) => {
                let Some(at) = due(alert) else { return Ok(()) };
                let snapshot = self.snapshot();
                let seen = seen(ask(database, sql.clone(), snapshot).await?)?;
                self.evaluated(alert, at, seen).await
            }
            On::Promql(expr) => {
                let Some(at) = due(alert) else { return Ok(()) };
                let at_ms = at.div_euclid(NS_PER_MS);
                let query = PromQuery {
                    text: expr.clone(),
                    start_ms: at_ms,
                    end_ms: at_ms,
                    step_ms: None,
                    lookback_ms: LOOKBACK_MS,
                };
                let seen = series(database.promql(query, None).await?)?;
                self.evaluated(alert, at, seen).await
            }
        }
    }

    /// Goes on with what was `seen` at instant `at`.
    async fn evaluated(self: &Arc<Self>, alert: &Arc<Alert>, at: i64, seen: BTreeMap<LabelSet, f64>) -> Result<()> {
        let watched = alert.known.read().watched.clone();
        let mut outcome = Outcome::new(&watched);
        let away = at.saturating_sub(watched.newest_at);
        let longest = alert.definition.every_ns.saturating_mul(2).saturating_add(OUTAGE_NS);
        if watched.newest_at > i64::MIN && away > longest {
            // Nobody looked: that is no time in which it held.
            for pending in outcome.watched.alerts.values_mut().filter(|alert| alert.fired_at.is_none()) {
                pending.active_at = pending.active_at.saturating_add(away);
            }
        }
        outcome.watched.newest_at = at;
        let gone: Vec<LabelSet> = watched.alerts.keys().filter(|labels| !seen.contains_key(*labels)).cloned().collect();
        for labels in gone {
            outcome.step(&alert.definition, &labels, at, false, 0.0);
        }
        for (labels, value) in seen {
            outcome.step(&alert.definition, &labels, at, true, value);
        }
        let position = self.snapshot().lsn();
        outcome.watched.position = position;
        self.commit(alert, outcome, position).await
    }

    /// Reads the commits since the last look.
    async fn follow(
        self: &Arc<Self>,
        database: &Arc<Database>,
        alert: &Arc<Alert>,
        detector: &str,
        read: &mut Read,
    ) -> Result<()> {
        let table = database.detector_table(detector)?;
        let position = alert.known.read().read_to;
        let snapshot = self.snapshot();
        if position >= snapshot.lsn() {
            return Ok(());
        }
        let part = read.after(self, position, &snapshot).await?;
        let ordinal = snapshot.metric(&table).map(|info| info.ordinal);
        let commits = part.of(ordinal);
        let mut outcome = Outcome::new(&alert.known.read().watched);
        if !commits.is_empty() {
            let sql = detector_rows(&alert.definition, &table, &snapshot)?;
            let rows = rows(ask(database, sql, snapshot.only(&commits)).await?)?;
            for row in &rows {
                let begins = row.holds && !outcome.watched.alerts.contains_key(&row.labels);
                if begins && row.at < outcome.watched.newest_at.saturating_sub(SILENCE_NS) {
                    // It came out otherwise than it was, long after.
                    continue;
                }
                outcome.watched.newest_at = outcome.watched.newest_at.max(row.at);
                outcome.step(&alert.definition, &row.labels, row.at, row.holds, row.value);
            }
            let silent_before = outcome.watched.newest_at.saturating_sub(SILENCE_NS);
            let silent = outcome.watched.alerts.iter().filter(|(_, alert)| alert.last_at < silent_before);
            for labels in silent.map(|(labels, _)| labels.clone()).collect::<Vec<_>>() {
                let at = outcome.watched.newest_at;
                if let Some(alert) = outcome.watched.alerts.remove(&labels).filter(|alert| alert.fired_at.is_some()) {
                    outcome.changes.push((labels, Change::Resolved(alert), at));
                }
            }
        }
        outcome.watched.position = part.through;
        self.commit(alert, outcome, part.through).await
    }

    /// Writes what a look has changed, and shows it.
    async fn commit(self: &Arc<Self>, alert: &Arc<Alert>, outcome: Outcome, read_to: Lsn) -> Result<()> {
        self.counts.evaluations.fetch_add(1, Ordering::Relaxed);
        let stored = alert.known.read().watched.position;
        let lag = read_to.0.saturating_sub(stored.0);
        if outcome.is_unchanged() && lag < POSITION_LAG_MAX {
            let mut known = alert.known.write();
            known.read_to = known.read_to.max(read_to);
            known.watched.newest_at = outcome.watched.newest_at;
            return Ok(());
        }
        let (batch, notices) = outcome.record(self, alert)?;
        self.write(batch).await?;
        for (_, change, _) in &outcome.changes {
            let counter = match change {
                Change::Fired(_) => &self.counts.fired,
                Change::Resolved(_) => &self.counts.resolved,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        alert.definition.retain(&self.engine, read_to);
        {
            let mut known = alert.known.write();
            known.watched = outcome.watched;
            known.read_to = known.read_to.max(read_to);
        }
        self.publish(notices);
        Ok(())
    }
}

/// The instant at which an alert is to be asked now, if it is.
fn due(alert: &Alert) -> Option<i64> {
    let every = alert.definition.every_ns.max(1);
    let at = SystemClock.now_ns().div_euclid(every) * every;
    (at > alert.known.read().watched.newest_at).then_some(at)
}

/// How long until something may be due.
pub(super) fn pause(alerts: &Alerts) -> Duration {
    let now = SystemClock.now_ns();
    let wait = |alert: &Arc<Alert>| {
        let every = alert.definition.every_ns.max(1);
        (!matches!(alert.definition.on, On::Detector { .. })).then(|| every - now.rem_euclid(every))
    };
    let ns = alerts.all().iter().filter_map(wait).min().unwrap_or(i64::MAX);
    Duration::from_nanos(ns.unsigned_abs()).min(Duration::from_secs(1))
}

/// Commits that several alerts read together.
#[derive(Default)]
struct Read(BTreeMap<Lsn, Arc<Part>>);

/// Some commits.
struct Part {
    commits: Vec<Commit>,
    through: Lsn,
}

impl Read {
    async fn after(&mut self, alerts: &Alerts, position: Lsn, snapshot: &Snapshot) -> Result<Arc<Part>> {
        if let Some(part) = self.0.get(&position) {
            return Ok(Arc::clone(part));
        }
        let (engine, newest) = (alerts.engine.clone(), snapshot.lsn());
        let read = planner::on_large_stack(move || match engine.read_commits(position, newest, FEED_ROWS) {
            Ok(commits) => {
                let through = commits.last().map_or(newest, |commit| commit.lsn);
                Ok(Part { commits, through })
            }
            Err(error) if error.kind() == EngineErrorKind::Limit => {
                tracing::warn!(
                    position = position.0,
                    "the log that alerts have not read is gone: going on with what comes"
                );
                Ok(Part { commits: Vec::new(), through: newest })
            }
            Err(error) => Err(Error::from_engine(&error)),
        });
        let part = Arc::new(read.await?);
        self.0.insert(position, Arc::clone(&part));
        Ok(part)
    }
}

impl Part {
    /// Those with samples of a metric.
    fn of(&self, ordinal: Option<u32>) -> Vec<Commit> {
        let has = |commit: &&Commit| commit.batch.series.iter().any(|id| Some(id.metric()) == ordinal);
        self.commits.iter().filter(has).cloned().collect()
    }
}

/// The statement that asks for the rows of a detector: time, labels, the value, whether the condition holds.
fn detector_rows(definition: &Definition, table: &str, snapshot: &Snapshot) -> Result<String> {
    let On::Detector { name, condition } = &definition.on else {
        return Err(Error::internal("not a detector's alert"));
    };
    let stored = DerivedTable::stored(snapshot, table)?.ok_or_else(|| Error::internal("a detector without a table"))?;
    let labels = stored.labels.iter().filter(|label| *label != "detector");
    let labels: String = labels.map(|label| format!(", CAST({0} AS VARCHAR) AS {0}", quoted(label))).collect();
    Ok(format!(
        "SELECT ts, CAST(value AS DOUBLE) AS \"alert$value\", coalesce(CAST(({condition}\n) AS BOOLEAN), false) AS \"alert$holds\"{labels} \
         FROM {table} WHERE detector = '{name}' ORDER BY ts",
        table = quoted(table),
        name = name.replace('\'', "''"),
    ))
}

async fn ask(database: &Arc<Database>, sql: String, over: Snapshot) -> Result<Vec<RecordBatch>> {
    let mut response = database.query_over(QueryRequest { sql, ..QueryRequest::default() }, over).await?;
    let (mut batches, mut rows) = (Vec::new(), 0);
    while let Some(batch) = response.stream.next().await {
        let batch = batch.map_err(Error::from_datafusion)?;
        rows += batch.num_rows();
        if rows > FEED_ROWS.max(ROWS_MAX) {
            return Err(Error::new(ErrorKind::Execution, format!("more than {rows} rows at once: aggregate")));
        }
        batches.push(batch);
    }
    Ok(batches)
}

fn texts(batch: &RecordBatch, column: usize) -> Result<ArrayRef> {
    cast(batch.column(column), &DataType::Utf8).map_err(|e| Error::internal(e.to_string()))
}

/// The texts of a row as labels.
fn labels_of(batch: &RecordBatch, columns: &[(usize, ArrayRef)], row: usize) -> Result<LabelSet> {
    let schema = batch.schema();
    let text = |(column, texts): &(usize, ArrayRef)| {
        let texts = texts.as_string::<i32>();
        let name = schema.field(*column).name().clone();
        texts.is_valid(row).then(|| (name, texts.value(row).to_owned()))
    };
    let pairs: Vec<(String, String)> = columns.iter().filter_map(text).filter(|(_, value)| !value.is_empty()).collect();
    LabelSet::from_pairs(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .map_err(|e| Error::from_engine(&e))
}

/// Rows of [`detector_rows`].
fn rows(batches: Vec<RecordBatch>) -> Result<Vec<Judged>> {
    let shape = || Error::internal("a detector's table has other columns than an alert asked for");
    let mut rows = Vec::new();
    for batch in &batches {
        let ts = batch.column(0).as_primitive_opt::<TimestampNanosecondType>().ok_or_else(shape)?;
        let values = batch.column(1).as_primitive_opt::<Float64Type>().ok_or_else(shape)?;
        let holds = batch.column(2).as_boolean_opt().ok_or_else(shape)?;
        let columns = (3..batch.num_columns()).map(|at| Ok((at, texts(batch, at)?))).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            rows.push(Judged {
                labels: labels_of(batch, &columns, row)?,
                at: ts.value(row),
                holds: holds.is_valid(row) && holds.value(row),
                value: if values.is_valid(row) { values.value(row) } else { f64::NAN },
            });
        }
    }
    Ok(rows)
}

/// Rows of a SELECT: their texts are labels, their first number is the value, and 1 without one.
fn seen(batches: Vec<RecordBatch>) -> Result<BTreeMap<LabelSet, f64>> {
    let mut seen = BTreeMap::new();
    for batch in &batches {
        let schema = batch.schema();
        let is_text = |at: &usize| {
            matches!(
                schema.field(*at).data_type(),
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..)
            )
        };
        let columns = (0..batch.num_columns()).filter(is_text);
        let columns = columns.map(|at| Ok((at, texts(batch, at)?))).collect::<Result<Vec<_>>>()?;
        let number = (0..batch.num_columns()).find(|&at| schema.field(at).data_type().is_numeric());
        let values = number.map(|at| cast(batch.column(at), &DataType::Float64)).transpose();
        let values = values.map_err(|e| Error::internal(e.to_string()))?;
        for row in 0..batch.num_rows() {
            let value = values.as_ref().map_or(1.0, |values| {
                let values = values.as_primitive::<Float64Type>();
                if values.is_valid(row) { values.value(row) } else { f64::NAN }
            });
            let labels = labels_of(batch, &columns, row)?;
            if seen.insert(labels.clone(), value).is_some() {
                return Err(Error::new(
                    ErrorKind::Execution,
                    format!("two rows have the same labels {}: select what tells them apart", labels.to_promql()),
                ));
            }
            limited(seen.len())?;
        }
    }
    Ok(seen)
}

/// Series of an expression.
fn series(answer: Answer) -> Result<BTreeMap<LabelSet, f64>> {
    let rows = match answer {
        Answer::Scalar(point) => {
            let labels = LabelSet::from_pairs([]).map_err(|e| Error::from_engine(&e))?;
            return Ok([(labels, point.value)].into());
        }
        Answer::Vector(rows) => rows,
        Answer::Text(..) | Answer::Matrix(_) => {
            return Err(Error::new(ErrorKind::Execution, "the expression is neither a vector nor a number"));
        }
    };
    limited(rows.len())?;
    // The value of a histogram is 0, as in Prometheus's alerts.
    let value = |row: &Row| row.points.last().map_or(0.0, |point| point.value);
    Ok(rows.iter().map(|row| (row.labels.filtered(|name| name != METRIC_NAME), value(row))).collect())
}

fn limited(rows: usize) -> Result<()> {
    if rows > ROWS_MAX {
        return Err(Error::new(
            ErrorKind::Execution,
            format!("more than {ROWS_MAX} alerts at once, the limit: aggregate, or choose fewer"),
        ));
    }
    Ok(())
}

impl Database {
    /// The table that a detector writes.
    ///
    /// # Errors
    /// `NotFound`.
    fn detector_table(&self, name: &str) -> Result<String> {
        self.continuous().target(Noun::Detector, name)
    }
}
