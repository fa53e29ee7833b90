//! Whether two rows are equal, for tables where only whole rows can be duplicates.
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, DurationNanosecondType, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use xxhash_rust::xxh3::xxh3_128;

use crate::format;

/// A 128-bit hash of what row `row` holds in `columns`, which are in name order; NULL counts as missing. `scratch` is
/// memory to work in.
pub(super) fn hash_row(columns: &[(FieldRef, ArrayRef)], row: usize, scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    for (field, array) in columns {
        if array.is_valid(row) {
            format::put_bytes(scratch, field.name().as_bytes());
            put_value(array, row, scratch);
        }
    }
    xxh3_128(scratch)
}

fn put_item(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    out.push(u8::from(array.is_valid(row)));
    if array.is_valid(row) {
        put_value(array, row, out);
    }
}

/// Bytes that are equal exactly when the values, of one type, are.
fn put_value(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    macro_rules! primitive {
        ($type:ty) => {
            out.extend_from_slice(&array.as_primitive::<$type>().value(row).to_le_bytes())
        };
    }
    match array.data_type() {
        DataType::Boolean => out.push(u8::from(array.as_boolean().value(row))),
        DataType::Int8 => primitive!(Int8Type),
        DataType::Int16 => primitive!(Int16Type),
        DataType::Int32 => primitive!(Int32Type),
        DataType::Int64 => primitive!(Int64Type),
        DataType::UInt8 => primitive!(UInt8Type),
        DataType::UInt16 => primitive!(UInt16Type),
        DataType::UInt32 => primitive!(UInt32Type),
        DataType::UInt64 => primitive!(UInt64Type),
        DataType::Float32 => primitive!(Float32Type),
        DataType::Float64 => primitive!(Float64Type),
        DataType::Timestamp(..) => primitive!(TimestampNanosecondType),
        DataType::Duration(_) => primitive!(DurationNanosecondType),
        DataType::Utf8 => format::put_bytes(out, array.as_string::<i32>().value(row).as_bytes()),
        DataType::Binary => format::put_bytes(out, array.as_binary::<i32>().value(row)),
        DataType::FixedSizeBinary(_) => out.extend_from_slice(array.as_fixed_size_binary().value(row)),
        DataType::List(_) => put_items(&array.as_list::<i32>().value(row), out),
        DataType::Map(..) => put_items(&array.as_map().value(row), out),
        DataType::Struct(_) => array.as_struct().columns().iter().for_each(|column| put_item(column, row, out)),
        // `put_type` lets no other in.
        other => unreachable!("a column of {other}"),
    }
}

fn put_items(items: &dyn Array, out: &mut Vec<u8>) {
    format::put_varint(out, items.len() as u64);
    (0..items.len()).for_each(|item| put_item(items, item, out));
}
