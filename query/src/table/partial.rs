//! Plain series, summed up by series and step of time.
//!
//! ```text
//!  ts   | a | value          ts (start of step) | a | min(value) | max(value) | … | count(*)
//!  12:01| x | 1.0            12:00              | x | 1.0        | 3.0        |   | 2
//!  12:03| x | 3.0     ──►
//! ```
//! A row stands for one or more rows of the table; a series and step may have several ([`foretell_engine::Aggregate`] says
//! why). Nobody can name this table: `rule::partial_aggregates` puts it below an aggregation that combines its rows. Asked
//! for no more than the newest sample of each series, it looks only for those.
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use foretell_engine::{Aggregate, AggregateBatch, Aggregation, Series, SeriesId, Snapshot, Statistics, TimeRange};

use super::columns::{Column, PerSeries, times};
use super::metric::{MetricTable, Spread, alike, describe, opening_bytes, reserve, select};
use super::plan::Table;
use super::pushdown::{Conditions, Shape};
use super::samples::SamplesTable;
use super::scan_exec::{Reader, ScanExec, Source, external};
use super::timestamp_type;
use crate::duration;

/// Series whose newest samples are looked for at a time.
const SERIES_AT_ONCE: usize = 64 << 10;

/// What a table of plain series shows.
#[derive(Clone)]
pub(crate) struct Plain {
    pub(crate) snapshot: Snapshot,
    /// Whose series; every metric's if `None`.
    pub(crate) metric: Option<String>,
    pub(crate) columns: Vec<Column>,
    pub(crate) schema: SchemaRef,
}

/// The plain series that `table` shows, if it shows such, and how.
pub(crate) fn plain(table: &dyn TableProvider) -> Option<(Plain, &dyn Shape)> {
    if let Some(Table(table)) = table.downcast_ref::<Table<MetricTable>>() {
        return Some((table.plain()?, table));
    }
    let Table(table) = table.downcast_ref::<Table<SamplesTable>>()?;
    Some((table.plain()?, table))
}

/// What is known of the rows that a row stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statistic {
    Rows,
    Min,
    Max,
    Sum,
    FirstTs,
    First,
    LastTs,
    Last,
}

impl Statistic {
    const ALL: [Self; 8] =
        [Self::Rows, Self::Min, Self::Max, Self::Sum, Self::FirstTs, Self::First, Self::LastTs, Self::Last];

    /// Name of its column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rows => "count(*)",
            Self::Min => "min(value)",
            Self::Max => "max(value)",
            Self::Sum => "sum(value)",
            Self::FirstTs => "min(ts)",
            Self::First => "first(value)",
            Self::LastTs => "max(ts)",
            Self::Last => "last(value)",
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Rows => DataType::Int64,
            Self::FirstTs | Self::LastTs => timestamp_type(),
            Self::Min | Self::Max | Self::Sum | Self::First | Self::Last => DataType::Float64,
        }
    }
}

#[derive(Clone, Debug)]
enum Shown {
    /// First instant of the step, in the column of time.
    Start,
    Label(Column),
    Statistic(Statistic),
}

/// The table.
pub(crate) struct PartialTable {
    plain: Plain,
    conditions: Conditions,
    step_ns: Option<i64>,
    unordered: bool,
    columns: Vec<Shown>,
    schema: SchemaRef,
}

impl fmt::Debug for PartialTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartialTable({:?})", self.plain.metric)
    }
}

impl PartialTable {
    /// Over the rows of `plain` that meet `conditions`, by steps of `step_ns` or in one. `unordered` says that the order of
    /// rows never changes what becomes of them, not even of NaN. `None` if a label has the name of one of its columns.
    pub(crate) fn new(plain: Plain, conditions: Conditions, step_ns: Option<i64>, unordered: bool) -> Option<Self> {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (column, field) in plain.columns.iter().zip(plain.schema.fields()) {
            let shown = match column {
                Column::Ts => Shown::Start,
                Column::Value | Column::Anomalous => continue,
                label => Shown::Label(label.clone()),
            };
            columns.push(shown);
            fields.push(Arc::clone(field));
        }
        for statistic in Statistic::ALL {
            if fields.iter().any(|field| field.name() == statistic.name()) {
                return None;
            }
            columns.push(Shown::Statistic(statistic));
            fields.push(Arc::new(Field::new(statistic.name(), statistic.data_type(), false)));
        }
        let schema = Arc::new(Schema::new(fields));
        Some(Self { plain, conditions, step_ns, unordered, columns, schema })
    }

    /// Chooses how to answer `columns`.
    fn source(&self, columns: Vec<Shown>, schema: SchemaRef, session: &dyn Session) -> Result<PartialSource> {
        let asked = |wanted: &[Statistic]| {
            columns.iter().any(|column| matches!(column, Shown::Statistic(shown) if wanted.contains(shown)))
        };
        let statistics = Statistics {
            extremes: asked(&[Statistic::Min, Statistic::Max]),
            sum: asked(&[Statistic::Sum]),
            times: asked(&[Statistic::FirstTs, Statistic::LastTs]),
            ends: asked(&[Statistic::First, Statistic::Last]),
            sketch: false,
        };
        let newest_only = self.step_ns.is_none()
            && asked(&[Statistic::Last, Statistic::LastTs])
            && columns.iter().all(|column| {
                matches!(column, Shown::Label(_) | Shown::Statistic(Statistic::Last | Statistic::LastTs))
            });
        let series = select(&self.plain.snapshot, self.plain.metric.clone(), &self.conditions)?;
        let memory = reserve(session, &series)?;
        let groups = if self.unordered || !statistics.extremes {
            let labels: Vec<&Column> = labels(&columns).collect();
            // An entry of the table of values in use for each series, if all differ, and the numbers.
            let entry_bytes = 2 * (size_of::<Vec<Option<&str>>>() + labels.len() * size_of::<Option<&str>>());
            let making_bytes = series.len() * (entry_bytes + 2 * size_of::<u32>());
            memory.try_grow(making_bytes)?;
            let groups = alike(&series, &labels);
            memory.shrink(making_bytes - groups.len() * size_of::<u32>());
            groups
        } else {
            Vec::new()
        };
        Ok(PartialSource {
            snapshot: self.plain.snapshot.clone(),
            metric: self.plain.metric.clone(),
            conditions: self.conditions.clone(),
            step_ns: self.step_ns,
            statistics,
            newest_only,
            spread: Spread::of(&self.plain.snapshot, &series, self.conditions.range, session),
            series,
            groups,
            columns,
            schema,
            _memory: memory,
        })
    }
}

fn labels(columns: &[Shown]) -> impl Iterator<Item = &Column> {
    columns.iter().filter_map(|column| match column {
        Shown::Label(label) => Some(label),
        Shown::Start | Shown::Statistic(_) => None,
    })
}

#[async_trait]
impl TableProvider for PartialTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.columns.len()).collect();
        let projection = projection.map_or(all.as_slice(), Vec::as_slice);
        let columns = projection.iter().map(|&i| self.columns[i].clone()).collect();
        let schema = Arc::new(self.schema.project(projection)?);
        let source = self.source(columns, schema, session)?;
        Ok(Arc::new(ScanExec::new(Arc::new(source), limit)))
    }
}

/// The series, split over partitions as the table itself splits them.
struct PartialSource {
    snapshot: Snapshot,
    metric: Option<String>,
    conditions: Conditions,
    step_ns: Option<i64>,
    statistics: Statistics,
    newest_only: bool,
    series: Vec<Series>,
    groups: Vec<u32>,
    spread: Spread,
    columns: Vec<Shown>,
    schema: SchemaRef,
    /// Of the series.
    _memory: MemoryReservation,
}

impl fmt::Debug for PartialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Source for PartialSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn partitions(&self) -> usize {
        self.spread.parts.len()
    }

    fn rows(&self) -> Option<usize> {
        Some(self.spread.rows)
    }

    fn opening_bytes(&self, partition: usize) -> usize {
        opening_bytes(&self.series[self.spread.parts[partition].clone()], labels(&self.columns))
    }

    fn open(&self, partition: usize, rows: usize) -> Result<Box<dyn Reader>> {
        let part = self.spread.parts[partition].clone();
        let series = &self.series[part.clone()];
        let ids: Vec<SeriesId> = series.iter().map(|s| s.id).collect();
        let maker = Maker::new(Arc::clone(&self.schema), &self.columns, series)?;
        let range = self.conditions.range;
        if self.newest_only {
            return Ok(Box::new(NewestReader { snapshot: self.snapshot.clone(), ids, range, next: 0, maker }));
        }
        let groups = self.groups.get(part).unwrap_or_default();
        let aggregate = Aggregate { series: &ids, groups, range, step_ns: self.step_ns, statistics: self.statistics };
        let aggregation = self.snapshot.aggregate(&aggregate, rows.max(1)).map_err(external)?;
        Ok(Box::new(PartialReader { aggregation, maker, batch: AggregateBatch::default() }))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, self.metric.as_deref(), self.series.len(), &self.conditions, &self.schema)?;
        match (self.newest_only, self.step_ns) {
            (true, _) => write!(f, ", newest sample by series"),
            (false, None) => write!(f, ", summed up by series"),
            (false, Some(step)) => write!(f, ", summed up by series and {}", duration::format(step)),
        }
    }
}

struct PartialReader {
    aggregation: Aggregation,
    maker: Maker,
    batch: AggregateBatch,
}

impl Reader for PartialReader {
    /// Batches may be empty: then much was read for nothing yet, and the query may be cancelled in between.
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let more = self.aggregation.next_batch(&mut self.batch).map_err(external)?;
        more.then(|| self.maker.make(&mut self.batch)).transpose()
    }

    fn bytes(&self) -> usize {
        self.aggregation.bytes() + self.maker.bytes()
    }

    fn rows_unread(&self) -> u64 {
        self.aggregation.rows_unread()
    }

    fn rows_rolled_up(&self) -> u64 {
        self.aggregation.rows_rolled_up()
    }
}

struct NewestReader {
    snapshot: Snapshot,
    ids: Vec<SeriesId>,
    range: TimeRange,
    next: usize,
    maker: Maker,
}

impl Reader for NewestReader {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let rest = &self.ids[self.next..];
        let ids = &rest[..rest.len().min(SERIES_AT_ONCE)];
        if ids.is_empty() {
            return Ok(None);
        }
        let mut batch = AggregateBatch::default();
        let found = self.snapshot.last_values(ids, self.range).map_err(external)?;
        for (index, (ts, value)) in (self.next as u32..).zip(found).filter_map(|(index, found)| Some((index, found?))) {
            batch.runs.push((index, 1));
            batch.last_ts.push(ts);
            batch.last.push(value);
        }
        self.next += ids.len();
        self.maker.make(&mut batch).map(Some)
    }

    fn bytes(&self) -> usize {
        self.ids.len() * size_of::<SeriesId>() + self.maker.bytes()
    }
}

/// Makes record batches for one partition's series.
struct Maker {
    schema: SchemaRef,
    columns: Vec<Made>,
}

enum Made {
    Start,
    Labels(PerSeries),
    Statistic(Statistic),
}

impl Maker {
    fn new(schema: SchemaRef, columns: &[Shown], series: &[Series]) -> Result<Self> {
        let mut made = Vec::with_capacity(columns.len());
        for column in columns {
            made.extend(match column {
                Shown::Start => Some(Made::Start),
                Shown::Label(label) => PerSeries::of(label, series)?.map(Made::Labels),
                Shown::Statistic(statistic) => Some(Made::Statistic(*statistic)),
            });
        }
        Ok(Self { schema, columns: made })
    }

    /// Memory it holds, about.
    fn bytes(&self) -> usize {
        let bytes = self.columns.iter().map(|column| match column {
            Made::Labels(labels) => labels.bytes(),
            Made::Start | Made::Statistic(_) => 0,
        });
        bytes.sum()
    }

    /// Takes what is in `batch`.
    fn make(&self, batch: &mut AggregateBatch) -> Result<RecordBatch> {
        use std::mem::take;
        let rows = batch.runs.iter().map(|run| run.1 as usize).sum();
        let doubles = |values: Vec<f64>| Arc::new(Float64Array::from(values)) as ArrayRef;
        let arrays = self.columns.iter().map(|column| {
            Ok(match column {
                Made::Labels(labels) => labels.array(&batch.runs, rows)?,
                Made::Start => times(take(&mut batch.starts)),
                Made::Statistic(Statistic::Rows) => Arc::new(Int64Array::from(take(&mut batch.rows))),
                Made::Statistic(Statistic::FirstTs) => times(take(&mut batch.first_ts)),
                Made::Statistic(Statistic::LastTs) => times(take(&mut batch.last_ts)),
                Made::Statistic(Statistic::Min) => doubles(take(&mut batch.min)),
                Made::Statistic(Statistic::Max) => doubles(take(&mut batch.max)),
                Made::Statistic(Statistic::Sum) => doubles(take(&mut batch.sum)),
                Made::Statistic(Statistic::First) => doubles(take(&mut batch.first)),
                Made::Statistic(Statistic::Last) => doubles(take(&mut batch.last)),
            })
        });
        let arrays = arrays.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }
}
