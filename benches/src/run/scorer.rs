//! The scorers: scripts that are not ours, which judge what the server answered.
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::output;

/// Where data, scorers and their Python are.
#[derive(Clone, Debug, clap::Args)]
pub struct Sources {
    /// Folder of the data sets
    #[arg(long, default_value = "../shared/data")]
    pub data: PathBuf,
    /// Folder of the scorers
    #[arg(long, default_value = "../shared/score")]
    pub score: PathBuf,
    /// A Python that has numpy, for the scorers
    #[arg(long, default_value = "python3")]
    pub python: PathBuf,
    /// Also what Python offers for this, over the same series; that Python then has statsforecast, river and scikit-learn
    #[arg(long)]
    pub libraries: bool,
}

impl Sources {
    /// A scorer that is to answer in JSON.
    pub(super) fn scorer(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(self.score.join(name)).arg("--json");
        command
    }

    /// The script that drives libraries in Python.
    pub(super) fn library(&self, task: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers_ml.py")).arg(task);
        command
    }
}

/// What a script prints.
pub(super) fn json_of(command: &mut Command) -> Result<Value> {
    let output = output(command).with_context(|| format!("{command:?}"))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", message.trim());
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} prints no JSON"))
}
