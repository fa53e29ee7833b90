//! What is asked of lines and spans, and what the answer is.
use anyhow::{Result, ensure};
use serde_json::Value;

use super::Kind;
use crate::workload::event::{hex, line, span};

/// A question in SQL of Foretell.
pub(super) struct Question {
    pub(super) name: &'static str,
    pub(super) note: &'static str,
    pub(super) sql: String,
    expected: Expected,
}

enum Expected {
    Rows(u64),
    /// The first cell of the first row.
    Number(u64),
    /// The sum of the last cells of all rows.
    Sum(u64),
}

impl Question {
    /// The rows, or the number, that must be answered.
    pub(super) fn expected(&self) -> u64 {
        match self.expected {
            Expected::Rows(number) | Expected::Number(number) | Expected::Sum(number) => number,
        }
    }

    /// Compares an answer with what is known.
    ///
    /// # Errors
    /// When it is another one.
    pub(super) fn check(&self, rows: &[Vec<Value>]) -> Result<()> {
        let (answered, expected) = match self.expected {
            Expected::Rows(expected) => (Some(rows.len() as u64), expected),
            Expected::Number(expected) => (rows.first().and_then(|row| row.first()?.as_u64()), expected),
            Expected::Sum(expected) => (rows.iter().map(|row| row.last()?.as_u64()).sum(), expected),
        };
        ensure!(answered == Some(expected), "{}: {answered:?} answered, {expected} are right", self.sql);
        Ok(())
    }
}

/// The questions about `rows` rows.
pub(super) fn questions(kind: Kind, rows: u64, lines: &line::Known, spans: &span::Known) -> Vec<Question> {
    let question = |name, note, sql, expected| Question { name, note, sql, expected };
    match kind {
        Kind::Logs => vec![
            question(
                "rare_word",
                "lines with a word that few have",
                format!("SELECT ts, service, body FROM logs WHERE match(body, '{}')", line::RARE),
                Expected::Rows(lines.rare),
            ),
            question(
                "common_word",
                "lines counted that have a word that many have",
                format!("SELECT count(*) FROM logs WHERE match(body, '{}')", line::COMMON),
                Expected::Number(lines.common),
            ),
            question(
                "per_minute",
                "all lines counted by minute and severity",
                "SELECT time_bucket('1m', ts) AS minute, severity, count(*) FROM logs GROUP BY 1, 2".to_owned(),
                Expected::Sum(rows),
            ),
        ],
        Kind::Traces => vec![
            question(
                "trace",
                "all spans of one trace",
                format!("SELECT * FROM spans WHERE trace_id = '{}'", hex(&spans.trace)),
                Expected::Rows(spans.trace_spans),
            ),
            question(
                "attribute",
                "spans that have a value of an attribute that few have",
                format!("SELECT trace_id, name FROM spans WHERE attributes['user.id'] = '{}'", span::USER),
                Expected::Rows(spans.of_user),
            ),
            question(
                "errors",
                "spans with an error, counted",
                "SELECT count(*) FROM spans WHERE status = 'error'".to_owned(),
                Expected::Number(spans.errors),
            ),
            question(
                "p99",
                "the 99th percentile of durations by service",
                "SELECT service, approx_percentile(duration, 0.99) AS p99, count(*) FROM spans GROUP BY 1".to_owned(),
                Expected::Sum(rows),
            ),
        ],
    }
}
