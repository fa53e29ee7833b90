//! Records on their way through the store: admitted, flushed, compacted.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::Schema;

use crate::compaction::{Job, plan};
use crate::engine::CompactionSummary;
use crate::error::{Error, Result};
use crate::manifest::Change;
use crate::records::{
    self, Filter, LiveRecords, Memory, Merge, RecordMeta, RecordTable, RecordWriter, Records, Source,
};
use crate::segment::SegmentMeta;
use crate::types::{Lsn, SeriesId};
use crate::write_batch::WriteBatch;

use super::flush::Written;
use super::{Core, Sealed};

/// Rows in memory at a time, besides one group of each input.
const ROWS_AT_ONCE: usize = 8192;

/// Record segments being merged into one.
struct RecordJob {
    table: RecordTable,
    job: Job,
    inputs: Vec<Arc<LiveRecords>>,
}

impl Core {
    /// Checks the records of a batch that a writer brings, and fixes the types of its new columns.
    pub(super) fn admit_records(&self, batch: &WriteBatch) -> Result<()> {
        batch.records.iter().try_for_each(|records| records::check(records))?;
        self.declare(batch)
    }

    pub(super) fn declare(&self, batch: &WriteBatch) -> Result<()> {
        if batch.records.is_empty() {
            return Ok(());
        }
        let mut declared = self.declared.lock();
        batch.records.iter().try_for_each(|records| declared.admit(&records.table, records.columns.schema_ref()))
    }

    /// Marks the series of samples and of records as in use.
    pub(super) fn touch_all(&self, batch: &WriteBatch) -> Result<()> {
        self.touch(&batch.series)?;
        batch.records.iter().try_for_each(|records| self.touch(&records.series))
    }

    /// Flushes the records of `sealed` to one segment for each table and partition, and adds their series to `series`.
    pub(super) fn write_records(
        &self,
        sealed: &[Arc<Sealed>],
        lsns: (Lsn, Lsn),
        series: &mut BTreeMap<i64, Vec<SeriesId>>,
        written: &mut Written,
    ) -> Result<()> {
        let mut tables: BTreeMap<Arc<str>, Vec<Arc<Records>>> = BTreeMap::new();
        for records in sealed.iter().flat_map(|sealed| sealed.memtable.records.iter()) {
            tables.entry(Arc::clone(records.table.name())).or_default().push(Arc::clone(records));
        }
        for batches in tables.values() {
            let table = &batches[0].table;
            for (partition, memory) in Memory::split(batches, &Filter::ALL, |ts| self.partitioning.of(ts))? {
                let of_partition = series.entry(partition).or_default();
                of_partition.extend(memory.series());
                of_partition.sort_unstable();
                of_partition.dedup();
                self.ensure_partition_dir(partition)?;
                let number = self.new_file_number();
                written.numbers.push(number);
                let path = self.layout.record_file(partition, number);
                written.paths.push(path.clone());
                let columns = Arc::new(Schema::new(memory.columns()));
                let writer = RecordWriter::create(&*self.fs, &path, table.clone(), columns, partition, 0, lsns)?;
                // Without a flag that is ever set: a flush is not given up.
                let meta = self.write_merged(writer, vec![Source::Memory(memory)], || false)?;
                let Some(meta) = meta else { continue };
                self.fs.sync_dir(&self.layout.partition(partition))?;
                written.records.push(LiveRecords::open(&self.fs, path, &meta)?);
                written.changes.push(Change::AddRecords(meta));
            }
        }
        Ok(())
    }

    /// Merges `sources` into `writer`; `None` once `cancelled`.
    fn write_merged(
        &self,
        mut writer: RecordWriter,
        sources: Vec<Source>,
        cancelled: impl Fn() -> bool,
    ) -> Result<Option<RecordMeta>> {
        let (columns, unique) = (writer.columns().fields().to_vec(), writer.table().unique());
        let mut merge = Merge::new(sources, Filter::ALL, columns, unique, ROWS_AT_ONCE)?;
        while let Some(batch) = merge.next_batch()? {
            if cancelled() {
                return Ok(None);
            }
            writer.append(&batch)?;
        }
        writer.finish().map(Some)
    }

    /// Merges record segments until the plan of each table is empty.
    pub(super) fn compact_records(&self, summary: &mut CompactionSummary) -> Result<()> {
        while let Some(next) = self.plan_records() {
            summary.rows += self.merge_records(&next)?;
            summary.segments_in += next.inputs.len();
            summary.segments_out += 1;
            self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn plan_records(&self) -> Option<RecordJob> {
        let version = Arc::clone(&self.live.lock().version);
        let mut tables: BTreeMap<Arc<str>, Vec<SegmentMeta>> = BTreeMap::new();
        for live in version.record_segments() {
            let meta = live.meta();
            tables.entry(Arc::clone(meta.table.name())).or_default().push(meta.segment.clone());
        }
        let (name, job) = tables.into_iter().find_map(|(name, metas)| Some((name, plan(&metas)?)))?;
        let of_job = |live: &&Arc<LiveRecords>| {
            let meta = live.meta();
            meta.table.name() == &name
                && meta.segment.partition == job.partition
                && job.inputs.contains(&meta.segment.file)
        };
        let inputs: Vec<Arc<LiveRecords>> = version.record_segments().filter(of_job).map(Arc::clone).collect();
        Some(RecordJob { table: inputs.first()?.meta().table.clone(), job, inputs })
    }

    fn merge_records(&self, next: &RecordJob) -> Result<u64> {
        let partition = next.job.partition;
        let number = self.new_file_number();
        let path = self.layout.record_file(partition, number);
        let merged = self.write_compacted(next, &path).and_then(|meta| {
            self.fs.sync_dir(&self.layout.partition(partition))?;
            LiveRecords::open(&self.fs, path.clone(), &meta)
        });
        let merged = merged.inspect_err(|_| self.give_up(std::slice::from_ref(&path), &[number]))?;
        self.edit(|_| {
            let mut changes = vec![Change::AddRecords(merged.meta().clone())];
            for file in &next.job.inputs {
                changes.push(Change::RemoveRecords { partition, file: file.clone() });
                let path = self.layout.partition(partition).join(file);
                changes.push(Change::Removed(self.layout.name_of(&path)));
            }
            changes.push(Change::NextFile(self.finish_files(&[number])));
            changes
        })?;
        let rows = merged.meta().segment.rows;
        let replaced = {
            let mut live = self.live.lock();
            let mut version = (*live.version).clone();
            let replaced = version.remove_records(partition, &next.job.inputs);
            version.add_records(merged);
            live.version = Arc::new(version);
            replaced
        };
        // Their files go when the last snapshot that reads them does.
        replaced.iter().for_each(|records| records.retire());
        Ok(rows)
    }

    fn write_compacted(&self, next: &RecordJob, path: &Path) -> Result<RecordMeta> {
        let metas = || next.inputs.iter().map(|live| &live.meta().segment);
        let oldest = metas().map(|meta| meta.min_lsn).min().unwrap_or_default();
        let newest = metas().map(|meta| meta.max_lsn).max().unwrap_or_default();
        let mut columns = records::Tables::default();
        for live in &next.inputs {
            columns.admit(&next.table, live.segment.columns())?;
        }
        let columns = columns.get(next.table.name()).map(|known| Arc::clone(&known.columns));
        let columns = columns.unwrap_or_else(|| Arc::new(Schema::empty()));
        let (partition, level) = (next.job.partition, next.job.level);
        let table = next.table.clone();
        let writer = RecordWriter::create(&*self.fs, path, table, columns, partition, level, (oldest, newest))?;
        let sources = next.inputs.iter().map(|live| Source::Segment(Arc::clone(live))).collect();
        let cancelled = || self.compactor.stopped().load(Ordering::Relaxed);
        let meta = self.write_merged(writer, sources, cancelled)?;
        meta.ok_or_else(|| Error::Unavailable("compaction ends because the store is closing".into()))
    }
}
