//! `scan`: stored values to memory, through the engine's snapshot scan and through SQL; aggregations also row by row, as
//! they are answered when the engine cannot sum up.
use std::path::Path;

use anyhow::{Context, Result, ensure};
use foretell_engine::{ScanBatch, Selector, SeriesId, TimeRange};
use foretell_query::{Database, QueryLimits, QueryRequest};
use futures::StreamExt;
use serde_json::json;
use std::sync::Arc;

use crate::process::scratch_dir;
use crate::report::{Report, median, print};
use crate::workload::Kind;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What is stored
    #[arg(long, value_enum, default_value = "node")]
    pub workload: Kind,
    /// Series
    #[arg(long, default_value_t = 10_000)]
    pub series: usize,
    /// Hours of data
    #[arg(long, default_value_t = 6.0)]
    pub hours: f64,
    /// Seed of the workload
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Repetitions, of which the median counts
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
}

/// Runs it.
///
/// # Errors
/// When a scan does not return every row.
pub fn run(options: &Options, results: &Path) -> Result<()> {
    let dir = scratch_dir("scan")?;
    let fleet = options.workload.fleet(options.series, options.seed, super::start_ms(options.hours)?);
    let rounds = fleet.rounds(options.hours);
    print(&format!("storing {rounds} scrapes of {} series", fleet.series()));
    let (engine, rows) = super::filled_engine(dir.path(), fleet, rounds)?;
    let workload = serde_json::to_value(options.workload)?;
    let mut report = Report::new(
        "scan",
        json!({"workload": workload, "series": options.series, "hours": options.hours, "seed": options.seed, "rows": rows}),
    );

    let snapshot = engine.snapshot();
    let selector = Selector { metric: None, matchers: Vec::new(), range: TimeRange::ALL };
    let ids: Vec<SeriesId> = snapshot.select(&selector)?.iter().map(|series| series.id).collect();
    for (key, want_values) in [("engine", true), ("engine_timestamps_only", false)] {
        let (mut wall, mut core) = (Vec::new(), Vec::new());
        for _ in 0..options.runs.max(1) {
            let (seen, elapsed, cpu) = super::timed(|| {
                let (mut scan, mut batch) =
                    (snapshot.scan(&ids, TimeRange::ALL, want_values, 65_536)?, ScanBatch::default());
                let (mut seen, mut bits) = (0u64, 0u64);
                while scan.next_batch(&mut batch)? {
                    seen += batch.ts.len() as u64;
                    bits = batch.values.iter().fold(bits, |bits, value| bits ^ value.to_bits());
                }
                std::hint::black_box(bits);
                Ok(seen)
            })?;
            ensure!(seen == rows, "{rows} rows stored, {seen} scanned");
            wall.push(rows as f64 / elapsed.as_secs_f64());
            core.push(rows as f64 / cpu);
        }
        report.figure(&format!("{key}_values_per_second"), median(&wall), "snapshot scan of every series");
        report.figure(&format!("{key}_values_per_second_core"), median(&core), "the same per second of CPU");
    }

    let metric = if options.workload == Kind::Tsbs { "cpu_usage_user" } else { "node_cpu_seconds_total" };
    let label = if options.workload == Kind::Tsbs { "region" } else { "mode" };
    let by_row = |sql: &str| sql.replace(" GROUP BY", " WHERE random() >= 0.0 GROUP BY");
    let by_metric = "SELECT metric, sum(value) FROM samples GROUP BY metric".to_owned();
    let by_label = format!("SELECT {label}, sum(value) FROM metrics.\"{metric}\" GROUP BY {label}");
    let hourly = format!(
        "SELECT time_bucket('1h', ts), {label}, min(value), avg(value), max(value) FROM metrics.\"{metric}\" \
         GROUP BY time_bucket('1h', ts), {label}"
    );
    let newest = format!("SELECT {label}, last(value, ts) FROM metrics.\"{metric}\" GROUP BY {label}");
    let statements = [
        ("sql_sum_by_metric", by_metric.clone(), Some(rows)),
        ("sql_sum_by_metric_by_row", by_row(&by_metric), Some(rows)),
        ("sql_sum_by_label", by_label.clone(), None),
        ("sql_sum_by_label_by_row", by_row(&by_label), None),
        ("sql_hourly", hourly.clone(), None),
        ("sql_hourly_by_row", by_row(&hourly), None),
        ("sql_newest", newest.clone(), None),
        ("sql_newest_by_row", by_row(&newest), None),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let database = {
        let _guard = runtime.enter();
        Database::open(engine.clone(), QueryLimits::default())?
    };
    for (key, sql, scanned) in statements {
        let scanned = match scanned {
            Some(rows) => rows,
            None => runtime.block_on(count(&database, metric))?,
        };
        let (mut wall, mut core) = (Vec::new(), Vec::new());
        for _ in 0..options.runs.max(1) {
            let (_, elapsed, cpu) = super::timed(|| runtime.block_on(drain(&database, &sql)))?;
            wall.push(scanned as f64 / elapsed.as_secs_f64());
            core.push(scanned as f64 / cpu.max(1e-9));
        }
        report.figure(&format!("{key}_values_per_second"), median(&wall), &sql);
        report.figure(&format!("{key}_values_per_second_core"), median(&core), "the same per second of CPU");
    }
    runtime.block_on(database.close())?;
    engine.close()?;
    report.finish(results)?;
    Ok(())
}

/// Runs a statement to its end: how many rows it answered.
pub(super) async fn drain(database: &Arc<Database>, sql: &str) -> Result<u64> {
    let request = QueryRequest { sql: sql.to_owned(), ..QueryRequest::default() };
    let mut stream = database.query(request).await.with_context(|| sql.to_owned())?.stream;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        rows += batch.with_context(|| sql.to_owned())?.num_rows() as u64;
    }
    Ok(rows)
}

/// Rows of a metric.
pub(super) async fn count(database: &Arc<Database>, metric: &str) -> Result<u64> {
    drain(database, &format!("SELECT ts FROM metrics.\"{metric}\"")).await
}
