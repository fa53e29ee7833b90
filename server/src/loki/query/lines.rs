//! Lines of a log query: the newest, or the oldest, that come through its stages.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use foretell_query::Memory;
use serde_json::{Map, Value, json};

use super::super::logql::{LogQuery, Origin};
use super::params::Params;
use super::read::{Deadline, Rows, Select, Sink, Stats, scan};
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
const RESERVE_BYTES: usize = 256 << 10;
/// With which a client asks to be told where labels come from.
const ENCODING_FLAGS: &str = "x-loki-response-encoding-flags";
const CATEGORIZE: &str = "categorize-labels";

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
    let flags = headers.get(ENCODING_FLAGS).and_then(|flags| flags.to_str().ok()).unwrap_or_default();
    let categorized = flags.split(',').any(|flag| flag.trim() == CATEGORIZE);
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
    let text = params.one("query").unwrap_or_default();
    let select = Select { query: &query, text, range, order, until: Deadline::of(app) };
    let best = scan(app, select, sink).await?;
    Ok(respond::json(StatusCode::OK, best.json(started, categorized)))
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

struct Kept {
    ts: i64,
    line: String,
    labels: Vec<(String, String, Origin)>,
}

impl Kept {
    fn bytes(&self) -> usize {
        let labels = self.labels.iter().map(|(name, value, _)| name.len() + value.len() + LABEL_BYTES);
        self.line.len() + LINE_BYTES + labels.sum::<usize>()
    }
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
            let labels =
                entry.labels().into_iter().map(|(name, value, origin)| (name.to_owned(), value.to_owned(), origin));
            let kept = Kept { ts, labels: labels.collect(), line: entry.line.into_owned() };
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
        let mut streams: BTreeMap<Vec<(String, String)>, Vec<Value>> = BTreeMap::new();
        for Kept { ts, line, labels } in self.kept.into_values() {
            let (mut own, mut metadata, mut parsed) = (Vec::new(), Map::new(), Map::new());
            for (name, value, origin) in labels {
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
            let mut value = vec![json!(ts.to_string()), json!(line)];
            if categorized {
                let kinds = [("structuredMetadata", metadata), ("parsed", parsed)];
                let kinds = kinds.into_iter().filter(|(_, labels)| !labels.is_empty());
                value.push(
                    kinds.map(|(kind, labels)| (kind.to_owned(), Value::Object(labels))).collect::<Map<_, _>>().into(),
                );
            }
            streams.entry(own).or_default().push(Value::Array(value));
        }
        let result: Vec<Value> = streams
            .into_iter()
            .map(|(labels, values)| {
                let stream: Map<String, Value> = labels.into_iter().map(|(name, value)| (name, value.into())).collect();
                json!({ "stream": stream, "values": values })
            })
            .collect();
        let stats = self.stats.json(started, returned);
        let mut data = json!({ "resultType": "streams", "result": result, "stats": stats });
        if categorized {
            data["encodingFlags"] = json!([CATEGORIZE]);
        }
        json!({ "status": "success", "data": data }).to_string()
    }
}
