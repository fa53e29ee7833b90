//! Versions: the live segments at one moment. A reader holds one, and what it refers to stays on disk as long.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::catalog::PartitionIndex;
use crate::error::Result;
use crate::fs::Fs;
use crate::layout::rollup_beside;
use crate::records::LiveRecords;
use crate::rollup::{Rollup, RollupMeta};
use crate::segment::{Segment, SegmentMeta};
use crate::tombstone::Tombstone;

/// A segment that some version refers to. Its file goes with the last version once the manifest has removed it.
pub(crate) struct LiveSegment {
    pub(crate) meta: SegmentMeta,
    pub(crate) segment: Arc<Segment>,
    fs: Arc<dyn Fs>,
    path: PathBuf,
    obsolete: AtomicBool,
}

impl LiveSegment {
    pub(crate) fn open(fs: &Arc<dyn Fs>, path: PathBuf, meta: &SegmentMeta) -> Result<Arc<Self>> {
        let segment = Arc::new(Segment::open(&**fs, &path, meta)?);
        let (fs, obsolete) = (Arc::clone(fs), AtomicBool::new(false));
        Ok(Arc::new(Self { meta: meta.clone(), segment, fs, path, obsolete }))
    }

    /// Opens the rollup that the manifest lists with it. One that is missing, damaged or another is as good as none.
    pub(crate) fn open_rollup(&self, meta: &RollupMeta) {
        match Rollup::open(&*self.fs, &rollup_beside(&self.path), meta, &self.meta) {
            Ok(rollup) => self.segment.set_rollup(Some(rollup)),
            Err(error) => {
                tracing::warn!(%error, "a rollup cannot be used: reading rows in its stead until it is made again")
            }
        }
    }

    /// The manifest no longer has it.
    pub(crate) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    fn remove(&self) -> Result<()> {
        self.fs.remove(&self.path)?;
        let rollup = rollup_beside(&self.path);
        if self.fs.exists(&rollup)? { self.fs.remove(&rollup) } else { Ok(()) }
    }
}

impl Drop for LiveSegment {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire)
            && let Err(error) = self.remove()
        {
            // The manifest lists it as removed: the next open deletes it.
            tracing::warn!(%error, "cannot delete a replaced segment");
        }
    }
}

/// A time partition.
#[derive(Clone, Default)]
pub(crate) struct Partition {
    /// Oldest commits first.
    pub(crate) segments: Vec<Arc<LiveSegment>>,
    /// Of all tables, oldest commits first.
    pub(crate) records: Vec<Arc<LiveRecords>>,
    /// Series in its series files.
    pub(crate) series: u32,
    /// Their postings; none before its first series file.
    pub(crate) index: Option<Arc<PartitionIndex>>,
}

impl Partition {
    /// What the manifest keeps of each segment, of samples and of records.
    pub(crate) fn metas(&self) -> impl Iterator<Item = &SegmentMeta> {
        let samples = self.segments.iter().map(|live| &live.meta);
        samples.chain(self.records.iter().map(|live| &live.meta().segment))
    }

    /// Bytes of all segments and their rollups.
    pub(crate) fn bytes(&self) -> u64 {
        let rollups = self.segments.iter().filter_map(|live| live.segment.rollup());
        self.metas().map(|meta| meta.bytes).sum::<u64>() + rollups.map(Rollup::bytes).sum::<u64>()
    }
}

/// The live segments by partition.
#[derive(Clone, Default)]
pub(crate) struct Version {
    pub(crate) partitions: BTreeMap<i64, Partition>,
}

impl Version {
    /// With `segment` added.
    pub(crate) fn add(&mut self, segment: Arc<LiveSegment>) {
        let segments = &mut self.partitions.entry(segment.meta.partition).or_default().segments;
        let at = segments.partition_point(|other| other.meta.max_lsn < segment.meta.max_lsn);
        segments.insert(at, segment);
    }

    /// Without the segments of `partition` named `files`, which are returned.
    pub(crate) fn remove(&mut self, partition: i64, files: &[String]) -> Vec<Arc<LiveSegment>> {
        let Some(partition) = self.partitions.get_mut(&partition) else { return Vec::new() };
        let (gone, left) =
            std::mem::take(&mut partition.segments).into_iter().partition(|s| files.contains(&s.meta.file));
        partition.segments = left;
        gone
    }

    /// With `records` added.
    pub(crate) fn add_records(&mut self, records: Arc<LiveRecords>) {
        let segment = &records.meta().segment;
        let all = &mut self.partitions.entry(segment.partition).or_default().records;
        let at = all.partition_point(|other| other.meta().segment.max_lsn < segment.max_lsn);
        all.insert(at, records);
    }

    /// Without the record segments of `partition` named `files`, which are returned.
    pub(crate) fn remove_records(&mut self, partition: i64, files: &[String]) -> Vec<Arc<LiveRecords>> {
        let Some(partition) = self.partitions.get_mut(&partition) else { return Vec::new() };
        partition.records.extract_if(.., |records| files.contains(&records.meta().segment.file)).collect()
    }

    /// The indexes of `partitions`, and none of their rows.
    pub(crate) fn indexes_of(&self, partitions: impl IntoIterator<Item = i64>) -> Self {
        let index = |number: i64| {
            let Partition { series, index, .. } = self.partitions.get(&number)?;
            Some((number, Partition { series: *series, index: index.clone(), ..Partition::default() }))
        };
        Self { partitions: partitions.into_iter().filter_map(index).collect() }
    }

    /// Whether `tombstone` concerns a segment, of samples or of records.
    pub(crate) fn is_concerned_by(&self, tombstone: &Tombstone) -> bool {
        self.segments().any(|live| tombstone.concerns(&live.segment, live.meta.applied))
            || self.record_segments().any(|live| tombstone.concerns_records(&live.segment))
    }

    /// Every record segment, by partition.
    pub(crate) fn record_segments(&self) -> impl Iterator<Item = &Arc<LiveRecords>> {
        self.partitions.values().flat_map(|partition| &partition.records)
    }

    /// Every segment, by partition.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &Arc<LiveSegment>> {
        self.partitions.values().flat_map(|partition| &partition.segments)
    }
}
