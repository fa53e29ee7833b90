use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use foretell_engine::backup::{Begun, Made, backup_closed_with, backups_with, restore_with};
use foretell_engine::fs::{FaultFs, FaultPlan, Fs};
use foretell_engine::verify::{Progress, verify_with};
use foretell_engine::{Engine, ErrorKind, Lsn, Result, WriteBatch};

use crate::support::{HOUR, Rows, Store, names, put, rows, series, write};
use crate::verify::{files, filled};

const DEST: &str = "/dest";

fn begun(at_ns: i64) -> Begun<'static> {
    const LABELS: [&str; 4] = ["t0", "t1", "t2", "t3"];
    Begun { at_ns, label: LABELS[at_ns as usize] }
}

fn back_up(engine: &Engine, at_ns: i64) -> Made {
    engine.backup(Path::new(DEST), &begun(at_ns), &Progress::default()).unwrap()
}

fn dynamic(fs: &FaultFs) -> Arc<dyn Fs> {
    Arc::new(fs.clone())
}

fn try_restore(store: &Store, name: Option<&str>, target: &str) -> Result<Store> {
    let fs = dynamic(&store.fs);
    restore_with(Path::new(DEST), &fs, name, Path::new(target), &Progress::default())?;
    let report = verify_with(Path::new(target), &fs, &Progress::default())?;
    assert!(report.is_clean(), "{report:#?}");
    let mut restored = Store { fs: store.fs.clone(), ..Store::new() };
    restored.config.data_dir = PathBuf::from(target);
    Ok(restored)
}

fn restore(store: &Store, name: Option<&str>, target: &str) -> Store {
    try_restore(store, name, target).unwrap()
}

/// Rows, series, position and a value of keyed state.
type Everything = (Rows, Vec<(foretell_engine::SeriesId, String)>, Lsn, Option<Arc<[u8]>>);

fn everything(engine: &Engine) -> Everything {
    let snapshot = engine.snapshot();
    (rows(&snapshot), names(&snapshot), snapshot.lsn(), snapshot.state(b"k").unwrap())
}

#[test]
fn a_restored_store_equals_its_source_when_the_backup_began() {
    let store = Store::new();
    let engine = filled(&store);
    let expected = everything(&engine);
    let made = back_up(&engine, 0);
    assert_eq!(made.backup.lsn, expected.2);
    assert_eq!((made.files_copied, made.bytes_copied), (made.backup.files, made.backup.bytes));
    write(&engine, &[(series(&engine, 3), 9 * HOUR, 9.0)]);
    let restored = restore(&store, None, "/new").open();
    assert_eq!(everything(&restored), expected);
    let lsn = write(&restored, &[(series(&restored, 900), 1, 1.0)]);
    assert_eq!(lsn.0, expected.2.0 + 1);
    restored.close().unwrap();
    drop(restored);
    assert_eq!(rows(&engine.snapshot()).len(), expected.0.len() + 1, "the source is not concerned");
}

#[test]
fn files_that_are_there_are_not_copied_again_and_each_backup_stays_restorable() {
    let store = Store::new();
    // All is cold but what is newest.
    store.clock.advance(100 * HOUR);
    let engine = filled(&store);
    let mut expected = vec![everything(&engine)];
    let mut made = vec![back_up(&engine, 0)];
    let again = back_up(&engine, 1);
    assert!(again.files_copied == 0 && again.backup.files == made[0].backup.files, "{again:?}");
    write(&engine, &[(series(&engine, 3), 9 * HOUR, 9.0)]);
    expected.push(everything(&engine));
    made.push(back_up(&engine, 2));
    // A segment, the definition of its series there, the manifest, the log's header: all else is shared.
    assert_eq!(made[1].files_copied, 4, "{made:?}");
    engine.compact().unwrap();
    expected.push(everything(&engine));
    made.push(back_up(&engine, 3));
    assert!(made[2].files_copied < made[2].backup.files && made[2].files_copied > 1, "{made:?}");
    let listed = backups_with(Path::new(DEST), &dynamic(&store.fs)).unwrap();
    assert_eq!(listed.len(), 4);
    assert_eq!(listed[3], made[2].backup);
    for (i, (made, expected)) in made.iter().zip(&expected).enumerate() {
        let restored = restore(&store, Some(&made.backup.name), &format!("/new{i}")).open();
        assert_eq!(&everything(&restored), expected, "{}", made.backup.name);
    }
    let unknown = try_restore(&store, Some("t9"), "/new9").err().unwrap();
    assert!(unknown.kind() == ErrorKind::Invalid && unknown.to_string().contains("t0-"), "{unknown}");
}

#[test]
fn backups_while_rows_come_in_and_segments_are_merged_hold_a_prefix_with_all_that_was_acknowledged() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicI64::new(0));
    let mut made = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                write(&engine, &[(id, n, n as f64)]);
                acknowledged.store(n + 1, Ordering::Relaxed);
                if n % 10 == 9 {
                    engine.flush().unwrap();
                    engine.compact().unwrap();
                }
            }
        });
        for at in 0..4 {
            while acknowledged.load(Ordering::Relaxed) < (at + 1) * 50 {
                std::thread::yield_now();
            }
            let before = acknowledged.load(Ordering::Relaxed);
            made.push((before, back_up(&engine, at)));
        }
        stop.store(true, Ordering::Relaxed);
    });
    for (i, (before, made)) in made.iter().enumerate() {
        let restored = restore(&store, Some(&made.backup.name), &format!("/new{i}")).open();
        let found = rows(&restored.snapshot());
        assert!(found.len() as i64 >= *before && found.len() as u64 == made.backup.lsn.0);
        assert!(found.keys().map(|key| key.1).eq(0..found.len() as i64), "a prefix");
    }
}

#[test]
fn a_closed_store_is_backed_up_with_what_is_only_in_its_log() {
    let store = Store::new();
    let engine = filled(&store);
    let expected = everything(&engine);
    let held =
        backup_closed_with(Path::new("/store"), &dynamic(&store.fs), Path::new(DEST), &begun(0), &Progress::default());
    assert_eq!(held.unwrap_err().kind(), ErrorKind::Unavailable);
    drop(engine);
    let wal = store.wal().pop().unwrap();
    store.fs.open_append(&wal).unwrap().append(&[7; 50]).unwrap();
    let made =
        backup_closed_with(Path::new("/store"), &dynamic(&store.fs), Path::new(DEST), &begun(0), &Progress::default())
            .unwrap();
    assert_eq!(made.backup.lsn, expected.2);
    assert_eq!(everything(&restore(&store, None, "/new").open()), expected);
    store.fs.flip(&wal, 60);
    let damaged =
        backup_closed_with(Path::new("/store"), &dynamic(&store.fs), Path::new(DEST), &begun(1), &Progress::default());
    assert_eq!(damaged.unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(backups_with(Path::new(DEST), &dynamic(&store.fs)).unwrap().len(), 1);
}

#[test]
fn consumers_of_the_log_go_on_where_they_were() {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 300;
    let engine = store.open();
    let id = series(&engine, 1);
    engine.retain_wal("reader", Some(Lsn(4)));
    for n in 0..20 {
        write(&engine, &[(id, n, 1.0)]);
    }
    engine.write(WriteBatch { state: vec![put("k", "v")], ..WriteBatch::default() }).unwrap().wait().unwrap();
    back_up(&engine, 0);
    let mut restored = restore(&store, None, "/new");
    restored.config.wal_segment_bytes = 300;
    let restored = restored.open();
    restored.retain_wal("reader", Some(Lsn(4)));
    let commits = restored.read_commits(Lsn(4), Lsn(21), 1000).unwrap();
    assert_eq!(commits.iter().map(|commit| commit.lsn.0).collect::<Vec<_>>(), (5..=21).collect::<Vec<_>>());
}

#[test]
fn damage_of_a_backup_is_found_before_a_store_exists() {
    let store = Store::new();
    let engine = filled(&store);
    back_up(&engine, 0);
    for path in files(&store.fs, Path::new(DEST)) {
        if path.ends_with("LOCK") {
            continue;
        }
        let len = store.fs.len(&path).unwrap() as usize;
        for offset in [0, len / 2, len - 1] {
            let store = Store { fs: store.fs.fork(), ..Store::new() };
            store.fs.flip(&path, offset);
            let error = try_restore(&store, None, "/new").err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{}: {error}", path.display());
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert!(files(&store.fs, Path::new("/new")).is_empty(), "nothing is left");
        }
        let store = Store { fs: store.fs.fork(), ..Store::new() };
        store.fs.remove(&path).unwrap();
        assert!(try_restore(&store, None, "/new").is_err(), "{} is missing", path.display());
    }
}

#[test]
fn a_target_that_is_not_empty_and_a_destination_inside_the_store_are_refused() {
    let store = Store::new();
    let engine = filled(&store);
    back_up(&engine, 0);
    let full = try_restore(&store, None, "/store").err().unwrap();
    assert!(full.kind() == ErrorKind::Invalid && full.to_string().contains("not empty"), "{full}");
    let inside = engine.backup(Path::new("/store/backups"), &begun(0), &Progress::default()).unwrap_err();
    assert!(inside.kind() == ErrorKind::Invalid && inside.to_string().contains("inside the store"), "{inside}");
    let none = try_restore(&Store::new(), None, "/new").err().unwrap();
    assert_eq!(none.kind(), ErrorKind::Invalid);
}

#[test]
fn a_backup_that_is_interrupted_anywhere_is_none_and_the_next_one_is_whole() {
    let store = Store::new();
    let engine = filled(&store);
    back_up(&engine, 0);
    write(&engine, &[(series(&engine, 3), 9 * HOUR, 9.0)]);
    drop(engine);
    let old = rows(&restore(&Store { fs: store.fs.fork(), ..Store::new() }, None, "/new").open().snapshot());
    let new = rows(&Store { fs: store.fs.fork(), ..Store::new() }.open().snapshot());
    for n in 0.. {
        let store = Store { fs: store.fs.fork(), ..Store::new() };
        let try_backup = |at| {
            backup_closed_with(
                Path::new("/store"),
                &dynamic(&store.fs),
                Path::new(DEST),
                &begun(at),
                &Progress::default(),
            )
        };
        store.fs.plan(FaultPlan { die_at: Some(n), ..FaultPlan::default() });
        let ended = try_backup(1).is_ok();
        store.fs.power_cut();
        let found = rows(&restore(&store, None, "/new1").open().snapshot());
        assert!(found == new || (found == old && !ended), "died at call {n}");
        try_backup(2).unwrap();
        assert_eq!(rows(&restore(&store, None, "/new2").open().snapshot()), new, "died at call {n}");
        if ended {
            assert!(n > 10);
            break;
        }
    }
}

#[test]
fn a_backup_and_a_restored_store_survive_a_power_cut_once_they_are_done() {
    // The directories above them are new, too.
    let store = Store::new();
    let engine = filled(&store);
    let (expected, dest, target) = (rows(&engine.snapshot()), Path::new("/new/disk/dest"), Path::new("/a/new/place"));
    engine.backup(dest, &begun(0), &Progress::default()).unwrap();
    drop(engine);
    store.fs.power_cut();
    restore_with(dest, &dynamic(&store.fs), None, target, &Progress::default()).unwrap();
    store.fs.power_cut();
    let mut restored = Store { fs: store.fs.clone(), ..Store::new() };
    restored.config.data_dir = target.to_owned();
    assert_eq!(rows(&restored.open().snapshot()), expected);
}

#[test]
fn a_backup_holds_the_partitions_of_its_time_whatever_is_dropped_later() {
    let store = Store::new();
    let engine = filled(&store);
    engine.flush().unwrap();
    let before = everything(&engine);
    let first = back_up(&engine, 0).backup.name;
    assert_eq!(engine.drop_before(2 * HOUR).unwrap(), 2);
    let after = everything(&engine);
    assert!(!after.0.is_empty() && after.0.len() < before.0.len());
    let second = back_up(&engine, 1).backup.name;
    assert_eq!(everything(&restore(&store, Some(&first), "/old").open()), before);
    assert_eq!(everything(&restore(&store, Some(&second), "/new").open()), after);
}
