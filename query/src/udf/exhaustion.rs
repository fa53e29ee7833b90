//! `time_to_exhaustion(ts, value, capacity, horizon [, method, level, season])` -> `STRUCT(ts, earliest, latest)`.
//!
//! When the forecast, and the two ends of its interval, first reach the capacity. A field is NULL when that is not
//! within the horizon; the whole is NULL with fewer rows than any method needs.
use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Expr, Signature, Volatility};
use foretell_ml::forecast::time_to_exhaustion;

use super::anomaly::time_type;
use super::collect::{Collect, state_fields, zone};
use super::constant;
use super::forecast::{coerce, constants, external, literals, options};
use crate::error::Error;

const NAME: &str = "time_to_exhaustion";

/// The aggregate.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimeToExhaustion {
    signature: Signature,
}

impl Default for TimeToExhaustion {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn fields(zone: &Option<Arc<str>>) -> Fields {
    ["ts", "earliest", "latest"]
        .into_iter()
        .map(|name| Field::new(name, DataType::Timestamp(TimeUnit::Nanosecond, zone.clone()), true))
        .collect()
}

fn no_capacity() -> DataFusionError {
    Error::invalid("time_to_exhaustion: argument 'capacity' must be a number").into()
}

/// Says at planning time what is wrong with constant arguments.
pub(crate) fn check(args: &[Expr]) -> Result<()> {
    let (horizon, options) = options(NAME, &literals(args, 3))?;
    let capacity = match constant::literal(args.get(2)) {
        Some(value) => constant::number(value, NAME, "capacity")?.ok_or_else(no_capacity)?,
        None => 0.0,
    };
    time_to_exhaustion(&[], &[], capacity, horizon, &options).map(drop).map_err(external)
}

impl AggregateUDFImpl for TimeToExhaustion {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [ts, value, capacity, horizon, method, level, season] = types else {
            return Err(Error::invalid(
                "time_to_exhaustion takes ts, value, capacity, horizon [, method, level, season], for example \
                 time_to_exhaustion(ts, value, 100, '30d')",
            )
            .into());
        };
        if !value.is_numeric() && *value != DataType::Null {
            return Err(Error::invalid("time_to_exhaustion: argument 'value' must be a number").into());
        }
        if !capacity.is_numeric() {
            return Err(no_capacity());
        }
        let mut types = vec![time_type(NAME, ts)?, DataType::Float64, DataType::Float64];
        types.extend(coerce(NAME, [horizon, method, level, season])?);
        Ok(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields(&zone(types.first()))))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (horizon, options) = options(NAME, &constants(NAME, args.exprs, 3)?)?;
        let capacity = args.exprs.get(2).ok_or_else(no_capacity)?;
        let capacity = constant::number(&constant::value(capacity, NAME, "capacity")?, NAME, "capacity")?;
        let capacity = capacity.ok_or_else(no_capacity)?;
        let zone = zone(args.expr_fields.first().map(|f| f.data_type()));
        let null = ScalarValue::try_from(args.return_type())?;
        let finish = move |ts: &[i64], columns: &[Vec<f64>]| {
            let Some(found) = time_to_exhaustion(ts, &columns[0], capacity, horizon, &options).map_err(external)?
            else {
                return Ok(null.clone());
            };
            let columns = [found.ts, found.earliest, found.latest]
                .map(|at| {
                    Arc::new(TimestampNanosecondArray::from(vec![at]).with_timezone_opt(zone.clone())) as ArrayRef
                })
                .to_vec();
            Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(&zone), columns, None)?)))
        };
        Ok(Box::new(Collect::new(0, vec![1], false, Box::new(finish))))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(state_fields(&args, 1))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}
