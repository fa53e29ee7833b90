//! Reads the whole log at open.
use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::types::{LabelSet, Lsn, SeriesId};
use crate::write_batch::WriteBatch;

use super::batch::decode_batch;
use super::files::{WalFile, WalFiles};
use super::record::{self, Damage, Kind, record_at, was_synced};

/// What replay delivers, in the order of the log.
pub(crate) enum Replayed {
    /// New series.
    Definitions(Vec<(SeriesId, LabelSet)>),
    /// A batch after the position replay started from.
    Batch(Lsn, WriteBatch),
    /// So many bytes of so many are done.
    Progress(u64, u64),
}

/// Delivers all batches in `dir` after `flushed` and the definitions that came with them, cuts the torn end of the newest
/// file, lists the files in `known` and returns the newest position.
///
/// A definition that came before a flushed batch is in a series file, or was dropped with its last one: it must not come
/// back.
///
/// # Errors
/// `Corruption` for damage anywhere but in the unacknowledged end of the newest file, or for missing commits.
pub(crate) fn replay(
    fs: &dyn Fs,
    dir: &Path,
    flushed: Lsn,
    known: &WalFiles,
    mut deliver: impl FnMut(Replayed) -> Result<()>,
) -> Result<Lsn> {
    let names = fs.list(dir)?;
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        fs.remove(&dir.join(name))?;
    }
    let paths: Vec<_> = names.iter().filter(|name| name.ends_with(".wal")).map(|name| dir.join(name)).collect();
    if paths.is_empty() && flushed > Lsn(0) {
        // The file being written is never removed.
        let expected = format!("a log file that goes on after commit {}", flushed.0);
        return Err(Error::Corruption { path: dir.to_owned(), offset: 0, expected, got: "none".into() });
    }
    if let Some(newest) = paths.last() {
        // A killed process, or one that gave up after a failed sync, may have left bytes and entries that only the page
        // cache holds. What is replayed from them is read, flushed and built upon, so it must be on stable storage first.
        let proven = record::proven_len(&fs.map(newest)?);
        fs.rewrite(newest, proven as u64)?;
        fs.sync_dir(dir)?;
    }
    let mut total = 0;
    for path in &paths {
        total += fs.len(path)?;
    }
    let mut files: Vec<WalFile> = Vec::new();
    let (mut last, mut done) = (None::<u64>, 0);
    let mut definitions = Vec::new();
    for (i, path) in paths.iter().enumerate() {
        let map = fs.map(path)?;
        let first_lsn = record::check_file_header(&map, path)?;
        let limit = flushed.0 + 1;
        if last.map_or(first_lsn > limit, |last| first_lsn != last + 1) {
            let expected =
                last.map_or(format!("first commit at most {limit}"), |last| format!("first commit {}", last + 1));
            return Err(Error::Corruption { path: path.clone(), offset: 12, expected, got: first_lsn.to_string() });
        }
        let mut file = WalFile::new(path.clone(), first_lsn);
        let mut lsn = first_lsn - 1;
        let mut offset = record::FILE_HEADER_LEN;
        loop {
            let record = match record_at(&map, offset) {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(damage) => {
                    forgive(fs, path, &map, damage, lsn, i + 1 == paths.len())?;
                    break;
                }
            };
            match record.kind {
                Kind::Definitions => definitions.extend(record::decode_definitions(&record, path)?),
                Kind::Batch => {
                    if record.lsn != lsn + 1 {
                        let (expected, got) = (format!("commit {}", lsn + 1), format!("commit {}", record.lsn));
                        return Err(Damage { offset, expected, got }.into_error(path));
                    }
                    lsn = record.lsn;
                    file.mark(lsn, offset as u64);
                    if lsn <= flushed.0 {
                        definitions.clear();
                    } else {
                        deliver_definitions(&mut definitions, &mut deliver)?;
                        let batch = decode_batch(record.payload, path, record.payload_offset())?;
                        deliver(Replayed::Batch(Lsn(lsn), batch))?;
                    }
                }
            }
            offset = record.end();
            file.bytes = offset as u64;
            deliver(Replayed::Progress(done + offset as u64, total))?;
        }
        done += map.len() as u64;
        last = Some(lsn);
        files.push(file);
    }
    deliver_definitions(&mut definitions, &mut deliver)?;
    let last = Lsn(last.unwrap_or(flushed.0));
    if last < flushed {
        let expected = format!("commits up to {}, which the manifest knows", flushed.0);
        let path = paths.last().map_or(dir.to_owned(), Clone::clone);
        let offset = files.last().map_or(0, |file| file.bytes);
        return Err(Error::Corruption { path, offset, expected, got: format!("commits up to {}", last.0) });
    }
    known.with(|known| *known = files);
    Ok(last)
}

fn deliver_definitions(
    definitions: &mut Vec<(SeriesId, LabelSet)>,
    deliver: &mut impl FnMut(Replayed) -> Result<()>,
) -> Result<()> {
    match definitions.is_empty() {
        true => Ok(()),
        false => deliver(Replayed::Definitions(std::mem::take(definitions))),
    }
}

/// Cuts the torn end of the newest file; refuses damage anywhere else.
fn forgive(fs: &dyn Fs, path: &Path, bytes: &[u8], damage: Damage, last_lsn: u64, newest: bool) -> Result<()> {
    if !newest || was_synced(bytes, damage.offset, last_lsn) {
        return Err(damage.into_error(path));
    }
    tracing::warn!(
        path = %path.display(), offset = damage.offset, bytes = bytes.len() - damage.offset,
        "cutting the torn, never acknowledged end of the log"
    );
    fs.truncate(path, damage.offset as u64)
}
