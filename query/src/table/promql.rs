//! `promql('expr', start, end, step)`: the answer of a PromQL range query as a table.
//!
//! Arguments are constants. The expression is checked while the statement is planned and evaluated when its rows are wanted,
//! over the snapshot that all tables of the statement read, with the memory, deadline and cancellation of the statement.
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, Float64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use foretell_engine::Snapshot;

use super::call::{Call, CallTable, Wanted};
use super::columns::{map_type, times, whole_label_maps};
use super::scan_exec::{Reader, Source};
use super::timestamp_type;
use crate::error::Error;
use crate::execute;
use crate::planner;
use crate::promql::{self, Answer, Limits, Point, PromQuery, Row};
use crate::running::{Query, Running};
use crate::udf::constant;

/// Its name in SQL.
pub(crate) const PROMQL: &str = "promql";
const EXAMPLE: &str = "promql('sum(rate(http_requests_total[5m]))', now() - INTERVAL '1 hour', now(), '1m')";
/// How far back a sample counts as current.
const LOOKBACK_MS: i64 = 5 * 60 * 1000;
const NS_PER_MS: i64 = 1_000_000;

/// The function, for one statement.
pub(crate) struct PromqlFunction(Arc<Statement>);

/// What all its calls share.
struct Statement {
    snapshot: Snapshot,
    limits: Limits,
    query: Arc<Query>,
    running: Arc<Running>,
}

impl fmt::Debug for PromqlFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PromqlFunction")
    }
}

impl PromqlFunction {
    /// For the statement that `query` lists among the `running` ones.
    pub(crate) fn new(snapshot: Snapshot, limits: Limits, query: Arc<Query>, running: Arc<Running>) -> Self {
        Self(Arc::new(Statement { snapshot, limits, query, running }))
    }
}

impl TableFunctionImpl for PromqlFunction {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let query = query(args.exprs())?;
        query.check(&self.0.snapshot, &self.0.limits)?;
        let schema = Schema::new(vec![
            Field::new("ts", timestamp_type(), false),
            Field::new("value", DataType::Float64, false),
            Field::new("labels", map_type(), false),
        ]);
        let call = PromqlCall { statement: Arc::clone(&self.0), query };
        Ok(Arc::new(CallTable::new(call, Arc::new(schema))))
    }
}

/// The query that the arguments ask for.
fn query(args: &[Expr]) -> Result<PromQuery, Error> {
    let [text, start, end, step] = args else {
        return Err(Error::invalid(format!("{PROMQL} takes an expression, start, end and step: write {EXAMPLE}")));
    };
    let value = |name: &str, arg| {
        let value = constant::literal(Some(arg)).filter(|value| !value.is_null());
        value.ok_or_else(|| Error::invalid(format!("{PROMQL}: argument '{name}' must be a constant: write {EXAMPLE}")))
    };
    let text = constant::text(value("expr", text)?, PROMQL, "expr").map_err(Error::from_datafusion)?;
    let step_ns = constant::nanos(value("step", step)?, PROMQL, "step").map_err(Error::from_datafusion)?;
    let step_ms = step_ns.unwrap_or_default() / NS_PER_MS;
    if step_ms == 0 {
        return Err(Error::invalid(format!("{PROMQL}: argument 'step' must be at least 1ms")));
    }
    Ok(PromQuery {
        text: text.unwrap_or_default(),
        start_ms: instant(value("start", start)?, "start")?,
        end_ms: instant(value("end", end)?, "end")?,
        step_ms: Some(step_ms),
        lookback_ms: LOOKBACK_MS,
    })
}

/// Milliseconds of a time: a timestamp, a date, or text in the form of RFC 3339.
fn instant(value: &ScalarValue, name: &str) -> Result<i64, Error> {
    let kind = value.data_type();
    let is_time = matches!(
        kind,
        DataType::Timestamp(..)
            | DataType::Date32
            | DataType::Date64
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
    );
    match value.cast_to(&timestamp_type()) {
        Ok(ScalarValue::TimestampNanosecond(Some(ns), _)) if is_time => Ok(ns.div_euclid(NS_PER_MS)),
        _ => Err(Error::invalid(format!(
            "{PROMQL}: argument '{name}' must be a time, such as '2026-01-01T00:00:00Z' or now() - INTERVAL '1 hour'"
        ))),
    }
}

/// One call.
#[derive(Clone)]
struct PromqlCall {
    statement: Arc<Statement>,
    query: PromQuery,
}

impl fmt::Debug for PromqlCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PromQuery { text, start_ms, end_ms, step_ms, .. } = &self.query;
        write!(f, "{PROMQL}={text:?}, ts=[{start_ms}..={end_ms}]ms, step={}ms", step_ms.unwrap_or_default())
    }
}

impl Call for PromqlCall {
    const CONSUMER: &'static str = "a PromQL query";

    fn source(&self, wanted: Wanted) -> Arc<dyn Source> {
        Arc::new(PromqlSource { call: self.clone(), wanted })
    }
}

/// The answer of one call, made when it is opened.
struct PromqlSource {
    call: PromqlCall,
    wanted: Wanted,
}

impl fmt::Debug for PromqlSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Source for PromqlSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.wanted.schema)
    }

    fn partitions(&self) -> usize {
        1
    }

    fn open(&self, _partition: usize, rows: usize) -> Result<Box<dyn Reader>> {
        let Statement { snapshot, limits, query, running } = self.call.statement.as_ref();
        let Wanted { columns, schema, memory, .. } = &self.wanted;
        let cancelled = || query.cancel.is_cancelled();
        let reserve = |bytes: usize| memory.try_resize(bytes).map_err(|error| execute::no_memory(error, running));
        let answer = planner::with_large_stack(|| {
            promql::evaluate_within(&self.call.query, snapshot, limits, &cancelled, &reserve)
        });
        // From here on the reader says what it holds.
        memory.free();
        let series = match answer? {
            Answer::Vector(series) | Answer::Matrix(series) => series,
            Answer::Scalar(_) | Answer::Text(..) => Vec::new(),
        };
        let labels: ArrayRef = Arc::new(whole_label_maps(series.iter().map(|row| &row.labels))?);
        Ok(Box::new(AnswerReader {
            series,
            labels,
            at: (0, 0),
            rows: rows.max(1),
            columns: columns.clone(),
            schema: Arc::clone(schema),
        }))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.call)
    }
}

/// Reads an answer, series after series.
struct AnswerReader {
    series: Vec<Row>,
    /// Of each series.
    labels: ArrayRef,
    /// The next row: series, and sample in it.
    at: (usize, usize),
    /// Of a batch.
    rows: usize,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Reader for AnswerReader {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let (mut ts, mut values, mut index) = (Vec::new(), Vec::new(), Vec::new());
        while ts.len() < self.rows {
            let (series, first) = self.at;
            let Some(row) = self.series.get(series) else { break };
            let last = row.points.len().min(first + self.rows - ts.len());
            for Point { ts_ms, value } in &row.points[first..last] {
                ts.push(ts_ms.saturating_mul(NS_PER_MS));
                values.push(*value);
                index.push(series as u32);
            }
            self.at = if last == row.points.len() { (series + 1, 0) } else { (series, last) };
        }
        if ts.is_empty() {
            return Ok(None);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(ts.len()));
        let (ts, values) = (times(ts), Arc::new(Float64Array::from(values)) as ArrayRef);
        let index = UInt32Array::from(index);
        let column = |&column: &usize| match column {
            0 => Ok(Arc::clone(&ts)),
            1 => Ok(Arc::clone(&values)),
            _ => Ok(take(&self.labels, &index, None)?),
        };
        let columns = self.columns.iter().map(column).collect::<Result<Vec<ArrayRef>>>()?;
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?))
    }

    fn bytes(&self) -> usize {
        let points: usize =
            self.series.iter().map(|row| size_of::<Row>() + row.points.capacity() * size_of::<Point>()).sum();
        points + self.labels.get_buffer_memory_size()
    }
}
