//! A file system in memory for tests: counts syncs, fails chosen calls, and forgets at a "power cut" what was not synced.
//!
//! What is left after [`FaultFs::power_cut`] is chosen by [`Survival`], within what POSIX allows and our publishing protocol
//! must bear: of each file at least the bytes at its last [`File::sync`]; of each name the entry at the last
//! [`Fs::sync_dir`] of its directory or a later one. A directory whose own entry was never synced is lost with all in it.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{File, Fs, LockGuard, Mapped, Space, io_error};
use crate::error::{Error, Result};

mod plan;

pub use plan::{Failure, FaultPlan, SECTOR_BYTES, Survival};

/// Bytes that readers, forks and files after a power cut share until they are changed.
#[derive(Clone, Debug, Default)]
struct Bytes(Arc<Vec<u8>>);

impl Bytes {
    fn make_mut(&mut self) -> &mut Vec<u8> {
        Arc::make_mut(&mut self.0)
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Bytes,
    synced: usize,
    /// Bytes that a failed sync gave up: read back until the power cut, never on the disk.
    forgotten: Vec<Range<usize>>,
}

impl Inode {
    fn new(bytes: Vec<u8>) -> Self {
        Self { synced: bytes.len(), bytes: Bytes(Arc::new(bytes)), forgotten: Vec::new() }
    }
    /// What the disk holds.
    fn after_cut(&self, path: &Path, survival: Survival) -> Self {
        if self.synced == self.bytes.len() && self.forgotten.is_empty() {
            return self.clone();
        }
        let mut bytes = survival.bytes_of(path, &self.bytes, self.synced);
        for range in &self.forgotten {
            let to = range.end.min(bytes.len());
            bytes[range.start.min(to)..to].fill(0xdb);
        }
        Self::new(bytes)
    }
}

type Shared = Arc<Mutex<Inode>>;

#[derive(Default)]
struct State {
    /// Names as running programs see them.
    live: BTreeMap<PathBuf, Shared>,
    /// Names as the disk has them.
    durable: BTreeMap<PathBuf, Shared>,
    dirs: BTreeSet<PathBuf>,
    /// Directories whose own entry is synced.
    durable_dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    plan: FaultPlan,
    calls: u64,
    struck: Option<String>,
    syncs: BTreeMap<PathBuf, u64>,
    boot: u64,
    /// Whether the catalogue is on a real disk.
    local: bool,
}

impl State {
    /// The error of a failing call.
    fn strike(&mut self, what: &str, path: &Path) -> Error {
        self.struck.get_or_insert_with(|| format!("{what} of {}", path.display()));
        io_error(path, self.plan.failure.error(what))
    }
    fn reboot(&mut self) {
        self.plan = FaultPlan::default();
        self.struck = None;
        self.locks.clear();
        self.boot += 1;
    }
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
        let mut state = self.0.lock();
        state.plan = plan;
        state.struck = None;
    }
    /// Mutating calls so far.
    pub fn calls(&self) -> u64 {
        self.0.lock().calls
    }
    /// Syncs of files whose path contains `text`.
    pub fn syncs_of(&self, text: &str) -> u64 {
        self.0.lock().syncs.iter().filter(|(path, _)| path.to_string_lossy().contains(text)).map(|(_, n)| n).sum()
    }
    /// The first call that failed since the plan was made: what it was, and of which file.
    pub fn struck(&self) -> Option<String> {
        self.0.lock().struck.clone()
    }
    /// Forgets what was not synced, as far as the plan's [`Survival`] says, clears the plan and releases all locks, as
    /// after a power cut and reboot. Files still open from before can no longer be written.
    pub fn power_cut(&self) {
        let mut state = self.0.lock();
        let survival = state.plan.survival;
        let durable_dirs = std::mem::take(&mut state.durable_dirs);
        let lives = |dir: &Path| {
            let kept = |dir: &Path| durable_dirs.contains(dir) || survival.keeps_entry(dir);
            dir.ancestors().all(|dir| dir.parent().is_none() || kept(dir))
        };
        let dirs: BTreeSet<PathBuf> = state.dirs.iter().filter(|dir| lives(dir)).cloned().collect();
        state.live = plan::entries(survival, &state.live, &state.durable)
            .into_iter()
            .filter(|(path, _)| path.parent().is_some_and(|dir| dirs.contains(dir)))
            .map(|(path, inode)| {
                let left = inode.lock().after_cut(&path, survival);
                (path, Arc::new(Mutex::new(left)))
            })
            .collect();
        state.durable = state.live.clone();
        state.durable_dirs = dirs.clone();
        state.dirs = dirs;
        state.reboot();
    }
    /// Clears the plan and releases all locks, as when the process was killed: what was not synced is still there, and
    /// still not synced.
    pub fn kill(&self) {
        self.0.lock().reboot();
    }
    /// A copy of the files as they are now, all on the disk, without faults and locks.
    pub fn fork(&self) -> Self {
        let twin = self.twin();
        let mut state = twin.0.lock();
        for inode in state.live.values() {
            let mut inode = inode.lock();
            (inode.synced, inode.forgotten) = (inode.bytes.len(), Vec::new());
        }
        (state.durable, state.durable_dirs) = (state.live.clone(), state.dirs.clone());
        drop(state);
        twin
    }
    /// A copy of the files as they are now, with what of them is on the disk, without faults and locks.
    pub fn twin(&self) -> Self {
        let state = self.0.lock();
        // A file with a durable and a live name is one file in the copy, too.
        let mut copies: HashMap<*const Mutex<Inode>, Shared> = HashMap::new();
        let mut copy = |names: &BTreeMap<PathBuf, Shared>| -> BTreeMap<PathBuf, Shared> {
            let names = names.iter().map(|(path, inode)| {
                let copy = copies.entry(Arc::as_ptr(inode)).or_insert_with(|| {
                    let inode = inode.lock().clone();
                    Arc::new(Mutex::new(inode))
                });
                (path.clone(), Arc::clone(copy))
            });
            names.collect()
        };
        let (live, durable) = (copy(&state.live), copy(&state.durable));
        let (dirs, durable_dirs) = (state.dirs.clone(), state.durable_dirs.clone());
        Self(Arc::new(Mutex::new(State { live, durable, dirs, durable_dirs, local: state.local, ..State::default() })))
    }
    /// Says from now on that its directories are real ones, so that RocksDB puts the catalogue at its path on the machine's
    /// disk, beside files that stay in memory.
    pub fn with_real_catalogue(self) -> Self {
        self.0.lock().local = true;
        self
    }
    /// Changes one byte of a file, as a failing disk would.
    ///
    /// # Panics
    /// If there is no such byte.
    pub fn flip(&self, path: &Path, offset: usize) {
        let state = self.0.lock();
        state.live[path].lock().bytes.make_mut()[offset] ^= 0x55;
    }
    /// Changes one bit of a file.
    ///
    /// # Panics
    /// If there is no such bit.
    pub fn flip_bit(&self, path: &Path, bit: usize) {
        let state = self.0.lock();
        state.live[path].lock().bytes.make_mut()[bit / 8] ^= 1 << (bit % 8);
    }
    /// All files, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        self.0.lock().live.keys().cloned().collect()
    }

    /// Counts a call that changes something. With the error that it must answer, if it is one that fails.
    fn count(&self, what: &str, path: &Path) -> (parking_lot::MutexGuard<'_, State>, Option<Error>) {
        let mut state = self.0.lock();
        let number = state.calls;
        state.calls += 1;
        let error = state.plan.fails(number).then(|| state.strike(&format!("call {number}, {what}"), path));
        (state, error)
    }
    fn call(&self, what: &str, path: &Path) -> Result<parking_lot::MutexGuard<'_, State>> {
        match self.count(what, path) {
            (state, None) => Ok(state),
            (_, Some(error)) => Err(error),
        }
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
        let (state, error) = self.fs.count("append", &self.path);
        self.check(&state)?;
        let short = state.plan.failure == Failure::ShortWrite && !state.plan.is_dead(state.calls - 1);
        let written = match &error {
            None => bytes.len(),
            Some(_) if short => bytes.len() / 2,
            Some(_) => 0,
        };
        self.inode.lock().bytes.make_mut().extend_from_slice(&bytes[..written]);
        error.map_or(Ok(()), Err)
    }
    fn sync(&mut self) -> Result<()> {
        let (mut state, mut error) = self.fs.count("sync", &self.path);
        self.check(&state)?;
        let chosen = state.plan.fail_sync_of.as_ref();
        if chosen.is_some_and(|text| self.path.to_string_lossy().contains(text.as_str())) {
            error = Some(state.strike("sync", &self.path));
        }
        let mut inode = self.inode.lock();
        let unsynced = inode.synced..inode.bytes.len();
        if let Some(error) = error {
            if !unsynced.is_empty() {
                inode.forgotten.push(unsynced);
            }
            return Err(error);
        }
        *state.syncs.entry(self.path.clone()).or_default() += 1;
        inode.synced = unsynced.end;
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
        let mut state = self.call("create", path)?;
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
    fn rewrite(&self, path: &Path, from: u64) -> Result<()> {
        drop(self.call("rewrite", path)?);
        let inode = self.find(path)?;
        let mut inode = inode.lock();
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        inode.forgotten.iter_mut().for_each(|range| range.end = range.end.min(from));
        inode.synced = inode.bytes.len();
        Ok(())
    }
    fn truncate(&self, path: &Path, len: u64) -> Result<()> {
        drop(self.call("truncate", path)?);
        let inode = self.find(path)?;
        let mut inode = inode.lock();
        inode.bytes.make_mut().truncate(usize::try_from(len).unwrap_or(usize::MAX));
        inode.synced = inode.bytes.len();
        Ok(())
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        let state = self.0.lock();
        Ok(state.live.contains_key(path) || state.dirs.contains(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let mut state = self.call("rename", from)?;
        let inode = state.live.remove(from).ok_or_else(|| io_error(from, io::ErrorKind::NotFound.into()))?;
        state.live.insert(to.to_owned(), inode);
        Ok(())
    }
    fn remove(&self, path: &Path) -> Result<()> {
        let mut state = self.call("remove", path)?;
        state.live.remove(path).map(drop).ok_or_else(|| io_error(path, io::ErrorKind::NotFound.into()))
    }
    fn remove_dir(&self, path: &Path) -> Result<()> {
        let mut state = self.call("remove_dir", path)?;
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
        let mut state = self.call("create_dir", dir)?;
        state.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let mut state = self.call("sync_dir", dir)?;
        let state = &mut *state;
        let below = |path: &PathBuf| path.parent() == Some(dir);
        state.durable_dirs.retain(|path| !below(path));
        state.durable_dirs.extend(state.dirs.iter().filter(|path| below(path)).cloned());
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
        self.0.lock().local
    }
}
