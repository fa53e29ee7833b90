//! What a server is asked about a lane, and what its directory holds when it is dead.
use std::collections::BTreeMap;
use std::fs::{self, File};

use anyhow::{Context, Result, ensure};
use foretell_engine::{Engine, EngineConfig, ScanBatch, Selector, SeriesId, TimeRange};

use super::judge::{Answer, Stored};
use super::lane::{Key, Lane, metric};
use crate::mortal::{Mortal, PARTITION_WIDTH};

/// The rows of the series that `lane` has touched, or of all.
pub(super) fn ask(server: &Mortal, lane: &Lane, everything: bool) -> Result<Answer> {
    let touched: Vec<String> = lane.touched.iter().map(|n| format!("'{n}'")).collect();
    let wanted = if everything { String::new() } else { format!(" WHERE n IN ({})", touched.join(",")) };
    if !everything && touched.is_empty() {
        return Ok(Answer::new());
    }
    let sql = format!("SELECT n, CAST(ts AS BIGINT), value FROM metrics.\"{}\"{wanted}", metric(lane.number()));
    let url = format!("http://{}/api/v1/sql?format=csv", server.address());
    let (status, body) = server.client().post(&url, &[("content-type", "text/plain")], sql.as_bytes())?;
    let text = std::str::from_utf8(&body)?;
    ensure!(status == 200, "{sql}: {status} {text}; {}", server.tail());
    text.lines().skip(1).map(|line| parse(line).with_context(|| format!("answer {line:?}"))).collect()
}

/// The highest number of a file that a flush or a merge wrote.
pub(super) fn files_written(server: &Mortal) -> Result<u64> {
    let mut highest = 0;
    for partition in fs::read_dir(server.data().join("partitions"))? {
        for file in fs::read_dir(partition?.path())? {
            let name = file?.file_name().to_string_lossy().into_owned();
            highest = highest.max(name.split('.').next().and_then(|stem| stem.parse().ok()).unwrap_or(0));
        }
    }
    Ok(highest)
}

/// Takes `bytes` from the end of the newest log file of a server that does not run.
pub(super) fn cut_newest_log(server: &Mortal, bytes: u64) -> Result<()> {
    let data = server.dead_data()?;
    let mut logs = Vec::new();
    for file in fs::read_dir(data.join("wal"))? {
        logs.push(file?.path());
    }
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    let newest = logs.into_iter().max().context("no log file")?;
    let file = File::options().write(true).open(&newest)?;
    Ok(file.set_len(file.metadata()?.len().checked_sub(bytes).context("an empty log")?)?)
}

/// Everything in the directory of a server that does not run, by lane.
pub(super) fn read(server: &Mortal) -> Result<BTreeMap<u32, Answer>> {
    let data = server.dead_data()?;
    let engine = Engine::open(EngineConfig { partition_width: PARTITION_WIDTH, ..EngineConfig::new(data) })?;
    let snapshot = engine.snapshot();
    let series = snapshot.select(&Selector { metric: None, matchers: Vec::new(), range: TimeRange::ALL })?;
    let ids: Vec<SeriesId> = series.iter().map(|series| series.id).collect();
    let mut names = Vec::with_capacity(series.len());
    for series in &series {
        let of = |name: &str| series.labels.iter().find(|label| label.0 == name).map(|label| label.1);
        let lane = of("__name__").and_then(|metric| metric.strip_prefix("crash_")?.parse::<u32>().ok());
        names.push(lane.zip(of("n").and_then(|n| n.parse::<u32>().ok())).context("a series nobody wrote")?);
    }
    let mut answers: BTreeMap<u32, Answer> = BTreeMap::new();
    let (mut scan, mut batch) = (snapshot.scan(&ids, TimeRange::ALL, true, 65_536)?, ScanBatch::default());
    while scan.next_batch(&mut batch)? {
        let mut row = 0;
        for &(of, rows) in &batch.runs {
            let (lane, n) = names[of as usize];
            let answer = answers.entry(lane).or_default();
            for at in row..row + rows as usize {
                answer.push(((n, batch.ts[at] / 1_000_000), Stored::Bits(batch.values[at].to_bits())));
            }
            row += rows as usize;
        }
    }
    Ok(answers)
}

/// Series, nanoseconds, value.
fn parse(line: &str) -> Result<(Key, Stored)> {
    let mut fields = line.split(',');
    let mut next = || fields.next().context("a field is missing");
    let (series, ts_ns): (u32, i64) = (next()?.parse()?, next()?.parse()?);
    ensure!(ts_ns % 1_000_000 == 0, "a time between two milliseconds");
    let value: f64 = next()?.parse()?;
    let stored = if value.is_nan() { Stored::AnyNan } else { Stored::Bits(value.to_bits()) };
    Ok(((series, ts_ns / 1_000_000), stored))
}
