//! Reading a segment whole: every block against its checksum, the order of rows and its zone map.
use crate::error::Result;
use crate::format::Reader;
use crate::types::{SeriesId, TimeRange};

use super::footer::SeriesRuns;
use super::{Block, BlockDecoder, Segment, ZoneMap};

/// Reads the blocks of one segment in order.
pub(crate) struct Checker<'a> {
    segment: &'a Segment,
    range: TimeRange,
    decoder: BlockDecoder,
    block: Block,
    /// Timestamps of the block read last, and where each series of it ends.
    ts: Vec<i64>,
    ends: Vec<usize>,
    /// The last row of the blocks found good so far.
    last: Option<(SeriesId, i64)>,
    seen: SeriesRuns,
}

impl<'a> Checker<'a> {
    /// For `segment`, whose rows must lie in `range`.
    pub(crate) fn new(segment: &'a Segment, range: TimeRange) -> Self {
        let (decoder, block) = (BlockDecoder::alone(), Block::default());
        let (ts, ends) = (Vec::new(), Vec::new());
        Self { segment, range, decoder, block, ts, ends, last: None, seen: SeriesRuns::default() }
    }

    /// The rows of block `index`, which is not before the one read last: whole, in order and in the partition.
    ///
    /// # Errors
    /// `Corruption` with path and offset; the block is then as good as lost.
    pub(crate) fn read(&mut self, index: usize) -> Result<()> {
        self.block.load(&mut self.decoder, self.segment, index)?;
        self.block.load_values(&mut self.decoder, self.segment)?;
        let zone = &self.segment.blocks()[index];
        let at = || Reader::new(&[], self.segment.path(), zone.offset);
        let mut last = self.last;
        self.ts.clear();
        self.ends.clear();
        for k in 0..self.block.series().len() {
            self.block.select(&mut self.decoder, self.segment, k)?;
            let (series, ts) = (self.block.series()[k], self.block.ts());
            if ts.len() != self.block.values(k).len() {
                let got = format!("{} for {} timestamps", self.block.values(k).len(), ts.len());
                return Err(at().corrupt(format!("a value for each timestamp of series {}", series.0), got));
            }
            for &t in ts {
                if last.is_some_and(|last| last >= (series, t)) {
                    let got = format!("{t} of series {} after {last:?}", series.0);
                    return Err(at().corrupt("rows in order of series and time", got));
                }
                if !self.range.contains(t) {
                    let expected = format!("timestamps from {} to {}", self.range.start, self.range.end);
                    return Err(at().corrupt(expected, format!("{t} of series {}", series.0)));
                }
                last = Some((series, t));
            }
            self.ts.extend_from_slice(ts);
            self.ends.push(self.ts.len());
        }
        self.last = last;
        self.block.series().iter().for_each(|&series| self.seen.push(series));
        Ok(())
    }

    /// The series of the block read last, each with its rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (SeriesId, &[i64], &[f64])> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let rows = starts.zip(&self.ends).map(|(start, &end)| &self.ts[start..end]);
        self.block.series().iter().zip(rows).enumerate().map(|(k, (&series, ts))| (series, ts, self.block.values(k)))
    }

    /// Compares the zone map of the block that was read last, block `index`, with its rows.
    ///
    /// # Errors
    /// `Corruption`; the rows themselves are good.
    pub(crate) fn compare_zone(&self, index: usize) -> Result<()> {
        let (zone, block) = (&self.segment.blocks()[index], &self.block);
        let values: Vec<f64> = self.rows().flat_map(|(_, _, values)| values.iter().copied()).collect();
        let found = ZoneMap::of(block.series(), &self.ts, &values);
        let found = ZoneMap { offset: zone.offset, len: zone.len, crc: zone.crc, ..found };
        if same(zone, &found) {
            return Ok(());
        }
        let at = Reader::new(&[], self.segment.path(), zone.offset);
        Err(at.corrupt(format!("{zone:?}, as the footer says"), format!("{found:?}")))
    }

    /// Compares the footer's list of series with the series of the blocks, all of which were read.
    ///
    /// # Errors
    /// `Corruption`; the rows themselves are good.
    pub(crate) fn compare_series(&self) -> Result<()> {
        if self.seen == *self.segment.series() {
            return Ok(());
        }
        let at = Reader::new(&[], self.segment.path(), self.segment.meta().bytes);
        let expected = format!("a footer that lists the {} series of the blocks", self.seen.count());
        Err(at.corrupt(expected, format!("another list of {}", self.segment.series().count())))
    }
}

/// Whether the two describe the same rows, bit by bit: a block may begin or end with a NaN. A sum that is no number has no
/// certain bits.
fn same(a: &ZoneMap, b: &ZoneMap) -> bool {
    let encoded = |zone: &ZoneMap| {
        let (sum, mut bytes) = (if zone.sum.is_nan() { f64::NAN } else { zone.sum }, Vec::new());
        ZoneMap { sum, ..zone.clone() }.encode(None, &mut bytes);
        bytes
    };
    encoded(a) == encoded(b)
}
