//! Writers, readers, flush and compaction at once, on real files.
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foretell_engine::{Engine, EngineConfig, SeriesId};

use crate::support::{HOUR, names, rows, series, write};

#[test]
fn every_snapshot_sees_exactly_the_commits_up_to_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EngineConfig::new(dir.path());
    config.partition_width = Duration::from_secs(3600);
    config.memtable_bytes_max = 60_000;
    config.memtable_run_rows = 200;
    config.wal_segment_bytes = 20_000;
    let engine = Engine::open(config.clone()).unwrap();
    let writing = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3i64)
            .map(|writer| {
                let engine = &engine;
                scope.spawn(move || {
                    for round in 0..150i64 {
                        // New series come up while others are being flushed.
                        let ids: Vec<SeriesId> = (0..10).map(|n| series(engine, n + (round / 10) as u32 * 3)).collect();
                        let at = (round * 3 + writer) * HOUR / 50;
                        write(engine, &ids.iter().map(|&id| (id, at, 1.0)).collect::<Vec<_>>());
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            scope.spawn(|| {
                while writing.load(Ordering::Relaxed) {
                    let snapshot = engine.snapshot();
                    assert_eq!(rows(&snapshot).len() as u64, snapshot.lsn().0 * 10);
                }
            });
        }
        scope.spawn(|| {
            while writing.load(Ordering::Relaxed) {
                engine.flush().unwrap();
                engine.compact().unwrap();
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        writing.store(false, Ordering::Relaxed);
    });
    let before = (rows(&engine.snapshot()), names(&engine.snapshot()));
    assert_eq!(before.0.len(), 4500);
    drop(engine);
    let engine = Engine::open(config).unwrap();
    assert_eq!((rows(&engine.snapshot()), names(&engine.snapshot())), before);
}
