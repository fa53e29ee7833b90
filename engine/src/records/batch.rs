//! A batch of records as the log keeps it.
//!
//! ```text
//! records = bytes table  u8 rule  varint rows  sequence{series}  sequence{ts}  varint columns  column {columns}
//! column  = bytes name  type  then, for each 8,192 rows: array
//! ```
//! The arrays are those of segments: what a flush writes later is encoded once more, because it is sorted then.
use std::sync::Arc;

use arrow::array::Array;
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::codec::ROWS_MAX;
use crate::error::{Error, Result};
use crate::format::{self, Reader};
use crate::types::SeriesId;

use super::kind::{put_type, take_type};
use super::size::bytes_of;
use super::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, COLUMNS_MAX, ColumnDecoder, ColumnEncoder, RecordTable, Records, Unique};

const PER_INSTANT: u8 = 0;
const WHOLE_ROW: u8 = 1;

/// Appends a table's name and rule.
pub(crate) fn put_table(out: &mut Vec<u8>, table: &RecordTable) {
    format::put_bytes(out, table.name().as_bytes());
    out.push(match table.unique() {
        Unique::PerInstant => PER_INSTANT,
        Unique::WholeRow => WHOLE_ROW,
    });
}

/// Inverse of [`put_table`].
pub(crate) fn take_table(input: &mut Reader<'_>) -> Result<RecordTable> {
    let at = input.clone();
    let name = input.string()?;
    let unique = match input.u8()? {
        PER_INSTANT => Unique::PerInstant,
        WHOLE_ROW => Unique::WholeRow,
        other => return Err(at.corrupt("a rule of 0 or 1", other.to_string())),
    };
    RecordTable::new(name, unique).map_err(|_| at.corrupt("the name of a table", format!("{name:?}")))
}

/// Appends `records`, which were checked.
///
/// # Errors
/// `Invalid` for a type that columns cannot have.
pub(crate) fn encode_records(encoder: &mut ColumnEncoder, records: &Records, out: &mut Vec<u8>) -> Result<()> {
    put_table(out, &records.table);
    let rows = records.len();
    format::put_varint(out, rows as u64);
    let series: Vec<i64> = records.series.iter().map(|id| id.0 as i64).collect();
    encoder.sequence(&series, out);
    encoder.sequence(&records.ts, out);
    format::put_varint(out, records.columns.num_columns() as u64);
    for (field, column) in records.columns.schema_ref().fields().iter().zip(records.columns.columns()) {
        format::put_bytes(out, field.name().as_bytes());
        put_type(out, field.data_type())?;
        for from in (0..rows).step_by(ROWS_MAX) {
            encoder.encode(&column.slice(from, (rows - from).min(ROWS_MAX)), out)?;
        }
    }
    Ok(())
}

/// Inverse of [`encode_records`].
///
/// # Errors
/// `Corruption` with path and offset.
pub(crate) fn decode_records(decoder: &mut ColumnDecoder, input: &mut Reader<'_>) -> Result<Records> {
    let at = input.clone();
    let table = take_table(input)?;
    let rows = input.varint()?;
    if rows > BATCH_ROWS_MAX as u64 {
        return Err(at.corrupt(format!("at most {BATCH_ROWS_MAX} records"), rows.to_string()));
    }
    let rows = rows as usize;
    let series = decoder.sequence(input, rows)?.iter().map(|&id| SeriesId(id as u64)).collect();
    let ts = decoder.sequence(input, rows)?.to_vec();
    let count = input.count(2)?;
    if count > COLUMNS_MAX {
        return Err(at.corrupt(format!("at most {COLUMNS_MAX} columns"), count.to_string()));
    }
    let (mut fields, mut columns) = (Vec::with_capacity(count), Vec::with_capacity(count));
    let mut bytes = 0;
    for _ in 0..count {
        let name = input.string()?.to_owned();
        let data_type = take_type(input)?;
        let mut pieces = Vec::new();
        for from in (0..rows).step_by(ROWS_MAX) {
            let piece = decoder.decode(input, &data_type, (rows - from).min(ROWS_MAX))?;
            bytes += bytes_of(&*piece);
            // Twice, because a mask may be counted that was not there before.
            if bytes > 2 * BATCH_BYTES_MAX {
                return Err(at.corrupt(format!("at most {BATCH_BYTES_MAX} bytes of columns"), bytes.to_string()));
            }
            pieces.push(piece);
        }
        columns.push(match pieces.len() {
            0 => arrow::array::new_empty_array(&data_type),
            1 => pieces.remove(0),
            _ => {
                let pieces: Vec<&dyn Array> = pieces.iter().map(AsRef::as_ref).collect();
                concat(&pieces).map_err(|e| at.corrupt(format!("column {name}"), e.to_string()))?
            }
        });
        fields.push(Field::new(name, data_type, true));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let columns = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|e| at.corrupt("columns of one batch", e.to_string()))?;
    Ok(Records { table, series, ts, columns })
}

/// What arrow refuses although the types were checked.
pub(super) fn unexpected(what: &str, error: &arrow::error::ArrowError) -> Error {
    Error::Invalid(format!("{what}: {error}"))
}
