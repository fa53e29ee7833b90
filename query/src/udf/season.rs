//! `seasonality(ts, value)` -> `STRUCT(period, strength)`, NULL without a season, and
//! `decompose(ts, value [, season])` -> `STRUCT(ts, trend, seasonal, residual)` of lists, a value for each step.
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StructArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use foretell_ml::decompose::decompose;
use foretell_ml::season;

use super::anomaly::time_type;
use super::collect::{Collect, state_fields, zone};
use super::constant;
use crate::error::Error;

/// The aggregate `seasonality`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seasonality {
    signature: Signature,
}

/// The aggregate `decompose`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Decompose {
    signature: Signature,
}

impl Default for Seasonality {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for Decompose {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The types of time and value.
fn row_types(function: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [ts, value, ..] if value.is_numeric() || *value == DataType::Null => {
            Ok(vec![time_type(function, ts)?, DataType::Float64])
        }
        _ => Err(Error::invalid(format!("{function} takes a time and a number: write {function}(ts, value)")).into()),
    }
}

fn season_fields() -> Fields {
    vec![Field::new("period", DataType::Int64, true), Field::new("strength", DataType::Float64, true)].into()
}

impl AggregateUDFImpl for Seasonality {
    fn name(&self) -> &str {
        "seasonality"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        row_types(self.name(), types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(season_fields()))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let null = ScalarValue::try_from(args.return_type())?;
        let finish = move |ts: &[i64], columns: &[Vec<f64>]| {
            let Some(found) = season::find(ts, &columns[0]) else { return Ok(null.clone()) };
            let columns: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(vec![found.period_ns])),
                Arc::new(Float64Array::from(vec![found.strength])),
            ];
            Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(season_fields(), columns, None)?)))
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

fn part_fields(zone: Option<Arc<str>>) -> Fields {
    let list = |name: &str, kind: DataType| Field::new_list(name, Field::new_list_field(kind, true), true);
    vec![
        list("ts", DataType::Timestamp(TimeUnit::Nanosecond, zone)),
        list("trend", DataType::Float64),
        list("seasonal", DataType::Float64),
        list("residual", DataType::Float64),
    ]
    .into()
}

impl AggregateUDFImpl for Decompose {
    fn name(&self) -> &str {
        "decompose"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let mut coerced = row_types(self.name(), types)?;
        match types.get(2) {
            Some(DataType::Null) => coerced.push(DataType::Utf8),
            Some(season) if constant::is_duration_type(season) => coerced.push(season.clone()),
            _ => {
                return Err(Error::invalid(
                    "decompose: argument 'season' must be a length of time, such as season => '1d'",
                )
                .into());
            }
        }
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(part_fields(zone(types.first()))))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let season = match args.exprs.get(2) {
            Some(season) => constant::nanos(&constant::value(season, self.name(), "season")?, self.name(), "season")?,
            None => None,
        };
        let zone = zone(args.expr_fields.first().map(|f| f.data_type()));
        let null = ScalarValue::try_from(args.return_type())?;
        let finish = move |ts: &[i64], columns: &[Vec<f64>]| {
            let found =
                decompose(ts, &columns[0], season).map_err(|error| DataFusionError::External(Box::new(error)))?;
            let Some(parts) = found else { return Ok(null.clone()) };
            let list =
                |array: ArrayRef| -> ArrayRef { Arc::new(SingleRowListArrayBuilder::new(array).build_list_array()) };
            let columns: Vec<ArrayRef> = vec![
                list(Arc::new(TimestampNanosecondArray::from(parts.ts).with_timezone_opt(zone.clone()))),
                list(Arc::new(Float64Array::from(parts.trend))),
                list(Arc::new(Float64Array::from(parts.seasonal))),
                list(Arc::new(Float64Array::from(parts.residual))),
            ];
            Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(part_fields(zone.clone()), columns, None)?)))
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
