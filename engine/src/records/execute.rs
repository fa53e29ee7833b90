//! Merging sources into one new record segment: what a flush and a compaction do.
use std::path::Path;

use arrow::datatypes::SchemaRef;

use crate::error::Result;
use crate::fs::Fs;
use crate::types::Lsn;

use super::{Filter, Merge, RecordMeta, RecordTable, RecordWriter, Source};

/// Rows in memory at a time, besides one group of each source.
const ROWS_AT_ONCE: usize = 8192;

/// The file to write.
pub(crate) struct Output<'a> {
    pub(crate) path: &'a Path,
    pub(crate) table: RecordTable,
    /// By name, without series and ts.
    pub(crate) columns: SchemaRef,
    pub(crate) partition: i64,
    pub(crate) level: u8,
    /// Oldest and newest commit of its rows.
    pub(crate) lsns: (Lsn, Lsn),
}

/// What a merge made.
pub(crate) struct Merged {
    /// The new file; `None`, without a file, when every row was deleted.
    pub(crate) records: Option<RecordMeta>,
    /// Rows left out because they are deleted.
    pub(crate) rows_deleted: u64,
}

/// Merges `sources` (oldest commits first) into the new file of `output`. Asks `go_on` before each step; `None` once it
/// answers no. Then, and after an error, there may be an unfinished file, which is the caller's to remove.
///
/// # Durability
/// The file's bytes are synced; its name is the caller's to sync, and to publish.
///
/// # Errors
/// `Io`, or `Corruption` of a source.
pub(crate) fn execute(
    fs: &dyn Fs,
    output: Output<'_>,
    sources: Vec<Source>,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Merged>> {
    let Output { path, table, columns, partition, level, lsns } = output;
    let wanted = columns.fields().to_vec();
    let mut merge = Merge::new(sources, Filter::ALL, wanted, table.unique(), ROWS_AT_ONCE)?;
    let mut writer: Option<RecordWriter> = None;
    while let Some(batch) = merge.next_batch()? {
        if !go_on() {
            return Ok(None);
        }
        let writer = match &mut writer {
            Some(writer) => writer,
            None => {
                let (table, columns) = (table.clone(), SchemaRef::clone(&columns));
                writer.insert(RecordWriter::create(fs, path, table, columns, partition, level, lsns)?)
            }
        };
        writer.append(&batch)?;
    }
    let records = writer.map(RecordWriter::finish).transpose()?;
    Ok(Some(Merged { records, rows_deleted: merge.hidden_rows() }))
}
