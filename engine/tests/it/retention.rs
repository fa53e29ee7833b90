//! Retention: whole partitions go, by age and by bytes, and readers notice nothing half done.
use std::time::Duration;

use foretell_engine::Engine;
use foretell_engine::fs::Fs;

use crate::support::{HOUR, Store, rows, series, write};

/// A row an hour from 0 to `hours`, each in a partition of its own.
fn fill(engine: &Engine, hours: i64) {
    for hour in 0..hours {
        write(engine, &[(series(engine, 1), hour * HOUR, 1.0), (series(engine, 10 + hour as u32), hour * HOUR, 2.0)]);
        engine.flush().unwrap();
    }
}

fn hours(engine: &Engine) -> Vec<i64> {
    let mut hours: Vec<i64> = rows(&engine.snapshot()).keys().map(|&(_, ts)| ts / HOUR).collect();
    hours.sort_unstable();
    hours.dedup();
    hours
}

#[test]
fn by_age_partitions_go_when_their_last_instant_is_too_old() {
    let mut store = Store::new();
    store.config.retention_age = Some(Duration::from_secs(3 * 3600));
    let engine = store.open();
    fill(&engine, 6);
    assert_eq!(engine.compact().unwrap().partitions_dropped, 0, "it is 1970");
    store.clock.advance(5 * HOUR);
    assert_eq!(engine.oldest_accepted_ns(), 2 * HOUR);
    let pinned = engine.snapshot();
    let before = rows(&pinned);
    assert_eq!(engine.compact().unwrap().partitions_dropped, 2);
    assert_eq!(hours(&engine), [2, 3, 4, 5]);
    assert_eq!(rows(&pinned), before, "a snapshot from before reads on");
    assert_eq!(engine.stats().partitions_dropped, 2);
    drop(pinned);
    engine.flush().unwrap();
    for hour in [0, 1] {
        let dir = format!("/store/partitions/{hour}");
        let left = store.fs.list(std::path::Path::new(&dir)).unwrap();
        assert!(left.is_empty(), "{dir}: {left:?}");
    }
    drop(engine);
    let engine = store.open();
    assert_eq!(hours(&engine), [2, 3, 4, 5]);
    assert_eq!(engine.compact().unwrap().partitions_dropped, 0);
}

#[test]
fn by_bytes_the_oldest_partitions_go_and_what_went_is_not_accepted_again() {
    let mut store = Store::new();
    let engine = store.open();
    fill(&engine, 6);
    engine.compact().unwrap();
    let segments = engine.snapshot().segments();
    let bytes =
        segments.iter().filter(|segment| segment.partition_start >= 3 * HOUR).map(|segment| segment.bytes).sum();
    assert_eq!(engine.oldest_accepted_ns(), i64::MIN, "everything is kept unless a retention is set");
    engine.close().unwrap();
    drop(engine);
    store.config.retention_bytes = Some(bytes);
    let engine = store.open();
    assert_eq!(engine.oldest_accepted_ns(), i64::MIN);
    assert_eq!(engine.compact().unwrap().partitions_dropped, 3);
    assert_eq!(hours(&engine), [3, 4, 5]);
    assert_eq!(engine.stats().segment_bytes, bytes);
    assert_eq!(engine.oldest_accepted_ns(), 3 * HOUR);
    // Rows for the past that were on their way all the same go with the next pass.
    write(&engine, &[(series(&engine, 1), 0, 9.0)]);
    assert_eq!(hours(&engine), [0, 3, 4, 5]);
    engine.flush().unwrap();
    assert_eq!(engine.compact().unwrap().partitions_dropped, 1);
    assert_eq!(hours(&engine), [3, 4, 5]);
}

#[test]
fn rows_in_memory_of_a_series_whose_partitions_went_survive_a_power_cut() {
    let mut store = Store::new();
    store.config.retention_age = Some(Duration::from_secs(3600));
    let engine = store.open();
    fill(&engine, 2);
    store.clock.advance(9 * HOUR);
    write(&engine, &[(series(&engine, 1), 9 * HOUR, 3.0)]);
    let expected = rows(&engine.snapshot()).into_iter().filter(|((_, ts), _)| *ts == 9 * HOUR).collect();
    engine.compact().unwrap();
    assert_eq!(hours(&engine), [9]);
    store.fs.power_cut();
    drop(engine);
    let engine = store.open();
    assert_eq!(rows(&engine.snapshot()), expected);
    engine.flush().unwrap();
    assert_eq!(rows(&engine.snapshot()), expected);
}
