//! Making rollups: with each merge, and for segments that have none when nothing is to be merged.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::compaction::newest;
use crate::error::{Error, Result};
use crate::layout::rollup_beside;
use crate::manifest::Change;
use crate::rollup::{Rollup, RollupMeta, write};
use crate::segment::Segment;
use crate::version::{LiveSegment, Version};

use super::Core;

/// The first pause after a rollup could not be made; the next one is twice as long, and so on, up to ..
const PAUSE_MIN_NS: i64 = 60 * 1_000_000_000;
/// .. this.
const PAUSE_MAX_NS: i64 = 6 * 3600 * 1_000_000_000;
/// With so many more bytes free, and a quarter more, a rollup that found no room is tried again at once.
const FREED_BYTES_MIN: u64 = 16 << 20;

/// A rollup that could not be made: making it reads a whole segment, so it is not tried all the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct PutOff {
    until_ns: i64,
    pause_ns: i64,
    /// Bytes that were free, if there was no room.
    free_bytes: Option<u64>,
}

impl PutOff {
    /// After another failure at `now_ns`.
    fn again(before: Option<Self>, now_ns: i64, free_bytes: Option<u64>) -> Self {
        let pause_ns = before.map_or(PAUSE_MIN_NS, |before| before.pause_ns.saturating_mul(2).min(PAUSE_MAX_NS));
        Self { until_ns: now_ns.saturating_add(pause_ns), pause_ns, free_bytes }
    }

    fn is_over(&self, now_ns: i64, free_bytes: u64) -> bool {
        let enough = |then: u64| then.saturating_add((then / 4).max(FREED_BYTES_MIN));
        now_ns >= self.until_ns || self.free_bytes.is_some_and(|then| free_bytes > enough(then))
    }
}

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
        self.counters.rollups.fetch_add(1, Ordering::Relaxed);
        self.counters.rollup_bytes_written.fetch_add(meta.bytes, Ordering::Relaxed);
        self.fs.sync_dir(path.parent().unwrap_or(Path::new("")))?;
        let rollup = Rollup::open(&*self.fs, &path, &meta, segment.meta())?;
        Ok(Some((meta, rollup)))
    }

    /// The newest segment that should have a rollup and has none, or a damaged one: small new ones are soon merged, and have to
    /// wait for that. One that could not be made is put off, and keeps none of the others from being made.
    pub(super) fn plan_rollup(&self, version: &Version) -> Option<Arc<LiveSegment>> {
        self.rollups.as_ref()?;
        let now_ns = self.clock.now_ns();
        let filled =
            version.partitions.iter().filter(|(_, partition)| !partition.segments.is_empty()).map(|(&at, _)| at);
        let newest = newest(filled, self.partitioning.of(now_ns))?;
        let mut put_off = self.rollups_put_off.lock();
        put_off.retain(|path, _| version.segments().any(|live| live.segment.path() == path));
        let free_bytes = if put_off.is_empty() { 0 } else { self.disk_room().0 };
        let due = |live: &&Arc<LiveSegment>| {
            let lacks = !live.segment.is_rolled_up() && (live.meta.level > 0 || live.meta.partition < newest);
            let wanted = lacks || live.segment.rollup().is_some_and(Rollup::is_damaged);
            wanted && put_off.get(live.segment.path()).is_none_or(|put_off| put_off.is_over(now_ns, free_bytes))
        };
        version.segments().filter(due).last().map(Arc::clone)
    }

    /// Gives a segment the rollup that it has not, or a sound one. `compacting` must be held: the segment stays meanwhile.
    ///
    /// # Errors
    /// Those of making it, which is then put off.
    pub(super) fn add_rollup(&self, live: &LiveSegment) -> Result<()> {
        let made = self.make_rollup(live);
        let mut put_off = self.rollups_put_off.lock();
        let before = put_off.remove(live.segment.path());
        match &made {
            // The store is closing.
            Ok(()) | Err(Error::Unavailable(_)) => {}
            Err(error) => {
                let free_bytes = error.is_disk_full().then(|| self.disk_room().0);
                let again = PutOff::again(before, self.clock.now_ns(), free_bytes);
                put_off.insert(live.segment.path().to_owned(), again);
            }
        }
        made
    }

    fn make_rollup(&self, live: &LiveSegment) -> Result<()> {
        let mut before = (self.clock.now_ns(), self.counters.samples.load(Ordering::Relaxed));
        let made = match self.write_rollup(&live.segment, &mut || self.pace(&mut before)) {
            Err(error @ Error::Corruption { .. }) => {
                // Damage of rows is for their readers to tell; it must not keep other work from being done.
                tracing::warn!(%error, "a damaged segment gets no rollup");
                None
            }
            made => made?,
        };
        let Some((meta, rollup)) = made else { return self.settle_rollup(live, None) };
        let edited = self.edit(|_| vec![Change::AddRollup(meta)]);
        if let Err(Error::DiskFull { .. }) = edited {
            self.give_up(&[rollup_beside(live.segment.path())], &[]);
        }
        edited?;
        self.settle_rollup(live, Some(rollup))
    }

    /// From now on the rollup of a segment is `rollup`. Who reads a damaged one goes on with that: the segment is opened anew
    /// beside it.
    fn settle_rollup(&self, live: &LiveSegment, rollup: Option<Rollup>) -> Result<()> {
        if !live.segment.is_rolled_up() {
            live.segment.set_rollup(rollup);
            return Ok(());
        }
        let fresh = LiveSegment::open(&self.fs, live.segment.path().to_owned(), &live.meta)?;
        fresh.segment.set_rollup(rollup);
        let mut state = self.live.lock();
        let mut version = (*state.version).clone();
        // Not retired: the files stay.
        version.remove(live.meta.partition, std::slice::from_ref(&live.meta.file));
        version.add(fresh);
        state.version = Arc::new(version);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_early_when_there_is_room() {
        let first = PutOff::again(None, 0, None);
        assert!(!first.is_over(PAUSE_MIN_NS - 1, u64::MAX) && first.is_over(PAUSE_MIN_NS, 0));
        let later = (0..40).fold(first, |before, _| PutOff::again(Some(before), 0, None));
        assert_eq!(later.until_ns, PAUSE_MAX_NS);
        let full = PutOff::again(None, 0, Some(1 << 30));
        assert!(!full.is_over(1, (1 << 30) + (1 << 28)) && full.is_over(1, (1 << 30) + (1 << 28) + 1));
        assert!(!PutOff::again(None, 0, Some(0)).is_over(1, FREED_BYTES_MIN));
    }
}
