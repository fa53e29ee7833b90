//! Forecasts of statsforecast, by `benches/peers_ml.py`, of the same series.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::report::print;
use crate::run::scorer::{Sources, json_of};

/// What a model did.
pub(super) struct Model {
    /// Name in figures.
    pub(super) name: String,
    /// Package and version.
    pub(super) version: String,
    /// CPU time of all forecasts.
    pub(super) cpu_seconds: f64,
    /// Wide files: forecast, lower and upper bounds.
    pub(super) files: [PathBuf; 3],
}

/// Forecasts of the series of a wide file by each model.
pub(super) fn forecast(
    sources: &Sources,
    train: &Path,
    horizon: usize,
    seasons: &str,
    dir: &Path,
) -> Result<Vec<Model>> {
    print("the same series in statsforecast");
    fs::create_dir_all(dir)?;
    let mut command = sources.library("forecast");
    command.arg(train).arg(dir).arg(horizon.to_string()).arg(seasons);
    let measured: Map<String, Value> = serde_json::from_value(json_of(&mut command)?)?;
    let model = |(name, model): (String, Value)| -> Result<Model> {
        let files = ["forecast", "lower", "upper"].map(|column| dir.join(format!("{name}-{column}.csv")));
        let version = model["version"].as_str().context("no version")?.to_owned();
        let cpu_seconds = model["cpu_seconds"].as_f64().context("no time")?;
        Ok(Model { name, version, cpu_seconds, files })
    };
    measured.into_iter().map(model).collect()
}
