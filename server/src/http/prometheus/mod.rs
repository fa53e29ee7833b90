//! The query part of the Prometheus HTTP API: `query`, `query_range`, `labels`, `label/<name>/values`, `series`,
//! `format_query`, `status/*`, and empty answers where there is nothing to tell yet (`rules`, `alerts`, `targets`).
//!
//! Parameters come in the URL or as a form. Answers have the exact envelope, errors the exact types and codes.
mod encode;
mod lookup;
mod params;
mod status;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use foretell_engine::clock::{Clock as _, SystemClock};
use foretell_query::promql::{Answer, PromQuery};

use self::params::Params;
use super::respond;
use crate::app::App;
use crate::error::ApiError;

pub(super) use self::lookup::{label_values, labels, series};
pub(super) use self::status::{alerts, build_info, flags, format_query, rules, runtime_info, targets, tsdb};

/// How far back a sample counts as current unless the request says otherwise.
const LOOKBACK_MS: i64 = 5 * 60 * 1000;

/// `GET|POST /api/v1/query`
pub(super) async fn query(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let at_ms = params.time("time")?.unwrap_or_else(now_ms);
    answer(&app, &params, at_ms, at_ms, None).await
}

/// `GET|POST /api/v1/query_range`
pub(super) async fn query_range(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
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
            Ok(respond::json(StatusCode::OK, limited(answer, limit)))
        }
        Err(error) => {
            timer.finish(error.kind);
            Err(error)
        }
    }
}

/// The answer's text, cut to `limit` series.
fn limited(mut answer: Answer, limit: usize) -> Vec<u8> {
    let warnings = match &mut answer {
        Answer::Vector(rows) | Answer::Matrix(rows) => cut_to(rows, limit),
        Answer::Scalar(_) | Answer::Text(..) => &[],
    };
    encode::answer(&answer, warnings)
}

/// Cuts `list` to `limit` (0: all); the warnings that an answer gives of it.
fn cut_to<T>(list: &mut Vec<T>, limit: usize) -> &'static [&'static str] {
    if limit == 0 || list.len() <= limit {
        return &[];
    }
    list.truncate(limit);
    &["results truncated due to limit"]
}

fn now_ms() -> i64 {
    SystemClock.now_ns().div_euclid(1_000_000)
}
