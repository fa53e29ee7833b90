//! `foretell import`: files of samples, log lines and spans into a running server.
//!
//! | module | owns |
//! |---|---|
//! | `batch` | rows to requests of bounded size, and where in a file a fault lies |
//! | `lines` | lines of bounded length |
//! | `csv` | records of a CSV file |
//! | `text` | rows of CSV and of promtool's text |
//! | `parquet` | rows of a Parquet file |
//! | `event` | log lines and spans, from NDJSON, CSV and Parquet |
mod batch;
mod csv;
mod event;
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
use foretell_query::event::Signal;
use indicatif::ProgressBar;

use self::batch::Batcher;
use self::event::{Destination, EventArgs};
use super::FileFormat;
use super::time_text::Epoch;
use crate::progress::bar;
use crate::sender::{Patience, Target};
use crate::serve::say;
use crate::verify::cannot;

const PATIENCE: Patience = Patience { pause_max: Duration::from_secs(60), total_max: Duration::from_secs(600) };
const USER_AGENT: &str = concat!("foretell-import/", env!("CARGO_PKG_VERSION"));
/// Bytes read of a file at a time.
const READ_BYTES: usize = 256 << 10;

/// `foretell import`.
#[derive(Args, Debug)]
#[command(
    after_help = "Parquet and CSV need columns ts and value; metric is the metric's name (or --metric), labels a map (JSON in CSV), and every other\n\
    column a label. promtool: what `promtool tsdb dump` and `promtool tsdb dump-openmetrics` write. Samples go by remote write and\n\
    are on stable storage when they count as imported. Importing a file again changes nothing, so an import that broke off is\n\
    simply run again.\n\
    --into logs and --into spans send OTLP, with a row for each line or span: columns are fields by their names or by --map, others are\n\
    attributes (see docs/import-export.md).\n\
    Exit codes: 0 everything is imported, 2 not everything.\n\n\
    Examples:\n  \
    foretell import --format parquet all.parquet\n  \
    foretell import --format csv --metric temperature_celsius --epoch s sensors-*.csv\n  \
    promtool tsdb dump ./prometheus-data | foretell import --format promtool -\n  \
    foretell import --into logs --format ndjson --map ts=time --map body=message --set service=shop app.ndjson"
)]
pub struct ImportArgs {
    /// Where the server is
    #[arg(long, env = "FORETELL_URL", default_value = "http://127.0.0.1:8484")]
    url: String,
    /// What the rows are
    #[arg(long, value_enum, value_name = "WHAT", default_value = "samples")]
    into: Destination,
    /// What the files are
    #[arg(long, value_enum)]
    format: FileFormat,
    /// The metric of all rows; a column called metric is a label then
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// What integers in times count since 1970; without it times are RFC 3339, or of a type of their own
    #[arg(long, value_enum)]
    epoch: Option<Epoch>,
    /// Files to read; - is standard input (not for Parquet)
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    events: EventArgs,
}

impl ImportArgs {
    pub(crate) fn run(&self) -> ExitCode {
        match self.try_run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => cannot(&error),
        }
    }

    fn try_run(&self) -> anyhow::Result<()> {
        match self.into.signal() {
            Some(signal) => self.events(signal),
            None => self.samples(),
        }
    }

    fn samples(&self) -> anyhow::Result<()> {
        if self.format == FileFormat::Promtool && (self.metric.is_some() || self.epoch.is_some()) {
            bail!("promtool's text names its metrics and times: leave --metric and --epoch out");
        }
        if self.format == FileFormat::Ndjson {
            bail!("samples are read from Parquet, CSV and promtool's text; --into logs or --into spans reads NDJSON");
        }
        if self.events.any() {
            bail!("--map and what else is for logs and spans needs --into logs or --into spans");
        }
        if self.metric.as_deref() == Some("") {
            bail!("--metric is empty");
        }
        let target = Target::new(&self.url, USER_AGENT, PATIENCE);
        self.all("samples", |path| {
            let mut batcher = Batcher::new(&target, self.metric.as_deref());
            let imported = self.file(path, &mut batcher);
            (batcher.sent(), imported)
        })
    }

    fn events(&self, signal: Signal) -> anyhow::Result<()> {
        if self.format == FileFormat::Promtool || self.metric.is_some() {
            bail!("--format promtool and --metric are for samples");
        }
        let mapping = self.events.mapping(signal, self.epoch)?;
        let target = Target::of(&self.url, event::wire(signal), USER_AGENT, PATIENCE);
        let word = match signal {
            Signal::Logs => "log lines",
            Signal::Spans => "spans",
        };
        self.all(word, |path| {
            let mut import = event::Import::new(&mapping, event::Batcher::new(&target), self.events.skip());
            let imported = self.event_file(path, &mut import);
            if let (count @ 1.., Some(first)) = import.skipped() {
                eprintln!("foretell: {}: {count} rows left out, the first: {first}", path.display());
            }
            (import.sent(), imported)
        })
    }

    /// Imports each file, until one fails; `one` says how many rows of it are imported, and whether all are.
    fn all(&self, rows: &str, mut one: impl FnMut(&Path) -> (u64, anyhow::Result<()>)) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut total = 0;
        let mut imported = Ok(());
        for path in &self.files {
            let (sent, of_file) = one(path);
            total += sent;
            imported = of_file.with_context(|| path.display().to_string());
            if imported.is_err() {
                break;
            }
        }
        imported.with_context(|| {
            format!("not everything is imported ({total} {rows} are); importing the same files again goes on where this stopped")
        })?;
        let (files, seconds) = (self.files.len(), begun.elapsed().as_secs_f64());
        say(&format!(
            "imported {total} {rows} of {files} {} in {seconds:.1} s",
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
                let (file, len) = open_parquet(path, bar)?;
                parquet::read(file, len, self.epoch, batcher, bar)
            }
            FileFormat::Csv => text::read_csv(read_lines(path, bar)?, self.epoch, batcher),
            FileFormat::Promtool => text::read_promtool(read_lines(path, bar)?, batcher),
            FileFormat::Ndjson => bail!("samples are not read from NDJSON"),
        }
    }

    fn event_file(&self, path: &Path, import: &mut event::Import<'_>) -> anyhow::Result<()> {
        let bar = bar("importing")?;
        let read = self.read_events(path, import, &bar);
        // What came before a fault is sent all the same.
        read.and(import.flush())?;
        bar.finish_and_clear();
        Ok(())
    }

    fn read_events(&self, path: &Path, import: &mut event::Import<'_>, bar: &ProgressBar) -> anyhow::Result<()> {
        match self.format {
            FileFormat::Parquet => {
                let (file, len) = open_parquet(path, bar)?;
                event::read_parquet(file, len, import, bar)
            }
            FileFormat::Csv => event::read_csv(read_lines(path, bar)?, import),
            FileFormat::Ndjson => event::read_json(read_lines(path, bar)?, import),
            FileFormat::Promtool => bail!("promtool's text has samples"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a file of the user's, outside of any store")]
fn open(path: &Path) -> anyhow::Result<(File, u64)> {
    let file = File::open(path).context("cannot open")?;
    let len = file.metadata().context("cannot open")?.len();
    Ok((file, len))
}

fn open_parquet(path: &Path, bar: &ProgressBar) -> anyhow::Result<(File, u64)> {
    if path == Path::new("-") {
        bail!("Parquet is read from its end: give a file, not standard input");
    }
    let (file, len) = open(path)?;
    bar.set_length(len);
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
