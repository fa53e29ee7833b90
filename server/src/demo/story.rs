//! What the demo does and says, in order: history, a standing query, the question and its answer, then live.
use std::time::Instant;

use anyhow::Context as _;
use foretell_ml::twin::Direct;
use indicatif::{ProgressBar, ProgressStyle};

use super::question;
use super::sender::Sender;
use super::shop::{HISTORY_HOURS, Shop, clock_text};
use super::stop::Stop;
use crate::serve::say;
use crate::shell::client::Client;
use crate::shell::render;

/// Scrapes between two lines about the history where there is no terminal for a bar.
const SCRAPES_PER_LINE: u64 = 360;
/// The window of the first question reaches back so far.
const FIRST_WINDOW: &str = "now() - INTERVAL '30 minutes'";
const FIRST_WINDOW_MS: i64 = 30 * 60_000;
/// The second fault begins so long after the history's end, when the first one has left the detectors' memory.
const SECOND_AFTER_MS: i64 = 4 * 60_000;
/// The second question is asked so long after the second fault began.
const SECOND_ASKED_AFTER_MS: i64 = 2 * 60_000;
const QUERY_ROWS_MAX: usize = 20;
/// Deadline of a question.
const QUERY_TIMEOUT: &str = "30s";

/// The standing query that the demo leaves running.
const STANDING: &str = "CREATE CONTINUOUS QUERY latency_scores INTO latency_scores AS\n\
    SELECT ts, service, instance, value,\n       \
    anomaly_score(value, method => 'auto') OVER (PARTITION BY service, instance ORDER BY ts) AS score\n\
    FROM metrics.\"service_latency_p99_seconds\"";
/// The newest rows it wrote, worst first.
const STANDING_NEWEST: &str = "SELECT service, instance, value, score FROM latency_scores \
    WHERE ts = (SELECT max(ts) FROM latency_scores) ORDER BY score DESC NULLS LAST LIMIT 1";

/// What became of the second fault.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Second {
    /// It will begin then.
    Planned(i64),
    /// It has been asked for, or the demo is too short for it.
    Done,
}

/// The course of one demo.
pub(super) struct Story<'a> {
    shop: Shop,
    sender: Sender,
    client: Client,
    url: &'a str,
    stop: &'a Stop,
    /// Whether the data go with the demo.
    temporary: bool,
    standing: bool,
    asked: bool,
}

impl<'a> Story<'a> {
    pub(super) fn new(shop: Shop, url: &'a str, stop: &'a Stop, temporary: bool) -> Self {
        let sender = Sender::new(url, shop.series());
        let client = Client::new(url, Some(QUERY_TIMEOUT.to_owned()));
        Self { shop, sender, client, url, stop, temporary, standing: false, asked: false }
    }

    /// Tells all of it.
    ///
    /// # Errors
    /// When the server refuses what it is sent or asked.
    pub(super) fn tell(mut self) -> anyhow::Result<()> {
        if !self.history()? {
            return Ok(());
        }
        self.stand()?;
        self.ask(FIRST_WINDOW, self.shop.live_ms() - FIRST_WINDOW_MS)?;
        self.guide();
        self.live()
    }

    /// Sends the past at full speed; `false` when stopped.
    fn history(&mut self) -> anyhow::Result<bool> {
        let scrapes = self.shop.history_left();
        say(&format!(
            "\nSending {HISTORY_HOURS} hours of its past by remote write: {} series, a scrape every 15 s",
            self.shop.series().len()
        ));
        let started = Instant::now();
        let bar = ProgressBar::new(scrapes);
        let style = ProgressStyle::with_template("  {bar:40} {percent:>3} %  {msg}").context("progress bar")?;
        bar.set_style(style);
        for scrape in 1..=scrapes {
            let (ts, samples) = self.shop.scrape();
            self.sender.push(ts, samples)?;
            if self.stop.is_asked() {
                bar.finish_and_clear();
                return Ok(false);
            }
            bar.set_message(format!("{} samples, shop time {}", self.sender.samples(), clock_text(ts)));
            bar.set_position(scrape);
            if bar.is_hidden() && scrape % SCRAPES_PER_LINE == 0 {
                say(&format!("  {:>3} %  shop time {}", 100 * scrape / scrapes, clock_text(ts)));
            }
        }
        self.sender.flush()?;
        bar.finish_and_clear();
        let (samples, elapsed) = (self.sender.samples(), started.elapsed());
        say(&format!(
            "  {samples} samples, simulated, sent and on disk in {:.1} s ({:.1} bytes a sample on the wire)",
            elapsed.as_secs_f64(),
            self.sender.bytes() as f64 / samples as f64
        ));
        Ok(true)
    }

    /// Leaves a continuous query with the server. A server that cannot do so is told of, and the demo goes on.
    fn stand(&mut self) -> anyhow::Result<()> {
        say("\nA continuous query, so that every new value is scored when it arrives:\n");
        say(&indented(STANDING));
        match self.client.rows(STANDING, QUERY_ROWS_MAX) {
            Ok(_) => self.standing = true,
            Err(error) => say(&format!("  not possible here: {error}")),
        }
        Ok(())
    }

    /// Asks who is to blame and compares with the truth. `since_ms` is what `since` means.
    fn ask(&mut self, since: &str, since_ms: i64) -> anyhow::Result<()> {
        // A shop whose clock runs ahead of the server's has no use for the server's now().
        let since = if self.shop.runs_ahead() { question::time_literal(since_ms) } else { since.to_owned() };
        let sql = question::suspects(&since);
        if self.asked {
            say("\nThe same question over the last minutes:");
        } else {
            say("\nWhat is wrong in the shop? Nobody told the server what to look for:\n");
            say(&indented(&sql));
        }
        self.asked = true;
        let answer = self.client.rows(&sql, QUERY_ROWS_MAX).context("the question was not answered")?;
        say("");
        say(&render::table(&answer));
        let truth = self.shop.truth();
        let (from, until) = self.shop.fault_ms();
        let Direct { metric, service } = &truth.direct;
        say(&format!(
            "\n  injected  {} in {}, {} to {} UTC; shows most directly in {metric}{{service=\"{service}\"}}",
            truth.fault.kind.name(),
            truth.root,
            clock_text(from),
            clock_text(until)
        ));
        let found = question::first(&answer).map_or_else(
            || "nothing".to_owned(),
            |(metric, service, instance)| format!("{metric}{{service=\"{service}\", instance=\"{instance}\"}}"),
        );
        let verdict = if question::is_found(&answer, truth) { "that is it" } else { "that is not it, this time" };
        say(&format!("  found     {found}: {verdict}"));
        Ok(())
    }

    fn guide(&self) {
        let program = program();
        let kept = if self.temporary { "they go with the demo; --data-dir DIR keeps them" } else { "they stay" };
        say(&format!(
            "\nGo on\n  \
             in a browser      {url}/\n  \
             in a SQL shell    {program} sql --url {url}\n  \
             with curl         curl -s '{url}/api/v1/sql?format=csv' --data-binary 'SELECT * FROM sys.tables'\n  \
             a forecast        {program} sql --url {url} -c 'SELECT service, instance, forecast(ts, value, 12) FROM \
             metrics.\"memory_working_set_bytes\" GROUP BY 1, 2'\n  \
             another fault     {program} demo --seed 9\n  \
             the data          {kept}",
            url = self.url,
        ));
    }

    /// Goes on in real time until the end.
    fn live(&mut self) -> anyhow::Result<()> {
        let end = if self.stop.deadline().is_some() { "" } else { "; Ctrl-C ends the demo" };
        say(&format!("\nLive: a scrape every 15 s{end}"));
        let mut second = self.plan_second()?;
        // What should have been scraped while the history was sent comes first, without waiting.
        while let Some(due) = self.shop.due(self.shop.next_ms()) {
            if !self.stop.wait(due) {
                break;
            }
            let (ts, samples) = self.shop.scrape();
            self.sender.push(ts, samples)?;
            self.sender.flush()?;
            self.report(ts)?;
            if let Second::Planned(start) = second {
                if ts >= start + SECOND_ASKED_AFTER_MS {
                    self.ask("now() - INTERVAL '3 minutes'", start - 30_000)?;
                    second = Second::Done;
                } else if (start..start + 15_000).contains(&ts) {
                    say("  something broke just now; the same question comes in two minutes");
                }
            }
        }
        let why = if self.stop.is_asked() { "stopped" } else { "the time is over" };
        say(&format!("\n{why}: {} samples were sent; the server stops now", self.sender.samples()));
        Ok(())
    }

    /// A second fault, where there is time for it.
    fn plan_second(&mut self) -> anyhow::Result<Second> {
        let start = (self.shop.live_ms() + SECOND_AFTER_MS).max(self.shop.next_ms());
        let asked = self.shop.due(start + SECOND_ASKED_AFTER_MS + 15_000);
        if self.stop.deadline().is_some_and(|deadline| asked.is_none_or(|asked| asked > deadline)) {
            return Ok(Second::Done);
        }
        self.shop.break_again(start)?;
        Ok(Second::Planned(start))
    }

    /// One line about a scrape, with what the continuous query made of it.
    fn report(&self, ts: i64) -> anyhow::Result<()> {
        let sent = format!("  {}  {} samples", clock_text(ts), self.shop.series().len());
        if !self.standing {
            say(&sent);
            return Ok(());
        }
        let answer = self.client.rows(STANDING_NEWEST, 1).context("the continuous query's table cannot be read")?;
        let newest = answer.rows.first().and_then(|row| {
            let text = |index: usize| {
                row.get(index).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            };
            Some((text(1)?, row.get(2)?.as_f64()?, text(3)?))
        });
        match newest {
            Some((instance, value, score)) => {
                let score = score.parse::<f64>().map_or(score, |score| format!("{score:.2}"));
                say(&format!("{sent}; highest latency score {score} ({instance}, p99 {:.0} ms)", value * 1000.0));
            }
            None => say(&sent),
        }
        Ok(())
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect::<String>().trim_end().to_owned()
}

/// How this program was called, for examples that can be copied.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "foretell".to_owned())
}
