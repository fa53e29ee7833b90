//! Names of the files of a store.
use std::path::{Path, PathBuf};

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) root: PathBuf,
}

/// Extension of segments.
const SEGMENT: &str = "segment";
/// Extension of segments of records.
const RECORDS: &str = "records";
/// Extension of rollups.
const ROLLUP: &str = "rollup";
/// Extension of series files.
const SERIES: &str = "series";
/// Extension of state files.
const STATE: &str = "state";

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }
    pub(crate) fn manifest(&self) -> PathBuf {
        self.root.join("MANIFEST")
    }
    pub(crate) fn wal(&self) -> PathBuf {
        self.root.join("wal")
    }
    pub(crate) fn catalogue(&self) -> PathBuf {
        self.root.join("catalogue")
    }
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }
    pub(crate) fn partitions(&self) -> PathBuf {
        self.root.join("partitions")
    }
    pub(crate) fn partition(&self, partition: i64) -> PathBuf {
        self.partitions().join(partition.to_string())
    }
    pub(crate) fn state_file(&self, number: u64) -> PathBuf {
        self.state().join(format!("{number:010}.{STATE}"))
    }
    pub(crate) fn segment_file(&self, partition: i64, number: u64) -> PathBuf {
        self.partition(partition).join(format!("{number:010}.{SEGMENT}"))
    }
    /// The rollup of the segment `file` of a partition.
    pub(crate) fn rollup_of(&self, partition: i64, file: &str) -> PathBuf {
        rollup_beside(&self.partition(partition).join(file))
    }
    pub(crate) fn record_file(&self, partition: i64, number: u64) -> PathBuf {
        self.partition(partition).join(format!("{number:010}.{RECORDS}"))
    }
    pub(crate) fn series_file(&self, partition: i64, number: u64) -> PathBuf {
        self.partition(partition).join(format!("{number:010}.{SERIES}"))
    }
    /// The path of a file inside the store, as the manifest names it.
    pub(crate) fn name_of(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }
}

/// The rollup of the segment at `path`.
pub(crate) fn rollup_beside(path: &Path) -> PathBuf {
    path.with_extension(ROLLUP)
}

/// Whether this is the name of a rollup, which may be missing and can be made again.
pub(crate) fn is_rollup(name: &str) -> bool {
    file_number(name).is_some() && name.ends_with(ROLLUP)
}

/// The number of a file that a flush or a compaction wrote; `None` for any other name.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    let (stem, extension) = name.split_once('.')?;
    let ours = matches!(extension, SEGMENT | ROLLUP | RECORDS | SERIES | STATE) && stem.len() == 10;
    ours.then(|| stem.parse().ok()).flatten()
}
