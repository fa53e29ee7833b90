//! `anomaly_rate(anomalous)`: the share of rows that are, 0 to 1; NULL rows do not count, no row gives NULL.
use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Expr, Signature, Volatility, cast};

/// The function; it becomes `avg` before a plan is made.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct AnomalyRate(Signature);

impl Default for AnomalyRate {
    fn default() -> Self {
        Self(Signature::exact(vec![DataType::Boolean], Volatility::Immutable))
    }
}

impl AggregateUDFImpl for AnomalyRate {
    fn name(&self) -> &str {
        "anomaly_rate"
    }
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }
    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Err(DataFusionError::Internal("anomaly_rate becomes avg before it runs".into()))
    }
    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        Some(Box::new(|function: AggregateFunction, _| {
            let args = function.params.args.into_iter().map(|arg| cast(arg, DataType::Float64)).collect();
            let params = AggregateFunctionParams { args, ..function.params };
            Ok(Expr::AggregateFunction(AggregateFunction { func: avg_udaf(), params }))
        }))
    }
}
