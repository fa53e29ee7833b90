use foretell_engine::fs::Fs;
use foretell_engine::{Engine, EngineConfig, ErrorKind, SeriesId, TimeRange, WriteBatch};

use crate::support::{HOUR, Store, batch, labels, put, rows, scan, series, write};

#[test]
fn every_bit_comes_back_from_memory_from_segments_and_after_reopening() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    let values =
        [0x7ff0_0000_0000_0002, 0x7ff8_dead_beef_0001, 0x8000_0000_0000_0000, 1, u64::MAX, 0x4045_0000_0000_0000];
    let times = [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX];
    for (&ts, &bits) in times.iter().zip(&values) {
        write(&engine, &[(id, ts, f64::from_bits(bits))]);
    }
    let expected = times.iter().zip(&values).map(|(&ts, &bits)| ((id, ts), bits)).collect();
    assert_eq!(rows(&engine.snapshot()), expected, "memtable");
    engine.flush().unwrap();
    assert_eq!(rows(&engine.snapshot()), expected, "segments");
    engine.compact().unwrap();
    engine.close().unwrap();
    let engine = store.open();
    assert_eq!(rows(&engine.snapshot()), expected, "reopened");
    for (&ts, &bits) in times.iter().zip(&values) {
        let one = scan(&engine.snapshot(), &[id], TimeRange { start: ts, end: ts }).unwrap();
        assert_eq!(one.into_iter().collect::<Vec<_>>(), [((id, ts), bits)]);
    }
}

#[test]
fn of_equal_timestamps_the_newest_commit_wins_wherever_the_others_are() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    for value in 0..6 {
        write(&engine, &[(id, 5, f64::from(value) - 0.5), (id, 5, f64::from(value))]);
        if value % 2 == 0 {
            engine.flush().unwrap();
        }
        let found: Vec<u64> = rows(&engine.snapshot()).into_values().collect();
        assert_eq!(found, [f64::from(value).to_bits()]);
    }
    engine.compact().unwrap();
    assert_eq!(rows(&engine.snapshot()).into_values().collect::<Vec<_>>(), [5f64.to_bits()]);
}

#[test]
fn samples_and_state_of_a_batch_become_visible_together() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    let before = engine.snapshot();
    let mut both = batch(&[(id, 1, 1.0)]);
    both.state = vec![put("k/a", "1"), put("k/b", "2"), put("k/a", "3"), (b"k/b".to_vec(), None), put("other", "x")];
    let lsn = engine.write(both).unwrap().wait().unwrap();
    let after = engine.snapshot();
    assert_eq!((before.state(b"k/a").unwrap(), rows(&before).len()), (None, 0));
    assert_eq!((after.state(b"k/a").unwrap().as_deref(), after.lsn()), (Some(b"3".as_slice()), lsn));
    assert_eq!(after.state_prefix(b"k/").unwrap().len(), 1);
    engine.flush().unwrap();
    let state = vec![put("k/c", "4"), (b"other".to_vec(), None)];

    engine.write(WriteBatch { state, ..WriteBatch::default() }).unwrap().wait().unwrap();
    drop((engine, before, after));
    let snapshot = store.open().snapshot();
    assert_eq!(
        snapshot.state_prefix(b"").unwrap().iter().map(|pair| pair.0.as_slice()).collect::<Vec<_>>(),
        [b"k/a", b"k/c"]
    );
}

#[test]
fn a_snapshot_keeps_what_it_saw_through_flush_compaction_and_close() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    let mut held = Vec::new();
    for i in 0..8 {
        write(&engine, &[(id, i, 1.0)]);
        engine.flush().unwrap();
        held.push((engine.snapshot(), i as usize + 1));
    }
    assert!(engine.compact().unwrap().segments_in >= 8);
    assert!(engine.snapshot().segments().len() < 8);
    engine.close().unwrap();
    for (snapshot, n) in &held {
        assert_eq!(scan(snapshot, &[id], TimeRange::ALL).unwrap().len(), *n);
    }
    drop(held);
    drop(engine);
    use foretell_engine::fs::Fs;
    let files = store.fs.list(std::path::Path::new("/store/partitions/0")).unwrap();
    let segments = files.iter().filter(|name| name.ends_with(".segment")).count();
    assert_eq!(segments, 1, "replaced segments go with the last snapshot: {files:?}");
}

#[test]
fn bad_batches_are_invalid_and_leave_no_trace() {
    let engine = Store::new().open();
    let mut uneven = batch(&[(series(&engine, 1), 1, 1.0)]);
    uneven.ts.push(2);
    assert_eq!(engine.write(uneven).err().unwrap().kind(), ErrorKind::Invalid);
    let unknown = batch(&[(SeriesId(12_345), 1, 1.0)]);
    assert_eq!(engine.write(unknown).err().unwrap().kind(), ErrorKind::Invalid);
    assert!(rows(&engine.snapshot()).is_empty());
}

#[test]
fn a_full_memtable_refuses_writes_until_it_is_flushed() {
    let mut store = Store::new();
    store.config.memtable_total_bytes_max = 10_000;
    let engine = store.open();
    let id = series(&engine, 1);
    let mut accepted = 0;
    let refused = loop {
        match engine.write(batch(&[(id, accepted, 1.0)])) {
            Ok(handle) => drop(handle.wait().unwrap()),
            Err(error) => break error,
        }
        accepted += 1;
        assert!(accepted < 1000);
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert_eq!(engine.ensure_room().unwrap_err().kind(), ErrorKind::Unavailable);
    engine.flush().unwrap();
    engine.ensure_room().unwrap();
    write(&engine, &[(id, -1, 1.0)]);
    assert_eq!(rows(&engine.snapshot()).len() as i64, accepted + 1);
}

#[test]
fn the_series_limit_refuses_only_new_series() {
    let mut store = Store::new();
    store.config.active_series_max = 2;
    let engine = store.open();
    let (a, b) = (series(&engine, 0), series(&engine, 1));
    let third = labels(&[("__name__", "m2")]);
    assert_eq!(engine.resolve(&third).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!((series(&engine, 0), series(&engine, 1)), (a, b));
    write(&engine, &[(a, 1, 1.0), (b, 1, 1.0)]);
}

#[test]
fn lookup_finds_exactly_the_keys_that_were_resolved() {
    let engine = Store::new().open();
    // More than are created under one lock, one of them twice.
    let of = |key: u128| (key * 7, labels(&[("__name__", "m"), ("k", &(key % 999).to_string())]));
    let named: Vec<_> = (0..3000).map(of).collect();
    let ids: Vec<SeriesId> = engine.resolve_keyed(&named).into_iter().map(Result::unwrap).collect();
    assert_eq!((ids[0], engine.stats().series), (ids[999], 999));
    let keys: Vec<u128> = (0..21_000).collect();
    let mut found = Vec::new();
    let unknown = engine.lookup(&keys, &mut found);
    assert_eq!(unknown, (0..21_000).filter(|key| key % 7 != 0).collect::<Vec<_>>());
    for (i, &id) in ids.iter().enumerate() {
        assert_eq!(found[i * 7], id);
    }
}

#[test]
fn writers_that_create_the_same_series_at_once_get_the_same_ids() {
    let engine = Store::new().open();
    let of =
        |key: u32| (u128::from(key), labels(&[("__name__", ["a", "b"][key as usize % 2]), ("k", &key.to_string())]));
    let create = |writer: u32| {
        let named: Vec<_> = (0..2000).map(|n| of((n * 7 + writer * 500) % 2000)).collect();
        let mut ids: Vec<_> = named.iter().map(|pair| pair.0).zip(engine.resolve_keyed(&named)).collect();
        ids.sort_by_key(|pair| pair.0);
        ids.into_iter().map(|pair| pair.1.unwrap()).collect()
    };
    let found: Vec<Vec<SeriesId>> = std::thread::scope(|scope| {
        let create = &create;
        let writers: Vec<_> = (0..4).map(|writer| scope.spawn(move || create(writer))).collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert!(found.iter().all(|ids| *ids == found[0]));
    assert_eq!(found[0].iter().collect::<std::collections::BTreeSet<_>>().len(), 2000);
    assert_eq!(engine.stats().series, 2000);
}

#[test]
fn two_engines_cannot_open_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(EngineConfig::new(dir.path())).unwrap();
    let error = Engine::open(EngineConfig::new(dir.path())).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    engine.close().unwrap();
    engine.close().unwrap();
    assert_eq!(engine.write(WriteBatch::default()).err().unwrap().kind(), ErrorKind::Unavailable);
    Engine::open(EngineConfig::new(dir.path())).unwrap();
}

#[test]
fn another_partition_width_is_refused_with_advice() {
    let mut store = Store::new();
    store.open().close().unwrap();
    store.config.partition_width *= 2;
    let error = store.try_open().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("3600 s"), "{error}");
}

#[test]
fn background_threads_flush_and_compact_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path());
    config.memtable_bytes_max = 40_000;
    config.memtable_run_rows = 100;
    let engine = Engine::open(config.clone()).unwrap();
    let ids: Vec<SeriesId> = (0..10).map(|n| series(&engine, n)).collect();
    for ts in 0..2000 {
        write(&engine, &ids.iter().map(|&id| (id, ts * HOUR / 100, 0.5)).collect::<Vec<_>>());
    }
    assert_eq!(rows(&engine.snapshot()).len(), 20_000);
    engine.close().unwrap();
    assert!(engine.stats().flushes > 1);
    let engine = Engine::open(config).unwrap();
    assert_eq!(rows(&engine.snapshot()).len(), 20_000);
    assert_eq!(engine.stats().segment_rows, 20_000);
}

#[tokio::test]
async fn a_commit_can_be_awaited_and_watched() {
    let engine = Store::new().open();
    let mut commits = engine.commits();
    let id = series(&engine, 1);
    let lsn = engine.write(batch(&[(id, 1, 1.0)])).unwrap().await.unwrap();
    commits.wait_for(|newest| *newest >= lsn).await.unwrap();
}

#[test]
fn one_flush_of_rows_from_very_many_partitions_keeps_them_all() {
    let store = Store::new();
    let engine = store.open();
    let ids: Vec<SeriesId> = (0..3).map(|n| series(&engine, n)).collect();
    let old: Vec<_> = (-50..50).flat_map(|hour| ids.iter().map(move |&id| (id, hour * 11 * HOUR, 1.0))).collect();
    write(&engine, &old);
    engine.flush().unwrap();
    let snapshot = engine.snapshot();
    assert_eq!((rows(&snapshot).len(), snapshot.segments().len()), (300, 100));
    let range = TimeRange { start: -11 * HOUR, end: 11 * HOUR };
    assert_eq!(scan(&snapshot, &ids, range).unwrap().len(), 9);
}

#[test]
fn partitions_and_log_files_are_described_as_they_are() {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 1;
    let engine = store.open();
    let id = series(&engine, 1);
    for ts in [5, HOUR + 7, HOUR + 9] {
        write(&engine, &[(id, ts, 1.0)]);
    }
    let wal = engine.snapshot().wal();
    let lsns: Vec<_> = wal.iter().map(|file| (file.first_lsn.0, file.last_lsn.0)).collect();
    assert_eq!(lsns, [(1, 1), (2, 2), (3, 3)]);
    assert_eq!(wal[0].bytes, store.fs.len(std::path::Path::new("/store").join(&wal[0].file).as_path()).unwrap());
    engine.flush().unwrap();
    let partitions = engine.snapshot().partitions();
    let described: Vec<_> = partitions.iter().map(|p| (p.range.start, p.segments, p.rows, p.series)).collect();
    assert_eq!(described, [(0, 1, 1, 1), (HOUR, 1, 2, 1)]);
    assert_eq!(partitions[1].samples.map(|samples| (samples.start, samples.end)), Some((HOUR + 7, HOUR + 9)));
    assert_eq!(engine.snapshot().wal().len(), 1);
}
