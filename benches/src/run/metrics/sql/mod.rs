//! `sql`: aggregates by step of time, asked of a server of ours over HTTP and of DuckDB over Parquet files of the same rows.
//!
//! ```text
//!  record ─> send ─> stop, start, wait ─> foretell export, a file for each metric ─> DuckDB: a view for each file
//!                          └──────────────── each question to both, in turn ─────────────────────┘
//! ```
//! DuckDB answers inside its process; our time has HTTP and JSON in it.
mod duckdb;
mod question;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use self::duckdb::Duckdb;
use self::question::{QUESTIONS, Question, compare};
use super::{SAMPLES_PER_REQUEST, filled};
use crate::http::{Client, rows};
use crate::peer::{Binaries, Peer, Server};
use crate::process::{disk_usage, output, scratch_dir};
use crate::recording::record;
use crate::report::{Goal, Report, median, print};
use crate::workload::{Kind, tsbs};

/// Threads of DuckDB.
const THREADS: usize = 2;
/// Series of a host.
const SERIES_PER_HOST: usize = 10;

/// Parameters of the fifth part.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[group(skip)]
pub struct Options {
    /// sql: hosts of ten series each, at least eight
    #[arg(long, default_value_t = 400)]
    pub sql_hosts: usize,
    /// sql: hours of data
    #[arg(long, default_value_t = 6.0)]
    pub sql_hours: f64,
    /// sql: how often each question is asked again
    #[arg(long, default_value_t = 15)]
    pub sql_repeats: usize,
    /// sql: a Python that has duckdb; without it this part is left out
    #[arg(long)]
    #[serde(skip)]
    pub python: Option<PathBuf>,
}

/// Fills both, asks both, compares the answers, and adds times and goals.
pub(super) fn measure(options: &super::Options, binaries: &Binaries, report: &mut Report) -> Result<()> {
    let own = &options.sql;
    let Some(python) = &own.python else {
        print(
            "left out, as it needs a Python that has duckdb: give it by --python, or run `make bench-metrics`, which makes one",
        );
        report.text("sql/left_out", "no --python", "");
        return Ok(());
    };
    let dir = scratch_dir("sql")?;
    let (mut duckdb, version) = Duckdb::start(python, THREADS, dir.path())?;
    report.text("duckdb_version", &version, "");
    let start_ms = crate::run::start_ms(own.sql_hours)?;
    let fleet = Kind::Tsbs.fleet(own.sql_hosts * SERIES_PER_HOST, options.seed, start_ms);
    let (rounds, series) = (fleet.rounds(own.sql_hours), fleet.series());
    print(&format!("storing {rounds} scrapes of {series} series"));
    let recordings = record(fleet, rounds, options.senders, SAMPLES_PER_REQUEST, dir.path())?;
    let samples = rounds * series as u64;
    filled::fill(&recordings, binaries, dir.path())?;
    let server = filled::open(binaries, dir.path())?;
    let files = dir.path().join("parquet");
    print("the same rows as Parquet in DuckDB");
    export(&server, binaries, &files)?;
    view(&mut duckdb, &files, samples)?;
    let bytes: u64 = disk_usage(&files)?.iter().map(|(_, bytes)| *bytes).sum();
    report.figure("sql/rows", samples as f64, "");
    report.figure("sql/parquet_bytes_per_sample", bytes as f64 / samples as f64, "");
    for question in &QUESTIONS {
        ask(question, &server, &mut duckdb, own.sql_repeats, report).context(question.name)?;
    }
    server.stop()?;
    Ok(())
}

/// Writes every metric to a Parquet file of its own in `dir`, as users do.
fn export(server: &Server, binaries: &Binaries, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    for metric in tsbs::metrics() {
        let mut command = Command::new(binaries.path(Peer::Foretell)?);
        command.args(["export", "--url", &server.url(), "--format", "parquet"]);
        command.args(["--table", &format!("metrics.\"{metric}\"")]).arg(dir.join(format!("{metric}.parquet")));
        let done = output(&mut command)?;
        ensure!(done.status.success(), "export of {metric}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

/// Makes a view of each file, and `samples` of all; fails when they have not so many rows.
fn view(duckdb: &mut Duckdb, dir: &Path, samples: u64) -> Result<()> {
    let create = |name: &str, files: &str| {
        let files = dir.join(files).display().to_string().replace('\'', "''");
        format!("CREATE VIEW {name} AS SELECT * FROM read_parquet('{files}')")
    };
    for metric in tsbs::metrics() {
        duckdb.ask(&create(&metric, &format!("{metric}.parquet")))?;
    }
    duckdb.ask(&create("samples", "*.parquet"))?;
    let counted = duckdb.ask("SELECT count(*) FROM samples")?.rows;
    let counted = counted.first().and_then(|row| row.first()?.as_u64());
    ensure!(counted == Some(samples), "{samples} rows sent, {counted:?} exported");
    Ok(())
}

/// Asks both once and compares, then again and again in turn; each turn begins with the other one.
fn ask(question: &Question, server: &Server, duckdb: &mut Duckdb, repeats: usize, report: &mut Report) -> Result<()> {
    let (client, url) = (Client::default(), server.url());
    let first = client.timed_sql(&url, question.ours)?;
    compare(&rows(&first)?, &duckdb.ask(question.theirs)?.rows)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 0..repeats.max(1) {
        for at in [turn % 2, (turn + 1) % 2] {
            match at {
                0 => ours.push(client.timed_sql(&url, question.ours)?.ms),
                _ => theirs.push(duckdb.ask(question.theirs)?.ms),
            }
        }
    }
    let (ours, theirs) = (median(&ours), median(&theirs));
    report.figure(&format!("sql/{}_foretell_p50_ms", question.name), ours, question.note);
    report.figure(&format!("sql/{}_duckdb_p50_ms", question.name), theirs, "");
    let key = format!("sql/goal: {}, to duckdb", question.name);
    report.goal(&key, ours / theirs, Goal::AtMost(1.0), "p50, ours to theirs");
    Ok(())
}
