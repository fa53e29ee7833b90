//! `metrics."<name>"`: `ts`, `value` and a column per label.
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::logical_expr::Expr;
use foretell_engine::{MatchOp, MetricInfo, Scan, ScanBatch, Selector, Series, SeriesId, Snapshot, TimeRange};
use hashbrown::{HashMap, HashSet};

use super::columns::{BatchMaker, Column};
use super::partial::Plain;
use super::plan::Rows;
use super::pushdown::{Conditions, Shape};
use super::scan_exec::{Reader, Source, external, is_few};
use super::{label_columns, label_type, timestamp_type};
use crate::default_detector::bits::{ANOMALOUS, Bits};

/// One metric as a table.
#[derive(Clone)]
pub(crate) struct MetricTable {
    snapshot: Snapshot,
    metric: Arc<str>,
    columns: Vec<Column>,
    schema: SchemaRef,
    only: Option<Arc<HashSet<u32>>>,
    shows_bits: bool,
}

impl fmt::Debug for MetricTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MetricTable({})", self.metric)
    }
}

impl MetricTable {
    pub(crate) fn new(snapshot: Snapshot, info: &MetricInfo) -> Self {
        let mut fields = vec![Field::new("ts", timestamp_type(), false), Field::new("value", DataType::Float64, false)];
        let mut columns = vec![Column::Ts, Column::Value];
        for (label, column) in label_columns(info.label_names.iter().map(|l| &**l)) {
            fields.push(Field::new(column, label_type(), true));
            columns.push(Column::Label(label));
        }
        let schema = Arc::new(Schema::new(fields));
        Self { snapshot, metric: Arc::clone(&info.name), columns, schema, only: None, shows_bits: false }
    }

    /// The same table with the bits of the default detector as its last column, unless a label has its name.
    pub(crate) fn with_bits(mut self) -> Self {
        if self.schema.index_of(ANOMALOUS).is_err() {
            self.shows_bits = true;
            self.schema = with_bit_field(&self.schema);
            self.columns.push(Column::Anomalous);
        }
        self
    }

    /// The same table with no rows but those of the series with these numbers.
    pub(crate) fn limited(&self, series: Arc<HashSet<u32>>) -> Self {
        Self { only: Some(series), ..self.clone() }
    }

    /// What it shows, unless that is only a part of the metric.
    pub(crate) fn plain(&self) -> Option<Plain> {
        (self.only.is_none() && !self.shows_bits).then(|| Plain {
            snapshot: self.snapshot.clone(),
            metric: Some(self.metric.to_string()),
            columns: self.columns.clone(),
            schema: Arc::clone(&self.schema),
        })
    }

    /// The metric it shows.
    pub(crate) fn metric(&self) -> &str {
        &self.metric
    }
}

impl Shape for MetricTable {
    fn label(&self, expr: &Expr) -> Option<String> {
        let Expr::Column(column) = expr else { return None };
        match &self.columns[self.schema.index_of(&column.name).ok()?] {
            Column::Label(name) => Some(name.clone()),
            _ => None,
        }
    }
}

impl Rows for MetricTable {
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
        let columns = columns.iter().map(|&i| self.columns[i].clone()).collect();
        let mut series = select(&self.snapshot, Some(self.metric.to_string()), &conditions)?;
        keep(&mut series, self.only.as_deref());
        let metric = Some(self.metric.to_string());
        let source = SeriesSource::of(&self.snapshot, metric, series, conditions, schema, columns, session)?;
        Ok(Arc::new(source))
    }
}

/// `schema` and the column of bits.
pub(super) fn with_bit_field(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().cloned();
    let bit = Arc::new(Field::new(ANOMALOUS, DataType::Boolean, false));
    Arc::new(Schema::new(fields.chain([bit]).collect::<Vec<_>>()))
}

/// Plain series, split over partitions.
pub(crate) struct SeriesSource {
    snapshot: Snapshot,
    metric: Option<String>,
    conditions: Conditions,
    series: Vec<Series>,
    spread: Spread,
    columns: Vec<Column>,
    schema: SchemaRef,
    /// Of the series.
    _memory: MemoryReservation,
}

impl SeriesSource {
    /// Resolves the series now, so that every partition agrees about them.
    pub(crate) fn select(
        snapshot: &Snapshot,
        metric: Option<&str>,
        conditions: Conditions,
        schema: SchemaRef,
        columns: Vec<Column>,
        session: &dyn Session,
    ) -> Result<Self> {
        let metric = metric.map(str::to_owned);
        let series = select(snapshot, metric.clone(), &conditions)?;
        Self::of(snapshot, metric, series, conditions, schema, columns, session)
    }

    /// Over `series`, which `conditions` leave.
    fn of(
        snapshot: &Snapshot,
        metric: Option<String>,
        series: Vec<Series>,
        conditions: Conditions,
        schema: SchemaRef,
        columns: Vec<Column>,
        session: &dyn Session,
    ) -> Result<Self> {
        let memory = reserve(session, &series)?;
        let spread = Spread::of(snapshot, &series, conditions.range, session);
        Ok(Self { snapshot: snapshot.clone(), metric, conditions, series, spread, columns, schema, _memory: memory })
    }
}

/// Memory of `series` in the pool of all queries.
pub(crate) fn reserve(session: &dyn Session, series: &[Series]) -> Result<MemoryReservation> {
    let memory = MemoryConsumer::new("the series of a scan").register(&session.runtime_env().memory_pool);
    memory.try_grow(series.iter().map(|one| size_of::<Series>() + one.labels.own_bytes()).sum())?;
    Ok(memory)
}

/// Memory that opening a reader of `columns` of `series` takes, about.
pub(crate) fn opening_bytes<'a>(series: &[Series], columns: impl IntoIterator<Item = &'a Column>) -> usize {
    // The first few stand for all: reading each would take as long as opening.
    let looked_at = series.iter().take(64);
    let label_bytes: usize = looked_at.clone().map(|one| one.labels.as_bytes().len()).sum();
    let mean_bytes = label_bytes / looked_at.count().max(1) + 1;
    series.len() * (2 * size_of::<SeriesId>() + BatchMaker::making_bytes(columns, mean_bytes))
}

/// The series that `conditions` leave.
pub(crate) fn select(snapshot: &Snapshot, metric: Option<String>, conditions: &Conditions) -> Result<Vec<Series>> {
    if conditions.never {
        return Ok(Vec::new());
    }
    let selector = Selector { metric, matchers: conditions.matchers.clone(), range: conditions.range };
    snapshot.select(&selector).map_err(external)
}

/// Leaves the series with numbers in `only`, if there is such a limit.
pub(super) fn keep(series: &mut Vec<Series>, only: Option<&HashSet<u32>>) {
    if let Some(only) = only {
        series.retain(|one| only.contains(&one.id.number()));
    }
}

/// How series are split over partitions.
pub(crate) struct Spread {
    pub(crate) parts: Vec<Range<usize>>,
    /// Of all of them, about.
    pub(crate) rows: usize,
}

impl Spread {
    /// Over all cores, unless the rows of `series` in `range` are few.
    pub(crate) fn of(snapshot: &Snapshot, series: &[Series], range: TimeRange, session: &dyn Session) -> Self {
        let rows = usize::try_from(snapshot.rows_estimate(series, range)).unwrap_or(usize::MAX);
        let partitions = if is_few(rows, session.config()) { 1 } else { session.config().target_partitions() };
        Self { parts: split(series.len(), partitions), rows }
    }
}

/// `n` items in at most `parts` ranges of nearly equal length, at least one.
pub(crate) fn split(n: usize, parts: usize) -> Vec<Range<usize>> {
    let parts = parts.clamp(1, n.max(1));
    (0..parts).map(|i| n * i / parts..n * (i + 1) / parts).collect()
}

/// Numbers that are equal for series with equal `labels`; none if all series differ.
pub(crate) fn alike(series: &[Series], labels: &[&Column]) -> Vec<u32> {
    let mut numbers: HashMap<Vec<Option<&str>>, u32> = HashMap::new();
    let mut alike = Vec::with_capacity(series.len());
    for one in series {
        let mut values = Vec::with_capacity(labels.len());
        for label in labels {
            match label {
                Column::Label(name) => values.push(one.labels.get(name)),
                // A map of all labels tells all series of a metric apart.
                _ => return Vec::new(),
            }
        }
        let next = numbers.len() as u32;
        alike.push(*numbers.entry(values).or_insert(next));
    }
    if numbers.len() == series.len() { Vec::new() } else { alike }
}

/// The part of EXPLAIN that all sources share.
pub(crate) fn describe(
    f: &mut fmt::Formatter<'_>,
    metric: Option<&str>,
    series: usize,
    conditions: &Conditions,
    schema: &SchemaRef,
) -> fmt::Result {
    match metric {
        Some(metric) => write!(f, "metric={metric}, series={series}")?,
        None => write!(f, "all metrics, series={series}")?,
    }
    let TimeRange { start, end } = conditions.range;
    match (start, end) {
        (i64::MIN, i64::MAX) => {}
        (i64::MIN, end) => write!(f, ", ts=[..={end}]")?,
        (start, i64::MAX) => write!(f, ", ts=[{start}..]")?,
        (start, end) => write!(f, ", ts=[{start}..={end}]")?,
    }
    if !conditions.matchers.is_empty() {
        let matchers: Vec<String> = conditions
            .matchers
            .iter()
            .map(|m| {
                let op = match m.op {
                    MatchOp::Equal => "=",
                    MatchOp::NotEqual => "!=",
                    MatchOp::Regex => "=~",
                    MatchOp::NotRegex => "!~",
                    MatchOp::OneOf => " in ",
                };
                format!("{}{op}{:?}", m.name, m.value.replace('\0', "|"))
            })
            .collect();
        write!(f, ", matchers=[{}]", matchers.join(", "))?;
    }
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    write!(f, ", projection=[{}]", names.join(", "))
}

impl fmt::Debug for SeriesSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.describe(f)
    }
}

impl Source for SeriesSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn partitions(&self) -> usize {
        self.spread.parts.len()
    }

    fn rows(&self) -> Option<usize> {
        Some(self.spread.rows)
    }

    fn is_a_series_each(&self, labels: &[usize], time: usize) -> bool {
        let labels: Option<Vec<&Column>> =
            labels.iter().map(|&at| self.columns.get(at).filter(|column| matches!(column, Column::Label(_)))).collect();
        let in_time = self.columns.get(time) == Some(&Column::Ts);
        self.metric.is_some() && in_time && labels.is_some_and(|labels| alike(&self.series, &labels).is_empty())
    }

    fn opening_bytes(&self, partition: usize) -> usize {
        opening_bytes(&self.series[self.spread.parts[partition].clone()], &self.columns)
    }

    fn open(&self, partition: usize, rows: usize) -> Result<Box<dyn Reader>> {
        let series = &self.series[self.spread.parts[partition].clone()];
        let maker = BatchMaker::new(Arc::clone(&self.schema), &self.columns, series)?;
        let ids: Vec<SeriesId> = series.iter().map(|s| s.id).collect();
        let want_values = self.columns.contains(&Column::Value);
        let maker = match self.columns.contains(&Column::Anomalous) {
            true => maker.with_bits(Bits::read(&self.snapshot, &ids, self.conditions.range)?),
            false => maker,
        };
        let scan = self.snapshot.scan(&ids, self.conditions.range, want_values, rows.max(1)).map_err(external)?;
        Ok(Box::new(SeriesReader { scan, maker, scanned: ScanBatch::default() }))
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, self.metric.as_deref(), self.series.len(), &self.conditions, &self.schema)
    }
}

struct SeriesReader {
    scan: Scan,
    maker: BatchMaker,
    scanned: ScanBatch,
}

impl Reader for SeriesReader {
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        while self.scan.next_batch(&mut self.scanned).map_err(external)? {
            if !self.scanned.ts.is_empty() {
                return self.maker.make(&mut self.scanned).map(Some);
            }
        }
        Ok(None)
    }

    fn bytes(&self) -> usize {
        self.scan.bytes() + self.maker.bytes()
    }
}
