//! Appends groups of records to the newest file.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fs::{File, Fs, undo_append};
use crate::types::{LabelSet, SeriesId};

use super::files::{WalFile, WalFiles};
use super::record::{self, Kind};

/// The file of the log whose first batch is `first_lsn`.
pub(super) fn file_path(dir: &Path, first_lsn: u64) -> PathBuf {
    dir.join(format!("{first_lsn:020}.wal"))
}

/// The writing end of the log. Owned by one thread.
pub(crate) struct Writer {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    files: WalFiles,
    file: Box<dyn File>,
    segment_bytes: u64,
    /// Whether everything appended is on stable storage.
    synced: bool,
    buffer: Vec<u8>,
}

impl Writer {
    /// Continues the newest of `files`, or starts the log.
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        files: WalFiles,
        next_lsn: u64,
        segment_bytes: u64,
    ) -> Result<Self> {
        let newest = files.with(|files| files.last().map(|file| file.path.clone()));
        let file = match newest {
            Some(path) => fs.open_append(&path)?,
            None => create(&*fs, dir, &files, next_lsn)?,
        };
        Ok(Self { fs, dir: dir.to_owned(), files, file, segment_bytes, synced: true, buffer: Vec::new() })
    }

    /// Appends definitions, then the payloads of batches numbered from `first_lsn`, as one write. Not durable before [`Writer::sync`].
    /// Returns the bytes written.
    ///
    /// # Errors
    /// `DiskFull` when there is no room: the log is as before. Any other error is final.
    pub(crate) fn append_group(
        &mut self,
        definitions: &[(SeriesId, LabelSet)],
        batches: &[&[u8]],
        first_lsn: u64,
    ) -> Result<u64> {
        if self.newest().1 >= self.segment_bytes {
            self.start_file(first_lsn)?;
        }
        let (path, offset) = self.newest();
        self.buffer.clear();
        // At once, because growing by doubling would hold the group up to three times.
        self.buffer.reserve_exact(batches.iter().map(|batch| batch.len() + record::RECORD_HEADER_LEN).sum());
        let all_synced = self.synced;
        let mut synced_before = all_synced;
        for payload in record::encode_definitions(definitions) {
            record::put_record(&mut self.buffer, Kind::Definitions, synced_before, first_lsn, &payload);
            synced_before = false;
        }
        let mut marks = Vec::with_capacity(batches.len());
        for (lsn, batch) in (first_lsn..).zip(batches) {
            marks.push((lsn, offset + self.buffer.len() as u64));
            record::put_record(&mut self.buffer, Kind::Batch, synced_before, lsn, batch);
            synced_before = false;
        }
        self.synced = false;
        if let Err(error) = self.file.append(&self.buffer) {
            let error = undo_append(&*self.fs, &path, offset, self.buffer.len(), error);
            if matches!(error, Error::DiskFull { .. }) {
                self.synced = all_synced;
            }
            return Err(error);
        }
        let written = self.buffer.len() as u64;
        self.files.with(|files| {
            if let Some(file) = files.last_mut() {
                file.bytes += written;
                marks.into_iter().for_each(|(lsn, offset)| file.mark(lsn, offset));
            }
        });
        // One huge group must not pin its memory for ever.
        if self.buffer.capacity() > 16 << 20 {
            self.buffer = Vec::new();
        }
        Ok(written)
    }

    /// Ends the newest file and starts one whose first batch will be `next_lsn`, unless the newest has no batch.
    ///
    /// # Errors
    /// As [`Writer::append_group`].
    pub(crate) fn start_file(&mut self, next_lsn: u64) -> Result<()> {
        if !self.files.with(|files| files.last().is_some_and(|file| file.first_lsn < next_lsn)) {
            return Ok(());
        }
        // Damage before the newest file is never forgiven, so it must be complete before there is a newer one.
        self.sync()?;
        match create(&*self.fs, &self.dir, &self.files, next_lsn) {
            Ok(file) => self.file = file,
            Err(error) => {
                let path = file_path(&self.dir, next_lsn);
                // Without the name there is no file: only then may the old one go on.
                return match self.fs.exists(&path) {
                    Ok(false) if error.is_disk_full() => {
                        let (needed_bytes, free_bytes) = (record::FILE_HEADER_LEN as u64, 0);
                        Err(Error::DiskFull { path, needed_bytes, free_bytes })
                    }
                    _ => Err(error),
                };
            }
        }
        Ok(())
    }

    /// Path and bytes of the file being written.
    fn newest(&self) -> (PathBuf, u64) {
        self.files.with(|files| files.last().map_or((PathBuf::new(), 0), |file| (file.path.clone(), file.bytes)))
    }

    /// Whether something appended is not yet on stable storage.
    pub(crate) fn is_dirty(&self) -> bool {
        !self.synced
    }

    /// Returns when everything appended is on stable storage.
    pub(crate) fn sync(&mut self) -> Result<()> {
        if !self.synced {
            self.file.sync()?;
            self.synced = true;
        }
        Ok(())
    }
}

/// A file appears under its name only with a complete, durable header: a shorter one is always damage.
pub(super) fn create(fs: &dyn Fs, dir: &Path, files: &WalFiles, first_lsn: u64) -> Result<Box<dyn File>> {
    let path = file_path(dir, first_lsn);
    crate::fs::publish(fs, &path, &record::file_header(first_lsn))?;
    let file = fs.open_append(&path)?;
    files.with(|files| files.push(WalFile::new(path, first_lsn)));
    Ok(file)
}
