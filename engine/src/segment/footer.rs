//! Header, footer and trailer of a segment file.
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::{Reader, crc32c, put_varint, put_zigzag};
use crate::types::{Lsn, SeriesId};

use super::SegmentMeta;
use super::zone_map::{ENCODED_BYTES_MIN, ZoneMap};

const HEADER_MAGIC: &[u8; 8] = b"FORETSEG";
const TRAILER_MAGIC: &[u8; 8] = b"GESTEROF";
const VERSION: u16 = 1;

/// `magic[8] version:u16 level:u8 0:u8 partition:i64 crc:u32`
pub(super) const HEADER_BYTES: usize = 24;
/// `footer length:u32 crc:u32 version:u16 0:u16 magic[8]`
pub(crate) const TRAILER_BYTES: usize = 20;

/// The distinct series of a segment, as runs of consecutive ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeriesRuns {
    firsts: Vec<u64>,
    lens: Vec<u32>,
    count: u64,
}

impl SeriesRuns {
    /// Number of series.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Adds `id`, which is not below the last one added; adding that one again changes nothing.
    pub(super) fn push(&mut self, id: SeriesId) {
        if let (Some(&first), Some(len)) = (self.firsts.last(), self.lens.last_mut()) {
            let last = first + u64::from(*len) - 1;
            if id.0 == last {
                return;
            }
            if id.0 - 1 == last && *len < u32::MAX {
                *len += 1;
                self.count += 1;
                return;
            }
        }
        self.firsts.push(id.0);
        self.lens.push(1);
        self.count += 1;
    }

    /// Index of the first of `ids` (sorted) that is here, or `ids.len()`.
    pub(crate) fn first_contained(&self, ids: &[SeriesId]) -> usize {
        let mut at = 0;
        while at < ids.len() {
            let id = ids[at].0;
            let run = self.firsts.partition_point(|&first| first <= id);
            if run > 0 && id - self.firsts[run - 1] < u64::from(self.lens[run - 1]) {
                return at;
            }
            let Some(&next) = self.firsts.get(run) else { return ids.len() };
            at += ids[at..].partition_point(|id| id.0 < next);
        }
        at
    }

    /// All ids, increasing.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SeriesId> {
        self.firsts
            .iter()
            .zip(&self.lens)
            .flat_map(|(&first, &len)| (0..u64::from(len)).map(move |i| SeriesId(first + i)))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.firsts.len() as u64);
        let mut end = 0;
        for (&first, &len) in self.firsts.iter().zip(&self.lens) {
            put_varint(out, first - end);
            put_varint(out, u64::from(len) - 1);
            end = first + (u64::from(len) - 1);
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self> {
        let runs = input.count(2)?;
        let mut this = Self { firsts: Vec::with_capacity(runs), lens: Vec::with_capacity(runs), count: 0 };
        let mut end = 0u64;
        for _ in 0..runs {
            let start = input.clone();
            let first = end.checked_add(input.varint()?);
            let more = input.varint()?;
            let last = first.and_then(|first| first.checked_add(more));
            let (Some(first), Some(last), Ok(len)) = (first, last, u32::try_from(more.saturating_add(1))) else {
                return Err(start.corrupt("a run of series", "one beyond the limits"));
            };
            this.firsts.push(first);
            this.lens.push(len);
            this.count += u64::from(len);
            end = last;
        }
        Ok(this)
    }
}

/// What stands between the blocks and the trailer.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) partition: i64,
    pub(super) level: u8,
    pub(super) min_lsn: Lsn,
    pub(super) max_lsn: Lsn,
    pub(super) blocks: Vec<ZoneMap>,
    pub(super) series: SeriesRuns,
}

/// The first bytes of a file.
pub(super) fn header(partition: i64, level: u8) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(HEADER_MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[10] = level;
    header[12..20].copy_from_slice(&partition.to_le_bytes());
    let crc = crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

impl Footer {
    /// What the manifest keeps of the file `path` of `bytes` bytes.
    pub(super) fn meta(&self, path: &Path, bytes: u64) -> SegmentMeta {
        let blocks = &self.blocks;
        SegmentMeta {
            file: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            partition: self.partition,
            level: self.level,
            rows: blocks.iter().map(|b| u64::from(b.rows)).sum(),
            series: self.series.count(),
            blocks: blocks.len() as u64,
            bytes,
            min_ts: blocks.iter().map(|b| b.min_ts).min().unwrap_or(i64::MAX),
            max_ts: blocks.iter().map(|b| b.max_ts).max().unwrap_or(i64::MIN),
            min_series: blocks.first().map_or(SeriesId(0), |b| b.first),
            max_series: blocks.last().map_or(SeriesId(0), |b| b.last),
            min_lsn: self.min_lsn,
            max_lsn: self.max_lsn,
        }
    }

    /// Appends footer and trailer.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        put_zigzag(out, self.partition);
        out.push(self.level);
        put_varint(out, self.min_lsn.0);
        put_varint(out, self.max_lsn.0);
        put_varint(out, self.blocks.len() as u64);
        let mut before = None;
        for block in &self.blocks {
            block.encode(before, out);
            before = Some(block);
        }
        self.series.encode(out);
        let crc = crc32c(&out[start..]);
        let len = u32::try_from(out.len() - start)
            .map_err(|_| Error::Limit("a segment's footer would pass 4 GiB; write smaller segments".into()))?;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(TRAILER_MAGIC);
        Ok(())
    }

    /// Reads header, trailer and footer of a whole file.
    pub(super) fn decode(file: &[u8], path: &Path) -> Result<Self> {
        let whole = Reader::new(file, path, 0);
        if file.len() < HEADER_BYTES + TRAILER_BYTES {
            return Err(
                whole.corrupt(format!("at least {} bytes", HEADER_BYTES + TRAILER_BYTES), file.len().to_string())
            );
        }
        let (partition, level) = Self::decode_header(&file[..HEADER_BYTES], path)?;
        let trailer_at = file.len() - TRAILER_BYTES;
        let mut trailer = Reader::new(&file[trailer_at..], path, trailer_at as u64);
        let start = trailer.clone();
        let (len, crc) = (trailer.u32()? as usize, trailer.u32()?);
        check_version(&mut trailer)?;
        expect_bytes(&mut trailer, &[0, 0], "two zero bytes")?;
        expect_bytes(&mut trailer, TRAILER_MAGIC, "the trailer's magic")?;
        if len > trailer_at - HEADER_BYTES {
            return Err(
                start.corrupt(format!("a footer of at most {} bytes", trailer_at - HEADER_BYTES), len.to_string())
            );
        }
        let footer_at = trailer_at - len;
        let mut input = Reader::new(&file[footer_at..trailer_at], path, footer_at as u64);
        let got = crc32c(&file[footer_at..trailer_at]);
        if got != crc {
            return Err(input.corrupt(format!("footer crc {crc:08x}"), format!("{got:08x}")));
        }
        let footer = Self::decode_body(&mut input, footer_at as u64)?;
        if (footer.partition, footer.level) != (partition, level) {
            return Err(input.corrupt(
                format!("partition {partition} and level {level}, as in the header"),
                format!("{} and {}", footer.partition, footer.level),
            ));
        }
        input.finish()?;
        Ok(footer)
    }

    fn decode_header(header: &[u8], path: &Path) -> Result<(i64, u8)> {
        let mut input = Reader::new(header, path, 0);
        expect_bytes(&mut input, HEADER_MAGIC, "a segment's magic")?;
        check_version(&mut input)?;
        let level = input.u8()?;
        input.u8()?;
        let partition = input.i64()?;
        let (at, crc) = (input.clone(), input.u32()?);
        let got = crc32c(&header[..20]);
        if got != crc {
            return Err(at.corrupt(format!("header crc {got:08x}"), format!("{crc:08x}")));
        }
        Ok((partition, level))
    }

    fn decode_body(input: &mut Reader<'_>, footer_at: u64) -> Result<Self> {
        let partition = input.zigzag()?;
        let level = input.u8()?;
        let (min_lsn, max_lsn) = (Lsn(input.varint()?), Lsn(input.varint()?));
        let count = input.count(ENCODED_BYTES_MIN)?;
        let mut blocks: Vec<ZoneMap> = Vec::with_capacity(count);
        let mut offset = HEADER_BYTES as u64;
        for _ in 0..count {
            let block = ZoneMap::decode(input, blocks.last(), offset)?;
            offset += u64::from(block.len);
            blocks.push(block);
        }
        if offset != footer_at || blocks.is_empty() {
            return Err(
                input.corrupt(format!("blocks up to the footer at {footer_at}"), format!("{count} up to {offset}"))
            );
        }
        Ok(Self { partition, level, min_lsn, max_lsn, blocks, series: SeriesRuns::decode(input)? })
    }
}

fn expect_bytes(input: &mut Reader<'_>, expected: &[u8], what: &str) -> Result<()> {
    let at = input.clone();
    let got = input.bytes(expected.len())?;
    if got == expected { Ok(()) } else { Err(at.corrupt(what, format!("{got:02x?}"))) }
}

fn check_version(input: &mut Reader<'_>) -> Result<()> {
    let at = input.clone();
    let version = u16::from_le_bytes([input.u8()?, input.u8()?]);
    if version == VERSION {
        return Ok(());
    }
    Err(at.corrupt(format!("version {VERSION}; read newer files with a newer release"), version.to_string()))
}
