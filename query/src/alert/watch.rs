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
use arrow::datatypes::{DataType, Float64Type};
use foretell_engine::clock::{Clock, SystemClock};
use foretell_engine::{LabelSet, Lsn, METRIC_NAME, Snapshot, WriteBatch};
use futures::StreamExt;

use super::definition::{Definition, On, Watched};
use super::follow::detector_rows;
use super::machine::Change;
use super::outcome::Outcome;
use super::{Alert, Alerts};
use crate::continuous::statement::Noun;
use crate::database::{Database, QueryRequest};
use crate::error::{Error, ErrorKind, Result};
use crate::promql::{Answer, PromQuery, Row};

/// Commits without rows for an alert after which its position is stored all the same.
const POSITION_LAG_MAX: u64 = 4_096;
/// A record of changes goes out at so many bytes.
const RECORD_BYTES_MAX: usize = 8 << 20;
/// Rows of one answer.
const ASKED_ROWS_MAX: usize = 64 << 10;
/// Rows of one answer that may be alerts.
const ROWS_MAX: usize = 10_000;
/// After an outage longer than two intervals and this, time without a look does not count for FOR, ns.
const OUTAGE_NS: i64 = 1_000_000_000;
/// How far back PromQL looks, ms.
const LOOKBACK_MS: i64 = 300_000;
const NS_PER_MS: i64 = 1_000_000;

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
        let all = self.all();
        self.follow(database, &all).await;
        for alert in &all {
            if let Some(at) = due(alert) {
                let outcome = self.look(database, alert, at).await;
                self.note(alert, outcome.err());
            }
        }
        if let Err(error) = self.settle_silenced().await {
            tracing::warn!(%error, "notices that a silence held back could not be forgotten");
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
        loop {
            let is_behind =
                |alert: &Arc<Alert>| alert.definition.detector().is_some() && alert.known.read().read_to < through;
            let behind: Vec<Arc<Alert>> = self.all().into_iter().filter(is_behind).collect();
            if behind.is_empty() {
                return Ok(());
            }
            self.follow(database, &behind).await;
            if let Some(error) = behind.iter().find_map(|alert| alert.known.read().error.clone()) {
                return Err(Error::new(ErrorKind::Execution, error));
            }
        }
    }

    /// Keeps what has failed, for others to see.
    pub(super) fn note(&self, alert: &Alert, failed: Option<Error>) {
        if let Some(error) = &failed {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(alert = alert.definition.name, %error, "an alert could not be looked at");
        }
        alert.known.write().error = failed.map(|error| error.message);
    }

    /// Asks what an alert asks at instant `at`.
    async fn look(self: &Arc<Self>, database: &Arc<Database>, alert: &Arc<Alert>, at: i64) -> Result<()> {
        let _looking = alert.looking.lock().await;
        if alert.known.read().dropped {
            return Ok(());
        }
        let seen = match &alert.definition.on {
            On::Detector { .. } => return Ok(()),
            On::Select(sql) => seen(ask(database, sql.clone(), self.snapshot()).await?)?,
            On::Promql(expr) => {
                let at_ms = at.div_euclid(NS_PER_MS);
                let query = PromQuery {
                    text: expr.clone(),
                    start_ms: at_ms,
                    end_ms: at_ms,
                    step_ms: None,
                    lookback_ms: LOOKBACK_MS,
                };
                series(database.promql(query, None).await?)?
            }
        };
        self.evaluated(alert, at, seen).await
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
        outcome.watched.position = self.snapshot().lsn();
        self.commit(&mut [(Arc::clone(alert), outcome)]).await
    }

    /// Writes what looks have changed as one record, or a few large ones, and shows it. Nothing is shown of what could not be written.
    pub(super) async fn commit(&self, looks: &mut [(Arc<Alert>, Outcome)]) -> Result<()> {
        let mut rest = looks;
        while !rest.is_empty() {
            let (mut record, mut told, mut written) = (WriteBatch::default(), Vec::new(), Vec::new());
            for (alert, outcome) in rest.iter() {
                if record.bytes() >= RECORD_BYTES_MAX {
                    break;
                }
                let is_written = !outcome.is_unchanged() || alert.is_far_behind(outcome.watched.position);
                if is_written {
                    let (batch, notices) = outcome.record(self, alert)?;
                    record.append(batch);
                    told.extend(notices);
                }
                written.push(is_written);
            }
            if written.contains(&true) {
                self.write(record).await?;
            }
            let (done, left) = std::mem::take(&mut rest).split_at_mut(written.len());
            self.show(done, &written);
            self.publish(told);
            rest = left;
        }
        Ok(())
    }

    /// Lets others see what looks have changed, now that it is stored.
    fn show(&self, looks: &mut [(Arc<Alert>, Outcome)], written: &[bool]) {
        for ((alert, outcome), written) in looks.iter_mut().zip(written) {
            self.counts.evaluations.fetch_add(1, Ordering::Relaxed);
            for (_, change, _) in &outcome.changes {
                let counter = match change {
                    Change::Fired(_) => &self.counts.fired,
                    Change::Resolved(_) => &self.counts.resolved,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            let position = outcome.watched.position;
            let mut known = alert.known.write();
            known.read_to = known.read_to.max(position);
            if *written {
                alert.definition.retain(&self.engine, position);
                known.watched = std::mem::replace(&mut outcome.watched, Watched::new(position));
            } else {
                known.watched.newest_at = outcome.watched.newest_at;
            }
        }
    }
}

impl Alert {
    /// Whether its stored position holds back more of the log than it should.
    pub(super) fn is_far_behind(&self, through: Lsn) -> bool {
        through.0.saturating_sub(self.known.read().watched.position.0) >= POSITION_LAG_MAX
    }
}

/// The instant at which an alert is to be asked now, if it is.
fn due(alert: &Alert) -> Option<i64> {
    if alert.definition.detector().is_some() {
        return None;
    }
    let every = alert.definition.every_ns.max(1);
    let at = SystemClock.now_ns().div_euclid(every) * every;
    (at > alert.known.read().watched.newest_at).then_some(at)
}

/// How long until something may be due.
pub(super) fn pause(alerts: &Alerts) -> Duration {
    let now = SystemClock.now_ns();
    let wait = |alert: &Arc<Alert>| {
        let every = alert.definition.every_ns.max(1);
        (alert.definition.detector().is_none()).then(|| every - now.rem_euclid(every))
    };
    let ns = alerts.all().iter().filter_map(wait).min().unwrap_or(i64::MAX);
    Duration::from_nanos(ns.unsigned_abs()).min(Duration::from_secs(1))
}

pub(super) async fn ask(database: &Arc<Database>, sql: String, over: Snapshot) -> Result<Vec<RecordBatch>> {
    let mut response = database.query_over(QueryRequest { sql, ..QueryRequest::default() }, over).await?;
    let (mut batches, mut rows) = (Vec::new(), 0);
    while let Some(batch) = response.stream.next().await {
        let batch = batch.map_err(Error::from_datafusion)?;
        rows += batch.num_rows();
        if rows > ASKED_ROWS_MAX {
            return Err(Error::new(ErrorKind::Execution, format!("more than {rows} rows at once: aggregate")));
        }
        batches.push(batch);
    }
    Ok(batches)
}

pub(super) fn texts(batch: &RecordBatch, column: usize) -> Result<ArrayRef> {
    cast(batch.column(column), &DataType::Utf8).map_err(|e| Error::internal(e.to_string()))
}

/// The texts of a row as labels.
pub(super) fn labels_of(batch: &RecordBatch, columns: &[(usize, ArrayRef)], row: usize) -> Result<LabelSet> {
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
    Ok(rows.iter().map(|row| (row.labels.without(METRIC_NAME), value(row))).collect())
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
    pub(super) fn detector_table(&self, name: &str) -> Result<String> {
        self.continuous().target(Noun::Detector, name)
    }
}
