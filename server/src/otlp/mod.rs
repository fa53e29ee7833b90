//! OpenTelemetry's protocol: `ExportMetricsServiceRequest` over HTTP (protobuf, JSON) and gRPC, as series.
//!
//! ```text
//!  body -> caps -> gzip, zstd -> JSON? -> protobuf -> walk -> rows -> group commit -> answer
//!                                 [`json`]            [`metrics`]
//! ```
//! | module | owns |
//! |---|---|
//! | [`http`] | routes over HTTP, what both transports do, the answers |
//! | `grpc` | the service over gRPC, by tonic |
//! | `json` | JSON to the protobuf that it stands for, by tables |
//! | `schema` | those tables |
//! | `wire` | fields of a message, attribute values as text |
//! | `metrics` | data points to rows by the rule of Prometheus 3 |
//! | `exponential` | exponential histograms as native ones |
//!
//! Logs and traces have their place beside `metrics`: a table in `schema`, a walk, and a [`http::Signal`].
//!
//! Invariants: no structure is made for a message, so that nothing grows beyond the body and the columns; a malformed request
//! stores nothing; a well-formed one stores its valid points, counts the others and names the first fault.
mod exponential;
mod grpc;
pub(crate) mod http;
mod json;
mod metrics;
mod schema;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse as _;
use axum::routing::post;

use crate::app::App;
use crate::error::ApiError;
use crate::http::guard;

/// The routes of the port for OTLP over HTTP.
pub(crate) fn http_router(app: Arc<App>) -> Router {
    let post_only = || async { ApiError::method_not_allowed("POST") };
    Router::new()
        .route("/v1/metrics", post(http::metrics).fallback(post_only))
        .fallback(|| async { ApiError::not_found("no such route; this port takes POST /v1/metrics").into_response() })
        .layer(from_fn_with_state(Arc::clone(&app), guard::observe))
        .layer(from_fn(guard::protect))
        .with_state(app)
}

/// The services of the gRPC port.
pub(crate) fn grpc_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", post(grpc::metrics))
        .fallback(|| async { grpc::unimplemented() })
        .layer(from_fn_with_state(Arc::clone(&app), guard::observe))
        .layer(from_fn(guard::protect))
        .with_state(app)
}
