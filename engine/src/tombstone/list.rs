//! The live tombstones.
use std::sync::Arc;

use crate::types::{Lsn, TimeRange};

use super::{Deletion, Hidden, Tombstone};

/// Tombstones in order of history. A clone is a pointer copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tombstones(Arc<Vec<Tombstone>>);

impl FromIterator<Tombstone> for Tombstones {
    fn from_iter<I: IntoIterator<Item = Tombstone>>(tombstones: I) -> Self {
        let mut list: Vec<Tombstone> = tombstones.into_iter().collect();
        list.sort_unstable_by_key(Tombstone::key);
        Self(Arc::new(list))
    }
}

impl Tombstones {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tombstone> {
        self.0.iter()
    }

    /// Newest position, if there is a tombstone.
    pub(crate) fn newest(&self) -> Option<Lsn> {
        self.0.last().map(|tombstone| tombstone.lsn)
    }

    /// What a source of rows in `range`, on which deletions up to `applied` were carried out, must not show.
    pub(crate) fn after(&self, applied: Lsn, range: TimeRange) -> Hidden {
        // Ordered by position: those that concern the source are at the end.
        let newer = &self.0[self.0.partition_point(|tombstone| tombstone.lsn <= applied)..];
        let concern = newer.iter().filter(|tombstone| tombstone.deletion.range.overlaps(range));
        Hidden::new(concern.map(|tombstone| Arc::clone(&tombstone.deletion)).collect())
    }

    /// Only those up to `newest`.
    pub(crate) fn up_to(&self, newest: Lsn) -> Self {
        self.0.iter().filter(|tombstone| tombstone.lsn <= newest).cloned().collect()
    }

    /// Adds what the commit `lsn` deletes. No row was committed after `since`: tombstones after it concern the same
    /// sources as the new ones, and are coalesced with them.
    pub(crate) fn add(&mut self, lsn: Lsn, since: Lsn, deletions: &[Deletion]) {
        let (older, mut same): (Vec<_>, Vec<_>) = self.0.iter().cloned().partition(|tombstone| tombstone.lsn <= since);
        let mut joined: Vec<Arc<Deletion>> = same.drain(..).map(|tombstone| tombstone.deletion).collect();
        deletions.iter().for_each(|deletion| join(&mut joined, Arc::new(deletion.clone())));
        *self = older.into_iter().chain(numbered(lsn, joined)).collect();
    }

    /// What a flush up to `flushed` makes of those after `before`: coalesced, all at the position `flushed`. A flush leaves
    /// no source that ends between the two, so they all concern the same segments.
    pub(crate) fn flushed(&self, before: Lsn, flushed: Lsn) -> Vec<Tombstone> {
        let mut joined = Vec::new();
        for tombstone in self.0.iter().filter(|tombstone| tombstone.lsn > before && tombstone.lsn <= flushed) {
            join(&mut joined, Arc::clone(&tombstone.deletion));
        }
        numbered(flushed, joined).collect()
    }
}

fn numbered(lsn: Lsn, deletions: Vec<Arc<Deletion>>) -> impl Iterator<Item = Tombstone> {
    (0..).zip(deletions).map(move |(number, deletion)| Tombstone { lsn, number, deletion })
}

/// Adds `new` to `list`, which concerns the same sources: deletions of equal range become one of more series, those of
/// equal series whose ranges touch one of a longer range, and one that another covers goes.
fn join(list: &mut Vec<Arc<Deletion>>, mut new: Arc<Deletion>) {
    while let Some((at, joined)) = list.iter().enumerate().find_map(|(at, old)| Some((at, union(old, &new)?))) {
        list.swap_remove(at);
        new = joined;
    }
    list.push(new);
}

/// The deletion that is exactly both, if one is.
fn union(a: &Arc<Deletion>, b: &Arc<Deletion>) -> Option<Arc<Deletion>> {
    let within = |inner: TimeRange, outer: TimeRange| outer.start <= inner.start && inner.end <= outer.end;
    if a.range == b.range {
        return Some(Arc::new(Deletion { series: a.series.union(&b.series), range: a.range }));
    }
    let touch = a.range.start <= b.range.end.saturating_add(1) && b.range.start <= a.range.end.saturating_add(1);
    if touch && a.series == b.series {
        let range = TimeRange { start: a.range.start.min(b.range.start), end: a.range.end.max(b.range.end) };
        return Some(Arc::new(Deletion { series: a.series.clone(), range }));
    }
    if within(b.range, a.range) && a.series.covers(&b.series) {
        return Some(Arc::clone(a));
    }
    (within(a.range, b.range) && b.series.covers(&a.series)).then(|| Arc::clone(b))
}
