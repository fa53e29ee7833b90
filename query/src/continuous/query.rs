//! One query between the statements that create and drop it: its worker while there is one, and how it looks from outside.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use foretell_engine::{Engine, Lsn, Snapshot, WriteBatch};
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::definition::{Definition, Progress};
use super::emit::is_large;
use super::feed::Look;
use super::state_prefixes;
use super::status::{Cost, State, Status};
use super::worker::{Shared, Worker};
use crate::error::{Error, ErrorKind, Result};
use crate::planner;

/// A step that is shorter than this is taken together with others.
const QUICK: Duration = Duration::from_millis(20);

/// A continuous query.
pub(super) struct Query {
    definition: Definition,
    seen: RwLock<Seen>,
    /// The worker, loaded at first use and after a failure. Whoever holds the lock is the only one at work.
    worker: Arc<tokio::sync::Mutex<Option<Worker>>>,
    attempts: Mutex<u32>,
    /// Whether its last step was short.
    quick: AtomicBool,
    /// Time that its steps took, ns.
    busy_ns: AtomicU64,
    /// When the runner steps it again, if it must not at once.
    rests_until: Mutex<Option<Instant>>,
}

/// What is seen from outside while the worker works.
struct Seen {
    progress: Progress,
    read_to: Lsn,
    /// Series or groups whose state is in memory.
    keys: usize,
    error: Option<String>,
    retired: bool,
    paused: bool,
}

impl Query {
    pub(super) fn new(definition: Definition, progress: Progress) -> Self {
        let paused = definition.paused;
        let seen = Seen { progress, read_to: progress.position, keys: 0, error: None, retired: false, paused };
        Self {
            definition,
            seen: RwLock::new(seen),
            worker: Arc::new(tokio::sync::Mutex::new(None)),
            attempts: Mutex::new(0),
            quick: AtomicBool::new(false),
            busy_ns: AtomicU64::new(0),
            rests_until: Mutex::new(None),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.definition.name
    }
    pub(super) fn definition(&self) -> &Definition {
        &self.definition
    }

    /// As seen from outside.
    pub(super) fn status(&self, snapshot: &Snapshot) -> Status {
        let newest = snapshot.lsn().0;
        let sizes = state_prefixes(self.name()).map(|prefix| snapshot.state_size(&prefix));
        let state_bytes = sizes.iter().map(|size| size.held_bytes + size.filed_bytes).sum();
        let seen = self.seen.read();
        let state = match (&seen.error, seen.progress.backfilling) {
            _ if seen.paused => State::Paused,
            (Some(_), _) => State::Failed,
            (None, true) => State::Backfilling,
            (None, false) => State::Running,
        };
        Status {
            definition: self.definition.clone(),
            state,
            progress: Progress { position: seen.read_to, ..seen.progress },
            lag: newest.saturating_sub(seen.read_to.0),
            last_error: seen.error.clone(),
            cost: Cost {
                keys: seen.keys as u64,
                state_bytes,
                busy_seconds: self.busy_ns.load(Ordering::Relaxed) as f64 / 1e9,
            },
        }
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        *self.attempts.lock()
    }

    /// When its rest ends, if it rests now.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.rests_until.lock().filter(|&until| now < until)
    }

    /// Whether commits up to `through` are in its rows.
    pub(super) fn is_at(&self, through: Lsn) -> bool {
        let seen = self.seen.read();
        seen.retired || seen.paused || (seen.read_to >= through && !seen.progress.backfilling && seen.error.is_none())
    }

    /// Works until all commits up to `through` are in the rows written.
    ///
    /// # Errors
    /// What went wrong, which is also kept for [`Query::status`].
    pub(super) async fn catch_up(self: &Arc<Self>, shared: &Shared, through: Lsn) -> Result<()> {
        while !self.is_at(through) {
            self.step(shared, None).await?;
        }
        Ok(())
    }

    /// How far it has come, if it works at all.
    pub(super) fn position(&self) -> Option<Lsn> {
        let seen = self.seen.read();
        (!seen.retired && !seen.paused).then_some(seen.read_to)
    }

    /// Moves on over commits without rows of its source, if it is loaded and at rest; `false` when it is to be stepped. Blocks.
    pub(super) fn pass_over(&self, look: &Look) -> bool {
        let Ok(mut slot) = self.worker.try_lock() else { return true };
        if self.rests() {
            return true;
        }
        let passed = slot.as_mut().is_some_and(|worker| worker.pass_over(look));
        if passed && let Some(worker) = &*slot {
            self.note(worker);
        }
        passed
    }

    /// One step of the worker, on a thread of its own, over what `look` sees or over all there is.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn step(self: &Arc<Self>, shared: &Shared, look: Option<Arc<Look>>) -> Result<()> {
        let mut slot = Arc::clone(&self.worker).lock_owned().await;
        if self.rests() {
            return Ok(());
        }
        let (query, shared) = (Arc::clone(self), shared.clone());
        let outcome = planner::on_large_stack(move || {
            let begun = Instant::now();
            let mut worker = match slot.take() {
                Some(worker) => worker,
                None => Worker::load(&shared, &query.definition)?,
            };
            let look = look.unwrap_or_else(|| Arc::new(shared.feed.look()));
            if let Some(record) = worker.step(&look)? {
                worker.committed(write(&shared.engine, record)?);
            }
            query.stepped(&worker, begun.elapsed());
            *slot = Some(worker);
            Ok(())
        })
        .await;
        self.ended(outcome.as_ref());
        outcome
    }

    /// Whether its steps are so short that others may wait for them.
    pub(super) fn is_quick(&self) -> bool {
        self.quick.load(Ordering::Relaxed)
    }

    fn stepped(&self, worker: &Worker, took: Duration) {
        self.note(worker);
        self.busy_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.quick.store(took < QUICK, Ordering::Relaxed);
        *self.rests_until.lock() = worker.rest().map(|rest| Instant::now() + rest.max(took * 10));
    }

    fn ended(&self, outcome: std::result::Result<&(), &Error>) {
        let mut attempts = self.attempts.lock();
        match outcome {
            Ok(()) => *attempts = 0,
            Err(error) => {
                *attempts = attempts.saturating_add(1);
                self.quick.store(false, Ordering::Relaxed);
                tracing::warn!(query = %self.definition.name, error = %error, "a continuous query failed");
                self.seen.write().error = Some(error.message.clone());
            }
        }
    }

    fn note(&self, worker: &Worker) {
        let mut seen = self.seen.write();
        seen.progress = worker.progress();
        seen.read_to = worker.read_to();
        seen.keys = worker.keys();
        seen.error = None;
    }

    /// Ends all work for good, once the current step is over.
    pub(super) async fn retire(&self) {
        let mut worker = self.worker.lock().await;
        self.seen.write().retired = true;
        self.quick.store(false, Ordering::Relaxed);
        *worker = None;
    }

    fn rests(&self) -> bool {
        let seen = self.seen.read();
        seen.retired || seen.paused
    }

    /// Lets it rest, once the current step is over, or go on.
    pub(super) async fn pause(&self, paused: bool) {
        let mut worker = self.worker.lock().await;
        let mut seen = self.seen.write();
        (seen.paused, seen.error) = (paused, None);
        if paused {
            // What it holds in memory it reads when it goes on.
            *worker = None;
        }
    }

    /// Takes [`Query::retire`] back.
    pub(super) fn revive(&self) {
        self.seen.write().retired = false;
    }

    /// Stores the position and lets go of the worker.
    pub(super) async fn stop(&self) {
        let mut slot = Arc::clone(&self.worker).lock_owned().await;
        let stored = planner::on_large_stack(move || match slot.take() {
            Some(mut worker) => worker.store_position(),
            None => Ok(()),
        })
        .await;
        if let Err(Error { kind, message }) = stored
            && kind != ErrorKind::Unavailable
        {
            tracing::warn!(query = %self.definition.name, error = %message, "could not store the position of a continuous query");
        }
    }
}

/// Steps queries that are at rest, one after the other on this thread: what comes of it is one record, or a few large ones.
pub(super) fn step_together(queries: &[Arc<Query>], shared: &Shared, look: &Look) {
    let mut group = Group::default();
    for query in queries {
        let Ok(mut slot) = query.worker.try_lock() else { continue };
        let Some(mut worker) = slot.take_if(|_| !query.rests()) else { continue };
        let begun = Instant::now();
        match worker.step(look) {
            Ok(record) => {
                let is_new = record.is_some();
                group.record.append(record.unwrap_or_default());
                group.stepped.push(Stepped { query, slot, worker, is_new, took: begun.elapsed() });
            }
            Err(error) => query.ended(Err(&error)),
        }
        if is_large(&group.record) {
            std::mem::take(&mut group).settle(&shared.engine);
        }
    }
    group.settle(&shared.engine);
}

/// Queries that have been stepped, and the record of all their steps.
#[derive(Default)]
struct Group<'a> {
    record: WriteBatch,
    stepped: Vec<Stepped<'a>>,
}

struct Stepped<'a> {
    query: &'a Arc<Query>,
    slot: tokio::sync::MutexGuard<'a, Option<Worker>>,
    worker: Worker,
    /// Whether its step has a part in the record.
    is_new: bool,
    took: Duration,
}

impl Group<'_> {
    /// Writes the record; queries that have a part in it fail with it.
    fn settle(self, engine: &Engine) {
        let is_new = self.stepped.iter().any(|stepped| stepped.is_new);
        let written = if is_new { write(engine, self.record) } else { Ok(Lsn(0)) };
        for Stepped { query, mut slot, mut worker, is_new, took } in self.stepped {
            match &written {
                Err(error) if is_new => query.ended(Err(error)),
                written => {
                    if let (true, Ok(record)) = (is_new, written) {
                        worker.committed(*record);
                    }
                    query.stepped(&worker, took);
                    *slot = Some(worker);
                    query.ended(Ok(&()));
                }
            }
        }
    }
}

/// Writes a record and waits until it is on stable storage. Answers its number.
fn write(engine: &Engine, record: WriteBatch) -> Result<Lsn> {
    engine.write(record).and_then(|handle| handle.wait()).map_err(|e| Error::from_engine(&e))
}
