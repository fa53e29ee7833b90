//! The series of the Numenta benchmark: read, scored by a detector, judged by the scorers.
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use foretell_ml::detect::{Detector, DetectorOptions, Method};
use serde_json::Value;

use super::Options;
use crate::report::Report;

/// Scorers take finite scores only: off a constant past.
const OFF_CONSTANT: f64 = 1e9;
/// Letters of a time without fractions of a second: `2014-04-10 07:15:00`.
const TIME_LETTERS: usize = 19;
/// The series that TSB-AD scores too. It holds two of the three that are marked.
const ALSO_IN_TSB_AD: [(&str, bool); 12] = [
    ("ec2_request_latency_system_failure", false),
    ("nyc_taxi", false),
    ("art_load_balancer_spikes", false),
    ("exchange-3_cpm_results", false),
    ("art_daily_jumpsup", true),
    ("art_daily_jumpsdown", true),
    ("art_daily_nojump", true),
    ("ambient_temperature_system_failure", false),
    ("art_increase_spike_density", false),
    ("rogue_agent_key_hold", false),
    ("art_daily_flatmiddle", false),
    ("cpu_utilization_asg_misconfiguration", false),
];
/// How many of the marked ones TSB-AD holds.
const MARKED: f64 = 2.0;

/// A labelled series.
pub(super) struct Series {
    /// Path below the folder of the benchmark.
    key: String,
    /// Time as it stands in the file, time in ns, value.
    rows: Vec<(String, i64, f64)>,
    /// First and last time of each anomaly.
    windows: Vec<(String, String)>,
}

impl Series {
    /// Name of the file without folder and ending.
    fn name(&self) -> &str {
        Path::new(&self.key).file_stem().and_then(|stem| stem.to_str()).unwrap_or(&self.key)
    }

    fn scores(&self, method: Method) -> Result<Vec<f64>> {
        let mut detector = Detector::new(method, DetectorOptions::default())?;
        let score = |(_, ts, value): &(String, i64, f64)| detector.update(*ts, *value).score;
        Ok(self.rows.iter().map(score).map(|score| score.unwrap_or(0.0).min(OFF_CONSTANT)).collect())
    }

    fn is_labelled(&self, time: &str) -> bool {
        // times of one format are in the order of their text
        self.windows.iter().any(|(from, to)| from.as_str() <= time && time <= to.as_str())
    }
}

/// Every series that the windows name.
pub(super) fn read(dir: &Path) -> Result<Vec<Series>> {
    let path = dir.join("combined_windows.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let windows: std::collections::BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(&text)?;
    windows.into_iter().map(|(key, windows)| read_one(dir, key, windows)).collect()
}

fn read_one(dir: &Path, key: String, windows: Vec<(String, String)>) -> Result<Series> {
    let path = dir.join(&key);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let row = |line: &str| -> Option<(String, i64, f64)> {
        let (time, value) = line.trim_end().split_once(',')?;
        Some((time.to_owned(), nanos(time)?, value.parse().ok()?))
    };
    let rows: Vec<_> = text
        .lines()
        .skip(1)
        .enumerate()
        .map(|(i, line)| row(line).with_context(|| format!("{} row {}", path.display(), i + 1)))
        .collect::<Result<_>>()?;
    let whole_seconds = |time: String| time.chars().take(TIME_LETTERS).collect();
    let windows = windows.into_iter().map(|(from, to)| (whole_seconds(from), whole_seconds(to))).collect();
    Ok(Series { key, rows, windows })
}

/// Nanoseconds since 1970 of `2014-04-10 07:15:00`.
fn nanos(time: &str) -> Option<i64> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, TIME_LETTERS)?);
    // a year that begins in March ends with its leap day
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000_000)
}

/// Scores every series by `method` and adds what the scorers say.
pub(super) fn measure(
    series: &[Series],
    name: &str,
    method: Method,
    options: &Options,
    dir: &Path,
    report: &mut Report,
) -> Result<()> {
    let (scores, labelled) = (dir.join("scores"), dir.join("labelled"));
    fs::create_dir_all(&labelled)?;
    for one in series {
        let path = scores.join(&one.key);
        fs::create_dir_all(path.parent().unwrap_or(&scores))?;
        let mut plain = String::from("timestamp,anomaly_score\n");
        let mut with_labels = String::from("value,label,anomaly_score\n");
        for ((time, _, value), score) in one.rows.iter().zip(one.scores(method)?) {
            plain += &format!("{time},{score}\n");
            with_labels += &format!("{value},{},{score}\n", u8::from(one.is_labelled(time)));
        }
        fs::write(&path, plain)?;
        if ALSO_IN_TSB_AD.iter().any(|(also, _)| *also == one.name()) {
            fs::write(labelled.join(format!("{}.csv", one.name())), with_labels)?;
        }
    }
    let windows = options.nab.join("combined_windows.json");
    let judged = |scorer: &str, scores: &Path, more: &[&str]| -> Result<Value> {
        let mut command = Command::new(&options.python);
        command.arg(options.scorers.join(scorer)).arg(scores).arg("--json").args(more);
        if scorer != "vus.py" {
            command.arg("--windows").arg(&windows);
        }
        let output = command.output().with_context(|| options.python.display().to_string())?;
        ensure!(output.status.success(), "{scorer}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    nab_figures(&judged("nab.py", &scores, &[])?, name, report);
    vus_figures(&judged("vus.py", &labelled, &[])?, name, report)?;
    let events = judged("events.py", &scores, &["--sort", "--merge-gap", "3600"])?;
    for (key, note) in [
        ("recall", "windows with a score of 1 or more"),
        ("precision", "alarms, an hour apart or more, that begin in a window"),
        ("delay_median_s", "from the start of the window; the anomaly lies in its middle"),
        ("false_alarms_per_day", "alarms that begin outside every window"),
    ] {
        if let Some(value) = events["total"][key].as_f64() {
            report.figure(&format!("{name}/events_{key}"), value, note);
        }
    }
    Ok(())
}

fn nab_figures(judged: &Value, name: &str, report: &mut Report) {
    for profile in ["standard", "low_fp", "low_fn"] {
        if let Some(score) = judged[profile]["score"].as_f64() {
            report.figure(&format!("{name}/nab_{profile}"), score, "0: silence, 100: every window at its first row");
        }
    }
    if let Some(threshold) = judged["standard"]["threshold"].as_f64() {
        report.figure(&format!("{name}/nab_standard_threshold"), threshold, "where the standard profile scores most");
    }
}

fn vus_figures(judged: &Value, name: &str, report: &mut Report) -> Result<()> {
    let (mut sum, mut marked, mut weight) = (0.0, Vec::new(), 0.0);
    for entry in judged["series"].as_array().into_iter().flatten() {
        let stem = entry["file"].as_str().map(Path::new).and_then(Path::file_stem).and_then(|stem| stem.to_str());
        let (Some(stem), Some(vus)) = (stem, entry["vus_pr"].as_f64()) else { continue };
        report.figure(&format!("{name}/vus_pr/{stem}"), vus, "");
        match ALSO_IN_TSB_AD.iter().find(|(also, _)| *also == stem) {
            Some((_, true)) => marked.push(vus),
            _ => (sum, weight) = (sum + vus, weight + 1.0),
        }
    }
    ensure!(!marked.is_empty(), "vus.py answered for none of the series");
    sum += MARKED * marked.iter().sum::<f64>() / marked.len() as f64;
    report.figure(&format!("{name}/vus_pr"), sum / (weight + MARKED), "mean over the 11 series that TSB-AD scores too");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::nanos;

    #[test]
    fn times_of_the_files_are_read_as_utc() {
        assert_eq!(nanos("1970-01-01 00:00:00"), Some(0));
        assert_eq!(nanos("2014-04-01 00:00:00"), Some(1_396_310_400_000_000_000));
        assert_eq!(nanos("2016-02-29 23:59:59"), Some(1_456_790_399_000_000_000));
        assert_eq!(nanos("2014-04-01"), None);
    }
}
