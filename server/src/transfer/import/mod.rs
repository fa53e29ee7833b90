//! `foretell import`: files of samples into a running server.
//!
//! | module | owns |
//! |---|---|
//! | `batch` | rows to requests of bounded size, and where in a file a fault lies |
//! | `lines` | lines of bounded length |
//! | `csv` | records of a CSV file |
//! | `text` | rows of CSV and of promtool's text |
//! | `parquet` | rows of a Parquet file |
mod batch;
mod csv;
mod lines;
mod parquet;
mod text;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::ProgressBar;

use self::batch::Batcher;
use super::FileFormat;
use super::time_text::Epoch;
use crate::progress::bar;
use crate::sender::{Patience, Target};
use crate::serve::say;
use crate::verify::cannot;

const PATIENCE: Patience = Patience { pause_max: Duration::from_secs(60), total_max: Duration::from_secs(600) };
/// Bytes read of a file at a time.
const READ_BYTES: usize = 256 << 10;

/// `foretell import`.
#[derive(Args, Debug)]
#[command(
    after_help = "Parquet and CSV need columns ts and value; metric is the metric's name (or --metric), labels a map (JSON in CSV), and every other\n\
    column a label. promtool: what `promtool tsdb dump` and `promtool tsdb dump-openmetrics` write. Samples go by remote write and\n\
    are on stable storage when they count as imported. Importing a file again changes nothing, so an import that broke off is\n\
    simply run again.\n\
    Exit codes: 0 everything is imported, 2 not everything.\n\n\
    Examples:\n  \
    foretell import --format parquet all.parquet\n  \
    foretell import --format csv --metric temperature_celsius --epoch s sensors-*.csv\n  \
    promtool tsdb dump ./prometheus-data | foretell import --format promtool -"
)]
pub struct ImportArgs {
    /// Where the server is
    #[arg(long, env = "FORETELL_URL", default_value = "http://127.0.0.1:8484")]
    url: String,
    /// What the files are
    #[arg(long, value_enum)]
    format: FileFormat,
    /// The metric of all rows; a column called metric is a label then
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// What integers in ts count since 1970; without it times are RFC 3339, or of a type of their own
    #[arg(long, value_enum)]
    epoch: Option<Epoch>,
    /// Files to read; - is standard input (not for Parquet)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl ImportArgs {
    pub(crate) fn run(&self) -> ExitCode {
        match self.try_run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => cannot(&error),
        }
    }

    fn try_run(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        if self.format == FileFormat::Promtool && (self.metric.is_some() || self.epoch.is_some()) {
            bail!("promtool's text names its metrics and times: leave --metric and --epoch out");
        }
        if self.metric.as_deref() == Some("") {
            bail!("--metric is empty");
        }
        let target = Target::new(&self.url, concat!("foretell-import/", env!("CARGO_PKG_VERSION")), PATIENCE);
        let mut samples = 0;
        let mut imported = Ok(());
        for path in &self.files {
            let mut batcher = Batcher::new(&target, self.metric.as_deref());
            imported = self.file(path, &mut batcher).with_context(|| path.display().to_string());
            samples += batcher.sent();
            if imported.is_err() {
                break;
            }
        }
        imported.with_context(|| {
            format!("not everything is imported ({samples} samples are); importing the same files again goes on where this stopped")
        })?;
        let (files, seconds) = (self.files.len(), begun.elapsed().as_secs_f64());
        say(&format!(
            "imported {samples} samples of {files} {} in {seconds:.1} s",
            if files == 1 { "file" } else { "files" }
        ));
        Ok(())
    }

    fn file(&self, path: &Path, batcher: &mut Batcher<'_>) -> anyhow::Result<()> {
        let bar = bar("importing")?;
        let read = self.read(path, batcher, &bar);
        // What came before a fault is sent all the same.
        read.and(batcher.flush())?;
        bar.finish_and_clear();
        Ok(())
    }

    fn read(&self, path: &Path, batcher: &mut Batcher<'_>, bar: &ProgressBar) -> anyhow::Result<()> {
        match self.format {
            FileFormat::Parquet => {
                if path == Path::new("-") {
                    bail!("Parquet is read from its end: give a file, not standard input");
                }
                let (file, len) = open(path)?;
                bar.set_length(len);
                parquet::read(file, len, self.epoch, batcher, bar)
            }
            FileFormat::Csv => text::read_csv(read_lines(path, bar)?, self.epoch, batcher),
            FileFormat::Promtool => text::read_promtool(read_lines(path, bar)?, batcher),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the user's, outside of any store")]
fn open(path: &Path) -> anyhow::Result<(File, u64)> {
    let file = File::open(path).context("cannot open")?;
    let len = file.metadata().context("cannot open")?.len();
    Ok((file, len))
}

/// A file or standard input, line by line, moving `bar`.
fn read_lines(path: &Path, bar: &ProgressBar) -> anyhow::Result<lines::Lines<BufReader<Box<dyn Read>>>> {
    let reader: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let (file, len) = open(path)?;
        bar.set_length(len);
        Box::new(bar.wrap_read(file))
    };
    Ok(lines::Lines::new(BufReader::with_capacity(READ_BYTES, reader)))
}
