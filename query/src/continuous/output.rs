//! The table that a continuous query writes: its columns, how a row lies in series, and how it is read back.
//!
//! A row of a query with labels `a, b` and value columns `n, p99` is one sample per value column, at the row's `ts`:
//!
//! ```text
//!  {__name__="<table>", a="…", b="…", __field__="n"}    ts -> n
//!  {__name__="<table>", a="…", b="…", __field__="p99"}  ts -> p99
//! ```
//! A NULL label is an absent one. SQL NULL is the NaN [`NULL_BITS`]; a row that is no longer there has [`TOMBSTONE_BITS`] in
//! every value column, because the engine overwrites samples but does not delete them. Any other value keeps its bits.
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use foretell_engine::{Engine, LabelSet, SeriesId, Snapshot};
use hashbrown::HashMap;

use crate::codec::{Decoder, Encoder};
use crate::error::{Error, ErrorKind, Result};
use crate::table::derived::{FIELD_LABEL, NULL_BITS, TOMBSTONE_BITS};

/// Largest integer that a sample holds exactly.
const INTEGER_MAX: u64 = 1 << 53;
/// Output series remembered between rows.
const SERIES_CACHED_MAX: usize = 1 << 20;

/// Types a value column may have, with their stored code.
const FIELD_TYPES: [(u64, DataType); 11] = [
    (0, DataType::Float64),
    (1, DataType::Float32),
    (2, DataType::Int8),
    (3, DataType::Int16),
    (4, DataType::Int32),
    (5, DataType::Int64),
    (6, DataType::UInt8),
    (7, DataType::UInt16),
    (8, DataType::UInt32),
    (9, DataType::UInt64),
    (10, DataType::Boolean),
];

/// The columns of a table that a continuous query writes, `ts` aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DerivedTable {
    /// The query that wrote it last.
    pub(crate) owner: String,
    /// Label columns, in the order of the SELECT.
    pub(crate) labels: Vec<String>,
    /// Value columns with their SQL types, in the order of the SELECT.
    pub(crate) fields: Vec<(String, DataType)>,
}

impl DerivedTable {
    const VERSION: u8 = 1;

    /// Where the engine keeps the columns of `table`.
    pub(crate) fn key(table: &str) -> Vec<u8> {
        [b"derived/", table.as_bytes()].concat()
    }
    /// The columns of `table`, or `None` when no continuous query wrote it.
    ///
    /// # Errors
    /// `Internal` when the stored bytes are damaged.
    pub(crate) fn stored(snapshot: &Snapshot, table: &str) -> Result<Option<Self>> {
        snapshot.state(&Self::key(table))?.map(|bytes| Self::decode(&bytes)).transpose()
    }
    /// Whether a value column can have this type.
    pub(crate) fn is_field_type(data_type: &DataType) -> bool {
        FIELD_TYPES.iter().any(|(_, known)| known == data_type)
    }
    /// Whether rows of both tables mean the same.
    pub(crate) fn same_columns(&self, other: &Self) -> bool {
        (&self.labels, &self.fields) == (&other.labels, &other.fields)
    }
    /// The same with the labels of `other`, too.
    pub(crate) fn with_labels_of(mut self, other: &Self) -> Self {
        let new = other.labels.iter().filter(|label| !self.labels.contains(label)).cloned().collect::<Vec<_>>();
        self.labels.extend(new);
        self.owner.clone_from(&other.owner);
        self
    }
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new(Self::VERSION);
        out.text(&self.owner).unsigned(self.labels.len() as u64);
        for label in &self.labels {
            out.text(label);
        }
        out.unsigned(self.fields.len() as u64);
        for (name, data_type) in &self.fields {
            let code = FIELD_TYPES.iter().find(|(_, known)| known == data_type).map_or(0, |(code, _)| *code);
            out.text(name).unsigned(code);
        }
        out.finish()
    }
    /// # Errors
    /// `Internal` when the bytes are damaged.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new("table of a continuous query", bytes, Self::VERSION)?;
        let owner = from.text()?.to_owned();
        let labels = (0..from.count()?).map(|_| Ok(from.text()?.to_owned())).collect::<Result<_>>()?;
        let mut fields = Vec::new();
        for _ in 0..from.count()? {
            let name = from.text()?.to_owned();
            let code = from.unsigned()?;
            let Some((_, data_type)) = FIELD_TYPES.iter().find(|(known, _)| *known == code) else {
                return Err(Error::internal(format!(
                    "column {name} of a continuous query's table has an unknown type: a newer version wrote it"
                )));
            };
            fields.push((name, data_type.clone()));
        }
        from.end()?;
        Ok(Self { owner, labels, fields })
    }
}

/// The values of a column as samples: NULL as [`NULL_BITS`], numbers exactly.
///
/// # Errors
/// `Execution` for an integer that a sample cannot hold exactly.
pub(super) fn samples_of(column: &ArrayRef) -> Result<Vec<f64>> {
    let is_wide = matches!(column.data_type(), DataType::Int64 | DataType::UInt64);
    if is_wide {
        let widest = match column.data_type() {
            DataType::Int64 => column.as_primitive::<Int64Type>().iter().flatten().map(i64::unsigned_abs).max(),
            _ => column.as_primitive::<UInt64Type>().iter().flatten().max(),
        };
        if let Some(value) = widest.filter(|&value| value > INTEGER_MAX) {
            return Err(Error::new(
                ErrorKind::Execution,
                format!("integer {value} is beyond 2^53 and cannot be stored exactly: cast it to DOUBLE"),
            ));
        }
    }
    let doubles = match column.data_type() {
        DataType::Float64 => Arc::clone(column),
        DataType::Boolean => {
            let bytes = cast(column, &DataType::UInt8).map_err(|e| Error::internal(e.to_string()))?;
            cast(&bytes, &DataType::Float64).map_err(|e| Error::internal(e.to_string()))?
        }
        _ => cast(column, &DataType::Float64).map_err(|e| Error::internal(e.to_string()))?,
    };
    let doubles = doubles.as_primitive::<Float64Type>();
    let null = f64::from_bits(NULL_BITS);
    Ok(doubles
        .iter()
        .map(|value| match value {
            None => null,
            // A stored NaN that happens to carry a reserved payload stays a NaN.
            Some(value) if matches!(value.to_bits(), NULL_BITS | TOMBSTONE_BITS) => f64::NAN,
            Some(value) => value,
        })
        .collect())
}

/// The series that rows of a table go to.
pub(super) struct TargetSeries {
    table: String,
    columns: DerivedTable,
    /// Encoded label values -> one series per value column.
    known: HashMap<Box<[u8]>, Arc<[SeriesId]>>,
    key: Vec<u8>,
}

impl TargetSeries {
    pub(super) fn new(table: String, columns: DerivedTable) -> Self {
        Self { table, columns, known: HashMap::new(), key: Vec::new() }
    }
    pub(super) fn table(&self) -> &str {
        &self.table
    }
    pub(super) fn columns(&self) -> &DerivedTable {
        &self.columns
    }

    /// The series of the row with these labels, one per value column.
    ///
    /// # Errors
    /// `Execution` when the engine takes no more series.
    pub(super) fn of(&mut self, engine: &Engine, labels: &[Option<&str>]) -> Result<Arc<[SeriesId]>> {
        self.key.clear();
        encode_labels(labels.iter().copied(), &mut self.key);
        if let Some(series) = self.known.get(self.key.as_slice()) {
            return Ok(Arc::clone(series));
        }
        let series = self.resolve(engine, labels)?;
        if self.known.len() >= SERIES_CACHED_MAX {
            self.known.clear();
        }
        self.known.insert(self.key.as_slice().into(), Arc::clone(&series));
        Ok(series)
    }

    fn resolve(&self, engine: &Engine, labels: &[Option<&str>]) -> Result<Arc<[SeriesId]>> {
        self.columns
            .fields
            .iter()
            .map(|(field, _)| {
                let own = [(foretell_engine::types::METRIC_NAME, self.table.as_str()), (FIELD_LABEL, field.as_str())];
                let present =
                    self.columns.labels.iter().zip(labels).filter_map(|(name, value)| Some((name.as_str(), (*value)?)));
                let set = LabelSet::from_pairs(own.into_iter().chain(present)).map_err(|e| Error::from_engine(&e))?;
                engine.resolve(&set).map_err(|e| Error::from_engine(&e))
            })
            .collect()
    }
}

/// Appends label values as bytes that tell them apart.
pub(super) fn encode_labels<'a>(labels: impl Iterator<Item = Option<&'a str>>, bytes: &mut Vec<u8>) {
    for label in labels {
        // A label value never holds more than 2^32 bytes; absent and empty mean the same.
        let value = label.unwrap_or_default();
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        bytes.extend_from_slice(value.as_bytes());
    }
}

/// The text of each row of a label column.
pub(super) struct LabelColumn(ArrayRef);

impl LabelColumn {
    /// # Errors
    /// `Internal` when the column is not text.
    pub(super) fn new(column: &ArrayRef) -> Result<Self> {
        Ok(Self(cast(column, &DataType::Utf8).map_err(|e| Error::internal(e.to_string()))?))
    }
    /// `None` for NULL, and for an empty text, which is no label.
    pub(super) fn get(&self, row: usize) -> Option<&str> {
        let text = self.0.as_string::<i32>();
        text.is_valid(row).then(|| text.value(row)).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{BooleanArray, Float64Array, Int64Array};

    use super::*;

    #[test]
    fn columns_read_back() {
        let table = DerivedTable {
            owner: "q".into(),
            labels: vec!["service".into()],
            fields: FIELD_TYPES.iter().map(|(code, t)| (format!("f{code}"), t.clone())).collect(),
        };
        let bytes = table.encode();
        assert_eq!(DerivedTable::decode(&bytes).unwrap(), table);
        for length in 0..bytes.len() {
            assert!(DerivedTable::decode(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn values_keep_their_bits_and_null_is_reserved() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let column: ArrayRef =
            Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(stale), Some(f64::from_bits(TOMBSTONE_BITS))]));
        let bits: Vec<u64> = samples_of(&column).unwrap().into_iter().map(f64::to_bits).collect();
        assert_eq!(bits, [(-0.0f64).to_bits(), NULL_BITS, stale.to_bits(), f64::NAN.to_bits()]);
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false]));
        assert_eq!(samples_of(&flags).unwrap(), [1.0, 0.0]);
    }

    #[test]
    fn integers_that_would_be_rounded_are_refused() {
        let exact: ArrayRef = Arc::new(Int64Array::from(vec![-(1 << 53), 1 << 53]));
        assert_eq!(samples_of(&exact).unwrap(), [-9_007_199_254_740_992.0, 9_007_199_254_740_992.0]);
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN]));
        assert_eq!(samples_of(&wide).unwrap_err().kind, ErrorKind::Execution);
    }
}
