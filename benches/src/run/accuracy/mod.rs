//! `accuracy`: forecasts and change points of a real server, asked in SQL without a setting for any series, scored by
//! scorers that are not ours.
//!
//! `--data` has the folders `m4` (`Train/`, `Test/`: wide CSV) and `tcpd` (`annotations.json`, `datasets/*/*.json`),
//! `--score` the scorers `owa.py` and `changepoint.py`, whose `--help` defines the measures. The test parts are read by
//! the scorers only. With `--libraries` statsforecast forecasts the same series.
mod libraries;
mod wide;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::score::day_curve;
use super::scorer::{Sources, json_of};
use super::store::Store;
use crate::peer::Binaries;
use crate::report::{Goal, Report, print};
use wide::Table;

const HOUR_MS: i64 = 3_600_000;
/// Series of one statement, so that it would stay within the default deadline.
const SERIES_PER_STATEMENT: usize = 50;
/// Steps of the forecasts whose time is taken.
const TIMED_STEPS: usize = 48;
/// Points of a generated day in [`day_curve`] for each that is taken: one an hour.
const TAKEN: usize = 240;
/// All forecasts of the generated series, on two cores.
const GENERATED_SECONDS_GOAL: Goal = Goal::AtMost(30.0);

/// What a 95 % interval covers.
const COVERAGE_MIN: Goal = Goal::AtLeast(0.93);
const COVERAGE_MAX: Goal = Goal::AtMost(0.97);
/// Above what the defaults of binary segmentation reach on these series, .772.
const F1_GOAL: Goal = Goal::AtLeast(0.78);

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where data and scorers are: `m4`, `tcpd` of the data, `owa.py`, `changepoint.py` of the scorers
    #[command(flatten)]
    pub sources: Sources,
    /// Generated series whose forecast is timed, 0 for none
    #[arg(long, default_value_t = 1_000)]
    pub series: usize,
    /// Points of each
    #[arg(long, default_value_t = 1_000)]
    pub points: usize,
    /// Of them, those that the libraries of Python forecast; their time is scaled to all
    #[arg(long, default_value_t = 50)]
    pub library_series: usize,
    /// Seed of the generated series
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A part of M4.
struct Part {
    name: &'static str,
    metric: &'static str,
    step_ms: i64,
    horizon: usize,
    /// What the scorer scales by.
    season: usize,
    /// What statsforecast is told.
    seasons: &'static str,
    /// Below the best that is published: .440 of all hourly series, and what the winner of these weekly ones has.
    owa: Goal,
}

const PARTS: [Part; 2] = [
    Part {
        name: "Hourly",
        metric: "m4_hourly",
        step_ms: HOUR_MS,
        horizon: 48,
        season: 24,
        seasons: "24,168",
        owa: Goal::AtMost(0.42),
    },
    Part {
        name: "Weekly",
        metric: "m4_weekly",
        step_ms: 7 * 24 * HOUR_MS,
        horizon: 13,
        season: 1,
        seasons: "1",
        owa: Goal::AtMost(0.78),
    },
];

/// Runs it.
///
/// # Errors
/// When a file is missing, the server does not answer, or a scorer refuses what it said.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let store = Store::start("accuracy", binaries)?;
    let parameters = json!({"series": options.series, "points": options.points, "library_series": options.library_series,
        "seed": options.seed});
    let mut report = Report::new("accuracy", parameters);
    for part in &PARTS {
        forecasts(options, &store, part, &mut report)?;
    }
    changes(options, &store, &mut report)?;
    if options.series > 0 {
        speed(options, &store, &mut report)?;
    }
    store.stop()?;
    report.finish(results)?;
    report.refuse_missed()
}

/// Writes series whose first sample is of 1970.
fn write(store: &Store, metric: &str, table: &Table, step_ms: i64) -> Result<()> {
    let mut writer = store.writer()?;
    for (name, values) in table {
        let samples = (0..).step_by(step_ms as usize).zip(values.iter().copied());
        writer.write(&[("__name__", metric), ("id", name.as_str())], samples)?;
    }
    writer.flush()
}

/// The forecast of each series: values, lower and upper bounds.
fn forecast(store: &Store, metric: &str, table: &Table, horizon: usize) -> Result<[Table; 3]> {
    let mut answer = [Table::new(), Table::new(), Table::new()];
    let names: Vec<&String> = table.keys().collect();
    for some in names.chunks(SERIES_PER_STATEMENT) {
        let list: Vec<String> = some.iter().map(|name| format!("'{name}'")).collect();
        let sql = format!(
            "SELECT id, f['value'], f['lo'], f['hi'] FROM (SELECT id, unnest(forecast(ts, value, {horizon})) AS f \
             FROM metrics.\"{metric}\" WHERE id IN ({}) GROUP BY id) ORDER BY id, f['ts']",
            list.join(", ")
        );
        for row in store.rows(&sql)? {
            let name = row.first().and_then(Value::as_str).context("a row without a name")?;
            for (column, cell) in answer.iter_mut().zip(&row[1..]) {
                let value = cell.as_f64().with_context(|| format!("{name}: {cell} is no number"))?;
                column.entry(name.to_owned()).or_default().push(value);
            }
        }
    }
    ensure!(answer[0].len() == table.len(), "{metric}: {} of {} series", answer[0].len(), table.len());
    Ok(answer)
}

fn forecasts(options: &Options, store: &Store, part: &Part, report: &mut Report) -> Result<()> {
    let sources = &options.sources;
    let file = |kind: &str, end: &str| sources.data.join("m4").join(kind).join(format!("{}-{end}.csv", part.name));
    let (train, test) = (file("Train", "train"), file("Test", "test"));
    let table = wide::read(&train)?;
    print(&format!("{} {} series", table.len(), part.name.to_lowercase()));
    write(store, part.metric, &table, part.step_ms)?;
    let (begun, cpu) = (Instant::now(), store.usage()?.cpu_seconds);
    let answer = forecast(store, part.metric, &table, part.horizon)?;
    let seconds = begun.elapsed().as_secs_f64();
    let ms_per_series = (store.usage()?.cpu_seconds - cpu) * 1e3 / table.len() as f64;
    let files = ["forecast", "lower", "upper"].map(|name| store.dir().join(format!("{}-{name}.csv", part.name)));
    for (path, table) in files.iter().zip(&answer) {
        wide::write(path, table)?;
    }
    let scored = |files: &[PathBuf; 3]| -> Result<Value> {
        let mut command = sources.scorer("owa.py");
        command.arg("--train").arg(&train).arg("--test").arg(&test).arg("--season").arg(part.season.to_string());
        for (option, path) in ["--forecast", "--lower", "--upper"].iter().zip(files) {
            command.arg(option).arg(path);
        }
        json_of(&mut command)
    };
    let own = scored(&files)?;
    let owa = total(&own, "owa")?;
    report.goal(&format!("{}_owa", part.metric), owa, part.owa, "error beside Naive2, below 1 is better");
    let coverage = total(&own, "coverage")?;
    report.goal(&format!("{}_coverage", part.metric), coverage, COVERAGE_MIN, "of the 95 % interval");
    report.goal(&format!("{}_coverage_too_much", part.metric), coverage, COVERAGE_MAX, "the same");
    for (key, note) in [
        ("smape", "percent"),
        ("mase", "in units of the seasonal naive step"),
        ("msis", "width and misses of the interval"),
    ] {
        report.figure(&format!("{}_{key}", part.metric), total(&own, key)?, note);
    }
    report.figure(&format!("{}_seconds", part.metric), seconds, "all forecasts, over HTTP");
    report.figure(&format!("{}_cpu_ms_per_series", part.metric), ms_per_series, "the server's CPU time");
    if sources.libraries {
        let dir = store.dir().join(part.name);
        for model in libraries::forecast(sources, &train, part.horizon, part.seasons, &dir)? {
            let (scored, key) = (scored(&model.files)?, |end: &str| format!("{}_{}_{end}", part.metric, model.name));
            report.text(&key("version"), &model.version, "");
            report.figure(&key("owa"), total(&scored, "owa")?, "");
            report.figure(&key("coverage"), total(&scored, "coverage")?, "");
            let theirs = model.cpu_seconds * 1e3 / table.len() as f64;
            report.figure(&key("cpu_ms_per_series"), theirs, "CPU time in its own process");
            let ratio = format!("{}_ratio_{}_cpu_ms_per_series", part.metric, model.name);
            report.figure(&ratio, ms_per_series / theirs, "ours to theirs");
        }
    }
    Ok(())
}

/// A mean over all series that `owa.py` gives.
fn total(scored: &Value, key: &str) -> Result<f64> {
    scored["total"][key].as_f64().with_context(|| format!("the scorer gives no {key}"))
}

fn changes(options: &Options, store: &Store, report: &mut Report) -> Result<()> {
    let folder = options.sources.data.join("tcpd");
    let annotations = folder.join("annotations.json");
    let annotated = read_json(&annotations)?;
    // each dimension is a series, named `series/dimension`
    let mut table = Table::new();
    for name in annotated.as_object().context("annotations.json holds no object")?.keys() {
        let document = read_json(&folder.join("datasets").join(name).join(format!("{name}.json")))?;
        for (i, series) in document["series"].as_array().into_iter().flatten().enumerate() {
            let raw = series["raw"].as_array().with_context(|| format!("{name} has no values"))?;
            let values = raw.iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect();
            table.insert(format!("{name}/{i}"), values);
        }
    }
    write(store, "tcpd", &table, HOUR_MS)?;
    let sql = "SELECT id, CAST(c['ts'] AS BIGINT) FROM (SELECT id, unnest(change_points(ts, value)) AS c \
               FROM metrics.\"tcpd\" GROUP BY id) ORDER BY 1, 2";
    let mut found: BTreeMap<&str, Vec<i64>> = table.keys().map(|id| (series_of(id), Vec::new())).collect();
    let rows = store.rows(sql)?;
    for row in &rows {
        let (Some(id), Some(ts)) = (row[0].as_str(), row[1].as_i64()) else { continue };
        found.get_mut(series_of(id)).with_context(|| format!("{id} was not asked for"))?.push(ts / 1_000_000 / HOUR_MS);
    }
    for points in found.values_mut() {
        points.sort_unstable();
        points.dedup();
    }
    let predictions = store.dir().join("changes.json");
    fs::write(&predictions, json!(found).to_string())?;
    let mut command: Command = options.sources.scorer("changepoint.py");
    command.arg("--annotations").arg(&annotations).arg("--predictions").arg(&predictions);
    command.arg("--lengths").arg(folder.join("datasets"));
    let scored = json_of(&mut command)?;
    for (key, note) in [("f1", "margin 5"), ("cover", "covering"), ("precision", ""), ("recall", "")] {
        let value = scored["mean"][key].as_f64().with_context(|| format!("the scorer gives no {key}"))?;
        match key {
            "f1" => report.goal("tcpd_f1", value, F1_GOAL, note),
            _ => report.figure(&format!("tcpd_{key}"), value, note),
        }
    }
    Ok(())
}

/// The name before the dimension.
fn series_of(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(name, _)| name)
}

fn speed(options: &Options, store: &Store, report: &mut Report) -> Result<()> {
    let series = |i: usize| {
        let (_, day_curve) = day_curve(options.points * TAKEN, options.seed + i as u64);
        (format!("s{i:05}"), day_curve.into_iter().step_by(TAKEN).collect())
    };
    let table: Table = (0..options.series).map(series).collect();
    print(&format!("{} generated series of {} points", options.series, options.points));
    write(store, "generated", &table, HOUR_MS)?;
    let (begun, cpu) = (Instant::now(), store.usage()?.cpu_seconds);
    forecast(store, "generated", &table, TIMED_STEPS)?;
    let seconds = begun.elapsed().as_secs_f64();
    let ms_per_series = (store.usage()?.cpu_seconds - cpu) * 1e3 / table.len() as f64;
    let note = "forecasts of the generated series, over HTTP";
    report.goal("generated_seconds", seconds, GENERATED_SECONDS_GOAL, note);
    report.figure("generated_cpu_ms_per_series", ms_per_series, "the server's CPU time");
    if options.sources.libraries {
        let some: Table = table.into_iter().take(options.library_series).collect();
        let (train, dir) = (store.dir().join("generated.csv"), store.dir().join("generated"));
        wide::write(&train, &some)?;
        for model in libraries::forecast(&options.sources, &train, TIMED_STEPS, "24", &dir)? {
            let (theirs, name) = (model.cpu_seconds * 1e3 / some.len() as f64, model.name);
            report.figure(&format!("generated_{name}_cpu_ms_per_series"), theirs, "CPU time in its own process");
            let ratio = format!("generated_ratio_{name}_cpu_ms_per_series");
            report.figure(&ratio, ms_per_series / theirs, "ours to theirs");
        }
    }
    Ok(())
}

fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
