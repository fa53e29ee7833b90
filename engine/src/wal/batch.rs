//! The payload of a batch record: columns, encoded on the caller's thread.
use std::path::Path;
use std::sync::Arc;

use crate::codec::Effort;
use crate::error::{Error, Result};
use crate::format::{self, Reader};
use crate::records::{ColumnDecoder, ColumnEncoder, decode_records, encode_records};
use crate::tombstone::Deletion;
use crate::types::SeriesId;
use crate::write_batch::WriteBatch;

use super::record::PAYLOAD_LEN_MAX;

/// All rows have the same timestamp.
const TS_CONSTANT: u8 = 0;
/// Zigzag differences, row to row.
const TS_DELTA: u8 = 1;
const STATE_DELETE: u8 = 0;
const STATE_PUT: u8 = 1;
/// Bytes of the shortest records: name, rule, rows, columns.
const RECORDS_BYTES_MIN: usize = 5;

/// Encodes `batch`, whose columns have equal length: the payload of its record.
///
/// # Errors
/// `Invalid` when the batch would exceed the largest record.
pub(crate) fn encode_batch(batch: &WriteBatch) -> Result<Vec<u8>> {
    let state_bytes: usize =
        batch.state.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len) + 24).sum();
    let too_large = || {
        Err(Error::Invalid(format!(
            "a batch of {} rows and {state_bytes} bytes of state exceeds the {} MiB of one log record; split it",
            batch.rows(),
            PAYLOAD_LEN_MAX >> 20
        )))
    };
    if batch.len().saturating_mul(10).saturating_add(state_bytes) > PAYLOAD_LEN_MAX {
        return too_large();
    }
    let mut out = Vec::with_capacity(batch.len() * 11 + state_bytes + 64);
    format::put_varint(&mut out, batch.len() as u64);
    let mut previous = 0u64;
    for id in &batch.series {
        format::put_zigzag(&mut out, id.0.wrapping_sub(previous) as i64);
        previous = id.0;
    }
    encode_ts(&mut out, &batch.ts);
    let at = out.len();
    out.resize(at + batch.values.len() * 8, 0);
    for (slot, value) in out[at..].chunks_exact_mut(8).zip(&batch.values) {
        slot.copy_from_slice(&value.to_bits().to_le_bytes());
    }
    format::put_varint(&mut out, batch.state.len() as u64);
    for (key, value) in &batch.state {
        out.push(if value.is_some() { STATE_PUT } else { STATE_DELETE });
        format::put_bytes(&mut out, key);
        if let Some(value) = value {
            format::put_bytes(&mut out, value);
        }
    }
    format::put_varint(&mut out, batch.deletes.len() as u64);
    batch.deletes.iter().for_each(|deletion| deletion.encode(&mut out));
    format::put_varint(&mut out, batch.records.len() as u64);
    if !batch.records.is_empty() {
        let mut encoder = ColumnEncoder::new(Effort::Quick)?;
        for records in &batch.records {
            encode_records(&mut encoder, records, &mut out)?;
        }
    }
    if out.len() > PAYLOAD_LEN_MAX {
        return too_large();
    }
    Ok(out)
}

fn encode_ts(out: &mut Vec<u8>, ts: &[i64]) {
    let Some(&first) = ts.first() else { return };
    if ts.iter().all(|&t| t == first) {
        out.push(TS_CONSTANT);
        out.extend_from_slice(&first.to_le_bytes());
        return;
    }
    out.push(TS_DELTA);
    let mut previous = 0i64;
    for &t in ts {
        format::put_zigzag(out, t.wrapping_sub(previous));
        previous = t;
    }
}

/// Inverse of [`encode_batch`], for a payload at `offset` of the file `path`.
pub(crate) fn decode_batch(payload: &[u8], path: &Path, offset: u64) -> Result<WriteBatch> {
    let mut reader = Reader::new(payload, path, offset);
    let rows = reader.count(9)?;
    let mut batch =
        WriteBatch { series: Vec::with_capacity(rows), ts: Vec::with_capacity(rows), ..WriteBatch::default() };
    reader.differences(rows, |id| batch.series.push(SeriesId(id)))?;
    if rows > 0 {
        decode_ts(&mut reader, rows, &mut batch.ts)?;
    }
    let (values, _) = reader.bytes(rows * 8)?.as_chunks::<8>();
    batch.values = values.iter().map(|&value| f64::from_le_bytes(value)).collect();
    for _ in 0..reader.count(2)? {
        let at = reader.clone();
        let tag = reader.u8()?;
        let key = reader.prefixed()?.to_vec();
        let value = match tag {
            STATE_DELETE => None,
            STATE_PUT => Some(reader.prefixed()?.to_vec()),
            other => return Err(at.corrupt("a state tag of 0 or 1", other.to_string())),
        };
        batch.state.push((key, value));
    }
    for _ in 0..reader.count(3)? {
        batch.deletes.push(Deletion::decode(&mut reader)?);
    }
    let count = reader.count(RECORDS_BYTES_MIN)?;
    if count > 0 {
        let mut decoder = ColumnDecoder::default();
        for _ in 0..count {
            batch.records.push(Arc::new(decode_records(&mut decoder, &mut reader)?));
        }
    }
    reader.finish()?;
    Ok(batch)
}

fn decode_ts(reader: &mut Reader<'_>, rows: usize, ts: &mut Vec<i64>) -> Result<()> {
    let at = reader.clone();
    match reader.u8()? {
        TS_CONSTANT => ts.resize(rows, reader.i64()?),
        TS_DELTA => reader.differences(rows, |t| ts.push(t as i64))?,
        other => return Err(at.corrupt("a timestamp tag of 0 or 1", other.to_string())),
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::array::{ArrayRef, StringArray};
    use arrow::record_batch::RecordBatch;

    use super::*;
    use crate::records::{RecordTable, Records, Unique};

    fn records(rows: usize) -> Arc<Records> {
        let text: ArrayRef = Arc::new(StringArray::from_iter((0..rows).map(|row| (row != 1).then_some("text"))));
        let columns = RecordBatch::try_from_iter_with_nullable([("a", text, true)]).unwrap();
        let series = (0..rows as u64).map(|n| SeriesId(u64::MAX - n * 7)).collect();
        let ts = (0..rows as i64).map(|n| i64::MIN + n * n).collect();
        Arc::new(Records { table: RecordTable::new("t", Unique::WholeRow).unwrap(), series, ts, columns })
    }

    fn check(batch: &WriteBatch) {
        let payload = encode_batch(batch).unwrap();
        let back = decode_batch(&payload, Path::new("w"), 0).unwrap();
        assert_eq!((&back.series, &back.ts, &back.state), (&batch.series, &batch.ts, &batch.state));
        assert_eq!(back.deletes, batch.deletes);
        assert_eq!(back.records.len(), batch.records.len());
        for (back, records) in back.records.iter().zip(&batch.records) {
            assert_eq!((&back.table, &back.series, &back.ts), (&records.table, &records.series, &records.ts));
            assert_eq!(back.columns, records.columns);
        }
        let bits = |b: &WriteBatch| b.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(batch));
        for cut in 0..payload.len() {
            assert!(decode_batch(&payload[..cut], Path::new("w"), 0).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn batches_keep_every_bit() {
        let mut batch = WriteBatch::default();
        check(&batch);
        batch.push(SeriesId(u64::MAX), i64::MIN, f64::from_bits(0x7ff0_0000_0000_0002));
        check(&batch);
        batch.push(SeriesId(0), i64::MAX, -0.0);
        batch.push(SeriesId(7), 0, f64::INFINITY);
        batch.state = vec![(b"k".to_vec(), Some(vec![])), (vec![], None)];
        check(&batch);
        let series = [0, 1, 2, 9, u64::from(u32::MAX), 1 << 32, (1 << 32) + 1, u64::MAX].map(SeriesId);
        let ranges = [(i64::MIN, i64::MAX), (-5, 5)].map(|(start, end)| crate::types::TimeRange { start, end });
        batch.deletes = ranges.map(|range| Deletion { series: series.into_iter().collect(), range }).to_vec();
        check(&batch);
        for rows in [0, 1, 5] {
            batch.records.push(records(rows));
            check(&batch);
        }
    }

    #[test]
    fn a_batch_beyond_one_record_is_refused_with_advice() {
        let state = vec![(vec![0], Some(vec![0; PAYLOAD_LEN_MAX + 1]))];
        let error = encode_batch(&WriteBatch { state, ..WriteBatch::default() }).unwrap_err();
        assert!(error.to_string().contains("split it"), "{error}");
    }
}
