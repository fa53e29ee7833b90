//! Series files: the series that are new to a time partition, beside its segments.
//!
//! The position of a series in the file, added to the file's base, is its *local ordinal* in the partition.
use std::path::Path;

use crate::error::Result;
use crate::format::{self, Reader, envelope};
use crate::fs::{Fs, publish};
use crate::types::{LabelSet, SeriesId, same_bytes};

const MAGIC: [u8; 8] = *b"FTELSER\0";
const VERSION: u32 = 1;

/// Sorts `series` by metric, those of one by labels, and publishes them at `path`.
pub(crate) fn write_series_file(fs: &dyn Fs, path: &Path, series: &mut [(SeriesId, LabelSet)]) -> Result<u64> {
    // By metric first, because that compares numbers; mostly they stand so already.
    series.sort_by_key(|pair| pair.0);
    series.chunk_by_mut(|a, b| a.0.metric() == b.0.metric()).for_each(|series| {
        series.sort_unstable_by(|a, b| a.1.cmp(&b.1));
    });
    let mut body = Vec::with_capacity(series.len() * 32);
    format::put_varint(&mut body, series.len() as u64);
    let (mut previous, mut previous_id): (&[u8], u64) = (&[], 0);
    for (id, labels) in series.iter() {
        let bytes = labels.as_bytes();
        let shared = same_bytes(previous, bytes);
        format::put_zigzag(&mut body, id.0.wrapping_sub(previous_id) as i64);
        format::put_varint(&mut body, shared as u64);
        format::put_bytes(&mut body, &bytes[shared..]);
        (previous, previous_id) = (bytes, id.0);
    }
    let bytes = envelope::seal(MAGIC, VERSION, &body)?;
    publish(fs, path, &bytes)?;
    Ok(bytes.len() as u64)
}

/// The series of the file `path` in local order.
///
/// # Errors
/// `Corruption`. Offsets inside the compressed body count from the start of the body.
pub(crate) fn read_series_file(fs: &dyn Fs, path: &Path) -> Result<Vec<(SeriesId, LabelSet)>> {
    let body = envelope::open(MAGIC, VERSION, &fs.map(path)?, path)?;
    let mut reader = Reader::new(&body, path, 0);
    let count = reader.count(3)?;
    let mut series = Vec::with_capacity(count);
    let (mut bytes, mut id) = (Vec::new(), 0u64);
    for _ in 0..count {
        id = id.wrapping_add(reader.zigzag()? as u64);
        let at = reader.clone();
        let shared = reader.varint()?;
        if shared > bytes.len() as u64 {
            return Err(at.corrupt(format!("at most {} shared bytes", bytes.len()), shared.to_string()));
        }
        bytes.truncate(shared as usize);
        bytes.extend_from_slice(reader.prefixed()?);
        series.push((SeriesId(id), LabelSet::from_stored(&bytes, path, at.offset())?));
    }
    reader.finish()?;
    Ok(series)
}
