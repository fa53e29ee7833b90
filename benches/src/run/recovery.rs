//! `recovery`: a server is filled until its log has a given size, killed with SIGKILL and started again. How long until it is
//! ready, with how much memory against before, and how long the first query takes.
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::http::{Client, REMOTE_WRITE_HEADERS, Sender};
use crate::peer::{Binaries, Peer};
use crate::process::{Process, Usage, disk_usage, free_port, scratch_dir};
use crate::report::{Report, print};
use crate::workload::Kind;
use crate::workload::encode::BodyEncoder;

/// Samples in a body.
const SAMPLES_PER_REQUEST: usize = 10_000;
/// The size of the log is looked at after so many bodies.
const REQUESTS_PER_LOOK: u64 = 20;
const READY_WITHIN: Duration = Duration::from_secs(600);
/// One series of this metric a target.
const METRIC: &str = "node_load1";
/// What design/reliability.md asks for.
const SECONDS_PER_GIB_MAX: f64 = 10.0;
const MEMORY_RATIO_MAX: f64 = 1.2;
const FIRST_QUERY_MAX: Duration = Duration::from_secs(1);

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Size of the log when the server is killed, MiB
    #[arg(long, default_value_t = 64)]
    pub wal_mib: u64,
    /// Series
    #[arg(long, default_value_t = 50_000)]
    pub series: usize,
    /// Bytes at which a memtable is flushed: below the log's size the log is truncated, unless a consumer holds it back
    #[arg(long, default_value = "64GiB")]
    pub memtable: String,
    /// Seed of the workload
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Fail when a bound is missed
    #[arg(long)]
    pub strict: bool,
}

struct Server {
    process: Process,
    address: SocketAddr,
    ready_in: Duration,
}

fn start(options: &Options, binaries: &Binaries, dir: &Path) -> Result<Server> {
    let address: SocketAddr = ([127, 0, 0, 1], free_port()?).into();
    let mut command = Command::new(binaries.path(Peer::Foretell)?);
    command.arg("serve").arg("--data-dir").arg(dir.join("data")).arg("--listen-http").arg(address.to_string());
    command.args(["--listen-grpc", "none", "--listen-otlp-http", "none"]);
    for (name, value) in [
        // beyond any machine, so that the budget does not flush what shall be replayed
        ("MEMORY", "1024GiB"),
        ("STORAGE_MEMTABLE_BYTES_MAX", options.memtable.as_str()),
        ("STORAGE_MEMTABLE_TOTAL_BYTES_MAX", "128GiB"),
        ("STORAGE_MEMTABLE_AGE_MAX", "30d"),
    ] {
        command.env(format!("FORETELL_{name}"), value);
    }
    let begun = Instant::now();
    let mut process = Process::start("foretell", &mut command, &dir.join("foretell.log"))?;
    let (client, url) = (Client::default(), format!("http://{address}/-/ready"));
    process.wait_until("readiness", READY_WITHIN, || client.is_ok(&url))?;
    Ok(Server { process, address, ready_in: begun.elapsed() })
}

/// Runs it.
///
/// # Errors
/// When rows are missing after the recovery; with `strict` when a bound is missed.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let dir = scratch_dir("recovery")?;
    let server = start(options, binaries, dir.path())?;
    print(&format!("filling a log of {} MiB", options.wal_mib));
    let filled = fill(options, server.address, &dir.path().join("data"))?;
    let before: Usage = server.process.usage()?;
    let wal_bytes = wal_bytes(&dir.path().join("data"))?;
    server.process.kill()?;

    let again = start(options, binaries, dir.path())?;
    let after: Usage = again.process.usage()?;
    let (client, url) = (Client::default(), format!("http://{}", again.address));
    let begun = Instant::now();
    let rows = client.sql(&url, &format!("SELECT count(*), max(ts) FROM metrics.\"{METRIC}\""))?;
    let first_query = begun.elapsed();
    let count = rows.first().and_then(|row| row.first()?.as_u64());
    ensure!(count == Some(filled.of_metric), "{METRIC}: {} rows acknowledged, {count:?} after", filled.of_metric);
    again.process.kill()?;

    let seconds_per_gib = again.ready_in.as_secs_f64() / (wal_bytes as f64 / f64::from(1 << 30));
    let ratio = after.rss_peak_bytes as f64 / before.rss_bytes as f64;
    let mut report = Report::new(
        "recovery",
        json!({"wal_mib": options.wal_mib, "series": options.series, "memtable": options.memtable, "seed": options.seed}),
    );
    report.figure("samples", filled.samples as f64, "acknowledged before the kill");
    report.figure("wal_bytes", wal_bytes as f64, "when the server was killed");
    report.figure("ready_seconds", again.ready_in.as_secs_f64(), "start to ready");
    report.figure("seconds_per_gib", seconds_per_gib, "of log; at most 10 wanted");
    report.figure("rss_steady_bytes", before.rss_bytes as f64, "before the kill");
    report.figure("rss_peak_bytes", after.rss_peak_bytes as f64, "the most during recovery");
    report.figure("memory_ratio", ratio, "peak of recovery to steady; at most 1.2 wanted");
    report.figure("first_query_seconds", first_query.as_secs_f64(), "count and max over one metric; at most 1 wanted");
    report.finish(results)?;
    let missed = missed(wal_bytes, seconds_per_gib, ratio, first_query);
    ensure!(!options.strict || missed.is_empty(), "{}", missed.join("; "));
    missed.iter().for_each(|missed| print(missed));
    Ok(())
}

/// The bounds that are not kept. Of a short log the start of the process says more than the replay.
fn missed(wal_bytes: u64, seconds_per_gib: f64, memory_ratio: f64, first_query: Duration) -> Vec<String> {
    let mut missed = Vec::new();
    if wal_bytes >= 1 << 28 {
        if seconds_per_gib > SECONDS_PER_GIB_MAX {
            missed.push(format!("{seconds_per_gib:.1} s for a GiB of log, more than {SECONDS_PER_GIB_MAX}"));
        }
        if memory_ratio > MEMORY_RATIO_MAX {
            missed.push(format!("recovery takes {memory_ratio:.2} times the steady memory, not {MEMORY_RATIO_MAX}"));
        }
    }
    if first_query > FIRST_QUERY_MAX {
        missed.push(format!("the first query took {first_query:?}, more than {FIRST_QUERY_MAX:?}"));
    }
    missed
}

struct Filled {
    samples: u64,
    of_metric: u64,
}

/// Sends scrapes until the log is large enough.
fn fill(options: &Options, address: SocketAddr, data: &Path) -> Result<Filled> {
    let mut fleet = Kind::Node.fleet(options.series, options.seed, super::start_ms(24.0)?);
    let targets = fleet.targets().len() as u64;
    let mut sender = Sender::connect(address, "/api/v1/write", REMOTE_WRITE_HEADERS)?;
    let (mut body, mut filled, mut requests) = (BodyEncoder::default(), Filled { samples: 0, of_metric: 0 }, 0u64);
    for round in 0.. {
        let mut failure = None;
        fleet.scrape(round, |labels, ts_ms, value| {
            body.push(labels, ts_ms, value);
            if body.samples() >= SAMPLES_PER_REQUEST && failure.is_none() {
                filled.samples += body.samples() as u64;
                requests += 1;
                failure = post(&mut sender, &mut body).err();
            }
        });
        failure.map_or(Ok(()), Err)?;
        if body.samples() > 0 {
            filled.samples += body.samples() as u64;
            post(&mut sender, &mut body)?;
        }
        filled.of_metric += targets;
        if requests >= REQUESTS_PER_LOOK {
            requests = 0;
            if wal_bytes(data)? >= options.wal_mib << 20 {
                break;
            }
        }
    }
    Ok(filled)
}

fn post(sender: &mut Sender, body: &mut BodyEncoder) -> Result<()> {
    let body = body.finish()?;
    let begun = Instant::now();
    loop {
        match sender.post(body)? {
            (200..=299, _) => return Ok(()),
            (429 | 503, _) if begun.elapsed() < READY_WITHIN => thread::sleep(Duration::from_millis(20)),
            (status, answer) => bail!("a body was answered with {status}: {answer}"),
        }
    }
}

fn wal_bytes(data: &Path) -> Result<u64> {
    let entries = disk_usage(data)?;
    entries.iter().find(|(name, _)| name == "wal").map(|(_, bytes)| *bytes).context("no log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_catches_a_slow_or_hungry_recovery() {
        let fast = Duration::from_millis(10);
        assert_eq!(missed(1 << 30, 9.9, 1.19, fast), Vec::<String>::new());
        assert_eq!(missed(1 << 20, 99.0, 9.0, fast), Vec::<String>::new(), "too short a log to tell");
        for (seconds, ratio, query) in [(10.1, 1.0, fast), (1.0, 1.21, fast), (1.0, 1.0, Duration::from_secs(2))] {
            assert_eq!(missed(1 << 30, seconds, ratio, query).len(), 1);
        }
    }
}
