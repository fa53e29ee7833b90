//! Samples that are durable in the WAL but not yet in a segment.
mod run;

pub(crate) use run::{CommittedBatch, SortedRun};
