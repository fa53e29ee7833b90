//! `forecast(ts, value, horizon [, method, level, season, regressors])` -> `LIST<STRUCT(ts, value, lo, hi)>`.
//!
//! `horizon` is a number of steps or a length of time. NULL with fewer rows than any method needs. `regressors` are
//! columns in brackets; the planner's hook makes an argument of each, so that the aggregate has as many more.
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Expr, Signature, Volatility};
use datafusion::physical_expr::PhysicalExpr;
use foretell_ml::forecast::{ForecastOptions, Horizon, forecast, forecast_with};

use super::anomaly::time_type;
use super::collect::{Collect, list_of_structs, state_fields, struct_list, zone};
use super::constant;
use crate::error::Error;

const NAME: &str = "forecast";

/// The aggregate.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Forecast {
    signature: Signature,
}

impl Default for Forecast {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn fields(zone: Option<Arc<str>>) -> Fields {
    vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, zone), true),
        Field::new("value", DataType::Float64, true),
        Field::new("lo", DataType::Float64, true),
        Field::new("hi", DataType::Float64, true),
    ]
    .into()
}

/// What may follow the columns, in this order.
const PARAMETERS: [&str; 4] = ["horizon", "method", "level", "season"];

/// Arguments before the regressors.
const FIXED: usize = 2 + PARAMETERS.len();

/// Horizon and options of `function` from its constants `horizon, method, level, season`.
pub(super) fn options(function: &str, constants: &[Option<ScalarValue>]) -> Result<(Horizon, ForecastOptions)> {
    let given = |i: usize| constants.get(i).and_then(Option::as_ref);
    let horizon = match given(0) {
        Some(ScalarValue::Int64(Some(steps))) => Horizon::Steps(
            usize::try_from(*steps)
                .map_err(|_| Error::invalid(format!("{function}: argument 'horizon' must be positive")))?,
        ),
        Some(value) => match constant::nanos(value, function, "horizon")? {
            Some(nanos) => Horizon::Nanos(nanos),
            None => {
                return Err(Error::invalid(format!(
                    "{function}: argument 'horizon' must be a number of steps or a length of time such as '6h'"
                ))
                .into());
            }
        },
        None => Horizon::Steps(1),
    };
    let method = given(1).map(|v| constant::text(v, function, "method")).transpose()?.flatten();
    let level = given(2).map(|v| constant::number(v, function, "level")).transpose()?.flatten();
    let season_ns = given(3).map(|v| constant::nanos(v, function, "season")).transpose()?.flatten();
    Ok((horizon, ForecastOptions { method, level, season_ns }))
}

/// The constants of [`options`] among the logical arguments from the `from`th on.
pub(super) fn literals(args: &[Expr], from: usize) -> Vec<Option<ScalarValue>> {
    (from..from + PARAMETERS.len())
        .map(|i| {
            let value = constant::literal(args.get(i))?;
            let integer = value.data_type().is_integer().then(|| value.cast_to(&DataType::Int64).ok()).flatten();
            Some(integer.unwrap_or_else(|| value.clone()))
        })
        .collect()
}

/// ... and among the physical ones.
pub(super) fn constants(
    function: &str,
    args: &[Arc<dyn PhysicalExpr>],
    from: usize,
) -> Result<Vec<Option<ScalarValue>>> {
    args.iter().skip(from).zip(PARAMETERS).map(|(e, p)| constant::value(e, function, p).map(Some)).collect()
}

/// The types that those constants are cast to.
pub(super) fn coerce(
    function: &str,
    [horizon, method, level, season]: [&DataType; PARAMETERS.len()],
) -> Result<[DataType; PARAMETERS.len()]> {
    let bad = |parameter: &str, what: &str| -> Result<[DataType; PARAMETERS.len()]> {
        Err(Error::invalid(format!("{function}: argument '{parameter}' must be {what}")).into())
    };
    let horizon = match horizon {
        kind if kind.is_integer() => DataType::Int64,
        DataType::Null => return bad("horizon", "a number of steps or a length of time such as '6h'"),
        kind if constant::is_duration_type(kind) => kind.clone(),
        _ => return bad("horizon", "a number of steps or a length of time such as '6h'"),
    };
    if !matches!(method, DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        return bad("method", "text, such as method => 'auto'");
    }
    if !level.is_numeric() && *level != DataType::Null {
        return bad("level", "a number between 0 and 1, such as level => 0.95");
    }
    if !constant::is_duration_type(season) {
        return bad("season", "a length of time, such as season => '1d'");
    }
    let season = if *season == DataType::Null { DataType::Utf8 } else { season.clone() };
    Ok([horizon, DataType::Utf8, DataType::Float64, season])
}

/// Says at planning time what is wrong with constant arguments.
pub(crate) fn check(args: &[Expr]) -> Result<()> {
    let (horizon, options) = options(NAME, &literals(args, 2))?;
    // Nothing can be forecast from nothing, but options are checked first.
    forecast(&[], &[], horizon, &options).map(drop).map_err(external)
}

/// Makes the last of the complete arguments, columns in brackets, one or NULL, as many as there are columns.
pub(crate) fn spread_regressors(args: &mut Vec<Expr>) {
    match args.pop() {
        None | Some(Expr::Literal(ScalarValue::Null, _)) => {}
        Some(Expr::ScalarFunction(list)) if list.name() == "make_array" => args.extend(list.args),
        Some(one) => args.push(one),
    }
}

pub(super) fn external(error: foretell_ml::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl AggregateUDFImpl for Forecast {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [ts, value, horizon, method, level, season, regressors @ ..] = types else {
            return Err(Error::invalid(
                "forecast takes ts, value, horizon [, method, level, season, regressors], for example \
                 forecast(ts, value, '6h')",
            )
            .into());
        };
        if !value.is_numeric() && *value != DataType::Null {
            return Err(Error::invalid("forecast: argument 'value' must be a number").into());
        }
        let mut types = vec![time_type(NAME, ts)?, DataType::Float64];
        types.extend(coerce(NAME, [horizon, method, level, season])?);
        if !regressors.iter().all(|kind| kind.is_numeric() || matches!(kind, DataType::Boolean | DataType::Null)) {
            return Err(Error::invalid(
                "forecast: argument 'regressors' must be columns of numbers in brackets, such as regressors => [holiday]",
            )
            .into());
        }
        types.extend(regressors.iter().map(|_| DataType::Float64));
        Ok(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(list_of_structs(fields(zone(types.first()))))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (horizon, options) = options(NAME, &constants(NAME, args.exprs, 2)?)?;
        let zone = zone(args.expr_fields.first().map(|f| f.data_type()));
        let null = ScalarValue::try_from(args.return_type())?;
        let finish = move |ts: &[i64], columns: &[Vec<f64>]| {
            let (value, regressors) = (&columns[0], &columns[1..]);
            let Some(points) = forecast_with(ts, value, regressors, horizon, &options).map_err(external)? else {
                return Ok(null.clone());
            };
            let number = |f: fn(&foretell_ml::forecast::ForecastPoint) -> f64| -> ArrayRef {
                Arc::new(points.iter().map(|p| Some(f(p))).collect::<Float64Array>())
            };
            let ts =
                TimestampNanosecondArray::from_iter_values(points.iter().map(|p| p.ts)).with_timezone_opt(zone.clone());
            struct_list(
                fields(zone.clone()),
                vec![Arc::new(ts), number(|p| p.value), number(|p| p.lo), number(|p| p.hi)],
            )
        };
        let mut columns = vec![1];
        columns.extend(FIXED..args.exprs.len());
        // rows without a value tell regressors of the future
        let keep_missing = columns.len() > 1;
        Ok(Box::new(Collect::new(0, columns, keep_missing, Box::new(finish))))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(state_fields(&args, 1 + args.input_fields.len().saturating_sub(FIXED)))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}
