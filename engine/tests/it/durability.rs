use foretell_engine::fs::{Failure, FaultPlan, Survival};
use foretell_engine::{ErrorKind, WriteBatch};

use crate::support::{Store, batch, put, rows, series, write};

#[test]
fn each_acknowledgement_comes_after_a_sync_of_the_log() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    for ts in 0..50 {
        let before = store.fs.syncs_of(".wal");
        write(&engine, &[(id, ts, 1.0)]);
        assert_eq!(store.fs.syncs_of(".wal"), before + 1);
    }
    assert_eq!(engine.stats().wal_syncs, 50);
}

#[test]
fn one_sync_serves_all_writers_of_a_group() {
    let mut store = Store::new();
    store.config.group_commit_window = std::time::Duration::from_millis(20);
    let engine = store.open();
    let id = series(&engine, 1);
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let engine = &engine;
            scope.spawn(move || {
                (0..50).for_each(|ts| {
                    write(engine, &[(id, writer * 1000 + ts, 1.0)]);
                })
            });
        }
    });
    assert!(engine.stats().wal_syncs < 300, "{} syncs for 400 commits", engine.stats().wal_syncs);
    assert_eq!(rows(&engine.snapshot()).len(), 400);
}

#[test]
fn what_was_acknowledged_survives_a_power_cut() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    write(&engine, &[(id, 1, 1.0)]);
    store.fs.power_cut();
    drop(engine);
    assert_eq!(rows(&store.open().snapshot()).len(), 1);
}

#[test]
fn a_failed_sync_of_the_log_refuses_writes_for_good_and_reads_go_on() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    write(&engine, &[(id, 1, 1.0)]);
    store.fs.plan(FaultPlan { fail_sync_of: Some(".wal".into()), ..FaultPlan::default() });
    let error = engine.write(batch(&[(id, 2, 1.0)])).unwrap().wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    store.fs.plan(FaultPlan::default());
    let error = engine.write(batch(&[(id, 3, 1.0)])).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(engine.stats().poisoned);
    assert_eq!(rows(&engine.snapshot()).len(), 1);
    drop(engine);
    store.fs.power_cut();
    let engine = store.open();
    write(&engine, &[(id, 3, 1.0)]);
    assert_eq!(rows(&engine.snapshot()).len(), 2);
}

#[test]
fn a_clean_stop_leaves_an_empty_log_and_every_row() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    for ts in 0..100 {
        write(&engine, &[(id, ts, ts as f64)]);
    }
    let (written, before) = (engine.stats().wal_bytes, rows(&engine.snapshot()));
    engine.close().unwrap();
    drop(engine);
    for _ in 0..2 {
        let engine = store.open();
        let stats = engine.stats();
        assert!(stats.wal_bytes < 100 && written > 1000, "{} bytes of log, {written} before", stats.wal_bytes);
        assert_eq!(rows(&engine.snapshot()), before);
        engine.close().unwrap();
    }
    let engine = store.open();
    write(&engine, &[(id, 1000, 1.0)]);
    drop(engine);
    assert_eq!(rows(&store.open().snapshot()).len(), 101);
}

#[test]
fn a_failed_flush_keeps_the_rows_and_the_next_one_succeeds() {
    for text in [".segment", ".tmp"] {
        let store = Store::new();
        let engine = store.open();
        let id = series(&engine, 1);
        write(&engine, &[(id, 1, 1.0)]);
        store.fs.plan(FaultPlan { fail_sync_of: Some(text.into()), ..FaultPlan::default() });
        assert_eq!(engine.flush().unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(rows(&engine.snapshot()).len(), 1, "{text}");
        store.fs.plan(FaultPlan::default());
        write(&engine, &[(id, 2, 1.0)]);
        engine.flush().unwrap();
        assert_eq!(rows(&engine.snapshot()).len(), 2, "{text}");
        engine.close().unwrap();
        assert_eq!(rows(&store.open().snapshot()).len(), 2, "{text}");
    }
}

#[test]
fn without_sync_every_commit_the_log_is_still_synced_at_the_end() {
    let mut store = Store::new();
    store.config.sync_every_commit = false;
    let engine = store.open();
    let id = series(&engine, 1);
    (0..20).for_each(|ts| {
        write(&engine, &[(id, ts, 1.0)]);
    });
    assert!(store.fs.syncs_of(".wal") < 20);
    drop(engine);
    store.fs.power_cut();
    assert_eq!(rows(&store.open().snapshot()).len(), 20);
}

#[test]
fn series_created_without_a_sample_keep_their_id_once_the_log_is_truncated() {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 1;
    let engine = store.open();
    let (idle, busy) = (series(&engine, 1), series(&engine, 2));
    for ts in 0..5 {
        write(&engine, &[(busy, ts, 1.0)]);
        engine.flush().unwrap();
    }
    write(&engine, &[(idle, 9, 1.0)]);
    drop(engine);
    let engine = store.open();
    assert_eq!((series(&engine, 1), series(&engine, 2)), (idle, busy));
    assert_eq!(rows(&engine.snapshot()).len(), 6);
}

#[test]
fn a_store_of_state_alone_comes_back() {
    let store = Store::new();
    let engine = store.open();
    for i in 0..3 {
        let state = vec![put("k", &i.to_string())];
        engine.write(WriteBatch { state, ..WriteBatch::default() }).unwrap().wait().unwrap();
        engine.flush().unwrap();
    }
    engine.close().unwrap();
    let engine = store.open();
    assert_eq!(engine.snapshot().state(b"k").unwrap().as_deref(), Some(b"2".as_slice()));
    assert_eq!(engine.snapshot().lsn().0, 3);
}

/// A store with a log file for each of `commits` commits, one row each.
fn with_a_log_file_each(commits: i64) -> Store {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 1;
    let engine = store.open();
    let id = series(&engine, 1);
    for ts in 0..commits {
        write(&engine, &[(id, ts, 1.0)]);
    }
    drop(engine);
    assert_eq!(store.wal().len() as i64, commits);
    store
}

#[test]
fn a_log_file_that_could_not_be_removed_goes_before_any_younger_one() {
    let mut kinds = std::collections::BTreeSet::new();
    for n in 0.. {
        let store = with_a_log_file_each(5);
        let engine = store.open();
        store.fs.plan(FaultPlan::fault(store.fs.calls() + n, Failure::Io));
        let flushed = engine.flush();
        let Some(struck) = store.fs.struck() else { break };
        kinds.insert(struck.split(" of ").next().and_then(|call| call.split(", ").last()).map(str::to_owned));
        assert!(flushed.is_err() || struck.contains("remove"), "{struck}");
        store.fs.plan(FaultPlan::default());
        let poisoned = engine.stats().poisoned;
        if !poisoned {
            write(&engine, &[(series(&engine, 1), 100, 1.0)]);
            engine.flush().unwrap();
        }
        drop(engine);
        let engine = store.try_open().unwrap_or_else(|error| panic!("{struck} had failed: {error}"));
        assert_eq!(rows(&engine.snapshot()).len(), 5 + usize::from(!poisoned), "{struck}");
    }
    assert!(kinds.contains(&Some("remove".to_owned())), "{kinds:?}");
}

#[test]
fn log_files_that_go_together_leave_no_gap_whatever_entries_a_power_cut_keeps() {
    for n in 0.. {
        let mut ended = false;
        for seed in 0..12 {
            let store = with_a_log_file_each(7);
            let engine = store.open();
            store.fs.plan(FaultPlan::death(store.fs.calls() + n, Survival::Reordered(seed)));
            ended = engine.flush().is_ok();
            store.fs.power_cut();
            drop(engine);
            let engine = store.try_open().unwrap_or_else(|error| panic!("died {n} calls later, seed {seed}: {error}"));
            assert_eq!(rows(&engine.snapshot()).len(), 7, "died {n} calls later, seed {seed}");
        }
        if ended {
            assert!(n > 12, "{n} calls");
            break;
        }
    }
}

#[test]
fn a_partition_directory_that_a_kill_has_left_is_made_durable_before_anything_in_it_counts() {
    for n in 0.. {
        let store = with_a_log_file_each(1);
        let engine = store.open();
        store.fs.plan(FaultPlan::death(store.fs.calls() + n, Survival::All));
        let ended = engine.flush().is_ok();
        drop(engine);
        // What the dead process did is still there, in the page cache.
        store.fs.kill();
        let engine = store.open();
        engine.flush().unwrap();
        drop(engine);
        store.fs.power_cut();
        let engine = store.try_open().unwrap_or_else(|error| panic!("killed {n} calls later: {error}"));
        assert_eq!(rows(&engine.snapshot()).len(), 1, "killed {n} calls later");
        if ended {
            assert!(n > 5, "{n} calls");
            break;
        }
    }
}

#[test]
fn with_syncs_at_intervals_the_manifest_knows_only_commits_that_are_on_the_disk() {
    let mut store = Store::new();
    store.config.sync_every_commit = false;
    for round in 0..3i64 {
        let engine = store.open();
        let id = series(&engine, 1);
        for ts in round * 20..round * 20 + 20 {
            write(&engine, &[(id, ts, 1.0)]);
        }
        engine.flush().unwrap();
        store.fs.power_cut();
        drop(engine);
        assert_eq!(rows(&store.open().snapshot()).len() as i64, round * 20 + 20);
    }
}
