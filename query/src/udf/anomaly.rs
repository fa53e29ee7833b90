//! `anomaly_score(value [, method, season]) OVER (… ORDER BY ts)` and `anomaly(…)`, its answer with all details.
//!
//! Streaming: one detector a partition of the window, O(1) state, no row is looked at twice. Causal: a row's answer depends
//! on no later row.
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, TimeUnit, TimestampNanosecondType};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{Expr, LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use foretell_ml::detect::{Detector, DetectorOptions, Escalation, Method, Step, Verdict};

use super::constant;
use super::streaming::{Evaluator, Streaming};
use crate::error::Error;

/// Fields of `anomaly`.
static WHOLE: LazyLock<Fields> = LazyLock::new(|| {
    vec![
        Field::new("score", DataType::Float64, true),
        Field::new("expected", DataType::Float64, true),
        Field::new("lo", DataType::Float64, true),
        Field::new("hi", DataType::Float64, true),
        Field::new("is_anomaly", DataType::Boolean, true),
        Field::new("warmup", DataType::Boolean, true),
        Field::new("tier", DataType::Int32, true),
    ]
    .into()
});

/// Both window functions: arguments value, method, season and the hidden time.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Anomaly {
    name: &'static str,
    whole: bool,
    signature: Signature,
}

impl Anomaly {
    /// `anomaly_score`
    pub(crate) fn score() -> Self {
        Self { name: "anomaly_score", whole: false, signature: Signature::user_defined(Volatility::Immutable) }
    }
    /// `anomaly`
    pub(crate) fn whole() -> Self {
        Self { name: "anomaly", whole: true, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// Method and options from the constant arguments after the value.
fn options(
    function: &str,
    method: Option<&ScalarValue>,
    season: Option<&ScalarValue>,
) -> Result<(Method, DetectorOptions)> {
    let method = match method {
        Some(value) => constant::text(value, function, "method")?,
        None => None,
    };
    let (method, escalation) = methods(method.as_deref().unwrap_or("auto")).map_err(external)?;
    let season_ns = match season {
        Some(value) => constant::nanos(value, function, "season")?,
        None => None,
    };
    Ok((method, DetectorOptions { season_ns, escalation }))
}

/// A method, or one with those that are asked about what it doubts: `auto, subspace above 0.5, patches above 0.8`.
fn methods(text: &str) -> foretell_ml::Result<(Method, Escalation)> {
    let (method, escalation) = escalated(text)?;
    Ok((method.parse()?, escalation))
}

/// What comes first in `text`, and the methods that are asked about what it doubts.
pub(crate) fn escalated(text: &str) -> foretell_ml::Result<(&str, Escalation)> {
    let mut parts = text.split(',');
    let first = parts.next().unwrap_or_default().trim();
    let step = |part: &str| {
        let wrong = || {
            let what =
                format!("\"{}\" is no method with a score, write for example 'auto, subspace above 0.5'", part.trim());
            foretell_ml::Error::Invalid(what)
        };
        let words: Vec<&str> = part.split_whitespace().collect();
        let [name, above, score] = words.as_slice() else { return Err(wrong()) };
        let score = score.parse().ok().filter(|_| above.eq_ignore_ascii_case("above")).ok_or_else(wrong)?;
        Ok(Step { method: name.parse()?, above: score })
    };
    let steps = parts.map(step).collect::<foretell_ml::Result<Vec<Step>>>()?;
    Ok((first, Escalation::new(&steps)?))
}

fn external(error: foretell_ml::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// A fresh detector from the physical constants of a call.
pub(crate) fn detector(
    function: &str,
    method: &Arc<dyn PhysicalExpr>,
    season: &Arc<dyn PhysicalExpr>,
) -> Result<Detector> {
    let method = constant::value(method, function, "method")?;
    let season = constant::value(season, function, "season")?;
    let (method, options) = options(function, Some(&method), Some(&season))?;
    Detector::new(method, options).map_err(external)
}

/// The column that `anomaly` (`whole`) or `anomaly_score` answers. A NULL value is a NaN in `values`.
pub(crate) fn answers(is_whole: bool, values: &[f64], verdicts: &[Verdict]) -> Result<ArrayRef> {
    if is_whole {
        whole(values, verdicts)
    } else {
        Ok(Arc::new(verdicts.iter().map(|v| v.score).collect::<Float64Array>()))
    }
}

/// Says at planning time what is wrong with constant arguments.
pub(crate) fn check(function: &str, args: &[Expr]) -> Result<()> {
    let literal = |i: usize| constant::literal(args.get(i));
    if (1..3).any(|i| args.get(i).is_some() && literal(i).is_none()) {
        // Not folded yet, or not constant: the evaluator decides.
        return Ok(());
    }
    let (method, options) = options(function, literal(1), literal(2))?;
    Detector::new(method, options).map(drop).map_err(external)
}

impl WindowUDFImpl for Anomaly {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [value, method, season, time] = types else {
            return Err(Error::invalid(format!("{} needs OVER (… ORDER BY ts)", self.name)).into());
        };
        if !value.is_numeric() && !matches!(value, DataType::Null | DataType::Boolean) {
            return Err(
                Error::invalid(format!("{}: argument 'value' must be a number, it is {value}", self.name)).into()
            );
        }
        if !matches!(method, DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            return Err(Error::invalid(format!(
                "{}: argument 'method' must be text, such as method => 'mad'",
                self.name
            ))
            .into());
        }
        if !constant::is_duration_type(season) {
            return Err(Error::invalid(format!(
                "{}: argument 'season' must be a length of time, such as season => '1d'",
                self.name
            ))
            .into());
        }
        let season = if *season == DataType::Null { DataType::Utf8 } else { season.clone() };
        Ok(vec![DataType::Float64, DataType::Utf8, season, time_type(self.name, time)?])
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        let [_, method, season, _] = args.input_exprs() else {
            return Err(Error::invalid(format!("{} needs OVER (… ORDER BY ts)", self.name)).into());
        };
        let detector = detector(self.name, method, season)?;
        Ok(Box::new(Evaluator::new(Scores { detector, whole: self.whole })))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        let kind = if self.whole { DataType::Struct(WHOLE.clone()) } else { DataType::Float64 };
        Ok(Arc::new(Field::new(args.name(), kind, true)))
    }

    fn limit_effect(&self, _args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::None
    }
}

/// The type that a time argument is cast to.
pub(crate) fn time_type(function: &str, given: &DataType) -> Result<DataType> {
    match given {
        DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())),
        DataType::Date32 | DataType::Date64 | DataType::Int64 => Ok(DataType::Timestamp(TimeUnit::Nanosecond, None)),
        other => Err(Error::invalid(format!("{function} needs time to order by, not {other}: use ORDER BY ts")).into()),
    }
}

/// One detector on the rows of one partition of the window.
#[derive(Debug)]
struct Scores {
    detector: Detector,
    whole: bool,
}

impl Streaming for Scores {
    fn answer(&mut self, arguments: &[ArrayRef], from: usize) -> Result<ArrayRef> {
        let values = arguments[0].as_primitive::<Float64Type>();
        let times = arguments[3].as_primitive::<TimestampNanosecondType>();
        let values: Vec<f64> =
            (from..values.len()).map(|i| if values.is_valid(i) { values.value(i) } else { f64::NAN }).collect();
        let mut verdicts = Vec::with_capacity(values.len());
        self.detector.update_many(&times.values()[from..], &values, &mut verdicts);
        answers(self.whole, &values, &verdicts)
    }
}

fn whole(values: &[f64], verdicts: &[Verdict]) -> Result<ArrayRef> {
    let column =
        |f: fn(&Verdict) -> Option<f64>| -> ArrayRef { Arc::new(verdicts.iter().map(f).collect::<Float64Array>()) };
    let columns: Vec<ArrayRef> = vec![
        column(|v| v.score),
        column(|v| v.expected),
        column(|v| v.lo),
        column(|v| v.hi),
        Arc::new(verdicts.iter().map(|v| v.score.map(|s| s > 1.0)).collect::<BooleanArray>()),
        Arc::new(verdicts.iter().map(|v| Some(v.score.is_none())).collect::<BooleanArray>()),
        Arc::new(verdicts.iter().map(|v| Some(i32::from(v.tier))).collect::<Int32Array>()),
    ];
    let present = NullBuffer::from(values.iter().map(|v| !v.is_nan()).collect::<Vec<bool>>());
    Ok(Arc::new(StructArray::try_new(WHOLE.clone(), columns, Some(present))?))
}
