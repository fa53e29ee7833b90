//! From the stored columns of native histograms to what SQL shows: counts as doubles, buckets with their borders.
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int64Array, ListArray, ListBuilder, RecordBatch,
    StringArray, StructArray, StructBuilder, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int32Type, Int64Type, UInt32Type, UInt64Type};
use datafusion::error::{DataFusionError, Result};

use crate::native::{CUSTOM_SCHEMA, exponential_border, list_type};

/// Names of the reset hints by the number that is stored.
const RESET_HINTS: [&str; 4] = ["unknown", "yes", "no", "gauge"];

/// Fields of a bucket: its borders, and how many observations are above `lo` and not above `hi` (on the negative side: not below
/// `lo` and below `hi`).
fn bucket_fields() -> Fields {
    ["lo", "hi", "count"].map(|name| Field::new(name, DataType::Float64, true)).to_vec().into()
}

/// Type of the column `buckets`.
pub(crate) fn buckets_type() -> DataType {
    list_type(DataType::Struct(bucket_fields()))
}

/// A stored column by name.
pub(crate) fn stored<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| DataFusionError::Internal(format!("records without a column {name}")))
}

/// `count` or `zero_count` as doubles.
pub(crate) fn counts(batch: &RecordBatch, name: &str) -> Result<ArrayRef> {
    let float = stored(batch, "float")?.as_boolean();
    let counts = stored(batch, name)?.as_primitive::<UInt64Type>();
    let count = |row: usize| count_of(counts.value(row), float.value(row));
    Ok(Arc::new(Float64Array::from_iter_values((0..batch.num_rows()).map(count))))
}

/// `count` or `zero_count` where they are integers.
pub(crate) fn integer_counts(batch: &RecordBatch, name: &str) -> Result<ArrayRef> {
    let float = stored(batch, "float")?.as_boolean();
    let counts = stored(batch, name)?.as_primitive::<UInt64Type>();
    let count = |row: usize| (!float.value(row)).then(|| counts.value(row));
    Ok(Arc::new(UInt64Array::from_iter((0..batch.num_rows()).map(count))))
}

fn count_of(stored: u64, float: bool) -> f64 {
    if float { f64::from_bits(stored) } else { stored as f64 }
}

/// `reset_hint` in words; NULL for a number that has none.
pub(crate) fn reset_hints(batch: &RecordBatch) -> Result<ArrayRef> {
    let hints = stored(batch, "reset_hint")?.as_primitive::<Int32Type>();
    let name = |hint: Option<i32>| RESET_HINTS.get(usize::try_from(hint?).ok()?).copied();
    Ok(Arc::new(StringArray::from_iter(hints.iter().map(name))))
}

/// `start_ms` as a time; NULL when not known or beyond what nanoseconds express.
pub(crate) fn starts(batch: &RecordBatch) -> Result<ArrayRef> {
    let starts: &Int64Array = stored(batch, "start_ms")?.as_primitive::<Int64Type>();
    let ns = starts.iter().map(|ms| ms?.checked_mul(1_000_000));
    Ok(Arc::new(TimestampNanosecondArray::from_iter(ns).with_timezone("UTC")))
}

/// The stored lists of one side.
pub(crate) struct Side<'a> {
    spans: &'a ListArray,
    deltas: &'a ListArray,
    counts: &'a ListArray,
}

impl<'a> Side<'a> {
    /// Of `negative` or `positive`.
    pub(crate) fn of(batch: &'a RecordBatch, side: &str) -> Result<Self> {
        let list = |what: &str| Ok::<_, DataFusionError>(stored(batch, &format!("{side}_{what}"))?.as_list::<i32>());
        Ok(Self { spans: list("spans")?, deltas: list("deltas")?, counts: list("counts")? })
    }

    /// (index, count) of the buckets of a row, upwards.
    pub(crate) fn buckets(&self, row: usize, float: bool) -> Vec<(i32, f64)> {
        let counts: Vec<f64> = if float {
            self.counts.value(row).as_primitive::<Float64Type>().values().to_vec()
        } else {
            let deltas = self.deltas.value(row);
            let running = deltas.as_primitive::<Int64Type>().values().iter().scan(0i64, |count, &delta| {
                *count = count.wrapping_add(delta);
                Some(*count as f64)
            });
            running.collect()
        };
        let spans = self.spans.value(row);
        let spans: &StructArray = spans.as_struct();
        let offsets = spans.column(0).as_primitive::<Int32Type>();
        let lengths = spans.column(1).as_primitive::<UInt32Type>();
        let mut next = 0i32;
        let mut indexes = Vec::with_capacity(counts.len());
        for span in 0..spans.len() {
            next = next.wrapping_add(offsets.value(span));
            for _ in 0..lengths.value(span) {
                if indexes.len() == counts.len() {
                    break;
                }
                indexes.push(next);
                next = next.wrapping_add(1);
            }
        }
        indexes.into_iter().zip(counts).collect()
    }
}

/// The buckets of every row from the lowest to the highest, the one around zero among them if it has observations; NULL when
/// nothing says where custom ones end.
pub(crate) fn buckets(batch: &RecordBatch) -> Result<ArrayRef> {
    let schemas = stored(batch, "schema")?.as_primitive::<Int32Type>();
    let float = stored(batch, "float")?.as_boolean();
    let zero_counts = stored(batch, "zero_count")?.as_primitive::<UInt64Type>();
    let zero_thresholds = stored(batch, "zero_threshold")?.as_primitive::<Float64Type>();
    let customs = stored(batch, "custom_values")?.as_list::<i32>();
    let (negative, positive) = (Side::of(batch, "negative")?, Side::of(batch, "positive")?);
    let doubles = || Box::new(Float64Builder::new()) as Box<dyn arrow::array::ArrayBuilder>;
    let structs = StructBuilder::new(bucket_fields(), vec![doubles(), doubles(), doubles()]);
    let mut lists = ListBuilder::new(structs);
    for row in 0..batch.num_rows() {
        let (schema, float) = (schemas.value(row), float.value(row));
        let custom = customs.value(row);
        let custom = custom.as_primitive::<Float64Type>().values();
        let border = |index: i32| match usize::try_from(index) {
            _ if schema != CUSTOM_SCHEMA => exponential_border(schema, index),
            Ok(index) => custom.get(index).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        };
        let upwards = positive.buckets(row, float);
        if schema == CUSTOM_SCHEMA && custom.is_empty() && upwards.iter().any(|bucket| bucket.0 > 0) {
            // Its borders were not sent.
            lists.append(false);
            continue;
        }
        for (index, count) in negative.buckets(row, float).into_iter().rev() {
            append(lists.values(), [-border(index), -border(index.wrapping_sub(1)), count]);
        }
        let zero = count_of(zero_counts.value(row), float);
        if zero != 0.0 {
            append(lists.values(), [-zero_thresholds.value(row), zero_thresholds.value(row), zero]);
        }
        for (index, count) in upwards {
            append(lists.values(), [border(index.wrapping_sub(1)), border(index), count]);
        }
        lists.append(true);
    }
    Ok(Arc::new(lists.finish()))
}

fn append(bucket: &mut StructBuilder, values: [f64; 3]) {
    for (i, value) in values.into_iter().enumerate() {
        if let Some(field) = bucket.field_builder::<Float64Builder>(i) {
            field.append_value(value);
        }
    }
    bucket.append(true);
}
