//! The rows of a model: the statements that ask for them, and what becomes of their batches.
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimestampNanosecondType};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use foretell_engine::Snapshot;
use futures::StreamExt;

use super::definition::Definition;
use crate::database::{Database, QueryRequest, QueryResponse};
use crate::error::{Error, Result};
use crate::planner;
use crate::table::quoted;

/// A row of a model's query.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Values of the key columns.
    pub(super) key: Vec<Option<String>>,
    /// ns
    pub(super) ts: i64,
    pub(super) value: f64,
}

/// The rows of a batch of [`query_of`]: key columns as text, then time and value. Rows without time or value are left
/// out.
///
/// # Errors
/// `Internal` when the batch has other columns.
pub(super) fn rows(batch: &RecordBatch, keys: usize) -> Result<Vec<Row>> {
    let text =
        |column: usize| cast(batch.column(column), &DataType::Utf8).map_err(|error| Error::internal(error.to_string()));
    let key = (0..keys).map(text).collect::<Result<Vec<_>>>()?;
    let key: Vec<_> = key.iter().map(|column| column.as_string::<i32>()).collect();
    let shape = || Error::internal("the query of a model has other columns than it asked for");
    let ts = batch.column(keys).as_primitive_opt::<TimestampNanosecondType>().ok_or_else(shape)?;
    let values = batch.column(keys + 1).as_primitive_opt::<Float64Type>().ok_or_else(shape)?;
    let there = |row: &usize| ts.is_valid(*row) && values.is_valid(*row) && !values.value(*row).is_nan();
    let row = |row: usize| Row {
        key: key.iter().map(|column| column.is_valid(row).then(|| column.value(row).to_owned())).collect(),
        ts: ts.value(row),
        value: values.value(row),
    };
    Ok((0..batch.num_rows()).filter(there).map(row).collect())
}

/// The type that times have here.
pub(super) const TIME: &str = "'Timestamp(Nanosecond, Some(\"UTC\"))'";

/// How rows are sorted.
#[derive(Clone, Copy)]
pub(super) enum Order {
    BySeries,
    ByTime,
}

/// The rows of `definition` whose time is after `after` and not after `to`: key columns as text, time, value.
pub(super) fn query_of(definition: &Definition, after: Option<i64>, to: i64, order: Order) -> String {
    let keys: Vec<String> = definition.keys.iter().map(|key| quoted(key)).collect();
    let columns: String = keys.iter().map(|key| format!("CAST({key} AS VARCHAR), ")).collect();
    let numbers: Vec<String> = (1..=keys.len()).map(|place| place.to_string()).collect();
    let (ts, value) = ((keys.len() + 1).to_string(), (keys.len() + 2).to_string());
    let sorted = match order {
        Order::BySeries => numbers.into_iter().chain([ts, value]).collect::<Vec<_>>(),
        Order::ByTime => std::iter::once(ts).chain(numbers).chain([value]).collect(),
    };
    let time = quoted(&definition.time);
    format!(
        "SELECT {columns}arrow_cast({time}, {TIME}), CAST({value} AS DOUBLE) FROM ({sql}\n) AS \"model$rows\" WHERE {range} \
         ORDER BY {order}",
        value = quoted(&definition.value),
        sql = definition.sql,
        range = range(&time, after, Some(to)),
        order = sorted.join(", "),
    )
}

fn range(time: &str, after: Option<i64>, to: Option<i64>) -> String {
    let bound = |sign: &str, ns: i64| format!("{time} {sign} arrow_cast({ns}, {TIME})");
    let bounds: Vec<String> = after.map(|ns| bound(">", ns)).into_iter().chain(to.map(|ns| bound("<=", ns))).collect();
    if bounds.is_empty() { format!("{time} IS NOT NULL") } else { bounds.join(" AND ") }
}

/// Runs a statement that reads.
pub(super) async fn ask(
    database: &Arc<Database>,
    sql: String,
    snapshot: &Snapshot,
    timeout: Option<Duration>,
) -> Result<QueryResponse> {
    let request = QueryRequest { sql, params: Vec::new(), timeout };
    database.query_over(request, snapshot.clone()).await
}

/// Times of the first and the last row after `after`.
pub(super) async fn bounds(
    database: &Arc<Database>,
    definition: &Definition,
    snapshot: &Snapshot,
    after: Option<i64>,
) -> Result<Option<(i64, i64)>> {
    let time = quoted(&definition.time);
    let sql = format!(
        "SELECT arrow_cast(min({time}), {TIME}), arrow_cast(max({time}), {TIME}) FROM ({}\n) AS \"model$rows\" WHERE {}",
        definition.sql,
        range(&time, after, None),
    );
    let mut response = ask(database, sql, snapshot, None).await?;
    let mut found = None;
    while let Some(batch) = response.stream.next().await {
        let batch = batch.map_err(Error::from_datafusion)?;
        let time = |column: usize| {
            let column = batch.column(column).as_primitive_opt::<TimestampNanosecondType>()?;
            (column.len() == 1 && column.is_valid(0)).then(|| column.value(0))
        };
        found = time(0).zip(time(1)).or(found);
    }
    Ok(found)
}

/// Refuses a query that would answer otherwise at another time, and one that is about models itself.
pub(super) async fn repeatable(database: &Arc<Database>, definition: &Definition, snapshot: &Snapshot) -> Result<()> {
    if definition.sql.to_ascii_lowercase().contains("model_score") {
        return Err(Error::invalid("a model cannot learn from the scores of models: write the query of the values"));
    }
    let sql = definition.sql.clone();
    let plan = database.plan_over(sql, snapshot.clone()).await?;
    let mut culprit = None;
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|e| {
                culprit = planner::unstable(e).map(str::to_owned).or(culprit.take());
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.map_err(Error::from_datafusion)?;
    match culprit {
        None => Ok(()),
        Some(name) => Err(Error::invalid(format!(
            "{name}() gives another answer at another time, so no version could be verified: for the newest rows write LAST '14d'"
        ))),
    }
}
