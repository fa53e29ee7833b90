//! Whether two rows are equal, for tables where only whole rows can be duplicates.
use std::io::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{
    DataType, DurationNanosecondType, FieldRef, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use xxhash_rust::xxh3::xxh3_128;

use crate::format;

/// The map of texts whose entries may also be columns of their own: what is in the column `attr/L/KEY`, as text behind the letter
/// `L`, is equal to the value of `KEY` in the map. Which of the two an entry is depends on what else its batch held.
pub const ENTRIES: &str = "attributes";
/// How the names of such columns begin.
pub const ENTRY_PREFIX: &str = "attr/";

/// A 128-bit hash of what row `row` holds in `columns`, which are in name order; NULL counts as missing. `scratch` is
/// memory to work in.
pub(super) fn hash_row(columns: &[(FieldRef, ArrayRef)], row: usize, scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    // Entries in any order.
    let mut entries = 0u128;
    for (field, array) in columns.iter().filter(|(_, array)| array.is_valid(row)) {
        let from = scratch.len();
        if let Some((letter, key)) = field.name().strip_prefix(ENTRY_PREFIX).and_then(|rest| rest.split_once('/')) {
            format::put_bytes(scratch, key.as_bytes());
            scratch.extend_from_slice(letter.as_bytes());
            put_text(array, row, scratch);
            entries = entries.wrapping_add(xxh3_128(&scratch[from..]));
            scratch.truncate(from);
        } else if let Some((keys, values)) = entries_of(field, array, row) {
            for (key, value) in keys.iter().zip(&values) {
                format::put_bytes(scratch, key.unwrap_or_default().as_bytes());
                scratch.extend_from_slice(value.unwrap_or_default().as_bytes());
                entries = entries.wrapping_add(xxh3_128(&scratch[from..]));
                scratch.truncate(from);
            }
        } else {
            format::put_bytes(scratch, field.name().as_bytes());
            put_value(array, row, scratch);
        }
    }
    scratch.extend_from_slice(&entries.to_le_bytes());
    xxh3_128(scratch)
}

/// Keys and values of [`ENTRIES`], if `field` is that map.
fn entries_of(field: &FieldRef, array: &ArrayRef, row: usize) -> Option<(StringArray, StringArray)> {
    let map = array.as_map_opt().filter(|_| field.name() == ENTRIES)?;
    let entries = map.value(row);
    Some((entries.column(0).as_string_opt()?.clone(), entries.column(1).as_string_opt()?.clone()))
}

/// The value as the map of entries has it.
fn put_text(array: &ArrayRef, row: usize, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = match array.data_type() {
        DataType::Boolean => write!(out, "{}", array.as_boolean().value(row)),
        DataType::Int64 => write!(out, "{}", array.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => write!(out, "{}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => out.write_all(array.as_string::<i32>().value(row).as_bytes()),
        _ => {
            put_value(array, row, out);
            Ok(())
        }
    };
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Float64Array, Int64Array, MapBuilder, StringBuilder};
    use arrow::datatypes::Field;

    use super::*;

    fn map(rows: &[&[(&str, &str)]]) -> ArrayRef {
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for row in rows {
            for (key, value) in *row {
                map.keys().append_value(key);
                map.values().append_value(value);
            }
            map.append(true).unwrap();
        }
        Arc::new(map.finish())
    }

    fn hash(columns: &[(&str, ArrayRef)]) -> u128 {
        let named = |(name, array): &(&str, ArrayRef)| {
            (Arc::new(Field::new(*name, array.data_type().clone(), true)), Arc::clone(array))
        };
        hash_row(&columns.iter().map(named).collect::<Vec<_>>(), 0, &mut Vec::new())
    }

    #[test]
    fn an_entry_is_the_same_in_a_column_of_its_own_and_in_the_map() {
        let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        let body = ("body", text("x"));
        let own: Vec<(&str, ArrayRef)> = vec![
            ("attr/b/ok", Arc::new(BooleanArray::from(vec![true]))),
            ("attr/d/ratio", Arc::new(Float64Array::from(vec![-0.5]))),
            ("attr/i/code", Arc::new(Int64Array::from(vec![Some(-7)]))),
            ("attr/j/list", text("[1]")),
            ("attr/s/user/id", text("a")),
            ("attr/s/none", Arc::new(StringArray::from(vec![None::<&str>]))),
            body.clone(),
        ];
        let entries = [("user/id", "sa"), ("list", "j[1]"), ("code", "i-7"), ("ratio", "d-0.5"), ("ok", "btrue")];
        let whole = hash(&[("attributes", map(&[&entries])), body.clone()]);
        assert_eq!(hash(&own), whole);
        assert_eq!(
            hash(&[
                own[0].clone(),
                own[2].clone(),
                ("attributes", map(&[&[entries[0], entries[1], entries[3]]])),
                body.clone()
            ]),
            whole
        );
        // Another value, another type, one less, and one twice are other rows.
        for other in [
            &[("code", "i7"), entries[0], entries[1], entries[3], entries[4]][..],
            &[("code", "s-7"), entries[0], entries[1], entries[3], entries[4]],
            &entries[1..],
            &[entries[0], entries[0], entries[1], entries[2], entries[3], entries[4]],
        ] {
            assert_ne!(hash(&[("attributes", map(&[other])), body.clone()]), whole, "{other:?}");
        }
        assert_eq!(hash(&[("attributes", map(&[&[]])), body.clone()]), hash(&[body]));
    }
}
