//! `detected_fields`: what could be parsed out of the newest lines, and the metadata that they have.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::logql::{self, Entry, LogQuery, Origin, json as json_lines, logfmt};
use super::lines::ANSWER_BYTES_MAX;
use super::params::{LINES_MAX, Params};
use super::read::{Deadline, Rows, Select, Sink, scan};
use crate::app::App;
use crate::error::ApiError;
use crate::http::respond;

/// Fields, and values of a field, of an answer, unless the request says how many; most of them.
const FOUND: usize = 1_000;
/// Lines that are looked at, unless the request says how many.
const LINES: usize = 1_000;
/// Memory of a value besides its text, and of its field's name.
const VALUE_BYTES: usize = 64;

/// `detected_fields`, or with a name the values of one field.
pub(super) async fn answer(app: &Arc<App>, params: &Params, name: Option<&str>) -> Result<Response, ApiError> {
    let query = params.lines()?;
    let range = params.range()?;
    let limit = params.count("limit", FOUND, LINES_MAX)?;
    let lines = params.count("line_limit", LINES, LINES_MAX)?;
    // What a stage passes over is not looked at; so that there are lines at all, more rows are read.
    let rows = if query.filters_rows() { lines * 10 } else { lines };
    let select = Select {
        query: &query,
        text: params.one("query").unwrap_or_default(),
        range,
        order: format!("ORDER BY ts DESC LIMIT {rows}"),
        until: Deadline::of(app),
    };
    let sink = Fields { query: query.clone(), left: lines, limit, bytes: 0, fields: BTreeMap::new() };
    let fields = scan(app, select, sink).await?.fields;
    let body = match name {
        Some(name) => {
            let values = fields.into_iter().find(|(other, _)| other == name).map(|(_, field)| field.values);
            let values: Vec<String> = values.unwrap_or_default().into_iter().take(limit).collect();
            json!({ "values": values, "limit": limit })
        }
        None => {
            let fields: Vec<Value> = fields.into_iter().take(limit).map(|(name, field)| field.json(&name)).collect();
            json!({ "fields": fields, "limit": limit })
        }
    };
    Ok(respond::json(StatusCode::OK, body.to_string()))
}

/// What lines have.
struct Fields {
    query: LogQuery,
    /// Lines that are still looked at.
    left: usize,
    /// Fields, and values of each.
    limit: usize,
    bytes: usize,
    fields: BTreeMap<String, Field>,
}

struct Field {
    kind: &'static str,
    values: BTreeSet<String>,
    /// `json` or `logfmt`; none for metadata.
    parsers: BTreeSet<&'static str>,
    /// Where it lies in JSON.
    path: Vec<String>,
}

impl Field {
    fn json(self, name: &str) -> Value {
        let parsers = if self.parsers.is_empty() { Value::Null } else { json!(self.parsers) };
        let mut field =
            json!({ "label": name, "type": self.kind, "cardinality": self.values.len(), "parsers": parsers });
        if !self.path.is_empty() {
            field["jsonPath"] = json!(self.path);
        }
        field
    }
}

impl Sink for Fields {
    fn take(&mut self, rows: &Rows<'_>) -> Result<(), ApiError> {
        for row in 0..rows.len() {
            let mut entry = rows.entry(row);
            if self.left == 0 {
                return Ok(());
            }
            if !self.query.apply(&mut entry) {
                continue;
            }
            self.left -= 1;
            for (name, value, origin) in entry.labels() {
                if origin == Origin::Metadata {
                    self.add(name, value, None, &[]);
                }
            }
            // As the line is stored, whatever the stages made of it.
            let line = rows.line(row);
            if let Some(node) = json_lines::parse(line).filter(json_lines::Node::is_object) {
                node.fields(&mut |path, value| {
                    let name = free_name(&path.join("_"), &entry);
                    self.add(&name, value, Some("json"), path);
                });
            } else {
                logfmt::fields(line, &mut |key, value| {
                    if let Some(value) = value.filter(|value| !value.is_empty()) {
                        self.add(&free_name(key, &entry), value, Some("logfmt"), &[]);
                    }
                });
            }
        }
        Ok(())
    }
}

/// The name under which a parser would add the field.
fn free_name(name: &str, entry: &Entry<'_>) -> String {
    let name = logql::sanitized(name);
    let taken = entry.labels().iter().any(|(other, _, origin)| *other == name && *origin != Origin::Parsed);
    if taken { format!("{name}_extracted") } else { name }
}

impl Fields {
    fn add(&mut self, name: &str, value: &str, parser: Option<&'static str>, path: &[&str]) {
        let full = self.fields.len() >= self.limit && !self.fields.contains_key(name);
        let bytes = name.len() + value.len() + VALUE_BYTES;
        if name.is_empty() || full || self.bytes + bytes > ANSWER_BYTES_MAX {
            return;
        }
        let kind = kind_of(value);
        let field = self.fields.entry(name.to_owned()).or_insert_with(|| Field {
            kind,
            values: BTreeSet::new(),
            parsers: BTreeSet::new(),
            path: path.iter().map(|&step| step.to_owned()).collect(),
        });
        if field.kind != kind {
            field.kind =
                if matches!((field.kind, kind), ("int", "float") | ("float", "int")) { "float" } else { "string" };
        }
        field.parsers.extend(parser);
        if field.values.len() < self.limit && field.values.insert(value.to_owned()) {
            self.bytes += bytes;
        }
    }
}

/// What the values of a field are.
fn kind_of(value: &str) -> &'static str {
    if value.parse::<i64>().is_ok() {
        "int"
    } else if value.parse::<f64>().is_ok() {
        "float"
    } else if matches!(value, "true" | "false") {
        "boolean"
    } else if logql::duration_ns(value).is_some() {
        "duration"
    } else if logql::bytes(value).is_some() {
        "bytes"
    } else {
        "string"
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn short_values_of_many_fields_take_no_more_memory_than_an_answer_may() {
        let query = LogQuery::parse("{app=\"shop\"}").unwrap();
        let mut fields = Fields { query, left: 1, limit: LINES_MAX, bytes: 0, fields: BTreeMap::new() };
        for value in 0..2_000 {
            let value = value.to_string();
            (0..500).for_each(|name| fields.add(&format!("f{name}"), &value, Some("json"), &[]));
        }
        let values: usize = fields.fields.values().map(|field| field.values.len()).sum();
        assert!(values * VALUE_BYTES <= ANSWER_BYTES_MAX, "{values}");
        assert!(values > 400_000 && fields.bytes <= ANSWER_BYTES_MAX, "{values}");
    }
}
