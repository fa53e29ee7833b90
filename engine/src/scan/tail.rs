//! Sorting the wanted rows of recent batches.
use std::sync::Arc;

use hashbrown::HashSet;

use crate::memtable::SortedRun;
use crate::types::SeriesId;
use crate::write_batch::WriteBatch;

use super::cursor::Want;

/// From this many wanted series on, membership is looked up in a hash set.
const HASHED_FROM: usize = 32;

/// The rows of `batches` (oldest first) that are wanted; of equal (series, ts) the last.
pub(super) fn sort(batches: &[Arc<WriteBatch>], want: &Want) -> SortedRun {
    let (Some(&lowest), Some(&highest)) = (want.ids.first(), want.ids.last()) else { return SortedRun::default() };
    let hashed: HashSet<SeriesId> =
        if want.ids.len() >= HASHED_FROM { want.ids.iter().copied().collect() } else { HashSet::new() };
    let is_wanted = |id: SeriesId| match want.ids.len() {
        1 => true,
        n if n >= HASHED_FROM => hashed.contains(&id),
        _ => want.ids.binary_search(&id).is_ok(),
    };
    let mut rows: Vec<(SeriesId, i64, f64)> = Vec::new();
    for batch in batches {
        for ((&id, &t), &value) in batch.series.iter().zip(&batch.ts).zip(&batch.values) {
            // Most rows are of other metrics: two comparisons drop them before the lookup.
            if id >= lowest && id <= highest && t >= want.range.start && t <= want.range.end && is_wanted(id) {
                rows.push((id, t, value));
            }
        }
    }
    // Stable, so that of equal keys the last committed stays last.
    rows.sort_by_key(|&(id, t, _)| (id, t));
    let mut run = SortedRun { offsets: vec![0], ..SortedRun::default() };
    for (k, &(id, t, value)) in rows.iter().enumerate() {
        if rows.get(k + 1).is_some_and(|&(next_id, next_t, _)| (next_id, next_t) == (id, t)) {
            continue;
        }
        if run.series.last() != Some(&id) {
            run.series.push(id);
            run.offsets.push(run.ts.len() as u32);
        }
        run.ts.push(t);
        run.values.push(value);
        if let Some(end) = run.offsets.last_mut() {
            *end = run.ts.len() as u32;
        }
    }
    run
}
