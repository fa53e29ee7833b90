//! Up to 8,192 rows: a slice of one long series or several short series packed together.
//!
//! ```text
//! block = spans   values
//! ```
//! Which series they are of follows from the footer: its runs of series, the first one and the number of the zone map.
//! Spans say which timestamps the series have; those stand in pages, once for all series of a scrape. The parts are the
//! codecs' (`timestamp`, `float`); the checksum stands in the zone map too.
use std::ops::Range;
use std::sync::Arc;

use crate::codec::{
    Packer, SequencesDecoder, Span, Spans, SpansEncoder, Timelines, Unpacker, ValuesDecoder, ValuesEncoder,
};
use crate::error::Result;
use crate::format::Reader;
use crate::pool::{Lent, Pool};
use crate::types::{SeriesId, TimeRange};

use super::page_cache::{self, PageCache};
use super::timeline::TimelineTable;
use super::{Segment, ZoneMap};

/// Rows on their way into a block.
#[derive(Default)]
pub(super) struct BlockBuilder {
    series: Vec<SeriesId>,
    offsets: Vec<u32>,
    ts: Vec<i64>,
    values: Vec<f64>,
    own_spans: Vec<Span>,
    spans: SpansEncoder,
    values_encoder: ValuesEncoder,
}

/// A block that was encoded.
pub(super) struct Encoded {
    /// Without its place and checksum.
    pub(super) zone: ZoneMap,
    /// Bytes of the spans.
    pub(super) span_bytes: u64,
}

impl BlockBuilder {
    /// Rows so far.
    pub(super) fn rows(&self) -> usize {
        self.ts.len()
    }

    /// Adds rows after all others; the caller keeps the order and the room.
    pub(super) fn push(&mut self, series: SeriesId, ts: &[i64], values: &[f64]) {
        if self.series.last() == Some(&series) {
            self.offsets.pop();
        } else {
            if self.series.is_empty() {
                self.offsets.push(0);
            }
            self.series.push(series);
        }
        self.ts.extend_from_slice(ts);
        self.values.extend_from_slice(values);
        self.offsets.push(self.ts.len() as u32);
    }

    /// Appends the encoded block to `out` and forgets the rows. New timestamps go into `timelines`.
    pub(super) fn finish(&mut self, packer: &mut Packer, timelines: &mut TimelineTable, out: &mut Vec<u8>) -> Encoded {
        let zone = ZoneMap::of(&self.series, &self.ts, &self.values);
        let start = out.len();
        for bounds in self.offsets.windows(2) {
            let own = &self.ts[bounds[0] as usize..bounds[1] as usize];
            timelines.find(packer, own, &mut self.own_spans);
            self.spans.push(&self.own_spans);
        }
        self.spans.finish(packer, out);
        let span_bytes = (out.len() - start) as u64;
        self.values_encoder.encode(packer, &self.values, &self.offsets, out);
        self.series.clear();
        self.offsets.clear();
        self.ts.clear();
        self.values.clear();
        Encoded { zone, span_bytes }
    }
}

/// Memory of contexts and scratch.
const CONTEXT_BYTES: usize = 256 << 10;

/// Contexts and scratch for decoding blocks, and the pages decoded last; one serves all the blocks of a scan.
pub(crate) struct BlockDecoder {
    scratch: Lent<Scratch>,
    pages: PageCache,
}

/// Of scans that have ended: together some 5 MB.
static SCRATCH: Pool<Box<Scratch>> = Pool::new(8);
static BLOCKS: Pool<Box<Block>> = Pool::new(16);

#[derive(Default)]
struct Scratch {
    unpacker: Unpacker,
    values: ValuesDecoder,
    timestamps: SequencesDecoder,
    rows: Vec<u32>,
    /// Of each series of a block.
    wanted: Vec<Range<usize>>,
}

impl BlockDecoder {
    /// One that reads every page itself, and keeps none for others.
    pub(crate) fn alone() -> Self {
        Self { scratch: SCRATCH.lend(), pages: PageCache::default() }
    }

    /// One that shares pages with others.
    pub(crate) fn sharing() -> Self {
        Self { scratch: SCRATCH.lend(), pages: PageCache::sharing() }
    }

    /// Decodes the pages of `segment`, for others, while there is room and `go_on` says so.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(crate) fn read_pages_ahead(&mut self, segment: &Segment, go_on: &dyn Fn() -> bool) -> Result<()> {
        for index in 0..segment.pages().len() {
            if !page_cache::has_room() || !go_on() {
                break;
            }
            self.page(segment, index)?;
        }
        Ok(())
    }

    /// Page `index` of `segment`.
    fn page(&mut self, segment: &Segment, index: usize) -> Result<Arc<Timelines>> {
        let Scratch { unpacker, timestamps, .. } = &mut *self.scratch;
        self.pages.get(unpacker, timestamps, segment, index)
    }

    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        CONTEXT_BYTES + self.pages.bytes()
    }

    /// What decodes columns of other files too.
    pub(crate) fn columns(&mut self) -> (&mut Unpacker, &mut ValuesDecoder) {
        let Scratch { unpacker, values, .. } = &mut *self.scratch;
        (unpacker, values)
    }
}

/// A decoded block; its buffers are reused for the next.
#[derive(Default)]
pub(crate) struct Block {
    series: Vec<SeriesId>,
    /// Rows of series `k` are `offsets[k]..offsets[k + 1]` of the values.
    offsets: Vec<u32>,
    spans: Spans,
    /// Of another block unless they are decoded.
    values: Vec<f64>,
    is_decoded: bool,
    /// Where in the block the values begin, until they are decoded.
    values_from: Option<usize>,
    index: usize,
    /// Where the timestamps of the selected series are, if they are one slice of a page.
    page: Option<(Arc<Timelines>, usize, Range<usize>)>,
    /// They themselves, if they are not.
    joined: Vec<i64>,
}

impl Block {
    /// One whose memory others had.
    pub(crate) fn lend() -> Lent<Self> {
        BLOCKS.lend()
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        let words = self.series.capacity() + self.values.capacity() + self.joined.capacity();
        words * 8 + self.offsets.capacity() * 4 + self.spans.bytes()
    }

    /// Replaces everything with block `index` of `segment`, checksum compared; timestamps and values stay encoded.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(crate) fn load(&mut self, decoder: &mut BlockDecoder, segment: &Segment, index: usize) -> Result<()> {
        let bytes = segment.block_bytes(index)?;
        let zone = &segment.blocks()[index];
        let mut input = Reader::new(bytes, segment.path(), zone.offset);
        self.series.clear();
        self.joined.clear();
        self.values_from = None;
        self.is_decoded = false;
        self.page = None;
        self.index = index;
        self.series.extend(segment.series().iter_from(zone.first).take(zone.series as usize));
        if (self.series.first(), self.series.last(), self.series.len())
            != (Some(&zone.first), Some(&zone.last), zone.series as usize)
        {
            return Err(input.corrupt(
                format!("{} series from {} to {}", zone.series, zone.first.0, zone.last.0),
                format!("{} to {:?} in the footer's runs", self.series.len(), self.series.last()),
            ));
        }
        let timelines = segment.timelines();
        self.spans.decode(
            &mut decoder.scratch.unpacker,
            &mut input,
            self.series.len(),
            timelines,
            &mut self.offsets,
        )?;
        let rows = self.offsets[self.series.len()];
        if rows != zone.rows {
            return Err(input.corrupt(format!("{} rows", zone.rows), rows.to_string()));
        }
        self.values_from = Some(bytes.len() - input.remaining());
        Ok(())
    }

    /// Makes [`Block::ts`] answer the timestamps of the `k`-th series of the block that was loaded from `segment`.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(crate) fn select(&mut self, decoder: &mut BlockDecoder, segment: &Segment, k: usize) -> Result<()> {
        self.joined.clear();
        self.page = None;
        let spans = self.spans.of(k);
        for span in spans {
            let (index, timeline) = segment.page_of(span.timeline);
            let page = decoder.page(segment, index)?;
            let slice = self.stretch(segment, &page, span)?;
            if spans.len() == 1 {
                let rows = span.from as usize..(span.from + span.rows) as usize;
                self.page = Some((page, timeline, rows));
                return Ok(());
            }
            self.joined.extend_from_slice(slice);
        }
        Ok(())
    }

    /// The timestamps of `span`, which stand in `page`.
    fn stretch<'a>(&self, segment: &Segment, page: &'a Timelines, span: &Span) -> Result<&'a [i64]> {
        let ts = page.get(segment.page_of(span.timeline).1);
        let rows = span.from as usize..(span.from + span.rows) as usize;
        ts.get(rows.clone()).ok_or_else(|| {
            let at = Reader::new(&[], segment.path(), segment.blocks()[self.index].offset);
            at.corrupt(
                format!("a span inside the {} rows of timeline {}", ts.len(), span.timeline),
                format!("{rows:?}"),
            )
        })
    }

    /// Which rows of the `k`-th series of the block that was loaded from `segment` are in `range`.
    fn rows_inside(
        &self,
        decoder: &mut BlockDecoder,
        segment: &Segment,
        k: usize,
        range: TimeRange,
    ) -> Result<Range<usize>> {
        let (mut before, mut through) = (0, 0);
        for span in self.spans.of(k) {
            let page = segment.page_of(span.timeline).0;
            let page = decoder.page(segment, page)?;
            let ts = self.stretch(segment, &page, span)?;
            before += ts.partition_point(|&t| t < range.start);
            // Most often the range goes on.
            let all = ts.last().is_some_and(|&last| last <= range.end);
            through += if all { ts.len() } else { ts.partition_point(|&t| t <= range.end) };
        }
        Ok(before..through)
    }

    /// Decodes all values of the block that was loaded from `segment`.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(crate) fn load_values(&mut self, decoder: &mut BlockDecoder, segment: &Segment) -> Result<()> {
        decoder.scratch.wanted.clear();
        decoder.scratch.wanted.extend(self.offsets.windows(2).map(|w| 0..(w[1] - w[0]) as usize));
        self.decode_values(decoder, segment)
    }

    /// Decodes the values of the block that was loaded from `segment`, once; rows of series that are not among `ids` (increasing)
    /// and rows outside of `range` need not be right.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(crate) fn load_values_of(
        &mut self,
        decoder: &mut BlockDecoder,
        segment: &Segment,
        mut ids: &[SeriesId],
        range: TimeRange,
    ) -> Result<()> {
        if self.values_from.is_none() {
            return Ok(());
        }
        let whole = segment.blocks()[self.index].inside(range);
        decoder.scratch.wanted.clear();
        // Series of one scrape have the same timestamps.
        let mut found: Option<(usize, Range<usize>)> = None;
        for (k, own) in self.series.iter().enumerate() {
            while ids.first().is_some_and(|id| id < own) {
                ids = &ids[1..];
            }
            let wanted = match &found {
                _ if ids.first() != Some(own) => 0..0,
                _ if whole => 0..(self.offsets[k + 1] - self.offsets[k]) as usize,
                Some((other, rows)) if self.spans.of(*other) == self.spans.of(k) => rows.clone(),
                _ => {
                    let rows = self.rows_inside(decoder, segment, k, range)?;
                    found = Some((k, rows.clone()));
                    rows
                }
            };
            decoder.scratch.wanted.push(wanted);
        }
        self.decode_values(decoder, segment)
    }

    /// Decodes the wanted rows of each series.
    fn decode_values(&mut self, decoder: &mut BlockDecoder, segment: &Segment) -> Result<()> {
        let Some(from) = self.values_from.take() else { return Ok(()) };
        let zone = &segment.blocks()[self.index];
        let bytes = &segment.block_bytes_checked_before(self.index)[from..];
        let mut input = Reader::new(bytes, segment.path(), zone.offset + from as u64);
        let Scratch { unpacker, values, rows, wanted, .. } = &mut *decoder.scratch;
        rows.clear();
        rows.extend(self.offsets.windows(2).map(|w| w[1] - w[0]));
        values.decode_some(unpacker, &mut input, rows, |k| wanted[k].clone(), &mut self.values)?;
        input.finish()?;
        self.is_decoded = true;
        Ok(())
    }

    /// Series that have rows here, increasing.
    pub(crate) fn series(&self) -> &[SeriesId] {
        &self.series
    }

    /// Timestamps of the series selected last.
    pub(crate) fn ts(&self) -> &[i64] {
        match &self.page {
            Some((page, timeline, rows)) => &page.get(*timeline)[rows.clone()],
            None => &self.joined,
        }
    }

    /// Values of the `k`-th series; empty before they are decoded.
    pub(crate) fn values(&self, k: usize) -> &[f64] {
        if !self.is_decoded {
            return &[];
        }
        self.values.get(self.offsets[k] as usize..self.offsets[k + 1] as usize).unwrap_or(&[])
    }
}
