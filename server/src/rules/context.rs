//! What groups work with: the database they ask, the engine they write to, the notifier.
//!
//! Rules take few of the places that queries have, whatever their number, and write through the same group commit as remote
//! write: an evaluation waits for both, and nobody waits for an evaluation.
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foretell_engine::{
    Engine, Error as EngineError, ErrorKind as EngineKind, LabelSet, METRIC_NAME, MatchOp, Matcher, WriteBatch,
};
use foretell_query::promql::{Answer, Matchers, PromQuery, SampleSource, SeriesSamples, at_most};
use parking_lot::Mutex;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::group::Group;
use super::manager::Shown;
use super::notify::Notifier;
use crate::app::Store;
use crate::remote_write::labels::LabelLimits;

/// Expressions of rules that are evaluated, or whose templates are expanded, at once.
const ASKING_MAX: usize = 2;
/// How far back a sample counts as current.
const LOOKBACK_MS: i64 = 5 * 60 * 1000;
/// Attempts to write while the store is busy, and the first pause between two; each is twice as long as the one before.
const WRITES_MAX: u32 = 6;
const WRITE_PAUSE: Duration = Duration::from_millis(50);
/// Samples that a restart may read to find out since when alerts have been active.
const RESTORED_SAMPLES_MAX: usize = 10_000_000;
const NS_PER_MS: i64 = 1_000_000;

/// The metric that remembers since when alerts have been active.
pub(super) const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";

/// Series with a value each.
pub(super) type Rows = Vec<(LabelSet, f64)>;

/// Why a rule was not evaluated.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Failure {
    /// The group ends.
    Stopped,
    /// The reason, for people.
    Failed(String),
}

/// Why samples were not written.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// For people.
    pub(super) why: String,
    /// Whether they may be there nevertheless.
    pub(super) unclear: bool,
}

impl From<Unwritten> for Failure {
    fn from(unwritten: Unwritten) -> Self {
        Self::Failed(unwritten.why)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

/// See the module.
pub(crate) struct Context {
    store: Store,
    label_limits: LabelLimits,
    pub(super) settings: Settings,
    pub(super) notifier: Notifier,
    pub(super) seconds: Histogram,
    asking: Semaphore,
    groups: Shown,
    /// Held while a rule's alerts move on, so that they and all others are counted exactly.
    pub(super) counting: Mutex<()>,
}

impl Context {
    pub(super) fn new(
        store: Store,
        label_limits: LabelLimits,
        settings: Settings,
        notifier: Notifier,
        seconds: Histogram,
        groups: Shown,
    ) -> Self {
        let asking = Semaphore::new(ASKING_MAX);
        Self { store, label_limits, settings, notifier, seconds, asking, groups, counting: Mutex::new(()) }
    }

    /// Alerts of all groups but `group`.
    pub(super) fn alerts_beside(&self, group: &Group) -> usize {
        let groups = Arc::clone(&*self.groups.read());
        let others = groups.iter().filter(|other| !std::ptr::eq(Arc::as_ptr(other), group));
        others.map(|other| other.alerts.load(Ordering::Relaxed)).sum()
    }

    /// The series that `text` answers at `at_ms`; a scalar is one without labels, a native histogram has the value 0, as in
    /// Prometheus's alerts and templates. Also whether there is one.
    pub(super) async fn ask(&self, text: &str, at_ms: i64, stop: &CancellationToken) -> Result<(Rows, bool), Failure> {
        let query = PromQuery {
            text: text.to_owned(),
            start_ms: at_ms,
            end_ms: at_ms,
            step_ms: None,
            lookback_ms: LOOKBACK_MS,
        };
        let answering = async {
            let _turn = self.asking.acquire().await.map_err(|error| error.to_string())?;
            self.store.database.promql(query, None).await.map_err(|error| error.message)
        };
        let answer = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Failure::Stopped),
            answer = answering => answer?,
        };
        let mut histograms = false;
        let rows: Rows = match answer {
            Answer::Vector(rows) => {
                histograms = rows.iter().any(|row| !row.histograms.is_empty());
                rows.into_iter().map(|row| (row.labels, row.points.first().map_or(0.0, |point| point.value))).collect()
            }
            Answer::Scalar(point) => vec![(LabelSet::default(), point.value)],
            Answer::Text(..) | Answer::Matrix(_) => {
                return Err(Failure::Failed(
                    "rule result is not a vector or scalar: aggregate or select an instant".into(),
                ));
            }
        };
        let series_max = self.settings.series_max;
        if rows.len() > series_max {
            return Err(Failure::Failed(format!(
                "exceeded limit of {series_max} series (rules.series_max) with {} series: aggregate",
                rows.len()
            )));
        }
        Ok((rows, histograms))
    }

    /// Runs `work`, which computes for long, in one of the places of expressions and not where requests are served.
    pub(super) async fn compute<T>(
        &self,
        stop: &CancellationToken,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _turn = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Failure::Stopped),
            turn = self.asking.acquire() => turn.map_err(|error| error.to_string())?,
        };
        tokio::task::block_in_place(work)
    }

    /// Commits one sample at `at_ms` for each of `rows`.
    ///
    /// # Durability
    /// On stable storage when this returns, as remote write's samples are.
    ///
    /// # Errors
    /// When not all could be written. Series that alone are refused are left out; then the first reason is returned.
    pub(super) async fn write(&self, rows: Rows, at_ms: i64) -> Result<Option<String>, Unwritten> {
        if rows.is_empty() {
            return Ok(None);
        }
        let (mut pause, mut attempt, mut unclear) = (WRITE_PAUSE, 1, false);
        let failed =
            |error: &dyn Display, unclear| Unwritten { why: format!("the samples were not written: {error}"), unclear };
        let rows = Arc::new(rows);
        loop {
            let (engine, limits, rows) = (self.store.engine.clone(), self.label_limits.clone(), Arc::clone(&rows));
            // Resolving and encoding take as long as the rule has series: off the threads that serve requests.
            let queued = tokio::task::spawn_blocking(move || {
                let (batch, refused) = batch(&engine, &limits, &rows, at_ms)?;
                let commit = if batch.is_empty() { None } else { Some(engine.write(batch)?) };
                Ok::<_, EngineError>((commit, refused))
            });
            let committed = match queued.await.map_err(|error| failed(&error, true))? {
                Ok((Some(commit), refused)) => {
                    let committed = commit.await;
                    unclear |= committed.is_err();
                    committed.map(|_| refused)
                }
                Ok((None, refused)) => Ok(refused),
                Err(error) => Err(error),
            };
            match committed {
                Ok(refused) => return Ok(refused),
                Err(error) if error.kind() == EngineKind::Unavailable && attempt < WRITES_MAX => {
                    tokio::time::sleep(pause).await;
                    (pause, attempt) = (pause * 2, attempt + 1);
                }
                Err(error) => return Err(failed(&error, unclear)),
            }
        }
    }

    /// Since when alerts of rule `name` were active as far as is known: time and value of the newest sample of each series of
    /// [`ALERTS_FOR_STATE`] in `(after_ms, through_ms]`, by the alert's labels.
    pub(super) async fn for_state(
        &self,
        name: &str,
        after_ms: i64,
        through_ms: i64,
    ) -> Result<Vec<(LabelSet, i64, f64)>, String> {
        let equal =
            |name: &str, value: &str| Matcher { name: name.to_owned(), op: MatchOp::Equal, value: value.to_owned() };
        let matchers = Matchers(vec![vec![equal(METRIC_NAME, ALERTS_FOR_STATE), equal("alertname", name)]]);
        let engine = self.store.engine.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let admit = at_most(RESTORED_SAMPLES_MAX);
            SampleSource::select(&engine.snapshot(), &matchers, after_ms, through_ms, &admit)
        });
        let series: Vec<SeriesSamples> =
            reading.await.map_err(|error| error.to_string())?.map_err(|error| error.message)?;
        let newest = |series: SeriesSamples| {
            let labels = series.labels.without(METRIC_NAME);
            Some((labels, *series.ts_ms.last()?, *series.values.last()?))
        };
        Ok(series.into_iter().filter_map(newest).collect())
    }
}

/// A batch of `rows` at `at_ms`, without the series that are refused; why the first of them is.
fn batch(
    engine: &Engine,
    limits: &LabelLimits,
    rows: &[(LabelSet, f64)],
    at_ms: i64,
) -> Result<(WriteBatch, Option<String>), EngineError> {
    let at_ns = at_ms.saturating_mul(NS_PER_MS);
    if at_ns < engine.oldest_accepted_ns() {
        return Err(EngineError::Invalid("the evaluation lies before what the retention keeps".into()));
    }
    let (mut batch, mut refused) = (WriteBatch::default(), None);
    for (labels, value) in rows {
        let resolved = match fault(labels, limits) {
            Some(fault) => Err(fault),
            None => match engine.resolve(labels) {
                Ok(id) => Ok(id),
                Err(EngineError::Invalid(why) | EngineError::Limit(why)) => Err(why),
                Err(error) => return Err(error),
            },
        };
        match resolved {
            Ok(id) => batch.push(id, at_ns, *value),
            Err(fault) => {
                refused.get_or_insert_with(|| format!("series {} is refused: {fault}", labels.to_promql()));
            }
        }
    }
    Ok((batch, refused))
}

/// What senders' labels may not be, those of rules may not be either.
fn fault(labels: &LabelSet, limits: &LabelLimits) -> Option<String> {
    let mut labels = labels.iter().enumerate();
    let fault = labels.find_map(|(i, (name, value))| limits.admit(i, name.as_bytes(), value.as_bytes()).err());
    fault.map(|fault| fault.to_string())
}
