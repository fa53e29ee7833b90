//! `linear`: many times the hours of the same series cost as many times the CPU, and a window of them is answered as fast.
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::{SAMPLES_PER_REQUEST, filled};
use crate::http::{Client, Timed, rows};
use crate::peer::{Binaries, Server};
use crate::process::scratch_dir;
use crate::promql::Question;
use crate::recording::{Recording, record};
use crate::report::{Goal, Report, human, median, print};
use crate::run::promql::ask;
use crate::workload::Kind;

/// CPU of the long store to that of the short one, by the ratio of their samples.
const CPU_RATIO_MAX: f64 = 1.1;
/// Time of an answer of the long store to that of the short one.
const WINDOW_RATIO_MAX: f64 = 1.2;
/// What is asked for ends with the data.
const WINDOW_MS: i64 = 30 * 60_000;

/// Parameters of the fourth part.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[group(skip)]
pub struct Options {
    /// linear: series of both stores
    #[arg(long, default_value_t = 10_000)]
    pub linear_series: usize,
    /// linear: hours of the short store
    #[arg(long, default_value_t = 1.0)]
    pub linear_hours: f64,
    /// linear: how many times as long the other is
    #[arg(long, default_value_t = 10.0)]
    pub linear_times: f64,
    /// linear: loads of each store
    #[arg(long, default_value_t = 3)]
    pub linear_runs: usize,
    /// linear: requests of each kind to each store
    #[arg(long, default_value_t = 50)]
    pub linear_requests: usize,
}

/// A load, and what it showed.
struct Store {
    name: &'static str,
    recordings: Vec<Recording>,
    samples: u64,
    /// Where its data end.
    end_ms: i64,
    /// Below it is the server's directory.
    dir: PathBuf,
    cpu_seconds: Vec<f64>,
}

/// A question about the window before an instant.
#[derive(Clone, Copy)]
enum Window {
    Promql,
    Sql,
}

/// Fills both stores in turn, then asks both, running at the same time, in turn.
pub(super) fn measure(options: &super::Options, binaries: &Binaries, report: &mut Report) -> Result<()> {
    let own = &options.linear;
    let scratch = scratch_dir("linear")?;
    let store = |name, hours| Store::record(name, hours, options, scratch.path().join(name));
    let mut stores = [store("short", own.linear_hours)?, store("long", own.linear_hours * own.linear_times)?];
    for run in 0..own.linear_runs.max(1) {
        for store in &mut stores {
            print(&format!("run {} of {}: {}", run + 1, own.linear_runs.max(1), store.name));
            store.fill(binaries)?;
        }
    }
    for store in &stores {
        let per_second = store.samples as f64 / median(&store.cpu_seconds);
        report.figure(&format!("linear/{}_cpu_seconds", store.name), median(&store.cpu_seconds), "ready to stopped");
        report.figure(&format!("linear/{}_samples_per_cpu_second", store.name), per_second, "");
    }
    let [short, long] = &stores;
    let times = long.samples as f64 / short.samples as f64;
    let ratio = median(&long.cpu_seconds) / median(&short.cpu_seconds);
    let key = format!("linear/goal: CPU of {}x the samples", human(times));
    report.goal(&key, ratio, Goal::AtMost(CPU_RATIO_MAX * times), "to that of the short store");
    let servers = [filled::open(binaries, &short.data())?, filled::open(binaries, &long.data())?];
    for (name, window) in [("promql", Window::Promql), ("sql", Window::Sql)] {
        let ms = alternate(&stores, &servers, window, own.linear_requests)?;
        for (store, ms) in stores.iter().zip(&ms) {
            report.figure(&format!("linear/{name}_{}_p50_ms", store.name), median(ms), "");
        }
        let ratio = median(&ms[1]) / median(&ms[0]);
        let key = format!("linear/goal: last half hour, {name}");
        report.goal(&key, ratio, Goal::AtMost(WINDOW_RATIO_MAX), "p50 in the long store to the short one");
    }
    servers.into_iter().try_for_each(|server| server.stop().map(drop))
}

impl Store {
    fn record(name: &'static str, hours: f64, options: &super::Options, dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir)?;
        let fleet = Kind::Node.fleet(options.linear.linear_series, options.seed, crate::run::start_ms(hours)?);
        let (rounds, series) = (fleet.rounds(hours), fleet.series());
        let end_ms = fleet.round_start_ms(rounds);
        print(&format!("recording {rounds} scrapes of {series} series"));
        let recordings = record(fleet, rounds, options.senders, SAMPLES_PER_REQUEST, &dir)?;
        let samples = recordings.iter().map(|recording| recording.samples).sum();
        Ok(Self { name, recordings, samples, end_ms, dir, cpu_seconds: Vec::new() })
    }

    /// The directory of the server.
    fn data(&self) -> PathBuf {
        self.dir.join("server")
    }

    /// Loads a new server; the data of the run before are removed.
    fn fill(&mut self, binaries: &Binaries) -> Result<()> {
        let dir = self.data();
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        self.cpu_seconds.push(filled::fill(&self.recordings, binaries, &dir).context(self.name)?);
        Ok(())
    }
}

impl Window {
    /// Asks about the window that ends at `end_ms`.
    fn ask(self, client: &Client, server: &Server, end_ms: i64) -> Result<Timed> {
        let start_ms = end_ms - WINDOW_MS;
        match self {
            Self::Promql => {
                let (start, end) = (start_ms as f64 / 1e3, end_ms as f64 / 1e3);
                let expr = "sum by (mode) (rate(node_cpu_seconds_total[5m]))".to_owned();
                ask(client, server, &Question { expr, at: end, range: Some((start, end, 60.0)) }, true)
            }
            Self::Sql => client.timed_sql(&server.url(), &statement(start_ms, end_ms)),
        }
    }

    /// Rows of an answer.
    fn rows(self, answer: &Timed) -> Result<usize> {
        Ok(match self {
            Self::Promql => answer.parse()?["data"]["result"].as_array().map_or(0, Vec::len),
            Self::Sql => rows(answer)?.len(),
        })
    }
}

/// An aggregate by minute over a window.
fn statement(start_ms: i64, end_ms: i64) -> String {
    format!(
        "SELECT time_bucket('1m', ts) AS t, mode, avg(value), max(value) FROM metrics.node_cpu_seconds_total \
         WHERE ts >= to_timestamp_millis({start_ms}) AND ts < to_timestamp_millis({end_ms}) GROUP BY 1, 2 ORDER BY 1, 2"
    )
}

/// Milliseconds of each request to each server, warm; each turn begins with the other one.
fn alternate(stores: &[Store; 2], servers: &[Server; 2], window: Window, requests: usize) -> Result<[Vec<f64>; 2]> {
    let (client, mut ms) = (Client::default(), [Vec::new(), Vec::new()]);
    for (store, server) in stores.iter().zip(servers) {
        let first = window.ask(&client, server, store.end_ms)?;
        ensure!(window.rows(&first)? > 0, "nothing was found in the {} store", store.name);
    }
    for turn in 0..requests.max(1) {
        for at in [turn % 2, (turn + 1) % 2] {
            ms[at].push(window.ask(&client, &servers[at], stores[at].end_ms)?.ms);
        }
    }
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_bounded_in_sql() {
        let sql = statement(1_000, 61_000);
        assert!(sql.contains("ts >= to_timestamp_millis(1000) AND ts < to_timestamp_millis(61000) GROUP BY"), "{sql}");
    }
}
