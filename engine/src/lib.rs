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
pub mod clock;
pub mod config;
pub mod error;
pub mod engine;
pub(crate) mod format;
pub mod fs;
pub(crate) mod memtable;
pub mod snapshot;
pub mod types;
pub mod write_batch;

pub use config::EngineConfig;
pub use engine::{Commit, CommitHandle, CompactionSummary, Engine, EngineStats};
pub use error::{Error, ErrorKind, Result};
pub use snapshot::{MetricInfo, Scan, ScanBatch, SegmentInfo, Selector, Series, Snapshot};
pub use types::{LabelSet, Lsn, Matcher, MatchOp, SeriesId, TimeRange};
pub use write_batch::WriteBatch;
