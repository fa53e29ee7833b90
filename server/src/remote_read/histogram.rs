//! Stored native histograms as `prometheus.Histogram` messages.
use arrow::array::{Array, AsArray as _, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Float64Type, Int32Type, Int64Type, UInt32Type, UInt64Type};
use foretell_proto::prometheus::v1::histogram::{Count, ZeroCount};
use foretell_proto::prometheus::v1::{BucketSpan, Histogram};
use foretell_query::{Error, Result};
use prost::Message as _;

use crate::sender::encode::put_bytes;

/// Field 4 of a `TimeSeries`.
const HISTOGRAM: u8 = 4 << 3 | 2;
const NS_PER_MS: i64 = 1_000_000;

/// Appends a field of a `TimeSeries` for each row: columns `ts` (nanoseconds) and those of
/// [`foretell_query::native::histogram_schema`].
///
/// # Errors
/// `Internal` when a column is missing.
pub(super) fn encode(rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    for row in 0..rows.num_rows() {
        put_bytes(out, HISTOGRAM, &message(rows, row)?.encode_to_vec());
    }
    Ok(())
}

fn message(rows: &RecordBatch, row: usize) -> Result<Histogram> {
    let is_float = column(rows, "float")?.as_boolean().value(row);
    let count: u64 = value::<UInt64Type>(rows, "count", row)?;
    let zero_count: u64 = value::<UInt64Type>(rows, "zero_count", row)?;
    Ok(Histogram {
        sum: value::<Float64Type>(rows, "sum", row)?,
        schema: value::<Int32Type>(rows, "schema", row)?,
        zero_threshold: value::<Float64Type>(rows, "zero_threshold", row)?,
        negative_spans: spans(rows, "negative_spans", row)?,
        negative_deltas: list::<Int64Type>(rows, "negative_deltas", row)?,
        negative_counts: list::<Float64Type>(rows, "negative_counts", row)?,
        positive_spans: spans(rows, "positive_spans", row)?,
        positive_deltas: list::<Int64Type>(rows, "positive_deltas", row)?,
        positive_counts: list::<Float64Type>(rows, "positive_counts", row)?,
        reset_hint: value::<Int32Type>(rows, "reset_hint", row)?,
        timestamp: value::<Int64Type>(rows, "ts", row)?.div_euclid(NS_PER_MS),
        custom_values: list::<Float64Type>(rows, "custom_values", row)?,
        count: Some(if is_float { Count::CountFloat(f64::from_bits(count)) } else { Count::CountInt(count) }),
        zero_count: Some(if is_float {
            ZeroCount::ZeroCountFloat(f64::from_bits(zero_count))
        } else {
            ZeroCount::ZeroCountInt(zero_count)
        }),
    })
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    let column = rows.column_by_name(name).map(|column| &**column);
    column.ok_or_else(|| Error::internal(format!("histograms without a column {name}")))
}

fn value<T: ArrowPrimitiveType>(rows: &RecordBatch, name: &str, row: usize) -> Result<T::Native> {
    Ok(column(rows, name)?.as_primitive::<T>().value(row))
}

/// The values of a list; none where it is NULL.
fn list<T: ArrowPrimitiveType>(rows: &RecordBatch, name: &str, row: usize) -> Result<Vec<T::Native>> {
    let lists = column(rows, name)?.as_list::<i32>();
    Ok(if lists.is_null(row) { Vec::new() } else { lists.value(row).as_primitive::<T>().values().to_vec() })
}

fn spans(rows: &RecordBatch, name: &str, row: usize) -> Result<Vec<BucketSpan>> {
    let lists = column(rows, name)?.as_list::<i32>();
    if lists.is_null(row) {
        return Ok(Vec::new());
    }
    let spans = lists.value(row);
    let spans = spans.as_struct();
    let offsets = spans.column(0).as_primitive::<Int32Type>();
    let lengths = spans.column(1).as_primitive::<UInt32Type>();
    Ok((0..spans.len()).map(|i| BucketSpan { offset: offsets.value(i), length: lengths.value(i) }).collect())
}
