//! `GET /api/services`, `/api/services/<service>/operations`, `/api/operations`, `/api/traces`, `/api/traces/<id>`,
//! `/api/dependencies`.
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use datafusion::common::ScalarValue;
use foretell_query::event::{SERVICE_LABEL, Signal, TRACE_ID_BYTES, from_hex};
use foretell_query::promql::{Found, Lookup, What};
use foretell_query::{Error as QueryError, QueryRequest};
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::answer::{COLUMNS, SPANS_MAX, Traces};
use super::search::Search;
use crate::app::App;
use crate::error::ApiError;
use crate::http::respond;
use crate::remote_write::handler::now_ms;

/// Services, operations or edges of an answer.
const FOUND_MAX: usize = 10_000;
/// Traces that a request may name.
const IDS_MAX: usize = 100;
/// Time of which dependencies are told, unless the request says which.
const LOOKBACK_MS: i64 = 86_400_000;

type Answered = Result<Response, ApiError>;
type Name = Result<Path<String>, PathRejection>;

/// `GET /api/services`
pub(crate) async fn services(State(app): State<Arc<App>>) -> Answered {
    let lookup = Lookup {
        metric: Some(Signal::Spans.stream_name().to_owned()),
        what: What::Values(SERVICE_LABEL.to_owned()),
        selectors: Vec::new(),
        start_ms: i64::MIN / 1_000_000,
        end_ms: i64::MAX / 1_000_000,
        limit: FOUND_MAX,
    };
    match app.store()?.database.lookup(lookup, None).await? {
        Found::Texts(texts) => Ok(list(texts.into_iter().map(Value::from).collect())),
        Found::Series(_) => Ok(list(Vec::new())),
    }
}

/// `GET /api/services/<service>/operations`
pub(crate) async fn service_operations(State(app): State<Arc<App>>, service: Name) -> Answered {
    let Path(service) = service.map_err(|error| ApiError::bad_data(format!("invalid service: {error}")))?;
    let sql = format!("SELECT DISTINCT name FROM spans WHERE service = $1 ORDER BY name LIMIT {FOUND_MAX}");
    let mut names = Vec::new();
    let take = |batch: &RecordBatch| -> Result<(), ApiError> {
        names.extend(batch.column(0).as_string::<i32>().iter().flatten().map(Value::from));
        Ok(())
    };
    read(&app, sql, vec![ScalarValue::Utf8(Some(service))], take).await?;
    Ok(list(names))
}

/// `GET /api/operations`
pub(crate) async fn operations(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    let params = params(text.as_deref());
    let one = |name: &str| params.iter().find(|(other, value)| other == name && !value.is_empty()).map(|pair| &pair.1);
    let service = one("service").ok_or_else(|| ApiError::bad_data("invalid parameter \"service\": it is missing"))?;
    let mut values = vec![ScalarValue::Utf8(Some(service.clone()))];
    let mut condition = String::new();
    if let Some(kind) = one("spanKind") {
        values.push(ScalarValue::Utf8(Some(kind.clone())));
        condition = " AND kind = $2".to_owned();
    }
    let sql = format!(
        "SELECT DISTINCT name, kind FROM spans WHERE service = $1{condition} ORDER BY name, kind LIMIT {FOUND_MAX}"
    );
    let mut found = Vec::new();
    let take = |batch: &RecordBatch| -> Result<(), ApiError> {
        let (names, kinds) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        let rows = names.iter().zip(kinds.iter());
        found.extend(rows.map(|(name, kind)| json!({ "name": name, "spanKind": kind.unwrap_or_default() })));
        Ok(())
    };
    read(&app, sql, values, take).await?;
    Ok(list(found))
}

/// `GET /api/traces`
pub(crate) async fn search(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    let params = params(text.as_deref());
    let mut ids: Vec<String> = Vec::new();
    for (_, id) in params.iter().filter(|(name, _)| name == "traceID") {
        ids.push(trace_id(id)?);
    }
    if ids.len() > IDS_MAX {
        return Err(ApiError::bad_data(format!("more than {IDS_MAX} parameters \"traceID\"")));
    }
    if ids.is_empty() {
        let search = Search::of(&params).map_err(ApiError::bad_data)?;
        if search.service.is_none() {
            return Err(ApiError::bad_data("invalid parameter \"service\": it is missing, and no traceID is given"));
        }
        let (sql, values) = search.statement();
        let take = |batch: &RecordBatch| -> Result<(), ApiError> {
            ids.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
            Ok(())
        };
        read(&app, sql, values, take).await?;
    }
    Ok(list(traces(&app, &ids).await?))
}

/// `GET /api/traces/<id>`
pub(crate) async fn trace(State(app): State<Arc<App>>, id: Name) -> Answered {
    let Path(id) = id.map_err(|error| ApiError::bad_data(format!("invalid trace id: {error}")))?;
    let found = traces(&app, &[trace_id(&id)?]).await?;
    if found.is_empty() {
        return Err(ApiError::not_found("trace not found"));
    }
    Ok(list(found))
}

/// `GET /api/dependencies`
pub(crate) async fn dependencies(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    let params = params(text.as_deref());
    let number = |name: &str, default: i64| match params.iter().find(|(other, _)| other == name) {
        Some((_, value)) => value.parse::<i64>().map_err(|_| {
            ApiError::bad_data(format!("invalid parameter {name:?}: {value:?} is no number of milliseconds"))
        }),
        None => Ok(default),
    };
    let end_ms = number("endTs", now_ms(Duration::ZERO))?;
    let start_ms = end_ms.saturating_sub(number("lookback", LOOKBACK_MS)?);
    let time = |ms: i64| ScalarValue::TimestampNanosecond(Some(ms.saturating_mul(1_000_000)), Some("UTC".into()));
    let sql = format!(
        "SELECT p.service, c.service, count(*) FROM \
         (SELECT trace_id, parent_span_id, service FROM spans WHERE ts >= $1 AND ts <= $2 AND parent_span_id IS NOT NULL) c \
         JOIN (SELECT trace_id, span_id, service FROM spans WHERE ts >= $1 AND ts <= $2) p \
         ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id \
         WHERE p.service <> c.service GROUP BY 1, 2 ORDER BY 1, 2 LIMIT {FOUND_MAX}"
    );
    let mut edges = Vec::new();
    let take = |batch: &RecordBatch| -> Result<(), ApiError> {
        let text = |column: usize| {
            cast(batch.column(column), &DataType::Utf8)
                .map_err(|error| ApiError::unavailable(format!("services cannot be shown: {error}")))
        };
        let (parents, children) = (text(0)?, text(1)?);
        let (parents, children) = (parents.as_string::<i32>(), children.as_string::<i32>());
        let counts = batch.column(2).as_primitive::<Int64Type>();
        edges.extend((0..batch.num_rows()).map(
            |row| json!({ "parent": parents.value(row), "child": children.value(row), "callCount": counts.value(row) }),
        ));
        Ok(())
    };
    read(&app, sql, vec![time(start_ms), time(end_ms)], take).await?;
    Ok(list(edges))
}

fn params(text: Option<&str>) -> Vec<(String, String)> {
    form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect()
}

/// An id as it is stored; shorter ones stand for such with zeros before.
fn trace_id(text: &str) -> Result<String, ApiError> {
    let digits = 2 * TRACE_ID_BYTES;
    let id = format!("{:0>digits$}", text.to_ascii_lowercase());
    match from_hex::<TRACE_ID_BYTES>(&id) {
        Some(_) => Ok(id),
        None => {
            let shown: String = text.chars().take(100).collect();
            Err(ApiError::bad_data(format!("invalid trace id {shown:?}: up to {digits} hexadecimal digits are one")))
        }
    }
}

async fn traces(app: &Arc<App>, ids: &[String]) -> Result<Vec<Value>, ApiError> {
    let mut traces = Traces::default();
    // Few at a time: a statement may have so many terms only.
    for some in ids.chunks(IDS_MAX) {
        let places: Vec<String> = (1..=some.len()).map(|n| format!("${n}")).collect();
        let spans = SPANS_MAX + 1;
        let sql = format!("SELECT {COLUMNS} FROM spans WHERE trace_id IN ({}) LIMIT {spans}", places.join(", "));
        let values = some.iter().map(|id| ScalarValue::Utf8(Some(id.clone()))).collect();
        read(app, sql, values, |batch| traces.take(batch)).await?;
    }
    Ok(traces.answer(ids))
}

/// Gives the batches of a statement's answer to `take`.
async fn read(
    app: &Arc<App>,
    sql: String,
    params: Vec<ScalarValue>,
    mut take: impl FnMut(&RecordBatch) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let timer = app.metrics.query_timer();
    let done: Result<(), ApiError> = async {
        let request = QueryRequest { sql, params, timeout: None };
        let mut response = app.store()?.database.query(request).await?;
        while let Some(batch) = response.stream.next().await {
            take(&batch.map_err(|error| ApiError::from(QueryError::from_datafusion(error)))?)?;
        }
        Ok(())
    }
    .await;
    timer.finish(done.as_ref().err().map_or("ok", |error| error.kind));
    done
}

fn list(data: Vec<Value>) -> Response {
    let total = data.len();
    let body = json!({ "data": data, "total": total, "limit": 0, "offset": 0, "errors": null });
    respond::json(StatusCode::OK, body.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_have_zeros_before() {
        assert_eq!(trace_id("AB1").unwrap(), format!("{}ab1", "0".repeat(29)));
        for wrong in ["x", "g0", &"0".repeat(33)] {
            assert_eq!(trace_id(wrong).unwrap_err().status, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
