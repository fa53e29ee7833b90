use foretell_engine::{Engine, ErrorKind, Lsn, Selector};

use crate::support::{Rows, Store, all, rows, series, write};

fn lsns(engine: &Engine, after: u64, through: u64, rows_max: usize) -> Vec<u64> {
    let commits = engine.read_commits(Lsn(after), Lsn(through), rows_max).unwrap();
    for commit in &commits {
        assert_eq!(commit.batch.ts, [commit.lsn.0 as i64; 2], "a commit keeps its batch");
    }
    commits.iter().map(|commit| commit.lsn.0).collect()
}

fn fill(engine: &Engine, n: u64) {
    let id = series(engine, 1);
    let first = engine.snapshot().lsn().0 + 1;
    for lsn in first..first + n {
        assert_eq!(write(engine, &[(id, lsn as i64, 1.0), (id, lsn as i64, 2.0)]), Lsn(lsn));
    }
}

fn check_reads(engine: &Engine) {
    assert_eq!(lsns(engine, 0, u64::MAX, usize::MAX), (1..=40).collect::<Vec<_>>());
    assert_eq!(lsns(engine, 7, 9, usize::MAX), [8, 9]);
    assert_eq!(lsns(engine, 7, 40, 0), [8], "at least one commit");
    assert_eq!(lsns(engine, 7, 40, 5), [8, 9, 10], "until the rows are gathered");
    assert_eq!(lsns(engine, 40, 50, 10), Vec::<u64>::new());
    let (mut at, mut seen) = (0, Vec::new());
    while at < 40 {
        let next = lsns(engine, at, 40, 3);
        at = *next.last().unwrap();
        seen.extend(next);
    }
    assert_eq!(seen, (1..=40).collect::<Vec<_>>());
}

#[test]
fn the_feed_is_the_same_from_memory_from_the_log_and_after_reopening() {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 300;
    let engine = store.open();
    engine.retain_wal("c", Some(Lsn(0)));
    fill(&engine, 40);
    check_reads(&engine);
    drop(engine);
    store.config.feed_bytes_max = 1000;
    let engine = store.open();
    check_reads(&engine);
    engine.close().unwrap();
    check_reads(&store.open());
    assert!(store.wal().len() > 5);
}

#[test]
fn the_log_is_truncated_after_a_flush_up_to_what_consumers_claim() {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 1;
    store.config.feed_bytes_max = 0;
    let engine = store.open();
    engine.retain_wal("slow", Some(Lsn(4)));
    engine.retain_wal("fast", Some(Lsn(9)));
    fill(&engine, 10);
    engine.flush().unwrap();
    assert_eq!(lsns(&engine, 4, 10, 100), [5, 6, 7, 8, 9, 10]);
    assert_eq!(engine.read_commits(Lsn(0), Lsn(10), 1).unwrap_err().kind(), ErrorKind::Limit);
    engine.retain_wal("slow", Some(Lsn(8)));
    engine.flush().unwrap();
    assert_eq!(engine.read_commits(Lsn(4), Lsn(10), 1).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(lsns(&engine, 8, 10, 100), [9, 10]);
    engine.retain_wal("slow", None);
    engine.retain_wal("fast", None);
    engine.flush().unwrap();
    assert_eq!(store.wal().len(), 1);
}

#[test]
fn a_claim_holds_over_a_kill_before_its_owner_is_back() {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 1;
    let engine = store.open();
    engine.retain_wal("c", Some(Lsn(0)));
    fill(&engine, 6);
    drop(engine);
    let engine = store.open();
    engine.flush().unwrap();
    assert_eq!(lsns(&engine, 0, 6, 100), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_consumer_that_holds_back_too_much_loses_its_claim() {
    let mut store = Store::new();
    store.config.wal_segment_bytes = 1;
    store.config.wal_retained_bytes_max = 500;
    store.config.feed_bytes_max = 0;
    let engine = store.open();
    engine.retain_wal("stuck", Some(Lsn(0)));
    fill(&engine, 50);
    engine.flush().unwrap();
    assert!(engine.stats().wal_bytes <= 600, "{}", engine.stats().wal_bytes);
    let error = engine.read_commits(Lsn(0), Lsn(50), 10).unwrap_err();
    assert!(error.to_string().contains("start over from a snapshot"), "{error}");
}

#[test]
fn commits_of_many_writers_form_one_order_without_gaps() {
    let store = Store::new();
    let engine = store.open();
    let ids: Vec<_> = (0..4).map(|n| series(&engine, n)).collect();
    std::thread::scope(|scope| {
        for &id in &ids {
            let engine = &engine;
            scope.spawn(move || {
                let mut last = Lsn(0);
                for ts in 0..50 {
                    let lsn = write(engine, &[(id, ts, 1.0)]);
                    assert!(lsn > last && engine.snapshot().lsn() >= lsn);
                    last = lsn;
                }
            });
        }
    });
    let commits = engine.read_commits(Lsn(0), Lsn(u64::MAX), usize::MAX).unwrap();
    assert_eq!(commits.iter().map(|c| c.lsn.0).collect::<Vec<_>>(), (1..=200).collect::<Vec<_>>());
    for id in ids {
        let of_one = commits.iter().filter(|c| c.batch.series == [id]).map(|c| c.batch.ts[0]);
        assert!(of_one.eq(0..50), "a writer's own order is kept");
    }
}

#[test]
fn a_view_of_some_commits_has_their_rows_and_no_others_whatever_became_of_them() {
    let mut store = Store::new();
    store.config.feed_bytes_max = 1 << 20;
    let engine = store.open();
    let (a, b) = (series(&engine, 1), series(&engine, 2));
    write(&engine, &[(a, 10, 1.0), (b, 10, 1.0)]);
    engine.flush().unwrap();
    let second = write(&engine, &[(a, 20, 2.0), (a, 10, 3.0)]);
    let third = write(&engine, &[(b, 5, 4.0)]);
    write(&engine, &[(a, 30, 5.0)]);
    let expected: Rows = [((a, 10), 3.0_f64), ((a, 20), 2.0), ((b, 5), 4.0)].map(|(key, v)| (key, v.to_bits())).into();
    let check = |engine: &Engine| {
        let used = || engine.memory().map(|share| share.used_bytes);
        let snapshot = engine.snapshot();
        // What it asks of the index is kept.
        rows(&snapshot);
        let before = used();
        let commits = engine.read_commits(Lsn(second.0 - 1), third, usize::MAX).unwrap();
        let view = snapshot.only(&commits);
        assert_eq!((rows(&view), view.lsn()), (expected.clone(), snapshot.lsn()));
        assert_eq!(used(), before, "rows are counted once");
        assert!(rows(&snapshot.only(&[])).is_empty());
        assert_ne!(rows(&snapshot), expected, "the snapshot itself is as it was");
    };
    check(&engine);
    engine.flush().unwrap();
    check(&engine);
    engine.delete(&Selector { metric: Some("m1".to_owned()), ..all() }).unwrap();
    check(&engine);
}

#[test]
fn a_view_of_commits_that_were_flushed_before_a_restart_has_their_rows() {
    let store = Store::new();
    let engine = store.open();
    engine.retain_wal("reader", Some(Lsn(0)));
    let a = series(&engine, 1);
    write(&engine, &[(a, 10, 1.0)]);
    write(&engine, &[(a, 20, 2.0)]);
    engine.flush().unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = store.open();
    let snapshot = engine.snapshot();
    let commits = engine.read_commits(Lsn(0), snapshot.lsn(), usize::MAX).unwrap();
    let expected: Rows = [((a, 10), 1.0_f64), ((a, 20), 2.0)].map(|(key, v)| (key, v.to_bits())).into();
    assert_eq!(rows(&snapshot.only(&commits)), expected);
    assert!(rows(&snapshot.only(&[])).is_empty());
}
