//! Functions of ours as tables: `SELECT * FROM forecast(TABLE t, id => [host], horizon => '6h')`.
//!
//! Such a call is short for a subquery over the rows of `t`, and it becomes that subquery before the statement is planned:
//! what bounds a query bounds it, too. For an aggregate the rows are grouped by the columns of `id`:
//! ```text
//! SELECT host, a['ts'] AS ts, … FROM (SELECT host, unnest(forecast(ts, value, '6h', …)) AS a FROM t GROUP BY host)
//! ```
//! [`contrast`] has the form of `explain_change`, [`clusters`] that of `cluster_series`.
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart, Query, Statement,
    TableFactor, Value, VisitMut, VisitorMut, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use foretell_ml::detect::multivariate::COLUMNS_MAX;

use super::named::{self, Call, call};
use super::not_unique::NAME as NOT_UNIQUE;
use crate::error::{Error, Result};

mod clusters;
mod contrast;

/// How a function is called as a table.
#[derive(Debug)]
pub(crate) struct TableForm {
    /// Name.
    pub(crate) name: &'static str,
    /// The first so many arguments are relations.
    pub(crate) relations: usize,
    kind: Kind,
    /// An example for error messages.
    pub(crate) example: &'static str,
}

/// What the subquery does with the rows.
#[derive(Debug)]
enum Kind {
    /// Groups them by `id`, for the aggregate of the same name.
    Grouped {
        /// Whether the aggregate is a list with a row for each element, not one row.
        list: bool,
        /// Columns after those of `id`.
        columns: &'static [&'static str],
    },
    /// See [`contrast`].
    Contrast,
    /// See [`clusters`].
    Clusters,
}

/// Every function with such a form.
const FORMS: [TableForm; 5] = [
    TableForm {
        name: "forecast",
        relations: 1,
        kind: Kind::Grouped { list: true, columns: &["ts", "value", "lo", "hi"] },
        example: "SELECT * FROM forecast(TABLE t, ts => ts, value => value, id => [host], horizon => '6h', level => 0.95)",
    },
    TableForm {
        name: "detect_anomalies",
        relations: 1,
        kind: Kind::Grouped { list: true, columns: &["ts", "score", "is_anomaly", "attribution"] },
        example: "SELECT * FROM detect_anomalies(TABLE t, ts => ts, values => [a, b, c], id => [host], method => 'auto')",
    },
    TableForm {
        name: "time_to_exhaustion",
        relations: 1,
        kind: Kind::Grouped { list: false, columns: &["ts", "earliest", "latest"] },
        example: "SELECT * FROM time_to_exhaustion(TABLE t, ts => ts, value => value, id => [host], capacity => 100, horizon => '30d')",
    },
    TableForm {
        name: "explain_change",
        relations: 2,
        kind: Kind::Contrast,
        example: "SELECT * FROM explain_change('SELECT * FROM spans WHERE duration > 1000000000', TABLE spans, dims => [service, attributes['version']])",
    },
    TableForm {
        name: "cluster_series",
        relations: 1,
        kind: Kind::Clusters,
        example: "SELECT * FROM cluster_series(TABLE t, ts => ts, value => value, id => [host])",
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
        if let Some(table) = named::table(&name.value) {
            match named::positional(table, std::mem::take(&mut args.args)) {
                Ok(positional) => args.args = positional,
                Err(error) => return ControlFlow::Break(error),
            }
        }
        let Some(form) = table_form(&name.value) else { return ControlFlow::Continue(()) };
        match form.subquery(std::mem::take(&mut args.args)) {
            Ok(subquery) => {
                *factor = TableFactor::Derived { lateral: false, subquery, alias: alias.take(), sample: None };
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl TableForm {
    fn subquery(&self, args: Vec<FunctionArg>) -> Result<Box<Query>> {
        match self.kind {
            Kind::Grouped { list, columns } => {
                let call =
                    call(self.name).ok_or_else(|| Error::internal(format!("{} has no parameters", self.name)))?;
                self.grouped(call, list, columns, args)
            }
            Kind::Contrast => contrast::subquery(self, args),
            Kind::Clusters => clusters::subquery(self, args),
        }
    }

    fn grouped(&self, call: &Call, list: bool, columns: &[&str], args: Vec<FunctionArg>) -> Result<Box<Query>> {
        let mut args = args.into_iter();
        let rows = self.relation(args.next(), "first")?;
        let Arguments { ids, values } = self.arguments(call, columns, args)?;
        let believed = |id: &Ident| if list { format!("{NOT_UNIQUE}({id}) AS {id}, ") } else { format!("{id}, ") };
        let shown: String = ids.iter().map(believed).collect();
        let ids: String = ids.iter().map(|id| format!("{id}, ")).collect();
        let group = match ids.strip_suffix(", ") {
            Some(ids) => format!(" GROUP BY {ids}"),
            None => String::new(),
        };
        let columns: Vec<String> = columns.iter().map(|column| answer(column)).collect();
        let parameters: Vec<String> = call.parameters.iter().map(|parameter| format!("\"${parameter}\"")).collect();
        let aggregate = format!("{}({})", self.name, parameters.join(", "));
        let aggregate = if list { format!("unnest({aggregate})") } else { aggregate };
        let mut query = parse(&format!(
            "SELECT {shown}{} FROM (SELECT {ids}{aggregate} AS \"{ANSWER}\" FROM \"{ROWS}\" AS \"{ROWS}\"{group})",
            columns.join(", ")
        ))?;
        fill(&mut query, |name| values.get(call.parameters.iter().position(|p| *p == name)?));
        let _ = query.visit(&mut Rows(ROWS, Some(rows)));
        Ok(query)
    }

    /// A relation as a query: what a subquery holds, or all of a table.
    fn relation(&self, relation: Option<FunctionArg>, place: &str) -> Result<Box<Query>> {
        match relation {
            Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Subquery(query)))) => Ok(query),
            Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(
                name @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_)),
            ))) => parse(&format!("SELECT * FROM {name}")),
            _ => Err(self.fault(&format!("the {place} argument is a relation"))),
        }
    }

    /// Name and value of an argument after the relations.
    fn named(&self, argument: FunctionArg) -> Result<(String, Expr)> {
        let (name, value) = match argument {
            FunctionArg::Named { name, arg, .. } => (name.value, arg),
            FunctionArg::ExprNamed { name, arg, .. } => (name.to_string(), arg),
            FunctionArg::Unnamed(_) => return Err(self.fault("arguments after the relation are named")),
        };
        match value {
            FunctionArgExpr::Expr(value) => Ok((name, value)),
            _ => Err(self.fault(&format!("argument '{name}' must be a column or a constant"))),
        }
    }

    fn arguments(&self, call: &Call, columns: &[&str], args: impl Iterator<Item = FunctionArg>) -> Result<Arguments> {
        let mut ids: Option<Vec<Ident>> = None;
        let mut values: Vec<Option<Expr>> = vec![None; call.parameters.len()];
        for argument in args {
            let (name, value) = self.named(argument)?;
            let many = call.parameters.iter().position(|p| *p == VALUES);
            let again = if name.eq_ignore_ascii_case(ID) {
                ids.replace(self.ids(columns, value)?).is_some()
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

    /// Columns in brackets, or one; none of them one of the `columns` that the answer has besides.
    fn ids(&self, columns: &[&str], value: Expr) -> Result<Vec<Ident>> {
        let list = listed(value);
        let mut ids: Vec<Ident> = Vec::with_capacity(list.len());
        for column in list {
            let name = match &column {
                Expr::Identifier(name) => shown(name),
                other => match text(other) {
                    Some(name) => name,
                    None => return Err(self.fault("argument 'id' must be names of columns, such as id => [host]")),
                },
            };
            if columns.contains(&name.as_str()) || name.starts_with('$') {
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
                Expr::Identifier(name) => shown(name),
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

/// The items in brackets, or the one that stands alone.
fn listed(value: Expr) -> Vec<Expr> {
    match value {
        Expr::Array(array) => array.elem,
        Expr::Tuple(list) => list,
        Expr::Nested(one) => vec![*one],
        one => vec![one],
    }
}

/// A field of the answer as a column.
fn answer(field: &str) -> String {
    format!("\"{ANSWER}\"['{field}'] AS {field}")
}

/// Puts what the caller wrote in the place of names such as `"$value"`: as it was parsed, never as text.
fn fill<'a>(query: &mut Query, value: impl Fn(&str) -> Option<&'a Expr>) {
    let _ = visit_expressions_mut(query, |expr| {
        let name = match expr {
            Expr::Identifier(name) if name.quote_style.is_some() => name.value.strip_prefix('$'),
            _ => None,
        };
        if let Some(value) = name.and_then(&value) {
            *expr = value.clone();
        }
        ControlFlow::<()>::Continue(())
    });
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

/// The name of a column as SQL reads it.
fn shown(column: &Ident) -> String {
    match column.quote_style {
        Some(_) => column.value.clone(),
        None => column.value.to_lowercase(),
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

/// Puts a relation in the place of the table of this name.
struct Rows(&'static str, Option<Box<Query>>);

impl VisitorMut for Rows {
    type Break = ();

    fn post_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, alias, args: None, .. } = factor
            && matches!(name.0.as_slice(), [ObjectNamePart::Identifier(name)] if name.value == self.0)
            && let Some(subquery) = self.1.take()
        {
            *factor = TableFactor::Derived { lateral: false, subquery, alias: alias.take(), sample: None };
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests;
