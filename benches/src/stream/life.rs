//! One data directory, its server and everybody around it, from the first start to the last canary.
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::load::{Kind, Load};
use super::objects::{self, Asked, Compared, FOLLOWED_SELECT, compare_notices, difference};
use super::subscriber::{self, Subscriber};
use super::webhook::Webhook;
use super::{Counts, Options};
use crate::lives::{Drawn, Progress};
use crate::mortal::{Mortal, Sizes};
use crate::peer::Binaries;

/// Requests of each kind that are sent at the end, when nothing is killed any more.
const REQUESTS_AT_LEAST: u32 = 100;
/// How long everything may take to come right.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);
const STORED_HOURS: i64 = 5;

/// See the module.
pub(super) struct Life<'a> {
    options: &'a Options,
    progress: &'a Progress,
    cycles: u32,
    server: Mortal,
    loads: Vec<Load>,
    queries: Vec<Compared>,
    paused: Vec<&'static str>,
    webhook: Webhook,
    subscriber: Subscriber,
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
        let start_ms = crate::run::now_ms()? - STORED_HOURS * 3_600_000;
        let start_ms = start_ms - start_ms.rem_euclid(60_000);
        Ok(Self {
            options,
            progress,
            cycles,
            server: Mortal::new(binaries, dir)?,
            loads: [Kind::Any, Kind::Watched, Kind::Lines].map(|kind| Load::new(kind, seed, start_ms)).into(),
            queries: objects::queries(),
            paused: Vec::new(),
            webhook: Webhook::bind(seed)?,
            subscriber: Subscriber::new(seed),
            rng: SmallRng::seed_from_u64(seed),
            counts: Counts::default(),
        })
    }

    /// All kills, the last comparison and the canaries; ends early when another life has failed.
    pub(super) fn live(mut self) -> Result<Counts> {
        let stop = AtomicBool::new(false);
        // They outlive the server.
        let (webhook, subscriber) = (std::mem::replace(&mut self.webhook, Webhook::bind(0)?), Subscriber::new(0));
        let subscriber = std::mem::replace(&mut self.subscriber, subscriber);
        thread::scope(|scope| {
            scope.spawn(|| webhook.serve(&stop));
            scope.spawn(|| subscriber.follow(&stop));
            let outcome = self.all(&webhook, &subscriber);
            stop.store(true, Ordering::Release);
            outcome
        })?;
        Ok(self.counts)
    }

    fn all(&mut self, webhook: &Webhook, subscriber: &Subscriber) -> Result<()> {
        self.server.start(&Sizes::largest())?;
        let address = self.server.address();
        self.loads.iter_mut().try_for_each(|load| load.send_some(address, 1))?;
        let mut statements: Vec<String> = self.queries.iter().map(Compared::create).collect();
        statements.extend(objects::alerts(&webhook.url()?));
        for statement in &statements {
            self.asked().run(statement)?;
        }
        subscriber.server_is_at(Some(address));
        while self.counts.kills < self.cycles && !self.progress.failed() {
            let kill = self.counts.kills + 1;
            self.cycle(webhook, subscriber).with_context(|| format!("at kill {kill}"))?;
            self.progress.one_more();
        }
        if self.progress.failed() {
            return Ok(());
        }
        self.end(webhook, subscriber).context("at the end")
    }

    fn asked(&self) -> Asked<'_> {
        Asked { client: self.server.client(), base: format!("http://{}", self.server.address()) }
    }

    fn start(&mut self, sizes: &Sizes, subscriber: &Subscriber) -> Result<()> {
        subscriber.server_is_at(None);
        self.server.start(sizes)?;
        subscriber.server_is_at(Some(self.server.address()));
        Ok(())
    }

    /// One kill: during an open, or after one, with load, pauses and now and then a comparison before it.
    fn cycle(&mut self, webhook: &Webhook, subscriber: &Subscriber) -> Result<()> {
        let in_recovery =
            f64::from(self.counts.kills_in_recovery) < self.options.in_recovery * f64::from(self.counts.kills);
        let sizes = Sizes::any(&mut self.rng);
        if in_recovery {
            let share = self.rng.random_range(0.0..1.1);
            subscriber.server_is_at(None);
            self.counts.kills_in_recovery += u32::from(self.server.kill_while_opening(&sizes, share)?);
            self.counts.kills += 1;
            return Ok(());
        }
        self.start(&sizes, subscriber)?;
        if self.rng.random_bool(self.options.compared) {
            self.settle(webhook, subscriber)?;
        }
        if self.rng.random_bool(0.3) {
            self.pause_or_resume()?;
        }
        let after = Duration::from_micros(self.rng.random_range(2_000..=self.options.write_ms.max(3) * 1000));
        self.load(after)?;
        self.counts.kills += 1;
        Ok(())
    }

    fn pause_or_resume(&mut self) -> Result<()> {
        let verb = if self.paused.len() < 2 && self.rng.random_bool(0.6) { "PAUSE" } else { "RESUME" };
        let name = if verb == "PAUSE" {
            let names: Vec<&'static str> = self.queries.iter().map(|query| query.name).collect();
            let Some(&name) = names.choose(&mut self.rng) else { return Ok(()) };
            self.paused.push(name);
            self.counts.pauses += 1;
            name
        } else {
            let Some(name) = self.paused.pop() else { return Ok(()) };
            if self.paused.contains(&name) {
                return Ok(());
            }
            name
        };
        self.asked().run(&format!("ALTER CONTINUOUS QUERY {name} {verb}")).map(drop)
    }

    /// Everybody sends until the server is killed `after` a while.
    fn load(&mut self, after: Duration) -> Result<()> {
        let (address, stop) = (self.server.address(), AtomicBool::new(false));
        let (server, stop) = (&mut self.server, &stop);
        thread::scope(|scope| {
            let senders = self.loads.iter_mut().map(|load| scope.spawn(move || load.send_until(address, stop)));
            let senders: Vec<_> = senders.collect();
            thread::sleep(after);
            let killed = server.kill();
            stop.store(true, Ordering::Release);
            for sender in senders {
                sender.join().map_err(|_| anyhow!("a sender panicked"))??;
            }
            killed
        })
    }

    /// Waits until everything is as it must be; an error says what is not.
    fn settle(&mut self, webhook: &Webhook, subscriber: &Subscriber) -> Result<()> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        loop {
            let why = match self.look(webhook, subscriber)? {
                Ok((comparisons, rows)) => {
                    self.counts.comparisons += comparisons;
                    self.counts.rows_compared += rows;
                    return Ok(());
                }
                Err(why) => why,
            };
            ensure!(Instant::now() < deadline, "not right within {SETTLED_WITHIN:?}: {why}; {}", self.server.tail());
            thread::sleep(POLL);
        }
    }

    /// One look at everything: comparisons and rows, or the first thing that is not as it must be.
    fn look(&self, webhook: &Webhook, subscriber: &Subscriber) -> Result<std::result::Result<(u64, u64), String>> {
        if let Some(fault) = webhook.received().fault.or(subscriber.followed().fault) {
            bail!(fault);
        }
        let asked = self.asked();
        let behind = "SELECT name, state, lag, last_error FROM (SELECT * FROM sys.continuous_queries UNION ALL SELECT * FROM sys.detectors) \
                      WHERE state <> 'paused' AND (state <> 'running' OR lag > 0)";
        let behind = asked.run(behind)?;
        if !behind.is_empty() {
            return Ok(Err(format!("still at work: {}", Value::from(behind.concat()))));
        }
        let (mut comparisons, mut rows) = (0, 0);
        let mut outcomes = vec![asked.compare_detector()?];
        for query in self.queries.iter().filter(|query| !self.paused.contains(&query.name)) {
            outcomes.push(asked.compare(query)?);
        }
        outcomes.push(compare_notices(&asked.expected_notices()?, &webhook.received()));
        let expected = subscriber::expected(asked.run(FOLLOWED_SELECT)?)?;
        outcomes.push(subscriber.followed().compare(&expected));
        for outcome in outcomes {
            match outcome {
                Ok(compared) => rows += compared,
                Err(why) => return Ok(Err(why)),
            }
            comparisons += 1;
        }
        Ok(Ok((comparisons, rows)))
    }

    /// Nothing rests, everything has come: the last comparison, the figures, and the canaries.
    fn end(&mut self, webhook: &Webhook, subscriber: &Subscriber) -> Result<()> {
        let sizes = Sizes::any(&mut self.rng);
        self.start(&sizes, subscriber)?;
        for name in std::mem::take(&mut self.paused) {
            self.asked().run(&format!("ALTER CONTINUOUS QUERY {name} RESUME"))?;
        }
        let address = self.server.address();
        // Between kills that came one upon the other there may have been hardly any rows: something must be told.
        self.loads.iter_mut().try_for_each(|load| load.send_some(address, REQUESTS_AT_LEAST))?;
        self.loads.iter_mut().try_for_each(|load| load.finish(address))?;
        self.settle(webhook, subscriber)?;
        let (received, followed) = (webhook.received(), subscriber.followed());
        let of_queries = self.asked().run("SELECT sum(late), sum(recomputed) FROM sys.continuous_queries")?.concat();
        let [late, recomputed] = of_queries.as_slice() else { bail!("no figures of queries") };
        let counts = &mut self.counts;
        counts.requests = self.loads.iter().map(|load| load.acknowledged).sum();
        counts.repeated = self.loads.iter().map(|load| load.repeated).sum();
        counts.late = late.as_u64().unwrap_or_default();
        counts.recomputed = recomputed.as_u64().unwrap_or_default();
        counts.notices = received.told.values().map(|told| told.len() as u64).sum();
        counts.notices_again = received.again;
        counts.refused = received.refused;
        counts.rows_told = followed.told;
        counts.resumed = followed.resumed;
        counts.begun_anew = followed.begun_anew;
        self.counts.canaries = self.canaries(webhook, subscriber)?;
        self.server.kill()
    }

    /// Faults that must be found, in what was just found right.
    fn canaries(&self, webhook: &Webhook, subscriber: &Subscriber) -> Result<u32> {
        let (asked, mut caught) = (self.asked(), 0);
        let mut must_differ = |what: &str, found: std::result::Result<u64, String>| {
            caught += 1;
            ensure!(found.is_err(), "canary: {what} was not noticed");
            Ok(())
        };
        let expected = asked.expected_notices()?;
        let told = webhook.received();
        let Some(of) = told.told.keys().next().cloned() else { bail!("nothing was told") };
        let mut lost = told.clone();
        lost.told.entry(of.clone()).and_modify(|told| told.truncate(told.len() - 1));
        must_differ("a notice that is missing", compare_notices(&expected, &lost))?;
        let mut later = told.clone();
        later.told.entry(of.clone()).and_modify(|told| told[0].starts_at += 1);
        must_differ("a notice of another instant", compare_notices(&expected, &later))?;
        let mut invented = told;
        invented.told.insert(("high".to_owned(), "nobody".to_owned()), expected[&of].clone());
        must_differ("a notice of nothing", compare_notices(&expected, &invented))?;
        let rows = subscriber::expected(asked.run(FOLLOWED_SELECT)?)?;
        let mut followed = subscriber.followed();
        followed.rows.pop_first();
        must_differ("a row that was not told", followed.compare(&rows))?;
        let lines = ["a,1".to_owned(), "b,2".to_owned()];
        must_differ("a row twice", difference("canary", &[&lines[..], &lines[1..]].concat(), &lines))?;
        // A row that no query has written, and one that it has written and that is gone.
        for query in self.queries.iter().filter(|query| query.name == "some" || query.name == "minutes") {
            let altered = query.altered();
            must_differ("a SELECT over other rows", asked.compare(&altered)?)?;
        }
        Ok(caught)
    }
}
