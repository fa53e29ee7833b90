//! A new store from a backup. Its manifest is written last: until then it is none.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::catalog::OFFLINE_BYTES_MAX;
use crate::core::open_catalogue;
use crate::error::{Error, Result};
use crate::format::Reader;
use crate::fs::{Fs, Mapped, OsFs, publish, sync_path};
use crate::layout::Layout;
use crate::manifest;
use crate::verify::Progress;

use super::Backup;
use super::checkpoint::MANIFEST;
use super::list::Entry;
use super::repository::{COPY_BYTES, backups_with, files_dir, read_list};

/// Restores backup `name` of `source`, or its newest one, into `data_dir`, which must be empty or absent.
///
/// # Durability
/// When this returns, the store is on stable storage.
///
/// # Errors
/// `Invalid` when the target is not empty or there is no such backup, `Corruption` when a file of the backup is missing,
/// shortened or changed; what was written is removed then.
pub fn restore(source: &Path, name: Option<&str>, data_dir: &Path, progress: &Progress) -> Result<Backup> {
    restore_with(source, &(Arc::new(OsFs) as Arc<dyn Fs>), name, data_dir, progress)
}

/// As [`restore`], on other files than the machine's.
///
/// # Errors
/// As [`restore`].
pub fn restore_with(
    source: &Path,
    fs: &Arc<dyn Fs>,
    name: Option<&str>,
    data_dir: &Path,
    progress: &Progress,
) -> Result<Backup> {
    let backup = choose(fs, source, name)?;
    let list = read_list(&**fs, source, &backup.name)?;
    if fs.exists(data_dir)? && !fs.list(data_dir)?.is_empty() {
        let dir = data_dir.display();
        return Err(Error::Invalid(format!("{dir} is not empty; restore into a new directory")));
    }
    progress.total.store(backup.bytes, Ordering::Relaxed);
    fs.create_dir(data_dir)?;
    let lock_path = data_dir.join("LOCK");
    let lock = fs.lock(&lock_path)?;
    let mut target = Target { fs: &**fs, source, data_dir, written: Vec::new(), dirs: Vec::new() };
    let restored = target.write(&list.entries, progress);
    if restored.is_ok()
        && let Err(error) = build_catalogue(&**fs, data_dir)
    {
        tracing::warn!(%error, "cannot build the catalogue; the first start will");
    }
    drop(lock);
    if let Err(error) = restored {
        target.remove();
        // The lock file was not there before either; without a real one there is nothing to remove.
        let _ = fs.remove(&lock_path);
        return Err(error);
    }
    Ok(backup)
}

/// The catalogue is derived and in no backup.
fn build_catalogue(fs: &dyn Fs, data_dir: &Path) -> Result<()> {
    if !fs.is_local() {
        return Ok(());
    }
    let layout = Layout::new(data_dir);
    let stored = manifest::read(fs, &layout.manifest())?;
    open_catalogue(fs, &layout, &stored.contents, stored.number, OFFLINE_BYTES_MAX)?.0.close(true);
    Ok(())
}

fn choose(fs: &Arc<dyn Fs>, source: &Path, name: Option<&str>) -> Result<Backup> {
    let mut backups = backups_with(source, fs)?;
    let Some(name) = name else {
        return backups.pop().ok_or_else(|| Error::Invalid(format!("{}: no backup is here", source.display())));
    };
    let known: Vec<String> = backups.iter().map(|backup| backup.name.clone()).collect();
    backups.into_iter().find(|backup| backup.name == name).ok_or_else(|| {
        Error::Invalid(format!("{}: there is no backup {name:?}, only {}", source.display(), known.join(", ")))
    })
}

/// A store that is being written.
struct Target<'a> {
    fs: &'a dyn Fs,
    source: &'a Path,
    data_dir: &'a Path,
    written: Vec<PathBuf>,
    dirs: Vec<PathBuf>,
}

impl Target<'_> {
    fn write(&mut self, entries: &[Entry], progress: &Progress) -> Result<()> {
        let mut manifest = None;
        for entry in entries {
            let bytes = self.checked(entry)?;
            if entry.name == MANIFEST {
                manifest = Some(bytes);
                continue;
            }
            let path = self.data_dir.join(&entry.name);
            self.create_parents(&path)?;
            let mut file = self.fs.create(&path)?;
            self.written.push(path);
            for chunk in bytes.chunks(COPY_BYTES) {
                file.append(chunk)?;
                progress.done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
            file.sync()?;
        }
        let Some(manifest) = manifest else {
            return Err(Reader::new(&[], self.source, 0).corrupt("a backup with a manifest", "one without"));
        };
        for dir in self.dirs.iter().rev() {
            self.fs.sync_dir(dir)?;
        }
        let path = self.data_dir.join(MANIFEST);
        self.written.push(path.clone());
        publish(self.fs, &path, &manifest)?;
        sync_path(self.fs, self.data_dir)
    }

    /// The bytes of a file of the backup, compared with their checksum.
    fn checked(&self, entry: &Entry) -> Result<Mapped> {
        let path = files_dir(self.source).join(entry.key());
        let corrupt =
            |expected: String, got: String| Err(Error::Corruption { path: path.clone(), offset: 0, expected, got });
        if !self.fs.exists(&path)? {
            return corrupt(format!("the file {} of the backup", entry.name), "no such file".into());
        }
        let bytes = self.fs.map(&path)?;
        if bytes.len() as u64 != entry.len {
            return corrupt(format!("{} bytes", entry.len), format!("{}", bytes.len()));
        }
        let crc = crate::format::crc32c(&bytes);
        if crc != entry.crc {
            return corrupt(format!("checksum {:08x}", entry.crc), format!("{crc:08x}"));
        }
        Ok(bytes)
    }

    fn create_parents(&mut self, path: &Path) -> Result<()> {
        let parents = path.ancestors().skip(1).take_while(|dir| dir.starts_with(self.data_dir));
        for dir in parents.collect::<Vec<_>>().into_iter().rev() {
            if !self.dirs.iter().any(|known| known == dir) {
                self.fs.create_dir(dir)?;
                self.dirs.push(dir.to_owned());
            }
        }
        Ok(())
    }

    /// Undoes what was written, as far as that works.
    fn remove(&self) {
        for path in &self.written {
            let _ = self.fs.remove(path);
        }
        for dir in self.dirs.iter().rev().filter(|dir| *dir != self.data_dir) {
            let _ = self.fs.remove_dir(dir);
        }
    }
}
