//! What the server says of itself, and the parts of the API that have nothing to tell yet.
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::super::respond;
use super::params::Params;
use crate::app::App;
use crate::error::ApiError;

/// The version of the Prometheus API that this server speaks: Grafana decides by it what to ask for.
const API_VERSION: &str = "3.5.0";
/// Rows of each list of `status/tsdb` unless the request says otherwise.
const TSDB_ROWS: usize = 10;

fn success(data: &Value) -> Response {
    respond::json(StatusCode::OK, json!({"status": "success", "data": data}).to_string())
}

pub(in super::super) async fn build_info() -> Response {
    success(&json!({
        "version": API_VERSION,
        "revision": env!("CARGO_PKG_VERSION"),
        "branch": "foretell",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

pub(in super::super) async fn runtime_info(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let store = app.store()?;
    let stats = store.engine.stats();
    Ok(success(&json!({
        "startTime": crate::timestamp::rfc3339(app.started_ns),
        "CWD": app.config.data_dir,
        "reloadConfigSuccess": true,
        "corruptionCount": 0,
        "timeSeriesCount": stats.active_series,
        "storageRetention": "",
    })))
}

pub(in super::super) async fn flags() -> Response {
    success(&json!({}))
}

pub(in super::super) async fn tsdb(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let rows = match params.count("limit")? {
        0 => TSDB_ROWS,
        limit => limit,
    };
    let store = app.store()?;
    let cardinality = store.database.cardinality(None).await?;
    let pairs = |pairs: Vec<(String, u64)>| -> Vec<Value> {
        pairs.into_iter().take(rows).map(|(name, value)| json!({"name": name, "value": value})).collect()
    };
    let metrics = cardinality.metrics.iter().map(|(name, series)| (name.to_string(), *series)).collect();
    let labels = cardinality.labels.iter().map(|label| (label.label.clone(), label.values)).collect();
    let segments = store.engine.snapshot().segments();
    let to_ms = |ns: Option<i64>| ns.map_or(0, |ns| ns.div_euclid(1_000_000));
    Ok(success(&json!({
        "headStats": {
            "numSeries": cardinality.series,
            "numLabelPairs": cardinality.labels.iter().map(|label| label.values).sum::<u64>(),
            "chunkCount": segments.iter().map(|segment| segment.blocks).sum::<u64>(),
            "minTime": to_ms(segments.iter().map(|segment| segment.min_ts).min()),
            "maxTime": to_ms(segments.iter().map(|segment| segment.max_ts).max()),
        },
        "seriesCountByMetricName": pairs(metrics),
        "labelValueCountByLabelName": pairs(labels),
        "memoryInBytesByLabelName": [],
        "seriesCountByLabelValuePair": [],
    })))
}

pub(in super::super) async fn rules() -> Response {
    success(&json!({"groups": []}))
}

pub(in super::super) async fn alerts() -> Response {
    success(&json!({"alerts": []}))
}

pub(in super::super) async fn targets() -> Response {
    success(&json!({"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}}))
}

pub(in super::super) async fn format_query(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let text = app.store()?.database.format_promql(params.one("query").unwrap_or_default()).await?;
    Ok(success(&json!(text)))
}
