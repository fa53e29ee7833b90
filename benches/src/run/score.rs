//! `score`: nanoseconds for each point that an anomaly detector sees: the pure detector, and `anomaly_score` in SQL.
use std::path::Path;

use anyhow::{Result, ensure};
use foretell_ml::detect::{Detector, DetectorOptions, Method};
use foretell_query::{Database, QueryLimits};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::scan::{count, drain};
use crate::process::{scratch_dir, thread_cpu};
use crate::report::{Report, median};
use crate::workload::Kind;

/// Distance of two points, ns.
const STEP_NS: i64 = 15_000_000_000;
/// A day of points at 15 s.
const POINTS_PER_DAY: f64 = 5_760.0;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Points of the one long series
    #[arg(long, default_value_t = 1_000_000)]
    pub points: usize,
    /// Detectors that are fed in turn
    #[arg(long, default_value_t = 10_000)]
    pub detectors: usize,
    /// Series in the store that SQL reads
    #[arg(long, default_value_t = 5_000)]
    pub series: usize,
    /// Seed of the data
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Repetitions, of which the median counts
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
}

/// Runs it.
///
/// # Errors
/// When the store or a statement fails.
pub fn run(options: &Options, results: &Path) -> Result<()> {
    let parameters = json!({
        "points": options.points, "detectors": options.detectors, "series": options.series, "seed": options.seed,
        "runs": options.runs,
    });
    let mut report = Report::new("score", parameters);
    let (ts, values) = day_curve(options.points, options.seed);
    for method in Method::ALL {
        let name = method.name();
        let (mut one, mut many) = (Vec::new(), Vec::new());
        for _ in 0..options.runs.max(1) {
            let mut detector = Detector::new(method, DetectorOptions::default())?;
            let begun = thread_cpu()?;
            let scores: usize =
                ts.iter().zip(&values).filter(|&(&t, &v)| detector.update(t, v).score.is_some()).count();
            one.push((thread_cpu()? - begun).as_nanos() as f64 / ts.len() as f64);
            ensure!(scores > 0, "{name} never scored");
            many.push(in_turns(method, options.detectors, &ts, &values)?);
        }
        report.figure(&format!("{name}_ns_per_point"), median(&one), "one series, pure detector");
        report.figure(&format!("{name}_in_turns_ns_per_point"), median(&many), "one detector per series, fed in turn");
    }
    sql(options, &mut report)?;
    report.finish(results)?;
    Ok(())
}

/// A daily curve with noise and rare peaks.
pub fn day_curve(points: usize, seed: u64) -> (Vec<i64>, Vec<f64>) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let value = |i: usize, rng: &mut SmallRng| {
        let day = (i as f64 / POINTS_PER_DAY * std::f64::consts::TAU).sin();
        let peak = if rng.random_range(0..5_000) == 0 { 50.0 } else { 0.0 };
        100.0 + 20.0 * day + rng.random_range(-2.0..2.0) + peak
    };
    ((0..points).map(|i| i as i64 * STEP_NS).collect(), (0..points).map(|i| value(i, &mut rng)).collect())
}

/// As ingest would feed them: each scrape brings one point to every detector, so their states compete for the caches.
fn in_turns(method: Method, detectors: usize, ts: &[i64], values: &[f64]) -> Result<f64> {
    let mut detectors: Vec<Detector> =
        (0..detectors).map(|_| Detector::new(method, DetectorOptions::default())).collect::<Result<_, _>>()?;
    let scrapes = (ts.len() / detectors.len().max(1)).max(1);
    let begun = thread_cpu()?;
    let mut scores = 0usize;
    for scrape in 0..scrapes {
        for (i, detector) in detectors.iter_mut().enumerate() {
            scores += usize::from(detector.update(ts[scrape], values[(scrape + i) % values.len()]).score.is_some());
        }
    }
    std::hint::black_box(scores);
    Ok((thread_cpu()? - begun).as_nanos() as f64 / (scrapes * detectors.len()) as f64)
}

fn sql(options: &Options, report: &mut Report) -> Result<()> {
    const METRIC: &str = "node_cpu_seconds_total";
    let dir = scratch_dir("score")?;
    let hours = 6.0;
    let fleet = Kind::Node.fleet(options.series, options.seed, super::start_ms(hours)?);
    let rounds = fleet.rounds(hours);
    let (engine, _) = super::filled_engine(dir.path(), fleet, rounds)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let database = {
        let _guard = runtime.enter();
        Database::open(engine.clone(), QueryLimits::default())?
    };
    let points = runtime.block_on(count(&database, METRIC))?;
    ensure!(points > 0, "{METRIC} has no rows");
    let cpu_ns = |sql: &str| -> Result<f64> {
        let mut runs = Vec::new();
        for _ in 0..options.runs.max(1) {
            let (_, _, cpu) = super::timed(|| runtime.block_on(drain(&database, sql)))?;
            runs.push(cpu * 1e9 / points as f64);
        }
        Ok(median(&runs))
    };
    let over = "OVER (PARTITION BY instance, cpu, mode ORDER BY ts)";
    let count_only = format!("SELECT max(n) FROM (SELECT row_number() {over} AS n FROM metrics.\"{METRIC}\")");
    let base = cpu_ns(&count_only)?;
    report.figure("sql_row_number_ns_per_point", base, "CPU time of the same statement with row_number()");
    for method in Method::ALL {
        let name = method.name();
        let sql = format!(
            "SELECT max(score) FROM (SELECT anomaly_score(value, method => '{name}') {over} AS score FROM metrics.\"{METRIC}\")"
        );
        let all = cpu_ns(&sql)?;
        report.figure(&format!("sql_{name}_ns_per_point"), all, "CPU time of the whole statement");
        report.figure(&format!("sql_{name}_less_row_number_ns_per_point"), all - base, "what the score adds");
    }
    runtime.block_on(database.close())?;
    engine.close()?;
    Ok(())
}
