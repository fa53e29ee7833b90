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

use anyhow::{Result, ensure};
use serde_json::json;

use crate::lives::{Lives, Progress};
use crate::peer::Binaries;
use crate::report::{Report, percentile};
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

/// Runs it.
///
/// # Errors
/// On any difference, and when a canary is not found.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    ensure!(options.writers > 0, "--writers must be 1 or more");
    let lives = Lives {
        what: "crash",
        replay: format!(" --writers {}", options.writers),
        cycles: options.cycles,
        servers: options.servers,
        store_cycles: options.store_cycles,
        seed: options.seed,
    };
    let (lived, progress) =
        lives.live(|progress, dir, drawn| Life::new(options, progress, binaries, dir, drawn)?.live())?;
    let mut counts = Counts::default();
    lived.into_iter().for_each(|life| counts.add(life));
    report(options, &counts, &progress, results)
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
    report.figure("seconds", progress.seconds(), "the whole run");
    report.print();
    if options.record {
        report.write(results)?;
    }
    Ok(())
}
