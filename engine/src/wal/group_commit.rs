//! One thread that makes everything queued durable with one write and one `fdatasync`, then publishes it in order.
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::memtable::CommittedBatch;
use crate::types::{LabelSet, Lsn, SeriesId};
use crate::write_batch::WriteBatch;

use super::writer::Writer;

/// With `sync_every_commit = false`, how old an unsynced commit may get.
const SYNC_INTERVAL: Duration = Duration::from_millis(500);

/// Resolves when a batch is durable and visible. Either await it or [`CommitHandle::wait`].
#[must_use = "a batch is not acknowledged until its handle resolves"]
pub struct CommitHandle(Arc<Slot>);

#[derive(Default)]
struct Slot {
    state: Mutex<(Option<Result<Lsn>>, Option<Waker>)>,
    done: Condvar,
}

impl Slot {
    fn complete(&self, result: Result<Lsn>) {
        let mut state = self.state.lock();
        state.0 = Some(result);
        self.done.notify_all();
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    }
}

impl CommitHandle {
    /// Blocks until the batch is durable and visible.
    ///
    /// # Errors
    /// `Io` or `Unavailable` when it is not; the caller must keep its data and may retry.
    pub fn wait(self) -> Result<Lsn> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(result) = state.0.take() {
                return result;
            }
            self.0.done.wait(&mut state);
        }
    }
}

impl Future for CommitHandle {
    type Output = Result<Lsn>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state.lock();
        match state.0.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

struct Waiting {
    batch: Arc<WriteBatch>,
    payload: Vec<u8>,
    /// Memory of both.
    bytes: usize,
    slot: Arc<Slot>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Memory of what waits and of the group being written.
    bytes: usize,
    closed: bool,
    /// The log shall go on in a new file.
    new_file: bool,
    poison: Option<Arc<str>>,
}

/// Where writers leave their batches.
pub(crate) struct CommitQueue {
    queue: Mutex<Queue>,
    arrived: Condvar,
    bytes_max: usize,
    /// `fdatasync` calls since open.
    pub(crate) syncs: AtomicU64,
    /// Bytes appended since open.
    pub(crate) bytes_written: AtomicU64,
}

impl CommitQueue {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            arrived: Condvar::new(),
            bytes_max,
            syncs: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
        }
    }

    /// Queues a batch and the payload of its record.
    ///
    /// # Errors
    /// `Unavailable` when the queue is full, closed or poisoned.
    pub(crate) fn push(&self, batch: Arc<WriteBatch>, payload: Vec<u8>) -> Result<CommitHandle> {
        let mut queue = self.queue.lock();
        if let Some(cause) = &queue.poison {
            return Err(poisoned(cause));
        }
        if queue.closed {
            return Err(Error::Unavailable("the store is closing; send again after its restart".into()));
        }
        let bytes = payload.len() + batch.bytes();
        if queue.bytes > 0 && queue.bytes + bytes > self.bytes_max {
            return Err(Error::Unavailable("the commit queue is full; retry after a moment".into()));
        }
        let slot = Arc::new(Slot::default());
        queue.bytes += bytes;
        queue.waiting.push_back(Waiting { batch, payload, bytes, slot: Arc::clone(&slot) });
        self.arrived.notify_one();
        Ok(CommitHandle(slot))
    }

    /// Memory of what waits and of the group being written.
    pub(crate) fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// A group of `bytes` is written or refused.
    fn done(&self, bytes: usize) {
        self.queue.lock().bytes -= bytes;
    }

    /// Asks the commit thread to go on in a new file, so that the present one can go once it is flushed.
    pub(crate) fn ask_for_new_file(&self) {
        self.queue.lock().new_file = true;
        self.arrived.notify_all();
    }

    /// Whether writes are refused for good.
    pub(crate) fn poison(&self) -> Option<Arc<str>> {
        self.queue.lock().poison.clone()
    }

    /// Refuses all writes from now on: what is on disk is no longer known.
    pub(crate) fn set_poison(&self, cause: &Error) {
        let mut queue = self.queue.lock();
        if queue.poison.is_none() {
            tracing::error!(%cause, "refusing writes until the store is opened again");
            queue.poison = Some(cause.to_string().into());
        }
    }

    /// Refuses new batches; those queued are still committed.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.arrived.notify_all();
    }
}

fn poisoned(cause: &str) -> Error {
    Error::Unavailable(format!("writes are refused after a final fault ({cause}); open the store again"))
}

/// What the commit thread works with.
pub(crate) struct GroupCommit<D, R, P> {
    pub(crate) queue: Arc<CommitQueue>,
    pub(crate) writer: Writer,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long to wait for company.
    pub(crate) window: Duration,
    pub(crate) sync_every_commit: bool,
    /// Takes the definitions of series created so far.
    pub(crate) take_definitions: D,
    /// Takes back definitions that did not reach the log.
    pub(crate) return_definitions: R,
    /// Makes commits visible.
    pub(crate) publish: P,
}

impl<D, R, P> GroupCommit<D, R, P>
where
    D: Fn() -> Vec<(SeriesId, LabelSet)>,
    R: Fn(Vec<(SeriesId, LabelSet)>),
    P: Fn(Vec<CommittedBatch>),
{
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self, mut next_lsn: u64) {
        let (mut company, mut synced_at) = (0, self.clock.now_ns());
        while let Some(group) = self.next_group(company) {
            company = group.len();
            let bytes = group.iter().map(|waiting| waiting.bytes).sum();
            self.start_file_if_asked(next_lsn);
            if group.is_empty() || self.queue.poison().is_some() {
                self.sync_if_due(&mut synced_at);
                self.queue.done(bytes);
                let cause = self.queue.poison();
                for waiting in group {
                    waiting.slot.complete(Err(poisoned(cause.as_deref().unwrap_or("unknown"))));
                }
                continue;
            }
            let committed = self.commit(&group, next_lsn);
            self.queue.done(bytes);
            match committed {
                Ok(()) => {
                    let first_lsn = next_lsn;
                    next_lsn += group.len() as u64;
                    let (batches, slots): (Vec<_>, Vec<_>) = group.into_iter().map(|w| (w.batch, w.slot)).unzip();
                    let commits = (first_lsn..)
                        .zip(batches)
                        .map(|(lsn, batch)| CommittedBatch { lsn: Lsn(lsn), batch })
                        .collect();
                    (self.publish)(commits);
                    for (lsn, slot) in (first_lsn..).zip(slots) {
                        slot.complete(Ok(Lsn(lsn)));
                    }
                    self.sync_if_due(&mut synced_at);
                }
                Err(error) => {
                    // Without room nothing was written: the next group may find some.
                    if !matches!(error, Error::DiskFull { .. }) {
                        self.queue.set_poison(&error);
                    }
                    for waiting in group {
                        waiting.slot.complete(Err(copy(&error)));
                    }
                }
            }
        }
        if self.queue.poison().is_none()
            && let Err(error) = self.writer.sync()
        {
            self.queue.set_poison(&error);
        }
    }

    /// All that is queued; empty when only the sync interval has passed; `None` at the end.
    fn next_group(&self, company: usize) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.queue.lock();
        while queue.waiting.is_empty() {
            if queue.closed {
                return None;
            }
            if queue.new_file {
                return Some(Vec::new());
            }
            if self.writer.is_dirty() {
                if self.queue.arrived.wait_for(&mut queue, SYNC_INTERVAL).timed_out() {
                    return Some(Vec::new());
                }
            } else {
                self.queue.arrived.wait(&mut queue);
            }
        }
        // The writers of the last group are probably encoding again: one sync for all of them beats one each.
        while queue.waiting.len() < company && !queue.closed {
            if self.queue.arrived.wait_for(&mut queue, self.window).timed_out() {
                break;
            }
        }
        Some(queue.waiting.drain(..).collect())
    }

    fn commit(&mut self, group: &[Waiting], first_lsn: u64) -> Result<()> {
        // Batches were queued before this call, and a series is pending before its id is known to any writer: so the
        // definitions of all series of this group are either in the log already or taken here.
        let definitions = (self.take_definitions)();
        let batches: Vec<&[u8]> = group.iter().map(|waiting| &*waiting.payload).collect();
        let appended = self.writer.append_group(&definitions, &batches, first_lsn);
        let bytes = appended.inspect_err(|_| (self.return_definitions)(definitions))?;
        self.queue.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        if self.sync_every_commit { self.sync() } else { Ok(()) }
    }

    fn start_file_if_asked(&mut self, next_lsn: u64) {
        if !std::mem::take(&mut self.queue.queue.lock().new_file) || self.queue.poison().is_some() {
            return;
        }
        match self.writer.start_file(next_lsn) {
            Err(Error::DiskFull { .. }) | Ok(()) => {}
            Err(error) => self.queue.set_poison(&error),
        }
    }

    fn sync(&mut self) -> Result<()> {
        self.writer.sync()?;
        self.queue.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn sync_if_due(&mut self, synced_at: &mut i64) {
        let now = self.clock.now_ns();
        if self.writer.is_dirty()
            && self.queue.poison().is_none()
            && now.saturating_sub(*synced_at) >= SYNC_INTERVAL.as_nanos() as i64
        {
            *synced_at = now;
            if let Err(error) = self.sync() {
                self.queue.set_poison(&error);
            }
        }
    }
}

fn copy(error: &Error) -> Error {
    match error {
        Error::Io { path, source } => {
            Error::Io { path: path.clone(), source: std::io::Error::new(source.kind(), source.to_string()) }
        }
        Error::DiskFull { path, needed_bytes, free_bytes } => {
            Error::DiskFull { path: path.clone(), needed_bytes: *needed_bytes, free_bytes: *free_bytes }
        }
        other => Error::Unavailable(other.to_string()),
    }
}
