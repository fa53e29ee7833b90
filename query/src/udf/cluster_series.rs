//! `cluster_series(TABLE t, ts => …, value => …, id => […])`: the window function behind the table ([`super::table_form`]).
//!
//! Its arguments are the rows of a series, `LIST<STRUCT(ts, value)>`, and the number of clusters or NULL. All series of the
//! partition are clustered together. NULL for a series with too few rows.
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, TimeUnit, TimestampNanosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use foretell_ml::shape::cluster_series;

use super::anomaly::time_type;
use super::constant;
use super::forecast::external;
use crate::error::Error;

const NAME: &str = "cluster_series";

/// The window function.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClusterSeries {
    signature: Signature,
}

impl Default for ClusterSeries {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn fields() -> Fields {
    vec![
        Field::new("cluster_id", DataType::Int64, true),
        Field::new("distance", DataType::Float64, true),
        Field::new("is_medoid", DataType::Boolean, true),
    ]
    .into()
}

fn misused() -> Error {
    Error::invalid(format!(
        "{NAME} is a table function: write SELECT * FROM {NAME}(TABLE t, ts => ts, value => value, id => [host])"
    ))
}

fn clusters(value: &ScalarValue) -> Result<Option<usize>> {
    if value.is_null() {
        return Ok(None);
    }
    match value.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(Some(k))) if value.data_type().is_integer() && k > 0 => Ok(Some(k as usize)),
        _ => Err(Error::invalid(format!("{NAME}: argument 'clusters' must be a whole number above 0")).into()),
    }
}

impl WindowUDFImpl for ClusterSeries {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [DataType::List(rows), k] = types else { return Err(misused().into()) };
        let DataType::Struct(columns) = rows.data_type() else { return Err(misused().into()) };
        let [ts, value] = columns.as_ref() else { return Err(misused().into()) };
        time_type(NAME, ts.data_type())?;
        if !value.data_type().is_numeric() && *value.data_type() != DataType::Null {
            return Err(Error::invalid(format!("{NAME}: argument 'value' must be a number")).into());
        }
        if !k.is_numeric() && *k != DataType::Null {
            return Err(Error::invalid(format!("{NAME}: argument 'clusters' must be a whole number above 0")).into());
        }
        Ok(types.to_vec())
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let k = args.input_exprs().get(1).ok_or_else(misused)?;
        Ok(Box::new(Evaluator { clusters: clusters(&constant::value(k, NAME, "clusters")?)? }))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Struct(fields()), true)))
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

/// Clusters the series of a partition.
#[derive(Debug)]
struct Evaluator {
    clusters: Option<usize>,
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, arguments: &[ArrayRef], _rows: usize) -> Result<ArrayRef> {
        let lists = arguments[0].as_list::<i32>();
        let rows = lists.values().as_struct();
        let ts = cast(rows.column(0), &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
        let ts = ts.as_primitive::<TimestampNanosecondType>();
        let values = cast(rows.column(1), &DataType::Float64)?;
        let values = values.as_primitive::<Float64Type>();
        // a row without a time or a value is none
        let present: Vec<f64> = (0..values.len())
            .map(|row| if values.is_valid(row) && ts.is_valid(row) { values.value(row) } else { f64::NAN })
            .collect();
        let series: Vec<(&[i64], &[f64])> = (0..lists.len())
            .map(|at| {
                let (from, to) = (lists.value_offsets()[at] as usize, lists.value_offsets()[at + 1] as usize);
                (&ts.values()[from..to], &present[from..to])
            })
            .collect();
        let places = cluster_series(&series, self.clusters).map_err(external)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(places.iter().map(|place| place.map(|p| p.cluster as i64)).collect::<Int64Array>()),
            Arc::new(places.iter().map(|place| place.map(|p| p.distance)).collect::<Float64Array>()),
            Arc::new(places.iter().map(|place| place.map(|p| p.is_medoid)).collect::<BooleanArray>()),
        ];
        let known = NullBuffer::from(places.iter().map(Option::is_some).collect::<Vec<bool>>());
        Ok(Arc::new(StructArray::try_new(fields(), columns, Some(known))?))
    }
}
