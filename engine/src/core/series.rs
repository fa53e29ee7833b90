//! Finding and creating series.
use std::sync::Weak;

use crate::catalog::{Activation, Head};
use crate::error::{Error, Result};
use crate::memtable::Held;
use crate::types::{LabelSet, SeriesId, SeriesSet};

use super::Core;

/// Series idle for this long are forgotten by the head index; the catalogue still knows them.
const IDLE_NS: i64 = 3_600_000_000_000;
/// ... or for this long, when the index has little memory left.
const IDLE_UNDER_PRESSURE_NS: i64 = 600_000_000_000;
/// Series that are created under one lock, which is held for a millisecond or two. Small groups hand it on so often that cores are
/// idle meanwhile.
const NEW_AT_ONCE: usize = 1024;
/// Series of a kept memtable that are marked under one lock.
const SERIES_AT_ONCE: usize = 4096;

/// What the head index knows of a label set.
enum Known {
    Id(SeriesId),
    /// Only that there are other series of its metric.
    Metric,
    New,
}

impl Core {
    /// See [`crate::Engine::resolve_keyed`].
    pub(crate) fn resolve_keyed(&self, series: &[(u128, LabelSet)]) -> Vec<Result<SeriesId>> {
        let mut ids = Vec::with_capacity(series.len());
        for series in series.chunks(NEW_AT_ONCE) {
            let labels: Vec<&LabelSet> = series.iter().map(|pair| &pair.1).collect();
            let found = self.resolve_all(&labels);
            let known = series.iter().zip(&found).filter_map(|((key, _), id)| Some((*key, *id.as_ref().ok()?)));
            self.keys.insert(&known.collect::<Vec<_>>());
            ids.extend(found);
        }
        ids
    }

    /// See [`crate::Engine::resolve`].
    pub(crate) fn resolve(&self, labels: &LabelSet) -> Result<SeriesId> {
        // One for one.
        self.resolve_all(&[labels]).pop().unwrap_or_else(|| Err(Error::Unavailable("no answer".into())))
    }

    /// The id of each of `labels`, of which there are at most [`NEW_AT_ONCE`]: whoever creates series waits for others.
    fn resolve_all(&self, labels: &[&LabelSet]) -> Vec<Result<SeriesId>> {
        let (hashes, active) = {
            let head = self.head.read();
            let hashes: Vec<u32> = labels.iter().map(|labels| head.hash_of(labels)).collect();
            let known = labels.iter().zip(&hashes).map(|(labels, &hash)| head.id_of(labels, hash));
            let active = known.collect::<Option<Vec<SeriesId>>>();
            (hashes, active)
        };
        if let Some(ids) = active {
            return ids.into_iter().map(Ok).collect();
        }
        let _creating = self.creating.lock();
        // What is found here counts: while the catalogue is asked, an eviction may forget it.
        let known: Vec<Known> = {
            let head = self.head.read();
            let known = |(labels, &hash): (&&LabelSet, &u32)| match head.id_of(labels, hash) {
                Some(id) => Known::Id(id),
                // Every metric is in memory, so a series of a new one cannot be on disk.
                None if head.ordinal_of(labels.metric_name()).is_none() => Known::New,
                None => Known::Metric,
            };
            labels.iter().zip(&hashes).map(known).collect()
        };
        let stored = labels.iter().zip(known).map(|(labels, known)| match known {
            Known::Id(id) => Ok(Some(id)),
            Known::New => Ok(None),
            Known::Metric => self.catalogue.id_of(labels),
        });
        let stored: Vec<Result<Option<SeriesId>>> = stored.collect();
        let mut head = self.head.write();
        let mut head = head.activation();
        let series = labels.iter().zip(hashes).zip(stored);
        series.map(|((labels, hash), stored)| self.activate(&mut head, (labels, hash), stored?)).collect()
    }

    /// The id of `labels`, with their hash: that of an active series, or the one that was found or is `stored`, or a new one.
    /// `creating` must be held.
    fn activate(
        &self,
        head: &mut Activation<'_>,
        (labels, hash): (&LabelSet, u32),
        stored: Option<SeriesId>,
    ) -> Result<SeriesId> {
        if let Some(id) = head.id_of(labels, hash) {
            return Ok(id);
        }
        if let Some(id) = stored {
            self.refuse_if_index_holds(head, self.config.index_bytes_max)?;
            head.activate_hashed(id, labels.clone(), hash);
            return Ok(id);
        }
        // The last tenth is for series that come back.
        self.refuse_if_index_holds(head, self.config.index_bytes_max / 10 * 9)?;
        if head.active() >= self.config.active_series_max {
            return Err(Error::Limit(format!(
                "{} series are active, the most allowed; send fewer label combinations or raise the limit",
                head.active()
            )));
        }
        let id = head.next_id(labels).ok_or_else(|| Error::Limit("no more series numbers for this metric".into()))?;
        // Pending before the id can be seen: whoever commits a batch with it also commits its definition. Unplaced before
        // that: the flush of a commit places every series whose definition was logged before, for replay passes these over.
        self.unplaced.lock().push((id, labels.clone()));
        self.pending.lock().push((id, labels.clone()));
        head.activate_hashed(id, labels.clone(), hash);
        Ok(id)
    }

    fn refuse_if_index_holds(&self, head: &Head, bytes_max: usize) -> Result<()> {
        if head.bytes() < bytes_max {
            return Ok(());
        }
        Err(Error::Limit(format!(
            "the index of {} active series holds {} MiB, its share of the memory; send fewer label combinations or give \
             the server more memory",
            head.active(),
            head.bytes() >> 20
        )))
    }

    /// Marks series as in use, so that `select` finds their samples in memtables; brings forgotten ones back.
    pub(super) fn touch(&self, ids: &[SeriesId]) -> Result<()> {
        let mut missing = self.head.read().touch(ids);
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        missing.dedup();
        let _creating = self.creating.lock();
        let labels = self.catalogue.labels_of(&missing)?;
        let mut head = self.head.write();
        let mut head = head.activation();
        for (id, labels) in missing.into_iter().zip(labels) {
            match labels {
                Some(labels) if !self.catalogue.is_dead(id) => head.activate(id, labels),
                // Another writer may just have activated it.
                _ if head.labels_of(id).is_some() => {}
                _ if head.has_existed(id) => {
                    let message = format!("series {} went with its last partition; resolve its labels again", id.0);
                    return Err(Error::Unavailable(message));
                }
                _ => return Err(Error::Invalid(format!("series {} does not exist; resolve its labels first", id.0))),
            }
        }
        Ok(())
    }

    /// Takes the series that are not in the log yet.
    pub(super) fn take_pending(&self) -> Vec<(SeriesId, LabelSet)> {
        std::mem::take(&mut *self.pending.lock())
    }

    /// Takes back series that did not reach the log after all.
    pub(super) fn return_pending(&self, series: Vec<(SeriesId, LabelSet)>) {
        self.pending.lock().splice(..0, series);
    }

    /// The labels of `ids`, from memory or disk.
    pub(super) fn labels_of(&self, ids: &[SeriesId]) -> Result<Vec<(SeriesId, LabelSet)>> {
        let mut found = Vec::with_capacity(ids.len());
        let mut missing = Vec::new();
        {
            let head = self.head.read();
            for &id in ids {
                match head.labels_of(id) {
                    Some(labels) => found.push((id, labels.clone())),
                    None => missing.push(id),
                }
            }
        }
        for (&id, labels) in missing.iter().zip(self.catalogue.labels_of(&missing)?) {
            let labels = labels.ok_or_else(|| Error::Catalogue(format!("no labels for series {}", id.0)))?;
            found.push((id, labels));
        }
        found.sort_unstable_by_key(|pair| pair.0);
        Ok(found)
    }

    /// After a flush: forgets series that were idle since the last time, at most once an hour, or every ten minutes when
    /// three quarters of the index' memory are used.
    ///
    /// Each series in a memtable was touched after the previous call: everything written before that has been flushed.
    /// Those of flushed memtables that a snapshot has `kept` stay in use.
    pub(super) fn forget_idle_series(&self, kept: &[(Weak<Held>, SeriesSet)]) {
        use std::sync::atomic::Ordering::Relaxed;
        let now = self.clock.now_ns();
        let crowded = self.head.read().bytes() >= self.config.index_bytes_max / 4 * 3;
        let idle_ns = if crowded { IDLE_UNDER_PRESSURE_NS } else { IDLE_NS };
        if now.saturating_sub(self.evicted_ns.load(Relaxed)) < idle_ns {
            return;
        }
        self.evicted_ns.store(now, Relaxed);
        for (_, series) in kept {
            let series: Vec<SeriesId> = series.iter().collect();
            if let Err(error) = series.chunks(SERIES_AT_ONCE).try_for_each(|ids| self.touch(ids)) {
                tracing::warn!(%error, "idle series stay in memory until the next time");
                return;
            }
        }
        let evicted = Head::evict_idle(&self.head);
        if !evicted.is_empty() {
            self.keys.evict(&evicted);
            tracing::info!(series = evicted.len(), "forgot idle series");
        }
    }
}
