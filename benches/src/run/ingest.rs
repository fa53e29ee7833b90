//! `ingest`: real servers under load over HTTP. Every run starts on an empty directory, sends the same recorded bodies from
//! several senders, stops the server cleanly and weighs its directory. With peers, runs alternate and figures are medians.
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::json;

use crate::http::{Client, REMOTE_WRITE_HEADERS, Sender};
use crate::peer::{Binaries, Peer};
use crate::process::{Usage, disk_usage, free_port, scratch_dir};
use crate::recording::{Record, Recording, record};
use crate::report::{Report, median, percentile, print};
use crate::workload::Kind;

/// No sender runs further ahead of the slowest than this: Prometheus refuses what is an hour behind.
const SKEW_MS_MAX: i64 = 20 * 60_000;
/// A body is offered again for this long while the server is busy.
const BUSY_FOR_MAX: Duration = Duration::from_secs(60);

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
    #[arg(long, default_value_t = 1.0)]
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
    /// Also measure this server (may be given twice); needs --peers
    #[arg(long = "peer", value_enum)]
    pub peer: Vec<Peer>,
    /// Runs of each server
    #[arg(long, default_value_t = 1)]
    pub runs: usize,
}

/// What one run of one server showed.
struct Outcome {
    wall_seconds: f64,
    usage: Usage,
    idle_rss_bytes: u64,
    /// Sorted, milliseconds.
    latencies_ms: Vec<f64>,
    busy_answers: u64,
    stop: Duration,
    restart: Duration,
    disk: Vec<(String, u64)>,
}

/// Runs it.
///
/// # Errors
/// When a server refuses a body, loses one, or does not stop.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let measured = measure(options, binaries)?;
    let workload = serde_json::to_value(options.workload)?;
    let suffix = if measured.outcomes.len() > 1 { "-peers" } else { "" };
    let mut report = Report::new(
        &format!("ingest-{}{suffix}", workload.as_str().unwrap_or_default()),
        json!({
            "workload": workload, "series": measured.series, "hours": options.hours, "senders": options.senders,
            "samples_per_request": options.samples_per_request, "seed": options.seed, "runs": options.runs,
            "samples": measured.samples, "body_bytes": measured.body_bytes,
        }),
    );
    for (peer, _) in &measured.outcomes {
        report.text(&format!("{}_version", peer.name()), &peer.version(binaries)?, "");
    }
    measured.describe("", &mut report);
    report.finish(results)?;
    Ok(())
}

/// Every server under one load.
pub(super) struct Measured {
    series: usize,
    samples: u64,
    body_bytes: u64,
    outcomes: Vec<(Peer, Vec<Outcome>)>,
}

/// Sends one load to every server of `options`, in turn.
///
/// # Errors
/// As [`run`].
pub(super) fn measure(options: &Options, binaries: &Binaries) -> Result<Measured> {
    let dir = scratch_dir("ingest")?;
    let fleet = options.workload.fleet(options.series, options.seed, super::start_ms(options.hours)?);
    let (series, rounds, targets) = (fleet.series(), fleet.rounds(options.hours), fleet.targets().len());
    print(&format!("recording {rounds} scrapes of {targets} targets, {series} series"));
    let recordings = record(fleet, rounds, options.senders, options.samples_per_request, dir.path())?;
    let load = Load { options, recordings, expected: rounds * targets as u64 };
    let mut peers = vec![Peer::Foretell];
    peers.extend(options.peer.iter().copied().filter(|&peer| peer != Peer::Foretell));
    let mut outcomes: Vec<(Peer, Vec<Outcome>)> = peers.iter().map(|&peer| (peer, Vec::new())).collect();
    for run in 0..options.runs.max(1) {
        for (peer, outcomes) in &mut outcomes {
            let peer = *peer;
            print(&format!("run {} of {}: {}", run + 1, options.runs.max(1), peer.name()));
            outcomes.push(load.run_once(peer, binaries, dir.path()).with_context(|| peer.name())?);
        }
    }
    let body_bytes = load.recordings.iter().map(|r| r.bytes).sum();
    Ok(Measured { series, samples: load.samples(), body_bytes, outcomes })
}

impl Measured {
    /// Adds figures whose names begin with `prefix`: of each server the medians, and of ours to those of others the ratios.
    pub(super) fn describe(&self, prefix: &str, report: &mut Report) {
        for (peer, outcomes) in &self.outcomes {
            self.describe_one(prefix, *peer, outcomes, report);
        }
        for (peer, _) in &self.outcomes[1..] {
            for key in [
                "samples_per_second",
                "samples_per_cpu_second",
                "request_p99_ms",
                "bytes_per_sample",
                "rss_bytes_per_series",
            ] {
                let of = |peer: Peer| report.get(&format!("{prefix}{}_{key}", peer.name()));
                if let (Some(ours), Some(theirs)) = (of(Peer::Foretell), of(*peer)) {
                    report.figure(&format!("{prefix}ratio_{}_{key}", peer.name()), ours / theirs, "ours to theirs");
                }
            }
        }
    }

    fn describe_one(&self, prefix: &str, peer: Peer, outcomes: &[Outcome], report: &mut Report) {
        let samples = self.samples as f64;
        let middle = |of: &dyn Fn(&Outcome) -> f64| median(&outcomes.iter().map(of).collect::<Vec<_>>());
        let mut figure = |key: &str, of: &dyn Fn(&Outcome) -> f64, note: &str| {
            report.figure(&format!("{prefix}{}_{key}", peer.name()), middle(of), note);
        };
        figure("samples_per_second", &|o| samples / o.wall_seconds, "wall clock, senders on the same cores");
        figure("samples_per_cpu_second", &|o| samples / o.usage.cpu_seconds, "the server's user and system time");
        figure("request_p50_ms", &|o| percentile(&o.latencies_ms, 0.5), "one body to its acknowledgement");
        figure("request_p99_ms", &|o| percentile(&o.latencies_ms, 0.99), "");
        figure("busy_answers", &|o| o.busy_answers as f64, "429 or 503, sent again");
        let per_series = |o: &Outcome| o.usage.rss_bytes.saturating_sub(o.idle_rss_bytes) as f64 / self.series as f64;
        figure("rss_bytes_per_series", &per_series, "resident at the end, less than at the start, per active series");
        figure("rss_peak_bytes", &|o| o.usage.rss_peak_bytes as f64, "");
        figure("stop_seconds", &|o| o.stop.as_secs_f64(), "SIGTERM to the end");
        figure("restart_seconds", &|o| o.restart.as_secs_f64(), "start to ready on that directory");
        let bytes = |o: &Outcome| o.disk.iter().map(|(_, bytes)| *bytes as f64).sum::<f64>() / samples;
        figure("bytes_per_sample", &bytes, "the whole data directory after the clean stop, index included");
        let Some(last) = outcomes.last() else { return };
        for (entry, _) in &last.disk {
            let of = |o: &Outcome| {
                o.disk.iter().find(|(name, _)| name == entry).map_or(0, |(_, bytes)| *bytes) as f64 / samples
            };
            figure(&format!("bytes_per_sample/{entry}"), &of, "");
        }
    }
}

/// The same for every server.
struct Load<'a> {
    options: &'a Options,
    recordings: Vec<Recording>,
    /// Samples of a metric of which each target has one series.
    expected: u64,
}

impl Load<'_> {
    fn samples(&self) -> u64 {
        self.recordings.iter().map(|recording| recording.samples).sum()
    }

    fn run_once(&self, peer: Peer, binaries: &Binaries, dir: &Path) -> Result<Outcome> {
        let dir = tempfile::Builder::new().prefix(peer.name()).tempdir_in(dir)?;
        let server = peer.start(binaries, dir.path(), free_port()?)?;
        let before = server.process.usage()?;
        let begun = Instant::now();
        let (latencies_ms, busy_answers) =
            send(&self.recordings, server.address).map_err(|error| anyhow!("{error:#}; {}", server.process.tail()))?;
        let wall_seconds = begun.elapsed().as_secs_f64();
        let mut usage = server.process.usage()?;
        usage.cpu_seconds -= before.cpu_seconds;
        if peer == Peer::Foretell {
            self.check(&server.url())?;
        }
        let stop = server.stop()?;
        let disk = disk_usage(&dir.path().join("data"))?;
        let again = peer.start(binaries, dir.path(), free_port()?)?;
        let restart = again.started_in;
        if peer == Peer::Foretell {
            self.check(&again.url()).context("after a restart")?;
        }
        again.stop()?;
        Ok(Outcome {
            wall_seconds,
            usage,
            idle_rss_bytes: before.rss_bytes,
            latencies_ms,
            busy_answers,
            stop,
            restart,
            disk,
        })
    }

    /// A metric of which each target has one series has as many rows as were sent.
    fn check(&self, url: &str) -> Result<()> {
        let metric = match self.options.workload {
            Kind::Tsbs => "cpu_usage_user",
            Kind::Node | Kind::Churn => "node_load1",
        };
        let rows = Client::default().sql(url, &format!("SELECT count(*) FROM metrics.\"{metric}\""))?;
        let count = rows.first().and_then(|row| row.first()?.as_u64());
        ensure!(count == Some(self.expected), "{metric}: {} rows sent, {count:?} stored", self.expected);
        Ok(())
    }
}

/// Sends everything, each recording over a connection of its own: latencies, sorted, and how often the server was busy.
///
/// # Errors
/// When the server refuses a body.
pub(super) fn send(recordings: &[Recording], address: SocketAddr) -> Result<(Vec<f64>, u64)> {
    send_to(recordings, address, "/api/v1/write", REMOTE_WRITE_HEADERS)
}

/// The same to another route.
///
/// # Errors
/// As [`send`].
pub(super) fn send_to(
    recordings: &[Recording],
    address: SocketAddr,
    path: &str,
    headers: &str,
) -> Result<(Vec<f64>, u64)> {
    let progress: Vec<AtomicI64> = recordings.iter().map(|_| AtomicI64::new(i64::MIN)).collect();
    let busy_answers = AtomicU64::new(0);
    let mut latencies = thread::scope(|scope| -> Result<Vec<f64>> {
        let senders: Vec<_> = (0..recordings.len())
            .map(|i| {
                let (progress, busy_answers) = (&progress, &busy_answers);
                scope.spawn(move || {
                    let sender = Sender::connect(address, path, headers);
                    let sent = sender
                        .and_then(|sender| send_one(&recordings[i], sender, &progress[i], progress, busy_answers));
                    // whether done or failed, nobody waits for this one any more
                    progress[i].store(i64::MAX, Ordering::Release);
                    sent
                })
            })
            .collect();
        let mut all = Vec::new();
        for sender in senders {
            all.extend(sender.join().map_err(|_| anyhow!("a sender panicked"))??);
        }
        Ok(all)
    })?;
    latencies.sort_by(f64::total_cmp);
    Ok((latencies, busy_answers.into_inner()))
}

fn send_one(
    recording: &Recording,
    mut sender: Sender,
    own: &AtomicI64,
    progress: &[AtomicI64],
    busy_answers: &AtomicU64,
) -> Result<Vec<f64>> {
    let (mut replay, mut record) = (recording.replay()?, Record::default());
    let mut latencies_ms = Vec::with_capacity(recording.requests as usize);
    while replay.next_into(&mut record)? {
        own.store(record.due_ms, Ordering::Release);
        let slowest = || progress.iter().map(|p| p.load(Ordering::Acquire)).min().unwrap_or(i64::MAX);
        // i64::MIN: somebody has not begun yet
        while record.due_ms.saturating_sub(slowest().max(record.due_ms - 2 * SKEW_MS_MAX)) > SKEW_MS_MAX {
            thread::sleep(Duration::from_micros(200));
        }
        let begun = Instant::now();
        loop {
            let (status, answer) = sender.post(&record.body)?;
            match status {
                200..=299 => break,
                429 | 503 if begun.elapsed() < BUSY_FOR_MAX => {
                    busy_answers.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                }
                _ => bail!("a body was answered with {status}: {answer}"),
            }
        }
        latencies_ms.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies_ms)
}
