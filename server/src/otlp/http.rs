//! `POST /v1/metrics`, and what both transports do with a request.
//!
//! | answer | when |
//! |---|---|
//! | 200 | what is valid is durable; `partial_success` counts the other data points and names the first fault |
//! | 400 | malformed (nothing stored), or no data point is valid |
//! | 413, 415 | above a size limit; a content type or encoding that is not accepted |
//! | 429 | too many bytes in flight, or the limit of active series and nothing stored: a retry helps |
//! | 503 | opening, stopping, memtables full, the body came too slowly, or the disk refuses: a retry helps |
//!
//! A success answers in the format of the request; so does an error, as `google.rpc.Status`.
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use foretell_engine::clock::{Clock as _, SystemClock};

use super::metrics::{Mapping, fill};
use super::{json, schema};
use crate::app::App;
use crate::error::ApiError;
use crate::http::respond;
use crate::remote_write::compression::{Compression, Plain, decompress};
use crate::remote_write::fault::Report;
use crate::remote_write::handler::{commit, decode_error, receive, verdict};
use crate::sender::encode::{put_bytes, put_varint};

/// Bytes of a message for each of JSON, at most: numbers of one digit with a comma, as 64-bit fields.
const MESSAGE_PER_JSON: usize = 5;

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Protobuf,
    Json,
}

impl Format {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media = content_type.split(';').next().unwrap_or_default().trim();
        match media {
            media if media.eq_ignore_ascii_case("application/x-protobuf") => Ok(Self::Protobuf),
            media if media.eq_ignore_ascii_case("application/json") => Ok(Self::Json),
            _ => Err(ApiError::unsupported_media(
                "this Content-Type is not supported; accepted: application/x-protobuf, application/json",
            )),
        }
    }
}

pub(crate) async fn metrics(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let started = Instant::now();
    let response = match Format::of(request.headers()) {
        Ok(format) => match take(&app, format, request).await {
            Ok(report) => success(&report, format),
            Err(error) => failure(error, format),
        },
        Err(error) => failure(error, Format::Json),
    };
    app.metrics.push_request("otlp", "http", response.status().as_str(), started.elapsed());
    response
}

async fn take(app: &Arc<App>, format: Format, request: Request<Body>) -> Result<Report, ApiError> {
    let (parts, body) = request.into_parts();
    app.store()?;
    let compression = Compression::of(&parts.headers)?;
    let (body, _wire) = receive(app, &parts.headers, body).await?;
    let wire_bytes = body.len();
    let plain = decompress(app, compression, body).await?;
    store(app, format, wire_bytes, plain).await
}

/// Stores what is valid of a request. The report is made after that is durable.
///
/// # Errors
/// When nothing is stored.
pub(super) async fn store(app: &Arc<App>, format: Format, wire_bytes: usize, plain: Plain) -> Result<Report, ApiError> {
    let store = app.store()?;
    app.metrics.push_bytes("otlp", wire_bytes, plain.bytes.len());
    let bytes_max = match format {
        Format::Protobuf => 0,
        Format::Json => message_bytes_max(plain.bytes.len(), app.workers.limits().decoded_bytes_max),
    };
    let _message = app.reserve(bytes_max)?;
    let mapping = Mapping::new(&app.config.otlp, app.config.limits.labels_max);
    let (now_ns, future_max) = (SystemClock.now_ns(), app.config.limits.future_max.0);
    let work_bytes = plain.bytes.len().max(bytes_max);
    let report = commit(app, &store, work_bytes, move |worker, engine| {
        worker.rows(engine, now_ns, future_max, "data point", |rows| match format {
            Format::Protobuf => fill(&plain.bytes, &mapping, rows),
            Format::Json => {
                let message = json::transcode(&plain.bytes, &schema::METRICS_REQUEST, bytes_max)?;
                fill(&message, &mapping, rows)
            }
        })
    })
    .await?;
    app.metrics.pushed("otlp", &report);
    // Nothing to retry in part: a limit that a later try may meet again is told when nothing else was stored.
    if report.samples_stored == 0 && report.histograms_stored == 0 {
        verdict(&report)?;
    }
    Ok(report)
}

/// Bytes that the message of a JSON body may have: both together stay within the limit of one decompressed body, so that the
/// largest request fits into the memory for requests in flight.
fn message_bytes_max(json_bytes: usize, decoded_bytes_max: usize) -> usize {
    json_bytes.saturating_mul(MESSAGE_PER_JSON).min(decoded_bytes_max.saturating_sub(json_bytes))
}

/// `ExportMetricsServiceResponse`: empty, or with a `partial_success`.
pub(super) fn response_message(report: &Report) -> Vec<u8> {
    let mut message = Vec::new();
    if !report.is_clean() {
        let mut partial = Vec::new();
        partial.push(1 << 3);
        put_varint(&mut partial, report.points_dropped);
        put_bytes(&mut partial, 2 << 3 | 2, report.message().as_bytes());
        put_bytes(&mut message, 1 << 3 | 2, &partial);
    }
    message
}

fn success(report: &Report, format: Format) -> Response {
    match format {
        Format::Protobuf => respond::text(StatusCode::OK, "application/x-protobuf", response_message(report)),
        Format::Json if report.is_clean() => respond::json(StatusCode::OK, "{}"),
        Format::Json => {
            let partial = serde_json::json!({
                "rejectedDataPoints": report.points_dropped.to_string(),
                "errorMessage": report.message(),
            });
            respond::json(StatusCode::OK, serde_json::json!({ "partialSuccess": partial }).to_string())
        }
    }
}

fn failure(mut error: ApiError, format: Format) -> Response {
    // A status that OTLP's senders do not retry would lose the data of a slow network.
    if error.status == StatusCode::REQUEST_TIMEOUT {
        error.status = StatusCode::SERVICE_UNAVAILABLE;
        error = error.retry_after(1);
    }
    let (code, message) = (grpc_code(error.status), error.message.clone());
    let kind = error.kind;
    let mut response = error.into_response();
    let body = match format {
        Format::Protobuf => {
            let mut status = Vec::new();
            status.push(1 << 3);
            put_varint(&mut status, u64::from(code));
            put_bytes(&mut status, 2 << 3 | 2, message.as_bytes());
            response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/x-protobuf"));
            Body::from(status)
        }
        Format::Json => {
            // The protocol's status and the answer that all routes here give.
            let body = serde_json::json!({
                "code": code, "message": message, "status": "error", "errorType": kind, "error": message,
            });
            Body::from(body.to_string())
        }
    };
    response.headers_mut().remove(axum::http::header::CONTENT_LENGTH);
    *response.body_mut() = body;
    response
}

/// The code of gRPC for a status: only what a retry helps is one that senders retry.
pub(super) fn grpc_code(status: StatusCode) -> u8 {
    match status {
        StatusCode::BAD_REQUEST => 3,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNSUPPORTED_MEDIA_TYPE => 12,
        StatusCode::FORBIDDEN => 7,
        StatusCode::UNAUTHORIZED => 16,
        // Senders retry this one only with a RetryInfo, which is not sent.
        StatusCode::PAYLOAD_TOO_LARGE => 8,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => 14,
        _ => 13,
    }
}

/// A request that is refused as a whole by a transport.
pub(super) fn malformed(what: &str) -> ApiError {
    decode_error(&crate::remote_write::DecodeError::Body(what.to_owned()))
}
