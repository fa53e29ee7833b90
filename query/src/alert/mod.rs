//! Alerts: what is told to somebody when a condition holds for long enough.
//!
//! ```text
//!  rows of a detector, as they come ──┐
//!  rows of a SELECT, every so often ──┼─> machine: pending, firing, resolved ─> one record: state, samples of ALERTS, notices
//!  series of a PromQL expression   ───┘                                                                           │
//!                                           server: webhooks, Alertmanagers <── notices, until each is taken <────┘
//! ```
//! | module | owns |
//! |---|---|
//! | [`statement`] | CREATE, SHOW, DESCRIBE, DROP |
//! | [`definition`] | what is stored, and under which keys |
//! | [`machine`] | the life of alerts; pure |
//! | [`watch`] | looking at what is due: SELECTs and expressions, over a database |
//! | [`follow`] | alerts of detectors: rows as they come |
//! | [`rows`] | rows of a detector's table, put together from commits; conditions over them |
//! | [`outcome`] | what a look changes, and the record that says so |
//! | [`silence`] | when nobody is told of which alerts |
//! | [`list`] | `sys.alerts`, `sys.notifications` |
//!
//! Invariants: state and notices are stored in one record, so that each change is told, and none twice under two keys; a notice is
//! forgotten only when somebody has taken it, or is kept as given up.
mod definition;
mod follow;
pub(crate) mod list;
mod machine;
mod outcome;
mod rows;
mod silence;
pub(crate) mod statement;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::RecordBatch;
use foretell_engine::clock::{Clock, SystemClock};
use foretell_engine::{Engine, LabelSet, Lsn, Snapshot, WriteBatch};
use hashbrown::HashSet;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::continuous::status::{answer, properties};
use crate::database::Database;
use crate::error::{Error, ErrorKind, Result};
use crate::planner;
use crate::statement::{Existing, preview};
use definition::{DEAD, DEFINITIONS, Definition, NEXT, OUTBOX, On, Watched, definition_key, notice_key, state_key};
use silence::Silences;
use statement::AlertStatement;

pub use definition::{Notice, Target};

/// Alerts there may be.
const ALERTS_MAX: usize = 4_096;
/// Notices that wait to be taken; beyond that the oldest are given up.
const OUTBOX_MAX: usize = 100_000;
/// Notices that were given up and are kept, the newest.
const DEAD_KEPT: usize = 10_000;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Every alert of a store.
pub(crate) struct Alerts {
    engine: Engine,
    alerts: RwLock<BTreeMap<String, Arc<Alert>>>,
    /// One CREATE or DROP at a time.
    changing: tokio::sync::Mutex<()>,
    /// Notices that have not been taken, by number.
    outbox: Mutex<BTreeMap<u64, Arc<Notice>>>,
    /// Tells who delivers of new notices.
    told: Arc<Notify>,
    next_notice: AtomicU64,
    counts: Counts,
    followed: Mutex<follow::Followed>,
    silences: Silences,
}

/// What has been done since the start.
#[derive(Debug, Default)]
struct Counts {
    evaluations: AtomicU64,
    failures: AtomicU64,
    fired: AtomicU64,
    resolved: AtomicU64,
    given_up: AtomicU64,
    silenced: AtomicU64,
}

/// Numbers about alerts, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlertStats {
    /// Alerts there are.
    pub alerts: u64,
    /// Pending now.
    pub pending: u64,
    /// Firing now.
    pub firing: u64,
    /// Commits that an alert of a detector has not looked at yet, the most.
    pub lag: u64,
    /// Notices that wait to be taken.
    pub notices: u64,
    /// Notices that were given up since the start.
    pub given_up: u64,
    /// Notices that nobody will be told of, because of a silence, since the start.
    pub silenced: u64,
    /// Times that something was looked at since the start.
    pub evaluations: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Alerts that began to fire since the start.
    pub fired: u64,
    /// Alerts that ended since the start.
    pub resolved: u64,
}

/// A pending or firing alert, for others to show.
#[derive(Clone, Debug)]
pub struct ActiveAlert {
    /// The name of its definition.
    pub alert: String,
    /// Labels, `alertname` included; the values of added ones are templates.
    pub labels: Vec<(String, String)>,
    /// Templates.
    pub annotations: Vec<(String, String)>,
    /// Labels that templates know.
    pub of: LabelSet,
    /// Who is told.
    pub notify: Vec<Target>,
    /// Whether nobody has been told that it fires, because of a silence.
    pub silenced: bool,
    /// Since when the condition has held, ns.
    pub active_at: i64,
    /// Since when it fires, ns; it is pending otherwise.
    pub fired_at: Option<i64>,
    /// The value when the condition held last.
    pub value: f64,
}

/// One alert.
struct Alert {
    definition: Definition,
    /// As others see it, and as it is stored.
    known: RwLock<Known>,
    /// Whoever holds it is the only one who looks.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    watched: Watched,
    /// Commits up to here have been looked at; at or after the stored position.
    read_to: Lsn,
    error: Option<String>,
    dropped: bool,
}

impl Alert {
    fn new(definition: Definition, watched: Watched) -> Arc<Self> {
        let read_to = watched.position;
        let known = RwLock::new(Known { watched, read_to, error: None, dropped: false });
        Arc::new(Self { definition, known, looking: tokio::sync::Mutex::new(()) })
    }

    /// Labels of the alert of a row with labels `of`.
    fn labels(&self, of: &LabelSet) -> Vec<(String, String)> {
        let mut labels: BTreeMap<&str, &str> = of.iter().filter(|(name, _)| *name != "__name__").collect();
        labels.extend(self.definition.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        labels.insert("alertname", &self.definition.name);
        labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

impl Alerts {
    /// The alerts of a store.
    ///
    /// # Errors
    /// `Internal` when what is stored of them is damaged.
    pub(crate) fn open(engine: Engine) -> Result<Self> {
        let snapshot = engine.snapshot();
        let mut alerts = BTreeMap::new();
        for (_, bytes) in snapshot.state_prefix(DEFINITIONS)? {
            let definition = Definition::decode(&bytes)?;
            let stored = snapshot.state(&state_key(&definition.name))?;
            let watched = stored.map_or_else(|| Ok(Watched::new(snapshot.lsn())), |bytes| Watched::decode(&bytes))?;
            // Before the first flush can drop the log.
            definition.retain(&engine, watched.position);
            alerts.insert(definition.name.clone(), Alert::new(definition, watched));
        }
        let outbox = snapshot.state_prefix(OUTBOX)?.into_iter().map(|(_, bytes)| Notice::decode(&bytes));
        let outbox = outbox.map(|notice| notice.map(|notice| (notice.seq, Arc::new(notice))));
        let outbox: BTreeMap<u64, Arc<Notice>> = outbox.collect::<Result<_>>()?;
        let dead = match snapshot.state_keys(DEAD).last() {
            Some(newest) => snapshot.state(newest)?.map(|bytes| Notice::decode(&bytes)).transpose()?,
            None => None,
        };
        let newest = outbox.keys().next_back().copied().max(dead.map(|notice| notice.seq));
        let stored = snapshot.state(NEXT)?.and_then(|bytes| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?)));
        let next = newest.map_or(1, |newest| newest + 1).max(stored.unwrap_or(1));
        Ok(Self {
            engine,
            alerts: RwLock::new(alerts),
            changing: tokio::sync::Mutex::default(),
            outbox: Mutex::new(outbox),
            told: Arc::default(),
            next_notice: AtomicU64::new(next),
            counts: Counts::default(),
            followed: Mutex::default(),
            silences: Silences::open(&snapshot)?,
        })
    }

    /// Looks at everything again and again, until the database is closed: when rows come, and when something is to be asked.
    pub(crate) async fn run(database: Weak<Database>, mut commits: tokio::sync::watch::Receiver<Lsn>) {
        loop {
            let Some(database) = database.upgrade().filter(|database| !database.is_closed()) else { return };
            commits.borrow_and_update();
            let alerts = Arc::clone(database.alerts());
            alerts.step_all(&database).await;
            let pause = watch::pause(&alerts);
            drop((alerts, database));
            tokio::select! {
                gone = commits.changed() => if gone.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
            // Commits of this time are looked at together.
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn all(&self) -> Vec<Arc<Alert>> {
        self.alerts.read().values().cloned().collect()
    }

    /// Refuses to let a detector go that alerts watch.
    ///
    /// # Errors
    /// `Invalid`, naming one of them.
    pub(crate) fn unwatched(&self, detector: &str) -> Result<()> {
        let watches =
            |alert: &Arc<Alert>| matches!(&alert.definition.on, On::Detector { name, .. } if name == detector);
        match self.all().into_iter().find(watches) {
            Some(alert) => Err(Error::invalid(format!(
                "alert {} watches detector {detector}: drop the alert first",
                alert.definition.name
            ))),
            None => Ok(()),
        }
    }

    fn find(&self, name: &str) -> Result<Arc<Alert>> {
        self.alerts
            .read()
            .get(name)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no alert {name}: SHOW ALERTS lists all")))
    }

    /// Runs one statement; the answer is a small table.
    ///
    /// # Errors
    /// `Invalid`, `NotFound`, or as the engine.
    pub(crate) async fn execute(
        self: &Arc<Self>,
        database: &Arc<Database>,
        statement: AlertStatement,
    ) -> Result<RecordBatch> {
        match statement {
            AlertStatement::Create { definition, existing } => self.create(database, definition, existing).await,
            AlertStatement::Preview(definition) => self.preview(&definition),
            AlertStatement::Show => list::definitions(&self.all()),
            AlertStatement::Describe(name) => properties(&list::definitions(&[self.find(&name)?])?),
            AlertStatement::Drop { name, if_exists } => self.drop_alert(&name, if_exists).await,
            AlertStatement::Silence { silence, existing } => self.silence(silence, existing).await,
            AlertStatement::PreviewSilence(silence) => {
                silence::filter(&silence)?;
                let is = self.silences.get(&silence.name).map(|silence| silence.properties());
                preview("silence", &silence.name, is.as_ref(), &silence.properties())
            }
            AlertStatement::ShowSilences => self.silences.rows(),
            AlertStatement::DropSilence { name, if_exists } => self.drop_silence(&name, if_exists).await,
        }
    }

    async fn create(
        self: &Arc<Self>,
        database: &Arc<Database>,
        definition: Definition,
        existing: Existing,
    ) -> Result<RecordBatch> {
        let _one = self.changing.lock().await;
        let name = definition.name.clone();
        let old = self.alerts.read().get(&name).cloned();
        if let Some(old) = &old {
            let same = old.definition.properties() == definition.properties();
            if let Some(said) = existing.settled("alert", &name, same)? {
                return answer(said);
            }
        } else if self.alerts.read().len() >= ALERTS_MAX {
            let what = format!("there are {ALERTS_MAX} alerts already: drop one first");
            return Err(Error::new(ErrorKind::Execution, what));
        }
        let snapshot = self.engine.snapshot();
        watch::check(database, &definition, &snapshot).await?;
        if let Some(old) = &old {
            self.end(old).await?;
        }
        let watched = Watched::new(snapshot.lsn());
        definition.retain(&self.engine, snapshot.lsn());
        self.write(WriteBatch {
            state: vec![(definition_key(&name), Some(definition.encode())), (state_key(&name), Some(watched.encode()))],
            ..WriteBatch::default()
        })
        .await?;
        self.alerts.write().insert(name.clone(), Alert::new(definition, watched));
        answer(format!("alert {name} {}", if old.is_some() { "replaced" } else { "created" }))
    }

    fn preview(&self, definition: &Definition) -> Result<RecordBatch> {
        let old = self.alerts.read().get(&definition.name).cloned();
        let is = old.map(|old| old.definition.properties());
        preview("alert", &definition.name, is.as_ref(), &definition.properties())
    }

    async fn drop_alert(self: &Arc<Self>, name: &str, if_exists: bool) -> Result<RecordBatch> {
        let _one = self.changing.lock().await;
        let alert = match self.find(name) {
            Ok(alert) => alert,
            Err(_) if if_exists => return answer(format!("there is no alert {name}")),
            Err(error) => return Err(error),
        };
        self.end(&alert).await?;
        self.alerts.write().remove(name);
        self.engine.retain_wal(&consumer(name), None);
        answer(format!("alert {name} dropped; what it fired has ended"))
    }

    /// Ends an alert: what fires is told to have ended, and nothing is left of it.
    async fn end(self: &Arc<Self>, alert: &Arc<Alert>) -> Result<()> {
        let _looking = alert.looking.lock().await;
        let watched = alert.known.read().watched.clone();
        let mut outcome = outcome::Outcome::new(&watched);
        outcome.end(SystemClock.now_ns());
        let (mut batch, notices) = outcome.record(self, alert)?;
        batch.state.retain(|(key, _)| *key != state_key(&alert.definition.name));
        batch.state.push((definition_key(&alert.definition.name), None));
        batch.state.push((state_key(&alert.definition.name), None));
        self.write(batch).await?;
        self.followed.lock().forget(&alert.definition.name);
        alert.known.write().dropped = true;
        self.publish(notices);
        Ok(())
    }

    async fn write(&self, batch: WriteBatch) -> Result<()> {
        let engine = self.engine.clone();
        planner::on_large_stack(move || {
            let written = engine.write(batch).and_then(|handle| handle.wait());
            written.map(drop).map_err(|e| Error::from_engine(&e))
        })
        .await
    }

    /// Lets who delivers see notices that are stored.
    fn publish(&self, notices: Vec<Notice>) {
        if notices.is_empty() {
            return;
        }
        let mut outbox = self.outbox.lock();
        outbox.extend(notices.into_iter().map(|notice| (notice.seq, Arc::new(notice))));
        drop(outbox);
        self.told.notify_waiters();
        self.told.notify_one();
    }

    /// Tells of new notices.
    pub(crate) fn told(&self) -> Arc<Notify> {
        Arc::clone(&self.told)
    }

    /// Notices that have not been taken, oldest first.
    pub(crate) fn notices(&self) -> Vec<Arc<Notice>> {
        self.outbox.lock().values().cloned().collect()
    }

    /// Who there are notices for.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let outbox = self.outbox.lock();
        let targets: BTreeSet<&Target> = outbox.values().map(|notice| &notice.target).collect();
        targets.into_iter().cloned().collect()
    }

    /// The oldest notices for `target`, at most `count`.
    pub(crate) fn notices_for(&self, target: &Target, count: usize) -> Vec<Arc<Notice>> {
        let quiet = self.silences.at(SystemClock.now_ns());
        let outbox = self.outbox.lock();
        let mut held: HashSet<(&str, &LabelSet)> = HashSet::new();
        let told = outbox.values().filter(|notice| notice.target == *target).filter(|notice| {
            if quiet.is_empty() {
                return true;
            }
            // What comes after a notice that is held back, of the same alert, waits with it.
            let of = (notice.alert.as_str(), &notice.of);
            if quiet.about(notice).is_some() {
                held.insert(of);
            }
            !held.contains(&of)
        });
        told.take(count).cloned().collect()
    }

    /// Forgets notices that were taken.
    ///
    /// # Errors
    /// As the engine: then they will be delivered again.
    pub(crate) async fn taken(&self, seqs: &[u64]) -> Result<()> {
        let state = seqs.iter().map(|&seq| (notice_key(OUTBOX, seq), None)).collect();
        self.write(WriteBatch { state, ..WriteBatch::default() }).await?;
        let mut outbox = self.outbox.lock();
        for seq in seqs {
            outbox.remove(seq);
        }
        Ok(())
    }

    /// Keeps a notice as given up.
    ///
    /// # Errors
    /// As the engine: then it will be delivered again.
    pub(crate) async fn give_up(&self, seq: u64, why: &str) -> Result<()> {
        let Some(notice) = self.outbox.lock().get(&seq).cloned() else { return Ok(()) };
        let dead = Notice { error: Some(why.to_owned()), ..Notice::clone(&notice) };
        let mut state = vec![(notice_key(OUTBOX, seq), None), (notice_key(DEAD, seq), Some(dead.encode()))];
        let kept = self.engine.snapshot().state_keys(DEAD);
        let surplus = (kept.len() + 1).saturating_sub(DEAD_KEPT);
        state.extend(kept.into_iter().take(surplus).map(|key| (key, None)));
        self.write(WriteBatch { state, ..WriteBatch::default() }).await?;
        self.counts.given_up.fetch_add(1, Ordering::Relaxed);
        self.outbox.lock().remove(&seq);
        Ok(())
    }

    /// Everything that is pending or firing.
    pub(crate) fn active(&self) -> Vec<ActiveAlert> {
        let mut active = Vec::new();
        let silent = self.silences.at(SystemClock.now_ns()).is_empty();
        let notices = if silent { Vec::new() } else { self.notices() };
        let held = notices.iter().zip(self.held_by(&notices)).filter(|(_, by)| by.is_some());
        let held: HashSet<(&str, &LabelSet)> = held.map(|(notice, _)| (notice.alert.as_str(), &notice.of)).collect();
        for alert in self.all() {
            let watched = alert.known.read().watched.clone();
            active.extend(watched.alerts.into_iter().map(|(of, state)| ActiveAlert {
                silenced: held.contains(&(alert.definition.name.as_str(), &of)),
                alert: alert.definition.name.clone(),
                labels: alert.labels(&of),
                annotations: alert.definition.annotations.clone(),
                of,
                notify: alert.definition.notify.clone(),
                active_at: state.active_at,
                fired_at: state.fired_at,
                value: state.value,
            }));
        }
        active
    }

    /// Numbers about alerts.
    pub(crate) fn stats(&self) -> AlertStats {
        let newest = self.engine.commits().borrow().0;
        let (mut pending, mut firing, mut alerts, mut lag) = (0, 0, 0, 0);
        for alert in self.all() {
            alerts += 1;
            if alert.definition.detector().is_some() {
                lag = lag.max(newest.saturating_sub(alert.known.read().read_to.0));
            }
            for state in alert.known.read().watched.alerts.values() {
                *(if state.fired_at.is_some() { &mut firing } else { &mut pending }) += 1;
            }
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        AlertStats {
            alerts,
            pending,
            firing,
            lag,
            notices: self.outbox.lock().len() as u64,
            given_up: count(&self.counts.given_up),
            silenced: count(&self.counts.silenced),
            evaluations: count(&self.counts.evaluations),
            failures: count(&self.counts.failures),
            fired: count(&self.counts.fired),
            resolved: count(&self.counts.resolved),
        }
    }

    /// The number of a new notice.
    fn number(&self) -> u64 {
        self.next_notice.fetch_add(1, Ordering::Relaxed)
    }

    /// The oldest notices that are too many, to be given up.
    fn surplus(&self) -> Vec<u64> {
        let outbox = self.outbox.lock();
        outbox.keys().copied().take(outbox.len().saturating_sub(OUTBOX_MAX)).collect()
    }

    fn snapshot(&self) -> Snapshot {
        self.engine.snapshot()
    }
}

/// The name under which an alert holds back the log.
fn consumer(name: &str) -> String {
    format!("alert {name}")
}

impl Definition {
    /// Holds back the log after `position` if the alert reads it.
    fn retain(&self, engine: &Engine, position: Lsn) {
        if self.detector().is_some() {
            engine.retain_wal(&consumer(&self.name), Some(position));
        }
    }
}
