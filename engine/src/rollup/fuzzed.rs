//! Chunks and footers for the fuzzer, without the checksums in front of them.
#![allow(clippy::unwrap_used)]
use std::path::Path;

use crate::codec::{Effort, Packer, Unpacker, ValuesDecoder};
use crate::format::Reader;
use crate::types::SeriesId;

use super::bucket::{Chunk, Summing};
use super::chunk::{ChunkEncoder, decode, decode_sketches};
use super::footer::{ChunkPlace, Footer, HEADER_BYTES, Part, TRAILER_BYTES};

const WIDTH: i64 = 60;

/// Chunks, each behind the number of its buckets and the length of its statistics.
pub(crate) fn chunks() -> Vec<Vec<u8>> {
    let mut encoder = ChunkEncoder::new(Packer::new(Effort::Thorough).unwrap());
    let mut chunks = Vec::new();
    let mut take = |_: usize, chunk: &Chunk| -> crate::error::Result<()> {
        let mut bytes = Vec::new();
        let sketches_at = encoder.encode(chunk, WIDTH, &mut bytes);
        let mut framed = (chunk.buckets.len() as u16).to_le_bytes().to_vec();
        framed.extend_from_slice(&(sketches_at as u16).to_le_bytes());
        framed.extend_from_slice(&bytes);
        chunks.push(framed);
        Ok(())
    };
    for (series, rows, step) in [(1, 1, 1), (3, 40, 7), (20, 300, 13), (2, 9, i64::MAX / 5)] {
        let mut summing = Summing::new(&[WIDTH]);
        for id in 0..series {
            let ts: Vec<i64> = (0..rows).map(|i: i64| (i - rows / 2).wrapping_mul(step)).collect();
            let value = |i: i64| if i % 17 == 3 { f64::NAN } else { (i % 10) as f64 * 0.37 };
            let values: Vec<f64> = (0..rows).map(value).collect();
            summing.push(SeriesId(id << 32), &ts, &values, &mut take).unwrap();
        }
        summing.finish(&mut take).unwrap();
    }
    chunks
}

/// Reads what [`chunks`] wrote.
pub(crate) fn read_chunk(bytes: &[u8]) {
    let Some((frame, bytes)) = bytes.split_at_checked(4) else { return };
    let number = |at: usize| usize::from(u16::from_le_bytes([frame[at], frame[at + 1]]));
    let (statistics, sketches) = bytes.split_at(number(2).min(bytes.len()));
    let (mut unpacker, mut values, mut chunk) = (Unpacker::default(), ValuesDecoder::default(), Chunk::default());
    let reader = |bytes| Reader::new(bytes, Path::new("/fuzz/rollup"), 16);
    if decode((&mut unpacker, &mut values), reader(statistics), number(0), WIDTH, &mut chunk).is_ok() {
        let _ = decode_sketches(&mut unpacker, reader(sketches), &mut chunk);
    }
}

/// Footers without trailer, each behind the place where it would be.
pub(crate) fn footers() -> Vec<Vec<u8>> {
    let of = |chunks: u64| {
        let part = Part { len: 300, crc: 7 };
        let place = |n: u64| ChunkPlace {
            offset: 0,
            width: (n % 2) as u8,
            buckets: 512,
            first: SeriesId(n << 8),
            last: SeriesId((n << 8) + 9),
            statistics: part,
            sketches: part,
        };
        let footer = Footer { segment: (1000, 99), widths: vec![300, 3600], chunks: (0..chunks).map(place).collect() };
        let footer_at = HEADER_BYTES as u32 + 600 * chunks as u32;
        let mut bytes = footer_at.to_le_bytes().to_vec();
        footer.encode(&mut bytes).unwrap();
        bytes.truncate(bytes.len() - TRAILER_BYTES);
        let read = parse(&bytes).unwrap().unwrap();
        assert_eq!(read.chunks.len() as u64, chunks, "a seed is sound");
        bytes
    };
    [0, 1, 40].map(of).to_vec()
}

/// Reads what [`footers`] wrote.
pub(crate) fn read_footer(bytes: &[u8]) {
    let _ = parse(bytes);
}

fn parse(bytes: &[u8]) -> Option<crate::error::Result<Footer>> {
    let (footer_at, bytes) = bytes.split_first_chunk::<4>()?;
    let mut input = Reader::new(bytes, Path::new("/fuzz/rollup"), 0);
    Some(Footer::decode_body(&mut input, u32::from_le_bytes(*footer_at).into()))
}
