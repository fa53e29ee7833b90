//! One data directory, its server and writers, from the first start to the last canary.
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::judge::judge;
use super::lane::Lane;
use super::questions::{ask, cut_newest_log, files_written, read};
use super::{Counts, Options};
use crate::lives::{Drawn, Progress};
use crate::mortal::{Mortal, Sizes};
use crate::peer::Binaries;

/// See the module.
pub(super) struct Life<'a> {
    options: &'a Options,
    progress: &'a Progress,
    cycles: u32,
    store: Mortal,
    lanes: Vec<Lane>,
    rng: SmallRng,
    counts: Counts,
}

impl<'a> Life<'a> {
    /// A server with its files in `dir` and everything drawn from `seed`.
    pub(super) fn new(
        options: &'a Options,
        progress: &'a Progress,
        binaries: &Binaries,
        dir: &Path,
        (seed, cycles): Drawn,
    ) -> Result<Self> {
        let start_ms = crate::run::now_ms()? - 4 * 3_600_000;
        let lanes = (0..options.writers).map(|number| Lane::new(number, seed, start_ms)).collect();
        Ok(Self {
            options,
            progress,
            cycles,
            store: Mortal::new(binaries, dir)?,
            lanes,
            rng: SmallRng::seed_from_u64(seed),
            counts: Counts::default(),
        })
    }

    /// All kills, the last check and the canaries; ends early when another life has failed.
    pub(super) fn live(&mut self) -> Result<Counts> {
        // every metric is there before the first question
        self.store.start(&Sizes::largest())?;
        let address = self.store.address();
        self.lanes.iter_mut().try_for_each(|lane| lane.write_one(address))?;
        while self.counts.kills < self.cycles && !self.progress.failed() {
            let begun = Instant::now();
            let kill = self.counts.kills + 1;
            self.cycle().with_context(|| format!("at kill {kill}"))?;
            self.counts.seconds.push(begun.elapsed().as_secs_f64());
            self.progress.one_more();
        }
        if self.progress.failed() {
            return Ok(Counts::default());
        }
        self.start_and_check(true).context("at the end")?;
        self.counts.files = files_written(&self.store)?;
        self.counts.canaries = self.canaries()?;
        self.counts.rows = self.lanes.iter().map(Lane::rows).sum();
        self.counts.acknowledged = self.lanes.iter().map(Lane::acknowledged).sum();
        Ok(std::mem::take(&mut self.counts))
    }

    /// One kill: during an open, or after one, with its check and its load.
    fn cycle(&mut self) -> Result<()> {
        let in_recovery =
            f64::from(self.counts.kills_in_recovery) < self.options.in_recovery * f64::from(self.counts.kills);
        if in_recovery {
            // now and then the open ends before the kill: that one counts as another kind of kill
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
            let stored = ask(&self.store, lane, everything)?;
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
        let stored = ask(&self.store, lane, true)?;
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
        let all = read(&self.store)?;
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
        let before = lane.rows.clone();
        // Of a request that repeats what is known nothing would be missed.
        while lane.rows == before {
            lane.write_one(self.store.address())?;
        }
        self.store.kill()?;
        cut_newest_log(&self.store, 1)?;
        self.store.start(&Sizes::largest())?;
        let verdict = judge(lane, &ask(&self.store, lane, false)?, false);
        ensure!(verdict.lost + verdict.wrong > 0, "canary: an acknowledged request cut from the log was not missed");
        self.store.kill()
    }
}
