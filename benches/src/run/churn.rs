//! `churn`: a tenth of the series is replaced every ten minutes, for a day, on a clock of its own: what the index costs in
//! memory and on disk, whether that stays bounded, and what questions to it take.
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use foretell_engine::clock::ManualClock;
use foretell_engine::fs::OsFs;
use foretell_engine::{Engine, EngineConfig, MatchOp, Matcher, Selector, SeriesId, TimeRange, WriteBatch};
use serde_json::json;

use crate::process::{disk_usage, own_usage, scratch_dir};
use crate::report::{Report, median, print};
use crate::workload::{Fleet, Kind};

const HOUR_NS: i64 = 3_600_000_000_000;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Series alive at a time
    #[arg(long, default_value_t = 100_000)]
    pub series: usize,
    /// Hours of data
    #[arg(long, default_value_t = 24.0)]
    pub hours: f64,
    /// Minutes between two samples of a series; fewer than the workload's own interval, as the series are what counts
    #[arg(long, default_value_t = 5)]
    pub every_minutes: u64,
    /// Hours of a time partition
    #[arg(long, default_value_t = 6)]
    pub partition_hours: u64,
    /// Seed of the workload
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// An engine that is fed scrapes, and how its series are found again.
struct Store {
    engine: Engine,
    clock: Arc<ManualClock>,
    hashers: [RandomState; 2],
    ids: Vec<SeriesId>,
}

impl Store {
    /// Resolves and writes a scrape as a server would: keys first, labels of the unknown ones.
    fn scrape(&mut self, fleet: &mut Fleet, round: u64) -> Result<usize> {
        let (mut keys, mut labels, mut batch) = (Vec::new(), Vec::new(), WriteBatch::default());
        let hashers = &self.hashers;
        fleet.scrape(round, |bytes, ts_ms, value| {
            keys.push(u128::from(hashers[0].hash_one(bytes)) << 64 | u128::from(hashers[1].hash_one(bytes)));
            labels.push(Box::<[u8]>::from(bytes));
            batch.ts.push(ts_ms * 1_000_000);
            batch.values.push(value);
        });
        let unknown = self.engine.lookup(&keys, &mut self.ids);
        let named = unknown.iter().map(|&i| Ok((keys[i], super::label_set(&labels[i])?)));
        let named = named.collect::<Result<Vec<_>>>()?;
        for (i, id) in unknown.into_iter().zip(self.engine.resolve_keyed(&named)) {
            self.ids[i] = id?;
        }
        batch.series.extend_from_slice(&self.ids);
        let rows = batch.len();
        self.engine.write(batch)?.wait()?;
        Ok(rows)
    }
}

/// Runs it.
///
/// # Errors
/// When series are refused, or what is left after the old partitions went is not bounded.
pub fn run(options: &Options, results: &Path) -> Result<()> {
    let dir = scratch_dir("churn")?;
    let start_ms = super::start_ms(options.hours)? / 86_400_000 * 86_400_000;
    let mut fleet = Kind::Churn.fleet(options.series, options.seed, start_ms);
    let alive = fleet.series() as u64;
    let mut config = EngineConfig::new(dir.path());
    config.background = false;
    config.partition_width = Duration::from_secs(options.partition_hours.max(1) * 3600);
    let clock = Arc::new(ManualClock::new(start_ms * 1_000_000));
    let engine = Engine::open_with(config, Arc::new(OsFs), Arc::<ManualClock>::clone(&clock))?;
    let mut store = Store { engine, clock, hashers: [RandomState::new(), RandomState::new()], ids: Vec::new() };
    let mut report = Report::new(
        "churn",
        json!({"series": alive, "hours": options.hours, "every_minutes": options.every_minutes,
               "partition_hours": options.partition_hours, "seed": options.seed}),
    );

    let before = own_usage()?.rss_bytes;
    store.scrape(&mut fleet, 0)?;
    store.engine.flush()?;
    let grown = own_usage()?.rss_bytes.saturating_sub(before);
    report.figure("rss_bytes_per_series", grown as f64 / alive as f64, "engine after one scrape and a flush");
    let head = store.engine.stats().index_bytes;
    report.figure(
        "head_bytes_per_series",
        head as f64 / alive as f64,
        "of them the index of active series, as it reckons",
    );
    let index = index_bytes(dir.path())?;
    report.figure("catalogue_bytes_per_series", index.0 as f64 / alive as f64, "RocksDB, not yet compacted");
    report.figure("series_file_bytes_per_series", index.1 as f64 / alive as f64, "");

    feed(&mut store, &mut fleet, options, &mut report)?;
    let ever = store.engine.stats().series;
    let index = index_bytes(dir.path())?;
    report.figure("series_ever", ever as f64, "");
    report.figure("catalogue_bytes_per_series_ever", index.0 as f64 / ever as f64, "");
    report.figure("series_file_bytes_per_series_ever", index.1 as f64 / ever as f64, "");
    ask(&store, options, start_ms, &mut report)?;

    let end_ns = start_ms * 1_000_000 + (options.hours * HOUR_NS as f64) as i64;
    let (dropped, elapsed, _) = super::timed(|| Ok(store.engine.drop_before(end_ns - 6 * HOUR_NS)?))?;
    report.figure("partitions_dropped", dropped as f64, "all but the last six hours");
    report.figure("drop_seconds", elapsed.as_secs_f64(), "");
    let left = store.engine.snapshot().cardinality()?.series;
    report.figure("series_left", left as f64, "");
    // Alive, six hours and a partition of churn, and what is still active.
    let bound = alive as f64 * (1.0 + 0.6 * (6 + options.partition_hours) as f64 + 2.3);
    ensure!(left as f64 <= bound, "{left} series are left, at most {bound} were expected");
    store.engine.close()?;
    drop(store);
    report.figure("catalogue_bytes_left", index_bytes(dir.path())?.0 as f64, "after a close");
    report.finish(results)?;
    Ok(())
}

/// Feeds the day.
fn feed(store: &mut Store, fleet: &mut Fleet, options: &Options, report: &mut Report) -> Result<()> {
    let alive = fleet.series() as u64;
    let step = (options.every_minutes.max(1) * 60_000 / fleet.interval_ms as u64).max(1);
    let (mut active_max, mut rss_early, mut rss_late) = (0, 0, 0);
    let rounds: Vec<u64> = (0..fleet.rounds(options.hours)).step_by(step as usize).skip(1).collect();
    for (i, &round) in rounds.iter().enumerate() {
        store.clock.advance(step as i64 * fleet.interval_ms * 1_000_000);
        store.scrape(fleet, round)?;
        if round % (step * 6) < step {
            store.engine.flush()?;
        }
        active_max = active_max.max(store.engine.stats().active_series);
        let rss = own_usage()?.rss_bytes;
        // The first sixth warms up.
        if (rounds.len() / 6..rounds.len() / 2).contains(&i) {
            rss_early = rss_early.max(rss);
        } else if i >= rounds.len() / 2 {
            rss_late = rss_late.max(rss);
        }
        if i % (rounds.len() / 8).max(1) == 0 {
            let stats = store.engine.stats();
            print(&format!("{round}: {} series, {} active, {} MiB", stats.series, stats.active_series, rss >> 20));
        }
    }
    store.engine.flush()?;
    report.figure(
        "active_max_to_alive",
        active_max as f64 / alive as f64,
        "a series goes one to two hours after its end",
    );
    report.figure("rss_late_to_early", rss_late as f64 / rss_early as f64, "second half of the run to its first");
    ensure!(active_max as f64 <= alive as f64 * 2.4, "{active_max} active series of {alive} alive");
    Ok(())
}

/// What questions to the index take.
fn ask(store: &Store, options: &Options, start_ms: i64, report: &mut Report) -> Result<()> {
    let start = start_ms * 1_000_000;
    let hours = |from: f64, to: f64| TimeRange {
        start: start + (from * HOUR_NS as f64) as i64,
        end: start + (to * HOUR_NS as f64) as i64,
    };
    let regex = vec![Matcher { name: "pod".into(), op: MatchOp::Regex, value: "0000001.".into() }];
    let snapshot = store.engine.snapshot();
    let mut ask = |key: &str, note: &str, question: &dyn Fn() -> Result<usize>| -> Result<()> {
        let (mut times, mut found) = (Vec::new(), 0);
        for _ in 0..5 {
            let (n, elapsed, _) = super::timed(question)?;
            times.push(elapsed.as_secs_f64() * 1e3);
            found = n;
        }
        report.figure(&format!("{key}_ms"), median(&times), &format!("{note}: {found}"));
        Ok(())
    };
    for (key, metric, matchers, range) in [
        ("select_metric_last_hour", Some("node_load1"), Vec::new(), hours(options.hours - 1.0, options.hours)),
        ("select_metric", Some("node_load1"), Vec::new(), hours(0.0, options.hours)),
        ("select_regex", None, regex, hours(0.0, options.hours)),
    ] {
        let selector = Selector { metric: metric.map(str::to_owned), matchers, range };
        ask(key, "series", &|| Ok(snapshot.select(&selector)?.len()))?;
        ask(&format!("{key}_values"), "values of instance", &|| {
            Ok(snapshot.label_values("instance", &selector, 10_000)?.len())
        })?;
        ask(&format!("{key}_names"), "label names", &|| Ok(snapshot.label_names(&selector)?.len()))?;
    }
    ask("cardinality", "labels", &|| Ok(snapshot.cardinality()?.labels.len()))
}

/// Bytes of the catalogue, of series files.
#[allow(clippy::disallowed_methods, reason = "a harness outside the product")]
fn index_bytes(dir: &Path) -> Result<(u64, u64)> {
    let catalogue = disk_usage(dir)?.into_iter().filter(|(name, _)| name == "catalogue").map(|pair| pair.1).sum();
    let mut series = 0;
    for partition in std::fs::read_dir(dir.join("partitions"))? {
        for (name, bytes) in disk_usage(&partition?.path())? {
            series += if name.ends_with(".series") { bytes } else { 0 };
        }
    }
    Ok((catalogue, series))
}
