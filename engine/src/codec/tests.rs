//! Round trips of every codec, for any bits and for the shapes that real series have.
#![allow(clippy::unwrap_used)]
use std::path::Path;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::error::Result;
use crate::format::Reader;

const STALE: u64 = 0x7ff0_0000_0000_0002;

fn reader(bytes: &[u8]) -> Reader<'_> {
    Reader::new(bytes, Path::new("column"), 0)
}

fn offsets_of(rows: &[u32]) -> Vec<u32> {
    let mut offsets = vec![0];
    for n in rows {
        offsets.push(offsets[offsets.len() - 1] + n);
    }
    offsets
}

fn bits_of(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Encodes and decodes with both efforts; answers the smaller size.
fn values_round_trip(values: &[f64], rows: &[u32]) -> usize {
    let mut smallest = usize::MAX;
    for effort in [Effort::Quick, Effort::Thorough] {
        let mut bytes = Vec::new();
        ValuesEncoder::default().encode(&mut Packer::new(effort).unwrap(), values, &offsets_of(rows), &mut bytes);
        let (mut input, mut decoded) = (reader(&bytes), Vec::new());
        ValuesDecoder::default().decode(&mut Unpacker::default(), &mut input, rows, &mut decoded).unwrap();
        input.finish().unwrap();
        assert_eq!(bits_of(values), bits_of(&decoded));
        // Of every third series the end, the beginning, or rows between them.
        let offsets = offsets_of(rows);
        let some = |k: usize| {
            let n = rows[k] as usize;
            match k % 9 {
                1 => n * 2 / 3..n,
                4 => 0..n.div_ceil(2),
                7 => n - 1..n,
                5 => n / 3..n - n / 3,
                _ => 0..0,
            }
        };
        decoded.fill(f64::from_bits(0x7ff8_dead_beef_0000));
        let mut input = reader(&bytes);
        ValuesDecoder::default().decode_some(&mut Unpacker::default(), &mut input, rows, some, &mut decoded).unwrap();
        input.finish().unwrap();
        for (k, &from) in offsets[..rows.len()].iter().enumerate() {
            let (from, own) = (from as usize, some(k));
            let own = from + own.start..from + own.end;
            assert_eq!(bits_of(&values[own.clone()]), bits_of(&decoded[own.clone()]), "series {k}, rows {own:?}");
        }
        smallest = smallest.min(bytes.len());
    }
    smallest
}

/// Encodes and decodes a page whose timelines have `rows` rows; answers its size.
fn timelines_round_trip(ts: &[i64], rows: &[u32]) -> usize {
    let (mut encoder, mut bytes) = (TimelinesEncoder::default(), Vec::new());
    let offsets = offsets_of(rows);
    let of = |k: usize| &ts[offsets[k] as usize..offsets[k + 1] as usize];
    (0..rows.len()).for_each(|k| encoder.push(of(k)));
    assert_eq!((encoder.len(), encoder.rows()), (rows.len(), ts.len()));
    encoder.finish(&mut Packer::new(Effort::Quick).unwrap(), &mut bytes);
    let mut input = reader(&bytes);
    let mut scratch = (Unpacker::default(), SequencesDecoder::default());
    let decoded = Timelines::decode(&mut scratch.0, &mut scratch.1, &mut input, rows.len()).unwrap();
    input.finish().unwrap();
    assert_eq!(decoded.rows(), ts.len());
    (0..rows.len()).for_each(|k| assert_eq!(decoded.get(k), of(k)));
    bytes.len()
}

fn spans_decoded(bytes: &[u8], series: usize, timelines: u32) -> Result<(Spans, Vec<u32>)> {
    let (mut spans, mut offsets, mut input) = (Spans::default(), Vec::new(), reader(bytes));
    spans.decode(&mut Unpacker::default(), &mut input, series, timelines, &mut offsets)?;
    input.finish()?;
    Ok((spans, offsets))
}

/// Cuts `n` rows into series of at most `rows_max`.
fn cut(n: usize, rows_max: u32, seed: u64) -> Vec<u32> {
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut rows, mut left) = (Vec::new(), n as u32);
    while left > 0 {
        let take = random.random_range(1..=rows_max.min(left));
        rows.push(take);
        left -= take;
    }
    rows
}

fn any_bits() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => any::<u64>(),
        4 => (-50i64..50).prop_map(|i| (i as f64 / 10.0).to_bits()),
        4 => any::<i32>().prop_map(|i| f64::from(i).to_bits()),
        1 => prop::sample::select(vec![
            STALE, 0x7ff8_0000_0000_0000, 0xfff8_0000_0000_0001, f64::INFINITY.to_bits(), f64::NEG_INFINITY.to_bits(),
            (-0.0f64).to_bits(), 0, 1, 0x000f_ffff_ffff_ffff, f64::MAX.to_bits(), f64::MIN_POSITIVE.to_bits(),
            (9_007_199_254_740_993.0f64).to_bits(), (i64::MAX as f64).to_bits(), (i64::MIN as f64).to_bits(), u64::MAX,
        ]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn values_of_any_bits_come_back(bits in prop::collection::vec(any_bits(), 1..600), rows_max in 1u32..200, seed: u64) {
        let values: Vec<f64> = bits.iter().map(|&b| f64::from_bits(b)).collect();
        values_round_trip(&values, &cut(values.len(), rows_max, seed));
    }

    #[test]
    fn timelines_of_any_spacing_come_back(ts in prop::collection::vec(any::<i64>(), 1..600), rows_max in 1u32..200, seed: u64) {
        timelines_round_trip(&ts, &cut(ts.len(), rows_max, seed));
    }

    #[test]
    fn spans_come_back(series in prop::collection::vec(prop::collection::vec((0u32..u32::MAX, 0u32..8000, 1u32..9), 1..5), 1..200)) {
        let series: Vec<Vec<Span>> = series
            .into_iter()
            .map(|spans| spans.into_iter().map(|(timeline, from, rows)| Span { timeline, from, rows }).collect())
            .collect();
        let (mut encoder, mut bytes) = (SpansEncoder::default(), Vec::new());
        series.iter().for_each(|spans| encoder.push(spans));
        encoder.finish(&mut Packer::new(Effort::Quick).unwrap(), &mut bytes);
        let (spans, offsets) = spans_decoded(&bytes, series.len(), u32::MAX).unwrap();
        let mut row = 0;
        for (k, own) in series.iter().enumerate() {
            prop_assert_eq!(spans.of(k), &own[..]);
            prop_assert_eq!(offsets[k], row);
            row += own.iter().map(|span| span.rows).sum::<u32>();
        }
        prop_assert_eq!(offsets[series.len()], row);
    }

    #[test]
    fn damaged_spans_and_pages_never_panic_and_stay_in_bounds(at: prop::sample::Index, flip in 1u8.., seed: u64) {
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut encoder, mut timelines, mut bytes) = (SpansEncoder::default(), TimelinesEncoder::default(), Vec::new());
        for _ in 0..40 {
            let n = random.random_range(1..3);
            let span = |timeline| Span { timeline, from: timeline % 7, rows: 1 + timeline % 100 };
            encoder.push(&(0..n).map(|_| span(random.random_range(0..50))).collect::<Vec<_>>());
            timelines.push(&(0..n).map(|_| random.random()).collect::<Vec<i64>>());
        }
        encoder.finish(&mut Packer::new(Effort::Quick).unwrap(), &mut bytes);
        let k = at.index(bytes.len());
        bytes[k] ^= flip;
        if let Ok((spans, offsets)) = spans_decoded(&bytes, 40, 50) {
            prop_assert!(offsets[40] as usize <= ROWS_MAX && offsets.is_sorted());
            for k in 0..40 {
                prop_assert!(spans.of(k).iter().all(|span| span.timeline < 50 && span.from < ROWS_MAX as u32));
                prop_assert_eq!(spans.of(k).iter().map(|span| span.rows).sum::<u32>(), offsets[k + 1] - offsets[k]);
            }
        }
        prop_assert!(spans_decoded(&bytes[..k], 40, 50).is_err());
        bytes.clear();
        timelines.finish(&mut Packer::new(Effort::Quick).unwrap(), &mut bytes);
        let k = at.index(bytes.len());
        bytes[k] ^= flip;
        let mut scratch = (Unpacker::default(), SequencesDecoder::default());
        if let Ok(page) = Timelines::decode(&mut scratch.0, &mut scratch.1, &mut reader(&bytes), 40) {
            prop_assert!(page.rows() <= ROWS_MAX);
        }
    }

    #[test]
    fn numbers_come_back(numbers in prop::collection::vec(any::<u64>(), 0..400), shift in 0u32..64, back in 0u32..64, base: u64) {
        let numbers: Vec<u64> = numbers.iter().map(|n| (n >> shift << (back % (shift + 1))).saturating_add(base >> back)).collect();
        for effort in [Effort::Quick, Effort::Thorough] {
            let (mut bytes, mut decoded) = (Vec::new(), vec![7]);
            Packer::new(effort).unwrap().pack(&numbers, &mut bytes);
            let mut input = reader(&bytes);
            Unpacker::default().unpack(&mut input, numbers.len(), &mut decoded).unwrap();
            input.finish().unwrap();
            prop_assert_eq!(&numbers, &decoded);
        }
    }

    #[test]
    fn damaged_values_never_panic(bits in prop::collection::vec(any_bits(), 1..64), at: prop::sample::Index, flip in 1u8..) {
        let values: Vec<f64> = bits.iter().map(|&b| f64::from_bits(b)).collect();
        let rows = cut(values.len(), 40, 1);
        let mut bytes = Vec::new();
        ValuesEncoder::default().encode(&mut Packer::new(Effort::Quick).unwrap(), &values, &offsets_of(&rows), &mut bytes);
        let at = at.index(bytes.len());
        // Too short for pco, whose decoder is only ever given bytes behind a checksum.
        bytes[at] ^= flip;
        let _ = ValuesDecoder::default().decode(&mut Unpacker::default(), &mut reader(&bytes), &rows, &mut Vec::new());
        bytes.truncate(at);
        let short = ValuesDecoder::default().decode(&mut Unpacker::default(), &mut reader(&bytes), &rows, &mut Vec::new());
        prop_assert!(short.is_err());
    }
}

/// Bytes of few kinds: noise, or the same ones again and again.
fn plane(n: usize, repeats: bool, seed: u64) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(seed);
    let some: Vec<u8> = (0..if repeats { 100 } else { n }).map(|_| random.random_range(0..16u8)).collect();
    some.into_iter().cycle().take(n).collect()
}

fn packed(pack: impl FnOnce(&mut Vec<u8>), bytes: &[u8]) -> usize {
    let (mut out, mut unpacked) = (Vec::new(), Vec::new());
    pack(&mut out);
    let mut input = reader(&out);
    Unpacker::default().unpack_bytes(&mut input, bytes.len(), &mut unpacked).unwrap();
    input.finish().unwrap();
    assert!(unpacked == bytes);
    out.len()
}

#[test]
fn planes_that_repeat_keep_their_matches_beside_planes_of_noise() {
    let mut packer = Packer::new(Effort::Quick).unwrap();
    let (mut repeats, mut noise, mut streams) = (0, 0, 0);
    for seed in 0..200 {
        let (a, b) = (plane(4_000, true, seed), plane(4_000, false, seed));
        repeats += packed(|out| packer.pack_plane(1, &a, out), &a);
        noise += packed(|out| packer.pack_plane(1, &b, out), &b);
        // Alone they are never passed.
        streams += packed(|out| packer.pack_plane(2, &a, out), &a);
    }
    // Four bits a byte without matches.
    assert!(noise < 200 * 2_060, "{noise}");
    assert!(streams < 200 * 200, "{streams}");
    assert!(repeats < 200 * 1_400, "one of three, if not all, {repeats}");
}

#[test]
fn texts_and_merges_try_matches_each_time() {
    for effort in [Effort::Quick, Effort::Thorough] {
        let mut packer = Packer::new(effort).unwrap();
        for seed in 0..50 {
            let (a, b) = (plane(4_000, true, seed), plane(4_000, false, seed));
            let len = match effort {
                Effort::Quick => packed(|out| packer.pack_bytes(&a, out), &a),
                Effort::Thorough => packed(|out| packer.pack_plane(0, &a, out), &a),
            };
            assert!(len < 200, "{len}");
            packed(|out| packer.pack_plane(0, &b, out), &b);
            packed(|out| packer.pack_bytes(&b, out), &b);
        }
    }
}

fn walk(n: usize, seed: u64) -> Vec<f64> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut level = 100.0;
    (0..n)
        .map(|_| {
            level += random.random::<f64>() - 0.5;
            level
        })
        .collect()
}

fn typical(n: usize) -> Vec<(&'static str, Vec<f64>, f64)> {
    let mut random = SmallRng::seed_from_u64(7);
    let mut total = 1e9f64;
    let counter = (0..n)
        .map(|_| {
            total += f64::from(random.random_range(900..1100));
            total
        })
        .collect();
    let gauge = (0..n).map(|_| f64::from(random.random_range(40..56))).collect();
    let pages = (0..n).map(|_| f64::from(random.random_range(1_000_000..1_000_200)) * 4096.0).collect();
    let decimal = |digits: i32, random: &mut SmallRng| -> Vec<f64> {
        let power = 10f64.powi(digits);
        (0..n)
            .map(|i| ((50.0 + 20.0 * (i as f64 / 300.0).sin() + random.random::<f64>()) * power).round() / power)
            .collect()
    };
    let (one, three) = (decimal(1, &mut random), decimal(3, &mut random));
    let mut stale: Vec<f64> = (0..n).map(|i| i as f64).collect();
    stale[n - 1] = f64::from_bits(STALE);
    let mut stale_walk = walk(n, 9);
    stale_walk[n - 1] = f64::from_bits(STALE);
    // (name, values, bits a value may take)
    vec![
        ("constant", vec![0.1 + 0.2; n], 0.1),
        ("zeros", vec![0.0; n], 0.1),
        ("counter", counter, 9.0),
        ("gauge of 16 values", gauge, 4.5),
        ("pages in bytes", pages, 8.5),
        ("one decimal", one, 5.5),
        ("three decimals", three, 11.5),
        ("linear with stale tail", stale, 0.1),
        ("random walk", walk(n, 8), 54.0),
        ("random walk with stale tail", stale_walk, 54.0),
    ]
}

#[test]
fn typical_values_come_back_small() {
    for (name, values, bits_max) in typical(8192) {
        let bits = values_round_trip(&values, &[8192]) as f64 * 8.0 / 8192.0;
        assert!(bits <= bits_max, "{name}: {bits} bits per value");
    }
}

#[test]
fn a_stale_tail_costs_an_integer_series_only_bytes() {
    let (mut values, mut rows) = (Vec::new(), Vec::new());
    for series in 0..100 {
        values.extend((0..60).map(|i| f64::from(series * 1000 + i)));
        rows.push(60);
    }
    let fine = values_round_trip(&values, &rows);
    for last in values.iter_mut().skip(59).step_by(60) {
        *last = f64::from_bits(STALE);
    }
    let stale = values_round_trip(&values, &rows);
    assert!(stale < fine + 60, "{fine} bytes without, {stale} with stale markers");
}

#[test]
fn mixed_series_of_a_block_come_back() {
    let (mut values, mut rows) = (Vec::new(), Vec::new());
    for (_, own, _) in typical(700) {
        values.extend(own);
        rows.push(700);
    }
    values_round_trip(&values, &rows);
}

#[test]
fn spans_of_targets_in_their_order_cost_nothing() {
    let mut encoder = SpansEncoder::default();
    (100..234).for_each(|timeline| encoder.push(&[Span { timeline, from: 0, rows: 60 }]));
    let mut bytes = Vec::new();
    encoder.finish(&mut Packer::new(Effort::Quick).unwrap(), &mut bytes);
    assert!(bytes.len() < 12, "{} bytes", bytes.len());
}

#[test]
fn targets_that_are_scraped_in_turns_cost_little_more_than_their_phases() {
    let mut random = SmallRng::seed_from_u64(5);
    let mut ts = Vec::new();
    for _ in 0..40 {
        let start = 1_700_000_000_000_000_000 + random.random_range(0..15_000) * 1_000_000;
        ts.extend((0..60).map(|i| start + i * 15_000_000_000));
    }
    let bytes = timelines_round_trip(&ts, &[60; 40]);
    assert!(bytes < 40 * 3 + 100, "{bytes} bytes for 40 targets");
}

#[test]
fn lengths_beyond_a_block_are_refused_before_anything_is_allocated() {
    let equal = |n: u64| {
        let mut bytes = vec![0];
        crate::format::put_varint(&mut bytes, n);
        bytes
    };
    let mut scratch = (Unpacker::default(), SequencesDecoder::default());
    for length in [ROWS_MAX as u64, u64::from(u32::MAX), u64::MAX] {
        let page = equal(length);
        assert!(Timelines::decode(&mut scratch.0, &mut scratch.1, &mut reader(&page), 1).is_err());
        assert!(spans_decoded(&[equal(length), equal(0)].concat(), 1, 1).is_err());
        assert!(spans_decoded(&[equal(3), equal(length)].concat(), 1, 1).is_err());
    }
    // 8,192 timelines of two rows, and as many series of two rows, are more than a page or a block holds.
    assert!(Timelines::decode(&mut scratch.0, &mut scratch.1, &mut reader(&equal(1)), ROWS_MAX).is_err());
    assert!(spans_decoded(&[equal(1), equal(0)].concat(), ROWS_MAX, 1).is_err());
    assert!(Timelines::decode(&mut scratch.0, &mut scratch.1, &mut reader(&equal(0)), ROWS_MAX + 1).is_err());
    assert!(spans_decoded(&[equal(0), equal(0)].concat(), ROWS_MAX + 1, 1).is_err());
}

#[test]
fn regular_timestamps_cost_nothing_and_jitter_a_byte() {
    let mut random = SmallRng::seed_from_u64(4);
    let regular: Vec<i64> = (0..8192).map(|i| 1_700_000_000_000_000_000 + i * 15_000_000_000).collect();
    assert!(timelines_round_trip(&regular, &[8192]) < 32);
    let jitter: Vec<i64> = regular.iter().map(|t| t + random.random_range(0..16) * 1_000_000).collect();
    assert!(timelines_round_trip(&jitter, &[8192]) < 8192 * 5 / 8 + 64);
    let extremes = [i64::MIN, -1, 0, i64::MAX];
    timelines_round_trip(&extremes, &[4]);
}
