//! Rollups: the rows of one segment summed up by series and aligned bucket of time, in a file beside it.
//!
//! ```text
//!  0000000007.segment   rows of a partition          series a ─┬─ bucket 10:00  rows, min, max, sum, first, last, sketch
//!  0000000007.rollup    the same rows summed up                ├─ bucket 11:00
//!                                                    series b ─┴─ …
//! ```
//! | module | owns |
//! |---|---|
//! | [`bucket`] | one bucket; summing rows up |
//! | [`sketch`] | a mergeable sketch of values |
//! | [`chunk`] | some hundred buckets as bytes |
//! | [`footer`] | header, footer and trailer of a file |
//! | [`writer`] | making a file from a segment |
//! | [`reader`] | opening one, and reading a chunk |
//! | [`check`] | comparing one with its segment |
//! | [`rules`] | which metrics have rollups, and of which widths |
//!
//! Invariants: a rollup says nothing that its segment does not say, is written after it, and goes with it. It never decides
//! an answer: whoever finds it missing or damaged reads the rows. No byte is believed before its checksum was compared, and
//! the manifest holds the checksum of the footer, which holds all others: the file of another segment, or an older one of the
//! same name, is none. Byte by byte: `docs/format/rollup.md`.
mod bucket;
mod check;
mod chunk;
mod footer;
#[cfg(test)]
pub(crate) mod fuzzed;
mod reader;
mod rules;
mod sketch;
mod writer;

pub(crate) use bucket::{Bucket, Chunk};
pub(crate) use check::check;
pub(crate) use reader::Rollup;
pub(crate) use rules::Rules;
pub use sketch::Sketch;
pub(crate) use writer::write;

/// What the manifest keeps of a rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RollupMeta {
    /// Number of the time partition.
    pub(crate) partition: i64,
    /// File name of its segment.
    pub(crate) segment: String,
    /// File size.
    pub(crate) bytes: u64,
    /// CRC32C of its footer.
    pub(crate) crc: u32,
}
