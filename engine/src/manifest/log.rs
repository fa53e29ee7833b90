//! The file `MANIFEST`.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{self, Reader};
use crate::fs::{File, Fs, stage, undo_append};

use super::contents::{Change, Contents};

const MAGIC: [u8; 8] = *b"FTELMAN\0";
/// What is written. Version 1 had no rollups.
const VERSION: u32 = 2;
const VERSION_MIN: u32 = 1;
/// Magic, version, partition width, checksum.
const FILE_HEADER_LEN: usize = 24;
/// Length, checksum, number.
const EDIT_HEADER_LEN: usize = 16;
/// The log is rewritten when it is this much longer than its first edit.
const GROWTH_BYTES_MAX: u64 = 1 << 20;

/// What a manifest file says.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Width of a time partition.
    pub(crate) width_ns: i64,
    /// Number of the newest edit.
    pub(crate) number: u64,
    pub(crate) contents: Contents,
}

/// The open manifest.
pub(crate) struct Manifest {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    /// `None` until the file is known to end with a whole edit.
    file: Option<Box<dyn File>>,
    number: u64,
    bytes: u64,
    bytes_rewritten: u64,
    partition_width_ns: i64,
    contents: Contents,
}

impl Manifest {
    /// Opens the manifest `path`, or starts one.
    ///
    /// # Errors
    /// `Invalid` when the store has another partition width, `Corruption` for damage other than a torn last edit.
    pub(crate) fn open(fs: Arc<dyn Fs>, path: &Path, partition_width_ns: i64) -> Result<Self> {
        let path = path.to_owned();
        let (number, contents) = match fs.exists(&path)? {
            true => {
                let stored = read(&*fs, &path)?;
                if stored.width_ns != partition_width_ns {
                    return Err(Error::Invalid(format!(
                        "the store was created with partitions of {} s and cannot be opened with {} s; \
                         set the partition width back",
                        stored.width_ns / 1_000_000_000,
                        partition_width_ns / 1_000_000_000
                    )));
                }
                (stored.number, stored.contents)
            }
            false => (0, Contents::default()),
        };
        Ok(Self { fs, path, file: None, number, bytes: 0, bytes_rewritten: 0, partition_width_ns, contents })
    }

    /// Makes the file ready for edits by rewriting it, which drops a torn edit and keeps later opens short. Left until an
    /// open has found nothing wrong with the store, so that a failed one leaves the evidence alone.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if self.file.is_none() { self.rewrite() } else { Ok(()) }
    }

    /// What the file says.
    pub(crate) fn stored(&self) -> Stored {
        Stored { width_ns: self.partition_width_ns, number: self.number, contents: self.contents.clone() }
    }

    /// Number of the newest edit.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// What the store consists of.
    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Commits `changes` as one edit and returns its number.
    ///
    /// # Durability
    /// The edit is on stable storage when this returns.
    ///
    /// # Errors
    /// `DiskFull`: nothing happened. Any other: whether the edit happened is unknown, and nothing may be committed after it.
    pub(crate) fn commit(&mut self, changes: &[Change]) -> Result<u64> {
        self.settle()?;
        let number = self.number + 1;
        let mut out = Vec::new();
        put_edit(&mut out, number, changes);
        if let Some(file) = &mut self.file {
            if let Err(error) = file.append(&out) {
                return Err(undo_append(&*self.fs, &self.path, self.bytes, out.len(), error));
            }
            file.sync()?;
        }
        self.number = number;
        self.bytes += out.len() as u64;
        changes.iter().for_each(|change| self.contents.apply(change, number));
        if self.bytes > self.bytes_rewritten + GROWTH_BYTES_MAX {
            match self.rewrite() {
                // The edit is there; a shorter file can wait for room.
                Err(Error::DiskFull { .. }) => {}
                rewritten => rewritten?,
            }
        }
        Ok(number)
    }

    /// # Errors
    /// `DiskFull`: the file is as before. Any other: it may be the old one or the new one.
    fn rewrite(&mut self) -> Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("")).to_owned();
        let mut gone = Vec::new();
        for name in &self.contents.removed {
            if !self.fs.exists(&dir.join(name))? {
                gone.push(name.clone());
            }
        }
        self.contents.removed.retain(|name| !gone.contains(name));
        let bytes = encode_file(self.partition_width_ns, self.number, &self.contents);
        let staged = stage(&*self.fs, &self.path, &bytes).map_err(|error| match error.is_disk_full() {
            true => {
                let free_bytes = self.fs.space(&dir).map_or(0, |space| space.free);
                Error::DiskFull { path: self.path.clone(), needed_bytes: bytes.len() as u64, free_bytes }
            }
            false => error,
        })?;
        self.fs.rename(&staged, &self.path)?;
        self.fs.sync_dir(&dir)?;
        self.file = Some(self.fs.open_append(&self.path)?);
        self.bytes = bytes.len() as u64;
        self.bytes_rewritten = self.bytes;
        Ok(())
    }
}

fn put_edit(out: &mut Vec<u8>, number: u64, changes: &[Change]) {
    let mut payload = Vec::new();
    format::put_varint(&mut payload, changes.len() as u64);
    changes.iter().for_each(|change| change.encode(&mut payload));
    let mut covered = [0; 12];
    covered[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    covered[4..].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c_append(format::crc32c(&covered), &payload);
    out.extend_from_slice(&covered[..4]);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&covered[4..]);
    out.extend_from_slice(&payload);
}

/// The bytes of a manifest of one edit that says everything.
pub(crate) fn encode_file(partition_width_ns: i64, number: u64, contents: &Contents) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&partition_width_ns.to_le_bytes());
    let crc = format::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    put_edit(&mut out, number, &contents.as_changes());
    out
}

/// Reads the manifest `path` without changing it.
///
/// # Errors
/// `Corruption` for damage other than a torn last edit.
pub(crate) fn read(fs: &dyn Fs, path: &Path) -> Result<Stored> {
    let bytes = fs.map(path)?;
    let width = read_header(&bytes, path)?;
    let (mut offset, mut number, mut contents) = (FILE_HEADER_LEN, None, Contents::default());
    while offset < bytes.len() {
        match edit_at(&bytes, offset, path) {
            Ok((found, payload, end)) => {
                if number.is_some_and(|number: u64| number.checked_add(1) != Some(found)) {
                    let expected = format!("edit {}", number.unwrap_or(0).saturating_add(1));
                    return Err(
                        Reader::new(&bytes[offset..], path, offset as u64).corrupt(expected, format!("edit {found}"))
                    );
                }
                number = Some(found);
                contents.apply_encoded(found, payload, path, (offset + EDIT_HEADER_LEN) as u64)?;
                offset = end;
            }
            // The first edit was published whole, and every other one was synced before the next was written: only the
            // last can be torn.
            Err(error) => {
                let torn = number.is_some() && (offset + 1..bytes.len()).all(|at| edit_at(&bytes, at, path).is_err());
                if !torn {
                    return Err(error);
                }
                tracing::warn!(path = %path.display(), offset, "dropping the torn, never acted upon last edit");
                break;
            }
        }
    }
    match number {
        Some(number) => Ok(Stored { width_ns: width, number, contents }),
        None => Err(Reader::new(&[], path, offset as u64).corrupt("a first edit", "the end of the file")),
    }
}

/// The width of a time partition, ns, by the header alone.
///
/// # Errors
/// `Io`, or `Corruption` of the header.
pub(crate) fn read_width(fs: &dyn Fs, path: &Path) -> Result<i64> {
    read_header(&fs.map(path)?, path)
}

fn read_header(bytes: &[u8], path: &Path) -> Result<i64> {
    let mut reader = Reader::new(bytes, path, 0);
    let at = reader.clone();
    let magic = reader.bytes(8)?;
    if magic != MAGIC {
        return Err(at.corrupt(format!("magic {MAGIC:02x?}"), format!("{magic:02x?}")));
    }
    let at = reader.clone();
    let version = reader.u32()?;
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(at.corrupt(format!("version {VERSION_MIN} to {VERSION}"), version.to_string()));
    }
    let width = reader.i64()?;
    let at = reader.clone();
    let (expected, got) = (format::crc32c(&bytes[..20]), reader.u32()?);
    if expected != got {
        return Err(at.corrupt(format!("checksum {expected:08x}"), format!("{got:08x}")));
    }
    Ok(width)
}

/// Number, payload and end of the edit at `offset`.
fn edit_at<'a>(bytes: &'a [u8], offset: usize, path: &'a Path) -> Result<(u64, &'a [u8], usize)> {
    let mut reader = Reader::new(&bytes[offset..], path, offset as u64);
    let at = reader.clone();
    let (len, crc, number) = (reader.u32()?, reader.u32()?, reader.u64()?);
    let payload = reader.bytes(len as usize)?;
    let covered = crc32c::crc32c_append(format::crc32c(&bytes[offset..offset + 4]), &bytes[offset + 8..offset + 16]);
    let expected = crc32c::crc32c_append(covered, payload);
    if expected != crc {
        return Err(at.corrupt(format!("checksum {expected:08x}"), format!("{crc:08x}")));
    }
    Ok((number, payload, offset + EDIT_HEADER_LEN + payload.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fs::FaultFs;
    use crate::types::Lsn;

    #[test]
    fn a_manifest_of_version_1_is_read_and_written_anew_before_the_first_edit() {
        let (fs, path) = (FaultFs::new(), Path::new("/store/MANIFEST"));
        fs.create_dir(Path::new("/store")).unwrap();
        let contents = Contents { flushed: Lsn(5), ..Contents::default() };
        let mut bytes = encode_file(60, 7, &contents);
        bytes[8..12].copy_from_slice(&VERSION_MIN.to_le_bytes());
        let crc = format::crc32c(&bytes[..20]);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        fs.create(path).unwrap().append(&bytes).unwrap();
        let mut manifest = Manifest::open(Arc::new(fs.clone()), path, 60).unwrap();
        assert_eq!((manifest.number(), manifest.contents().flushed), (7, Lsn(5)));
        // Older releases must not read on to what they do not know.
        manifest.commit(&[Change::NextFile(9)]).unwrap();
        assert_eq!(fs.map(path).unwrap()[8..12], VERSION.to_le_bytes());
        let stored = read(&fs, path).unwrap();
        assert_eq!((stored.number, stored.contents.flushed, stored.contents.next_file), (8, Lsn(5), 9));
    }
}
