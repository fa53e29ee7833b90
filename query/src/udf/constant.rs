//! Constant arguments: methods, durations, levels.
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{IntervalUnit, Schema};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Expr};
use datafusion::physical_expr::PhysicalExpr;

use crate::duration;
use crate::error::Error;

/// The value of a constant physical argument.
///
/// # Errors
/// `Invalid` when it is not constant.
pub(crate) fn value(expr: &Arc<dyn PhysicalExpr>, function: &str, parameter: &str) -> Result<ScalarValue> {
    let schema = Arc::new(Schema::empty());
    let one_row =
        RecordBatch::try_new_with_options(schema, vec![], &RecordBatchOptions::new().with_row_count(Some(1)))?;
    match expr.evaluate(&one_row) {
        Ok(ColumnarValue::Scalar(value)) => Ok(value),
        Ok(ColumnarValue::Array(array)) => ScalarValue::try_from_array(&array, 0),
        Err(_) => Err(Error::invalid(format!("{function}: argument '{parameter}' must be a constant")).into()),
    }
}

/// The value of a constant logical argument, `None` while it is not a literal yet.
pub(crate) fn literal(expr: Option<&Expr>) -> Option<&ScalarValue> {
    match expr {
        Some(Expr::Literal(value, _)) => Some(value),
        Some(Expr::Alias(alias)) => literal(Some(&alias.expr)),
        _ => None,
    }
}

/// Text, `None` for NULL.
pub(crate) fn text(value: &ScalarValue, function: &str, parameter: &str) -> Result<Option<String>> {
    match value {
        value if value.is_null() => Ok(None),
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => Ok(text.clone()),
        _ => Err(Error::invalid(format!(
            "{function}: argument '{parameter}' must be text, such as {parameter} => 'auto'"
        ))
        .into()),
    }
}

/// A number, `None` for NULL.
pub(crate) fn number(value: &ScalarValue, function: &str, parameter: &str) -> Result<Option<f64>> {
    if value.is_null() {
        return Ok(None);
    }
    match value.cast_to(&arrow::datatypes::DataType::Float64) {
        Ok(ScalarValue::Float64(number)) => Ok(number),
        _ => Err(Error::invalid(format!("{function}: argument '{parameter}' must be a number")).into()),
    }
}

/// A length of time in nanoseconds from text (`'1h30m'`) or an INTERVAL without months; `None` for NULL.
pub(crate) fn nanos(value: &ScalarValue, function: &str, parameter: &str) -> Result<Option<i64>> {
    let bad = |why: &str| Error::invalid(format!("{function}: argument '{parameter}': {why}"));
    let interval = |months: i32, days: i32, nanos: i64| {
        if months != 0 {
            return Err(bad("months and years have no fixed length: write days, or use date_trunc"));
        }
        let total = i64::from(days).checked_mul(86_400_000_000_000).and_then(|d| d.checked_add(nanos));
        total.filter(|&t| t > 0).ok_or_else(|| bad("must be a positive length of time"))
    };
    Ok(match value {
        value if value.is_null() => None,
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            Some(duration::parse(text).map_err(|e| bad(&e.message))?)
        }
        ScalarValue::IntervalMonthDayNano(Some(i)) => Some(interval(i.months, i.days, i.nanoseconds)?),
        ScalarValue::IntervalDayTime(Some(i)) => Some(interval(0, i.days, i64::from(i.milliseconds) * 1_000_000)?),
        ScalarValue::IntervalYearMonth(Some(months)) => Some(interval(*months, 0, 0)?),
        _ => return Err(bad("must be a length of time, such as '5m' or INTERVAL '5 minutes'").into()),
    })
}

/// Whether [`nanos`] takes values of this type.
pub(crate) fn is_duration_type(kind: &arrow::datatypes::DataType) -> bool {
    use arrow::datatypes::DataType;
    matches!(
        kind,
        DataType::Null
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Interval(IntervalUnit::MonthDayNano | IntervalUnit::DayTime | IntervalUnit::YearMonth)
    )
}
