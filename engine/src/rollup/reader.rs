//! Opens a rollup and checks each part of a chunk before use.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::codec::{Unpacker, ValuesDecoder};
use crate::error::{Error, Result};
use crate::format::{Reader, crc32c};
use crate::fs::{Fs, Mapped};
use crate::segment::SegmentMeta;
use crate::types::SeriesId;

use super::RollupMeta;
use super::bucket::Chunk;
use super::chunk::{decode, decode_sketches};
use super::footer::{ChunkPlace, Footer, Part};

/// An open rollup. In memory are the places of its chunks.
pub(crate) struct Rollup {
    path: PathBuf,
    file: Mapped,
    widths: Vec<i64>,
    /// By width, then by series and time.
    chunks: Vec<Vec<ChunkPlace>>,
    damaged: AtomicBool,
}

impl Rollup {
    /// Opens the file `path`, and compares it with what the manifest says of it and with its segment.
    ///
    /// # Errors
    /// `Io`; `Corruption` with path and offset when it is damaged, of another segment or not the one that was listed.
    pub(crate) fn open(fs: &dyn Fs, path: &Path, meta: &RollupMeta, segment: &SegmentMeta) -> Result<Self> {
        let file = fs.map(path)?;
        let (footer, crc) = Footer::decode(&file, path)?;
        let at = Reader::new(&file, path, 0);
        let found = (file.len() as u64, crc);
        if found != (meta.bytes, meta.crc) {
            let expected = format!("{} bytes, footer {:08x}, as the manifest says", meta.bytes, meta.crc);
            return Err(at.corrupt(expected, format!("{} bytes, footer {:08x}", found.0, found.1)));
        }
        if footer.segment != (segment.bytes, segment.rows) {
            let expected = format!("sums of a segment of {} bytes and {} rows", segment.bytes, segment.rows);
            return Err(at.corrupt(expected, format!("of {} bytes and {} rows", footer.segment.0, footer.segment.1)));
        }
        let mut chunks = vec![Vec::new(); footer.widths.len()];
        footer.chunks.into_iter().for_each(|place| chunks[usize::from(place.width)].push(place));
        let (path, widths, damaged) = (path.to_owned(), footer.widths, AtomicBool::new(false));
        Ok(Self { path, file, widths, chunks, damaged })
    }

    /// File size.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.len() as u64
    }

    /// The whole file, as it was opened.
    pub(crate) fn into_bytes(self) -> Mapped {
        self.file
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Offset of a chunk, or the size of the file if there is no such chunk.
    pub(super) fn offset_of(&self, width: usize, index: usize) -> u64 {
        self.chunks[width].get(index).map_or(self.bytes(), |place| place.offset)
    }

    /// Widths of buckets, ns, increasing.
    pub(crate) fn widths(&self) -> &[i64] {
        &self.widths
    }

    /// The widest buckets that lie each in one step of `step_ns`, counted from the epoch; `None` is one step of all time.
    pub(crate) fn width_for(&self, step_ns: Option<i64>) -> Option<usize> {
        self.widths.iter().rposition(|width| step_ns.is_none_or(|step| step % width == 0))
    }

    /// Number of chunks of a width.
    pub(crate) fn chunks(&self, width: usize) -> usize {
        self.chunks[width].len()
    }

    /// Index of the first chunk of a width that may have buckets of `id`.
    pub(crate) fn chunk_of(&self, width: usize, id: SeriesId) -> usize {
        self.chunks[width].partition_point(|place| place.last < id)
    }

    /// Whether chunk `index` of a width may have buckets of `id`.
    pub(crate) fn may_hold(&self, width: usize, index: usize, id: SeriesId) -> bool {
        self.chunks[width].get(index).is_some_and(|place| place.first <= id && id <= place.last)
    }

    /// Replaces `chunk` with chunk `index` of a width, checksums compared; its sketches only if they are wanted.
    ///
    /// # Errors
    /// `Corruption` with path and offset. The rows are in the segment all the same.
    pub(crate) fn load(
        &self,
        (unpacker, values): (&mut Unpacker, &mut ValuesDecoder),
        (width, index): (usize, usize),
        sketches: bool,
        chunk: &mut Chunk,
    ) -> Result<()> {
        let place = &self.chunks[width][index];
        let statistics = self.part(place.offset, place.statistics)?;
        decode((&mut *unpacker, values), statistics, place.buckets as usize, self.widths[width], chunk)?;
        if (chunk.series.first(), chunk.series.last()) != (Some(&place.first), Some(&place.last)) {
            let at = Reader::new(&[], &self.path, place.offset);
            let got = format!("{:?} to {:?}", chunk.series.first(), chunk.series.last());
            return Err(at.corrupt(format!("series {} to {}", place.first.0, place.last.0), got));
        }
        if sketches {
            let part = self.part(place.offset + u64::from(place.statistics.len), place.sketches)?;
            decode_sketches(unpacker, part, chunk)?;
        }
        Ok(())
    }

    /// Compares the checksum of every part.
    ///
    /// # Errors
    /// `Corruption` with path and offset of the first that is damaged.
    pub(crate) fn check_parts(&self) -> Result<()> {
        for place in self.chunks.iter().flatten() {
            self.part(place.offset, place.statistics)?;
            self.part(place.offset + u64::from(place.statistics.len), place.sketches)?;
        }
        Ok(())
    }

    /// Takes note of damage, and says once that rows are read in its stead.
    pub(crate) fn warn(&self, error: &Error) {
        if !self.damaged.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "a rollup is damaged: reading rows in its stead until it is made again");
        }
    }

    /// Whether somebody found damage inside.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// A reader of a part, checksum compared. Opening made sure that the chunks fill the file up to the footer.
    fn part(&self, offset: u64, part: Part) -> Result<Reader<'_>> {
        let bytes = &self.file[offset as usize..offset as usize + part.len as usize];
        let input = Reader::new(bytes, &self.path, offset);
        let found = crc32c(bytes);
        if found == part.crc {
            return Ok(input);
        }
        Err(input.corrupt(format!("crc {:08x} of {} bytes", part.crc, part.len), format!("{found:08x}")))
    }
}

impl std::fmt::Debug for Rollup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rollup({}, {:?} ns)", self.path.display(), self.widths)
    }
}
