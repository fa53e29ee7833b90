//! `foretell export`: rows of a running server as a file.
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use arrow::ipc::reader::StreamReader;
use clap::Args;
use indicatif::ProgressBar;

use super::FileFormat;
use super::output::Output;
use super::sink::{Sink, Written};
use super::slices::{self, Slice};
use super::{matchers, time_text};
use crate::progress::spinner;
use crate::serve::say;
use crate::shell::client::{Client, Failure};
use crate::timestamp::rfc3339;
use crate::verify::cannot;

/// How often a busy server is asked again.
const ATTEMPTS_MAX: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);
/// What ends an Arrow stream that is whole.
const ARROW_END: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// `foretell export`.
#[derive(Args, Debug)]
#[command(
    after_help = "Without --matchers, --table or --query every sample is exported, with columns ts, metric, labels, value. Time is cut into\n\
    slices that are asked for one after the other, so there is no limit on rows; what is written meanwhile may or may not be there.\n\
    --query asks once, within the server's limits. FILE appears when it is complete; - is standard output.\n\
    Parquet keeps every bit. CSV and promtool know one NaN; promtool's text leaves stale markers out.\n\
    Exit codes: 0 the file is there, 2 it is not.\n\n\
    Examples:\n  \
    foretell export --format parquet all.parquet\n  \
    foretell export --format csv --matchers '{__name__=\"up\", job=~\"node.*\"}' --start 2026-01-01T00:00:00Z up.csv\n  \
    foretell export --format csv --table svc_1m - | head\n  \
    foretell export --format ndjson --table logs --start 2026-01-01T00:00:00Z logs.ndjson\n  \
    foretell export --format parquet --query 'SELECT time_bucket(''1h'', ts) AS ts, avg(value) AS value FROM up GROUP BY 1' up_1h.parquet\n  \
    foretell export --format promtool --matchers up up.om && promtool tsdb create-blocks-from openmetrics up.om ./blocks"
)]
pub struct ExportArgs {
    /// Where the server is
    #[arg(long, env = "FORETELL_URL", default_value = "http://127.0.0.1:8484")]
    url: String,
    /// Rows of this SELECT
    #[arg(long, value_name = "SQL", conflicts_with_all = ["matchers", "table", "start", "end"])]
    query: Option<String>,
    /// Samples of the series that match, as in PromQL: up, {job=~"a.*"}
    #[arg(long, conflicts_with = "table")]
    matchers: Option<String>,
    /// All columns of this table, written as in SQL: metrics."up"
    #[arg(long)]
    table: Option<String>,
    /// Rows from this time on, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = instant)]
    start: Option<i64>,
    /// Rows before this time, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = instant)]
    end: Option<i64>,
    /// What the file is
    #[arg(long, value_enum)]
    format: FileFormat,
    /// The file to write, or -
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

fn instant(text: &str) -> Result<i64, String> {
    time_text::instant(text, None)
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// A statement, once.
    Query(String),
    /// Rows that have a time, slice by slice.
    Sliced { columns: &'static str, table: String, condition: String, whole: Slice },
}

impl ExportArgs {
    pub(crate) fn run(&self) -> ExitCode {
        match self.try_run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => cannot(&error),
        }
    }

    fn source(&self) -> anyhow::Result<Option<Source>> {
        if let Some(query) = &self.query {
            return Ok(Some(Source::Query(query.clone())));
        }
        let condition = self.matchers.as_deref().map(matchers::sql).transpose();
        let condition = condition.map_err(|error| anyhow!("--matchers: {error}"))?.unwrap_or_else(|| "true".to_owned());
        let end = match self.end {
            Some(i64::MIN) => return Ok(None),
            end => end.map_or(i64::MAX, |end| end - 1),
        };
        let whole = Slice { start: self.start.unwrap_or(i64::MIN), end };
        let (columns, table) = match &self.table {
            Some(table) => ("*", table.clone()),
            None => ("ts, metric, labels, value", "samples".to_owned()),
        };
        Ok((whole.start <= whole.end).then_some(Source::Sliced { columns, table, condition, whole }))
    }

    fn try_run(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        let Some(source) = self.source()? else { bail!("--end is not after --start") };
        let export = Export { client: Client::new(&self.url, None), bar: spinner("exporting")? };
        let mut sink = Sink::new(self.format, Output::create(&self.file)?);
        export.fill(&source, &mut sink)?;
        let Written { rows, stale_left_out } = sink.finish()?;
        export.bar.finish_and_clear();
        if stale_left_out > 0 {
            eprintln!("foretell: {stale_left_out} stale markers left out: the format has no place for them");
        }
        if self.file != Path::new("-") {
            say(&format!("exported {rows} rows to {} in {:.1} s", self.file.display(), begun.elapsed().as_secs_f64()));
        }
        Ok(())
    }
}

struct Export {
    client: Client,
    bar: ProgressBar,
}

impl Export {
    fn fill(&self, source: &Source, sink: &mut Sink) -> anyhow::Result<()> {
        match source {
            Source::Query(sql) => self.copy(sql, sink),
            Source::Sliced { columns, table, condition, whole } => {
                let rows = |slice: Slice| format!("FROM {table} WHERE ({condition}){}", bounds(slice));
                // The columns are needed even if no row comes.
                self.copy(&format!("SELECT {columns} {} LIMIT 0", rows(*whole)), sink)?;
                let count = |slice: Slice| {
                    let limit = slices::ROWS_MAX + 1;
                    self.count(&format!("SELECT count(*) FROM (SELECT 1 {} LIMIT {limit})", rows(slice)))
                };
                slices::each(*whole, count, |slice| self.copy(&format!("SELECT {columns} {}", rows(slice)), sink))
            }
        }
    }

    /// Appends the answer to `sql`.
    fn copy(&self, sql: &str, sink: &mut Sink) -> anyhow::Result<()> {
        let answer = Whole { reader: patiently(|| self.client.stream(sql, "arrow"))?, last: [0; 8] };
        let mut batches = StreamReader::try_new(answer, None).context("the answer broke off")?;
        sink.columns(&batches.schema())?;
        for batch in batches.by_ref() {
            sink.rows(&batch.context("the answer broke off")?)?;
            self.bar.set_message(format!("{} rows", sink.rows_taken()));
            self.bar.tick();
        }
        let answer = batches.get_mut();
        io::copy(answer, &mut io::sink()).context("the answer broke off")?;
        if answer.last != ARROW_END {
            bail!("the answer broke off");
        }
        Ok(())
    }

    /// The one number that `sql` answers.
    fn count(&self, sql: &str) -> anyhow::Result<u64> {
        let answer = patiently(|| self.client.rows(sql, 1))?;
        answer.rows.first().and_then(|row| row.first()?.as_u64()).context("the server did not count the rows")
    }
}

/// Conditions on `ts`; none at the ends of time.
fn bounds(Slice { start, end }: Slice) -> String {
    let mut text = String::new();
    if start > i64::MIN {
        text.push_str(&format!(" AND ts >= '{}'", rfc3339(start)));
    }
    if end < i64::MAX {
        text.push_str(&format!(" AND ts <= '{}'", rfc3339(end)));
    }
    text
}

/// Asks again while the server says that it is too busy.
fn patiently<T>(ask: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match ask() {
            Err(Failure::Refused { kind, .. }) if kind == "unavailable" && attempt < ATTEMPTS_MAX => {
                std::thread::sleep(PAUSE);
            }
            answer => return answer,
        }
    }
}

/// An answer of which a part must not pass for the whole: an Arrow stream may end after any message, as far as its reader is
/// concerned. The end of a connection is therefore no end of file here, and the last bytes are kept to be looked at.
struct Whole<R> {
    reader: R,
    last: [u8; 8],
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.reader.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => io::Error::other(error),
        })?;
        let kept = len.min(8);
        self.last.rotate_left(kept);
        self.last[8 - kept..].copy_from_slice(&buffer[len - kept..len]);
        Ok(len)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn args(matchers: Option<&str>, table: Option<&str>, start: Option<i64>, end: Option<i64>) -> ExportArgs {
        ExportArgs {
            url: String::new(),
            query: None,
            matchers: matchers.map(str::to_owned),
            table: table.map(str::to_owned),
            start,
            end,
            format: FileFormat::Csv,
            file: "-".into(),
        }
    }

    #[test]
    fn the_arguments_say_what_is_asked_for() {
        let sliced = |columns, table: &str, condition: &str, start, end| {
            let whole = Slice { start, end };
            Some(Source::Sliced { columns, table: table.into(), condition: condition.into(), whole })
        };
        let four = "ts, metric, labels, value";
        let source = |args: ExportArgs| args.source().unwrap();
        assert_eq!(source(args(None, None, None, None)), sliced(four, "samples", "true", i64::MIN, i64::MAX));
        assert_eq!(source(args(Some("up"), None, Some(5), Some(9))), sliced(four, "samples", "metric = 'up'", 5, 8));
        assert_eq!(source(args(None, Some("t"), None, Some(0))), sliced("*", "t", "true", i64::MIN, -1));
        assert_eq!(source(args(None, None, Some(5), Some(5))), None);
        assert_eq!(source(args(None, None, None, Some(i64::MIN))), None);
        assert!(args(Some("{"), None, None, None).source().is_err());
    }

    #[test]
    fn bounds_are_closed_and_absent_at_the_ends_of_time() {
        assert_eq!(bounds(Slice { start: i64::MIN, end: i64::MAX }), "");
        assert_eq!(
            bounds(Slice { start: 0, end: 1 }),
            " AND ts >= '1970-01-01T00:00:00.000000000Z' AND ts <= '1970-01-01T00:00:00.000000001Z'"
        );
    }

    #[test]
    fn the_last_bytes_of_an_answer_are_known_however_it_is_read() {
        for step in [1, 3, 8, 100] {
            let bytes: Vec<u8> = (0..50).collect();
            let mut whole = Whole { reader: &bytes[..], last: [0; 8] };
            let mut buffer = vec![0; step];
            while whole.read(&mut buffer).unwrap() > 0 {}
            assert_eq!(whole.last, [42, 43, 44, 45, 46, 47, 48, 49]);
        }
        struct Cut;
        impl Read for Cut {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        let error = Whole { reader: Cut, last: [0; 8] }.read(&mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Other, "a reader of Arrow would take an early end for the end");
    }
}
