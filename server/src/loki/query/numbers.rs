//! Numbers of a metric query: at one instant, or at many.
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value as Json;

use super::super::logql::LogQuery;
use super::super::logql::eval::{Value, evaluate};
use super::super::logql::metric::{Expr, RangeAggregation};
use super::super::logql::window::{Grid, Series, Windows};
use super::lines::ANSWER_BYTES_MAX;
use super::read::{Deadline, Rows, Select, Sink, Stats, blocking, scan};
use crate::app::App;
use crate::error::ApiError;
use crate::http::respond;

/// How an answer is shaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `vector`, or `scalar`.
    Instant,
    /// `matrix`
    Range,
}

/// Reads what `expr` needs and answers with what `after` makes of its result; `text` is that of the request.
pub(super) async fn answer(
    app: &Arc<App>,
    text: &str,
    expr: Expr,
    grid: Grid,
    shape: Shape,
    after: impl FnOnce(Value) -> Value + Send + 'static,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let until = Deadline::of(app);
    let mut reads: Vec<&RangeAggregation> = Vec::new();
    expr.reads(&mut reads);
    let (mut read, mut stats) = (Vec::with_capacity(reads.len()), Stats::default());
    for of in reads {
        let memory = app.store()?.database.memory("a LogQL query");
        let windows = Windows::new(of, grid, Box::new(move |bytes| memory.resize(bytes)));
        let select = Select { query: &of.query, text, range: grid.reads(of.range), order: String::new(), until };
        let sink = scan(app, select, Sorter { query: of.query.clone(), windows, stats: Stats::default() }).await?;
        stats.lines += sink.stats.lines;
        stats.bytes += sink.stats.bytes;
        read.push(sink.windows);
    }
    let body = blocking(move || {
        let (mut results, mut held) = (Vec::with_capacity(read.len()), Vec::with_capacity(read.len()));
        let in_time = || until.check();
        for windows in read {
            let (series, memory) = windows.finish(&in_time)?;
            results.push(series);
            held.push(memory);
        }
        let value = after(evaluate(&expr, grid, &mut results.into_iter(), &in_time)?);
        let body = text_of(value, grid, shape, stats, started)?;
        drop(held);
        Ok(body)
    });
    Ok(respond::json(StatusCode::OK, body.await?))
}

/// Lines of a query into the ranges that they lie in.
struct Sorter {
    query: LogQuery,
    windows: Windows,
    stats: Stats,
}

impl Sink for Sorter {
    fn take(&mut self, rows: &Rows<'_>) -> Result<(), ApiError> {
        self.stats.add(rows);
        for row in 0..rows.len() {
            let mut entry = rows.entry(row);
            let Some(value) = self.query.value(&mut entry) else { continue };
            let labels = entry.labels();
            if entry.failed() {
                let why = format!(
                    "pipeline error: '{}' for series: '{}'. Use a label filter to intentionally skip this error. (e.g | \
                     __error__!=\"{}\")",
                    entry.get("__error__"),
                    shown(labels.iter().map(|(name, value, _)| (*name, *value))),
                    entry.get("__error__"),
                );
                return Err(ApiError::bad_data(why));
            }
            self.windows.add(&labels, entry.ts, entry.line.len(), value)?;
        }
        Ok(())
    }
}

/// `{name="value", …}`
fn shown<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", labels.join(", "))
}

/// The text of the answer.
fn text_of(value: Value, grid: Grid, shape: Shape, stats: Stats, started: Instant) -> Result<String, ApiError> {
    let (kind, result, returned) = match (value, shape) {
        (Value::Number(number), Shape::Instant) => ("scalar", point(grid.at(0), number), 1),
        (Value::Number(number), Shape::Range) => {
            let series = Series { labels: Vec::new(), values: vec![Some(number); grid.count] };
            ("matrix", list(&[series], grid, shape)?, 1)
        }
        (Value::Series(series), Shape::Instant) => ("vector", list(&series, grid, shape)?, series.len()),
        (Value::Series(series), Shape::Range) => ("matrix", list(&series, grid, shape)?, series.len()),
    };
    let stats = stats.json(started, returned);
    Ok(format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":{result},\"stats\":{stats}}}}}"
    ))
}

fn list(series: &[Series], grid: Grid, shape: Shape) -> Result<String, ApiError> {
    let mut out = "[".to_owned();
    for Series { labels, values } in series {
        let mut points =
            values.iter().enumerate().filter_map(|(i, value)| Some(point(grid.at(i), (*value)?))).peekable();
        if points.peek().is_none() {
            continue;
        }
        let labels = labels.iter().map(|(name, value)| (name.clone(), Json::from(value.as_str())));
        let labels = Json::Object(labels.collect());
        if out.len() > 1 {
            out.push(',');
        }
        // Neither of them can fail: they write into a text.
        let _ = write!(out, "{{\"metric\":{labels},\"value{}\":", if shape == Shape::Range { "s" } else { "" });
        match shape {
            Shape::Instant => out.extend(points.next()),
            Shape::Range => {
                for (n, point) in points.enumerate() {
                    out.push(if n == 0 { '[' } else { ',' });
                    out.push_str(&point);
                }
                out.push(']');
            }
        }
        out.push('}');
        if out.len() > ANSWER_BYTES_MAX {
            let why =
                format!("the answer has more than {ANSWER_BYTES_MAX} bytes: ask for fewer series or a longer step");
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", why));
        }
    }
    out.push(']');
    Ok(out)
}

/// `[seconds,"value"]`
fn point(ns: i64, value: f64) -> String {
    let ms = ns.div_euclid(1_000_000);
    let (seconds, rest) = (ms.div_euclid(1_000), ms.rem_euclid(1_000));
    let value = number(value);
    // Below zero the fraction would have to be counted from the other side: it is left out.
    if rest == 0 || seconds < 0 {
        format!("[{seconds},\"{value}\"]")
    } else {
        format!("[{seconds}.{rest:03},\"{value}\"]")
    }
}

/// Never with an exponent.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_shapes_of_loki() {
        let series = || {
            Value::Series(vec![
                Series {
                    labels: vec![("app".to_owned(), "a\"b".to_owned())],
                    values: vec![Some(1.5), None, Some(1e21)],
                },
                Series { labels: Vec::new(), values: vec![None, None, None] },
            ])
        };
        let grid = Grid { start: 1_500_000_000, step: 1_000_000_000, count: 3 };
        for (value, shape, kind, result) in [
            (
                series(),
                Shape::Range,
                "matrix",
                r#"[{"metric":{"app":"a\"b"},"values":[[1.500,"1.5"],[3.500,"1000000000000000000000"]]}]"#,
            ),
            (series(), Shape::Instant, "vector", r#"[{"metric":{"app":"a\"b"},"value":[1.500,"1.5"]}]"#),
            (Value::Number(2.0), Shape::Instant, "scalar", r#"[1.500,"2"]"#),
        ] {
            let text = text_of(value, grid, shape, Stats::default(), Instant::now()).unwrap();
            let json: Json = serde_json::from_str(&text).unwrap();
            assert_eq!((json["status"].as_str(), json["data"]["resultType"].as_str()), (Some("success"), Some(kind)));
            assert!(text.contains(&format!("\"result\":{result},")), "{text}");
            assert!(json["data"]["stats"]["summary"]["totalLinesProcessed"].is_u64(), "{text}");
        }
        assert_eq!((number(f64::NAN), number(f64::NEG_INFINITY)), ("NaN".to_owned(), "-Inf".to_owned()));
    }
}
