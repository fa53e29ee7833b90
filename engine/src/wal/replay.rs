//! Reads the whole log at open, ahead of the thread that applies it.
//!
//! ```text
//!  wal/*.wal --map--> record: checksum, decode --> piece --> Pipe: so many bytes --> memtable, state, head
//!                     Log::read, on a thread of its own                              the thread that opens the store
//! ```
//! [`Log::open`] and [`Log::finish`] change files, [`Log::read`] only reads: whatever happens to files happens on the thread
//! that opens the store, in the order of the log, however far ahead the other one has read.
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::types::{LabelSet, Lsn, SeriesId};
use crate::write_batch::WriteBatch;

use super::batch::decode_batch;
use super::files::{WalFile, WalFiles};
use super::record::{self, Damage, Kind, Record, record_at, was_synced};

/// A piece is handed over when what was decoded for it holds so much, ...
const PIECE_BYTES: usize = 256 << 10;
/// ... or when so much of a file was read for it, whose memory is then given back.
const READ_BYTES: usize = 4 << 20;
/// Memory of a definition besides its labels.
const DEFINITION_BYTES: usize = 64;

/// What the log holds, in its order.
pub(crate) enum Replayed {
    /// New series.
    Definitions(Vec<(SeriesId, LabelSet)>),
    /// A batch after the position that is flushed.
    Batch(Lsn, WriteBatch),
}

/// Some of the log, decoded.
#[derive(Default)]
pub(crate) struct Piece {
    pub(crate) replayed: Vec<Replayed>,
    /// Memory it holds, about.
    pub(crate) bytes: usize,
    /// Bytes of the log up to its end.
    pub(crate) done: u64,
}

/// The log as an open finds it.
pub(crate) struct Log<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    flushed: Lsn,
    paths: Vec<PathBuf>,
    bytes: u64,
}

/// What a log that was read to its end consists of.
pub(crate) struct Whole {
    files: Vec<WalFile>,
    last: Lsn,
    torn: Option<Torn>,
}

/// The end of the newest file that was never acknowledged.
struct Torn {
    path: PathBuf,
    offset: u64,
    bytes: u64,
}

impl<'a> Log<'a> {
    /// The log in `dir` of a store that has flushed up to `flushed`; what of it may not be on stable storage is put there.
    ///
    /// # Errors
    /// `Corruption` when there is no log and should be one.
    pub(crate) fn open(fs: &'a dyn Fs, dir: &'a Path, flushed: Lsn) -> Result<Self> {
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
        let mut bytes = 0;
        for path in &paths {
            bytes += fs.len(path)?;
        }
        Ok(Self { fs, dir, flushed, paths, bytes })
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands over all batches after what is flushed and the definitions that came with them, until `deliver` answers that
    /// it takes no more. What comes before damage is handed over before the damage is returned.
    ///
    /// A definition that came before a flushed batch is in a series file, or was dropped with its last one: it must not come
    /// back.
    ///
    /// # Errors
    /// `Corruption` for damage anywhere but in the unacknowledged end of the newest file, or for missing commits;
    /// `Unavailable` when `deliver` takes no more.
    pub(crate) fn read(&self, deliver: impl FnMut(Piece) -> bool) -> Result<Whole> {
        let mut reading = Reading { log: self, deliver, piece: Piece::default(), definitions: Vec::new(), done: 0 };
        let read = reading.read();
        reading.hand_over()?;
        read
    }

    /// Cuts the torn end, lists the files in `known` and returns the newest position.
    ///
    /// # Errors
    /// `Io` with the path.
    pub(crate) fn finish(&self, whole: Whole, known: &WalFiles) -> Result<Lsn> {
        if let Some(Torn { path, offset, bytes }) = whole.torn {
            tracing::warn!(
                path = %path.display(), offset, bytes, "cutting the torn, never acknowledged end of the log"
            );
            self.fs.truncate(&path, offset)?;
        }
        known.with(|known| *known = whole.files);
        Ok(whole.last)
    }
}

/// A log being read.
struct Reading<'a, D> {
    log: &'a Log<'a>,
    deliver: D,
    piece: Piece,
    /// Those that came before the batch to come.
    definitions: Vec<(SeriesId, LabelSet)>,
    /// Bytes of the files before the one being read.
    done: u64,
}

impl<D: FnMut(Piece) -> bool> Reading<'_, D> {
    fn read(&mut self) -> Result<Whole> {
        let (log, mut files, mut last, mut torn) = (self.log, Vec::new(), None, None);
        for (i, path) in log.paths.iter().enumerate() {
            let (file, lsn, end) = self.read_file(path, last, i + 1 == log.paths.len())?;
            files.push(file);
            (last, torn) = (Some(lsn), end);
        }
        self.add_definitions();
        let last = Lsn(last.unwrap_or(log.flushed.0));
        if last < log.flushed {
            let expected = format!("commits up to {}, which the manifest knows", log.flushed.0);
            let path = log.paths.last().map_or(log.dir.to_owned(), Clone::clone);
            let offset = files.last().map_or(0, |file: &WalFile| file.bytes);
            return Err(Error::Corruption { path, offset, expected, got: format!("commits up to {}", last.0) });
        }
        Ok(Whole { files, last, torn })
    }

    /// Reads the file after the commit `before`; returns it, its last commit and its torn end.
    fn read_file(&mut self, path: &Path, before: Option<u64>, newest: bool) -> Result<(WalFile, u64, Option<Torn>)> {
        let map = self.log.fs.map(path)?;
        let first_lsn = record::check_file_header(&map, path)?;
        self.refuse_gap(path, before, first_lsn)?;
        let mut file = WalFile::new(path.to_owned(), first_lsn);
        let (mut lsn, mut offset, mut released) = (first_lsn - 1, record::FILE_HEADER_LEN, 0);
        let torn = loop {
            let record = match record_at(&map, offset) {
                Ok(Some(record)) => record,
                Ok(None) => break None,
                Err(damage) => break Some(torn_end(path, &map, damage, lsn, newest)?),
            };
            if record.kind == Kind::Batch {
                if record.lsn != lsn + 1 {
                    let (expected, got) = (format!("commit {}", lsn + 1), format!("commit {}", record.lsn));
                    return Err(Damage { offset, expected, got }.into_error(path));
                }
                lsn = record.lsn;
                file.mark(lsn, offset as u64);
            }
            self.add(&record, path)?;
            offset = record.end();
            file.bytes = offset as u64;
            self.piece.done = self.done + offset as u64;
            let read_enough = offset - released >= READ_BYTES;
            if read_enough {
                map.release(released..offset);
                released = offset;
            }
            if read_enough || self.piece.bytes >= PIECE_BYTES {
                self.hand_over()?;
            }
        };
        self.done += map.len() as u64;
        Ok((file, lsn, torn))
    }

    fn refuse_gap(&self, path: &Path, before: Option<u64>, first_lsn: u64) -> Result<()> {
        let limit = self.log.flushed.0 + 1;
        let expected = match before {
            Some(before) if first_lsn != before + 1 => format!("first commit {}", before + 1),
            None if first_lsn > limit => format!("first commit at most {limit}"),
            _ => return Ok(()),
        };
        Err(Error::Corruption { path: path.to_owned(), offset: 12, expected, got: first_lsn.to_string() })
    }

    /// Decodes a record into the piece, unless it is flushed.
    fn add(&mut self, record: &Record<'_>, path: &Path) -> Result<()> {
        match record.kind {
            Kind::Definitions => self.definitions.extend(record::decode_definitions(record, path)?),
            Kind::Batch if record.lsn <= self.log.flushed.0 => self.definitions.clear(),
            Kind::Batch => {
                self.add_definitions();
                let batch = decode_batch(record.payload, path, record.payload_offset())?;
                self.piece.bytes += batch.bytes();
                self.piece.replayed.push(Replayed::Batch(Lsn(record.lsn), batch));
            }
        }
        Ok(())
    }

    fn add_definitions(&mut self) {
        if !self.definitions.is_empty() {
            let definitions = std::mem::take(&mut self.definitions);
            let labels: usize = definitions.iter().map(|(_, labels)| labels.as_bytes().len()).sum();
            self.piece.bytes += labels + definitions.len() * DEFINITION_BYTES;
            self.piece.replayed.push(Replayed::Definitions(definitions));
        }
    }

    fn hand_over(&mut self) -> Result<()> {
        let done = self.piece.done;
        let piece = std::mem::replace(&mut self.piece, Piece { done, ..Piece::default() });
        if (self.deliver)(piece) {
            Ok(())
        } else {
            Err(Error::Unavailable("the replay of the log was given up".into()))
        }
    }
}

/// The torn end of the newest file; damage anywhere else is an error.
fn torn_end(path: &Path, bytes: &[u8], damage: Damage, last_lsn: u64, newest: bool) -> Result<Torn> {
    if !newest || was_synced(bytes, damage.offset, last_lsn) {
        return Err(damage.into_error(path));
    }
    let offset = damage.offset as u64;
    Ok(Torn { path: path.to_owned(), offset, bytes: bytes.len() as u64 - offset })
}
