//! The newest sample of each series, against all samples.
use foretell_engine::{SeriesId, Snapshot, TimeRange};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::{HOUR, Store, rows, scan, series, write};

/// As bits, so that NaN equals itself.
fn last(snapshot: &Snapshot, ids: &[SeriesId], range: TimeRange) -> Vec<Option<(i64, u64)>> {
    let found = snapshot.last_values(ids, range).unwrap();
    found.into_iter().map(|last| last.map(|(ts, value)| (ts, value.to_bits()))).collect()
}

fn brute_force(snapshot: &Snapshot, ids: &[SeriesId], range: TimeRange) -> Vec<Option<(i64, u64)>> {
    let all = scan(snapshot, ids, range).unwrap();
    let of = |id| all.range((id, i64::MIN)..=(id, i64::MAX)).next_back().map(|(&(_, ts), &bits)| (ts, bits));
    ids.iter().map(|&id| of(id)).collect()
}

#[test]
fn the_last_values_are_those_of_a_full_scan() {
    for seed in 0..30 {
        let mut rng = StdRng::seed_from_u64(seed);
        let store = Store::new();
        let engine = store.open();
        let mut ids: Vec<SeriesId> = (0..12).map(|n| series(&engine, n)).collect();
        ids.sort_unstable();
        for _ in 0..rng.random_range(0..40) {
            let new: Vec<_> = (0..rng.random_range(1..8))
                .map(|_| {
                    // One series is never written, one only long ago; values that compare oddly are kept to the bit.
                    let n = rng.random_range(1..12);
                    let latest = if n == 1 { 2 * HOUR } else { 1000 * HOUR };
                    let value = [f64::from_bits(0x7ff0_0000_0000_0002), -0.0, f64::INFINITY, rng.random()];
                    (ids[n], rng.random_range(-HOUR..latest) / 1000 * 1000, value[rng.random_range(0..4)])
                })
                .collect();
            write(&engine, &new);
            match rng.random_range(0..8) {
                0 => engine.flush().unwrap(),
                1 => drop(engine.compact().unwrap()),
                _ => {}
            }
        }
        let snapshot = engine.snapshot();
        let mut ranges = vec![TimeRange::ALL, TimeRange { start: 5, end: 4 }];
        for _ in 0..10 {
            let start = rng.random_range(-2 * HOUR..1100 * HOUR);
            ranges.push(TimeRange { start, end: start + rng.random_range(0..600 * HOUR) });
        }
        for range in ranges {
            assert_eq!(last(&snapshot, &ids, range), brute_force(&snapshot, &ids, range), "seed {seed}, {range:?}");
        }
    }
}

#[test]
fn the_last_values_are_those_of_the_snapshot() {
    let store = Store::new();
    let engine = store.open();
    let id = series(&engine, 1);
    assert_eq!(last(&engine.snapshot(), &[id], TimeRange::ALL), [None]);
    write(&engine, &[(id, 7, 1.0)]);
    let before = engine.snapshot();
    write(&engine, &[(id, 7, 2.0), (id, 8, 3.0)]);
    engine.flush().unwrap();
    assert_eq!(last(&before, &[id], TimeRange::ALL), [Some((7, 1f64.to_bits()))]);
    assert_eq!(last(&engine.snapshot(), &[id], TimeRange::ALL), [Some((8, 3f64.to_bits()))]);
    assert_eq!(rows(&engine.snapshot()).len(), 2);
}

#[test]
fn the_first_and_the_last_instant_count() {
    let store = Store::new();
    let engine = store.open();
    let (a, b) = (series(&engine, 3), series(&engine, 6));
    write(&engine, &[(a, i64::MIN, 1.0), (b, i64::MAX, 2.0)]);
    let expected = [Some((i64::MIN, 1f64.to_bits())), Some((i64::MAX, 2f64.to_bits()))];
    assert_eq!(last(&engine.snapshot(), &[a, b], TimeRange::ALL), expected);
}
