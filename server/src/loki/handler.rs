//! `POST /loki/api/v1/push`.
//!
//! | answer | when |
//! |---|---|
//! | 204 | everything is durable |
//! | 400 | the request is malformed (nothing stored), or parts of it are invalid (the rest is durable) |
//! | 413 | above a size limit |
//! | 415 | a content type or encoding that is not accepted |
//! | 429 | too many bytes in flight, or the limit of active series (known streams are stored) |
//! | 503 | opening, stopping, memtables full, or the disk refuses: try again |
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use foretell_engine::{Engine, Error as EngineError};

use super::ingest::{self, Limits, Report};
use super::push::{Budget, PushError};
use super::{json, protobuf};
use crate::app::App;
use crate::error::ApiError;
use crate::http::{body_too_large, discard_body, read_body};
use crate::remote_write::compression::{Compression, Plain, decompress};
use crate::remote_write::handler::now_ms;
use crate::remote_write::{DecodeError, DecodeLimits, snappy};

/// An item of a request takes about as much memory as so many samples of a remote write.
const SAMPLES_PER_ITEM: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json(Compression),
}

pub(crate) async fn push(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let started = Instant::now();
    let form = negotiate(request.headers());
    let label = match form {
        Ok(Form::Protobuf) => "protobuf",
        Ok(Form::Json(_)) => "json",
        Err(_) => "unknown",
    };
    let outcome = match form {
        Ok(form) => take(&app, form, request).await,
        Err(error) => Err(error),
    };
    let response = match outcome.and_then(|report| verdict(&report)) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    };
    app.metrics.loki_push(label, response.status(), started.elapsed());
    response
}

/// What the body is. Without a content type it is protobuf, as for Loki.
fn negotiate(headers: &HeaderMap) -> Result<Form, ApiError> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let content_type = text(CONTENT_TYPE).unwrap_or("application/x-protobuf");
    let encoding = text(CONTENT_ENCODING).unwrap_or("").to_ascii_lowercase();
    match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" if matches!(encoding.as_str(), "" | "snappy") => Ok(Form::Protobuf),
        "application/x-protobuf" => Err(ApiError::unsupported_media(
            "this Content-Encoding is not supported; protobuf is a snappy block, with Content-Encoding snappy or none",
        )),
        "application/json" => Compression::of(headers).map(Form::Json),
        _ => Err(ApiError::unsupported_media(
            "this Content-Type is not supported; accepted: application/x-protobuf (a snappy block) and application/json",
        )),
    }
}

/// Stores what is valid of a request. The report is made after that is durable.
async fn take(app: &Arc<App>, form: Form, request: Request<Body>) -> Result<Report, ApiError> {
    let (parts, body) = request.into_parts();
    let store = app.store()?;
    let limits = app.workers.limits().clone();
    let wire_bytes_max = limits.wire_bytes_max;
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|len| len > wire_bytes_max) {
        if !parts.headers.contains_key(EXPECT) {
            discard_body(body).await;
        }
        return Err(body_too_large(wire_bytes_max));
    }
    let _wire = app.reserve(announced.unwrap_or(wire_bytes_max))?;
    let body = read_body(body, wire_bytes_max, app.config.limits.body_timeout.0).await?;
    let wire_bytes = body.len();
    let (body, decoded_bytes) = match form {
        Form::Protobuf => {
            let declared = snappy::declared_len(&body, &limits);
            (Plain::of(body), declared.map_err(|error| refused(app, &of_snappy(&error)))?)
        }
        // What is decompressed is reserved as it grows.
        Form::Json(compression) => {
            let plain = decompress(app, compression, body).await.inspect_err(|error| count_refused(app, error))?;
            let decoded_bytes = plain.bytes.len();
            (plain, decoded_bytes)
        }
    };
    let _decoded = match form {
        Form::Json(Compression::Gzip | Compression::Zstd) => None,
        Form::Json(Compression::Identity) | Form::Protobuf => Some(app.reserve(decoded_bytes)?),
    };
    app.metrics.loki_bytes(wire_bytes, decoded_bytes);
    let ts_max = now_ms(app.config.limits.future_max.0).saturating_mul(1_000_000);
    let of_lines = Limits { labels: app.config.label_limits(), ts_max };
    let engine = store.engine.clone();
    let _turn = app.decoding_turn(decoded_bytes).await?;
    let worked = tokio::task::spawn_blocking(move || work(&engine, form, &body.bytes, &limits, &of_lines))
        .await
        .map_err(|error| ApiError::unavailable(format!("the request was not processed: {error}")))?;
    let (commit, report) = worked.map_err(|error| match error {
        Failed::Push(error) => refused(app, &error),
        Failed::Engine(error) => ApiError::from_write(&error),
    })?;
    if let Some(commit) = commit {
        commit.await.map_err(|error| ApiError::from_write(&error))?;
    }
    app.metrics.loki_ingested(&report);
    Ok(report)
}

enum Failed {
    Push(PushError),
    Engine(EngineError),
}

type Worked = (Option<foretell_engine::CommitHandle>, Report);

fn work(engine: &Engine, form: Form, body: &[u8], limits: &DecodeLimits, of_lines: &Limits) -> Result<Worked, Failed> {
    let mut budget = Budget::new(limits.samples_max / SAMPLES_PER_ITEM);
    let mut decompressed = Vec::new();
    let streams = match form {
        Form::Json(_) => json::decode(body, &mut budget),
        Form::Protobuf => {
            let len = snappy::decompress(body, limits, &mut decompressed).map_err(|e| Failed::Push(of_snappy(&e)))?;
            protobuf::decode(&decompressed[..len], &mut budget)
        }
    };
    let streams = streams.map_err(Failed::Push)?;
    let (batch, report) = ingest::batch(engine, &streams, of_lines).map_err(Failed::Engine)?;
    let commit = if batch.is_empty() { None } else { Some(engine.write(batch).map_err(Failed::Engine)?) };
    Ok((commit, report))
}

fn of_snappy(error: &DecodeError) -> PushError {
    match error {
        DecodeError::TooLarge(why) => PushError::TooLarge(why.clone()),
        error => PushError::Malformed(error.to_string()),
    }
}

fn refused(app: &App, error: &PushError) -> ApiError {
    app.metrics.loki_refused(error.cause());
    match error {
        PushError::TooLarge(why) => ApiError::too_large(why.clone()),
        PushError::Malformed(why) => ApiError::bad_data(why.clone()),
    }
}

/// Counts a body that could not be decompressed; one for which there was no memory is none of those.
fn count_refused(app: &App, error: &ApiError) {
    match error.status {
        StatusCode::PAYLOAD_TOO_LARGE => app.metrics.loki_refused("too_large"),
        StatusCode::BAD_REQUEST => app.metrics.loki_refused("malformed"),
        _ => {}
    }
}

/// The verdict on a request whose valid part is durable.
fn verdict(report: &Report) -> Result<(), ApiError> {
    if report.fault.is_none() {
        Ok(())
    } else if report.limited {
        Err(ApiError::too_many(report.message()).retry_after(60))
    } else {
        Err(ApiError::bad_data(report.message()))
    }
}
