//! A file system of a limited size over another one, for tests: it fills up as a disk does, and can be given more room.
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{File, Fs, LockGuard, Mapped, Space, io_error};
use crate::error::{Error, Result};

#[derive(Debug)]
struct Room {
    size: u64,
    used: u64,
    /// Calls that take room, so far.
    calls: u64,
    /// From this call on there is none.
    full_at: Option<u64>,
}

impl Room {
    /// Counts a call that takes room; whether there is any.
    fn call(&mut self) -> bool {
        self.calls += 1;
        self.full_at.is_none_or(|n| self.calls <= n)
    }
    fn give_back(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }
    fn free(&self) -> u64 {
        self.size.saturating_sub(self.used)
    }
}

/// See the module. Names take no room, the bytes of files do; an append that does not fit writes what does.
#[derive(Clone)]
pub struct SmallFs {
    inner: Arc<dyn Fs>,
    room: Arc<Mutex<Room>>,
}

fn full(path: &Path) -> Error {
    io_error(path, io::ErrorKind::StorageFull.into())
}

impl SmallFs {
    /// `size` bytes in all, over `inner`, which must be empty.
    pub fn new(inner: Arc<dyn Fs>, size: u64) -> Self {
        Self { inner, room: Arc::new(Mutex::new(Room { size, used: 0, calls: 0, full_at: None })) }
    }
    /// Changes the size, to more or to less than is used.
    pub fn resize(&self, size: u64) {
        self.room.lock().size = size;
    }
    /// After so many calls that take room (creations, appends, renames) all of them fail; `None` ends that.
    pub fn full_at(&self, call: Option<u64>) {
        let mut room = self.room.lock();
        (room.calls, room.full_at) = (0, call);
    }
    /// Calls that take room since [`SmallFs::full_at`] or the beginning.
    pub fn calls(&self) -> u64 {
        self.room.lock().calls
    }
    /// Bytes in files.
    pub fn used(&self) -> u64 {
        self.room.lock().used
    }
    /// The room that a file takes, 0 if there is none.
    fn size_of(&self, path: &Path) -> u64 {
        self.inner.len(path).unwrap_or(0)
    }
    fn take_call(&self, path: &Path) -> Result<()> {
        if self.room.lock().call() { Ok(()) } else { Err(full(path)) }
    }
}

struct SmallFile {
    inner: Box<dyn File>,
    room: Arc<Mutex<Room>>,
    path: std::path::PathBuf,
}

impl File for SmallFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut room = self.room.lock();
        let fits = if room.call() { room.free().min(bytes.len() as u64) as usize } else { 0 };
        self.inner.append(&bytes[..fits])?;
        room.used += fits as u64;
        if fits == bytes.len() { Ok(()) } else { Err(full(&self.path)) }
    }
    fn sync(&mut self) -> Result<()> {
        self.inner.sync()
    }
}

impl Fs for SmallFs {
    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        self.take_call(path)?;
        let inner = self.inner.create(path)?;
        Ok(Box::new(SmallFile { inner, room: Arc::clone(&self.room), path: path.to_owned() }))
    }
    fn open_append(&self, path: &Path) -> Result<Box<dyn File>> {
        let inner = self.inner.open_append(path)?;
        Ok(Box::new(SmallFile { inner, room: Arc::clone(&self.room), path: path.to_owned() }))
    }
    fn map(&self, path: &Path) -> Result<Mapped> {
        self.inner.map(path)
    }
    fn len(&self, path: &Path) -> Result<u64> {
        self.inner.len(path)
    }
    fn rewrite(&self, path: &Path, from: u64) -> Result<()> {
        self.inner.rewrite(path, from)
    }
    fn truncate(&self, path: &Path, len: u64) -> Result<()> {
        let before = self.size_of(path);
        self.inner.truncate(path, len)?;
        self.room.lock().give_back(before.saturating_sub(len));
        Ok(())
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        self.inner.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.take_call(from)?;
        let replaced = self.size_of(to);
        self.inner.rename(from, to)?;
        self.room.lock().give_back(replaced);
        Ok(())
    }
    fn remove(&self, path: &Path) -> Result<()> {
        let size = self.size_of(path);
        self.inner.remove(path)?;
        self.room.lock().give_back(size);
        Ok(())
    }
    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.inner.remove_dir(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> Result<()> {
        if self.inner.exists(dir)? {
            return Ok(());
        }
        self.take_call(dir)?;
        self.inner.create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.inner.sync_dir(dir)
    }
    fn space(&self, _dir: &Path) -> Result<Space> {
        let room = self.room.lock();
        Ok(Space { free: room.free(), total: room.size })
    }
    fn lock(&self, path: &Path) -> Result<LockGuard> {
        self.inner.lock(path)
    }
    fn is_local(&self) -> bool {
        self.inner.is_local()
    }
}
