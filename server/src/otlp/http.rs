//! `POST /v1/metrics`, `/v1/logs`, `/v1/traces`, and what both transports do with a request.
//!
//! | answer | when |
//! |---|---|
//! | 200 | what is valid is durable; `partial_success` counts the other data points, records or spans and names the first fault |
//! | 400 | malformed (nothing stored), or none of these is valid |
//! | 413, 415 | above a size limit; a content type or encoding that is not accepted |
//! | 429 | too many bytes in flight, or the limit of active series and nothing stored: a retry helps |
//! | 503 | opening, stopping, memtables full, the body came too slowly, or the disk refuses: a retry helps |
//!
//! A success answers in the format of the request; so does an error, as `google.rpc.Status`.
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use foretell_engine::clock::{Clock as _, SystemClock};
use foretell_query::event;

use super::metrics::{Mapping, fill};
use super::{events, json, schema};
use crate::app::{App, Store};
use crate::error::ApiError;
use crate::http::respond;
use crate::remote_write::DecodeError;
use crate::remote_write::compression::{Compression, Plain, decompress};
use crate::remote_write::handler::{INLINE_BYTES_MAX, commit, decode_error, receive, refused, verdict};
use crate::remote_write::ingest::IngestError;
use crate::sender::encode::{put_bytes, put_varint};

/// Bytes of a message for each of JSON, at most: numbers of one digit with a comma, as 64-bit fields.
const MESSAGE_PER_JSON: usize = 5;

/// What a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Metrics,
    Logs,
    Traces,
}

impl Signal {
    /// Its name in `/metrics`.
    pub(super) fn protocol(self) -> &'static str {
        match self {
            Self::Metrics => "otlp",
            Self::Logs => "otlp_logs",
            Self::Traces => "otlp_traces",
        }
    }

    /// The field of `partial_success` that counts, in JSON; in protobuf it is number 1 of each.
    fn rejected(self) -> &'static str {
        match self {
            Self::Metrics => "rejectedDataPoints",
            Self::Logs => "rejectedLogRecords",
            Self::Traces => "rejectedSpans",
        }
    }
}

/// What became of a well-formed request.
pub(super) struct Outcome {
    rejected: u64,
    /// The first fault; `None` when everything is stored.
    fault: Option<String>,
}

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
    export(app, Signal::Metrics, request).await
}

pub(crate) async fn logs(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Logs, request).await
}

pub(crate) async fn traces(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    export(app, Signal::Traces, request).await
}

async fn export(app: Arc<App>, signal: Signal, request: Request<Body>) -> Response {
    let started = Instant::now();
    let response = match Format::of(request.headers()) {
        Ok(format) => match take(&app, signal, format, request).await {
            Ok(outcome) => success(&outcome, signal, format),
            Err(error) => failure(error, format),
        },
        Err(error) => failure(error, Format::Json),
    };
    app.metrics.push_request(signal.protocol(), "http", response.status().as_str(), started.elapsed());
    response
}

async fn take(app: &Arc<App>, signal: Signal, format: Format, request: Request<Body>) -> Result<Outcome, ApiError> {
    let (parts, body) = request.into_parts();
    app.store()?;
    let compression = Compression::of(&parts.headers)?;
    let (body, _wire) = receive(app, &parts.headers, body).await?;
    let wire_bytes = body.len();
    let plain = decompress(app, compression, body).await?;
    store(app, signal, format, wire_bytes, plain).await
}

/// Stores what is valid of a request. The outcome is made after that is durable.
///
/// # Errors
/// When nothing is stored.
pub(super) async fn store(
    app: &Arc<App>,
    signal: Signal,
    format: Format,
    wire_bytes: usize,
    plain: Plain,
) -> Result<Outcome, ApiError> {
    let store = app.store()?;
    app.metrics.push_bytes(signal.protocol(), wire_bytes, plain.bytes.len());
    let bytes_max = match format {
        Format::Protobuf => 0,
        Format::Json => message_bytes_max(plain.bytes.len(), app.workers.limits().decoded_bytes_max),
    };
    let _message = app.reserve(bytes_max)?;
    let written = Written { plain, format, bytes_max };
    match signal {
        Signal::Metrics => samples(app, &store, written).await,
        Signal::Logs => rows(app, &store, signal, event::Signal::Logs, written).await,
        Signal::Traces => rows(app, &store, signal, event::Signal::Spans, written).await,
    }
}

/// A body, and how it is written.
struct Written {
    plain: Plain,
    format: Format,
    /// Of the message that JSON stands for.
    bytes_max: usize,
}

impl Written {
    /// Bytes that there are to work on.
    fn work_bytes(&self) -> usize {
        self.plain.bytes.len().max(self.bytes_max)
    }

    /// The protobuf message that it is.
    fn message(&self, schema: &'static json::Schema) -> Result<Cow<'_, [u8]>, DecodeError> {
        match self.format {
            Format::Protobuf => Ok(Cow::Borrowed(&self.plain.bytes[..])),
            Format::Json => json::transcode(&self.plain.bytes, schema, self.bytes_max).map(Cow::Owned),
        }
    }
}

/// Stores metrics.
async fn samples(app: &Arc<App>, store: &Store, written: Written) -> Result<Outcome, ApiError> {
    let mapping = Mapping::new(&app.config.otlp, app.config.limits.labels_max);
    let (now_ns, future_max) = (SystemClock.now_ns(), app.config.limits.future_max.0);
    let report = commit(app, store, written.work_bytes(), move |worker, engine| {
        worker.rows(engine, now_ns, future_max, "data point", |rows| {
            let message = written.message(&schema::METRICS_REQUEST)?;
            fill(&message, &mapping, rows)
        })
    })
    .await?;
    app.metrics.pushed(Signal::Metrics.protocol(), &report);
    // Nothing to retry in part: a limit that a later try may meet again is told when nothing else was stored.
    if report.is_empty() {
        verdict(&report)?;
    }
    let fault = (!report.is_clean()).then(|| report.message());
    Ok(Outcome { rejected: report.points_dropped, fault })
}

/// Stores logs or traces.
async fn rows(
    app: &Arc<App>,
    store: &Store,
    signal: Signal,
    table: event::Signal,
    written: Written,
) -> Result<Outcome, ApiError> {
    let now = SystemClock.now_ns();
    let future_max = i64::try_from(app.config.limits.future_max.0.as_nanos()).unwrap_or(i64::MAX);
    let limits = events::Limits {
        labels: app.config.label_limits(),
        now,
        ts_max: now.saturating_add(future_max),
        items_max: app.workers.limits().samples_max,
    };
    let schema = match table {
        event::Signal::Logs => &schema::LOGS_REQUEST,
        event::Signal::Spans => &schema::TRACES_REQUEST,
    };
    let (work_bytes, engine) = (written.work_bytes(), store.engine.clone());
    let work = move || {
        let message = written.message(schema)?;
        let (batch, report) = events::batch(&engine, table, &message, &limits)?;
        let commit = if batch.is_empty() { None } else { Some(engine.write(batch)?) };
        Ok::<_, IngestError>((commit, report))
    };
    let worked = if work_bytes <= INLINE_BYTES_MAX {
        work()
    } else {
        let _turn = app.decoding_turn(work_bytes).await?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| ApiError::unavailable(format!("the request was not processed: {error}")))?
    };
    let (commit, report) = worked.map_err(|error| match error {
        IngestError::Decode(error) => refused(app, &error),
        IngestError::Engine(error) => ApiError::from_write(&error),
    })?;
    if let Some(commit) = commit {
        commit.await.map_err(|error| ApiError::from_write(&error))?;
    }
    let reason = report.first.as_ref().map(|first| first.0.reason());
    app.metrics.pushed_rows(signal.protocol(), report.stored, report.rejected, reason);
    let fault = report.message();
    if let Some(why) = fault.as_ref().filter(|_| report.stored == 0) {
        let why = why.clone();
        return Err(if report.limited { ApiError::too_many(why).retry_after(60) } else { ApiError::bad_data(why) });
    }
    Ok(Outcome { rejected: report.rejected, fault })
}

/// Bytes that the message of a JSON body may have: both together stay within the limit of one decompressed body, so that the
/// largest request fits into the memory for requests in flight.
fn message_bytes_max(json_bytes: usize, decoded_bytes_max: usize) -> usize {
    json_bytes.saturating_mul(MESSAGE_PER_JSON).min(decoded_bytes_max.saturating_sub(json_bytes))
}

/// The response of each service: empty, or with a `partial_success`.
pub(super) fn response_message(outcome: &Outcome) -> Vec<u8> {
    let mut message = Vec::new();
    if let Some(fault) = &outcome.fault {
        let mut partial = Vec::new();
        partial.push(1 << 3);
        put_varint(&mut partial, outcome.rejected);
        put_bytes(&mut partial, 2 << 3 | 2, fault.as_bytes());
        put_bytes(&mut message, 1 << 3 | 2, &partial);
    }
    message
}

fn success(outcome: &Outcome, signal: Signal, format: Format) -> Response {
    match (format, &outcome.fault) {
        (Format::Protobuf, _) => respond::text(StatusCode::OK, "application/x-protobuf", response_message(outcome)),
        (Format::Json, None) => respond::json(StatusCode::OK, "{}"),
        (Format::Json, Some(fault)) => {
            let partial = serde_json::json!({
                (signal.rejected()): outcome.rejected.to_string(),
                "errorMessage": fault,
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
    decode_error(&DecodeError::Body(what.to_owned()))
}
