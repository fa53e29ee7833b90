//! Immutable files of records: one time partition and table, rows sorted by (series, ts), in groups of columns.
//!
//! ```text
//!  header | group 0: series, ts, column, column, ... | group 1 | ... | footer: columns, groups, chunks | trailer
//! ```
//! | module | owns |
//! |---|---|
//! | [`footer`] | header, footer and trailer |
//! | [`writer`] | building a file from sorted batches |
//! | [`reader`] | opening a file and checking each chunk before use |
//! | [`zone`] | bounds and filters of a column of a group, by which scans pass groups over |
//! | [`check`] | reading a whole file and comparing all that it says twice |
//!
//! A chunk is one column of one group, encoded by `column`; a column that is NULL in the whole group has none. Invariants:
//! a file is written once, synced, and never changed; no byte is believed before a checksum that covers it was compared.
//! Byte by byte: `docs/format/record-segment.md`.
use super::RecordTable;
use crate::segment::SegmentMeta;

mod check;
mod footer;
mod reader;
mod writer;
mod zone;

pub(crate) use check::RecordChecker;
pub(crate) use reader::{GroupZone, RecordSegment};
pub(crate) use writer::RecordWriter;

/// Chunks of a group before those of columns: series and ts.
pub(super) const KEYS: usize = 2;
/// Rows of a group.
pub(super) const GROUP_ROWS_MAX: usize = crate::codec::ROWS_MAX;
/// Bytes of a group in memory; only a single larger row makes a larger one.
pub(super) const GROUP_BYTES_MAX: usize = 2 << 20;

/// What the manifest keeps of a record segment: what it keeps of any segment (blocks are groups here), and the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordMeta {
    pub(crate) table: RecordTable,
    pub(crate) segment: SegmentMeta,
}
