//! The storage engine of Foretell: a columnar LSM for time series.
//!
//! ```text
//!  WriteBatch -> commit queue -> WAL (group commit, one fdatasync) -> memtable -> acknowledged -> commit feed
//!                                                                       | flush
//!                                                       segment files per time partition (+ series file)
//!                                                                       | compaction
//!                                                                bigger segments
//! ```
//!
//! | module | owns |
//! |---|---|
//! | [`types`] | series ids, log positions, label sets, matchers, time ranges |
//! | [`config`] | every limit and size of the engine |
//!
//! Architecture invariants: no SQL, HTTP, protobuf or JSON here; only [`fs`] touches files, only [`clock`] reads clocks.
mod catalog;
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
mod layout;
mod manifest;
mod memtable;
mod partition;
mod scan;
mod segment;
pub mod snapshot;
mod state;
pub mod types;
mod version;
mod wal;
pub mod write_batch;

pub use config::EngineConfig;
pub use engine::{Commit, CommitHandle, CompactionSummary, Engine, EngineStats, ReplayProgress};
pub use error::{Error, ErrorKind, Result};
pub use snapshot::{MetricInfo, Scan, ScanBatch, SegmentInfo, Selector, Series, Snapshot};
pub use types::{LabelSet, Lsn, MatchOp, Matcher, SeriesId, TimeRange};
pub use write_batch::WriteBatch;
