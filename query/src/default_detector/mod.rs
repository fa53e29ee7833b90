//! The default detector: watches every series of a matcher as data arrives and keeps one bit a sample, anomalous or not.
//!
//! ```text
//!  commits ──> watched: a state of 64 bytes a series ──> bits: a record for each anomalous sample ──> column `anomalous`, anomaly_rate(…),
//!                │                                                                                   {__value__="anomalous"} in PromQL
//!                └── stored every few minutes, with the position in the log that they have seen
//! ```
//! | module | owns |
//! |---|---|
//! | [`statement`] | CREATE, SHOW, DROP |
//! | [`stored`] | what is stored, and under which keys |
//! | [`work`] | the detector at work: reads commits, stores bits and states |
//! | [`watched`] | the states of all series |
//! | [`bits`] | the table of bits, and how scans show them |
//!
//! Invariants: the same commits give the same bits, whenever the process ends: after a restart the log is read again from where the
//! stored states are, and what was stored of it is not stored again. A bit is of its (series, ts): one that is stored twice is one.
//! A detector that falls behind holds up nobody: the log waits for it up to its limit.
pub(crate) mod bits;
pub(crate) mod statement;
mod stored;
mod watched;
mod work;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use foretell_engine::{Engine, Lsn, Snapshot, WriteBatch};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::continuous::status::answer;
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::planner;
use crate::promql;
use crate::statement::{Existing, preview};
use crate::table::sys::{Listed, batch, numbers, texts, times};

use self::statement::DetectorStatement;
use self::stored::{CONSUMER, Definition};
use self::work::Work;

/// Commits of this time are looked at together.
const PAUSE: Duration = Duration::from_millis(100);
/// A look that failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(1);

/// Numbers about it, since the process began.
#[derive(Debug, Default)]
struct Counts {
    looked: AtomicU64,
    anomalous: AtomicU64,
    late: AtomicU64,
    lost: AtomicU64,
    busy_ns: AtomicU64,
    series: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
    position: AtomicU64,
}

/// Numbers about the default detector, for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DefaultDetectorStats {
    /// Whether there is one.
    pub on: bool,
    /// Commits it has not looked at yet.
    pub lag: u64,
    /// Samples looked at.
    pub looked: u64,
    /// Those of them that are anomalous.
    pub anomalous: u64,
    /// Samples not newer than another one of their series, which are not looked at.
    pub late: u64,
    /// Commits that the log no longer had, and bits that could not be stored.
    pub lost: u64,
    /// Series watched.
    pub series: u64,
    /// Series that are too many to be watched.
    pub refused: u64,
    /// Memory of their states.
    pub bytes: u64,
    /// Time at work, seconds.
    pub busy_seconds: f64,
}

/// There is one of them, at work or not.
pub(crate) struct DefaultDetector {
    engine: Engine,
    limits: promql::Limits,
    /// What it watches, if there is one.
    definition: RwLock<Option<Definition>>,
    /// Its states; held while it looks, so that statements wait for the end of a look.
    work: Mutex<Option<Work>>,
    error: RwLock<Option<String>>,
    changing: tokio::sync::Mutex<()>,
    changed: Notify,
    counts: Arc<Counts>,
}

impl DefaultDetector {
    /// As it was when the process ended.
    ///
    /// # Errors
    /// When what is stored cannot be read.
    pub(crate) fn open(engine: Engine, limits: promql::Limits) -> Result<Self> {
        let snapshot = engine.snapshot();
        let definition = Definition::stored(&snapshot)?;
        let counts = Arc::<Counts>::default();
        let work = match &definition {
            Some(definition) => {
                let matchers = definition.matchers(&limits)?;
                Some(Work::restore(engine.clone(), matchers, &snapshot, Arc::clone(&counts))?)
            }
            None => None,
        };
        Ok(Self {
            engine,
            limits,
            definition: RwLock::new(definition),
            work: Mutex::new(work),
            error: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            counts,
        })
    }

    /// Looks at what comes until the database is closed.
    pub(crate) async fn run(database: Weak<Database>, mut commits: tokio::sync::watch::Receiver<Lsn>) {
        loop {
            let Some(database) = database.upgrade().filter(|database| !database.is_closed()) else { return };
            commits.borrow_and_update();
            let detector = Arc::clone(database.default_detector());
            drop(database);
            let is_on = detector.definition.read().is_some();
            let failed = is_on && detector.step().await.is_err();
            let changed = detector.changed.notified();
            tokio::select! {
                gone = commits.changed(), if is_on && !failed => if gone.is_err() { return },
                () = changed => {}
                () = tokio::time::sleep(RETRY) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Looks at all commits up to now.
    async fn step(self: &Arc<Self>) -> Result<()> {
        let own = Arc::clone(self);
        let stepped = planner::on_large_stack(move || own.work.lock().as_mut().map_or(Ok(()), Work::step)).await;
        let error = stepped.as_ref().err().map(ToString::to_string);
        if let Some(error) = error.as_ref().filter(|error| self.error.read().as_ref() != Some(*error)) {
            tracing::warn!(error, "the default detector could not go on; it tries again");
        }
        *self.error.write() = error;
        stepped
    }

    /// Waits until it has looked at all commits up to now.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) async fn drain(self: &Arc<Self>) -> Result<()> {
        self.step().await
    }

    /// Stores its states, so that the next process goes on from here.
    pub(crate) async fn close(self: &Arc<Self>) {
        let own = Arc::clone(self);
        let stored = planner::on_large_stack(move || own.work.lock().as_mut().map_or(Ok(()), Work::end)).await;
        if let Err(error) = stored {
            tracing::warn!(%error, "the states of the default detector are not stored: the log is read again");
        }
    }

    /// Runs one statement; the answer is a small table.
    ///
    /// # Errors
    /// `Invalid`, `NotFound`, or as the engine.
    pub(crate) async fn execute(self: &Arc<Self>, statement: DetectorStatement) -> Result<RecordBatch> {
        match statement {
            DetectorStatement::Create { matcher, existing } => self.create(matcher, existing).await,
            DetectorStatement::Preview { matcher } => {
                let becomes = Definition::new(matcher, &self.limits)?;
                let is = self.definition.read().as_ref().map(Definition::properties);
                preview("default detector", "default", is.as_ref(), &becomes.properties())
            }
            DetectorStatement::Show => self.rows(),
            DetectorStatement::Drop { if_exists } => self.drop_it(if_exists).await,
        }
    }

    async fn create(self: &Arc<Self>, matcher: String, existing: Existing) -> Result<RecordBatch> {
        let _one = self.changing.lock().await;
        let definition = Definition::new(matcher, &self.limits)?;
        let is = self.definition.read().clone();
        match (&is, existing) {
            (Some(is), Existing::Replaced) if is.properties() == definition.properties() => {
                return answer("the default detector is unchanged".into());
            }
            (Some(_), Existing::Kept) => return answer("there is a default detector".into()),
            (Some(_), Existing::Refused) => {
                return Err(Error::invalid(
                    "there is a default detector: drop it first, or write OR REPLACE to change what it watches",
                ));
            }
            (None, _) | (Some(_), Existing::Replaced) => {}
        }
        let (own, replaces) = (Arc::clone(self), is.is_some());
        planner::on_large_stack(move || {
            let mut work = own.work.lock();
            let snapshot = own.engine.snapshot();
            let matchers = definition.matchers(&own.limits)?;
            own.engine.retain_wal(CONSUMER, Some(snapshot.lsn()));
            let mut state = stored::forgotten(&snapshot);
            state.extend(definition.stored_at(snapshot.lsn()));
            if let Err(error) = own.write(state) {
                if !replaces {
                    own.engine.retain_wal(CONSUMER, None);
                }
                return Err(error);
            }
            *work = Some(Work::new(own.engine.clone(), matchers, snapshot.lsn(), Arc::clone(&own.counts)));
            *own.definition.write() = Some(definition);
            Ok(())
        })
        .await?;
        self.changed.notify_one();
        answer(format!("default detector {}", if replaces { "replaced" } else { "created" }))
    }

    async fn drop_it(self: &Arc<Self>, if_exists: bool) -> Result<RecordBatch> {
        let _one = self.changing.lock().await;
        if self.definition.read().is_none() {
            return match if_exists {
                true => answer("there is no default detector".into()),
                false => Err(Error::new(
                    ErrorKind::NotFound,
                    "there is no default detector: CREATE DEFAULT DETECTOR makes it",
                )),
            };
        }
        let own = Arc::clone(self);
        planner::on_large_stack(move || {
            let mut work = own.work.lock();
            own.write(stored::all_forgotten(&own.engine.snapshot()))?;
            own.engine.retain_wal(CONSUMER, None);
            *work = None;
            *own.definition.write() = None;
            own.counts.series.store(0, Ordering::Relaxed);
            own.counts.bytes.store(0, Ordering::Relaxed);
            Ok(())
        })
        .await?;
        answer("default detector dropped; the bits it has kept stay".into())
    }

    fn write(&self, state: stored::State) -> Result<()> {
        let written = self.engine.write(WriteBatch { state, ..WriteBatch::default() }).and_then(|handle| handle.wait());
        written.map(drop).map_err(|error| Error::from_engine(&error))
    }

    /// Numbers about it.
    pub(crate) fn stats(&self) -> DefaultDetectorStats {
        let on = self.definition.read().is_some();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let behind = self.engine.commits().borrow().0.saturating_sub(count(&self.counts.position));
        DefaultDetectorStats {
            on,
            lag: if on { behind } else { 0 },
            looked: count(&self.counts.looked),
            anomalous: count(&self.counts.anomalous),
            late: count(&self.counts.late),
            lost: count(&self.counts.lost),
            series: count(&self.counts.series),
            refused: count(&self.counts.refused),
            bytes: count(&self.counts.bytes),
            busy_seconds: Duration::from_nanos(count(&self.counts.busy_ns)).as_secs_f64(),
        }
    }

    /// `sys.default_detector`: one row if there is one.
    fn rows(&self) -> Result<RecordBatch> {
        let all: Vec<Definition> = self.definition.read().iter().cloned().collect();
        let stats = self.stats();
        let count = |value: u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(all.iter().map(|_| value))) };
        let rows = batch(vec![
            ("watches", texts(all.iter().map(|definition| Some(definition.matcher.as_str())))),
            ("since", times(all.iter().map(|definition| Some(definition.since_ns)))),
            ("series", count(stats.series)),
            ("series_refused", count(stats.refused)),
            ("samples", count(stats.looked)),
            ("anomalous", count(stats.anomalous)),
            ("late", count(stats.late)),
            ("lost", count(stats.lost)),
            ("lag_commits", count(stats.lag)),
            ("state_bytes", count(stats.bytes)),
            ("busy_seconds", numbers(all.iter().map(|_| Some(stats.busy_seconds)))),
            ("last_error", texts(all.iter().map(|_| self.error.read().clone()))),
        ]);
        rows.map_err(Error::from_datafusion)
    }
}

/// The table about it, by name.
pub(crate) fn table(detector: &Arc<DefaultDetector>) -> (&'static str, Listed<DefaultDetector>) {
    ("default_detector", Listed::new(detector, |detector, _: &Snapshot| detector.rows()))
}
