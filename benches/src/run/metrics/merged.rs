//! `merged`: bytes of a stored sample of `node` after the major merge, as the benchmark `size` weighs them.
use anyhow::Result;

use super::options_of;
use crate::report::{Goal, Report};
use crate::run::size;
use crate::workload::Kind;

/// The whole directory by its samples, bytes.
const BYTES_MAX: f64 = 0.55;

/// Parameters of the second part.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[group(skip)]
pub struct Options {
    /// merged: series
    #[arg(long, default_value_t = 10_000)]
    pub merged_series: usize,
    /// merged: hours of data, at most 24
    #[arg(long, default_value_t = 6.0)]
    pub merged_hours: f64,
}

/// Adds the figures of `size`, and the goal.
pub(super) fn measure(options: &super::Options, report: &mut Report) -> Result<()> {
    let store = size::Options {
        workload: Kind::Node,
        series: options.merged.merged_series,
        hours: options.merged.merged_hours,
        seed: options.seed,
        ..options_of(&[])?
    };
    size::measure(&store)?.describe("merged/", report);
    let bytes = report.get("merged/merged_bytes_per_sample").unwrap_or(f64::NAN);
    report.goal("merged/goal: bytes a sample", bytes, Goal::AtMost(BYTES_MAX), "after the major merge, index included");
    Ok(())
}
