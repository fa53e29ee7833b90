//! The manifest: which files make up the store, one atomic edit per change.
//!
//! ```text
//!  MANIFEST   | header | edit 7: everything | edit 8: +2 segments, flushed 41 | edit 9: -4 segments +1 | ...
//! ```
//! It owns the file `MANIFEST` and the list of live files. Invariants: an edit is on stable storage before anything
//! acts on it; edits are numbered without gaps; when long, the log is replaced by one edit that says everything.
//! Format: `docs/format/manifest.md`.
mod contents;
mod log;

pub(crate) use contents::{Change, Contents, SeriesFile};
pub(crate) use log::{Manifest, Stored, encode_file, read, read_width};
