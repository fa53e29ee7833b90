//! Compaction: carrying out what the plan says, for samples and for each table of records.
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::compaction::{Candidate, Input, Job, Load, Merged, execute, pause, plan};
use crate::engine::CompactionSummary;
use crate::error::{Error, Result};
use crate::layout::rollup_beside;
use crate::manifest::Change;
use crate::tombstone::{Tombstone, Tombstones};
use crate::types::{Lsn, TimeRange};
use crate::version::{LiveSegment, Version};

use super::Core;
use super::records::RecordJob;

/// What a merge works with: segments, and the deletions in the manifest at the same moment.
pub(super) struct Base {
    pub(super) version: Arc<Version>,
    pub(super) tombstones: Tombstones,
    /// Deletions up to here are among `tombstones` if they concern a segment.
    flushed: Lsn,
    pub(super) deletes_press: bool,
}

/// A merge to do, with what it reads.
enum Work {
    Samples(Job, Vec<Input>),
    /// Of a segment that has none.
    Rollup(Arc<LiveSegment>),
    Records(RecordJob),
}

/// What a merge came to.
pub(super) struct Outcome {
    /// Segments read.
    pub(super) inputs: usize,
    /// Rows written; none when all were deleted, and then there is no segment.
    pub(super) rows: u64,
    /// Deleted rows left out.
    pub(super) rows_deleted: u64,
}

impl Base {
    /// The next merge, if one is due.
    fn plan(&self) -> Option<Work> {
        let job = self.plan_samples().map(|job| {
            let inputs = self.inputs(&job);
            Work::Samples(job, inputs)
        });
        job.or_else(|| self.plan_records().map(Work::Records))
    }

    fn plan_samples(&self) -> Option<Job> {
        let concerned =
            |live: &LiveSegment| self.tombstones.iter().any(|t| t.concerns(&live.segment, live.meta.applied));
        let candidates: Vec<Candidate> = self
            .version
            .segments()
            .map(|live| Candidate { meta: live.meta.clone(), deleted: concerned(live) })
            .collect();
        plan(&candidates, self.deletes_press)
    }

    fn inputs(&self, job: &Job) -> Vec<Input> {
        let inputs = self
            .version
            .segments()
            .filter(|live| live.meta.partition == job.partition && job.inputs.contains(&live.meta.file));
        inputs
            .map(|live| Input {
                segment: Arc::clone(&live.segment),
                hidden: self.tombstones.after(live.meta.applied, TimeRange::ALL),
            })
            .collect()
    }

    /// Tombstones that concern no segment any more. Later flushes cannot change that: their segments are newer.
    fn spent(&self) -> Vec<(Lsn, u32)> {
        self.tombstones.iter().filter(|t| !self.version.is_concerned_by(t)).map(Tombstone::key).collect()
    }
}

impl Work {
    /// Bytes that it reads, and may write.
    fn bytes(&self) -> u64 {
        match self {
            Self::Samples(_, inputs) => inputs.iter().map(|input| input.segment.meta().bytes).sum(),
            Self::Rollup(live) => live.meta.bytes,
            Self::Records(job) => job.bytes(),
        }
    }
}

impl Core {
    /// See [`crate::Engine::compact`].
    pub(crate) fn compact(&self) -> Result<CompactionSummary> {
        let mut summary = CompactionSummary::default();
        while self.compact_once(&mut summary)? {}
        Ok(summary)
    }

    /// Drops what is past the retention, does all merges and makes one rollup at most; whether there may be more to do. Making
    /// the rollups of a large store takes hours, which the retention, and whoever waits for `compacting`, must not wait.
    fn compact_once(&self, summary: &mut CompactionSummary) -> Result<bool> {
        summary.partitions_dropped += self.apply_retention()?;
        self.delete_expired()?;
        let _one = self.compacting.lock();
        self.sweep();
        loop {
            let base = self.base();
            let mut work = base.plan();
            if work.is_none() {
                self.forget_tombstones(&base.spent())?;
                work = self.plan_rollup(&base.version).map(Work::Rollup);
            }
            let Some(work) = work else { return Ok(false) };
            let flushed = base.flushed;
            drop(base);
            if !self.has_room_to_merge(work.bytes()) {
                return Ok(false);
            }
            let done = match &work {
                Work::Samples(job, inputs) => self.merge(job, inputs, flushed)?,
                Work::Rollup(live) => {
                    self.add_rollup(live)?;
                    return Ok(true);
                }
                Work::Records(job) => self.merge_records(job, flushed)?,
            };
            summary.rows += done.rows;
            summary.rows_deleted += done.rows_deleted;
            summary.segments_in += done.inputs;
            summary.segments_out += usize::from(done.rows > 0);
            self.counters.compactions.fetch_add(1, Ordering::Relaxed);
            self.counters.rows_deleted.fetch_add(done.rows_deleted, Ordering::Relaxed);
        }
    }

    fn base(&self) -> Base {
        let live = self.live.lock();
        Base {
            version: Arc::clone(&live.version),
            tombstones: live.tombstones.up_to(live.flushed),
            flushed: live.flushed,
            deletes_press: live.deletes_press(),
        }
    }

    /// Between two steps of a merge: leaves time to others; whether to go on.
    pub(super) fn pace(&self, before: &mut (i64, u64)) -> bool {
        let samples = self.counters.samples.load(Ordering::Relaxed);
        let busy_ns = self.clock.now_ns().saturating_sub(before.0).max(0);
        let load = Load {
            samples: samples.saturating_sub(before.1),
            flush_is_behind: self.memtable_bytes() >= self.config.memtable_bytes_max,
        };
        let go_on = self.compactor.pause(pause(load, Duration::from_nanos(busy_ns as u64)));
        *before = (self.clock.now_ns(), self.counters.samples.load(Ordering::Relaxed));
        go_on
    }

    fn merge(&self, job: &Job, inputs: &[Input], flushed: Lsn) -> Result<Outcome> {
        let number = self.new_file_number();
        let path = self.layout.segment_file(job.partition, number);
        let started_ns = self.clock.now_ns();
        let mut before = (started_ns, self.counters.samples.load(Ordering::Relaxed));
        let mut go_on = || self.pace(&mut before);
        let timelines_max = self.config.timeline_bytes_max;
        let merged = execute(&*self.fs, inputs, &path, job.level, timelines_max, &mut go_on).and_then(|merged| {
            let Merged { segment, rows_deleted } = merged.ok_or_else(closing)?;
            let Some(mut meta) = segment else { return Ok((None, None, rows_deleted)) };
            meta.applied = meta.max_lsn.max(flushed);
            self.fs.sync_dir(&self.layout.partition(job.partition))?;
            let merged = LiveSegment::open(&self.fs, path.clone(), &meta)?;
            let rollup = match self.write_rollup(&merged.segment, &mut go_on) {
                Err(error) if error.is_disk_full() => {
                    // The merge itself fits, and frees what it read: later there may be room.
                    tracing::warn!(%error, "a merged segment gets no rollup yet");
                    None
                }
                made => Some(made?),
            };
            Ok((Some(merged), rollup, rows_deleted))
        });
        let paths = [path.clone(), rollup_beside(&path)];
        let (merged, rollup, rows_deleted) = merged.inspect_err(|_| self.give_up(&paths, &[number]))?;
        let listed = rollup.iter().flatten().map(|(listed, _)| Change::AddRollup(listed.clone()));
        let added = merged.iter().map(|segment| Change::AddSegment(segment.meta.clone())).chain(listed);
        let removed =
            job.inputs.iter().map(|file| Change::RemoveSegment { partition: job.partition, file: file.clone() });
        self.replace(job, added.chain(removed).collect(), &paths, number)?;
        if let (Some(merged), Some(rollup)) = (&merged, rollup) {
            merged.segment.set_rollup(rollup.map(|(_, rollup)| rollup));
        }
        let rows = merged.as_ref().map_or(0, |segment| segment.meta.rows);
        let bytes_read = inputs.iter().map(|input| input.segment.meta().bytes).sum();
        self.count_merge(bytes_read, merged.as_ref().map_or(0, |segment| segment.meta.bytes), started_ns);
        let mut live = self.live.lock();
        let mut version = (*live.version).clone();
        let replaced = version.remove(job.partition, &job.inputs);
        merged.into_iter().for_each(|segment| version.add(segment));
        live.version = Arc::new(version);
        drop(live);
        // Their files go when the last snapshot that reads them does.
        replaced.iter().for_each(|segment| segment.retire());
        Ok(Outcome { inputs: inputs.len(), rows, rows_deleted })
    }

    /// The manifest edit after a merge: `changes`, and the files of the inputs go. Without room for it the output, files
    /// `paths` of that number, is given up.
    pub(super) fn replace(&self, job: &Job, mut changes: Vec<Change>, paths: &[PathBuf], number: u64) -> Result<()> {
        let dir = self.layout.partition(job.partition);
        let name = |file: &String| self.layout.name_of(&dir.join(file));
        changes.extend(job.inputs.iter().map(|file| Change::Removed(name(file))));
        let edited = self.edit(|manifest| {
            let rollups = self.rollups_of(manifest.contents(), job.partition, &job.inputs);
            changes.extend(rollups.map(|path| Change::Removed(self.layout.name_of(&path))));
            changes.push(Change::NextFile(self.finish_files(&[number])));
            changes
        });
        if let Err(Error::DiskFull { .. }) = edited {
            self.give_up(paths, &[number]);
        }
        edited.map(drop)
    }

    /// Counts the work of a merge that is done.
    pub(super) fn count_merge(&self, bytes_read: u64, bytes_written: u64, started_ns: i64) {
        let counters = &self.counters;
        counters.merge_bytes_read.fetch_add(bytes_read, Ordering::Relaxed);
        counters.merge_bytes_written.fetch_add(bytes_written, Ordering::Relaxed);
        let took_ns = self.clock.now_ns().saturating_sub(started_ns).max(0);
        counters.merge_ns.fetch_add(took_ns as u64, Ordering::Relaxed);
    }

    fn forget_tombstones(&self, spent: &[(Lsn, u32)]) -> Result<()> {
        if spent.is_empty() {
            return Ok(());
        }
        self.edit(|_| spent.iter().map(|&(lsn, number)| Change::RemoveTombstone(lsn, number)).collect())?;
        let mut live = self.live.lock();
        live.tombstones = live.tombstones.iter().filter(|t| !spent.contains(&t.key())).cloned().collect();
        Ok(())
    }
}

/// Why a merge was left.
pub(super) fn closing() -> Error {
    Error::Unavailable("compaction ends because the store is closing".into())
}
