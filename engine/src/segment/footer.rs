//! Header, footer and trailer of a segment file.
use std::path::Path;

use crate::codec::ROWS_MAX;
use crate::error::Result;
use crate::format::frame::{Frame, HEADER_BYTES};
use crate::format::{Reader, put_varint, put_zigzag};
use crate::types::{Lsn, SeriesId};

use super::SegmentMeta;
use super::zone_map::{ENCODED_BYTES_MIN, ZoneMap};

pub(super) const FRAME: Frame =
    Frame { what: "a segment", header_magic: *b"FORETSEG", trailer_magic: *b"GESTEROF", version: 2 };

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

    /// First and last id of each run of consecutive ids, increasing.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (SeriesId, SeriesId)> {
        self.firsts.iter().zip(&self.lens).map(|(&first, &len)| (SeriesId(first), SeriesId(first + u64::from(len) - 1)))
    }

    /// All ids, increasing.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SeriesId> {
        self.iter_from(SeriesId(0))
    }

    /// The ids from `id` on, increasing.
    pub(crate) fn iter_from(&self, id: SeriesId) -> impl Iterator<Item = SeriesId> {
        let run = self.firsts.partition_point(|&first| first <= id.0).saturating_sub(1);
        let runs = self.firsts[run..].iter().zip(&self.lens[run..]);
        runs.flat_map(move |(&first, &len)| {
            (id.0.saturating_sub(first)..u64::from(len)).map(move |i| SeriesId(first + i))
        })
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
            let step = input.varint()?;
            let first = end.checked_add(step).filter(|_| step > 0 || this.firsts.is_empty());
            let more = input.varint()?;
            let last = first.and_then(|first| first.checked_add(more));
            let (Some(first), Some(last), Ok(len)) = (first, last, u32::try_from(more.saturating_add(1))) else {
                return Err(start.corrupt("runs of series in order", "one beyond the limits"));
            };
            this.firsts.push(first);
            this.lens.push(len);
            this.count = this.count.saturating_add(u64::from(len));
            end = last;
        }
        Ok(this)
    }
}

/// Where a page of timelines is, and how to check it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Offset in the file.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) len: u32,
    /// CRC32C of those bytes.
    pub(super) crc: u32,
    /// Number of its first timeline.
    pub(super) first: u32,
    /// Timelines in it, at least 1.
    pub(super) timelines: u32,
    /// Blocks before it in the file.
    pub(super) after: u32,
}

/// Bytes of the shortest encoded page entry.
const PAGE_BYTES_MIN: usize = 1 + 1 + 4 + 1;

impl Page {
    fn encode(&self, before: Option<&Self>, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.after - before.map_or(0, |page| page.after)));
        put_varint(out, u64::from(self.len));
        out.extend_from_slice(&self.crc.to_le_bytes());
        put_varint(out, u64::from(self.timelines) - 1);
    }

    /// Reads the entry that follows `before`'s; its offset is not known yet.
    fn decode(input: &mut Reader<'_>, before: Option<&Self>) -> Result<Self> {
        let start = input.clone();
        let after = u64::from(before.map_or(0, |page| page.after)).saturating_add(input.varint()?);
        let (len, crc, more) = (input.varint()?, input.u32()?, input.varint()?);
        let first = before.map_or(0, |page| page.first + page.timelines);
        let (Ok(after), Ok(len)) = (u32::try_from(after), u32::try_from(len)) else {
            return Err(start.corrupt("a page of timelines", "numbers out of bounds"));
        };
        if more >= ROWS_MAX as u64 || first > u32::MAX - ROWS_MAX as u32 {
            return Err(start.corrupt(format!("1 to {ROWS_MAX} timelines"), format!("{more} after number {first}")));
        }
        Ok(Self { offset: 0, len, crc, first, timelines: more as u32 + 1, after })
    }
}

/// Bytes of a segment by what they are for; together they are the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ColumnBytes {
    /// Which series there are.
    pub(crate) series: u64,
    /// Timestamps: pages of timelines, and in the blocks which slices of them.
    pub(crate) ts: u64,
    /// Values.
    pub(crate) values: u64,
    /// The rest: header, zone maps, places of pages, trailer.
    pub(crate) rest: u64,
}

/// What stands between the blocks and the trailer.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) partition: i64,
    pub(super) level: u8,
    pub(super) min_lsn: Lsn,
    pub(super) max_lsn: Lsn,
    /// Bytes of all blocks that say which slices of timelines.
    pub(super) span_bytes: u64,
    pub(super) pages: Vec<Page>,
    pub(super) blocks: Vec<ZoneMap>,
    pub(super) series: SeriesRuns,
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
            applied: self.max_lsn,
        }
    }

    /// What the bytes of the file, `bytes` long, are for.
    pub(super) fn columns(&self, bytes: u64) -> ColumnBytes {
        let pages: u64 = self.pages.iter().map(|page| u64::from(page.len)).sum();
        let blocks: u64 = self.blocks.iter().map(|block| u64::from(block.len)).sum();
        let mut runs = Vec::new();
        self.series.encode(&mut runs);
        let series = runs.len() as u64;
        ColumnBytes {
            series,
            ts: self.span_bytes + pages,
            values: blocks - self.span_bytes,
            rest: bytes - blocks - pages - series,
        }
    }

    /// Appends footer and trailer.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        put_zigzag(out, self.partition);
        out.push(self.level);
        put_varint(out, self.min_lsn.0);
        put_varint(out, self.max_lsn.0);
        put_varint(out, self.span_bytes);
        put_varint(out, self.pages.len() as u64);
        let mut before = None;
        for page in &self.pages {
            page.encode(before, out);
            before = Some(page);
        }
        put_varint(out, self.blocks.len() as u64);
        let mut before = None;
        for block in &self.blocks {
            block.encode(before, out);
            before = Some(block);
        }
        self.series.encode(out);
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
        let partition = input.zigzag()?;
        let level = input.u8()?;
        let (min_lsn, max_lsn) = (Lsn(input.varint()?), Lsn(input.varint()?));
        let span_bytes = input.varint()?;
        let count = input.count(PAGE_BYTES_MIN)?;
        let mut pages: Vec<Page> = Vec::with_capacity(count);
        for _ in 0..count {
            let page = Page::decode(input, pages.last())?;
            pages.push(page);
        }
        let count = input.count(ENCODED_BYTES_MIN)?;
        let mut blocks: Vec<ZoneMap> = Vec::with_capacity(count);
        let mut offset = HEADER_BYTES as u64;
        let mut next_page = place_pages(&mut pages, 0, 0, &mut offset);
        for number in 1..=count {
            let block = ZoneMap::decode(input, blocks.last(), offset)?;
            offset += u64::from(block.len);
            blocks.push(block);
            next_page = place_pages(&mut pages, next_page, number, &mut offset);
        }
        if offset != footer_at || blocks.is_empty() || next_page < pages.len() {
            return Err(input.corrupt(
                format!("blocks and pages up to the footer at {footer_at}"),
                format!("{count} blocks and {next_page} of {} pages up to {offset}", pages.len()),
            ));
        }
        let in_blocks: u64 = blocks.iter().map(|block| u64::from(block.len)).sum();
        if span_bytes > in_blocks {
            return Err(input.corrupt(format!("at most {in_blocks} bytes of spans"), span_bytes.to_string()));
        }
        let series = SeriesRuns::decode(input)?;
        let rows: u64 = blocks.iter().map(|block| u64::from(block.rows)).sum();
        if series.count() > rows {
            return Err(input.corrupt(format!("at most {rows} series"), series.count().to_string()));
        }
        Ok(Self { partition, level, min_lsn, max_lsn, span_bytes, pages, blocks, series })
    }
}

/// Gives the pages from number `next` on that stand after `blocks` blocks their offsets; answers which page is next.
fn place_pages(pages: &mut [Page], next: usize, blocks: usize, offset: &mut u64) -> usize {
    let here = pages[next..].iter_mut().take_while(|page| page.after as usize == blocks);
    next + here
        .map(|page| {
            page.offset = *offset;
            *offset += u64::from(page.len);
        })
        .count()
}
