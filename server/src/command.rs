//! The command line.
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::apply::ApplyArgs;
use crate::backup::{BackupArgs, RestoreArgs};
use crate::config::{self, Flags};
use crate::repair::RepairArgs;
use crate::rules::check::CheckArgs;
use crate::transfer::export::ExportArgs;
use crate::transfer::import::ImportArgs;
use crate::verify::VerifyArgs;
use crate::{demo, serve, shell};

/// Foretell: a datastore for metrics that looks ahead.
#[derive(Debug, Parser)]
#[command(
    name = "foretell",
    version,
    about = "Foretell: a datastore for metrics that looks ahead",
    after_help = "Examples:\n  \
        foretell serve --data-dir ./data          start a server on http://127.0.0.1:8484\n  \
        foretell sql                              open a shell on it\n  \
        foretell sql -c 'SELECT * FROM sys.tables'\n  \
        foretell demo --for 30s                   see it find a fault in a simulated shop",
    arg_required_else_help = true,
    max_term_width = 120
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(ServeArgs),
    /// Ask a running server with SQL: a shell, or one statement with -c
    Sql(SqlArgs),
    /// Copy a running or stopped store, incrementally
    Backup(BackupArgs),
    /// Make a new store from a backup
    Restore(RestoreArgs),
    /// Read a stopped store whole and report what is wrong with it
    Verify(VerifyArgs),
    /// Make a damaged, stopped store whole again with everything that can be read
    Repair(RepairArgs),
    /// Write samples, log lines, spans, or the rows of a query, to a file
    Export(ExportArgs),
    /// Read samples, log lines or spans from files into a running server
    Import(ImportArgs),
    /// Check files without a server
    Check(CheckArgs),
    /// Make a running server have the continuous queries, detectors and alerts that files declare
    Apply(ApplyArgs),
    /// Watch a simulated shop with a fault, and the SQL that finds it
    Demo(demo::DemoArgs),
    /// Print completions for a shell
    #[command(
        after_help = "Examples:\n  foretell completions bash > ~/.local/share/bash-completion/completions/foretell"
    )]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

/// `foretell serve`.
#[derive(Args, Debug)]
#[command(
    after_help = "Each value can also be set in the environment (FORETELL_DATA_DIR, FORETELL_LISTEN_HTTP, FORETELL_QUERY_TIMEOUT ...) \
    and in the file; a flag wins over the environment, which wins over the file.\n\
    The log goes to standard error; FORETELL_LOG sets its filter (for example info,foretell_engine=debug).\n\n\
    Examples:\n  \
    foretell serve --data-dir /var/lib/foretell\n  \
    foretell serve --data-dir ./data --listen-http 127.0.0.1:0     any free port, printed on standard output\n  \
    foretell serve --data-dir ./data --print-config                what would be in force, and why"
)]
pub struct ServeArgs {
    /// Directory of the store; created if absent
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How long data is kept, for example 90d [default: for ever]
    #[arg(long, value_name = "AGE")]
    retention_age: Option<String>,
    /// How large all segments together may become before the oldest go, for example 500GiB [default: no bound]
    #[arg(long, value_name = "SIZE")]
    retention_bytes: Option<String>,
    /// Memory of the whole process, for example 2GiB [default: half of the machine's, or of the control group's limit]
    #[arg(long, value_name = "SIZE")]
    memory: Option<String>,
    /// HTTP address: HOST:PORT (port 0 picks a free one) or none [default: 127.0.0.1:8484]
    #[arg(long, value_name = "ADDR")]
    listen_http: Option<String>,
    /// gRPC address (OTLP): HOST:PORT or none [default: 127.0.0.1:4317]
    #[arg(long, value_name = "ADDR")]
    listen_grpc: Option<String>,
    /// PostgreSQL wire address; not built yet: only none [default: none]
    #[arg(long, value_name = "ADDR")]
    listen_pg: Option<String>,
    /// Further address for OTLP over HTTP: HOST:PORT or none [default: 127.0.0.1:4318]
    #[arg(long, value_name = "ADDR")]
    listen_otlp_http: Option<String>,
    /// Configuration file (TOML) [env: FORETELL_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print every value in force and where it came from, then exit
    #[arg(long)]
    print_config: bool,
}

/// `foretell sql`.
#[derive(Args, Debug)]
#[command(
    after_help = "Statements end with a semicolon. Inside the shell: \\? for help, \\dt for the tables, \\q to leave.\n\
    Exit codes: 0 all statements succeeded, 1 one failed, 2 wrong usage, 3 the server cannot be reached.\n\n\
    Examples:\n  \
    foretell sql\n  \
    foretell sql -c 'SELECT metric, count(*) FROM samples GROUP BY 1 ORDER BY 2 DESC'\n  \
    foretell sql --format csv -c 'SELECT * FROM sys.series' > series.csv\n  \
    foretell sql < statements.sql"
)]
pub struct SqlArgs {
    /// Where the server is
    #[arg(long, env = "FORETELL_URL", default_value = "http://127.0.0.1:8484")]
    pub(crate) url: String,
    /// Run these statements and exit
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    pub(crate) command: Vec<String>,
    /// Shape of the answers
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) format: OutputFormat,
    /// Deadline of each statement, for example 10s
    #[arg(long)]
    pub(crate) timeout: Option<String>,
    /// Most rows that a table shows
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) max_rows: usize,
}

/// Shape of an answer in the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people
    Table,
    /// Comma-separated, with a header
    Csv,
    /// The server's JSON answer
    Json,
    /// One JSON object a row
    Ndjson,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// With a message for the user; the exit code is 1.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(args) => args.run(),
            Command::Sql(args) => shell::run(&args),
            Command::Backup(args) => Ok(args.run()),
            Command::Restore(args) => Ok(args.run()),
            Command::Verify(args) => Ok(args.run()),
            Command::Repair(args) => Ok(args.run()),
            Command::Export(args) => Ok(args.run()),
            Command::Import(args) => Ok(args.run()),
            Command::Check(args) => Ok(args.run()),
            Command::Apply(args) => Ok(args.run()),
            Command::Demo(args) => demo::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "foretell", &mut std::io::stdout());
                Ok(ExitCode::SUCCESS)
            }
            Command::Version => {
                serve::say(&format!("foretell {}", env!("CARGO_PKG_VERSION")));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl ServeArgs {
    fn flags(&self) -> Flags {
        let dir = self.data_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned());
        [
            ("data_dir", &dir),
            ("retention.age", &self.retention_age),
            ("retention.bytes", &self.retention_bytes),
            ("memory", &self.memory),
            ("listen_http", &self.listen_http),
            ("listen_grpc", &self.listen_grpc),
            ("listen_pg", &self.listen_pg),
            ("listen_otlp_http", &self.listen_otlp_http),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.clone()?)))
        .collect()
    }

    fn run(self) -> anyhow::Result<ExitCode> {
        let file = config::file_path(self.config.clone());
        let env =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let loaded = config::load(file.as_deref(), env, &self.flags())?;
        if self.print_config {
            serve::say(loaded.print()?.trim_end());
            return Ok(ExitCode::SUCCESS);
        }
        loaded.config.validate()?;
        serve::run(loaded.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
