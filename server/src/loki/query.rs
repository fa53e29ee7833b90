//! `GET /loki/api/v1/query_range`, `labels`, `label/<name>/values`, `series`: what was sent, as Loki answers.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::datatypes::TimestampNanosecondType;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use datafusion::common::ScalarValue;
use foretell_query::event::Signal;
use foretell_query::promql::{Found, Lookup, What};
use foretell_query::{Error as QueryError, QueryRequest};
use futures::StreamExt as _;
use serde_json::json;

use super::logql::LogQuery;
use crate::app::App;
use crate::error::ApiError;
use crate::http::respond;
use crate::remote_write::handler::now_ms;

/// Lines of an answer, unless the request says how many.
const LINES: usize = 100;
/// Most lines of an answer.
const LINES_MAX: usize = 5_000;
/// Bytes of lines and labels of an answer.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Time that is looked at, unless the request says which.
const SPAN_NS: i64 = 3_600_000_000_000;
/// Names, values or streams of an answer.
const FOUND_MAX: usize = 100_000;

/// `GET /loki/api/v1/query_range`
pub(crate) async fn query_range(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Result<Response, ApiError> {
    let timer = app.metrics.query_timer();
    match lines(&app, &Params::of(text.as_deref())).await {
        Ok(response) => {
            timer.finish("ok");
            Ok(response)
        }
        Err(error) => {
            timer.finish(error.kind);
            Err(error)
        }
    }
}

/// `GET /loki/api/v1/labels`
pub(crate) async fn labels(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Result<Response, ApiError> {
    let params = Params::of(text.as_deref());
    let selectors = params.one("query").map(str::to_owned).into_iter().collect();
    found(&app, &params, What::Names, selectors).await
}

/// `GET /loki/api/v1/label/<name>/values`
pub(crate) async fn label_values(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    RawQuery(text): RawQuery,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|error| ApiError::bad_data(format!("invalid label name: {error}")))?;
    let params = Params::of(text.as_deref());
    let selectors = params.one("query").map(str::to_owned).into_iter().collect();
    found(&app, &params, What::Values(name), selectors).await
}

/// `GET /loki/api/v1/series`
pub(crate) async fn series(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Result<Response, ApiError> {
    let params = Params::of(text.as_deref());
    let selectors: Vec<String> = params.all("match[]").chain(params.all("match")).map(str::to_owned).collect();
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter: write match[]={app=\"shop\"}"));
    }
    found(&app, &params, What::Series, selectors).await
}

/// Names and values in the order in which they came.
struct Params(Vec<(String, String)>);

impl Params {
    fn of(text: Option<&str>) -> Self {
        Self(form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, value)| other == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    fn one(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// ns UTC.
    fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.one(name) else { return Ok(None) };
        let wrong =
            || ApiError::bad_data(format!("invalid parameter {name:?}: cannot parse {text:?} to a valid timestamp"));
        instant(text).map(Some).ok_or_else(wrong)
    }

    /// The first instant, and the first one after the last; the hour until now without any.
    fn range(&self) -> Result<(i64, i64), ApiError> {
        let end = self.time("end")?.unwrap_or_else(|| now_ms(Duration::ZERO).saturating_mul(1_000_000));
        let start = self.time("start")?.unwrap_or_else(|| end.saturating_sub(SPAN_NS));
        if start > end {
            return Err(ApiError::bad_data("end is before start"));
        }
        Ok((start, end))
    }

    fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = self.one("limit") else { return Ok(LINES) };
        let limit = text.parse().ok().filter(|limit| (1..=LINES_MAX).contains(limit));
        limit.ok_or_else(|| {
            ApiError::bad_data(format!("invalid parameter \"limit\": {text:?} is not from 1 to {LINES_MAX}"))
        })
    }
}

/// Seconds with a point or of up to ten digits, else nanoseconds; or RFC 3339.
fn instant(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return if text.len() <= 10 { number.checked_mul(1_000_000_000) } else { Some(number) };
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = (seconds * 1e9).round();
        return (ns.abs() < 9.2e18).then_some(ns as i64);
    }
    string_to_timestamp_nanos(text).ok()
}

async fn lines(app: &Arc<App>, params: &Params) -> Result<Response, ApiError> {
    let query = LogQuery::parse(params.one("query").unwrap_or_default());
    let query = query.map_err(|error| ApiError::bad_data(error.to_string()))?;
    let (start, end) = params.range()?;
    let limit = params.limit()?;
    let order = match params.one("direction").map(str::to_ascii_lowercase).as_deref() {
        None | Some("backward") => "DESC",
        Some("forward") => "ASC",
        Some(other) => {
            let why = format!("invalid parameter \"direction\": {other:?} is neither forward nor backward");
            return Err(ApiError::bad_data(why));
        }
    };
    let time = |ns| ScalarValue::TimestampNanosecond(Some(ns), Some("UTC".into()));
    let mut values = vec![time(start), time(end)];
    let conditions = query.conditions(&mut values);
    let sql = format!(
        "SELECT ts, body, resource, attributes, trace_id, span_id FROM logs \
         WHERE ts >= $1 AND ts < $2 AND {conditions} ORDER BY ts {order} LIMIT {limit}"
    );
    let request = QueryRequest { sql, params: values, timeout: None };
    let mut response = app.store()?.database.query(request).await?;
    let mut streams = Streams::default();
    while let Some(batch) = response.stream.next().await {
        streams.take(&batch.map_err(|error| ApiError::from(QueryError::from_datafusion(error)))?)?;
    }
    Ok(respond::json(StatusCode::OK, streams.answer()))
}

/// Lines by what they come from.
#[derive(Default)]
struct Streams {
    streams: BTreeMap<Vec<(String, String)>, Vec<(i64, String)>>,
    bytes: usize,
}

impl Streams {
    fn take(&mut self, batch: &RecordBatch) -> Result<(), ApiError> {
        let ts = batch.column(0).as_primitive::<TimestampNanosecondType>();
        let body = batch.column(1).as_string::<i32>();
        let ids = [("trace_id", batch.column(4).as_string::<i32>()), ("span_id", batch.column(5).as_string::<i32>())];
        for row in 0..batch.num_rows() {
            let mut labels = BTreeMap::new();
            // What a line says of itself goes before what its stream says.
            pairs(batch.column(2), row, &mut labels);
            pairs(batch.column(3), row, &mut labels);
            for (name, ids) in ids {
                if ids.is_valid(row) {
                    labels.insert(name.to_owned(), ids.value(row).to_owned());
                }
            }
            let labels: Vec<(String, String)> = labels.into_iter().collect();
            let line = if body.is_valid(row) { body.value(row) } else { "" };
            self.bytes += line.len() + labels.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
            if self.bytes > ANSWER_BYTES_MAX {
                let why = format!("the lines have more than {ANSWER_BYTES_MAX} bytes: ask for fewer with limit");
                return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", why));
            }
            self.streams.entry(labels).or_default().push((ts.value(row), line.to_owned()));
        }
        Ok(())
    }

    fn answer(self) -> String {
        let result: Vec<serde_json::Value> = self
            .streams
            .into_iter()
            .map(|(labels, lines)| {
                let stream: serde_json::Map<String, serde_json::Value> =
                    labels.into_iter().map(|(name, value)| (name, value.into())).collect();
                let values: Vec<_> = lines.into_iter().map(|(ts, line)| json!([ts.to_string(), line])).collect();
                json!({ "stream": stream, "values": values })
            })
            .collect();
        json!({ "status": "success", "data": { "resultType": "streams", "result": result, "stats": {} } }).to_string()
    }
}

/// Adds the pairs of a map of texts.
fn pairs(maps: &ArrayRef, row: usize, to: &mut BTreeMap<String, String>) {
    let maps = maps.as_map();
    if maps.is_null(row) {
        return;
    }
    let entries = maps.value(row);
    let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1).as_string::<i32>());
    for at in (0..entries.len()).filter(|&at| values.is_valid(at)) {
        to.insert(keys.value(at).to_owned(), values.value(at).to_owned());
    }
}

async fn found(app: &Arc<App>, params: &Params, what: What, selectors: Vec<String>) -> Result<Response, ApiError> {
    let (start, end) = params.range()?;
    let lookup = Lookup {
        metric: Some(Signal::Logs.stream_name().to_owned()),
        what,
        selectors,
        start_ms: start.div_euclid(1_000_000),
        end_ms: end.div_euclid(1_000_000),
        limit: FOUND_MAX,
    };
    // Those with two underscores are ours.
    let is_shown = |name: &str| !name.starts_with("__");
    let names_only = lookup.what == What::Names;
    let data = match app.store()?.database.lookup(lookup, None).await? {
        Found::Texts(texts) => {
            json!(texts.into_iter().filter(|text| !names_only || is_shown(text)).collect::<Vec<_>>())
        }
        Found::Series(series) => {
            let shown = series.iter().map(|labels| {
                let pairs = labels.iter().filter(|(name, _)| is_shown(name));
                pairs.map(|(name, value)| (name.to_owned(), value.into())).collect::<serde_json::Map<_, _>>()
            });
            json!(shown.collect::<Vec<_>>())
        }
    };
    Ok(respond::json(StatusCode::OK, json!({ "status": "success", "data": data }).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_loki_reads_them() {
        for (text, ns) in [
            ("1767225600", Some(1_767_225_600_000_000_000)),
            ("1767225600000000001", Some(1_767_225_600_000_000_001)),
            ("1767225600.5", Some(1_767_225_600_500_000_000)),
            ("2026-01-01T00:00:00.000000001Z", Some(1_767_225_600_000_000_001)),
            ("-5", Some(-5_000_000_000)),
            ("now", None),
            ("NaN", None),
            ("1e300", None),
        ] {
            assert_eq!(instant(text), ns, "{text}");
        }
    }
}
