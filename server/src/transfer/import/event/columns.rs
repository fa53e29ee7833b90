//! Cells of a record batch.
use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampNanosecondType};
use serde_json::{Map, Value};

use super::cell::Cell;
use super::row::Row;
use crate::timestamp::rfc3339;

/// Lists, structs and maps inside one another.
const DEPTH_MAX: usize = 16;

/// One column.
enum Column {
    Text(StringArray),
    Integer(Int64Array),
    Double(Float64Array),
    Boolean(BooleanArray),
    /// Nanoseconds.
    Time(Int64Array),
    Nested(ArrayRef),
}

/// The columns of a batch.
pub(super) struct Columns {
    names: Vec<String>,
    columns: Vec<Column>,
}

impl Columns {
    /// Of `batch`.
    ///
    /// # Errors
    /// Which column is of a type that has no place in a line or a span.
    pub(super) fn of(batch: &RecordBatch) -> Result<Self, String> {
        let names: Vec<String> = batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
        let columns = names.iter().zip(batch.columns()).map(|(name, array)| {
            Column::of(array, 0).map_err(|error| format!("column {name} of type {}: {error}", array.data_type()))
        });
        Ok(Self { columns: columns.collect::<Result<_, String>>()?, names })
    }

    /// A row of it.
    ///
    /// # Errors
    /// When lists and maps are nested too deeply.
    pub(super) fn row(&self, row: usize) -> Result<Row<'_>, String> {
        let cells = self
            .names
            .iter()
            .zip(&self.columns)
            .map(|(name, column)| Ok((Cow::Borrowed(name.as_str()), column.cell(row, 0)?)));
        Ok(Row { fields: cells.collect::<Result<_, String>>()? })
    }
}

fn exact(array: &ArrayRef, kind: &DataType) -> Result<ArrayRef, String> {
    cast_with_options(array, kind, &CastOptions { safe: false, ..CastOptions::default() })
        .map_err(|error| error.to_string())
}

impl Column {
    fn of(array: &ArrayRef, depth: usize) -> Result<Self, String> {
        if depth > DEPTH_MAX {
            return Err(format!("nested deeper than {DEPTH_MAX}"));
        }
        Ok(match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean().clone()),
            kind if kind.is_integer() => {
                Self::Integer(exact(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            kind if kind.is_floating() => {
                Self::Double(exact(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            DataType::Timestamp(unit, _) => {
                // Without its zone: the instant stays.
                let counts = exact(array, &DataType::Int64)?;
                let bare = exact(&counts, &DataType::Timestamp(*unit, None))?;
                let nanos = exact(&bare, &DataType::Timestamp(TimeUnit::Nanosecond, None))?;
                let nanos = nanos.as_primitive::<TimestampNanosecondType>();
                Self::Time(nanos.iter().collect())
            }
            DataType::List(_) | DataType::LargeList(_) | DataType::Struct(_) | DataType::Map(..) => {
                Self::Nested(ArrayRef::clone(array))
            }
            _ => Self::Text(exact(array, &DataType::Utf8)?.as_string::<i32>().clone()),
        })
    }

    fn cell(&self, row: usize, depth: usize) -> Result<Cell<'_>, String> {
        let array: &dyn Array = match self {
            Self::Text(array) => array,
            Self::Integer(array) | Self::Time(array) => array,
            Self::Double(array) => array,
            Self::Boolean(array) => array,
            Self::Nested(array) => array,
        };
        if array.is_null(row) {
            return Ok(Cell::Null);
        }
        Ok(match self {
            Self::Text(array) => Cell::text(array.value(row)),
            Self::Integer(array) => Cell::Integer(array.value(row)),
            Self::Double(array) => Cell::Double(array.value(row)),
            Self::Boolean(array) => Cell::Boolean(array.value(row)),
            Self::Time(array) => Cell::Time(array.value(row)),
            Self::Nested(array) => Cell::Json(nested(array, row, depth + 1)?),
        })
    }
}

/// A row of lists, structs or maps, which is not NULL.
fn nested(array: &ArrayRef, row: usize, depth: usize) -> Result<Value, String> {
    let items = |items: &ArrayRef| -> Result<Vec<Value>, String> {
        let column = Column::of(items, depth)?;
        (0..items.len()).map(|item| Ok(value(&column.cell(item, depth)?))).collect()
    };
    Ok(match array.data_type() {
        DataType::List(_) => Value::Array(items(&array.as_list::<i32>().value(row))?),
        DataType::LargeList(_) => Value::Array(items(&array.as_list::<i64>().value(row))?),
        DataType::Struct(fields) => {
            let mut object = Map::new();
            for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                let one = items(&column.slice(row, 1))?.pop().unwrap_or(Value::Null);
                object.insert(field.name().clone(), one);
            }
            Value::Object(object)
        }
        _ => {
            let entries = array.as_map().value(row);
            let (keys, values) = (items(entries.column(0))?, items(entries.column(1))?);
            let name = |key: Value| match key {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Value::Object(keys.into_iter().map(name).zip(values).collect())
        }
    })
}

/// A cell as JSON: what has no place in it is text.
fn value(cell: &Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => Value::String(text.clone().into_owned()),
        Cell::Integer(integer) => Value::from(*integer),
        Cell::Double(double) => {
            serde_json::Number::from_f64(*double).map_or_else(|| Value::String(double.to_string()), Value::Number)
        }
        Cell::Boolean(bit) => Value::Bool(*bit),
        Cell::Time(ns) => Value::String(rfc3339(*ns)),
        Cell::Json(value) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, MapBuilder, StringBuilder, TimestampMillisecondArray, UInt64Array};

    use super::*;

    fn of(columns: Vec<(&str, ArrayRef)>) -> Result<Columns, String> {
        Columns::of(&RecordBatch::try_from_iter(columns).unwrap())
    }

    #[test]
    fn types_of_a_parquet_file_are_kept() {
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("k");
        map.values().append_value("v");
        map.append(true).unwrap();
        let time: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![5]).with_timezone("+02:00"));
        let columns = of(vec![
            ("t", time),
            ("i", Arc::new(Int32Array::from(vec![7]))),
            ("b", Arc::new(BooleanArray::from(vec![Some(true)]))),
            ("n", Arc::new(StringArray::from(vec![None::<&str>]))),
            ("m", Arc::new(map.finish())),
        ]);
        let columns = columns.unwrap();
        let row = columns.row(0).unwrap();
        let cells: Vec<&Cell<'_>> = row.fields.iter().map(|field| &field.1).collect();
        let object = Cell::Json(serde_json::json!({"k": "v"}));
        assert_eq!(cells, [&Cell::Time(5_000_000), &Cell::Integer(7), &Cell::Boolean(true), &Cell::Null, &object]);
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        let huge: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
        assert!(of(vec![("u", huge)]).err().unwrap().contains("column u of type UInt64"));
    }
}
