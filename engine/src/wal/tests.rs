#![allow(clippy::unwrap_used)]
use std::path::Path;

use proptest::prelude::*;

use super::batch::decode_batch;
use super::record::*;
use crate::error::Error;
use crate::types::{LabelSet, SeriesId};

fn definition(n: usize) -> (SeriesId, LabelSet) {
    let value = format!("{n:0>400}");
    (SeriesId(n as u64), LabelSet::from_pairs([("__name__", "m"), ("n", value.as_str())]).unwrap())
}

#[test]
fn many_definitions_become_several_records_and_come_back_in_order() {
    let series: Vec<_> = (0..6000).map(definition).collect();
    let payloads = encode_definitions(&series);
    assert!(payloads.len() > 2 && payloads.iter().all(|payload| payload.len() <= 2 << 20));
    let (mut file, mut back) = (Vec::new(), Vec::new());
    for payload in &payloads {
        put_record(&mut file, Kind::Definitions, false, 7, payload);
    }
    let mut offset = 0;
    while let Some(record) = record_at(&file, offset).unwrap() {
        assert_eq!((record.kind, record.lsn), (Kind::Definitions, 7));
        back.extend(decode_definitions(&record, Path::new("w")).unwrap());
        offset = record.end();
    }
    assert_eq!(back, series);
}

#[test]
fn a_record_with_any_flipped_bit_is_damage() {
    let mut file = Vec::new();
    put_record(&mut file, Kind::Batch, true, 1 << 40, b"some payload");
    assert!(record_at(&file, 0).is_ok());
    for bit in 0..file.len() * 8 {
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(record_at(&file, 0).is_err(), "bit {bit}");
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn only_a_later_group_proves_that_damage_had_been_synced() {
    let record = |synced_before, lsn| {
        let mut bytes = Vec::new();
        put_record(&mut bytes, Kind::Batch, synced_before, lsn, b"x");
        bytes
    };
    let torn = [record(true, 1), vec![0; 30], record(false, 3)].concat();
    assert!(!was_synced(&torn, 18, 1), "the rest of one unsynced write may survive in pieces");
    let damaged = [record(true, 1), vec![0; 30], record(true, 3)].concat();
    assert!(was_synced(&damaged, 18, 1));
    assert!(!was_synced(&damaged, 18, 3), "a record from before proves nothing");
}

#[test]
fn a_file_of_another_version_is_refused_as_such_and_a_flipped_version_is_damage() {
    let mut header = file_header(7);
    for version in [1, VERSION + 1] {
        header[8..12].copy_from_slice(&version.to_le_bytes());
        assert!(matches!(check_file_header(&header, Path::new("w")), Err(Error::Corruption { .. })));
        let crc = crc32c::crc32c(&header[..20]);
        header[20..].copy_from_slice(&crc.to_le_bytes());
        let error = check_file_header(&header, Path::new("w")).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)));
        assert!(error.to_string().contains(&format!("w: a log of version {version}, and this build reads")), "{error}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = record_at(&bytes, 0);
        let _ = check_file_header(&bytes, Path::new("w"));
        let _ = was_synced(&bytes, 0, 0);
        let _ = decode_batch(&bytes, Path::new("w"), 0);
        if bytes.len() < 100 {
            let mut file = Vec::new();
            put_record(&mut file, Kind::Definitions, false, 1, &bytes);
            let _ = decode_definitions(&record_at(&file, 0).unwrap().unwrap(), Path::new("w"));
        }
    }
}
