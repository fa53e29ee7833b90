//! `model_score('m', last, ts, value, key, …) OVER (PARTITION BY key ORDER BY ts)`: what `model_scores` is made of.
//!
//! `last` is the beginning of the last phase that the statement may know of, so that all its rows are scored by one journal.
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock, Weak};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, StructArray, UInt32Array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, TimestampNanosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use foretell_engine::Snapshot;

use super::definition::{Definition, Journal, encode_key};
use super::lane::Lanes;
use super::watch::stored;
use super::{Model, Models};
use crate::error::Error;
use crate::udf::anomaly::time_type;
use crate::udf::constant;
use crate::udf::streaming::{Evaluator, Streaming};

const NAME: &str = "model_score";

/// Fields of the answer.
pub(super) const FIELDS: [(&str, DataType); 7] = [
    ("score", DataType::Float64),
    ("expected", DataType::Float64),
    ("lo", DataType::Float64),
    ("hi", DataType::Float64),
    ("is_anomaly", DataType::Boolean),
    ("version", DataType::UInt32),
    ("challenger_score", DataType::Float64),
];

static ANSWER: LazyLock<Fields> =
    LazyLock::new(|| FIELDS.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect());

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
        let (Some(name), Some(last)) = (given.first(), given.get(1)) else {
            return Err(Error::internal("model_score without arguments").into());
        };
        let name = constant::text(&constant::value(name, NAME, "model")?, NAME, "model")?;
        let last = match constant::value(last, NAME, "last")? {
            ScalarValue::Int64(Some(last)) => last,
            _ => return Err(Error::invalid("model_score: the last phase must be a constant").into()),
        };
        let models = self.models.upgrade().ok_or_else(|| Error::internal("the database is closed"))?;
        let model = models.find(&name.unwrap_or_default())?;
        let mut journal = Journal::clone(&model.known.read().journal);
        journal.phases.retain(|phase| phase.from <= last);
        if given.len() != 4 + model.definition.keys.len() {
            let keys = model.definition.keys.join(", ");
            return Err(Error::invalid(format!("model_score: the key of the model is ({keys})")).into());
        }
        let snapshot = models.engine.snapshot();
        Ok(Box::new(Evaluator::new(Watched { model, journal, snapshot, lanes: Lanes::default(), key: None })))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Struct(ANSWER.clone()), true)))
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::None
    }
}

/// The lanes of one series.
struct Watched {
    model: Arc<Model>,
    journal: Journal,
    /// Has the versions.
    snapshot: Snapshot,
    lanes: Lanes,
    key: Option<Vec<u8>>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({})", self.model.definition.name)
    }
}

#[derive(Default)]
struct Columns {
    numbers: [Vec<Option<f64>>; 4],
    is_anomaly: Vec<Option<bool>>,
    version: Vec<Option<u32>>,
    challenger: Vec<Option<f64>>,
}

impl Streaming for Watched {
    fn answer(&mut self, arguments: &[ArrayRef], from: usize) -> Result<ArrayRef> {
        let [_, _, times, values, keys @ ..] = arguments else {
            return Err(Error::internal("model_score without arguments").into());
        };
        let (times, values) = (times.as_primitive::<TimestampNanosecondType>(), values.as_primitive::<Float64Type>());
        if self.key.is_none() && !times.is_empty() {
            let text = |column: &ArrayRef| {
                let column = column.as_string::<i32>();
                column.is_valid(0).then(|| column.value(0).to_owned())
            };
            self.key = Some(encode_key(&keys.iter().map(text).collect::<Vec<_>>()));
        }
        let key = self.key.clone().unwrap_or_default();
        let definition: &Definition = &self.model.definition;
        let trained = |version: u32| stored(definition, &self.snapshot, version, &key);
        let mut columns = Columns::default();
        for row in from..times.len() {
            let (ts, value) = (times.value(row), values.value(row));
            let there = times.is_valid(row) && values.is_valid(row) && !value.is_nan();
            let said = match there {
                true => self.lanes.step(&self.journal, &trained, ts, value)?,
                false => None,
            };
            let champion = said.and_then(|said| said.verdicts[0]);
            let phase = said.map(|said| &self.journal.phases[said.phase]);
            let fields = champion.map(|v| [v.score, v.expected, v.lo, v.hi]).unwrap_or_default();
            for (column, field) in columns.numbers.iter_mut().zip(fields) {
                column.push(field);
            }
            columns.is_anomaly.push(fields[0].zip(phase).map(|(score, phase)| score > phase.boundary));
            columns.version.push(phase.map(|phase| phase.champion));
            columns.challenger.push(said.and_then(|said| said.verdicts[2]).and_then(|verdict| verdict.score));
        }
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(FIELDS.len());
        arrays.extend(columns.numbers.into_iter().map(|column| Arc::new(Float64Array::from(column)) as ArrayRef));
        arrays.push(Arc::new(BooleanArray::from(columns.is_anomaly)));
        arrays.push(Arc::new(UInt32Array::from(columns.version)));
        arrays.push(Arc::new(Float64Array::from(columns.challenger)));
        Ok(Arc::new(StructArray::try_new(ANSWER.clone(), arrays, None)?))
    }
}
