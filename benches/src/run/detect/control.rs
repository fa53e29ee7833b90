//! Series without fault, through SQL: how often a detector cries wolf.
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::series::{KINDS, START_MS, values};
use super::{Options, score};
use crate::report::{Goal, Report, print};
use crate::run::store::Store;

const SECONDS_PER_DAY: usize = 86_400;
/// Seconds between rows, and which share of `--controls` has them: one in so many. Most have the commonest step.
const STEPS: [(usize, usize); 3] = [(60, 1), (15, 10), (300, 10)];
/// Methods that take a hundred times as long as the others: they see one series in ten.
const SLOW: [&str; 4] = ["half_space_trees", "rcf", "subspace", "matrix_profile"];
/// Most false alarms a series and day, of each kind.
const ALARMS_PER_DAY_MAX: f64 = 0.1;

/// Writes the series, and adds for each method how often its scores begin to be 1 or more.
pub(super) fn measure(options: &Options, store: &Store, report: &mut Report) -> Result<()> {
    for (step, share) in STEPS {
        let of_a_kind = (options.controls / share).div_ceil(KINDS.len());
        if of_a_kind == 0 {
            continue;
        }
        let rows = options.days * SECONDS_PER_DAY / step;
        print(&format!("{} series of {rows} rows without fault, {step} s apart", of_a_kind * KINDS.len()));
        write(options, store, step, of_a_kind, rows)?;
        for method in options.methods() {
            let begun = Instant::now();
            let seen = if SLOW.contains(&method) { of_a_kind.div_ceil(10) } else { of_a_kind };
            count(options, store, step, seen, method, report)?;
            let key = format!("{method}/false_alarms_per_day/seconds_{step}s");
            report.figure(&key, begun.elapsed().as_secs_f64(), "the statements that count them");
        }
    }
    Ok(())
}

fn write(options: &Options, store: &Store, step: usize, of_a_kind: usize, rows: usize) -> Result<()> {
    let (mut writer, metric) = (store.writer()?, format!("control_{step}s"));
    for kind in KINDS {
        for i in 0..of_a_kind {
            let seed = options.seed.wrapping_mul(1_000_003) + i as u64;
            let values = values(kind, rows, SECONDS_PER_DAY as f64 / step as f64, seed)?;
            let id = format!("{kind}-{i}");
            let samples = (START_MS..).step_by(step * 1_000).zip(values);
            writer.write(&[("__name__", metric.as_str()), ("id", id.as_str()), ("kind", kind)], samples)?;
        }
    }
    writer.flush()?;
    let counted = store.rows(&format!("SELECT count(*) FROM metrics.\"{metric}\""))?;
    let counted = counted.first().and_then(|row| row.first()?.as_u64());
    let expected = (KINDS.len() * of_a_kind * rows) as u64;
    ensure!(counted == Some(expected), "{metric}: {expected} rows written, {counted:?} stored");
    Ok(())
}

/// Counts the rows whose score is 1 or more and whose predecessor's is not, in the first `of_a_kind` series of each kind.
fn count(
    options: &Options,
    store: &Store,
    step: usize,
    of_a_kind: usize,
    method: &str,
    report: &mut Report,
) -> Result<()> {
    let over = "OVER (PARTITION BY id ORDER BY ts)";
    let mut total = 0;
    for kind in KINDS {
        let ids: Vec<String> = (0..of_a_kind).map(|i| format!("'{kind}-{i}'")).collect();
        let answer = store.rows(&format!(
            "SELECT count(*) FILTER (WHERE above AND NOT before) FROM (\
               SELECT above, lag(above, 1, false) {over} AS before FROM (\
                 SELECT id, ts, coalesce({} {over} >= 1, false) AS above FROM metrics.\"control_{step}s\" \
                 WHERE kind = '{kind}' AND id IN ({})))",
            score(method),
            ids.join(", ")
        ))?;
        let alarms = answer.first().and_then(|row| row.first()?.as_u64()).context("no count")?;
        let rate = alarms as f64 / (of_a_kind * options.days) as f64;
        let (key, note) = (format!("{method}/false_alarms_per_day/{kind}_{step}s"), "series without fault");
        match method {
            "auto" => report.goal(&key, rate, Goal::AtMost(ALARMS_PER_DAY_MAX), note),
            _ => report.figure(&key, rate, note),
        }
        total += alarms;
    }
    let rate = total as f64 / (KINDS.len() * of_a_kind * options.days) as f64;
    report.figure(&format!("{method}/false_alarms_per_day/all_{step}s"), rate, "series without fault");
    Ok(())
}
