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
fn a_varint_is_the_sum_of_its_groups_wherever_it_stands_and_however_long() {
    // Every length, padded with groups of zeros too, at every distance from the end of the bytes.
    for len in 1..=10u32 {
        for value in [0, 1, 0x55, 0x7f << 7, u64::MAX >> 8, u64::MAX >> 1, u64::MAX] {
            let value = if len < 10 { value & ((1 << (7 * len)) - 1) } else { value };
            let mut bytes: Vec<u8> = (0..len).map(|i| (value >> (7 * i)) as u8 | 0x80).collect();
            *bytes.last_mut().unwrap() &= 0x7f;
            for after in 0..12 {
                let padded = [&bytes[..], &vec![0xaa; after]].concat();
                let mut at = 0;
                assert_eq!(take_varint(&padded, &mut at), Some(value), "{len} bytes, {after} more");
                assert_eq!(at, len as usize);
            }
            for cut in 0..bytes.len() {
                let mut at = 0;
                assert_eq!((take_varint(&bytes[..cut], &mut at), at), (None, 0), "{len} bytes cut to {cut}");
            }
        }
    }
    assert_eq!(take_varint(&[1], &mut 2), None, "beyond the end");
}

#[test]
fn differences_add_up_and_a_cut_is_corruption_where_it_is() {
    let (mut bytes, numbers) = (Vec::new(), [5, 5, u64::MAX, 0, 1 << 40]);
    let mut before = 0u64;
    for number in numbers {
        put_zigzag(&mut bytes, number.wrapping_sub(before) as i64);
        before = number;
    }
    let read = |bytes: &[u8]| {
        let (mut back, mut reader) = (Vec::new(), Reader::new(bytes, Path::new("f"), 100));
        let read = reader.differences(numbers.len(), |number| back.push(number));
        (back, read)
    };
    assert_eq!(read(&bytes).0, numbers);
    let (back, cut) = read(&bytes[..3]);
    assert_eq!(back, numbers[..3]);
    assert!(matches!(cut.unwrap_err(), Error::Corruption { offset: 103, .. }));
}

#[test]
fn zigzag_keeps_the_extremes() {
    for value in [0, -1, 1, i64::MIN, i64::MAX] {
        assert_eq!(unzigzag(zigzag(value)), value);
    }
}

#[test]
fn a_count_beyond_the_bytes_that_remain_is_corruption_with_its_offset() {
    let mut bytes = Vec::new();
    put_varint(&mut bytes, 1 << 40);
    let error = Reader::new(&bytes, Path::new("f"), 100).count(8).unwrap_err();
    assert!(matches!(error, Error::Corruption { offset: 106, .. }), "{error}");
}
