//! Logs whose lines name the statement that wrote them: the truth about groups without anybody's labels.
//!
//! Read are CSV files with the columns `PodName` and `Log`, the latter a JSON object with the line in `log`, as Nezha has
//! them of TrainTicket:
//! ```text
//! 17:35:38.386 INFO  o.s.OrderServiceImpl#365 TraceID: 0493… SpanID: 8826… [getOrderById][Get Order By ID Success][OrderId: …]
//!                    └──── statement ───────┘                              └──────────────── message ──────────────────┘
//! ```
//! A group is a statement of a service. Statements that have ever written the same message, but for its words with digits, are
//! one: nobody could tell them apart.
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Log, SUFFIX, rows};

/// Every `*.csv` in `dir`, in the order of their names, as one log.
///
/// # Errors
/// When a file cannot be read or lacks a column, or no line names its statement.
pub(super) fn read(dir: &Path) -> Result<Log> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .map(|entry| -> Result<PathBuf> { Ok(entry?.path()) })
        .collect::<Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "csv"));
    files.sort();
    let mut log = Log { name: format!("statements{SUFFIX}"), ids: Vec::new(), lines: Vec::new(), truth: Vec::new() };
    let (mut statements, mut groups) = (HashMap::new(), Groups::default());
    let mut of_line = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut rows = rows(&text).into_iter();
        let header = rows.next().unwrap_or_default();
        let place = |name: &str| {
            let place = header.iter().position(|column| column == name);
            place.with_context(|| format!("{}: no column {name}", path.display()))
        };
        let (pod, line) = (place("PodName")?, place("Log")?);
        for row in rows.filter(|row| row.len() == header.len()) {
            let Ok(record) = serde_json::from_str::<serde_json::Value>(&row[line]) else { continue };
            let Some((statement, message)) = record["log"].as_str().and_then(parts) else { continue };
            let key = format!("{} {statement}", service(&row[pod]));
            let next = statements.len();
            let statement = *statements.entry(key).or_insert(next);
            groups.join(statement, without_values(message));
            of_line.push(statement);
            log.ids.push((log.ids.len() + 1).to_string());
            log.lines.push(message.to_owned());
        }
    }
    ensure!(!log.lines.is_empty(), "{}: no line that names its statement", dir.display());
    log.truth = of_line.into_iter().map(|statement| groups.of(statement).to_string()).collect();
    Ok(log)
}

/// A pod's name without its two suffixes.
fn service(pod: &str) -> &str {
    pod.rsplitn(3, '-').nth(2).unwrap_or(pod)
}

/// The statement of a line, and what it says.
fn parts(line: &str) -> Option<(&str, &str)> {
    let (head, rest) = line.split_once(" SpanID: ")?;
    let statement = head.split(" TraceID: ").next()?.rsplit(' ').next()?;
    let message = rest.split_once(' ').map_or("", |(_, message)| message);
    statement.contains('#').then_some((statement, message.trim()))
}

/// A message with `#` for each of its words that holds a digit.
fn without_values(message: &str) -> String {
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !in_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        out.push_str(if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
        let marks = after.find(in_word).unwrap_or(after.len());
        out.push_str(&after[..marks]);
        rest = &after[marks..];
    }
    out
}

/// Statements joined by what they have written.
#[derive(Default)]
struct Groups {
    first: HashMap<String, usize>,
    /// Of each statement one of its group; itself for one of each group.
    parent: Vec<usize>,
}

impl Groups {
    fn join(&mut self, statement: usize, text: String) {
        while self.parent.len() <= statement {
            self.parent.push(self.parent.len());
        }
        let first = *self.first.entry(text).or_insert(statement);
        let (a, b) = (self.of(first), self.of(statement));
        self.parent[a.max(b)] = a.min(b);
    }

    fn of(&self, mut statement: usize) -> usize {
        while self.parent[statement] != statement {
            statement = self.parent[statement];
        }
        statement
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_grouped_by_the_statements_that_wrote_them() {
        let dir = tempfile::tempdir().unwrap();
        let line = |pod: &str, statement: &str, message: &str| {
            format!(
                "{pod},\"{{\"\"log\"\":\"\"17:35:38.386 INFO  {statement} TraceID: a SpanID: b {message}\\n\"\"}}\"\n"
            )
        };
        let text = [
            "PodName,Log\n".to_owned(),
            line("ts-order-5b67-mv5", "o.A#1", "[get][id: 1a-2b]"),
            line("ts-order-5b67-xyz", "o.A#1", "[get][name: ann]"),
            line("ts-order-5b67-mv5", "o.A#2", "[get][done]"),
            line("ts-other-99-mv5", "o.A#1", "[get][id: 7]"),
            line("ts-other-99-mv5", "o.A#2", "[set][done]"),
            "ts-other-99-mv5,no JSON\n".to_owned(),
        ];
        fs::write(dir.path().join("09_36_log.csv"), text.concat()).unwrap();
        let log = read(dir.path()).unwrap();
        assert_eq!(log.lines, ["[get][id: 1a-2b]", "[get][name: ann]", "[get][done]", "[get][id: 7]", "[set][done]"]);
        assert_eq!(log.truth, ["0", "0", "1", "0", "3"]);
        fs::write(dir.path().join("09_36_log.csv"), "PodName\n").unwrap();
        assert!(read(dir.path()).is_err_and(|e| e.to_string().contains("no column Log")));
    }
}
