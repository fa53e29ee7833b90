//! Answers as cells that compare bit for bit.
use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampNanosecondType};

/// A cell of an answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Time(i64),
    Text(String),
    /// Bits.
    Number(u64),
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Number(value.to_bits())
    }
}

impl From<Option<&str>> for Cell {
    fn from(value: Option<&str>) -> Self {
        value.map_or(Self::Null, |value| Self::Text(value.to_owned()))
    }
}

/// The cells of a row.
pub(crate) type Cells = Vec<Cell>;

/// What an answer must be.
#[derive(Debug)]
pub(crate) enum Expected {
    /// These rows in this order.
    Ordered(Vec<Cells>),
    /// These rows in any order.
    AnyOrder(Vec<Cells>),
    /// So many of these rows.
    Some(Vec<Cells>, usize),
}

/// The rows of `batches`.
pub(crate) fn cells(batches: &[RecordBatch]) -> Vec<Cells> {
    batches.iter().flat_map(cells_of_batch).collect()
}

fn cells_of_batch(batch: &RecordBatch) -> Vec<Cells> {
    let mut rows = vec![Cells::with_capacity(batch.num_columns()); batch.num_rows()];
    for column in batch.columns() {
        let texts = (!is_plain(column.data_type())).then(|| cast(column, &DataType::Utf8).unwrap());
        for (at, row) in rows.iter_mut().enumerate() {
            let texts = texts.as_ref().map(|texts| texts.as_string::<i32>());
            let is_null = texts.map_or_else(|| column.is_null(at), |texts| texts.is_null(at));
            row.push(match (column.data_type(), texts) {
                _ if is_null => Cell::Null,
                (_, Some(texts)) => Cell::Text(texts.value(at).to_owned()),
                (DataType::Float64, _) => Cell::from(column.as_primitive::<Float64Type>().value(at)),
                (DataType::Int64, _) => Cell::Integer(column.as_primitive::<Int64Type>().value(at)),
                _ => Cell::Time(column.as_primitive::<TimestampNanosecondType>().value(at)),
            });
        }
    }
    rows
}

fn is_plain(kind: &DataType) -> bool {
    matches!(kind, DataType::Float64 | DataType::Int64 | DataType::Timestamp(..))
}

/// Whether `got` is as expected; the first difference.
pub(crate) fn compare(expected: &Expected, got: Vec<Cells>) -> Result<(), String> {
    match expected {
        Expected::Ordered(rows) => in_order(rows, &got),
        Expected::AnyOrder(rows) => {
            let (mut rows, mut got) = (rows.clone(), got);
            rows.sort();
            got.sort();
            in_order(&rows, &got)
        }
        Expected::Some(rows, n) => {
            if got.len() != *n {
                return Err(format!("{} rows instead of {n}", got.len()));
            }
            let mut left: BTreeMap<&Cells, usize> = BTreeMap::new();
            for row in rows {
                *left.entry(row).or_default() += 1;
            }
            for row in &got {
                match left.get_mut(row) {
                    Some(times) if *times > 0 => *times -= 1,
                    _ => return Err(format!("{row:?} is not there, or not so often")),
                }
            }
            Ok(())
        }
    }
}

fn in_order(expected: &[Cells], got: &[Cells]) -> Result<(), String> {
    if let Some((at, (expected, got))) = expected.iter().zip(got).enumerate().find(|(_, (a, b))| a != b) {
        return Err(format!("row {at} is {got:?}, it must be {expected:?}"));
    }
    if expected.len() == got.len() {
        return Ok(());
    }
    let beyond = expected.get(got.len()).or(got.get(expected.len()));
    Err(format!("{} rows instead of {}; the first beyond: {beyond:?}", got.len(), expected.len()))
}
