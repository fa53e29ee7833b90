//! The write-ahead log: every commit, in order, on stable storage before it is acknowledged.
//!
//! ```text
//!  caller threads            commit thread                                  wal/00000000000000000001.wal
//!  encode + checksum  -->  queue  -->  definitions, batches of a group  --> | header | record | record | ...
//!                                      one append, one fdatasync
//!                                      publish (memtable, feed), wake callers
//! ```
//! It owns the record format, the files in `wal/` and group commit. It never interprets samples. Invariants: records
//! of batches carry consecutive positions; a series is defined before the first batch that uses it; a record marked
//! `SYNCED_BEFORE` was written only when everything before it was on stable storage.
//! Format: `docs/format/wal.md`.
mod batch;
mod check;
mod files;
mod fill;
#[cfg(test)]
pub(crate) mod fuzzed;
mod group_commit;
mod part;
mod pipe;
mod record;
mod replay;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use batch::encode_batch;
pub(crate) use check::{Event, check, named_files};
pub(crate) use files::WalFiles;
pub(crate) use fill::{FilledLog, LogFile, Lost};
pub use group_commit::CommitHandle;
pub(crate) use group_commit::{CommitQueue, GroupCommit};
pub(crate) use part::part;
pub(crate) use pipe::Pipe;
pub(crate) use replay::{Log, Piece, Replayed};
pub(crate) use writer::Writer;
