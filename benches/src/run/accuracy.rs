//! `accuracy`: forecasts and change points of a real server, asked in SQL without a setting for any series, scored by
//! scorers that are not ours.
//!
//! `--data` has the folders `m4` (`Train/`, `Test/`: wide CSV) and `tcpd` (`annotations.json`, `datasets/*/*.json`),
//! `--score` the scorers `owa.py` and `changepoint.py`, whose `--help` defines the measures. The test parts are read by
//! the scorers only.
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::score::day_curve;
use crate::http::{Client, REMOTE_WRITE_HEADERS, Sender};
use crate::peer::{Binaries, Peer};
use crate::process::{Process, free_port, scratch_dir};
use crate::report::Report;
use crate::workload::encode::{BodyEncoder, encode_labels};

const HOUR_MS: i64 = 3_600_000;
/// Samples in a body.
const SAMPLES_PER_REQUEST: usize = 10_000;
/// Series of one statement, so that it stays within the deadline.
const SERIES_PER_STATEMENT: usize = 50;
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// Steps of the forecasts whose time is taken.
const TIMED_STEPS: usize = 48;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Folder of the data sets
    #[arg(long)]
    pub data: PathBuf,
    /// Folder of the scorers
    #[arg(long)]
    pub score: PathBuf,
    /// A Python that has numpy, for the scorers
    #[arg(long, default_value = "python3")]
    pub python: PathBuf,
    /// Generated series whose forecast is timed, 0 for none
    #[arg(long, default_value_t = 1_000)]
    pub series: usize,
    /// Points of each
    #[arg(long, default_value_t = 1_000)]
    pub points: usize,
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
}

const PARTS: [Part; 2] = [
    Part { name: "Hourly", metric: "m4_hourly", step_ms: HOUR_MS, horizon: 48, season: 24 },
    Part { name: "Weekly", metric: "m4_weekly", step_ms: 7 * 24 * HOUR_MS, horizon: 13, season: 1 },
];

/// Values of each series by name.
type Table = BTreeMap<String, Vec<f64>>;

/// The server under test.
struct Store {
    client: Client,
    address: SocketAddr,
}

/// Runs it.
///
/// # Errors
/// When a file is missing, the server does not answer, or a scorer refuses what it said.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let dir = scratch_dir("accuracy")?;
    let address: SocketAddr = ([127, 0, 0, 1], free_port()?).into();
    let mut command = Command::new(binaries.path(Peer::Foretell)?);
    command.arg("serve").arg("--data-dir").arg(dir.path().join("data")).arg("--listen-http").arg(address.to_string());
    let mut process = Process::start("foretell", &mut command, &dir.path().join("foretell.log"))?;
    let (client, url) = (Client::default(), format!("http://{address}/-/ready"));
    process.wait_until("readiness", READY_WITHIN, || client.is_ok(&url))?;
    let store = Store { client, address };

    let parameters = json!({"series": options.series, "points": options.points, "seed": options.seed});
    let mut report = Report::new("accuracy", parameters);
    for part in &PARTS {
        forecasts(options, &store, part, dir.path(), &mut report)?;
    }
    changes(options, &store, dir.path(), &mut report)?;
    if options.series > 0 {
        speed(options, &store, &mut report)?;
    }
    process.stop(STOP_WITHIN)?;
    report.finish(results)?;
    Ok(())
}

impl Store {
    /// Writes series whose first sample is of 1970.
    fn write(&self, metric: &str, table: &Table, step_ms: i64) -> Result<()> {
        let mut sender = Sender::connect(self.address, "/api/v1/write", REMOTE_WRITE_HEADERS)?;
        let mut encoder = BodyEncoder::default();
        let mut send = |encoder: &mut BodyEncoder| -> Result<()> {
            let (status, text) = sender.post(encoder.finish()?)?;
            ensure!((200..300).contains(&status), "remote write: {status} {text}");
            Ok(())
        };
        for (name, values) in table {
            let labels = encode_labels(&[("__name__", metric), ("id", name.as_str())]);
            for (i, &value) in values.iter().enumerate() {
                encoder.push(&labels, i as i64 * step_ms, value);
                if encoder.samples() == SAMPLES_PER_REQUEST {
                    send(&mut encoder)?;
                }
            }
        }
        if encoder.samples() > 0 {
            send(&mut encoder)?;
        }
        Ok(())
    }

    /// The forecast of each series: values, lower and upper bounds.
    fn forecast(&self, metric: &str, table: &Table, horizon: usize) -> Result<[Table; 3]> {
        let mut answer = [Table::new(), Table::new(), Table::new()];
        let names: Vec<&String> = table.keys().collect();
        for some in names.chunks(SERIES_PER_STATEMENT) {
            let list: Vec<String> = some.iter().map(|name| format!("'{name}'")).collect();
            let sql = format!(
                "SELECT id, f['value'], f['lo'], f['hi'] FROM (SELECT id, unnest(forecast(ts, value, {horizon})) AS f \
                 FROM metrics.\"{metric}\" WHERE id IN ({}) GROUP BY id) ORDER BY id, f['ts']",
                list.join(", ")
            );
            for row in self.client.sql(&format!("http://{}", self.address), &sql)? {
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
}

fn forecasts(options: &Options, store: &Store, part: &Part, dir: &Path, report: &mut Report) -> Result<()> {
    let file = |kind: &str, end: &str| options.data.join("m4").join(kind).join(format!("{}-{end}.csv", part.name));
    let (train, test) = (file("Train", "train"), file("Test", "test"));
    let table = read_wide(&train)?;
    store.write(part.metric, &table, part.step_ms)?;
    let begun = Instant::now();
    let answer = store.forecast(part.metric, &table, part.horizon)?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut command = Command::new(&options.python);
    command.arg(options.score.join("owa.py")).arg("--train").arg(&train).arg("--test").arg(&test);
    command.arg("--season").arg(part.season.to_string()).arg("--json");
    for (name, table) in ["forecast", "lower", "upper"].into_iter().zip(&answer) {
        let path = dir.join(format!("{}-{name}.csv", part.name));
        write_wide(&path, table)?;
        command.arg(format!("--{name}")).arg(&path);
    }
    let scored = json_of(&mut command)?;
    for (key, note) in [
        ("owa", "error beside Naive2, below 1 is better"),
        ("smape", "percent"),
        ("mase", "in units of the seasonal naive step"),
        ("msis", "width and misses of the interval"),
        ("coverage", "of the 95 % interval"),
    ] {
        let value = scored["total"][key].as_f64().with_context(|| format!("the scorer gives no {key}"))?;
        report.figure(&format!("{}_{key}", part.metric), value, note);
    }
    report.figure(&format!("{}_seconds", part.metric), seconds, "all forecasts, over HTTP");
    Ok(())
}

fn changes(options: &Options, store: &Store, dir: &Path, report: &mut Report) -> Result<()> {
    let folder = options.data.join("tcpd");
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
    store.write("tcpd", &table, HOUR_MS)?;
    let sql = "SELECT id, CAST(c['ts'] AS BIGINT) FROM (SELECT id, unnest(change_points(ts, value)) AS c \
               FROM metrics.\"tcpd\" GROUP BY id) ORDER BY 1, 2";
    let mut found: BTreeMap<&str, Vec<i64>> = table.keys().map(|id| (series_of(id), Vec::new())).collect();
    let rows = store.client.sql(&format!("http://{}", store.address), sql)?;
    for row in &rows {
        let (Some(id), Some(ts)) = (row[0].as_str(), row[1].as_i64()) else { continue };
        found.get_mut(series_of(id)).with_context(|| format!("{id} was not asked for"))?.push(ts / 1_000_000 / HOUR_MS);
    }
    for points in found.values_mut() {
        points.sort_unstable();
        points.dedup();
    }
    let predictions = dir.join("changes.json");
    fs::write(&predictions, json!(found).to_string())?;
    let mut command = Command::new(&options.python);
    command.arg(options.score.join("changepoint.py")).arg("--annotations").arg(&annotations);
    command.arg("--predictions").arg(&predictions).arg("--lengths").arg(folder.join("datasets")).arg("--json");
    let scored = json_of(&mut command)?;
    for (key, note) in [("f1", "margin 5"), ("cover", "covering"), ("precision", ""), ("recall", "")] {
        let value = scored["mean"][key].as_f64().with_context(|| format!("the scorer gives no {key}"))?;
        report.figure(&format!("tcpd_{key}"), value, note);
    }
    Ok(())
}

/// The name before the dimension.
fn series_of(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(name, _)| name)
}

fn speed(options: &Options, store: &Store, report: &mut Report) -> Result<()> {
    let series = |i: usize| (format!("s{i}"), day_curve(options.points, options.seed + i as u64).1);
    let table: Table = (0..options.series).map(series).collect();
    // the generated day has 5,760 points; at 15 s a point it is a day
    store.write("generated", &table, 15_000)?;
    let begun = Instant::now();
    store.forecast("generated", &table, TIMED_STEPS)?;
    let seconds = begun.elapsed().as_secs_f64();
    report.figure("generated_seconds", seconds, "forecasts of the generated series, over HTTP");
    Ok(())
}

/// A CSV file of a header, then a name and values a line; blanks follow the last value.
fn read_wide(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut table = Table::new();
    for line in text.lines().skip(1) {
        let mut cells = line.split(',').map(|cell| cell.trim().trim_matches('"'));
        let name = cells.next().unwrap_or_default().to_owned();
        let values: Result<Vec<f64>, _> = cells.take_while(|cell| !cell.is_empty()).map(str::parse).collect();
        table.insert(name, values.with_context(|| path.display().to_string())?);
    }
    ensure!(!table.is_empty(), "{} holds no series", path.display());
    Ok(table)
}

fn write_wide(path: &Path, table: &Table) -> Result<()> {
    let mut text = String::from("id,values\n");
    for (name, values) in table {
        text.push_str(name);
        for value in values {
            text.push_str(&format!(",{value}"));
        }
        text.push('\n');
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// What a scorer prints.
fn json_of(command: &mut Command) -> Result<Value> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", message.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}
