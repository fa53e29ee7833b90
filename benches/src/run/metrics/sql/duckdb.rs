//! DuckDB inside a Python process, by `benches/peers_metrics.py`: a statement in a line to it, an answer in a line from it.
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;

use crate::process::Process;

/// A running one; it ends when it is dropped.
pub(super) struct Duckdb {
    process: Process,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// The rows of an answer, and how long it took inside of the process, milliseconds.
pub(super) struct Answer {
    pub(super) rows: Vec<Vec<Value>>,
    pub(super) ms: f64,
}

impl Duckdb {
    /// Starts it with so many threads and its log in `dir`; also its version.
    ///
    /// # Errors
    /// When `python` has no DuckDB.
    pub(super) fn start(python: &Path, threads: usize, dir: &Path) -> Result<(Self, String)> {
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers_metrics.py")).arg(threads.to_string());
        let (process, input, output) = Process::converse("duckdb", &mut command, &dir.join("duckdb.log"))?;
        let mut this = Self { process, input, output: BufReader::new(output) };
        let hello = this.read()?;
        let version = hello["version"].as_str().context("duckdb does not say its version")?.to_owned();
        Ok((this, version))
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// When it is refused.
    pub(super) fn ask(&mut self, sql: &str) -> Result<Answer> {
        writeln!(self.input, "{}", Value::from(sql)).with_context(|| self.process.tail())?;
        let mut answer = self.read()?;
        let ms = answer["ms"].as_f64().ok_or_else(|| anyhow!("{sql}: {}", answer["error"]))?;
        Ok(Answer { rows: serde_json::from_value(answer["rows"].take())?, ms })
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let length = self.output.read_line(&mut line)?;
        ensure!(length > 0, "duckdb ended; {}", self.process.tail());
        Ok(serde_json::from_str(&line)?)
    }
}
