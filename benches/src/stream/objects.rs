//! The queries, the detector and the alerts under test, and what must come of them.
use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::load::{ANY, WATCHED};
use super::webhook::{Notice, Received};
use crate::http::Client;

/// How often a busy server is asked again, and after what pause.
const BUSY_MAX: u32 = 1_000;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A table and the SELECT that it must be.
pub(super) struct Compared {
    /// The query that fills it.
    pub(super) name: &'static str,
    /// Columns that are compared.
    columns: &'static str,
    options: &'static str,
    select: String,
    /// What of the SELECT is written by now.
    bound: Option<String>,
}

impl Compared {
    /// The statement that creates it.
    pub(super) fn create(&self) -> String {
        let Self { name, options, select, .. } = self;
        format!("CREATE CONTINUOUS QUERY {name} INTO {name}_out {options} AS {select}")
    }
    /// The same table beside a SELECT that leaves out a row.
    pub(super) fn altered(&self) -> Self {
        let of = |name: &str| format!("ts > (SELECT min(ts) FROM {name}_out)");
        let Self { name, columns, options, .. } = *self;
        Self { name, columns, options, select: self.select.clone(), bound: Some(of(name)) }
    }
    fn stored(&self) -> String {
        format!("SELECT {} FROM {}_out", self.columns, self.name)
    }
    fn expected(&self) -> String {
        let bound = self.bound.as_ref().map_or_else(String::new, |bound| format!(" WHERE {bound}"));
        format!("SELECT {} FROM ({}){bound}", self.columns, self.select)
    }
}

/// The table that is subscribed to.
pub(super) const FOLLOWED: &str = "each";
/// What its subscriber asks for.
pub(super) const FOLLOWED_SELECT: &str = "SELECT CAST(ts AS BIGINT) AS at, job, instance, eighths FROM each_out";

/// All queries. Some read what others write.
pub(super) fn queries() -> Vec<Compared> {
    let query = |name, columns, options, select: &str, bound: Option<&str>| Compared {
        name,
        columns,
        options,
        select: select.replace("{any}", ANY),
        bound: bound.map(|bound| bound.replace("{any}", ANY)),
    };
    let late = "WATERMARK '3m'";
    let on_close = "EMIT ON WINDOW CLOSE WATERMARK '3m'";
    vec![
        query(
            "minutes",
            "ts, job, n, total, low, high, mean",
            late,
            "SELECT time_bucket('1m', ts) AS ts, job, count(*) AS n, sum(value) AS total, min(value) AS low, max(value) AS high, \
             avg(value) AS mean FROM metrics.\"{any}\" GROUP BY 1, 2",
            None,
        ),
        query(
            "five",
            "ts, job, n, high, minutes",
            late,
            "SELECT time_bucket('5m', ts) AS ts, job, sum(n) AS n, max(high) AS high, count(*) AS minutes FROM minutes_out \
             WHERE n > 1 GROUP BY 1, 2",
            None,
        ),
        query(
            "scores",
            "ts, job, instance, value, score",
            late,
            "SELECT ts, job, instance, value, anomaly_score(value, method => 'ewma') OVER (PARTITION BY job, instance ORDER BY ts) \
             AS score FROM metrics.\"{any}\"",
            None,
        ),
        query(
            FOLLOWED,
            "ts, job, instance, eighths",
            late,
            "SELECT ts, job, instance, value * 8 AS eighths FROM metrics.\"{any}\"",
            None,
        ),
        query(
            "some",
            "ts, instance, v",
            late,
            "SELECT ts, instance, value AS v FROM metrics.\"{any}\" WHERE value < 60 AND job = 'web'",
            None,
        ),
        query(
            "minute_scores",
            "ts, job, score",
            late,
            "SELECT ts, job, anomaly_score(total, method => 'mad') OVER (PARTITION BY job ORDER BY ts) AS score FROM minutes_out",
            None,
        ),
        query(
            "closed",
            "ts, job, n, high",
            on_close,
            "SELECT time_bucket('1m', ts) AS ts, job, count(*) AS n, max(value) AS high FROM metrics.\"{any}\" GROUP BY 1, 2",
            Some("ts < (SELECT time_bucket('1m', max(ts) - INTERVAL '3 minutes') FROM metrics.\"{any}\")"),
        ),
        query(
            "lines",
            "ts, service, n",
            late,
            "SELECT time_bucket('1m', ts) AS ts, service, count(*) AS n FROM logs GROUP BY 1, 2",
            None,
        ),
    ]
}

/// Creates the detector and its alerts.
pub(super) fn alerts(url: &str) -> Vec<String> {
    let notify = format!("NOTIFY (WEBHOOK '{url}')");
    vec![
        format!("CREATE DETECTOR watch ON {WATCHED} KEY (host) USING 'ewma' WATERMARK '60s' INTO watched"),
        format!(
            "CREATE ALERT high ON DETECTOR watch WHERE value > 80 FOR '{}s' KEEP FIRING FOR '{}s' LABELS (severity = 'page') \
             ANNOTATIONS (summary = '{{{{ $labels.host }}}} has {{{{ $value }}}}') {notify}",
            HIGH.hold_s, HIGH.keep_s
        ),
        format!("CREATE ALERT odd ON DETECTOR watch {notify}"),
    ]
}

/// The detector's rows, and the SELECT that they must be.
const DETECTOR: (&str, &str) = (
    "SELECT ts, host, value, score, is_anomaly FROM watched",
    "SELECT ts, host, value, a['score'] AS score, a['is_anomaly'] AS is_anomaly FROM (SELECT ts, host, value, \
     anomaly(value, method => 'ewma') OVER (PARTITION BY host ORDER BY ts) AS a FROM metrics.\"stream_watched\") \
     WHERE ts <= (SELECT max(ts) - INTERVAL '60 seconds' FROM metrics.\"stream_watched\")",
);

/// A server that is asked.
pub(super) struct Asked<'a> {
    pub(super) client: &'a Client,
    pub(super) base: String,
}

impl Asked<'_> {
    /// Runs a statement; one that a busy server refuses is sent again.
    pub(super) fn run(&self, sql: &str) -> Result<Vec<Vec<Value>>> {
        let mut answer: Value = serde_json::from_slice(&self.ask("json", sql)?)?;
        Ok(serde_json::from_value(answer["rows"].take())?)
    }

    fn ask(&self, format: &str, sql: &str) -> Result<Vec<u8>> {
        let url = format!("{}/api/v1/sql?format={format}", self.base);
        let mut busy = 0;
        loop {
            let (status, body) = self.client.post(&url, &[("content-type", "text/plain")], sql.as_bytes())?;
            match status {
                200 => return Ok(body),
                503 if busy < BUSY_MAX => busy += 1,
                _ => bail!("{sql}: {status} {}", String::from_utf8_lossy(&body)),
            }
            thread::sleep(BUSY_PAUSE);
        }
    }

    /// The rows of a SELECT as lines of text, sorted: the same bytes are the same rows.
    fn lines(&self, sql: &str) -> Result<Vec<String>> {
        let text = String::from_utf8(self.ask("csv", sql)?)?;
        let mut lines: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
        lines.sort_unstable();
        Ok(lines)
    }

    /// Compares one table with its SELECT; how many rows it has, or what differs.
    pub(super) fn compare(&self, query: &Compared) -> Result<std::result::Result<u64, String>> {
        Ok(difference(query.name, &self.lines(&query.stored())?, &self.lines(&query.expected())?))
    }

    /// Compares the detector's rows.
    pub(super) fn compare_detector(&self) -> Result<std::result::Result<u64, String>> {
        Ok(difference("watch", &self.lines(DETECTOR.0)?, &self.lines(DETECTOR.1)?))
    }

    /// What must have been told by now, in order for each alert and host.
    pub(super) fn expected_notices(&self) -> Result<BTreeMap<(String, String), Vec<Notice>>> {
        let sql = "SELECT host, CAST(ts AS BIGINT) AS at, value > 80 AS high, coalesce(is_anomaly, false) AS odd FROM watched ORDER BY host, at";
        let mut rows: BTreeMap<String, Vec<Judged>> = BTreeMap::new();
        for row in self.run(sql)? {
            let [host, at, high, odd] = row.as_slice() else { bail!("a row of other columns") };
            let judged = Judged {
                at: at.as_i64().context("no time")?,
                high: high.as_bool().context("no flag")?,
                odd: odd.as_bool().context("no flag")?,
            };
            rows.entry(host.as_str().context("no host")?.to_owned()).or_default().push(judged);
        }
        let mut expected = BTreeMap::new();
        for (host, rows) in rows {
            let high = told(rows.iter().map(|row| (row.at, row.high)), HIGH);
            let odd = told(rows.iter().map(|row| (row.at, row.odd)), ODD);
            expected.insert(("high".to_owned(), host.clone()), high);
            expected.insert(("odd".to_owned(), host), odd);
        }
        expected.retain(|_, notices: &mut Vec<Notice>| !notices.is_empty());
        Ok(expected)
    }
}

/// What one row says.
struct Judged {
    at: i64,
    high: bool,
    odd: bool,
}

/// `FOR` and `KEEP FIRING FOR`.
#[derive(Clone, Copy)]
struct Policy {
    hold_s: i64,
    keep_s: i64,
}

const HIGH: Policy = Policy { hold_s: 4, keep_s: 6 };
const ODD: Policy = Policy { hold_s: 0, keep_s: 0 };

/// What rows in the order of time tell of one alert: written anew from what the manual says.
fn told(rows: impl Iterator<Item = (i64, bool)>, policy: Policy) -> Vec<Notice> {
    const SECOND: i64 = 1_000_000_000;
    let mut notices = Vec::new();
    let (mut since, mut fired, mut gone) = (None, None, None);
    for (at, holds) in rows {
        if holds {
            gone = None;
            let begun = *since.get_or_insert(at);
            if fired.is_none() && at - begun >= policy.hold_s * SECOND {
                fired = Some(at);
                notices.push(Notice { firing: true, starts_at: at, ends_at: None });
            }
            continue;
        }
        let Some(starts_at) = fired else {
            since = None;
            continue;
        };
        if at - *gone.get_or_insert(at) >= policy.keep_s * SECOND {
            notices.push(Notice { firing: false, starts_at, ends_at: Some(at) });
            (since, fired, gone) = (None, None, None);
        }
    }
    notices
}

/// Compares what was told with what must have been; how many notices, or what differs.
pub(super) fn compare_notices(
    expected: &BTreeMap<(String, String), Vec<Notice>>,
    received: &Received,
) -> std::result::Result<u64, String> {
    let of: BTreeSet<_> = expected.keys().chain(received.told.keys()).collect();
    let mut notices = 0;
    for of in of {
        let (expected, told) = (expected.get(of).map_or(&[][..], Vec::as_slice), received.of(of));
        notices += told.len() as u64;
        if expected != told {
            let at = expected.iter().zip(told).take_while(|(expected, told)| expected == told).count();
            return Err(format!(
                "{of:?}: {} notices instead of {}; number {at} is {:?} instead of {:?}",
                told.len(),
                expected.len(),
                told.get(at),
                expected.get(at)
            ));
        }
    }
    Ok(notices)
}

/// What differs between two lists of sorted lines.
pub(super) fn difference(name: &str, stored: &[String], expected: &[String]) -> std::result::Result<u64, String> {
    if stored == expected {
        return Ok(stored.len() as u64);
    }
    let set = |lines: &[String]| lines.iter().cloned().collect::<BTreeSet<_>>();
    let (have, want) = (set(stored), set(expected));
    let shown = |lines: BTreeSet<String>| lines.into_iter().take(3).collect::<Vec<_>>().join(" | ");
    Err(format!(
        "{name}: {} rows instead of {}; wrong: {}; missing: {}",
        stored.len(),
        expected.len(),
        shown(&have - &want),
        shown(&want - &have)
    ))
}
