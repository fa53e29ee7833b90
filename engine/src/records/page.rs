//! Sorted rows of one source, and where their columns are.
//!
//! A source is a segment, read a group at a time, or everything in memory that a scan wants. Its rows come as pages of
//! [`Row`]s in (series, ts) order, without duplicates by the table's rule; a row names the [`Block`] that has its columns,
//! which are decoded when the row is used.
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, new_null_array};
use arrow::datatypes::{FieldRef, Fields};
use hashbrown::HashSet;

use crate::error::Result;
use crate::types::{SeriesId, TimeRange};

use super::row::hash_row;
use super::size::bytes_of;
use super::{ColumnDecoder, LiveRecords, Records, Unique};

/// Which rows are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Sorted; `None` wants all.
    pub(crate) series: Option<Vec<SeriesId>>,
    pub(crate) range: TimeRange,
}

impl Filter {
    /// Every row.
    pub(crate) const ALL: Self = Self { series: None, range: TimeRange::ALL };

    /// Whether a row of the series `first` to `last` between the two instants can be wanted.
    fn may_want(&self, first: SeriesId, last: SeriesId, min_ts: i64, max_ts: i64) -> bool {
        let within = TimeRange { start: min_ts, end: max_ts }.overlaps(self.range);
        within
            && self.series.as_ref().is_none_or(|ids| {
                let at = ids.partition_point(|id| *id < first);
                ids.get(at).is_some_and(|id| *id <= last)
            })
    }

    /// Calls `f` with the index of each wanted row.
    fn each(&self, series: &[u64], ts: &[i64], mut f: impl FnMut(usize)) {
        // Neighbours mostly are of one series.
        let mut last = None;
        for (row, (&id, &at)) in series.iter().zip(ts).enumerate() {
            let wanted = match (&self.series, last) {
                (None, _) => true,
                (_, Some((known, wanted))) if known == id => wanted,
                (Some(ids), _) => ids.binary_search(&SeriesId(id)).is_ok(),
            };
            last = Some((id, wanted));
            if wanted && self.range.contains(at) {
                f(row);
            }
        }
    }
}

/// A row: its key and where its columns are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) series: u64,
    pub(super) ts: i64,
    /// Number of the block among those of its page.
    pub(super) block: u32,
    pub(super) row: u32,
}

impl Row {
    pub(super) fn key(&self) -> (u64, i64) {
        (self.series, self.ts)
    }
}

enum Origin {
    Memory(Arc<Records>),
    Group(Arc<LiveRecords>, usize),
}

/// Rows whose columns are kept together.
pub(super) struct Block {
    origin: Origin,
    /// The columns that a merge wants, once one of its rows was used.
    wanted: OnceLock<Vec<ArrayRef>>,
    /// Every column by name, once a row had to be compared.
    whole: OnceLock<Vec<(FieldRef, ArrayRef)>>,
}

impl Block {
    fn new(origin: Origin) -> Arc<Self> {
        Arc::new(Self { origin, wanted: OnceLock::new(), whole: OnceLock::new() })
    }

    /// Whether its columns take memory of their own.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.origin, Origin::Group(..))
    }

    /// The columns called as `fields`, NULL where it has none. All calls must want the same.
    pub(super) fn wanted(&self, fields: &Fields, decoder: &mut ColumnDecoder) -> Result<&[ArrayRef]> {
        if let Some(wanted) = self.wanted.get() {
            return Ok(wanted);
        }
        let mut columns = Vec::with_capacity(fields.len());
        for field in fields {
            let (column, rows) = match &self.origin {
                Origin::Memory(records) => {
                    (records.columns.column_by_name(field.name()).map(Arc::clone), records.len())
                }
                Origin::Group(live, group) => {
                    let column = live.segment.columns().index_of(field.name()).ok();
                    let column = column.map(|column| live.segment.column(*group, column, decoder)).transpose()?;
                    (column, live.segment.zone(*group).0)
                }
            };
            columns.push(column.unwrap_or_else(|| new_null_array(field.data_type(), rows)));
        }
        Ok(self.wanted.get_or_init(|| columns))
    }

    /// Memory that the wanted columns of one row take, about.
    pub(super) fn row_bytes(&self, fields: &Fields, decoder: &mut ColumnDecoder) -> Result<usize> {
        let rows = match &self.origin {
            Origin::Memory(records) => records.len(),
            Origin::Group(live, group) => live.segment.zone(*group).0,
        };
        let bytes: usize = self.wanted(fields, decoder)?.iter().map(|column| bytes_of(column)).sum();
        Ok(16 + bytes / rows.max(1))
    }

    /// What tells a row from others with its key.
    pub(super) fn hash(&self, row: u32, decoder: &mut ColumnDecoder, scratch: &mut Vec<u8>) -> Result<u128> {
        if let Some(whole) = self.whole.get() {
            return Ok(hash_row(whole, row as usize, scratch));
        }
        let mut whole: Vec<(FieldRef, ArrayRef)> = Vec::new();
        match &self.origin {
            Origin::Memory(records) => {
                let columns = records.columns.columns().iter().map(Arc::clone);
                whole.extend(records.columns.schema_ref().fields().iter().map(Arc::clone).zip(columns));
                whole.sort_unstable_by(|a, b| a.0.name().cmp(b.0.name()));
            }
            Origin::Group(live, group) => {
                for (column, field) in live.segment.columns().fields().iter().enumerate() {
                    whole.push((Arc::clone(field), live.segment.column(*group, column, decoder)?));
                }
            }
        }
        Ok(hash_row(self.whole.get_or_init(|| whole), row as usize, scratch))
    }
}

/// Rows in memory, sorted, without duplicates.
pub(crate) struct Memory {
    rows: Vec<Row>,
    blocks: Arc<[Arc<Block>]>,
}

impl Memory {
    /// The wanted rows of `batches`, oldest first, of one table.
    pub(crate) fn new(batches: &[Arc<Records>], filter: &Filter) -> Result<Self> {
        let mut all = Self::split(batches, filter, |_| 0)?;
        Ok(all.pop().map_or(Self { rows: Vec::new(), blocks: Arc::new([]) }, |(_, memory)| memory))
    }

    /// As [`Memory::new`], apart for each partition, in order.
    pub(crate) fn split(
        batches: &[Arc<Records>],
        filter: &Filter,
        partition_of: impl Fn(i64) -> i64,
    ) -> Result<Vec<(i64, Self)>> {
        let mut rows = Vec::new();
        for (block, records) in batches.iter().enumerate() {
            let series: Vec<u64> = records.series.iter().map(|id| id.0).collect();
            filter.each(&series, &records.ts, |row| {
                rows.push(Row { series: series[row], ts: records.ts[row], block: block as u32, row: row as u32 });
            });
        }
        // Block and row last: of equal keys the older stands first.
        rows.sort_unstable_by_key(|row| (partition_of(row.ts), row.series, row.ts, row.block, row.row));
        let unique = batches.first().map_or(Unique::WholeRow, |records| records.table.unique());
        let (mut split, mut decoder) = (Vec::new(), ColumnDecoder::new()?);
        for rows in rows.chunk_by(|a, b| partition_of(a.ts) == partition_of(b.ts)) {
            let partition = partition_of(rows[0].ts);
            // Blocks of its own: another partition may want other columns of the same batch.
            let (rows, blocks) = with_own_blocks(rows, batches);
            let rows = without_duplicates(&rows, &blocks, unique, &mut decoder)?;
            split.push((partition, Self { rows, blocks }));
        }
        Ok(split)
    }

    /// Distinct series, increasing.
    pub(crate) fn series(&self) -> Vec<SeriesId> {
        let mut ids: Vec<SeriesId> = self.rows.iter().map(|row| SeriesId(row.series)).collect();
        ids.dedup();
        ids
    }

    /// Every column of the batches that have a row here, by name.
    pub(crate) fn columns(&self) -> Vec<FieldRef> {
        let mut fields: Vec<FieldRef> = Vec::new();
        for block in self.blocks.iter() {
            if let Origin::Memory(records) = &block.origin {
                for field in records.columns.schema_ref().fields() {
                    let at = fields.binary_search_by(|known| known.name().cmp(field.name()));
                    if let Err(at) = at {
                        fields.insert(at, Arc::clone(field));
                    }
                }
            }
        }
        fields
    }
}

/// `rows`, whose blocks are numbers of `batches`, with the blocks that they need.
fn with_own_blocks(rows: &[Row], batches: &[Arc<Records>]) -> (Vec<Row>, Arc<[Arc<Block>]>) {
    let (mut numbers, mut blocks) = (vec![None; batches.len()], Vec::new());
    let renumber = |row: &Row| {
        let batch = row.block as usize;
        let block = *numbers[batch].get_or_insert_with(|| {
            blocks.push(Block::new(Origin::Memory(Arc::clone(&batches[batch]))));
            blocks.len() as u32 - 1
        });
        Row { block, ..*row }
    };
    (rows.iter().map(renumber).collect(), blocks.into())
}

/// Of each instant the newest row, or of equal rows the first. Ties are rare: only they are compared.
fn without_duplicates(
    rows: &[Row],
    blocks: &[Arc<Block>],
    unique: Unique,
    decoder: &mut ColumnDecoder,
) -> Result<Vec<Row>> {
    let (mut kept, mut scratch) = (Vec::with_capacity(rows.len()), Vec::new());
    for same in rows.chunk_by(|a, b| a.key() == b.key()) {
        match (same, unique) {
            ([row], _) | ([.., row], Unique::PerInstant) => kept.push(*row),
            (same, Unique::WholeRow) => {
                let mut seen = HashSet::with_capacity(same.len());
                for row in same {
                    if seen.insert(blocks[row.block as usize].hash(row.row, decoder, &mut scratch)?) {
                        kept.push(*row);
                    }
                }
            }
            ([], _) => {}
        }
    }
    Ok(kept)
}

/// Where rows come from.
pub(crate) enum Source {
    /// A file.
    Segment(Arc<LiveRecords>),
    /// What is not flushed.
    Memory(Memory),
}

/// A position in a source.
pub(super) struct Cursor {
    page: Vec<Row>,
    at: usize,
    blocks: Arc<[Arc<Block>]>,
    /// The segment, and the next of its groups.
    rest: Option<(Arc<LiveRecords>, usize)>,
}

impl Cursor {
    /// The first wanted row of `source`; `None` when there is none.
    pub(super) fn new(source: Source, filter: &Filter, decoder: &mut ColumnDecoder) -> Result<Option<Self>> {
        let mut cursor = match source {
            Source::Memory(memory) => Self { page: memory.rows, at: 0, blocks: memory.blocks, rest: None },
            Source::Segment(live) => Self { page: Vec::new(), at: 0, blocks: Arc::new([]), rest: Some((live, 0)) },
        };
        Ok(cursor.settle(filter, decoder)?.then_some(cursor))
    }

    /// Loads groups until there is a row; `false` at the end of the source.
    fn settle(&mut self, filter: &Filter, decoder: &mut ColumnDecoder) -> Result<bool> {
        while self.at == self.page.len() {
            let Some((live, next)) = &mut self.rest else { return Ok(false) };
            if *next == live.segment.groups() {
                return Ok(false);
            }
            let group = *next;
            *next += 1;
            let (_, first, last, min_ts, max_ts) = live.segment.zone(group);
            if !filter.may_want(first, last, min_ts, max_ts) {
                continue;
            }
            let (series, ts) = live.segment.keys(group, decoder)?;
            self.page.clear();
            self.at = 0;
            let page = &mut self.page;
            filter.each(&series, &ts, |row| {
                page.push(Row { series: series[row], ts: ts[row], block: 0, row: row as u32 });
            });
            self.blocks = Arc::new([Block::new(Origin::Group(Arc::clone(live), group))]);
        }
        Ok(true)
    }

    /// The rows that are loaded, at least one.
    pub(super) fn rows(&self) -> &[Row] {
        &self.page[self.at..]
    }

    /// The block of one of [`Cursor::rows`].
    pub(super) fn block(&self, row: &Row) -> &Arc<Block> {
        &self.blocks[row.block as usize]
    }

    /// Moves on by `n` rows; `false` at the end of the source.
    pub(super) fn advance(&mut self, n: usize, filter: &Filter, decoder: &mut ColumnDecoder) -> Result<bool> {
        self.at += n;
        self.settle(filter, decoder)
    }
}
