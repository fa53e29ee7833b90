//! Engine batches to Arrow batches: time and values move without a copy, label columns are filled by runs.
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, DictionaryArray, Float64Array, Int32Array, MapArray, MapBuilder, RecordBatch,
    RecordBatchOptions, StringArray, StringBuilder, TimestampNanosecondArray, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int32Type, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use foretell_engine::types::METRIC_NAME;
use foretell_engine::{LabelSet, ScanBatch, Series};
use hashbrown::HashMap;

use crate::default_detector::bits::Bits;
use crate::event::SERVICE_LABEL;

/// A column of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// Sample time.
    Ts,
    /// Sample value.
    Value,
    /// Whether the default detector found the sample anomalous.
    Anomalous,
    /// A label, NULL where a series lacks it.
    Label(String),
    /// All labels but the metric name, as a map.
    Labels,
    /// The same without the service: what a stream of events comes from.
    Resource,
}

/// `MAP<Utf8, Utf8>`, sorted by key as label sets are.
pub(crate) fn map_type() -> DataType {
    let entries = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false)
}

/// One map per label set, without the metric name.
pub(crate) fn label_maps<'a>(sets: impl Iterator<Item = &'a LabelSet>) -> Result<MapArray> {
    maps(sets, |name| name != METRIC_NAME)
}

/// One map per label set, with the metric name where there is one.
pub(crate) fn whole_label_maps<'a>(sets: impl Iterator<Item = &'a LabelSet>) -> Result<MapArray> {
    maps(sets, |_| true)
}

fn maps<'a>(sets: impl Iterator<Item = &'a LabelSet>, shows: impl Fn(&str) -> bool) -> Result<MapArray> {
    let names = arrow::array::MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for set in sets {
        for (name, value) in set.iter().filter(|(name, _)| shows(name)) {
            maps.keys().append_value(name);
            maps.values().append_value(value);
        }
        maps.append(true)?;
    }
    Ok(maps.finish())
}

/// A column that is constant along a series, as one entry per series of the scan.
pub(crate) enum PerSeries {
    /// A label.
    Dictionary {
        /// Index of its value in `values`, by series.
        keys: Vec<Option<i32>>,
        /// Distinct values.
        values: ArrayRef,
        /// Whether a series lacks it.
        nulls: bool,
    },
    /// All labels, by series.
    Maps(ArrayRef),
}

impl PerSeries {
    /// `column` of `series`; `None` if it differs from row to row.
    pub(crate) fn of(column: &Column, series: &[Series]) -> Result<Option<Self>> {
        Ok(match column {
            Column::Ts | Column::Value | Column::Anomalous => None,
            Column::Label(name) => Some(dictionary(name, series)),
            Column::Labels => Some(Self::Maps(Arc::new(label_maps(series.iter().map(|s| &s.labels))?))),
            Column::Resource => {
                let shows = |name: &str| name != METRIC_NAME && name != SERVICE_LABEL;
                Some(Self::Maps(Arc::new(maps(series.iter().map(|s| &s.labels), shows)?)))
            }
        })
    }

    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Dictionary { keys, values, .. } => {
                keys.capacity() * size_of::<Option<i32>>() + values.get_buffer_memory_size()
            }
            Self::Maps(maps) => maps.get_buffer_memory_size(),
        }
    }

    /// One entry a row, of which `runs` says how many each series has, `rows` in all.
    pub(crate) fn array(&self, runs: &[(u32, u32)], rows: usize) -> Result<ArrayRef> {
        Ok(match self {
            Self::Dictionary { keys, values, nulls } => {
                let keys = if *nulls { nullable_keys(keys, runs, rows) } else { dense_keys(keys, runs, rows) };
                Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::clone(values))?)
            }
            Self::Maps(maps) => {
                let mut index = Vec::with_capacity(rows);
                for &(series, n) in runs {
                    index.resize(index.len() + n as usize, series);
                }
                take(maps, &UInt32Array::from(index), None)?
            }
        })
    }
}

/// Times as a column.
pub(crate) fn times(ts: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(ts).with_timezone("UTC"))
}

/// Makes record batches for one partition's series.
pub(crate) struct BatchMaker {
    schema: SchemaRef,
    columns: Vec<(Column, Option<PerSeries>)>,
    /// What [`Column::Anomalous`] shows.
    bits: Bits,
}

impl BatchMaker {
    /// For `columns` of `series`; run indexes of the scan refer to `series`.
    pub(crate) fn new(schema: SchemaRef, columns: &[Column], series: &[Series]) -> Result<Self> {
        let made = |column: &Column| Ok((column.clone(), PerSeries::of(column, series)?));
        Ok(Self { schema, columns: columns.iter().map(made).collect::<Result<_>>()?, bits: Bits::default() })
    }

    /// The same, which shows `bits` of the series.
    pub(crate) fn with_bits(self, bits: Bits) -> Self {
        Self { bits, ..self }
    }

    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        let labels = self.columns.iter().filter_map(|(_, labels)| labels.as_ref());
        labels.map(PerSeries::bytes).sum::<usize>() + self.bits.bytes()
    }

    /// Memory that one for `columns` of a series with `label_bytes` of labels takes while it is made, about.
    pub(crate) fn making_bytes<'a>(columns: impl IntoIterator<Item = &'a Column>, label_bytes: usize) -> usize {
        let bytes = columns.into_iter().map(|column| match column {
            Column::Ts | Column::Value | Column::Anomalous => 0,
            // Key, place of the value, and its place in a table of all values.
            Column::Label(_) => 64,
            // Builders grow by doubling.
            Column::Labels | Column::Resource => 2 * label_bytes,
        });
        bytes.sum()
    }

    /// Takes the rows of `scanned`.
    pub(crate) fn make(&self, scanned: &mut ScanBatch) -> Result<RecordBatch> {
        let rows = scanned.ts.len();
        let shows_bits = self.columns.iter().any(|(column, _)| *column == Column::Anomalous);
        let bits = shows_bits.then(|| Arc::new(self.bits.column(&scanned.runs, &scanned.ts)) as ArrayRef);
        let arrays = self
            .columns
            .iter()
            .map(|column| match column {
                (_, Some(labels)) => labels.array(&scanned.runs, rows),
                (Column::Ts, None) => Ok(times(std::mem::take(&mut scanned.ts))),
                (Column::Anomalous, None) => {
                    bits.clone().ok_or_else(|| DataFusionError::Internal("no bits were read".into()))
                }
                (_, None) => Ok(Arc::new(Float64Array::from(std::mem::take(&mut scanned.values))) as ArrayRef),
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }
}

/// Distinct values of label `name` over `series`, and each series' key.
fn dictionary(name: &str, series: &[Series]) -> PerSeries {
    let mut distinct: HashMap<&str, i32> = HashMap::new();
    let mut values: Vec<&str> = Vec::new();
    let keys: Vec<Option<i32>> = series
        .iter()
        .map(|s| {
            let value = s.labels.get(name)?;
            Some(*distinct.entry(value).or_insert_with(|| {
                values.push(value);
                (values.len() - 1) as i32
            }))
        })
        .collect();
    let nulls = keys.iter().any(Option::is_none);
    PerSeries::Dictionary { keys, values: Arc::new(StringArray::from(values)), nulls }
}

fn dense_keys(keys: &[Option<i32>], runs: &[(u32, u32)], rows: usize) -> Int32Array {
    let mut column: Vec<i32> = Vec::with_capacity(rows);
    for &(series, n) in runs {
        column.resize(column.len() + n as usize, keys[series as usize].unwrap_or_default());
    }
    Int32Array::from(column)
}

fn nullable_keys(keys: &[Option<i32>], runs: &[(u32, u32)], rows: usize) -> Int32Array {
    let mut column = Int32Array::builder(rows);
    for &(series, n) in runs {
        match keys[series as usize] {
            Some(key) => column.append_value_n(key, n as usize),
            None => column.append_nulls(n as usize),
        }
    }
    column.finish()
}
