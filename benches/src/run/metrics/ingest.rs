//! `ingest`: head to head with VictoriaMetrics and Prometheus, every workload at every size.
use std::path::Path;

use anyhow::Result;

use super::{SAMPLES_PER_REQUEST, size_name};
use crate::peer::{Binaries, Peer};
use crate::report::{Goal, Report, print};
use crate::run::ingest;
use crate::workload::Kind;

/// Samples a second of wall time that must be taken, whatever others do.
const SAMPLES_PER_SECOND_MIN: f64 = 3e6;
/// Resident bytes an active series may take at a million series.
const RSS_BYTES_MAX: f64 = 1_200.0;
/// Series from which that counts: with fewer, what does not depend on them is most of it.
const MANY_SERIES: usize = 1_000_000;

/// Parameters of the first part.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[group(skip)]
pub struct Options {
    /// ingest: workloads; may be given several times
    #[arg(long, value_enum, default_values = ["node", "tsbs", "churn"])]
    pub workload: Vec<Kind>,
    /// ingest: active series; may be given several times
    #[arg(long, default_values_t = [100_000, 1_000_000])]
    pub series: Vec<usize>,
    /// ingest: million samples of each load, about
    #[arg(long, default_value_t = 48.0)]
    pub samples: f64,
    /// ingest: runs of each server, in turn
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
}

/// What ours should be to theirs: samples a CPU second, and bytes a sample.
struct Wanted {
    cpu: f64,
    bytes: Option<f64>,
}

fn wanted(workload: Kind, peer: Peer) -> Option<Wanted> {
    match (peer, workload) {
        (Peer::VictoriaMetrics, Kind::Node) => Some(Wanted { cpu: 2.0, bytes: Some(0.5) }),
        (Peer::VictoriaMetrics, Kind::Tsbs) => Some(Wanted { cpu: 2.0, bytes: Some(0.7) }),
        (Peer::VictoriaMetrics, Kind::Churn) => Some(Wanted { cpu: 1.5, bytes: Some(0.7) }),
        (Peer::Prometheus, Kind::Node | Kind::Tsbs) => Some(Wanted { cpu: 4.0, bytes: None }),
        _ => None,
    }
}

/// Loads every server with every workload at every size. After each of them `results` has what is known so far: all of it takes
/// most of an hour.
pub(super) fn measure(
    options: &super::Options,
    binaries: &Binaries,
    results: &Path,
    report: &mut Report,
) -> Result<()> {
    let own = &options.ingest;
    for &workload in &own.workload {
        for &series in &own.series {
            // A scrape of every series: each 10 s in tsbs, each 15 s elsewhere.
            let step = if workload == Kind::Tsbs { 10.0 } else { 15.0 };
            let hours = (own.samples * 1e6 / series as f64).max(4.0) * step / 3600.0;
            let name = serde_json::to_value(workload)?.as_str().unwrap_or_default().to_owned();
            print(&format!("{name}, {series} series, {hours:.2} h"));
            let load = ingest::Options {
                workload,
                series,
                hours,
                senders: options.senders,
                samples_per_request: SAMPLES_PER_REQUEST,
                seed: options.seed,
                peer: options.peer.clone(),
                runs: own.runs,
            };
            let prefix = format!("{name}-{}/", size_name(series));
            ingest::measure(&load, binaries)?.describe(&prefix, report);
            judge(&prefix, workload, series, &options.peer, report);
            report.write(results)?;
        }
    }
    Ok(())
}

/// Adds the figures with goals.
fn judge(prefix: &str, workload: Kind, series: usize, peers: &[Peer], report: &mut Report) {
    let own = |report: &Report, key: &str| report.get(&format!("{prefix}foretell_{key}")).unwrap_or(f64::NAN);
    let ratio = |report: &Report, peer: Peer, key: &str| {
        report.get(&format!("{prefix}ratio_{}_{key}", peer.name())).unwrap_or(f64::NAN)
    };
    for &peer in peers {
        let Some(wanted) = wanted(workload, peer) else { continue };
        let key = |what: &str| format!("{prefix}goal: {what}, to {}", peer.name());
        let cpu = ratio(report, peer, "samples_per_cpu_second");
        report.goal(&key("samples a CPU second"), cpu, Goal::AtLeast(wanted.cpu), "");
        if let Some(bytes) = wanted.bytes {
            let of = ratio(report, peer, "bytes_per_sample");
            report.goal(&key("bytes a sample"), of, Goal::AtMost(bytes), "after a clean stop");
        }
        if peer == Peer::VictoriaMetrics {
            let of = ratio(report, peer, "request_p99_ms");
            report.goal(&key("p99 of a request"), of, Goal::AtMost(1.0), "");
        }
    }
    let wall = own(report, "samples_per_second");
    report.goal(&format!("{prefix}goal: samples a second"), wall, Goal::AtLeast(SAMPLES_PER_SECOND_MIN), "wall clock");
    if series >= MANY_SERIES {
        let rss = own(report, "rss_bytes_per_series");
        report.goal(&format!("{prefix}goal: resident bytes a series"), rss, Goal::AtMost(RSS_BYTES_MAX), "");
    }
}
