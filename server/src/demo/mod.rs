//! `foretell demo`: a simulated shop, sent over the real protocol to a real server, and the SQL that finds its fault.
//!
//! ```text
//!  this process: shop (twin) ──remote write──> `foretell serve` (child process, own directory)
//!                question ────────SQL───────>        │
//!                answer   <──────────────────────────┘
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `process` | the server's process and directory |
//! | `shop` | the simulation and its place in real time |
//! | `remote_write` | the sender's encoding |
//! | `sender` | batches, retries |
//! | `question` | the SQL, and whether its first row is the truth |
//! | `story` | what is said, in which order |
//! | `stop` | the end: a signal or `--for` |
//!
//! The demo knows the truth but the question does not: it scores every instance of five metrics alike.
mod process;
mod question;
mod remote_write;
mod sender;
mod shop;
mod stop;
mod story;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;

use crate::config::parse_span;
use crate::serve::say;
use process::Server;
use shop::Shop;
use stop::Stop;
use story::Story;

/// Arguments of `foretell demo`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  \
    foretell demo                       until Ctrl-C; a second fault comes after some minutes\n  \
    foretell demo --for 60s             ends by itself\n  \
    foretell demo --seed 8              another fault\n  \
    foretell demo --data-dir ./shop     keeps the data; `foretell serve --data-dir ./shop` opens it again")]
pub struct DemoArgs {
    /// End after this time, but not before the answer; without it: at Ctrl-C
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    run_for: Option<Duration>,
    /// Simulated seconds per second once the history is there; above 1 the shop's clock runs ahead
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=60))]
    speed: u32,
    /// Which shop day and which fault
    #[arg(long, value_name = "N", default_value_t = 8)]
    seed: u64,
    /// Where the server listens [default: 127.0.0.1:8484, or a free port if that is taken]
    #[arg(long, value_name = "ADDR")]
    listen_http: Option<String>,
    /// Where the server keeps its data, empty or absent; kept afterwards [default: a temporary directory, removed]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_span(text).ok_or_else(|| "not a duration; write for example 60s or 5m".to_owned())
}

/// Runs the demo until it is stopped or its time is over.
///
/// # Errors
/// When the server cannot be started, or refuses what it is sent.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let stop = Stop::new(args.run_for)?;
    say("foretell demo: a simulated shop of 12 services, and a real server that watches it");
    let server = Server::start(args.data_dir.clone(), args.listen_http.as_deref(), &stop)?;
    say(&format!("  server   {} (process {}, data in {})", server.url(), server.id(), server.data_dir().display()));
    let shop = Shop::open(args.seed, args.speed)?;
    let told = Story::new(shop, server.url(), &stop, args.data_dir.is_none()).tell();
    // What the server said is part of the explanation when it went away under us.
    let told = told.map_err(|error| anyhow!("{error:#}{}", server.last_words()));
    let stopped = server.stop();
    told?;
    stopped
}
