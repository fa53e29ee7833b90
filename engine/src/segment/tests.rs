//! Round trips against a model, and damage of every byte.
#![allow(clippy::unwrap_used)]
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::error::{Error, Result};
use crate::fs::{FaultFs, Fs};

type Rows = Vec<(SeriesId, Vec<i64>, Vec<f64>)>;

const STALE: u64 = 0x7ff0_0000_0000_0002;

fn disk() -> FaultFs {
    let fs = FaultFs::new();
    fs.create_dir(Path::new("dir")).unwrap();
    fs
}

fn write(fs: &FaultFs, path: &Path, rows: &Rows) -> SegmentMeta {
    let mut writer = SegmentWriter::create(fs, path, 86_400, 0, (Lsn(3), Lsn(9))).unwrap();
    for (series, ts, values) in rows {
        writer.append(*series, ts, values).unwrap();
    }
    writer.finish().unwrap()
}

fn read(segment: &Segment) -> Result<Vec<(u64, i64, u64)>> {
    let (mut decoder, mut block, mut rows) = (BlockDecoder::alone(), Block::default(), Vec::new());
    for index in 0..segment.blocks().len() {
        block.load(&mut decoder, segment, index)?;
        block.load_values(&mut decoder, segment)?;
        for k in 0..block.series().len() {
            block.select(&mut decoder, segment, k)?;
            let series = block.series()[k];
            let own = block.ts().iter().zip(block.values(k));
            rows.extend(own.map(|(&t, v)| (series.0, t, v.to_bits())));
        }
    }
    Ok(rows)
}

fn flat(rows: &Rows) -> Vec<(u64, i64, u64)> {
    let of = |(series, ts, values): &(SeriesId, Vec<i64>, Vec<f64>)| {
        let id = series.0;
        ts.iter().zip(values).map(move |(&t, v)| (id, t, v.to_bits())).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of).collect()
}

fn sample() -> Rows {
    let ts: Vec<i64> = (0..40).map(|i| i * 15_000_000_000).collect();
    let mut rows: Rows = Vec::new();
    for series in 0..12u32 {
        let value = |i: usize| match series % 4 {
            0 => (i * 7) as f64,
            1 => (i as f64 * 0.37).sin(),
            2 => (i % 5) as f64 / 10.0,
            _ => f64::from_bits(if i == 39 { STALE } else { 1 }),
        };
        rows.push((SeriesId::new(series / 5, series), ts.clone(), (0..40).map(value).collect()));
    }
    rows
}

fn arbitrary_rows() -> impl Strategy<Value = Rows> {
    let value = prop_oneof![any::<u64>(), Just(STALE), (-999i32..999).prop_map(|i| (f64::from(i) / 10.0).to_bits())];
    let own = prop::collection::btree_map(any::<i64>(), value, 1..40);
    let id = prop_oneof![any::<u64>(), 0u64..40, (0u32..4, 0u32..9).prop_map(|(m, n)| SeriesId::new(m, n).0)];
    prop::collection::btree_map(id, own, 1..30).prop_map(|all| {
        let row = |(id, own): (u64, std::collections::BTreeMap<i64, u64>)| {
            (SeriesId(id), own.keys().copied().collect(), own.values().map(|&b| f64::from_bits(b)).collect())
        };
        all.into_iter().map(row).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_rows_come_back_in_order(rows in arbitrary_rows()) {
        let (fs, path) = (disk(), PathBuf::from("dir/s.seg"));
        let meta = write(&fs, &path, &rows);
        let segment = Segment::open(&fs, &path, &meta).unwrap();
        prop_assert_eq!(read(&segment).unwrap(), flat(&rows));
        let ids: Vec<SeriesId> = rows.iter().map(|r| r.0).collect();
        prop_assert_eq!(segment.series().iter().collect::<Vec<_>>(), ids);
        prop_assert_eq!(meta.rows as usize, flat(&rows).len());
        prop_assert_eq!(meta.series as usize, rows.len());
    }
}

/// Any rows, of which many series have timestamps of a few targets: whole, from later on, or with gaps.
fn scraped_rows() -> impl Strategy<Value = (Rows, u8)> {
    let series = (0u64..4, 0usize..300, 0usize..300, prop::collection::vec(0usize..300, 0..4), any::<u64>());
    (prop::collection::vec(series, 1..60), 0u8..3).prop_map(|(series, level)| {
        let at =
            |target: u64, i: u64| (i * 15_000 + target * 1_700 + i.wrapping_mul(0x9e37_79b9) % 5) as i64 * 1_000_000;
        let rows = series.into_iter().enumerate().map(|(k, (target, a, b, gaps, bits))| {
            let rows = (a.min(b)..=a.max(b)).filter(|i| !gaps.contains(i) || a == b);
            let ts: Vec<i64> = rows.map(|i| at(target, i as u64)).collect();
            let value = |i: usize| match bits % 4 {
                0 => f64::from_bits(bits),
                1 => (i % 7) as f64,
                2 => f64::from_bits(bits.wrapping_mul(i as u64 | 1)),
                _ => {
                    if i % 50 == 49 {
                        f64::from_bits(STALE)
                    } else {
                        (i as f64 * 0.1).round() / 10.0
                    }
                }
            };
            let values = (0..ts.len()).map(value).collect();
            (SeriesId::new(k as u32 / 9, k as u32), ts, values)
        });
        (rows.filter(|row| !row.1.is_empty()).collect(), level)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_segment_of_scrapes_gives_back_its_rows_and_zone_maps_hold(rows_level in scraped_rows()) {
        let ((rows, level), fs, path) = (rows_level, disk(), PathBuf::from("dir/s.seg"));
        let mut writer = SegmentWriter::create(&fs, &path, 1, level, (Lsn(3), Lsn(9))).unwrap();
        for (series, ts, values) in &rows {
            // A merge hands a series over in pieces that end anywhere.
            let cut = ts.len() / 3;
            writer.append(*series, &ts[..cut], &values[..cut]).unwrap();
            writer.append(*series, &ts[cut..], &values[cut..]).unwrap();
        }
        let meta = writer.finish().unwrap();
        let segment = Segment::open(&fs, &path, &meta).unwrap();
        let flat = flat(&rows);
        prop_assert_eq!(&read(&segment).unwrap(), &flat);
        let columns = segment.columns();
        prop_assert_eq!(columns.series + columns.ts + columns.values + columns.rest, meta.bytes);
        let mut row = 0;
        for zone in segment.blocks() {
            let own = &flat[row..row + zone.rows as usize];
            row += own.len();
            let values: Vec<f64> = own.iter().map(|r| f64::from_bits(r.2)).collect();
            let (nans, numbers): (Vec<f64>, Vec<f64>) = values.iter().partition(|v| v.is_nan());
            prop_assert_eq!((zone.first.0, zone.last.0), (own[0].0, own[own.len() - 1].0));
            prop_assert_eq!(Some(zone.min_ts), own.iter().map(|r| r.1).min());
            prop_assert_eq!(Some(zone.max_ts), own.iter().map(|r| r.1).max());
            prop_assert_eq!(zone.count as usize, numbers.len());
            prop_assert_eq!(zone.stale as usize, nans.iter().filter(|v| v.to_bits() == STALE).count());
            let bits = |v: Option<f64>| v.map(f64::to_bits);
            if !numbers.is_empty() {
                prop_assert_eq!(Some(zone.min.to_bits()), bits(numbers.iter().copied().min_by(f64::total_cmp)));
                prop_assert_eq!(Some(zone.max.to_bits()), bits(numbers.iter().copied().max_by(f64::total_cmp)));
            }
            let sum = numbers.iter().fold(0.0, |sum, v| sum + v);
            prop_assert!(zone.sum.to_bits() == sum.to_bits() || (zone.sum.is_nan() && sum.is_nan()));
            let ends = (zone.first == zone.last).then(|| (own[0].2, own[own.len() - 1].2));
            prop_assert_eq!(zone.ends.map(|(first, last)| (first.to_bits(), last.to_bits())), ends);
        }
    }
}

#[test]
fn targets_that_are_scraped_with_jitter_cost_their_timestamps_once() {
    let (fs, path) = (disk(), PathBuf::from("dir/s.seg"));
    let ts = |target: u64| -> Vec<i64> {
        (0..240u64).map(|i| (i * 15_000 + target * 71 + (i ^ target).wrapping_mul(0x9e37_79b9) % 5) as i64).collect()
    };
    let rows: Rows = (0..100u32)
        .flat_map(|metric| (0..50u32).map(move |target| (SeriesId::new(metric, target), ts(u64::from(target)))))
        .map(|(id, ts)| (id, ts, vec![1.0; 240]))
        .collect();
    let meta = write(&fs, &path, &rows);
    let segment = Segment::open(&fs, &path, &meta).unwrap();
    assert_eq!(segment.timelines(), 50);
    assert!(segment.columns().ts < meta.rows / 100, "{:?} for {} rows", segment.columns(), meta.rows);
    assert_eq!(read(&segment).unwrap(), flat(&rows));
}

#[test]
fn a_scan_over_more_timelines_than_it_keeps_decodes_them_again() {
    let (fs, path) = (disk(), PathBuf::from("dir/s.seg"));
    let value = vec![1.0; 8000];
    let ts = |k: u32| -> Vec<i64> { (0..8000).map(|i| i * 15_000 + i64::from(k) * 71 + (i * 7919) % 5).collect() };
    // 300 timelines of 8,000 rows are more than a scan keeps; each is used by two series.
    let rows: Rows = (0..2)
        .flat_map(|m| (0..300).map(move |k| (m, k)))
        .map(|(m, k)| (SeriesId::new(m, k), ts(k), value.clone()))
        .collect();
    let meta = write(&fs, &path, &rows);
    let segment = Segment::open(&fs, &path, &meta).unwrap();
    assert_eq!(segment.timelines(), 300);
    assert_eq!(read(&segment).unwrap(), flat(&rows));
}

#[test]
fn long_series_are_cut_into_blocks_and_short_ones_packed() {
    let (fs, path) = (disk(), PathBuf::from("dir/s.seg"));
    let ts: Vec<i64> = (0..20_000).collect();
    let values: Vec<f64> = ts.iter().map(|&t| t as f64).collect();
    let mut rows: Rows = vec![(SeriesId(1), ts.clone(), values.clone())];
    rows.extend((2..502).map(|id| (SeriesId(id), ts[..60].to_vec(), values[..60].to_vec())));
    let meta = write(&fs, &path, &rows);
    // 8,192 + 8,192 + 3,616 rows of the long one with 76 short ones behind them; 136 short ones fill a block.
    assert_eq!(meta.blocks, 3 + (500u64 - 76).div_ceil(136));
    assert!(meta.bytes < 20_000, "{} bytes for {} rows", meta.bytes, meta.rows);
    let segment = Segment::open(&fs, &path, &meta).unwrap();
    assert_eq!(read(&segment).unwrap(), flat(&rows));
}

#[test]
fn a_series_of_half_a_block_is_not_split() {
    let (fs, path) = (disk(), PathBuf::from("dir/s.seg"));
    let ts: Vec<i64> = (0..5760).collect();
    let values = vec![1.5; 5760];
    let rows: Rows = (0..5).map(|id| (SeriesId(id), ts.clone(), values.clone())).collect();
    let meta = write(&fs, &path, &rows);
    let segment = Segment::open(&fs, &path, &meta).unwrap();
    assert_eq!(meta.blocks, 5);
    assert!(segment.blocks().iter().all(|zone| zone.rows == 5760 && zone.first == zone.last));
}

#[test]
fn zone_maps_leave_nan_out_and_bound_the_rest() {
    let (fs, path) = (disk(), PathBuf::from("dir/s.seg"));
    let values = vec![2.0, f64::NAN, -3.0, f64::from_bits(STALE), 10.0];
    let meta = write(&fs, &path, &vec![(SeriesId(5), vec![-9, 0, 1, 2, 7], values)]);
    let segment = Segment::open(&fs, &path, &meta).unwrap();
    let zone = &segment.blocks()[0];
    assert_eq!((zone.min_ts, zone.max_ts, zone.rows, zone.count, zone.stale), (-9, 7, 5, 3, 1));
    assert_eq!((zone.min, zone.max, zone.sum), (-3.0, 10.0, 9.0));
    assert_eq!((meta.min_lsn, meta.max_lsn, meta.partition, meta.level), (Lsn(3), Lsn(9), 86_400, 0));
}

#[test]
fn rows_out_of_order_are_refused() {
    let fs = disk();
    let mut writer = SegmentWriter::create(&fs, Path::new("dir/s.seg"), 0, 0, (Lsn(1), Lsn(1))).unwrap();
    writer.append(SeriesId(5), &[1, 2], &[0.0, 0.0]).unwrap();
    for (series, ts) in [(5, [2, 3]), (4, [8, 9]), (6, [4, 4]), (6, [4, 3])] {
        assert!(matches!(writer.append(SeriesId(series), &ts, &[0.0, 0.0]), Err(Error::Invalid(_))));
    }
    let empty = SegmentWriter::create(&fs, Path::new("dir/e.seg"), 0, 0, (Lsn(1), Lsn(1))).unwrap();
    assert!(matches!(empty.finish(), Err(Error::Invalid(_))));
}

#[test]
fn a_segment_is_synced_before_finish_returns() {
    let fs = disk();
    write(&fs, Path::new("dir/s.seg"), &sample());
    assert_eq!(fs.syncs_of("s.seg"), 1);
}

fn reopen(bytes: &[u8], meta: &SegmentMeta) -> Result<Vec<(u64, i64, u64)>> {
    let (fs, path) = (disk(), PathBuf::from("dir/s.seg"));
    fs.create(&path)?.append(bytes)?;
    read(&Segment::open(&fs, &path, meta)?)
}

#[test]
fn a_flip_of_any_byte_is_an_error_with_path_and_offset() {
    let (fs, path) = (disk(), PathBuf::from("dir/s.seg"));
    let rows = sample();
    let meta = write(&fs, &path, &rows);
    let whole = fs.map(&path).unwrap().to_vec();
    assert_eq!(reopen(&whole, &meta).unwrap(), flat(&rows));
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            match reopen(&bytes, &meta) {
                Err(Error::Corruption { path, offset, .. }) => {
                    assert_eq!(path, Path::new("dir/s.seg"));
                    assert!(offset <= whole.len() as u64);
                }
                other => panic!("byte {at} flipped by {flip:#x}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_file_of_any_other_length_is_an_error() {
    let (fs, path) = (disk(), PathBuf::from("dir/s.seg"));
    let meta = write(&fs, &path, &sample());
    let whole = fs.map(&path).unwrap().to_vec();
    for len in 0..whole.len() {
        assert!(matches!(reopen(&whole[..len], &meta), Err(Error::Corruption { .. })), "{len} bytes");
    }
    let longer = [&whole[..], &[0]].concat();
    assert!(matches!(reopen(&longer, &meta), Err(Error::Corruption { .. })));
}

#[test]
fn another_segment_under_the_name_of_the_manifest_is_an_error() {
    let (fs, path) = (disk(), PathBuf::from("dir/s.seg"));
    let mut meta = write(&fs, &path, &sample());
    meta.max_lsn = Lsn(10);
    assert!(matches!(Segment::open(&fs, &path, &meta), Err(Error::Corruption { .. })));
}
