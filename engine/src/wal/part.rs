//! A part of the log that stands for itself: what a copy of a store needs of it.
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::{Fs, Mapped};
use crate::types::Lsn;

use super::check::named_files;
use super::record::{self, Kind, record_at, was_synced};
use super::writer::file_path;

/// Files and how many of their bytes belong to the part.
pub(crate) struct Part {
    pub(crate) files: Vec<(PathBuf, Mapped, usize)>,
    /// Newest commit in it, or before it.
    pub(crate) last: Lsn,
}

/// The commits after `after` that the log in `dir` still has, up to `through` or to its end, in any case with all of them
/// after `flushed`, which is not before `after`. Where that is none, an empty file that goes on after `flushed`.
///
/// # Errors
/// `Io`, or `Corruption` anywhere but in the torn end.
pub(crate) fn part(fs: &dyn Fs, dir: &Path, after: Lsn, flushed: Lsn, through: Option<Lsn>) -> Result<Part> {
    let (files, _) = named_files(fs, dir)?;
    let through = through.unwrap_or(Lsn(u64::MAX));
    let mut part = Part { files: Vec::new(), last: flushed };
    let mut next = None;
    for (i, file) in files.iter().enumerate() {
        let needed = files.get(i + 1).is_none_or(|next| next.first_lsn > after.0 + 1);
        if !needed || file.first_lsn > through.0 {
            continue;
        }
        let bytes = fs.map(&file.path)?;
        record::check_file_header(&bytes, &file.path)?;
        let (last, len) = cut(&bytes, &file.path, file.first_lsn, through, i + 1 == files.len())?;
        let corrupt = |expected: String, got: String| {
            Err(Error::Corruption { path: file.path.clone(), offset: 12, expected, got })
        };
        if file.first_lsn > next.unwrap_or(flushed.0 + 1) || next.is_some_and(|next| next != file.first_lsn) {
            let expected = format!("a file that begins with commit {}", next.unwrap_or(flushed.0 + 1));
            return corrupt(expected, file.first_lsn.to_string());
        }
        if i + 1 == files.len() && last < flushed.0 {
            return corrupt(format!("commits up to {}, which the manifest knows", flushed.0), last.to_string());
        }
        next = Some(last + 1);
        if last <= after.0 && part.files.is_empty() {
            continue;
        }
        part.last = Lsn(last);
        part.files.push((file.path.clone(), bytes, len));
    }
    if part.files.is_empty() {
        let header = record::file_header(flushed.0 + 1).to_vec();
        part.files.push((file_path(dir, flushed.0 + 1), Mapped::new(header), record::FILE_HEADER_LEN));
    }
    Ok(part)
}

/// The last commit of a file that is not after `through`, and where its record ends.
fn cut(bytes: &[u8], path: &Path, first_lsn: u64, through: Lsn, newest: bool) -> Result<(u64, usize)> {
    let (mut last, mut offset, mut end) =
        (first_lsn.saturating_sub(1), record::FILE_HEADER_LEN, record::FILE_HEADER_LEN);
    while last < through.0 {
        let record = match record_at(bytes, offset) {
            Ok(Some(record)) => record,
            Ok(None) => break,
            Err(damage) if newest && !was_synced(bytes, damage.offset, last) => break,
            Err(damage) => return Err(damage.into_error(path)),
        };
        offset = record.end();
        match record.kind {
            Kind::Batch if record.lsn == last + 1 => (last, end) = (record.lsn, offset),
            Kind::Batch => {
                let (expected, got) = (format!("commit {}", last + 1), format!("commit {}", record.lsn));
                return Err(Error::Corruption { path: path.to_owned(), offset: record.offset as u64, expected, got });
            }
            Kind::Definitions => {}
        }
    }
    Ok((last, end))
}
