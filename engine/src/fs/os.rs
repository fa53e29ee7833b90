//! The operating system's files.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the one module that may touch files")]
use std::fs::{self, OpenOptions, TryLockError};
use std::io::Write;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{Contents, File, Fs, LockGuard, Mapped, Space, io_error};
use crate::error::{Error, Result};

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFs;

struct OsFile {
    file: fs::File,
    path: std::path::PathBuf,
}

impl File for OsFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| io_error(&self.path, e))
    }
    fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(|e| io_error(&self.path, e))
    }
}

/// A mapped file, which does not change.
struct FileMap(memmap2::Mmap);

impl Contents for FileMap {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
    fn release(&self, range: Range<usize>) {
        let end = range.end.min(self.0.len());
        let start = range.start.min(end);
        // SAFETY: the range lies inside the mapping, which is shared and read only: a page that is dropped holds nothing that
        // the file does not hold, and one that is read again comes from there. A refusal changes nothing.
        let _ = unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
    }
}

impl Fs for OsFs {
    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        let file = OpenOptions::new().append(true).create_new(true).open(path).map_err(|e| io_error(path, e))?;
        Ok(Box::new(OsFile { file, path: path.to_owned() }))
    }
    fn open_append(&self, path: &Path) -> Result<Box<dyn File>> {
        let file = OpenOptions::new().append(true).open(path).map_err(|e| io_error(path, e))?;
        Ok(Box::new(OsFile { file, path: path.to_owned() }))
    }
    fn map(&self, path: &Path) -> Result<Mapped> {
        let file = fs::File::open(path).map_err(|e| io_error(path, e))?;
        if file.metadata().map_err(|e| io_error(path, e))?.len() == 0 {
            return Ok(Mapped::new(Vec::new()));
        }
        // SAFETY: a mapping is sound while nobody shortens or rewrites what is read of the file. Files of a store are
        // append-only or immutable once published, the directory is locked against other processes, and a file is only
        // removed (which keeps mapped pages alive), never truncated, after its recovery is over; but for the end of log and
        // manifest that a failed append left: nothing refers to those bytes, so nobody reads them.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| io_error(path, e))?;
        Ok(Mapped(Arc::new(FileMap(map))))
    }
    fn len(&self, path: &Path) -> Result<u64> {
        Ok(fs::metadata(path).map_err(|e| io_error(path, e))?.len())
    }
    fn rewrite(&self, path: &Path, from: u64) -> Result<()> {
        let rewrite = || -> std::io::Result<()> {
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            let (mut buffer, mut at) = (vec![0; 1 << 20], from);
            loop {
                let n = file.read_at(&mut buffer, at)?;
                if n == 0 {
                    return file.sync_data();
                }
                file.write_all_at(&buffer[..n], at)?;
                at += n as u64;
            }
        };
        rewrite().map_err(|e| io_error(path, e))
    }
    fn truncate(&self, path: &Path, len: u64) -> Result<()> {
        let file = OpenOptions::new().write(true).open(path).map_err(|e| io_error(path, e))?;
        file.set_len(len).and_then(|()| file.sync_all()).map_err(|e| io_error(path, e))
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        path.try_exists().map_err(|e| io_error(path, e))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|e| io_error(from, e))
    }
    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|e| io_error(path, e))
    }
    fn remove_dir(&self, path: &Path) -> Result<()> {
        fs::remove_dir(path).map_err(|e| io_error(path, e))
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(|e| io_error(dir, e))? {
            let entry = entry.map_err(|e| io_error(dir, e))?;
            // A name that is not UTF-8 is not ours.
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
    fn create_dir(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).map_err(|e| io_error(dir, e))
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        fs::File::open(dir).and_then(|d| d.sync_all()).map_err(|e| io_error(dir, e))
    }
    fn space(&self, dir: &Path) -> Result<Space> {
        let stat = rustix::fs::statvfs(dir).map_err(|e| io_error(dir, e.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
    }
    fn lock(&self, path: &Path) -> Result<LockGuard> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(|e| io_error(path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(LockGuard(Box::new(file))),
            Err(TryLockError::WouldBlock) => Err(Error::Unavailable(format!(
                "{}: another process holds this store; stop it or choose another data directory",
                path.display()
            ))),
            Err(TryLockError::Error(e)) => Err(io_error(path, e)),
        }
    }
    fn is_local(&self) -> bool {
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn released_bytes_of_a_mapped_file_read_as_before_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes: Vec<u8> = (0..50_000u32).map(|i| (i % 251) as u8).collect();
        OsFs.create(&path).unwrap().append(&bytes).unwrap();
        let map = OsFs.map(&path).unwrap();
        for range in [0..0, 0..1, 5_000..20_000, 40_000..50_000, 49_999..1 << 40, 1 << 40..usize::MAX] {
            map.release(range);
            assert!(*map == bytes[..]);
        }
    }
}
