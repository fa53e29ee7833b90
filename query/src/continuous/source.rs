//! What a query reads: the series of a metric with their labels, and rows of it as Arrow batches.
//!
//! Batches have exactly the columns the query mentions, in the form in which the table delivers them, so that an expression gives
//! the same bits over the feed as over storage. What a continuous query wrote has several series a row, one of each column: they are
//! one *key* here, with the smallest number among them. Of events (`logs`, `spans`) nothing is known: they are read by DataFusion only.
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, RecordBatch, new_null_array,
};
use arrow::datatypes::{Int32Type, SchemaRef, TimestampNanosecondType};
use datafusion::physical_plan::PhysicalExpr;
use foretell_engine::{Lsn, Scan, ScanBatch, Selector, Series, SeriesId, Snapshot, TimeRange};
use hashbrown::HashMap;

use super::grid::timestamps;
use super::output::LabelColumn;
use super::plan::{Origin, OriginKind, TS};
use crate::error::{Error, Result};
use crate::table;
use crate::table::columns::{BatchMaker, Column};
use crate::table::derived::{DerivedTable, FIELD_LABEL};
use crate::table::scan_exec::Reader;

/// Rows read from storage at once.
const SCAN_ROWS: usize = 16 << 10;

/// Samples of the source.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// None for events.
    pub(super) ids: Vec<SeriesId>,
    pub(super) ts: Vec<i64>,
    /// None for events.
    pub(super) values: Vec<f64>,
}

impl Rows {
    pub(super) fn push(&mut self, id: SeriesId, ts: i64, value: f64) {
        self.ids.push(id);
        self.ts.push(ts);
        self.values.push(value);
    }
    pub(super) fn len(&self) -> usize {
        self.ts.len()
    }
    pub(super) fn is_empty(&self) -> bool {
        self.ts.is_empty()
    }
}

/// Which rows of `batch` fulfil a condition.
///
/// # Errors
/// As the expression.
pub(super) fn condition(filter: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<BooleanArray> {
    let flags =
        filter.evaluate(batch).and_then(|value| value.into_array(batch.num_rows())).map_err(Error::from_datafusion)?;
    flags.as_boolean_opt().cloned().ok_or_else(|| Error::internal("WHERE is not a condition"))
}

/// Rows of the table that a query reads, in the order of time within each key.
pub(super) struct Lines {
    /// The key of each.
    pub(super) keys: Vec<u32>,
    pub(super) ts: Vec<i64>,
    pub(super) batch: RecordBatch,
}

/// The first and the last of some instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Span {
    pub(super) fn at(ts: i64) -> Self {
        Self { from: ts, to: ts }
    }
    pub(super) fn widen(&mut self, other: Self) {
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
    }
}

/// The rows of a key, to be read batch by batch.
pub(super) enum Opened {
    Nothing,
    Metric { key: u32, maker: BatchMaker, scan: Box<Scan> },
    Derived { key: u32, time: usize, reader: Box<dyn Reader> },
}

impl Opened {
    /// The next rows.
    ///
    /// # Errors
    /// As a scan.
    pub(super) fn next(&mut self) -> Result<Option<Lines>> {
        match self {
            Self::Nothing => Ok(None),
            Self::Metric { key, maker, scan } => {
                let mut scanned = ScanBatch::default();
                while scan.next_batch(&mut scanned).map_err(|e| Error::from_engine(&e))? {
                    if !scanned.ts.is_empty() {
                        let ts = scanned.ts.clone();
                        let batch = maker.make(&mut scanned).map_err(Error::from_datafusion)?;
                        return Ok(Some(Lines { keys: vec![*key; ts.len()], ts, batch }));
                    }
                }
                Ok(None)
            }
            Self::Derived { key, time, reader } => {
                let Some(batch) = reader.next().map_err(Error::from_datafusion)? else { return Ok(None) };
                let ts = batch.column(*time).as_primitive::<TimestampNanosecondType>().values().to_vec();
                Ok(Some(Lines { keys: vec![*key; ts.len()], ts, batch }))
            }
        }
    }
}

/// The source of one query.
pub(super) struct Source {
    origin: Origin,
    /// The high half of the ids of its series, once there is one.
    ordinal: Option<u32>,
    schema: SchemaRef,
    columns: Vec<Column>,
    series: HashMap<u32, Series>,
    /// What of WHERE speaks of labels alone.
    label_filter: Option<Arc<dyn PhysicalExpr>>,
    /// By number of the series, whether it passes `label_filter`; `None` for one that is not stored.
    passes: Vec<Option<bool>>,
    /// Of a derived table: the key of each series whose number is not its key, and the series of each key.
    key_of: HashMap<u32, u32>,
    members: HashMap<u32, Vec<u32>>,
    /// The position as of which `series` is complete.
    learned: Lsn,
    /// How often `series` was read.
    readings: u64,
}

impl Source {
    /// `schema` holds the columns the query mentions, and `label_filter`, over those, what of WHERE speaks of labels alone.
    ///
    /// # Errors
    /// As a scan.
    pub(super) fn new(
        snapshot: &Snapshot,
        origin: &Origin,
        schema: SchemaRef,
        label_filter: Option<Arc<dyn PhysicalExpr>>,
    ) -> Result<Self> {
        let mut source = Self {
            origin: origin.clone(),
            ordinal: None,
            columns: Vec::new(),
            series: HashMap::new(),
            label_filter,
            passes: Vec::new(),
            key_of: HashMap::new(),
            members: HashMap::new(),
            learned: snapshot.lsn(),
            readings: 0,
            schema,
        };
        if origin.signal().is_none() {
            source.find(snapshot)?;
        }
        Ok(source)
    }

    /// The same source with nothing known but what `snapshot` has.
    ///
    /// # Errors
    /// As a scan.
    pub(super) fn anew(&self, snapshot: &Snapshot) -> Result<Self> {
        Self::new(snapshot, &self.origin, Arc::clone(&self.schema), self.label_filter.clone())
    }

    /// Looks for the metric, which may have its first series now.
    fn find(&mut self, snapshot: &Snapshot) -> Result<()> {
        let info = snapshot.metric(&self.origin.table);
        let labels: Vec<&str> = match &info {
            Some(info) => info.label_names.iter().map(|name| &**name).filter(|name| *name != FIELD_LABEL).collect(),
            None => Vec::new(),
        };
        let label_of: HashMap<String, String> =
            table::label_columns(labels.into_iter()).into_iter().map(|(label, column)| (column, label)).collect();
        let column = |name: &String| match name.as_str() {
            TS => Column::Ts,
            name if self.origin.values.iter().any(|value| value == name) => Column::Value,
            name => Column::Label(label_of.get(name).cloned().unwrap_or_else(|| name.to_owned())),
        };
        self.columns = self.schema.fields().iter().map(|field| column(field.name())).collect();
        self.ordinal = info.map(|info| info.ordinal);
        self.learn(snapshot)
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }
    /// The high half of the ids of its series, once there is one.
    pub(super) fn ordinal(&self) -> Option<u32> {
        self.ordinal
    }
    /// Every series stored, by number.
    pub(super) fn series(&self) -> &HashMap<u32, Series> {
        &self.series
    }
    /// The key of a series.
    pub(super) fn key(&self, number: u32) -> u32 {
        self.key_of.get(&number).copied().unwrap_or(number)
    }
    /// Every key stored.
    pub(super) fn keys(&self) -> impl Iterator<Item = u32> {
        self.series.keys().copied().filter(|number| !self.key_of.contains_key(number))
    }
    /// The label of a key that column `index` shows.
    pub(super) fn label(&self, key: u32, index: usize) -> Option<&str> {
        match &self.columns[index] {
            Column::Label(name) => self.series.get(&key)?.labels.get(name),
            _ => None,
        }
    }
    /// Another number when [`Source::series`] may be others.
    pub(super) fn readings(&self) -> u64 {
        self.readings
    }
    /// One past the highest series number of the metric.
    pub(super) fn series_end(&self) -> u64 {
        self.series.keys().map(|&n| u64::from(n) + 1).max().unwrap_or(0)
    }

    /// Those of `rows`, which `snapshot` sees, that pass what WHERE says of labels. Rows of series that are no longer stored are not
    /// among them: a retention dropped them before the feed came to them. All others are known afterwards.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub(super) fn relevant_rows(&mut self, snapshot: &Snapshot, rows: &Rows) -> Result<Rows> {
        if self.origin.signal().is_some() {
            return Ok(rows.clone());
        }
        let (mut kept, mut passed_over) = (Rows::default(), 0);
        for (row, id) in rows.ids.iter().enumerate() {
            if self.passes(id.number()).is_none() && self.learned < snapshot.lsn() {
                self.learn(snapshot)?;
            }
            match self.passes(id.number()) {
                Some(true) => kept.push(*id, rows.ts[row], rows.values[row]),
                Some(false) => {}
                None => passed_over += 1,
            }
        }
        if passed_over > 0 {
            let table = &self.origin.table;
            tracing::info!(table, rows = passed_over, "passing over rows that are no longer stored");
        }
        Ok(kept)
    }

    /// Whether a series passes what WHERE says of labels; `None` when it is not stored.
    fn passes(&self, number: u32) -> Option<bool> {
        self.passes.get(number as usize).copied().flatten()
    }

    /// The keys that pass what WHERE says of labels.
    pub(super) fn relevant_keys(&self) -> impl Iterator<Item = u32> {
        self.keys().filter(|&key| self.passes(key) == Some(true))
    }

    /// Learns the metric's number if it was not there before.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub(super) fn look(&mut self, snapshot: &Snapshot) -> Result<()> {
        if self.ordinal.is_none() && self.origin.signal().is_none() { self.find(snapshot) } else { Ok(()) }
    }

    fn learn(&mut self, snapshot: &Snapshot) -> Result<()> {
        let selector =
            Selector { metric: Some(self.origin.table.clone()), matchers: Vec::new(), range: TimeRange::ALL };
        let series = snapshot.select(&selector).map_err(|e| Error::from_engine(&e))?;
        if self.origin.kind == OriginKind::Derived {
            self.key_of.clear();
            self.members.clear();
            let mut rows: HashMap<_, Vec<u32>> = HashMap::new();
            for one in &series {
                rows.entry(one.labels.without(FIELD_LABEL)).or_default().push(one.id.number());
            }
            for mut numbers in rows.into_values() {
                numbers.sort_unstable();
                let Some((&key, others)) = numbers.split_first() else { continue };
                self.key_of.extend(others.iter().map(|&other| (other, key)));
                self.members.insert(key, numbers);
            }
        }
        self.series = series.into_iter().map(|series| (series.id.number(), series)).collect();
        self.learned = snapshot.lsn();
        self.readings += 1;
        self.sort_out()
    }

    /// Finds out which series pass.
    fn sort_out(&mut self) -> Result<()> {
        let mut passes = vec![None; self.series_end() as usize];
        let keys: Vec<u32> = self.keys().collect();
        let passing = match &self.label_filter {
            Some(filter) => Some(condition(filter, &self.labels(&keys)?)?),
            None => None,
        };
        for (row, &key) in keys.iter().enumerate() {
            let passes_filter = passing.as_ref().is_none_or(|passing| passing.is_valid(row) && passing.value(row));
            for number in self.members(key) {
                passes[number as usize] = Some(passes_filter);
            }
        }
        self.passes = passes;
        Ok(())
    }

    /// The series of a key.
    pub(super) fn members(&self, key: u32) -> impl Iterator<Item = u32> {
        let (members, alone) = match self.members.get(&key) {
            Some(members) => (members.as_slice(), None),
            None => (&[][..], Some(key)),
        };
        members.iter().copied().chain(alone)
    }

    /// Samples of a metric as rows, in their order. All series must be known.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn lines(&self, rows: Rows) -> Result<Lines> {
        let keys = rows.ids.iter().map(|id| id.number()).collect();
        let ts = rows.ts.clone();
        Ok(Lines { keys, ts, batch: self.batch(rows)? })
    }

    /// Samples of a metric as a batch, in their order. All series must be known.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn batch(&self, rows: Rows) -> Result<RecordBatch> {
        let mut places: HashMap<u32, u32> = HashMap::new();
        let mut series: Vec<Series> = Vec::new();
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for id in &rows.ids {
            let place = *places.entry(id.number()).or_insert_with(|| {
                series.extend(self.series.get(&id.number()).cloned());
                series.len().saturating_sub(1) as u32
            });
            match runs.last_mut() {
                Some((last, n)) if *last == place => *n += 1,
                _ => runs.push((place, 1)),
            }
        }
        let mut scanned = ScanBatch { runs, ts: rows.ts, values: rows.values };
        let maker =
            BatchMaker::new(Arc::clone(&self.schema), &self.columns, &series).map_err(Error::from_datafusion)?;
        maker.make(&mut scanned).map_err(Error::from_datafusion)
    }

    /// A row of each of `keys`: their labels, and nothing of what differs from row to row.
    ///
    /// # Errors
    /// `Internal`.
    pub(super) fn labels(&self, keys: &[u32]) -> Result<RecordBatch> {
        let column = |(at, field): (usize, &Arc<arrow::datatypes::Field>)| -> Result<ArrayRef> {
            Ok(match &self.columns[at] {
                Column::Ts => timestamps(field.data_type(), vec![0; keys.len()])?,
                Column::Label(_) => {
                    Arc::new(keys.iter().map(|&key| self.label(key, at)).collect::<DictionaryArray<Int32Type>>())
                }
                _ if field.is_nullable() => new_null_array(field.data_type(), keys.len()),
                _ => Arc::new(Float64Array::from(vec![0.0; keys.len()])),
            })
        };
        let columns = self.schema.fields().iter().enumerate().map(column).collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|e| Error::internal(e.to_string()))
    }

    /// What `expr`, which speaks of labels alone, is for each of `keys`.
    ///
    /// # Errors
    /// As the expression; `Internal` when it is not text.
    pub(super) fn texts(&self, expr: &Arc<dyn PhysicalExpr>, keys: &[u32]) -> Result<LabelColumn> {
        let texts = expr.evaluate(&self.labels(keys)?).and_then(|value| value.into_array(keys.len()));
        LabelColumn::new(&texts.map_err(Error::from_datafusion)?)
    }

    /// Opens the rows of a key in `range`.
    ///
    /// # Errors
    /// As a scan.
    pub(super) fn open(&self, snapshot: &Snapshot, key: u32, range: TimeRange) -> Result<Opened> {
        let Some(ordinal) = self.ordinal else { return Ok(Opened::Nothing) };
        if self.origin.kind == OriginKind::Derived {
            let group = self.members(key).filter_map(|number| self.series.get(&number).cloned()).collect();
            let info = snapshot.metric(&self.origin.table);
            let table = DerivedTable::open(snapshot.clone(), &self.origin.table, info.as_ref());
            let reader = table.and_then(|table| table.reader(group, range, Arc::clone(&self.schema)));
            let time = self.schema.index_of(TS).map_err(|e| Error::internal(e.to_string()))?;
            return Ok(Opened::Derived { key, time, reader: Box::new(reader.map_err(Error::from_datafusion)?) });
        }
        let series: Vec<Series> = self.series.get(&key).cloned().into_iter().collect();
        let maker =
            BatchMaker::new(Arc::clone(&self.schema), &self.columns, &series).map_err(Error::from_datafusion)?;
        let scan = snapshot.scan(&[SeriesId::new(ordinal, key)], range, true, SCAN_ROWS);
        Ok(Opened::Metric { key, maker, scan: Box::new(scan.map_err(|e| Error::from_engine(&e))?) })
    }

    /// From when to when each key has samples at or after `from`.
    ///
    /// # Errors
    /// As a scan.
    pub(super) fn spans(&self, snapshot: &Snapshot, from: i64) -> Result<HashMap<u32, Span>> {
        let mut spans: HashMap<u32, Span> = HashMap::new();
        let Some(ordinal) = self.ordinal else { return Ok(spans) };
        let mut ids: Vec<SeriesId> = self.series.keys().map(|&number| SeriesId::new(ordinal, number)).collect();
        ids.sort_unstable();
        let range = TimeRange { start: from, end: i64::MAX };
        let mut scan = snapshot.scan(&ids, range, false, SCAN_ROWS).map_err(|e| Error::from_engine(&e))?;
        let mut batch = ScanBatch::default();
        while scan.next_batch(&mut batch).map_err(|e| Error::from_engine(&e))? {
            let mut at = 0;
            for &(series, rows) in &batch.runs {
                let run = &batch.ts[at..at + rows as usize];
                at += rows as usize;
                let (Some(&from), Some(&to)) = (run.first(), run.last()) else { continue };
                let span = Span { from, to };
                spans.entry(self.key(ids[series as usize].number())).or_insert(span).widen(span);
            }
        }
        Ok(spans)
    }
}
