//! The catalogue: which series exist, what they are called, and where a label occurs.
//!
//! ```text
//!  key of the wire --> key cache --> head index (active series) --> RocksDB (every flushed series)
//!                                     postings in memory             postings per time partition
//! ```
//! It owns the head index, the RocksDB store in `catalogue/` and the series files' format. RocksDB runs without its own
//! log and is never the only copy of a fact: what it holds is a prefix, marked with a manifest edit number, of what the
//! series files say, and is caught up or rebuilt from them at open. Formats: `docs/format/catalogue.md`,
//! `docs/format/series-file.md`.
mod activity;
mod check;
mod gather;
mod head;
mod head_postings;
mod key_cache;
mod lists;
mod partition;
mod postings;
mod recent;
mod series_file;
mod store;
mod terms;
mod warm_up;

pub(crate) use check::{ExpectedMetrics, expect};
pub(crate) use head::{Activation, Head, Metric};
pub(crate) use head_postings::HeadPostings;
pub(crate) use key_cache::KeyCache;
pub(crate) use partition::{PartitionIndex, PartitionPostings};
pub(crate) use postings::{Postings, evaluate};
pub(crate) use series_file::{read_series_file, write_series_file};
pub(crate) use store::{Catalogue, OFFLINE_BYTES_MAX};

#[cfg(test)]
mod tests;
