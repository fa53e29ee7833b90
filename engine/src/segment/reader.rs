//! Opens a segment file and checks each block before use.
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::format::{Reader, crc32c};
use crate::fs::{Fs, Mapped};

use super::footer::{Footer, SeriesRuns};
use super::{SegmentMeta, ZoneMap};

/// An open segment. Cheap to keep: the zone maps and series runs are in memory, blocks are read through the mapping.
pub(crate) struct Segment {
    path: PathBuf,
    meta: SegmentMeta,
    file: Mapped,
    blocks: Vec<ZoneMap>,
    series: SeriesRuns,
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
        let file = fs.map(path)?;
        let footer = Footer::decode(&file, path)?;
        let meta = footer.meta(path, file.len() as u64);
        Ok(Self { path: path.to_owned(), meta, file, blocks: footer.blocks, series: footer.series })
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

    /// Bytes of block `index`, checksum compared.
    pub(super) fn block_bytes(&self, index: usize) -> Result<&[u8]> {
        let zone = &self.blocks[index];
        let bytes = self.block_bytes_checked_before(index);
        let got = crc32c(bytes);
        if got == zone.crc {
            return Ok(bytes);
        }
        let at = Reader::new(bytes, &self.path, zone.offset);
        Err(at.corrupt(format!("crc {:08x} of {} bytes", zone.crc, zone.len), format!("{got:08x}")))
    }

    /// Bytes of block `index`, for a caller that has compared the checksum already. Opening made sure that the blocks
    /// end where the footer begins.
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
