//! `detect_anomalies(ts, values [, method, season])` -> `LIST<STRUCT(ts, score, is_anomaly, attribution)>`, an element a row.
//!
//! `values` is a struct with a field for each column, and `attribution` a struct with the same fields: what part of a
//! score comes from each. One column is judged as by `anomaly`, several together by `ml::detect::multivariate`. People call
//! it as a table (see [`super::table_form`]).
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, StructArray, TimestampNanosecondArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Expr, Signature, Volatility};
use foretell_ml::detect;
use foretell_ml::detect::multivariate::{self, COLUMNS_MAX};

use super::anomaly::time_type;
use super::collect::{Collect, list_of_structs, state_fields, struct_list, zone};
use super::constant;
use super::forecast::external;
use crate::error::Error;

const NAME: &str = "detect_anomalies";

/// The aggregate.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct DetectAnomalies {
    signature: Signature,
}

impl Default for DetectAnomalies {
    fn default() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// A fresh detector.
#[derive(Clone)]
enum Detector {
    One(detect::Detector),
    Many(multivariate::Detector),
}

impl Detector {
    fn new(columns: usize, method: Option<&str>, season_ns: Option<i64>) -> Result<Self> {
        let method = method.unwrap_or("auto");
        if columns == 1 {
            let method = method.parse::<detect::Method>().map_err(external)?;
            let options = detect::DetectorOptions { season_ns, ..Default::default() };
            return Ok(Self::One(detect::Detector::new(method, options).map_err(external)?));
        }
        let method = method.parse::<multivariate::Method>().map_err(external)?;
        if season_ns.is_some() {
            return Err(Error::invalid(format!("{NAME}: 'season' is for one value: leave it out, or give one")).into());
        }
        let options = multivariate::DetectorOptions::default();
        Ok(Self::Many(multivariate::Detector::new(method, columns, options).map_err(external)?))
    }

    /// Score and shares of the columns for each row.
    fn run(mut self, ts: &[i64], columns: &[Vec<f64>]) -> Answer {
        let mut answer = Answer { scores: Vec::with_capacity(ts.len()), shares: vec![Vec::new(); columns.len()] };
        let mut row = Vec::with_capacity(columns.len());
        for (at, &ts) in ts.iter().enumerate() {
            row.clear();
            row.extend(columns.iter().map(|column| column[at]));
            let multivariate::Verdict { score, shares } = match &mut self {
                Self::One(detector) => {
                    multivariate::Verdict { score: detector.update(ts, row[0]).score, shares: vec![1.0] }
                }
                Self::Many(detector) => detector.update(&row),
            };
            answer.scores.push(score);
            for (column, out) in answer.shares.iter_mut().enumerate() {
                out.push(score.and(shares.get(column).copied()));
            }
        }
        answer
    }
}

struct Answer {
    scores: Vec<Option<f64>>,
    /// Of each column.
    shares: Vec<Vec<Option<f64>>>,
}

fn value_fields(values: Option<&DataType>) -> Result<&Fields> {
    match values {
        Some(DataType::Struct(fields)) => Ok(fields),
        _ => Err(Error::invalid(format!(
            "{NAME}: argument 'values' must be columns: write SELECT * FROM {NAME}(TABLE t, ts => ts, values => [a, b], \
             id => [host])"
        ))
        .into()),
    }
}

fn attribution_fields(values: &Fields) -> Fields {
    values.iter().map(|field| Field::new(field.name(), DataType::Float64, true)).collect()
}

fn fields(zone: Option<Arc<str>>, values: &Fields) -> Fields {
    vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, zone), true),
        Field::new("score", DataType::Float64, true),
        Field::new("is_anomaly", DataType::Boolean, true),
        Field::new("attribution", DataType::Struct(attribution_fields(values)), true),
    ]
    .into()
}

/// Says at planning time what is wrong with constant arguments.
pub(crate) fn check(args: &[Expr]) -> Result<()> {
    let columns = match args.get(1) {
        Some(Expr::ScalarFunction(call)) if call.name() == "named_struct" => call.args.len() / 2,
        // the accumulator decides
        _ => return Ok(()),
    };
    let method = constant::literal(args.get(2)).map(|v| constant::text(v, NAME, "method")).transpose()?.flatten();
    let season = constant::literal(args.get(3)).map(|v| constant::nanos(v, NAME, "season")).transpose()?.flatten();
    Detector::new(columns, method.as_deref(), season).map(drop)
}

impl AggregateUDFImpl for DetectAnomalies {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [ts, values, method, season] = types else {
            return Err(Error::invalid(format!(
                "{NAME} takes ts, values [, method, season]: write SELECT * FROM {NAME}(TABLE t, ts => ts, \
                 values => [a, b], id => [host])"
            ))
            .into());
        };
        let columns = value_fields(Some(values))?;
        if columns.is_empty() || columns.len() > COLUMNS_MAX {
            return Err(Error::invalid(format!(
                "{NAME}: 'values' takes 1 to {COLUMNS_MAX} columns, not {}: leave out those that say the same",
                columns.len()
            ))
            .into());
        }
        for field in columns {
            if !field.data_type().is_numeric() && !matches!(field.data_type(), DataType::Null | DataType::Boolean) {
                return Err(Error::invalid(format!(
                    "{NAME}: column '{}' must be a number, it is {}: cast it or leave it out",
                    field.name(),
                    field.data_type()
                ))
                .into());
            }
        }
        if !matches!(method, DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
            return Err(
                Error::invalid(format!("{NAME}: argument 'method' must be text, such as method => 'auto'")).into()
            );
        }
        if !constant::is_duration_type(season) {
            return Err(Error::invalid(format!(
                "{NAME}: argument 'season' must be a length of time, such as season => '1d'"
            ))
            .into());
        }
        let season = if *season == DataType::Null { DataType::Utf8 } else { season.clone() };
        Ok(vec![time_type(NAME, ts)?, values.clone(), DataType::Utf8, season])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(list_of_structs(fields(zone(types.first()), value_fields(types.get(1))?)))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let values = value_fields(args.expr_fields.get(1).map(|field| field.data_type()))?.clone();
        let given = |at: usize, parameter| {
            args.exprs
                .get(at)
                .map(|e| constant::value(e, NAME, parameter))
                .transpose()
                .map(|v| v.unwrap_or(ScalarValue::Null))
        };
        let method = constant::text(&given(2, "method")?, NAME, "method")?;
        let season = constant::nanos(&given(3, "season")?, NAME, "season")?;
        let detector = Detector::new(values.len(), method.as_deref(), season)?;
        let zone = zone(args.expr_fields.first().map(|field| field.data_type()));
        let null = ScalarValue::try_from(args.return_type())?;
        let columns = values.len();
        let finish = move |ts: &[i64], columns: &[Vec<f64>]| {
            if ts.is_empty() {
                return Ok(null.clone());
            }
            let answer = detector.clone().run(ts, columns);
            table(ts, answer, zone.clone(), &values)
        };
        let arguments = (1..=columns).collect();
        Ok(Box::new(Rows { collect: Collect::new(0, arguments, true, Box::new(finish)), columns }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let columns = value_fields(args.input_fields.get(1).map(|field| field.data_type()))?.len();
        Ok(state_fields(&args, columns))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The list of a group.
fn table(ts: &[i64], answer: Answer, zone: Option<Arc<str>>, values: &Fields) -> Result<ScalarValue> {
    let present = NullBuffer::from(answer.scores.iter().map(Option::is_some).collect::<Vec<bool>>());
    let shares = answer.shares.into_iter().map(|shares| Arc::new(Float64Array::from(shares)) as ArrayRef).collect();
    let attribution = StructArray::try_new(attribution_fields(values), shares, Some(present))?;
    let is_anomaly: BooleanArray = answer.scores.iter().map(|score| score.map(|score| score > 1.0)).collect();
    let ts = TimestampNanosecondArray::from_iter_values(ts.iter().copied()).with_timezone_opt(zone.clone());
    struct_list(
        fields(zone, values),
        vec![Arc::new(ts), Arc::new(Float64Array::from(answer.scores)), Arc::new(is_anomaly), Arc::new(attribution)],
    )
}

/// [`Collect`] of the fields of a struct. Counts what the answer will take beside the rows, so that a query without memory
/// for it ends before it is made.
#[derive(Debug)]
struct Rows {
    collect: Collect,
    columns: usize,
}

impl Accumulator for Rows {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let values = arguments[1].as_struct();
        let mut columns = vec![Arc::clone(&arguments[0])];
        for column in values.columns() {
            let column = cast(column, &DataType::Float64)?;
            let column = column.as_primitive::<Float64Type>();
            let present = NullBuffer::union(values.nulls(), column.nulls());
            columns.push(Arc::new(Float64Array::new(column.values().clone(), present)));
        }
        self.collect.update_batch(&columns)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.collect.evaluate()
    }

    fn size(&self) -> usize {
        // sorted rows and shares, each a number a column; time, score and flag
        let row = 2 * 8 * self.columns + 4 * 8;
        self.collect.size() + self.collect.rows() * row
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.collect.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.collect.merge_batch(states)
    }
}
