//! A pinned view of the store and the scans over it.
use std::sync::Arc;

use parking_lot::RwLock;

use crate::catalog::{Catalogue, Head, PartitionPostings, evaluate};
use crate::core::{Core, Sealed};
use crate::error::{Error, Result};
use crate::memtable::Memtable;
use crate::partition::Partitioning;
use crate::records::{self, Filter, Memory, Merge, RecordScan, RecordTableInfo, Records, Tables};
use crate::scan::{self, Source};
use crate::segment::SegmentMeta;
use crate::state::StateMap;
use crate::types::{CompiledMatcher, LabelSet, Lsn, METRIC_NAME, MatchOp, Matcher, SeriesId, TimeRange};
use crate::version::Version;

/// Rows of a batch of records.
const SCAN_ROWS: usize = 8192;

/// A consistent view: sees every commit up to [`Snapshot::lsn`] and none after; nothing it reads is deleted under it.
#[derive(Clone)]
pub struct Snapshot(Arc<Pinned>);

struct Pinned {
    lsn: Lsn,
    sealed: Vec<Arc<Sealed>>,
    active: Memtable,
    state: StateMap,
    tables: Tables,
    version: Arc<Version>,
    head: Arc<RwLock<Head>>,
    catalogue: Arc<Catalogue>,
    partitioning: Partitioning,
}

/// A metric that has ever had a series.
#[derive(Clone, Debug)]
pub struct MetricInfo {
    /// Name ("" for series without `__name__`).
    pub name: Arc<str>,
    /// Number of series ever seen.
    pub series: u64,
    /// Every label name its series carry, sorted, without `__name__`.
    pub label_names: Vec<Arc<str>>,
}

/// A series and its labels.
#[derive(Clone, Debug)]
pub struct Series {
    /// Id.
    pub id: SeriesId,
    /// Labels, `__name__` included.
    pub labels: LabelSet,
}

/// Which series a query wants.
#[derive(Clone, Debug)]
pub struct Selector {
    /// Exact metric name, if the query names one.
    pub metric: Option<String>,
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// Only series that may have samples here (a superset is allowed).
    pub range: TimeRange,
}

/// A live segment.
#[derive(Clone, Debug)]
pub struct SegmentInfo {
    /// File name inside the store.
    pub file: String,
    /// Start of the time partition, ns.
    pub partition_start: i64,
    /// Compaction level.
    pub level: u8,
    /// Rows.
    pub rows: u64,
    /// Series.
    pub series: u64,
    /// Blocks.
    pub blocks: u64,
    /// File size.
    pub bytes: u64,
    /// First sample, ns.
    pub min_ts: i64,
    /// Last sample, ns.
    pub max_ts: i64,
    /// Newest commit whose rows it holds.
    pub max_lsn: Lsn,
}

/// Columns of a scan, sorted by (series, ts), one row per (series, ts): of equal timestamps the newest commit wins.
/// `runs[k] = (i, n)`: the next `n` rows belong to the `i`-th requested series. A series may continue in the next batch.
#[derive(Clone, Debug, Default)]
pub struct ScanBatch {
    /// (index into the requested ids, rows).
    pub runs: Vec<(u32, u32)>,
    /// Nanoseconds UTC.
    pub ts: Vec<i64>,
    /// Values, exact bits.
    pub values: Vec<f64>,
}

/// A running scan. Blocks on page faults only; call it off the async threads.
pub struct Scan {
    scan: scan::Scan,
    /// What it reads must stay.
    _version: Arc<Version>,
}

impl Scan {
    /// Replaces `batch` with the next rows (about `rows_target` of them); `false` when there are no more.
    ///
    /// # Errors
    /// `Corruption` with path and offset when a block's checksum fails: never a partial answer without an error.
    pub fn next_batch(&mut self, batch: &mut ScanBatch) -> Result<bool> {
        self.scan.next_batch(batch)
    }
}

impl Snapshot {
    pub(crate) fn of(core: &Core) -> Self {
        let live = core.live.lock();
        Self(Arc::new(Pinned {
            lsn: live.lsn,
            sealed: live.sealed.clone(),
            active: live.active.clone(),
            state: live.state.clone(),
            tables: live.tables.clone(),
            version: Arc::clone(&live.version),
            head: Arc::clone(&core.head),
            catalogue: Arc::clone(&core.catalogue),
            partitioning: core.partitioning,
        }))
    }

    /// Newest commit it sees.
    pub fn lsn(&self) -> Lsn {
        self.0.lsn
    }

    /// Every metric, by name.
    pub fn metrics(&self) -> Vec<MetricInfo> {
        let head = self.0.head.read();
        let known = head.metrics().iter().filter(|metric| metric.series_count > 0);
        let mut metrics: Vec<MetricInfo> = known.map(metric_info).collect();
        metrics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        metrics
    }

    /// One metric.
    pub fn metric(&self, name: &str) -> Option<MetricInfo> {
        self.0.head.read().metric(name).map(metric_info)
    }

    /// Matching series, sorted by id.
    ///
    /// # Errors
    /// `Invalid` for a bad regular expression.
    pub fn select(&self, selector: &Selector) -> Result<Vec<Series>> {
        let mut matchers: Vec<CompiledMatcher> = Vec::with_capacity(selector.matchers.len() + 1);
        if let Some(metric) = &selector.metric {
            let matcher = Matcher { name: METRIC_NAME.into(), op: MatchOp::Equal, value: metric.clone() };
            matchers.push(matcher.compile()?);
        }
        for matcher in &selector.matchers {
            matchers.push(matcher.compile()?);
        }
        if selector.range.is_empty() {
            return Ok(Vec::new());
        }
        let pinned = &*self.0;
        let mut ids = pinned.head.read().select(&matchers)?;
        let partitions = pinned.partitioning.of(selector.range.start)..=pinned.partitioning.of(selector.range.end);
        for (&number, partition) in pinned.version.partitions.range(partitions) {
            let postings =
                PartitionPostings { catalogue: &pinned.catalogue, partition: number, series: partition.series };
            ids.extend(postings.ids(&evaluate(&postings, &matchers)?)?);
        }
        ids.sort_unstable();
        ids.dedup();
        self.labels(ids)
    }

    fn labels(&self, ids: Vec<SeriesId>) -> Result<Vec<Series>> {
        let mut found: Vec<(SeriesId, Option<LabelSet>)> = {
            let head = self.0.head.read();
            ids.into_iter().map(|id| (id, head.labels_of(id).cloned())).collect()
        };
        let missing: Vec<SeriesId> = found.iter().filter(|pair| pair.1.is_none()).map(|pair| pair.0).collect();
        if !missing.is_empty() {
            let mut labels = self.0.catalogue.labels_of(&missing)?.into_iter();
            for pair in found.iter_mut().filter(|pair| pair.1.is_none()) {
                pair.1 = labels.next().flatten();
            }
        }
        let series = found.into_iter().map(|(id, labels)| {
            let labels = labels.ok_or_else(|| Error::Catalogue(format!("no labels for series {}", id.0)))?;
            Ok(Series { id, labels })
        });
        series.collect()
    }

    /// Scans `series` (sorted ids) over `range`, decoding values only if `want_values`.
    ///
    /// # Errors
    /// `Io` or `Corruption`; `Invalid` when the ids are not sorted or not unique.
    pub fn scan(&self, series: &[SeriesId], range: TimeRange, want_values: bool, rows_target: usize) -> Result<Scan> {
        if !series.is_sorted_by(|a, b| a < b) {
            return Err(Error::Invalid("series of a scan must be sorted and unique".into()));
        }
        let pinned = &*self.0;
        let mut sources = Vec::new();
        if !range.is_empty() {
            let partitions = pinned.partitioning.of(range.start)..=pinned.partitioning.of(range.end);
            for (_, partition) in pinned.version.partitions.range(partitions) {
                sources.extend(partition.segments.iter().map(|live| Source::Segment(Arc::clone(&live.segment))));
            }
            let memtables = pinned.sealed.iter().map(|sealed| &sealed.memtable).chain([&pinned.active]);
            for memtable in memtables {
                sources.extend(memtable.runs.iter().map(|run| Source::Run(Arc::clone(run))));
                let tail: Vec<_> = memtable.tail.iter().map(|commit| Arc::clone(&commit.batch)).collect();
                if !tail.is_empty() {
                    sources.push(Source::Tail(tail));
                }
            }
        }
        let scan = scan::Scan::new(sources, series.to_vec(), range, want_values, rows_target)?;
        Ok(Scan { scan, _version: Arc::clone(&pinned.version) })
    }

    /// Every table of records, by name.
    pub fn record_tables(&self) -> Vec<RecordTableInfo> {
        self.0.tables.iter().map(RecordTableInfo::from).collect()
    }

    /// One table of records, if a row was ever committed to it.
    pub fn record_table(&self, name: &str) -> Option<RecordTableInfo> {
        self.0.tables.get(name).map(RecordTableInfo::from)
    }

    /// Scans the records of `table` of `series` (sorted ids) over `range`: the columns `series` and `ts`, then those named
    /// in `columns`, in that order, or all of the table's by name. Decodes no other column.
    ///
    /// # Errors
    /// `Invalid` for a table or column that does not exist (see [`Snapshot::record_table`]), or when the ids are not
    /// sorted or not unique; `Io` or `Corruption`.
    pub fn scan_records(
        &self,
        table: &str,
        series: &[SeriesId],
        range: TimeRange,
        columns: Option<&[&str]>,
    ) -> Result<RecordScan> {
        if !series.is_sorted_by(|a, b| a < b) {
            return Err(Error::Invalid("series of a scan must be sorted and unique".into()));
        }
        let pinned = &*self.0;
        let known = pinned.tables.get(table);
        let known = known.ok_or_else(|| Error::Invalid(format!("there is no table of records called {table:?}")))?;
        let wanted = known.columns_called(columns)?;
        let filter = Filter { series: Some(series.to_vec()), range };
        let mut sources = Vec::new();
        if !range.is_empty() && !series.is_empty() {
            let partitions = pinned.partitioning.of(range.start)..=pinned.partitioning.of(range.end);
            for (_, partition) in pinned.version.partitions.range(partitions) {
                let segments = partition.records.iter().filter(|live| live.meta().table == known.table);
                sources.extend(segments.map(|live| records::Source::Segment(Arc::clone(live))));
            }
            let memtables = pinned.sealed.iter().map(|sealed| &sealed.memtable).chain([&pinned.active]);
            let batches = memtables.flat_map(|memtable| memtable.records.iter());
            let batches: Vec<Arc<Records>> = batches.filter(|r| r.table == known.table).map(Arc::clone).collect();
            sources.push(records::Source::Memory(Memory::new(&batches, &filter)?));
        }
        Ok(RecordScan(Merge::new(sources, filter, wanted, known.table.unique(), SCAN_ROWS)?))
    }

    /// Live segments of records, each with the name of its table.
    pub fn record_segments(&self) -> Vec<(Arc<str>, SegmentInfo)> {
        let info = |live: &Arc<records::LiveRecords>| {
            (Arc::clone(live.meta().table.name()), segment_info(&live.meta().segment, self.0.partitioning))
        };
        self.0.version.record_segments().map(info).collect()
    }

    /// Live segments of samples.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.0.version.segments().map(|live| segment_info(&live.meta, self.0.partitioning)).collect()
    }

    /// Keyed state as of this snapshot.
    pub fn state(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        self.0.state.get(key)
    }

    /// Keyed state whose key starts with `prefix`, in key order.
    pub fn state_prefix(&self, prefix: &[u8]) -> Vec<(Vec<u8>, Arc<[u8]>)> {
        self.0.state.prefix(prefix)
    }
}

fn segment_info(meta: &SegmentMeta, partitioning: Partitioning) -> SegmentInfo {
    SegmentInfo {
        file: format!("partitions/{}/{}", meta.partition, meta.file),
        partition_start: partitioning.range(meta.partition).start,
        level: meta.level,
        rows: meta.rows,
        series: meta.series,
        blocks: meta.blocks,
        bytes: meta.bytes,
        min_ts: meta.min_ts,
        max_ts: meta.max_ts,
        max_lsn: meta.max_lsn,
    }
}

fn metric_info(metric: &crate::catalog::Metric) -> MetricInfo {
    MetricInfo {
        name: Arc::clone(&metric.name),
        series: metric.series_count.into(),
        label_names: metric.label_names.iter().map(Arc::clone).collect(),
    }
}
