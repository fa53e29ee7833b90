//! Dropping partitions: rows, series and index go together, and nothing else does.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use foretell_engine::clock::ManualClock;
use foretell_engine::{Engine, EngineConfig, Error, MatchOp, Matcher, Selector, SeriesId, TimeRange};
use proptest::prelude::*;

use crate::support::{HOUR, Store, all, forget_idle, labels, names, rows, scan, series, write};

fn ids(engine: &Engine) -> Vec<SeriesId> {
    engine.snapshot().select(&all()).unwrap().iter().map(|series| series.id).collect()
}

#[test]
fn a_dropped_partition_takes_the_series_that_are_nowhere_else() {
    let store = Store::new();
    let engine = store.open();
    let (old, both) = (series(&engine, 0), series(&engine, 1));
    write(&engine, &[(old, 0, 1.0), (both, 0, 2.0), (both, 10 * HOUR, 3.0)]);
    engine.flush().unwrap();
    forget_idle(&store, &engine);
    assert_eq!(engine.drop_before(HOUR - 1).unwrap(), 0, "the partition does not end before its last instant");
    assert_eq!(engine.drop_before(HOUR).unwrap(), 1);
    let check = |engine: &Engine| {
        assert_eq!(ids(engine), [both]);
        assert_eq!(rows(&engine.snapshot()).into_keys().collect::<Vec<_>>(), [(both, 10 * HOUR)]);
        let selector =
            Selector { matchers: vec![Matcher { name: "n".into(), op: MatchOp::Equal, value: "0".into() }], ..all() };
        assert!(engine.snapshot().select(&selector).unwrap().is_empty());
    };
    check(&engine);
    assert_eq!(engine.stats().segments, 1);
    let again = series(&engine, 0);
    assert_ne!(again, old, "a series that comes back is another one");
    assert_eq!(series(&engine, 1), both);
    let refused = engine.write(crate::support::batch(&[(old, 1, 1.0)])).err();
    assert!(
        matches!(refused, Some(Error::Unavailable(_))),
        "its old id tells the writer to resolve again: {refused:?}"
    );
    drop(engine);
    check(&store.open());
}

#[test]
fn a_snapshot_sees_what_was_dropped_after_it() {
    let store = Store::new();
    let engine = store.open();
    for n in 0..5 {
        write(&engine, &[(series(&engine, n), i64::from(n) * HOUR, 1.0)]);
    }
    engine.flush().unwrap();
    forget_idle(&store, &engine);
    let snapshot = engine.snapshot();
    let before = (names(&snapshot), rows(&snapshot));
    assert_eq!(engine.drop_before(3 * HOUR).unwrap(), 3);
    // The old numbers are in use again.
    write(&engine, &[(series(&engine, 1), 0, 9.0), (series(&engine, 9), 1, 9.0)]);
    engine.flush().unwrap();
    let names = names(&snapshot);
    assert!(before.0.iter().all(|series| names.contains(series)), "{names:?} after {:?}", before.0);
    assert_eq!(rows(&snapshot), before.1);
    assert_eq!(rows(&engine.snapshot()).len(), 4);
    drop(snapshot);
    engine.flush().unwrap();
    assert_eq!(rows(&engine.snapshot()).len(), 4);
    drop(engine);
    assert_eq!(rows(&store.open().snapshot()).len(), 4);
}

#[test]
fn rows_in_the_log_keep_the_definition_of_their_series() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 0);
    write(&engine, &[(id, 0, 1.0)]);
    engine.flush().unwrap();
    // Only the partition that goes has the series, and the log that defined it is gone.
    write(&engine, &[(id, 50 * HOUR, 2.0)]);
    assert_eq!(engine.drop_before(HOUR).unwrap(), 1);
    drop(engine);
    let engine = store.open();
    assert_eq!(
        scan(&engine.snapshot(), &[id], TimeRange::ALL).unwrap().into_keys().collect::<Vec<_>>(),
        [(id, 50 * HOUR)]
    );
    assert_eq!(series(&engine, 0), id);
    assert_eq!(engine.drop_before(100 * HOUR).unwrap(), 1, "the home of series without rows");
    engine.flush().unwrap();
    drop(engine);
    assert_eq!(rows(&store.open().snapshot()).len(), 1);
}

/// One step of the model test.
#[derive(Clone, Debug)]
enum Step {
    Write(u32, i64),
    Flush,
    Forget,
    DropBefore(i64),
    /// What the log and the files hold; RocksDB forgets what it has not written.
    Crash,
    Reopen,
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u32..12, 0i64..8).prop_map(|(n, hour)| Step::Write(n, hour)),
        3 => Just(Step::Flush),
        1 => Just(Step::Forget),
        2 => (0i64..8).prop_map(Step::DropBefore),
        1 => Just(Step::Crash),
        1 => Just(Step::Reopen),
        1 => Just(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn drops_among_writes_flushes_and_crashes_leave_what_a_model_has(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(0));
        let mut config = EngineConfig::new(dir.path());
        config.background = false;
        config.partition_width = Duration::from_secs(3600);
        config.group_commit_window = Duration::ZERO;
        let open = || {
            let fs = Arc::new(foretell_engine::fs::OsFs);
            Engine::open_with(config.clone(), fs, Arc::<ManualClock>::clone(&clock)).unwrap()
        };
        let mut engine = open();
        // (series, ts) -> bits of the value.
        let mut model: BTreeMap<(u32, i64), u64> = BTreeMap::new();
        for (i, step) in steps.iter().enumerate() {
            match *step {
                Step::Write(n, hour) => {
                    let ts = hour * HOUR + i64::from(n);
                    write(&engine, &[(series(&engine, n), ts, i as f64)]);
                    model.insert((n, ts), (i as f64).to_bits());
                }
                Step::Flush => engine.flush().unwrap(),
                Step::Forget => {
                    clock.advance(2 * HOUR);
                    engine.write(foretell_engine::WriteBatch::default()).unwrap().wait().unwrap();
                    engine.flush().unwrap();
                }
                Step::DropBefore(hour) => {
                    // A row in memory would stay.
                    engine.flush().unwrap();
                    engine.drop_before(hour * HOUR).unwrap();
                    model.retain(|&(_, ts), _| ts >= hour * HOUR);
                }
                Step::Crash => {
                    drop(engine);
                    engine = open();
                }
                Step::Reopen => {
                    engine.close().unwrap();
                    drop(engine);
                    engine = open();
                }
                Step::Compact => {
                    engine.compact().unwrap();
                }
            }
            let snapshot = engine.snapshot();
            let found = snapshot.select(&all()).unwrap();
            let of: BTreeMap<SeriesId, u32> =
                found.iter().map(|series| (series.id, series.labels.get("n").unwrap().parse().unwrap())).collect();
            prop_assert_eq!(of.values().collect::<BTreeSet<_>>().len(), of.len(), "no series has two ids after step {}", i);
            let stored: BTreeMap<(u32, i64), u64> =
                rows(&snapshot).into_iter().map(|((id, ts), bits)| ((of[&id], ts), bits)).collect();
            prop_assert_eq!(&stored, &model, "after step {}: {:?}", i, step);
            let metric = snapshot.select(&Selector { metric: Some("m1".into()), ..all() }).unwrap().len();
            prop_assert_eq!(metric, of.values().filter(|&n| n % 3 == 1).count());
        }
    }
}

#[test]
fn labels_of_a_dropped_series_do_not_come_back_with_its_id() {
    let store = Store::new();
    let engine = store.open();
    let id = engine.resolve(&labels(&[("__name__", "gone"), ("pod", "a")])).unwrap();
    write(&engine, &[(id, 0, 1.0)]);
    engine.flush().unwrap();
    forget_idle(&store, &engine);
    let pinned = engine.snapshot();
    engine.drop_before(HOUR).unwrap();
    // Its keys are still there, for the pinned snapshot.
    assert_eq!(names(&pinned).len(), 1);
    let again = engine.resolve(&labels(&[("__name__", "gone"), ("pod", "a")])).unwrap();
    assert_ne!(again, id);
    write(&engine, &[(again, 20 * HOUR, 2.0)]);
    engine.flush().unwrap();
    drop(pinned);
    engine.flush().unwrap();
    forget_idle(&store, &engine);
    assert_eq!(ids(&engine), [again], "dropping the old id leaves the labels of the new one");
    assert_eq!(engine.resolve(&labels(&[("__name__", "gone"), ("pod", "a")])).unwrap(), again);
}
