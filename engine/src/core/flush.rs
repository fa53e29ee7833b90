//! Flush: sealed memtables become segments, series files and a state file, with one manifest edit.
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::catalog::{PartitionIndex, write_series_file};
use crate::error::{Error, Result};
use crate::manifest::{Change, SeriesFile};
use crate::memtable::{Held, Memtable, SeriesRows, SortedRun, merge_rows};
use crate::records::LiveRecords;
use crate::segment::SegmentWriter;
use crate::state::StateMap;
use crate::tombstone::{Tombstone, Tombstones};
use crate::types::{LabelSet, Lsn, SeriesId, SeriesSet, TimeRange};
use crate::version::{LiveSegment, Version};

use super::{Core, Live, Sealed};

/// Partitions written in one pass over the rows: bounds open files and buffers when old data comes in.
const PARTITIONS_AT_ONCE: usize = 16;
/// Partitions whose members stay in memory.
const MEMBERS_KEPT: usize = 4;

/// What one flush hands on to the next.
#[derive(Default)]
pub(crate) struct Members {
    /// Which series each recently flushed partition already has.
    pub(super) known: BTreeMap<i64, SeriesSet>,
    /// Series files that the catalogue could not take, by manifest edit. Their series are all active, so that selecting
    /// finds them without it; no other flush or drop happens, and no series is forgotten, before it has taken them.
    pub(super) unindexed: Vec<(u64, Vec<NewSeries>)>,
    /// The series of flushed memtables that a snapshot has kept. It finds them through the head index alone, so none of
    /// them is forgotten as long as it lives.
    pub(super) kept: Vec<(Weak<Held>, SeriesSet)>,
}

impl Members {
    /// Before `sealed`, whose rows are in segments now, goes: notes the series of what snapshots keep of it.
    fn keep(&mut self, sealed: &[Arc<Sealed>]) {
        self.kept.retain(|(held, _)| held.strong_count() > 0);
        for sealed in sealed {
            let held = &sealed.memtable.held;
            if Arc::strong_count(sealed) > 1 || Arc::strong_count(held) > 1 {
                self.kept.push((Arc::downgrade(held), sealed.memtable.series()));
            }
        }
    }
}

/// What a flush has written and not yet told the manifest.
#[derive(Default)]
pub(super) struct Written {
    pub(super) paths: Vec<PathBuf>,
    pub(super) numbers: Vec<u64>,
    pub(super) changes: Vec<Change>,
    segments: Vec<Arc<LiveSegment>>,
    pub(super) records: Vec<Arc<LiveRecords>>,
    pub(super) series: Vec<NewSeries>,
    /// Deletions that concern segments from now on.
    tombstones: Vec<Tombstone>,
    /// Rows left out because they are deleted.
    pub(super) rows_deleted: u64,
    /// All keyed state, in its new file.
    state: Option<StateMap>,
}

/// The series of a new series file.
pub(super) struct NewSeries {
    partition: i64,
    index: u64,
    base: u32,
    series: Vec<(SeriesId, LabelSet)>,
}

/// A segment being written, and the series in it.
struct PartitionWriter {
    writer: SegmentWriter,
    path: PathBuf,
    series: Vec<SeriesId>,
}

impl Live {
    /// Starts a new active memtable if the present one has commits.
    pub(super) fn seal(&mut self, now_ns: i64) {
        if self.active.is_empty() {
            return;
        }
        let next = Memtable::new(self.active.number + 1, self.lsn, now_ns, self.active.held.total());
        let memtable = std::mem::replace(&mut self.active, next);
        self.sealed.push(Arc::new(Sealed { memtable, state: self.state.clone() }));
    }
}

/// Takes `others` out of `ids`; both increase.
fn take_out(ids: &mut Vec<SeriesId>, others: &[SeriesId]) {
    let mut others = others.iter().peekable();
    ids.retain(|id| {
        while others.next_if(|other| *other < id).is_some() {}
        others.peek() != Some(&id)
    });
}

/// The runs of `sealed`, oldest first, without what later commits delete.
fn visible_runs(sealed: &[Arc<Sealed>], tombstones: &Tombstones, written: &mut Written) -> Vec<Arc<SortedRun>> {
    let mut runs = Vec::new();
    for Sealed { memtable, .. } in sealed.iter().map(|sealed| &**sealed) {
        let hidden = tombstones.after(memtable.lsn, TimeRange::ALL);
        let tail = Arc::new(SortedRun::from_batches(&memtable.tail));
        for run in memtable.runs.iter().chain([&tail]) {
            let (run, gone) = run.visible(&hidden);
            runs.push(run);
            written.rows_deleted += gone;
        }
    }
    runs
}

impl Core {
    /// See [`crate::Engine::flush`]. After a failure the memtables stay, and the next flush writes new files; only a
    /// manifest edit that failed for another reason than a full disk is final.
    pub(crate) fn flush(&self) -> Result<()> {
        let mut members = self.flushing.lock();
        self.refuse_if_poisoned()?;
        self.index(&mut members.unindexed)?;
        if self.disk_runs_short() {
            self.queue.ask_for_new_file();
        }
        let sealed = {
            let mut live = self.live.lock();
            live.seal(self.clock.now_ns());
            live.sealed.clone()
        };
        if let Some(newest) = sealed.last() {
            // Series created up to the seal: those without a sample yet must not be lost with the log either.
            let mut unplaced = std::mem::take(&mut *self.unplaced.lock());
            unplaced.sort_unstable_by_key(|pair| pair.0);
            let mut written = Written::default();
            if let Err(error) = self.flush_sealed(&sealed, newest, &unplaced, &mut members, &mut written) {
                members.known.clear();
                self.unplaced.lock().splice(..0, unplaced);
                self.abandon(&written);
                return Err(error);
            }
            self.counters.flushes.fetch_add(1, Ordering::Relaxed);
            members.keep(&sealed);
            if members.unindexed.is_empty() {
                self.forget_idle_series(&members.kept);
            }
        }
        self.truncate_wal()
    }

    fn flush_sealed(
        &self,
        sealed: &[Arc<Sealed>],
        newest: &Sealed,
        unplaced: &[(SeriesId, LabelSet)],
        members: &mut Members,
        written: &mut Written,
    ) -> Result<()> {
        let flushed = newest.memtable.lsn;
        let tombstones = self.tombstones_of_flush(flushed, written);
        let runs = visible_runs(sealed, &tombstones, written);
        let first = Lsn(self.manifest.lock().contents().flushed.0 + 1);
        let mut series = self.write_segments(&runs, (first, flushed), written)?;
        drop(runs);
        self.write_records(sealed, &tombstones, (first, flushed), &mut series, written)?;
        self.write_series_files(&mut series, unplaced, members, written)?;
        if sealed.iter().any(|sealed| sealed.memtable.state_changed) {
            let number = self.new_file_number();
            written.numbers.push(number);
            let path = self.layout.state_file(number);
            written.paths.push(path.clone());
            written.state = Some(newest.state.write_file(&*self.fs, &path, flushed)?);
            written.changes.push(Change::StateFile(number));
        }
        if !self.config.sync_every_commit {
            // The manifest must not know of commits that a power cut can still take from the log.
            self.wal_files.sync(&*self.fs).inspect_err(|error| self.queue.set_poison(error))?;
        }
        self.commit_flush(flushed, sealed, members, written)?;
        if let Some(filed) = written.state.take() {
            newest.state.settle(&filed, &self.live, |live| &mut live.state);
        }
        Ok(())
    }

    /// What was deleted up to `flushed`; of that, what concerns segments goes into the manifest.
    fn tombstones_of_flush(&self, flushed: Lsn, written: &mut Written) -> Tombstones {
        let (version, before, tombstones) = {
            let live = self.live.lock();
            (Arc::clone(&live.version), live.flushed, live.tombstones.up_to(flushed))
        };
        written.tombstones = tombstones.flushed(before, flushed);
        written.tombstones.retain(|tombstone| version.is_concerned_by(tombstone));
        written.changes.extend(written.tombstones.iter().cloned().map(Change::AddTombstone));
        tombstones
    }

    /// Writes a segment for each partition and returns the series of each.
    fn write_segments(
        &self,
        runs: &[Arc<SortedRun>],
        lsns: (Lsn, Lsn),
        written: &mut Written,
    ) -> Result<BTreeMap<i64, Vec<SeriesId>>> {
        let partitions = self.partitions_of(runs);
        let mut series = BTreeMap::new();
        for partitions in partitions.chunks(PARTITIONS_AT_ONCE) {
            let mut writers: BTreeMap<i64, PartitionWriter> = BTreeMap::new();
            for &partition in partitions {
                self.ensure_partition_dir(partition)?;
                let number = self.new_file_number();
                written.numbers.push(number);
                let path = self.layout.segment_file(partition, number);
                written.paths.push(path.clone());
                let writer = SegmentWriter::create(&*self.fs, &path, partition, 0, lsns)?
                    .with_timelines(self.config.timeline_bytes_max / partitions.len());
                writers.insert(partition, PartitionWriter { writer, path, series: Vec::new() });
            }
            merge_rows(runs, |rows| self.append_rows(&rows, &mut writers))?;
            for (partition, open) in writers {
                let meta = open.writer.finish()?;
                self.fs.sync_dir(&self.layout.partition(partition))?;
                written.segments.push(LiveSegment::open(&self.fs, open.path, &meta)?);
                written.changes.push(Change::AddSegment(meta));
                series.insert(partition, open.series);
            }
        }
        Ok(series)
    }

    /// Creates a partition's directory, durably. One that exists may have been made just before a crash or a failed
    /// sync, so its entry is synced again.
    pub(super) fn ensure_partition_dir(&self, partition: i64) -> Result<()> {
        self.fs.create_dir(&self.layout.partition(partition))?;
        self.fs.sync_dir(&self.layout.partitions())
    }

    /// The partitions that rows of `runs` lie in, in order.
    fn partitions_of(&self, runs: &[Arc<SortedRun>]) -> Vec<i64> {
        let mut partitions = std::collections::BTreeSet::new();
        let mut within = None;
        for &ts in runs.iter().flat_map(|run| &run.ts) {
            if within.is_none_or(|range: TimeRange| !range.contains(ts)) {
                let partition = self.partitioning.of(ts);
                partitions.insert(partition);
                within = Some(self.partitioning.range(partition));
            }
        }
        partitions.into_iter().collect()
    }

    /// Gives each of the open writers its part of a series.
    fn append_rows(&self, rows: &SeriesRows<'_>, writers: &mut BTreeMap<i64, PartitionWriter>) -> Result<()> {
        let mut at = 0;
        while let Some(&ts) = rows.ts.get(at) {
            let partition = self.partitioning.of(ts);
            let end = self.partitioning.range(partition).end;
            let until = at + rows.ts[at..].partition_point(|&ts| ts <= end);
            if let Some(open) = writers.get_mut(&partition) {
                open.writer.append(rows.series, &rows.ts[at..until], &rows.values[at..until])?;
                open.series.push(rows.series);
            }
            at = until;
        }
        Ok(())
    }

    /// The labels of `ids`, most of which are `unplaced`; both are sorted by id.
    fn labels_of_new(&self, ids: &[SeriesId], unplaced: &[(SeriesId, LabelSet)]) -> Result<Vec<(SeriesId, LabelSet)>> {
        let mut unplaced = unplaced.iter().peekable();
        let (mut found, mut others) = (Vec::with_capacity(ids.len()), Vec::new());
        for &id in ids {
            while unplaced.next_if(|pair| pair.0 < id).is_some() {}
            match unplaced.peek() {
                Some((unplaced, labels)) if *unplaced == id => found.push((id, labels.clone())),
                _ => others.push(id),
            }
        }
        found.extend(self.labels_of(&others)?);
        Ok(found)
    }

    /// Writes the series that are new to each partition; those without a sample go with the newest partition. `unplaced` are
    /// sorted by id, and so are those of a partition.
    fn write_series_files(
        &self,
        series: &mut BTreeMap<i64, Vec<SeriesId>>,
        unplaced: &[(SeriesId, LabelSet)],
        members: &mut Members,
        written: &mut Written,
    ) -> Result<()> {
        if !unplaced.is_empty() {
            let home = match series.last_key_value() {
                Some((&partition, _)) => partition,
                None => self.live.lock().version.partitions.last_key_value().map_or(0, |(&partition, _)| partition),
            };
            let mut homeless: Vec<SeriesId> = unplaced.iter().map(|pair| pair.0).collect();
            homeless.dedup();
            series.values().for_each(|placed| take_out(&mut homeless, placed));
            let at_home = series.entry(home).or_default();
            at_home.extend(homeless);
            at_home.sort();
        }
        for (&partition, ids) in &*series {
            let known = match members.known.entry(partition) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let index = self.manifest.lock().contents().index_of(partition);
                    unknown
                        .insert(index.map_or_else(|| Ok(SeriesSet::default()), |index| self.catalogue.members(index))?)
                }
            };
            let new = known.missing(ids);
            if new.is_empty() {
                continue;
            }
            let labels = self.labels_of_new(&new, unplaced)?;
            known.extend(&new);
            self.write_series_file(partition, labels, written)?;
        }
        while members.known.len() > MEMBERS_KEPT {
            members.known.pop_first();
        }
        Ok(())
    }

    /// Writes a series file. `flushing` must be held: it decides the local ordinals.
    pub(super) fn write_series_file(
        &self,
        partition: i64,
        mut series: Vec<(SeriesId, LabelSet)>,
        written: &mut Written,
    ) -> Result<()> {
        self.ensure_partition_dir(partition)?;
        let number = self.new_file_number();
        written.numbers.push(number);
        let path = self.layout.series_file(partition, number);
        written.paths.push(path.clone());
        write_series_file(&*self.fs, &path, &mut series)?;
        let (base, index) = {
            let manifest = self.manifest.lock();
            (manifest.contents().series_in(partition), manifest.contents().index_of(partition).unwrap_or(number))
        };
        let file = SeriesFile { partition, number, base, series: series.len() as u32, edit: 0 };
        written.changes.push(Change::AddSeriesFile(file));
        written.series.push(NewSeries { partition, index, base, series });
        Ok(())
    }

    /// The manifest edit, then what readers see.
    fn commit_flush(
        &self,
        flushed: Lsn,
        sealed: &[Arc<Sealed>],
        members: &mut Members,
        written: &mut Written,
    ) -> Result<()> {
        let mut changes = std::mem::take(&mut written.changes);
        let mut old_state = None;
        let edit = self.edit(|manifest| {
            let old = manifest.contents();
            if changes.iter().any(|change| matches!(change, Change::StateFile(_))) {
                old_state = old.state_file.map(|number| self.layout.state_file(number));
            }
            changes.extend(old_state.iter().map(|path| Change::Removed(self.layout.name_of(path))));
            changes.push(Change::Claims(self.claims.lock().clone()));
            changes.push(Change::Flushed(flushed));
            changes.push(Change::NextFile(self.finish_files(&written.numbers)));
            changes
        });
        if !matches!(edit, Err(Error::DiskFull { .. })) {
            // Once the edit was tried, its files may be part of the store: they are no longer ours to delete.
            written.paths.clear();
        }
        let edit = edit?;
        members.unindexed.push((edit, std::mem::take(&mut written.series)));
        // The catalogue before the version: who sees a partition's new series must find their postings.
        if let Err(error) = self.index(&mut members.unindexed) {
            tracing::warn!(%error, "the catalogue takes no new series; trying again before the next flush");
        }
        {
            let mut live = self.live.lock();
            let mut version = (*live.version).clone();
            written.segments.drain(..).for_each(|segment| version.add(segment));
            written.records.drain(..).for_each(|records| version.add_records(records));
            live.version = Arc::new(version);
            let before = live.flushed;
            let others = live.tombstones.iter().filter(|other| other.lsn <= before || other.lsn > flushed).cloned();
            live.tombstones = others.chain(written.tombstones.drain(..)).collect();
            live.flushed = flushed;
            live.sealed.retain(|memtable| !sealed.iter().any(|flushed| Arc::ptr_eq(flushed, memtable)));
        }
        self.counters.rows_deleted.fetch_add(written.rows_deleted, Ordering::Relaxed);
        let bytes = sealed.iter().map(|sealed| sealed.memtable.bytes).sum();
        self.memtable_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(path) = old_state
            && let Err(error) = self.fs.remove(&path)
        {
            tracing::warn!(%error, "cannot delete a replaced state file");
        }
        self.compactor.wake();
        Ok(())
    }

    /// Gives the catalogue what it has not taken yet, in the order of edits, then lets readers ask it for that.
    pub(super) fn index(&self, unindexed: &mut Vec<(u64, Vec<NewSeries>)>) -> Result<()> {
        while let Some((edit, files)) = unindexed.first() {
            for new in files {
                self.catalogue.add_series(new.index, new.base, &new.series)?;
            }
            self.catalogue.set_filled(*edit)?;
            let mut live = self.live.lock();
            let mut version = (*live.version).clone();
            self.add_indexes(&mut version, files);
            live.version = Arc::new(version);
            drop(live);
            unindexed.remove(0);
        }
        Ok(())
    }

    /// Lets `version` see the series of new files, which must be indexed.
    fn add_indexes(&self, version: &mut Version, files: &[NewSeries]) {
        for new in files {
            let partition = version.partitions.entry(new.partition).or_default();
            partition.series = new.base + new.series.len() as u32;
            partition.index.get_or_insert_with(|| PartitionIndex::new(&self.catalogue, new.index));
        }
    }

    /// Deletes the files of an interrupted flush or compaction.
    pub(super) fn give_up(&self, paths: &[PathBuf], numbers: &[u64]) {
        for path in paths {
            if self.fs.exists(path).unwrap_or(false)
                && let Err(error) = self.fs.remove(path)
            {
                tracing::warn!(%error, "cannot delete an unfinished file; the next open will");
            }
        }
        self.finish_files(numbers);
    }

    pub(super) fn abandon(&self, written: &Written) {
        self.give_up(&written.paths, &written.numbers);
    }

    /// For a clean stop, when nothing writes any more: an empty file takes the place of the one that was written last,
    /// so that the log of a stopped store holds only what is not flushed or what a consumer has yet to read.
    pub(crate) fn empty_wal(&self) -> Result<()> {
        let _no_flush = self.flushing.lock();
        let flushed = self.manifest.lock().contents().flushed;
        if self.live.lock().lsn == flushed {
            self.wal_files.start_file(&*self.fs, &self.layout.wal(), flushed.0 + 1)?;
        }
        self.truncate_wal()
    }

    /// Deletes log files that nothing needs. One caller at a time: whoever holds `flushing`.
    fn truncate_wal(&self) -> Result<()> {
        let flushed = self.manifest.lock().contents().flushed;
        let claimed = self.claims.lock().values().copied().min().unwrap_or(Lsn(u64::MAX));
        let retained_max = self.config.wal_retained_bytes_max;
        self.wal_files.truncate(&*self.fs, &self.layout.wal(), flushed.0, claimed.0, retained_max)
    }
}
