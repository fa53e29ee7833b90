//! `stream`: the real server works on continuous queries, a detector, alerts and a subscription, and is killed with SIGKILL again
//! and again, a fifth of the times while it is opening its store. Whatever was sent in whatever order, each table is its SELECT over
//! what is stored, byte for byte; what was told is what the rows say, and told again only under the same key; who subscribed has
//! every row.
//!
//! ```text
//!  senders: samples in any order, samples a little out of order, lines ──► foretell   kill -9, PAUSE, RESUME at random moments
//!    a request that was not answered is sent again                           │ │ │
//!  judge: SELECT * FROM q_out  =  SELECT …  (as text) ◄──── SQL ─────────────┘ │ │
//!         notices, each once   =  a plain machine over the detector's rows ◄───┘ │   webhook: refuses, hangs up, is slow
//!         rows put together    =  the table ◄────────────────────────────────────┘   subscriber: rests, connects again
//!  at the end: the canaries
//! ```
//! | module | owns |
//! |---|---|
//! | [`life`] | one data directory, its server and everybody around it, from the first start to the last canary |
//! | [`load`] | what is sent |
//! | [`objects`] | the queries, the detector and the alerts, and what must come of them |
//! | [`webhook`] | somebody who is told, and does not always take it |
//! | [`subscriber`] | somebody who follows a table, and does not always listen |
mod life;
mod load;
mod objects;
mod subscriber;
mod webhook;

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::lives::{Lives, Progress};
use crate::peer::Binaries;
use crate::report::Report;
use life::Life;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Kills
    #[arg(long, default_value_t = 240)]
    pub cycles: u32,
    /// Servers side by side, each with its own directory and part of the kills
    #[arg(long, default_value_t = 2)]
    pub servers: u32,
    /// Longest time between readiness and kill, milliseconds
    #[arg(long, default_value_t = 600)]
    pub write_ms: u64,
    /// Share of the kills that come while the store is being opened
    #[arg(long, default_value_t = 0.2)]
    pub in_recovery: f64,
    /// Kills of one data directory; after them the server starts anew with an empty one
    #[arg(long, default_value_t = 40)]
    pub store_cycles: u32,
    /// Share of the starts after which everything is waited for and compared
    #[arg(long, default_value_t = 0.25)]
    pub compared: f64,
    /// Seed of the load, the sizes and the moments; each data directory has one of its own, from this on
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Also write the figures to the results folder
    #[arg(long)]
    pub record: bool,
}

/// What was done and seen.
#[derive(Default)]
struct Counts {
    kills: u32,
    kills_in_recovery: u32,
    requests: u64,
    repeated: u64,
    comparisons: u64,
    rows_compared: u64,
    late: u64,
    recomputed: u64,
    pauses: u64,
    notices: u64,
    notices_again: u64,
    refused: u64,
    rows_told: u64,
    resumed: u64,
    begun_anew: u64,
    canaries: u32,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.kills += other.kills;
        self.kills_in_recovery += other.kills_in_recovery;
        self.requests += other.requests;
        self.repeated += other.repeated;
        self.comparisons += other.comparisons;
        self.rows_compared += other.rows_compared;
        self.late += other.late;
        self.recomputed += other.recomputed;
        self.pauses += other.pauses;
        self.notices += other.notices;
        self.notices_again += other.notices_again;
        self.refused += other.refused;
        self.rows_told += other.rows_told;
        self.resumed += other.resumed;
        self.begun_anew += other.begun_anew;
        self.canaries += other.canaries;
    }
}

/// Runs it.
///
/// # Errors
/// On any difference, and when a canary is not found.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let lives = Lives {
        what: "stream",
        replay: String::new(),
        cycles: options.cycles,
        servers: options.servers,
        store_cycles: options.store_cycles,
        seed: options.seed,
    };
    let (lived, progress) =
        lives.live(|progress, dir, drawn| Life::new(options, progress, binaries, dir, drawn)?.live())?;
    let mut counts = Counts::default();
    lived.iter().for_each(|life| counts.add(life));
    report(options, &counts, &progress, results)
}

fn report(options: &Options, counts: &Counts, progress: &Progress, results: &Path) -> Result<()> {
    let mut report = Report::new(
        "stream",
        json!({"cycles": options.cycles, "servers": options.servers, "write_ms": options.write_ms, "store_cycles": options.store_cycles, "seed": options.seed}),
    );
    report.figure("kills", counts.kills.into(), "SIGKILL of the real server");
    report.figure("kills_in_recovery", counts.kills_in_recovery.into(), "between listening and readiness");
    report.figure("requests_acknowledged", counts.requests as f64, "");
    report.figure("requests_repeated", counts.repeated as f64, "sent again because nobody had answered");
    report.figure("comparisons", counts.comparisons as f64, "tables, each with its SELECT");
    report.figure("rows_compared", counts.rows_compared as f64, "");
    report.figure("rows_late", counts.late as f64, "by sys.continuous_queries");
    report.figure("rows_recomputed", counts.recomputed as f64, "");
    report.figure("pauses", counts.pauses as f64, "of queries");
    report.figure("notices", counts.notices as f64, "each as the rows say");
    report.figure("notices_again", counts.notices_again as f64, "told once more, under the same key");
    report.figure("notices_refused", counts.refused as f64, "by the webhook, told again later");
    report.figure("subscriber_rows", counts.rows_told as f64, "");
    report.figure("subscriber_resumed", counts.resumed as f64, "connections that went on from a cursor");
    report.figure("subscriber_begun_anew", counts.begun_anew as f64, "cursors that were too old after a restart");
    report.figure("differences", 0.0, "any would have ended the run");
    report.figure("canaries_caught", counts.canaries.into(), "of as many");
    report.figure("seconds", progress.seconds(), "the whole run");
    report.print();
    ensure!(
        counts.comparisons > 0 && counts.notices > 0 && counts.rows_told > 0,
        "nothing was compared, told or followed: the run proves nothing"
    );
    if options.record {
        report.write(results)?;
    }
    Ok(())
}
