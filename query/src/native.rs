//! Native histograms and exemplars as records: names and types of the columns that writers fill and tables read.
//!
//! The columns hold what was sent, bit by bit; buckets with their borders are made from them when they are read.
mod borders;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use foretell_engine::{RecordTable, Unique};

use self::borders::BORDERS;
use crate::error::{Error, Result};
use crate::table::columns::map_type;

/// Schema of histograms with custom bucket borders.
pub const CUSTOM_SCHEMA: i32 = -53;

/// Name of the table of native histograms, in the engine and in SQL.
pub const HISTOGRAMS: &str = "histograms";
/// Name of the table of exemplars, in the engine and in SQL.
pub const EXEMPLARS: &str = "exemplars";

/// The table of native histograms: of equal series and time the newest wins, as with samples.
///
/// # Errors
/// Never: the name is a good one.
pub fn histogram_table() -> Result<RecordTable> {
    RecordTable::new(HISTOGRAMS, Unique::PerInstant).map_err(|error| Error::from_engine(&error))
}

/// The table of exemplars: several may stand at one time, and one that is sent again is one.
///
/// # Errors
/// Never: the name is a good one.
pub fn exemplar_table() -> Result<RecordTable> {
    RecordTable::new(EXEMPLARS, Unique::WholeRow).map_err(|error| Error::from_engine(&error))
}

/// A list column.
fn list(name: &str, item: DataType) -> Field {
    Field::new(name, list_type(item), true)
}

/// A list whose items may be NULL.
pub(crate) fn list_type(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// Fields of a span: gap to the previous span or first index, and number of buckets.
pub fn span_fields() -> Fields {
    vec![Field::new("offset", DataType::Int32, true), Field::new("length", DataType::UInt32, true)].into()
}

/// A list of spans.
pub(crate) fn spans_type() -> DataType {
    list_type(DataType::Struct(span_fields()))
}

/// Columns of the histograms. `count` and `zero_count` are integers, or the bits of doubles where `float` says so; then the
/// deltas (each bucket's count less that of the one before) are NULL, and otherwise the counts. `start_ms` is NULL when unknown.
pub fn histogram_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("schema", DataType::Int32, true),
        Field::new("reset_hint", DataType::Int32, true),
        Field::new("float", DataType::Boolean, true),
        Field::new("count", DataType::UInt64, true),
        Field::new("zero_count", DataType::UInt64, true),
        Field::new("zero_threshold", DataType::Float64, true),
        Field::new("sum", DataType::Float64, true),
        Field::new("negative_spans", spans_type(), true),
        list("negative_deltas", DataType::Int64),
        list("negative_counts", DataType::Float64),
        Field::new("positive_spans", spans_type(), true),
        list("positive_deltas", DataType::Int64),
        list("positive_counts", DataType::Float64),
        list("custom_values", DataType::Float64),
        Field::new("start_ms", DataType::Int64, true),
    ]))
}

/// Columns of the exemplars.
pub fn exemplar_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("value", DataType::Float64, true), Field::new("labels", map_type(), true)]))
}

/// The upper border of bucket `index` of exponential buckets: 2^(index / 2^schema) to the last digit as Prometheus has it, and
/// the largest float where that is just beyond the floats. The lower border is the upper one of the bucket before.
pub fn exponential_border(schema: i32, index: i32) -> f64 {
    let exponent = f64::from(index) * f64::from(-schema).exp2();
    if exponent == 1024.0 {
        return f64::MAX;
    }
    // The whole part apart, so that powers of two are exact.
    let whole = exponent.floor();
    let part = exponent - whole;
    let place = part * BORDERS.len() as f64;
    // Finer than any schema that senders may use.
    let power = if place.fract() == 0.0 { BORDERS[place as usize] * 2.0 } else { part.exp2() };
    power * whole.exp2()
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

    use super::*;

    #[test]
    fn borders_are_powers_of_the_base() {
        assert_eq!([-1, 0, 1, 2].map(|index| exponential_border(0, index)), [0.5, 1.0, 2.0, 4.0]);
        assert_eq!([-1, 0, 1, 2].map(|index| exponential_border(-2, index)), [0.0625, 1.0, 16.0, 256.0]);
        assert_eq!(exponential_border(1, 1), SQRT_2.next_down());
        assert_eq!(exponential_border(1, -1), FRAC_1_SQRT_2.next_down());
        assert_eq!(exponential_border(9, 512), 2.0);
        for (index, border) in (1..256).map(|index| (index, exponential_border(8, index))) {
            let power = (f64::from(index) / 256.0).exp2();
            assert!((border - power).abs() < 1e-15 * power, "{index}: {border} {power}");
        }
        assert_eq!(exponential_border(3, 16), 4.0);
        assert_eq!(exponential_border(3, -8), 0.5);
        assert_eq!(exponential_border(0, 1024), f64::MAX);
        assert_eq!(exponential_border(0, 1025), f64::INFINITY);
        assert_eq!(exponential_border(0, -1074), f64::from_bits(1));
    }
}
