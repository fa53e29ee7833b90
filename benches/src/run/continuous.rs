//! `continuous`: samples that continuous queries keep up with, and what each adds to the log.
use std::path::Path;

use anyhow::{Result, ensure};
use foretell_engine::{Engine, EngineConfig, LabelSet, SeriesId, WriteBatch};
use foretell_query::{Database, QueryLimits};
use serde_json::json;

use super::scan::drain;
use super::{start_ms, timed};
use crate::process::scratch_dir;
use crate::report::Report;

/// Distance of two scrapes, ns.
const STEP_NS: i64 = 15_000_000_000;
/// Scrapes after which the queries are waited for.
const SCRAPES_PER_DRAIN: u64 = 4;

/// The kinds of queries and their SELECTs.
const QUERIES: [(&str, &str); 3] = [
    (
        "buckets",
        "SELECT time_bucket('1m', ts) AS ts, job, count(*) AS n, avg(value) AS mean FROM metrics.\"m\" GROUP BY 1, 2",
    ),
    (
        "series_buckets",
        "SELECT time_bucket('1m', ts) AS ts, job, instance, max(value) AS m FROM metrics.\"m\" GROUP BY 1, 2, 3",
    ),
    (
        "scores",
        "SELECT ts, job, instance, anomaly_score(value, method => 'ewma') \
         OVER (PARTITION BY job, instance ORDER BY ts) AS score FROM metrics.\"m\"",
    ),
];

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Series of the one metric
    #[arg(long, default_value_t = 10_000)]
    pub series: usize,
    /// Scrapes that are timed
    #[arg(long, default_value_t = 100)]
    pub scrapes: u64,
}

/// Runs it.
///
/// # Errors
/// When the store or a query fails, or a query answers nothing.
pub fn run(options: &Options, results: &Path) -> Result<()> {
    let mut report = Report::new("continuous", json!({ "series": options.series, "scrapes": options.scrapes }));
    for (name, select) in QUERIES {
        one(name, select, options, &mut report)?;
    }
    report.finish(results)?;
    Ok(())
}

fn one(name: &str, select: &str, options: &Options, report: &mut Report) -> Result<()> {
    let dir = scratch_dir("continuous")?;
    let engine = Engine::open(EngineConfig::new(dir.path()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let database = {
        let _guard = runtime.enter();
        Database::open(engine.clone(), QueryLimits::default())?
    };
    let series = (0..options.series).map(|i| labelled(&engine, i)).collect::<Result<Vec<_>>>()?;
    let start = start_ms(1.0)? * 1_000_000;
    let scrape = |number: u64| -> Result<()> {
        let mut batch = WriteBatch::default();
        for (i, &id) in series.iter().enumerate() {
            batch.push(id, start + number as i64 * STEP_NS, ((number * 31 + i as u64) % 17) as f64);
        }
        engine.write(batch)?.wait()?;
        Ok(())
    };
    scrape(0)?;
    runtime.block_on(drain(&database, &format!("CREATE CONTINUOUS QUERY q INTO q_out AS {select}")))?;
    runtime.block_on(database.drain_continuous())?;
    let wal = engine.stats().wal_bytes_written;
    let ((), wall, cpu) = timed(|| {
        for number in 1..=options.scrapes {
            scrape(number)?;
            if number % SCRAPES_PER_DRAIN == 0 {
                runtime.block_on(database.drain_continuous())?;
            }
        }
        Ok(runtime.block_on(database.drain_continuous())?)
    })?;
    let samples = options.series as f64 * options.scrapes as f64;
    let wal = (engine.stats().wal_bytes_written - wal) as f64;
    ensure!(runtime.block_on(drain(&database, "SELECT ts FROM q_out"))? > 0, "{name} answered nothing");
    report.figure(&format!("{name}_samples_per_second"), samples / wall.as_secs_f64(), "written and seen by the query");
    report.figure(&format!("{name}_samples_per_second_core"), samples / cpu, "the same per second of CPU");
    report.figure(&format!("{name}_log_bytes_per_sample"), wal / samples, "the sample itself included");
    runtime.block_on(database.close())?;
    engine.close()?;
    Ok(())
}

fn labelled(engine: &Engine, i: usize) -> Result<SeriesId> {
    let (job, instance) = (format!("job{}", i % 20), format!("host{i}"));
    let labels = LabelSet::from_pairs([("__name__", "m"), ("job", job.as_str()), ("instance", instance.as_str())])?;
    Ok(engine.resolve(&labels)?)
}
