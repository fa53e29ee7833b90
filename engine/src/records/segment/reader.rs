//! Opens a record segment and checks each chunk before use.
use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::format::{Reader, crc32c};
use crate::fs::{Fs, Mapped};
use crate::segment::ColumnBytes;
use crate::text::{fold, words};
use crate::types::{SeriesId, TimeRange};

use super::super::{ColumnDecoder, Hint, RowFilter, bloom};
use super::footer::{Chunk, Footer, GroupMeta};
use super::zone::Zone;
use super::{KEYS, RecordMeta, postings};

/// What the footer says of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupZone {
    pub(crate) rows: usize,
    /// Lowest and highest series.
    pub(crate) first: SeriesId,
    pub(crate) last: SeriesId,
    /// Earliest and latest instant.
    pub(crate) range: TimeRange,
    /// Where its chunks begin, and how long they are.
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl GroupZone {
    fn of(group: &GroupMeta) -> Self {
        Self {
            rows: group.rows as usize,
            first: group.first,
            last: group.last,
            range: TimeRange { start: group.min_ts, end: group.max_ts },
            offset: group.offset(),
            len: group.len(),
        }
    }
}

/// An open record segment: the footer is in memory, chunks are read through the mapping.
pub(crate) struct RecordSegment {
    path: PathBuf,
    meta: RecordMeta,
    file: Mapped,
    columns: SchemaRef,
    groups: Vec<GroupMeta>,
}

impl RecordSegment {
    /// Opens the file `path` and compares it with what the manifest says of it.
    ///
    /// # Errors
    /// `Io`; `Corruption` with path and offset when header, footer or trailer are damaged or are another file's.
    pub(crate) fn open(fs: &dyn Fs, path: &Path, meta: &RecordMeta) -> Result<Self> {
        let mut this = Self::open_with(fs, path, Footer::decode)?;
        this.meta.segment.applied = meta.segment.applied;
        if this.meta != *meta {
            let at = Reader::new(&this.file, path, 0);
            return Err(at.corrupt(format!("{meta:?}, as the manifest says"), format!("{:?}", this.meta)));
        }
        Ok(this)
    }

    /// Opens the file `path` whatever it holds and its header says, for a check or a repair: the footer says it again.
    ///
    /// # Errors
    /// As [`RecordSegment::open`].
    pub(crate) fn open_by_footer(fs: &dyn Fs, path: &Path) -> Result<Self> {
        Self::open_with(fs, path, Footer::decode_tail)
    }

    fn open_with(fs: &dyn Fs, path: &Path, decode: fn(&[u8], &Path) -> Result<Footer>) -> Result<Self> {
        let file = fs.map(path)?;
        let footer = decode(&file, path)?;
        let meta = footer.meta(path, file.len() as u64);
        Ok(Self { path: path.to_owned(), meta, file, columns: footer.columns, groups: footer.groups })
    }

    /// What the manifest keeps of it.
    pub(crate) fn meta(&self) -> &RecordMeta {
        &self.meta
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its columns by name, without series and ts.
    pub(crate) fn columns(&self) -> &SchemaRef {
        &self.columns
    }

    /// What is known of each group without reading it, in row order.
    pub(crate) fn zones(&self) -> impl ExactSizeIterator<Item = GroupZone> {
        self.groups.iter().map(GroupZone::of)
    }

    /// Number of groups.
    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// What is known of one of them.
    pub(crate) fn zone(&self, group: usize) -> GroupZone {
        GroupZone::of(&self.groups[group])
    }

    /// What the file's bytes are for.
    pub(crate) fn bytes(&self) -> ColumnBytes {
        let chunk = |number: usize| self.groups.iter().map(move |group| u64::from(group.chunks[number].len));
        let (series, ts) = (chunk(0).sum(), chunk(1).sum());
        let chunks: u64 = self.groups.iter().map(GroupMeta::len).sum();
        ColumnBytes { series, ts, values: chunks - series - ts, rest: self.meta.segment.bytes - chunks }
    }

    /// Series and timestamp of each row of a group, in order.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(crate) fn keys(&self, group: usize, decoder: &mut ColumnDecoder) -> Result<(Vec<u64>, Vec<i64>)> {
        let zone = &self.groups[group];
        let series = self.integers(group, 0, decoder)?.iter().map(|&id| id as u64).collect::<Vec<_>>();
        let ts = self.integers(group, 1, decoder)?;
        let ends = (series.first().copied(), series.last().copied());
        if ends != (Some(zone.first.0), Some(zone.last.0)) {
            let at = self.chunk(group, 0)?;
            return Err(at.corrupt(format!("series {} to {}", zone.first.0, zone.last.0), format!("{ends:?}")));
        }
        Ok((series, ts))
    }

    /// Whether a row of a group may satisfy `hint`; `true` when the file does not say.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(crate) fn may_satisfy(&self, group: usize, hint: &Hint) -> Result<bool> {
        let column = match hint {
            Hint::Any(hints) => {
                for hint in hints {
                    if self.may_satisfy(group, hint)? {
                        return Ok(true);
                    }
                }
                return Ok(false);
            }
            Hint::Present { column }
            | Hint::Within { column, .. }
            | Hint::Words { column, .. }
            | Hint::Value { column, .. } => column,
        };
        let Ok(column) = self.columns.index_of(column) else { return Ok(false) };
        let group = &self.groups[group];
        if group.chunks[column + KEYS].len == 0 {
            return Ok(false);
        }
        Ok(match (hint, &group.zones[column]) {
            (Hint::Within { low, high, .. }, Zone::Within { min, max }) => low <= max && high >= min,
            (Hint::Words { words, .. }, Zone::Words { filter, .. }) => {
                self.may_have(filter, words.iter().map(|word| bloom::hash(fold(word).as_bytes())))?
            }
            (Hint::Value { value, .. }, Zone::Values(filter)) => self.may_have(filter, [bloom::hash(value)])?,
            _ => true,
        })
    }

    /// Whether a group may have all `keys`, by its filter.
    fn may_have(&self, filter: &Chunk, keys: impl IntoIterator<Item = u128>) -> Result<bool> {
        let filter = self.checked(filter)?.1;
        Ok(keys.into_iter().all(|key| bloom::may_contain(filter, key)))
    }

    /// The rows of a group that satisfy `condition`; `None` if none does. Reads no text of a group whose filter or postings say it.
    ///
    /// # Errors
    /// `Invalid` for a column of another type; `Corruption` with path and offset.
    pub(crate) fn rows_with(
        &self,
        group: usize,
        condition: &RowFilter,
        decoder: &mut ColumnDecoder,
    ) -> Result<Option<BooleanBuffer>> {
        let Ok(column) = self.columns.index_of(condition.column()) else { return Ok(None) };
        let meta = &self.groups[group];
        if meta.chunks[column + KEYS].len == 0 {
            return Ok(None);
        }
        let zone = &meta.zones[column];
        let may_have = match (condition, zone) {
            (RowFilter::Words { words, .. }, Zone::Words { filter, .. }) if !words.folded().is_empty() => {
                self.may_have(filter, words.folded().iter().map(|word| bloom::hash(word.as_bytes())))?
            }
            (RowFilter::Value { value, .. }, Zone::Words { filter, .. }) => {
                let words = words(str::from_utf8(value).unwrap_or_default());
                self.may_have(filter, words.map(|word| bloom::hash(fold(word).as_bytes())))?
            }
            (RowFilter::Value { value, .. }, Zone::Values(filter)) => self.may_have(filter, [bloom::hash(value)])?,
            _ => true,
        };
        if !may_have {
            return Ok(None);
        }
        if let (RowFilter::Words { words, .. }, Zone::Words { postings: Some(place), .. }) = (condition, zone)
            && !words.folded().is_empty()
        {
            let (bytes, at) = (self.checked(place)?.1, (self.path.as_path(), place.offset));
            let rows = postings::rows_with(words, bytes, at, meta.rows as usize, decoder.unpacker())?;
            if rows.is_some() {
                return Ok(rows);
            }
        }
        let mut input = self.chunk(group, column + KEYS)?;
        let data_type = self.columns.field(column).data_type();
        decoder.rows_with(condition, &mut input, data_type, meta.rows as usize).map(Some)
    }

    /// Compares the filters and postings of a group with their checksums.
    ///
    /// # Errors
    /// `Corruption` with path and offset; the rows may be good.
    pub(crate) fn check_filters(&self, group: usize) -> Result<()> {
        self.groups[group].zones.iter().flat_map(Zone::places).try_for_each(|place| self.checked(place).map(drop))
    }

    fn integers(&self, group: usize, chunk: usize, decoder: &mut ColumnDecoder) -> Result<Vec<i64>> {
        let mut input = self.chunk(group, chunk)?;
        let at = input.clone();
        if input.u8()? != 0 {
            return Err(at.corrupt("a column without NULL", "one with"));
        }
        let integers = decoder.sequence(&mut input, self.groups[group].rows as usize)?.to_vec();
        input.finish()?;
        Ok(integers)
    }

    /// Column number `column` of [`RecordSegment::columns`] in a group, or `some` of its rows, increasing.
    ///
    /// # Errors
    /// `Corruption` with path and offset.
    pub(crate) fn column(
        &self,
        group: usize,
        column: usize,
        some: Option<&[u32]>,
        decoder: &mut ColumnDecoder,
    ) -> Result<ArrayRef> {
        let (rows, data_type) = (self.groups[group].rows as usize, self.columns.field(column).data_type());
        if self.groups[group].chunks[column + KEYS].len == 0 {
            return Ok(new_null_array(data_type, some.map_or(rows, <[u32]>::len)));
        }
        let mut input = self.chunk(group, column + KEYS)?;
        let array = decoder.decode_some(&mut input, data_type, rows, some)?;
        if some.is_none() {
            input.finish()?;
        }
        Ok(array)
    }

    /// The bytes of a chunk, checksum compared. Opening made sure that the chunks end where the footer begins.
    fn chunk(&self, group: usize, chunk: usize) -> Result<Reader<'_>> {
        self.checked(&self.groups[group].chunks[chunk]).map(|checked| checked.0)
    }

    fn checked(&self, chunk: &Chunk) -> Result<(Reader<'_>, &[u8])> {
        let bytes = &self.file[chunk.offset as usize..][..chunk.len as usize];
        let at = Reader::new(bytes, &self.path, chunk.offset);
        match crc32c(bytes) {
            got if got == chunk.crc => Ok((at, bytes)),
            got => Err(at.corrupt(format!("crc {:08x} of {} bytes", chunk.crc, chunk.len), format!("{got:08x}"))),
        }
    }
}
