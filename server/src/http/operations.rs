//! Endpoints for operators: health, readiness, metrics, the API's description, a start page.
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::Response;

use super::respond;
use crate::app::{App, Phase};
use crate::error::ApiError;

/// 200 as long as the process answers at all.
pub(crate) async fn healthy() -> Response {
    respond::json(StatusCode::OK, r#"{"status":"healthy"}"#)
}

/// 200 when writes and queries are taken, 503 with the reason otherwise.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    let answer = match app.phase() {
        Phase::Ready(_) => return respond::json(StatusCode::OK, r#"{"status":"ready"}"#),
        Phase::Opening { since, wal_bytes } => serde_json::json!({
            "status": "opening",
            "message": "replaying the write-ahead log",
            "wal_bytes": wal_bytes,
            "elapsed_seconds": since.elapsed().as_secs_f64(),
        }),
        Phase::Stopping => serde_json::json!({
            "status": "stopping",
            "message": "finishing work in flight",
            "requests_active": app.requests_active(),
        }),
    };
    let mut response = respond::json(StatusCode::SERVICE_UNAVAILABLE, answer.to_string());
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Reads the rule files again, whoever waits for it. With a fault in one of them 400, and the old rules go on.
pub(crate) async fn reload(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    app.store()?;
    // On a task of its own: a client that goes away must not end it while the groups are being exchanged.
    let reloading = tokio::spawn(async move { app.rules.reload().await });
    let reloaded = reloading.await.map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", format!("the reload ended early: {error}"))
    })?;
    let groups = reloaded.map_err(|error| {
        ApiError::bad_data(format!("failed to reload the rule files, the old rules go on: {error}"))
    })?;
    Ok(respond::json(StatusCode::OK, serde_json::json!({"status": "success", "data": {"groups": groups}}).to_string()))
}

/// The server's own metrics, OpenMetrics text.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.metrics.encode(&app).await {
        Ok(text) => respond::text(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text),
        Err(error) => respond::text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", error.to_string()),
    }
}

/// The description of this API.
pub(crate) async fn openapi() -> Response {
    respond::json(StatusCode::OK, include_str!("openapi.json").replacen("0.0.0", env!("CARGO_PKG_VERSION"), 1))
}

/// A page that says what this is.
pub(crate) async fn index() -> Response {
    respond::text(StatusCode::OK, "text/html; charset=utf-8", include_str!("index.html"))
}
