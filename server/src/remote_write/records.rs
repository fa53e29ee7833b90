//! Histograms and exemplars of a request as records for a batch.
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, MapBuilder, MapFieldNames, RecordBatch,
    StringBuilder, StructArray, UInt32Array, UInt64Array,
};
use foretell_engine::{Error, RecordTable, Records, SeriesId};
use foretell_query::native;

use super::exemplar::Exemplars;
use super::histogram::Histograms;
use super::lists::Lists;

/// Series of the request by their ids, and the indexes of those that were refused, in order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolved<'a> {
    pub(crate) ids: &'a [SeriesId],
    pub(crate) refused: &'a [usize],
}

impl Resolved<'_> {
    /// The rows whose series was not refused.
    fn kept(&self, series: &[u32]) -> Vec<usize> {
        let kept = |&row: &usize| self.refused.binary_search(&(series[row] as usize)).is_err();
        (0..series.len()).filter(kept).collect()
    }

    fn records(&self, table: RecordTable, series: &[u32], ts: &[i64], rows: &[usize], columns: RecordBatch) -> Records {
        Records {
            table,
            series: rows.iter().map(|&row| self.ids[series[row] as usize]).collect(),
            ts: rows.iter().map(|&row| ts[row]).collect(),
            columns,
        }
    }
}

/// The histograms of series that were not refused, if there are any.
///
/// # Errors
/// Never: the columns are made for the table.
pub(crate) fn histograms(from: &Histograms, resolved: Resolved<'_>) -> Result<Option<Records>, Error> {
    let rows = resolved.kept(&from.series);
    if rows.is_empty() {
        return Ok(None);
    }
    let is_float = |row: usize| from.float[row];
    let is_integer = |row: usize| !from.float[row];
    let spans = |side: usize| from.spans[side].array(&rows, |_| false, spans_array);
    let deltas = |side: usize| from.deltas[side].array(&rows, is_float, |values| Arc::new(Int64Array::from(values)));
    let doubles = |lists: &Lists<f64>, absent: &dyn Fn(usize) -> bool| {
        lists.array(&rows, absent, |values| Arc::new(Float64Array::from(values)))
    };
    let picked = || rows.iter().copied();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from_iter_values(picked().map(|row| from.schema[row]))),
        Arc::new(Int32Array::from_iter_values(picked().map(|row| from.reset_hint[row]))),
        Arc::new(BooleanArray::from_iter(picked().map(|row| Some(from.float[row])))),
        Arc::new(UInt64Array::from_iter_values(picked().map(|row| from.count[row]))),
        Arc::new(UInt64Array::from_iter_values(picked().map(|row| from.zero_count[row]))),
        Arc::new(Float64Array::from_iter_values(picked().map(|row| from.zero_threshold[row]))),
        Arc::new(Float64Array::from_iter_values(picked().map(|row| from.sum[row]))),
        spans(0),
        deltas(0),
        doubles(&from.counts[0], &is_integer),
        spans(1),
        deltas(1),
        doubles(&from.counts[1], &is_integer),
        doubles(&from.custom_values, &|row| from.schema[row] != native::CUSTOM_SCHEMA),
        Arc::new(Int64Array::from_iter(picked().map(|row| Some(from.start_ms[row]).filter(|&ms| ms != 0)))),
    ];
    let columns = RecordBatch::try_new(native::histogram_schema(), columns).map_err(unexpected)?;
    let table = native::histogram_table().map_err(unexpected)?;
    Ok(Some(resolved.records(table, &from.series, &from.ts, &rows, columns)))
}

/// The exemplars of series that were not refused, if there are any.
///
/// # Errors
/// Never: the columns are made for the table.
pub(crate) fn exemplars(from: &Exemplars, resolved: Resolved<'_>) -> Result<Option<Records>, Error> {
    let rows = resolved.kept(&from.series);
    if rows.is_empty() {
        return Ok(None);
    }
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut labels = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for &row in &rows {
        for (name, value) in from.labels_of(row) {
            labels.keys().append_value(name);
            labels.values().append_value(value);
        }
        labels.append(true).map_err(unexpected)?;
    }
    let values = Float64Array::from_iter_values(rows.iter().map(|&row| from.values[row]));
    let columns: Vec<ArrayRef> = vec![Arc::new(values), Arc::new(labels.finish())];
    let columns = RecordBatch::try_new(native::exemplar_schema(), columns).map_err(unexpected)?;
    let table = native::exemplar_table().map_err(unexpected)?;
    Ok(Some(resolved.records(table, &from.series, &from.ts, &rows, columns)))
}

fn spans_array(spans: Vec<(i32, u32)>) -> ArrayRef {
    let offsets = Int32Array::from_iter_values(spans.iter().map(|span| span.0));
    let lengths = UInt32Array::from_iter_values(spans.iter().map(|span| span.1));
    Arc::new(StructArray::new(native::span_fields(), vec![Arc::new(offsets), Arc::new(lengths)], None))
}

fn unexpected(error: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("histograms or exemplars do not fit their table: {error}"))
}
