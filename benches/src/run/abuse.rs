//! `abuse`: a real server with little memory, offered more series than it can know and queries heavier than it can carry,
//! while an honest sender and an honest asker go on. It must stay inside its budget and answer with the right codes.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;

use crate::http::{Client, FORM, REMOTE_WRITE_HEADERS, Sender};
use crate::peer::{Binaries, Peer};
use crate::process::{Process, free_port, scratch_dir};
use crate::report::{Report, percentile, print};
use crate::workload::encode::{BodyEncoder, encode_labels};

/// Series of the honest sender.
const HONEST_SERIES: u64 = 1000;
/// Samples of an abusive body.
const SERIES_PER_BODY: u64 = 5000;
/// What the process may have resident beyond its budget: pages of files, which the kernel takes back when it needs them (the
/// program, mapped segments). The budget is about memory that is no file's.
const MAPPED_BYTES_MAX: u64 = 192 << 20;
const START_WITHIN: Duration = Duration::from_secs(60);
/// A refused honest request is sent again; refused for so long it counts as lost.
const HONEST_PATIENCE: Duration = Duration::from_secs(60);
/// Statements that need more memory than a small pool has, one after the other.
const HEAVY: [&str; 8] = [
    "SELECT value, count(*) FROM generate_series(1, 8000000) GROUP BY 1 ORDER BY 2 DESC LIMIT 5",
    "SELECT labels, count(*) FROM samples GROUP BY 1 ORDER BY 2 DESC LIMIT 5",
    "SELECT a.id, count(*) FROM metrics.abuse a JOIN metrics.abuse b ON a.shard = b.shard GROUP BY 1 LIMIT 5",
    "SELECT id, value, ts FROM metrics.abuse ORDER BY value DESC, id",
    "SELECT max(s) FROM (SELECT sum(value) OVER () AS s FROM generate_series(1, 50000000))",
    "SELECT count(DISTINCT a.labels) FROM sys.series a JOIN sys.series b ON a.id = b.id",
    "SELECT max(n) FROM (SELECT path, row_number() OVER (PARTITION BY shard ORDER BY path DESC) AS n FROM metrics.abuse)",
    "SELECT array_agg(value) FROM generate_series(1, 100000000)",
];
/// PromQL of the same kind, over eleven thousand steps.
const HEAVY_PROMQL: [&str; 7] = [
    "count_values(\"v\", abuse)",
    "abuse * on(id) group_left abuse",
    "max_over_time(max_over_time(abuse[1y:1s])[1y:1s])",
    "sum_over_time(vector(1)[30y:1ms])",
    "stddev_over_time(vector(1)[1d:1s])",
    "topk(5, sum by (id, path) ({__name__=~\".+\"}))",
    "quantile by (shard) (0.99, rate(abuse[1h]))",
];
/// What a dashboard asks.
const HONEST: &str = "SELECT count(*), max(value) FROM metrics.honest WHERE instance = '10.0.0.1:7'";

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
    pub senders: usize,
    /// Connections that ask heavy questions
    #[arg(long, default_value_t = 2)]
    pub askers: usize,
}

/// Most memory of the server, bytes.
#[derive(Default)]
struct Peaks {
    /// Not a file's.
    anonymous: AtomicU64,
    /// All, as the kernel keeps it.
    resident: AtomicU64,
}

/// What happened, shared by all threads.
struct Seen {
    /// Senders and askers that have not done all they are to do; the others go on until it is 0.
    busy: AtomicUsize,
    /// Who was answered how often with which status.
    codes: Mutex<BTreeMap<(&'static str, u16), u64>>,
    peaks: Peaks,
}

impl Seen {
    fn answered(&self, who: &'static str, status: u16) {
        let mut codes = self.codes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *codes.entry((who, status)).or_default() += 1;
    }
    fn count(&self, who: &str, status: u16) -> u64 {
        let codes = self.codes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        codes.iter().filter(|(key, _)| key.0 == who && key.1 == status).map(|(_, count)| count).sum()
    }
    fn is_over(&self) -> bool {
        self.busy.load(Ordering::Acquire) == 0
    }
    /// One sender or asker has done its part; nobody else needs to go on after an error.
    fn done(&self, result: &Result<()>) {
        match result {
            Ok(()) => drop(self.busy.fetch_update(Ordering::AcqRel, Ordering::Acquire, |busy| busy.checked_sub(1))),
            Err(_) => self.busy.store(0, Ordering::Release),
        }
    }
}

/// What the honest ones saw: milliseconds from each request to its acknowledgement or answer.
#[derive(Default)]
struct Honest {
    writes_ms: Vec<f64>,
    queries_ms: Vec<f64>,
}

/// Runs it.
///
/// # Errors
/// When the server dies, exceeds its budget, answers with a wrong code, or refuses honest requests for good.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let dir = scratch_dir("abuse")?;
    let address: SocketAddr = ([127, 0, 0, 1], free_port()?).into();
    let mut command = Command::new(binaries.path(Peer::Foretell)?);
    command.arg("serve").arg("--data-dir").arg(dir.path().join("data")).arg("--listen-http").arg(address.to_string());
    command.args(["--listen-grpc", "none", "--listen-otlp-http", "none"]);
    command.arg("--memory").arg(format!("{}MiB", options.memory_mib));
    let mut server = Process::start("foretell", &mut command, &dir.path().join("foretell.log"))?;
    let (client, url) = (Client::default(), format!("http://{address}"));
    server.wait_until("readiness", START_WITHIN, || client.is_ok(&format!("{url}/-/ready")))?;
    print(&format!("{} series offered to a server of {} MiB", options.series, options.memory_mib));

    let seen = Seen {
        busy: AtomicUsize::new(options.senders + options.askers),
        codes: Mutex::default(),
        peaks: Peaks::default(),
    };
    let begun = Instant::now();
    let honest =
        load(options, address, &url, &server, &seen).map_err(|error| anyhow!("{error:#}; {}", server.tail()))?;
    let elapsed = begun.elapsed();

    // Everything honest and acknowledged is there.
    let rows = client.sql(&url, "SELECT count(*) FROM metrics.honest")?;
    let expected = honest.writes_ms.len() as u64 * HONEST_SERIES;
    ensure!(rows[0][0].as_u64() == Some(expected), "{expected} honest samples acknowledged, {} stored", rows[0][0]);
    let mut report = report(options, &seen, honest, elapsed);
    for (share, used, most) in shares(&client, &url)? {
        report.figure(&format!("{share}_bytes"), used, &format!("in use afterwards, of {} MiB", most as u64 >> 20));
    }
    let known = client.sql(&url, "SELECT count(*) FROM sys.series")?;
    report.figure("series_known", known[0][0].as_f64().unwrap_or(0.0), "of those offered, and the honest ones");
    report.finish(results)?;
    check(options, &seen)?;
    server.stop(Duration::from_secs(120))?;
    Ok(())
}

/// Everybody at once, until the abusers have done their part.
fn load(options: &Options, address: SocketAddr, url: &str, server: &Process, seen: &Seen) -> Result<Honest> {
    thread::scope(|scope| {
        let mut others = Vec::new();
        for sender in 0..options.senders {
            let series = options.series / options.senders as u64;
            others.push(scope.spawn(move || {
                let offered = offer(address, sender, series, seen);
                seen.done(&offered);
                offered
            }));
        }
        for asker in 0..options.askers {
            others.push(scope.spawn(move || {
                let asked = ask(url, asker, seen);
                if asked.is_err() {
                    seen.done(&asked);
                }
                asked
            }));
        }
        others.push(scope.spawn(move || {
            let watched = watch(server, seen);
            if watched.is_err() {
                seen.done(&watched);
            }
            watched
        }));
        let queries = scope.spawn(move || ask_honestly(url, seen));
        let writes = send_honestly(address, seen);
        if writes.is_err() {
            seen.busy.store(0, Ordering::Release);
        }
        // The watcher knows best why the others failed.
        for other in others.into_iter().rev() {
            other.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        let queries_ms = queries.join().map_err(|_| anyhow!("a thread panicked"))??;
        Ok(Honest { writes_ms: writes?, queries_ms })
    })
}

/// The verdict, after the figures are written.
fn check(options: &Options, seen: &Seen) -> Result<()> {
    let budget = options.memory_mib << 20;
    let anonymous = seen.peaks.anonymous.load(Ordering::Relaxed);
    let resident = seen.peaks.resident.load(Ordering::Relaxed);
    ensure!(anonymous <= budget, "{} MiB of memory with a budget of {} MiB", anonymous >> 20, options.memory_mib);
    ensure!(
        resident <= budget + MAPPED_BYTES_MAX,
        "{} MiB resident with a budget of {} MiB and {} MiB for mapped files",
        resident >> 20,
        options.memory_mib,
        MAPPED_BYTES_MAX >> 20
    );
    ensure!(seen.count("offer", 429) > 0, "no new series was refused: offer more, or give the server less memory");
    let refused = seen.count("ask", 422) + seen.count("ask", 503);
    ensure!(refused > 0, "no heavy query was refused");
    let refused = seen.count("ask PromQL", 422) + seen.count("ask PromQL", 503);
    ensure!(refused > 0, "no heavy PromQL was refused");
    Ok(())
}

/// Offers series that nobody has seen before.
fn offer(address: SocketAddr, sender: usize, series: u64, seen: &Seen) -> Result<()> {
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

/// Asks heavy questions, each once at least, one after the other.
fn ask(url: &str, asker: usize, seen: &Seen) -> Result<()> {
    let client = Client::default();
    for (n, sql) in HEAVY.iter().cycle().skip(asker).enumerate() {
        if n == HEAVY.len() {
            seen.done(&Ok(()));
        }
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
        let expr = HEAVY_PROMQL[n % HEAVY_PROMQL.len()];
        let pairs = [("query", expr), ("start", "0"), ("end", "10999"), ("step", "1"), ("timeout", "5s")];
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let headers = [("content-type", FORM)];
        let (status, text) = client.post(&format!("{url}/api/v1/query_range"), &headers, form.as_bytes())?;
        let text = String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned();
        ensure!(matches!(status, 200 | 422 | 503), "{expr} was answered with {status}: {text}");
        seen.answered("ask PromQL", status);
        if status == 503 {
            thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Follows the server's memory.
fn watch(server: &Process, seen: &Seen) -> Result<()> {
    while !seen.is_over() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).context("the server is gone")?;
        for (key, peak) in [("RssAnon:", &seen.peaks.anonymous), ("VmHWM:", &seen.peaks.resident)] {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            peak.fetch_max(kib.context("the server is gone")? * 1024, Ordering::Relaxed);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Sends a sample of each of its series again and again. One refused is sent again, as senders do.
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
            seen.answered("honest write", status);
            if status == 204 {
                break;
            }
            ensure!(matches!(status, 429 | 503), "honest samples were answered with {status}: {answer}");
            ensure!(begun.elapsed() < HONEST_PATIENCE, "honest samples are refused for a minute: {answer}");
            thread::sleep(Duration::from_millis(20));
        }
        times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(50));
    }
    Ok(times_ms)
}

/// Asks a small question again and again; one refused is asked again.
fn ask_honestly(url: &str, seen: &Seen) -> Result<Vec<f64>> {
    let asked = ask_until_over(url, seen);
    if asked.is_err() {
        seen.busy.store(0, Ordering::Release);
    }
    asked
}

fn ask_until_over(url: &str, seen: &Seen) -> Result<Vec<f64>> {
    let (client, mut times_ms) = (Client::default(), Vec::new());
    let url = format!("{url}/api/v1/sql");
    while !seen.is_over() {
        let begun = Instant::now();
        loop {
            let (status, answer) = client.post(&url, &[("content-type", "text/plain")], HONEST.as_bytes())?;
            seen.answered("honest query", status);
            if status == 200 {
                break;
            }
            let answer = String::from_utf8_lossy(&answer).into_owned();
            // Before the first sample there is no such table.
            ensure!(matches!(status, 404 | 503), "an honest query was answered with {status}: {answer}");
            ensure!(begun.elapsed() < HONEST_PATIENCE, "an honest query is refused for a minute: {answer}");
            thread::sleep(Duration::from_millis(20));
        }
        times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        thread::sleep(Duration::from_millis(100));
    }
    Ok(times_ms)
}

/// Name, use and most of each share of the memory.
fn shares(client: &Client, url: &str) -> Result<Vec<(String, f64, f64)>> {
    let (_, text) = client.get(&format!("{url}/metrics"))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let of = |metric: &str| -> BTreeMap<String, f64> {
        let prefix = format!("{metric}{{share=\"");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "));
        lines.filter_map(|(share, value)| Some((share.to_owned(), value.parse().ok()?))).collect()
    };
    let most = of("foretell_memory_share_bytes");
    let used = of("foretell_memory_used_bytes").into_iter();
    Ok(used.map(|(share, used)| (share.clone(), used, most.get(&share).copied().unwrap_or(0.0))).collect())
}

fn report(options: &Options, seen: &Seen, honest: Honest, elapsed: Duration) -> Report {
    let parameters = json!({
        "memory_mib": options.memory_mib, "series": options.series, "senders": options.senders, "askers": options.askers,
    });
    let mut report = Report::new("abuse", parameters);
    let peak = |peak: &AtomicU64| peak.load(Ordering::Relaxed) as f64;
    report.figure("budget_bytes", (options.memory_mib << 20) as f64, "");
    report.figure("anonymous_peak_bytes", peak(&seen.peaks.anonymous), "most memory that is not a file's");
    report.figure(
        "resident_peak_bytes",
        peak(&seen.peaks.resident),
        "most memory, program and mapped segments included",
    );
    report.figure("seconds", elapsed.as_secs_f64(), "");
    for (what, note, mut times_ms) in [
        ("honest_write", "offered to acknowledged", honest.writes_ms),
        ("honest_query", "asked to answered", honest.queries_ms),
    ] {
        times_ms.sort_by(f64::total_cmp);
        report.figure(&format!("{what}s"), times_ms.len() as f64, "with success, sooner or later");
        if !times_ms.is_empty() {
            report.figure(&format!("{what}_p50_ms"), percentile(&times_ms, 0.5), note);
            report.figure(&format!("{what}_p99_ms"), percentile(&times_ms, 0.99), "");
        }
    }
    let codes = seen.codes.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for ((who, status), count) in codes.iter() {
        report.figure(&format!("{who} {status}"), *count as f64, "answers");
    }
    drop(codes);
    report
}
