use std::path::{Path, PathBuf};
use std::sync::Arc;

use foretell_engine::fs::{FaultFs, Fs};
use foretell_engine::verify::{Progress, Report, verify, verify_with};
use foretell_engine::{Engine, EngineConfig, ErrorKind, WriteBatch};

use crate::support::{HOUR, Store, all, put, rows, scan, series, write};

/// Reads the store of `fs` whole.
pub(crate) fn check(fs: &FaultFs) -> Report {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    verify_with(Path::new("/store"), &fs, &Progress::default()).unwrap()
}

/// Every file below `dir`.
pub(crate) fn files(fs: &dyn Fs, dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for name in fs.list(dir).unwrap() {
        let path = dir.join(name);
        if fs.list(&path).is_ok_and(|names| !names.is_empty()) {
            files.extend(self::files(fs, &path));
        } else if fs.len(&path).is_ok() {
            files.push(path);
        }
    }
    files
}

/// Three partitions, two of them with several segments, keyed state, and commits that are only in the log.
pub(crate) fn filled(store: &Store) -> Engine {
    let engine = store.open();
    for round in 0..3 {
        for n in 0..30 {
            let id = series(&engine, (n + 7 * round) % 25);
            let ts = i64::from(n % 3) * HOUR + i64::from(round * 100 + n);
            write(&engine, &[(id, ts, f64::from(n) * 0.37)]);
        }
        let state = vec![put("k", &round.to_string())];
        engine.write(WriteBatch { state, ..WriteBatch::default() }).unwrap().wait().unwrap();
        if round < 2 {
            engine.flush().unwrap();
        }
    }
    engine
}

#[test]
fn a_sound_store_is_clean_open_commits_compacted_or_closed() {
    let store = Store::new();
    let engine = filled(&store);
    drop(engine);
    let report = check(&store.fs);
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!((report.notes.len(), report.segments, report.series, report.commits), (0, 6, 25, 93));
    let calls = store.fs.calls();
    check(&store.fs);
    assert_eq!(store.fs.calls(), calls, "nothing was written");
    let engine = store.open();
    engine.compact().unwrap();
    engine.close().unwrap();
    drop(engine);
    let report = check(&store.fs);
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!((report.rows, report.commits), (90, 0));
}

#[test]
fn a_store_whose_blocks_begin_and_end_with_stale_markers_is_sound() {
    let store = Store::new();
    let engine = store.open();
    for (ts, bits) in [0x7ff0_0000_0000_0002, f64::NAN.to_bits(), u64::MAX].into_iter().enumerate() {
        write(&engine, &[(series(&engine, 0), ts as i64, f64::from_bits(bits))]);
    }
    engine.flush().unwrap();
    drop(engine);
    let report = check(&store.fs);
    assert!(report.is_clean() && report.rows == 3, "{report:#?}");
}

#[test]
fn a_flipped_byte_in_any_file_is_reported_with_its_place_or_changes_no_answer() {
    let store = Store::new();
    let engine = filled(&store);
    engine.flush().unwrap();
    let expected = rows(&engine.snapshot());
    engine.close().unwrap();
    drop(engine);
    let (mut found, mut harmless) = (0, 0);
    let paths = files(&store.fs, Path::new("/store"));
    assert!(paths.len() >= 14, "{paths:?}");
    for path in paths {
        let len = store.fs.len(&path).unwrap() as usize;
        for offset in (0..len).step_by(len / 80 + 1) {
            let store = Store { fs: store.fs.fork(), ..Store::new() };
            store.fs.flip(&path, offset);
            let report = check(&store.fs);
            if let Some(finding) = report.findings.first() {
                // A last edit of the manifest that looks torn is only missed where the log does not go on from it.
                let manifest = path.ends_with("MANIFEST");
                assert!(finding.path == path || manifest, "{finding:?} for {} byte {offset}", path.display());
                assert!(finding.offset <= len as u64 || manifest, "{finding:?} for byte {offset}");
                found += 1;
            } else {
                let engine = store.open();
                let snapshot = engine.snapshot();
                let ids: Vec<_> = snapshot.select(&all()).unwrap().iter().map(|s| s.id).collect();
                let answer = scan(&snapshot, &ids, foretell_engine::TimeRange::ALL).unwrap();
                assert_eq!(answer, expected, "{} byte {offset}: {report:?}", path.display());
                harmless += 1;
            }
        }
    }
    assert!(found > 10 * harmless, "{found} found, {harmless} harmless");
}

#[test]
fn damage_in_the_log_does_not_hide_what_follows_it() {
    let store = Store::new();
    drop(filled(&store));
    let path = store.wal().pop().unwrap();
    let len = store.fs.len(&path).unwrap() as usize;
    for at in [len / 3, 2 * len / 3] {
        store.fs.flip(&path, at);
    }
    let report = check(&store.fs);
    assert_eq!(report.findings.len(), 2, "{report:#?}");
    assert!(report.findings.iter().all(|finding| finding.path == path && finding.offset > 24));
    assert!(report.commits >= 91, "{}", report.commits);
}

#[test]
fn a_torn_end_of_the_log_is_noted_and_no_damage() {
    let store = Store::new();
    drop(filled(&store));
    let path = store.wal().pop().unwrap();
    store.fs.open_append(&path).unwrap().append(&[7; 90]).unwrap();
    let report = check(&store.fs);
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.notes.len(), 1);
    assert_eq!(store.open().stats().lsn.0, 93);
}

#[test]
fn a_missing_file_is_found_whichever_it_is() {
    let store = Store::new();
    filled(&store).close().unwrap();
    for path in files(&store.fs, Path::new("/store")) {
        if path.ends_with("LOCK") {
            continue;
        }
        let fs = store.fs.fork();
        fs.remove(&path).unwrap();
        let report = check(&fs);
        assert!(!report.is_clean(), "{} is missing: {report:#?}", path.display());
    }
}

#[test]
fn another_stores_segment_under_the_right_name_is_found() {
    let store = Store::new();
    filled(&store).close().unwrap();
    let dir = Path::new("/store/partitions/1");
    let names: Vec<_> = store.fs.list(dir).unwrap().into_iter().filter(|name| name.ends_with(".segment")).collect();
    assert!(names.len() >= 2);
    store.fs.rename(&dir.join(&names[0]), &dir.join(&names[1])).unwrap();
    let report = check(&store.fs);
    assert!(
        report
            .findings
            .iter()
            .any(|f| f.path.ends_with(&names[0]) && f.got.contains("No such file") || f.got.contains("not found")),
        "{report:#?}"
    );
    assert!(
        report.findings.iter().any(|f| f.path.ends_with(&names[1]) && f.expected.contains("manifest")),
        "{report:#?}"
    );
}

#[test]
fn a_store_that_a_server_holds_or_that_is_none_cannot_be_verified() {
    let store = Store::new();
    let engine = store.open();
    let fs: Arc<dyn Fs> = Arc::new(store.fs.clone());
    let held = verify_with(Path::new("/store"), &fs, &Progress::default()).unwrap_err();
    assert_eq!(held.kind(), ErrorKind::Unavailable);
    drop(engine);
    assert!(check(&store.fs).is_clean());
    let none = verify_with(Path::new("/elsewhere"), &fs, &Progress::default()).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Invalid);
}

#[test]
fn a_catalogue_that_disagrees_with_the_series_files_is_found_and_only_read() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, offset) in [(&dir, 0), (&other, 100)] {
        let mut config = EngineConfig::new(dir.path());
        config.background = false;
        let engine = Engine::open(config).unwrap();
        for n in 0..40 {
            // In the other one as well the series come in another order.
            let number = if offset == 0 { n } else { offset + 39 - n };
            write(&engine, &[(series(&engine, number), i64::from(n) * HOUR, 1.0)]);
        }
        engine.close().unwrap();
    }
    let check = || verify(dir.path(), &Progress::default()).unwrap();
    let list = || std::fs::read_dir(dir.path().join("catalogue")).unwrap().count();
    let before = list();
    let report = check();
    assert!(report.is_clean(), "{report:#?}");
    assert_eq!(report.series, 40);
    assert_eq!(list(), before, "nothing was written");
    let catalogue = dir.path().join("catalogue");
    std::fs::rename(&catalogue, dir.path().join("aside")).unwrap();
    let report = check();
    assert!(report.findings.len() == 1 && report.findings[0].derived, "{report:#?}");
    std::fs::rename(other.path().join("catalogue"), &catalogue).unwrap();
    let report = check();
    assert!(!report.is_clean() && report.findings.iter().all(|finding| finding.derived), "{report:#?}");
    for expected in ["series 0", "as number 0 of partition 0", "\\\"n=0\\\"", "metric"] {
        let text = format!("{report:?}");
        assert!(text.contains(expected), "{expected} in {text}");
    }
}
