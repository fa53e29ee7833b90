//! Aggregates of ours as tables: `SELECT * FROM forecast(TABLE t, id => [host], horizon => '6h')`.
//!
//! Such a call is short for a subquery that groups the rows of `t` by the columns of `id`, and it becomes that subquery
//! before the statement is planned: what bounds a query bounds it, too.
//! ```text
//! SELECT host, a['ts'] AS ts, … FROM (SELECT host, unnest(forecast(ts, value, '6h', …)) AS a FROM t GROUP BY host)
//! ```
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart, Query, Statement,
    TableFactor, Value, VisitMut, VisitorMut, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use foretell_ml::detect::multivariate::COLUMNS_MAX;

use super::named::{Call, call};
use crate::error::{Error, Result};

/// How an aggregate is called as a table.
#[derive(Debug)]
pub(crate) struct TableForm {
    /// Name, that of the aggregate.
    pub(crate) name: &'static str,
    /// Whether the aggregate is a list with a row for each element, not one row.
    list: bool,
    /// Columns after those of `id`.
    columns: &'static [&'static str],
    /// An example for error messages.
    pub(crate) example: &'static str,
}

/// Every aggregate with such a form.
const FORMS: [TableForm; 3] = [
    TableForm {
        name: "forecast",
        list: true,
        columns: &["ts", "value", "lo", "hi"],
        example: "SELECT * FROM forecast(TABLE t, ts => ts, value => value, id => [host], horizon => '6h', level => 0.95)",
    },
    TableForm {
        name: "detect_anomalies",
        list: true,
        columns: &["ts", "score", "is_anomaly", "attribution"],
        example: "SELECT * FROM detect_anomalies(TABLE t, ts => ts, values => [a, b, c], id => [host], method => 'auto')",
    },
    TableForm {
        name: "time_to_exhaustion",
        list: false,
        columns: &["ts", "earliest", "latest"],
        example: "SELECT * FROM time_to_exhaustion(TABLE t, ts => ts, value => value, id => [host], capacity => 100, horizon => '30d')",
    },
];

/// The parameter of the columns that rows are grouped by.
const ID: &str = "id";
/// The parameter of an aggregate of many columns.
const VALUES: &str = "values";
/// The parameter that is a list of columns.
const REGRESSORS: &str = "regressors";
/// Names that stand for the relation and for the aggregate while the subquery is made.
const ROWS: &str = "$rows";
const ANSWER: &str = "$answer";

/// The form of this name.
pub(crate) fn table_form(name: &str) -> Option<&'static TableForm> {
    FORMS.iter().find(|form| form.name.eq_ignore_ascii_case(name))
}

/// Makes a subquery of every such call.
///
/// # Errors
/// `Invalid` for unknown, repeated or missing arguments; lists what is known.
pub(crate) fn resolve(statement: &mut Statement) -> Result<()> {
    match statement.visit(&mut Calls) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Calls;

impl VisitorMut for Calls {
    type Break = Error;

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        let TableFactor::Table { name, alias, args: Some(args), .. } = factor else {
            return ControlFlow::Continue(());
        };
        let [ObjectNamePart::Identifier(name)] = name.0.as_slice() else { return ControlFlow::Continue(()) };
        let forms = table_form(&name.value).and_then(|form| Some((form, call(form.name)?)));
        let Some((form, call)) = forms else { return ControlFlow::Continue(()) };
        match form.subquery(call, std::mem::take(&mut args.args)) {
            Ok(subquery) => {
                *factor = TableFactor::Derived { lateral: false, subquery, alias: alias.take(), sample: None };
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl TableForm {
    fn subquery(&self, call: &Call, args: Vec<FunctionArg>) -> Result<Box<Query>> {
        let mut args = args.into_iter();
        let rows = match args.next() {
            Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(relation))) => self.relation(relation)?,
            _ => return Err(self.fault("the first argument is a relation")),
        };
        let Arguments { ids, values } = self.arguments(call, args)?;
        let ids: String = ids.iter().map(|id| format!("{id}, ")).collect();
        let group = match ids.strip_suffix(", ") {
            Some(ids) => format!(" GROUP BY {ids}"),
            None => String::new(),
        };
        let columns: Vec<String> =
            self.columns.iter().map(|column| format!("\"{ANSWER}\"['{column}'] AS {column}")).collect();
        let parameters: Vec<String> = call.parameters.iter().map(|parameter| format!("\"${parameter}\"")).collect();
        let aggregate = format!("{}({})", self.name, parameters.join(", "));
        let aggregate = if self.list { format!("unnest({aggregate})") } else { aggregate };
        let mut query = parse(&format!(
            "SELECT {ids}{} FROM (SELECT {ids}{aggregate} AS \"{ANSWER}\" FROM \"{ROWS}\" AS \"{ROWS}\"{group})",
            columns.join(", ")
        ))?;
        // What the caller wrote is put in as it was parsed, never as text.
        let _ = visit_expressions_mut(&mut query, |expr| {
            let parameter = match expr {
                Expr::Identifier(name) if name.quote_style.is_some() => name.value.strip_prefix('$'),
                _ => None,
            };
            let place = parameter.and_then(|name| call.parameters.iter().position(|p| *p == name));
            if let Some(value) = place.and_then(|place| values.get(place)) {
                *expr = value.clone();
            }
            ControlFlow::<()>::Continue(())
        });
        let _ = query.visit(&mut Rows(Some(rows)));
        Ok(query)
    }

    /// The relation as a query: what a subquery holds, or all of a table.
    fn relation(&self, relation: Expr) -> Result<Box<Query>> {
        match relation {
            Expr::Subquery(query) => Ok(query),
            name @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_)) => parse(&format!("SELECT * FROM {name}")),
            _ => Err(self.fault("the first argument is a relation")),
        }
    }

    fn arguments(&self, call: &Call, args: impl Iterator<Item = FunctionArg>) -> Result<Arguments> {
        let mut ids: Option<Vec<Ident>> = None;
        let mut values: Vec<Option<Expr>> = vec![None; call.parameters.len()];
        for argument in args {
            let (name, value) = match argument {
                FunctionArg::Named { name, arg, .. } => (name.value, arg),
                FunctionArg::ExprNamed { name, arg, .. } => (name.to_string(), arg),
                FunctionArg::Unnamed(_) => return Err(self.fault("arguments after the relation are named")),
            };
            let FunctionArgExpr::Expr(value) = value else {
                return Err(self.fault(&format!("argument '{name}' must be a column or a constant")));
            };
            let many = call.parameters.iter().position(|p| *p == VALUES);
            let again = if name.eq_ignore_ascii_case(ID) {
                ids.replace(self.ids(value)?).is_some()
            } else if let Some(place) = many.filter(|_| is_values(&name)) {
                values[place].replace(self.values(value)?).is_some()
            } else {
                let place = call.parameters.iter().position(|p| p.eq_ignore_ascii_case(&name)).ok_or_else(|| {
                    Error::invalid(format!(
                        "unknown argument '{name}' of {}: known are {}, {ID}",
                        self.name,
                        call.parameters.join(", ")
                    ))
                })?;
                // a column may be given as text, too
                let column = matches!(call.parameters[place], "ts" | "value" | REGRESSORS);
                let value = if column { named_column(value) } else { value };
                values[place].replace(value).is_some()
            };
            if again {
                return Err(self.fault(&format!("argument '{name}' is given twice")));
            }
        }
        let mut complete = Vec::with_capacity(values.len());
        for (place, value) in values.into_iter().enumerate() {
            let parameter = call.parameters[place];
            complete.push(match value {
                Some(value) => value,
                None if matches!(parameter, "ts" | "value") => Expr::Identifier(Ident::new(parameter)),
                None if parameter == VALUES => self.values(Expr::Identifier(Ident::new("value")))?,
                None if place < call.required => {
                    return Err(self.fault(&format!("argument '{parameter}' is missing")));
                }
                None => Expr::Value(Value::Null.with_empty_span()),
            });
        }
        Ok(Arguments { ids: ids.unwrap_or_default(), values: complete })
    }

    /// Columns in brackets, or one.
    fn ids(&self, value: Expr) -> Result<Vec<Ident>> {
        let list = listed(value);
        let mut ids: Vec<Ident> = Vec::with_capacity(list.len());
        for column in list {
            let name = match &column {
                Expr::Identifier(name) if name.quote_style.is_some() => name.value.clone(),
                Expr::Identifier(name) => name.value.to_lowercase(),
                other => match text(other) {
                    Some(name) => name,
                    None => return Err(self.fault("argument 'id' must be names of columns, such as id => [host]")),
                },
            };
            if self.columns.contains(&name.as_str()) || name.starts_with('$') {
                return Err(self.fault(&format!("a column '{name}' of the answer stands beside those of 'id'")));
            }
            if ids.iter().any(|other| other.value == name) {
                return Err(self.fault(&format!("column '{name}' is twice in 'id'")));
            }
            ids.push(Ident::with_quote('"', name));
        }
        Ok(ids)
    }

    /// The struct of the columns in brackets, or of one, each under its own name.
    fn values(&self, value: Expr) -> Result<Expr> {
        let list = listed(value);
        if list.is_empty() || list.len() > COLUMNS_MAX {
            return Err(self.fault(&format!("'{VALUES}' takes 1 to {COLUMNS_MAX} columns, not {}", list.len())));
        }
        let mut names: Vec<String> = Vec::with_capacity(list.len());
        let mut arguments = Vec::with_capacity(2 * list.len());
        for column in list {
            let column = text(&column).map_or(column, quoted);
            let name = match &column {
                Expr::Identifier(name) if name.quote_style.is_some() => name.value.clone(),
                Expr::Identifier(name) => name.value.to_lowercase(),
                other => other.to_string(),
            };
            if names.contains(&name) {
                return Err(self.fault(&format!("column '{name}' is twice in '{VALUES}'")));
            }
            arguments.push(Expr::Value(Value::SingleQuotedString(name.clone()).with_empty_span()));
            arguments.push(column);
            names.push(name);
        }
        let mut call = parse_expr("named_struct()")?;
        if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut call {
            list.args =
                arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
        }
        Ok(call)
    }

    fn fault(&self, what: &str) -> Error {
        Error::invalid(format!("{}: {what}: write {}", self.name, self.example))
    }
}

/// Checked arguments of a call.
struct Arguments {
    ids: Vec<Ident>,
    /// One for each parameter of the aggregate.
    values: Vec<Expr>,
}

/// Whether an argument of this name holds the columns that are judged: both names are taken, whatever their number.
fn is_values(name: &str) -> bool {
    name.eq_ignore_ascii_case(VALUES) || name.eq_ignore_ascii_case("value")
}

/// What stands in brackets, or one.
fn listed(value: Expr) -> Vec<Expr> {
    match value {
        Expr::Array(array) => array.elem,
        Expr::Tuple(list) => list,
        Expr::Nested(one) => vec![*one],
        one => vec![one],
    }
}

/// The value of a text.
fn text(value: &Expr) -> Option<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// A column for its name as text, also inside brackets.
fn named_column(value: Expr) -> Expr {
    match value {
        Expr::Array(mut list) => {
            list.elem = list.elem.into_iter().map(named_column).collect();
            Expr::Array(list)
        }
        one => text(&one).map_or(one, quoted),
    }
}

fn quoted(name: String) -> Expr {
    Expr::Identifier(Ident::with_quote('"', name))
}

fn parse(sql: &str) -> Result<Box<Query>> {
    Parser::new(&GenericDialect {}).try_with_sql(sql).and_then(|mut parser| parser.parse_query()).map_err(unread)
}

fn parse_expr(sql: &str) -> Result<Expr> {
    Parser::new(&GenericDialect {}).try_with_sql(sql).and_then(|mut parser| parser.parse_expr()).map_err(unread)
}

fn unread(error: ParserError) -> Error {
    Error::invalid(format!("the relation or the columns of a table function cannot be read: {error}"))
}

/// Puts the relation in its place.
struct Rows(Option<Box<Query>>);

impl VisitorMut for Rows {
    type Break = ();

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, args: None, .. } = factor
            && matches!(name.0.as_slice(), [ObjectNamePart::Identifier(name)] if name.value == ROWS)
            && let Some(subquery) = self.0.take()
        {
            *factor = TableFactor::Derived { lateral: false, subquery, alias: alias.take(), sample: None };
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(from: &str, expect: &str) {
        let sql = format!("SELECT * FROM {from}");
        let mut statement = Parser::parse_sql(&GenericDialect {}, &sql).unwrap().remove(0);
        let got = match resolve(&mut statement) {
            Ok(()) => statement.to_string(),
            Err(error) => error.message,
        };
        assert!(got.contains(expect), "{got}");
    }

    #[test]
    fn a_call_becomes_a_grouped_subquery() {
        check(
            "forecast((SELECT * FROM t), id => [host, 'A.b'], horizon => $1, level => 0.9) AS f",
            "FROM (SELECT \"host\", \"A.b\", \"$answer\"['ts'] AS ts, \"$answer\"['value'] AS value, \"$answer\"['lo'] AS lo, \
             \"$answer\"['hi'] AS hi FROM (SELECT \"host\", \"A.b\", unnest(forecast(ts, value, $1, NULL, 0.9, NULL, NULL)) AS \"$answer\" \
             FROM (SELECT * FROM t) AS \"$rows\" GROUP BY \"host\", \"A.b\")) AS f",
        );
        check(
            "Time_To_Exhaustion(metrics.disk, ts => t, value => v / 2, capacity => 90, horizon => '2h')",
            "FROM (SELECT \"$answer\"['ts'] AS ts, \"$answer\"['earliest'] AS earliest, \"$answer\"['latest'] AS latest \
             FROM (SELECT time_to_exhaustion(t, v / 2, 90, '2h', NULL, NULL, NULL) AS \"$answer\" \
             FROM (SELECT * FROM metrics.disk) AS \"$rows\"))",
        );
    }

    #[test]
    fn columns_become_a_struct_under_their_names() {
        let call = |values: &str| format!("detect_anomalies(t, {values}, id => host, method => 'pca')");
        let expect = |values: &str| format!("detect_anomalies(ts, named_struct({values}), 'pca', NULL)");
        check(
            &call("values => [Cpu, \"B.c\", 'D', e / 2]"),
            &expect("'cpu', Cpu, 'B.c', \"B.c\", 'D', \"D\", 'e / 2', e / 2"),
        );
        check(&call("value => cpu"), &expect("'cpu', cpu"));
        check("detect_anomalies(t)", "detect_anomalies(ts, named_struct('value', value), NULL, NULL)");
        check("detect_anomalies(t, values => [a], value => b)", "argument 'value' is given twice");
        check("detect_anomalies(t, values => [a, A])", "column 'a' is twice in 'values'");
        check("detect_anomalies(t, values => [])", "'values' takes 1 to 256 columns, not 0: write SELECT");
        let many = |n: usize| {
            format!(
                "detect_anomalies(t, values => [{}])",
                (0..n).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ")
            )
        };
        check(&many(257), "'values' takes 1 to 256 columns, not 257");
        check(&many(256), "'c255', c255");
        check("detect_anomalies(t, id => [score])", "a column 'score' of the answer");
        check(
            "detect_anomalies(t, sesson => '1d')",
            "unknown argument 'sesson' of detect_anomalies: known are ts, values, method, season, id",
        );
    }

    #[test]
    fn regressors_are_columns_or_their_names() {
        let expect = "unnest(forecast(ts, value, 4, NULL, NULL, NULL, [holiday, \"Big sale\"])) AS";
        check("forecast(t, horizon => 4, regressors => [holiday, 'Big sale'])", expect);
        check("forecast(t, horizon => 4, regressors => 'holiday')", "NULL, NULL, NULL, \"holiday\")");
    }

    #[test]
    fn calls_inside_one_another_are_all_resolved() {
        check(
            "forecast((SELECT * FROM forecast(t, horizon => 3)), horizon => 4) JOIN u ON true",
            "unnest(forecast(ts, value, 4, NULL, NULL, NULL, NULL)) AS \"$answer\" FROM (SELECT * FROM (SELECT",
        );
    }

    #[test]
    fn other_tables_stay_as_they_are() {
        check("t, promql('up', 1, 2, 3) AS p", "SELECT * FROM t, promql('up', 1, 2, 3) AS p");
    }

    #[test]
    fn faults_are_told_with_what_is_known() {
        check(
            "forecast(t, horizn => 3)",
            "unknown argument 'horizn' of forecast: known are ts, value, horizon, method, level, season, regressors, id",
        );
        check("forecast(t)", "argument 'horizon' is missing: write SELECT * FROM forecast(TABLE");
        check("time_to_exhaustion(t, horizon => 3)", "argument 'capacity' is missing");
        check("forecast()", "the first argument is a relation");
        check("forecast(1 + 1, horizon => 3)", "the first argument is a relation");
        check("forecast(horizon => 3)", "the first argument is a relation");
        check("forecast(t, 3)", "arguments after the relation are named");
        check("forecast(t, horizon => 3, horizon => 4)", "'horizon' is given twice");
        check("forecast(t, id => a, id => b, horizon => 3)", "'id' is given twice");
        check("forecast(t, id => [a, A], horizon => 3)", "column 'a' is twice in 'id'");
        check("forecast(t, id => [lo], horizon => 3)", "a column 'lo' of the answer");
        check("forecast(t, id => [a + 1], horizon => 3)", "must be names of columns");
    }
}
