//! Records on their way through the store: admitted, flushed, compacted.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::datatypes::{Schema, SchemaRef};

use crate::compaction::{Candidate, Job, plan};
use crate::error::Result;
use crate::manifest::Change;
use crate::records::{self, Filter, LiveRecords, Memory, Merged, Output, Recent, RecordTable, Source, Tables};
use crate::tombstone::{Hidden, Tombstones};
use crate::types::{Lsn, SeriesId, TimeRange};
use crate::write_batch::WriteBatch;

use super::compact::{Base, Outcome, closing};
use super::flush::Written;
use super::{Core, Sealed};

/// Record segments to be merged into one.
pub(super) struct RecordJob {
    table: RecordTable,
    job: Job,
    /// Oldest commits first, each with what of it was deleted since.
    sources: Vec<(Arc<LiveRecords>, Hidden)>,
}

impl RecordJob {
    /// Bytes that it reads, and may write.
    pub(super) fn bytes(&self) -> u64 {
        self.sources.iter().map(|(live, _)| live.meta().segment.bytes).sum()
    }

    /// Every column of its sources.
    fn columns(&self) -> Result<SchemaRef> {
        let mut tables = Tables::default();
        for (live, _) in &self.sources {
            tables.admit(&self.table, live.segment.columns())?;
        }
        let known = tables.get(self.table.name()).map(|known| Arc::clone(&known.columns));
        Ok(known.unwrap_or_else(|| Arc::new(Schema::empty())))
    }
}

impl Base {
    /// The next merge of records, if one is due: each table by the plan for samples.
    pub(super) fn plan_records(&self) -> Option<RecordJob> {
        let concerned = |live: &LiveRecords| self.tombstones.iter().any(|t| t.concerns_records(&live.segment));
        let mut tables: BTreeMap<&str, Vec<Candidate>> = BTreeMap::new();
        for live in self.version.record_segments() {
            let meta = live.meta();
            let candidate = Candidate { meta: meta.segment.clone(), deleted: concerned(live) };
            tables.entry(&**meta.table.name()).or_default().push(candidate);
        }
        let job = tables.values().find_map(|candidates| plan(candidates, self.today, self.deletes_press))?;
        // File names are unique in a partition.
        let of_job = |live: &&Arc<LiveRecords>| {
            let segment = &live.meta().segment;
            segment.partition == job.partition && job.inputs.contains(&segment.file)
        };
        let hidden = |live: &LiveRecords| self.tombstones.after(live.meta().segment.applied, TimeRange::ALL);
        let inputs = self.version.record_segments().filter(of_job);
        let sources: Vec<_> = inputs.map(|live| (Arc::clone(live), hidden(live))).collect();
        Some(RecordJob { table: sources.first()?.0.meta().table.clone(), job, sources })
    }
}

/// `declared` with what is new in `batch`.
fn admitted(declared: &Tables, batch: &WriteBatch) -> Result<Tables> {
    let mut tables = declared.clone();
    batch.records.iter().try_for_each(|records| tables.admit(&records.table, records.columns.schema_ref()))?;
    Ok(tables)
}

impl Core {
    /// Checks the records of a batch that a writer brings. Nothing of it is declared yet: what comes after may refuse it.
    pub(super) fn check_records(&self, batch: &WriteBatch) -> Result<()> {
        if batch.records.is_empty() {
            return Ok(());
        }
        batch.records.iter().try_for_each(|records| records::check(records))?;
        let declared = self.declared.lock().clone();
        admitted(&declared, batch).map(|_| ())
    }

    /// Calls `accept`, and fixes the types of the columns that are new in `batch` if that accepts it: a batch that is refused
    /// uses up none of the columns that there may be.
    pub(super) fn declare<T>(&self, batch: &WriteBatch, accept: impl FnOnce() -> Result<T>) -> Result<T> {
        if batch.records.is_empty() {
            return accept();
        }
        let mut declared = self.declared.lock();
        let with_batch = admitted(&declared, batch)?;
        let accepted = accept()?;
        *declared = with_batch;
        Ok(accepted)
    }

    /// Marks the series of samples and of records as in use.
    pub(super) fn touch_all(&self, batch: &WriteBatch) -> Result<()> {
        self.touch(&batch.series)?;
        batch.records.iter().try_for_each(|records| self.touch(&records.series))
    }

    /// Flushes the records of `sealed` that show to one segment for each table and partition, and adds their series to
    /// `series`.
    pub(super) fn write_records(
        &self,
        sealed: &[Arc<Sealed>],
        tombstones: &Tombstones,
        lsns: (Lsn, Lsn),
        series: &mut BTreeMap<i64, Vec<SeriesId>>,
        written: &mut Written,
    ) -> Result<()> {
        let mut tables: BTreeMap<Arc<str>, Vec<Recent>> = BTreeMap::new();
        for Sealed { memtable, .. } in sealed.iter().map(|sealed| &**sealed) {
            let hidden = tombstones.after(memtable.lsn, TimeRange::ALL);
            for records in memtable.records.iter() {
                let recent = Recent { records: Arc::clone(records), hidden: hidden.clone() };
                tables.entry(Arc::clone(records.table.name())).or_default().push(recent);
            }
        }
        for batches in tables.values() {
            let table = &batches[0].records.table;
            let split = Memory::split(batches, &Filter::ALL, |ts| self.partitioning.of(ts))?;
            written.rows_deleted += split.rows_deleted;
            for (partition, memory) in split.partitions {
                let of_partition = series.entry(partition).or_default();
                of_partition.extend(memory.series());
                of_partition.sort_unstable();
                of_partition.dedup();
                self.ensure_partition_dir(partition)?;
                let number = self.new_file_number();
                written.numbers.push(number);
                let path = self.layout.record_file(partition, number);
                written.paths.push(path.clone());
                let (table, columns) = (table.clone(), Arc::new(Schema::new(memory.columns())));
                let output = Output { path: &path, table, columns, partition, level: 0, lsns };
                // A flush is not given up.
                let merged = records::execute(&*self.fs, output, vec![Source::Memory(memory)], &mut || true)?;
                let Some(meta) = merged.and_then(|merged| merged.records) else { continue };
                self.fs.sync_dir(&self.layout.partition(partition))?;
                written.records.push(LiveRecords::open(&self.fs, path, &meta)?);
                written.changes.push(Change::AddRecords(meta));
            }
        }
        Ok(())
    }

    pub(super) fn merge_records(&self, next: &RecordJob, flushed: Lsn) -> Result<Outcome> {
        let RecordJob { table, job, sources } = next;
        let partition = job.partition;
        let number = self.new_file_number();
        let path = self.layout.record_file(partition, number);
        let started_ns = self.clock.now_ns();
        let mut before = (started_ns, self.counters.samples.load(Ordering::Relaxed));
        let mut go_on = || self.pace(&mut before);
        let metas = || sources.iter().map(|(live, _)| &live.meta().segment);
        let oldest = metas().map(|meta| meta.min_lsn).min().unwrap_or_default();
        let newest = metas().map(|meta| meta.max_lsn).max().unwrap_or_default();
        let merged = next.columns().and_then(|columns| {
            let (table, level, lsns) = (table.clone(), job.level, (oldest, newest));
            let output = Output { path: &path, table, columns, partition, level, lsns };
            let sources = sources.iter().map(|(live, hidden)| Source::Segment(Arc::clone(live), hidden.clone()));
            let merged = records::execute(&*self.fs, output, sources.collect(), &mut go_on)?;
            let Merged { records, rows_deleted } = merged.ok_or_else(closing)?;
            let Some(mut meta) = records else { return Ok((None, rows_deleted)) };
            meta.segment.applied = newest.max(flushed);
            self.fs.sync_dir(&self.layout.partition(partition))?;
            Ok((Some(LiveRecords::open(&self.fs, path.clone(), &meta)?), rows_deleted))
        });
        let (merged, rows_deleted) = merged.inspect_err(|_| self.give_up(std::slice::from_ref(&path), &[number]))?;
        let added = merged.iter().map(|records| Change::AddRecords(records.meta().clone()));
        let removed = job.inputs.iter().map(|file| Change::RemoveRecords { partition, file: file.clone() });
        self.replace(job, added.chain(removed).collect(), std::slice::from_ref(&path), number)?;
        let (rows, bytes) =
            merged.as_ref().map_or((0, 0), |live| (live.meta().segment.rows, live.meta().segment.bytes));
        self.count_merge(next.bytes(), bytes, started_ns);
        let mut live = self.live.lock();
        let mut version = (*live.version).clone();
        let replaced = version.remove_records(partition, &job.inputs);
        merged.into_iter().for_each(|records| version.add_records(records));
        live.version = Arc::new(version);
        drop(live);
        // Their files go when the last snapshot that reads them does.
        replaced.iter().for_each(|records| records.retire());
        Ok(Outcome { inputs: sources.len(), rows, rows_deleted })
    }
}
