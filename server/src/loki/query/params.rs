//! Parameters of a request, as Loki reads them.
use std::time::Duration;

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;

use super::super::logql::window::Grid;
use super::super::logql::{LogQuery, ParseError, Query};
use crate::error::ApiError;
use crate::remote_write::handler::now_ms;

/// Lines of an answer, unless the request says how many.
const LINES: usize = 100;
/// Most lines of an answer.
pub(super) const LINES_MAX: usize = 5_000;
/// Time that is looked at, unless the request says which.
const SPAN_NS: i64 = 3_600_000_000_000;
/// Instants of an answer.
const INSTANTS_MAX: i64 = 11_000;
/// Instants of an answer, about, unless the request says how far apart they are.
const INSTANTS: i64 = 250;
const SECOND_NS: i64 = 1_000_000_000;

/// Names and values in the order in which they came.
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    pub(super) fn of(text: Option<&str>) -> Self {
        Self(form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, value)| other == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(super) fn query(&self) -> Result<Query, ApiError> {
        Query::parse(self.one("query").unwrap_or_default()).map_err(|error| refused(&error))
    }

    /// A selector and what follows it.
    pub(super) fn lines(&self) -> Result<LogQuery, ApiError> {
        LogQuery::parse(self.one("query").unwrap_or_default()).map_err(|error| refused(&error))
    }

    /// ns UTC.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.one(name) else { return Ok(None) };
        let wrong =
            || ApiError::bad_data(format!("invalid parameter {name:?}: cannot parse {text:?} to a valid timestamp"));
        instant(text).map(Some).ok_or_else(wrong)
    }

    /// The first instant, and the first one after the last; the hour until now without any.
    pub(super) fn range(&self) -> Result<(i64, i64), ApiError> {
        let end = self.time("end")?.unwrap_or_else(now);
        let start = self.time("start")?.unwrap_or_else(|| end.saturating_sub(SPAN_NS));
        if start > end {
            return Err(ApiError::bad_data("end is before start"));
        }
        Ok((start, end))
    }

    /// The one instant of a query.
    pub(super) fn at(&self) -> Result<i64, ApiError> {
        Ok(self.time("time")?.unwrap_or_else(now))
    }

    /// The instants of a query.
    pub(super) fn grid(&self) -> Result<Grid, ApiError> {
        let (start, end) = self.range()?;
        let span = end.saturating_sub(start);
        let step = match self.one("step") {
            None => (span / INSTANTS / SECOND_NS).max(1) * SECOND_NS,
            Some(text) => step(text).filter(|step| *step > 0).ok_or_else(|| {
                ApiError::bad_data(format!("invalid parameter \"step\": {text:?} is no duration or not above zero"))
            })?,
        };
        let count = span / step + 1;
        if count > INSTANTS_MAX {
            return Err(ApiError::bad_data(format!(
                "exceeded maximum resolution of {INSTANTS_MAX} points per time series: ask with a longer step"
            )));
        }
        Ok(Grid { start, step, count: count as usize })
    }

    /// The one instant from which on lines are wanted that come; an hour ago without any.
    pub(super) fn since(&self) -> Result<i64, ApiError> {
        Ok(self.time("start")?.unwrap_or_else(|| now().saturating_sub(SPAN_NS)))
    }

    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        self.count("limit", LINES, LINES_MAX)
    }

    /// A number from 1 to `max`.
    pub(super) fn count(&self, name: &str, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(text) = self.one(name) else { return Ok(default) };
        let count = text.parse().ok().filter(|count| (1..=max).contains(count));
        count.ok_or_else(|| ApiError::bad_data(format!("invalid parameter {name:?}: {text:?} is not from 1 to {max}")))
    }
}

pub(super) fn refused(error: &ParseError) -> ApiError {
    ApiError::bad_data(error.to_string())
}

/// ns UTC.
pub(super) fn now() -> i64 {
    now_ms(Duration::ZERO).saturating_mul(1_000_000)
}

/// Seconds, or a duration.
fn step(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) => (seconds.abs() < 9e9).then_some((seconds * 1e9) as i64),
        Err(_) => super::super::logql::duration_ns(text),
    }
}

/// Seconds with a point or of up to ten digits, else nanoseconds; or RFC 3339.
fn instant(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return if text.len() <= 10 { number.checked_mul(SECOND_NS) } else { Some(number) };
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = (seconds * 1e9).round();
        return (ns.abs() < 9.2e18).then_some(ns as i64);
    }
    string_to_timestamp_nanos(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_loki_reads_them() {
        for (text, ns) in [
            ("1767225600", Some(1_767_225_600_000_000_000)),
            ("1767225600000000001", Some(1_767_225_600_000_000_001)),
            ("1767225600.5", Some(1_767_225_600_500_000_000)),
            ("2026-01-01T00:00:00.000000001Z", Some(1_767_225_600_000_000_001)),
            ("-5", Some(-5_000_000_000)),
            ("now", None),
            ("NaN", None),
            ("1e300", None),
        ] {
            assert_eq!(instant(text), ns, "{text}");
        }
    }

    #[test]
    fn a_step_is_a_duration_or_seconds_and_gives_at_most_eleven_thousand_instants() {
        let grid = |text: &str| Params::of(Some(text)).grid();
        assert_eq!(
            grid("start=10&end=20&step=5s").ok(),
            Some(Grid { start: 10 * SECOND_NS, step: 5 * SECOND_NS, count: 3 })
        );
        assert_eq!(grid("start=10&end=20&step=0.5").map(|grid| grid.count).ok(), Some(21));
        assert_eq!(grid("start=0&end=25000").map(|grid| (grid.step, grid.count)).ok(), Some((100 * SECOND_NS, 251)));
        assert_eq!(grid("start=0&end=10&step=60").map(|grid| grid.count).ok(), Some(1));
        for wrong in
            ["start=0&end=11000&step=1", "start=0&end=1&step=0", "step=-1s", "step=x", "step=NaN", "start=2&end=1"]
        {
            assert!(grid(wrong).is_err(), "{wrong}");
        }
    }
}
