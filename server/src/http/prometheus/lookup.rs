//! `labels`, `label/<name>/values` and `series`: answered from the index.
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use foretell_query::promql::{Found, Lookup, What};

use super::super::respond;
use super::encode;
use super::params::Params;
use crate::app::App;
use crate::error::ApiError;

/// All of time, as far as milliseconds go.
const EVER_MS: (i64, i64) = (i64::MIN / 1_000_000, i64::MAX / 1_000_000);
/// Marks a name whose other characters than letters, digits and `_` are escaped.
const ESCAPED: &str = "U__";

pub(in super::super) async fn labels(
    State(app): State<Arc<App>>,
    method: Method,
    RawQuery(url): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let params = Params::read(&app, &method, url.as_deref(), &headers, body).await?;
    answer(&app, &params, What::Names).await
}

pub(in super::super) async fn label_values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    method: Method,
    RawQuery(url): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let params = Params::read(&app, &method, url.as_deref(), &headers, body).await?;
    let name = unescape(&name).ok_or_else(|| ApiError::bad_data(format!("invalid label name: {name:?}")))?;
    answer(&app, &params, What::Values(name)).await
}

pub(in super::super) async fn series(
    State(app): State<Arc<App>>,
    method: Method,
    RawQuery(url): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let params = Params::read(&app, &method, url.as_deref(), &headers, body).await?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    answer(&app, &params, What::Series).await
}

async fn answer(app: &Arc<App>, params: &Params, what: What) -> Result<Response, ApiError> {
    let lookup = Lookup {
        what,
        selectors: params.all("match[]").map(str::to_owned).collect(),
        start_ms: params.time("start")?.unwrap_or(EVER_MS.0),
        end_ms: params.time("end")?.unwrap_or(EVER_MS.1),
        limit: params.count("limit")?,
    };
    let timeout = params.timeout()?;
    let limit = lookup.limit;
    // One more than asked for shows whether something was cut off.
    let lookup = Lookup { limit: if limit == 0 { 0 } else { limit.saturating_add(1) }, ..lookup };
    let mut found = app.store()?.database.lookup(lookup, timeout).await?;
    let cut = limit > 0
        && match &mut found {
            Found::Texts(texts) => cut_to(texts, limit),
            Found::Series(series) => cut_to(series, limit),
        };
    let warnings: &[&str] = if cut { &["results truncated due to limit"] } else { &[] };
    Ok(respond::json(StatusCode::OK, encode::found(&found, warnings)))
}

fn cut_to<T>(list: &mut Vec<T>, limit: usize) -> bool {
    let cut = list.len() > limit;
    list.truncate(limit);
    cut
}

/// A label name as it stands in a path: `U__` announces escapes, `__` for `_` and `_<hex>_` for any other character.
fn unescape(text: &str) -> Option<String> {
    let Some(mut rest) = text.strip_prefix(ESCAPED) else {
        return (!text.is_empty()).then(|| text.to_owned());
    };
    let mut name = String::new();
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (code, after) = rest.split_once('_')?;
        match code {
            "" => name.push('_'),
            code => name.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?),
        }
        rest = after;
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_any_character_can_stand_in_a_path() {
        assert_eq!(unescape("job").as_deref(), Some("job"));
        assert_eq!(unescape("U__http_2e_status").as_deref(), Some("http.status"));
        assert_eq!(unescape("U__a__b").as_deref(), Some("a_b"));
        assert_eq!(unescape("U__a_zz_"), None);
        assert_eq!(unescape(""), None);
    }
}
