//! Header, footer and trailer of a record segment.
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::format::{Reader, crc32c, put_bytes, put_varint, put_zigzag};
use crate::segment::SegmentMeta;
use crate::types::{Lsn, SeriesId};

use super::super::batch::{put_table, take_table};
use super::super::kind::{put_type, take_type};
use super::super::{COLUMNS_MAX, RecordTable};
use super::{GROUP_ROWS_MAX, RecordMeta};

const HEADER_MAGIC: &[u8; 8] = b"FTELREC\0";
const TRAILER_MAGIC: &[u8; 8] = b"CERLETOF";
const VERSION: u16 = 1;
/// Magic, version, level, 0, partition, checksum.
pub(super) const HEADER_BYTES: usize = 24;
/// Length and checksum of the footer, version, 0, magic.
const TRAILER_BYTES: usize = 20;

/// Bytes of one column of one group; none when all of it is NULL.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunk {
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) crc: u32,
}

/// Rows that are encoded together.
#[derive(Clone, Debug)]
pub(super) struct GroupMeta {
    pub(super) rows: u32,
    pub(super) first: SeriesId,
    pub(super) last: SeriesId,
    pub(super) min_ts: i64,
    pub(super) max_ts: i64,
    /// Series, ts, then the columns.
    pub(super) chunks: Vec<Chunk>,
}

impl GroupMeta {
    /// Where its first chunk is.
    pub(super) fn offset(&self) -> u64 {
        self.chunks.first().map_or(0, |chunk| chunk.offset)
    }

    /// Bytes of its chunks.
    pub(super) fn len(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.len)).sum()
    }
}

/// What stands between the groups and the trailer.
#[derive(Clone, Debug)]
pub(super) struct Footer {
    pub(super) table: RecordTable,
    pub(super) partition: i64,
    pub(super) level: u8,
    pub(super) min_lsn: Lsn,
    pub(super) max_lsn: Lsn,
    /// Distinct series.
    pub(super) series: u64,
    /// Without series and ts, by name.
    pub(super) columns: SchemaRef,
    pub(super) groups: Vec<GroupMeta>,
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
    pub(super) fn meta(&self, path: &Path, bytes: u64) -> RecordMeta {
        let groups = &self.groups;
        let segment = SegmentMeta {
            file: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            partition: self.partition,
            level: self.level,
            rows: groups.iter().map(|group| u64::from(group.rows)).sum(),
            series: self.series,
            blocks: groups.len() as u64,
            bytes,
            min_ts: groups.iter().map(|group| group.min_ts).min().unwrap_or(i64::MAX),
            max_ts: groups.iter().map(|group| group.max_ts).max().unwrap_or(i64::MIN),
            min_series: groups.first().map_or(SeriesId(0), |group| group.first),
            max_series: groups.last().map_or(SeriesId(0), |group| group.last),
            min_lsn: self.min_lsn,
            max_lsn: self.max_lsn,
            applied: self.max_lsn,
        };
        RecordMeta { table: self.table.clone(), segment }
    }

    /// Appends footer and trailer.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        put_table(out, &self.table);
        put_zigzag(out, self.partition);
        out.push(self.level);
        put_varint(out, self.min_lsn.0);
        put_varint(out, self.max_lsn.0);
        put_varint(out, self.series);
        put_varint(out, self.columns.fields().len() as u64);
        for field in self.columns.fields() {
            put_bytes(out, field.name().as_bytes());
            put_type(out, field.data_type())?;
        }
        put_varint(out, self.groups.len() as u64);
        for group in &self.groups {
            put_varint(out, group.rows.into());
            put_varint(out, group.first.0);
            put_varint(out, group.last.0 - group.first.0);
            put_zigzag(out, group.min_ts);
            put_varint(out, group.max_ts.wrapping_sub(group.min_ts) as u64);
            for chunk in &group.chunks {
                put_varint(out, chunk.len.into());
                if chunk.len > 0 {
                    out.extend_from_slice(&chunk.crc.to_le_bytes());
                }
            }
        }
        let crc = crc32c(&out[start..]);
        let len = u32::try_from(out.len() - start)
            .map_err(|_| Error::Limit("a record segment's footer would pass 4 GiB; write smaller segments".into()))?;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(TRAILER_MAGIC);
        Ok(())
    }

    /// Reads header, trailer and footer of a whole file.
    pub(super) fn decode(file: &[u8], path: &Path) -> Result<Self> {
        let footer = Self::decode_tail(file, path)?;
        let (partition, level) = decode_header(&file[..HEADER_BYTES], path)?;
        if (footer.partition, footer.level) != (partition, level) {
            let expected = format!("partition {} and level {}, as in the footer", footer.partition, footer.level);
            return Err(Reader::new(file, path, 0).corrupt(expected, format!("{partition} and {level}")));
        }
        Ok(footer)
    }

    /// Reads trailer and footer of a whole file, whose header may be damaged.
    pub(super) fn decode_tail(file: &[u8], path: &Path) -> Result<Self> {
        let whole = Reader::new(file, path, 0);
        let bytes_min = HEADER_BYTES + TRAILER_BYTES;
        if file.len() < bytes_min {
            return Err(whole.corrupt(format!("at least {bytes_min} bytes"), file.len().to_string()));
        }
        let trailer_at = file.len() - TRAILER_BYTES;
        let mut trailer = Reader::new(&file[trailer_at..], path, trailer_at as u64);
        let start = trailer.clone();
        let (len, crc) = (trailer.u32()? as usize, trailer.u32()?);
        expect(&mut trailer, &VERSION.to_le_bytes(), "version 1; read newer files with a newer release")?;
        expect(&mut trailer, &[0, 0], "two zero bytes")?;
        expect(&mut trailer, TRAILER_MAGIC, "the trailer's magic")?;
        if len > trailer_at - HEADER_BYTES {
            let expected = format!("a footer of at most {} bytes", trailer_at - HEADER_BYTES);
            return Err(start.corrupt(expected, len.to_string()));
        }
        let footer_at = trailer_at - len;
        let mut input = Reader::new(&file[footer_at..trailer_at], path, footer_at as u64);
        let got = crc32c(&file[footer_at..trailer_at]);
        if got != crc {
            return Err(input.corrupt(format!("footer crc {crc:08x}"), format!("{got:08x}")));
        }
        let footer = Self::decode_body(&mut input, footer_at as u64)?;
        input.finish()?;
        Ok(footer)
    }

    fn decode_body(input: &mut Reader<'_>, footer_at: u64) -> Result<Self> {
        let table = take_table(input)?;
        let partition = input.zigzag()?;
        let level = input.u8()?;
        let (min_lsn, max_lsn) = (Lsn(input.varint()?), Lsn(input.varint()?));
        let series = input.varint()?;
        let at = input.clone();
        let count = input.count(2)?;
        let mut fields = Vec::with_capacity(count.min(COLUMNS_MAX));
        for _ in 0..count {
            let name = input.string()?.to_owned();
            fields.push(Field::new(name, take_type(input)?, true));
        }
        if count > COLUMNS_MAX || !fields.is_sorted_by(|a, b| a.name() < b.name()) {
            return Err(at.corrupt(format!("at most {COLUMNS_MAX} columns by name"), format!("{count} columns")));
        }
        let groups = input.count(7)?;
        let mut this = Self {
            table,
            partition,
            level,
            min_lsn,
            max_lsn,
            series,
            columns: Arc::new(Schema::new(fields)),
            groups: Vec::with_capacity(groups),
        };
        let mut offset = HEADER_BYTES as u64;
        for _ in 0..groups {
            this.groups.push(decode_group(input, count + 2, &mut offset)?);
        }
        if offset != footer_at || this.groups.is_empty() {
            let expected = format!("groups up to the footer at {footer_at}");
            return Err(input.corrupt(expected, format!("{groups} up to {offset}")));
        }
        Ok(this)
    }
}

fn decode_group(input: &mut Reader<'_>, chunks: usize, offset: &mut u64) -> Result<GroupMeta> {
    let at = input.clone();
    let rows = input.varint()?;
    if rows == 0 || rows > GROUP_ROWS_MAX as u64 {
        return Err(at.corrupt(format!("1 to {GROUP_ROWS_MAX} rows"), rows.to_string()));
    }
    let first = input.varint()?;
    let last = input.varint()?;
    let Some(last) = first.checked_add(last) else {
        return Err(at.corrupt("series of 64 bits", "a larger one"));
    };
    let min_ts = input.zigzag()?;
    let max_ts = min_ts.wrapping_add(input.varint()? as i64);
    let mut group = GroupMeta {
        rows: rows as u32,
        first: SeriesId(first),
        last: SeriesId(last),
        min_ts,
        max_ts,
        chunks: Vec::with_capacity(chunks),
    };
    for _ in 0..chunks {
        let at = input.clone();
        let len = u32::try_from(input.varint()?).map_err(|_| at.corrupt("a length of 32 bits", "a larger one"))?;
        let crc = if len > 0 { input.u32()? } else { 0 };
        group.chunks.push(Chunk { offset: *offset, len, crc });
        *offset += u64::from(len);
    }
    Ok(group)
}

fn decode_header(header: &[u8], path: &Path) -> Result<(i64, u8)> {
    let mut input = Reader::new(header, path, 0);
    expect(&mut input, HEADER_MAGIC, "a record segment's magic")?;
    expect(&mut input, &VERSION.to_le_bytes(), "version 1; read newer files with a newer release")?;
    let level = input.u8()?;
    input.u8()?;
    let partition = input.i64()?;
    let (at, crc) = (input.clone(), input.u32()?);
    let got = crc32c(&header[..20]);
    if got == crc {
        Ok((partition, level))
    } else {
        Err(at.corrupt(format!("header crc {got:08x}"), format!("{crc:08x}")))
    }
}

fn expect(input: &mut Reader<'_>, expected: &[u8], what: &str) -> Result<()> {
    let at = input.clone();
    let got = input.bytes(expected.len())?;
    if got == expected { Ok(()) } else { Err(at.corrupt(what, format!("{got:02x?}"))) }
}
