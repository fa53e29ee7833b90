//! A chunk of buckets as bytes, in two parts that are checked and read apart.
//!
//! ```text
//! statistics = varint(series)   numbers(id - previous id)   numbers(buckets of series)
//!              numbers(zigzag(number of bucket - previous number))   numbers(first row - start)   numbers(last row - start)
//!              numbers(rows - 1)   numbers(values that are NaN)
//!              values(min)   values(max)   values(sum)   values(first)   values(last)
//! sketches   = varint(length)   bytes(sketch of each bucket)
//! ```
//! `numbers`, `values` and `bytes` are the codecs' (`stream`, `float`), which give back exact bits.
use crate::codec::{Packer, Unpacker, ValuesDecoder, ValuesEncoder};
use crate::error::Result;
use crate::format::{Reader, put_varint, unzigzag, zigzag};
use crate::types::{SeriesId, TimeRange};

use super::bucket::{Bucket, CHUNK_BUCKETS_MAX, Chunk};
use super::sketch::{BINS_MAX, Sketch};

/// Bytes of the longest encoded sketch.
const SKETCH_BYTES_MAX: usize = 1 + 2 + BINS_MAX * (10 + 10);

/// Writes chunks.
pub(super) struct ChunkEncoder {
    packer: Packer,
    values: ValuesEncoder,
}

impl ChunkEncoder {
    pub(super) fn new(packer: Packer) -> Self {
        Self { packer, values: ValuesEncoder::default() }
    }

    /// Appends `chunk`, of buckets of `width`; answers where its sketches begin.
    pub(super) fn encode(&mut self, chunk: &Chunk, width: i64, out: &mut Vec<u8>) -> usize {
        put_varint(out, chunk.series.len() as u64);
        let mut before = 0;
        let ids = chunk.series.iter().map(|id| id.0 - std::mem::replace(&mut before, id.0));
        self.numbers(ids, out);
        self.numbers(chunk.offsets.windows(2).map(|w| u64::from(w[1] - w[0])), out);
        let buckets = &chunk.buckets;
        let mut before = 0;
        let numbers = buckets.iter().map(|bucket| bucket.extent.start.div_euclid(width));
        let numbers = numbers.map(|number: i64| zigzag(number.wrapping_sub(std::mem::replace(&mut before, number))));
        self.numbers(numbers, out);
        self.numbers(buckets.iter().map(|bucket| bucket.extent.start.rem_euclid(width) as u64), out);
        self.numbers(buckets.iter().map(|bucket| bucket.extent.end.rem_euclid(width) as u64), out);
        self.numbers(buckets.iter().map(|bucket| bucket.rows - 1), out);
        self.numbers(buckets.iter().map(|bucket| bucket.rows - bucket.count), out);
        let columns: [fn(&Bucket) -> f64; 5] = [|b| b.min, |b| b.max, |b| b.sum, |b| b.first, |b| b.last];
        for column in columns {
            let values: Vec<f64> = buckets.iter().map(column).collect();
            self.values.encode(&mut self.packer, &values, &chunk.offsets, out);
        }
        let sketches_at = out.len();
        let mut bytes = Vec::new();
        chunk.sketches.iter().for_each(|sketch| sketch.encode(&mut bytes));
        put_varint(out, bytes.len() as u64);
        self.packer.pack_bytes(&bytes, out);
        sketches_at
    }

    fn numbers(&mut self, numbers: impl Iterator<Item = u64>, out: &mut Vec<u8>) {
        let numbers: Vec<u64> = numbers.collect();
        self.packer.pack(&numbers, out);
    }
}

/// Replaces `chunk` with the statistics of `buckets` buckets of `width`, without sketches.
///
/// # Errors
/// `Corruption` with path and offset.
pub(super) fn decode(
    (unpacker, decoder): (&mut Unpacker, &mut ValuesDecoder),
    mut input: Reader<'_>,
    buckets: usize,
    width: i64,
    chunk: &mut Chunk,
) -> Result<()> {
    chunk.clear();
    let at = input.clone();
    let series = input.varint()?;
    if buckets == 0 || buckets > CHUNK_BUCKETS_MAX || series == 0 || series > buckets as u64 {
        return Err(at.corrupt(format!("1 to {buckets} series"), series.to_string()));
    }
    let series = series as usize;
    let mut numbers = Vec::new();
    unpacker.unpack(&mut input, series, &mut numbers)?;
    let mut id = 0u64;
    for (k, &step) in numbers.iter().enumerate() {
        id = match id.checked_add(step) {
            Some(next) if step > 0 || k == 0 => next,
            _ => return Err(at.corrupt("series in order", format!("{step} after {id}"))),
        };
        chunk.series.push(SeriesId(id));
    }
    unpacker.unpack(&mut input, series, &mut numbers)?;
    let mut rows = Vec::with_capacity(series);
    let mut end = 0u64;
    chunk.offsets.push(0);
    for &own in &numbers {
        end = end.saturating_add(own);
        if own == 0 || end > buckets as u64 {
            return Err(at.corrupt(format!("{buckets} buckets, at least one of each series"), end.to_string()));
        }
        rows.push(own as u32);
        chunk.offsets.push(end as u32);
    }
    if end != buckets as u64 {
        return Err(at.corrupt(format!("{buckets} buckets"), end.to_string()));
    }
    let mut columns: [Vec<u64>; 5] = Default::default();
    for column in &mut columns {
        unpacker.unpack(&mut input, buckets, column)?;
    }
    let mut values: [Vec<f64>; 5] = Default::default();
    for column in &mut values {
        decoder.decode(unpacker, &mut input, &rows, column)?;
        if column.len() != buckets {
            return Err(at.corrupt(format!("{buckets} values"), column.len().to_string()));
        }
    }
    let mut number = 0i64;
    for k in 0..buckets {
        number = number.wrapping_add(unzigzag(columns[0][k]));
        let (first, last, more, nan) = (columns[1][k], columns[2][k], columns[3][k], columns[4][k]);
        let ts = |offset: u64| i64::try_from(i128::from(number) * i128::from(width) + i128::from(offset)).ok();
        let (Some(start), Some(stop), Some(rows)) = (ts(first), ts(last), more.checked_add(1)) else {
            return Err(at.corrupt("a bucket of 64-bit times", format!("number {number}")));
        };
        if first > last || last >= width as u64 || nan > rows {
            let got = format!("rows from {first} to {last}, {nan} of {rows} NaN");
            return Err(at.corrupt(format!("a bucket of {width} ns"), got));
        }
        let [min, max, sum, first, last] = std::array::from_fn(|column| values[column][k]);
        let extent = TimeRange { start, end: stop };
        chunk.buckets.push(Bucket { extent, rows, count: rows - nan, min, max, sum, first, last });
    }
    let in_order = chunk.offsets.windows(2).all(|w| {
        let own = &chunk.buckets[w[0] as usize..w[1] as usize];
        own.is_sorted_by(|a, b| a.extent.end < b.extent.start)
    });
    if !in_order {
        return Err(at.corrupt("buckets of a series in order", "others"));
    }
    input.finish()
}

/// Adds the sketches to a chunk of which the statistics are decoded.
///
/// # Errors
/// `Corruption` with path and offset.
pub(super) fn decode_sketches(unpacker: &mut Unpacker, mut input: Reader<'_>, chunk: &mut Chunk) -> Result<()> {
    chunk.sketches.clear();
    let at = input.clone();
    let len = input.varint()?;
    let len_max = chunk.buckets.len() * SKETCH_BYTES_MAX;
    if len > len_max as u64 {
        return Err(at.corrupt(format!("at most {len_max} bytes of sketches"), len.to_string()));
    }
    let mut bytes = Vec::new();
    unpacker.unpack_bytes(&mut input, len as usize, &mut bytes)?;
    input.finish()?;
    // Offsets in what was unpacked are not offsets in the file: damage is named at the part.
    let mut unpacked = Reader::new(&bytes, at.path(), at.offset());
    for bucket in &chunk.buckets {
        chunk.sketches.push(Sketch::decode(&mut unpacked, bucket.count)?);
    }
    unpacked.finish()
}
