//! `foretell apply`: continuous queries, detectors and alerts as files declare them.
//!
//! ```text
//!  files, SQL or YAML ─► statements ─► EXPLAIN CREATE … ─► what would change, shown ─► CREATE OR REPLACE …, in the order of the files
//!                                          └► what no file declares: dropped with --prune, alerts first
//! ```
//! The server says what differs; nothing is kept here. Applying the same files twice changes nothing the second time.
mod yaml;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::red::is_built_in;
use crate::serve::say;
use crate::shell::client::Client;
use crate::shell::statement::split;
use crate::verify::cannot;

/// Largest file.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files and statements at once.
const FILES_MAX: usize = 10_000;
/// Rows of an answer of the server that are read: properties of one object, or names.
const ROWS_MAX: usize = 100_000;

/// What statements may declare, as the server names it, with the table of their names; what is dropped first comes first.
const KINDS: [(&str, &str); 5] = [
    ("alert", "SELECT DISTINCT name FROM sys.alerts ORDER BY name"),
    ("silence", "SELECT name FROM sys.silences ORDER BY name"),
    ("detector", "SELECT name FROM sys.detectors ORDER BY name"),
    ("continuous query", "SELECT name FROM sys.continuous_queries ORDER BY name"),
    (DEFAULT_DETECTOR, "SELECT 'default' FROM sys.default_detector"),
];
/// There is one, without a name.
const DEFAULT_DETECTOR: &str = "default detector";

/// `foretell apply`.
#[derive(Args, Debug)]
#[command(
    after_help = "Files hold CREATE CONTINUOUS QUERY, CREATE [DEFAULT] DETECTOR, CREATE ALERT and CREATE SILENCE statements, each with a semicolon at its end; \
    an object comes after those that it reads. Those that end in .yml or .yaml hold the same as YAML: docs/alerts.md.\n\
    Of a folder all files that end in .sql, .yml or .yaml are read, in the order of their names.\n\
    Exit codes: 0 all is as declared (or would be), 1 a statement failed, 2 the files or the server cannot be read.\n\n\
    Examples:\n  \
    foretell apply -f alerts/ --dry-run        show what would change\n  \
    foretell apply -f alerts/                  change it\n  \
    foretell apply -f alerts/ --prune          and drop what no file declares"
)]
pub struct ApplyArgs {
    /// File or folder; may be given more than once
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Where the server is
    #[arg(long, env = "FORETELL_URL", default_value = "http://127.0.0.1:8484")]
    url: String,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Drop continuous queries, detectors, alerts and silences that no file declares
    #[arg(long)]
    prune: bool,
}

/// A statement of a file.
struct Declared {
    /// File and line, or the name there, for people.
    place: String,
    /// From its first word on, without `CREATE` or `OR REPLACE`.
    text: String,
}

/// An object as the server sees a statement.
struct Planned {
    kind: String,
    name: String,
    change: Change,
}

/// What becomes of an object.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Create,
    /// Properties that differ.
    Replace(Vec<String>),
    Unchanged,
}

impl ApplyArgs {
    pub(crate) fn run(&self) -> ExitCode {
        let declared = match declared(&self.files) {
            Ok(declared) => declared,
            Err(error) => return cannot(&error),
        };
        match self.apply(&declared) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("foretell: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn apply(&self, declared: &[Declared]) -> anyhow::Result<()> {
        let client = Client::new(&self.url, None);
        let mut names = BTreeSet::new();
        let mut planned = Vec::with_capacity(declared.len());
        for statement in declared {
            let rows = rows(&client, &format!("EXPLAIN CREATE OR REPLACE {}", statement.text));
            let one = plan(&rows.with_context(|| statement.place.clone())?)?;
            ensure!(
                names.insert((one.kind.clone(), one.name.clone())),
                "{}: {} {} is declared twice",
                statement.place,
                one.kind,
                one.name
            );
            planned.push(one);
        }
        let surplus = if self.prune { surplus(&client, &names)? } else { Vec::new() };
        for Planned { kind, name, change } in &planned {
            match change {
                Change::Create => say(&format!("+ {kind} {name}")),
                Change::Replace(properties) => {
                    say(&format!("~ {kind} {name}"));
                    properties.iter().for_each(|property| say(&format!("    {property}")));
                }
                Change::Unchanged => {}
            }
        }
        surplus.iter().for_each(|(kind, name)| say(&format!("- {kind} {name}")));
        let changed = planned.iter().filter(|one| one.change != Change::Unchanged).count();
        let (unchanged, dropped) = (planned.len() - changed, surplus.len());
        if self.dry_run {
            say(&format!("{changed} to change, {dropped} to drop, {unchanged} unchanged"));
            return Ok(());
        }
        for (statement, one) in declared.iter().zip(&planned) {
            if one.change != Change::Unchanged {
                rows(&client, &format!("CREATE OR REPLACE {}", statement.text))
                    .with_context(|| statement.place.clone())?;
            }
        }
        for (kind, name) in &surplus {
            let sql = match *kind {
                DEFAULT_DETECTOR => format!("DROP {kind} IF EXISTS"),
                _ => format!("DROP {kind} IF EXISTS \"{name}\""),
            };
            rows(&client, &sql).with_context(|| format!("dropping {name}"))?;
        }
        say(&format!("{changed} changed, {dropped} dropped, {unchanged} unchanged"));
        Ok(())
    }
}

/// What the server has and nobody declares, in the order in which it is dropped.
fn surplus(client: &Client, declared: &BTreeSet<(String, String)>) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut surplus = Vec::new();
    for (kind, names) in KINDS {
        for row in rows(client, names)? {
            let name = row.first().and_then(Value::as_str).context("a name that is no text")?;
            // Those that the server's configuration names are declared there.
            if !declared.contains(&(kind.to_owned(), name.to_owned())) && !is_built_in(name) {
                surplus.push((kind, name.to_owned()));
            }
        }
    }
    Ok(surplus)
}

fn rows(client: &Client, sql: &str) -> anyhow::Result<Vec<Vec<Value>>> {
    Ok(client.rows(sql, ROWS_MAX)?.rows)
}

/// Reads the answer of `EXPLAIN CREATE`.
fn plan(rows: &[Vec<Value>]) -> anyhow::Result<Planned> {
    let text = |row: &[Value], at: usize| row.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let first = rows.first().context("the server did not say what would change: is it an older one?")?;
    let change = match text(first, 2).as_str() {
        "create" => Change::Create,
        "unchanged" => Change::Unchanged,
        "replace" => Change::Replace(
            rows.iter().map(|row| format!("{}: {} → {}", text(row, 3), text(row, 4), text(row, 5))).collect(),
        ),
        other => bail!("the server answers with a change \"{other}\" that is not known here: use its own version"),
    };
    Ok(Planned { kind: text(first, 0), name: text(first, 1), change })
}

/// The statements of files and folders.
fn declared(paths: &[PathBuf]) -> anyhow::Result<Vec<Declared>> {
    let mut statements = Vec::new();
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
                found.push(entry?.path());
            }
            found.retain(|path| is_yaml(path) || path.extension().is_some_and(|extension| extension == "sql"));
            ensure!(!found.is_empty(), "{} has no file that ends in .sql, .yml or .yaml", path.display());
            found.sort();
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    ensure!(files.len() <= FILES_MAX, "{} files are more than {FILES_MAX}", files.len());
    for file in &files {
        let text = read(file)?;
        if is_yaml(file) {
            let declared = yaml::statements(&text).with_context(|| file.display().to_string())?;
            let place = |place| format!("{}: {place}", file.display());
            statements.extend(declared.into_iter().map(|(at, text)| Declared { place: place(at), text }));
            continue;
        }
        for statement in split(&text) {
            let at = statement.as_ptr() as usize - text.as_ptr() as usize;
            let place = format!("{}:{}", file.display(), text[..at].matches('\n').count() + 1);
            let text = declaration(statement).with_context(|| {
                format!(
                    "{place}: only CREATE CONTINUOUS QUERY, CREATE [DEFAULT] DETECTOR, CREATE ALERT and CREATE SILENCE can be declared"
                )
            })?;
            statements.push(Declared { place, text: text.to_owned() });
        }
    }
    ensure!(!statements.is_empty(), "no statement in {} files", files.len());
    Ok(statements)
}

/// Whether a file is read as YAML.
fn is_yaml(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
}

#[allow(clippy::disallowed_methods, reason = "files of the user, not of a store")]
fn read(file: &Path) -> anyhow::Result<String> {
    let name = || file.display().to_string();
    let bytes = std::fs::metadata(file).with_context(name)?.len();
    ensure!(bytes <= FILE_BYTES_MAX, "{} has {bytes} bytes, the limit is {FILE_BYTES_MAX}", name());
    std::fs::read_to_string(file).with_context(name)
}

/// What follows `CREATE` or `CREATE OR REPLACE`, if it declares what can be declared.
fn declaration(statement: &str) -> Option<&str> {
    let rest = word(without_comments(statement), "create")?;
    let rest = match word(rest, "or") {
        Some(replace) => word(replace, "replace")?,
        None => rest,
    };
    let known = word(rest, "continuous").and_then(|rest| word(rest, "query"));
    let known = known.or_else(|| word(rest, "default").filter(|rest| begins(rest, "detector")));
    known
        .or_else(|| word(rest, "detector"))
        .or_else(|| word(rest, "alert"))
        .or_else(|| word(rest, "silence"))
        .map(|_| rest)
}

/// Whether a text begins with a word.
fn begins(text: &str, word: &str) -> bool {
    let after = text.get(..word.len()).filter(|first| first.eq_ignore_ascii_case(word)).map(|_| &text[word.len()..]);
    after.is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// What follows a word.
fn word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (first, rest) = text.split_at_checked(word.len())?;
    (first.eq_ignore_ascii_case(word) && rest.starts_with(char::is_whitespace)).then(|| without_comments(rest))
}

/// Text from its first word on.
fn without_comments(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let comment = text.strip_prefix("--").map(|rest| rest.split_once('\n').map_or("", |(_, rest)| rest));
        match comment.or_else(|| text.strip_prefix("/*").map(|rest| rest.split_once("*/").map_or("", |(_, rest)| rest)))
        {
            Some(rest) => text = rest,
            None => return text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_declared_is_a_declaration() {
        for (statement, rest) in [
            ("CREATE ALERT a ON x", Some("ALERT a ON x")),
            ("-- why\n create /* now */ OR replace\n detector d ON m", Some("detector d ON m")),
            ("CREATE CONTINUOUS QUERY q INTO t AS SELECT 1", Some("CONTINUOUS QUERY q INTO t AS SELECT 1")),
            ("CREATE DEFAULT DETECTOR", Some("DEFAULT DETECTOR")),
            ("CREATE OR REPLACE DEFAULT detector ON '{a=\"b\"}'", Some("DEFAULT detector ON '{a=\"b\"}'")),
            ("CREATE DEFAULT", None),
            ("CREATE OR ALERT a", None),
            ("CREATE TABLE t", None),
            ("DROP ALERT a", None),
            ("CREATEALERT a", None),
            ("CREATE CONTINUOUS", None),
            ("--", None),
        ] {
            assert_eq!(declaration(statement), rest, "{statement}");
        }
    }
}
