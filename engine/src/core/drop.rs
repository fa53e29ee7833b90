//! Dropping whole partitions: rows, series files and index at once, without reading them.
//!
//! ```text
//!  compacting, flushing held          creating held
//!  orphans: series of no other   -->  those active keep a home     manifest    readers    index keys go with the
//!  partition                          in another series file;  --> edit    --> switch --> last snapshot (sweep)
//!                                     the others are buried
//! ```
//! A series that is active may have rows in the log that no series file but a dropped one defines, so its definition
//! moves into the same manifest edit. One that is not active cannot become so while `creating` is held, and once buried
//! is neither found by its labels nor taken by its id: its labels get a new id when they come back.
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::manifest::{Change, Manifest};
use crate::types::{LabelSet, SeriesId, SeriesSet};

use super::Core;
use super::flush::Written;

impl Core {
    /// See [`crate::Engine::drop_before`].
    pub(crate) fn drop_before(&self, before_ns: i64) -> Result<usize> {
        let version = Arc::clone(&self.live.lock().version);
        let past = version.partitions.keys().copied().filter(|&number| self.partitioning.range(number).end < before_ns);
        let past: Vec<i64> = past.collect();
        drop(version);
        if !past.is_empty() {
            self.drop_partitions(&past)?;
        }
        Ok(past.len())
    }

    /// Removes partitions with everything in them.
    ///
    /// # Durability
    /// One manifest edit. Files and index keys go when the last snapshot that reads them does, or at the next open.
    pub(crate) fn drop_partitions(&self, partitions: &[i64]) -> Result<()> {
        let _compacting = self.compacting.lock();
        let mut members = self.flushing.lock();
        self.refuse_if_poisoned()?;
        // What the catalogue does not know yet may be at home nowhere else.
        self.index(&mut members.unindexed)?;
        let (gone, others) = self.indexes_of(partitions);
        let orphans = self.catalogue.orphans(&gone, &others)?;
        let creating = self.creating.lock();
        let (active, buried) = self.part_orphans(&orphans);
        let mut written = Written::default();
        if !active.is_empty() {
            let home = self.home_without(partitions);
            self.write_series_file(home, active, &mut written).inspect_err(|_| self.abandon(&written))?;
            members.known.remove(&home);
        }
        written.changes.extend(self.numbers_given(&buried));
        let edit =
            self.edit(|manifest| self.drop_changes(manifest, partitions, &mut written)).inspect_err(|error| {
                if matches!(error, Error::DiskFull { .. }) {
                    self.abandon(&written);
                }
            })?;
        self.catalogue.bury(&buried);
        drop(creating);
        partitions.iter().for_each(|partition| drop(members.known.remove(partition)));
        members.unindexed.push((edit, std::mem::take(&mut written.series)));
        // Those that moved are active: they can be found without it.
        if let Err(error) = self.index(&mut members.unindexed) {
            tracing::warn!(%error, "the catalogue takes no moved series; trying again before the next flush");
        }
        self.forget_partitions(partitions);
        drop(members);
        self.sweep();
        Ok(())
    }

    /// A catalogue that is rebuilt does not see the buried series any more, and must not give their ids to others: the log
    /// and the state of consumers may still speak of them.
    fn numbers_given(&self, buried: &SeriesSet) -> Vec<Change> {
        let head = self.head.read();
        let metrics = buried.metrics().filter_map(|(metric, _)| Some((metric, head.metrics().get(metric as usize)?)));
        metrics.map(|(metric, known)| Change::Numbered { metric, next: known.series_count }).collect()
    }

    /// What takes `partitions` out of the store, and what `written` adds to it.
    fn drop_changes(&self, manifest: &Manifest, partitions: &[i64], written: &mut Written) -> Vec<Change> {
        let contents = manifest.contents();
        let mut changes = Vec::new();
        for meta in contents.segments.values().filter(|meta| partitions.contains(&meta.partition)) {
            let path = self.layout.partition(meta.partition).join(&meta.file);
            changes.push(Change::RemoveSegment { partition: meta.partition, file: meta.file.clone() });
            changes.push(Change::Removed(self.layout.name_of(&path)));
            let rollups = self.rollups_of(contents, meta.partition, [&meta.file]);
            changes.extend(rollups.map(|path| Change::Removed(self.layout.name_of(&path))));
        }
        let records = contents.records.values().map(|meta| &meta.segment);
        for meta in records.filter(|meta| partitions.contains(&meta.partition)) {
            let path = self.layout.partition(meta.partition).join(&meta.file);
            changes.push(Change::RemoveRecords { partition: meta.partition, file: meta.file.clone() });
            changes.push(Change::Removed(self.layout.name_of(&path)));
        }
        for file in contents.series_files.iter().filter(|file| partitions.contains(&file.partition)) {
            let path = self.layout.series_file(file.partition, file.number);
            changes.push(Change::Removed(self.layout.name_of(&path)));
        }
        changes.extend(partitions.iter().map(|&partition| Change::DropSeries(partition)));
        changes.append(&mut written.changes);
        changes.push(Change::NextFile(self.finish_files(&written.numbers)));
        changes
    }

    /// Deletes index keys that no reader needs any more; `compacting` must be held. Flushes go on meanwhile. What it fails to
    /// delete stays for the next time.
    pub(super) fn sweep(&self) {
        if self.catalogue.is_swept() {
            return;
        }
        // A series that has just moved must be known at its new home before the old one is looked at.
        let all_indexed = self.flushing.lock().unindexed.is_empty();
        if all_indexed && let Err(error) = self.catalogue.sweep() {
            tracing::warn!(%error, "the index of a dropped partition stays for now");
        }
    }

    /// The numbers of the indexes of `partitions`, and of all others.
    fn indexes_of(&self, partitions: &[i64]) -> (Vec<u64>, Vec<u64>) {
        let version = Arc::clone(&self.live.lock().version);
        let (mut of, mut others) = (Vec::new(), Vec::new());
        for (number, partition) in &version.partitions {
            let list = if partitions.contains(number) { &mut of } else { &mut others };
            list.extend(partition.index.as_ref().map(|index| index.number));
        }
        (of, others)
    }

    /// Those that are active, with their labels, and the others.
    fn part_orphans(&self, orphans: &SeriesSet) -> (Vec<(SeriesId, LabelSet)>, SeriesSet) {
        let head = self.head.read();
        let (mut active, mut buried) = (Vec::new(), SeriesSet::default());
        for id in orphans.iter() {
            match head.labels_of(id) {
                Some(labels) => active.push((id, labels.clone())),
                None => buried.insert(id),
            }
        }
        (active, buried)
    }

    /// Where series without rows are at home: the newest partition that stays, or the next one from today's on.
    fn home_without(&self, partitions: &[i64]) -> i64 {
        let version = Arc::clone(&self.live.lock().version);
        let newest = version.partitions.keys().rev().find(|number| !partitions.contains(number));
        let today = self.partitioning.of(self.clock.now_ns());
        newest.copied().or_else(|| (today..).find(|number| !partitions.contains(number))).unwrap_or(today)
    }

    /// Takes the partitions from readers to come, and deletes their files once nobody reads them.
    fn forget_partitions(&self, partitions: &[i64]) {
        let mut live = self.live.lock();
        let mut version = (*live.version).clone();
        let gone: Vec<_> = partitions.iter().filter_map(|number| version.partitions.remove(number)).collect();
        let before = std::mem::replace(&mut live.version, Arc::new(version));
        // How late the last of them ended matters less than that whoever keeps answers forgets them.
        live.changes.add(i64::MIN);
        drop(live);
        for partition in &gone {
            partition.segments.iter().for_each(|segment| segment.retire());
            partition.records.iter().for_each(|records| records.retire());
            partition.index.iter().for_each(|index| index.retire());
        }
        drop((before, gone));
        for &partition in partitions {
            if let Err(error) = self.remove_series_files(partition) {
                tracing::warn!(%error, partition, "cannot delete a dropped partition's files; the next open will");
            }
        }
    }

    /// Deletes the series files of a dropped partition: only an open reads them.
    fn remove_series_files(&self, partition: i64) -> Result<()> {
        let dir = self.layout.partition(partition);
        for name in self.fs.list(&dir)? {
            let path = dir.join(&name);
            let removed = self.manifest.lock().contents().removed.contains(&self.layout.name_of(&path));
            if removed && name.ends_with(".series") {
                self.fs.remove(&path)?;
            }
        }
        Ok(())
    }
}
