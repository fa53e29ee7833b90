//! Where the value of a field comes from.
use foretell_query::event::Signal;
use regex::Regex;

use super::cell::Cell;
use super::row::Row;

/// Fields of log lines.
const LOG_FIELDS: &[&str] = &[
    "ts",
    "observed_ts",
    "service",
    "severity",
    "severity_number",
    "body",
    "trace_id",
    "span_id",
    "scope",
    "attributes",
    "attribute_types",
    "resource",
];
/// Fields of spans; `end` may stand for `duration`.
const SPAN_FIELDS: &[&str] = &[
    "ts",
    "duration",
    "end",
    "trace_id",
    "span_id",
    "parent_span_id",
    "service",
    "name",
    "kind",
    "status",
    "status_message",
    "events",
    "links",
    "attributes",
    "attribute_types",
    "resource",
];

/// Names of the fields of a signal.
pub(super) fn fields(signal: Signal) -> &'static [&'static str] {
    match signal {
        Signal::Logs => LOG_FIELDS,
        Signal::Spans => SPAN_FIELDS,
    }
}

/// What a rule gives a value to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Field(&'static str),
    Attribute(String),
    Resource(String),
}

/// Where it comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Path(String),
    Template(Vec<Piece>),
    Constant(String),
    Extract(String, Regex),
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Path(String),
}

/// Both.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) target: Target,
    source: Source,
}

impl Rule {
    /// The columns, or values inside of columns, that it reads.
    pub(super) fn paths(&self) -> Vec<&str> {
        match &self.source {
            Source::Path(path) | Source::Extract(path, _) => vec![path],
            Source::Constant(_) => Vec::new(),
            Source::Template(pieces) => {
                let paths = pieces.iter().filter_map(|piece| match piece {
                    Piece::Path(path) => Some(path.as_str()),
                    Piece::Text(_) => None,
                });
                paths.collect()
            }
        }
    }

    /// Its value in `row`, of which the texts that `is_null` knows are none.
    pub(super) fn value<'r>(&'r self, row: &'r Row<'_>, is_null: impl Fn(&Cell<'_>) -> bool) -> Cell<'r> {
        let find = |path: &str| Some(row.find(path)).filter(|cell| !is_null(cell));
        let value = match &self.source {
            Source::Path(path) => find(path),
            Source::Constant(text) => Some(Cell::text(text)),
            Source::Extract(path, regex) => find(path).and_then(|cell| {
                let text = cell.shown()?;
                Some(Cell::Text(regex.captures(&text)?.get(1)?.as_str().to_owned().into()))
            }),
            Source::Template(pieces) => filled(pieces, find).map(|text| Cell::Text(text.into())),
        };
        value.unwrap_or(Cell::Null)
    }
}

/// A template with its values, if all of them are there.
fn filled<'r>(pieces: &[Piece], find: impl Fn(&str) -> Option<Cell<'r>>) -> Option<String> {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Path(path) => text.push_str(&find(path)?.shown()?),
        }
    }
    Some(text)
}

/// A rule of `--map`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn mapped(signal: Signal, text: &str) -> Result<Rule, String> {
    let (target, source) = halves(signal, text)?;
    let source = if source.contains('{') { Source::Template(pieces(source)?) } else { Source::Path(source.to_owned()) };
    Ok(Rule { target, source })
}

/// A rule of `--set`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn constant(signal: Signal, text: &str) -> Result<Rule, String> {
    let (target, source) = halves(signal, text)?;
    Ok(Rule { target, source: Source::Constant(source.to_owned()) })
}

/// A rule of `--extract`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn extracted(signal: Signal, text: &str) -> Result<Rule, String> {
    let (target, source) = halves(signal, text)?;
    let (path, regex) = source.split_once('~').ok_or("expected FIELD=COLUMN~REGEX")?;
    let regex = Regex::new(regex).map_err(|error| error.to_string())?;
    if path.is_empty() || regex.captures_len() < 2 {
        return Err("expected a column, and a regular expression with a group in parentheses".to_owned());
    }
    Ok(Rule { target, source: Source::Extract(path.to_owned(), regex) })
}

fn halves(signal: Signal, text: &str) -> Result<(Target, &str), String> {
    let (target, source) = text.split_once('=').ok_or("expected FIELD=…")?;
    if source.is_empty() {
        return Err("nothing follows the =".to_owned());
    }
    for (prefix, made) in [
        ("attributes.", Target::Attribute as fn(String) -> Target),
        ("resource.", Target::Resource as fn(String) -> Target),
    ] {
        if let Some(key) = target.strip_prefix(prefix).filter(|key| !key.is_empty()) {
            return Ok((made(key.to_owned()), source));
        }
    }
    let fields = fields(signal);
    match fields.iter().find(|field| **field == target) {
        Some(&field) => Ok((Target::Field(field), source)),
        None => Err(format!(
            "{} have no field {target:?}; fields are {}, attributes.KEY and resource.KEY",
            signal.table_name(),
            fields.join(", ")
        )),
    }
}

fn pieces(template: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut rest) = (Vec::new(), template);
    while let Some((before, after)) = rest.split_once('{') {
        let (path, after) = after.split_once('}').ok_or("a { is not closed")?;
        if path.is_empty() {
            return Err("{} names no column".to_owned());
        }
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(Piece::Path(path.to_owned()));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(rule: Result<Rule, String>, fields: &[(&'static str, &'static str)]) -> String {
        let fields = fields.iter().map(|(name, text)| ((*name).into(), Cell::text(text))).collect();
        let row = Row { fields };
        let cell = match rule {
            Ok(rule) => rule.value(&row, |cell| *cell == Cell::text("-")).shown().map(String::from),
            Err(error) => Some(error),
        };
        cell.unwrap_or_else(|| "NULL".to_owned())
    }

    #[test]
    fn values_come_from_columns_texts_and_expressions() {
        let fields = [("Date", "03-17"), ("Time", "16:13"), ("Log", r#"{"log":"10:00 WARN x"}"#), ("none", "-")];
        for (text, expected) in [
            ("body=Date", "03-17"),
            ("body=Log.log", "10:00 WARN x"),
            ("ts=2017-{Date} {Time}", "2017-03-17 16:13"),
            ("ts={Date}{none}", "NULL"),
            ("body=none", "NULL"),
            ("body=other", "NULL"),
        ] {
            assert_eq!(value(mapped(Signal::Logs, text), &fields), expected, "{text}");
        }
        assert_eq!(value(constant(Signal::Logs, "service=a=b"), &fields), "a=b");
        let severity = |regex: &str| value(extracted(Signal::Logs, &format!("severity=Log.log~{regex}")), &fields);
        assert_eq!(severity(r"^\S+ (INFO|WARN) "), "WARN");
        assert_eq!(severity("(ERROR)"), "NULL");
    }

    #[test]
    fn rules_that_cannot_work_are_refused() {
        for (rule, because) in [
            (mapped(Signal::Logs, "body"), "expected FIELD="),
            (mapped(Signal::Logs, "duration=x"), "logs have no field \"duration\"; fields are ts"),
            (mapped(Signal::Spans, "name="), "nothing follows"),
            (mapped(Signal::Spans, "name={x"), "not closed"),
            (mapped(Signal::Spans, "attributes.=x"), "no field"),
            (extracted(Signal::Spans, "name=x"), "COLUMN~REGEX"),
            (extracted(Signal::Spans, "name=x~a"), "a group"),
            (extracted(Signal::Spans, "name=x~("), "unclosed group"),
        ] {
            let error = rule.unwrap_err();
            assert!(error.contains(because), "{error}");
        }
        let of_key = mapped(Signal::Spans, "attributes.a.b=x").unwrap();
        assert_eq!(of_key.target, Target::Attribute("a.b".to_owned()));
    }
}
