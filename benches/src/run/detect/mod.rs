//! `detect`: how well the anomaly detectors detect, by public labelled series and independent scorers, and how often they
//! cry wolf over series without fault. One configuration for all data; nothing looks ahead.
mod control;
mod nab;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::score::METHODS;
use crate::process::scratch_dir;
use crate::report::Report;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Folder of the Numenta benchmark's series and windows; without it only the controls run
    #[arg(long, default_value = "../shared/data/nab")]
    pub nab: PathBuf,
    /// Folder of the scorers `nab.py`, `vus.py` and `events.py`
    #[arg(long, default_value = "../shared/score")]
    pub scorers: PathBuf,
    /// Python with numpy
    #[arg(long, default_value = "python3")]
    pub python: PathBuf,
    /// Series without fault of each kind and step
    #[arg(long, default_value_t = 20)]
    pub controls: usize,
    /// Days of each of them
    #[arg(long, default_value_t = 14)]
    pub days: usize,
    /// Seed of the controls
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Runs it.
///
/// # Errors
/// When a file cannot be read or a scorer fails.
pub fn run(options: &Options, results: &Path) -> Result<()> {
    let parameters = json!({"controls": options.controls, "days": options.days, "seed": options.seed});
    let mut report = Report::new("detect", parameters);
    let labelled = options.nab.join("combined_windows.json").exists();
    let series = if labelled { nab::read(&options.nab)? } else { Vec::new() };
    for (name, method) in METHODS {
        if labelled {
            let dir = scratch_dir("detect")?;
            nab::measure(&series, name, method, options, dir.path(), &mut report)?;
        }
        control::measure(name, method, options, &mut report)?;
    }
    report.finish(results)?;
    Ok(())
}
