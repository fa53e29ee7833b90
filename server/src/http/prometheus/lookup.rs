//! `labels`, `label/<name>/values` and `series`: answered from the index.
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use foretell_query::promql::{Found, Lookup, What};

use super::super::respond;
use super::params::Params;
use super::{cut_to, encode};
use crate::app::App;
use crate::error::ApiError;

/// All of time, as far as milliseconds go.
const EVER_MS: (i64, i64) = (i64::MIN / 1_000_000, i64::MAX / 1_000_000);
/// Marks a name whose other characters than letters, digits and `_` are escaped.
const ESCAPED: &str = "U__";

pub(in super::super) async fn labels(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    answer(&app, &params, What::Names).await
}

pub(in super::super) async fn label_values(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let name = unescape(&name).ok_or_else(|| ApiError::bad_data(format!("invalid label name: {name:?}")))?;
    answer(&app, &params, What::Values(name)).await
}

pub(in super::super) async fn series(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    answer(&app, &params, What::Series).await
}

async fn answer(app: &Arc<App>, params: &Params, what: What) -> Result<Response, ApiError> {
    let selectors = params.all("match[]").map(str::to_owned).collect();
    let start_ms = params.time("start")?.unwrap_or(EVER_MS.0);
    let end_ms = params.time("end")?.unwrap_or(EVER_MS.1);
    let limit = params.count("limit")?;
    let timeout = params.timeout()?;
    // One more than asked for shows whether something was cut off.
    let with_one_more = if limit == 0 { 0 } else { limit.saturating_add(1) };
    let lookup = Lookup { what, selectors, start_ms, end_ms, limit: with_one_more };
    let mut found = app.store()?.database.lookup(lookup, timeout).await?;
    let warnings = match &mut found {
        Found::Texts(texts) => cut_to(texts, limit),
        Found::Series(series) => cut_to(series, limit),
    };
    Ok(respond::json(StatusCode::OK, encode::found(&found, warnings)))
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
