//! The query part of the Prometheus HTTP API: `query`, `query_range`, `labels`, `label/<name>/values`, `series`,
//! `format_query`, `status/*`, and empty answers where there is nothing to tell yet (`rules`, `alerts`, `targets`).
//!
//! Parameters come in the URL or as a form. Answers have the exact envelope, errors the exact types and codes.
mod encode;
mod lookup;
mod params;
mod status;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use foretell_engine::clock::{Clock as _, SystemClock};
use foretell_query::promql::{Answer, PromQuery};

use self::params::Params;
use super::respond;
use crate::app::App;
use crate::error::ApiError;

pub(super) use self::lookup::{label_values, labels, series};
pub(super) use self::status::{alerts, build_info, flags, format_query, rules, runtime_info, targets, tsdb};

/// Largest answer that is written where requests are served; a larger one would hold up the others.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// How far back a sample counts as current unless the request says otherwise.
const LOOKBACK_MS: i64 = 5 * 60 * 1000;

/// `GET|POST /api/v1/query`
pub(super) async fn query(
    State(app): State<Arc<App>>,
    method: Method,
    RawQuery(url): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let params = Params::read(&app, &method, url.as_deref(), &headers, body).await?;
    let at_ms = params.time("time")?.unwrap_or_else(now_ms);
    answer(&app, &params, at_ms, at_ms, None).await
}

/// `GET|POST /api/v1/query_range`
pub(super) async fn query_range(
    State(app): State<Arc<App>>,
    method: Method,
    RawQuery(url): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let params = Params::read(&app, &method, url.as_deref(), &headers, body).await?;
    let needed = |name: &str, value: Option<i64>| {
        value.ok_or_else(|| ApiError::bad_data(format!("invalid parameter {name:?}: it is missing")))
    };
    let (start_ms, end_ms) = (needed("start", params.time("start")?)?, needed("end", params.time("end")?)?);
    let step_ms = needed("step", params.duration("step")?)?;
    answer(&app, &params, start_ms, end_ms, Some(step_ms)).await
}

async fn answer(
    app: &Arc<App>,
    params: &Params,
    start_ms: i64,
    end_ms: i64,
    step_ms: Option<i64>,
) -> Result<Response, ApiError> {
    let text = params.one("query").unwrap_or_default().to_owned();
    let lookback_ms = params.duration("lookback_delta")?.unwrap_or(LOOKBACK_MS);
    let limit = params.count("limit")?;
    let timeout = params.timeout()?;
    let query = PromQuery { text, start_ms, end_ms, step_ms, lookback_ms };
    let timer = app.metrics.query_timer();
    let answered = match app.store() {
        Ok(store) => store.database.promql(query, timeout).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    match answered {
        Ok(answer) => {
            timer.finish("ok");
            Ok(respond::json(StatusCode::OK, written(answer, limit).await?))
        }
        Err(error) => {
            timer.finish(error.kind);
            Err(error)
        }
    }
}

/// As [`limited`], elsewhere if it takes long.
async fn written(answer: Answer, limit: usize) -> Result<Vec<u8>, ApiError> {
    if encode::size(&answer) <= INLINE_BYTES_MAX {
        return Ok(limited(answer, limit));
    }
    tokio::task::spawn_blocking(move || limited(answer, limit))
        .await
        .map_err(|error| ApiError::unavailable(format!("the answer was not written: {error}")))
}

/// The answer's text, cut to `limit` series (0: all) with a warning.
fn limited(mut answer: Answer, limit: usize) -> Vec<u8> {
    let mut cut = false;
    if let Answer::Vector(rows) | Answer::Matrix(rows) = &mut answer
        && limit > 0
        && rows.len() > limit
    {
        rows.truncate(limit);
        cut = true;
    }
    encode::answer(&answer, if cut { &["results truncated due to limit"] } else { &[] })
}

fn now_ms() -> i64 {
    SystemClock.now_ns().div_euclid(1_000_000)
}
