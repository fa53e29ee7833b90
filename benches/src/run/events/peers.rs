//! The same rows in ClickHouse and DuckDB, by `benches/peers_events.py`.
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value};

use super::Load;
use crate::report::{Report, print};

/// Runs the script, checks its answers, and adds what it measured, with ratios.
///
/// # Errors
/// When it fails, or a peer answers differently.
pub(super) fn run(
    kind: &str,
    python: &Path,
    json: &Path,
    dir: &Path,
    load: &Load,
    repeats: usize,
    report: &mut Report,
) -> Result<()> {
    print("the same rows in ClickHouse and DuckDB");
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers_events.py")).arg(kind).arg(json).arg(dir);
    command.arg(repeats.to_string());
    for question in &load.questions {
        // what a question looks for is the text in quotes at its end
        let needle = question.sql.rsplit('\'').nth(1).unwrap_or_default();
        command.arg(format!("{}={needle}", question.name));
    }
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", message.trim());
    let measured: Map<String, Value> = serde_json::from_slice(&output.stdout)?;
    for (peer, figures) in &measured {
        report.text(&format!("{peer}_version"), figures["version"].as_str().unwrap_or_default(), "");
        let bytes = figures["bytes"].as_f64().context("no bytes")?;
        add(report, peer, "bytes_per_row", bytes / load.rows as f64, "merged_bytes_per_row");
        let seconds = figures["load_seconds"].as_f64().context("no seconds")?;
        report.figure(&format!("{peer}_load_rows_per_second"), load.rows as f64 / seconds, "from NDJSON, all cores");
        for question in &load.questions {
            let answer = &figures["questions"][question.name];
            let (expected, answered) = (question.expected(), answer["answer"].as_u64());
            ensure!(answered == Some(expected), "{peer}, {}: {answered:?}, {expected} are right", question.name);
            let key = format!("{}_p50_ms", question.name);
            let ms = answer["p50_ms"].as_f64().context("no time")?;
            add(report, peer, &key, ms, &key);
        }
    }
    Ok(())
}

/// A figure of a peer, and ours to it.
fn add(report: &mut Report, peer: &str, key: &str, value: f64, ours: &str) {
    report.figure(&format!("{peer}_{key}"), value, "");
    if let Some(own) = report.get(&format!("foretell_{ours}")) {
        report.figure(&format!("ratio_{peer}_{key}"), own / value, "ours to theirs");
    }
}
