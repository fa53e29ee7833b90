//! Making rollups: with each merge, and for segments that have none when nothing is to be merged.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::layout::rollup_beside;
use crate::manifest::Change;
use crate::rollup::{Rollup, RollupMeta, write};
use crate::segment::Segment;
use crate::version::{LiveSegment, Version};

use super::Core;

impl Core {
    /// Sums the rows of a segment up into the file beside it, if its metrics ask for that, and opens that.
    ///
    /// # Durability
    /// File and name are synced when this returns.
    ///
    /// # Errors
    /// `DiskFull` also once it takes of the reserve: how large a rollup gets is not known before.
    pub(super) fn write_rollup(
        &self,
        segment: &Segment,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<(RollupMeta, Rollup)>> {
        let Some(rules) = &self.rollups else { return Ok(None) };
        let concerned = |metric: u32| {
            let head = self.head.read();
            head.metrics().get(metric as usize).is_some_and(|metric| rules.concern(&metric.name))
        };
        let path = rollup_beside(segment.path());
        let mut room = true;
        let mut go_on = || {
            room = self.has_room_to_merge(0);
            room && go_on()
        };
        let written = write(&*self.fs, segment, &path, rules, &concerned, &mut go_on);
        if !room || !self.has_room_to_merge(0) {
            self.give_up(std::slice::from_ref(&path), &[]);
            let (free_bytes, needed_bytes) = self.disk_room();
            return Err(Error::DiskFull { path, needed_bytes, free_bytes });
        }
        let Some(meta) = written? else { return Ok(None) };
        self.fs.sync_dir(path.parent().unwrap_or(Path::new("")))?;
        let rollup = Rollup::open(&*self.fs, &path, &meta, segment.meta())?;
        Ok(Some((meta, rollup)))
    }

    /// The newest segment that should have a rollup and has none: small new ones are soon merged, and have to wait for that.
    pub(super) fn plan_rollup(&self, version: &Version) -> Option<Arc<LiveSegment>> {
        self.rollups.as_ref()?;
        let newest = *version.partitions.iter().rfind(|(_, partition)| !partition.segments.is_empty())?.0;
        let due = |live: &&Arc<LiveSegment>| live.meta.level > 0 || live.meta.partition < newest;
        version.segments().filter(due).filter(|live| !live.segment.is_rolled_up()).last().map(Arc::clone)
    }

    /// Gives a segment the rollup that it has not. `compacting` must be held: the segment stays meanwhile.
    pub(super) fn add_rollup(&self, live: &LiveSegment) -> Result<()> {
        let mut before = (self.clock.now_ns(), self.counters.samples.load(Ordering::Relaxed));
        let made = match self.write_rollup(&live.segment, &mut || self.pace(&mut before)) {
            Err(error @ Error::Corruption { .. }) => {
                // Damage of rows is for their readers to tell; it must not keep other work from being done.
                tracing::warn!(%error, "a damaged segment gets no rollup");
                None
            }
            made => made?,
        };
        let Some((meta, rollup)) = made else {
            live.segment.set_rollup(None);
            return Ok(());
        };
        let edited = self.edit(|_| vec![Change::AddRollup(meta)]);
        if let Err(Error::DiskFull { .. }) = edited {
            self.give_up(&[rollup_beside(live.segment.path())], &[]);
        }
        edited?;
        live.segment.set_rollup(Some(rollup));
        Ok(())
    }

    /// The rollups that the manifest lists for the segments `files` of a partition.
    pub(super) fn rollups_of<'a>(
        &'a self,
        contents: &'a crate::manifest::Contents,
        partition: i64,
        files: impl IntoIterator<Item = &'a String> + 'a,
    ) -> impl Iterator<Item = PathBuf> + 'a {
        let listed = move |file: &&String| contents.rollups.contains_key(&(partition, (*file).clone()));
        files.into_iter().filter(listed).map(move |file| self.layout.rollup_of(partition, file))
    }
}
