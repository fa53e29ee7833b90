//! Objects declared in YAML, as the statements that create them: each field is a clause, under its name in SQL.
//!
//! ```yaml
//! continuous_queries:
//!   - {name: cpu_1m, into: cpu_1m, watermark: 30s, select: "SELECT …"}
//! detectors:
//!   - {name: cpu_mean, on: cpu_1m, key: [host], value: mean, model: cpu, into: cpu_anomalies}
//! alerts:
//!   - {name: cpu_odd, on: {detector: cpu_mean, where: score > 1}, for: 2m, notify: [{webhook: "http://…"}]}
//! ```
//! What a clause may say is for the server to check: here it gets its words, quotes and brackets.
use anyhow::{Context as _, bail, ensure};
use serde_yaml_ng::{Mapping, Value};

/// How the value of a field is written.
#[derive(Clone, Copy)]
enum Form {
    /// The name of an object or a table.
    Name,
    /// The name of a table, or what SQL takes for one, such as `metrics."x"`.
    Table,
    /// The name of a column, or an expression.
    Value,
    /// In quotes.
    Text,
    /// As it is.
    Raw,
    /// As it is, in brackets.
    Bracketed,
    /// Names in brackets.
    Names,
    /// `(name = 'text', …)`
    Pairs,
    /// `none`, or a time after `FROM`.
    Begin,
    /// `(TIER 1 WHEN score > 0.5, …)` of `[{tier: 1, above: 0.5}, …]`.
    Tiers,
    /// What an alert watches: a detector and a condition, a SELECT, or PromQL.
    Watched,
    /// `(WEBHOOK 'http://…', …)` of `[{webhook: "http://…"}, …]`.
    Targets,
    /// Clauses of their own.
    Clauses(&'static [Clause]),
}

/// A field, the words of its clause, how its value is written.
type Clause = (&'static str, &'static str, Form);

/// The fields of a file: what they declare, in the order in which objects may read each other.
const KINDS: [(&str, &str, &[Clause]); 5] = [
    (
        "continuous_queries",
        "CONTINUOUS QUERY",
        &[
            ("name", "", Form::Name),
            ("into", "INTO", Form::Name),
            ("watermark", "WATERMARK", Form::Text),
            ("emit", "EMIT ON", Form::Raw),
            ("late", "LATE", Form::Raw),
            ("backfill", "BACKFILL", Form::Begin),
            ("select", "AS", Form::Raw),
        ],
    ),
    (DEFAULT_DETECTOR, "DEFAULT DETECTOR", &[("on", "ON", Form::Text)]),
    (
        "detectors",
        "DETECTOR",
        &[
            ("name", "", Form::Name),
            ("on", "ON", Form::Table),
            ("where", "WHERE", Form::Bracketed),
            ("key", "KEY", Form::Names),
            ("value", "VALUE", Form::Value),
            ("using", "USING", Form::Text),
            ("model", "USING MODEL", Form::Name),
            ("season", "SEASON", Form::Text),
            ("watermark", "WATERMARK", Form::Text),
            ("emit", "EMIT ON", Form::Raw),
            ("late", "LATE", Form::Raw),
            ("backfill", "BACKFILL", Form::Begin),
            ("escalate", "ESCALATE", Form::Tiers),
            ("into", "INTO", Form::Name),
        ],
    ),
    (
        "alerts",
        "ALERT",
        &[
            ("name", "", Form::Name),
            ("on", "ON", Form::Watched),
            ("every", "EVERY", Form::Text),
            ("for", "FOR", Form::Text),
            ("keep_firing_for", "KEEP FIRING FOR", Form::Text),
            ("labels", "LABELS", Form::Pairs),
            ("annotations", "ANNOTATIONS", Form::Pairs),
            ("notify", "NOTIFY", Form::Targets),
        ],
    ),
    (
        "silences",
        "SILENCE",
        &[
            ("name", "", Form::Name),
            ("on", "ON", Form::Text),
            ("comment", "COMMENT", Form::Text),
            ("daily", "DAILY", Form::Clauses(&[("from", "FROM", Form::Text), ("for", "FOR", Form::Text)])),
            (
                "weekly",
                "WEEKLY",
                Form::Clauses(&[("on", "ON", Form::Names), ("from", "FROM", Form::Text), ("for", "FOR", Form::Text)]),
            ),
            ("from", "FROM", Form::Text),
            ("until", "UNTIL", Form::Text),
            ("for", "FOR", Form::Text),
        ],
    ),
];
const DEFAULT_DETECTOR: &str = "default_detector";

/// What a file declares: where it stands there, and the statement without `CREATE`.
///
/// # Errors
/// For what is not YAML, and for fields that do not exist, with the place.
pub(super) fn statements(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let file: Mapping = serde_yaml_ng::from_str(text)?;
    ensure!(
        !file.contains_key("groups"),
        "this is a rule file of Prometheus: name it in rule_files of the server's configuration, where it runs unchanged"
    );
    let known: Vec<&str> = KINDS.iter().map(|(field, ..)| *field).collect();
    no_other(&file, &known)?;
    let mut statements = Vec::new();
    for (field, kind, clauses) in KINDS {
        let Some(declared) = file.get(field) else { continue };
        let one = [declared.clone()];
        let objects: &[Value] = match declared {
            Value::Mapping(_) if field == DEFAULT_DETECTOR => &one,
            Value::Sequence(objects) if field != DEFAULT_DETECTOR => objects,
            _ => bail!("{field}: write {}", if field == DEFAULT_DETECTOR { "the fields of one" } else { "a list" }),
        };
        for (place, object) in objects.iter().enumerate() {
            let name = object.get("name").and_then(Value::as_str);
            let place = match name {
                Some(name) => format!("{field}: {name}"),
                None if field == DEFAULT_DETECTOR => field.to_owned(),
                None => format!("{field}: {} from the top", place + 1),
            };
            let mut statement = kind.to_owned();
            written(object, clauses, &mut statement).with_context(|| place.clone())?;
            statements.push((place, statement));
        }
    }
    Ok(statements)
}

/// Refuses fields that are none of `known`.
fn no_other(fields: &Mapping, known: &[&str]) -> anyhow::Result<()> {
    let is_known = |field: &Value| field.as_str().is_some_and(|field| known.contains(&field));
    match fields.keys().find(|field| !is_known(field)) {
        None => Ok(()),
        Some(field) => {
            let field = scalar(field).unwrap_or_else(|_| "a field that is no text".to_owned());
            bail!("unknown field {field}: known are {}", known.join(", "))
        }
    }
}

/// Adds the clauses of `object`, in the order in which SQL has them.
fn written(object: &Value, clauses: &[Clause], out: &mut String) -> anyhow::Result<()> {
    let fields = object.as_mapping().context("write fields and their values")?;
    no_other(fields, &clauses.iter().map(|(field, ..)| *field).collect::<Vec<_>>())?;
    for (field, words, form) in clauses {
        let Some(value) = fields.get(*field) else { continue };
        for part in [words, form.write(value).with_context(|| (*field).to_owned())?.as_str()] {
            if !part.is_empty() {
                // A comment ends with its line.
                let comment = out.rsplit('\n').next().is_some_and(|line| line.contains("--"));
                out.push(if comment { '\n' } else { ' ' });
                out.push_str(part);
            }
        }
    }
    Ok(())
}

impl Form {
    fn write(self, value: &Value) -> anyhow::Result<String> {
        let list = || value.as_sequence().filter(|list| !list.is_empty()).context("write a list");
        let in_brackets = |items: Vec<String>| format!("({})", items.join(", "));
        Ok(match self {
            Self::Name => quoted(&scalar(value)?, '"'),
            Self::Text => quoted(&scalar(value)?, '\''),
            Self::Table => match scalar(value)? {
                sql if sql.contains(['"', '.']) => sql,
                name => quoted(&name, '"'),
            },
            Self::Value => match scalar(value)? {
                name if name.chars().all(|c| c.is_alphanumeric() || c == '_') => quoted(&name, '"'),
                expression => bracketed(&expression),
            },
            Self::Raw => scalar(value)?,
            Self::Bracketed => bracketed(&scalar(value)?),
            Self::Begin => match scalar(value)? {
                none if none.eq_ignore_ascii_case("none") => none,
                from => format!("FROM {}", quoted(&from, '\'')),
            },
            Self::Names => {
                let name = |value| Ok(quoted(&scalar(value)?, '"'));
                in_brackets(list()?.iter().map(name).collect::<anyhow::Result<_>>()?)
            }
            Self::Pairs => {
                let pairs = value.as_mapping().context("write names and their texts")?;
                let pair =
                    |(name, text)| Ok(format!("{} = {}", quoted(&scalar(name)?, '"'), quoted(&scalar(text)?, '\'')));
                in_brackets(pairs.iter().map(pair).collect::<anyhow::Result<_>>()?)
            }
            Self::Tiers => {
                const STEP: &[Clause] = &[("tier", "TIER", Form::Raw), ("above", "WHEN score >", Form::Raw)];
                in_brackets(list()?.iter().map(|step| clauses(step, STEP)).collect::<anyhow::Result<_>>()?)
            }
            Self::Watched => {
                const ON: &[Clause] = &[
                    ("detector", "DETECTOR", Form::Name),
                    ("where", "WHERE", Form::Raw),
                    ("select", "", Form::Bracketed),
                    ("promql", "PROMQL", Form::Text),
                ];
                clauses(value, ON)?
            }
            Self::Targets => {
                const TARGET: &[Clause] =
                    &[("webhook", "WEBHOOK", Form::Text), ("alertmanager", "ALERTMANAGER", Form::Text)];
                in_brackets(list()?.iter().map(|target| clauses(target, TARGET)).collect::<anyhow::Result<_>>()?)
            }
            Self::Clauses(known) => clauses(value, known)?,
        })
    }
}

fn clauses(object: &Value, known: &[Clause]) -> anyhow::Result<String> {
    let mut out = String::new();
    written(object, known, &mut out)?;
    Ok(out.trim_start().to_owned())
}

/// A text, a number or a truth value, as it is written.
fn scalar(value: &Value) -> anyhow::Result<String> {
    match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => bail!("write one value"),
    }
}

/// On lines of its own if it has a comment, which ends with the line.
fn bracketed(sql: &str) -> String {
    format!("({sql}{})", if sql.contains("--") { "\n" } else { "" })
}

fn quoted(text: &str, quote: char) -> String {
    format!("{quote}{}{quote}", text.replace(quote, &format!("{quote}{quote}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str = r#"
alerts:
  - name: cpu_odd
    on: {detector: cpu_mean, where: score > 1 AND host <> 'x'}
    for: 2m
    labels: {severity: page, "odd name": "it's"}
    annotations:
      summary: '{{ $labels.host }}'
    notify: [{webhook: "http://127.0.0.1:1/a"}, {alertmanager: "http://127.0.0.1:2"}]
  - {name: many, on: {promql: "sum(up) < 3"}, every: 15s, keep_firing_for: 5m}
  - {name: rows, on: {select: "SELECT host, max(value) AS v FROM cpu GROUP BY host"}}
detectors:
  - {name: cpu_mean, on: cpu_1m, where: host <> 'c' -- no, key: [host, Zone], value: mean * 2, model: cpu, watermark: 30s, late: revise within '10m',
     escalate: [{tier: 1, above: 0.5}, {tier: 2, above: 0.80}], into: odd}
default_detector: {on: '{job="node"}'}
continuous_queries:
  - name: cpu_1m
    into: cpu_1m
    emit: window close
    backfill: none
    select: |
      SELECT time_bucket('1m', ts) AS ts, host, avg(value) AS mean
      FROM cpu GROUP BY 1, 2
silences:
  - {name: night, weekly: {on: [sat, sun], from: "22:00", for: 8h}, comment: nobody is there}
  - {name: now, on: '{a="b"}', for: 2h}
"#;

    #[test]
    fn each_field_is_a_clause_and_what_is_read_comes_first() {
        let statements: Vec<String> = statements(FILE).unwrap().into_iter().map(|(_, statement)| statement).collect();
        assert_eq!(
            statements,
            [
                "CONTINUOUS QUERY \"cpu_1m\" INTO \"cpu_1m\" EMIT ON window close BACKFILL none AS SELECT time_bucket('1m', ts) AS ts, host, avg(value) AS mean\nFROM cpu GROUP BY 1, 2",
                "DEFAULT DETECTOR ON '{job=\"node\"}'",
                "DETECTOR \"cpu_mean\" ON \"cpu_1m\" WHERE (host <> 'c' -- no\n) KEY (\"host\", \"Zone\") VALUE (mean * 2) USING MODEL \"cpu\" WATERMARK '30s' LATE revise within '10m' ESCALATE (TIER 1 WHEN score > 0.5, TIER 2 WHEN score > 0.8) INTO \"odd\"",
                "ALERT \"cpu_odd\" ON DETECTOR \"cpu_mean\" WHERE score > 1 AND host <> 'x' FOR '2m' LABELS (\"severity\" = 'page', \"odd name\" = 'it''s') ANNOTATIONS (\"summary\" = '{{ $labels.host }}') NOTIFY (WEBHOOK 'http://127.0.0.1:1/a', ALERTMANAGER 'http://127.0.0.1:2')",
                "ALERT \"many\" ON PROMQL 'sum(up) < 3' EVERY '15s' KEEP FIRING FOR '5m'",
                "ALERT \"rows\" ON (SELECT host, max(value) AS v FROM cpu GROUP BY host)",
                "SILENCE \"night\" COMMENT 'nobody is there' WEEKLY ON (\"sat\", \"sun\") FROM '22:00' FOR '8h'",
                "SILENCE \"now\" ON '{a=\"b\"}' FOR '2h'",
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (file, expected) in [
            ("detectors: [{name: d, of: m}]", "detectors: d: unknown field of: known are name, on, where,"),
            ("detectors: {name: d}", "detectors: write a list"),
            ("default_detector: []", "default_detector: write the fields of one"),
            ("alerts: [{on: {promql: [a]}}]", "alerts: 1 from the top: on: promql: write one value"),
            ("alerts: [{name: a, notify: []}]", "alerts: a: notify: write a list"),
            ("models: []", "unknown field models: known are continuous_queries, default_detector,"),
            ("groups: []", "this is a rule file of Prometheus: name it in rule_files"),
            ("alerts: [a]", "alerts: 1 from the top: write fields and their values"),
        ] {
            let said = format!("{:#}", statements(file).unwrap_err());
            assert!(said.starts_with(expected), "{file}: {said}");
        }
        assert!(statements("a: [").is_err());
    }
}
