//! Tables of records and scans over them.
use std::sync::Arc;

use super::Snapshot;
use crate::error::{Error, Result};
use crate::records::{Filter, Hint, Memory, Merge, Recent, RecordScan, RecordTableInfo, RowFilter, Source, Unique};
use crate::types::{SeriesId, TimeRange};

/// Rows of a batch.
const ROWS_AT_ONCE: usize = 8192;

impl Snapshot {
    /// Every table of records, by name.
    pub fn record_tables(&self) -> Vec<RecordTableInfo> {
        self.0.tables.iter().map(RecordTableInfo::from).collect()
    }

    /// One table of records, if a row was ever committed to it.
    pub fn record_table(&self, name: &str) -> Option<RecordTableInfo> {
        self.0.tables.get(name).map(RecordTableInfo::from)
    }

    /// Scans the records of `table` of `series` (sorted ids) over `range`: the columns `series` and `ts`, then those named
    /// in `columns`, in that order, or all of the table's by name. Decodes no other column.
    ///
    /// # Errors
    /// `Invalid` for a table or column that does not exist (see [`Snapshot::record_table`]), or when the ids are not
    /// sorted or not unique; `Io` or `Corruption`.
    pub fn scan_records(
        &self,
        table: &str,
        series: &[SeriesId],
        range: TimeRange,
        columns: Option<&[&str]>,
    ) -> Result<RecordScan> {
        self.scan_records_for(table, series, range, columns, &[], &[])
    }

    /// As [`Snapshot::scan_records`], of rows that satisfy all of `exact` and no others, for a reader that needs only those
    /// of which all `hints` are true: rows of which they are not may be left out or come.
    ///
    /// # Errors
    /// As there, and `Invalid` for conditions on a table where the newest row of an instant wins, as leaving it out would show an
    /// older one, or for conditions on a column of another type.
    pub fn scan_records_for(
        &self,
        table: &str,
        series: &[SeriesId],
        range: TimeRange,
        columns: Option<&[&str]>,
        hints: &[Hint],
        exact: &[RowFilter],
    ) -> Result<RecordScan> {
        if !series.is_sorted_by(|a, b| a < b) {
            return Err(Error::Invalid("series of a scan must be sorted and unique".into()));
        }
        let pinned = &*self.0;
        let known = pinned.tables.get(table);
        let known = known.ok_or_else(|| Error::Invalid(format!("there is no table of records called {table:?}")))?;
        let wanted = known.columns_called(columns)?;
        if !(hints.is_empty() && exact.is_empty()) && known.table.unique() != Unique::WholeRow {
            return Err(Error::Invalid(format!(
                "table {table} keeps the newest row of an instant: scan it without conditions on rows"
            )));
        }
        let filter = Filter { series: Some(series.to_vec()), range, hints: hints.to_vec(), exact: exact.to_vec() };
        let mut sources = Vec::new();
        if !range.is_empty() && !series.is_empty() {
            for partition in pinned.partitions(range) {
                for live in partition.records.iter().filter(|live| live.meta().table == known.table) {
                    let hidden = pinned.tombstones.after(live.meta().segment.applied, range);
                    sources.push(Source::Segment(Arc::clone(live), hidden));
                }
            }
            let mut recent = Vec::new();
            for memtable in pinned.memtables() {
                let hidden = pinned.tombstones.after(memtable.lsn, range);
                for records in memtable.records.iter().filter(|records| records.table == known.table) {
                    recent.push(Recent { records: Arc::clone(records), hidden: hidden.clone() });
                }
            }
            sources.push(Source::Memory(Memory::new(&recent, &filter)?));
        }
        Ok(RecordScan(Merge::new(sources, filter, wanted, known.table.unique(), ROWS_AT_ONCE)?))
    }
}
