//! The series of the Numenta benchmark: written to a server, scored by a statement, judged by the scorers.
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{OFF_CONSTANT, Options, libraries, score, vus};
use crate::report::{Goal, Report, print};
use crate::run::scorer::json_of;
use crate::run::store::Store;

/// Letters of a time without fractions of a second: `2014-04-10 07:15:00`.
const TIME_LETTERS: usize = 19;
/// Above the best that is published of these files, the scores in NAB's own repository judged by the same scorer: ARTime, 68.8.
const NAB_GOAL: Goal = Goal::AtLeast(70.0);
/// Above the best that TSB-AD publishes of these series: KMeansAD, which sees the whole series, .523.
const VUS_PR_GOAL: Goal = Goal::AtLeast(0.53);
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
    pub(super) key: String,
    /// Time as it stands in the file, time in ms, value.
    pub(super) rows: Vec<(String, i64, f64)>,
    /// First and last time of each anomaly.
    windows: Vec<(String, String)>,
}

impl Series {
    /// Name of the file without folder and ending.
    fn name(&self) -> &str {
        Path::new(&self.key).file_stem().and_then(|stem| stem.to_str()).unwrap_or(&self.key)
    }

    /// The times it is stored with. A store has one sample of a series a time, in the order of times, and there is to be a
    /// score for each row in the order of the file: a row that is not later than the one before it is stored a millisecond
    /// after it, all others at their own time.
    fn stored_times(&self) -> impl Iterator<Item = i64> {
        self.rows.iter().scan(i64::MIN, |newest, &(_, ts, _)| {
            *newest = ts.max(newest.saturating_add(1));
            Some(*newest)
        })
    }

    fn is_labelled(&self, time: &str) -> bool {
        // times of one format are in the order of their text
        self.windows.iter().any(|(from, to)| from.as_str() <= time && time <= to.as_str())
    }
}

/// Every series that the windows name.
fn read(dir: &Path) -> Result<Vec<Series>> {
    let path = dir.join("combined_windows.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let windows: BTreeMap<String, Vec<(String, String)>> = serde_json::from_str(&text)?;
    windows.into_iter().map(|(key, windows)| read_one(dir, key, windows)).collect()
}

fn read_one(dir: &Path, key: String, windows: Vec<(String, String)>) -> Result<Series> {
    let path = dir.join(&key);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let row = |line: &str| -> Option<(String, i64, f64)> {
        let (time, value) = line.trim_end().split_once(',')?;
        Some((time.to_owned(), millis(time)?, value.parse().ok()?))
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

/// Milliseconds since 1970 of `2014-04-10 07:15:00`.
fn millis(time: &str) -> Option<i64> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, TIME_LETTERS)?);
    // a year that begins in March ends with its leap day
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000)
}

/// Writes the series, has them scored by each method, and adds what the scorers say.
pub(super) fn measure(options: &Options, store: &Store, report: &mut Report) -> Result<()> {
    let series = read(&options.sources.data.join("nab"))?;
    print(&format!("{} labelled series", series.len()));
    write(&series, store, report)?;
    for method in options.methods() {
        let (rows, wall, _) = store.timed(&format!(
            "SELECT file, least(coalesce({} OVER (PARTITION BY file ORDER BY ts), 0), {OFF_CONSTANT:?}) AS score \
             FROM metrics.\"nab\" ORDER BY file, ts",
            score(method)
        ))?;
        let mut scores = Scores::new();
        for row in &rows {
            let (file, score) = (row[0].as_str().context("no file")?, row[1].as_f64().context("no score")?);
            scores.entry(file.to_owned()).or_default().push(score);
        }
        report.figure(&format!("{method}/nab_seconds"), wall.as_secs_f64(), "the statement, over HTTP");
        let ours = Ours { default: method == "auto" };
        judge(&series, &scores, method, Some(ours), options, store.dir(), report)?;
    }
    if options.sources.libraries {
        for (name, scores) in libraries::nab(options, &series, store.dir(), report)? {
            judge(&series, &scores, &name, None, options, store.dir(), report)?;
        }
    }
    Ok(())
}

/// Scores of each file, in the order of its rows.
pub(super) type Scores = HashMap<String, Vec<f64>>;

/// Scores of ours are alarms from 1 on; those of others have a scale of their own.
#[derive(Clone, Copy)]
struct Ours {
    /// Of the method that is taken when none is named: it has goals, and figures of each file.
    default: bool,
}

impl Ours {
    fn figure(self, report: &mut Report, key: &str, value: f64, goal: Goal, note: &str) {
        match self.default {
            true => report.goal(key, value, goal, note),
            false => report.figure(key, value, note),
        }
    }
}

fn write(series: &[Series], store: &Store, report: &mut Report) -> Result<()> {
    let mut writer = store.writer()?;
    for one in series {
        let samples = one.stored_times().zip(one.rows.iter().map(|&(_, _, value)| value));
        writer.write(&[("__name__", "nab"), ("file", one.key.as_str())], samples)?;
        let moved = one.stored_times().zip(&one.rows).filter(|(stored, (_, ts, _))| stored != ts).count();
        if moved > 0 {
            let note = "rows not later than the one before, stored a millisecond after it";
            report.figure(&format!("moved_rows/{}", one.name()), moved as f64, note);
        }
    }
    writer.flush()
}

/// Adds what the scorers say of `scores`.
fn judge(
    series: &[Series],
    scores: &Scores,
    name: &str,
    ours: Option<Ours>,
    options: &Options,
    dir: &Path,
    report: &mut Report,
) -> Result<()> {
    let dir = dir.join("nab").join(name);
    let (plain, labelled) = (dir.join("scores"), dir.join("labelled"));
    fs::create_dir_all(&labelled)?;
    for one in series {
        let scores = scores.get(&one.key).with_context(|| format!("{name} has no scores of {}", one.key))?;
        ensure!(scores.len() == one.rows.len(), "{name}: {} of {} rows of {}", scores.len(), one.rows.len(), one.key);
        let path = plain.join(&one.key);
        fs::create_dir_all(path.parent().unwrap_or(&plain))?;
        let mut text = String::from("timestamp,anomaly_score\n");
        let mut with_labels = String::from("value,label,anomaly_score\n");
        for ((time, _, value), score) in one.rows.iter().zip(scores) {
            text += &format!("{time},{score}\n");
            with_labels += &format!("{value},{},{score}\n", u8::from(one.is_labelled(time)));
        }
        fs::write(&path, text)?;
        if ALSO_IN_TSB_AD.iter().any(|(also, _)| *also == one.name()) {
            fs::write(labelled.join(format!("{}.csv", one.name())), with_labels)?;
        }
    }
    let nab = options.sources.data.join("nab");
    let scorer = |script: &str| -> Command {
        let mut command = options.sources.scorer(script);
        command.arg(&plain).arg("--windows").arg(nab.join("combined_windows.json"));
        command
    };
    nab_figures(scorer("nab.py").arg("--data").arg(&nab), name, ours, report)?;
    vus_figures(&vus(&options.sources, &labelled)?, name, ours, report)?;
    match ours {
        Some(ours) => event_figures(scorer("events.py").args(["--sort", "--merge-gap", "3600"]), name, ours, report),
        None => Ok(()),
    }
}

fn nab_figures(scorer: &mut Command, name: &str, ours: Option<Ours>, report: &mut Report) -> Result<()> {
    let judged = json_of(scorer)?;
    let note = "0: silence, 100: every window at its first row";
    let score = |profile: &str| judged[profile]["score"].as_f64().context("nab.py gives no score");
    match ours {
        Some(ours) => ours.figure(report, &format!("{name}/nab_standard"), score("standard")?, NAB_GOAL, note),
        None => report.figure(&format!("{name}/nab_standard"), score("standard")?, note),
    }
    report.figure(&format!("{name}/nab_low_fp"), score("low_fp")?, "");
    report.figure(&format!("{name}/nab_low_fn"), score("low_fn")?, "");
    if let Some(threshold) = judged["standard"]["threshold"].as_f64() {
        report.figure(&format!("{name}/nab_standard_threshold"), threshold, "where the standard profile scores most");
    }
    if ours.is_some_and(|ours| ours.default) {
        for (file, entry) in judged["standard"]["files"].as_object().into_iter().flatten() {
            let Some(score) = entry["score"].as_f64() else { continue };
            report.figure(&format!("{name}/files/{file}/nab"), score, "what it adds; a window is worth 1 at most");
        }
    }
    Ok(())
}

fn vus_figures(of_series: &[(String, f64)], name: &str, ours: Option<Ours>, report: &mut Report) -> Result<()> {
    let (mut sum, mut marked, mut weight) = (0.0, Vec::new(), 0.0);
    for (stem, vus) in of_series {
        if ours.is_some() {
            report.figure(&format!("{name}/vus_pr/{stem}"), *vus, "");
        }
        match ALSO_IN_TSB_AD.iter().find(|(also, _)| also == stem) {
            Some((_, true)) => marked.push(vus),
            _ => (sum, weight) = (sum + vus, weight + 1.0),
        }
    }
    ensure!(!marked.is_empty(), "vus.py answered for none of the series");
    sum += MARKED * marked.iter().copied().sum::<f64>() / marked.len() as f64;
    let (key, note) = (format!("{name}/vus_pr"), "mean over the 11 series that TSB-AD scores too");
    match ours {
        Some(ours) => ours.figure(report, &key, sum / (weight + MARKED), VUS_PR_GOAL, note),
        None => report.figure(&key, sum / (weight + MARKED), note),
    }
    Ok(())
}

fn event_figures(scorer: &mut Command, name: &str, ours: Ours, report: &mut Report) -> Result<()> {
    let judged = json_of(scorer)?;
    for (key, note) in [
        ("recall", "windows with a score of 1 or more"),
        ("precision", "alarms, an hour apart or more, that begin in a window"),
        ("delay_median_s", "from the start of the window; the anomaly lies in its middle"),
        ("false_alarms_per_day", "alarms that begin outside every window"),
    ] {
        if let Some(value) = judged["total"][key].as_f64() {
            report.figure(&format!("{name}/events_{key}"), value, note);
        }
        for (file, entry) in judged["series"].as_object().into_iter().flatten().filter(|_| ours.default) {
            if let Some(value) = entry[key].as_f64() {
                report.figure(&format!("{name}/files/{file}/{key}"), value, "");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Series, millis};

    #[test]
    fn times_of_the_files_are_read_as_utc() {
        assert_eq!(millis("1970-01-01 00:00:00"), Some(0));
        assert_eq!(millis("2014-04-01 00:00:00"), Some(1_396_310_400_000));
        assert_eq!(millis("2016-02-29 23:59:59"), Some(1_456_790_399_000));
        assert_eq!(millis("2014-04-01"), None);
    }

    #[test]
    fn rows_that_do_not_come_later_are_stored_after_the_one_before() {
        let rows = [60_000, 120_000, 60_000, 120_000, 120_000, 180_000].map(|ts| (String::new(), ts, 0.0)).to_vec();
        let series = Series { key: String::new(), rows, windows: Vec::new() };
        let stored: Vec<i64> = series.stored_times().collect();
        assert_eq!(stored, [60_000, 120_000, 120_001, 120_002, 120_003, 180_000]);
    }
}
