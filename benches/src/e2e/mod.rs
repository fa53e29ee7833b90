//! `e2e-prometheus`: a real Prometheus scrapes a real node exporter and itself every second and writes to two Foretells, to one
//! in remote write 1.0 and to the other in 2.0. Both are killed in the middle and started again on the same directory.
//! Afterwards **every** sample that Prometheus holds must be in each of them, once, with the same bits, and nothing else.
//!
//! ```text
//!  node_exporter --1 s--> Prometheus --remote write 1.0--> foretell    kill -9 at half time, restart
//!                              |     --remote write 2.0--> foretell    the same
//!   stopped before the end: stale markers   | remote read   | stopped cleanly, opened with the engine
//!                                           +---- compare --+
//! ```
//! Prometheus is the truth: it is never killed, so it holds all that it has ever sent. What stood in its queues at the kill is
//! sent again, hence equality is total. So it is for native histograms (its own, with integers; of a rule, with floats; with
//! custom buckets, made of classic ones) and for the exemplars of a target of ours: those are asked for in SQL. The
//! metadata of each must be those that Prometheus has.
pub mod compare;
pub mod dump;
pub mod prometheus;
pub mod records;
pub mod target;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use foretell_engine::{Engine, EngineConfig, ScanBatch, Selector, SeriesId, TimeRange};
use foretell_server::remote_write::Protocol;
use serde_json::json;

use crate::http::Client;
use crate::peer::{Binaries, Peer, Server};
use crate::process::{Process, free_port, scratch_dir};
use crate::report::{Report, print};
use compare::{Comparison, Store, compare};
use prometheus::{Described, Prometheus, Remote};
use records::{CUSTOM_SCHEMA, Exemplar, Histogram, Key, differences, stored_exemplars, stored_histograms};
use target::Target;

/// A real metric of the node exporter with several labels.
const METRIC: &str = "node_cpu_seconds_total";
/// A real metric that Prometheus itself exports too, so that it has samples until the end.
const SHORT_METRIC: &str = "process_resident_memory_bytes";
/// From this many samples in a series, some must have a score by the automatic method.
const AUTO_SCORES_AFTER: u64 = 60;
/// Time that Foretell stays away after the kill, so that Prometheus has to try again.
const AWAY: Duration = Duration::from_secs(2);
/// Before the end, the node exporter is stopped this early.
const STALE_BEFORE_END: Duration = Duration::from_secs(5);
/// Metric families that a reload adds to Prometheus's own page.
const FAMILIES_OF_A_RELOAD_MAX: u32 = 12;
const DRAIN_WITHIN: Duration = Duration::from_secs(90);
const EXPORTER_WITHIN: Duration = Duration::from_secs(20);

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How long Prometheus scrapes, such as 120s
    #[arg(long = "for", value_parser = duration, default_value = "120s")]
    pub for_: Duration,
    /// Kill foretell this often, at equal distances
    #[arg(long, default_value_t = 1)]
    pub kills: u32,
    /// Drop one sample before comparing: the run must fail
    #[arg(long)]
    pub canary: bool,
    /// Also write the figures to the results folder
    #[arg(long)]
    pub record: bool,
    /// Keep all files of the run
    #[arg(long)]
    pub keep: bool,
}

/// `90s`, `2m` or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let (digits, factor) = match text.strip_suffix('m') {
        Some(digits) => (digits, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let seconds: u64 = digits.parse().map_err(|_| format!("expected seconds such as 120s, got {text:?}"))?;
    Ok(Duration::from_secs(seconds * factor))
}

/// Runs it.
///
/// # Errors
/// On any difference, and when a part of the set-up does not work.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let dir = scratch_dir("e2e")?;
    let outcome = run_in(options, binaries, results, dir.path());
    if outcome.is_err() || options.keep {
        print(&format!("the files of the run are kept in {}", dir.keep().display()));
    }
    outcome
}

fn run_in(options: &Options, binaries: &Binaries, results: &Path, dir: &Path) -> Result<()> {
    ensure!(
        options.for_ >= Duration::from_secs(15),
        "--for must be 15s or more: markers and a restart need their time"
    );
    let begun = Instant::now();
    let exporter = start_exporter(binaries, dir)?;
    let mut receivers = Vec::new();
    for protocol in [Protocol::V1, Protocol::V2] {
        receivers.push(Receiver::start(protocol, binaries, dir)?);
    }
    let remotes: Vec<_> = receivers.iter().map(Receiver::remote).collect();
    let target = Target::start()?;
    let targets = [("node", exporter.1.clone()), ("e2e", target.address())];
    let prometheus = Prometheus::start(binaries, dir, free_port()?, &remotes, &targets)?;
    print(&format!("Prometheus scrapes for {:?} and writes to {remotes:?}", options.for_));

    let mut restarts = Vec::new();
    let scraping = Instant::now();
    for kill in 1..=options.kills {
        sleep_until(scraping + options.for_ * kill / (options.kills + 1));
        for receiver in std::mem::take(&mut receivers) {
            let receiver = receiver.kill_and_restart(binaries)?;
            let started_in = receiver.server.started_in;
            print(&format!("kill -9 number {kill} of {}, ready again in {started_in:?}", receiver.name()));
            restarts.push(started_in.as_secs_f64());
            receivers.push(receiver);
        }
    }
    sleep_until(scraping + options.for_.saturating_sub(STALE_BEFORE_END));
    let described = prometheus.metadata()?;
    exporter.0.stop(EXPORTER_WITHIN)?;
    sleep_until(scraping + options.for_);
    prometheus.stop_scraping()?;
    let queue = prometheus.drain(DRAIN_WITHIN)?;
    let (expected, histograms) = prometheus.read_all()?;
    let exemplars = prometheus.exemplars()?;
    let parameters = json!({"for_seconds": options.for_.as_secs(), "kills": options.kills, "canary": options.canary});
    let mut report = Report::new("e2e-prometheus", parameters);
    report.text("prometheus_version", &Peer::Prometheus.version(binaries)?, "");
    report.text("foretell_version", &Peer::Foretell.version(binaries)?, "");
    for receiver in &receivers {
        let (client, url, name) = (Client::default(), receiver.server.url(), receiver.name());
        let scored = ask(&client, &url, &expected).with_context(|| name.clone())?;
        report.figure(
            &format!("{name}_scores"),
            scored as f64,
            "rows of anomaly_score over two real metrics with a score",
        );
        let (stored, traces) =
            ask_records(receiver.protocol, &client, &url, &histograms, &exemplars).with_context(|| name.clone())?;
        report.figure(&format!("{name}_histograms"), stored as f64, "native histograms, equal in every bucket");
        report.figure(&format!("{name}_exemplars"), traces as f64, "exemplars, equal");
        let families = ask_metadata(&client, &url, &described).with_context(|| name.clone())?;
        report.figure(&format!("{name}_metadata"), families as f64, "families described as Prometheus describes them");
    }
    prometheus.stop()?;

    let mut verdicts = Vec::new();
    for receiver in receivers {
        let (name, data) = (receiver.name(), receiver.dir.join("data"));
        let stopped_in = receiver.server.stop().with_context(|| format!("clean stop of {name}"))?;
        let mut actual = read_store(&data)?;
        if options.canary {
            actual.drop_one();
        }
        let found = compare(&expected, &actual);
        describe(&name, &found, &mut report);
        report.figure(&format!("{name}_stop_seconds"), stopped_in.as_secs_f64(), "SIGTERM to the end");
        verdicts.push((name, found));
    }
    let dumped = dump::check(binaries, &dir.join("prometheus"), dir, &expected).context("promtool's dump")?;
    report.figure("samples_imported", dumped.equal as f64, "equal after promtool's dump and foretell import");
    report.figure("queue_samples_sent", queue.sent, "acknowledged by both, as Prometheus counts them");
    report.figure("queue_samples_retried", queue.retried, "sent again after the kills");
    report.figure("restart_seconds", restarts.iter().copied().fold(0.0, f64::max), "longest, kill -9 to ready");
    report.figure("seconds", begun.elapsed().as_secs_f64(), "the whole run");
    report.print();
    if options.record {
        report.write(results)?;
    }
    verdicts.iter().try_for_each(|(name, found)| verdict(name, found))?;
    let imported = dumped.is_equal() && dumped.equal > 0;
    ensure!(imported, "promtool's dump was not imported whole: {}", dumped.examples.join("; "));
    Ok(())
}

/// A Foretell that one of the remote writes goes to.
struct Receiver {
    protocol: Protocol,
    dir: PathBuf,
    port: u16,
    server: Server,
}

impl Receiver {
    fn start(protocol: Protocol, binaries: &Binaries, dir: &Path) -> Result<Self> {
        let dir = dir.join(protocol.version());
        fs::create_dir_all(&dir)?;
        let port = free_port()?;
        let server = Peer::Foretell.start(binaries, &dir, port)?;
        Ok(Self { protocol, dir, port, server })
    }

    fn name(&self) -> String {
        format!("remote_write_{}", self.protocol.version().replace(".0", ""))
    }

    fn remote(&self) -> Remote {
        Remote { url: format!("{}/api/v1/write", self.server.url()), message: self.protocol.message() }
    }

    fn kill_and_restart(self, binaries: &Binaries) -> Result<Self> {
        self.server.process.kill()?;
        thread::sleep(AWAY);
        let server = Peer::Foretell.start(binaries, &self.dir, self.port).context("restart after kill -9")?;
        Ok(Self { server, ..self })
    }
}

fn sleep_until(when: Instant) {
    thread::sleep(when.saturating_duration_since(Instant::now()));
}

fn start_exporter(binaries: &Binaries, dir: &Path) -> Result<(Process, String)> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new(binaries.unpacked("prometheus-node-exporter")?);
    let texts = dir.join("textfile");
    fs::create_dir_all(&texts)?;
    command.arg(format!("--web.listen-address={address}"));
    command.arg(format!("--collector.textfile.directory={}", texts.display()));
    let mut process = Process::start("prometheus-node-exporter", &mut command, &dir.join("node_exporter.log"))?;
    let (client, url) = (Client::default(), format!("http://{address}/metrics"));
    process.wait_until("page", EXPORTER_WITHIN, || client.is_ok(&url))?;
    Ok((process, address))
}

/// What the running server answers about the data; how many rows have a score.
fn ask(client: &Client, url: &str, expected: &Store) -> Result<u64> {
    let count = |sql: &str| -> Result<Option<u64>> {
        let rows = client.sql(url, sql)?;
        Ok(rows.first().and_then(|row| row.first()?.as_u64()))
    };
    let (all, metric) = (expected.samples(), expected.samples_of(METRIC));
    ensure!(metric > 0, "Prometheus holds no sample of {METRIC}");
    let stored = count("SELECT count(*) FROM samples")?;
    ensure!(stored == Some(all), "SQL counts {stored:?} samples where Prometheus holds {all}");
    let stored = count(&format!("SELECT count(*) FROM metrics.\"{METRIC}\""))?;
    ensure!(stored == Some(metric), "SQL counts {stored:?} samples of {METRIC} where Prometheus holds {metric}");
    let score = |metric: &str, method: &str, keys: &str| -> Result<u64> {
        let rows = client.sql(
            url,
            &format!(
                "SELECT ts, value, anomaly_score(value, method => '{method}') OVER (PARTITION BY {keys} ORDER BY ts) AS score \
                 FROM metrics.\"{metric}\""
            ),
        )?;
        let samples = expected.samples_of(metric);
        ensure!(
            rows.len() as u64 == samples,
            "anomaly_score answers {} rows for {samples} samples of {metric}",
            rows.len()
        );
        Ok(rows.iter().filter(|row| row.get(2).is_some_and(|score| !score.is_null())).count() as u64)
    };
    let by_auto = score(METRIC, "auto", "instance, job, cpu, mode")?;
    // a short run ends while the automatic choice still looks at its first rows
    ensure!(
        by_auto > 0 || expected.longest_of(METRIC) < AUTO_SCORES_AFTER,
        "anomaly_score has no score for any of {metric} samples of {METRIC}"
    );
    let by_ewma = score(SHORT_METRIC, "ewma", "instance, job")?;
    ensure!(by_ewma > 0, "anomaly_score has no score by ewma for any sample of {SHORT_METRIC}");
    Ok(by_auto + by_ewma)
}

/// Compares the tables `histograms` and `exemplars` with what Prometheus holds; how many of each there are.
fn ask_records(
    protocol: Protocol,
    client: &Client,
    url: &str,
    histograms: &BTreeMap<Key, Histogram>,
    exemplars: &BTreeMap<Exemplar, ()>,
) -> Result<(usize, usize)> {
    let mut stored = stored_histograms(client, url)?;
    let (sent, known) = (protocol == Protocol::V2, stored.iter().any(|(_, histogram)| histogram.has_borders()));
    ensure!(sent == known, "custom borders, which only 2.0 sends: {known}");
    // Of those with custom buckets, remote read does not return the borders either.
    let borders = |(_, histogram): &(Key, Histogram)| !histogram.has_borders() || histogram.is_of(&target::BORDERS);
    let ours = stored.iter().filter(|((labels, _), _)| labels.iter().any(|(_, job)| job == "e2e"));
    ensure!(ours.into_iter().all(borders), "borders of our target's histogram other than {:?}", target::BORDERS);
    let mut expected = histograms.clone();
    expected.values_mut().chain(stored.iter_mut().map(|row| &mut row.1)).for_each(Histogram::forget_borders);
    for float in [false, true] {
        let any = expected.values().any(|histogram| histogram.float == float);
        ensure!(any, "Prometheus has no native histogram with float counts: {float}");
    }
    let custom = expected.values().any(|histogram| histogram.schema == CUSTOM_SCHEMA);
    ensure!(custom, "Prometheus has no native histogram with custom buckets");
    ensure!(!exemplars.is_empty(), "Prometheus holds no exemplar");
    let mut wrong = differences(&expected, &stored);
    wrong.extend(differences(exemplars, &stored_exemplars(client, url)?));
    ensure!(wrong.is_empty(), "histograms or exemplars differ:\n{}", wrong.join("\n"));
    Ok((expected.len(), exemplars.len()))
}

/// Compares `sys.metadata` with what Prometheus says of its targets; how many families are described.
fn ask_metadata(client: &Client, url: &str, expected: &Described) -> Result<u64> {
    let rows = client.sql(url, "SELECT metric, type, help, unit FROM sys.metadata")?;
    let mut young = 0;
    for row in &rows {
        let cells: Vec<&str> = row.iter().filter_map(|cell| cell.as_str()).collect();
        let &[family, kind, help, unit] = cells.as_slice() else { bail!("sys.metadata answers {row:?}") };
        // OpenMetrics names a counter without the suffix that its series have.
        let expected =
            expected.get(family).or_else(|| family.strip_suffix("_total").and_then(|family| expected.get(family)));
        let Some(expected) = expected else {
            young += 1;
            continue;
        };
        let known = expected.contains(&[kind, help, unit].map(str::to_owned));
        ensure!(known, "sys.metadata says {row:?}, and Prometheus {expected:?}");
    }
    // The end of scraping is a reload, of which Prometheus's own page tells in families that it did not have when asked.
    ensure!(young <= FAMILIES_OF_A_RELOAD_MAX, "{young} families of sys.metadata are unknown to Prometheus");
    // Prometheus also knows families of which there is no series, and sends nothing of them in 2.0.
    ensure!(rows.len() * 5 >= expected.len() * 4, "{} families of {} are described", rows.len(), expected.len());
    Ok(rows.len() as u64)
}

/// Everything that a stopped store holds, exact bits.
fn read_store(data_dir: &Path) -> Result<Store> {
    let engine = Engine::open(EngineConfig::new(data_dir))?;
    let snapshot = engine.snapshot();
    let selector = Selector { metric: None, matchers: Vec::new(), range: TimeRange::ALL };
    let series = snapshot.select(&selector)?;
    let ids: Vec<SeriesId> = series.iter().map(|series| series.id).collect();
    let mut samples = vec![Vec::new(); series.len()];
    let (mut scan, mut batch) = (snapshot.scan(&ids, TimeRange::ALL, true, 65_536)?, ScanBatch::default());
    while scan.next_batch(&mut batch)? {
        let mut row = 0;
        for &(of, rows) in &batch.runs {
            let end = row + rows as usize;
            let bits = batch.values[row..end].iter().map(|value| value.to_bits());
            samples[of as usize].extend(batch.ts[row..end].iter().copied().zip(bits));
            row = end;
        }
    }
    let mut store = Store::default();
    for (series, samples) in series.iter().zip(samples) {
        let labels = series.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        store.series.entry(labels).or_default().extend(samples);
    }
    engine.close()?;
    Ok(store)
}

fn describe(name: &str, found: &Comparison, report: &mut Report) {
    for (what, count, note) in [
        ("series", found.series_expected, "that Prometheus holds"),
        ("series_stored", found.series_actual, "that foretell holds"),
        ("samples_equal", found.equal, "same series, time and bits"),
        ("samples_missing", found.missing, ""),
        ("samples_extra", found.extra, ""),
        ("samples_differing", found.differing, ""),
        ("samples_twice", found.duplicates, ""),
        ("stale_markers", found.stale_expected, "that Prometheus holds"),
        ("stale_markers_equal", found.stale_equal, "same series, time and bits"),
    ] {
        report.figure(&format!("{name}_{what}"), count as f64, note);
    }
}

fn verdict(name: &str, found: &Comparison) -> Result<()> {
    for example in &found.examples {
        print(example);
    }
    ensure!(found.stale_expected > 0, "no stale marker was provoked, so nothing is known about them");
    ensure!(
        found.is_equal(),
        "{name}: foretell does not hold what Prometheus holds: {} missing, {} extra, {} differing, {} twice",
        found.missing,
        found.extra,
        found.differing,
        found.duplicates
    );
    print(&format!(
        "{name}: every one of {} samples in {} series is there, once, bit-equal",
        found.equal, found.series_expected
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_minutes() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("15"), Ok(Duration::from_secs(15)));
        assert!(duration("soon").is_err());
    }

    #[test]
    fn a_comparison_that_lost_one_sample_is_a_failed_run() {
        use foretell_proto::prometheus::STALE_NAN_BITS;
        let labels = vec![("__name__".to_owned(), "up".to_owned())];
        let expected = Store { series: [(labels, vec![(1, 1), (2, STALE_NAN_BITS), (3, 3)])].into() };
        let mut actual = expected.clone();
        assert!(verdict("x", &compare(&expected, &actual)).is_ok());
        actual.drop_one();
        assert!(verdict("x", &compare(&expected, &actual)).unwrap_err().to_string().contains("1 missing"));
    }
}
