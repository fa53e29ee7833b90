//! Opens a segment file and checks each block before use.
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Result;
use crate::format::{Reader, crc32c};
use crate::fs::{Fs, Mapped};
use crate::rollup::Rollup;

use super::footer::{ColumnBytes, Footer, Page, SeriesRuns};
use super::{SegmentMeta, ZoneMap};

/// Segments opened so far by this process.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// An open segment. Cheap to keep: zone maps, places of pages and series runs are in memory, blocks and pages are read
/// through the mapping.
pub(crate) struct Segment {
    path: PathBuf,
    meta: SegmentMeta,
    file: Mapped,
    number: u64,
    pages: Vec<Page>,
    blocks: Vec<ZoneMap>,
    series: SeriesRuns,
    columns: ColumnBytes,
    rollup: OnceLock<Option<Rollup>>,
}

impl Segment {
    /// Opens the file `path` and compares it with what the manifest says of it.
    ///
    /// # Errors
    /// `Io`; `Corruption` with path and offset when header, footer or trailer are damaged or are another segment's.
    pub(crate) fn open(fs: &dyn Fs, path: &Path, meta: &SegmentMeta) -> Result<Self> {
        let mut this = Self::open_unlisted(fs, path)?;
        let found = SegmentMeta { file: meta.file.clone(), applied: meta.applied, ..this.meta.clone() };
        if found != *meta {
            let at = Reader::new(&this.file, path, 0);
            return Err(at.corrupt(format!("{meta:?}, as the manifest says"), format!("{found:?}")));
        }
        this.meta = found;
        Ok(this)
    }

    /// Opens the file `path` whatever it holds, for a check or a repair.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub(crate) fn open_unlisted(fs: &dyn Fs, path: &Path) -> Result<Self> {
        Self::open_with(fs, path, Footer::decode)
    }

    /// As [`Segment::open_unlisted`], whatever the header says: the footer says it again.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub(crate) fn open_by_footer(fs: &dyn Fs, path: &Path) -> Result<Self> {
        Self::open_with(fs, path, Footer::decode_tail)
    }

    fn open_with(fs: &dyn Fs, path: &Path, decode: fn(&[u8], &Path) -> Result<Footer>) -> Result<Self> {
        let file = fs.map(path)?;
        let footer = decode(&file, path)?;
        let meta = footer.meta(path, file.len() as u64);
        Ok(Self {
            path: path.to_owned(),
            meta,
            number: OPENED.fetch_add(1, Ordering::Relaxed),
            columns: footer.columns(file.len() as u64),
            file,
            pages: footer.pages,
            blocks: footer.blocks,
            series: footer.series,
            rollup: OnceLock::new(),
        })
    }

    /// What the manifest keeps of it.
    pub(crate) fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Zone map of each block, in row order.
    pub(crate) fn blocks(&self) -> &[ZoneMap] {
        &self.blocks
    }

    /// The distinct series.
    pub(crate) fn series(&self) -> &SeriesRuns {
        &self.series
    }

    /// Its rows summed up, if somebody did that. As they never change, it may come at any time.
    pub(crate) fn rollup(&self) -> Option<&Rollup> {
        self.rollup.get()?.as_ref()
    }

    /// Whether it is settled what [`Segment::rollup`] answers.
    pub(crate) fn is_rolled_up(&self) -> bool {
        self.rollup.get().is_some()
    }

    /// Settles that; a second time changes nothing.
    pub(crate) fn set_rollup(&self, rollup: Option<Rollup>) {
        let _ = self.rollup.set(rollup);
    }

    /// What the file's bytes are for.
    pub(crate) fn columns(&self) -> ColumnBytes {
        self.columns
    }

    /// Tells the segments that this process has open apart.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The pages of timelines.
    pub(super) fn pages(&self) -> &[Page] {
        &self.pages
    }

    /// Number of timelines.
    pub(super) fn timelines(&self) -> u32 {
        self.pages.last().map_or(0, |page| page.first + page.timelines)
    }

    /// Where timeline number `timeline`, of as many as there are, stands: its page, and which of the page's it is.
    pub(super) fn page_of(&self, timeline: u32) -> (usize, usize) {
        let page = self.pages.partition_point(|page| page.first <= timeline) - 1;
        (page, (timeline - self.pages[page].first) as usize)
    }

    /// Bytes of page `index`, checksum compared.
    pub(super) fn page_bytes(&self, index: usize) -> Result<&[u8]> {
        let page = &self.pages[index];
        self.checked(page.offset, page.len, page.crc)
    }

    /// Bytes of block `index`, checksum compared.
    pub(super) fn block_bytes(&self, index: usize) -> Result<&[u8]> {
        let zone = &self.blocks[index];
        self.checked(zone.offset, zone.len, zone.crc)
    }

    fn checked(&self, offset: u64, len: u32, crc: u32) -> Result<&[u8]> {
        let bytes = &self.file[offset as usize..offset as usize + len as usize];
        let got = crc32c(bytes);
        if got == crc {
            return Ok(bytes);
        }
        let at = Reader::new(bytes, &self.path, offset);
        Err(at.corrupt(format!("crc {crc:08x} of {len} bytes"), format!("{got:08x}")))
    }

    /// Bytes of block `index`, for a caller that has compared the checksum already. Opening made sure that blocks and
    /// pages fill the file up to the footer.
    pub(super) fn block_bytes_checked_before(&self, index: usize) -> &[u8] {
        let zone = &self.blocks[index];
        &self.file[zone.offset as usize..zone.offset as usize + zone.len as usize]
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Segment({:?})", self.meta)
    }
}
