//! `logs` and `spans`: wide events.
//!
//! Filters on time, service and resource are answered exactly, by the index, and by the engine `match` of a column of texts and
//! one text or id that a column must have. Other filters on what rows hold let the engine pass groups over (see
//! [`super::hints`]) and are then applied by DataFusion. Of `attributes` only the keys are read that a statement names, if it
//! names them all (see `rule::attribute_keys`).
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use foretell_engine::types::METRIC_NAME;
use foretell_engine::{Hint, RecordScan, RowFilter, ScanBatch, Series, SeriesId, Snapshot};
use hashbrown::HashSet;

use super::columns::{BatchMaker, Column, map_type};
use super::hints::{Exact, exact_of, hint_of};
use super::histogram::stored;
use super::metric::{describe, opening_bytes, reserve, select, split};
use super::plan::filtered;
use super::pushdown::{Conditions, Shape, convert};
use super::scan_exec::{Reader, ScanExec, Source, external};
use super::{label_type, timestamp_type};
use crate::event::attributes::{self, maps, stored_columns};
use crate::event::{SERVICE_LABEL, Signal, hex, log, span};

/// One of the tables.
pub(crate) struct EventsTable {
    snapshot: Snapshot,
    signal: Signal,
    columns: Vec<Shown>,
    schema: SchemaRef,
    /// Columns of the engine's table.
    stored: SchemaRef,
    /// Keys of attributes that a statement reads; all when `None`.
    keys: Option<Arc<HashSet<String>>>,
}

/// A column of the table.
#[derive(Clone, Debug)]
enum Shown {
    /// Of the stream, or the time.
    Fixed(Column),
    /// A stored column as it is, or NULL before any row has it.
    Stored(&'static str),
    /// Bytes as hexadecimal digits.
    Id(&'static str),
    Attributes,
    AttributeTypes,
}

impl fmt::Debug for EventsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventsTable({})", self.signal.table_name())
    }
}

fn columns(signal: Signal) -> Vec<(Field, Shown)> {
    let types = match signal {
        Signal::Logs => log::stored(),
        Signal::Spans => span::stored(),
    };
    let names: &[&str] = match signal {
        Signal::Logs => &[
            "ts",
            "observed_ts",
            "service",
            "severity",
            "severity_number",
            "body",
            "trace_id",
            "span_id",
            "attributes",
            "resource",
            "scope",
            "attribute_types",
        ],
        Signal::Spans => &[
            "ts",
            "duration",
            "trace_id",
            "span_id",
            "parent_span_id",
            "service",
            "name",
            "kind",
            "status",
            "status_message",
            "attributes",
            "resource",
            "events",
            "links",
            "attribute_types",
        ],
    };
    let column = |&name: &&str| match name {
        "ts" => (Field::new(name, timestamp_type(), false), Shown::Fixed(Column::Ts)),
        "service" => (Field::new(name, label_type(), true), Shown::Fixed(Column::Label(SERVICE_LABEL.to_owned()))),
        "resource" => (Field::new(name, map_type(), false), Shown::Fixed(Column::Resource)),
        "attributes" => (Field::new(name, map_type(), false), Shown::Attributes),
        "attribute_types" => (Field::new(name, map_type(), false), Shown::AttributeTypes),
        name => match types.iter().find(|known| known.0 == name) {
            Some((name, DataType::FixedSizeBinary(_))) => (Field::new(*name, DataType::Utf8, true), Shown::Id(name)),
            Some((name, kind)) => (Field::new(*name, kind.clone(), true), Shown::Stored(name)),
            None => unreachable!("a column {name} that nothing stores"),
        },
    };
    names.iter().map(column).collect()
}

impl EventsTable {
    pub(crate) fn new(snapshot: Snapshot, signal: Signal) -> Self {
        let (fields, columns): (Vec<Field>, Vec<Shown>) = columns(signal).into_iter().unzip();
        let stored = snapshot.record_table(signal.table_name()).map(|known| known.columns);
        let stored = stored.unwrap_or_else(|| Arc::new(Schema::empty()));
        Self { snapshot, signal, columns, schema: Arc::new(Schema::new(fields)), stored, keys: None }
    }

    /// The same for a statement that reads no key of attributes but `keys`.
    pub(crate) fn with_keys(&self, keys: &Arc<HashSet<String>>) -> Self {
        Self {
            snapshot: self.snapshot.clone(),
            signal: self.signal,
            columns: self.columns.clone(),
            schema: Arc::clone(&self.schema),
            stored: Arc::clone(&self.stored),
            keys: Some(Arc::clone(keys)),
        }
    }

    /// Name of the streams it shows.
    pub(crate) fn stream_name(&self) -> &'static str {
        self.signal.stream_name()
    }

    fn source(
        &self,
        session: &dyn Session,
        conditions: Conditions,
        wanted: Wanted,
        projection: &[usize],
    ) -> Result<Arc<dyn Source>> {
        // Before the first row there is no table in the engine.
        let written = self.snapshot.record_table(self.signal.table_name()).is_some();
        let stream = self.signal.stream_name().to_owned();
        let series = if written { select(&self.snapshot, Some(stream), &conditions)? } else { Vec::new() };
        let memory = reserve(session, &series)?;
        Ok(Arc::new(EventSource {
            snapshot: self.snapshot.clone(),
            signal: self.signal,
            parts: split(series.len(), session.config().target_partitions()),
            conditions,
            wanted,
            series,
            columns: projection.iter().map(|&i| self.columns[i].clone()).collect(),
            schema: Arc::new(self.schema.project(projection)?),
            stored: Arc::clone(&self.stored),
            keys: self.keys.clone(),
            _memory: memory,
        }))
    }
}

impl Shape for EventsTable {
    fn label(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Column(column) if column.name == "service" => Some(SERVICE_LABEL.to_owned()),
            Expr::ScalarFunction(call) if call.name() == "get_field" => match call.args.as_slice() {
                [Expr::Column(map), Expr::Literal(ScalarValue::Utf8(Some(name)), _)]
                    if map.name == "resource" && ![METRIC_NAME, SERVICE_LABEL, ""].contains(&name.as_str()) =>
                {
                    Some(name.clone())
                }
                _ => None,
            },
            _ => None,
        }
    }
}

#[async_trait]
impl TableProvider for EventsTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let supported = filters.iter().map(|filter| {
            if convert(filter, self).is_some() || exact_of(filter).is_some() {
                TableProviderFilterPushDown::Exact
            } else if hint_of(filter, &self.stored).is_some() {
                TableProviderFilterPushDown::Inexact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        });
        Ok(supported.collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let projection = projection.map_or(all.as_slice(), Vec::as_slice);
        let (mut conditions, mut wanted, mut rest) = (Conditions::default(), Wanted::default(), Vec::new());
        for filter in filters {
            if let Some(more) = convert(filter, self) {
                conditions = conditions.and(more);
            } else if let Some(exact) = exact_of(filter) {
                wanted.exact.push(exact);
            } else if let Some(hint) = hint_of(filter, &self.stored) {
                // DataFusion kept the filter, and with it the limit.
                wanted.hints.push(hint);
            } else {
                // Taken over exactly, and simplified since to what is neither.
                rest.push(filter.clone());
            }
        }
        let limit = limit.filter(|_| wanted.hints.is_empty());
        let Some(rest) = conjunction(rest) else {
            return Ok(Arc::new(ScanExec::new(self.source(session, conditions, wanted, projection)?, limit)));
        };
        let scan = ScanExec::new(self.source(session, conditions, wanted, &all)?, None);
        filtered(session, scan, rest, &self.schema, projection)
    }
}

/// What rows must have, besides the conditions on their streams and times.
#[derive(Default)]
struct Wanted {
    hints: Vec<Hint>,
    exact: Vec<Exact>,
}

struct EventSource {
    snapshot: Snapshot,
    signal: Signal,
    conditions: Conditions,
    wanted: Wanted,
    series: Vec<Series>,
    parts: Vec<Range<usize>>,
    columns: Vec<Shown>,
    schema: SchemaRef,
    stored: SchemaRef,
    keys: Option<Arc<HashSet<String>>>,
    /// Of the series.
    _memory: MemoryReservation,
}

impl EventSource {
    /// The columns that do not come from the rows.
    fn fixed(&self) -> Vec<Column> {
        let fixed = self.columns.iter().filter_map(|column| match column {
            Shown::Fixed(column) => Some(column.clone()),
            _ => None,
        });
        fixed.collect()
    }

    /// The engine's columns that are read.
    fn needed(&self) -> Vec<&str> {
        let mut needed = Vec::new();
        // Types are told of all keys.
        let typed = self.columns.iter().any(|column| matches!(column, Shown::AttributeTypes));
        for column in &self.columns {
            match column {
                Shown::Fixed(_) => {}
                Shown::Stored(name) | Shown::Id(name) => {
                    if self.stored.index_of(name).is_ok() {
                        needed.push(*name);
                    }
                }
                Shown::Attributes if typed => {}
                Shown::AttributeTypes => needed.extend(stored_columns(&self.stored, None)),
                Shown::Attributes => needed.extend(stored_columns(&self.stored, self.keys.as_deref())),
            }
        }
        needed
    }
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Source for EventSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn partitions(&self) -> usize {
        self.parts.len()
    }

    fn opening_bytes(&self, partition: usize) -> usize {
        opening_bytes(&self.series[self.parts[partition].clone()], &self.fixed())
    }

    fn open(&self, partition: usize, _rows: usize) -> Result<Box<dyn Reader>> {
        let series = &self.series[self.parts[partition].clone()];
        let ids: Vec<SeriesId> = series.iter().map(|s| s.id).collect();
        let (table, needed) = (self.signal.table_name(), self.needed());
        let Wanted { hints, exact } = &self.wanted;
        let exact: Vec<RowFilter> = exact.iter().map(Exact::filter).collect();
        let scan = (!ids.is_empty())
            .then(|| self.snapshot.scan_records_for(table, &ids, self.conditions.range, Some(&needed), hints, &exact));
        let indexes = self.columns.iter().enumerate().filter(|(_, column)| matches!(column, Shown::Fixed(_)));
        let indexes: Vec<usize> = indexes.map(|(i, _)| i).collect();
        Ok(Box::new(EventReader {
            scan: scan.transpose().map_err(external)?,
            ids,
            maker: BatchMaker::new(Arc::new(self.schema.project(&indexes)?), &self.fixed(), series)?,
            columns: self.columns.clone(),
            schema: Arc::clone(&self.schema),
            keys: self.keys.clone(),
        }))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, Some(self.signal.table_name()), self.series.len(), &self.conditions, &self.schema)?;
        for exact in &self.wanted.exact {
            write!(f, ", {exact}")?;
        }
        if !self.wanted.hints.is_empty() {
            write!(f, ", passes over by {:?}", self.wanted.hints)?;
        }
        if let Some(keys) = self.keys.as_ref().filter(|_| self.columns.iter().any(|c| matches!(c, Shown::Attributes))) {
            let mut keys: Vec<&String> = keys.iter().collect();
            keys.sort_unstable();
            write!(f, ", attributes={keys:?}")?;
        }
        Ok(())
    }
}

struct EventReader {
    scan: Option<RecordScan>,
    ids: Vec<SeriesId>,
    maker: BatchMaker,
    columns: Vec<Shown>,
    schema: SchemaRef,
    keys: Option<Arc<HashSet<String>>>,
}

impl Reader for EventReader {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(scan) = &mut self.scan else { return Ok(None) };
        match scan.next_batch().map_err(external)? {
            Some(batch) => self.shown(&batch).map(Some),
            None => Ok(None),
        }
    }

    fn bytes(&self) -> usize {
        self.scan.as_ref().map_or(0, RecordScan::bytes) + self.maker.bytes()
    }
}

impl EventReader {
    fn shown(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let series = stored(batch, "series")?.as_primitive::<UInt64Type>().values();
        let ts = stored(batch, "ts")?.as_primitive::<Int64Type>().values().to_vec();
        let runs = series.chunk_by(|a, b| a == b).filter_map(|run| {
            let of = self.ids.binary_search(&SeriesId(run[0])).ok()?;
            Some((of as u32, run.len() as u32))
        });
        let fixed = self.maker.make(&mut ScanBatch { runs: runs.collect(), ts, values: Vec::new() })?;
        let mut fixed = fixed.columns().iter();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (column, field) in self.columns.iter().zip(self.schema.fields()) {
            let null = || arrow::array::new_null_array(field.data_type(), rows);
            match column {
                Shown::Fixed(_) => arrays.extend(fixed.next().cloned()),
                Shown::Stored(name) => arrays.push(batch.column_by_name(name).map_or_else(null, Arc::clone)),
                Shown::Id(name) => arrays.push(match batch.column_by_name(name) {
                    Some(array) => Arc::new(digits(array.as_fixed_size_binary())),
                    None => null(),
                }),
                Shown::Attributes => arrays.push(Arc::new(maps(batch, self.keys.as_deref())?)),
                Shown::AttributeTypes => arrays.push(Arc::new(attributes::types(batch)?)),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }
}

fn digits(ids: &FixedSizeBinaryArray) -> StringArray {
    (0..ids.len()).map(|row| ids.is_valid(row).then(|| hex(ids.value(row)))).collect()
}

/// The column of attributes.
pub(crate) const ATTRIBUTES: &str = attributes::REST;
