//! `explain_change(TABLE selected, TABLE baseline, dims => [a, b])` as an aggregate over the rows of both sides.
use datafusion::sql::sqlparser::ast::{Expr, FunctionArg, Query, Value, VisitMut};
use foretell_ml::contrast::DIMS_MAX;

use super::{ROWS, Rows, TableForm, answer, fill, listed, parse, quoted, shown, text};
use crate::error::{Error, Result};

/// The parameter of the attributes.
const DIMS: &str = "dims";
/// The name that stands for the relation of the other side while the subquery is made.
const BASELINE: &str = "$baseline";
/// Columns of the answer.
const COLUMNS: [&str; 11] = [
    "dimension",
    "value",
    "dimension_2",
    "value_2",
    "selected",
    "baseline",
    "selected_share",
    "baseline_share",
    "lift",
    "score",
    "p_value",
];

/// ```text
/// SELECT a['dimension'] AS dimension, … FROM (SELECT unnest(explain_change(s, 'a', d0, 'b', d1)) AS a FROM
///   (SELECT true AS s, a AS d0, b AS d1 FROM selected UNION ALL SELECT false AS s, a AS d0, b AS d1 FROM baseline))
/// ```
pub(super) fn subquery(form: &TableForm, args: Vec<FunctionArg>) -> Result<Box<Query>> {
    let mut args = args.into_iter();
    let (selected, baseline) = (form.relation(args.next(), "first")?, form.relation(args.next(), "second")?);
    let dims = dims(form, args)?;
    let (mut arguments, mut columns) = (String::new(), String::new());
    for at in 0..dims.len() {
        arguments += &format!(", \"$name{at}\", \"$dim{at}\"");
        columns += &format!(", \"${at}\" AS \"$dim{at}\"");
    }
    let answers: Vec<String> = COLUMNS.iter().map(|column| answer(column)).collect();
    let mut query = parse(&format!(
        "SELECT {} FROM (SELECT unnest(explain_change(\"$selected\"{arguments})) AS \"$answer\" FROM (\
         SELECT true AS \"$selected\"{columns} FROM \"{ROWS}\" AS \"{ROWS}\" UNION ALL \
         SELECT false AS \"$selected\"{columns} FROM \"{BASELINE}\" AS \"{BASELINE}\"))",
        answers.join(", ")
    ))?;
    let names: Vec<Expr> =
        dims.iter().map(|(name, _)| Expr::Value(Value::SingleQuotedString(name.clone()).with_empty_span())).collect();
    fill(&mut query, |name| match name.strip_prefix("name") {
        Some(at) => names.get(at.parse::<usize>().ok()?),
        None => Some(&dims.get(name.parse::<usize>().ok()?)?.1),
    });
    let _ = query.visit(&mut Rows(ROWS, Some(selected)));
    let _ = query.visit(&mut Rows(BASELINE, Some(baseline)));
    Ok(query)
}

/// Names and expressions of the attributes.
fn dims(form: &TableForm, args: impl Iterator<Item = FunctionArg>) -> Result<Vec<(String, Expr)>> {
    let mut given: Option<Vec<Expr>> = None;
    for argument in args {
        let (name, value) = form.named(argument)?;
        if !name.eq_ignore_ascii_case(DIMS) {
            return Err(Error::invalid(format!("unknown argument '{name}' of {}: known are {DIMS}", form.name)));
        }
        if given.replace(listed(value)).is_some() {
            return Err(form.fault(&format!("argument '{DIMS}' is given twice")));
        }
    }
    let given = given.ok_or_else(|| form.fault(&format!("argument '{DIMS}' is missing")))?;
    if !(1..=DIMS_MAX).contains(&given.len()) {
        return Err(form.fault(&format!("argument '{DIMS}' must be 1 to {DIMS_MAX} columns")));
    }
    let mut dims: Vec<(String, Expr)> = Vec::with_capacity(given.len());
    for dim in given {
        let (name, expr) = match (text(&dim), dim) {
            // a column may be given as text, too
            (Some(name), _) => (name.clone(), quoted(name)),
            (None, Expr::Identifier(column)) => (shown(&column), Expr::Identifier(column)),
            (None, expr) => (expr.to_string(), expr),
        };
        if dims.iter().any(|(other, _)| *other == name) {
            return Err(form.fault(&format!("dimension '{name}' is twice in '{DIMS}'")));
        }
        dims.push((name, expr));
    }
    Ok(dims)
}
