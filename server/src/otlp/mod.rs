//! OpenTelemetry's protocol over HTTP (protobuf, JSON) and gRPC: metrics as series, logs and traces as events.
//!
//! ```text
//!  body -> caps -> gzip, zstd -> JSON? -> protobuf -> walk -> rows -> group commit -> answer
//!                                 [`json`]            [`metrics`], [`events`]
//! ```
//! | module | owns |
//! |---|---|
//! | [`http`] | routes over HTTP, what both transports do, the answers |
//! | `grpc` | the services over gRPC, by tonic |
//! | `json` | JSON to the protobuf that it stands for, by tables |
//! | `schema` | those tables |
//! | `wire` | fields of a message, attribute values as text |
//! | `metrics` | data points to rows by the rule of Prometheus 3 |
//! | `exponential` | exponential histograms as native ones |
//! | `events` | resources and scopes of logs and traces, their rows to batches |
//! | `log_record`, `span` | one row of these |
//! | `any` | attribute values with their types |
//! | `fault` | what is wrong with a row, and how much rows may take |
//!
//! Invariants: no structure is made for a message, so that nothing grows beyond the body and the columns; a malformed request
//! stores nothing; a well-formed one stores its valid points or rows, counts the others and names the first fault.
mod any;
mod events;
mod exponential;
mod fault;
pub(crate) mod grpc;
pub(crate) mod http;
mod json;
mod log_record;
mod metrics;
mod schema;
mod span;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::post;

use crate::app::App;
use crate::error::ApiError;
use crate::http::{Front, grpc_subscribe, guard};

/// The routes of the port for OTLP over HTTP.
pub(crate) fn http_front(app: Arc<App>) -> Front {
    let post_only = || async { ApiError::method_not_allowed("POST") };
    let router = Router::new()
        .route("/v1/metrics", post(http::metrics).fallback(post_only))
        .route("/v1/logs", post(http::logs).fallback(post_only))
        .route("/v1/traces", post(http::traces).fallback(post_only))
        .fallback(|| async {
            let what = "no such route; this port takes POST /v1/metrics, /v1/logs and /v1/traces";
            ApiError::not_found(what).into_response()
        });
    Front::of(guard::around(router, app))
}

/// The services of the gRPC port.
pub(crate) fn grpc_front(app: Arc<App>) -> Front {
    let router = Router::new()
        .route("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", post(grpc::metrics))
        .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", post(grpc::logs))
        .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", post(grpc::traces))
        .route("/foretell.v1.Subscriptions/Subscribe", post(grpc_subscribe))
        .fallback(|| async { grpc::unimplemented() });
    Front::of(guard::around(router, app))
}
