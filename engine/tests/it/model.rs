//! The engine against a `BTreeMap`.
use foretell_engine::{SeriesId, Snapshot, TimeRange, WriteBatch};
use proptest::prelude::*;

use crate::deletes::one_of;
use crate::records::{mirror, mirrored};
use crate::support::{HOUR, Rows, Store, batch, rows, scan, series};

#[derive(Clone, Debug)]
enum Op {
    /// (series, slot of time, value)
    Write(Vec<(u32, i64, u16)>),
    /// (series as bits, slots of time)
    Delete(u8, i64, i64),
    Flush,
    Compact,
    /// Close and open.
    Restart,
    /// Drop without closing, and open.
    Kill,
    Hold,
}

fn op() -> impl Strategy<Value = Op> {
    let row = (0u32..7, -20i64..60, any::<u16>());
    prop_oneof![
        8 => prop::collection::vec(row, 1..60).prop_map(Op::Write),
        3 => (any::<u8>(), -20i64..60, 0i64..40).prop_map(|(which, from, len)| Op::Delete(which, from, from + len)),
        3 => Just(Op::Flush),
        2 => Just(Op::Compact),
        1 => Just(Op::Restart),
        1 => Just(Op::Kill),
        2 => Just(Op::Hold),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_history_reads_as_the_newest_value_of_each_series_and_time(ops in prop::collection::vec(op(), 1..40)) {
        let mut store = Store::new();
        store.config.wal_segment_bytes = 2000;
        let mut engine = store.open();
        let mut model = Rows::new();
        let mut held: Vec<(Snapshot, Rows)> = Vec::new();
        let mut ids: Vec<SeriesId> = (0..7).map(|n| series(&engine, n)).collect();
        let slot = HOUR / 7;
        for op in &ops {
            match op {
                Op::Write(new) => {
                    let new: Vec<_> =
                        new.iter().map(|&(n, at, value)| (ids[n as usize], at * slot, f64::from(value))).collect();
                    model.extend(new.iter().map(|&(id, ts, value)| ((id, ts), value.to_bits())));
                    let records = vec![mirror(&new)];
                    engine.write(WriteBatch { records, ..batch(&new) }).unwrap().wait().unwrap();
                }
                Op::Delete(which, from, to) => {
                    let numbers: Vec<u32> = (0..7).filter(|n| which >> n & 1 == 1).collect();
                    let range = TimeRange { start: from * slot, end: to * slot };
                    engine.delete(&one_of(&numbers, range.start, range.end)).unwrap();
                    let deleted = |id: &SeriesId| numbers.iter().any(|&n| ids[n as usize] == *id);
                    model.retain(|(id, ts), _| !(deleted(id) && range.contains(*ts)));
                }
                Op::Flush => engine.flush().unwrap(),
                Op::Compact => drop(engine.compact().unwrap()),
                Op::Hold => held.push((engine.snapshot(), model.clone())),
                Op::Restart | Op::Kill => {
                    if matches!(op, Op::Restart) {
                        engine.close().unwrap();
                    }
                    let before = engine.snapshot().lsn();
                    drop(engine);
                    engine = store.open();
                    prop_assert_eq!(engine.snapshot().lsn(), before);
                    let again: Vec<_> = (0..7).map(|n| series(&engine, n)).collect();
                    for (old, new) in ids.iter().zip(&again) {
                        prop_assert!(old == new || model.keys().all(|(id, _)| id != old), "a used id never changes");
                    }
                    ids = again;
                }
            }
            let snapshot = engine.snapshot();
            prop_assert_eq!(&rows(&snapshot), &model, "after {:?}", op);
            prop_assert_eq!(&mirrored(&snapshot).unwrap(), &model, "records after {:?}", op);
            let range = TimeRange { start: -3 * slot, end: 11 * slot };
            let mut some: Vec<SeriesId> = ids.iter().copied().step_by(2).collect();
            some.sort_unstable();
            let expected: Rows = model.iter().filter(|((id, ts), _)| some.contains(id) && range.contains(*ts)).map(|(k, v)| (*k, *v)).collect();
            prop_assert_eq!(scan(&snapshot, &some, range).unwrap(), expected);
        }
        engine.flush().unwrap();
        engine.compact().unwrap();
        prop_assert_eq!(&rows(&engine.snapshot()), &model, "after the last merge");
        prop_assert_eq!(&mirrored(&engine.snapshot()).unwrap(), &model, "records after the last merge");
        prop_assert_eq!(engine.stats().tombstones, 0);
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        for (snapshot, expected) in &held {
            let expected: Rows = expected.iter().filter(|((id, _), _)| sorted.contains(id)).map(|(k, v)| (*k, *v)).collect();
            prop_assert_eq!(&scan(snapshot, &sorted, TimeRange::ALL).unwrap(), &expected);
        }
    }
}
