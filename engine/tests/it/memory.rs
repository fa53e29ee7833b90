//! Every use of memory has a bound that holds, and says so.
use foretell_engine::clock::Clock as _;
use foretell_engine::{Engine, ErrorKind, LabelSet, MemoryShare, SeriesId};

use crate::support::{HOUR, Store, batch, labels, rows, write};

fn share(engine: &Engine, name: &str) -> MemoryShare {
    engine.memory().into_iter().find(|share| share.name == name).unwrap()
}

fn nth(n: u32) -> LabelSet {
    labels(&[("__name__", "m"), ("job", "test"), ("instance", &format!("10.0.0.1:{n}"))])
}

/// Creates series until one is refused.
fn fill(engine: &Engine) -> Vec<SeriesId> {
    let mut ids = Vec::new();
    loop {
        match engine.resolve(&nth(ids.len() as u32)) {
            Ok(id) => ids.push(id),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
                return ids;
            }
        }
    }
}

#[test]
fn a_full_index_refuses_new_series_only() {
    let mut store = Store::new();
    store.config.index_bytes_max = 200 << 10;
    let engine = store.open();
    let ids = fill(&engine);
    assert!(ids.len() > 100, "{} series", ids.len());
    assert!(share(&engine, "index").used_bytes <= 200 << 10);
    for (n, &id) in ids.iter().enumerate() {
        assert_eq!(engine.resolve(&nth(n as u32)).unwrap(), id);
        write(&engine, &[(id, 1, 1.0)]);
    }
    assert_eq!(rows(&engine.snapshot()).len(), ids.len());
    // A store that is opened again has its series, and the same bound.
    drop(engine);
    let engine = store.open();
    assert_eq!(engine.resolve(&nth(0)).unwrap(), ids[0]);
    assert_eq!(engine.resolve(&nth(ids.len() as u32)).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn forgotten_series_give_their_memory_back_and_may_return() {
    let mut store = Store::new();
    store.config.index_bytes_max = 200 << 10;
    let engine = store.open();
    let empty = share(&engine, "index").used_bytes;
    let ids = fill(&engine);
    let full = share(&engine, "index").used_bytes;
    for (n, &id) in ids.iter().enumerate() {
        write(&engine, &[(id, n as i64, 1.0)]);
    }
    // Ten minutes are enough when memory is short; two flushes, because a series must have been idle in between.
    for _ in 0..3 {
        engine.flush().unwrap();
        store.clock.advance(HOUR / 4);
        write(&engine, &[(ids[0], store.clock.now_ns(), 1.0)]);
    }
    engine.flush().unwrap();
    let few = share(&engine, "index").used_bytes;
    assert!(few < empty + (full - empty) / 20, "{few} of {full} bytes");
    assert_eq!(engine.stats().active_series, 1);
    for (n, &id) in ids.iter().enumerate() {
        assert_eq!(engine.resolve(&nth(n as u32)).unwrap(), id);
    }
    assert_eq!(share(&engine, "index").used_bytes, full);
}

#[test]
fn full_memtables_refuse_writes_until_a_flush() {
    let mut store = Store::new();
    store.config.memtable_total_bytes_max = 10_000;
    let engine = store.open();
    let id = engine.resolve(&nth(1)).unwrap();
    let mut ts = 0;
    let error = loop {
        match engine.write(batch(&[(id, ts, 1.0)])) {
            Ok(handle) => handle.wait().map(drop).unwrap(),
            Err(error) => break error,
        }
        ts += 1;
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let memtables = share(&engine, "memtables");
    assert!(memtables.used_bytes >= 10_000 && memtables.used_bytes < 11_000, "{memtables:?}");
    engine.flush().unwrap();
    assert_eq!(share(&engine, "memtables").used_bytes, 0);
    write(&engine, &[(id, ts, 1.0)]);
    assert_eq!(rows(&engine.snapshot()).len() as i64, ts + 1);
}

#[test]
fn the_feed_keeps_what_its_share_allows() {
    let mut store = Store::new();
    store.config.feed_bytes_max = 5_000;
    let engine = store.open();
    let id = engine.resolve(&nth(1)).unwrap();
    for ts in 0..200 {
        write(&engine, &[(id, ts, 1.0)]);
        let feed = share(&engine, "feed");
        assert!(feed.used_bytes <= feed.max_bytes, "{feed:?}");
    }
    assert!(share(&engine, "feed").used_bytes > 4_000);
}
