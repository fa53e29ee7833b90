//! `GET /loki/api/v1/…`: what was sent, as Loki answers.
//!
//! ```text
//!  parameters -> LogQL -> SQL over `logs` -> rows, a batch at a time -> stages -> lines, ranges, counts -> JSON
//!                          |                  |                          |
//!                          place, deadline    row limit, cancelled       memory, series, bytes of the answer
//!                                             when the client leaves
//! ```
//! | module | owns |
//! |---|---|
//! | `params` | parameters of requests |
//! | `read` | rows as lines with labels |
//! | `lines` | log queries |
//! | `numbers` | metric queries |
//! | `found` | labels, values, series, how much there is |
//! | `volume` | bytes by labels |
//! | `fields` | fields that lines have |
//! | `patterns` | templates of lines |
//! | `tail` | lines as they come, over a WebSocket |
mod fields;
mod found;
mod lines;
mod numbers;
mod params;
mod patterns;
mod read;
pub(crate) mod tail;
mod volume;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use foretell_query::promql::What;

use super::logql::Query;
use super::logql::window::Grid;
use crate::app::App;
use crate::error::ApiError;
use numbers::Shape;
use params::Params;

type Answered = Result<Response, ApiError>;
type Name = Result<Path<String>, PathRejection>;

/// Counts a query, whatever becomes of it.
async fn timed(app: &Arc<App>, work: impl Future<Output = Answered>) -> Answered {
    let timer = app.metrics.query_timer();
    let answered = work.await;
    timer.finish(answered.as_ref().err().map_or("ok", |error| error.kind));
    answered
}

/// `GET /loki/api/v1/query_range`
pub(crate) async fn query_range(State(app): State<Arc<App>>, headers: HeaderMap, RawQuery(text): RawQuery) -> Answered {
    let params = Params::of(text.as_deref());
    let work = async {
        match params.query()? {
            Query::Lines(query) => lines::answer(&app, &params, &headers, query).await,
            Query::Metric(expr) => {
                let text = params.one("query").unwrap_or_default();
                numbers::answer(&app, text, expr, params.grid()?, Shape::Range, |value| value).await
            }
        }
    };
    timed(&app, work).await
}

/// `GET /loki/api/v1/query`
pub(crate) async fn query(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    let params = Params::of(text.as_deref());
    let work = async {
        match params.query()? {
            Query::Lines(_) => Err(ApiError::bad_data(
                "log queries are not supported as an instant query type, please change your query to a range query type",
            )),
            Query::Metric(expr) => {
                let grid = Grid { start: params.at()?, step: 1, count: 1 };
                let text = params.one("query").unwrap_or_default();
                numbers::answer(&app, text, expr, grid, Shape::Instant, |value| value).await
            }
        }
    };
    timed(&app, work).await
}

/// `GET /loki/api/v1/labels`
pub(crate) async fn labels(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    let params = Params::of(text.as_deref());
    let selector = found::selector(params.one("query"))?;
    found::answer(&app, &params, What::Names, &[selector]).await
}

/// `GET /loki/api/v1/label/<name>/values`
pub(crate) async fn label_values(State(app): State<Arc<App>>, name: Name, RawQuery(text): RawQuery) -> Answered {
    let Path(name) = name.map_err(|error| ApiError::bad_data(format!("invalid label name: {error}")))?;
    let params = Params::of(text.as_deref());
    let selector = found::selector(params.one("query"))?;
    found::answer(&app, &params, What::Values(name), &[selector]).await
}

/// `GET /loki/api/v1/series`
pub(crate) async fn series(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    let params = Params::of(text.as_deref());
    let selectors: Result<Vec<_>, ApiError> =
        params.all("match[]").chain(params.all("match")).map(|text| found::selector(Some(text))).collect();
    let selectors = selectors?;
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter: write match[]={app=\"shop\"}"));
    }
    found::answer(&app, &params, What::Series, &selectors).await
}

/// `GET /loki/api/v1/index/stats`
pub(crate) async fn index_stats(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    let params = Params::of(text.as_deref());
    timed(&app, found::stats(&app, &params)).await
}

/// `GET /loki/api/v1/index/volume`
pub(crate) async fn volume(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    let params = Params::of(text.as_deref());
    timed(&app, volume::answer(&app, &params, Shape::Instant)).await
}

/// `GET /loki/api/v1/index/volume_range`
pub(crate) async fn volume_range(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    let params = Params::of(text.as_deref());
    timed(&app, volume::answer(&app, &params, Shape::Range)).await
}

/// `GET /loki/api/v1/detected_labels`
pub(crate) async fn detected_labels(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    found::detected(&app, &Params::of(text.as_deref())).await
}

/// `GET /loki/api/v1/detected_fields`
pub(crate) async fn detected_fields(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    let params = Params::of(text.as_deref());
    timed(&app, fields::answer(&app, &params, None)).await
}

/// `GET /loki/api/v1/detected_field/<name>/values`
pub(crate) async fn detected_field_values(
    State(app): State<Arc<App>>,
    name: Name,
    RawQuery(text): RawQuery,
) -> Answered {
    let Path(name) = name.map_err(|error| ApiError::bad_data(format!("invalid name of a field: {error}")))?;
    let params = Params::of(text.as_deref());
    timed(&app, fields::answer(&app, &params, Some(&name))).await
}

/// `GET /loki/api/v1/patterns`
pub(crate) async fn patterns(State(app): State<Arc<App>>, RawQuery(text): RawQuery) -> Answered {
    let params = Params::of(text.as_deref());
    timed(&app, patterns::answer(&app, &params)).await
}
