//! `foretell sql`: one statement, statements from standard input, or an interactive shell.
//!
//! | module | owns |
//! |---|---|
//! | `client` | HTTP to the server |
//! | `statement` | where a statement ends |
//! | `answer` | reading a JSON answer without keeping rows that will not be shown |
//! | `render` | tables |
//! | `interactive` | line editing, history, completion, backslash commands |
pub(crate) mod answer;
pub(crate) mod client;
mod interactive;
pub(crate) mod render;
pub(crate) mod statement;

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use self::client::{Client, Failure};
use crate::command::{OutputFormat, SqlArgs};

/// Exit code when a statement failed.
const EXIT_FAILED: u8 = 1;
/// Exit code when the server cannot be reached.
const EXIT_UNREACHABLE: u8 = 3;

/// Runs `foretell sql`.
///
/// # Errors
/// When the terminal or standard input cannot be read.
pub fn run(args: &SqlArgs) -> anyhow::Result<ExitCode> {
    let session = Session::new(args);
    if !args.command.is_empty() {
        return Ok(session.batch(&args.command.join(";\n")));
    }
    if !std::io::stdin().is_terminal() {
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text)?;
        return Ok(session.batch(&text));
    }
    interactive::run(session)
}

/// A client and how its answers are shown.
struct Session {
    client: Client,
    format: OutputFormat,
    rows_max: usize,
    timing: bool,
}

impl Session {
    fn new(args: &SqlArgs) -> Self {
        Self {
            client: Client::new(&args.url, args.timeout.clone()),
            format: args.format,
            rows_max: args.max_rows,
            timing: false,
        }
    }

    /// Runs all statements of `text` up to the first that fails.
    fn batch(&self, text: &str) -> ExitCode {
        for sql in statement::split(text) {
            if let Err(failure) = self.execute(sql) {
                eprintln!("foretell: {failure}");
                return ExitCode::from(match failure {
                    Failure::Unreachable(_) => EXIT_UNREACHABLE,
                    Failure::Refused { .. } | Failure::Broken(_) => EXIT_FAILED,
                });
            }
        }
        ExitCode::SUCCESS
    }

    /// Runs one statement and prints its answer.
    fn execute(&self, sql: &str) -> Result<(), Failure> {
        let started = Instant::now();
        let mut out = std::io::stdout().lock();
        let printed = match self.format {
            OutputFormat::Table => {
                let answer = self.client.rows(sql, self.rows_max)?;
                writeln!(out, "{}", render::table(&answer))
            }
            OutputFormat::Csv => self.client.copy(sql, "csv", &mut out)?,
            OutputFormat::Json => self.client.copy(sql, "json", &mut out)?,
            OutputFormat::Ndjson => self.client.copy(sql, "ndjson", &mut out)?,
        };
        match printed.and_then(|()| out.flush()) {
            // `foretell sql ... | head` has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => return Err(Failure::from(error)),
            Ok(()) => {}
        }
        if self.timing {
            let _ = writeln!(out, "time: {:.1} ms", started.elapsed().as_secs_f64() * 1e3);
        }
        Ok(())
    }
}
