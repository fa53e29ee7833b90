//! What a client may ask: URL parameters and the two kinds of body.
use std::time::Duration;

use datafusion::scalar::ScalarValue;
use foretell_query::QueryRequest;
use serde::Deserialize;
use serde_json::Value;

use crate::config::parse_span;
use crate::encode::Format;
use crate::error::ApiError;

/// URL parameters.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlParams {
    format: Option<String>,
    timeout: Option<String>,
}

impl SqlParams {
    pub(super) fn format(&self) -> Result<Format, ApiError> {
        let Some(name) = self.format.as_deref() else { return Ok(Format::Json) };
        Format::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            ApiError::bad_data(format!("unknown format {name:?}; use {}", Format::ALL.map(Format::name).join(", ")))
        })
    }

    pub(super) fn timeout(&self) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.timeout.as_deref() else { return Ok(None) };
        match parse_span(text) {
            Some(timeout) if !timeout.is_zero() => Ok(Some(timeout)),
            _ => Err(ApiError::bad_data(format!("timeout {text:?} is not a duration; write for example 500ms or 1s"))),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonBody {
    query: String,
    #[serde(default)]
    params: Vec<Value>,
}

/// SQL text, or an object with `query` and `params`. No SQL statement starts with a brace, so that
/// `curl -d '{"query": ...}'` works without a content type.
pub(super) fn parse_body(body: &[u8], is_json: bool) -> Result<QueryRequest, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::bad_data("the body is not UTF-8"))?;
    if !is_json && !text.trim_start().starts_with('{') {
        if text.trim().is_empty() {
            return Err(ApiError::bad_data(
                "the body is empty; send SQL text, or {\"query\": \"...\", \"params\": [...]}",
            ));
        }
        return Ok(QueryRequest { sql: text.to_owned(), ..QueryRequest::default() });
    }
    let body: JsonBody = serde_json::from_str(text).map_err(|error| {
        ApiError::bad_data(format!("the body is not {{\"query\": \"...\", \"params\": [...]}}: {error}"))
    })?;
    let params = body.params.iter().enumerate().map(|(i, value)| scalar(i + 1, value)).collect::<Result<_, _>>()?;
    Ok(QueryRequest { sql: body.query, params, ..QueryRequest::default() })
}

fn scalar(number: usize, value: &Value) -> Result<ScalarValue, ApiError> {
    match value {
        Value::Null => Ok(ScalarValue::Null),
        Value::Bool(value) => Ok(ScalarValue::Boolean(Some(*value))),
        Value::String(value) => Ok(ScalarValue::Utf8(Some(value.clone()))),
        Value::Number(value) => Ok(match (value.as_i64(), value.as_u64(), value.as_f64()) {
            (Some(value), _, _) => ScalarValue::Int64(Some(value)),
            (_, Some(value), _) => ScalarValue::UInt64(Some(value)),
            (_, _, value) => ScalarValue::Float64(value),
        }),
        Value::Array(_) | Value::Object(_) => {
            Err(ApiError::bad_data(format!("parameter ${number} must be null, a boolean, a number or a string")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn both_bodies_are_understood() {
        assert_eq!(parse_body(b"SELECT 1", false).unwrap().sql, "SELECT 1");
        let request =
            parse_body(br#" {"query":"SELECT $1","params":[1,-2.5,"x",null,true,18446744073709551615]}"#, false)
                .unwrap();
        assert_eq!(request.sql, "SELECT $1");
        assert_eq!(
            request.params,
            [
                ScalarValue::Int64(Some(1)),
                ScalarValue::Float64(Some(-2.5)),
                ScalarValue::Utf8(Some("x".to_owned())),
                ScalarValue::Null,
                ScalarValue::Boolean(Some(true)),
                ScalarValue::UInt64(Some(u64::MAX)),
            ]
        );
    }

    #[test]
    fn other_bodies_are_refused() {
        for (body, is_json) in [
            (&b""[..], false),
            (b"  \n", false),
            (b"\xff", false),
            (b"{", false),
            (b"SELECT 1", true),
            (br#"{"query":"SELECT 1","parameters":[]}"#, true),
            (br#"{"query":"SELECT 1","params":[[1]]}"#, true),
            (br#"{"params":[]}"#, true),
        ] {
            assert!(parse_body(body, is_json).is_err(), "{}", String::from_utf8_lossy(body));
        }
        // Nested deeper than any honest request: an error, not a stack overflow.
        assert!(parse_body(format!("{{\"query\":\"\",\"params\":{}", "[".repeat(100_000)).as_bytes(), true).is_err());
    }
}
