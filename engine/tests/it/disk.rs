//! A full disk: writes are refused, nothing acknowledged is lost, and everything goes on once there is room.
use std::sync::Arc;

use foretell_engine::fs::SmallFs;
use foretell_engine::{Engine, Error, ErrorKind, Result, SeriesId, WriteBatch};

use crate::records::{mirror, mirrored};
use crate::support::{HOUR, Rows, Store, batch, labels, put, rows, side_by_side};

/// A store on a disk of `size` bytes.
fn small(store: &Store, size: u64) -> SmallFs {
    SmallFs::new(Arc::new(store.fs.clone()), size)
}

fn open(store: &Store, disk: &SmallFs) -> Result<Engine> {
    Engine::open_with(store.config.clone(), Arc::new(disk.clone()), Arc::clone(&store.clock) as _)
}

fn nth(engine: &Engine, n: u32) -> SeriesId {
    engine.resolve(&labels(&[("__name__", "m"), ("n", &n.to_string())])).unwrap()
}

/// Writes 100 rows at a time until the disk is full, and returns how many rows were acknowledged.
fn fill(engine: &Engine, from: i64) -> i64 {
    for step in 0.. {
        let id = nth(engine, (step % 7) as u32);
        let first = from + step * 100;
        let new: Vec<_> = (first..first + 100).map(|ts| (id, ts, (ts as f64).sqrt())).collect();
        match engine.write(batch(&new)).and_then(|handle| handle.wait()) {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, Error::DiskFull { .. }), "{error}");
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                assert!(error.to_string().contains("the disk is full"), "{error}");
                assert!(!engine.stats().poisoned);
                return step * 100;
            }
        }
    }
    unreachable!()
}

#[test]
fn a_full_disk_refuses_writes_keeps_reads_and_takes_writes_again_when_there_is_room() {
    let mut store = Store::new();
    store.config.disk_reserve_bytes = Some(0);
    let disk = small(&store, 60_000);
    let engine = open(&store, &disk).unwrap();
    let first = fill(&engine, 0);
    assert!(first > 1000, "{first} rows");
    assert_eq!(rows(&engine.snapshot()).len() as i64, first);
    // A new series at a full disk: its definition must not be lost with the group that was undone.
    let late = nth(&engine, 99);
    assert!(engine.write(batch(&[(late, 1, 1.0)])).unwrap().wait().is_err() || disk.used() <= 60_000);
    disk.resize(120_000);
    let second = fill(&engine, first);
    assert!(second > 1000, "{second} rows");
    disk.resize(1 << 30);
    engine.write(batch(&[(late, 2, 1.0)])).unwrap().wait().unwrap();
    let before = rows(&engine.snapshot());
    assert!(before.contains_key(&(late, 2)) && before.len() as i64 > first + second);
    drop(engine);
    assert_eq!(rows(&open(&store, &disk).unwrap().snapshot()), before);
    // And what a power cut leaves is the same.
    store.fs.power_cut();
    assert_eq!(rows(&store.open().snapshot()), before);
}

#[test]
fn the_reserve_leaves_room_for_the_flush_that_makes_room() {
    let mut store = Store::new();
    store.config.partition_width = std::time::Duration::from_secs(86_400);
    let disk = small(&store, 200_000);
    let engine = open(&store, &disk).unwrap();
    let mut written = 0;
    for _ in 0..3 {
        let new = fill(&engine, written);
        assert!(new > 0, "no row after {written}");
        written += new;
        let free = 200_000 - disk.used();
        assert!(free >= 200_000 / 8, "writes ended with {free} bytes free");
        // The commit thread starts the new file of the log when it gets to it.
        let log = engine.stats().wal_bytes;
        for round in 0.. {
            engine.flush().unwrap();
            if engine.stats().wal_bytes < log / 2 {
                break;
            }
            assert!(round < 1_000_000, "the log stays as long as it is");
            std::thread::yield_now();
        }
    }
    assert_eq!(rows(&engine.snapshot()).len() as i64, written);
    engine.close().unwrap();
    assert_eq!(rows(&open(&store, &disk).unwrap().snapshot()).len() as i64, written);
}

#[test]
fn a_merge_that_does_not_fit_is_left_for_later() {
    let mut store = Store::new();
    store.config.disk_reserve_bytes = Some(1000);
    let disk = small(&store, 1 << 30);
    let engine = open(&store, &disk).unwrap();
    let id = nth(&engine, 1);
    for ts in 0..20 {
        engine.write(batch(&[(id, ts, 1.0)])).unwrap().wait().unwrap();
        engine.flush().unwrap();
    }
    let segments = engine.stats().segments;
    disk.resize(disk.used() + 1001);
    assert_eq!(engine.compact().unwrap().segments_out, 0);
    disk.resize(1 << 30);
    assert!(engine.compact().unwrap().segments_out > 0);
    assert!(engine.stats().segments < segments);
    assert_eq!(rows(&engine.snapshot()).len(), 20);
}

#[test]
fn a_merge_does_not_wait_for_room_for_its_rollup_which_takes_none_of_the_reserve() {
    for reserve in [0, 2 << 20] {
        let mut store = Store::new();
        store.config.disk_reserve_bytes = Some(reserve);
        store.config.partition_width = std::time::Duration::from_secs(86_400);
        store.config.rollup_widths = [1, 2, 4].map(std::time::Duration::from_secs).to_vec();
        let disk = small(&store, 1 << 30);
        let engine = open(&store, &disk).unwrap();
        let id = nth(&engine, 1);
        for part in 0..10 {
            // Each row is a bucket of its own, which takes more room than the row.
            let seconds = (part * 1000..(part + 1) * 1000).map(|i: i64| (id, i * 1_000_000_000, (i as f64).sqrt()));
            engine.write(batch(&seconds.collect::<Vec<_>>())).unwrap().wait().unwrap();
            engine.flush().unwrap();
        }
        let before = rows(&engine.snapshot());
        let bytes: u64 = engine.snapshot().segments().iter().map(|info| info.bytes).sum();
        disk.resize(disk.used() + bytes + 4096 + reserve);
        // Whether the rollup alone is tried then depends on what the merge has freed.
        assert!(engine.compact().err().is_none_or(|error| error.is_disk_full()));
        // What found no room is not tried again, with all its reading and writing, before there is some.
        engine.compact().unwrap();
        let infos = engine.snapshot().segments();
        assert_eq!((infos.len(), infos[0].rollup_bytes), (1, 0), "{infos:?}");
        disk.resize(1 << 30);
        engine.compact().unwrap();
        assert!(engine.snapshot().segments()[0].rollup_bytes > bytes);
        assert_eq!(rows(&engine.snapshot()), before);
        engine.close().unwrap();
        drop(engine);
        assert!(crate::verify::check(&store.fs).is_clean());
    }
}

/// One step of the scripted work.
fn step(engine: &Engine, step: u32) -> Result<Vec<((SeriesId, i64), u64)>> {
    let mut batch = WriteBatch { state: vec![put("step", &step.to_string())], ..WriteBatch::default() };
    let mut new = Vec::new();
    for k in 0..3u32 {
        let name = ((step + k) % 5).to_string();
        let id = engine.resolve(&labels(&[("__name__", "m"), ("n", &name)]))?;
        let (ts, value) = (i64::from(step % 4) * HOUR, f64::from(step * 10 + k));
        batch.push(id, ts, value);
        new.push(((id, ts), value.to_bits()));
    }
    let samples: Vec<_> = new.iter().map(|&((id, ts), bits)| (id, ts, f64::from_bits(bits))).collect();
    batch.records.push(mirror(&samples));
    engine.write(batch)?.wait()?;
    Ok(new)
}

/// Steps, flushes and merges; what cannot be done for want of room is left out. Returns what was acknowledged.
fn work(engine: &Engine, steps: std::ops::Range<u32>, refused: &mut u32) -> Rows {
    let mut told = Rows::new();
    let mut tell = |outcome: Result<()>| match outcome {
        Ok(()) => {}
        Err(error) => {
            assert!(error.is_disk_full(), "{error}");
            *refused += 1;
        }
    };
    for number in steps {
        tell(step(engine, number).map(|new| told.extend(new)));
        if number % 3 == 2 {
            tell(engine.flush());
        }
        if number % 13 == 12 {
            tell(engine.compact().map(drop));
        }
    }
    told
}

fn scripted() -> (Store, SmallFs) {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 200;
    store.config.memtable_run_rows = 5;
    store.config.disk_reserve_bytes = Some(0);
    let disk = small(&store, 1 << 40);
    (store, disk)
}

/// Calls of the scripted work that take room.
fn calls_of_a_whole_run() -> u64 {
    let (store, disk) = scripted();
    let engine = open(&store, &disk).unwrap();
    disk.full_at(None);
    let mut refused = 0;
    work(&engine, 0..14, &mut refused);
    assert_eq!(refused, 0);
    disk.calls()
}

#[test]
fn no_room_from_any_call_on_loses_nothing_and_is_over_when_there_is_room() {
    let calls = calls_of_a_whole_run();
    assert!(calls > 80, "{calls} calls");
    side_by_side(0..calls, |at| {
        let what = format!("no room from call {at} of {calls} on");
        let (store, disk) = scripted();
        let engine = open(&store, &disk).unwrap();
        disk.full_at(Some(at));
        let mut refused = 0;
        let mut told = work(&engine, 0..14, &mut refused);
        assert!(refused > 0, "{what}: nothing was refused");
        assert!(!engine.stats().poisoned, "{what}");
        assert_eq!(rows(&engine.snapshot()), told, "{what}");
        assert_eq!(mirrored(&engine.snapshot()).unwrap(), told, "{what}: records and samples are one");
        if at % 3 < 2 {
            // The machine goes down: while the disk is full, or with new commits that no flush has followed.
            let mut refused = 0;
            if at % 3 == 0 {
                disk.full_at(None);
                told.extend(work(&engine, 15..17, &mut refused));
            }
            assert_eq!(refused, 0, "{what}");
            store.fs.power_cut();
            drop(engine);
            let engine = store.open();
            assert_eq!(rows(&engine.snapshot()), told, "{what}: after a power cut");
            assert_eq!(mirrored(&engine.snapshot()).unwrap(), told, "{what}: records after a power cut");
            return 1;
        }
        disk.full_at(None);
        let mut refused = 0;
        told.extend(work(&engine, 14..20, &mut refused));
        assert_eq!(refused, 0, "{what}");
        engine.flush().unwrap();
        assert_eq!(rows(&engine.snapshot()), told, "{what}: with room again");
        assert_eq!(mirrored(&engine.snapshot()).unwrap(), told, "{what}: records with room again");
        engine.close().unwrap();
        drop(engine);
        assert_eq!(rows(&open(&store, &disk).unwrap().snapshot()), told, "{what}: opened again");
        1
    });
}
