//! `foretell repair`: makes a damaged, stopped store whole again with everything that can be read.
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use foretell_engine::repair::{Loss, Options, Repair, repair};
use serde_json::{Value, json};

use crate::config::parse_span;
use crate::progress::watched;
use crate::serve::say;
use crate::timestamp::rfc3339;
use crate::verify::{self, EXIT_DAMAGED, ReportFormat, cannot};

/// `foretell repair`.
#[derive(Args, Debug)]
#[command(
    after_help = "Reads the store as `foretell verify` does, then rebuilds what is derived and writes damaged files anew with\n\
    everything that can be read. Nothing is deleted: what was proved bad is moved to DIR/damaged/. If something that was\n\
    acknowledged cannot be read any more, nothing is done before --accept-loss is given; what would be lost is listed.\n\
    Exit codes: 0 the store is whole, 1 it is still damaged, 2 the work could not be done.\n\n\
    Examples:\n  \
    foretell repair --data-dir /var/lib/foretell --dry-run\n  \
    foretell repair --data-dir /var/lib/foretell --accept-loss"
)]
pub struct RepairArgs {
    /// Directory of the store
    #[arg(long, value_name = "DIR", env = "FORETELL_DATA_DIR")]
    data_dir: PathBuf,
    /// Only say what would be done and what is lost
    #[arg(long)]
    dry_run: bool,
    /// Give up what cannot be read any more
    #[arg(long)]
    accept_loss: bool,
    /// Width of a time partition, should the manifest be lost and another than 1d be configured
    #[arg(long, value_name = "DURATION", value_parser = span)]
    partition_width: Option<Duration>,
    /// Shape of the report
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
}

fn span(text: &str) -> Result<Duration, String> {
    parse_span(text).ok_or_else(|| format!("{text:?} is not a duration; write for example 1d"))
}

impl RepairArgs {
    pub(crate) fn run(&self) -> ExitCode {
        let options =
            Options { dry_run: self.dry_run, accept_loss: self.accept_loss, partition_width: self.partition_width };
        let done = watched("reading", |progress| repair(&self.data_dir, options, progress));
        match done.and_then(|done| Ok(done?)) {
            Err(error) => cannot(&error),
            Ok(done) => {
                match self.format {
                    ReportFormat::Text => say(&self.text(&done)),
                    ReportFormat::Json => say(&to_json(&done).to_string()),
                }
                if done.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DAMAGED) }
            }
        }
    }

    fn text(&self, done: &Repair) -> String {
        let mut lines = vec![verify::text(&done.before)];
        lines.extend(done.steps.iter().map(|step| format!("repair: {step}")));
        lines.extend(done.losses.iter().map(loss_text));
        lines.push(match &done.after {
            Some(after) if after.is_clean() => {
                "repaired: the store is whole; what was damaged is in its damaged/".to_owned()
            }
            Some(after) => format!("{}\nstill damaged: restore a backup", verify::text(after)),
            None if done.before.is_clean() => "nothing to repair".to_owned(),
            None if self.dry_run => "dry run: nothing was changed".to_owned(),
            None => {
                "nothing was changed: restore a backup, or repair with --accept-loss to give up what is lost".to_owned()
            }
        });
        lines.join("\n")
    }
}

fn loss_text(loss: &Loss) -> String {
    let mut text = format!("lost: {}: {}", loss.path.display(), loss.what);
    if let Some(rows) = loss.rows {
        text += &format!(", {rows} samples");
    }
    if let Some(series) = loss.series {
        text += &format!(", {series} series");
    }
    if let Some(range) = loss.range {
        text += &format!(", from {} to {}", rfc3339(range.start), rfc3339(range.end));
    }
    for labels in &loss.labels {
        text += &format!("\n  of {labels:?}");
    }
    text
}

fn to_json(done: &Repair) -> Value {
    let loss = |loss: &Loss| {
        json!({
            "path": loss.path.to_string_lossy(),
            "what": loss.what,
            "rows": loss.rows,
            "series": loss.series,
            "labels": loss.labels.iter()
                .map(|labels| labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect::<Value>())
                .collect::<Vec<_>>(),
            "from": loss.range.map(|range| rfc3339(range.start)),
            "to": loss.range.map(|range| rfc3339(range.end)),
        })
    };
    json!({
        "whole": done.is_whole(),
        "done": done.after.is_some(),
        "before": verify::to_json(&done.before),
        "steps": done.steps,
        "losses": done.losses.iter().map(loss).collect::<Vec<_>>(),
        "after": done.after.as_ref().map(verify::to_json),
    })
}
