//! Writing a damaged log anew: every record that can be read, and empty commits for those that cannot.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::types::{LabelSet, Lsn, SeriesId};
use crate::write_batch::WriteBatch;

use super::batch::{decode_batch, encode_batch};
use super::check::{Named, Step, Walk, is_torn, named_files};
use super::record::{self, Kind, Record};
use super::writer::file_path;

/// More empty commits than this are not written: positions so far apart are damage of another kind.
const FILLED_MAX: u64 = 16 << 20;

/// A file of the new log that differs from what stands at its path.
pub(crate) struct LogFile {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
}

/// What the new log lacks.
pub(crate) enum Lost {
    /// Commits, first and last.
    Commits { path: PathBuf, first: u64, last: u64 },
    /// Rows of a commit that can be read, whose series nothing defines.
    Rows { path: PathBuf, lsn: u64, rows: u64 },
    /// Whatever was committed after this.
    End { path: PathBuf, after: u64 },
}

/// See the module.
pub(crate) struct FilledLog<'a> {
    fs: &'a dyn Fs,
    dir: PathBuf,
    flushed: Lsn,
    defined: HashMap<SeriesId, LabelSet>,
    out: Vec<u8>,
    /// The newest commit in the new log.
    last: u64,
}

impl<'a> FilledLog<'a> {
    /// For the log in `dir` of a store that has flushed up to `flushed` and defines `defined` outside it.
    pub(crate) fn new(fs: &'a dyn Fs, dir: PathBuf, flushed: Lsn, defined: HashMap<SeriesId, LabelSet>) -> Self {
        Self { fs, dir, flushed, defined, out: Vec::new(), last: 0 }
    }

    /// Calls `emit` with each file that changes, oldest first, and `lost` with what is missing.
    ///
    /// # Errors
    /// `Io`, what `emit` refuses, `Limit` when commits are too far apart to be filled in.
    pub(crate) fn build(
        &mut self,
        mut emit: impl FnMut(&LogFile) -> Result<()>,
        mut lost: impl FnMut(Lost),
    ) -> Result<()> {
        let (files, _) = named_files(self.fs, &self.dir)?;
        let Some(first) = files.first() else {
            let path = file_path(&self.dir, self.flushed.0 + 1);
            lost(Lost::End { path: path.clone(), after: self.flushed.0 });
            return emit(&LogFile { path, bytes: record::file_header(self.flushed.0 + 1).to_vec() });
        };
        self.last = first.first_lsn.saturating_sub(1).min(self.flushed.0);
        for (i, file) in files.iter().enumerate() {
            if file.first_lsn > self.last + 1 {
                let path = file_path(&self.dir, self.last + 1);
                lost(Lost::Commits { path: path.clone(), first: self.last + 1, last: file.first_lsn - 1 });
                self.out = record::file_header(self.last + 1).to_vec();
                self.fill(file.first_lsn)?;
                emit(&LogFile { path, bytes: std::mem::take(&mut self.out) })?;
            }
            self.build_file(file, i + 1 == files.len(), &mut emit, &mut lost)?;
        }
        Ok(())
    }

    fn build_file(
        &mut self,
        file: &Named,
        newest: bool,
        emit: &mut impl FnMut(&LogFile) -> Result<()>,
        lost: &mut impl FnMut(Lost),
    ) -> Result<()> {
        let path = &*file.path;
        let bytes = self.fs.map(path)?;
        self.out = record::file_header(file.first_lsn).to_vec();
        let mut kept = bytes.len();
        for step in Walk::new(&bytes, file.first_lsn) {
            match step {
                Step::Record(record) => self.take(&record, &bytes[record.offset..record.end()], path, lost)?,
                Step::Damage(damage) if is_torn(&bytes, &damage, self.last, newest) => {
                    kept = damage.offset;
                    break;
                }
                Step::Damage(_) => {}
            }
        }
        // A file appears with its header: a shorter one has lost what it held.
        if newest && (bytes.len() < record::FILE_HEADER_LEN || self.last < self.flushed.0) {
            lost(Lost::End { path: path.to_owned(), after: self.last.max(self.flushed.0) });
            self.fill(self.flushed.0 + 1)?;
        }
        if self.out[..] != bytes[..kept] {
            emit(&LogFile { path: path.to_owned(), bytes: std::mem::take(&mut self.out) })?;
        }
        Ok(())
    }

    /// Takes over a record, which stands in the file as `raw`.
    fn take(&mut self, record: &Record<'_>, raw: &[u8], path: &Path, lost: &mut impl FnMut(Lost)) -> Result<()> {
        match record.kind {
            Kind::Definitions => {
                let Ok(series) = record::decode_definitions(record, path) else { return Ok(()) };
                let count = series.len();
                let right: Vec<(SeriesId, LabelSet)> = series
                    .into_iter()
                    .filter(|(id, labels)| self.defined.entry(*id).or_insert_with(|| labels.clone()) == labels)
                    .collect();
                if right.len() == count {
                    self.out.extend_from_slice(raw);
                } else {
                    for payload in record::encode_definitions(&right) {
                        self.put(Kind::Definitions, record.lsn, &payload);
                    }
                }
            }
            Kind::Batch if record.lsn <= self.last => {}
            Kind::Batch => {
                if record.lsn > self.last + 1 {
                    lost(Lost::Commits { path: path.to_owned(), first: self.last + 1, last: record.lsn - 1 });
                    self.fill(record.lsn)?;
                }
                self.last = record.lsn;
                match decode_batch(record.payload, path, record.payload_offset()) {
                    Ok(batch) => self.put_batch(batch, record, raw, path, lost)?,
                    Err(_) => {
                        lost(Lost::Commits { path: path.to_owned(), first: record.lsn, last: record.lsn });
                        self.put_empty(record.lsn)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The batch without rows of series that nothing defines.
    fn put_batch(
        &mut self,
        batch: WriteBatch,
        record: &Record<'_>,
        raw: &[u8],
        path: &Path,
        lost: &mut impl FnMut(Lost),
    ) -> Result<()> {
        let known = |id: &SeriesId| record.lsn <= self.flushed.0 || self.defined.contains_key(id);
        if batch.all_series().all(known) {
            self.out.extend_from_slice(raw);
            return Ok(());
        }
        let mut kept = WriteBatch::default();
        for row in (0..batch.len()).filter(|&row| known(&batch.series[row])) {
            kept.push(batch.series[row], batch.ts[row], batch.values[row]);
        }
        for records in &batch.records {
            kept.records.push(Arc::new(records.only(known)?));
        }
        lost(Lost::Rows { path: path.to_owned(), lsn: record.lsn, rows: (batch.rows() - kept.rows()) as u64 });
        (kept.state, kept.deletes) = (batch.state, batch.deletes);
        let payload = encode_batch(&kept)?;
        self.put(Kind::Batch, record.lsn, &payload);
        Ok(())
    }

    /// Empty commits up to the one before `next`.
    fn fill(&mut self, next: u64) -> Result<()> {
        let count = next.saturating_sub(self.last + 1);
        if count > FILLED_MAX {
            return Err(Error::Limit(format!(
                "{count} commits are missing after commit {}, more than can be filled in; restore a backup",
                self.last
            )));
        }
        while self.last + 1 < next {
            self.put_empty(self.last + 1)?;
            self.last += 1;
        }
        Ok(())
    }

    fn put_empty(&mut self, lsn: u64) -> Result<()> {
        let payload = encode_batch(&WriteBatch::default())?;
        self.put(Kind::Batch, lsn, &payload);
        Ok(())
    }

    fn put(&mut self, kind: Kind, lsn: u64, payload: &[u8]) {
        record::put_record(&mut self.out, kind, true, lsn, payload);
    }
}
