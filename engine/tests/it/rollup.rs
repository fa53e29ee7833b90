//! Rollups: they answer, and never otherwise than the rows.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use foretell_engine::backup::{Begun, restore_with};
use foretell_engine::clock::Clock as _;
use foretell_engine::fs::{FaultFs, Fs};
use foretell_engine::repair::{Options, repair_with};
use foretell_engine::verify::{Progress, verify_with};
use foretell_engine::{Aggregate, AggregateBatch, Engine, ErrorKind, SeriesId, Snapshot, Statistics, TimeRange};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::aggregate::{ALL, Spared, any_store, cases, compare, compare_some};
use crate::deletes::one_of;
use crate::support::{HOUR, Store, series, write};
use crate::verify::{check, files};

const DAY: i64 = 24 * HOUR;
const MINUTE: i64 = HOUR / 60;
/// Rows of a day.
const ROWS: u64 = 1440;

/// A store of partitions of a day, with rollups of five minutes and an hour.
fn rolled() -> Store {
    let mut store = Store::new();
    store.config.partition_width = Duration::from_nanos(DAY as u64);
    store.config.rollup_widths = vec![Duration::from_nanos(HOUR as u64), Duration::from_nanos((5 * MINUTE) as u64)];
    store.clock.advance(1001 * DAY);
    store
}

/// A row a minute for a day and some rows of the next, so that the first day is cold, and merged into one file.
fn one_day(store: &Store, value: impl Fn(i64) -> f64) -> (Engine, SeriesId) {
    let engine = store.open();
    let id = series(&engine, 3);
    for half in 0..2 {
        let minutes = half * 720..(half + 1) * 720;
        write(&engine, &minutes.map(|i| (id, i * MINUTE, value(i))).collect::<Vec<_>>());
        engine.flush().unwrap();
    }
    write(&engine, &[(id, DAY, 1.0), (id, DAY + 1, 2.0)]);
    engine.flush().unwrap();
    engine.compact().unwrap();
    (engine, id)
}

fn by_step(engine: &Engine, id: SeriesId, step_ns: i64, statistics: Statistics, context: &str) -> Spared {
    of_range(&engine.snapshot(), id, step_ns, statistics, TimeRange::ALL, context)
}

fn of_range(
    snapshot: &Snapshot,
    id: SeriesId,
    step: i64,
    statistics: Statistics,
    range: TimeRange,
    context: &str,
) -> Spared {
    let series = [id];
    let aggregate = Aggregate { series: &series, groups: &[], range, step_ns: Some(step), statistics };
    compare(snapshot, &aggregate, 100, context)
}

fn rollups(fs: &FaultFs) -> Vec<PathBuf> {
    let all = files(fs, Path::new("/store/partitions"));
    all.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rollup")).collect()
}

fn reopen(store: &Store, engine: Engine) -> Engine {
    engine.close().unwrap();
    drop(engine);
    store.open()
}

#[test]
fn a_merge_makes_a_rollup_which_answers_whole_buckets() {
    let store = rolled();
    let (mut engine, id) = one_day(&store, |i| (i % 100) as f64);
    let (stats, infos) = (engine.stats(), engine.snapshot().segments());
    let bytes: u64 = infos.iter().map(|info| info.rollup_bytes).sum();
    assert_eq!((stats.rollups, stats.rollup_bytes_written), (1, bytes));
    for _ in 0..2 {
        for (step, rolled_up) in
            [(HOUR, ROWS), (5 * MINUTE, ROWS), (2 * HOUR, ROWS), (15 * MINUTE, ROWS), (7 * MINUTE, 0)]
        {
            let spared = by_step(&engine, id, step, ALL, "whole");
            assert_eq!(spared.rolled_up, rolled_up, "steps of {} minutes", step / MINUTE);
        }
        // Nothing but the number of rows is asked for.
        assert_eq!(by_step(&engine, id, HOUR, Statistics::default(), "count").rolled_up, ROWS);
        // One block in one step: its zone map is less to look at.
        let spared = by_step(&engine, id, DAY, ALL, "zone map");
        assert_eq!((spared.unread >= ROWS, spared.rolled_up), (true, 0));
        let infos = engine.snapshot().segments();
        assert_eq!(infos.iter().filter(|info| info.rollup_bytes > 0).count(), 1, "{infos:?}");
        engine = reopen(&store, engine);
    }
    assert_eq!(rollups(&store.fs).len(), 1);
    assert_eq!(check_running(&store, engine).rollups, 1);
}

#[test]
fn buckets_at_the_ends_of_a_range_are_read() {
    let store = rolled();
    let (engine, id) = one_day(&store, |i| (i % 100) as f64);
    let snapshot = engine.snapshot();
    for (start, end, rolled_up) in [
        (0, DAY - 1, ROWS),
        (1, DAY - 1, ROWS - 60),
        (0, 23 * HOUR + 59 * MINUTE, ROWS),
        (0, 23 * HOUR + 59 * MINUTE - 1, ROWS - 60),
        (90 * MINUTE, 5 * HOUR - 1, 180),
        (10 * MINUTE, 20 * MINUTE, 0),
        (HOUR, HOUR, 0),
    ] {
        let range = TimeRange { start, end };
        let spared = of_range(&snapshot, id, HOUR, ALL, range, "a range");
        assert_eq!(spared.rolled_up, rolled_up, "{range:?}");
    }
}

#[test]
fn a_late_row_or_a_delete_costs_the_buckets_that_it_touches_until_the_next_merge() {
    // (rows of the series, and whether of another series; minutes that are deleted, rows that rollups still answer for)
    type Case = (&'static [(u32, i64)], Option<(i64, i64)>, u64);
    let cases: [Case; 8] = [
        (&[(3, 90 * MINUTE)], None, ROWS - 60),
        (&[(3, 90 * MINUTE + 1)], None, ROWS - 60),
        (&[(3, 60 * MINUTE), (3, 119 * MINUTE)], None, ROWS - 60),
        // Between the last row of a bucket and the first of the next.
        (&[(3, 119 * MINUTE + 1), (3, 30 * DAY)], None, ROWS),
        (&[(6, 90 * MINUTE)], None, ROWS),
        (&[], Some((100, 200)), ROWS - 180),
        (&[], Some((119, 119)), ROWS - 60),
        (&[(3, 300 * MINUTE)], Some((100, 110)), ROWS - 120),
    ];
    for (rows, deleted, expected) in cases {
        for flush in [false, true] {
            let store = rolled();
            let (engine, id) = one_day(&store, |i| (i % 100) as f64);
            let rows: Vec<_> = rows.iter().map(|&(n, ts)| (series(&engine, n), ts, 7.0)).collect();
            write(&engine, &rows);
            if let Some((from, to)) = deleted {
                engine.delete(&one_of(&[3], from * MINUTE, to * MINUTE)).unwrap();
            }
            if flush {
                engine.flush().unwrap();
            }
            let context = format!("{rows:?}, deleted {deleted:?}, flush {flush}");
            assert_eq!(by_step(&engine, id, HOUR, ALL, &context).rolled_up, expected, "{context}");
            let engine = reopen(&store, engine);
            by_step(&engine, id, HOUR, ALL, &context);
            engine.flush().unwrap();
            engine.compact().unwrap();
            by_step(&engine, id, HOUR, ALL, &context);
            by_step(&engine, id, 5 * MINUTE, ALL, &context);
            assert!(check_running(&store, engine).is_clean(), "{context}");
        }
    }
}

fn check_running(store: &Store, engine: Engine) -> foretell_engine::verify::Report {
    engine.close().unwrap();
    drop(engine);
    check(&store.fs)
}

#[test]
fn values_that_compare_oddly_are_read_only_if_they_are_compared_or_added() {
    let none = Statistics::default();
    let store = rolled();
    let (engine, id) = one_day(&store, |i| if i == 90 { f64::NAN } else { 1.0 });
    for (statistics, rolled_up) in [
        (Statistics { times: true, ends: true, ..none }, ROWS),
        (Statistics { sum: true, ..none }, ROWS - 60),
        (Statistics { extremes: true, ..none }, ROWS - 60),
        (Statistics { sketch: true, ..none }, ROWS),
    ] {
        assert_eq!(by_step(&engine, id, HOUR, statistics, "nan").rolled_up, rolled_up, "{statistics:?}");
    }
    let store = rolled();
    let (engine, id) = one_day(&store, |i| if i == 90 { -0.0 } else { 0.0 });
    for (statistics, rolled_up) in
        [(Statistics { sum: true, ..none }, ROWS), (Statistics { extremes: true, ..none }, ROWS - 60)]
    {
        assert_eq!(by_step(&engine, id, HOUR, statistics, "zeros").rolled_up, rolled_up, "{statistics:?}");
    }
}

/// Random stores, before and after merges, with late rows, restarts and damaged or missing rollups.
/// `FORETELL_AGGREGATE_CASES` is their number.
#[test]
fn aggregates_over_rollups_are_those_of_the_rows_of_a_scan() {
    let (mut rolled_up, mut damaged) = (0, 0);
    for seed in 0..cases() {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5011);
        let mut store = rolled();
        store.config.partition_width = Duration::from_nanos(([3, 24, 100][rng.random_range(0..3)] * HOUR) as u64);
        let width = [MINUTE, 15 * MINUTE, HOUR][rng.random_range(0..3)];
        store.config.rollup_widths = [width, HOUR].map(|width| Duration::from_nanos(width as u64)).to_vec();
        let mut engine = store.open();
        let mut ids: Vec<SeriesId> = (0..7).map(|n| series(&engine, n)).collect();
        ids.sort_unstable();
        any_store(&mut rng, &engine, &ids);
        // A later day, so that all others are cold.
        write(&engine, &[(ids[0], 1000 * DAY, 1.0)]);
        engine.flush().unwrap();
        engine.compact().unwrap();
        for round in 0..3 {
            let context = format!("seed {seed}, round {round}");
            let spared = compare_some(&mut rng, &engine.snapshot(), &ids, &context);
            rolled_up += spared[0].rolled_up + spared[1].rolled_up;
            match round {
                0 => {
                    let late = (0..rng.random_range(1..10))
                        .map(|_| (ids[rng.random_range(0..ids.len())], rng.random_range(-20..40) * (HOUR / 20), 2.0));
                    write(&engine, &late.collect::<Vec<_>>());
                    engine.delete(&one_of(&[rng.random_range(0..7)], HOUR / 2, HOUR)).unwrap();
                }
                _ => {
                    engine.close().unwrap();
                    drop(engine);
                    for path in rollups(&store.fs) {
                        match rng.random_range(0..3) {
                            0 => {
                                let len = store.fs.len(&path).unwrap() as usize;
                                store.fs.flip(&path, rng.random_range(0..len));
                                damaged += 1;
                            }
                            1 if rng.random_bool(0.2) => store.fs.remove(&path).unwrap(),
                            _ => {}
                        }
                    }
                    engine = store.open();
                }
            }
        }
    }
    assert!(rolled_up > 1000 && damaged > 10, "rollups answered for {rolled_up} rows, {damaged} were damaged");
}

#[test]
fn long_series_over_many_blocks_and_chunks_are_answered_with_rows_where_they_must_be() {
    let mut store = rolled();
    store.config.partition_width = Duration::from_nanos((10 * DAY) as u64);
    let engine = store.open();
    let ids: Vec<SeriesId> = [3, 6, 9].map(|n| series(&engine, n)).to_vec();
    // Two blocks for each series, cut in the middle of a bucket, and one that shares a block with its neighbours.
    for (k, &id) in ids.iter().enumerate() {
        let rows = [11_000, 13_100, 500][k];
        write(&engine, &(0..rows).map(|i| (id, i * MINUTE + k as i64, ((i * 7) % 50) as f64)).collect::<Vec<_>>());
    }
    write(&engine, &[(ids[0], 100 * DAY, 0.0)]);
    engine.flush().unwrap();
    engine.compact().unwrap();
    write(&engine, &[(ids[0], 8_000 * MINUTE, 9.0), (ids[1], 8_192 * MINUTE + 1, 9.0), (ids[2], 5, 9.0)]);
    let snapshot = engine.snapshot();
    let mut rolled_up = 0;
    for step_ns in [Some(5 * MINUTE), Some(HOUR), Some(6 * HOUR), Some(2 * DAY), Some(5 * DAY), None] {
        for range in [TimeRange::ALL, TimeRange { start: 77 * MINUTE, end: 9_999 * MINUTE + 3 }] {
            for sketch in [false, true] {
                for series in [&ids[..], &ids[1..2], &ids[1..], &[ids[0], ids[2]]] {
                    let statistics = Statistics { sketch, ..ALL };
                    let aggregate = Aggregate { series, groups: &[], range, step_ns, statistics };
                    rolled_up += compare(&snapshot, &aggregate, 1000, "long").rolled_up;
                }
            }
        }
    }
    assert!(rolled_up > 200_000, "{rolled_up}");
}

#[test]
fn a_damaged_or_missing_rollup_changes_no_answer_is_reported_and_made_again() {
    let store = rolled();
    let (engine, id) = one_day(&store, |i| (i * 37 % 1000) as f64 * 0.01);
    engine.close().unwrap();
    drop(engine);
    let path = rollups(&store.fs).remove(0);
    let len = store.fs.len(&path).unwrap() as usize;
    let whole = Statistics { sketch: true, ..Statistics { sum: false, ..ALL } };
    let places = (0..len).step_by(len / 40 + 1).map(Some).chain([None, Some(0), Some(len - 1), Some(len - 17)]);
    for place in places {
        let broken = Store { fs: store.fs.fork(), ..rolled() };
        match place {
            Some(offset) => broken.fs.flip(&path, offset),
            None => broken.fs.remove(&path).unwrap(),
        }
        let report = check(&broken.fs);
        let [finding] = &report.findings[..] else { panic!("{place:?}: {report:#?}") };
        assert!(finding.derived && finding.path == path && finding.offset <= len as u64, "{finding:?}");
        let engine = broken.open();
        for step in [HOUR, 5 * MINUTE] {
            by_step(&engine, id, step, whole, "damaged");
        }
        // Seen at the open, or when the inside of a chunk was used: by whom it was, goes on with rows.
        let held = engine.snapshot();
        engine.compact().unwrap();
        of_range(&held, id, HOUR, whole, TimeRange::ALL, "held");
        drop(held);
        for step in [HOUR, 5 * MINUTE] {
            assert_eq!(by_step(&engine, id, step, whole, "made again").rolled_up, ROWS, "{place:?}");
        }
        assert!(check_running(&broken, engine).is_clean(), "{place:?}");
    }
}

#[test]
fn a_repair_goes_on_without_damaged_rollups_and_loses_nothing() {
    let store = rolled();
    let (engine, id) = one_day(&store, |i| (i % 100) as f64);
    engine.close().unwrap();
    drop(engine);
    let path = rollups(&store.fs).remove(0);
    store.fs.flip(&path, store.fs.len(&path).unwrap() as usize / 3);
    let fs: Arc<dyn Fs> = Arc::new(store.fs.clone());
    let done = repair_with(Path::new("/store"), &fs, Options::default(), &Progress::default()).unwrap();
    assert!(done.is_whole() && done.losses.is_empty(), "{done:#?}");
    assert!(rollups(&store.fs).is_empty());
    let engine = store.open();
    assert_eq!(by_step(&engine, id, HOUR, ALL, "repaired").rolled_up, 0);
    engine.compact().unwrap();
    assert_eq!(by_step(&engine, id, HOUR, ALL, "made again").rolled_up, ROWS);
}

#[test]
fn a_store_without_its_manifest_makes_its_rollups_again() {
    let store = rolled();
    let (engine, id) = one_day(&store, |i| (i % 100) as f64);
    engine.close().unwrap();
    drop(engine);
    store.fs.remove(Path::new("/store/MANIFEST")).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(store.fs.clone());
    let options = Options { partition_width: Some(store.config.partition_width), ..Options::default() };
    let done = repair_with(Path::new("/store"), &fs, options, &Progress::default()).unwrap();
    assert!(done.is_whole() && done.losses.is_empty(), "{done:#?}");
    let engine = store.open();
    assert!(rollups(&store.fs).is_empty(), "not listed, so deleted");
    engine.compact().unwrap();
    assert_eq!(by_step(&engine, id, HOUR, ALL, "made again").rolled_up, ROWS);
}

#[test]
fn a_rollup_goes_with_its_segment() {
    let store = rolled();
    let (engine, id) = one_day(&store, |i| (i % 100) as f64);
    let before = rollups(&store.fs);
    // A merge of the day replaces both files.
    write(&engine, &(0..1440).map(|i| (id, i * MINUTE + 1, 1.0)).collect::<Vec<_>>());
    engine.flush().unwrap();
    let held = engine.snapshot();
    engine.compact().unwrap();
    assert_eq!(rollups(&store.fs).len(), 2, "the old one is still read");
    of_range(&held, id, HOUR, ALL, TimeRange::ALL, "held");
    drop(held);
    let after = rollups(&store.fs);
    assert!(after.len() == 1 && after != before, "{before:?} {after:?}");
    assert_eq!(by_step(&engine, id, HOUR, ALL, "merged").rolled_up, 2 * ROWS);
    engine.drop_before(DAY).unwrap();
    assert!(rollups(&store.fs).is_empty());
    by_step(&engine, id, HOUR, ALL, "dropped");
    assert!(check_running(&store, engine).is_clean());
}

#[test]
fn a_backup_holds_sound_rollups_and_leaves_damaged_ones_out() {
    let store = rolled();
    let (engine, id) = one_day(&store, |i| (i % 100) as f64);
    let fs: Arc<dyn Fs> = Arc::new(store.fs.clone());
    let path = rollups(&store.fs).remove(0);
    let len = store.fs.len(&path).unwrap() as usize;
    // The last byte is of the trailer.
    let faults =
        [("sound", "/new", ROWS, None), ("inside", "/in", 0, Some(40)), ("damaged", "/other", 0, Some(len - 1))];
    for (label, target, expected, fault) in faults {
        if let Some(offset) = fault {
            store.fs.flip(&path, offset);
        }
        engine.backup(Path::new("/dest"), &Begun { at_ns: 0, label }, &Progress::default()).unwrap();
        let name = foretell_engine::backup::backups_with(Path::new("/dest"), &fs).unwrap();
        let name = &name.iter().find(|backup| backup.name.starts_with(label)).unwrap().name;
        restore_with(Path::new("/dest"), &fs, Some(name), Path::new(target), &Progress::default()).unwrap();
        assert!(verify_with(Path::new(target), &fs, &Progress::default()).unwrap().is_clean(), "{label}");
        let mut restored = Store { fs: store.fs.clone(), ..rolled() };
        restored.config.data_dir = PathBuf::from(target);
        assert_eq!(by_step(&restored.open(), id, HOUR, ALL, label).rolled_up, expected, "{label}");
    }
}

#[test]
fn damage_that_only_a_backup_has_found_is_mended() {
    let store = rolled();
    let (engine, id) = one_day(&store, |i| (i % 100) as f64);
    store.fs.flip(&rollups(&store.fs).remove(0), 40);
    engine.backup(Path::new("/dest"), &Begun { at_ns: 0, label: "any" }, &Progress::default()).unwrap();
    engine.compact().unwrap();
    assert_eq!(by_step(&engine, id, HOUR, ALL, "mended").rolled_up, ROWS);
    assert!(check_running(&store, engine).is_clean());
}

#[test]
fn segments_that_were_there_before_rollups_were_asked_for_get_them_and_other_metrics_do_not() {
    let mut store = Store { config: Store::new().config, ..rolled() };
    store.config.partition_width = Duration::from_nanos(DAY as u64);
    let (engine, id) = one_day(&store, |i| (i % 100) as f64);
    assert!(rollups(&store.fs).is_empty());
    drop(engine);
    for (metrics, rolled_up) in [("m[12]|m0x", 0), ("m0|other", ROWS)] {
        store.config.rollup_widths = rolled().config.rollup_widths;
        store.config.rollup_metrics = metrics.into();
        let engine = store.open();
        engine.compact().unwrap();
        assert_eq!(by_step(&engine, id, HOUR, ALL, metrics).rolled_up, rolled_up, "{metrics}");
        assert_eq!(rollups(&store.fs).len(), usize::from(rolled_up > 0));
    }
    // Nobody asks for them any more: those that are there are right all the same.
    store.config.rollup_widths.clear();
    assert_eq!(by_step(&store.open(), id, HOUR, ALL, "kept").rolled_up, ROWS);
}

#[test]
fn a_row_of_a_far_future_does_not_make_the_partition_old_that_still_grows() {
    let store = rolled();
    store.clock.advance(5 * DAY + HOUR - store.clock.now_ns());
    let engine = store.open();
    let id = series(&engine, 3);
    write(&engine, &[(id, 4 * DAY, 1.0), (id, 5 * DAY, 1.0), (id, 4000 * DAY, 1.0)]);
    engine.flush().unwrap();
    engine.compact().unwrap();
    let with = |engine: &Engine| {
        let infos = engine.snapshot().segments();
        infos.iter().filter(|info| info.rollup_bytes > 0).map(|info| info.min_ts / DAY).collect::<Vec<_>>()
    };
    assert_eq!(with(&engine), [4], "of today there will be more");
    store.clock.advance(DAY);
    write(&engine, &[(id, 6 * DAY, 1.0)]);
    engine.flush().unwrap();
    engine.compact().unwrap();
    assert_eq!(with(&engine), [4, 5]);
}

#[test]
fn the_retention_does_not_wait_until_all_rollups_are_made() {
    let mut store = Store { config: Store::new().config, ..rolled() };
    store.config.partition_width = Duration::from_nanos(DAY as u64);
    let (engine, _) = one_day(&store, |i| (i % 100) as f64);
    let bytes: u64 = engine.snapshot().segments().iter().map(|info| info.bytes).sum();
    engine.close().unwrap();
    drop(engine);
    store.config.rollup_widths = rolled().config.rollup_widths;
    // Just enough without them.
    store.config.retention_bytes = Some(bytes);
    let engine = store.open();
    assert_eq!(engine.compact().unwrap().partitions_dropped, 1);
    assert!(rollups(&store.fs).is_empty());
}

#[test]
fn quantiles_of_buckets_are_near_those_of_the_rows() {
    let store = rolled();
    let value = |i: i64| 0.001 * ((i * i) % 7919) as f64;
    let (engine, id) = one_day(&store, value);
    let statistics = Statistics { sketch: true, ..Statistics::default() };
    let series = [id];
    let range = TimeRange { start: 0, end: DAY - 1 };
    let aggregate = Aggregate { series: &series, groups: &[], range, step_ns: Some(2 * HOUR), statistics };
    let snapshot = engine.snapshot();
    let mut running = snapshot.aggregate(&aggregate, 100).unwrap();
    let mut batch = AggregateBatch::default();
    assert!(running.next_batch(&mut batch).unwrap());
    assert_eq!((batch.sketches.len(), running.rows_rolled_up()), (12, ROWS));
    for (step, sketch) in (0..).zip(&batch.sketches) {
        let mut values: Vec<f64> = (step * 120..(step + 1) * 120).map(value).collect();
        values.sort_by(f64::total_cmp);
        assert_eq!((sketch.count(), sketch.relative_error()), (120, 1.0 / 128.0));
        for q in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let (got, exact) = (sketch.quantile(q).unwrap(), values[((q * 120.0).ceil() as usize).max(1) - 1]);
            assert!((got - exact).abs() <= exact / 127.0, "{got} for {exact}");
        }
    }
}

#[test]
fn a_file_that_no_manifest_lists_is_removed() {
    let store = rolled();
    let (engine, _) = one_day(&store, |i| i as f64);
    engine.close().unwrap();
    drop(engine);
    let path = Path::new("/store/partitions/1/0000000001.rollup");
    store.fs.create(path).unwrap().append(b"not one").unwrap();
    drop(store.open());
    assert!(!store.fs.exists(path).unwrap());
    assert_eq!(rollups(&store.fs).len(), 1);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut store = rolled();
    for (widths, metrics) in
        [(vec![0], ".*"), (vec![2 * DAY], ".*"), ((1..6).map(|k| k * MINUTE).collect(), ".*"), (vec![HOUR], "(")]
    {
        store.config.rollup_widths = widths.iter().map(|&ns| Duration::from_nanos(ns as u64)).collect();
        store.config.rollup_metrics = metrics.into();
        assert_eq!(store.try_open().err().unwrap().kind(), ErrorKind::Invalid, "{widths:?} {metrics}");
    }
}
