//! `GET /api/v1/metadata`: what metric families are, as their senders said.
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::elsewhere;
use super::params::Params;
use super::status::success;
use crate::app::App;
use crate::error::ApiError;

pub(in super::super) async fn metadata(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit("limit")?;
    // A family has one description here: the newest.
    params.limit("limit_per_metric")?;
    let family = params.one("metric").filter(|name| !name.is_empty()).map(str::to_owned);
    let families = app.store()?.database.metadata(family).await?.into_iter().take(limit.unwrap_or(usize::MAX));
    let entry = |(name, of): (String, foretell_query::MetricMetadata)| {
        (name, json!([{"type": of.kind.name(), "unit": of.unit, "help": of.help}]))
    };
    elsewhere(move || success(&Value::Object(families.map(entry).collect()))).await
}
