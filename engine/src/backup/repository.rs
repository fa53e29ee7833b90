//! A destination: the files of all its backups, each content once, and a list for each backup.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, Result};
use crate::fs::{Fs, OsFs, publish, sync_path};
use crate::verify::Progress;

use super::checkpoint::{Checkpoint, Pinned};
use super::list::{Entry, List};
use super::{Backup, Begun, Made};

/// Extension of lists.
const BACKUP: &str = ".backup";
/// Bytes copied at a time.
pub(super) const COPY_BYTES: usize = 1 << 20;

pub(super) fn files_dir(dest: &Path) -> PathBuf {
    dest.join("files")
}

fn lists_dir(dest: &Path) -> PathBuf {
    dest.join("backups")
}

/// Adds `checkpoint` to `dest`. Files that are there already are not written again.
pub(crate) fn add(
    fs: &dyn Fs,
    dest: &Path,
    checkpoint: Checkpoint,
    begun: &Begun<'_>,
    progress: &Progress,
) -> Result<Made> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if begun.label.is_empty() || !begun.label.chars().all(fits) {
        return Err(Error::Invalid(format!("{:?} cannot be part of a backup's name", begun.label)));
    }
    for dir in [files_dir(dest), lists_dir(dest)] {
        fs.create_dir(&dir)?;
    }
    let _lock = fs.lock(&dest.join("LOCK"))?;
    progress.total.store(checkpoint.files.iter().map(|file| file.bytes().len() as u64).sum(), Ordering::Relaxed);
    let mut list = List { created_ns: begun.at_ns, lsn: checkpoint.lsn, entries: Vec::new() };
    let (mut files_copied, mut bytes_copied) = (0, 0);
    for file in checkpoint.files {
        let entry = entry_of(&file);
        if copy_once(fs, dest, &file, &entry)? {
            files_copied += 1;
            bytes_copied += entry.len;
        }
        progress.done.fetch_add(entry.len, Ordering::Relaxed);
        list.entries.push(entry);
    }
    // Every file before the list that makes them a backup.
    for dir in [files_dir(dest), dest.to_owned()] {
        fs.sync_dir(&dir)?;
    }
    sync_path(fs, dest)?;
    let name = format!("{}-{:020}", begun.label, list.lsn.0);
    publish(fs, &lists_dir(dest).join(format!("{name}{BACKUP}")), &list.encode()?)?;
    Ok(Made { backup: list.describe(&name), files_copied, bytes_copied })
}

fn entry_of(file: &Pinned) -> Entry {
    let bytes = file.bytes();
    Entry { name: file.name.clone(), len: bytes.len() as u64, crc: crate::format::crc32c(bytes) }
}

/// Writes a file unless one of the same name, length and checksum is there; whether it did.
fn copy_once(fs: &dyn Fs, dest: &Path, file: &Pinned, entry: &Entry) -> Result<bool> {
    let path = files_dir(dest).join(entry.key());
    if fs.exists(&path)? && fs.len(&path)? == entry.len {
        return Ok(false);
    }
    let temporary = files_dir(dest).join("copying.tmp");
    if fs.exists(&temporary)? {
        fs.remove(&temporary)?;
    }
    let mut copy = fs.create(&temporary)?;
    for chunk in file.bytes().chunks(COPY_BYTES) {
        copy.append(chunk)?;
    }
    copy.sync()?;
    drop(copy);
    fs.rename(&temporary, &path)?;
    Ok(true)
}

/// The backups in `dest`, oldest first.
///
/// # Errors
/// `Invalid` when there are no backups here, `Corruption` of a list, `Io`.
pub fn backups(dest: &Path) -> Result<Vec<Backup>> {
    backups_with(dest, &(Arc::new(OsFs) as Arc<dyn Fs>))
}

/// As [`backups`], on other files than the machine's.
///
/// # Errors
/// As [`backups`].
pub fn backups_with(dest: &Path, fs: &Arc<dyn Fs>) -> Result<Vec<Backup>> {
    let mut backups = Vec::new();
    if fs.exists(&lists_dir(dest))? {
        for file in fs.list(&lists_dir(dest))? {
            if let Some(name) = file.strip_suffix(BACKUP) {
                backups.push(read_list(&**fs, dest, name)?.describe(name));
            }
        }
    }
    if backups.is_empty() {
        return Err(Error::Invalid(format!(
            "{}: no backup is here; name what `foretell backup` was given",
            dest.display()
        )));
    }
    backups.sort_by(|a, b| (a.created_ns, &a.name).cmp(&(b.created_ns, &b.name)));
    Ok(backups)
}

pub(super) fn read_list(fs: &dyn Fs, dest: &Path, name: &str) -> Result<List> {
    List::read(fs, &lists_dir(dest).join(format!("{name}{BACKUP}")))
}
