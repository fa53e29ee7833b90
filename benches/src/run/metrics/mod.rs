//! `metrics`: what metrics cost beside VictoriaMetrics, Prometheus and DuckDB, in one table with the goals.
//!
//! | module | measures |
//! |---|---|
//! | [`ingest`] | rate, size and memory of every workload at every size, head to head |
//! | [`merged`] | bytes of a sample after the major merge |
//! | [`lastpoint`] | the newest sample of every series of a large fleet |
//! | [`linear`] | whether ten times the data costs ten times as much, and a window of it no more |
//! | [`sql`] | aggregates by step of time beside DuckDB over Parquet |
//! | [`promql`] | the classes of PromQL queries at the published size |
//! | [`filled`] | a server that has taken a load, for those that ask it afterwards |
//!
//! Parts run one after the other; one that fails is told of, and the others go on.
mod filled;
mod ingest;
mod lastpoint;
mod linear;
mod merged;
mod promql;
mod sql;

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::peer::{Binaries, Peer};
use crate::report::{Report, print};

/// Samples in a request of remote write.
const SAMPLES_PER_REQUEST: usize = 10_000;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Rate, size and memory beside the peers.
    Ingest,
    /// Bytes of a sample after the major merge.
    Merged,
    /// The newest sample of every series.
    Lastpoint,
    /// Ten times the data.
    Linear,
    /// Aggregates beside DuckDB; needs --python.
    Sql,
    /// The classes of PromQL queries beside the peers.
    Promql,
}

impl Part {
    const ALL: [Self; 6] = [Self::Ingest, Self::Merged, Self::Lastpoint, Self::Linear, Self::Sql, Self::Promql];

    fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Merged => "merged",
            Self::Lastpoint => "lastpoint",
            Self::Linear => "linear",
            Self::Sql => "sql",
            Self::Promql => "promql",
        }
    }
}

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only this part; may be given several times
    #[arg(long, value_enum)]
    pub only: Vec<Part>,
    /// Servers beside foretell
    #[arg(long, value_enum, default_values = ["victoriametrics", "prometheus"])]
    pub peer: Vec<Peer>,
    /// Connections that send at once
    #[arg(long, default_value_t = 4)]
    pub senders: usize,
    /// Seed of the workloads
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The first part.
    #[command(flatten)]
    pub ingest: ingest::Options,
    /// The second part.
    #[command(flatten)]
    pub merged: merged::Options,
    /// The third part.
    #[command(flatten)]
    pub lastpoint: lastpoint::Options,
    /// The fourth part.
    #[command(flatten)]
    pub linear: linear::Options,
    /// The fifth part.
    #[command(flatten)]
    pub sql: sql::Options,
    /// The sixth part.
    #[command(flatten)]
    pub promql: promql::Options,
}

impl Options {
    /// What is measured, in order.
    fn parts(&self) -> Vec<Part> {
        Part::ALL.into_iter().filter(|part| self.only.is_empty() || self.only.contains(part)).collect()
    }

    /// What the figures of `part` depend on.
    fn parameters(&self, part: Part) -> Result<Value> {
        Ok(match part {
            Part::Ingest => serde_json::to_value(&self.ingest)?,
            Part::Merged => serde_json::to_value(&self.merged)?,
            Part::Lastpoint => serde_json::to_value(&self.lastpoint)?,
            Part::Linear => serde_json::to_value(&self.linear)?,
            Part::Sql => serde_json::to_value(&self.sql)?,
            Part::Promql => serde_json::to_value(&self.promql)?,
        })
    }
}

/// Runs it.
///
/// # Errors
/// After all is written: when a part failed (a server refused a body, lost one, answered wrongly or did not stop), and when a
/// figure missed its goal.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let parts = options.parts();
    let mut parameters = json!({"senders": options.senders, "seed": options.seed});
    for &part in &parts {
        parameters[part.name()] = options.parameters(part)?;
    }
    let mut report = Report::new(&report_name(&parts), parameters);
    let with_peers = parts.iter().any(|part| matches!(part, Part::Ingest | Part::Promql));
    let peers = options.peer.iter().filter(|&&peer| with_peers && peer != Peer::Foretell);
    for peer in [Peer::Foretell].iter().chain(peers) {
        report.text(&format!("{}_version", peer.name()), &peer.version(binaries)?, "");
    }
    let mut failed = Vec::new();
    for &part in &parts {
        print(&format!("{}:", part.name()));
        let measured = match part {
            Part::Ingest => ingest::measure(options, binaries, results, &mut report),
            Part::Merged => merged::measure(options, &mut report),
            Part::Lastpoint => lastpoint::measure(options, binaries, &mut report),
            Part::Linear => linear::measure(options, binaries, &mut report),
            Part::Sql => sql::measure(options, binaries, &mut report),
            Part::Promql => promql::measure(options, binaries, results, &mut report),
        };
        if let Err(error) = measured {
            print(&format!("{} failed: {error:#}", part.name()));
            failed.push(format!("{}: {error:#}", part.name()));
        }
    }
    report.finish(results)?;
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    report.refuse_missed()
}

/// The name of the figures: those of some parts do not replace those of all.
fn report_name(parts: &[Part]) -> String {
    if parts.len() == Part::ALL.len() {
        return "metrics".to_owned();
    }
    let names = parts.iter().map(|part| part.name());
    ["metrics"].into_iter().chain(names).collect::<Vec<_>>().join("-")
}

/// A number of series as people say it: 500, 20k, 1M.
fn size_name(series: usize) -> String {
    match series {
        1_000_000.. if series.is_multiple_of(1_000_000) => format!("{}M", series / 1_000_000),
        1_000.. if series.is_multiple_of(1_000) => format!("{}k", series / 1_000),
        _ => series.to_string(),
    }
}

/// The options of another benchmark, as if its command had these arguments.
fn options_of<T: clap::Args>(arguments: &[&str]) -> Result<T> {
    let command = T::augment_args(clap::Command::new("bench")).no_binary_name(true);
    Ok(T::from_arg_matches(&command.try_get_matches_from(arguments)?)?)
}

#[cfg(test)]
mod tests;
