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
//! | [`lane`] | a writer: what it sends and what it may rely on |
//! | [`judge`] | comparing what is stored with what a lane relies on |
//! | [`server`] | starting, killing and asking the server |
//!
//! The canaries are faults that must be found, or the run fails: falsified expectations, and a log whose last acknowledged
//! record was really cut off.
mod judge;
mod lane;
mod server;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::peer::Binaries;
use crate::process::scratch_dir;
use crate::report::{Report, percentile, print};
use judge::judge;
use lane::Lane;
use server::{Sizes, Store};

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Kills
    #[arg(long, default_value_t = 1000)]
    pub cycles: u32,
    /// Writers at once
    #[arg(long, default_value_t = 4)]
    pub writers: u32,
    /// Longest time between readiness and kill, milliseconds
    #[arg(long, default_value_t = 150)]
    pub write_ms: u64,
    /// Share of the kills that come while the store is being opened
    #[arg(long, default_value_t = 0.2)]
    pub in_recovery: f64,
    /// Compare everything, not only what was touched, at every so-manieth kill
    #[arg(long, default_value_t = 50)]
    pub everything_every: u32,
    /// Seed of the load, the sizes and the moments
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Also write the figures to the results folder
    #[arg(long)]
    pub record: bool,
}

/// Runs it.
///
/// # Errors
/// On any difference, and when a canary is not found.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let dir = scratch_dir("crash")?;
    let outcome = Run::new(options, binaries, dir.path()).and_then(|mut run| run.all(results));
    if outcome.is_err() {
        print(&format!("the files of the run are kept in {}", dir.keep().display()));
        print(&format!("replay: bench crash --seed {} --cycles {}", options.seed, options.cycles));
    }
    outcome
}

#[derive(Default)]
struct Counts {
    kills: u32,
    kills_in_recovery: u32,
    rows_checked: u64,
    applied: u64,
    absent: u64,
    seconds: Vec<f64>,
    ready_ms: Vec<f64>,
}

struct Run<'a> {
    options: &'a Options,
    store: Store,
    lanes: Vec<Lane>,
    rng: SmallRng,
    counts: Counts,
    begun: Instant,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, binaries: &Binaries, dir: &Path) -> Result<Self> {
        ensure!(options.writers > 0 && options.cycles > 0, "--writers and --cycles must be 1 or more");
        let start_ms = crate::run::now_ms()? - 4 * 3_600_000;
        let lanes = (0..options.writers).map(|number| Lane::new(number, options.seed, start_ms)).collect();
        Ok(Self {
            options,
            store: Store::new(binaries, dir)?,
            lanes,
            rng: SmallRng::seed_from_u64(options.seed),
            counts: Counts::default(),
            begun: Instant::now(),
        })
    }

    fn all(&mut self, results: &Path) -> Result<()> {
        // every metric is there before the first question
        self.store.start(&Sizes::largest())?;
        let address = self.store.address();
        self.lanes.iter_mut().try_for_each(|lane| lane.write_one(address))?;
        while self.counts.kills < self.options.cycles {
            let begun = Instant::now();
            let kill = self.counts.kills + 1;
            self.cycle().with_context(|| format!("at kill {kill}"))?;
            self.counts.seconds.push(begun.elapsed().as_secs_f64());
            if kill.is_multiple_of(100) {
                let (rows, seconds) = (self.rows(), self.begun.elapsed().as_secs());
                print(&format!(
                    "{kill} kills, {} in recovery, {rows} rows, {seconds} s",
                    self.counts.kills_in_recovery
                ));
            }
        }
        self.start_and_check(true).context("at the end")?;
        let files = self.store.files_written()?;
        let canaries = self.canaries()?;
        self.report(files, canaries, results)
    }

    fn rows(&self) -> usize {
        self.lanes.iter().map(Lane::rows).sum()
    }

    /// One kill: during an open, or after one, with its check and its load.
    fn cycle(&mut self) -> Result<()> {
        let in_recovery =
            f64::from(self.counts.kills_in_recovery) < self.options.in_recovery * f64::from(self.counts.kills);
        if in_recovery {
            let share = self.rng.random_range(0.0..1.1);
            let sizes = Sizes::any(&mut self.rng);
            self.counts.kills_in_recovery += u32::from(self.store.kill_while_opening(&sizes, share)?);
            self.counts.kills += 1;
            return Ok(());
        }
        let everything = self.counts.kills % self.options.everything_every == self.options.everything_every - 1;
        self.start_and_check(everything)?;
        let after = Duration::from_micros(self.rng.random_range(2_000..=self.options.write_ms.max(3) * 1000));
        self.load(after)?;
        self.counts.kills += 1;
        Ok(())
    }

    fn start_and_check(&mut self, everything: bool) -> Result<()> {
        let ready = self.store.start(&Sizes::any(&mut self.rng))?;
        self.counts.ready_ms.push(ready.as_secs_f64() * 1e3);
        for lane in &mut self.lanes {
            let stored = self.store.ask(lane, everything)?;
            let verdict = judge(lane, &stored, everything);
            self.counts.rows_checked += verdict.rows;
            verdict.demand_clean().with_context(|| format!("writer {}", lane.number()))?;
            match verdict.unsure_is_there {
                Some(true) => self.counts.applied += 1,
                Some(false) => self.counts.absent += 1,
                None => {}
            }
            lane.settle(verdict.unsure_is_there == Some(true));
            lane.checked();
        }
        Ok(())
    }

    /// All lanes write until the server is killed `after` a while.
    fn load(&mut self, after: Duration) -> Result<()> {
        let (address, stop) = (self.store.address(), AtomicBool::new(false));
        let store = &mut self.store;
        thread::scope(|scope| {
            let writers: Vec<_> = self
                .lanes
                .iter_mut()
                .map(|lane| {
                    let stop = &stop;
                    scope.spawn(move || lane.write_until(address, stop))
                })
                .collect();
            thread::sleep(after);
            let killed = store.kill();
            stop.store(true, Ordering::Release);
            for writer in writers {
                writer.join().map_err(|_| anyhow!("a writer panicked"))??;
            }
            killed
        })
    }

    /// Faults that must be found; the server is running and everything was just found right.
    fn canaries(&mut self) -> Result<u32> {
        let lane = &self.lanes[0];
        let stored = self.store.ask(lane, true)?;
        let mut caught = 0;
        for falsified in lane.falsified() {
            let (what, lane) = falsified?;
            let verdict = judge(&lane, &stored, true);
            ensure!(verdict.demand_clean().is_err(), "canary: {what} was not noticed");
            caught += 1;
        }
        let mut twice = stored.clone();
        twice.extend_from_within(..1);
        ensure!(judge(lane, &twice, true).duplicated == 1, "canary: a row answered twice was not noticed");
        caught += 1;
        self.store.kill()?;
        self.read_with_the_engine()?;
        self.cut_the_log()?;
        Ok(caught + 1)
    }

    /// What the engine reads from the killed server's directory, NaN payloads included.
    fn read_with_the_engine(&mut self) -> Result<()> {
        let all = self.store.read()?;
        for lane in &mut self.lanes {
            let stored = all.get(&lane.number()).cloned().unwrap_or_default();
            let verdict = judge(lane, &stored, true);
            self.counts.rows_checked += verdict.rows;
            verdict.demand_clean().with_context(|| format!("writer {}, read with the engine", lane.number()))?;
        }
        Ok(())
    }

    /// Really loses the last acknowledged request: the end of the log is cut off between kill and restart.
    fn cut_the_log(&mut self) -> Result<()> {
        self.store.start(&Sizes::largest())?;
        let lane = &mut self.lanes[0];
        lane.write_one(self.store.address())?;
        self.store.kill()?;
        self.store.cut_newest_log(1)?;
        self.store.start(&Sizes::largest())?;
        let verdict = judge(lane, &self.store.ask(lane, false)?, false);
        ensure!(verdict.lost + verdict.wrong > 0, "canary: an acknowledged request cut from the log was not missed");
        self.store.kill()
    }

    fn report(&self, files: u64, canaries: u32, results: &Path) -> Result<()> {
        let (options, counts) = (self.options, &self.counts);
        let mut report = Report::new(
            "crash",
            json!({"cycles": options.cycles, "writers": options.writers, "write_ms": options.write_ms, "seed": options.seed}),
        );
        let sorted = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_by(f64::total_cmp);
            values
        };
        let (seconds, ready) = (sorted(&counts.seconds), sorted(&counts.ready_ms));
        let acknowledged: u64 = self.lanes.iter().map(Lane::acknowledged).sum();
        report.figure("kills", counts.kills.into(), "SIGKILL of the real server");
        report.figure("kills_in_recovery", counts.kills_in_recovery.into(), "between listening and readiness");
        report.figure("requests_acknowledged", acknowledged as f64, "");
        report.figure("rows", self.rows() as f64, "series and time, each with its last acknowledged value");
        report.figure("rows_checked", counts.rows_checked as f64, "over all restarts");
        report.figure("unanswered_there", counts.applied as f64, "requests in flight at a kill, found whole");
        report.figure("unanswered_absent", counts.absent as f64, "requests in flight at a kill, not there at all");
        report.figure("files_written", files as f64, "numbers given to segments, series files and state files");
        report.figure("lost", 0.0, "any would have ended the run");
        report.figure("duplicated", 0.0, "");
        report.figure("wrong", 0.0, "other bits, half a request, or rows nobody acknowledged");
        report.figure("canaries_caught", canaries.into(), "of as many");
        report.figure("ready_ms_p50", percentile(&ready, 0.5), "start to ready after a kill");
        report.figure("ready_ms_max", percentile(&ready, 1.0), "");
        report.figure("cycle_seconds_p50", percentile(&seconds, 0.5), "");
        report.figure("seconds", self.begun.elapsed().as_secs_f64(), "the whole run");
        report.print();
        if options.record {
            report.write(results)?;
        }
        Ok(())
    }
}
