//! What the index knows of streams: names and values of labels, label sets, how many there are.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use axum::http::StatusCode;
use axum::response::Response;
use foretell_query::event::{SERVICE_LABEL, Signal};
use foretell_query::promql::{Found, Lookup, What};
use foretell_query::{Error as QueryError, QueryRequest};
use futures::StreamExt as _;
use serde_json::{Map, Value, json};

use super::super::logql::{LogQuery, SERVICE_NAME, Selector, WITHIN, time};
use super::params::{Params, refused};
use crate::app::App;
use crate::error::ApiError;
use crate::http::respond;

/// Names, values or streams of an answer.
const FOUND_MAX: usize = 100_000;

/// The selector of `query`; every stream without one.
pub(super) fn selector(text: Option<&str>) -> Result<Selector, ApiError> {
    match text.map(str::trim) {
        None => Ok(Selector::default()),
        Some(text) if text.starts_with('{') && text[1..].trim_start().starts_with('}') => Ok(Selector::default()),
        Some(text) => Ok(LogQuery::parse(text).map_err(|error| refused(&error))?.selector().clone()),
    }
}

pub(super) async fn found(
    app: &Arc<App>,
    params: &Params,
    what: What,
    selectors: &[Selector],
) -> Result<Found, ApiError> {
    let (start, end) = params.range()?;
    let what = match what {
        What::Values(name) if name == SERVICE_NAME => What::Values(SERVICE_LABEL.to_owned()),
        what => what,
    };
    let selectors: Vec<Option<String>> = selectors.iter().map(Selector::index_text).collect();
    let lookup = Lookup {
        metric: Some(Signal::Logs.stream_name().to_owned()),
        what,
        // One of them selects everything: so do they all.
        selectors: if selectors.contains(&None) { Vec::new() } else { selectors.into_iter().flatten().collect() },
        start_ms: start.div_euclid(1_000_000),
        end_ms: end.div_euclid(1_000_000),
        limit: FOUND_MAX,
    };
    Ok(app.store()?.database.lookup(lookup, None).await?)
}

/// Names, values, or label sets.
pub(super) async fn answer(
    app: &Arc<App>,
    params: &Params,
    what: What,
    selectors: &[Selector],
) -> Result<Response, ApiError> {
    // Those with two underscores are ours.
    let is_shown = |name: &str| !name.starts_with("__");
    let names_only = what == What::Names;
    let data = match found(app, params, what, selectors).await? {
        Found::Texts(texts) => {
            json!(texts.into_iter().filter(|text| !names_only || is_shown(text)).collect::<Vec<_>>())
        }
        Found::Series(series) => {
            let shown = series.iter().map(|labels| {
                let pairs = labels.iter().filter(|(name, _)| is_shown(name));
                pairs.map(|(name, value)| (name.to_owned(), value.into())).collect::<Map<_, _>>()
            });
            json!(shown.collect::<Vec<_>>())
        }
    };
    Ok(respond::json(StatusCode::OK, json!({ "status": "success", "data": data }).to_string()))
}

/// `detected_labels`: names, and how many values each has.
pub(super) async fn detected(app: &Arc<App>, params: &Params) -> Result<Response, ApiError> {
    let selector = selector(params.one("query"))?;
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let found = found(app, params, What::Series, &[selector]).await?;
    if let Found::Series(series) = &found {
        for labels_of_one in series {
            for (name, value) in labels_of_one.iter() {
                let name = if name == SERVICE_LABEL { SERVICE_NAME } else { name };
                if !name.starts_with("__") {
                    labels.entry(name).or_default().insert(value);
                }
            }
        }
    }
    let labels: Vec<Value> =
        labels.into_iter().map(|(name, values)| json!({ "label": name, "cardinality": values.len() })).collect();
    Ok(respond::json(StatusCode::OK, json!({ "detectedLabels": labels }).to_string()))
}

/// `index/stats`: how much a selector selects.
pub(super) async fn stats(app: &Arc<App>, params: &Params) -> Result<Response, ApiError> {
    let selector = selector(params.one("query"))?;
    let (start, end) = params.range()?;
    let streams = match found(app, params, What::Series, std::slice::from_ref(&selector)).await? {
        Found::Series(series) => series.len(),
        Found::Texts(_) => 0,
    };
    let mut values = vec![time(start), time(end)];
    let conditions = LogQuery::all_of(selector).conditions(&mut values);
    let sql = format!(
        "SELECT count(*), coalesce(CAST(sum(octet_length(body)) AS BIGINT), 0) FROM logs WHERE {WITHIN} AND {conditions}"
    );
    let mut response = app.store()?.database.query(QueryRequest { sql, params: values, timeout: None }).await?;
    let (mut entries, mut bytes) = (0, 0);
    while let Some(batch) = response.stream.next().await {
        let batch = batch.map_err(|error| ApiError::from(QueryError::from_datafusion(error)))?;
        if batch.num_rows() > 0 {
            entries = batch.column(0).as_primitive::<Int64Type>().value(0);
            bytes = batch.column(1).as_primitive::<Int64Type>().value(0);
        }
    }
    // There are no chunks here; a stream has one, as far as anybody asks.
    let answer = json!({ "streams": streams, "chunks": streams, "entries": entries, "bytes": bytes });
    Ok(respond::json(StatusCode::OK, answer.to_string()))
}
