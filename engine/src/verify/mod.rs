//! Reading a closed store whole, and saying what is wrong with it.
//!
//! ```text
//!  MANIFEST ──> per partition: series files ──> segments: every block or group, row order, bounds, series defined
//!     │                             │           └──> rollups: every chunk, against the rows
//!     │                             └─────────> catalogue: ids, labels, postings, metrics
//!     ├───────> state file
//!     └───────> WAL: every record, commits without gaps, series defined
//! ```
//! It holds the store's lock, reads through [`Fs`] and changes nothing. What was read is compared with what else the
//! store says of it: a file's checksum does not prove that the file belongs here. [`crate::repair`] starts from the same
//! reading. A partition's series definitions are in memory at a time, and 16 bytes for each series of the store.
mod infer;
mod segments;
mod survey;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::error::{Error, Result};
use crate::fs::{Fs, OsFs};

pub(crate) use survey::{Condition, Survey, SurveyedSegment, survey};

/// Findings beyond this number are counted, not kept.
const FINDINGS_MAX: usize = 10_000;

/// How far a long operation has come; watch it from another thread.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes done.
    pub done: AtomicU64,
    /// Bytes in all; 0 until known.
    pub total: AtomicU64,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// File, or directory where no file can be named.
    pub path: PathBuf,
    /// Byte offset in the file.
    pub offset: u64,
    /// What should stand there.
    pub expected: String,
    /// What does.
    pub got: String,
    /// Whether only derived data is concerned, which can be rebuilt without any loss.
    pub derived: bool,
}

impl Finding {
    fn from_error(error: Error, path: &Path, derived: bool) -> Self {
        match error {
            Error::Corruption { path, offset, expected, got } => Self { path, offset, expected, got, derived },
            Error::Io { path, source } => {
                Self { path, offset: 0, expected: "a readable file".into(), got: source.to_string(), derived }
            }
            other => Self {
                path: path.to_owned(),
                offset: 0,
                expected: "to be readable".into(),
                got: other.to_string(),
                derived,
            },
        }
    }
}

/// What reading a store has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Everything that is wrong, in the order of reading.
    pub findings: Vec<Finding>,
    /// Findings that were counted but not kept.
    pub findings_left_out: u64,
    /// What is unusual and harmless.
    pub notes: Vec<String>,
    /// Segments read, of samples and of records.
    pub segments: u64,
    /// Rollups read.
    pub rollups: u64,
    /// Blocks, and groups of records, read.
    pub blocks: u64,
    /// Rows in them.
    pub rows: u64,
    /// Series files read.
    pub series_files: u64,
    /// Series they define, each counted once.
    pub series: u64,
    /// Commits read from the log.
    pub commits: u64,
    /// Bytes read.
    pub bytes: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn add(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.findings_left_out += 1;
        }
    }
}

/// Reads the closed store in `data_dir` whole.
///
/// # Errors
/// `Unavailable` when a server holds the store, `Invalid` when there is none or its log is of another version, `Io` when it
/// cannot be listed. Damage is no error: it is in the report.
pub fn verify(data_dir: &Path, progress: &Progress) -> Result<Report> {
    verify_with(data_dir, &(Arc::new(OsFs) as Arc<dyn Fs>), progress)
}

/// As [`verify`], on other files than the machine's.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(data_dir: &Path, fs: &Arc<dyn Fs>, progress: &Progress) -> Result<Report> {
    let layout = store_at(&**fs, data_dir)?;
    let _lock = fs.lock(&layout.lock())?;
    Ok(survey(&**fs, &layout, None, progress)?.report)
}

/// The layout of the store in `data_dir`, if there is one.
pub(crate) fn store_at(fs: &dyn Fs, data_dir: &Path) -> Result<crate::layout::Layout> {
    let layout = crate::layout::Layout::new(data_dir);
    for path in [layout.manifest(), layout.partitions(), layout.wal()] {
        if fs.exists(&path)? {
            return Ok(layout);
        }
    }
    Err(Error::Invalid(format!(
        "{}: no store is here; name the directory that the server was given",
        data_dir.display()
    )))
}
