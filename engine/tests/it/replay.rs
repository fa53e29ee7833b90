//! The log is read on one thread and applied on another: what comes back is what was there, whatever the log holds, however
//! long it is, and wherever it ends.
use std::path::Path;

use foretell_engine::fs::{Failure, FaultPlan, Fs};
use foretell_engine::{Engine, Error, ErrorKind, Lsn, WriteBatch};

use crate::deletes::one_of;
use crate::records::{mirror, mirrored};
use crate::support::{HOUR, Rows, Store, batch, names, put, rows, series};

/// Everything that readers and consumers of the feed can see.
#[derive(Debug, PartialEq)]
struct Seen {
    lsn: Lsn,
    rows: Rows,
    records: Rows,
    names: Vec<String>,
    state: Vec<(Vec<u8>, Vec<u8>)>,
    commits: Vec<String>,
    last_commit: Lsn,
}

fn seen(engine: &Engine, after: Lsn) -> Seen {
    let snapshot = engine.snapshot();
    let commits = engine.read_commits(after, snapshot.lsn(), usize::MAX).unwrap();
    let last_commit = commits.last().map_or(after, |commit| commit.lsn);
    let told = commits.iter().map(|commit| {
        let WriteBatch { series, ts, values, state, deletes, records } = &*commit.batch;
        let bits: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
        let records: Vec<_> =
            records.iter().map(|records| (records.table.name(), &records.series, &records.ts)).collect();
        format!("{:?} {series:?} {ts:?} {bits:?} {state:?} {deletes:?} {records:?}", commit.lsn)
    });
    Seen {
        lsn: snapshot.lsn(),
        rows: rows(&snapshot),
        records: mirrored(&snapshot).unwrap(),
        names: names(&snapshot).into_iter().map(|(id, name)| format!("{id:?} {name}")).collect(),
        state: snapshot.state_prefix(b"").unwrap().into_iter().map(|(key, value)| (key, value.to_vec())).collect(),
        commits: told.collect(),
        last_commit,
    }
}

/// Rows in and out of order, overwrites, NaN payloads, new series, records, state that comes and goes, deletes, and commits
/// of each alone. Returns the position of the last flush.
fn live(engine: &Engine) -> Lsn {
    let mut flushed = Lsn(0);
    for step in 0..60u32 {
        let rows: Vec<_> = (0..step % 9)
            .map(|k| {
                let ts = i64::from((step * 7 + k * 11) % 40) * (HOUR / 10);
                let bits = if k == 3 { 0x7ff0_0000_0000_0000 + u64::from(step) + 1 } else { u64::from(step * 16 + k) };
                (series(engine, step / 4 + k % 5), ts, f64::from_bits(bits))
            })
            .collect();
        let mut batch = batch(&rows);
        batch.records.push(mirror(&rows));
        if step % 3 == 0 {
            batch.state = vec![put("position", &step.to_string()), put(&format!("key {}", step % 7), "value")];
        }
        if step % 10 == 9 {
            batch.state.push((format!("key {}", step % 4).into_bytes(), None));
        }
        engine.write(batch).unwrap().wait().unwrap();
        if step % 8 == 5 {
            engine.delete(&one_of(&[step / 4, step / 4 + 1], 0, HOUR)).unwrap();
        }
        if step == 20 {
            engine.flush().unwrap();
            flushed = engine.snapshot().lsn();
        }
    }
    flushed
}

#[test]
fn what_was_there_comes_back_whatever_the_sizes() {
    for wal_segment_bytes in [1, 700, 64 << 20] {
        for (memtable_run_rows, memtable_bytes) in [(1, 1 << 30), (7, 2_000), (256 << 10, 300), (40, 1)] {
            let case =
                format!("files of {wal_segment_bytes}, runs of {memtable_run_rows}, memtables of {memtable_bytes}");
            let mut store = Store::new();
            store.config.wal_segment_bytes = wal_segment_bytes;
            let engine = store.open();
            let flushed = live(&engine);
            let before = seen(&engine, flushed);
            assert!(before.rows.len() > 40 && before.state.len() > 4 && before.commits.len() > 40, "{case}");
            drop(engine);

            store.config.memtable_run_rows = memtable_run_rows;
            (store.config.memtable_bytes_max, store.config.memtable_total_bytes_max) =
                (memtable_bytes, 2 * memtable_bytes);
            store.config.wal_retained_bytes_max = u64::MAX;
            let engine = store.open();
            assert_eq!(seen(&engine, flushed), before, "{case}");
            assert_eq!(engine.stats().flushes > 0, memtable_bytes < 10_000, "{case}");
            engine.flush().unwrap();
            engine.compact().unwrap();
            let after = engine.snapshot();
            assert_eq!((rows(&after), mirrored(&after).unwrap()), (before.rows, before.records), "{case}, merged");
        }
    }
}

/// More decoded commits than are read ahead of those that are applied.
const BATCHES: i64 = 51;
const BATCH_ROWS: u32 = 10_000;

/// A killed store with a long log, in files of a few commits each.
fn long() -> Store {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 400_000;
    store.config.memtable_run_rows = 256 << 10;
    let engine = store.open();
    let ids: Vec<_> = (0..BATCH_ROWS).map(|n| series(&engine, n)).collect();
    for ts in 0..BATCHES {
        let rows: Vec<_> = ids.iter().map(|&id| (id, ts, id.0 as f64)).collect();
        engine.write(batch(&rows)).unwrap().wait().unwrap();
    }
    drop(engine);
    assert!(store.wal().len() > 5);
    store
}

/// How many rows each of the series has.
fn rows_each(engine: &Engine) -> i64 {
    assert_eq!(engine.stats().active_series, u64::from(BATCH_ROWS));
    let rows = rows(&engine.snapshot());
    let each = rows.len() as i64 / i64::from(BATCH_ROWS);
    assert!(rows.iter().all(|(&(id, ts), &bits)| ts < each && f64::from_bits(bits) == id.0 as f64));
    assert_eq!(rows.len() as i64, each * i64::from(BATCH_ROWS));
    each
}

#[test]
fn a_log_longer_than_what_is_read_ahead_comes_back_whole() {
    let store = long();
    let engine = store.open();
    assert_eq!(rows_each(&engine), BATCHES);
    assert_eq!(engine.stats().flushes, 0, "it was in memory before, too");
}

#[test]
fn a_flush_that_fails_while_the_log_is_read_ahead_ends_the_open_and_the_next_one_succeeds() {
    let mut store = long();
    (store.config.memtable_bytes_max, store.config.memtable_total_bytes_max) = (1 << 20, 2 << 20);
    let mut failed = 0;
    for call in 0..14 {
        store.fs.plan(FaultPlan::fault(store.fs.calls() + call, Failure::Io));
        failed += usize::from(store.try_open().is_err());
    }
    assert!(failed > 5, "{failed} of 14");
    store.fs.plan(FaultPlan::default());
    let engine = store.open();
    assert_eq!(rows_each(&engine), BATCHES);
    assert!(engine.stats().memtable_bytes < 2 << 20, "{} bytes", engine.stats().memtable_bytes);
}

/// Where the records of a log file begin.
fn records_of(store: &Store, path: &Path) -> Vec<usize> {
    let (bytes, mut at, mut records) = (store.fs.map(path).unwrap(), 24, Vec::new());
    while let Some(len) = bytes.get(at..at + 4) {
        records.push(at);
        at += 17 + u32::from_le_bytes(len.try_into().unwrap()) as usize;
    }
    records
}

#[test]
fn damage_in_the_middle_of_a_long_log_stops_the_open_and_says_where() {
    let store = long();
    let files = store.wal();
    for path in [&files[0], &files[files.len() / 2], files.last().unwrap()] {
        let records = records_of(&store, path);
        assert!(records.len() > 1, "{}", path.display());
        // Of the newest file not the last record: that would be its torn end.
        for &at in &records[..records.len() - 1] {
            let byte = at + 17 + 1000;
            store.fs.flip(path, byte);
            match store.try_open() {
                Err(Error::Corruption { path: found, offset, .. }) => assert_eq!((&found, offset), (path, at as u64)),
                other => panic!("damage at {byte} of {}: {:?}", path.display(), other.err()),
            }
            store.fs.flip(path, byte);
        }
    }
    assert_eq!(rows_each(&store.open()), BATCHES);
}

#[test]
fn of_a_long_log_only_the_torn_end_of_the_newest_file_is_cut() {
    let mut store = long();
    // Flushes come before the cut, which is the last that is done to the log.
    (store.config.memtable_bytes_max, store.config.memtable_total_bytes_max) = (1 << 20, 2 << 20);
    let files = store.wal();
    let (older, newest) = (&files[files.len() - 2], files.last().unwrap());
    let last = *records_of(&store, newest).last().unwrap() as u64;
    store.fs.truncate(newest, store.fs.len(newest).unwrap() - 1).unwrap();
    assert_eq!(rows_each(&store.open()), BATCHES - 1);
    assert_eq!(store.fs.len(newest).unwrap(), last);
    store.fs.truncate(older, store.fs.len(older).unwrap() - 1).unwrap();
    assert_eq!(store.try_open().err().unwrap().kind(), ErrorKind::Corruption);
}
