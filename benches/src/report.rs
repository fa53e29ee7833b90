//! Tables for people and JSON for comparison over time.
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde_json::{Map, Value, json};

/// The result of one benchmark.
pub struct Report {
    name: String,
    parameters: Value,
    figures: Map<String, Value>,
    rows: Vec<[String; 3]>,
    missed: Vec<String>,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// So much or less.
    AtMost(f64),
    /// So much or more.
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "at most {}", human(*most)),
            Self::AtLeast(least) => write!(f, "at least {}", human(*least)),
        }
    }
}

impl Report {
    /// An empty report.
    pub fn new(name: &str, parameters: Value) -> Self {
        Self { name: name.to_owned(), parameters, figures: Map::new(), rows: Vec::new(), missed: Vec::new() }
    }

    /// Adds a figure; `note` says what it means.
    pub fn figure(&mut self, key: &str, value: f64, note: &str) {
        self.rows.push([key.to_owned(), human(value), note.to_owned()]);
        self.figures.insert(key.to_owned(), json!(value));
    }

    /// Adds a figure that should keep to a goal.
    pub fn goal(&mut self, key: &str, value: f64, goal: Goal, note: &str) {
        let (is_met, comma) = (goal.is_met(value), if note.is_empty() { "" } else { ", " });
        self.figure(key, value, &format!("{}{goal} wanted{comma}{note}", if is_met { "" } else { "MISSED: " }));
        if !is_met {
            self.missed.push(format!("{key}: {}, {goal} wanted", human(value)));
        }
    }

    /// Fails when a figure missed its goal; for after [`Report::finish`].
    ///
    /// # Errors
    /// With the figures.
    pub fn refuse_missed(&self) -> Result<()> {
        ensure!(self.missed.is_empty(), "{}: {}", self.name, self.missed.join("; "));
        Ok(())
    }

    /// Adds a line that is no number.
    pub fn text(&mut self, key: &str, value: &str, note: &str) {
        self.rows.push([key.to_owned(), value.to_owned(), note.to_owned()]);
        self.figures.insert(key.to_owned(), json!(value));
    }

    /// A figure that was added.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.figures.get(key)?.as_f64()
    }

    /// Prints the table.
    pub fn print(&self) {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_BORDERS_ONLY).set_header([self.name.as_str(), "", ""]);
        for [key, value, note] in &self.rows {
            let value = Cell::new(value).set_alignment(CellAlignment::Right);
            table.add_row([Cell::new(key), value, Cell::new(note)]);
        }
        print(&format!("{table}\n"));
    }

    /// Writes `DIR/NAME.json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, dir: &Path) -> Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let path = dir.join(format!("{}.json", self.name));
        let document = json!({
            "name": self.name,
            "commit": commit(),
            "version": env!("CARGO_PKG_VERSION"),
            "machine": machine(),
            "parameters": self.parameters,
            "figures": self.figures,
        });
        fs::write(&path, format!("{document:#}\n")).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Prints the table and writes the file.
    ///
    /// # Errors
    /// As [`Report::write`].
    pub fn finish(&self, dir: &Path) -> Result<PathBuf> {
        self.print();
        self.write(dir)
    }
}

/// Prints a line for the person who waits.
pub fn print(text: &str) {
    // a closed pipe is no reason to stop measuring
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Three or four significant digits, with k, M and G.
pub fn human(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        a if a >= 1e9 => (value / 1e9, "G"),
        a if a >= 1e6 => (value / 1e6, "M"),
        a if a >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let decimals = match scaled.abs() {
        a if a == a.trunc() && suffix.is_empty() => 0,
        a if a >= 100.0 => 0,
        a if a >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{suffix}")
}

/// The commit of the working tree, with `+` when files differ from it.
fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "HEAD"]) else { return "unknown".to_owned() };
    let changed = git(&["status", "--porcelain", "--", ".", ":!results"]).is_some_and(|changes| !changes.is_empty());
    format!("{commit}{}", if changed { "+" } else { "" })
}

fn machine() -> Value {
    let field = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
    };
    let memory_kib: u64 =
        field("/proc/meminfo", "MemTotal").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    json!({
        "cpu": field("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_mib": memory_kib / 1024,
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
    })
}

/// The middle of the values; of an even number, the mean of the two in the middle. NaN of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The value at `share` (0 to 1) of the sorted values; NaN of none.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (1.234, "1.23"),
            (123.4, "123"),
            (12_345.0, "12.3k"),
            (5_678_901.0, "5.68M"),
            (2e9, "2.00G"),
        ] {
            assert_eq!(human(value), text);
        }
    }

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 0.5), 2.0);
        assert!(median(&[]).is_nan() && percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_missed_goal_is_an_error_that_names_the_figure() {
        let mut report = Report::new("trial", json!({}));
        report.goal("seconds", 60.0, Goal::AtMost(60.0), "");
        report.goal("score", 70.0, Goal::AtLeast(68.8), "");
        report.refuse_missed().unwrap();
        report.goal("alarms", 0.2, Goal::AtMost(0.1), "a day");
        report.goal("nothing", f64::NAN, Goal::AtLeast(0.0), "");
        let error = report.refuse_missed().unwrap_err().to_string();
        assert_eq!(error, "trial: alarms: 0.20, at most 0.10 wanted; nothing: NaN, at least 0 wanted");
    }

    #[test]
    fn a_report_is_json_with_its_machine_and_commit() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = Report::new("trial", json!({"seed": 1}));
        report.figure("rate", 2.5, "per second");
        let text = fs::read_to_string(report.finish(dir.path()).unwrap()).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["figures"]["rate"], &json["parameters"]["seed"]), (&json!(2.5), &json!(1)));
        assert!(json["machine"]["cores"].as_u64().unwrap() > 0 && !json["commit"].as_str().unwrap().is_empty());
    }
}
