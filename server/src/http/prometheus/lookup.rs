//! `labels`, `label/<name>/values` and `series`: answered from the index.
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use foretell_query::promql::{Found, Lookup, What};

use super::super::respond;
use super::params::Params;
use super::{cut_to, encode};
use crate::app::App;
use crate::error::ApiError;

/// Marks a name whose other characters than letters, digits and `_` are escaped.
const ESCAPED: &str = "U__";
/// Longest code of an escaped character.
const CODE_DIGITS_MAX: usize = 6;

pub(in super::super) async fn labels(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    answer(&app, &params, What::Names).await
}

pub(in super::super) async fn label_values(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|error| ApiError::bad_data(format!("invalid label name: {error}")))?;
    answer(&app, &params, What::Values(unescape(name))).await
}

pub(in super::super) async fn series(State(app): State<Arc<App>>, params: Params) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    answer(&app, &params, What::Series).await
}

async fn answer(app: &Arc<App>, params: &Params, what: What) -> Result<Response, ApiError> {
    let (start_ms, end_ms) = params.range()?;
    let selectors = params.all("match[]").map(str::to_owned).collect();
    let limit = params.count("limit")?;
    let timeout = params.timeout()?;
    // One more than asked for shows whether something was cut off.
    let with_one_more = if limit == 0 { 0 } else { limit.saturating_add(1) };
    let lookup = Lookup { metric: None, what, selectors, start_ms, end_ms, limit: with_one_more };
    let mut found = app.store()?.database.lookup(lookup, timeout).await?;
    let warnings = match &mut found {
        Found::Texts(texts) => cut_to(texts, limit),
        Found::Series(series) => cut_to(series, limit),
    };
    Ok(respond::json(StatusCode::OK, encode::found(&found, warnings)))
}

/// The label name that stands in a path: `U__` announces escapes, `__` for `_` and `_<hex>_` for any other character. One that
/// only looks as if it had escapes is a name as it is.
fn unescape(text: String) -> String {
    text.strip_prefix(ESCAPED).and_then(decode).unwrap_or(text)
}

fn decode(mut rest: &str) -> Option<String> {
    let mut name = String::new();
    while let Some(at) = rest.find('_') {
        name.push_str(&rest[..at]);
        let (code, after) = rest[at + 1..].split_once('_')?;
        let is_code = code.len() <= CODE_DIGITS_MAX && code.bytes().all(|digit| digit.is_ascii_hexdigit());
        match code {
            "" => name.push('_'),
            code if is_code => name.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?),
            _ => return None,
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
        for (text, name) in [
            ("job", "job"),
            ("U__http_2e_status", "http.status"),
            ("U__http_2E_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U___1f600_", "\u{1f600}"),
            ("U__", ""),
            ("U__a_zz_", "U__a_zz_"),
            ("U__a_", "U__a_"),
            ("U__a_d800_", "U__a_d800_"),
            ("U__a_+41_", "U__a_+41_"),
        ] {
            assert_eq!(unescape(text.to_owned()), name, "{text}");
        }
    }
}
