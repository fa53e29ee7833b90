//! `bench`: the benchmarks and the comparison with a real Prometheus, as one command.
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use foretell_benches::peer::Binaries;
use foretell_benches::report::print;
use foretell_benches::workload::learn::learn;
use foretell_benches::{alertmanager, crash, e2e, process, promql, rules, run, stream};

/// Measures Foretell, alone and beside real peers.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Task,
    /// The foretell binary; the one beside this program by default
    #[arg(long, global = true)]
    foretell: Option<PathBuf>,
    /// Folder into which benches/peers.sh has unpacked the peers
    #[arg(long, global = true)]
    peers: Option<PathBuf>,
    /// Folder for the JSON results
    #[arg(long, global = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    results: PathBuf,
}

#[derive(Subcommand)]
enum Task {
    /// From a sample to the POST that tells of it, at a steady load with many detectors and alerts
    Alerting(run::alerting::Options),
    /// A tenth of the series replaced every ten minutes for a day: memory and size of the index
    Churn(run::churn::Options),
    /// Samples a second that continuous queries keep up with
    Continuous(run::continuous::Options),
    /// Remote write bodies to columns, samples a second on one core
    Decode(run::decode::Options),
    /// What the default detector costs ingest, in turn with a server without it
    DefaultDetector(run::default_detector::Options),
    /// How well the anomaly detectors of a real server detect, and how often they cry wolf; needs --data and --score
    Detect(run::detect::Options),
    /// What detection costs: streaming methods by the point, the default one over 10,000 series of a week
    DetectSpeed(run::detect::speed::Options),
    /// A real server under load over HTTP, durable; with --peer also beside real peers
    Ingest(run::ingest::Options),
    /// Log lines over OTLP, durable: rate, size, searches; with --python also ClickHouse and DuckDB over the same rows
    Logs(run::events::Options),
    /// Spans over OTLP, durable: rate, size, a trace, searches; with --python also ClickHouse and DuckDB over the same rows
    Traces(run::events::Options),
    /// A killed server with a log of a given size: time to ready, memory, first query
    Recovery(run::recovery::Options),
    /// Hourly sums over a year, without rollups and with them
    Rollup(run::rollup::Options),
    /// Stored values to memory and through SQL
    Scan(run::scan::Options),
    /// A server with little memory, offered too many series and too heavy queries
    Abuse(run::abuse::Options),
    /// Ingest, size, memory and queries beside VictoriaMetrics, Prometheus and DuckDB, with goals; needs --peers and --python
    Metrics(run::metrics::Options),
    /// Webhooks that answer 500 or hang, for an hour: who listens is told as fast as ever, the others of everything afterwards
    Outage(run::outage::Options),
    /// Forecasts and change points of a real server, scored on public data sets; needs --data and --score
    Accuracy(run::accuracy::Options),
    /// Nanoseconds for each point of an anomaly detector
    Score(run::score::Options),
    /// Bytes of a stored sample, by what they are for
    Size(run::size::Options),
    /// Templates of labelled logs: accuracy, and lines a second
    Templates(run::templates::Options),
    /// continuous, decode, ingest, scan, score and size with their defaults
    All,
    /// A real Prometheus writes to foretell; both are compared sample by sample
    E2ePrometheus(e2e::Options),
    /// The server is killed again and again under load; nothing acknowledged may be lost
    Crash(crash::Options),
    /// The server is killed again and again while continuous queries, alerts and subscribers work: each table is its SELECT
    Stream(stream::Options),
    /// Classes of PromQL queries beside real peers, cold and warm, answers compared; needs --peers
    Promql(run::promql::Options),
    /// The same expressions to a real Prometheus and to foretell, over the same samples
    PromqlDiff(promql::Options),
    /// A real Alertmanager hears of alerts, groups them and tells of their end; needs --peers
    Alertmanager(alertmanager::Options),
    /// The same rule file in a real Prometheus and in foretell, over the same samples
    RulesDiff(rules::Options),
    /// Makes the node workload's page from successive scrapes of a real exporter
    LearnPage {
        /// Text files of the scrapes, oldest first
        #[arg(required = true)]
        scrapes: Vec<PathBuf>,
    },
}

fn main() -> ExitCode {
    match try_main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn try_main() -> Result<()> {
    let cli = Cli::parse();
    process::end_all_on_signal()?;
    let foretell = match cli.foretell {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("foretell"),
    };
    let (binaries, results) = (Binaries { foretell, peers: cli.peers }, &cli.results);
    match cli.command {
        Task::Alerting(options) => run::alerting::run(&options, &binaries, results),
        Task::Churn(options) => run::churn::run(&options, results),
        Task::Continuous(options) => run::continuous::run(&options, results),
        Task::Decode(options) => run::decode::run(&options, results),
        Task::DefaultDetector(options) => run::default_detector::run(&options, &binaries, results),
        Task::Detect(options) => run::detect::run(&options, &binaries, results),
        Task::DetectSpeed(options) => run::detect::speed::run(&options, &binaries, results),
        Task::Ingest(options) => run::ingest::run(&options, &binaries, results),
        Task::Logs(options) => run::events::run(run::events::Kind::Logs, &options, &binaries, results),
        Task::Traces(options) => run::events::run(run::events::Kind::Traces, &options, &binaries, results),
        Task::Metrics(options) => run::metrics::run(&options, &binaries, results),
        Task::Outage(options) => run::outage::run(&options, &binaries, results),
        Task::Recovery(options) => run::recovery::run(&options, &binaries, results),
        Task::Rollup(options) => run::rollup::run(&options, results),
        Task::Scan(options) => run::scan::run(&options, results),
        Task::Abuse(options) => run::abuse::run(&options, &binaries, results),
        Task::Accuracy(options) => run::accuracy::run(&options, &binaries, results),
        Task::Score(options) => run::score::run(&options, results),
        Task::Size(options) => run::size::run(&options, results),
        Task::Templates(options) => run::templates::run(&options, results),
        Task::All => {
            let defaults = |name: &str| Cli::parse_from(["bench", name]).command;
            for name in ["decode", "score", "size", "scan", "continuous", "ingest"] {
                match defaults(name) {
                    Task::Continuous(options) => run::continuous::run(&options, results)?,
                    Task::Decode(options) => run::decode::run(&options, results)?,
                    Task::Score(options) => run::score::run(&options, results)?,
                    Task::Size(options) => run::size::run(&options, results)?,
                    Task::Scan(options) => run::scan::run(&options, results)?,
                    Task::Ingest(options) => run::ingest::run(&options, &binaries, results)?,
                    _ => {}
                }
            }
            Ok(())
        }
        Task::E2ePrometheus(options) => e2e::run(&options, &binaries, results),
        Task::Crash(options) => crash::run(&options, &binaries, results),
        Task::Stream(options) => stream::run(&options, &binaries, results),
        Task::Promql(options) => run::promql::run(&options, &binaries, results),
        Task::PromqlDiff(options) => promql::run(&options, &binaries, results),
        Task::Alertmanager(options) => alertmanager::run(&options, &binaries, results),
        Task::RulesDiff(options) => rules::run(&options, &binaries, results),
        Task::LearnPage { scrapes } => learn_page(&scrapes),
    }
}

#[allow(clippy::disallowed_methods, reason = "a harness outside the product")]
fn learn_page(scrapes: &[PathBuf]) -> Result<()> {
    let texts: Result<Vec<String>> =
        scrapes.iter().map(|path| std::fs::read_to_string(path).with_context(|| path.display().to_string())).collect();
    print(learn(&texts?)?.to_text().trim_end());
    Ok(())
}
