//! Merging segments into fewer, larger ones.
//!
//! | module | owns |
//! |---|---|
//! | [`plan`] | which segments to merge: a pure function of their metadata |
//! | [`execute`] | merging them into one new file, in bounded memory |
//! | [`pace`] | how fast, beside foreground work: a pure function of the load |
//!
//! Publishing the result in the manifest and removing the inputs is the caller's. Invariant: only segments that are
//! neighbours in the history of their partition are merged, so that "the newest commit wins" stays a matter of order.
mod execute;
mod pace;
mod plan;

pub(crate) use execute::{Input, Merged, execute};
pub(crate) use pace::{Load, pause};
pub(crate) use plan::{Candidate, Job, newest, plan};
