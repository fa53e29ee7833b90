//! Records and file headers: the bytes of the log.
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::{self, Reader};
use crate::types::{LabelSet, SeriesId};

/// First bytes of every WAL file.
pub(crate) const MAGIC: [u8; 8] = *b"FTELWAL\0";
/// Version of the format this code writes, and the only one it reads. Version 1 had no records in its batches.
pub(crate) const VERSION: u32 = 2;
/// Magic, version, first position, checksum.
pub(crate) const FILE_HEADER_LEN: usize = 24;
/// Length, checksum, kind, position.
pub(crate) const RECORD_HEADER_LEN: usize = 17;
/// A payload longer than this is never written, and never believed when read.
pub(crate) const PAYLOAD_LEN_MAX: usize = 64 << 20;
/// Flag in the kind byte: everything before this record in its file was on stable storage when it was written.
const SYNCED_BEFORE: u8 = 0x80;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// New series: their ids and labels.
    Definitions = 1,
    /// A batch of samples and keyed state.
    Batch = 2,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Definitions),
            2 => Some(Self::Batch),
            _ => None,
        }
    }
}

/// A record whose checksum has been verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    /// Of a batch its position; of definitions the position of the batch that follows.
    pub(crate) lsn: u64,
    pub(crate) payload: &'a [u8],
    /// Where the record starts in its file.
    pub(crate) offset: usize,
    synced_before: bool,
}

impl Record<'_> {
    /// Where the next record starts.
    pub(crate) fn end(&self) -> usize {
        self.offset + RECORD_HEADER_LEN + self.payload.len()
    }
    /// Where the payload starts.
    pub(crate) fn payload_offset(&self) -> u64 {
        (self.offset + RECORD_HEADER_LEN) as u64
    }
}

/// Why the bytes at `offset` are not a record.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    pub(crate) offset: usize,
    pub(crate) expected: String,
    pub(crate) got: String,
}

impl Damage {
    pub(crate) fn into_error(self, path: &Path) -> Error {
        Error::Corruption { path: path.to_owned(), offset: self.offset as u64, expected: self.expected, got: self.got }
    }
}

/// The header of a file whose first batch will be `first_lsn`.
pub(crate) fn file_header(first_lsn: u64) -> [u8; FILE_HEADER_LEN] {
    let mut header = [0; FILE_HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..20].copy_from_slice(&first_lsn.to_le_bytes());
    let crc = format::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Checks the header of the file `path` and returns its first position.
///
/// # Errors
/// `Invalid` for a file of another version: nothing is wrong with it. `Corruption` for everything else.
pub(crate) fn check_file_header(bytes: &[u8], path: &Path) -> Result<u64> {
    let mut reader = Reader::new(bytes, path, 0);
    let start = reader.clone();
    let magic = reader.bytes(8)?;
    if magic != MAGIC {
        return Err(start.corrupt(format!("magic {MAGIC:02x?}"), format!("{magic:02x?}")));
    }
    let version = reader.u32()?;
    let first_lsn = reader.u64()?;
    let at = reader.clone();
    let (expected, got) = (format::crc32c(&bytes[..20]), reader.u32()?);
    if expected != got {
        return Err(at.corrupt(format!("checksum {expected:08x}"), format!("{got:08x}")));
    }
    if version != VERSION {
        return Err(Error::Invalid(format!(
            "{}: a log of version {version}, and this build reads version {VERSION}: open the store with the build that wrote \
             it, export its data and import it here",
            path.display()
        )));
    }
    if first_lsn == 0 {
        return Err(at.corrupt("a first commit of 1 or more", "0"));
    }
    Ok(first_lsn)
}

/// Appends a record. Its checksum is made here, header first: to join one that the writer of the payload made takes longer than
/// to go through 100 KiB.
pub(crate) fn put_record(out: &mut Vec<u8>, kind: Kind, synced_before: bool, lsn: u64, payload: &[u8]) {
    let kind = kind as u8 | if synced_before { SYNCED_BEFORE } else { 0 };
    let len = (payload.len() as u32).to_le_bytes();
    let mut covered = [0; 13];
    covered[..4].copy_from_slice(&len);
    covered[4] = kind;
    covered[5..].copy_from_slice(&lsn.to_le_bytes());
    let crc = crc32c::crc32c_append(format::crc32c(&covered), payload);
    out.extend_from_slice(&len);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&covered[4..]);
    out.extend_from_slice(payload);
}

/// The record at `offset` of a file's bytes; `None` at their end.
pub(crate) fn record_at(bytes: &[u8], offset: usize) -> Result<Option<Record<'_>>, Damage> {
    let damage = |expected: String, got: String| Damage { offset, expected, got };
    let rest = &bytes[offset..];
    if rest.is_empty() {
        return Ok(None);
    }
    let Some((header, tail)) = rest.split_first_chunk::<RECORD_HEADER_LEN>() else {
        return Err(damage(format!("a record header of {RECORD_HEADER_LEN} bytes"), format!("{} bytes", rest.len())));
    };
    let len = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let crc = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    let Some(kind) = Kind::from_byte(header[8] & !SYNCED_BEFORE) else {
        return Err(damage("a known record kind".into(), format!("{:#04x}", header[8])));
    };
    let limit = tail.len().min(PAYLOAD_LEN_MAX);
    if len > limit {
        return Err(damage(format!("a payload of at most {limit} bytes"), format!("{len} bytes")));
    }
    let payload = &tail[..len];
    let covered = crc32c::crc32c_append(crc32c::crc32c(&header[..4]), &header[8..]);
    let expected = crc32c::crc32c_append(covered, payload);
    if expected != crc {
        return Err(damage(format!("checksum {expected:08x}"), format!("{crc:08x}")));
    }
    let mut lsn = [0; 8];
    lsn.copy_from_slice(&header[9..]);
    let synced_before = header[8] & SYNCED_BEFORE != 0;
    Ok(Some(Record { kind, lsn: u64::from_le_bytes(lsn), payload, offset, synced_before }))
}

/// How many of a file's first bytes its records say to have been synced; no checksum is looked at.
pub(crate) fn proven_len(bytes: &[u8]) -> usize {
    let (mut proven, mut at) = (0, FILE_HEADER_LEN);
    while let Some(header) = bytes.get(at..at + RECORD_HEADER_LEN) {
        if header[8] & SYNCED_BEFORE != 0 {
            proven = at;
        }
        at += RECORD_HEADER_LEN + u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    }
    proven
}

/// Whether some record after the damage at `offset` proves that the damaged bytes had been on stable storage: then they
/// are lost data, not the torn end of a write that nobody was told about.
pub(crate) fn was_synced(bytes: &[u8], offset: usize, last_lsn: u64) -> bool {
    let lsn_max = last_lsn.saturating_add((bytes.len() / RECORD_HEADER_LEN) as u64);
    (offset + 1..bytes.len().saturating_sub(RECORD_HEADER_LEN - 1)).any(|at| {
        // Cheap refusals first: nearly every byte is not the start of a record.
        let kind = bytes[at + 8];
        if kind & SYNCED_BEFORE == 0 || Kind::from_byte(kind & !SYNCED_BEFORE).is_none() {
            return false;
        }
        let lsn = bytes[at + 9..at + 17].iter().rev().fold(0u64, |lsn, &byte| lsn << 8 | u64::from(byte));
        lsn > last_lsn && lsn <= lsn_max && matches!(record_at(bytes, at), Ok(Some(record)) if record.synced_before)
    })
}

/// The payloads (each within about 1 MiB) that define `series`.
pub(crate) fn encode_definitions(series: &[(SeriesId, LabelSet)]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    let mut rest = series;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|(_, labels)| {
            bytes += labels.as_bytes().len() + 20;
            bytes <= 1 << 20
        });
        let (chunk, tail) = rest.split_at(fits.count().max(1));
        let mut payload = Vec::with_capacity(bytes.min(2 << 20));
        format::put_varint(&mut payload, chunk.len() as u64);
        for (id, labels) in chunk {
            format::put_varint(&mut payload, id.0);
            format::put_bytes(&mut payload, labels.as_bytes());
        }
        payloads.push(payload);
        rest = tail;
    }
    payloads
}

/// Inverse of [`encode_definitions`] for one payload.
pub(crate) fn decode_definitions(record: &Record<'_>, path: &Path) -> Result<Vec<(SeriesId, LabelSet)>> {
    let mut reader = Reader::new(record.payload, path, record.payload_offset());
    let count = reader.count(2)?;
    let mut series = Vec::with_capacity(count);
    for _ in 0..count {
        let id = SeriesId(reader.varint()?);
        let labels = reader.prefixed()?;
        let at = reader.offset() - labels.len() as u64;
        series.push((id, LabelSet::from_stored(labels, path, at)?));
    }
    reader.finish()?;
    Ok(series)
}
