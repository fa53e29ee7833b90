//! A file system in memory for tests: counts syncs, fails the Nth call, and forgets at a "power cut" what was not synced.
//!
//! What survives [`FaultFs::power_cut`] is the worst that POSIX allows and our publishing protocol must bear: of each
//! file the bytes at its last [`File::sync`]; of each directory the entries at its last [`Fs::sync_dir`].
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{File, Fs, LockGuard, Mapped, Space, io_error};
use crate::error::{Error, Result};

/// Which calls fail.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// The call with this number (counting every mutating call from 0) and all later ones fail: a machine that died.
    pub die_at: Option<u64>,
    /// This one mutating call fails with an I/O error; later ones work.
    pub fail_at: Option<u64>,
    /// Every sync of a file whose path contains this text fails.
    pub fail_sync_of: Option<String>,
    /// At the power cut, keep this many of the unsynced bytes of each file (a torn write).
    pub keep_unsynced_bytes: usize,
}

#[derive(Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: usize,
}

type Shared = Arc<Mutex<Inode>>;

#[derive(Default)]
struct State {
    /// Names as running programs see them.
    live: BTreeMap<PathBuf, Shared>,
    /// Names as the disk has them.
    durable: BTreeMap<PathBuf, Shared>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    plan: FaultPlan,
    calls: u64,
    syncs: BTreeMap<PathBuf, u64>,
    boot: u64,
}

/// See the module.
#[derive(Clone, Default)]
pub struct FaultFs(Arc<Mutex<State>>);

impl std::fmt::Debug for FaultFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FaultFs({} calls)", self.calls())
    }
}

impl FaultFs {
    /// An empty file system without faults.
    pub fn new() -> Self {
        Self::default()
    }
    /// Replaces the plan.
    pub fn plan(&self, plan: FaultPlan) {
        self.0.lock().plan = plan;
    }
    /// Mutating calls so far.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }
    /// Syncs of files whose path contains `text`.
    pub fn syncs_of(&self, text: &str) -> u64 {
        self.0.lock().syncs.iter().filter(|(path, _)| path.to_string_lossy().contains(text)).map(|(_, n)| n).sum()
    }
    /// Forgets everything that was not synced, clears the plan and releases all locks, as after a power cut and reboot.
    /// Files still open from before can no longer be written.
    pub fn power_cut(&self) {
        let mut state = self.0.lock();
        let keep = state.plan.keep_unsynced_bytes;
        state.live = state
            .durable
            .iter()
            .map(|(path, inode)| {
                let old = inode.lock();
                let len = old.bytes.len().min(old.synced + keep);
                (path.clone(), Arc::new(Mutex::new(Inode { bytes: old.bytes[..len].to_vec(), synced: len })))
            })
            .collect();
        state.durable = state.live.clone();
        state.plan = FaultPlan::default();
        state.locks.clear();
        state.boot += 1;
    }
    /// A copy of the files as they are now, without faults and locks.
    pub fn fork(&self) -> Self {
        let state = self.0.lock();
        let copy = |(path, inode): (&PathBuf, &Shared)| {
            let bytes = inode.lock().bytes.clone();
            (path.clone(), Arc::new(Mutex::new(Inode { synced: bytes.len(), bytes })))
        };
        let live: BTreeMap<PathBuf, Shared> = state.live.iter().map(copy).collect();
        let (durable, dirs) = (live.clone(), state.dirs.clone());
        Self(Arc::new(Mutex::new(State { live, durable, dirs, ..State::default() })))
    }
    /// Changes one byte of a file, as a failing disk would.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip(&self, path: &Path, offset: usize) {
        let state = self.0.lock();
        state.live[path].lock().bytes[offset] ^= 0x55;
    }

    fn call(&self, path: &Path) -> Result<parking_lot::MutexGuard<'_, State>> {
        let mut state = self.0.lock();
        let number = state.calls;
        state.calls += 1;
        let dead = state.plan.die_at.is_some_and(|n| number >= n);
        if dead || state.plan.fail_at == Some(number) {
            return Err(io_error(path, io::Error::other(format!("injected fault at call {number}"))));
        }
        Ok(state)
    }
    fn find(&self, path: &Path) -> Result<Shared> {
        let state = self.0.lock();
        state.live.get(path).map(Arc::clone).ok_or_else(|| io_error(path, io::ErrorKind::NotFound.into()))
    }
}

struct FaultFile {
    fs: FaultFs,
    inode: Shared,
    path: PathBuf,
    boot: u64,
}

impl FaultFile {
    fn check(&self, state: &State) -> Result<()> {
        if state.boot == self.boot {
            Ok(())
        } else {
            Err(io_error(&self.path, io::Error::other("opened before the power cut")))
        }
    }
}

impl File for FaultFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let state = self.fs.call(&self.path)?;
        self.check(&state)?;
        self.inode.lock().bytes.extend_from_slice(bytes);
        Ok(())
    }
    fn sync(&mut self) -> Result<()> {
        let mut state = self.fs.call(&self.path)?;
        self.check(&state)?;
        if state.plan.fail_sync_of.as_ref().is_some_and(|text| self.path.to_string_lossy().contains(text.as_str())) {
            return Err(io_error(&self.path, io::Error::other("injected fault: sync failed")));
        }
        *state.syncs.entry(self.path.clone()).or_default() += 1;
        let mut inode = self.inode.lock();
        inode.synced = inode.bytes.len();
        Ok(())
    }
}

struct Unlock(FaultFs, PathBuf, u64);

impl Drop for Unlock {
    fn drop(&mut self) {
        let mut state = self.0.0.lock();
        if state.boot == self.2 {
            state.locks.remove(&self.1);
        }
    }
}

impl Fs for FaultFs {
    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        let mut state = self.call(path)?;
        if state.live.contains_key(path) {
            return Err(io_error(path, io::ErrorKind::AlreadyExists.into()));
        }
        if !path.parent().is_some_and(|dir| state.dirs.contains(dir)) {
            return Err(io_error(path, io::ErrorKind::NotFound.into()));
        }
        let inode = Shared::default();
        state.live.insert(path.to_owned(), Arc::clone(&inode));
        Ok(Box::new(FaultFile { fs: self.clone(), inode, path: path.to_owned(), boot: state.boot }))
    }
    fn open_append(&self, path: &Path) -> Result<Box<dyn File>> {
        let inode = self.find(path)?;
        let boot = self.0.lock().boot;
        Ok(Box::new(FaultFile { fs: self.clone(), inode, path: path.to_owned(), boot }))
    }
    fn map(&self, path: &Path) -> Result<Mapped> {
        Ok(Mapped::new(self.find(path)?.lock().bytes.clone()))
    }
    fn len(&self, path: &Path) -> Result<u64> {
        Ok(self.find(path)?.lock().bytes.len() as u64)
    }
    fn truncate(&self, path: &Path, len: u64) -> Result<()> {
        drop(self.call(path)?);
        let inode = self.find(path)?;
        let mut inode = inode.lock();
        inode.bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        inode.synced = inode.bytes.len();
        Ok(())
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        let state = self.0.lock();
        Ok(state.live.contains_key(path) || state.dirs.contains(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.call(from)?;
        let inode = state.live.remove(from).ok_or_else(|| io_error(from, io::ErrorKind::NotFound.into()))?;
        state.live.insert(to.to_owned(), inode);
        Ok(())
    }
    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.call(path)?;
        state.live.remove(path).map(drop).ok_or_else(|| io_error(path, io::ErrorKind::NotFound.into()))
    }
    fn remove_dir(&self, path: &Path) -> Result<()> {
        let mut state = self.call(path)?;
        if state.live.keys().any(|file| file.parent() == Some(path)) {
            return Err(io_error(path, io::ErrorKind::DirectoryNotEmpty.into()));
        }
        state.dirs.remove(path);
        Ok(())
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>> {
        let state = self.0.lock();
        let paths = state.live.keys().chain(state.dirs.iter());
        let mut names: Vec<String> = paths
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort_unstable();
        Ok(names)
    }
    fn create_dir(&self, dir: &Path) -> Result<()> {
        let mut state = self.call(dir)?;
        state.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut state = self.call(dir)?;
        let state = &mut *state;
        state.durable.retain(|path, _| path.parent() != Some(dir));
        let entries = state.live.iter().filter(|(path, _)| path.parent() == Some(dir));
        state.durable.extend(entries.map(|(path, inode)| (path.clone(), Arc::clone(inode))));
        Ok(())
    }
    fn space(&self, _dir: &Path) -> Result<Space> {
        Ok(Space { free: u64::MAX, total: 0 })
    }
    fn lock(&self, path: &Path) -> Result<LockGuard> {
        let mut state = self.0.lock();
        if !state.locks.insert(path.to_owned()) {
            return Err(Error::Unavailable(format!("{}: another owner holds this store", path.display())));
        }
        Ok(LockGuard(Box::new(Unlock(self.clone(), path.to_owned(), state.boot))))
    }
    fn is_local(&self) -> bool {
        false
    }
}
