//! Files, behind a trait: the only module of the engine that touches them (RocksDB does its own I/O in its own folder,
//! and nothing in it is the only copy of a fact).
//!
//! Publishing a file is always: write, [`File::sync`], [`Fs::rename`], [`Fs::sync_dir`].
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};

mod fault;
mod os;
mod small;

pub use fault::{Failure, FaultFs, FaultPlan, SECTOR_BYTES, Survival};
pub use os::OsFs;
pub use small::SmallFs;

/// Room in a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be written.
    pub free: u64,
    /// Bytes there are; 0 when there is no such number.
    pub total: u64,
}

/// A file being written. Bytes go at its end.
pub trait File: Send + Sync {
    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// `Io`; how much was written is then unknown.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;
    /// Returns once everything appended is on stable storage (`fdatasync`).
    ///
    /// # Errors
    /// `Io`; the file must then be abandoned: a second sync that succeeds would prove nothing.
    fn sync(&mut self) -> Result<()>;
}

/// The contents of a file, mapped or copied.
#[derive(Clone)]
pub struct Mapped(Arc<dyn Contents>);

/// Where the bytes of a [`Mapped`] are.
trait Contents: Send + Sync {
    fn bytes(&self) -> &[u8];
    fn release(&self, _range: Range<usize>) {}
}

/// Bytes in memory that does not go before they do.
struct Held<B>(B);

impl<B: Deref<Target = [u8]> + Send + Sync> Contents for Held<B> {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Mapped {
    /// Wraps bytes that do not change.
    pub fn new(bytes: impl Deref<Target = [u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Held(bytes)))
    }

    /// Says that `range` is not needed soon: of a mapped file its pages then no longer count as this process' memory.
    /// They can be read all the same.
    pub(crate) fn release(&self, range: Range<usize>) {
        self.0.release(range);
    }
}

impl Deref for Mapped {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl std::fmt::Debug for Mapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mapped({} bytes)", self.len())
    }
}

/// Held while this process owns a store; dropping it releases the lock.
pub struct LockGuard(#[allow(dead_code, reason = "held for its Drop")] Box<dyn Send + Sync>);

impl std::fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LockGuard")
    }
}

/// A file system. All paths are whole paths; errors carry them.
///
/// # Errors
/// Every method answers `Io` with its path when the file system refuses.
#[allow(clippy::missing_errors_doc, reason = "said once for all methods above")]
pub trait Fs: Send + Sync + 'static {
    /// Creates a file that must not exist.
    fn create(&self, path: &Path) -> Result<Box<dyn File>>;
    /// Opens an existing file to append.
    fn open_append(&self, path: &Path) -> Result<Box<dyn File>>;
    /// The contents of a file as they are now, read through the page cache.
    fn map(&self, path: &Path) -> Result<Mapped>;
    /// Size of a file in bytes.
    fn len(&self, path: &Path) -> Result<u64>;
    /// Writes the bytes from `from` to the end over themselves and syncs them. After a failed sync the page cache may hold
    /// what the disk does not, and a further sync alone would not write it.
    fn rewrite(&self, path: &Path, from: u64) -> Result<()>;
    /// Cuts a file to `len` bytes and syncs it.
    fn truncate(&self, path: &Path, len: u64) -> Result<()>;
    /// Whether a file or directory exists.
    fn exists(&self, path: &Path) -> Result<bool>;
    /// Renames a file, replacing `to`.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> Result<()>;
    /// Names in a directory, sorted.
    fn list(&self, dir: &Path) -> Result<Vec<String>>;
    /// Creates a directory and its parents; fine if it exists.
    fn create_dir(&self, dir: &Path) -> Result<()>;
    /// Makes creations, renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> Result<()>;
    /// Room in the file system of `dir`.
    fn space(&self, dir: &Path) -> Result<Space>;
    /// Takes an exclusive lock on `path`, creating it; `Unavailable` when another owner holds it.
    fn lock(&self, path: &Path) -> Result<LockGuard>;
    /// Whether files live in a real directory, where RocksDB can put the catalogue beside them. Otherwise the catalogue
    /// lives in memory and is rebuilt at each open.
    fn is_local(&self) -> bool;
}

pub(crate) fn io_error(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: PathBuf::from(path), source }
}

/// Makes the entry of `dir` durable, and those of the directories above it.
pub(crate) fn sync_path(fs: &dyn Fs, dir: &Path) -> Result<()> {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    for parent in dir.ancestors().filter_map(Path::parent) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match fs.sync_dir(parent) {
            // A directory that we may not touch is not one that we made.
            Err(Error::Io { source, .. })
                if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem | InvalidInput | Unsupported) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Writes a whole small file so that after a crash either all of it stands at `path` or nothing new does.
pub(crate) fn publish(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<()> {
    publish_with(fs, path, &mut |file| file.append(bytes))
}

/// As [`publish`], with what `write` appends.
pub(crate) fn publish_with(fs: &dyn Fs, path: &Path, write: &mut dyn FnMut(&mut dyn File) -> Result<()>) -> Result<()> {
    let temporary = stage_with(fs, path, write)?;
    fs.rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => fs.sync_dir(dir),
        None => Ok(()),
    }
}

/// The first half of [`publish`]: writes a file beside `path` and returns its name. What stands at `path` is untouched.
pub(crate) fn stage(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    stage_with(fs, path, &mut |file| file.append(bytes))
}

fn stage_with(fs: &dyn Fs, path: &Path, write: &mut dyn FnMut(&mut dyn File) -> Result<()>) -> Result<PathBuf> {
    let temporary = path.with_extension("tmp");
    if fs.exists(&temporary)? {
        fs.remove(&temporary)?;
    }
    let mut written = || {
        let mut file = fs.create(&temporary)?;
        write(&mut *file)?;
        file.sync()
    };
    if let Err(error) = written() {
        // Half a file is worth nothing, and its room may be what is missing. If it stays, the next open removes it.
        let _ = fs.remove(&temporary);
        return Err(error);
    }
    Ok(temporary)
}

/// An append to the file `path` failed for want of room: cuts the file back to the `len` bytes it had. The answer is
/// `DiskFull`, which means that nothing happened, or `error` when that cannot be said.
pub(crate) fn undo_append(fs: &dyn Fs, path: &Path, len: u64, appended: usize, error: Error) -> Error {
    if !error.is_disk_full() || fs.truncate(path, len).is_err() {
        return error;
    }
    let free_bytes = path.parent().and_then(|dir| fs.space(dir).ok()).map_or(0, |space| space.free);
    Error::DiskFull { path: path.to_owned(), needed_bytes: appended as u64, free_bytes }
}
