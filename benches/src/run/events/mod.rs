//! `logs` and `traces`: a real server that takes log lines or spans over OTLP, is stopped, weighed and started again, and is asked
//! what people ask of them. With `--python` the same rows go into ClickHouse (`chdb`) and DuckDB, which are asked the same.
//!
//! Bodies are recorded before the clock starts; each is acknowledged when it is on stable storage. Answers are checked against
//! what the generator knows: a wrong one fails the run.
mod peers;
mod question;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;

use crate::http::{Client, OTLP_HEADERS};
use crate::peer::{Binaries, Peer, Server};
use crate::process::{disk_usage, free_port, scratch_dir};
use crate::recording::{Recording, record_events};
use crate::report::{Report, percentile, print};
use crate::workload::event::line::{self, Lines};
use crate::workload::event::span::{self, Traces};

use question::{Question, questions};

/// How long merges may go on before the store is weighed a second time.
const QUIET_WITHIN: Duration = Duration::from_secs(120);

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Lines or spans
    #[arg(long, default_value_t = 10_000_000)]
    pub rows: u64,
    /// Connections that send at once
    #[arg(long, default_value_t = 4)]
    pub senders: usize,
    /// Rows in a body, about
    #[arg(long, default_value_t = 2_000)]
    pub rows_per_request: usize,
    /// Services (lines only), at most 50
    #[arg(long, default_value_t = 20)]
    pub services: usize,
    /// Hours that the rows span
    #[arg(long, default_value_t = 2.0)]
    pub hours: f64,
    /// How often each question is asked again
    #[arg(long, default_value_t = 9)]
    pub repeats: usize,
    /// Seed of the rows
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A Python that has chdb and duckdb
    #[arg(long)]
    pub python: Option<PathBuf>,
}

/// Of which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Log lines.
    Logs,
    /// Spans.
    Traces,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "traces",
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Traces => "spans",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Logs => "/v1/logs",
            Self::Traces => "/v1/traces",
        }
    }
}

/// What was recorded.
struct Load {
    recordings: Vec<Recording>,
    rows: u64,
    /// Bytes of all rows as lines of JSON.
    json_bytes: u64,
    /// These lines, if they are wanted.
    json: Option<PathBuf>,
    questions: Vec<Question>,
}

/// Runs it.
///
/// # Errors
/// When the server refuses a body, does not stop, or answers wrongly.
pub fn run(kind: Kind, options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    ensure!(options.senders > 0 && options.rows >= options.senders as u64 * 100, "at least 100 rows for each sender");
    let dir = scratch_dir(kind.name())?;
    print(&format!("recording {} rows", options.rows));
    let load = record(kind, options, dir.path())?;
    let mut report = Report::new(
        kind.name(),
        json!({
            "rows": load.rows, "senders": options.senders, "rows_per_request": options.rows_per_request,
            "services": options.services, "hours": options.hours, "repeats": options.repeats, "seed": options.seed,
            "json_bytes_per_row": load.json_bytes as f64 / load.rows as f64,
        }),
    );
    let server = Peer::Foretell.start(binaries, dir.path(), free_port()?)?;
    ingest(kind, &load, &server, &mut report)?;
    let stop = server.stop()?;
    weigh("stopped", dir.path(), &load, &mut report)?;
    let again = Peer::Foretell.start(binaries, dir.path(), free_port()?)?;
    report.figure("foretell_stop_seconds", stop.as_secs_f64(), "SIGTERM to the end");
    report.figure("foretell_restart_seconds", again.started_in.as_secs_f64(), "start to ready on that directory");
    again.process.wait_idle(QUIET_WITHIN)?;
    ask(&again, &load, options.repeats, &mut report)?;
    let usage = again.process.usage()?;
    report.figure("foretell_asked_rss_peak_bytes", usage.rss_peak_bytes as f64, "most memory while it was asked");
    again.stop()?;
    weigh("merged", dir.path(), &load, &mut report)?;
    if let (Some(python), Some(json)) = (&options.python, &load.json) {
        peers::run(kind.name(), python, json, dir.path(), &load, options.repeats, &mut report)?;
    }
    report.finish(results)?;
    Ok(())
}

/// Bodies of all senders, each a file of its own.
fn record(kind: Kind, options: &Options, dir: &Path) -> Result<Load> {
    let start_ms = super::start_ms(options.hours)?;
    let json = options.python.is_some().then(|| dir.join("rows.ndjson"));
    let mut file = match &json {
        Some(path) => {
            Some(BufWriter::with_capacity(1 << 20, File::create(path).with_context(|| path.display().to_string())?))
        }
        None => None,
    };
    let mut json_bytes = 0;
    let mut take = |lines: &str| -> Result<()> {
        json_bytes += lines.len() as u64;
        if let Some(file) = &mut file {
            file.write_all(lines.as_bytes())?;
        }
        Ok(())
    };
    let each = options.rows / options.senders as u64;
    let span_ns = (options.hours * 3.6e12) as i64;
    let (mut recordings, mut lines, mut spans) = (Vec::new(), line::Known::default(), span::Known::default());
    for sender in 0..options.senders as u64 {
        let (seed, path) = (options.seed * 1_000 + sender, dir.join(format!("sender-{sender}.bodies")));
        recordings.push(match kind {
            Kind::Logs => {
                let step_ns = (span_ns / each as i64).max(1);
                let services = line::services(options.services);
                let mut events = Lines::new(seed, each, services.clone(), start_ms, step_ns);
                let recording = record_events(&mut events, &services, options.rows_per_request, path, &mut take)?;
                let known = events.known();
                lines.rare += known.rare;
                lines.common += known.common;
                recording
            }
            Kind::Traces => {
                // about six spans a trace
                let step_ns = (span_ns / each as i64).max(1) * 6;
                let mut events = Traces::new(seed, each, start_ms, step_ns);
                let recording =
                    record_events(&mut events, &span::services(), options.rows_per_request, path, &mut take)?;
                let known = events.known();
                spans.of_user += known.of_user;
                spans.errors += known.errors;
                (spans.trace, spans.trace_spans) = (known.trace, known.trace_spans);
                recording
            }
        });
    }
    if let Some(file) = &mut file {
        file.flush()?;
    }
    let rows = recordings.iter().map(|recording| recording.samples).sum();
    let questions = questions(kind, rows, &lines, &spans);
    Ok(Load { recordings, rows, json_bytes, json, questions })
}

fn ingest(kind: Kind, load: &Load, server: &Server, report: &mut Report) -> Result<()> {
    let before = server.process.usage()?;
    let begun = Instant::now();
    let (latencies_ms, busy) = super::ingest::send_to(&load.recordings, server.address, kind.path(), OTLP_HEADERS)
        .map_err(|error| anyhow!("{error:#}; {}", server.process.tail()))?;
    let wall = begun.elapsed().as_secs_f64();
    let usage = server.process.usage()?;
    let rows = load.rows as f64;
    report.figure("foretell_rows_per_second", rows / wall, "wall clock, senders on the same cores, durable");
    let cpu = usage.cpu_seconds - before.cpu_seconds;
    report.figure("foretell_rows_per_cpu_second", rows / cpu, "the server's user and system time");
    report.figure("foretell_request_p50_ms", percentile(&latencies_ms, 0.5), "one body to its acknowledgement");
    report.figure("foretell_request_p99_ms", percentile(&latencies_ms, 0.99), "");
    report.figure("foretell_busy_answers", busy as f64, "429 or 503, sent again");
    report.figure("foretell_rss_peak_bytes", usage.rss_peak_bytes as f64, "most memory while it took rows");
    let counted = Client::default().sql(&server.url(), &format!("SELECT count(*) FROM {}", kind.table()))?;
    let counted = counted.first().and_then(|row| row.first()?.as_u64());
    ensure!(counted == Some(load.rows), "{} rows sent, {counted:?} stored", load.rows);
    Ok(())
}

/// What the data directory takes.
fn weigh(when: &str, dir: &Path, load: &Load, report: &mut Report) -> Result<()> {
    let disk = disk_usage(&dir.join("data"))?;
    let total: u64 = disk.iter().map(|(_, bytes)| *bytes).sum();
    let per_row = total as f64 / load.rows as f64;
    report.figure(
        &format!("foretell_{when}_bytes_per_row"),
        per_row,
        "the whole data directory, index and log included",
    );
    let ratio = load.json_bytes as f64 / total as f64;
    report.figure(&format!("foretell_{when}_times_smaller"), ratio, "than the rows as lines of JSON");
    for (entry, bytes) in &disk {
        report.figure(&format!("foretell_{when}_bytes_per_row/{entry}"), *bytes as f64 / load.rows as f64, "");
    }
    Ok(())
}

fn ask(server: &Server, load: &Load, repeats: usize, report: &mut Report) -> Result<()> {
    let (client, url) = (Client::default(), server.url());
    for question in &load.questions {
        let mut times_ms = Vec::with_capacity(repeats + 1);
        for _ in 0..=repeats {
            let begun = Instant::now();
            let rows = client.sql(&url, &question.sql)?;
            times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
            question.check(&rows)?;
        }
        let (first, mut warm) = (times_ms[0], times_ms.split_off(1));
        warm.sort_by(f64::total_cmp);
        report.figure(&format!("foretell_{}_first_ms", question.name), first, "the first time after the start");
        if !warm.is_empty() {
            report.figure(&format!("foretell_{}_p50_ms", question.name), percentile(&warm, 0.5), question.note);
        }
    }
    Ok(())
}
