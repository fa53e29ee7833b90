//! Builds a segment file from rows in (series, ts) order.
use std::path::{Path, PathBuf};

use crate::codec::{Effort, Packer, ROWS_MAX};
use crate::error::{Error, Result};
use crate::format::crc32c;
use crate::format::frame::HEADER_BYTES;
use crate::fs::{File, Fs};
use crate::types::{Lsn, SeriesId};

use super::SegmentMeta;
use super::block::BlockBuilder;
use super::footer::{FRAME, Footer, Page, SeriesRuns};
use super::timeline::{self, TimelineTable};

/// Encoded bytes are handed to the file in pieces of about this size.
const WRITE_BYTES: usize = 256 << 10;

/// A segment being written. Dropping it unfinished leaves a file without a trailer, which no reader accepts: the caller
/// removes it.
pub(crate) struct SegmentWriter {
    path: PathBuf,
    file: Box<dyn File>,
    footer: Footer,
    packer: Packer,
    builder: BlockBuilder,
    timelines: TimelineTable,
    pending: Vec<u8>,
    bytes: u64,
    rows: u64,
    last: Option<(SeriesId, i64)>,
}

impl SegmentWriter {
    /// Creates the file `path`, which must not exist, for rows of `partition` from the commits `lsns`. Level 0 is encoded
    /// quickly, higher levels thoroughly.
    ///
    /// # Errors
    /// `Io`, or `Unavailable` without memory for a compression context.
    pub(crate) fn create(fs: &dyn Fs, path: &Path, partition: i64, level: u8, lsns: (Lsn, Lsn)) -> Result<Self> {
        let effort = if level == 0 { Effort::Quick } else { Effort::Thorough };
        Ok(Self {
            packer: Packer::new(effort)?,
            file: fs.create(path)?,
            path: path.to_owned(),
            footer: Footer {
                partition,
                level,
                min_lsn: lsns.0,
                max_lsn: lsns.1,
                span_bytes: 0,
                pages: Vec::new(),
                blocks: Vec::new(),
                series: SeriesRuns::default(),
            },
            builder: BlockBuilder::default(),
            timelines: TimelineTable::new(timeline::BYTES_MAX),
            pending: FRAME.header(partition, level).to_vec(),
            bytes: HEADER_BYTES as u64,
            rows: 0,
            last: None,
        })
    }

    /// Looks for timestamps that series share among those that fit into `bytes_max` of memory.
    pub(crate) fn with_timelines(mut self, bytes_max: usize) -> Self {
        self.timelines = TimelineTable::new(bytes_max);
        self
    }

    /// Adds rows of `series`, which come after all rows added before: larger series, or the same with larger timestamps.
    ///
    /// # Errors
    /// `Invalid` for rows out of order, `Io`.
    pub(crate) fn append(&mut self, series: SeriesId, mut ts: &[i64], mut values: &[f64]) -> Result<()> {
        let (Some(&first_ts), Some(&last_ts)) = (ts.first(), ts.last()) else { return Ok(()) };
        let follows = self.last.is_none_or(|last| last < (series, first_ts));
        if !follows || ts.len() != values.len() || !ts.is_sorted_by(|a, b| a < b) {
            return Err(Error::Invalid(format!(
                "{}: rows of series {} from {first_ts} are not in order; sort and deduplicate them first",
                self.path.display(),
                series.0
            )));
        }
        // The values of another metric are of another kind: together they would compress less, and a query for one metric
        // would decode both. So small metrics share a block, and one that fills half of it does not.
        let same_metric = self.last.is_none_or(|(last, _)| last.metric() == series.metric());
        if !same_metric && self.builder.rows() >= ROWS_MAX / 2 {
            self.cut()?;
        }
        self.last = Some((series, last_ts));
        self.rows += ts.len() as u64;
        self.footer.series.push(series);
        while !ts.is_empty() {
            let room = ROWS_MAX - self.builder.rows();
            // A series is only split over blocks when it would leave a block less than half full, or is longer than one.
            if ts.len() > room && self.builder.rows() >= ROWS_MAX / 2 {
                self.cut()?;
                continue;
            }
            let n = ts.len().min(room);
            self.builder.push(series, &ts[..n], &values[..n]);
            (ts, values) = (&ts[n..], &values[n..]);
            if self.builder.rows() == ROWS_MAX {
                self.cut()?;
            }
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<()> {
        let start = self.pending.len();
        let encoded = self.builder.finish(&mut self.packer, &mut self.timelines, &mut self.pending);
        let mut zone = encoded.zone;
        let block = &self.pending[start..];
        zone.offset = self.bytes;
        zone.len = block.len() as u32;
        zone.crc = crc32c(block);
        self.bytes += block.len() as u64;
        self.footer.span_bytes += encoded.span_bytes;
        self.footer.blocks.push(zone);
        self.append_pages();
        if self.pending.len() >= WRITE_BYTES {
            self.file.append(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }

    /// Appends the pages that are full after the blocks so far.
    fn append_pages(&mut self) {
        for page in self.timelines.take_sealed() {
            self.footer.pages.push(Page {
                offset: self.bytes,
                len: page.bytes.len() as u32,
                crc: crc32c(&page.bytes),
                first: self.footer.pages.last().map_or(0, |page| page.first + page.timelines),
                timelines: page.timelines,
                after: self.footer.blocks.len() as u32,
            });
            self.bytes += page.bytes.len() as u64;
            self.pending.extend_from_slice(&page.bytes);
        }
    }

    /// Writes what is left, footer and trailer.
    ///
    /// # Durability
    /// The file's bytes are synced; that its name survives is the caller's to sync.
    ///
    /// # Errors
    /// `Invalid` without any row, `Io`.
    pub(crate) fn finish(mut self) -> Result<SegmentMeta> {
        if self.rows == 0 {
            return Err(Error::Invalid(format!("{}: a segment needs a row", self.path.display())));
        }
        if self.builder.rows() > 0 {
            self.cut()?;
        }
        self.timelines.seal(&mut self.packer);
        self.append_pages();
        let before = self.pending.len();
        self.footer.encode(&mut self.pending)?;
        self.bytes += (self.pending.len() - before) as u64;
        self.file.append(&self.pending)?;
        self.file.sync()?;
        Ok(self.footer.meta(&self.path, self.bytes))
    }
}
