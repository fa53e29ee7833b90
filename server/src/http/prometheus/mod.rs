//! The Prometheus HTTP API but for its writing and reading of samples: `query`, `query_range`, `query_exemplars`, `labels`,
//! `label/<name>/values`, `series`, `metadata`, `format_query`, `parse_query`, `status/*`, `admin/tsdb/*`, `rules`, `alerts`,
//! and empty answers where there is nothing to tell (`targets`, `alertmanagers`).
//!
//! Parameters come in the URL or as a form. Answers have the exact envelope, errors the exact types and codes.
mod admin;
mod encode;
mod exemplars;
mod lookup;
mod metadata;
mod params;
mod rules;
mod status;
mod tree;

use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use foretell_engine::clock::{Clock as _, SystemClock};
use foretell_query::PromAnswer;
use foretell_query::promql::{Answer, PromQuery};

use self::encode::Around;
use self::params::Params;
use super::{pieces, respond};
use crate::app::App;
use crate::error::ApiError;

pub(super) use self::admin::{clean_tombstones, delete_series, snapshot};
pub(super) use self::exemplars::query_exemplars;
pub(super) use self::lookup::{label_values, labels, series};
pub(super) use self::metadata::metadata;
pub(super) use self::rules::{alerts, rules};
pub(super) use self::status::{alertmanagers, scrape_pools, targets_metadata, wal_replay};
pub(super) use self::status::{build_info, flags, format_query, runtime_info, targets, tsdb};
pub(super) use self::tree::parse_query;

/// Largest answer that is written where requests are served; a larger one would hold up the others.
const INLINE_BYTES_MAX: usize = 256 << 10;

/// Pieces of a large answer, which are written at once: one a core, as far as more are of use.
static PIECES: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from).min(PIECES_MAX));
const PIECES_MAX: usize = 8;

/// The warning of an answer that is cut to its limit.
const TRUNCATED: &str = "results truncated due to limit";

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
    // As VictoriaMetrics calls it.
    let fresh = params.one("nocache") == Some("1");
    let query = PromQuery { text, start_ms, end_ms, step_ms, lookback_ms };
    let timer = app.metrics.query_timer();
    let answered = match app.store() {
        Ok(store) => store.database.promql_annotated(query, timeout, fresh).await.map_err(ApiError::from),
        Err(error) => Err(error),
    };
    match answered {
        Ok(answered) => {
            timer.finish("ok");
            Ok(respond::json(StatusCode::OK, pieces::body(written(answered, limit).await?)))
        }
        Err(error) => {
            timer.finish(error.kind);
            Err(error)
        }
    }
}

/// The answer's text, cut to `limit` series (0: all) with a warning: in one piece, or in several that are written elsewhere at once
/// if it takes long. The memory that the query took is held until then.
async fn written(answered: PromAnswer, limit: usize) -> Result<Arc<[Bytes]>, ApiError> {
    let is_longer = is_longer(&answered.answer, limit);
    if !is_longer && let Some(text) = answered.text.get() {
        return Ok(text);
    }
    let rows_max = if is_longer { limit } else { usize::MAX };
    let (kept, rows) = (answered.text.clone(), encode::rows_of(&answered.answer).len().min(rows_max));
    let write = move |answered: &PromAnswer, part: Range<usize>| {
        let warnings: &[&str] = if is_longer { &[TRUNCATED] } else { &[] };
        let around = Around { annotations: &answered.annotations, warnings };
        let mut text = encode::piece(&answered.answer, part, rows, around);
        text.shrink_to_fit();
        Bytes::from(text)
    };
    let text: Arc<[Bytes]> = if encode::size(&answered.answer) <= INLINE_BYTES_MAX {
        Arc::new([write(&answered, 0..rows)])
    } else {
        let parts = encode::pieces(&answered.answer, rows, *PIECES);
        let answered = Arc::new(answered);
        let each = |part| {
            let answered = Arc::clone(&answered);
            elsewhere(move || write(&answered, part))
        };
        futures::future::try_join_all(parts.into_iter().map(each)).await?.into()
    };
    if !is_longer {
        kept.put(&text);
    }
    Ok(text)
}

/// Writes an answer that may be large on a thread that serves no requests.
async fn elsewhere<T: Send + 'static>(write: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(write)
        .await
        .map_err(|error| ApiError::unavailable(format!("the answer was not written: {error}")))
}

/// Whether an answer has more than `limit` series (0: any number is allowed).
fn is_longer(answer: &Answer, limit: usize) -> bool {
    match answer {
        Answer::Vector(rows) | Answer::Matrix(rows) => limit > 0 && rows.len() > limit,
        Answer::Scalar(_) | Answer::Text(..) => false,
    }
}

/// Cuts `list` to `limit` (0: all); the warnings that an answer gives of it.
fn cut_to<T>(list: &mut Vec<T>, limit: usize) -> &'static [&'static str] {
    if limit == 0 || list.len() <= limit {
        return &[];
    }
    list.truncate(limit);
    &[TRUNCATED]
}

fn now_ms() -> i64 {
    SystemClock.now_ns().div_euclid(1_000_000)
}
