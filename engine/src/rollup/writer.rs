//! Makes a rollup from the rows of a segment.
use std::path::Path;

use crate::codec::{Effort, Packer};
use crate::error::{Error, Result};
use crate::fs::{File, Fs};
use crate::segment::{Checker, Segment};
use crate::types::TimeRange;

use super::bucket::{Chunk, Summing};
use super::chunk::ChunkEncoder;
use super::footer::{ChunkPlace, Footer, HEADER_BYTES, Part, header};
use super::{RollupMeta, Rules, rules};

/// Encoded bytes are handed to the file in pieces of about this size.
const WRITE_BYTES: usize = 256 << 10;

struct Writer<'a> {
    file: Box<dyn File>,
    encoder: ChunkEncoder,
    widths: &'a [i64],
    footer: Footer,
    pending: Vec<u8>,
    bytes: u64,
}

impl Writer<'_> {
    fn push(&mut self, width: usize, chunk: &Chunk) -> Result<()> {
        let (Some(&first), Some(&last)) = (chunk.series.first(), chunk.series.last()) else { return Ok(()) };
        let start = self.pending.len();
        let sketches_at = self.encoder.encode(chunk, self.widths[width], &mut self.pending);
        self.footer.chunks.push(ChunkPlace {
            offset: self.bytes,
            width: width as u8,
            buckets: chunk.buckets.len() as u32,
            first,
            last,
            statistics: Part::of(&self.pending[start..sketches_at]),
            sketches: Part::of(&self.pending[sketches_at..]),
        });
        self.bytes += (self.pending.len() - start) as u64;
        if self.pending.len() >= WRITE_BYTES {
            self.file.append(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

/// Sums the rows of `segment` up into the file `path`, which takes the place of any other, for the metrics that `concerned`
/// knows by their ordinals. `None`, without a file, if there is none. Asks `go_on` after each block of rows.
///
/// # Durability
/// The file's bytes are synced; its name is the caller's to sync, and to publish.
///
/// # Errors
/// `Io`; `Corruption` of the segment; `Unavailable` once `go_on` answers no. An unfinished file is removed.
pub(crate) fn write(
    fs: &dyn Fs,
    segment: &Segment,
    path: &Path,
    rules: &Rules,
    concerned: &dyn Fn(u32) -> bool,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<RollupMeta>> {
    let metrics: Vec<u32> = rules::metrics_of(segment).into_iter().filter(|&metric| concerned(metric)).collect();
    if metrics.is_empty() {
        return Ok(None);
    }
    if fs.exists(path)? {
        fs.remove(path)?;
    }
    let written = write_new(fs, segment, path, &rules.widths, &metrics, go_on);
    if written.is_err() {
        // What went wrong is what the caller needs to hear; an orphan is removed at the next open.
        let _ = fs.remove(path);
    }
    written.map(Some)
}

fn write_new(
    fs: &dyn Fs,
    segment: &Segment,
    path: &Path,
    widths: &[i64],
    metrics: &[u32],
    go_on: &mut dyn FnMut() -> bool,
) -> Result<RollupMeta> {
    let meta = segment.meta();
    let mut writer = Writer {
        file: fs.create(path)?,
        encoder: ChunkEncoder::new(Packer::new(Effort::Thorough)?),
        widths,
        footer: Footer::of(meta, widths),
        pending: header().to_vec(),
        bytes: HEADER_BYTES as u64,
    };
    let mut summing = Summing::new(widths);
    let mut checker = Checker::new(segment, TimeRange::ALL);
    for index in 0..segment.blocks().len() {
        let zone = &segment.blocks()[index];
        let next = metrics.partition_point(|&metric| metric < zone.first.metric());
        let concerned = metrics.get(next).is_some_and(|&metric| metric <= zone.last.metric());
        if !concerned {
            continue;
        }
        checker.read(index)?;
        for (series, ts, values) in checker.rows() {
            if metrics.binary_search(&series.metric()).is_ok() {
                summing.push(series, ts, values, &mut |width, chunk| writer.push(width, chunk))?;
            }
        }
        if !go_on() {
            return Err(Error::Unavailable("summing rows up ends because the store is closing".into()));
        }
    }
    summing.finish(&mut |width, chunk| writer.push(width, chunk))?;
    let before = writer.pending.len();
    let crc = writer.footer.encode(&mut writer.pending)?;
    let bytes = writer.bytes + (writer.pending.len() - before) as u64;
    writer.file.append(&writer.pending)?;
    writer.file.sync()?;
    Ok(RollupMeta { partition: meta.partition, segment: meta.file.clone(), bytes, crc })
}
