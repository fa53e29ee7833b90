//! Labelled channels of the Mars rover: 55 columns each, scored together by one statement.
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{OFF_CONSTANT, Options, npy, vus};
use crate::report::{Goal, Report, print};
use crate::run::store::Store;

/// The channels that TSB-AD scores too.
const CHANNELS: [&str; 14] =
    ["S-2", "P-11", "F-4", "F-7", "F-5", "D-14", "P-15", "T-4", "M-7", "T-5", "P-14", "M-5", "T-9", "M-6"];
/// Above the best that TSB-AD publishes of these channels: KMeansAD, .435.
const VUS_PR_GOAL: Goal = Goal::AtLeast(0.45);
/// The channels have no times, only an order.
const STEP_MS: i64 = 60_000;

/// A channel.
struct Channel {
    name: &'static str,
    rows: Vec<Vec<f64>>,
    /// First and last row of each anomaly.
    anomalies: Vec<(usize, usize)>,
}

/// Writes the channels, has them scored, and adds what the scorer says.
pub(super) fn measure(options: &Options, store: &Store, report: &mut Report) -> Result<()> {
    let channels = read(&options.sources.data.join("smap_msl"), store.dir())?;
    print(&format!("{} labelled channels of many columns", channels.len()));
    let mut writer = store.writer()?;
    for channel in &channels {
        for i in 0..channel.rows[0].len() {
            let samples = (0..).step_by(STEP_MS as usize).zip(channel.rows.iter().map(|row| row[i]));
            let column = column(i);
            writer.write(&[("__name__", "msl"), ("channel", channel.name), ("col", column.as_str())], samples)?;
        }
    }
    writer.flush()?;
    let (rows, wall, _) = store.timed(&statement(channels[0].rows[0].len()))?;
    let mut scores: HashMap<&str, Vec<f64>> = HashMap::new();
    for row in &rows {
        let (name, score) = (row[0].as_str().context("no channel")?, row[1].as_f64().context("no score")?);
        scores.entry(name).or_default().push(score);
    }
    let labelled = store.dir().join("msl-labelled");
    fs::create_dir_all(&labelled)?;
    for Channel { name, rows, anomalies } in &channels {
        let scores = scores.get(name).with_context(|| format!("{name} has no scores"))?;
        ensure!(scores.len() == rows.len(), "{name}: {} of {} rows have scores", scores.len(), rows.len());
        let mut text = String::from("value,label,anomaly_score\n");
        for (i, (row, score)) in rows.iter().zip(scores).enumerate() {
            let label = anomalies.iter().any(|&(first, last)| (first..=last).contains(&i));
            text += &format!("{},{},{score}\n", row[0], u8::from(label));
        }
        fs::write(labelled.join(format!("{name}.csv")), text)?;
    }
    let of_channels = vus(&options.sources, &labelled)?;
    ensure!(of_channels.len() == channels.len(), "vus.py answered for {} channels", of_channels.len());
    for (name, vus) in &of_channels {
        report.figure(&format!("multivariate/vus_pr/{name}"), *vus, "");
    }
    let mean = of_channels.iter().map(|(_, vus)| vus).sum::<f64>() / of_channels.len() as f64;
    report.goal("multivariate/vus_pr", mean, VUS_PR_GOAL, "mean over the 14 channels that TSB-AD scores too");
    report.figure("multivariate/seconds", wall.as_secs_f64(), "the statement, over HTTP");
    Ok(())
}

fn column(i: usize) -> String {
    format!("c{i:02}")
}

/// Columns from rows, and their scores, of all channels.
fn statement(columns: usize) -> String {
    let columns: Vec<String> = (0..columns).map(column).collect();
    let pivot: Vec<String> =
        columns.iter().map(|name| format!("max(value) FILTER (WHERE col = ''{name}'') AS {name}")).collect();
    format!(
        "SELECT channel, least(coalesce(score, 0), {OFF_CONSTANT:?}) FROM detect_anomalies(\
           'SELECT ts, channel, {} FROM metrics.\"msl\" GROUP BY ts, channel', \
           ts => ts, values => [{}], id => [channel]) ORDER BY channel, ts",
        pivot.join(", "),
        columns.join(", ")
    )
}

fn read(folder: &Path, scratch: &Path) -> Result<Vec<Channel>> {
    let archive = folder.join("msl.tar.zst");
    let unpacked = scratch.join("msl");
    fs::create_dir_all(&unpacked)?;
    let status = Command::new("tar").arg("--zstd").arg("-xf").arg(&archive).arg("-C").arg(&unpacked).status()?;
    ensure!(status.success(), "tar cannot unpack {}: {status}", archive.display());
    let labels = folder.join("labeled_anomalies.csv");
    let labels = fs::read_to_string(&labels).with_context(|| labels.display().to_string())?;
    CHANNELS.into_iter().map(|name| read_one(name, &unpacked, &labels)).collect()
}

fn read_one(name: &'static str, unpacked: &Path, labels: &str) -> Result<Channel> {
    let rows = npy::read(&unpacked.join("test").join(format!("{name}.npy")))?;
    // M-6,MSL,"[[1850, 2030]]",[point],2049
    let line = labels.lines().find(|line| line.split(',').next() == Some(name));
    let line = line.with_context(|| format!("{name} has no labels"))?;
    let anomalies = serde_json::from_str(line.split('"').nth(1).context("no anomalies")?)?;
    let rows_labelled = line.rsplit(',').next().and_then(|n| n.trim().parse().ok());
    ensure!(rows_labelled == Some(rows.len()), "{name}: {} rows, {rows_labelled:?} labelled", rows.len());
    Ok(Channel { name, rows, anomalies })
}
