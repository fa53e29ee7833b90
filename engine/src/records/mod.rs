//! Records: the engine's second kind of rows, (series, ts, typed columns), in named tables.
//!
//! Samples are one f64 each and live in `segment`. Whatever has more than one value or another type is a record: native
//! histograms and exemplars, log lines, spans. In memory a batch of records is Arrow; on disk each column of up to 8,192
//! rows is a chunk of its own, so that a scan decodes only the columns it was asked for.
//!
//! ```text
//!  WriteBatch ─► admit: limits, types ─► WAL ─► memtable: batches as they came
//!                                                  │ flush: sorted by (series, ts), one file per partition and table
//!                                                  ▼
//!  RecordScan ◄── merge: oldest first, duplicates removed ◄── record segments ◄── compaction: the same merge
//! ```
//! | module | owns |
//! |---|---|
//! | [`tables`] | which tables and columns there are; a column has one type in a store |
//! | [`kind`] | the types a column may have, and their bytes |
//! | [`column`] | one Arrow array to bytes and back |
//! | [`batch`] | a batch as the log keeps it |
//! | [`segment`] | immutable files of one partition and table |
//! | [`bloom`] | sets of words and of values, by which a scan passes groups over |
//! | [`hint`] | what it passes them over for |
//! | [`live`] | an open file that versions refer to |
//! | [`page`] | sorted rows of one source, and where their columns are |
//! | [`merge`] | sources into sorted batches without deleted rows and duplicates |
//! | [`execute`] | a merge into a new file |
//! | [`scan`] | what a snapshot answers |
//! | [`skeleton`] | texts as what is printed again and again, and the numbers in between |
//! | [`row`], [`size`] | whether two rows are equal; how large rows are |
//!
//! Invariants: sources are ordered by age, like those of samples; a source has no duplicates of its own; what a column
//! of a row holds comes back with its exact bits, and a column that a row's batch did not have is NULL.
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;

use crate::error::{Error, Result};
use crate::types::SeriesId;

mod batch;
mod bloom;
mod column;
mod execute;
mod hint;
mod kind;
mod live;
mod merge;
mod page;
mod row;
mod scan;
mod segment;
mod size;
mod tables;
#[cfg(test)]
mod tests;

use batch::unexpected;
pub(crate) use batch::{decode_records, encode_records, put_table, take_table};
pub(crate) use column::{ColumnDecoder, ColumnEncoder};
pub(crate) use execute::{Merged, Output, execute};
pub use hint::{Hint, RowFilter};
pub(crate) use live::LiveRecords;
pub(crate) use merge::Merge;
pub(crate) use page::{Filter, Memory, Recent, Source};
pub use row::{ENTRIES, ENTRY_PREFIX};
pub use scan::{RecordScan, RecordTableInfo};
pub(crate) use segment::{GroupZone, RecordChecker, RecordMeta, RecordSegment, RecordWriter};
pub(crate) use tables::{Tables, check};

/// Tables of a store.
pub const TABLES_MAX: usize = 64;
/// Bytes of a table's name.
pub const TABLE_NAME_BYTES_MAX: usize = 64;
/// Columns of a table.
pub const COLUMNS_MAX: usize = 1024;
/// Bytes of a column's name.
pub const COLUMN_NAME_BYTES_MAX: usize = 256;
/// Bytes of one value of a column, its nested values included.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Rows of one batch of records.
pub const BATCH_ROWS_MAX: usize = 1 << 22;
/// Bytes in memory of one batch of records.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// Lists, structs and maps inside one another.
pub const NESTING_MAX: usize = 8;

/// Leading columns of every scan; no other column may be called so.
pub(crate) const SERIES_COLUMN: &str = "series";
pub(crate) const TS_COLUMN: &str = "ts";

/// When two records of a series are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unique {
    /// Of equal (series, ts) the newest commit wins: histograms.
    PerInstant,
    /// Rows equal in series, ts and every column are one row, other rows of the same instant stay: exemplars, and log
    /// lines that are sent again. NULL and a missing column are equal; floats are compared by their bits.
    WholeRow,
}

/// The table that records belong to: a name and the rule of what is a duplicate, which never changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordTable {
    name: Arc<str>,
    unique: Unique,
}

impl RecordTable {
    /// The table `name`. Make it once and clone it: a clone shares the name.
    ///
    /// # Errors
    /// `Invalid` unless the name is 1 to 64 of `a-z`, `0-9` and `_`.
    pub fn new(name: &str, unique: Unique) -> Result<Self> {
        let fits = (1..=TABLE_NAME_BYTES_MAX).contains(&name.len());
        if !fits || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            return Err(Error::Invalid(format!(
                "{name:?} cannot name a table of records; use 1 to {TABLE_NAME_BYTES_MAX} of a-z, 0-9 and _"
            )));
        }
        Ok(Self { name: name.into(), unique })
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its rule.
    pub fn unique(&self) -> Unique {
        self.unique
    }
}

/// Rows of one table, in any order: row `i` is (`series[i]`, `ts[i]`, row `i` of `columns`).
#[derive(Clone, Debug)]
pub struct Records {
    /// Where they belong.
    pub table: RecordTable,
    /// Series of each row, from [`crate::Engine::resolve`].
    pub series: Vec<SeriesId>,
    /// Nanoseconds UTC.
    pub ts: Vec<i64>,
    /// The other columns, as many rows; each batch may have other columns. Types: booleans, integers, floats of 32 and 64
    /// bits, timestamps and durations in nanoseconds, `Utf8`, `Binary`, `FixedSizeBinary`, and `List`, `Struct` and `Map`
    /// of them. None may be called `series` or `ts`.
    pub columns: RecordBatch,
}

impl Records {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.series.len()
    }
    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }
    /// Its rows of `wanted` series.
    pub(crate) fn only(&self, wanted: impl Fn(&SeriesId) -> bool) -> Result<Self> {
        let mask: BooleanArray = self.series.iter().map(|id| Some(wanted(id))).collect();
        let rows = || (0..self.len()).filter(|&row| mask.value(row));
        Ok(Self {
            table: self.table.clone(),
            series: rows().map(|row| self.series[row]).collect(),
            ts: rows().map(|row| self.ts[row]).collect(),
            columns: filter_record_batch(&self.columns, &mask).map_err(|e| unexpected("a batch", &e))?,
        })
    }
    /// Memory it holds, about.
    pub(crate) fn bytes(&self) -> usize {
        256 + self.len() * 16 + self.columns.get_array_memory_size()
    }
}
