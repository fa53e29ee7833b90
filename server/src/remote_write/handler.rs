//! `POST /api/v1/write`.
//!
//! | answer | when |
//! |---|---|
//! | 204 | everything is durable |
//! | 400 | the request is malformed (nothing stored), or parts of it are invalid (the rest is durable) |
//! | 413 | above a size limit |
//! | 415 | a content type or encoding that is not accepted |
//! | 429 | too many bytes in flight, or the limit of active series (known series are stored) |
//! | 503 | opening, stopping, memtables full, or the disk refuses: try again |
//!
//! Every answer but 415 and 503 says in three headers how many samples, histograms and exemplars of the request are durable.
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use foretell_engine::Engine;
use tokio::sync::OwnedSemaphorePermit;

use super::content::negotiate;
use super::decode::{DecodeError, Protocol};
use super::fault::Report;
use super::ingest::{IngestError, Prepared, Worker};
use super::snappy;
use crate::app::{App, Store};
use crate::error::ApiError;
use crate::http::{body_too_large, discard_body, read_body};

/// Requests that decompress to more than this are worked on by a blocking thread.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// What a 2.0 sender compares with what it has sent.
const SAMPLES_WRITTEN: &str = "x-prometheus-remote-write-samples-written";
const HISTOGRAMS_WRITTEN: &str = "x-prometheus-remote-write-histograms-written";
const EXEMPLARS_WRITTEN: &str = "x-prometheus-remote-write-exemplars-written";

pub(crate) async fn write(State(app): State<Arc<App>>, request: Request<Body>) -> Response {
    let started = Instant::now();
    let protocol = negotiate(request.headers());
    let version = protocol.as_ref().map_or("unknown", |protocol| protocol.version());
    let outcome = match protocol {
        Ok(protocol) => take(&app, protocol, request).await,
        Err(error) => Err(error),
    };
    let response = respond(outcome);
    app.metrics.remote_write_request(version, response.status(), started.elapsed());
    response
}

/// The answer to a sender: the verdict, and what of its request is durable.
fn respond(outcome: Result<Report, ApiError>) -> Response {
    let (written, verdict) = match outcome {
        Ok(report) => {
            let verdict = verdict(&report);
            (report, verdict)
        }
        Err(error) => (Report::default(), Err(error)),
    };
    let mut response = match verdict {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    };
    // A failed commit may turn out to be durable after all: then a 503 must not say that it is not.
    let status = response.status();
    if !status.is_server_error() && status != StatusCode::UNSUPPORTED_MEDIA_TYPE {
        let counts = [
            (SAMPLES_WRITTEN, written.samples_stored),
            (HISTOGRAMS_WRITTEN, written.histograms_stored),
            (EXEMPLARS_WRITTEN, written.exemplars_stored),
        ];
        for (name, count) in counts {
            response.headers_mut().insert(name, HeaderValue::from(count));
        }
    }
    response
}

/// Stores what is valid of a request. The report is made after that is durable.
async fn take(app: &Arc<App>, protocol: Protocol, request: Request<Body>) -> Result<Report, ApiError> {
    let (parts, body) = request.into_parts();
    let store = app.store()?;
    let (body, _wire) = receive(app, &parts.headers, body).await?;
    let decoded_bytes = snappy::declared_len(&body, app.workers.limits()).map_err(|error| refused(app, &error))?;
    let _decoded = app.reserve(decoded_bytes)?;
    app.metrics.remote_write_bytes(body.len(), decoded_bytes);

    let ts_ms_max = now_ms(app.config.limits.future_max.0);
    let prepare = move |worker: &mut Worker, engine: &Engine| worker.batch(engine, protocol, &body, ts_ms_max);
    let report = commit(app, &store, decoded_bytes, prepare).await?;
    app.metrics.ingested(&report);
    Ok(report)
}

/// Reads the body of a write request within its limits; its bytes are reserved until the permit is dropped.
pub(crate) async fn receive(
    app: &Arc<App>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, OwnedSemaphorePermit), ApiError> {
    let wire_bytes_max = app.workers.limits().wire_bytes_max;
    let announced = headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|len| len > wire_bytes_max) {
        // A sender that waits for "100 Continue" has not sent the body and need not.
        if !headers.contains_key(EXPECT) {
            discard_body(body).await;
        }
        return Err(body_too_large(wire_bytes_max));
    }
    let wire = app.reserve(announced.unwrap_or(wire_bytes_max))?;
    Ok((read_body(body, wire_bytes_max, app.config.limits.body_timeout.0).await?, wire))
}

/// Makes a batch of a request of `decoded_bytes` and waits until it is durable.
pub(crate) async fn commit(
    app: &Arc<App>,
    store: &Store,
    decoded_bytes: usize,
    prepare: impl FnOnce(&mut Worker, &Engine) -> Result<Prepared, IngestError> + Send + 'static,
) -> Result<Report, ApiError> {
    let workers = Arc::clone(&app.workers);
    let engine = store.engine.clone();
    let work = move || {
        let Prepared { batch, report, described } = workers.with(|worker| prepare(worker, &engine))?;
        let commit = if batch.is_empty() { None } else { Some(engine.write(batch)?) };
        Ok::<_, IngestError>((commit, report, described))
    };
    let worked = if decoded_bytes <= INLINE_BYTES_MAX {
        work()
    } else {
        let _turn = app.decoding_turn(decoded_bytes).await?;
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| ApiError::unavailable(format!("the request was not processed: {error}")))?
    };
    let (commit, report, described) = worked.map_err(|error| match error {
        IngestError::Decode(error) => refused(app, &error),
        IngestError::Engine(error) => ApiError::from_write(&error),
    })?;
    if let Some(commit) = commit {
        let lsn = commit.await.map_err(|error| ApiError::from_write(&error))?;
        app.workers.described(&described, lsn);
    }
    Ok(report)
}

/// Counts a request that is refused as a whole.
fn refused(app: &App, error: &DecodeError) -> ApiError {
    app.metrics.decode_error(error);
    decode_error(error)
}

/// The verdict on a request whose valid part is durable.
pub(crate) fn verdict(report: &Report) -> Result<(), ApiError> {
    if report.is_clean() {
        Ok(())
    } else if report.limited {
        Err(ApiError::too_many(report.message()).retry_after(60))
    } else {
        Err(ApiError::bad_data(report.message()))
    }
}

pub(crate) fn decode_error(error: &DecodeError) -> ApiError {
    match error {
        DecodeError::TooLarge(_) => ApiError::too_large(error.to_string()),
        DecodeError::Snappy(_) | DecodeError::Body(_) | DecodeError::Malformed { .. } => {
            ApiError::bad_data(error.to_string())
        }
    }
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
mod tests {
    use super::*;

    fn written(response: &Response) -> [Option<u64>; 3] {
        [SAMPLES_WRITTEN, HISTOGRAMS_WRITTEN, EXEMPLARS_WRITTEN]
            .map(|name| response.headers().get(name)?.to_str().ok()?.parse().ok())
    }

    #[test]
    fn answers_say_what_was_written_when_that_is_known() {
        let mut report = Report { samples_stored: 3, histograms_stored: 2, exemplars_stored: 1, ..Report::default() };
        let response = respond(Ok(report.clone()));
        assert_eq!((response.status().as_u16(), written(&response)), (204, [Some(3), Some(2), Some(1)]));
        report.faults.note(super::super::Fault::NoLabels, String::new);
        let response = respond(Ok(report.clone()));
        assert_eq!((response.status().as_u16(), written(&response)), (400, [Some(3), Some(2), Some(1)]));
        report.limited = true;
        let response = respond(Ok(report));
        assert_eq!((response.status().as_u16(), written(&response)), (429, [Some(3), Some(2), Some(1)]));
        assert_eq!(written(&respond(Err(ApiError::bad_data("x")))), [Some(0); 3]);
        assert_eq!(written(&respond(Err(ApiError::unsupported_media("x")))), [None; 3]);
        assert_eq!(written(&respond(Err(ApiError::unavailable("x")))), [None; 3]);
    }
}
