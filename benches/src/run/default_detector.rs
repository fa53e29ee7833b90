//! `default-detector`: what watching every series costs ingest. The same bodies are sent to a server without the default detector and
//! to one with it, in turn; the second has ended when it has looked at every sample.
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::http::Client;
use crate::peer::{Binaries, Peer};
use crate::process::{disk_usage, free_port, scratch_dir};
use crate::recording::{Recording, record};
use crate::report::{Goal, Report, median, percentile, print};
use crate::workload::Kind;

/// Share of the samples a second and a CPU second that must be left.
const LEFT_MIN: f64 = 0.9;
/// How long flushes and merges may go on after the last body.
const IDLE_WITHIN: Duration = Duration::from_secs(60);
/// How long the detector may go on after the last body.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// What is sent
    #[arg(long, value_enum, default_value = "node")]
    pub workload: Kind,
    /// Active series
    #[arg(long, default_value_t = 100_000)]
    pub series: usize,
    /// Hours of data
    #[arg(long, default_value_t = 2.0)]
    pub hours: f64,
    /// Connections that send at once
    #[arg(long, default_value_t = 4)]
    pub senders: usize,
    /// Samples in a body
    #[arg(long, default_value_t = 10_000)]
    pub samples_per_request: usize,
    /// Seed of the workload
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Runs of each
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
}

/// What one run showed.
struct Outcome {
    /// First body to the last acknowledgement, and until every sample was looked at.
    seconds: f64,
    cpu_seconds: f64,
    rss_bytes: u64,
    latency_p99_ms: f64,
    disk_bytes: u64,
    /// Of the detector: samples, anomalous ones, bytes of states, series, seconds at work.
    detector: [f64; 5],
}

/// Runs it.
///
/// # Errors
/// When a server refuses a body, the detector misses a sample, or, after all is written, a figure missed its goal.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let dir = scratch_dir("default-detector")?;
    let fleet = options.workload.fleet(options.series, options.seed, super::start_ms(options.hours)?);
    let (series, rounds) = (fleet.series(), fleet.rounds(options.hours));
    print(&format!("recording {rounds} scrapes, {series} series"));
    let recordings = record(fleet, rounds, options.senders, options.samples_per_request, dir.path())?;
    let samples: u64 = recordings.iter().map(|recording| recording.samples).sum();
    let mut outcomes: [Vec<Outcome>; 2] = Default::default();
    for run in 0..options.runs.max(1) {
        // Each is first as often as the other.
        for watched in [run % 2 == 1, run % 2 == 0] {
            let how = if watched { "with" } else { "without" };
            print(&format!("run {} of {}: {how} the default detector", run + 1, options.runs.max(1)));
            outcomes[usize::from(watched)].push(run_once(&recordings, samples, watched, binaries, dir.path())?);
        }
    }
    let [without, with] = outcomes;
    let mut report = Report::new(
        "default-detector",
        json!({
            "workload": options.workload, "series": series, "hours": options.hours, "senders": options.senders, "runs": options.runs,
            "samples_per_request": options.samples_per_request, "seed": options.seed, "samples": samples,
        }),
    );
    let samples = samples as f64;
    for (name, outcomes) in [("without", &without), ("with", &with)] {
        let mut figure = |key: &str, of: &dyn Fn(&Outcome) -> f64, note: &str| {
            report.figure(&format!("{name}_{key}"), median(&outcomes.iter().map(of).collect::<Vec<_>>()), note);
        };
        figure("samples_per_second", &|o| samples / o.seconds, "until the last sample is acknowledged and looked at");
        figure("samples_per_cpu_second", &|o| samples / o.cpu_seconds, "the server's, until it rests");
        figure("request_p99_ms", &|o| o.latency_p99_ms, "");
        figure("rss_bytes", &|o| o.rss_bytes as f64, "when it rests");
        figure("bytes_per_sample", &|o| o.disk_bytes as f64 / samples, "the data directory after a clean stop");
    }
    let of_detector = |at: usize| median(&with.iter().map(|o| o.detector[at]).collect::<Vec<_>>());
    report.figure("anomalous_per_million", 1e6 * of_detector(1) / of_detector(0), "samples");
    report.figure("state_bytes_per_series", of_detector(2) / of_detector(3), "");
    report.figure(
        "busy_ns_per_sample",
        1e9 * of_detector(4) / of_detector(0),
        "the detector's own time, waiting included",
    );
    let pairs = |of: &dyn Fn(&Outcome) -> f64| {
        let ratios: Vec<f64> = without.iter().zip(&with).map(|(without, with)| of(without) / of(with)).collect();
        median(&ratios)
    };
    let least = Goal::AtLeast(LEFT_MIN);
    report.goal("left_samples_per_second", pairs(&|o| o.seconds), least, "with to without, median of the pairs");
    report.goal(
        "left_samples_per_cpu_second",
        pairs(&|o| o.cpu_seconds),
        least,
        "with to without, median of the pairs",
    );
    report.finish(results)?;
    report.refuse_missed()
}

fn run_once(recordings: &[Recording], samples: u64, watched: bool, binaries: &Binaries, dir: &Path) -> Result<Outcome> {
    let dir = tempfile::Builder::new().prefix("server").tempdir_in(dir)?;
    let server = Peer::Foretell.start(binaries, dir.path(), free_port()?)?;
    let client = Client::default();
    if watched {
        client.sql(&server.url(), "CREATE DEFAULT DETECTOR")?;
    }
    let before = server.process.usage()?;
    let begun = Instant::now();
    let (latencies_ms, _) = super::ingest::send(recordings, server.address)
        .map_err(|error| anyhow!("{error:#}; {}", server.process.tail()))?;
    let mut detector = [0.0; 5];
    if watched {
        let patience = Instant::now() + CAUGHT_UP_WITHIN;
        while detector[0] < samples as f64 {
            ensure!(Instant::now() < patience, "only {} of {samples} samples were looked at", detector[0]);
            std::thread::sleep(Duration::from_millis(5));
            detector = known(&client, &server.url())?;
        }
        ensure!(detector[0] == samples as f64, "{} of {samples} samples were looked at", detector[0]);
    }
    let seconds = begun.elapsed().as_secs_f64();
    server.process.wait_idle(IDLE_WITHIN)?;
    let usage = server.process.usage()?;
    server.stop()?;
    Ok(Outcome {
        seconds,
        cpu_seconds: usage.cpu_seconds - before.cpu_seconds,
        rss_bytes: usage.rss_bytes,
        latency_p99_ms: percentile(&latencies_ms, 0.99),
        disk_bytes: disk_usage(&dir.path().join("data"))?.iter().map(|entry| entry.1).sum(),
        detector,
    })
}

fn known(client: &Client, url: &str) -> Result<[f64; 5]> {
    let sql = "SELECT samples, anomalous, state_bytes, series, busy_seconds FROM sys.default_detector";
    let rows = client.sql(url, sql)?;
    let row = rows.first().context("there is no default detector")?;
    let numbers: Option<Vec<f64>> = row.iter().map(Value::as_f64).collect();
    numbers.and_then(|numbers| numbers.try_into().ok()).context("a column is no number")
}
