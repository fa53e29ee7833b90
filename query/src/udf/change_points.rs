//! `change_points(ts, value)` -> `LIST<STRUCT(ts, type, p_value, before, after)>`, empty when nothing changed.
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use foretell_ml::change::{ChangeKind, ChangePoint, change_points};

use super::anomaly::time_type;
use super::collect::{Collect, list_of_structs, state_fields, struct_list, zone};
use crate::error::Error;

const NAME: &str = "change_points";

/// The aggregate.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChangePoints {
    signature: Signature,
}

impl Default for ChangePoints {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn fields(zone: Option<Arc<str>>) -> Fields {
    vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, zone), true),
        Field::new("type", DataType::Utf8, true),
        Field::new("p_value", DataType::Float64, true),
        Field::new("before", DataType::Float64, true),
        Field::new("after", DataType::Float64, true),
    ]
    .into()
}

fn kind_name(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Mean => "mean",
        ChangeKind::Variance => "variance",
        ChangeKind::Trend => "trend",
    }
}

impl AggregateUDFImpl for ChangePoints {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [ts, value] if value.is_numeric() || *value == DataType::Null => {
                Ok(vec![time_type(NAME, ts)?, DataType::Float64])
            }
            _ => Err(Error::invalid("change_points takes a time and a number: write change_points(ts, value)").into()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(list_of_structs(fields(zone(types.first()))))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let zone = zone(args.expr_fields.first().map(|f| f.data_type()));
        let finish = move |ts: &[i64], columns: &[Vec<f64>]| -> Result<ScalarValue> {
            let found = change_points(&columns[0]);
            let number = |f: fn(&ChangePoint) -> f64| -> ArrayRef {
                Arc::new(found.iter().map(|c| Some(f(c))).collect::<Float64Array>())
            };
            let times = TimestampNanosecondArray::from_iter_values(found.iter().map(|c| ts[c.index]))
                .with_timezone_opt(zone.clone());
            let kinds = StringArray::from_iter_values(found.iter().map(|c| kind_name(c.kind)));
            let columns = vec![
                Arc::new(times) as ArrayRef,
                Arc::new(kinds),
                number(|c| c.p_value),
                number(|c| c.before),
                number(|c| c.after),
            ];
            struct_list(fields(zone.clone()), columns)
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
