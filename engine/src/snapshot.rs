//! A pinned view of the store and the scans over it.
use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::catalog::{Catalogue, Head, Metric};
use crate::changes::Changes;
use crate::core::{Core, Sealed};
use crate::error::{Error, Result};
use crate::feed::Commit;
use crate::memtable::{CommittedBatch, Memtable};
use crate::partition::Partitioning;
use crate::records::Tables;
use crate::retention::Retention;
use crate::rollup::Rollup;
use crate::scan::{self, Source, Visible};
use crate::segment::{ColumnBytes, SegmentMeta};
use crate::state::{StateMap, StatePair, StateSize};
use crate::tombstone::Tombstones;
use crate::types::{EVENTS, LabelSet, Lsn, Matcher, SeriesId, TimeRange};
use crate::version::{Partition, Version};
use crate::wal::WalFiles;

mod aggregate;
mod cardinality;
mod estimate;
mod last;
mod records;
mod select;

pub use aggregate::{Aggregate, AggregateBatch, Aggregation, Statistics};
pub use cardinality::{Cardinality, LabelCardinality};

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
    tombstones: Tombstones,
    changes: Changes,
    /// Of `changes`, those it sees.
    changes_seen: u64,
    head: Arc<RwLock<Head>>,
    catalogue: Arc<Catalogue>,
    partitioning: Partitioning,
    retention: Retention,
    wal_files: WalFiles,
}

impl Pinned {
    /// The partitions that `range`, which is not empty, touches, by time.
    fn partitions(&self, range: TimeRange) -> impl Iterator<Item = &Partition> {
        let numbers = self.partitioning.of(range.start)..=self.partitioning.of(range.end);
        self.version.partitions.range(numbers).map(|(_, partition)| partition)
    }

    /// All memtables, oldest first.
    fn memtables(&self) -> impl Iterator<Item = &Memtable> {
        self.sealed.iter().map(|sealed| &sealed.memtable).chain([&self.active])
    }
}

/// A metric that has ever had a series.
#[derive(Clone, Debug)]
pub struct MetricInfo {
    /// Name ("" for series without `__name__`).
    pub name: Arc<str>,
    /// The high half of the ids of its series.
    pub ordinal: u32,
    /// Number of series ever seen.
    pub series: u64,
    /// Every label name its series carry, sorted, without `__name__`.
    pub label_names: Vec<Arc<str>>,
}

/// A series and its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Id.
    pub id: SeriesId,
    /// Labels, `__name__` included.
    pub labels: LabelSet,
}

/// Which series a query wants.
#[derive(Clone, Debug)]
pub struct Selector {
    /// Exact metric name, if the query names one; none of [`EVENTS`] otherwise.
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
    /// The table whose records it holds; `None` when it holds samples.
    pub table: Option<Arc<str>>,
    /// Start of the time partition, ns.
    pub partition_start: i64,
    /// Compaction level.
    pub level: u8,
    /// Rows.
    pub rows: u64,
    /// Series.
    pub series: u64,
    /// Blocks, or groups of records.
    pub blocks: u64,
    /// File size: the sum of the next four.
    pub bytes: u64,
    /// Bytes of timestamps.
    pub ts_bytes: u64,
    /// Bytes of values, or of all other columns of records.
    pub value_bytes: u64,
    /// Bytes of series ids.
    pub series_bytes: u64,
    /// Bytes of all else: zone maps, places, header and trailer.
    pub rest_bytes: u64,
    /// Size of its rollup, which is a file of its own; 0 without one that is used.
    pub rollup_bytes: u64,
    /// First sample, ns.
    pub min_ts: i64,
    /// Last sample, ns.
    pub max_ts: i64,
    /// Newest commit whose rows it holds.
    pub max_lsn: Lsn,
}

/// A time partition.
#[derive(Clone, Debug)]
pub struct PartitionInfo {
    /// First and last instant that belong to it.
    pub range: TimeRange,
    /// Live segments.
    pub segments: u64,
    /// Rows in them.
    pub rows: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Series that were ever flushed to it.
    pub series: u64,
    /// First and last row in its segments, ns; `None` without a segment.
    pub samples: Option<TimeRange>,
    /// When its age passes the retention, ns; `None` when it is kept for ever, whatever its age.
    pub expires_ns: Option<i64>,
}

/// A file of the write-ahead log.
#[derive(Clone, Debug)]
pub struct WalFileInfo {
    /// File name inside the store.
    pub file: String,
    /// Its first commit.
    pub first_lsn: Lsn,
    /// Its newest commit; the one before the first while it has none.
    pub last_lsn: Lsn,
    /// File size.
    pub bytes: u64,
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

/// Rows of one series, where a scan has them.
#[derive(Clone, Copy, Debug)]
pub struct ScanSlice<'a> {
    /// Index into the requested ids.
    pub index: u32,
    /// Nanoseconds UTC, at least one.
    pub ts: &'a [i64],
    /// Values, exact bits; empty if they are not wanted.
    pub values: &'a [f64],
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

    /// The next rows of a series (at most `rows_target`) where they lie, which is a copy less than a batch; `None` when there are
    /// no more. Where sources have rows between each other's, slices may be as short as a row. After an error the scan is over.
    ///
    /// # Errors
    /// As [`Scan::next_batch`].
    pub fn next_slice(&mut self) -> Result<Option<ScanSlice<'_>>> {
        self.scan.next_slice()
    }

    /// Memory it holds now, about, without what it shares with the store.
    pub fn bytes(&self) -> usize {
        self.scan.bytes()
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
            tombstones: live.tombstones.clone(),
            changes: live.changes.clone(),
            changes_seen: live.changes.count(),
            head: Arc::clone(&core.head),
            catalogue: Arc::clone(&core.catalogue),
            partitioning: core.partitioning,
            retention: core.retention(),
            wal_files: core.wal_files.clone(),
        }))
    }

    /// The same view with no rows but those of `commits`, which it must see: what arrived with them. No file is read. Deletes
    /// are not looked at: what arrived and was deleted since is there. Series are those that are active, and those of the
    /// partitions in which the rows lie.
    pub fn only(&self, commits: &[Commit]) -> Self {
        let pinned = &*self.0;
        // The batches are counted where they came from, not once more here.
        let mut active = Memtable::new(0, Lsn(0), 0, &Arc::default());
        let mut partitions = BTreeSet::new();
        for Commit { lsn, batch } in commits {
            let of_records = batch.records.iter().flat_map(|records| &records.ts);
            partitions.extend(batch.ts.iter().chain(of_records).map(|&ts| pinned.partitioning.of(ts)));
            active.push(Arc::new(CommittedBatch { lsn: *lsn, batch: Arc::clone(batch) }), 0);
        }
        Self(Arc::new(Pinned {
            lsn: pinned.lsn,
            sealed: Vec::new(),
            active,
            state: pinned.state.clone(),
            tables: pinned.tables.clone(),
            // After a restart a series of flushed rows is known by its partition's index alone.
            version: Arc::new(pinned.version.indexes_of(partitions)),
            tombstones: Tombstones::default(),
            changes: pinned.changes.clone(),
            changes_seen: pinned.changes_seen,
            head: Arc::clone(&pinned.head),
            catalogue: Arc::clone(&pinned.catalogue),
            partitioning: pinned.partitioning,
            retention: pinned.retention,
            wal_files: pinned.wal_files.clone(),
        }))
    }

    /// Newest commit it sees.
    pub fn lsn(&self) -> Lsn {
        self.0.lsn
    }

    /// How many changes it sees: what [`Snapshot::unchanged_before`] takes. Not to be kept over a restart.
    pub fn changes(&self) -> u64 {
        self.0.changes_seen
    }

    /// Before this instant (ns) no row was written or deleted since a snapshot of the same store that saw `changes` changes:
    /// what was read of that time still holds. It may be earlier than need be, and looks at what this snapshot does not see
    /// yet, too.
    pub fn unchanged_before(&self, changes: u64) -> i64 {
        self.0.changes.since(changes)
    }

    /// Every metric, by name; not [`EVENTS`].
    pub fn metrics(&self) -> Vec<MetricInfo> {
        let head = self.0.head.read();
        let shows = |metric: &Metric| metric.series_count > 0 && !EVENTS.contains(&&*metric.name);
        let known = (0..).zip(head.metrics()).filter(|(_, metric)| shows(metric));
        let mut metrics: Vec<MetricInfo> = known.map(|(ordinal, metric)| metric_info(ordinal, metric)).collect();
        metrics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        metrics
    }

    /// One metric.
    pub fn metric(&self, name: &str) -> Option<MetricInfo> {
        let head = self.0.head.read();
        head.ordinal_of(name).map(|ordinal| metric_info(ordinal, &head.metrics()[ordinal as usize]))
    }

    /// Scans `series` (sorted ids) over `range`, decoding values only if `want_values`.
    ///
    /// # Errors
    /// `Io` or `Corruption`; `Invalid` when the ids are not sorted or not unique.
    pub fn scan(&self, series: &[SeriesId], range: TimeRange, want_values: bool, rows_target: usize) -> Result<Scan> {
        if !series.is_sorted_by(|a, b| a < b) {
            return Err(Error::Invalid("series of a scan must be sorted and unique".into()));
        }
        let scan = scan::Scan::new(self.sources(range), series.to_vec(), range, want_values, rows_target)?;
        Ok(Scan { scan, _version: Arc::clone(&self.0.version) })
    }

    /// Every source that may have rows in `range`, oldest first.
    fn sources(&self, range: TimeRange) -> Vec<Visible> {
        let pinned = &*self.0;
        let mut sources = Vec::new();
        if range.is_empty() {
            return sources;
        }
        for partition in pinned.partitions(range) {
            sources.extend(partition.segments.iter().map(|live| Visible {
                source: Source::Segment(Arc::clone(&live.segment)),
                hidden: pinned.tombstones.after(live.meta.applied, range),
            }));
        }
        for memtable in pinned.memtables() {
            memtable.count_scan();
            let hidden = pinned.tombstones.after(memtable.lsn, range);
            let runs = memtable.runs.iter().map(|run| Source::Run(Arc::clone(run)));
            sources.extend(runs.map(|source| Visible { source, hidden: hidden.clone() }));
            let tail: Vec<_> = memtable.tail.iter().map(|commit| Arc::clone(&commit.batch)).collect();
            if !tail.is_empty() {
                sources.push(Visible { source: Source::Tail(tail), hidden });
            }
        }
        sources
    }

    /// Live segments of samples and of records, by partition.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let samples = self.0.version.segments().map(|live| SegmentInfo {
            rollup_bytes: live.segment.rollup().map_or(0, Rollup::bytes),
            ..self.segment_info(&live.meta, live.segment.columns(), None)
        });
        let records = self.0.version.record_segments().map(|live| {
            let meta = live.meta();
            self.segment_info(&meta.segment, live.segment.bytes(), Some(Arc::clone(meta.table.name())))
        });
        let mut infos: Vec<SegmentInfo> = samples.chain(records).collect();
        infos.sort_by_key(|info| info.partition_start);
        infos
    }

    fn segment_info(&self, meta: &SegmentMeta, columns: ColumnBytes, table: Option<Arc<str>>) -> SegmentInfo {
        SegmentInfo {
            file: format!("partitions/{}/{}", meta.partition, meta.file),
            table,
            partition_start: self.0.partitioning.range(meta.partition).start,
            level: meta.level,
            rows: meta.rows,
            series: meta.series,
            blocks: meta.blocks,
            bytes: meta.bytes,
            ts_bytes: columns.ts,
            value_bytes: columns.values,
            series_bytes: columns.series,
            rest_bytes: columns.rest,
            rollup_bytes: 0,
            min_ts: meta.min_ts,
            max_ts: meta.max_ts,
            max_lsn: meta.max_lsn,
        }
    }

    /// Time partitions, oldest first.
    pub fn partitions(&self) -> Vec<PartitionInfo> {
        let info = |(&number, partition): (&i64, &Partition)| {
            let first = partition.metas().map(|meta| meta.min_ts).min();
            let last = partition.metas().map(|meta| meta.max_ts).max();
            let range = self.0.partitioning.range(number);
            PartitionInfo {
                range,
                segments: partition.metas().count() as u64,
                rows: partition.metas().map(|meta| meta.rows).sum(),
                bytes: partition.metas().map(|meta| meta.bytes).sum(),
                series: u64::from(partition.series),
                samples: first.zip(last).map(|(start, end)| TimeRange { start, end }),
                expires_ns: self.0.retention.expiry(range),
            }
        };
        self.0.version.partitions.iter().map(info).collect()
    }

    /// Files of the write-ahead log as they are now, oldest first; the last one is being written.
    pub fn wal(&self) -> Vec<WalFileInfo> {
        self.0.wal_files.describe(self.0.lsn)
    }

    /// Keyed state as of this snapshot.
    ///
    /// # Errors
    /// `Corruption` when the value is damaged on disk.
    pub fn state(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>> {
        self.0.state.get(key)
    }

    /// Whether there is keyed state of this key.
    pub fn has_state(&self, key: &[u8]) -> bool {
        self.0.state.has(key)
    }

    /// Keyed state whose key starts with `prefix`, in key order.
    ///
    /// # Errors
    /// `Corruption` when a value is damaged on disk.
    pub fn state_prefix(&self, prefix: &[u8]) -> Result<Vec<StatePair>> {
        self.0.state.prefix(prefix)
    }

    /// Keys of state that start with `prefix`, in order.
    pub fn state_keys(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        self.0.state.keys(prefix)
    }

    /// How much keyed state has keys that start with `prefix`.
    pub fn state_size(&self, prefix: &[u8]) -> StateSize {
        self.0.state.size(prefix)
    }
}

fn metric_info(ordinal: u32, metric: &Metric) -> MetricInfo {
    MetricInfo {
        name: Arc::clone(&metric.name),
        ordinal,
        series: metric.series_count.into(),
        label_names: metric.label_names.iter().map(Arc::clone).collect(),
    }
}
