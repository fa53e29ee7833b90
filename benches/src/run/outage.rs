//! `outage`: webhooks that answer 500 or hang, for as long as one likes. Who listens is told as fast as ever, the others are asked
//! again and again with pauses, and have every notice, in order, once they listen.
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::http::{Client, REMOTE_WRITE_HEADERS, Sender};
use crate::http_server::{Answer, HttpServer, Request};
use crate::peer::{Binaries, Peer, Server};
use crate::process::{free_port, scratch_dir};
use crate::report::{Goal, Report, percentile, print};
use crate::workload::encode::{BodyEncoder, encode_labels};

/// What a sample that is far off has, at least.
const FAR: f64 = 1_000_000.0;
/// Longest pause of the server between two attempts, and the time that it gives who is told.
const PAUSE_MAX: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long the others may take to be told of everything after the outage.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(120);
/// What ingest-to-alert may take, outage or not.
const ALERT_P99_MS_MAX: f64 = 1_000.0;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Seconds for which two of three webhooks take nothing
    #[arg(long = "for", default_value_t = 3_600)]
    pub seconds: u64,
    /// Seconds between two alerts
    #[arg(long, default_value_t = 2.0)]
    pub every: f64,
}

/// Somebody who is told.
struct Listener {
    server: HttpServer,
    how: How,
    attempts: AtomicU64,
    /// Notices in the order in which they were taken first.
    taken: Mutex<Vec<Taken>>,
}

/// A notice that was taken.
struct Taken {
    key: String,
    /// The sample's value.
    number: i64,
    firing: bool,
    at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Listens,
    Refuses,
    Hangs,
}

impl Listener {
    fn new(how: How) -> Result<Self> {
        Ok(Self { server: HttpServer::bind()?, how, attempts: AtomicU64::new(0), taken: Mutex::default() })
    }

    fn answer(&self, request: &Request, outage: &AtomicBool) -> Answer {
        let at = Instant::now();
        self.attempts.fetch_add(1, Ordering::Relaxed);
        match self.how {
            How::Refuses if outage.load(Ordering::Acquire) => return Some("500 Internal Server Error"),
            How::Hangs if outage.load(Ordering::Acquire) => {
                thread::sleep(TIMEOUT + Duration::from_secs(1));
                return None;
            }
            _ => {}
        }
        let notice: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let key = request.header("idempotency-key").to_owned();
        let number = notice["value"].as_f64().map_or(-1, |value| value as i64);
        let mut taken = self.taken();
        if !taken.iter().any(|known| known.key == key) {
            taken.push(Taken { key, number, firing: notice["status"] == "firing", at });
        }
        Some("200 OK")
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Vec<Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was seen.
struct Seen {
    latencies_ms: Vec<f64>,
    requests_ms: Vec<f64>,
    caught_up_seconds: f64,
    attempts: [u64; 2],
    waiting: u64,
}

/// Runs it.
///
/// # Errors
/// When somebody misses a notice or hears of them in another order, or, after all is written, a figure missed its goal.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let dir = scratch_dir("outage")?;
    let server = Peer::Foretell.start(binaries, dir.path(), free_port()?)?;
    let listeners = [Listener::new(How::Listens)?, Listener::new(How::Refuses)?, Listener::new(How::Hangs)?];
    let (stop, outage) = (AtomicBool::new(false), AtomicBool::new(true));
    let seen = thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(|| listener.server.serve(&stop, |request| listener.answer(&request, &outage)));
        }
        let seen = live(options, &server, &listeners, &outage);
        stop.store(true, Ordering::Release);
        seen
    });
    let seen = seen.map_err(|error| anyhow!("{error:#}; {}", server.process.tail()))?;
    server.stop()?;
    let alerts = seen.latencies_ms.len();
    let mut report = Report::new("outage", json!({ "seconds": options.seconds, "every": options.every }));
    report.figure("alerts", alerts as f64, "each fired and ended, told to three webhooks");
    report.goal(
        "ingest_to_alert_p99_ms",
        percentile(&seen.latencies_ms, 0.99),
        Goal::AtMost(ALERT_P99_MS_MAX),
        "to who listens, while one answers 500 and one hangs",
    );
    report.figure("ingest_to_alert_p50_ms", percentile(&seen.latencies_ms, 0.5), "");
    report.figure("request_p99_ms", percentile(&seen.requests_ms, 0.99), "remote write");
    report.figure("notices_waiting", seen.waiting as f64, "at the end of the outage");
    let pauses = options.seconds as f64 / PAUSE_MAX.as_secs_f64();
    // Pauses double from a quarter of a second to half a minute: eight shorter ones.
    report.goal("attempts_at_500", seen.attempts[0] as f64, Goal::AtMost(pauses + 10.0), "in the outage");
    report.goal("attempts_at_a_hang", seen.attempts[1] as f64, Goal::AtMost(pauses + 10.0), "in the outage");
    report.figure(
        "caught_up_seconds",
        seen.caught_up_seconds,
        "from the end of the outage until both had been told of everything",
    );
    report.finish(results)?;
    report.refuse_missed()
}

fn live(options: &Options, server: &Server, listeners: &[Listener; 3], outage: &AtomicBool) -> Result<Seen> {
    let (client, base) = (Client::default(), server.url());
    let mut load = Load { sender: None, ts_ms: super::now_ms()? - 31_000 };
    for _ in 0..30 {
        load.send(server, 1.0)?;
    }
    client.sql(&base, "CREATE DETECTOR d ON m KEY (host) USING 'mad' INTO judged")?;
    for (number, listener) in listeners.iter().enumerate() {
        let url = listener.server.url()?;
        let sql = format!("CREATE ALERT a{number} ON DETECTOR d WHERE value > {} NOTIFY (WEBHOOK '{url}')", FAR / 2.0);
        client.sql(&base, &sql)?;
    }
    let begun = Instant::now();
    let (mut sent, mut requests_ms) = (Vec::new(), Vec::new());
    let mut said = Instant::now();
    while begun.elapsed() < Duration::from_secs(options.seconds) {
        let number = sent.len() as i64;
        let due = begun + Duration::from_secs_f64(options.every * number as f64);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let at = Instant::now();
        load.send(server, FAR + number as f64)?;
        requests_ms.push(at.elapsed().as_secs_f64() * 1e3);
        sent.push(at);
        thread::sleep(Duration::from_secs_f64(options.every / 2.0));
        load.send(server, 1.0)?;
        if said.elapsed() > Duration::from_secs(60) {
            print(&format!("{} s, {} alerts", begun.elapsed().as_secs(), sent.len()));
            said = Instant::now();
        }
    }
    let attempts = [1, 2].map(|at| listeners[at].attempts.load(Ordering::Relaxed));
    let waiting = client.sql(&base, "SELECT count(*) FROM sys.notifications WHERE NOT given_up")?.concat();
    outage.store(false, Ordering::Release);
    let ended = Instant::now();
    let expected = 2 * sent.len();
    while listeners.iter().any(|listener| listener.taken().len() < expected) {
        let had: Vec<usize> = listeners.iter().map(|listener| listener.taken().len()).collect();
        ensure!(ended.elapsed() < CAUGHT_UP_WITHIN, "of {expected} notices were taken: {had:?}");
        thread::sleep(Duration::from_millis(50));
    }
    let caught_up_seconds = ended.elapsed().as_secs_f64();
    for listener in listeners {
        let taken = listener.taken();
        let firing: Vec<i64> = taken.iter().filter(|notice| notice.firing).map(|notice| notice.number).collect();
        let all: Vec<i64> = (0..sent.len() as i64).map(|number| number + FAR as i64).collect();
        ensure!(firing == all, "who {:?} has been told of other alerts, or in another order", listener.how);
        let ends: BTreeSet<usize> = (1..taken.len()).step_by(2).filter(|&at| !taken[at].firing).collect();
        ensure!(ends.len() == sent.len(), "who {:?} has not been told of the end of each alert after it", listener.how);
    }
    let told = listeners[0].taken();
    let mut latencies_ms: Vec<f64> = told
        .iter()
        .filter(|notice| notice.firing)
        .zip(&sent)
        .map(|(notice, sent)| notice.at.duration_since(*sent).as_secs_f64() * 1e3)
        .collect();
    latencies_ms.sort_by(f64::total_cmp);
    requests_ms.sort_by(f64::total_cmp);
    let waiting = waiting.first().and_then(Value::as_u64).context("no count of notices")?;
    Ok(Seen { latencies_ms, requests_ms, caught_up_seconds, attempts, waiting })
}

/// Samples of one series, a second apart.
struct Load {
    sender: Option<Sender>,
    ts_ms: i64,
}

impl Load {
    fn send(&mut self, server: &Server, value: f64) -> Result<()> {
        self.ts_ms = (self.ts_ms + 1_000).min(super::now_ms()?).max(self.ts_ms + 1);
        let mut body = BodyEncoder::default();
        body.push(&encode_labels(&[("__name__", "m"), ("host", "a")]), self.ts_ms, value);
        let bytes = body.finish()?.to_vec();
        let sender = match &mut self.sender {
            Some(sender) => sender,
            empty => empty.insert(Sender::connect(server.address, "/api/v1/write", REMOTE_WRITE_HEADERS)?),
        };
        let (status, answer) = sender.post(&bytes)?;
        ensure!((200..=299).contains(&status), "a request was answered with {status}: {answer}");
        Ok(())
    }
}
