//! The HTTP application: routes, what surrounds every request, and the listener.
mod backup;
mod body;
mod front;
pub(crate) mod guard;
pub(crate) mod listener;
mod operations;
mod pieces;
mod prometheus;
pub(crate) mod respond;
mod sql;
mod stall;

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};

use crate::app::App;
use crate::error::ApiError;
use crate::influx::handler as influx;
use crate::loki::handler::push;
use crate::otlp::http as otlp;
use crate::remote_read::handler::read;
use crate::remote_write::handler::write;

pub(crate) use self::front::Front;
pub(crate) use self::sql::grpc::subscribe as grpc_subscribe;
pub(crate) use self::sql::subscribe::clients as subscribers;
pub(crate) use body::{discard as discard_body, read as read_body, refuse_encoded, too_large as body_too_large};

/// All requests, answered by `app`.
pub(crate) fn front(app: Arc<App>) -> Front {
    Front::with_questions(guard::around(router(), Arc::clone(&app)), app)
}

/// All routes.
fn router() -> Router<Arc<App>> {
    let post_only = || async { ApiError::method_not_allowed("POST") };
    let get_only = || async { ApiError::method_not_allowed("GET, HEAD") };
    Router::new()
        .route("/api/v1/write", post(write).fallback(post_only))
        .route("/write", post(influx::write).fallback(post_only))
        .route("/api/v2/write", post(influx::write).fallback(post_only))
        .route("/v1/metrics", post(otlp::metrics).fallback(post_only))
        .route("/v1/logs", post(otlp::logs).fallback(post_only))
        .route("/v1/traces", post(otlp::traces).fallback(post_only))
        .route("/api/v1/read", post(read).fallback(post_only))
        .route("/loki/api/v1/push", post(push).fallback(post_only))
        .route("/api/v1/sql", post(sql::run).fallback(post_only))
        .route("/api/v1/sql/names", get(sql::names).fallback(get_only))
        .merge(loki_api())
        .merge(jaeger_api())
        .merge(prometheus_api())
        .merge(prometheus_admin())
        .route("/api/v1/admin/backup", post(backup::run).fallback(post_only))
        .route("/-/healthy", get(operations::healthy).fallback(get_only))
        .route("/-/ready", get(operations::ready).fallback(get_only))
        .route("/-/reload", post(operations::reload).fallback(post_only))
        .route("/metrics", get(operations::metrics).fallback(get_only))
        .route("/api/openapi.json", get(operations::openapi).fallback(get_only))
        .route("/", get(operations::index).fallback(get_only))
        .fallback(|| async { ApiError::not_found("no such route; / lists what there is").into_response() })
}

/// The query part of Loki's HTTP API.
fn loki_api() -> Router<Arc<App>> {
    use crate::loki::query as api;
    let get_only = || async { ApiError::method_not_allowed("GET, HEAD") };
    Router::new()
        .route("/loki/api/v1/query_range", get(api::query_range).fallback(get_only))
        .route("/loki/api/v1/labels", get(api::labels).fallback(get_only))
        .route("/loki/api/v1/label/{name}/values", get(api::label_values).fallback(get_only))
        .route("/loki/api/v1/series", get(api::series).fallback(get_only))
        .route("/loki/api/v1/query", get(api::query).fallback(get_only))
        .route("/loki/api/v1/index/stats", get(api::index_stats).fallback(get_only))
        .route("/loki/api/v1/index/volume", get(api::volume).fallback(get_only))
        .route("/loki/api/v1/index/volume_range", get(api::volume_range).fallback(get_only))
        .route("/loki/api/v1/detected_labels", get(api::detected_labels).fallback(get_only))
        .route("/loki/api/v1/detected_fields", get(api::detected_fields).fallback(get_only))
        .route("/loki/api/v1/detected_field/{name}/values", get(api::detected_field_values).fallback(get_only))
        .route("/loki/api/v1/patterns", get(api::patterns).fallback(get_only))
        .route("/loki/api/v1/tail", get(api::tail::answer).fallback(get_only))
}

/// Jaeger's query API.
fn jaeger_api() -> Router<Arc<App>> {
    use crate::jaeger::handler as api;
    let get_only = || async { ApiError::method_not_allowed("GET, HEAD") };
    Router::new()
        .route("/api/services", get(api::services).fallback(get_only))
        .route("/api/services/{service}/operations", get(api::service_operations).fallback(get_only))
        .route("/api/operations", get(api::operations).fallback(get_only))
        .route("/api/traces", get(api::search).fallback(get_only))
        .route("/api/traces/{id}", get(api::trace).fallback(get_only))
        .route("/api/dependencies", get(api::dependencies).fallback(get_only))
}

/// The query part of the Prometheus HTTP API.
fn prometheus_api() -> Router<Arc<App>> {
    use prometheus as api;
    let either = || async { ApiError::method_not_allowed("GET, HEAD, POST") };
    let get_only = || async { ApiError::method_not_allowed("GET, HEAD") };
    Router::new()
        .route("/api/v1/query", get(api::query).post(api::query).fallback(either))
        .route("/api/v1/query_range", get(api::query_range).post(api::query_range).fallback(either))
        .route("/api/v1/labels", get(api::labels).post(api::labels).fallback(either))
        .route("/api/v1/label/{name}/values", get(api::label_values).fallback(get_only))
        .route("/api/v1/series", get(api::series).post(api::series).fallback(either))
        .route("/api/v1/query_exemplars", get(api::query_exemplars).post(api::query_exemplars).fallback(either))
        .route("/api/v1/metadata", get(api::metadata).fallback(get_only))
        .route("/api/v1/parse_query", get(api::parse_query).post(api::parse_query).fallback(either))
        .route("/api/v1/format_query", get(api::format_query).post(api::format_query).fallback(either))
        .route("/api/v1/status/buildinfo", get(api::build_info).fallback(get_only))
        .route("/api/v1/status/runtimeinfo", get(api::runtime_info).fallback(get_only))
        .route("/api/v1/status/flags", get(api::flags).fallback(get_only))
        .route("/api/v1/status/tsdb", get(api::tsdb).fallback(get_only))
        .route("/api/v1/status/walreplay", get(api::wal_replay).fallback(get_only))
        .route("/api/v1/rules", get(api::rules).fallback(get_only))
        .route("/api/v1/alerts", get(api::alerts).fallback(get_only))
        .route("/api/v1/targets", get(api::targets).fallback(get_only))
        .route("/api/v1/targets/metadata", get(api::targets_metadata).fallback(get_only))
        .route("/api/v1/scrape_pools", get(api::scrape_pools).fallback(get_only))
        .route("/api/v1/alertmanagers", get(api::alertmanagers).fallback(get_only))
}

/// The part of the Prometheus HTTP API that changes what is stored.
fn prometheus_admin() -> Router<Arc<App>> {
    use prometheus as api;
    let writing = || async { ApiError::method_not_allowed("POST, PUT") };
    Router::new()
        .route("/api/v1/admin/tsdb/delete_series", post(api::delete_series).put(api::delete_series).fallback(writing))
        .route("/api/v1/admin/tsdb/snapshot", post(api::snapshot).put(api::snapshot).fallback(writing))
        .route(
            "/api/v1/admin/tsdb/clean_tombstones",
            post(api::clean_tombstones).put(api::clean_tombstones).fallback(writing),
        )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    /// Whatever is given to `route` in this file.
    #[test]
    fn the_description_of_the_api_has_every_route_and_no_other() {
        let source = include_str!("mod.rs").split("#[cfg(test)]").next().unwrap();
        let routed = source.split(".route(").skip(1).map(|rest| rest.split('"').nth(1).unwrap());
        let mut routed: Vec<&str> = routed.filter(|path| *path != "/").collect();
        routed.sort_unstable();
        let api: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let mut described: Vec<&str> = api["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        described.sort_unstable();
        assert_eq!(routed, described);
    }
}
