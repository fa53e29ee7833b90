//! `detect`: how well the anomaly detectors detect, by public labelled series and scorers that are not ours, and how often
//! they cry wolf over series without fault. All series are sent to a real server by remote write and asked in SQL, one
//! statement for all of a set. One configuration for all data; nothing looks ahead. [`speed`] says how long it takes.
mod control;
mod libraries;
mod msl;
mod nab;
mod npy;
mod series;
pub mod speed;

use std::path::Path;

use anyhow::Result;
use foretell_ml::detect::Method;
use serde_json::{Value, json};

use super::scorer::{Sources, json_of};
use super::store::Store;
use crate::peer::Binaries;
use crate::report::Report;

/// Scorers take finite scores only: off a constant past.
const OFF_CONSTANT: f64 = 1e9;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Where data and scorers are: `nab`, `smap_msl` of the data, `nab.py`, `vus.py`, `events.py` of the scorers
    #[command(flatten)]
    pub sources: Sources,
    /// Only these parts
    #[arg(long, value_delimiter = ',', default_value = "nab,msl,controls")]
    pub part: Vec<Part>,
    /// Only these methods
    #[arg(long, value_delimiter = ',')]
    pub method: Vec<String>,
    /// Series without fault a minute a row, of all kinds together; a tenth as many of each other step
    #[arg(long, default_value_t = 1_000)]
    pub controls: usize,
    /// Days of each of them
    #[arg(long, default_value_t = 14)]
    pub days: usize,
    /// Seed of the controls
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Labelled series of the Numenta benchmark.
    Nab,
    /// Labelled channels of the Mars rover, 55 columns each.
    Msl,
    /// Generated series without fault.
    Controls,
}

impl Options {
    /// The methods that are measured.
    fn methods(&self) -> impl Iterator<Item = &'static str> {
        let all = Method::ALL.into_iter().map(Method::name);
        all.filter(|name| self.method.is_empty() || self.method.iter().any(|only| only == name))
    }
}

/// Runs it.
///
/// # Errors
/// When a file cannot be read, the server does not answer, a scorer fails, or, after all is written, a figure missed its goal.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let parameters = json!({"controls": options.controls, "days": options.days, "seed": options.seed});
    let mut report = Report::new("detect", parameters);
    let store = Store::start("detect", binaries)?;
    for part in &options.part {
        match part {
            Part::Nab => nab::measure(options, &store, &mut report)?,
            Part::Msl => msl::measure(options, &store, &mut report)?,
            Part::Controls => control::measure(options, &store, &mut report)?,
        }
    }
    store.stop()?;
    report.finish(results)?;
    report.refuse_missed()
}

/// The call of a method; the default one is called without a name, as most will.
fn score(method: &str) -> String {
    match method {
        "auto" => "anomaly_score(value)".to_owned(),
        _ => format!("anomaly_score(value, method => '{method}')"),
    }
}

/// `vus.py` over a folder of files `value,label,anomaly_score`: VUS-PR of each, by name.
fn vus(sources: &Sources, labelled: &Path) -> Result<Vec<(String, f64)>> {
    let judged = json_of(sources.scorer("vus.py").arg(labelled))?;
    let entry = |entry: &Value| {
        let stem = Path::new(entry["file"].as_str()?).file_stem()?.to_str()?;
        Some((stem.to_owned(), entry["vus_pr"].as_f64()?))
    };
    Ok(judged["series"].as_array().into_iter().flatten().filter_map(entry).collect())
}
