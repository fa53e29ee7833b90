//! Up to 8,192 rows: a slice of one long series or several short series packed together.
//!
//! ```text
//! block = varint(series) varint(first id) numbers(id - id before - 1)   timestamps   values
//! ```
//! The parts are the codecs' (`timestamp`, `float`); the checksum stands in the footer's zone map.
use crate::codec::{Packer, ROWS_MAX, Timestamps, TimestampsEncoder, Unpacker, ValuesDecoder, ValuesEncoder};
use crate::error::Result;
use crate::format::{Reader, put_varint};
use crate::types::SeriesId;

use super::{Segment, ZoneMap};

/// Rows on their way into a block.
#[derive(Default)]
pub(super) struct BlockBuilder {
    series: Vec<SeriesId>,
    offsets: Vec<u32>,
    ts: Vec<i64>,
    values: Vec<f64>,
    steps: Vec<u64>,
    timestamps: TimestampsEncoder,
    values_encoder: ValuesEncoder,
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

    /// Appends the encoded block to `out`, forgets the rows, and answers its zone map without its place and checksum.
    pub(super) fn finish(&mut self, packer: &mut Packer, out: &mut Vec<u8>) -> ZoneMap {
        let zone = ZoneMap::of(&self.series, &self.ts, &self.values);
        put_varint(out, self.series.len() as u64);
        put_varint(out, self.series[0].0);
        self.steps.clear();
        self.steps.extend(self.series.windows(2).map(|w| w[1].0 - w[0].0 - 1));
        packer.pack(&self.steps, out);
        self.timestamps.encode(packer, &self.ts, &self.offsets, out);
        self.values_encoder.encode(packer, &self.values, &self.offsets, out);
        self.series.clear();
        self.offsets.clear();
        self.ts.clear();
        self.values.clear();
        zone
    }
}

/// Contexts and scratch for decoding blocks; one serves all the blocks of a scan.
pub(crate) struct BlockDecoder {
    unpacker: Unpacker,
    values: ValuesDecoder,
    steps: Vec<u64>,
    rows: Vec<u32>,
}

impl BlockDecoder {
    /// Contexts.
    ///
    /// # Errors
    /// `Unavailable` when zstd cannot allocate.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { unpacker: Unpacker::new()?, values: ValuesDecoder::default(), steps: Vec::new(), rows: Vec::new() })
    }
}

/// A decoded block; its buffers are reused for the next.
#[derive(Default)]
pub(crate) struct Block {
    series: Vec<SeriesId>,
    /// Rows of series `k` are `offsets[k]..offsets[k + 1]` of the values.
    offsets: Vec<u32>,
    timestamps: Timestamps,
    values: Vec<f64>,
    /// Where in the block the values begin, until they are decoded.
    values_from: Option<usize>,
    index: usize,
}

impl Block {
    /// Replaces everything with block `index` of `segment`, checksum compared; values stay encoded.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(crate) fn load(&mut self, decoder: &mut BlockDecoder, segment: &Segment, index: usize) -> Result<()> {
        let bytes = segment.block_bytes(index)?;
        let zone = &segment.blocks()[index];
        let mut input = Reader::new(bytes, segment.path(), zone.offset);
        self.series.clear();
        self.offsets.clear();
        self.values.clear();
        self.index = index;
        let series = input.varint()?;
        let mut id = input.varint()?;
        if series != u64::from(zone.series) || id != zone.first.0 {
            return Err(
                input.corrupt(format!("{} series from {}", zone.series, zone.first.0), format!("{series} from {id}"))
            );
        }
        decoder.unpacker.unpack(&mut input, series as usize - 1, &mut decoder.steps)?;
        self.series.push(SeriesId(id));
        for &step in &decoder.steps {
            match id.checked_add(step).and_then(|id| id.checked_add(1)) {
                Some(next) => id = next,
                None => return Err(input.corrupt("series ids in order", "one beyond 64 bits")),
            }
            self.series.push(SeriesId(id));
        }
        self.timestamps.decode(&mut decoder.unpacker, &mut input, self.series.len())?;
        let mut end = 0u32;
        self.offsets.push(0);
        for k in 0..self.series.len() {
            end += self.timestamps.rows_of(k) as u32;
            self.offsets.push(end);
            if end as usize > ROWS_MAX {
                break;
            }
        }
        if id != zone.last.0 || end != zone.rows {
            return Err(
                input.corrupt(format!("{} rows up to series {}", zone.rows, zone.last.0), format!("{end} up to {id}"))
            );
        }
        self.values_from = Some(bytes.len() - input.remaining());
        Ok(())
    }

    /// Decodes the values of the block that was loaded from `segment`, once.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(crate) fn load_values(&mut self, decoder: &mut BlockDecoder, segment: &Segment) -> Result<()> {
        let Some(from) = self.values_from.take() else { return Ok(()) };
        let zone = &segment.blocks()[self.index];
        let bytes = &segment.block_bytes_checked_before(self.index)[from..];
        let mut input = Reader::new(bytes, segment.path(), zone.offset + from as u64);
        decoder.rows.clear();
        decoder.rows.extend(self.offsets.windows(2).map(|w| w[1] - w[0]));
        decoder.values.decode(&mut decoder.unpacker, &mut input, &decoder.rows, &mut self.values)?;
        input.finish()
    }

    /// Series that have rows here, increasing.
    pub(crate) fn series(&self) -> &[SeriesId] {
        &self.series
    }

    /// Timestamps of the `k`-th series.
    pub(crate) fn ts(&self, k: usize) -> &[i64] {
        self.timestamps.of(k)
    }

    /// Values of the `k`-th series; empty before [`Block::load_values`].
    pub(crate) fn values(&self, k: usize) -> &[f64] {
        self.values.get(self.offsets[k] as usize..self.offsets[k + 1] as usize).unwrap_or(&[])
    }
}
