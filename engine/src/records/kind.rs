//! The types that a column may have: a closed list, so that every stored byte has one meaning.
//!
//! ```text
//! type  = u8 tag, and for   16 timestamp with zone: bytes zone      17 fixed binary: varint width
//!                           18 list: field    19 struct: varint count, fields    20 map: field, u8 sorted
//! field = bytes name, u8 nullable, type
//! ```
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};

use crate::error::{Error, Result};
use crate::format::{self, Reader};

use super::{COLUMN_NAME_BYTES_MAX, COLUMNS_MAX, NESTING_MAX, VALUE_BYTES_MAX};

/// Types that are a tag and nothing else.
const PLAIN: [(u8, DataType); 15] = [
    (1, DataType::Boolean),
    (2, DataType::Int8),
    (3, DataType::Int16),
    (4, DataType::Int32),
    (5, DataType::Int64),
    (6, DataType::UInt8),
    (7, DataType::UInt16),
    (8, DataType::UInt32),
    (9, DataType::UInt64),
    (10, DataType::Float32),
    (11, DataType::Float64),
    (12, DataType::Timestamp(TimeUnit::Nanosecond, None)),
    (13, DataType::Duration(TimeUnit::Nanosecond)),
    (14, DataType::Utf8),
    (15, DataType::Binary),
];
const TIMESTAMP_WITH_ZONE: u8 = 16;
const FIXED_BINARY: u8 = 17;
const LIST: u8 = 18;
const STRUCT: u8 = 19;
const MAP: u8 = 20;

/// Appends `data_type`.
///
/// # Errors
/// `Invalid` for a type that is not in the list.
pub(crate) fn put_type(out: &mut Vec<u8>, data_type: &DataType) -> Result<()> {
    put_nested(out, data_type, NESTING_MAX)
}

fn put_nested(out: &mut Vec<u8>, data_type: &DataType, depth: usize) -> Result<()> {
    if let Some((tag, _)) = PLAIN.iter().find(|(_, plain)| plain == data_type) {
        out.push(*tag);
        return Ok(());
    }
    let deeper = || match depth.checked_sub(1) {
        Some(depth) => Ok(depth),
        None => Err(Error::Invalid(format!("a column nests more than {NESTING_MAX} deep; flatten it"))),
    };
    match data_type {
        DataType::Timestamp(TimeUnit::Nanosecond, Some(zone)) if zone.len() <= COLUMN_NAME_BYTES_MAX => {
            out.push(TIMESTAMP_WITH_ZONE);
            format::put_bytes(out, zone.as_bytes());
        }
        DataType::FixedSizeBinary(width) if (1..=VALUE_BYTES_MAX as i32).contains(width) => {
            out.push(FIXED_BINARY);
            format::put_varint(out, *width as u64);
        }
        DataType::List(item) => {
            out.push(LIST);
            put_field(out, item, deeper()?)?;
        }
        DataType::Struct(fields) if (1..=COLUMNS_MAX).contains(&fields.len()) => {
            out.push(STRUCT);
            format::put_varint(out, fields.len() as u64);
            let depth = deeper()?;
            fields.iter().try_for_each(|field| put_field(out, field, depth))?;
        }
        DataType::Map(entries, sorted) if is_pair(entries.data_type()) => {
            out.push(MAP);
            put_field(out, entries, deeper()?)?;
            out.push(u8::from(*sorted));
        }
        other => {
            return Err(Error::Invalid(format!(
                "a column of records cannot be {other}; use booleans, integers, Float32, Float64, timestamps or \
                 durations in nanoseconds, Utf8, Binary, FixedSizeBinary, List, Struct or Map"
            )));
        }
    }
    Ok(())
}

/// Whether this is what the entries of a map are.
fn is_pair(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Struct(fields) if fields.len() == 2)
}

fn put_field(out: &mut Vec<u8>, field: &Field, depth: usize) -> Result<()> {
    if field.name().len() > COLUMN_NAME_BYTES_MAX || !field.metadata().is_empty() {
        return Err(Error::Invalid(format!(
            "nested field {:?} must have no metadata and a name of at most {COLUMN_NAME_BYTES_MAX} bytes",
            field.name()
        )));
    }
    format::put_bytes(out, field.name().as_bytes());
    out.push(u8::from(field.is_nullable()));
    put_nested(out, field.data_type(), depth)
}

/// Inverse of [`put_type`].
///
/// # Errors
/// `Corruption` for bytes that no [`put_type`] wrote.
pub(crate) fn take_type(input: &mut Reader<'_>) -> Result<DataType> {
    take_nested(input, NESTING_MAX)
}

fn take_nested(input: &mut Reader<'_>, depth: usize) -> Result<DataType> {
    let at = input.clone();
    let tag = input.u8()?;
    if let Some((_, plain)) = PLAIN.iter().find(|(plain, _)| *plain == tag) {
        return Ok(plain.clone());
    }
    let deeper =
        || depth.checked_sub(1).ok_or_else(|| at.corrupt(format!("at most {NESTING_MAX} nested types"), "more"));
    Ok(match tag {
        TIMESTAMP_WITH_ZONE => DataType::Timestamp(TimeUnit::Nanosecond, Some(input.string()?.into())),
        FIXED_BINARY => {
            let width = input.varint()?;
            if width == 0 || width > VALUE_BYTES_MAX as u64 {
                return Err(at.corrupt(format!("a width of 1 to {VALUE_BYTES_MAX}"), width.to_string()));
            }
            DataType::FixedSizeBinary(width as i32)
        }
        LIST => DataType::List(take_field(input, deeper()?)?),
        STRUCT => {
            let (count, depth) = (input.count(3)?, deeper()?);
            DataType::Struct((0..count).map(|_| take_field(input, depth)).collect::<Result<Vec<_>>>()?.into())
        }
        MAP => match take_field(input, deeper()?)? {
            entries if is_pair(entries.data_type()) => DataType::Map(entries, input.u8()? != 0),
            entries => return Err(at.corrupt("a map of key and value", entries.data_type().to_string())),
        },
        other => return Err(at.corrupt("a type tag of 1 to 20", other.to_string())),
    })
}

fn take_field(input: &mut Reader<'_>, depth: usize) -> Result<FieldRef> {
    let name = input.string()?.to_owned();
    let nullable = input.u8()? != 0;
    Ok(Arc::new(Field::new(name, take_nested(input, depth)?, nullable)))
}
