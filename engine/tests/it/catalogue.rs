use foretell_engine::{Engine, EngineConfig, Selector};

use crate::support::{HOUR, Store, all, labels, names, rows, series, write};

fn fill(engine: &Engine) {
    for round in 0..3 {
        for n in 0..40 {
            let id = series(engine, n + 5 * round);
            write(engine, &[(id, i64::from(round) * 30 * HOUR, 1.0)]);
        }
        engine.flush().unwrap();
    }
}

#[test]
fn a_lost_or_broken_catalogue_is_rebuilt_with_the_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path());
    config.background = false;
    let engine = Engine::open(config.clone()).unwrap();
    fill(&engine);
    let (before, metrics) =
        ((names(&engine.snapshot()), rows(&engine.snapshot())), format!("{:?}", engine.snapshot().metrics()));
    engine.close().unwrap();
    drop(engine);
    let catalogue = dir.path().join("catalogue");
    let breaks: [&dyn Fn(); 3] = [
        &|| std::fs::remove_dir_all(&catalogue).unwrap(),
        &|| std::fs::write(catalogue.join("CURRENT"), b"rubbish").unwrap(),
        &|| {
            for entry in std::fs::read_dir(&catalogue).unwrap().map(Result::unwrap) {
                if entry.file_name().to_string_lossy().starts_with("MANIFEST") {
                    std::fs::write(entry.path(), b"").unwrap();
                }
            }
        },
    ];
    for (i, damage) in breaks.iter().enumerate() {
        damage();
        let engine = Engine::open(config.clone()).unwrap();
        assert_eq!((names(&engine.snapshot()), rows(&engine.snapshot())), before, "case {i}");
        assert_eq!(format!("{:?}", engine.snapshot().metrics()), metrics, "case {i}");
        let new = series(&engine, 1000);
        assert!(before.0.iter().all(|(id, _)| *id != new), "no id is given twice");
        engine.close().unwrap();
    }
}

#[test]
fn a_catalogue_that_lost_its_newest_writes_is_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path());
    config.background = false;
    let engine = Engine::open(config.clone()).unwrap();
    fill(&engine);
    let before = (names(&engine.snapshot()), rows(&engine.snapshot()));
    // Without close, RocksDB's memory, which has no log, is lost.
    drop(engine);
    let engine = Engine::open(config).unwrap();
    assert_eq!((names(&engine.snapshot()), rows(&engine.snapshot())), before);
}

#[test]
fn idle_series_leave_memory_and_are_still_found_and_written() {
    let store = Store::new();
    let engine = store.open();
    let ids: Vec<_> = (0..20).map(|n| series(&engine, n)).collect();
    for (&id, ts) in ids.iter().zip(0..) {
        write(&engine, &[(id, ts, 1.0)]);
    }
    let metrics = engine.snapshot().metrics().len();
    for _ in 0..2 {
        store.clock.advance(2 * HOUR);
        write(&engine, &[(ids[0], 100, 1.0)]);
        engine.flush().unwrap();
    }
    assert_eq!(engine.stats().active_series, 1);
    assert_eq!((engine.stats().series, engine.snapshot().metrics().len()), (20, metrics));
    assert_eq!(rows(&engine.snapshot()).len(), 21);
    // By an id that its holder kept, in a partition where the series never was.
    write(&engine, &[(ids[7], 50 * HOUR, 2.0)]);
    let selector = Selector { range: foretell_engine::TimeRange { start: 40 * HOUR, end: 60 * HOUR }, ..all() };
    assert!(engine.snapshot().select(&selector).unwrap().iter().any(|series| series.id == ids[7]));
    assert_eq!(rows(&engine.snapshot()).len(), 22);
    let again: Vec<_> = (0..20).map(|n| series(&engine, n)).collect();
    assert_eq!(again, ids);
    drop(engine);
    let engine = store.open();
    assert_eq!(rows(&engine.snapshot()).len(), 22);
}

#[test]
fn metrics_know_every_label_name_over_restarts() {
    let store = Store::new();
    let engine = store.open();
    let a = engine.resolve(&labels(&[("__name__", "up"), ("job", "x"), ("zone", "1")])).unwrap();
    let b = engine.resolve(&labels(&[("__name__", "up"), ("instance", "y")])).unwrap();
    let c = engine.resolve(&labels(&[("no_name", "y")])).unwrap();
    write(&engine, &[(a, 1, 1.0), (b, 1, 1.0), (c, 1, 1.0)]);
    let check = |engine: &Engine| {
        let up = engine.snapshot().metric("up").unwrap();
        assert_eq!(up.label_names.iter().map(|name| &**name).collect::<Vec<_>>(), ["instance", "job", "zone"]);
        assert_eq!(up.series, 2);
        let known: Vec<String> = engine.snapshot().metrics().iter().map(|metric| metric.name.to_string()).collect();
        assert_eq!(known, ["", "up"]);
    };
    check(&engine);
    drop(engine);
    let engine = store.open();
    check(&engine);
    engine.close().unwrap();
    check(&store.open());
}
