//! Immutable files of samples: one time partition, rows sorted by (series, ts), in blocks.
//!
//! ```text
//!  header | block 0 | block 1 | page 0 | block 2 | ... | footer: pages, zone map of each block, runs of series | trailer
//! ```
//! | module | owns |
//! |---|---|
//! | [`block`] | up to 8,192 rows: a slice of one long series or several short series |
//! | [`timeline`] | timestamps that series share, found while writing and put into pages |
//! | [`page_cache`] | decoded pages, of a scan and of all |
//! | [`zone_map`] | what is known of a block without reading it |
//! | [`footer`] | header, footer and trailer |
//! | [`writer`] | building a file from rows in order |
//! | [`reader`] | opening a file and checking each block before use |
//! | [`check`] | reading a whole file and comparing all that it says twice |
//!
//! Invariants: a file is written once, synced, and never changed; (series, ts) is unique and increasing in a file; no
//! byte is believed before a checksum that covers it was compared. Which files are live is the manifest's business, and
//! removing them too. Byte by byte: `docs/format/segment.md`.
use crate::types::{Lsn, SeriesId, TimeRange};

mod block;
mod check;
mod footer;
mod page_cache;
mod reader;
#[cfg(test)]
mod tests;
mod timeline;
mod writer;
mod zone_map;

pub(crate) use block::{Block, BlockDecoder};
pub(crate) use check::Checker;
pub(crate) use footer::ColumnBytes;
pub(crate) use reader::Segment;
pub(crate) use writer::SegmentWriter;
pub(crate) use zone_map::ZoneMap;

/// What the manifest keeps of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentMeta {
    /// File name inside the segment directory.
    pub(crate) file: String,
    /// Number of the time partition.
    pub(crate) partition: i64,
    /// Compaction level; 0 is what a flush wrote.
    pub(crate) level: u8,
    /// Rows.
    pub(crate) rows: u64,
    /// Distinct series.
    pub(crate) series: u64,
    /// Blocks.
    pub(crate) blocks: u64,
    /// File size.
    pub(crate) bytes: u64,
    /// First sample, ns.
    pub(crate) min_ts: i64,
    /// Last sample, ns.
    pub(crate) max_ts: i64,
    /// Smallest series.
    pub(crate) min_series: SeriesId,
    /// Largest series.
    pub(crate) max_series: SeriesId,
    /// Oldest commit whose rows it holds.
    pub(crate) min_lsn: Lsn,
    /// Newest commit whose rows it holds.
    pub(crate) max_lsn: Lsn,
    /// Deletions up to this commit were carried out on its rows; at least `max_lsn`. Only the manifest knows it.
    pub(crate) applied: Lsn,
}

impl SegmentMeta {
    /// Whether a sample of `ids` (sorted) in `range` can be here.
    pub(crate) fn may_hold(&self, ids: &[SeriesId], range: TimeRange) -> bool {
        let (Some(&first), Some(&last)) = (ids.first(), ids.last()) else { return false };
        self.min_ts <= range.end && self.max_ts >= range.start && self.min_series <= last && self.max_series >= first
    }
}
