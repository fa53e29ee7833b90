//! `model_scores('m')`: every row of a model's query with its score. Short for a subquery, which it becomes before the statement
//! is planned: what bounds a query bounds it, too.
//! ```text
//! SELECT host, ts, value, s['score'] AS score, …
//! FROM (SELECT host, ts, value, model_score('m', <last phase>, ts, value, host) OVER (PARTITION BY host ORDER BY ts, value) AS s
//!       FROM (SELECT host, time AS ts, value FROM (<query of the model>)))
//! ```
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectNamePart, Query, TableFactor, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::Models;
use super::judge::FIELDS;
use super::rows::TIME;
use crate::error::{Error, Result};
use crate::table::quoted;

/// Its name.
pub(crate) const MODEL_SCORES: &str = "model_scores";
/// Columns after those of the key.
pub(super) const COLUMNS: [&str; 10] =
    ["ts", "value", "score", "expected", "lo", "hi", "is_anomaly", "tier", "version", "challenger_score"];
/// Most uses in one statement: each has the size of a model's query.
const USES_MAX: usize = 8;
const EXAMPLE: &str = "SELECT * FROM model_scores('lat') WHERE is_anomaly";

/// Makes a subquery of every call.
///
/// # Errors
/// `NotFound` for an unknown model, `Invalid` for other arguments than the name of one.
pub(crate) fn resolve(statement: &mut Statement, models: &Models) -> Result<()> {
    let statement = match statement {
        Statement::Explain(explain) => return resolve(&mut explain.statement, models),
        Statement::Statement(statement) => statement,
        _ => return Ok(()),
    };
    match statement.visit(&mut Calls { models, uses: 0 }) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Calls<'a> {
    models: &'a Models,
    uses: usize,
}

impl VisitorMut for Calls<'_> {
    type Break = Error;

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, alias, args: Some(args), .. } = factor else { return ControlFlow::Continue(()) };
        let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return ControlFlow::Continue(()) };
        if !name.value.eq_ignore_ascii_case(MODEL_SCORES) {
            return ControlFlow::Continue(());
        }
        self.uses += 1;
        if self.uses > USES_MAX {
            return ControlFlow::Break(Error::invalid(format!("{MODEL_SCORES} is used more than {USES_MAX} times")));
        }
        match subquery(self.models, &args.args) {
            Ok(subquery) => {
                *factor = TableFactor::Derived { lateral: false, subquery, alias: alias.take(), sample: None };
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

fn subquery(models: &Models, args: &[FunctionArg]) -> Result<Box<Query>> {
    let name = match args {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] => match &value.value {
            Value::SingleQuotedString(name) => Some(name),
            _ => None,
        },
        _ => None,
    };
    let name =
        name.ok_or_else(|| Error::invalid(format!("{MODEL_SCORES} takes the name of a model: write {EXAMPLE}")))?;
    let model = models.find(name)?;
    let definition = &model.definition;
    let last = model.known.read().journal.phases.last().map_or(i64::MIN, |phase| phase.from);
    let keys: Vec<String> = definition.keys.iter().map(|key| quoted(key)).collect();
    let listed: String = keys.iter().map(|key| format!("{key}, ")).collect();
    let given: String = keys.iter().map(|key| format!(", CAST({key} AS VARCHAR)")).collect();
    let partition = if keys.is_empty() { String::new() } else { format!("PARTITION BY {} ", keys.join(", ")) };
    let fields: String = FIELDS.iter().map(|(field, _)| format!(", \"model$said\"['{field}'] AS {field}")).collect();
    let sql = format!(
        "SELECT {listed}\"model$ts\" AS ts, \"model$value\" AS value{fields} FROM (SELECT {listed}\"model$ts\", \"model$value\", \
         model_score('{name}', arrow_cast({last}, 'Int64'), \"model$ts\", \"model$value\"{given}) OVER ({partition}ORDER BY \"model$ts\", \
         \"model$value\") AS \"model$said\" FROM (SELECT {listed}arrow_cast({time}, {TIME}) AS \
         \"model$ts\", CAST({value} AS DOUBLE) AS \"model$value\" FROM ({sql}\n) AS \"model$rows\" WHERE {time} IS NOT NULL))",
        time = quoted(&definition.time),
        value = quoted(&definition.value),
        sql = definition.sql,
    );
    Parser::new(&GenericDialect {})
        .try_with_sql(&sql)
        .and_then(|mut parser| parser.parse_query())
        .map_err(|error| Error::internal(format!("the query of model {name} cannot be read any more: {error}")))
}
