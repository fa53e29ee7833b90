//! The log's decoders as the fuzzer calls them.
#![allow(clippy::unwrap_used)]
use std::path::Path;

use super::batch::{decode_batch, encode_batch};
use super::record::{self, Kind, PAYLOAD_LEN_MAX, RECORD_HEADER_LEN};
use crate::types::{LabelSet, SeriesId};
use crate::write_batch::WriteBatch;

/// The header of a file.
pub(crate) fn header(first_lsn: u64) -> Vec<u8> {
    record::file_header(first_lsn).to_vec()
}

/// The payload of a batch.
pub(crate) fn batch(batch: &WriteBatch) -> Vec<u8> {
    encode_batch(batch).unwrap()
}

/// The payload of definitions.
pub(crate) fn definitions(series: &[(SeriesId, LabelSet)]) -> Vec<u8> {
    record::encode_definitions(series).remove(0)
}

/// A whole record.
pub(crate) fn record(lsn: u64, batch: &WriteBatch) -> Vec<u8> {
    let (mut out, payload) = (Vec::new(), encode_batch(batch).unwrap());
    record::put_record(&mut out, Kind::Batch, lsn.is_multiple_of(2), lsn, &payload);
    out
}

/// Decodes a payload whose checksum was right, as each kind.
pub(crate) fn read_payload(payload: &[u8], path: &Path) {
    for kind in [Kind::Batch, Kind::Definitions] {
        let mut file = Vec::new();
        record::put_record(&mut file, kind, false, 1, payload);
        let record = record::record_at(&file, 0).unwrap().unwrap();
        match kind {
            Kind::Definitions => drop(record::decode_definitions(&record, path)),
            _ => drop(decode_batch(record.payload, path, 0)),
        }
    }
}

/// Walks over records as replay does, and asks what the first damage means.
pub(crate) fn read_records(bytes: &[u8]) {
    let mut at = 0;
    loop {
        match record::record_at(bytes, at) {
            Ok(Some(record)) => {
                assert!(record.payload.len() <= PAYLOAD_LEN_MAX && record.end() >= at + RECORD_HEADER_LEN);
                at = record.end();
            }
            Ok(None) => break,
            Err(damage) => {
                record::was_synced(bytes, damage.offset, 0);
                break;
            }
        }
    }
    assert!(record::proven_len(bytes) <= bytes.len());
}
