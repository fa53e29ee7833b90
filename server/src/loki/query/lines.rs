//! Lines of a log query: the newest, or the oldest, that come through its stages.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use foretell_engine::Snapshot;
use foretell_query::Memory;
use serde_json::{Map, Value, json};

use super::super::logql::{Entry, LogQuery, Origin};
use super::params::Params;
use super::read::{Deadline, Rows, Select, Sink, Stats, scan_over};
use crate::app::App;
use crate::error::ApiError;
use crate::http::respond;

/// Bytes of lines and labels of an answer, in memory.
pub(super) const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Memory of a label, and of a line, besides their texts.
const LABEL_BYTES: usize = 64;
const LINE_BYTES: usize = 128;
/// The answer is made of a second copy, and is a third.
const COPIES: usize = 3;
/// Memory is asked for in such steps.
pub(super) const RESERVE_BYTES: usize = 256 << 10;
/// With which a client asks to be told where labels come from.
const ENCODING_FLAGS: &str = "x-loki-response-encoding-flags";
pub(super) const CATEGORIZE: &str = "categorize-labels";

pub(super) async fn answer(
    app: &Arc<App>,
    params: &Params,
    headers: &HeaderMap,
    query: LogQuery,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let range = params.range()?;
    let limit = params.limit()?;
    let backward = match params.one("direction").map(str::to_ascii_lowercase).as_deref() {
        None | Some("backward") => true,
        Some("forward") => false,
        Some(other) => {
            let why = format!("invalid parameter \"direction\": {other:?} is neither forward nor backward");
            return Err(ApiError::bad_data(why));
        }
    };
    let categorized = categorized(headers);
    let text = params.one("query").unwrap_or_default();
    let best = best(app, &query, text, range, (limit, backward), None).await?;
    Ok(respond::json(StatusCode::OK, best.json(started, categorized)))
}

/// Whether the client wants to be told where labels come from.
pub(super) fn categorized(headers: &HeaderMap) -> bool {
    let flags = headers.get(ENCODING_FLAGS).and_then(|flags| flags.to_str().ok()).unwrap_or_default();
    flags.split(',').any(|flag| flag.trim() == CATEGORIZE)
}

/// The lines that come first, or last, in `range`: of `snapshot` or one of now.
async fn best(
    app: &Arc<App>,
    query: &LogQuery,
    text: &str,
    range: (i64, i64),
    (limit, backward): (usize, bool),
    snapshot: Option<Snapshot>,
) -> Result<Best, ApiError> {
    // Where stages pass lines over it is not known how many rows make so many lines: all are read, and the best kept.
    let order = if query.filters_rows() {
        String::new()
    } else {
        format!("ORDER BY ts {} LIMIT {limit}", if backward { "DESC" } else { "ASC" })
    };
    let sink = Best {
        query: query.clone(),
        limit,
        backward,
        kept: BTreeMap::new(),
        number: 0,
        bytes: 0,
        reserved: 0,
        memory: app.store()?.database.memory("lines of a LogQL query"),
        stats: Stats::default(),
    };
    let select = Select { query, text, range, order, until: Deadline::of(app) };
    scan_over(app, select, snapshot, sink).await
}

/// The newest lines of `range` in the order of time, and the memory that they take.
pub(super) async fn newest(
    app: &Arc<App>,
    query: &LogQuery,
    text: &str,
    range: (i64, i64),
    limit: usize,
    snapshot: Snapshot,
) -> Result<(Vec<Kept>, Memory), ApiError> {
    let best = best(app, query, text, range, (limit, true), Some(snapshot)).await?;
    let mut lines: Vec<Kept> = best.kept.into_values().collect();
    lines.sort_by_key(|line| line.ts);
    Ok((lines, best.memory))
}

/// The lines that come first.
struct Best {
    query: LogQuery,
    limit: usize,
    backward: bool,
    /// By time, and then by when they came.
    kept: BTreeMap<(i64, u64), Kept>,
    number: u64,
    bytes: usize,
    reserved: usize,
    memory: Memory,
    stats: Stats,
}

/// Names and values of labels.
pub(super) type Labels = Vec<(String, String)>;

/// A line that came through the stages.
#[derive(Debug)]
pub(super) struct Kept {
    /// ns UTC.
    pub(super) ts: i64,
    pub(super) line: String,
    pub(super) labels: Vec<(String, String, Origin)>,
}

impl Kept {
    pub(super) fn of(entry: Entry<'_>) -> Self {
        let labels = entry.labels().into_iter();
        let labels = labels.map(|(name, value, origin)| (name.to_owned(), value.to_owned(), origin)).collect();
        Self { ts: entry.ts, labels, line: entry.line.into_owned() }
    }

    /// Memory it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let labels = self.labels.iter().map(|(name, value, _)| name.len() + value.len() + LABEL_BYTES);
        self.line.len() + LINE_BYTES + labels.sum::<usize>()
    }

    /// Labels that tell its stream from others, and it as a value of that stream.
    pub(super) fn shown(self, categorized: bool) -> (Labels, Value) {
        let (mut own, mut metadata, mut parsed) = (Vec::new(), Map::new(), Map::new());
        for (name, value, origin) in self.labels {
            match origin {
                Origin::Metadata if categorized => {
                    metadata.insert(name, value.into());
                }
                Origin::Parsed if categorized => {
                    parsed.insert(name, value.into());
                }
                _ => own.push((name, value)),
            }
        }
        let mut value = vec![json!(self.ts.to_string()), json!(self.line)];
        if categorized {
            let kinds = [("structuredMetadata", metadata), ("parsed", parsed)];
            let kinds = kinds.into_iter().filter(|(_, labels)| !labels.is_empty());
            value.push(
                kinds.map(|(kind, labels)| (kind.to_owned(), Value::Object(labels))).collect::<Map<_, _>>().into(),
            );
        }
        (own, Value::Array(value))
    }
}

/// Labels as JSON.
pub(super) fn labels_json(labels: Labels) -> Value {
    Value::Object(labels.into_iter().map(|(name, value)| (name, value.into())).collect())
}

impl Sink for Best {
    fn take(&mut self, rows: &Rows<'_>) -> Result<(), ApiError> {
        self.stats.add(rows);
        for row in 0..rows.len() {
            let ts = rows.ts(row);
            let place = (if self.backward { !ts } else { ts }, self.number);
            let full = self.kept.len() >= self.limit;
            if full && self.kept.last_key_value().is_some_and(|(last, _)| *last < place) {
                continue;
            }
            let mut entry = rows.entry(row);
            if !self.query.apply(&mut entry) {
                continue;
            }
            let kept = Kept::of(entry);
            self.bytes += kept.bytes();
            self.kept.insert(place, kept);
            self.number += 1;
            if full && let Some((_, last)) = self.kept.pop_last() {
                self.bytes -= last.bytes();
            }
            if self.bytes > ANSWER_BYTES_MAX {
                let why = format!("the lines have more than {ANSWER_BYTES_MAX} bytes: ask for fewer with limit");
                return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", why));
            }
            if self.bytes > self.reserved {
                self.reserved = self.bytes + RESERVE_BYTES;
                self.memory.resize(COPIES * self.reserved)?;
            }
        }
        Ok(())
    }
}

impl Best {
    fn json(self, started: Instant, categorized: bool) -> String {
        let returned = self.kept.len();
        let mut streams: BTreeMap<Labels, Vec<Value>> = BTreeMap::new();
        for line in self.kept.into_values() {
            let (own, value) = line.shown(categorized);
            streams.entry(own).or_default().push(value);
        }
        let result: Vec<Value> = streams
            .into_iter()
            .map(|(labels, values)| json!({ "stream": labels_json(labels), "values": values }))
            .collect();
        let stats = self.stats.json(started, returned);
        let mut data = json!({ "resultType": "streams", "result": result, "stats": stats });
        if categorized {
            data["encodingFlags"] = json!([CATEGORIZE]);
        }
        json!({ "status": "success", "data": data }).to_string()
    }
}
