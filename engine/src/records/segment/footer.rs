//! Header, footer and trailer of a record segment.
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::error::Result;
use crate::format::frame::{Frame, HEADER_BYTES};
use crate::format::{Reader, put_bytes, put_varint, put_zigzag};
use crate::segment::SegmentMeta;
use crate::types::{Lsn, SeriesId};

use super::super::batch::{put_table, take_table};
use super::super::kind::{put_type, take_type};
use super::super::{COLUMNS_MAX, RecordTable};
use super::zone::Zone;
use super::{GROUP_ROWS_MAX, KEYS, RecordMeta};

pub(super) const FRAME: Frame =
    Frame { what: "a record segment", header_magic: *b"FTELREC\0", trailer_magic: *b"CERLETOF", version: 2 };

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
    /// Of each column.
    pub(super) zones: Vec<Zone>,
}

impl GroupMeta {
    /// Where its first chunk is.
    pub(super) fn offset(&self) -> u64 {
        self.chunks.first().map_or(0, |chunk| chunk.offset)
    }

    /// Bytes of its chunks and filters.
    pub(super) fn len(&self) -> u64 {
        let filters = self.zones.iter().filter_map(Zone::filter);
        self.chunks.iter().chain(filters).map(|chunk| u64::from(chunk.len)).sum()
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
            for (number, chunk) in group.chunks.iter().enumerate() {
                put_varint(out, chunk.len.into());
                if chunk.len == 0 {
                    continue;
                }
                out.extend_from_slice(&chunk.crc.to_le_bytes());
                if let Some(column) = number.checked_sub(KEYS) {
                    group.zones[column].encode(out);
                }
            }
        }
        FRAME.put_trailer(out, start)
    }

    /// Reads header, trailer and footer of a whole file.
    pub(super) fn decode(file: &[u8], path: &Path) -> Result<Self> {
        let footer = Self::decode_tail(file, path)?;
        FRAME.check_header(file, path, (footer.partition, footer.level))?;
        Ok(footer)
    }

    /// Reads trailer and footer of a whole file, whose header may be damaged.
    pub(super) fn decode_tail(file: &[u8], path: &Path) -> Result<Self> {
        FRAME.decode_footer(file, path, Self::decode_body)
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
            this.groups.push(decode_group(input, count + KEYS, &mut offset)?);
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
        zones: Vec::with_capacity(chunks - KEYS),
    };
    for number in 0..chunks {
        let at = input.clone();
        let len = u32::try_from(input.varint()?).map_err(|_| at.corrupt("a length of 32 bits", "a larger one"))?;
        let crc = if len > 0 { input.u32()? } else { 0 };
        group.chunks.push(Chunk { offset: *offset, len, crc });
        *offset += u64::from(len);
        if number >= KEYS {
            let zone = if len > 0 { Zone::decode(input, *offset)? } else { Zone::None };
            *offset += zone.filter().map_or(0, |filter| u64::from(filter.len));
            group.zones.push(zone);
        }
    }
    Ok(group)
}
