//! What one source must not show.
use std::ops::Range;
use std::sync::Arc;

use crate::types::{SeriesId, TimeRange};

use super::Deletion;

/// The deletions that concern a source; mostly none, which costs nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hidden(Vec<Arc<Deletion>>);

impl Hidden {
    pub(crate) fn new(deletions: Vec<Arc<Deletion>>) -> Self {
        Self(deletions)
    }

    /// Whether everything shows.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a row of one of `ids` in `range` may be hidden.
    pub(crate) fn concerns(&self, mut ids: impl Iterator<Item = SeriesId>, range: TimeRange) -> bool {
        let overlapping: Vec<_> = self.0.iter().filter(|deletion| deletion.range.overlaps(range)).collect();
        !overlapping.is_empty() && ids.any(|id| overlapping.iter().any(|deletion| deletion.series.contains(id)))
    }

    /// Fills `holes` with the stretches of time in which rows of `id` do not show, in order and apart from each other.
    pub(crate) fn holes(&self, id: SeriesId, holes: &mut Vec<TimeRange>) {
        holes.clear();
        holes.extend(self.0.iter().filter(|deletion| deletion.series.contains(id)).map(|deletion| deletion.range));
        holes.sort_unstable_by_key(|hole| hole.start);
        holes.dedup_by(|next, hole| {
            let joins = next.start <= hole.end;
            if joins {
                hole.end = hole.end.max(next.end);
            }
            joins
        });
    }
}

/// The next rows of `ts` (increasing), from index `from` on, that lie in none of `holes`, of which those before `hole` were
/// passed.
pub(crate) fn next_visible(ts: &[i64], from: usize, holes: &[TimeRange], hole: &mut usize) -> Option<Range<usize>> {
    let mut at = from;
    while let Some(&t) = ts.get(at) {
        while holes.get(*hole).is_some_and(|passed| passed.end < t) {
            *hole += 1;
        }
        match holes.get(*hole) {
            None => return Some(at..ts.len()),
            Some(ahead) if ahead.start > t => return Some(at..at + ts[at..].partition_point(|&t| t < ahead.start)),
            Some(around) => at += ts[at..].partition_point(|&t| t <= around.end),
        }
    }
    None
}
