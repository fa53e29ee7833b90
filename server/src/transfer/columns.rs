//! A record batch as samples: what a Parquet file holds, and what an export is answered.
use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray as _, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, TimeUnit, TimestampNanosecondType};

use super::layout::Layout;
use super::time_text::Epoch;

/// Largest integer that a value holds exactly.
const INTEGER_MAX: u64 = 1 << 53;

/// Name and value.
pub(super) type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The columns of one batch.
pub(super) struct Columns {
    ts: TimestampNanosecondArray,
    value: Float64Array,
    metric: Option<StringArray>,
    labels: Option<Labels>,
    others: Vec<(String, StringArray)>,
}

enum Labels {
    Map {
        offsets: Vec<i32>,
        keys: StringArray,
        values: StringArray,
    },
    /// A JSON object.
    Json(StringArray),
}

impl Columns {
    /// Of `batch`, whose integers in `ts` count `epoch`.
    ///
    /// # Errors
    /// Which column is of a type that does not fit.
    pub(super) fn of(batch: &RecordBatch, layout: &Layout, epoch: Option<Epoch>) -> Result<Self, String> {
        let column = |index: usize| batch.column(index);
        let text = |index: usize| texts(column(index), batch.schema_ref().field(index).name());
        let labels = match layout.labels.map(column) {
            Some(map) if matches!(map.data_type(), DataType::Map(..)) => {
                let map = map.as_map();
                let offsets = map.value_offsets().to_vec();
                Some(Labels::Map {
                    offsets,
                    keys: texts(map.keys(), "labels")?,
                    values: texts(map.values(), "labels")?,
                })
            }
            Some(json) => Some(Labels::Json(texts(json, "labels")?)),
            None => None,
        };
        let others = layout.others.iter().map(|&i| Ok((batch.schema_ref().field(i).name().clone(), text(i)?)));
        Ok(Self {
            ts: times(column(layout.ts), epoch)?,
            value: values(column(layout.value))?,
            metric: layout.metric.map(text).transpose()?,
            labels,
            others: others.collect::<Result<_, String>>()?,
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.ts.len()
    }

    /// Time, ns since 1970, and value of a row.
    ///
    /// # Errors
    /// When one is NULL.
    pub(super) fn sample(&self, row: usize) -> Result<(i64, f64), String> {
        if self.ts.is_null(row) || self.value.is_null(row) {
            return Err("ts or value is NULL".to_owned());
        }
        Ok((self.ts.value(row), self.value.value(row)))
    }

    /// The metric's name, if there is one.
    pub(super) fn metric(&self, row: usize) -> Option<&str> {
        present(self.metric.as_ref()?, row)
    }

    /// Appends the labels of a row but for the metric's name.
    ///
    /// # Errors
    /// When the JSON of labels is none.
    pub(super) fn labels<'a>(&'a self, row: usize, out: &mut Vec<Label<'a>>) -> Result<(), String> {
        match &self.labels {
            Some(Labels::Map { offsets, keys, values }) => {
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                out.extend((start..end).filter_map(|i| Some((keys.value(i).into(), present(values, i)?.into()))));
            }
            Some(Labels::Json(texts)) => {
                if let Some(text) = present(texts, row) {
                    json_labels(text, out)?;
                }
            }
            None => {}
        }
        let others = self.others.iter();
        out.extend(others.filter_map(|(name, texts)| Some((name.as_str().into(), present(texts, row)?.into()))));
        Ok(())
    }
}

/// Appends the labels of a JSON object such as `{"host":"a"}`.
///
/// # Errors
/// When it is none, or a value is no text.
pub(super) fn json_labels(text: &str, out: &mut Vec<Label<'_>>) -> Result<(), String> {
    let wrong =
        |why: &dyn std::fmt::Display| format!("labels {text:?} are not an object such as {{\"host\":\"a\"}}: {why}");
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| wrong(&error))?;
    for (name, value) in object {
        match value {
            serde_json::Value::String(value) => out.push((name.into(), value.into())),
            serde_json::Value::Null => {}
            _ => return Err(wrong(&format!("{name} is no text"))),
        }
    }
    Ok(())
}

fn present(texts: &StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
}

fn exact_cast(array: &ArrayRef, kind: &DataType, name: &str) -> Result<ArrayRef, String> {
    cast_with_options(array, kind, &CastOptions { safe: false, ..CastOptions::default() })
        .map_err(|error| format!("column {name} of type {} cannot be taken: {error}", array.data_type()))
}

fn texts(array: &ArrayRef, name: &str) -> Result<StringArray, String> {
    if array.data_type().is_nested() {
        return Err(format!("column {name} of type {} is no label", array.data_type()));
    }
    Ok(exact_cast(array, &DataType::Utf8, name)?.as_string::<i32>().clone())
}

fn times(array: &ArrayRef, epoch: Option<Epoch>) -> Result<TimestampNanosecondArray, String> {
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    match (array.data_type(), epoch) {
        // Without its zone: the instant stays.
        (DataType::Timestamp(unit, _), _) => {
            let bare = exact_cast(array, &DataType::Int64, "ts")?;
            let typed = exact_cast(&bare, &DataType::Timestamp(*unit, None), "ts")?;
            Ok(exact_cast(&typed, &nanos, "ts")?.as_primitive::<TimestampNanosecondType>().clone())
        }
        (kind, Some(epoch)) if kind.is_integer() => {
            let counts = exact_cast(array, &DataType::Int64, "ts")?;
            let counts = counts.as_primitive::<arrow::datatypes::Int64Type>();
            let times: Result<Vec<Option<i64>>, String> =
                counts.iter().map(|count| count.map(|count| epoch.nanos(count)).transpose()).collect();
            Ok(TimestampNanosecondArray::from(times?))
        }
        (kind, _) => Err(format!("column ts of type {kind} holds no times; --epoch says what integers count")),
    }
}

fn values(array: &ArrayRef) -> Result<Float64Array, String> {
    let kind = array.data_type();
    if !kind.is_numeric() {
        return Err(format!("column value of type {kind} holds no numbers"));
    }
    if matches!(kind, DataType::Int64 | DataType::UInt64) {
        let wide = exact_cast(array, &DataType::Decimal128(20, 0), "value")?;
        let wide = wide.as_primitive::<arrow::datatypes::Decimal128Type>();
        if let Some(large) = wide.iter().flatten().find(|value| value.unsigned_abs() > u128::from(INTEGER_MAX)) {
            return Err(format!("value {large} is not exact as a double"));
        }
    }
    Ok(exact_cast(array, &DataType::Float64, "value")?.as_primitive::<Float64Type>().clone())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Float32Array, Int32Array, Int64Array, StringViewArray, TimestampMillisecondArray, TimestampSecondArray,
    };

    use super::*;

    fn of(columns: Vec<(&str, ArrayRef)>, epoch: Option<Epoch>) -> Result<Columns, String> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let names: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Columns::of(&batch, &Layout::of(&names, true)?, epoch)
    }

    fn ones() -> ArrayRef {
        Arc::new(Int32Array::from(vec![1, 1]))
    }

    #[test]
    fn times_of_every_unit_and_numbers_of_every_kind_are_taken_exactly() {
        let ms: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![-1, 2]).with_timezone("+02:00"));
        let columns = of(vec![("ts", ms), ("value", Arc::new(Float32Array::from(vec![0.5, f32::NAN])))], None).unwrap();
        assert_eq!(columns.sample(0).unwrap(), (-1_000_000, 0.5));
        assert_eq!(columns.sample(1).unwrap().0, 2_000_000);
        let counts: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
        let columns = of(vec![("ts", Arc::clone(&counts)), ("value", ones())], Some(Epoch::S)).unwrap();
        assert_eq!(columns.sample(1).unwrap(), (8_000_000_000, 1.0));
        assert!(of(vec![("ts", counts), ("value", ones())], None).err().unwrap().contains("--epoch"));
        let far: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX, 0]));
        assert!(of(vec![("ts", far), ("value", ones())], None).is_err(), "no wrapping");
        let ts = || Arc::new(TimestampSecondArray::from(vec![0, 0])) as ArrayRef;
        let large: ArrayRef = Arc::new(Int64Array::from(vec![1, (1 << 53) + 1]));
        assert!(of(vec![("ts", ts()), ("value", large)], None).err().unwrap().contains("not exact"));
        let null: ArrayRef = Arc::new(Float64Array::from(vec![None, Some(1.0)]));
        let columns = of(vec![("ts", ts()), ("value", null)], None).unwrap();
        assert!(columns.sample(0).is_err() && columns.sample(1).is_ok());
    }

    #[test]
    fn labels_come_from_json_and_from_columns() {
        let ts: ArrayRef = Arc::new(TimestampSecondArray::from(vec![0, 0]));
        let json: ArrayRef = Arc::new(StringArray::from(vec![Some(r#"{"a":"x","b":null}"#), None]));
        let host: ArrayRef = Arc::new(StringViewArray::from(vec![Some("h"), None]));
        let columns =
            of(vec![("ts", ts), ("value", ones()), ("labels", json), ("host", host), ("code", ones())], None).unwrap();
        let labels = |row| {
            let mut out = Vec::new();
            columns.labels(row, &mut out).unwrap();
            out.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(labels(0), ["a=x", "host=h", "code=1"]);
        assert_eq!(labels(1), ["code=1"]);
        for bad in ["", "[]", "{\"a\":1}", "a=b"] {
            assert!(json_labels(bad, &mut Vec::new()).is_err(), "{bad}");
        }
    }
}
