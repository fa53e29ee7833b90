//! `promql`: the classes of PromQL queries beside the peers, with goals for each; the figures are those of the benchmark `promql`.
use std::path::Path;

use anyhow::Result;

use super::options_of;
use crate::peer::Binaries;
use crate::report::Report;
use crate::run::promql;

/// Parameters of the sixth part.
#[derive(Clone, Debug, clap::Args, serde::Serialize)]
#[group(skip)]
pub struct Options {
    /// promql: the short form instead of the published size
    #[arg(long)]
    pub promql_short: bool,
}

/// Runs every class, which writes `promql.json`, and adds the goals.
pub(super) fn measure(
    options: &super::Options,
    binaries: &Binaries,
    results: &Path,
    report: &mut Report,
) -> Result<()> {
    let size: &[&str] = if options.promql.promql_short { &[] } else { &["--full"] };
    let mut classes: promql::Options = options_of(size)?;
    classes.peer.retain(|peer| options.peer.contains(peer));
    (classes.senders, classes.seed) = (options.senders, options.seed);
    let outcome = promql::measure(&classes, binaries, results)?;
    outcome.judge("promql/", report);
    outcome.refuse_differences()
}
