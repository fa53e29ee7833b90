//! Which files the log consists of, and reading commits back from them.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::Fs;
use crate::memtable::CommittedBatch;
use crate::snapshot::WalFileInfo;
use crate::types::Lsn;

use super::batch::decode_batch;
use super::record::{FILE_HEADER_LEN, Kind, record_at};

/// Distance of the marks that let a reader start inside a file.
const MARK_EVERY_BYTES: u64 = 1 << 20;

/// A file of the log.
#[derive(Clone, Debug)]
pub(super) struct WalFile {
    pub(super) path: PathBuf,
    /// Position of its first batch.
    pub(super) first_lsn: u64,
    pub(super) bytes: u64,
    /// (position, offset of a record at or before that batch), increasing.
    marks: Vec<(u64, u64)>,
}

impl WalFile {
    pub(super) fn new(path: PathBuf, first_lsn: u64) -> Self {
        Self { path, first_lsn, bytes: FILE_HEADER_LEN as u64, marks: Vec::new() }
    }
    /// Notes that the record at `offset` comes before or is the batch `lsn`.
    pub(super) fn mark(&mut self, lsn: u64, offset: u64) {
        if self.marks.last().is_none_or(|&(_, last)| offset >= last + MARK_EVERY_BYTES) {
            self.marks.push((lsn, offset));
        }
    }
}

/// The live files, oldest first. The last one is being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct WalFiles(Arc<Mutex<Vec<WalFile>>>);

impl WalFiles {
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Vec<WalFile>) -> R) -> R {
        f(&mut self.0.lock())
    }
    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.lock().iter().map(|file| file.bytes).sum()
    }

    /// Files.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Every file, oldest first; the newest goes up to `newest`.
    pub(crate) fn describe(&self, newest: Lsn) -> Vec<WalFileInfo> {
        let files = self.0.lock();
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let last_of = |index: usize| files.get(index + 1).map_or(newest.0 + 1, |next: &WalFile| next.first_lsn) - 1;
        let info = |(index, file): (usize, &WalFile)| WalFileInfo {
            file: format!("wal/{}", name(&file.path)),
            first_lsn: Lsn(file.first_lsn),
            last_lsn: Lsn(last_of(index).max(file.first_lsn.saturating_sub(1))),
            bytes: file.bytes,
        };
        files.iter().enumerate().map(info).collect()
    }

    /// Returns when everything appended is on stable storage. Files before the newest were synced when it was started.
    pub(crate) fn sync(&self, fs: &dyn Fs) -> Result<()> {
        let newest = self.with(|files| files.last().map(|file| file.path.clone()));
        newest.map_or(Ok(()), |path| fs.open_append(&path)?.sync())
    }

    /// Ends the newest file and starts one whose first batch will be `next_lsn`, unless the newest has no batch.
    pub(crate) fn start_file(&self, fs: &dyn Fs, dir: &Path, next_lsn: u64) -> Result<()> {
        let has_batches = self.with(|files| files.last().is_some_and(|file| file.first_lsn < next_lsn));
        if !has_batches { Ok(()) } else { super::writer::create(fs, dir, self, next_lsn).map(drop) }
    }

    /// Removes the oldest files: those that hold no commit after `flushed` and, unless the log exceeds
    /// `retained_bytes_max`, none after `claimed`. The file being written always stays.
    pub(crate) fn truncate(
        &self,
        fs: &dyn Fs,
        dir: &Path,
        flushed: u64,
        claimed: u64,
        retained_bytes_max: u64,
    ) -> Result<()> {
        let removed: Vec<PathBuf> = {
            let files = self.0.lock();
            let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
            let mut count = 0;
            while let Some(next) = files.get(count + 1) {
                let last_lsn = next.first_lsn - 1;
                if last_lsn > flushed || (last_lsn > claimed && bytes <= retained_bytes_max) {
                    break;
                }
                bytes -= files[count].bytes;
                count += 1;
            }
            files[..count].iter().map(|file| file.path.clone()).collect()
        };
        // Without the lock, because commits need it; oldest first and each for good, so that a crash leaves no gap.
        // One that could not be removed is tried again before any younger one.
        for path in &removed {
            if fs.exists(path)? {
                fs.remove(path)?;
            }
            fs.sync_dir(dir)?;
            self.with(|files| files.retain(|file| file.path != *path));
        }
        Ok(())
    }

    /// Commits in `(after, through]`, stopping once `rows_max` rows are gathered; at least one if there is one.
    /// Everything up to `through` must have been published.
    ///
    /// # Errors
    /// `Limit` when the log no longer goes back to `after`.
    pub(crate) fn read(&self, fs: &dyn Fs, after: u64, through: u64, rows_max: usize) -> Result<Vec<CommittedBatch>> {
        let mut commits = Vec::new();
        let (mut next, mut rows) = (after + 1, 0);
        while next <= through && (commits.is_empty() || rows < rows_max) {
            let (path, map, mut offset) = self.locate(fs, next)?;
            let before = next;
            while next <= through && (commits.is_empty() || rows < rows_max) {
                let Some(record) = record_at(&map, offset).map_err(|damage| damage.into_error(&path))? else { break };
                offset = record.end();
                if record.kind == Kind::Batch && record.lsn == next {
                    let batch = decode_batch(record.payload, &path, record.payload_offset())?;
                    rows += batch.rows();
                    next += 1;
                    commits.push(CommittedBatch { lsn: Lsn(record.lsn), batch: Arc::new(batch) });
                }
            }
            if next == before {
                return Err(Error::Corruption {
                    path,
                    offset: offset as u64,
                    expected: format!("commit {next}"),
                    got: "the end of the file".into(),
                });
            }
        }
        Ok(commits)
    }

    fn locate(&self, fs: &dyn Fs, lsn: u64) -> Result<(PathBuf, crate::fs::Mapped, usize)> {
        let files = self.0.lock();
        let gone = || Error::Limit(format!("the log before commit {lsn} is gone; start over from a snapshot"));
        let file = files.iter().rev().find(|file| file.first_lsn <= lsn).ok_or_else(gone)?;
        let mark = file.marks.partition_point(|&(marked, _)| marked <= lsn);
        let offset = mark.checked_sub(1).map_or(FILE_HEADER_LEN as u64, |i| file.marks[i].1);
        let map = fs.map(&file.path).map_err(|e| if e.kind() == ErrorKind::Io { gone() } else { e })?;
        Ok((file.path.clone(), map, offset as usize))
    }
}
