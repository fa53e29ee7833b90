//! `foretell verify`: reads a stopped store whole and reports what is wrong with it.
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use foretell_engine::verify::{Finding, Report, verify};
use serde_json::{Value, json};

use crate::progress::watched;
use crate::serve::say;

/// Exit code: damage was found.
pub(crate) const EXIT_DAMAGED: u8 = 1;
/// Exit code: the work could not be done.
pub(crate) const EXIT_CANNOT: u8 = 2;

/// `foretell verify`.
#[derive(Args, Debug)]
#[command(
    after_help = "Reads everything: the manifest, every block of every segment, series files, keyed state, the write-ahead log,\n\
    and the catalogue against them. Nothing is changed. The server must be stopped.\n\
    Exit codes: 0 nothing is wrong, 1 damage was found, 2 it could not be looked for.\n\n\
    Examples:\n  \
    foretell verify --data-dir /var/lib/foretell\n  \
    foretell verify --data-dir ./data --format json | jq .findings"
)]
pub struct VerifyArgs {
    /// Directory of the store
    #[arg(long, value_name = "DIR", env = "FORETELL_DATA_DIR")]
    data_dir: PathBuf,
    /// Shape of the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
}

/// Shape of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// Prints why the work could not be done; its exit code.
pub(crate) fn cannot(error: &anyhow::Error) -> ExitCode {
    eprintln!("foretell: {error:#}");
    ExitCode::from(EXIT_CANNOT)
}

impl VerifyArgs {
    pub(crate) fn run(&self) -> ExitCode {
        let read = watched("verifying", |progress| verify(&self.data_dir, progress));
        match read.and_then(|report| Ok(report?)) {
            Err(error) => cannot(&error),
            Ok(report) => {
                match self.format {
                    ReportFormat::Text => say(&text(&report)),
                    ReportFormat::Json => say(&to_json(&report).to_string()),
                }
                if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DAMAGED) }
            }
        }
    }
}

fn finding_text(finding: &Finding) -> String {
    let kind = if finding.derived { "derived" } else { "damaged" };
    let (path, offset) = (finding.path.display(), finding.offset);
    format!("{kind}: {path}: offset {offset}: expected {}, got {}", finding.expected, finding.got)
}

/// The report for people, without a newline at its end.
pub(crate) fn text(report: &Report) -> String {
    let mut lines: Vec<String> = report.findings.iter().map(finding_text).collect();
    if report.findings_left_out > 0 {
        lines.push(format!("{} more findings", report.findings_left_out));
    }
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.push(format!(
        "read {} bytes: {} segments of {} blocks and {} rows, {} series files of {} series, {} commits in the log",
        report.bytes, report.segments, report.blocks, report.rows, report.series_files, report.series, report.commits
    ));
    lines.push(match (report.is_clean(), report.findings.iter().all(|finding| finding.derived)) {
        (true, _) => "clean: nothing is wrong".to_owned(),
        (false, true) => {
            "derived data is damaged and nothing is lost: the next start or `foretell repair` rebuilds it".to_owned()
        }
        (false, false) => "damaged: `foretell repair --dry-run` says what can be kept and what is lost".to_owned(),
    });
    lines.join("\n")
}

/// The report for programs.
pub(crate) fn to_json(report: &Report) -> Value {
    let finding = |finding: &Finding| {
        json!({
            "path": finding.path.to_string_lossy(),
            "offset": finding.offset,
            "expected": finding.expected,
            "got": finding.got,
            "derived": finding.derived,
        })
    };
    json!({
        "clean": report.is_clean(),
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "findings_left_out": report.findings_left_out,
        "notes": report.notes,
        "bytes": report.bytes,
        "segments": report.segments,
        "blocks": report.blocks,
        "rows": report.rows,
        "series_files": report.series_files,
        "series": report.series,
        "commits": report.commits,
    })
}
