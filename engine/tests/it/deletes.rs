//! Deletes: what they hide, what stays, and when the bytes go.
use foretell_engine::{Engine, ErrorKind, Lsn, MatchOp, Matcher, Selector, TimeRange, WriteBatch};

use crate::support::{HOUR, Rows, Store, all, batch, labels, rows, series, write};

pub(crate) fn one_of(numbers: &[u32], start: i64, end: i64) -> Selector {
    let values: Vec<String> = numbers.iter().map(u32::to_string).collect();
    let matcher = Matcher { name: "n".into(), op: MatchOp::OneOf, value: values.join("\0") };
    Selector { metric: None, matchers: vec![matcher], range: TimeRange { start, end } }
}

/// Values by (number of series, time).
fn values(engine: &Engine) -> Vec<(u32, i64, f64)> {
    let snapshot = engine.snapshot();
    let ids: Vec<_> = (0..9).map(|n| (series(engine, n), n)).collect();
    let number = |id| ids.iter().find(|pair| pair.0 == id).unwrap().1;
    let mut found: Vec<_> =
        rows(&snapshot).into_iter().map(|((id, ts), bits)| (number(id), ts, f64::from_bits(bits))).collect();
    found.sort_by_key(|row| (row.0, row.1));
    found
}

#[test]
fn a_delete_hides_rows_before_it_and_none_after_whatever_flushes_and_merges_do() {
    // Bit k of a case: flush after step k; then merge or not, restart or kill.
    for case in 0..64u32 {
        let store = Store::new();
        let mut engine = store.open();
        let step = |engine: &Engine, k: u32| {
            if case >> k & 1 == 1 {
                engine.flush().unwrap();
            }
        };
        let (a, b) = (series(&engine, 1), series(&engine, 2));
        write(&engine, &[(a, 1, 1.0), (a, 2, 1.0), (a, 3, 1.0), (b, 2, 1.0)]);
        step(&engine, 0);
        write(&engine, &[(a, 2, 2.0), (a, 4, 2.0)]);
        step(&engine, 1);
        let before = engine.snapshot();
        let seen = rows(&before);
        let done = engine.delete(&one_of(&[1], 2, 3)).unwrap();
        assert_eq!((done.lsn, done.series), (Some(Lsn(3)), 1));
        assert_eq!(values(&engine), [(1, 1, 1.0), (1, 4, 2.0), (2, 2, 1.0)], "instant, case {case}");
        step(&engine, 2);
        write(&engine, &[(a, 3, 3.0)]);
        step(&engine, 3);
        let expected = [(1, 1, 1.0), (1, 3, 3.0), (1, 4, 2.0), (2, 2, 1.0)];
        assert_eq!(values(&engine), expected, "case {case}");
        if case >> 4 & 1 == 1 {
            engine.compact().unwrap();
            assert_eq!(values(&engine), expected, "merged, case {case}");
        }
        assert_eq!(rows(&before), seen, "a snapshot from before still sees the rows, case {case}");
        drop(before);
        if case >> 5 & 1 == 1 {
            engine.close().unwrap();
        }
        drop(engine);
        engine = store.open();
        assert_eq!(values(&engine), expected, "opened again, case {case}");
        engine.flush().unwrap();
        engine.compact().unwrap();
        assert_eq!(values(&engine), expected, "flushed and merged, case {case}");
        let stats = engine.stats();
        assert_eq!((stats.tombstones, stats.segment_rows), (0, 4), "nothing deleted is left on disk, case {case}");
    }
}

#[test]
fn a_delete_without_older_rows_costs_nothing_after_the_flush() {
    let store = Store::new();
    let engine = store.open();
    let a = series(&engine, 1);
    write(&engine, &[(a, 5 * HOUR, 1.0)]);
    engine.flush().unwrap();
    engine.delete(&one_of(&[1], 0, HOUR)).unwrap();
    assert_eq!(engine.delete(&one_of(&[8], 0, HOUR)).unwrap().lsn, None, "no series, no commit");
    engine.flush().unwrap();
    assert_eq!(engine.stats().tombstones, 0);
    assert_eq!(engine.compact().unwrap().segments_in, 0);
    assert_eq!(values(&engine), [(1, 5 * HOUR, 1.0)]);
}

#[test]
fn a_delete_is_durable_when_it_returns() {
    let store = Store::new();
    let engine = store.open();
    let a = series(&engine, 1);
    write(&engine, &[(a, 1, 1.0), (a, 2, 1.0)]);
    engine.flush().unwrap();
    let syncs = engine.stats().wal_syncs;
    engine.delete(&one_of(&[1], 1, 1)).unwrap();
    assert_eq!(engine.stats().wal_syncs, syncs + 1);
    store.fs.power_cut();
    drop(engine);
    store.fs.power_cut();
    assert_eq!(values(&store.open()), [(1, 2, 1.0)]);
}

#[test]
fn the_feed_shows_what_a_delete_deleted_from_memory_and_from_the_log() {
    let mut store = Store::new();
    store.config.feed_bytes_max = 0;
    for feed_bytes_max in [0, 1 << 20] {
        store.config.feed_bytes_max = feed_bytes_max;
        let engine = store.open();
        let a = series(&engine, 1);
        write(&engine, &[(a, 1, 1.0)]);
        let lsn = engine.delete(&one_of(&[1], 0, 7)).unwrap().lsn.unwrap();
        let commits = engine.read_commits(Lsn(lsn.0 - 1), lsn, 10).unwrap();
        let [commit] = &commits[..] else { panic!("{commits:?}") };
        assert!(commit.batch.series.is_empty());
        let [deletion] = &commit.batch.deletes[..] else { panic!("{commit:?}") };
        assert_eq!(
            (deletion.range, deletion.series.iter().collect::<Vec<_>>()),
            (TimeRange { start: 0, end: 7 }, vec![a])
        );
    }
}

#[test]
fn the_rows_of_a_batch_that_deletes_stay() {
    let store = Store::new();
    let engine = store.open();
    let a = series(&engine, 1);
    write(&engine, &[(a, 1, 1.0), (a, 2, 1.0)]);
    engine.delete(&one_of(&[1], 5, 5)).unwrap();
    let made = engine.read_commits(Lsn(1), Lsn(2), 1).unwrap().remove(0);
    let mut deletion = made.batch.deletes[0].clone();
    deletion.range = TimeRange::ALL;
    engine.write(WriteBatch { deletes: vec![deletion], ..batch(&[(a, 2, 3.0)]) }).unwrap().wait().unwrap();
    for _ in 0..2 {
        assert_eq!(values(&engine), [(1, 2, 3.0)]);
        engine.flush().unwrap();
        engine.compact().unwrap();
    }
}

#[test]
fn series_that_memory_has_forgotten_are_deleted_too() {
    let store = Store::new();
    let engine = store.open();
    let (idle, busy) = (series(&engine, 1), series(&engine, 2));
    write(&engine, &[(idle, 1, 1.0), (busy, 1, 1.0)]);
    engine.flush().unwrap();
    for _ in 0..2 {
        store.clock.advance(2 * HOUR);
        write(&engine, &[(busy, 2, 1.0)]);
        engine.flush().unwrap();
    }
    assert_eq!(engine.stats().active_series, 1);
    let everything = Selector { metric: None, matchers: labels_match("job", "test"), range: TimeRange::ALL };
    assert_eq!(engine.delete(&everything).unwrap().series, 2);
    assert!(rows(&engine.snapshot()).is_empty());
    // A series created later is not concerned, nor are later rows of an old one.
    let late = engine.resolve(&labels(&[("__name__", "m0"), ("job", "test"), ("n", "77")])).unwrap();
    write(&engine, &[(late, 1, 1.0), (idle, 1, 2.0)]);
    assert_eq!(rows(&engine.snapshot()), Rows::from([((late, 1), 1f64.to_bits()), ((idle, 1), 2f64.to_bits())]));
}

fn labels_match(name: &str, value: &str) -> Vec<Matcher> {
    vec![Matcher { name: name.into(), op: MatchOp::Regex, value: value.into() }]
}

#[test]
fn when_everything_is_deleted_no_file_is_left() {
    let store = Store::new();
    let engine = store.open();
    for hour in 0..5 {
        write(&engine, &[(series(&engine, 1), hour * HOUR, 1.0)]);
        engine.flush().unwrap();
    }
    let snapshot = engine.snapshot();
    engine.delete(&one_of(&[1], i64::MIN, i64::MAX)).unwrap();
    engine.flush().unwrap();
    assert_eq!(engine.stats().tombstones, 1);
    let done = engine.compact().unwrap();
    assert_eq!((done.segments_in, done.segments_out, done.rows_deleted), (5, 0, 5));
    let stats = engine.stats();
    assert_eq!((stats.segments, stats.tombstones, stats.rows_deleted), (0, 0, 5));
    assert_eq!(rows(&snapshot).len(), 5, "pinned");
    drop(snapshot);
    engine.close().unwrap();
    drop(engine);
    let engine = store.open();
    assert!(rows(&engine.snapshot()).is_empty());
    write(&engine, &[(series(&engine, 1), HOUR, 2.0)]);
    engine.flush().unwrap();
    assert_eq!(values(&engine), [(1, HOUR, 2.0)]);
}

#[test]
fn deletes_that_wait_are_bounded_with_an_error_that_says_so() {
    let store = Store::new();
    let engine = store.open();
    for n in 0..9 {
        write(&engine, &[(series(&engine, n), 0, 1.0), (series(&engine, n), 10_000, 1.0)]);
    }
    engine.flush().unwrap();
    // Ranges that do not touch, of different series: nothing to coalesce.
    let mut deletes = (0..).map(|k| engine.delete(&one_of(&[k % 9], 10 + 2 * i64::from(k), 10 + 2 * i64::from(k))));
    let error = deletes.by_ref().take(1000).find_map(Result::err).expect("a limit");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("retry"), "{error}");
    let waiting = engine.stats().tombstones;
    engine.flush().unwrap();
    engine.compact().unwrap();
    assert_eq!(engine.stats().tombstones, 0, "of {waiting}");
    engine.delete(&one_of(&[1], 0, 0)).unwrap();
    assert_eq!(values(&engine).len(), 17);
}

#[test]
fn deletes_among_writes_do_not_pile_up_memtables() {
    let store = Store::new();
    let engine = store.open();
    let a = series(&engine, 1);
    for k in 0..100 {
        write(&engine, &[(a, k, 1.0), (a, k + 1, 1.0)]);
        engine.delete(&one_of(&[1], k, k)).unwrap();
    }
    assert!(engine.stats().flushes >= 100 / 17, "{:?}", engine.stats());
    assert_eq!(values(&engine), [(1, 100, 1.0)]);
    drop(engine);
    assert_eq!(values(&store.open()), [(1, 100, 1.0)]);
}

#[test]
fn a_delete_must_name_something() {
    let store = Store::new();
    let engine = store.open();
    write(&engine, &[(series(&engine, 1), 1, 1.0)]);
    let bad = [
        all(),
        one_of(&[1], 2, 1),
        Selector { matchers: vec![Matcher { name: "n".into(), op: MatchOp::Regex, value: "(".into() }], ..all() },
    ];
    for selector in bad {
        assert_eq!(engine.delete(&selector).unwrap_err().kind(), ErrorKind::Invalid, "{selector:?}");
    }
    assert_eq!(engine.stats().lsn, Lsn(1));
}
