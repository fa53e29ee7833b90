//! Detectors of Python libraries, by `benches/peers_ml.py`, over the same values in the same order.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::Options;
use super::nab::{Scores, Series};
use crate::report::{Report, print};
use crate::run::scorer::{Sources, json_of};

/// Scores of the labelled series by each detector, and adds what a point took.
pub(super) fn nab(
    options: &Options,
    series: &[Series],
    dir: &Path,
    report: &mut Report,
) -> Result<Vec<(String, Scores)>> {
    let values: Map<String, Value> = series
        .iter()
        .map(|one| (one.key.clone(), one.rows.iter().map(|&(_, _, value)| value).collect::<Vec<_>>().into()))
        .collect();
    let measured = detect(&options.sources, values, dir)?;
    let mut scores = |(name, mut detector): (String, Value)| -> Result<(String, Scores)> {
        let ns = detector["ns_per_point"].as_f64().with_context(|| format!("{name}: no time"))?;
        report.text(&format!("{name}/version"), detector["version"].as_str().unwrap_or_default(), "");
        report.figure(&format!("{name}/ns_per_point"), ns, "CPU time in this process of Python");
        Ok((name, serde_json::from_value(detector["scores"].take())?))
    };
    measured.into_iter().map(&mut scores).collect()
}

/// What the script measures of series by name, for each detector: `version`, `ns_per_point`, `scores`.
pub(super) fn detect(sources: &Sources, values: Map<String, Value>, dir: &Path) -> Result<Map<String, Value>> {
    print("the same values in Python's libraries");
    let path = dir.join("series.json");
    fs::write(&path, json!(values).to_string())?;
    let measured = json_of(sources.library("detect").arg(&path))?;
    serde_json::from_value(measured).context("peers_ml.py prints no object")
}
