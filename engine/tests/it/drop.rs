//! Dropping partitions: rows, series and index go together, and nothing else does.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use foretell_engine::clock::ManualClock;
use foretell_engine::fs::{Failure, FaultPlan, OsFs, Survival};
use foretell_engine::repair::{Options, repair};
use foretell_engine::verify::{Progress, verify};
use foretell_engine::{Engine, EngineConfig, Error, MatchOp, Matcher, Selector, SeriesId, TimeRange, WriteBatch};
use proptest::prelude::*;

use crate::deletes::one_of;
use crate::support::{HOUR, Store, all, forget_idle, labels, names, rows, scan, scratch, series, side_by_side, write};

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
        let dir = scratch();
        let clock = Arc::new(ManualClock::new(0));
        let mut config = EngineConfig::new(dir.path());
        config.background = false;
        config.partition_width = Duration::from_secs(3600);
        config.group_commit_window = Duration::ZERO;
        let open = || {
            Engine::open_with(config.clone(), Arc::new(OsFs), Arc::<ManualClock>::clone(&clock)).unwrap()
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
                    engine.write(WriteBatch::default()).unwrap().wait().unwrap();
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

#[test]
fn ids_of_dropped_series_are_not_given_again_by_a_catalogue_that_was_rebuilt() {
    let store = Store::new();
    let engine = store.open();
    let stays = series(&engine, 3);
    let gone = series(&engine, 0);
    let alone = engine.resolve(&labels(&[("__name__", "gone"), ("pod", "a")])).unwrap();
    write(&engine, &[(stays, 10 * HOUR, 1.0), (gone, 0, 1.0), (alone, 0, 1.0)]);
    engine.flush().unwrap();
    forget_idle(&store, &engine);
    assert_eq!(engine.drop_before(HOUR).unwrap(), 1);
    drop(engine);
    // This store's catalogue is in memory: it is rebuilt from the series files, which have only the first series.
    let engine = store.open();
    assert_eq!(ids(&engine), [stays]);
    assert_eq!(gone.metric(), stays.metric());
    for n in [6, 0] {
        let new = series(&engine, n);
        assert!(new.metric() == stays.metric() && new.number() > gone.number(), "{new:?} after {gone:?}");
    }
    let other = engine.resolve(&labels(&[("__name__", "other")])).unwrap();
    assert_ne!(other.metric(), alone.metric());
    assert!(engine.snapshot().metrics().iter().all(|metric| !metric.name.is_empty()));
}

#[test]
fn a_delete_that_only_a_dropped_partition_needed_is_forgotten() {
    let store = Store::new();
    let engine = store.open();
    write(&engine, &[(series(&engine, 0), 0, 1.0), (series(&engine, 1), 0, 1.0), (series(&engine, 1), 9 * HOUR, 1.0)]);
    engine.flush().unwrap();
    engine.delete(&one_of(&[0], 0, HOUR)).unwrap();
    engine.flush().unwrap();
    assert_eq!(engine.stats().tombstones, 1);
    assert_eq!(engine.drop_before(HOUR).unwrap(), 1);
    engine.compact().unwrap();
    assert_eq!(engine.stats().tombstones, 0);
    assert_eq!(rows(&engine.snapshot()).len(), 1);
}

#[test]
fn a_store_with_dropped_partitions_is_sound_and_can_be_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(0));
    let mut config = EngineConfig::new(dir.path());
    config.background = false;
    config.partition_width = Duration::from_secs(3600);
    let open = || Engine::open_with(config.clone(), Arc::new(OsFs), Arc::<ManualClock>::clone(&clock)).unwrap();
    let engine = open();
    for n in 0..6 {
        write(&engine, &[(series(&engine, n), i64::from(n / 3) * 5 * HOUR, 1.0)]);
    }
    engine.flush().unwrap();
    for _ in 0..2 {
        clock.advance(2 * HOUR);
        write(&engine, &[(series(&engine, 5), 5 * HOUR + 1, 2.0)]);
        engine.flush().unwrap();
    }
    let pinned = engine.snapshot();
    assert_eq!(engine.drop_before(HOUR).unwrap(), 1);
    let expected = (names(&engine.snapshot()), rows(&engine.snapshot()));
    assert_eq!(expected.0.len(), 3);
    // A reader keeps the index of the dropped partition until the end.
    engine.close().unwrap();
    drop((pinned, engine));
    let report = verify(dir.path(), &Progress::default()).unwrap();
    assert!(report.is_clean(), "{report:#?}");
    assert!(report.notes.iter().any(|note| note.contains("1 dropped partitions")), "{report:#?}");
    // The catalogue still knows what the only series file said.
    let partition = dir.path().join("partitions/5");
    let file = std::fs::read_dir(&partition).unwrap().map(|entry| entry.unwrap().path());
    let file = file.filter(|path| path.extension().is_some_and(|ext| ext == "series")).min().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x55;
    std::fs::write(&file, bytes).unwrap();
    let repaired = repair(dir.path(), Options::default(), &Progress::default()).unwrap();
    assert!(repaired.losses.is_empty() && repaired.is_whole(), "{repaired:#?}");
    let engine = open();
    assert_eq!((names(&engine.snapshot()), rows(&engine.snapshot())), expected);
    assert!(series(&engine, 0).number() > 0, "a series that was dropped comes back as another one");
    engine.close().unwrap();
    drop(engine);
    let report = verify(dir.path(), &Progress::default()).unwrap();
    assert!(report.is_clean() && report.notes.is_empty(), "{report:#?}");
}

/// Something that a run does.
#[derive(Clone, Debug)]
enum Act {
    /// Series, time and value of rows.
    Write(Vec<(u32, i64, f64)>),
    /// Everything before this is dropped.
    Drop(i64),
}

/// What a run was told is done, and what was in flight when it died.
#[derive(Default)]
struct Told {
    done: Vec<Act>,
    in_flight: Option<Act>,
}

impl Told {
    fn begin(&mut self, act: Act) {
        self.in_flight = Some(act);
    }
    fn end(&mut self) {
        self.done.extend(self.in_flight.take());
    }
}

const STEPS: i64 = 12;

/// Series come, go and come back, and old partitions are dropped. One series has its only series file in a partition that
/// is dropped while it is in use.
fn work(store: &Store, told: &mut Told) -> foretell_engine::Result<()> {
    let engine = store.try_open()?;
    for step in 0..STEPS {
        store.clock.advance(HOUR);
        let hour = step / 2;
        let mut new: Vec<(u32, i64, f64)> = (0..3)
            .map(|k| ((hour + k) as u32 % 6, hour * HOUR + 10 * (step % 2) + k, (step * 10 + k) as f64))
            .collect();
        match step {
            6 => new.push((7, 5, 0.5)),
            8 | 10 => new.push((7, hour * HOUR + 5, 1.5)),
            _ => {}
        }
        told.begin(Act::Write(new.clone()));
        let mut batch = WriteBatch::default();
        for &(n, ts, value) in &new {
            batch.push(engine.resolve(&labels(&[("__name__", "m"), ("n", &n.to_string())]))?, ts, value);
        }
        engine.write(batch)?.wait()?;
        told.end();
        if step % 2 == 1 {
            engine.flush()?;
        }
        if step % 4 == 3 {
            told.begin(Act::Drop((hour - 1) * HOUR));
            engine.drop_before((hour - 1) * HOUR)?;
            told.end();
        }
        if step == 9 {
            engine.compact()?;
        }
    }
    engine.close()
}

/// Everything acknowledged is there and what was dropped is not; what was in flight is wholly one or the other.
fn check(store: &Store, told: &Told, what: &str) {
    let engine = store.try_open().unwrap_or_else(|error| panic!("{what}: {error}"));
    let snapshot = engine.snapshot();
    let of: BTreeMap<SeriesId, u32> = snapshot
        .select(&all())
        .unwrap()
        .iter()
        .map(|series| (series.id, series.labels.get("n").unwrap().parse().unwrap()))
        .collect();
    assert_eq!(of.values().collect::<BTreeSet<_>>().len(), of.len(), "{what}: no series has two ids");
    let found: BTreeMap<(u32, i64), u64> =
        rows(&snapshot).into_iter().map(|((id, ts), bits)| ((of[&id], ts), bits)).collect();
    let model = |acts: &mut dyn Iterator<Item = &Act>| {
        let mut model = BTreeMap::new();
        for act in acts {
            match act {
                Act::Write(rows) => model.extend(rows.iter().map(|&(n, ts, value)| ((n, ts), value.to_bits()))),
                Act::Drop(before) => model.retain(|&(_, ts): &(u32, i64), _| ts >= *before),
            }
        }
        model
    };
    let without = model(&mut told.done.iter());
    let with = model(&mut told.done.iter().chain(&told.in_flight));
    assert!(found == without || found == with, "{what}: {found:?} is neither {without:?} nor {with:?}");
    drop(snapshot);
    // The store goes on working, and can be emptied.
    write(&engine, &[(series(&engine, 99), 99 * HOUR, 1.0)]);
    engine.flush().unwrap();
    engine.compact().unwrap();
    assert_eq!(rows(&engine.snapshot()).len(), found.len() + 1, "{what}");
    engine.drop_before(99 * HOUR).unwrap();
    assert_eq!(rows(&engine.snapshot()).len(), 1, "{what}");
    engine.close().unwrap();
    drop(engine);
    let report = crate::verify::check(&store.fs);
    assert!(report.is_clean(), "{what}: {report:#?}");
    assert_eq!(rows(&store.open().snapshot()).len(), 1, "{what}");
}

fn calls_of_a_whole_run() -> u64 {
    let (store, mut told) = (Store::new(), Told::default());
    work(&store, &mut told).unwrap();
    assert_eq!(told.done.len() as i64, STEPS + STEPS / 4);
    store.fs.calls()
}

#[test]
fn a_power_cut_at_any_call_of_a_run_with_drops_loses_nothing_acknowledged() {
    let calls = calls_of_a_whole_run();
    side_by_side(0..calls, |die_at| {
        let (dead, mut told) = (Store::new(), Told::default());
        dead.fs.plan(FaultPlan::death(die_at, Survival::Nothing));
        let _died = work(&dead, &mut told);
        for survival in [Survival::Prefix(13), Survival::Reordered(die_at)] {
            check(&dead.cut(survival), &told, &format!("cut at call {die_at} of {calls}, {survival:?}"));
        }
        2
    });
}

#[test]
fn one_failed_call_of_a_run_with_drops_never_makes_a_wrong_answer() {
    let calls = calls_of_a_whole_run();
    side_by_side(0..calls, |fail_at| {
        let (store, mut told) = (Store::new(), Told::default());
        store.fs.plan(FaultPlan::fault(fail_at, Failure::Io));
        let _failed = work(&store, &mut told);
        check(&store, &told, &format!("call {fail_at} of {calls} failed"));
        1
    });
}
