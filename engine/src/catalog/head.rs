//! The head index: the active series in memory, and every metric.
//!
//! It answers `resolve` for active series and `select` for samples still in memtables. A series is active from its
//! creation (or its return) until it was idle for a while; only series that are in a series file may be forgotten.
//!
//! ```text
//!  labels --hash--> by_labels --.                .--> label set, one copy
//!                                +--> slot (u32) +
//!  id ------hash--> by_id ------'                '--> id            terms: label -> value -> slots
//! ```
//! An active series has a *slot*. Tables and postings hold slots, four bytes or less, and never copies of labels. A slot is
//! given to another series only at the end of an eviction, which counts up `evictions`: who asks without holding the lock
//! all the time compares that number ([`HeadPostings`](super::HeadPostings)).
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use croaring::Bitmap;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};
use parking_lot::{RwLock, RwLockWriteGuard};

use crate::types::{LabelSet, METRIC_NAME, SeriesId};

use super::activity::Activity;
use super::gather::Gathered;
use super::terms::Terms;

/// A metric.
#[derive(Debug)]
pub(crate) struct Metric {
    pub(crate) name: Arc<str>,
    /// Every label name ever seen, sorted, without `__name__`.
    pub(crate) label_names: Vec<Arc<str>>,
    /// Series ever created; the next one's number.
    pub(crate) series_count: u32,
    activity: Activity,
}

/// An active series.
#[derive(Debug)]
struct Slot {
    id: SeriesId,
    labels: LabelSet,
    /// Of the labels: a table that grows need not read them again.
    hash: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Head {
    metrics: Vec<Metric>,
    by_name: HashMap<Arc<str>, u32>,
    /// One copy of each label name.
    names: HashSet<Arc<str>>,
    slots: Vec<Option<Slot>>,
    /// Empty slots, the lowest last.
    free: Vec<u32>,
    hasher: DefaultHashBuilder,
    by_labels: HashTable<u32>,
    by_id: HashTable<u32>,
    terms: Terms,
    /// The slots in use.
    all: Bitmap,
    evictions: u64,
    /// Memory of label sets.
    label_bytes: usize,
    /// Memory of metrics: their names, label names and activity.
    metric_bytes: usize,
}

/// Slots that an eviction looks at under one lock.
const SLOTS_AT_ONCE: usize = 1024;
/// Memory of an active series besides its label set, its slot and its places in tables and postings: allocation and
/// counters of the set, the lists of new series.
const SERIES_BYTES: usize = 80;
/// Memory of a metric besides its name.
const METRIC_BYTES: usize = 192;
/// Memory of a label name of a metric ...
const METRIC_LABEL_BYTES: usize = 24;
/// ... and of the copy that metrics share, besides its text.
const LABEL_NAME_BYTES: usize = 80;

fn slot_of(slots: &[Option<Slot>], slot: u32) -> Option<&Slot> {
    slots.get(slot as usize)?.as_ref()
}

fn labels_of_slot(slots: &[Option<Slot>], slot: u32) -> Option<&LabelSet> {
    slot_of(slots, slot).map(|series| &series.labels)
}

/// A hash of all 64 bits, as tables want it, from the one that a slot keeps.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hash_of_slot(slots: &[Option<Slot>], slot: u32) -> u64 {
    slot_of(slots, slot).map_or(0, |series| spread(series.hash))
}

fn id_of_slot(slots: &[Option<Slot>], slot: u32) -> Option<SeriesId> {
    slot_of(slots, slot).map(|series| series.id)
}

impl Head {
    /// Active series.
    pub(crate) fn active(&self) -> usize {
        self.by_id.len()
    }
    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Option<Slot>>()
            + self.by_labels.allocation_size()
            + self.by_id.allocation_size()
            + self.label_bytes
            + self.by_id.len() * SERIES_BYTES
            + self.terms.bytes()
            + self.metric_bytes
    }
    /// Series ever created.
    pub(crate) fn series_count(&self) -> u64 {
        self.metrics.iter().map(|metric| u64::from(metric.series_count)).sum()
    }
    pub(crate) fn metrics(&self) -> &[Metric] {
        &self.metrics
    }
    /// Place of the metric `name` among [`Head::metrics`].
    pub(crate) fn ordinal_of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }
    /// The hash of `labels` that a slot keeps.
    pub(crate) fn hash_of(&self, labels: &LabelSet) -> u32 {
        (self.hasher.hash_one(labels) >> 32) as u32
    }
    /// The id of `labels`, whose hash is known.
    pub(crate) fn id_of(&self, labels: &LabelSet, hash: u32) -> Option<SeriesId> {
        let of_slot = |&slot: &u32| slot_of(&self.slots, slot);
        let same = |slot: &u32| of_slot(slot).is_some_and(|series| series.hash == hash && series.labels == *labels);
        id_of_slot(&self.slots, *self.by_labels.find(spread(hash), same)?)
    }
    pub(crate) fn labels_of(&self, id: SeriesId) -> Option<&LabelSet> {
        let hash = self.hasher.hash_one(id);
        let slot = self.by_id.find(hash, |&slot| id_of_slot(&self.slots, slot) == Some(id))?;
        labels_of_slot(&self.slots, *slot)
    }
    /// The ids of slots.
    pub(super) fn ids(&self, slots: &Bitmap) -> Vec<SeriesId> {
        slots.iter().filter_map(|slot| id_of_slot(&self.slots, slot)).collect()
    }
    /// Every slot in use.
    pub(super) fn all(&self) -> &Bitmap {
        &self.all
    }
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }
    /// How often slots became free.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Whether a series had this id at some time.
    pub(crate) fn has_existed(&self, id: SeriesId) -> bool {
        self.metrics.get(id.metric() as usize).is_some_and(|metric| id.number() < metric.series_count)
    }

    /// The id the next new series of this name gets; `None` when numbers run out.
    pub(crate) fn next_id(&self, labels: &LabelSet) -> Option<SeriesId> {
        match self.by_name.get(labels.metric_name()) {
            Some(&ordinal) => {
                let number = self.metrics[ordinal as usize].series_count;
                (number < u32::MAX).then(|| SeriesId::new(ordinal, number))
            }
            None => Some(SeriesId::new(u32::try_from(self.metrics.len()).ok()?, 0)),
        }
    }

    /// Makes sure the metric `ordinal` exists with this name, number of series and label names.
    pub(crate) fn restore_metric<'a>(
        &mut self,
        ordinal: u32,
        name: &str,
        series_count: u32,
        label_names: impl IntoIterator<Item = &'a str>,
    ) {
        self.make_room(ordinal);
        let metric = &mut self.metrics[ordinal as usize];
        if self.by_name.get(name) != Some(&ordinal) {
            metric.name = name.into();
            self.metric_bytes += name.len();
            self.by_name.insert(Arc::clone(&metric.name), ordinal);
        }
        metric.series_count = metric.series_count.max(series_count);
        for label in label_names {
            if let Err(at) = metric.label_names.binary_search_by(|known| (**known).cmp(label)) {
                if !self.names.contains(label) {
                    self.metric_bytes += LABEL_NAME_BYTES + label.len();
                }
                self.metric_bytes += METRIC_LABEL_BYTES;
                metric.label_names.insert(at, Arc::clone(self.names.get_or_insert_with(label, |label| label.into())));
            }
        }
    }

    /// Makes sure that no new series gets a number below `next` of the metric `ordinal`. One without a name has no series
    /// left: nothing is called by its ordinal again.
    pub(crate) fn keep_numbers(&mut self, ordinal: u32, next: u32) {
        self.make_room(ordinal);
        let metric = &mut self.metrics[ordinal as usize];
        if self.by_name.get(&metric.name) == Some(&ordinal) {
            metric.series_count = metric.series_count.max(next);
        }
    }

    fn make_room(&mut self, ordinal: u32) {
        while self.metrics.len() <= ordinal as usize {
            let activity = Activity::default();
            self.metric_bytes += METRIC_BYTES;
            self.metrics.push(Metric { name: "".into(), label_names: Vec::new(), series_count: 0, activity });
        }
    }

    /// Begins to make series active.
    pub(crate) fn activation(&mut self) -> Activation<'_> {
        Activation { head: self, placed: Vec::new() }
    }

    /// Gives an active series a slot, unless it has one: it is known by its labels and its id, and not yet by its terms.
    fn place(&mut self, id: SeriesId, labels: LabelSet, hash: u32) -> Option<u32> {
        self.note_metric(id, &labels);
        let activity = &mut self.metrics[id.metric() as usize].activity;
        let before = activity.bytes();
        activity.activate(id.number());
        self.metric_bytes += activity.bytes() - before;
        if self.labels_of(id).is_some() {
            return None;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.label_bytes += labels.as_bytes().len();
        let by_id = self.hasher.hash_one(id);
        self.slots[slot as usize] = Some(Slot { id, labels, hash });
        let (slots, hasher) = (&self.slots, &self.hasher);
        let same = |&other: &u32| labels_of_slot(slots, other) == labels_of_slot(slots, slot);
        match self.by_labels.entry(spread(hash), same, |&slot| hash_of_slot(slots, slot)) {
            Entry::Occupied(mut entry) => *entry.get_mut() = slot,
            Entry::Vacant(entry) => drop(entry.insert(slot)),
        }
        self.by_id.insert_unique(by_id, slot, |&slot| id_of_slot(slots, slot).map_or(0, |id| hasher.hash_one(id)));
        Some(slot)
    }

    /// Makes sure that the metric of a series is known, with its labels.
    fn note_metric(&mut self, id: SeriesId, labels: &LabelSet) {
        let (ordinal, count) = (id.metric(), id.number().saturating_add(1));
        if self.by_name.get(labels.metric_name()) == Some(&ordinal)
            && let Some(metric) = self.metrics.get_mut(ordinal as usize)
        {
            // Both are in order.
            let mut known = metric.label_names.iter();
            let mut names = labels.iter_bytes().map(|pair| pair.0).filter(|&name| name != METRIC_NAME.as_bytes());
            if names.all(|name| known.any(|known| known.as_bytes() == name)) {
                metric.series_count = metric.series_count.max(count);
                return;
            }
        }
        let names = labels.iter().map(|pair| pair.0).filter(|&name| name != METRIC_NAME);
        self.restore_metric(ordinal, labels.metric_name(), count, names);
    }

    /// Adds the terms of series that have been placed.
    fn add_terms(&mut self, placed: &[u32]) {
        let (slots, names) = (&self.slots, &mut self.names);
        let series = placed.iter().filter_map(|&slot| Some((slot, labels_of_slot(slots, slot)?)));
        let shared = |name: &str| Arc::clone(names.get_or_insert_with(name, |name| name.into()));
        self.terms.add(&Gathered::of(series), shared);
        self.all.add_many(placed);
    }

    /// Marks `ids` as in use and returns those that are not active.
    pub(crate) fn touch(&self, ids: &[SeriesId]) -> Vec<SeriesId> {
        let mut missing = Vec::new();
        let mut current: Option<(u32, &Metric)> = None;
        for &id in ids {
            let metric = match current {
                Some((ordinal, metric)) if ordinal == id.metric() => Some(metric),
                _ => self.metrics.get(id.metric() as usize),
            };
            match metric {
                Some(metric) if metric.activity.touch(id.number()) => current = Some((id.metric(), metric)),
                _ => missing.push(id),
            }
        }
        missing
    }

    /// Forgets series that nothing has touched since the last call, and returns them. One call at a time. Each piece takes the
    /// lock for a bounded time, so that writers go on; a series that comes back between two pieces gets another slot.
    pub(crate) fn evict_idle(head: &RwLock<Self>) -> HashSet<SeriesId> {
        let mut evicted = HashSet::new();
        let end = head.read().slots.len() as u32;
        for from in (0..end).step_by(SLOTS_AT_ONCE) {
            let mut piece = head.write();
            piece.evict_idle_among(from..end.min(from + SLOTS_AT_ONCE as u32), &mut evicted);
            RwLockWriteGuard::unlock_fair(piece);
        }
        head.write().end_eviction(!evicted.is_empty());
        evicted
    }

    /// Forgets the idle series of some slots. Their slots stay empty until [`Head::end_eviction`]: whoever asks without
    /// holding the lock finds nothing there, and not another series.
    pub(super) fn evict_idle_among(&mut self, slots: Range<u32>, evicted: &mut HashSet<SeriesId>) {
        for slot in slots {
            let Some(id) = id_of_slot(&self.slots, slot) else { continue };
            let activity = &mut self.metrics[id.metric() as usize].activity;
            if !activity.is_touched(id.number()) {
                activity.deactivate(id.number());
                self.evict(slot);
                evicted.insert(id);
            }
        }
    }

    /// From now on nothing is in use. Slots that became empty, if `any` did, may be given to other series.
    pub(super) fn end_eviction(&mut self, any: bool) {
        for metric in &mut self.metrics {
            let before = metric.activity.bytes();
            metric.activity.rest();
            self.metric_bytes -= before - metric.activity.bytes();
        }
        if any {
            self.evictions += 1;
            self.shrink();
        }
    }

    fn evict(&mut self, slot: u32) {
        let (slots, hasher) = (&self.slots, &self.hasher);
        let Some(Slot { id, labels, hash }) = &slots[slot as usize] else { return };
        for (table, hash) in [(&mut self.by_labels, spread(*hash)), (&mut self.by_id, hasher.hash_one(id))] {
            if let Ok(entry) = table.find_entry(hash, |&other| other == slot) {
                entry.remove();
            }
        }
        labels.iter().for_each(|pair| self.terms.remove(slot, pair));
        self.label_bytes -= labels.as_bytes().len();
        self.all.remove(slot);
        self.slots[slot as usize] = None;
    }

    /// After an eviction: gives memory back and lists the free slots.
    fn shrink(&mut self) {
        let used = self.all.maximum().map_or(0, |last| last as usize + 1);
        self.slots.truncate(used);
        self.free = (0..used as u32).rev().filter(|&slot| self.slots[slot as usize].is_none()).collect();
        if self.slots.capacity() / 2 > used {
            self.slots.shrink_to(used + used / 4);
        }
        let (slots, hasher) = (&self.slots, &self.hasher);
        if self.by_id.capacity() / 4 > self.by_id.len() {
            self.by_labels.shrink_to_fit(|&slot| hash_of_slot(slots, slot));
            self.by_id.shrink_to_fit(|&slot| id_of_slot(slots, slot).map_or(0, |id| hasher.hash_one(id)));
        }
        self.all.shrink_to_fit();
    }
}

/// Makes series active, any number while the index is held: their terms, the most of the work, are added together when this is
/// dropped. Until then they are found by their labels and ids only, and [`Head::bytes`] lacks their terms.
pub(crate) struct Activation<'a> {
    head: &'a mut Head,
    placed: Vec<u32>,
}

impl Activation<'_> {
    /// Makes `id` active. Idempotent.
    pub(crate) fn activate(&mut self, id: SeriesId, labels: LabelSet) {
        let hash = self.head.hash_of(&labels);
        self.activate_hashed(id, labels, hash);
    }
    /// As [`Activation::activate`], of labels whose hash is known.
    pub(crate) fn activate_hashed(&mut self, id: SeriesId, labels: LabelSet, hash: u32) {
        self.placed.extend(self.head.place(id, labels, hash));
    }
}

impl std::ops::Deref for Activation<'_> {
    type Target = Head;
    fn deref(&self) -> &Head {
        self.head
    }
}

impl Drop for Activation<'_> {
    fn drop(&mut self) {
        self.head.add_terms(&self.placed);
    }
}
