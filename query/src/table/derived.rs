//! Tables that continuous queries write: `ts`, labels and one column per field.
//!
//! ```text
//!  {__name__="t", a="x", __field__="n"}    ts -> n       |  ts | a | n | p99 |
//!  {__name__="t", a="x", __field__="p99"}  ts -> p99     |  …  | x | … |  …  |
//! ```
//! Series that differ only in [`FIELD_LABEL`] are one group; its rows are zipped by time. SQL NULL is [`NULL_BITS`]; a row
//! whose present fields are all [`TOMBSTONE_BITS`] is no longer there.
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::Expr;
use foretell_engine::{MetricInfo, ScanBatch, Series, SeriesId, Snapshot, TimeRange};
use hashbrown::HashSet;

use super::columns::{BatchMaker, Column};
use super::metric::{describe, keep, reserve, select, split};
use super::plan::Rows;
use super::pushdown::{Conditions, Shape};
use super::scan_exec::{Reader, Source, external};
use super::{label_columns, label_type, timestamp_type};
use crate::continuous::output::DerivedTable as Stored;

/// The label that names a value column.
pub(crate) const FIELD_LABEL: &str = "__field__";
/// A NaN that stands for SQL NULL.
pub(crate) const NULL_BITS: u64 = 0x7ff8_f0e7_e11a_0001;
/// A NaN in every value column of a row that is no longer there.
pub(crate) const TOMBSTONE_BITS: u64 = 0x7ff8_f0e7_e11a_0002;

/// Rows of a batch of [`DerivedTable::reader`].
const READER_ROWS: usize = 16 << 10;

/// The name of the column of series without [`FIELD_LABEL`], should a derived table have some.
const PLAIN_FIELD: &str = "value";

#[derive(Clone, Debug)]
enum Shown {
    Ts,
    Label(String),
    Field(String, DataType),
}

/// One derived table.
#[derive(Clone)]
pub(crate) struct DerivedTable {
    snapshot: Snapshot,
    metric: Arc<str>,
    columns: Vec<Shown>,
    schema: SchemaRef,
    only: Option<Arc<HashSet<u32>>>,
}

impl fmt::Debug for DerivedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DerivedTable({})", self.metric)
    }
}

impl DerivedTable {
    /// Columns come from the writer's definition, and from the series: those that no definition names, if there are some.
    /// `info` is none as long as the table has no rows.
    ///
    /// # Errors
    /// When the stored definition cannot be read.
    pub(crate) fn open(snapshot: Snapshot, name: &str, info: Option<&MetricInfo>) -> Result<Self> {
        let metric: Arc<str> = Arc::from(name);
        let (mut labels, fields) = match Stored::stored(&snapshot, name)? {
            Some(stored) => (stored.labels, stored.fields),
            None => {
                let series = select(&snapshot, Some(name.to_owned()), &Conditions::default())?;
                let mut names: Vec<String> = series.iter().map(|s| field_of(s).to_owned()).collect();
                names.sort_unstable();
                names.dedup();
                (Vec::new(), names.into_iter().map(|name| (name, DataType::Float64)).collect())
            }
        };
        labels.extend(info.iter().flat_map(|info| &info.label_names).map(|label| label.to_string()));
        labels.retain(|label| label != FIELD_LABEL);
        labels.sort_unstable();
        labels.dedup();
        let mut shown = vec![(Field::new("ts", timestamp_type(), false), Shown::Ts)];
        for (label, column) in label_columns(labels.iter().map(String::as_str)) {
            // A field hides a label of the same name: the writer chose the field's name.
            if !fields.iter().any(|(name, _)| *name == column) {
                shown.push((Field::new(column, label_type(), true), Shown::Label(label)));
            }
        }
        for (name, kind) in fields {
            shown.push((Field::new(&name, kind.clone(), true), Shown::Field(name, kind)));
        }
        let (fields, columns): (Vec<Field>, Vec<Shown>) = shown.into_iter().unzip();
        Ok(Self { snapshot, metric, columns, schema: Arc::new(Schema::new(fields)), only: None })
    }

    /// The same table with no rows but those of the series with these numbers.
    pub(crate) fn limited(&self, series: Arc<HashSet<u32>>) -> Self {
        Self { only: Some(series), ..self.clone() }
    }

    /// Reads the rows of `group`, series that differ in nothing but their field, in `range`: the columns of `schema`, by name.
    ///
    /// # Errors
    /// When a column is not the table's.
    pub(crate) fn reader(
        &self,
        group: Vec<Series>,
        range: TimeRange,
        schema: SchemaRef,
    ) -> Result<impl Reader + use<>> {
        let columns: Vec<usize> = schema
            .fields()
            .iter()
            .map(|field| self.schema.index_of(field.name()))
            .collect::<std::result::Result<_, _>>()?;
        let columns = columns.into_iter().map(|at| self.columns[at].clone()).collect();
        let conditions = Conditions { range, ..Conditions::default() };
        let shared = Arc::new(Shared { snapshot: self.snapshot.clone(), conditions, columns, schema });
        Ok(ZipReader { shared, groups: vec![group], next: 0, current: None, rows: READER_ROWS })
    }

    /// The metric it shows.
    pub(crate) fn metric(&self) -> &str {
        &self.metric
    }
}

fn field_of(series: &Series) -> &str {
    series.labels.get(FIELD_LABEL).unwrap_or(PLAIN_FIELD)
}

impl Shape for DerivedTable {
    fn label(&self, expr: &Expr) -> Option<String> {
        let Expr::Column(column) = expr else { return None };
        match &self.columns[self.schema.index_of(&column.name).ok()?] {
            Shown::Label(name) => Some(name.clone()),
            _ => None,
        }
    }
}

impl Rows for DerivedTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn source(
        &self,
        session: &dyn Session,
        conditions: Conditions,
        schema: SchemaRef,
        columns: &[usize],
    ) -> Result<Arc<dyn Source>> {
        let mut series = select(&self.snapshot, Some(self.metric.to_string()), &conditions)?;
        keep(&mut series, self.only.as_deref());
        let memory = reserve(session, &series)?;
        let groups = group(series);
        let parts = split(groups.len(), session.config().target_partitions());
        let columns = columns.iter().map(|&i| self.columns[i].clone()).collect();
        let shared = Arc::new(Shared { snapshot: self.snapshot.clone(), conditions, columns, schema });
        Ok(Arc::new(ZipSource { metric: self.metric.to_string(), groups, parts, shared, _memory: memory }))
    }
}

/// Series that differ only in their field, each group sorted by id.
fn group(series: Vec<Series>) -> Vec<Vec<Series>> {
    let mut groups: BTreeMap<Vec<(String, String)>, Vec<Series>> = BTreeMap::new();
    for one in series {
        let labels = one
            .labels
            .iter()
            .filter(|(name, _)| *name != FIELD_LABEL)
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect();
        groups.entry(labels).or_default().push(one);
    }
    groups.into_values().collect()
}

struct ZipSource {
    metric: String,
    groups: Vec<Vec<Series>>,
    parts: Vec<Range<usize>>,
    shared: Arc<Shared>,
    /// Of the series.
    _memory: MemoryReservation,
}

/// What the readers of one scan share.
struct Shared {
    snapshot: Snapshot,
    conditions: Conditions,
    columns: Vec<Shown>,
    schema: SchemaRef,
}

impl fmt::Debug for ZipSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Source for ZipSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.shared.schema)
    }

    fn partitions(&self) -> usize {
        self.parts.len()
    }

    fn open(&self, partition: usize, rows: usize) -> Result<Box<dyn Reader>> {
        let groups = self.groups[self.parts[partition].clone()].to_vec();
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(ZipReader { shared, groups, next: 0, current: None, rows: rows.max(1) }))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let series = self.groups.iter().map(Vec::len).sum();
        describe(f, Some(&self.metric), series, &self.shared.conditions, &self.shared.schema)
    }
}

/// Group after group.
struct ZipReader {
    shared: Arc<Shared>,
    groups: Vec<Vec<Series>>,
    next: usize,
    /// The group being read, and where.
    current: Option<(usize, Zip)>,
    rows: usize,
}

impl Reader for ZipReader {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some((group, zip)) = &mut self.current
                && let Some(rows) = zip.next_rows(self.rows)
            {
                return self.shared.batch(&self.groups[*group], rows).map(Some);
            }
            let Some(group) = self.groups.get(self.next) else { return Ok(None) };
            self.current = Some((self.next, Zip::read(&self.shared.snapshot, group, &self.shared.conditions)?));
            self.next += 1;
        }
    }

    fn bytes(&self) -> usize {
        self.current.as_ref().map_or(0, |(_, zip)| zip.bytes())
    }
}

impl Shared {
    fn batch(&self, group: &[Series], ZippedRows { ts, cells }: ZippedRows) -> Result<RecordBatch> {
        let rows = ts.len();
        let fixed: Vec<Column> = self
            .columns
            .iter()
            .filter_map(|column| match column {
                Shown::Ts => Some(Column::Ts),
                Shown::Label(name) => Some(Column::Label(name.clone())),
                Shown::Field(..) => None,
            })
            .collect();
        let indexes: Vec<usize> =
            (0..self.columns.len()).filter(|&i| !matches!(self.columns[i], Shown::Field(..))).collect();
        let maker = BatchMaker::new(Arc::new(self.schema.project(&indexes)?), &fixed, &group[..1])?;
        let mut scanned = ScanBatch { runs: vec![(0, rows as u32)], ts, values: Vec::new() };
        let fixed = maker.make(&mut scanned)?;
        let mut fixed = fixed.columns().iter();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            match column {
                Shown::Field(name, kind) => {
                    let cells = group.iter().position(|s| field_of(s) == name).map(|i| &cells[i]);
                    let doubles = match cells {
                        Some(cells) => Float64Array::from(cells.clone()),
                        None => Float64Array::new_null(rows),
                    };
                    arrays.push(typed(doubles, kind)?);
                }
                _ => arrays.extend(fixed.next().cloned()),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }
}

/// Samples are doubles; the writer says what SQL type they had.
///
/// # Errors
/// When the type is none of a field.
pub(crate) fn typed(doubles: Float64Array, kind: &DataType) -> Result<ArrayRef> {
    Ok(match kind {
        DataType::Float64 => Arc::new(doubles),
        DataType::Boolean => Arc::new(BooleanArray::from_iter(doubles.iter().map(|v| v.map(|v| v != 0.0)))),
        // Out of range becomes NULL: a definition that changed its type must not make old rows unreadable.
        kind => cast_with_options(&doubles, kind, &CastOptions { safe: true, ..CastOptions::default() })?,
    })
}

/// Some rows of a group: their times, and a column of cells for each of its series.
#[derive(Debug, PartialEq)]
struct ZippedRows {
    ts: Vec<i64>,
    cells: Vec<Vec<Option<f64>>>,
}

/// The series of one group, read whole and zipped by time.
struct Zip {
    columns: Vec<(Vec<i64>, Vec<f64>)>,
    positions: Vec<usize>,
}

impl Zip {
    fn read(snapshot: &Snapshot, group: &[Series], conditions: &Conditions) -> Result<Self> {
        let ids: Vec<SeriesId> = group.iter().map(|s| s.id).collect();
        let mut columns = vec![(Vec::new(), Vec::new()); group.len()];
        let mut scan = snapshot.scan(&ids, conditions.range, true, 8_192).map_err(external)?;
        let mut batch = ScanBatch::default();
        while scan.next_batch(&mut batch).map_err(external)? {
            let mut at = 0;
            for &(series, n) in &batch.runs {
                let end = at + n as usize;
                columns[series as usize].0.extend_from_slice(&batch.ts[at..end]);
                columns[series as usize].1.extend_from_slice(&batch.values[at..end]);
                at = end;
            }
        }
        let positions = vec![0; group.len()];
        Ok(Self { columns, positions })
    }

    /// Memory it holds.
    fn bytes(&self) -> usize {
        self.columns.iter().map(|(ts, values)| (ts.capacity() + values.capacity()) * 8).sum()
    }

    /// At most `rows_max` rows.
    fn next_rows(&mut self, rows_max: usize) -> Option<ZippedRows> {
        let mut times = Vec::new();
        let mut cells = vec![Vec::new(); self.columns.len()];
        let mut row = vec![None; self.columns.len()];
        while times.len() < rows_max {
            let heads = self.columns.iter().zip(&self.positions).filter_map(|((ts, _), &at)| ts.get(at));
            let Some(&now) = heads.min() else { break };
            let mut gone = true;
            for (i, (ts, values)) in self.columns.iter().enumerate() {
                row[i] = None;
                if ts.get(self.positions[i]) == Some(&now) {
                    let value = values[self.positions[i]];
                    self.positions[i] += 1;
                    gone &= value.to_bits() == TOMBSTONE_BITS;
                    row[i] = (!matches!(value.to_bits(), NULL_BITS | TOMBSTONE_BITS)).then_some(value);
                }
            }
            if !gone {
                times.push(now);
                cells.iter_mut().zip(&row).for_each(|(column, cell)| column.push(*cell));
            }
        }
        (!times.is_empty()).then_some(ZippedRows { ts: times, cells })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_are_zipped_by_time_and_tombstones_vanish() {
        let (null, gone) = (f64::from_bits(NULL_BITS), f64::from_bits(TOMBSTONE_BITS));
        let mut zip = Zip {
            columns: vec![
                (vec![1, 2, 3, 5], vec![1.0, null, gone, gone]),
                (vec![1, 3, 4, 5], vec![10.0, gone, 40.0, 50.0]),
            ],
            positions: vec![0, 0],
        };
        let ZippedRows { ts, cells } = zip.next_rows(2).unwrap();
        assert_eq!(ts, [1, 2]);
        assert_eq!(cells, [vec![Some(1.0), None], vec![Some(10.0), None]]);
        let ZippedRows { ts, cells } = zip.next_rows(10).unwrap();
        assert_eq!(ts, [4, 5]);
        assert_eq!(cells, [vec![None, None], vec![Some(40.0), Some(50.0)]]);
        assert!(zip.next_rows(10).is_none());
    }

    #[test]
    fn samples_come_back_in_the_type_they_had() {
        let doubles = Float64Array::from(vec![Some(3.0), None, Some(f64::NAN)]);
        let integers = typed(doubles, &DataType::Int64).unwrap();
        assert_eq!(integers.null_count(), 2);
        assert_eq!(integers.data_type(), &DataType::Int64);
    }
}
