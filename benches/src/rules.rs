//! `rules-diff`: one rule file in a real Prometheus and in Foretell, the same samples to both, the same series recorded.
//!
//! Both evaluate at the same instants, because these depend on nothing but name, file and interval of a group. The groups look
//! some seconds back (`query_offset`), so that every sample is in both stores before a rule asks for it: what they record is
//! then the same to the bit, but for the rounding of sums.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
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
const RULES: &str = include_str!("../data/rules.yml");
const ALIVE: &str = "diff:alive";
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// A run that is so long has every alert of the file fire.
const FIRED_WITHIN_S: u64 = 60;
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
    let stop = AtomicBool::new(false);
    let texts = thread::scope(|scope| {
        let watch = scope.spawn(|| watch_texts([prometheus_port, foretell_port], &stop));
        let fed = feed(options.seconds, &[prometheus_port, foretell_port]);
        stop.store(true, Ordering::Release);
        let watched = watch.join().map_err(|_| anyhow!("a thread panicked"))?;
        fed.and(watched)
    })?;
    let ended_ms = now_ms()?;
    thread::sleep(Duration::from_secs(OFFSET_S + 3));
    let recorded = |port: u16| -> Result<Recorded> {
        let expr = r#"{__name__=~"diff:.+|instance:.+|ALERTS|ALERTS_FOR_STATE"}"#;
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
    report.figure("alerts_compared", texts.compared as f64, "by their texts, while both had the same value");
    report.figure("alertnames", texts.names.len() as f64, "that fired in both");
    report.figure("differences", (found.texts.len() + texts.differences.len()) as f64, "");
    report.print();
    prometheus.stop(STOP_WITHIN)?;
    foretell.stop(STOP_WITHIN)?;
    found.texts.iter().chain(&texts.differences).take(SHOWN_MAX).for_each(|text| print(text));
    ensure!(found.texts.is_empty(), "{} samples differ", found.texts.len());
    ensure!(texts.differences.is_empty(), "{} alerts have other texts", texts.differences.len());
    let silent: Vec<&str> = RULES.lines().filter_map(alert_name).filter(|name| !texts.names.contains(*name)).collect();
    ensure!(silent.is_empty() || options.seconds < FIRED_WITHIN_S, "these never fired in both: {}", silent.join(", "));
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
        node_samples(&mut encoder, step, ts_ms);
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

/// The alert that a line of the rule file names.
fn alert_name(line: &str) -> Option<&str> {
    let (_, name) = line.split_once("alert: ")?;
    name.split(|c: char| !c.is_alphanumeric()).next()
}

/// What was seen of the alerts that both show.
#[derive(Default)]
struct Texts {
    compared: u64,
    names: BTreeSet<String>,
    differences: Vec<String>,
}

/// Asks both for their alerts again and again: those with the same labels, state and value have the same annotations.
fn watch_texts(ports: [u16; 2], stop: &AtomicBool) -> Result<Texts> {
    let (client, mut texts) = (Client::default(), Texts::default());
    let ask = |port: u16| -> Result<BTreeMap<String, Value>> {
        let (status, body) = client.get(&format!("http://127.0.0.1:{port}/api/v1/alerts"))?;
        ensure!(status == 200, "alerts: {status}");
        let answer: Value = serde_json::from_slice(&body)?;
        let alerts = answer["data"]["alerts"].as_array().cloned().unwrap_or_default();
        let key = |alert: &Value| {
            let labels: BTreeMap<&String, &Value> = alert["labels"].as_object().into_iter().flatten().collect();
            format!("{labels:?} {} {}", alert["state"], alert["value"])
        };
        Ok(alerts.into_iter().map(|alert| (key(&alert), alert)).collect())
    };
    while !stop.load(Ordering::Acquire) {
        let (expected, actual) = (ask(ports[0])?, ask(ports[1])?);
        for (key, alert) in &expected {
            let Some(other) = actual.get(key) else { continue };
            texts.compared += 1;
            if alert["state"] == "firing" {
                texts.names.extend(alert["labels"]["alertname"].as_str().map(str::to_owned));
            }
            if alert["annotations"] != other["annotations"] && texts.differences.len() < SHOWN_MAX {
                let (theirs, ours) = (&alert["annotations"], &other["annotations"]);
                texts.differences.push(format!("{key}: Prometheus {theirs}, foretell {ours}"));
            }
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(texts)
}

/// Samples as node_exporter has them: each instance goes through everything that the rules speak of, one after the other.
fn node_samples(encoder: &mut BodyEncoder, step: usize, ts_ms: i64) {
    for instance in 0..3 {
        let name = format!("n{instance}");
        let mut push = |metric: &str, labels: &[(&str, &str)], value: f64| {
            let own = [("__name__", metric), ("instance", name.as_str()), ("job", "node")];
            let mut pairs: Vec<(&str, &str)> = own.into_iter().chain(labels.iter().copied()).collect();
            pairs.sort_unstable();
            encoder.push(&encode_labels(&pairs), ts_ms, value);
        };
        // A minute is 240 steps; instances are a third of one apart.
        let phase = (step + instance * 80) % 240;
        let (busy, t) = ((60..160).contains(&phase), step as f64);
        for cpu in ["0", "1"] {
            // Seconds that each mode has had: whole quarters, so that sums are exact.
            let before = (step / 240 * 100 + (step % 240).saturating_sub(60).min(100)) as f64;
            let user = t * 0.03125 + if instance == 0 { before * 0.1875 } else { 0.0 };
            push("node_cpu_seconds_total", &[("cpu", cpu), ("mode", "user")], user);
            push("node_cpu_seconds_total", &[("cpu", cpu), ("mode", "idle")], t * 0.25 - user);
            push("node_cpu_seconds_total", &[("cpu", cpu), ("mode", "iowait")], t / 1024.0);
        }
        push("node_load1", &[], if busy { 5.5 } else { 0.5 });
        push("node_memory_MemTotal_bytes", &[], 8192.0);
        if instance == 0 {
            push("node_memory_Buffers_bytes", &[], 512.0);
            push("node_memory_MemFree_bytes", &[], 1024.0 + phase as f64);
        } else {
            push("node_memory_MemAvailable_bytes", &[], 4096.0 - phase as f64);
        }
        for (device, mountpoint, readonly) in [("/dev/sda1", "/", 0.0), ("/dev/sr0", "/media", 1.0)] {
            let labels = [("device", device), ("fstype", "ext4"), ("mountpoint", mountpoint)];
            push("node_filesystem_size_bytes", &labels, 240.0);
            push("node_filesystem_avail_bytes", &labels, 240.0 - phase as f64);
            push("node_filesystem_readonly", &labels, readonly);
        }
        let errors = if instance == 1 { t } else { 0.0 };
        push("node_network_receive_errs_total", &[("device", "eth0")], errors);
        push("node_network_receive_packets_total", &[("device", "eth0")], t * 8.0);
        push("node_nf_conntrack_entries", &[], phase as f64);
        push("node_nf_conntrack_entries_limit", &[], 240.0);
        push(
            "node_timex_offset_seconds",
            &[],
            if instance == 2 { -(phase as f64) / 1024.0 } else { phase as f64 / 1024.0 },
        );
        push("node_filefd_allocated", &[], phase as f64 * 4.0);
        push("node_filefd_maximum", &[], 1024.0);
        push("node_md_disks_required", &[("device", "md0")], 2.0);
        push("node_md_disks", &[("device", "md0"), ("state", "active")], if busy { 1.0 } else { 2.0 });
        push("node_md_disks", &[("device", "md0"), ("state", "failed")], if busy { 1.0 } else { 0.0 });
    }
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
