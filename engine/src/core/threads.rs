//! The threads of an open store.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::segment::BlockDecoder;
use crate::types::Lsn;
use crate::version::Partition;
use crate::wal::{GroupCommit, Writer};

use super::Core;
use super::delete::SEALED_MAX;

/// How often ages are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Partitions whose indexes are read ahead after a start: dashboards mostly show the last hours.
const WARM_PARTITIONS: usize = 2;

/// Lets one thread sleep until there is work.
#[derive(Debug, Default)]
pub(crate) struct Wakeup {
    woken: Mutex<bool>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl Wakeup {
    pub(crate) fn wake(&self) {
        *self.woken.lock() = true;
        self.changed.notify_one();
    }
    /// Ends the thread that waits.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }
    /// Sleeps until woken or for `at_most`; `false` when the thread must end.
    fn wait(&self, at_most: Duration) -> bool {
        let mut woken = self.woken.lock();
        if !*woken {
            self.changed.wait_for(&mut woken, at_most);
        }
        *woken = false;
        !self.stopped.load(Ordering::Acquire)
    }
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
    /// Sleeps for `time` whoever calls; `false` when the thread must end.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let stopped = || self.stopped.load(Ordering::Acquire);
        self.changed.wait_while_for(&mut self.woken.lock(), |_| !stopped(), time);
        !stopped()
    }
}

/// The commit thread and the background threads; stopped one after the other.
#[derive(Default)]
pub(crate) struct Threads {
    commit: Mutex<Option<JoinHandle<()>>>,
    background: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    /// Starts the commit thread, which continues after `lsn`, and the background threads if they are wanted.
    pub(super) fn start(core: &Arc<Core>, writer: Writer, lsn: Lsn) -> Result<Self> {
        let threads = Self::default();
        let (pending, returned, publisher) = (Arc::clone(core), Arc::clone(core), Arc::clone(core));
        let commit = GroupCommit {
            queue: Arc::clone(&core.queue),
            writer,
            clock: Arc::clone(&core.clock),
            window: core.config.group_commit_window,
            sync_every_commit: core.config.sync_every_commit,
            take_definitions: move || pending.take_pending(),
            return_definitions: move |definitions| returned.return_pending(definitions),
            publish: move |commits| publisher.publish(commits),
        };
        *threads.commit.lock() = Some(spawn("commit", move || commit.run(lsn.0 + 1))?);
        if core.retention().is_set() || !core.config.retention_of.is_empty() {
            // What became too old while nobody was here.
            core.compactor.wake();
        }
        if core.config.background {
            let mut background = threads.background.lock();
            for (name, run) in
                [("sort", sort as fn(&Core)), ("flush", flush), ("compact", compact), ("warm-up", warm_up)]
            {
                let core = Arc::clone(core);
                background.push(spawn(name, move || run(&core))?);
            }
        }
        Ok(threads)
    }

    /// Commits what is queued and ends the commit thread.
    pub(crate) fn stop_commits(&self, core: &Core) {
        core.queue.close();
        join(self.commit.lock().take());
    }

    /// Ends the background threads.
    pub(crate) fn stop_background(&self, core: &Core) {
        core.tidier.stop();
        core.flusher.stop();
        core.compactor.stop();
        self.background.lock().drain(..).for_each(|thread| join(Some(thread)));
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place where the engine starts threads")]
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(format!("engine-{name}"));
    thread.spawn(run).map_err(cannot_start)
}

/// Runs `aside` on a thread of its own while `here` runs on this one; returns what both return.
#[allow(clippy::disallowed_methods, reason = "the one place where the engine starts threads")]
pub(super) fn beside<A: Send, H>(
    name: &str,
    aside: impl FnOnce() -> A + Send,
    here: impl FnOnce() -> H,
) -> Result<(A, H)> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(format!("engine-{name}")).spawn_scoped(scope, aside);
        let thread = thread.map_err(cannot_start)?;
        let here = here();
        match thread.join() {
            Ok(aside) => Ok((aside, here)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn cannot_start(error: std::io::Error) -> Error {
    Error::Unavailable(format!("cannot start a thread: {error}"))
}

fn join(thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("an engine thread panicked");
    }
}

fn sort(core: &Core) {
    // A tail becomes crowded by reading, too, which wakes nobody.
    while core.tidier.wait(TICK) {
        core.tidy();
    }
}

fn flush(core: &Core) {
    while core.flusher.wait(TICK) {
        if core.flush_is_due()
            && let Err(error) = core.flush()
        {
            if core.queue.poison().is_none() {
                tracing::warn!(%error, "flush failed; its rows stay in memory and in the log");
            }
            // A full disk does not empty itself at once, however often refused writers ask for a flush.
            if !core.flusher.pause(5 * TICK) {
                return;
            }
        }
    }
}

fn compact(core: &Core) {
    while core.compactor.wait(30 * TICK) {
        match core.compact() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Unavailable => {}
            Err(error) => tracing::warn!(%error, "compaction failed; the segments it read stay"),
        }
    }
}

/// Reads ahead, once, what small questions about the newest partitions would wait for: indexes, timestamps.
fn warm_up(core: &Core) {
    let newest: Vec<Partition> =
        core.live.lock().version.partitions.values().rev().take(WARM_PARTITIONS).cloned().collect();
    let go_on = || !core.tidier.is_stopped();
    let indexes = newest.iter().filter_map(|partition| partition.index.as_ref());
    let indexes = indexes.map(|index| core.catalogue.warm_up(index.number, &go_on));
    let mut decoder = BlockDecoder::sharing();
    let segments = newest.iter().flat_map(|partition| partition.segments.iter().rev());
    let pages = segments.map(|live| decoder.read_pages_ahead(&live.segment, &go_on));
    for done in indexes.chain(pages) {
        if let Err(error) = done
            && error.kind() != ErrorKind::Unavailable
        {
            tracing::warn!(%error, "what is read ahead cannot be read");
        }
    }
}

impl Core {
    fn flush_is_due(&self) -> bool {
        if self.queue.poison().is_some() {
            return false;
        }
        if self.disk_runs_short() {
            return true;
        }
        let age_max = i64::try_from(self.config.memtable_age_max.as_nanos()).unwrap_or(i64::MAX);
        let live = self.live.lock();
        let oldest = live.sealed.first().map_or(&live.active, |sealed| &sealed.memtable);
        let old = !oldest.is_empty() && self.clock.now_ns().saturating_sub(oldest.since_ns) >= age_max;
        old || live.sealed.len() >= SEALED_MAX
            || (live.deletes_press() && live.tombstones.newest() > Some(live.flushed))
            || self.memtable_bytes() >= self.config.memtable_bytes_max
    }
}
