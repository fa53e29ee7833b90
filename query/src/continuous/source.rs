//! The metric a query reads: its series with their labels, and rows of it as Arrow batches.
//!
//! Batches have exactly the columns the query mentions, in the form in which the metric's table delivers them, so that an
//! expression gives the same bits over the feed as over storage. Of events (`logs`, `spans`) nothing is known here: their rows are
//! read from storage only.
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use foretell_engine::{Lsn, ScanBatch, Selector, Series, SeriesId, Snapshot, TimeRange};
use hashbrown::HashMap;

use super::plan::{TS, VALUE};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Signal;
use crate::table;
use crate::table::columns::{BatchMaker, Column};

/// Rows of the source metric.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) ids: Vec<SeriesId>,
    pub(super) ts: Vec<i64>,
    pub(super) values: Vec<f64>,
}

impl Rows {
    pub(super) fn push(&mut self, id: SeriesId, ts: i64, value: f64) {
        self.ids.push(id);
        self.ts.push(ts);
        self.values.push(value);
    }
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
    /// Keeps the rows of the series that `keep` accepts.
    fn retain(&mut self, keep: impl Fn(SeriesId) -> bool) {
        let flags: Vec<bool> = self.ids.iter().map(|&id| keep(id)).collect();
        let mut flag = flags.iter();
        self.ids.retain(|_| flag.next() == Some(&true));
        flag = flags.iter();
        self.ts.retain(|_| flag.next() == Some(&true));
        flag = flags.iter();
        self.values.retain(|_| flag.next() == Some(&true));
    }
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// The source metric of one query.
pub(super) struct Source {
    metric: String,
    /// The events, unless it is a metric.
    signal: Option<Signal>,
    ordinal: u32,
    schema: SchemaRef,
    columns: Vec<Column>,
    series: HashMap<u32, Series>,
    /// The position as of which `series` is complete.
    learned: Lsn,
    /// How often `series` was read.
    readings: u64,
}

impl Source {
    /// `schema` holds the columns the query mentions.
    ///
    /// # Errors
    /// `NotFound` when the metric never had a series.
    pub(super) fn new(snapshot: &Snapshot, metric: &str, signal: Option<Signal>, schema: SchemaRef) -> Result<Self> {
        if signal.is_some() {
            let (columns, series) = Default::default();
            let (metric, learned) = (metric.to_owned(), snapshot.lsn());
            return Ok(Self { metric, signal, ordinal: u32::MAX, schema, columns, series, learned, readings: 0 });
        }
        let gone = || Error::new(ErrorKind::NotFound, format!("metric {metric} has no series"));
        let info = snapshot.metric(metric).ok_or_else(gone)?;
        let label_of: HashMap<String, String> = table::label_columns(info.label_names.iter().map(|name| &**name))
            .into_iter()
            .map(|(label, column)| (column, label))
            .collect();
        let columns = schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                TS => Column::Ts,
                VALUE => Column::Value,
                name => Column::Label(label_of.get(name).cloned().unwrap_or_else(|| name.to_owned())),
            })
            .collect();
        let mut source = Self {
            metric: metric.to_owned(),
            signal: None,
            ordinal: info.ordinal,
            schema,
            columns,
            series: HashMap::new(),
            learned: Lsn(0),
            readings: 0,
        };
        source.learn(snapshot)?;
        Ok(source)
    }

    pub(super) fn metric(&self) -> &str {
        &self.metric
    }
    /// The events it reads, unless it reads a metric.
    pub(super) fn signal(&self) -> Option<Signal> {
        self.signal
    }
    /// The high half of the ids of its series; no metric's for events.
    pub(super) fn ordinal(&self) -> u32 {
        self.ordinal
    }
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }
    /// The label behind column `index`, unless it is the time or the value.
    pub(super) fn label(&self, index: usize) -> Option<&str> {
        match &self.columns[index] {
            Column::Label(name) => Some(name),
            _ => None,
        }
    }
    /// Every series stored, by number.
    pub(super) fn series(&self) -> &HashMap<u32, Series> {
        &self.series
    }
    /// Another number when [`Source::series`] may be others.
    pub(super) fn readings(&self) -> u64 {
        self.readings
    }
    /// One past the highest series number of the metric.
    pub(super) fn series_end(&self) -> u64 {
        self.series.keys().map(|&n| u64::from(n) + 1).max().unwrap_or(0)
    }

    /// Takes the rows of series that are no longer stored out of `rows`, which `snapshot` sees: a retention dropped them
    /// before the feed came to them. All others are known afterwards.
    ///
    /// # Errors
    /// As [`Snapshot::select`].
    pub(super) fn keep_stored(&mut self, snapshot: &Snapshot, rows: &mut Rows) -> Result<()> {
        let all_known = |source: &Self| rows.ids.iter().all(|id| source.series.contains_key(&id.number()));
        if !all_known(self) && self.learned < snapshot.lsn() {
            self.learn(snapshot)?;
        }
        if !all_known(self) {
            let before = rows.len();
            rows.retain(|id| self.series.contains_key(&id.number()));
            let passed_over = before - rows.len();
            tracing::info!(metric = self.metric, rows = passed_over, "passing over rows that are no longer stored");
        }
        Ok(())
    }

    fn learn(&mut self, snapshot: &Snapshot) -> Result<()> {
        let selector = Selector { metric: Some(self.metric.clone()), matchers: Vec::new(), range: TimeRange::ALL };
        let series = snapshot.select(&selector).map_err(|e| Error::from_engine(&e))?;
        self.series = series.into_iter().map(|series| (series.id.number(), series)).collect();
        self.learned = snapshot.lsn();
        self.readings += 1;
        Ok(())
    }

    /// `rows` as a batch, in their order. All series must be known.
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
}
