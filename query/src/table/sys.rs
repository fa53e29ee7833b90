//! Schema `sys`: tables about the store itself. Other modules add theirs with [`SysTables::register`].
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Schema};
use datafusion::error::Result;
use foretell_engine::{Selector, Snapshot, TimeRange};
use parking_lot::RwLock;

use super::columns::label_maps;
use super::derived::FIELD_LABEL;
use super::records::Kind;
use super::{METRICS, PUBLIC, SAMPLES, SYS};
use crate::error::Error;
use crate::event::Signal;
use crate::metadata::MetricMetadata;

/// The list of tables, which this module makes itself.
const TABLES: &str = "tables";

/// A table of schema `sys`: small, made anew for each statement that names it.
pub(crate) trait SysTable: Send + Sync {
    /// All rows, as of `snapshot` where the store is concerned.
    fn rows(&self, snapshot: &Snapshot) -> Result<RecordBatch>;
}

/// A table that somebody makes who holds sessions: weak, or a database that is dropped would never let go of its engine.
pub(crate) struct Listed<T> {
    of: Weak<T>,
    rows: fn(&T, &Snapshot) -> crate::error::Result<RecordBatch>,
}

impl<T> Listed<T> {
    /// The table that `rows` makes of `of`.
    pub(crate) fn new(of: &Arc<T>, rows: fn(&T, &Snapshot) -> crate::error::Result<RecordBatch>) -> Self {
        Self { of: Arc::downgrade(of), rows }
    }
}

impl<T: Send + Sync> SysTable for Listed<T> {
    fn rows(&self, snapshot: &Snapshot) -> Result<RecordBatch> {
        let of = self.of.upgrade().ok_or_else(|| Error::internal("the database is closed"))?;
        Ok((self.rows)(&of, snapshot)?)
    }
}

/// A column of texts.
pub(crate) fn texts<T: Into<String>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values.map(|value| value.map(Into::into))))
}
/// A column of times, ns UTC.
pub(crate) fn times(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from_iter(values).with_timezone("UTC"))
}
/// A column of numbers.
pub(crate) fn numbers(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(Float64Array::from_iter(values))
}

/// Every table of schema `sys` by name.
pub(crate) struct SysTables(RwLock<BTreeMap<String, Arc<dyn SysTable>>>);

impl fmt::Debug for SysTables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Default for SysTables {
    fn default() -> Self {
        let tables = Self(RwLock::new(BTreeMap::new()));
        tables.register("cardinality", Arc::new(CardinalityList));
        tables.register("series", Arc::new(SeriesList));
        tables.register("segments", Arc::new(SegmentList));
        tables.register("partitions", Arc::new(PartitionList));
        tables.register("wal", Arc::new(WalList));
        tables.register("metadata", Arc::new(MetadataList));
        tables
    }
}

impl SysTables {
    /// Adds `sys.<name>`, replacing one of that name.
    pub(crate) fn register(&self, name: &str, table: Arc<dyn SysTable>) {
        self.0.write().insert(name.to_owned(), table);
    }
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.read().keys().cloned().collect();
        names.push(TABLES.to_owned());
        names.sort_unstable();
        names
    }
    pub(crate) fn contains(&self, name: &str) -> bool {
        name == TABLES || self.0.read().contains_key(name)
    }
    /// The rows of `sys.<name>`, if there is such a table.
    pub(crate) fn rows(&self, name: &str, snapshot: &Snapshot) -> Result<Option<RecordBatch>> {
        let table: Arc<dyn SysTable> = if name == TABLES {
            Arc::new(TableList(self.names()))
        } else {
            let Some(table) = self.0.read().get(name).cloned() else { return Ok(None) };
            table
        };
        table.rows(snapshot).map(Some)
    }
}

/// A batch from columns, all of them without NULLs unless the array has some.
pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let arrays = columns.into_iter().map(|c| c.1).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// `sys.tables`, with the names of schema `sys`.
struct TableList(Vec<String>);

impl SysTable for TableList {
    fn rows(&self, snapshot: &Snapshot) -> Result<RecordBatch> {
        let metrics = snapshot.metrics();
        let mut names = vec![SAMPLES.to_owned()];
        let mut schemas = vec![PUBLIC];
        let mut kinds = vec!["samples"];
        let mut series = vec![Some(metrics.iter().map(|m| m.series as i64).sum::<i64>())];
        let mut labels = vec![None];
        for kind in Kind::ALL {
            names.push(kind.name().to_owned());
            schemas.push(PUBLIC);
            kinds.push("records");
            series.push(None);
            labels.push(None);
        }
        for signal in Signal::ALL {
            names.push(signal.table_name().to_owned());
            schemas.push(PUBLIC);
            kinds.push("events");
            series.push(Some(snapshot.metric(signal.stream_name()).map_or(0, |streams| streams.series as i64)));
            labels.push(None);
        }
        for metric in &metrics {
            let derived = metric.label_names.iter().any(|l| &**l == FIELD_LABEL);
            let list: Vec<&str> = metric.label_names.iter().map(|l| &**l).filter(|l| *l != FIELD_LABEL).collect();
            names.push(metric.name.to_string());
            schemas.push(METRICS);
            kinds.push(if derived { "derived" } else { "metric" });
            series.push(Some(metric.series as i64));
            labels.push(Some(list.join(",")));
        }
        for name in &self.0 {
            names.push(name.clone());
            schemas.push(SYS);
            kinds.push("system");
            series.push(None);
            labels.push(None);
        }
        batch(vec![
            ("schema", Arc::new(StringArray::from(schemas))),
            ("name", Arc::new(StringArray::from(names))),
            ("kind", Arc::new(StringArray::from(kinds))),
            ("series", Arc::new(Int64Array::from(series))),
            ("labels", Arc::new(StringArray::from(labels))),
        ])
    }
}

/// Metrics that `sys.cardinality` lists.
const METRICS_LISTED: usize = 1000;

/// `sys.cardinality`: each label with its values and series, and the metrics with the most series.
struct CardinalityList;

impl SysTable for CardinalityList {
    fn rows(&self, snapshot: &Snapshot) -> Result<RecordBatch> {
        let cardinality = snapshot.cardinality().map_err(|e| Error::from_engine(&e))?;
        let labels = cardinality.labels.iter().map(|l| ("label", l.label.as_str(), Some(l.values as i64), l.series));
        let metrics = cardinality.metrics.iter().take(METRICS_LISTED);
        let metrics = metrics.map(|(name, series)| ("metric", &**name, None, *series));
        let rows: Vec<(&str, &str, Option<i64>, u64)> = labels.chain(metrics).collect();
        batch(vec![
            ("kind", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)))),
            ("name", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)))),
            ("distinct_values", Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.2)))),
            ("series", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.3 as i64)))),
        ])
    }
}

/// `sys.series`
struct SeriesList;

impl SysTable for SeriesList {
    fn rows(&self, snapshot: &Snapshot) -> Result<RecordBatch> {
        let selector = Selector { metric: None, matchers: Vec::new(), range: TimeRange::ALL };
        let series = snapshot.select(&selector).map_err(|e| Error::from_engine(&e))?;
        batch(vec![
            ("id", Arc::new(UInt64Array::from_iter_values(series.iter().map(|s| s.id.0)))),
            ("metric", Arc::new(StringArray::from_iter_values(series.iter().map(|s| s.labels.metric_name())))),
            ("labels", Arc::new(label_maps(series.iter().map(|s| &s.labels))?)),
        ])
    }
}

/// What a segment holds: samples, or the records of a table.
fn content(segment: &foretell_engine::SegmentInfo) -> &str {
    segment.table.as_deref().unwrap_or(SAMPLES)
}

/// `sys.segments`
struct SegmentList;

impl SysTable for SegmentList {
    fn rows(&self, snapshot: &Snapshot) -> Result<RecordBatch> {
        let segments = snapshot.segments();
        let number = |f: fn(&foretell_engine::SegmentInfo) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(segments.iter().map(|s| f(s) as i64)))
        };
        let time = |f: fn(&foretell_engine::SegmentInfo) -> i64| -> ArrayRef {
            Arc::new(TimestampNanosecondArray::from_iter_values(segments.iter().map(f)).with_timezone("UTC"))
        };
        batch(vec![
            ("file", Arc::new(StringArray::from_iter_values(segments.iter().map(|s| &s.file)))),
            ("content", Arc::new(StringArray::from_iter_values(segments.iter().map(content)))),
            ("partition_start", time(|s| s.partition_start)),
            ("level", number(|s| u64::from(s.level))),
            ("rows", number(|s| s.rows)),
            ("series", number(|s| s.series)),
            ("blocks", number(|s| s.blocks)),
            ("bytes", number(|s| s.bytes)),
            ("ts_bytes", number(|s| s.ts_bytes)),
            ("value_bytes", number(|s| s.value_bytes)),
            ("series_bytes", number(|s| s.series_bytes)),
            ("rest_bytes", number(|s| s.rest_bytes)),
            ("rollup_bytes", number(|s| s.rollup_bytes)),
            ("min_ts", time(|s| s.min_ts)),
            ("max_ts", time(|s| s.max_ts)),
            ("max_lsn", Arc::new(UInt64Array::from_iter_values(segments.iter().map(|s| s.max_lsn.0)))),
        ])
    }
}

/// `sys.partitions`
struct PartitionList;

impl SysTable for PartitionList {
    fn rows(&self, snapshot: &Snapshot) -> Result<RecordBatch> {
        let partitions = snapshot.partitions();
        let number = |f: fn(&foretell_engine::PartitionInfo) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(partitions.iter().map(|p| f(p) as i64)))
        };
        let time = |f: fn(&foretell_engine::PartitionInfo) -> Option<i64>| -> ArrayRef {
            Arc::new(partitions.iter().map(f).collect::<TimestampNanosecondArray>().with_timezone("UTC"))
        };
        batch(vec![
            ("partition_start", time(|p| Some(p.range.start))),
            ("partition_end", time(|p| Some(p.range.end))),
            ("segments", number(|p| p.segments)),
            ("rows", number(|p| p.rows)),
            ("series", number(|p| p.series)),
            ("bytes", number(|p| p.bytes)),
            ("min_ts", time(|p| p.samples.map(|s| s.start))),
            ("max_ts", time(|p| p.samples.map(|s| s.end))),
            ("expires_at", time(|p| p.expires_ns)),
        ])
    }
}

/// `sys.wal`
struct WalList;

impl SysTable for WalList {
    fn rows(&self, snapshot: &Snapshot) -> Result<RecordBatch> {
        let files = snapshot.wal();
        batch(vec![
            ("file", Arc::new(StringArray::from_iter_values(files.iter().map(|f| &f.file)))),
            ("first_lsn", Arc::new(UInt64Array::from_iter_values(files.iter().map(|f| f.first_lsn.0)))),
            ("last_lsn", Arc::new(UInt64Array::from_iter_values(files.iter().map(|f| f.last_lsn.0)))),
            ("bytes", Arc::new(Int64Array::from_iter_values(files.iter().map(|f| f.bytes as i64)))),
        ])
    }
}

/// `sys.metadata`
struct MetadataList;

impl SysTable for MetadataList {
    fn rows(&self, snapshot: &Snapshot) -> Result<RecordBatch> {
        let all = MetricMetadata::all(snapshot)?;
        let text = |f: fn(&(String, MetricMetadata)) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(all.iter().map(f)))
        };
        batch(vec![
            ("metric", text(|m| &m.0)),
            ("type", text(|m| m.1.kind.name())),
            ("help", text(|m| &m.1.help)),
            ("unit", text(|m| &m.1.unit)),
        ])
    }
}
