//! One column of a batch, ready to write its cells as JSON or CSV: types are looked at once a batch, not once a cell.
use std::io::Write as _;

use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use super::Unencodable;
use crate::timestamp::{write_date, write_rfc3339};

/// A column or a nested part of one.
pub(super) struct Cells<'a> {
    nulls: Option<NullBuffer>,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Null,
    Bool(&'a BooleanArray),
    Signed(Box<dyn Fn(usize) -> i64 + 'a>),
    Unsigned(Box<dyn Fn(usize) -> u64 + 'a>),
    Float(Box<dyn Fn(usize) -> f64 + 'a>),
    Text(Box<dyn Fn(usize) -> &'a str + 'a>),
    Bytes(Box<dyn Fn(usize) -> &'a [u8] + 'a>),
    /// Units per second.
    Instant(&'a [i64], i64),
    Day(Box<dyn Fn(usize) -> i64 + 'a>),
    Dictionary(Vec<usize>, Box<Cells<'a>>),
    List(Box<dyn Fn(usize) -> (usize, usize) + 'a>, Box<Cells<'a>>),
    Struct(Vec<(Vec<u8>, Cells<'a>)>),
    Map(&'a MapArray, Box<Cells<'a>>, Box<Cells<'a>>),
    /// Whatever else there is, in Arrow's own words.
    Other(ArrayFormatter<'a>),
}

fn signed<T: ArrowPrimitiveType>(array: &ArrayRef) -> Kind<'_>
where
    T::Native: Into<i64>,
{
    let values = array.as_primitive::<T>().values();
    Kind::Signed(Box::new(move |row| values[row].into()))
}

fn unsigned<T: ArrowPrimitiveType>(array: &ArrayRef) -> Kind<'_>
where
    T::Native: Into<u64>,
{
    let values = array.as_primitive::<T>().values();
    Kind::Unsigned(Box::new(move |row| values[row].into()))
}

fn list<O: OffsetSizeTrait>(array: &GenericListArray<O>) -> Result<Kind<'_>, Unencodable> {
    let offsets = array.value_offsets();
    let items = Cells::new(array.values())?;
    Ok(Kind::List(Box::new(move |row| (offsets[row].as_usize(), offsets[row + 1].as_usize())), Box::new(items)))
}

fn structure(array: &StructArray) -> Result<Kind<'_>, Unencodable> {
    let fields = array.fields().iter().zip(array.columns());
    let cells = fields.map(|(field, column)| Ok((json_text(field.name()), Cells::new(column)?)));
    Ok(Kind::Struct(cells.collect::<Result<_, Unencodable>>()?))
}

/// `text` as a JSON string.
pub(super) fn json_text(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_json_text(text, &mut out);
    out
}

fn write_json_text(text: &str, out: &mut Vec<u8>) {
    // Writing a string to a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

impl<'a> Cells<'a> {
    /// Over `array`.
    pub(super) fn new(array: &'a ArrayRef) -> Result<Self, Unencodable> {
        let kind = match array.data_type() {
            DataType::Null => Kind::Null,
            DataType::Boolean => Kind::Bool(array.as_boolean()),
            DataType::Int8 => signed::<Int8Type>(array),
            DataType::Int16 => signed::<Int16Type>(array),
            DataType::Int32 => signed::<Int32Type>(array),
            DataType::Int64 => signed::<Int64Type>(array),
            DataType::UInt8 => unsigned::<UInt8Type>(array),
            DataType::UInt16 => unsigned::<UInt16Type>(array),
            DataType::UInt32 => unsigned::<UInt32Type>(array),
            DataType::UInt64 => unsigned::<UInt64Type>(array),
            DataType::Float16 => {
                let values = array.as_primitive::<Float16Type>().values();
                Kind::Float(Box::new(move |row| values[row].to_f64()))
            }
            DataType::Float32 => {
                let values = array.as_primitive::<Float32Type>().values();
                Kind::Float(Box::new(move |row| f64::from(values[row])))
            }
            DataType::Float64 => {
                let values = array.as_primitive::<Float64Type>().values();
                Kind::Float(Box::new(move |row| values[row]))
            }
            DataType::Utf8 => {
                let values = array.as_string::<i32>();
                Kind::Text(Box::new(move |row| values.value(row)))
            }
            DataType::LargeUtf8 => {
                let values = array.as_string::<i64>();
                Kind::Text(Box::new(move |row| values.value(row)))
            }
            DataType::Utf8View => {
                let values = array.as_string_view();
                Kind::Text(Box::new(move |row| values.value(row)))
            }
            DataType::Binary => {
                let values = array.as_binary::<i32>();
                Kind::Bytes(Box::new(move |row| values.value(row)))
            }
            DataType::LargeBinary => {
                let values = array.as_binary::<i64>();
                Kind::Bytes(Box::new(move |row| values.value(row)))
            }
            DataType::BinaryView => {
                let values = array.as_binary_view();
                Kind::Bytes(Box::new(move |row| values.value(row)))
            }
            DataType::FixedSizeBinary(_) => {
                let values = array.as_fixed_size_binary();
                Kind::Bytes(Box::new(move |row| values.value(row)))
            }
            DataType::Timestamp(unit, _) => match unit {
                TimeUnit::Second => Kind::Instant(array.as_primitive::<TimestampSecondType>().values(), 1),
                TimeUnit::Millisecond => {
                    Kind::Instant(array.as_primitive::<TimestampMillisecondType>().values(), 1_000)
                }
                TimeUnit::Microsecond => {
                    Kind::Instant(array.as_primitive::<TimestampMicrosecondType>().values(), 1_000_000)
                }
                TimeUnit::Nanosecond => {
                    Kind::Instant(array.as_primitive::<TimestampNanosecondType>().values(), 1_000_000_000)
                }
            },
            DataType::Date32 => {
                let values = array.as_primitive::<Date32Type>().values();
                Kind::Day(Box::new(move |row| i64::from(values[row])))
            }
            DataType::Date64 => {
                let values = array.as_primitive::<Date64Type>().values();
                Kind::Day(Box::new(move |row| values[row].div_euclid(86_400_000)))
            }
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                if dictionary.values().is_empty() {
                    Kind::Null
                } else {
                    Kind::Dictionary(dictionary.normalized_keys(), Box::new(Self::new(dictionary.values())?))
                }
            }
            DataType::List(_) => list(array.as_list::<i32>())?,
            DataType::LargeList(_) => list(array.as_list::<i64>())?,
            DataType::FixedSizeList(_, _) => {
                let values = array.as_fixed_size_list();
                let len = values.value_length() as usize;
                Kind::List(Box::new(move |row| (row * len, (row + 1) * len)), Box::new(Self::new(values.values())?))
            }
            DataType::Struct(_) => structure(array.as_struct())?,
            DataType::Map(_, _) => {
                let map = array.as_map();
                Kind::Map(map, Box::new(Self::new(map.keys())?), Box::new(Self::new(map.values())?))
            }
            _ => {
                let formatter = ArrayFormatter::try_new(array.as_ref(), &DISPLAY);
                Kind::Other(formatter.map_err(|error| Unencodable::new("text", &error))?)
            }
        };
        Ok(Self { nulls: array.nulls().cloned(), kind })
    }

    fn is_null(&self, row: usize) -> bool {
        matches!(self.kind, Kind::Null) || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Whether CSV needs no look for quotes.
    fn is_plain(&self) -> bool {
        matches!(
            self.kind,
            Kind::Bool(_) | Kind::Signed(_) | Kind::Unsigned(_) | Kind::Float(_) | Kind::Instant(..) | Kind::Day(_)
        )
    }

    /// The cell as a JSON value.
    pub(super) fn write_json(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return;
        }
        match &self.kind {
            Kind::Dictionary(keys, values) => values.write_json(keys[row], out),
            Kind::Text(value) => write_json_text(value(row), out),
            Kind::Float(value) if !value(row).is_finite() => {
                out.push(b'"');
                self.write_scalar(row, out);
                out.push(b'"');
            }
            Kind::Null | Kind::Bool(_) | Kind::Signed(_) | Kind::Unsigned(_) | Kind::Float(_) => {
                self.write_scalar(row, out)
            }
            Kind::Bytes(_) | Kind::Instant(..) | Kind::Day(_) => {
                out.push(b'"');
                self.write_scalar(row, out);
                out.push(b'"');
            }
            Kind::List(range, items) => {
                let (start, end) = range(row);
                out.push(b'[');
                for item in start..end {
                    if item > start {
                        out.push(b',');
                    }
                    items.write_json(item, out);
                }
                out.push(b']');
            }
            Kind::Struct(fields) => {
                out.push(b'{');
                for (i, (name, cells)) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(name);
                    out.push(b':');
                    cells.write_json(row, out);
                }
                out.push(b'}');
            }
            Kind::Map(map, keys, values) => {
                let offsets = map.value_offsets();
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                out.push(b'{');
                for entry in start..end {
                    if entry > start {
                        out.push(b',');
                    }
                    let mut key = Vec::new();
                    keys.write_text(entry, &mut key);
                    write_json_text(&String::from_utf8_lossy(&key), out);
                    out.push(b':');
                    values.write_json(entry, out);
                }
                out.push(b'}');
            }
            Kind::Other(formatter) => write_json_text(&formatter.value(row).to_string(), out),
        }
    }

    /// The cell as a CSV field: NULL is nothing, an empty string is `""`, nested values are JSON.
    pub(super) fn write_csv(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return;
        }
        if let Kind::Dictionary(keys, values) = &self.kind {
            return values.write_csv(keys[row], out);
        }
        if self.is_plain() {
            return self.write_scalar(row, out);
        }
        let start = out.len();
        self.write_text(row, out);
        quote_csv(start, out);
    }

    /// The cell as bare text.
    fn write_text(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return;
        }
        match &self.kind {
            Kind::Dictionary(keys, values) => values.write_text(keys[row], out),
            Kind::Text(value) => out.extend_from_slice(value(row).as_bytes()),
            Kind::List(..) | Kind::Struct(_) | Kind::Map(..) => self.write_json(row, out),
            Kind::Other(formatter) => {
                let _ = write!(out, "{}", formatter.value(row));
            }
            _ => self.write_scalar(row, out),
        }
    }

    fn write_scalar(&self, row: usize, out: &mut Vec<u8>) {
        match &self.kind {
            Kind::Bool(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
            Kind::Signed(value) => {
                let _ = serde_json::to_writer(out, &value(row));
            }
            Kind::Unsigned(value) => {
                let _ = serde_json::to_writer(out, &value(row));
            }
            Kind::Float(value) => match value(row) {
                value if value.is_nan() => out.extend_from_slice(b"NaN"),
                f64::INFINITY => out.extend_from_slice(b"Infinity"),
                f64::NEG_INFINITY => out.extend_from_slice(b"-Infinity"),
                value => {
                    let _ = serde_json::to_writer(out, &value);
                }
            },
            Kind::Instant(values, per_second) => {
                let value = values[row];
                let nanos = value.rem_euclid(*per_second) * (1_000_000_000 / per_second);
                write_rfc3339(value.div_euclid(*per_second), nanos as u32, out);
            }
            Kind::Day(day) => write_date(day(row), out),
            Kind::Bytes(value) => {
                for byte in value(row) {
                    let _ = write!(out, "{byte:02x}");
                }
            }
            _ => {}
        }
    }
}

const DISPLAY: FormatOptions<'static> = FormatOptions::new();

/// Quotes what stands in `out` from `start` on if a CSV reader would misunderstand it.
pub(super) fn quote_csv(start: usize, out: &mut Vec<u8>) {
    let field = &out[start..];
    if !field.is_empty() && !field.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        return;
    }
    let field = field.to_vec();
    out.truncate(start);
    out.push(b'"');
    for byte in field {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}
