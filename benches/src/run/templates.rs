//! `templates`: log templates of labelled logs (the layout of Loghub: `<name>_structured.csv` with the columns `LineId`,
//! `Content` and `EventTemplate`), how many lines are grouped and worded as labelled, and lines a second on one core.
//!
//! Definitions (Zhu et al., "Tools and Benchmarks for Automated Log Parsing", 2019; Jiang et al., "A Large-scale Evaluation
//! for Log Parsing Techniques", 2024): **GA**, grouping accuracy, is the share of lines whose group holds exactly the lines
//! of one labelled template; **PA**, parsing accuracy, the share of lines whose template is the labelled one to the
//! character. Systems are averaged with equal weight. With `--out` the answers are written as files of the same names, which
//! other scorers read.
//!
//! With `--statements` also logs whose lines name the statement that wrote them ([`statements`]): GA only.
mod statements;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use foretell_ml::template::{Miner, TemplateId};
use serde_json::json;

use crate::report::Report;

/// Ends of the names of labelled files.
const SUFFIX: &str = "_structured.csv";

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Folder with labelled logs: every `*_structured.csv` in it or in its folders
    pub data: PathBuf,
    /// Folder for the answers, one file for each labelled one
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Folder with lines that name their statements (CSV with PodName and Log), which give groups without labels
    #[arg(long)]
    pub statements: Option<PathBuf>,
    /// Seconds of CPU time for the speed
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
}

/// A labelled log.
struct Log {
    name: String,
    ids: Vec<String>,
    lines: Vec<String>,
    truth: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// When a file cannot be read or written, or lacks a column.
pub fn run(options: &Options, results: &Path) -> Result<()> {
    let mut files = Vec::new();
    find(&options.data, 2, &mut files)?;
    files.sort();
    ensure!(!files.is_empty(), "{}: no *{SUFFIX} in it or in its folders", options.data.display());
    let logs: Vec<Log> = files.iter().map(|path| read(path)).collect::<Result<_>>()?;
    let mut report = Report::new("templates", json!({"seconds": options.seconds, "systems": logs.len()}));
    let (mut ga_sum, mut pa_sum) = (0.0, 0.0);
    for log in &logs {
        let answers = answers(log);
        if let Some(out) = &options.out {
            write(out, log, &answers)?;
        }
        let (ga, pa) = (grouping(&log.truth, &answers), wording(&log.truth, &answers));
        (ga_sum, pa_sum) = (ga_sum + ga, pa_sum + pa);
        let title = log.name.trim_end_matches(SUFFIX).trim_end_matches(".log").trim_end_matches("_2k");
        report.figure(&format!("{title}_ga"), ga, "share of lines grouped as labelled");
        report.figure(&format!("{title}_pa"), pa, "share of lines worded as labelled");
    }
    report.figure("ga", ga_sum / logs.len() as f64, "mean of the systems");
    report.figure("pa", pa_sum / logs.len() as f64, "mean of the systems");
    if let Some(dir) = &options.statements {
        let log = statements::read(dir)?;
        let answers = answers(&log);
        if let Some(out) = &options.out {
            write(out, &log, &answers)?;
        }
        let groups = |of: &[String]| of.iter().collect::<HashSet<_>>().len() as f64;
        report.figure("statements_ga", grouping(&log.truth, &answers), "share of lines grouped as by their statements");
        report.figure("statements_lines", log.lines.len() as f64, "lines of them");
        report.figure("statements_groups", groups(&log.truth), "statements that can be told apart");
        report.figure("statements_templates", groups(&answers), "templates found");
    }
    speed(&logs, Duration::from_secs_f64(options.seconds), &mut report)?;
    report.finish(results)?;
    Ok(())
}

/// One miner that goes on learning from the lines of all systems.
fn speed(logs: &[Log], for_: Duration, report: &mut Report) -> Result<()> {
    let mut miner = Miner::default();
    let (lines, seconds) = super::repeated(for_, || {
        let mut lines = 0;
        for line in logs.iter().flat_map(|log| &log.lines) {
            std::hint::black_box(miner.learn(line));
            lines += 1;
        }
        Ok(lines)
    })?;
    let (bytes, total): (usize, usize) =
        logs.iter().flat_map(|log| &log.lines).fold((0, 0), |(bytes, n), line| (bytes + line.len(), n + 1));
    report.figure("lines_per_second_core", lines as f64 / seconds, "learnt, by the thread's CPU time");
    report.figure("bytes_per_line", bytes as f64 / total.max(1) as f64, "of these logs");
    report.figure("clusters", miner.clusters() as f64, "skeletons kept");
    report.figure("state_bytes", miner.save().len() as f64, "saved state");
    Ok(())
}

/// The template of every line, once all of its log are learnt.
fn answers(log: &Log) -> Vec<String> {
    let mut miner = Miner::default();
    let ids: Vec<TemplateId> = log.lines.iter().map(|line| miner.learn(line)).collect();
    log.lines.iter().zip(ids).map(|(line, id)| miner.text(id).unwrap_or_else(|| miner.template(line).1)).collect()
}

fn grouping(truth: &[String], answers: &[String]) -> f64 {
    let (mut true_sizes, mut sizes, mut shared) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (label, answer) in truth.iter().zip(answers) {
        *true_sizes.entry(label).or_insert(0u64) += 1;
        *sizes.entry(answer).or_insert(0u64) += 1;
        *shared.entry((label, answer)).or_insert(0u64) += 1;
    }
    let right: u64 = shared
        .iter()
        .filter(|((label, answer), n)| true_sizes[label] == **n && sizes[answer] == **n)
        .map(|(_, n)| n)
        .sum();
    right as f64 / truth.len() as f64
}

fn wording(truth: &[String], answers: &[String]) -> f64 {
    truth.iter().zip(answers).filter(|(label, answer)| label == answer).count() as f64 / truth.len() as f64
}

fn find(dir: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && depth > 0 {
            find(&path, depth - 1, files)?;
        } else if path.to_string_lossy().ends_with(SUFFIX) {
            files.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Log> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut rows = rows(text.trim_start_matches('\u{feff}')).into_iter();
    let header = rows.next().unwrap_or_default();
    let place = |name: &str| {
        let place = header.iter().position(|column| column == name);
        place.with_context(|| format!("{}: no column {name}", path.display()))
    };
    let (id, content, label) = (place("LineId")?, place("Content")?, place("EventTemplate")?);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut log = Log { name, ids: Vec::new(), lines: Vec::new(), truth: Vec::new() };
    for (at, mut row) in rows.enumerate() {
        if row.len() != header.len() {
            bail!("{}: row {} has {} cells, the header {}", path.display(), at + 2, row.len(), header.len());
        }
        log.ids.push(std::mem::take(&mut row[id]));
        log.lines.push(std::mem::take(&mut row[content]));
        log.truth.push(std::mem::take(&mut row[label]));
    }
    ensure!(!log.lines.is_empty(), "{}: no rows", path.display());
    Ok(log)
}

/// Rows of CSV, quotes doubled inside quotes.
fn rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut bytes = text.chars().peekable();
    while let Some(c) = bytes.next() {
        match c {
            '"' if quoted && bytes.peek() == Some(&'"') => {
                bytes.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows
}

fn write(out: &Path, log: &Log, answers: &[String]) -> Result<()> {
    fs::create_dir_all(out)?;
    let path = out.join(&log.name);
    let mut text = Vec::new();
    writeln!(text, "LineId,EventTemplate")?;
    for (id, answer) in log.ids.iter().zip(answers) {
        writeln!(text, "{id},\"{}\"", answer.replace('"', "\"\""))?;
    }
    fs::write(&path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn labelled_logs_are_scored_as_defined() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("Demo_2k.log_structured.csv");
        let text = "LineId,Level,Content,EventTemplate\r\n1,I,\"open \"\"a\"\", 1\",\"open \"\"a\"\", <*>\"\n\
                    2,I,\"open \"\"a\"\", 2\",\"open \"\"a\"\", <*>\"\n3,W,shut down,shut <*>\n4,W,shut up,shut <*>\n";
        fs::write(&path, text).unwrap();
        let log = read(&path).unwrap();
        assert_eq!(log.lines, ["open \"a\", 1", "open \"a\", 2", "shut down", "shut up"]);
        let answers = answers(&log);
        assert_eq!(answers, ["open \"a\", <*>", "open \"a\", <*>", "shut down", "shut up"]);
        assert_eq!((grouping(&log.truth, &answers), wording(&log.truth, &answers)), (0.5, 0.5));
        write(&dir.path().join("out"), &log, &answers).unwrap();
        let written = fs::read_to_string(dir.path().join("out/Demo_2k.log_structured.csv")).unwrap();
        assert_eq!(rows(&written)[1], ["1", "open \"a\", <*>"]);
        fs::write(&path, "LineId,Content\n1,x\n").unwrap();
        assert!(read(&path).is_err_and(|e| e.to_string().contains("no column EventTemplate")));
    }
}
