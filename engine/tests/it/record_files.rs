//! Files of records in the hands of verify, repair and backup.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foretell_engine::backup::{Begun, restore_with};
use foretell_engine::fs::Fs;
use foretell_engine::repair::{Options, Repair, repair_with};
use foretell_engine::verify::Progress;
use foretell_engine::{Engine, WriteBatch};

use crate::records::{mirror, mirrored};
use crate::support::{HOUR, Rows, Store, batch, rows, series};
use crate::verify::check;

/// Two partitions with samples and the records that mirror them: more than one group in the first, a commit in the log.
fn filled(store: &Store) -> (Engine, Rows) {
    let engine = store.open();
    let write = |rows: &[_]| {
        let records = vec![mirror(rows)];
        engine.write(WriteBatch { records, ..batch(rows) }).unwrap().wait().unwrap()
    };
    for n in 0..4 {
        let id = series(&engine, n);
        write(&(0..5000).map(|ts| (id, ts * 1000, (ts as f64).sqrt())).collect::<Vec<_>>());
    }
    write(&[(series(&engine, 1), HOUR, 1.0)]);
    engine.flush().unwrap();
    write(&[(series(&engine, 2), HOUR, 2.0)]);
    let expected = rows(&engine.snapshot());
    (engine, expected)
}

fn record_file(store: &Store, partition: &str) -> PathBuf {
    let dir = Path::new("/store/partitions").join(partition);
    let name = store.fs.list(&dir).unwrap().into_iter().find(|name| name.ends_with(".records")).unwrap();
    dir.join(name)
}

fn mend(store: &Store, accept_loss: bool) -> Repair {
    let fs: Arc<dyn Fs> = Arc::new(store.fs.clone());
    let options = Options { dry_run: false, accept_loss, partition_width: Some(store.config.partition_width) };
    repair_with(Path::new("/store"), &fs, options, &Progress::default()).unwrap()
}

#[test]
fn verify_reads_every_byte_of_them() {
    let store = Store::new();
    drop(filled(&store));
    let report = check(&store.fs);
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!((report.segments, report.rows), (4, 2 * 20_001));
    for partition in ["0", "1"] {
        let path = record_file(&store, partition);
        let len = store.fs.len(&path).unwrap() as usize;
        for offset in (0..len).step_by(len / 40 + 1) {
            let store = Store { fs: store.fs.fork(), ..Store::new() };
            store.fs.flip(&path, offset);
            let finding = check(&store.fs).findings.into_iter().next();
            let finding = finding.unwrap_or_else(|| panic!("byte {offset} of {len} is not missed"));
            assert!(finding.path == path && finding.offset <= len as u64, "{finding:?} for byte {offset}");
        }
    }
}

#[test]
fn a_repair_keeps_their_good_groups_and_names_the_others() {
    let store = Store::new();
    let (engine, expected) = filled(&store);
    drop(engine);
    let path = record_file(&store, "0");
    let len = store.fs.len(&path).unwrap() as usize;
    store.fs.flip(&path, len / 2);
    let refused = mend(&store, false);
    let [loss] = &refused.losses[..] else { panic!("{refused:#?}") };
    assert_eq!((&loss.path, refused.after.is_none()), (&path, true));
    let done = mend(&store, true);
    assert!(done.is_whole(), "{done:#?}");
    assert!(check(&store.fs).is_clean());
    let engine = store.open();
    assert_eq!(rows(&engine.snapshot()), expected, "samples are not concerned");
    let found = mirrored(&engine.snapshot()).unwrap();
    assert!(found.iter().all(|(key, bits)| expected.get(key) == Some(bits)));
    assert_eq!((expected.len() - found.len()) as u64, loss.rows.unwrap());
    assert!(found.len() > expected.len() / 3, "{} of {}", found.len(), expected.len());
    assert!(store.fs.exists(&Path::new("/store/damaged").join(path.strip_prefix("/store").unwrap())).unwrap());
}

#[test]
fn a_damaged_header_or_a_lost_manifest_costs_nothing() {
    let store = Store::new();
    let (engine, expected) = filled(&store);
    drop(engine);
    let header = Store { fs: store.fs.fork(), ..Store::new() };
    header.fs.flip(&record_file(&store, "0"), 3);
    store.fs.remove(Path::new("/store/MANIFEST")).unwrap();
    for store in [header, store] {
        let done = mend(&store, false);
        assert!(done.is_whole() && done.losses.is_empty(), "{done:#?}");
        let engine = store.open();
        assert_eq!(mirrored(&engine.snapshot()).unwrap(), expected);
        assert_eq!(rows(&engine.snapshot()), expected);
    }
}

#[test]
fn they_go_with_their_partition() {
    let store = Store::new();
    let (engine, expected) = filled(&store);
    let path = record_file(&store, "0");
    let snapshot = engine.snapshot();
    assert_eq!(engine.drop_before(HOUR).unwrap(), 1);
    let left: Rows = expected.iter().filter(|((_, ts), _)| *ts >= HOUR).map(|(key, bits)| (*key, *bits)).collect();
    assert_eq!((mirrored(&engine.snapshot()).unwrap(), engine.stats().record_segments), (left.clone(), 1));
    assert_eq!(mirrored(&snapshot).unwrap().len(), expected.len(), "pinned");
    drop(snapshot);
    assert!(!store.fs.exists(&path).unwrap());
    drop(engine);
    assert!(check(&store.fs).is_clean());
    assert_eq!(mirrored(&store.open().snapshot()).unwrap(), left);
}

#[test]
fn a_backup_has_them() {
    let store = Store::new();
    let (engine, expected) = filled(&store);
    let begun = Begun { at_ns: 0, label: "t0" };
    engine.backup(Path::new("/dest"), &begun, &Progress::default()).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(store.fs.clone());
    restore_with(Path::new("/dest"), &fs, None, Path::new("/new"), &Progress::default()).unwrap();
    let mut restored = Store { fs: store.fs.clone(), ..Store::new() };
    restored.config.data_dir = "/new".into();
    let engine = restored.open();
    assert_eq!(mirrored(&engine.snapshot()).unwrap(), expected);
    let stats = engine.stats();
    assert!(stats.record_segments >= 2 && stats.record_segment_rows >= 20_001, "{stats:?}");
}
