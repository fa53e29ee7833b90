//! `POST /api/v1/write`.
//!
//! | answer | when |
//! |---|---|
//! | 204 | everything is durable |
//! | 400 | the request is malformed (nothing stored), or parts of it are invalid (the rest is durable) |
//! | 413 | above a size limit |
//! | 415 | not snappy, or not `prometheus.WriteRequest` |
//! | 429 | too many bytes in flight, or the limit of active series (known series are stored) |
//! | 503 | opening, stopping, memtables full, or the disk refuses: try again |
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};

use super::decode::DecodeError;
use super::fault::Report;
use super::ingest::IngestError;
use super::snappy;
use crate::app::App;
use crate::error::ApiError;
use crate::http::{body_too_large, discard_body, read_body};

/// Requests that decompress to more than this are worked on by a blocking thread.
const INLINE_BYTES_MAX: usize = 64 << 10;

pub(crate) async fn write(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let started = Instant::now();
    let outcome = take(&app, request).await;
    let (status, response) = match outcome {
        Ok(()) => (StatusCode::NO_CONTENT, StatusCode::NO_CONTENT.into_response()),
        Err(error) => (error.status, error.into_response()),
    };
    app.metrics.remote_write_request(status, started.elapsed());
    response
}

async fn take(app: &Arc<App>, request: Request<Body>) -> Result<(), ApiError> {
    let (parts, body) = request.into_parts();
    check_content(&parts.headers)?;
    let store = app.store()?;
    let wire_bytes_max = app.workers.limits().wire_bytes_max;
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|len| len > wire_bytes_max) {
        // A sender that waits for "100 Continue" has not sent the body and need not.
        if !parts.headers.contains_key(EXPECT) {
            discard_body(body).await;
        }
        return Err(body_too_large(wire_bytes_max));
    }
    let _wire = app.reserve(announced.unwrap_or(wire_bytes_max))?;
    let body = read_body(body, wire_bytes_max, app.config.limits.body_timeout.0).await?;
    let refused = |error: &DecodeError| {
        app.metrics.decode_error(error);
        decode_error(error)
    };
    let decoded_bytes = snappy::declared_len(&body, app.workers.limits()).map_err(|error| refused(&error))?;
    let _decoded = app.reserve(decoded_bytes)?;
    app.metrics.remote_write_bytes(body.len(), decoded_bytes);

    let ts_ms_max = now_ms(app.config.limits.future_max.0);
    let workers = Arc::clone(&app.workers);
    let engine = store.engine.clone();
    let work = move || {
        let (batch, report) = workers.with(|worker| worker.batch(&engine, &body, ts_ms_max))?;
        let commit = if batch.is_empty() { None } else { Some(engine.write(batch)?) };
        Ok::<_, IngestError>((commit, report))
    };
    let worked = if decoded_bytes <= INLINE_BYTES_MAX {
        work()
    } else {
        let _turn = app.decoding_turn(decoded_bytes).await?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| ApiError::unavailable(format!("the request was not processed: {error}")))?
    };
    let (commit, report) = worked.map_err(|error| match error {
        IngestError::Decode(error) => refused(&error),
        IngestError::Engine(error) => ApiError::from_write(&error),
    })?;
    if let Some(commit) = commit {
        commit.await.map_err(|error| ApiError::from_write(&error))?;
    }
    app.metrics.ingested(&report);
    answer(&report)
}

/// The verdict on a request whose valid part is durable.
fn answer(report: &Report) -> Result<(), ApiError> {
    if report.is_clean() {
        Ok(())
    } else if report.limited {
        Err(ApiError::too_many(report.message()).retry_after(60))
    } else {
        Err(ApiError::bad_data(report.message()))
    }
}

fn decode_error(error: &DecodeError) -> ApiError {
    match error {
        DecodeError::TooLarge(_) => ApiError::too_large(error.to_string()),
        DecodeError::Snappy(_) | DecodeError::Malformed(_) => ApiError::bad_data(error.to_string()),
    }
}

/// Absent headers mean remote write 1.0, as they do in Prometheus; present ones must say so.
fn check_content(headers: &HeaderMap) -> Result<(), ApiError> {
    if let Some(encoding) = headers.get(CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"snappy")
    {
        return Err(ApiError::unsupported_media("only Content-Encoding: snappy is accepted"));
    }
    let Some(content_type) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let content_type = content_type.to_str().unwrap_or_default();
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next().unwrap_or_default().eq_ignore_ascii_case("application/x-protobuf") {
        return Err(ApiError::unsupported_media("only Content-Type: application/x-protobuf is accepted"));
    }
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("proto") {
            match value.trim().trim_matches('"') {
                "prometheus.WriteRequest" => {}
                "io.prometheus.write.v2.Request" => {
                    return Err(ApiError::unsupported_media(
                        "remote write 2.0 is not supported yet; send proto=prometheus.WriteRequest (remote write 1.0)",
                    ));
                }
                _ => return Err(ApiError::unsupported_media("unknown proto; send proto=prometheus.WriteRequest")),
            }
        }
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the server that reads the wall clock: the edge of accepted timestamps"
)]
fn now_ms(ahead: Duration) -> i64 {
    let latest = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(ahead);
    i64::try_from(latest.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn status(encoding: Option<&'static str>, content_type: Option<&'static str>) -> Option<u16> {
        let mut headers = HeaderMap::new();
        encoding.map(|value| headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value)));
        content_type.map(|value| headers.insert(CONTENT_TYPE, HeaderValue::from_static(value)));
        check_content(&headers).err().map(|error| error.status.as_u16())
    }

    #[test]
    fn only_snappy_protobuf_of_version_one_is_taken() {
        assert_eq!(status(Some("snappy"), Some("application/x-protobuf")), None);
        assert_eq!(status(None, None), None);
        assert_eq!(status(Some("snappy"), Some("application/x-protobuf;proto=prometheus.WriteRequest")), None);
        assert_eq!(
            status(Some("snappy"), Some("application/x-protobuf; proto=io.prometheus.write.v2.Request")),
            Some(415)
        );
        assert_eq!(status(Some("snappy"), Some("application/x-protobuf;proto=other")), Some(415));
        assert_eq!(status(Some("gzip"), Some("application/x-protobuf")), Some(415));
        assert_eq!(status(Some("snappy"), Some("application/json")), Some(415));
        assert_eq!(status(Some("snappy"), Some("")), Some(415));
    }
}
