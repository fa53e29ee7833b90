//! The storage engine of Foretell: a columnar LSM for samples and records of time series.
//!
//! ```text
//!  labels ──► key cache ──► head index ──► catalogue           (who is this series?)
//!                               │
//!  WriteBatch ─► encode ─► commit queue ─► WAL, one fdatasync ─► memtable ─► acknowledged ─► commit feed
//!              caller's      bounded       for a whole group         │ flush
//!              thread                                                ▼
//!                                           segment per time partition + series file + state file ─► manifest edit
//!                                                                    │ compaction
//!                                                                    ▼
//!  Snapshot ─► select: postings ─► scan: segments, runs, tail merged, newest wins      bigger segments
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`engine`] | the facade: open, write, flush, compact, feed, close |
//! | [`snapshot`] | a pinned view: select series, scan or sum up rows, read state |
//! | `core` | what the threads of an open store share; flush, compaction, recovery |
//! | `wal` | records, files, group commit, replay |
//! | [`records`] | rows with typed columns: tables, files, merging, scanning |
//! | `memtable` | rows not yet in a segment |
//! | `catalog` | series and postings: head index in memory, RocksDB, series files |
//! | `manifest`, `version` | which files are live; who still reads them |
//! | `segment`, `codec` | immutable column files |
//! | `scan` | merging sources into sorted, deduplicated batches, or into sums by series and step |
//! | `compaction` | which segments to merge, and merging them |
//! | `rollup` | the rows of a segment summed up by bucket of time, in a file beside it |
//! | `retention` | which partitions have lived long enough |
//! | `tombstone` | deletes: which rows of the past no reader sees any more |
//! | `feed`, `state` | recent commits; keyed state |
//! | `partition`, `layout` | arithmetic of time partitions; names of files |
//! | `format` | varints, checksums, a reader that bounds every length |
//! | `pool` | buffers that wait for the next reader |
//! | [`fs`], [`clock`] | the only modules that touch files and read clocks |
//! | [`verify`] | reading a closed store whole and saying what is wrong |
//! | [`repair`] | making a damaged store whole again |
//! | [`backup`] | consistent, incremental copies, and stores from them |
//! | [`types`], [`config`], [`error`], [`write_batch`] | words, limits, failures, input |
//!
//! ```text
//! data_dir/
//!   LOCK                                 held by the one process that may open the store
//!   MANIFEST                             which of the files below are part of it
//!   wal/00000000000000000001.wal         commits from this position on
//!   partitions/19675/0000000007.segment  rows of one time partition
//!   partitions/19675/0000000007.rollup   the same rows summed up; may be missing
//!   partitions/19675/0000000009.records  records of one table in one time partition
//!   partitions/19675/0000000008.series   series that were new to the partition
//!   state/0000000009.state               all keyed state at the last flush that changed it; its values are read from there
//!   catalogue/                           RocksDB; derived from the series files
//!   damaged/                             what a repair has set aside
//! ```
//! Formats byte by byte: `docs/format/`.
//!
//! Architecture invariants:
//! 1. No SQL, HTTP, protobuf or JSON here; only [`fs`] touches files (RocksDB its own), only [`clock`] reads clocks.
//! 2. A batch is acknowledged after its record and the definition of each of its series are on stable storage, and
//!    commits become visible in log order.
//! 3. A file is part of the store if and only if the manifest says so; an edit is durable before anything acts on it. Only
//!    of rollups, which decide no answer, may one be listed and not there.
//! 4. A snapshot holds pointers to everything it reads; nothing it reads changes or is deleted.
//! 5. Of equal (series, ts) the newest commit wins. Sources are always ordered by age: segments by commit, runs, tail.
//! 6. A deletion hides rows committed before it and none after: each source lies wholly before or after it.
//! 7. A failed write or sync of log or manifest is final: writes are refused until the next open, reads go on. Only a
//!    write that found no room is undone and may be tried again.
//! 8. Damage is an error with path and offset. Only the torn, never acknowledged end of the newest log file and of the
//!    manifest is forgiven.
pub mod backup;
mod catalog;
mod changes;
pub mod clock;
mod codec;
mod compaction;
pub mod config;
mod core;
pub mod engine;
pub mod error;
mod feed;
mod format;
pub mod fs;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod fuzz;
mod layout;
mod manifest;
mod memtable;
mod partition;
mod pool;
pub mod records;
pub mod repair;
mod retention;
mod rollup;
mod scan;
mod segment;
pub mod snapshot;
mod state;
pub mod text;
mod tombstone;
pub mod types;
pub mod verify;
mod version;
mod wal;
pub mod write_batch;

pub use config::EngineConfig;
pub use engine::{
    Commit, CommitHandle, CompactionSummary, DeleteSummary, Engine, EngineStats, MemoryShare, ReplayProgress,
};
pub use error::{Error, ErrorKind, Result};
pub use records::{ENTRIES, ENTRY_PREFIX, Hint, RecordScan, RecordTable, RecordTableInfo, Records, RowFilter, Unique};
pub use rollup::Sketch;
pub use snapshot::{
    Aggregate, AggregateBatch, Aggregation, Cardinality, LabelCardinality, MetricInfo, PartitionInfo, Scan, ScanBatch,
    ScanSlice, SegmentInfo, Selector, Series, Snapshot, Statistics, WalFileInfo,
};
pub use state::{StatePair, StateSize};
pub use tombstone::Deletion;
pub use types::{EVENTS, LabelSet, Lsn, METRIC_NAME, MatchOp, Matcher, PlainPattern, SeriesId, SeriesSet, TimeRange};
pub use write_batch::WriteBatch;
