//! `abuse`: a real server with little memory, offered more series than it can know and queries heavier than it can carry,
//! while an honest sender goes on. It must stay inside its budget and answer with the right codes.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;

use crate::http::{Client, REMOTE_WRITE_HEADERS, Sender};
use crate::peer::{Binaries, Peer};
use crate::process::{Process, free_port, scratch_dir};
use crate::report::{Report, percentile, print};
use crate::workload::encode::{BodyEncoder, encode_labels};

/// Series of the honest sender.
const HONEST_SERIES: u64 = 1000;
/// Samples of an abusive body.
const SERIES_PER_BODY: u64 = 5000;
const START_WITHIN: Duration = Duration::from_secs(60);
/// Statements that need more memory than a small pool has, one after the other.
const HEAVY: [&str; 4] = [
    "SELECT value, count(*) FROM generate_series(1, 8000000) GROUP BY 1 ORDER BY 2 DESC LIMIT 5",
    "SELECT labels, count(*) FROM samples GROUP BY 1 ORDER BY 2 DESC LIMIT 5",
    "SELECT a.id, count(*) FROM metrics.abuse a JOIN metrics.abuse b ON a.shard = b.shard GROUP BY 1 LIMIT 5",
    "SELECT id, value, ts FROM metrics.abuse ORDER BY value DESC, id",
];

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The server's memory budget, MiB
    #[arg(long, default_value_t = 512)]
    pub memory_mib: u64,
    /// Series offered
    #[arg(long, default_value_t = 2_000_000)]
    pub series: u64,
    /// Connections that offer them
    #[arg(long, default_value_t = 2)]
    pub senders: u64,
    /// Connections that ask
    #[arg(long, default_value_t = 2)]
    pub askers: usize,
}

/// What happened, shared by all threads.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    offering: AtomicU64,
    /// Who was answered how often with which status.
    codes: Mutex<BTreeMap<(&'static str, u16), u64>>,
    /// Most memory that is not a file's, and most memory, bytes.
    anonymous_peak: AtomicU64,
    resident_peak: AtomicU64,
}

impl Seen {
    fn answered(&self, who: &'static str, status: u16) {
        let mut codes = self.codes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *codes.entry((who, status)).or_default() += 1;
    }
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// Runs it.
///
/// # Errors
/// When the server dies, exceeds its budget, answers with a wrong code, or refuses honest samples for good.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let dir = scratch_dir("abuse")?;
    let address: SocketAddr = ([127, 0, 0, 1], free_port()?).into();
    let mut command = Command::new(binaries.path(Peer::Foretell)?);
    command.arg("serve").arg("--data-dir").arg(dir.path().join("data")).arg("--listen-http").arg(address.to_string());
    command.arg("--memory").arg(format!("{}MiB", options.memory_mib));
    let mut server = Process::start("foretell", &mut command, &dir.path().join("foretell.log"))?;
    let (client, url) = (Client::default(), format!("http://{address}"));
    server.wait_until("readiness", START_WITHIN, || client.is_ok(&format!("{url}/-/ready")))?;
    print(&format!("{} series offered to a server of {} MiB", options.series, options.memory_mib));

    let seen = Seen::default();
    seen.offering.store(options.senders, Ordering::Relaxed);
    let begun = Instant::now();
    let honest = thread::scope(|scope| -> Result<Vec<f64>> {
        let (seen, url, server) = (&seen, url.as_str(), &server);
        let mut others = Vec::new();
        for sender in 0..options.senders {
            others.push(scope.spawn(move || {
                let offered = offer(address, sender, options.series / options.senders.max(1), seen);
                if seen.offering.fetch_sub(1, Ordering::AcqRel) == 1 || offered.is_err() {
                    seen.over.store(true, Ordering::Release);
                }
                offered
            }));
        }
        for asker in 0..options.askers {
            others.push(scope.spawn(move || ask(url, asker, seen)));
        }
        others.push(scope.spawn(move || watch(server, seen)));
        let honest = send_honestly(address, seen);
        seen.over.store(true, Ordering::Release);
        for other in others {
            other.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        honest
    })
    .map_err(|error| anyhow!("{error:#}; {}", server.tail()))?;
    let elapsed = begun.elapsed();

    // Everything honest and acknowledged is there.
    let rows = client.sql(&url, "SELECT count(*) FROM metrics.honest")?;
    let expected = honest.len() as u64 * HONEST_SERIES;
    ensure!(rows[0][0].as_u64() == Some(expected), "{expected} honest samples acknowledged, {} stored", rows[0][0]);
    let known = client.sql(&url, "SELECT count(*) FROM sys.series")?;
    let budget = options.memory_mib << 20;
    let peak = seen.anonymous_peak.load(Ordering::Relaxed);
    report(options, &seen, honest, elapsed, known[0][0].as_f64().unwrap_or(0.0)).finish(results)?;
    ensure!(peak <= budget, "{} MiB of memory with a budget of {} MiB", peak >> 20, options.memory_mib);
    server.stop(Duration::from_secs(120))?;
    Ok(())
}

/// Offers series that nobody has seen before.
fn offer(address: SocketAddr, sender: u64, series: u64, seen: &Seen) -> Result<()> {
    let mut connection = Sender::connect(address, "/api/v1/write", REMOTE_WRITE_HEADERS)?;
    let mut body = BodyEncoder::default();
    let mut offered = 0;
    while offered < series && !seen.is_over() {
        for n in offered..(offered + SERIES_PER_BODY).min(series) {
            let id = format!("{sender:02x}-{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let path = format!("/customers/{id}/orders/{n}");
            let labels = encode_labels(&[
                ("__name__", "abuse"),
                ("id", &id),
                ("instance", "10.1.2.3:9100"),
                ("job", "shop"),
                ("path", &path),
                ("shard", &(n % 64).to_string()),
            ]);
            body.push(&labels, 1_000, n as f64);
        }
        offered += SERIES_PER_BODY;
        let (status, answer) = connection.post(body.finish()?)?;
        ensure!(matches!(status, 204 | 429 | 503), "new series were answered with {status}: {answer}");
        seen.answered("offer", status);
        if status == 503 {
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Asks heavy questions, one after the other.
fn ask(url: &str, asker: usize, seen: &Seen) -> Result<()> {
    let client = Client::default();
    for sql in HEAVY.iter().cycle().skip(asker) {
        if seen.is_over() {
            break;
        }
        let answer =
            client.post(&format!("{url}/api/v1/sql?format=csv"), &[("content-type", "text/plain")], sql.as_bytes());
        // An answer that fails on its way breaks the connection, by contract.
        let Ok((status, text)) = answer else {
            seen.answered("ask, broken off", 200);
            continue;
        };
        let early = status == 404 && sql.contains("abuse");
        let text = String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned();
        ensure!(matches!(status, 200 | 422 | 503) || early, "{sql} was answered with {status}: {text}");
        seen.answered("ask", status);
    }
    Ok(())
}

/// Follows the server's memory.
fn watch(server: &Process, seen: &Seen) -> Result<()> {
    while !seen.is_over() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).context("the server is gone")?;
        for (key, peak) in [("RssAnon:", &seen.anonymous_peak), ("VmRSS:", &seen.resident_peak)] {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            peak.fetch_max(kib.context("the server is gone")? * 1024, Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Sends a sample of each of its series again and again; the time to each acknowledgement, milliseconds. One refused is
/// sent again, as senders do.
fn send_honestly(address: SocketAddr, seen: &Seen) -> Result<Vec<f64>> {
    let labels: Vec<Box<[u8]>> = (0..HONEST_SERIES)
        .map(|n| encode_labels(&[("__name__", "honest"), ("instance", &format!("10.0.0.1:{n}")), ("job", "node")]))
        .collect();
    let mut connection = Sender::connect(address, "/api/v1/write", REMOTE_WRITE_HEADERS)?;
    let (mut body, mut times_ms) = (BodyEncoder::default(), Vec::new());
    while !seen.is_over() {
        for labels in &labels {
            body.push(labels, 1_000 + times_ms.len() as i64 * 1_000, 1.0);
        }
        let bytes = body.finish()?.to_vec();
        let begun = Instant::now();
        loop {
            let (status, answer) = connection.post(&bytes)?;
            seen.answered("honest", status);
            if status == 204 {
                break;
            }
            ensure!(matches!(status, 429 | 503), "honest samples were answered with {status}: {answer}");
            ensure!(begun.elapsed() < Duration::from_secs(60), "honest samples are refused for a minute: {answer}");
            thread::sleep(Duration::from_millis(20));
        }
        times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(times_ms)
}

fn report(options: &Options, seen: &Seen, mut honest: Vec<f64>, elapsed: Duration, known: f64) -> Report {
    let parameters = json!({
        "memory_mib": options.memory_mib, "series": options.series, "senders": options.senders, "askers": options.askers,
    });
    let mut report = Report::new("abuse", parameters);
    honest.sort_by(f64::total_cmp);
    let peak = |peak: &AtomicU64| peak.load(Ordering::Relaxed) as f64;
    report.figure("anonymous_peak_bytes", peak(&seen.anonymous_peak), "most memory that is not a file's");
    report.figure("resident_peak_bytes", peak(&seen.resident_peak), "most memory, mapped segments included");
    report.figure("budget_bytes", (options.memory_mib << 20) as f64, "");
    report.figure("series_known", known, "of those offered, and the honest ones");
    report.figure("seconds", elapsed.as_secs_f64(), "");
    report.figure("honest_requests", honest.len() as f64, "all acknowledged, all found again");
    if !honest.is_empty() {
        report.figure("honest_p50_ms", percentile(&honest, 0.5), "offered to acknowledged");
        report.figure("honest_p99_ms", percentile(&honest, 0.99), "");
    }
    let codes = seen.codes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for ((who, status), count) in codes.iter() {
        report.figure(&format!("{who} {status}"), *count as f64, "answers");
    }
    report
}
