//! `rules-diff`: one rule file in a real Prometheus and in Foretell, the same samples to both, the same series recorded.
//!
//! Both evaluate at the same instants, because these depend on nothing but name, file and interval of a group. The groups look
//! some seconds back (`query_offset`), so that every sample is in both stores before a rule asks for it: what they record is
//! then the same to the bit, but for the rounding of sums.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::http::{Client, REMOTE_WRITE_HEADERS, Sender};
use crate::peer::{Binaries, Peer};
use crate::process::{Process, free_port, scratch_dir};
use crate::promql::{Answers as _, Api, Question};
use crate::report::{Report, print};
use crate::run::now_ms;
use crate::workload::encode::{BodyEncoder, encode_labels};

/// How far back the rules look.
const OFFSET_S: u64 = 5;
const RULES: &str = r#"
groups:
- name: recording
  interval: 1s
  query_offset: 5s
  labels: {source: rules}
  rules:
  - {record: "diff:alive", expr: "vector(1)"}
  - {record: "diff:sum", expr: "sum by (job) (load)"}
  - {record: "diff:rate", expr: "rate(work_total[10s])", labels: {window: 10s}}
  - {record: "diff:chain", expr: "diff:sum * 2 + 1"}
  - {record: "diff:scalar", expr: "scalar(sum(load)) / 3"}
  - {record: "diff:high", expr: "load > 5"}
- name: alerts
  interval: 1s
  query_offset: 5s
  rules:
  - {alert: Now, expr: "load > 7", labels: {severity: "{{ if gt $value 8.0 }}page{{ else }}warn{{ end }}"}}
  - {alert: Later, expr: "load > 3", for: 4s, labels: {place: "{{ $labels.instance | toUpper }}"}}
  - {alert: Sticky, expr: "load > 8", keep_firing_for: 3s}
  - {alert: Gone, expr: "absent(short) and on() (count(load) > 0)", for: 2s}
"#;
const ALIVE: &str = "diff:alive";
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// Differences that are printed.
const SHOWN_MAX: usize = 40;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How long samples are sent, seconds
    #[arg(long = "for", default_value_t = 60)]
    pub seconds: u64,
    /// Change one recorded sample before comparing: the run must fail
    #[arg(long)]
    pub canary: bool,
}

/// Milliseconds and values by labels.
type Recorded = BTreeMap<String, BTreeMap<i64, f64>>;

/// Runs it.
///
/// # Errors
/// On any difference, and when a part of the set-up does not work.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let dir = scratch_dir("rules-diff")?;
    let rules = dir.path().join("rules.yml");
    fs::write(&rules, RULES)?;
    let (prometheus, prometheus_port) = start_prometheus(binaries, dir.path(), &rules)?;
    let (foretell, foretell_port) = start_foretell(binaries, dir.path(), &rules)?;
    // Alerts are written from the third evaluation on.
    thread::sleep(Duration::from_secs(4));
    let begun_ms = now_ms()?;
    feed(options.seconds, &[prometheus_port, foretell_port])?;
    let ended_ms = now_ms()?;
    thread::sleep(Duration::from_secs(OFFSET_S + 3));
    let recorded = |port: u16| -> Result<Recorded> {
        let expr = r#"{__name__=~"diff:.+|ALERTS|ALERTS_FOR_STATE"}"#;
        let expr = format!("{expr}[{}s]", options.seconds + 60);
        let question = Question { expr, at: now_ms()? as f64 / 1e3, range: None };
        parse(&Api::new(format!("http://127.0.0.1:{port}")).ask(&question)?)
    };
    let (expected, mut actual) = (recorded(prometheus_port)?, recorded(foretell_port)?);
    if options.canary
        && let Some(value) = actual.values_mut().next().and_then(|points| points.values_mut().next_back())
    {
        *value += 1.0;
    }
    let found = compare(&expected, &actual, begun_ms, ended_ms);
    let mut report = Report::new("rules-diff", json!({"seconds": options.seconds}));
    report.text("prometheus_version", &Peer::Prometheus.version(binaries)?, "");
    report.figure("series", expected.len() as f64, "recorded by Prometheus");
    report.figure("samples", found.samples as f64, "compared");
    report.figure("instants", found.instants as f64, "at which both evaluated the rules");
    report.figure("differences", found.texts.len() as f64, "");
    report.print();
    prometheus.stop(STOP_WITHIN)?;
    foretell.stop(STOP_WITHIN)?;
    found.texts.iter().take(SHOWN_MAX).for_each(|text| print(text));
    ensure!(found.texts.is_empty(), "{} samples differ", found.texts.len());
    ensure!(
        found.instants as u64 + 5 >= options.seconds,
        "only {} evaluations in {} s",
        found.instants,
        options.seconds
    );
    ensure!(found.samples > found.instants * 10, "only {} samples were recorded", found.samples);
    report.write(results)?;
    Ok(())
}

fn start_prometheus(binaries: &Binaries, dir: &Path, rules: &Path) -> Result<(Process, u16)> {
    let (port, config) = (free_port()?, dir.join("prometheus.yml"));
    fs::write(&config, format!("rule_files:\n  - {}\n", rules.display()))?;
    let mut command = Command::new(binaries.path(Peer::Prometheus)?);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", dir.join("prometheus").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.args(["--web.enable-remote-write-receiver", "--log.level=error"]);
    start("prometheus", &mut command, dir, port)
}

fn start_foretell(binaries: &Binaries, dir: &Path, rules: &Path) -> Result<(Process, u16)> {
    let (port, config) = (free_port()?, dir.join("foretell.toml"));
    fs::write(&config, format!("rule_files = [{:?}]\n", rules.display().to_string()))?;
    let mut command = Command::new(binaries.path(Peer::Foretell)?);
    command.arg("serve").arg("--config").arg(&config).arg("--data-dir").arg(dir.join("foretell"));
    command.args(["--listen-grpc", "none", "--listen-otlp-http", "none"]);
    command.arg("--listen-http").arg(format!("127.0.0.1:{port}"));
    start("foretell", &mut command, dir, port)
}

fn start(name: &str, command: &mut Command, dir: &Path, port: u16) -> Result<(Process, u16)> {
    let mut process = Process::start(name, command, &dir.join(format!("{name}.log")))?;
    let (client, url) = (Client::default(), format!("http://127.0.0.1:{port}/-/ready"));
    process.wait_until("readiness", START_WITHIN, || client.is_ok(&url))?;
    Ok((process, port))
}

/// Sends the same samples to all `ports` for so many seconds, four times a second.
fn feed(seconds: u64, ports: &[u16]) -> Result<()> {
    let connect = |port: &u16| Sender::connect(([127, 0, 0, 1], *port).into(), "/api/v1/write", REMOTE_WRITE_HEADERS);
    let mut senders = ports.iter().map(connect).collect::<Result<Vec<_>>>()?;
    let labels = |name: &str, instance: usize| {
        let (job, instance) = (if instance < 2 { "api" } else { "web" }, format!("i{instance}"));
        encode_labels(&[("__name__", name), ("instance", instance.as_str()), ("job", job)])
    };
    let begun = Instant::now();
    let mut encoder = BodyEncoder::default();
    let mut step = 0usize;
    while begun.elapsed() < Duration::from_secs(seconds) {
        let ts_ms = now_ms()?;
        for instance in 0..4 {
            // Between 0 and 9, each instance on its own way, long enough above a threshold for alerts to fire.
            let load = ((step / 8 + instance * 3) % 10) as f64;
            encoder.push(&labels("load", instance), ts_ms, load);
            encoder.push(&labels("work_total", instance), ts_ms, (step * (instance + 1)) as f64);
        }
        // A series that comes and goes.
        match step % 80 {
            0..40 => encoder.push(&labels("short", 0), ts_ms, 1.0),
            40 => encoder.push(&labels("short", 0), ts_ms, STALE),
            _ => {}
        }
        let body = encoder.finish()?.to_vec();
        for sender in &mut senders {
            let (status, text) = sender.post(&body)?;
            ensure!((200..300).contains(&status), "remote write: {status} {text}");
        }
        step += 1;
        let next = Duration::from_millis(250 * step as u64);
        thread::sleep(next.saturating_sub(begun.elapsed()));
    }
    Ok(())
}

fn parse(answer: &Value) -> Result<Recorded> {
    let rows = answer["data"]["result"].as_array().with_context(|| format!("no series: {answer}"))?;
    let mut recorded = Recorded::new();
    for row in rows {
        let labels: BTreeMap<&String, &Value> = row["metric"].as_object().into_iter().flatten().collect();
        let point = |point: &Value| {
            let ts_ms = (point[0].as_f64().unwrap_or(0.0) * 1e3).round() as i64;
            (ts_ms, point[1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN))
        };
        let points = row["values"].as_array().into_iter().flatten().map(point).collect();
        recorded.insert(format!("{labels:?}"), points);
    }
    Ok(recorded)
}

/// What [`compare`] found.
struct Found {
    texts: Vec<String>,
    samples: usize,
    instants: usize,
}

/// Compares what was recorded in `[from_ms, to_ms]` at instants at which both have evaluated the rules.
fn compare(expected: &Recorded, actual: &Recorded, from_ms: i64, to_ms: i64) -> Found {
    // Groups have different offsets: an instant of the one that is known to be alive stands for the second it lies in.
    let alive = |recorded: &Recorded| -> BTreeSet<i64> {
        let points = recorded.iter().filter(|(labels, _)| labels.contains(ALIVE)).flat_map(|(_, points)| points.keys());
        points.copied().collect()
    };
    let both: BTreeSet<i64> = alive(expected).intersection(&alive(actual)).copied().collect();
    let instants = both.range(from_ms..=to_ms).count();
    let first = both.range(from_ms..).next().copied().unwrap_or(i64::MAX);
    let last = both.range(..=to_ms).next_back().copied().unwrap_or(i64::MIN);
    let (none, mut texts, mut samples) = (BTreeMap::new(), Vec::new(), 0);
    let all: BTreeSet<&String> = expected.keys().chain(actual.keys()).collect();
    for labels in all {
        let (want, got) = (expected.get(labels).unwrap_or(&none), actual.get(labels).unwrap_or(&none));
        let times: BTreeSet<&i64> = want.keys().chain(got.keys()).filter(|ts| (first..=last).contains(*ts)).collect();
        for ts in times {
            samples += 1;
            match (want.get(ts), got.get(ts)) {
                (Some(a), Some(b)) if a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()) => {}
                (a, b) => texts.push(format!("{labels} at {ts}: Prometheus {a:?}, foretell {b:?}")),
            }
        }
    }
    Found { texts, samples, instants }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(points: &[(i64, f64)]) -> Recorded {
        let alive = [1000, 2000, 3000].map(|ts| (ts, 1.0));
        [(ALIVE.to_owned(), alive.into()), ("x".to_owned(), points.iter().copied().collect())].into()
    }

    #[test]
    fn missing_and_changed_samples_are_differences() {
        let truth = recorded(&[(1000, 1.0), (2000, 2.0), (3000, 3.0)]);
        let texts = |other: &Recorded| compare(&truth, other, 0, 2500).texts.len();
        assert_eq!(texts(&truth), 0);
        assert_eq!(texts(&recorded(&[(1000, 1.0)])), 1, "what lies after the end does not count");
        assert_eq!(texts(&recorded(&[(1000, 1.5), (2000, 2.0)])), 1);
        assert_eq!(texts(&recorded(&[(1000, 1.0), (1500, 1.0), (2000, 2.0)])), 1);
    }
}
