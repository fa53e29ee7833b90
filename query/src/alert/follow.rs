//! Alerts of detectors: each row of the detector once, in the order of time, as it comes.
//!
//! ```text
//!  commits ──read once──► rows of each table that is watched ──► each alert: those of its detector ──► one record of all changes
//! ```
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampNanosecondType};
use datafusion::execution::session_state::SessionState;
use foretell_engine::{Commit, ErrorKind as EngineErrorKind, Lsn, Snapshot};
use hashbrown::HashMap;

use super::definition::Definition;
use super::machine::Change;
use super::outcome::Outcome;
use super::rows::{Condition, Judged, Rows, Table};
use super::watch::{ask, labels_of, texts};
use super::{Alert, Alerts};
use crate::continuous::DETECTOR_LABEL;
use crate::continuous::output::DerivedTable;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::planner;
use crate::table::quoted;

/// Rows of the feed that are read at once.
const FEED_ROWS: usize = 64 << 10;
/// An alert of a detector whose series has had no row for so long, by the newest row of the others, ns: it has ended. No older row
/// begins one.
const SILENCE_NS: i64 = 600_000_000_000;

/// What is known of the tables that are watched, and of the conditions of alerts; all of it can be learned again.
#[derive(Default)]
pub(super) struct Followed {
    tables: HashMap<String, Arc<Table>>,
    conditions: HashMap<String, Condition>,
}

impl Followed {
    /// Lets go of what an alert needed.
    pub(super) fn forget(&mut self, alert: &str) {
        self.conditions.remove(alert);
        // Others may need these tables: they are learned again.
        self.tables.clear();
    }
}

/// An alert of a detector that is looked at.
struct Looked {
    alert: Arc<Alert>,
    /// Its detector's.
    table: String,
}

impl Alerts {
    /// Goes on with every alert of a detector among `alerts` until it has seen all commits up to now.
    pub(super) async fn follow(self: &Arc<Self>, database: &Arc<Database>, alerts: &[Arc<Alert>]) {
        let snapshot = self.engine.snapshot();
        let mut looking = Vec::new();
        let mut due: BTreeMap<Lsn, Vec<Looked>> = BTreeMap::new();
        for alert in alerts {
            let Some((detector, _)) = alert.definition.detector() else { continue };
            if alert.known.read().read_to >= snapshot.lsn() {
                continue;
            }
            looking.push(alert.looking.lock().await);
            let (dropped, read_to) = {
                let known = alert.known.read();
                (known.dropped, known.read_to)
            };
            if dropped || read_to >= snapshot.lsn() {
                continue;
            }
            match database.detector_table(detector) {
                Ok(table) => due.entry(read_to).or_default().push(Looked { alert: Arc::clone(alert), table }),
                Err(error) => self.note(alert, Some(error)),
            }
        }
        let mut failed: Vec<(Arc<Alert>, Error)> = Vec::new();
        // Who is at the same position reads the same commits, once.
        for (position, looked) in due {
            let (mut at, mut looked) = (position, looked);
            while at < snapshot.lsn() && !looked.is_empty() {
                let read = self.part(database, &snapshot, at, looked, &mut failed).await;
                let Some((through, left)) = read else { break };
                (at, looked) = (through, left);
            }
        }
        for (alert, error) in failed {
            self.note(&alert, Some(error));
        }
    }

    /// Looks at the commits after `position`, or the first of them, and stores what comes of it; answers how far that was, and who goes
    /// on from there.
    async fn part(
        self: &Arc<Self>,
        database: &Arc<Database>,
        snapshot: &Snapshot,
        position: Lsn,
        looked: Vec<Looked>,
        failed: &mut Vec<(Arc<Alert>, Error)>,
    ) -> Option<(Lsn, Vec<Looked>)> {
        let (alerts, own, over) = (Arc::clone(self), Arc::clone(database), snapshot.clone());
        let all: Vec<Arc<Alert>> = looked.iter().map(|looked| Arc::clone(&looked.alert)).collect();
        let read = planner::on_large_stack(move || {
            let watched: BTreeSet<&str> = looked.iter().map(|looked| looked.table.as_str()).collect();
            let part = Part::read(&alerts, &over, position, &watched)?;
            // Needed only for a condition that is met for the first time.
            let session = LazyCell::new(|| own.continuous().session(&over));
            let judge = |looked: Looked| {
                let rows = part.judge(&alerts, || &session, &looked);
                (looked, rows)
            };
            let judged: Vec<_> = looked.into_iter().map(judge).collect();
            Ok((part, judged))
        });
        let (part, judged) = match read.await {
            Ok(read) => read,
            Err(error) => {
                failed.extend(all.into_iter().map(|alert| (alert, error.clone())));
                return None;
            }
        };
        let (mut looks, mut rest) = (Vec::new(), Vec::new());
        for (looked, rows) in judged {
            let rows = match rows {
                Ok(Some(rows)) => Ok(rows),
                Ok(None) => self.asked(database, snapshot, &looked, &part).await,
                Err(error) => Err(error),
            };
            let rows = match rows {
                Ok(rows) => rows,
                Err(error) => {
                    failed.push((looked.alert, error));
                    continue;
                }
            };
            if !rows.is_empty() || looked.alert.is_far_behind(part.through) {
                let mut outcome = Outcome::new(&looked.alert.known.read().watched);
                outcome.take(&looked.alert.definition, &rows);
                outcome.watched.position = part.through;
                looks.push((Arc::clone(&looked.alert), outcome));
            }
            rest.push(looked);
        }
        if let Err(error) = self.commit(&mut looks).await {
            failed.extend(looks.into_iter().map(|(alert, _)| (alert, error.clone())));
            return None;
        }
        for looked in &rest {
            let mut known = looked.alert.known.write();
            known.read_to = known.read_to.max(part.through);
            known.error = None;
        }
        Some((part.through, rest))
    }

    /// Rows whose condition cannot be judged row by row.
    async fn asked(
        &self,
        database: &Arc<Database>,
        snapshot: &Snapshot,
        looked: &Looked,
        part: &Part,
    ) -> Result<Vec<Judged>> {
        let Some(commits) = part.commits.get(&looked.table) else { return Ok(Vec::new()) };
        let sql = detector_rows(&looked.alert.definition, &looked.table, snapshot)?;
        rows(ask(database, sql, snapshot.only(commits)).await?)
    }

    /// What is known of a table; learned anew when `commits` have a series of it that is not.
    fn table(&self, snapshot: &Snapshot, name: &str, commits: &[Commit]) -> Result<Option<(Arc<Table>, Rows)>> {
        let known = self.followed.lock().tables.get(name).cloned();
        if let Some(table) = known
            && let Some(rows) = table.rows(commits)?
        {
            return Ok(Some((table, rows)));
        }
        let Some(table) = Table::open(snapshot, name)?.map(Arc::new) else { return Ok(None) };
        let rows = table.rows(commits)?;
        self.followed.lock().tables.insert(name.to_owned(), Arc::clone(&table));
        Ok(rows.map(|rows| (table, rows)))
    }
}

/// Some commits, by the tables that are watched.
struct Part {
    through: Lsn,
    commits: HashMap<String, Vec<Commit>>,
    rows: HashMap<String, (Arc<Table>, Rows)>,
}

impl Part {
    /// Reads commits after `position` that `snapshot` sees.
    fn read(alerts: &Alerts, snapshot: &Snapshot, position: Lsn, watched: &BTreeSet<&str>) -> Result<Self> {
        let commits = match alerts.engine.read_commits(position, snapshot.lsn(), FEED_ROWS) {
            Ok(commits) => commits,
            Err(error) if error.kind() == EngineErrorKind::Limit => {
                let position = position.0;
                tracing::warn!(position, "the log that alerts have not read is gone: going on with what comes");
                Vec::new()
            }
            Err(error) => return Err(Error::from_engine(&error)),
        };
        let through = commits.last().map_or(snapshot.lsn(), |commit| commit.lsn);
        let ordinals = watched.iter().filter_map(|name| Some((snapshot.metric(name)?.ordinal, *name)));
        let ordinals: HashMap<u32, &str> = ordinals.collect();
        let mut of: HashMap<String, Vec<Commit>> = HashMap::new();
        for commit in &commits {
            let (mut last, mut tables) = (None, BTreeSet::<&&str>::new());
            for metric in commit.batch.series.iter().map(|id| id.metric()) {
                if last != Some(metric) {
                    tables.extend(ordinals.get(&metric));
                    last = Some(metric);
                }
            }
            for name in tables {
                of.entry((*name).to_owned()).or_default().push(commit.clone());
            }
        }
        let mut rows = HashMap::new();
        for (name, commits) in &of {
            if let Some(read) = alerts.table(snapshot, name, commits)? {
                rows.insert(name.clone(), read);
            }
        }
        Ok(Self { through, commits: of, rows })
    }

    /// What a condition says of the rows of its detector; `None` when it has to be asked.
    fn judge<'a>(
        &self,
        alerts: &Alerts,
        session: impl FnOnce() -> &'a SessionState,
        looked: &Looked,
    ) -> Result<Option<Vec<Judged>>> {
        let watched = looked.alert.definition.detector().filter(|_| self.commits.contains_key(&looked.table));
        let Some((detector, text)) = watched else { return Ok(Some(Vec::new())) };
        let Some((table, rows)) = self.rows.get(&looked.table) else { return Ok(None) };
        let name = &looked.alert.definition.name;
        let known = alerts.followed.lock().conditions.get(name).filter(|known| known.is_for(table, text)).cloned();
        let condition = match known {
            Some(condition) => condition,
            None => {
                let Some(condition) = table.condition(session(), text) else { return Ok(None) };
                alerts.followed.lock().conditions.insert(name.clone(), condition.clone());
                condition
            }
        };
        table.judge(rows, detector, &condition)
    }
}

impl Outcome {
    /// Moves alerts on by rows of a detector.
    fn take(&mut self, definition: &Definition, rows: &[Judged]) {
        for row in rows {
            let begins = row.holds && !self.watched.alerts.contains_key(&row.labels);
            if begins && row.at < self.watched.newest_at.saturating_sub(SILENCE_NS) {
                // It came out otherwise than it was, long after.
                continue;
            }
            self.watched.newest_at = self.watched.newest_at.max(row.at);
            self.step(definition, &row.labels, row.at, row.holds, row.value);
        }
        let at = self.watched.newest_at;
        let silent_before = at.saturating_sub(SILENCE_NS);
        let silent = self.watched.alerts.iter().filter(|(_, alert)| alert.last_at < silent_before);
        for labels in silent.map(|(labels, _)| labels.clone()).collect::<Vec<_>>() {
            if let Some(alert) = self.watched.alerts.remove(&labels).filter(|alert| alert.fired_at.is_some()) {
                self.changes.push((labels, Change::Resolved(alert), at));
            }
        }
    }
}

/// The statement that asks for the rows of a detector: time, labels, the value, whether the condition holds.
pub(super) fn detector_rows(definition: &Definition, table: &str, snapshot: &Snapshot) -> Result<String> {
    let Some((name, condition)) = definition.detector() else {
        return Err(Error::internal("not a detector's alert"));
    };
    let stored = DerivedTable::stored(snapshot, table)?.ok_or_else(|| Error::internal("a detector without a table"))?;
    let labels = stored.labels.iter().filter(|label| *label != DETECTOR_LABEL);
    let labels: String = labels.map(|label| format!(", CAST({0} AS VARCHAR) AS {0}", quoted(label))).collect();
    Ok(format!(
        "SELECT ts, CAST(value AS DOUBLE) AS \"alert$value\", coalesce(CAST(({condition}\n) AS BOOLEAN), false) AS \"alert$holds\"{labels} \
         FROM {table} WHERE {DETECTOR_LABEL} = '{name}' ORDER BY ts",
        table = quoted(table),
        name = name.replace('\'', "''"),
    ))
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
