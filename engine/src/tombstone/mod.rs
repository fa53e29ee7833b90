//! Deletes: which rows of the past no reader sees any more.
//!
//! ```text
//!  history   ── rows ──┬── rows ────┬── rows ──►       a deletion hides rows of its series and range that were
//!  deletions           D1           D2                 committed before it, and none after
//!  sources   [segment ][ memtable  ][ active  ]        so every source lies wholly before or after each deletion:
//!                                                      a delete seals the memtable
//! ```
//! Words: a *deletion* is what a commit carries (series and range); a *tombstone* is a deletion with its place in history;
//! a segment's *applied* position says that all deletions up to it have been carried out on its rows. A tombstone concerns
//! a segment exactly when it is newer than that position.
//!
//! | module | owns |
//! |---|---|
//! | [`list`] | the live tombstones, coalesced |
//! | [`hidden`] | what one source must not show |
//!
//! It resolves no matchers and touches no files: deletions are made by the engine, stored by log and manifest, carried out
//! by flush and merge.
use std::sync::Arc;

use crate::error::Result;
use crate::format::{Reader, put_zigzag};
use crate::records::RecordSegment;
use crate::segment::{Segment, SegmentMeta};
use crate::types::{Lsn, SeriesSet, TimeRange};

mod hidden;
mod list;
#[cfg(test)]
mod tests;

pub(crate) use hidden::{Hidden, next_visible};
pub(crate) use list::Tombstones;

/// Rows that a commit deletes: those of `series` in `range` from any commit before it.
#[derive(Clone, Debug, PartialEq)]
pub struct Deletion {
    /// Whose rows.
    pub series: SeriesSet,
    /// Both ends inside.
    pub range: TimeRange,
}

impl Deletion {
    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        64 + self.series.bytes()
    }

    /// Appends zigzag start, zigzag end, series.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_zigzag(out, self.range.start);
        put_zigzag(out, self.range.end);
        self.series.encode(out);
    }

    /// Inverse of [`Deletion::encode`].
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let range = TimeRange { start: reader.zigzag()?, end: reader.zigzag()? };
        Ok(Self { series: SeriesSet::decode(reader)?, range })
    }
}

/// A deletion with its place in history.
#[derive(Clone, Debug)]
pub(crate) struct Tombstone {
    /// It concerns sources that end before this commit. Of those in the manifest: the newest commit of the flush that
    /// brought it there.
    pub(crate) lsn: Lsn,
    /// Tells it from others of the same position.
    pub(crate) number: u32,
    pub(crate) deletion: Arc<Deletion>,
}

impl Tombstone {
    /// Its name in the manifest.
    pub(crate) fn key(&self) -> (Lsn, u32) {
        (self.lsn, self.number)
    }

    /// Whether `segment`, on which deletions up to `applied` were carried out, may have rows that this hides.
    pub(crate) fn concerns(&self, segment: &Segment, applied: Lsn) -> bool {
        self.may_concern(segment.meta(), applied)
            && segment.series().runs().any(|(first, last)| self.deletion.series.has_any(first, last))
    }

    /// The same of a segment of records, of which the first and last series of each group are known.
    pub(crate) fn concerns_records(&self, records: &RecordSegment) -> bool {
        let (meta, deletion) = (&records.meta().segment, &self.deletion);
        self.may_concern(meta, meta.applied)
            && records
                .zones()
                .any(|zone| deletion.range.overlaps(zone.range) && deletion.series.has_any(zone.first, zone.last))
    }

    fn may_concern(&self, meta: &SegmentMeta, applied: Lsn) -> bool {
        self.lsn > applied && self.deletion.range.overlaps(TimeRange { start: meta.min_ts, end: meta.max_ts })
    }
}
