//! Servers side by side that are killed: each lives through one store after the other, every life with a seed of its own.
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};

use crate::process::scratch_dir;
use crate::report::print;

/// Kills after which it is said how many there were.
const SAID_EVERY: u32 = 100;

/// How many lives there are, and how long.
pub(crate) struct Lives {
    /// The subcommand of `bench`.
    pub(crate) what: &'static str,
    /// What else its replay needs.
    pub(crate) replay: String,
    /// Kills in all.
    pub(crate) cycles: u32,
    /// Servers side by side.
    pub(crate) servers: u32,
    /// Kills of one life.
    pub(crate) store_cycles: u32,
    /// The first life's; the others' follow.
    pub(crate) seed: u64,
}

/// What is drawn for one life: seed and kills.
pub(crate) type Drawn = (u64, u32);

/// What the lives have in common.
pub(crate) struct Progress {
    kills: AtomicU32,
    failed: AtomicBool,
    begun: Instant,
}

impl Progress {
    /// One more kill.
    pub(crate) fn one_more(&self) {
        let kills = self.kills.fetch_add(1, Ordering::Relaxed) + 1;
        if kills.is_multiple_of(SAID_EVERY) {
            print(&format!("{kills} kills, {:.0} s", self.seconds()));
        }
    }
    /// Whether another life has failed.
    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
    /// Since the beginning.
    pub(crate) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}

impl Lives {
    /// Lives all lives; what came of each.
    ///
    /// # Errors
    /// The first that failed; its files are kept, and it is said how to repeat it alone.
    pub(crate) fn live<C: Send>(
        &self,
        live: impl Fn(&Progress, &Path, Drawn) -> Result<C> + Sync,
    ) -> Result<(Vec<C>, Progress)> {
        ensure!(
            self.servers > 0 && self.store_cycles > 0 && self.cycles >= self.servers,
            "--servers and --store-cycles must be 1 or more, and --cycles not less than --servers"
        );
        let progress = Progress { kills: AtomicU32::new(0), failed: AtomicBool::new(false), begun: Instant::now() };
        let outcomes: Vec<Result<Vec<C>>> = thread::scope(|scope| {
            let (live, progress) = (&live, &progress);
            let servers = (0..self.servers).map(|n| scope.spawn(move || self.one_after_the_other(live, progress, n)));
            let servers: Vec<_> = servers.collect();
            let joined = servers.into_iter().map(|server| server.join());
            joined.map(|outcome| outcome.unwrap_or_else(|_| Err(anyhow!("a thread panicked")))).collect()
        });
        let mut lived = Vec::new();
        for outcome in outcomes {
            lived.extend(outcome?);
        }
        Ok((lived, progress))
    }

    /// The lives of server `n`.
    fn one_after_the_other<C>(
        &self,
        live: &impl Fn(&Progress, &Path, Drawn) -> Result<C>,
        progress: &Progress,
        n: u32,
    ) -> Result<Vec<C>> {
        let mut lived = Vec::new();
        let mut left = self.cycles / self.servers + u32::from(n < self.cycles % self.servers);
        let mut seed = self.seed.wrapping_add(n.into());
        while left > 0 && !progress.failed() {
            let cycles = left.min(self.store_cycles);
            let dir = scratch_dir(self.what)?;
            let outcome = live(progress, dir.path(), (seed, cycles));
            if outcome.is_err() {
                progress.failed.store(true, Ordering::Relaxed);
                print(&format!("the files of the run are kept in {}", dir.keep().display()));
                let Self { what, replay, .. } = self;
                print(&format!(
                    "replay: bench {what} --seed {seed} --cycles {cycles} --store-cycles {cycles} --servers 1{replay}"
                ));
            }
            lived.push(outcome?);
            left -= cycles;
            seed = seed.wrapping_add(self.servers.into());
        }
        Ok(lived)
    }
}
