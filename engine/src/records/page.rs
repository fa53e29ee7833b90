//! Sorted rows of one source, and where their columns are.
//!
//! A source is a segment, read a group at a time, or everything in memory that a scan wants. Its rows come as pages of
//! [`Row`]s in (series, ts) order, without duplicates by the table's rule; a row names the [`Block`] that has its columns,
//! which are decoded when the row is used.
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{FieldRef, Fields};
use hashbrown::HashSet;

use crate::error::Result;
use crate::tombstone::Hidden;
use crate::types::{SeriesId, TimeRange};

use super::row::hash_row;
use super::size::bytes_of;
use super::{ColumnDecoder, GroupZone, Hint, LiveRecords, Records, RowFilter, Unique};

/// Which rows are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Sorted; `None` wants all.
    pub(crate) series: Option<Vec<SeriesId>>,
    pub(crate) range: TimeRange,
    /// All hold for each row that is needed; others may come. Only of tables where equal rows are one: where the newest row of
    /// an instant wins, passing it over would show an older one.
    pub(crate) hints: Vec<Hint>,
    /// All hold for each row that comes.
    pub(crate) exact: Vec<RowFilter>,
}

/// Which rows of a group or batch satisfy the exact conditions.
enum Chosen {
    All,
    Some(BooleanBuffer),
    None,
}

impl Chosen {
    fn and(self, rows: Option<BooleanBuffer>) -> Self {
        match (self, rows) {
            (Self::None, _) | (_, None) => Self::None,
            (Self::All, Some(rows)) => Self::Some(rows),
            (Self::Some(chosen), Some(rows)) => Self::Some(&chosen & &rows),
        }
    }

    fn has(&self, row: usize) -> bool {
        match self {
            Self::All => true,
            Self::Some(rows) => rows.value(row),
            Self::None => false,
        }
    }
}

impl Filter {
    /// Every row.
    pub(crate) const ALL: Self = Self { series: None, range: TimeRange::ALL, hints: Vec::new(), exact: Vec::new() };

    /// Whether a row of a group can be wanted.
    fn may_want(&self, zone: &GroupZone) -> bool {
        zone.range.overlaps(self.range)
            && self.series.as_ref().is_none_or(|ids| {
                let at = ids.partition_point(|id| *id < zone.first);
                ids.get(at).is_some_and(|id| *id <= zone.last)
            })
    }

    /// The rows of `records` that satisfy the exact conditions.
    fn chosen_of(&self, records: &Records) -> Result<Chosen> {
        self.exact.iter().try_fold(Chosen::All, |chosen, condition| {
            let column = records.columns.column_by_name(condition.column());
            Ok(chosen.and(column.map(|column| condition.rows(column)).transpose()?))
        })
    }

    /// The rows of a group that satisfy the exact conditions.
    fn chosen_in(&self, live: &LiveRecords, group: usize, decoder: &mut ColumnDecoder) -> Result<Chosen> {
        let mut chosen = Chosen::All;
        for condition in &self.exact {
            chosen = chosen.and(live.segment.rows_with(group, condition, decoder)?);
            if matches!(chosen, Chosen::None) {
                break;
            }
        }
        Ok(match chosen {
            Chosen::Some(rows) if rows.count_set_bits() == 0 => Chosen::None,
            chosen => chosen,
        })
    }

    /// Calls `f` with the index of each wanted row that is not `hidden`; how many wanted ones are.
    fn each(&self, series: &[u64], ts: &[i64], hidden: &Hidden, chosen: &Chosen, mut f: impl FnMut(usize)) -> u64 {
        // Neighbours mostly are of one series.
        let (mut last, mut holes, mut gone) = (None, Vec::new(), 0);
        for (row, (&id, &at)) in series.iter().zip(ts).enumerate() {
            let wanted = match (&self.series, last) {
                (None, _) => true,
                (_, Some((known, wanted))) if known == id => wanted,
                (Some(ids), _) => ids.binary_search(&SeriesId(id)).is_ok(),
            };
            if !hidden.is_empty() && last.is_none_or(|(known, _)| known != id) {
                hidden.holes(SeriesId(id), &mut holes);
            }
            last = Some((id, wanted));
            if !wanted || !self.range.contains(at) || !chosen.has(row) {
                continue;
            }
            if holes.iter().any(|hole| hole.contains(at)) { gone += 1 } else { f(row) }
        }
        gone
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
    /// A group of a file, or some of its rows, increasing.
    Group(Arc<LiveRecords>, usize, Option<Vec<u32>>),
}

/// Of a group of which one row in so many is wanted, or fewer, the columns of other rows are not put together.
const FEW: usize = 16;

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

    fn rows(&self) -> usize {
        match &self.origin {
            Origin::Memory(records) => records.len(),
            Origin::Group(_, _, Some(some)) => some.len(),
            Origin::Group(live, group, None) => live.segment.zone(*group).rows,
        }
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
            let column = match &self.origin {
                Origin::Memory(records) => records.columns.column_by_name(field.name()).map(Arc::clone),
                Origin::Group(live, group, some) => {
                    let column = live.segment.columns().index_of(field.name()).ok();
                    column.map(|column| live.segment.column(*group, column, some.as_deref(), decoder)).transpose()?
                }
            };
            columns.push(column.unwrap_or_else(|| new_null_array(field.data_type(), self.rows())));
        }
        Ok(self.wanted.get_or_init(|| columns))
    }

    /// How many rows it has, and how much memory their wanted columns take, about.
    pub(super) fn size(&self, fields: &Fields, decoder: &mut ColumnDecoder) -> Result<(usize, usize)> {
        Ok((self.rows(), self.wanted(fields, decoder)?.iter().map(|column| bytes_of(column)).sum()))
    }

    /// Memory of the columns that were decoded so far, about.
    fn bytes_decoded(&self) -> usize {
        let wanted = self.wanted.get().into_iter().flatten().map(|column| bytes_of(column));
        wanted.chain(self.whole.get().into_iter().flatten().map(|(_, column)| bytes_of(column))).sum()
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
            Origin::Group(live, group, some) => {
                for (column, field) in live.segment.columns().fields().iter().enumerate() {
                    whole.push((Arc::clone(field), live.segment.column(*group, column, some.as_deref(), decoder)?));
                }
            }
        }
        Ok(hash_row(self.whole.get_or_init(|| whole), row as usize, scratch))
    }
}

/// A batch of a memtable, and which of its rows were deleted since.
#[derive(Clone)]
pub(crate) struct Recent {
    pub(crate) records: Arc<Records>,
    pub(crate) hidden: Hidden,
}

/// Rows in memory, sorted, without deleted ones and duplicates.
pub(crate) struct Memory {
    rows: Vec<Row>,
    blocks: Arc<[Arc<Block>]>,
}

/// Rows in memory, apart for each partition, in order.
pub(crate) struct Split {
    pub(crate) partitions: Vec<(i64, Memory)>,
    /// Rows left out because they are deleted.
    pub(crate) rows_deleted: u64,
}

impl Memory {
    /// The wanted rows of `batches`, oldest first, of one table.
    pub(crate) fn new(batches: &[Recent], filter: &Filter) -> Result<Self> {
        let mut all = Self::split(batches, filter, |_| 0)?.partitions;
        Ok(all.pop().map_or(Self { rows: Vec::new(), blocks: Arc::new([]) }, |(_, memory)| memory))
    }

    /// As [`Memory::new`], apart for each partition.
    pub(crate) fn split(batches: &[Recent], filter: &Filter, partition_of: impl Fn(i64) -> i64) -> Result<Split> {
        let (mut rows, mut rows_deleted) = (Vec::new(), 0);
        for (block, Recent { records, hidden }) in batches.iter().enumerate() {
            let series: Vec<u64> = records.series.iter().map(|id| id.0).collect();
            let chosen = filter.chosen_of(records)?;
            rows_deleted += filter.each(&series, &records.ts, hidden, &chosen, |row| {
                rows.push(Row { series: series[row], ts: records.ts[row], block: block as u32, row: row as u32 });
            });
        }
        // Block and row last: of equal keys the older stands first.
        rows.sort_unstable_by_key(|row| (partition_of(row.ts), row.series, row.ts, row.block, row.row));
        let unique = batches.first().map_or(Unique::WholeRow, |recent| recent.records.table.unique());
        let (mut partitions, mut decoder) = (Vec::new(), ColumnDecoder::default());
        for rows in rows.chunk_by(|a, b| partition_of(a.ts) == partition_of(b.ts)) {
            let partition = partition_of(rows[0].ts);
            // Blocks of its own: another partition may want other columns of the same batch.
            let (rows, blocks) = with_own_blocks(rows, batches);
            let rows = without_duplicates(&rows, &blocks, unique, &mut decoder)?;
            partitions.push((partition, Self { rows, blocks }));
        }
        Ok(Split { partitions, rows_deleted })
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
fn with_own_blocks(rows: &[Row], batches: &[Recent]) -> (Vec<Row>, Arc<[Arc<Block>]>) {
    let (mut numbers, mut blocks) = (vec![None; batches.len()], Vec::new());
    let renumber = |row: &Row| {
        let batch = row.block as usize;
        let block = *numbers[batch].get_or_insert_with(|| {
            blocks.push(Block::new(Origin::Memory(Arc::clone(&batches[batch].records))));
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
    /// A file, and which of its rows were deleted since.
    Segment(Arc<LiveRecords>, Hidden),
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
    hidden: Hidden,
    hidden_rows: u64,
}

impl Cursor {
    /// Before the first wanted row of `source`.
    pub(super) fn new(source: Source) -> Self {
        let (page, blocks, rest, hidden): (_, Arc<[Arc<Block>]>, _, _) = match source {
            Source::Memory(memory) => (memory.rows, memory.blocks, None, Hidden::default()),
            Source::Segment(live, hidden) => (Vec::new(), Arc::new([]), Some((live, 0)), hidden),
        };
        Self { page, at: 0, blocks, rest, hidden, hidden_rows: 0 }
    }

    /// Memory of its page and of the columns of its group, about.
    pub(super) fn bytes(&self) -> usize {
        let read = self.blocks.iter().filter(|block| block.is_read());
        self.page.capacity() * size_of::<Row>() + read.map(|block| block.bytes_decoded()).sum::<usize>()
    }

    /// Rows that were passed because they are deleted.
    pub(super) fn hidden_rows(&self) -> u64 {
        self.hidden_rows
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
            if !filter.may_want(&live.segment.zone(group)) {
                continue;
            }
            let mut may_satisfy = true;
            for hint in &filter.hints {
                may_satisfy = may_satisfy && live.segment.may_satisfy(group, hint)?;
            }
            if !may_satisfy {
                continue;
            }
            let chosen = filter.chosen_in(live, group, decoder)?;
            if matches!(chosen, Chosen::None) {
                continue;
            }
            let (series, ts) = live.segment.keys(group, decoder)?;
            self.page.clear();
            self.at = 0;
            let page = &mut self.page;
            self.hidden_rows += filter.each(&series, &ts, &self.hidden, &chosen, |row| {
                page.push(Row { series: series[row], ts: ts[row], block: 0, row: row as u32 });
            });
            let some = (self.page.len() * FEW <= series.len()).then(|| {
                let rows = self.page.iter_mut().zip(0..).map(|(row, place)| std::mem::replace(&mut row.row, place));
                rows.collect()
            });
            self.blocks = Arc::new([Block::new(Origin::Group(Arc::clone(live), group, some))]);
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
