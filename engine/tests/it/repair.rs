use std::path::{Path, PathBuf};
use std::sync::Arc;

use foretell_engine::fs::{FaultFs, FaultPlan, Fs};
use foretell_engine::repair::{Options, Repair, repair, repair_with};
use foretell_engine::verify::{Progress, verify};
use foretell_engine::{Engine, EngineConfig, Result};

use crate::support::{HOUR, Rows, Store, names, rows, series, write};
use crate::verify::{check, files, filled};

const ACCEPT: Options = Options { dry_run: false, accept_loss: true, partition_width: None };

fn options(accept_loss: bool, dry_run: bool) -> Options {
    let partition_width = Some(std::time::Duration::from_secs(3600));
    Options { dry_run, accept_loss, partition_width }
}

fn try_mend(fs: &FaultFs, options: Options) -> Result<Repair> {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    repair_with(Path::new("/store"), &fs, options, &Progress::default())
}

fn mend(fs: &FaultFs, options: Options) -> Repair {
    try_mend(fs, options).unwrap()
}

fn copy(store: &Store) -> Store {
    Store { fs: store.fs.fork(), ..Store::new() }
}

/// A store with everything a store can have, and its rows.
fn whole() -> (Store, Rows) {
    let store = Store::new();
    let engine = filled(&store);
    let expected = rows(&engine.snapshot());
    (store, expected)
}

/// After an accepted repair the store is clean and opens; every row that is there is right, and rows are missing only if
/// a loss says so.
fn check_mended(store: &Store, expected: &Rows, what: &str) -> Repair {
    let done = mend(&store.fs, options(true, false));
    let after = done.after.as_ref().unwrap_or(&done.before);
    assert!(after.is_clean(), "{what}: {done:#?}");
    assert!(check(&store.fs).is_clean(), "{what}");
    let engine = store.try_open().unwrap_or_else(|error| panic!("{what}: {error}\n{done:#?}"));
    let found = rows(&engine.snapshot());
    for (key, bits) in &found {
        assert_eq!(expected.get(key), Some(bits), "{what}: {key:?}");
    }
    let missing: Vec<_> = expected.keys().filter(|key| !found.contains_key(key)).collect();
    if done.losses.is_empty() {
        assert!(missing.is_empty(), "{what}: {missing:?} missing: {done:#?}");
    }
    if done.losses.iter().all(|loss| loss.rows.is_some()) {
        let rows: u64 = done.losses.iter().filter_map(|loss| loss.rows).sum();
        assert_eq!(rows, missing.len() as u64, "{what}: {done:#?}");
        let told = |ts| done.losses.iter().any(|loss| loss.range.is_none_or(|range| range.contains(ts)));
        assert!(missing.iter().all(|(_, ts)| told(*ts)), "{what}");
    }
    // It takes new rows, of known and of new series, and keeps them.
    let id = series(&engine, 1000);
    assert!(!expected.keys().any(|(known, _)| *known == id), "{what}: no id is given twice");
    write(&engine, &[(id, 5, 5.0)]);
    engine.close().unwrap();
    drop(engine);
    assert_eq!(rows(&store.open().snapshot()).len(), found.len() + 1, "{what}");
    done
}

#[test]
fn a_clean_store_is_left_alone() {
    let (store, _) = whole();
    let calls = store.fs.calls();
    let done = mend(&store.fs, ACCEPT);
    assert!(done.is_whole() && done.steps.is_empty() && done.after.is_none());
    assert_eq!(store.fs.calls(), calls);
}

#[test]
fn a_flipped_byte_anywhere_costs_no_more_than_the_block_or_record_it_is_in() {
    let (store, expected) = whole();
    let mut lossless = 0;
    for path in files(&store.fs, Path::new("/store")) {
        let len = store.fs.len(&path).unwrap() as usize;
        for offset in (0..len).step_by(len / 25 + 1) {
            let store = copy(&store);
            store.fs.flip(&path, offset);
            let done = check_mended(&store, &expected, &format!("{} byte {offset}", path.display()));
            lossless += usize::from(done.losses.is_empty());
        }
    }
    assert!(lossless > 50, "{lossless}");
}

#[test]
fn a_missing_file_costs_no_more_than_what_only_it_held() {
    let (store, expected) = whole();
    for path in files(&store.fs, Path::new("/store")) {
        let store = copy(&store);
        store.fs.remove(&path).unwrap();
        let done = check_mended(&store, &expected, &path.display().to_string());
        if path.ends_with("MANIFEST") || path.extension().is_some_and(|e| e == "series") {
            assert!(done.losses.is_empty(), "{}: {done:#?}", path.display());
        }
    }
}

#[test]
fn a_lost_manifest_of_a_compacted_and_closed_store_costs_nothing() {
    let (store, expected) = whole();
    let engine = store.open();
    engine.compact().unwrap();
    engine.close().unwrap();
    drop(engine);
    for at in [0, 12, 30] {
        let store = copy(&store);
        store.fs.flip(Path::new("/store/MANIFEST"), at);
        let done = check_mended(&store, &expected, "flipped");
        assert!(done.losses.is_empty(), "{done:#?}");
        assert!(store.fs.exists(Path::new("/store/damaged/MANIFEST")).unwrap());
    }
}

#[test]
fn nothing_is_given_up_or_changed_without_leave() {
    let (store, expected) = whole();
    let dir = Path::new("/store/partitions/1");
    let name = store.fs.list(dir).unwrap().into_iter().find(|name| name.ends_with(".segment")).unwrap();
    let path = dir.join(name);
    store.fs.flip(&path, 30);
    let calls = store.fs.calls();
    for options in [options(false, false), options(true, true)] {
        let done = mend(&store.fs, options);
        assert!(done.after.is_none() && !done.is_whole() && !done.steps.is_empty());
        let loss = &done.losses[0];
        assert_eq!((&loss.path, loss.rows, loss.series), (&path, Some(10), Some(10)));
        assert_eq!(loss.labels.len(), 10, "{loss:?}");
        let range = loss.range.unwrap();
        assert!(range.start >= HOUR && range.end < 2 * HOUR);
        assert_eq!(store.fs.calls(), calls, "nothing was written");
    }
    let bytes = store.fs.map(&path).unwrap().to_vec();
    check_mended(&store, &expected, "accepted");
    let aside = Path::new("/store/damaged").join(path.strip_prefix("/store").unwrap());
    assert_eq!(store.fs.map(&aside).unwrap().to_vec(), bytes, "the evidence is kept");
}

#[test]
fn a_segment_keeps_its_good_blocks() {
    let store = Store::new();
    let engine = store.open();
    let ids: Vec<_> = (0..5).map(|n| series(&engine, 3 * n)).collect();
    for id in &ids {
        // Values that no codec makes small: most of the file is blocks.
        let noise = |ts: i64| (ts.wrapping_mul(0x5851_f42d_4c95_7f2d) >> 20) as f64;
        let batch: Vec<_> = (0..8000).map(|ts| (*id, ts, noise(ts))).collect();
        write(&engine, &batch);
    }
    engine.flush().unwrap();
    let expected = rows(&engine.snapshot());
    engine.close().unwrap();
    drop(engine);
    let dir = Path::new("/store/partitions/0");
    let name = store.fs.list(dir).unwrap().into_iter().find(|name| name.ends_with(".segment")).unwrap();
    let len = store.fs.len(&dir.join(&name)).unwrap() as usize;
    store.fs.flip(&dir.join(&name), len / 2);
    let done = check_mended(&store, &expected, "one of five blocks");
    assert_eq!((done.losses.len(), done.losses[0].rows), (1, Some(8000)), "{done:#?}");
    let lost = names(&store.open().snapshot())
        .into_iter()
        .filter(|(_, text)| done.losses[0].labels.iter().any(|l| format!("{l:?}") == *text));
    assert_eq!(lost.count(), 1);
}

#[test]
fn damage_in_the_middle_of_the_log_costs_only_what_cannot_be_read() {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 600;
    let engine = store.open();
    for n in 0..60 {
        write(&engine, &[(series(&engine, n % 6), i64::from(n), 1.0)]);
    }
    let expected = rows(&engine.snapshot());
    drop(engine);
    let logs = store.wal();
    assert!(logs.len() > 4);
    let mid = store.fs.len(&logs[2]).unwrap() as usize / 2;
    store.fs.flip(&logs[2], mid);
    let refused = mend(&store.fs, options(false, false));
    assert_eq!((refused.after.is_none(), refused.losses.len()), (true, 1), "{refused:#?}");
    assert!(refused.losses[0].what.starts_with("commits "), "{refused:#?}");
    let lost = copy(&store);
    check_mended(&lost, &expected, "flipped");
    assert_eq!(rows(&lost.open().snapshot()).len(), 60, "59 of 60, and the new one");
    assert_eq!(lost.fs.list(Path::new("/store/damaged/wal")).unwrap().len(), 1);
    // A whole file of it.
    store.fs.remove(&logs[3]).unwrap();
    check_mended(&store, &expected, "removed");
}

#[test]
fn a_repair_that_is_interrupted_anywhere_can_be_done_again() {
    let (store, expected) = whole();
    let dir = Path::new("/store/partitions/1");
    for name in store.fs.list(dir).unwrap().iter().take(2) {
        store.fs.flip(&dir.join(name), 40);
    }
    let wal = store.wal().pop().unwrap();
    store.fs.flip(&wal, 100);
    let done = copy(&store);
    mend(&done.fs, options(true, false));
    let wanted = rows(&done.open().snapshot());
    assert!(wanted.len() < expected.len());
    for n in 0.. {
        let store = copy(&store);
        store.fs.plan(FaultPlan { die_at: Some(n), ..FaultPlan::default() });
        let ended = try_mend(&store.fs, options(true, false));
        store.fs.power_cut();
        // From the publication of the manifest on, there is nothing left to repair or to lose.
        let done = mend(&store.fs, options(true, false));
        assert!(done.is_whole(), "died at call {n}: {done:#?}");
        assert_eq!(rows(&store.open().snapshot()), wanted, "died at call {n}");
        assert!(wanted.iter().all(|(key, bits)| expected.get(key) == Some(bits)));
        if ended.is_ok() {
            assert!(n > 10);
            break;
        }
    }
}

#[test]
fn a_removed_or_foreign_catalogue_is_rebuilt_without_loss() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = |dir: &Path| {
        let mut config = EngineConfig::new(dir);
        config.background = false;
        config
    };
    for (dir, offset) in [(&dir, 0), (&other, 100)] {
        let engine = Engine::open(config(dir.path())).unwrap();
        for n in 0..40 {
            write(&engine, &[(series(&engine, n + offset), i64::from(n) * HOUR, 1.0)]);
        }
        engine.close().unwrap();
    }
    let engine = Engine::open(config(dir.path())).unwrap();
    let expected = (names(&engine.snapshot()), rows(&engine.snapshot()));
    engine.close().unwrap();
    drop(engine);
    let catalogue: PathBuf = dir.path().join("catalogue");
    let breaks: [&dyn Fn(); 3] = [
        &|| std::fs::remove_dir_all(&catalogue).unwrap(),
        &|| std::fs::write(catalogue.join("CURRENT"), b"rubbish").unwrap(),
        &|| {
            std::fs::remove_dir_all(&catalogue).unwrap();
            std::fs::rename(other.path().join("catalogue"), &catalogue).unwrap();
        },
    ];
    for (i, damage) in breaks.iter().enumerate() {
        damage();
        let done = repair(dir.path(), Options::default(), &Progress::default()).unwrap();
        assert!(done.after.is_some() && done.is_whole() && done.losses.is_empty(), "case {i}: {done:#?}");
        assert!(catalogue.exists());
        assert!(verify(dir.path(), &Progress::default()).unwrap().is_clean());
        let engine = Engine::open(config(dir.path())).unwrap();
        assert_eq!((names(&engine.snapshot()), rows(&engine.snapshot())), expected, "case {i}");
        engine.close().unwrap();
    }
}

#[test]
fn what_a_repair_sets_aside_survives_a_power_cut() {
    let (store, _) = whole();
    let dir = Path::new("/store/partitions/1");
    let name = store.fs.list(dir).unwrap().into_iter().find(|name| name.ends_with(".segment")).unwrap();
    store.fs.flip(&dir.join(&name), 30);
    assert!(mend(&store.fs, options(true, false)).is_whole());
    store.fs.power_cut();
    assert!(store.fs.exists(&Path::new("/store/damaged/partitions/1").join(name)).unwrap());
}
