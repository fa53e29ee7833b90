//! Deletes: resolved to series now, committed like any other batch, carried out by flush and merge.
use crate::engine::DeleteSummary;
use crate::error::{Error, Result};
use crate::memtable::CommittedBatch;
use crate::snapshot::{Selector, Snapshot};
use crate::tombstone::Deletion;
use crate::types::SeriesSet;
use crate::write_batch::WriteBatch;

use super::{Core, Live};

/// Deletes are refused when so many are not carried out yet, coalesced: each costs every scan a little.
const TOMBSTONES_MAX: usize = 256;
/// From so many on, carrying them out goes before any other merge.
const TOMBSTONES_PRESSING: usize = 64;
/// A delete seals the memtable if it has rows; so many sealed ones are flushed.
pub(super) const SEALED_MAX: usize = 16;

impl Live {
    /// Takes note of what `commit`, which comes next, deletes: every row so far is then in a source that takes no more.
    pub(super) fn bury(&mut self, commit: &CommittedBatch, now_ns: i64) {
        if self.active.has_rows() {
            self.seal(now_ns);
        }
        let since = self.sealed.last().map_or(self.flushed, |sealed| sealed.memtable.lsn);
        self.tombstones.add(commit.lsn, since, &commit.batch.deletes);
    }

    /// Whether carrying out deletes goes before other merges.
    pub(super) fn deletes_press(&self) -> bool {
        self.tombstones.len() >= TOMBSTONES_PRESSING
    }
}

impl Core {
    /// See [`crate::Engine::delete`].
    pub(crate) fn delete(&self, selector: &Selector) -> Result<DeleteSummary> {
        if selector.metric.is_none() && selector.matchers.is_empty() {
            return Err(Error::Invalid("a delete must name a metric or match a label".into()));
        }
        if selector.range.is_empty() {
            return Err(Error::Invalid("the time range of a delete ends before it starts".into()));
        }
        let (sealed, tombstones) = {
            let live = self.live.lock();
            (live.sealed.len(), live.tombstones.len())
        };
        if tombstones >= TOMBSTONES_MAX {
            self.flusher.wake();
            self.compactor.wake();
            return Err(Error::Limit(format!(
                "{tombstones} deletes wait for the merges that carry them out, the most allowed; retry when some are done"
            )));
        }
        if sealed >= SEALED_MAX {
            self.flush()?;
        }
        let series: SeriesSet = Snapshot::of(self).select_ids(selector)?.into_iter().collect();
        if series.is_empty() {
            return Ok(DeleteSummary::default());
        }
        let count = series.len();
        let deletes = vec![Deletion { series, range: selector.range }];
        let lsn = self.write(WriteBatch { deletes, ..WriteBatch::default() })?.wait()?;
        Ok(DeleteSummary { lsn: Some(lsn), series: count })
    }
}
