//! `rollup`: hourly minimum, maximum and average over a long time, without rollups and with them, and what they cost.
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use foretell_engine::{
    Aggregate, AggregateBatch, Engine, EngineConfig, LabelSet, SeriesId, Statistics, TimeRange, WriteBatch,
};
use serde_json::json;

use super::timed;
use crate::process::scratch_dir;
use crate::report::{Report, median, print};

const HOUR_NS: i64 = 3_600_000_000_000;
const DAY_NS: i64 = 24 * HOUR_NS;
/// Midnight, so that a day of data is one partition and every run stores the same bytes.
const START_NS: i64 = 1_699_920_000_000_000_000;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Series
    #[arg(long, default_value_t = 20)]
    pub series: u32,
    /// Days of data
    #[arg(long, default_value_t = 365)]
    pub days: u32,
    /// Seconds between two samples of a series
    #[arg(long, default_value_t = 15)]
    pub interval_seconds: u32,
    /// Repetitions, of which the median counts
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
}

/// What an aggregation came to.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    aggregates: u64,
    rows: u64,
    extremes: (f64, f64),
    rolled_up: u64,
}

/// Runs it.
///
/// # Errors
/// When an answer differs from another, or rollups are not used.
pub fn run(options: &Options, results: &Path) -> Result<()> {
    ensure!(options.series > 0 && options.days > 0, "at least a series and a day");
    ensure!((1..=3600).contains(&options.interval_seconds), "--interval-seconds is from 1 to 3600");
    let dir = scratch_dir("rollup")?;
    let mut config = EngineConfig { background: false, ..EngineConfig::new(dir.path()) };
    let engine = Engine::open(config.clone())?;
    let (ids, rows) = fill(&engine, options)?;
    engine.compact()?;
    let mut report = Report::new(
        "rollup",
        json!({"series": options.series, "days": options.days, "interval_seconds": options.interval_seconds,
               "samples": rows}),
    );
    let without = ask(&engine, &ids, options, "without", &mut report)?;
    ensure!(without.rows == rows && without.rolled_up == 0, "{rows} rows stored, {without:?}");
    engine.close()?;
    drop(engine);

    config.rollup_widths = vec![Duration::from_secs(300), Duration::from_secs(3600)];
    let engine = Engine::open(config)?;
    let (_, elapsed, _) = timed(|| Ok(engine.compact()?))?;
    report.figure(
        "rows_rolled_up_per_second",
        rows as f64 / elapsed.as_secs_f64(),
        "making the rollups of 5 m and 1 h",
    );
    let segments = engine.snapshot().segments();
    let bytes = |f: fn(&foretell_engine::SegmentInfo) -> u64| segments.iter().map(f).sum::<u64>() as f64 / rows as f64;
    report.figure("segment_bytes_per_sample", bytes(|s| s.bytes), "");
    report.figure("rollup_bytes_per_sample", bytes(|s| s.rollup_bytes), "both widths, with sketches");
    let with = ask(&engine, &ids, options, "with", &mut report)?;
    // The newest day is not merged yet, and has none.
    ensure!(with.rolled_up >= rows - rows / u64::from(options.days), "rollups are not used: {with:?}");
    ensure!(Answer { rolled_up: 0, ..with } == without, "with rollups the answer is not {without:?}");
    engine.close()?;
    report.finish(results)?;
    Ok(())
}

/// Writes everything, a flush for each half day.
fn fill(engine: &Engine, options: &Options) -> Result<(Vec<SeriesId>, u64)> {
    let mut ids = Vec::new();
    for n in 0..options.series {
        let number = n.to_string();
        ids.push(engine.resolve(&LabelSet::from_pairs([("__name__", "load"), ("n", number.as_str())])?)?);
    }
    let interval_ns = i64::from(options.interval_seconds) * 1_000_000_000;
    let mut rows = 0;
    print(&format!("storing {} days of {} series", options.days, options.series));
    for half_day in 0..2 * i64::from(options.days) {
        let (from, to) = (START_NS + half_day * DAY_NS / 2, START_NS + (half_day + 1) * DAY_NS / 2);
        let mut batch = WriteBatch::default();
        for (n, &id) in (0..).zip(&ids) {
            let first = from + (START_NS - from).rem_euclid(interval_ns);
            for ts in (first..to).step_by(interval_ns as usize) {
                batch.push(id, ts, value(n, (ts - START_NS) / interval_ns));
            }
        }
        rows += batch.len() as u64;
        engine.write(batch)?.wait()?;
        engine.flush()?;
    }
    ids.sort_unstable();
    Ok((ids, rows))
}

/// A slow wave with noise, of two decimals, above zero.
fn value(series: i64, i: i64) -> f64 {
    let noise = ((i * 7919 + series * 104_729) % 10_007) as f64;
    ((i as f64 / 2000.0 + series as f64).sin() * 5000.0 + 6000.0 + noise / 10.0).round() / 100.0
}

/// Asks for hourly minimum, maximum and average of every series, on one core.
fn ask(engine: &Engine, ids: &[SeriesId], options: &Options, key: &str, report: &mut Report) -> Result<Answer> {
    let snapshot = engine.snapshot();
    let statistics = Statistics { extremes: true, sum: true, ..Statistics::default() };
    let aggregate = Aggregate { series: ids, groups: &[], range: TimeRange::ALL, step_ns: Some(HOUR_NS), statistics };
    let (mut speeds, mut answer) = (Vec::new(), Answer::default());
    for _ in 0..options.runs.max(1) {
        let (found, elapsed, _) = timed(|| {
            let (mut running, mut batch) = (snapshot.aggregate(&aggregate, 8192)?, AggregateBatch::default());
            let mut found = Answer { extremes: (f64::INFINITY, f64::NEG_INFINITY), ..Answer::default() };
            while running.next_batch(&mut batch)? {
                found.aggregates += batch.rows.len() as u64;
                found.rows += batch.rows.iter().sum::<i64>() as u64;
                found.extremes.0 = batch.min.iter().copied().fold(found.extremes.0, f64::min);
                found.extremes.1 = batch.max.iter().copied().fold(found.extremes.1, f64::max);
                std::hint::black_box(&batch.sum);
            }
            found.rolled_up = running.rows_rolled_up();
            Ok(found)
        })?;
        speeds.push(found.rows as f64 / elapsed.as_secs_f64());
        answer = found;
    }
    let note = "hourly min, max, avg of all series over the whole time";
    report.figure(&format!("{key}_values_per_second"), median(&speeds), note);
    Ok(answer)
}
