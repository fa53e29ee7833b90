//! Builds a record segment from batches in (series, ts) order.
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;

use crate::codec::Effort;
use crate::error::{Error, Result};
use crate::format::crc32c;
use crate::format::frame::HEADER_BYTES;
use crate::fs::{File, Fs};
use crate::types::{Lsn, SeriesId};

use super::super::batch::unexpected;
use super::super::size::bytes_of;
use super::super::{ColumnEncoder, RecordTable};
use super::footer::{Chunk, FRAME, Footer, GroupMeta};
use super::zone::{Made, Zone, zone_of};
use super::{GROUP_BYTES_MAX, GROUP_ROWS_MAX, KEYS, RecordMeta};

/// A record segment being written. Dropping it unfinished leaves a file that no reader accepts: the caller removes it.
pub(crate) struct RecordWriter {
    path: PathBuf,
    file: Box<dyn File>,
    encoder: ColumnEncoder,
    footer: Footer,
    /// Rows of the next group.
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    pending_bytes: usize,
    /// Bytes so far.
    bytes: u64,
    last: Option<(u64, i64)>,
}

impl RecordWriter {
    /// Creates the file `path`, which must not exist, for rows of `table` with `columns` (by name, without series and ts)
    /// in `partition` from the commits `lsns`. Level 0 is encoded quickly, higher levels thoroughly.
    ///
    /// # Errors
    /// `Io`, or `Unavailable` without memory for a compression context.
    pub(crate) fn create(
        fs: &dyn Fs,
        path: &Path,
        table: RecordTable,
        columns: SchemaRef,
        partition: i64,
        level: u8,
        lsns: (Lsn, Lsn),
    ) -> Result<Self> {
        let encoder = ColumnEncoder::new(if level == 0 { Effort::Quick } else { Effort::Thorough })?;
        let mut file = fs.create(path)?;
        file.append(&FRAME.header(partition, level))?;
        let (min_lsn, max_lsn) = lsns;
        Ok(Self {
            path: path.to_owned(),
            file,
            encoder,
            footer: Footer { table, partition, level, min_lsn, max_lsn, series: 0, columns, groups: Vec::new() },
            pending: Vec::new(),
            pending_rows: 0,
            pending_bytes: 0,
            bytes: HEADER_BYTES as u64,
            last: None,
        })
    }

    /// Adds rows after all others: series, ts, then this file's columns.
    ///
    /// # Errors
    /// `Invalid` for rows out of order, `Io`.
    pub(crate) fn append(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = batch.num_rows();
        let bytes: usize = batch.columns().iter().map(|column| bytes_of(column)).sum();
        let room = GROUP_ROWS_MAX - self.pending_rows;
        if rows > room || (bytes > GROUP_BYTES_MAX && rows > 1) {
            let half = room.min(rows.div_ceil(2));
            self.append(&batch.slice(0, half))?;
            return self.append(&batch.slice(half, rows - half));
        }
        if self.pending_bytes + bytes > GROUP_BYTES_MAX {
            self.cut()?;
        }
        self.pending.push(batch.clone());
        self.pending_rows += rows;
        self.pending_bytes += bytes;
        if self.pending_rows == GROUP_ROWS_MAX { self.cut() } else { Ok(()) }
    }

    /// Writes what is pending as a group.
    fn cut(&mut self) -> Result<()> {
        let Some(first) = self.pending.first() else { return Ok(()) };
        let rows = concat_batches(first.schema_ref(), &self.pending).map_err(|e| unexpected("a group", &e))?;
        self.pending.clear();
        (self.pending_rows, self.pending_bytes) = (0, 0);
        let (series, ts) = (rows.column(0).as_primitive::<UInt64Type>(), rows.column(1).as_primitive::<Int64Type>());
        self.count(series.values(), ts.values())?;
        let mut out = Vec::new();
        let mut chunks = Vec::with_capacity(rows.num_columns());
        let mut zones = Vec::with_capacity(rows.num_columns());
        for (number, column) in rows.columns().iter().enumerate() {
            let from = out.len();
            let is_null = column.null_count() == column.len();
            if !is_null {
                self.encoder.encode(column, &mut out)?;
            }
            chunks.push(self.chunk(&out, from)?);
            if number >= KEYS {
                let made = if is_null { Made::None } else { zone_of(column) };
                zones.push(self.place(made, &mut out)?);
            }
        }
        self.footer.groups.push(GroupMeta {
            rows: rows.num_rows() as u32,
            first: SeriesId(series.value(0)),
            last: SeriesId(series.value(series.len() - 1)),
            min_ts: ts.values().iter().copied().min().unwrap_or(0),
            max_ts: ts.values().iter().copied().max().unwrap_or(0),
            chunks,
            zones,
        });
        self.bytes += out.len() as u64;
        self.file.append(&out)
    }

    /// What begins at `from` in `out`, which comes next in the file.
    fn chunk(&self, out: &[u8], from: usize) -> Result<Chunk> {
        let len = u32::try_from(out.len() - from)
            .map_err(|_| Error::Limit("a column chunk would pass 4 GiB; write shorter values".into()))?;
        Ok(Chunk { offset: self.bytes + from as u64, len, crc: crc32c(&out[from..]) })
    }

    /// Appends the filter of `made`, if it has one.
    fn place(&self, made: Made, out: &mut Vec<u8>) -> Result<Zone> {
        let from = out.len();
        Ok(match made {
            Made::None => Zone::None,
            Made::Within { min, max } => Zone::Within { min, max },
            Made::Words(filter) => {
                out.extend_from_slice(&filter);
                Zone::Words(self.chunk(out, from)?)
            }
            Made::Values(filter) => {
                out.extend_from_slice(&filter);
                Zone::Values(self.chunk(out, from)?)
            }
        })
    }

    /// Counts distinct series, and refuses rows out of order.
    fn count(&mut self, series: &[u64], ts: &[i64]) -> Result<()> {
        for (&series, &ts) in series.iter().zip(ts) {
            if self.last.is_some_and(|last| last > (series, ts)) {
                return Err(Error::Invalid(format!(
                    "{}: a record of series {series} at {ts} is not in order; sort them first",
                    self.path.display()
                )));
            }
            self.footer.series += u64::from(self.last.is_none_or(|last| last.0 != series));
            self.last = Some((series, ts));
        }
        Ok(())
    }

    /// Writes what is left, footer and trailer.
    ///
    /// # Durability
    /// The file's bytes are synced; that its name survives is the caller's to sync.
    ///
    /// # Errors
    /// `Invalid` without any row, `Io`.
    pub(crate) fn finish(mut self) -> Result<RecordMeta> {
        self.cut()?;
        if self.footer.groups.is_empty() {
            return Err(Error::Invalid(format!("{}: a record segment needs a row", self.path.display())));
        }
        let mut out = Vec::new();
        self.footer.encode(&mut out)?;
        self.file.append(&out)?;
        self.file.sync()?;
        Ok(self.footer.meta(&self.path, self.bytes + out.len() as u64))
    }
}
