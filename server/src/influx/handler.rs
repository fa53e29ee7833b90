//! `POST /write` and `POST /api/v2/write`.
//!
//! | answer | when |
//! |---|---|
//! | 204 | everything is durable |
//! | 400 | lines are invalid: the first one is named, the others are durable; or the body or a parameter is invalid |
//! | 413 | above a size limit |
//! | 415 | an encoding that is not accepted |
//! | 429 | too many bytes in flight, or the limit of active series (known series are stored) |
//! | 503 | opening, stopping, memtables full, or the disk refuses: try again |
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use foretell_engine::clock::{Clock as _, SystemClock};

use super::rows::{Reading, fill};
use crate::app::App;
use crate::error::ApiError;
use crate::remote_write::compression::{Compression, decompress};
use crate::remote_write::handler::{commit, receive, verdict};

/// Units of time by the names that the two versions have for them, ns.
const PRECISIONS: [(&str, i64); 9] = [
    ("ns", 1),
    ("n", 1),
    ("us", 1_000),
    ("u", 1_000),
    ("µ", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

pub(crate) async fn write(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let started = Instant::now();
    let response = match take(&app, request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failure(error),
    };
    app.metrics.push_request("influx", "http", response.status().as_str(), started.elapsed());
    response
}

/// The answer that all routes here give, with the two fields that clients of InfluxDB 2 look for. Those of 1 look for `error`.
fn failure(error: ApiError) -> Response {
    let code = match error.status {
        StatusCode::BAD_REQUEST => "invalid",
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported media type",
        StatusCode::TOO_MANY_REQUESTS => "too many requests",
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => "unavailable",
        _ => "internal error",
    };
    let body = serde_json::json!({
        "status": "error", "errorType": error.kind, "error": error.message, "code": code, "message": error.message,
    });
    let mut response = error.into_response();
    *response.body_mut() = Body::from(body.to_string());
    response
}

async fn take(app: &Arc<App>, request: Request<Body>) -> Result<(), ApiError> {
    let (parts, body) = request.into_parts();
    let store = app.store()?;
    let unit_ns = precision(&parts.uri)?;
    let compression = Compression::of(&parts.headers)?;
    let (body, _wire) = receive(app, &parts.headers, body).await?;
    let wire_bytes = body.len();
    let plain = decompress(app, compression, body).await?;
    let decoded_bytes = plain.bytes.len();
    app.metrics.push_bytes("influx", wire_bytes, decoded_bytes);

    let now_ns = SystemClock.now_ns();
    let future_max = app.config.limits.future_max.0;
    let reading =
        Reading { translation: app.config.otlp.translation, unit_ns, labels_max: app.config.limits.labels_max };
    let texts = app.metrics.influx_texts();
    let report = commit(app, &store, decoded_bytes, move |worker, engine| {
        worker.rows(engine, now_ns, future_max, "line", |rows| {
            let skipped = fill(&plain.bytes, reading, rows)?;
            texts.inc_by(skipped.texts);
            Ok(())
        })
    })
    .await?;
    app.metrics.pushed("influx", &report);
    verdict(&report)
}

/// Nanoseconds of the unit that the parameter `precision` names; of the others none changes what is stored.
fn precision(uri: &Uri) -> Result<i64, ApiError> {
    let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let Some((_, name)) = query.filter(|(key, _)| key == "precision").last() else { return Ok(1) };
    if name.is_empty() {
        return Ok(1);
    }
    let known = PRECISIONS.iter().find(|(known, _)| *known == name);
    known.map(|(_, ns)| *ns).ok_or_else(|| {
        ApiError::bad_data(format!(
            "unknown precision {:?}; known: ns, us, ms, s, m, h",
            name.chars().take(16).collect::<String>()
        ))
    })
}
