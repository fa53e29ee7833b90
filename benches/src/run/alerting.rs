//! `alerting`: from a sample to the POST that tells of it, at a steady load of remote write, with a thousand detectors and as many
//! alerts.
//!
//! ```text
//!  all series, scrape after scrape, at a fixed rate ──► foretell: detector i watches some series of metric i
//!  now and then one watched sample is far off: sent at s                 alert i ──► webhook: told at t        latency t - s
//! ```
//! A sample counts as sent at the moment at which its request was due, so that a server that holds up the sender does not look better.
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::http::{Client, REMOTE_WRITE_HEADERS, Sender};
use crate::http_server::HttpServer;
use crate::peer::{Binaries, Peer};
use crate::process::{free_port, scratch_dir};
use crate::report::{Report, percentile, print};
use crate::workload::encode::{BodyEncoder, encode_labels};

/// What a sample that is far off has.
const FAR: f64 = 1_000_000.0;
/// How long after the load notices are waited for.
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// Every alert resolves again: samples far off are not sent to one series more often than this.
const SAME_SERIES: Duration = Duration::from_secs(3);
/// A body is offered again for this long while the server is busy.
const BUSY_FOR_MAX: Duration = Duration::from_secs(60);

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Metrics, each with a detector and an alert
    #[arg(long, default_value_t = 1_000)]
    pub detectors: usize,
    /// Series of each metric
    #[arg(long, default_value_t = 100)]
    pub hosts: usize,
    /// Of these so many are watched
    #[arg(long, default_value_t = 10)]
    pub watched: usize,
    /// Samples offered in a second
    #[arg(long, default_value_t = 500_000)]
    pub rate: usize,
    /// Samples in a body
    #[arg(long, default_value_t = 5_000)]
    pub samples_per_request: usize,
    /// Seconds that are measured
    #[arg(long = "for", default_value_t = 30)]
    pub seconds: u64,
    /// Seconds before them
    #[arg(long, default_value_t = 10)]
    pub warm_up: u64,
    /// Samples far off in a second
    #[arg(long, default_value_t = 20.0)]
    pub far_off: f64,
    /// Method of the detectors
    #[arg(long, default_value = "mad")]
    pub method: String,
    /// Seed of the values
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// When samples far off were due, and when they were told of, by metric, host and time in milliseconds.
type Instants = Mutex<HashMap<(usize, usize, i64), Instant>>;

/// Runs it.
///
/// # Errors
/// When the server refuses something, or does not tell of every sample that was far off.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    ensure!(options.watched > 0 && options.watched <= options.hosts, "--watched must be 1 to --hosts");
    let dir = scratch_dir("alerting")?;
    let server = Peer::Foretell.start(binaries, dir.path(), free_port()?)?;
    let webhook = HttpServer::bind()?;
    let (stop, told) = (AtomicBool::new(false), Instants::default());
    let mut load = Load::new(options)?;
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            webhook.serve(&stop, |request| {
                let at = Instant::now();
                if let Some(of) = firing(&request.body) {
                    told.lock().unwrap_or_else(PoisonError::into_inner).entry(of).or_insert(at);
                }
                Some("200 OK")
            });
        });
        let outcome = (|| {
            load.scrape(server.address, None, &mut None)?;
            print(&format!("creating {} detectors and alerts", options.detectors));
            create(options, &Client::default(), &server.url(), &webhook.url()?)?;
            print(&format!("{} samples a second for {} s", options.rate, options.warm_up + options.seconds));
            let measured = measure(options, &mut load, &server, &told)?;
            let lag = "SELECT max(lag), sum(rows_in), sum(rows_out), count(last_error) FROM sys.detectors";
            let of_detectors = Client::default().sql(&server.url(), lag)?.concat();
            Ok::<_, anyhow::Error>((measured, of_detectors))
        })();
        stop.store(true, Ordering::Release);
        outcome
    });
    let ((measured, of_detectors), usage) =
        (outcome.map_err(|error| anyhow!("{error:#}; {}", server.process.tail()))?, server.process.usage()?);
    server.stop()?;
    let mut report = Report::new(
        "alerting",
        json!({
            "detectors": options.detectors, "series": options.detectors * options.hosts, "watched": options.detectors * options.watched,
            "rate": options.rate, "seconds": options.seconds, "far_off_per_second": options.far_off, "method": options.method,
        }),
    );
    let latencies = &measured.latencies_ms;
    report.figure("samples_per_second", measured.samples as f64 / measured.wall_seconds, "taken, of those offered");
    report.figure("server_cores", measured.cpu_seconds / measured.wall_seconds, "CPU seconds a second, while measured");
    report.figure("alerts", latencies.len() as f64, "samples far off, each told of");
    report.figure("ingest_to_alert_p50_ms", percentile(latencies, 0.5), "from when a request was due to the POST");
    report.figure("ingest_to_alert_p90_ms", percentile(latencies, 0.9), "");
    report.figure("ingest_to_alert_p99_ms", percentile(latencies, 0.99), "");
    report.figure("ingest_to_alert_max_ms", percentile(latencies, 1.0), "");
    report.figure("request_p99_ms", percentile(&measured.requests_ms, 0.99), "remote write, from when it was due");
    report.figure("detector_rows_in", of_detectors.get(1).and_then(Value::as_f64).unwrap_or(f64::NAN), "");
    report.figure("detector_rows_out", of_detectors.get(2).and_then(Value::as_f64).unwrap_or(f64::NAN), "");
    report.figure("rss_peak_mib", usage.rss_peak_bytes as f64 / 1048576.0, "");
    report.finish(results)?;
    ensure!(of_detectors.get(3) == Some(&json!(0)), "a detector has failed");
    Ok(())
}

fn create(options: &Options, client: &Client, base: &str, webhook: &str) -> Result<()> {
    for i in 0..options.detectors {
        let chosen = if options.watched < options.hosts { "WHERE (watched = 'yes') " } else { "" };
        client.sql(
            base,
            &format!("CREATE DETECTOR d{i} ON m{i} {chosen}KEY (host) USING '{}' INTO anomalies", options.method),
        )?;
        client.sql(
            base,
            &format!("CREATE ALERT a{i} ON DETECTOR d{i} WHERE value > {} NOTIFY (WEBHOOK '{webhook}')", FAR / 2.0),
        )?;
    }
    Ok(())
}

/// Of which sample a notice tells that something fires, if it does.
fn firing(body: &[u8]) -> Option<(usize, usize, i64)> {
    let notice: Value = serde_json::from_slice(body).ok()?;
    if notice["status"] != "firing" {
        return None;
    }
    let number = |text: &Value| text.as_str()?.get(1..)?.parse::<usize>().ok();
    // The value says which sample it was: FAR and a number of its own.
    let at = notice["value"].as_f64()? - FAR;
    Some((number(&notice["alert"])?, number(&notice["labels"]["host"])?, at as i64))
}

/// What was seen while it was measured.
struct Measured {
    samples: u64,
    wall_seconds: f64,
    cpu_seconds: f64,
    latencies_ms: Vec<f64>,
    requests_ms: Vec<f64>,
}

fn measure(options: &Options, load: &mut Load, server: &crate::peer::Server, told: &Instants) -> Result<Measured> {
    let begun = Instant::now();
    let warm = begun + Duration::from_secs(options.warm_up);
    let end = warm + Duration::from_secs(options.seconds);
    let mut pace = Some(Pace {
        begun,
        sent: 0,
        rate: options.rate as f64,
        requests_ms: Vec::new(),
        far: HashMap::new(),
        next_far: warm,
        every: Duration::from_secs_f64(1.0 / options.far_off),
        last_far: HashMap::new(),
    });
    let mut before = None;
    while Instant::now() < end {
        if before.is_none() && Instant::now() >= warm {
            before = Some((Instant::now(), server.process.usage()?.cpu_seconds, load.samples));
            if let Some(pace) = &mut pace {
                pace.requests_ms.clear();
            }
        }
        load.scrape(server.address, Some(end), &mut pace)?;
    }
    let (measured_from, cpu, samples) = before.context("the load ended before it was measured")?;
    let wall_seconds = measured_from.elapsed().as_secs_f64();
    let cpu_seconds = server.process.usage()?.cpu_seconds - cpu;
    let pace = pace.context("no pace")?;
    let patience = Instant::now() + TOLD_WITHIN;
    let mut latencies_ms = loop {
        let told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            pace.far.iter().filter_map(|(of, due)| Some(told.get(of)?.duration_since(*due).as_secs_f64() * 1e3));
        let known: Vec<f64> = known.collect();
        if known.len() == pace.far.len() {
            break known;
        }
        ensure!(Instant::now() < patience, "only {} of {} samples far off were told of", known.len(), pace.far.len());
        drop(told);
        thread::sleep(Duration::from_millis(20));
    };
    latencies_ms.sort_by(f64::total_cmp);
    let mut requests_ms = pace.requests_ms;
    requests_ms.sort_by(f64::total_cmp);
    Ok(Measured { samples: load.samples - samples, wall_seconds, cpu_seconds, latencies_ms, requests_ms })
}

/// When requests are due, and what was far off.
struct Pace {
    begun: Instant,
    sent: u64,
    rate: f64,
    requests_ms: Vec<f64>,
    far: HashMap<(usize, usize, i64), Instant>,
    next_far: Instant,
    every: Duration,
    last_far: HashMap<(usize, usize), Instant>,
}

/// Sends scrapes of all series.
struct Load {
    hosts: usize,
    watched: usize,
    samples_per_request: usize,
    /// Encoded labels of each series, metric by metric.
    series: Vec<Box<[u8]>>,
    rng: SmallRng,
    ts_ms: i64,
    begun: Instant,
    started_ms: i64,
    samples: u64,
    numbered: i64,
    sender: Option<Sender>,
}

impl Load {
    fn new(options: &Options) -> Result<Self> {
        let mut series = Vec::with_capacity(options.detectors * options.hosts);
        for metric in 0..options.detectors {
            for host in 0..options.hosts {
                let (name, host_name) = (format!("m{metric}"), format!("h{host}"));
                let watched = if host < options.watched { "yes" } else { "no" };
                series.push(encode_labels(&[
                    ("__name__", name.as_str()),
                    ("host", host_name.as_str()),
                    ("job", "load"),
                    ("watched", watched),
                ]));
            }
        }
        let started_ms = super::now_ms()?;
        Ok(Self {
            hosts: options.hosts,
            watched: options.watched,
            samples_per_request: options.samples_per_request,
            series,
            rng: SmallRng::seed_from_u64(options.seed),
            ts_ms: started_ms - 1,
            begun: Instant::now(),
            started_ms,
            samples: 0,
            numbered: 0,
            sender: None,
        })
    }

    /// One sample of every series, in requests that are due one after the other; ends early at `end`.
    fn scrape(&mut self, address: SocketAddr, end: Option<Instant>, pace: &mut Option<Pace>) -> Result<()> {
        let now_ms = self.started_ms + self.begun.elapsed().as_millis() as i64;
        self.ts_ms = now_ms.max(self.ts_ms + 1);
        let mut body = BodyEncoder::default();
        let mut first = 0;
        while first < self.series.len() {
            let last = (first + self.samples_per_request).min(self.series.len());
            let due = pace.as_ref().map(|pace| pace.begun + Duration::from_secs_f64(pace.sent as f64 / pace.rate));
            if let (Some(end), Some(due)) = (end, due)
                && due >= end
            {
                return Ok(());
            }
            let far = pace.as_mut().and_then(|pace| self.far_off(pace, due?, first, last));
            for at in first..last {
                let value = match far {
                    Some((series, value)) if series == at => value,
                    _ => f64::from(self.rng.random_range(400..600)) / 10.0,
                };
                body.push(&self.series[at], self.ts_ms, value);
            }
            let bytes = body.finish()?.to_vec();
            if let Some(due) = due {
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            self.post(address, &bytes)?;
            body = BodyEncoder::default();
            if let (Some(pace), Some(due)) = (pace.as_mut(), due) {
                pace.sent += (last - first) as u64;
                pace.requests_ms.push(due.elapsed().as_secs_f64() * 1e3);
            }
            self.samples += (last - first) as u64;
            first = last;
        }
        Ok(())
    }

    /// Which series of a request that is due at `due` is far off, if one is, and what its sample has.
    fn far_off(&mut self, pace: &mut Pace, due: Instant, first: usize, last: usize) -> Option<(usize, f64)> {
        if due < pace.next_far {
            return None;
        }
        let metric = self.rng.random_range(first / self.hosts..last.div_ceil(self.hosts));
        let host = self.rng.random_range(0..self.watched);
        let at = metric * self.hosts + host;
        let last_time = pace.last_far.get(&(metric, host));
        if !(first..last).contains(&at) || last_time.is_some_and(|&then| due.duration_since(then) < SAME_SERIES) {
            return None;
        }
        pace.next_far = due + pace.every.mul_f64(self.rng.random_range(0.2..1.8));
        pace.last_far.insert((metric, host), due);
        self.numbered += 1;
        pace.far.insert((metric, host, self.numbered), due);
        Some((at, FAR + self.numbered as f64))
    }

    fn post(&mut self, address: SocketAddr, body: &[u8]) -> Result<()> {
        let begun = Instant::now();
        loop {
            let sender = match &mut self.sender {
                Some(sender) => sender,
                empty => empty.insert(Sender::connect(address, "/api/v1/write", REMOTE_WRITE_HEADERS)?),
            };
            let (status, answer) = sender.post(body)?;
            match status {
                200..=299 => return Ok(()),
                429 | 503 if begun.elapsed() < BUSY_FOR_MAX => thread::sleep(Duration::from_millis(2)),
                _ => return Err(anyhow!("a request was answered with {status}: {answer}")),
            }
        }
    }
}
