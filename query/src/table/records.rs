//! `histograms` and `exemplars`: records of every series, with time, metric and labels like `samples`.
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::Expr;
use foretell_engine::types::METRIC_NAME;
use foretell_engine::{RecordScan, ScanBatch, Series, SeriesId, Snapshot};

use super::columns::{BatchMaker, Column, map_type};
use super::metric::{describe, opening_bytes, reserve, select, split};
use super::plan::Rows;
use super::pushdown::{Conditions, Shape};
use super::scan_exec::{Reader, Source, external};
use super::{histogram, label_type, samples, timestamp_type};
use crate::native::{self, list_type};

/// Which records a table shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Native histograms.
    Histograms,
    /// Exemplars.
    Exemplars,
}

impl Kind {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Histograms, Self::Exemplars];

    /// Name of the table in SQL, and of its records in the engine.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Histograms => native::HISTOGRAMS,
            Self::Exemplars => native::EXEMPLARS,
        }
    }

    fn columns(self) -> Vec<(Field, Shown)> {
        let fixed = |name, kind, nullable, column| (Field::new(name, kind, nullable), Shown::Fixed(column));
        let mut columns = vec![
            fixed("ts", timestamp_type(), false, Column::Ts),
            fixed("metric", label_type(), true, Column::Label(METRIC_NAME.to_owned())),
            fixed("labels", map_type(), false, Column::Labels),
        ];
        let made = |name, kind, payload| (Field::new(name, kind, true), Shown::Payload(payload));
        let stored = |name, kind| (Field::new(name, kind, true), Shown::Payload(Payload::Stored(name)));
        columns.extend(match self {
            Self::Histograms => vec![
                made("count", DataType::Float64, Payload::Count("count")),
                stored("sum", DataType::Float64),
                stored("schema", DataType::Int32),
                made("is_float", DataType::Boolean, Payload::Stored("float")),
                stored("zero_threshold", DataType::Float64),
                made("zero_count", DataType::Float64, Payload::Count("zero_count")),
                made("reset_hint", DataType::Utf8, Payload::ResetHint),
                made("start_ts", timestamp_type(), Payload::Start),
                made("buckets", histogram::buckets_type(), Payload::Buckets),
                made("count_int", DataType::UInt64, Payload::Integer("count")),
                made("zero_count_int", DataType::UInt64, Payload::Integer("zero_count")),
                stored("negative_spans", native::spans_type()),
                stored("negative_deltas", list_type(DataType::Int64)),
                stored("negative_counts", list_type(DataType::Float64)),
                stored("positive_spans", native::spans_type()),
                stored("positive_deltas", list_type(DataType::Int64)),
                stored("positive_counts", list_type(DataType::Float64)),
                stored("custom_values", list_type(DataType::Float64)),
            ],
            Self::Exemplars => {
                vec![stored("value", DataType::Float64), made("exemplar_labels", map_type(), Payload::Stored("labels"))]
            }
        });
        columns
    }
}

/// A column of the table.
#[derive(Clone, Debug)]
enum Shown {
    /// Of the series, or the time.
    Fixed(Column),
    /// Of the record.
    Payload(Payload),
}

/// What is made of stored columns.
#[derive(Clone, Copy, Debug)]
enum Payload {
    /// The column as it is.
    Stored(&'static str),
    /// An integer or the bits of a double, as a double.
    Count(&'static str),
    /// The same where it is an integer.
    Integer(&'static str),
    ResetHint,
    Start,
    Buckets,
}

impl Payload {
    /// The stored columns that it is made of.
    fn needs(self) -> Vec<&'static str> {
        match self {
            Self::Stored(name) => vec![name],
            Self::Count(name) | Self::Integer(name) => vec![name, "float"],
            Self::ResetHint => vec!["reset_hint"],
            Self::Start => vec!["start_ms"],
            Self::Buckets => vec![
                "schema",
                "float",
                "zero_count",
                "zero_threshold",
                "custom_values",
                "negative_spans",
                "negative_deltas",
                "negative_counts",
                "positive_spans",
                "positive_deltas",
                "positive_counts",
            ],
        }
    }

    fn array(self, batch: &RecordBatch) -> Result<ArrayRef> {
        match self {
            Self::Stored(name) => histogram::stored(batch, name).map(Arc::clone),
            Self::Count(name) => histogram::counts(batch, name),
            Self::Integer(name) => histogram::integer_counts(batch, name),
            Self::ResetHint => histogram::reset_hints(batch),
            Self::Start => histogram::starts(batch),
            Self::Buckets => histogram::buckets(batch),
        }
    }
}

/// One of the tables.
pub(crate) struct RecordsTable {
    snapshot: Snapshot,
    kind: Kind,
    columns: Vec<Shown>,
    schema: SchemaRef,
}

impl fmt::Debug for RecordsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordsTable({})", self.kind.name())
    }
}

impl RecordsTable {
    pub(crate) fn new(snapshot: Snapshot, kind: Kind) -> Self {
        let (fields, columns): (Vec<Field>, Vec<Shown>) = kind.columns().into_iter().unzip();
        Self { snapshot, kind, columns, schema: Arc::new(Schema::new(fields)) }
    }
}

impl Shape for RecordsTable {
    fn label(&self, expr: &Expr) -> Option<String> {
        samples::shown_label(expr)
    }
}

impl Rows for RecordsTable {
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
        // Before the first record there is no table in the engine.
        let written = self.snapshot.record_table(self.kind.name()).is_some();
        let series = if written { select(&self.snapshot, None, &conditions)? } else { Vec::new() };
        let memory = reserve(session, &series)?;
        let parts = split(series.len(), session.config().target_partitions());
        let columns = columns.iter().map(|&i| self.columns[i].clone()).collect();
        let (snapshot, kind) = (self.snapshot.clone(), self.kind);
        Ok(Arc::new(RecordSource { snapshot, kind, conditions, series, parts, columns, schema, _memory: memory }))
    }
}

struct RecordSource {
    snapshot: Snapshot,
    kind: Kind,
    conditions: Conditions,
    series: Vec<Series>,
    parts: Vec<Range<usize>>,
    columns: Vec<Shown>,
    schema: SchemaRef,
    /// Of the series.
    _memory: MemoryReservation,
}

impl RecordSource {
    /// The columns that do not come from the records.
    fn fixed(&self) -> Vec<Column> {
        let fixed = self.columns.iter().filter_map(|column| match column {
            Shown::Fixed(column) => Some(column.clone()),
            Shown::Payload(_) => None,
        });
        fixed.collect()
    }
}

impl fmt::Debug for RecordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Source for RecordSource {
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
        let scan = if ids.is_empty() {
            None
        } else {
            let payloads = self.columns.iter().filter_map(|column| match column {
                Shown::Payload(payload) => Some(payload.needs()),
                Shown::Fixed(_) => None,
            });
            let needed: Vec<&str> = payloads.flatten().collect::<BTreeSet<_>>().into_iter().collect();
            let range = self.conditions.range;
            Some(self.snapshot.scan_records(self.kind.name(), &ids, range, Some(&needed)).map_err(external)?)
        };
        let indexes = self.columns.iter().enumerate().filter(|(_, column)| matches!(column, Shown::Fixed(_)));
        let indexes: Vec<usize> = indexes.map(|(i, _)| i).collect();
        let maker = BatchMaker::new(Arc::new(self.schema.project(&indexes)?), &self.fixed(), series)?;
        let (columns, schema) = (self.columns.clone(), Arc::clone(&self.schema));
        Ok(Box::new(RecordReader { scan, ids, maker, columns, schema }))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, Some(self.kind.name()), self.series.len(), &self.conditions, &self.schema)
    }
}

struct RecordReader {
    scan: Option<RecordScan>,
    ids: Vec<SeriesId>,
    maker: BatchMaker,
    columns: Vec<Shown>,
    schema: SchemaRef,
}

impl Reader for RecordReader {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(scan) = &mut self.scan else { return Ok(None) };
        while let Some(batch) = scan.next_batch().map_err(external)? {
            if batch.num_rows() > 0 {
                return self.shown(&batch).map(Some);
            }
        }
        Ok(None)
    }

    fn bytes(&self) -> usize {
        self.scan.as_ref().map_or(0, RecordScan::bytes) + self.maker.bytes()
    }
}

impl RecordReader {
    fn shown(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let series = histogram::stored(batch, "series")?.as_primitive::<UInt64Type>().values();
        let ts = histogram::stored(batch, "ts")?.as_primitive::<Int64Type>().values().to_vec();
        let runs = series.chunk_by(|a, b| a == b).filter_map(|run| {
            let of = self.ids.binary_search(&SeriesId(run[0])).ok()?;
            Some((of as u32, run.len() as u32))
        });
        let fixed = self.maker.make(&mut ScanBatch { runs: runs.collect(), ts, values: Vec::new() })?;
        let mut fixed = fixed.columns().iter();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            match column {
                Shown::Fixed(_) => arrays.extend(fixed.next().cloned()),
                Shown::Payload(payload) => arrays.push(payload.array(batch)?),
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }
}
