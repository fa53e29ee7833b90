#![allow(clippy::unwrap_used)]
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::codec::Effort;

const BYTES_MAX: u64 = 1 << 20;

fn encoded(texts: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let split = split(texts.iter().map(Vec::as_slice))?;
    split.encode(&mut Packer::new(Effort::Thorough).unwrap(), &mut out);
    Some(out)
}

fn decoded(bytes: &[u8], rows: usize) -> Result<Vec<Vec<u8>>> {
    let (mut data, mut offsets) = (Vec::new(), vec![0]);
    let mut input = Reader::new(bytes, Path::new("x"), 0);
    decode(&mut input, rows, None, BYTES_MAX, &mut Unpacker::default(), &mut data, &mut offsets)?;
    input.finish()?;
    Ok(offsets.windows(2).map(|ends| data[ends[0] as usize..ends[1] as usize].to_vec()).collect())
}

fn log(row: u64) -> Vec<u8> {
    let n = row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match row % 5 {
        0 => format!("took {} ms, retry {}", n % 900, row % 7),
        1 => format!("block blk_{} at 0x{:08x}, {:06} left", n % 4_000_000, n % 77, n % 999),
        2 => format!("0 and 00 and {} and {:018}", u64::MAX, n % 5),
        3 => "no number".to_owned(),
        _ => format!("GET /x/{n} {:02}:{:02} {}", n % 24, n % 60, "9".repeat((n % 22) as usize)),
    }
    .into_bytes()
}

#[test]
fn texts_come_back_to_the_byte_and_take_less() {
    let mut texts: Vec<Vec<u8>> = (0..3000).map(log).collect();
    texts.extend([vec![], b"\0 1".to_vec(), b"\x01 1".to_vec(), vec![b'7'; 5000], "gr\u{f6}\u{df}er 5".into()]);
    let bytes = encoded(&texts).unwrap();
    assert_eq!(decoded(&bytes, texts.len()).unwrap(), texts);
    let mut plain = Vec::new();
    Packer::new(Effort::Thorough).unwrap().pack_bytes(&texts.concat(), &mut plain);
    assert!(bytes.len() * 5 < plain.len() * 4, "{} of {}", bytes.len(), plain.len());
}

#[test]
fn words_with_a_digit_are_looked_for_in_the_texts_themselves() {
    assert!(tells_of(&Words::of("refused, Connection")));
    assert!(!tells_of(&Words::of("refused v1")));
    let texts: Vec<Vec<u8>> = (0..3000).map(log).collect();
    let (bytes, words) = (encoded(&texts).unwrap(), Words::of("number took"));
    let mut input = Reader::new(&bytes, Path::new("x"), 0);
    let found = rows_with(&words, &mut input, texts.len(), BYTES_MAX, &mut Unpacker::default()).unwrap();
    assert_eq!(found.count_set_bits(), 0);
    let words = Words::of("NUMBER no");
    let mut input = Reader::new(&bytes, Path::new("x"), 0);
    let found = rows_with(&words, &mut input, texts.len(), BYTES_MAX, &mut Unpacker::default()).unwrap();
    assert_eq!(found.set_indices().collect::<Vec<_>>(), (3..3000).step_by(5).collect::<Vec<_>>());
}

#[test]
fn texts_without_common_skeletons_are_left_to_others() {
    assert!(encoded(&(0..63).map(|n| format!("n {n}").into_bytes()).collect::<Vec<_>>()).is_none(), "few");
    let words: Vec<Vec<u8>> = (0..500u32).map(|n| format!("w{} 1", "x".repeat(n as usize)).into_bytes()).collect();
    assert!(encoded(&words).is_none());
}

#[test]
fn bytes_that_no_writer_wrote_never_panic_and_claim_little() {
    let texts: Vec<Vec<u8>> = (0..200).map(|row| log(row * 5 + row % 2)).collect();
    let whole = encoded(&texts).unwrap();
    let mut bytes = whole.clone();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            bytes[at] ^= flip;
            let _ = decoded(&bytes, texts.len());
            bytes[at] ^= flip;
        }
        let _ = decoded(&bytes[..at], texts.len());
    }
    assert_eq!(decoded(&whole, texts.len()).unwrap(), texts);
    // One skeleton of a mebibyte, for many rows: three bytes of lengths, and more than the bound.
    let mut forged = Vec::new();
    put_varint(&mut forged, 1);
    let mut packer = Packer::new(Effort::Quick).unwrap();
    packer.pack(&[1 << 19], &mut forged);
    packer.pack_bytes(&vec![b'x'; 1 << 19], &mut forged);
    packer.pack(&[1, 1, 1], &mut forged);
    assert!(decoded(&forged, 3).is_err());
}

proptest! {
    #[test]
    fn any_texts_come_back(rows in prop::collection::vec((0usize..4, any::<u64>(), 0usize..25, ".{0,4}"), 64..200)) {
        let text = |(kind, n, zeros, other): &(usize, u64, usize, String)| match kind {
            0 => format!("a {n} b {}", n % 10),
            1 => format!("{}{}", "0".repeat(*zeros), n % 1000),
            2 => format!("{n}{}", "0".repeat(*zeros)),
            _ => other.clone(),
        };
        let texts: Vec<Vec<u8>> = rows.iter().map(|row| text(row).into_bytes()).collect();
        if let Some(bytes) = encoded(&texts) {
            prop_assert_eq!(&decoded(&bytes, texts.len()).unwrap(), &texts);
            for words in ["a", "a b", "x", "\u{e9}", ""].map(Words::of) {
                prop_assert!(tells_of(&words));
                let mut input = Reader::new(&bytes, Path::new("x"), 0);
                let found = rows_with(&words, &mut input, texts.len(), BYTES_MAX, &mut Unpacker::default()).unwrap();
                let all = StringArray::from_iter_values(texts.iter().map(|text| str::from_utf8(text).unwrap()));
                let expected = words.rows(&all);
                prop_assert_eq!(&found, expected.values());
            }
        }
    }
}
