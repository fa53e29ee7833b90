//! When two answers of the Prometheus API are the same.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Relative difference that rounding may make.
pub const TOLERANCE: f64 = 1e-9;
/// What is smaller is the rounding of something larger that cancelled out.
const NOTHING: f64 = 1e-20;

/// How two answers are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// Both have these values.
    Values,
    /// Both have nothing.
    Empty,
    /// Both refuse for the same kind of reason.
    Error,
}

/// A time, and a value or the numbers of a native histogram: count, sum, and four for each bucket.
type Points = Vec<(f64, Vec<f64>)>;

/// Compares two answers to `expr`; the order of an instant vector counts only where the expression sorts.
///
/// # Errors
/// What differs.
pub fn compare(expr: &str, expected: &Value, actual: &Value) -> Result<Same, String> {
    compare_within(TOLERANCE, expr, expected, actual)
}

/// As [`compare`], with another relative difference that is none.
///
/// # Errors
/// What differs.
pub fn compare_within(tolerance: f64, expr: &str, expected: &Value, actual: &Value) -> Result<Same, String> {
    let near = |a: f64, b: f64| near(a, b, tolerance);
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    if text(expected, "status") != text(actual, "status") {
        return Err(format!("expected {}, got {}", brief(expected), brief(actual)));
    }
    if text(expected, "status") == "error" {
        let (want, got) = (text(expected, "errorType"), text(actual, "errorType"));
        return if want == got {
            Ok(Same::Error)
        } else {
            Err(format!("expected {}, got {}", brief(expected), brief(actual)))
        };
    }
    for kind in ["warnings", "infos"] {
        same_annotations(&expected[kind], &actual[kind])?;
    }
    let (expected, actual) = (&expected["data"], &actual["data"]);
    let kind = text(expected, "resultType");
    if kind != text(actual, "resultType") {
        return Err(format!("expected a {kind}, got {}", brief(actual)));
    }
    if kind == "scalar" || kind == "string" {
        let (want, got) = (point(&expected["result"]), point(&actual["result"]));
        let same = want.0 == got.0 && (near(want.1, got.1) || expected["result"][1] == actual["result"][1]);
        return if same { Ok(Same::Values) } else { Err(format!("expected {expected}, got {actual}")) };
    }
    let (want, got) = (series(&expected["result"])?, series(&actual["result"])?);
    for (labels, points) in &want {
        let Some(other) = got.get(labels) else { return Err(format!("{labels} is missing")) };
        same_points(points, other, near).map_err(|difference| format!("{labels}: {difference}"))?;
    }
    if let Some(extra) = got.keys().find(|labels| !want.contains_key(*labels)) {
        return Err(format!("{extra} is too much"));
    }
    if expr.starts_with("sort") {
        // equal values may come in any order
        let unlike = order(expected).into_iter().zip(order(actual)).find(|&(a, b)| !near(a, b));
        if let Some((a, b)) = unlike {
            return Err(format!("another order: expected {a}, got {b}"));
        }
    }
    Ok(if want.is_empty() { Same::Empty } else { Same::Values })
}

fn order(data: &Value) -> Vec<f64> {
    let rows = data["result"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().map(|row| point(&row["value"]).1).collect()
}

fn brief(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}

fn point(value: &Value) -> (f64, f64) {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(f64::NAN);
    (number(&value[0]), number(&value[1]))
}

/// Annotations as a set, without the position that Prometheus appends; where some are left out there is nothing to compare.
fn same_annotations(expected: &Value, actual: &Value) -> Result<(), String> {
    let texts = |value: &Value| -> BTreeSet<String> {
        let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(|text| without_position(text).to_owned()).collect()
    };
    let (expected, actual) = (texts(expected), texts(actual));
    let is_cut = |texts: &BTreeSet<String>| texts.iter().any(|text| text.ends_with("annotations omitted"));
    if expected == actual || (is_cut(&expected) && is_cut(&actual)) {
        return Ok(());
    }
    Err(format!("expected annotations {expected:?}, got {actual:?}"))
}

/// Without ` (1:23)` at the end.
fn without_position(text: &str) -> &str {
    let Some((before, position)) = text.rsplit_once(" (") else { return text };
    let is_position =
        position.strip_suffix(')').and_then(|inner| inner.split_once(':')).is_some_and(|(line, column)| {
            [line, column].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        });
    if is_position { before } else { text }
}

fn series(result: &Value) -> Result<BTreeMap<String, Points>, String> {
    let mut all = BTreeMap::new();
    for row in result.as_array().map(Vec::as_slice).unwrap_or_default() {
        let labels: BTreeMap<String, Value> =
            row["metric"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let one = |key: &str, many: &str| -> Vec<Value> {
            let many = row[many].as_array().cloned().unwrap_or_default();
            row.get(key).cloned().into_iter().chain(many).collect()
        };
        let values = one("value", "values").into_iter().map(|value| {
            let (at, value) = point(&value);
            (at, vec![value])
        });
        let histograms = one("histogram", "histograms").into_iter().map(|value| (point(&value).0, numbers(&value[1])));
        let mut points: Points = values.chain(histograms).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if all.insert(format!("{labels:?}"), points).is_some() {
            return Err(format!("{labels:?} twice in one answer"));
        }
    }
    Ok(all)
}

/// The numbers of a native histogram.
fn numbers(histogram: &Value) -> Vec<f64> {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(f64::NAN);
    let buckets = histogram["buckets"].as_array().into_iter().flatten();
    let buckets = buckets.flat_map(|bucket| bucket.as_array().into_iter().flatten());
    [&histogram["count"], &histogram["sum"]].into_iter().chain(buckets).map(number).collect()
}

fn same_points(want: &Points, got: &Points, near: impl Fn(f64, f64) -> bool) -> Result<(), String> {
    if want.len() != got.len() {
        return Err(format!(
            "expected {} values, got {}: {:?} and {:?}",
            want.len(),
            got.len(),
            want.first(),
            got.first()
        ));
    }
    let same = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(*a, *b));
    match want.iter().zip(got).find(|(a, b)| a.0 != b.0 || !same(&a.1, &b.1)) {
        Some((a, b)) => Err(format!("expected {:?} at {}, got {:?} at {}", a.1, a.0, b.1, b.0)),
        None => Ok(()),
    }
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= (tolerance * a.abs().max(b.abs())).max(NOTHING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vector(value: &str) -> Value {
        json!({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1, value]}]}})
    }

    #[test]
    fn rounding_is_the_same_and_more_is_not() {
        assert_eq!(compare("x", &vector("1"), &vector("1.0000000001")), Ok(Same::Values));
        assert!(compare("x", &vector("1"), &vector("1.00001")).is_err());
        assert_eq!(compare("x", &vector("NaN"), &vector("NaN")), Ok(Same::Values));
    }

    #[test]
    fn a_missing_series_and_another_error_are_differences() {
        let empty = json!({"status": "success", "data": {"resultType": "vector", "result": []}});
        assert!(compare("x", &vector("1"), &empty).is_err());
        assert!(compare("x", &empty, &vector("1")).is_err());
        let error = |kind: &str| json!({"status": "error", "errorType": kind, "error": "e"});
        assert_eq!(compare("x", &error("bad_data"), &error("bad_data")), Ok(Same::Error));
        assert!(compare("x", &error("bad_data"), &error("execution")).is_err());
    }

    #[test]
    fn a_bucket_and_a_warning_more_are_differences() {
        let of = |count: &str| {
            let histogram = json!([1, {"count": "3", "sum": "4", "buckets": [[0, "1", "2", count]]}]);
            json!({"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "histogram": histogram}]}})
        };
        assert_eq!(compare("x", &of("3"), &of("3")), Ok(Same::Values));
        assert!(compare("x", &of("3"), &of("2")).is_err());
        let mut warned = of("3");
        warned["warnings"] = json!(["PromQL warning: w (1:5)"]);
        assert!(compare("x", &warned, &of("3")).is_err());
        let mut same = of("3");
        same["warnings"] = json!(["PromQL warning: w"]);
        assert_eq!(compare("x", &warned, &same), Ok(Same::Values));
    }
}
