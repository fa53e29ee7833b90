//! What a snapshot answers about records.
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::error::Result;

use super::tables::TableColumns;
use super::{Merge, RecordTable};

/// A table of records.
#[derive(Clone, Debug)]
pub struct RecordTableInfo {
    /// Name and rule.
    pub table: RecordTable,
    /// Its columns by name, without `series` and `ts`; all may be NULL.
    pub columns: SchemaRef,
}

impl From<&TableColumns> for RecordTableInfo {
    fn from(known: &TableColumns) -> Self {
        Self { table: known.table.clone(), columns: Arc::clone(&known.columns) }
    }
}

/// A running scan of records. Blocks on page faults only; call it off the async threads.
pub struct RecordScan(pub(crate) Merge);

impl RecordScan {
    /// Of every batch: `series: UInt64`, `ts: Int64`, then the columns asked for.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.0.schema())
    }

    /// Memory it holds besides the store's own, about.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The next rows in (series, ts) order, at most 8,192 and fewer when they are large; `None` at the end. Rows of one
    /// instant stand in the order they were committed.
    ///
    /// # Errors
    /// `Corruption` with path and offset when a checksum fails: never a partial answer without an error.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        self.0.next_batch()
    }
}
