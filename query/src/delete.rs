//! `DELETE FROM table [WHERE …]`: from a statement to what the engine deletes by, or a refusal.
//!
//! ```text
//!  tokens ─► parsed as DELETE: one table, WHERE, nothing else
//!         ─► the same tokens as SELECT: planned, optimised ─► a scan that takes over every condition ─► selector
//! ```
//! Which rows a condition means is thus decided where queries have it decided (`table::pushdown`): a delete hides exactly the
//! rows that `SELECT` with the same WHERE shows.
//!
//! Invariants: a condition that the engine cannot answer exactly is refused, never widened; a delete from `samples` names a
//! metric or a label; nothing is executed here.
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use datafusion::datasource::source_as_provider;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::scalar::ScalarValue;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Delete, FromTable, Statement as SqlStatement, TableFactor};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use foretell_engine::{DeleteSummary, Selector};

use crate::admit::Admitted;
use crate::error::{Error, Result};
use crate::limits::QueryLimits;
use crate::planner;
use crate::table::pushdown::{Conditions, convert};
use crate::table::stored;

const SUPPORTED: &str = "DELETE FROM table WHERE takes conditions on labels (=, <>, IN, NOT IN, LIKE, ~, !~, IS NULL, \
    IS DISTINCT FROM) and on ts (=, <, <=, >, >=, BETWEEN) against constants, joined by AND";

/// Whether an admitted statement begins as a delete does.
pub(crate) fn is_delete(admitted: &Admitted) -> bool {
    admitted.words.first().is_some_and(|word| word == "DELETE")
}

/// What the engine is to delete for an admitted DELETE; `None` when its conditions can hold for no row. Call it where the
/// stack is large.
///
/// # Errors
/// `Invalid` for what cannot be deleted by, `NotFound` for unknown tables.
pub(crate) async fn selector(
    state: &SessionState,
    admitted: Admitted,
    params: Vec<ScalarValue>,
    limits: &QueryLimits,
) -> Result<Option<Selector>> {
    check(&planner::parse(admitted.clone(), limits)?)?;
    let plan = planner::plan_admitted(state, as_select(admitted), params, limits).await?;
    let plan = state.optimize(&plan).map_err(Error::from_datafusion)?;
    match only_scan(&plan)? {
        Some(scan) => of_scan(scan),
        None => Ok(None),
    }
}

/// The answer to a delete: the series it matched, and its commit, NULL when there was nothing to commit.
///
/// # Errors
/// None in fact.
pub(crate) fn answer(done: &DeleteSummary) -> Result<RecordBatch> {
    let columns: [(&str, ArrayRef, bool); 2] = [
        ("series", Arc::new(UInt64Array::from(vec![done.series])), false),
        ("lsn", Arc::new(UInt64Array::from(vec![done.lsn.map(|lsn| lsn.0)])), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| Error::internal(error.to_string()))
}

fn refused(what: &str) -> Error {
    Error::invalid(format!("cannot delete by {what}: {SUPPORTED}"))
}

/// Lets `DELETE FROM name [WHERE …]` through, and nothing that parses around it.
fn check(statement: &Statement) -> Result<()> {
    let Statement::Statement(statement) = statement else { return Err(refused("another statement")) };
    let SqlStatement::Delete(delete) = statement.as_ref() else { return Err(refused("another statement")) };
    let Delete { tables, from, using, returning, output, order_by, limit, .. } = delete;
    for (there, what) in [
        (!tables.is_empty(), "a list of tables"),
        (using.is_some(), "USING"),
        (returning.is_some(), "RETURNING"),
        (output.is_some(), "OUTPUT"),
        (!order_by.is_empty(), "ORDER BY"),
        (limit.is_some(), "LIMIT"),
    ] {
        if there {
            return Err(refused(what));
        }
    }
    let FromTable::WithFromKeyword(from) = from else { return Err(refused("a table without FROM")) };
    let [table] = from.as_slice() else { return Err(refused("several tables")) };
    match &table.relation {
        // Whatever may stand beside a table's name is part of its text.
        TableFactor::Table { name, .. } if table.joins.is_empty() && table.relation.to_string() == name.to_string() => {
            Ok(())
        }
        other => Err(refused(&format!("'{other}', which is not just the name of a table"))),
    }
}

/// `DELETE FROM …` as `SELECT 1 FROM …`.
fn as_select(mut admitted: Admitted) -> Admitted {
    let span = admitted.tokens[0].span;
    admitted.tokens[0].token = Token::make_keyword("SELECT");
    admitted.tokens.insert(1, TokenWithSpan { token: Token::Number("1".to_owned(), false), span });
    admitted.words[0] = "SELECT".to_owned();
    admitted
}

/// The scan that is all of `plan`; `None` when the optimizer found that no row can match.
fn only_scan(plan: &LogicalPlan) -> Result<Option<&TableScan>> {
    match plan {
        LogicalPlan::Projection(projection) => only_scan(&projection.input),
        LogicalPlan::TableScan(scan) => Ok(Some(scan)),
        LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => Ok(None),
        LogicalPlan::Filter(filter) => Err(refused(&filter.predicate.to_string())),
        _ => Err(refused("a subquery")),
    }
}

fn of_scan(scan: &TableScan) -> Result<Option<Selector>> {
    let provider = source_as_provider(&scan.source).map_err(Error::from_datafusion)?;
    let Some(table) = stored(&*provider) else {
        return Err(Error::invalid(format!(
            "nothing can be deleted from '{}': rows of metrics, of samples, of logs and of spans can be",
            scan.table_name.table()
        )));
    };
    let mut conditions = Conditions::default();
    for filter in &scan.filters {
        let more = convert(filter, table.shape).ok_or_else(|| refused(&filter.to_string()))?;
        conditions = conditions.and(more);
    }
    if table.metric.is_none() && conditions.matchers.is_empty() && !conditions.never {
        return Err(Error::invalid(
            "a delete from samples must say of what: add metric = '…' or a condition on a label; \
             DELETE FROM metrics.\"name\" deletes all rows of one metric",
        ));
    }
    let metric = table.metric.map(str::to_owned);
    Ok((!conditions.never).then_some(Selector { metric, matchers: conditions.matchers, range: conditions.range }))
}
