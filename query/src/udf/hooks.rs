//! What happens to calls of our functions while DataFusion plans an expression.
//!
//! A window function does not see the values of its ORDER BY, and an aggregate sees rows in no order. Both need time. So the
//! first ORDER BY expression becomes a hidden last argument here, and the functions sort or bucket by it themselves.
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::expr::{WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawAggregateExpr, RawWindowExpr};
use datafusion::logical_expr::{Expr, SortExpr, WindowFunctionDefinition};

use super::named::{Call, call};
use super::{anomaly, correlate, detect_anomalies, exhaustion, forecast};
use crate::error::Error;

/// The one planner hook.
#[derive(Debug)]
pub(crate) struct Hooks;

impl ExprPlanner for Hooks {
    fn plan_window(&self, mut raw: RawWindowExpr) -> Result<PlannerResult<RawWindowExpr>> {
        let WindowFunctionDefinition::WindowUDF(function) = &raw.func_def else {
            return Ok(PlannerResult::Original(raw));
        };
        let Some(call) = call(function.name()).filter(|c| c.window) else { return Ok(PlannerResult::Original(raw)) };
        anomaly::check(call.name, &raw.args)?;
        if raw.filter.is_some() || raw.distinct {
            return Err(
                Error::invalid(format!("{} takes neither FILTER nor DISTINCT: filter in WHERE", call.name)).into()
            );
        }
        let shown = shown(call, &raw.args);
        let time = time_of(call, &raw.order_by)?;
        complete(call, &mut raw.args);
        raw.args.push(time);
        let window = Expr::from(WindowFunction {
            fun: raw.func_def,
            params: WindowFunctionParams {
                args: raw.args,
                partition_by: raw.partition_by,
                order_by: raw.order_by,
                window_frame: raw.window_frame,
                filter: None,
                null_treatment: raw.null_treatment,
                distinct: false,
            },
        });
        Ok(PlannerResult::Planned(window.alias(shown)))
    }

    fn plan_aggregate(&self, mut raw: RawAggregateExpr) -> Result<PlannerResult<RawAggregateExpr>> {
        match raw.func.name() {
            // `first(value, ts)` is `first_value(value ORDER BY ts)`.
            "first_value" | "last_value" if raw.args.len() == 2 && raw.order_by.is_empty() => {
                if let Some(time) = raw.args.pop() {
                    raw.order_by = vec![time.sort(true, false)];
                }
            }
            "forecast" => {
                forecast::check(&raw.args)?;
                if let Some(call) = call("forecast") {
                    complete(call, &mut raw.args);
                    forecast::spread_regressors(&mut raw.args);
                }
            }
            "time_to_exhaustion" => {
                exhaustion::check(&raw.args)?;
                if let Some(call) = call("time_to_exhaustion") {
                    complete(call, &mut raw.args);
                }
            }
            "detect_anomalies" => {
                detect_anomalies::check(&raw.args)?;
                if let Some(call) = call("detect_anomalies") {
                    complete(call, &mut raw.args);
                }
            }
            "decompose" => {
                if let Some(call) = call("decompose") {
                    complete(call, &mut raw.args);
                }
            }
            "correlate" => {
                correlate::check(&raw.args)?;
                if let Some(call) = call("correlate") {
                    let time = time_of(call, &raw.order_by)?;
                    complete(call, &mut raw.args);
                    raw.args.push(time);
                    raw.order_by.clear();
                }
            }
            _ => {}
        }
        Ok(PlannerResult::Original(raw))
    }
}

/// NULL for every parameter that was left out.
fn complete(call: &Call, args: &mut Vec<Expr>) {
    while args.len() < call.parameters.len() {
        args.push(Expr::Literal(ScalarValue::Null, None));
    }
}

fn time_of(call: &Call, order_by: &[SortExpr]) -> Result<Expr> {
    match order_by.first() {
        Some(first) if first.asc => Ok(first.expr.clone()),
        Some(_) => Err(Error::invalid(format!("{} needs ascending time: write {}", call.name, call.example)).into()),
        None => Err(Error::invalid(format!("{} needs the order of time: write {}", call.name, call.example)).into()),
    }
}

/// The name of the output column: the call as one would write it.
fn shown(call: &Call, args: &[Expr]) -> String {
    let mut text = Vec::new();
    for (parameter, arg) in call.parameters.iter().zip(args) {
        match arg {
            Expr::Literal(value, _) if value.is_null() => {}
            Expr::Literal(ScalarValue::Utf8(Some(value)), _) => text.push(format!("{parameter} => '{value}'")),
            Expr::Column(column) => text.push(column.name.clone()),
            other => text.push(other.to_string()),
        }
    }
    format!("{}({})", call.name, text.join(", "))
}
