//! The list of a backup: which files, how long, with which checksums.
use std::path::{Component, Path};

use crate::error::Result;
use crate::format::{self, Reader, envelope};
use crate::fs::Fs;
use crate::types::Lsn;

use super::Backup;

const MAGIC: [u8; 8] = *b"FTELBAK\0";
const VERSION: u32 = 1;

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Path inside the store, with `/` between its parts.
    pub(super) name: String,
    pub(super) len: u64,
    /// CRC32C of the file.
    pub(super) crc: u32,
}

impl Entry {
    /// Its name among the files of a destination: the same for the same contents.
    pub(super) fn key(&self) -> String {
        format!("{:08x}-{}-{}", self.crc, self.len, self.name.replace('/', "_"))
    }
}

/// What a file `*.backup` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) created_ns: i64,
    pub(super) lsn: Lsn,
    pub(super) entries: Vec<Entry>,
}

impl List {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut body = self.created_ns.to_le_bytes().to_vec();
        body.extend_from_slice(&self.lsn.0.to_le_bytes());
        format::put_varint(&mut body, self.entries.len() as u64);
        for entry in &self.entries {
            format::put_bytes(&mut body, entry.name.as_bytes());
            format::put_varint(&mut body, entry.len);
            body.extend_from_slice(&entry.crc.to_le_bytes());
        }
        envelope::seal(MAGIC, VERSION, &body)
    }

    /// Reads the list `path`, whose names must stay inside a store.
    pub(super) fn read(fs: &dyn Fs, path: &Path) -> Result<Self> {
        let body = envelope::open(MAGIC, VERSION, &fs.map(path)?, path)?;
        let mut reader = Reader::new(&body, path, 0);
        let (created_ns, lsn) = (reader.i64()?, Lsn(reader.u64()?));
        let count = reader.count(6)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let at = reader.clone();
            let name = reader.string()?;
            let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
            if name.is_empty() || !inside {
                return Err(at.corrupt("a path inside a store", format!("{name:?}")));
            }
            entries.push(Entry { name: name.to_owned(), len: reader.varint()?, crc: reader.u32()? });
        }
        reader.finish()?;
        Ok(Self { created_ns, lsn, entries })
    }

    pub(super) fn describe(&self, name: &str) -> Backup {
        Backup {
            name: name.to_owned(),
            created_ns: self.created_ns,
            lsn: self.lsn,
            files: self.entries.len() as u64,
            bytes: self.entries.iter().map(|entry| entry.len).sum(),
        }
    }
}
