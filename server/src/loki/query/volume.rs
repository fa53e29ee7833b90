//! `index/volume` and `index/volume_range`: bytes of lines, by labels of their streams.
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use foretell_query::promql::{Found, What};

use super::super::logql::eval::Value;
use super::super::logql::metric::{AggregateOp, Expr, Grouping, Range, RangeAggregation, RangeOp};
use super::super::logql::window::{Grid, Series};
use super::super::logql::{LogQuery, SERVICE_NAME};
use super::found::{found, selector};
use super::numbers::{self, Shape};
use super::params::Params;
use crate::app::App;
use crate::error::ApiError;

/// Labels that volumes are told by.
const TARGETS_MAX: usize = 64;
/// Volumes of an answer, unless the request says how many; most of them.
const VOLUMES: usize = 100;
const VOLUMES_MAX: usize = 5_000;

pub(super) async fn answer(app: &Arc<App>, params: &Params, shape: Shape) -> Result<Response, ApiError> {
    let selector = selector(params.one("query"))?;
    let by_name = match params.one("aggregateBy") {
        None | Some("series") => false,
        Some("labels") => true,
        Some(other) => {
            let why = format!("invalid parameter \"aggregateBy\": {other:?} is neither series nor labels");
            return Err(ApiError::bad_data(why));
        }
    };
    let limit = params.count("limit", VOLUMES, VOLUMES_MAX)?;
    let named: Vec<String> =
        params.all("targetLabels").flat_map(|list| list.split(',')).map(|name| name.trim().to_owned()).collect();
    let own = selector.names();
    let targets = if !named.is_empty() {
        named
    } else if !own.is_empty() && !by_name {
        own
    } else {
        match found(app, params, What::Names, std::slice::from_ref(&selector)).await? {
            Found::Texts(names) => names.into_iter().filter(|name| !name.starts_with("__")).take(TARGETS_MAX).collect(),
            Found::Series(_) => Vec::new(),
        }
    };
    if targets.len() > TARGETS_MAX {
        return Err(ApiError::bad_data(format!("invalid parameter \"targetLabels\": more than {TARGETS_MAX} labels")));
    }
    let (start, end) = params.range()?;
    let (grid, ns) = match shape {
        Shape::Instant => {
            let before = end.saturating_sub(1);
            (Grid { start: before, step: 1, count: 1 }, before.saturating_sub(start).saturating_add(1))
        }
        Shape::Range => {
            let grid = params.grid()?;
            (grid, grid.step)
        }
    };
    let of = RangeAggregation {
        op: RangeOp::Bytes,
        query: LogQuery::all_of(selector),
        range: Range { ns: ns.max(1), offset_ns: 0 },
        parameter: 0.0,
        grouping: Grouping::By(targets.clone()),
    };
    let mut expr = Expr::Range(Box::new(of));
    if shape == Shape::Instant && !by_name {
        let grouping = Grouping::By(Vec::new());
        expr = Expr::Aggregate { op: AggregateOp::TopK, parameter: limit, grouping, of: Box::new(expr) };
    }
    // Only whether it is among them matters.
    let text = if targets.iter().any(|name| name == SERVICE_NAME) { SERVICE_NAME } else { "" };
    numbers::answer(app, text, expr, grid, shape, move |value| if by_name { names(value) } else { value }).await
}

/// For each name of a label the volume of all that have it.
fn names(value: Value) -> Value {
    let series = match value {
        Value::Series(series) => series,
        number => return number,
    };
    let mut all: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
    for Series { labels, values } in series {
        for (name, _) in labels {
            let sums = all.entry(name).or_insert_with(|| vec![None; values.len()]);
            for (sum, value) in sums.iter_mut().zip(&values) {
                *sum = match (*sum, *value) {
                    (Some(sum), Some(value)) => Some(sum + value),
                    (sum, value) => sum.or(value),
                };
            }
        }
    }
    let series = all.into_iter().map(|(name, values)| Series { labels: vec![(name, String::new())], values });
    Value::Series(series.collect())
}
