//! Reading the whole log without changing it, on over damage.
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::{Fs, Mapped};
use crate::types::{LabelSet, Lsn, SeriesId};
use crate::write_batch::WriteBatch;

use super::batch::decode_batch;
use super::record::{self, Damage, FILE_HEADER_LEN, Kind, RECORD_HEADER_LEN, Record, record_at, was_synced};

/// What a check of the log meets, in the order of the log.
pub(crate) enum Event<'a> {
    /// Something acknowledged may be lost here.
    Damage(Error),
    /// The end of the newest file was never acknowledged; an open cuts it.
    Torn(Error),
    /// Series defined by a record at this offset of this file.
    Definitions(Vec<(SeriesId, LabelSet)>, &'a Path, u64),
    /// A commit, in a record at this offset of this file.
    Batch(Lsn, WriteBatch, &'a Path, u64),
    /// So many more bytes are done.
    Bytes(u64),
}

/// A file of the log by its name, which says its first position.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) path: PathBuf,
    pub(crate) first_lsn: u64,
}

/// The files of the log in order, and the names in `dir` that are not the log's.
pub(crate) fn named_files(fs: &dyn Fs, dir: &Path) -> Result<(Vec<Named>, Vec<String>)> {
    let (mut files, mut others) = (Vec::new(), Vec::new());
    for name in if fs.exists(dir)? { fs.list(dir)? } else { Vec::new() } {
        match name.strip_suffix(".wal").and_then(|stem| stem.parse().ok()) {
            Some(first_lsn) => files.push(Named { path: dir.join(name), first_lsn }),
            None => others.push(name),
        }
    }
    Ok((files, others))
}

/// Walks the records of a file, on over damage.
pub(crate) struct Walk<'a> {
    bytes: &'a [u8],
    offset: usize,
    last_lsn: u64,
}

/// What [`Walk`] meets.
pub(crate) enum Step<'a> {
    Record(Record<'a>),
    /// No record begins here; the walk goes on with the next one that can be read.
    Damage(Damage),
}

impl<'a> Walk<'a> {
    /// Walks the file of these `bytes`, header included, whose first batch is `first_lsn`.
    pub(crate) fn new(bytes: &'a [u8], first_lsn: u64) -> Self {
        Self { bytes, offset: FILE_HEADER_LEN.min(bytes.len()), last_lsn: first_lsn.saturating_sub(1) }
    }

    /// The first offset from `from` on where a later record begins, or the end.
    fn resume(&self, from: usize) -> usize {
        let lsn_max = self.last_lsn.saturating_add((self.bytes.len() / RECORD_HEADER_LEN) as u64);
        let end = self.bytes.len();
        let begins = |at: &usize| {
            let lsn = self.bytes[at + 9..at + 17].iter().rev().fold(0u64, |lsn, &byte| lsn << 8 | u64::from(byte));
            lsn > self.last_lsn && lsn <= lsn_max && matches!(record_at(self.bytes, *at), Ok(Some(_)))
        };
        (from..end.saturating_sub(RECORD_HEADER_LEN - 1)).find(begins).unwrap_or(end)
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Step<'a>;
    fn next(&mut self) -> Option<Step<'a>> {
        match record_at(self.bytes, self.offset) {
            Ok(None) => None,
            Ok(Some(record)) => {
                self.offset = record.end();
                if record.kind == Kind::Batch {
                    self.last_lsn = record.lsn;
                }
                Some(Step::Record(record))
            }
            Err(damage) => {
                self.offset = self.resume(damage.offset + 1);
                Some(Step::Damage(damage))
            }
        }
    }
}

/// Whether the damage at this place of the file `bytes` is the torn end that an open cuts.
pub(crate) fn is_torn(bytes: &[u8], damage: &Damage, last_lsn: u64, newest: bool) -> bool {
    newest && !was_synced(bytes, damage.offset, last_lsn)
}

/// Visits everything in the log of `dir`; a store whose manifest has flushed up to `flushed` needs what follows it.
/// Returns the newest position.
///
/// # Errors
/// `Io` of the directory, `Invalid` for a file of another version, and what `visit` refuses.
pub(crate) fn check(
    fs: &dyn Fs,
    dir: &Path,
    flushed: Lsn,
    mut visit: impl FnMut(Event<'_>) -> Result<()>,
) -> Result<Lsn> {
    let (files, _) = named_files(fs, dir)?;
    let Some(first) = files.first() else {
        if flushed > Lsn(0) {
            let expected = format!("a log file that goes on after commit {}", flushed.0);
            visit(Event::Damage(damaged(dir, 0, expected, "none")))?;
        }
        return Ok(flushed);
    };
    // What was flushed before the first file may be gone; what was not may not.
    let mut last = first.first_lsn.saturating_sub(1).min(flushed.0);
    for (i, file) in files.iter().enumerate() {
        let bytes = match fs.map(&file.path) {
            Ok(bytes) => bytes,
            Err(error) => {
                visit(Event::Damage(error))?;
                continue;
            }
        };
        if file.first_lsn != last.saturating_add(1) {
            let got = format!("a file that begins with {}", file.first_lsn);
            visit(Event::Damage(damaged(&file.path, 12, format!("commit {}", last.saturating_add(1)), got)))?;
            last = last.max(file.first_lsn.saturating_sub(1));
        }
        last = check_file(file, &bytes, i + 1 == files.len(), last, &mut visit)?;
        visit(Event::Bytes(bytes.len() as u64))?;
    }
    if last < flushed.0 {
        let newest = files.last().map_or(dir, |file| &file.path);
        let expected = format!("commits up to {}, which the manifest knows", flushed.0);
        visit(Event::Damage(damaged(newest, 0, expected, format!("commits up to {last}"))))?;
    }
    Ok(Lsn(last))
}

fn check_file(
    file: &Named,
    bytes: &Mapped,
    newest: bool,
    mut last: u64,
    visit: &mut impl FnMut(Event<'_>) -> Result<()>,
) -> Result<u64> {
    let path = &*file.path;
    match record::check_file_header(bytes, path) {
        Ok(first) if first == file.first_lsn => {}
        Ok(first) => {
            let expected = format!("first commit {}, as in the name", file.first_lsn);
            visit(Event::Damage(damaged(path, 12, expected, first.to_string())))?;
        }
        Err(error @ Error::Invalid(_)) => return Err(error),
        Err(error) => visit(Event::Damage(error))?,
    }
    // Damage that was reported explains the commits that are missing after it.
    let mut explained = false;
    for step in Walk::new(bytes, file.first_lsn) {
        let record = match step {
            Step::Record(record) => record,
            Step::Damage(damage) if is_torn(bytes, &damage, last, newest) => {
                visit(Event::Torn(damage.into_error(path)))?;
                break;
            }
            Step::Damage(damage) => {
                visit(Event::Damage(damage.into_error(path)))?;
                explained = true;
                continue;
            }
        };
        let offset = record.offset as u64;
        match record.kind {
            Kind::Definitions => match record::decode_definitions(&record, path) {
                Ok(series) => visit(Event::Definitions(series, path, offset))?,
                Err(error) => visit(Event::Damage(error))?,
            },
            Kind::Batch if record.lsn <= last => {
                let expected = format!("commit {}", last.saturating_add(1));
                visit(Event::Damage(damaged(path, offset, expected, format!("commit {}", record.lsn))))?;
            }
            Kind::Batch => {
                if record.lsn != last.saturating_add(1) && !explained {
                    let (expected, got) =
                        (format!("commit {}", last.saturating_add(1)), format!("commit {}", record.lsn));
                    visit(Event::Damage(damaged(path, offset, expected, got)))?;
                }
                (last, explained) = (record.lsn, false);
                match decode_batch(record.payload, path, record.payload_offset()) {
                    Ok(batch) => visit(Event::Batch(Lsn(last), batch, path, offset))?,
                    Err(error) => {
                        visit(Event::Damage(error))?;
                    }
                }
            }
        }
    }
    Ok(last)
}

fn damaged(path: &Path, offset: u64, expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::Corruption { path: path.to_owned(), offset, expected: expected.into(), got: got.into() }
}
