//! Merges sources into sorted batches without duplicates: what scans, flushes and compactions all do.
//!
//! The cursor with the lowest key gives its rows up to the next cursor's key. Only where two cursors stand at the same
//! (series, ts) the table's rule is asked: the newest row, or each distinct row once, told apart by a 128-bit hash of the
//! whole row.
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, UInt64Array};
use arrow::compute::{concat, interleave};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use hashbrown::{HashMap, HashSet};

use crate::error::Result;

use super::batch::unexpected;
use super::page::{Block, Cursor, Filter, Row, Source};
use super::{ColumnDecoder, SERIES_COLUMN, TS_COLUMN, Unique};

/// Bytes of groups whose columns one batch may hold on to, besides one group of each source.
const HELD_BYTES_MAX: usize = 32 << 20;
/// Bytes of the key of a row.
const ROW_BYTES: usize = 16;
/// A batch ends at about this many bytes.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Rows that lie together in their blocks are copied together if so many do on average.
const RUN_ROWS_MIN: usize = 16;

/// See the module.
pub(crate) struct Merge {
    unique: Unique,
    filter: Filter,
    /// Oldest first.
    cursors: Vec<Cursor>,
    /// Series, ts, then the wanted columns.
    schema: SchemaRef,
    wanted: Fields,
    decoder: ColumnDecoder,
    rows_target: usize,
    /// The key at which cursors met, and the rows given of it.
    met: Option<(u64, i64)>,
    seen: HashSet<u128>,
    scratch: Vec<u8>,
    hidden_rows: u64,
}

impl Merge {
    /// Merges the rows of `sources` (oldest first) that `filter` wants, with the columns `wanted`.
    ///
    /// # Errors
    /// `Corruption`, or `Unavailable` without memory for a decompression context.
    pub(crate) fn new(
        sources: impl IntoIterator<Item = Source>,
        filter: Filter,
        wanted: Vec<FieldRef>,
        unique: Unique,
        rows_target: usize,
    ) -> Result<Self> {
        let mut decoder = ColumnDecoder::default();
        let mut cursors = Vec::new();
        let mut hidden_rows = 0;
        for source in sources {
            let mut cursor = Cursor::new(source);
            if cursor.advance(0, &filter, &mut decoder)? {
                cursors.push(cursor);
            } else {
                hidden_rows += cursor.hidden_rows();
            }
        }
        let wanted: Fields = wanted
            .into_iter()
            .map(|field| if field.is_nullable() { field } else { Arc::new(Field::clone(&field).with_nullable(true)) })
            .collect();
        let keys = [Field::new(SERIES_COLUMN, DataType::UInt64, false), Field::new(TS_COLUMN, DataType::Int64, false)];
        let fields = keys.into_iter().map(Arc::new).chain(wanted.iter().map(Arc::clone));
        Ok(Self {
            unique,
            filter,
            cursors,
            schema: Arc::new(Schema::new(fields.collect::<Fields>())),
            wanted,
            decoder,
            rows_target: rows_target.max(1),
            met: None,
            seen: HashSet::new(),
            scratch: Vec::new(),
            hidden_rows,
        })
    }

    /// Memory that its cursors hold, about.
    pub(crate) fn bytes(&self) -> usize {
        self.cursors.iter().map(Cursor::bytes).sum()
    }

    /// After the last batch: how many rows were passed because they are deleted.
    pub(crate) fn hidden_rows(&self) -> u64 {
        self.hidden_rows
    }

    /// Of every batch.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// `Corruption` with path and offset: never a partial answer without an error.
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let mut output = Output::default();
        let has_room = |output: &Output| output.bytes < BATCH_BYTES_MAX && output.held_bytes < HELD_BYTES_MAX;
        while output.rows.len() < self.rows_target && has_room(&output) {
            let Some((lowest, bound)) = self.lowest() else { break };
            let key = self.cursors[lowest].rows()[0].key();
            if bound == Some(key) || self.met == Some(key) {
                self.take_met(lowest, key, &mut output)?;
                continue;
            }
            let cursor = &self.cursors[lowest];
            let room = self.rows_target - output.rows.len();
            let rows = cursor.rows();
            let before = bound.map_or(rows.len(), |bound| rows.partition_point(|row| row.key() < bound));
            let mut taken = 0;
            for row in &rows[..before.min(room)] {
                if output.bytes >= BATCH_BYTES_MAX {
                    break;
                }
                output.push(cursor.block(row), row, &self.wanted, &mut self.decoder)?;
                taken += 1;
            }
            self.advance(lowest, taken)?;
        }
        if output.rows.is_empty() {
            return Ok(None);
        }
        output.assemble(&self.schema, &self.wanted, &mut self.decoder).map(Some)
    }

    /// The cursor with the lowest key, of equal ones the oldest, and the lowest key of the others.
    fn lowest(&self) -> Option<(usize, Option<(u64, i64)>)> {
        let mut best: Option<(usize, (u64, i64))> = None;
        let mut bound: Option<(u64, i64)> = None;
        for (at, cursor) in self.cursors.iter().enumerate() {
            let key = cursor.rows()[0].key();
            match best {
                Some((_, lowest)) if key >= lowest => bound = Some(bound.map_or(key, |b| b.min(key))),
                _ => {
                    bound = best.map(|(_, lowest)| lowest);
                    best = Some((at, key));
                }
            }
        }
        best.map(|(at, _)| (at, bound))
    }

    /// Takes one row of `key`, where cursors meet or met.
    fn take_met(&mut self, lowest: usize, key: (u64, i64), output: &mut Output) -> Result<()> {
        let at_key = |cursor: &Cursor| cursor.rows()[0].key() == key;
        match self.unique {
            Unique::PerInstant => {
                let newest = self.cursors.iter().rposition(at_key).unwrap_or(lowest);
                let cursor = &self.cursors[newest];
                output.push(cursor.block(&cursor.rows()[0]), &cursor.rows()[0], &self.wanted, &mut self.decoder)?;
                for at in (0..self.cursors.len()).rev() {
                    if at_key(&self.cursors[at]) {
                        self.advance(at, 1)?;
                    }
                }
            }
            Unique::WholeRow => {
                if self.met != Some(key) {
                    self.met = Some(key);
                    self.seen.clear();
                }
                let cursor = &self.cursors[lowest];
                let row = &cursor.rows()[0];
                let hash = cursor.block(row).hash(row.row, &mut self.decoder, &mut self.scratch)?;
                if self.seen.insert(hash) {
                    output.push(cursor.block(row), row, &self.wanted, &mut self.decoder)?;
                }
                self.advance(lowest, 1)?;
            }
        }
        Ok(())
    }

    fn advance(&mut self, at: usize, rows: usize) -> Result<()> {
        if !self.cursors[at].advance(rows, &self.filter, &mut self.decoder)? {
            self.hidden_rows += self.cursors.remove(at).hidden_rows();
        }
        Ok(())
    }
}

/// Rows of a batch, before their columns are put together.
#[derive(Default)]
struct Output {
    rows: Vec<Row>,
    blocks: Vec<Arc<Block>>,
    /// Bytes of a row of each block.
    row_bytes: Vec<usize>,
    /// Number of each block, by its address; the blocks keep them alive.
    numbers: HashMap<*const Block, u32>,
    /// The last of these: neighbours mostly are of one block.
    last: Option<(*const Block, u32)>,
    /// Bytes of the blocks that were read from a file.
    held_bytes: usize,
    bytes: usize,
}

impl Output {
    fn push(&mut self, block: &Arc<Block>, row: &Row, wanted: &Fields, decoder: &mut ColumnDecoder) -> Result<()> {
        let address = Arc::as_ptr(block);
        let number = match self.last {
            Some((last, number)) if last == address => number,
            _ => self.number(block, wanted, decoder)?,
        };
        self.last = Some((address, number));
        self.bytes += self.row_bytes[number as usize];
        self.rows.push(Row { block: number, ..*row });
        Ok(())
    }

    fn number(&mut self, block: &Arc<Block>, wanted: &Fields, decoder: &mut ColumnDecoder) -> Result<u32> {
        if let Some(number) = self.numbers.get(&Arc::as_ptr(block)) {
            return Ok(*number);
        }
        let number = self.blocks.len() as u32;
        let (rows, bytes) = block.size(wanted, decoder)?;
        self.row_bytes.push(ROW_BYTES + bytes / rows.max(1));
        self.held_bytes += if block.is_read() { bytes } else { 0 };
        self.blocks.push(Arc::clone(block));
        self.numbers.insert(Arc::as_ptr(block), number);
        Ok(number)
    }

    fn assemble(&self, schema: &SchemaRef, wanted: &Fields, decoder: &mut ColumnDecoder) -> Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
        columns.push(Arc::new(UInt64Array::from_iter_values(self.rows.iter().map(|row| row.series))));
        columns.push(Arc::new(Int64Array::from_iter_values(self.rows.iter().map(|row| row.ts))));
        let runs = if wanted.is_empty() { Vec::new() } else { self.runs() };
        // Long runs are copied as they lie, one by itself is not even copied.
        let by_runs = runs.len() <= self.rows.len().div_ceil(RUN_ROWS_MIN);
        let places: Vec<(usize, usize)> = match by_runs {
            true => Vec::new(),
            false => self.rows.iter().map(|row| (row.block as usize, row.row as usize)).collect(),
        };
        for column in 0..wanted.len() {
            let mut arrays: Vec<&dyn Array> = Vec::with_capacity(self.blocks.len());
            for block in &self.blocks {
                arrays.push(&block.wanted(wanted, decoder)?[column]);
            }
            columns.push(if by_runs {
                let slices: Vec<ArrayRef> =
                    runs.iter().map(|(block, rows)| arrays[*block].slice(rows.start, rows.len())).collect();
                match slices.as_slice() {
                    [one] => Arc::clone(one),
                    slices => {
                        let slices: Vec<&dyn Array> = slices.iter().map(AsRef::as_ref).collect();
                        concat(&slices).map_err(|e| unexpected("a batch", &e))?
                    }
                }
            } else {
                interleave(&arrays, &places).map_err(|e| unexpected("a batch", &e))?
            });
        }
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| unexpected("a batch", &e))
    }

    /// Blocks, and rows that are neighbours in them, in the order of the batch.
    fn runs(&self) -> Vec<(usize, Range<usize>)> {
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for row in &self.rows {
            let (block, row) = (row.block as usize, row.row as usize);
            match runs.last_mut() {
                Some((last, rows)) if *last == block && rows.end == row => rows.end += 1,
                _ => runs.push((block, row..row + 1)),
            }
        }
        runs
    }
}
