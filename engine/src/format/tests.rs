#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn varints_round_trip_and_refuse_the_overlong() {
    for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        let mut at = 0;
        assert_eq!(take_varint(&out, &mut at), Some(value));
        assert_eq!(at, out.len());
        assert_eq!(take_varint(&out[..out.len() - 1], &mut 0), None, "truncated {value}");
    }
    assert_eq!(take_varint(&[0xff; 11], &mut 0), None);
    assert_eq!(take_varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], &mut 0), None);
}

#[test]
fn zigzag_keeps_the_extremes() {
    for value in [0, -1, 1, i64::MIN, i64::MAX] {
        assert_eq!(unzigzag(zigzag(value)), value);
    }
}

#[test]
fn a_joined_checksum_equals_the_checksum_of_the_whole() {
    let (head, tail) = (b"header".as_slice(), b"payload that is longer".as_slice());
    assert_eq!(crc32c_join(head, crc32c(tail), tail.len()), crc32c(&[head, tail].concat()));
}

#[test]
fn a_count_beyond_the_bytes_that_remain_is_corruption_with_its_offset() {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, 1 << 40);
    let error = Reader::new(&bytes, Path::new("f"), 100).count(8).unwrap_err();
    assert!(matches!(error, Error::Corruption { offset: 106, .. }), "{error}");
}
