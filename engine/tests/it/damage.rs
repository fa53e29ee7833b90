use std::path::{Path, PathBuf};

use foretell_engine::fs::Fs;
use foretell_engine::{Error, ErrorKind};

use crate::support::{Store, rows, series, write};

/// A store killed with five acknowledged commits in its log.
fn killed() -> (Store, PathBuf) {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    (0..5).for_each(|ts| {
        write(&engine, &[(id, ts, 1.0)]);
    });
    drop(engine);
    let path = store.wal().pop().unwrap();
    (store, path)
}

#[test]
fn a_torn_last_record_is_cut_off_wherever_it_was_torn() {
    let (store, path) = killed();
    let whole = store.fs.len(&path).unwrap();
    // One record of one sample is 17 bytes of header and some 30 of payload.
    for cut in 1..=30 {
        store.fs.truncate(&path, whole - cut).unwrap();
        let engine = store.open();
        assert_eq!(rows(&engine.snapshot()).len(), 4, "cut {cut}");
        let id = series(&engine, 1);
        write(&engine, &[(id, 4, 1.0)]);
        drop(engine);
        assert_eq!(store.fs.len(&path).unwrap(), whole);
    }
}

#[test]
fn rubbish_after_the_last_record_is_cut_off() {
    let (store, path) = killed();
    for rubbish in [vec![0; 100], vec![0xff; 100], vec![1, 0, 0, 0, 9]] {
        store.fs.open_append(&path).unwrap().append(&rubbish).unwrap();
        assert_eq!(rows(&store.open().snapshot()).len(), 5);
    }
}

#[test]
fn damage_before_a_later_synced_record_stops_the_open_and_says_where() {
    let (store, path) = killed();
    let whole = store.fs.len(&path).unwrap() as usize;
    for offset in 0..whole - 60 {
        store.fs.flip(&path, offset);
        match store.try_open() {
            Err(Error::Corruption { path: at, offset: near, .. }) => {
                assert_eq!(at, path);
                assert!(near <= offset.max(20) as u64, "flip at {offset} reported at {near}");
            }
            Err(other) => panic!("flip at {offset}: {other}"),
            Ok(_) => panic!("flip at {offset} was not found"),
        }
        store.fs.flip(&path, offset);
    }
    assert_eq!(rows(&store.open().snapshot()).len(), 5);
}

#[test]
fn damage_in_an_older_log_file_is_never_forgiven_not_even_at_its_end() {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 1;
    let engine = store.open();
    let id = series(&engine, 1);
    (0..3).for_each(|ts| {
        write(&engine, &[(id, ts, 1.0)]);
    });
    drop(engine);
    let files = store.wal();
    assert_eq!(files.len(), 3);
    let len = store.fs.len(&files[1]).unwrap();
    store.fs.flip(&files[1], len as usize - 1);
    assert_eq!(store.try_open().err().unwrap().kind(), ErrorKind::Corruption);
    store.fs.truncate(&files[1], len - 1).unwrap();
    assert_eq!(store.try_open().err().unwrap().kind(), ErrorKind::Corruption);
    store.fs.truncate(&files[1], 0).unwrap();
    assert_eq!(store.try_open().err().unwrap().kind(), ErrorKind::Corruption);
    store.fs.remove(&files[1]).unwrap();
    assert_eq!(store.try_open().err().unwrap().kind(), ErrorKind::Corruption);
}

#[test]
fn a_log_that_ends_before_what_was_flushed_is_not_believed() {
    let (store, path) = killed();
    store.open().flush().unwrap();
    store.fs.truncate(&path, 24).unwrap();
    assert_eq!(store.try_open().err().unwrap().kind(), ErrorKind::Corruption);
}

/// Any flipped byte of any file is either found at open or while reading, or changes no answer.
#[test]
fn a_flipped_byte_in_any_file_is_found_or_harmless() {
    let store = Store::new();
    let engine = store.open();
    for n in 0..30 {
        let id = series(&engine, n % 5);
        let row = [(id, i64::from(n), f64::from(n) * 0.37)];
        let records = vec![crate::records::mirror(&row)];
        let batch = foretell_engine::WriteBatch { records, ..crate::support::batch(&row) };
        engine.write(batch).unwrap().wait().unwrap();
        if n % 11 == 10 {
            engine.flush().unwrap();
        }
    }
    let state = vec![crate::support::put("k", "v")];
    engine.write(foretell_engine::WriteBatch { state, ..Default::default() }).unwrap().wait().unwrap();
    let expected = rows(&engine.snapshot());
    engine.close().unwrap();
    drop(engine);
    let mut files = vec![PathBuf::from("/store/MANIFEST")];
    for dir in ["/store/partitions/0", "/store/state"] {
        files.extend(store.fs.list(Path::new(dir)).unwrap().into_iter().map(|name| Path::new(dir).join(name)));
    }
    assert!(files.len() >= 8, "{files:?}");
    for path in files {
        let len = store.fs.len(&path).unwrap() as usize;
        for offset in (0..len).step_by(len / 64 + 1) {
            let store = Store { fs: store.fs.fork(), ..Store::new() };
            store.fs.flip(&path, offset);
            let found = store.try_open().and_then(|engine| {
                let snapshot = engine.snapshot();
                let ids: Vec<_> = snapshot.select(&crate::support::all())?.iter().map(|s| s.id).collect();
                let samples = crate::support::scan(&snapshot, &ids, foretell_engine::TimeRange::ALL)?;
                assert_eq!(crate::records::mirrored(&snapshot)?, expected, "{} byte {offset}", path.display());
                Ok(samples)
            });
            match found {
                Ok(found) => assert_eq!(found, expected, "{} byte {offset}", path.display()),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corruption, "{} byte {offset}: {error}", path.display())
                }
            }
        }
    }
}

#[test]
fn a_store_without_its_manifest_or_its_log_is_not_taken_for_a_new_one() {
    let (whole, _) = killed();
    whole.open().close().unwrap();
    for path in ["/store/MANIFEST".into(), whole.wal().pop().unwrap()] {
        let store = Store { fs: whole.fs.fork(), ..Store::new() };
        store.fs.remove(&path).unwrap();
        assert_eq!(store.try_open().err().unwrap().kind(), ErrorKind::Corruption, "{}", path.display());
        assert_eq!(store.fs.list(Path::new("/store/partitions/0")).unwrap().len(), 2, "nothing was deleted");
    }
}

#[test]
fn a_torn_last_edit_of_the_manifest_is_dropped_and_only_then() {
    let (store, _) = killed();
    store.open().close().unwrap();
    store.open().close().unwrap();
    let path = Path::new("/store/MANIFEST");
    store.fs.open_append(path).unwrap().append(&[40, 0, 0, 0, 1, 2, 3]).unwrap();
    assert_eq!(rows(&store.open().snapshot()).len(), 5);
    store.fs.flip(path, 30);
    assert_eq!(store.try_open().err().unwrap().kind(), ErrorKind::Corruption, "the first edit was published whole");
}
