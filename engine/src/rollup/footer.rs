//! Header, footer and trailer of a rollup file.
//!
//! ```text
//!  header | chunk | chunk | … | footer: whose rows, widths, a place for each chunk | trailer
//! ```
use std::path::Path;

use crate::error::{Error, Result};
use crate::format::{Reader, crc32c, put_varint};
use crate::segment::SegmentMeta;
use crate::types::SeriesId;

use super::bucket::CHUNK_BUCKETS_MAX;
use super::rules::WIDTHS_MAX;

const HEADER_MAGIC: &[u8; 8] = b"FORETROL";
const TRAILER_MAGIC: &[u8; 8] = b"LORTEROF";
const VERSION: u32 = 1;

/// `magic[8] version:u32 crc:u32`
pub(super) const HEADER_BYTES: usize = 16;
/// `footer length:u32 crc:u32 magic[8]`
pub(super) const TRAILER_BYTES: usize = 16;
/// Bytes of the shortest place of a chunk.
const PLACE_BYTES_MIN: usize = 1 + 1 + 1 + 1 + 1 + 4 + 1 + 4;

/// Where a chunk is, how to check it, and whose buckets it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChunkPlace {
    /// Offset of its statistics; the sketches follow.
    pub(super) offset: u64,
    pub(super) width: u8,
    pub(super) buckets: u32,
    pub(super) first: SeriesId,
    pub(super) last: SeriesId,
    pub(super) statistics: Part,
    pub(super) sketches: Part,
}

/// Length and CRC32C of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) len: u32,
    pub(super) crc: u32,
}

impl Part {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len() as u32, crc: crc32c(bytes) }
    }
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    /// Size and rows of the segment.
    pub(super) segment: (u64, u64),
    /// Widths of buckets, ns, increasing.
    pub(super) widths: Vec<i64>,
    /// In the order of the file: of each width by series and time.
    pub(super) chunks: Vec<ChunkPlace>,
}

/// The header of every file.
pub(super) fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(HEADER_MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    let crc = crc32c(&header[..12]);
    header[12..].copy_from_slice(&crc.to_le_bytes());
    header
}

impl Footer {
    /// Of the rollup of `segment`.
    pub(super) fn of(segment: &SegmentMeta, widths: &[i64]) -> Self {
        Self { segment: (segment.bytes, segment.rows), widths: widths.to_vec(), chunks: Vec::new() }
    }

    /// Appends footer and trailer; answers the checksum of the footer.
    ///
    /// # Errors
    /// `Limit` when the footer is too long for the trailer.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<u32> {
        let start = out.len();
        put_varint(out, self.segment.0);
        put_varint(out, self.segment.1);
        put_varint(out, self.widths.len() as u64);
        self.widths.iter().for_each(|&width| put_varint(out, width as u64));
        put_varint(out, self.chunks.len() as u64);
        for place in &self.chunks {
            out.push(place.width);
            put_varint(out, place.buckets.into());
            put_varint(out, place.first.0);
            put_varint(out, place.last.0 - place.first.0);
            for part in [place.statistics, place.sketches] {
                put_varint(out, part.len.into());
                out.extend_from_slice(&part.crc.to_le_bytes());
            }
        }
        let (len, crc) = (out.len() - start, crc32c(&out[start..]));
        let len =
            u32::try_from(len).map_err(|_| Error::Limit(format!("a rollup's footer of {len} bytes is too long")))?;
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(TRAILER_MAGIC);
        Ok(crc)
    }

    /// Reads the footer of the file `path`, and its checksum.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(super) fn decode(file: &[u8], path: &Path) -> Result<(Self, u32)> {
        let whole = Reader::new(file, path, 0);
        if file.len() < HEADER_BYTES + TRAILER_BYTES {
            return Err(whole.corrupt("header and trailer", format!("{} bytes", file.len())));
        }
        if file[..HEADER_BYTES] != header() {
            return Err(whole.corrupt(format!("header {:02x?}", header()), format!("{:02x?}", &file[..HEADER_BYTES])));
        }
        let trailer_at = file.len() - TRAILER_BYTES;
        let mut trailer = Reader::new(&file[trailer_at..], path, trailer_at as u64);
        let at = trailer.clone();
        let (len, crc, magic) = (trailer.u32()? as usize, trailer.u32()?, trailer.bytes(8)?);
        if magic != TRAILER_MAGIC || len > trailer_at - HEADER_BYTES {
            return Err(at.corrupt("a trailer", format!("a footer of {len} bytes, magic {magic:02x?}")));
        }
        let footer_at = trailer_at - len;
        let bytes = &file[footer_at..trailer_at];
        let mut input = Reader::new(bytes, path, footer_at as u64);
        let found = crc32c(bytes);
        if found != crc {
            return Err(input.corrupt(format!("crc {crc:08x} of {len} bytes"), format!("{found:08x}")));
        }
        let footer = Self::decode_body(&mut input, footer_at as u64)?;
        input.finish()?;
        Ok((footer, crc))
    }

    pub(super) fn decode_body(input: &mut Reader<'_>, footer_at: u64) -> Result<Self> {
        let segment = (input.varint()?, input.varint()?);
        let at = input.clone();
        let count = input.count(1)?;
        if count == 0 || count > WIDTHS_MAX {
            return Err(at.corrupt(format!("1 to {WIDTHS_MAX} widths"), count.to_string()));
        }
        let mut widths: Vec<i64> = Vec::with_capacity(count);
        for _ in 0..count {
            let at = input.clone();
            let width = input.varint()?;
            match i64::try_from(width) {
                Ok(width) if width > widths.last().copied().unwrap_or(0) => widths.push(width),
                _ => return Err(at.corrupt("widths in order", width.to_string())),
            }
        }
        let count = input.count(PLACE_BYTES_MIN)?;
        let (mut chunks, mut offset) = (Vec::with_capacity(count), HEADER_BYTES as u64);
        let mut last_of = vec![0u64; widths.len()];
        for _ in 0..count {
            let at = input.clone();
            let (width, buckets, first, more) = (input.u8()?, input.varint()?, input.varint()?, input.varint()?);
            let mut part = || -> Result<Part> {
                let at = input.clone();
                let (len, crc) = (input.varint()?, input.u32()?);
                let len = u32::try_from(len).map_err(|_| at.corrupt("a length of 32 bits", len.to_string()))?;
                Ok(Part { len, crc })
            };
            let (statistics, sketches) = (part()?, part()?);
            let sound = |last: &u64| buckets > 0 && buckets <= CHUNK_BUCKETS_MAX as u64 && first >= *last;
            let (Some(last), true) = (first.checked_add(more), last_of.get(usize::from(width)).is_some_and(sound))
            else {
                return Err(at.corrupt("places of chunks in order", format!("{buckets} buckets from series {first}")));
            };
            last_of[usize::from(width)] = last;
            let (first, last) = (SeriesId(first), SeriesId(last));
            chunks.push(ChunkPlace { offset, width, buckets: buckets as u32, first, last, statistics, sketches });
            offset += u64::from(statistics.len) + u64::from(sketches.len);
        }
        if offset != footer_at {
            return Err(input.corrupt(format!("chunks up to the footer at {footer_at}"), format!("up to {offset}")));
        }
        Ok(Self { segment, widths, chunks })
    }
}
