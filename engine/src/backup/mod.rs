//! Backups: consistent, incremental copies of a store, taken while it runs or when it is closed.
//!
//! ```text
//!  running: flush, then under the manifest's lock map every file it lists ─┐   (a mapping outlives the removal of its
//!  closed:  read the manifest, map every file it lists, and the log ───────┤    file: merges and retention go on)
//!                                                                          ▼
//!  DEST/files/<crc>-<length>-<name>      each content once, shared by all backups; written, synced, renamed
//!  DEST/backups/<time>-<position>.backup the list of a backup's files with their checksums; published last
//! ```
//! | module | owns |
//! |---|---|
//! | `checkpoint` | which bytes make up a store at one position |
//! | `list` | the format of a backup's list: `docs/format/backup.md` |
//! | `repository` | adding to a destination, choosing from it |
//! | `restore` | a new store from a backup |
//!
//! Invariants: a backup is there if and only if its list is; a file in `files/` never changes; every byte is compared
//! with its checksum before a restored store exists.
mod checkpoint;
mod list;
mod repository;
mod restore;

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{Fs, OsFs};
use crate::manifest;
use crate::types::Lsn;
use crate::verify::{Progress, store_at};

pub(crate) use checkpoint::Checkpoint;
pub(crate) use repository::add;
pub use repository::{backups, backups_with};
pub use restore::{restore, restore_with};

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its name: time and position.
    pub name: String,
    /// When it was begun, ns since 1970.
    pub created_ns: i64,
    /// Newest commit in it.
    pub lsn: Lsn,
    /// Files it consists of.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A backup that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// What it is.
    pub backup: Backup,
    /// Files that were not in the destination before.
    pub files_copied: u64,
    /// Their bytes.
    pub bytes_copied: u64,
}

/// When a backup is begun: the instant, and how it is written in the backup's name.
#[derive(Clone, Debug)]
pub struct Begun<'a> {
    /// Nanoseconds since 1970.
    pub at_ns: i64,
    /// The same as text of letters, digits and `-_.`, so that names sort by time.
    pub label: &'a str,
}

/// Adds a backup of the closed store in `data_dir` to `dest`, which is created if absent.
///
/// # Durability
/// When this returns, the backup is on stable storage.
///
/// # Errors
/// `Unavailable` when a server holds the store or another backup is being added, `Invalid` when there is no store,
/// `Corruption` when manifest or log are damaged, `Io`.
pub fn backup_closed(data_dir: &Path, dest: &Path, begun: &Begun<'_>, progress: &Progress) -> Result<Made> {
    backup_closed_with(data_dir, &(Arc::new(OsFs) as Arc<dyn Fs>), dest, begun, progress)
}

/// As [`backup_closed`], on other files than the machine's.
///
/// # Errors
/// As [`backup_closed`].
pub fn backup_closed_with(
    data_dir: &Path,
    fs: &Arc<dyn Fs>,
    dest: &Path,
    begun: &Begun<'_>,
    progress: &Progress,
) -> Result<Made> {
    let layout = store_at(&**fs, data_dir)?;
    refuse_inside(data_dir, dest)?;
    let _lock = fs.lock(&layout.lock())?;
    let stored = manifest::read(&**fs, &layout.manifest())?;
    let checkpoint = Checkpoint::of_closed(&**fs, &layout, &stored)?;
    add(&**fs, dest, checkpoint, begun, progress)
}

/// A destination inside the store would be taken for a part of it.
pub(crate) fn refuse_inside(data_dir: &Path, dest: &Path) -> Result<()> {
    if !dest.starts_with(data_dir) {
        return Ok(());
    }
    let (dest, store) = (dest.display(), data_dir.display());
    Err(Error::Invalid(format!("{dest} lies inside the store {store}; keep backups elsewhere, best on another disk")))
}
