//! `crash`: the real server under load from several writers, killed with SIGKILL again and again, a fifth of the times while
//! it is opening its store. After each restart every acknowledged row must be there exactly once with its exact bits, and a
//! request that was never answered must be there wholly or not at all.
//!
//! ```text
//!  lanes (one writer each, own metric, own model) --remote write--> foretell   kill -9 at a random moment
//!    what was acknowledged, what is unsure                             | restart, other sizes, sometimes killed again
//!    judge <------------------ SQL, touched series; all now and then --+
//!  at the end: the directory opened with the engine, NaN payloads compared too; then the canaries
//! ```
//! | module | owns |
//! |---|---|
//! | [`life`] | one data directory, its server and writers, from the first start to the last canary |
//! | [`lane`] | a writer: what it sends and what it may rely on |
//! | [`judge`] | comparing what is stored with what a lane relies on |
//! | [`questions`] | what the server is asked, and what its directory holds when it is dead |
//!
//! Several servers live side by side, each one life after the other: a store that grew for a thousand kills would spend them
//! on comparing. Every life has a seed of its own, its last check and its canaries.
//!
//! The canaries are faults that must be found, or the run fails: falsified expectations, and a log whose last acknowledged
//! record was really cut off.
mod judge;
mod lane;
mod life;
mod questions;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow, ensure};
use serde_json::json;

use crate::peer::Binaries;
use crate::process::scratch_dir;
use crate::report::{Report, percentile, print};
use life::Life;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Kills
    #[arg(long, default_value_t = 1000)]
    pub cycles: u32,
    /// Servers side by side, each with its own directory, writers and part of the kills
    #[arg(long, default_value_t = 2)]
    pub servers: u32,
    /// Writers of each server
    #[arg(long, default_value_t = 4)]
    pub writers: u32,
    /// Longest time between readiness and kill, milliseconds
    #[arg(long, default_value_t = 100)]
    pub write_ms: u64,
    /// Share of the kills that come while the store is being opened
    #[arg(long, default_value_t = 0.2)]
    pub in_recovery: f64,
    /// Kills of one data directory; after them the server starts anew with an empty one, for a check takes the longer the
    /// more there is to compare
    #[arg(long, default_value_t = 125)]
    pub store_cycles: u32,
    /// Compare everything, not only what was touched, at every so-manieth kill
    #[arg(long, default_value_t = 50)]
    pub everything_every: u32,
    /// Seed of the load, the sizes and the moments; each data directory has one of its own, from this on
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Also write the figures to the results folder
    #[arg(long)]
    pub record: bool,
}

/// What was done and seen.
#[derive(Default)]
struct Counts {
    kills: u32,
    kills_in_recovery: u32,
    rows: usize,
    rows_checked: u64,
    acknowledged: u64,
    applied: u64,
    absent: u64,
    files: u64,
    canaries: u32,
    seconds: Vec<f64>,
    ready_ms: Vec<f64>,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.kills_in_recovery += other.kills_in_recovery;
        self.rows += other.rows;
        self.rows_checked += other.rows_checked;
        self.acknowledged += other.acknowledged;
        self.applied += other.applied;
        self.absent += other.absent;
        self.files += other.files;
        self.canaries += other.canaries;
        self.seconds.extend(other.seconds);
        self.ready_ms.extend(other.ready_ms);
    }
}

/// What the lives have in common.
struct Progress {
    kills: AtomicU32,
    failed: AtomicBool,
    begun: Instant,
}

impl Progress {
    fn one_more(&self) {
        let kills = self.kills.fetch_add(1, Ordering::Relaxed) + 1;
        if kills.is_multiple_of(100) {
            print(&format!("{kills} kills, {} s", self.begun.elapsed().as_secs()));
        }
    }
    fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Runs it.
///
/// # Errors
/// On any difference, and when a canary is not found.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    ensure!(
        options.writers > 0 && options.servers > 0 && options.store_cycles > 0 && options.cycles >= options.servers,
        "--writers, --servers and --store-cycles must be 1 or more, and --cycles not less than --servers"
    );
    let progress = Progress { kills: AtomicU32::new(0), failed: AtomicBool::new(false), begun: Instant::now() };
    let mut counts = Counts::default();
    let outcomes: Vec<Result<Counts>> = thread::scope(|scope| {
        let lives: Vec<_> = (0..options.servers)
            .map(|n| {
                let progress = &progress;
                scope.spawn(move || live(options, progress, binaries, n))
            })
            .collect();
        lives.into_iter().map(|life| life.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))).collect()
    });
    for outcome in outcomes {
        counts.add(outcome?);
    }
    report(options, &counts, &progress, results)
}

/// The lives of server `n`, one after the other, each with a fresh store and a seed of its own.
fn live(options: &Options, progress: &Progress, binaries: &Binaries, n: u32) -> Result<Counts> {
    let mut counts = Counts::default();
    let mut left = options.cycles / options.servers + u32::from(n < options.cycles % options.servers);
    let mut seed = options.seed.wrapping_add(n.into());
    while left > 0 && !progress.failed() {
        let cycles = left.min(options.store_cycles);
        counts.add(live_once(options, progress, binaries, (seed, cycles))?);
        left -= cycles;
        seed = seed.wrapping_add(options.servers.into());
    }
    Ok(counts)
}

/// One life; a failure says how to repeat it alone.
fn live_once(options: &Options, progress: &Progress, binaries: &Binaries, drawn: (u64, u32)) -> Result<Counts> {
    let dir = scratch_dir("crash")?;
    let outcome = Life::new(options, progress, binaries, dir.path(), drawn).and_then(|mut life| life.live());
    if outcome.is_err() {
        progress.failed.store(true, Ordering::Relaxed);
        print(&format!("the files of the run are kept in {}", dir.keep().display()));
        let (seed, cycles) = drawn;
        print(&format!(
            "replay: bench crash --seed {seed} --cycles {cycles} --store-cycles {cycles} --servers 1 --writers {}",
            options.writers
        ));
    }
    outcome
}

fn report(options: &Options, counts: &Counts, progress: &Progress, results: &Path) -> Result<()> {
    let mut report = Report::new(
        "crash",
        json!({"cycles": options.cycles, "servers": options.servers, "writers": options.writers, "write_ms": options.write_ms, "store_cycles": options.store_cycles, "seed": options.seed}),
    );
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let (seconds, ready) = (sorted(&counts.seconds), sorted(&counts.ready_ms));
    report.figure("kills", counts.kills.into(), "SIGKILL of the real server");
    report.figure("kills_in_recovery", counts.kills_in_recovery.into(), "between listening and readiness");
    report.figure("requests_acknowledged", counts.acknowledged as f64, "");
    report.figure("rows", counts.rows as f64, "series and time, each with its last acknowledged value");
    report.figure("rows_checked", counts.rows_checked as f64, "over all restarts");
    report.figure("unanswered_there", counts.applied as f64, "requests in flight at a kill, found whole");
    report.figure("unanswered_absent", counts.absent as f64, "requests in flight at a kill, not there at all");
    report.figure("files_written", counts.files as f64, "numbers given to segments, series files and state files");
    report.figure("lost", 0.0, "any would have ended the run");
    report.figure("duplicated", 0.0, "");
    report.figure("wrong", 0.0, "other bits, half a request, or rows nobody acknowledged");
    report.figure("canaries_caught", counts.canaries.into(), "of as many");
    report.figure("ready_ms_p50", percentile(&ready, 0.5), "start to ready after a kill");
    report.figure("ready_ms_max", percentile(&ready, 1.0), "");
    report.figure("cycle_seconds_p50", percentile(&seconds, 0.5), "");
    report.figure("seconds", progress.begun.elapsed().as_secs_f64(), "the whole run");
    report.print();
    if options.record {
        report.write(results)?;
    }
    Ok(())
}
