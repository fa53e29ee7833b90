//! `model_score('m', last, ts, value, key, …) OVER (PARTITION BY key ORDER BY ts)`: what `model_scores` is made of.
//!
//! `last` is the beginning of the last phase that the statement may know of, so that all its rows are scored by one journal.
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, TimestampNanosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use foretell_engine::Snapshot;

use super::Models;
use super::definition::Journal;
use super::judge::{Answers, Judge, Series, answer_type};
use crate::error::Error;
use crate::udf::anomaly::time_type;
use crate::udf::constant;
use crate::udf::streaming::{Evaluator, Streaming};

pub(crate) const NAME: &str = "model_score";

/// The window function.
pub(crate) struct ModelScore {
    models: Weak<Models>,
    signature: Signature,
}

impl fmt::Debug for ModelScore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelScore")
    }
}

// there is one in a session
impl PartialEq for ModelScore {
    fn eq(&self, other: &Self) -> bool {
        Weak::ptr_eq(&self.models, &other.models)
    }
}
impl Eq for ModelScore {}
impl Hash for ModelScore {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NAME.hash(state);
    }
}

impl ModelScore {
    pub(crate) fn new(models: &Arc<Models>) -> Self {
        Self { models: Arc::downgrade(models), signature: Signature::user_defined(Volatility::Stable) }
    }
}

impl WindowUDFImpl for ModelScore {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [_, _, ts, value, keys @ ..] = types else {
            return Err(Error::invalid(
                "model_score takes a model, the last phase, a time, a value and the columns of the key: use model_scores('name')",
            )
            .into());
        };
        if !value.is_numeric() && *value != DataType::Null {
            return Err(Error::invalid("model_score: the value must be a number").into());
        }
        let mut coerced = vec![DataType::Utf8, DataType::Int64, time_type(NAME, ts)?, DataType::Float64];
        coerced.extend(keys.iter().map(|_| DataType::Utf8));
        Ok(coerced)
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let given = args.input_exprs();
        let [name, last, ..] = given else {
            return Err(Error::internal("model_score without arguments").into());
        };
        let models = self.models.upgrade().ok_or_else(|| Error::internal("the database is closed"))?;
        let snapshot = models.engine.snapshot();
        let judge = judge(&snapshot, name, last)?;
        if given.len() != 4 + judge.keys().len() {
            let keys = judge.keys().join(", ");
            return Err(Error::invalid(format!("model_score: the key of the model is ({keys})")).into());
        }
        let journal = judge.journal(&snapshot)?;
        Ok(Box::new(Evaluator::new(Watched { judge, journal, snapshot, series: None })))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), answer_type(), true)))
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::None
    }
}

/// The model of a call's physical constants.
///
/// # Errors
/// As [`Judge::new`]; `Invalid` for what is not constant.
pub(crate) fn judge(
    snapshot: &Snapshot,
    model: &Arc<dyn PhysicalExpr>,
    last: &Arc<dyn PhysicalExpr>,
) -> crate::error::Result<Judge> {
    let constant = |expr, what| constant::value(expr, NAME, what).map_err(Error::from_datafusion);
    let model = constant::text(&constant(model, "model")?, NAME, "model").map_err(Error::from_datafusion)?;
    let ScalarValue::Int64(Some(last)) = constant(last, "last")? else {
        return Err(Error::invalid("model_score: the last phase must be a constant"));
    };
    Judge::new(snapshot, &model.unwrap_or_default(), last)
}

/// The rows of one series.
struct Watched {
    judge: Judge,
    journal: Journal,
    /// Has the versions.
    snapshot: Snapshot,
    series: Option<Series>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({})", self.judge.model())
    }
}

impl Streaming for Watched {
    fn answer(&mut self, arguments: &[ArrayRef], from: usize) -> Result<ArrayRef> {
        let [_, _, times, values, keys @ ..] = arguments else {
            return Err(Error::internal("model_score without arguments").into());
        };
        let (times, values) = (times.as_primitive::<TimestampNanosecondType>(), values.as_primitive::<Float64Type>());
        let mut answers = Answers::default();
        if times.is_empty() {
            return Ok(answers.finish()?);
        }
        let text = |column: &ArrayRef| {
            let column = column.as_string::<i32>();
            column.is_valid(0).then(|| column.value(0).to_owned())
        };
        let series = self.series.get_or_insert_with(|| Series::new(&keys.iter().map(text).collect::<Vec<_>>()));
        for row in from..times.len() {
            let there = times.is_valid(row) && values.is_valid(row);
            let value = if there { values.value(row) } else { f64::NAN };
            self.judge.see(&self.snapshot, &self.journal, series, (times.value(row), value), &mut answers)?;
        }
        Ok(answers.finish()?)
    }
}
