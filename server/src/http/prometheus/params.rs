//! Parameters of a request: of the URL, and of a form in the body.
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use datafusion::arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;

use super::super::read_body;
use crate::app::App;
use crate::error::ApiError;

/// Longest form.
const FORM_BYTES_MAX: usize = 1 << 20;

/// Names and values in the order in which they came; 413 for a form that is too long, 408 for a slow one.
pub(in super::super) struct Params(Vec<(String, String)>);

impl FromRequest<Arc<App>> for Params {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let mut pairs = Vec::new();
        let is_form = parts
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
        if parts.method == Method::POST && is_form {
            let form = read_body(body, FORM_BYTES_MAX, app.config.limits.body_timeout.0).await?;
            pairs.extend(form_urlencoded::parse(&form).into_owned());
        }
        pairs.extend(form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned());
        Ok(Self(pairs))
    }
}

impl Params {
    /// All values of `name`.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The first value of `name`.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The first value of `name`, unless it is empty.
    fn given(&self, name: &str) -> Option<&str> {
        self.one(name).filter(|text| !text.is_empty())
    }

    /// An instant, milliseconds UTC: Unix seconds or RFC 3339.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.given(name) else { return Ok(None) };
        parse_time(text).map(Some).ok_or_else(|| {
            ApiError::bad_data(format!("invalid parameter {name:?}: cannot parse {text:?} to a valid timestamp"))
        })
    }

    /// A duration in milliseconds: seconds as a number, or such as `1h30m`.
    pub(super) fn duration(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.given(name) else { return Ok(None) };
        parse_duration(text).map(Some).ok_or_else(|| {
            ApiError::bad_data(format!("invalid parameter {name:?}: cannot parse {text:?} to a valid duration"))
        })
    }

    /// The deadline that the request asks for.
    pub(super) fn timeout(&self) -> Result<Option<Duration>, ApiError> {
        let timeout = self.duration("timeout")?;
        Ok(timeout.map(|ms| Duration::from_millis(ms.max(1).unsigned_abs())))
    }

    /// A number of things; 0 without one.
    pub(super) fn count(&self, name: &str) -> Result<usize, ApiError> {
        let Some(text) = self.given(name) else { return Ok(0) };
        text.parse().map_err(|_| ApiError::bad_data(format!("invalid parameter {name:?}: {text:?} is not a count")))
    }
}

fn parse_time(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return milliseconds(seconds);
    }
    string_to_timestamp_nanos(text).ok().map(|ns| ns.div_euclid(1_000_000))
}

fn parse_duration(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return milliseconds(seconds);
    }
    let mut rest = text;
    let mut total = 0i64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|&at| at > 0)?;
        let (number, after) = rest.split_at(digits);
        let (unit_ms, after) = unit(after)?;
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(unit_ms)?)?;
        rest = after;
    }
    Some(total)
}

fn unit(text: &str) -> Option<(i64, &str)> {
    const UNITS: [(&str, i64); 7] = [
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
        ("y", 31_536_000_000),
    ];
    UNITS.iter().find_map(|&(name, ms)| text.strip_prefix(name).map(|rest| (ms, rest)))
}

fn milliseconds(seconds: f64) -> Option<i64> {
    let ms = (seconds * 1000.0).round();
    (ms.abs() < 9.2e18).then_some(ms as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_rfc3339() {
        assert_eq!(parse_time("1.5"), Some(1500));
        assert_eq!(parse_time("1970-01-01T00:00:01.25Z"), Some(1250));
        assert_eq!(parse_time("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse_time("yesterday"), None);
        assert_eq!(parse_time("NaN"), None);
        assert_eq!(parse_time("1e300"), None);
    }

    #[test]
    fn durations_are_seconds_or_units() {
        assert_eq!(parse_duration("15"), Some(15_000));
        assert_eq!(parse_duration("1h30m"), Some(5_400_000));
        assert_eq!(parse_duration("5ms"), Some(5));
        assert_eq!(parse_duration("m"), None);
        assert_eq!(parse_duration("5x"), None);
    }
}
