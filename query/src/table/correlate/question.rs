//! What a call asks for.
use std::fmt;

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use foretell_engine::types::METRIC_NAME;
use foretell_engine::{MatchOp, Matcher};

use super::{CORRELATE, fault};
use crate::error::{Error, Result};
use crate::promql::{Limits, parse_selector};
use crate::table::timestamp_type;
use crate::udf::constant;
use crate::udf::named;

/// Correlations told when `limit` is left out, and most of them.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;

/// Checked arguments.
pub(super) struct Question {
    /// The target as it was written.
    pub(super) metric: String,
    /// Its series satisfy all of one of these.
    pub(super) target: Vec<Vec<Matcher>>,
    /// What candidates satisfy.
    pub(super) candidates: Vec<Matcher>,
    /// Length of the time looked at, ns, and its last instant; the newest row of the target without.
    pub(super) window: i64,
    pub(super) at: Option<i64>,
    /// Length of a cell of the grid, and longest lag, ns.
    pub(super) step: Option<i64>,
    pub(super) max_lag: Option<i64>,
    pub(super) limit: usize,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, window={}ns", self.metric, self.window)
    }
}

impl Question {
    /// From the arguments in the order of the parameters, NULL for what was left out.
    ///
    /// # Errors
    /// `Invalid` when one is not a constant of its kind.
    pub(super) fn new(args: &[Expr], limits: &Limits) -> Result<Self> {
        let given = |at: usize| -> Result<Option<&ScalarValue>> {
            let Some(arg) = args.get(at) else { return Ok(None) };
            match constant::literal(Some(arg)) {
                Some(value) => Ok(Some(value).filter(|value| !value.is_null())),
                None => Err(fault(format!("argument '{}' must be a constant: write {}", name(at), example()))),
            }
        };
        let text = |at: usize| -> Result<Option<String>> {
            let value = given(at)?.map(|value| constant::text(value, CORRELATE, name(at))).transpose();
            value.map(Option::flatten).map_err(Error::from_datafusion)
        };
        let nanos = |at: usize| -> Result<Option<i64>> {
            let value = given(at)?.map(|value| constant::nanos(value, CORRELATE, name(at))).transpose();
            value.map(Option::flatten).map_err(Error::from_datafusion)
        };
        let missing = |at: usize| fault(format!("argument '{}' is missing: write {}", name(at), example()));
        let metric = text(0)?.ok_or_else(|| missing(0))?;
        let candidates = text(5)?.map(|value| Matcher { name: METRIC_NAME.into(), op: MatchOp::Regex, value });
        Ok(Self {
            target: target(&metric, limits)?,
            metric,
            candidates: candidates.into_iter().collect(),
            window: nanos(1)?.ok_or_else(|| missing(1))?,
            at: given(2)?.map(instant).transpose()?,
            step: nanos(3)?,
            max_lag: nanos(4)?,
            limit: given(6)?.map_or(Ok(LIMIT_DEFAULT), limit)?,
        })
    }
}

/// The parameter at this place.
fn name(at: usize) -> &'static str {
    named::table(CORRELATE).map_or("", |call| call.parameters[at])
}

fn example() -> &'static str {
    named::table(CORRELATE).map_or("", |call| call.example)
}

/// A metric's name, or a series selector of PromQL.
fn target(metric: &str, limits: &Limits) -> Result<Vec<Vec<Matcher>>> {
    if metric.contains('{') {
        return Ok(parse_selector(metric, limits)?.0);
    }
    Ok(vec![vec![Matcher { name: METRIC_NAME.into(), op: MatchOp::Equal, value: metric.to_owned() }]])
}

/// Nanoseconds of a time: a timestamp, or text in the form of RFC 3339.
fn instant(value: &ScalarValue) -> Result<i64> {
    let is_time = matches!(
        value.data_type(),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Utf8 | DataType::LargeUtf8
    );
    match value.cast_to(&timestamp_type()) {
        Ok(ScalarValue::TimestampNanosecond(Some(ns), _)) if is_time => Ok(ns),
        _ => Err(fault("argument 'at' must be a time, such as '2026-01-01T00:00:00Z' or now()")),
    }
}

fn limit(value: &ScalarValue) -> Result<usize> {
    let number = value.data_type().is_integer().then(|| value.cast_to(&DataType::Int64));
    match number {
        Some(Ok(ScalarValue::Int64(Some(limit)))) if (1..=LIMIT_MAX as i64).contains(&limit) => Ok(limit as usize),
        _ => Err(fault(format!("argument 'limit' must be a number of rows between 1 and {LIMIT_MAX}"))),
    }
}
