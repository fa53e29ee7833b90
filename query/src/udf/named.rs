//! Named arguments: `anomaly_score(value, season => '1d')`.
//!
//! DataFusion accepts names only without gaps before them. Here every call of a function of ours becomes positional, with
//! NULL for what was left out, before the statement is planned. The planner's hooks read NULL as "not given".
use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectNamePart, Value, visit_expressions_mut,
};

use super::table_form;
use crate::error::{Error, Result};

/// How a function of ours is called.
#[derive(Debug)]
pub(crate) struct Call {
    /// Name.
    pub(crate) name: &'static str,
    /// Parameters in order.
    pub(crate) parameters: &'static [&'static str],
    /// The first so many must be given.
    pub(crate) required: usize,
    /// Whether it only exists with an OVER clause.
    pub(crate) window: bool,
    /// An example for error messages.
    pub(crate) example: &'static str,
}

/// Every function with optional or named parameters.
pub(crate) const CALLS: [Call; 13] = [
    Call {
        name: "anomaly_score",
        parameters: &["value", "method", "season"],
        required: 1,
        window: true,
        example: "anomaly_score(value, method => 'mad') OVER (PARTITION BY host ORDER BY ts)",
    },
    Call {
        name: "anomaly",
        parameters: &["value", "method", "season"],
        required: 1,
        window: true,
        example: "anomaly(value, method => 'mad') OVER (PARTITION BY host ORDER BY ts)",
    },
    Call {
        name: "forecast",
        parameters: &["ts", "value", "horizon", "method", "level", "season", "regressors"],
        required: 3,
        window: false,
        example: "forecast(ts, value, '6h', level => 0.95)",
    },
    Call {
        name: "time_to_exhaustion",
        parameters: &["ts", "value", "capacity", "horizon", "method", "level", "season"],
        required: 4,
        window: false,
        example: "time_to_exhaustion(ts, value, 100, '30d', level => 0.95)",
    },
    Call {
        name: "detect_anomalies",
        parameters: &["ts", "values", "method", "season"],
        required: 2,
        window: false,
        example: "SELECT * FROM detect_anomalies(TABLE t, ts => ts, values => [a, b], id => [host])",
    },
    Call {
        name: "correlate",
        parameters: &["a", "b", "max_lag"],
        required: 2,
        window: false,
        example: "correlate(a, b, 10 ORDER BY ts)",
    },
    Call {
        name: "change_points",
        parameters: &["ts", "value"],
        required: 2,
        window: false,
        example: "change_points(ts, value)",
    },
    Call {
        name: "seasonality",
        parameters: &["ts", "value"],
        required: 2,
        window: false,
        example: "seasonality(ts, value)",
    },
    Call {
        name: "decompose",
        parameters: &["ts", "value", "season"],
        required: 2,
        window: false,
        example: "decompose(ts, value, season => '1d')",
    },
    Call {
        name: "cluster_series",
        parameters: &["ts", "value", "clusters"],
        required: 2,
        window: false,
        example: "SELECT * FROM cluster_series(TABLE t, ts => ts, value => value, id => [host])",
    },
    Call {
        name: "time_bucket",
        parameters: &["width", "ts"],
        required: 2,
        window: false,
        example: "time_bucket('5m', ts)",
    },
    Call { name: "log_template", parameters: &["body"], required: 1, window: false, example: "log_template(body)" },
    Call {
        name: "log_template_id",
        parameters: &["body"],
        required: 1,
        window: false,
        example: "log_template_id(body)",
    },
];

/// Table functions with such parameters, which read the store themselves.
const TABLES: [Call; 1] = [Call {
    name: "correlate",
    parameters: &["metric", "window", "at", "step", "max_lag", "candidates", "limit"],
    required: 2,
    window: false,
    example: "SELECT * FROM correlate(metric => 'latency_ms', window => '1h')",
}];

/// The table function of this name.
pub(crate) fn table(name: &str) -> Option<&'static Call> {
    TABLES.iter().find(|c| c.name.eq_ignore_ascii_case(name))
}

/// The call of this name.
pub(crate) fn call(name: &str) -> Option<&'static Call> {
    CALLS.iter().find(|c| c.name.eq_ignore_ascii_case(name))
}

/// Makes every call of a function of ours positional and complete.
///
/// # Errors
/// `Invalid` for unknown, repeated or missing arguments, and for a window function without OVER; lists what is known.
pub(crate) fn resolve(statement: &mut Statement) -> Result<()> {
    let statement = match statement {
        Statement::Explain(explain) => return resolve(&mut explain.statement),
        Statement::Statement(statement) => statement,
        _ => return Ok(()),
    };
    table_form::resolve(statement)?;
    let flow = visit_expressions_mut(statement.as_mut(), |expr| match expr {
        Expr::Function(function) => match resolve_call(function) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        },
        _ => ControlFlow::Continue(()),
    });
    match flow {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn resolve_call(function: &mut Function) -> Result<()> {
    let [ObjectNamePart::Identifier(name)] = function.name.0.as_slice() else { return Ok(()) };
    let Some(call) = call(&name.value) else { return Ok(()) };
    if call.window && function.over.is_none() {
        return Err(Error::invalid(format!("{} is a window function: write {}", call.name, call.example)));
    }
    let FunctionArguments::List(list) = &mut function.args else {
        return Err(missing(call, call.parameters[0]));
    };
    list.args = positional(call, std::mem::take(&mut list.args))?;
    Ok(())
}

/// The arguments in the order of the parameters, NULL for what was left out before the last one given.
///
/// # Errors
/// `Invalid` for unknown, repeated or missing ones.
pub(super) fn positional(call: &Call, arguments: Vec<FunctionArg>) -> Result<Vec<FunctionArg>> {
    let mut places: Vec<Option<FunctionArgExpr>> = vec![None; call.parameters.len()];
    let mut seen_named = false;
    for (position, argument) in arguments.into_iter().enumerate() {
        let (place, value) = match argument {
            FunctionArg::Unnamed(_) if seen_named => {
                return Err(Error::invalid(format!(
                    "{}: arguments without a name come first: write {}",
                    call.name, call.example
                )));
            }
            FunctionArg::Unnamed(value) => {
                if position >= places.len() {
                    return Err(Error::invalid(format!(
                        "{} takes at most {} arguments ({}), for example {}",
                        call.name,
                        places.len(),
                        call.parameters.join(", "),
                        call.example
                    )));
                }
                (position, value)
            }
            FunctionArg::Named { name, arg, .. } => {
                seen_named = true;
                (place_of(call, &name.value)?, arg)
            }
            FunctionArg::ExprNamed { name, arg, .. } => {
                seen_named = true;
                (place_of(call, &name.to_string())?, arg)
            }
        };
        if places[place].replace(value).is_some() {
            return Err(Error::invalid(format!("{}: argument '{}' is given twice", call.name, call.parameters[place])));
        }
    }
    let given = places.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    let mut complete = Vec::with_capacity(places.len());
    for (place, value) in places.into_iter().enumerate() {
        match value {
            Some(value) => complete.push(FunctionArg::Unnamed(value)),
            None if place < call.required => return Err(missing(call, call.parameters[place])),
            None if place < given => {
                let null = Expr::Value(Value::Null.with_empty_span());
                complete.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(null)));
            }
            None => {}
        }
    }
    Ok(complete)
}

fn place_of(call: &Call, name: &str) -> Result<usize> {
    call.parameters.iter().position(|p| p.eq_ignore_ascii_case(name)).ok_or_else(|| {
        Error::invalid(format!("unknown argument '{name}' of {}: known are {}", call.name, call.parameters.join(", ")))
    })
}

fn missing(call: &Call, parameter: &str) -> Error {
    Error::invalid(format!("{}: argument '{parameter}' is missing: write {}", call.name, call.example))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::sql::parser::DFParser;

    use super::*;

    fn check(sql: &str, expect: &str) {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        let got = match resolve(&mut statement) {
            Ok(()) => statement.to_string(),
            Err(error) => error.message,
        };
        assert!(got.contains(expect), "{got}");
    }

    #[test]
    fn names_become_positions() {
        check("SELECT anomaly_score(v, season => '1d') OVER (ORDER BY ts)", "anomaly_score(v, NULL, '1d') OVER");
        check("SELECT forecast(ts, value, horizon => 5, level => 0.5)", "forecast(ts, value, 5, NULL, 0.5)");
        check("SELECT forecast(horizon => 5, value => v, ts => t)", "forecast(t, v, 5)");
        check("EXPLAIN SELECT 1 + FORECAST(ts, value, '6h', METHOD => 'naive')", "FORECAST(ts, value, '6h', 'naive')");
        check("SELECT abs(x)", "abs(x)");
    }

    #[test]
    fn errors_list_what_is_known() {
        check(
            "SELECT anomaly_score(v, sesson => '1d') OVER (ORDER BY ts)",
            "unknown argument 'sesson' of anomaly_score: known are value, method, season",
        );
        check("SELECT anomaly_score(v)", "is a window function: write anomaly_score(");
        check("SELECT forecast(ts, value)", "argument 'horizon' is missing");
        check("SELECT forecast(ts, value, 5, horizon => 6)", "given twice");
        check("SELECT forecast(ts => ts, value, 5)", "come first");
        check("SELECT change_points(a, b, c)", "takes at most 2 arguments");
    }
}
