//! `promql`: classes of queries beside real peers, which hold the same samples and get the same requests.
//!
//! ```text
//!  record ─> send to every server ─> stop, start, wait ─> each class once: cold ─> each class many times: warm
//!                                         ▲                    │  first time: answers compared with Prometheus's
//!                                         └──── --cold times ──┘
//! ```
//! | module | owns |
//! |---|---|
//! | [`class`] | the queries |
//! | [`servers`] | servers that hold the same samples |
//! | [`figures`] | medians, ratios, the table |
//!
//! Servers take turns, and each turn begins with the next of them. Cold: the first request of its class since all servers
//! were started (the files may be in the kernel's cache), and no answer out of a cache of answers. The client reads answers into
//! memory that it has; what it makes of them is outside of the time.
mod class;
mod figures;
mod servers;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use self::class::classes;
use self::figures::Measured;
use self::servers::Servers;
pub(super) use self::servers::ask;
use crate::peer::{Binaries, Peer};
use crate::process::scratch_dir;
use crate::promql::compare::{Same, compare};
use crate::recording::record;
use crate::report::{Report, print};
use crate::workload::Kind;

/// Samples in a request of remote write.
const SAMPLES_PER_REQUEST: usize = 10_000;
/// Turns of each class at least, however long they take.
const TURNS_MIN: usize = 3;
/// Longest difference that is shown.
const DIFFERENCE_CHARS_MAX: usize = 300;

/// Parameters.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Workloads; may be given several times
    #[arg(long, value_enum, default_values = ["node", "tsbs"])]
    pub workload: Vec<Kind>,
    /// The published size instead of the short one: 50,000 series, 400 hosts, 6 hours, 11 cold rounds, 20 s a class; with goals
    #[arg(long, conflicts_with_all = ["series", "hosts", "hours", "cold", "seconds"])]
    pub full: bool,
    /// Series of node and churn
    #[arg(long, default_value_t = 10_000)]
    pub series: usize,
    /// Hosts of tsbs, of ten series each
    #[arg(long, default_value_t = 100)]
    pub hosts: usize,
    /// Hours of data
    #[arg(long, default_value_t = 1.0)]
    pub hours: f64,
    /// Rounds after a start, in which each class is asked once
    #[arg(long, default_value_t = 2)]
    pub cold: usize,
    /// Longest time for the warm requests of a class, all servers together, seconds
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Warm requests of a class to each server, at most
    #[arg(long, default_value_t = 200)]
    pub requests: usize,
    /// Requests in a row before it is the next server's turn
    #[arg(long, default_value_t = 4)]
    pub turn: usize,
    /// Only classes whose name contains this; may be given several times
    #[arg(long)]
    pub class: Vec<String>,
    /// Servers beside foretell; the answers of the first are the right ones
    #[arg(long, value_enum, default_values = ["prometheus", "victoriametrics"])]
    pub peer: Vec<Peer>,
    /// Connections that send the data
    #[arg(long, default_value_t = 4)]
    pub senders: usize,
    /// Seed of the workloads
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl Options {
    /// With the sizes that `full` stands for.
    fn sized(mut self) -> Self {
        if self.full {
            (self.series, self.hosts, self.hours, self.cold, self.seconds) = (50_000, 400, 6.0, 11, 20.0);
        }
        self
    }
}

/// What was measured, of every class.
pub(super) struct Outcome {
    /// Ours first.
    peers: Vec<Peer>,
    all: Vec<Measured>,
    report: Report,
}

/// Runs it.
///
/// # Errors
/// After its figures are written: when an answer of ours is not that of the first peer, and when a figure of the published
/// size missed its goal. When a server refuses a question.
pub fn run(options: &Options, binaries: &Binaries, results: &Path) -> Result<()> {
    let outcome = measure(options, binaries, results)?;
    outcome.refuse_differences()?;
    outcome.report.refuse_missed()
}

/// Measures every class, prints the table and writes the figures; those of the published size with goals.
///
/// # Errors
/// When a server refuses a question, or the figures cannot be written.
pub(super) fn measure(options: &Options, binaries: &Binaries, results: &Path) -> Result<Outcome> {
    let options = options.clone().sized();
    let mut peers = vec![Peer::Foretell];
    peers.extend(options.peer.iter().copied().filter(|&peer| peer != Peer::Foretell));
    let mut report = Report::new(
        "promql",
        json!({
            "workload": serde_json::to_value(&options.workload)?, "series": options.series, "hosts": options.hosts,
            "hours": options.hours, "cold": options.cold, "seconds": options.seconds, "requests": options.requests,
            "turn": options.turn, "seed": options.seed,
        }),
    );
    for peer in &peers {
        report.text(&format!("{}_version", peer.name()), &peer.version(binaries)?, "");
    }
    let mut all = Vec::new();
    for &kind in &options.workload {
        all.extend(Run { options: &options, peers: &peers, kind }.measure(binaries)?);
    }
    ensure!(!all.is_empty(), "no class is called {}", options.class.join(" or "));
    all.iter().for_each(|measured| measured.describe(&peers, &mut report));
    figures::print_table(&all, &peers);
    if let Some(slowest) = figures::slowest(&all) {
        report.text("slowest", &slowest, "");
        print(&format!("slowest: {slowest}"));
    }
    let mut outcome = Outcome { peers, all, report };
    if options.full {
        outcome.all.iter().for_each(|measured| measured.judge("", &mut outcome.report));
    }
    outcome.report.write(results)?;
    Ok(outcome)
}

impl Outcome {
    /// Adds the goals of every class, their names beginning with `prefix`.
    pub(super) fn judge(&self, prefix: &str, report: &mut Report) {
        self.all.iter().for_each(|measured| measured.judge(prefix, report));
    }

    /// Prints how answers differ; fails when it is ours that do.
    ///
    /// # Errors
    /// With the names of the classes.
    pub(super) fn refuse_differences(&self) -> Result<()> {
        refuse_differences(&self.all, &self.peers)
    }
}

/// Prints how answers differ; fails when it is ours that do.
fn refuse_differences(all: &[Measured], peers: &[Peer]) -> Result<()> {
    for measured in all {
        for (peer, shown) in peers.iter().zip(&measured.shown) {
            if let Some(difference) = &shown.difference {
                print(&format!("{}: {} answers otherwise: {difference}", measured.class.name, peer.name()));
            }
        }
    }
    let wrong: Vec<&str> =
        all.iter().filter(|m| m.shown[0].difference.is_some()).map(|m| m.class.name.as_str()).collect();
    ensure!(wrong.is_empty(), "foretell answers differently: {}", wrong.join(", "));
    Ok(())
}

/// The classes of one workload.
struct Run<'a> {
    options: &'a Options,
    /// Ours first.
    peers: &'a [Peer],
    kind: Kind,
}

impl Run<'_> {
    fn measure(&self, binaries: &Binaries) -> Result<Vec<Measured>> {
        let options = self.options;
        let series = if self.kind == Kind::Tsbs { options.hosts * 10 } else { options.series };
        let start_ms = super::start_ms(options.hours)?;
        let fleet = self.kind.fleet(series, options.seed, start_ms);
        let rounds = fleet.rounds(options.hours);
        let wanted = |name: &str| options.class.is_empty() || options.class.iter().any(|part| name.contains(part));
        let classes = classes(self.kind, &fleet, options.hours).into_iter().filter(|class| wanted(&class.name));
        let mut all: Vec<Measured> = classes.map(|class| Measured::new(class, self.peers.len())).collect();
        if all.is_empty() {
            return Ok(all);
        }
        let dir = scratch_dir("promql")?;
        print(&format!("{:?}: recording {rounds} scrapes of {} series", self.kind, fleet.series()));
        let recordings = record(fleet, rounds, options.senders, SAMPLES_PER_REQUEST, dir.path())?;
        let mut servers = Servers::start(self.peers, binaries, dir.path())?;
        print(&format!("{:?}: sending them to {} servers", self.kind, self.peers.len()));
        servers.load(&recordings)?;
        let cold = options.cold.max(1);
        let template = "{prefix} {bar:40} {pos}/{len} {msg}, {elapsed}";
        let bar = ProgressBar::new((all.len() * (cold + 1)) as u64)
            .with_style(ProgressStyle::with_template(template).context("progress bar")?)
            .with_prefix(format!("{:?}", self.kind));
        for round in 0..cold {
            bar.set_message("restart");
            servers.restart()?;
            self.cold_round(&mut servers, &mut all, round, &bar)?;
        }
        for measured in &mut all {
            bar.set_message(measured.class.name.clone());
            self.warm(&mut servers, measured)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        servers.stop()?;
        Ok(all)
    }

    /// Asks every class once, in an order that begins elsewhere in each round.
    fn cold_round(
        &self,
        servers: &mut Servers<'_>,
        all: &mut [Measured],
        round: usize,
        bar: &ProgressBar,
    ) -> Result<()> {
        let count = all.len();
        let first = round * count / self.options.cold.max(1);
        for i in 0..count {
            let measured = &mut all[(first + i) % count];
            bar.set_message(format!("cold: {}", measured.class.name));
            let mut answers = vec![Value::Null; self.peers.len()];
            for at in self.turn(round + i) {
                let timed = servers.ask(at, &measured.class.question, true)?;
                measured.shown[at].cold_ms.push(timed.ms);
                if round == 0 {
                    answers[at] = timed.parse()?;
                }
            }
            if round == 0 {
                compare_all(measured, &answers);
            }
            bar.inc(1);
        }
        Ok(())
    }

    /// Asks one class again and again.
    fn warm(&self, servers: &mut Servers<'_>, measured: &mut Measured) -> Result<()> {
        let question = &measured.class.question;
        for at in 0..self.peers.len() {
            servers.ask(at, question, false)?;
        }
        let (begun, longest) = (Instant::now(), Duration::from_secs_f64(self.options.seconds));
        let (length, turns) = (self.options.turn.max(1), self.options.requests.div_ceil(self.options.turn.max(1)));
        for turn in 0..turns.max(TURNS_MIN) {
            if turn >= TURNS_MIN && begun.elapsed() > longest {
                break;
            }
            for at in self.turn(turn) {
                let before = servers.cpu_seconds(at)?;
                for _ in 0..length {
                    let timed = servers.ask(at, question, false)?;
                    measured.shown[at].warm_ms.push(timed.ms);
                }
                measured.shown[at].cpu_seconds += servers.cpu_seconds(at)? - before;
            }
        }
        Ok(())
    }

    /// All servers, beginning with another one each `turn`.
    fn turn(&self, turn: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.peers.len();
        (0..count).map(move |i| (turn + i) % count)
    }
}

/// Compares with the first peer's answer (with ours when we are alone), and notes how large it is.
fn compare_all(measured: &mut Measured, answers: &[Value]) {
    let truth = &answers[usize::from(answers.len() > 1)];
    let rows = truth["data"]["result"].as_array().map(Vec::as_slice).unwrap_or_default();
    measured.series = rows.len();
    measured.samples = rows.iter().map(|row| row["values"].as_array().map_or(1, Vec::len)).sum();
    for (answer, shown) in answers.iter().zip(&mut measured.shown) {
        let difference = match compare(&measured.class.question.expr, truth, answer) {
            Ok(Same::Values) => continue,
            Ok(Same::Empty) => "nothing was found, by the first peer neither".to_owned(),
            Ok(Same::Error) => "refused".to_owned(),
            Err(difference) => difference,
        };
        shown.difference = Some(difference.chars().take(DIFFERENCE_CHARS_MAX).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::class::Class;
    use super::*;
    use crate::promql::Question;

    fn vector(values: &[(&str, &str)]) -> Value {
        let rows: Vec<Value> =
            values.iter().map(|(label, value)| json!({"metric": {"a": label}, "value": [1, value]})).collect();
        json!({"status": "success", "data": {"resultType": "vector", "result": rows}})
    }

    #[test]
    fn an_answer_that_differs_from_the_first_peers_is_noted_and_ours_fails_the_run() {
        let class = Class { name: "a".into(), question: Question { expr: "up".into(), at: 0.0, range: None } };
        let peers = [Peer::Foretell, Peer::Prometheus, Peer::VictoriaMetrics];
        let right = vector(&[("1", "2"), ("2", "3")]);
        let mut all = [Measured::new(class, 3)];
        compare_all(&mut all[0], &[right.clone(), right.clone(), vector(&[("1", "2")])]);
        assert_eq!((all[0].series, all[0].samples), (2, 2));
        assert!(all[0].shown[0].difference.is_none() && all[0].shown[2].difference.is_some());
        assert!(refuse_differences(&all, &peers).is_ok());
        compare_all(&mut all[0], &[vector(&[("1", "2"), ("2", "4")]), right.clone(), right]);
        assert!(refuse_differences(&all, &peers).is_err());
        let mut nothing = Measured::new(all[0].class.clone(), 3);
        compare_all(&mut nothing, &[vector(&[]), vector(&[]), vector(&[])]);
        assert!(refuse_differences(&[nothing], &peers).is_err());
    }
}
