//! `correlate(a, b [, max_lag] ORDER BY ts)` -> `STRUCT(lag, r, p_value)`.
//!
//! A lag counts rows in the order of time, so that the call names that order; the planner hook turns it into an argument. A
//! row with a NULL on one side keeps its place. NULL with fewer than 3 common rows or no spread.
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Expr, Signature, Volatility};
use foretell_ml::correlate::correlate;

use super::anomaly::time_type;
use super::collect::{Collect, state_fields};
use super::constant;
use crate::error::Error;

const NAME: &str = "correlate";
/// Lags looked at on both sides when `max_lag` is left out.
const LAG_DEFAULT: i64 = 0;
/// Largest `max_lag`.
const LAG_MAX: i64 = 10_000;

/// The aggregate: arguments a, b, max_lag and the hidden time.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Correlate {
    signature: Signature,
}

impl Default for Correlate {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn fields() -> Fields {
    vec![
        Field::new("lag", DataType::Int64, true),
        Field::new("r", DataType::Float64, true),
        Field::new("p_value", DataType::Float64, true),
    ]
    .into()
}

fn max_lag(value: Option<&ScalarValue>) -> Result<usize> {
    let lag = match value {
        Some(value) if !value.is_null() => match value.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(Some(lag))) if value.data_type().is_integer() => lag,
            _ => return Err(Error::invalid("correlate: argument 'max_lag' must be a whole number of rows").into()),
        },
        _ => LAG_DEFAULT,
    };
    if !(0..=LAG_MAX).contains(&lag) {
        return Err(Error::invalid(format!("correlate: argument 'max_lag' must be between 0 and {LAG_MAX}")).into());
    }
    Ok(lag as usize)
}

/// Says at planning time what is wrong with constant arguments.
pub(crate) fn check(args: &[Expr]) -> Result<()> {
    max_lag(constant::literal(args.get(2))).map(drop)
}

impl AggregateUDFImpl for Correlate {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [a, b, _, ts] = types else {
            return Err(
                Error::invalid("correlate needs the order of time: write correlate(a, b, 10 ORDER BY ts)").into()
            );
        };
        for (parameter, kind) in [("a", a), ("b", b)] {
            if !kind.is_numeric() && *kind != DataType::Null {
                return Err(Error::invalid(format!("correlate: argument '{parameter}' must be a number")).into());
            }
        }
        Ok(vec![DataType::Float64, DataType::Float64, DataType::Int64, time_type(NAME, ts)?])
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields()))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let lag = args.exprs.get(2).map(|e| constant::value(e, NAME, "max_lag")).transpose()?;
        let lag = max_lag(lag.as_ref())?;
        let null = ScalarValue::try_from(args.return_type())?;
        let finish = move |_: &[i64], columns: &[Vec<f64>]| {
            let Some(found) = correlate(&columns[0], &columns[1], lag) else { return Ok(null.clone()) };
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(vec![found.lag])),
                Arc::new(Float64Array::from(vec![found.r])),
                Arc::new(Float64Array::from(vec![found.p_value])),
            ];
            Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(), columns, None)?)))
        };
        Ok(Box::new(Collect::new(3, vec![0, 1], true, Box::new(finish))))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(state_fields(&args, 2))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}
