//! When the demo ends: Ctrl-C, SIGTERM, SIGHUP, or the time given with `--for`.
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use parking_lot::{Condvar, Mutex};
use tokio::signal::unix::{SignalKind, signal};

/// Exit code when a second signal ends the process at once.
const EXIT_FORCED: i32 = 130;

#[derive(Default)]
struct Flag {
    set: Mutex<bool>,
    changed: Condvar,
}

/// Says whether to go on.
pub(super) struct Stop {
    flag: Arc<Flag>,
    deadline: Option<Instant>,
}

impl Stop {
    /// Listens for signals from now on; the time runs from now on.
    ///
    /// # Errors
    /// When the signals cannot be listened for.
    pub(super) fn new(run_for: Option<Duration>) -> anyhow::Result<Self> {
        let flag = Arc::new(Flag::default());
        let heard = Arc::clone(&flag);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot listen for signals")?;
        let mut signals = {
            let _inside = runtime.enter();
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal)
        };
        let listen = move || {
            runtime.block_on(async {
                for count in 0.. {
                    let waits = signals.iter_mut().flatten().map(|signal| Box::pin(signal.recv()));
                    futures::future::select_all(waits).await;
                    if count > 0 {
                        std::process::exit(EXIT_FORCED);
                    }
                    *heard.set.lock() = true;
                    heard.changed.notify_all();
                }
            });
        };
        std::thread::Builder::new().name("demo-signals".into()).spawn(listen).context("cannot listen for signals")?;
        Ok(Self { flag, deadline: run_for.and_then(|time| Instant::now().checked_add(time)) })
    }

    /// Whether somebody asked for the end.
    pub(super) fn is_asked(&self) -> bool {
        *self.flag.set.lock()
    }

    /// Waits until `until`; `false` when the demo is over before.
    pub(super) fn wait(&self, until: Instant) -> bool {
        let end = self.deadline.map_or(until, |deadline| until.min(deadline));
        let mut set = self.flag.set.lock();
        while !*set && !self.flag.changed.wait_until(&mut set, end).timed_out() {}
        !*set && end == until
    }

    /// When the time is over, if there is an end to it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_ends_a_wait() {
        let stop = Stop::new(Some(Duration::from_millis(20))).unwrap();
        let now = Instant::now();
        assert!(stop.wait(now + Duration::from_millis(1)));
        assert!(!stop.wait(now + Duration::from_secs(60)));
        assert!(now.elapsed() < Duration::from_secs(30));
        assert!(!stop.is_asked());
    }
}
